//! Isolated homes: Codex homes of one account each, so that two accounts run at the same time.
//!
//! `profiles/.isolated/<account>/home` has its own auth.json; everything else in it links to the
//! real Codex home (`launch::isolated_home` makes those links). For the rules of ownership it is a
//! Codex home like any other: `profile.json` names it as the live home, and the auth.json in it
//! decides. A running launch holds `launch.lock` shared. A process that gets the lock exclusively
//! and finds no Codex on the home returns the login to the profile. [`Profiles::lock_accounts`] does that
//! first for every account that it locks, so a killed launch needs no recovery of its own.

use super::lease::{AccountLocks, LeaseError, account_key};
use super::owner::OwnerLocation;
use super::profile::{LoginOwner, Profile, ProfileError, Profiles, is_login_of};
use super::save::LoginToKeep;
use crate::codex::login_lock::REFRESH_TIMEOUT;
use crate::codex::{
    AUTH_JSON, AuthFile, AuthSnapshot, Holder, Identity, check_login_storage, daemon, find_codex,
};
use crate::io::{
    FileLock, FollowedLinks, IoContext, OrdinaryPath, Timestamp, atomic, beneath, sharing,
};
use std::path::{Path, PathBuf};

/// The folder of isolated homes in `profiles/`.
pub(super) const ISOLATED: &str = ".isolated";

/// The lock that running launches of one isolated home share.
const LAUNCH_LOCK: &str = "launch.lock";

/// The login of one account in its isolated home, while a launch runs there. If this value is dropped
/// without [`IsolatedLogin::release`], the next lock on the account returns the login to its profile.
#[derive(Debug)]
pub(crate) struct IsolatedLogin {
    pub(crate) home: PathBuf,
    account: Identity,
    /// The fingerprint of the login; see [`AuthSnapshot::fingerprint`].
    pub(crate) fingerprint: String,
    launch_lock: FileLock,
}

impl IsolatedLogin {
    /// Returns the login to its profile, as Codex left it, unless another launch runs on the home.
    ///
    /// # Errors
    /// See [`Profiles::lock_accounts`]. The login stays in the isolated home then.
    pub(crate) fn release(self, profiles: &Profiles, now: Timestamp) -> Result<(), LeaseError> {
        // `lock_accounts` returns the login only if it gets this lock exclusively.
        drop(self.launch_lock);
        let locks = profiles.lock_accounts(&[&self.account], now, REFRESH_TIMEOUT);
        locks.map(drop)
    }
}

/// Returns true if `home` is an isolated home of this manager home.
pub fn is_isolated_home(home: &Path, manager_home: &Path) -> bool {
    is_beneath(home, &manager_home.join("profiles").join(ISOLATED))
}

fn is_beneath(home: &Path, folder: &Path) -> bool {
    home.starts_with(folder) || folder.canonical().is_ok_and(|real| home.starts_with(real))
}

/// Returns the Codex programs that run on an isolated home, its background daemon included.
fn find_codex_using(home: &Path) -> Vec<Holder> {
    let mut users = find_codex(home);
    users.extend(daemon::find(home).map(|daemon| Holder::daemon(daemon.pid)));
    users
}

impl Profiles {
    /// Returns the path of the isolated home of an account, which may not exist yet. The path depends on the ids that
    /// the profile records, so a caller who knows fewer ids gets the same path.
    ///
    /// # Errors
    /// The profiles cannot be read.
    pub(crate) fn isolated_home_path(&self, account: &Identity) -> Result<PathBuf, ProfileError> {
        Ok(self.register_isolated_home(&self.recorded_identity(account)?))
    }

    /// Returns the path of the isolated home, and registers it with [`beneath`] like any Codex home.
    fn register_isolated_home(&self, recorded_account: &Identity) -> PathBuf {
        let home = self.isolated_folder(recorded_account).join("home");
        beneath::protect(&home, FollowedLinks::AT_TOP);
        home
    }

    /// Returns the error for a login of `profile` that is in `home`, if `home` is an isolated home.
    pub(super) fn isolation_error(&self, profile: &str, home: &Path) -> Option<LeaseError> {
        let is_isolated_home = is_beneath(home, &self.folder.join(ISOLATED));
        is_isolated_home.then(|| LeaseError::Isolated {
            profile: profile.to_owned(),
            home: home.to_path_buf(),
            holders: find_codex_using(home),
        })
    }

    /// Returns `profile` with the owner that the next lock on its account will record: the profile itself, if its login
    /// is in an isolated home on which no Codex runs. No file and no login is moved.
    pub(super) fn simulate_isolation_return(&self, mut profile: Profile) -> Profile {
        let is_unused_isolated_home = |home: &Path| {
            is_beneath(home, &self.folder.join(ISOLATED)) && find_codex_using(home).is_empty()
        };
        let live_home = profile.file.live_home.as_deref();
        if live_home.is_some_and(is_unused_isolated_home) {
            profile.file.live_home = None;
            profile.file.owner = LoginOwner::Profile;
        }
        profile
    }

    /// Fails if a Codex runs isolated with the login of the profile `name`, because a removal of the profile would
    /// leave no place to which the login can return.
    ///
    /// # Errors
    /// [`LeaseError::Isolated`].
    pub fn check_not_isolated(&self, name: &str) -> Result<(), LeaseError> {
        // The name may be of a profile in the trash, which no launch uses. The caller reports any other error.
        let Ok(profile) = self.find_by_name(name) else {
            return Ok(());
        };
        // A login in an isolated home without Codex is no obstacle: the lock on the account has returned it, or will
        // return it if this is a dry run.
        let profile = self.simulate_isolation_return(profile);
        let home = profile.file.live_home.as_deref();
        let error = home.and_then(|home| self.isolation_error(&profile.name, home));
        error.map_or(Ok(()), Err)
    }

