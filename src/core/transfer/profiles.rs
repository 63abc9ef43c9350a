//! Merges the profiles of an export with the local profiles, and decides which of two logins is newer.
//!
//! A refresh token works only once, so an import never brings back a login that was replaced locally. Usually the newer
//! login is the one that was refreshed last. Because clocks differ between machines, profiles also keep the
//! fingerprints of replaced logins, and exports contain them. A login that left with an export comes back only
//! with that same export, because another export may contain a copy that was used elsewhere in the meantime. If it is
//! unclear which login is newer, the local login stays.

use super::error::TransferError;
use super::export::NotTransferred;
use super::manifest::PROFILES;
use super::reader::{ExportedProfile, Package};
use crate::accounts::profile::{LoginCopy, is_login_of, is_unfinished_profile};
use crate::accounts::profile_ops::check_not_anothers_email;
use crate::accounts::{
    LiveHomeUpdate, LoginOwner, OwnerLocation, Profile, ProfileFile, Profiles, new_login,
};
use crate::codex::{AUTH_JSON, AuthFile, AuthSnapshot, Freshness, Identity, Login, login_lock};
use crate::io::{FileLock, Timestamp, Zone, atomic};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub struct ImportOptions<'a> {
    /// The manager home to import into.
    pub manager_home: &'a Path,
    /// The live Codex home, whose login may be replaced by a newer one.
    pub codex_home: &'a Path,
    pub now: Timestamp,
    /// The time zone of times in documents that have no offset.
    pub zone: Zone,
}

/// The effect of an import on the login of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginOutcome {
    /// The account has no profile with a login, and gets the login of the export.
    New,
    /// The login of the export replaces the local login, which goes to the history.
    Newer,
    Same,
    /// The local login is the same, and had left with this export. This machine owns it again.
    Returned,
    /// This or the exporting machine knows a newer login, so the refresh token in the export is used up. The login of
    /// the export goes to the history.
    Older,
    /// It is unclear which of the two logins still works. The local login stays, and the login of the export goes to
    /// the history.
    Unclear,
    /// The export has no login of this profile.
    None,
    /// The profile was removed, and the trash has the newest login of the account. Nothing is imported,
    /// because `profile undo` could not put the removed profile back beside an imported one.
    InTrash,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileImport {
    /// The name in the export.
    pub name: String,
    /// The name in the manager home.
    pub profile: String,
    pub email: String,
    pub account_id: Option<String>,
    /// True if the import creates the profile.
    pub created: bool,
    pub login: LoginOutcome,
}

/// The profile and the logins that this machine has of an account.
#[derive(Debug, Default)]
struct LocalAccount {
    profile: Option<Profile>,
    /// The `profile.json` of the account's removed profile, if there is no profile any more.
    removed: Option<ProfileFile>,
    /// The `auth.json` of the Codex home, if it belongs to this account.
    live: Option<AuthSnapshot>,
}

impl LocalAccount {
    fn find(identity: &Identity, profiles: &[Profile], options: &ImportOptions<'_>) -> Self {
        let profile = profiles.iter().find(|p| p.is_of(identity)).cloned();

        // Without a profile, only this Codex home is read.
        let live_home = match &profile {
            Some(profile) => profile.find_live_home(options.codex_home),
            None => Some(options.codex_home.to_path_buf()),
        };
        let auth = live_home.and_then(|home| AuthFile::read(&home.join(AUTH_JSON)).ok());
        let snapshot = auth.and_then(|auth| auth.snapshot().cloned());
        let live = snapshot.filter(|snapshot| is_login_of(snapshot, identity));

        let removed = match &profile {
            Some(_) => None,
            None => Profiles::of(options.manager_home).read_removed_record(identity),
        };

        Self {
            profile,
            removed,
            live,
        }
    }

    fn current_or_removed_record(&self) -> Option<&ProfileFile> {
        let current = self.profile.as_ref().map(|profile| &profile.file);
        current.or(self.removed.as_ref())
    }

    /// Returns the freshness of the newest login of the account that this machine has ever observed.
    fn newest_freshness(&self) -> Freshness {
        let current = self.profile.as_ref().map(Profile::newest);
        let recorded = current.or(self.removed.as_ref().map(|record| record.newest));
        let recorded = recorded.unwrap_or_default();
        match self.live.as_ref().map(AuthSnapshot::freshness) {
            Some(live) if live.is_newer_than(&recorded) => live,
            _ => recorded,
        }
    }

