//! From text to a table of TOML, with messages for people who have never heard of TOML's grammar.

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::foreign;
use super::mistake::Report;

/// Parses the text as far as it goes. `None` after a mistake that hides what follows it, such as
/// a quote that nothing closes: what stands behind would be judged wrongly.
pub(super) fn parse<'a>(text: &'a str, report: &Report<'_>) -> Option<Spanned<DeTable<'a>>> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let place = |error: &Error| error.span().map_or(0, |span| span.start);
    if let (Some(first), Some(advice)) = (errors.iter().map(place).min(), foreign::file(text)) {
        report.broken_line(first, advice);
        return None;
    }
    // Of the mistakes of a line, a list that did not end above explains the others.
    errors.sort_by_key(|error| (report.line(place(error)), !is_in_list(error), place(error)));
    let mut readable = true;
    for error in errors {
        let at = place(&error);
        readable &= is_local(&error);
        // One slip makes the parser stumble several times in a line; the first is the useful one.
        report.broken_line(at, explain(text, &error));
        if is_in_list(&error) {
            // The parser takes what follows for entries of the list and stumbles over each of them.
            break;
        }
    }
    readable.then_some(table)
}

/// Whether the parser knows for certain where the mistake ends, so that the rest of the file counts.
fn is_local(error: &Error) -> bool {
    let message = error.message();
    ["string values must be quoted", "duplicate key", "invalid boolean", "invalid float", "unexpected leading zero"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// Whether a list, or a table in braces, goes on where it should have ended.
fn is_in_list(error: &Error) -> bool {
    let message = error.message();
    message.starts_with("missing comma") || message.contains("in array") || message.contains("in inline table")
}

/// What is wrong and what to do, by the beginning of the parser's message; a message that is not
/// known here is passed on as it is.
fn explain(text: &str, error: &Error) -> String {
    let message = error.message();
    let line = line_before(text, error.span().unwrap_or(0..0).start);
    explain_line(text, error)
        .or_else(|| explain_value(text, error))
        .or_else(|| explain_unclosed(error, line))
        .unwrap_or_else(|| format!("this is not TOML: {message}"))
}

/// Whether the parser expected something else than what begins here.
fn is_foreign(error: &Error) -> bool {
    let beginnings = ["invalid unquoted key", "key with no value", "unexpected key or value", "extra `=`"];
    beginnings.iter().any(|beginning| error.message().starts_with(beginning))
}

/// The line to write, if this one is written as in another format.
fn explain_line(text: &str, error: &Error) -> Option<String> {
    let at = error.span()?.start;
    let start = at - line_before(text, at).len();
    let line = text.get(start..)?.lines().next()?;
    let behind = || is_foreign(error).then(|| foreign::line(line, at - start)).flatten();
    foreign::comment_behind(line).or_else(behind)
}

/// The line up to this byte of the text.
fn line_before(text: &str, at: usize) -> &str {
    text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default()
}

/// What is wrong with a value or a key.
fn explain_value(text: &str, error: &Error) -> Option<String> {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let there = text.get(span.clone()).unwrap_or_default().trim();
    let line = line_before(text, span.start);
    let starts = |start: &str| message.starts_with(start);

    if starts("string values must be quoted") {
        if there.is_empty() {
            return Some("a value is missing here: write one, or remove the key".to_owned());
        }
        if there.contains(['“', '”', '„', '‘', '’']) {
            return Some("these are not TOML's quotes: write the straight ones, \"like this\"".to_owned());
        }
        if let Some(lower) = ["true", "false"].iter().find(|word| word.eq_ignore_ascii_case(there)) {
            return Some(format!("{there:?} is not known: write {lower}"));
        }
        let word = there.split([' ', '\t', '"', '#']).next().unwrap_or_default();
        let as_boolean = [("yes", "true"), ("on", "true"), ("no", "false"), ("none", "\"off\""), ("null", "\"off\"")];
        if let Some((_, value)) = as_boolean.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) {
            return Some(format!("the text {word:?} has no quotes: write {value}, or {word:?} if it is a text"));
        }
        let unit = there.get(word.len()..).map(str::trim_start).and_then(|rest| rest.split([' ', '\t', '#']).next());
        if let Some(unit) = unit.filter(|unit| unit.chars().all(char::is_alphabetic) && !unit.is_empty())
            && word.bytes().all(|b| b.is_ascii_digit())
        {
            return Some(format!("the text \"{word} {unit}\" has no quotes: write \"{word}{unit}\""));
        }
        return Some(format!("the text {word:?} has no quotes: write {word:?}"));
    }
    if starts("invalid boolean") {
        return Some(format!("{there:?} is not known: write true or false, in lower case"));
    }
    if starts("invalid float") || starts("unexpected leading zero") {
        // The parser points into the middle of what it took for a number, as in 127.0.0.1:8080.
        let begun = line.rsplit([' ', '\t', '=', '[', ',']).next().unwrap_or_default();
        let rest = text.get(span.start..).unwrap_or_default();
        let rest = rest.split([' ', '\t', '\r', '\n', ',', ']', '#']).next().unwrap_or_default();
        if rest.contains(|c: char| !c.is_ascii_digit()) {
            let word = format!("{begun}{rest}");
            return Some(format!("the text {word:?} has no quotes: write {word:?}"));
        }
        return Some(
            "this is no number: write text in quotes, \"like this\", and a number without leading zeros".to_owned(),
        );
    }
    if starts("duplicate key") {
        return Some(match line.trim_start().starts_with('[') {
            true => format!("[{}] is in this file twice: put the keys of both under one", there.escape_debug()),
            false => format!("{there:?} is in this table twice: remove one"),
        });
    }
    if starts("key with no value") {
        return Some("a key needs a value: write key = value".to_owned());
    }
    None
}

/// What does not end where it should.
fn explain_unclosed(error: &Error, line: &str) -> Option<String> {
    let message = error.message();
    let starts = |start: &str| message.starts_with(start);
    if starts("unclosed table") {
        return Some("the name of this table does not end: add the missing \"]\"".to_owned());
    }
    if starts("unclosed array table") {
        return Some("the name of this table does not end: add the missing \"]]\"".to_owned());
    }
    if starts("unclosed array") {
        return Some("this list does not end: add the missing \"]\"".to_owned());
    }
    if starts("unclosed inline table") {
        return Some("this table does not end: add the missing \"}\"".to_owned());
    }
    if is_in_list(error) && (line.trim().is_empty() || message.contains("`=`")) {
        return Some(
            "the list or table that began before this does not end: close it, or add a comma if it \
                goes on"
                .to_owned(),
        );
    }
    if starts("missing comma") {
        return Some("a comma is missing between the entries of this list: write [\"a\", \"b\"]".to_owned());
    }
    if starts("invalid basic string") || starts("invalid literal string") {
        return Some("this string does not end: add the closing quote".to_owned());
    }
    if starts("missing escaped value") || starts("too few unicode value digits") {
        return Some(
            "in double quotes a backslash starts an escape: write \"\\\\\" for a backslash, or use single quotes"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn first(text: &str) -> (bool, String) {
        let report = Report::new(text, &|_| Err(env::VarError::NotPresent));
        let readable = parse(text, &report).is_some();
        (readable, report.into_mistakes().into_iter().map(|m| m.text).next().unwrap_or_default())
    }

    #[test]
    fn a_slip_of_the_pen_is_told_in_plain_words() {
        let cases = [
            ("a = 1\n", true, ""),
            ("\u{feff}a = 1\n", true, ""),
            ("a = ", true, "a value is missing"),
            ("a = 30s # half a minute", true, "the text \"30s\" has no quotes: write \"30s\""),
            ("a = “x”", true, "these are not TOML's quotes"),
            ("a = Off", true, "the text \"Off\" has no quotes"),
            ("a = True", true, "\"True\" is not known: write true"),
            ("a = 127.0.0.1:80 # here", true, "the text \"127.0.0.1:80\" has no quotes: write \"127.0.0.1:80\""),
            ("a = [1.2.3.4, 5]", true, "the text \"1.2.3.4\" has no quotes: write \"1.2.3.4\""),
            ("a = 01", true, "this is no number"),
            ("a = 1\na = 2", true, "\"a\" is in this table twice"),
            ("[a]\n[a]", true, "[a] is in this file twice"),
            ("a: 3", false, "this is not TOML: write a = 3"),
            ("a = 1 // x", true, "a comment begins with \"#\": write a = 1 # x"),
            ("{ \"a\": 1 }", false, "this is JSON"),
            ("a = 1\nx y", false, "this is not TOML: write x = \"y\""),
            ("a = yes", true, "the text \"yes\" has no quotes: write true, or \"yes\" if it is a text"),
            ("a = 30 s", true, "the text \"30 s\" has no quotes: write \"30s\""),
            ("hello", false, "a key needs a value"),
            ("[x\na = 1", false, "the name of this table does not end: add the missing \"]\""),
            ("[[x]\na = 1", false, "the name of this table does not end: add the missing \"]]\""),
            ("a = [1,\n", false, "this list does not end"),
            ("a = [1\n[b]\nc = 1", false, "the list or table that began before this does not end"),
            ("a = [1,\nb = 2\nc = 1", false, "the list or table that began before this does not end"),
            ("a = { b = 1\n", false, "this table does not end"),
            ("a = [\"x\" \"y\"]", false, "a comma is missing"),
            ("a = \"x\n", false, "this string does not end"),
            ("a = \"\\q\"", false, "in double quotes a backslash"),
            ("a = \"C:\\Users\"", false, "in double quotes a backslash"),
        ];
        for (text, readable, beginning) in cases {
            let (is_readable, message) = first(text);
            assert!(message.starts_with(beginning), "{text:?}: {message}");
            assert_eq!(message.is_empty(), beginning.is_empty(), "{text:?}: {message}");
            assert_eq!(is_readable, readable, "{text:?}");
        }
    }
}
