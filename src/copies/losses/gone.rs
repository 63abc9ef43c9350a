//! Whole conversations that only copies have.
//!
//! A conversation is gone if the home has no rollout of it, and the user neither moved it to the trash nor accepted its
//! loss. `codex delete` leaves no trace, so a few gone conversations are listed, but are no loss.

use crate::context::Context;
use crate::copies::losses::compare::{self, ComparedThread, Loss};
use crate::copies::losses::place::{CopyBackup, CopyPlace, CopyPlaceKind};
use crate::copies::losses::rollout_copy::{CopyContent, RolloutCopy};
use crate::copies::losses::search::LossSearch;
use crate::copies::source::{list_thread_ids, read_names, read_threads, read_title};
use crate::doctor::way_back::{COMPARED_AGE, DismissedIds, MAX_DELETED, is_loss};
use crate::error::{Result, check_interrupt};
use chrono::{DateTime, Utc};
use codex_manager_core::codex::ListedThread;
use codex_manager_core::inventory::losses::{self, AcceptedLosses, KnownGone, LossRecord};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A conversation that only copies have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoneConversation {
    /// In lower case.
    pub id: String,
    /// The index of the newest place with a copy.
    pub place: usize,
}

impl LossSearch {
    /// Returns true if a copied conversation is not live. It may be dismissed, or of a subagent.
    pub(crate) fn lacks_threads(&self) -> bool {
        self.copies.keys().any(|id| !self.live.0.contains_key(id))
    }

    /// Returns the gone conversations that a place selected by `is_counted` has, in the order of their newest places.
    /// Conversations of subagents do not count: they come and go with those that started them.
    pub(crate) fn find_gone(
        &self,
        dismissed: &DismissedIds,
        is_counted: impl Fn(&CopyPlace) -> bool,
    ) -> Vec<GoneConversation> {
        let mut by_place: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
        let missing = self
            .copies
            .iter()
            .filter(|(id, _)| !self.live.0.contains_key(*id));
        for (id, copies) in missing {
            let places = copies.iter().flat_map(|copy| &copy.places).copied();
            let counted = places.filter(|place| is_counted(&self.places[*place].place));
            if let Some(newest) = counted.min()
                && !dismissed.contains(id, self.made_at(newest))
            {
                by_place.entry(newest).or_default().push(id);
            }
        }

        let mut gone = Vec::new();
        for (place, ids) in by_place {
            let children = self.list_children(place);
            let own = ids.into_iter().filter(|id| !children.contains(*id));
            gone.extend(own.map(|id| GoneConversation {
                id: id.clone(),
                place,
            }));
        }
        gone
    }

    fn made_at(&self, place: usize) -> Option<DateTime<Utc>> {
        let backup = self.places[place].place.backup.as_ref();
        backup.map(|backup| backup.made_at)
    }

    /// Returns the ids of the subagents and side conversations at a place, in lower case.
    fn list_children(&self, place: usize) -> HashSet<String> {
        let source = self.places[place].source.as_deref();
        let threads = source
            .map_or_else(Vec::new, |source| read_threads(source))
            .into_iter();
        let children = threads.filter(ListedThread::is_child);
        children.map(|thread| thread.id.to_lowercase()).collect()
    }

    /// Returns the titles of the gone conversations, in their order. A title is empty if neither the place nor the
    /// rollout records one.
    pub(crate) fn read_gone_titles(&self, gone: &[GoneConversation]) -> Vec<String> {
        let mut titles = Vec::with_capacity(gone.len());
        for of_place in gone.chunk_by(|a, b| a.place == b.place) {
            let place = of_place[0].place;
            let recorded =
                self.places[place]
                    .source
                    .as_deref()
                    .map_or_else(HashMap::new, |source| {
                        let threads = read_threads(source).into_iter();
                        let mut recorded: HashMap<_, _> = threads
                            .map(|thread| (thread.id.to_lowercase(), thread.title))
                            .collect();
                        recorded.extend(read_names(source).unwrap_or_default());
                        recorded
                    });
            titles.extend(of_place.iter().map(|gone| {
                let title = recorded.get(&gone.id).filter(|title| !title.is_empty());
                title
                    .cloned()
                    .or_else(|| self.read_copied_title(gone))
                    .unwrap_or_default()
            }));
        }
        titles
    }

