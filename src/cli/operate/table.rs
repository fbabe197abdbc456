//! Tables for people.

use crate::display::printable;

/// How much of a cell is shown.
const CELL_MAX: usize = 60;

/// A table: each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// The columns whose cells are numbers.
    numbers: Vec<usize>,
}

impl Table {
    /// One with these titles; a title that ends with `#` is of numbers, and is shown without it.
    pub(super) fn new(titles: &[&str]) -> Table {
        let numbers = titles.iter().enumerate().filter(|(_, title)| title.ends_with('#')).map(|(index, _)| index);
        let numbers = numbers.collect();
        let titles = titles.iter().map(|title| title.trim_end_matches('#').to_owned()).collect();
        Table { rows: vec![titles], numbers }
    }

    /// One more row; an empty cell is shown as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { printable(&cell, CELL_MAX) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Its lines.
    pub(super) fn lines(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        let mut lines = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| match self.numbers.contains(&column) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                })
                .collect();
            lines.push_str(cells.join("  ").trim_end());
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_no_cell_breaks_a_line() {
        let mut table = Table::new(&["NAME", "CLIENTS#", "WHO"]);
        table.row(["é\n\u{1b}".to_owned(), "7".to_owned(), String::new()]);
        table.row(["x".to_owned(), "12345678".to_owned(), "y".repeat(99)]);
        let long = format!("x          12345678  {}...", "y".repeat(60));
        let expected = ["NAME        CLIENTS  WHO", "é\\n\\u{1b}         7  -", &long];
        assert_eq!(table.lines().lines().collect::<Vec<_>>(), expected);
    }
}
