//! Exit codes and hints for errors about `.codex-account` files.

use super::ErrorKind::Usage;
use super::{Advised, CommandError};
use crate::launch::folders::AccountFileError;

impl Advised for AccountFileError {
    fn advice(&self) -> CommandError {
        self.hint(
            Usage,
            "write the name of a profile into its first line, or remove the file",
        )
    }
}
