//! Applies the user's decision about a conflict copy.
//!
//! The decision is recorded under the name of the conflict copy ([`resolutions`]). The next sync publishes it, so that
//! no machine asks again.

use super::backup::{BackupError, SnapshotFile};
use super::config::SyncConfig;
use super::conflict_copies::{self, ConflictCopies, ConflictCopy, ConflictCopyFolders};
use super::conflicting_versions::ConflictingVersions;
use super::continued_rollouts::ContinuedRollouts;
use super::index_updates::{ContentChange, IndexUpdate};
use super::ledger::Ledger;
use super::listed_versions::RemoteManifests;
use super::manifest::ManifestEntry;
use super::pending_index_updates::PendingIndexUpdates;
use super::plan::Conflict;
use super::sides::{Side, Stat};
use super::state::{Replica, SyncState};
use super::{contents, identity, resolutions, rollouts, snapshot_writer};
use crate::codex::rollout::{self, Relation};
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, file_open, sharing};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The version that the user keeps of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeepChoice {
    /// The version on this machine
    Local,
    /// The version in the cloud folder
    Cloud,
    /// The conflict copy, or the other branch, in place of the conversation
    #[value(name = "fork")]
    ConflictCopy,
    /// Both versions, one as a new conversation
    Both,
}

impl KeepChoice {
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A version to choose, with the reason if it cannot be kept.
pub type Offer = (KeepChoice, Option<String>);

/// An error of applying a decision. The conflict copy stays.
#[derive(Debug, thiserror::Error)]
pub enum ConflictCopyError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// The version to drop could not be backed up.
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the conflict copy is not on this machine, or not complete: {0}")]
    NotDownloaded(String),
    #[error("the conversation of the conflict copy is not on this machine: {0}")]
    NoConversation(String),
    #[error("cannot turn this version into a separate conversation ({reason}): {}", path.display())]
    NotConvertible {
        /// The obstacle, as a clause.
        reason: &'static str,
        path: PathBuf,
    },
}

/// A conflict copy that the user decides about, with its conversation.
pub struct DecidedCopy<'a> {
    config: &'a SyncConfig,
    replica: &'a Replica,
    copy: ConflictCopy,
    folders: ConflictCopyFolders,
    /// Path of the conversation at the last sync, relative to the home, if the file still exists.
    current_path: Option<String>,
}

impl<'a> DecidedCopy<'a> {
    pub fn read(
        copy: ConflictCopy,
        config: &'a SyncConfig,
        replica: &'a Replica,
        state: &SyncState,
    ) -> Self {
        let last = copy.last_synced(state).map(|last| last.local.path.clone());
        Self {
            folders: ConflictCopyFolders::of(&replica.folder, &config.cloud),
            current_path: last.filter(|path| config.local.join(path).is_file()),
            copy,
            config,
            replica,
        }
    }

    /// Reads the conflict copy of this name.
    ///
    /// # Errors
    /// [`ConflictCopyError::NotDownloaded`] if neither side has it.
    pub fn find(
        name: &str,
        config: &'a SyncConfig,
        replica: &'a Replica,
        state: &SyncState,
    ) -> Result<Self, ConflictCopyError> {
        let mut copies = ConflictCopies::read(&replica.folder, &config.cloud)?;
        match copies.all.remove(name) {
            Some(copy) => Ok(Self::read(copy, config, replica, state)),
            None => Err(ConflictCopyError::NotDownloaded(name.to_owned())),
        }
    }

    /// Compares the conflict copy with its conversation. `None` if one of the two files is not on this machine or
    /// cannot be read, or if the name of the conversation has no id.
    pub fn versions(&self) -> Option<ConflictingVersions> {
        let id = self.copy.session_id()?;
        let home = &self.config.local;
        let current = home.join(self.current_path.as_ref()?);
        let copy = self.path_on(self.copy.source_side());
        ConflictingVersions::compare(home, id, &current, &copy, "in the conflict copy").ok()
    }

    /// Returns the versions to choose from, each with the reason if it cannot be kept. The list is empty if the
    /// conflict copy, from the cloud folder if this machine lacks it, cannot be read or is not complete.
    pub fn list_offers(&self, continued: &ContinuedRollouts) -> Vec<Offer> {
        let source = self.path_on(self.copy.source_side());
        if !self.copy.matches_digest_of(&source).unwrap_or_default() {
            return Vec::new();
        }

        let refuse_both = |e: ConflictCopyError| [Some(e.to_string()), Some(e.to_string())];
        let [replacement_refusal, separation_refusal] = match &self.current_path {
            None => refuse_both(self.no_conversation_error()),
            Some(_) if self.copy.local.is_none() => refuse_both(self.not_downloaded_error()),
            Some(current) => {
                let current_file = self.config.local.join(current);
                let id = rollouts::rollout_id(current).unwrap_or_default();
                let needed_sides = continued.find_needed_sides(&id, &current_file, &source);
                let is_current_needed = needed_sides.contains(&Side::Local);
                let separability = check_separable(current, &source);
                [
                    is_current_needed.then(|| Conflict::describe_continued(Some(Side::Local))),
                    separability.err().map(|error| error.to_string()),
                ]
            }
        };
        vec![
            (KeepChoice::Local, None),
            (KeepChoice::ConflictCopy, replacement_refusal),
            (KeepChoice::Both, separation_refusal),
        ]
    }

