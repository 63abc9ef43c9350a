//! The conversation that the user names.

use super::account::printable;
use super::resume;
use crate::codex::rollout::ZST;
use crate::context::Context;
use crate::error::CommandError;
use crate::launch::binding;
use std::path::PathBuf;

/// A conversation with a rollout.
#[derive(Debug, Clone)]
pub(super) struct NamedSession {
    /// The id of the conversation.
    pub id: String,
    /// Its name, or the first line of its first message; empty if unknown.
    pub title: String,
    /// Its rollout, plain or compressed.
    pub rollout: PathBuf,
}

/// Returns the conversation that `text` names: an id, a prefix of one, or a name.
///
/// # Errors
/// No conversation or several match, it has no rollout, or Codex's list cannot be read.
pub(super) fn session_named(text: &str, context: &Context) -> Result<NamedSession, CommandError> {
    let home = &context.settings.codex_home;
    let rows = resume::rows(context)?;
    let row = resume::find(&rows, text)?;
    let id = row.map_or(text, |row| &row.id);
    let recorded = row.and_then(|row| {
        let plain = row.rollout_path.strip_suffix(ZST);
        let plain = plain.unwrap_or(&row.rollout_path);
        let forms = [plain.to_owned(), format!("{plain}{ZST}")];
        forms
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
    });
    let rollout = recorded.or_else(|| binding::find_rollout(home, id));
    let Some(rollout) = rollout else {
        let mut error = CommandError::failed(match row {
            Some(row) => format!(
                "the rollout of the conversation is missing: {}",
                row.rollout_path
            ),
            None => format!("no conversation has this id or name: {}", printable(text)),
        });
        if row.is_none() {
            error.hints.extend(resume::suggestion(&rows, text));
        }
        return Err(error
            .hint("list conversations: codex-manager sessions --archived")
            .hint("find unlisted conversations: codex-manager history check"));
    };
    let title = row.map(|row| {
        let title = row.given_name().unwrap_or(&row.title);
        title.lines().next().unwrap_or_default().to_owned()
    });
    Ok(NamedSession {
        id: id.to_owned(),
        title: title.unwrap_or_default(),
        rollout,
    })
}
