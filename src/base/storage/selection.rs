//! Chooses the conversations that go to the trash, and finds the forks that need them.

use super::facts;
use super::walk::{RolloutUsage, find_rollouts};
use crate::codex::{DatabaseError, LineParts, ThreadRow, parse_rollout_id, threads};
use crate::conversations::reader::EventReader;
use crate::history::{ConversationId, Depth, rollout, thread_choice};
use crate::io::IoError;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// Chooses the conversations that are named and pass every filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrashFilter {
    /// Ids, titles, or beginnings of either; empty for any conversation.
    pub sessions: Vec<String>,
    /// The least time since the last change.
    pub older_than: Option<TimeDelta>,
    /// Folders that conversations work in; empty for any.
    pub projects: Vec<PathBuf>,
    /// Only subagents of this conversation.
    pub subagents_of: Option<String>,
    /// Only conversations without a turn and without a name.
    pub no_turns: bool,
}

/// A chosen conversation with its rollouts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedConversation {
    pub id: String,
    pub title: String,
    pub bytes: u64,
    pub rollouts: Vec<PathBuf>,
}

/// The conversations that a [`TrashFilter`] selects.
#[derive(Debug, Default)]
pub struct TrashSelection {
    pub conversations: Vec<SelectedConversation>,
    pub names: ResolvedNames,
    /// The folders that cannot be listed.
    pub unreadable: Vec<IoError>,
    /// The forks that are not chosen and begin with the history of a chosen conversation, or of a conversation that was
    /// not chosen because of the fork.
    pub dependent_forks: Vec<DependentFork>,
}

/// A conversation that begins with the history of another one.
#[derive(Debug, Clone)]
pub struct DependentFork {
    pub id: String,
    pub parent_id: String,
}

/// The conversations that the user named.
#[derive(Debug, Default)]
pub struct ResolvedNames {
    pub(super) ids: HashSet<ConversationId>,
    /// Names that match no conversation.
    pub unknown: Vec<String>,
    pub ambiguous: Vec<String>,
}

impl ResolvedNames {
    pub(super) fn resolve(
        names: &[String],
        rollouts: &[RolloutUsage],
        rows: &HashMap<ConversationId, ThreadRow>,
    ) -> Self {
        let mut resolved = Self::default();
        for name in names {
            let ids = rollouts.iter().filter_map(|rollout| rollout.id.as_ref());
            // `fits` compares a title with `name`: `find_named` tries equality first, then the beginning.
            let has_title = |id: &ConversationId, fits: &dyn Fn(&str) -> bool| {
                rows.get(id).is_some_and(|row| row.titles().any(fits))
            };
            let matching = thread_choice::find_named(&ids, name, ToString::to_string, has_title);
            // A conversation may have several rollouts with the same id.
            let matching: HashSet<_> = matching.into_iter().collect();
            match matching.len() {
                0 => resolved.unknown.push(name.clone()),
                1 => resolved.ids.extend(matching.into_iter().cloned()),
                _ => resolved.ambiguous.push(name.clone()),
            }
        }
        resolved
    }
}

impl TrashSelection {
    /// Applies `filter` to the conversations of `home`. If `filter` names no conversation, leaves out
    /// each conversation that a fork outside the selection needs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn select(
        home: &Path,
        state_database: Option<&Path>,
        filter: &TrashFilter,
        now: DateTime<Utc>,
    ) -> Result<Self, DatabaseError> {
        let (mut rollouts, unreadable) = find_rollouts(home);
        rollouts.retain(|rollout| rollout.id.is_some());
        let rows = read_rows_by_id(state_database)?;
        let names = ResolvedNames::resolve(&filter.sessions, &rollouts, &rows);

        let subagents: Option<HashSet<ConversationId>> =
            match (&filter.subagents_of, state_database) {
                (None, _) => None,
                (Some(parent), Some(state_database)) => {
                    let ids = threads::find_subagent_ids(state_database, parent)?;
                    Some(ids.iter().map(|id| ConversationId::of(id)).collect())
                }
                // Without a database, no subagents are known.
                (Some(_), None) => Some(HashSet::new()),
            };

        let facts = facts::read_facts(&rollouts, state_database);
        let mut chosen: BTreeMap<String, SelectedConversation> = BTreeMap::new();
        for (rollout, facts) in rollouts.iter().zip(facts) {
            let Some(id) = &rollout.id else { continue };
            let row = rows.get(id);
            let age = rollout.changed.map(|at| now - at);
            let is_old = |limit| age.is_some_and(|age| age >= limit);
            let is_selected = (filter.sessions.is_empty() || names.ids.contains(id))
                && subagents.as_ref().is_none_or(|ids| ids.contains(id))
                && filter.older_than.is_none_or(is_old)
                && allows_project(&filter.projects, &facts.project)
                && (!filter.no_turns || row.is_some_and(|row| is_unused(row, &rollout.path)));
            if !is_selected {
                continue;
            }

            let selected = chosen.entry(id.to_string()).or_default();
            selected.id = id.to_string();
            selected.title = row.map(ThreadRow::shown_title).unwrap_or_default();
            selected.bytes += rollout.bytes;
            selected.rollouts.push(rollout.path.to_path_buf());
        }

        let mut conversations: Vec<_> = chosen.into_values().collect();
        let continuing_rollouts = if conversations.is_empty() {
            Vec::new()
        } else {
            find_continuing_rollouts(&rollouts)
        };
        let dependent_forks = if filter.sessions.is_empty() {
            withdraw_parents_of_forks(&continuing_rollouts, &mut conversations)
        } else {
            find_dependent_forks(&continuing_rollouts, &conversations)
        };

        Ok(Self {
            conversations,
            names,
            unreadable,
            dependent_forks,
        })
    }
}

