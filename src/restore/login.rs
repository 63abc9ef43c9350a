//! The login of a restore: chooses the one that goes live, and saves the live one first.

use super::RestoreError;
use super::apply::{RestoreRequest, RestoreRun};
use super::plan::{RestorePlan, RestoreTarget};
use super::stage::set_attributes;
use crate::accounts::lease::AccountLocks;
use crate::accounts::login_selection::{
    self, AuthOutcome, AuthPolicy, LoginCandidates, LoginChoice, LoginDecision,
};
use crate::accounts::profile::{LoginOwner, Profile, Profiles};
use crate::accounts::save::OwnerLocation;
use crate::archive::metadata::BackupMode;
use crate::archive::reader::ArchiveReader;
use crate::codex::auth::{AuthFile, AuthSnapshot, Login};
use crate::codex::config::CodexConfig;
use crate::codex::home;
use crate::codex::identity::Identity;
use crate::codex::login_lock::{self, LoginLock};
use crate::io::lock::LockError;
use crate::io::{IoContext, IoError, atomic, file_open, tree};
use std::io;
use std::path::Path;

/// Fails if the archive belongs to another account than the live login, unless the request allows
/// it.
pub(super) fn check_account(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) -> Result<(), RestoreError> {
    if request.target != RestoreTarget::Home || !plan.wants_login {
        return Ok(());
    }
    let store = CodexConfig::read(&request.folder).store;
    if !store.reads_auth_json() && request.archive.metadata().mode == BackupMode::Auth {
        return Err(RestoreError::OtherCredentialStore(store.name()));
    }
    let live = AuthJsonState::read(&request.folder.join(home::AUTH_JSON))?;
    let (Some(live), Some(archived)) = (live.login(), archived_identity(request.archive)) else {
        return Ok(());
    };
    if live.identity.is_same(&archived) || request.may_switch_account {
        return Ok(());
    }
    Err(RestoreError::AnotherAccount {
        archive: archived.to_string(),
        live: live.identity.to_string(),
    })
}

/// The entry at the path of auth.json.
pub(super) enum AuthJsonState {
    /// A file of readable size, or none.
    File(AuthFile),
    /// Something that cannot be a login: a folder, a pipe, a file far too large. Holds the reason.
    NotAFile(String),
}

impl AuthJsonState {
    /// Reads auth.json, or what is at its path.
    pub(super) fn read(path: &Path) -> Result<Self, IoError> {
        match AuthFile::read(path) {
            Err(e) if AuthFile::cannot_be_login(&e) => Ok(Self::NotAFile(e.source.to_string())),
            auth => auth.map(Self::File),
        }
    }

    /// Returns the login, if the file holds one.
    pub(super) fn login(&self) -> Option<&Login> {
        match self {
            Self::File(auth) => auth.login(),
            Self::NotAFile(_) => None,
        }
    }

    fn snapshot(&self) -> Option<&AuthSnapshot> {
        match self {
            Self::File(auth) => auth.snapshot(),
            Self::NotAFile(_) => None,
        }
    }
}

fn archived_identity(archive: &ArchiveReader) -> Option<Identity> {
    match archive.manifest() {
        Some(manifest) => manifest.account_auth.as_ref()?.identity.clone(),
        None => archive.metadata().identity(),
    }
}

