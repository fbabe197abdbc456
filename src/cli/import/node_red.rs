//! Node-RED: its listeners become endpoints, its clients links, and the wires between their nodes destinations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::export::Surroundings;
use super::flow_node::FlowNode;
use super::flows::{Flows, WireEnd};
use super::node_red_options::NodeOptions;
use super::plan::{Block, BlockKind, DECIDE, Plan};
use super::values::{foreign_variable, quoted, resolved, shown, slug, written};
use crate::config::substitute;
use crate::path::{Pattern, percent_decoded};
use crate::url::{self, Protocol};

/// The name of the listener that stands in Node-RED's place.
const LISTENER: &str = "node-red";

/// Translates the nodes of an export.
pub(super) fn plan(nodes: &[Value], surroundings: Surroundings<'_>) -> Result<Plan, String> {
    let mut import =
        FlowImport { flows: Flows::read(nodes)?, surroundings, plan: Plan::default(), blocks: BTreeMap::new() };
    import.notes();
    import.configs();
    import.wires();
    import.sources();
    import.listener();
    Ok(import.plan)
}

struct FlowImport<'j> {
    flows: Flows<'j>,
    surroundings: Surroundings<'j>,
    plan: Plan,
    /// The blocks of the listeners and clients that are translated, by the index of the node.
    blocks: BTreeMap<usize, usize>,
}

/// The path of a listener or the URL of a client.
struct Address {
    /// Variables of the environment are still variables in it.
    text: String,
    /// With all variables in place, or what it is in Node-RED and why there is none.
    value: Result<String, String>,
    /// Whether only Node-RED has the value.
    is_undecided: bool,
}

impl Address {
    fn of(node: &FlowNode<'_>, options: &NodeOptions<'_>) -> Address {
        let text = node.text("path");
        match options.value(node, &text) {
            Ok(text) => {
                let value = resolved(&text, options.environment)
                    .map_err(|name| format!("{} in Node-RED, and {name} was not set during the import", shown(&text)));
                Address { text, value, is_undecided: false }
            }
            Err(undecided) => Address { text, value: Err(undecided.to_string()), is_undecided: true },
        }
    }

    /// Says whom a link dials.
    fn set_url(&self, block: &mut Block) {
        match (foreign_variable(&self.text), &self.value) {
            (_, Err(problem)) if self.is_undecided => {
                block.set_url(None, &[format!("{DECIDE}the URL is {problem}: write the URL.")]);
            }
            (Some(name), _) => block.set_url(
                None,
                &[format!(
                    "{DECIDE}the URL is the variable {} in Node-RED, and wsgate takes only letters, digits and \"_\" in the name \
                     of a variable: write the URL, or a variable of another name.",
                    shown(name)
                )],
            ),
            (None, Ok(value)) if !is_url(value) => {
                let remark = "Node-RED itself listens for a client whose address does not begin with ws:// or wss://. \
                              wsgate does not.";
                if url::parse_as(Protocol::Http, value).is_ok() {
                    // A link with this URL would post to it.
                    let decide = format!("{DECIDE}the URL is not that of a WebSocket server: write one.");
                    return block.set_url(None, &[remark.to_owned(), decide]);
                }
                block.set_url(Some(written(&self.text)), &[remark.to_owned()]);
            }
            _ => block.set_url(Some(written(&self.text)), &[]),
        }
    }
}

