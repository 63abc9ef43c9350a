//! Plans for kept forks: each is on both sides until somebody decides, and goes when what it holds has
//! come to be in its conversation.

use super::{Op, PlanError, Planner, StateUpdate, SyncAction, SyncStep};
use crate::codex::rollout::{self, Relation};
use crate::io::{IoError, file_open};
use crate::sync::conflict_copies::{self, ConflictCopies, ConflictCopy};
use crate::sync::contents;
use crate::sync::index_updates::ContentChange;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::scan::{Side, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

impl Planner<'_> {
    /// To be called when all conversations are planned.
    pub(super) fn plan_pending_conflicts(&mut self) -> Result<(), PlanError> {
        if self.conflict_copies.all.is_empty() {
            if let Some(manifests) = self.manifests.get() {
                let news =
                    resolutions::newer_records(&self.state.resolutions, &manifests.resolutions, []);
                self.plan.learned_resolutions = news;
            }
            return Ok(());
        }
        let forks = std::mem::take(&mut self.conflict_copies);
        let named = ConversationIndex::of(&forks, self.state, &self.plan.steps);
        let mut settled = Vec::new();
        for (name, fork) in &forks.all {
            let resolved = self.may_drop(name)?;
            let mut ops = Vec::new();
            let mut reason = "kept on both sides until somebody decides";
            if !resolved && let Some(step) = self.containing_step(fork, &named) {
                // What comes here holds it: it goes when that has come.
                let drops = drop_ops(fork);
                self.plan.steps[step].ops.extend(drops);
                continue;
            }
            if resolved || self.is_contained(fork, &named) {
                reason = "decided about";
                if resolved {
                    settled.push(name.as_str());
                }
                ops = drop_ops(fork);
            } else {
                let size = fork.local.or(fork.remote).map_or(0, |stat| stat.size);
                let source = if fork.is_placeholder {
                    CopySource::NotNeeded
                } else {
                    self.copy_source(fork)
                };
                match source {
                    // Whoever is to decide about it needs it here.
                    CopySource::NotNeeded if fork.local.is_none() => {
                        let why = "it is not downloaded to this machine";
                        self.plan.waiting.push((fork.name.clone(), why.into()));
                    }
                    CopySource::NotNeeded => {}
                    CopySource::Side(from) => {
                        if fork.local.is_some() && fork.remote.is_some() {
                            reason = "one of its two files is not what its name says";
                        }
                        let name = name.clone();
                        ops.push(Op::ReplicateConflictCopy { from, name });
                    }
                    CopySource::Unavailable => {
                        let why = "it is not yet what its name says";
                        self.plan.waiting.push((fork.name.clone(), why.into()));
                        continue;
                    }
                }
                self.plan.conflict_copies.push((fork.name.clone(), size));
            }
            if !ops.is_empty() {
                self.plan.steps.push(SyncStep {
                    key: format!("fork:{name}"),
                    path: fork.name.clone(),
                    action: SyncAction::ResolveConflictCopy,
                    reason: reason.into(),
                    bytes: 0,
                    ops,
                    state_update: StateUpdate::None,
                    change: ContentChange::Unchanged,
                    conflict: None,
                });
            }
        }
        // What others have decided this machine tells as well: their word may be gone one day.
        let others = &self.manifests()?.resolutions;
        let decided = resolutions::newer_records(&self.state.resolutions, others, settled);
        self.plan.learned_resolutions = decided;
        self.conflict_copies = forks;
        Ok(())
    }

    /// Whether somebody has decided that a version may go.
    pub(super) fn may_drop(&self, mark: &str) -> Result<bool, IoError> {
        let words = [&self.state.resolutions, &self.manifests()?.resolutions];
        Ok(resolutions::is_dropped(mark, words))
    }

    pub(super) fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        conflict_copies::folder(side, folder, &self.request.config.cloud).join(name)
    }

    /// Where a fork is copied from. Two files that look alike are not read again.
    fn copy_source(&self, fork: &ConflictCopy) -> CopySource {
        let looks_sound = |side| {
            let path = self.conflict_copy_path(side, &fork.name);
            contents::is_zero_filled(&path, true, false).is_ok_and(|is_blanked| !is_blanked)
        };
        let look_alike = fork.local.is_some() && fork.local == fork.remote;
        if look_alike && looks_sound(Side::Local) && looks_sound(Side::Remote) {
            return CopySource::NotNeeded;
        }
        let is_whole = |side, stat: Option<Stat>| stat.is_some() && self.is_intact(side, fork);
        let local = is_whole(Side::Local, fork.local);
        match (local, is_whole(Side::Remote, fork.remote)) {
            (true, true) => CopySource::NotNeeded,
            (true, false) => CopySource::Side(Side::Local),
            (false, true) => CopySource::Side(Side::Remote),
            (false, false) => CopySource::Unavailable,
        }
    }

    /// What cannot be read is not whole, and nor is what is packed: forks are text.
    fn is_intact(&self, side: Side, fork: &ConflictCopy) -> bool {
        let path = self.conflict_copy_path(side, &fork.name);
        let is_text = file_open::open(&path).and_then(|file| contents::is_uncompressed(&file));
        let digest = || contents::raw_digest(&path);
        is_text.is_ok_and(|yes| yes)
            && digest().is_ok_and(|d| conflict_copies::digest_prefix(&d) == fork.digest_prefix())
    }

    /// The step that brings a version here which holds all that the fork holds.
    fn containing_step(&self, fork: &ConflictCopy, named: &ConversationIndex<'_>) -> Option<usize> {
        fork.local?;
        let path = self.conflict_copy_path(Side::Local, &fork.name);
        for &index in named.steps(fork) {
            let step = &self.plan.steps[index];
            for op in &step.ops {
                if let Op::Copy(copy) = op
                    && copy.to.0 == Side::Local
                {
                    let from = self.full(&copy.from);
                    if contains_all(&from, &path) && self.is_intact(Side::Local, fork) {
                        return Some(index);
                    }
                }
            }
        }
        None
    }

    /// Whether the conversation here has all that the fork has: somebody went on from it after all.
    fn is_contained(&self, fork: &ConflictCopy, named: &ConversationIndex<'_>) -> bool {
        if fork.local.is_none() {
            return false;
        }
        let path = self.conflict_copy_path(Side::Local, &fork.name);
        // Only a conversation that both sides agree on can stand for its fork.
        let Some(last) = named.last.get(fork.conversation()) else {
            return false;
        };
        let main = self.request.config.local.join(&last.local.path);
        // What is about to be replaced stands for nothing.
        let mut steps = named.steps(fork).iter();
        let replaced = steps.any(|index| self.plan.steps[*index].change == ContentChange::Replaced);
        if replaced || !main.is_file() {
            return false;
        }
        // The beginning of anything is in it: half a fork says nothing of the rest.
        contains_all(&main, &path) && self.is_intact(Side::Local, fork)
    }
}

