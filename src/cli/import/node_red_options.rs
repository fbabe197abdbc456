//! What Node-RED says about a listener or a client, as keys of its table.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::flow_node::{FlowNode, text};
use super::flow_variables::Setting;
use super::flows::Flows;
use super::plan::{Block, DECIDE};
use super::values::{Environment, foreign_variable, list, modern, quoted, resolved, shown, variable, written};

/// The longest heartbeat that a link can have, in seconds.
const HEARTBEAT_SECONDS_MAX: u64 = 24 * 60 * 60;

/// The variables that the options may name.
#[derive(Clone, Copy)]
pub(super) struct NodeOptions<'a> {
    pub(super) flows: &'a Flows<'a>,
    pub(super) environment: Environment<'a>,
}

/// A variable whose value only Node-RED has, and why.
pub(super) struct Undecided {
    name: String,
    why: &'static str,
}

impl fmt::Display for Undecided {
    /// `"${NAME}" in Node-RED, and NAME is computed by Node-RED`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undecided { name, why } = self;
        write!(f, "{} in Node-RED, and {} {why}", shown(&format!("${{{name}}}")), shown(name).trim_matches('"'))
    }
}

impl NodeOptions<'_> {
    /// A text of a node with the variables of the flows in place; those of the environment stay.
    pub(super) fn value(&self, node: &FlowNode<'_>, text: &str) -> Result<String, Undecided> {
        let Some(name) = variable(text).or_else(|| foreign_variable(text)) else { return Ok(text.to_owned()) };
        match self.flows.variables.setting(node.json["z"].as_str(), name) {
            Setting::Text(value) => Ok(value),
            Setting::Unset => Ok(text.to_owned()),
            Setting::Undecided(why) => Err(Undecided { name: name.to_owned(), why }),
        }
    }

    /// A text with all variables in place, as far as they are set, and what is to be said about it.
    fn fixed(&self, node: &FlowNode<'_>, key: &str) -> (String, Vec<String>) {
        let text = match self.value(node, &node.text(key)) {
            Ok(text) => text,
            Err(undecided) => return (String::new(), vec![format!("{DECIDE}{key} is {undecided}: write the value.")]),
        };
        match resolved(&text, self.environment) {
            Ok(value) if variable(&text).is_some() => {
                (value, vec![format!("This is the value of {} during the import.", shown(&text))])
            }
            Ok(value) => (value, Vec::new()),
            Err(name) => {
                let remark = format!(
                    "{DECIDE}{key} is {} in Node-RED, and {name} was not set during the import: set it and import \
                     again, or write the value.",
                    shown(&text)
                );
                (String::new(), vec![remark])
            }
        }
    }

    pub(super) fn format(&self, node: &FlowNode<'_>, block: &mut Block) {
        let (whole, mut remarks) = self.fixed(node, "wholemsg");
        if whole == "true" {
            remarks.push(
                "\"Send/Receive entire message\" in Node-RED; unlike Node-RED, wsgate also sends _session.".to_owned(),
            );
        }
        let format = if whole == "true" { "message" } else { "payload" };
        block.set("format", quoted(format), &remarks);
    }

    pub(super) fn heartbeat(&self, node: &FlowNode<'_>, block: &mut Block) {
        let (seconds, mut remarks) = self.fixed(node, "hb");
        match seconds.trim().parse::<u64>() {
            Ok(seconds @ 1..=HEARTBEAT_SECONDS_MAX) => block.set("heartbeat", quoted(&format!("{seconds}s")), &remarks),
            Ok(0) => {
                remarks.push(
                    "The heartbeat is off in Node-RED, so a dead connection stays open; wsgate closes it.".to_owned(),
                );
                block.set("heartbeat", quoted("30s"), &remarks);
            }
            _ if seconds.is_empty() => block.set("heartbeat", quoted("30s"), &remarks),
            _ => {
                // A value of the environment is not shown.
                let seconds = self.value(node, &node.text("hb")).unwrap_or_else(|undecided| undecided.name);
                let seconds = shown(&seconds);
                remarks.push(format!("{DECIDE}the heartbeat is {seconds} s in Node-RED; wsgate allows 1 s to 24 h."));
                block.set("heartbeat", quoted("30s"), &remarks);
            }
        }
    }

    pub(super) fn subprotocols(&self, node: &FlowNode<'_>, block: &mut Block) {
        let (names, remarks) = self.fixed(node, "subprotocol");
        let mut offered: Vec<&str> = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !offered.contains(&name) {
                offered.push(name);
            }
        }
        let names: Vec<String> = offered.into_iter().map(|name| name.replace("${", "$${")).collect();
        if !names.is_empty() || !remarks.is_empty() {
            block.set("subprotocols", list(names.iter().map(|name| &**name)), &remarks);
        }
    }

    pub(super) fn headers(&self, node: &FlowNode<'_>, block: &mut Block, user_in_url: bool) {
        let mut names: BTreeSet<String> = BTreeSet::new();
        for header in node.json["headers"].as_array().into_iter().flatten() {
            let (name, value) = match self.header(node, header) {
                Ok(header) => header,
                Err(undecided) => {
                    block.comments.push(format!("{DECIDE}a header is left out, because a part of it is {undecided}."));
                    continue;
                }
            };
            let value_here = resolved(&value, self.environment);
            // Node-RED skips these too.
            if name.is_empty() || value.is_empty() || value_here.is_ok_and(|value| value.is_empty()) {
                continue;
            }
            let mut remarks = Vec::new();
            if name.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
                || !names.insert(name.to_ascii_lowercase())
            {
                block.comments.push(format!(
                    "{DECIDE}the header {} of Node-RED is left out, because its name is not valid or is there twice.",
                    shown(&name)
                ));
                continue;
            }
            if let Some(variable) = foreign_variable(&value) {
                block.comments.push(format!(
                    "{DECIDE}the header {} is left out, because its value is the variable {}, and wsgate takes only letters, digits \
                     and \"_\" in the name of a variable.",
                    shown(&name),
                    shown(variable)
                ));
                continue;
            }
            if name.eq_ignore_ascii_case("authorization") && user_in_url {
                block.comments.push(format!("{DECIDE}the header Authorization is left out, because the URL has a user: remove one of the two in Node-RED and \
                     import again."));
                continue;
            }
            if name.eq_ignore_ascii_case("authorization") && variable(&value).is_none() {
                remarks.push(
                    "This secret is readable here, as in the flows: better write \"${NAME}\" or { file = \"key.txt\" }."
                        .to_owned(),
                );
            }
            block.set(&format!("headers.{name}"), quoted(&written(&value)), &remarks);
        }
    }

    /// The name and the value of a header.
    fn header(&self, node: &FlowNode<'_>, header: &Value) -> Result<(String, String), Undecided> {
        let part = |key: &str| self.value(node, &text(&header[key]));
        let kind = part("keyType")?;
        let name = if kind == "other" { part("keyValue")? } else { kind };
        let value = match &*part("valueType")? {
            "env" => self.value(node, &modern(&format!("$({})", text(&header["valueValue"]))))?,
            "other" => part("valueValue")?,
            kind => kind.to_owned(),
        };
        Ok((name, value))
    }

    pub(super) fn tls(&self, node: &FlowNode<'_>, block: &mut Block) {
        let mut undecided = Vec::new();
        let mut file = |key: &str| match self.value(node, &node.text(key)) {
            Ok(path) => {
                let is_empty = resolved(&path, self.environment).is_ok_and(|path| path.is_empty());
                (!is_empty).then(|| quoted(&written(&path)))
            }
            Err(why) => {
                undecided.push(format!("{DECIDE}{key} of the {} is {why}: write it into tls.", node.label()));
                None
            }
        };
        let of = format!("From the {}.", node.label());
        let mut first = true;
        let mut set = |block: &mut Block, key: &str, value: String| {
            block.set(key, value, if std::mem::take(&mut first) { std::slice::from_ref(&of) } else { &[] });
        };
        if let Some(ca) = file("ca") {
            set(block, "tls.ca", ca);
        }
        match (file("cert"), file("key")) {
            (Some(certificate), Some(key)) => {
                set(block, "tls.certificate", certificate);
                set(block, "tls.private_key", key);
            }
            (None, None) => {}
            _ => block.comments.push(format!("{DECIDE}{} has a certificate or a key, but not both.", node.label())),
        }
        if let Some(name) = file("servername") {
            set(block, "tls.server_name", name);
        }
        block.comments.append(&mut undecided);
        if node.json["verifyservercert"] == false {
            set(block, "tls.verify", "false".to_owned());
        }
        let uploaded = ["certname", "keyname", "caname", "p12name"].iter().any(|key| !node.text(key).is_empty());
        if uploaded || matches!(&*node.text("certType"), "pfx" | "upload") {
            block.comments.push(format!(
                "{DECIDE}{} has certificates or keys in Node-RED's own store, which an export does not contain: save \
                 them as PEM files and write tls.ca, tls.certificate and tls.private_key. A key must have no passphrase.",
                node.label()
            ));
        }
        if !node.text("alpnprotocol").is_empty() {
            block.comments.push(format!("{} sets ALPN, which wsgate does not support.", node.label()));
        }
    }
}
