//! Makes text of other programs and persons safe to print: removes or replaces characters that steer a terminal or
//! deceive the reader.

use memchr::memchr_iter;
use std::borrow::Cow;

/// The first byte of an ANSI escape.
const ESCAPE: u8 = 0x1b;

/// Removes ANSI escapes, control characters, bidirectional controls and byte order marks. Each character that ends a
/// line becomes `\n`; tabs and no-break spaces become spaces.
pub fn to_plain_text(text: &str) -> String {
    strip_escapes_and_map(text, |c| match c {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\x0b' | '\x0c' => Some('\n'),
        '\t' | '\u{a0}' | '\u{202f}' => Some(' '),
        c => (!steers_terminal(c) && c != '\u{feff}').then_some(c),
    })
}

/// Returns true for control characters, line separators and bidirectional controls, which reverse the order in which
/// other characters are shown.
pub(crate) fn steers_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns true for characters without width, which hide text or make two texts look alike.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the text with U+FFFD for each character that steers a terminal or deceives the reader. `\n`, tabs
/// and joiners between letters beyond ASCII stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    replace_controls(text, |c| matches!(c, '\n' | '\t'))
}

/// Like [`printable`], but also replaces `\n` and tabs.
pub fn to_printable_line(text: &str) -> Cow<'_, str> {
    replace_controls(text, |_| false)
}

/// Returns true if a text is printable ASCII, as nearly all are.
pub fn is_plain_ascii(text: &str) -> bool {
    // Checks eight bytes at a time. The highest bit of a byte in `marks` comes from `word` for 0x80 and above, from the
    // subtraction below 0x20, and from the addition for 0x7f. A carry comes only from a byte that is not plain itself.
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let is_plain_word = |bytes: &[u8; 8]| {
        let word = u64::from_ne_bytes(*bytes);
        let marks = word | word.wrapping_sub(0x20 * ONES) | word.wrapping_add(ONES);
        marks & (0x80 * ONES) == 0
    };

    let (words, last_bytes) = text.as_bytes().as_chunks();
    words.iter().all(is_plain_word) && last_bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn replace_controls(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_plain_ascii(text) {
        return Cow::Borrowed(text);
    }

    // Nearly all characters are ASCII, of which only control characters steer a terminal.
    let is_hostile = |c: char| {
        if c.is_ascii() {
            c.is_ascii_control()
        } else {
            steers_terminal(c) || is_invisible(c)
        }
    };
    let needs_replacement = |c: char| is_hostile(c) && !is_kept(c);
    if !text.chars().any(needs_replacement) {
        return Cow::Borrowed(text);
    }

    let mut chars = text.chars().peekable();
    // ASCII, so that a joiner at the start of the text joins nothing.
    let mut previous = ' ';
    let mut printable_text = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        // Emoji, and words of Persian and of Indian scripts, need joiners.
        let may_be_joined = |c: char| !c.is_ascii() && !needs_replacement(c);
        let is_joiner = matches!(c, '\u{200c}' | '\u{200d}')
            && may_be_joined(previous)
            && chars.peek().is_some_and(|after| may_be_joined(*after));

        let is_replaced = needs_replacement(c) && !is_joiner;
        printable_text.push(if is_replaced { '\u{fffd}' } else { c });
        previous = c;
    }

    Cow::Owned(printable_text)
}

/// Removes the escapes that colour a text (SGR), and those that erase the rest of a line after a coloured text. Other
/// escapes stay: some move the cursor in place of blanks.
pub fn without_colors(text: &str) -> Cow<'_, str> {
    let is_parameter = |c: char| c.is_ascii_digit() || ";:".contains(c);
    let mut plain = String::new();
    // The end of the last escape that was removed.
    let mut removed_end = 0;
    for start in memchr_iter(ESCAPE, text.as_bytes()) {
        let Some(parameters) = text[start..].strip_prefix("\x1b[") else {
            continue;
        };
        let after_parameters = parameters.trim_start_matches(is_parameter);
        if let Some(after_escape) = after_parameters.strip_prefix(['m', 'K']) {
            plain.push_str(&text[removed_end..start]);
            removed_end = text.len() - after_escape.len();
        }
    }

    if removed_end == 0 {
        return Cow::Borrowed(text);
    }
    plain.push_str(&text[removed_end..]);
    Cow::Owned(plain)
}

/// Removes ANSI escapes, control characters, line separators and bidirectional controls. Keeps `\n` and tabs.
pub fn strip_escapes(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| !steers_terminal(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(strip_escapes_and_map(text, |c| is_kept(c).then_some(c)))
}

/// Removes ANSI escapes, and replaces each other character by the result of `replace`, or removes it on `None`.
fn strip_escapes_and_map(text: &str, replace: impl Fn(char) -> Option<char>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = if let Some(after) = strip_escape(rest) {
            after
        } else {
            plain.extend(replace(c));
            &rest[c.len_utf8()..]
        };
    }
    plain
}

