//! n8n: WebSocket server triggers become endpoints, WebSocket clients links.
//!
//! n8n has no WebSocket nodes of its own, so a node is known by what its type is called and by its parameters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::export::Surroundings;
use super::plan::{Block, BlockKind, DECIDE, Plan};
use super::values::{list, quoted, resolved, shown, slug, written};
use super::workflows::{Role, URL, Workflow, WorkflowNode, is_expression, plain};
use crate::path::Pattern;
use crate::url;

/// The bounds of what is measured in seconds.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// Translates workflows.
pub(super) fn plan(workflows: &[&Value], surroundings: Surroundings<'_>) -> Result<Plan, String> {
    let mut import =
        WorkflowImport { surroundings, plan: Plan::default(), ports: BTreeMap::new(), paths: BTreeSet::new() };
    import
        .plan
        .notes
        .push("Written by wsgate import from n8n workflows. The manual of all options is config/wsgate.toml.".into());
    import.plan.notes.push(
        "These differences from n8n are not repeated below: pages of other origins are refused (origins), a client \
         that does not answer a ping is disconnected after 10 s (pong_timeout), and binary messages are not changed. \
         wsgate runs no workflows: n8n can connect to wsgate as a client and process the messages."
            .into(),
    );
    for workflow in workflows {
        import.workflow(workflow)?;
    }
    import.listeners();
    Ok(import.plan)
}

struct WorkflowImport<'j> {
    surroundings: Surroundings<'j>,
    plan: Plan,
    /// The ports of the servers, each with the paths that n8n has on it.
    ports: BTreeMap<u16, Vec<String>>,
    paths: BTreeSet<String>,
}

