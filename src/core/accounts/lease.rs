//! Leases: a profile's login moves into a scratch home for the duration of a probe.
//!
//! Codex may renew a login as soon as it starts, and it leaves databases behind. A probe therefore runs in a scratch
//! home, `profiles/.probes/<account>/`, whose auth.json is the owner copy for that time. Releasing the lease moves the
//! login that Codex left back into the profile. If the manager is killed during a probe, its Codex may still run: the
//! next process that locks the account waits for that Codex, then recovers the login. One lock file per account keeps
//! `use`, `restore` and probes of the same login apart; the system drops the lock when its process ends.

use super::owner::OwnerLocation;
use super::profile::{LoginOwner, Profile, ProfileError, ProfileFile, Profiles};
use super::save::LoginToKeep;
use crate::codex::{
    AUTH_JSON, AuthFile, CONFIG_TOML, CredentialStore, Holder, Identity, LoginStorageError,
    check_login_storage, config, find_codex, process,
};
use crate::io::{
    FileLock, IoError, SecretBytes, Timestamp, atomic, file_open, hash, is_interrupted,
    prefix_unless_empty, tree,
};
use crate::journal::format_holders;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder in `profiles/` that holds the scratch homes and the lock files of accounts.
pub(super) const PROBE_HOMES: &str = ".probes";

/// Codex's file with the id of the installation, which its servers receive.
const INSTALLATION_ID: &str = "installation_id";

/// The number of hex digits of a hash in the file names of an account.
const ACCOUNT_KEY_CHARS: usize = 16;

/// The time that Codex gets to exit after its input was closed.
const CODEX_EXIT_GRACE: Duration = Duration::from_secs(2);

/// The interval at which the exit of Codex is checked.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The reason why a login cannot be leased or returned, or its account cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// Another codex-manager process holds the lock on the account.
    #[error("another codex-manager process is using the login of {0}")]
    InUse(Identity),
    /// The Codex of an earlier probe still runs and may be renewing the login.
    #[error("codex, started by an earlier status query of {account}, is still running: {}", format_holders(.holders))]
    ProbeRunning {
        account: Identity,
        holders: Vec<Holder>,
    },
    #[error("no profile has a login of {account}")]
    NoProfile {
        account: Identity,
        /// The name of the account's profile in the trash.
        removed: Option<String>,
    },
    #[error("the profile {0} has no login")]
    NoLogin(String),
    /// `profile.json` is unreadable, so the owner of the login is unknown.
    #[error(
        "the profile.json of the profile {profile} is damaged ({reason}): its login may have been moved to another machine"
    )]
    Damaged {
        profile: String,
        /// The parse error or the violated rule.
        reason: String,
    },
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    #[error("the login of the profile {profile} is live in a Codex home: {}", home.display())]
    Live { profile: String, home: PathBuf },
    /// The owner copy is in the isolated home of the account, where Codex runs.
    #[error("the login of the profile {profile} is in use in an isolated home{}", prefix_unless_empty(": ", &format_holders(.holders)))]
    Isolated {
        profile: String,
        home: PathBuf,
        holders: Vec<Holder>,
    },
    /// The owner copy was last in a Codex home that cannot be read now, such as one on an unmounted
    /// disk.
    #[error("the login of the profile {profile} was last live in a Codex home that cannot be read: {}", home.display())]
    HomeUnreadable { profile: String, home: PathBuf },
    /// The valid login of the profile may be in the system keyring, because the Codex home does not use auth.json.
    #[error("the login of the profile {profile} may be live in the Codex home {}, which may not keep its login in auth.json (cli_auth_credentials_store)", home.display())]
    InKeyring { profile: String, home: PathBuf },
    /// Codex might be unable to store a renewed login in the manager home.
    #[error(transparent)]
    Storage(#[from] LoginStorageError),
    /// `profile.json` names a probe as the owner of the login.
    #[error("the login of the profile {0} is in use by a status query")]
    AlreadyLeased(String),
    /// A newer login of the account was observed, so the refresh token of this one is probably spent.
    #[error("the login of the profile {0} is older than the newest one seen")]
    Stale(String),
    /// A Codex runs in this isolated home, but its auth.json has no login of the account of the home.
    #[error("Codex is not signed in to the account of the isolated home: {}", .0.display())]
    NoIsolatedLogin(PathBuf),
    #[error("interrupted")]
    Interrupted,
}

