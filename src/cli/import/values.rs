//! Values on their way into the output: quoted for TOML, fit for a comment, with their variables in place.

pub(super) use crate::config::Environment;

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of TOML strings.
pub(super) fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// The text as the configuration writes it: each `${` that begins no variable is escaped.
pub(super) fn written(text: &str) -> String {
    split(text)
        .map(|part| part.map_or_else(|literal| literal.replace("${", "$${"), |name| format!("${{{name}}}")))
        .collect()
}

/// The text with its variables in place; the error is the name of one that is not set.
pub(super) fn resolved(text: &str, environment: Environment<'_>) -> Result<String, String> {
    if let Some(name) = foreign_variable(text) {
        return environment(name).map_err(|_| name.to_owned());
    }
    split(text)
        .map(|part| match part {
            Ok(name) => environment(name).map_err(|_| name.to_owned()),
            Err(literal) => Ok(literal.to_owned()),
        })
        .collect()
}

/// A text that is a variable as a whole, in the spelling that Node-RED has had first, as `${NAME}`; other texts stay.
pub(super) fn modern(text: &str) -> String {
    match text.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')).filter(|name| is_foreign_name(name)) {
        Some(name) => format!("${{{name}}}"),
        None => text.to_owned(),
    }
}

/// The variable that a text is as a whole, if the configuration cannot name it: `${my-plc}`.
pub(super) fn foreign_variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))?;
    (is_foreign_name(name) && !is_variable(name)).then_some(name)
}

/// Whether Node-RED takes this for the name of a variable, perhaps of one that is set further outside.
fn is_foreign_name(name: &str) -> bool {
    let name = name.trim_start_matches("$parent.");
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '(' | ')' | '$'))
}

/// The only variable that the text is made of.
pub(super) fn variable(text: &str) -> Option<&str> {
    let mut parts = split(text);
    parts.next()?.ok().filter(|_| parts.next().is_none())
}

/// The parts of a text: `Ok` is the name of a variable, `Err` what stands between.
fn split(text: &str) -> impl Iterator<Item = Result<&str, &str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = rest[from..].find("${").map(|at| at + from) {
            let name = rest[at + 2..].split_once('}').map(|(name, _)| name).filter(|name| is_variable(name));
            match name {
                Some(name) if at == 0 => {
                    rest = &rest[name.len() + 3..];
                    return Some(Ok(name));
                }
                Some(_) => {
                    let (literal, behind) = rest.split_at(at);
                    rest = behind;
                    return Some(Err(literal));
                }
                None => from = at + 2,
            }
        }
        Some(Err(std::mem::take(&mut rest)))
    })
}

/// Whether the configuration can name a variable of the environment so.
pub(super) fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The most characters of a text of the input that a comment shows.
const SHOWN_MAX: usize = 80;

/// A text of the input in quotes, for a comment or an error: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_MAX).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", start.escape_debug().to_string().replace("\\'", "'"))
}

/// A name for a link, made of what is there: letters, digits, `-` and `_`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(SHOWN_MAX) {
        match c {
            c if c.is_ascii_alphanumeric() || c == '_' => slug.push(c.to_ascii_lowercase()),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    match slug.trim_matches('-') {
        "" => "remote".to_owned(),
        slug => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::env::VarError;

    use super::*;

    fn environment(name: &str) -> Result<String, VarError> {
        if name == "A" { Ok("one".to_owned()) } else { Err(VarError::NotPresent) }
    }

    #[test]
    fn a_text_keeps_its_variables_and_nothing_else_becomes_one() {
        for (text, in_config, value) in [
            ("", "", Ok("")),
            ("x", "x", Ok("x")),
            ("${A}", "${A}", Ok("one")),
            ("a${A}b${A}", "a${A}b${A}", Ok("aonebone")),
            ("${B}", "${B}", Err("B")),
            ("${a b}", "$${a b}", Ok("${a b}")),
            ("${", "$${", Ok("${")),
            ("${x-${A}", "$${x-${A}", Ok("${x-one")),
            ("${1}é${A}", "$${1}é${A}", Ok("${1}éone")),
        ] {
            assert_eq!(written(text), in_config, "{text}");
            let value = value.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(resolved(text, &environment), value, "{text}");
        }
        assert_eq!(variable("${A}"), Some("A"));
        assert!(["", "A", "${A}x", "${A}${A}", "${a b}"].iter().all(|text| variable(text).is_none()));
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for text in ["", "plain", "\"\\", "a\nb\tc\r\u{7f}\u{0}\u{85}", "é€\u{1F600}'#"] {
            let table: toml::Table = toml::from_str(&format!("x = {}", quoted(text))).unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
        assert_eq!(list(["a", "b\""]), r#"["a", "b\""]"#);
    }

    #[test]
    fn what_is_shown_stays_on_its_line() {
        for (text, expected) in [("it's", "\"it's\""), ("a\n\u{1b}b", "\"a\\n\\u{1b}b\""), ("\"", "\"\\\"\"")] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"ü".repeat(100)), format!("\"{}...\"", "ü".repeat(80)));
    }

    #[test]
    fn a_link_is_called_by_what_is_there() {
        for (text, name) in [
            ("localhost:1880/ws/echo", "localhost-1880-ws-echo"),
            ("My PLC (hall 3)", "my-plc-hall-3"),
            ("WS_URL", "ws_url"),
            ("東京", "remote"),
            ("", "remote"),
        ] {
            assert_eq!(slug(text), name);
        }
    }
}
