//! Which of two versions of a plain file came of the other.
//!
//! A digest cannot tell: the text of last week may be there again because somebody went back to it, or
//! because a client brought it back. So each version says how many changes of which machine are in it (a
//! version vector), and which texts it took the place of. The first version of a file is named by its
//! text, so that machines which have the same file from elsewhere agree about it without a word.

use super::manifest::Written;
use crate::io::hash::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How many of the texts that a version took the place of are remembered.
const REPLACED: usize = 8;
/// How much of a digest names a change that no machine is known to have made.
const NAME: usize = 12;

/// How often each machine had changed a file when this version of it came to be. An empty one is that of
/// a first version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(BTreeMap<String, u64>);

impl Lineage {
    /// That of a first version: its text names it.
    pub fn first(text: &Sha256Digest) -> Self {
        Self(BTreeMap::from([(named_by(text), 1)]))
    }

    /// Whether it is not written down: the text of a first version is enough.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes of both.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for (name, count) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*count);
        }
        self
    }

    /// Whether all of its changes are in `other`.
    pub fn is_in(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, n)| *n <= other.count(name))
    }

    /// How many changes of a machine are in it.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The version that comes of it by one more change, where `known` of that machine's have been.
    #[must_use]
    pub fn changed_by(mut self, name: &str, known: u64) -> Self {
        let count = self.0.entry(name.to_owned()).or_default();
        *count = (*count).max(known).saturating_add(1);
        self
    }

    /// The version that comes of it when a text is put in its place and nobody knows by whom.
    #[must_use]
    pub fn replaced_by(self, text: &Sha256Digest) -> Self {
        self.changed_by(&named_by(text), 0)
    }
}

/// One that has all changes of another and more is greater.
impl PartialOrd for Lineage {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.is_in(other), other.is_in(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

fn named_by(text: &Sha256Digest) -> String {
    text.to_string()[..NAME].to_owned()
}

/// What came before a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// See [`Lineage`].
    #[serde(default, skip_serializing_if = "Lineage::is_empty")]
    pub lineage: Lineage,
    /// Texts that it took the place of, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<Sha256Digest>,
}

impl History {
    /// That of a first version.
    pub fn first(text: &Sha256Digest) -> Self {
        Self {
            lineage: Lineage::first(text),
            over: Vec::new(),
        }
    }

    /// Whether there is nothing to be told of it.
    pub fn is_first(&self, text: &Sha256Digest) -> bool {
        self.over.is_empty() && (self.lineage.is_empty() || self.lineage == Lineage::first(text))
    }

    /// The same, with the lineage of a first version written out.
    #[must_use]
    pub fn of(&self, text: &Sha256Digest) -> Self {
        if self.lineage.is_empty() {
            Self {
                lineage: Lineage::first(text),
                over: self.over.clone(),
            }
        } else {
            self.clone()
        }
    }

    /// All that is said of a text by those who vouch for it.
    pub fn said<'a>(
        text: &Sha256Digest,
        all: impl IntoIterator<Item = &'a Written>,
    ) -> Option<Self> {
        let of_it = all.into_iter().filter(|written| written.digest == *text);
        of_it.fold(None, |before: Option<Self>, written| {
            let next = written.history();
            Some(before.map_or(next.clone(), |before| before.with(&next, text)))
        })
    }

    /// What came before a version which has `text`, and in which both are.
    #[must_use]
    pub fn with(mut self, other: &Self, text: &Sha256Digest) -> Self {
        self.lineage = self.lineage.with(&other.lineage);
        for digest in &other.over {
            self = self.noting(Some(*digest), text);
        }
        self
    }

    /// Notes that a version which has `text` took the place of another.
    #[must_use]
    pub fn noting(mut self, replaced: Option<Sha256Digest>, text: &Sha256Digest) -> Self {
        self.over
            .retain(|known| known != text && Some(*known) != replaced);
        self.over
            .extend(replaced.filter(|replaced| replaced != text));
        let old = self.over.len().saturating_sub(REPLACED);
        self.over.drain(..old);
        self
    }

