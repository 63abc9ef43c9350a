//! The picture of a picker: the filter, the entries with a preview beside them, the keys.

use super::layout::PickerLayout;
use super::options::{PickerItem, PickerOptions};
use super::state::PickerState;
use crate::ui::Style;
use crate::ui::text_width::{columns, elide_end, fitting_prefix, fitting_suffix};
use crate::ui::wrap::wrap;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style as CellStyle};
use ratatui_core::text::Span;
use std::cmp::Reverse;

/// The minimum width of a shortened cell, in columns.
const MIN_CELL_WIDTH: usize = 4;

/// The minimum width to which the widest column shrinks so that others fit.
const MIN_WIDEST_COLUMN: usize = 24;

const GAP: usize = 2;

/// The columns kept free for the filter when facts are shown.
const FILTER_WIDTH: usize = 20;

pub(super) struct PickerView<'a> {
    pub state: &'a PickerState,
    pub question: &'a str,
    pub options: &'a PickerOptions,
    pub layout: PickerLayout,
    pub colored: bool,
}

impl PickerView<'_> {
    /// Draws the picker. Returns the picture and the column of the cursor in its first line.
    pub(super) fn render(&self) -> (Buffer, u16) {
        let mut frame = Buffer::empty(self.layout.area);
        let cursor = self.draw_filter(&mut frame);

        let list = self.layout.list;
        let mut rows = list.rows().zip(self.state.visible_items()).peekable();
        if rows.peek().is_none() {
            let text = if self.state.may_lack_entries() {
                "  searching…"
            } else {
                "  nothing matches"
            };
            frame.set_stringn(0, list.y, text, list.width.into(), dim_style());
        }
        for (row, (item, is_selected)) in rows {
            self.draw_item(&mut frame, row, item, is_selected);
        }

        if let Some(preview) = self.layout.preview {
            self.draw_preview(&mut frame, preview);
        }

        self.draw_keys(&mut frame);
        (frame, cursor.min(self.layout.area.width.saturating_sub(1)))
    }

    /// Draws the question, the filter, the facts, and the number of entries. Returns the column of the cursor.
    fn draw_filter(&self, frame: &mut Buffer) -> u16 {
        let (state, width) = (self.state, usize::from(self.layout.area.width));
        let ellipsis = if state.may_lack_entries() { "…" } else { "" };
        let query = state.query();

        let (count, next_scope) = state.format_counts();
        let is_narrow = columns(query) + columns(&count) + columns(&next_scope) + 2 * GAP > width;
        let next_scope = if is_narrow { "" } else { &next_scope };
        let count = format!("{count}{next_scope}{ellipsis}");

        let needed_width = columns(self.question) + 1 + columns(query) + GAP + columns(&count);
        // What the user types is more important than the question.
        let hides_question = needed_width > width && (!query.is_empty() || state.has_scopes());
        let question = if hides_question { "" } else { self.question };

        let (question_end, _) = frame.set_stringn(0, 0, question, width, strong_style());
        let mut cursor = question_end;
        let has_room_for_cursor = width > usize::from(question_end) + 1;
        if !query.is_empty() || has_room_for_cursor {
            let query_start = if question.is_empty() {
                0
            } else {
                question_end + 1
            };
            // The user types at the end, where the cursor needs a column.
            let free_width = width.saturating_sub(usize::from(query_start) + 1);
            let query_end = fitting_suffix(query, free_width);
            (cursor, _) = frame.set_stringn(query_start, 0, query_end, width, CellStyle::new());
        }

        let count_start = width.saturating_sub(Span::raw(&*count).width());
        if count_start <= usize::from(cursor) + 1 {
            return cursor;
        }
        frame.set_stringn(to_column(count_start), 0, count, width, dim_style());

        let facts_start = usize::from(cursor + 1).max(usize::from(question_end) + FILTER_WIDTH);
        self.draw_facts(frame, facts_start, count_start);
        cursor
    }

    /// Draws the facts in the columns from `facts_start` to `count_start`, where the count begins, aligned to the
    /// right. If a fact does not fit, leaves out this fact and all later ones.
    fn draw_facts(&self, frame: &mut Buffer, facts_start: usize, count_start: usize) {
        let mut free_width = count_start.saturating_sub(facts_start);
        let mut shown_facts = Vec::new();
        for (style, text) in &self.options.facts {
            let fact_width = Span::raw(text).width() + GAP;
            if fact_width > free_width {
                break;
            }
            free_width -= fact_width;
            shown_facts.push((*style, text));
        }

        let width = usize::from(self.layout.area.width);
        let mut x = facts_start + free_width;
        for (style, text) in shown_facts {
            let style = self.cell_style(style);
            let (end, _) = frame.set_stringn(to_column(x), 0, text, width, style);
            x = usize::from(end) + GAP;
        }
    }

    /// Draws the cells of an entry into `row`. The columns that do not fit are left out.
    fn draw_item(&self, frame: &mut Buffer, row: Rect, item: &PickerItem, is_selected: bool) {
        let width = usize::from(row.width);
        let mark = if is_selected { "> " } else { "  " };
        let (mut x, _) = frame.set_stringn(0, row.y, mark, width, CellStyle::new());
        let space = width.saturating_sub(usize::from(x));
        let widths = fit_columns(self.state.column_widths(), space);

        for ((style, text), needed_width) in item.columns.iter().zip(&widths) {
            let free_width = width.saturating_sub(usize::from(x));
            if free_width < MIN_CELL_WIDTH.min(*needed_width) {
                break;
            }
            let cell_width = free_width.min(*needed_width);
            let text = elide_end(text, cell_width);
            frame.set_stringn(x, row.y, text, cell_width, self.cell_style(*style));
            // A column of width 0 has no text in any entry, so it needs no gap.
            let gap = if *needed_width > 0 { GAP } else { 0 };
            x = to_column(usize::from(x) + needed_width + gap);
        }

        if is_selected {
            frame.set_style(row, CellStyle::new().add_modifier(Modifier::REVERSED));
        }
    }

    /// Draws the preview of the selected entry, beside or below the list.
    fn draw_preview(&self, frame: &mut Buffer, area: Rect) {
        if self.layout.is_below {
            let line = "─".repeat(area.width.into());
            frame.set_stringn(0, area.y - 1, line, area.width.into(), dim_style());
        } else {
            for y in area.y..area.bottom() {
                // One blank separates the rule from the preview.
                frame.set_stringn(area.x - 2, y, "│", 1, dim_style());
            }
        }

        let content_match = self.state.content_match();
        let marks = content_match.map_or(&[][..], |content_match| &content_match.marks);
        let preview = self.state.preview().iter();
        let preview = preview.map(|(style, text)| (*style, text.as_str()));
        let mut paragraphs: Vec<_> = preview.collect();
        // Until the preview is read, the note of the match takes its place.
        if paragraphs.is_empty()
            && let Some(content_match) = content_match
        {
            paragraphs.push((Style::Plain, content_match.note.as_str()));
        }

        let lines = paragraphs.into_iter().flat_map(|(style, text)| {
            let lines = wrap_within(text, area.width.into());
            lines.into_iter().map(move |line| (style, line))
        });
        for (y, (style, line)) in (area.y..area.bottom()).zip(lines) {
            frame.set_stringn(area.x, y, &line, area.width.into(), self.cell_style(style));
            if style == Style::Plain {
                self.mark_matches(frame, (area.x, y), &line, marks);
            }
        }
    }

    /// Marks the matches in `line`, which was drawn from the column and the row `start` on.
    fn mark_matches(&self, frame: &mut Buffer, start: (u16, u16), line: &str, marks: &[String]) {
        let (line_x, y) = start;
        let style = self.cell_style(Style::Warn).add_modifier(Modifier::BOLD);
        for mark in marks {
            for (from, text) in line.match_indices(mark.as_str()) {
                let x = line_x + to_column(columns(&line[..from]));
                let marked_area = Rect::new(x, y, to_column(columns(text)), 1);
                frame.set_style(marked_area.intersection(*frame.area()), style);
            }
        }
    }

    /// Draws the lines of keys. A message about the last key replaces the last line.
    fn draw_keys(&self, frame: &mut Buffer) {
        let area = self.layout.area;
        let width = usize::from(area.width);
        let keys = &self.layout.keys;
        let first = area.height.saturating_sub(to_column(keys.len()));
        for (y, line) in (first..area.height).zip(keys) {
            frame.set_stringn(0, y, line, width, dim_style());
        }

        if let Some(notice) = self.state.notice() {
            let last = area.height - 1;
            frame.set_stringn(0, last, " ".repeat(width), width, CellStyle::new());
            frame.set_stringn(0, last, elide_end(notice, width), width, dim_style());
        }
    }

    fn cell_style(&self, style: Style) -> CellStyle {
        let plain = CellStyle::new();
        match style {
            Style::Good if self.colored => plain.fg(Color::Green),
            Style::Warn if self.colored => plain.fg(Color::Yellow),
            Style::Bad if self.colored => plain.fg(Color::Red),
            Style::Dim => dim_style(),
            Style::Strong => strong_style(),
            Style::Plain | Style::Good | Style::Warn | Style::Bad => plain,
        }
    }
}

