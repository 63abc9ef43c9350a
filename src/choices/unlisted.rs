//! Conversations that the search index knows and Codex does not list.
//!
//! Codex up to 0.104 keeps no list in a database. In such a home, all conversations are those of the index,
//! which is brought up to date first.

use crate::choices::conversation_view::{ConversationView, rollout_size};
use crate::choices::index_access::IndexAccess;
use crate::codex::threads::ListedThread;
use crate::codex::threads::ThreadFilter;
use crate::context::Context;
use crate::conversations::index::Thoroughness;
use crate::conversations::search::evaluate::{self, FoundConversation};
use crate::error::CommandError;
use crate::io::progress::is_interrupted;
use crate::ui::time;
use chrono::DateTime;
use std::collections::HashSet;
use std::path::Path;

/// Returns the conversations that `filter` selects by folder and time, if there is an index. A damaged index has
/// none; the next `find` creates it again. In a home without Codex's database, the index is created.
pub(crate) fn unlisted(
    filter: &ThreadFilter,
    read: impl Fn(&ThreadFilter) -> Result<Vec<ListedThread>, CommandError>,
    context: &Context,
) -> Result<Vec<ConversationView>, CommandError> {
    if filter.account.is_some() {
        return Ok(Vec::new());
    }
    let access = IndexAccess::new(context);
    let store = if access.is_only_list() {
        match access.updated(Thoroughness::All) {
            Ok((store, _)) => Some(store),
            Err(e) if is_interrupted() => return Err(e),
            Err(e) => {
                let why = e.in_one_line();
                context
                    .ui
                    .warn(format_args!("conversations cannot be listed: {why}"));
                None
            }
        }
    } else {
        access.existing().ok().flatten()
    };
    let found = store.and_then(|store| evaluate::unlisted(&store).ok());
    let mut found = found.unwrap_or_default();
    found.retain(|conversation| {
        !(filter.without_archived && conversation.archived)
            && filter.accepts_unlisted(Path::new(&conversation.cwd), conversation.updated_ms)
            && conversation.path.is_file()
    });
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Codex may list them by now.
    let ids = found
        .iter()
        .map(|conversation| conversation.session.clone());
    let listed = read(&ThreadFilter {
        ids: Some(ids.collect()),
        ..ThreadFilter::default()
    })?;
    let listed: HashSet<_> = listed
        .into_iter()
        .map(|row| row.id.to_lowercase())
        .collect();
    found.retain(|conversation| !listed.contains(&conversation.session));
    Ok(found
        .into_iter()
        .map(|found| view(found, context))
        .collect())
}

fn view(found: FoundConversation, context: &Context) -> ConversationView {
    let updated = found.updated_ms.and_then(DateTime::from_timestamp_millis);
    let rollout_path = found.path.to_string_lossy().into_owned();
    let (bytes, compressed) = rollout_size(&rollout_path);
    ConversationView {
        id: found.session,
        title: found.title,
        cwd: found.cwd,
        git_branch: None,
        profile: None,
        email: None,
        created_at: None,
        updated_at: updated.map(|at| time::rfc3339(&at, context.settings.zone)),
        model: None,
        tokens: None,
        bytes,
        rollout_path,
        archived: found.archived,
        compressed,
        parent_id: None,
        source: None,
        updated_ms: found.updated_ms,
        nickname: String::new(),
        is_unlisted: true,
    }
}
