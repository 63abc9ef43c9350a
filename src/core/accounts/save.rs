//! Saves a login into the profile of its account. The newest login stays in the profile, and older ones go to its
//! history.

use super::owner::OwnerLocation;
use super::profile::{
    HISTORY, LoginOwner, Profile, ProfileError, ProfileFile, Profiles, is_unfinished_profile,
};
use crate::archive::encode_label;
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Identity, Login};
use crate::io::{
    FileLock, IoContext, IoError, OrdinaryPath, SecretBytes, Timestamp, atomic, hash, sharing, tree,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The number of older logins that a profile keeps in `history/`.
pub(crate) const MAX_HISTORY_LOGINS: usize = 5;

/// The number of hex digits of a content hash in file names.
const FILE_DIGEST_CHARS: usize = 12;

/// The folder in `profiles/` for quarantined files: content of an auth.json that is no login.
const UNREADABLE: &str = ".unreadable";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaveReport {
    pub profile: String,
    pub outcome: SaveOutcome,
}

/// The effect of a save on the login in a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaveOutcome {
    /// The account had no profile, or one without a readable auth.json of its own.
    Created,
    /// The profile had another auth.json, which went to its history: it is not newer, or is known to be spent.
    Updated,
    /// The profile already had the same bytes.
    Unchanged,
    /// The login in the profile is newer; the saved one went to its history.
    KeptNewer,
}

/// The content of an auth.json that is about to be removed or replaced.
pub(crate) enum LoginToKeep<'a> {
    Missing,
    Login(&'a AuthSnapshot, &'a Login),
    /// The content was not a login. A copy of it is at this path.
    Quarantined(PathBuf),
}

impl Profiles {
    /// Saves a login to the profile of its account. The newer of this login and the login there stays; the older one
    /// goes to `history/`. Creates the profile, named after the email, if the account has none.
    ///
    /// `login` is the login in `snapshot`, and `owner` is the new location of the owner copy. Everything is durable on
    /// return.
    pub(crate) fn save_back(
        &self,
        snapshot: &AuthSnapshot,
        login: &Login,
        owner: OwnerLocation<'_>,
        now: Timestamp,
    ) -> Result<SaveReport, ProfileError> {
        atomic::create_private_folder(&self.folder)?;
        // One lock for all profiles: the search for the profile of an account and its creation are one step.
        let _lock = FileLock::acquire(&self.lock)?;
        let old_profile = self.find(&login.identity)?;
        if old_profile.is_none() {
            self.require_all_readable()?;
        }
        let name = match &old_profile {
            Some(profile) => profile.name.clone(),
            None => self.find_free_profile_name(&login.identity),
        };
        let old_profile = old_profile.or_else(|| self.recall_removed_profile(&name, login));
        self.save_into(&name, old_profile.as_ref(), (snapshot, login), owner, now)
    }

