//! The newest snapshots of each replica.

use super::store::RemoteSnapshot;
use std::collections::BTreeMap;

/// A newest snapshot of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) snapshot: RemoteSnapshot,
    /// True if the replica has several: two machines are copies of one disk, and published under one id.
    pub(super) is_forked: bool,
}

/// Returns true if both are ids of one snapshot: some versions of restic print only the beginning.
pub(super) fn is_same_id(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a))
}

/// Returns the newest snapshots of each replica: usually one.
pub(super) fn find_heads(snapshots: &[RemoteSnapshot]) -> Vec<Head> {
    let mut by_replica: BTreeMap<&str, Vec<&RemoteSnapshot>> = BTreeMap::new();
    for one in snapshots {
        by_replica.entry(&one.replica).or_default().push(one);
    }
    let heads = by_replica.into_values().flat_map(|all| {
        let newest = all.iter().map(|one| one.number).max().unwrap_or_default();
        let is_base = |one: &RemoteSnapshot| all.iter().any(|other| follows(other, one));
        let is_head = |one: &&&RemoteSnapshot| {
            one.number == newest || !is_base(one) && !may_be_replaced(one, &all, newest)
        };
        let found: Vec<_> = all.iter().filter(is_head).collect();
        let is_forked = found.len() > 1;
        let heads = found.into_iter().map(move |one| Head {
            snapshot: (*one).clone(),
            is_forked,
        });
        heads.collect::<Vec<_>>()
    });
    heads.collect()
}

fn follows(later: &RemoteSnapshot, earlier: &RemoteSnapshot) -> bool {
    let base = later.base.as_deref();
    base.is_some_and(|base| is_same_id(base, &earlier.id))
}

/// Returns true if the store does not list all snapshots between this one and the newest, so that an unlisted one may
/// follow it.
fn may_be_replaced(one: &RemoteSnapshot, all: &[&RemoteSnapshot], newest: u64) -> bool {
    let mut tops = all.iter().filter(|other| other.number == newest);
    tops.all(|top| has_gap_above(top, one.number, all))
}

/// Returns true if one of the bases of `from` with a higher number than `number` is not listed.
fn has_gap_above(from: &RemoteSnapshot, number: u64, all: &[&RemoteSnapshot]) -> bool {
    let mut at = from;
    while at.number > number {
        let Some(base) = &at.base else { return false };
        let mut earlier = all.iter().filter(|one| one.number < at.number);
        match earlier.find(|one| is_same_id(base, &one.id)) {
            Some(one) => at = one,
            None => return true,
        }
    }
    false
}

/// Returns true if `id` is one of the snapshots on which `from` is based.
pub(super) fn is_based_on(from: &RemoteSnapshot, id: &str, all: &[RemoteSnapshot]) -> bool {
    let mut at = from;
    while let Some(base) = &at.base {
        if is_same_id(base, id) {
            return true;
        }
        let mut earlier = all.iter().filter(|one| one.number < at.number);
        match earlier.find(|one| one.replica == at.replica && is_same_id(base, &one.id)) {
            Some(one) => at = one,
            None => return false,
        }
    }
    false
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
            let names = heads
                .iter()
                .map(|head| (head.snapshot.id.clone(), head.is_forked));
            names.collect::<Vec<_>>()
        };
        let head = |id: &str, is_forked| (id.to_owned(), is_forked);
        assert_eq!(ids(&[&one, &two, &three]), [head("dddd3", false)]);
        assert_eq!(ids(&[&one, &three]), [head("dddd3", false)]);
        assert_eq!(
            ids(&[&one, &two, &other_two]),
            [head("bbbb2", true), head("cccc2", true)]
        );
        assert_eq!(
            ids(&[&one, &two, &other_two, &three]),
            [head("cccc2", true), head("dddd3", true)]
        );
        let all = [one, two, other_two, three.clone()];
        assert!(is_based_on(&three, "aaaa1", &all) && !is_based_on(&three, "cccc2", &all));
    }
}
