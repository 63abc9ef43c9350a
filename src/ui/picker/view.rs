//! The picture of a picker: the filter, the entries with a preview beside them, the keys.

use super::item::PickerItem;
use super::options::PickerOptions;
use super::state::PickerState;
use crate::ui::Style;
use crate::ui::text_width::{fitting_prefix, without_end};
use crate::ui::wrap::wrap;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style as CellStyle};
use ratatui_core::text::Span;

/// The marks before the selected entry and before the others.
const MARKS: [&str; 2] = ["> ", "  "];

/// The fewest columns in which a shortened cell is shown.
const MIN_CELL_WIDTH: usize = 4;

/// The width to which the widest column shrinks so that others fit.
const MIN_WIDEST_COLUMN: usize = 24;

const GAP: usize = 2;

/// The fewest columns of a terminal that shows a preview.
const MIN_PREVIEW_TERMINAL: u16 = 100;

/// The share of the width that a preview takes, in percent.
const PREVIEW_PERCENT: u16 = 45;

/// The columns kept free for the filter when facts are shown.
const FILTER_WIDTH: usize = 20;

pub(super) struct PickerView<'a> {
    pub state: &'a PickerState,
    pub question: &'a str,
    pub options: &'a PickerOptions,
    /// The part of the terminal. One column less than the terminal has.
    pub area: Rect,
    /// True if entries have previews.
    pub has_preview: bool,
    /// True while contents are searched.
    pub is_searching: bool,
    pub colored: bool,
}

/// Returns true if a preview is shown in `area`.
pub(super) fn fits_preview(area: Rect, has_preview: bool) -> bool {
    has_preview && area.width + 1 >= MIN_PREVIEW_TERMINAL
}

impl PickerView<'_> {
    /// Draws the picker. Returns the picture and the column of the cursor in its first line.
    pub(super) fn render(&self) -> (Buffer, u16) {
        let mut frame = Buffer::empty(self.area);
        let cursor = self.draw_filter(&mut frame);
        let width = self.area.width;
        let list_width = if fits_preview(self.area, self.has_preview) {
            let preview_width = width * PREVIEW_PERCENT / 100;
            self.draw_preview(&mut frame, preview_width);
            width - preview_width - 3
        } else {
            width
        };
        for ((item, is_selected), y) in self.state.visible().zip(1..) {
            if y + 1 < self.area.height {
                self.draw_item(&mut frame, y, list_width, item, is_selected);
            }
        }
        self.draw_keys(&mut frame);
        (frame, cursor.min(width.saturating_sub(1)))
    }

    /// Draws the question, the filter, the facts, and the number of entries.
    fn draw_filter(&self, frame: &mut Buffer) -> u16 {
        let (state, width) = (self.state, usize::from(self.area.width));
        let (mut cursor, _) = frame.set_stringn(0, 0, self.question, width, strong_style());
        let begin = cursor;
        if !state.query().is_empty() || width > usize::from(cursor) + 1 {
            (cursor, _) = frame.set_stringn(cursor + 1, 0, state.query(), width, CellStyle::new());
        }
        let more = if self.is_searching { "…" } else { "" };
        let count = format!("{}/{}{more}", state.fitting(), state.scope_len());
        let count = match state.scope_name() {
            "" => count,
            name => format!("{name} {count}"),
        };
        let count_at = width.saturating_sub(Span::raw(&*count).width());
        if count_at <= usize::from(cursor) + 1 {
            return cursor;
        }
        frame.set_stringn(to_column(count_at), 0, count, width, dim_style());
        let first = usize::from(cursor + 1).max(usize::from(begin) + FILTER_WIDTH);
        let mut room = count_at.saturating_sub(first);
        let mut shown = Vec::new();
        for (style, text) in &self.options.facts {
            let needed = Span::raw(text).width() + GAP;
            if needed > room {
                break;
            }
            room -= needed;
            shown.push((*style, text));
        }
        let mut x = first + room;
        for (style, text) in shown {
            let style = self.cell_style(style);
            let (end, _) = frame.set_stringn(to_column(x), 0, text, width, style);
            x = usize::from(end) + GAP;
        }
        cursor
    }

    fn draw_item(
        &self,
        frame: &mut Buffer,
        y: u16,
        list_width: u16,
        item: &PickerItem,
        is_selected: bool,
    ) {
        let width = usize::from(list_width);
        let base = if is_selected {
            CellStyle::new().add_modifier(Modifier::REVERSED)
        } else {
            CellStyle::new()
        };
        let mark = MARKS[usize::from(!is_selected)];
        let (mut x, _) = frame.set_stringn(0, y, mark, width, base);
        let widths = column_widths(self.state.widths(), width.saturating_sub(usize::from(x)));
        for ((style, text), needed) in item.columns.iter().zip(&widths) {
            let left = width.saturating_sub(usize::from(x));
            if left < MIN_CELL_WIDTH.min(*needed) {
                break;
            }
            let left = left.min(*needed);
            let style = base.patch(self.cell_style(*style));
            frame.set_stringn(x, y, without_end(text, left), left, style);
            x = to_column(usize::from(x) + needed + GAP);
        }
        if is_selected {
            frame.set_style(Rect::new(0, y, list_width, 1), base);
        }
    }

    /// Draws what describes the selected entry, on the right.
    fn draw_preview(&self, frame: &mut Buffer, width: u16) {
        let x = self.area.width - width;
        let last = self.area.height - 1;
        for y in 1..last {
            frame.set_stringn(x - 2, y, "│", 1, dim_style());
        }
        let note = self.state.content_note();
        let note = note.map(|note| (Style::Warn, note));
        let paragraphs = self.state.preview().iter();
        let paragraphs = paragraphs.map(|(style, text)| (*style, text.as_str()));
        let mut y = 1;
        for (style, text) in note.into_iter().chain(paragraphs) {
            for line in wrap_within(text, width.into()) {
                if y >= last {
                    return;
                }
                frame.set_stringn(x, y, line, width.into(), self.cell_style(style));
                y += 1;
            }
        }
    }

    /// Draws the keys, or what the last one did. Keys that do not fit are left out from the end.
    fn draw_keys(&self, frame: &mut Buffer) {
        let width = usize::from(self.area.width);
        let text = match self.state.notice() {
            Some(notice) => without_end(notice, width).into_owned(),
            None => self.format_keys(width),
        };
        frame.set_stringn(0, self.area.height - 1, text, width, dim_style());
    }

    fn format_keys(&self, width: usize) -> String {
        let options = self.options;
        let enter = match options.enter {
            "" => "choose",
            effect => effect,
        };
        let mut keys = vec![format!("enter {enter}")];
        if !self.state.scope_name().is_empty() {
            keys.push("tab scope".into());
        }
        let own = options.keys.iter();
        keys.extend(own.map(|key| format!("ctrl-{} {}", key.letter, key.label)));
        keys.extend(["↑↓ move", "esc cancel", "type to filter"].map(String::from));
        let mut line = String::new();
        for key in keys {
            let longer = if line.is_empty() {
                key
            } else {
                format!("{line} · {key}")
            };
            if longer.chars().count() > width {
                break;
            }
            line = longer;
        }
        line
    }

    fn cell_style(&self, style: Style) -> CellStyle {
        let plain = CellStyle::new();
        match style {
            Style::Good if self.colored => plain.fg(Color::Green),
            Style::Warn if self.colored => plain.fg(Color::Yellow),
            Style::Bad if self.colored => plain.fg(Color::Red),
            Style::Dim => dim_style(),
            Style::Strong => strong_style(),
            Style::Plain | Style::Good | Style::Warn | Style::Bad | Style::Part(_) => plain,
        }
    }
}

