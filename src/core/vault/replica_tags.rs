//! The tags of a snapshot that sync makes. Such a snapshot is no backup: `vault` neither lists nor removes it.

use super::tags::{RESERVED, find_value};
use crate::sync::snapshots::RemoteSnapshot;
use percent_encoding::utf8_percent_encode;

/// The tag of every snapshot of sync.
pub(super) const SYNC_TAG: &str = "codex-manager-sync";

/// The layout of the snapshots of this version: `manifest.jsonl`, and the files in `home`.
pub(super) const LAYOUT: u32 = 1;

/// Returns true for the tags of a snapshot that sync made.
pub(super) fn are_sync_tags(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == SYNC_TAG)
}

/// Returns the layout of a snapshot: [`LAYOUT`] without a tag, the largest number for a tag that cannot be parsed.
pub(super) fn parse_layout(tags: &[String]) -> u32 {
    let layout = find_value(tags, "layout").map(|text| text.parse().unwrap_or(u32::MAX));
    layout.unwrap_or(LAYOUT)
}

/// Returns the tags of a snapshot, which do not contain its id.
pub(super) fn format_tags(snapshot: &RemoteSnapshot) -> Vec<String> {
    let mut tags = vec![SYNC_TAG.to_owned(), format!("layout={LAYOUT}")];
    let number = snapshot.number.to_string();
    let values = [
        ("replica", Some(&*snapshot.replica)),
        ("machine", Some(&*snapshot.machine)),
        ("number", Some(&*number)),
        ("base", snapshot.base.as_deref()),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            tags.push(format!("{key}={}", utf8_percent_encode(value, RESERVED)));
        }
    }
    tags
}

/// Returns the snapshot with this id and these tags; `None` if the tags name no replica. A missing or damaged
/// number becomes 0, which is the oldest.
pub(super) fn parse_tags(id: String, tags: &[String]) -> Option<RemoteSnapshot> {
    Some(RemoteSnapshot {
        id,
        replica: find_value(tags, "replica").filter(|id| !id.is_empty())?,
        machine: find_value(tags, "machine").unwrap_or_default(),
        number: find_value(tags, "number")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        base: find_value(tags, "base"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_tags_round_trip_with_commas_and_percent_signs() {
        for base in [None, Some("ab12".to_owned())] {
            let snapshot = RemoteSnapshot {
                id: "64ae0aa1".into(),
                replica: "f00d".into(),
                machine: "Anna's PC, 50% = half".into(),
                number: 7,
                base,
            };
            let encoded = format_tags(&snapshot);
            assert!(encoded.iter().all(|tag| !tag.contains(',')), "{encoded:?}");
            assert!(are_sync_tags(&encoded));
            assert_eq!(parse_layout(&encoded), LAYOUT);
            assert_eq!(parse_tags("64ae0aa1".into(), &encoded), Some(snapshot));
        }
        let newer = ["layout=2".to_owned(), "replica=".to_owned()];
        assert_eq!(parse_layout(&newer), 2);
        assert_eq!(parse_tags(String::new(), &newer), None);
    }
}
