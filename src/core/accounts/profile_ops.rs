//! Operations on profiles by name: save, rename, restore a login from the history.

use super::owner::OwnerLocation;
use super::profile::{
    HISTORY, LoginCopy, LoginOwner, Profile, ProfileError, Profiles, find_own_profile,
    is_unfinished_profile,
};
use super::save::{
    SaveOutcome, SaveReport, add_to_history_folder, list_history_names, predict_save_outcome,
};
use crate::archive::encode_label;
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Freshness, Identity, Login};
use crate::io::{FileLock, IoContext, IoError, OrdinaryPath, Timestamp, atomic, tree};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The longest profile name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The planned effect of saving a login under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavePlan {
    /// The name of the profile after the save.
    pub profile: String,
    /// The present name of the account's profile, if the save renames that profile.
    pub renamed_from: Option<String>,
    pub outcome: SaveOutcome,
    /// True if an export moved the login away, and the profile takes it back.
    pub takes_back: bool,
}

/// A login in `history/` of a profile.
#[derive(Debug, Clone)]
pub struct HistoryLogin {
    /// The file name in `history/`.
    pub name: String,
    pub auth: AuthFile,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredLogin {
    /// The file name that the login had in `history/`.
    pub login: String,
    pub freshness: Freshness,
    /// True if a newer login of the account was observed, so that the refresh token is probably spent.
    pub is_stale: bool,
}

/// Checks that `name` is a valid profile name.
///
/// # Errors
/// [`ProfileError::BadName`] with the reason.
pub fn check_profile_name(name: &str) -> Result<(), ProfileError> {
    match find_name_problem(name) {
        None => Ok(()),
        Some(reason) => Err(ProfileError::BadName {
            name: name.to_owned(),
            reason,
        }),
    }
}

/// Returns the reason why `name` is not a valid profile name; `None` if it is valid.
pub fn find_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("too long")
    } else if name.starts_with(['.', '-']) {
        Some("it begins with a dot or a hyphen")
    } else if name == "latest" {
        Some("restore uses it for the newest archive")
    } else if encode_label(name) != name {
        Some("only letters, digits and @ . _ + - are allowed")
    } else {
        None
    }
}

/// Returns the name of the account's profile. If it has none, derives the name of a new one from the email, without the
/// characters that names cannot have. Returns the first valid and free name of these: the part before the `@`, the
/// whole email, the email with a number. If none is valid, returns the email.
///
/// # Errors
/// Several profiles match the account.
pub fn derive_default_name(
    profiles: &[Profile],
    identity: &Identity,
) -> Result<String, ProfileError> {
    if let Some(profile) = find_own_profile(profiles, identity)? {
        return Ok(profile.name.clone());
    }

    // Each character follows an `x`, because `encode_label` encodes a dot or a hyphen at the beginning.
    let is_allowed = |c: &char| encode_label(&format!("x{c}")).ends_with(*c);
    let allowed_chars = identity.email.as_str().chars().filter(is_allowed);
    let email_chars = allowed_chars.skip_while(|c| matches!(c, '.' | '-'));
    let email: String = email_chars.collect();

    let local_part = email.split('@').next().unwrap_or_default().to_owned();
    let numbered = (2..).map(|number| format!("{email}-{number}"));
    let names = [local_part, email.clone()].into_iter().chain(numbered);

    let own_profile = None;
    let is_free = |name: &String| {
        find_name_problem(name).is_none()
            && check_name_free(profiles, name, own_profile).is_ok()
            && check_not_anothers_email(profiles, name, identity).is_ok()
    };

    // Each profile makes at most two names unavailable, and the first two may be invalid, or the same. If the email is
    // too long, no name is valid.
    let free_name = names.take(2 * profiles.len() + 3).find(is_free);
    Ok(free_name.unwrap_or(email))
}

