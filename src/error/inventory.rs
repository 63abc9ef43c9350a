//! Exit codes and hints for errors about known accounts and their status.

use super::{CommandError, ErrorKind};

impl From<crate::inventory::resolve::AccountResolveError> for CommandError {
    fn from(error: crate::inventory::resolve::AccountResolveError) -> Self {
        let choices = error.choices().join(", ");
        let wrapped = Self::wrap(ErrorKind::Failed, error);
        if choices.is_empty() {
            wrapped.hint(
                "no account is known yet; save the live login: codex-manager profile save NAME",
            )
        } else {
            wrapped.hint(format!("the accounts are: {choices}"))
        }
    }
}

impl From<crate::inventory::status::StatusError> for CommandError {
    fn from(error: crate::inventory::status::StatusError) -> Self {
        use crate::inventory::status::StatusError;
        match error {
            StatusError::Io(e) => e.into(),
            StatusError::Interrupted => Self::interrupted(),
            StatusError::Text(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("paste the whole output of /status in Codex, including the lines of the limits"),
            StatusError::UnreadableAccount(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("copy /status again from a wider terminal; nothing was changed")
                .hint("or name the account of the text: codex-manager status --status-file FILE --account NAME"),
            StatusError::AnotherAccount { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("paste the /status of the live account; nothing was changed")
                .hint("or name the account of the text: codex-manager status --status-file FILE --account NAME"),
            StatusError::NotOfAccount { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("name the account of the text, or leave out --account; nothing was changed"),
        }
    }
}

impl From<crate::inventory::probe_all::ProbeAllError> for CommandError {
    fn from(error: crate::inventory::probe_all::ProbeAllError) -> Self {
        use crate::inventory::probe_all::ProbeAllError;
        match error {
            ProbeAllError::Status(e) => e.into(),
            ProbeAllError::Document(e) => e.into(),
        }
    }
}
