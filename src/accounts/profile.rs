//! `profiles/<name>/`: one login of one account, kept verbatim.
//!
//! `auth.json` is the newest snapshot, `history/` holds the last five that differed, and
//! `profile.json` says whose it is and how new the newest login is that was ever seen.

use crate::archive::names::safe_label;
use crate::codex::auth::{AuthFile, AuthSnapshot, Freshness, Login};
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::{Identity, LoginKind};
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document, DocumentError, Found};
use crate::io::lock::FileLock;
use crate::io::regular;
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, IoError, atomic, hash};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// How many older logins a profile keeps.
pub const KEPT_LOGINS: usize = 5;

const PROFILE_JSON: &str = "profile.json";

pub(super) const HISTORY: &str = "history";

/// Where bytes go that stood in the place of a login and are none.
const UNREADABLE: &str = ".unreadable";

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

/// Where the owner copy is from now on, as whoever saves a login knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper<'a> {
    /// In this Codex home.
    Live(&'a Path),
    /// In the profile.
    Profile,
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
    pub moving: Option<Moving>,
}

/// An export under way; see [`ProfileFile::moving`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moving {
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
        self.auth.login().filter(|_| self.intruder().is_none())
    }

    /// The bytes of its login.
    pub fn snapshot(&self) -> Option<&AuthSnapshot> {
        self.auth.snapshot().filter(|_| self.intruder().is_none())
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
    pub fn intruder(&self) -> Option<&Identity> {
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
    pub fn lost_home(&self) -> Option<&Path> {
        let is_live = self.file.owner == Owner::Live;
        let home = self.file.live_home.as_deref().filter(|_| is_live)?;
        let is_seen = home.is_dir() && AuthFile::read(&home.join(AUTH_JSON)).is_ok();
        (!is_seen).then_some(home)
    }

    /// Whether the home that had the owner copy last is another one than `keeper`, and has it
    /// as far as can be seen.
    fn is_live_apart_from(&self, keeper: Keeper<'_>) -> bool {
        let Some(noted) = self.file.live_home.as_deref() else {
            return false;
        };
        let is_keeper = matches!(keeper, Keeper::Live(home) if canonical(home) == noted);
        let may_have_it = self.live_in(noted).is_some() || self.lost_home().is_some();
        self.file.owner == Owner::Live && !is_keeper && may_have_it
    }
}

/// What saving a login back did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavedBack {
    /// The profile.
    pub profile: String,
    /// What happened.
    pub outcome: SaveOutcome,
}

