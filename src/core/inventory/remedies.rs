//! Chooses the command that restores a usable login, from the logins that are available.

use super::store;
use crate::accounts::{LoginOwner, Profile, Profiles};
use crate::codex::Identity;
use crate::io::{atomic, shell, user};
use std::path::Path;

/// Returns the command that makes a saved login live in `codex_home`; `None` without a usable login. Prefers the
/// account that was live there last, then the newest usable login in a profile, then in an archive if `may_restore`.
pub fn suggest_login_command(
    codex_home: &Path,
    manager_home: &Path,
    may_restore: bool,
) -> Option<String> {
    let profiles = Profiles::of(manager_home).list().unwrap_or_default();
    let usable_profiles = profiles.iter().filter(|p| may_go_live(p, codex_home));
    let best_profile = usable_profiles.max_by(|a, b| {
        let [a_was_live, b_was_live] = [a, b].map(|profile| profile.is_recorded_in(codex_home));
        let by_home = a_was_live.cmp(&b_was_live);
        by_home.then_with(|| a.newest().compare(&b.newest()))
    });
    if let Some(profile) = best_profile {
        let name = shell::quote_if_needed(&profile.name);
        return Some(format!("codex-manager use {name}"));
    }
    if !may_restore {
        return None;
    }

    let records = store::list_archives(manager_home).ok()?;
    // A restore leaves out a login that was moved to another machine.
    let is_moved = |account: &Identity| {
        profiles
            .iter()
            .any(|profile| profile.file.owner == LoginOwner::Moved && profile.is_of(account))
    };
    let archive = store::find_newest_usable(&records, |metadata| {
        let account = metadata.identity();
        metadata.captures_login() && account.is_some_and(|account| !is_moved(&account))
    })?;
    let name = shell::quote_if_needed(&archive.path);
    Some(format!("codex-manager restore {name} --only auth.json"))
}

/// Advises how to put back the account's removed profile if the trash has a usable login of it.
pub fn suggest_removed_login(account: &Identity, manager_home: &Path) -> Option<String> {
    let removed = Profiles::of(manager_home).find_removed(account)?;
    let has_usable_login = removed.usable_login.is_some();
    has_usable_login.then(|| suggest_undo(&removed.name))
}

/// Advises how to put back a profile that is in the trash.
pub fn suggest_undo(profile: &str) -> String {
    let name = shell::quote_if_needed(profile);
    format!("the profile was removed; put it back: codex-manager profile undo {name}")
}

/// Advises what to do about a Codex home that does not exist. `name` is the flag, variable or setting that names it.
pub fn suggest_check_of_home(name: &str, codex_home: &Path) -> String {
    let quoted_home = shell::quote_if_needed(&codex_home.to_string_lossy());
    let command = if cfg!(windows) {
        "mkdir"
    } else {
        "mkdir -m 700 -p"
    };
    format!("check {name}; or create the folder: {command} {quoted_home}")
}

/// Advises how to correct the setting `folders.` of `folder`, if it names an account that does not exist.
pub fn suggest_folder_setting(folder: &str) -> String {
    let setting = shell::quote_if_needed(&format!("folders.{folder}"));
    format!(
        "set another: codex-manager config set {setting} PROFILE; or remove it: codex-manager config unset {setting}"
    )
}

/// Returns the command that switches another Codex home to an account that the user chooses.
pub fn format_switch_command(home: &Path) -> String {
    let home = shell::quote_if_needed(&home.to_string_lossy());
    format!("codex-manager --codex-home {home} use ACCOUNT")
}

/// Advises what to do about a login that the Codex home `owner_home` owns.
pub fn suggest_switch_of_owner(owner_home: &Path) -> String {
    format!(
        "a login that is used in two homes stops working in both; use it in that home, or first switch that home: {}",
        format_switch_command(owner_home)
    )
}

/// The step before a sign-in on a machine without Codex.
pub const INSTALL_CODEX: &str = "install Codex (npm install -g @openai/codex)";

/// Returns true if `use` would accept the login of this profile.
fn may_go_live(profile: &Profile, codex_home: &Path) -> bool {
    profile.damaged.is_none()
        && profile.login().is_some()
        && !profile.is_stale()
        && !profile.is_superseded()
        && matches!(profile.file.owner, LoginOwner::Live | LoginOwner::Profile)
        && profile.other_live_home(codex_home).is_none()
}

/// Returns the advice for a folder that is not writable.
pub fn describe_making_writable(folder: &Path) -> String {
    let quoted_folder = shell::quote_if_needed(&folder.to_string_lossy());
    let advice = describe_taking_ownership(folder)
        .unwrap_or_else(|| format!("make it writable (chmod u+rwx {quoted_folder})"));
    format!("{advice}, or mount its disk read-write")
}

/// Returns the advice for a folder that cannot be listed.
pub fn describe_making_readable(folder: &Path) -> String {
    let quoted_folder = shell::quote_if_needed(&folder.to_string_lossy());
    describe_taking_ownership(folder)
        .unwrap_or_else(|| format!("make it readable: chmod -R u+rwX {quoted_folder}"))
}

/// Returns the advice for a path that another user owns; `None` if this user owns it, and on Windows.
pub fn describe_taking_ownership(path: &Path) -> Option<String> {
    let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
    let meta = path.metadata().ok()?;
    user::other_owner(&meta).map(|_| {
        format!("another user owns it; take ownership: sudo chown -R \"$USER\" {quoted_path}")
    })
}

/// Returns the command that replaces a file that has a second hard link by a copy.
pub fn format_unlink_command(path: &Path) -> String {
    let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
    format!("cp -p {quoted_path} {quoted_path}.new && mv {quoted_path}.new {quoted_path}")
}

/// Returns the command that renames whatever is at `path` to a free name beside it.
pub fn format_rename_aside_command(path: &Path) -> String {
    let quote = |path: &Path| shell::quote_if_needed(&path.to_string_lossy());
    let free_path = atomic::find_free_path(&atomic::with_suffix(path, ".aside"));
    format!("mv {} {}", quote(path), quote(&free_path))
}