impl WorkflowImport<'_> {
    fn workflow(&mut self, json: &Value) -> Result<(), String> {
        let workflow = Workflow::read(json)?;
        let of = json["name"].as_str().map(|name| format!(" of the workflow {}", shown(name))).unwrap_or_default();
        let mut blocks: BTreeMap<usize, usize> = BTreeMap::new();
        if json["active"] == false && workflow.nodes.iter().any(|node| matches!(node.role, Role::Server | Role::Client))
        {
            self.plan.notes.push(format!(
                "{DECIDE}the nodes{of} do not run in n8n, because the workflow is not active: \
                 remove them if they should not run here."
            ));
        }
        for (index, node) in workflow.nodes.iter().enumerate() {
            if node.json["disabled"] == true {
                if node.role != Role::Other {
                    self.plan.notes.push(format!("Left out: {}{of}, which is disabled.", node.label()));
                }
                continue;
            }
            let block = match node.role {
                Role::Server => match self.server(node, &of) {
                    Ok(block) => block,
                    Err(note) => {
                        self.plan.notes.push(note);
                        continue;
                    }
                },
                Role::Client => self.client(node, &of),
                Role::Unknown => {
                    self.plan.notes.push(format!(
                        "{DECIDE}{}{of} is not known to wsgate and is left out: write \
                         an [[endpoint]] if clients connect to it, a [[link]] if it connects to a server.",
                        node.label()
                    ));
                    continue;
                }
                Role::Response | Role::Other => continue,
            };
            blocks.insert(index, self.plan.blocks.len());
            self.plan.blocks.push(block);
        }
        for (node, block) in &blocks {
            self.connect(&workflow, &blocks, *node, *block);
        }
        Ok(())
    }

    /// A parameter that is a number; what is said if it is none.
    fn number(&self, node: &WorkflowNode<'_>, keys: &[&'static str], default: u64, remarks: &mut Vec<String>) -> u64 {
        let Some(text) = node.parameters.text(keys) else { return default };
        let value = resolved(&text, self.surroundings.environment).ok().filter(|value| !is_expression(value));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| {
            remarks.push(format!(
                "{DECIDE}{} is {} in n8n, which is not a number; {default} is the default.",
                keys[0],
                shown(&text)
            ));
            default
        })
    }

    fn server(&mut self, node: &WorkflowNode<'_>, of: &str) -> Result<Block, String> {
        let standalone = node.is_standalone();
        let mut comments = vec![format!("{}{of}.", node.label())];
        let port = self.number(node, &["port"], if standalone { 5680 } else { 8080 }, &mut comments);
        let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) else {
            return Err(format!("{DECIDE}{}{of} is left out: its port {port} is not from 1 to 65535.", node.label()));
        };
        let default = if standalone { "/ws" } else { "/" };
        let text = node.parameters.text(&["path"]).unwrap_or_else(|| default.to_owned());
        let path = if text.starts_with('/') { text } else { format!("/{text}") };
        let good = Pattern::parse(&path).is_ok_and(|pattern| pattern.names().next().is_none()) && !path.contains("${");
        let path = if good {
            path
        } else {
            comments.push(format!(
                "{DECIDE}the path is {} in n8n, which wsgate cannot have: write the path.",
                shown(&path)
            ));
            format!("/to-decide/{}", slug(node.name))
        };
        let path = self.own_path(node, of, port, path, &mut comments)?;
        let mut block = Block::new(BlockKind::Endpoint, &path);
        block.comments = comments;
        block.set("listen", format!("[{}]", quoted(&listener(port))), &[]);
        match standalone {
            true => block.set(
                "format",
                quoted("message"),
                &["This n8n package adds clientId, serverId and more to the message. The format \"message\" is the closest: \
                   it has the client as _session."
                    .to_owned()],
            ),
            false => block.set("format", quoted("n8n"), &[]),
        }
        if !standalone {
            let welcome = node.parameters.get(&["welcome", "welcomeMessage"]);
            match welcome {
                Some(Value::String(text)) if !text.is_empty() => {
                    block.set("welcome", quoted(&written(&plain(text))), &[]);
                }
                Some(Value::Bool(false)) => block.set("welcome", "false", &[]),
                _ => block.set("welcome", "true", &[]),
            }
        }
        let mut remarks = Vec::new();
        let default = if standalone { 10_000 } else { 100 };
        let most = self.number(node, &["maxConnections"], default, &mut remarks);
        block.set("max_connections", most.to_string(), &remarks);
        let mut remarks = Vec::new();
        let bytes = self.number(node, &["maxMessage", "maxPayload", "maxMessageSize"], 1 << 20, &mut remarks);
        let size = if bytes == 1 << 20 { quoted("1MiB") } else { bytes.to_string() };
        block.set("max_message", size, &remarks);
        self.heartbeat(node, &mut block);
        self.rest(node, &mut block);
        Ok(block)
    }

    /// The path of a server among those that are there; an error if n8n would not start it there.
    fn own_path(
        &mut self,
        node: &WorkflowNode<'_>,
        of: &str,
        port: u16,
        path: String,
        comments: &mut Vec<String>,
    ) -> Result<String, String> {
        let of_port = self.ports.entry(port).or_default();
        if of_port.contains(&path) {
            return Err(format!(
                "{DECIDE}{}{of} is left out: another trigger also has the port {port} and the path {}, and n8n starts \
                 only one of them.",
                node.label(),
                shown(&path)
            ));
        }
        of_port.push(path.clone());
        if !self.paths.insert(path.clone()) {
            let wanted = format!("/{}", listener(port));
            let mut others = std::iter::once(wanted.clone()).chain((2..).map(|number| format!("{wanted}-{number}")));
            let free = others.find(|path| self.paths.insert(path.clone())).expect("there are more numbers than paths");
            comments.push(format!(
                "{DECIDE}its path is {} in n8n, on another port. In wsgate only one endpoint can have a path, on any port: let its \
                 clients connect to {free}, or run a second wsgate with a configuration for this port.",
                shown(&path)
            ));
            return Ok(free);
        }
        Ok(path)
    }

    fn heartbeat(&self, node: &WorkflowNode<'_>, block: &mut Block) {
        let mut remarks = Vec::new();
        let seconds = self.number(node, &["heartbeatInterval"], 30, &mut remarks);
        match node.parameters.get(&["enableHeartbeat", "heartbeatEnabled", "heartbeat"]) {
            Some(Value::Bool(false)) => return block.set("heartbeat", quoted("off"), &[]),
            Some(Value::Number(number)) => return block.set("heartbeat", quoted(&format!("{number}s")), &remarks),
            _ => {}
        }
        if !(1..=SECONDS_MAX).contains(&seconds) {
            remarks.push(format!(
                "{DECIDE}the interval is {seconds} s in n8n; wsgate allows 1 s to 24 h; 30 s is the default."
            ));
        }
        let seconds = if (1..=SECONDS_MAX).contains(&seconds) { seconds } else { 30 };
        block.set("heartbeat", quoted(&format!("{seconds}s")), &remarks);
    }

    fn client(&mut self, node: &WorkflowNode<'_>, of: &str) -> Block {
        let name = self.plan.link_name(&slug(node.name));
        let mut block = Block::new(BlockKind::Link, &name);
        block.comments.push(format!("{}{of}.", node.label()));
        if self.plan.count(BlockKind::Link) == 0 {
            self.plan.notes.push(
                "A link stays connected. If it fails, it connects again without end, after a random wait of at most \
                 500 ms, which doubles up to 60 s (backoff). n8n's client nodes connect for each run, or give up \
                 after some attempts."
                    .into(),
            );
        }
        let address = node.parameters.text(URL);
        match address {
            Some(address) if !is_expression(&address) => block.set_url(Some(written(&address)), &[]),
            address => {
                let is = address.map_or_else(|| "not set".to_owned(), |address| shown(&address));
                block.set_url(None, &[format!("{DECIDE}the URL is {is} in n8n: write it here.")]);
            }
        }
        let address = node.parameters.text(URL).unwrap_or_default();
        let parsed =
            resolved(&address, self.surroundings.environment).ok().and_then(|address| url::parse(&address).ok());
        let subprotocols = node.parameters.text(&["subprotocol", "subprotocols", "protocol", "protocols"]);
        if let Some(names) = subprotocols {
            let mut offered: Vec<String> = Vec::new();
            for name in names.split(',').map(|name| written(name.trim())).filter(|name| !name.is_empty()) {
                if !offered.contains(&name) {
                    offered.push(name);
                }
            }
            block.set("subprotocols", list(offered.iter().map(|name| &**name)), &[]);
        }
        self.headers(node, &mut block, parsed.is_some_and(|url| url.user.is_some()));
        if let Some(text) = node.parameters.text(&["initData", "initMessage"]) {
            block.set("open_messages", format!("[{}]", quoted(&written(&text))), &[]);
        }
        let mut remarks = Vec::new();
        let every = self.number(node, &["pingTimerSeconds", "pingInterval"], 60, &mut remarks);
        if let Some(text) = node.parameters.text(&["pingData", "pingMessage"]) {
            block.set("ping_message", quoted(&written(&text)), &[]);
            block.set("ping_every", quoted(&format!("{every}s")), &remarks);
        }
        if let Some(attempts) = node.parameters.text(&["maxReConnectTimes"]) {
            block.comments.push(format!(
                "n8n tries to reconnect {} times; to limit the attempts here, set backoff.attempts.",
                shown(&attempts).trim_matches('"')
            ));
        }
        let insecure = ["allowUnauthorizedCerts", "ignoreSsl", "ignoreSSLIssues"];
        if node.parameters.get(&insecure) == Some(&Value::Bool(true)) {
            block.set("tls.verify", "false", &[]);
        }
        node.parameters.get(&["operation", "jsonParse", "returnDataType"]);
        self.rest(node, &mut block);
        block
    }

    fn headers(&self, node: &WorkflowNode<'_>, block: &mut Block, user_in_url: bool) {
        let headers = node.parameters.get(&["headers", "headerParameters", "headersUi"]);
        let own;
        let headers = match headers {
            Some(Value::String(text)) => {
                own = serde_json::from_str(text).unwrap_or(Value::Null);
                if own.is_null() && !text.trim().is_empty() {
                    block.comments.push(format!(
                        "{DECIDE}its headers are not JSON in n8n: write them as headers.NAME = \"value\"."
                    ));
                }
                &own
            }
            Some(value) => value,
            None => return,
        };
        let listed = ["parameters", "parameter", "values"].iter().find_map(|key| headers[key].as_array());
        let pairs: Vec<(String, String)> = match (headers.as_array().or(listed), headers.as_object()) {
            (Some(entries), _) => entries
                .iter()
                .filter_map(|entry| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned())))
                .collect(),
            (None, Some(object)) => {
                object.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
            }
            _ => Vec::new(),
        };
        let mut names = BTreeSet::new();
        for (name, value) in pairs.into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty()) {
            let value = plain(&value);
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            let beside_user = user_in_url && name.eq_ignore_ascii_case("authorization");
            if !is_name || !names.insert(name.to_ascii_lowercase()) || is_expression(&value) || beside_user {
                block.comments.push(format!(
                    "{DECIDE}the header {} is left out: write it as headers.NAME = \"value\".",
                    shown(&name)
                ));
                continue;
            }
            block.set(&format!("headers.{name}"), quoted(&written(&value)), &[]);
        }
    }

    /// What of a node has no counterpart.
    fn rest(&self, node: &WorkflowNode<'_>, block: &mut Block) {
        for name in node.json["credentials"].as_object().into_iter().flat_map(Map::keys) {
            block.comments.push(format!(
                "{DECIDE}its credential {} is not in the export. A link sends a credential with headers.Authorization = \
                 \"Bearer ${{NAME}}\"; an endpoint does not check credentials.",
                shown(name)
            ));
        }
        let rest: Vec<String> = node.parameters.not_used().into_iter().map(shown).collect();
        if !rest.is_empty() {
            block.comments.push(format!("{DECIDE}these parameters have no counterpart: {}.", rest.join(", ")));
        }
    }

    /// Where what arrives at a node goes.
    fn connect(&mut self, workflow: &Workflow<'_>, blocks: &BTreeMap<usize, usize>, node: usize, block: usize) {
        let is_server = workflow.nodes[node].role == Role::Server;
        // A response goes to the clients of a server; which, only the running workflow knows if there are several.
        let servers: Vec<usize> =
            blocks.keys().copied().filter(|node| workflow.nodes[*node].role == Role::Server).collect();
        for next in workflow.next(node) {
            let target = &workflow.nodes[next];
            let (destination, remark) = match target.role {
                Role::Response if is_server => {
                    let to_all = target.parameters.values.values().any(|value| **value == "broadcast");
                    (Some(if to_all { "broadcast" } else { "reply" }.to_owned()), None)
                }
                Role::Response => match servers[..] {
                    [server] => (Some(format!("endpoint:{}", self.plan.blocks[blocks[&server]].name)), None),
                    _ => (
                        None,
                        Some(format!(
                            "{DECIDE}messages also go to {}: write \"endpoint:/path\" for the clients that should get them.",
                            target.label()
                        )),
                    ),
                },
                Role::Client if next == node => (Some("reply".to_owned()), None),
                Role::Client => (Some(format!("link:{}", self.plan.blocks[blocks[&next]].name)), None),
                Role::Server | Role::Unknown | Role::Other => (
                    None,
                    Some(format!(
                        "{DECIDE}messages also go to {}, but wsgate runs no workflows: let n8n connect to wsgate as a \
                         client (as Node-RED does in docs/examples.md#questions-and-answers-with-a-node-red-flow), or add the destinations that \
                         should get them to the list below.",
                        target.label()
                    )),
                ),
            };
            match destination {
                Some(destination) => self.plan.blocks[block].send_to(destination, remark),
                None => self.plan.blocks[block].remark_on_to(remark),
            }
        }
        let block = &mut self.plan.blocks[block];
        if block.goes_nowhere() && is_server && !workflow.nodes[node].is_standalone() {
            let remark = format!(
                "{DECIDE}n8n's description says that messages are broadcast to all clients, but its code gives them \
                 only to the workflow: write [] if other clients must not see them."
            );
            block.send_to("broadcast".to_owned(), Some(remark));
        } else if block.goes_nowhere() {
            block.remark_on_to(Some(
                "No other WebSocket node gets these messages directly, so wsgate reads and discards them.".into(),
            ));
        }
    }

    /// A listener for each port.
    fn listeners(&mut self) {
        for (at, port) in self.ports.keys().enumerate() {
            let mut block = Block::new(BlockKind::Listen, &listener(*port));
            if at == 0 {
                block.comments.push(
                    "n8n's triggers listen on these ports, and two programs cannot use them at the same time: stop the \
                     workflows, or choose other ports. Any machine that can reach these addresses may connect; \
                     \"127.0.0.1\" allows this machine only."
                        .into(),
                );
            }
            block.set("address", quoted(&format!("0.0.0.0:{port}")), &[]);
            self.plan.blocks.insert(at, block);
        }
    }
}

