//! n8n's workflows: nodes, what they are to wsgate, and how they are connected.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::export::{HOW_TO_EXPORT, is_n8n_node};
use super::values::{Environment, is_variable, shown};
use crate::config::substitute;

/// What a node is to wsgate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
    /// Sends to clients of a server.
    Response,
    /// A WebSocket node that is none of these.
    Unknown,
    Other,
}

pub(super) struct WorkflowNode<'j> {
    pub(super) name: &'j str,
    kind: &'j str,
    pub(super) json: &'j Value,
    pub(super) role: Role,
    pub(super) parameters: Parameters<'j>,
}

impl WorkflowNode<'_> {
    /// For comments: `"Readings" (webSocketServer)`.
    pub(super) fn label(&self) -> String {
        let kind = shown(self.kind.rsplit('.').next().unwrap_or(self.kind));
        format!("{} ({})", shown(self.name), kind.trim_matches('"'))
    }

    /// The package whose server has other defaults.
    pub(super) fn is_standalone(&self) -> bool {
        self.kind.contains("websocket-standalone")
    }
}

/// The parameters of a node, options of options included, and which of them were asked for.
pub(super) struct Parameters<'j> {
    pub(super) values: BTreeMap<&'j str, &'j Value>,
    used: RefCell<BTreeSet<&'static str>>,
}

impl<'j> Parameters<'j> {
    fn new(json: &'j Value) -> Parameters<'j> {
        let mut values = BTreeMap::new();
        let mut add = |object: &'j Map<String, Value>| {
            for (key, value) in object {
                if !matches!(&**key, "options" | "additionalFields" | "additionalOptions") {
                    values.entry(&**key).or_insert(value);
                }
            }
        };
        if let Some(object) = json.as_object() {
            add(object);
            for key in ["options", "additionalFields", "additionalOptions"] {
                object.get(key).and_then(Value::as_object).into_iter().for_each(&mut add);
            }
        }
        Parameters { values, used: RefCell::default() }
    }

