//! The snapshots that the repository lists.

use super::error::VaultError;
use super::restic::Restic;
use super::tags::SnapshotTags;
use crate::archive::metadata::{BackupMode, SAFETY_LABEL};
use crate::inventory::candidate::{ArchiveClass, RetentionCandidate, Soundness};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::fmt::Display;

/// A snapshot in the repository, by this or another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The full id, 64 hexadecimal digits.
    pub(crate) id: String,
    /// The time of the capture, or of the imported archive.
    pub(crate) time: DateTime<Utc>,
    /// Name of the machine that made it.
    pub(crate) host: String,
    /// The description in the tags; `None` for a snapshot of another program.
    pub(crate) tags: Option<SnapshotTags>,
}

/// A snapshot in the output of `restic snapshots --json`.
#[derive(Debug, Deserialize)]
struct ListedSnapshot {
    id: String,
    time: DateTime<Utc>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl From<ListedSnapshot> for Snapshot {
    fn from(listed: ListedSnapshot) -> Self {
        Self {
            tags: SnapshotTags::from_tags(listed.tags.as_deref().unwrap_or_default()),
            id: listed.id,
            time: listed.time,
            host: listed.hostname,
        }
    }
}

impl Snapshot {
    /// Returns the beginning of the id, as restic displays it.
    pub(crate) fn short_id(&self) -> &str {
        short_id(&self.id)
    }

    /// Returns the error that the snapshot has nothing at `path`.
    pub(crate) fn no_path(&self, path: impl Display) -> VaultError {
        VaultError::NoPath {
            snapshot: self.short_id().to_owned(),
            path: path.to_string(),
        }
    }

    /// Returns the snapshot for the retention rules, or `None` for a snapshot of another program.
    pub(crate) fn candidate(&self) -> Option<RetentionCandidate> {
        let tags = self.tags.as_ref()?;
        let class = match tags.mode {
            _ if tags.label.as_deref() == Some(SAFETY_LABEL) => ArchiveClass::Safety,
            BackupMode::Full => ArchiveClass::Full,
            BackupMode::Auth => ArchiveClass::Auth,
            BackupMode::Sessions => ArchiveClass::Sessions,
        };
        Some(RetentionCandidate {
            archive: self.id.clone(),
            identity: tags.identity(),
            class,
            home: format!("{}:{}", self.host, tags.home),
            machine: tags.machine.clone(),
            excludes: tags.excludes,
            incomplete: tags.skipped > 0,
            is_single_login: false,
            made_at: Some(self.time),
            bytes: tags.bytes,
            // restic writes a snapshot after all of its data; `vault check` finds later damage.
            soundness: Soundness::Verified,
        })
    }
}

/// Returns the first 8 characters of a snapshot id.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Lists all snapshots of the repository, oldest first. Takes no lock.
///
/// # Errors
/// restic fails.
pub(crate) fn list(restic: &Restic) -> Result<Vec<Snapshot>, VaultError> {
    let listed: Option<Vec<ListedSnapshot>> =
        restic.json("snapshots", &["snapshots", "--json", "--no-lock"])?;
    let mut snapshots: Vec<Snapshot> = listed
        .unwrap_or_default()
        .into_iter()
        .map(Into::into)
        .collect();
    snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    Ok(snapshots)
}

/// Finds the snapshot whose id begins with `prefix`.
///
/// # Errors
/// No snapshot or several snapshots match.
pub(crate) fn by_id<'a>(
    snapshots: &'a [Snapshot],
    prefix: &str,
) -> Result<&'a Snapshot, VaultError> {
    let mut found = snapshots.iter().filter(|s| s.id.starts_with(prefix));
    match (found.next(), found.count()) {
        (Some(snapshot), 0) if !prefix.is_empty() => Ok(snapshot),
        (Some(_), more @ 1..) => Err(VaultError::Ambiguous(prefix.to_owned(), more + 1)),
        _ => Err(VaultError::NoSnapshot(prefix.to_owned())),
    }
}

/// The home that a command works on, and its machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SnapshotPlace<'a> {
    /// Id of the machine, if it has made a snapshot.
    pub(crate) machine: Option<&'a str>,
    pub(crate) host: &'a str,
    /// Path of the Codex home.
    pub(crate) home: &'a str,
}

/// Returns the newest snapshot of this program that `is_wanted` accepts, without safety backups. Prefers
/// snapshots of the machine, then of its name, then of the home, then full ones.
pub(crate) fn newest<'a>(
    snapshots: &'a [Snapshot],
    place: SnapshotPlace<'_>,
    is_wanted: impl Fn(&SnapshotTags) -> bool,
) -> Option<&'a Snapshot> {
    snapshots
        .iter()
        .filter_map(|snapshot| Some((snapshot, snapshot.tags.as_ref()?)))
        .filter(|(_, tags)| tags.label.as_deref() != Some(SAFETY_LABEL) && is_wanted(tags))
        .max_by_key(|(snapshot, tags)| {
            (
                tags.machine.is_some() && tags.machine.as_deref() == place.machine,
                snapshot.host == place.host,
                tags.home == place.home,
                tags.mode == BackupMode::Full,
                tags.mode == BackupMode::Sessions,
                snapshot.time,
            )
        })
        .map(|(snapshot, _)| snapshot)
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
                mode,
                ..SnapshotTags::default()
            }),
        }
    }

    #[test]
    fn newest_prefers_the_machine_then_its_name_then_the_home() {
        let of = |id: &str, host: &str, machine: &str, home: &str, at: i64| {
            let mut made = snapshot(id, host, BackupMode::Full, at);
            if let Some(tags) = &mut made.tags {
                tags.machine = Some(machine.into());
                tags.home = home.into();
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
            newest(&all, place, |_| true).unwrap().id.clone()
        };
        assert_eq!(id(Some("a"), "/home"), "1");
        assert_eq!(id(Some("a"), "/third"), "2");
        assert_eq!(id(Some("new"), "/home"), "3");
        assert_eq!(id(None, "/other"), "2");
    }

    #[test]
    fn newest_prefers_this_machine_then_full_snapshots() {
        let mut all = vec![
            snapshot("aa1", "laptop", BackupMode::Full, 1),
            snapshot("aa2", "laptop", BackupMode::Auth, 2),
            snapshot("ab3", "desktop", BackupMode::Full, 3),
        ];
        all.push(Snapshot {
            tags: None,
            ..snapshot("ff9", "laptop", BackupMode::Full, 9)
        });
        let id = |host: &str| {
            let place = SnapshotPlace {
                host,
                ..SnapshotPlace::default()
            };
            newest(&all, place, |_| true).unwrap().id.clone()
        };
        assert_eq!(id("laptop"), "aa1");
        assert_eq!(id("server"), "ab3");
        assert_eq!(by_id(&all, "ab").unwrap().id, "ab3");
        assert!(matches!(by_id(&all, "a"), Err(VaultError::Ambiguous(_, 3))));
        assert!(matches!(by_id(&all, ""), Err(VaultError::Ambiguous(_, 4))));
        assert!(matches!(by_id(&all, "x"), Err(VaultError::NoSnapshot(_))));
    }
}
