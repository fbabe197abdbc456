//! Durations and sizes as people write them: `30s`, `1MiB`.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const DAY: (&str, u64) = ("d", 86_400_000);
const SIZE_UNITS: [(&str, u64); 4] = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `500ms`, `30s`, `5m`, `1h`: a whole number and its unit.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// The same where it may be days: `30d`.
pub(super) fn parse_long_duration(text: &str) -> Option<Duration> {
    let [ms, s, m, h] = DURATION_UNITS;
    parse(text, &[ms, s, m, h, DAY]).map(Duration::from_millis)
}

/// `1MiB`, `64KiB`, `10GiB`, or a bare number of bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// The duration in the largest unit that needs no fraction.
pub(crate) fn write_duration(duration: Duration) -> String {
    write(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

/// The size in the largest unit that needs no fraction.
pub(crate) fn write_size(bytes: u64) -> String {
    write(bytes, &SIZE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write(number: u64, units: &[(&str, u64)]) -> String {
    let whole = |factor: u64| number >= factor && number.is_multiple_of(factor);
    let (name, factor) = units.iter().rev().find(|(_, factor)| whole(*factor)).unwrap_or(&units[0]);
    format!("{}{name}", number / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let cases = [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("30 s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1m30s", None),
            ("1d", None),
            ("1S", None),
            ("18446744073709551615h", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_of_bytes_or_of_a_binary_unit() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64KiB", Some(64 << 10)),
            ("1MiB", Some(1 << 20)),
            ("10GiB", Some(10 << 30)),
            ("", None),
            ("KiB", None),
            ("1MB", None),
            ("1M", None),
            ("1mib", None),
            ("1 MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("18446744073709551615KiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (millis, text) in [(1, "1ms"), (1500, "1500ms"), (30_000, "30s"), (90_000, "90s"), (7_200_000, "2h")] {
            let duration = Duration::from_millis(millis);
            assert_eq!(write_duration(duration), text);
            assert_eq!(parse_duration(text), Some(duration));
        }
        for (bytes, text) in [(0, "0"), (1000, "1000"), (1024, "1KiB"), (1 << 20, "1MiB"), (1536, "1536")] {
            assert_eq!(write_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
    }
}
