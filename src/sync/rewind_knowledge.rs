//! The rollouts that the user knew of when a rewind began, or when a conflict of branches was decided.
//!
//! Files do not tell a branch of another machine from one that its user left on purpose. So the machine of a rewind
//! publishes with its first upload which rollout was the newest one before, and the number of its last line. A decision
//! publishes the same about the branch that it drops. The records are among the [`resolutions`](super::resolutions) and
//! have the form of a decision about a version that no machine has: the end of the id of the known rollout and the number
//! are in the place of its digest.

use super::conflict_copies;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The number of digits at the end of an id that a record has.
const ID_DIGITS: usize = 8;

/// A rollout as it was known: the end of its id, and the number of its last line.
type KnownRollout = (String, u64);

/// The known rollouts of each rollout of one thread, by its id.
#[derive(Debug, Default)]
pub(super) struct RewindKnowledge(BTreeMap<String, Vec<KnownRollout>>);

fn end_of_id(id: &str) -> &str {
    id.len()
        .checked_sub(ID_DIGITS)
        .and_then(|start| id.get(start..))
        .unwrap_or(id)
}

/// Returns the record that the rollout of this key is newer than the lines of another one up to a number.
pub(super) fn record_name(key: &str, known_id: &str, last_ordinal: u64) -> String {
    let number = u32::try_from(last_ordinal).unwrap_or(u32::MAX);
    let label = conflict_copies::conversation_label(key);
    format!("{label}.{}{number:08x}.fork", end_of_id(known_id))
}

impl RewindKnowledge {
    /// Reads the records about the rollouts of a thread, given by id with their keys.
    pub(super) fn read<'a>(
        rollouts: impl Iterator<Item = (&'a str, &'a str)>,
        records: &[&BTreeSet<String>],
    ) -> Self {
        let mut all = Self::default();
        for (id, key) in rollouts {
            let prefix = format!("{}.", conflict_copies::conversation_label(key));
            for records in records {
                let from = records.range(prefix.clone()..);
                for record in from.take_while(|record| record.starts_with(&prefix)) {
                    all.0
                        .entry(id.to_owned())
                        .or_default()
                        .extend(parse(&record[prefix.len()..]));
                }
            }
        }
        all
    }

    pub(super) fn add(&mut self, id: &str, known_id: &str, last_ordinal: u64) {
        let known = self.0.entry(id.to_owned()).or_default();
        known.push((end_of_id(known_id).to_owned(), last_ordinal));
    }

    pub(super) fn has_records(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|known| !known.is_empty())
    }

    /// Returns true if the user knew the lines of the rollout `other` up to a number when the rollout `id` began, or if
    /// that is not known: earlier versions of this program published no records. `rollouts` are the ids of the thread, of
    /// which `first` is no rewind.
    pub(super) fn knows(
        &self,
        id: &str,
        (other, last_ordinal): (&str, u64),
        rollouts: &BTreeSet<&str>,
        first: Option<&str>,
    ) -> bool {
        let (mut open, mut seen) = (vec![id], HashSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id) || Some(id) == first {
                continue;
            }
            if !self.has_records(id) {
                return true;
            }
            for (end, number) in self.0.get(id).into_iter().flatten() {
                if end_of_id(other) == end && *number >= last_ordinal {
                    return true;
                }
                open.extend(rollouts.iter().filter(|id| end_of_id(id) == end));
            }
        }
        false
    }
}

fn parse(rest: &str) -> Option<KnownRollout> {
    let (id, number) = rest.strip_suffix(".fork")?.split_at_checked(ID_DIGITS)?;
    let number = u64::from_str_radix(number, 16).ok()?;
    // The record of a branch has zeros.
    (number > 0).then(|| (id.to_owned(), number))
}
