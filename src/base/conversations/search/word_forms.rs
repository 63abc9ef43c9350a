//! The forms of English words.
//!
//! The index has words as they are written, without their stems, which keeps it small. So a query asks for all forms of
//! a word.

use crate::conversations::index::tokens::{find_word_parts, fold_text};
use rust_stemmers::{Algorithm, Stemmer};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The endings that may turn a stem into a word. A result counts only if it has the same stem.
const ENDINGS: &str = "s es ed d e ing er ers al ally ion ions ation ations ate ates ated ating ator ators ly ent ently ence \
    ic ical ically able ably ible ability ive ively ity ities y ize ized izes izing ization ness ant ance or ors ment ments \
    ement ements ings ful ous ously ication ications ency ics ism";

/// Words that are too common to be searched for, in sorted order.
const STOP_WORDS: &[&str] = &[
    "a", "about", "again", "all", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but",
    "by", "can", "could", "did", "do", "does", "done", "for", "from", "had", "has", "have", "he",
    "here", "how", "i", "if", "in", "into", "is", "it", "its", "just", "may", "me", "might", "my",
    "no", "not", "of", "on", "or", "our", "over", "shall", "she", "should", "so", "some", "than",
    "that", "the", "their", "then", "there", "these", "they", "this", "those", "to", "too",
    "under", "us", "very", "was", "we", "were", "what", "when", "where", "which", "who", "whom",
    "why", "will", "with", "without", "would", "you", "your",
];

/// The length in characters of the shortest word that also finds longer words that begin with it.
pub(super) const MIN_PREFIX_CHARS: usize = 3;

pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Returns the stem of a folded word. `None` if the word has other letters than `a` to `z`, or fewer than 3 or more
/// than 24 letters.
fn find_stem(word: &str) -> Option<Cow<'_, str>> {
    let is_english = (3..=24).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
    is_english.then(|| Stemmer::create(Algorithm::English).stem(word))
}

/// Returns the other words that have the same stem as a folded word.
pub(super) fn list_inflections(word: &str) -> BTreeSet<String> {
    let Some(word_stem) = find_stem(word) else {
        return BTreeSet::new();
    };

    // A form is one of these bases with an ending.
    let mut bases = vec![word_stem.to_string()];
    if let Some(last) = word_stem.chars().next_back() {
        let shorter = &word_stem[..word_stem.len() - 1];
        // "hoping" has the stem "hope".
        bases.push(shorter.to_owned());
        // "stopped" has the stem "stop".
        bases.push(format!("{word_stem}{last}"));
        if last == 'i' {
            // "cry" has the stem "cri".
            bases.push(format!("{shorter}y"));
        }
    }

    let endings = || ENDINGS.split_whitespace().chain([""]);
    let words = bases
        .iter()
        .flat_map(|base| endings().map(move |ending| format!("{base}{ending}")));
    words
        .filter(|form| form != word && find_stem(form).as_ref() == Some(&word_stem))
        .collect()
}

/// Returns true if the word `run` of a text, or one of its parts, is a form of the folded `word` or begins with `word`.
pub(super) fn matches_form(run: &str, word: &str) -> bool {
    let matches = |run: &str| {
        // All forms of a word begin with the same letter. This check excludes most of the thousands of words of a text.
        let first_letter = word.chars().next();
        if !first_letter.is_some_and(|first| may_begin_with(run, first)) {
            return false;
        }

        let folded = fold_text(run);
        let is_extension = word.chars().count() >= MIN_PREFIX_CHARS && folded.starts_with(word);
        folded == word
            || is_extension
            || find_stem(&folded).is_some_and(|stem| Some(stem) == find_stem(word))
    };

    let is_part = |part| matches(&run[part]);
    matches(run) || find_word_parts(run).into_iter().any(is_part)
}

/// Returns true if the folded form of `run` may begin with `first`.
fn may_begin_with(run: &str, first: char) -> bool {
    let letter = run.chars().next();
    letter.is_some_and(|letter| !letter.is_ascii() || letter.eq_ignore_ascii_case(&first))
}

/// Returns the words that differ from `word` by one letter that is added, removed, replaced, or swapped with the next
/// one. Returns no words if `word` has other letters than `a` to `z`.
pub(super) fn list_similar_words(word: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    if !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return words;
    }

    for at in 0..=word.len() {
        let (before, after) = word.split_at(at);
        for letter in 'a'..='z' {
            words.insert(format!("{before}{letter}{after}"));
            if let Some(tail) = after.get(1..) {
                words.insert(format!("{before}{letter}{tail}"));
            }
        }

        if let Some(tail) = after.get(1..) {
            words.insert(format!("{before}{tail}"));
        }
        if let Some(tail) = after.get(2..) {
            words.insert(format!("{before}{}{}{tail}", &after[1..2], &after[..1]));
        }
    }

    words.remove(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_one_stem_are_forms_of_each_other() {
        let forms = list_inflections("migration");
        for word in ["migrations", "migrate", "migrating", "migrated"] {
            assert!(forms.contains(word), "{word} {forms:?}");
            assert!(list_inflections(word).contains("migration"), "{word}");
        }
        assert!(list_inflections("retry").contains("retries"));
        assert!(list_inflections("stopped").contains("stop"));
        assert!(list_inflections("e0502").is_empty());
        assert!(list_inflections("übung").is_empty());
    }

    #[test]
    fn forms_match_words_and_parts_of_words() {
        for (run, word, expected) in [
            ("Retries", "retry", true),
            ("chargeWithRetry", "retrying", true),
            ("kubectl", "kube", true),
            ("ab", "a", false),
            ("retire", "retry", false),
            ("Übung", "ub", false),
        ] {
            assert_eq!(matches_form(run, word), expected, "{run} {word}");
        }
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
        assert!(is_stop_word("the") && !is_stop_word("lock"));
    }

    #[test]
    fn spelling_suggestions_differ_by_one_letter() {
        let spellings = list_similar_words("kubernets");
        assert!(spellings.contains("kubernetes") && !spellings.contains("kubernets"));
        let spellings = list_similar_words("lok");
        for word in ["lock", "lo", "olk", "lot"] {
            assert!(spellings.contains(word), "{word}");
        }
        assert!(!spellings.contains("block"));
    }
}
