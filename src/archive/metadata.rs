//! The metadata of an archive: its sidecar, and the head of its manifest.

use crate::codex::home;
use crate::codex::identity::{Identity, LoginKind};
use crate::codex::window::Window;
use crate::io::clock::Timestamp;
use crate::io::document::Document;
use serde::{Deserialize, Serialize};

/// The room that `captured_files` may take in a sidecar.
const MAX_CAPTURED_BYTES: usize = 8 * 1024;

/// What an archive captures.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum BackupMode {
    /// Everything but what Codex makes again.
    #[default]
    Full,
    /// The login, settings and rules.
    Auth,
    /// Conversations, their index and the databases.
    Sessions,
}

impl BackupMode {
    /// The name used in documents and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Auth => "auth",
            Self::Sessions => "sessions",
        }
    }
}

/// Whether a legacy file's day token fits what its time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValidationStatus {
    /// It does.
    Match,
    /// It does not; both are kept as they are.
    Mismatch,
}

/// Describes one archive, or one legacy file that was normalized. Below 16 kB whatever the home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Always "codex".
    pub product: String,
    /// The account's label; absent when the home was signed out.
    #[serde(default)]
    pub email: Option<String>,
    /// The workspace account id.
    #[serde(default)]
    pub account_id: Option<String>,
    /// The user id.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The plan.
    #[serde(default)]
    pub plan: Option<String>,
    /// When the weekly window began.
    #[serde(default)]
    pub session_start_at: Option<Timestamp>,
    /// `session_start_at` plus seven days.
    #[serde(default)]
    pub next_available_at: Option<Timestamp>,
    /// When the weekly window resets.
    #[serde(default)]
    pub reset_at: Option<Timestamp>,
    /// When the weekly quota was first seen exhausted.
    #[serde(default)]
    pub quota_end_detected_at: Option<Timestamp>,
    /// How long the weekly quota is assumed to have lasted (legacy files alone).
    #[serde(default)]
    pub inferred_session_duration_seconds: Option<i64>,
    /// What `session_start_at`, or the time in the name, rests on.
    #[serde(default)]
    pub inference_basis: String,
    /// The name of the legacy file.
    #[serde(default)]
    pub legacy_auth_filename: Option<String>,
    /// Its day token: "21apr".
    #[serde(default)]
    pub legacy_quota_day_token: Option<String>,
    /// The year that the token was read with.
    #[serde(default)]
    pub legacy_year: Option<i32>,
    /// Whether the token fits.
    #[serde(default)]
    pub validation_status: Option<ValidationStatus>,
    /// The home that was captured, or the folder of the legacy file.
    #[serde(default)]
    pub source_codex_home: String,
    /// The top-level entries in it, as many as find room; see [`Metadata::limit_size`].
    #[serde(default)]
    pub captured_files: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub captured_files_more: u64,
    /// When the archive was made.
    pub created_at: Timestamp,
    /// Which version made it.
    #[serde(default)]
    pub manager_version: String,
    /// Where the windows come from, or "none".
    #[serde(default)]
    pub status_source: String,
    /// The windows as they were seen.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// When they were seen; when the archive was made, if absent.
    #[serde(default)]
    pub windows_observed_at: Option<Timestamp>,
    /// What it captures.
    #[serde(default)]
    pub mode: BackupMode,
    /// Whether the user has left something of that out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excludes: bool,
    /// How much of that could not be taken: files that may not be read, folders with all that is in them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// The user's label, or "safety" for one that was made before a restore.
    #[serde(default)]
    pub label: Option<String>,
    /// How many files it holds.
    #[serde(default)]
    pub files: u64,
    /// Their bytes.
    #[serde(default)]
    pub bytes: u64,
    /// The bytes of the archive. Zero in the manifest, which is inside it.
    #[serde(default)]
    pub archive_bytes: u64,
    /// The digest of the archive. Empty in the manifest, which is inside it.
    #[serde(default)]
    pub archive_sha256: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Document for Metadata {
    const SCHEMA: u64 = 1;
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            product: "codex".into(),
            email: None,
            account_id: None,
            user_id: None,
            plan: None,
            session_start_at: None,
            next_available_at: None,
            reset_at: None,
            quota_end_detected_at: None,
            inferred_session_duration_seconds: None,
            inference_basis: String::new(),
            legacy_auth_filename: None,
            legacy_quota_day_token: None,
            legacy_year: None,
            validation_status: None,
            source_codex_home: String::new(),
            captured_files: Vec::new(),
            captured_files_more: 0,
            created_at: Timestamp::default(),
            manager_version: env!("CARGO_PKG_VERSION").into(),
            status_source: "none".into(),
            windows: Vec::new(),
            windows_observed_at: None,
            mode: BackupMode::Full,
            excludes: false,
            skipped: 0,
            label: None,
            files: 0,
            bytes: 0,
            archive_bytes: 0,
            archive_sha256: String::new(),
        }
    }
}

impl Metadata {
    /// The account that the archive is of; absent when the home was signed out.
    pub fn identity(&self) -> Option<Identity> {
        let email = self.email.clone()?;
        let kind = if email.starts_with("api-key-") && self.account_id.is_none() {
            LoginKind::ApiKey
        } else {
            LoginKind::Chatgpt
        };
        Some(Identity {
            account_id: self.account_id.clone(),
            user_id: self.user_id.clone(),
            kind,
            ..Identity::of_email(email)
        })
    }

    /// Leaves out top-level entries that would make the sidecar larger than it may be: the last that are
    /// not Codex's.
    pub fn limit_size(&mut self) {
        // A line for each, indented, with quotes and what is escaped in it.
        let taken =
            |name: &String| 8 + serde_json::to_string(name).map_or(name.len(), |text| text.len());
        if self.captured_files.iter().map(taken).sum::<usize>() <= MAX_CAPTURED_BYTES {
            return;
        }
        let (of_codex, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.captured_files)
            .into_iter()
            .partition(|name| home::is_codex_name(name.trim_end_matches('/').as_ref()));
        let mut room = MAX_CAPTURED_BYTES;
        for name in of_codex.into_iter().chain(others) {
            if let Some(left) = room.checked_sub(taken(&name)) {
                room = left;
                self.captured_files.push(name);
            } else {
                room = 0;
                self.captured_files_more += 1;
            }
        }
        self.captured_files.sort();
    }

    /// Takes over who the account is.
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
    fn a_sidecar_stays_small_whatever_the_home() {
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
        assert_eq!(metadata, before, "a second time nothing goes");
    }
}
