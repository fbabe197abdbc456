//! Durations of the command line.

use std::time::Duration;

/// The longest duration that an option takes: far above what makes sense, far below what a clock can hold.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration with its unit: `500ms`, `2s`, `1.5s`, `5m`; `0` needs none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" if number == "0" => 1.0,
        "" => return Err("the unit is missing (write '500ms', '2s' or '5m')".into()),
        _ => return Err("this is not a duration (write '500ms', '2s' or '5m')".into()),
    };
    let number: f64 = number.parse().map_err(|_| "this is not a duration (write '500ms', '2s' or '5m')")?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| "this is longer than 24 hours".into())
}

/// A duration in which something can happen.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("this must be longer than zero (write '10s')".into()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_has_a_limit() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("24h", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 s", "1d", "25h", "1e9s", "1..5s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(timeout("0").is_err());
    }
}
