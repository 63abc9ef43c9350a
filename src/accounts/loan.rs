//! A profile's login, lent to a Codex that is asked about it.
//!
//! Codex may renew a login as soon as it starts, and leaves databases behind. So it is asked in a
//! scratch home, `profiles/.probes/<account>/`, whose auth.json is the owner copy meanwhile, and
//! what it leaves there goes back into the profile. Killed in between, a Codex of ours may still be
//! at work: whoever wants the login next waits for that one, takes back what it wrote, and only
//! then goes on. A lock for each account, which ends with its process, keeps `use`, `restore` and
//! probes of the same login apart.

use super::profile::{Owner, Profile, ProfileError, Profiles, write_profile_json};
use super::save::{Keeper, SavedBack};
use crate::codex::auth::AuthFile;
use crate::codex::config::{self, CodexConfig, CredentialStore};
use crate::codex::home::{AUTH_JSON, CONFIG_TOML};
use crate::codex::identity::Identity;
use crate::codex::process::{self, Holder, find_codex};
use crate::io::clock::Timestamp;
use crate::io::lock::{FileLock, LockError};
use crate::io::progress::is_interrupted;
use crate::io::regular;
use crate::io::secret::SecretBytes;
use crate::io::{IoError, atomic, hash, space, tree};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Scratch homes and locks of logins, in `profiles/`.
const PROBES: &str = ".probes";

/// Codex's file that tells its servers which installation asks.
const INSTALLATION_ID: &str = "installation_id";

/// What Codex needs in a scratch home, with room to spare: a login that it renews and cannot store
/// is lost.
const ROOM_BYTES: u64 = 32 << 20;

/// How long a Codex whose input has ended may take to do so, too.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether a Codex has ended.
const POLL: Duration = Duration::from_millis(20);

/// Why a login is not to be had now. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoanError {
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Another process of ours has it.
    #[error("another codex-manager is at work on the login of {0}")]
    InUse(Identity),
    /// A Codex that was asked about it has not ended yet, and may be renewing it.
    #[error("a Codex that was asked about {of} is still at work: {}", join(.holders))]
    StillAsked {
        /// Whose login.
        of: Identity,
        /// The processes.
        holders: Vec<Holder>,
    },
    /// There is none.
    #[error("the profile {0} has no login")]
    NoLogin(String),
    /// It is not known whose it is to use.
    #[error(
        "the profile.json of the profile {profile} is damaged ({reason}): its login may have been moved to another machine"
    )]
    Damaged {
        /// The profile.
        profile: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It went to another machine.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// A Codex home has it.
    #[error("the account of the profile {profile} is signed in in a Codex home: {}", home.display())]
    Live {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
    },
    /// Its isolated home has it.
    #[error("the account of the profile {profile} runs in an isolated home{}", listed(.holders))]
    Isolated {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
        /// The Codex programs that run there.
        holders: Vec<Holder>,
    },
    /// A Codex home may have it.
    #[error("the account of the profile {profile} was signed in in a Codex home that cannot be looked at: {}", home.display())]
    HomeLost {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
    },
    /// A Codex home may have it in the keyring.
    #[error("the account of the profile {profile} may be signed in in the Codex home {}, which does not keep its login in auth.json (cli_auth_credentials_store)", home.display())]
    InKeyring {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
    },
    /// Codex could not store what it renews.
    #[error("too little room on the disk for a login that Codex may renew: {}", .0.display())]
    NoRoom(PathBuf),
    /// A Codex is being asked about it, as far as is known.
    #[error("the login of the profile {0} is where Codex was asked about it")]
    Lent(String),
    /// A newer one was seen.
    #[error("the login of the profile {0} is older than one that was seen")]
    Stale(String),
    /// A Codex that runs in the isolated home of an account was signed in to another account.
    #[error("the isolated home is in use with the login of another account: {}", .0.display())]
    OtherLogin(PathBuf),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

fn join(holders: &[Holder]) -> String {
    let holders: Vec<_> = holders.iter().map(ToString::to_string).collect();
    holders.join(", ")
}

fn listed(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    format!(": {}", join(holders))
}

/// Logins that nobody else of ours touches until this is dropped.
#[derive(Debug)]
pub struct Held {
    _locks: Vec<FileLock>,
}

/// The owner copy of a profile's login, in a scratch home.
#[derive(Debug)]
pub struct Loan<'a> {
    profiles: &'a Profiles,
    identity: Identity,
    home: PathBuf,
    now: Timestamp,
    _held: Held,
}

