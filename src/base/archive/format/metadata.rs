//! Metadata of an archive: the content of its sidecar and the first part of its manifest.

use crate::codex::home::{self, ARCHIVED_SESSIONS, AUTH_JSON, HomeEntryKind, SESSIONS};
use crate::codex::identity::{Identity, LoginKind};
use crate::codex::window::Window;
use crate::io::clock::{Timestamp, fast_time};
use crate::io::document::Document;
use crate::io::file_id::is_same_folder;
use crate::io::hash::{ContentDigest, DigestBytes};
use crate::quota::legacy::ValidationStatus;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;
use std::path::Path;

/// Maximum size of `captured_files` in a sidecar.
const MAX_CAPTURED_BYTES: usize = 8 * 1024;

/// The label of the safety backups that `restore` makes, in metadata.
pub const SAFETY_LABEL: &str = "safety";

/// The part of a Codex home that an archive captures.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum BackupMode {
    /// Everything except files that Codex creates again
    #[default]
    Full,
    /// The login, settings and rules
    Auth,
    /// Conversations, their index and the databases
    Sessions,
}

impl BackupMode {
    /// Returns true if this mode captures files of this kind. Ignores the rules that leave out a kind in every mode.
    pub fn includes(self, kind: HomeEntryKind) -> bool {
        match self {
            Self::Full => true,
            Self::Auth => kind.is_login_or_setting(),
            Self::Sessions => kind.is_conversation(),
        }
    }

    /// Returns the name of the mode in documents and output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Metadata of one archive, or of one legacy file that `normalize` read. A sidecar stays below 16 kB for every home;
/// see [`Metadata::limit_size`].
///
/// The groups of fields are those of the document: account, weekly window, legacy file, home, program, quota, content,
/// archive. The groups are not structs, because `#[serde(flatten)]` doubles the time that every command needs to read
/// the records of many archives.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize)]
pub struct Metadata {
    /// The product name, always "codex".
    #[default = "codex"]
    pub product: String,
    /// Label of the account: its email, or the label of an API key. `None` if the home was signed out.
    pub email: Option<String>,
    /// Id of the workspace (`chatgpt_account_id`).
    pub account_id: Option<String>,
    /// Id of the user (`chatgpt_user_id`).
    pub user_id: Option<String>,
    /// Subscription plan, such as "plus".
    pub plan: Option<String>,
    /// Start of the weekly window.
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub session_start_at: Option<Timestamp>,
    /// Time at which the account is available again: `session_start_at` plus seven days.
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub next_available_at: Option<Timestamp>,
    /// Reset time of the weekly window.
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub reset_at: Option<Timestamp>,
    /// Time at which the weekly quota was first observed to be exhausted.
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub quota_end_detected_at: Option<Timestamp>,
    /// Assumed duration of the weekly quota, in seconds (legacy files only).
    pub inferred_session_duration_seconds: Option<i64>,
    /// Explains for the user how `session_start_at`, or the time in the name, was determined.
    #[serde(default)]
    pub inference_basis: String,
    /// File name of the legacy file (legacy files only).
    pub legacy_auth_filename: Option<String>,
    /// Day token in the legacy file's name, such as "21apr".
    pub legacy_quota_day_token: Option<String>,
    /// Year that was assumed for the day token.
    pub legacy_year: Option<i32>,
    /// Result of comparing the day token with the legacy file's time.
    pub validation_status: Option<ValidationStatus>,
    /// Path of the captured Codex home, or of the legacy file's folder.
    #[serde(default)]
    pub source_codex_home: String,
    /// Id of the machine and manager home that made the archive. `None` in archives of older versions, and if the id
    /// could not be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Top-level entries of the archive, as many as fit; see [`Metadata::limit_size`]. Folders end
    /// in `/`.
    #[serde(default)]
    pub captured_files: Vec<String>,
    /// Number of top-level entries that did not fit into `captured_files`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub captured_files_more: u64,
    /// 1970 if unknown; see [`Metadata::made_at`].
    #[serde(deserialize_with = "fast_time::deserialize")]
    pub created_at: Timestamp,
    /// Version of the program that created the archive.
    #[serde(default)]
    #[default(env!("CARGO_PKG_VERSION").into())]
    pub manager_version: String,
    /// The build of Codex when the archive was made, as [`crate::codex::program::Program`] identifies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codex_build: Option<String>,
    /// Source of the windows, or "none".
    #[serde(default)]
    #[default = "none"]
    pub status_source: String,
    /// Quota windows of the account as they were observed.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Time at which the windows were observed. `None` means `created_at`.
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub windows_observed_at: Option<Timestamp>,
    /// The part of the home that the archive captures.
    #[serde(default)]
    pub mode: BackupMode,
    /// True if the archive was made with `--exclude` or `backup.exclude`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excludes: bool,
    /// True if the globs left out all conversations of the home. `None` in archives of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes_conversations: Option<bool>,
    /// True for the safety backup of a restore that changed only a part of the home. It contains only the changed
    /// files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_changes_only: bool,
    /// Number of paths that could not be archived. An unreadable folder counts once, with its
    /// content.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Number of archived texts of the user that look damaged. Zero in archives of older versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged: u64,
    /// Label of the user, or "safety" for an archive that `restore` made.
    pub label: Option<String>,
    /// Number of conversations that can be read. `None` in archives of older versions; see
    /// [`Metadata::conversation_count`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<u64>,
    /// Number of files in the archive.
    #[serde(default)]
    pub files: u64,
    /// Size of all files together, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Size of the archive in bytes. Zero in the manifest, which is a part of the archive.
    #[serde(default)]
    pub archive_bytes: u64,
    /// BLAKE3 of the archive. Absent in the manifest, which is a part of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_blake3: Option<DigestBytes>,
    /// SHA-256 of an archive of an older version, in hexadecimal. Else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub archive_sha256: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Document for Metadata {
    /// Sidecars of this program are below 16 kB.
    const MAX_BYTES: u64 = 1024 * 1024;
}

impl Metadata {
    /// Returns the account of the archive, or `None` if the home was signed out.
    pub fn identity(&self) -> Option<Identity> {
        let email = self.email.clone()?;
        let kind = LoginKind::from_label(&email);
        Some(Identity {
            account_id: self.account_id.clone(),
            user_id: self.user_id.clone(),
            kind,
            ..Identity::from_email(email)
        })
    }

