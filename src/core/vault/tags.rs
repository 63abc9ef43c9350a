//! The tags that describe the snapshots of this program: the kind of the snapshot and `key=value` pairs. restic
//! separates tags by commas, so values are percent-encoded.
//!
//! A snapshot of sync is no backup: `vault` neither lists nor removes it.

use crate::archive::{BackupMode, Metadata};
use crate::sync::snapshots::{Publication, RemoteSnapshot};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The tag of every snapshot of a home that this program makes.
const PROGRAM_TAG: &str = "codex-manager";

/// The value of the tag `excludes` if globs left out all conversations.
const CONVERSATIONS: &str = "conversations";

/// The tag of every snapshot of sync.
pub(super) const SYNC_TAG: &str = "codex-manager-sync";

/// The value of the tag `conversations` if there are none. Earlier versions wrote the tag only then.
const NONE: &str = "none";

/// The layout of the snapshots of sync: `manifest.jsonl`, and the files in `home`.
pub(super) const LAYOUT: u32 = 1;

/// Characters that are encoded in the values of tags.
const RESERVED: &AsciiSet = &CONTROLS.add(b',').add(b'%');

#[derive(Debug, Clone, PartialEq, Default)]
pub struct SnapshotTags {
    /// Only these fields are in tags: mode, account, machine, label, home, the number and size of the files, the number
    /// of skipped paths, of damaged texts and of conversations, and whether globs excluded any.
    pub metadata: Metadata,
    /// Profile of the account on the machine that made the snapshot.
    pub profile: Option<String>,
    /// SHA-256 of the imported archive, in hexadecimal.
    pub(crate) imported_digest: Option<String>,
}

impl SnapshotTags {
    /// Returns the values for `restic backup --tag`.
    pub(crate) fn to_tags(&self) -> Vec<String> {
        let metadata = &self.metadata;
        let numbers = [
            metadata.files,
            metadata.bytes,
            metadata.skipped,
            metadata.damaged,
        ];
        let [files, bytes, skipped, damaged] = numbers.map(|number| number.to_string());
        let excludes = if metadata.excludes_all_conversations() {
            CONVERSATIONS
        } else {
            "yes"
        };

        let conversations = match metadata.conversation_count() {
            Some(0) if metadata.mode != BackupMode::Auth => Some(NONE.to_owned()),
            count => count.map(|count| count.to_string()),
        };

        let values = [
            ("mode", Some(metadata.mode.name())),
            ("email", metadata.email.as_deref()),
            ("account", metadata.account_id.as_deref()),
            ("user", metadata.user_id.as_deref()),
            ("machine", metadata.machine.as_deref()),
            ("profile", self.profile.as_deref()),
            ("label", metadata.label.as_deref()),
            ("home", Some(&*metadata.source_codex_home)),
            ("files", Some(&*files)),
            ("bytes", Some(&*bytes)),
            ("excludes", metadata.excludes.then_some(excludes)),
            ("conversations", conversations.as_deref()),
            ("skipped", (metadata.skipped > 0).then_some(&*skipped)),
            ("damaged", (metadata.damaged > 0).then_some(&*damaged)),
            ("archive", self.imported_digest.as_deref()),
        ];

        format_tags(PROGRAM_TAG, &values)
    }

    /// Parses the tags of a snapshot. Returns `None` for a snapshot of another program, even if a user has tagged it
    /// `codex-manager`. Unknown keys and values are ignored.
    pub(crate) fn from_tags(tags: &[String]) -> Option<Self> {
        if !tags.iter().any(|tag| tag == PROGRAM_TAG) {
            return None;
        }

        let value = |key: &str| find_value(tags, key);
        // A snapshot that only the user tagged has neither of these.
        let (mode_name, home) = (value("mode")?, value("home")?);
        let number = |key: &str| value(key).and_then(|n| n.parse().ok()).unwrap_or_default();

        let modes = [BackupMode::Full, BackupMode::Auth, BackupMode::Sessions];
        let mode = modes.into_iter().find(|mode| mode.name() == mode_name);

        Some(Self {
            metadata: Metadata {
                mode: mode.unwrap_or_default(),
                email: value("email"),
                account_id: value("account"),
                user_id: value("user"),
                machine: value("machine"),
                label: value("label"),
                source_codex_home: home,
                files: number("files"),
                bytes: number("bytes"),
                excludes: value("excludes").is_some(),
                excludes_conversations: value("excludes").map(|text| text == CONVERSATIONS),
                skipped: number("skipped"),
                damaged: number("damaged"),
                conversations: value("conversations").and_then(|text| match &*text {
                    NONE => Some(0),
                    count => count.parse().ok(),
                }),
                ..Metadata::default()
            },
            profile: value("profile"),
            imported_digest: value("archive"),
        })
    }
}

