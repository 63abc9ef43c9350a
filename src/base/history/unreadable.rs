//! Conversations that Codex lists, but cannot open or shows without some of their turns.
//!
//! Codex shows a paginated conversation from its projections of the rollouts, and does not say when they lack
//! turns (Codex 0.169). The check reads little of a rollout: its first line, its size, the byte before a cut, and of a
//! subagent the last lines. It counts turns only in the rollouts of conversations with a problem.

use super::conversations::{ConversationRollout, Conversations};
use super::id::ConversationId;
use super::thread_rollouts::{MAX_ROLLOUTS, find_rollout};
use super::{files, rollout};
use crate::codex::DatabaseError;
use crate::codex::projections::{Projections, RolloutCut};
use crate::codex::rollout::{is_plain, parse_rollout_id};
use crate::codex::threads::{ThreadRow, staged};
use crate::io::changed_ns;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The command that corrects rows and projections.
const REPAIR: &str = "codex-manager history repair";

/// A conversation that Codex cannot open, or shows without some turns. Its JSON keys are a stable interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableConversation {
    pub id: ConversationId,
    /// The first line of the name that the user gave, else of the title.
    pub title: String,
    /// The cause, as a sentence fragment.
    pub reason: String,
    /// The number of turns in the rollouts of the conversation.
    pub turns_on_disk: usize,
    pub turns_shown: usize,
    /// The command that makes Codex show all turns; `None` if neither a repair nor an archive can restore them.
    pub fix: Option<String>,
    #[serde(skip)]
    pub cause: UnreadableCause,
    /// The id exactly as the row has it.
    #[serde(skip)]
    pub row_id: String,
}

impl UnreadableConversation {
    /// Returns true if `history repair` corrects the conversation. Returns false if an archive has the lost part of a
    /// rollout, because a repair would drop the projection from which Codex still shows that part.
    pub fn is_repairable(&self) -> bool {
        self.cause.is_repairable() && self.fix.as_deref() == Some(REPAIR)
    }
}

/// The reason why Codex shows less than a conversation has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnreadableCause {
    /// The row has the old mode, and the rollout is paginated.
    Mode,
    /// Codex has not projected all rollouts that the conversation continues. Contains all of them, the newest first.
    Unprojected(Vec<ContinuedRollout>),
    /// A rollout of `bytes` is shorter than its projection, or no line of the rollout ends where its projection ends.
    Shortened { rollout_id: String, bytes: u64 },
    /// The last record of the rollout has no ordinal: another program appended it, or removed the ordinal. Codex 0.171
    /// refuses to continue the rollout, and shows only what it has projected.
    NoOrdinal,
    /// All lines precede the ordinal from which Codex shows the lines of a subagent.
    Boundary,
    /// The rollout of this cut has the earlier turns, but is not on disk or has other lines than before.
    MissingBase(RolloutCut),
}

impl UnreadableCause {
    /// Returns true if `history repair` can remove the cause.
    fn is_repairable(&self) -> bool {
        match self {
            Self::Mode | Self::Unprojected(_) | Self::Shortened { .. } => true,
            Self::NoOrdinal | Self::Boundary | Self::MissingBase(_) => false,
        }
    }

    fn describe(&self) -> String {
        let reason = match self {
            Self::Mode => "Codex's list has it in the old form, but its rollout was migrated",
            Self::Unprojected(_) => "Codex has not read the earlier rollouts that it continues",
            Self::Shortened { .. } => "its rollout lacks lines that Codex has read",
            Self::NoOrdinal => {
                "the last record of its rollout has no ordinal, so Codex refuses to continue it"
            }
            Self::Boundary => "Codex's migration moved all turns before the start of the subagent",
            Self::MissingBase(cut) => {
                return format!(
                    "its earlier turns are in another rollout, which is missing or was replaced: {}",
                    cut.rollout_id
                );
            }
        };
        reason.to_owned()
    }
}

/// A rollout that another one continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinuedRollout {
    /// The absolute path, plain or compressed.
    pub path: PathBuf,
    /// The position at which the next rollout branches off.
    pub cut: RolloutCut,
    /// True if Codex has projected the rollout up to the cut.
    pub is_projected: bool,
}

/// The rollouts and projections that the rows of a home are compared with.
pub(super) struct ReadabilityCheck<'a> {
    home: &'a Path,
    /// The rollouts by their own ids; empty if none continues another.
    rollouts: HashMap<String, &'a ConversationRollout>,
    projections: &'a Projections,
}

impl<'a> ReadabilityCheck<'a> {
    pub(super) fn new(
        home: &'a Path,
        conversations: &'a Conversations,
        projections: &'a Projections,
    ) -> Self {
        let has_bases = conversations.iter().any(|rollout| rollout.base.is_some());
        let mut rollouts = HashMap::new();
        if has_bases {
            let all = conversations.iter();
            rollouts.extend(all.filter_map(|rollout| Some((rollout.rollout_id()?, rollout))));
        }
        Self {
            home,
            rollouts,
            projections,
        }
    }

