//! Makes synced conversations known to Codex's index on this machine.
//!
//! Codex lists new conversation files by itself, but `resume --last` and a resume by name use rows of Codex's database.
//! Codex does not notice that a conversation was moved, or that a file was replaced after Codex indexed it. The rows of
//! conversations that were not synced stay as they are, except that `[[paths.map]]` applies to all rows.

use super::config::PathRule;
use super::rollouts;
use crate::codex::database::DatabaseError;
use crate::codex::rollout::RolloutName;
use crate::codex::threads::find_databases;
use crate::codex::threads::live;
use crate::codex::{Projections, home};
use crate::history::files::{self, RolloutFile};
use crate::history::id::ConversationId;
use crate::history::repair_plan::RepairAction;
use crate::history::session_index::ThreadNameIndex;
use crate::history::{self, HistoryError, check, repair};
use crate::io::environment::Environment;
use crate::io::quantity::pluralize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// An error of updating Codex's index. The synced files are in place, and `codex resume <id>` finds them.
#[derive(Debug, thiserror::Error)]
pub enum IndexUpdateError {
    #[error("the files are in place, but Codex's index could not be updated")]
    Database(#[from] DatabaseError),
    #[error("the files are in place, but Codex's index could not be updated")]
    History(#[from] HistoryError),
}

/// The change of a local conversation's text; see [`ContentChange::followed_by`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentChange {
    #[serde(rename = "same")]
    Unchanged,
    /// The conversation got another name in `session_index.jsonl`; no rollout changed.
    Renamed,
    /// Text was appended, so Codex's index of the file stays valid.
    Extended,
    /// The home lacked the rollout. Codex may know an earlier text of it, which was moved to the trash or removed.
    New,
    /// The text was replaced, so Codex's offsets into it are invalid.
    Replaced,
    /// The rollout was deleted, as on another machine.
    Deleted,
}

impl ContentChange {
    /// Combines this change with a later one: the one that comes later in the list of variants counts. But a text that
    /// is written after a deletion counts as replaced, because Codex may still have the deleted text in its index.
    pub(crate) fn followed_by(self, later: Self) -> Self {
        match (self, later) {
            (Self::Deleted, Self::Extended | Self::New | Self::Replaced) => Self::Replaced,
            _ => self.max(later),
        }
    }
}

/// A conversation that a sync changed on this machine, or that another machine renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexUpdate {
    /// Conversation id, a UUID.
    pub id: String,
    /// Path of the rollout, relative to the Codex home; that of the index of names for [`ContentChange::Renamed`].
    pub path: String,
    /// [`ContentChange::Unchanged`] if the sync only renamed the file or removed a duplicate of it, so that Codex's row
    /// may name a missing file.
    pub change: ContentChange,
}

impl IndexUpdate {
    /// Returns the update for a conversation that is written to `path`, relative to the Codex home; `None` for other
    /// files.
    pub fn from_path(path: &str, change: ContentChange) -> Option<Self> {
        Some(Self {
            id: rollouts::id(&rollouts::key(path)?)?,
            path: path.to_owned(),
            change,
        })
    }

    /// Returns the id of the rollout, under which Codex stores its projection.
    pub(super) fn rollout_id(&self) -> Option<String> {
        rollouts::rollout_id(&rollouts::key(&self.path)?)
    }

    fn projected_id(&self) -> String {
        self.rollout_id().unwrap_or_else(|| self.id.clone())
    }
}

/// Codex's lists of the conversations of one home: its databases and the index of names.
#[derive(Debug)]
pub struct CodexIndex<'a> {
    pub home: &'a Path,
    /// The environment, which determines where the databases are.
    pub env: &'a Environment,
    /// Rules of `[[paths.map]]`: project folders of other machines and the local ones.
    pub rules: &'a [PathRule],
}

