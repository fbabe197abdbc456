//! What is imported: the JSON of an export, and what it does not say.

use serde_json::Value;

use super::values::Environment;

/// What to do about a file that cannot be imported.
pub(super) const HOW_TO_EXPORT: &str =
    "export the flows again: in Node-RED 'Export' and then 'JSON', in n8n 'Download' of the workflow";

/// What the flows do not say.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) root: &'a str,
    pub(super) port: u16,
    pub(super) environment: Environment<'a>,
}

/// The list of Node-RED's nodes, or n8n's workflows.
pub(super) enum Export<'j> {
    NodeRed(&'j [Value]),
    N8n(Vec<&'j Value>),
}

impl<'j> Export<'j> {
    /// What this JSON is, if it is either.
    pub(super) fn of(value: &'j Value) -> Option<Export<'j>> {
        let is_workflow = |value: &Value| value["nodes"].is_array();
        match value {
            // The second version of Node-RED's interface wraps the list.
            Value::Object(object) if object.get("flows").is_some_and(Value::is_array) => Export::of(&object["flows"]),
            Value::Object(_) if is_workflow(value) => Some(Export::N8n(vec![value])),
            Value::Array(values) if !values.is_empty() && values.iter().all(is_workflow) => {
                Some(Export::N8n(values.iter().collect()))
            }
            Value::Array(nodes) if nodes.iter().any(|node| node["id"].is_string() && node["type"].is_string()) => {
                Some(Export::NodeRed(nodes))
            }
            _ => None,
        }
    }
}
