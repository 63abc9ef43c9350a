//! Compares the live conversations with their copies.

use crate::copies::losses::bases::{self, MissingBases};
pub(crate) use crate::copies::losses::compare::Loss;
use crate::copies::losses::compare::{self, ComparedThread};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::{CopyPlace, SearchedPlace};
use crate::copies::losses::rollout_copy::{CopyContent, CopyOrigin, RolloutCopy};
use crate::copies::source::rollout_files;
use crate::error::{CommandError, Result, check_interrupt};
use codex_manager_core::archive::FileEntry;
use codex_manager_core::codex::RolloutName;
use codex_manager_core::inventory::losses::AcceptedLosses;
use codex_manager_core::io::parallel;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The live conversations, with the copies of their rollouts and of the rollouts of deleted conversations.
#[derive(Default)]
pub(crate) struct LossSearch {
    pub(crate) live: LiveThreads,
    /// The places of the copies: archives, archives in the trash, snapshots, of each kind the newest first; then single
    /// files.
    pub(crate) places: Vec<SearchedPlace>,
    /// The copies by the id of their conversation, in lower case, without those with the size and mtime of the live
    /// rollout.
    pub(super) copies: BTreeMap<String, Vec<RolloutCopy>>,
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

    /// Adds the copies in an archive or a snapshot. The caller adds newer ones before older ones.
    pub(crate) fn add_source(&mut self, place: CopyPlace, source: CopyOrigin) {
        self.add_rollouts(place, source, |_any_rollout| true);
    }

    /// Like [`LossSearch::add_source`], for the rollouts that `is_wanted` selects.
    pub(crate) fn add_rollouts(
        &mut self,
        place: CopyPlace,
        source: CopyOrigin,
        is_wanted: impl Fn(&RolloutName) -> bool,
    ) {
        let place_index = self.places.len();
        for (rollout_name, entry) in rollout_files(source.files()) {
            if is_wanted(&rollout_name) {
                self.add_entry(rollout_name, entry, place_index);
            }
        }
        let source = Some(source);
        self.places.push(SearchedPlace { place, source });
    }

    /// Adds a copy, unless the size and the mtime show that it equals a live rollout.
    fn add_entry(&mut self, rollout_name: RolloutName, entry: FileEntry, place_index: usize) {
        let Some(id) = rollout_name.id().map(str::to_lowercase) else {
            return;
        };

        let mut live = self.live.rollouts_of(&id).iter();
        let is_unchanged = live.any(|live| {
            live.rollout_name == rollout_name
                && (live.size, live.mtime) == (entry.size, entry.mtime)
        });
        if is_unchanged {
            return;
        }

        // Successive archives often have an equal copy, which is compared once for all of them.
        let copies = self.copies.entry(id).or_default();
        let mut known_copies = copies.iter_mut();
        match known_copies.find(|copy| copy.is_equal_to_entry(&rollout_name, &entry)) {
            Some(equal_copy) => equal_copy.places.push(place_index),
            None => copies.push(RolloutCopy {
                rollout_name,
                content: CopyContent::Entry(entry),
                places: vec![place_index],
            }),
        }
    }

    /// Adds the file at `path`, a copy of the rollout with this name.
    pub(crate) fn add_file(&mut self, place: CopyPlace, rollout_name: RolloutName, path: PathBuf) {
        let Some(id) = rollout_name.id().map(str::to_lowercase) else {
            return;
        };
        let copy = RolloutCopy {
            rollout_name,
            content: CopyContent::File(path),
            places: vec![self.places.len()],
        };
        self.copies.entry(id).or_default().push(copy);
        let source = None;
        self.places.push(SearchedPlace { place, source });
    }

    /// Returns the compressed rollouts that have a plain form beside them.
    pub(crate) fn list_compressed_copies(&self) -> Vec<PathBuf> {
        let live = self.live.0.values().flatten();
        live.filter_map(|rollout| rollout.compressed_copy.clone())
            .collect()
    }

