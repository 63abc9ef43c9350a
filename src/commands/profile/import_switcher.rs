//! `profile import --from SWITCHER`: saves the logins that another account switcher keeps.

use crate::commands::profile::records::record_profiles_if;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::{Style, object};
use crate::views::account::printable;
use crate::views::dry_run::wording;
use codex_manager_core::accounts::profile::LoginCopy;
use codex_manager_core::accounts::profile_ops::{derive_default_name, plan_save};
use codex_manager_core::accounts::switchers::{Switcher, SwitcherLogin};
use codex_manager_core::accounts::{Profile, SaveOutcome};
use codex_manager_core::codex::{AuthFile, AuthSnapshot, Login, login_lock, read_login};
use codex_manager_core::io::settings::choice_name;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A login that was saved. The keys are an interface.
#[derive(Debug, Serialize)]
struct ImportedLogin {
    /// The name in the switcher.
    name: String,
    profile: String,
    email: String,
    account_id: Option<String>,
    outcome: SaveOutcome,
    /// The Codex home that owns the login; the profile then has a copy.
    live_home: Option<PathBuf>,
}

/// A login that was left out. The keys are an interface.
#[derive(Debug, Serialize)]
struct SkippedLogin {
    name: String,
    path: PathBuf,
    reason: String,
}

/// Saves all logins of a switcher as profiles.
///
/// # Errors
/// The switcher has no logins, or its lists cannot be read. A login that cannot be saved is left out.
pub(super) fn import_logins(
    switcher: Switcher,
    folder: Option<&Path>,
    dry_run: bool,
    context: &Context,
) -> Result<Outcome> {
    let switcher_name = choice_name(&switcher);
    let hint =
        format!("name its folder: codex-manager profile import --from {switcher_name} FOLDER");

    let folder = match folder {
        Some(folder) => context.env.absolute(folder),
        None => switcher
            .default_folder(context.codex_home(), &context.env)
            .ok_or_else(|| {
                CommandError::usage(format!("the folder of {switcher_name} is unknown")).hint(&hint)
            })?,
    };

    let logins = switcher.read_logins(&folder)?;
    if logins.is_empty() {
        let message = format!("no logins of {switcher_name} found: {}", folder.display());
        return Err(CommandError::failed(message).hint(hint));
    }

    // A login that cannot be saved does not stop the others.
    let (mut imported, mut skipped) = (Vec::new(), Vec::new());
    for login in logins {
        match import_login(&login, dry_run, context) {
            Ok(imported_login) => imported.push(imported_login),
            Err(e) => skipped.push(SkippedLogin {
                name: login.name,
                path: login.path,
                reason: e.to_one_line(),
            }),
        }
    }

    let cooldown_outcome = record_profiles_if(!dry_run, context);
    let json = object()
        .with("from", &switcher_name)
        .with("file", folder.display().to_string())
        .with("profiles", &imported)
        .with("skipped", &skipped)
        .with("dry_run", dry_run);
    context.ui.document("profile import", &json);
    print_logins(&imported, &skipped, &switcher_name, dry_run, context);
    Ok(cooldown_outcome.or(Outcome::partial_if(!skipped.is_empty())))
}

/// Saves one login as a profile; in a dry run only plans it.
///
/// # Errors
/// The file has no usable login, a profile in the trash has a newer one, or the profile cannot be written.
fn import_login(
    switcher_login: &SwitcherLogin,
    dry_run: bool,
    context: &Context,
) -> Result<ImportedLogin> {
    let (snapshot, login) = match &switcher_login.auth {
        AuthFile::Present(snapshot) => (snapshot, snapshot.login.as_ref()),
        AuthFile::Missing => return Err(CommandError::failed("contains no login")),
        AuthFile::Unreadable { reason, .. } => {
            return Err(CommandError::failed(format!(
                "not a valid auth.json ({reason})"
            )));
        }
    };
    let login = login.ok_or_else(|| CommandError::failed("contains no login"))?;

    let live_auth = read_login(context.codex_home())?;
    let is_live = live_auth
        .login()
        .is_some_and(|live_login| live_login.identity.is_same(&login.identity));

    let (profiles, now) = (context.profiles(), context.local_now());
    // The home that owns the login. It is the Codex home if the account is live there, or if the switcher has no home
    // of this account.
    let home = match switcher_login.home.as_deref() {
        Some(switcher_home) if !is_live => switcher_home,
        _ => context.codex_home(),
    };

    let _locks = if dry_run {
        None
    } else {
        Some(profiles.lock_accounts(&[&login.identity], now, login_lock::REFRESH_TIMEOUT)?)
    };

    profiles.check_newest_not_in_trash(login)?;
    let existing = profiles.list()?;
    let (name, outcome) = plan_name_and_effect(&existing, &switcher_login.name, (snapshot, login))?;
    if !dry_run {
        profiles.save_as(&name, (snapshot, login), home, LoginCopy::Ordinary, now)?;
    }

    let own_profile = profiles.find(&login.identity)?;
    let recorded_home = own_profile.and_then(|profile| profile.find_live_home(home));
    // A dry run creates no profile, so for a new account no home is recorded.
    let live_home = (is_live || switcher_login.home.is_some()).then(|| home.to_path_buf());
    Ok(ImportedLogin {
        name: switcher_login.name.clone(),
        profile: name,
        email: login.identity.email.as_str().to_owned(),
        account_id: login.identity.account_id.clone(),
        outcome,
        live_home: recorded_home.or(live_home),
    })
}

/// Returns the name of the profile and the effect of saving. An account with a profile keeps its name. A new profile
/// gets the name `preferred` if it is free and valid, otherwise a name from the email.
fn plan_name_and_effect(
    existing: &[Profile],
    preferred: &str,
    (snapshot, login): (&AuthSnapshot, &Login),
) -> Result<(String, SaveOutcome)> {
    let own_profile = existing
        .iter()
        .find(|p| p.identity().is_some_and(|id| id.is_same(&login.identity)));

    if own_profile.is_none()
        && let Ok(plan) = plan_save(existing, preferred, (snapshot, login), LoginCopy::Ordinary)
    {
        return Ok((preferred.to_owned(), plan.outcome));
    }

    let name = derive_default_name(existing, &login.identity)?;
    let plan = plan_save(existing, &name, (snapshot, login), LoginCopy::Ordinary)?;
    Ok((name, plan.outcome))
}

fn print_logins(
    imported: &[ImportedLogin],
    skipped: &[SkippedLogin],
    switcher_name: &str,
    dry_run: bool,
    context: &Context,
) {
    let ui = &context.ui;

    for login in imported {
        let name = ui.paint(Style::Strong, &login.profile);
        let email = printable(&login.email);
        let effect = match login.outcome {
            SaveOutcome::Created => wording(dry_run, "would save", "saved"),
            SaveOutcome::Updated => wording(dry_run, "would update", "updated"),
            SaveOutcome::Unchanged => "unchanged",
            SaveOutcome::KeptNewer => "has a newer login",
        };

        let copy_note = login.live_home.as_ref().map_or(String::new(), |home| {
            format!(
                "; this is a copy, because the login is live in {}",
                home.display()
            )
        });
        ui.prose(format_args!("{name} ({email}): {effect}{copy_note}"));
    }

    for login in skipped {
        ui.warn(format_args!(
            "not imported ({}): {}",
            login.reason,
            login.path.display()
        ));
    }

    ui.note(format_args!(
        "{switcher_name} still has these logins; do not switch with it any more: a login that is used in two places stops \
        working in both"
    ));
}
