//! `list_conversations`.

use super::answer::{
    AnswerText, MAX_CHARS, format_cursor_note, format_open_call, format_time, quote_title,
};
use super::call::{CallContext, CallScope, parse_cursor, to_thread_filter};
use crate::choices::listed::{list_threads, list_unlisted};
use crate::error::Result;
use codex_manager_core::codex::threads::{ChildThreads, ThreadFilter};
use serde::Deserialize;
use std::cmp::Reverse;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArguments {
    scope: Option<CallScope>,
    since: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl ListArguments {
    /// Lists conversations. Leaves out `caller`, the conversation of the calling agent.
    ///
    /// # Errors
    /// An argument is invalid, or Codex's list cannot be read.
    pub(super) fn answer(&self, caller: Option<&str>, call: &CallContext<'_>) -> Result<String> {
        let context = call.context;
        let shown_count = parse_cursor(self.cursor.as_deref())?;
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let scope = self.scope.unwrap_or_default();

        let filter = ThreadFilter {
            children: ChildThreads::Omitted,
            // Two more: one may be the caller, which is left out, and one shows that there are more.
            limit: Some(shown_count.saturating_add(limit + 2)),
            ..to_thread_filter(scope, None, self.since.as_deref(), context)?
        };

        let mut threads = list_threads(&filter, context)?;
        threads.extend(list_unlisted(&filter, context)?);
        threads.retain(|thread| caller.is_none_or(|id| !thread.id.eq_ignore_ascii_case(id)));
        // A stable sort: conversations of one time stay in the order of the database.
        threads.sort_by_key(|thread| Reverse(thread.updated_ms));

        let mut text = AnswerText::new(MAX_CHARS);
        let mut end = shown_count;
        for thread in threads.iter().skip(shown_count).take(limit) {
            let at = format_time(thread.updated_ms, context);
            let call = format_open_call(&thread.id, None);
            let title = quote_title(&thread.cwd, &thread.title);
            if !text.add_if_fits(&format!("\n{at}: {call}\n{title}")) {
                break;
            }
            end += 1;
        }

        let note = match threads.len() {
            len if end < len => Some(format_cursor_note(end)),
            _ if end == 0 => Some("No conversation found. Try \"scope\": \"all\".".to_owned()),
            _ => None,
        };
        Ok(text.finish(note.as_slice()))
    }
}
