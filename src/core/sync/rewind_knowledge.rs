//! Records of the rollouts that the user knew when a rewind began, or when a conflict of branches was decided.
//!
//! The files do not tell whether a branch comes from another machine or was left by the user on purpose. So a
//! machine that uploads a rewind for the first time publishes which rollout was the newest one before the rewind, and
//! the number of the last line of that rollout. A decision publishes the same two facts about the branch that it drops.
//!
//! The records are among the [`resolutions`](super::resolutions) and have the form of a decision about a version that
//! no machine has: in place of a digest, they have the end of the id of the known rollout and the line number.

use super::{conflict_copies, rollouts};
use crate::codex::rollout::OrderedRolloutId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Number of hex digits at the end of an id that a record contains.
const ID_DIGITS: usize = 8;

/// A rollout that the user knew.
#[derive(Debug)]
struct KnownRollout {
    /// The end of its id.
    id_end: String,
    /// The number of the last line that the user knew.
    last_ordinal: u64,
}

impl KnownRollout {
    /// Parses the digits of a record; `None` for other digits, and for the record of a branch, which has zeros.
    fn parse(digits: &str) -> Option<Self> {
        let (id_end, number) = digits.split_at_checked(ID_DIGITS)?;
        let last_ordinal = u64::from_str_radix(number, 16).ok()?;
        let id_end = id_end.to_owned();
        (last_ordinal > 0).then_some(Self {
            id_end,
            last_ordinal,
        })
    }

    fn has_id(&self, id: &OrderedRolloutId) -> bool {
        end_of_id(&id.id) == self.id_end
    }
}

/// Maps the id of each rollout of one thread to the rollouts that the user knew when that rollout began.
#[derive(Debug, Default)]
pub(super) struct RewindKnowledge(BTreeMap<OrderedRolloutId, Vec<KnownRollout>>);

fn end_of_id(id: &str) -> &str {
    let start = id.len().saturating_sub(ID_DIGITS);
    id.get(start..).unwrap_or(id)
}

/// Returns the record of this fact: when the rollout with this key began, the user knew the lines of the rollout
/// `known_id` up to the number `last_ordinal`.
pub(super) fn record_name(key: &str, known_id: &str, last_ordinal: u64) -> String {
    // A record has eight hex digits for the number.
    let number = u32::try_from(last_ordinal).unwrap_or(u32::MAX);
    let label = conflict_copies::conversation_label(key);
    format!("{label}.{}{number:08x}.fork", end_of_id(known_id))
}

impl RewindKnowledge {
    /// Reads all records, including records about rollouts that have not arrived, and groups them by the id of the
    /// thread in lower case.
    pub(super) fn read(records: &[&BTreeSet<String>]) -> HashMap<String, Self> {
        let mut threads: HashMap<String, Self> = HashMap::new();
        for record in records.iter().copied().flatten() {
            let stem = record.strip_suffix(".fork");
            let Some((label, digits)) = stem.and_then(|name| name.rsplit_once('.')) else {
                continue;
            };

            let name = format!("{label}.jsonl");
            let known_rollout = KnownRollout::parse(digits);
            if let Some((ids, known_rollout)) = rollouts::ids(&name).zip(known_rollout) {
                let thread = threads.entry(ids.thread).or_default();
                thread.0.entry(ids.rollout).or_default().push(known_rollout);
            }
        }
        threads
    }

    /// Records that the user knew the rollout `known_id` up to the line `last_ordinal` when the rollout `id` began.
    pub(super) fn add(&mut self, id: &OrderedRolloutId, known_id: &str, last_ordinal: u64) {
        let known_rollouts = self.0.entry(id.clone()).or_default();
        known_rollouts.push(KnownRollout {
            id_end: end_of_id(known_id).to_owned(),
            last_ordinal,
        });
    }

    pub(super) fn has_records(&self, id: &OrderedRolloutId) -> bool {
        self.0.contains_key(id)
    }

    /// Returns true if the user ever decided a conflict about versions of the rollout, so that a line number does not
    /// identify a line. The record of such a decision has the digits of a digest in the place of the id of a rollout.
    /// `rollouts` are all rollouts of the thread.
    pub(super) fn has_diverged(
        &self,
        id: &OrderedRolloutId,
        rollouts: &BTreeSet<&OrderedRolloutId>,
    ) -> bool {
        let mut known_rollouts = self.0.get(id).into_iter().flatten();
        known_rollouts.any(|known| !rollouts.iter().any(|id| known.has_id(id)))
    }

    /// Returns the ids of the rollouts with records.
    pub(super) fn ids(&self) -> impl Iterator<Item = &OrderedRolloutId> {
        self.0.keys()
    }

    /// Returns true if the user knew the rollout `other` up to the line `last_ordinal` when the rollout `id` began. A
    /// user who knew a rollout also knew everything that was known when that rollout began. Returns `None` if records
    /// are missing, which earlier versions of this program did not write. `rollouts` are all rollouts of the thread.
    pub(super) fn knows(
        &self,
        id: &OrderedRolloutId,
        other: &OrderedRolloutId,
        last_ordinal: u64,
        rollouts: &BTreeSet<&OrderedRolloutId>,
    ) -> Option<bool> {
        let (mut pending_ids, mut visited_ids) = (vec![id], HashSet::new());
        let mut answer_if_not_found = Some(false);
        while let Some(known_id) = pending_ids.pop() {
            if !visited_ids.insert(known_id) {
                continue;
            }

            // A missing record leaves the answer open, because an earlier version of this program wrote none. But a
            // rollout that began before `other` cannot have known it, and the first rollout is no rewind.
            let is_first = Some(&known_id) == rollouts.first();
            if !self.has_records(known_id) && known_id > other && !is_first {
                answer_if_not_found = None;
            }

            for known in self.0.get(known_id).into_iter().flatten() {
                if known.has_id(other) && known.last_ordinal >= last_ordinal {
                    return Some(true);
                }
                pending_ids.extend(rollouts.iter().filter(|id| known.has_id(id)));
            }
        }

        answer_if_not_found
    }
}
