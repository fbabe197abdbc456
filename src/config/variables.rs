//! Variables of the environment in the strings of the file.

use std::env;

/// A variable as other programs write it, `$NAME` or `$(NAME)`, and its name. In lower case it may well be meant as it
/// is: `?$filter=1`.
pub(super) fn other_variable(written: &str) -> Option<(&str, &str)> {
    let in_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    written.match_indices('$').find_map(|(at, _)| {
        let before = written[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '$') {
            return None;
        }
        let behind = &written[at + 1..];
        let inner = behind.strip_prefix('(').unwrap_or(behind);
        let name = &inner[..inner.find(|c| !in_name(c)).unwrap_or(inner.len())];
        let in_brackets = inner.len() < behind.len();
        let is_name = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_uppercase());
        let ends = if in_brackets { inner[name.len()..].starts_with(')') } else { true };
        let len = 1 + name.len() + if in_brackets { 2 } else { 0 };
        (is_name && ends).then(|| (&written[at..at + len], name))
    })
}

/// Puts variables of the environment in the place of `${NAME}`; `$${` stands for `${`.
pub(crate) fn substitute(
    written: &str,
    environment: impl Fn(&str) -> Result<String, env::VarError>,
) -> Result<String, String> {
    let mut value = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            value.push_str(before);
            value.push_str("${");
            rest = after;
            continue;
        }
        value.push_str(before);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| {
            !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
        });
        let Some(name) = name else {
            return Err(
                "has a \"${\" without a variable's name and \"}\" after it: write \"${NAME}\" for a variable of \
                        the environment, or \"$${\" for the two characters"
                    .to_owned(),
            );
        };
        value.push_str(&environment(name).map_err(|error| match error {
            env::VarError::NotPresent => {
                format!("needs the environment variable {name:?}, which is not set: set it before wsgate starts")
            }
            env::VarError::NotUnicode(_) => {
                format!("needs the environment variable {name:?}, which is not UTF-8: set it to UTF-8 text")
            }
        })?);
        rest = &after[name.len() + 1..];
    }
    value.push_str(rest);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_environment_are_put_in_place() {
        let environment = |name: &str| match name {
            "A" => Ok("one".to_owned()),
            "B_2" => Ok("${A}".to_owned()),
            _ => Err(env::VarError::NotPresent),
        };
        let cases = [
            ("plain $5 } {", Ok("plain $5 } {")),
            ("${A}", Ok("one")),
            ("<${A}${A}>", Ok("<oneone>")),
            ("${B_2}", Ok("${A}")),
            ("$${A}", Ok("${A}")),
            ("$${A} ${A}", Ok("${A} one")),
            ("${C}", Err("needs the environment variable \"C\"")),
            ("${}", Err("has a \"${\"")),
            ("${A", Err("has a \"${\"")),
            ("${1A}", Err("has a \"${\"")),
            ("${A-b}", Err("has a \"${\"")),
        ];
        for (written, expected) in cases {
            match (substitute(written, environment), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{written}"),
                (Err(reason), Err(beginning)) => assert!(reason.starts_with(beginning), "{written}: {reason}"),
                (result, _) => panic!("{written}: {result:?}"),
            }
        }
    }

    #[test]
    fn b29_a_variable_of_another_program_is_recognised() {
        for (written, expected) in [
            ("$TOKEN", Some(("$TOKEN", "TOKEN"))),
            ("Bearer $API_KEY2, x", Some(("$API_KEY2", "API_KEY2"))),
            ("wss://$(PLC_HOST)/x", Some(("$(PLC_HOST)", "PLC_HOST"))),
            ("${A}$TOKEN", Some(("$TOKEN", "TOKEN"))),
            ("${TOKEN}", None),
            ("$${TOKEN}", None),
            ("$$TOKEN", None),
            ("costs US$ABC", None),
            ("$5", None),
            ("$A", None),
            ("$filter=1", None),
            ("$(TOKEN", None),
            ("$", None),
        ] {
            assert_eq!(other_variable(written), expected, "{written}");
        }
    }
}
