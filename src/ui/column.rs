//! The columns of a table, and how they share the width of a terminal.

use super::text_width::{columns as width_of, elide_end, elide_middle};
use std::borrow::Cow;

/// The number of spaces between two columns.
pub(super) const GAP: usize = 2;

/// Below this width, rows that do not fit completely become blocks.
pub(super) const NARROW_WIDTH: usize = 60;

/// The way to fit cells into a narrow column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The cells are never shortened: they are short, or meant to be copied.
    Whole,
    /// The end is cut off, down to this width.
    End(usize),
    /// The middle is cut out, down to this width.
    Middle(usize),
    /// The text continues on further lines, which are at least this wide. Only for the last column.
    Wrap(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnScope {
    All,
    Text,
    Tsv,
}

#[must_use]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(super) head: &'static str,
    /// If the table is too wide, the columns of the highest rank disappear first. Columns of rank 0 never disappear.
    pub(super) rank: u8,
    pub(super) fit: Fit,
    /// A width and a rank: the column grows to this width before columns of this rank or a higher one appear.
    widened: Option<(usize, u8)>,
    pub(super) is_number: bool,
    pub(super) scope: ColumnScope,
}

impl Column {
    /// Creates a column that never disappears.
    pub(crate) const fn new(head: &'static str) -> Self {
        Self {
            head,
            rank: 0,
            fit: Fit::Whole,
            widened: None,
            is_number: false,
            scope: ColumnScope::All,
        }
    }

    /// Drops the column if the table is too wide, before all columns of a lower rank.
    pub(crate) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Lets the cells lose their end, down to `min_width` columns.
    pub(crate) const fn shorten(self, min_width: usize) -> Self {
        let fit = Fit::End(min_width);
        Self { fit, ..self }
    }

    /// Lets the cells lose their middle, down to `min_width` columns.
    pub(crate) const fn shorten_middle(self, min_width: usize) -> Self {
        let fit = Fit::Middle(min_width);
        Self { fit, ..self }
    }

    /// Lets a column that can be shortened grow up to `width` before columns of the rank `rank` or a higher one appear.
    pub(crate) const fn widen(self, width: usize, rank: u8) -> Self {
        let widened = Some((width, rank));
        Self { widened, ..self }
    }

    /// Wraps the cells of the last column into lines of at least `min_width` columns.
    pub(crate) const fn wrap(self, min_width: usize) -> Self {
        let fit = Fit::Wrap(min_width);
        Self { fit, ..self }
    }

    /// Aligns the cells to the right.
    pub(crate) const fn number(mut self) -> Self {
        self.is_number = true;
        self
    }

    /// Omits the column from tab-separated values.
    pub(crate) const fn only_text(self) -> Self {
        let scope = ColumnScope::Text;
        Self { scope, ..self }
    }

    /// Shows the column only in tab-separated values.
    pub(crate) const fn only_tsv(self) -> Self {
        let scope = ColumnScope::Tsv;
        Self { scope, ..self }
    }

    /// Returns the smallest width to which cells of the width `natural` can be shortened.
    fn min_width(&self, natural: usize) -> usize {
        match self.fit {
            Fit::Whole => natural,
            Fit::End(min_width) | Fit::Middle(min_width) | Fit::Wrap(min_width) => {
                natural.min(min_width.max(width_of(self.head)))
            }
        }
    }

    /// Returns `text` in at most `width` columns, if the column may be shortened.
    pub(super) fn shorten_text<'t>(&self, text: &'t str, width: usize) -> Cow<'t, str> {
        match self.fit {
            Fit::End(_) => elide_end(text, width),
            Fit::Middle(_) => elide_middle(text, width),
            Fit::Whole | Fit::Wrap(_) => Cow::Borrowed(text),
        }
    }
}

/// A column of a table for people.
pub(super) struct ShownColumn {
    pub(super) index: usize,
    pub(super) column: Column,
    /// The width of the head or the widest cell.
    pub(super) natural: usize,
}

impl ShownColumn {
    /// Returns the width that the column gets before columns of the rank `rank` get any; 0 if it asks for none.
    fn requested_width(&self, rank: u8) -> usize {
        match self.column.widened {
            Some((width, before)) if before <= rank => width.min(self.natural),
            _ => 0,
        }
    }
}

/// Returns a width for each column so that all columns fit into `width`; 0 for a column that disappears. `None` if each
/// row has to become a block of lines: if the columns of rank 0 do not fit, or on a narrow terminal, if a column would
/// be shortened or disappear.
///
/// Adds the columns by rank, each at its least width, and drops those that do not fit. Before each column, the
/// earlier ones grow to the widths that they request. The remaining width is distributed in the same order.
pub(super) fn distribute_widths(
    columns: &[ShownColumn],
    width: usize,
    is_narrow: bool,
) -> Option<Vec<usize>> {
    let mut indices_by_rank: Vec<_> = (0..columns.len()).collect();
    indices_by_rank.sort_by_key(|i| columns[*i].column.rank);

    let mut widths = vec![0; columns.len()];
    // The first column has no gap before it.
    let mut free_width = width + GAP;

    for (position, &index) in indices_by_rank.iter().enumerate() {
        let rank = columns[index].column.rank;
        for &earlier in &indices_by_rank[..position] {
            if widths[earlier] > 0 {
                let requested = columns[earlier].requested_width(rank);
                let growth = requested.saturating_sub(widths[earlier]).min(free_width);
                widths[earlier] += growth;
                free_width -= growth;
            }
        }

        let min_width = columns[index].column.min_width(columns[index].natural);
        match free_width.checked_sub(min_width + GAP) {
            Some(remaining) => (widths[index], free_width) = (min_width, remaining),
            None if rank == 0 => return None,
            // The column disappears.
            None => {}
        }
    }

    for index in indices_by_rank {
        if widths[index] == 0 {
            continue;
        }
        let growth = free_width.min(columns[index].natural - widths[index]);
        widths[index] += growth;
        free_width -= growth;
    }

    let is_unshortened = widths.iter().zip(columns).all(|(w, c)| *w == c.natural);
    if is_narrow && !is_unshortened {
        return None;
    }
    Some(widths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_widened_column_displaces_less_important_ones() {
        let columns = [
            Column::new("NAME").shorten(4).widen(8, 2),
            Column::new("KIND").rank(1),
            Column::new("NOTE").rank(2).shorten(4),
        ];
        let shown: Vec<_> = (0..)
            .zip(columns)
            .zip([12, 4, 9])
            .map(|((index, column), natural)| ShownColumn {
                index,
                column,
                natural,
            })
            .collect();
        let widths = |width| distribute_widths(&shown, width, false).unwrap();
        assert_eq!(widths(10), [4, 4, 0]);
        assert_eq!(widths(16), [10, 4, 0]);
        assert_eq!(widths(19), [12, 4, 0]);
        assert_eq!(widths(20), [8, 4, 4]);
        assert_eq!(widths(29), [12, 4, 9]);
    }
}
