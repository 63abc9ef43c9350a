//! Text in which escapes or base64 hide other text: in JSON strings, in HTML, in URLs, between terminal escapes.

use crate::io::ansi;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use std::borrow::Cow;
use std::ops::Range;

/// The shortest base64 text that is decoded, in bytes.
const MIN_BASE64_BYTES: usize = 24;

/// The shortest line of a base64 text that goes on in the next line, in bytes.
const MIN_BASE64_LINE_BYTES: usize = 60;

/// The largest number of marks before an escaped character: the backslashes of text that is escaped six times.
const MAX_REPEATED: usize = 64;

/// The longest decoded character reference, from `&` to `;`.
const MAX_REFERENCE_BYTES: usize = 10;

/// The longest terminal colour behind a written `ESC [`.
const MAX_COLOUR_BYTES: usize = 17;

/// The ways of writing `ESC [` after a backslash.
const ESCAPE_CODES: [&str; 6] = ["u001b[", "u001B[", "x1b[", "x1B[", "033[", "e["];

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The treatment of control characters and bidirectional controls, which exports and answers to agents leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controls {
    /// They separate words, as the terminal showed them: a carriage return, the NUL between variables. Window titles,
    /// links and other control strings stay, and the escapes in them are decoded, because some outputs have them.
    Kept,
    /// The text before and after them is joined, as the reader of the export will see it. Control strings are removed
    /// with their text.
    Removed,
}

#[derive(Debug)]
pub(super) struct UnescapedText<'a> {
    pub text: Cow<'a, str>,
    /// For each escape, the offset after it in `text` and in the original.
    escape_ends: Vec<(usize, usize)>,
    /// True if `text` has control characters that are left out of exports.
    pub has_controls: bool,
}

impl<'a> UnescapedText<'a> {
    /// Decodes backslash escapes, character references and percent signs that encode ASCII. Removes characters without
    /// a width, and terminal escapes such as colours. `controls` decides about control strings and control characters.
    pub(super) fn decode(original: &'a str, controls: Controls) -> Self {
        // All control characters except tab and line feed, and the bytes from 0xc2 on, which begin the characters
        // outside of ASCII. The later bytes of a character are smaller, so each match begins a character.
        let begins_escape =
            |b: &u8| matches!(b, b'\\' | b'&' | b'%' | 0..=8 | 0x0b..=0x1f | 0x7f | 0xc2..);
        let mut text = String::new();
        let mut escape_ends = Vec::new();
        let mut has_controls = false;
        let (mut copied_to, mut at) = (0, 0);

        while let Some(offset) = original.as_bytes()[at..].iter().position(begins_escape) {
            at += offset;
            let tail = &original[at..];
            let Some((len, decoded_char)) = parse_escape(tail, controls) else {
                // An ordinary character, or a control that stays. `\r\n` is an ordinary end of a line.
                has_controls |=
                    tail.starts_with(ansi::steers_terminal) && !tail.starts_with("\r\n");
                at += 1;
                continue;
            };

            text.push_str(&original[copied_to..at]);
            if let Some(c) = decoded_char {
                text.push(c);
            }
            at += len;
            copied_to = at;
            escape_ends.push((text.len(), at));
        }

        let text = if escape_ends.is_empty() {
            Cow::Borrowed(original)
        } else {
            text.push_str(&original[copied_to..]);
            Cow::Owned(text)
        };
        Self {
            text,
            escape_ends,
            has_controls,
        }
    }

    pub(super) fn has_escapes(&self) -> bool {
        !self.escape_ends.is_empty()
    }

    /// Returns the range of the original text from which a range of `text` was decoded.
    pub(super) fn original_range(&self, range: &Range<usize>) -> Range<usize> {
        // An escape that ends at the end of the range belongs to it.
        let original_offset = |offset: usize| {
            let escapes_before = self.escape_ends.partition_point(|(at, _)| *at <= offset);
            // From the end of the last of these escapes to `offset`, both texts are equal.
            match escapes_before.checked_sub(1).map(|i| self.escape_ends[i]) {
                Some((at, original)) => original + offset - at,
                None => offset,
            }
        };
        original_offset(range.start)..original_offset(range.end)
    }
}

