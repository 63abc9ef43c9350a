//! `profiles/<name>/`: one login of one account, kept verbatim.
//!
//! `auth.json` is the newest snapshot, `history/` holds the last five that differed, and
//! `profile.json` says whose it is and how new the newest login is that was ever seen.

use super::save::OwnerLocation;
use crate::codex::auth::{AuthFile, AuthSnapshot, Freshness, Login};
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document, DocumentError, DocumentState};
use crate::io::file_open;
use crate::io::lock::FileLock;
use crate::io::secret::SecretBytes;
use crate::io::{IoError, atomic};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const PROFILE_JSON: &str = "profile.json";

pub(super) const HISTORY: &str = "history";

/// Where the owner copy of a login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// In the Codex home.
    Live,
    /// In the profile.
    #[default]
    Profile,
    /// In a scratch home, where Codex is asked about it.
    Probe,
    /// On another machine.
    Moved,
}

/// `profile.json`. Holds no token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProfileFile {
    /// Whose login it is.
    pub identity: Option<Identity>,
    /// The plan.
    #[serde(default)]
    pub plan: Option<String>,
    /// The newest login of this account that was ever seen.
    #[serde(default)]
    pub newest: Freshness,
    /// Where the owner copy is.
    #[serde(default)]
    pub owner: Owner,
    /// The Codex home that had the owner copy last.
    #[serde(default)]
    pub live_home: Option<PathBuf>,
    /// When the snapshot was saved.
    #[serde(default)]
    pub saved_at: Option<Timestamp>,
    /// The export that is taking the login away, or was killed in the middle of that. The owner is
    /// [`Owner::Moved`] from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<PendingMove>,
    /// The export that took the login away: it alone brings the same one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_with: Option<String>,
    /// The fingerprints of logins that another of this account came after, the latest at the end.
    /// Their refresh tokens are spent, whatever the clocks of the machines said that wrote them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<String>,
}

/// How many fingerprints a profile keeps: logins are renewed every few days.
const MAX_SUPERSEDED_FINGERPRINTS: usize = 256;

impl ProfileFile {
    /// Notes that another login came after this one.
    pub(crate) fn supersede(&mut self, fingerprint: String) {
        if !self.superseded.contains(&fingerprint) {
            self.superseded.push(fingerprint);
        }
        let surplus = self
            .superseded
            .len()
            .saturating_sub(MAX_SUPERSEDED_FINGERPRINTS);
        self.superseded.drain(..surplus);
    }

    /// Takes over what another machine knows of the same account.
    pub(crate) fn learn(&mut self, superseded: &[String]) {
        let own = std::mem::take(&mut self.superseded);
        for fingerprint in superseded.iter().chain(&own) {
            self.supersede(fingerprint.clone());
        }
    }
}

/// An export under way; see [`ProfileFile::moving`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingMove {
    /// The name that it will have.
    pub file: PathBuf,
    /// The name that it has until it is whole.
    pub unfinished: PathBuf,
    /// Device and inode, under either name.
    pub inode: Option<(u64, u64)>,
    /// Since when.
    pub since: Timestamp,
}

impl Document for ProfileFile {
    const SCHEMA: u64 = 1;
}

/// A profile as it stands on disk.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// `profile.json`.
    pub file: ProfileFile,
    /// Its login.
    pub auth: AuthFile,
    /// What is wrong with a `profile.json` that is none: then it is not known where the owner copy
    /// is, and how new the newest login is.
    pub damaged: Option<String>,
}

impl Profile {
    /// The profile that this login would be.
    pub(super) fn of(name: &str, login: &Login) -> Self {
        Self {
            name: name.to_owned(),
            file: ProfileFile {
                identity: Some(login.identity.clone()),
                ..ProfileFile::default()
            },
            auth: AuthFile::Missing,
            damaged: None,
        }
    }

    /// Whose it is: what the login says, else what `profile.json` remembers.
    pub fn identity(&self) -> Option<&Identity> {
        let noted = self.file.identity.as_ref();
        self.login().map(|l| &l.identity).or(noted)
    }

    /// Its login. A login of another account that somebody copied there is none of it.
    pub fn login(&self) -> Option<&Login> {
        self.auth.login().filter(|_| self.other_account().is_none())
    }

