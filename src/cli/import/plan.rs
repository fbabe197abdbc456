//! What will be written: tables with their comments, and how they become a configuration that `check` accepts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::loops::to_allow;
use super::values::{Environment, list, quoted};
use crate::config::{self, ConfigError, Mistake};

/// What a comment begins with that asks for a decision.
pub(super) const DECIDE: &str = "TO DECIDE: ";

/// The widest line of a comment, in characters.
const WIDTH: usize = 100;

/// A URL that leads nowhere for certain (RFC 6761 section 6.4), where the real one is not known.
const NOWHERE: &str = "to-decide.invalid/";

/// The configuration to be.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Paragraphs at the top.
    pub(super) notes: Vec<String>,
    pub(super) blocks: Vec<Block>,
}

/// What a [`Block`] configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Listen,
    Endpoint,
    Link,
}

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    /// What others call it: the name of a listener or a link, the path of an endpoint as it is written.
    pub(super) name: String,
    /// Paragraphs above it.
    pub(super) comments: Vec<String>,
    entries: Vec<BlockEntry>,
    /// Its destinations as they are written; a listener has none.
    to: Vec<String>,
    /// Paragraphs above the destinations.
    to_remarks: Vec<String>,
}

#[derive(Debug)]
struct BlockEntry {
    key: String,
    /// In TOML.
    value: String,
    /// Paragraphs above it.
    remarks: Vec<String>,
    /// Whether it is written as a comment only.
    off: bool,
}

/// Where a line of the output comes from.
#[derive(Clone, Copy)]
enum LineOrigin {
    Entry { block: usize, entry: usize },
    To { block: usize },
}

impl Block {
    pub(super) fn new(kind: BlockKind, name: &str) -> Block {
        let mut block = Block {
            kind,
            name: name.to_owned(),
            comments: Vec::new(),
            entries: Vec::new(),
            to: Vec::new(),
            to_remarks: Vec::new(),
        };
        block.set(if kind == BlockKind::Endpoint { "path" } else { "name" }, quoted(name), &[]);
        block
    }

    /// Adds a key with its value in TOML and what is to be said about it.
    pub(super) fn set(&mut self, key: &str, value: impl Into<String>, remarks: &[String]) {
        self.entries.push(BlockEntry {
            key: key.to_owned(),
            value: value.into(),
            remarks: remarks.to_vec(),
            off: false,
        });
    }

    /// Adds the URL of a link, or one that leads nowhere if it is not known.
    pub(super) fn set_url(&mut self, url: Option<String>, remarks: &[String]) {
        let value = url.unwrap_or_else(|| format!("ws://{NOWHERE}"));
        self.set("url", quoted(&value), remarks);
    }

    /// Adds a destination, which may be there already, and what is to be said about it.
    pub(super) fn send_to(&mut self, destination: String, remark: Option<String>) {
        if !self.to.contains(&destination) {
            self.to.push(destination);
        }
        self.remark_on_to(remark);
    }

    pub(super) fn remark_on_to(&mut self, remark: Option<String>) {
        self.to_remarks.extend(remark.filter(|remark| !self.to_remarks.contains(remark)));
    }

    pub(super) fn goes_nowhere(&self) -> bool {
        self.to.is_empty()
    }

    fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.off)
    }

    fn allow_loop(&mut self, way: &str) {
        let remark = format!(
            "{DECIDE}a message can come back here: {way}. This is allowed, because the wires are like that; if \
             messages do go round for ever, remove a destination."
        );
        self.set("allow_loop", "true", &[remark]);
    }

    fn turn_off(&mut self, entry: usize, remark: &str) {
        let url = self.entries[entry].key == "url";
        let pair = match &*self.entries[entry].key {
            "tls.certificate" => Some("tls.private_key"),
            "tls.private_key" => Some("tls.certificate"),
            "ping_message" => Some("ping_every"),
            _ => None,
        };
        self.entries[entry].off = true;
        self.entries[entry].remarks.push(format!("{DECIDE}{remark}. Then remove the \"#\"."));
        for other in self.entries.iter_mut().filter(|other| Some(&*other.key) == pair) {
            other.off = true;
        }
        if url {
            let scheme = if self.entries.iter().any(|entry| entry.key.starts_with("tls.")) { "wss" } else { "ws" };
            let remarks = vec!["Until then, the link cannot connect.".to_owned()];
            let value = quoted(&format!("{scheme}://{NOWHERE}"));
            self.entries.insert(entry + 1, BlockEntry { key: "url".to_owned(), value, remarks, off: false });
        }
    }
}

