//! Lines and files that are written as in other formats, and what they are in TOML: for people who know JSON, YAML or the
//! files of another server.

use serde_json::Value as Json;

/// The most characters of a line that a message repeats.
const LINE_MAX: usize = 120;

/// What to do with a file that is no TOML from its first line on.
pub(super) fn file(text: &str) -> Option<String> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next()?;
    if text.starts_with('{') || text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{')) {
        let example = serde_json::from_str(text).ok().and_then(|json| in_toml(&json)).unwrap_or_else(usual);
        return Some(told("JSON", &example));
    }
    if text.starts_with('<') {
        return Some(told("XML", &usual()));
    }
    let header = if first == "---" { lines.next()? } else { first };
    let key = header.strip_suffix(':').filter(|key| is_key(key))?;
    let example = lines
        .next()
        .filter(|line| !may_hold_secret(line))
        .and_then(|line| written(line).filter(|line| line.contains(" = ")));
    Some(told("YAML", &[header_of(key), example.unwrap_or_else(|| "its keys".to_owned())]))
}

fn told(format: &str, [header, entry]: &[String; 2]) -> String {
    format!(
        "this is {format}, and a configuration is TOML: write {header}, on the next line {entry}, and so on \
         (config/wsgate.toml has every option)"
    )
}

fn usual() -> [String; 2] {
    [header_of("listen"), "address = \"127.0.0.1:8080\"".to_owned()]
}

/// The first table of a JSON object, and its first entry.
fn in_toml(json: &Json) -> Option<[String; 2]> {
    let (name, value) = json.as_object()?.iter().next()?;
    let table = value.as_array().and_then(|tables| tables.first()).unwrap_or(value);
    let (key, value) = table.as_object()?.iter().next()?;
    let value = toml::Value::try_from(value).ok()?.to_string();
    let fits = !may_hold_secret(key)
        && !may_hold_secret(&value)
        && is_key(name)
        && is_key(key)
        && !value.contains(char::is_control)
        && value.len() <= LINE_MAX;
    fits.then(|| [header_of(name), format!("{key} = {value}")])
}

/// How the file begins a table.
fn header_of(name: &str) -> String {
    match name {
        "listen" | "endpoint" | "link" => format!("[[{name}]]"),
        _ => format!("[{name}]"),
    }
}

/// What to write in the place of a line that is no TOML; `end` is the byte of it where TOML would have ended.
pub(super) fn line(line: &str, end: usize) -> Option<String> {
    if line.contains(char::is_control) || line.chars().count() > LINE_MAX {
        return None;
    }
    if may_hold_secret(line) {
        return Some("this is not TOML: write key = \"value\", one on each line, and comments behind \"#\"".to_owned());
    }
    let (good, rest) = (line.get(..end).unwrap_or_default().trim(), line.get(end..).unwrap_or_default().trim());
    if let Some(comment) = comment(line.trim()) {
        return Some(format!("a comment begins with \"#\": write {comment}"));
    }
    if good.contains('=') || good.starts_with('[') {
        if rest.trim_matches([',', ';', ' ']).is_empty() && !rest.is_empty() {
            return Some(format!("a line ends without {:?}: write {good}", &rest[..1]));
        }
        if let Some(comment) = comment(rest) {
            return Some(format!("a comment begins with \"#\": write {good} {comment}"));
        }
        let is_next = rest.split_once('=').is_some_and(|(key, _)| is_key(key.trim()));
        if is_next && !good.ends_with('=') {
            return Some(format!("a line has one key or the name of one table: write {good}, and below it {rest}"));
        }
    }
    written(line.trim()).map(|line| format!("this is not TOML: write {line}"))
}

/// The same for a line that is TOML up to the two slashes of a comment.
pub(super) fn comment_behind(line: &str) -> Option<String> {
    let (good, comment) = line
        .match_indices(" //")
        .map(|(at, _)| line.split_at(at))
        .find(|(good, _)| good.contains('=') && toml::from_str::<toml::Table>(good).is_ok())?;
    let comment = self::comment(comment.trim())?;
    (!line.contains(char::is_control) && !may_hold_secret(line))
        .then(|| format!("a comment begins with \"#\": write {} {comment}", good.trim()))
}

/// Whether a line is not to be repeated: messages end up in logs.
fn may_hold_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["@", "password", "passwd", "secret", "token", "authorization", "cookie", "api"]
        .iter()
        .any(|word| line.contains(word))
}

/// A comment of another format, as TOML has it.
fn comment(text: &str) -> Option<String> {
    let marks = ["//", "/*", "--", ";"];
    let comment = marks.iter().find_map(|mark| text.strip_prefix(mark))?;
    let comment = comment.trim().trim_end_matches("*/").trim_end();
    (text.starts_with(';') || !comment.is_empty()).then(|| format!("# {comment}").trim_end().to_owned())
}

