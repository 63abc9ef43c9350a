//! The tags that describe the snapshots of this program: `codex-manager` and `key=value` pairs. restic
//! separates tags by commas, so values are percent-encoded.

use crate::archive::metadata::{BackupMode, Metadata};
use crate::codex::identity::Identity;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The tag of every snapshot of this program.
const PROGRAM_TAG: &str = "codex-manager";

/// Characters that are encoded in the values of tags.
const RESERVED: &AsciiSet = &CONTROLS.add(b',').add(b'%');

/// The description of a snapshot in its tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SnapshotTags {
    /// The part of the home that the snapshot holds.
    pub(crate) mode: BackupMode,
    /// Email or other label of the account; `None` if the home was signed out.
    pub(crate) email: Option<String>,
    /// Id of the workspace (`chatgpt_account_id`).
    pub(crate) account_id: Option<String>,
    /// Id of the user (`chatgpt_user_id`).
    pub user_id: Option<String>,
    /// Id of the machine; `None` after an import.
    pub(crate) machine: Option<String>,
    /// Profile of the account on the machine that made the snapshot.
    pub(crate) profile: Option<String>,
    /// Label of the user (`--label`).
    pub(crate) label: Option<String>,
    /// Path of the Codex home.
    pub(crate) home: String,
    /// Number of files in the snapshot.
    pub(crate) files: u64,
    /// Size of all files together, in bytes.
    pub(crate) bytes: u64,
    /// True for a snapshot made with `--exclude`.
    pub(crate) excludes: bool,
    /// Number of paths that could not be captured.
    pub(crate) skipped: u64,
    /// SHA-256 of the imported archive, in hexadecimal.
    pub(crate) imported: Option<String>,
}

impl SnapshotTags {
    /// Returns the tags of a capture or of an imported archive.
    pub(crate) fn of(metadata: &Metadata, profile: Option<&str>) -> Self {
        Self {
            mode: metadata.mode,
            email: metadata.email.clone(),
            account_id: metadata.account_id.clone(),
            user_id: metadata.user_id.clone(),
            machine: None,
            profile: profile.map(str::to_owned),
            label: metadata.label.clone(),
            home: metadata.source_codex_home.clone(),
            files: metadata.files,
            bytes: metadata.bytes,
            excludes: metadata.excludes,
            skipped: metadata.skipped,
            imported: None,
        }
    }

    /// Returns the values for `restic backup --tag`.
    pub(crate) fn to_tags(&self) -> Vec<String> {
        let mut tags = vec![PROGRAM_TAG.to_owned()];
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                tags.push(format!("{key}={}", utf8_percent_encode(value, RESERVED)));
            }
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        add("mode", self.mode.name());
        add("email", &text(&self.email));
        add("account", &text(&self.account_id));
        add("user", &text(&self.user_id));
        add("machine", &text(&self.machine));
        add("profile", &text(&self.profile));
        add("label", &text(&self.label));
        add("home", &self.home);
        add("files", &self.files.to_string());
        add("bytes", &self.bytes.to_string());
        if self.excludes {
            add("excludes", "yes");
        }
        if self.skipped > 0 {
            add("skipped", &self.skipped.to_string());
        }
        add("archive", &text(&self.imported));
        tags
    }

    /// Parses the tags of a snapshot. Returns `None` for a snapshot of another program, also if a user
    /// has tagged it `codex-manager`. Unknown keys and values are ignored.
    pub(crate) fn from_tags(tags: &[String]) -> Option<Self> {
        if !tags.iter().any(|tag| tag == PROGRAM_TAG) {
            return None;
        }
        let value = |key: &str| {
            let found = tags.iter().find_map(|tag| {
                let (name, value) = tag.split_once('=')?;
                (name == key).then_some(value)
            })?;
            Some(percent_decode_str(found).decode_utf8_lossy().into_owned())
        };
        let (mode, home) = (value("mode")?, value("home")?);
        let number = |key: &str| value(key).and_then(|n| n.parse().ok()).unwrap_or_default();
        let modes = [BackupMode::Full, BackupMode::Auth, BackupMode::Sessions];
        let mode = modes.into_iter().find(|known| known.name() == mode);
        Some(Self {
            mode: mode.unwrap_or_default(),
            email: value("email"),
            account_id: value("account"),
            user_id: value("user"),
            machine: value("machine"),
            profile: value("profile"),
            label: value("label"),
            home,
            files: number("files"),
            bytes: number("bytes"),
            excludes: value("excludes").is_some(),
            skipped: number("skipped"),
            imported: value("archive"),
        })
    }

    /// Returns the account, or `None` if the home was signed out.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let metadata = Metadata {
            email: self.email.clone(),
            account_id: self.account_id.clone(),
            user_id: self.user_id.clone(),
            ..Metadata::default()
        };
        metadata.identity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_commas_and_percent_signs() {
        let own = SnapshotTags {
            mode: BackupMode::Sessions,
            email: Some("a,b%c@x.com".into()),
            label: Some("before, the update".into()),
            home: "/home/me/.codex".into(),
            files: 3,
            bytes: 4,
            skipped: 1,
            ..SnapshotTags::default()
        };
        let tags = own.to_tags();
        assert!(tags.iter().all(|tag| !tag.contains(',')), "{tags:?}");
        assert_eq!(SnapshotTags::from_tags(&tags), Some(own));
        assert_eq!(SnapshotTags::from_tags(&["mode=full".into()]), None);
        assert_eq!(SnapshotTags::from_tags(&["codex-manager".into()]), None);
    }
}
