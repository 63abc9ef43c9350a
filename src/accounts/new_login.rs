//! A new login: made by Codex in a home of its own, then taken over as a profile.
//!
//! The home is a folder below `tmp/` with a note of what it is for. A login that is in it counts
//! from the moment Codex has written it: whoever was to take it over may be killed, and the next
//! command on profiles does it.

use super::lease::LeaseError;
use super::profile::{ProfileError, Profiles};
use super::profile_ops::check_name;
use super::save::{OwnerLocation, SaveReport};
use crate::codex::auth::{AuthFile, AuthSnapshot, Login};
use crate::codex::config::CodexConfig;
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::codex::login_lock::LoginLock;
use crate::codex::process::find_codex;
use crate::codex::sign_in;
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document};
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, IoError, atomic, lock, tree};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of these folders begin.
const LOGIN_HOME_PREFIX: &str = "login-";

const NOTE: &str = "login.json";

/// After this long nobody is in the middle of signing in, where that cannot be looked up.
const SIGN_IN_TIMEOUT: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// What a login home is for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct LoginNote {
    /// The name that the profile is to have.
    profile: String,
    /// The Codex home beside which the login was made.
    codex_home: PathBuf,
    started_at: Option<Timestamp>,
}

impl Document for LoginNote {
    const SCHEMA: u64 = 1;
}

/// A home in which somebody signs in.
#[derive(Debug)]
pub struct LoginHome {
    folder: PathBuf,
    note: LoginNote,
    _lock: FileLock,
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedLogin {
    /// Whose it is.
    pub login: Login,
    /// Where it is now.
    pub saved: SaveReport,
    /// The name that was asked for.
    pub wanted: String,
    /// The account that has the name, where that is why it was not taken.
    pub taken_by: Option<String>,
    /// Whether it is live, too.
    pub live: LiveHomeUpdate,
}

/// What a new login means for the Codex home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveHomeUpdate {
    /// Another account is signed in there, or none.
    No,
    /// The same account was, with an older login; it has the new one now.
    Renewed,
    /// The same account is, and Codex held the login too long: it still has the older one.
    Busy,
}

/// What was found in a login home that its maker left behind.
#[derive(Debug)]
pub enum RecoveredLogin {
    /// A login.
    Login(Box<AdoptedLogin>),
    /// Bytes that are no login; they are kept here.
    Kept(PathBuf),
}

impl LoginHome {
    /// A new one for the profile `name`, in which Codex signs in as it would in `codex_home`.
    ///
    /// # Errors
    /// `name` is no name, or the file system refuses.
    pub fn new(
        manager_home: &Path,
        name: &str,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<Self, ProfileError> {
        check_name(name)?;
        let parent = manager_home.join("tmp");
        atomic::create_private_folder(&parent)?;
        // Under the parent's lock, so that nobody sees a folder whose own lock is not yet taken.
        let _creating = FileLock::exclusive(&parent.join(".lock"))?;
        let folder = tempfile::Builder::new()
            .prefix(LOGIN_HOME_PREFIX)
            .tempdir_in(&parent)
            .at("create a folder in", &parent)?
            .keep();
        let lock = FileLock::exclusive(&folder.join(".lock"))?;
        let note = LoginNote {
            profile: name.to_owned(),
            codex_home: codex_home.to_path_buf(),
            started_at: Some(now),
        };
        document::write(&folder.join(NOTE), &note)?;
        let home = Self {
            folder,
            note,
            _lock: lock,
        };
        sign_in::prepare(&home.codex_home(), codex_home)?;
        Ok(home)
    }

    /// Where Codex is to sign in.
    pub fn codex_home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// What Codex has written there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn auth(&self) -> Result<AuthFile, IoError> {
        AuthFile::read(&self.codex_home().join(AUTH_JSON))
    }

