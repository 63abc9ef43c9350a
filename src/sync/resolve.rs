//! Applies the user's decision about a conflict copy.
//!
//! The decision is recorded under the name of the conflict copy and published ([`resolutions`]), so that no
//! machine asks again.

use super::backup::{BackupError, SnapshotFile};
use super::config::SyncConfig;
use super::conflict_copies::{self, ConflictCopies, ConflictCopy};
use super::conflicting_versions::ConflictingVersions;
use super::contents;
use super::identity;
use super::index_updates::{ContentChange, IndexUpdate};
use super::ledger::Ledger;
use super::manifest::ManifestEntry;
use super::pending_index_updates::PendingIndexUpdates;
use super::remote_manifests::RemoteManifests;
use super::resolutions;
use super::rollouts;
use super::sides::{Side, Stat};
use super::snapshot_writer;
use super::state::{Replica, StateError, SyncState};
use crate::codex::rollout::{self, Relation};
use crate::io::atomic::{self, TempFile};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, sharing};
use chrono::{DateTime, Utc};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The version that the user keeps of a conversation with a conflict copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepChoice {
    /// Keeps the conversation as it is and removes the conflict copy.
    Current,
    /// Makes the conflict copy the conversation; the former version goes to the backup.
    ConflictCopy,
    /// Makes the conflict copy a conversation of its own, with a new id.
    Both,
}

/// An error of applying a decision. The conflict copy stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConflictCopyError {
    /// Reading or writing a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The version to drop could not be backed up.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The conflict copy is not on this machine, or incomplete.
    #[error("the conflict copy is not on this machine, or not complete: {0}")]
    NotDownloaded(String),
    /// The conversation of the conflict copy is not on this machine.
    #[error("the conversation of the conflict copy is not on this machine: {0}")]
    NoConversation(String),
    /// The conflict copy cannot become a conversation of its own.
    #[error("cannot turn the conflict copy into a conversation ({reason}): {}", path.display())]
    NotConvertible {
        /// The obstacle, as a clause.
        reason: &'static str,
        path: PathBuf,
    },
}

/// Returns the conversation that a conflict copy belongs to, relative to the home, if its file exists.
pub(crate) fn conversation_of(
    conflict_copy: &ConflictCopy,
    config: &SyncConfig,
    state: &SyncState,
) -> Option<String> {
    let path = &conflict_copy.last_synced(state)?.local.path;
    config.local.join(path).is_file().then(|| path.clone())
}

/// Compares a conflict copy with its conversation; `None` if one of them is not on this machine or cannot be read.
pub(crate) fn versions_of(
    conflict_copy: &ConflictCopy,
    config: &SyncConfig,
    replica: &Replica,
    state: &SyncState,
) -> Option<ConflictingVersions> {
    let id = conflict_copy.session_id()?;
    let current = config
        .local
        .join(conversation_of(conflict_copy, config, state)?);
    let side = conflict_copy.side();
    let copy = path_of(conflict_copy, side, config, replica);
    ConflictingVersions::read(&config.local, id.to_owned(), &current, &copy).ok()
}

