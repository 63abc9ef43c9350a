//! Compares the live conversations with their copies.

use crate::archive::entry::FileEntry;
use crate::codex::rollout::RolloutName;
use crate::copies::losses::bases::{self, MissingBases};
pub(crate) use crate::copies::losses::compare::Loss;
use crate::copies::losses::compare::{self, ComparedThread};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::CopyPlace;
use crate::copies::losses::rollout_copy::{CopyContent, CopyOrigin, RolloutCopy};
use crate::copies::source::rollout_files;
use crate::error::CommandError;
use crate::inventory::losses::AcceptedLosses;
use crate::io::parallel;
use crate::io::progress::is_interrupted;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The live conversations with the copies that differ from them.
#[derive(Default)]
pub(crate) struct LossSearch {
    live: LiveThreads,
    /// The places of copies, the newest first.
    pub(crate) places: Vec<CopyPlace>,
    /// The source at each place; `None` for a file.
    sources: Vec<Option<CopyOrigin>>,
    /// The copies by the id of their thread, those of deleted threads too.
    copies: BTreeMap<String, Vec<RolloutCopy>>,
}

#[derive(Debug, Default)]
pub(crate) struct FoundLosses {
    pub losses: Vec<Loss>,
    /// The conversations that could not be compared.
    pub failures: Vec<(String, CommandError)>,
}

impl LossSearch {
    pub(crate) fn new(live: LiveThreads) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    /// Adds the copies of an archive or a snapshot. Add the newest one first.
    pub(crate) fn add_source(&mut self, place: CopyPlace, source: CopyOrigin) {
        self.add_rollouts(place, source, |_| true);
    }

    /// Adds the copies of the rollouts that `is_wanted` selects. Add the newest archive first.
    pub(crate) fn add_rollouts(
        &mut self,
        place: CopyPlace,
        source: CopyOrigin,
        is_wanted: impl Fn(&RolloutName) -> bool,
    ) {
        let number = self.places.len();
        for (file, entry) in rollout_files(source.files()) {
            if is_wanted(&file) {
                self.add_entry(file, entry, number);
            }
        }
        self.places.push(place);
        self.sources.push(Some(source));
    }

    fn add_entry(&mut self, file: RolloutName, entry: FileEntry, place: usize) {
        let Some(id) = file.id().map(str::to_lowercase) else {
            return;
        };
        let live = self.live.0.get(&id).map_or(&[][..], Vec::as_slice);
        let is_unchanged = live
            .iter()
            .any(|live| live.file == file && (live.size, live.mtime) == (entry.size, entry.mtime));
        if is_unchanged {
            return;
        }
        let copies = self.copies.entry(id).or_default();
        let known = copies.iter_mut().find(|copy| copy.is_same(&file, &entry));
        match known {
            Some(copy) => copy.places.push(place),
            None => copies.push(RolloutCopy {
                file,
                content: CopyContent::Entry(entry),
                places: vec![place],
            }),
        }
    }

    /// Adds a copy of the rollout `file` that is at `path`.
    pub(crate) fn add_file(&mut self, place: CopyPlace, file: RolloutName, path: PathBuf) {
        let Some(id) = file.id().map(str::to_lowercase) else {
            return;
        };
        let copy = RolloutCopy {
            file,
            content: CopyContent::File(path),
            places: vec![self.places.len()],
        };
        self.copies.entry(id).or_default().push(copy);
        self.places.push(place);
        self.sources.push(None);
    }

    pub(crate) fn live(&self) -> &LiveThreads {
        &self.live
    }

    /// Returns the compressed rollouts that have a plain form beside them.
    pub(crate) fn compressed_copies(&self) -> Vec<PathBuf> {
        let live = self.live.0.values().flatten();
        live.filter_map(|r| r.compressed_copy.clone()).collect()
    }

    /// Compares each live conversation with its copies. Messages in `accepted` are not reported.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn run(&self, accepted: &AcceptedLosses) -> Result<FoundLosses, CommandError> {
        self.run_for(accepted, |_| true)
    }

    /// Like [`LossSearch::run`], for the conversations whose ids `is_wanted` selects.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn run_for(
        &self,
        accepted: &AcceptedLosses,
        is_wanted: impl Fn(&String) -> bool,
    ) -> Result<FoundLosses, CommandError> {
        let mut found = FoundLosses::default();
        let bases = bases::find(&self.live, &self.copies, &self.sources)?;
        let compare = |id: &String| {
            let thread = self.collect_copies(id, &bases);
            (
                id.clone(),
                compare::find_lost_messages(&thread, &self.sources),
            )
        };
        let take = |(id, result): (String, Result<_, CommandError>)| {
            if is_interrupted() {
                return Err(CommandError::interrupted());
            }
            match result {
                Ok(lost) => found.losses.extend(Loss::from_lost(id, lost, accepted)),
                Err(e) => found.failures.push((id, e)),
            }
            Ok(())
        };
        // A conversation without a rollout was deleted.
        let live = self
            .copies
            .keys()
            .filter(|id| self.live.0.contains_key(*id));
        let ids = live.chain(bases.keys()).filter(|id| is_wanted(id));
        let ids: BTreeSet<&String> = ids.collect();
        parallel::run_each_ordered(parallel::thread_count() * 2, ids, compare, take)?;
        for loss in &mut found.losses {
            let live = self.live.0.get(&loss.id).map_or(&[][..], Vec::as_slice);
            let newest = live.iter().max_by_key(|rollout| &rollout.file.name);
            loss.rollout_path = newest.map(|rollout| rollout.path.clone());
            if bases.contains_key(&loss.id) {
                loss.restored_id = self.find_restored_id(loss);
            }
        }
        Ok(found)
    }

    /// Returns a live thread with its copies and those of its missing bases.
    fn collect_copies(&self, id: &String, bases: &MissingBases) -> ComparedThread<'_> {
        let live = self.live.0.get(id).map_or(&[][..], Vec::as_slice);
        let own = self.copies.get(id).into_iter().flatten();
        let bases = bases.get(id).cloned().unwrap_or_default();
        let all: Box<dyn Iterator<Item = &RolloutCopy>> = if bases.is_empty() {
            Box::new(own)
        } else {
            let deleted = self.copies.values().flatten();
            Box::new(own.chain(deleted.filter(|copy| bases.contains_key(&copy.rollout_id()))))
        };
        ComparedThread {
            live,
            copies: all.collect(),
            bases,
        }
    }

    /// Returns the id of the conversation to restore from the place with the most complete copy.
    fn find_restored_id(&self, loss: &Loss) -> String {
        let has_thread = |source: &CopyOrigin| {
            let mut rollouts = rollout_files(source.files());
            rollouts.any(|(file, _)| {
                file.id()
                    .is_some_and(|id| id.eq_ignore_ascii_case(&loss.id))
            })
        };
        if self.sources[loss.place].as_ref().is_some_and(has_thread) {
            return loss.id.clone();
        }
        let base = loss.messages.first().map(|lost| lost.rollout_id.as_str());
        let mut copies = self.copies.iter();
        let owner = copies.find(|(_, copies)| {
            let mut copies = copies.iter();
            copies.any(|copy| Some(copy.rollout_id().as_str()) == base)
        });
        owner.map_or_else(|| loss.id.clone(), |(id, _)| id.clone())
    }
}