    fn path_on(&self, side: Side) -> PathBuf {
        self.folders.path(side, &self.copy.name)
    }

    fn no_conversation_error(&self) -> ConflictCopyError {
        ConflictCopyError::NoConversation(self.copy.name.clone())
    }

    fn not_downloaded_error(&self) -> ConflictCopyError {
        ConflictCopyError::NotDownloaded(self.copy.name.clone())
    }

    /// Fails unless the local conflict copy exists and its content matches the digest in its name.
    fn refuse_incomplete_copy(&self) -> Result<(), ConflictCopyError> {
        let matches = || self.copy.matches_digest_of(&self.path_on(Side::Local));
        if self.copy.local.is_some() && matches().unwrap_or_default() {
            Ok(())
        } else {
            Err(self.not_downloaded_error())
        }
    }

    /// Returns the path of the conversation. Fails unless the home has it and the local conflict copy is complete.
    fn require_both_files(&self) -> Result<&str, ConflictCopyError> {
        self.refuse_incomplete_copy()?;
        let current = self.current_path.as_deref();
        current.ok_or_else(|| self.no_conversation_error())
    }

    /// Returns the path of the conversation. If the home lacks it, that is the path at which Codex would store it.
    fn conversation_path(&self) -> String {
        self.current_path.clone().unwrap_or_else(|| {
            let name = self.copy.conversation_label();
            format!("{}/{name}.jsonl", rollouts::dated_folder(name))
        })
    }

    /// Creates a snapshot with the version that the decision drops. Its path in the snapshot is that of the
    /// conversation, to which `sync restore` restores it. Returns the name of the snapshot; `None` if nothing is
    /// dropped or its file is missing. Ignores `backup.before_overwrite`, because no other copy of the version exists.
    pub fn back_up_dropped(
        &self,
        choice: KeepChoice,
        now: DateTime<Utc>,
    ) -> Result<Option<String>, ConflictCopyError> {
        let path = self.conversation_path();
        let (file, snapshot_path) = match choice {
            KeepChoice::Both => return Ok(None),
            KeepChoice::ConflictCopy => {
                self.refuse_incomplete_copy()?;
                if self.current_path.is_none() {
                    return Ok(None);
                }
                (self.config.local.join(&path), path)
            }
            KeepChoice::Local | KeepChoice::Cloud => {
                let file = self.path_on(self.copy.source_side());
                if !self.copy.matches_digest_of(&file).at("read", &file)? {
                    return Err(self.not_downloaded_error());
                }

                // A conflict copy is never compressed.
                let uncompressed_path = path.strip_suffix(rollout::ZST).unwrap_or(&path);
                (file, uncompressed_path.to_owned())
            }
        };

        let Some(stat) = Stat::read(&file)? else {
            return Ok(None);
        };
        let files = vec![(file, SnapshotFile::new(Side::Local, snapshot_path, stat))];
        Ok(snapshot_writer::back_up_files(self.config, files, now)?)
    }

