//! The variables that Node-RED's flows themselves set: for all flows, for a tab, for a subflow and for each use of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flow_node::{FlowNode, text};

/// What a variable is for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// The flows set it to this, in which a `${NAME}` is a variable of the environment.
    Text(String),
    /// The flows set it, but an export does not have its value; says why.
    Undecided(&'static str),
    /// The flows do not set it, so it is one of the environment.
    Unset,
}

const DIFFERS: Setting = Setting::Undecided("has another value in each use of its subflow");

/// The variables of all flows.
pub(super) struct FlowVariables<'j> {
    globals: BTreeMap<&'j str, Setting>,
    /// The variables of each tab and each subflow, as they are written.
    flows: BTreeMap<&'j str, &'j Value>,
    /// The uses of each subflow that run, one for each place where it is drawn.
    uses: BTreeMap<&'j str, BTreeMap<&'j str, &'j Value>>,
}

impl<'j> FlowVariables<'j> {
    /// Of nodes among which the uses of subflows are known.
    pub(super) fn read(nodes: &[FlowNode<'j>]) -> FlowVariables<'j> {
        let mut variables = FlowVariables { globals: BTreeMap::new(), flows: BTreeMap::new(), uses: BTreeMap::new() };
        for node in nodes {
            match node.kind {
                "global-config" => {
                    let own = entries(node.json).filter_map(|entry| Some((entry["name"].as_str()?, global(entry))));
                    variables.globals.extend(own);
                }
                "tab" | "subflow" => drop(variables.flows.insert(node.id, node.json)),
                kind if node.unfolded => {
                    if let Some(subflow) = kind.strip_prefix("subflow:") {
                        variables.uses.entry(subflow).or_default().insert(node.id, node.json);
                    }
                }
                _ => {}
            }
        }
        variables
    }

    /// What `name` is in a tab or a subflow, or for what is in none of them.
    pub(super) fn setting(&self, flow: Option<&'j str>, name: &'j str) -> Setting {
        self.find(flow, name, &mut BTreeMap::new())
    }

    /// `known` has what was found before: subflows in subflows would be looked at again and again. A variable that is
    /// defined by itself is not set.
    fn find(&self, flow: Option<&'j str>, name: &'j str, known: &mut BTreeMap<(&'j str, &'j str), Setting>) -> Setting {
        let global = || self.globals.get(name).cloned().unwrap_or(Setting::Unset);
        let Some((flow, json)) = flow.and_then(|id| Some((id, *self.flows.get(id)?))) else { return global() };
        if let Some(found) = known.get(&(flow, name)) {
            return found.clone();
        }
        known.insert((flow, name), Setting::Unset);
        let found = match (json["type"] == "subflow", self.uses.get(flow)) {
            (true, Some(uses)) => {
                let mut of_uses = uses.values().map(|usage| {
                    let around = usage["z"].as_str();
                    match entry(usage, name).or_else(|| entry(json, name)) {
                        Some(entry) => self.value(entry, around, known),
                        None => self.find(around, name, known),
                    }
                });
                let first = of_uses.next().unwrap_or(Setting::Unset);
                if of_uses.all(|other| other == first) { first } else { DIFFERS }
            }
            _ => match (name, entry(json, name)) {
                // Node-RED's own, whatever the tab sets.
                ("NR_FLOW_ID", _) => Setting::Text(flow.to_owned()),
                ("NR_FLOW_NAME", _) => Setting::Text(text(&json["label"])),
                (_, Some(entry)) => self.value(entry, None, known),
                (_, None) => global(),
            },
        };
        known.insert((flow, name), found.clone());
        found
    }

    /// What an entry says; a variable that it names is looked for in `around`.
    fn value(
        &self,
        entry: &'j Value,
        around: Option<&'j str>,
        known: &mut BTreeMap<(&'j str, &'j str), Setting>,
    ) -> Setting {
        match (entry["type"].as_str(), entry["value"].as_str()) {
            (Some("env"), Some(name)) => match self.find(around, name, known) {
                Setting::Unset => Setting::Text(format!("${{{name}}}")),
                found => found,
            },
            _ => plain(entry),
        }
    }
}

/// An entry for all flows: a variable that it names is one of the environment.
fn global(entry: &Value) -> Setting {
    match (entry["type"].as_str(), entry["value"].as_str()) {
        (Some("env"), Some(name)) => Setting::Text(format!("${{{name}}}")),
        _ => plain(entry),
    }
}

fn plain(entry: &Value) -> Setting {
    match entry["type"].as_str() {
        Some("str" | "num" | "bool") | None => Setting::Text(text(&entry["value"])),
        Some("cred") => Setting::Undecided("is a secret of Node-RED's own store, which an export does not contain"),
        Some(_) => Setting::Undecided("is computed by Node-RED"),
    }
}

fn entries(json: &Value) -> impl Iterator<Item = &Value> {
    json["env"].as_array().into_iter().flatten()
}

/// The last of a name is the one that counts.
fn entry<'j>(json: &'j Value, name: &str) -> Option<&'j Value> {
    json["env"].as_array()?.iter().rev().find(|entry| entry["name"] == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::flows::Flows;
    use super::*;

    fn found(export: &Value, flow: Option<&'static str>, name: &'static str) -> Setting {
        let flows = Flows::read(export.as_array().unwrap()).unwrap();
        flows.variables.setting(flow, name)
    }

    fn text(text: &str) -> Setting {
        Setting::Text(text.to_owned())
    }

    #[test]
    fn a_variable_is_looked_for_from_the_inside_out() {
        let variable = |name: &str, kind: &str, value: &str| json!({ "name": name, "type": kind, "value": value });
        let flows = json!([
            { "id": "g", "type": "global-config", "env": [variable("A", "str", "global"), variable("G", "env", "HOME")] },
            { "id": "t", "type": "tab", "env": [
                variable("A", "str", "tab"), variable("B", "env", "A"), variable("C", "cred", ""), variable("D", "jsonata", "1+1"),
                { "name": "N", "type": "num", "value": 5 }, variable("SELF", "env", "SELF"),
            ] },
            { "id": "u", "type": "tab", "label": "Hall 3" },
            { "id": "s", "type": "subflow", "env": [variable("A", "str", "subflow"), variable("E", "str", "same")] },
            { "id": "1", "type": "subflow:s", "z": "t", "env": [variable("X", "env", "A"), variable("Y", "str", "one")] },
            { "id": "2", "type": "subflow:s", "z": "u", "env": [variable("Y", "str", "two"), variable("X", "str", "tab")] },
            { "id": "off", "type": "subflow:s", "z": "u", "d": true, "env": [variable("E", "str", "other")] },
            { "id": "p", "type": "subflow", "env": [variable("Q", "str", "by default")] },
        ]);
        for (flow, name, expected) in [
            (None, "A", text("global")),
            (None, "G", text("${HOME}")),
            (None, "NOT", Setting::Unset),
            (Some("gone"), "A", text("global")),
            (Some("t"), "A", text("tab")),
            (Some("u"), "A", text("global")),
            // The value of a tab's variable may be another one of all flows, or of the environment.
            (Some("t"), "B", text("global")),
            (Some("t"), "N", text("5")),
            (Some("t"), "SELF", text("${SELF}")),
            (
                Some("t"),
                "C",
                Setting::Undecided("is a secret of Node-RED's own store, which an export does not contain"),
            ),
            (Some("t"), "D", Setting::Undecided("is computed by Node-RED")),
            (Some("u"), "NR_FLOW_NAME", text("Hall 3")),
            (Some("s"), "NR_FLOW_ID", DIFFERS),
            (Some("s"), "A", text("subflow")),
            (Some("s"), "E", text("same")),
            (Some("s"), "X", text("tab")),
            (Some("s"), "Y", DIFFERS),
            // What a use does not set is that of the flow around it.
            (Some("s"), "N", DIFFERS),
            (Some("s"), "G", text("${HOME}")),
            (Some("p"), "Q", text("by default")),
        ] {
            assert_eq!(found(&flows, flow, name), expected, "{flow:?} {name}");
        }
    }

    #[test]
    fn subflows_in_subflows_are_looked_at_once() {
        let mut flows = vec![json!({ "id": "use", "type": "subflow:0" })];
        for level in 0..13 {
            flows.push(json!({ "id": level.to_string(), "type": "subflow" }));
            for twin in ["a", "b"].iter().filter(|_| level < 12) {
                flows.push(json!({ "id": format!("{level}{twin}"), "type": format!("subflow:{}", level + 1), "z": level.to_string() }));
            }
        }
        assert_eq!(found(&Value::from(flows), Some("12"), "A"), Setting::Unset);
    }
}