/// Plans saving a login as `name`, given all profiles. Reads no files.
///
/// An account has one profile, so a profile of the account with another name is renamed.
///
/// # Errors
/// The name is invalid or taken by another account, or the copy is ordinary and the login was moved to another machine.
pub fn plan_save(
    profiles: &[Profile],
    name: &str,
    (snapshot, login): (&AuthSnapshot, &Login),
    copy_kind: LoginCopy,
) -> Result<SavePlan, ProfileError> {
    check_profile_name(name)?;
    let old_profile = find_own_profile(profiles, &login.identity)?;
    check_name_free(profiles, name, old_profile)?;
    check_not_anothers_email(profiles, name, &login.identity)?;

    let outcome = predict_save_outcome(old_profile, snapshot, login);
    let is_moved_login = |p: &Profile| {
        let is_same = |moved: &AuthSnapshot| moved.fingerprint() == snapshot.fingerprint();
        p.file.owner == LoginOwner::Moved && p.snapshot().is_some_and(is_same)
    };
    let takes_back = outcome != SaveOutcome::KeptNewer && old_profile.is_some_and(is_moved_login);
    // An ordinary copy does not bring back a login that was moved to another machine.
    if takes_back
        && copy_kind == LoginCopy::Ordinary
        && let Some(moved) = old_profile
    {
        return Err(ProfileError::Moved(moved.name.clone()));
    }

    let old_name = old_profile.map(|p| p.name.clone());
    Ok(SavePlan {
        profile: name.to_owned(),
        renamed_from: old_name.filter(|old| old != name),
        outcome,
        takes_back,
    })
}