    /// Applies a decision locally; the next sync copies the result to the cloud folder. The caller holds the lock
    /// of the state, has made sure that the home is not in use, and has called [`Self::back_up_dropped`]. Returns the
    /// id of the conversation that it created, if any.
    pub fn apply(
        &self,
        choice: KeepChoice,
        state: &mut SyncState,
    ) -> Result<Option<String>, ConflictCopyError> {
        let name = &self.copy.name;
        let manifests = identity::read_remote_manifests(self.config, state)?;
        let remote_records = &manifests.resolutions;

        // A manifest may still list a beginning of the dropped text. The decision covers these beginnings, so that no
        // machine waits for them.
        let dropped_path = match (&self.current_path, choice) {
            (Some(current), KeepChoice::ConflictCopy) => self.config.local.join(current),
            _ => self.path_on(self.copy.source_side()),
        };
        let beginning_names = self.find_listed_beginnings(&dropped_path, &manifests)?;

        let new_id = match choice {
            KeepChoice::Local | KeepChoice::Cloud => None,
            KeepChoice::Both => Some(self.create_conversation(self.require_both_files()?)?),
            KeepChoice::ConflictCopy => {
                let replaced_digest = self.replace_conversation(self.require_both_files()?)?;
                // The decision is recorded only after the new version is in place. After a kill in between, the
                // old version comes back as a conflict copy, and the user decides again.
                let replaced_name = self.copy.sibling_name(&replaced_digest);
                resolutions::record_drop(&replaced_name, &mut state.resolutions, remote_records);
                None
            }
        };

        if choice == KeepChoice::ConflictCopy {
            // The conversation continues with this version, so an earlier decision to drop it must not count.
            resolutions::record_keep(name, &mut state.resolutions, remote_records);
        } else {
            resolutions::record_drop(name, &mut state.resolutions, remote_records);
        }

        // Any record about a version ends the wait for it, and a record to keep it drops nothing.
        for beginning_name in &beginning_names {
            if !resolutions::has_decision(beginning_name, [&state.resolutions, remote_records]) {
                resolutions::record_keep(beginning_name, &mut state.resolutions, remote_records);
            }
        }

        self.replica.write(state)?;
        // After the decision is recorded: a kill in between leaves a copy that the next sync drops.
        for side in [Side::Local, Side::Remote] {
            self.folders.remove(side, name)?;
        }
        Ok(new_id)
    }

    /// Returns the names of conflict copies for the listed versions that are a beginning of the text at `dropped_path`.
    /// No machine has such a version any more, but a manifest lists it until its machine writes the conversation again.
    /// Without a recorded decision about it, the other machines would wait for it forever.
    fn find_listed_beginnings(
        &self,
        dropped_path: &Path,
        manifests: &RemoteManifests,
    ) -> Result<Vec<String>, IoError> {
        let Some(key) = rollouts::key(&self.conversation_path()) else {
            return Ok(Vec::new());
        };

        let own_entries = Ledger::read(self.replica.run_folder())?.files.into_iter();
        let own_entries =
            own_entries.filter(|(path, _)| rollouts::key(path).as_ref() == Some(&key));
        let listed_entries = manifests.listed_entries(&key).cloned();
        let listed_entries = listed_entries.chain(own_entries.map(|(_, entry)| entry));

        let is_beginning = |entry: &ManifestEntry| {
            // An unreadable text has no known beginnings.
            contents::text_begins_with(dropped_path, entry.size, &entry.digest).unwrap_or_default()
        };
        let beginnings = listed_entries.filter(is_beginning);
        let names = beginnings.map(|entry| conflict_copies::format_file_name(&key, &entry.digest));
        Ok(names.collect())
    }

    /// Replaces the conversation by the conflict copy, uncompressed; returns the digest of the replaced text.
    fn replace_conversation(&self, current: &str) -> Result<Sha256Digest, IoError> {
        let (home, copy) = (&self.config.local, &self.path_on(Side::Local));
        let old_path = home.join(current);
        let replaced_text = contents::read_text_digest(&old_path).at("read", &old_path)?;

        let uncompressed_path = current.strip_suffix(rollout::ZST).unwrap_or(current);
        self.record_index_update(uncompressed_path, ContentChange::Replaced)?;

        let target = home.join(uncompressed_path);
        let mut file = file_open::open(copy).at("open", copy)?;
        let no_first_line: &[u8] = &[];
        stage(copy, no_first_line, &mut file, &target)?.replace(&target)?;

        if uncompressed_path != current {
            sharing::remove_file(&old_path).at("remove", &old_path)?;
        }
        Ok(replaced_text.digest)
    }

    /// Records that Codex's index has to be updated for a file. The caller writes the file afterwards, so that the
    /// index is completed even after a kill.
    fn record_index_update(&self, path: &str, change: ContentChange) -> Result<(), IoError> {
        let update = IndexUpdate::from_path(path, change);
        PendingIndexUpdates::new(self.replica).record(update.as_slice())
    }