    /// Saves a login into `name`: the profile of its account, or a new one. The caller holds the lock.
    pub(super) fn save_into(
        &self,
        name: &str,
        old_profile: Option<&Profile>,
        (snapshot, login): (&AuthSnapshot, &Login),
        owner: OwnerLocation<'_>,
        now: Timestamp,
    ) -> Result<SaveReport, ProfileError> {
        let folder = self.folder.join(name);
        atomic::create_private_folder(&folder)?;
        // A temp file of a killed save may contain a login.
        atomic::remove_stale_temps(&folder);

        let outcome = predict_save_outcome(old_profile, snapshot, login);
        let old_snapshot = old_profile.and_then(Profile::snapshot);
        match (outcome, old_snapshot) {
            // An older login may be the only one that works, if the newer one was signed out.
            (SaveOutcome::KeptNewer, _) => add_to_history_folder(&folder, &snapshot.bytes, now)?,
            (SaveOutcome::Updated, Some(old)) => add_to_history_folder(&folder, &old.bytes, now)?,
            // This auth.json is unreadable or of another account, so the profile counts as one without a login.
            (SaveOutcome::Created, _) if folder.join(AUTH_JSON).exists() => {
                self.move_to_quarantine(&folder.join(AUTH_JSON), now)?;
            }
            _ => {}
        }

        let new_record = record_after_save(outcome, old_profile, (snapshot, login), owner, now);
        let needs_record = match (outcome, old_profile) {
            // If `profile.json` is damaged, the owner of the newer login is unknown, so nothing is recorded.
            (SaveOutcome::KeptNewer, Some(old)) if old.damaged.is_some() => false,
            // The record of a removed profile must be written to the new folder, even if it did not change.
            (SaveOutcome::Created, _) | (_, None) => true,
            (_, Some(old)) => old.file != new_record,
        };

        // Write order: an owner elsewhere is recorded before the copy is written, an owner in the
        // profile after it. A kill in between never makes a copy count as the owner.
        let is_elsewhere = new_record.owner != LoginOwner::Profile;
        if needs_record && is_elsewhere {
            self.write_record(name, &new_record)?;
        }
        if matches!(outcome, SaveOutcome::Created | SaveOutcome::Updated) {
            atomic::write(&folder.join(AUTH_JSON), snapshot.bytes.expose())?;
        }
        if needs_record && !is_elsewhere {
            self.write_record(name, &new_record)?;
        }

        Ok(SaveReport {
            profile: name.to_owned(),
            outcome,
        })
    }

    fn create_quarantine_folder(&self) -> Result<PathBuf, IoError> {
        let folder = self.folder.join(UNREADABLE);
        atomic::create_private_folder(&folder)?;
        Ok(folder)
    }

    /// Moves an auth.json that is no login from a profile into quarantine.
    fn move_to_quarantine(&self, path: &Path, now: Timestamp) -> Result<(), IoError> {
        let name = format!("profile-{}.json", format_stamp(now));
        let target = self.create_quarantine_folder()?.join(name);
        atomic::rename(path, &atomic::find_free_path(&target))
    }

    /// Writes the bytes of an unreadable auth.json into quarantine before they are replaced.
    /// Returns the path.
    pub(crate) fn quarantine_bytes(&self, bytes: &SecretBytes) -> Result<PathBuf, IoError> {
        let digest = &hash::sha256(bytes.expose())[..FILE_DIGEST_CHARS];
        let name = format!("auth-{digest}.json");
        let path = self.create_quarantine_folder()?.join(name);
        atomic::write(&path, bytes.expose())?;
        Ok(path)
    }

    /// Returns the login in an auth.json that is about to be removed or replaced. Copies content that is no login to
    /// quarantine.
    pub(super) fn extract_login_or_quarantine<'a>(
        &self,
        auth: &'a AuthFile,
    ) -> Result<LoginToKeep<'a>, IoError> {
        if let (Some(snapshot), Some(login)) = (auth.snapshot(), auth.login()) {
            return Ok(LoginToKeep::Login(snapshot, login));
        }
        match auth.bytes() {
            Some(bytes) => self.quarantine_bytes(bytes).map(LoginToKeep::Quarantined),
            None => Ok(LoginToKeep::Missing),
        }
    }

    /// Returns the email as a safe folder name, with a number if the name is taken.
    fn find_free_profile_name(&self, identity: &Identity) -> String {
        let label = encode_label(identity.email.as_str());
        let mut name = label.clone();
        let mut number = 1;
        while self.folder.join(&name).exists() && !is_unfinished_profile(&self.folder.join(&name)) {
            number += 1;
            name = format!("{label}-{number}");
        }
        name
    }
}

/// Formats an instant for a file name, in UTC with microseconds.
pub(super) fn format_stamp(now: Timestamp) -> impl std::fmt::Display {
    now.to_utc().format("%Y%m%dT%H%M%S%6fZ")
}

