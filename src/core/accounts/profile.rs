//! `profiles/<name>/`: one login of one account, kept verbatim.
//!
//! `auth.json` is the snapshot in use, `history/` holds at most five other snapshots, and
//! `profile.json` records the account, the owner of the login, and the freshness of the newest
//! login ever seen.

use super::owner::OwnerLocation;
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Freshness, Identity, Login};
use crate::io::temp_name::TEMP_PREFIX;
use crate::io::{
    Document, DocumentError, DocumentState, FileId, FileLock, IoError, OrdinaryPath, SecretBytes,
    Timestamp, atomic, document, file_id, file_open, message_with_causes, tree,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const PROFILE_JSON: &str = "profile.json";

pub(super) const HISTORY: &str = "history";

/// The location of the owner copy of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginOwner {
    /// In the Codex home that [`ProfileFile::live_home`] names.
    Live,
    #[default]
    Profile,
    /// In a scratch home, on lease to a probe.
    Probe,
    /// On another machine, moved there by an export.
    Moved,
}

/// The kind of a copy of a login that is saved under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCopy {
    /// Any copy. It neither replaces a live owner nor undoes a move to another machine.
    Ordinary,
    /// The owner copy, as the user asserts, whatever is recorded.
    Owner,
}

/// The document `profile.json`. Contains no token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileFile {
    pub identity: Option<Identity>,
    /// The subscription plan that the login names.
    pub plan: Option<String>,
    /// The freshness of the newest login of this account that was ever observed.
    pub newest: Freshness,
    pub owner: LoginOwner,
    /// The Codex home with the owner copy, canonical; `None` if the owner is not [`LoginOwner::Live`].
    pub live_home: Option<PathBuf>,
    /// The time when `auth.json` was last replaced.
    pub saved_at: Option<Timestamp>,
    /// The export that is moving the login away, or that was killed while it did. The owner is
    /// [`LoginOwner::Moved`] from this moment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving: Option<PendingMove>,
    /// The id of the export that moved the login away. Only this export can bring the same login
    /// back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_with: Option<String>,
    /// The fingerprints of logins that a later login of this account replaced, the latest at the
    /// end. Their refresh tokens are spent, even if their timestamps are newer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<String>,
}

/// The number of superseded fingerprints that a profile keeps. Codex renews a login every few days.
const MAX_SUPERSEDED_FINGERPRINTS: usize = 256;

impl ProfileFile {
    /// Records that a later login replaced the one with this fingerprint.
    pub(crate) fn mark_superseded(&mut self, fingerprint: String) {
        if !self.superseded.contains(&fingerprint) {
            self.superseded.push(fingerprint);
        }
        let count = self.superseded.len();
        let surplus = count.saturating_sub(MAX_SUPERSEDED_FINGERPRINTS);
        self.superseded.drain(..surplus);
    }

    /// Adds superseded fingerprints that another machine recorded for the same account.
    pub(crate) fn merge_superseded(&mut self, of_other_machine: &[String]) {
        let recorded_here = std::mem::take(&mut self.superseded);
        // The own ones come last, so that [`MAX_SUPERSEDED_FINGERPRINTS`] drops those of the other machine first.
        for fingerprint in of_other_machine.iter().chain(&recorded_here) {
            self.mark_superseded(fingerprint.clone());
        }
    }
}

/// An export under way; see [`ProfileFile::moving`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingMove {
    /// The path of the finished export.
    pub file: PathBuf,
    /// The temporary path of the export until it is complete.
    pub unfinished: PathBuf,
    /// The id of the export file, the same under both paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FileId>,
    /// Device and inode number, which older versions recorded instead of `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<(u64, u64)>,
    pub since: Timestamp,
}

impl PendingMove {
    /// Returns true if the file at `path` is the export. False if it cannot be read.
    pub(crate) fn is_export(&self, path: &Path) -> bool {
        let from_inode = |(_, ino)| FileId::from_inode(ino);
        let recorded = self.id.or_else(|| self.inode.map(from_inode));
        let current = file_id::stat(path).ok().flatten();
        matches!((current, recorded), (Some((id, _)), Some(recorded)) if recorded.is_same(id))
    }
}

impl Document for ProfileFile {}

/// A profile as read from disk.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The folder name in `profiles/`.
    pub name: String,
    /// The content of `profile.json`, or its default if that is missing or damaged.
    pub file: ProfileFile,
    /// The content of `auth.json`, which may be of another account; see [`Profile::login`].
    pub auth: AuthFile,
    /// The parse error of a damaged `profile.json`. The owner and the newest login are unknown then.
    pub damaged: Option<String>,
    /// The error of reading a `profile.json` that is of a newer version, or cannot be read. Such a profile is listed,
    /// but never used or changed.
    pub unusable: Option<String>,
}

