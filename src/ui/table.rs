//! Tables: aligned columns that fit the terminal, or tab-separated values.
//!
//! A command declares its columns and adds rows. On a terminal, columns become shorter and the least important ones
//! disappear. If even the important columns do not fit, each row becomes a block of lines. In a pipe, each row is one
//! line with all columns.

use super::column::{ColumnScope, Fit, GAP, NARROW_WIDTH, ShownColumn, distribute_widths};
use super::text_width::{columns as width_of, elide_end};
use super::{Style, Ui, Verbosity, paint, time, wrap};
use crate::io::ansi::to_printable_line;
use crate::io::clock::Zone;
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;

pub(crate) use super::column::Column;

#[derive(Debug, Clone)]
pub(crate) struct Cell {
    style: Style,
    text: String,
    value: Option<String>,
}

impl Cell {
    /// Creates a cell. `style` is the meaning of its text. Characters that steer a terminal are replaced.
    pub(crate) fn new(style: Style, text: impl Into<String>) -> Self {
        Self {
            style,
            text: into_printable_line(text.into()),
            value: None,
        }
    }

    /// Creates a cell in [`Style::Plain`].
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(Style::Plain, text)
    }

    /// Creates a cell with a time: short on a terminal, RFC 3339 in tab-separated values, empty for `None`.
    pub(crate) fn time(at: Option<DateTime<Utc>>, zone: Zone, now: &DateTime<Utc>) -> Self {
        let short = at.map(|at| time::format_absolute(&at, zone, now));
        let exact = at.map(|at| time::rfc3339(&at, zone));
        Self::plain(short.unwrap_or_default()).value(exact.unwrap_or_default())
    }

    pub(crate) fn bytes(bytes: u64) -> Self {
        Self::plain(time::bytes(bytes)).value(bytes)
    }

    /// Sets the form in tab-separated values: an RFC 3339 time, a number of bytes, a plain percentage.
    #[must_use]
    pub(crate) fn value(self, value: impl Display) -> Self {
        let value = Some(into_printable_line(value.to_string()));
        Self { value, ..self }
    }
}

/// Replaces characters that steer a terminal. Copies no text without any, because a list has hundreds of thousands of
/// cells.
fn into_printable_line(text: String) -> String {
    match to_printable_line(&text) {
        Cow::Owned(printable) => printable,
        Cow::Borrowed(_) => text,
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::plain(text)
    }
}

impl<S: Into<String>> From<(Style, S)> for Cell {
    fn from((style, text): (Style, S)) -> Self {
        Self::new(style, text)
    }
}

enum Line {
    /// A heading above the rows that follow: a name, which may be shortened, and a remark.
    Group(Box<(Cell, Option<Cell>)>),
    /// A row, as the range of its cells in [`Table::cells`].
    Row(Range<usize>),
}

