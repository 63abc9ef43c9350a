//! Which of two versions of a plain file came of the other.
//!
//! A digest cannot tell: the text of last week may be there again because somebody went back to it, or
//! because a client brought it back. So each version says how many changes of which machine are in it (a
//! version vector), and which texts it took the place of. The first version of a file is named by its
//! text, so that machines which have the same file from elsewhere agree about it without a word.

use super::manifest::ManifestEntry;
use crate::io::hash::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How many of the texts that a version took the place of are remembered.
const MAX_REPLACED: usize = 8;
/// How much of a digest names a change that no machine is known to have made.
const CONTENT_NAME_CHARS: usize = 12;

/// How often each machine had changed a file when this version of it came to be. An empty one is that of
/// a first version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionVector(BTreeMap<String, u64>);

impl VersionVector {
    /// That of a first version: its text names it.
    pub fn first(text: &Sha256Digest) -> Self {
        Self(BTreeMap::from([(content_name(text), 1)]))
    }

    /// Whether it is not written down: the text of a first version is enough.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes of both.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (name, count) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*count);
        }
        self
    }

    /// Whether all of its changes are in `other`.
    pub fn is_included_in(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, n)| *n <= other.count(name))
    }

    /// How many changes of a machine are in it.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The version that comes of it by one more change, where `known` of that machine's have been.
    #[must_use]
    pub fn increment(mut self, name: &str, known: u64) -> Self {
        let count = self.0.entry(name.to_owned()).or_default();
        *count = (*count).max(known).saturating_add(1);
        self
    }

    /// The version that comes of it when a text is put in its place and nobody knows by whom.
    #[must_use]
    pub fn increment_unknown(self, text: &Sha256Digest) -> Self {
        self.increment(&content_name(text), 0)
    }
}

/// One that has all changes of another and more is greater.
impl PartialOrd for VersionVector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.is_included_in(other), other.is_included_in(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

fn content_name(text: &Sha256Digest) -> String {
    text.to_string()[..CONTENT_NAME_CHARS].to_owned()
}

/// What came before a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestry {
    /// See [`VersionVector`].
    #[serde(
        rename = "lineage",
        default,
        skip_serializing_if = "VersionVector::is_empty"
    )]
    pub vector: VersionVector,
    /// Texts that it took the place of, the newest last.
    #[serde(rename = "over", default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Sha256Digest>,
}

impl Ancestry {
    /// That of a first version.
    pub fn first(text: &Sha256Digest) -> Self {
        Self {
            vector: VersionVector::first(text),
            replaced: Vec::new(),
        }
    }

    /// Whether there is nothing to be told of it.
    pub fn is_first(&self, text: &Sha256Digest) -> bool {
        self.replaced.is_empty()
            && (self.vector.is_empty() || self.vector == VersionVector::first(text))
    }

    /// The same, with the lineage of a first version written out.
    #[must_use]
    pub fn with_explicit_vector(&self, text: &Sha256Digest) -> Self {
        if self.vector.is_empty() {
            Self {
                vector: VersionVector::first(text),
                replaced: self.replaced.clone(),
            }
        } else {
            self.clone()
        }
    }

    /// All that is said of a text by those who vouch for it.
    pub fn from_entries<'a>(
        text: &Sha256Digest,
        all: impl IntoIterator<Item = &'a ManifestEntry>,
    ) -> Option<Self> {
        let of_it = all.into_iter().filter(|written| written.digest == *text);
        of_it.fold(None, |before: Option<Self>, written| {
            let next = written.history();
            Some(before.map_or(next.clone(), |before| before.merge(&next, text)))
        })
    }

    /// What came before a version which has `text`, and in which both are.
    #[must_use]
    pub fn merge(mut self, other: &Self, text: &Sha256Digest) -> Self {
        self.vector = self.vector.merge(&other.vector);
        for digest in &other.replaced {
            self = self.record_replaced(Some(*digest), text);
        }
        self
    }

    /// Notes that a version which has `text` took the place of another.
    #[must_use]
    pub fn record_replaced(mut self, replaced: Option<Sha256Digest>, text: &Sha256Digest) -> Self {
        self.replaced
            .retain(|known| known != text && Some(*known) != replaced);
        self.replaced
            .extend(replaced.filter(|replaced| replaced != text));
        let old = self.replaced.len().saturating_sub(MAX_REPLACED);
        self.replaced.drain(..old);
        self
    }

    /// Whether it took the place of this text.
    pub fn replaces(&self, text: &Sha256Digest) -> bool {
        self.replaced.contains(text)
    }
}

/// How the version in the cloud folder relates to the one that was here at the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CausalOrder {
    /// Nobody can tell.
    Unknown,
    /// It came of the one here.
    Newer,
    /// The one here came of it.
    Older,
    /// Neither came of the other.
    Concurrent,
    /// It looks older, and nobody vouches for it: somebody may have put it there.
    OlderUnattested,
}