/// Returns true if a project is one of `folders` or below one of them. No `folders` allow any project.
pub(super) fn allows_project(folders: &[PathBuf], project: &str) -> bool {
    folders.is_empty() || folders.iter().any(|f| Path::new(project).starts_with(f))
}

pub(super) fn read_rows_by_id(
    state_database: Option<&Path>,
) -> Result<HashMap<ConversationId, ThreadRow>, DatabaseError> {
    let Some(state_database) = state_database else {
        return Ok(HashMap::new());
    };
    let rows = threads::fold_rows(state_database, HashMap::new, |rows, row: ThreadRow| {
        let _ = rows.insert(ConversationId::of(&row.id), row);
    })?;
    Ok(rows.unwrap_or_default())
}

/// Returns true if a conversation has metadata but no turns, neither its own nor those of a parent, and the user gave
/// it no name. False for a damaged or unreadable rollout.
fn is_unused(row: &ThreadRow, path: &Path) -> bool {
    let to_end_of_rollout = None;
    let is_unnamed_and_empty = row.first_user_message.is_empty() && row.given_name().is_none();
    // The row of a subagent has no message although its rollout has turns, so the rollout is read as well.
    is_unnamed_and_empty
        && has_neither_messages_nor_base(path)
        // A command that the user ran with `!` is a turn without a message and without a context.
        && rollout::count_turns(path, to_end_of_rollout).is_ok_and(|turns| turns == 0)
        // Before Codex 0.130, only messages of the user begin turns, so a rollout without a turn may have texts.
        && has_no_text(path).unwrap_or(false)
}

/// Returns true for a complete rollout that continues no other one, and has no text message of the user and no settings
/// of a turn.
fn has_neither_messages_nor_base(path: &Path) -> bool {
    rollout::scan(path, Depth::RowData, |_| ()).is_ok_and(|scan| {
        let has_no_base = scan.meta.is_some_and(|meta| meta.base_id().is_none());
        let has_no_turn_values = scan.messages.is_empty() && scan.row_data.context.is_none();
        has_no_base && has_no_turn_values && scan.bad_lines == 0
    })
}

/// Returns true if the rollout has no text of the user, of an assistant or of a tool.
fn has_no_text(path: &Path) -> io::Result<bool> {
    let mut reader = EventReader::open(path, LineParts::TEXTS)?;
    while let Some(event) = reader.next_event()? {
        if event.kind.author_and_text().is_some() {
            return Ok(false);
        }
    }
    // The text of a line that is too long is not read.
    Ok(reader.left_out.long_lines == 0)
}

/// A rollout that continues another one.
struct ContinuingRollout<'a> {
    conversation_id: &'a ConversationId,
    base_rollout_id: ConversationId,
}

fn find_continuing_rollouts(rollouts: &[RolloutUsage]) -> Vec<ContinuingRollout<'_>> {
    let continuing = rollouts.iter().filter_map(|rollout| {
        let head = rollout::read_head(&rollout.path).ok().flatten()?;
        Some(ContinuingRollout {
            conversation_id: rollout.id.as_ref()?,
            base_rollout_id: ConversationId::of(&head.base_id()?),
        })
    });
    continuing.collect()
}

/// Removes from `chosen` the conversations that a fork needs, and returns these forks.
fn withdraw_parents_of_forks(
    continuing_rollouts: &[ContinuingRollout],
    chosen: &mut Vec<SelectedConversation>,
) -> Vec<DependentFork> {
    let mut dependent_forks = Vec::new();
    loop {
        let new_forks = find_dependent_forks(continuing_rollouts, chosen);
        if new_forks.is_empty() {
            return dependent_forks;
        }
        // A conversation that stays for a fork may itself be a fork, whose parent then stays as well.
        chosen.retain(|selected| new_forks.iter().all(|fork| fork.parent_id != selected.id));
        dependent_forks.extend(new_forks);
    }
}

/// Returns the forks that are not chosen but begin with the history of a chosen conversation.
fn find_dependent_forks(
    continuing_rollouts: &[ContinuingRollout],
    chosen: &[SelectedConversation],
) -> Vec<DependentFork> {
    // A fork names the rollout that it continues. A conversation that was rewound has several rollouts.
    let mut chosen_rollouts: HashMap<ConversationId, &str> = HashMap::new();
    let mut chosen_ids = HashSet::new();
    for selected in chosen {
        chosen_ids.insert(ConversationId::of(&selected.id));
        for path in &selected.rollouts {
            if let Some(id) = parse_rollout_id(path) {
                chosen_rollouts.insert(ConversationId::of(&id), &selected.id);
            }
        }
    }

    let forks = continuing_rollouts.iter().filter_map(|rollout| {
        let parent_id = chosen_rollouts.get(&rollout.base_rollout_id)?;
        let is_chosen = chosen_ids.contains(rollout.conversation_id);
        (!is_chosen).then(|| DependentFork {
            id: rollout.conversation_id.to_string(),
            parent_id: (*parent_id).to_owned(),
        })
    });
    forks.collect()
}
