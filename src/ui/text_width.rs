//! Measures the width of text on a terminal, and shortens text to a width.

use codex_manager_core::io::ansi::is_plain_ascii;
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const ELLIPSIS: char = '…';

/// Returns the display width of `text` in columns. Colour codes have none.
pub(crate) fn columns(text: &str) -> usize {
    if is_plain_ascii(text) {
        return text.len();
    }

    // Chinese and Japanese characters take two columns, and marks above letters none.
    if !text.contains('\x1b') {
        return text.width();
    }

    let mut count = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // A colour code ends with a letter.
            let _ = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            count += c.width().unwrap_or(0);
        }
    }
    count
}

/// Returns the longest beginning of `text` that is at most `width` columns wide.
pub(super) fn fitting_prefix(text: &str, width: usize) -> &str {
    let mut prefix_width = 0;
    let first_excess = text.char_indices().find(|(_, c)| {
        prefix_width += c.width().unwrap_or(0);
        prefix_width > width
    });
    first_excess.map_or(text, |(end, _)| &text[..end])
}

/// Returns the longest end of `text` that is at most `width` columns wide.
pub(super) fn fitting_suffix(text: &str, width: usize) -> &str {
    let mut suffix_width = 0;
    let first_excess = text.char_indices().rev().find(|(_, c)| {
        suffix_width += c.width().unwrap_or(0);
        suffix_width > width
    });
    first_excess.map_or(text, |(at, c)| &text[at + c.len_utf8()..])
}

/// Adds blanks to the end of `text` until it is `width` columns wide.
pub(crate) fn pad_end(text: &str, width: usize) -> String {
    let missing_width = width.saturating_sub(columns(text));
    format!("{text}{:missing_width$}", "")
}

/// Replaces the end of a text that is wider than `width` columns by "…".
pub(crate) fn elide_end(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let prefix = fitting_prefix(text, width.saturating_sub(1)).trim_end();
    Cow::Owned(format!("{prefix}{ELLIPSIS}"))
}

/// Replaces the middle of a text that is wider than `width` columns by "…".
pub(crate) fn elide_middle(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let kept_width = width.saturating_sub(1);
    let head = fitting_prefix(text, kept_width / 2);
    let tail = fitting_suffix(text, kept_width - columns(head));
    Cow::Owned(format!("{head}{ELLIPSIS}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_text_is_at_most_as_wide_as_asked() {
        assert_eq!(elide_end("daniel@example.com", 18), "daniel@example.com");
        assert_eq!(elide_end("daniel@example.com", 8), "daniel@…");
        assert_eq!(elide_end("a b c", 3), "a…");
        assert_eq!(elide_middle("/home/me/auth.json", 13), "/home/…h.json");
        assert_eq!(elide_middle("abcdef", 4), "a…ef");
    }

    #[test]
    fn wide_characters_take_two_columns_and_colours_none() {
        assert_eq!(columns("漢字"), 4);
        assert_eq!(columns("\x1b[1mone\x1b[0m"), 3);
        assert_eq!(pad_end("漢字", 5), "漢字 ");
        assert_eq!(elide_end("漢字漢字", 5), "漢字…");
        assert_eq!(elide_middle("漢字漢字", 5), "漢…字");
    }
}