fn strong_style() -> CellStyle {
    CellStyle::new().add_modifier(Modifier::BOLD)
}

fn dim_style() -> CellStyle {
    CellStyle::new().add_modifier(Modifier::DIM)
}

/// Returns the widths of columns that need `needed` in `width`. The widest shrinks so that as many as
/// possible of the others fit.
fn column_widths(needed: &[usize], width: usize) -> Vec<usize> {
    let mut widths = needed.to_vec();
    let Some(widest) = (0..needed.len()).max_by_key(|i| (needed[*i], usize::MAX - i)) else {
        return widths;
    };
    widths[widest] = needed[widest].min(MIN_WIDEST_COLUMN);
    let used = |count: usize| widths[..count].iter().sum::<usize>() + GAP * (count - 1);
    let shown = (1..=needed.len()).rev().find(|count| used(*count) <= width);
    widths[widest] = match shown {
        Some(shown) if shown > widest => {
            let room = width - used(shown);
            needed[widest].min(widths[widest] + room)
        }
        _ => needed[widest],
    };
    widths
}

/// Wraps `text` at `width` columns, between words where there are any.
fn wrap_within(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in wrap(text, 0, width).lines() {
        let mut rest = line;
        loop {
            let first = fitting_prefix(rest, width);
            lines.push(first.to_owned());
            rest = &rest[first.len()..];
            if rest.is_empty() || first.is_empty() {
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
    use crate::ui::picker::{ContentMatch, PickerScope};

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
        state.show_rows(usize::from(area.height) - 2);
        change(&mut state);
        let view = PickerView {
            state: &state,
            question: "which account?",
            options,
            area,
            has_preview,
            is_searching: false,
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
        assert_eq!(without_end("漢字漢字", 8), "漢字漢字");
        assert_eq!(without_end("漢字漢字", 7), "漢字漢…");
        assert_eq!(without_end("漢字漢字", 6), "漢字…");
        assert_eq!(without_end("plain", 5), "plain");
        assert_eq!(without_end("plain", 4), "pla…");
    }

    #[test]
    fn the_preview_is_beside_the_list_from_100_columns_on() {
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
                state.set_preview(vec![(Style::Strong, text.into()), (Style::Plain, wide)]);
                state.set_content_matches(vec![ContentMatch {
                    id: "work".into(),
                    note: "turn 3: a match".into(),
                }]);
            })
            .join("\n")
        };
        insta::assert_snapshot!(shown(99), @r"
        which account?                                                        work 80 %  home 0 %  here 1/1
        > work  ready  alice@example.com                     │ turn 3: a match
                                                             │ A question that is longer than the pane is
                                                             │ wide.
                                                             │ 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字
                                                             │ 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字 漢 字
                                                             │
        enter resume · tab scope · ↑↓ move · esc cancel · type to filter
        ");
        insta::assert_snapshot!(shown(98), @r"
        which account?                                                       work 80 %  home 0 %  here 1/1
        > work  ready  alice@example.com





        enter resume · tab scope · ↑↓ move · esc cancel · type to filter
        ");
        insta::assert_snapshot!(shown(50), @r"
        which account?                            here 1/1
        > work  ready  alice@example.com





        enter resume · tab scope · ↑↓ move · esc cancel
        ");
    }

    #[test]
    fn the_widest_column_shrinks_before_others_are_left_out() {
        assert_eq!(column_widths(&[3, 50, 8], 70), [3, 50, 8]);
        assert_eq!(column_widths(&[3, 50, 8], 45), [3, 30, 8]);
        assert_eq!(column_widths(&[3, 50, 8], 38), [3, 33, 8]);
        assert_eq!(column_widths(&[3, 50, 8], 20), [3, 50, 8]);
        assert_eq!(column_widths(&[], 20), [0; 0]);
    }
}
