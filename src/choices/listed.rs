//! Reads Codex's list of conversations.

use crate::codex::threads::{self, ListedThread, ThreadFilter};
use crate::context::Context;
use crate::error::CommandError;
use crate::history::thread_titles::apply_names;

/// Returns the conversations that `filter` selects; none if Codex has no database. Names that stand only in
/// `session_index.jsonl` are titles too; SQLite orders by the titles without them.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn listed_threads(
    filter: &ThreadFilter,
    context: &Context,
) -> Result<Vec<ListedThread>, CommandError> {
    let mut threads = listed_as(filter, context, |thread| thread)?;
    apply_names(&context.settings.codex_home, &mut threads);
    Ok(threads)
}

/// Like [`listed_threads`], but without the names of `session_index.jsonl`, and keeps only what `convert` makes of
/// each conversation.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn listed_as<T>(
    filter: &ThreadFilter,
    context: &Context,
    convert: impl Fn(ListedThread) -> T,
) -> Result<Vec<T>, CommandError> {
    let home = &context.settings.codex_home;
    let Some(database) = threads::find_state_database(home, &context.env) else {
        return Ok(Vec::new());
    };
    threads::list_as(&database, filter, convert)
        .map_err(|e| CommandError::failed("cannot read Codex's list of conversations").because(e))
}
