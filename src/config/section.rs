//! A table of the file and its values: what was written, of the right type and within bounds, or a
//! mistake with its place. What the values mean together is not known here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::mistake::Report;
use super::text::Text;
use super::variables::{other_variable, substitute};
use super::{aliases, remedy};
use crate::secret::Secret;

/// The keys that a table may hold.
pub(super) struct Keys {
    /// The table as it is written and as messages call it: `[gateway]`.
    pub(super) table: &'static str,
    /// Each key with a value that a message can show as an example.
    pub(super) keys: &'static [(&'static str, &'static str)],
}

/// A table of which the keys are taken one by one.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report<'a>,
    keys: &'static Keys,
    entries: &'a DeTable<'a>,
    /// The place of the table's first byte.
    pub(super) at: usize,
}

impl<'a> Section<'a> {
    /// A table; keys that are none of `keys` are reported, with the table of `all` that has them.
    pub(super) fn new(
        report: &'a Report<'a>,
        keys: &'static Keys,
        all: &[&'static Keys],
        entries: &'a DeTable<'a>,
        at: usize,
    ) -> Section<'a> {
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !keys.keys.iter().any(|(known, _)| *known == name) {
                report.mistake(key.span().start, unknown_key(name, keys, all, entries));
            }
        }
        Section { report, keys, entries, at }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let (_, example) = self.keys.keys.iter().find(|(known, _)| *known == key).expect("readers ask for known keys");
        let value = self.entries.get(key)?;
        Some(Value { report: self.report, table: self.keys.table, key, example, value })
    }

    /// Puts what `read` makes of a key's value in a field. If the key is missing or its value is wrong, the field keeps
    /// its default.
    pub(super) fn read<T>(&self, key: &'static str, field: &mut T, read: impl FnOnce(Value<'a>) -> Option<T>) {
        if let Some(value) = self.get(key).and_then(read) {
            *field = value;
        }
    }

    /// The value of a key that must be there.
    pub(super) fn require(&self, key: &'static str) -> Option<Value<'a>> {
        let value = self.get(key);
        let known = || self.keys.keys.iter().map(|(known, _)| *known);
        // A key that is there and misspelt is one mistake, not two.
        let misspelt = || self.entries.keys().any(|written| nearest(written.get_ref(), known()) == Some(key));
        if value.is_none() && !misspelt() {
            self.report.mistake(self.at, format!("{:?} is missing in {}: add it", key, self.keys.table));
        }
        value
    }
}

fn unknown_key(name: &str, keys: &Keys, all: &[&Keys], entries: &DeTable<'_>) -> String {
    let what = format!("unknown key {name:?} in {}", keys.table);
    if let Some(advice) = aliases::advice(keys.table, name, entries) {
        return format!("{what}: {advice}");
    }
    if let Some(other) = all.iter().find(|other| other.keys.iter().any(|(known, _)| *known == name)) {
        return format!("{what}: did you mean to put it under {}?", other.table);
    }
    let known = || keys.keys.iter().map(|(known, _)| *known);
    match nearest(name, known()) {
        Some(known) => format!("{what}: did you mean {known:?}?"),
        None => format!("{what}: remove it, or use one of {}", known().collect::<Vec<_>>().join(", ")),
    }
}

