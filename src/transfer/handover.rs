//! The ownership of logins moves into an export, so that a kill at any point leaves one owner.
//!
//! The file is written and durable under a name that nobody looks at. Then the profiles give their
//! logins up, each with a note of that file (`moving`). Then it gets its own name, by one rename, and
//! the notes are closed (`moved`). While a note is open the login is nobody's to use here. A killed
//! export is settled by where the file is: under its own name it has the logins; under the first
//! one it has not. Where it is neither, somebody may have carried it away, so that nothing is given
//! back unasked.

use super::TransferError;
use crate::accounts::profile::{Owner, PendingMove, Profile, ProfileFile, Profiles};
use crate::codex::login_lock::{self, LoginLock};
use crate::io::atomic::{PublishError, TempFile};
use crate::io::clock::Timestamp;
use crate::io::lock::{FileLock, LockError};
use crate::io::secret::SecretBytes;
use crate::io::{atomic, tree};
use std::path::{Path, PathBuf};

/// A login that goes into an export.
#[derive(Debug, Clone)]
pub struct MovingLogin {
    /// The profile.
    pub profile: String,
    /// Its bytes, as they are in the export.
    pub bytes: SecretBytes,
}

/// The logins that an export takes along.
#[derive(Debug, Clone, Copy)]
pub struct LoginMove<'a> {
    /// Each.
    pub moving_logins: &'a [MovingLogin],
    /// Which export it is: it alone can bring them back.
    pub export: &'a str,
}

/// Why the login of a profile stays where it is; `None` if it may go.
pub fn obstacle(profile: &Profile, codex_home: &Path) -> Option<String> {
    if profile.snapshot().is_none() || profile.login().is_none() {
        return Some("it has no login".into());
    }
    if profile.damaged.is_some() {
        return Some("its profile.json is damaged".into());
    }
    if let Some(home) = profile.live_in(codex_home) {
        return Some(format!("its account is signed in in {}", home.display()));
    }
    if let Some(home) = profile.unreadable_home() {
        return Some(format!(
            "its account was signed in in {}, which cannot be looked at",
            home.display()
        ));
    }
    match profile.file.owner {
        Owner::Moved => Some("its login was moved to another machine".into()),
        Owner::Probe => Some("Codex is being asked about it".into()),
        Owner::Live | Owner::Profile => None,
    }
}

/// Gives `file` the name `target`, and with it the logins. Returns whether that name was free; if
/// not, nothing was changed.
///
/// # Errors
/// A login changed since it was written to the file, or the file system refuses; then every login is
/// where it was, or, where that could not be noted any more, its profile says what to do.
pub fn publish(
    profiles: &Profiles,
    logins: LoginMove<'_>,
    file: TempFile,
    target: &Path,
    codex_home: &Path,
    now: Timestamp,
) -> Result<bool, TransferError> {
    let LoginMove {
        moving_logins,
        export,
    } = logins;
    if moving_logins.is_empty() {
        return Ok(file.publish(target)?.is_ok());
    }
    // Whoever puts a login live holds these, before the lock on profiles.
    let _live = if codex_home.is_dir() {
        let lock = LoginLock::take(codex_home, login_lock::PATIENCE);
        Some(lock.map_err(|e| match e {
            LockError::Io(e) => TransferError::Io(e),
            LockError::Held(path) => TransferError::Locked(path),
        })?)
    } else {
        None
    };
    let _held = FileLock::exclusive(&profiles.lock_path())?;
    let mut before = Vec::new();
    for login in moving_logins {
        let profile = profiles.named(&login.profile)?;
        let is_same = profile.snapshot().is_some_and(|s| s.bytes == login.bytes);
        if !is_same || obstacle(&profile, codex_home).is_some() {
            return Err(TransferError::Changed(login.profile.clone()));
        }
        before.push(profile);
    }
    let note = PendingMove {
        file: target.to_path_buf(),
        unfinished: file.path().to_path_buf(),
        inode: inode_of(file.path()),
        since: now,
    };
    let moving = |profile: &Profile| ProfileFile {
        owner: Owner::Moved,
        live_home: None,
        moving: Some(note.clone()),
        moved_with: Some(export.to_owned()),
        newest: profile.newest(),
        ..profile.file.clone()
    };
    let noted = before
        .iter()
        .try_for_each(|profile| profiles.write_note(&profile.name, &moving(profile)));
    let (error, file) = match noted {
        Err(e) => (TransferError::from(e), file),
        Ok(()) => match file.try_publish(target) {
            Ok(()) => return close(profiles, &before, &moving).map(|()| true),
            Err(PublishError {
                error,
                file: Some(file),
            }) => (error.into(), file),
            // The name is there, if not surely durable: the logins are where that name is.
            Err(PublishError { error, file: None }) => return Err(error.into()),
        },
    };
    let undone = before
        .iter()
        .try_for_each(|profile| profiles.write_note(&profile.name, &profile.file));
    if let Err(e) = undone {
        // As long as it is there under this name, it is no export: that is what settles it.
        file.leave();
        return Err(e.into());
    }
    match error {
        TransferError::Io(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        error => Err(error),
    }
}

fn close(
    profiles: &Profiles,
    before: &[Profile],
    moving: &impl Fn(&Profile) -> ProfileFile,
) -> Result<(), TransferError> {
    for profile in before {
        let moved = ProfileFile {
            moving: None,
            ..moving(profile)
        };
        profiles.write_note(&profile.name, &moved)?;
    }
    Ok(())
}

/// How an export that was killed ended, for one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The file has its name, and the login.
    Moved(PathBuf),
    /// The file never got its name; it is gone, and the login is the profile's.
    TakenBack,
    /// The file is nowhere: it may have been carried away.
    Unknown(PathBuf),
}

