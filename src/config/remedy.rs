//! What was probably meant by a value that is wrong, as the configuration writes it. Rules: each takes what stands in the
//! file and returns the right value, or nothing where a guess would mislead.

use std::time::Duration;

use super::units::{write_duration, write_size};

/// Words for a limit that is switched off.
const OFF: [&str; 14] = [
    "off",
    "false",
    "never",
    "none",
    "no",
    "null",
    "disabled",
    "disable",
    "unlimited",
    "infinite",
    "inf",
    "",
    "0",
    "-1",
];

/// The most that a duration can be, see the configuration's section on durations.
const DURATION_MAX_MS: f64 = 24.0 * 3_600_000.0;

/// `"30s"` for `30`, `30 sec`, `0.5m` or `1m30s`; a number without a unit is taken for seconds, a large one for
/// milliseconds, as JavaScript has them.
pub(super) fn duration(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let mut milliseconds = 0.0;
    let mut rest = &*text;
    while !rest.is_empty() {
        let (number, unit, behind) = measure(rest)?;
        let factor = match unit {
            "" if !behind.is_empty() => return None,
            "" if number < 1000.0 => 1000.0,
            "" | "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 24.0 * 3_600_000.0,
            _ => return None,
        };
        milliseconds += number * factor;
        rest = behind;
    }
    let in_bounds = (1.0..=DURATION_MAX_MS).contains(&milliseconds);
    in_bounds.then(|| format!("{:?}", write_duration(Duration::from_millis(milliseconds as u64))))
}

/// Whether the text says that a deadline is not wanted.
pub(super) fn is_off(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    OFF.contains(&&*text)
        || measure(&text).is_some_and(|(number, unit, behind)| {
            number == 0.0 && unit.chars().all(char::is_alphabetic) && behind.is_empty()
        })
}

/// `"1MiB"` for `1MB`, `1 m` or `1.5 MiB`; a unit of a thousand is taken for that of 1,024, which is a little more.
pub(super) fn size(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit, behind) = measure(&text)?;
    let factor = match unit {
        "" | "b" | "byte" | "bytes" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1_048_576.0,
        "g" | "gb" | "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let bytes = number * factor;
    let in_bounds = behind.is_empty() && (1.0..=64.0 * 1_073_741_824.0).contains(&bytes);
    in_bounds.then(|| format!("{:?}", write_size(bytes as u64)))
}

/// A number and its unit at the beginning of a text, and what is behind them.
fn measure(text: &str) -> Option<(f64, &str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    let text = text[end..].trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    Some((number, &text[..end], text[end..].trim_start()))
}

/// `true` or `false` for words and numbers that mean it.
pub(super) fn boolean(text: &str) -> Option<&'static str> {
    match &*text.trim().to_ascii_lowercase() {
        "true" | "yes" | "on" | "1" | "y" => Some("true"),
        "false" | "no" | "off" | "0" | "n" => Some("false"),
        _ => None,
    }
}

/// `["a", "b"]` for `a, b`: one text that was meant as several.
pub(super) fn list(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split([',', ';']).map(str::trim).filter(|word| !word.is_empty()).collect();
    let is_word = |word: &&str| !word.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'));
    (words.len() > 1 && words.iter().all(is_word)).then(|| format!("{words:?}"))
}

/// `127.0.0.1:8080` for what is the host, the port or a URL of an address to listen on.
pub(super) fn address(host: Option<&str>, port: Option<&str>) -> String {
    let host = match host.map(|host| host.trim().trim_matches(['[', ']'])) {
        None | Some("" | "localhost") => "127.0.0.1".to_owned(),
        Some("*") => "0.0.0.0".to_owned(),
        Some(host) if host.contains(':') => format!("[{host}]"),
        Some(host) => host.to_owned(),
    };
    format!("{:?}", format!("{host}:{}", port.unwrap_or("8080")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b30_a_duration_or_a_size_that_was_meant_is_found() {
        for (text, expected) in [
            ("30", Some("\"30s\"")),
            ("30000", Some("\"30s\"")),
            ("30 s", Some("\"30s\"")),
            ("30S", Some("\"30s\"")),
            ("1 minute", Some("\"1m\"")),
            ("1m30s", Some("\"90s\"")),
            ("1h 30m", Some("\"90m\"")),
            ("0.5s", Some("\"500ms\"")),
            ("1d", Some("\"24h\"")),
            ("2d", None),
            ("0s", None),
            ("-1s", None),
            ("soon", None),
            ("30 30", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(duration(text).as_deref(), expected, "{text}");
        }
        for text in ["0", "0s", "Never", "false", "-1", "none", ""] {
            assert!(is_off(text), "{text}");
        }
        for text in ["1", "10s", "soon"] {
            assert!(!is_off(text), "{text}");
        }
        for (text, expected) in [
            ("1MB", Some("\"1MiB\"")),
            ("1 mib", Some("\"1MiB\"")),
            ("64k", Some("\"64KiB\"")),
            ("1.5MiB", Some("\"1536KiB\"")),
            ("1000 bytes", Some("\"1000\"")),
            ("0", None),
            ("much", None),
            ("1TB", None),
        ] {
            assert_eq!(size(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn b30_words_lists_and_addresses_that_were_meant_are_found() {
        assert_eq!([boolean("Yes"), boolean("off"), boolean("maybe")], [Some("true"), Some("false"), None]);
        assert_eq!(list("mqtt, ocpp1.6").as_deref(), Some("[\"mqtt\", \"ocpp1.6\"]"));
        assert_eq!(list("mqtt"), None);
        for (host, port, expected) in [
            (None, Some("9000"), "\"127.0.0.1:9000\""),
            (Some("0.0.0.0"), Some("9000"), "\"0.0.0.0:9000\""),
            (Some("*"), None, "\"0.0.0.0:8080\""),
            (Some("localhost"), None, "\"127.0.0.1:8080\""),
            (Some("::1"), Some("80"), "\"[::1]:80\""),
        ] {
            assert_eq!(address(host, port), expected);
        }
    }
}