/// Adds an apostrophe to a text that begins like a formula, so that no spreadsheet computes it.
fn escape_formula(text: &str) -> Cow<'_, str> {
    // Excel and LibreOffice compute such cells when they open a file. A conversation title may be a hostile formula.
    let is_number = text.parse::<f64>().is_ok();
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number && text != "-" {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A table with a line of heads, without a frame.
pub(crate) struct Table {
    columns: Vec<Column>,
    lines: Vec<Line>,
    /// The style of each cell, and the end of its text in `texts`. This saves an allocation for each cell, because a
    /// list may have 200,000 rows.
    cells: Vec<(Style, usize)>,
    texts: String,
    /// True for tab-separated values, so that the cells contain exact values for programs.
    has_values: bool,
    /// The width of the terminal; `None` in a pipe.
    width: Option<usize>,
    is_colored: bool,
    /// True if a long table repeats its heads below the last row, because the first ones may have scrolled away.
    repeats_heads: bool,
    /// True if a narrow terminal gets rows with fewer columns instead of blocks.
    keeps_rows: bool,
}

/// The number of bytes that are printed at a time.
const PRINT_CHUNK_BYTES: usize = 64 * 1024;

/// The number of lines from which on heads are repeated.
const LONG_TABLE_LINES: usize = 20;

impl Table {
    pub(crate) fn new(ui: &Ui, columns: impl IntoIterator<Item = Column>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            lines: Vec::new(),
            cells: Vec::new(),
            texts: String::new(),
            has_values: ui.tsv,
            width: ui.terminal_out.then_some(ui.width),
            is_colored: ui.color_out,
            repeats_heads: false,
            keeps_rows: false,
        }
    }

    pub(crate) fn with_rows<C: Into<Cell>, R: IntoIterator<Item = C>>(
        ui: &Ui,
        columns: impl IntoIterator<Item = Column>,
        rows: impl IntoIterator<Item = R>,
    ) -> Self {
        let mut table = Self::new(ui, columns);
        rows.into_iter().for_each(|row| table.add_row(row));
        table
    }

    /// Repeats the heads below the last row of a long table on a terminal.
    #[must_use]
    pub(crate) fn repeat_heads(mut self) -> Self {
        self.repeats_heads = true;
        self
    }

    /// Omits columns on a narrow terminal, instead of printing each row as a block of lines.
    #[must_use]
    pub(crate) fn keep_rows(mut self) -> Self {
        self.keeps_rows = true;
        self
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn add_row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let first = self.cells.len();
        for cell in cells {
            let Cell { style, text, value } = cell.into();
            let value = value.filter(|_| self.has_values);
            self.texts.push_str(&value.unwrap_or(text));
            self.cells.push((style, self.texts.len()));
        }
        self.lines.push(Line::Row(first..self.cells.len()));
    }

    /// Returns the style and the text of the cell of a row in a column.
    fn find_cell(&self, row: &Range<usize>, column: usize) -> Option<(Style, &str)> {
        let index = row.start + column;
        let (style, end) = *self.cells.get(index).filter(|_| index < row.end)?;
        let previous = index.checked_sub(1).and_then(|index| self.cells.get(index));
        let text = self.texts.get(previous.map_or(0, |(_, end)| *end)..end)?;
        Some((style, text))
    }

    /// Adds a heading for the rows that follow, with a remark behind the name. Tab-separated values have no headings.
    pub(crate) fn add_group(&mut self, name: impl Into<String>, remark: Option<Cell>) {
        let name = Cell::new(Style::Strong, name);
        self.lines.push(Line::Group(Box::new((name, remark))));
    }

    fn format_group_heading(&self, (name, remark): &(Cell, Option<Cell>)) -> String {
        let remark_width = remark
            .as_ref()
            .map_or(0, |remark| width_of(&remark.text) + GAP);
        let width = self
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(remark_width));
        let name_text = elide_end(&name.text, width);
        let mut heading = paint(self.is_colored, name.style, name_text);
        if let Some(remark) = remark {
            heading.push_str(&" ".repeat(GAP));
            heading.push_str(&paint(self.is_colored, remark.style, &remark.text));
        }
        heading
    }

    /// Prints the table on stdout: for people, or as tab-separated values.
    pub(crate) fn print(&self, ui: &Ui) {
        let mut part = String::new();
        self.for_each_line(&mut |line| {
            part.push_str(line);
            part.push('\n');
            if part.len() >= PRINT_CHUNK_BYTES {
                ui.print_part(&part);
                part.clear();
            }
        });
        ui.print_part(&part);
    }

    /// Prints the table like [`Table::print`]; `--quiet` omits it, unless it is tab-separated.
    pub(crate) fn report(&self, ui: &Ui) {
        if ui.verbosity >= Verbosity::Normal || ui.tsv {
            self.print(ui);
        }
    }

    fn for_each_line(&self, put_line: &mut dyn FnMut(&str)) {
        if self.has_values {
            self.put_tsv_lines(put_line);
        } else {
            self.put_text_lines(put_line);
        }
    }

    /// Writes tab-separated values, one call of `put_line` for each line: the heads, then each row.
    fn put_tsv_lines(&self, put_line: &mut dyn FnMut(&str)) {
        let is_shown = |column: &Column| column.scope != ColumnScope::Text;
        let heads = self.columns.iter().filter(|column| is_shown(column));
        let heads: Vec<_> = heads.map(|column| column.head).collect();
        put_line(&heads.join("\t"));
        for row in self.rows() {
            let columns = self.columns.iter().enumerate();
            let values: Vec<_> = columns
                .filter(|(_, column)| is_shown(column))
                .filter_map(|(index, _)| Some(escape_formula(self.find_cell(row, index)?.1)))
                .collect();
            put_line(&values.join("\t"));
        }
    }

    /// Writes aligned text that fits the terminal, one call of `put_line` for each line.
    fn put_text_lines(&self, put_line: &mut dyn FnMut(&str)) {
        let shown = self.find_shown_columns();
        let widths = match self.width {
            None => Some(shown.iter().map(|s| s.natural).collect()),
            Some(width) => {
                let is_narrow = width < NARROW_WIDTH && !self.keeps_rows;
                distribute_widths(&shown, width.saturating_sub(self.row_indent()), is_narrow)
            }
        };
        match (widths, self.width) {
            (Some(widths), _) => self.put_aligned_lines(&shown, &widths, put_line),
            (None, width) => self.put_blocks(&shown, width.unwrap_or(usize::MAX), put_line),
        }
    }

    /// Returns the indentation of the rows: none, unless they are below group headings.
    fn row_indent(&self) -> usize {
        let is_group = |line: &Line| matches!(line, Line::Group(..));
        GAP * usize::from(self.lines.iter().any(is_group))
    }

    fn rows(&self) -> impl Iterator<Item = &Range<usize>> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Group(..) => None,
        })
    }

    /// Returns the columns of the table for people, except columns with only empty cells.
    fn find_shown_columns(&self) -> Vec<ShownColumn> {
        let columns = self.columns.iter().enumerate();
        columns
            .filter(|(_, column)| column.scope != ColumnScope::Tsv)
            .filter_map(|(index, column)| {
                let cells = self.rows().filter_map(|row| self.find_cell(row, index));
                let widest = cells.map(|(_, text)| width_of(text)).max();
                Some(ShownColumn {
                    index,
                    column: *column,
                    natural: widest.filter(|w| *w > 0)?.max(width_of(column.head)),
                })
            })
            .collect()
    }

    fn put_aligned_lines(
        &self,
        shown: &[ShownColumn],
        widths: &[usize],
        put_line: &mut dyn FnMut(&str),
    ) {
        let kept: Vec<_> = shown.iter().zip(widths).filter(|(_, w)| **w > 0).collect();
        let heads = kept
            .iter()
            .map(|(s, w)| (s.column, **w, Style::Dim, Cow::Borrowed(s.column.head)));
        let indent = self.row_indent();
        let heads = self.format_line(indent, heads);
        put_line(&heads);
        for line in &self.lines {
            match line {
                Line::Group(group) => put_line(&self.format_group_heading(group)),
                Line::Row(row) => {
                    let cells = kept.iter().filter_map(|(s, w)| {
                        let (style, text) = self.find_cell(row, s.index)?;
                        Some((s.column, **w, style, s.column.shorten_text(text, **w)))
                    });
                    put_line(&self.format_line(indent, cells));
                }
            }
        }
        if self.repeats_heads && self.width.is_some() && self.lines.len() >= LONG_TABLE_LINES {
            put_line(&heads);
        }
    }

    /// Formats a row as one line, or as several lines if its last cell is wrapped.
    fn format_line<'c>(
        &self,
        indent: usize,
        cells: impl Iterator<Item = (Column, usize, Style, Cow<'c, str>)>,
    ) -> String {
        let mut line = String::with_capacity(128);
        // Blanks are added only before the next text, so that a line has none at its end.
        let mut blanks = indent;
        let mut cell_start = indent;
        for (column, width, style, text) in cells {
            let free_width = width.saturating_sub(width_of(&text));
            let (before, after) = if column.is_number {
                (free_width, 0)
            } else {
                (0, free_width)
            };
            if text.is_empty() {
                blanks += width + GAP;
            } else {
                line.extend(std::iter::repeat_n(' ', blanks + before));
                let text = match column.fit {
                    Fit::Wrap(_) => Cow::Owned(wrap_hanging(&text, cell_start, width)),
                    _ => text,
                };
                // A list of 50,000 rows is printed without a copy of each cell.
                if self.is_colored {
                    line.push_str(&paint(true, style, text));
                } else {
                    line.push_str(&text);
                }
                blanks = after + GAP;
            }
            cell_start += width + GAP;
        }
        line
    }

    /// Writes each row as a block of lines: first the most important cell, preceded by the marks, which are the cells
    /// of columns without a head; then the other cells with their heads.
    fn put_blocks(&self, shown: &[ShownColumn], width: usize, put_line: &mut dyn FnMut(&str)) {
        let title_index = shown.iter().min_by_key(|s| s.column.rank).map(|s| s.index);
        let is_mark = |s: &ShownColumn| s.column.head.is_empty();
        let is_in_title = |s: &&ShownColumn| Some(s.index) == title_index || is_mark(s);
        let others = || shown.iter().filter(|s| !is_in_title(s));
        let heads = shown.iter().filter(|s| Some(s.index) == title_index);
        for s in heads {
            put_line(&paint(self.is_colored, Style::Dim, s.column.head));
        }
        let head_width = others().map(|s| width_of(s.column.head)).max().unwrap_or(0);
        for line in &self.lines {
            let row = match line {
                Line::Row(row) => row,
                Line::Group(group) => {
                    put_line(&self.format_group_heading(group));
                    continue;
                }
            };
            let cell = |s: &ShownColumn| {
                let cell = self.find_cell(row, s.index);
                cell.filter(|(_, text)| !text.is_empty())
            };
            let mut heading = String::new();
            for s in shown.iter().filter(is_in_title) {
                let Some((_, text)) = cell(s) else {
                    continue;
                };
                if is_mark(s) {
                    heading = format!("{text} ");
                } else {
                    let free_width = width.saturating_sub(width_of(&heading));
                    heading.push_str(&s.column.shorten_text(text, free_width));
                }
            }
            put_line(&paint(self.is_colored, Style::Strong, heading));
            for s in others() {
                let Some((style, text)) = cell(s) else {
                    continue;
                };
                let head = format!("  {:head_width$}", s.column.head);
                let indent = width_of(&head) + GAP;
                let free_width = width.saturating_sub(indent);
                let text = s.column.shorten_text(text, free_width);
                let text = paint(self.is_colored, style, text);
                let head = paint(self.is_colored, Style::Dim, head);
                put_line(&wrap::wrap(&format!("{head}  {text}"), indent, width));
            }
        }
    }
}