    /// The first of these that is there.
    pub(super) fn get(&self, keys: &[&'static str]) -> Option<&'j Value> {
        self.used.borrow_mut().extend(keys);
        keys.iter().find_map(|key| self.values.get(key).copied())
    }

    /// The same as text that is not empty.
    pub(super) fn text(&self, keys: &[&'static str]) -> Option<ParameterText> {
        match self.get(keys)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(ParameterText::new(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(ParameterText::new(&value.to_string())),
            _ => None,
        }
    }

    pub(super) fn not_used(&self) -> Vec<&'j str> {
        let used = self.used.borrow();
        self.values.keys().copied().filter(|key| !used.contains(key)).collect()
    }
}

/// A text of a workflow.
pub(super) struct ParameterText {
    /// As n8n has it.
    pub(super) in_n8n: String,
    /// As the configuration writes it; `None` if it is an expression of which only n8n knows the value.
    pub(super) written: Option<String>,
}

impl ParameterText {
    pub(super) fn new(text: &str) -> ParameterText {
        let written = match text.strip_prefix('=') {
            Some(expression) => evaluated(expression),
            None => Some(literal(text)),
        };
        ParameterText { in_n8n: text.to_owned(), written }
    }

    /// The value, if its variables are set here.
    pub(super) fn value(&self, environment: Environment<'_>) -> Option<String> {
        substitute(self.written.as_deref()?, environment).ok()
    }
}

/// What stands outside of `{{ }}` in an expression is text, also a `${`.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// An expression whose parts are text and variables of the environment.
fn evaluated(expression: &str) -> Option<String> {
    let mut written = String::new();
    let mut rest = expression;
    while let Some((text, behind)) = rest.split_once("{{") {
        let (inner, after) = behind.split_once("}}")?;
        let name = inner.trim().strip_prefix("$env")?;
        let bracketed =
            |quote: &str| name.strip_prefix('[')?.strip_prefix(quote)?.strip_suffix(']')?.strip_suffix(quote);
        let name = name.strip_prefix('.').or_else(|| bracketed("'")).or_else(|| bracketed("\""))?;
        if !is_variable(name) {
            return None;
        }
        written.push_str(&format!("{}${{{name}}}", literal(text)));
        rest = after;
    }
    written.push_str(&literal(rest));
    Some(written)
}

fn role(kind: &str, parameters: &Parameters<'_>) -> Role {
    let name = kind.rsplit('.').next().unwrap_or(kind).to_ascii_lowercase();
    let has = |keys: &[&'static str]| keys.iter().any(|key| parameters.values.contains_key(key));
    if !kind.to_ascii_lowercase().contains("websocket") {
        Role::Other
    } else if name.contains("response") || name.contains("reply") {
        Role::Response
    } else if has(URL) || name.contains("client") || name == "websocketsnode" {
        Role::Client
    } else if name.contains("server") || name.contains("trigger") || has(&["port"]) {
        Role::Server
    } else {
        Role::Unknown
    }
}

pub(super) const URL: &[&str] = &["url", "websocketUrl", "webSocketUrl", "serverUrl"];

/// A node of a workflow by its name, with what it is connected to.
pub(super) struct Workflow<'j> {
    pub(super) nodes: Vec<WorkflowNode<'j>>,
    connections: &'j Value,
}

impl<'j> Workflow<'j> {
    pub(super) fn read(json: &'j Value) -> Result<Workflow<'j>, String> {
        let mut nodes: Vec<WorkflowNode<'j>> = Vec::new();
        let alone = is_n8n_node(json).then_some(json);
        for (index, json) in json["nodes"].as_array().into_iter().flatten().chain(alone).enumerate() {
            let (Some(name), Some(kind)) = (json["name"].as_str(), json["type"].as_str()) else {
                return Err(format!(
                    "node {} of a workflow has no \"name\" or no \"type\", so this is not a whole n8n workflow ({})",
                    index + 1,
                    HOW_TO_EXPORT
                ));
            };
            let parameters = Parameters::new(&json["parameters"]);
            nodes.push(WorkflowNode { name, kind, json, role: role(kind, &parameters), parameters });
        }
        Ok(Workflow { nodes, connections: &json["connections"] })
    }

    /// The nodes behind a node, disabled ones left out.
    pub(super) fn next(&self, node: usize) -> Vec<usize> {
        let outputs = self.connections[self.nodes[node].name]["main"].as_array().into_iter().flatten();
        let names = outputs.filter_map(Value::as_array).flatten().filter_map(|connection| connection["node"].as_str());
        let mut next: Vec<usize> = names.filter_map(|name| self.nodes.iter().position(|n| n.name == name)).collect();
        next.retain(|node| self.nodes[*node].json["disabled"] != true);
        let mut seen = BTreeSet::new();
        next.retain(|node| seen.insert(*node));
        next
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn b34_an_expression_is_text_a_variable_or_not_known() {
        for (text, written) in [
            ("ping", Some("ping")),
            ("=ping", Some("ping")),
            ("", Some("")),
            ("={{ $env.TOKEN }}", Some("${TOKEN}")),
            ("=Bearer {{$env['TOKEN']}}!", Some("Bearer ${TOKEN}!")),
            ("=wss://{{ $env[\"HOST\"] }}/{{ $env.PATH_2 }}", Some("wss://${HOST}/${PATH_2}")),
            ("costs ${5} {{ }}", Some("costs $${5} {{ }}")),
            ("={{ $json.url }}", None),
            ("=ws://{{ $env.HOST }}:{{ $json.port }}/", None),
            ("={{ $env.A + $env.B }}", None),
            ("={{ $env.a-b }}", None),
            ("={{ $env.A", None),
        ] {
            assert_eq!(ParameterText::new(text).written.as_deref(), written, "{text}");
        }
    }

    #[test]
    fn a_node_is_known_by_its_type_and_parameters() {
        for (kind, parameters, expected) in [
            ("CUSTOM.webSocketServer", json!({}), Role::Server),
            ("n8n-nodes-websocket-standalone.webSocketTrigger", json!({ "port": 1 }), Role::Server),
            ("n8n-nodes-websocket-standalone.webSocketResponse", json!({}), Role::Response),
            ("n8n-nodes-websockets-lite.websocketsNode", json!({ "websocketUrl": "ws://h" }), Role::Client),
            ("n8n-nodes-websockets-lite.websocketsNode", json!({}), Role::Client),
            ("n8n-nodes-websockets-lite.websocketsReplyNode", json!({}), Role::Response),
            ("x.webSocketClient", json!({}), Role::Client),
            ("x.webSocketThing", json!({}), Role::Unknown),
            ("n8n-nodes-base.httpRequest", json!({ "url": "ws://h" }), Role::Other),
        ] {
            assert!(role(kind, &Parameters::new(&parameters)) == expected, "{kind} {parameters}");
        }
    }
}
