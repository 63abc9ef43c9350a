//! Finds conversations by their contents while the user types.

use crate::choices::conversation_picker::rows::OfferedConversation;
use crate::choices::index_access::IndexAccess;
use crate::context::Context;
use crate::conversations::index::IndexStore;
use crate::conversations::search::evaluate::{self, Hit, HitOrder, SearchOptions};
use crate::conversations::search::query;
use crate::ui::picker::{ContentMatch, ContentQuery, PickerScope, Task};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The shortest filter for which contents are searched, in characters.
const MIN_QUERY_CHARS: usize = 2;

/// The shortest last word that is searched as a prefix, in characters.
const MIN_PREFIX_CHARS: usize = 3;

/// The largest number of conversations that are found by their contents.
const MAX_MATCHES: usize = 50;

/// Returns the task that searches the index. The first search updates the index. Without an index, searches find
/// nothing, because creating one may take minutes.
pub(crate) fn content_search_task(
    rows: &Arc<Vec<OfferedConversation>>,
    scopes: &[PickerScope],
    context: &Context,
) -> Task<ContentQuery, Vec<ContentMatch>> {
    let context = context.clone();
    // The index has ids in lower case.
    let ids = |scope: &PickerScope| -> HashSet<String> {
        let rows = scope.items.iter().map(|row| &rows[*row]);
        rows.map(|row| row.thread.id.to_lowercase()).collect()
    };
    let scopes: Vec<_> = scopes.iter().map(ids).collect();
    let originals = rows.iter().map(|row| &row.thread.id);
    let originals: HashMap<_, _> = originals
        .filter(|id| id.chars().any(char::is_uppercase))
        .map(|id| (id.to_lowercase(), id.clone()))
        .collect();
    let mut store: Option<Option<IndexStore>> = None;
    Box::new(move |wanted| {
        if wanted.text.trim().chars().count() < MIN_QUERY_CHARS {
            return Vec::new();
        }
        let store = store.get_or_insert_with(|| IndexAccess::new(&context).open_updated_quietly());
        let (Some(store), Some(scope)) = (store, scopes.get(wanted.scope)) else {
            return Vec::new();
        };
        let hits = search(store, &wanted.text, scope).into_iter();
        hits.map(|hit| ContentMatch {
            note: format_note(&hit),
            id: originals
                .get(&hit.conversation.session)
                .cloned()
                .unwrap_or(hit.conversation.session),
        })
        .collect()
    })
}

/// Searches the conversations of a scope. An incomplete query, such as an open quotation mark, finds nothing.
fn search(store: &IndexStore, text: &str, scope: &HashSet<String>) -> Vec<Hit> {
    let text = add_prefix_wildcard(text);
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
        order: HitOrder::Newest,
        limit: MAX_MATCHES,
        accepts: &|conversation| scope.contains(&conversation.session),
    };
    let found = evaluate::search(store, &query, &options);
    found.unwrap_or_default().hits
}

/// Marks the last word as the beginning of one, because the user may still be typing it.
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
