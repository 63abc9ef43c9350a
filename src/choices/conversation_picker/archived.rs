//! Lets the user choose a conversation of an archive or a snapshot.

use crate::choices::conversation_picker::rows::{
    OfferedConversation, QUESTION, list_and_refuse, select_scopes,
};
use crate::context::Context;
use crate::copies::archived::{group_rollouts_by_conversation, list_ids_on_disk};
use crate::copies::source::{ConversationSource, read_threads};
use crate::error::{CommandError, Result};
use crate::ui::picker::{Picker, PickerOptions};
use codex_manager_core::codex::{ARCHIVED_SESSIONS, ListedThread};
use std::cmp::Reverse;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Lets the user choose a conversation of `source`, and returns its id. The picker begins with the conversations that
/// are no longer on disk.
///
/// # Errors
/// `source` has no conversations, or the user cancelled. Without a terminal, prints some of them on stderr, and the
/// error asks for an argument.
pub(crate) fn pick_archived(source: &dyn ConversationSource, context: &Context) -> Result<String> {
    let rows = list_copied_conversations(source);
    if rows.is_empty() {
        return Err(CommandError::failed(
            "the archive or snapshot has no conversations",
        ));
    }

    if !context.ui.can_pick() {
        let hints = ["name it: --session ID", "nothing was changed"];
        return Err(list_and_refuse(&rows, &hints, context));
    }

    let on_disk = list_ids_on_disk(context.codex_home())?;
    let is_missing = |row: &OfferedConversation| !on_disk.contains(&row.thread.id.to_lowercase());
    let scopes = select_scopes(&rows, &[("missing", &is_missing), ("all", &|_row| true)]);

    let picker = Picker {
        question: QUESTION,
        items: rows.iter().map(|row| row.to_picker_item(context)).collect(),
        default: 0,
        options: PickerOptions {
            enter: "restore",
            scopes,
            ..PickerOptions::default()
        },
    };

    let choice = picker.run(&context.ui)?;
    // `run` returns `None` only without a terminal or conversations. Both were checked above.
    let choice = choice.ok_or_else(|| CommandError::usage(QUESTION))?;
    Ok(choice.id)
}

/// Returns the conversations with a rollout in `source`, without those of subagents and side conversations, the newest
/// first.
fn list_copied_conversations(source: &dyn ConversationSource) -> Vec<OfferedConversation> {
    let mut rollouts = group_rollouts_by_conversation(source.files());
    let mut rows = Vec::new();
    for thread in read_threads(source) {
        // The unlisted conversations remain in `rollouts`.
        if rollouts.remove(&thread.id.to_lowercase()).is_some() {
            rows.push(OfferedConversation {
                thread,
                ..OfferedConversation::default()
            });
        }
    }

    rows.extend(rollouts.into_iter().filter_map(|(id, files)| {
        // The rollouts of a conversation begin with the oldest.
        let newest = files.last()?;
        let thread = ListedThread {
            id,
            archived: newest.path.as_path().starts_with(ARCHIVED_SESSIONS),
            updated_ms: Some(newest.mtime / NANOS_PER_MILLI),
            ..ListedThread::default()
        };
        Some(OfferedConversation {
            thread,
            is_unlisted: true,
            ..OfferedConversation::default()
        })
    }));

    rows.retain(|row| !row.thread.is_child());
    rows.sort_by_key(|row| Reverse(row.thread.updated_ms));
    rows
}