/// The locks on one or more accounts. No other codex-manager process touches the logins of these accounts until
/// this value is dropped.
#[derive(Debug)]
pub struct AccountLocks {
    _locks: Vec<FileLock>,
}

/// The owner copy of a profile's login in a scratch home. If this value is dropped without [`Lease::release`], the
/// login stays there until the next lock on the account recovers it.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    profiles: &'a Profiles,
    identity: Identity,
    home: PathBuf,
    now: Timestamp,
    _lock: AccountLocks,
}

impl Lease<'_> {
    /// Returns the scratch home, which contains auth.json and a config.toml with the server settings of
    /// the Codex home.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Moves the login that Codex left in the scratch home back into the profile and removes the
    /// scratch home.
    ///
    /// # Errors
    /// A Codex still runs on the scratch home, or an I/O error. The next lock on the account tries again.
    pub(crate) fn release(self) -> Result<(), LeaseError> {
        // A Codex that does not exit within the first half is killed, and has the second half to end.
        self.profiles
            .recover_lease(&self.identity, self.now, CODEX_EXIT_GRACE * 2)
    }
}

impl Profiles {
    /// Locks `accounts`, waiting at most `patience`. If a killed probe or launch left the login of one of them in its
    /// scratch or isolated home, returns that login to the profile.
    ///
    /// # Errors
    /// Another process holds one of the locks, a Codex may still be renewing one of the logins, or
    /// an I/O error.
    pub fn lock_accounts(
        &self,
        accounts: &[&Identity],
        now: Timestamp,
        patience: Duration,
    ) -> Result<AccountLocks, LeaseError> {
        let deadline = Instant::now() + patience;
        let time_left = || deadline.saturating_duration_since(Instant::now());

        // The lock files are named after these identities.
        let accounts: Vec<_> = accounts
            .iter()
            .map(|account| self.recorded_identity(account))
            .collect::<Result<_, _>>()?;

        // Lock in one order, so that two processes that need the same accounts do not deadlock.
        let mut accounts_by_key: Vec<_> = accounts.iter().map(|a| (account_key(a), a)).collect();
        accounts_by_key.sort_by(|(a, _), (b, _)| a.cmp(b));
        accounts_by_key.dedup_by(|(a, _), (b, _)| a == b);

        if !accounts_by_key.is_empty() {
            atomic::create_private_folder(&self.folder.join(PROBE_HOMES))?;
        }

        let mut locks = Vec::new();
        for (key, account) in accounts_by_key {
            let path = self.folder.join(PROBE_HOMES).join(format!("{key}.lock"));
            let lock = FileLock::acquire_within(&path, time_left())?;
            locks.push(lock.ok_or_else(|| LeaseError::InUse(account.clone()))?);
            self.recover_lease(account, now, time_left())?;
            self.return_isolated_login(account, now)?;
        }

        Ok(AccountLocks { _locks: locks })
    }

    /// Returns the identity of `account` as its profile records it. Lock files are named after the recorded identity,
    /// so that a caller who knows fewer ids of the account takes the same lock.
    pub(super) fn recorded_identity(&self, account: &Identity) -> Result<Identity, ProfileError> {
        let profile = self.find(account)?;
        let recorded = profile.as_ref().and_then(Profile::identity);
        Ok(recorded.unwrap_or(account).clone())
    }

