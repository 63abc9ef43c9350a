//! Checks of the manager home: permissions, documents, profiles, leftovers and unknown files.

use super::check::{Check, Remedy, Status};
use super::permissions::{advice_to_make_readable, is_manager_file, list_entries};
use super::{archives, permissions};
use crate::config::file::ConfigFile;
use crate::context::Context;
use crate::ui::windows;
use codex_manager_core::accounts::profile::{Profile, Profiles};
use codex_manager_core::codex::auth::AuthFile;
use codex_manager_core::codex::home::AUTH_JSON;
use codex_manager_core::codex::threads;
use codex_manager_core::inventory::records::InventoryFile;
use codex_manager_core::inventory::{cleanup, cooldown, remedies, store};
use codex_manager_core::io::clock::Timestamp;
use codex_manager_core::io::document::{self, DocumentError, DocumentState};
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::io::settings::SettingsError;
use codex_manager_core::io::{shell, space};
use codex_manager_core::journal::{self, KeptAs};
use codex_manager_core::launch::registry::LaunchRegistry;
use codex_manager_core::restore::pending;
use codex_manager_core::transfer::python_home::find_unimported;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(crate) fn run_checks(context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    let home = context.manager_home();
    checks.push(check_config_file(home));

    if home.is_dir() {
        checks.push(check_permissions(context));
        checks.extend(check_writable(home));
        checks.push(check_inventory(home));
        checks.push(check_cooldown_file(context));
        checks.extend(check_resets(context));
        checks.extend(check_profiles(context));
        checks.extend(check_launches(context));
        checks.extend(check_foreign_files(home));
    } else if home.symlink_metadata().is_ok() {
        checks.push(
            Check::not_a_folder("manager.home", home)
                .because("no backup can be created or restored"),
        );
    } else {
        let message = format!("does not exist yet: {}", home.display());
        checks.push(
            Check::warn("manager.home", message)
                .because("there is no backup to restore")
                .fixed_by_backup(context.codex_home()),
        );
    }

    checks.extend(check_python_home(context));
    checks.extend(archives::run_checks(context));
    checks.extend(check_restores(context));
    checks.push(check_temp_files(context));
    checks
}

/// The consequence of a `config.toml` that cannot be used.
const INVALID_CONFIG: &str = "accounts, list and recommend use the defaults; other commands fail";

fn check_config_file(home: &Path) -> Check {
    const ID: &str = "manager.config";
    let advise_edit = |verb: &str| {
        let path = ConfigFile::path_in(home);
        format!(
            "{verb} in an editor: {}; or with EDITOR set: codex-manager config edit",
            path.display()
        )
    };
    let result = ConfigFile::read(home).and_then(|file| file.validate().map(|_values| file));
    match result {
        Err(e @ SettingsError::Newer { .. }) => Check::fail(ID, e.to_string())
            .because(INVALID_CONFIG)
            .advised(UPGRADE),
        Err(SettingsError::Io(e)) => Check::fail(ID, format!("{e}: {}", e.source))
            .because(INVALID_CONFIG)
            .fixed_by_making_readable(&e),
        Err(e) => Check::fail(ID, e.to_string())
            .because(INVALID_CONFIG)
            .advised(advise_edit("fix it")),
        Ok(file) => match file.unknown_keys().first() {
            Some(unknown) => Check::warn(ID, unknown.to_string())
                .because("the key has no effect")
                .advised(advise_edit("correct the key")),
            None => Check::ok(ID, "config.toml is valid"),
        },
    }
}

fn check_permissions(context: &Context) -> Check {
    let home = context.manager_home();
    if permissions::homes_overlap(context.codex_home(), home) {
        let message = format!(
            "the same folder as the Codex home, or nested with it: {}",
            home.display()
        );
        return Check::warn("manager.home", message)
            .because("doctor cannot distinguish the files of both, so it fixes no permissions")
            .advised(
                "use a separate folder: move codex-manager's files there and set CODEX_MANAGER_HOME",
            );
    }

    let exposed = permissions::find_accessible_to_others(context.codex_home(), home);
    let finding = "accessible to other users";
    let Some(check) = Check::about_paths("manager.home", Status::Fail, finding, &exposed) else {
        return Check::ok("manager.home", home.display().to_string());
    };
    let check = check.because("archives and profiles contain logins");

    match exposed
        .iter()
        .find(|path| permissions::belongs_to_other_user(path))
    {
        Some(foreign_path) => check.fixed_by_chmod("go-rwx", foreign_path),
        None => check.fixed_by("codex-manager doctor --fix"),
    }
}