impl Loan<'_> {
    /// The scratch home: auth.json, and the settings that name the servers.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Puts what Codex left back into the profile, and removes the scratch home. Not called, or
    /// killed on the way, whoever wants the login next does it.
    ///
    /// # Errors
    /// A Codex of the scratch home is still at work, or the file system refuses.
    pub fn take_back(self) -> Result<Option<SavedBack>, LoanError> {
        let patience = GRACE * 2;
        self.profiles.bring_back(&self.identity, self.now, patience)
    }
}

impl Profiles {
    /// Takes the locks of these logins within `patience`, and brings back what killed probes and
    /// launches have left of them.
    ///
    /// # Errors
    /// Another process has one of them; one is still being renewed; the file system refuses.
    pub fn claim(
        &self,
        accounts: &[&Identity],
        now: Timestamp,
        patience: Duration,
    ) -> Result<Held, LoanError> {
        let end = Instant::now() + patience;
        let rest = || end.saturating_duration_since(Instant::now());
        let accounts: Vec<_> = accounts
            .iter()
            .map(|who| self.as_noted(who))
            .collect::<Result<_, _>>()?;
        // In one order, so that two who want the same two logins do not wait for each other.
        let mut wanted: Vec<_> = accounts.iter().map(|who| (key(who), who)).collect();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.dedup_by(|a, b| a.0 == b.0);
        if !wanted.is_empty() {
            atomic::create_private_folder(&self.folder.join(PROBES))?;
        }
        let mut locks = Vec::new();
        for (key, who) in wanted {
            let path = self.folder.join(PROBES).join(format!("{key}.lock"));
            let lock = FileLock::exclusive_within(&path, rest()).map_err(|e| match e {
                LockError::Held(_) => LoanError::InUse(who.clone()),
                LockError::Io(e) => e.into(),
            })?;
            locks.push(lock);
            self.bring_back(who, now, rest())?;
            self.return_from_isolation(who, now)?;
        }
        Ok(Held { _locks: locks })
    }

    /// The account as its profile knows it: who knows fewer ids of it must find the same lock.
    pub(super) fn as_noted(&self, account: &Identity) -> Result<Identity, ProfileError> {
        let profile = self.find(account)?;
        let noted = profile.as_ref().and_then(Profile::identity);
        Ok(noted.unwrap_or(account).clone())
    }

