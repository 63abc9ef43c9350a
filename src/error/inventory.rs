//! Exit codes and hints for errors about known accounts and their status.

use super::ErrorKind::{Failed, Refused};
use super::{Advised, CommandError};
use codex_manager_core::io::similar;

impl Advised for codex_manager_core::inventory::resolve::AccountResolveError {
    fn to_command_error(&self) -> CommandError {
        let hints = match self {
            Self::Unknown { choices, .. } if choices.is_empty() => {
                vec!["no account is known yet; sign in: codex-manager profile login NAME".into()]
            }
            Self::Unknown { text, choices } if choices.len() > similar::MAX_SUGGESTIONS => {
                let suggestion =
                    similar::format_suggestion(text, choices.iter().map(String::as_str));
                let list = "list all accounts: codex-manager accounts".to_owned();
                suggestion.into_iter().chain([list]).collect()
            }
            Self::Unknown { choices, .. } | Self::Ambiguous { choices, .. } => {
                vec![format!(
                    "the accounts are: {}",
                    similar::join_first_names(choices)
                )]
            }
        };

        let wrapped = CommandError::wrap(Failed, self);
        hints.into_iter().fold(wrapped, CommandError::hint)
    }
}

const NAME_ACCOUNT_OF_TEXT: &str =
    "or name the account of the text: codex-manager status NAME --status-file FILE";

impl Advised for codex_manager_core::inventory::status::StatusError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Document(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::Text(_) => self.hinted_error(
                Failed,
                "paste the whole output of /status in Codex, including the lines of the limits",
            ),
            Self::UnreadableAccount(_) => self
                .unchanged_error(Failed, "copy /status again from a wider terminal")
                .hint(NAME_ACCOUNT_OF_TEXT),
            Self::AnotherAccount { .. } => self
                .unchanged_error(Refused, "paste the /status of the live account")
                .hint(NAME_ACCOUNT_OF_TEXT),
            Self::NotOfAccount { .. } => self.unchanged_error(
                Refused,
                "name the account of the text, or leave out --account",
            ),
        }
    }
}
