//! The parts of a picker's picture: the list, the preview beside or below it, the lines of keys.

use super::options::PickerOptions;
use crate::ui::text_width::columns;
use ratatui_core::layout::Rect;

/// The minimum width of a terminal, in columns, for a preview beside the list.
const MIN_BESIDE_COLUMNS: u16 = 100;

/// The minimum height of a picker, in lines, for a preview below the list.
const MIN_BELOW_LINES: u16 = 12;

/// The minimum height of a picker, in lines, for a second line of keys.
const MIN_TWO_KEY_LINES: u16 = 10;

/// The width of a preview beside the list, in percent.
const PREVIEW_PERCENT: u16 = 45;

/// The rule between the list and the preview beside it, with a blank on each side.
const RULE_COLUMNS: u16 = 3;

/// The lines of the filter, above the list.
const FILTER_LINES: u16 = 1;

pub(super) struct PickerLayout {
    /// The part of the terminal that is drawn: all but its last column.
    pub area: Rect,
    pub list: Rect,
    /// `None` if the terminal is too small for it.
    pub preview: Option<Rect>,
    /// True if the preview is below the list, not beside it.
    pub is_below: bool,
    /// The lines of keys at the end.
    pub keys: Vec<String>,
}

impl PickerLayout {
    pub(super) fn new(
        area: Rect,
        options: &PickerOptions,
        has_scopes: bool,
        has_preview: bool,
    ) -> Self {
        let max_key_lines = if area.height < MIN_TWO_KEY_LINES {
            1
        } else {
            2
        };

        let keys = format_keys(options, has_scopes, area.width.into(), max_key_lines);
        let key_lines = if keys.len() > 1 { 2 } else { 1 };
        let height = area.height.saturating_sub(FILTER_LINES + key_lines);
        let whole = Rect::new(0, FILTER_LINES, area.width, height);

        let (mut list, mut preview) = (whole, None);
        // The area is without the last column of the terminal.
        let is_below = area.width + 1 < MIN_BESIDE_COLUMNS;
        if has_preview && !is_below {
            let columns = percent_of(area.width, PREVIEW_PERCENT);
            list.width = area.width - columns - RULE_COLUMNS;
            preview = Some(Rect::new(area.width - columns, whole.y, columns, height));
        } else if has_preview && area.height >= MIN_BELOW_LINES {
            // One line separates the list from the preview.
            let preview_lines = (height - 1) / 2;
            list.height = height - 1 - preview_lines;
            preview = Some(Rect::new(0, list.bottom() + 1, area.width, preview_lines));
        }

        Self {
            area,
            list,
            preview,
            is_below,
            keys,
        }
    }
}

/// Returns `percent` of a number of columns or lines, without an overflow.
pub(super) fn percent_of(whole: u16, percent: u16) -> u16 {
    let part = u32::from(whole) * u32::from(percent) / 100;
    u16::try_from(part).unwrap_or(whole)
}

/// Returns the keys in at most `max_lines` lines. Keys that do not fit are left out from the end.
fn format_keys(
    options: &PickerOptions,
    has_scopes: bool,
    width: usize,
    max_lines: usize,
) -> Vec<String> {
    let enter = match options.enter {
        "" => "choose",
        effect => effect,
    };

    let mut keys = vec![format!("enter {enter}")];
    if has_scopes {
        keys.push("tab scope".into());
    }

    let command_keys = options.keys.iter();
    keys.extend(command_keys.map(|key| format!("^{} {}", key.letter, key.label)));

    // Only a required key may begin a further line; the optional keys fill the last line. With keys of the command,
    // `esc` is required too.
    let (required_count, optional_keys) = if options.keys.is_empty() {
        (keys.len(), &["↑↓ move", "esc cancel", "type to filter"][..])
    } else {
        (keys.len() + 1, &["esc", "↑↓ move", "type to search"][..])
    };
    keys.extend(optional_keys.iter().map(ToString::to_string));

    let mut key_lines = vec![String::new()];
    for (position, key) in keys.into_iter().enumerate() {
        let last_line = key_lines.len() - 1;
        let longer_line = match &*key_lines[last_line] {
            "" => key.clone(),
            line => format!("{line} · {key}"),
        };
        if columns(&longer_line) <= width {
            key_lines[last_line] = longer_line;
        } else if key_lines.len() < max_lines && position > 0 && position < required_count {
            key_lines.push(key);
        } else {
            break;
        }
    }
    key_lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::picker::{KeyEffect, PickerKey};

    fn keys(width: usize, lines: usize) -> Vec<String> {
        let key = |letter, label| PickerKey {
            letter,
            label,
            effect: KeyEffect::Choose,
        };
        let options = PickerOptions {
            enter: "resume",
            keys: vec![
                key('o', "open"),
                key('e', "export"),
                key('d', "trash"),
                key('y', "copy"),
            ],
            ..PickerOptions::default()
        };
        format_keys(&options, true, width, lines)
    }

    #[test]
    fn the_preview_has_a_fixed_share_of_any_width() {
        for (columns, width) in [(99, 44), (1500, 675), (u16::MAX - 1, 29_490)] {
            let area = Rect::new(0, 0, columns, 1);
            let layout = PickerLayout::new(area, &PickerOptions::default(), true, true);
            assert_eq!(layout.preview.map(|area| area.width), Some(width));
        }
    }

    #[test]
    fn all_keys_are_visible_at_80_and_at_40_columns() {
        let all = "enter resume · tab scope · ^o open · ^e export · ^d trash · ^y copy · esc";
        assert_eq!(keys(79, 2), [all]);
        let two = [
            "enter resume · tab scope · ^o open",
            "^e export · ^d trash · ^y copy · esc",
        ];
        assert_eq!(keys(39, 2), two);
        assert_eq!(keys(39, 1), [two[0]]);
    }
}
