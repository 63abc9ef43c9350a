//! Selects the conversations of a rebuild and determines when each was changed last.

use super::plan::RebuildSource;
use crate::codex::{DatabaseError, RolloutName, ThreadRow, threads};
use crate::history::rollout::first_line;
use crate::history::{
    ConversationId, HEADS_AT_A_TIME, HistoryError, RolloutFile, SessionMeta, SkippedFile, files,
    for_each_file, rollout,
};
use crate::io::Rfc3339Time;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The rows of the table `threads` without their texts, which are read again when needed.
#[derive(Debug)]
pub struct ThreadTable {
    pub(super) path: PathBuf,
    rows: Vec<TableRow>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RowTimes {
    created_ms: i64,
    updated_ms: i64,
    /// True if the row has a title, so that the rollout need not be read for one.
    has_title: bool,
}

#[derive(Debug)]
struct TableRow {
    id: ConversationId,
    times: RowTimes,
    archived: bool,
}

/// Reads the table of the database at `path`. Returns `None` if it has no such table.
///
/// # Errors
/// The database is damaged or locked by another process.
pub fn read_table(path: &Path) -> Result<Option<ThreadTable>, DatabaseError> {
    let rows = threads::fold_rows(path, Vec::new, |rows, row: ThreadRow| {
        rows.push(TableRow {
            times: RowTimes {
                created_ms: row.created_ms.unwrap_or(0),
                updated_ms: row.updated_ms.unwrap_or(0),
                has_title: !row.title.trim().is_empty()
                    || first_line(&row.first_user_message).is_some(),
            },
            archived: row.archived,
            id: ConversationId::of(&row.id),
        });
    })?;
    Ok(rows.map(|rows| ThreadTable {
        path: path.to_path_buf(),
        rows,
    }))
}

/// A conversation with the facts gathered so far.
pub(super) struct RebuildConversation {
    pub(super) id: ConversationId,
    pub(super) row: Option<RowTimes>,
    /// The range of the conversation in [`ConversationSet::owned`].
    files: Range<u32>,
    created: Option<Rfc3339Time>,
    pub(super) updated: Option<Rfc3339Time>,
    /// False if the limit leaves it out.
    pub(super) is_restored: bool,
    /// The title from the rollout, if the row has none.
    pub(super) title: Option<String>,
    /// True if the name in the index equals the title derived from the rollout, so the user did not
    /// give it.
    pub(super) is_index_derived: bool,
}

impl RebuildConversation {
    fn new(id: ConversationId, row: Option<RowTimes>) -> Self {
        Self {
            id,
            row,
            files: 0..0,
            created: None,
            updated: None,
            is_restored: true,
            title: None,
            is_index_derived: false,
        }
    }

    pub(super) fn files(&self) -> Range<usize> {
        self.files.start as usize..self.files.end as usize
    }

    /// Sets the time of the last change: the later of rollout and row, else the time of creation.
    pub(super) fn set_updated(&mut self, last: Option<Rfc3339Time>) {
        let of_row = |millis: fn(&RowTimes) -> i64| {
            let millis = self.row.as_ref().map(millis).filter(|millis| *millis != 0);
            millis.and_then(Rfc3339Time::from_millis)
        };
        let updated = Rfc3339Time::later_of(last, of_row(|row| row.updated_ms));
        self.updated = updated
            .or_else(|| of_row(|row| row.created_ms))
            .or_else(|| self.created.clone());
    }

    pub(super) fn has_title(&self) -> bool {
        self.row.is_some_and(|row| row.has_title)
    }
}

/// All conversations of a rebuild with their rollouts.
pub(super) struct ConversationSet {
    pub(super) source: RebuildSource,
    /// Sorted by id, without duplicates.
    pub(super) conversations: Vec<RebuildConversation>,
    files: Vec<RolloutFile>,
    /// Indices into `files`, grouped by conversation.
    owned: Vec<u32>,
    /// Conversations on disk that the rebuild leaves out: archived, or not in the database.
    excluded: HashSet<ConversationId>,
    pub(super) orphans: usize,
    pub(super) without_id: usize,
}

impl ConversationSet {
    pub(super) fn find(&self, id: &ConversationId) -> Option<&RebuildConversation> {
        let place = self.position(id)?;
        self.conversations.get(place)
    }

    /// Returns true if a rollout of this conversation is on disk, or the conversation has an archived row.
    pub(super) fn has(&self, id: &ConversationId) -> bool {
        self.excluded.contains(id) || self.find(id).is_some_and(|c| !c.files.is_empty())
    }

    pub(super) fn position(&self, id: &ConversationId) -> Option<usize> {
        self.conversations.binary_search_by(|c| c.id.cmp(id)).ok()
    }

