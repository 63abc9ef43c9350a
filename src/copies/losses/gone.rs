//! Whole conversations that only copies have.
//!
//! A conversation is gone if the home has no rollout of it, and the user neither moved it to the trash nor accepted its
//! loss. `codex delete` leaves no trace, so a few gone conversations are listed, but are no loss: [`is_loss`] decides.

use crate::context::Context;
use crate::copies::losses::compare::{self, ComparedThread, Loss};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind};
use crate::copies::losses::rollout_copy::{CopyContent, RolloutCopy};
use crate::copies::losses::search::LossSearch;
use crate::copies::source::{
    ConversationSource, list_thread_ids, read_names, read_threads, read_title,
};
use crate::error::{Result, check_interrupt};
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::codex::ListedThread;
use codex_manager_core::inventory::losses::{
    self, AcceptedLosses, KnownGone, KnownGoneById, LossRecord,
};
use codex_manager_core::storage::trash;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The age of the oldest archive that [`is_loss`] compares a home with, unless it is the newest one.
const COMPARED_AGE: TimeDelta = TimeDelta::days(90);

/// The conversations that are gone by the user's own decision, by id in lower case: they are in the trash of this
/// program, or their loss was accepted.
#[derive(Debug, Default)]
pub(crate) struct DismissedIds(BTreeSet<String>);

impl DismissedIds {
    /// # Errors
    /// The trash or the record of losses cannot be read, or is of a newer version.
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let manager_home = context.manager_home();
        let mut ids = losses::read(manager_home)?.accepted_gone_in(&home_key(context));
        let entries = trash::list_entries(manager_home)?;
        let of_home = entries
            .iter()
            .filter(|e| e.is_of_home(context.codex_home()));
        ids.extend(of_home.map(|entry| entry.conversation.id.to_lowercase()));
        Ok(Self(ids))
    }
}

/// A conversation that only copies have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoneConversation {
    /// In lower case.
    pub id: String,
    /// The index of the newest place with a copy.
    pub place: usize,
}

#[derive(Debug)]
pub(crate) struct ListedGone {
    pub gone: GoneConversation,
    /// Empty if neither the place nor the rollout records one.
    pub title: String,
}

impl LossSearch {
    /// Returns the gone conversations, also those of subagents.
    pub(crate) fn find_gone(&self, dismissed: &DismissedIds) -> Vec<GoneConversation> {
        let is_gone = |id: &String| !self.live.0.contains_key(id) && !dismissed.0.contains(id);
        let gone = self.copies.iter().filter(|(id, _)| is_gone(id));
        let with_places = gone.filter_map(|(id, copies)| {
            let places = copies.iter().flat_map(|copy| &copy.places).copied();
            let place = places.filter(|place| self.can_restore_gone(*place)).min()?;
            let id = id.clone();
            Some(GoneConversation { id, place })
        });
        with_places.collect()
    }

    fn can_restore_gone(&self, place: usize) -> bool {
        self.places[place].place.can_have_gone_conversations()
    }

    /// Returns the gone conversations of one place after the other, without those of subagents.
    pub(crate) fn list_gone(&self, dismissed: &DismissedIds) -> Vec<ListedGone> {
        let mut by_place: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for gone in self.find_gone(dismissed) {
            by_place.entry(gone.place).or_default().push(gone.id);
        }

        let mut listed = Vec::new();
        for (place, ids) in by_place {
            let source = self.places[place].source.as_deref();
            let mut threads = source.map_or_else(HashMap::new, |s| by_id(read_threads(s)));
            let names = source
                .and_then(|source| read_names(source).ok())
                .unwrap_or_default();
            for id in ids {
                let thread = threads.remove(&id);
                if thread.as_ref().is_some_and(ListedThread::is_child) {
                    continue;
                }
                let name = names.get(&id).cloned();
                let title = name.or(thread.map(|thread| thread.title));
                let title = title.filter(|title| !title.is_empty());
                let title = title.or_else(|| self.read_copied_title(&id, place));
                listed.push(ListedGone {
                    title: title.unwrap_or_default(),
                    gone: GoneConversation { id, place },
                });
            }
        }
        listed
    }

    /// Returns the title in the copied rollouts of a conversation; `None` if they have none or cannot be read.
    fn read_copied_title(&self, id: &str, place: usize) -> Option<String> {
        let source = self.places[place].source.as_deref()?;
        let copies = self.copies.get(id)?.iter();
        let mut entries = copies
            .filter(|copy| copy.places.contains(&place))
            .filter_map(|copy| {
                let CopyContent::Entry(entry) = &copy.content else {
                    return None;
                };
                Some(entry)
            });
        entries.find_map(|entry| read_title(source, entry).ok().flatten())
    }

