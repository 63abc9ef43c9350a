//! Tables that align at the width of the terminal.

use super::{Style, Ui};
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, TableComponent, Width, presets};

/// A table with a header line, no frame, and columns two blanks apart.
#[derive(Debug)]
pub struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// A table with these column heads.
    pub fn new(ui: &Ui, heads: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(ui.width()).unwrap_or(80));
        table.set_style(TableComponent::VerticalLines, ' ');
        if ui.color_out {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_width(u16::try_from(ui.width()).unwrap_or(80));
        table.set_header(heads.iter().map(|head| cell(ui, Style::Dim, head)));
        Self { table }
    }

    /// Adds a row; each cell with its meaning.
    pub fn row<S: AsRef<str>>(&mut self, ui: &Ui, cells: impl IntoIterator<Item = (Style, S)>) {
        self.table.add_row(
            cells
                .into_iter()
                .map(|(style, text)| cell(ui, style, text.as_ref())),
        );
    }

    /// Keeps a column from being wrapped.
    pub fn keep_whole(&mut self, column: usize) {
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }

    /// Keeps the words of a column, of the rows so far, from being broken.
    pub fn keep_words(&mut self, column: usize) {
        let rows = self.table.row_iter();
        let cells = rows.filter_map(|row| row.cell_iter().nth(column));
        let texts: Vec<_> = cells.map(Cell::content).collect();
        let words = texts.iter().flat_map(|text| text.split_whitespace());
        let longest = words.map(|word| word.chars().count()).max().unwrap_or(0);
        // With the blank behind it.
        let longest = u16::try_from(longest + 1).unwrap_or(u16::MAX);
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(longest)));
        }
    }

    /// Gives a column at most `width` characters a line.
    pub fn limit(&mut self, column: usize, width: u16) {
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(width)));
        }
    }

    /// The table as lines without trailing blanks.
    pub fn render(mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        let text = self.table.to_string();
        let lines: Vec<_> = text.lines().map(without_trailing_blanks).collect();
        lines.join("\n")
    }
}

/// A line without the blanks at its end, also where a colour ends behind them.
fn without_trailing_blanks(line: &str) -> String {
    let mut rest = line.trim_end();
    let mut colours = Vec::new();
    while let Some((before, colour)) = rest.rsplit_once("\x1b[")
        && let Some(code) = colour.strip_suffix('m')
        && code.chars().all(|c| c.is_ascii_digit() || c == ';')
    {
        colours.push(&rest[before.len()..]);
        rest = before.trim_end();
    }
    let colours = colours.into_iter().rev();
    std::iter::once(rest).chain(colours).collect()
}

fn cell(ui: &Ui, style: Style, text: &str) -> Cell {
    use comfy_table::{Attribute, Color};
    let cell = Cell::new(text);
    if !ui.color_out {
        return cell;
    }
    match style {
        Style::Plain => cell,
        Style::Good => cell.fg(Color::Green),
        Style::Warn => cell.fg(Color::Yellow),
        Style::Bad => cell.fg(Color::Red),
        Style::Dim => cell.add_attribute(Attribute::Dim),
        Style::Strong => cell.add_attribute(Attribute::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_before_the_end_of_a_colour_are_trailing_ones() {
        for (line, trimmed) in [
            ("a b  ", "a b"),
            ("\x1b[33ma  \x1b[39m  ", "\x1b[33ma\x1b[39m"),
            ("a \x1b[1;2m  \x1b[0m \x1b[39m", "a\x1b[1;2m\x1b[0m\x1b[39m"),
            ("a [0m", "a [0m"),
        ] {
            assert_eq!(without_trailing_blanks(line), trimmed);
        }
    }
}