    /// The bytes of its login.
    pub fn snapshot(&self) -> Option<&AuthSnapshot> {
        self.auth
            .snapshot()
            .filter(|_| self.other_account().is_none())
    }

    /// Whether another login of this account is known to have come after the one at hand.
    pub fn is_superseded(&self) -> bool {
        let own = self.snapshot().map(AuthSnapshot::fingerprint);
        own.is_some_and(|own| self.file.superseded.contains(&own))
    }

    /// The newest login of this account that was ever seen. The snapshot counts too: a crash may
    /// have come between it and `profile.json`.
    pub fn newest(&self) -> Freshness {
        match self.login() {
            Some(login) if login.freshness.is_newer_than(&self.file.newest) => login.freshness,
            _ => self.file.newest,
        }
    }

    /// Whose login `auth.json` is, where that contradicts `profile.json`: somebody copied it there.
    pub fn other_account(&self) -> Option<&Identity> {
        let login = &self.auth.login()?.identity;
        let noted = self.file.identity.as_ref()?;
        (!noted.is_same(login)).then_some(login)
    }

    /// The Codex home in which this account is signed in now: `home`, else the one that had it
    /// last. What the files say counts, not what was noted: a crash may have come between.
    pub fn live_in(&self, home: &Path) -> Option<PathBuf> {
        let identity = self.identity()?;
        let noted = self.file.live_home.as_deref();
        [Some(home), noted].into_iter().flatten().find_map(|home| {
            let auth = AuthFile::read(&home.join(AUTH_JSON)).ok()?;
            auth.login()?
                .identity
                .is_same(identity)
                .then(|| home.to_path_buf())
        })
    }

    /// The home that had the owner copy last, where it cannot be looked at: on a disk that is not
    /// mounted, say. The login may be live there. One in which nobody is signed in can be.
    pub fn unreadable_home(&self) -> Option<&Path> {
        let is_live = self.file.owner == Owner::Live;
        let home = self.file.live_home.as_deref().filter(|_| is_live)?;
        let is_seen = home.is_dir() && AuthFile::read(&home.join(AUTH_JSON)).is_ok();
        (!is_seen).then_some(home)
    }

    /// The home that had the owner copy last, where that is another one than `home` and has it still,
    /// as far as can be seen.
    pub fn live_apart_from(&self, home: Option<&Path>) -> Option<&Path> {
        let noted = self.file.live_home.as_deref()?;
        let is_it = home.is_some_and(|home| canonical(home) == noted);
        let may_have_it = || self.live_in(noted).is_some() || self.unreadable_home().is_some();
        (self.file.owner == Owner::Live && !is_it && may_have_it()).then_some(noted)
    }

    /// The same of `owner`; whoever said so knows better of a home that cannot be looked at.
    pub(super) fn is_live_apart_from(&self, owner: OwnerLocation<'_>) -> bool {
        let is_apart = self.live_apart_from(owner.home()).is_some();
        is_apart && !(owner.is_asserted() && self.unreadable_home().is_some())
    }

    /// Whether a login came after the one that is in the home that had the owner copy last; `is_same`
    /// where it is the one that the profile has.
    pub(super) fn is_superseded_by(&self, login: &Login, is_same: bool) -> bool {
        let noted = self.file.live_home.as_deref();
        let there = noted.and_then(|home| AuthFile::read(&home.join(AUTH_JSON)).ok());
        match there.as_ref().and_then(AuthFile::login) {
            Some(there) => login.freshness.is_newer_than(&there.freshness),
            None => !is_same,
        }
    }
}

