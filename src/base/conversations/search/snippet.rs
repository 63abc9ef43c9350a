//! Cuts the part around a match out of a text, and marks the matches in it.

use super::query::{IndexWord, Term};
use super::word_forms::matches_form;
use crate::codex::redaction::hide_secrets;
use crate::conversations::index::tokens::{
    self, MIN_PART_LETTERS, TextRun, fold_text, is_word_char,
};
use std::collections::HashSet;
use std::ops::Range;

/// The length of a snippet in characters. A match that begins before this length may make the snippet longer.
const SNIPPET_CHARS: usize = 200;

/// The number of characters of a snippet before the first match.
const CHARS_BEFORE: usize = 50;

/// The largest distance from the first word of a match to further words of it, in a script without blanks. Four Chinese
/// characters take this many bytes.
const NEARBY_BYTES: usize = 12;

/// A part of a text, in one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snippet {
    /// The text, with one blank for each run of white space, and `…` at an end where text is left out.
    pub text: String,
    /// The byte ranges of the matches in `text`, in order.
    pub matches: Vec<Range<usize>>,
}

/// Returns the part of `text` with the most different matches of `terms`. Of several such parts, returns the first one.
/// Secrets are hidden before the part is cut, because a part of a secret would not be recognized.
pub fn make_snippet(text: &str, terms: &[Term]) -> Snippet {
    let text = &*hide_secrets(text);
    let matches = find_matches(text, terms);

    // Estimates how many different words a snippet around the match at this index would have: a character counts as one
    // byte.
    let count_words_near = |first_match: &usize| {
        let end = matches[*first_match].start + SNIPPET_CHARS - CHARS_BEFORE;
        let nearby_matches = matches[*first_match..]
            .iter()
            .take_while(|range| range.end <= end);
        let words: HashSet<_> = nearby_matches
            .map(|range| fold_text(&text[range.clone()]))
            .collect();
        words.len()
    };

    // `max_by_key` returns the last of equal elements, so the reversed order gives the first one.
    let best_first_match = (0..matches.len()).rev().max_by_key(count_words_near);
    // Without a match, the snippet is the beginning of the text.
    cut_around(text, &matches[best_first_match.unwrap_or(0)..])
}

/// Returns the part of `text` around the first of the matches of `find`, which are in order. Hides secrets like
/// [`make_snippet`].
pub fn make_snippet_by(text: &str, find: impl FnOnce(&str) -> Vec<Range<usize>>) -> Snippet {
    let text = &*hide_secrets(text);
    cut_around(text, &find(text))
}

/// Returns true if one sentence of `text` has all `terms`.
pub(super) fn has_all_in_sentence(text: &str, terms: &[&Term]) -> bool {
    // A sentence ends at a line break, or at a blank after a punctuation mark.
    let mut previous_char = ' ';
    let mut sentences = text.split(|c: char| {
        let ends_sentence = c == '\n' || c.is_whitespace() && ".!?;:".contains(previous_char);
        previous_char = c;
        ends_sentence
    });
    sentences.any(|sentence| {
        let is_found =
            |term: &&Term| !find_matches(sentence, std::slice::from_ref(*term)).is_empty();
        terms.iter().all(is_found)
    })
}

/// Returns the part of `text` around the first of `matches`, which must be in order.
fn cut_around(text: &str, matches: &[Range<usize>]) -> Snippet {
    // The snippet begins at most `CHARS_BEFORE` characters before the match.
    let match_start = matches.first().map_or(0, |first| first.start);
    let chars_before = text[..match_start].char_indices().rev();
    let earliest_char = chars_before.take(CHARS_BEFORE).last();
    let start = earliest_char.map_or(match_start, |(offset, _)| offset);

    let mut snippet = Snippet::default();
    if start > 0 {
        snippet.text.push('…');
    }

    let mut char_count = 0;
    // True at first, because a snippet does not begin with a blank.
    let mut is_after_blank = true;
    let mut end = text.len();
    // The start in the snippet of a match that has begun, but not ended.
    let mut open_match: Option<usize> = None;
    let mut upcoming = matches
        .iter()
        .skip_while(|range| range.start < start)
        .peekable();
    for (offset, c) in text[start..].char_indices() {
        let offset = start + offset;
        if upcoming.next_if(|range| offset >= range.end).is_some() {
            let ended_match = open_match.take().map(|start| start..snippet.text.len());
            snippet.matches.extend(ended_match);
        }

        // A match is not cut in two at the limit.
        if char_count >= SNIPPET_CHARS && open_match.is_none() {
            end = offset;
            break;
        }

        if upcoming.peek().is_some_and(|range| range.start == offset) {
            open_match = Some(snippet.text.len());
        }

        // Blanks and control characters in a row become one blank.
        let is_blank = c.is_whitespace() || c.is_control();
        if !(is_blank && is_after_blank) {
            snippet.text.push(if is_blank { ' ' } else { c });
            char_count += 1;
        }
        is_after_blank = is_blank;
    }

    let last_match = open_match.map(|start| start..snippet.text.len());
    snippet.matches.extend(last_match);

    let len = snippet.text.trim_end().len();
    snippet.text.truncate(len);
    for range in &mut snippet.matches {
        range.end = range.end.min(len);
    }

    if end < text.len() {
        snippet.text.push('…');
    }

    snippet
}