/// Returns true for the tags of a snapshot that sync made.
pub(super) fn are_sync_tags(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == SYNC_TAG)
}

/// Returns the layout of a snapshot of sync: [`LAYOUT`] without a tag, the largest number for a tag that cannot be
/// parsed.
pub(super) fn parse_layout(tags: &[String]) -> u32 {
    let layout = find_value(tags, "layout").map(|text| text.parse().unwrap_or(u32::MAX));
    layout.unwrap_or(LAYOUT)
}

/// Returns the tags of a snapshot of sync.
pub(super) fn format_sync_tags(publication: &Publication) -> Vec<String> {
    let (layout, number) = (LAYOUT.to_string(), publication.number.to_string());
    let values = [
        ("layout", Some(&*layout)),
        ("replica", Some(&*publication.replica)),
        ("machine", Some(&*publication.machine)),
        ("number", Some(&*number)),
        ("base", publication.base.as_deref()),
    ];
    format_tags(SYNC_TAG, &values)
}

/// Returns the snapshot of sync with this id and these tags; `None` if the tags name no replica. A missing or damaged
/// number becomes 0, which is the oldest.
pub(super) fn parse_sync_tags(id: String, tags: &[String]) -> Option<RemoteSnapshot> {
    let publication = Publication {
        replica: find_value(tags, "replica").filter(|id| !id.is_empty())?,
        machine: find_value(tags, "machine").unwrap_or_default(),
        number: find_value(tags, "number")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        base: find_value(tags, "base"),
    };
    Some(publication.with_id(id))
}

/// Returns the tag `kind`, and a tag `key=value` for each value that is not empty.
fn format_tags(kind: &str, values: &[(&str, Option<&str>)]) -> Vec<String> {
    let mut tags = vec![kind.to_owned()];
    for (key, value) in values {
        let value = value.unwrap_or_default();
        if !value.is_empty() {
            tags.push(format!("{key}={}", utf8_percent_encode(value, RESERVED)));
        }
    }
    tags
}

/// Returns the value of the first tag `key=value`.
pub(super) fn find_value(tags: &[String], key: &str) -> Option<String> {
    let encoded = tags.iter().find_map(|tag| {
        let (name, value) = tag.split_once('=')?;
        (name == key).then_some(value)
    })?;
    Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip_with_commas_and_percent_signs() {
        let own = SnapshotTags {
            metadata: Metadata {
                mode: BackupMode::Sessions,
                email: Some("a,b%c@x.com".into()),
                machine: Some("0123456789abcdef".into()),
                label: Some("before, the update".into()),
                source_codex_home: "/home/me/.codex".into(),
                files: 3,
                bytes: 4,
                excludes: true,
                excludes_conversations: Some(true),
                skipped: 1,
                damaged: 2,
                conversations: Some(0),
                ..Metadata::default()
            },
            ..SnapshotTags::default()
        };
        let tags = own.to_tags();
        assert!(tags.iter().all(|tag| !tag.contains(',')), "{tags:?}");
        assert_eq!(SnapshotTags::from_tags(&tags), Some(own));
        assert_eq!(SnapshotTags::from_tags(&["mode=full".into()]), None);
        assert_eq!(SnapshotTags::from_tags(&["codex-manager".into()]), None);
    }

    #[test]
    fn replica_tags_round_trip_with_commas_and_percent_signs() {
        for base in [None, Some("ab12".to_owned())] {
            let publication = Publication {
                replica: "f00d".into(),
                machine: "Anna's PC, 50% = half".into(),
                number: 7,
                base,
            };
            let encoded = format_sync_tags(&publication);
            assert!(encoded.iter().all(|tag| !tag.contains(',')), "{encoded:?}");
            assert!(are_sync_tags(&encoded));
            assert_eq!(parse_layout(&encoded), LAYOUT);
            let parsed = parse_sync_tags("64ae0aa1".into(), &encoded);
            assert_eq!(parsed, Some(publication.with_id("64ae0aa1".into())));
        }
        let newer = ["layout=2".to_owned(), "replica=".to_owned()];
        assert_eq!(parse_layout(&newer), 2);
        assert_eq!(parse_sync_tags(String::new(), &newer), None);
    }
}
