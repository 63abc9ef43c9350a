//! New logins: Codex signs in in a home of its own, then the login is adopted into a profile.
//!
//! The home is a folder below `tmp/` with a note of its purpose. If the manager is killed after Codex
//! has written the login, the next `profile` command adopts the login. This needs no journal, because
//! adopting a login is one save into one profile, and saving the same login again changes no owner.

use super::lease::LeaseError;
use super::owner::OwnerLocation;
use super::profile::{LoginCopy, ProfileError, Profiles};
use super::profile_ops::check_profile_name;
use super::save::{LoginToKeep, SaveReport};
use crate::codex::{
    AUTH_JSON, AuthFile, AuthSnapshot, CredentialStore, Login, LoginLock, find_codex, sign_in,
};
use crate::io::{Document, FileLock, IoError, Timestamp, atomic, document, staging, tree};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The prefix of login homes in `tmp/`.
const LOGIN_HOME_PREFIX: &str = "login-";

const NOTE_FILE: &str = "login.json";

/// The age after which a sign-in counts as abandoned on systems where the processes of a home
/// cannot be found.
const SIGN_IN_TIMEOUT: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The purpose of a login home.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct LoginNote {
    /// The name for the new profile.
    profile: String,
    /// The Codex home for which the user signs in.
    codex_home: PathBuf,
    started_at: Option<Timestamp>,
}

impl Document for LoginNote {}

/// A home in which the user signs in. Locked until dropped.
#[derive(Debug)]
pub struct LoginHome {
    folder: PathBuf,
    note: LoginNote,
    _lock: FileLock,
}

/// A new login that is now in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedLogin {
    pub login: Login,
    pub saved: SaveReport,
    /// The name for the profile that the user requested.
    pub requested_name: String,
    /// The reason why the profile did not get the requested name, as a clause after the name. `None` if it got the
    /// name, or if the account had a profile already.
    pub name_problem: Option<String>,
    pub live: LiveHomeUpdate,
}

/// The effect of a new login on the Codex home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveHomeUpdate {
    /// No change: another account or none is signed in there, the login there is not older, or Codex does not keep its
    /// login in auth.json.
    No,
    /// The same account was signed in with an older login, which the new one replaced.
    Renewed,
    /// The same account is signed in with an older login, which could not be replaced: Codex held
    /// its lock too long.
    Busy,
}

/// The content that a login home had before its removal.
#[derive(Debug)]
pub enum LoginHomeContent {
    Login(Box<AdoptedLogin>),
    /// Bytes that are no login, quarantined at this path.
    Quarantined(PathBuf),
}

