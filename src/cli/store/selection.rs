//! Which messages of a store a command means.

use std::time::{Duration, SystemTime};

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::store::reader::Filter;
use crate::store::writer::time;

#[derive(Args)]
pub(super) struct Selection {
    /// Only messages of clients in this room, for example /devices/7
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// Only messages with a number above this one
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Only messages with a number below this one
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// Only messages that came at this time or later: 2026-11-30, 2026-11-30T14:00:00Z, or 24h (ago); UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Only messages that came before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<SystemTime>,
}

impl Selection {
    /// It as the store takes it.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            room: self.room.clone(),
            after: self.after,
            before: self.before,
            since: self.since.map(time),
            until: self.until.map(time),
        }
    }

    /// Whether all messages are meant.
    pub(super) fn is_all(&self) -> bool {
        let Selection { room, after, before, since, until } = self;
        room.is_none() && after.is_none() && before.is_none() && since.is_none() && until.is_none()
    }
}

/// A day, a time, or how long ago it was.
fn moment(text: &str) -> Result<SystemTime, String> {
    moment_before(SystemTime::now(), text)
}

fn moment_before(now: SystemTime, text: &str) -> Result<SystemTime, String> {
    if let Some(ago) = ago(text) {
        return now.checked_sub(ago).ok_or_else(|| "this is before all time".into());
    }
    let civil = || text.parse::<DateTime>().ok().or_else(|| Some(text.parse::<Date>().ok()?.at(0, 0, 0, 0)));
    let time = text.parse::<Timestamp>().ok().or_else(|| Some(civil()?.to_zoned(TimeZone::UTC).ok()?.timestamp()));
    let wrong = "this is not a time (write 2026-11-30, 2026-11-30T14:00:00Z, or how long ago it was: 90m, 24h, 30d)";
    time.map(SystemTime::from).ok_or_else(|| wrong.into())
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_a_moment_or_a_duration_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let cases = [
            ("1970-01-02", "1970-01-02T00:00:00.000000Z"),
            ("1970-01-02T03:04:05", "1970-01-02T03:04:05.000000Z"),
            ("1970-01-02T03:04:05.5Z", "1970-01-02T03:04:05.500000Z"),
            ("1970-01-02T03:04:05+01:00", "1970-01-02T02:04:05.000000Z"),
            ("40s", "1970-01-12T13:46:00.000000Z"),
            ("46m", "1970-01-12T13:00:40.000000Z"),
            ("1d", "1970-01-11T13:46:40.000000Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(time(moment_before(now, text).unwrap()), expected, "{text}");
        }
        for text in ["", "d", "-1d", "yesterday", "1970-13-01", "1970-01-02T25:00", "99999999999999999999d", "é"] {
            assert!(moment_before(now, text).is_err(), "{text}");
        }
    }
}
