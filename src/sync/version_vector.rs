//! Ancestry of plain files: determines which of two versions descends from the other.
//!
//! A digest alone cannot tell: an old content may be back because the user returned to it, or because a cloud
//! client restored it. So each version carries a version vector (the number of changes of each machine in it)
//! and the digests of the contents that it replaced. The first version of a file is named by its content, so
//! that machines that got the same file elsewhere agree without exchanging anything.

use crate::io::hash::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Number of digests of replaced contents that a version keeps.
const MAX_REPLACED: usize = 8;
/// Length of the digest prefix that names a change of unknown origin.
const CONTENT_NAME_CHARS: usize = 12;

/// A version vector: the number of changes of each machine that a version contains. Empty for a first
/// version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionVector(BTreeMap<String, u64>);

impl VersionVector {
    /// Returns the vector of a first version, which its content names.
    pub fn first(digest: &Sha256Digest) -> Self {
        Self(BTreeMap::from([(content_name(digest), 1)]))
    }

    /// Returns true if the vector is not stored, because the content of a first version implies it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the vector that contains the changes of both.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (name, count) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*count);
        }
        self
    }

    /// Returns true if `other` contains all changes of this vector.
    pub fn is_included_in(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, n)| *n <= other.count(name))
    }

    /// Returns the number of changes of a machine in this vector.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Returns the vector after one more change by `name`, of which `known` changes existed before.
    #[must_use]
    pub fn increment(mut self, name: &str, known: u64) -> Self {
        let count = self.0.entry(name.to_owned()).or_default();
        *count = (*count).max(known).saturating_add(1);
        self
    }

    /// Returns the vector after `digest` replaced this version by an unknown actor; the content names the
    /// change.
    #[must_use]
    pub fn increment_unknown(self, digest: &Sha256Digest) -> Self {
        self.increment(&content_name(digest), 0)
    }
}

/// A vector is greater than another if it contains all changes of the other and more.
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

fn content_name(digest: &Sha256Digest) -> String {
    digest.to_string()[..CONTENT_NAME_CHARS].to_owned()
}

/// The ancestry of a version of a plain file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestry {
    /// The changes that the version contains. Empty for a first version.
    #[serde(
        rename = "lineage",
        default,
        skip_serializing_if = "VersionVector::is_empty"
    )]
    pub vector: VersionVector,
    /// Digests of the contents that the version replaced, the newest last, at most [`MAX_REPLACED`].
    #[serde(rename = "over", default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Sha256Digest>,
}

impl Ancestry {
    /// Returns the ancestry of a first version with this content.
    pub fn first(digest: &Sha256Digest) -> Self {
        Self {
            vector: VersionVector::first(digest),
            replaced: Vec::new(),
        }
    }

    /// Returns true if this is the ancestry of a first version, which is not stored.
    pub fn is_first(&self, digest: &Sha256Digest) -> bool {
        self.replaced.is_empty()
            && (self.vector.is_empty() || self.vector == VersionVector::first(digest))
    }

    /// Returns the ancestry with the implied vector of a first version filled in.
    #[must_use]
    pub fn with_explicit_vector(&self, digest: &Sha256Digest) -> Self {
        if self.vector.is_empty() {
            Self {
                vector: VersionVector::first(digest),
                replaced: self.replaced.clone(),
            }
        } else {
            self.clone()
        }
    }

    /// Returns the ancestry of a version with content `digest` that descends from both.
    #[must_use]
    pub fn merge(mut self, other: &Self, digest: &Sha256Digest) -> Self {
        self.vector = self.vector.merge(&other.vector);
        for replaced in &other.replaced {
            self = self.record_replaced(Some(*replaced), digest);
        }
        self
    }

    /// Records that the version with content `digest` replaced the content `replaced`.
    #[must_use]
    pub fn record_replaced(
        mut self,
        replaced: Option<Sha256Digest>,
        digest: &Sha256Digest,
    ) -> Self {
        self.replaced
            .retain(|known| known != digest && Some(*known) != replaced);
        self.replaced
            .extend(replaced.filter(|replaced| replaced != digest));
        let old = self.replaced.len().saturating_sub(MAX_REPLACED);
        self.replaced.drain(..old);
        self
    }

    /// Returns true if the version is known to have replaced this content.
    pub fn replaces(&self, digest: &Sha256Digest) -> bool {
        self.replaced.contains(digest)
    }
}