/// Checks that the manager home and `backups/` are writable. Returns `None` if they are, or do not exist.
fn check_writable(home: &Path) -> Option<Check> {
    let folders = [home.to_path_buf(), store::backups_folder(home)];
    let folder = folders
        .iter()
        .find(|folder| folder.is_dir() && !space::is_writable(folder))?;

    let message = format!("not writable: {}", folder.display());
    let check =
        Check::warn("manager.home", message).because("no backup can be created and no login saved");
    Some(check.advised(remedies::describe_making_writable(folder)))
}

fn check_inventory(home: &Path) -> Check {
    const ID: &str = "manager.inventory";
    match document::read::<InventoryFile>(&home.join(store::FILE_NAME)) {
        Err(e) => with_document_fix(Check::fail(ID, e.to_string()), &e)
            .because("codex-manager cannot record archives and legacy files"),
        Ok(DocumentState::Damaged(detail)) => {
            Check::fail(ID, format!("inventory.json is damaged: {detail}"))
                .because("each command that lists archives has to read all of them")
                .fixed_by("codex-manager doctor --fix")
        }
        Ok(_) => Check::ok(ID, "inventory.json is valid"),
    }
}

fn check_cooldown_file(context: &Context) -> Check {
    const ID: &str = "manager.cooldown";
    match cooldown::load(context.manager_home(), &context.now(), context.zone()) {
        Err(e) => with_document_fix(Check::fail(ID, e.to_string()), &e)
            .because("no account can be recommended"),
        Ok(loaded) if !loaded.warnings.is_empty() => Check::fail(ID, loaded.warnings.join("; "))
            .because("earlier quota figures are lost")
            .fixed_by("codex-manager doctor --fix"),
        Ok(_) => Check::ok(ID, "cooldown.json is valid"),
    }
}

/// Warns of banked resets that are about to expire; `None` if no account has one.
fn check_resets(context: &Context) -> Option<Check> {
    let (now, zone) = (context.now(), context.zone());
    let loaded = cooldown::load(context.manager_home(), &now, zone).ok()?;

    let expiring_resets = loaded.file.accounts.iter().filter_map(|entry| {
        let observation = entry.observation.as_ref()?;
        let resets = observation.reset_credits.as_ref()?;
        // Leaves out an account if none of its resets expires soon.
        resets.next_expiry_if_soon(&now)?;
        let name = entry.profile.as_deref();
        let name = name.unwrap_or(entry.identity.email.as_str());
        let resets_text = windows::format_resets(observation, zone, &now)?;
        Some(format!("{name}: {resets_text}"))
    });
    let expiring_resets: Vec<_> = expiring_resets.collect();

    (!expiring_resets.is_empty()).then(|| {
        Check::warn("manager.resets", expiring_resets.join("; "))
            .because("a banked reset that is not spent is lost")
            .advised("spend it in Codex when the weekly window is used up: /usage")
    })
}

