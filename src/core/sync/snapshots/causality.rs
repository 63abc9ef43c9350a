//! The versions of files that a machine has merged, as a version vector with exceptions.
//!
//! A version is named by the replica that first published it and the number of that publication. A version is newer
//! than another one if its machine knew the other one when it published; clocks do not matter. If neither machine knew
//! the version of the other one, both machines changed the file.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The name of a version: the id of the replica that published it first, and the number of the publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct VersionId(pub(super) String, pub(super) u64);

/// The versions that a machine has merged, or decided not to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Knowledge {
    /// The number of the newest merged publication, by replica.
    pub(super) seen: BTreeMap<String, u64>,
    /// Versions in the publications of `seen` that are not merged, because they wait for a decision, by key of the
    /// file.
    pub(super) unmerged: BTreeMap<String, BTreeSet<VersionId>>,
}

impl Knowledge {
    /// Returns true if the version of a file is merged.
    pub(super) fn knows(&self, key: &str, version: &VersionId) -> bool {
        let VersionId(replica, number) = version;
        let newest_seen = self.seen.get(replica);
        let is_seen = newest_seen.is_some_and(|newest| newest >= number);
        let unmerged = self.unmerged.get(key);
        is_seen && unmerged.is_none_or(|unmerged| !unmerged.contains(version))
    }

    /// Adds the knowledge of another machine. The caller merges the versions in its publication, or records them as
    /// unmerged.
    pub(super) fn add_merged(&mut self, other: &Self) {
        for (key, unmerged) in &other.unmerged {
            // The other machine did not publish the versions that wait for its decision, so this merge lacks them too.
            let added = unmerged.iter().filter(|version| !self.knows(key, version));
            let added: Vec<_> = added.cloned().collect();
            if !added.is_empty() {
                self.unmerged.entry(key.clone()).or_default().extend(added);
            }
        }

        for (replica, number) in &other.seen {
            let newest_seen = self.seen.entry(replica.clone()).or_default();
            *newest_seen = (*newest_seen).max(*number);
        }
    }

    /// Records a version that waits for a decision.
    pub(super) fn add_unmerged(&mut self, key: &str, version: VersionId) {
        let unmerged = self.unmerged.entry(key.to_owned()).or_default();
        unmerged.insert(version);
    }

    /// Records that the version of a file in a publication was merged. All versions of the file that its publisher
    /// knew count as merged too.
    pub(super) fn mark_merged(&mut self, key: &str, publisher_knowledge: &Self) {
        if let Some(unmerged) = self.unmerged.get_mut(key) {
            unmerged.retain(|version| !publisher_knowledge.knows(key, version));
            if unmerged.is_empty() {
                self.unmerged.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(replica: &str, number: u64) -> VersionId {
        VersionId(replica.to_owned(), number)
    }

    #[test]
    fn a_version_that_a_machine_left_unmerged_is_unknown_to_a_third_one_until_that_one_merges_it() {
        let desk = Knowledge {
            seen: [("desk".to_owned(), 3)].into(),
            ..Knowledge::default()
        };
        let mut lap = Knowledge::default();
        lap.add_merged(&desk);
        lap.add_unmerged("a", version("desk", 2));
        assert!(!lap.knows("a", &version("desk", 2)));
        assert!(lap.knows("b", &version("desk", 2)) && !lap.knows("b", &version("desk", 4)));
        let mut third = Knowledge::default();
        third.add_merged(&lap);
        assert!(!third.knows("a", &version("desk", 2)));
        third.mark_merged("a", &desk);
        assert!(third.knows("a", &version("desk", 2)));
        // Once merged, it stays so, whatever another machine holds back.
        third.add_merged(&lap);
        assert!(third.knows("a", &version("desk", 2)));
    }
}
