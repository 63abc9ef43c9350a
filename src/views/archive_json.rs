//! The part of an archive's metadata that `backup` and `list-backups` both print as JSON.

use crate::archive::metadata::{BackupMode, Metadata};
use crate::context::Context;
use crate::io::clock::Timestamp;
use crate::views::account::local;
use serde::Serialize;

/// The mode, the account and the weekly window of an archive. Its keys are an interface.
#[derive(Debug, Serialize)]
pub(crate) struct ArchiveJson {
    mode: BackupMode,
    email: Option<String>,
    account_id: Option<String>,
    session_start_at: Option<String>,
    next_available_at: Option<String>,
    reset_at: Option<String>,
}

impl ArchiveJson {
    pub(crate) fn of(metadata: &Metadata, context: &Context) -> Self {
        let time = |at: Option<Timestamp>| at.map(|at| local(&at, context));
        Self {
            mode: metadata.mode,
            email: metadata.email.clone(),
            account_id: metadata.account_id.clone(),
            session_start_at: time(metadata.session_start_at),
            next_available_at: time(metadata.next_available_at),
            reset_at: time(metadata.reset_at),
        }
    }
}
