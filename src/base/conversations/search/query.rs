//! The query language of `find`.
//!
//! A conversation must have all words of the query, in any of their forms. `"a phrase"` finds these words in a row,
//! `"word"` only this form of the word, and `word*` all words with this prefix. `-word` excludes conversations with the
//! word. A word with other characters, such as `foo_bar.rs` or `--flag`, is searched as it is written. Letter case and
//! accents do not matter.

use super::word_forms::is_stop_word;
use crate::conversations::index::tokens::{
    self, GRAM_CHARS, TextRun, find_word_parts, fold_text, is_word_char, truncate_word,
    without_base64,
};

/// A parsed query. It has at least one term that is not negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub terms: Vec<Term>,
    /// The terms of the same query when unquoted arguments with blanks are read as single words instead of phrases.
    /// `None` if there are no such arguments, or if the terms cannot be searched for.
    pub as_words: Option<Vec<Term>>,
}

/// One condition on a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// True if the conversation must not contain the term.
    pub is_negated: bool,
    /// The words of the index that a text with this term must have.
    pub words: Vec<IndexWord>,
    /// A condition that must be checked in the text itself, because the words alone do not decide.
    pub check: Option<TextCheck>,
    /// True for a single word that is searched in all its forms.
    pub is_plain: bool,
    /// The parts of a plain word. `utf8` has `utf` and `8`, so that it also finds `UTF-8`.
    pub parts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexWord {
    pub word: String,
    /// True if longer words that begin with this word also match.
    pub is_prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextCheck {
    /// The folded text must contain this folded literal at word boundaries.
    Literal {
        text: String,
        /// True if the last word of the literal may be the beginning of a longer word.
        is_prefix: bool,
    },
    /// The words of the text must contain these words in a row. The words are joined by blanks.
    Phrase(String),
}

/// The reason why a query cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The query has no terms, or all terms are negated.
    #[error("no words to search for")]
    Empty,
    /// This term has no letters, digits or symbols.
    #[error("no letters or digits to search for: {0}")]
    NoWords(String),
    #[error("at most {MAX_TERMS} words; search for a phrase or fewer words")]
    TooMany,
}

/// The largest number of terms of a query.
const MAX_TERMS: usize = 64;

/// A term as the user wrote it, without quotes and the mark of a negation.
struct WrittenTerm {
    text: String,
    is_phrase: bool,
    is_negated: bool,
}

/// Parses the arguments of the command line. An argument with blanks but without quotes is a phrase.
///
/// # Errors
/// All terms are negated, a term has no letters, digits and symbols, or there are too many terms.
pub fn parse(arguments: &[String]) -> Result<Query, QueryError> {
    let is_unquoted_phrase = |argument: &String| {
        !argument.contains('"') && argument.trim().contains(char::is_whitespace)
    };
    let (mut with_phrases, mut single_words) = (Vec::new(), Vec::new());
    for argument in arguments {
        split_argument(argument, &mut single_words);
        if is_unquoted_phrase(argument) {
            let (text, is_negated) = strip_negation(argument.trim());
            with_phrases.push(WrittenTerm {
                text: text.to_owned(),
                is_phrase: true,
                is_negated,
            });
        } else {
            split_argument(argument, &mut with_phrases);
        }
    }

    let terms = compile_terms(&with_phrases)?;
    let as_words = if arguments.iter().any(is_unquoted_phrase) {
        // A word of the phrase may be no valid term, such as a dash. Then only the phrase is searched for.
        compile_terms(&single_words).ok()
    } else {
        None
    };
    Ok(Query { terms, as_words })
}

/// Parses a text like arguments of the command line: each word is an argument, or the whole text if it has quotes.
///
/// # Errors
/// As [`parse`].
pub fn parse_text(text: &str) -> Result<Query, QueryError> {
    if text.contains('"') {
        return parse(&[text.to_owned()]);
    }
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    parse(&words)
}

/// Returns the terms to search for.
///
/// # Errors
/// As [`parse`].
fn compile_terms(written_terms: &[WrittenTerm]) -> Result<Vec<Term>, QueryError> {
    let terms: Result<Vec<_>, _> = written_terms.iter().map(compile_term).collect();
    let mut terms = terms?;
    if terms.iter().all(|term| term.is_negated) {
        return Err(QueryError::Empty);
    }

    // Stop words are ignored, unless the query has no other words.
    let is_ignored = |term: &Term| term.is_plain && is_stop_word(&term.words[0].word);
    let is_searched = |term: &Term| !term.is_negated && !is_ignored(term);
    if terms.iter().any(is_searched) {
        terms.retain(|term| !is_ignored(term));
    }

    if terms.len() > MAX_TERMS {
        return Err(QueryError::TooMany);
    }

    Ok(terms)
}