/// Fails if `name` is the email of a different account than `account`, because a user who types the email
/// means that account. Accounts that share an email may all use it as their name.
pub(crate) fn check_not_anothers_email(
    profiles: &[Profile],
    name: &str,
    account: &Identity,
) -> Result<(), ProfileError> {
    let has_email = |identity: &&Identity| identity.email.key() == name.to_lowercase();
    let mut identities = profiles.iter().filter_map(Profile::identity);
    match identities.find(has_email) {
        Some(other_account) if !has_email(&account) => Err(ProfileError::EmailOfAnother {
            name: name.to_owned(),
            account: other_account.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Fails if a different profile than `own_profile` is called `name`. Names that differ in letter case only are
/// the same, as on macOS and Windows disks.
pub(super) fn check_name_free(
    profiles: &[Profile],
    name: &str,
    own_profile: Option<&Profile>,
) -> Result<(), ProfileError> {
    let has_same_name = |p: &&Profile| p.name.to_lowercase() == name.to_lowercase();
    match profiles.iter().find(has_same_name) {
        Some(namesake) if own_profile.is_none_or(|p| p.name != namesake.name) => {
            let account = namesake.identity().map(Identity::to_string);
            Err(ProfileError::Taken {
                name: namesake.name.clone(),
                account: account.unwrap_or_default(),
            })
        }
        _ => Ok(()),
    }
}

/// Returns the login with a file name that begins with `file_name_start`; the newest login if that is `None`.
fn choose_history_login<'a>(
    usable_logins: &'a [HistoryLogin],
    file_name_start: Option<&str>,
) -> Option<&'a HistoryLogin> {
    let mut newest_files_first = usable_logins.iter();
    if let Some(file_name_start) = file_name_start {
        return newest_files_first.find(|login| login.name.starts_with(file_name_start));
    }
    // The newest file may have the oldest login. `max_by` returns the last of equal logins, so newest files come last.
    let freshness_of = |history_login: &HistoryLogin| {
        let login = history_login.auth.login();
        login.map(|l| l.freshness).unwrap_or_default()
    };
    newest_files_first
        .rev()
        .max_by(|a, b| freshness_of(a).compare(&freshness_of(b)))
}

impl Profiles {
    pub fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Saves a login as `name`; see [`plan_save`]. A replaced login goes to the history. Everything
    /// is durable on return.
    ///
    /// # Errors
    /// Those of [`plan_save`], and I/O errors.
    pub fn save_as(
        &self,
        name: &str,
        (snapshot, login): (&AuthSnapshot, &Login),
        codex_home: &Path,
        copy_kind: LoginCopy,
        now: Timestamp,
    ) -> Result<(SavePlan, SaveReport), ProfileError> {
        check_profile_name(name)?;
        atomic::create_private_folder(&self.folder)?;
        let _lock = FileLock::acquire(&self.lock)?;

        let profiles = self.list()?;
        let plan = plan_save(&profiles, name, (snapshot, login), copy_kind)?;
        let old_name = plan.renamed_from.as_deref().unwrap_or(name);
        let profile_on_disk = profiles.into_iter().find(|p| p.name == old_name);
        match &profile_on_disk {
            Some(_) => self.require_readable_version(old_name)?,
            None => self.require_all_readable()?,
        }

        match (&plan.renamed_from, &profile_on_disk) {
            (Some(old_name), _) => self.rename_folder(old_name, name)?,
            (None, None) => self.ensure_folder_free(name)?,
            (None, Some(_)) => {}
        }
        // The folder has the new name from here on.
        let existing_profile = profile_on_disk.map(|profile| Profile {
            name: name.to_owned(),
            ..profile
        });

        // A new profile takes over the record of a removed one, for example the spent logins of the account.
        let old_profile = existing_profile.or_else(|| self.recall_removed_profile(name, login));

        // A Codex home that is signed in to the account owns its login, even if the user saves a login from a file.
        let profile = old_profile
            .clone()
            .unwrap_or_else(|| Profile::unsaved(name, login));
        let live_home = profile.find_live_home(codex_home);
        let owner = match (copy_kind, live_home.as_deref()) {
            (LoginCopy::Ordinary, Some(home)) => OwnerLocation::Live(home),
            (LoginCopy::Ordinary, None) => OwnerLocation::Profile,
            (LoginCopy::Owner, Some(home)) => OwnerLocation::AssertedLive(home),
            (LoginCopy::Owner, None) => OwnerLocation::AssertedProfile,
        };

        let saved = self.save_into(name, old_profile.as_ref(), (snapshot, login), owner, now)?;
        Ok((plan, saved))
    }

    /// Returns true if `path` is the auth.json of this account's profile.
    ///
    /// # Errors
    /// Several profiles match `account`, or an I/O error.
    pub fn is_saved_auth(&self, path: &Path, account: &Identity) -> Result<bool, ProfileError> {
        let profile = self.find(account)?;
        let file = profile.map(|profile| self.folder_of(&profile.name).join(AUTH_JSON));
        Ok(file.is_some_and(|file| file.canonical_or_self() == path.canonical_or_self()))
    }

    /// Renames a profile. With `dry_run`, only checks that it is possible.
    ///
    /// # Errors
    /// No profile has the name `old`, or `new` is invalid or taken.
    pub fn rename(&self, old: &str, new: &str, dry_run: bool) -> Result<(), ProfileError> {
        check_profile_name(new)?;
        let _lock = self.lock_unless_dry_run(dry_run)?;
        let profiles = self.list()?;
        let profile = self.find_named(&profiles, old)?;

        check_name_free(&profiles, new, Some(profile))?;
        if let Some(identity) = profile.identity() {
            check_not_anothers_email(&profiles, new, identity)?;
        }

        if profile.name == new || dry_run {
            return Ok(());
        }
        self.rename_folder(&profile.name, new)
    }

    /// Adds a login of the profile's account to its history, unless it is already there.
    ///
    /// # Errors
    /// An I/O error.
    pub(crate) fn add_to_history(
        &self,
        name: &str,
        snapshot: &AuthSnapshot,
        now: Timestamp,
    ) -> Result<(), ProfileError> {
        let _lock = self.lock_if_folder_exists()?;
        let folder = self.folder_of(name);
        Ok(add_to_history_folder(&folder, &snapshot.bytes, now)?)
    }

    /// Reads the logins in the history of a profile, newest file first. Returns none if the history cannot be listed.
    ///
    /// # Errors
    /// A file of the history cannot be read.
    pub fn read_history(&self, name: &str) -> Result<Vec<HistoryLogin>, ProfileError> {
        let folder = self.folder.join(name).join(HISTORY);
        let names = list_history_names(&folder).unwrap_or_default();
        names
            .into_iter()
            .rev()
            .map(|name| {
                let auth = AuthFile::read(&folder.join(&name))?;
                Ok(HistoryLogin { name, auth })
            })
            .collect()
    }

    /// Replaces the login of a profile by one of its history: the login whose file name begins with `file_name_start`,
    /// or the newest login. The replaced login goes to the history. The newest freshness stays recorded.
    ///
    /// # Errors
    /// No profile or login has the name, the account is signed in, its login was moved to another machine, or an I/O
    /// error.
    pub fn restore_login(
        &self,
        name: &str,
        file_name_start: Option<&str>,
        codex_home: &Path,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<RestoredLogin, ProfileError> {
        let _lock = self.lock_unless_dry_run(dry_run)?;
        let profile = self.find_by_name(name)?;
        self.require_readable_version(&profile.name)?;
        let name = profile.name.clone();
        if let Some(home) = profile.find_live_home(codex_home) {
            return Err(ProfileError::IsLive { name, home });
        }

        // The profile must keep the moved login: a copy of it is recognized by comparison with the profile's login.
        if profile.file.owner == LoginOwner::Moved {
            return Err(ProfileError::Moved(name));
        }

        let mut usable_logins = self.read_history(&name)?;
        usable_logins.retain(|history_login| {
            let login = history_login.auth.login();
            login.is_some_and(|login| profile.is_of(&login.identity))
                && history_login.auth.snapshot() != profile.snapshot()
        });

        let chosen = choose_history_login(&usable_logins, file_name_start);
        let Some((history_login, snapshot, login)) =
            chosen.and_then(|old| Some((old, old.auth.snapshot()?, old.auth.login()?)))
        else {
            return Err(ProfileError::NoSuchLogin {
                name,
                wanted: file_name_start.map(str::to_owned),
                choices: usable_logins.into_iter().map(|old| old.name).collect(),
            });
        };

        let is_stale = profile.newest().is_newer_than(&login.freshness);
        if !dry_run {
            let folder = self.folder.join(&name);
            // The newest freshness is recorded before the login that has it is replaced.
            let mut file = profile.file.clone();
            file.newest = profile.newest();
            self.write_record(&name, &file)?;
            if let Some(replaced) = profile.snapshot() {
                add_to_history_folder(&folder, &replaced.bytes, now)?;
            }
            atomic::write(&folder.join(AUTH_JSON), snapshot.bytes.expose())?;
        }

        Ok(RestoredLogin {
            login: history_login.name.clone(),
            freshness: login.freshness,
            is_stale,
        })
    }

    /// Returns the profile of this name, ignoring letter case.
    ///
    /// # Errors
    /// No profile has the name, or an I/O error.
    pub fn find_by_name(&self, name: &str) -> Result<Profile, ProfileError> {
        self.find_named(&self.list()?, name).cloned()
    }

    pub(super) fn find_named<'a>(
        &self,
        profiles: &'a [Profile],
        name: &str,
    ) -> Result<&'a Profile, ProfileError> {
        profiles
            .iter()
            .find(|p| p.name.to_lowercase() == name.to_lowercase())
            .ok_or_else(|| self.unknown_profile_error(profiles, name))
    }

    pub fn unknown_profile_error(&self, profiles: &[Profile], name: &str) -> ProfileError {
        ProfileError::Unknown {
            name: name.to_owned(),
            choices: profiles.iter().map(|p| p.name.clone()).collect(),
            can_undo_removal: self.can_undo_removal(name),
        }
    }

    /// Locks the profiles; `None` if the folder of profiles does not exist, because then there is nothing to lock.
    pub(super) fn lock_if_folder_exists(&self) -> Result<Option<FileLock>, IoError> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        FileLock::acquire(&self.lock).map(Some)
    }

    /// Like [`Profiles::lock_if_folder_exists`]; `None` in a dry run, which must not create a lock file.
    pub(super) fn lock_unless_dry_run(&self, dry_run: bool) -> Result<Option<FileLock>, IoError> {
        if dry_run {
            Ok(None)
        } else {
            self.lock_if_folder_exists()
        }
    }

    fn rename_folder(&self, old: &str, new: &str) -> Result<(), ProfileError> {
        // On some disks, names that differ only in letter case name the same folder.
        if old.to_lowercase() != new.to_lowercase() {
            self.ensure_folder_free(new)?;
        }
        atomic::rename(&self.folder.join(old), &self.folder.join(new))?;
        Ok(())
    }

    /// Fails if the folder for a new profile has something else, which is no profile of this name. Removes what a
    /// killed save left there.
    fn ensure_folder_free(&self, name: &str) -> Result<(), ProfileError> {
        let folder = self.folder.join(name);
        match folder.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).at("read", &folder).map_err(Into::into),
            Ok(_) if is_unfinished_profile(&folder) => Ok(tree::remove(&folder)?),
            Ok(_) => Err(ProfileError::NotAProfile(folder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::profile::ProfileFile;
    use crate::io::secret::SecretBytes;

    fn who(user: &str) -> Identity {
        Identity {
            account_id: Some("team".into()),
            user_id: Some(user.into()),
            ..Identity::from_email("a@x.com")
        }
    }

    fn login(user: &str, day: i64) -> (AuthSnapshot, Login) {
        let login = Login {
            identity: who(user),
            plan: None,
            freshness: Freshness {
                last_refresh: chrono::DateTime::from_timestamp(day * 86_400, 0),
                ..Freshness::default()
            },
        };
        let snapshot = AuthSnapshot {
            bytes: SecretBytes::new(format!("{user} {day}").into_bytes()),
            login: Some(login.clone()),
        };
        (snapshot, login)
    }

    fn profile(name: &str, user: &str, day: i64) -> Profile {
        let (snapshot, login) = login(user, day);
        Profile {
            name: name.into(),
            file: ProfileFile {
                identity: Some(login.identity),
                ..ProfileFile::default()
            },
            auth: AuthFile::Present(snapshot),
            damaged: None,
            unusable: None,
        }
    }

    #[test]
    fn an_account_has_one_profile_and_a_profile_one_account() {
        use SaveOutcome::{Created, KeptNewer, Unchanged, Updated};
        let all = [profile("work", "u1", 2), profile("home", "u2", 2)];
        let plan = |name: &str, user: &str, day| {
            let (snapshot, login) = login(user, day);
            plan_save(&all, name, (&snapshot, &login), LoginCopy::Ordinary)
                .map(|plan| (plan.renamed_from, plan.outcome))
                .map_err(|e| e.to_string())
        };
        assert_eq!(plan("work", "u1", 2), Ok((None, Unchanged)));
        assert_eq!(plan("work", "u1", 3), Ok((None, Updated)));
        assert_eq!(plan("work", "u1", 1), Ok((None, KeptNewer)));
        assert_eq!(plan("client", "u1", 3), Ok((Some("work".into()), Updated)));
        assert_eq!(plan("Work", "u1", 2), Ok((Some("work".into()), Unchanged)));
        assert_eq!(plan("new", "u3", 1), Ok((None, Created)));
        let taken = Err("the profile work belongs to a@x.com".into());
        assert_eq!(plan("work", "u2", 3), taken);
        assert_eq!(plan("WORK", "u3", 3), taken);
    }

    #[test]
    fn profile_names_that_are_too_long_or_have_forbidden_characters_are_refused() {
        for good in ["work", "me@example.com", "a+b_c-1.2"] {
            assert!(check_profile_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "", ".", "..", ".trash", "-x", "a/b", "a\\b", "a\nb", "a b", &long,
        ] {
            assert!(check_profile_name(bad).is_err(), "{bad:?}");
        }
    }
}