impl CodexIndex<'_> {
    /// Updates Codex's lists of conversations while Codex does not run. Skips files in `updates` that a killed run
    /// never wrote. Returns notes for the user.
    ///
    /// # Errors
    /// The index of names or a database cannot be read or written. The files are in place.
    pub fn update_index(&self, updates: Vec<IndexUpdate>) -> Result<Vec<String>, IndexUpdateError> {
        let is_renamed = |update: &IndexUpdate| update.change == ContentChange::Renamed;
        let (renamed, updates): (Vec<_>, Vec<_>) = updates.into_iter().partition(is_renamed);
        let updates = &*updates;
        let rollouts = find_rollouts_of(self.home, updates);
        let deleted_count = self.delete_rows_of_deleted(updates, &rollouts)?;

        // Rows first: names, modes and folders are columns of the rows.
        let row_count = self.register_rollouts(rollouts)?;
        let mut renamed_ids: BTreeSet<_> = renamed.into_iter().map(|update| update.id).collect();
        renamed_ids.extend(self.update_modes(updates)?);
        let renamed_count = self.update_names(&renamed_ids)?;

        let counts = [
            ("removed from Codex's index", deleted_count),
            ("added to Codex's index", row_count),
            ("renamed in Codex's lists", renamed_count),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let notes = counts.map(|(change, count)| {
            let conversations = pluralize(count, "conversation");
            format!("{change}: {conversations}")
        });
        let mut notes: Vec<_> = notes.collect();

        let has_updates = !updates.is_empty();
        notes.extend(self.map_project_folders(has_updates)?);
        self.delete_rewritten_projections(updates)?;
        Ok(notes)
    }

    /// Deletes the projections of the rewritten rollouts. The projections of a conversation's other rollouts stay,
    /// because Codex does not read the base of a rewind again.
    fn delete_rewritten_projections(
        &self,
        updates: &[IndexUpdate],
    ) -> Result<(), IndexUpdateError> {
        let databases = find_databases(self.home, self.env, home::HISTORY_DATABASE_PREFIX);
        let projections = databases.iter().map(|path| Projections::read_beside(path));
        let projections: Vec<_> = projections.collect();
        // Most new rollouts have no projection, and then no database of Codex is opened for a change.
        let is_projected = |id: &str| projections.iter().any(|p| p.projected_offset(id).is_some());
        let rewritten = filter_rewritten(updates).filter(|update| {
            update.change == ContentChange::Replaced || is_projected(&update.projected_id())
        });
        self.delete_projections(&rewritten.collect::<Vec<_>>())
    }

    /// Copies the names of these conversations from `session_index.jsonl` to Codex's rows. Returns the number of
    /// changed rows.
    fn update_names(&self, ids: &BTreeSet<String>) -> Result<usize, IndexUpdateError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let index = ThreadNameIndex::read(self.home).map_err(HistoryError::from)?;
        let mut names = Vec::new();
        for id in ids {
            let name_line = index.get(&ConversationId::of(id));
            if let Some(name_line) = name_line.map_err(HistoryError::from)? {
                names.push((id.clone(), name_line.thread_name));
            }
        }

        let is_name_given = |id: &str, name: &str, row_texts: [&str; 3]| {
            check::is_given_name(name, &ConversationId::of(id), row_texts)
        };
        let mut changed_rows = 0;
        for database in self.find_state_databases() {
            changed_rows += live::set_names(&database, &names, is_name_given)?;
        }
        Ok(changed_rows)
    }

    /// Deletes the rows and the projections of the conversations whose last rollout another machine deleted, as Codex
    /// does when it deletes a conversation. `rollouts` are the rollouts that the updated conversations still have.
    /// Returns the number of deleted rows.
    fn delete_rows_of_deleted(
        &self,
        updates: &[IndexUpdate],
        rollouts: &[RolloutFile],
    ) -> Result<usize, IndexUpdateError> {
        let ids = rollouts.iter().filter_map(|file| {
            let name = RolloutName::parse(&file.relative)?;
            name.id().map(str::to_lowercase)
        });
        let ids_on_disk: HashSet<String> = ids.collect();

        let deleted = updates.iter().filter(|update| {
            update.change == ContentChange::Deleted
                && !ids_on_disk.contains(&update.id.to_lowercase())
        });
        let deleted: Vec<_> = deleted.collect();
        let deleted_ids: Vec<_> = deleted.iter().map(|update| &*update.id).collect();
        self.delete_projections(&deleted)?;

        let mut count = 0;
        for database in self.find_state_databases() {
            count += live::delete_rows(&database, &deleted_ids)?;
        }
        Ok(count)
    }

    /// Adds the conversations of these rollouts to Codex's table `threads`, and changes the rows of moved and rewound
    /// conversations to name their newest rollouts. Returns the number of new rows.
    fn register_rollouts(&self, rollouts: Vec<RolloutFile>) -> Result<usize, IndexUpdateError> {
        if rollouts.is_empty() {
            return Ok(0);
        }
        let changes = repair::register_rollouts(self.home, self.env, rollouts)?;
        let rows = changes.iter().filter(|c| c.action == RepairAction::AddRow);
        Ok(rows.count())
    }

    /// Copies the history mode of rewritten and rewound conversations from their rollouts to their rows. Codex 0.169
    /// shows no turn of a migrated rollout whose row has the legacy mode. Returns the ids of the changed rows. Their
    /// names have to be copied again, because in the other mode, Codex reads names from another place.
    fn update_modes(&self, updates: &[IndexUpdate]) -> Result<Vec<String>, IndexUpdateError> {
        let mut modes = Vec::new();
        let is_rewound = |update: &&IndexUpdate| rollouts::is_rewind(&update.path);
        let rewound = updates.iter().filter(is_rewound);
        for update in filter_rewritten(updates).chain(rewound) {
            let head = history::rollout::read_head(&self.home.join(&update.path));
            if let Ok(Some(meta)) = head {
                modes.push((update.id.clone(), meta.history_mode().to_owned()));
            }
        }

        let mut changed_ids = Vec::new();
        if !modes.is_empty() {
            for database in self.find_state_databases() {
                changed_ids.extend(live::set_history_modes(&database, &modes)?);
            }
        }
        Ok(changed_ids)
    }

    /// Maps project folders by the rules. Returns notes for the user: with `has_updates`, also one if Codex has no
    /// index yet.
    fn map_project_folders(&self, has_updates: bool) -> Result<Vec<String>, IndexUpdateError> {
        let mut notes = Vec::new();
        if self.rules.is_empty() {
            return Ok(notes);
        }

        let databases = self.find_state_databases();
        if databases.is_empty() && has_updates {
            let note = "paths.map has no effect yet, because Codex has no index on this machine; start Codex once, then sync again";
            notes.push(note.into());
        }

        for database in databases {
            for rule in self.rules {
                let changed = live::map_project_folders(&database, &rule.from, &rule.to)?;
                if changed > 0 {
                    let conversations = pluralize(changed, "conversation");
                    notes.push(format!(
                        "mapped in Codex's index: {conversations} from {} to {}",
                        rule.from, rule.to
                    ));
                }
            }
        }
        Ok(notes)
    }

    /// Deletes the projections of rewritten or deleted rollouts, which show the former text.
    fn delete_projections(&self, updates: &[&IndexUpdate]) -> Result<(), IndexUpdateError> {
        let rollout_ids: Vec<_> = updates.iter().map(|u| u.projected_id()).collect();
        let rollout_ids: Vec<_> = rollout_ids.iter().map(String::as_str).collect();
        if rollout_ids.is_empty() {
            return Ok(());
        }
        for database in find_databases(self.home, self.env, home::HISTORY_DATABASE_PREFIX) {
            live::delete_projections(&database, &rollout_ids)?;
        }
        Ok(())
    }

    /// Returns true if Codex has an index of this home. Without one, names cannot be stored yet.
    pub fn exists(&self) -> bool {
        !self.find_state_databases().is_empty()
    }

    fn find_state_databases(&self) -> Vec<PathBuf> {
        find_databases(self.home, self.env, home::STATE_DATABASE_PREFIX)
    }
}

/// Returns the updates of rollouts of which Codex may have indexed another text. A new rollout is among them, because
/// it may have been on this machine before, with other turns.
fn filter_rewritten(updates: &[IndexUpdate]) -> impl Iterator<Item = &IndexUpdate> {
    let rewriting_changes = [ContentChange::New, ContentChange::Replaced];
    let updates = updates.iter();
    updates.filter(move |update| rewriting_changes.contains(&update.change))
}

/// Finds all rollouts of the updated conversations on disk, because Codex may continue a rollout that this run did not
/// write.
fn find_rollouts_of(home: &Path, updates: &[IndexUpdate]) -> Vec<RolloutFile> {
    if updates.is_empty() {
        return Vec::new();
    }

    let threads = updates.iter().map(|update| update.id.to_lowercase());
    let threads: HashSet<_> = threads.collect();
    let (mut files, _skipped) = files::find_readable(home);
    files.retain(|file| {
        let name = RolloutName::parse(&file.relative);
        let id = name.as_ref().and_then(RolloutName::id);
        id.is_some_and(|id| threads.contains(&id.to_lowercase()))
    });
    files
}
