//! The plan of a repair: the changes of the state database.

use super::check::{Findings, MissingRow, OrphanRow, is_given_name};
use super::conversations::Conversations;
use super::id::ConversationId;
use super::rollout::{self, SessionMeta};
use super::row;
use super::session_index::ThreadNameIndex;
use super::snapshot::RepairedValues;
use super::unreadable::{ContinuedRollout, UnreadableCause, UnreadableConversation};
use super::{HistoryError, SkippedFile, files, for_each_file};
use crate::codex::threads::{PAGINATED, RowEditor, RowTexts};
use crate::codex::{DatabaseError, HISTORY_DATABASE_PREFIX, RolloutName, threads};
use crate::io::{Environment, pluralize};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// The mode of conversations whose rollouts Codex has not migrated.
const LEGACY: &str = "legacy";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairAction {
    /// Corrects the path or the archived flag of a row.
    Path,
    #[serde(rename = "row")]
    AddRow,
    Name,
    /// Sets title, first message and preview where they are empty. Codex lists no conversation without a preview.
    Preview,
    /// Sets the mode of a row to that of its rollout.
    Mode,
    /// Has Codex read the rollouts of a conversation again, because it shows the conversation without some turns.
    Turns,
    /// Has Codex recreate the whole database.
    Database,
    /// Deletes a row whose rollout does not exist.
    #[serde(rename = "drop")]
    DropRow,
}

/// One change of a repair. Its JSON keys are a stable interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairChange {
    /// The conversation; empty if the whole database is recreated.
    pub id: ConversationId,
    pub action: RepairAction,
    /// The value before: a path, a mode, a number of turns, or the problem of the database. Null if there was none.
    pub from: Option<String>,
    /// The value after: a path, a name, a preview, a mode, or the number of turns or of conversations. Empty for a
    /// deleted row.
    pub to: String,
    #[serde(skip)]
    pub(super) archived: bool,
    /// True if the rollout of a new row is paginated.
    #[serde(skip)]
    is_paginated: bool,
    /// The texts of a row that lacks them.
    #[serde(skip)]
    pub(super) texts: RowTexts,
    /// The id exactly as the row has it, if its spelling differs from `id`.
    #[serde(skip)]
    pub(super) row_id: Option<Box<str>>,
}

impl RepairChange {
    /// Creates a change of a value that was missing before.
    fn new(id: ConversationId, action: RepairAction, to: String) -> Self {
        Self {
            id,
            action,
            from: None,
            to,
            archived: false,
            is_paginated: false,
            texts: RowTexts::default(),
            row_id: None,
        }
    }

    /// Returns the id exactly as the row has it.
    fn row_id(&self) -> String {
        match &self.row_id {
            Some(id) => id.clone().into_string(),
            None => self.id.to_string(),
        }
    }

