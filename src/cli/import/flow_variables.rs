//! The variables that Node-RED's flows themselves set: for all flows, for a tab, for a group, for a subflow and for each use
//! of it.

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
const TOO_LONG: Setting = Setting::Undecided("is too long");
const TOO_DEEP: Setting = Setting::Undecided("is set in too many groups or subflows, one in the other");

/// What a name begins with that is looked for further outside, as often as it stands there.
const PARENT: &str = "$parent.";

/// The most bytes of a value that is made of others, each of which may be made of others again.
const TEXT_MAX: usize = 4096;

/// The most groups and subflows around one another in which a variable is looked for.
const DEPTH_MAX: usize = 100;

/// The variables of all flows.
pub(super) struct FlowVariables<'j> {
    /// The entries for all flows.
    globals: Vec<&'j Value>,
    /// Each tab and each subflow, as it is written.
    flows: BTreeMap<&'j str, &'j Value>,
    /// Each group.
    groups: BTreeMap<&'j str, &'j Value>,
    /// The uses of each subflow that run, one for each place where it is drawn.
    uses: BTreeMap<&'j str, BTreeMap<&'j str, &'j Value>>,
}

/// What sets variables: something that is drawn, around a node or around another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope<'j> {
    /// All flows.
    All,
    /// A tab or a subflow.
    Flow(&'j str),
    Group(&'j str),
}

/// What was found before: subflows in subflows would be looked at again and again. A variable that is
/// defined by itself is not set.
#[derive(Default)]
struct Search<'j> {
    known: BTreeMap<(Scope<'j>, &'j str), Setting>,
    depth: usize,
}

