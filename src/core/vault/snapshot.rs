//! Lists the snapshots of homes in the repository, and finds one of them.

use super::error::VaultError;
use super::restic::Restic;
use super::snapshot_id::short_id;
use super::tags::{SnapshotTags, are_sync_tags};
use crate::archive::{BackupMode, Metadata};
use crate::inventory::{ArchiveClass, RetentionCandidate, Soundness};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::fmt::Display;

/// A snapshot of a home in the repository, made by this or another program.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The full id, 64 hexadecimal digits.
    pub id: String,
    /// The time of the capture, or of the imported archive.
    pub time: DateTime<Utc>,
    pub host: String,
    /// The description in the tags; `None` for a snapshot of another program.
    pub tags: Option<SnapshotTags>,
}

/// A snapshot of any kind, as `restic snapshots --json` lists it.
#[derive(Debug, Deserialize)]
pub(super) struct ListedSnapshot {
    pub(super) id: String,
    pub(super) time: DateTime<Utc>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl ListedSnapshot {
    pub(super) fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }
}

impl Snapshot {
    /// Returns the beginning of the id, as restic displays it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }

    /// Returns the error that the snapshot does not contain `path`.
    pub fn no_path_error(&self, path: impl Display) -> VaultError {
        VaultError::NoPath {
            snapshot: self.short_id().to_owned(),
            path: path.to_string(),
        }
    }

    /// Returns the snapshot for the retention rules, or `None` for a snapshot of another program.
    pub fn to_retention_candidate(&self) -> Option<RetentionCandidate> {
        let tags = self.tags.as_ref()?;
        let metadata = &tags.metadata;
        Some(RetentionCandidate {
            archive: self.id.clone(),
            identity: metadata.identity(),
            class: ArchiveClass::of(metadata),
            home: format!("{}:{}", self.host, metadata.source_codex_home),
            machine: metadata.machine.clone(),
            excludes: metadata.excludes,
            conversations: metadata.conversation_count(),
            lacks_conversations: metadata.has_no_conversations(),
            incomplete: metadata.skipped > 0,
            is_partial: false,
            made_at: Some(self.time),
            bytes: metadata.bytes,
            // restic writes a snapshot after all of its data; `vault check` finds later damage.
            soundness: Soundness::Verified,
        })
    }
}

/// Lists the snapshots of homes in the repository, oldest first, but not the snapshots of sync. Takes no lock.
///
/// # Errors
/// restic fails.
pub fn list_snapshots(restic: &Restic) -> Result<Vec<Snapshot>, VaultError> {
    let listed = list_tagged(restic, &[])?.into_iter();
    let of_homes = listed.filter(|listed| !are_sync_tags(listed.tags()));
    let to_snapshot = |listed: ListedSnapshot| Snapshot {
        tags: SnapshotTags::from_tags(listed.tags()),
        id: listed.id,
        time: listed.time,
        host: listed.hostname,
    };
    Ok(of_homes.map(to_snapshot).collect())
}

/// Lists the snapshots that the options `filter_options` of `restic snapshots` choose, oldest first.
pub(super) fn list_tagged(
    restic: &Restic,
    filter_options: &[&str],
) -> Result<Vec<ListedSnapshot>, VaultError> {
    let args = [&["snapshots", "--json", "--no-lock"], filter_options].concat();
    let parsed = serde_json::from_slice::<Option<Vec<ListedSnapshot>>>(&restic.run(&args)?);
    let parsed = parsed.map_err(|e| VaultError::Output("snapshots", e))?;
    let mut snapshots = parsed.unwrap_or_default();
    snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    Ok(snapshots)
}

/// Finds the snapshot whose id begins with `prefix`.
///
/// # Errors
/// No snapshot or several snapshots match.
pub fn find_by_id<'a>(snapshots: &'a [Snapshot], prefix: &str) -> Result<&'a Snapshot, VaultError> {
    let matching = snapshots.iter().filter(|s| s.id.starts_with(prefix));
    let matching: Vec<_> = matching.collect();
    match *matching {
        [snapshot] if !prefix.is_empty() => Ok(snapshot),
        [] | [_] => Err(VaultError::NoSnapshot(prefix.to_owned())),
        _ => Err(VaultError::Ambiguous(prefix.to_owned(), matching.len())),
    }
}

/// The home and the machine whose snapshots [`find_preferred`] prefers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SnapshotPlace<'a> {
    /// Id of the machine, if it has made a snapshot.
    pub machine: Option<&'a str>,
    pub host: &'a str,
    pub home: &'a str,
}

