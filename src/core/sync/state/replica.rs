//! Finds the folder of a state, and reads and writes its file.

use super::lines::{self, StateHeader, StateJournal};
use super::sync_state::{OwnManifests, StateDamage, StateFile, SyncState};
use crate::io::document::{self, DocumentError};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, atomic, file_open, links, tree};
use crate::sync::contents;
use crate::sync::manager_folder::CONFLICT_COPIES_FOLDER;
use crate::sync::restore_marker;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Usual length of the line of a file.
const USUAL_LINE_BYTES: u64 = 330;
const STATE_FILE: &str = "state.jsonl";
/// Suffix of the copy of a damaged state.
const DAMAGED_SUFFIX: &str = ".damaged";

/// The state folder of one pair of a home and a cloud folder.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Path of the state folder, below the manager home.
    pub folder: PathBuf,
    local: String,
    cloud: String,
    /// Folder of the state file and the ledger during a run that is not committed yet; `None` if they are in `folder`.
    uncommitted_folder: Option<PathBuf>,
    /// The damage of the state in `folder`, if an uncommitted run began with a damaged state.
    pub(crate) initial_damage: Option<StateDamage>,
}

impl Replica {
    /// Returns the replica for this home and this cloud folder. Creates nothing.
    pub fn of(manager_home: &Path, local: &Path, cloud: &Path) -> Self {
        // Paths are resolved as far as they exist, so that an unmounted folder keeps its replica.
        let resolve = |path: &Path| links::resolve_links(path).to_string_lossy().into_owned();
        let (local, cloud) = (resolve(local), resolve(cloud));
        let id = Sha256Digest::of(format!("{local}\n{cloud}").as_bytes()).to_string();
        Self {
            // 64 bits distinguish the few pairs of one user, and keep paths short on Windows.
            folder: manager_home.join("sync").join(&id[..16]),
            local,
            cloud,
            uncommitted_folder: None,
            initial_damage: None,
        }
    }

    /// Returns the folders of all states of this home, including those whose header cannot be read.
    pub fn find_folders(manager_home: &Path, local: &Path) -> Result<Vec<PathBuf>, IoError> {
        let states_folder = manager_home.join("sync");
        let local = links::resolve_links(local).to_string_lossy().into_owned();
        let mut folders = Vec::new();
        for (name, _) in tree::list_if_exists(&states_folder)? {
            let folder = states_folder.join(name);
            let Ok(file) = file_open::open(folder.join(STATE_FILE)) else {
                continue;
            };

            let mut line = Vec::new();
            let read = BufReader::new(file).read_until(b'\n', &mut line);
            let header = serde_json::from_slice::<StateHeader>(&line);
            let is_of_other_home = read.is_ok() && header.is_ok_and(|header| header.local != local);
            if !is_of_other_home {
                folders.push(folder);
            }
        }

        Ok(folders)
    }

    pub fn state_file(&self) -> PathBuf {
        self.run_folder().join(STATE_FILE)
    }

    /// Returns the state file of the last committed run.
    pub(crate) fn committed_state_file(&self) -> PathBuf {
        self.folder.join(STATE_FILE)
    }

    /// Returns this replica with the state file and the ledger in the folder of an uncommitted run.
    pub(crate) fn with_run_folder(&self, uncommitted_folder: PathBuf) -> Self {
        Self {
            uncommitted_folder: Some(uncommitted_folder),
            ..self.clone()
        }
    }

    /// Returns the folder of the state file and the ledger.
    pub(crate) fn run_folder(&self) -> &Path {
        self.uncommitted_folder.as_ref().unwrap_or(&self.folder)
    }

    /// Returns the path of the lock file that a run holds.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// Returns the folder of local conflict copies.
    pub fn conflict_copies(&self) -> PathBuf {
        self.folder.join(CONFLICT_COPIES_FOLDER)
    }

    /// Reads the state, and the marker of a restore since the last run. If the state is missing, or if its header is
    /// damaged, returns an empty state with a new manifest name. [`SyncState::file`] names the damage.
    pub fn read(&self) -> Result<SyncState, DocumentError> {
        let mut state = self.read_state_file()?;
        state.restore_marker = restore_marker::read_marker(&self.folder)?;
        state.has_gaps |= state.restore_marker.is_some();
        Ok(state)
    }