impl RestoreRun<'_> {
    /// Chooses the login that goes live and stages it. Before, it saves the live login to its
    /// profile. Takes the locks on the accounts, then Codex's own lock on the login; they are held
    /// until the result is dropped.
    pub(super) fn stage_login(&mut self) -> Result<StagedLogin, RestoreError> {
        let staged = self.stage.home().staged.join(home::AUTH_JSON);
        if self.plan.target == RestoreTarget::Elsewhere {
            return self.stage_login_elsewhere(&staged);
        }
        let live_path = self.folder.join(home::AUTH_JSON);
        let before = AuthJsonState::read(&live_path)?;
        let archived = archived_identity(self.request.archive);
        let accounts = before.login().map(|login| &login.identity);
        let accounts: Vec<_> = accounts.into_iter().chain(&archived).collect();
        let accounts = if self.plan.wants_login {
            accounts
        } else {
            Vec::new()
        };
        let profiles = Profiles::of(self.request.manager_home);
        let account_locks =
            profiles.lock_accounts(&accounts, self.request.now, login_lock::REFRESH_TIMEOUT)?;
        // Accounts first, then Codex's lock, as in a switch: one order everywhere prevents deadlocks,
        // and Codex is kept waiting for the shortest time.
        let lock = if self.folder.exists() {
            Some(acquire_login_lock(&self.folder)?)
        } else {
            None
        };
        let live = AuthJsonState::read(&live_path)?;
        let mut login = StagedLogin {
            _account_locks: Some(account_locks),
            _lock: lock,
            ..StagedLogin::default()
        };
        match self.choose_login(&live)? {
            Some((decision, Some(snapshot))) => {
                login.outcome = decision.outcome;
                let mtime_ns = (decision.choice == LoginChoice::Archive)
                    .then(|| self.stage.login.as_ref().map(|l| l.mtime_ns))
                    .flatten();
                self.save_live_login(&live, &live_path, &mut login)?;
                write_login(&staged, snapshot.bytes.expose(), mtime_ns)?;
                if decision.is_stale {
                    self.notes.push(
                        "a newer login of this account was seen, so the refresh token of \
                         this one is probably spent: run codex login if Codex refuses it"
                            .into(),
                    );
                }
                if decision.outcome == AuthOutcome::KeptNewer {
                    self.notes.push(
                        "restored the login of the profile, because it is newer than the archive's"
                            .into(),
                    );
                }
                login.went_live = Some(snapshot);
            }
            unchanged => {
                if let Some((decision, None)) = unchanged {
                    login.outcome = decision.outcome;
                }
                // The live login stays. It is copied, not hard-linked: Codex loses a login that it
                // renews through a hard link.
                if self.whole || is_hard_linked(&live_path) {
                    copy_live_login(&live_path, &live, &staged)?;
                }
            }
        }
        Ok(login)
    }

    fn stage_login_elsewhere(&mut self, staged: &Path) -> Result<StagedLogin, RestoreError> {
        let Some(login) = self.stage.login.take() else {
            return Ok(StagedLogin::default());
        };
        write_login(staged, login.bytes.expose(), Some(login.mtime_ns))?;
        self.notes.push(
            "the login in this folder is a copy: if two homes use a login, it stops working in both"
                .into(),
        );
        Ok(StagedLogin {
            outcome: AuthOutcome::Restored,
            ..StagedLogin::default()
        })
    }

    /// Returns the decision, and the bytes of the chosen login if it is not the live one. `None` if
    /// the login is not restored at all.
    fn choose_login(
        &mut self,
        live: &AuthJsonState,
    ) -> Result<Option<(LoginDecision, Option<AuthSnapshot>)>, RestoreError> {
        if !self.plan.wants_login {
            return Ok(None);
        }
        let store = CodexConfig::read(&self.stage.home().staged).store;
        let store = if self.stage.home().staged.join(home::CONFIG_TOML).exists() {
            store
        } else {
            CodexConfig::read(&self.folder).store
        };
        if !store.reads_auth_json() {
            self.notes.push(format!(
                "the login was not restored: Codex stores it with cli_auth_credentials_store = \"{}\"",
                store.name()
            ));
            return Ok(None);
        }
        let Some(bytes) = self.stage.login.as_ref().map(|l| l.bytes.expose()) else {
            return Ok(None);
        };
        let Ok(archived) = AuthSnapshot::parse(bytes.to_vec()) else {
            self.notes
                .push("the archive's auth.json cannot be read; the live login was kept".into());
            return Ok(None);
        };
        let Some(login) = archived.login.clone() else {
            return Ok(None);
        };
        if let Some(live) = live.login()
            && !live.identity.is_same(&login.identity)
            && !self.request.may_switch_account
        {
            return Err(RestoreError::AnotherAccount {
                archive: login.identity.to_string(),
                live: live.identity.to_string(),
            });
        }
        let profiles = Profiles::of(self.request.manager_home);
        let profile = match profiles.find(&login.identity)? {
            Some(profile) => Some(profile),
            // Records about an account outlive its profile.
            None => profiles.remembered(login.identity.email.as_str(), &login),
        };
        let same = |s: &&AuthSnapshot| {
            s.login
                .as_ref()
                .is_some_and(|l| l.identity.is_same(&login.identity))
        };
        let of_profile = profile.as_ref().and_then(Profile::snapshot);
        let decision = login_selection::choose(
            self.request.auth,
            &LoginCandidates {
                live: live.snapshot().filter(same),
                archive: &archived,
                profile: of_profile.filter(same),
                newest_seen: profile.as_ref().map(Profile::newest).unwrap_or_default(),
                is_spent: profile
                    .as_ref()
                    .is_some_and(|p| p.file.superseded.contains(&archived.fingerprint())),
            },
        );
        let needs_owner_check =
            self.request.auth != AuthPolicy::Archive && decision.choice != LoginChoice::KeepLive;
        if let Some(profile) = &profile
            && let Some(home) = profile.live_apart_from(Some(&self.folder))
            && needs_owner_check
        {
            self.notes.push(format!(
                "the login was not restored: {} is signed in to another Codex home: {}",
                profile.name,
                home.display()
            ));
            return Ok(None);
        }
        let moved = profile
            .as_ref()
            .filter(|p| p.file.owner == LoginOwner::Moved);
        if let Some(moved) = moved
            && needs_owner_check
            && !login.freshness.is_newer_than(&moved.newest())
        {
            self.notes.push(format!(
                "the login was not restored: the login of {} was moved to another machine",
                moved.name
            ));
            return Ok(None);
        }
        let bytes = match decision.choice {
            LoginChoice::KeepLive => None,
            LoginChoice::Profile => of_profile.cloned(),
            LoginChoice::Archive => Some(archived),
        };
        Ok(Some((decision, bytes)))
    }

    /// Saves the live login to its profile, before it is replaced. Keeps unrecognized bytes in
    /// quarantine.
    fn save_live_login(
        &mut self,
        live: &AuthJsonState,
        path: &Path,
        staged: &mut StagedLogin,
    ) -> Result<(), RestoreError> {
        let profiles = Profiles::of(self.request.manager_home);
        match live {
            AuthJsonState::File(AuthFile::Present(snapshot)) => {
                if let Some(login) = &snapshot.login {
                    // The live home stays the owner until the exchange is done.
                    let saved = profiles.save_back(
                        snapshot,
                        login,
                        OwnerLocation::Live(&self.folder),
                        self.request.now,
                    )?;
                    let name = saved.profile;
                    self.notes
                        .push(format!("the live login was saved to the profile {name}"));
                    staged.was_live = Some(snapshot.clone());
                } else {
                    // The bytes may be a login of a kind that this version does not know.
                    let kept = profiles.quarantine_bytes(&snapshot.bytes)?;
                    self.notes.push(format!(
                        "auth.json held no login that codex-manager recognizes; a copy was kept in {}",
                        kept.display()
                    ));
                }
            }
            AuthJsonState::File(AuthFile::Unreadable { bytes, reason }) => {
                let kept = profiles.quarantine_bytes(bytes)?;
                self.notes.push(format!(
                    "auth.json was {reason}; a copy was kept in {}",
                    kept.display()
                ));
            }
            AuthJsonState::File(AuthFile::Missing) => {}
            AuthJsonState::NotAFile(reason) => {
                let kept = profiles.quarantine(path, self.request.now)?;
                let kept = kept.map(|kept| format!("; it was kept in {}", kept.display()));
                self.notes.push(format!(
                    "auth.json was {reason}{}",
                    kept.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}

/// The staged login, with the locks that keep Codex and other codex-manager processes from changing
/// it.
#[derive(Debug)]
pub(super) struct StagedLogin {
    pub(super) outcome: AuthOutcome,
    was_live: Option<AuthSnapshot>,
    went_live: Option<AuthSnapshot>,
    _account_locks: Option<AccountLocks>,
    _lock: Option<LoginLock>,
}

impl Default for StagedLogin {
    fn default() -> Self {
        Self {
            outcome: AuthOutcome::Skipped,
            was_live: None,
            went_live: None,
            _account_locks: None,
            _lock: None,
        }
    }
}

impl StagedLogin {
    /// Records the owner of each login after the exchange. The bytes were saved before, so a kill
    /// in between leaves a wrong record, never a lost login.
    pub(super) fn record_owners(&self, request: &RestoreRequest<'_>) -> Result<(), RestoreError> {
        let profiles = Profiles::of(request.manager_home);
        let went_live = match request.auth {
            AuthPolicy::Archive => OwnerLocation::AssertedLive(&request.folder),
            AuthPolicy::Newest | AuthPolicy::Skip => OwnerLocation::Live(&request.folder),
        };
        let owners = [
            (&self.was_live, OwnerLocation::Profile),
            (&self.went_live, went_live),
        ];
        for (snapshot, location) in owners {
            if let Some(snapshot) = snapshot
                && let Some(login) = &snapshot.login
                && profiles.find(&login.identity)?.is_some()
            {
                profiles.save_back(snapshot, login, location, request.now)?;
            }
        }
        Ok(())
    }
}

fn acquire_login_lock(home: &Path) -> Result<LoginLock, RestoreError> {
    LoginLock::acquire(home, login_lock::REFRESH_TIMEOUT).map_err(|e| match e {
        LockError::Io(e) => e.into(),
        LockError::Held(path) => RestoreError::Io(IoError {
            action: "lock",
            path,
            source: io::Error::new(io::ErrorKind::TimedOut, "Codex did not release it in time"),
        }),
    })
}

/// Writes a new auth.json (0600). `None` as the time leaves the current one.
fn write_login(path: &Path, bytes: &[u8], mtime_ns: Option<i64>) -> Result<(), IoError> {
    use std::io::Write;
    let mut file = atomic::create_private(path)?;
    file.write_all(bytes).at("write", path)?;
    if let Some(mtime_ns) = mtime_ns {
        set_attributes(path, 0o600, mtime_ns)?;
    }
    file.sync_all().at("fsync", path)
}

/// Returns true if the file has more than one hard link.
fn is_hard_linked(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.symlink_metadata()
            .is_ok_and(|m| m.is_file() && m.nlink() > 1)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Stages the live login: a link stays a link, a file is copied with its modification time.
fn copy_live_login(live: &Path, state: &AuthJsonState, staged: &Path) -> Result<(), IoError> {
    let meta = match live.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at("read", live),
    };
    if meta.is_symlink() || matches!(state, AuthJsonState::NotAFile(_)) {
        return tree::share(live, staged);
    }
    let mtime_ns = crate::archive::scan::mtime_ns_of(&meta);
    write_login(
        staged,
        &file_open::read(live).at("read", live)?,
        Some(mtime_ns),
    )
}