/// Why a profile could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// `profile.json` could not be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The name cannot be one.
    #[error("not a name for a profile ({reason}): {name:?}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another account has a profile of that name.
    #[error("the profile {name} is of {of}")]
    Taken {
        /// The name.
        name: String,
        /// Whose it is.
        of: String,
    },
    /// The name is what another account is known by.
    #[error("{name} is the email of another account, {of}")]
    EmailOfAnother {
        /// The name.
        name: String,
        /// The account.
        of: String,
    },
    /// Something else stands in the place of the profile.
    #[error("there is something else of that name: {}", .0.display())]
    NotAProfile(PathBuf),
    /// The login is not the profile's to change.
    #[error("the account of the profile {name} is signed in: {}", home.display())]
    IsLive {
        /// The profile.
        name: String,
        /// Where.
        home: PathBuf,
    },
    /// The history has no such login.
    #[error("no such login in the history of the profile {name}")]
    NoSuchLogin {
        /// The profile.
        name: String,
        /// What there is.
        choices: Vec<String>,
    },
    /// The login left, and a copy of it does not bring it back.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// A login says too little of whose it is.
    #[error("it cannot be told whose login of {of} it is: the profiles {} fit", names.join(", "))]
    Ambiguous {
        /// What it says.
        of: String,
        /// The profiles.
        names: Vec<String>,
    },
    /// There is no such profile.
    #[error("no profile is called {0:?}")]
    Unknown(String),
}

/// All profiles of a manager home.
#[derive(Debug, Clone)]
pub struct Profiles {
    pub(super) folder: PathBuf,
    pub(super) lock: PathBuf,
}

impl Profiles {
    /// Those of `manager_home`.
    pub fn of(manager_home: &Path) -> Self {
        Self {
            folder: manager_home.join("profiles"),
            lock: manager_home.join(".lock"),
        }
    }

    /// The lock under which profiles are changed.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.lock.clone()
    }

    /// Writes what is known of the profile `name`, which is made where it is missing. The caller holds
    /// the lock.
    pub(crate) fn write_note(&self, name: &str, file: &ProfileFile) -> Result<(), ProfileError> {
        let folder = self.folder.join(name);
        atomic::create_private_folder(&folder)?;
        write_profile_json(&folder, file)
    }

    /// Takes over what another machine knows of the logins of an account that has a profile here.
    pub(crate) fn learn(
        &self,
        account: &Identity,
        superseded: &[String],
    ) -> Result<(), ProfileError> {
        let _held = FileLock::exclusive(&self.lock)?;
        if let Some(profile) = self.find(account)?
            && profile.damaged.is_none()
        {
            let mut file = profile.file.clone();
            file.learn(superseded);
            if file != profile.file {
                self.write_note(&profile.name, &file)?;
            }
        }
        Ok(())
    }

    /// Every profile, ordered by name. A folder without a usable login or `profile.json` is left
    /// out.
    pub fn list(&self) -> Result<Vec<Profile>, ProfileError> {
        let mut profiles = self.read_all()?;
        profiles.retain(|profile| profile.identity().is_some());
        Ok(profiles)
    }

    /// Those of which nothing says any more whose they are: what does is damaged.
    pub fn unidentified(&self) -> Result<Vec<Profile>, ProfileError> {
        let mut profiles = self.read_all()?;
        profiles.retain(|profile| {
            let is_unreadable = matches!(profile.auth, AuthFile::Unreadable { .. });
            profile.identity().is_none() && (profile.damaged.is_some() || is_unreadable)
        });
        Ok(profiles)
    }

    /// What every folder holds, ordered by name.
    fn read_all(&self) -> Result<Vec<Profile>, ProfileError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                let path = self.folder.clone();
                return Err(IoError {
                    action: "list",
                    path,
                    source,
                }
                .into());
            }
        };
        let mut names: Vec<_> = entries
            .flatten()
            .filter(|e| e.path().is_dir())
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names.into_iter().map(|name| self.read(name)).collect()
    }

    /// The profile of an account; an error where a newer version wrote it.
    pub fn find(&self, identity: &Identity) -> Result<Option<Profile>, ProfileError> {
        let found = own_profile(&self.list()?, identity)?.cloned();
        if let Some(profile) = &found {
            self.check_version(&profile.name)?;
        }
        Ok(found)
    }

    pub(super) fn read(&self, name: String) -> Result<Profile, ProfileError> {
        let folder = self.folder.join(&name);
        let file = match document::read::<ProfileFile>(&folder.join(PROFILE_JSON)) {
            // One profile that cannot be used is no reason not to use the others.
            Err(e @ DocumentError::Newer { .. }) => return Ok(newer_profile(name, &folder, &e)),
            found => found?,
        };
        // One profile that cannot be read is no reason not to show the others.
        let auth =
            AuthFile::read(&folder.join(AUTH_JSON)).unwrap_or_else(|e| AuthFile::not_read(&e));
        let (file, damaged) = match file {
            DocumentState::Good(file) => (file, None),
            DocumentState::Absent => (ProfileFile::default(), None),
            DocumentState::Damaged(reason) => (ProfileFile::default(), Some(reason)),
        };
        Ok(Profile {
            name,
            file,
            auth,
            damaged,
        })
    }

    /// Whether the profile of this name is whole, of no newer version, and has its account's login.
    pub fn has_usable_login(&self, name: &str) -> bool {
        let profile = self.read(name.to_owned());
        profile.is_ok_and(|p| p.damaged.is_none() && p.login().is_some())
    }

    /// The names of profiles that were written by a newer version, which are shown and left alone,
    /// each with what is wrong.
    pub fn newer(&self, profiles: &[Profile]) -> Vec<(String, DocumentError)> {
        let wrong = |profile: &Profile| {
            let error = self.check_version(&profile.name).err()?;
            Some((profile.name.clone(), error))
        };
        profiles.iter().filter_map(wrong).collect()
    }

    /// That a profile was not written by a newer version.
    pub(super) fn check_version(&self, name: &str) -> Result<(), DocumentError> {
        let path = self.folder.join(name).join(PROFILE_JSON);
        document::read::<ProfileFile>(&path).map(drop)
    }
}