impl FlowImport<'_> {
    fn options(&self) -> NodeOptions<'_> {
        NodeOptions { flows: &self.flows, environment: self.surroundings.environment }
    }

    fn notes(&mut self) {
        let notes = &mut self.plan.notes;
        notes.push(
            "Written by wsgate import from Node-RED flows. The manual of all options is config/wsgate.toml.".into(),
        );
        notes.push(
            "These differences from Node-RED are not repeated below: a message over 1 MiB ends its connection (max_message; \
             Node-RED: 100 MiB), dead connections are closed (heartbeat), pages of other origins are refused (origins), \
             only the subprotocols in the configuration are accepted (subprotocols; Node-RED accepts the first that a \
             client offers), empty texts are sent on (Node-RED drops them), and clients get a Close when wsgate stops. \
             Authentication (webSocketNodeVerifyClient) and TLS of listeners are in Node-RED's settings.js, not in its \
             flows, so they are not imported."
                .into(),
        );
        let nodes = &self.flows.nodes;
        let is_used =
            |id: &str| nodes.iter().any(|node| node.unfolded && node.kind.strip_prefix("subflow:") == Some(id));
        for flow in nodes {
            let why = match flow.kind {
                "tab" if flow.json["disabled"] == true => "is disabled",
                "subflow" if !is_used(flow.id) => "no enabled flow uses",
                _ => continue,
            };
            if nodes.iter().any(|node| node.is_websocket() && node.json["z"].as_str() == Some(flow.id)) {
                notes.push(format!("Left out with its WebSocket nodes: {}, which {why}.", flow.label()));
            }
        }
        for node in nodes.iter().filter(|node| node.is_websocket() && node.json["d"] == true) {
            notes.push(format!("Left out: {}, which is disabled.", node.label()));
        }
    }

    /// Adds a paragraph at the top; the nodes of a subflow come once for each use of it.
    fn note(&mut self, note: String) {
        if !self.plan.notes.contains(&note) {
            self.plan.notes.push(note);
        }
    }

    /// Listeners and clients.
    fn configs(&mut self) {
        let mut paths: BTreeMap<String, usize> = BTreeMap::new();
        for index in 0..self.flows.nodes.len() {
            let node = &self.flows.nodes[index];
            if !node.live || !matches!(node.kind, "websocket-listener" | "websocket-client") {
                continue;
            }
            // It is the text that decides which of the two a node is, not its type.
            let address = Address::of(node, &self.options());
            // Node-RED listens for a client whose address is no URL, which nobody has asked for.
            let dials = node.kind == "websocket-client" || address.value.as_ref().is_ok_and(|value| is_url(value));
            if dials {
                self.link(index, &address);
            } else if let Err(note) = self.endpoint(index, &address, &mut paths) {
                self.plan.notes.push(note);
            }
        }
    }

    fn endpoint(&mut self, index: usize, address: &Address, paths: &mut BTreeMap<String, usize>) -> Result<(), String> {
        let node = &self.flows.nodes[index];
        let mut comments = vec![format!("{}.", node.label())];
        let (path, wanted) = self.path(address, &mut comments);
        let problem = match Pattern::parse(&wanted) {
            Ok(pattern) if pattern.names().next().is_none() => None,
            Ok(_) => Some("braces mark a parameter in wsgate".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            return Err(format!(
                "{DECIDE}{} is left out, because wsgate cannot have its path {}: {problem}.",
                node.label(),
                shown(&wanted)
            ));
        }
        if let Some(first) = paths.insert(wanted.clone(), index) {
            paths.insert(wanted.clone(), first);
            return Err(format!(
                "{DECIDE}{} is left out, because its path {} is also the path of {}. Node-RED serves only the first of \
                 the two: remove the other in Node-RED, or give it a path of its own.",
                node.label(),
                shown(&wanted),
                self.flows.nodes[first].label()
            ));
        }
        let mut block = Block::new(BlockKind::Endpoint, &path);
        block.comments = comments;
        self.options().format(node, &mut block);
        block.set(
            "max_connections",
            "10000",
            &["Node-RED has no limit; this is the limit of the whole gateway.".to_owned()],
        );
        self.blocks.insert(index, self.plan.blocks.len());
        self.plan.blocks.push(block);
        Ok(())
    }

    /// The path of an endpoint as it is written here, and with its variables in place.
    fn path(&self, address: &Address, comments: &mut Vec<String>) -> (String, String) {
        let root = format!("/{}", self.surroundings.root.trim_matches('/'));
        let root = if root == "/" { "" } else { &root };
        let under_root = |path: &str| format!("{root}/{}", path.strip_prefix('/').unwrap_or(path));
        let wanted = match &address.value {
            Ok(value) => under_root(value),
            Err(problem) => {
                comments.push(format!(
                    "{DECIDE}the path is {problem}: write the path, here and where it is a destination."
                ));
                let path = under_root(&format!("to-decide/{}", slug(&address.text)));
                return (path.clone(), path);
            }
        };
        let address = &*address.text;
        if address.is_empty() {
            comments.push(format!("{DECIDE}its path is empty in Node-RED, which then listens on {}.", shown(&wanted)));
        }
        let decoded = percent_decoded(&wanted).and_then(|path| String::from_utf8(path.into_owned()).ok());
        if let Some(decoded) = decoded.filter(|decoded| *decoded != wanted) {
            // Here a path is plain text, in Node-RED it is as it stands in the request.
            return (written(&decoded), decoded);
        }
        // The value of a variable may begin with the slash, or the text in front of it may end with it.
        let root = written(root);
        let is_wanted =
            |path: &String| substitute(path, self.surroundings.environment).is_ok_and(|value| value == wanted);
        let with_slash = format!("{root}/{}", written(address.strip_prefix('/').unwrap_or(address)));
        let path = [with_slash, root + &written(address)].into_iter().find(is_wanted);
        let path = path.unwrap_or_else(|| {
            comments.push(format!("The path is the value of {} during the import.", shown(address)));
            written(&wanted)
        });
        (path, wanted)
    }

    fn link(&mut self, index: usize, address: &Address) {
        let node = &self.flows.nodes[index];
        let uses = |other: &FlowNode<'_>| {
            other.live && matches!(other.kind, "websocket in" | "websocket out") && other.config() == node.id
        };
        if !self.flows.nodes.iter().any(uses) {
            self.plan.notes.push(format!("Left out: {}, which no enabled node uses.", node.label()));
            return;
        }
        if self.plan.count(BlockKind::Link) == 0 {
            self.plan.notes.push(
                "Node-RED connects again every 3 s, without end. A link also connects again without end, after a random \
                 wait of at most 500 ms, which doubles up to 60 s (backoff). Messages for a link that is down wait \
                 (queue); Node-RED drops them."
                    .into(),
            );
        }
        let parsed = address.value.as_ref().ok().and_then(|value| url::parse(value).ok());
        // As it is written: a name stands in every log line, and the value of a variable may be a secret.
        let behind_scheme = url::without_user(&address.text);
        let behind_scheme = behind_scheme.split_once("://").map_or(&*behind_scheme, |(_, rest)| rest);
        let wanted = slug(behind_scheme.split(['?', '#']).next().unwrap_or_default());
        let name = self.plan.link_name(&wanted);
        let mut block = Block::new(BlockKind::Link, &name);
        block.comments.push(format!("{}.", node.label()));
        address.set_url(&mut block);
        let options = self.options();
        options.format(node, &mut block);
        options.heartbeat(node, &mut block);
        options.subprotocols(node, &mut block);
        options.headers(node, &mut block, parsed.as_ref().is_some_and(|url| url.user.is_some()));
        if let Some(tls) = self.flows.node(&node.text("tls")) {
            match &parsed {
                Some(url) if !url.secure => {
                    let unused = format!("{} has no meaning for a ws:// URL.", self.flows.nodes[tls].label());
                    block.comments.push(unused);
                }
                _ => options.tls(&self.flows.nodes[tls], &mut block),
            }
        }
        self.blocks.insert(index, self.plan.blocks.len());
        self.plan.blocks.push(block);
    }

    /// What is wired to each `websocket in`.
    fn wires(&mut self) {
        for index in 0..self.flows.nodes.len() {
            let node = &self.flows.nodes[index];
            if !node.live || !matches!(node.kind, "websocket in" | "websocket out") {
                continue;
            }
            let Some(own) = self.flows.node(node.config()).filter(|config| self.blocks.contains_key(config)) else {
                self.note(format!("Left out: {}, whose listener or client is missing or left out.", node.label()));
                continue;
            };
            if node.kind == "websocket out" {
                continue;
            }
            for end in self.flows.wire_ends(index) {
                let (destination, remark) = match end {
                    WireEnd::Out { node, keeps_session } => self.destination(own, node, keeps_session),
                    WireEnd::Other { node } => (None, Some(self.other(own, node))),
                };
                let block = &mut self.plan.blocks[self.blocks[&own]];
                match destination {
                    Some(destination) => block.send_to(destination, remark),
                    None => block.remark_on_to(remark),
                }
            }
        }
        for block in self.plan.blocks.iter_mut().filter(|block| block.goes_nowhere()) {
            let who = if block.kind == BlockKind::Link { "the remote sends" } else { "clients send" };
            block.remark_on_to(Some(format!(
                "No \"websocket out\" node gets what {who} directly, so wsgate reads and discards it."
            )));
        }
    }

    /// Where a message of `own` goes that reaches this `websocket out`, and what is to be said about it.
    fn destination(&self, own: usize, out: usize, keeps_session: bool) -> (Option<String>, Option<String>) {
        let out = &self.flows.nodes[out];
        let target = self.flows.node(out.config()).and_then(|target| Some((target, *self.blocks.get(&target)?)));
        let Some((target, block)) = target else { return (None, None) };
        let (block, from_link) =
            (&self.plan.blocks[block], self.plan.blocks[self.blocks[&own]].kind == BlockKind::Link);
        let destination = match block.kind {
            _ if target == own && (from_link || keeps_session) => "reply".to_owned(),
            _ if target == own => "broadcast".to_owned(),
            BlockKind::Link => format!("link:{}", block.name),
            _ => format!("endpoint:{}", block.name),
        };
        // Node-RED knows sessions of clients of the same listener only.
        let drops = keeps_session && (from_link || target != own);
        let remark = drops.then(|| {
            format!(
                "{DECIDE}in Node-RED, {} gets nothing from here, because messages keep the _session of another \
                 connection. The wire probably means \"{}\"; remove it if nothing should arrive there.",
                out.label(),
                shown(&destination).trim_matches('"')
            )
        });
        (Some(destination), remark)
    }

    /// What is to be said about a node that does something with messages.
    fn other(&self, own: usize, node: usize) -> String {
        let label = self.flows.nodes[node].label();
        if self.flows.nodes[node].kind == "debug" {
            return format!(
                "{label} shows the messages in Node-RED; in wsgate, 'wsgate listen URL' shows what a client gets."
            );
        }
        let mut behind: Vec<String> = Vec::new();
        for out in self.flows.outs_behind(node) {
            if let (Some(destination), _) = self.destination(own, out, true)
                && !behind.contains(&destination)
            {
                behind.push(destination);
            }
        }
        let keep = "let Node-RED connect to wsgate as a client and do this (docs/examples.md#questions-and-answers-with-a-node-red-flow)";
        match behind.is_empty() {
            true => format!("{DECIDE}messages also go to {label}, but wsgate runs no flows: {keep}, or do without it."),
            false => format!(
                "{DECIDE}messages also go through {label} to {}, but wsgate runs no flows: {keep}, or add the \
                 destinations that should get the messages unchanged to the list below.",
                behind.join(" and ")
            ),
        }
    }

    /// What is sent without a message that came in.
    fn sources(&mut self) {
        let fed = self.flows.fed();
        for index in 0..self.flows.nodes.len() {
            let node = &self.flows.nodes[index];
            if !node.live || node.is_websocket() || node.unfolded || fed.contains(node.id) {
                continue;
            }
            let mut told = BTreeSet::new();
            for out in self.flows.outs_behind(index) {
                let block = self.flows.node(self.flows.nodes[out].config()).and_then(|config| self.blocks.get(&config));
                let Some(block) = block.filter(|block| told.insert(**block)) else { continue };
                let block = &mut self.plan.blocks[*block];
                let whom = if block.kind == BlockKind::Link { "the remote" } else { "its clients" };
                let comment = format!(
                    "{DECIDE}{} sends to {whom} in Node-RED; wsgate itself sends no messages: use 'wsgate send', or let \
                     Node-RED connect to wsgate as a client and send them \
                     (docs/examples.md#questions-and-answers-with-a-node-red-flow).",
                    node.label()
                );
                if !block.comments.contains(&comment) {
                    block.comments.push(comment);
                }
            }
        }
    }

    /// The listener in Node-RED's place, if it has one.
    fn listener(&mut self) {
        if self.plan.count(BlockKind::Endpoint) == 0 {
            return;
        }
        let mut block = Block::new(BlockKind::Listen, LISTENER);
        block.comments.push(
            "Node-RED listens on this port, and two programs cannot use it at the same time: stop Node-RED, or choose \
             another port here or there. Any machine that can reach this address may connect; \"127.0.0.1\" allows \
             this machine only."
                .into(),
        );
        block.set("address", quoted(&format!("0.0.0.0:{}", self.surroundings.port)), &[]);
        self.plan.blocks.insert(0, block);
    }
}

