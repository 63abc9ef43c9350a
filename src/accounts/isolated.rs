//! Isolated homes: Codex homes of one account each, so that two accounts run at the same time.
//!
//! `profiles/.isolated/<account>/home` holds its own auth.json; everything else in it links to the
//! real Codex home (`launch::isolated_home` makes those links). For the rules of ownership it is a
//! Codex home like any other: `profile.json` names it as the live home, and the auth.json in it
//! decides. While a launch runs it holds `launch.lock` shared. Whoever takes the lock exclusively
//! and finds no Codex on the home returns the login to the profile. [`Profiles::claim`] does that
//! first for every account that it locks, so a killed launch needs no recovery of its own.

use super::loan::{Held, LoanError, key};
use super::profile::{Owner, Profile, ProfileError, Profiles, canonical};
use super::save::{Keeper, SavedBack};
use crate::codex::auth::{AuthFile, AuthSnapshot};
use crate::codex::daemon;
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::codex::process::{Holder, Role, find_codex};
use crate::io::clock::Timestamp;
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, atomic};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of isolated homes in `profiles/`.
const ISOLATED: &str = ".isolated";

/// The lock that running launches of one isolated home share.
const LAUNCH_LOCK: &str = "launch.lock";

/// The login of one account in its isolated home, for as long as a launch runs there. Dropped
/// without [`IsolatedLogin::release`], the next lock on the account returns the login.
#[derive(Debug)]
pub struct IsolatedLogin {
    home: PathBuf,
    account: Identity,
    fingerprint: String,
    running: FileLock,
}

impl IsolatedLogin {
    /// The isolated home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The fingerprint of the login; see [`AuthSnapshot::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the login to its profile, as Codex left it, unless another launch runs on the home.
    ///
    /// # Errors
    /// See [`Profiles::claim`]. The login stays in the isolated home then.
    pub fn release(
        self,
        profiles: &Profiles,
        now: Timestamp,
        patience: std::time::Duration,
    ) -> Result<(), LoanError> {
        let Self {
            account, running, ..
        } = self;
        drop(running);
        profiles.claim(&[&account], now, patience).map(drop)
    }
}

/// Whether `home` is an isolated home of this manager home.
pub fn is_isolated(home: &Path, manager_home: &Path) -> bool {
    is_beneath(home, &manager_home.join("profiles").join(ISOLATED))
}

fn is_beneath(home: &Path, folder: &Path) -> bool {
    home.starts_with(folder)
        || folder
            .canonicalize()
            .is_ok_and(|real| home.starts_with(real))
}

/// The Codex programs that run on an isolated home, its background daemon included.
fn users_of(home: &Path) -> Vec<Holder> {
    let mut users = find_codex(home);
    users.extend(daemon::find(home).map(|daemon| Holder {
        pid: Some(daemon.pid),
        name: "codex".into(),
        why: Role::Daemon.to_string(),
    }));
    users
}

impl Profiles {
    /// The isolated home of an account, which may not exist yet. Its name comes from the ids that the
    /// profile of the account knows, whatever the caller knows of them.
    ///
    /// # Errors
    /// The profiles cannot be read.
    pub fn isolated_home(&self, account: &Identity) -> Result<PathBuf, ProfileError> {
        Ok(self.home_of(&self.as_noted(account)?))
    }

    fn home_of(&self, noted: &Identity) -> PathBuf {
        self.isolated_folder(noted).join("home")
    }

    /// The error for a login of `profile` that is in `home`, where that is an isolated home.
    pub(super) fn isolation_of(&self, profile: &str, home: &Path) -> Option<LoanError> {
        let is_isolated = is_beneath(home, &self.folder.join(ISOLATED));
        is_isolated.then(|| LoanError::Isolated {
            profile: profile.to_owned(),
            home: home.to_path_buf(),
            holders: users_of(home),
        })
    }

    /// The profile as the next lock on its account makes it: the owner of a login that is in an
    /// isolated home where no Codex runs. Its bytes stay those that were seen last.
    pub(super) fn without_isolation(&self, mut profile: Profile) -> Profile {
        let home = profile.file.live_home.as_deref();
        if home.is_some_and(|home| {
            is_beneath(home, &self.folder.join(ISOLATED)) && users_of(home).is_empty()
        }) {
            profile.file.live_home = None;
            profile.file.owner = Owner::Profile;
        }
        profile
    }

    /// Refuses to take the profile `name` from a Codex that runs isolated with its login, which then
    /// could not return there.
    ///
    /// # Errors
    /// A Codex does.
    pub fn check_not_isolated(&self, name: &str) -> Result<(), LoanError> {
        let Ok(profile) = self.named(name) else {
            return Ok(());
        };
        let profile = self.without_isolation(profile);
        let home = profile.live_apart_from(None);
        match home.and_then(|home| self.isolation_of(&profile.name, home)) {
            Some(isolated) => Err(isolated),
            None => Ok(()),
        }
    }

    fn isolated_folder(&self, account: &Identity) -> PathBuf {
        self.folder.join(ISOLATED).join(key(account))
    }