    /// Takes the login over, then removes the home. Killed in between it is done again, to the same
    /// end. Where nothing was signed in, the home goes and that is all; bytes that are no login
    /// are kept beside.
    ///
    /// # Errors
    /// A profile cannot be written, or somebody else is at work on the login; the home stays for the
    /// next try.
    pub fn finish(
        self,
        manager_home: &Path,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Option<RecoveredLogin>, LeaseError> {
        let profiles = Profiles::of(manager_home);
        let found = match self.auth()? {
            AuthFile::Missing => None,
            AuthFile::Present(snapshot) => Some(match snapshot.login.clone() {
                Some(login) => RecoveredLogin::Login(Box::new(adopt(
                    &profiles, &self.note, &snapshot, login, now, patience,
                )?)),
                None => RecoveredLogin::Kept(profiles.quarantine_bytes(&snapshot.bytes)?),
            }),
            AuthFile::Unreadable { bytes, .. } => {
                Some(RecoveredLogin::Kept(profiles.quarantine_bytes(&bytes)?))
            }
        };
        tree::remove(&self.folder)?;
        Ok(found)
    }
}

/// Takes over the logins that were made and never taken over, because somebody was killed.
///
/// # Errors
/// A profile cannot be written; what is left is done by the next call.
pub fn recover(
    manager_home: &Path,
    now: Timestamp,
    patience: Duration,
) -> Result<Vec<RecoveredLogin>, LeaseError> {
    let parent = manager_home.join("tmp");
    let mut recovered = Vec::new();
    for folder in left_behind(&parent) {
        let _looking = FileLock::exclusive(&parent.join(".lock"))?;
        let Ok(lock) = FileLock::try_exclusive(&folder.join(".lock")) else {
            continue;
        };
        let note = document::read::<LoginNote>(&folder.join(NOTE))
            .map_err(ProfileError::from)?
            .good();
        let home = LoginHome {
            note: note.unwrap_or_default(),
            folder,
            _lock: lock,
        };
        if matches!(home.auth()?, AuthFile::Missing) && home.may_be_in_use(now) {
            continue;
        }
        recovered.extend(home.finish(manager_home, now, patience)?);
    }
    Ok(recovered)
}

impl LoginHome {
    /// Whether a Codex may still be signing in there: it outlives us when we are killed.
    fn may_be_in_use(&self, now: Timestamp) -> bool {
        if cfg!(target_os = "linux") {
            return !find_codex(&self.codex_home()).is_empty();
        }
        self.note
            .started_at
            .is_some_and(|since| now - since < SIGN_IN_TIMEOUT)
    }
}

fn left_behind(parent: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(LOGIN_HOME_PREFIX)
        })
        .map(|entry| entry.path())
        .filter(|folder| folder.is_dir() && lock::is_free(&folder.join(".lock")))
        .collect();
    folders.sort();
    folders
}

fn adopt(
    profiles: &Profiles,
    note: &LoginNote,
    snapshot: &AuthSnapshot,
    login: Login,
    now: Timestamp,
    patience: Duration,
) -> Result<AdoptedLogin, LeaseError> {
    let home = &note.codex_home;
    let _account_locks = profiles.lock_accounts(&[&login.identity], now, patience)?;
    let (saved, taken_by) = save_new(profiles, &note.profile, (snapshot, &login), home, now)?;
    Ok(AdoptedLogin {
        live: renew_live(profiles, home, (snapshot, &login), now, patience)?,
        wanted: note.profile.clone(),
        login,
        saved,
        taken_by,
    })
}

/// Saves a login that belongs to nobody yet: into its account's profile, which keeps its name; else
/// as `name`; where that is another account's, under the account's email. Also says who has the name.
pub(crate) fn save_new(
    profiles: &Profiles,
    name: &str,
    (snapshot, login): (&AuthSnapshot, &Login),
    codex_home: &Path,
    now: Timestamp,
) -> Result<(SaveReport, Option<String>), ProfileError> {
    let own = profiles.find(&login.identity)?;
    let mut taken_by = None;
    if own.is_none() {
        match profiles.save_as(name, (snapshot, login), codex_home, false, now) {
            Ok((_, saved)) => return Ok((saved, None)),
            Err(ProfileError::Taken { of, .. }) => taken_by = Some(of),
            // What stands there is no profile, or the name is none: a login is not lost over that.
            Err(ProfileError::NotAProfile(_) | ProfileError::BadName { .. }) => {
                taken_by = Some("something else".into());
            }
            Err(e) => return Err(e),
        }
    }
    let live_in = own.and_then(|own| own.live_in(codex_home));
    let owner = live_in
        .as_deref()
        .map_or(OwnerLocation::Profile, OwnerLocation::Live);
    let saved = profiles.save_back(snapshot, login, owner, now)?;
    Ok((saved, taken_by))
}

/// Puts a new login live where the same account is signed in with an older one, which may be spent:
/// else nothing would put it there, and there would be two. The old one goes to the history.
pub(crate) fn renew_live(
    profiles: &Profiles,
    home: &Path,
    (snapshot, login): (&AuthSnapshot, &Login),
    now: Timestamp,
    patience: Duration,
) -> Result<LiveHomeUpdate, ProfileError> {
    let path = home.join(AUTH_JSON);
    let is_older = |live: &AuthFile| {
        let is_own = |identity: &Identity| identity.is_same(&login.identity);
        live.login().is_some_and(|live| {
            is_own(&live.identity) && login.freshness.is_newer_than(&live.freshness)
        })
    };
    if !CodexConfig::read(home).store.reads_auth_json()
        || !AuthFile::read(&path).is_ok_and(|live| is_older(&live))
    {
        return Ok(LiveHomeUpdate::No);
    }
    let _lock = match LoginLock::take(home, patience) {
        Ok(lock) => lock,
        Err(LockError::Held(_)) => return Ok(LiveHomeUpdate::Busy),
        Err(LockError::Io(e)) => return Err(e.into()),
    };
    let live = AuthFile::read(&path)?;
    if !is_older(&live) {
        return Ok(LiveHomeUpdate::No);
    }
    if let (Some(old), Some(old_login)) = (live.snapshot(), live.login()) {
        profiles.save_back(old, old_login, OwnerLocation::Live(home), now)?;
    }
    atomic::write(&path, snapshot.bytes.expose())?;
    profiles.save_back(snapshot, login, OwnerLocation::Live(home), now)?;
    Ok(LiveHomeUpdate::Renewed)
}
