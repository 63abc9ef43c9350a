//! Decides about a version of a conversation that was kept as a fork.
//!
//! What is decided is remembered by its name, which its conversation and its text make, and told to other
//! machines ([`decisions`]), so that it does not come up again there.

use super::backup::{self, BackupError, SnapshotFile};
use super::config::SyncConfig;
use super::conflict_copies::{self, ConflictCopies, ConflictCopy};
use super::contents;
use super::identity;
use super::index_updates::{ContentChange, IndexUpdate};
use super::pending_index_updates::PendingIndexUpdates;
use super::resolutions;
use super::rollouts;
use super::scan::{Side, Stat};
use super::state::{Replica, StateError, SyncState};
use crate::codex::rollout::{self, Relation};
use crate::io::atomic::{self, TempFile};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use chrono::{DateTime, Utc};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// What becomes of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepChoice {
    /// The conversation stays as it is; the fork goes.
    Current,
    /// The fork becomes the conversation; what it was is in the backup.
    ConflictCopy,
    /// The fork becomes a conversation of its own, with a new id.
    Both,
}

/// Why a fork could not be settled; it is kept.
#[derive(Debug, thiserror::Error)]
pub enum ConflictCopyError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// What would be dropped could not be kept.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// The fork has not arrived on this machine.
    #[error("the kept version is not on this machine yet: {0}")]
    NotDownloaded(String),
    /// Its conversation is not here.
    #[error("the conversation of the kept version is not here: {0}")]
    NoConversation(String),
    /// It cannot become a conversation of its own.
    #[error("cannot make a conversation of the kept version ({reason}): {}", path.display())]
    NotSplit {
        /// Why.
        reason: &'static str,
        /// The fork.
        path: PathBuf,
    },
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolvedCopy {
    /// The file of the conversation that was written, relative to the home.
    pub written: Option<String>,
    /// The conversation's id, where a new one was made.
    pub new_id: Option<String>,
}

/// The conversation that a fork is a version of, relative to the home.
pub fn conversation_of(
    fork: &ConflictCopy,
    config: &SyncConfig,
    state: &SyncState,
) -> Option<String> {
    let of_it = |key: &str| {
        rollouts::is_key(key) && conflict_copies::conversation_label(key) == fork.conversation()
    };
    let known = state.files.iter().find(|(key, _)| of_it(key));
    let path = &known?.1.local.path;
    config.local.join(path).is_file().then(|| path.clone())
}