/// A key and its value, or the beginning of a table, as TOML has it.
fn written(line: &str) -> Option<String> {
    let line = line.strip_prefix("- ").unwrap_or(line).trim();
    let quoted = line.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (key, rest) = quoted.unwrap_or_else(|| {
        let end =
            line.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.')).unwrap_or(line.len());
        line.split_at(end)
    });
    if !is_key(key) {
        return None;
    }
    let rest = rest.trim_start();
    let signs = [":=", "==", "=>", "->", ":"];
    let value = signs.iter().find_map(|sign| rest.strip_prefix(sign));
    let value = value.unwrap_or(rest).trim().trim_end_matches([',', ';']).trim_end();
    match value {
        "" | "{" | "[" => (rest.starts_with(':') || value == "{").then(|| header_of(key)),
        _ if rest.starts_with('=') && !rest.starts_with("==") && !rest.starts_with("=>") => None,
        _ => Some(format!("{key} = {}", value_of(value)?)),
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// A value as TOML has it: as it stands, or else as a string.
fn value_of(text: &str) -> Option<String> {
    let is_value =
        |text: &str| toml::from_str::<toml::Table>(&format!("x = {text}")).is_ok_and(|table| table.len() == 1);
    if is_value(text) {
        return Some(text.to_owned());
    }
    let quoted = format!("\"{}\"", text.trim_matches(['"', '\'']));
    is_value(&quoted).then_some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b30_a_file_in_another_format_is_told_with_its_first_lines() {
        for (text, expected) in [
            (
                "{\"listen\": [{\"address\": \"127.0.0.1:9000\"}]}",
                "this is JSON, and a configuration is TOML: write [[listen]], on the next line address = \"127.0.0.1:9000\",",
            ),
            ("\n{ \"gateway\": { \"max_connections\": 5 } }", "write [gateway], on the next line max_connections = 5,"),
            (
                "{ \"listen\": ",
                "this is JSON, and a configuration is TOML: write [[listen]], on the next line address =",
            ),
            ("[ { \"path\": \"/\" } ]", "this is JSON"),
            (
                "# mine\nlisten:\n  - address: 127.0.0.1:9000\n",
                "this is YAML, and a configuration is TOML: write [[listen]], on the next line address = \"127.0.0.1:9000\",",
            ),
            ("---\nlog:\n  level: debug\n", "write [log], on the next line level = \"debug\","),
            ("<config>\n</config>", "this is XML"),
        ] {
            let told = file(text).unwrap_or_default();
            assert!(told.contains(expected), "{text}: {told}");
        }
        for text in ["", "[[listen]]\n", "a = 1", "// x", "path \"/x\"", "heartbeat: 30s"] {
            assert_eq!(file(text), None, "{text}");
        }
    }

    #[test]
    fn b30_a_line_in_another_format_is_told_as_the_line_to_write() {
        let not_toml = |line: &str| format!("this is not TOML: write {line}");
        for (text, end, expected) in [
            ("// the path", 0, "a comment begins with \"#\": write # the path".to_owned()),
            ("; the path", 0, "a comment begins with \"#\": write # the path".to_owned()),
            ("/* the path */", 0, "a comment begins with \"#\": write # the path".to_owned()),
            ("path = \"/x\" // the path", 12, "a comment begins with \"#\": write path = \"/x\" # the path".to_owned()),
            ("[[endpoint]] // echo", 13, "a comment begins with \"#\": write [[endpoint]] # echo".to_owned()),
            ("path = \"/x\",", 11, "a line ends without \",\": write path = \"/x\"".to_owned()),
            ("path = \"/x\";", 11, "a line ends without \";\": write path = \"/x\"".to_owned()),
            (
                "path = \"/x\" to = \"reply\"",
                12,
                "a line has one key or the name of one table: write path = \"/x\", and below it to = \"reply\""
                    .to_owned(),
            ),
            (
                "[[endpoint]] path = \"/x\"",
                13,
                "a line has one key or the name of one table: write [[endpoint]], and below it path = \"/x\""
                    .to_owned(),
            ),
            ("heartbeat: 30s", 9, not_toml("heartbeat = \"30s\"")),
            ("  - path: /x", 4, not_toml("path = \"/x\"")),
            ("\"path\": \"/x\",", 6, not_toml("path = \"/x\"")),
            ("max_connections: 5", 15, not_toml("max_connections = 5")),
            ("to: [\"reply\"]", 2, not_toml("to = [\"reply\"]")),
            ("path := \"/x\"", 5, not_toml("path = \"/x\"")),
            ("path == \"/x\"", 6, not_toml("path = \"/x\"")),
            ("path \"/x\";", 5, not_toml("path = \"/x\"")),
            ("listen:", 6, not_toml("[[listen]]")),
            ("endpoint {", 9, not_toml("[[endpoint]]")),
        ] {
            assert_eq!(line(text, end), Some(expected), "{text}");
        }
        for text in ["url: wss://me:hunter2@h/", "Authorization: Bearer hunter2", "a = 1 // token hunter2"] {
            let told = line(text, 0).unwrap_or_default();
            assert!(!told.contains("hunter2") && comment_behind(text).is_none(), "{text}: {told}");
        }
        for text in ["hello", "}", "a = ", "", "= 1", "\u{1b}: 1"] {
            assert_eq!(line(text, 0), None, "{text}");
        }
    }
}
