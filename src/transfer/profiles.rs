//! Merges the profiles of an export with the local ones, deciding which login is newer.
//!
//! A refresh token works only once, so an import never brings back a login that was replaced
//! locally. The time of the last refresh usually decides. Because clocks differ between machines,
//! profiles also keep the fingerprints of replaced logins, and exports carry them. A login that
//! left with an export comes back only with that same export: another export may hold a copy that
//! was used elsewhere since. If undecided, the local login stays.

use super::error::TransferError;
use super::export::NotTransferred;
use super::reader::{ExportedProfile, Package};
use crate::accounts::profile::{LoginCopy, is_unfinished};
use crate::accounts::profile_ops::check_not_anothers_email;
use crate::accounts::{
    LiveHomeUpdate, LoginOwner, OwnerLocation, Profile, ProfileFile, Profiles, new_login,
};
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Freshness, Identity};
use crate::io::{FileLock, Timestamp, Zone, atomic};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The target and the settings of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImportOptions<'a> {
    /// The manager home to import into.
    pub manager_home: &'a Path,
    /// The live Codex home, whose login may be renewed.
    pub codex_home: &'a Path,
    /// The current time, in the zone of the user.
    pub now: Timestamp,
    /// The zone in which times are written.
    pub zone: Zone,
    /// The longest wait for locks that Codex or another process holds.
    pub lock_timeout: Duration,
}

/// The effect of an import on the login of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LoginOutcome {
    /// The account had no local login and gets that of the export.
    New,
    /// The login of the export replaces the local one, which goes to the history.
    Newer,
    /// The local login is the same.
    Same,
    /// The login of the export is older than a local one, so its refresh token is used up. It goes
    /// to the history.
    Older,
    /// Undecided which of the two logins still works. The local one stays.
    Unclear,
    /// The export has no login of this profile.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProfileImport {
    /// The name in the export.
    pub name: String,
    /// The name in the manager home.
    pub profile: String,
    pub email: String,
    /// The workspace account id, if known.
    pub account_id: Option<String>,
    /// True if the profile is created.
    pub created: bool,
    pub login: LoginOutcome,
}

/// The local state of an account.
#[derive(Debug, Default)]
struct LocalAccount {
    own: Option<Profile>,
    /// The document of its profile, if that was removed.
    removed: Option<ProfileFile>,
    /// The login in the Codex home.
    live: Option<AuthSnapshot>,
}

impl LocalAccount {
    fn find(identity: &Identity, all: &[Profile], options: &ImportOptions<'_>) -> Self {
        let is_own = |p: &&Profile| p.identity().is_some_and(|own| own.is_same(identity));
        let own = all.iter().find(is_own).cloned();
        let home = match &own {
            Some(own) => own.find_live_home(options.codex_home),
            None => Some(options.codex_home.to_path_buf()),
        };
        let live = home.and_then(|home| AuthFile::read(&home.join(AUTH_JSON)).ok());
        let live = live.and_then(|auth| auth.snapshot().cloned());
        let live = live.filter(|snapshot| {
            let login = snapshot.login.as_ref();
            login.is_some_and(|login| login.identity.is_same(identity))
        });
        let removed = match &own {
            Some(_) => None,
            None => Profiles::of(options.manager_home).read_removed_record(identity),
        };
        Self { own, removed, live }
    }

    fn known_record(&self) -> Option<&ProfileFile> {
        let own = self.own.as_ref().map(|own| &own.file);
        own.or(self.removed.as_ref())
    }

    /// Returns the freshness of the newest login that was seen locally.
    fn newest(&self) -> Freshness {
        let own = self.own.as_ref().map(Profile::newest);
        let seen = own.or(self.removed.as_ref().map(|note| note.newest));
        let live = self.live.as_ref().and_then(|live| live.login.as_ref());
        let live = live.map(|login| login.freshness).unwrap_or_default();
        let seen = seen.unwrap_or_default();
        if live.is_newer_than(&seen) {
            live
        } else {
            seen
        }
    }