/// Whether a conversation has all that another has. One that cannot be read stands for nothing; whoever
/// needs it says so.
fn contains_all(conversation: &Path, other: &Path) -> bool {
    let relation = rollout::compare(conversation, other);
    relation.is_ok_and(|r| matches!(r, Relation::Equal | Relation::FirstExtends))
}

/// Where a fork is copied from.
enum CopySource {
    /// Both sides have it.
    NotNeeded,
    /// The side that has it whole.
    Side(Side),
    /// Neither has it whole.
    Unavailable,
}

/// What there is of the conversations that forks are of, by the name that forks have for them.
struct ConversationIndex<'a> {
    steps: HashMap<String, Vec<usize>>,
    last: HashMap<String, &'a SyncedFile>,
}

impl<'a> ConversationIndex<'a> {
    fn of(forks: &ConflictCopies, state: &'a SyncState, steps: &[SyncStep]) -> Self {
        let wanted: HashSet<&str> = forks.all.values().map(ConflictCopy::conversation).collect();
        let conversation = |key: &str| {
            let label = rollouts::is_key(key).then(|| conflict_copies::conversation_label(key))?;
            wanted.contains(&*label).then_some(label)
        };
        let mut named = Self {
            steps: HashMap::new(),
            last: HashMap::new(),
        };
        for (index, step) in steps.iter().enumerate() {
            if let Some(name) = conversation(&step.key) {
                named.steps.entry(name).or_default().push(index);
            }
        }
        for (key, last) in &state.files {
            if let Some(name) = conversation(key) {
                named.last.insert(name, last);
            }
        }
        named
    }

    fn steps(&self, fork: &ConflictCopy) -> &[usize] {
        let found = self.steps.get(fork.conversation());
        found.map_or(&[], Vec::as_slice)
    }
}

/// The ops by which a fork goes from where it is.
fn drop_ops(fork: &ConflictCopy) -> Vec<Op> {
    let has = [(Side::Local, fork.local), (Side::Remote, fork.remote)];
    let on = has.into_iter().filter(|(_, stat)| stat.is_some());
    on.map(|(side, _)| Op::DropConflictCopy {
        side,
        name: fork.name.clone(),
    })
    .collect()
}