impl LoginHome {
    /// Creates a login home for the profile `profile_name`, with the sign-in settings of `codex_home`.
    ///
    /// # Errors
    /// `profile_name` is not a valid profile name, or an I/O error.
    pub fn create(
        manager_home: &Path,
        profile_name: &str,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<Self, ProfileError> {
        check_profile_name(profile_name)?;
        let (folder, lock) = staging::create_locked(&manager_home.join("tmp"), LOGIN_HOME_PREFIX)?;

        let note = LoginNote {
            profile: profile_name.to_owned(),
            codex_home: codex_home.to_path_buf(),
            started_at: Some(now),
        };
        document::write(&folder.join(NOTE_FILE), &note)?;

        let home = Self {
            folder,
            note,
            _lock: lock,
        };
        sign_in::create_login_home(&home.codex_home(), codex_home)?;
        Ok(home)
    }

    /// Returns the folder to pass to Codex as its home.
    pub fn codex_home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Reads the auth.json that Codex has written.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read_auth(&self) -> Result<AuthFile, IoError> {
        AuthFile::read(&self.codex_home().join(AUTH_JSON))
    }

    /// Adopts the login, then removes the home; `None` if the user did not sign in. Content that is
    /// no login is quarantined. Waits for each lock on the account at most `patience`. Safe to repeat after a kill.
    ///
    /// # Errors
    /// A profile cannot be written, or another process uses the login. The home stays for the next
    /// attempt.
    pub fn adopt_and_remove(
        self,
        manager_home: &Path,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Option<LoginHomeContent>, LeaseError> {
        let profiles = Profiles::of(manager_home);
        let content = match profiles.extract_login_or_quarantine(&self.read_auth()?)? {
            LoginToKeep::Missing => None,
            LoginToKeep::Quarantined(path) => Some(LoginHomeContent::Quarantined(path)),
            LoginToKeep::Login(snapshot, login) => {
                let adopted = adopt_login(&profiles, &self.note, (snapshot, login), now, patience)?;
                Some(LoginHomeContent::Login(Box::new(adopted)))
            }
        };

        // Removed after the save, because this folder has the only copy of the login before.
        tree::remove(&self.folder)?;
        Ok(content)
    }

    /// Returns true if a Codex may still be signing in, because it can survive a kill of the manager.
    fn may_be_in_use(&self, now: Timestamp) -> bool {
        // Other systems do not show which home a process uses.
        if cfg!(target_os = "linux") {
            return !find_codex(&self.codex_home()).is_empty();
        }
        let started_at = self.note.started_at;
        started_at.is_some_and(|since| now - since < SIGN_IN_TIMEOUT)
    }
}

/// Adopts logins from login homes that killed commands left, except from homes in which the user may still be signing
/// in.
///
/// # Errors
/// A profile cannot be written, or another process uses a login. The next call tries again.
pub fn recover_login_homes(
    manager_home: &Path,
    now: Timestamp,
    patience: Duration,
) -> Result<Vec<LoginHomeContent>, LeaseError> {
    let parent = manager_home.join("tmp");
    let mut recovered = Vec::new();

    for folder in staging::find_stale(&parent, LOGIN_HOME_PREFIX) {
        // Another process may be between the two calls that create a login home and its lock. It holds this lock then.
        let _no_creation = FileLock::acquire(&parent.join(".lock"))?;
        let Ok(Some(lock)) = FileLock::try_acquire(&folder.join(".lock")) else {
            continue;
        };

        let note = document::read::<LoginNote>(&folder.join(NOTE_FILE))
            .map_err(ProfileError::from)?
            .good();
        let home = LoginHome {
            note: note.unwrap_or_default(),
            folder,
            _lock: lock,
        };

        // The user may still be in the browser.
        if matches!(home.read_auth()?, AuthFile::Missing) && home.may_be_in_use(now) {
            continue;
        }
        recovered.extend(home.adopt_and_remove(manager_home, now, patience)?);
    }

    Ok(recovered)
}

/// Saves a new login under the lock on its account, and replaces an older login in the Codex home that the note names.
fn adopt_login(
    profiles: &Profiles,
    note: &LoginNote,
    (snapshot, login): (&AuthSnapshot, &Login),
    now: Timestamp,
    patience: Duration,
) -> Result<AdoptedLogin, LeaseError> {
    let home = &note.codex_home;
    // A probe or a launch may hold an older login of the account, and would later replace the new one by it.
    let _account_locks = profiles.lock_accounts(&[&login.identity], now, patience)?;
    let (saved, name_problem) =
        save_new_login(profiles, &note.profile, (snapshot, login), home, now)?;
    Ok(AdoptedLogin {
        live: renew_live_login(profiles, home, (snapshot, login), now, patience)?,
        requested_name: note.profile.clone(),
        login: login.clone(),
        saved,
        name_problem,
    })
}

/// Saves a new login into the profile of its account. Without a profile, creates one with the name `profile_name`. If
/// `profile_name` is taken or invalid, the email of the account becomes the name. The problem with `profile_name` is
/// then returned too, as the predicate of a sentence.
pub(crate) fn save_new_login(
    profiles: &Profiles,
    profile_name: &str,
    (snapshot, login): (&AuthSnapshot, &Login),
    codex_home: &Path,
    now: Timestamp,
) -> Result<(SaveReport, Option<String>), ProfileError> {
    let profile = profiles.find(&login.identity)?;
    let mut name_problem = None;

    if profile.is_none() {
        let copy = LoginCopy::Ordinary;
        match profiles.save_as(profile_name, (snapshot, login), codex_home, copy, now) {
            Ok((_, saved)) => return Ok((saved, name_problem)),
            Err(
                ProfileError::Taken { account, .. } | ProfileError::EmailOfAnother { account, .. },
            ) => name_problem = Some(format!("is the profile of {account}")),
            // Another file or folder has the path, or the name is invalid. The login is saved below.
            Err(ProfileError::NotAProfile(_) | ProfileError::BadName { .. }) => {
                name_problem = Some("cannot be the name of a profile".into());
            }
            Err(e) => return Err(e),
        }
    }

    let live_home = profile.and_then(|profile| profile.find_live_home(codex_home));
    let owner = live_home
        .as_deref()
        .map_or(OwnerLocation::Profile, OwnerLocation::Live);
    // `save_back` finds the profile of the account, or creates one with the email as its name.
    let saved = profiles.save_back(snapshot, login, owner, now)?;
    Ok((saved, name_problem))
}

/// Replaces an older login of the same account in the Codex home, because the older login may be spent and no other
/// command would replace it. The older login goes to the history of the profile.
pub(crate) fn renew_live_login(
    profiles: &Profiles,
    home: &Path,
    (snapshot, login): (&AuthSnapshot, &Login),
    now: Timestamp,
    patience: Duration,
) -> Result<LiveHomeUpdate, ProfileError> {
    let path = home.join(AUTH_JSON);
    let is_older = |auth: &AuthFile| {
        auth.login().is_some_and(|live| {
            live.identity.is_same(&login.identity) && login.freshness.is_newer_than(&live.freshness)
        })
    };

    // Checked before the lock and again under it, so that a home with nothing to replace is not locked.
    let may_replace = CredentialStore::read(home).always_reads_auth_json()
        && AuthFile::read(&path).is_ok_and(|live| is_older(&live));
    if !may_replace {
        return Ok(LiveHomeUpdate::No);
    }

    let Some(_lock) = LoginLock::acquire(home, patience)? else {
        return Ok(LiveHomeUpdate::Busy);
    };

    // Codex may have renewed the login before it released the lock.
    let live = AuthFile::read(&path)?;
    if !is_older(&live) {
        return Ok(LiveHomeUpdate::No);
    }

    if let (Some(old), Some(old_login)) = (live.snapshot(), live.login()) {
        // If Codex has renewed the old login after the last save, this is the only copy.
        profiles.save_back(old, old_login, OwnerLocation::Live(home), now)?;
    }

    atomic::write(&path, snapshot.bytes.expose())?;
    profiles.save_back(snapshot, login, OwnerLocation::Live(home), now)?;
    Ok(LiveHomeUpdate::Renewed)
}