/// The profile of an account, of all that there are. Pure.
///
/// # Errors
/// Too little is known of the account to tell which of several it is.
pub fn own_profile<'a>(
    profiles: &'a [Profile],
    account: &Identity,
) -> Result<Option<&'a Profile>, ProfileError> {
    let fits = |p: &&Profile| p.identity().is_some_and(|known| known.is_same(account));
    let fitting: Vec<_> = profiles.iter().filter(fits).collect();
    let ids = |who: &Identity| (who.account_id.clone(), who.user_id.clone());
    let exact = |p: &&&Profile| p.identity().is_some_and(|known| ids(known) == ids(account));
    if let Some(exact) = fitting.iter().find(exact) {
        return Ok(Some(exact));
    }
    let others = |p: &Profile| {
        let apart = |q: &&Profile| match (p.identity(), q.identity()) {
            (Some(p), Some(q)) => !p.is_same(q),
            _ => false,
        };
        fitting.iter().any(apart)
    };
    if fitting.iter().any(|p| others(p)) {
        return Err(ProfileError::Ambiguous {
            of: account.to_string(),
            names: fitting.iter().map(|p| p.name.clone()).collect(),
        });
    }
    Ok(fitting.first().copied())
}

/// Whether a folder holds nothing but what a killed save left in it: it is no profile, and its name
/// is free.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    let is_temp = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(atomic::TEMP_PREFIX)
    };
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().all(is_temp))
}

/// A profile of a newer version: whose it is, as far as that can be read, and no login.
fn newer_profile(name: String, folder: &Path, why: &DocumentError) -> Profile {
    let noted = || {
        let bytes = file_open::read(folder.join(PROFILE_JSON)).ok()?;
        let mut note: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        serde_json::from_value(note.get_mut("identity")?.take()).ok()
    };
    let auth = AuthFile::read(&folder.join(AUTH_JSON)).ok();
    let login = auth.as_ref().and_then(AuthFile::login);
    Profile {
        name,
        damaged: None,
        file: ProfileFile {
            identity: login.map(|l| l.identity.clone()).or_else(noted),
            ..ProfileFile::default()
        },
        auth: AuthFile::Unreadable {
            bytes: SecretBytes::new(Vec::new()),
            reason: format!("not used: its profile.json was {why}"),
        },
    }
}

pub(super) fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Writes `profile.json`; a damaged one is kept beside it.
pub(super) fn write_profile_json(folder: &Path, file: &ProfileFile) -> Result<(), ProfileError> {
    let path = folder.join(PROFILE_JSON);
    if let DocumentState::Damaged(_) = document::read::<ProfileFile>(&path)? {
        document::move_aside(&path)?;
    }
    Ok(document::write(&path, file)?)
}
