//! Selects the conversations of a rebuild and determines when each was changed last.

use super::plan::RebuildSource;
use crate::codex::{DatabaseError, ThreadRow, threads};
use crate::history::rollout::first_line;
use crate::history::{
    ConversationId, HEADS_AT_A_TIME, HistoryError, RolloutFile, SessionMeta, SkippedFile, files,
    for_each_file, rollout,
};
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
    /// The title; empty if Codex has none, and for archived rows.
    pub(super) title: String,
    /// The first line of the user's first message.
    pub(super) first_message: Option<String>,
}

/// Reads the table of the database at `path`. Returns `None` if it has no such table.
///
/// # Errors
/// The database is damaged or locked by another process.
pub(crate) fn read_table(path: &Path) -> Result<Option<Vec<TableRow>>, DatabaseError> {
    threads::fold_rows(path, Vec::new, |rows, mut row: ThreadRow| {
        if row.archived {
            // Only the id of an archived row is used, and a title may be a whole first message.
            (row.title, row.first_user_message) = Default::default();
        }
        rows.push(TableRow {
            id: ConversationId::of(&row.id),
            created_ms: row.created_ms.unwrap_or(0),
            updated_ms: row.updated_ms.unwrap_or(0),
            archived: row.archived,
            given_name: row.given_name().map(str::to_owned),
            first_message: first_line(&row.first_user_message),
            title: row.title,
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
    /// The latest time in the rollouts read so far.
    last: Option<Rfc3339Time>,
    pub(super) updated: Option<Rfc3339Time>,
    /// False if the limit leaves the conversation out.
    pub(super) is_restored: bool,
    /// The title from the rollout, if that was read completely.
    pub(super) title: Option<String>,
}

impl RebuildConversation {
    fn new(id: ConversationId, row: Option<TableRow>) -> Self {
        Self {
            id,
            row,
            files: Vec::new(),
            created: None,
            last: None,
            updated: None,
            is_restored: true,
            title: None,
        }
    }

    fn add_rollout(&mut self, file: RolloutFile, meta: &SessionMeta) {
        self.files.push(file);
        if self.row.as_ref().is_none_or(|row| row.created_ms == 0) {
            self.created = self.created.take().or_else(|| meta.created());
        }
    }

    /// Adds the time of the last line of a rollout.
    pub(super) fn add_time(&mut self, time: Option<Rfc3339Time>) {
        self.last = Rfc3339Time::later_of(self.last.take(), time);
    }

    /// Sets the time of the last change: the later of rollouts and row, else the time of creation.
    pub(super) fn set_updated(&mut self) {
        let of_row = |millis: fn(&TableRow) -> i64| {
            let millis = self.row.as_ref().map(millis).filter(|millis| *millis != 0);
            millis.and_then(Rfc3339Time::from_millis)
        };
        let updated = Rfc3339Time::later_of(self.last.take(), of_row(|row| row.updated_ms));
        self.updated = updated
            .or_else(|| of_row(|row| row.created_ms))
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
    pub(super) orphans: usize,
    pub(super) without_id: usize,
}

impl ConversationSet {
    pub(super) fn find(&self, id: &ConversationId) -> Option<&RebuildConversation> {
        let place = self.position(id)?;
        self.conversations.get(place)
    }

    fn position(&self, id: &ConversationId) -> Option<usize> {
        self.conversations.binary_search_by(|c| c.id.cmp(id)).ok()
    }

    /// Returns the rollouts of the conversations at these places: the place of each one's conversation, and its path.
    pub(super) fn list_rollouts(
        &self,
        home: &Path,
        places: &[usize],
    ) -> (Vec<usize>, Vec<PathBuf>) {
        let files = |place: &usize| self.conversations[*place].files.iter();
        let rollouts = places
            .iter()
            .flat_map(|place| files(place).map(|file| (*place, file.path(home))));
        rollouts.unzip()
    }
}

/// Collects the conversations to rebuild, each with its rollouts.
pub(super) fn gather(
    home: &Path,
    table: Option<Vec<TableRow>>,
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
        orphans: 0,
        without_id: 0,
    };
    let mut files = files::find(home)?;
    files.retain(|file| !file.is_archived);
    let takes_orphans = include_orphans || set.source == RebuildSource::Rollouts;
    let mut orphans = BTreeMap::new();
    let paths = files.iter().map(|file| file.path(home));
    let read = rollout::read_head;
    for_each_file(paths, HEADS_AT_A_TIME, skipped, read, |i, meta| {
        let Some(meta) = meta else {
            set.without_id += 1;
            return Ok(());
        };
        // Codex does not open rollouts of versions before 0.32.
        if archived.contains(&meta.id) || !meta.has_envelope {
            return Ok(());
        }
        let new = || RebuildConversation::new(meta.id.clone(), None);
        match set.position(&meta.id) {
            Some(place) => set.conversations[place].add_rollout(files[i].clone(), &meta),
            None if takes_orphans => {
                let orphan = orphans.entry(meta.id.clone()).or_insert_with(new);
                orphan.add_rollout(files[i].clone(), &meta);
            }
            None => set.orphans += 1,
        }
        Ok(())
    })?;
    set.conversations.extend(orphans.into_values());
    set.conversations.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(set)
}

/// Returns the conversations of the unarchived rows, sorted by id without duplicates, and the ids of the archived rows.
fn split_archived(
    table: Option<Vec<TableRow>>,
) -> (Vec<RebuildConversation>, HashSet<ConversationId>) {
    let (mut conversations, mut archived) = (Vec::new(), HashSet::new());
    for row in table.unwrap_or_default() {
        if row.archived {
            archived.insert(row.id);
        } else {
            conversations.push(RebuildConversation::new(row.id.clone(), Some(row)));
        }
    }
    // Two rows may name one conversation in different case; the stable sort keeps Codex's spelling,
    // which is read first.
    conversations.sort_by(|a, b| a.id.cmp(&b.id));
    conversations.dedup_by(|a, b| a.id == b.id);
    (conversations, archived)
}