/// The length of an escape in bytes, and the character that it encodes. `None` for an escape without a visible
/// character, such as a colour.
type DecodedEscape = (usize, Option<char>);

/// Parses the escape at the beginning of a text. `None` if the text does not begin with an escape.
fn parse_escape(text: &str, controls: Controls) -> Option<DecodedEscape> {
    match text.as_bytes()[0] {
        b'%' => parse_percents(text.as_bytes()),
        b'\\' => parse_backslashes(text.as_bytes()),
        b'&' => parse_reference(text.as_bytes()),
        _ => parse_hidden(text, controls),
    }
}

/// Parses a terminal escape or a character that the reader does not see, or sees as a blank. `None` for other text, and
/// for a control that is kept.
fn parse_hidden(text: &str, controls: Controls) -> Option<DecodedEscape> {
    // The text of a control string, such as a title or a link, may contain a secret.
    let is_string = |sequence: &str| sequence.starts_with([']', 'P', 'X', '^', '_']);
    let is_kept = controls == Controls::Kept && text.strip_prefix('\x1b').is_some_and(is_string);
    if !is_kept && let Some(after) = ansi::strip_escape(text) {
        let escape_len = text.len() - after.len();
        return Some((escape_len, None));
    }

    let c = text.chars().next()?;
    let decoded_char = match c {
        '\u{a0}' | '\u{202f}' => Some(' '),
        _ if ansi::is_invisible(c) => None,
        _ if ansi::steers_terminal(c) && controls == Controls::Removed => None,
        _ => return None,
    };
    Some((c.len_utf8(), decoded_char))
}

fn parse_percents(text: &[u8]) -> Option<DecodedEscape> {
    // Text may be escaped several times: `%252F` is `%2F`, which is `/`.
    let escaped_percents = text[1..].chunks_exact(2).take_while(|two| two == b"25");
    let len = 1 + 2 * escaped_percents.take(MAX_REPEATED).count();
    let digits = text.get(len..len + 2);
    match digits.and_then(|digits| parse_ascii(digits, 16)) {
        Some(c) => Some((len + 2, Some(c))),
        // Without two digits behind it, a chain of escaped percent signs is one percent sign.
        None => (len > 1).then_some((len, Some('%'))),
    }
}

fn parse_backslashes(text: &[u8]) -> Option<DecodedEscape> {
    let beginning = text.iter().take(MAX_REPEATED);
    let slashes = beginning.take_while(|b| **b == b'\\').count();
    let tail = &text[slashes..];

    // A colour decodes to nothing, so that the text before and after it is joined.
    let colour = ESCAPE_CODES.iter().find_map(|code| {
        let parameters = tail.strip_prefix(code.as_bytes())?;
        Some(slashes + code.len() + colour_len(parameters)?)
    });
    if let Some(len) = colour {
        return Some((len, None));
    }

    let (len, c) = match tail.first()? {
        b'u' => (5, parse_ascii(tail.strip_prefix(b"u00")?.get(..2)?, 16)?),
        b'x' => (3, parse_ascii(tail.get(1..3)?, 16)?),
        b'n' | b'r' | b't' => (1, '\n'),
        other if other.is_ascii_punctuation() => (1, char::from(*other)),
        _ => return None,
    };
    Some((slashes + len, Some(c)))
}