/// The name of the listener on a port.
fn listener(port: u16) -> String {
    format!("n8n-{port}")
}

#[cfg(test)]
mod tests {
    use std::env::VarError;
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn none(_: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    fn import(workflow: &Value) -> String {
        let surroundings = Surroundings { root: "/", port: 1880, environment: &none };
        let translated = super::super::translate_in(workflow.to_string().as_bytes(), surroundings, Path::new(""));
        translated.unwrap_or_else(|problem| panic!("{problem}: {workflow}")).text
    }

    fn node(name: &str, kind: &str, parameters: &Value) -> Value {
        json!({ "name": name, "type": kind, "parameters": parameters })
    }

    #[test]
    fn each_parameter_of_a_trigger_has_its_place() {
        for (parameters, lines) in [
            (json!({}), vec!["path = \"/\"", "welcome = true", "heartbeat = \"30s\"", "max_connections = 100"]),
            (json!({ "port": 9000 }), vec!["address = \"0.0.0.0:9000\"", "listen = [\"n8n-9000\"]"]),
            (json!({ "path": "in" }), vec!["path = \"/in\""]),
            (json!({ "maxConnections": "7", "maxMessage": 2048 }), vec!["max_connections = 7", "max_message = 2048"]),
            (json!({ "enableHeartbeat": false, "heartbeatInterval": 5 }), vec!["heartbeat = \"off\""]),
            (json!({ "enableHeartbeat": true, "heartbeatInterval": 5 }), vec!["heartbeat = \"5s\""]),
            (json!({ "heartbeat": 12 }), vec!["heartbeat = \"12s\""]),
            (json!({ "options": { "welcome": "hello" } }), vec!["welcome = \"hello\""]),
            (json!({ "welcome": false }), vec!["welcome = false"]),
            (json!({ "path": "/{id}" }), vec!["path = \"/to-decide/in\""]),
            (json!({ "maxConnections": 20000 }), vec!["# max_connections = 20000"]),
        ] {
            let text =
                import(&json!({ "nodes": [node("In", "CUSTOM.webSocketServer", &parameters)], "connections": {} }));
            for line in lines {
                assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
            }
        }
    }

    #[test]
    fn connections_become_destinations() {
        let server = |name: &str, path: &str| node(name, "x.webSocketServer", &json!({ "path": path }));
        let client = |name: &str| node(name, "x.webSocketClient", &json!({ "url": "ws://h.example/" }));
        let response = |parameters: &Value| node("R", "x.webSocketResponse", parameters);
        for (nodes, from, to, line) in [
            (vec![server("A", "/a"), client("C")], "A", "C", "to = [\"link:c\"]"),
            (vec![client("C"), client("D")], "C", "D", "to = [\"link:d\"]"),
            (vec![client("C")], "C", "C", "to = [\"reply\"]"),
            (vec![server("A", "/a"), response(&json!({}))], "A", "R", "to = [\"reply\"]"),
            (
                vec![server("A", "/a"), response(&json!({ "clientIdSource": "broadcast" }))],
                "A",
                "R",
                "to = [\"broadcast\"]",
            ),
            (vec![server("A", "/a"), client("C"), response(&json!({}))], "C", "R", "to = [\"endpoint:/a\"]"),
        ] {
            let connections = json!({ from: { "main": [[{ "node": to, "type": "main", "index": 0 }]] } });
            let text = import(&json!({ "nodes": nodes, "connections": connections }));
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            "\\PC{0,12}".prop_map(Value::from),
            "[-/a{}$%#.:=\\n\"\\\\ ]{0,8}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::from("wss://u:p@h.example/x")),
            Just(json!({ "parameters": [{ "name": "A", "value": "b" }, { "name": "Upgrade", "value": "${x" }] })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_the_parameters_are_check_accepts_the_output(
            a in prop::collection::btree_map(
                prop::sample::select(vec![
                    "port", "path", "maxConnections", "maxMessage", "heartbeatInterval", "heartbeat", "welcome",
                ]), value(), 0..5),
            b in prop::collection::btree_map(
                prop::sample::select(vec![
                    "url", "headers", "subprotocol", "initData", "pingData", "pingTimerSeconds", "ignoreSsl",
                ]), value(), 0..7),
            name in "\\PC{0,9}",
        ) {
            let nodes = json!([
                node("A", "x.webSocketServer", &json!(a)),
                node(&name, "x.webSocketClient", &json!(b)),
            ]);
            import(&json!({ "nodes": nodes, "connections": { "A": { "main": [[{ "node": name }]] } } }));
        }
    }
}
