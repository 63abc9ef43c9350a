//! Restores that were interrupted: where to look for them, and finishing them.
//!
//! The journal lies beside the home that was being replaced. So that any command finds it, whatever
//! home it works on, a note in the manager home says where; both places are looked at.

use super::leftovers;
use super::login_guard::Keeping;
use super::swap::{self, Recovery, SwapError};
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::lock::{self, FileLock, LockError};
use crate::io::{IoContext, atomic, file_open};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a look at a note may hold its lock.
const LOOK: Duration = Duration::from_millis(200);

/// The folder of notes in the manager home.
fn notes_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("tmp").join("restores")
}

/// A note that a restore works in a folder. Removed when dropped.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    /// Tells others that its writer is alive, also before the folder is there.
    lock: FileLock,
}

impl Note {
    /// Leaves a note of `folder`; durable before anything is staged there.
    ///
    /// # Errors
    /// Another restore that works there has left one.
    pub(super) fn leave(manager_home: &Path, folder: &Path) -> Result<Self, SwapError> {
        let notes = notes_folder(manager_home);
        atomic::create_private_folder(&notes)?;
        let text = folder.as_os_str().as_encoded_bytes();
        let path = notes.join(&crate::io::hash::sha256(text)[..16]);
        loop {
            let lock = match FileLock::exclusive_within(&path, LOOK) {
                Ok(lock) => lock,
                Err(LockError::Held(_)) => return Err(SwapError::InProgress(folder.to_path_buf())),
                Err(LockError::Io(e)) => return Err(e.into()),
            };
            // A command that found it before it was locked may have taken it for an old one.
            if lock.is_current(&path) {
                // It removes itself, should it not get its text.
                let note = Self { path, lock };
                note.lock.fill(text).at("write", &note.path)?;
                atomic::sync_folder(&notes)?;
                return Ok(note);
            }
        }
    }

    /// Removes the note of a process that is gone.
    fn remove(path: &Path) -> Result<(), SwapError> {
        match FileLock::try_exclusive(path) {
            Ok(lock) => drop(Self {
                path: path.to_path_buf(),
                lock,
            }),
            // Its folder is worked in again.
            Err(LockError::Held(_)) => {}
            Err(LockError::Io(e)) => return Err(e.into()),
        }
        Ok(())
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // One that stays behind names a folder that is gone, and is removed by the next command.
        if self.lock.is_current(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The folders in which a restore may have been interrupted.
pub fn folders(codex_home: &Path, manager_home: &Path) -> Vec<(PathBuf, Option<PathBuf>)> {
    let mut found: Vec<_> = places(codex_home)
        .into_iter()
        .filter(|folder| swap::is_pending(folder))
        .map(|folder| (folder, None))
        .collect();
    if let Ok(notes) = fs::read_dir(notes_folder(manager_home)) {
        for note in notes.flatten().map(|e| e.path()) {
            if let Ok(bytes) = file_open::read(&note) {
                found.push((path_of(bytes), Some(note)));
            }
        }
    }
    found
}

/// Whether a restore of `codex_home` is at work in another process.
pub fn is_at_work(codex_home: &Path) -> bool {
    places(codex_home)
        .iter()
        .any(|folder| swap::is_at_work(folder))
}

/// Where a restore of a home works.
fn places(codex_home: &Path) -> [PathBuf; 2] {
    let home = codex_home
        .canonicalize()
        .unwrap_or_else(|_| codex_home.to_path_buf());
    [swap::folder_beside(&home), swap::folder_within(&home)]
}

/// What restores of `codex_home` replaced and could not remove: it only takes room.
pub fn remains(codex_home: &Path) -> Vec<PathBuf> {
    let apart = leftovers::places_apart(codex_home);
    let places = places(codex_home).into_iter().chain(apart);
    places.flat_map(|place| leftovers::of(&place)).collect()
}

/// Finishes or undoes every interrupted restore. Costs a few listings when there is none.
///
/// # Errors
/// One could not be finished.
pub fn recover_all(
    codex_home: &Path,
    manager_home: &Path,
    env: &Environment,
    now: Timestamp,
) -> Result<Vec<Recovery>, SwapError> {
    let mut recovered = Vec::new();
    let own = places(codex_home);
    for place in &own {
        leftovers::retry(place);
    }
    let keeping = Keeping {
        manager_home,
        env,
        now,
    };
    // That a restore of this home is put off is told once.
    let mut done = Vec::new();
    for (folder, note) in folders(codex_home, manager_home) {
        let is_own = own.contains(&folder);
        let recovery = match swap::recover(&folder, &keeping) {
            // Nobody has to wait for a disk with another home on it.
            Err(e) if !is_own => {
                recovered.push(Recovery::Failed(e.to_string()));
                continue;
            }
            Ok(Recovery::PutOff(obstacle)) => {
                if !done.contains(&folder) {
                    recovered.push(if is_own {
                        Recovery::PutOff(obstacle)
                    } else {
                        Recovery::Failed(obstacle.to_string())
                    });
                    done.push(folder);
                }
                continue;
            }
            other => other?,
        };
        let at_work = note.as_deref().is_some_and(lock::is_held);
        if at_work || recovery == Recovery::InProgress {
            recovered.push(Recovery::InProgress);
            continue;
        }
        if let Some(note) = note {
            Note::remove(&note)?;
        }
        if recovery != Recovery::None {
            recovered.push(recovery);
        }
    }
    Ok(recovered)
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_restore_leaves_the_note_of_the_first_alone() {
        let root = tempfile::tempdir().unwrap();
        let (manager, folder) = (root.path().join("manager"), root.path().join("x"));
        let first = Note::leave(&manager, &folder).unwrap();
        let second = Note::leave(&manager, &folder);
        assert!(matches!(second, Err(SwapError::InProgress(_))));
        let text = fs::read(&first.path).unwrap();
        assert_eq!(text, folder.as_os_str().as_encoded_bytes());
        // Nor does a look at it.
        Note::remove(&first.path).unwrap();
        assert!(first.path.exists());
        // One that is another's by now is not removed.
        fs::remove_file(&first.path).unwrap();
        let path = first.path.clone();
        let third = Note::leave(&manager, &folder).unwrap();
        drop(first);
        assert!(path.exists());
        drop(third);
        assert!(!path.exists());
    }
}
