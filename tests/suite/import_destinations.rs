//! `wsgate import` loses no destination: for every file in `tests/import`, each way from one WebSocket node to another is in
//! the configuration, as a destination or as a comment beside it, and each node that is not there is named at the top.
//!
//! The ways are found here a second time, in a simpler manner than the import's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::import::{import, inputs, stderr};

/// The configuration in paragraphs: what stands at the top, then the tables with their comments, each on one line.
struct Output {
    notes: String,
    tables: Vec<String>,
}

impl Output {
    fn of(input: &Path) -> Output {
        let output = import(&[input.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", input.display(), stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut paragraphs = text.split("\n\n");
        // A comment is wrapped.
        let joined = |text: &str| text.replace("\n#\n# ", "\n## ").replace("\n# ", " ");
        let notes = joined(paragraphs.next().unwrap());
        Output { notes, tables: paragraphs.map(joined).collect() }
    }

    /// The table of the node of which the first comment says this.
    fn table(&self, says: &str) -> Option<&str> {
        self.tables.iter().map(String::as_str).find(|table| table.split("[[").next().unwrap().contains(says))
    }

    /// How destinations call a table.
    fn name(table: &str) -> String {
        // A comment may have been joined to the line.
        let value = |key: &str| table.lines().find_map(|line| line.strip_prefix(key)?.split('"').next());
        match value("path = \"") {
            Some(path) => format!("endpoint:{path}"),
            None => format!("link:{}", value("name = \"").unwrap()),
        }
    }
}

/// Node-RED's nodes by id, with what runs and what is behind each.
struct RedFlows<'j> {
    nodes: BTreeMap<&'j str, &'j Value>,
}

/// A node, and the uses of subflows that a message has gone into.
type RedPlace<'j> = (&'j str, Vec<&'j str>);

impl<'j> RedFlows<'j> {
    fn of(list: &'j [Value]) -> RedFlows<'j> {
        RedFlows { nodes: list.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect() }
    }

    fn kind(&self, id: &str) -> &'j str {
        self.nodes[id]["type"].as_str().unwrap()
    }

    fn uses(&self, subflow: &str) -> impl Iterator<Item = &'j str> {
        let kind = format!("subflow:{subflow}");
        let users: Vec<&str> = self.nodes.keys().copied().filter(|id| self.kind(id) == kind && self.runs(id)).collect();
        users.into_iter()
    }

    fn runs(&self, id: &str) -> bool {
        let node = self.nodes[id];
        let flow = node["z"].as_str().filter(|flow| self.nodes.contains_key(flow));
        let flow_runs = flow.is_none_or(|flow| match self.kind(flow) {
            "subflow" => self.uses(flow).next().is_some(),
            _ => self.nodes[flow]["disabled"] != true,
        });
        node["d"] != true && flow_runs
    }

