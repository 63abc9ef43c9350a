//! Removed profiles: in the trash, or deleted permanently.
//!
//! The freshness of an account's logins stays recorded after the removal, so that an old copy of a login is later
//! recognized as old.

use super::lease::account_key;
use super::profile::{HISTORY, LoginOwner, Profile, ProfileError, ProfileFile, Profiles};
use super::profile_ops::check_name_free;
use super::save::format_stamp;
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Identity, Login};
use crate::io::{Document, DocumentError, DocumentState, Timestamp, atomic, document, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The folder in `profiles/` for removed profiles.
const TRASH: &str = ".trash";

/// The file in `profiles/` that records the logins of permanently deleted profiles.
const DELETED: &str = ".deleted.json";

/// The document [`DELETED`]. Contains neither tokens nor names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct DeletedFile {
    /// The last record of each account, by the hash of its ids.
    accounts: BTreeMap<String, ProfileFile>,
}

impl Document for DeletedFile {}

/// A profile that was put back from the trash.
#[derive(Debug)]
pub struct UndoneRemoval {
    pub name: String,
    /// Its folder in the trash.
    pub trashed_folder: PathBuf,
    /// True if a newer login of the account was observed, so that the refresh token of this login is probably spent.
    pub is_stale: bool,
    /// The login, unless it is known to be spent or was moved to another machine.
    pub(crate) usable_login: Option<AuthSnapshot>,
}

/// A profile in the trash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TrashedProfile {
    /// The end of the folder name: the time of the removal, and maybe a number. First, so that it decides the order.
    stamp: String,
    name: String,
    /// The name of the folder in the trash.
    folder: String,
}

impl Profiles {
    /// Returns a new profile `name` for `login`, with the record of an earlier, removed profile of the
    /// account; `None` if no profile of the account was removed.
    pub(crate) fn recall_removed_profile(&self, name: &str, login: &Login) -> Option<Profile> {
        let mut profile = Profile::unsaved(name, login);
        profile.file = self.read_removed_record(&login.identity)?;
        Some(profile)
    }

    /// Reads the last `profile.json` of an account whose profile was removed, merged from the trash and
    /// the record of deleted profiles. Of these, one that cannot be read counts as empty.
    pub(crate) fn read_removed_record(&self, identity: &Identity) -> Option<ProfileFile> {
        let mut records = Vec::new();
        for TrashedProfile { stamp, folder, .. } in self.list_trash().unwrap_or_default() {
            // If a `profile.json` cannot be read, only its record is missing from the result.
            let profile = self.read(format!("{TRASH}/{folder}"));
            if profile.is_of(identity) {
                let record = ProfileFile {
                    newest: profile.newest(),
                    ..profile.file
                };
                records.push((stamp, record));
            }
        }

        let deleted_file = document::read::<DeletedFile>(&self.folder.join(DELETED)).ok();
        let deleted_file = deleted_file.and_then(DocumentState::good);
        let mut deleted_records = deleted_file.unwrap_or_default().accounts;
        if let Some(record) = deleted_records.remove(&account_key(identity)) {
            // An empty stamp sorts before the stamps of folders.
            records.push((String::new(), record));
        }

        // The last record wins: by the newest login; if equal, by the latest removal; if equal, a moved login.
        let is_moved = |record: &ProfileFile| record.owner == LoginOwner::Moved;
        records.sort_by(|(a_stamp, a), (b_stamp, b)| {
            let by_age = a.newest.compare(&b.newest);
            by_age.then_with(|| (a_stamp, is_moved(a)).cmp(&(b_stamp, is_moved(b))))
        });

        // A login that is spent in one record is spent.
        let superseded: Vec<_> = records
            .iter()
            .flat_map(|(_, record)| record.superseded.clone())
            .collect();

        let (_, mut record) = records.pop()?;
        record.merge_superseded(&superseded);
        // The record of a deleted profile has no identity.
        record.identity = Some(identity.clone());
        Some(record)
    }

    fn list_trash(&self) -> Result<Vec<TrashedProfile>, ProfileError> {
        let entries = tree::list_if_exists(&self.folder.join(TRASH))?.into_iter();
        let trashed = entries.filter_map(|(folder, _)| {
            let folder = folder.into_string().ok()?;
            let name = parse_trashed_name(&folder)?.to_owned();
            Some(TrashedProfile {
                stamp: folder[name.len()..].to_owned(),
                name,
                folder,
            })
        });
        Ok(trashed.collect())
    }

