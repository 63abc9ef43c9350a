//! Restores that were interrupted: where to look for them, and finishing them.
//!
//! The journal lies beside the home that was being replaced. So that any command finds it, whatever
//! home it works on, a note in the manager home says where; both places are looked at.

use super::remains;
use super::swap::{self, Recovery, SwapError};
use crate::accounts::profile::{ProfileError, Profiles};
use crate::accounts::save::Keeper;
use crate::codex::auth::AuthFile;
use crate::codex::home::AUTH_JSON;
use crate::io::clock::Timestamp;
use crate::io::lock::{self, FileLock};
use crate::io::regular;
use crate::io::{IoContext, IoError, atomic};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of notes in the manager home.
fn notes_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("tmp").join("restores")
}

/// A note that a restore works in a folder. Removed when dropped.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    /// Tells others that its writer is alive, also before the folder is there.
    _lock: FileLock,
}

impl Note {
    /// Leaves a note of `folder`; durable before anything is staged there.
    pub(super) fn leave(manager_home: &Path, folder: &Path) -> Result<Self, IoError> {
        let notes = notes_folder(manager_home);
        atomic::create_private_folder(&notes)?;
        let text = folder.as_os_str().as_encoded_bytes();
        let path = notes.join(&crate::io::hash::sha256(text)[..16]);
        loop {
            atomic::write(&path, text)?;
            let locked = FileLock::exclusive(&path).and_then(|lock| {
                let told = match regular::read(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("read", &path),
                    told => Ok(told.unwrap_or_default()),
                };
                told.map(|told| (lock, told))
            });
            let (lock, told) = locked.inspect_err(|_| {
                // Nothing is staged yet: it would tell of nothing.
                let _ = fs::remove_file(&path);
            })?;
            // A command that found it before it was locked has taken it for an old one.
            if lock.is_current(&path) && told == text {
                return Ok(Self { path, _lock: lock });
            }
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // One that stays behind names a folder that is gone, and is removed by the next command.
        let _ = fs::remove_file(&self.path);
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
            if let Ok(bytes) = regular::read(&note) {
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
    let apart = remains::places_apart(codex_home);
    let places = places(codex_home).into_iter().chain(apart);
    places.flat_map(|place| remains::of(&place)).collect()
}

/// Keeps the login of a home that is about to be exchanged, where Codex renewed it after the
/// restore was killed: the newer one of an account goes live, and another account's is saved. Whether that
/// login is all that `live` names.
pub(super) fn keep_login(
    manager_home: &Path,
    now: Timestamp,
    live: &Path,
    staged: &Path,
) -> Result<bool, IoError> {
    let name = Path::new(AUTH_JSON);
    let is_login = live.file_name() == Some(name.as_os_str());
    let (live, staged) = if is_login {
        (live.to_path_buf(), staged.to_path_buf())
    } else {
        (live.join(name), staged.join(name))
    };
    let (Ok(AuthFile::Present(old)), Ok(new)) = (AuthFile::read(&live), AuthFile::read(&staged))
    else {
        return Ok(false);
    };
    let Some(login) = &old.login else {
        return Ok(false);
    };
    match new.login() {
        Some(new) if new.identity.is_same(&login.identity) => {
            if login.freshness.is_newer_than(&new.freshness) {
                atomic::write(&staged, old.bytes.expose())?;
            }
            Ok(is_login)
        }
        _ => Profiles::of(manager_home)
            .save_back(&old, login, Keeper::Profile, now)
            .map(|_| is_login)
            .map_err(|e| match e {
                ProfileError::Io(e) => e,
                other => IoError {
                    action: "save the login of",
                    path: live,
                    source: std::io::Error::other(other),
                },
            }),
    }
}

/// Finishes or undoes every interrupted restore. Costs a few listings when there is none.
///
/// # Errors
/// One could not be finished.
pub fn recover_all(
    codex_home: &Path,
    manager_home: &Path,
    now: Timestamp,
) -> Result<Vec<Recovery>, SwapError> {
    let mut recovered = Vec::new();
    let own = places(codex_home);
    for place in &own {
        remains::retry(place);
    }
    for (folder, note) in folders(codex_home, manager_home) {
        let keep = |live: &Path, staged: &Path| keep_login(manager_home, now, live, staged);
        let recovery = match swap::recover(&folder, &keep) {
            // Nobody has to wait for a disk with another home on it.
            Err(e) if !own.contains(&folder) => {
                recovered.push(Recovery::Failed(e.to_string()));
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
            // Gone already when the restore ended between our look and now.
            match fs::remove_file(&note) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                other => other.at("remove", &note)?,
            }
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
