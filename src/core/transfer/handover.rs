//! Moves the ownership of logins into an export. A kill at any point leaves exactly one owner of each login.
//!
//! 1. The export is durable under a temporary name.
//! 2. Each profile records the pending move (`moving`). From now on no command uses the login of the profile.
//! 3. One rename gives the export its final name.
//! 4. The profiles record the move as done (`moved`).
//!
//! After a kill, or a rename with an unknown result, the name of the file decides: with the final name the export owns
//! the logins, with the temporary name the profiles do. If neither file exists, the disk of the export may be gone, or
//! the user may have moved the file. Then the profiles do not get their logins back by themselves.
//!
//! This is no transaction of [`crate::journal`], because only the disk of the export knows the outcome. A journal would
//! undo its steps if that disk disappears before the rename is durable; then the profile could use a login that the
//! export on the disk also contains. A pending move blocks the login until the disk is back. Until then, the user may
//! rename the profile or sign in again, because the pending move is recorded in `profile.json` itself. A journal would
//! restore an outdated `profile.json`.

use super::error::TransferError;
use crate::accounts::{LoginOwner, PendingMove, Profile, ProfileFile, Profiles};
use crate::codex::{LoginLock, login_lock};
use crate::io::{
    FileId, FileLock, IoContext, PublishError, SecretBytes, TempFile, Timestamp, atomic, tree,
};
use serde::Serialize;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A login that moves into an export.
#[derive(Debug, Clone, Serialize)]
pub struct MovedLogin {
    /// The name of the profile that loses the login.
    pub profile: String,
    pub email: String,
    pub account_id: Option<String>,
    /// The content of auth.json, as it is in the export.
    #[serde(skip)]
    pub bytes: SecretBytes,
}

/// Returns the reason why the login of a profile cannot move into an export, or `None` if it can.
pub(crate) fn find_obstacle(profile: &Profile, codex_home: &Path) -> Option<String> {
    if let Some(other) = profile.other_account() {
        return Some(format!("its auth.json has the login of {other}"));
    }
    if profile.snapshot().is_none() || profile.login().is_none() {
        return Some("it has no login".into());
    }
    if profile.damaged.is_some() {
        return Some("its profile.json is damaged".into());
    }

    // An API key stays valid when it is used, so an old one can still move.
    if profile.is_renewable() && (profile.is_stale() || profile.is_superseded()) {
        return Some("its login is older than the newest one seen of its account".into());
    }

    if let Some(home) = profile.find_live_home(codex_home) {
        let home = home.display();
        return Some(format!("its account is the live account of {home}"));
    }
    if let Some(home) = profile.unreadable_home() {
        let home = home.display();
        let problem = format!("its account was the live account of {home}, which cannot be read");
        return Some(problem);
    }

    match profile.file.owner {
        LoginOwner::Moved => Some("its login was moved to another machine".into()),
        LoginOwner::Probe => Some("another command is querying its quota".into()),
        // The homes, which were read above, decide whether a login is live, not the record.
        LoginOwner::Live | LoginOwner::Profile => None,
    }
}