    /// Moves a profile to the trash. Returns its path there.
    ///
    /// # Errors
    /// No profile has the name, or an I/O error.
    pub fn move_to_trash(&self, name: &str, now: Timestamp) -> Result<PathBuf, ProfileError> {
        let _lock = self.lock_if_folder_exists()?;
        let profiles = self.list()?;
        let name = &self.find_named(&profiles, name)?.name;
        let trash = self.folder.join(TRASH);
        atomic::create_private_folder(&trash)?;
        let trashed = atomic::find_free_path(&trash.join(format!("{name}-{}", format_stamp(now))));
        atomic::rename(&self.folder.join(name), &trashed)?;
        atomic::sync_folder(&self.folder)?;
        Ok(trashed)
    }

    /// Restores the profile that was removed last, or the last one of this name; `None` if the trash has no such
    /// profile. With `dry_run`, changes nothing and returns the same.
    ///
    /// # Errors
    /// The account or the name has a profile again, or an I/O error.
    pub fn undo_remove(
        &self,
        wanted_name: Option<&str>,
        dry_run: bool,
    ) -> Result<Option<UndoneRemoval>, ProfileError> {
        let _lock = self.lock_unless_dry_run(dry_run)?;
        let Some(TrashedProfile { name, folder, .. }) = self.find_last_removed(wanted_name)? else {
            return Ok(None);
        };

        let profiles = self.list()?;
        let removed = self.read(format!("{TRASH}/{folder}"));
        if let Some(identity) = removed.identity()
            && let Some(newer_profile) = profiles.iter().find(|p| p.is_of(identity))
        {
            return Err(ProfileError::HasProfile {
                account: identity.to_string(),
                name: newer_profile.name.clone(),
                removed: name,
                is_removed_older: identity.kind.is_renewable()
                    && !is_login_newer(&removed, newer_profile),
            });
        }
        let own_profile = None;
        check_name_free(&profiles, &name, own_profile)?;

        // The account may have been removed more than once. The combined record of all these removals shows whether the
        // login of this one is outdated, or was moved to another machine.
        let record = match removed.identity() {
            Some(account) if removed.damaged.is_none() => self.read_removed_record(account),
            _ => None,
        };
        let is_stale = record.as_ref().is_some_and(|record| {
            let is_older = |login: &Login| record.newest.is_newer_than(&login.freshness);
            removed.login().is_some_and(is_older)
        });
        let usable_login = match &record {
            Some(record) if !is_stale => find_usable_login(&removed, record).cloned(),
            _ => None,
        };

        let trash = self.folder.join(TRASH);
        let trashed_folder = trash.join(&folder);
        if !dry_run {
            if let Some(record) = record.filter(|record| *record != removed.file) {
                self.write_record(&format!("{TRASH}/{folder}"), &record)?;
            }

            atomic::rename(&trashed_folder, &self.folder.join(&name))?;
            // `atomic::rename` syncs only the target folder. After a power failure the profile must not be in both.
            atomic::sync_folder(&trash)?;
        }

        Ok(Some(UndoneRemoval {
            name,
            trashed_folder,
            is_stale,
            usable_login,
        }))
    }

    /// Returns the profile in the trash that was removed last, or the last one of this name.
    fn find_last_removed(
        &self,
        wanted_name: Option<&str>,
    ) -> Result<Option<TrashedProfile>, ProfileError> {
        let wanted_name = wanted_name.map(str::to_lowercase);
        let mut trashed = self.list_trash()?;
        trashed.retain(|profile| {
            let wanted_name = wanted_name.as_ref();
            wanted_name.is_none_or(|wanted| *wanted == profile.name.to_lowercase())
        });
        // The last by its stamp, because a copy of the manager home does not keep the times of folders.
        Ok(trashed.into_iter().max())
    }

    /// Returns true if `profile undo` can put a profile of this name back.
    pub fn can_undo_removal(&self, name: &str) -> bool {
        let dry_run = true;
        let undone = self.undo_remove(Some(name), dry_run);
        undone.is_ok_and(|removal| removal.is_some())
    }

