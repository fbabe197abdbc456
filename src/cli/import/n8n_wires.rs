//! n8n's connections: where the messages of a trigger or a client go.
//!
//! wsgate runs no workflows, so n8n connects to wsgate as a client and gets there what a trigger would have given to its
//! workflow. Only that endpoint has n8n's form, which names the address of each client; the clients see payloads.

use super::n8n::{CONSUMERS, TranslatedWorkflow, WorkflowImport};
use super::plan::{Block, BlockKind, DECIDE};
use super::values::quoted;
use super::workflows::{Role, Workflow, WorkflowNode};

impl WorkflowImport<'_> {
    /// Adds the destinations of a workflow's nodes.
    pub(super) fn connect(&mut self, translated: &TranslatedWorkflow<'_>) {
        for (node, block) in &translated.blocks {
            match translated.workflow.nodes[*node].role {
                Role::Server => self.connect_server(translated, *node, *block),
                _ => self.connect_client(translated, *node, *block),
            }
        }
    }

    fn connect_server(&mut self, translated: &TranslatedWorkflow<'_>, node: usize, block: usize) {
        let workflow = &translated.workflow;
        let trigger = &workflow.nodes[node];
        let (mut behind, mut answers) = (Vec::new(), false);
        for next in workflow.next(node) {
            let target = &workflow.nodes[next];
            match (target.role, translated.blocks.get(&next)) {
                (Role::Response, _) => {
                    let to_all = target.parameters.values.values().any(|value| **value == "broadcast");
                    let destination = if to_all { "broadcast" } else { "reply" };
                    self.plan.blocks[block].send_to(destination.to_owned(), None);
                    answers = true;
                }
                (Role::Client, Some(link)) => {
                    let destination = format!("link:{}", self.plan.blocks[*link].name);
                    self.plan.blocks[block].send_to(destination, None);
                }
                _ => behind.push(target.label()),
            }
        }
        if !behind.is_empty() || self.plan.blocks[block].goes_nowhere() {
            let answers = answers || workflow.nodes.iter().any(|node| node.role == Role::Response);
            self.add_consumer(trigger, &behind, answers, block);
        }
        if !trigger.is_standalone() && !answers {
            let remark = format!(
                "{DECIDE}n8n's description says that messages are broadcast to all clients, but its code gives them only to \
                 the workflow: add \"broadcast\" if the other clients should get them."
            );
            self.plan.blocks[block].remark_on_to(Some(remark));
        }
    }

    /// An endpoint at which n8n gets what the clients of a trigger send, and as far as its package can, answers them.
    fn add_consumer(&mut self, trigger: &WorkflowNode<'_>, behind: &[String], answers: bool, block: usize) {
        let wanted = format!("/n8n{}", self.plan.blocks[block].name.trim_end_matches('/'));
        let mut paths = std::iter::once(wanted.clone()).chain((2..).map(|number| format!("{wanted}-{number}")));
        let path = paths.find(|path| self.paths.insert(path.clone())).expect("there are more numbers than paths");
        let to = if behind.is_empty() { String::new() } else { format!(" to {}", behind.join(" and ")) };
        let remark = format!(
            "{DECIDE}messages go on{to} in n8n, but wsgate runs no workflows: let a WebSocket client node of n8n connect to \
             ws://127.0.0.1:{}{path} and start the workflow there, or remove this destination.",
            self.consumer_port()
        );
        self.plan.blocks[block].send_to(format!("endpoint:{path}"), Some(remark));
        let mut consumer = Block::new(BlockKind::Endpoint, &path);
        consumer.comments.push(format!("For n8n itself, in the place of the trigger {}.", trigger.label()));
        consumer.set("listen", format!("[{}]", quoted(CONSUMERS)), &[]);
        if trigger.is_standalone() {
            let remark = "This n8n package adds clientId, serverId and more to the message. The format \"message\" is the \
                          closest: it has the client as _session.";
            consumer.set("format", quoted("message"), &[remark.to_owned()]);
            if answers {
                let remark = "An answer with this _session goes to that client only.";
                consumer.set("address_sessions", "true", &[remark.to_owned()]);
            }
        } else {
            consumer.set("format", quoted("n8n"), &[]);
        }
        self.has_consumers = true;
        self.plan.blocks.push(consumer);
    }

    fn connect_client(&mut self, translated: &TranslatedWorkflow<'_>, node: usize, block: usize) {
        let workflow = &translated.workflow;
        for next in workflow.next(node) {
            let (destination, remark) = self.destination_of_client(translated, node, next);
            match destination {
                Some(destination) => self.plan.blocks[block].send_to(destination, remark),
                None => self.plan.blocks[block].remark_on_to(remark),
            }
        }
        let block = &mut self.plan.blocks[block];
        if block.goes_nowhere() {
            block.remark_on_to(Some(
                "No other WebSocket node gets these messages directly, so wsgate reads and discards them.".into(),
            ));
        }
    }

    /// Whether triggers of several ports have this path.
    fn is_path_of_several(&self, path: &str) -> bool {
        let is_one = |block: &&Block| block.kind == BlockKind::Endpoint && block.name == path;
        self.plan.blocks.iter().filter(is_one).count() > 1
    }

    /// Where the messages of a client go, and what is to be said about it.
    fn destination_of_client(
        &self,
        translated: &TranslatedWorkflow<'_>,
        node: usize,
        next: usize,
    ) -> (Option<String>, Option<String>) {
        let TranslatedWorkflow { workflow, blocks } = translated;
        let target = &workflow.nodes[next];
        let name = |block: &usize| &*self.plan.blocks[*block].name;
        match (target.role, blocks.get(&next)) {
            (Role::Client, Some(_)) if next == node => (Some("reply".to_owned()), None),
            (Role::Client, Some(link)) => (Some(format!("link:{}", name(link))), None),
            // A response goes to the clients of a server; which, only the running workflow knows if there are several.
            (Role::Response, _) => match servers(workflow, translated)[..] {
                [server] if !self.is_path_of_several(name(&server)) => {
                    (Some(format!("endpoint:{}", name(&server))), None)
                }
                [server] => (
                    None,
                    Some(format!(
                        "{DECIDE}messages also go to {}, but {} is the path of several triggers, and \"endpoint:{}\" would \
                         send to the clients of all: give the one that is meant another path.",
                        target.label(),
                        name(&server),
                        name(&server)
                    )),
                ),
                _ => (
                    None,
                    Some(format!(
                        "{DECIDE}messages also go to {}: write \"endpoint:/path\" for the clients that should get them.",
                        target.label()
                    )),
                ),
            },
            _ => (
                None,
                Some(format!(
                    "{DECIDE}messages also go to {}, but wsgate runs no workflows: let n8n connect to wsgate as a client \
                     (as Node-RED does in docs/examples.md#questions-and-answers-with-a-node-red-flow), or add the \
                     destinations that should get them to the list below.",
                    target.label()
                )),
            ),
        }
    }
}

/// The blocks of the servers of a workflow.
fn servers(workflow: &Workflow<'_>, translated: &TranslatedWorkflow<'_>) -> Vec<usize> {
    let is_server = |node: &usize| workflow.nodes[*node].role == Role::Server;
    translated.blocks.iter().filter(|(node, _)| is_server(node)).map(|(_, block)| *block).collect()
}
