//! Finds conversations by their contents while the user types.

use crate::choices::conversation_picker::rows::{ARCHIVED, HERE, SharedConversations};
use crate::choices::index_access::IndexAccess;
use crate::context::Context;
use crate::ui::picker::{ContentAnswer, ContentMatch, ContentQuery, Task};
use crate::views::account::printable;
use codex_manager_core::codex::folder_key::is_in_folder;
use codex_manager_core::conversations::index::{IndexError, IndexStore};
use codex_manager_core::conversations::search::evaluate::{
    self, FoundConversation, Hit, HitOrder, SearchOptions, SearchResult, describe_spellings,
};
use codex_manager_core::conversations::search::forgiving::search_forgiving;
use codex_manager_core::conversations::search::query;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The shortest filter for which contents are searched, in characters.
const MIN_QUERY_CHARS: usize = 2;

/// The shortest last word that is searched as a prefix, in characters.
const MIN_PREFIX_CHARS: usize = 3;

/// The maximum number of content matches in the current scope.
const MAX_MATCHES: usize = 50;

/// The maximum number of further content matches, in all conversations.
const MAX_MATCHES_OF_ALL: usize = 100;

/// Returns the task that searches the index. The first search creates the index or brings it up to date, without a
/// message.
pub(crate) fn content_search_task(
    rows: &SharedConversations,
    context: &Context,
) -> Task<ContentQuery, ContentAnswer> {
    let (context, rows) = (context.clone(), rows.clone());
    let mut store: Option<IndexStore> = None;
    let mut offered_ids: HashMap<String, String> = HashMap::new();

    Box::new(move |request| {
        if request.text.trim().chars().count() < MIN_QUERY_CHARS {
            return ContentAnswer::default();
        }

        // The picker may have read more conversations since the last search.
        if offered_ids.len() != request.total {
            let rows = rows.get();
            let ids = rows.iter().map(|row| row.thread.id.clone());
            offered_ids = ids.map(|id| (id.to_lowercase(), id)).collect();
        }

        let access = IndexAccess::new(&context);
        // If the index is damaged, the first attempt removes it, and the second attempt creates it again.
        for _ in 0..2 {
            store = store.take().or_else(|| access.open_updated_quietly());
            let Some(open_store) = &store else { break };
            match search_typed(open_store, request, &offered_ids, &context.env.current_dir) {
                Ok(answer) => return answer,
                Err(e) if e.is_cured_by_rebuild() => {
                    store = None;
                    // If the removal fails, the second attempt meets the same damage and ends.
                    let _ = access.remove();
                }
                Err(_) => break,
            }
        }

        ContentAnswer::default()
    })
}

/// Searches the index for the typed text. `folder` is the folder of the scope [`HERE`]. `offered_ids` has the ids of
/// the offered conversations by their lower-case forms, because the ids in the index are in lower case.
fn search_typed(
    store: &IndexStore,
    request: &ContentQuery,
    offered_ids: &HashMap<String, String>,
    folder: &Path,
) -> Result<ContentAnswer, IndexError> {
    let is_offered =
        |conversation: &FoundConversation| offered_ids.contains_key(&conversation.session);
    let wants_archived = request.scope == ARCHIVED;
    let is_in_scope = |conversation: &FoundConversation| {
        is_offered(conversation)
            && conversation.archived == wants_archived
            && (request.scope != HERE || is_in_folder(&conversation.cwd, folder))
    };

    let text = without_unfinished_word(&request.text);
    let mut hits = Vec::new();
    if let Ok(parsed) = query::parse_text(&add_prefix_wildcard(text)) {
        hits = evaluate::search(store, &parsed, &hit_options(MAX_MATCHES, &is_in_scope))?.hits;
        let hit_ids: HashSet<_> = hits.iter().map(|hit| &hit.conversation.session).collect();

        // The picker also shows the number of hits in each other scope, so all other conversations are searched too.
        let is_no_hit_yet = |conversation: &FoundConversation| {
            is_offered(conversation) && !hit_ids.contains(&conversation.session)
        };
        let options = hit_options(MAX_MATCHES_OF_ALL, &is_no_hit_yet);
        hits.extend(evaluate::search(store, &parsed, &options)?.hits);
    }

    let mut notice = None;
    if hits.is_empty()
        && let Ok(parsed) = query::parse_text(text)
    {
        // `find` does the same if no conversation has all words.
        let options = hit_options(MAX_MATCHES_OF_ALL, &is_offered);
        let forgiving_result = search_forgiving(store, &parsed, &options)?;
        notice = describe_relaxation(&forgiving_result);
        hits = forgiving_result.hits;
    }

    let to_match = |hit| to_content_match(hit, offered_ids);
    Ok(ContentAnswer {
        matches: hits.iter().filter_map(to_match).collect(),
        notice,
    })
}

/// Describes how the executed query differs from the typed one; `None` if they are equal.
fn describe_relaxation(result: &SearchResult) -> Option<String> {
    let relaxation = result.relaxation.as_ref().map(ToString::to_string);
    let notes: Vec<_> = describe_spellings(&result.spellings)
        .chain(relaxation)
        .collect();
    (!notes.is_empty()).then(|| printable(&notes.join(" · ")))
}

fn to_content_match(hit: &Hit, offered_ids: &HashMap<String, String>) -> Option<ContentMatch> {
    let snippet = &hit.snippet;
    let marks = snippet.matches.iter();
    Some(ContentMatch {
        id: offered_ids.get(&hit.conversation.session)?.clone(),
        note: format_hit_note(hit),
        turn: hit.turn,
        marks: marks
            .map(|range| snippet.text[range.clone()].to_owned())
            .collect(),
    })
}

fn hit_options(limit: usize, accepts: &dyn Fn(&FoundConversation) -> bool) -> SearchOptions<'_> {
    SearchOptions {
        role: None,
        order: HitOrder::Best,
        limit,
        accepts,
    }
}

/// Removes the last word of an unclosed phrase, because a phrase cannot end with a part of a word.
fn without_unfinished_word(text: &str) -> &str {
    let has_open_phrase = !text.matches('"').count().is_multiple_of(2);
    match text.rsplit_once(char::is_whitespace) {
        _ if !has_open_phrase => text,
        Some((words, _)) => words,
        None => text.trim_start_matches('"'),
    }
}

/// Marks the last word as a prefix, because the user may still be typing it.
fn add_prefix_wildcard(text: &str) -> String {
    let last_word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_word = last_word.chars().all(char::is_alphanumeric);
    if is_word && last_word.chars().count() >= MIN_PREFIX_CHARS {
        format!("{text}*")
    } else {
        text.to_owned()
    }
}

fn format_hit_note(hit: &Hit) -> String {
    let author = hit.role.name();
    let text = printable(&hit.snippet.text);
    match hit.turn {
        Some(turn) => format!("turn {turn}, {author}: {text}"),
        None => format!("{author}: {text}"),
    }
}