    /// Decides the effect of the import on the login of the account, without I/O.
    fn decide_outcome(&self, exported: &ExportedProfile, export_id: &str) -> LoginOutcome {
        let Some((snapshot, login)) = &exported.login else {
            return LoginOutcome::None;
        };

        let saved = self.profile.as_ref().and_then(Profile::snapshot);
        let is_same = saved.is_some_and(|saved| saved.fingerprint() == snapshot.fingerprint());

        // Unlike a refresh token, an API key can be used on several machines, so the exported key is used.
        if !login.identity.kind.is_renewable() {
            return match saved {
                _ if is_same => LoginOutcome::Same,
                Some(_) => LoginOutcome::Newer,
                None => LoginOutcome::New,
            };
        }

        let record = self.current_or_removed_record();
        let is_moved = record.is_some_and(|record| record.owner == LoginOwner::Moved);
        // The `Moved` record of an import without logins has no `moved_with`: its login was never on this machine.
        let left_with = record.and_then(|record| record.moved_with.as_deref());
        let left_with_other_export = is_moved && left_with.is_some_and(|id| id != export_id);
        if !is_same {
            let login = (snapshot, login);
            return self.decide_between_logins(&exported.file, login, left_with_other_export);
        }

        let profile = self.profile.as_ref();
        let is_damaged = profile.is_some_and(|profile| profile.damaged.is_some());
        if is_damaged || left_with_other_export {
            LoginOutcome::Unclear
        } else if is_moved {
            LoginOutcome::Returned
        } else {
            LoginOutcome::Same
        }
    }

    /// Returns the name of the removed profile if it has the newest login of the account, and `outcome` would create a
    /// profile without that login.
    fn find_newest_in_trash(
        &self,
        account: &Identity,
        exported: &ProfileFile,
        outcome: LoginOutcome,
        profiles: &Profiles,
    ) -> Option<String> {
        use LoginOutcome::{None as NoLogin, Older, Unclear};
        if self.profile.is_some() || !matches!(outcome, Older | Unclear | NoLogin) {
            return None;
        }

        let removed = profiles.find_removed(account)?;
        let trashed_login = removed.usable_login?;
        let freshness = trashed_login.freshness();
        let live = self.live.as_ref();
        let is_newest = !exported.newest.is_newer_than(&freshness)
            && !exported.superseded.contains(&trashed_login.fingerprint())
            && live.is_none_or(|live| freshness.is_newer_than(&live.freshness()));
        is_newest.then_some(removed.name)
    }

    /// Decides the effect of an exported login that is not the login of the local profile.
    /// `left_with_other_export` is true if the local login left with another export.
    fn decide_between_logins(
        &self,
        exported: &ProfileFile,
        (snapshot, login): (&AuthSnapshot, &Login),
        left_with_other_export: bool,
    ) -> LoginOutcome {
        let exported_fingerprint = snapshot.fingerprint();
        let record = self.current_or_removed_record();
        let is_superseded_locally =
            record.is_some_and(|record| record.superseded.contains(&exported_fingerprint));
        // The exporting machine may have moved a login that it knew to be old.
        let was_old_remotely = exported.newest.is_newer_than(&login.freshness);
        if is_superseded_locally
            || exported.superseded.contains(&exported_fingerprint)
            || was_old_remotely
        {
            return LoginOutcome::Older;
        }

        // The exporting machine has replaced the local login.
        let saved = self.profile.as_ref().and_then(Profile::snapshot);
        if saved.is_some_and(|saved| exported.superseded.contains(&saved.fingerprint())) {
            return LoginOutcome::Newer;
        }

        let newest = self.newest_freshness();
        if newest.is_newer_than(&login.freshness) {
            return LoginOutcome::Older;
        }

        let is_newer = login.freshness.is_newer_than(&newest);
        // A local login may still work: in the profile, in the home, or on the machine that imported the other export.
        // A saved auth.json without a login counts, too, because it is not stale.
        let is_saved_stale = self.profile.as_ref().is_some_and(Profile::is_stale);
        let live_fingerprint = self.live.as_ref().map(AuthSnapshot::fingerprint);
        let has_other_live_login =
            live_fingerprint.is_some_and(|live| live != exported_fingerprint);
        let may_local_login_work =
            (saved.is_some() && !is_saved_stale) || has_other_live_login || left_with_other_export;

        match saved {
            // The logins differ and are of the same age, so it is unknown which of them works.
            _ if may_local_login_work && !is_newer => LoginOutcome::Unclear,
            Some(_) => LoginOutcome::Newer,
            None => LoginOutcome::New,
        }
    }
}

