//! `search_conversations` and `list_conversations`.

use super::answer::{
    AnswerText, MAX_CHARS, format_cursor_note, format_open_call, format_time, quote_snippet,
    quote_title,
};
use super::call::{CallContext, CallScope, parse_cursor, to_thread_filter};
use super::index_refresh::IndexWork;
use crate::choices::listed::{list_threads, list_unlisted};
use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::codex::rollout_lines::Role;
use codex_manager_core::codex::threads::{ChildThreads, ThreadFilter};
use codex_manager_core::conversations::search::conversation_filter::ConversationFilter;
use codex_manager_core::conversations::search::evaluate::{
    Hit, HitOrder, SearchOptions, SearchResult,
};
use codex_manager_core::conversations::search::forgiving::search_forgiving;
use codex_manager_core::conversations::search::query::{self, Query};
use codex_manager_core::history::thread_titles::read_missing_title;
use serde::Deserialize;
use std::cmp::Reverse;

/// The largest number of results in an answer.
const PAGE_HITS: usize = 10;

/// The largest number of results of a query that an agent can reach with cursors.
const MAX_HITS: usize = 1000;

const MAX_QUERY_BYTES: usize = 1000;

/// The largest number of similar words that an answer names as searched instead.
const MAX_SPELLINGS: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchArguments {
    query: String,
    scope: Option<CallScope>,
    project: Option<String>,
    since: Option<String>,
    role: Option<Role>,
    cursor: Option<String>,
}

impl SearchArguments {
    /// Answers a call. Leaves out `caller`, the conversation of the calling agent.
    ///
    /// # Errors
    /// An argument is invalid, or the index cannot be used.
    pub(super) fn answer(&self, caller: Option<&str>, call: &CallContext<'_>) -> Result<String> {
        let context = call.context;
        let query = self.parse_query()?;
        let shown_count = parse_cursor(self.cursor.as_deref())?;
        if shown_count >= MAX_HITS {
            let message = format!("no results beyond the first {MAX_HITS}");
            return Err(CommandError::usage(message));
        }

        let scope = self.scope.unwrap_or_default();
        let (project, since) = (self.project.as_deref(), self.since.as_deref());
        let filter = to_thread_filter(scope, project, since, context)?;
        let is_restricted = filter.is_restricted();

        // One more result shows whether there is a next page.
        let limit = shown_count + PAGE_HITS + 1;
        let result = self.search(&query, filter, limit, caller, call)?;

        if result.hits.len() <= shown_count {
            let mut advice = "No conversation matches. Use other or fewer words.".to_owned();
            if is_restricted {
                advice.push_str(
                    " Or search all conversations: \"scope\": \"all\", and no other filter.",
                );
            }
            return Ok(AnswerText::new(MAX_CHARS).finish(&[advice]));
        }
        Ok(format_result(&result, shown_count, context))
    }

    fn parse_query(&self) -> Result<Query> {
        if self.query.len() > MAX_QUERY_BYTES {
            let message = format!("the query is longer than {MAX_QUERY_BYTES} bytes");
            return Err(CommandError::usage(message));
        }
        query::parse_text(&self.query).map_err(|e| CommandError::usage(e.to_string()))
    }

    /// Searches the index, but not the conversation `caller` of the calling agent. Without a result that has all words,
    /// updates the whole index and searches again.
    fn search(
        &self,
        query: &Query,
        filter: ThreadFilter,
        limit: usize,
        caller: Option<&str>,
        call: &CallContext<'_>,
    ) -> Result<SearchResult> {
        let context = call.context;
        let filter = ConversationFilter::new(filter, |filter| list_threads(filter, context))?;
        let options = SearchOptions {
            role: self.role,
            order: HitOrder::Best,
            limit,
            accepts: &|result| caller != Some(&*result.session) && filter.accepts(result),
        };

        let search_after = |work| {
            let read = |store: &_| search_forgiving(store, query, &options);
            call.index.update_and_read(work, context, read)
        };

        let result = search_after(IndexWork::UpdateListed)?;
        if result.hits.is_empty() || result.relaxation.is_some() {
            // The text may be in a conversation that Codex's database does not list.
            return search_after(IndexWork::UpdateAll);
        }
        Ok(result)
    }
}

/// Returns the results after the first `shown_count` ones.
fn format_result(result: &SearchResult, shown_count: usize, context: &Context) -> String {
    let mut text = AnswerText::new(MAX_CHARS);
    let page = result.hits.iter().skip(shown_count).take(PAGE_HITS);
    let next_cursor = shown_count + text.add_results(page.map(|hit| format_hit(hit, context)));

    let mut notes = Vec::new();
    notes.extend(result.relaxation.as_ref().map(ToString::to_string));
    if !result.spellings.is_empty() {
        let spellings = result.spellings.values().take(MAX_SPELLINGS);
        let spellings: Vec<_> = spellings.cloned().collect();
        notes.push(format!(
            "some words match nothing; searched instead: {}",
            spellings.join(", ")
        ));
    }
    if next_cursor < result.hits.len() {
        notes.push(format_cursor_note(next_cursor));
    }
    text.finish(&notes)
}

fn format_hit(hit: &Hit, context: &Context) -> String {
    let conversation = &hit.conversation;
    let at = format_time(hit.at_ms.or(conversation.updated_ms), context);
    let role = hit.role.name();
    let call = format_open_call(&conversation.session, hit.turn);
    let title = quote_title(&conversation.cwd, &conversation.title);
    let snippet = quote_snippet(&hit.snippet.text);
    format!("\n{at}, {role}: {call}\n{title}{snippet}")
}

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

        let named_project = None;
        let filter = ThreadFilter {
            children: ChildThreads::Omitted,
            // Two more: the caller, which is left out, and one that shows whether there is a next page.
            limit: Some(shown_count.saturating_add(limit + 2)),
            ..to_thread_filter(scope, named_project, self.since.as_deref(), context)?
        };
        let is_restricted = filter.is_restricted();

        let mut threads = list_threads(&filter, context)?;
        threads.extend(list_unlisted(&filter, context)?);
        threads.retain(|thread| caller.is_none_or(|id| !thread.id.eq_ignore_ascii_case(id)));
        // The sort is stable: conversations of the same time stay in the order of the database.
        threads.sort_by_key(|thread| Reverse(thread.updated_ms));

        let shown = threads.iter_mut().skip(shown_count).take(limit);
        shown.for_each(|thread| read_missing_title(context.codex_home(), thread));

        let mut text = AnswerText::new(MAX_CHARS);
        let page = threads.iter().skip(shown_count).take(limit);
        let results = page.map(|thread| {
            let at = format_time(thread.updated_ms, context);
            let without_turn = None;
            let call = format_open_call(&thread.id, without_turn);
            let title = quote_title(&thread.cwd, &thread.title);
            format!("\n{at}: {call}\n{title}")
        });
        let next_cursor = shown_count + text.add_results(results);

        let note = if next_cursor < threads.len() {
            Some(format_cursor_note(next_cursor))
        } else if next_cursor == 0 {
            let mut advice = "No conversation found.".to_owned();
            if is_restricted {
                advice.push_str(" List all: \"scope\": \"all\", and no \"since\".");
            }
            Some(advice)
        } else {
            None
        };
        Ok(text.finish(note.as_slice()))
    }
}