    /// Changes the existing row of the conversation. Does nothing if the change adds a row or concerns no row.
    pub(super) fn change_row(&self, rows: &RowEditor<'_>) -> Result<(), DatabaseError> {
        let id = self.row_id();
        match self.action {
            RepairAction::Path => rows.set_path(&id, &self.to, self.archived),
            RepairAction::Name => rows.set_name(&id, &self.to),
            RepairAction::Preview => rows.add_texts(&id, &self.texts),
            RepairAction::Mode => rows.set_mode(&id, PAGINATED),
            RepairAction::DropRow => rows.delete(&id),
            RepairAction::AddRow | RepairAction::Turns | RepairAction::Database => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub struct RepairPlan {
    /// The changes, in the order of their application: a new row precedes its name.
    pub changes: Vec<RepairChange>,
    /// True if the database is missing or unusable, so that Codex has to recreate it.
    pub recreates_database: bool,
    pub database: Option<PathBuf>,
    /// Rollouts that could not be read; their conversations get no row or name.
    pub skipped: Vec<SkippedFile>,
    /// The number of differences that a repair does not touch.
    pub unrepairable: usize,
    /// The rows without a rollout in the home.
    orphan_rows: Vec<OrphanRow>,
    /// The canonical path of the home.
    pub(super) home: PathBuf,
    pub(super) provider: String,
    pub(super) unprojected: Vec<ContinuedRollout>,
    /// The ids of rollouts that are shorter than their projections. These projections are deleted.
    pub(super) shortened: Vec<String>,
    /// The database of the projections; `None` if the home has none.
    pub(super) projections: Option<PathBuf>,
    /// All conversations, if the database is recreated; else empty.
    pub(super) conversations: Conversations,
}

#[derive(Debug, Clone, Copy)]
pub struct RepairContext<'a> {
    pub home: &'a Path,
    /// The manager home, which keeps the snapshots.
    pub manager_home: &'a Path,
    /// The environment. `CODEX_SQLITE_HOME` may name another folder for the databases.
    pub env: &'a Environment,
}

/// Returns the path at which Codex creates its database of projections.
pub(super) fn new_projections_path(context: &RepairContext<'_>) -> PathBuf {
    let folder = threads::find_state_folder(context.home, context.env);
    folder.join(format!("{HISTORY_DATABASE_PREFIX}1.sqlite"))
}

/// Plans a repair. Reads only the rollouts of conversations that lack a row and have a line in the
/// name index.
pub fn plan(findings: Findings, provider: &str) -> Result<RepairPlan, HistoryError> {
    let Findings {
        home,
        conversations,
        projections,
        has_table,
        index,
        report,
    } = findings;

    let mut plan = RepairPlan {
        recreates_database: !has_table && !conversations.is_empty(),
        unrepairable: report.count_unrepairable(),
        database: report.database,
        orphan_rows: report.orphan_rows,
        home,
        provider: provider.to_owned(),
        projections: projections.database,
        ..RepairPlan::default()
    };

    for stale in report.stale_path {
        let path = plan.recorded_path(&conversations, &stale.id, &stale.path);
        plan.changes.push(RepairChange {
            from: Some(stale.recorded),
            archived: stale.archived,
            row_id: stale.row_id,
            ..RepairChange::new(stale.id, RepairAction::Path, path)
        });
    }

    for lost in report.names_missing {
        plan.changes.push(RepairChange {
            row_id: lost.row_id,
            ..RepairChange::new(lost.id, RepairAction::Name, lost.name)
        });
    }

    for row in report.preview_missing {
        plan.changes.push(RepairChange {
            texts: row.texts,
            row_id: row.row_id,
            ..RepairChange::new(row.id, RepairAction::Preview, row.preview)
        });
    }

    plan.add_unreadable(report.unreadable);
    if plan.recreates_database {
        let to = pluralize(report.missing.len(), "conversation");
        // The change concerns the whole database, so it names no conversation.
        let id = ConversationId::of("");
        plan.changes.push(RepairChange {
            from: report.problem,
            ..RepairChange::new(id, RepairAction::Database, to)
        });
    }

    plan.add_missing(report.missing, &index, &conversations)?;
    if plan.recreates_database {
        plan.conversations = conversations;
    }
    Ok(plan)
}

impl RepairPlan {
    /// Returns true if Codex has to create a part of its databases.
    pub fn needs_codex(&self) -> bool {
        self.recreates_database || !self.unprojected.is_empty()
    }

    /// Adds the deletion of each row whose rollout does not exist. Rows stay if their rollouts are outside of the home or
    /// damaged, or may be in a folder that cannot be read.
    ///
    /// # Errors
    /// A folder of the home cannot be read.
    pub fn drop_missing_rows(&mut self) -> Result<(), HistoryError> {
        let ids: HashSet<_> = files::find_rollouts(&self.home)?
            .iter()
            .filter_map(|file| {
                RolloutName::parse(&file.relative)?
                    .id()
                    .map(ConversationId::of)
            })
            .collect();
        for row in std::mem::take(&mut self.orphan_rows) {
            if ids.contains(&row.id) || !is_known_missing(&row.recorded) {
                continue;
            }
            self.unrepairable -= 1;
            self.changes.push(RepairChange {
                from: Some(row.recorded),
                row_id: row.row_id,
                ..RepairChange::new(row.id, RepairAction::DropRow, String::new())
            });
        }
        Ok(())
    }

    /// Returns the paths, modes and names before and after the repair, by the ids of the rows.
    pub(super) fn repaired_values(&self) -> RepairedValues {
        let mut values = RepairedValues::new();
        for change in &self.changes {
            let mode = match change.action {
                RepairAction::Path | RepairAction::Name | RepairAction::Mode => None,
                RepairAction::AddRow if change.is_paginated => Some(PAGINATED),
                RepairAction::AddRow => Some(LEGACY),
                // These change no path, mode or name of a row.
                RepairAction::Preview
                | RepairAction::Turns
                | RepairAction::Database
                | RepairAction::DropRow => continue,
            };
            let known_values = [change.from.as_deref(), Some(&*change.to), mode];
            let known_values = known_values.into_iter().flatten().map(str::to_owned);
            let row_values = values.entry(change.row_id()).or_default();
            row_values.extend(known_values);
        }
        values
    }

    /// Adds a row for each conversation without one, and the name that the user gave to it. Adds only the names if
    /// Codex recreates the database.
    fn add_missing(
        &mut self,
        missing_rows: Vec<MissingRow>,
        index: &ThreadNameIndex,
        conversations: &Conversations,
    ) -> Result<(), HistoryError> {
        let mut names = find_given_names(&missing_rows, index, &mut self.skipped)?;
        for missing in missing_rows {
            // Codex adds the rows itself when it recreates the database.
            if !self.recreates_database {
                let path = self.recorded_path(conversations, &missing.id, &missing.path);
                let used_rollout = conversations.rollouts_of(&missing.id).first();
                self.changes.push(RepairChange {
                    archived: missing.archived,
                    is_paginated: used_rollout.is_some_and(|rollout| rollout.is_paginated),
                    ..RepairChange::new(missing.id.clone(), RepairAction::AddRow, path)
                });
            }
            if let Some(name) = names.remove(&missing.id) {
                let change = RepairChange::new(missing.id, RepairAction::Name, name);
                self.changes.push(change);
            }
        }
        Ok(())
    }

    fn add_unreadable(&mut self, unreadable: Vec<UnreadableConversation>) {
        let unreadable = unreadable.into_iter();
        for conversation in unreadable.filter(UnreadableConversation::is_repairable) {
            let turns_shown = conversation.turns_shown.to_string();
            let turns_on_disk = || pluralize(conversation.turns_on_disk, "turn");
            let (action, from, to) = match conversation.cause {
                UnreadableCause::Mode => {
                    (RepairAction::Mode, LEGACY.to_owned(), PAGINATED.to_owned())
                }
                UnreadableCause::Unprojected(rollouts) => {
                    self.unprojected.extend(rollouts);
                    (RepairAction::Turns, turns_shown, turns_on_disk())
                }
                UnreadableCause::Shortened { rollout_id, .. } => {
                    self.shortened.push(rollout_id);
                    (RepairAction::Turns, turns_shown, turns_on_disk())
                }
                // The filter above has left these out.
                UnreadableCause::NoOrdinal
                | UnreadableCause::Boundary
                | UnreadableCause::MissingBase(_) => continue,
            };

            self.changes.push(RepairChange {
                from: Some(from),
                row_id: Some(conversation.row_id.into()),
                ..RepairChange::new(conversation.id, action, to)
            });
        }
    }

    /// Returns the path of a rollout for its row: canonical, and without `.zst`.
    fn recorded_path(
        &self,
        conversations: &Conversations,
        id: &ConversationId,
        path: &Path,
    ) -> String {
        let rollout = conversations
            .rollouts_of(id)
            .iter()
            .find(|c| path.ends_with(&c.file.relative));
        let path = rollout.map_or_else(|| path.to_path_buf(), |c| c.file.plain_path(&self.home));
        path.to_string_lossy().into_owned()
    }
}

/// Returns true if neither the plain nor the compressed rollout exists at a path that Codex recorded.
fn is_known_missing(recorded: &str) -> bool {
    let is_missing = |path: &PathBuf| {
        path.symlink_metadata()
            .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    };
    rollout::possible_paths(recorded).iter().all(is_missing)
}

/// Returns the names that the user gave to conversations without a row. Reads only the rollouts of conversations that
/// have a line in the index.
fn find_given_names(
    missing: &[MissingRow],
    index: &ThreadNameIndex,
    skipped: &mut Vec<SkippedFile>,
) -> Result<HashMap<ConversationId, String>, HistoryError> {
    let indexed = missing.iter().filter(|row| index.has_line(&row.id));
    let rollouts = indexed.map(|row| (&row.id, row.path.clone()));
    let mut names = HashMap::new();
    for_each_file(rollouts, skipped, row::scan_rollout, |id, scan| {
        let line = index.get(id)?;
        // Codex reads the name of a conversation that is not paginated from the index, not from its
        // row.
        if !scan.meta.as_ref().is_some_and(SessionMeta::is_paginated) {
            return Ok(());
        }

        let texts = &scan.row_data.texts;
        let own_texts = [&scan.title, &texts.first_message, &texts.preview];
        let own_texts = own_texts.into_iter().filter_map(Option::as_deref);
        if let Some(line) = line
            && is_given_name(&line.thread_name, id, own_texts)
        {
            names.insert(id.clone(), line.thread_name);
        }
        Ok(())
    })?;

    Ok(names)
}
