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

/// Whether this is a node of n8n alone, copied out of its workflow. Node-RED's nodes have no parameters.
pub(super) fn is_n8n_node(value: &Value) -> bool {
    value["name"].is_string() && value["type"].is_string() && value["parameters"].is_object()
}

/// The list of Node-RED's nodes, or n8n's workflows, of which some may be a node alone.
pub(super) enum Export<'j> {
    NodeRed(&'j [Value]),
    N8n(Vec<&'j Value>),
}

impl<'j> Export<'j> {
    /// What this JSON is, if it is either.
    pub(super) fn of(value: &'j Value) -> Option<Export<'j>> {
        let is_workflow = |value: &Value| value["nodes"].is_array();
        let is_node = |value: &Value| value["id"].is_string() && value["type"].is_string();
        match value {
            // The second version of Node-RED's interface wraps the list.
            Value::Object(object) if object.get("flows").is_some_and(Value::is_array) => Export::of(&object["flows"]),
            // n8n's interface wraps the list too, and its history the one workflow.
            Value::Object(object) if object.get("data").is_some_and(Value::is_array) => Export::of(&object["data"]),
            Value::Object(object) if object.get("workflowData").is_some_and(is_workflow) => {
                Some(Export::N8n(vec![&object["workflowData"]]))
            }
            Value::Object(_) if is_workflow(value) => Some(Export::N8n(vec![value])),
            Value::Object(_) if is_n8n_node(value) => Some(Export::N8n(vec![value])),
            Value::Object(_) if is_node(value) => Some(Export::NodeRed(std::slice::from_ref(value))),
            Value::Array(values) if !values.is_empty() && values.iter().all(is_workflow) => {
                Some(Export::N8n(values.iter().collect()))
            }
            Value::Array(nodes) if !nodes.is_empty() && nodes.iter().all(is_n8n_node) => {
                Some(Export::N8n(nodes.iter().collect()))
            }
            Value::Array(nodes) if nodes.iter().any(is_node) => Some(Export::NodeRed(nodes)),
            _ => None,
        }
    }
}