    /// Whether it took the place of this text.
    pub fn is_over(&self, text: &Sha256Digest) -> bool {
        self.over.contains(text)
    }
}

/// How the version in the cloud folder relates to the one that was here at the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// Nobody can tell.
    Unknown,
    /// It came of the one here.
    Newer,
    /// The one here came of it.
    Older,
    /// Neither came of the other.
    Apart,
    /// It looks older, and nobody vouches for it: somebody may have put it there.
    Doubtful,
}

/// How `there` relates to `here`, each with the digest of its text.
pub fn descent(there: (&History, &Sha256Digest), here: (&History, &Sha256Digest)) -> Descent {
    use Ordering::{Greater, Less};
    let (is_over, is_under) = (there.0.is_over(here.1), here.0.is_over(there.1));
    match there.0.lineage.partial_cmp(&here.0.lineage) {
        // Counts of a machine and of its copy are taken for those of one, until it is noticed. Where they say
        // the contrary of the texts, somebody decides.
        Some(Greater) if is_over || !is_under => Descent::Newer,
        Some(Less) if is_under || !is_over => Descent::Older,
        Some(Greater | Less) => Descent::Apart,
        // What one machine called settled another one may have gone on from.
        _ if is_over && !is_under => Descent::Newer,
        _ if is_under && !is_over => Descent::Older,
        _ => Descent::Apart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Sha256Digest {
        Sha256Digest::of(text.as_bytes())
    }

    #[test]
    fn a_text_that_comes_back_on_purpose_is_newer_and_one_that_a_client_brings_is_older() {
        let (one, two) = (text("one"), text("two"));
        let first = History::first(&one);
        let mut second = first.clone().noting(Some(one), &two);
        second.lineage = second.lineage.changed_by("a", 0);
        assert_eq!(descent((&second, &two), (&first, &one)), Descent::Newer);
        assert_eq!(descent((&first, &one), (&second, &two)), Descent::Older);
        let mut again = second.clone().noting(Some(two), &one);
        again.lineage = again.lineage.changed_by("b", 0);
        assert_eq!(descent((&again, &one), (&second, &two)), Descent::Newer);
        assert!(!again.is_over(&one));
    }

    #[test]
    fn versions_that_know_nothing_of_each_other_are_apart_until_one_is_over_the_other() {
        let (one, two, three) = (text("one"), text("two"), text("three"));
        let by = |name: &str, over, text: &Sha256Digest| {
            let mut history = History::first(&one).noting(Some(over), text);
            history.lineage = history.lineage.changed_by(name, 0);
            history
        };
        let (a, b) = (by("a", one, &two), by("b", one, &three));
        assert_eq!(descent((&a, &two), (&b, &three)), Descent::Apart);
        // The same change made on two machines, and one of them went on.
        let went_on = by("b", two, &three);
        assert_eq!(descent((&went_on, &three), (&a, &two)), Descent::Newer);
        assert_eq!(descent((&a, &two), (&went_on, &three)), Descent::Older);
    }

    #[test]
    fn counts_that_a_machine_and_its_copy_share_decide_nothing() {
        let (one, two, other) = (text("one"), text("two"), text("other"));
        let mut by_copy = History::first(&one).noting(Some(one), &two);
        by_copy.lineage = by_copy.lineage.changed_by("a", 0);
        // The machine has called its text settled, and counted as far.
        let mut settled = History::first(&one).noting(Some(other), &one);
        settled.lineage = settled.lineage.changed_by("a", 1);
        let (a, copy) = ((&settled, &one), (&by_copy, &two));
        assert_eq!(descent(copy, a), Descent::Apart);
        assert_eq!(descent(a, copy), Descent::Apart);
    }

    #[test]
    fn only_so_many_texts_are_remembered() {
        let now = text("now");
        let all: Vec<_> = (0..20).map(|n| text(&n.to_string())).collect();
        let history = all.iter().fold(History::first(&now), |history, replaced| {
            history.noting(Some(*replaced), &now)
        });
        assert_eq!(history.over, all[20 - REPLACED..]);
    }
}