impl Profile {
    /// Creates a profile for `login` that is not on disk yet.
    pub(super) fn unsaved(name: &str, login: &Login) -> Self {
        Self {
            name: name.to_owned(),
            file: ProfileFile {
                identity: Some(login.identity.clone()),
                ..ProfileFile::default()
            },
            auth: AuthFile::Missing,
            damaged: None,
            unusable: None,
        }
    }

    /// Returns the account of the profile: the account of its login, else of `profile.json`.
    pub fn identity(&self) -> Option<&Identity> {
        let recorded = self.file.identity.as_ref();
        self.login().map(|l| &l.identity).or(recorded)
    }

    /// Returns true if the profile is, as far as their ids are known, of this account.
    pub(crate) fn is_of(&self, account: &Identity) -> bool {
        self.identity().is_some_and(|own| own.is_same(account))
    }

    /// Returns the login, unless `auth.json` holds a login of another account.
    pub fn login(&self) -> Option<&Login> {
        self.snapshot()?.login.as_ref()
    }

    /// Returns the content of a valid `auth.json`, which may have no login, unless it holds a login of another account.
    pub(crate) fn snapshot(&self) -> Option<&AuthSnapshot> {
        if self.other_account().is_some() {
            return None;
        }
        self.auth.snapshot()
    }

    /// Returns true if Codex renews the login of the account, so that only one home may use it.
    pub(crate) fn is_renewable(&self) -> bool {
        self.identity()
            .is_some_and(|account| account.kind.is_renewable())
    }

    /// Returns true if a later login of this account is known to have replaced the login in `auth.json`.
    pub(crate) fn is_superseded(&self) -> bool {
        let fingerprint = self.snapshot().map(AuthSnapshot::fingerprint);
        fingerprint.is_some_and(|fingerprint| self.file.superseded.contains(&fingerprint))
    }

    /// Returns true if a login of this account was observed that is newer than the login in `auth.json`.
    pub(crate) fn is_stale(&self) -> bool {
        let freshness = self.login().map(|login| login.freshness);
        freshness.is_some_and(|freshness| self.newest().is_newer_than(&freshness))
    }

    /// Returns the freshness of the newest login of this account that was ever observed. Considers `auth.json` too,
    /// because a crash may have prevented the write of `profile.json`.
    pub fn newest(&self) -> Freshness {
        match self.login() {
            Some(login) if login.freshness.is_newer_than(&self.file.newest) => login.freshness,
            _ => self.file.newest,
        }
    }

    /// Returns the account of the login in `auth.json` if `profile.json` names another account, because the
    /// user replaced `auth.json` by the file of another account.
    pub fn other_account(&self) -> Option<&Identity> {
        let login = &self.auth.login()?.identity;
        let recorded = self.file.identity.as_ref()?;
        (!recorded.is_same(login)).then_some(login)
    }

    /// Returns the Codex home in which this account is signed in: `home`, or the one recorded in `profile.json`.
    pub fn find_live_home(&self, home: &Path) -> Option<PathBuf> {
        let live = self.live_logins(home).next();
        live.map(|(home, _)| home.to_path_buf())
    }

    /// Returns the freshness of the newest login of this account: observed before, or live in `home` or in the recorded
    /// Codex home. Codex may have renewed a live login since the last save.
    pub(crate) fn newest_with_live(&self, home: &Path) -> Freshness {
        let mut newest = self.newest();
        for (_, live) in self.live_logins(home) {
            if live.is_newer_than(&newest) {
                newest = live;
            }
        }
        newest
    }

