//! Profiles that were removed: in the trash, or deleted for good.
//!
//! What was known of an account's logins outlives them: a copy that turns up later is as old as it was.

use super::lease::key;
use super::profile::{HISTORY, Profile, ProfileError, ProfileFile, Profiles};
use super::profile_ops::find_named;
use crate::codex::auth::{AuthFile, Freshness, Login};
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document, DocumentState};
use crate::io::{atomic, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Where removed profiles go.
const TRASH: &str = ".trash";

/// What is kept of profiles that were deleted for good, in `profiles/`.
const DELETED: &str = ".deleted.json";

/// See [`DELETED`]. Holds neither tokens nor names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct DeletedFile {
    /// By a digest of the account's ids.
    accounts: BTreeMap<String, ProfileFile>,
}

impl Document for DeletedFile {
    const SCHEMA: u64 = 1;
}

/// A login that deleting a profile for good would take away.
#[derive(Debug, Clone)]
pub struct PurgedLogin {
    /// Whose it is; `None` where that cannot be read.
    pub of: Option<Identity>,
    /// How new it is.
    pub freshness: Freshness,
}

impl Profiles {
    /// What a profile of this name, made for this login, begins with, where the account had one before
    /// that was removed.
    pub(crate) fn remembered(&self, name: &str, login: &Login) -> Option<Profile> {
        let mut profile = Profile::of(name, login);
        profile.file = self.removed_note(&login.identity)?;
        Some(profile)
    }

