//! Tables: aligned columns that fit the terminal, or tab-separated values.
//!
//! A command declares its columns and adds rows. On a terminal, columns become shorter and the least important ones
//! disappear. If even the important columns do not fit, each row becomes a block of lines. In a pipe, each row is one
//! line with all columns.

use super::column::{ColumnScope, Fit, GAP, NARROW_WIDTH, ShownColumn, distribute_widths};
use super::output::hide_secrets_if;
use super::table_lines::{LineStorage, StoredLines, TableLine};
use super::text_width::{columns as width_of, elide_end};
use super::{Style, Ui, Verbosity, paint, record_output_error, time, wrap};
use chrono::{DateTime, Utc};
use codex_manager_core::io::ansi::to_printable_line;
use codex_manager_core::io::clock::Zone;
use std::borrow::Cow;
use std::fmt::Display;
use std::io;

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

    /// Creates a cell with a number; "?" for `None`, which is empty in tab-separated values.
    pub(crate) fn count(count: Option<u64>) -> Self {
        match count {
            Some(count) => Self::plain(count.to_string()),
            None => Self::new(Style::Dim, "?").value(""),
        }
    }

    /// Sets the form in tab-separated values: an RFC 3339 time, a number of bytes, a plain percentage.
    #[must_use]
    pub(crate) fn value(self, value: impl Display) -> Self {
        let value = Some(into_printable_line(value.to_string()));
        Self { value, ..self }
    }
}

/// Replaces characters that steer a terminal. A text without such characters is not copied, because a list may have
/// hundreds of thousands of cells.
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