    /// Returns the removed profile of `account` that `profile undo` can put back. Prefers profiles with a usable login,
    /// then the one that was removed last.
    pub(crate) fn find_removed(&self, account: &Identity) -> Option<UndoneRemoval> {
        let mut trashed = self.list_trash().ok()?;
        trashed.sort();
        let removals = trashed.into_iter().filter_map(|profile| {
            let TrashedProfile { name, folder, .. } = profile;
            let removed = self.read(format!("{TRASH}/{folder}"));
            if !removed.is_of(account) {
                return None;
            }

            let dry_run = true;
            let undone = self.undo_remove(Some(&name), dry_run).ok()??;
            // `undo_remove` chooses the profile of this name that was removed last.
            let is_this_profile = undone.trashed_folder.ends_with(&folder);
            is_this_profile.then_some(undone)
        });
        // Of equal removals, `max_by_key` returns the last one.
        removals.max_by_key(|removal| removal.usable_login.is_some())
    }

    /// Checks that a new profile with `login` would not hide a removed profile with a newer login of the account.
    ///
    /// # Errors
    /// [`ProfileError::InTrash`].
    pub fn check_newest_not_in_trash(&self, login: &Login) -> Result<(), ProfileError> {
        let is_newer =
            |in_trash: &AuthSnapshot| in_trash.freshness().is_newer_than(&login.freshness);
        match self.find_removed(&login.identity) {
            Some(removed) if removed.usable_login.as_ref().is_some_and(is_newer) => {
                Err(ProfileError::InTrash {
                    account: login.identity.to_string(),
                    name: removed.name,
                })
            }
            _ => Ok(()),
        }
    }

    /// Permanently deletes the profile of this name and all profiles of this name in the trash. Returns the number of
    /// deleted folders.
    ///
    /// # Errors
    /// No folder belongs to `name`, or an I/O error.
    pub fn purge_profile(&self, name: &str) -> Result<usize, ProfileError> {
        let _lock = self.lock_if_folder_exists()?;
        let folders = self.list_folders_of(name)?;
        // Recorded first: after a kill in between, an old copy of a login must be recognized as old.
        self.record_deleted(&folders)?;
        for folder in &folders {
            tree::remove(folder)?;
        }
        atomic::sync_folder(&self.folder)?;
        Ok(folders.len())
    }

    /// Records the freshness of the logins that are about to be deleted, without tokens or names.
    fn record_deleted(&self, folders: &[PathBuf]) -> Result<(), ProfileError> {
        let path = self.folder.join(DELETED);
        let deleted_file = document::read::<DeletedFile>(&path)?;
        if matches!(deleted_file, DocumentState::Damaged(_)) {
            document::move_aside(&path)?;
        }

        let mut deleted_file = deleted_file.good().unwrap_or_default();
        for folder in folders {
            let Ok(name) = folder.strip_prefix(&self.folder) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            // The record of a profile is kept when the profile is deleted, so it has to be readable.
            if let Err(e @ DocumentError::Io(_)) = self.require_readable_version(&name) {
                return Err(e.into());
            }
            let profile = self.read(name);
            let Some(identity) = profile.identity() else {
                continue;
            };

            let new_record = ProfileFile {
                newest: profile.newest(),
                identity: None,
                plan: None,
                saved_at: None,
                ..profile.file.clone()
            };

            // An earlier deletion may have recorded a newer login. A login that is spent in one record stays spent.
            let record = deleted_file
                .accounts
                .entry(account_key(identity))
                .or_default();
            let old_record = std::mem::take(record);
            let [newer, older] = if old_record.newest.is_newer_than(&new_record.newest) {
                [old_record, new_record]
            } else {
                [new_record, old_record]
            };
            *record = newer;
            record.merge_superseded(&older.superseded);
        }

        document::write(&path, &deleted_file)?;
        Ok(())
    }

    /// Returns the folders of the profile `name`, including those in the trash.
    ///
    /// # Errors
    /// No folder belongs to `name`, or an I/O error.
    pub fn list_folders_of(&self, name: &str) -> Result<Vec<PathBuf>, ProfileError> {
        let profiles = self.list()?;
        let mut folders = Vec::new();
        if let Ok(profile) = self.find_named(&profiles, name) {
            folders.push(self.folder.join(&profile.name));
        }

        let trashed = self.list_trash()?.into_iter();
        let of_name = trashed.filter(|profile| profile.name.to_lowercase() == name.to_lowercase());
        folders.extend(of_name.map(|profile| self.folder.join(TRASH).join(profile.folder)));

        if folders.is_empty() {
            return Err(self.unknown_profile_error(&profiles, name));
        }
        folders.sort();
        Ok(folders)
    }

