//! Lists of addresses: in the configuration, or in a file of their own with an entry a line.

use std::path::Path;
use std::sync::Arc;

use crate::address::list::{AddressList, Entry};
use crate::config::mistake::cause;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{AddressRules, AddressSource};
use crate::reload::read_file;

pub(crate) static ADDRESSES: Keys = Keys { table: "a list of addresses", keys: &[("file", "\"addresses.txt\"")] };

/// The two lists of a listener or an endpoint.
pub(super) fn rules(section: &Section<'_>, base_dir: &Path) -> AddressRules {
    let list = |key| section.get(key).and_then(|value| addresses(&value, base_dir));
    AddressRules { allow: list("allow_addresses"), deny: list("deny_addresses") }
}

/// `["10.0.0.0/8", "unix"]` or `{ file = "addresses.txt" }`.
pub(super) fn addresses(value: &Value<'_>, base_dir: &Path) -> Option<AddressSource> {
    if value.is_table() {
        return from_file(&value.section(&ADDRESSES)?.require("file")?, base_dir);
    }
    let mut entries = Vec::new();
    for text in value.words()? {
        match Entry::parse(&text.value) {
            Ok(entry) => entries.push(entry),
            Err(_) => {
                // What a variable holds is not shown.
                let why = Entry::parse(&text.written).err().map(|why| format!(": {why}")).unwrap_or_default();
                value.mistake_at(text.at, format_args!("has {:?}, which is no address or network{why}", text.written));
            }
        }
    }
    Some(AddressSource { list: Arc::new(AddressList::new(entries)), file: None })
}

fn from_file(value: &Value<'_>, base_dir: &Path) -> Option<AddressSource> {
    let text = value.text()?;
    let file = base_dir.join(&text.value);
    let shown = if text.value == text.written { file.display().to_string() } else { text.written };
    let read = read_file(&file);
    let read = read.map_err(|error| format!("cannot be read: {} (check path and permissions)", cause(&error)));
    match read.and_then(|content| AddressList::of_file(&content).map_err(|error| format!("cannot be used: {error}"))) {
        Ok(list) => Some(AddressSource { list: Arc::new(list), file: Some(file) }),
        Err(why) => {
            value.mistake(format_args!("names {shown:?}, which {why}"));
            None
        }
    }
}