    /// Returns the time of the backup; `None` if it is unknown, as for an archive whose metadata cannot be read.
    pub fn made_at(&self) -> Option<Timestamp> {
        Some(self.created_at).filter(|at| *at != DateTime::UNIX_EPOCH)
    }

    /// Returns the digest of the archive that a sidecar describes.
    pub fn archive_digest(&self) -> Option<ContentDigest> {
        let sha256 = || DigestBytes::parse(&self.archive_sha256).map(ContentDigest::Sha256);
        let blake3 = self.archive_blake3.map(ContentDigest::Blake3);
        blake3.or_else(sha256)
    }

    /// Returns the content of the sidecar for an archive of this size in bytes and with this digest.
    #[must_use]
    pub fn into_sidecar(mut self, bytes: u64, digest: &ContentDigest) -> Self {
        self.archive_bytes = bytes;
        match digest {
            ContentDigest::Blake3(digest) => self.archive_blake3 = Some(*digest),
            ContentDigest::Sha256(digest) => self.archive_sha256 = digest.to_string(),
        }
        self
    }

    /// Returns true unless this metadata shows that the archive lacks the auth.json of the home. A backup leaves
    /// auth.json out on a disk without file modes, and Codex with a keyring deletes it.
    pub fn captures_login(&self) -> bool {
        let files = &self.captured_files;
        // Metadata without a list does not prove that the login is missing.
        let lists_login = files.is_empty() || files.iter().any(|name| name == AUTH_JSON);
        self.mode != BackupMode::Sessions && lists_login
    }

    /// Returns true for a backup of the whole home, unless globs left out all conversations.
    pub fn is_full(&self) -> bool {
        self.mode == BackupMode::Full && !self.excludes_all_conversations()
    }

    /// Returns true if `--exclude` or `backup.exclude` left out all conversations.
    pub fn excludes_all_conversations(&self) -> bool {
        // Metadata of an older version does not show whether the home had conversations.
        let lists_none = || !self.captured_files.is_empty() && !self.lists_conversations();
        let lacks_all = self.excludes_conversations.unwrap_or_else(lists_none);
        self.mode != BackupMode::Auth && self.excludes && lacks_all
    }

