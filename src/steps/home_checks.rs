//! Checks of the Codex home before and after its login changes.

use crate::context::Context;
use crate::doctor::way_back::suggest_sign_in;
use crate::error::{CommandError, Result};
use crate::views::account::printable;
use codex_manager_core::accounts::isolated::is_isolated_home;
use codex_manager_core::codex::{CodexConfig, CredentialStore};
use codex_manager_core::inventory::remedies;
use codex_manager_core::io::{modes, shell};
use codex_manager_core::restore::pending;
use std::ffi::OsString;
use std::path::Path;

/// Checks that the Codex home is a folder.
///
/// # Errors
/// There is no Codex home.
pub(crate) fn require_codex_home(context: &Context) -> Result<()> {
    let home = context.codex_home();
    if home.is_dir() {
        return Ok(());
    }
    let message = format!("no Codex home: {}", home.display());
    let error = CommandError::failed(message).hint_each(suggest_sign_in(context));
    Err(match context.name_of_missing_home() {
        // The user has named this home.
        Some(_) => error,
        None => error.hint("or name the folder with --codex-home DIR"),
    })
}

/// Fails during a restore of the home, because the files of the home may then be a mixture of two states.
///
/// # Errors
/// Another process is restoring the home.
pub(crate) fn refuse_during_restore(context: &Context) -> Result<()> {
    if let Some(holder) = pending::find_running(context.codex_home()) {
        let hint = "wait for it to finish, then run the same command again; nothing was written";
        return Err(CommandError::failed(format!("{holder} is restoring this home")).hint(hint));
    }
    Ok(())
}

/// Checks that Codex reads `auth.json` of the home. Otherwise changing that file has no effect.
///
/// # Errors
/// Codex uses another credential store, or its `config.toml` cannot be parsed.
pub(crate) fn check_credential_store(context: &Context) -> Result<()> {
    let home = context.codex_home();
    let config = CodexConfig::read(home);
    if let Some(problem) = config.problem {
        return Err(CommandError::usage(format!(
            "cannot parse config.toml of the Codex home: {problem}"
        ))
        .hint("fix the file, because Codex does not start with it either; nothing was changed"));
    }

    // Codex with a keyring deletes auth.json when it stores a login, so a switch by this file would have no effect.
    if config.store.always_reads_auth_json() {
        return Ok(());
    }

    let advice = config.store.advise_file_store(home);
    Err(CommandError::refused(config.store.auth_json_problem())
        .hint(format!("{advice}; nothing was changed")))
}

/// Checks that the arguments of Codex do not select another credential store than `auth.json`.
pub(crate) fn check_store_in_arguments(arguments: &[OsString]) -> Result<()> {
    match CredentialStore::from_arguments(arguments) {
        Some(store) if !store.always_reads_auth_json() => {
            Err(CommandError::refused(store.auth_json_problem())
                .hint("start Codex without this setting in its arguments; nothing was changed"))
        }
        _ => Ok(()),
    }
}

/// Fails if the Codex home is an isolated home, because an isolated home has a fixed account. `CODEX_HOME` names an
/// isolated home in the shells that an isolated Codex starts.
pub(crate) fn check_not_isolated(context: &Context) -> Result<()> {
    if !is_isolated_home(context.codex_home(), context.manager_home()) {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "the Codex home is an isolated home: {}",
        context.codex_home().display()
    ))
    .hint("name the real Codex home with --codex-home DIR; nothing was changed"))
}

/// Returns true if other users can read the files in `home`, and the user has not allowed logins in this folder.
pub(crate) fn forbids_logins(context: &Context, home: &Path) -> bool {
    let folders = &context.settings.preferences.folders;
    modes::exposes_files(home) && !folders.allows_logins_in(home, context.env.home_dir.as_deref())
}

/// Returns the reason why `home` must not have logins, with the command that allows them.
pub(crate) fn describe_login_ban(home: &Path) -> String {
    let setting = shell::quote_if_needed(&format!("shared_logins.{}", home.display()));
    format!(
        "other users can read {}, because its disk has no file modes; to allow logins there: codex-manager config set {setting} true",
        home.display()
    )
}

/// Fails if other users could read a login that is stored in one of the `homes`.
///
/// # Errors
/// A home is on a disk without file modes, and the user has not allowed logins there.
pub(crate) fn check_logins_allowed(context: &Context, homes: &[&Path]) -> Result<()> {
    let shared_home = homes.iter().find(|home| forbids_logins(context, home));
    let Some(home) = shared_home else {
        return Ok(());
    };
    Err(CommandError::refused(format!(
        "others can read logins on a disk without file modes: {}",
        home.display()
    ))
    .hint(format!("{}; nothing was changed", describe_login_ban(home))))
}

/// Warns if the account of a profile is signed in to another Codex home, because that home then owns the login. Returns
/// true if it is signed in there.
pub(crate) fn warn_if_live_elsewhere(profile: &str, context: &Context) -> bool {
    let Ok(profile) = context.profiles().find_by_name(profile) else {
        return false;
    };
    let Some(home) = profile.other_live_home(context.codex_home()) else {
        return false;
    };

    let (name, shown_home) = (printable(&profile.name), home.display());
    if is_isolated_home(home, context.manager_home()) {
        context.warn(format_args!(
            "the login of {name} is in use in an isolated home; when the last Codex there has ended: codex-manager use {name}"
        ));
    } else if profile.unreadable_home().is_some() {
        context.warn(format_args!(
            "{name} is the live account of another Codex home, which cannot be read: \
             {shown_home}; if that home is gone for good: codex-manager use {name} --force-stale"
        ));
    } else if profile.find_live_home(context.codex_home()).as_deref() == Some(home) {
        // The account is signed in to the other home only, so the login is not used twice.
        context.warn(format_args!(
            "{name} stays the live account of another Codex home: {shown_home}; to use it in this home, first switch \
             the other one: {}",
            remedies::format_switch_command(home)
        ));
    } else {
        context.warn(format_args!(
            "{name} is the live account of another Codex home: {shown_home}; a login that is \
             used in two homes stops working in both, and signing in with codex login would end it in both; \
             sign in again with: codex-manager profile login {name}"
        ));
    }
    true
}
