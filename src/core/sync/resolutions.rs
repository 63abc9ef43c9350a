//! Resolutions: the users' decisions to drop or to keep a version of a conversation.
//!
//! Each decision about a version has a number above all numbers that its machine knew for that version. All
//! machines store and publish the highest number of each kind. A version may be dropped if the highest number
//! against it exceeds the highest number for it. So a decision made without knowledge of a later return has
//! no effect.
//!
//! Resolutions are strings in a state and a manifest ([`SyncState::resolutions`]); older programs skip them.
//! `<name>` is the first decision against a version, by the name of its conflict copy; `<name>+<number>` is a
//! later one, and `<name>-<number>` brings the version back.
//!
//! [`SyncState::resolutions`]: super::state::SyncState::resolutions

use super::conflict_copies;
use std::collections::BTreeSet;
use std::ops::Bound;

/// The highest numbers of the decisions about one version; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Resolution {
    drop_number: u64,
    keep_number: u64,
}

impl Resolution {
    /// Returns the highest numbers about the version `name` in all of these records.
    fn of<'a>(name: &str, record_sets: impl IntoIterator<Item = &'a BTreeSet<String>>) -> Self {
        let mut resolution = Self::default();
        for records in record_sets {
            for record in records_about(records, name) {
                resolution.apply_record(&record[name.len()..]);
            }
        }
        resolution
    }

    /// Applies the suffix of a record; an unknown suffix is ignored.
    fn apply_record(&mut self, suffix: &str) {
        // An unreadable number decides nothing.
        let parse_number = |digits: &str| digits.parse().unwrap_or(0);
        if suffix.is_empty() {
            self.drop_number = self.drop_number.max(1);
        } else if let Some(digits) = suffix.strip_prefix('+') {
            self.drop_number = self.drop_number.max(parse_number(digits));
        } else if let Some(digits) = suffix.strip_prefix('-') {
            self.keep_number = self.keep_number.max(parse_number(digits));
        }
    }

    fn is_dropped(self) -> bool {
        self.drop_number > self.keep_number
    }

    /// Returns the number of the next decision, above all numbers so far.
    fn next_number(self) -> u64 {
        self.drop_number.max(self.keep_number).saturating_add(1)
    }

    /// Replaces any records about the version `name` by those of the highest numbers: `name` for the drop number 1,
    /// `name+N` for a later drop, and `name-N` for a keep.
    fn replace_records(self, name: &str, records: &mut BTreeSet<String>) {
        let old_records: Vec<_> = records_about(records, name).map(str::to_owned).collect();
        for record in old_records {
            records.remove(&record);
        }

        if self.drop_number == 1 {
            records.insert(name.to_owned());
        } else if self.drop_number >= 2 {
            records.insert(format!("{name}+{}", self.drop_number));
        }
        if self.keep_number > 0 {
            records.insert(format!("{name}-{}", self.keep_number));
        }
    }
}

/// Returns true if the version may be dropped, according to the union of these records.
pub fn is_dropped<'a>(
    name: &str,
    record_sets: impl IntoIterator<Item = &'a BTreeSet<String>>,
) -> bool {
    Resolution::of(name, record_sets).is_dropped()
}

/// Returns true if there is a decision about the version in any of these records.
pub(crate) fn has_decision<'a>(
    name: &str,
    record_sets: impl IntoIterator<Item = &'a BTreeSet<String>>,
) -> bool {
    Resolution::of(name, record_sets) != Resolution::default()
}

/// Records in `records` that a version may be dropped, and takes over the decisions about the version from `remote`,
/// the records of other machines. Adds no new decision if the version may be dropped already.
pub(crate) fn record_drop(name: &str, records: &mut BTreeSet<String>, remote: &BTreeSet<String>) {
    let mut resolution = Resolution::of(name, [&*records, remote]);
    if !resolution.is_dropped() {
        resolution.drop_number = resolution.next_number();
    }
    resolution.replace_records(name, records);
}

/// Records in `records` that a version is kept, and takes over the decisions about the version from `remote`, the
/// records of other machines. A decision to drop the version that was made without knowledge of this one then has no
/// effect. Returns the records that `records` lacked.
pub fn record_keep(
    name: &str,
    records: &mut BTreeSet<String>,
    remote: &BTreeSet<String>,
) -> Vec<String> {
    let mut resolution = Resolution::of(name, [&*records, remote]);
    if resolution.is_dropped() || resolution.keep_number == 0 {
        resolution.keep_number = resolution.next_number();
    }
    let mut added = BTreeSet::new();
    resolution.replace_records(name, &mut added);
    added.retain(|record| !records.contains(record));
    resolution.replace_records(name, records);
    added.into_iter().collect()
}

