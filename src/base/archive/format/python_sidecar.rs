//! The sidecar format of the Python codex-manager.

use super::metadata::{BackupMode, Metadata};
use crate::codex::window::{CODEX_LIMIT, WEEKLY_MINUTES, Window};
use crate::io::clock::Timestamp;
use serde::Deserialize;

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
pub(crate) fn parse_sidecar(bytes: &[u8]) -> Option<Metadata> {
    let sidecar: PythonSidecar = serde_json::from_slice(bytes).ok()?;

    // Sidecars of the Python tool name their archive; those of this program have "schema" and
    // "manager_version".
    if sidecar.product != "codex" || sidecar.archive_name.is_none() {
        return None;
    }

    let parse = |text: &Option<String>| {
        text.as_deref()
            .and_then(|value| Timestamp::parse_from_rfc3339(value).ok())
    };
    let reset_at = parse(&sidecar.reset_at);

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
    let session_start_at = parse(&sidecar.session_start_at).or_else(|| reset_at.map(|t| t - week));
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
        created_at: parse(&sidecar.created_at).unwrap_or_default(),
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