/// Returns the byte ranges of the words of `text` that match one of `terms`, in order.
fn find_matches(text: &str, terms: &[Term]) -> Vec<Range<usize>> {
    let positive_terms = || terms.iter().filter(|term| !term.is_negated);
    let exact_terms = positive_terms().filter(|term| !term.is_plain);
    let exact_words: Vec<_> = exact_terms.flat_map(|term| &term.words).collect();

    let is_form_of_any = |part: &str| {
        let mut plain_terms = positive_terms().filter(|term| term.is_plain);
        plain_terms.any(|term| {
            // The index has only parts of this length or longer.
            let is_long_enough = |part: &&String| part.len() >= MIN_PART_LETTERS;
            let mut parts = term.parts.iter().filter(is_long_enough);
            matches_form(part, &term.words[0].word) || parts.any(|word| fold_text(part) == *word)
        })
    };

    let is_exact_match = |run: TextRun<'_>| match run {
        TextRun::Word(run) => exact_words
            .iter()
            .any(|word| run == word.word || word.is_prefix && run.starts_with(&word.word)),
        TextRun::Unspaced(run) => exact_words.iter().any(|word| run.contains(&word.word)),
    };
    let has_exact_match = |part: &str| {
        // Punctuation and blanks alone need not be folded.
        let has_text = part.contains(|c: char| !c.is_ascii_punctuation() && !c.is_whitespace());
        has_text && tokens::split_runs(&fold_text(part)).any(is_exact_match)
    };

    let mut matches = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let remaining = &text[at..];
        let is_word = is_word_char(first);
        // Each word is folded alone, with the same result as if the whole text were folded.
        let len = remaining.find(|c| is_word_char(c) != is_word);
        let part = &remaining[..len.unwrap_or(remaining.len())];

        if is_word && is_form_of_any(part) {
            matches.push(at..at + part.len());
        } else if !exact_words.is_empty() && has_exact_match(part) {
            matches.extend(narrow_match(part, at, &exact_words));
        }

        at += part.len();
    }
    matches
}

/// Returns the byte range of a match in `part`, which begins at `at` in the text. The range is the whole part if it is
/// a single word, or if folding changes its length. Otherwise the part may be a sentence of a script without blanks, so
/// the range covers the first occurrence of one of `words`, and other words that begin at most [`NEARBY_BYTES`] after
/// it. Returns `None` if there is no such occurrence.
fn narrow_match(part: &str, at: usize, words: &[&IndexWord]) -> Option<Range<usize>> {
    let whole = at..at + part.len();
    if part.chars().all(is_word_char) {
        return Some(whole);
    }

    let folded = fold_text(part);
    if folded.len() != part.len() {
        return Some(whole);
    }

    let first_occurrence = |word: &&IndexWord| {
        let start = folded.find(&word.word)?;
        Some(start..start + word.word.len())
    };
    let ranges: Vec<_> = words.iter().filter_map(first_occurrence).collect();

    let start = ranges.iter().map(|range| range.start).min()?;
    let end = ranges
        .iter()
        .filter(|range| range.start <= start + NEARBY_BYTES)
        .map(|range| range.end)
        .max()?;
    Some(at + start..at + end)
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::*;

    fn marked(text: &str, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let snippet = make_snippet(text, &query::parse(&words).unwrap().terms);
        let mut marked = String::new();
        let mut at = 0;
        for found in &snippet.matches {
            marked.push_str(&snippet.text[at..found.start]);
            marked.push('[');
            marked.push_str(&snippet.text[found.clone()]);
            marked.push(']');
            at = found.end;
        }
        marked + &snippet.text[at..]
    }

    #[test]
    fn a_snippet_is_one_line_with_all_matches_marked() {
        assert_eq!(
            marked("Fix the\n  Parser, please", &["parser"]),
            "Fix the [Parser], please"
        );
        assert_eq!(
            marked("den Ärger mit foo_bar.rs", &["arger", "foo_bar.rs"]),
            "den [Ärger] mit [foo]_[bar].[rs]"
        );
        assert_eq!(marked("serde_json", &["ser*"]), "[serde]_json");
        assert_eq!(marked("新日本語版は", &["日本語"]), "新[日本語]版は");
        assert_eq!(marked("none", &["x"]), "none");
        assert_eq!(
            marked("chargeWithRetry, it retries", &["retrying"]),
            "[chargeWithRetry], it [retries]"
        );
    }

    #[test]
    fn long_texts_are_cut_around_the_part_with_the_most_matches() {
        let text = format!("{} needle {}", "before ".repeat(50), "after ".repeat(100));
        let shown = marked(&text, &["needle"]);
        assert!(shown.starts_with('…') && shown.ends_with('…'), "{shown}");
        assert!(shown.contains("[needle]"), "{shown}");
        assert!(shown.chars().count() < SNIPPET_CHARS + 10, "{shown}");
        let text = format!("a needle {} a needle in hay", "before ".repeat(100));
        let shown = marked(&text, &["needle", "hay"]);
        assert!(shown.ends_with("a [needle] in [hay]"), "{shown}");
    }
}