/// Splits an argument at blanks outside of quotes, and appends its terms to `written_terms`. A quote that is not closed
/// ends with the argument.
fn split_argument(argument: &str, written_terms: &mut Vec<WrittenTerm>) {
    let mut remaining = argument.trim_start();
    while !remaining.is_empty() {
        let (unnegated, is_negated) = strip_negation(remaining);
        let quoted = unnegated.strip_prefix('"');
        let (text, after_term) = match quoted {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => (unnegated.split_once(char::is_whitespace)).unwrap_or((unnegated, "")),
        };

        if !text.trim().is_empty() {
            written_terms.push(WrittenTerm {
                text: text.to_owned(),
                is_phrase: quoted.is_some(),
                is_negated,
            });
        }
        remaining = after_term.trim_start();
    }
}

/// Removes the mark of a negation, which is `-` or `!` before a word. Returns true if there was one. `--flag` is no
/// negation.
fn strip_negation(text: &str) -> (&str, bool) {
    let term = text
        .strip_prefix('-')
        .filter(|term| !term.starts_with('-'))
        .or_else(|| text.strip_prefix('!'));
    match term {
        Some(term) if !term.is_empty() && !term.starts_with(char::is_whitespace) => (term, true),
        _ => (text, false),
    }
}

fn compile_term(written: &WrittenTerm) -> Result<Term, QueryError> {
    let (searched_text, is_prefix) = match written.text.strip_suffix('*') {
        Some(prefix) if !written.is_phrase => (prefix, true),
        _ => (&*written.text, false),
    };
    let folded = fold_text(searched_text);

    let runs: Vec<_> = tokens::split_runs(&folded).collect();
    let Some(first_run) = runs.first() else {
        return Err(QueryError::NoWords(written.text.clone()));
    };

    let (TextRun::Word(run) | TextRun::Unspaced(run)) = first_run;
    let run_is_whole_text = run.len() == folded.len();
    let check = match (written.is_phrase, index_decides(&runs)) {
        // A quoted term ignores the symbols around its words.
        (true, true) => None,
        (true, false) => Some(TextCheck::Phrase(format_phrase(&runs))),
        (false, true) if run_is_whole_text => None,
        // Any other term is searched as it is written.
        (false, _) => Some(TextCheck::Literal {
            text: folded.clone(),
            is_prefix,
        }),
    };

    let is_word =
        matches!(first_run, TextRun::Word(word) if word.starts_with(char::is_alphanumeric));
    let is_plain =
        is_word && check.is_none() && !written.is_phrase && !written.is_negated && !is_prefix;
    let part_ranges = is_plain.then(|| find_word_parts(&written.text));
    let parts = part_ranges.into_iter().flatten();
    let parts = parts.map(|range| fold_text(&written.text[range]));

    Ok(Term {
        is_negated: written.is_negated,
        words: list_index_words(&runs, is_prefix),
        check,
        is_plain,
        parts: parts.collect(),
    })
}

/// Returns true if the index alone shows that a text has these runs, apart from the symbols around them. This holds for
/// a single run that the index has as one word: neither truncated nor divided into several grams.
fn index_decides(runs: &[TextRun<'_>]) -> bool {
    match runs {
        [TextRun::Word(word)] => truncate_word(word).len() == word.len(),
        [TextRun::Unspaced(run)] => run.chars().count() <= GRAM_CHARS,
        _ => false,
    }
}

/// Returns the words of the index in these runs of a term.
fn list_index_words(runs: &[TextRun<'_>], is_prefix: bool) -> Vec<IndexWord> {
    let mut words = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        match run {
            TextRun::Word(word) => {
                let indexed_word = truncate_word(word);
                let is_whole = indexed_word.len() == word.len();
                words.push(IndexWord {
                    word: indexed_word.to_owned(),
                    is_prefix: is_prefix && is_whole && i + 1 == runs.len(),
                });
            }
            TextRun::Unspaced(run) => {
                let chars = run.chars().count();
                // The number of grams of full length, or 1 if the run is shorter. The shorter grams at the end of a run
                // add nothing.
                let gram_count = chars.max(GRAM_CHARS) - GRAM_CHARS + 1;
                let grams = tokens::split_grams(run).take(gram_count);
                words.extend(grams.map(|gram| IndexWord {
                    word: gram.to_owned(),
                    is_prefix: chars < GRAM_CHARS,
                }));
            }
        }
    }
    words
}

/// Joins runs by blanks. A word at the beginning or end of the result also has a blank on its outer side, which marks
/// its boundary. A run of a script without blanks has no blank there, because it may be a part of a longer run.
fn format_phrase(runs: &[TextRun<'_>]) -> String {
    let mut phrase = String::new();
    for (i, run) in runs.iter().enumerate() {
        match run {
            TextRun::Word(word) => {
                phrase.push(' ');
                phrase.push_str(word);
                if i + 1 == runs.len() {
                    phrase.push(' ');
                }
            }
            TextRun::Unspaced(run) => {
                if i > 0 {
                    phrase.push(' ');
                }
                phrase.push_str(run);
            }
        }
    }
    phrase
}

/// A text that is prepared for [`TextCheck`]s.
pub(crate) struct CheckedText {
    folded: String,
    /// The words of the text, joined by blanks; `None` until a phrase is checked.
    joined: Option<String>,
}

impl CheckedText {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            folded: fold_text(&without_base64(text)),
            joined: None,
        }
    }

    pub(crate) fn satisfies(&mut self, check: &TextCheck) -> bool {
        match check {
            TextCheck::Literal { text, is_prefix } => {
                contains_literal(&self.folded, text, *is_prefix)
            }
            TextCheck::Phrase(phrase) => {
                let folded = &self.folded;
                // Only phrases need the joined words, so the first phrase joins them.
                let joined = self.joined.get_or_insert_with(|| {
                    let mut joined = " ".to_owned();
                    for run in tokens::split_runs(folded) {
                        let (TextRun::Word(run) | TextRun::Unspaced(run)) = run;
                        joined.push_str(run);
                        joined.push(' ');
                    }
                    joined
                });
                joined.contains(&**phrase)
            }
        }
    }
}

