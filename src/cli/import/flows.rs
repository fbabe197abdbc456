//! Node-RED's flows: nodes, and the ways that messages take between them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::export::HOW_TO_EXPORT;
use super::values::shown;

/// A node of the flows, or what configures some.
pub(super) struct FlowNode<'j> {
    pub(super) id: &'j str,
    pub(super) kind: &'j str,
    pub(super) json: &'j Value,
    /// Whether it and its tab are enabled.
    pub(super) live: bool,
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
    fn forgets_session(&self) -> bool {
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
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => String::new(),
    }
}

/// All nodes, and the wires between them.
pub(super) struct Flows<'j> {
    pub(super) nodes: Vec<FlowNode<'j>>,
    by_id: BTreeMap<&'j str, usize>,
    /// The variables that the flows themselves set.
    pub(super) variables: BTreeMap<&'j str, String>,
}

impl<'j> Flows<'j> {
    pub(super) fn read(json: &'j [Value]) -> Result<Flows<'j>, String> {
        let disabled: BTreeSet<&str> = json
            .iter()
            .filter(|node| node["type"] == "tab" && node["disabled"] == true)
            .filter_map(|tab| tab["id"].as_str())
            .collect();
        let (mut nodes, mut by_id) = (Vec::new(), BTreeMap::new());
        for (index, json) in json.iter().enumerate() {
            let (Some(id), Some(kind)) = (json["id"].as_str(), json["type"].as_str()) else {
                return Err(format!(
                    "node {} of its list has no \"id\" or no \"type\", so these are not whole Node-RED flows ({})",
                    index + 1,
                    HOW_TO_EXPORT
                ));
            };
            if by_id.insert(id, index).is_some() {
                let advice = "an export has each id once: import one export at a time";
                return Err(format!("two of its nodes have the id {} ({advice})", shown(id)));
            }
            let tab_is_live = json["z"].as_str().is_none_or(|tab| !disabled.contains(tab));
            nodes.push(FlowNode { id, kind, json, live: tab_is_live && json["d"] != true });
        }
        let globals =
            nodes.iter().filter(|node| node.kind == "global-config").filter_map(|node| node.json["env"].as_array());
        let variables = globals
            .flatten()
            .filter(|variable| matches!(variable["type"].as_str(), Some("str" | "num" | "bool")))
            .filter_map(|variable| Some((variable["name"].as_str()?, text(&variable["value"]))))
            .collect();
        Ok(Flows { nodes, by_id, variables })
    }

    pub(super) fn node(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The nodes behind the outputs of a node, and behind the links that it ends in.
    pub(super) fn next(&self, node: usize) -> Vec<usize> {
        let json = self.nodes[node].json;
        let wires = json["wires"].as_array().into_iter().flatten().filter_map(Value::as_array).flatten();
        let is_link = self.nodes[node].kind == "link out" && json["mode"] != "return";
        let links = json["links"].as_array().filter(|_| is_link).into_iter().flatten();
        let mut next: Vec<usize> =
            wires.chain(links).filter_map(Value::as_str).filter_map(|id| self.node(id)).collect();
        next.retain(|node| self.nodes[*node].live);
        next
    }

    /// Every `websocket out` that messages from this node reach, whatever they pass.
    pub(super) fn outs_behind(&self, start: usize) -> Vec<usize> {
        let (mut seen, mut rest, mut outs) = (BTreeSet::from([start]), vec![start], Vec::new());
        while let Some(node) = rest.pop() {
            if self.nodes[node].kind == "websocket out" {
                outs.push(node);
            }
            rest.extend(self.next(node).into_iter().filter(|next| seen.insert(*next)));
        }
        outs.sort_unstable();
        outs
    }

    /// Where the messages of a `websocket in` go before a node does something with them.
    pub(super) fn wire_ends(&self, start: usize) -> Vec<WireEnd> {
        let mut ends = Vec::new();
        let mut seen = BTreeSet::new();
        let mut rest: Vec<(usize, bool)> = self.next(start).into_iter().rev().map(|node| (node, true)).collect();
        while let Some((node, keeps_session)) = rest.pop() {
            if !seen.insert((node, keeps_session)) {
                continue;
            }
            let here = &self.nodes[node];
            let forgets = here.forgets_session();
            match here.kind {
                "websocket out" => ends.push(WireEnd::Out { node, keeps_session }),
                _ if forgets || matches!(here.kind, "junction" | "link in" | "link out") => {
                    rest.extend(self.next(node).into_iter().rev().map(|next| (next, keeps_session && !forgets)));
                }
                _ => ends.push(WireEnd::Other { node }),
            }
        }
        ends
    }
}

/// Where a message arrives with nothing done to it on the way.
pub(super) enum WireEnd {
    /// A `websocket out`.
    Out { node: usize, keeps_session: bool },
    /// A node that does something.
    Other { node: usize },
}
