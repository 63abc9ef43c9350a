//! The options of a capture: which part of the home, and its label.

use crate::error::{CommandError, Result};
use clap::Args;
use codex_manager_core::archive::metadata::{BackupMode, SAFETY_LABEL};

const MAX_LABEL_CHARS: usize = 200;

/// The options that `backup` and `vault backup` share.
#[derive(Debug, Default, Args)]
pub(crate) struct CaptureArgs {
    /// The part of the home to capture
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) mode: BackupMode,
    /// Capture tmp/ and .tmp/ as well
    #[arg(long)]
    pub(crate) include_tmp: bool,
    /// Capture worktrees/ as well: whole checkouts that Codex makes
    #[arg(long)]
    pub(crate) include_worktrees: bool,
    /// Leave out paths that match, in addition to `backup.exclude` of config.toml; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// A label of your own for the backup, shown in listings
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

impl CaptureArgs {
    /// Refuses a label that is too long or reserved.
    pub(crate) fn check_label(&self) -> Result<()> {
        let label = self.label.as_deref().unwrap_or_default();
        if label.chars().count() > MAX_LABEL_CHARS {
            let message = format!("--label is longer than {MAX_LABEL_CHARS} characters");
            return Err(CommandError::usage(message));
        }
        if label == SAFETY_LABEL {
            let message =
                format!("--label {SAFETY_LABEL} is reserved for archives that restore makes");
            return Err(CommandError::usage(message).hint("choose any other label"));
        }
        Ok(())
    }
}
