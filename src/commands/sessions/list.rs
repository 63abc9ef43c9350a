//! Reads the list of conversations and prints it.

use super::accounts::ConversationAccounts;
use super::listed::listed_threads;
use super::session_view::{SessionView, session_view};
use super::table::{self, SessionRow};
use super::unlisted::unlisted;
use crate::codex::home::THREAD_LOCKS;
use crate::codex::thread_filter::{ThreadFilter, ThreadOrder};
use crate::codex::thread_query::ListedThread;
use crate::codex::threads;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::lock;
use clap::ValueEnum;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The number of conversations shown on a terminal without `--limit`.
const TERMINAL_LIMIT: usize = 30;

/// The largest depth of subagents below a conversation that is shown.
const MAX_DEPTH: usize = 8;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SortOrder {
    /// The most recently changed first
    Updated,
    /// The most recently created first
    Created,
    /// The most tokens first
    Tokens,
    /// The largest rollout first
    Size,
    /// In alphabetical order of titles
    Title,
    /// In alphabetical order of folders
    Project,
}

/// The options of the list besides its filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOptions {
    pub archived: bool,
    pub subagents: bool,
    pub sort: SortOrder,
    pub limit: Option<usize>,
}

/// Prints the conversations that `filter` selects.
pub(super) fn show(
    filter: ThreadFilter,
    options: ListOptions,
    context: &Context,
) -> Result<Outcome, CommandError> {
    let home = &context.settings.codex_home;
    let ui = &context.ui;
    let limit = options
        .limit
        .or(ui.is_terminal().then_some(TERMINAL_LIMIT))
        .unwrap_or(usize::MAX);
    let read = |filter: &ThreadFilter| listed_threads(filter, context);
    let filter = ThreadFilter {
        without_archived: !options.archived,
        without_subagents: true,
        order: thread_order(options.sort),
        // One more tells that there are more. Sizes and names are known only after reading all rows.
        limit: (!matches!(options.sort, SortOrder::Size | SortOrder::Title) && limit < usize::MAX)
            .then(|| limit + 1),
        ..filter
    };
    let accounts = ConversationAccounts::read(context)?;
    let view = |thread| session_view(thread, &accounts, context);
    let mut sessions: Vec<_> = read(&filter)?.into_iter().map(view).collect();
    sessions.extend(unlisted(&filter, read, context)?);
    match options.sort {
        SortOrder::Size => sessions.sort_by_key(|session| Reverse(session.bytes)),
        SortOrder::Updated => sessions.sort_by_key(|session| Reverse(session.updated_ms)),
        SortOrder::Title => sessions.sort_by(|a, b| a.title.cmp(&b.title)),
        _ => {}
    }
    let has_more = sessions.len() > limit;
    sessions.truncate(limit);
    let children = Children::below(&sessions, options.subagents, read)?;
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for session in sessions {
        let id = session.id.clone();
        let folded = children.folded.get(&id).copied().unwrap_or_default();
        // A table looks at the lock of each conversation, which a document of 50,000 does not show.
        let mut add = |session: SessionView, depth, folded| {
            if !ui.wants_json() {
                rows.push(row(&session, depth, folded, home));
            }
            all.push(session);
        };
        add(session, 0, folded);
        for (depth, child) in children.of(&id) {
            add(view(child.clone()), depth, 0);
        }
    }
    ui.list_document("sessions", "sessions", &all);
    if all.is_empty() {
        let has_list = threads::find_state_database(home, &context.env).is_some();
        ui.note(match (has_list, filter.is_restricted()) {
            (true, true) => "no conversation matches",
            (true, false) => "there are no conversations",
            (false, _) => {
                "Codex has no list of conversations yet; rollouts without a list are found by: codex-manager history check"
            }
        });
        return Ok(Outcome::Done);
    }
    table::print(&rows, context);
    if has_more {
        ui.note(format_args!(
            "there are more: codex-manager sessions --limit {}",
            limit.saturating_mul(4)
        ));
    }
    Ok(Outcome::Done)
}

fn thread_order(sort: SortOrder) -> ThreadOrder {
    match sort {
        SortOrder::Updated | SortOrder::Size => ThreadOrder::Updated,
        SortOrder::Created => ThreadOrder::Created,
        SortOrder::Tokens => ThreadOrder::Tokens,
        SortOrder::Title => ThreadOrder::Title,
        SortOrder::Project => ThreadOrder::Project,
    }
}

/// The conversations of subagents.
#[derive(Default)]
struct Children {
    /// The children by parent, newest first.
    by_parent: HashMap<String, Vec<ListedThread>>,
    /// The number of children that are not shown, by parent.
    folded: HashMap<String, usize>,
}

impl Children {
    /// Reads the children of `sessions`, or all descendants if they are `shown`.
    fn below(
        sessions: &[SessionView],
        shown: bool,
        read: impl Fn(&ThreadFilter) -> Result<Vec<ListedThread>, CommandError>,
    ) -> Result<Self, CommandError> {
        let mut found = Self::default();
        let mut parents: Vec<_> = sessions.iter().map(|session| session.id.clone()).collect();
        // Damaged rows could be parents of each other.
        let mut known: HashSet<_> = parents.iter().cloned().collect();
        for _ in 0..MAX_DEPTH {
            if parents.is_empty() {
                break;
            }
            let children = read(&ThreadFilter {
                parents: Some(std::mem::take(&mut parents)),
                ..ThreadFilter::default()
            })?;
            for child in children {
                let Some(parent) = child.parent_id.clone() else {
                    continue;
                };
                if !shown {
                    *found.folded.entry(parent).or_default() += 1;
                } else if known.insert(child.id.clone()) {
                    parents.push(child.id.clone());
                    found.by_parent.entry(parent).or_default().push(child);
                }
            }
        }
        Ok(found)
    }

    /// Returns the descendants of a conversation in the order of display, with their depths.
    fn of(&self, id: &str) -> Vec<(usize, &ListedThread)> {
        let mut ordered = Vec::new();
        let mut open: Vec<(usize, &ListedThread)> = self.children(id, 1).collect();
        while let Some((depth, child)) = open.pop() {
            ordered.push((depth, child));
            open.extend(self.children(&child.id, depth + 1));
        }
        ordered
    }

    /// Returns the children, the oldest first.
    fn children(&self, id: &str, depth: usize) -> impl Iterator<Item = (usize, &ListedThread)> {
        let children = self.by_parent.get(id).into_iter().flatten().rev();
        children.map(move |child| (depth, child))
    }
}

fn row(session: &SessionView, depth: usize, folded: usize, home: &Path) -> SessionRow {
    let writer_lock = home.join(THREAD_LOCKS).join(format!("{}.lock", session.id));
    SessionRow {
        session: session.clone(),
        depth,
        folded,
        is_running: lock::is_held(&writer_lock),
    }
}