/// Returns the records to add to `records` for each version about which `remote` has a later decision. They combine the
/// decisions of both sets. This machine publishes them too, in case the other machines are gone or were restored from a
/// backup.
pub(crate) fn list_newer(records: &BTreeSet<String>, remote: &BTreeSet<String>) -> Vec<String> {
    let mut names: BTreeSet<&str> = remote.iter().map(|record| version_name(record)).collect();
    names.retain(|name| conflict_copies::is_copy_name(name));
    let mut newer_records = Vec::new();
    for name in names {
        let own_resolution = Resolution::of(name, [records]);
        let combined = Resolution::of(name, [records, remote]);
        if own_resolution != combined {
            let mut added = BTreeSet::new();
            combined.replace_records(name, &mut added);
            newer_records.extend(added);
        }
    }

    newer_records
}

/// Adds a record to `records`, which keep only the highest number of each kind for a version.
pub(crate) fn merge_record(record: &str, records: &mut BTreeSet<String>) {
    let name = version_name(record);
    let mut resolution = Resolution::of(name, [&*records]);
    resolution.apply_record(&record[name.len()..]);
    resolution.replace_records(name, records);
}

/// Returns the name of the version that a record is about, or the whole record if it is of another kind.
fn version_name(record: &str) -> &str {
    let has_only_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match record.rsplit_once(['+', '-']) {
        Some((name, number)) if conflict_copies::is_copy_name(name) && has_only_digits(number) => {
            name
        }
        _ => record,
    }
}

fn records_about<'a>(records: &'a BTreeSet<String>, name: &str) -> impl Iterator<Item = &'a str> {
    let from_name = records.range::<str, _>((Bound::Included(name), Bound::Unbounded));
    let with_prefix = from_name.take_while(move |record| record.starts_with(name));
    let records = with_prefix.map(String::as_str);
    records.filter(move |record| version_name(record) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "rollout-1.0123456789abcdef.fork";

    fn records(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|record| (*record).to_owned()).collect()
    }

    #[test]
    fn a_drop_counts_until_the_version_is_kept_and_a_later_drop_counts_again() {
        let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
        record_drop(NAME, &mut local, &remote);
        // Programs that do not know later decisions write and read this form.
        assert_eq!(local, records(&[NAME]));
        let learnt = list_newer(&remote, &local);
        for record in &learnt {
            merge_record(record, &mut remote);
        }
        assert_eq!(remote, local);
        assert!(is_dropped(NAME, [&local, &remote]));
        // The decision against the version is still published, but no longer counts.
        let added = record_keep(NAME, &mut local, &remote);
        assert_eq!(added, [format!("{NAME}-2")]);
        assert!(!is_dropped(NAME, [&local, &remote]));
        assert_eq!(record_keep(NAME, &mut local, &remote), [""; 0]);
        for record in list_newer(&remote, &local) {
            merge_record(&record, &mut remote);
        }
        assert_eq!(remote, local);
        record_drop(NAME, &mut remote, &local);
        assert!(is_dropped(NAME, [&remote, &local]));
        assert!(!is_dropped(NAME, [&local]));
        assert_eq!(
            remote,
            records(&[&format!("{NAME}+3"), &format!("{NAME}-2")])
        );
    }

    #[test]
    fn a_drop_without_knowledge_of_a_keep_does_not_count() {
        let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
        record_keep(NAME, &mut local, &BTreeSet::new());
        record_drop(NAME, &mut remote, &BTreeSet::new());
        assert!(!is_dropped(NAME, [&local, &remote]));
        // The same holds after the local record was lost.
        merge_record(NAME, &mut local);
        assert!(!is_dropped(NAME, [&local]));
    }

    #[test]
    fn unknown_records_stay_and_decide_nothing() {
        let odd = format!("{NAME}+x");
        let prefixed = format!("{NAME}f");
        let mut all = records(&["ffffffffffffffff", &odd, &prefixed, "-", ""]);
        assert!(!is_dropped(NAME, [&all]));
        assert!(is_dropped("ffffffffffffffff", [&all]));
        merge_record(&format!("{NAME}+18446744073709551615"), &mut all);
        assert!(is_dropped(NAME, [&all]));
        record_keep(NAME, &mut all, &BTreeSet::new());
        assert!(!is_dropped(NAME, [&all]));
        assert!(all.contains(&prefixed));
    }
}