impl<'j> FlowVariables<'j> {
    /// Of nodes among which the uses of subflows are known.
    pub(super) fn read(nodes: &[FlowNode<'j>]) -> FlowVariables<'j> {
        let (globals, uses) = (Vec::new(), BTreeMap::new());
        let mut variables = FlowVariables { globals, flows: BTreeMap::new(), groups: BTreeMap::new(), uses };
        for node in nodes {
            match node.kind {
                "global-config" => variables.globals.extend(entries(node.json)),
                "tab" | "subflow" => drop(variables.flows.insert(node.id, node.json)),
                "group" => drop(variables.groups.insert(node.id, node.json)),
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

    /// What `name` is for a node, by the tab or subflow that it is in, if there is one.
    pub(super) fn setting(&self, flow: Option<&'j str>, name: &'j str) -> Setting {
        let found = self.find(flow.map_or(Scope::All, Scope::Flow), name, &mut Search::default());
        // What is looked for outside of all is the environment's without what it begins with.
        if name.starts_with(PARENT) { of_environment(found, name) } else { found }
    }

    /// What `name` is for what is drawn in this.
    fn find(&self, scope: Scope<'j>, name: &'j str, search: &mut Search<'j>) -> Setting {
        if let Some(found) = search.known.get(&(scope, name)) {
            return found.clone();
        }
        if search.depth == DEPTH_MAX {
            return TOO_DEEP;
        }
        search.known.insert((scope, name), Setting::Unset);
        search.depth += 1;
        let found = match scope {
            Scope::All => level(&self.globals, name, &mut |_| Setting::Unset),
            Scope::Flow(id) => match self.flows.get(id) {
                None => self.find(Scope::All, name, search),
                Some(flow) if flow["type"] == "subflow" && self.uses.contains_key(id) => {
                    let mut of_uses = self.uses[id].values().map(|usage| self.find_in_use(flow, usage, name, search));
                    let first = of_uses.next().unwrap_or(Setting::Unset);
                    if of_uses.all(|other| other == first) { first } else { DIFFERS }
                }
                Some(flow) => match name {
                    // Node-RED's own, whatever the tab sets.
                    "NR_FLOW_ID" => Setting::Text(id.to_owned()),
                    "NR_FLOW_NAME" => Setting::Text(text(&flow["label"])),
                    _ => level(&entries(flow).collect::<Vec<_>>(), name, &mut |outer| {
                        self.find(Scope::All, outer, search)
                    }),
                },
            },
            Scope::Group(id) => {
                let group = self.groups[id];
                match name {
                    "NR_GROUP_ID" => Setting::Text(id.to_owned()),
                    "NR_GROUP_NAME" => Setting::Text(text(&group["name"])),
                    _ => level(&entries(group).collect::<Vec<_>>(), name, &mut |outer| {
                        self.find(self.around(group), outer, search)
                    }),
                }
            }
        };
        search.depth -= 1;
        search.known.insert((scope, name), found.clone());
        found
    }

    /// What `name` is in one use of a subflow.
    fn find_in_use(&self, subflow: &'j Value, usage: &'j Value, name: &'j str, search: &mut Search<'j>) -> Setting {
        match name {
            "NR_NODE_NAME" | "NR_SUBFLOW_NAME" => return Setting::Text(text(&usage["name"])),
            "NR_NODE_ID" | "NR_SUBFLOW_ID" | "NR_NODE_PATH" | "NR_SUBFLOW_PATH" => {
                return Setting::Undecided("is made by Node-RED for each use of a subflow");
            }
            _ => {}
        }
        // What a use sets stands in the place of what the subflow sets, or behind it.
        let mut own: Vec<&Value> = entries(subflow).collect();
        for entry in entries(usage) {
            match own.iter_mut().find(|other| other["name"] == entry["name"]) {
                Some(other) => *other = entry,
                None => own.push(entry),
            }
        }
        level(&own, name, &mut |outer| self.find(self.around(usage), outer, search))
    }

    /// What the use of a subflow or a group is drawn in.
    fn around(&self, drawn: &'j Value) -> Scope<'j> {
        let group = drawn["g"].as_str().filter(|id| self.groups.contains_key(id));
        group.map(Scope::Group).or(drawn["z"].as_str().map(Scope::Flow)).unwrap_or(Scope::All)
    }
}

/// What `name` is where these entries stand. What they do not set is looked for `outside`.
fn level<'j>(entries: &[&'j Value], name: &'j str, outside: &mut dyn FnMut(&'j str) -> Setting) -> Setting {
    if let Some(outer) = name.strip_prefix(PARENT) {
        return outside(outer);
    }
    // The last of a name is the one that counts.
    let Some(at) = entries.iter().rposition(|entry| entry["name"] == name) else { return outside(name) };
    // An entry can name those before it.
    let mut before = BTreeMap::new();
    for entry in &entries[..=at] {
        let Some(own) = entry["name"].as_str() else { continue };
        let value = match (entry["type"].as_str(), entry["value"].as_str()) {
            (Some("env"), Some(value)) if value == own => of_environment(outside(own), own),
            (Some("env"), Some(value)) => named(value, &mut |name| {
                let there = before.get(name).cloned();
                // Of those behind it Node-RED has not looked further than at their text.
                let behind = || entries.iter().rev().find(|entry| entry["name"] == name).map(|entry| plain(entry));
                there.or_else(behind).unwrap_or_else(|| outside(name.strip_prefix(PARENT).unwrap_or(name)))
            }),
            _ => plain(entry),
        };
        before.insert(own, value);
    }
    before.remove(name).unwrap_or(Setting::Unset)
}

/// What a text of variables is: a name, `${NAME}`, or several of these with text between them.
fn named<'j>(value: &'j str, find: &mut dyn FnMut(&'j str) -> Setting) -> Setting {
    let whole = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|name| !name.contains('}'));
    if let Some(name) = whole.or_else(|| (!value.contains("${")).then_some(value)) {
        return of_environment(find(name), name);
    }
    let (mut made, mut rest) = (String::new(), value);
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, behind)) = behind.split_once('}') else { break };
        made.push_str(before);
        match of_environment(find(name), name) {
            Setting::Text(text) => made.push_str(&text),
            other => return other,
        }
        if made.len() > TEXT_MAX {
            return TOO_LONG;
        }
        rest = behind;
    }
    made.push_str(rest);
    Setting::Text(made)
}

/// The same, where what the flows do not set is a variable of the environment.
fn of_environment(found: Setting, name: &str) -> Setting {
    match found {
        Setting::Unset => Setting::Text(format!("${{{}}}", name.trim_start_matches(PARENT))),
        found => found,
    }
}

fn plain(entry: &Value) -> Setting {
    match entry["type"].as_str() {
        Some("str" | "num" | "bool" | "env") | None => Setting::Text(text(&entry["value"])),
        Some("cred") => Setting::Undecided("is a secret of Node-RED's own store, which an export does not contain"),
        Some(_) => Setting::Undecided("is computed by Node-RED"),
    }
}