    /// Returns the places of each of the different copies of a conversation's rollouts.
    pub(crate) fn list_places_by_copy(&self, id: &str) -> impl Iterator<Item = Vec<CopyPlace>> {
        let copies = self.copies.get(id).into_iter().flatten();
        copies.map(|copy| {
            copy.places
                .iter()
                .map(|index| self.places[*index].place.clone())
                .collect()
        })
    }

    /// Compares each live conversation with its copies. Messages in `accepted` are not reported.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn find_losses(&self, accepted: &AcceptedLosses) -> Result<FoundLosses> {
        self.find_losses_of(accepted, |_any_id| true)
    }

    /// Like [`LossSearch::find_losses`], for the conversations that `is_wanted` selects by their id.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn find_losses_of(
        &self,
        accepted: &AcceptedLosses,
        is_wanted: impl Fn(&String) -> bool,
    ) -> Result<FoundLosses> {
        let mut found = FoundLosses::default();
        let bases = bases::find_missing_bases(&self.live, &self.copies, &self.places)?;

        let compare = |id: &String| {
            let thread = self.collect_copies(id, &bases);
            let lost = compare::find_lost_messages(&thread, &self.places);
            (id.clone(), lost)
        };

        let add_result = |(id, result): (String, Result<_>)| -> Result<()> {
            check_interrupt()?;
            match result {
                Ok(lost_by_place) => {
                    let loss = Loss::from_lost_messages(id, lost_by_place, accepted);
                    found.losses.extend(loss);
                }
                Err(e) => found.failures.push((id, e)),
            }
            Ok(())
        };

        // A conversation without a live rollout was deleted by the user, so its messages are not lost.
        let copied_ids = self.copies.keys();
        let live_ids = copied_ids.filter(|id| self.live.0.contains_key(*id));
        let compared_ids = live_ids.chain(bases.keys()).filter(|id| is_wanted(id));
        // The set removes duplicates: a thread with copies of its own and a missing base comes from both lists.
        let compared_ids: BTreeSet<&String> = compared_ids.collect();
        let max_running = parallel::thread_count() * 2;
        parallel::run_each_ordered(max_running, compared_ids, compare, add_result)?;

        for loss in &mut found.losses {
            let live = self.live.rollouts_of(&loss.id).iter();
            let newest = live.max_by_key(|rollout| &rollout.rollout_name.name);
            loss.rollout_path = newest.map(|rollout| rollout.path.clone());
            if bases.contains_key(&loss.id) {
                loss.restored_id = self.find_restored_id(loss);
            }
        }
        Ok(found)
    }

    /// Returns a live thread with the copies of its rollouts and of its missing bases.
    fn collect_copies(&self, id: &String, missing_bases: &MissingBases) -> ComparedThread<'_> {
        let bases = missing_bases.get(id).cloned().unwrap_or_default();
        let mut copies: Vec<_> = self.copies.get(id).into_iter().flatten().collect();
        if !bases.is_empty() {
            let all_copies = self.copies.values().flatten();
            copies.extend(all_copies.filter(|copy| bases.contains_key(&copy.rollout_id())));
        }

        ComparedThread {
            live: self.live.rollouts_of(id),
            copies,
            bases,
        }
    }

    /// Returns the id of the conversation to restore from the place with the most complete copy. If the place has only
    /// the rollouts that the conversation continues, the id is that of a deleted conversation.
    fn find_restored_id(&self, loss: &Loss) -> String {
        let has_thread = |source: &CopyOrigin| {
            let mut rollouts = rollout_files(source.files());
            rollouts.any(|(name, _)| {
                name.id()
                    .is_some_and(|id| id.eq_ignore_ascii_case(&loss.id))
            })
        };

        let source = self.places[loss.place].source.as_ref();
        if source.is_some_and(has_thread) {
            return loss.id.clone();
        }

        // The place has only rollouts of the base, so the deleted conversation that owns them is restored.
        let base_id = loss.messages.first().map(|lost| lost.rollout_id.as_str());
        let mut copies_by_thread = self.copies.iter();
        let owner = copies_by_thread.find(|(_, copies)| {
            let mut copies = copies.iter();
            copies.any(|copy| Some(copy.rollout_id().as_str()) == base_id)
        });
        owner.map_or_else(|| loss.id.clone(), |(id, _)| id.clone())
    }
}
