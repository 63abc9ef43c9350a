//! Random terms of queries, with a naive implementation of their meanings.

use super::home::World;
use super::random::Random;
use super::texts::{CODE, SYMBOLS, UNSPACED, WORDS};

/// The condition of a term, without an index.
#[derive(Debug, Clone)]
pub(super) enum Meaning {
    /// A word in all its forms.
    Word(String),
    /// A word as it is written, or a symbol.
    Exact(String),
    Prefix(String),
    Phrase(Vec<String>),
    Literal(String),
    Part(String),
}

/// Folds letter case and accents by a table, which has only the letters that the generator uses.
pub(super) fn naive_fold(text: &str) -> String {
    let mut folded = String::new();
    for c in text.chars() {
        let c = match c {
            'ß' => {
                folded.push('s');
                's'
            }
            'Ł' | 'ł' => 'l',
            'Ø' | 'ø' | 'ó' => 'o',
            'ź' => 'z',
            'Ä' | 'ä' | 'Ａ' => 'a',
            'é' | 'É' => 'e',
            'ï' => 'i',
            'ü' | 'Ü' => 'u',
            'Ｂ' => 'b',
            'Ｃ' => 'c',
            'Ё' | 'ё' => 'е',
            'ό' => 'ο',
            'ς' | 'Σ' => 'σ',
            '\u{fe0f}' => ' ',
            other => other.to_lowercase().next().unwrap(),
        };
        folded.push(c);
    }
    folded
}

pub(super) fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !is_unspaced(c)
}

pub(super) fn is_unspaced(c: char) -> bool {
    let c = c as u32;
    (0xe00..0xe80).contains(&c) || (0x3040..0xd7b0).contains(&c)
}

/// Splits a folded text into runs of letters, runs of scripts without blanks, and single symbols.
pub(super) fn naive_words(folded: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = 0;
    for c in folded.chars() {
        let class = match c {
            _ if is_unspaced(c) => 2,
            _ if is_letter(c) => 1,
            '🚀' | '👍' | '✅' | '→' | '❤' => 3,
            _ => 0,
        };
        match class {
            0 => {}
            1 | 2 if class == last => words.last_mut().unwrap().push(c),
            _ => words.push(c.to_string()),
        }
        last = class;
    }
    words
}

impl Meaning {
    /// Returns true if a search may accept the text. A word is also found in its other forms, which have the same first
    /// letters.
    pub(super) fn may_hold(&self, text: &str) -> bool {
        let Self::Word(word) = self else {
            return self.holds(text);
        };
        let first: String = word.chars().take(3).collect();
        let is_beginning = first.chars().count() == 3 && naive_fold(text).contains(&first);
        // Without other words, the search ignores it.
        word == "a" || is_beginning || self.holds(text)
    }

    pub(super) fn holds(&self, text: &str) -> bool {
        let folded = naive_fold(text);
        let words = naive_words(&folded);
        match self {
            Self::Word(word) | Self::Exact(word) => words.contains(word),
            Self::Prefix(prefix) => words.iter().any(|word| word.starts_with(prefix)),
            Self::Part(part) => words.iter().any(|word| word.contains(part)),
            Self::Phrase(phrase) => words.windows(phrase.len()).any(|part| {
                let last = phrase.len() - 1;
                part.iter()
                    .zip(phrase)
                    .enumerate()
                    .all(|(i, (word, wanted))| {
                        let is_unspaced = wanted.chars().all(is_unspaced);
                        match i {
                            // The ends of a phrase may be parts of text without blanks.
                            0 if is_unspaced && last > 0 => word.ends_with(wanted),
                            _ if is_unspaced && i == last => word.starts_with(wanted),
                            _ => word == wanted,
                        }
                    })
            }),
            Self::Literal(literal) => {
                let letters: Vec<char> = folded.chars().collect();
                let wanted: Vec<char> = literal.chars().collect();
                letters.windows(wanted.len()).enumerate().any(|(at, part)| {
                    let before = at.checked_sub(1).map(|at| letters[at]);
                    let after = letters.get(at + wanted.len());
                    let joins = |inner: char, outer: Option<char>| {
                        is_letter(inner) && outer.is_some_and(is_letter)
                    };
                    part == wanted
                        && !joins(wanted[0], before)
                        && !joins(wanted[wanted.len() - 1], after.copied())
                })
            }
        }
    }
}

/// Returns the text of a term to type, and its meaning.
pub(super) fn term(random: &mut Random, home: &World) -> (String, Meaning) {
    loop {
        match random.below(12) {
            0..=3 => {
                let word = *random.pick(WORDS);
                let folded = naive_fold(word);
                let words = naive_words(&folded);
                return match words.len() {
                    1 if random.is_one_in(4) => (format!("\"{word}\""), Meaning::Exact(folded)),
                    1 => (word.to_owned(), Meaning::Word(folded)),
                    _ => (word.to_owned(), Meaning::Literal(folded)),
                };
            }
            4 => {
                let word: String = random
                    .pick(WORDS)
                    .chars()
                    .take(2 + random.below(3))
                    .collect();
                if word.chars().all(is_letter) {
                    return (format!("{word}*"), Meaning::Prefix(naive_fold(&word)));
                }
            }
            5..=6 => {
                let code = *random.pick(CODE);
                if !code.starts_with('-') || random.is_one_in(2) {
                    return (code.to_owned(), Meaning::Literal(naive_fold(code)));
                }
            }
            7 => {
                let symbol = *random.pick(SYMBOLS);
                let first = symbol.chars().next().unwrap().to_string();
                return (first.clone(), Meaning::Exact(first));
            }
            8..=9 => {
                let run: Vec<char> = random.pick(UNSPACED).chars().collect();
                let len = (2 + random.below(4)).min(run.len());
                let start = random.below(run.len() - len + 1);
                let mut part: Vec<char> = run[start..start + len].to_vec();
                if random.is_one_in(4) {
                    part.reverse();
                }
                let part: String = part.into_iter().collect();
                return (part.clone(), Meaning::Part(naive_fold(&part)));
            }
            _ => {
                let conversation = random.pick(&home.conversations);
                let (_, text) = random.pick(&conversation.texts);
                let words = naive_words(&naive_fold(text));
                let len = 2 + random.below(2);
                if words.len() >= len {
                    let start = random.below(words.len() - len + 1);
                    let mut phrase = words[start..start + len].to_vec();
                    if random.is_one_in(4) {
                        phrase.reverse();
                    }
                    let is_plain = phrase.iter().all(|word| word.chars().all(is_letter));
                    if is_plain {
                        return (format!("\"{}\"", phrase.join(" ")), Meaning::Phrase(phrase));
                    }
                }
            }
        }
    }
}
