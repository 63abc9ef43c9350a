//! The sorted list of conversations.
//!
//! The ids are sorted first, and the rows are read in batches afterwards. Codex's database may list 200,000
//! conversations, so the ids are in memory only if SQLite cannot sort them, or with children or other machines.

use crate::choices::conversation_accounts::ConversationAccounts;
use crate::choices::listed::{list_threads, list_threads_as, list_unlisted};
use crate::choices::machines::Machine;
use crate::commands::sessions::children::Children;
use crate::commands::sessions::conversation_row::{ConversationRow, read_rollout_size};
use crate::context::Context;
use crate::copies::archived::list_ids_on_disk;
use crate::error::Result;
use crate::ui::StoredItems;
use clap::ValueEnum;
use codex_manager_core::codex::threads::{ChildThreads, ThreadOrder};
use codex_manager_core::codex::{ListedThread, ThreadFilter};
use codex_manager_core::history::thread_titles::ThreadTitles;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

const BATCH_ROWS: usize = 1000;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildRows {
    /// Each subagent and side conversation follows the conversation that started it.
    Listed,
    /// They are counted at the conversation that started them.
    Counted,
    /// They are left out.
    Omitted,
}

/// A conversation with its sort key, before its other fields are read.
#[derive(Serialize, Deserialize)]
struct ListEntry {
    id: String,
    key: SortKey,
    /// The whole conversation if Codex does not list it.
    #[serde(skip)]
    unlisted: Option<Box<ListedThread>>,
    updated_ms: Option<i64>,
    /// Another machine that has the conversation, if this machine does not have it.
    #[serde(skip)]
    machine: Option<String>,
    /// Another machine that has continued the conversation.
    #[serde(skip)]
    newer_on: Option<String>,
}

impl ListEntry {
    fn new(thread: &ListedThread, sort: SortOrder) -> Self {
        Self {
            id: thread.id.clone(),
            key: SortKey::of(thread, sort),
            unlisted: None,
            updated_ms: thread.updated_ms,
            machine: None,
            newer_on: None,
        }
    }

    fn unlisted(thread: ListedThread, sort: SortOrder) -> Self {
        let entry = Self::new(&thread, sort);
        Self {
            unlisted: Some(Box::new(thread)),
            ..entry
        }
    }
}

/// The value by which a list is sorted. All entries of a list have the same variant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum SortKey {
    Updated(Reverse<Option<i64>>),
    Size(Reverse<Option<u64>>),
    Title(String),
    /// Keeps the order of the database. Conversations that the database does not list come last.
    AsRead,
}

impl SortKey {
    fn of(thread: &ListedThread, sort: SortOrder) -> Self {
        match sort {
            SortOrder::Updated => Self::Updated(Reverse(thread.updated_ms)),
            SortOrder::Size => Self::Size(Reverse(read_rollout_size(&thread.rollout_path).bytes)),
            SortOrder::Title => Self::Title(thread.title.clone()),
            SortOrder::Created | SortOrder::Tokens | SortOrder::Project => Self::AsRead,
        }
    }
}

/// The conversations that a filter selects, in order.
pub(super) struct ConversationList<'a> {
    /// The entries of Codex's list in order. Empty if `entries` has them.
    listed: StoredItems,
    /// The other entries in order, to be merged with `listed`.
    entries: Vec<ListEntry>,
    /// The number of conversations in both, at most the limit.
    pub count: usize,
    accounts: ConversationAccounts,
    /// The titles of all conversations of the home. Set for a list of many conversations, and for a list sorted by
    /// title.
    titles: Option<ThreadTitles>,
    child_rows: ChildRows,
    context: &'a Context,
    /// True if the limit left out conversations.
    pub has_more: bool,
}