    /// Creates a separate conversation from the conflict copy, unless a killed run has created it, and returns its id.
    /// The copy is a version of the conversation at the path `current`.
    fn create_conversation(&self, current: &str) -> Result<String, ConflictCopyError> {
        let copy = &self.path_on(Side::Local);
        let text = contents::read_text_digest(copy).at("read", copy)?;
        let separate = plan_separate_conversation(current, copy, &text.digest)?;
        let mut reader = BufReader::new(file_open::open(copy).at("open", copy)?);
        reader.skip_until(b'\n').at("read", copy)?;
        let target = self.config.local.join(&separate.path);

        self.record_index_update(&separate.path, ContentChange::New)?;
        atomic::create_private_folder(atomic::parent_of(&target))?;
        let temp = stage(copy, &separate.first_line, &mut reader, &target)?;

        if fs::symlink_metadata(&target).is_ok() {
            // An earlier run created this file and was killed before it recorded the decision. The user may have
            // continued the conversation since.
            let relation = rollout::compare(&target, temp.path()).at("compare", &target)?;
            return if matches!(relation, Relation::Equal | Relation::FirstExtends) {
                Ok(separate.id)
            } else {
                Err(ConflictCopyError::NotConvertible {
                    reason: "a different conversation with the new id exists",
                    path: copy.clone(),
                })
            };
        }

        temp.replace(&target)?;
        Ok(separate.id)
    }
}

/// Fails unless the file `version`, a version of the conversation at `current`, can become a separate conversation.
/// Reads only its first line.
pub fn check_separable(current: &str, version: &Path) -> Result<(), ConflictCopyError> {
    // The digest determines only the new id, which is not used here.
    plan_separate_conversation(current, version, &Sha256Digest::of(b"")).map(drop)
}

/// The separate conversation that a version of another one becomes.
struct SeparateConversation {
    id: String,
    path: String,
    first_line: Vec<u8>,
}

/// Plans to turn the file `version`, a version of the conversation at `current`, into a separate conversation in the
/// same folder. If `current` is archived, the new file goes to the folder of its date.
fn plan_separate_conversation(
    current: &str,
    version: &Path,
    digest: &Sha256Digest,
) -> Result<SeparateConversation, ConflictCopyError> {
    let not_convertible = |reason| ConflictCopyError::NotConvertible {
        reason,
        path: version.to_path_buf(),
    };

    let name = current.rsplit('/').next().unwrap_or(current);
    if rollouts::is_rewind(name) {
        return Err(not_convertible(
            "it is a part of a rewound conversation, which cannot become a separate conversation",
        ));
    }

    let old_id = rollouts::id(name)
        .ok_or_else(|| not_convertible("the file name of its conversation has no id"))?;
    let id = rollouts::derive_conversation_id(&old_id, name, digest);
    let path = path_of_new_conversation(current, name, &id)
        .ok_or_else(|| not_convertible("the file name of its conversation has no date"))?;

    let mut line = Vec::new();
    let text = rollout::open_plain(version).at("open", version)?;
    let mut reader = BufReader::new(text);
    reader.read_until(b'\n', &mut line).at("read", version)?;
    let first_line = rollouts::replace_id(&line, &old_id, &id).map_err(not_convertible)?;
    Ok(SeparateConversation {
        id,
        path,
        first_line,
    })
}

/// Returns the path of a new conversation, which keeps the date of the original and is not archived. `None` if
/// `file_name` has no date.
fn path_of_new_conversation(current: &str, file_name: &str, id: &str) -> Option<String> {
    let stem = rollouts::parse_stem(file_name)?;
    let folder = if rollouts::is_archived(current) {
        rollouts::dated_folder(file_name)
    } else {
        rollouts::parent_folder(current).to_owned()
    };
    Some(format!(
        "{folder}/{}{id}.jsonl",
        stem.get(..rollouts::ID_START)?
    ))
}

/// Writes `first_line` and the remaining bytes of `reader`, a reader of the file `source`, to a temp file beside
/// `target`. The temp file gets the mtime of `source`.
fn stage(
    source: &Path,
    first_line: &[u8],
    reader: &mut dyn Read,
    target: &Path,
) -> Result<TempFile, IoError> {
    let mut temp = TempFile::create_beside(target)?;
    temp.file().write_all(first_line).at("write", target)?;
    io::copy(reader, temp.file()).at("copy", source)?;
    let time = fs::metadata(source).and_then(|meta| meta.modified());
    let time = time.at("inspect", source)?;
    temp.file().set_modified(time).at("set time", target)?;
    Ok(temp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_conversation_keeps_the_date_of_the_original() {
        let id = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
        for (folder, name, found) in [
            (
                "archived_sessions",
                format!("rollout-2026-11-18T10-00-00-{id}.jsonl"),
                Some("sessions/2026/11/18/rollout-2026-11-18T10-00-00-new.jsonl"),
            ),
            (
                "sessions/x",
                format!("rollout-2026-11-18T10-00-00-{id}.jsonl.zst"),
                Some("sessions/x/rollout-2026-11-18T10-00-00-new.jsonl"),
            ),
            ("sessions/x", format!("rollout-x-{id}.jsonl"), None),
        ] {
            let path = path_of_new_conversation(&format!("{folder}/{name}"), &name, "new");
            assert_eq!(path.as_deref(), found, "{name}");
        }
    }
}
