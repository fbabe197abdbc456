//! Subflows: each use of one becomes nodes of its own, as in Node-RED, so that the wires lead through it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flow_node::FlowNode;
use super::values::shown;

/// The most nodes that the uses of subflows may come to. A few subflows that use each other twice would be millions.
const UNFOLDED_MAX: usize = 20_000;

/// The nodes behind each output of a node.
type Outputs = Vec<Vec<usize>>;

/// Adds the nodes of each subflow that is in use, once for each use, and finds what is behind each node.
pub(super) fn unfold(nodes: &mut Vec<FlowNode<'_>>) -> Result<(), String> {
    let mut definitions: BTreeMap<&str, Definition<'_>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.kind == "subflow") {
        definitions.insert(node.id, Definition { json: node.json, inner: Vec::new(), is_used: false });
    }
    let mut scope = BTreeMap::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        match node.json["z"].as_str().and_then(|flow| definitions.get_mut(flow)) {
            // What a subflow configures is there once, however often the subflow is used.
            Some(definition) if is_config(node.kind) => definition.inner.push(index),
            Some(definition) => {
                if node.live {
                    definition.inner.push(index);
                }
                node.live = false;
            }
            None if node.live => drop(scope.insert(node.id, index)),
            None => {}
        }
    }
    let mut unfolding = Unfolding { exported: nodes.len(), nodes, definitions, top: scope.clone() };
    for index in scope.into_values() {
        let outputs = outputs(unfolding.nodes[index].json, &unfolding.top);
        unfolding.place(index, outputs, &mut Vec::new())?;
    }
    let Unfolding { nodes, definitions, .. } = unfolding;
    for definition in definitions.values().filter(|definition| !definition.is_used) {
        definition.inner.iter().for_each(|index| nodes[*index].live = false);
    }
    Ok(())
}

/// Whether a node is what others are configured by.
fn is_config(kind: &str) -> bool {
    matches!(kind, "websocket-listener" | "websocket-client" | "tls-config")
}

/// A subflow as it is drawn.
struct Definition<'j> {
    json: &'j Value,
    /// The nodes in it that are enabled.
    inner: Vec<usize>,
    is_used: bool,
}

struct Unfolding<'n, 'j> {
    nodes: &'n mut Vec<FlowNode<'j>>,
    /// How many of the nodes are of the export.
    exported: usize,
    definitions: BTreeMap<&'j str, Definition<'j>>,
    /// The nodes that are in no subflow: a `link out` may lead to these from everywhere.
    top: BTreeMap<&'j str, usize>,
}

impl<'j> Unfolding<'_, 'j> {
    /// Puts what is behind each output of a node behind it, or behind the nodes of the subflow that it uses. `within` are
    /// the subflows that it is in.
    fn place(&mut self, index: usize, outputs: Outputs, within: &mut Vec<&'j str>) -> Result<(), String> {
        let kind = self.nodes[index].kind;
        match kind.strip_prefix("subflow:").filter(|id| self.definitions.contains_key(id)) {
            Some(id) if within.contains(&id) => Err(format!("its subflow {} contains itself", shown(id))),
            Some(id) => {
                within.push(id);
                self.nodes[index].unfolded = true;
                let done = self.unfold(index, id, &outputs, within);
                within.pop();
                done
            }
            None => {
                let mut next: Vec<usize> = outputs.into_iter().flatten().collect();
                let json = self.nodes[index].json;
                let leads_away = kind == "link call" || (kind == "link out" && json["mode"] != "return");
                let links = json["links"].as_array().filter(|_| leads_away).into_iter().flatten();
                next.extend(links.filter_map(Value::as_str).filter_map(|id| self.top.get(id)));
                self.nodes[index].next.extend(next);
                Ok(())
            }
        }
    }

    /// Adds the nodes of a subflow for this use of it, whose outputs lead to `outputs`.
    fn unfold(&mut self, user: usize, id: &'j str, outputs: &Outputs, within: &mut Vec<&'j str>) -> Result<(), String> {
        let definition = self.definitions.get_mut(id).expect("the caller has seen it");
        definition.is_used = true;
        let json = definition.json;
        let mut scope = BTreeMap::new();
        for index in
            definition.inner.iter().filter(|index| !is_config(self.nodes[**index].kind)).copied().collect::<Vec<_>>()
        {
            let FlowNode { id, kind, json, .. } = self.nodes[index];
            scope.insert(id, self.nodes.len());
            self.nodes.push(FlowNode { id, kind, json, live: true, unfolded: false, next: Vec::new() });
        }
        if self.nodes.len() > self.exported + UNFOLDED_MAX {
            return Err(format!(
                "its subflows come to more than {UNFOLDED_MAX} nodes, each use counted: import the flows without some of \
                 their uses"
            ));
        }
        let place = |wire: &Value| wire["id"].as_str().and_then(|id| scope.get(id)).copied();
        let ports = |key: &str| json[key].as_array().into_iter().flatten();
        let wires = |port: &'j Value| port["wires"].as_array().into_iter().flatten();
        let mut entry: Vec<usize> = ports("in").flat_map(wires).filter_map(place).collect();
        let mut exits: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (port, behind) in ports("out").zip(outputs) {
            for wire in wires(port) {
                match place(wire) {
                    Some(index) => {
                        let number = wire["port"].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
                        exits.entry((index, number)).or_default().extend(behind);
                    }
                    // From the entry straight to the exit.
                    None if wire["id"] == json["id"] => entry.extend(behind),
                    None => {}
                }
            }
        }
        self.nodes[user].next = entry;
        for index in scope.values().copied() {
            let mut outputs = self::outputs(self.nodes[index].json, &scope);
            for ((_, number), behind) in exits.range((index, 0)..=(index, usize::MAX)) {
                match outputs.get_mut(*number) {
                    Some(output) => output.extend(behind),
                    None => outputs.push(behind.clone()),
                }
            }
            self.place(index, outputs, within)?;
            self.link(index, &scope);
        }
        Ok(())
    }

    /// The links of a node in a subflow lead to nodes in the same use of it.
    fn link(&mut self, index: usize, scope: &BTreeMap<&str, usize>) {
        let node = &mut self.nodes[index];
        if node.kind == "link call" || (node.kind == "link out" && node.json["mode"] != "return") {
            let links = node.json["links"].as_array().into_iter().flatten();
            let links: Vec<usize> = links.filter_map(Value::as_str).filter_map(|id| scope.get(id)).copied().collect();
            node.next.extend(links);
        }
    }
}

/// What the wires of a node lead to, by output.
fn outputs(json: &Value, scope: &BTreeMap<&str, usize>) -> Outputs {
    let wires = json["wires"].as_array().into_iter().flatten();
    let behind = |output: &Value| {
        output
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter_map(|id| scope.get(id))
            .copied()
            .collect()
    };
    wires.map(behind).collect()
}
