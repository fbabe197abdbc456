//! Node-RED's flows: nodes, and the ways that messages take between them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::export::HOW_TO_EXPORT;
use super::flow_node::FlowNode;
use super::flow_variables::FlowVariables;
use super::subflows::unfold;
use super::values::shown;

/// All nodes, and the wires between them.
pub(super) struct Flows<'j> {
    /// The nodes of the export, in its order; behind them those that stand for the nodes of subflows, see [`unfold`].
    pub(super) nodes: Vec<FlowNode<'j>>,
    by_id: BTreeMap<&'j str, usize>,
    /// The variables that the flows themselves set.
    pub(super) variables: FlowVariables<'j>,
}

impl<'j> Flows<'j> {
    pub(super) fn read(json: &'j [Value]) -> Result<Flows<'j>, String> {
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
            nodes.push(FlowNode { id, kind, json, live: json["d"] != true, unfolded: false, next: Vec::new() });
        }
        let disabled: BTreeSet<&str> =
            nodes.iter().filter(|node| node.kind == "tab" && node.json["disabled"] == true).map(|tab| tab.id).collect();
        for node in &mut nodes {
            node.live &= node.json["z"].as_str().is_none_or(|tab| !disabled.contains(tab));
        }
        unfold(&mut nodes)?;
        let variables = FlowVariables::read(&nodes);
        Ok(Flows { nodes, by_id, variables })
    }

    /// A node of the export.
    pub(super) fn node(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The nodes behind the outputs of a node, and behind the links that it ends in.
    pub(super) fn next(&self, node: usize) -> &[usize] {
        &self.nodes[node].next
    }

    /// The nodes to which something leads, also from nodes that do not run: these only pass on what they get.
    pub(super) fn fed(&self) -> BTreeSet<&'j str> {
        let lists = |json: &'j Value, key: &str| json[key].as_array().into_iter().flatten();
        let mut fed = BTreeSet::new();
        for FlowNode { kind, json, .. } in &self.nodes {
            fed.extend(lists(json, "wires").filter_map(Value::as_array).flatten().filter_map(Value::as_str));
            if matches!(*kind, "link out" | "link call") {
                fed.extend(lists(json, "links").filter_map(Value::as_str));
            }
            if *kind == "subflow" {
                let entries = lists(json, "in").filter_map(|port| port["wires"].as_array()).flatten();
                fed.extend(entries.filter_map(|wire| wire["id"].as_str()));
            }
        }
        fed
    }

    /// Every `websocket out` that messages from this node reach, whatever they pass.
    pub(super) fn outs_behind(&self, start: usize) -> Vec<usize> {
        let (mut seen, mut rest, mut outs) = (BTreeSet::from([start]), vec![start], Vec::new());
        while let Some(node) = rest.pop() {
            if self.nodes[node].kind == "websocket out" {
                outs.push(node);
            }
            rest.extend(self.next(node).iter().filter(|next| seen.insert(**next)));
        }
        outs.sort_unstable();
        outs
    }

    /// Where the messages of a `websocket in` go before a node does something with them.
    pub(super) fn wire_ends(&self, start: usize) -> Vec<WireEnd> {
        let mut ends = Vec::new();
        let mut seen = BTreeSet::new();
        let mut rest: Vec<(usize, bool)> = self.next(start).iter().rev().map(|node| (*node, true)).collect();
        while let Some((node, keeps_session)) = rest.pop() {
            if !seen.insert((node, keeps_session)) {
                continue;
            }
            let here = &self.nodes[node];
            let forgets = here.forgets_session();
            match here.kind {
                "websocket out" => ends.push(WireEnd::Out { node, keeps_session }),
                _ if forgets || here.unfolded || matches!(here.kind, "junction" | "link in" | "link out") => {
                    rest.extend(self.next(node).iter().rev().map(|next| (*next, keeps_session && !forgets)));
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