/// Wraps `text` to lines of `width` columns; the lines after the first begin with `indent` blanks.
fn wrap_hanging(text: &str, indent: usize, width: usize) -> String {
    wrap::wrap(text, 0, width).replace('\n', &format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("ACCOUNT").shorten(10),
        Column::new("PLAN").rank(2),
        Column::new("SIZE").rank(1).number().shorten(4),
        Column::new("WHY").rank(3).wrap(8),
    ];

    impl Table {
        fn empty(columns: &[Column], width: Option<usize>) -> Self {
            Self {
                columns: columns.to_vec(),
                lines: Vec::new(),
                cells: Vec::new(),
                texts: String::new(),
                has_values: false,
                width,
                is_colored: false,
                repeats_heads: false,
                keeps_rows: false,
            }
        }

        fn format(&self) -> String {
            let mut lines = Vec::new();
            self.for_each_line(&mut |line| lines.push(line.to_owned()));
            lines.join("\n")
        }
    }

    fn table(width: Option<usize>) -> Table {
        filled(Table::empty(&COLUMNS, width))
    }

    fn filled(mut table: Table) -> Table {
        for (account, plan, size, why) in [
            (
                "another1@example.com",
                "plus",
                "1.5 MB",
                "the newest of the day",
            ),
            ("me@x.com", "", "12 B", "kept"),
        ] {
            table.add_row([
                Cell::plain(account),
                Cell::plain(plan),
                Cell::plain(size).value(7),
                Cell::plain(why),
            ]);
        }
        table
    }

    #[test]
    fn a_pipe_gets_all_of_each_row_in_one_line() {
        assert_eq!(
            table(None).format(),
            "ACCOUNT               PLAN    SIZE  WHY\n\
             another1@example.com  plus  1.5 MB  the newest of the day\n\
             me@x.com                      12 B  kept"
        );
    }

    #[test]
    fn columns_wrap_shorten_and_disappear_by_their_rank() {
        assert_eq!(
            table(Some(60)).format(),
            "ACCOUNT               PLAN    SIZE  WHY\n\
             another1@example.com  plus  1.5 MB  the newest of the day\n\
             me@x.com                      12 B  kept"
        );
        let mut wide = table(Some(60));
        wide.add_group("others", None);
        wide.add_row(
            [
                "an.address.of.thirty.characters@example.com",
                "pro",
                "1 B",
                "one of several words",
            ]
            .map(Cell::plain),
        );
        assert_eq!(
            wide.format(),
            [
                "  ACCOUNT                               PLAN  SIZE  WHY",
                "  another1@example.com                  plus  1.5…  the",
                "                                                    newest",
                "                                                    of the",
                "                                                    day",
                "  me@x.com                                    12 B  kept",
                "others",
                "  an.address.of.thirty.characters@exa…  pro    1 B  one of",
                "                                                    several",
                "                                                    words",
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_narrow_terminal_gets_a_block_for_each_row() {
        let columns = [&[Column::new("").rank(1)], COLUMNS.as_slice()].concat();
        let mut narrow = Table::empty(&columns, Some(40));
        let why = "the newest of the day";
        narrow.add_row(["*", "another1@example.com", "plus", "1.5 MB", why].map(Cell::plain));
        narrow.add_row(["", "me@x.com", "", "12 B", "kept"].map(Cell::plain));
        assert_eq!(
            narrow.format(),
            "ACCOUNT\n* another1@example.com\n  PLAN  plus\n  SIZE  1.5 MB\n  WHY   the newest of the day\n\
             me@x.com\n  SIZE  12 B\n  WHY   kept"
        );
    }

    #[test]
    fn columns_that_are_never_shortened_make_blocks_at_any_width() {
        let mut table = table(Some(80));
        table.columns = vec![Column::new("NAME"), Column::new("SIZE")];
        table.lines.clear();
        table.add_row(["n".repeat(90), "1 B".into()].map(Cell::plain));
        assert_eq!(
            table.format(),
            format!("NAME\n{}\n  SIZE  1 B", "n".repeat(90))
        );
    }

    #[test]
    fn values_for_programs_are_exact_and_free_of_separators() {
        let mut table = Table::empty(&COLUMNS, None);
        table.has_values = true;
        table.columns[1] = Column::new("PLAN").only_text();
        let mut table = filled(table);
        table.add_group("others", None);
        table.add_row(["a\tb", "c", "d", "e\nf"].map(Cell::plain));
        assert_eq!(
            table.format(),
            "ACCOUNT\tSIZE\tWHY\n\
             another1@example.com\t7\tthe newest of the day\n\
             me@x.com\t7\tkept\n\
             a\u{fffd}b\td\te\u{fffd}f"
        );
    }
}