fn check_profiles(context: &Context) -> Vec<Check> {
    const ID: &str = "manager.profiles";
    const WHY: &str = "the login of this profile cannot be used";
    let home = context.manager_home();
    let profiles = context.profiles();
    let all_profiles = match profiles.list() {
        Ok(all_profiles) => all_profiles,
        Err(e) => {
            let check = Check::fail(ID, e.to_string()).because("no saved login can be used");
            return vec![check.advised(advice_to_make_readable(&home.join("profiles")))];
        }
    };

    let mut checks = Vec::new();
    for profile in &all_profiles {
        if let Some(problem) = &profile.unusable {
            checks.push(Check::fail(ID, problem).because(WHY).advised(UPGRADE));
        } else if let Some((fault, fix)) =
            find_profile_fault(profile, &profiles, context.codex_home())
        {
            checks.push(Check {
                fix: Some(fix),
                ..Check::fail(ID, fault).because(WHY)
            });
        }
    }

    // `list` has read the same profiles without an error.
    for profile in profiles.list_unidentified().unwrap_or_default() {
        let folder = profiles.folder_of(&profile.name);
        let message = format!(
            "the account of this profile is unknown: {}",
            folder.display()
        );
        let check = Check::fail(ID, message).because(WHY);
        let name = shell::quote_if_needed(&profile.name);
        checks.push(check.advised(format!(
            "move the folder away; then save a login of its history/: codex-manager profile save {name} --from FILE; \
             or sign in again: codex-manager profile login {name}"
        )));
    }

    if checks.is_empty() {
        let profiles = pluralize(all_profiles.len(), "profile");
        checks.push(Check::ok(ID, format!("{profiles} checked")));
    }
    checks
}

/// Returns the fault of a profile and its fix; `None` if the profile is usable.
fn find_profile_fault(
    profile: &Profile,
    profiles: &Profiles,
    codex_home: &Path,
) -> Option<(String, Remedy)> {
    let name = &profile.name;
    let quoted_name = shell::quote_if_needed(name);
    let sign_in = || Remedy::Command(format!("codex-manager profile login {quoted_name}"));

    if let Some(reason) = &profile.damaged {
        let fault = format!("the profile.json of {name} is damaged: {reason}");
        let login_path = profiles.folder_of(name).join(AUTH_JSON);
        let fix = if profile.login().is_some() {
            let login_path = shell::quote_if_needed(&login_path.to_string_lossy());
            Remedy::Command(format!(
                "codex-manager profile save {quoted_name} --from {login_path}"
            ))
        } else {
            sign_in()
        };
        return Some((fault, fix));
    }

    let AuthFile::Unreadable { reason, .. } = &profile.auth else {
        return None;
    };

    let fault = format!("the auth.json of {name} is {reason}");
    // A dry run does not use the time. Without the start of a name, it tries the newest login.
    let (file_name_start, now, dry_run) = (None, Timestamp::default(), true);
    let try_restore = || profiles.restore_login(name, file_name_start, codex_home, now, dry_run);
    // If the account is live, the newest login is the one in the Codex home.
    let fix = if profile.find_live_home(codex_home).is_some() {
        Remedy::Command(format!("codex-manager profile save {quoted_name}"))
    } else if try_restore().is_ok() {
        Remedy::Command(format!("codex-manager profile restore-login {quoted_name}"))
    } else {
        sign_in()
    };
    Some((fault, fix))
}

/// Adds the fix for a document that cannot be read.
fn with_document_fix(check: Check, error: &DocumentError) -> Check {
    match error {
        DocumentError::Newer { .. } => check.advised(UPGRADE),
        DocumentError::Io(e) => check.fixed_by_making_readable(e),
    }
}

/// The advice for a document of a newer version. This version never rewrites such a document, because it would drop the
/// fields that it does not know.
const UPGRADE: &str = "upgrade codex-manager: a newer version wrote it; the file was not changed";

/// Checks the launch registry for unreadable lines. Returns `None` if no launch is recorded.
fn check_launches(context: &Context) -> Option<Check> {
    const ID: &str = "manager.launches";
    let launches = match LaunchRegistry::of(context.manager_home()).read() {
        Ok(launches) => launches,
        Err(e) => {
            let why = "new launches are not recorded, and resume cannot find the account";
            return Some(Check::fail(ID, e.to_string()).because(why));
        }
    };

    if launches.count_unreadable_lines() > 0 {
        let lines = pluralize(launches.count_unreadable_lines(), "line");
        let check = Check::warn(ID, format!("{lines} of launches.jsonl cannot be read"));
        let check = check.because("those launches are not listed");
        return Some(check.advised("no action is needed: the other lines are used"));
    }

    if launches.is_empty() {
        return None;
    }

    let message = format!("{} recorded", pluralize(launches.len(), "launch"));
    Some(Check::ok(ID, message))
}

