//! The list of conversations in its order.
//!
//! The ids are put in order first, and the rows are read in parts afterwards. So memory does not hold the texts of
//! all rows: Codex's list may have 50,000 of them.

use crate::choices::conversation_accounts::ConversationAccounts;
use crate::choices::conversation_view::{ConversationView, rollout_size, session_view};
use crate::choices::listed::{listed_as, listed_threads};
use crate::choices::unlisted::unlisted;
use crate::codex::threads::{ThreadFilter, ThreadOrder};
use crate::commands::sessions::children::Children;
use crate::context::Context;
use crate::error::CommandError;
use crate::history::thread_titles::ThreadTitles;
use clap::ValueEnum;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// The number of rows that are read at a time.
const PART_ROWS: usize = 1000;

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

/// The use of conversations of subagents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subagents {
    /// Each follows the conversation that started it.
    Listed,
    /// They are counted at the conversation that started them.
    Counted,
    /// They are left out.
    Omitted,
}

/// A conversation with its place in the list.
pub(super) struct ListedConversation {
    pub session: ConversationView,
    /// The number of conversations above it, of which it is a subagent.
    pub depth: usize,
    /// The number of its subagents that are not shown.
    pub folded: usize,
}

/// A conversation of which only the order is known.
struct ListEntry {
    id: String,
    key: SortKey,
    /// The whole conversation if Codex does not list it.
    unlisted: Option<Box<ConversationView>>,
}

/// The values that decide the order. The rows of one list have keys of one kind.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Updated(Reverse<Option<i64>>),
    Size(Reverse<Option<u64>>),
    Title(String),
    /// The row stays where the database has it. Unlisted conversations come last.
    AsRead,
}

/// The conversations that a filter selects, in order.
pub(super) struct ConversationList<'a> {
    entries: Vec<ListEntry>,
    accounts: ConversationAccounts,
    /// All names of the home, for a list of many conversations.
    titles: Option<ThreadTitles>,
    context: &'a Context,
    /// True if the limit left out conversations.
    pub has_more: bool,
}

impl<'a> ConversationList<'a> {
    /// Reads the order of at most `limit` conversations, without those of subagents.
    ///
    /// # Errors
    /// Codex's list, the launch registry or the profiles cannot be read.
    pub(super) fn read(
        filter: &ThreadFilter,
        sort: SortOrder,
        limit: usize,
        context: &'a Context,
    ) -> Result<Self, CommandError> {
        let filter = ThreadFilter {
            without_subagents: true,
            order: thread_order(sort),
            // One more tells that there are more. Sizes and names are known only after reading all rows.
            limit: (!matches!(sort, SortOrder::Size | SortOrder::Title) && limit < usize::MAX)
                .then(|| limit + 1),
            ..filter.clone()
        };
        let home = &context.settings.codex_home;
        let mut titles = (sort == SortOrder::Title).then(|| ThreadTitles::read(home));
        let mut entries = listed_as(&filter, context, |mut thread| {
            if let Some(titles) = &titles {
                titles.apply(&mut thread);
            }
            ListEntry {
                key: match sort {
                    SortOrder::Updated => SortKey::Updated(Reverse(thread.updated_ms)),
                    SortOrder::Size => SortKey::Size(Reverse(rollout_size(&thread.rollout_path).0)),
                    SortOrder::Title => SortKey::Title(thread.title),
                    SortOrder::Created | SortOrder::Tokens | SortOrder::Project => SortKey::AsRead,
                },
                id: thread.id,
                unlisted: None,
            }
        })?;
        let found = unlisted(&filter, |filter| listed_threads(filter, context), context)?;
        entries.extend(found.into_iter().map(|session| ListEntry {
            id: session.id.clone(),
            key: match sort {
                SortOrder::Updated => SortKey::Updated(Reverse(session.updated_ms)),
                SortOrder::Size => SortKey::Size(Reverse(session.bytes)),
                SortOrder::Title => SortKey::Title(session.title.clone()),
                SortOrder::Created | SortOrder::Tokens | SortOrder::Project => SortKey::AsRead,
            },
            unlisted: Some(Box::new(session)),
        }));
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        // Searching for each conversation is slower if they are many.
        let accounts = if entries.len() > PART_ROWS {
            titles = titles.or_else(|| Some(ThreadTitles::read(home)));
            ConversationAccounts::read_all(context)?
        } else {
            ConversationAccounts::read(context)?
        };
        Ok(Self {
            entries,
            accounts,
            titles,
            context,
            has_more,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Calls `each` with the conversations in order, until it returns false. Conversations whose rows were
    /// deleted meanwhile are skipped.
    ///
    /// # Errors
    /// Codex's list cannot be read any more.
    pub(super) fn for_each(
        self,
        subagents: Subagents,
        mut each: impl FnMut(ListedConversation) -> bool,
    ) -> Result<(), CommandError> {
        let read = |filter: &ThreadFilter| match &self.titles {
            None => listed_threads(filter, self.context),
            Some(titles) => listed_as(filter, self.context, |mut thread| {
                titles.apply(&mut thread);
                thread
            }),
        };
        let view = |thread| session_view(thread, &self.accounts, self.context);
        let mut known = HashSet::new();
        if subagents == Subagents::Listed {
            known.extend(self.entries.iter().map(|entry| entry.id.clone()));
        }
        let mut entries = self.entries.into_iter();
        loop {
            let part: Vec<_> = entries.by_ref().take(PART_ROWS).collect();
            if part.is_empty() {
                return Ok(());
            }
            let ids: Vec<_> = part.iter().map(|entry| entry.id.clone()).collect();
            let rows = read(&ThreadFilter {
                ids: Some(ids.clone()),
                ..ThreadFilter::default()
            })?;
            let rows = rows.into_iter().map(|row| (row.id.clone(), row));
            let mut rows: HashMap<_, _> = rows.collect();
            let children = match subagents {
                Subagents::Listed => Children::below(ids, &mut known, read)?,
                Subagents::Counted => Children::counted(ids, read)?,
                Subagents::Omitted => Children::default(),
            };
            for entry in part {
                let listed = || rows.remove(&entry.id).map(view);
                let session = entry.unlisted.map(|session| *session).or_else(listed);
                let Some(session) = session else { continue };
                let own = ListedConversation {
                    session,
                    depth: 0,
                    folded: children.folded(&entry.id),
                };
                let below = children.of(&entry.id).into_iter();
                let below = below.map(|(depth, child)| ListedConversation {
                    session: view(child.clone()),
                    depth,
                    folded: 0,
                });
                if !std::iter::once(own).chain(below).all(&mut each) {
                    return Ok(());
                }
            }
        }
    }
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