/// See [`SavedBack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaveOutcome {
    /// The account had no profile; now it has one.
    Created,
    /// The profile's login was older.
    Updated,
    /// The profile has these very bytes.
    Unchanged,
    /// The profile's login is newer; this one went to its history.
    KeptNewer,
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

    /// Every profile, ordered by name. A folder without a usable login or `profile.json` is left
    /// out.
    pub fn list(&self) -> Result<Vec<Profile>, ProfileError> {
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
        let mut profiles = Vec::new();
        for name in names {
            let profile = self.read(name)?;
            if profile.identity().is_some() {
                profiles.push(profile);
            }
        }
        Ok(profiles)
    }

    /// The profile of an account; an error where a newer version wrote it.
    pub fn find(&self, identity: &Identity) -> Result<Option<Profile>, ProfileError> {
        let same = |p: &Profile| p.identity().is_some_and(|known| known.is_same(identity));
        let found = self.list()?.into_iter().find(same);
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
            Found::Good(file) => (file, None),
            Found::Absent => (ProfileFile::default(), None),
            Found::Damaged(reason) => (ProfileFile::default(), Some(reason)),
        };
        Ok(Profile {
            name,
            file,
            auth,
            damaged,
        })
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

    /// Saves a login to the profile of its account, if it is newer than what is there. An account
    /// without a profile gets one, named after its email. What is replaced goes to `history/`.
    ///
    /// `keeper` says where the owner copy is from now on. Everything is durable on return.
    pub fn save_back(
        &self,
        snapshot: &AuthSnapshot,
        login: &Login,
        keeper: Keeper<'_>,
        now: Timestamp,
    ) -> Result<SavedBack, ProfileError> {
        atomic::create_private_folder(&self.folder)?;
        let _held = FileLock::exclusive(&self.lock)?;
        let found = self.find(&login.identity)?;
        let name = match &found {
            Some(profile) => profile.name.clone(),
            None => self.free_name(&login.identity),
        };
        self.save_into(&name, found.as_ref(), (snapshot, login), keeper, now)
    }

    /// Saves a login into the profile `name`, which is that of its account or a new one. The caller
    /// holds the lock.
    pub(super) fn save_into(
        &self,
        name: &str,
        found: Option<&Profile>,
        (snapshot, login): (&AuthSnapshot, &Login),
        keeper: Keeper<'_>,
        now: Timestamp,
    ) -> Result<SavedBack, ProfileError> {
        let folder = self.folder.join(name);
        atomic::create_private_folder(&folder)?;
        atomic::sweep(&folder);
        let outcome = save_outcome(found, snapshot, login);
        let kept = found.and_then(Profile::snapshot);
        match (outcome, kept) {
            (SaveOutcome::KeptNewer, _) => keep_in_history(&folder, &snapshot.bytes, now)?,
            (SaveOutcome::Updated, Some(kept)) => keep_in_history(&folder, &kept.bytes, now)?,
            (SaveOutcome::Created, _) if folder.join(AUTH_JSON).exists() => {
                self.set_aside(&folder.join(AUTH_JSON), now)?;
            }
            _ => {}
        }
        if matches!(outcome, SaveOutcome::Created | SaveOutcome::Updated) {
            atomic::write(&folder.join(AUTH_JSON), snapshot.bytes.expose())?;
        }
        let newest = found.map(Profile::newest).unwrap_or_default();
        let newest = if login.freshness.is_newer_than(&newest) {
            login.freshness
        } else {
            newest
        };
        // An older login that turns up does not bring back the one that was moved, nor take over
        // from the one that is live.
        let stays = found.filter(|_| outcome == SaveOutcome::KeptNewer);
        let stays = stays.filter(|p| p.file.owner == Owner::Moved || p.is_live_apart_from(keeper));
        let (owner, live_home, moving) = match (keeper, stays) {
            (_, Some(p)) => {
                let file = p.file.clone();
                (file.owner, file.live_home, file.moving)
            }
            (Keeper::Live(home), None) => (Owner::Live, Some(canonical(home)), None),
            (Keeper::Profile, None) => (Owner::Profile, None, None),
        };
        let file = ProfileFile {
            identity: Some(login.identity.clone()),
            plan: login.plan.clone(),
            newest,
            owner,
            live_home,
            moving,
            saved_at: match (outcome, found) {
                (SaveOutcome::Unchanged | SaveOutcome::KeptNewer, Some(p)) => {
                    p.file.saved_at.or(Some(now))
                }
                _ => Some(now),
            },
        };
        // An older login says nothing of where the newer one is.
        let is_told =
            outcome != SaveOutcome::KeptNewer || found.is_none_or(|p| p.damaged.is_none());
        if is_told && found.map(|p| &p.file) != Some(&file) {
            write_profile_json(&folder, &file)?;
        }
        Ok(SavedBack {
            profile: name.to_owned(),
            outcome,
        })
    }

    /// Moves what stands in the place of a login, and is none, out of the way.
    fn set_aside(&self, path: &Path, now: Timestamp) -> Result<(), IoError> {
        let folder = self.folder.join(UNREADABLE);
        atomic::create_private_folder(&folder)?;
        let stamp = now.to_utc().format("%Y%m%dT%H%M%S%6fZ");
        atomic::rename(path, &folder.join(format!("profile-{stamp}.json")))
    }

    /// Keeps bytes that stood in the place of a login, before they are replaced; returns where.
    pub fn keep_unreadable(&self, bytes: &SecretBytes) -> Result<PathBuf, IoError> {
        let folder = self.folder.join(UNREADABLE);
        atomic::create_private_folder(&folder)?;
        let path = folder.join(format!("auth-{}.json", &hash::sha256(bytes.expose())[..12]));
        atomic::write(&path, bytes.expose())?;
        Ok(path)
    }

    /// The email, made safe for a file name; numbered when another account has it.
    fn free_name(&self, identity: &Identity) -> String {
        let base = safe_label(identity.email.as_str());
        let mut name = base.clone();
        let mut number = 1;
        while self.folder.join(&name).exists() && !is_unfinished(&self.folder.join(&name)) {
            number += 1;
            name = format!("{base}-{number}");
        }
        name
    }
}

/// What saving `login` to its account's profile will do. Pure.
pub fn save_outcome(
    found: Option<&Profile>,
    snapshot: &AuthSnapshot,
    login: &Login,
) -> SaveOutcome {
    match found.and_then(Profile::snapshot) {
        None => SaveOutcome::Created,
        Some(kept) if kept.bytes == snapshot.bytes => SaveOutcome::Unchanged,
        Some(kept) => {
            let kept = kept.login.as_ref().map(|l| l.freshness).unwrap_or_default();
            // API keys have no age: the one in use is the one that counts.
            if kept.is_newer_than(&login.freshness) && login.identity.kind == LoginKind::Chatgpt {
                SaveOutcome::KeptNewer
            } else {
                SaveOutcome::Updated
            }
        }
    }
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
        let bytes = regular::read(folder.join(PROFILE_JSON)).ok()?;
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
    if let Found::Damaged(_) = document::read::<ProfileFile>(&path)? {
        document::move_aside(&path)?;
    }
    Ok(document::write(&path, file)?)
}

