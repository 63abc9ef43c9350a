//! Finds conversations by their contents while the user types.

use crate::choices::conversation_picker::rows::{ARCHIVED, HERE, SharedConversations};
use crate::choices::index_access::IndexAccess;
use crate::context::Context;
use crate::conversations::index::IndexStore;
use crate::conversations::search::evaluate::{
    self, FoundConversation, Hit, HitOrder, SearchOptions,
};
use crate::conversations::search::query;
use crate::ui::picker::{ContentMatch, ContentQuery, Task};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The shortest filter for which contents are searched, in characters.
const MIN_QUERY_CHARS: usize = 2;

/// The shortest last word that is searched as a prefix, in characters.
const MIN_PREFIX_CHARS: usize = 3;

/// The maximum number of content matches in the scope, and in all conversations.
const MAX_MATCHES: usize = 50;
const MAX_MATCHES_OF_ALL: usize = 100;

/// Returns the task that searches the index. The first search creates the index or brings it up to date, without a
/// message.
pub(crate) fn content_search_task(
    rows: &SharedConversations,
    context: &Context,
) -> Task<ContentQuery, Vec<ContentMatch>> {
    let (context, rows) = (context.clone(), rows.clone());
    let mut store: Option<Option<IndexStore>> = None;
    // The index has ids in lower case.
    let mut ids: HashMap<String, String> = HashMap::new();
    Box::new(move |wanted| {
        if wanted.text.trim().chars().count() < MIN_QUERY_CHARS {
            return Vec::new();
        }
        let store = store.get_or_insert_with(|| IndexAccess::new(&context).open_updated_quietly());
        let Some(store) = store else {
            return Vec::new();
        };
        if ids.len() != wanted.total {
            let rows = rows.get();
            let all = rows.iter().map(|row| row.thread.id.clone());
            ids = all.map(|id| (id.to_lowercase(), id)).collect();
        }
        let here = &context.env.current_dir;
        let is_offered = |found: &FoundConversation| ids.contains_key(&found.session);
        let is_in_scope = |found: &FoundConversation| {
            is_offered(found)
                && (found.archived == (wanted.scope == ARCHIVED))
                && (wanted.scope != HERE || Path::new(&found.cwd).starts_with(here))
        };
        let mut hits = search(store, &wanted.text, MAX_MATCHES, &is_in_scope);
        let known: HashSet<_> = hits.iter().map(|hit| &hit.conversation.session).collect();
        // Those of other scopes are counted beside the scope.
        let more = |found: &FoundConversation| is_offered(found) && !known.contains(&found.session);
        let others = search(store, &wanted.text, MAX_MATCHES_OF_ALL, &more);
        hits.extend(others);
        let matches = hits.into_iter();
        matches.filter_map(|hit| to_match(&hit, &ids)).collect()
    })
}

fn to_match(hit: &Hit, ids: &HashMap<String, String>) -> Option<ContentMatch> {
    let snippet = &hit.snippet;
    let marks = snippet.matches.iter();
    Some(ContentMatch {
        id: ids.get(&hit.conversation.session)?.clone(),
        note: format_note(hit),
        turn: hit.turn,
        marks: marks
            .map(|at| snippet.text[at.clone()].to_owned())
            .collect(),
    })
}

/// Searches the conversations that `accepts` selects. An invalid query finds nothing.
fn search(
    store: &IndexStore,
    text: &str,
    limit: usize,
    accepts: &dyn Fn(&FoundConversation) -> bool,
) -> Vec<Hit> {
    let text = add_prefix_wildcard(without_unfinished_word(text));
    let words: Vec<_> = if text.contains('"') {
        vec![text]
    } else {
        text.split_whitespace().map(str::to_owned).collect()
    };
    let Ok(query) = query::parse(&words) else {
        return Vec::new();
    };
    let options = SearchOptions {
        role: None,
        order: HitOrder::Best,
        limit,
        accepts,
        safe: &|text| text,
    };
    let found = evaluate::search(store, &query, &options);
    found.unwrap_or_default().hits
}

/// Removes the last word of an unclosed phrase, because a phrase cannot end with a part of a word.
fn without_unfinished_word(text: &str) -> &str {
    let is_open = !text.matches('"').count().is_multiple_of(2);
    match text.rsplit_once(char::is_whitespace) {
        Some((words, _)) if is_open => words,
        _ => text.trim_start_matches(|c| is_open && c == '"'),
    }
}

/// Marks the last word as a prefix, because the user may still be typing it.
fn add_prefix_wildcard(text: &str) -> String {
    let last = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_word = last.chars().all(char::is_alphanumeric);
    if is_word && last.chars().count() >= MIN_PREFIX_CHARS {
        format!("{text}*")
    } else {
        text.to_owned()
    }
}

fn format_note(hit: &Hit) -> String {
    let author = hit.role.name();
    let text = crate::views::account::printable(&hit.snippet.text);
    match hit.turn {
        Some(turn) => format!("turn {turn}, {author}: {text}"),
        None => format!("{author}: {text}"),
    }
}