/// Returns the content of `profile.json` after a save. Pure, except that it reads the auth.json of the
/// recorded Codex home.
fn record_after_save(
    outcome: SaveOutcome,
    old_profile: Option<&Profile>,
    (snapshot, login): (&AuthSnapshot, &Login),
    owner: OwnerLocation<'_>,
    now: Timestamp,
) -> ProfileFile {
    let old_record = old_profile.map(|p| p.file.clone()).unwrap_or_default();
    let newest = old_profile.map(Profile::newest).unwrap_or_default();
    let old_login = old_profile.and_then(|p| Some((p.snapshot()?, p.login()?)));

    // If the newest observed login is spent, its successor is newer, even if clocks make its timestamp older.
    let is_successor_of_spent = outcome == SaveOutcome::Updated
        && old_profile.is_some_and(Profile::is_superseded)
        && old_login.is_some_and(|(_, old)| old.freshness == newest);
    let is_newest = is_successor_of_spent || login.freshness.is_newer_than(&newest);

    let fingerprint = snapshot.fingerprint();
    let has_same_login =
        old_login.is_some_and(|(snapshot, _)| snapshot.fingerprint() == fingerprint);
    let keeps_owner = old_profile.is_some_and(|profile| {
        keeps_recorded_owner(profile, outcome, snapshot, has_same_login, owner)
    });

    let mut record = ProfileFile {
        identity: Some(login.identity.clone()),
        plan: login.plan.clone(),
        newest: if is_newest { login.freshness } else { newest },
        saved_at: match outcome {
            SaveOutcome::Unchanged | SaveOutcome::KeptNewer => old_record.saved_at.or(Some(now)),
            SaveOutcome::Created | SaveOutcome::Updated => Some(now),
        },
        ..old_record
    };

    if !keeps_owner {
        record.owner = match owner.live_home() {
            Some(_) => LoginOwner::Live,
            None => LoginOwner::Profile,
        };
        record.live_home = owner.live_home().map(OrdinaryPath::canonical_or_self);
        // A new owner ends a move that an export recorded.
        record.moving = None;
        record.moved_with = None;
    }

    // The older of two different logins is spent from now on.
    let spent = match outcome {
        _ if has_same_login => None,
        SaveOutcome::Updated => old_login.map(|(snapshot, _)| snapshot.fingerprint()),
        SaveOutcome::KeptNewer => Some(fingerprint),
        SaveOutcome::Created | SaveOutcome::Unchanged => None,
    };
    if let Some(spent) = spent {
        record.mark_superseded(spent);
    }

    record
}

/// Returns true if a save must not change the recorded owner: saving a copy or an older login neither undoes a move nor
/// replaces a live owner. `has_same_login` is true if the profile has the same login.
fn keeps_recorded_owner(
    profile: &Profile,
    outcome: SaveOutcome,
    snapshot: &AuthSnapshot,
    has_same_login: bool,
    owner: OwnerLocation<'_>,
) -> bool {
    let is_moved = profile.file.owner == LoginOwner::Moved;
    // Only the user can say that a login that was moved to another machine is back.
    let needs_assertion = is_moved && !owner.is_asserted();
    match outcome {
        SaveOutcome::KeptNewer => is_moved || profile.may_be_live_elsewhere(owner),
        // `profile` has the record of a removed profile. Unlike a refresh token, an API key can be used on several
        // machines.
        SaveOutcome::Created => {
            let is_newest = snapshot.freshness().is_newer_than(&profile.newest());
            needs_assertion && !is_newest && profile.is_renewable()
        }
        SaveOutcome::Updated | SaveOutcome::Unchanged if needs_assertion && has_same_login => true,
        SaveOutcome::Updated | SaveOutcome::Unchanged => {
            profile.may_be_live_elsewhere(owner)
                && match profile.is_live_login_outdated_by(snapshot) {
                    Some(is_outdated) => !is_outdated,
                    // Only a login that the profile lacks changes the owner.
                    None => has_same_login,
                }
        }
    }
}