/// Renames `file` to `target`, and records that `logins` moved into the export. Returns false if `target` exists; then
/// the profiles keep their logins. The profiles record `export_id`, because only this export can bring the logins back.
///
/// # Errors
/// A login changed since it was written to the file, or a file cannot be written. Then the profiles keep their logins.
/// If the profiles cannot be written, or the disk of the export is gone, the move stays pending, and the next command
/// finishes or undoes it.
pub(crate) fn publish_export(
    profiles: &Profiles,
    logins: &[MovedLogin],
    export_id: &str,
    file: TempFile,
    target: &Path,
    codex_home: &Path,
    now: Timestamp,
) -> Result<bool, TransferError> {
    if logins.is_empty() {
        return Ok(file.publish(target)?.is_ok());
    }

    // Lock order: the login lock before the lock on profiles, as in every command that makes a login live.
    let _login_lock = lock_live_login(codex_home)?;
    let _profiles_lock = FileLock::acquire(&profiles.lock_path())?;
    let profiles_before = load_unchanged_profiles(profiles, logins, codex_home)?;

    let not_found = || io::Error::from(ErrorKind::NotFound);
    let id = FileId::read(file.path())?;
    let id = id.ok_or_else(not_found).at("find", file.path())?;
    let pending_move = PendingMove {
        file: target.to_path_buf(),
        unfinished: file.path().to_path_buf(),
        id: Some(id),
        // Only older versions recorded it.
        inode: None,
        since: now,
    };

    // Each profile records the pending move before the rename, so that a killed move can be finished or undone.
    let recorded = profiles_before.iter().try_for_each(|profile| {
        let moving = to_moving_record(profile, &pending_move, export_id);
        profiles.write_record(&profile.name, &moving)
    });
    if let Err(e) = recorded {
        return_logins(profiles, &profiles_before, file)?;
        return Err(e.into());
    }

    rename_export(profiles, &profiles_before, &pending_move, export_id, file)
}

/// Returns the content of `profile.json` for a profile whose login is moving.
fn to_moving_record(profile: &Profile, pending_move: &PendingMove, export_id: &str) -> ProfileFile {
    ProfileFile {
        owner: LoginOwner::Moved,
        live_home: None,
        moving: Some(pending_move.clone()),
        moved_with: Some(export_id.to_owned()),
        newest: profile.newest(),
        ..profile.file.clone()
    }
}

/// Gives the export its final name, and records in the profiles that their logins moved. If the final name exists,
/// returns the logins to their profiles, and returns false. `profiles_before` has the profiles as they were before the
/// move.
fn rename_export(
    profiles: &Profiles,
    profiles_before: &[Profile],
    pending_move: &PendingMove,
    export_id: &str,
    file: TempFile,
) -> Result<bool, TransferError> {
    let record_all =
        || record_moved(profiles, profiles_before, pending_move, export_id).map(|()| true);
    let Err(PublishError { error, file }) = file.try_publish(&pending_move.file) else {
        return record_all();
    };

    // Without a file in the error, the rename happened, but may not be durable, so the move stays pending.
    let Some(file) = file else {
        return Err(error.into());
    };

    match determine_outcome(pending_move) {
        // A network file system renamed the file, but reported a failure because its reply was lost.
        MoveOutcome::Moved(_) => record_all(),
        MoveOutcome::Returned => {
            return_logins(profiles, profiles_before, file)?;
            match error.source.kind() {
                ErrorKind::AlreadyExists => Ok(false),
                _ => Err(error.into()),
            }
        }
        MoveOutcome::Unknown(_) => {
            // The next command decides by the name of the file, so the file must stay.
            file.keep();
            Err(error.into())
        }
    }
}

/// Locks the live login of a Codex home. Returns `None` if the home does not exist.
fn lock_live_login(codex_home: &Path) -> Result<Option<LoginLock>, TransferError> {
    if !codex_home.is_dir() {
        return Ok(None);
    }
    let lock = LoginLock::acquire(codex_home, login_lock::REFRESH_TIMEOUT)?;
    let lock = lock.ok_or_else(|| TransferError::Locked(LoginLock::held_path(codex_home)))?;
    Ok(Some(lock))
}

/// Returns the profiles of the logins. The caller holds the lock on profiles.
///
/// # Errors
/// A login changed since it was written to the export, or can no longer move.
fn load_unchanged_profiles(
    profiles: &Profiles,
    logins: &[MovedLogin],
    codex_home: &Path,
) -> Result<Vec<Profile>, TransferError> {
    let load_profile = |login: &MovedLogin| {
        let profile = profiles.find_by_name(&login.profile)?;
        // If the login was renewed after it was written to the export, the refresh token there is used up.
        let is_unchanged = profile.snapshot().is_some_and(|s| s.bytes == login.bytes);
        if !is_unchanged || find_obstacle(&profile, codex_home).is_some() {
            return Err(TransferError::Changed(login.profile.clone()));
        }
        Ok(profile)
    };
    logins.iter().map(load_profile).collect()
}