    /// Decides the effect on the login, without I/O. `export` is the id of the export.
    fn decide_outcome(&self, packed: &ExportedProfile, export: &str) -> LoginOutcome {
        let Some((snapshot, login)) = &packed.login else {
            return LoginOutcome::None;
        };
        let kept = self.own.as_ref().and_then(|own| own.snapshot());
        let exported = snapshot.fingerprint();
        let local = kept.map(AuthSnapshot::fingerprint);
        let is_same = local.as_ref() == Some(&exported);
        // Unlike a refresh token, a key can be used on several machines.
        if !login.identity.kind.is_renewable() {
            return match kept {
                _ if is_same => LoginOutcome::Same,
                Some(_) => LoginOutcome::Newer,
                None => LoginOutcome::New,
            };
        }
        let is_damaged = self.own.as_ref().is_some_and(|own| own.damaged.is_some());
        let newest = self.newest();
        let is_newer = login.freshness.is_newer_than(&newest);
        let has_left = self.known_record().is_some_and(|note| {
            // A profile created by an import without logins also has the owner `Moved`, but its
            // login never was here.
            let was_here = note.moved_with.is_some() || note.newest != Freshness::default();
            let is_this_export = note.moved_with.as_deref() == Some(export);
            note.owner == LoginOwner::Moved && was_here && !is_this_export
        });
        if is_same {
            return if is_damaged || has_left {
                LoginOutcome::Unclear
            } else {
                LoginOutcome::Same
            };
        }
        let is_noted = |fingerprint: &String| {
            let note = self.known_record();
            note.is_some_and(|note| note.superseded.contains(fingerprint))
        };
        // The exporting machine may have moved a login that it knew to be old.
        let spent = &packed.file.superseded;
        let is_old = packed.file.newest.is_newer_than(&login.freshness);
        if is_noted(&exported) || spent.contains(&exported) || is_old {
            return LoginOutcome::Older;
        }
        // The exporting machine has replaced the local login.
        if local.is_some_and(|local| spent.contains(&local)) {
            return LoginOutcome::Newer;
        }
        if newest.is_newer_than(&login.freshness) {
            return LoginOutcome::Older;
        }
        let live = self.live.as_ref().map(AuthSnapshot::fingerprint);
        let is_live_another = live.is_some_and(|live| live != exported);
        let is_kept_stale = self.own.as_ref().is_some_and(Profile::is_stale);
        match kept {
            _ if is_newer && kept.is_some() => LoginOutcome::Newer,
            _ if is_kept_stale && !has_left && !is_live_another => LoginOutcome::Newer,
            _ if is_newer => LoginOutcome::New,
            None if !has_left && !is_live_another => LoginOutcome::New,
            // Different logins of the same age: which of them works is unknown.
            _ => LoginOutcome::Unclear,
        }
    }
}