/// How `there` relates to `here`, each with the digest of its text.
pub fn causal_order(
    remote: (&Ancestry, &Sha256Digest),
    local: (&Ancestry, &Sha256Digest),
) -> CausalOrder {
    use Ordering::{Greater, Less};
    let (replaces, is_under) = (remote.0.replaces(local.1), local.0.replaces(remote.1));
    // What came of a text has that among those that it took the place of, unless these are too many.
    let may_be_over = replaces || remote.0.replaced.len() >= MAX_REPLACED;
    let may_be_under = is_under || local.0.replaced.len() >= MAX_REPLACED;
    match remote.0.vector.partial_cmp(&local.0.vector) {
        // Counts of a machine and of its copy are taken for those of one, until it is noticed. Where the texts
        // do not bear them out, somebody decides.
        Some(Greater) if replaces || (may_be_over && !is_under) => CausalOrder::Newer,
        Some(Less) if is_under || (may_be_under && !replaces) => CausalOrder::Older,
        Some(Greater | Less) => CausalOrder::Concurrent,
        // What one machine called settled another one may have gone on from.
        _ if replaces && !is_under => CausalOrder::Newer,
        _ if is_under && !replaces => CausalOrder::Older,
        _ => CausalOrder::Concurrent,
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
        let first = Ancestry::first(&one);
        let mut second = first.clone().record_replaced(Some(one), &two);
        second.vector = second.vector.increment("a", 0);
        assert_eq!(
            causal_order((&second, &two), (&first, &one)),
            CausalOrder::Newer
        );
        assert_eq!(
            causal_order((&first, &one), (&second, &two)),
            CausalOrder::Older
        );
        let mut again = second.clone().record_replaced(Some(two), &one);
        again.vector = again.vector.increment("b", 0);
        assert_eq!(
            causal_order((&again, &one), (&second, &two)),
            CausalOrder::Newer
        );
        assert!(!again.replaces(&one));
    }

    #[test]
    fn versions_that_know_nothing_of_each_other_are_apart_until_one_is_over_the_other() {
        let (one, two, three) = (text("one"), text("two"), text("three"));
        let by = |name: &str, replaced, text: &Sha256Digest| {
            let mut history = Ancestry::first(&one).record_replaced(Some(replaced), text);
            history.vector = history.vector.increment(name, 0);
            history
        };
        let (a, b) = (by("a", one, &two), by("b", one, &three));
        assert_eq!(
            causal_order((&a, &two), (&b, &three)),
            CausalOrder::Concurrent
        );
        // The same change made on two machines, and one of them went on.
        let went_on = by("b", two, &three);
        assert_eq!(
            causal_order((&went_on, &three), (&a, &two)),
            CausalOrder::Newer
        );
        assert_eq!(
            causal_order((&a, &two), (&went_on, &three)),
            CausalOrder::Older
        );
    }

    #[test]
    fn counts_that_a_machine_and_its_copy_share_decide_nothing() {
        let (one, two, other) = (text("one"), text("two"), text("other"));
        let mut by_copy = Ancestry::first(&one).record_replaced(Some(one), &two);
        by_copy.vector = by_copy.vector.increment("a", 0);
        // The machine has called its text settled, and counted as far.
        let mut settled = Ancestry::first(&one).record_replaced(Some(other), &one);
        settled.vector = settled.vector.increment("a", 1);
        let (a, copy) = ((&settled, &one), (&by_copy, &two));
        assert_eq!(causal_order(copy, a), CausalOrder::Concurrent);
        assert_eq!(causal_order(a, copy), CausalOrder::Concurrent);
    }

    #[test]
    fn a_count_that_no_text_bears_out_decides_nothing_while_all_texts_are_known() {
        let (one, two) = (text("one"), text("two"));
        let by = |texts: &[Sha256Digest], text: &Sha256Digest| {
            texts
                .iter()
                .fold(Ancestry::first(&one), |mut history, replaced| {
                    history.vector = history.vector.increment("a", 0);
                    history.record_replaced(Some(*replaced), text)
                })
        };
        let original = by(&[one], &two);
        let other: Vec<_> = (0..MAX_REPLACED)
            .map(|n| text(&format!("copy {n}")))
            .collect();
        for count in 2..=MAX_REPLACED {
            let now = text("copy");
            let copy = by(&other[..count], &now);
            let (expected, reverse) = if count < MAX_REPLACED {
                (CausalOrder::Concurrent, CausalOrder::Concurrent)
            } else {
                (CausalOrder::Newer, CausalOrder::Older)
            };
            let (copy, original) = ((&copy, &now), (&original, &two));
            assert_eq!(causal_order(copy, original), expected, "{count}");
            assert_eq!(causal_order(original, copy), reverse, "{count}");
        }
    }

    #[test]
    fn only_so_many_texts_are_remembered() {
        let now = text("now");
        let all: Vec<_> = (0..20).map(|n| text(&n.to_string())).collect();
        let history = all.iter().fold(Ancestry::first(&now), |history, replaced| {
            history.record_replaced(Some(*replaced), &now)
        });
        assert_eq!(history.replaced, all[20 - MAX_REPLACED..]);
    }
}