    /// Locks the account of the profile `name`. Returns `None` if no such profile can be read, or if its account is
    /// unknown.
    ///
    /// # Errors
    /// See [`Profiles::lock_accounts`].
    pub fn lock_account_named(
        &self,
        name: &str,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Option<AccountLocks>, LeaseError> {
        let Ok(profile) = self.find_by_name(name) else {
            return Ok(None);
        };
        let identity = profile.identity();
        let locks = identity.map(|identity| self.lock_accounts(&[identity], now, patience));
        locks.transpose()
    }

    /// Moves the login of `account` into a scratch home that uses the servers configured in
    /// `codex_home`.
    ///
    /// # Errors
    /// The profile does not own the login, or a newer one was observed; see also
    /// [`Profiles::lock_accounts`].
    pub(crate) fn acquire_lease(
        &self,
        account: &Identity,
        codex_home: &Path,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Lease<'_>, LeaseError> {
        let account_locks = self.lock_accounts(&[account], now, patience)?;
        // The scratch home is named after this identity, like the lock.
        let identity = self.recorded_identity(account)?;
        check_login_storage(&self.folder)?;

        let home = self.scratch_home_path(&identity);
        let auth_bytes = self.record_lease(&identity, &home, codex_home)?;
        let config = config::format_scratch_config(codex_home, config::SERVER_KEYS);
        atomic::write(&home.join(CONFIG_TOML), config.as_bytes())?;
        // Reuse the installation id, so that the servers do not see a new installation per probe. Without one, Codex
        // creates an id.
        if let Ok(id) = file_open::read(codex_home.join(INSTALLATION_ID)) {
            atomic::write(&home.join(INSTALLATION_ID), &id)?;
        }
        atomic::write(&home.join(AUTH_JSON), auth_bytes.expose())?;

        Ok(Lease {
            profiles: self,
            identity,
            home,
            now,
            _lock: account_locks,
        })
    }

    /// Returns the profile of the account.
    ///
    /// # Errors
    /// [`LeaseError::NoProfile`], or the profiles cannot be read.
    pub(super) fn require_profile(&self, account: &Identity) -> Result<Profile, LeaseError> {
        self.find(account)?.ok_or_else(|| LeaseError::NoProfile {
            account: account.clone(),
            removed: self.find_removed(account).map(|removal| removal.name),
        })
    }

    /// Creates the scratch home, and records the probe as the owner of the login. Returns the content of auth.json.
    ///
    /// Unlike the lock on the account, the lock on all profiles is released on return, so that logins of other accounts
    /// can be saved during the lease.
    fn record_lease(
        &self,
        account: &Identity,
        scratch_home: &Path,
        codex_home: &Path,
    ) -> Result<SecretBytes, LeaseError> {
        let _lock = FileLock::acquire(&self.lock)?;
        let profile = self.require_profile(account)?;
        let Some(auth_bytes) = self.read_owner_login(&profile, codex_home)? else {
            return Err(LeaseError::NoLogin(profile.name));
        };

        // Created before the lease is recorded: recovery looks for this folder.
        atomic::create_private_folder(scratch_home)?;

        // Recorded before Codex can renew the login.
        let record = ProfileFile {
            // Recorded in case a killed probe leaves no login: an older copy must still be recognized as old.
            newest: profile.newest(),
            owner: LoginOwner::Probe,
            live_home: None,
            ..profile.file
        };
        self.write_record(&profile.name, &record)?;
        Ok(auth_bytes)
    }

    /// Returns the scratch home of an account. It exists only during a lease.
    fn scratch_home_path(&self, account: &Identity) -> PathBuf {
        self.folder.join(PROBE_HOMES).join(account_key(account))
    }

    /// Moves the login in the scratch home of an account, if it exists, back into the profile. The caller holds the
    /// lock on the account.
    fn recover_lease(
        &self,
        account: &Identity,
        now: Timestamp,
        patience: Duration,
    ) -> Result<(), LeaseError> {
        let home = self.scratch_home_path(account);
        if !home.is_dir() {
            return Ok(());
        }

        wait_for_or_kill_codex(&home, account, now, patience)?;
        match self.extract_login_or_quarantine(&AuthFile::read(&home.join(AUTH_JSON))?)? {
            LoginToKeep::Login(snapshot, login) => {
                self.save_back(snapshot, login, OwnerLocation::Profile, now)?;
            }
            // There is no login to move back: auth.json is missing, for example because the manager was killed before
            // it wrote the file, or its content is no login.
            LoginToKeep::Missing | LoginToKeep::Quarantined(_) => {
                let is_leased = |file: &ProfileFile| file.owner == LoginOwner::Probe;
                self.mark_profile_as_owner(account, is_leased)?;
            }
        }

        // Removed last: after a kill before this line, the next lock on the account repeats the recovery.
        Ok(tree::remove(&home)?)
    }

    /// Records the profile of `account` as the owner of its login, if `is_outdated` accepts the present record.
    pub(super) fn mark_profile_as_owner(
        &self,
        account: &Identity,
        is_outdated: impl Fn(&ProfileFile) -> bool,
    ) -> Result<(), LeaseError> {
        let _lock = FileLock::acquire(&self.lock)?;
        if let Some(profile) = self.find(account)?
            && is_outdated(&profile.file)
        {
            let mut file = profile.file;
            file.owner = LoginOwner::Profile;
            file.live_home = None;
            self.write_record(&profile.name, &file)?;
        }
        Ok(())
    }

    /// Returns the bytes of the login in `saved_profile`; `None` if it has no login. Fails if that copy is not the
    /// owner, or not the newest.
    pub(super) fn read_owner_login(
        &self,
        saved_profile: &Profile,
        codex_home: &Path,
    ) -> Result<Option<SecretBytes>, LeaseError> {
        let profile = saved_profile.name.clone();
        if let Some(reason) = saved_profile.damaged.clone() {
            return Err(LeaseError::Damaged { profile, reason });
        }
        if saved_profile.file.owner == LoginOwner::Moved {
            return Err(LeaseError::Moved(profile));
        }

        // The auth.json of the homes counts before any other recorded owner, which may be outdated after a kill.
        if let Some(home) = saved_profile.find_live_home(codex_home) {
            if let Some(isolated) = self.isolation_error(&profile, &home) {
                return Err(isolated);
            }
            return Err(if CredentialStore::read(&home).always_reads_auth_json() {
                LeaseError::Live { profile, home }
            } else {
                LeaseError::InKeyring { profile, home }
            });
        }

        if let Some(home) = saved_profile.unreadable_home().map(Path::to_path_buf) {
            return Err(LeaseError::HomeUnreadable { profile, home });
        }

        // If Codex keeps the login in the keyring, the home may own it although auth.json has no login.
        if let Some(home) = saved_profile.file.live_home.clone()
            && saved_profile.file.owner == LoginOwner::Live
            && !CredentialStore::read(&home).always_reads_auth_json()
        {
            return Err(LeaseError::InKeyring { profile, home });
        }

        let (Some(snapshot), Some(login)) = (saved_profile.snapshot(), saved_profile.login())
        else {
            return Ok(None);
        };
        if saved_profile.newest().is_newer_than(&login.freshness) {
            return Err(LeaseError::Stale(profile));
        }
        Ok(Some(snapshot.bytes.clone()))
    }
}

/// Waits at most `patience` until no Codex runs on the scratch home. After [`CODEX_EXIT_GRACE`], kills a Codex that has
/// finished the renewal, because the probe that started this Codex has ended.
fn wait_for_or_kill_codex(
    home: &Path,
    account: &Identity,
    now: Timestamp,
    patience: Duration,
) -> Result<(), LeaseError> {
    let began = Instant::now();
    loop {
        let holders = find_codex(home);
        if holders.is_empty() {
            return Ok(());
        }

        let is_renewed = AuthFile::read(&home.join(AUTH_JSON))?
            .login()
            .is_some_and(|login| !login.is_renewal_due(&now.to_utc()));
        // A Codex that is still renewing must not be killed: the old refresh token is spent, and only its memory has
        // the new one.
        if is_renewed && began.elapsed() >= CODEX_EXIT_GRACE {
            holders.iter().for_each(process::kill);
        }

        if is_interrupted() {
            return Err(LeaseError::Interrupted);
        }
        if began.elapsed() >= patience {
            let account = account.clone();
            return Err(LeaseError::ProbeRunning { account, holders });
        }

        std::thread::sleep(EXIT_POLL_INTERVAL);
    }
}

/// Returns the file name for an account: a hash of its ids, which stay the same when the email changes. Without ids, it
/// is a hash of the email.
pub(super) fn account_key(account: &Identity) -> String {
    let mut hash_input = account.join_ids();
    if hash_input == "\n" {
        // Both ids are empty, as for API keys and older logins.
        hash_input = account.email.key();
    }
    hash::sha256(hash_input.as_bytes())[..ACCOUNT_KEY_CHARS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::profile::ProfileFile;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::fs;

    fn now() -> Timestamp {
        Timestamp::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap()
    }

    fn token(claims: &str) -> String {
        format!("x.{}.s", URL_SAFE_NO_PAD.encode(claims))
    }

    /// A login of one account, renewed on this day, that is good until next year.
    fn login(day: u32) -> Vec<u8> {
        let id = token(
            r#"{"email":"a@x.com","https://api.openai.com/auth":{"chatgpt_user_id":"u","chatgpt_account_id":"acct"}}"#,
        );
        let access = token(r#"{"exp":1830000000}"#);
        format!(
            r#"{{"tokens":{{"id_token":"{id}","access_token":"{access}","refresh_token":"rt.{day}"}},"last_refresh":"2026-11-{day:02}T00:00:00Z"}}"#
        )
        .into_bytes()
    }

    struct LeaseFixture {
        folder: tempfile::TempDir,
        profiles: Profiles,
        who: Identity,
    }

    /// A profile that owns its login.
    fn fixture() -> LeaseFixture {
        let folder = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(&folder.path().join("manager"));
        let snapshot = crate::codex::auth::AuthSnapshot::parse(login(1)).unwrap();
        let own = snapshot.login.clone().unwrap();
        profiles
            .save_back(&snapshot, &own, OwnerLocation::Profile, now())
            .unwrap();
        LeaseFixture {
            folder,
            profiles,
            who: own.identity,
        }
    }

    impl LeaseFixture {
        fn profile(&self) -> Profile {
            self.profiles.find(&self.who).unwrap().unwrap()
        }

        fn note(&self, change: impl FnOnce(&mut ProfileFile)) {
            let profile = self.profile();
            let mut file = profile.file;
            change(&mut file);
            self.profiles.write_record(&profile.name, &file).unwrap();
        }

        fn lease(&self) -> Result<Lease<'_>, LeaseError> {
            let home = self.folder.path().join("codex");
            self.profiles
                .acquire_lease(&self.who, &home, now(), Duration::ZERO)
        }
    }

    #[test]
    fn a_probe_killed_before_it_took_the_login_leaves_it_in_the_profile() {
        let fixture = fixture();
        let lease = fixture.lease().unwrap();
        fs::remove_file(lease.home().join(AUTH_JSON)).unwrap();
        drop(lease);
        assert_eq!(fixture.profile().file.owner, LoginOwner::Probe);
        let _lock = fixture
            .profiles
            .lock_accounts(&[&fixture.who], now(), Duration::ZERO)
            .unwrap();
        assert_eq!(fixture.profile().file.owner, LoginOwner::Profile);
    }

    #[test]
    fn an_account_with_fewer_known_ids_takes_the_same_lock_and_collects_the_renewed_login() {
        let fixture = fixture();
        let known_by_half = Identity {
            user_id: None,
            ..fixture.who.clone()
        };
        let lock = || {
            fixture
                .profiles
                .lock_accounts(&[&known_by_half], now(), Duration::ZERO)
        };
        let lease = fixture.lease().unwrap();
        assert!(matches!(lock(), Err(LeaseError::InUse(_))));
        fs::write(lease.home().join(AUTH_JSON), login(2)).unwrap();
        drop(lease);
        drop(lock().unwrap());
        let profile = fixture.profile();
        assert_eq!(profile.snapshot().unwrap().bytes.expose(), login(2));
        assert_eq!(profile.file.owner, LoginOwner::Profile);
    }

    #[test]
    fn a_login_recorded_in_an_unreadable_home_cannot_be_leased() {
        let fixture = fixture();
        let home = fixture.folder.path().join("disk/codex");
        fixture.note(|file| {
            file.owner = LoginOwner::Live;
            file.live_home = Some(home.clone());
        });
        let refused = fixture.lease().unwrap_err().to_string();
        assert!(refused.contains("disk/codex"), "{refused}");
        assert_eq!(fixture.profile().file.owner, LoginOwner::Live);
        fs::create_dir_all(home.join(AUTH_JSON)).unwrap();
        let refused = fixture.lease().unwrap_err().to_string();
        assert!(refused.contains("disk/codex"), "{refused}");
        // There, and signed out.
        fs::remove_dir(home.join(AUTH_JSON)).unwrap();
        fixture.lease().unwrap();
    }

    #[test]
    fn a_login_is_not_leased_while_its_home_keeps_logins_in_the_keyring() {
        let fixture = fixture();
        let home = fixture.folder.path().join("kept");
        fs::create_dir(&home).unwrap();
        let config = home.join(CONFIG_TOML);
        fs::write(&config, "cli_auth_credentials_store = \"keyring\"\n").unwrap();
        fixture.note(|file| {
            file.owner = LoginOwner::Live;
            file.live_home = Some(home.clone());
        });
        let refused = fixture.lease().unwrap_err().to_string();
        assert!(refused.contains("cli_auth_credentials_store"), "{refused}");
        fs::remove_file(config).unwrap();
        fixture.lease().unwrap();
    }
}