fn strong_style() -> CellStyle {
    CellStyle::new().add_modifier(Modifier::BOLD)
}

fn dim_style() -> CellStyle {
    CellStyle::new().add_modifier(Modifier::DIM)
}

/// Fits columns of the widths `natural` into `width`. Shrinks the widest column so that as many other columns as
/// possible fit. The widest column keeps its width if that does not help.
fn fit_columns(natural: &[usize], width: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    // Of equally wide columns, the first one shrinks.
    let Some(widest) = (0..natural.len()).max_by_key(|i| (natural[*i], Reverse(*i))) else {
        return widths;
    };

    widths[widest] = natural[widest].min(MIN_WIDEST_COLUMN);
    let width_of_first = |count: usize| widths[..count].iter().sum::<usize>() + GAP * (count - 1);
    let fitting_count = (1..=natural.len())
        .rev()
        .find(|count| width_of_first(*count) <= width);
    widths[widest] = match fitting_count {
        // The widest column is among those that fit, and takes the width that they leave.
        Some(count) if count > widest => {
            let free_width = width - width_of_first(count);
            natural[widest].min(widths[widest] + free_width)
        }
        _ => natural[widest],
    };
    widths
}

/// Wraps `text` at `width` columns, between words where there are any.
fn wrap_within(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    // `wrap` breaks no word of narrow characters, so a line with a long one is split here.
    for line in wrap(text, 0, width).lines() {
        let mut remaining = line;
        loop {
            let fitting = fitting_prefix(remaining, width);
            lines.push(fitting.to_owned());
            remaining = &remaining[fitting.len()..];
            // Nothing fits if a wide character is wider than the preview.
            if remaining.is_empty() || fitting.is_empty() {
                break;
            }
        }
    }
    lines
}