    /// Returns the problem of a listed conversation. `leaf` is the rollout that its row names, and that may continue
    /// others.
    pub(super) fn find_problem(
        &self,
        row: &ThreadRow,
        leaf: &ConversationRollout,
    ) -> Option<UnreadableConversation> {
        let cause = self.find_cause(row, leaf)?;
        let bases = self.follow_chain(leaf).rollouts;

        // A rollout that cannot be read counts as one without turns: the cause is reported anyway.
        let count_turns_in = |path: &Path, end| rollout::count_turns(path, end).unwrap_or(0);
        let count_turns_of =
            |base: &ContinuedRollout| count_turns_in(&base.path, Some(base.cut.offset));
        let end_of_leaf = None;
        let leaf_turns = count_turns_in(&leaf.file.path(self.home), end_of_leaf);
        let turns_of_bases: Vec<_> = bases.iter().map(count_turns_of).collect();
        let base_turns: usize = turns_of_bases.iter().sum();

        let turns_on_disk = leaf_turns + base_turns;
        let turns_shown = match &cause {
            UnreadableCause::Unprojected(_) => {
                let shown_of_bases = bases.iter().zip(turns_of_bases).map(|(base, turns)| {
                    if base.is_projected {
                        turns
                    } else {
                        self.projections.count_turns(&base.cut.rollout_id)
                    }
                });
                let shown = leaf_turns + shown_of_bases.sum::<usize>();
                // A projection may have turns after the cut.
                shown.min(turns_on_disk)
            }
            // Codex still shows the projection of the part that the rollout has lost.
            UnreadableCause::Shortened { rollout_id, .. } => {
                self.projections.count_turns(rollout_id) + base_turns
            }
            UnreadableCause::NoOrdinal => {
                let rollout_id = leaf.rollout_id().unwrap_or_default();
                self.projections.count_turns(&rollout_id) + base_turns
            }
            // Codex shows no turn. With a missing base it may show some, which are not counted.
            UnreadableCause::Mode | UnreadableCause::Boundary | UnreadableCause::MissingBase(_) => {
                0
            }
        };

        Some(UnreadableConversation {
            id: leaf.id.clone(),
            title: row.shown_title(),
            reason: cause.describe(),
            turns_on_disk,
            turns_shown,
            fix: cause.is_repairable().then(|| REPAIR.to_owned()),
            cause,
            row_id: row.id.clone(),
        })
    }

    fn find_cause(&self, row: &ThreadRow, leaf: &ConversationRollout) -> Option<UnreadableCause> {
        if !leaf.is_paginated {
            return None;
        }

        // Codex shows a subagent only from `subagent_start` on, so it shows nothing of a rollout that ends before.
        let path = leaf.file.path(self.home);
        let ends_before =
            |start: u64| rollout::read_last_ordinal(&path).is_some_and(|last| last < start);
        if leaf.subagent_start.is_some_and(ends_before) {
            return Some(UnreadableCause::Boundary);
        }

        let chain = self.follow_chain(leaf);
        if let Some(missing) = chain.missing {
            return Some(UnreadableCause::MissingBase(missing));
        }

        if !row.mode.is_empty() && !row.is_paginated() {
            return Some(UnreadableCause::Mode);
        }

        if chain.rollouts.iter().any(|rollout| !rollout.is_projected) {
            return Some(UnreadableCause::Unprojected(chain.rollouts));
        }

        // The size of a compressed file says nothing about the length of its text.
        if !is_plain(&path) {
            return None;
        }

        let rollout_id = leaf.rollout_id()?;
        let bytes = path.metadata().ok()?.len();
        let projected_offset = self.projections.projected_offset(&rollout_id);
        // Codex has written a rollout that it has projected to the end. Without the projection it would show nothing.
        if projected_offset != Some(bytes) && rollout::lacks_last_ordinal(&path) {
            return Some(UnreadableCause::NoOrdinal);
        }

        let projected_offset = projected_offset?;
        // Codex has usually projected the whole rollout. Then the size decides, and the file is not read. A rollout
        // that cannot be read counts as complete.
        let has_projected_lines = bytes == projected_offset
            || (bytes > projected_offset
                && rollout::ends_line_at(&path, projected_offset).unwrap_or(true));
        (!has_projected_lines).then_some(UnreadableCause::Shortened { rollout_id, bytes })
    }

