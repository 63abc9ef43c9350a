//! The part of a query that a search ignored, because no conversation has all of it.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relaxation {
    /// The words of an unquoted phrase need not be in a row.
    PhraseAsWords,
    /// The conversations have only some of the words. No conversation has more of them.
    FewerWords { matched: usize, total: usize },
}

impl Relaxation {
    /// Returns the name in JSON output, which must not change.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PhraseAsWords => "phrase_as_words",
            Self::FewerWords { .. } => "fewer_words",
        }
    }
}

/// Returns a sentence for each word that no conversation has, with the spelling that was searched instead.
pub fn describe_spellings(spellings: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    let pairs = spellings.iter();
    pairs.map(|(word, spelling)| format!("nothing has {word}; did you mean {spelling}?"))
}

impl fmt::Display for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhraseAsWords => {
                f.write_str("no conversation has these words in a row; these have all of them")
            }
            Self::FewerWords { matched, total } => {
                write!(
                    f,
                    "no conversation has all {total} words; these have {matched}"
                )
            }
        }
    }
}
