//! The marks, and the table.

use crate::attackers::thousands;
use crate::cases::{Case, Figures, Holdings};
use crate::good::Answers;

/// What the 99th percentile may be, in milliseconds, or this many times that of the quiet run.
const P99_MAX: f64 = 20.0;
const QUIET_TIMES: f64 = 3.0;
/// When the generator itself sends this late, what it measures is its own trouble.
const LATENESS_MAX: f64 = 5.0;

/// The marks that were missed, in words.
pub(crate) fn misses(outcome: &Result<Figures, String>) -> Vec<String> {
    let figures = match outcome {
        Ok(figures) => figures,
        Err(what) => return vec![what.clone()],
    };
    let Figures { quiet, attacked, before, during, after, memory_max_kib, .. } = figures;
    let mut misses = Vec::new();
    for (name, quiet, attacked) in [("echo", &quiet.echo, &attacked.echo), ("room", &quiet.room, &attacked.room)] {
        let p99 = attacked.latencies.quantile(0.99);
        let allowed = P99_MAX.max(QUIET_TIMES * quiet.latencies.quantile(0.99));
        // Written so that "not a number" misses too.
        if !p99.le(&allowed) {
            misses.push(format!("{name} p99 {p99:.1} ms, {allowed:.1} ms allowed"));
        }
        if attacked.lost + quiet.lost > 0 {
            misses.push(format!("{name} {} lost", attacked.lost + quiet.lost));
        }
    }
    if attacked.disconnected + quiet.disconnected > 0 {
        misses.push(format!("{} disconnected", attacked.disconnected + quiet.disconnected));
    }
    let more = during.memory_kib.saturating_sub(before.memory_kib);
    if memory_max_kib.is_some_and(|max| more > max) {
        misses.push(format!("{} KiB more under attack", thousands(more)));
    }
    if !after.is_back(before) {
        misses.push("not back".to_owned());
    }
    misses
}

/// One line for whoever waits.
pub(crate) fn line(case: &Case, figures: &Figures) -> String {
    let late = figures.attacked.lateness.quantile(0.99);
    format!("{}\n  sent late by the generator: p99 {late:.2} ms", row(case, figures, &[]))
}

/// The table, and the notes below it.
pub(crate) fn markdown(rows: &[(Case, Result<Figures, String>)]) -> String {
    let titles = [
        "case",
        "what the attackers do",
        "clients",
        "echo p50 / p99 / p99.9 / max ms",
        "quiet p99",
        "room p50 / p99 / p99.9 / max ms",
        "quiet p99",
        "lost by echo, room",
        "CPU %",
        "threads",
        "descriptors",
        "memory KiB before, under attack, after",
        "back after",
        "",
    ];
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
    for (case, outcome) in rows {
        match outcome {
            Ok(figures) => text += &format!("{}\n", row(case, figures, &misses(outcome))),
            Err(_) => text += &format!("| {} |{} failed |\n", case.name, " - |".repeat(titles.len() - 2)),
        }
    }
    text.push('\n');
    for (case, outcome) in rows {
        if let Err(what) = outcome {
            text += &format!("- FAILED {}: {what}\n", case.name);
            continue;
        }
        let Ok(figures) = outcome else { continue };
        let late = figures.attacked.lateness.quantile(0.99);
        if late > LATENESS_MAX {
            text += &format!("- {}: the generator itself sent late, p99 {late:.1} ms: not to be trusted\n", case.name);
        }
    }
    text
}

fn row(case: &Case, figures: &Figures, misses: &[String]) -> String {
    let Figures { quiet, attacked, what, cpu_percent, cold, before, during, after, recovery, .. } = figures;
    let spread = |of: &Answers| [0.5, 0.99, 0.999, 1.0].map(|share| milliseconds(of.latencies.quantile(share)));
    let pair = |of: fn(&Holdings) -> u64| format!("{} of {}", thousands(of(after)), thousands(of(before)));
    let memory = [before, during, after].map(|holdings| thousands(holdings.memory_kib)).join(", ");
    let cells = [
        case.name.to_owned(),
        what.clone(),
        case.clients().to_string(),
        spread(&attacked.echo).join(" / "),
        milliseconds(quiet.echo.latencies.quantile(0.99)),
        spread(&attacked.room).join(" / "),
        milliseconds(quiet.room.latencies.quantile(0.99)),
        format!("{}, {}", attacked.echo.lost + quiet.echo.lost, attacked.room.lost + quiet.room.lost),
        format!("{cpu_percent:.0}"),
        pair(|holdings| holdings.threads),
        pair(|holdings| holdings.descriptors),
        format!("{memory} (at first {})", thousands(cold.memory_kib)),
        format!("{:.1} s", recovery.as_secs_f64()),
        if misses.is_empty() { "ok".to_owned() } else { misses.join(", ") },
    ];
    format!("| {} |", cells.join(" | "))
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}
