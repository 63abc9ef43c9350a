//! Errors of the search index.

use super::{CommandError, ErrorKind};
use crate::conversations::index::IndexError;

impl From<IndexError> for CommandError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Interrupted => Self::interrupted(),
            IndexError::Io(e) => e.into(),
            IndexError::Database(e) => {
                Self::failed("cannot read Codex's list of conversations").because(e)
            }
            IndexError::Sqlite { .. } => {
                let can_be_rebuilt = error.is_cured_by_rebuild();
                let wrapped = Self::wrap(ErrorKind::Failed, &error);
                if can_be_rebuilt {
                    wrapped.hint("create it again: codex-manager sessions index --rebuild")
                } else {
                    wrapped.hint("search without the index: codex-manager find --exact TEXT")
                }
            }
        }
    }
}
