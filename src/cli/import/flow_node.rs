//! A node of Node-RED's flows and what it says about itself.

use serde_json::Value;

use super::values::{modern, shown};

/// A node of the flows, or what configures some.
pub(super) struct FlowNode<'j> {
    pub(super) id: &'j str,
    pub(super) kind: &'j str,
    pub(super) json: &'j Value,
    /// Whether it runs: it and its tab are enabled, and it is no part of a subflow, of which only the uses run.
    pub(super) live: bool,
    /// Whether it is the use of a subflow whose nodes are known, so that it only passes messages on.
    pub(super) unfolded: bool,
    /// The nodes behind its outputs.
    pub(super) next: Vec<usize>,
}

impl<'j> FlowNode<'j> {
    /// A property as text; Node-RED takes `"true"` for `true` and `"5"` for 5.
    pub(super) fn text(&self, key: &str) -> String {
        text(&self.json[key])
    }

    /// For comments: `function "calm" (1f2e)`.
    pub(super) fn label(&self) -> String {
        let name =
            [&self.json["name"], &self.json["label"]].into_iter().filter_map(Value::as_str).find(|n| !n.is_empty());
        let id = shown(self.id);
        let (kind, id) = (shown(self.kind), id.trim_matches('"'));
        let kind = kind.trim_matches('"');
        name.map_or_else(|| format!("{kind} ({id})"), |name| format!("{kind} {} ({id})", shown(name)))
    }

    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.kind, "websocket in" | "websocket out" | "websocket-listener" | "websocket-client")
    }

    /// The listener or client that a `websocket in` or `websocket out` belongs to.
    pub(super) fn config(&self) -> &'j str {
        let id = |key: &str| self.json[key].as_str().filter(|id| !id.is_empty());
        id("client").or_else(|| id("server")).unwrap_or_default()
    }

    /// Whether all that it does is to make a reply a broadcast.
    pub(super) fn forgets_session(&self) -> bool {
        match self.kind {
            "function" => {
                let code: String = self.text("func").chars().filter(|c| !c.is_whitespace() && *c != ';').collect();
                code == "deletemsg._sessionreturnmsg"
            }
            "change" => self.json["rules"].as_array().is_some_and(|rules| {
                rules.len() == 1
                    && (&rules[0]["t"], &rules[0]["p"], &rules[0]["pt"])
                        == (&"delete".into(), &"_session".into(), &"msg".into())
            }),
            _ => false,
        }
    }
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => modern(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => String::new(),
    }
}
