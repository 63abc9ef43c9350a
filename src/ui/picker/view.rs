//! The picture of a picker: the filter, the entries, the keys.

use super::item::PickerItem;
use super::state::PickerState;
use crate::ui::Style;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style as CellStyle};
use ratatui_core::text::Span;

/// The keys; what does not fit is left out from the end.
const KEYS: [&str; 4] = ["enter choose", "↑↓ move", "esc cancel", "type to filter"];

/// The marks before the selected entry and before the others.
const MARKS: [&str; 2] = ["> ", "  "];

/// The fewest columns in which a shortened cell is shown.
const MIN_CELL_WIDTH: usize = 4;

/// Draws the picker. Returns the picture and the column of the cursor in its first line.
pub(super) fn render(
    state: &PickerState,
    question: &str,
    area: Rect,
    colored: bool,
) -> (Buffer, u16) {
    let mut frame = Buffer::empty(area);
    let width = usize::from(area.width);
    let strong = CellStyle::new().add_modifier(Modifier::BOLD);
    let dim = CellStyle::new().add_modifier(Modifier::DIM);
    let (mut cursor, _) = frame.set_stringn(0, 0, question, width, strong);
    if !state.query().is_empty() || width > usize::from(cursor) + 1 {
        (cursor, _) = frame.set_stringn(cursor + 1, 0, state.query(), width, CellStyle::new());
    }
    let count = format!("{}/{}", state.fitting(), state.total());
    let count_at = width.saturating_sub(count.len());
    if count_at > usize::from(cursor) + 1 {
        frame.set_stringn(column(count_at), 0, count, width, dim);
    }
    for ((item, is_selected), y) in state.visible().zip(1..) {
        if y + 1 < area.height {
            draw_item(&mut frame, y, item, state.widths(), is_selected, colored);
        }
    }
    let keys = keys_within(width);
    frame.set_stringn(0, area.height - 1, keys, width, dim);
    (frame, cursor.min(area.width.saturating_sub(1)))
}

fn draw_item(
    frame: &mut Buffer,
    y: u16,
    item: &PickerItem,
    widths: &[usize],
    is_selected: bool,
    colored: bool,
) {
    let width = usize::from(frame.area.width);
    let base = if is_selected {
        CellStyle::new().add_modifier(Modifier::REVERSED)
    } else {
        CellStyle::new()
    };
    let mark = MARKS[usize::from(!is_selected)];
    let (mut x, _) = frame.set_stringn(0, y, mark, width, base);
    for ((style, text), needed) in item.columns.iter().zip(widths) {
        let left = width.saturating_sub(usize::from(x));
        if left < MIN_CELL_WIDTH.min(*needed) {
            break;
        }
        let text = fitted(text, left);
        frame.set_stringn(x, y, text, left, base.patch(cell_style(*style, colored)));
        x = column(usize::from(x) + needed + 2);
    }
    if is_selected {
        frame.set_style(Rect::new(0, y, frame.area.width, 1), base);
    }
}

/// Shortens `text` to `width` terminal columns, with "…" at the end.
fn fitted(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        let longer = format!("{short}{c}");
        if Span::raw(&*longer).width() + 1 > width {
            break;
        }
        short = longer;
    }
    format!("{}…", short.trim_end())
}

fn keys_within(width: usize) -> String {
    let mut line = String::new();
    for key in KEYS {
        let longer = if line.is_empty() {
            key.to_owned()
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

fn cell_style(style: Style, colored: bool) -> CellStyle {
    let plain = CellStyle::new();
    match style {
        Style::Good if colored => plain.fg(Color::Green),
        Style::Warn if colored => plain.fg(Color::Yellow),
        Style::Bad if colored => plain.fg(Color::Red),
        Style::Dim => plain.add_modifier(Modifier::DIM),
        Style::Strong => plain.add_modifier(Modifier::BOLD),
        Style::Plain | Style::Good | Style::Warn | Style::Bad => plain,
    }
}

fn column(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(columns: u16, names: &[(&str, &str)]) -> Vec<String> {
        let item = |(name, more): &(&str, &str)| {
            let cells = [*name, "ready", *more].map(|text| (Style::Plain, text.to_owned()));
            PickerItem::new(*name, cells.into())
        };
        let mut state = PickerState::new(names.iter().map(item).collect(), 0);
        let area = Rect::new(0, 0, columns, 4);
        state.show_rows(2);
        let (frame, _) = render(&state, "which account?", area, false);
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
    fn a_wide_character_counts_twice_when_a_cell_is_shortened() {
        assert_eq!(fitted("漢字漢字", 8), "漢字漢字");
        assert_eq!(fitted("漢字漢字", 7), "漢字漢…");
        assert_eq!(fitted("漢字漢字", 6), "漢字…");
        assert_eq!(fitted("plain", 5), "plain");
        assert_eq!(fitted("plain", 4), "pla…");
    }
}