    /// Checks `home` and the recorded Codex home. Returns those in which this account is signed in, each with the
    /// freshness of its login.
    fn live_logins<'a>(&'a self, home: &'a Path) -> impl Iterator<Item = (&'a Path, Freshness)> {
        let homes = [Some(home), self.file.live_home.as_deref()];
        homes.into_iter().flatten().filter_map(|home| {
            let auth = AuthFile::read(&home.join(AUTH_JSON)).ok()?;
            let login = auth.login().filter(|login| self.is_of(&login.identity))?;
            Some((home, login.freshness))
        })
    }

    /// Returns true if `profile.json` names `home` as the Codex home with the owner copy.
    pub(crate) fn is_recorded_in(&self, home: &Path) -> bool {
        let recorded_home = self.file.live_home.as_deref();
        self.file.owner == LoginOwner::Live && recorded_home == Some(&*home.canonical_or_self())
    }

    /// Returns the recorded Codex home of the owner copy if it cannot be read, such as one on an unmounted
    /// disk. The login may be live there. A readable home without a login is not returned.
    pub fn unreadable_home(&self) -> Option<&Path> {
        if self.file.owner != LoginOwner::Live {
            return None;
        }
        let home = self.file.live_home.as_deref()?;
        let is_readable = home.is_dir() && AuthFile::read(&home.join(AUTH_JSON)).is_ok();
        (!is_readable).then_some(home)
    }

    /// Returns the recorded Codex home of the owner copy if it has, or may have, the login. `None` for a login that
    /// may be used in several homes.
    fn possible_live_home(&self) -> Option<&Path> {
        let recorded_home = self.file.live_home.as_deref()?;
        let may_have_login =
            || self.find_live_home(recorded_home).is_some() || self.unreadable_home().is_some();
        let is_recorded = self.file.owner == LoginOwner::Live && self.is_renewable();
        (is_recorded && may_have_login()).then_some(recorded_home)
    }

    /// Returns the recorded Codex home that has, or may have, the login, if it is not `home`. `None` for a login that
    /// several homes may use.
    pub fn other_live_home(&self, home: &Path) -> Option<&Path> {
        let recorded_home = self.possible_live_home();
        recorded_home.filter(|recorded_home| home.canonical_or_self() != *recorded_home)
    }

    /// Returns true if another Codex home than that of `owner` may have the login. If the user asserted `owner`, a
    /// home that cannot be read does not count.
    pub(super) fn may_be_live_elsewhere(&self, owner: OwnerLocation<'_>) -> bool {
        let other_home = match owner.live_home() {
            Some(home) => self.other_live_home(home),
            None => self.possible_live_home(),
        };
        other_home.is_some() && !(owner.is_asserted() && self.unreadable_home().is_some())
    }

    /// Returns true if the login in the recorded Codex home is older than `saved`, and has another refresh token.
    /// Returns `None` if that home has no readable login.
    pub(super) fn is_live_login_outdated_by(&self, saved: &AuthSnapshot) -> Option<bool> {
        let recorded_home = self.file.live_home.as_deref()?;
        let live_auth = AuthFile::read(&recorded_home.join(AUTH_JSON)).ok()?;
        let live = live_auth.snapshot().filter(|live| live.login.is_some())?;
        let is_older = saved.freshness().is_newer_than(&live.freshness());
        // With one refresh token in two homes, a renewal in one signs the other out, whatever the times.
        Some(is_older && saved.fingerprint() != live.fingerprint())
    }
}