/// Returns true if `text` contains `literal` at word boundaries. With `is_prefix`, a word may continue after the
/// literal.
fn contains_literal(text: &str, literal: &str, is_prefix: bool) -> bool {
    let is_in_word = |c: Option<char>| c.is_some_and(is_word_char);
    let literal_begins_word = is_in_word(literal.chars().next());
    let literal_ends_word = is_in_word(literal.chars().next_back()) && !is_prefix;
    text.match_indices(literal).any(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        let is_cut_before = literal_begins_word && is_in_word(before.chars().next_back());
        let is_cut_after = literal_ends_word && is_in_word(after.chars().next());
        !is_cut_before && !is_cut_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Vec<Term> {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        parse(&arguments).unwrap().terms
    }

    fn words(term: &Term) -> Vec<String> {
        let word =
            |word: &IndexWord| format!("{}{}", word.word, if word.is_prefix { "*" } else { "" });
        term.words.iter().map(word).collect()
    }

    #[test]
    fn words_phrases_negations_and_prefixes_are_parsed() {
        let terms = parsed(&[
            "Ärger",
            "-tokio",
            "serde*",
            "two words",
            r#"x -"no such" !y"#,
        ]);
        let all: Vec<_> = terms
            .iter()
            .map(|term| (words(term), term.is_negated))
            .collect();
        let of = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            all,
            [
                (of(&["arger"]), false),
                (of(&["tokio"]), true),
                (of(&["serde*"]), false),
                (of(&["two", "words"]), false),
                (of(&["x"]), false),
                (of(&["no", "such"]), true),
                (of(&["y"]), true),
            ]
        );
        assert_eq!(terms[0].check, None);
        assert_eq!(
            terms[3].check,
            Some(TextCheck::Phrase(" two words ".into()))
        );
    }

    #[test]
    fn code_is_searched_as_it_is_written() {
        let terms = parsed(&["foo_bar.rs", "--flag", "E0499"]);
        assert_eq!(words(&terms[0]), ["foo", "bar", "rs"]);
        assert_eq!(words(&terms[1]), ["flag"]);
        assert_eq!(terms[2].check, None);
        let holds = |term: &Term, text: &str| {
            CheckedText::new(text).satisfies(term.check.as_ref().expect("a check"))
        };
        assert!(holds(&terms[0], "in src/Foo_bar.rs:12"));
        assert!(!holds(&terms[0], "foo_bar.rsx"));
        assert!(!holds(&terms[0], "foo bar.rs"));
        assert!(holds(&terms[1], "use --flag=1"));
        assert!(!holds(&terms[1], "a flag"));
        let phrase = &parsed(&["two words"])[0];
        assert!(holds(phrase, "Two, words!"));
        assert!(!holds(phrase, "two wordsy"));
    }

    #[test]
    fn languages_without_blanks_are_searched_by_parts_of_words() {
        assert_eq!(words(&parsed(&["日本"])[0]), ["日本*"]);
        assert_eq!(words(&parsed(&["日本語"])[0]), ["日本語"]);
        let term = &parsed(&["日本語版"])[0];
        assert_eq!(words(term), ["日本語", "本語版"]);
        assert!(CheckedText::new("新日本語版は").satisfies(term.check.as_ref().unwrap()));
    }

    #[test]
    fn queries_without_words_are_refused() {
        let error = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            parse(&arguments).unwrap_err()
        };
        assert_eq!(error(&[]), QueryError::Empty);
        assert_eq!(error(&["-x"]), QueryError::Empty);
        assert_eq!(error(&["++"]), QueryError::NoWords("++".into()));
    }
}