/// Returns the best snapshot of this program that `is_wanted` accepts, except safety backups. Prefers snapshots of the
/// machine, then of its host name, then of the home, then full ones, those with conversations first, then those of
/// conversations, and last the newest.
pub fn find_preferred<'a>(
    snapshots: &'a [Snapshot],
    place: SnapshotPlace<'_>,
    is_wanted: impl Fn(&Metadata) -> bool,
) -> Option<&'a Snapshot> {
    let with_metadata = snapshots.iter();
    let with_metadata = with_metadata.filter_map(|s| Some((s, &s.tags.as_ref()?.metadata)));
    let candidates =
        with_metadata.filter(|(_, metadata)| !metadata.is_safety() && is_wanted(metadata));

    let rank = |(snapshot, metadata): &(&Snapshot, &Metadata)| {
        let machine = metadata.machine.as_deref();
        (
            machine.is_some() && machine == place.machine,
            snapshot.host == place.host,
            metadata.source_codex_home == place.home,
            metadata.is_full() && !metadata.has_no_conversations(),
            metadata.is_full(),
            metadata.mode == BackupMode::Sessions,
            snapshot.time,
        )
    };
    let (snapshot, _) = candidates.max_by_key(rank)?;
    Some(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, host: &str, mode: BackupMode, at: i64) -> Snapshot {
        Snapshot {
            id: id.into(),
            time: DateTime::from_timestamp(at, 0).unwrap(),
            host: host.into(),
            tags: Some(SnapshotTags {
                metadata: Metadata {
                    mode,
                    ..Metadata::default()
                },
                ..SnapshotTags::default()
            }),
        }
    }

    #[test]
    fn snapshots_of_the_machine_then_of_its_host_name_then_of_the_home_are_preferred() {
        let of = |id: &str, host: &str, machine: &str, home: &str, at: i64| {
            let mut made = snapshot(id, host, BackupMode::Full, at);
            if let Some(tags) = &mut made.tags {
                tags.metadata.machine = Some(machine.into());
                tags.metadata.source_codex_home = home.into();
            }
            made
        };
        let all = [
            of("1", "vm", "a", "/home", 1),
            of("2", "vm", "a", "/other", 2),
            of("3", "vm", "b", "/home", 3),
            of("4", "nas", "c", "/home", 4),
        ];
        let id = |machine: Option<&'static str>, home: &'static str| {
            let place = SnapshotPlace {
                machine,
                host: "vm",
                home,
            };
            find_preferred(&all, place, |_| true).unwrap().id.clone()
        };
        assert_eq!(id(Some("a"), "/home"), "1");
        assert_eq!(id(Some("a"), "/third"), "2");
        assert_eq!(id(Some("new"), "/home"), "3");
        assert_eq!(id(None, "/other"), "2");
    }

    #[test]
    fn snapshots_of_the_host_and_then_full_ones_are_preferred_to_newer_ones() {
        let mut all = vec![
            snapshot("aa1", "laptop", BackupMode::Full, 1),
            snapshot("aa2", "laptop", BackupMode::Auth, 2),
            snapshot("ab3", "desktop", BackupMode::Full, 3),
            snapshot("aa4", "laptop", BackupMode::Full, 4),
        ];
        let tags = all[3].tags.as_mut().unwrap();
        tags.metadata.excludes = true;
        tags.metadata.excludes_conversations = Some(true);
        all.push(Snapshot {
            tags: None,
            ..snapshot("ff9", "laptop", BackupMode::Full, 9)
        });
        let id = |host: &str| {
            let place = SnapshotPlace {
                host,
                ..SnapshotPlace::default()
            };
            find_preferred(&all, place, |_| true).unwrap().id.clone()
        };
        assert_eq!(id("laptop"), "aa1");
        assert_eq!(id("server"), "ab3");
    }

    #[test]
    fn a_snapshot_of_an_emptied_home_lacks_conversations_for_the_retention() {
        let of_emptied_home = Snapshot {
            tags: Some(SnapshotTags {
                metadata: Metadata {
                    conversations: Some(0),
                    ..Metadata::default()
                },
                ..SnapshotTags::default()
            }),
            ..snapshot("ab5", "laptop", BackupMode::Full, 5)
        };
        let candidate = of_emptied_home.to_retention_candidate();
        assert!(candidate.is_some_and(|candidate| candidate.lacks_conversations));
    }

    #[test]
    fn a_snapshot_is_found_by_an_unambiguous_beginning_of_its_id() {
        let of = |id: &str| snapshot(id, "laptop", BackupMode::Full, 1);
        let mut all = vec![of("aa1"), of("aa2"), of("ab3"), of("aa4")];
        all.push(Snapshot {
            tags: None,
            ..of("ff9")
        });
        assert_eq!(find_by_id(&all, "ab").unwrap().id, "ab3");
        assert!(matches!(
            find_by_id(&all, "a"),
            Err(VaultError::Ambiguous(_, 4))
        ));
        assert!(matches!(
            find_by_id(&all, ""),
            Err(VaultError::Ambiguous(_, 5))
        ));
        assert!(matches!(
            find_by_id(&all, "x"),
            Err(VaultError::NoSnapshot(_))
        ));
    }
}