    /// Returns the title in the copied rollouts of a conversation; `None` if they have none or cannot be read.
    fn read_copied_title(&self, gone: &GoneConversation) -> Option<String> {
        let source = self.places[gone.place].source.as_deref()?;
        let copies = self.copies.get(&gone.id)?.iter();
        let mut entries = copies
            .filter(|copy| copy.places.contains(&gone.place))
            .filter_map(|copy| match &copy.content {
                CopyContent::Entry(entry) => Some(entry),
                CopyContent::File(_) => None,
            });
        entries.find_map(|entry| read_title(source, entry).ok().flatten())
    }

    /// Returns sets of indexes of places, the newest first in each set. If one place of each set is kept, each message
    /// of the gone conversation that any place selected by `is_wanted` has can still be restored.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn find_needed_places_of_gone(
        &self,
        gone: &GoneConversation,
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Result<Vec<Vec<usize>>> {
        let copies = self.copies.get(&gone.id).map_or(&[][..], Vec::as_slice);
        let names: BTreeSet<_> = copies.iter().map(|copy| &copy.rollout_name.name).collect();
        // Most conversations did not change between two backups: all their copies are equal, and none is read.
        if names.len() < copies.len()
            && let Some(loss) = self.compare_gone(gone, copies)?
        {
            let needed = loss.find_needed_places(&self.places, is_wanted).into_iter();
            let index_of = |place: CopyPlace| {
                let mut searched = self.places.iter();
                searched.position(|searched| searched.place.name == place.name)
            };
            return Ok(needed
                .map(|set| set.into_iter().filter_map(index_of).collect())
                .collect());
        }

        let wanted_places_of = |copy: &RolloutCopy| {
            let places = copy.places.iter().copied();
            places
                .filter(|place| is_wanted(&self.places[*place].place.kind))
                .collect()
        };
        Ok(copies.iter().map(wanted_places_of).collect())
    }

    /// Returns all messages of a gone conversation as lost ones; `None` if a copy cannot be read.
    fn compare_gone(
        &self,
        gone: &GoneConversation,
        copies: &[RolloutCopy],
    ) -> Result<Option<Loss>> {
        check_interrupt()?;
        let thread = ComparedThread {
            live: &[],
            copies: copies.iter().collect(),
            bases: HashMap::new(),
        };
        let Ok(lost) = compare::find_lost_messages(&thread, &self.places) else {
            check_interrupt()?;
            return Ok(None);
        };
        let accepted = AcceptedLosses::default();
        Ok(Loss::from_lost_messages(gone.id.clone(), lost, &accepted))
    }

    /// Returns the time from which a conversation is known to be gone, for one that no check recorded: that of the
    /// first full backup without it, else `now`. If no backup can show it, because the copy is of another machine or
    /// the home is gone altogether, the time of the newest copy.
    pub(crate) fn find_time_of_absence(
        &self,
        gone: &GoneConversation,
        has_home: bool,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let Some(newest_copy) = &self.places[gone.place].place.backup else {
            return now;
        };
        if newest_copy.is_from_other_machine || !has_home {
            return newest_copy.made_at;
        }
        let later = self.own_full_backups().map(|(_, backup)| backup.made_at);
        let later = later.filter(|made_at| *made_at > newest_copy.made_at);
        later.min().unwrap_or(now)
    }

