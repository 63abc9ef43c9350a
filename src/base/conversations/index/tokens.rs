//! Splits a text into the words that the index stores.
//!
//! Letter case and accents are folded. A word is a run of letters and digits, so `foo_bar.rs` has three words. Scripts
//! without blanks, such as Chinese, Japanese and Thai, are indexed by all sequences of three characters, so that every
//! part of three or more characters is found. Symbols such as emoji are words.
//!
//! The parts of `chargeWithRetry` are indexed with a mark before them, which distinguishes them from whole words.

use std::borrow::Cow;
use std::ops::Range;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The length of the longest indexed word in bytes. Of a longer word, only the beginning is indexed.
pub(crate) const MAX_WORD_BYTES: usize = 64;

/// The mark before a part of a word in the index. Words never contain it.
pub(crate) const PART_MARK: char = '.';

/// The length in letters of the shortest part of a word that is indexed.
pub(crate) const MIN_PART_LETTERS: usize = 3;

/// The number of characters of a script without blanks that are indexed as one word.
pub(crate) const GRAM_CHARS: usize = 3;

/// Only this many bytes at the beginning of a tool output are indexed.
const MAX_OUTPUT_BYTES: usize = 16 << 10;

/// The length in bytes of the shortest run of base64 characters that is not indexed.
const MIN_BASE64_BYTES: usize = 256;

/// Returns the part of a tool output that is indexed.
pub(crate) fn truncate_output(text: &str) -> &str {
    truncate_bytes(text, MAX_OUTPUT_BYTES)
}

/// Returns the longest beginning of a text that has at most `max_bytes` and ends between two characters.
pub fn truncate_bytes(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Replaces each run of at least [`MIN_BASE64_BYTES`] base64 characters by a blank.
pub(crate) fn without_base64(text: &str) -> Cow<'_, str> {
    let is_base64 =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    let bytes = text.as_bytes();
    let mut cleaned = String::new();
    let (mut copied_to, mut at) = (0, 0);

    while let Some(window) = bytes.get(at..at + MIN_BASE64_BYTES) {
        // A run that fills a window has no separator, so the next window begins after the last separator of this one.
        if let Some(separator_at) = window.iter().rposition(|b| !is_base64(*b)) {
            at += separator_at + 1;
            continue;
        }

        cleaned.push_str(&text[copied_to..at]);
        cleaned.push(' ');
        let len = bytes[at..].iter().position(|b| !is_base64(*b));
        at = len.map_or(bytes.len(), |len| at + len);
        copied_to = at;
    }

    if copied_to == 0 {
        return Cow::Borrowed(text);
    }

    cleaned.push_str(&text[copied_to..]);
    Cow::Owned(cleaned)
}

/// Folds letter case, accents and compatibility forms.
pub(crate) fn fold_text(text: &str) -> String {
    // ASCII is the usual case, and needs no normalization, which is many times slower.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }

    // These are the accents of Latin, Greek and Cyrillic. In other scripts, a mark makes a different letter.
    let is_accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    let folded = text
        .nfkd()
        .filter(|c| !is_accent(c))
        .flat_map(char::to_lowercase)
        // The lower case of `İ` is an `i` with an accent.
        .filter(|c| !is_accent(c))
        .flat_map(fold_letter);
    folded.nfc().collect()
}