    /// Whether [`Profiles::isolate`] can use the login of `account`, as far as can be seen without its
    /// lock. Returns the name of the profile.
    ///
    /// # Errors
    /// See [`Profiles::isolate`].
    pub fn check_isolation(
        &self,
        account: &Identity,
        codex_home: &Path,
    ) -> Result<String, LoanError> {
        let profile = self.find(account)?;
        let profile = profile.ok_or_else(|| LoanError::NoLogin(account.to_string()))?;
        match self.check_owner(&profile, codex_home) {
            // Also while another launch of the account moves it there.
            Ok(Some(_)) | Err(LoanError::Isolated { .. }) => {}
            Ok(None) => return Err(LoanError::NoLogin(profile.name)),
            Err(e) => return Err(e),
        }
        Ok(profile.name)
    }

    /// Moves the login of `account` from its profile into its isolated home, or joins the launches
    /// that already run there. `held` is the lock on the account; it must outlive the start of Codex,
    /// which is what marks the home as used once this process is gone.
    ///
    /// # Errors
    /// The profile does not own the login, or its login is older than one that was seen; a Codex that
    /// runs in the isolated home was signed in to another account there.
    pub fn isolate(
        &self,
        account: &Identity,
        _held: &Held,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<IsolatedLogin, LoanError> {
        let account = &self.as_noted(account)?;
        let home = self.home_of(account);
        atomic::create_private_folder(&home)?;
        let running = FileLock::shared(&self.isolated_folder(account).join(LAUNCH_LOCK))?;
        // What is there belongs to a launch that runs: `claim` would have returned it otherwise.
        let snapshot = match AuthFile::read(&home.join(AUTH_JSON))? {
            AuthFile::Missing => self.move_into(account, &home, codex_home, now)?,
            AuthFile::Present(snapshot) if is_of(&snapshot, account) => snapshot,
            _ => return Err(LoanError::OtherLogin(home)),
        };
        Ok(IsolatedLogin {
            fingerprint: snapshot.fingerprint(),
            account: account.clone(),
            home,
            running,
        })
    }

    fn move_into(
        &self,
        account: &Identity,
        home: &Path,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<AuthSnapshot, LoanError> {
        self.check_room()?;
        let no_login = || LoanError::NoLogin(account.to_string());
        let profile = self.find(account)?.ok_or_else(no_login)?;
        self.check_owner(&profile, codex_home)?;
        let snapshot = profile.snapshot().ok_or_else(no_login)?.clone();
        let login = profile.login().ok_or_else(no_login)?.clone();
        // Recorded before the copy exists, so that a crash in between leaves one owner.
        self.save_back(&snapshot, &login, Keeper::Live(home), now)?;
        atomic::write(&home.join(AUTH_JSON), snapshot.bytes.expose())?;
        Ok(snapshot)
    }

    /// Returns what an isolated home holds to the profiles, when no launch and no Codex uses it. The
    /// caller holds the lock on `account`.
    pub(super) fn return_from_isolation(
        &self,
        account: &Identity,
        now: Timestamp,
    ) -> Result<Option<SavedBack>, LoanError> {
        let home = self.home_of(account);
        if !home.is_dir() {
            return Ok(None);
        }
        let lock = self.isolated_folder(account).join(LAUNCH_LOCK);
        let _unused = match FileLock::try_exclusive(&lock) {
            Ok(lock) => lock,
            Err(LockError::Held(_)) => return Ok(None),
            Err(LockError::Io(e)) => return Err(e.into()),
        };
        if !users_of(&home).is_empty() {
            return Ok(None);
        }
        let path = home.join(AUTH_JSON);
        let saved = match AuthFile::read(&path)? {
            AuthFile::Missing => None,
            AuthFile::Unreadable { bytes, .. } => {
                self.keep_unreadable(&bytes)?;
                remove_login(&path)?;
                None
            }
            AuthFile::Present(snapshot) => {
                let Some(login) = snapshot.login.clone() else {
                    self.keep_unreadable(&snapshot.bytes)?;
                    remove_login(&path)?;
                    return self.own_again(account, &home, now);
                };
                // The profile has the newest bytes before the only other copy goes; it becomes the
                // owner after that, so that there are never two.
                self.save_back(&snapshot, &login, Keeper::Live(&home), now)?;
                remove_login(&path)?;
                Some(self.save_back(&snapshot, &login, Keeper::Profile, now)?)
            }
        };
        // The user may have signed in to another account there.
        Ok(self.own_again(account, &home, now)?.or(saved))
    }

    /// Makes the profile of `account` the owner of its login, where `home` was and has it no more.
    fn own_again(
        &self,
        account: &Identity,
        home: &Path,
        now: Timestamp,
    ) -> Result<Option<SavedBack>, LoanError> {
        let profile = self.find(account)?;
        let is_noted = |profile: &Profile| {
            let noted = profile.file.live_home.as_deref();
            noted.is_some_and(|noted| noted == canonical(home))
        };
        let Some(profile) = profile.filter(is_noted) else {
            return Ok(None);
        };
        let (Some(snapshot), Some(login)) = (profile.snapshot(), profile.login()) else {
            return Ok(None);
        };
        Ok(Some(self.save_back(
            snapshot,
            login,
            Keeper::Profile,
            now,
        )?))
    }
}

fn is_of(snapshot: &AuthSnapshot, account: &Identity) -> bool {
    let login = snapshot.login.as_ref();
    login.is_some_and(|login| login.identity.is_same(account))
}

fn remove_login(path: &Path) -> Result<(), LoanError> {
    fs::remove_file(path).at("remove", path)?;
    atomic::sync_folder(atomic::parent_of(path))?;
    Ok(())
}