/// The reason why a profile cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("invalid profile name ({reason}): {name:?}")]
    BadName {
        name: String,
        /// The violated rule.
        reason: &'static str,
    },
    /// The profile of another or of an unknown account has this name.
    #[error("the profile {name} belongs to {account}")]
    Taken {
        name: String,
        /// The account of that profile; empty if it is unknown.
        account: String,
    },
    /// A removed profile cannot be put back beside a newer one of the account.
    #[error("{account} has the profile {name} already")]
    HasProfile {
        /// The account of the removed profile.
        account: String,
        /// The name of its newer profile.
        name: String,
        /// The name of the removed profile.
        removed: String,
        /// True if the login of the removed profile is not newer than that of the newer profile. False for API keys,
        /// which have no age.
        is_removed_older: bool,
    },
    /// A new profile with an older login would hide a removed one.
    #[error("the removed profile {name} has a newer login of {account}")]
    InTrash { account: String, name: String },
    #[error("the name {name} is the email of another account, {account}")]
    EmailOfAnother { name: String, account: String },
    /// A file or folder that is no profile occupies this path.
    #[error("the path exists and is not a profile: {}", .0.display())]
    NotAProfile(PathBuf),
    #[error("the login of the profile {name} is live in a Codex home: {}", home.display())]
    IsLive { name: String, home: PathBuf },
    /// No usable login in `history/` matches.
    #[error("the history of the profile {name} has no login {}", wanted.as_deref().map_or("to restore".to_owned(), |start| format!("whose name begins with {start:?}")))]
    NoSuchLogin {
        name: String,
        /// The beginning of the file name that the user gave.
        wanted: Option<String>,
        /// The file names of the usable logins.
        choices: Vec<String>,
    },
    /// An export moved the login to another machine. Saving a copy of the login does not undo the move.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// The login has too few ids to tell which of several profiles belongs to its account.
    #[error("cannot tell which login of {account} this is: the profiles {} match", names.join(", "))]
    Ambiguous {
        /// The label of the account: its email.
        account: String,
        names: Vec<String>,
    },
    #[error("no such profile: {name:?}")]
    Unknown {
        name: String,
        choices: Vec<String>,
        /// True if `profile undo` can put a profile of this name back.
        can_undo_removal: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Profiles {
    pub(super) folder: PathBuf,
    pub(super) lock: PathBuf,
}

impl Profiles {
    /// Returns the profiles in `manager_home`. Reads nothing.
    pub fn of(manager_home: &Path) -> Self {
        Self {
            folder: manager_home.join("profiles"),
            lock: manager_home.join(".lock"),
        }
    }

    /// Returns the lock file under which profiles are changed.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.lock.clone()
    }

    /// Writes `profile.json` into the folder `name` of `profiles/`, which it creates if it is missing. Renames a
    /// damaged `profile.json` first, so that it is kept. The caller holds the lock.
    pub(crate) fn write_record(&self, name: &str, file: &ProfileFile) -> Result<(), ProfileError> {
        let folder = self.folder.join(name);
        atomic::create_private_folder(&folder)?;
        let path = folder.join(PROFILE_JSON);
        // The user may still be able to read in the damaged file which home has the login.
        if let DocumentState::Damaged(_) = document::read::<ProfileFile>(&path)? {
            document::move_aside(&path)?;
        }
        Ok(document::write(&path, file)?)
    }

    /// Adds superseded fingerprints from another machine to the profile of `account`, if it has
    /// one.
    pub(crate) fn merge_superseded(
        &self,
        account: &Identity,
        superseded: &[String],
    ) -> Result<(), ProfileError> {
        let _lock = FileLock::acquire(&self.lock)?;
        if let Some(profile) = self.find(account)?
            && profile.damaged.is_none()
        {
            let mut file = profile.file.clone();
            file.merge_superseded(superseded);
            if file != profile.file {
                self.write_record(&profile.name, &file)?;
            }
        }
        Ok(())
    }

    /// Ends every record that says that another account than `live_account` is live in `home`.
    pub(super) fn end_other_live_records(
        &self,
        home: &Path,
        live_account: &Identity,
    ) -> Result<(), ProfileError> {
        let _lock = FileLock::acquire(&self.lock)?;
        for profile in self.list()? {
            if profile.is_of(live_account) || !profile.is_recorded_in(home) {
                continue;
            }
            let file = ProfileFile {
                owner: LoginOwner::Profile,
                live_home: None,
                ..profile.file
            };
            self.write_record(&profile.name, &file)?;
        }
        Ok(())
    }

    /// Returns all profiles of known accounts, ordered by name.
    pub fn list(&self) -> Result<Vec<Profile>, ProfileError> {
        let mut profiles = self.read_all_profiles()?;
        profiles.retain(|profile| profile.identity().is_some());
        Ok(profiles)
    }

    /// Returns the profiles whose account is unknown because `profile.json` or `auth.json` is damaged.
    pub fn list_unidentified(&self) -> Result<Vec<Profile>, ProfileError> {
        let mut profiles = self.read_all_profiles()?;
        profiles.retain(|profile| {
            let is_unreadable = matches!(profile.auth, AuthFile::Unreadable { .. });
            profile.identity().is_none() && (profile.damaged.is_some() || is_unreadable)
        });
        Ok(profiles)
    }

    /// Reads every folder in `profiles/` except hidden ones, ordered by name.
    fn read_all_profiles(&self) -> Result<Vec<Profile>, ProfileError> {
        let entries = tree::list_if_exists(&self.folder)?.into_iter();
        let names = entries.filter_map(|(name, _)| name.into_string().ok());
        let is_profile = |name: &String| !name.starts_with('.') && self.folder.join(name).is_dir();
        let profiles = names.filter(is_profile);
        Ok(profiles.map(|name| self.read(name)).collect())
    }

    /// Returns the name of an account for people: its profile, if that can be read, else its identity.
    pub fn describe_account(&self, identity: &Identity) -> String {
        let profile = self.find(identity).ok().flatten();
        profile.map_or_else(|| identity.to_string(), |profile| profile.name)
    }

    /// Returns the profile of an account, or `None`.
    ///
    /// # Errors
    /// Several profiles match the account, a newer version of the program wrote its profile, or an I/O error.
    pub fn find(&self, identity: &Identity) -> Result<Option<Profile>, ProfileError> {
        let profile = find_own_profile(&self.list()?, identity)?.cloned();
        if let Some(profile) = &profile {
            self.require_readable_version(&profile.name)?;
        }
        Ok(profile)
    }

    /// Reads the profile `name`. A profile that a newer version of this program wrote, or whose record cannot be read,
    /// has no login.
    pub(crate) fn read(&self, name: String) -> Profile {
        let folder = self.folder.join(&name);
        let file = match document::read::<ProfileFile>(&folder.join(PROFILE_JSON)) {
            Ok(state) => state,
            // Such a profile must not keep the user from using the other profiles.
            Err(e) => return build_unusable_profile(name, &folder, &e),
        };

        // An unreadable auth.json must not keep the user from seeing the other profiles.
        let auth = AuthFile::read(&folder.join(AUTH_JSON))
            .unwrap_or_else(|e| AuthFile::from_read_error(&e));

        let (file, damaged) = match file {
            DocumentState::Good(file) => (file, None),
            DocumentState::Absent => (ProfileFile::default(), None),
            DocumentState::Damaged(reason) => (ProfileFile::default(), Some(reason)),
        };

        Profile {
            name,
            file,
            auth,
            damaged,
            unusable: None,
        }
    }

    /// Fails if a profile of an unknown account cannot be used: the account may have a profile already, and another one
    /// would be a second copy of its login.
    pub(super) fn require_all_readable(&self) -> Result<(), ProfileError> {
        for profile in self.list_unidentified()? {
            self.require_readable_version(&profile.name)?;
        }
        Ok(())
    }

    /// Fails if a newer version of the program wrote this profile, or if its record cannot be read.
    pub(super) fn require_readable_version(&self, name: &str) -> Result<(), DocumentError> {
        let path = self.folder.join(name).join(PROFILE_JSON);
        document::read::<ProfileFile>(&path).map(drop)
    }
}