fn entries(json: &Value) -> impl Iterator<Item = &Value> {
    json["env"].as_array().into_iter().flatten()
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
            // The value of a tab's variable may be another one of the same tab, of all flows, or of the environment.
            (Some("t"), "B", text("tab")),
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
            // One use names the variable of the subflow itself.
            (Some("s"), "X", DIFFERS),
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
    fn a_variable_may_be_made_of_others_and_of_those_further_outside() {
        let variable = |name: &str, kind: &str, value: &str| json!({ "name": name, "type": kind, "value": value });
        let flows = json!([
            { "id": "g", "type": "global-config", "env": [variable("A", "str", "global")] },
            { "id": "t", "type": "tab", "env": [
                variable("A", "str", "tab"), variable("L", "env", "M"), variable("M", "env", "A"), variable("U", "env", "${A}"),
                variable("T", "env", "x${A}y${Q}"), variable("P", "env", "$parent.A"), variable("PP", "env", "x${$parent.A}"),
            ] },
            { "id": "outer", "type": "group", "z": "t", "name": "Outer", "env": [variable("A", "str", "outer")] },
            { "id": "inner", "type": "group", "z": "t", "g": "outer", "env": [variable("A", "env", "A"), variable("B", "env", "A")] },
            { "id": "s", "type": "subflow", "env": [variable("A", "env", "$parent.A"), variable("X", "env", "B")] },
            { "id": "1", "type": "subflow:s", "z": "t", "g": "inner", "name": "use" },
            { "id": "r", "type": "subflow" },
            { "id": "2", "type": "subflow:r", "z": "t", "g": "gone" },
        ]);
        for (flow, name, expected) in [
            (Some("t"), "U", "tab"),
            (Some("t"), "T", "xtaby${Q}"),
            (Some("t"), "M", "tab"),
            // As Node-RED 4.1 has it: what stands behind is not evaluated yet.
            (Some("t"), "L", "A"),
            (Some("t"), "P", "global"),
            (Some("t"), "PP", "xglobal"),
            (Some("t"), "$parent.A", "global"),
            (Some("t"), "$parent.$parent.A", "${A}"),
            (None, "$parent.A", "${A}"),
            (Some("s"), "A", "outer"),
            (Some("s"), "X", "outer"),
            (Some("s"), "NR_GROUP_NAME", ""),
            (Some("s"), "NR_SUBFLOW_NAME", "use"),
            (Some("s"), "$parent.A", "outer"),
            (Some("s"), "$parent.$parent.A", "outer"),
            (Some("s"), "$parent.$parent.$parent.A", "tab"),
            (Some("r"), "A", "tab"),
        ] {
            assert_eq!(found(&flows, flow, name), text(expected), "{flow:?} {name}");
        }
    }

    #[test]
    fn values_that_double_and_groups_without_end_come_to_an_end() {
        let variable = |name: String, value: String| json!({ "name": name, "type": "env", "value": value });
        let mut env = vec![json!({ "name": "0", "type": "str", "value": "ha" })];
        env.extend((1..100).map(|n| variable(n.to_string(), format!("${{{0}}}${{{0}}}", n - 1))));
        let mut flows = vec![json!({ "id": "t", "type": "tab", "env": env }), json!({ "id": "s", "type": "subflow" })];
        for group in 0..5000 {
            flows.push(json!({ "id": group.to_string(), "type": "group", "z": "t", "g": (group + 1).to_string() }));
        }
        flows.push(json!({ "id": "circle", "type": "group", "z": "t", "g": "circle" }));
        flows.push(json!({ "id": "c", "type": "subflow" }));
        flows.push(json!({ "id": "u1", "type": "subflow:s", "z": "t", "g": "0" }));
        flows.push(json!({ "id": "u2", "type": "subflow:c", "z": "t", "g": "circle" }));
        let flows = Value::from(flows);
        assert_eq!(found(&flows, Some("t"), "99"), TOO_LONG);
        assert_eq!(found(&flows, Some("s"), "X"), TOO_DEEP);
        assert_eq!(found(&flows, Some("c"), "X"), Setting::Unset);
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