/// Keeps what a decision drops in a snapshot, under the path of the conversation, so that `sync restore` puts
/// it back there; the name of the snapshot, where anything is dropped. Made whatever the configuration says
/// of backups: nobody else has what goes.
pub fn back_up_dropped(
    name: &str,
    choice: KeepChoice,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, ConflictCopyError> {
    let all = ConflictCopies::read(&replica.folder, &config.cloud)?;
    let Some(fork) = all.all.get(name) else {
        return Ok(None);
    };
    let state = replica.read()?;
    let current = conversation_of(fork, config, &state);
    let (file, path) = match (choice, current) {
        (KeepChoice::ConflictCopy, _) if !is_complete_locally(fork, config, replica) => {
            return Err(ConflictCopyError::NotDownloaded(fork.name.clone()));
        }
        (KeepChoice::Both, _) | (KeepChoice::ConflictCopy, None) => return Ok(None),
        (KeepChoice::ConflictCopy, Some(current)) => (config.local.join(&current), current),
        (KeepChoice::Current, current) => {
            let side = if fork.local.is_some() {
                Side::Local
            } else {
                Side::Remote
            };
            let file =
                conflict_copies::folder(side, &replica.folder, &config.cloud).join(&fork.name);
            let digest = contents::raw_digest(&file).at("read", &file)?;
            if conflict_copies::digest_prefix(&digest) != fork.digest_prefix() {
                return Err(ConflictCopyError::NotDownloaded(fork.name.clone()));
            }
            let path = current.unwrap_or_else(|| default_path(fork));
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
    Ok(backup::back_up_files(config, vec![(file, kept)], now)?)
}

/// Whether a fork is on this machine and what its name says: half of it is no version to go on from.
fn is_complete_locally(fork: &ConflictCopy, config: &SyncConfig, replica: &Replica) -> bool {
    let file =
        conflict_copies::folder(Side::Local, &replica.folder, &config.cloud).join(&fork.name);
    fork.local.is_some()
        && contents::raw_digest(&file)
            .is_ok_and(|digest| conflict_copies::digest_prefix(&digest) == fork.digest_prefix())
}

/// Where Codex would have the conversation that a fork is of.
fn default_path(fork: &ConflictCopy) -> String {
    let name = fork.conversation();
    let date = rollouts::stem(name).and_then(|stem| stem.get(8..18));
    let folder = date.map_or_else(String::new, |date| format!("{}/", date.replace('-', "/")));
    format!("sessions/{folder}{name}.jsonl")
}

/// Settles a fork here. The next sync takes it to the cloud folder. The caller holds the lock of the
/// state, has seen that nobody uses the home, and has kept what is dropped
/// ([`back_up_dropped`]).
pub fn apply_choice(
    name: &str,
    choice: KeepChoice,
    config: &SyncConfig,
    replica: &Replica,
    state: &mut SyncState,
) -> Result<ResolvedCopy, ConflictCopyError> {
    let all = ConflictCopies::read(&replica.folder, &config.cloud)?;
    let Some(fork) = all.all.get(name) else {
        return Err(ConflictCopyError::NotDownloaded(name.to_owned()));
    };
    let file =
        conflict_copies::folder(Side::Local, &replica.folder, &config.cloud).join(&fork.name);
    let others = identity::read_remote_manifests(config, state)?.resolutions;
    let mut resolved = ResolvedCopy {
        written: None,
        new_id: None,
    };
    if choice != KeepChoice::Current {
        if !is_complete_locally(fork, config, replica) {
            return Err(ConflictCopyError::NotDownloaded(fork.name.clone()));
        }
        let current = conversation_of(fork, config, state)
            .ok_or_else(|| ConflictCopyError::NoConversation(fork.name.clone()))?;
        let path = if choice == KeepChoice::Both {
            let (path, id) = create_conversation(&file, &current, config, replica)?;
            resolved.new_id = Some(id);
            path
        } else {
            let old = config.local.join(&current);
            let digest = contents::read(&old, None).at("read", &old)?.digest;
            let plain = current.strip_suffix(rollout::ZST).unwrap_or(&current);
            record_update(replica, plain, ContentChange::Replaced)?;
            copy(&file, &config.local.join(plain))?;
            if plain != current {
                fs::remove_file(&old).at("remove", &old)?;
            }
            // Not before the other one is in its place: nothing is decided against what goes on. Where this is
            // killed in between, the old version comes up as a fork, and somebody decides again.
            resolutions::record_drop(&fork.sibling_name(&digest), &mut state.resolutions, &others);
            plain.to_owned()
        };
        resolved.written = Some(path);
    }
    if choice == KeepChoice::ConflictCopy {
        // It goes on: it is no version to be left out any more.
        resolutions::record_keep(name, &mut state.resolutions, &others);
    } else {
        resolutions::record_drop(name, &mut state.resolutions, &others);
    }
    replica.write(state)?;
    for side in [Side::Local, Side::Remote] {
        let path = conflict_copies::folder(side, &replica.folder, &config.cloud).join(&fork.name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(IoError {
                    action: "remove",
                    path,
                    source: e,
                }
                .into());
            }
            _ => {}
        }
    }
    Ok(resolved)
}

/// Notes what is about to be written: Codex learns of it also where the rest of the decision is killed.
fn record_update(replica: &Replica, path: &str, change: ContentChange) -> Result<(), IoError> {
    let arrival = IndexUpdate::of(path, change);
    PendingIndexUpdates::of(replica).record(arrival.as_slice())
}

fn copy(from: &Path, to: &Path) -> Result<(), IoError> {
    let mut temp = TempFile::beside(to)?;
    let mut file = file_open::open(from).at("open", from)?;
    io::copy(&mut file, temp.file()).at("copy", from)?;
    let time = fs::metadata(from).and_then(|meta| meta.modified());
    temp.file()
        .set_modified(time.at("look at", from)?)
        .at("set time", to)?;
    temp.replace(to)
}

/// Makes a conversation of its own; its path and id.
fn create_conversation(
    fork: &Path,
    current: &str,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(String, String), ConflictCopyError> {
    let not_split = |reason| ConflictCopyError::NotSplit {
        reason,
        path: fork.to_path_buf(),
    };
    let name = current.rsplit('/').next().unwrap_or(current);
    let old = rollouts::stem(name)
        .map(|stem| stem[stem.len() - 36..].to_owned())
        .ok_or_else(|| not_split("its conversation has no id"))?;
    let digest: Sha256Digest = contents::read(fork, None).at("read", fork)?.digest;
    let new = rollouts::derive_id(&old, &digest);
    let mut reader = BufReader::new(file_open::open(fork).at("open", fork)?);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).at("read", fork)?;
    let first = rollouts::replace_id(&line, &old, &new).map_err(not_split)?;
    // It is of the day of the original, and not archived.
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
    atomic::create_durable_folder(atomic::parent_of(&target))?;
    let mut temp = TempFile::beside(&target)?;
    io::Write::write_all(temp.file(), &first).at("write", &target)?;
    io::copy(&mut reader, temp.file()).at("copy", fork)?;
    let time = fs::metadata(fork).and_then(|meta| meta.modified());
    temp.file()
        .set_modified(time.at("look at", fork)?)
        .at("set time", &target)?;
    if fs::symlink_metadata(&target).is_ok() {
        // Made by a decision that was killed before it was noted, and perhaps gone on with since.
        let holds = rollout::compare(&target, temp.path()).at("compare", &target)?;
        return if matches!(holds, Relation::Equal | Relation::FirstExtends) {
            Ok((path, new))
        } else {
            Err(not_split(
                "the conversation that it would become is another one",
            ))
        };
    }
    temp.replace(&target)?;
    Ok((path, new))
}