/// Returns true if `snapshot` has a login that is, as far as the ids are known, of this account.
pub(crate) fn is_login_of(snapshot: &AuthSnapshot, account: &Identity) -> bool {
    let login = snapshot.login.as_ref();
    login.is_some_and(|login| login.identity.is_same(account))
}

/// Returns the profile of `account` among `profiles`. Reads no files.
///
/// # Errors
/// Several profiles of different accounts match the known ids of `account`.
pub(crate) fn find_own_profile<'a>(
    profiles: &'a [Profile],
    account: &Identity,
) -> Result<Option<&'a Profile>, ProfileError> {
    let matching: Vec<_> = profiles.iter().filter(|p| p.is_of(account)).collect();

    // A profile with exactly these ids wins over profiles that match by fewer ids.
    let ids_of = |identity: &Identity| (identity.account_id.clone(), identity.user_id.clone());
    let has_same_ids = |p: &&Profile| p.identity().is_some_and(|id| ids_of(id) == ids_of(account));
    if let Some(profile) = matching.iter().copied().find(has_same_ids) {
        return Ok(Some(profile));
    }

    // If ids are missing, the email can match profiles of several workspaces. Several profiles of one account are fine.
    let mut matching_accounts = matching.iter().filter_map(|p| p.identity());
    if matching_accounts.any(|found| matching.iter().any(|p| !p.is_of(found))) {
        return Err(ProfileError::Ambiguous {
            account: account.to_string(),
            names: matching.iter().map(|p| p.name.clone()).collect(),
        });
    }

    Ok(matching.first().copied())
}

/// Returns true if a folder is empty or contains only temp files of a killed save. Such a folder is not a
/// profile, and its name is free.
pub(crate) fn is_unfinished_profile(folder: &Path) -> bool {
    let is_temp = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(TEMP_PREFIX)
    };
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().all(is_temp))
}

/// Returns a profile that a newer version wrote, or whose record cannot be read: with its account, as far as that can be
/// read, and without a login.
fn build_unusable_profile(name: String, folder: &Path, error: &DocumentError) -> Profile {
    let problem = message_with_causes(error);
    // Only the identity is read, because the other fields may have another form in the newer version.
    let recorded_identity = || {
        let bytes = file_open::read(folder.join(PROFILE_JSON)).ok()?;
        let mut document: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        serde_json::from_value(document.get_mut("identity")?.take()).ok()
    };

    let auth = AuthFile::read(&folder.join(AUTH_JSON)).ok();
    let login = auth.as_ref().and_then(AuthFile::login);

    Profile {
        name,
        damaged: None,
        unusable: Some(problem.clone()),
        file: ProfileFile {
            identity: login.map(|l| l.identity.clone()).or_else(recorded_identity),
            ..ProfileFile::default()
        },
        auth: AuthFile::Unreadable {
            bytes: SecretBytes::new(Vec::new()),
            reason: match error {
                DocumentError::Newer { .. } => format!("not used: its profile.json was {problem}"),
                DocumentError::Io(_) => format!("not used: {problem}"),
            },
        },
    }
}