/// Adds an apostrophe to a text that begins like a formula, so that no spreadsheet computes it.
fn escape_formula(text: &str) -> Cow<'_, str> {
    // Excel and LibreOffice compute such cells when they open a file. A conversation title may be a hostile formula. A
    // number and a single `-` are no formulas.
    let is_number = text.parse::<f64>().is_ok();
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number && text != "-" {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A table with a line of heads, without a frame.
#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    /// The width of the widest cell of each column.
    widths: Vec<usize>,
    lines: LineStorage,
    /// The line that is being added. Its memory is used for all lines.
    line: TableLine,
    has_headings: bool,
    /// True for tab-separated values, so that the cells contain exact values for programs.
    has_values: bool,
    /// The width of the terminal; `None` in a pipe.
    width: Option<usize>,
    is_colored: bool,
    hides_secrets: bool,
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
            has_values: ui.tsv,
            is_colored: ui.color_out,
            hides_secrets: ui.shows_conversations,
            ..Self::plain(columns, ui.terminal_out.then_some(ui.width))
        }
    }

    fn plain(columns: impl IntoIterator<Item = Column>, width: Option<usize>) -> Self {
        let columns: Vec<_> = columns.into_iter().collect();
        Self {
            widths: vec![0; columns.len()],
            columns,
            width,
            ..Self::default()
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
        self.line.clear();
        for (cell, width) in cells.into_iter().zip(&mut self.widths) {
            let Cell { style, text, value } = cell.into();
            let shown = value.filter(|_| self.has_values).unwrap_or(text);
            // Before the text is cut, because a part of a secret would not be recognized.
            let shown = hide_secrets_if(self.hides_secrets, &shown);
            *width = width_of(&shown).max(*width);
            self.line.add_cell(style, &shown);
        }
        self.lines.push(&self.line);
    }

    /// Adds a heading for the rows that follow, with a remark behind the name. Tab-separated values have no headings.
    pub(crate) fn add_group(&mut self, name: impl Into<String>, remark: Option<Cell>) {
        self.has_headings = true;
        let mut heading = TableLine::heading();
        let name = Cell::new(Style::Strong, name);
        for cell in std::iter::once(name).chain(remark) {
            heading.add_cell(cell.style, &hide_secrets_if(self.hides_secrets, &cell.text));
        }
        self.lines.push(&heading);
    }

    fn format_heading(&self, heading: &TableLine) -> String {
        let (style, name) = heading.cell(0).unwrap_or((Style::Strong, ""));
        let remark = heading.cell(1);
        let remark_width = remark.map_or(0, |(_, remark)| width_of(remark) + GAP);
        let width = self
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(remark_width));

        let mut line = paint(self.is_colored, style, elide_end(name, width));
        if let Some((style, remark)) = remark {
            line.push_str(&" ".repeat(GAP));
            line.push_str(&paint(self.is_colored, style, remark));
        }
        line
    }

    /// Prints the table on stdout: for people, or as tab-separated values.
    pub(crate) fn print(self, ui: &Ui) {
        let mut chunk = String::new();
        let read_result = self.for_each_line(&mut |line| {
            chunk.push_str(line);
            chunk.push('\n');
            if chunk.len() >= PRINT_CHUNK_BYTES {
                ui.print_part(&chunk);
                chunk.clear();
            }
        });
        ui.print_part(&chunk);
        // Lines that cannot be read from the temporary file are missing in the output.
        record_output_error(read_result);
    }

    /// Prints the table like [`Table::print`]; `--quiet` omits it, unless it is tab-separated.
    pub(crate) fn report(self, ui: &Ui) {
        if ui.verbosity >= Verbosity::Normal || ui.tsv {
            self.print(ui);
        }
    }

    fn for_each_line(mut self, put_line: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut lines = std::mem::take(&mut self.lines).into_reader()?;
        if self.has_values {
            self.put_tsv_lines(&mut lines, put_line)
        } else {
            self.put_text_lines(&mut lines, put_line)
        }
    }

    /// Writes tab-separated values, one call of `put_line` for each line: the heads, then each row.
    fn put_tsv_lines(
        &self,
        lines: &mut StoredLines,
        put_line: &mut dyn FnMut(&str),
    ) -> io::Result<()> {
        let columns = self.columns.iter().enumerate();
        let shown: Vec<_> = columns
            .filter(|(_, column)| column.scope != ColumnScope::Text)
            .collect();
        let heads: Vec<_> = shown.iter().map(|(_, column)| column.head).collect();
        put_line(&heads.join("\t"));

        while let Some(line) = lines.next_line()? {
            if !line.is_heading {
                let cells = shown.iter().filter_map(|(index, _)| line.cell(*index));
                let values: Vec<_> = cells.map(|(_, text)| escape_formula(text)).collect();
                put_line(&values.join("\t"));
            }
        }
        Ok(())
    }

    /// Writes aligned text that fits the terminal, one call of `put_line` for each line.
    fn put_text_lines(
        &self,
        lines: &mut StoredLines,
        put_line: &mut dyn FnMut(&str),
    ) -> io::Result<()> {
        let shown = self.find_shown_columns();
        if shown.is_empty() {
            return Ok(());
        }
        let widths = match self.width {
            None => Some(shown.iter().map(|s| s.natural).collect()),
            Some(width) => {
                let is_narrow = width < NARROW_WIDTH && !self.keeps_rows;
                distribute_widths(&shown, width.saturating_sub(self.row_indent()), is_narrow)
            }
        };

        match widths {
            Some(widths) => self.put_aligned_lines(lines, &shown, &widths, put_line),
            None => self.put_blocks(lines, &shown, put_line),
        }
    }

    /// Returns the indentation of the rows: none, unless they are below headings.
    fn row_indent(&self) -> usize {
        if self.has_headings { GAP } else { 0 }
    }

    /// Returns the columns of the table for people, except columns with only empty cells.
    fn find_shown_columns(&self) -> Vec<ShownColumn> {
        let columns = self.columns.iter().zip(&self.widths).enumerate();
        columns
            .filter(|(_, (column, widest))| column.scope != ColumnScope::Tsv && **widest > 0)
            .map(|(index, (column, widest))| ShownColumn {
                index,
                column: *column,
                natural: width_of(column.head).max(*widest),
            })
            .collect()
    }

    fn put_aligned_lines(
        &self,
        lines: &mut StoredLines,
        shown: &[ShownColumn],
        widths: &[usize],
        put_line: &mut dyn FnMut(&str),
    ) -> io::Result<()> {
        let columns = shown.iter().zip(widths.iter().copied());
        let visible_columns: Vec<_> = columns.filter(|(_, width)| *width > 0).collect();
        let head_cells = visible_columns
            .iter()
            .map(|(s, width)| (s.column, *width, Style::Dim, Cow::Borrowed(s.column.head)));
        let indent = self.row_indent();
        let head_line = self.format_line(indent, head_cells);
        put_line(&head_line);

        // Reading a line counts `remaining_lines` down, so the length of the table is read before the loop.
        let repeats_heads =
            self.repeats_heads && self.width.is_some() && lines.remaining_lines >= LONG_TABLE_LINES;
        while let Some(line) = lines.next_line()? {
            if line.is_heading {
                put_line(&self.format_heading(line));
            } else {
                let cells = visible_columns.iter().filter_map(|(s, width)| {
                    let (style, text) = line.cell(s.index)?;
                    let text = s.column.shorten_text(text, *width);
                    Some((s.column, *width, style, text))
                });
                put_line(&self.format_line(indent, cells));
            }
        }

        if repeats_heads {
            put_line(&head_line);
        }
        Ok(())
    }

    /// Formats a row as one line, or as several lines if its last cell is wrapped.
    fn format_line<'c>(
        &self,
        indent: usize,
        cells: impl Iterator<Item = (Column, usize, Style, Cow<'c, str>)>,
    ) -> String {
        let mut line = String::with_capacity(128);
        // Blanks are added only before the next text, so that a line has none at its end.
        let mut pending_blanks = indent;
        let mut cell_start = indent;

        for (column, width, style, text) in cells {
            let free_width = width.saturating_sub(width_of(&text));
            let (before, after) = if column.is_number {
                (free_width, 0)
            } else {
                (0, free_width)
            };

            if text.is_empty() {
                pending_blanks += width + GAP;
            } else {
                line.extend(std::iter::repeat_n(' ', pending_blanks + before));
                let text = match column.fit {
                    Fit::Wrap(_) => Cow::Owned(wrap_hanging(&text, cell_start, width)),
                    _ => text,
                };
                // Without colours, no cell is copied, because a list may have 50,000 rows.
                if self.is_colored {
                    line.push_str(&paint(true, style, text));
                } else {
                    line.push_str(&text);
                }
                pending_blanks = after + GAP;
            }

            cell_start += width + GAP;
        }
        line
    }

    /// Writes each row as a block of lines. The first line has the marks, which are the cells of columns without a
    /// head, and the most important cell. Each further line has another cell, with its head.
    fn put_blocks(
        &self,
        lines: &mut StoredLines,
        shown: &[ShownColumn],
        put_line: &mut dyn FnMut(&str),
    ) -> io::Result<()> {
        let width = self.width.unwrap_or(usize::MAX);
        let title_column = shown.iter().min_by_key(|s| s.column.rank);
        if let Some(s) = title_column {
            put_line(&paint(self.is_colored, Style::Dim, s.column.head));
        }

        let title_index = title_column.map(|s| s.index);
        let is_mark = |s: &ShownColumn| s.column.head.is_empty();
        let is_in_title = |s: &&ShownColumn| Some(s.index) == title_index || is_mark(s);
        let (in_title, others): (Vec<_>, Vec<_>) = shown.iter().partition(is_in_title);
        let head_widths = others.iter().map(|s| width_of(s.column.head));
        let head_width = head_widths.max().unwrap_or(0);
        while let Some(line) = lines.next_line()? {
            if line.is_heading {
                put_line(&self.format_heading(line));
                continue;
            }

            // The mark and the title share the first line of the block.
            let cell = |s: &ShownColumn| line.cell(s.index).filter(|(_, text)| !text.is_empty());
            let mut title = String::new();
            for s in &in_title {
                let Some((_, text)) = cell(s) else {
                    continue;
                };
                if is_mark(s) {
                    title.extend([text, " "]);
                } else {
                    let free_width = width.saturating_sub(width_of(&title));
                    title.push_str(&s.column.shorten_text(text, free_width));
                }
            }
            put_line(&paint(self.is_colored, Style::Strong, title));

            for s in &others {
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
        Ok(())
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
        fn format(self) -> String {
            let mut lines = Vec::new();
            let formatted = self.for_each_line(&mut |line| lines.push(line.to_owned()));
            formatted.unwrap();
            lines.join("\n")
        }
    }

    fn table(width: Option<usize>) -> Table {
        filled(Table::plain(COLUMNS, width))
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
    fn columns_are_wrapped_and_shortened_to_the_width_of_the_terminal() {
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
        let mut narrow = Table::plain(columns, Some(40));
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
    fn a_table_that_is_too_long_for_the_memory_keeps_its_lines() {
        let mut table = Table::plain([Column::new("NUMBER"), Column::new("TEXT")], None);
        let text = "é".repeat(50);
        for number in 0..30_000 {
            table.add_row([number.to_string(), text.clone()]);
        }
        let lines = table.format();
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("NUMBER  TEXT"));
        assert_eq!(lines.next(), Some(&*format!("0       {text}")));
        assert_eq!(lines.count(), 29_999);
    }

    #[test]
    fn columns_that_are_never_shortened_make_blocks_at_any_width() {
        let columns = [Column::new("NAME"), Column::new("SIZE")];
        let mut table = Table::plain(columns, Some(80));
        table.add_row(["n".repeat(90), "1 B".into()].map(Cell::plain));
        assert_eq!(
            table.format(),
            format!("NAME\n{}\n  SIZE  1 B", "n".repeat(90))
        );
    }

    #[test]
    fn values_for_programs_are_exact_and_free_of_separators() {
        let mut columns = COLUMNS;
        columns[1] = Column::new("PLAN").only_text();
        let mut table = Table::plain(columns, None);
        table.has_values = true;
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