impl<'a> ConversationList<'a> {
    /// Reads and sorts the conversations of this machine and of `machines`, and keeps at most `limit`. The children that
    /// [`Self::for_each`] shows at their parents do not count.
    ///
    /// # Errors
    /// Codex's list, the launch registry or the profiles cannot be read.
    pub(super) fn read(
        filter: &ThreadFilter,
        sort: SortOrder,
        limit: usize,
        machines: &[Machine],
        child_rows: ChildRows,
        context: &'a Context,
    ) -> Result<Self> {
        let filter = to_list_filter(filter, sort, limit, child_rows);
        let home = context.codex_home();
        let mut titles = (sort == SortOrder::Title).then(|| ThreadTitles::read(home));
        let (mut last_key, mut is_sorted): (Option<SortKey>, bool) = (None, true);
        let mut listed: StoredItems = list_threads_as(&filter, context, |mut thread| {
            if let Some(titles) = &titles {
                titles.replace_title(&mut thread);
            }
            let entry = ListEntry::new(&thread, sort);
            let previous_key = last_key.replace(entry.key.clone());
            is_sorted &= previous_key.is_none_or(|previous| previous <= entry.key);
            entry
        })?;

        // SQLite cannot always sort as `sort` asks: it has no sizes and lacks some titles, and rows of older Codex
        // versions have their times in another column.
        let mut entries = Vec::new();
        if !is_sorted || child_rows == ChildRows::Listed || !machines.is_empty() {
            let stored_entries = std::mem::take(&mut listed).read()?;
            entries = stored_entries.collect::<Result<_>>()?;
        }

        let unlisted_threads = list_unlisted(&filter, context)?.into_iter();
        entries.extend(unlisted_threads.map(|thread| ListEntry::unlisted(thread, sort)));
        add_remote_conversations(&mut entries, machines, &filter, sort, home)?;

        // The sort is stable, so rows with equal keys stay in the order of SQLite.
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let total_count = listed.count() + entries.len();
        let has_more = total_count > limit;
        let count = total_count.min(limit);

        // For many conversations, reading all records once is faster than a search for each conversation.
        let accounts = if count > BATCH_ROWS {
            titles.get_or_insert_with(|| ThreadTitles::read(home));
            ConversationAccounts::read_all(context)?
        } else {
            ConversationAccounts::read(context)?
        };

        Ok(Self {
            listed,
            entries,
            count,
            accounts,
            titles,
            child_rows,
            context,
            has_more,
        })
    }

    /// Calls `visit` with the conversations in order, until it returns false. Skips conversations whose rows were
    /// deleted after [`Self::read`].
    ///
    /// # Errors
    /// Codex's list cannot be read.
    pub(super) fn for_each(mut self, mut visit: impl FnMut(ConversationRow) -> bool) -> Result<()> {
        let has_one_batch = self.count <= BATCH_ROWS;
        // One query for the children of all conversations is faster than one for each batch.
        let mut children = match self.child_rows {
            // A conversation of the list is not shown again below its parent.
            ChildRows::Listed => {
                let shown = self.entries.iter().take(self.count);
                Children::read(&shown.map(|entry| &*entry.id).collect(), self.context)?
            }
            ChildRows::Counted if !has_one_batch => {
                let all_parents = None;
                Children::read_counts(all_parents, self.context)?
            }
            // For `Counted`, the children of a single batch are counted below, by the ids of their parents.
            ChildRows::Counted | ChildRows::Omitted => Children::default(),
        };

        let listed = std::mem::take(&mut self.listed).read()?;
        let others = std::mem::take(&mut self.entries);
        let mut entries = merge_sorted(listed, others).take(self.count);
        loop {
            let batch = entries.by_ref().take(BATCH_ROWS);
            let batch = batch.collect::<Result<Vec<_>>>()?;
            if batch.is_empty() {
                return Ok(());
            }

            let ids: Vec<_> = batch.iter().map(|entry| entry.id.clone()).collect();
            let mut threads_by_id = self.read_threads(ids.clone())?;
            if self.child_rows == ChildRows::Counted && has_one_batch {
                children = Children::read_counts(Some(ids), self.context)?;
            }

            for entry in batch {
                let id = entry.id.clone();
                let Some(mut row) = self.read_row(entry, threads_by_id.remove(&id)) else {
                    continue;
                };
                row.hidden_children = children.hidden.get(&id).copied().unwrap_or_default();

                let descendants = children.descendants_of(&id).into_iter();
                let descendants = descendants.map(|(depth, child)| {
                    let account = self.accounts.find(child);
                    let mut row = ConversationRow::new(child.clone(), Some(account), self.context);
                    row.depth = depth;
                    row
                });
                if !std::iter::once(row).chain(descendants).all(&mut visit) {
                    return Ok(());
                }
            }
        }
    }

    /// Reads conversations of Codex's list, by id.
    fn read_threads(&self, ids: Vec<String>) -> Result<HashMap<String, ListedThread>> {
        let filter = ThreadFilter {
            ids: Some(ids),
            ..ThreadFilter::default()
        };
        let threads = match &self.titles {
            None => list_threads(&filter, self.context)?,
            Some(titles) => list_threads_as(&filter, self.context, |mut thread| {
                titles.replace_title(&mut thread);
                thread
            })?,
        };
        let threads = threads.into_iter().map(|t| (t.id.clone(), t));
        Ok(threads.collect())
    }

