//! The import of Node-RED flows and n8n workflows: a configuration or words, never a panic.
//!
//! Input: the file.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wsgate::internals::cli::import;
use wsgate::internals::config::parse;

/// Where relative paths lead: nowhere.
const NOWHERE: &str = "/nowhere";

fuzz_target!(|data: &[u8]| {
    for (root, port) in [("/", 1880), ("/red/{x}", 0)] {
        let imported = import(data, root, port, Path::new(NOWHERE));
        match &imported {
            Ok(imported) => {
                let checked = parse(&imported.text, "imported.toml", Path::new(NOWHERE));
                assert!(checked.is_ok(), "it is not a good configuration:\n{}\n{checked:?}", imported.text);
                is_a_line(&imported.summary);
            }
            Err(problem) => {
                assert!(!problem.contains("a defect of wsgate"), "{problem}");
                is_a_line(problem);
            }
        }
        assert_eq!(import(data, root, port, Path::new(NOWHERE)), imported, "it is another one each time");
    }
});

/// What is told of somebody else's file moves no terminal.
fn is_a_line(text: &str) {
    assert!(!text.trim().is_empty() && !text.contains(char::is_control), "{text:?}");
}
