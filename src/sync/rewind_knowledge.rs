//! The rollouts that the user knew of when a rewind began, or when a conflict of branches was decided.
//!
//! Files do not tell a branch of another machine from one that its user left on purpose. So the machine of a rewind
//! publishes with its first upload which rollout was the newest one before, and the number of its last line. A decision
//! publishes the same about the branch that it drops. The records are among the [`resolutions`](super::resolutions) and
//! have the form of a decision about a version that no machine has: the end of the id of the known rollout and the number
//! are in the place of its digest.

use super::{conflict_copies, rollouts};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The number of digits at the end of an id that a record has.
const ID_DIGITS: usize = 8;

/// A rollout as it was known: the end of its id, and the number of its last line.
type KnownRollout = (String, u64);

/// For each rollout of one thread, by its id: the rollouts that the user knew when it began.
#[derive(Debug, Default)]
pub(super) struct RewindKnowledge(BTreeMap<String, Vec<KnownRollout>>);

fn end_of_id(id: &str) -> &str {
    id.len()
        .checked_sub(ID_DIGITS)
        .and_then(|start| id.get(start..))
        .unwrap_or(id)
}

/// Returns the record that the user knew the lines of the rollout `known_id` up to `last_ordinal` when the rollout of this
/// key began.
pub(super) fn record_name(key: &str, known_id: &str, last_ordinal: u64) -> String {
    let number = u32::try_from(last_ordinal).unwrap_or(u32::MAX);
    let label = conflict_copies::conversation_label(key);
    format!("{label}.{}{number:08x}.fork", end_of_id(known_id))
}

impl RewindKnowledge {
    /// Reads the records, including those about rollouts that have not arrived. Returns them by the id of the thread.
    pub(super) fn read(records: &[&BTreeSet<String>]) -> HashMap<String, Self> {
        let mut threads: HashMap<String, Self> = HashMap::new();
        for record in records.iter().copied().flatten() {
            let parts = record.strip_suffix(".fork");
            let Some((label, digits)) = parts.and_then(|name| name.rsplit_once('.')) else {
                continue;
            };
            let name = format!("{label}.jsonl");
            let ids = rollouts::id(&name).zip(rollouts::rollout_id(&name));
            if let Some(((thread, id), known)) = ids.zip(parse_digits(digits)) {
                let thread = threads.entry(thread.to_lowercase()).or_default();
                thread.0.entry(id).or_default().push(known);
            }
        }
        threads
    }

    pub(super) fn add(&mut self, id: &str, known_id: &str, last_ordinal: u64) {
        let known = self.0.entry(id.to_owned()).or_default();
        known.push((end_of_id(known_id).to_owned(), last_ordinal));
    }

    pub(super) fn has_records(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Returns true if machines ever had different lines of a rollout, so that a line number does not identify a line.
    /// Then a record has the digest of one of its versions in place of the id of one of the `rollouts`.
    pub(super) fn has_diverged(&self, id: &str, rollouts: &BTreeSet<&str>) -> bool {
        let known = self.0.get(id).into_iter().flatten();
        let is_rollout = |end: &str| rollouts.iter().any(|id| end_of_id(id) == end);
        known.into_iter().any(|(end, _)| !is_rollout(end))
    }

    /// Returns the ids of the rollouts with records.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns true if the user knew the lines of the rollout `other` up to `last_ordinal` when the rollout `id` began, or
    /// when one that was known then began. Returns `None` if records are missing, which earlier versions of this program
    /// did not write. `rollouts` are the ids of the thread.
    pub(super) fn knows(
        &self,
        id: &str,
        (other, last_ordinal): (&str, u64),
        rollouts: &BTreeSet<&str>,
    ) -> Option<bool> {
        let (mut open, mut seen) = (vec![id], HashSet::new());
        let mut answer = Some(false);
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            // A rollout without records may be a rewind of an earlier version. Nothing newer was known when it began.
            if !self.has_records(id) && id > other && Some(&id) != rollouts.first() {
                answer = None;
            }
            for (end, number) in self.0.get(id).into_iter().flatten() {
                if end_of_id(other) == end && *number >= last_ordinal {
                    return Some(true);
                }
                open.extend(rollouts.iter().filter(|id| end_of_id(id) == end));
            }
        }
        answer
    }
}

/// Parses the digits of a record; `None` for the record of a branch, which has zeros.
fn parse_digits(digits: &str) -> Option<KnownRollout> {
    let (id, number) = digits.split_at_checked(ID_DIGITS)?;
    let number = u64::from_str_radix(number, 16).ok()?;
    (number > 0).then(|| (id.to_owned(), number))
}
