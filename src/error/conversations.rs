//! Errors of the search index.

use super::ErrorKind::Failed;
use super::{Advised, CommandError};
use crate::conversations::index::IndexError;

impl Advised for IndexError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Interrupted => CommandError::interrupted(),
            Self::Io(e) => e.advice(),
            Self::Database(e) => {
                CommandError::failed("cannot read Codex's list of conversations").because(e)
            }
            Self::Sqlite { .. } if self.is_cured_by_rebuild() => self.hint(
                Failed,
                "create it again: codex-manager sessions index --rebuild",
            ),
            Self::Sqlite { .. } => self.hint(
                Failed,
                "search without the index: codex-manager find --exact TEXT",
            ),
        }
    }
}
