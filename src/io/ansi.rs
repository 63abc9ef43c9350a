//! Removes ANSI escape sequences from text.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// The text without ANSI escapes and other control characters; line ends stay, and blanks are plain ones.
pub(crate) fn strip(text: &str) -> String {
    plain(text, |c| match c {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\x0b' | '\x0c' => Some('\n'),
        '\t' | '\u{a0}' | '\u{202f}' => Some(' '),
        c => (!steers_terminal(c) && c != '\u{feff}').then_some(c),
    })
}

/// Returns true for control characters, and for those that reverse the order in which others are shown.
pub(crate) fn steers_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without ANSI escapes and other control characters; line ends and tabs stay.
pub(crate) fn without_escapes(text: &str) -> Cow<'_, str> {
    let stays = |c: char| !steers_terminal(c) || matches!(c, '\n' | '\t');
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(plain(text, |c| stays(c).then_some(c)))
}

/// Returns the text without ANSI escapes, with what `replace` returns for each other character.
fn plain(text: &str, replace: impl Fn(char) -> Option<char>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            c => plain.extend(replace(c)),
        }
    }
    plain
}

fn skip_escape(chars: &mut Peekable<Chars<'_>>) {
    match chars.next() {
        Some('[') => skip_control_sequence(chars),
        // A title or a link: up to BEL or ESC \, in one line.
        Some(']' | 'P' | '^' | '_') => {
            while let Some(c) = chars.next_if(|c| *c != '\n') {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

fn skip_control_sequence(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next_if(|c| ('\x20'..='\x7e').contains(c)) {
        if ('\x40'..='\x7e').contains(&c) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_titles_and_odd_blanks_go_and_lines_stay() {
        assert_eq!(strip("\x1b[1mone\x1b[0m\ttwo\r\n"), "one two\n\n");
        assert_eq!(strip("\x1b]0;title\x07a\u{a0}b"), "a b");
        assert_eq!(strip("a\x1b]8;;link\x1b\\b\u{9b}31mc"), "abc");
        assert_eq!(strip("cut \x1b["), "cut ");
    }

    #[test]
    fn escapes_go_and_tabs_and_lines_stay() {
        let text = "\x1b[1mone\x1b[0m\ttwo\u{a0}\r\n\x1b]0;no end\nthree\0\u{9b}2J";
        assert_eq!(without_escapes(text), "one\ttwo\u{a0}\n\nthree");
        assert!(matches!(without_escapes("a\tb\n"), Cow::Borrowed(_)));
        assert_eq!(without_escapes("a\u{202e}b\u{2066}c"), "abc");
    }
}