    /// Follows the bases of a rollout; see [`follow_bases`].
    fn follow_chain(&self, leaf: &ConversationRollout) -> BaseChain {
        let base = leaf.base.as_deref().cloned();
        follow_bases(base, self.projections, |cut| {
            let rollout = self.rollouts.get(&cut.rollout_id)?;
            let path = rollout.file.path(self.home);
            Some((path, rollout.base.as_deref().cloned()))
        })
    }
}

/// The rollouts that a rollout continues.
struct BaseChain {
    /// The found rollouts, newest first.
    rollouts: Vec<ContinuedRollout>,
    /// The cut in the rollout that ends the chain because it is not found.
    missing: Option<RolloutCut>,
}

/// Follows a chain of rollouts, from `base` back to the first one. `find_base` returns the path and the
/// base of a rollout. A base that was replaced, or whose lines up to the cut have not arrived, counts as not found. One
/// that cannot be read counts as complete.
fn follow_bases(
    base: Option<RolloutCut>,
    projections: &Projections,
    find_base: impl Fn(&RolloutCut) -> Option<(PathBuf, Option<RolloutCut>)>,
) -> BaseChain {
    let mut rollouts = Vec::new();
    let mut next_base = base;
    while rollouts.len() < MAX_ROLLOUTS
        && let Some(cut) = next_base
    {
        let is_projected = projections.reach(&cut);
        let has_lines = |path: &Path| {
            // Decompression up to the cut takes long, so it is done only for a rollout that Codex has to project.
            let skips_check = is_projected && !is_plain(path);
            skips_check || rollout::ends_line_at(path, cut.offset).unwrap_or(true)
        };
        let Some((path, base)) = find_base(&cut).filter(|(path, _)| has_lines(path)) else {
            let missing = Some(cut);
            return BaseChain { rollouts, missing };
        };

        next_base = base;
        rollouts.push(ContinuedRollout {
            path,
            cut,
            is_projected,
        });
    }
    let missing = None;
    BaseChain { rollouts, missing }
}

/// Returns the ids of the rollouts in `paths` in which no line ends where their projection ends, because the rollout
/// became shorter or was replaced. Codex would show lines that are not in the rollout, and hide lines that it appends.
/// The projection of a rollout that cannot be read counts as fitting.
pub fn find_unfitting_projections(
    projections: &Projections,
    paths: impl IntoIterator<Item = PathBuf>,
) -> HashSet<String> {
    let find_unfitting = |path: PathBuf| {
        let id = parse_rollout_id(&path)?;
        let offset = projections.projected_offset(&id)?;
        let is_line_end = rollout::ends_line_at(&path, offset).unwrap_or(true);
        (!is_line_end).then_some(id)
    };
    paths.into_iter().filter_map(find_unfitting).collect()
}

/// Deletes the [unfitting projections](find_unfitting_projections) of the rollouts in `paths` from a staged database.
/// Codex projects these rollouts again.
pub fn delete_unfitting_projections(
    database: &Path,
    paths: impl IntoIterator<Item = PathBuf>,
) -> Result<(), DatabaseError> {
    let projections = Projections::read_database(database.to_path_buf());
    let ids = find_unfitting_projections(&projections, paths);
    if ids.is_empty() {
        return Ok(());
    }
    staged::delete_projections(database, &ids)
}

/// Deletes the unfitting projections of the rollouts of `home` that changed after `snapshot_ns`, because a restore may
/// have made them shorter. A rollout that was too short before keeps its old projection, because an undo of a repair
/// restores it. `database` is a staged copy.
pub(super) fn delete_projections_of_later_changes(
    home: &Path,
    snapshot_ns: i64,
    database: &Path,
) -> Result<(), DatabaseError> {
    let is_later = |path: &PathBuf| path.metadata().is_ok_and(|m| changed_ns(&m) > snapshot_ns);
    let (files, _unlistable) = files::find_readable(home);
    let paths = files.iter().map(|file| file.path(home));
    delete_unfitting_projections(database, paths.filter(is_later))
}

/// Returns the rollouts that `leaf` continues, newest first. Empty if Codex has projected all of them, or if one of
/// them is missing: Codex then cannot open the conversation, or shows it without some turns.
pub(super) fn find_unprojected_bases(
    home: &Path,
    leaf: &Path,
    projections: &Projections,
) -> Vec<ContinuedRollout> {
    let read_base = |path: &Path| rollout::read_head(path).ok().flatten()?.base_cut();
    let chain = follow_bases(read_base(leaf), projections, |cut| {
        let path = rollout::resolve_rollout_in_home(home, &find_rollout(home, &cut.rollout_id)?)?;
        let base = read_base(&path);
        Some((path, base))
    });

    let is_projected = |rollout: &ContinuedRollout| rollout.is_projected;
    if chain.missing.is_some() || chain.rollouts.iter().all(is_projected) {
        return Vec::new();
    }
    chain.rollouts
}