fn to_column(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::picker::PickerScope;

    /// Returns the picture of a picker after a change of its state.
    fn picture_of(
        columns: u16,
        items: Vec<PickerItem>,
        options: &PickerOptions,
        has_preview: bool,
        change: impl FnOnce(&mut PickerState),
    ) -> Vec<String> {
        let mut state = PickerState::new(items, 0, options.scopes.clone(), 0);
        let area = Rect::new(0, 0, columns, if has_preview { 8 } else { 4 });
        change(&mut state);
        let layout = PickerLayout::new(area, options, state.has_scopes(), has_preview);
        state.set_visible_rows(layout.list.height.into());
        let view = PickerView {
            state: &state,
            question: "which account?",
            options,
            layout,
            colored: false,
        };
        let (frame, _) = view.render();
        let lines = frame.content().chunks(usize::from(columns));
        lines
            .map(|line| {
                let symbols: String = line
                    .iter()
                    .map(ratatui_core::buffer::Cell::symbol)
                    .collect();
                symbols.trim_end().to_owned()
            })
            .collect()
    }

    fn items(names: &[(&str, &str)]) -> Vec<PickerItem> {
        let item = |(name, more): &(&str, &str)| {
            let cells = [*name, "ready", *more].map(|text| (Style::Plain, text.to_owned()));
            PickerItem::new(*name, cells.into())
        };
        names.iter().map(item).collect()
    }

    fn picture(columns: u16, names: &[(&str, &str)]) -> Vec<String> {
        let options = PickerOptions::default();
        picture_of(columns, items(names), &options, false, |_| {})
    }

    #[test]
    fn an_entry_is_one_line_at_any_width() {
        let names = [("work", "alice@example.com"), ("home", "bob@example.com")];
        insta::assert_snapshot!(picture(60, &names).join("\n"), @r"
        which account?                                           2/2
        > work  ready  alice@example.com
          home  ready  bob@example.com
        enter choose · ↑↓ move · esc cancel · type to filter
        ");
        insta::assert_snapshot!(picture(24, &names).join("\n"), @r"
        which account?       2/2
        > work  ready  alice@ex…
          home  ready  bob@exam…
        enter choose · ↑↓ move
        ");
        insta::assert_snapshot!(picture(9, &names).join("\n"), @r"
        which acc
        > work
          home
        ");
    }

    #[test]
    fn shortened_cells_measure_wide_characters_as_two_columns() {
        assert_eq!(elide_end("漢字漢字", 8), "漢字漢字");
        assert_eq!(elide_end("漢字漢字", 7), "漢字漢…");
        assert_eq!(elide_end("漢字漢字", 6), "漢字…");
        assert_eq!(elide_end("plain", 5), "plain");
        assert_eq!(elide_end("plain", 4), "pla…");
    }

    #[test]
    fn the_preview_is_right_of_the_list_in_a_terminal_of_at_least_100_columns() {
        let names = [("work", "alice@example.com"), ("home", "bob@example.com")];
        let options = PickerOptions {
            enter: "resume",
            scopes: vec![
                PickerScope {
                    name: "here",
                    items: vec![0],
                },
                PickerScope {
                    name: "all",
                    items: vec![0, 1],
                },
            ],
            facts: vec![
                (Style::Good, "work 80 %".into()),
                (Style::Bad, "home 0 %".into()),
            ],
            ..PickerOptions::default()
        };
        let shown = |columns| {
            picture_of(columns, items(&names), &options, true, |state| {
                let text = "A question that is longer than the pane is wide.";
                let wide = "漢字".repeat(20);
                let query = state.preview_query().unwrap();
                let paragraphs = vec![(Style::Strong, text.into()), (Style::Plain, wide)];
                state.set_preview(query, paragraphs);
            })
            .join("\n")
        };
        insta::assert_snapshot!(shown(99), @r"
        which account?                                             work 80 %  home 0 %  here 1 · tab: all 2
        > work  ready  alice@example.com                     │ A question that is longer than the pane is
                                                             │ wide.
                                                             │ 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字
                                                             │ 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字
                                                             │
                                                             │
        enter resume · tab scope · ↑↓ move · esc cancel · type to filter
        ");
        insta::assert_snapshot!(shown(98), @r"
        which account?                                            work 80 %  home 0 %  here 1 · tab: all 2
        > work  ready  alice@example.com





        enter resume · tab scope · ↑↓ move · esc cancel · type to filter
        ");
        insta::assert_snapshot!(shown(50), @r"
        which account?                 here 1 · tab: all 2
        > work  ready  alice@example.com





        enter resume · tab scope · ↑↓ move · esc cancel
        ");
    }

    #[test]
    fn the_widest_column_shrinks_only_if_that_lets_other_columns_fit() {
        assert_eq!(fit_columns(&[3, 50, 8], 70), [3, 50, 8]);
        assert_eq!(fit_columns(&[3, 50, 8], 45), [3, 30, 8]);
        assert_eq!(fit_columns(&[3, 50, 8], 38), [3, 33, 8]);
        assert_eq!(fit_columns(&[3, 50, 8], 20), [3, 50, 8]);
        assert_eq!(fit_columns(&[], 20), [0; 0]);
    }
}
