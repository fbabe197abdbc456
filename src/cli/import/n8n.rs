//! n8n: WebSocket server triggers become endpoints, WebSocket clients links.
//!
//! n8n has no WebSocket nodes of its own, so a node is known by what its type is called and by its parameters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::export::Surroundings;
use super::plan::{Block, BlockKind, DECIDE, Plan};
use super::values::{list, quoted, shown, slug};
use super::workflows::{ParameterText, Role, URL, Workflow, WorkflowNode};
use crate::path::Pattern;
use crate::url;

/// The name of the listener that n8n connects to.
pub(super) const CONSUMERS: &str = "n8n";

/// The bounds of what is measured in seconds.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// Translates workflows.
pub(super) fn plan<'j>(workflows: &[&'j Value], surroundings: Surroundings<'j>) -> Result<Plan, String> {
    let mut import = WorkflowImport {
        surroundings,
        plan: Plan::default(),
        ports: BTreeMap::new(),
        paths: BTreeSet::new(),
        has_consumers: false,
    };
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
    let read = workflows.iter().map(|workflow| import.workflow(workflow)).collect::<Result<Vec<_>, _>>()?;
    for translated in &read {
        import.connect(translated);
    }
    import.listeners();
    Ok(import.plan)
}

pub(super) struct WorkflowImport<'j> {
    surroundings: Surroundings<'j>,
    pub(super) plan: Plan,
    /// The ports of the servers, each with the paths that n8n has on it.
    ports: BTreeMap<u16, Vec<String>>,
    /// The paths of all endpoints.
    pub(super) paths: BTreeSet<String>,
    /// Whether n8n itself is to connect to an endpoint.
    pub(super) has_consumers: bool,
}

/// A workflow, and the blocks of its nodes that are translated.
pub(super) struct TranslatedWorkflow<'j> {
    pub(super) workflow: Workflow<'j>,
    pub(super) blocks: BTreeMap<usize, usize>,
}

