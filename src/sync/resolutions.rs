//! What somebody has decided about a version of a conversation: that it may go, or that it is wanted
//! after all.
//!
//! Each decision about a version has a number above all that its machine knew of that version, and all
//! machines keep and tell the highest of each kind. A version may go where the highest decision against it is above
//! the highest one that brought it back: so a decision that did not know of that does not count.
//!
//! They stand among the words of a state and of a manifest ([`SyncState::resolved`]), as texts that
//! programs which do not know them pass over: `<name>` is the first decision against a version, by the name that it has as a
//! fork; `<name>+<number>` is a later one, and `<name>-<number>` brings it back.
//!
//! [`SyncState::resolved`]: super::state::SyncState::resolved

use super::conflict_copies;
use std::collections::BTreeSet;
use std::ops::Bound;

/// The highest numbers of the decisions about one version; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Resolution {
    against: u64,
    wanted: u64,
}

impl Resolution {
    /// What all of these words say of a version.
    fn of<'a>(name: &str, all: impl IntoIterator<Item = &'a BTreeSet<String>>) -> Self {
        let mut standing = Self::default();
        for words in all {
            for word in about(words, name) {
                standing.take(&word[name.len()..]);
            }
        }
        standing
    }

    /// Takes what follows the name in a word; what means nothing counts for nothing.
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

    fn is_dropped(self) -> bool {
        self.against > self.wanted
    }

    /// The number of the next decision.
    fn next(self) -> u64 {
        self.against.max(self.wanted).saturating_add(1)
    }

    /// Puts it in the place of what the words say of the version.
    fn write(self, name: &str, words: &mut BTreeSet<String>) {
        let old: Vec<_> = about(words, name).map(str::to_owned).collect();
        for word in old {
            words.remove(&word);
        }
        match self.against {
            0 => {}
            1 => drop(words.insert(name.to_owned())),
            n => drop(words.insert(format!("{name}+{n}"))),
        }
        if self.wanted > 0 {
            words.insert(format!("{name}-{}", self.wanted));
        }
    }
}

/// Whether it was decided that a version may go, by what all of these words say.
pub fn is_dropped<'a>(name: &str, all: impl IntoIterator<Item = &'a BTreeSet<String>>) -> bool {
    Resolution::of(name, all).is_dropped()
}

/// Whether anything was ever decided about a version, by what all of these words say.
pub fn is_known<'a>(name: &str, all: impl IntoIterator<Item = &'a BTreeSet<String>>) -> bool {
    Resolution::of(name, all) != Resolution::default()
}

/// Decides that a version may go; `others` is what other machines say.
pub fn record_drop(name: &str, words: &mut BTreeSet<String>, others: &BTreeSet<String>) {
    let mut standing = Resolution::of(name, [&*words, others]);
    if !standing.is_dropped() {
        standing.against = standing.next();
    }
    standing.write(name, words);
}

/// Brings a version back: no decision counts that did not know of this. Returns what the words have to
/// say from now on that they did not say.
pub fn record_keep(
    name: &str,
    words: &mut BTreeSet<String>,
    others: &BTreeSet<String>,
) -> Vec<String> {
    let mut standing = Resolution::of(name, [&*words, others]);
    if standing.is_dropped() || standing.wanted == 0 {
        standing.wanted = standing.next();
    }
    let mut told = BTreeSet::new();
    standing.write(name, &mut told);
    told.retain(|word| !words.contains(word));
    standing.write(name, words);
    told.into_iter().collect()
}

/// What others know better of the versions that these words tell of, or that are in `names`: for who tells it
/// next, should they fall silent.
pub fn newer_records<'a>(
    words: &'a BTreeSet<String>,
    others: &BTreeSet<String>,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let own = words.iter().map(|word| name_of(word));
    let names: BTreeSet<&str> = own.chain(names).collect();
    let mut newer_records = Vec::new();
    for name in names {
        let known = Resolution::of(name, [words]);
        let all = Resolution::of(name, [words, others]);
        if known != all {
            let mut told = BTreeSet::new();
            all.write(name, &mut told);
            newer_records.extend(told);
        }
    }
    newer_records
}

/// Takes a word; of decisions about one version the highest of each kind stays.
pub fn merge_record(word: &str, words: &mut BTreeSet<String>) {
    let name = name_of(word);
    let mut standing = Resolution::of(name, [&*words]);
    standing.take(&word[name.len()..]);
    standing.write(name, words);
}

/// The name of the version that a word is about; the word itself where it says something else.
fn name_of(word: &str) -> &str {
    let parts = word.rfind(['+', '-']).map(|at| word.split_at(at));
    parts
        .filter(|(name, rest)| {
            let number = &rest[1..];
            conflict_copies::is_file_name(name) && number.bytes().all(|b| b.is_ascii_digit())
        })
        .map_or(word, |(name, _)| name)
}

fn is_of(word: &str, name: &str) -> bool {
    name_of(word) == name
}

/// The words about a version.
fn about<'a>(words: &'a BTreeSet<String>, name: &str) -> impl Iterator<Item = &'a str> {
    let from = words.range::<str, _>((Bound::Included(name), Bound::Unbounded));
    let longer = from.take_while(move |word| word.starts_with(name));
    longer
        .map(String::as_str)
        .filter(move |word| is_of(word, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "rollout-1.0123456789abcdef.fork";

    fn words(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_decision_counts_until_the_version_is_brought_back_and_a_later_one_counts_again() {
        let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
        record_drop(NAME, &mut local, &remote);
        // As older programs write it.
        assert_eq!(local, words(&[NAME]));
        let learnt = newer_records(&remote, &local, [NAME]);
        for word in &learnt {
            merge_record(word, &mut remote);
        }
        assert_eq!(remote, local);
        assert!(is_dropped(NAME, [&local, &remote]));
        // Whatever others go on saying.
        let told = record_keep(NAME, &mut local, &remote);
        assert_eq!(told, [format!("{NAME}-2")]);
        assert!(!is_dropped(NAME, [&local, &remote]));
        assert_eq!(record_keep(NAME, &mut local, &remote), [""; 0]);
        for word in newer_records(&remote, &local, []) {
            merge_record(&word, &mut remote);
        }
        assert_eq!(remote, local);
        record_drop(NAME, &mut remote, &local);
        assert!(is_dropped(NAME, [&remote, &local]));
        assert!(!is_dropped(NAME, [&local]));
        assert_eq!(remote, words(&[&format!("{NAME}+3"), &format!("{NAME}-2")]));
    }

    #[test]
    fn a_decision_that_did_not_know_that_a_version_was_brought_back_does_not_count() {
        let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
        record_keep(NAME, &mut local, &BTreeSet::new());
        record_drop(NAME, &mut remote, &BTreeSet::new());
        assert!(!is_dropped(NAME, [&local, &remote]));
        // Nor where it is found again after that was lost here.
        merge_record(NAME, &mut local);
        assert!(!is_dropped(NAME, [&local]));
    }

    #[test]
    fn words_that_mean_nothing_stay_and_decide_nothing() {
        let odd = format!("{NAME}+x");
        let longer = format!("{NAME}f");
        let mut all = words(&["ffffffffffffffff", &odd, &longer, "-", ""]);
        assert!(!is_dropped(NAME, [&all]));
        assert!(is_dropped("ffffffffffffffff", [&all]));
        merge_record(&format!("{NAME}+18446744073709551615"), &mut all);
        assert!(is_dropped(NAME, [&all]));
        record_keep(NAME, &mut all, &BTreeSet::new());
        assert!(!is_dropped(NAME, [&all]));
        assert!(all.contains(&longer));
    }
}