/// Whether Node-RED dials this address.
fn is_url(address: &str) -> bool {
    let start = address.get(..6).unwrap_or(address).to_ascii_lowercase();
    start.starts_with("ws://") || start.starts_with("wss://")
}

#[cfg(test)]
mod tests {
    use std::env::VarError;
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DELETE: &str = "delete msg._session; return msg;";

    fn environment(name: &str) -> Result<String, VarError> {
        match name {
            "URL" => Ok("wss://plc.example/ws".to_owned()),
            "YES" => Ok("true".to_owned()),
            "TEN" => Ok("10".to_owned()),
            "EMPTY" => Ok(String::new()),
            "P" => Ok("/p".to_owned()),
            "odd-name" => Ok("value".to_owned()),
            _ => Err(VarError::NotPresent),
        }
    }

    fn import_under(root: &str, flows: &Value) -> String {
        let surroundings = Surroundings { root, port: 1880, environment: &environment };
        let translated = super::super::translate_in(flows.to_string().as_bytes(), surroundings, Path::new(""));
        translated.unwrap_or_else(|problem| panic!("{problem}: {flows}")).text
    }

    fn import(flows: &Value) -> String {
        import_under("/", flows)
    }

    /// The line of this block's destinations.
    fn to_of<'t>(text: &'t str, block: &str) -> &'t str {
        let behind = text.split_once(&format!("\n{block}\n")).unwrap_or_else(|| panic!("no {block} in {text}")).1;
        behind.lines().find(|line| line.starts_with("to = ")).unwrap()
    }

    /// Two listeners and two clients, and one wire, perhaps through a function.
    fn wired(from: &str, through: Option<&str>, target: &str) -> String {
        let end = |id: &str, kind: &str, config: &str, wires: Value| {
            let (server, client) = if config.len() == 1 { (config, "") } else { ("", config) };
            json!({ "id": id, "type": kind, "server": server, "client": client, "wires": wires })
        };
        let next = if through.is_some() { "f" } else { "out" };
        import(&json!([
            { "id": "a", "type": "websocket-listener", "path": "/a", "wholemsg": "false" },
            { "id": "b", "type": "websocket-listener", "path": "/b", "wholemsg": "false" },
            { "id": "c1", "type": "websocket-client", "path": "ws://one.example/" },
            { "id": "c2", "type": "websocket-client", "path": "ws://two.example/" },
            end("in", "websocket in", from, json!([[next]])),
            { "id": "f", "type": "function", "func": through.unwrap_or_default(), "wires": [["out"]] },
            end("out", "websocket out", target, json!([])),
            end("used", "websocket out", "c1", json!([])),
            end("used2", "websocket out", "c2", json!([])),
        ]))
    }

    #[test]
    fn a_wire_becomes_a_destination() {
        let (a, c1) = ("path = \"/a\"", "url = \"ws://one.example/\"");
        for (from, through, target, block, expected, drops) in [
            ("a", None, "a", a, "to = [\"reply\"]", false),
            ("a", Some(DELETE), "a", a, "to = [\"broadcast\"]", false),
            ("a", Some("delete msg._session\n  return msg"), "a", a, "to = [\"broadcast\"]", false),
            ("a", None, "b", a, "to = [\"endpoint:/b\"]", true),
            ("a", Some(DELETE), "b", a, "to = [\"endpoint:/b\"]", false),
            ("a", None, "c1", a, "to = [\"link:one-example\"]", true),
            ("a", Some(DELETE), "c1", a, "to = [\"link:one-example\"]", false),
            ("c1", None, "a", c1, "to = [\"endpoint:/a\"]", true),
            ("c1", Some(DELETE), "a", c1, "to = [\"endpoint:/a\"]", false),
            ("c1", Some(DELETE), "c1", c1, "to = [\"reply\"]", false),
            ("c1", Some(DELETE), "c2", c1, "to = [\"link:two-example\"]", false),
            ("a", Some("msg.payload = 1; delete msg._session; return msg;"), "a", a, "to = []", false),
        ] {
            let text = wired(from, through, target);
            assert_eq!(to_of(&text, block), expected, "{from} {through:?} {target}\n{text}");
            assert_eq!(text.contains("gets nothing from here"), drops, "{from} {through:?} {target}\n{text}");
        }
        assert!(wired("a", Some("return msg;"), "b").contains("go through function (f) to endpoint:/b"));
    }

    #[test]
    fn a_path_stands_under_the_root_and_is_plain_text() {
        for (root, path, expected) in [
            ("/", "/ws", "/ws"),
            ("/", "ws", "/ws"),
            ("/red", "/ws", "/red/ws"),
            ("red/", "ws/", "/red/ws/"),
            ("/", "/", "/"),
            ("/", "/a%20b", "/a b"),
            ("/", "/$x", "/$x"),
            ("/", "/${YES}", "/${YES}"),
            ("/", "/${NOT}", "/to-decide/not"),
        ] {
            let text = import_under(root, &json!([{ "id": "a", "type": "websocket-listener", "path": path }]));
            assert!(text.contains(&format!("\npath = \"{expected}\"\n")), "{root} {path}: {text}");
        }
    }

    #[test]
    fn b32_a_path_that_is_a_variable_is_translated_or_left_to_decide() {
        for (root, path, expected, decides) in [
            ("/", "${P}", "${P}", false),
            ("/red", "${P}", "/red${P}", false),
            ("/", "$(P)", "${P}", false),
            ("/", "/a${P}", "/a${P}", false),
            ("/", "${YES}", "/${YES}", false),
            ("/", "${EMPTY}", "/${EMPTY}", false),
            ("/red", "${EMPTY}", "/red/${EMPTY}", false),
            ("/", "", "/", true),
            ("/", "${NOT}", "/to-decide/not", true),
            ("/", "$(NOT)", "/to-decide/not", true),
            ("/", "${my-plc}", "/to-decide/my-plc", true),
            ("/", "${odd-name}", "/value", false),
        ] {
            let text = import_under(root, &json!([{ "id": "a", "type": "websocket-listener", "path": path }]));
            assert!(text.contains(&format!("\npath = \"{expected}\"\n")), "{root} {path}: {text}");
            assert_eq!(text.contains("TO DECIDE"), decides, "{root} {path}: {text}");
        }
    }

    #[test]
    fn b33_a_client_is_never_an_open_door() {
        for (address, url, decides) in [
            ("$(URL)", "${URL}", false),
            ("$(NOT)", "ws://to-decide.invalid/", true),
            ("", "ws://to-decide.invalid/", true),
            ("192.0.2.7:9000/x", "ws://to-decide.invalid/", true),
            ("/ws", "ws://to-decide.invalid/", true),
            ("http://h.example/", "ws://to-decide.invalid/", true),
            ("${my-plc}", "ws://to-decide.invalid/", true),
        ] {
            let text = import(&json!([
                { "id": "c", "type": "websocket-client", "path": address },
                { "id": "o", "type": "websocket out", "client": "c" },
            ]));
            assert!(text.contains(&format!("\nurl = \"{url}\"\n")), "{address}: {text}");
            assert_eq!(text.contains("TO DECIDE"), decides, "{address}: {text}");
            assert!(!text.contains("\n[[listen]]\n"), "{address}: {text}");
        }
    }

    /// A use of a subflow whose nodes are these, between a listener's nodes.
    fn through_subflow(user: Value, inner: Value, out: Value) -> String {
        let mut flows = vec![
            json!({ "id": "a", "type": "websocket-listener", "path": "/a" }),
            json!({ "id": "b", "type": "websocket-listener", "path": "/b" }),
            json!({ "id": "i", "type": "websocket in", "server": "a", "z": "t", "wires": [["u"]] }),
            json!({ "id": "o", "type": "websocket out", "server": "b", "z": "t" }),
            json!({ "id": "s", "type": "subflow", "name": "S", "in": [{ "wires": [{ "id": "x" }] }], "out": out }),
        ];
        flows.push(user);
        flows.extend(inner.as_array().unwrap().iter().cloned());
        import(&Value::from(flows))
    }

    #[test]
    fn b36_a_wire_leads_through_a_subflow() {
        let user = |extra: &str| json!({ "id": "u", "type": "subflow:s", "z": "t", "wires": [[], ["o"]], extra: true });
        let own_out = json!([{ "id": "x", "z": "s", "type": "websocket out", "server": "b" }]);
        let passes = json!([{ "id": "x", "z": "s", "type": "junction", "wires": [[]] }]);
        let exit = json!([{ "wires": [] }, { "wires": [{ "id": "x", "port": 0 }] }]);
        let straight = json!([{ "wires": [] }, { "wires": [{ "id": "s", "port": 0 }] }]);
        let changes = json!([{ "id": "x", "z": "s", "type": "function", "func": "return msg", "wires": [[]] }]);
        for (what, text, to, said) in [
            ("an out inside", through_subflow(user("x"), own_out.clone(), json!([])), "to = [\"endpoint:/b\"]", ""),
            ("a disabled use", through_subflow(user("d"), own_out, json!([])), "to = []", "which no enabled flow uses"),
            ("out at its end", through_subflow(user("x"), passes, exit.clone()), "to = [\"endpoint:/b\"]", ""),
            ("nothing between", through_subflow(user("x"), json!([]), straight), "to = [\"endpoint:/b\"]", ""),
            (
                "a function inside",
                through_subflow(user("x"), changes, exit),
                "to = []",
                "go through function (x) to endpoint:/b",
            ),
        ] {
            assert_eq!(to_of(&text, "path = \"/a\""), to, "{what}: {text}");
            assert!(text.replace("\n# ", " ").contains(said), "{what}: {text}");
        }
    }

    #[test]
    fn b36_subflows_in_subflows_are_bounded() {
        let surroundings = Surroundings { root: "/", port: 1880, environment: &environment };
        let import = |flows: Value| {
            let flows = flows.to_string();
            super::super::translate_in(flows.as_bytes(), surroundings, Path::new("")).map(|imported| imported.text)
        };
        let mut flows = vec![
            json!({ "id": "a", "type": "websocket-listener", "path": "/a" }),
            json!({ "id": "i", "type": "websocket in", "server": "a", "wires": [["u"]] }),
            json!({ "id": "u", "type": "subflow:s0", "wires": [] }),
        ];
        // Each uses the next one twice.
        for level in 0..20 {
            let (own, next) = (format!("s{level}"), format!("subflow:s{}", level + 1));
            flows.push(json!({ "id": own, "type": "subflow", "in": [], "out": [] }));
            for use_of in ["a", "b"] {
                flows.push(json!({ "id": format!("{own}{use_of}"), "type": next, "z": own, "x": 1, "wires": [] }));
            }
        }
        assert!(import(Value::from(flows.clone())).unwrap_err().contains("come to more than 20000 nodes"));
        flows.truncate(4);
        flows.push(json!({ "id": "again", "type": "subflow:s0", "z": "s0", "x": 1, "wires": [] }));
        assert!(import(Value::from(flows)).unwrap_err().contains("its subflow \"s0\" contains itself"));
    }

    #[test]
    fn each_setting_of_a_client_has_its_place() {
        let header = |name: &str, kind: &str, value: &str| json!([{ "keyType": "other", "keyValue": name, "valueType": kind, "valueValue": value }]);
        for (key, value, expected) in [
            ("path", json!("${URL}"), "url = \"${URL}\""),
            ("path", json!("${URL}"), "name = \"url\""),
            ("path", json!("${NOT}"), "url = \"ws://to-decide.invalid/\""),
            ("path", json!("${EMPTY}"), "url = \"ws://to-decide.invalid/\""),
            ("path", json!("ws://h.example/#x"), "# url = \"ws://h.example/#x\""),
            ("wholemsg", json!("true"), "format = \"message\""),
            ("wholemsg", json!(true), "format = \"message\""),
            ("wholemsg", json!("${YES}"), "format = \"message\""),
            ("wholemsg", json!("${NOT}"), "format = \"payload\""),
            ("hb", json!("15"), "heartbeat = \"15s\""),
            ("hb", json!(15), "heartbeat = \"15s\""),
            ("hb", json!("${TEN}"), "heartbeat = \"10s\""),
            ("hb", json!(""), "heartbeat = \"30s\""),
            ("hb", json!("-1"), "heartbeat = \"30s\""),
            ("subprotocol", json!(" a, b ,,a"), "subprotocols = [\"a\", \"b\"]"),
            ("subprotocol", json!("${TEN}"), "subprotocols = [\"10\"]"),
            ("headers", header("X-A", "other", "1"), "headers.X-A = \"1\""),
            ("headers", header("X-A", "env", "TEN"), "headers.X-A = \"${TEN}\""),
            ("headers", header("X-A", "env", "NOT"), "# headers.X-A = \"${NOT}\""),
        ] {
            let mut client = json!({ "id": "c", "type": "websocket-client", "path": "ws://h.example/" });
            client[key] = value.clone();
            let text = import(&json!([client, { "id": "o", "type": "websocket out", "client": "c" }]));
            assert!(text.lines().any(|line| line == expected), "{key} {value}: {expected} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_disabled_or_empty_sets_nothing() {
        let text = import(&json!([
            { "id": "t", "type": "tab", "label": "off", "disabled": true },
            { "id": "a", "type": "websocket-listener", "path": "/a" },
            { "id": "i1", "type": "websocket in", "z": "t", "server": "a", "wires": [["o"]] },
            { "id": "i2", "type": "websocket in", "d": true, "server": "a", "wires": [["o"]] },
            { "id": "i3", "type": "websocket in", "server": "a", "wires": [["o2"]] },
            { "id": "o", "type": "websocket out", "server": "a" },
            { "id": "o2", "type": "websocket out", "d": true, "server": "a" },
        ]));
        assert_eq!(to_of(&text, "path = \"/a\""), "to = []");
        assert!(
            text.contains("tab \"off\" (t), which is disabled") && text.contains("in (i2), which is disabled"),
            "{text}"
        );
    }

    #[test]
    fn a_wire_that_goes_round_ends() {
        let text = import(&json!([
            { "id": "a", "type": "websocket-listener", "path": "/a" },
            { "id": "i", "type": "websocket in", "server": "a", "wires": [["j"]] },
            { "id": "j", "type": "junction", "wires": [["k", "f"]] },
            { "id": "k", "type": "junction", "wires": [["j", "o"]] },
            { "id": "f", "type": "function", "func": "return msg", "wires": [["f", "j"]] },
            { "id": "o", "type": "websocket out", "server": "a" },
        ]));
        assert_eq!(to_of(&text, "path = \"/a\""), "to = [\"reply\"]");
    }

    #[test]
    fn flows_with_clients_alone_open_no_door() {
        let text = import(&json!([
            { "id": "c", "type": "websocket-client", "path": "ws://h.example/" },
            { "id": "o", "type": "websocket out", "client": "c" },
        ]));
        assert_eq!(to_of(&text, "path = \"/\""), "to = []");
        assert!(!text.contains("\n[[listen]]\n"), "{text}");
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,12}",
            "[-/a{}$%#.:@=,\\n\"\\\\ ]{0,8}",
            "wss?://[a-z:@/{}$%]{0,9}",
            prop::sample::select(vec![
                "${URL}",
                "${NOT}",
                "${EMPTY}",
                "true",
                "7",
                "Upgrade",
                "Authorization",
                "env",
                "other"
            ])
            .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_the_flows_say_check_accepts_the_output(
            texts in prop::collection::vec(texts(), 14),
            root in texts(),
            ends in prop::collection::vec((0..4usize, 0..4usize, any::<bool>()), 1..6),
        ) {
            let header = json!([
                { "keyType": "other", "keyValue": texts[0], "valueType": "other", "valueValue": texts[1] },
                { "keyType": texts[2], "valueType": "env", "valueValue": texts[3] },
            ]);
            let mut flows = vec![
                json!({ "id": "0", "type": "websocket-listener", "path": "/sure", "wholemsg": texts[4] }),
                json!({ "id": "1", "type": "websocket-listener", "path": texts[5] }),
                json!({ "id": "2", "type": "websocket-client", "path": texts[6], "headers": header, "hb": texts[7],
                    "subprotocol": texts[8], "tls": "tls" }),
                json!({ "id": "3", "type": "websocket-client", "path": "ws://localhost:1880/sure" }),
                json!({ "id": "tls", "type": "tls-config", "ca": texts[9], "cert": texts[10], "key": texts[11],
                    "servername": texts[12], "verifyservercert": texts[13].len() > 4 }),
                json!({ "id": "f", "type": "function", "name": texts[0], "func": DELETE, "wires": [["f"]] }),
            ];
            for (index, (from, to, forgets)) in ends.iter().enumerate() {
                let (function, out) = (format!("f{index}"), format!("o{index}"));
                let next = if *forgets { &function } else { &out };
                flows.push(json!({ "id": format!("i{index}"), "type": "websocket in", "server": from.to_string(), "wires": [[next]] }));
                flows.push(json!({ "id": function, "type": "function", "func": DELETE, "wires": [[out]] }));
                flows.push(json!({ "id": out, "type": "websocket out", "client": to.to_string() }));
            }
            // A root that is no path leaves out every listener; then there may be nothing to import.
            let root = if root.contains(['{', '}', '%', '#', '?', '.', '*', ':', '<', '[']) || root.contains("//") { "/" } else { &root };
            prop_assume!(!root.contains(char::is_control));
            import_under(root, &Value::from(flows));
        }
    }
}
