//! The newest snapshots of each replica.

use super::causality::VersionId;
use super::store::RemoteSnapshot;
use std::collections::BTreeMap;

/// Replicas with several newest snapshots: two machines published under one id, because one has a copy of the other's
/// disk. Maps the id of each replica to the number of the last publication that both machines have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ForkedReplicas(BTreeMap<String, u64>);

impl ForkedReplicas {
    /// Finds the replicas with several of the `heads`; `listed` are all snapshots of the store.
    pub(super) fn find(heads: &[RemoteSnapshot], listed: &[RemoteSnapshot]) -> Self {
        let mut last_common_numbers = BTreeMap::new();
        for RemoteSnapshot { replica, .. } in heads {
            let is_of_replica = |snapshot: &&RemoteSnapshot| snapshot.replica == *replica;
            let heads_of_replica: Vec<_> = heads.iter().filter(is_of_replica).collect();
            if heads_of_replica.len() == 1 {
                continue;
            }

            let is_common = |snapshot: &&RemoteSnapshot| {
                heads_of_replica
                    .iter()
                    .all(|head| is_based_on(head, &snapshot.id, listed))
            };
            let common_snapshots = listed.iter().filter(is_of_replica).filter(is_common);
            let last_common = common_snapshots.map(|snapshot| snapshot.number).max();
            // Publications are numbered from 1.
            last_common_numbers.insert(replica.clone(), last_common.unwrap_or(0));
        }
        Self(last_common_numbers)
    }

    /// Returns true if two machines may have published different versions under the id `version`.
    pub(super) fn is_ambiguous(&self, version: &VersionId) -> bool {
        let VersionId(replica, number) = version;
        let last_common = self.0.get(replica);
        last_common.is_some_and(|last| number > last)
    }
}

/// Returns true if both are ids of the same snapshot. One may be the beginning of the other, because some versions of
/// restic print only the beginning.
pub(super) fn is_same_id(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a))
}

/// Returns the newest snapshots of each replica: one, unless two machines published under its id.
pub(crate) fn find_heads(snapshots: &[RemoteSnapshot]) -> Vec<RemoteSnapshot> {
    let mut by_replica: BTreeMap<&str, Vec<&RemoteSnapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let publications = by_replica.entry(&snapshot.replica).or_default();
        publications.push(snapshot);
    }

    let mut heads = Vec::new();
    for publications in by_replica.values() {
        let newest_number = publications.iter().map(|snapshot| snapshot.number).max();
        let is_newest = |snapshot: &RemoteSnapshot| Some(snapshot.number) == newest_number;
        let has_successor =
            |snapshot: &RemoteSnapshot| publications.iter().any(|next| follows(next, snapshot));
        // A snapshot that the store does not list yet may follow this one.
        let may_have_successor = |snapshot: &RemoteSnapshot| {
            let mut newest_snapshots = publications.iter().filter(|next| is_newest(next));
            newest_snapshots.all(|newest| has_gap_above(newest, snapshot.number, snapshots))
        };

        for &snapshot in publications {
            let is_replaced = || has_successor(snapshot) || may_have_successor(snapshot);
            if is_newest(snapshot) || !is_replaced() {
                heads.push(snapshot.clone());
            }
        }
    }
    heads
}

fn follows(later: &RemoteSnapshot, earlier: &RemoteSnapshot) -> bool {
    let base = later.base.as_deref();
    base.is_some_and(|base| is_same_id(base, &earlier.id))
}

/// Returns the snapshot `from` and the snapshots on which it is based, the newest first, up to the first that is not
/// listed.
fn trace_lineage<'s>(
    from: &'s RemoteSnapshot,
    listed: &'s [RemoteSnapshot],
) -> impl Iterator<Item = &'s RemoteSnapshot> {
    std::iter::successors(Some(from), |later| {
        let mut candidates = listed.iter().filter(|base| base.number < later.number);
        candidates.find(|base| base.replica == later.replica && follows(later, base))
    })
}

/// Returns true if the lineage of `from` breaks off above `number`, at a snapshot with a base that is not listed.
fn has_gap_above(from: &RemoteSnapshot, number: u64, listed: &[RemoteSnapshot]) -> bool {
    let last = trace_lineage(from, listed).last().unwrap_or(from);
    last.number > number && last.base.is_some()
}

/// Returns true if `id` is one of the snapshots on which `from` is based.
pub(super) fn is_based_on(from: &RemoteSnapshot, id: &str, listed: &[RemoteSnapshot]) -> bool {
    let mut bases = trace_lineage(from, listed).filter_map(|snapshot| snapshot.base.as_deref());
    bases.any(|base| is_same_id(base, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, number: u64, base: Option<&str>) -> RemoteSnapshot {
        RemoteSnapshot {
            id: id.to_owned(),
            replica: "f00d".to_owned(),
            machine: "desk".to_owned(),
            number,
            base: base.map(str::to_owned),
        }
    }

    #[test]
    fn two_heads_of_a_replica_are_a_fork_unless_a_snapshot_between_them_is_not_listed() {
        let one = snapshot("aaaa1", 1, None);
        let two = snapshot("bbbb2", 2, Some("aaaa"));
        let other_two = snapshot("cccc2", 2, Some("aaaa"));
        let three = snapshot("dddd3", 3, Some("bbbb"));
        let ids = |all: &[&RemoteSnapshot]| {
            let all: Vec<_> = all.iter().map(|one| (*one).clone()).collect();
            let heads = find_heads(&all);
            let forked = ForkedReplicas::find(&heads, &all);
            let version = |number| VersionId("f00d".to_owned(), number);
            let ambiguous = (1..4).filter(|number| forked.is_ambiguous(&version(*number)));
            let ids: Vec<_> = heads.into_iter().map(|head| head.id).collect();
            (ids.join(" "), ambiguous.collect::<Vec<_>>())
        };
        assert_eq!(ids(&[&one, &two, &three]), ("dddd3".to_owned(), vec![]));
        assert_eq!(ids(&[&one, &three]), ("dddd3".to_owned(), vec![]));
        let both = ids(&[&one, &two, &other_two]);
        assert_eq!(both, ("bbbb2 cccc2".to_owned(), vec![2, 3]));
        let later = ids(&[&one, &two, &other_two, &three]);
        assert_eq!(later, ("cccc2 dddd3".to_owned(), vec![2, 3]));
        let all = [one, two, other_two, three.clone()];
        assert!(is_based_on(&three, "aaaa1", &all) && !is_based_on(&three, "cccc2", &all));
    }
}
