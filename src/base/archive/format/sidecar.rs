//! Reading the sidecar of an archive, written by this program or by the Python codex-manager.

use super::metadata::{BackupMode, Metadata};
use crate::codex::window::{CODEX_LIMIT, WEEKLY_MINUTES, Window};
use crate::io::clock::Timestamp;
use crate::io::document::{self, DocumentError, DocumentState};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The reason why a sidecar cannot be used. The archive can be restored without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarProblem {
    Missing,
    /// The file is not a valid sidecar. Carries the parse error.
    Damaged(String),
    /// The sidecar is valid, but describes the size or digest of another archive.
    #[serde(rename = "of_another")]
    Mismatch,
    /// The sidecar has a newer schema, with this number.
    Newer(u64),
    /// The file cannot be read, which proves nothing about its content. Carries the system's error.
    Unreadable(String),
}

impl SidecarProblem {
    /// Returns true if the problem can disappear without a change of the file: by an update of this program, or when
    /// the file can be read again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Newer(_) | Self::Unreadable(_))
    }
}

/// Reads a sidecar of this program or of the Python tool.
///
/// # Errors
/// Returns the reason why the sidecar cannot be used.
pub fn read(path: &Path) -> Result<Metadata, SidecarProblem> {
    match document::read_bytes::<Metadata>(path) {
        Ok(Some(bytes)) => parse(path, &bytes),
        Ok(None) => Err(SidecarProblem::Missing),
        Err(e) => Err(SidecarProblem::Unreadable(e.source.to_string())),
    }
}

/// Parses a sidecar of this program or of the Python tool; `path` is used in errors only.
///
/// # Errors
/// Returns the reason why the sidecar cannot be used.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Metadata, SidecarProblem> {
    match document::parse(path, bytes) {
        Ok(DocumentState::Good(metadata)) => Ok(metadata),
        Ok(DocumentState::Damaged(detail)) => {
            parse_python_sidecar(bytes).ok_or(SidecarProblem::Damaged(detail))
        }
        // Not reached: there are bytes.
        Ok(DocumentState::Absent) => Err(SidecarProblem::Missing),
        Err(DocumentError::Newer { found, .. }) => Err(SidecarProblem::Newer(found)),
        Err(DocumentError::Io(e)) => Err(SidecarProblem::Unreadable(e.source.to_string())),
    }
}

/// The keys of a Python sidecar that are converted. All other keys are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PythonSidecar {
    product: String,
    email: Option<String>,
    chatgpt_account_id: Option<String>,
    chatgpt_user_id: Option<String>,
    plan_type: Option<String>,
    session_start_at: Option<String>,
    reset_at: Option<String>,
    quota_percent_left: Option<f64>,
    created_at: Option<String>,
    source_codex_home: Option<String>,
    status_source: Option<String>,
    backup_mode: Option<String>,
    archive_name: Option<String>,
    metadata_only: bool,
}

/// Converts a sidecar of the Python tool. Returns `None` for other documents.
pub(crate) fn parse_python_sidecar(bytes: &[u8]) -> Option<Metadata> {
    let sidecar: PythonSidecar = serde_json::from_slice(bytes).ok()?;

    // Sidecars of the Python tool name their archive; those of this program have "schema" and
    // "manager_version".
    if sidecar.product != "codex" || sidecar.archive_name.is_none() {
        return None;
    }

    let parse_time = |text: &Option<String>| {
        text.as_deref()
            .and_then(|value| Timestamp::parse_from_rfc3339(value).ok())
    };
    let reset_at = parse_time(&sidecar.reset_at);

    // Without a quota value the Python tool wrote "now + 7 days" as the reset, which is no
    // observation.
    let percent_left = sidecar
        .quota_percent_left
        .filter(|percent| (0.0..=100.0).contains(percent));
    let windows = match (percent_left, reset_at) {
        (Some(percent_left), Some(_)) => vec![Window {
            limit_id: CODEX_LIMIT.into(),
            minutes: Some(WEEKLY_MINUTES),
            used_percent: 100.0 - percent_left,
            resets_at: reset_at,
        }],
        _ => Vec::new(),
    };

    let week = chrono::Duration::days(7);
    let session_start_at =
        parse_time(&sidecar.session_start_at).or_else(|| reset_at.map(|t| t - week));
    let without_placeholder =
        |text: Option<String>| text.filter(|value| !value.is_empty() && value != "unknown");

    Some(Metadata {
        email: without_placeholder(sidecar.email),
        account_id: without_placeholder(sidecar.chatgpt_account_id),
        user_id: without_placeholder(sidecar.chatgpt_user_id),
        plan: without_placeholder(sidecar.plan_type),
        session_start_at,
        next_available_at: session_start_at.map(|at| at + week),
        reset_at,
        inference_basis: "sidecar of the Python codex-manager".into(),
        source_codex_home: sidecar.source_codex_home.unwrap_or_default(),
        created_at: parse_time(&sidecar.created_at).unwrap_or_default(),
        manager_version: "python".into(),
        status_source: sidecar.status_source.unwrap_or_else(|| "none".into()),
        windows,
        mode: match sidecar.backup_mode.as_deref() {
            Some("auth-only") => BackupMode::Auth,
            Some("session-only") => BackupMode::Sessions,
            _ => BackupMode::Full,
        },
        label: sidecar.metadata_only.then(|| "record".to_owned()),
        ..Metadata::default()
    })
}
