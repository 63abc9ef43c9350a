//! Exit codes and hints for errors about `.codex-account` files.

use super::{CommandError, ErrorKind};
use crate::launch::folders::AccountFileError;

impl From<AccountFileError> for CommandError {
    fn from(error: AccountFileError) -> Self {
        Self::wrap(ErrorKind::Usage, &error)
            .hint("write the name of a profile into its first line, or remove the file")
    }
}
