//! The rollouts of deleted conversations that live conversations continue: a fork shows the turns of its base.

use crate::copies::losses::live::{LiveRollout, LiveThreads};
use crate::copies::losses::place::SearchedPlace;
use crate::copies::losses::rollout_copy::{CopyContent, RolloutCopy};
use crate::error::{Result, check_interrupt};
use codex_manager_core::codex::RolloutCut;
use codex_manager_core::history::rollout;
use codex_manager_core::io::parallel;
use std::collections::{BTreeMap, HashMap};

/// The rollouts of deleted conversations that live threads continue. Maps the id of a thread to the ids of these
/// rollouts, each with the offset in the plain text at which the thread continues the rollout.
pub(super) type MissingBases = BTreeMap<String, HashMap<String, u64>>;

/// Finds the missing bases of live threads of which `copies` has a copy. Reads the first line of each live rollout,
/// unless all copies are of live threads.
///
/// # Errors
/// The user interrupts.
pub(super) fn find_missing_bases(
    live: &LiveThreads,
    copies: &BTreeMap<String, Vec<RolloutCopy>>,
    places: &[SearchedPlace],
) -> Result<MissingBases> {
    let deleted_threads = copies.iter().filter(|(id, _)| !live.0.contains_key(*id));
    let deleted_copies: HashMap<String, &RolloutCopy> = deleted_threads
        .flat_map(|(_, copies)| copies)
        .map(|copy| (copy.rollout_id(), copy))
        .collect();

    let mut bases = MissingBases::new();
    if deleted_copies.is_empty() {
        return Ok(bases);
    }

    let rollouts_by_thread = live.0.iter();
    let rollouts = rollouts_by_thread
        .flat_map(|(id, of_thread)| of_thread.iter().map(move |rollout| (id, rollout)));
    // For an unreadable rollout, no base is found.
    let read_base = |(id, rollout): (&String, &LiveRollout)| {
        let meta = rollout::read_head(&rollout.path).unwrap_or_default();
        (id.clone(), meta.and_then(|meta| meta.base_cut()))
    };

    let add_bases = |(id, mut base): (String, Option<RolloutCut>)| -> Result<()> {
        check_interrupt()?;
        // A base can have a base itself. The chain ends at a rollout that is live or of which there is no copy.
        while let Some(cut) = base
            && let Some(copy) = deleted_copies.get(&cut.rollout_id)
        {
            let bases_of_thread: &mut HashMap<_, _> = bases.entry(id.clone()).or_default();
            let continued_end = bases_of_thread.entry(cut.rollout_id).or_default();
            // Damaged rollouts could continue each other in a circle.
            if *continued_end >= cut.offset {
                break;
            }
            *continued_end = cut.offset;
            base = read_copied_base(copy, places);
        }
        Ok(())
    };

    parallel::run_each_ordered(parallel::thread_count() * 2, rollouts, read_base, add_bases)?;
    Ok(bases)
}

/// Returns the base of a copied rollout; `None` also if the copy cannot be read.
fn read_copied_base(copy: &RolloutCopy, places: &[SearchedPlace]) -> Option<RolloutCut> {
    let meta = match &copy.content {
        CopyContent::File(path) => rollout::read_head(path).ok()?,
        CopyContent::Entry(entry) => {
            let mut indexes = copy.places.iter();
            let source = indexes.find_map(|index| places.get(*index)?.source.as_ref())?;
            let beginning = source.read_beginning(entry).ok()?;
            rollout::parse_prefix(&beginning, entry.path.as_path()).ok()?
        }
    };
    meta.and_then(|meta| meta.base_cut())
}