    fn strings(value: &'j Value) -> Vec<&'j str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(values) => values.iter().flat_map(RedFlows::strings).collect(),
            // A wire of a subflow.
            Value::Object(wire) if wire.contains_key("wires") => RedFlows::strings(&wire["wires"]),
            Value::Object(wire) => wire.get("id").and_then(Value::as_str).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The nodes behind one that is reached through these uses of subflows.
    fn next(&self, (id, within): &RedPlace<'j>) -> Vec<RedPlace<'j>> {
        let node = self.nodes[id];
        let mut next: Vec<RedPlace<'j>> = Vec::new();
        let mut add =
            |ids: Vec<&'j str>, within: &[&'j str]| next.extend(ids.into_iter().map(|id| (id, within.to_vec())));
        match self.kind(id).strip_prefix("subflow:") {
            Some(subflow) => add(RedFlows::strings(&self.nodes[subflow]["in"]), &[&within[..], &[id]].concat()),
            None => add(RedFlows::strings(&node["wires"]), within),
        }
        if node["mode"] != "return" && self.kind(id) != "link in" {
            add(RedFlows::strings(&node["links"]), within);
        }
        if let Some((user, outside)) = within.split_last() {
            let subflow = self.nodes[user]["type"].as_str().unwrap().strip_prefix("subflow:").unwrap();
            if RedFlows::strings(&self.nodes[subflow]["out"]).contains(id) {
                add(RedFlows::strings(&self.nodes[user]["wires"]), outside);
            }
        }
        next.retain(|(id, _)| self.nodes.contains_key(id) && self.runs(id));
        next
    }

    fn outs_behind(&self, start: &'j str) -> BTreeSet<&'j str> {
        let start = (start, Vec::new());
        let (mut seen, mut rest) = (BTreeSet::from([start.clone()]), vec![start]);
        while let Some(place) = rest.pop() {
            rest.extend(self.next(&place).into_iter().filter(|place| seen.insert(place.clone())));
        }
        seen.into_iter().map(|(id, _)| id).filter(|id| self.kind(id) == "websocket out").collect()
    }

    fn config(&self, id: &str) -> &'j str {
        let own = |key: &str| self.nodes[id][key].as_str().filter(|config| !config.is_empty());
        own("client").or_else(|| own("server")).unwrap_or_default()
    }

    fn is_fed(&self, id: &str) -> bool {
        self.nodes.values().any(|node| {
            let mut ends = RedFlows::strings(&node["wires"]);
            ends.extend(RedFlows::strings(&node["in"]));
            if node["type"] != "link in" {
                ends.extend(RedFlows::strings(&node["links"]));
            }
            ends.contains(&id)
        })
    }
}

/// Checks every way of Node-RED's flows; gives back how many there were.
fn check_red(input: &Path, list: &[Value]) -> usize {
    let (flows, output) = (RedFlows::of(list), Output::of(input));
    let table = |config: &str| output.table(&format!("({config})."));
    let is_noted = |id: &str| output.notes.contains(&format!("({id})"));
    let mut ways = 0;
    for id in flows.nodes.keys().copied().filter(|id| flows.runs(id)) {
        match flows.kind(id) {
            "websocket-listener" | "websocket-client" => {
                assert!(table(id).is_some() || is_noted(id), "{}: {id} is nowhere", input.display());
            }
            "websocket in" => {
                let own = flows.config(id);
                let Some(from) = table(own) else {
                    assert!(is_noted(id), "{}: {id} is nowhere", input.display());
                    continue;
                };
                for out in flows.outs_behind(id) {
                    let Some(target) = table(flows.config(out)) else {
                        assert!(is_noted(out), "{}: {out} is nowhere", input.display());
                        continue;
                    };
                    let name = Output::name(target);
                    let is_there = match flows.config(out) == own {
                        true => from.contains("reply") || from.contains("broadcast"),
                        false => from.contains(&name),
                    };
                    assert!(is_there, "{}: the way from {id} to {out} ({name}) is not in\n{from}", input.display());
                    ways += 1;
                }
            }
            kind if !flows.is_fed(id) && !kind.starts_with("websocket") && !kind.starts_with("subflow") => {
                for out in flows.outs_behind(id) {
                    let Some(target) = table(flows.config(out)) else { continue };
                    assert!(target.contains(&format!("({id})")), "{}: {id} is not beside {out}", input.display());
                    ways += 1;
                }
            }
            _ => {}
        }
    }
    ways
}

/// Checks every connection of an n8n workflow; gives back how many there were.
fn check_n8n(input: &Path, workflow: &Value) -> usize {
    let output = Output::of(input);
    let of = workflow["name"].as_str().map(|name| format!(" of the workflow {name:?}")).unwrap_or_default();
    let alone = workflow["type"].is_string();
    let nodes: Vec<&Value> =
        if alone { vec![workflow] } else { workflow["nodes"].as_array().unwrap().iter().collect() };
    let of = if alone { String::new() } else { of };
    let named = |name: &str| nodes.iter().copied().find(|node| node["name"] == name);
    let is_websocket = |node: &Value| node["type"].as_str().unwrap().to_lowercase().contains("websocket");
    let kind = |node: &Value| node["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    let label = |node: &Value| format!("{:?} ({})", node["name"].as_str().unwrap(), kind(node));
    let answers = |node: &Value| kind(node).contains("Response") || kind(node).contains("Reply");
    let mut ways = 0;
    for node in nodes.iter().copied().filter(|node| is_websocket(node) && !answers(node)) {
        let label_here = format!("{}{of}", label(node));
        let Some(from) = output.table(&format!("{label_here}.")) else {
            assert!(output.notes.contains(&label_here), "{}: {label_here} is nowhere", input.display());
            continue;
        };
        let connections = &workflow["connections"][node["name"].as_str().unwrap()]["main"];
        for next in connections.as_array().into_iter().flatten().filter_map(Value::as_array).flatten() {
            let next = named(next["node"].as_str().unwrap()).unwrap();
            if next["disabled"] == true {
                continue;
            }
            let is_there = match output.table(&format!("{}{of}.", label(next))) {
                Some(_) if next == node => from.contains("\"reply\""),
                Some(target) => from.contains(&Output::name(target)),
                None if answers(next) => ["reply", "broadcast", "endpoint:"].iter().any(|to| from.contains(to)),
                None => from.contains(&label(next)),
            };
            assert!(is_there, "{}: the way to {} is not in\n{from}", input.display(), label(next));
            ways += 1;
        }
    }
    ways
}

#[test]
fn no_import_loses_a_destination() {
    let mut ways = 0;
    for input in inputs() {
        if input.file_name().unwrap().to_str().unwrap().starts_with("broken_") {
            continue;
        }
        let json: Value = serde_json::from_slice(&fs::read(&input).unwrap()).unwrap();
        let list = json.as_array().or_else(|| json["flows"].as_array());
        ways += match list {
            Some(list) if list.iter().all(|entry| entry["nodes"].is_array()) => {
                list.iter().map(|workflow| check_n8n(&input, workflow)).sum()
            }
            Some(list) => check_red(&input, list),
            None => check_n8n(&input, &json),
        };
    }
    assert!(ways > 90, "only {ways} ways");
}
