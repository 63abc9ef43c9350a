//! The tags that describe the snapshots of this program: `codex-manager` and `key=value` pairs. restic
//! separates tags by commas, so values are percent-encoded.

use crate::archive::{BackupMode, Metadata};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The tag of every snapshot of this program.
const PROGRAM_TAG: &str = "codex-manager";

/// The value of the tag `excludes` if globs left out all conversations.
const CONVERSATIONS: &str = "conversations";

/// Characters that are encoded in the values of tags.
pub(super) const RESERVED: &AsciiSet = &CONTROLS.add(b',').add(b'%');

#[derive(Debug, Clone, PartialEq, Default)]
pub struct SnapshotTags {
    /// Only these fields are in tags: mode, account, machine, label, home, the number and size of the files, the number
    /// of skipped paths, and whether globs excluded any.
    pub metadata: Metadata,
    /// See [`Metadata::has_no_conversations`]. Snapshots of earlier versions do not say so.
    pub has_no_conversations: bool,
    /// Profile of the account on the machine that made the snapshot.
    pub profile: Option<String>,
    /// SHA-256 of the imported archive, in hexadecimal.
    pub(crate) imported: Option<String>,
}

impl SnapshotTags {
    /// Returns the values for `restic backup --tag`.
    pub(crate) fn to_tags(&self) -> Vec<String> {
        let metadata = &self.metadata;
        let [files, bytes, skipped] =
            [metadata.files, metadata.bytes, metadata.skipped].map(|number| number.to_string());
        let excludes = if metadata.lacks_conversations() {
            CONVERSATIONS
        } else {
            "yes"
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
            ("conversations", self.has_no_conversations.then_some("none")),
            ("skipped", (metadata.skipped > 0).then_some(&*skipped)),
            ("archive", self.imported.as_deref()),
        ];

        let mut tags = vec![PROGRAM_TAG.to_owned()];
        for (key, value) in values {
            let value = value.unwrap_or_default();
            if !value.is_empty() {
                tags.push(format!("{key}={}", utf8_percent_encode(value, RESERVED)));
            }
        }
        tags
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
                ..Metadata::default()
            },
            has_no_conversations: value("conversations").is_some_and(|text| text == "none"),
            profile: value("profile"),
            imported: value("archive"),
        })
    }
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
                ..Metadata::default()
            },
            has_no_conversations: true,
            ..SnapshotTags::default()
        };
        let tags = own.to_tags();
        assert!(tags.iter().all(|tag| !tag.contains(',')), "{tags:?}");
        assert_eq!(SnapshotTags::from_tags(&tags), Some(own));
        assert_eq!(SnapshotTags::from_tags(&["mode=full".into()]), None);
        assert_eq!(SnapshotTags::from_tags(&["codex-manager".into()]), None);
    }
}
