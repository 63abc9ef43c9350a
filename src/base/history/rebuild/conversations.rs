//! Selects the conversations of a rebuild and determines when each was changed last.

use super::plan::RebuildSource;
use crate::codex::user_request::{find_request, find_title};
use crate::codex::{DatabaseError, RolloutName, ThreadRow, threads};
use crate::history::files::RolloutFile;
use crate::history::id::ConversationId;
use crate::history::rollout::SessionMeta;
use crate::history::{HistoryError, SkippedFile, files, for_each_head};
use crate::io::Rfc3339Time;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The values of a row of the table `threads` that a rebuild needs.
#[derive(Debug)]
pub struct TableRow {
    id: ConversationId,
    created_ms: i64,
    updated_ms: i64,
    archived: bool,
    pub(super) given_name: Option<String>,
    /// The request in the title; empty if Codex has none, and for archived rows.
    pub(super) title: String,
    /// The first line of the request in the user's first message, or of the preview if there is no message.
    pub(super) first_message: Option<String>,
}

/// Reads the table `threads` of the database at `path`. Returns `None` if it has no such table.
///
/// # Errors
/// The database is damaged or locked by another process.
pub fn read_table(path: &Path) -> Result<Option<Vec<TableRow>>, DatabaseError> {
    threads::fold_rows(path, Vec::new, |rows, mut row: ThreadRow| {
        if row.archived {
            // Only the id of an archived row is used, and a title may be a whole first message.
            (row.title, row.first_user_message, row.message_line) = Default::default();
        }

        rows.push(TableRow {
            id: ConversationId::of(&row.id),
            created_ms: row.created_ms.unwrap_or(0),
            updated_ms: row.updated_ms.unwrap_or(0),
            archived: row.archived,
            given_name: row.given_name().map(str::to_owned),
            first_message: find_title(row.message()),
            title: find_request(&row.title).to_owned(),
        });
    })
}

/// A conversation with the facts gathered so far.
pub(super) struct RebuildConversation {
    pub(super) id: ConversationId,
    pub(super) row: Option<TableRow>,
    /// The rollouts that are not archived.
    pub(super) files: Vec<RolloutFile>,
    created: Option<Rfc3339Time>,
    pub(super) updated: Option<Rfc3339Time>,
    /// True if the limit leaves the conversation out.
    pub(super) is_beyond_limit: bool,
    /// The title from the rollout, if the row has none.
    pub(super) title: Option<String>,
    /// True if the name in the index equals the title derived from the rollout, so the user did not
    /// give it.
    pub(super) is_index_name_derived: bool,
}

impl RebuildConversation {
    fn new(id: ConversationId, row: Option<TableRow>) -> Self {
        Self {
            id,
            row,
            files: Vec::new(),
            created: None,
            updated: None,
            is_beyond_limit: false,
            title: None,
            is_index_name_derived: false,
        }
    }

    fn add_rollout(&mut self, file: RolloutFile, meta: &SessionMeta) {
        self.files.push(file);
        // The time of creation in the row takes precedence. A row without one has 0.
        if self.row.as_ref().is_none_or(|row| row.created_ms == 0) {
            self.created = self.created.take().or_else(|| meta.created());
        }
    }

    /// Sets the time of the last change: the later of rollout and row, else the time of creation.
    pub(super) fn set_updated(&mut self, rollout_time: Option<Rfc3339Time>) {
        let row_time = |millis: fn(&TableRow) -> i64| {
            let millis = self.row.as_ref().map(millis).filter(|millis| *millis != 0);
            millis.and_then(Rfc3339Time::from_millis)
        };
        let updated = Rfc3339Time::later_of(rollout_time, row_time(|row| row.updated_ms));
        self.updated = updated
            .or_else(|| row_time(|row| row.created_ms))
            .or_else(|| self.created.clone());
    }

    /// Returns the title of the row, else its first message. `None` if only the rollout can have a title.
    pub(super) fn row_title(&self) -> Option<&str> {
        let row = self.row.as_ref()?;
        let title = Some(&*row.title).filter(|title| !title.trim().is_empty());
        title.or(row.first_message.as_deref())
    }
}

/// All conversations of a rebuild with their rollouts.
pub(super) struct ConversationSet {
    pub(super) source: RebuildSource,
    /// Sorted by id, without duplicates.
    pub(super) conversations: Vec<RebuildConversation>,
    /// Conversations on disk that the rebuild leaves out: archived, or not in the database.
    excluded_ids: HashSet<ConversationId>,
    /// The number of rollouts that the rebuild leaves out because they have no row.
    pub(super) orphans_skipped: usize,
    pub(super) rollouts_without_id: usize,
}