/// Returns the effect on each profile, and the profiles that are skipped because a newer version
/// wrote the local one. Profiles without an account are left out.
///
/// # Errors
/// A local profile cannot be read.
pub(super) fn plan(
    package: &Package,
    options: &ImportOptions<'_>,
) -> Result<(Vec<ProfileImport>, Vec<NotTransferred>), TransferError> {
    let profiles = Profiles::of(options.manager_home);
    let all = profiles.list()?;
    let newer = profiles.list_newer(&all);
    let entries = fs::read_dir(profiles.folder_of(""));
    let taken = entries.into_iter().flatten().flatten();
    // Names in use. Lower case, because some file systems ignore case.
    let mut taken: BTreeSet<String> = taken
        .filter(|entry| !is_unfinished(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().to_lowercase())
        .collect();
    let (mut plans, mut left) = (Vec::new(), Vec::new());
    for (name, packed) in &package.profiles {
        let Some(identity) = &packed.file.identity else {
            continue;
        };
        let known = LocalAccount::find(identity, &all, options);
        let own = known.own.as_ref();
        let why = own.and_then(|own| newer.iter().find(|(name, _)| *name == own.name));
        if let Some((_, why)) = why {
            left.push(NotTransferred {
                name: name.clone(),
                reason: why.to_string(),
            });
            continue;
        }
        let profile = if let Some(own) = own {
            own.name.clone()
        } else {
            let mut free = name.clone();
            let mut number = 1;
            while check_not_anothers_email(&all, &free, identity).is_err()
                || !taken.insert(free.to_lowercase())
            {
                number += 1;
                free = format!("{name}-{number}");
            }
            free
        };
        plans.push(ProfileImport {
            name: name.clone(),
            profile,
            email: identity.email.to_string(),
            account_id: identity.account_id.clone(),
            created: own.is_none(),
            login: known.decide_outcome(packed, &package.id),
        });
    }
    Ok((plans, left))
}

/// Imports one profile as planned. The caller holds the lock on its account. Returns the effect on the live login.
///
/// # Errors
/// A file cannot be written.
pub(super) fn apply(
    planned: &ProfileImport,
    packed: &ExportedProfile,
    export: &str,
    options: &ImportOptions<'_>,
) -> Result<LiveHomeUpdate, TransferError> {
    let profiles = Profiles::of(options.manager_home);
    let (name, home, now) = (&planned.profile, options.codex_home, options.now);
    atomic::remove_stale_temps(&profiles.folder_of(name));
    let Some((snapshot, login)) = &packed.login else {
        if planned.created {
            create_without_login(name, &packed.file, &profiles)?;
        }
        return Ok(LiveHomeUpdate::No);
    };
    let identity = &login.identity;
    let known = LocalAccount::find(identity, &profiles.list()?, options);
    if matches!(planned.login, LoginOutcome::Older | LoginOutcome::Unclear) {
        if planned.created {
            create_without_exported_login(name, &packed.file, &known, &profiles, options)?;
        }
        let saved = known.own.as_ref().and_then(Profile::snapshot);
        if saved.is_none_or(|kept| kept.bytes != snapshot.bytes) {
            profiles.add_to_history(name, snapshot, now)?;
        }
        return Ok(LiveHomeUpdate::No);
    }
    // Before the copy is saved: after a kill it must not be taken for the newest login.
    profiles.merge_superseded(identity, &packed.file.superseded)?;
    if planned.created {
        profiles.save_as(name, (snapshot, login), home, LoginCopy::Ordinary, now)?;
        let is_this_export = |note: &ProfileFile| note.moved_with.as_deref() == Some(export);
        if known.removed.as_ref().is_some_and(is_this_export) {
            // The login had left with this same export, so it comes back.
            profiles.save_back(snapshot, login, OwnerLocation::AssertedProfile, now)?;
        }
        profiles.merge_superseded(identity, &packed.file.superseded)?;
    } else {
        let live_home = known.own.as_ref().and_then(|own| own.find_live_home(home));
        let keeper = live_home.as_deref();
        let keeper = keeper.map_or(OwnerLocation::AssertedProfile, OwnerLocation::AssertedLive);
        profiles.save_back(snapshot, login, keeper, now)?;
    }
    let new = (snapshot, login);
    Ok(new_login::renew_live(
        &profiles,
        home,
        new,
        now,
        options.lock_timeout,
    )?)
}

/// Creates the profile of an account whose login stayed on the other machine.
fn create_without_login(
    name: &str,
    exported: &ProfileFile,
    profiles: &Profiles,
) -> Result<(), TransferError> {
    let _lock = FileLock::acquire(&profiles.lock_path())?;
    let identity = exported.identity.as_ref();
    let removed = identity.and_then(|who| profiles.read_removed_record(who));
    // The freshness and the superseded logins are those of this machine: the other one has a login of its own.
    let known = removed.unwrap_or(ProfileFile {
        owner: LoginOwner::Moved,
        ..ProfileFile::default()
    });
    let note = ProfileFile {
        owner: known.owner,
        live_home: None,
        moving: None,
        moved_with: known.moved_with,
        newest: known.newest,
        superseded: known.superseded,
        ..exported.clone()
    };
    Ok(profiles.write_note(name, &note)?)
}

/// Creates the profile of an account whose exported login must not be used: with the live login if
/// there is one, else with the document of the removed profile, else with the exported one.
fn create_without_exported_login(
    name: &str,
    exported: &ProfileFile,
    known: &LocalAccount,
    profiles: &Profiles,
    options: &ImportOptions<'_>,
) -> Result<(), TransferError> {
    if let Some(live) = &known.live
        && let Some(login) = &live.login
    {
        let (home, now) = (options.codex_home, options.now);
        profiles.save_as(name, (live, login), home, LoginCopy::Ordinary, now)?;
    } else {
        let _lock = FileLock::acquire(&profiles.lock_path())?;
        let exported = || ProfileFile {
            owner: LoginOwner::Profile,
            live_home: None,
            moving: None,
            moved_with: None,
            ..exported.clone()
        };
        profiles.write_note(name, &known.removed.clone().unwrap_or_else(exported))?;
    }
    Ok(())
}