/// Returns the effect of the import on each profile, and the profiles that are skipped because a newer version wrote
/// the local profile of the account.
///
/// # Errors
/// A local profile cannot be read.
pub(super) fn plan(
    package: &Package,
    options: &ImportOptions<'_>,
) -> Result<(Vec<ProfileImport>, Vec<NotTransferred>), TransferError> {
    let profiles = Profiles::of(options.manager_home);
    let local_profiles = profiles.list()?;

    // The folder may be missing. If it cannot be read, `list` has already failed.
    let entries = fs::read_dir(options.manager_home.join(PROFILES));
    let entries = entries.into_iter().flatten().flatten();
    // The names in use, in lower case, because some file systems ignore case.
    let mut used_names: BTreeSet<String> = entries
        .filter(|entry| !is_unfinished_profile(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().to_lowercase())
        .collect();

    let (mut plans, mut left) = (Vec::new(), Vec::new());
    for (name, exported) in &package.profiles {
        let Some(identity) = &exported.file.identity else {
            continue;
        };

        let local = LocalAccount::find(identity, &local_profiles, options);
        let local_profile = local.profile.as_ref();
        if let Some(reason) = local_profile.and_then(|profile| profile.unusable.clone()) {
            let name = name.clone();
            left.push(NotTransferred { name, reason });
            continue;
        }

        let mut outcome = local.decide_outcome(exported, &package.id);
        let removed_name = local.find_newest_in_trash(identity, &exported.file, outcome, &profiles);
        if removed_name.is_some() {
            outcome = LoginOutcome::InTrash;
        }

        let created = local_profile.is_none() && removed_name.is_none();
        let local_name = local_profile.map(|profile| profile.name.clone());
        let profile = local_name
            .or(removed_name)
            .unwrap_or_else(|| reserve_free_name(name, identity, &local_profiles, &mut used_names));

        plans.push(ProfileImport {
            name: name.clone(),
            profile,
            email: identity.email.to_string(),
            account_id: identity.account_id.clone(),
            created,
            login: outcome,
        });
    }

    Ok((plans, left))
}

/// Returns `wanted`, with a number if another profile has that name or it is the email of another account. Adds the
/// name to `used_names`.
fn reserve_free_name(
    wanted: &str,
    account: &Identity,
    local_profiles: &[Profile],
    used_names: &mut BTreeSet<String>,
) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1;
    loop {
        let is_allowed = check_not_anothers_email(local_profiles, &name, account).is_ok();
        if is_allowed && !used_names.contains(&name.to_lowercase()) {
            used_names.insert(name.to_lowercase());
            return name;
        }
        number += 1;
        name = format!("{wanted}-{number}");
    }
}