impl ConversationSet {
    pub(super) fn find(&self, id: &ConversationId) -> Option<&RebuildConversation> {
        let position = self.find_position(id)?;
        self.conversations.get(position)
    }

    pub(super) fn has_rollout_or_archived_row(&self, id: &ConversationId) -> bool {
        self.excluded_ids.contains(id) || self.find(id).is_some_and(|c| !c.files.is_empty())
    }

    fn find_position(&self, id: &ConversationId) -> Option<usize> {
        self.conversations.binary_search_by(|c| c.id.cmp(id)).ok()
    }

    /// Returns the path of each rollout of the conversations at `positions` in the list, after the position of its
    /// conversation.
    pub(super) fn rollout_paths(
        &self,
        home: &Path,
        positions: &[usize],
    ) -> impl Iterator<Item = (usize, PathBuf)> {
        positions.iter().flat_map(move |position| {
            let files = self.conversations[*position].files.iter();
            files.map(move |file| (*position, file.path(home)))
        })
    }
}

/// Collects the conversations to rebuild, each with its rollouts.
pub(super) fn gather_conversations(
    home: &Path,
    table: Option<Vec<TableRow>>,
    include_orphans: bool,
    skipped: &mut Vec<SkippedFile>,
) -> Result<ConversationSet, HistoryError> {
    let (conversations, archived_ids) = split_archived(table);
    let mut set = ConversationSet {
        // A table with archived rows alone is a list without conversations, and no missing list.
        source: if conversations.is_empty() && archived_ids.is_empty() {
            RebuildSource::Rollouts
        } else {
            RebuildSource::Database
        },
        conversations,
        excluded_ids: HashSet::new(),
        orphans_skipped: 0,
        rollouts_without_id: 0,
    };

    let mut files = files::find_rollouts(home)?;
    // A file name has the id of its conversation, so archived rollouts are not read.
    for file in files.extract_if(.., |file| file.is_archived) {
        let name = RolloutName::parse(&file.relative);
        if let Some(id) = name.as_ref().and_then(RolloutName::id) {
            set.excluded_ids.insert(ConversationId::of(id));
        }
    }

    // Without rows, the rollouts are the only source.
    let takes_orphans = include_orphans || set.source == RebuildSource::Rollouts;
    let mut orphans = BTreeMap::new();
    let rollouts = files.iter().map(|file| (file, file.path(home)));
    for_each_head(rollouts, skipped, |file, meta| {
        let Some(meta) = meta else {
            set.rollouts_without_id += 1;
            return Ok(());
        };

        // Codex does not open rollouts of versions before 0.32.
        if archived_ids.contains(&meta.id) || !meta.has_envelope {
            return Ok(());
        }

        let new_orphan = || RebuildConversation::new(meta.id.clone(), None);
        match set.find_position(&meta.id) {
            Some(position) => set.conversations[position].add_rollout(file.clone(), &meta),
            None if takes_orphans => {
                let orphan = orphans.entry(meta.id.clone()).or_insert_with(new_orphan);
                orphan.add_rollout(file.clone(), &meta);
            }
            None => {
                set.orphans_skipped += 1;
                set.excluded_ids.insert(meta.id);
            }
        }
        Ok(())
    })?;

    set.conversations.extend(orphans.into_values());
    set.conversations.sort_by(|a, b| a.id.cmp(&b.id));
    set.excluded_ids.extend(archived_ids);
    Ok(set)
}

/// Returns the conversations of the unarchived rows, sorted by id without duplicates, and the ids of the archived rows.
fn split_archived(
    table: Option<Vec<TableRow>>,
) -> (Vec<RebuildConversation>, HashSet<ConversationId>) {
    let (mut conversations, mut archived_ids) = (Vec::new(), HashSet::new());
    for row in table.unwrap_or_default() {
        if row.archived {
            archived_ids.insert(row.id);
        } else {
            conversations.push(RebuildConversation::new(row.id.clone(), Some(row)));
        }
    }

    // Two rows may name one conversation in different case; the stable sort keeps Codex's spelling,
    // which is read first.
    conversations.sort_by(|a, b| a.id.cmp(&b.id));
    conversations.dedup_by(|a, b| a.id == b.id);

    (conversations, archived_ids)
}