    /// Returns the number of conversations that can be read. `None` if the version that made the archive did not count
    /// them.
    pub fn conversation_count(&self) -> Option<u64> {
        let has_none = self.mode == BackupMode::Auth || self.has_no_conversations();
        self.conversations.or(has_none.then_some(0))
    }

    /// Returns true if the mode includes conversations and the archive is known to have none that can be read: the home
    /// had none, all were left out, or all are empty, filled with NUL bytes or cut in their first line.
    pub fn has_no_conversations(&self) -> bool {
        // Versions that recorded no list recorded no BLAKE3 digest either. With the digest, an empty list is complete.
        let has_list = !self.captured_files.is_empty() || self.archive_blake3.is_some();
        let lists_none = has_list && !self.lists_conversations();
        // A safety backup may have the changed files only, so its lack of conversations says nothing.
        let tells_about_home = self.mode != BackupMode::Auth && !self.is_safety();
        let has_none = lists_none || self.conversations == Some(0);
        tells_about_home && has_none || self.excludes_all_conversations()
    }

    /// Returns true if the list of captured files has conversations.
    pub fn lists_conversations(&self) -> bool {
        let is_conversation_folder =
            |name: &String| [SESSIONS, ARCHIVED_SESSIONS].contains(&name.trim_end_matches('/'));
        self.captured_files.iter().any(is_conversation_folder)
    }

    /// Returns true for a safety backup, which `restore` makes of the files that it changes.
    pub fn is_safety(&self) -> bool {
        self.label.as_deref() == Some(SAFETY_LABEL)
    }

    /// Returns the label; `None` for a safety backup, whose kind already shows its label.
    pub fn user_label(&self) -> Option<&str> {
        self.label.as_deref().filter(|_| !self.is_safety())
    }

    /// Returns true if the archive was made of the home at `home` on the machine with the id `machine`, or does not
    /// record its home or its machine.
    pub fn is_of_home(&self, home: &Path, machine: Option<&str>) -> bool {
        self.is_of_home_path(home) && !self.is_from_other_machine(machine)
    }

    /// Returns true if the archive was made of a home at `home`, on any machine, or does not record its home.
    pub fn is_of_home_path(&self, home: &Path) -> bool {
        self.source_codex_home.is_empty() || self.records_home(home)
    }

    /// Returns true if the archive records a machine with another id than `machine`, the id of this machine; `None` if
    /// this machine has no id yet.
    pub fn is_from_other_machine(&self, machine: Option<&str>) -> bool {
        self.machine.is_some() && self.machine.as_deref() != machine
    }

    /// Returns true if the archive records `home` as its home, which may have been named by a link or in another
    /// spelling.
    pub fn records_home(&self, home: &Path) -> bool {
        is_same_folder(Path::new(&self.source_codex_home), home)
    }

    /// Returns true if the archive holds only the login of a legacy file.
    pub fn is_single_login(&self) -> bool {
        self.legacy_auth_filename.is_some()
    }

    /// Removes names from `captured_files` until the sidecar is small enough, and counts them in
    /// `captured_files_more`. Names that Codex uses are kept first. Repeating the call changes
    /// nothing.
    pub fn limit_size(&mut self) {
        let names = &mut self.captured_files;

        // One line per name in the document: indented, quoted and escaped.
        let line_bytes =
            |name: &String| 8 + serde_json::to_string(name).map_or(name.len(), |text| text.len());
        if names.iter().map(line_bytes).sum::<usize>() <= MAX_CAPTURED_BYTES {
            return;
        }

        // Names of Codex first, so that a home full of other files is still recognized as a Codex home.
        names.sort_by_key(|name| !home::is_codex_name(name.trim_end_matches('/').as_ref()));

        let mut document_bytes = 0;
        let fitting_names = names.iter().take_while(|name| {
            document_bytes += line_bytes(name);
            document_bytes <= MAX_CAPTURED_BYTES
        });
        let kept_count = fitting_names.count();

        self.captured_files_more += (names.len() - kept_count) as u64;
        names.truncate(kept_count);
        names.sort();
    }