    fn isolated_folder(&self, account: &Identity) -> PathBuf {
        self.folder.join(ISOLATED).join(account_key(account))
    }

    /// Checks, without the lock on the account, that [`Profiles::isolate_login`] can use the login of
    /// `account`. Returns the name of the profile.
    ///
    /// # Errors
    /// See [`Profiles::isolate_login`].
    pub(crate) fn find_profile_to_isolate(
        &self,
        account: &Identity,
        codex_home: &Path,
    ) -> Result<String, LeaseError> {
        let profile = self.require_profile(account)?;
        match self.read_owner_login(&profile, codex_home) {
            // Another launch may have moved the login to the isolated home. The new launch joins it there.
            Ok(Some(_)) | Err(LeaseError::Isolated { .. }) => {}
            Ok(None) => return Err(LeaseError::NoLogin(profile.name)),
            Err(e) => return Err(e),
        }
        Ok(profile.name)
    }

    /// Moves the login of `account` from its profile into its isolated home, or joins the launches that already run
    /// there. The caller holds `_lock`, the lock on the account, until Codex has started. From then on, the running
    /// Codex shows that the home is in use, even if this process has ended.
    ///
    /// # Errors
    /// The profile does not own the login, or has an older login than the newest observed one; or a Codex runs in the
    /// isolated home, but is not signed in to the account there.
    pub(crate) fn isolate_login(
        &self,
        account: &Identity,
        _lock: &AccountLocks,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<IsolatedLogin, LeaseError> {
        let account = &self.recorded_identity(account)?;
        let home = self.register_isolated_home(account);
        atomic::create_private_folder(&home)?;

        // Shared: several launches of one account use one login, which Codex allows within one home.
        let launch_lock =
            FileLock::acquire_shared(&self.isolated_folder(account).join(LAUNCH_LOCK))?;

        // A login in the isolated home is of a running launch: `lock_accounts` has returned that of an ended launch.
        let snapshot = match AuthFile::read(&home.join(AUTH_JSON))? {
            AuthFile::Missing => self.move_login_into(account, &home, codex_home, now)?,
            AuthFile::Present(snapshot) if is_login_of(&snapshot, account) => snapshot,
            _ => return Err(LeaseError::NoIsolatedLogin(home)),
        };

        Ok(IsolatedLogin {
            fingerprint: snapshot.fingerprint(),
            account: account.clone(),
            home,
            launch_lock,
        })
    }

    /// Moves the login of `account` from its profile into the isolated `home`, and returns its content.
    fn move_login_into(
        &self,
        account: &Identity,
        home: &Path,
        codex_home: &Path,
        now: Timestamp,
    ) -> Result<AuthSnapshot, LeaseError> {
        check_login_storage(&self.folder)?;
        let profile = self.require_profile(account)?;
        let no_login = || LeaseError::NoLogin(profile.name.clone());
        // Only checks that the profile owns the newest login: `save_back` needs the snapshot, not the returned bytes.
        self.read_owner_login(&profile, codex_home)?;
        let snapshot = profile.snapshot().ok_or_else(no_login)?.clone();
        let login = profile.login().ok_or_else(no_login)?.clone();
        // Recorded before the copy exists, so that a crash in between leaves one owner.
        self.save_back(&snapshot, &login, OwnerLocation::Live(home), now)?;
        atomic::write(&home.join(AUTH_JSON), snapshot.bytes.expose())?;
        Ok(snapshot)
    }

    /// Moves the login of an isolated home back to its profile, unless a launch or a Codex uses the home. The
    /// caller holds the lock on `account`.
    pub(super) fn return_isolated_login(
        &self,
        account: &Identity,
        now: Timestamp,
    ) -> Result<(), LeaseError> {
        let home = self.register_isolated_home(account);
        if !home.is_dir() {
            return Ok(());
        }

        // The lock is needed beside the search for processes, because a launch takes it before its Codex starts.
        let launch_lock = self.isolated_folder(account).join(LAUNCH_LOCK);
        let Some(_exclusive_lock) = FileLock::try_acquire(&launch_lock)? else {
            return Ok(());
        };

        if !find_codex_using(&home).is_empty() {
            return Ok(());
        }

        let path = home.join(AUTH_JSON);
        match self.extract_login_or_quarantine(&AuthFile::read(&path)?)? {
            LoginToKeep::Missing => {}
            LoginToKeep::Quarantined(_) => remove_auth_file(&path)?,
            LoginToKeep::Login(snapshot, login) => {
                // The profile gets the login before the only other copy is removed, and becomes the owner after that,
                // so that there are never two owners.
                self.save_back(snapshot, login, OwnerLocation::Live(&home), now)?;
                remove_auth_file(&path)?;
                self.save_back(snapshot, login, OwnerLocation::Profile, now)?;
            }
        }

        // If the user has signed in to another account there, the record of `account` still names this home.
        let home = home.canonical_or_self();
        self.mark_profile_as_owner(account, |file| {
            file.owner == LoginOwner::Live && file.live_home.as_ref() == Some(&home)
        })
    }
}

fn remove_auth_file(path: &Path) -> Result<(), LeaseError> {
    sharing::remove_file(path).at("remove", path)?;
    atomic::sync_folder(atomic::parent_of(path))?;
    Ok(())
}