/// Returns the text after the ANSI escape at its beginning, even if the escape is incomplete. `None` if the text does
/// not begin with an escape.
pub(crate) fn strip_escape(text: &str) -> Option<&str> {
    // `ESC [` as one character, which 8-bit terminals accept.
    if let Some(parameters) = text.strip_prefix('\u{9b}') {
        return Some(strip_control_sequence(parameters));
    }

    let sequence = text.strip_prefix('\x1b')?;
    let mut chars = sequence.chars();
    Some(match chars.next() {
        Some('[') => strip_control_sequence(chars.as_str()),
        Some(']' | 'P' | '^' | '_') => strip_control_string(chars.as_str()),
        // A choice of the character set, such as `ESC ( B` of `tput sgr0`: intermediate characters, then a final one.
        Some(' '..='/') => {
            let at_final = sequence.trim_start_matches(|c| (' '..='/').contains(&c));
            let after_final = at_final.strip_prefix(|c| ('0'..='~').contains(&c));
            after_final.unwrap_or(at_final)
        }
        _ => chars.as_str(),
    })
}

fn strip_control_sequence(parameters: &str) -> &str {
    let at_final = parameters.trim_start_matches(|c| (' '..='?').contains(&c));
    let after_final = at_final.strip_prefix(|c| ('@'..='~').contains(&c));
    after_final.unwrap_or(at_final)
}

/// Strips a window title or a link, which ends at BEL or `ESC \` in the same line. A string without an end must not
/// swallow all following lines.
fn strip_control_string(text: &str) -> &str {
    let mut ends = text.match_indices(['\n', '\x07', '\x1b']);
    let after = ends.find_map(|(at, end)| match end {
        "\n" => Some(&text[at..]),
        "\x07" => Some(&text[at + 1..]),
        _ => text[at + 1..].strip_prefix('\\'),
    });
    after.unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ascii_has_no_other_byte_at_any_place() {
        assert!(is_plain_ascii(&" az~".repeat(5)));
        for c in ['\0', '\t', '\x1f', '\x7f', '\u{80}', 'ü', '\u{ffff}'] {
            for len in 0..20 {
                for at in 0..=len {
                    let mut text = " ".repeat(len);
                    text.insert(at, c);
                    assert!(!is_plain_ascii(&text), "{c:?} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn to_plain_text_removes_escapes_and_odd_blanks_but_no_line_ends() {
        assert_eq!(to_plain_text("\x1b[1mone\x1b[0m\ttwo\r\n"), "one two\n\n");
        assert_eq!(to_plain_text("\x1b]0;title\x07a\u{a0}b"), "a b");
        assert_eq!(to_plain_text("a\x1b]8;;link\x1b\\b\u{9b}31mc"), "abc");
        for cut in ["\x1b", "\x1b[", "\x1b[1;", "\x1b]8;;x\x1b", "\x1b("] {
            assert_eq!(to_plain_text(&format!("cut {cut}")), "cut ");
        }
        assert_eq!(to_plain_text("a\x1b(B\x1b[mb"), "ab");
    }

    #[test]
    fn without_colors_removes_only_colours_and_the_erasing_of_a_line() {
        let plain = "plain\0 text";
        assert!(matches!(without_colors(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(
            without_colors("\x1b[1;38:5:9mred\x1b[0m\x1b[K\x1b[m, b"),
            "red, b"
        );
        for kept in [
            "a\x1b[3Cb",
            "a\x1b]0;title\x07b",
            "a\x1b[1;",
            "a\x1b",
            "\x1bü",
        ] {
            assert_eq!(without_colors(kept), kept);
        }
    }

    #[test]
    fn printable_replaces_characters_that_reverse_or_hide_text() {
        for c in [
            '\x1b',
            '\u{9b}',
            '\r',
            '\x08',
            '\u{61c}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(printable(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(to_printable_line("a\tb\nc"), "a\u{fffd}b\u{fffd}c");
        let joined = "می\u{200c}خواهم 👩\u{200d}💻";
        assert_eq!(printable(joined), joined);
        assert_eq!(printable("é\u{200d}\u{200d}é"), "é\u{fffd}\u{fffd}é");
    }

    #[test]
    fn strip_escapes_keeps_tabs_and_line_ends() {
        let text = "\x1b[1mone\x1b[0m\ttwo\u{a0}\r\n\x1b]0;no end\nthree\0\u{9b}2J";
        assert_eq!(strip_escapes(text), "one\ttwo\u{a0}\n\nthree");
        assert!(matches!(strip_escapes("a\tb\n"), Cow::Borrowed(_)));
        assert_eq!(strip_escapes("a\u{202e}b\u{2066}c"), "abc");
    }
}