    /// Returns the row of an entry. `listed` is its conversation in Codex's list. `None` if Codex no longer lists it.
    fn read_row(&self, entry: ListEntry, listed: Option<ListedThread>) -> Option<ConversationRow> {
        let (thread, account) = if let Some(thread) = entry.unlisted {
            (*thread, None)
        } else {
            let thread = listed?;
            let account = self.accounts.find(&thread);
            (thread, Some(account))
        };
        let mut row = ConversationRow::new(thread, account, self.context);
        row.machine = entry.machine;
        row.newer_on = entry.newer_on;
        Some(row)
    }
}

/// Merges two sorted lists. Of two entries with equal keys, the entry of `listed` comes first.
fn merge_sorted(
    listed: impl Iterator<Item = Result<ListEntry>>,
    others: Vec<ListEntry>,
) -> impl Iterator<Item = Result<ListEntry>> {
    let mut listed = listed.peekable();
    let mut others = others.into_iter().peekable();
    std::iter::from_fn(move || {
        let is_next = |other: &ListEntry| match listed.peek() {
            Some(Ok(listed)) => other.key < listed.key,
            // The error is returned next.
            Some(Err(_)) => false,
            None => true,
        };
        let other = others.next_if(is_next).map(Ok);
        other.or_else(|| listed.next())
    })
}

/// Adds the conversations of other machines, each in its newest version. A conversation that this machine has keeps its
/// row, with the name of a machine that continued it.
fn add_remote_conversations(
    entries: &mut Vec<ListEntry>,
    machines: &[Machine],
    filter: &ThreadFilter,
    sort: SortOrder,
    home: &Path,
) -> Result<()> {
    if machines.is_empty() {
        return Ok(());
    }

    let local_ids = list_ids_on_disk(home)?;
    let positions = entries.iter().enumerate();
    let positions = positions.map(|(position, entry)| (entry.id.to_lowercase(), position));
    let mut positions: HashMap<String, usize> = positions.collect();

    // The last change on any other machine, by id, of the conversations that this machine has too.
    let mut newest_remote_ms: HashMap<String, Option<i64>> = HashMap::new();

    for machine in machines {
        for thread in list_unlisted(filter, &machine.context)? {
            let id = thread.id.to_lowercase();
            let is_local = local_ids.contains(&id);
            let position = positions.get(&id).copied();
            let remote_entry = ListEntry {
                machine: Some(machine.name.clone()),
                ..ListEntry::unlisted(thread, sort)
            };

            match position.map(|position| &mut entries[position]) {
                Some(listed_entry) if listed_entry.updated_ms >= remote_entry.updated_ms => {}
                // This machine has an older version. Of several machines with newer ones, the row names the one with
                // the newest.
                Some(listed_entry) if listed_entry.machine.is_none() => {
                    let newest_ms = newest_remote_ms.entry(id).or_default();
                    if remote_entry.updated_ms > *newest_ms {
                        *newest_ms = remote_entry.updated_ms;
                        listed_entry.newer_on = remote_entry.machine;
                    }
                }
                // Another machine has an older version.
                Some(listed_entry) => *listed_entry = remote_entry,
                // This machine has the conversation, but the filter excludes it.
                None if is_local => {}
                None => {
                    positions.insert(id, entries.len());
                    entries.push(remote_entry);
                }
            }
        }
    }
    Ok(())
}

/// Returns the filter with the order and the limit that the database can apply.
fn to_list_filter(
    filter: &ThreadFilter,
    sort: SortOrder,
    limit: usize,
    child_rows: ChildRows,
) -> ThreadFilter {
    // A sort by size or title needs all rows, with their paths and titles. Otherwise the sorted ids suffice, and one
    // row beyond the limit sets `has_more`.
    let sorts_in_database = !matches!(sort, SortOrder::Size | SortOrder::Title);
    ThreadFilter {
        children: match child_rows {
            ChildRows::Listed => ChildThreads::OrphansIncluded,
            ChildRows::Counted | ChildRows::Omitted => ChildThreads::Omitted,
        },
        order: match sort {
            SortOrder::Updated | SortOrder::Size => ThreadOrder::Updated,
            SortOrder::Created => ThreadOrder::Created,
            SortOrder::Tokens => ThreadOrder::Tokens,
            SortOrder::Title => ThreadOrder::Title,
            SortOrder::Project => ThreadOrder::Project,
        },
        limit: (sorts_in_database && limit < usize::MAX).then(|| limit + 1),
        only_ids: sorts_in_database,
        ..filter.clone()
    }
}