    /// What is known of the logins of an account whose profile was removed: how new the newest was,
    /// and who had that.
    pub fn removed_note(&self, identity: &Identity) -> Option<ProfileFile> {
        let entries = fs::read_dir(self.folder.join(TRASH)).into_iter().flatten();
        let mut notes: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let stamp = name.strip_prefix(trashed_name(&name)?)?.to_owned();
                let profile = self.read(format!("{TRASH}/{name}")).ok()?;
                let is_own = profile.identity()?.is_same(identity);
                let newest = profile.newest();
                let note = ProfileFile {
                    newest,
                    ..profile.file
                };
                is_own.then_some((stamp, note))
            })
            .collect();
        let deleted = document::read::<DeletedFile>(&self.folder.join(DELETED)).ok();
        let deleted = deleted.and_then(DocumentState::good).unwrap_or_default();
        let deleted = deleted.accounts.get(&key(identity)).cloned();
        // Names of folders are stamps: before all of them.
        notes.extend(deleted.map(|note| (String::new(), note)));
        notes.sort_by(|(a, x), (b, y)| x.newest.compare(&y.newest).then_with(|| a.cmp(b)));
        let known: Vec<_> = notes
            .iter()
            .flat_map(|(_, n)| n.superseded.clone())
            .collect();
        let (_, mut note) = notes.pop()?;
        note.learn(&known);
        note.identity = Some(identity.clone());
        Some(note)
    }

    /// Moves a profile to the trash; returns where it is there.
    ///
    /// # Errors
    /// There is none of that name, or the file system refuses.
    pub fn remove(&self, name: &str, now: Timestamp) -> Result<PathBuf, ProfileError> {
        let _held = self.hold(false)?;
        let profiles = self.list()?;
        let name = &find_named(&profiles, name)?.name;
        let trash = self.folder.join(TRASH);
        atomic::create_private_folder(&trash)?;
        let stamp = now.to_utc().format("%Y%m%dT%H%M%S%6fZ");
        let mut place = trash.join(format!("{name}-{stamp}"));
        let mut number = 1;
        while place.exists() {
            number += 1;
            place = trash.join(format!("{name}-{stamp}-{number}"));
        }
        atomic::rename(&self.folder.join(name), &place)?;
        atomic::sync_folder(&self.folder)?;
        Ok(place)
    }

    /// Deletes a profile and what the trash has of that name; returns how many folders.
    ///
    /// # Errors
    /// There is nothing of that name, or the file system refuses.
    pub fn purge(&self, name: &str) -> Result<usize, ProfileError> {
        let _held = self.hold(false)?;
        let places = self.places_of(name)?;
        self.remember_deleted(&places)?;
        for place in &places {
            tree::remove(place)?;
        }
        atomic::sync_folder(&self.folder)?;
        Ok(places.len())
    }

    /// Writes down how new the logins were that are about to be deleted: no token, and no name.
    fn remember_deleted(&self, places: &[PathBuf]) -> Result<(), ProfileError> {
        let path = self.folder.join(DELETED);
        let found = document::read::<DeletedFile>(&path)?;
        if matches!(found, DocumentState::Damaged(_)) {
            document::move_aside(&path)?;
        }
        let mut deleted = found.good().unwrap_or_default();
        for place in places {
            let Ok(below) = place.strip_prefix(&self.folder) else {
                continue;
            };
            let profile = self.read(below.to_string_lossy().into_owned())?;
            let Some(identity) = profile.identity() else {
                continue;
            };
            let note = ProfileFile {
                newest: profile.newest(),
                identity: None,
                plan: None,
                saved_at: None,
                ..profile.file.clone()
            };
            let known = deleted.accounts.entry(key(identity)).or_default();
            let superseded = std::mem::take(&mut known.superseded);
            if !known.newest.is_newer_than(&note.newest) {
                *known = note;
            }
            known.learn(&superseded);
        }
        document::write(&path, &deleted)?;
        Ok(())
    }

    /// The folders that are, or were, the profile `name`.
    ///
    /// # Errors
    /// There is none, or the file system refuses.
    pub fn places_of(&self, name: &str) -> Result<Vec<PathBuf>, ProfileError> {
        let profiles = self.list()?;
        let mut places: Vec<_> = find_named(&profiles, name)
            .map(|p| self.folder.join(&p.name))
            .into_iter()
            .collect();
        let trash = self.folder.join(TRASH);
        for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
            let removed = entry.file_name();
            let stem = removed.to_str().and_then(trashed_name);
            if stem.is_some_and(|stem| stem.to_lowercase() == name.to_lowercase()) {
                places.push(entry.path());
            }
        }
        if places.is_empty() {
            return Err(ProfileError::Unknown(name.to_owned()));
        }
        places.sort();
        Ok(places)
    }

    /// The logins in the folders that are, or were, the profile `name`, those of histories too.
    ///
    /// # Errors
    /// There is no such folder, or the file system refuses.
    pub fn purged_logins(&self, name: &str) -> Result<Vec<PurgedLogin>, ProfileError> {
        let mut logins = Vec::new();
        for place in self.places_of(name)? {
            let history = fs::read_dir(place.join(HISTORY)).into_iter().flatten();
            let files = history.flatten().map(|entry| entry.path());
            for path in std::iter::once(place.join(AUTH_JSON)).chain(files) {
                let (of, freshness) = match AuthFile::read(&path) {
                    Ok(AuthFile::Missing) => continue,
                    Ok(AuthFile::Present(snapshot)) => match snapshot.login {
                        Some(login) => (Some(login.identity), login.freshness),
                        None => continue,
                    },
                    Ok(AuthFile::Unreadable { .. }) | Err(_) => (None, Freshness::default()),
                };
                logins.push(PurgedLogin { of, freshness });
            }
        }
        Ok(logins)
    }
}

/// The name of the profile that a folder of the trash was.
fn trashed_name(folder: &str) -> Option<&str> {
    const STAMP_BYTES: usize = "20261120T120000000000Z".len();
    folder.match_indices('-').find_map(|(at, _)| {
        let stamp = folder[at + 1..].split('-').next()?;
        let is_stamp = stamp.len() == STAMP_BYTES && stamp.ends_with('Z');
        is_stamp.then(|| &folder[..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trash_tells_names_that_look_alike_apart() {
        assert_eq!(trashed_name("work-20261120T120000000000Z"), Some("work"));
        assert_eq!(trashed_name("a-b-20261120T120000000000Z-2"), Some("a-b"));
        assert_eq!(trashed_name("work"), None);
    }
}