/// Replaces letters that Unicode does not decompose by the letters that people type for them.
fn fold_letter(c: char) -> impl Iterator<Item = char> {
    let (first, second) = match c {
        'ς' => ('σ', None),
        'ß' => ('s', Some('s')),
        'æ' => ('a', Some('e')),
        'œ' => ('o', Some('e')),
        'ø' => ('o', None),
        'đ' => ('d', None),
        'ł' => ('l', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Separator,
    Word,
    Unspaced,
    Symbol,
}

fn classify_char(c: char) -> CharClass {
    match c {
        _ if c.is_ascii_alphanumeric() => CharClass::Word,
        // Skin tones and variation selectors only change the look of the symbol before them.
        '\0'..='\u{7f}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' => {
            CharClass::Separator
        }
        // Thai, Lao, Burmese, Khmer, kana without the dot between words, Chinese characters and Hangul.
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30fa}'
        | '\u{30fc}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => CharClass::Unspaced,
        // Arrows, technical symbols, dingbats and emoji.
        '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}'
        | '\u{2600}'..='\u{27bf}'
        | '\u{2b00}'..='\u{2bff}'
        | '\u{1f000}'..='\u{1faff}' => CharClass::Symbol,
        _ if c.is_alphanumeric() || is_combining_mark(c) => CharClass::Word,
        _ => CharClass::Separator,
    }
}

/// Returns true for the characters of words. Symbols and characters of scripts without blanks are not among them.
pub(crate) fn is_word_char(c: char) -> bool {
    classify_char(c) == CharClass::Word
}

/// A run of characters of one class in a folded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextRun<'a> {
    /// Letters and digits, or one symbol.
    Word(&'a str),
    /// Characters of a script without blanks.
    Unspaced(&'a str),
}

/// Splits a folded text into runs, and leaves out the separators between them.
pub(crate) fn split_runs(folded: &str) -> impl Iterator<Item = TextRun<'_>> {
    let mut remaining = folded;
    let is_ascii = folded.is_ascii();

    std::iter::from_fn(move || {
        if is_ascii {
            // ASCII is the usual case, and this loop is several times faster.
            let is_separator = |b: &u8| ByteKind::of(*b) == ByteKind::Separator;
            let start = remaining.as_bytes().iter().position(|b| !is_separator(b))?;
            remaining = &remaining[start..];
            let end = remaining.as_bytes().iter().position(is_separator);
            let (word, after) = remaining.split_at(end.unwrap_or(remaining.len()));
            remaining = after;
            return Some(TextRun::Word(word));
        }

        let start = remaining.find(|c| classify_char(c) != CharClass::Separator)?;
        remaining = &remaining[start..];
        let first_class = classify_char(remaining.chars().next()?);
        let end = match first_class {
            // Each symbol is a word of its own.
            CharClass::Symbol => remaining.chars().next().map_or(0, char::len_utf8),
            _ => remaining
                .find(|c| classify_char(c) != first_class)
                .unwrap_or(remaining.len()),
        };

        let (run, after) = remaining.split_at(end);
        remaining = after;

        Some(match first_class {
            CharClass::Unspaced => TextRun::Unspaced(run),
            _ => TextRun::Word(run),
        })
    })
}

pub(crate) fn truncate_word(word: &str) -> &str {
    truncate_bytes(word, MAX_WORD_BYTES)
}

/// Returns the words with which a run of a script without blanks is indexed: from each position the next three
/// characters, and fewer at the end of the run.
pub(crate) fn split_grams(run: &str) -> impl Iterator<Item = &str> {
    run.char_indices().map(move |(start, _)| {
        let remaining = &run[start..];
        let end = remaining.char_indices().nth(GRAM_CHARS).map(|(end, _)| end);
        &remaining[..end.unwrap_or(remaining.len())]
    })
}

/// The kinds of bytes in a text of ASCII. All other bytes count as separators.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteKind {
    Separator,
    Lowercase,
    Uppercase,
    Digit,
}

/// The kind of each byte. A lookup is faster than comparisons.
const BYTE_KINDS: [ByteKind; 256] = {
    let mut kinds = [ByteKind::Separator; 256];
    let mut byte = 0u8;
    while byte.is_ascii() {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' => ByteKind::Lowercase,
            b'A'..=b'Z' => ByteKind::Uppercase,
            b'0'..=b'9' => ByteKind::Digit,
            _ => ByteKind::Separator,
        };
        byte += 1;
    }
    kinds
};

impl ByteKind {
    fn of(byte: u8) -> Self {
        BYTE_KINDS[usize::from(byte)]
    }
}

/// Returns the byte ranges of the parts of words in camel case, and of words with letters and digits. `HTTPServer` has
/// the parts `HTTP` and `Server`, `utf8` has `utf` and `8`, and `server` has none.
pub(crate) fn find_word_parts(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut previous = ByteKind::Separator;
    let (mut word_start, mut part_start) = (0, 0);

    for (at, byte) in bytes.iter().enumerate() {
        let kind = ByteKind::of(*byte);
        // The usual case: the byte continues a part. Of several capitals, only the last one may begin a part.
        if kind == previous && kind != ByteKind::Uppercase {
            continue;
        }

        if previous == ByteKind::Separator {
            (word_start, part_start) = (at, at);
        } else if kind == ByteKind::Separator {
            // A word that is not divided has no parts.
            if part_start > word_start {
                parts.push(part_start..at);
            }
        } else if begins_part(previous, kind, bytes.get(at + 1)) {
            parts.push(part_start..at);
            part_start = at;
        }
        previous = kind;
    }

    if previous != ByteKind::Separator && part_start > word_start {
        parts.push(part_start..bytes.len());
    }
    parts
}

/// Returns true if a part of a word begins at a byte of the kind `current`.
fn begins_part(previous: ByteKind, current: ByteKind, next_byte: Option<&u8>) -> bool {
    let is_next_lowercase =
        || next_byte.is_some_and(|next| ByteKind::of(*next) == ByteKind::Lowercase);
    match (previous, current) {
        (ByteKind::Digit, _)
        | (_, ByteKind::Digit)
        | (ByteKind::Lowercase, ByteKind::Uppercase) => true,
        (_, ByteKind::Uppercase) => is_next_lowercase(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_left_out_and_other_text_kept() {
        let noise = "aB3+/".repeat(60);
        assert_eq!(without_base64(&format!("a {noise} b")), "a   b");
        assert_eq!(
            without_base64("data:image/png;base64,aGk="),
            "data:image/png;base64,aGk="
        );
        let words = "word ".repeat(200);
        assert_eq!(without_base64(&words), words);
    }

    #[test]
    fn outputs_are_cut_at_a_character() {
        let text = "ü".repeat(MAX_OUTPUT_BYTES);
        assert_eq!(truncate_output(&text).len(), MAX_OUTPUT_BYTES);
        assert_eq!(
            truncate_output(&format!("x{text}")).len(),
            MAX_OUTPUT_BYTES - 1
        );
    }
}