    /// Returns the indexes of the places with all conversations that the home had when each was made.
    fn own_full_backups(&self) -> impl Iterator<Item = (usize, &CopyBackup)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, searched)| {
            let backup = searched.place.backup.as_ref()?;
            (backup.is_full && !backup.is_from_other_machine).then_some((index, backup))
        })
    }

    /// Returns the ids of the gone conversations that the user hardly deleted one by one: the home lacks more than a
    /// tenth of the newest backup, or has less than half as many as the fullest one of [`COMPARED_AGE`].
    pub(crate) fn find_vanished(
        &self,
        gone: &[GoneConversation],
        now: DateTime<Utc>,
    ) -> BTreeSet<String> {
        let gone_ids: BTreeSet<_> = gone.iter().map(|gone| gone.id.as_str()).collect();
        let newest = self
            .own_full_backups()
            .max_by_key(|(_, backup)| backup.made_at);
        let recent = self
            .own_full_backups()
            .filter(|(_, backup)| now - backup.made_at <= COMPARED_AGE);
        let fullest = recent.max_by_key(|(place, _)| self.list_ids_at(*place).len());

        let mut vanished = BTreeSet::new();
        for (place, is_newest) in [(newest, true), (fullest, false)] {
            if let Some((place, _)) = place {
                vanished.extend(self.find_vanished_since(place, is_newest, &gone_ids));
            }
        }
        vanished
    }

    fn list_ids_at(&self, place: usize) -> BTreeSet<String> {
        let source = self.places[place].source.as_deref();
        source.map_or_else(BTreeSet::new, |source| list_thread_ids(source.files()))
    }

    /// Returns those of `gone_ids` that the backup at `place` has, if they are a loss.
    fn find_vanished_since(
        &self,
        place: usize,
        is_newest: bool,
        gone_ids: &BTreeSet<&str>,
    ) -> BTreeSet<String> {
        let is_live = |id: &String| self.live.0.contains_key(id);
        let mut copied_ids = self.list_ids_at(place);
        copied_ids.retain(|id| is_live(id) || gone_ids.contains(id.as_str()));
        let vanished: BTreeSet<_> = copied_ids
            .iter()
            .filter(|id| !is_live(id))
            .cloned()
            .collect();
        let children = self.list_children(place);
        let copied_count = copied_ids
            .difference(&children.iter().cloned().collect())
            .count();
        let live_count = self
            .live
            .0
            .keys()
            .filter(|id| !children.contains(*id))
            .count();
        let is_loss = is_loss(vanished.len(), live_count, copied_count, is_newest);
        if is_loss { vanished } else { BTreeSet::new() }
    }
}

/// Records the gone conversations for `doctor`, `sessions` and `notify`, with those in `vanished` as a loss. A check of
/// all places also removes the others from the record. Returns true if more conversations than a user deletes are
/// recorded as a loss for the first time. Prints a warning if the record cannot be written.
pub(crate) fn record_gone(
    gone: &[GoneConversation],
    vanished: &BTreeSet<String>,
    is_complete_check: bool,
    context: &Context,
) -> bool {
    let home = losses::home_key(context.codex_home());
    let now = context.local_now();
    let mut new_losses = 0;
    let mut update_gone = |record: &LossRecord| {
        let former = record.gone_from(&home);
        let accepted = record.accepted_gone_in(&home);
        let mut known = if is_complete_check {
            BTreeMap::new()
        } else {
            former.clone()
        };
        new_losses = 0;
        for id in gone
            .iter()
            .map(|gone| &gone.id)
            .filter(|id| !accepted.contains(*id))
        {
            let former = former.get(id);
            let was_loss = former.is_some_and(|former| former.is_loss);
            let is_loss = was_loss || vanished.contains(id);
            new_losses += usize::from(is_loss && !was_loss);
            let since = former.map_or(now, |former| former.since);
            known.insert(id.clone(), KnownGone { since, is_loss });
        }
        known
    };

    let record = losses::read(context.manager_home()).unwrap_or_default();
    if update_gone(&record) != record.gone_from(&home) {
        let change = |record: &mut LossRecord| {
            let gone = update_gone(record);
            record.set_gone(&home, gone);
        };
        if let Err(e) = losses::update(context.manager_home(), change) {
            context.warn(format_args!("cannot record the lost conversations: {e}"));
        }
    }
    new_losses > MAX_DELETED
}