    /// Returns sets of the places that `is_wanted` selects, the newest place first in each set. If one place of each
    /// set is kept, each message of the gone conversation that any of these places has can still be restored.
    ///
    /// # Errors
    /// The user interrupts.
    pub(crate) fn find_needed_places_of_gone(
        &self,
        gone: &GoneConversation,
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Result<Vec<Vec<CopyPlace>>> {
        let copies = self.copies.get(&gone.id).map_or(&[][..], Vec::as_slice);
        let names: BTreeSet<_> = copies.iter().map(|copy| &copy.rollout_name.name).collect();
        // Most conversations did not change between two backups: all their copies are equal, and none is read.
        if names.len() < copies.len()
            && let Some(loss) = self.compare_gone(gone, copies)?
        {
            return Ok(loss.find_needed_places(&self.places, is_wanted));
        }

        let places_of = |copy: &RolloutCopy| {
            let places = copy.places.iter().map(|place| &self.places[*place].place);
            let wanted = places.filter(|place| is_wanted(&place.kind)).cloned();
            wanted.collect()
        };
        Ok(copies.iter().map(places_of).collect())
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

    /// Returns true if so many conversations of the newest archive, or of the fullest one of [`COMPARED_AGE`], are gone
    /// that the user hardly deleted them one by one.
    pub(crate) fn finds_loss(&self, dismissed: &DismissedIds, now: DateTime<Utc>) -> bool {
        let full_backups = self.places.iter().filter_map(|searched| {
            let backup = searched.place.backup.as_ref()?;
            let counts = backup.is_full && searched.place.can_have_gone_conversations();
            counts.then_some((backup.made_at, searched.source.as_deref()?))
        });
        let mut full_backups: Vec<_> = full_backups.collect();
        full_backups.sort_by_key(|(made_at, _)| std::cmp::Reverse(*made_at));
        full_backups
            .iter()
            .enumerate()
            .any(|(age, (made_at, source))| {
                let is_newest = age == 0;
                let is_compared = is_newest || now - *made_at <= COMPARED_AGE;
                is_compared && is_loss(*source, &self.live, dismissed, is_newest)
            })
    }
}

/// Returns true if the home lacks more than two and more than a tenth of the conversations of the newest archive, or
/// has less than half as many as an archive. Conversations of subagents do not count.
fn is_loss(
    source: &dyn ConversationSource,
    live: &LiveThreads,
    dismissed: &DismissedIds,
    is_newest: bool,
) -> bool {
    let mut archived_ids = list_thread_ids(source.files());
    archived_ids.retain(|id| !dismissed.0.contains(id));
    let is_gone = |id: &&String| !live.0.contains_key(*id);
    // The database of the archive is read only if the home may have lost something.
    if archived_ids.iter().filter(is_gone).count() <= 2 && live.0.len() * 2 >= archived_ids.len() {
        return false;
    }

    let threads = read_threads(source).into_iter();
    let children = threads.filter(ListedThread::is_child);
    let children: BTreeSet<_> = children.map(|thread| thread.id.to_lowercase()).collect();
    archived_ids.retain(|id| !children.contains(id));
    let live_count = live.0.keys().filter(|id| !children.contains(*id)).count();
    let gone_count = archived_ids.iter().filter(is_gone).count();
    let lacks_many = gone_count > 2 && gone_count * 10 > archived_ids.len();
    let has_less_than_half = gone_count > 0 && live_count * 2 < archived_ids.len();
    is_newest && lacks_many || has_less_than_half
}

fn by_id(threads: Vec<ListedThread>) -> HashMap<String, ListedThread> {
    let threads = threads.into_iter();
    threads
        .map(|thread| (thread.id.to_lowercase(), thread))
        .collect()
}

/// Records the gone conversations for `doctor`, `sessions` and `notify`. A check of all places also removes the others.
/// Returns true if `is_loss` and a conversation was not recorded as lost before. Prints a warning if the record cannot
/// be written.
pub(crate) fn record_gone<'a>(
    gone_ids: impl Iterator<Item = &'a String>,
    is_loss: bool,
    is_complete_check: bool,
    context: &Context,
) -> bool {
    let home = home_key(context);
    let former = losses::read(context.manager_home())
        .unwrap_or_default()
        .gone_from(&home);
    let mut record = if is_complete_check {
        BTreeMap::new()
    } else {
        former.clone()
    };
    let mut is_new_loss = false;
    for id in gone_ids {
        let known = former.get(id);
        let was_lost = known.is_some_and(|known| known.is_loss);
        is_new_loss |= is_loss && !was_lost;
        let since = known.map_or_else(|| context.local_now().into(), |known| known.since);
        let is_loss = is_loss || was_lost;
        record.insert(id.clone(), KnownGone { since, is_loss });
    }

    if record != former {
        let change = |losses: &mut LossRecord| losses.set_gone(&home, record);
        if let Err(e) = losses::update(context.manager_home(), change) {
            context.warn(format_args!("cannot record the lost conversations: {e}"));
        }
    }
    is_new_loss
}

/// Returns the name of the Codex home in the record of losses.
fn home_key(context: &Context) -> String {
    context.codex_home().display().to_string()
}