    pub(super) fn path(&self, home: &Path, owned: usize) -> PathBuf {
        self.files[self.owned[owned] as usize].path(home)
    }
}

/// A rollout with the conversation that it belongs to.
struct OwnedRollout {
    id: ConversationId,
    /// The index in [`ConversationSet::files`].
    file: u32,
    /// The time of creation, if no row has it.
    created: Option<Rfc3339Time>,
}

/// Collects the conversations to rebuild, each with its rollouts.
pub(super) fn gather(
    home: &Path,
    table: Option<ThreadTable>,
    include_orphans: bool,
    skipped: &mut Vec<SkippedFile>,
) -> Result<ConversationSet, HistoryError> {
    let (conversations, archived) = split_archived(table);
    let mut set = ConversationSet {
        source: if conversations.is_empty() {
            RebuildSource::Rollouts
        } else {
            RebuildSource::Database
        },
        conversations,
        files: Vec::new(),
        owned: Vec::new(),
        excluded: HashSet::new(),
        orphans: 0,
        without_id: 0,
    };
    let mut files = files::find(home)?;
    // A file name has the id of its conversation, so archived rollouts are not read.
    for file in files.extract_if(.., |file| file.is_archived) {
        let name = RolloutName::parse(&file.relative);
        let id = name.and_then(|name| name.id().map(ConversationId::of));
        set.excluded.extend(id);
    }
    let takes_orphans = include_orphans || set.source == RebuildSource::Rollouts;
    let mut found = Vec::new();
    let paths = files.iter().map(|file| file.path(home));
    for_each_file(
        paths,
        HEADS_AT_A_TIME,
        skipped,
        rollout::read_head,
        |i, meta| {
            match meta {
                None => set.without_id += 1,
                // Codex does not open those of before 0.32.
                Some(meta) if archived.contains(&meta.id) || !meta.has_envelope => {}
                Some(meta) => {
                    let file = u32::try_from(i).unwrap_or(u32::MAX);
                    found.extend(set.claim_rollout(file, meta, takes_orphans));
                }
            }
            Ok(())
        },
    )?;
    set.files = files;
    set.assign_rollouts(found);
    set.excluded.extend(archived);
    Ok(set)
}

/// Returns the conversations of the unarchived rows, sorted by id without duplicates, and the ids of the archived rows.
fn split_archived(
    table: Option<ThreadTable>,
) -> (Vec<RebuildConversation>, HashSet<ConversationId>) {
    let (mut conversations, mut archived) = (Vec::new(), HashSet::new());
    for row in table.map_or(Vec::new(), |table| table.rows) {
        if row.archived {
            archived.insert(row.id);
        } else {
            conversations.push(RebuildConversation::new(row.id, Some(row.times)));
        }
    }
    // Two rows may name one conversation in different case; the stable sort keeps Codex's spelling,
    // which is read first.
    conversations.sort_by(|a, b| a.id.cmp(&b.id));
    conversations.dedup_by(|a, b| a.id == b.id);
    (conversations, archived)
}

impl ConversationSet {
    /// Assigns a rollout to the conversation in its metadata. Returns `None`, and counts an orphan, if the rebuild
    /// leaves the conversation out because it has no row.
    fn claim_rollout(
        &mut self,
        file: u32,
        meta: SessionMeta,
        takes_orphans: bool,
    ) -> Option<OwnedRollout> {
        let known = self.position(&meta.id);
        if known.is_none() && !takes_orphans {
            self.orphans += 1;
            self.excluded.insert(meta.id);
            return None;
        }
        let row = known.and_then(|place| self.conversations[place].row);
        let is_undated = row.is_none_or(|row| row.created_ms == 0);
        Some(OwnedRollout {
            created: meta.created().filter(|_| is_undated),
            id: meta.id,
            file,
        })
    }

    /// Adds the conversations without a row, and assigns the rollouts to their conversations.
    fn assign_rollouts(&mut self, mut owners: Vec<OwnedRollout>) {
        owners.sort_unstable_by(|a, b| (&a.id, a.file).cmp(&(&b.id, b.file)));
        let new: Vec<_> = owners
            .chunk_by(|a, b| a.id == b.id)
            .filter(|owners| self.position(&owners[0].id).is_none())
            .map(|owners| RebuildConversation::new(owners[0].id.clone(), None))
            .collect();
        self.conversations.extend(new);
        self.conversations.sort_by(|a, b| a.id.cmp(&b.id));
        self.conversations.shrink_to_fit();
        self.owned = Vec::with_capacity(owners.len());
        for OwnedRollout { id, file, created } in owners {
            let end = u32::try_from(self.owned.len() + 1).unwrap_or(u32::MAX);
            self.owned.push(file);
            if let Some(place) = self.position(&id) {
                let conversation = &mut self.conversations[place];
                if conversation.files.is_empty() {
                    conversation.files.start = end - 1;
                }
                conversation.files.end = end;
                conversation.created = conversation.created.take().or(created);
            }
        }
    }
}