/// Parses a character reference of HTML, such as `&#x2F;` or `&amp;`.
fn parse_reference(text: &[u8]) -> Option<DecodedEscape> {
    let mut beginning = text.iter().take(MAX_REFERENCE_BYTES);
    let end = beginning.position(|b| *b == b';')?;
    let c = match &text[1..end] {
        [b'#', b'x' | b'X', digits @ ..] => parse_ascii(digits, 16)?,
        [b'#', digits @ ..] => parse_ascii(digits, 10)?,
        b"amp" => '&',
        b"lowbar" => '_',
        b"period" => '.',
        b"plus" => '+',
        b"sol" => '/',
        b"equals" => '=',
        b"quot" => '"',
        _ => return None,
    };
    Some((end + 1, Some(c)))
}

/// Returns the ASCII character with this code if it is printable or white space.
fn parse_ascii(digits: &[u8], radix: u32) -> Option<char> {
    let digits = std::str::from_utf8(digits).ok()?;
    let code = u8::from_str_radix(digits, radix).ok()?;
    (code.is_ascii_graphic() || code.is_ascii_whitespace()).then_some(char::from(code))
}

/// Returns the length of the parameters and the final byte of a terminal colour, which follow `ESC [`.
fn colour_len(parameters: &[u8]) -> Option<usize> {
    let mut bytes = parameters.iter().take(MAX_COLOUR_BYTES);
    let final_byte = bytes.position(|b| (0x40..0x7f).contains(b))?;
    Some(final_byte + 1)
}

/// Returns the ranges of texts that may be base64, with the decoded bytes. Tries each of the first four characters as
/// the beginning, because `key=` before base64 consists of base64 characters as well.
pub(super) fn decode_base64_parts(text: &str) -> impl Iterator<Item = (Range<usize>, Vec<u8>)> {
    let mut at = 0;
    let places = std::iter::from_fn(move || {
        loop {
            let offset = text.as_bytes()[at..].iter().position(|b| is_base64(*b))?;
            let start = at + offset;
            at = find_base64_end(text.as_bytes(), start);
            if at - start >= MIN_BASE64_BYTES {
                return Some(start..at);
            }
        }
    });

    places.flat_map(move |place| {
        let decoded = decode_at_four_offsets(&text.as_bytes()[place.clone()]);
        decoded.map(move |decoded| (place.clone(), decoded))
    })
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
}

/// Returns the end of a base64 text, which may have several lines.
fn find_base64_end(text: &[u8], start: usize) -> usize {
    let find_line_end = |from: usize| {
        let len = text[from..].iter().position(|b| !is_base64(*b));
        len.map_or(text.len(), |len| from + len)
    };

    let (mut line_start, mut line_end) = (start, find_line_end(start));
    while line_end - line_start >= MIN_BASE64_LINE_BYTES {
        let tail = text[line_end..].iter();
        let gap = tail.take_while(|b| b.is_ascii_whitespace()).count();
        let next_line_start = line_end + gap;
        let next_line_end = find_line_end(next_line_start);
        // A base64 text goes on only after a line break, and only if the next line begins with base64.
        let has_line_break = text[line_end..next_line_start].contains(&b'\n');
        if !has_line_break || next_line_end == next_line_start {
            break;
        }
        (line_start, line_end) = (next_line_start, next_line_end);
    }
    line_end
}

