//! Tables without borders: aligned columns that fit a terminal, and plain lines in a pipe.

use comfy_table::{Cell, CellAlignment, ContentArrangement, TableStyle};

use super::color::Tone;
use super::text::term_safe;

/// A table. Every cell is made terminal-safe, so foreign text may be put in as it came.
#[derive(Debug)]
pub struct Table {
    table: comfy_table::Table,
    headings: usize,
    is_colored: bool,
    escapes_allowed: bool,
}

impl Table {
    /// On a terminal of `width` columns cells are wrapped to fit; without a width each row is one line, however long.
    pub(super) fn new(headings: &[&str], width: Option<usize>, is_colored: bool, escapes_allowed: bool) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(TableStyle::new()).force_no_tty();
        if is_colored {
            // crossterm reads NO_COLOR by itself; what was decided here wins.
            crossterm::style::force_color_output(true);
            table.enforce_styling();
        }
        match width {
            Some(width) => {
                table.set_width(u16::try_from(width).unwrap_or(u16::MAX)).set_content_arrangement(ContentArrangement::Dynamic);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        let heading = |text: &&str| Tone::Strong.on_cell(Cell::new(text.to_uppercase()));
        table.set_header(headings.iter().map(heading).collect::<Vec<_>>());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, headings: headings.len(), is_colored, escapes_allowed }
    }

    /// Aligns a column's cells to the right, as numbers are.
    #[must_use]
    pub fn right(mut self, column: usize) -> Self {
        if let Some(column) = self.table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Adds a row of plain cells.
    pub fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        self.toned(cells.iter().map(|cell| (cell.as_ref(), None)));
    }

    /// Adds a row whose cells may have a tone.
    pub fn toned<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Option<Tone>)>) {
        let row: Vec<Cell> = cells
            .into_iter()
            .take(self.headings)
            .map(|(text, tone)| {
                let cell = Cell::new(if self.escapes_allowed { text.into() } else { term_safe(text) });
                tone.filter(|_| self.is_colored).map_or(cell.clone(), |tone| tone.on_cell(cell))
            })
            .collect();
        self.table.add_row(row);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The lines, without spaces at their ends.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.table.lines().map(|line| line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::width;
    use super::*;

    fn table(width: Option<usize>, is_colored: bool) -> Table {
        let mut table = Table::new(&["fan", "preview", "spend"], width, is_colored, false).right(2);
        table.row(&["Ann 👩‍👩‍👧", "short", "$12.00"]);
        table.row(&["你好", &format!("a\u{1b}[31m {}", "many words and \u{202e}more ".repeat(12)), "$1,000.00"]);
        table.toned([("x", Some(Tone::Bad)), ("", None), ("$0.00", None)]);
        table
    }

    #[test]
    fn a_terminal_is_never_overrun() {
        for columns in [40, 80, 200] {
            let lines: Vec<String> = table(Some(columns), false).lines().collect();
            assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:#?}");
            assert!(lines.len() > 4, "long cells are wrapped, not cut: {lines:#?}");
            let text: String = lines.concat().split_whitespace().collect();
            assert_eq!(text.matches("\\u{202e}more").count(), 12, "{lines:#?}");
        }
    }

    #[test]
    fn a_pipe_gets_one_plain_line_a_row() {
        let lines: Vec<String> = table(None, false).lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("FAN") && lines[0].ends_with("SPEND"), "{lines:#?}");
        assert!(lines[1].ends_with("   $12.00") && lines[2].contains(r"a\u{1b}[31m many"), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains('\u{1b}') && line.trim_end() == line));
        let columns: Vec<usize> = [&lines[0], &lines[1], &lines[3]].into_iter().map(|line| width(line)).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "columns are aligned: {lines:#?}");
    }

    #[test]
    fn tones_are_colours_only_where_colours_are() {
        let text: String = table(Some(80), true).lines().collect();
        assert!(text.contains("\u{1b}[") && !text.contains("\u{1b}[31m many"), "{text:?}");
    }
}