    fn read_state_file(&self) -> Result<SyncState, DocumentError> {
        let path = self.state_file();
        let file = match file_open::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::new_empty_state()),
            Err(e) => Err(e).at("open", &path)?,
        };

        let size = file.metadata().at("inspect", &path)?.len();
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).at("read", &path)?;

        // The state of a newer program is an error: overwriting it would lose what that program recorded.
        let Some(header) = document::parse::<StateHeader>(&path, &line)?.good() else {
            let mut state = Self::new_empty_state();
            state.file.damage = Some(StateDamage::All);
            state.has_gaps = true;
            return Ok(state);
        };

        let mut state = SyncState {
            own: OwnManifests {
                writer: header.writer,
                ..OwnManifests::default()
            },
            file: StateFile {
                exists: true,
                ..StateFile::default()
            },
            // A map of half a million files that grows by doubling is copied many times.
            files: HashMap::with_capacity(usize::try_from(size / USUAL_LINE_BYTES).unwrap_or(0)),
            ..SyncState::default()
        };

        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).at("read", &path)?;
            let last_byte = line.pop();
            if last_byte != Some(b'\n') {
                // Text after the last newline was torn by a kill.
                state.file.needs_rewrite |= last_byte.is_some();
                return Ok(state);
            }
            if !lines::parse_line(&mut state, &line) {
                state.file.damage = Some(StateDamage::Lines);
                state.has_gaps = true;
                state.file.needs_rewrite = true;
            }
        }
    }

    /// Returns an empty state with a random name for the manifest.
    fn new_empty_state() -> SyncState {
        let mut state = SyncState::default();
        state.rename_manifest();
        state
    }

    /// Writes the whole state durably. Keeps a copy of a damaged file as `state.jsonl.damaged`.
    pub fn write(&self, state: &mut SyncState) -> Result<(), IoError> {
        atomic::create_private_folder(self.run_folder())?;
        let path = self.state_file();
        if state.file.damage.take().is_some() {
            self.keep_damaged_file()?;
        }
        let bytes = lines::encode(&self.local, &self.cloud, state).at("encode", &path)?;
        atomic::write(&path, &bytes)?;
        state.file.needs_rewrite = false;
        Ok(())
    }

    /// Copies a damaged state file to `state.jsonl.damaged`, or to a numbered name if that exists with other content.
    pub(crate) fn keep_damaged_file(&self) -> Result<(), IoError> {
        let state_file = self.state_file();
        let first_copy = atomic::with_suffix(&state_file, DAMAGED_SUFFIX);
        // An earlier run that was refused has copied the damaged file and left it in place.
        let [copy_digest, state_digest] =
            [&first_copy, &state_file].map(|path| contents::read_raw_digest(path).ok());
        if copy_digest.is_some() && copy_digest == state_digest {
            return Ok(());
        }
        atomic::keep_copy(&state_file, DAMAGED_SUFFIX).map(drop)
    }

    /// If this replica has no state, copies the state, the conflict copies and the restore marker of `other`, the
    /// replica of the same home with another store. Returns true if a state was copied.
    pub fn continue_from(&self, other: &Self) -> Result<bool, DocumentError> {
        if self.state_file().exists() || !other.state_file().exists() {
            return Ok(false);
        }

        let mut state = other.read()?;
        // The published manifests are in the other store.
        state.own.published_digests.clear();

        atomic::create_private_folder(&self.folder)?;
        let (old_copies, new_copies) = (other.conflict_copies(), self.conflict_copies());
        for (name, _) in tree::list_if_exists(&old_copies)? {
            atomic::create_private_folder(&new_copies)?;
            let target = new_copies.join(&name);
            if !target.exists() {
                links::link_or_copy(&old_copies.join(&name), &target)?;
            }
        }

        if state.restore_marker.is_some() {
            restore_marker::RestoreMarkers::write(std::slice::from_ref(&self.folder))?;
        }

        // The state comes last: once this replica has one, nothing is copied any more.
        self.write(&mut state)?;
        Ok(true)
    }

    /// Opens the state file for appending; it must exist.
    pub(crate) fn open_journal(&self) -> Result<StateJournal, IoError> {
        StateJournal::open(self.state_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::sides::Stat;
    use crate::sync::state::{Deletion, SideFile, SyncedFile};
    use std::fs::OpenOptions;
    use std::io::Write;

    fn last(n: u64) -> SyncedFile {
        let stat = Stat {
            size: n,
            mtime_ns: -5,
        };
        SyncedFile {
            local: SideFile {
                path: "sessions/2026/a \"b\".jsonl".into(),
                stat,
            },
            remote: SideFile {
                path: "a \"b\".jsonl".into(),
                stat,
            },
            text: Some(contents::TextDigest {
                len: n,
                digest: Sha256Digest::of(b"x"),
            }),
        }
    }

    #[test]
    fn a_state_round_trips_and_survives_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        assert!(!replica.read().unwrap().file.exists);
        let mut state = replica.read().unwrap();
        state.files.insert("a \"b\".jsonl".into(), last(1));
        state.resolutions.insert("d".into());
        let deletion = Deletion::with_random_id("d".into());
        state.deleted.insert("p".into(), deletion.clone());
        // One file that is about to be deleted, and one that was created again.
        state.files.insert("gone".into(), last(3));
        for key in ["gone", "new"] {
            state.deleted.insert(key.into(), deletion.clone());
        }
        state.own.record_digest_to_publish(Sha256Digest::of(b"m"));
        replica.write(&mut state).unwrap();
        let read = replica.read().unwrap();
        assert_eq!((read.files.len(), read.deleted.len()), (2, 3));
        assert!(!replica.read().unwrap().file.needs_rewrite);
        let mut journal = replica.open_journal().unwrap();
        let replaced = vec![Sha256Digest::of(b"x")];
        journal.record("a \"b\".jsonl", &last(2), &[]).unwrap();
        journal.record("new", &last(3), &replaced).unwrap();
        journal.record_gone("gone").unwrap();
        journal.record_resolution("mark").unwrap();
        let mut options = OpenOptions::new();
        let mut file = options.append(true).open(replica.state_file()).unwrap();
        assert!(!replica.read().unwrap().file.needs_rewrite);
        file.write_all(b"[").unwrap();
        assert!(replica.read().unwrap().file.needs_rewrite);
        file.write_all(b"\"torn\",\"\",1").unwrap();
        let read = replica.read().unwrap();
        assert!(read.file.exists);
        assert_eq!(read.files.len(), 2);
        assert_eq!(read.files["a \"b\".jsonl"], last(2));
        assert_eq!(read.replaced, HashMap::from([("new".into(), replaced)]));
        assert_eq!(read.own.writer, state.own.writer);
        assert_eq!((read.resolutions.len(), &read.deleted["p"]), (2, &deletion));
        assert_eq!((read.deleted.len(), &read.deleted["gone"]), (2, &deletion));
        assert_eq!(read.own.published_digests, [Sha256Digest::of(b"m")]);
        // A torn line is no damage. The file is rewritten, so that the next line is not lost with it.
        assert_eq!((read.file.damage, read.file.needs_rewrite), (None, true));
    }

    #[test]
    fn a_replica_that_continues_one_of_another_store_takes_over_its_restore_marker() {
        let home = tempfile::tempdir().unwrap();
        let [old, new] =
            ["/b", "/c"].map(|cloud| Replica::of(home.path(), Path::new("/a"), Path::new(cloud)));
        old.write(&mut SyncState::default()).unwrap();
        restore_marker::RestoreMarkers::write(std::slice::from_ref(&old.folder)).unwrap();
        assert!(new.continue_from(&old).unwrap());
        assert!(new.read().unwrap().restore_marker.is_some());
    }

    #[test]
    fn damaged_lines_are_reported_and_a_copy_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        let mut state = SyncState::default();
        for key in ["k1", "k2", "k3"] {
            state.files.insert(key.into(), last(1));
        }
        replica.write(&mut state).unwrap();
        let text = file_open::read_to_string(replica.state_file()).unwrap();
        let damaged = text.replace("[\"k2\"", "[\"k\0\0");
        std::fs::write(replica.state_file(), &damaged).unwrap();
        let mut read = replica.read().unwrap();
        assert_eq!(
            (read.file.damage, read.has_gaps),
            (Some(StateDamage::Lines), true)
        );
        assert_eq!((read.files.len(), read.file.exists), (2, true));
        replica.write(&mut read).unwrap();
        let aside = replica.folder.join("state.jsonl.damaged");
        assert_eq!(file_open::read_to_string(&aside).unwrap(), damaged);
        replica.write(&mut read).unwrap();
        assert!(!replica.folder.join("state.jsonl.damaged-2").exists());
        let again = replica.read().unwrap();
        assert_eq!((again.file.damage, again.has_gaps), (None, true));
    }

    #[test]
    fn a_newer_state_is_refused_and_a_damaged_header_reads_as_empty() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        replica.write(&mut SyncState::default()).unwrap();
        std::fs::write(replica.state_file(), "\0\0\0").unwrap();
        let read = replica.read().unwrap();
        assert_eq!(
            (read.file.exists, read.file.damage),
            (false, Some(StateDamage::All))
        );
        let newer = "{\"schema\":2,\"writer\":\"\",\"local\":\"\",\"cloud\":\"\"}\n";
        std::fs::write(replica.state_file(), newer).unwrap();
        assert!(matches!(
            replica.read(),
            Err(DocumentError::Newer { found: 2, .. })
        ));
    }
}