/// The name that was probably meant, if one is near enough not to mislead.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A value of the file that no reader has looked at.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    report: &'a Report<'a>,
    table: &'static str,
    pub(super) key: &'a str,
    pub(super) example: &'static str,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// The value of a key of the file itself, outside of any table.
    pub(super) fn of_file(
        report: &'a Report<'a>,
        keys: &'static Keys,
        root: &'a DeTable<'a>,
        key: &'static str,
    ) -> Option<Value<'a>> {
        Section { report, keys, entries: root, at: 0 }.get(key)
    }

    /// The byte of the text at which it begins.
    pub(super) fn at(&self) -> usize {
        self.value.span().start
    }

    /// Records a mistake about this value; the text goes on after `"key" in [table] `.
    pub(super) fn mistake(&self, text: impl fmt::Display) {
        self.mistake_at(self.at(), text);
    }

    /// The same about an entry of a list.
    pub(super) fn mistake_at(&self, at: usize, text: impl fmt::Display) {
        self.report.mistake(at, format!("{:?} in {} {text}", self.key, self.table));
    }

    /// Records that this value is probably not what was meant; the text goes on after `"key" in [table] `.
    pub(super) fn warning(&self, text: impl fmt::Display) {
        self.warning_at(self.at(), text);
    }

    /// The same about a part of the value.
    pub(super) fn warning_at(&self, at: usize, text: impl fmt::Display) {
        self.report.warning(at, format!("{:?} in {} {text}", self.key, self.table));
    }

    /// Records that a secret stands here as it is, which is a warning where everybody can read the file.
    pub(super) fn shows_a_secret(&self, instead: &str) {
        if self.report.is_for_everybody {
            self.warning(format_args!(
                "holds a secret, and every user of this machine can read this file: chmod o-r it, or write {instead}"
            ));
        }
    }

    pub(super) fn wrong_type(&self, value: &Spanned<DeValue<'a>>, expected: &str) {
        let line = format!("for example {} = {}", self.key, self.example);
        self.not_expected(value, expected, &line);
    }

    /// A mistake about a value of the wrong type, with the value to write if it is clear what was meant.
    pub(super) fn wrong_type_or(&self, expected: &str, meant: Option<String>) {
        match meant {
            Some(meant) => self.not_expected(self.value, expected, &format!("{} = {meant}", self.key)),
            None => self.wrong_type(self.value, expected),
        }
    }

    fn not_expected(&self, value: &Spanned<DeValue<'a>>, expected: &str, line: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistake_at(value.span().start, format!("must be {expected}, not {found}: write {line}"));
    }

    /// The value as it stands in the file, without its quotes; a list or a table has none.
    pub(super) fn bare(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(integer) => Some(integer.to_string()),
            DeValue::Float(float) => Some(float.to_string()),
            DeValue::Boolean(boolean) => Some(boolean.to_string()),
            _ => None,
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            let meant = self.bare().and_then(|written| remedy::boolean(&written)).map(str::to_owned);
            self.wrong_type_or("true or false", meant);
        }
        value
    }

    /// Whether a string stands here; what kind of value it is decides how some keys are read.
    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether a boolean stands here.
    pub(super) fn is_boolean(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    /// Whether `"off"` stands here, where a table could; another string is a mistake.
    pub(super) fn is_off(&self) -> Option<bool> {
        let is_off = self.is_off_or("a table")?;
        if !is_off && self.bare().is_some() {
            self.wrong_type(self.value, "a table or \"off\"");
            return None;
        }
        Some(is_off)
    }

    /// Whether `"off"` stands where something else could; that it is not wanted in other words is a mistake.
    pub(super) fn is_off_or(&self, expected: &str) -> Option<bool> {
        match self.bare() {
            Some(written) if written != "off" && remedy::is_off(&written) => {
                self.wrong_type_or(&format!("{expected} or \"off\""), Some("\"off\"".to_owned()));
                None
            }
            written => Some(written.as_deref() == Some("off")),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        self.chosen(&self.text()?, choices)
    }

    /// Some of a few words, each once: a list of them, or one word.
    pub(super) fn choices<T: Copy + Ord>(&self, choices: &[(&str, T)]) -> Option<BTreeSet<T>> {
        let mut chosen = BTreeSet::new();
        for text in self.words()? {
            if self.chosen(&text, choices).is_some_and(|value| !chosen.insert(value)) {
                self.mistake_at(text.at, format_args!("has {:?} twice: remove one", text.written));
            }
        }
        Some(chosen)
    }

    fn chosen<T: Copy>(&self, text: &Text, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choices.iter().find(|(word, _)| *word == text.value);
        if chosen.is_none() {
            let words = || choices.iter().map(|(word, _)| *word);
            let advice = match nearest(&text.written, words()) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write one of {}", words().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ")),
            };
            self.mistake_at(text.at, format_args!("cannot be {:?}: {advice}", text.written));
        }
        chosen.map(|(_, value)| *value)
    }

    /// A string.
    pub(super) fn text(&self) -> Option<Text> {
        self.text_of(self.value)
    }

    /// A string; `meant` is what to write for an integer in its place.
    pub(super) fn text_or(&self, meant: impl FnOnce(&str) -> String) -> Option<Text> {
        if let DeValue::Integer(integer) = self.value.get_ref() {
            self.wrong_type_or("a string", Some(meant(&integer.to_string())));
            return None;
        }
        self.text()
    }

    /// A list of strings, or one string that stands for a list of one. Entries that are wrong are
    /// reported and left out.
    pub(super) fn texts(&self) -> Option<Vec<Text>> {
        match self.value.get_ref() {
            DeValue::String(_) => self.text().map(|text| vec![text]),
            DeValue::Array(entries) => Some(entries.iter().filter_map(|entry| self.text_of(entry)).collect()),
            _ => {
                self.wrong_type(self.value, "a list of strings");
                None
            }
        }
    }

    /// The same for words that have no commas and blanks in them: one string with some was meant as a list.
    pub(super) fn words(&self) -> Option<Vec<Text>> {
        if let Some(list) = self.value.get_ref().as_str().and_then(remedy::list) {
            self.mistake(format_args!("is one string, but was probably meant as a list: write {} = {list}", self.key));
            return None;
        }
        self.texts()
    }

    /// Whether a list without entries stands here.
    pub(super) fn is_empty_list(&self) -> bool {
        self.value.get_ref().as_array().is_some_and(|entries| entries.is_empty())
    }

    fn text_of(&self, value: &Spanned<DeValue<'a>>) -> Option<Text> {
        let Some(written) = value.get_ref().as_str() else {
            self.wrong_type(value, "a string");
            return None;
        };
        let at = value.span().start;
        let variables = RefCell::<Vec<Secret>>::default();
        let environment = |name: &str| {
            let value = (self.report.environment)(name)?;
            variables.borrow_mut().push(Secret::new(value.as_str()));
            Ok(value)
        };
        match substitute(written, environment) {
            Ok(value) => {
                if let Some((found, name)) = other_variable(written) {
                    self.warning_at(
                        at,
                        format_args!("holds {found:?}, which is sent as it is: write \"${{{name}}}\" for the environment variable"),
                    );
                }
                Some(Text { value, written: written.to_owned(), variables: variables.take(), at })
            }
            Err(reason) => {
                self.mistake_at(at, reason);
                None
            }
        }
    }

    /// The entries of a table whose keys are the operator's own, each with the place of its key. Messages call the
    /// table `table` and show `example` for a value.
    pub(super) fn entries(
        &self,
        table: &'static str,
        example: &'static str,
    ) -> Option<Vec<(usize, &'a str, Value<'a>)>> {
        let DeValue::Table(entries) = self.value.get_ref() else {
            self.wrong_type(self.value, "a table");
            return None;
        };
        let entry = |(key, value): (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a str = key.get_ref();
            (key.span().start, name, Value { report: self.report, table, key: name, example, value })
        };
        Some(entries.iter().map(entry).collect())
    }

    /// Whether a table stands here.
    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// A table in the place of a value: `{ messages = 4096 }`, or `[endpoint.queue]`.
    pub(super) fn section(&self, keys: &'static Keys) -> Option<Section<'a>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Section::new(self.report, keys, &[], entries, self.at())),
            value => {
                let first = keys.keys.first().filter(|_| value.is_str() || value.is_integer());
                // What stands before an @ may be a password.
                let written = self.bare().filter(|written| !written.contains(|c: char| c.is_control() || c == '@'));
                let meant = first.zip(written).filter(|((_, example), _)| example.starts_with('"') == value.is_str());
                let meant = meant.map(|((key, _), written)| match value.is_str() {
                    true => format!("{{ {key} = {written:?} }}"),
                    false => format!("{{ {key} = {written} }}"),
                });
                self.wrong_type_or("a table", meant);
                None
            }
        }
    }

    /// Tables in the place of a value: `[{ who = "a" }, { who = "b" }]`, or `[[endpoint.allow]]`.
    pub(super) fn sections(&self, keys: &'static Keys) -> Option<Vec<Section<'a>>> {
        let Some(entries) = self.value.get_ref().as_array() else {
            self.wrong_type(self.value, "a list of tables");
            return None;
        };
        let section = |entry: &'a Spanned<DeValue<'a>>| match entry.get_ref().as_table() {
            Some(table) => Some(Section::new(self.report, keys, &[], table, entry.span().start)),
            None => {
                self.wrong_type(entry, "a table");
                None
            }
        };
        Some(entries.iter().filter_map(section).collect())
    }

    /// The one table of this name: `[gateway]`.
    pub(super) fn table(&self, keys: &'static Keys, all: &[&'static Keys]) -> Option<Section<'a>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Section::new(self.report, keys, all, entries, self.at())),
            _ => {
                let text = format!("{:?} is one table: write {} on a line of its own", self.key, keys.table);
                self.report.mistake(self.at(), text);
                None
            }
        }
    }

    /// The tables of this name: `[[listen]]`.
    pub(super) fn tables(&self, keys: &'static Keys, all: &[&'static Keys]) -> Vec<Section<'a>> {
        let tables = self.value.get_ref().as_array().map(|entries| {
            let tables = entries.iter().filter_map(|entry| Some((entry.get_ref().as_table()?, entry.span().start)));
            tables.map(|(table, at)| Section::new(self.report, keys, all, table, at)).collect::<Vec<_>>()
        });
        match tables {
            Some(tables) if !tables.is_empty() => tables,
            _ => {
                let text = format!("there can be several {:?}: write {} with two brackets", self.key, keys.table);
                self.report.mistake(self.at(), text);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        let known = ["heartbeat", "pong_timeout", "max_message", "max_connections", "to", "path"];
        let cases = [
            ("hartbeat", Some("heartbeat")),
            ("Heartbeat", Some("heartbeat")),
            ("max-message", Some("max_message")),
            ("max_conn", Some("max_connections")),
            ("pongtimeout", Some("pong_timeout")),
            ("foo", None),
            ("colour", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