/// Predicts the effect of saving `login` to `old_profile`, the profile of its account. Reads no files.
pub(crate) fn predict_save_outcome(
    old_profile: Option<&Profile>,
    snapshot: &AuthSnapshot,
    login: &Login,
) -> SaveOutcome {
    let Some((profile, old)) = old_profile.and_then(|p| Some((p, p.snapshot()?))) else {
        return SaveOutcome::Created;
    };
    if old.bytes == snapshot.bytes {
        return SaveOutcome::Unchanged;
    }

    // Because clocks differ, the login in the profile may be spent although its time is newer.
    let is_only_old_spent = || {
        let superseded = &profile.file.superseded;
        profile.is_superseded() && !superseded.contains(&snapshot.fingerprint())
    };

    // API keys have no age, so the saved key always replaces the one in the profile.
    if old.freshness().is_newer_than(&login.freshness)
        && login.identity.kind.is_renewable()
        && !is_only_old_spent()
    {
        SaveOutcome::KeptNewer
    } else {
        SaveOutcome::Updated
    }
}

/// Returns the sorted file names of the logins in a `history/` folder.
pub(super) fn list_history_names(history: &Path) -> Result<Vec<String>, IoError> {
    let entries = tree::list_if_exists(history)?.into_iter();
    let names = entries.filter_map(|(name, _)| name.into_string().ok());
    let is_login = |name: &String| name.strip_suffix(".json").is_some();
    Ok(names.filter(is_login).collect())
}

/// Adds a login to `history/`, unless it is already there, and removes the oldest of the other logins so that
/// [`MAX_HISTORY_LOGINS`] remain. The age of a login counts, not that of its file.
pub(super) fn add_to_history_folder(
    folder: &Path,
    bytes: &SecretBytes,
    now: Timestamp,
) -> Result<(), IoError> {
    let history = folder.join(HISTORY);
    atomic::create_private_folder(&history)?;

    let digest = &hash::sha256(bytes.expose())[..FILE_DIGEST_CHARS];
    let names = list_history_names(&history)?;
    // The name has the digest, so that no file of the history is read.
    if names.iter().any(|name| name.contains(digest)) {
        return Ok(());
    }

    let name = format!("{}-{digest}.json", format_stamp(now));
    atomic::write(&history.join(&name), bytes.expose())?;

    let surplus = (names.len() + 1).saturating_sub(MAX_HISTORY_LOGINS);
    if surplus == 0 {
        return Ok(());
    }

    let read_freshness = |name: &str| {
        let auth = AuthFile::read(&history.join(name)).ok();
        let login = auth.as_ref().and_then(AuthFile::login);
        login.map(|l| l.freshness).unwrap_or_default()
    };
    let names_with_age = names.into_iter().map(|name| (read_freshness(&name), name));
    let mut names_by_age: Vec<_> = names_with_age.collect();
    names_by_age.sort_by(|(a, a_name), (b, b_name)| a.compare(b).then_with(|| a_name.cmp(b_name)));

    for (_, name) in names_by_age.iter().take(surplus) {
        let path = history.join(name);
        sharing::remove_file(&path).at("remove", &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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

    fn save(profiles: &Profiles, snapshot: &AuthSnapshot, second: u32) -> SaveReport {
        let login = snapshot.login.clone().unwrap();
        profiles
            .save_back(snapshot, &login, OwnerLocation::Profile, at(second))
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
    fn at_most_five_logins_are_in_the_history() {
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
        assert_eq!(fs::read_dir(history).unwrap().count(), MAX_HISTORY_LOGINS);
    }

    #[test]
    fn the_newest_login_and_the_last_one_added_never_leave_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |day: u32, second| {
            let login = login("u", &format!("2026-11-{day:02}T00:00:00Z"));
            add_to_history_folder(folder.path(), &login.bytes, at(second)).unwrap();
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
        // The last entry stays too: its path was reported just now.
        assert_eq!(days, ["04", "07", "08", "09", "20"]);
    }
}