impl Plan {
    /// The configuration that `check` accepts: what it does not accept here is left as a comment with its reason.
    ///
    /// Relative paths of files are relative to `base_dir`. An error is a defect of the import.
    pub(super) fn settle(&mut self, base_dir: &Path, environment: Environment<'_>) -> Result<String, ConfigError> {
        loop {
            let (text, places) = self.render();
            let error = match config::parse_in(&text, "the output", base_dir, environment) {
                Ok(_) => return Ok(text),
                Err(error) => error,
            };
            let ConfigError::Mistakes { mistakes, .. } = &error else { return Err(error) };
            let (loops, others): (Vec<&Mistake>, Vec<&Mistake>) =
                mistakes.iter().partition(|mistake| mistake.text.contains("go round for ever"));
            // From the last line up: an entry that is added changes nothing above it.
            let mut changed = false;
            for mistake in others.iter().rev() {
                let place = places.get(mistake.line - 1).copied().flatten();
                changed |= place.is_some_and(|place| self.amend(place, &mistake.text));
            }
            if others.is_empty() {
                changed = self.allow_loops_of_links() || loops.iter().any(|mistake| self.allow_loop(&mistake.text));
            }
            if !changed {
                return Err(error);
            }
        }
    }

    /// How many comments ask for a decision.
    pub(super) fn decisions(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| {
            let entries = block.entries.iter().flat_map(|entry| &entry.remarks);
            block.comments.iter().chain(&block.to_remarks).chain(entries)
        });
        self.notes.iter().chain(blocks).filter(|comment| comment.starts_with(DECIDE)).count()
    }

    pub(super) fn count(&self, kind: BlockKind) -> usize {
        self.blocks.iter().filter(|block| block.kind == kind).count()
    }

    /// Adds an endpoint that does nothing if there is none: without one, `/` would broadcast.
    pub(super) fn close_the_default(&mut self) {
        if self.blocks.is_empty() || self.count(BlockKind::Endpoint) > 0 {
            return;
        }
        let mut block = Block::new(BlockKind::Endpoint, "/");
        block.comments.push(
            "No client connects to these flows, but a configuration always has an endpoint. Only this machine can reach \
             this one (127.0.0.1:8080), and it discards what clients send."
                .to_owned(),
        );
        self.blocks.push(block);
    }

    /// A name for a link that no other has.
    pub(super) fn link_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.blocks.iter().any(|block| block.kind == BlockKind::Link && block.name == name);
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).expect("there are more numbers than links")
    }

    fn amend(&mut self, place: LineOrigin, reason: &str) -> bool {
        match place {
            LineOrigin::Entry { block, entry } => {
                let block = &mut self.blocks[block];
                let needed = matches!(&*block.entries[entry].key, "path" | "name" | "address");
                if needed || block.entries[entry].off || block.entries[entry].value.contains(NOWHERE) {
                    return false;
                }
                block.turn_off(entry, reason);
                true
            }
            LineOrigin::To { block } => {
                let block = &mut self.blocks[block];
                let before = block.to.len();
                block.to.retain(|destination| !reason.contains(&format!("{destination:?}")));
                block.remark_on_to(Some(format!("{DECIDE}{reason}")));
                block.to.len() < before
            }
        }
    }

    /// Allows the loop that this mistake shows, by the first of its links that does not do so yet.
    fn allow_loop(&mut self, reason: &str) -> bool {
        let way = reason.split("for ever: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
        let names = || way.split(" -> ").filter_map(|place| place.strip_prefix("link:"));
        let link = self.blocks.iter_mut().find(|block| {
            block.kind == BlockKind::Link && !block.has("allow_loop") && names().any(|name| name == block.name)
        });
        let Some(link) = link else { return false };
        link.allow_loop(way);
        true
    }

    /// Allows all loops that lead only from link to link, at once: reading the configuration again for each would take
    /// minutes where hundreds of links send to each other.
    fn allow_loops_of_links(&mut self) -> bool {
        let links: Vec<usize> =
            (0..self.blocks.len()).filter(|block| self.blocks[*block].kind == BlockKind::Link).collect();
        let destinations: BTreeMap<String, usize> =
            links.iter().enumerate().map(|(at, link)| (format!("link:{}", self.blocks[*link].name), at)).collect();
        let next = |link: &usize| match self.blocks[*link].has("allow_loop") {
            true => Vec::new(),
            false => self.blocks[*link].to.iter().filter_map(|to| destinations.get(to)).copied().collect(),
        };
        let to: Vec<Vec<usize>> = links.iter().map(next).collect();
        let found = to_allow(&to);
        for (link, way) in &found {
            let names: Vec<String> =
                way.iter().chain([link]).map(|link| format!("link:{}", self.blocks[links[*link]].name)).collect();
            self.blocks[links[*link]].allow_loop(&names.join(" -> "));
        }
        !found.is_empty()
    }

    /// The text, and where each of its lines comes from.
    fn render(&self) -> (String, Vec<Option<LineOrigin>>) {
        let mut page = Page::default();
        page.paragraphs(&self.notes, "#");
        for (index, block) in self.blocks.iter().enumerate() {
            page.line("", None);
            page.paragraphs(&block.comments, "#");
            page.line(
                match block.kind {
                    BlockKind::Listen => "[[listen]]",
                    BlockKind::Endpoint => "[[endpoint]]",
                    BlockKind::Link => "[[link]]",
                },
                None,
            );
            for (entry, BlockEntry { key, value, remarks, off }) in block.entries.iter().enumerate() {
                page.remarks(remarks);
                let mark = if *off { "# " } else { "" };
                page.line(&format!("{mark}{key} = {value}"), Some(LineOrigin::Entry { block: index, entry }));
                // The destinations follow what the table is and whom it dials.
                let last = match block.kind {
                    BlockKind::Listen => continue,
                    BlockKind::Endpoint => "path",
                    BlockKind::Link => "url",
                };
                if key == last && !off {
                    page.remarks(&block.to_remarks);
                    let to = list(block.to.iter().map(|destination| &**destination));
                    page.line(&format!("to = {to}"), Some(LineOrigin::To { block: index }));
                }
            }
        }
        (page.text, page.places)
    }
}

