//! The tags of a snapshot that sync makes. Such a snapshot is no backup: `vault` neither lists nor removes it.

use super::tags::{RESERVED, find_value};
use percent_encoding::utf8_percent_encode;

/// The tag of every snapshot of sync.
pub(super) const SYNC_TAG: &str = "codex-manager-sync";

/// The layout of the snapshots of this version: `manifest.jsonl`, and the files in `home`.
pub(super) const LAYOUT: u32 = 1;

/// The description of a snapshot of sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaTags {
    /// Id of the replica: one manager home, Codex home and repository.
    pub(crate) replica: String,
    /// Name of the machine, for people.
    pub(crate) machine: String,
    /// Number of the publication of this replica, from 1.
    pub(crate) number: u64,
    /// Id, or beginning of the id, of the previous snapshot of this replica.
    pub(crate) base: Option<String>,
}

impl ReplicaTags {
    /// Returns true for the tags of a snapshot of sync, of any layout.
    pub(super) fn is_in(tags: &[String]) -> bool {
        tags.iter().any(|tag| tag == SYNC_TAG)
    }

    /// Returns the layout of the snapshot.
    pub(super) fn layout(tags: &[String]) -> u32 {
        let layout = find_value(tags, "layout").map(|text| text.parse().unwrap_or(u32::MAX));
        layout.unwrap_or(LAYOUT)
    }

    /// Returns the values for `restic backup --tag`.
    pub(super) fn to_tags(&self) -> Vec<String> {
        let mut tags = vec![SYNC_TAG.to_owned(), format!("layout={LAYOUT}")];
        let (number, base) = (self.number.to_string(), self.base.as_deref());
        let values = [
            ("replica", Some(&*self.replica)),
            ("machine", Some(&*self.machine)),
            ("number", Some(&*number)),
            ("base", base),
        ];
        for (key, value) in values {
            let encoded = value.map(|value| utf8_percent_encode(value, RESERVED));
            tags.extend(encoded.map(|value| format!("{key}={value}")));
        }
        tags
    }

    /// Parses the tags; `None` if they name no replica.
    pub(super) fn from_tags(tags: &[String]) -> Option<Self> {
        Some(Self {
            replica: find_value(tags, "replica").filter(|id| !id.is_empty())?,
            machine: find_value(tags, "machine").unwrap_or_default(),
            number: find_value(tags, "number")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            base: find_value(tags, "base"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_a_replica_survive_any_name() {
        for base in [None, Some("ab12".to_owned())] {
            let tags = ReplicaTags {
                replica: "f00d".into(),
                machine: "Anna's PC, 50% = half".into(),
                number: 7,
                base,
            };
            let encoded = tags.to_tags();
            assert!(encoded.iter().all(|tag| !tag.contains(',')), "{encoded:?}");
            assert_eq!(ReplicaTags::from_tags(&encoded), Some(tags));
            assert!(ReplicaTags::is_in(&encoded));
            assert_eq!(ReplicaTags::layout(&encoded), LAYOUT);
        }
        let newer = ["layout=2".to_owned(), "replica=".to_owned()];
        assert_eq!(ReplicaTags::layout(&newer), 2);
        assert_eq!(ReplicaTags::from_tags(&newer), None);
    }
}
