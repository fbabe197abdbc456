//! Medians over the runs, as Markdown tables and as JSON.

use serde_json::{Map, Value, json};

use crate::cases::{Case, Figures, Group, columns};
use crate::process::Kind;

/// All runs of one server in one case.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) kind: Kind,
    pub(crate) runs: Vec<Figures>,
    pub(crate) failures: Vec<String>,
}

impl Row {
    /// The median of every figure, `None` when no run succeeded.
    fn medians(&self) -> Option<Vec<f64>> {
        if self.runs.is_empty() {
            return None;
        }
        let figures = columns(self.case.group()).len();
        Some((0..figures).map(|figure| median(self.runs.iter().map(|run| run.values[figure]).collect())).collect())
    }
}

/// The tables, in the order of their groups, and the failures below them.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let groups = [
        Group::Traffic,
        Group::Rooms,
        Group::Beside,
        Group::FullQueue,
        Group::Idle,
        Group::Large,
        Group::Slow,
        Group::Relayed,
        Group::RelayedCrowd,
        Group::RelayedStopped,
    ];
    for group in groups {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case.group() == group).collect();
        if !rows.is_empty() {
            table(&mut text, group, &rows);
        }
    }
    let failures = rows.iter().flat_map(|row| row.failures.iter().map(move |what| (row, what)));
    for (row, what) in failures {
        text += &format!("- FAILED {} {}: {what}\n", row.case.name(), row.kind.name());
    }
    text
}

/// The same as JSON, with every single run.
pub(crate) fn json(rows: &[Row]) -> Value {
    let named = |case: &Case, values: &[f64]| -> Map<String, Value> {
        columns(case.group()).iter().zip(values).map(|((key, _), value)| ((*key).to_owned(), json!(value))).collect()
    };
    rows.iter()
        .map(|row| {
            json!({
                "case": row.case.name(),
                "server": row.kind.name(),
                "medians": row.medians().map(|medians| named(&row.case, &medians)),
                "runs": row.runs.iter().map(|run| named(&row.case, &run.values)).collect::<Vec<_>>(),
                "notes": row.runs.iter().filter_map(|run| run.note.as_deref()).collect::<Vec<_>>(),
                "failures": row.failures,
            })
        })
        .collect()
}

fn table(text: &mut String, group: Group, rows: &[&Row]) {
    let ratios = ratios(group, rows);
    let mut header = vec!["case".to_owned(), "server".to_owned()];
    for (at, (_, title)) in columns(group).iter().enumerate() {
        header.push((*title).to_owned());
        header.extend(ratios.iter().filter(|ratio| ratio.figure == at).map(|ratio| format!("of {}", ratio.base)));
    }
    *text += &format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(header.len()));
    for row in rows {
        let mut cells = vec![row.case.name(), row.kind.name().to_owned()];
        if let Some(medians) = row.medians() {
            for (at, value) in medians.iter().enumerate() {
                cells.push(number(*value));
                for ratio in ratios.iter().filter(|ratio| ratio.figure == at) {
                    let is_base =
                        |other: &&&Row| other.kind.name() == ratio.base && other.case.name() == row.case.name();
                    let base = rows.iter().find(is_base).and_then(|base| base.medians());
                    cells.push(base.map_or_else(|| "-".to_owned(), |base| format!("{:.2}", value / base[at])));
                }
            }
        } else {
            cells.push("failed".to_owned());
            cells.resize(header.len(), "-".to_owned());
        }
        *text += &format!("| {} |\n", cells.join(" | "));
    }
    text.push('\n');
    for row in rows {
        if let Some(note) = row.runs.last().and_then(|run| run.note.as_deref()) {
            *text += &format!("{} {}: {note}.\n\n", row.case.name(), row.kind.name());
        }
    }
}

/// A column that shows a figure as a multiple of another server's.
struct Ratio<'a> {
    figure: usize,
    base: &'a str,
}

/// Every group is compared with the floor by its first figure, and traffic with the peer by messages a second; what is
/// guarded, with what is not, by its first figure and by the cost of a connection.
fn ratios<'a>(group: Group, rows: &[&'a Row]) -> Vec<Ratio<'a>> {
    let floor = rows.iter().find(|row| row.kind == Kind::Floor);
    let peer = rows.iter().find(|row| group == Group::Traffic && matches!(row.kind, Kind::Peer { .. }));
    let is_guarded = rows.iter().any(|row| matches!(row.kind, Kind::Guarded(_)));
    let open = rows.iter().find(|row| is_guarded && row.kind == Kind::Wsgate);
    let setup = columns(group).iter().position(|(key, _)| *key == "setup_cpu_us");
    let ratio = |figure| move |row: &&'a Row| Ratio { figure, base: row.kind.name() };
    let with_open = [Some(0), setup].into_iter().flatten().filter_map(|figure| open.map(ratio(figure)));
    floor.map(ratio(0)).into_iter().chain(peer.map(ratio(1))).chain(with_open).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Three significant digits, thousands and millions shortened; a dash for what does not apply.
fn number(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "-".to_owned(),
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