#[derive(Default)]
struct Page {
    text: String,
    places: Vec<Option<LineOrigin>>,
}

impl Page {
    fn line(&mut self, line: &str, place: Option<LineOrigin>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
        self.places.push(place);
    }

    /// Comments with a line of this between two of them.
    fn paragraphs(&mut self, paragraphs: &[String], between: &str) {
        for (index, paragraph) in paragraphs.iter().enumerate() {
            if index > 0 {
                self.line(between, None);
            }
            self.comment(paragraph);
        }
    }

    fn remarks(&mut self, remarks: &[String]) {
        for remark in remarks {
            self.comment(remark);
        }
    }

    /// Text that cannot end its comment: words alone, and no control characters.
    fn comment(&mut self, text: &str) {
        let mut line = "#".to_owned();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line, None);
                line = "#".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line, None);
    }
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use super::*;

    fn none(_: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    fn settled(blocks: Vec<Block>) -> String {
        let mut plan = Plan { notes: Vec::new(), blocks };
        plan.settle(Path::new(""), &none).unwrap_or_else(|error| panic!("{error}\n{}", plan.render().0))
    }

    fn link(name: &str, url: &str) -> Block {
        let mut block = Block::new(BlockKind::Link, name);
        block.set_url(Some(url.to_owned()), &[]);
        block
    }

    #[test]
    fn what_check_refuses_becomes_a_comment_with_its_reason() {
        let mut block = link("plc", "wss://plc.example/");
        block.set("headers.X-Key", quoted("${KEY}"), &[]);
        block.set("headers.Upgrade", quoted("x"), &[]);
        block.set("tls.certificate", quoted("/none/c.pem"), &[]);
        block.set("tls.private_key", quoted("/none/k.pem"), &[]);
        block.set("subprotocols", list(["a b"]), &[]);
        block.set("heartbeat", quoted("25h"), &[]);
        block.send_to("endpoint:/none".into(), None);
        let text = settled(vec![block]);
        for line in [
            "url = \"wss://plc.example/\"",
            "to = []",
            "# headers.X-Key = \"${KEY}\"",
            "# headers.Upgrade = \"x\"",
            "# tls.certificate = \"/none/c.pem\"",
            "# tls.private_key = \"/none/k.pem\"",
            "# subprotocols = [\"a b\"]",
            "# heartbeat = \"25h\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("needs the environment variable \"KEY\", which is not set"), "{text}");
        assert!(text.contains("TO DECIDE: \"endpoint:/none\" names no endpoint"), "{text}");
    }

    #[test]
    fn a_url_that_is_not_known_leads_nowhere() {
        for (url, secure) in [("${URL}", false), ("wss://[x", true)] {
            let mut block = link("plc", url);
            if secure {
                block.set("tls.verify", "false", &[]);
            }
            let text = settled(vec![block]);
            let scheme = if secure { "wss" } else { "ws" };
            assert!(text.contains(&format!("# url = \"{url}\"\n")), "{text}");
            assert!(text.contains(&format!("\nurl = \"{scheme}://to-decide.invalid/\"\nto = []\n")), "{text}");
        }
    }

    #[test]
    fn a_loop_is_allowed_once_and_shown() {
        let mut listener = Block::new(BlockKind::Listen, "main");
        listener.set("address", quoted("0.0.0.0:1880"), &[]);
        let mut echo = Block::new(BlockKind::Endpoint, "/echo");
        echo.send_to("reply".into(), None);
        let mut own = link("own", "ws://localhost:1880/echo");
        own.send_to("reply".into(), None);
        let (mut a, mut b) = (link("a", "ws://a.example/"), link("b", "ws://b.example/"));
        a.send_to("link:b".into(), None);
        b.send_to("link:a".into(), None);
        let text = settled(vec![listener, echo, own, a, b]);
        assert_eq!(text.matches("\nallow_loop = true\n").count(), 2, "{text}");
        assert!(text.contains("link:a -> link:b -> link:a"), "{text}");
    }

    #[test]
    fn a_comment_is_wrapped_and_cannot_be_left() {
        let mut plan = Plan { notes: vec![format!("one\nto = 1 \u{0}{}", "word ".repeat(60))], blocks: Vec::new() };
        let text = plan.settle(Path::new(""), &none).unwrap();
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.starts_with("# ") && line.len() <= WIDTH));
    }

    #[test]
    fn names_of_links_are_unique() {
        let plan = Plan { notes: Vec::new(), blocks: vec![link("a", "ws://h"), link("a-2", "ws://h")] };
        assert_eq!([plan.link_name("a"), plan.link_name("b")], ["a-3", "b"]);
    }
}