/// Imports one profile as planned. The caller holds the lock on the account. Returns the effect on the live login.
///
/// # Errors
/// A file cannot be written.
pub(super) fn import_profile(
    planned: &ProfileImport,
    exported: &ExportedProfile,
    export_id: &str,
    options: &ImportOptions<'_>,
) -> Result<LiveHomeUpdate, TransferError> {
    let profiles = Profiles::of(options.manager_home);
    let (name, home, now) = (&planned.profile, options.codex_home, options.now);
    if planned.login == LoginOutcome::InTrash {
        return Ok(LiveHomeUpdate::No);
    }
    atomic::remove_stale_temps(&profiles.folder_of(name));

    // `plan` leaves out a profile without an account.
    let identity = exported.file.identity.clone().unwrap_or_default();
    let local = LocalAccount::find(&identity, &profiles.list()?, options);
    let Some((snapshot, login)) = &exported.login else {
        record_without_login(name, &exported.file, &local, &profiles)?;
        return Ok(LiveHomeUpdate::No);
    };

    let identity = &login.identity;
    // The exported login does not become the login of the profile, but only goes to its history.
    if matches!(planned.login, LoginOutcome::Older | LoginOutcome::Unclear) {
        if planned.created {
            create_without_exported_login(name, &exported.file, &local, &profiles, options)?;
        }
        let saved = local.profile.as_ref().and_then(Profile::snapshot);
        if saved.is_none_or(|saved| saved.bytes != snapshot.bytes) {
            profiles.add_to_history(name, snapshot, now)?;
        }
        return Ok(LiveHomeUpdate::No);
    }

    // Recorded before the login is saved: after a kill in between, a replaced login must not count as the newest.
    profiles.merge_superseded(identity, &exported.file.superseded)?;

    if planned.created {
        profiles.save_as(name, (snapshot, login), home, LoginCopy::Ordinary, now)?;

        let left_with_this_export =
            |record: &ProfileFile| record.moved_with.as_deref() == Some(export_id);
        if local.removed.as_ref().is_some_and(left_with_this_export) {
            // This machine owns the login again.
            profiles.save_back(snapshot, login, OwnerLocation::AssertedProfile, now)?;
        }

        // The first call did nothing, because the profile did not exist yet.
        profiles.merge_superseded(identity, &exported.file.superseded)?;
    } else {
        let profile = local.profile.as_ref();
        let live_home = profile.and_then(|profile| profile.find_live_home(home));
        let owner = match &live_home {
            Some(live_home) => OwnerLocation::AssertedLive(live_home),
            None => OwnerLocation::AssertedProfile,
        };
        profiles.save_back(snapshot, login, owner, now)?;
    }

    let (exported_login, patience) = ((snapshot, login), login_lock::REFRESH_TIMEOUT);
    let update = new_login::renew_live_login(&profiles, home, exported_login, now, patience)?;
    Ok(update)
}

/// Records the profile of an account whose login stayed on the exporting machine, unless this machine has a login of
/// the account.
fn record_without_login(
    name: &str,
    exported: &ProfileFile,
    local: &LocalAccount,
    profiles: &Profiles,
) -> Result<(), TransferError> {
    let _lock = FileLock::acquire(&profiles.lock_path())?;
    let local_profile = local.profile.as_ref();
    if local_profile.is_some_and(|p| p.login().is_some() || p.damaged.is_some()) {
        return Ok(());
    }

    // The owner and the superseded logins of the local record stay, because the exporting machine keeps its login.
    let local_record = local.current_or_removed_record().cloned();
    let local_record = local_record.unwrap_or(ProfileFile {
        owner: LoginOwner::Moved,
        ..ProfileFile::default()
    });
    // The exported freshness marks older local logins as spent. A live login need not be spent: the user may have
    // signed in on both machines.
    let is_newer = exported.newest.is_newer_than(&local_record.newest) && local.live.is_none();

    let record = ProfileFile {
        identity: exported.identity.clone(),
        plan: exported.plan.clone(),
        newest: if is_newer {
            exported.newest
        } else {
            local_record.newest
        },
        ..local_record
    };

    Ok(profiles.write_record(name, &record)?)
}

/// Creates the profile of an account whose exported login must not be used. The profile gets the live login if there is
/// one. Otherwise it gets the `profile.json` of the removed profile, if any, or of the export.
fn create_without_exported_login(
    name: &str,
    exported: &ProfileFile,
    local: &LocalAccount,
    profiles: &Profiles,
    options: &ImportOptions<'_>,
) -> Result<(), TransferError> {
    if let Some(live) = &local.live
        && let Some(login) = &live.login
    {
        let (home, now) = (options.codex_home, options.now);
        profiles.save_as(name, (live, login), home, LoginCopy::Ordinary, now)?;
    } else {
        let _lock = FileLock::acquire(&profiles.lock_path())?;
        // The location of the login on another machine makes no sense here.
        let exported_record = || ProfileFile {
            owner: LoginOwner::Profile,
            live_home: None,
            moving: None,
            moved_with: None,
            ..exported.clone()
        };
        profiles.write_record(name, &local.removed.clone().unwrap_or_else(exported_record))?;
    }
    Ok(())
}
