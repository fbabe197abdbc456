//! Medians over the runs, as Markdown tables and as JSON.

use serde_json::{Map, Value, json};

use crate::cases::{Case, Figures, Group, columns};

/// All runs of one server in one case.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) server: String,
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

    /// The median of the first figure of the group.
    fn first_median(&self) -> Option<f64> {
        self.medians().and_then(|medians| medians.first().copied())
    }
}

/// The tables, in the order of their groups, and the failures below them.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    for group in [Group::Relay, Group::Idle, Group::Large, Group::Slow] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case.group() == group).collect();
        if !rows.is_empty() {
            table(&mut text, group, &rows);
        }
    }
    let failures = rows.iter().flat_map(|row| row.failures.iter().map(move |what| (row, what)));
    for (row, what) in failures {
        text += &format!("- FAILED {} {}: {what}\n", row.case.name(), row.server);
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
                "server": row.server,
                "medians": row.medians().map(|medians| named(&row.case, &medians)),
                "runs": row.runs.iter().map(|run| named(&row.case, &run.values)).collect::<Vec<_>>(),
                "notes": row.runs.iter().filter_map(|run| run.note.as_deref()).collect::<Vec<_>>(),
                "failures": row.failures,
            })
        })
        .collect()
}

fn table(text: &mut String, group: Group, rows: &[&Row]) {
    let titles: Vec<&str> = columns(group).iter().map(|(_, title)| *title).collect();
    // The ratio stands behind the figure that it is of.
    let has_floor = rows.iter().any(|row| row.server == "floor");
    let (first, rest) = titles.split_at(1);
    let ratio = if has_floor { vec!["of floor"] } else { vec![] };
    let header = [&["case", "server"], first, &ratio, rest].concat();
    *text += &format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(header.len()));
    for row in rows {
        let mut cells = vec![row.case.name(), row.server.clone()];
        match row.medians() {
            Some(medians) => {
                let floor = rows.iter().find(|other| other.server == "floor" && other.case.name() == row.case.name());
                let of_floor = floor.and_then(|floor| floor.first_median()).map(|floor| medians[0] / floor);
                cells.push(number(medians[0]));
                if has_floor {
                    cells.push(of_floor.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
                }
                cells.extend(medians[1..].iter().map(|value| number(*value)));
            }
            None => {
                cells.push("failed".to_owned());
                cells.resize(header.len(), "-".to_owned());
            }
        }
        *text += &format!("| {} |\n", cells.join(" | "));
    }
    text.push('\n');
    for row in rows {
        if let Some(note) = row.runs.last().and_then(|run| run.note.as_deref()) {
            *text += &format!("{} {}: {note}.\n\n", row.case.name(), row.server);
        }
    }
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
