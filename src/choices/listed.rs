//! The conversations of the home: those that Codex lists, and those that only the search index knows.
//!
//! Codex up to 0.104 keeps no list in a database. In such a home, all conversations are those of the index,
//! which is brought up to date first.

use crate::choices::index_access::IndexAccess;
use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::codex::threads::ChildThreads;
use codex_manager_core::codex::{ListedThread, ThreadFilter, threads};
use codex_manager_core::conversations::index::{IndexStore, Thoroughness};
use codex_manager_core::conversations::search::evaluate::{self, FoundConversation};
use codex_manager_core::history::thread_titles::replace_titles;
use codex_manager_core::io::is_interrupted;
use std::collections::HashSet;

/// Returns the conversations that `filter` selects; none if Codex has no database. Replaces titles by the names in
/// `session_index.jsonl`, but an order by title uses the titles in the database.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn list_threads(filter: &ThreadFilter, context: &Context) -> Result<Vec<ListedThread>> {
    let mut threads: Vec<_> = list_threads_as(filter, context, |thread| thread)?;
    replace_titles(context.codex_home(), &mut threads);
    Ok(threads)
}

/// Like [`list_threads`], but without the names of `session_index.jsonl`. Collects only the result of `convert` for
/// each conversation.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn list_threads_as<T, B: Default + FromIterator<T>>(
    filter: &ThreadFilter,
    context: &Context,
    convert: impl FnMut(ListedThread) -> T,
) -> Result<B> {
    let Some(database) = context.state_database() else {
        return Ok(B::from_iter([]));
    };
    threads::list_as(&database, filter, convert)
        .map_err(|e| CommandError::failed("cannot read Codex's list of conversations").because(e))
}

/// Returns the conversations of the search index that Codex does not list and that `filter` selects. Returns none if
/// the index is missing or damaged, or if `filter` names an account, a branch or subagents, which the index does not
/// have.
///
/// In a home without Codex's database, creates or updates the index first, and warns if there is none afterwards. An
/// index that could not be updated is used as it is, and so is the index of any other home.
///
/// # Errors
/// The database cannot be read, or the user interrupts.
pub(crate) fn list_unlisted(filter: &ThreadFilter, context: &Context) -> Result<Vec<ListedThread>> {
    if filter.account.is_some() {
        return Ok(Vec::new());
    }

    let store = open_index(context)?;
    let conversations = store.and_then(|store| evaluate::list_unlisted(&store).ok());
    let mut conversations = conversations.unwrap_or_default();
    conversations.retain(|conversation| {
        let is_left_out = filter.without_archived && conversation.archived;
        !is_left_out
            && accepts_child(filter.children, conversation.is_child)
            && filter.accepts_unlisted(&conversation.cwd, conversation.updated_ms)
            && conversation.path.is_file()
    });
    if conversations.is_empty() {
        return Ok(Vec::new());
    }

    // Codex may list conversations that it did not list at the last update of the index.
    let ids = conversations.iter().map(|c| c.session.clone());
    let id_filter = ThreadFilter {
        ids: Some(ids.collect()),
        ..ThreadFilter::default()
    };
    let listed_ids: HashSet<_> = list_threads_as(&id_filter, context, |row| row.id.to_lowercase())?;
    conversations.retain(|conversation| !listed_ids.contains(&conversation.session));
    Ok(conversations.into_iter().map(to_listed_thread).collect())
}

/// Opens the index; `None` if it cannot be opened. In a home without Codex's database, creates or updates it first, and
/// warns before it returns `None`.
///
/// # Errors
/// The user interrupts.
fn open_index(context: &Context) -> Result<Option<IndexStore>> {
    let access = IndexAccess::new(context);
    if !access.is_only_list() {
        return Ok(access.open_existing().ok().flatten());
    }

    match access.open_updated(Thoroughness::All) {
        // An index that could not be updated is listed as it is.
        Ok((store, _report)) => Ok(Some(store)),
        Err(e) if is_interrupted() => Err(e),
        Err(e) => {
            let problem = e.to_one_line();
            context.warn(format_args!("cannot list conversations: {problem}"));
            Ok(None)
        }
    }
}

/// Returns true if a list has a conversation without a row, whose parent is not known.
fn accepts_child(children: ChildThreads, is_child: bool) -> bool {
    match children {
        ChildThreads::Included | ChildThreads::OrphansIncluded => true,
        ChildThreads::Omitted => !is_child,
        ChildThreads::Only => is_child,
    }
}

fn to_listed_thread(found: FoundConversation) -> ListedThread {
    ListedThread {
        id: found.session,
        title: found.title,
        cwd: found.cwd,
        rollout_path: found.path.to_string_lossy().into_owned(),
        archived: found.archived,
        updated_ms: found.updated_ms,
        is_internal: found.is_child,
        ..ListedThread::default()
    }
}