    /// Sets the email and ids from `identity`.
    pub fn set_identity(&mut self, identity: &Identity) {
        self.email = Some(identity.email.as_str().to_owned());
        self.account_id.clone_from(&identity.account_id);
        self.user_id.clone_from(&identity.user_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::document;
    use std::path::Path;

    #[test]
    fn an_archive_has_a_login_if_it_captured_one() {
        let with = |mode, files: &[&str]| Metadata {
            mode,
            captured_files: files.iter().map(ToString::to_string).collect(),
            ..Metadata::default()
        };
        let files = ["auth.json", "sessions/"];
        assert!(with(BackupMode::Full, &files).captures_login());
        assert!(!with(BackupMode::Sessions, &files).captures_login());
        assert!(!with(BackupMode::Full, &files[1..]).captures_login());
        // The metadata of an older program has no list.
        assert!(with(BackupMode::Full, &[]).captures_login());
    }

    #[test]
    fn a_backup_that_excludes_all_conversations_is_not_full() {
        let with = |excludes, files: &[&str]| Metadata {
            excludes,
            captured_files: files.iter().map(ToString::to_string).collect(),
            ..Metadata::default()
        };
        assert!(!with(true, &["auth.json"]).is_full());
        assert!(with(true, &["auth.json", "sessions/"]).is_full());
        assert!(with(true, &["archived_sessions/"]).is_full());
        assert!(with(false, &["auth.json"]).is_full());
        assert!(with(true, &[]).is_full());
        let without_conversations = Metadata {
            excludes_conversations: Some(false),
            ..with(true, &["auth.json"])
        };
        assert!(without_conversations.is_full());
    }

    #[test]
    fn an_archive_has_no_conversations_if_its_list_has_none() {
        let with = |files: &[&str]| Metadata {
            captured_files: files.iter().map(ToString::to_string).collect(),
            ..Metadata::default()
        };
        assert!(with(&["auth.json"]).has_no_conversations());
        assert!(!with(&["auth.json", "sessions/"]).has_no_conversations());
        assert!(!with(&[]).has_no_conversations(), "an older version");
        let digest = ContentDigest::Blake3(DigestBytes([0; 32]));
        let empty = with(&[]).into_sidecar(1, &digest);
        assert!(empty.has_no_conversations(), "an empty home");
        let mut unreadable = with(&["sessions/"]);
        unreadable.conversations = Some(0);
        assert!(unreadable.has_no_conversations());
        let mut other = with(&["auth.json"]);
        other.label = Some(SAFETY_LABEL.into());
        assert!(!other.has_no_conversations());
        other = with(&["auth.json"]);
        other.mode = BackupMode::Auth;
        assert!(!other.has_no_conversations());
    }

    #[test]
    fn an_archive_of_the_same_path_on_another_machine_is_of_another_home() {
        let (home, other_home) = (Path::new("/home/me/.codex"), Path::new("/elsewhere"));
        let mut metadata = Metadata {
            source_codex_home: "/home/me/.codex".into(),
            ..Metadata::default()
        };
        // An older version did not record the machine.
        for machine in [None, Some("a")] {
            assert!(metadata.is_of_home(home, machine));
            assert!(!metadata.is_of_home(other_home, machine));
        }
        metadata.machine = Some("a".into());
        assert!(metadata.is_of_home(home, Some("a")));
        assert!(!metadata.is_of_home(other_home, Some("a")));
        assert!(!metadata.is_of_home(home, Some("b")));
        assert!(!metadata.is_of_home(home, None), "a machine without an id");
    }

    #[test]
    fn limit_size_drops_names_of_captured_files_but_not_those_of_codex() {
        let junk = (0..20_000).map(|i| format!("{i:05}-\"junk\"\u{1}-{}", "x".repeat(200)));
        let mut metadata = Metadata {
            source_codex_home: format!("/{}", "h".repeat(4095)),
            label: Some("ü".repeat(200)),
            captured_files: junk
                .chain(["auth.json".into(), "sessions/".into()])
                .collect(),
            ..Metadata::default()
        };
        metadata.limit_size();
        let bytes = document::encode(Path::new("x"), &metadata).unwrap();
        assert!(bytes.len() < 16_000, "{}", bytes.len());
        for own in ["auth.json", "sessions/"] {
            assert!(metadata.captured_files.iter().any(|name| name == own));
        }
        let named = metadata.captured_files.len() as u64;
        assert_eq!(named + metadata.captured_files_more, 20_002);
        let before = metadata.clone();
        metadata.limit_size();
        assert_eq!(metadata, before, "a second call changes nothing");
    }
}
