//! Path patterns and what they match, against a naive reading of the same rules.
//!
//! Input: lines of text. The last is a request's path, those before it are the patterns of a configuration.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsgate::internals::config::{EndpointId, EndpointSettings};
use wsgate::internals::path::{Pattern, VALUE_BYTES_MAX};
use wsgate::internals::route::Routes;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let path = lines.pop().unwrap_or_default();
    let mut patterns: Vec<Pattern> = Vec::new();
    for line in lines {
        let parsed = Pattern::parse(line);
        assert_eq!(parsed.is_ok(), is_pattern(line), "{line:?}: {parsed:?}");
        match parsed {
            Ok(pattern) => {
                assert_eq!(pattern.as_str(), line);
                let found = pattern.matches(path);
                let found = found.map(|values| values.into_iter().map(String::from).collect::<Vec<_>>());
                assert_eq!(found, values(line, path), "{line:?} and {path:?}");
                // Two of the same shape are refused by the configuration.
                if !patterns.iter().any(|other| other.same_shape(&pattern)) {
                    patterns.push(pattern);
                }
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{line:?}: {error}"),
        }
    }
    agrees_on_the_winner(&patterns, path);
    // Who wins does not depend on the order in the configuration.
    patterns.reverse();
    agrees_on_the_winner(&patterns, path);
});

fn agrees_on_the_winner(patterns: &[Pattern], path: &str) {
    let endpoints: Vec<_> = patterns
        .iter()
        .map(|pattern| EndpointSettings { path: pattern.clone(), ..EndpointSettings::default() })
        .collect();
    let routes = Routes::new(&endpoints, &[]);
    let room = routes.find(path, |_| true);
    let matching = (0..patterns.len()).filter(|&index| values(patterns[index].as_str(), path).is_some());
    // The leftmost literal wins: false sorts before true.
    let winner = matching.min_by_key(|&index| segments(patterns[index].as_str()).map(is_parameter).collect::<Vec<_>>());
    assert_eq!(room.as_ref().map(|room| room.endpoint().0), winner, "{path:?} in {patterns:?}");
    let (Some(room), Some(winner)) = (room, winner) else { return };
    assert_eq!(room.to_string(), shown(patterns[winner].as_str(), path));
    assert_eq!(routes.find(path, |id| id == EndpointId(winner)).as_ref(), Some(&room));
    assert_ne!(routes.find(path, |id| id != EndpointId(winner)).as_ref(), Some(&room));
}

fn segments(pattern: &str) -> impl Iterator<Item = &str> {
    pattern[1..].split('/')
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

fn is_pattern(text: &str) -> bool {
    let is_plain = text.chars().all(|c| !c.is_control() && !"?#%".contains(c));
    if !text.starts_with('/') || !is_plain || text.contains("//") {
        return false;
    }
    let mut names: Vec<&str> = Vec::new();
    for segment in segments(text) {
        if !segment.contains('{') && !segment.contains('}') {
            if segment == "." || segment == ".." || segment.contains('*') || is_foreign(segment) {
                return false;
            }
            continue;
        }
        let characters: Vec<char> = segment.chars().collect();
        let [first, name @ .., last] = &characters[..] else { return false };
        let is_name = name.first().is_some_and(|c| ('a'..='z').contains(c))
            && name.iter().all(|c| ('a'..='z').contains(c) || ('0'..='9').contains(c) || *c == '_');
        if *first != '{' || *last != '}' || !is_name || names.contains(&segment) {
            return false;
        }
        names.push(segment);
    }
    true
}

/// Whether a segment is a parameter in the manner of another program: `:id`, `<int:id>`, `[id]`.
fn is_foreign(segment: &str) -> bool {
    let name = if let Some(name) = segment.strip_prefix(':') {
        name.trim_end_matches('+')
    } else if segment.starts_with('<') && segment.ends_with('>') {
        segment[1..segment.len() - 1].rsplit(':').next().unwrap_or_default()
    } else if segment.starts_with('[') && segment.ends_with(']') {
        &segment[1..segment.len() - 1]
    } else {
        return false;
    };
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The values of a valid pattern's parameters, if it matches.
fn values(pattern: &str, path: &str) -> Option<Vec<String>> {
    let decoded = path.strip_prefix('/')?.split('/').map(decoded).collect::<Option<Vec<_>>>()?;
    let segments: Vec<_> = segments(pattern).collect();
    if segments.len() != decoded.len() {
        return None;
    }
    let mut values = Vec::new();
    for (segment, bytes) in segments.into_iter().zip(decoded) {
        if !is_parameter(segment) {
            if bytes != segment.as_bytes() {
                return None;
            }
            continue;
        }
        let value = String::from_utf8(bytes).ok()?;
        let is_harmless = !value.contains(|c: char| c.is_control() || c == '/') && value != "." && value != "..";
        if value.is_empty() || value.len() > VALUE_BYTES_MAX || !is_harmless {
            return None;
        }
        values.push(value);
    }
    Some(values)
}

fn decoded(segment: &str) -> Option<Vec<u8>> {
    let mut parts = segment.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

/// The room of a pattern that matches: the pattern with its values in place.
fn shown(pattern: &str, path: &str) -> String {
    let mut values = values(pattern, path).expect("it matches").into_iter();
    segments(pattern)
        .map(|segment| if is_parameter(segment) { values.next().expect("a value each") } else { segment.to_owned() })
        .map(|segment| format!("/{segment}"))
        .collect()
}
