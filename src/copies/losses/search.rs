//! Compares the live conversations with their copies.

use crate::archive::FileEntry;
use crate::codex::RolloutName;
use crate::copies::losses::compare::{self, Loss};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::CopyPlace;
use crate::copies::losses::rollout_copy::{CopyContent, CopyOrigin, RolloutCopy};
use crate::copies::source::rollout_files;
use crate::error::CommandError;
use crate::inventory::AcceptedLosses;
use crate::io::{is_interrupted, parallel};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The live conversations with the copies that differ from them.
pub(crate) struct LossSearch {
    live: LiveThreads,
    /// The places of copies, the newest first.
    pub(crate) places: Vec<CopyPlace>,
    /// The source at each place; `None` for a file.
    sources: Vec<Option<CopyOrigin>>,
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
            places: Vec::new(),
            sources: Vec::new(),
            copies: BTreeMap::new(),
        }
    }

    /// Adds the copies of an archive or a snapshot. Add the newest one first.
    pub(crate) fn add_source(&mut self, place: CopyPlace, source: CopyOrigin) {
        let number = self.places.len();
        for (file, entry) in rollout_files(source.files()) {
            self.add_entry(file, entry, number);
        }
        self.places.push(place);
        self.sources.push(Some(source));
    }

    fn add_entry(&mut self, file: RolloutName, entry: FileEntry, place: usize) {
        let Some(id) = file.id().map(str::to_lowercase) else {
            return;
        };
        // A conversation without a rollout was deleted.
        let Some(live) = self.live.0.get(&id) else {
            return;
        };
        // Codex appends, so equal size and time mean equal content; reading every archived rollout would take hours.
        let stamp = (entry.size, entry.mtime);
        let mut live = live.iter();
        if live.any(|live| live.file == file && (live.size, live.mtime) == stamp) {
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
        if self.live.0.contains_key(&id) {
            let copy = RolloutCopy {
                file,
                content: CopyContent::File(path),
                places: vec![self.places.len()],
            };
            self.copies.entry(id).or_default().push(copy);
            self.places.push(place);
            self.sources.push(None);
        }
    }

    /// Returns the compressed rollouts that have a plain form beside them.
    pub(crate) fn twins(&self) -> Vec<PathBuf> {
        let live = self.live.0.values().flatten();
        live.filter_map(|rollout| rollout.twin.clone()).collect()
    }

    /// Compares each conversation with its copies. Messages in `accepted` are not missed.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn run(&self, accepted: &AcceptedLosses) -> Result<FoundLosses, CommandError> {
        let mut found = FoundLosses::default();
        let compare = |id: &String| {
            let live = self.live.0.get(id).map_or(&[][..], Vec::as_slice);
            let copies = self.copies.get(id).map_or(&[][..], Vec::as_slice);
            (id.clone(), compare::thread(live, copies, &self.sources))
        };
        let take = |(id, result): (String, Result<_, CommandError>)| {
            if is_interrupted() {
                return Err(CommandError::interrupted());
            }
            match result {
                Ok(lost) => found.losses.extend(Loss::of(id, lost, accepted)),
                Err(e) => found.failures.push((id, e)),
            }
            Ok(())
        };
        let ids = self.copies.keys();
        parallel::ordered_each(parallel::threads() * 2, ids, compare, take)?;
        for loss in &mut found.losses {
            let live = self.live.0.get(&loss.id).map_or(&[][..], Vec::as_slice);
            let newest = live.iter().max_by_key(|rollout| &rollout.file.name);
            loss.rollout_path = newest.map(|rollout| rollout.path.clone());
        }
        Ok(found)
    }
}