/// Returns the bytes that a base64 text encodes, once for each of its first four characters as the beginning.
fn decode_at_four_offsets(encoded: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<> {
    let to_standard_char = |b: u8| match b {
        b'-' => b'+',
        b'_' => b'/',
        // `=` is padding or belongs to `key=`. A letter in its place keeps the positions of all other characters.
        b'=' => b'A',
        b => b,
    };

    let standard_chars = encoded.iter().copied().filter(|b| is_base64(*b));
    let standard_chars: Vec<u8> = standard_chars.map(to_standard_char).collect();

    (0..4).filter_map(move |skipped| {
        let mut encoded_part = standard_chars.get(skipped..)?;
        if encoded_part.len() % 4 == 1 {
            // A last group of one character encodes no byte, and the decoder would refuse it.
            encoded_part = &encoded_part[..encoded_part.len() - 1];
        }
        BASE64.decode(encoded_part).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_with_their_original_ranges() {
        for (original, plain) in [
            ("a", "a"),
            (r"sk\u002dx", "sk-x"),
            (r"sk\\u002Dx", "sk-x"),
            (r"a\nb\_c\x2dd\/", "a\nb_c-d/"),
            ("a&#45;b&#x2D;c&lowbar;d&amp;", "a-b-c_d&"),
            ("a%2Db%zz%", "a-b%zz%"),
            ("a%252Db%25252db %25z %25", "a-b-b %z %"),
            ("a\u{1b}[1;31mb\u{1b}[0m", "ab"),
            ("\u{feff}a\u{200b}b\u{ad}c… ”\u{2060}", "abc… ”"),
            (r"a\u001b[1;31mb\\x1B[0mc\033[md\e[Ke\e", r"abcde\e"),
            (
                "ü\\ü & &x; &#999; \\u00e4 \\",
                "ü\\ü & &x; &#999; \\u00e4 \\",
            ),
        ] {
            let decoded = UnescapedText::decode(original, Controls::Kept);
            assert_eq!(decoded.text, plain, "{original}");
        }
        let strings = "\x1b]8;;a%2Db\x07c\x1b]0;\\x2d\x1bPd&#45;";
        let kept = UnescapedText::decode(strings, Controls::Kept);
        assert_eq!(kept.text, "\x1b]8;;a-b\x07c\x1b]0;-\x1bPd-");
        let text = UnescapedText::decode(r"xü \u002db\u002d c", Controls::Kept);
        assert_eq!(text.text, "xü -b- c");
        assert_eq!(text.original_range(&(0..3)), 0..3);
        assert_eq!(text.original_range(&(5..6)), 10..11);
        assert_eq!(text.original_range(&(5..7)), 10..17);
        assert_eq!(text.original_range(&(7..9)), 17..19);
    }

    #[test]
    fn exactly_the_characters_that_exports_leave_out_are_removed() {
        let mut text =
            "a\x1b(B\x1b[mb\x1b]8;;file:///x\x07c\x1b]8;;\x1b\\\\d\u{9b}1mf\r\n".to_owned();
        text.extend(('\0'..'\u{3000}').filter(|c| *c < ' ' || *c > '\x7e'));
        let removed = UnescapedText::decode(&text, Controls::Removed);
        let is_visible = |c: &char| !ansi::is_invisible(*c);
        let shown: String = ansi::strip_escapes(&text)
            .chars()
            .filter(is_visible)
            .collect();
        assert_eq!(removed.text, shown.replace(['\u{a0}', '\u{202f}'], " "));
        assert!(!removed.has_controls);
    }

    #[test]
    fn a_lone_carriage_return_and_a_nul_count_as_controls_but_line_ends_and_tabs_do_not() {
        for (text, has_controls) in [("a\r\nb\t\x1b[m", false), ("a\rb", true), ("a\0", true)] {
            let kept = UnescapedText::decode(text, Controls::Kept);
            assert_eq!(kept.has_controls, has_controls, "{text:?}");
        }
    }

    #[test]
    fn base64_is_decoded_over_several_lines() {
        let plain =
            b"a secret that is hidden in base64, longer than one line of an e-mail would be"
                .repeat(2);
        let encoded = BASE64.encode(&plain);
        let lines = format!("x: {}\n  {}\nend", &encoded[..76], &encoded[76..]);
        for text in [
            format!("x {encoded} y"),
            format!("key={encoded}"),
            format!("/path/{encoded}/b"),
            lines,
        ] {
            let mut found = decode_base64_parts(&text);
            let has_it = |decoded: &[u8]| decoded.windows(plain.len()).any(|part| part == plain);
            assert!(found.any(|(_, decoded)| has_it(&decoded)), "{text}");
        }
        assert_eq!(decode_base64_parts("short words only").count(), 0);
    }
}