    /// Returns the account of each login in all folders of the profile `name`, including their histories. `None` stands
    /// for a file that cannot be read, or has a login without an account.
    ///
    /// # Errors
    /// No folder belongs to `name`, or an I/O error.
    pub fn read_accounts_to_purge(
        &self,
        name: &str,
    ) -> Result<Vec<Option<Identity>>, ProfileError> {
        let mut accounts = Vec::new();
        for folder in self.list_folders_of(name)? {
            let history = folder.join(HISTORY);
            let files = tree::list_if_exists(&history)?.into_iter();
            let files = files.map(|(name, _)| history.join(name));

            for path in std::iter::once(folder.join(AUTH_JSON)).chain(files) {
                accounts.push(match AuthFile::read(&path) {
                    Ok(AuthFile::Missing) => continue,
                    Ok(AuthFile::Present(snapshot)) if snapshot.is_signed_out() => continue,
                    // Without a login it has a key, or a login of a newer Codex.
                    Ok(AuthFile::Present(snapshot)) => snapshot.login.map(|login| login.identity),
                    Ok(AuthFile::Unreadable { .. }) | Err(_) => None,
                });
            }
        }

        Ok(accounts)
    }
}

/// Returns true if `profile` has a newer login than `other`, or if only `profile` has one.
fn is_login_newer(profile: &Profile, other: &Profile) -> bool {
    profile.login().is_some_and(|login| {
        let other = other.login();
        other.is_none_or(|other| login.freshness.is_newer_than(&other.freshness))
    })
}

/// Returns the login of a removed profile, unless it is spent or was moved to another machine according to `record`.
fn find_usable_login<'a>(removed: &'a Profile, record: &ProfileFile) -> Option<&'a AuthSnapshot> {
    let snapshot = removed.snapshot()?;
    let is_moved = record.owner == LoginOwner::Moved;
    let is_spent = record.superseded.contains(&snapshot.fingerprint());
    (snapshot.login.is_some() && !is_moved && !is_spent).then_some(snapshot)
}

/// Returns the former profile name of a folder in the trash, which is named `NAME-STAMP` or `NAME-STAMP-NUMBER`.
fn parse_trashed_name(folder: &str) -> Option<&str> {
    const STAMP_BYTES: usize = "20261120T120000000000Z".len();
    folder.rmatch_indices('-').find_map(|(at, _)| {
        let stamp = folder[at + 1..].split('-').next()?;
        let is_stamp = stamp.len() == STAMP_BYTES && stamp.ends_with('Z');
        is_stamp.then(|| &folder[..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::Freshness;

    #[test]
    fn spent_logins_stay_spent_after_a_second_profile_of_the_account_is_deleted() {
        let home = tempfile::tempdir().unwrap();
        let profiles = Profiles::of(home.path());
        let account = Identity::from_email("alice@example.com");
        for (name, second) in [("newer", 2), ("older", 1)] {
            let record = ProfileFile {
                identity: Some(account.clone()),
                newest: Freshness {
                    last_refresh: chrono::DateTime::from_timestamp(second, 0),
                    ..Freshness::default()
                },
                superseded: vec![name.to_owned()],
                ..ProfileFile::default()
            };
            profiles.write_record(name, &record).unwrap();
            let deleted = profiles.record_deleted(&[profiles.folder.join(name)]);
            deleted.unwrap();
        }
        let record = profiles.read_removed_record(&account).unwrap();
        assert_eq!(record.superseded, ["older", "newer"]);
    }

    #[test]
    fn the_profile_name_in_the_trash_ends_before_the_last_stamp() {
        assert_eq!(
            parse_trashed_name("work-20261120T120000000000Z"),
            Some("work")
        );
        assert_eq!(
            parse_trashed_name("a-b-20261120T120000000000Z-2"),
            Some("a-b")
        );
        let stamp = "20261120T120000000000Z";
        let like_a_stamp = format!("work-{stamp}");
        let folder = format!("{like_a_stamp}-{stamp}");
        assert_eq!(parse_trashed_name(&folder), Some(&*like_a_stamp));
        assert_eq!(parse_trashed_name("work"), None);
    }
}
