//! What somebody has decided about a version of a conversation: that it may go, or that it is wanted
//! after all.
//!
//! Each decision about a version has a number above all that its machine knew of that version, and all
//! machines keep and tell the highest of each kind. A version may go where the highest decision against it is above
//! the highest one that brought it back: so a decision that did not know of that does not count.
//!
//! They stand among the words of a state and of a manifest ([`State::resolved`]), as texts that
//! programs which do not know them pass over: `<mark>` is the first decision against a version, and the one that older
//! programs write; `<mark>+<number>` is a later one, and `<mark>-<number>` brings it back.
//!
//! [`State::resolved`]: super::state::State::resolved

use std::collections::BTreeSet;
use std::ops::Bound;

/// The highest numbers of the decisions about one version; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    against: u64,
    wanted: u64,
}

impl Standing {
    /// What all of these words say of a version.
    fn of<'a>(mark: &str, all: impl IntoIterator<Item = &'a BTreeSet<String>>) -> Self {
        let mut standing = Self::default();
        for words in all {
            for word in of_mark(words, mark) {
                standing.take(&word[mark.len()..]);
            }
        }
        standing
    }

    /// Takes what follows the mark in a word; what means nothing counts for nothing.
    fn take(&mut self, rest: &str) {
        let number = |rest: &str| rest.parse().unwrap_or(0);
        if rest.is_empty() {
            self.against = self.against.max(1);
        } else if let Some(rest) = rest.strip_prefix('+') {
            self.against = self.against.max(number(rest));
        } else if let Some(rest) = rest.strip_prefix('-') {
            self.wanted = self.wanted.max(number(rest));
        }
    }

    fn may_go(self) -> bool {
        self.against > self.wanted
    }

    /// The number of the next decision.
    fn next(self) -> u64 {
        self.against.max(self.wanted).saturating_add(1)
    }

    /// Puts it in the place of what the words say of the version.
    fn write(self, mark: &str, words: &mut BTreeSet<String>) {
        let old: Vec<_> = of_mark(words, mark).map(str::to_owned).collect();
        for word in old {
            words.remove(&word);
        }
        match self.against {
            0 => {}
            1 => drop(words.insert(mark.to_owned())),
            n => drop(words.insert(format!("{mark}+{n}"))),
        }
        if self.wanted > 0 {
            words.insert(format!("{mark}-{}", self.wanted));
        }
    }
}

/// Whether it was decided that a version may go, by what all of these words say.
pub fn may_go<'a>(mark: &str, all: impl IntoIterator<Item = &'a BTreeSet<String>>) -> bool {
    Standing::of(mark, all).may_go()
}

/// Decides that a version may go; `others` is what other machines say.
pub fn decide_against(mark: &str, words: &mut BTreeSet<String>, others: &BTreeSet<String>) {
    let mut standing = Standing::of(mark, [&*words, others]);
    if !standing.may_go() {
        standing.against = standing.next();
    }
    standing.write(mark, words);
}

/// Brings a version back: no decision counts that did not know of this. Returns what the words have to
/// say from now on that they did not say.
pub fn bring_back(
    mark: &str,
    words: &mut BTreeSet<String>,
    others: &BTreeSet<String>,
) -> Vec<String> {
    let mut standing = Standing::of(mark, [&*words, others]);
    if standing.may_go() || standing.wanted == 0 {
        standing.wanted = standing.next();
    }
    let mut told = BTreeSet::new();
    standing.write(mark, &mut told);
    told.retain(|word| !words.contains(word));
    standing.write(mark, words);
    told.into_iter().collect()
}

/// What others know better of the versions that these words tell of, or that are in `marks`: for who tells it
/// next, should they fall silent.
pub fn news<'a>(
    words: &'a BTreeSet<String>,
    others: &BTreeSet<String>,
    marks: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let own = words.iter().map(|word| mark_of(word));
    let marks: BTreeSet<&str> = own.chain(marks).collect();
    let mut news = Vec::new();
    for mark in marks {
        let known = Standing::of(mark, [words]);
        let all = Standing::of(mark, [words, others]);
        if known != all {
            let mut told = BTreeSet::new();
            all.write(mark, &mut told);
            news.extend(told);
        }
    }
    news
}

/// Takes a word; of decisions about one version the highest of each kind stays.
pub fn take(word: &str, words: &mut BTreeSet<String>) {
    let mark = mark_of(word);
    let mut standing = Standing::of(mark, [&*words]);
    standing.take(&word[mark.len()..]);
    standing.write(mark, words);
}

fn mark_of(word: &str) -> &str {
    word.split(['+', '-']).next().unwrap_or(word)
}

fn is_of(word: &str, mark: &str) -> bool {
    mark_of(word) == mark
}

/// The words about a version.
fn of_mark<'a>(words: &'a BTreeSet<String>, mark: &str) -> impl Iterator<Item = &'a str> {
    let from = words.range::<str, _>((Bound::Included(mark), Bound::Unbounded));
    let about = from.take_while(move |word| word.starts_with(mark));
    about
        .map(String::as_str)
        .filter(move |word| is_of(word, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "0123456789abcdef";

    fn words(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_decision_counts_until_the_version_is_brought_back_and_a_later_one_counts_again() {
        let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
        decide_against(MARK, &mut here, &there);
        // As older programs write it.
        assert_eq!(here, words(&[MARK]));
        let learnt = news(&there, &here, [MARK]);
        for word in &learnt {
            take(word, &mut there);
        }
        assert_eq!(there, here);
        assert!(may_go(MARK, [&here, &there]));
        // Whatever others go on saying.
        let told = bring_back(MARK, &mut here, &there);
        assert_eq!(told, [format!("{MARK}-2")]);
        assert!(!may_go(MARK, [&here, &there]));
        assert_eq!(bring_back(MARK, &mut here, &there), [""; 0]);
        for word in news(&there, &here, []) {
            take(&word, &mut there);
        }
        assert_eq!(there, here);
        decide_against(MARK, &mut there, &here);
        assert!(may_go(MARK, [&there, &here]));
        assert!(!may_go(MARK, [&here]));
        assert_eq!(there, words(&[&format!("{MARK}+3"), &format!("{MARK}-2")]));
    }

    #[test]
    fn a_decision_that_did_not_know_that_a_version_was_brought_back_does_not_count() {
        let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
        bring_back(MARK, &mut here, &BTreeSet::new());
        decide_against(MARK, &mut there, &BTreeSet::new());
        assert!(!may_go(MARK, [&here, &there]));
        // Nor where it is found again after that was lost here.
        take(MARK, &mut here);
        assert!(!may_go(MARK, [&here]));
    }

    #[test]
    fn words_that_mean_nothing_stay_and_decide_nothing() {
        let odd = format!("{MARK}+x");
        let mut all = words(&["ffffffffffffffff", &odd, "0123456789abcdeff", "-", ""]);
        assert!(!may_go(MARK, [&all]));
        assert!(may_go("ffffffffffffffff", [&all]));
        take(&format!("{MARK}+18446744073709551615"), &mut all);
        assert!(may_go(MARK, [&all]));
        bring_back(MARK, &mut all, &BTreeSet::new());
        assert!(!may_go(MARK, [&all]));
        assert!(all.contains("0123456789abcdeff"));
    }
}