/// Gives the profiles their logins back after the export failed, and removes the temporary `file` of the export. If a
/// profile cannot be written, the file stays.
fn return_logins(
    profiles: &Profiles,
    profiles_before: &[Profile],
    file: TempFile,
) -> Result<(), TransferError> {
    let mut profiles_before = profiles_before.iter();
    let result = profiles_before.try_for_each(|p| profiles.write_record(&p.name, &p.file));
    if let Err(e) = result {
        // The next command needs the file under its temporary name, to see that the export failed.
        file.keep();
        return Err(e.into());
    }
    // Dropping `file` removes it.
    Ok(())
}

fn record_moved(
    profiles: &Profiles,
    profiles_before: &[Profile],
    pending_move: &PendingMove,
    export_id: &str,
) -> Result<(), TransferError> {
    for profile in profiles_before {
        let moved = ProfileFile {
            moving: None,
            ..to_moving_record(profile, pending_move, export_id)
        };
        profiles.write_record(&profile.name, &moved)?;
    }
    Ok(())
}

/// The outcome of an interrupted export for one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The export has its final name and owns the login.
    Moved(PathBuf),
    /// The export has only its temporary name, so the profile owns the login.
    Returned,
    /// The file exists under neither name, for example because the user has moved it, or the final name is not durable.
    Unknown(PathBuf),
}

/// Finishes or undoes the moves of killed exports. Returns the outcome for each profile with a pending move, by name.
///
/// # Errors
/// A profile cannot be read or written.
pub fn finish_interrupted(
    profiles: &Profiles,
) -> Result<Vec<(String, MoveOutcome)>, TransferError> {
    let has_pending_moves = profiles.list()?.iter().any(|p| p.file.moving.is_some());
    if !has_pending_moves {
        return Ok(Vec::new());
    }

    // A running export holds this lock. So once the lock is acquired, all pending moves are of killed exports.
    let _lock = FileLock::acquire(&profiles.lock_path())?;
    let (mut outcomes, mut failed_exports) = (Vec::new(), Vec::new());
    for profile in profiles.list()? {
        let Some(pending_move) = &profile.file.moving else {
            continue;
        };

        let outcome = determine_outcome(pending_move);
        let mut record = profile.file.clone();
        record.moving = None;
        match &outcome {
            MoveOutcome::Moved(_) => record.owner = LoginOwner::Moved,
            MoveOutcome::Returned => {
                record.owner = LoginOwner::Profile;
                record.moved_with = None;
                failed_exports.push(pending_move.unfinished.clone());
            }
            MoveOutcome::Unknown(_) => {}
        }

        // A move with an unknown outcome stays pending.
        if !matches!(outcome, MoveOutcome::Unknown(_)) {
            profiles.write_record(&profile.name, &record)?;
        }
        outcomes.push((profile.name, outcome));
    }

    // The failed exports are removed last. A profile whose move is still pending gets its login back only while the
    // failed export exists.
    for export in failed_exports {
        tree::remove(&export)?;
    }

    Ok(outcomes)
}

fn determine_outcome(pending_move: &PendingMove) -> MoveOutcome {
    if pending_move.is_export(&pending_move.file) {
        let synced = atomic::sync_folder(atomic::parent_of(&pending_move.file));
        // The final name counts only once it is durable. Before that, a power failure could bring the temporary name
        // back.
        if synced.is_ok() {
            return MoveOutcome::Moved(pending_move.file.clone());
        }
    } else if pending_move.is_export(&pending_move.unfinished) {
        return MoveOutcome::Returned;
    }
    MoveOutcome::Unknown(pending_move.file.clone())
}

#[cfg(test)]
mod tests;
