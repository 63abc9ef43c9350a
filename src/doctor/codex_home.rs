//! Checks of the Codex program and of the Codex home: configuration, login, conversations, daemon.

use super::archives::has_archive;
use super::check::{Check, Status};
use super::databases;
use super::permissions::mode_to_restrict;
use super::rollouts::{find_unlistable_folder, iter_rollouts};
use super::way_back::{find_way_back, format_losses_command, suggest_saved_login, suggest_sign_in};
use crate::context::Context;
use crate::error::{CommandError, ErrorKind, suggest_login_storage};
use codex_manager_core::accounts::running::AccountHistory;
use codex_manager_core::archive::scan::scan_home;
use codex_manager_core::archive::{BackupMode, CaptureScope, EntryName, HomeSubset, NameSet};
use codex_manager_core::codex::auth::AuthFile;
use codex_manager_core::codex::config::{CodexConfig, CredentialStore};
use codex_manager_core::codex::home::{AUTH_JSON, USER_TEXTS, kind_of};
use codex_manager_core::codex::rollout;
use codex_manager_core::codex::{LoginStorageError, check_login_of, daemon, threads};
use codex_manager_core::inventory::status::{self, StatusProblem};
use codex_manager_core::inventory::{losses, remedies};
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::io::{OrdinaryPath, file_open, processes, shell, space, tree};
use codex_manager_core::restore;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The time limit of `codex --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the program and the home. Makes no further checks if the home is missing or cannot be read.
pub(super) fn run_checks(context: &Context) -> Vec<Check> {
    let (program, version) = check_program(context);
    let mut checks = vec![program];

    checks.extend(check_variable(context));

    let home = context.codex_home();
    if let Some(problem) = find_home_problem(context) {
        checks.push(problem);
        return checks;
    }

    let config = CodexConfig::read(home);
    let login_problem = find_login_problem(home, config.store);
    // A state that the check of the login reports needs no second finding.
    let unstorable = match &login_problem {
        Some(StatusProblem::Storage(e)) => Some(e),
        _ => None,
    };

    checks.push(check_home_permissions(home));
    checks.extend(check_writable(home, unstorable));
    checks.extend(check_mounts(home, unstorable));
    checks.extend(check_folders(home));
    checks.push(check_config_file(context, &config));
    checks.push(check_store_setting(home, config.store));
    if let Some(problem) = &login_problem {
        checks.push(describe_login_problem(problem, context));
    } else if config.store.always_reads_auth_json() {
        checks.push(check_login(context, config.store));
    } else if home.join(AUTH_JSON).exists() {
        let message =
            "Codex may use another login than the one in auth.json, so the live account is unknown";
        checks.push(Check::warn("home.login", message));
    }

    checks.extend(check_other_files(home));
    checks.extend(check_texts(context));
    checks.extend(databases::run_checks(context, &config));
    checks.push(check_conversations(context));
    checks.extend(check_losses(context));
    checks.extend(check_gone(context));
    checks.extend(check_compressed_support(home, version.as_deref()));
    checks.extend(check_daemon(context));
    checks
}

/// Reports the recorded losses of this home. Returns `None` if no check has recorded losses of any home yet.
fn check_losses(context: &Context) -> Option<Check> {
    const ID: &str = "home.losses";
    let home = losses::home_key(context.codex_home());
    let mut record = match losses::read(context.manager_home()) {
        Ok(record) if record.checked_at.is_none() => return None,
        Ok(record) => record,
        Err(e) => {
            let check = Check::warn(ID, e.to_string());
            return Some(check.because("cannot check for conversations that lost messages"));
        }
    };

    record.losses.retain(|loss| loss.home == home);
    if record.losses.is_empty() {
        return Some(Check::ok(ID, "no conversation lacks messages"));
    }

    let messages: usize = record.losses.iter().map(|loss| loss.lost_messages).sum();
    let count = pluralize(record.losses.len(), "conversation");
    let message = format!("{count} lost {}", pluralize(messages, "message"));
    let in_vault = record.losses.iter().any(|loss| !loss.snapshots.is_empty());
    let vault_option = if in_vault { " --vault" } else { "" };

    let check = Check::warn(ID, message).because("the messages exist only in copies");
    Some(check.advised(format!(
        "list them, with the commands that bring them back: codex-manager history losses{vault_option}"
    )))
}

/// Reports the recorded conversations that only copies have; `None` if there are none, or if the check of the home or of
/// its conversations names the way back to them.
fn check_gone(context: &Context) -> Option<Check> {
    const ID: &str = "home.gone";
    let gone = context.recorded_gone();
    if gone.is_empty() || find_way_back(context).is_some() {
        return None;
    }

    let message = format!("only in copies: {}", pluralize(gone.len(), "conversation"));
    if !gone.values().any(|known| known.is_loss) {
        return Some(Check::ok(ID, message));
    }
    let check = Check::warn(ID, message).because("many vanished at once");
    let command = format_losses_command(context);
    Some(check.advised(format!(
        "list them, with the commands that bring them back: {command}"
    )))
}

/// Returns a finding if the home is missing or cannot be read.
fn find_home_problem(context: &Context) -> Option<Check> {
    let home = context.codex_home();
    let path_text = home.display();
    let consequence = "Codex and backups cannot use it";

    if !home.is_dir() && home.symlink_metadata().is_ok() {
        let check = Check::not_a_folder("home", home).because(consequence);
        return Some(check.advised("mount its disk, or move it away and start codex once"));
    }

    if !home.is_dir() {
        let way_back = find_way_back(context);
        let finding = way_back.as_ref().map(|way_back| &way_back.finding);
        let finding = finding.map_or(String::new(), |finding| format!("; {finding}"));
        let check = Check::warn("home", format!("no Codex home: {path_text}{finding}"))
            .because("there is nothing to back up");
        return Some(match way_back {
            Some(way_back) => check.fixed_by(way_back.command),
            None => check.advised(suggest_sign_in(context).join("; ")),
        });
    }

    let e = fs::read_dir(home).err()?;
    let check =
        Check::fail("home", format!("cannot be read ({e}): {path_text}")).because(consequence);
    Some(check.fixed_by_chmod("u+rwx", home))
}

fn check_home_permissions(home: &Path) -> Check {
    let path_text = home.display().to_string();
    match mode_to_restrict(home) {
        Some(mode) => {
            let message = format!("accessible to other users (mode {mode:o}): {path_text}");
            Check::warn("home", message)
                .because("other users of this machine may read your conversations")
                .fixed_by_chmod("700", home)
        }
        None => Check::ok("home", path_text),
    }
}

/// Checks that Codex, which does not expand a `~`, finds the folder that `CODEX_HOME` names.
fn check_variable(context: &Context) -> Option<Check> {
    let value = context.env.text("CODEX_HOME")?;
    let is_found = context.env.current_dir.join(value).is_dir();
    if !value.starts_with('~') || is_found {
        return None;
    }
    let message = format!("CODEX_HOME is {value}, and Codex does not expand the ~");
    let check = Check::fail("home", message).because("Codex does not start");
    let home = shell::quote_if_needed(&context.env.absolute(Path::new(value)).to_string_lossy());
    Some(check.advised(format!("set the whole path: export CODEX_HOME={home}")))
}

/// Finds a home that is not writable, unless `unstorable` is the same state.
fn check_writable(home: &Path, unstorable: Option<&LoginStorageError>) -> Option<Check> {
    let is_reported = matches!(
        unstorable,
        Some(LoginStorageError::NotWritable(folder)) if folder.canonical_or_self() == home.canonical_or_self()
    );
    if space::is_writable(home) || is_reported {
        return None;
    }
    let check = Check::warn("home", format!("not writable: {}", home.display())).because(
        "Codex cannot keep its conversations and logins there, and use, launch and restore fail",
    );
    Some(check.advised(remedies::describe_making_writable(home)))
}

/// Finds mount points other than folders at the top of the home, which a restore exchanges entry by entry. Leaves out
/// the file of `unstorable`.
fn check_mounts(home: &Path, unstorable: Option<&LoginStorageError>) -> Option<Check> {
    let home = home.canonical_or_self();
    let mut mounts = restore::list_mounts(&home).unwrap_or_default();
    let login = match unstorable {
        Some(LoginStorageError::Irreplaceable { path, .. }) => path.canonical().ok(),
        _ => None,
    };
    let is_harmless =
        |mount: &Path| mount == home || (mount.parent() == Some(&*home) && mount.is_dir());
    mounts.retain(|mount| !is_harmless(mount) && login.as_ref() != Some(mount));
    let check = Check::about_paths("home.mounts", Status::Warn, "mount points", &mounts)?;
    let check = check.because("a restore or a switch that would replace them is refused");
    Some(check.advised("mount the whole Codex home, or its top-level folders"))
}

/// Finds folders that cannot be listed, such as those that a container has made.
fn check_folders(home: &Path) -> Option<Check> {
    let mut unreadable = Vec::new();
    for (name, kind) in tree::list(home).ok()? {
        find_unreadable(home, Path::new(&name), kind, &mut unreadable);
    }
    let finding = "cannot be listed";
    let check = Check::about_paths("home.folders", Status::Warn, finding, &unreadable)?;
    let check = check.because("backups skip it, and a restore leaves it as it is");
    Some(check.fixed_by_chmod("-R u+rwX", &unreadable[0]))
}

/// Adds the folders at `relative` and below that archives should have, but that cannot be listed.
fn find_unreadable(home: &Path, relative: &Path, kind: FileType, unreadable: &mut Vec<PathBuf>) {
    let is_archived = kind_of(relative).is_archived_by_default();
    if !kind.is_dir() || !is_archived || tree::is_too_deep(relative) {
        return;
    }
    match tree::list_if_permitted(&home.join(relative)) {
        Ok(Some(entries)) => {
            for (name, kind) in entries {
                find_unreadable(home, &relative.join(name), kind, unreadable);
            }
        }
        Ok(None) => unreadable.push(home.join(relative)),
        // Backups name the defect of the disk.
        Err(_) => {}
    }
}

fn check_config_file(context: &Context, config: &CodexConfig) -> Check {
    let Some(problem) = &config.problem else {
        return Check::ok("home.config", "config.toml is valid");
    };

    let message = format!("cannot parse config.toml: {problem}");
    let path = context.codex_home().join("config.toml");
    let path_text = path.display();
    let check = Check::fail("home.config", message).because("Codex does not start");

    if file_open::require_file_if_exists(&path).is_err() {
        check.fixed_by(remedies::format_rename_aside_command(&path))
    } else if has_archive(context) {
        check.advised(format!(
            "fix the file: {path_text}; or restore it from an archive: codex-manager restore latest --only config.toml"
        ))
    } else {
        check.advised(format!("fix the file: {path_text}"))
    }
}

fn check_store_setting(home: &Path, store: CredentialStore) -> Check {
    if store.always_reads_auth_json() {
        return Check::ok("home.store", "Codex stores the login in auth.json");
    }

    Check::warn("home.store", store.auth_json_problem())
        .because("codex-manager switches only logins in auth.json")
        .advised(store.advise_file_store(home))
}

/// Checks that Codex's background daemon uses the account in `auth.json`. Returns `None` if no daemon is running or
/// `auth.json` cannot be read.
fn check_daemon(context: &Context) -> Option<Check> {
    const ID: &str = "home.daemon";
    let home = context.codex_home();
    let pid = daemon::find(home)?.pid;
    let live_auth = AuthFile::read(&home.join(AUTH_JSON)).ok()?;

    // No process can ask the daemon for its account, so the account that was live when the daemon started counts. If
    // the history cannot be read, that account is unknown, and no difference is reported.
    let account_history =
        AccountHistory::read(context.manager_home(), home, &live_auth).unwrap_or_default();
    let started_at = processes::started_at(pid);
    let started_at = started_at.as_ref();
    let daemon_identity = started_at.and_then(|at| account_history.account_at(at));
    let live_identity = live_auth.login().map(|login| &login.identity);

    let check = match (daemon_identity, live_identity) {
        (Some(daemon_identity), Some(live_identity)) if !daemon_identity.is_same(live_identity) => {
            let message = format!(
                "Codex's background daemon (PID {pid}) still uses {daemon_identity}; the live account is {live_identity}"
            );
            Check::warn(ID, message)
                .because("new conversations in Codex's interface run under the daemon's account")
        }
        _ => Check::ok(
            ID,
            format!("Codex's background daemon is running (PID {pid})"),
        )
        .because("it keeps the account it was started with; restore needs --stop-daemon"),
    };

    Some(check.fixed_by("codex app-server daemon stop"))
}

/// Checks the Codex program. Also returns its version, if it is known.
fn check_program(context: &Context) -> (Check, Option<String>) {
    const ID: &str = "codex.binary";
    const WHY: &str = "live quota is not available";
    let program = match context.find_codex() {
        Ok(program) => program,
        Err(e) => {
            let check = Check::warn(ID, e.to_string()).because(WHY);
            let check = check.advised(format!(
                "{}, or set its path: codex-manager config set codex.bin FILE",
                remedies::INSTALL_CODEX
            ));
            return (check, None);
        }
    };

    let path = program.path().display();
    let version = program.version(&context.env, VERSION_TIMEOUT);
    let check = match &version {
        Some(version) => Check::ok(ID, format!("{version}: {path}")),
        None => Check::warn(ID, format!("does not print its version: {path}"))
            .because(WHY)
            .advised(format!(
                "reinstall it; see the error with: {} --version",
                shell::quote_if_needed(&path.to_string())
            )),
    };

    (check, version)
}

/// Returns the reason why Codex cannot use the login in auth.json, or could not store it after a renewal.
fn find_login_problem(home: &Path, store: CredentialStore) -> Option<StatusProblem> {
    let path = home.join(AUTH_JSON);
    let obstacle = status::find_obstacle(&path, store, AuthFile::read(&path).as_ref());
    obstacle.or_else(|| check_login_of(home).err().map(StatusProblem::from))
}

/// Checks a login that Codex can use and store.
fn check_login(context: &Context, store: CredentialStore) -> Check {
    const ID: &str = "home.login";
    let path = context.codex_home().join(AUTH_JSON);
    let auth = AuthFile::read(&path);
    if let Some(mode) = mode_to_restrict(&path) {
        let message = format!("auth.json is accessible to other users (mode {mode:o})");
        return Check::warn(ID, message)
            .because("a user who reads it can act as you")
            .fixed_by_chmod("600", &path);
    }

    let find_owner = |auth| {
        context
            .profiles()
            .find_owner_of_copy(auth, context.codex_home(), &context.now())
    };
    if let Some(owner_home) = auth.as_ref().ok().and_then(find_owner)
        && store.may_read_auth_json()
    {
        let home = owner_home.display();
        return Check::fail(
            ID,
            format!("the login is a copy of the one in {home}, or older"),
        )
        .because("a renewal in one home ends the login in the other")
        .advised(remedies::suggest_switch_of_owner(&owner_home));
    }

    let login = auth.as_ref().ok().and_then(AuthFile::login);
    let message = login.map_or("auth.json contains no login".to_owned(), |login| {
        let account = context.profiles().describe_account(&login.identity);
        format!("signed in as {account}")
    });
    Check::ok(ID, message)
}

fn describe_login_problem(problem: &StatusProblem, context: &Context) -> Check {
    let severity = match problem {
        StatusProblem::SignedOut => Status::Warn,
        _ => Status::Fail,
    };
    let check = Check::new("home.login", severity, problem.to_string())
        .because("Codex cannot use or renew the login");

    match problem {
        StatusProblem::Storage(LoginStorageError::HardLinked(path)) => {
            check.fixed_by(remedies::format_unlink_command(path))
        }
        StatusProblem::Storage(e) => check.advised(suggest_login_storage(e)),
        StatusProblem::NotAFile { path, .. } => {
            check.fixed_by(remedies::format_rename_aside_command(path))
        }
        StatusProblem::Denied { path, .. } => check.fixed_by_chmod("u+rw", path),
        _ => match suggest_saved_login(context) {
            Some(command) if find_way_back(context).is_none() => check.fixed_by(command),
            _ => check.advised(suggest_sign_in(context).join("; ")),
        },
    }
}

/// Finds folders, pipes and devices in the place of Codex's files. Other checks do this for the login, the
/// configuration and the databases.
fn check_other_files(home: &Path) -> Vec<Check> {
    let names = [
        "history.jsonl",
        "session_index.jsonl",
        "installation_id",
        "version.json",
        "models_cache.json",
    ];

    let paths = names.iter().map(|name| home.join(name));
    paths
        .filter(|path| file_open::require_file_if_exists(path).is_err())
        .map(|path| {
            let message = format!("not a regular file: {}", path.display());
            Check::fail("home.files", message)
                .because("Codex blocks or fails on it, and backups skip it")
                .fixed_by(remedies::format_rename_aside_command(&path))
        })
        .collect()
}

/// Finds texts of the user that a crash has damaged.
fn check_texts(context: &Context) -> Vec<Check> {
    let mut texts = NameSet::default();
    let names = USER_TEXTS.iter();
    for name in names.filter_map(|name| EntryName::from_path(Path::new(name)).ok()) {
        texts.insert(&name);
    }
    let mut scope = CaptureScope::new(context.codex_home(), BackupMode::Full);
    scope.only = Some(HomeSubset::new(texts));

    // The check of the home reports one that cannot be listed.
    let scan = scan_home(&scope, &Arc::default()).unwrap_or_default();
    let damaged = scan.find_damaged_texts();
    let mut commands = context.suggest_restores(damaged.iter().map(|note| note.path.as_path()));
    let checks = damaged.into_iter().map(|note| {
        let message = format!("{} {}", note.path.display(), note.reason);
        let check =
            Check::warn("home.texts", message).because("backups archive it, but not what it lost");
        match commands.remove(&note.path) {
            Some(command) => check.fixed_by(command),
            None => check.advised("complete it, or remove it: no archive has a good copy"),
        }
    });
    checks.collect()
}

/// Checks that the home has at least half of the conversations of its best copy, and that Codex's database lists at least
/// one conversation. `history check` compares all conversations with the list.
fn check_conversations(context: &Context) -> Check {
    const ID: &str = "home.conversations";
    let home = context.codex_home();
    if let Some(folder) = find_unlistable_folder(home) {
        let path_text = folder.display();
        let message =
            format!("cannot be listed (no folder, a dangling link, or no permission): {path_text}");
        return Check::warn(ID, message)
            .because("its conversations are not listed and not backed up")
            .advised("mount its disk, or make it readable");
    }

    if let Some(way_back) = find_way_back(context) {
        let message = if way_back.is_partial {
            way_back.finding
        } else {
            format!("there are no conversations; {}", way_back.finding)
        };
        return Check::warn(ID, message)
            .because("this home lacks conversations that a copy has")
            .fixed_by(way_back.command);
    }
    if iter_rollouts(home).next().is_none() {
        return Check::ok(ID, "there are no conversations");
    }

    let Some(database) = context.state_database() else {
        return Check::warn(ID, "there are conversations, but no database lists them")
            .because("the next start of Codex takes longer, because it reads all conversations")
            .advised("start codex, which creates the database again");
    };

    let unlisted_warning = |message: String| {
        Check::warn(ID, message)
            .because("Codex cannot show or resume conversations that are not listed")
            .advised("find the fix with: codex-manager history check")
    };

    // `None` for a database without the table of conversations.
    let row_count = threads::fold_rows(&database, || 0_usize, |count, _row| *count += 1);
    match row_count {
        Ok(Some(1..)) => Check::ok(ID, "Codex's database lists at least one conversation"),
        Ok(_) => unlisted_warning(format!(
            "there are conversations, but none is listed in {}",
            database.display()
        )),
        Err(e) => unlisted_warning(format!(
            "cannot read the list of conversations: {}",
            CommandError::wrap(ErrorKind::Failed, &e).to_one_line()
        )),
    }
}

/// Reports compressed conversations if the installed Codex does not read them. Returns `None` if the version of Codex
/// is not known.
fn check_compressed_support(home: &Path, version: Option<&str>) -> Option<Check> {
    let version = version.filter(|version| !rollout::supports_zst(version))?;
    let (path, _) = iter_rollouts(home).find(|(_, rollout)| rollout.compressed)?;
    let path = path.display();
    let message = format!("Codex {version} does not read compressed conversations: {path}");
    let check = Check::fail("home.compressed", message).because("it does not find them");
    Some(check.fixed_by("codex-manager storage expand"))
}