    /// The same for the profile of this name; `None` where there is none.
    ///
    /// # Errors
    /// See [`Profiles::claim`].
    pub fn claim_named(
        &self,
        name: &str,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Option<Held>, LoanError> {
        let Ok(profile) = self.named(name) else {
            return Ok(None);
        };
        let identity = profile.identity();
        identity
            .map(|who| self.claim(&[who], now, patience))
            .transpose()
    }

    /// Puts the login of `account` into a scratch home, with the servers that `codex_home` names.
    ///
    /// # Errors
    /// Its profile is not the owner, or has an older login than was seen; see also
    /// [`Profiles::claim`].
    pub fn lend(
        &self,
        account: &Identity,
        codex_home: &Path,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Loan<'_>, LoanError> {
        let held = self.claim(&[account], now, patience)?;
        let account = &self.as_noted(account)?;
        self.check_room()?;
        let bytes = {
            let _lock = FileLock::exclusive(&self.lock)?;
            let Some(profile) = self.find(account)? else {
                return Err(LoanError::NoLogin(account.to_string()));
            };
            let Some(bytes) = self.check_owner(&profile, codex_home)? else {
                return Err(LoanError::NoLogin(profile.name));
            };
            // Made before it is noted that the login is lent: who takes it back looks for this.
            atomic::create_private_folder(&self.scratch(account))?;
            // Noted before anybody can renew it.
            let mut file = profile.file.clone();
            file.newest = profile.newest();
            file.owner = Owner::Probe;
            file.live_home = None;
            write_profile_json(&self.folder.join(&profile.name), &file)?;
            bytes
        };
        let home = self.scratch(account);
        atomic::write(
            &home.join(CONFIG_TOML),
            config::servers_of(codex_home).as_bytes(),
        )?;
        // The same installation asks, not a new one each time.
        if let Ok(id) = regular::read(codex_home.join(INSTALLATION_ID)) {
            atomic::write(&home.join(INSTALLATION_ID), &id)?;
        }
        atomic::write(&home.join(AUTH_JSON), bytes.expose())?;
        Ok(Loan {
            profiles: self,
            identity: account.clone(),
            home,
            now,
            _held: held,
        })
    }

    /// Refuses to let Codex renew a login that it may have no room to store.
    pub(super) fn check_room(&self) -> Result<(), LoanError> {
        if space::free_bytes(&self.folder).is_some_and(|free| free < ROOM_BYTES) {
            return Err(LoanError::NoRoom(self.folder.clone()));
        }
        Ok(())
    }

    /// Where the login of this account is while it is lent.
    fn scratch(&self, account: &Identity) -> PathBuf {
        self.folder.join(PROBES).join(key(account))
    }

    /// Takes back what lies in the scratch home of an account, if there is one. The caller holds
    /// its lock.
    fn bring_back(
        &self,
        account: &Identity,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Option<SavedBack>, LoanError> {
        let home = self.scratch(account);
        if !home.is_dir() {
            return Ok(None);
        }
        wait_for_rest(&home, account, now, patience)?;
        let saved = match AuthFile::read(&home.join(AUTH_JSON))? {
            AuthFile::Present(snapshot) => {
                if let Some(login) = &snapshot.login {
                    Some(self.save_back(&snapshot, login, Keeper::Profile, now)?)
                } else {
                    self.keep_unreadable(&snapshot.bytes)?;
                    None
                }
            }
            AuthFile::Unreadable { bytes, .. } => {
                self.keep_unreadable(&bytes)?;
                None
            }
            // Killed before it was there.
            AuthFile::Missing => None,
        };
        if saved.is_none() {
            self.never_left(account)?;
        }
        tree::remove(&home)?;
        Ok(saved)
    }

    /// Notes that the profile has the login of this account, where it was noted that it is lent.
    fn never_left(&self, account: &Identity) -> Result<(), LoanError> {
        let _lock = FileLock::exclusive(&self.lock)?;
        if let Some(profile) = self.find(account)?
            && profile.file.owner == Owner::Probe
        {
            let mut file = profile.file;
            file.owner = Owner::Profile;
            write_profile_json(&self.folder.join(&profile.name), &file)?;
        }
        Ok(())
    }

    /// The bytes of a profile's login, if that is the owner copy and the newest.
    pub(super) fn check_owner(
        &self,
        profile: &Profile,
        codex_home: &Path,
    ) -> Result<Option<SecretBytes>, LoanError> {
        let name = || profile.name.clone();
        if let Some(reason) = profile.damaged.clone() {
            let profile = name();
            return Err(LoanError::Damaged { profile, reason });
        }
        if profile.file.owner == Owner::Moved {
            return Err(LoanError::Moved(name()));
        }
        if let Some(home) = profile.live_in(codex_home) {
            let profile = name();
            if let Some(isolated) = self.isolation_of(&profile, &home) {
                return Err(isolated);
            }
            return Err(if CredentialStore::of(&home).reads_auth_json() {
                LoanError::Live { profile, home }
            } else {
                LoanError::InKeyring { profile, home }
            });
        }
        if let Some(home) = profile.lost_home().map(Path::to_path_buf) {
            let profile = name();
            return Err(LoanError::HomeLost { profile, home });
        }
        if let Some(home) = &profile.file.live_home
            && profile.file.owner == Owner::Live
            && !CodexConfig::read(home).store.reads_auth_json()
        {
            let (profile, home) = (name(), home.clone());
            return Err(LoanError::InKeyring { profile, home });
        }
        let (Some(snapshot), Some(login)) = (profile.snapshot(), profile.login()) else {
            return Ok(None);
        };
        if profile.newest().is_newer_than(&login.freshness) {
            return Err(LoanError::Stale(name()));
        }
        Ok(Some(snapshot.bytes.clone()))
    }
}

/// Waits until no Codex of the scratch home can be renewing its login. One that has done so, and
/// waits for a server on its own account, is ended: whoever asked it is gone.
fn wait_for_rest(
    home: &Path,
    account: &Identity,
    now: Timestamp,
    patience: Duration,
) -> Result<(), LoanError> {
    let began = Instant::now();
    loop {
        let holders = find_codex(home);
        if holders.is_empty() {
            return Ok(());
        }
        let is_renewed = AuthFile::read(&home.join(AUTH_JSON))?
            .login()
            .is_some_and(|login| !login.is_renewal_due(&now.to_utc()));
        if is_renewed && began.elapsed() >= GRACE {
            holders.iter().for_each(process::kill);
        }
        if is_interrupted() {
            return Err(LoanError::Interrupted);
        }
        if began.elapsed() >= patience {
            let of = account.clone();
            return Err(LoanError::StillAsked { of, holders });
        }
        std::thread::sleep(POLL);
    }
}

/// A file name for a login: of its ids, which stay when its email changes.
pub(super) fn key(account: &Identity) -> String {
    let id = |id: &Option<String>| id.clone().unwrap_or_default();
    let mut text = format!("{}\n{}", id(&account.account_id), id(&account.user_id));
    if text == "\n" {
        text = account.email.key();
    }
    hash::sha256(text.as_bytes())[..16].to_owned()
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

    struct World {
        folder: tempfile::TempDir,
        profiles: Profiles,
        who: Identity,
    }

    /// A profile that owns its login.
    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(&folder.path().join("manager"));
        let snapshot = crate::codex::auth::AuthSnapshot::parse(login(1)).unwrap();
        let own = snapshot.login.clone().unwrap();
        profiles
            .save_back(&snapshot, &own, Keeper::Profile, now())
            .unwrap();
        World {
            folder,
            profiles,
            who: own.identity,
        }
    }

    impl World {
        fn profile(&self) -> Profile {
            self.profiles.find(&self.who).unwrap().unwrap()
        }

        fn note(&self, change: impl FnOnce(&mut ProfileFile)) {
            let profile = self.profile();
            let mut file = profile.file;
            change(&mut file);
            self.profiles.write_note(&profile.name, &file).unwrap();
        }

        fn lend(&self) -> Result<Loan<'_>, LoanError> {
            let home = self.folder.path().join("codex");
            self.profiles.lend(&self.who, &home, now(), Duration::ZERO)
        }
    }

