//! Reads Codex's list of conversations.

use crate::codex::thread_filter::ThreadFilter;
use crate::codex::thread_query::{self, ListedThread};
use crate::codex::threads;
use crate::context::Context;
use crate::error::CommandError;
use crate::history::id::ConversationId;
use crate::history::session_index::ThreadNameIndex;
use std::path::Path;

/// Returns the conversations that `filter` selects; none if Codex has no database. Names that stand only in
/// `session_index.jsonl` are titles too; SQLite orders by the titles without them.
///
/// # Errors
/// The database cannot be read.
pub(in crate::commands) fn listed_threads(
    filter: &ThreadFilter,
    context: &Context,
) -> Result<Vec<ListedThread>, CommandError> {
    let home = &context.settings.codex_home;
    let Some(database) = threads::find_state_database(home, &context.env) else {
        return Ok(Vec::new());
    };
    let mut threads = thread_query::list(&database, filter).map_err(|e| {
        CommandError::failed("cannot read Codex's list of conversations").because(e)
    })?;
    add_names(&mut threads, home);
    Ok(threads)
}

/// Adds the names of conversations whose rows have none: Codex keeps those of older conversations only in the
/// index. An unreadable index only hides names.
fn add_names(threads: &mut [ListedThread], home: &Path) {
    if threads.iter().all(|thread| thread.has_name) {
        return;
    }
    let Ok(index) = ThreadNameIndex::read(home) else {
        return;
    };
    for thread in threads.iter_mut().filter(|thread| !thread.has_name) {
        let entry = index.get(&ConversationId::of(&thread.id));
        let name = entry.ok().flatten().map(|entry| entry.thread_name);
        if let Some(line) = name.as_deref().and_then(|name| name.trim().lines().next()) {
            line.clone_into(&mut thread.title);
        }
    }
}