/// The relation of the remote version of a file to the version of the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CausalOrder {
    /// The ancestry is unknown.
    Unknown,
    /// The remote version descends from the local one.
    Newer,
    /// The local version descends from the remote one.
    Older,
    /// Neither version descends from the other.
    Concurrent,
    /// The remote version looks older, but no machine attests it: the user may have put it there.
    OlderUnattested,
}

/// Compares the ancestries of the remote and the local version, each given with the digest of its content.
pub fn causal_order(
    remote: (&Ancestry, &Sha256Digest),
    local: (&Ancestry, &Sha256Digest),
) -> CausalOrder {
    use Ordering::{Greater, Less};
    let (replaces, replaced_by_remote) = (remote.0.replaces(local.1), local.0.replaces(remote.1));
    // A descendant lists the content that it replaced, unless the list is full.
    let may_replace_local = replaces || remote.0.replaced.len() >= MAX_REPLACED;
    let may_be_replaced = replaced_by_remote || local.0.replaced.len() >= MAX_REPLACED;
    match remote.0.vector.partial_cmp(&local.0.vector) {
        // A clone counts its changes under the same name until it is detected. If the replaced contents
        // contradict the counts, the user decides.
        Some(Greater) if replaces || (may_replace_local && !replaced_by_remote) => {
            CausalOrder::Newer
        }
        Some(Less) if replaced_by_remote || (may_be_replaced && !replaces) => CausalOrder::Older,
        Some(Greater | Less) => CausalOrder::Concurrent,
        // Another machine may have continued from a version that one machine recorded as equal.
        _ if replaces && !replaced_by_remote => CausalOrder::Newer,
        _ if replaced_by_remote && !replaces => CausalOrder::Older,
        _ => CausalOrder::Concurrent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digest: &str) -> Sha256Digest {
        Sha256Digest::of(digest.as_bytes())
    }

    #[test]
    fn a_deliberate_return_is_newer_and_a_restored_old_content_is_older() {
        let (one, two) = (digest("one"), digest("two"));
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
    fn unrelated_versions_are_concurrent_until_one_replaces_the_other() {
        let (one, two, three) = (digest("one"), digest("two"), digest("three"));
        let by = |name: &str, replaced, digest: &Sha256Digest| {
            let mut history = Ancestry::first(&one).record_replaced(Some(replaced), digest);
            history.vector = history.vector.increment(name, 0);
            history
        };
        let (a, b) = (by("a", one, &two), by("b", one, &three));
        assert_eq!(
            causal_order((&a, &two), (&b, &three)),
            CausalOrder::Concurrent
        );
        // Two machines made the same change, and one of them continued.
        let continued = by("b", two, &three);
        assert_eq!(
            causal_order((&continued, &three), (&a, &two)),
            CausalOrder::Newer
        );
        assert_eq!(
            causal_order((&a, &two), (&continued, &three)),
            CausalOrder::Older
        );
    }

    #[test]
    fn counts_shared_with_a_clone_decide_nothing() {
        let (one, two, other) = (digest("one"), digest("two"), digest("other"));
        let mut by_copy = Ancestry::first(&one).record_replaced(Some(one), &two);
        by_copy.vector = by_copy.vector.increment("a", 0);
        // The machine recorded its content as resolved, and counted as far as its clone.
        let mut resolved = Ancestry::first(&one).record_replaced(Some(other), &one);
        resolved.vector = resolved.vector.increment("a", 1);
        let (a, copy) = ((&resolved, &one), (&by_copy, &two));
        assert_eq!(causal_order(copy, a), CausalOrder::Concurrent);
        assert_eq!(causal_order(a, copy), CausalOrder::Concurrent);
    }

    #[test]
    fn a_count_without_matching_contents_decides_nothing() {
        let (one, two) = (digest("one"), digest("two"));
        let by = |texts: &[Sha256Digest], digest: &Sha256Digest| {
            texts
                .iter()
                .fold(Ancestry::first(&one), |mut history, replaced| {
                    history.vector = history.vector.increment("a", 0);
                    history.record_replaced(Some(*replaced), digest)
                })
        };
        let original = by(&[one], &two);
        let other: Vec<_> = (0..MAX_REPLACED)
            .map(|n| digest(&format!("copy {n}")))
            .collect();
        for count in 2..=MAX_REPLACED {
            let now = digest("copy");
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
    fn replaced_contents_are_limited() {
        let now = digest("now");
        let all: Vec<_> = (0..20).map(|n| digest(&n.to_string())).collect();
        let history = all.iter().fold(Ancestry::first(&now), |history, replaced| {
            history.record_replaced(Some(*replaced), &now)
        });
        assert_eq!(history.replaced, all[20 - MAX_REPLACED..]);
    }
}