impl<'j> WorkflowImport<'j> {
    fn workflow(&mut self, json: &'j Value) -> Result<TranslatedWorkflow<'j>, String> {
        let workflow = Workflow::read(json)?;
        let name = json["name"].as_str().filter(|_| json["nodes"].is_array());
        let of = name.map(|name| format!(" of the workflow {}", shown(name))).unwrap_or_default();
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
        Ok(TranslatedWorkflow { workflow, blocks })
    }

    /// A parameter that is a number; what is said if it is none.
    fn number(&self, node: &WorkflowNode<'_>, keys: &[&'static str], default: u64, remarks: &mut Vec<String>) -> u64 {
        let Some(text) = node.parameters.text(keys) else { return default };
        text.value(self.surroundings.environment).and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| {
            remarks.push(format!(
                "{DECIDE}{} is {} in n8n, which is not a number; {default} is the default.",
                keys[0],
                shown(&text.in_n8n)
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
        let path = self.path(node, default, &mut comments);
        self.note_path(node, of, port, &path)?;
        let mut block = Block::new(BlockKind::Endpoint, &path);
        block.comments = comments;
        block.set("listen", format!("[{}]", quoted(&listener(port))), &[]);
        if !standalone {
            let welcome = node.parameters.get(&["welcome", "welcomeMessage"]);
            match welcome {
                Some(Value::String(text)) if !text.is_empty() => {
                    self.set_text(&mut block, "welcome", "welcome", &ParameterText::new(text), quoted);
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

    /// The path of a server as it is in n8n, or one that says that it is to be decided.
    fn path(&self, node: &WorkflowNode<'_>, default: &str, comments: &mut Vec<String>) -> String {
        let text = node.parameters.text(&["path"]).unwrap_or_else(|| ParameterText::new(default));
        // An expression that begins with a variable may have the slash in it.
        let value = text.value(self.surroundings.environment);
        let path = value.map(|value| if value.starts_with('/') { value } else { format!("/{value}") });
        let is_good = |path: &String| {
            Pattern::parse(path).is_ok_and(|pattern| pattern.names().next().is_none()) && !path.contains("${")
        };
        path.filter(is_good).unwrap_or_else(|| {
            comments.push(format!(
                "{DECIDE}the path is {} in n8n, which wsgate cannot have or does not know: write the path, here and where \
                 it is a destination.",
                shown(&text.in_n8n)
            ));
            format!("/to-decide/{}", slug(node.name))
        })
    }

    /// Notes the path of a server; an error if n8n would not start it there.
    fn note_path(&mut self, node: &WorkflowNode<'_>, of: &str, port: u16, path: &String) -> Result<(), String> {
        let of_port = self.ports.entry(port).or_default();
        if of_port.contains(path) {
            return Err(format!(
                "{DECIDE}{}{of} is left out: another trigger also has the port {port} and the path {}, and n8n starts \
                 only one of them.",
                node.label(),
                shown(path)
            ));
        }
        of_port.push(path.clone());
        self.paths.insert(path.clone());
        Ok(())
    }

    fn heartbeat(&self, node: &WorkflowNode<'_>, block: &mut Block) {
        let mut remarks = Vec::new();
        let seconds = self.number(node, &["heartbeatInterval"], 30, &mut remarks);
        match node.parameters.get(&["enableHeartbeat", "heartbeatEnabled", "heartbeat"]) {
            Some(Value::Bool(false)) => return block.set("heartbeat", quoted("off"), &[]),
            Some(Value::String(text)) if text.starts_with('=') => remarks
                .push(format!("{DECIDE}whether there is a heartbeat is {} in n8n; \"off\" disables it.", shown(text))),
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
        match address.as_ref().and_then(|address| address.written.clone()) {
            Some(address) => block.set_url(Some(address), &[]),
            None => {
                let is = address.as_ref().map_or_else(|| "not set".to_owned(), |address| shown(&address.in_n8n));
                block.set_url(None, &[format!("{DECIDE}the URL is {is} in n8n: write it here.")]);
            }
        }
        let value = address.and_then(|address| address.value(self.surroundings.environment));
        let parsed = value.and_then(|address| url::parse(&address).ok());
        if let Some(names) = node.parameters.text(&["subprotocol", "subprotocols", "protocol", "protocols"]) {
            self.set_text(&mut block, "subprotocols", "subprotocol", &names, |names| {
                let mut offered: Vec<&str> = Vec::new();
                for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    if !offered.contains(&name) {
                        offered.push(name);
                    }
                }
                list(offered)
            });
        }
        self.headers(node, &mut block, parsed.is_some_and(|url| url.user.is_some()));
        if let Some(text) = node.parameters.text(&["initData", "initMessage"]) {
            self.set_text(&mut block, "open_messages", "initData", &text, |text| list([text]));
        }
        let mut remarks = Vec::new();
        let every = self.number(node, &["pingTimerSeconds", "pingInterval"], 60, &mut remarks);
        if let Some(text) = node.parameters.text(&["pingData", "pingMessage"])
            && self.set_text(&mut block, "ping_message", "pingData", &text, quoted)
        {
            block.set("ping_every", quoted(&format!("{every}s")), &remarks);
        }
        if let Some(attempts) = node.parameters.text(&["maxReConnectTimes"]) {
            block.comments.push(format!(
                "n8n tries to reconnect {} times; to limit the attempts here, set backoff.attempts.",
                shown(&attempts.in_n8n).trim_matches('"')
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

    /// Sets a key to a text of n8n, or says that only n8n knows it; whether the key is set.
    fn set_text(
        &self,
        block: &mut Block,
        key: &str,
        in_n8n: &str,
        text: &ParameterText,
        value: impl FnOnce(&str) -> String,
    ) -> bool {
        match &text.written {
            Some(written) => block.set(key, value(written), &[]),
            None => block.comments.push(format!(
                "{DECIDE}its {in_n8n} is {} in n8n, of which only a running workflow knows the value: write {key}, or do \
                 without it.",
                shown(&text.in_n8n)
            )),
        }
        text.written.is_some()
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
            let value = ParameterText::new(&value).written;
            let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            let beside_user = user_in_url && name.eq_ignore_ascii_case("authorization");
            match value.filter(|_| is_name && !beside_user && names.insert(name.to_ascii_lowercase())) {
                Some(value) => block.set(&format!("headers.{name}"), quoted(&value), &[]),
                None => block.comments.push(format!(
                    "{DECIDE}the header {} is left out: write it as headers.NAME = \"value\".",
                    shown(&name)
                )),
            }
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
        if self.has_consumers {
            let mut block = Block::new(BlockKind::Listen, CONSUMERS);
            block.comments.push(
                "n8n connects here to get what clients send, with their addresses. Only this machine can reach it."
                    .to_owned(),
            );
            block.set("address", quoted(&format!("127.0.0.1:{}", self.consumer_port())), &[]);
            self.plan.blocks.insert(self.ports.len(), block);
        }
    }

    /// A port that no trigger has, once all workflows are read.
    pub(super) fn consumer_port(&self) -> u16 {
        (8079..=u16::MAX).find(|port| !self.ports.contains_key(port)).unwrap_or(8079)
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
    fn b34_an_expression_that_only_n8n_knows_is_left_to_decide() {
        for (parameters, expected, decides) in [
            (json!({ "pingData": "=ping" }), "ping_message = \"ping\"", false),
            (json!({ "pingData": "={{ $json.ping }}" }), "", true),
            (json!({ "initData": "={{ $json.login }}" }), "", true),
            (json!({ "initData": "login ${x}" }), "open_messages = [\"login $${x}\"]", false),
            (json!({ "subprotocol": "={{ $json.protocol }}" }), "", true),
            (json!({ "headers": { "X-A": "={{ $json.key }}", "X-B": "=b" } }), "headers.X-B = \"b\"", true),
            (json!({ "url": "=ws://h.example/in" }), "url = \"ws://h.example/in\"", false),
            (json!({ "url": "={{ $json.url }}" }), "url = \"ws://to-decide.invalid/\"", true),
        ] {
            let mut all = json!({ "url": "ws://h.example/" });
            for (key, value) in parameters.as_object().unwrap() {
                all[key] = value.clone();
            }
            let text = import(&json!({ "nodes": [node("C", "x.webSocketClient", &all)], "connections": {} }));
            let settings = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<String>();
            assert!(settings(&text).contains(expected) && !settings(&text).contains("$json"), "{parameters}: {text}");
            assert_eq!(text.contains("TO DECIDE"), decides, "{parameters}: {text}");
        }
        for (path, expected) in
            [("=/ping", "/ping"), ("={{ $json.path }}", "/to-decide/in"), ("={{ 'x' }}", "/to-decide/in")]
        {
            let trigger = node("In", "CUSTOM.webSocketServer", &json!({ "path": path }));
            let text = import(&json!({ "nodes": [trigger], "connections": {} }));
            assert!(text.contains(&format!("\npath = \"{expected}\"\n")), "{path}: {text}");
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