    #[test]
    fn a_probe_that_was_killed_before_it_had_the_login_gives_it_back() {
        let world = world();
        let loan = world.lend().unwrap();
        fs::remove_file(loan.home().join(AUTH_JSON)).unwrap();
        drop(loan);
        assert_eq!(world.profile().file.owner, Owner::Probe);
        let _held = world
            .profiles
            .claim(&[&world.who], now(), Duration::ZERO)
            .unwrap();
        assert_eq!(world.profile().file.owner, Owner::Profile);
    }

    #[test]
    fn an_account_of_which_less_is_known_is_the_same_login() {
        let world = world();
        let known_by_half = Identity {
            user_id: None,
            ..world.who.clone()
        };
        let claim = || {
            world
                .profiles
                .claim(&[&known_by_half], now(), Duration::ZERO)
        };
        let loan = world.lend().unwrap();
        assert!(matches!(claim(), Err(LoanError::InUse(_))));
        fs::write(loan.home().join(AUTH_JSON), login(2)).unwrap();
        drop(loan);
        drop(claim().unwrap());
        let profile = world.profile();
        assert_eq!(profile.snapshot().unwrap().bytes.expose(), login(2));
        assert_eq!(profile.file.owner, Owner::Profile);
    }

    #[test]
    fn a_login_whose_home_cannot_be_looked_at_may_be_live_there() {
        let world = world();
        let home = world.folder.path().join("disk/codex");
        world.note(|file| {
            file.owner = Owner::Live;
            file.live_home = Some(home.clone());
        });
        let refused = world.lend().unwrap_err().to_string();
        assert!(refused.contains("disk/codex"), "{refused}");
        assert_eq!(world.profile().file.owner, Owner::Live);
        fs::create_dir_all(home.join(AUTH_JSON)).unwrap();
        let refused = world.lend().unwrap_err().to_string();
        assert!(refused.contains("disk/codex"), "{refused}");
        // There, and signed out.
        fs::remove_dir(home.join(AUTH_JSON)).unwrap();
        world.lend().unwrap();
    }

    #[test]
    fn a_login_whose_home_keeps_logins_in_the_keyring_may_be_live_there() {
        let world = world();
        let home = world.folder.path().join("kept");
        fs::create_dir(&home).unwrap();
        let config = home.join(CONFIG_TOML);
        fs::write(&config, "cli_auth_credentials_store = \"keyring\"\n").unwrap();
        world.note(|file| {
            file.owner = Owner::Live;
            file.live_home = Some(home.clone());
        });
        let refused = world.lend().unwrap_err().to_string();
        assert!(refused.contains("cli_auth_credentials_store"), "{refused}");
        fs::remove_file(config).unwrap();
        world.lend().unwrap();
    }
}
