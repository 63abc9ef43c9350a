//! Exit codes and hints for errors about known accounts and their status.

use super::{CommandError, ErrorKind};
use crate::io::similar;

impl From<crate::inventory::resolve::AccountResolveError> for CommandError {
    fn from(error: crate::inventory::resolve::AccountResolveError) -> Self {
        use crate::inventory::resolve::AccountResolveError;
        let hints = match &error {
            AccountResolveError::Unknown { choices, .. } if choices.is_empty() => {
                vec!["no account is known yet; sign in: codex-manager profile login NAME".into()]
            }
            AccountResolveError::Unknown { text, choices }
                if choices.len() > similar::MAX_SUGGESTIONS =>
            {
                let suggestion = similar::suggestion(text, choices.iter().map(String::as_str));
                let list = "list all accounts: codex-manager cooldown".to_owned();
                suggestion.into_iter().chain([list]).collect()
            }
            AccountResolveError::Unknown { choices, .. }
            | AccountResolveError::Ambiguous { choices, .. } => {
                vec![format!("the accounts are: {}", similar::first_of(choices))]
            }
        };
        let wrapped = Self::wrap(ErrorKind::Failed, &error);
        hints.into_iter().fold(wrapped, Self::hint)
    }
}

impl From<crate::inventory::status::StatusError> for CommandError {
    fn from(error: crate::inventory::status::StatusError) -> Self {
        use crate::inventory::status::StatusError;
        match error {
            StatusError::Io(e) => e.into(),
            StatusError::Document(e) => e.into(),
            StatusError::Interrupted => Self::interrupted(),
            StatusError::Text(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("paste the whole output of /status in Codex, including the lines of the limits"),
            StatusError::UnreadableAccount(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("copy /status again from a wider terminal; nothing was changed")
                .hint("or name the account of the text: codex-manager status --status-file FILE --account NAME"),
            StatusError::AnotherAccount { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("paste the /status of the live account; nothing was changed")
                .hint("or name the account of the text: codex-manager status --status-file FILE --account NAME"),
            StatusError::NotOfAccount { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("name the account of the text, or leave out --account; nothing was changed"),
        }
    }
}
