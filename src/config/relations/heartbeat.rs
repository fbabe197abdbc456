//! The heartbeat of endpoints and links.

use std::time::Duration;

use crate::config::mistake::Report;

/// A `pong_timeout` has no meaning without a heartbeat.
pub(super) fn check_pong_timeout(table: &str, at: Option<usize>, heartbeat: Option<Duration>, report: &Report<'_>) {
    if let (Some(at), None) = (at, heartbeat) {
        report.mistake(
            at,
            format!(
                "\"pong_timeout\" in {table} has no meaning with heartbeat = \"off\": remove it, or give heartbeat a \
                 duration"
            ),
        );
    }
}