/// Settles what killed exports left, each with the name of its profile.
///
/// # Errors
/// A profile cannot be read or written.
pub fn finish_interrupted(
    profiles: &Profiles,
) -> Result<Vec<(String, MoveOutcome)>, TransferError> {
    let is_open = |profile: &Profile| profile.file.moving.is_some();
    if !profiles.list()?.iter().any(is_open) {
        return Ok(Vec::new());
    }
    // Whoever is at work holds it.
    let _held = FileLock::exclusive(&profiles.lock_path())?;
    let open: Vec<_> = profiles.list()?.into_iter().filter(is_open).collect();
    let mut settled = Vec::new();
    for profile in &open {
        let Some(note) = &profile.file.moving else {
            continue;
        };
        let end = outcome_of(note);
        let owner = match &end {
            MoveOutcome::Moved(_) => Owner::Moved,
            MoveOutcome::TakenBack => Owner::Profile,
            MoveOutcome::Unknown(_) => {
                settled.push((profile.name.clone(), end));
                continue;
            }
        };
        let is_back = owner == Owner::Profile;
        let file = ProfileFile {
            owner,
            moving: None,
            moved_with: profile.file.moved_with.clone().filter(|_| !is_back),
            ..profile.file.clone()
        };
        profiles.write_note(&profile.name, &file)?;
        settled.push((profile.name.clone(), end));
    }
    // Only now: until each profile has its login back the file says that they may.
    for (profile, (_, end)) in open.iter().zip(&settled) {
        if let (MoveOutcome::TakenBack, Some(note)) = (end, &profile.file.moving) {
            tree::remove(&note.unfinished)?;
        }
    }
    Ok(settled)
}

fn outcome_of(note: &PendingMove) -> MoveOutcome {
    let is_file = |path: &Path| note.inode.is_some() && inode_of(path) == note.inode;
    if is_file(&note.file) {
        let synced = atomic::sync_folder(atomic::parent_of(&note.file));
        if synced.is_ok() {
            return MoveOutcome::Moved(note.file.clone());
        }
    } else if is_file(&note.unfinished) {
        return MoveOutcome::TakenBack;
    }
    MoveOutcome::Unknown(note.file.clone())
}

/// What tells a file from all others, whatever its name: device and inode.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = path.symlink_metadata().ok()?;
        Some((meta.dev(), meta.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}