/// Puts a login into `history/`, unless it is there, and keeps [`KEPT_LOGINS`]: this one, and the
/// newest of the others. Which of them is newest is what the logins say, not when they were put.
pub(super) fn keep_in_history(
    folder: &Path,
    bytes: &SecretBytes,
    now: Timestamp,
) -> Result<(), IoError> {
    let history = folder.join(HISTORY);
    atomic::create_private_folder(&history)?;
    let digest = &hash::sha256(bytes.expose())[..12];
    let kept: Vec<_> = fs::read_dir(&history)
        .at("list", &history)?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name.strip_suffix(".json").is_some())
        .collect();
    if kept.iter().any(|name| name.contains(digest)) {
        return Ok(());
    }
    let stamp = now.to_utc().format("%Y%m%dT%H%M%S%6fZ");
    let name = format!("{stamp}-{digest}.json");
    atomic::write(&history.join(&name), bytes.expose())?;
    let surplus = (kept.len() + 1).saturating_sub(KEPT_LOGINS);
    if surplus == 0 {
        return Ok(());
    }
    let age = |name: &str| {
        let auth = AuthFile::read(&history.join(name)).ok();
        let login = auth.as_ref().and_then(AuthFile::login);
        login.map(|l| l.freshness).unwrap_or_default()
    };
    let mut others: Vec<_> = kept.into_iter().map(|name| (age(&name), name)).collect();
    others.sort_by(|(a, a_name), (b, b_name)| a.compare(b).then_with(|| a_name.cmp(b_name)));
    for (_, name) in others.iter().take(surplus) {
        let path = history.join(name);
        fs::remove_file(&path).at("remove", &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, refreshed: &str) -> AuthSnapshot {
        use base64::Engine;
        let part = |json: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let id = format!(
            "x.{}.s",
            part(format!(
                r#"{{"email":"a@x.com","https://api.openai.com/auth":{{"chatgpt_user_id":"{user}","chatgpt_account_id":"acct"}}}}"#
            ))
        );
        let text = format!(
            r#"{{"tokens":{{"id_token":"{id}","refresh_token":"rt.{refreshed}"}},"last_refresh":"{refreshed}"}}"#
        );
        AuthSnapshot::parse(text.into_bytes()).unwrap()
    }

    fn at(second: u32) -> Timestamp {
        Timestamp::parse_from_rfc3339(&format!("2026-11-20T10:00:{second:02}Z")).unwrap()
    }

    fn save(profiles: &Profiles, snapshot: &AuthSnapshot, second: u32) -> SavedBack {
        let login = snapshot.login.clone().unwrap();
        profiles
            .save_back(snapshot, &login, Keeper::Profile, at(second))
            .unwrap()
    }

    #[test]
    fn a_newer_login_is_never_replaced_by_an_older() {
        let home = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(home.path());
        let (old, new) = (
            login("u", "2026-11-01T00:00:00Z"),
            login("u", "2026-11-02T00:00:00Z"),
        );
        assert_eq!(save(&profiles, &new, 0).outcome, SaveOutcome::Created);
        assert_eq!(save(&profiles, &old, 1).outcome, SaveOutcome::KeptNewer);
        let profile = profiles
            .find(&new.login.as_ref().unwrap().identity)
            .unwrap()
            .unwrap();
        assert_eq!(profile.auth.snapshot(), Some(&new));
        assert_eq!(profile.newest(), new.login.unwrap().freshness);
    }

    #[test]
    fn accounts_with_one_email_get_a_profile_each() {
        let home = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(home.path());
        assert_eq!(
            save(&profiles, &login("u1", "2026-11-01T00:00:00Z"), 0).profile,
            "a@x.com"
        );
        assert_eq!(
            save(&profiles, &login("u2", "2026-11-01T00:00:00Z"), 1).profile,
            "a@x.com-2"
        );
        assert_eq!(profiles.list().unwrap().len(), 2);
    }

    #[test]
    fn the_last_five_different_logins_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(home.path());
        for day in 1..=9 {
            save(
                &profiles,
                &login("u", &format!("2026-11-0{day}T00:00:00Z")),
                day,
            );
        }
        let history = home.path().join("profiles/a@x.com/history");
        assert_eq!(fs::read_dir(history).unwrap().count(), KEPT_LOGINS);
    }

    #[test]
    fn the_newest_login_never_leaves_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |day: u32, second| {
            let login = login("u", &format!("2026-11-{day:02}T00:00:00Z"));
            keep_in_history(folder.path(), &login.bytes, at(second)).unwrap();
        };
        for (second, day) in [20, 9, 8, 7, 6, 5, 4].into_iter().enumerate() {
            keep(day, u32::try_from(second).unwrap());
        }
        let mut days: Vec<_> = fs::read_dir(folder.path().join(HISTORY))
            .unwrap()
            .map(|entry| {
                let login = AuthFile::read(&entry.unwrap().path()).unwrap();
                let at = login.login().unwrap().freshness.last_refresh.unwrap();
                at.format("%d").to_string()
            })
            .collect();
        days.sort();
        // The one that was put there last stays too: it was just said to be there.
        assert_eq!(days, ["04", "07", "08", "09", "20"]);
    }
}