/// Reports unknown entries of the manager home, which no command changes.
fn check_foreign_files(home: &Path) -> Option<Check> {
    let foreign_files = list_entries(home, |name| !is_manager_file(name));
    let finding = "unknown file, left unchanged";
    Check::about_paths("manager.foreign", Status::Ok, finding, &foreign_files)
}

/// Finds archives of the Python codex-manager 1.x or 2.0, which used a separate home. Returns `None` if there are none,
/// or if at least one is imported.
fn check_python_home(context: &Context) -> Option<Check> {
    let (folder, archive_count) = find_unimported(&context.env, context.manager_home())?;
    let (archives, folder) = (pluralize(archive_count, "archive"), folder.display());
    let message = format!("{archives} of the Python codex-manager: {folder}");
    let check = Check::warn("manager.python", message)
        .because("they are not listed and cannot be restored until they are imported");
    Some(check.fixed_by("codex-manager config import-python"))
}

/// Returns a warning for each kind of kept folders.
fn warn_of_kept_folders(folders: &[(PathBuf, KeptAs)]) -> Vec<Check> {
    let join_paths_of = |kind| {
        let of_kind = folders.iter().filter(|(_, kept)| *kept == kind);
        let paths: Vec<_> = of_kind
            .map(|(path, _)| path.display().to_string())
            .collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    };

    let evidence_check = join_paths_of(KeptAs::Evidence).map(|folders| {
        let message = format!("files written during an interrupted command are kept: {folders}");
        Check::warn("restore", message)
            .because("the Codex home does not have them")
            .advised("copy what you need into the Codex home, then remove the folders")
    });
    let leftover_check = join_paths_of(KeptAs::Leftover).map(|folders| {
        let message = format!("files replaced by a restore were not removed: {folders}");
        Check::warn("restore", message)
            .because("they only take disk space")
            .advised("remove them, as the user who owns them")
    });
    evidence_check.into_iter().chain(leftover_check).collect()
}

/// Checks for an interrupted or running restore, and for the folders that earlier restores kept.
fn check_restores(context: &Context) -> Vec<Check> {
    let folders = pending::find_candidate_folders(context.codex_home(), context.manager_home());
    let pending_folder = folders.keys().find(|folder| folder.exists());
    // The folder also exists while a restore runs.
    let running = pending_folder.and_then(|folder| journal::find_running(folder));

    if let Some(folder) = pending_folder.filter(|_| running.is_none()) {
        let message = format!("unfinished interrupted restore: {}", folder.display());
        let check = Check::fail("restore", message)
            .because("the home may be a mix of the states before and after")
            .advised("end Codex, then run: codex-manager doctor");
        return vec![check];
    }
    if let Some(holder) = running {
        let check = Check::warn("restore", format!("{holder} is running a restore"))
            .because("it is about to replace the home")
            .advised("wait until it has finished");
        return vec![check];
    }

    let mut checks = warn_of_kept_folders(&pending::list_kept_folders(context.codex_home()));
    if checks.is_empty() {
        checks.push(Check::ok("restore", "no interrupted restore"));
    }
    checks
}

fn check_temp_files(context: &Context) -> Check {
    let stale_paths = find_stale_temp_files(context);
    let finding = "stale temp files or folders";
    match Check::about_paths("temp", Status::Warn, finding, &stale_paths) {
        None => Check::ok("temp", "no stale temp files"),
        Some(check) => check
            .because("a killed command left them; they only take disk space")
            .fixed_by("codex-manager doctor --fix"),
    }
}

/// Returns temp files and folders of killed commands that no process uses.
pub(crate) fn find_stale_temp_files(context: &Context) -> Vec<PathBuf> {
    // The age of a file is measured by the clock of the system, which sets the times of files.
    #[allow(clippy::disallowed_methods, reason = "see above")]
    let now = SystemTime::now();
    // Temp files are beside the files that they replace: logins and lists in the Codex home, and databases in their own
    // folder.
    let other_folders = [
        context.codex_home().to_path_buf(),
        threads::find_state_folder(context.codex_home(), &context.env),
    ];
    cleanup::find_leftovers(context.manager_home(), &other_folders, now)
}
