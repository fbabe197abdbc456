//! The metrics of the gateway as a whole: connections before they are clients, limits, the fan-out, reloads and the log.

use std::fmt;

use crate::log_loss;
use crate::metrics::families::Families;
use crate::shared::Shared;

pub(super) fn encode(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    families.gauges("wsgate_build_info", "The version that runs; the value is always 1.", [(version, 1u64)])?;
    connections(shared, families)?;
    families.histograms(
        "wsgate_fanout_duration_seconds",
        "How long a turn of the broadcaster took for a room: from the moment when a message began to wait until \
         all clients had it or had it queued. Rooms of up to four clients mostly need no turn.",
        [([], shared.rooms.fanout.read())],
    )?;
    reloads(shared, families)?;
    families.counters(
        "wsgate_log_lines_lost",
        "Log lines that nobody can read: not_accepted by standard error, or left out because of lines_per_second \
         (limit).",
        [([("reason", "not_accepted")], log_loss::not_accepted()), ([("reason", "limit")], log_loss::left_out())],
    )
}

fn connections(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let (connections, handshakes) = (&shared.connections, &shared.handshakes);
    families.gauge(
        "wsgate_connections",
        "Connections that are open now, with those whose handshake is not done.",
        connections.in_use(),
    )?;
    families.gauge(
        "wsgate_connections_limit",
        "How many connections may be open at once (max_connections, or what the system allows).",
        connections.limit(),
    )?;
    families.counter(
        "wsgate_connections_accepted",
        "Connections that were accepted. Each becomes a client or a handshake failure.",
        shared.counters.accepted(),
    )?;
    families.gauge("wsgate_handshakes_unfinished", "Handshakes that are not done.", handshakes.unfinished())?;
    families.gauge(
        "wsgate_handshakes_limit",
        "How many handshakes may be unfinished at once (max_handshakes).",
        handshakes.limit(),
    )?;
    let failures = shared.counters.handshake_failures.all();
    families.counters(
        "wsgate_handshake_failures",
        "Accepted connections that did not become clients, by reason.",
        failures.map(|(reason, count)| ([("reason", reason)], count)),
    )?;
    let causes = shared.refused.all().map(|(cause, count)| ([("cause", cause.trim_start_matches("the "))], count));
    families.counters(
        "wsgate_limits_hit",
        "Connections that were refused because of a limit, by the name of the limit; system is one of the \
         operating system.",
        causes,
    )
}

fn reloads(shared: &Shared, families: &mut Families<'_>) -> fmt::Result {
    let reloads = &shared.counters.reloads;
    families.counters(
        "wsgate_reloads",
        "Reloads, by result.",
        [([("result", "ok")], reloads.succeeded()), ([("result", "failed")], reloads.failed())],
    )?;
    families.gauge(
        "wsgate_last_reload_successful",
        "1 if the last reload was successful or there was none, 0 if it failed and nothing has changed.",
        u64::from(!reloads.has_last_failed()),
    )?;
    families.gauge(
        "wsgate_last_reload_timestamp_seconds",
        "When the last reload was, or the start if there was none, in seconds since 1970.",
        reloads.last().as_secs_f64(),
    )
}