/// Copies the version that a decision drops to a snapshot, under the path of the conversation, so that `sync
/// restore` puts it back there. Returns the name of the snapshot, or `None` if nothing is dropped. Ignores
/// `backup.before_overwrite`, because no other copy of the version exists.
pub(crate) fn back_up_dropped(
    name: &str,
    choice: KeepChoice,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, ConflictCopyError> {
    let all = ConflictCopies::read(&replica.folder, &config.cloud)?;
    let Some(conflict_copy) = all.all.get(name) else {
        return Ok(None);
    };
    let state = replica.read()?;
    let current = conversation_of(conflict_copy, config, &state);
    let (file, path) = match (choice, current) {
        (KeepChoice::ConflictCopy, _) if !is_complete_locally(conflict_copy, config, replica) => {
            return Err(ConflictCopyError::NotDownloaded(conflict_copy.name.clone()));
        }
        (KeepChoice::Both, _) | (KeepChoice::ConflictCopy, None) => return Ok(None),
        (KeepChoice::ConflictCopy, Some(current)) => (config.local.join(&current), current),
        (KeepChoice::Current, current) => {
            let side = conflict_copy.side();
            let file = path_of(conflict_copy, side, config, replica);
            if !conflict_copy.matches(&file).at("read", &file)? {
                return Err(ConflictCopyError::NotDownloaded(conflict_copy.name.clone()));
            }
            let path = current.unwrap_or_else(|| default_path(conflict_copy));
            (
                file,
                path.strip_suffix(rollout::ZST).unwrap_or(&path).to_owned(),
            )
        }
    };
    let Some(stat) = Stat::at(&file)? else {
        return Ok(None);
    };
    let kept = SnapshotFile {
        cloud: false,
        mtime_ns: stat.mtime_ns,
        size: stat.size,
        path,
    };
    Ok(snapshot_writer::back_up_files(
        config,
        vec![(file, kept)],
        now,
    )?)
}

fn path_of(
    conflict_copy: &ConflictCopy,
    side: Side,
    config: &SyncConfig,
    replica: &Replica,
) -> PathBuf {
    conflict_copies::full_path(side, &conflict_copy.name, &replica.folder, &config.cloud)
}

/// Returns true if the conflict copy is on this machine and its content matches its name.
fn is_complete_locally(
    conflict_copy: &ConflictCopy,
    config: &SyncConfig,
    replica: &Replica,
) -> bool {
    let file = path_of(conflict_copy, Side::Local, config, replica);
    conflict_copy.local.is_some() && conflict_copy.matches(&file).unwrap_or_default()
}

/// Returns the path at which Codex would store the conversation.
fn default_path(conflict_copy: &ConflictCopy) -> String {
    let name = conflict_copy.conversation();
    let date = rollouts::stem(name).and_then(|stem| stem.get(8..18));
    let folder = date.map_or_else(String::new, |date| format!("{}/", date.replace('-', "/")));
    format!("sessions/{folder}{name}.jsonl")
}

/// Applies a decision locally; the next sync copies the result to the cloud folder. The caller holds the lock
/// of the state, has made sure that the home is not in use, and has called [`back_up_dropped`]. Returns the id of the
/// conversation that it created, if any.
pub(crate) fn apply_choice(
    name: &str,
    choice: KeepChoice,
    config: &SyncConfig,
    replica: &Replica,
    state: &mut SyncState,
) -> Result<Option<String>, ConflictCopyError> {
    let all = ConflictCopies::read(&replica.folder, &config.cloud)?;
    let Some(conflict_copy) = all.all.get(name) else {
        return Err(ConflictCopyError::NotDownloaded(name.to_owned()));
    };
    let file = path_of(conflict_copy, Side::Local, config, replica);
    let manifests = identity::read_remote_manifests(config, state)?;
    let others = &manifests.resolutions;
    let current = conversation_of(conflict_copy, config, state);
    let dropped = match (&current, choice) {
        (Some(current), KeepChoice::ConflictCopy) => config.local.join(current),
        _ => file.clone(),
    };
    let path = current
        .clone()
        .unwrap_or_else(|| default_path(conflict_copy));
    let beginnings = listed_beginnings(&dropped, &path, &manifests, replica)?;
    let mut new_id = None;
    if choice != KeepChoice::Current {
        if !is_complete_locally(conflict_copy, config, replica) {
            return Err(ConflictCopyError::NotDownloaded(conflict_copy.name.clone()));
        }
        let current =
            current.ok_or_else(|| ConflictCopyError::NoConversation(conflict_copy.name.clone()))?;
        if choice == KeepChoice::Both {
            new_id = Some(create_conversation(&file, &current, config, replica)?);
        } else {
            let replaced = replace_conversation(&file, &current, config, replica)?;
            // The decision is recorded only after the new version is in place. After a kill in between, the
            // old version comes back as a conflict copy, and the user decides again.
            let name = conflict_copy.sibling_name(&replaced);
            resolutions::record_drop(&name, &mut state.resolutions, others);
        }
    }
    if choice == KeepChoice::ConflictCopy {
        // The version continues, so an earlier decision against it must not count.
        resolutions::record_keep(name, &mut state.resolutions, others);
    } else {
        resolutions::record_drop(name, &mut state.resolutions, others);
    }
    for name in &beginnings {
        if !resolutions::is_known(name, [&state.resolutions, others]) {
            resolutions::record_keep(name, &mut state.resolutions, others);
        }
    }
    replica.write(state)?;
    for side in [Side::Local, Side::Remote] {
        conflict_copies::remove(side, &conflict_copy.name, &replica.folder, &config.cloud)?;
    }
    Ok(new_id)
}

/// Returns the versions of a conversation that are a beginning of the `dropped` text, by the names that their
/// conflict copies would have. A manifest lists them until its machine writes the conversation again, and no
/// machine has them any more: unless the decision covers them, the others wait for them forever.
fn listed_beginnings(
    dropped: &Path,
    path: &str,
    manifests: &RemoteManifests,
    replica: &Replica,
) -> Result<Vec<String>, IoError> {
    let Some(key) = rollouts::key(path) else {
        return Ok(Vec::new());
    };
    let own = Ledger::read(&replica.folder)?.files;
    let own = own
        .into_iter()
        .filter(|(path, _)| rollouts::key(path).as_ref() == Some(&key));
    let listed = manifests.entries(&key).cloned();
    let listed = listed.chain(own.map(|(_, entry)| entry));
    let is_beginning = |version: &ManifestEntry| {
        // An unreadable text has no known beginnings.
        let beginning = contents::read(dropped, Some(version.size)).ok();
        beginning.and_then(|read| read.prefix_digest) == Some(version.digest)
    };
    Ok(listed
        .filter(is_beginning)
        .map(|version| conflict_copies::file_name(&key, &version.digest))
        .collect())
}

/// Replaces a conversation by its conflict copy; returns the digest of the replaced text.
fn replace_conversation(
    conflict_copy: &Path,
    current: &str,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<Sha256Digest, IoError> {
    let old = config.local.join(current);
    let digest = contents::read(&old, None).at("read", &old)?.digest;
    let plain = current.strip_suffix(rollout::ZST).unwrap_or(current);
    record_update(replica, plain, ContentChange::Replaced)?;
    let target = config.local.join(plain);
    let mut file = file_open::open(conflict_copy).at("open", conflict_copy)?;
    stage_copy(conflict_copy, &[], &mut file, &target)?.replace(&target)?;
    if plain != current {
        sharing::remove_file(&old).at("remove", &old)?;
    }
    Ok(digest)
}

/// Records the index update before the file is written, so that Codex's index is completed even after a kill.
fn record_update(replica: &Replica, path: &str, change: ContentChange) -> Result<(), IoError> {
    let arrival = IndexUpdate::of(path, change);
    PendingIndexUpdates::of(replica).record(arrival.as_slice())
}

/// Copies the rest of `from` to a temp file beside `to`, after the line `first`, with the time of the file `source`.
fn stage_copy(
    source: &Path,
    first: &[u8],
    from: &mut dyn Read,
    to: &Path,
) -> Result<TempFile, IoError> {
    let mut temp = TempFile::beside(to)?;
    temp.file().write_all(first).at("write", to)?;
    io::copy(from, temp.file()).at("copy", source)?;
    let time = fs::metadata(source).and_then(|meta| meta.modified());
    let time = time.at("look at", source)?;
    temp.file().set_modified(time).at("set time", to)?;
    Ok(temp)
}

/// Creates a conversation of its own from a conflict copy; returns its id.
fn create_conversation(
    conflict_copy: &Path,
    current: &str,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<String, ConflictCopyError> {
    let not_convertible = |reason| ConflictCopyError::NotConvertible {
        reason,
        path: conflict_copy.to_path_buf(),
    };
    let name = current.rsplit('/').next().unwrap_or(current);
    if rollouts::is_rewind(name) {
        return Err(not_convertible(
            "it is a part of a conversation that was rewound, which cannot be one of its own",
        ));
    }
    let old = rollouts::id(name)
        .ok_or_else(|| not_convertible("the file name of its conversation has no id"))?;
    let digest: Sha256Digest = contents::read(conflict_copy, None)
        .at("read", conflict_copy)?
        .digest;
    let new = rollouts::derive_id(&old, &digest);
    let mut reader = BufReader::new(file_open::open(conflict_copy).at("open", conflict_copy)?);
    let mut line = Vec::new();
    reader
        .read_until(b'\n', &mut line)
        .at("read", conflict_copy)?;
    let first = rollouts::replace_id(&line, &old, &new).map_err(not_convertible)?;
    // The new conversation keeps the date of the original and is not archived.
    let date = name.get(8..18).unwrap_or_default().replace('-', "/");
    let folder = if rollouts::is_archived(current) {
        format!("sessions/{date}")
    } else {
        rollouts::folder(current).to_owned()
    };
    let stem = rollouts::stem(name).unwrap_or_default();
    let path = format!("{folder}/{}{new}.jsonl", &stem[..stem.len() - 36]);
    let target = config.local.join(&path);
    record_update(replica, &path, ContentChange::New)?;
    atomic::create_private_folder(atomic::parent_of(&target))?;
    let temp = stage_copy(conflict_copy, &first, &mut reader, &target)?;
    if fs::symlink_metadata(&target).is_ok() {
        // A decision that was killed before it was recorded created this file, and it may have been continued
        // since.
        let relation = rollout::compare(&target, temp.path()).at("compare", &target)?;
        return if matches!(relation, Relation::Equal | Relation::FirstExtends) {
            Ok(new)
        } else {
            Err(not_convertible(
                "a different conversation with the new id exists",
            ))
        };
    }
    temp.replace(&target)?;
    Ok(new)
}
