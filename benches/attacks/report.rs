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
pub(crate) fn misses(case: &Case, outcome: &Result<Figures, String>) -> Vec<String> {
    let figures = match outcome {
        Ok(figures) => figures,
        Err(what) => return vec![what.clone()],
    };
    let Figures { quiet, attacked, before, during, after, .. } = figures;
    let mut misses = Vec::new();
    for (name, quiet, attacked) in [("echo", &quiet.echo, &attacked.echo), ("room", &quiet.room, &attacked.room)] {
        let p99 = attacked.latencies.quantile(0.99);
        let near_quiet = QUIET_TIMES * quiet.latencies.quantile(0.99);
        let allowed = match case.near_quiet && name == "echo" {
            true => P99_MAX.min(near_quiet),
            false => P99_MAX.max(near_quiet),
        };
        // Written so that "not a number" misses too.
        if !p99.le(&allowed) {
            misses.push(format!("{name} p99 {p99:.2} ms, {allowed:.2} ms allowed"));
        }
        if attacked.lost + quiet.lost > 0 {
            misses.push(format!("{name} {} lost", attacked.lost + quiet.lost));
        }
    }
    if attacked.disconnected + quiet.disconnected > 0 {
        misses.push(format!("{} disconnected", attacked.disconnected + quiet.disconnected));
    }
    let more = during.memory_kib.saturating_sub(before.memory_kib);
    if case.more_max_kib.is_some_and(|max| more > max) {
        misses.push(format!("{} KiB more under attack", thousands(more)));
    }
    if case.peak_max_kib.is_some_and(|max| after.peak_kib > max) {
        misses.push(format!("{} KiB at the most", thousands(after.peak_kib)));
    }
    if !after.is_back(before) {
        misses.push(format!(
            "not back: {} threads of {}, {} descriptors of {}",
            after.threads, before.threads, after.descriptors, before.descriptors
        ));
    }
    misses
}

/// One line for whoever waits.
pub(crate) fn line(case: &Case, figures: &Figures) -> String {
    let Figures { attacked, before, after, .. } = figures;
    let [late, echo, room] = [&attacked.lateness, &attacked.echo.latencies, &attacked.room.latencies];
    let pair = |of: fn(&Holdings) -> u64| format!("{} of {}", of(after), of(before));
    format!(
        "{}\n  p99.9 of echo and room {:.2} and {:.2} ms; threads {}, descriptors {}; sent late by the generator: p99 {:.2} ms",
        row(case, figures, &[]),
        echo.quantile(0.999),
        room.quantile(0.999),
        pair(|holdings| holdings.threads),
        pair(|holdings| holdings.descriptors),
        late.quantile(0.99),
    )
}

/// The table as docs/benchmarks.md has it, and the notes below it.
pub(crate) fn markdown(rows: &[(Case, Result<Figures, String>)]) -> String {
    let titles = [
        "case",
        "what the attackers did",
        "echo p50 / p99 / max ms",
        "quiet p99",
        "room p50 / p99 / max ms",
        "quiet p99",
        "lost",
        "CPU %",
        "memory at first, before, under attack, after, at the most, MiB",
        "back",
    ];
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
    for (case, outcome) in rows {
        match outcome {
            Ok(figures) => text += &format!("{}\n", row(case, figures, &misses(case, outcome))),
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
    let Figures { quiet, attacked, what, cpu_percent, cold, before, during, after, recovery } = figures;
    let spread = |of: &Answers| [0.5, 0.99, 1.0].map(|share| milliseconds(of.latencies.quantile(share))).join(" / ");
    let lost = attacked.echo.lost + quiet.echo.lost + attacked.room.lost + quiet.room.lost;
    let memory = [cold.memory_kib, before.memory_kib, during.memory_kib, after.memory_kib, after.peak_kib];
    let back = format!("after {:.1} s", recovery.as_secs_f64());
    let cells = [
        case.name.to_owned(),
        what.clone(),
        spread(&attacked.echo),
        milliseconds(quiet.echo.latencies.quantile(0.99)),
        spread(&attacked.room),
        milliseconds(quiet.room.latencies.quantile(0.99)),
        thousands(lost),
        format!("{cpu_percent:.0}"),
        memory.map(|kib| thousands(kib.div_ceil(1024))).join(", "),
        if misses.is_empty() { back } else { misses.join(", ") },
    ];
    format!("| {} |", cells.join(" | "))
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}
