//! The Codex program and its home: settings, login, databases, conversations, daemon.

use super::{Check, DoctorInput, mode_open_to_others};
use crate::accounts::running::AccountHistory;
use crate::codex::auth::AuthFile;
use crate::codex::config::CodexConfig;
use crate::codex::daemon;
use crate::codex::home::{ARCHIVED_SESSIONS, AUTH_JSON, SESSIONS};
use crate::codex::program::Program;
use crate::codex::rollout::ConversationFile;
use crate::codex::threads;
use crate::history::check::with_cause;
use crate::inventory::{remedies, store};
use crate::io::file_open;
use crate::io::processes;
use crate::io::quantity::pluralize;
use std::fs::{self};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long `codex --version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at the program and the home.
pub(crate) fn run_checks(input: &DoctorInput<'_>) -> Vec<Check> {
    let mut checks = vec![program(input)];
    let home = input.codex_home;
    let shown = home.display().to_string();
    if !home.is_dir() && home.symlink_metadata().is_ok() {
        checks.push(
            Check::fail("home", format!("no folder, or a link to nowhere: {shown}"))
                .because("neither Codex nor a backup can work on it")
                .advised("mount the disk that it leads to, or move it away and start codex once"),
        );
        return checks;
    }
    if !home.is_dir() {
        let check = Check::warn("home", format!("no Codex home: {shown}"))
            .because("there is nothing to archive");
        checks.push(match newest_archive(input) {
            Some(_) => check.fixed_by("codex-manager restore latest"),
            None => check.advised("start codex once, which makes it"),
        });
        return checks;
    }
    if let Err(e) = fs::read_dir(home) {
        checks.push(
            Check::fail("home", format!("cannot be read ({e}): {shown}"))
                .because("neither Codex nor a backup can work on it")
                .opened_by("u+rwx", home),
        );
        return checks;
    }
    checks.push(match mode_open_to_others(home) {
        Some(mode) => Check::warn("home", format!("open to others (mode {mode:o}): {shown}"))
            .because("others on this machine may read your conversations")
            .opened_by("700", home),
        None => Check::ok("home", shown),
    });
    let config = CodexConfig::read(home);
    checks.push(match &config.problem {
        Some(problem) => {
            let message = format!("config.toml is not understood: {problem}");
            let path = home.join("config.toml");
            let shown = path.display();
            let check = Check::fail("home.config", message).because("Codex does not start with it");
            if file_open::check(&path).is_err() {
                check.fixed_by(remedies::put_aside(&path))
            } else if newest_archive(input).is_some() {
                check.advised(format!(
                    "put the line right, or take the file from an archive (codex-manager restore \
                     latest --only config.toml): {shown}"
                ))
            } else {
                check.advised(format!("put the line right: {shown}"))
            }
        }
        None => Check::ok("home.config", "config.toml is understood"),
    });
    let reads_auth_json = config.store.reads_auth_json();
    checks.push(if reads_auth_json {
        Check::ok("home.store", "logins are kept in auth.json")
    } else {
        let store = config.store.name();
        Check::warn(
            "home.store",
            format!("logins are kept by cli_auth_credentials_store = \"{store}\""),
        )
        .because("such logins can be neither archived nor switched")
        .advised(STORE_FIX)
    });
    checks.extend(login(input, reads_auth_json));
    checks.extend(other_files(home));
    checks.extend(databases(&database_files(input, &config), input));
    checks.push(conversations(input));
    checks.extend(background(input));
    checks
}

/// Codex's background daemon, and whether it works for somebody else than auth.json says.
fn background(input: &DoctorInput<'_>) -> Option<Check> {
    const ID: &str = "home.daemon";
    let home = input.codex_home;
    let pid = daemon::find(home)?.pid;
    let live = AuthFile::read(&home.join(AUTH_JSON)).ok()?;
    let had = AccountHistory::of(input.manager_home, home, &live).unwrap_or_default();
    let started = processes::started_at(pid);
    let has = started.as_ref().and_then(|at| had.at(at));
    let signed_in = live.login().map(|login| &login.identity);
    Some(match (has, signed_in) {
        (Some(has), Some(live)) if !has.is_same(live) => Check::warn(
            ID,
            format!("Codex's background daemon (PID {pid}) still has {has}; signed in is {live}"),
        )
        .because("the next conversation in Codex's interface runs on the account of the daemon")
        .fixed_by("codex app-server daemon stop"),
        _ => Check::ok(ID, format!("Codex's background daemon runs (PID {pid})"))
            .because(
                "it keeps the account that it was started with; restore asks for --stop-daemon",
            )
            .fixed_by("codex app-server daemon stop"),
    })
}

fn program(input: &DoctorInput<'_>) -> Check {
    const ID: &str = "codex.binary";
    const WHY: &str = "live quota cannot be asked for";
    let program = match Program::find(input.codex_bin, input.env) {
        Ok(program) => program,
        Err(e) => {
            return Check::warn(ID, e.to_string()).because(WHY).advised(
                "install Codex (npm install -g @openai/codex), or say where it is: codex-manager \
                 config set codex.bin FILE",
            );
        }
    };
    let path = program.path().display();
    match program.version(input.env, VERSION_TIMEOUT) {
        Some(version) => Check::ok(ID, format!("{version}: {path}")),
        None => Check::warn(ID, format!("does not say its version: {path}"))
            .because(WHY)
            .advised("see what it says to codex --version, and install it anew"),
    }
}

/// What makes Codex keep logins where we can.
const STORE_FIX: &str =
    "set cli_auth_credentials_store = \"file\" in config.toml, then codex login";

fn login(input: &DoctorInput<'_>, reads_auth_json: bool) -> Option<Check> {
    const ID: &str = "home.login";
    let path = input.codex_home.join(AUTH_JSON);
    let shown = path.display();
    let saved = || remedies::saved_login(input.codex_home, input.manager_home);
    Some(match AuthFile::read(&path) {
        Err(e) => {
            let check = Check::fail(ID, format!("{e}: {}", e.source))
                .because("Codex cannot sign in with it");
            // What the system says has a number; what we say of an odd file has none.
            match e.source.raw_os_error() {
                Some(_) => check.opened_by("u+rw", &path),
                None => check.fixed_by(remedies::put_aside(&path)),
            }
        }
        Ok(AuthFile::Missing) if reads_auth_json => {
            let check = Check::warn(ID, "nobody is signed in").because("Codex asks for a login");
            match saved() {
                Some(command) => check.fixed_by(command),
                None => check.advised("sign in: codex login"),
            }
        }
        Ok(AuthFile::Missing) => return None,
        Ok(_) if !reads_auth_json => Check::warn(
            ID,
            "there is an auth.json, which Codex may not read: who is signed in is not known",
        )
        .because("what Codex keeps elsewhere can neither be archived nor switched")
        .advised(STORE_FIX),
        Ok(AuthFile::Unreadable { reason, .. }) => {
            let check = Check::fail(ID, format!("auth.json is {reason}: {shown}"))
                .because("Codex cannot sign in with it");
            match saved() {
                Some(command) => check.fixed_by(command),
                None => check.advised("sign in again: codex login"),
            }
        }
        Ok(AuthFile::Present(snapshot)) => {
            let who = snapshot.login.map(|l| l.identity.to_string());
            if path.metadata().is_ok_and(|m| links(&m) > 1) {
                Check::fail(ID, "auth.json has a second hard link")
                    .because("through it Codex loses a login that it renews")
                    .fixed_by(remedies::make_its_own(&path))
            } else if let Some(mode) = mode_open_to_others(&path) {
                Check::warn(ID, format!("auth.json is open to others (mode {mode:o})"))
                    .because("whoever reads it is signed in as you")
                    .opened_by("600", &path)
            } else {
                let who = who.unwrap_or_else(|| "nobody".into());
                Check::ok(ID, format!("signed in as {who}"))
            }
        }
    })
}

/// The name of the archive that `restore latest` would put back.
fn newest_archive(input: &DoctorInput<'_>) -> Option<String> {
    let records = store::archives(input.manager_home).ok()?;
    store::newest(&records, |_| true).map(|record| record.path.clone())
}

/// What stands where Codex keeps a file, and is none. The login, the settings and the databases are
/// looked at by themselves.
fn other_files(home: &Path) -> Vec<Check> {
    let names = [
        "history.jsonl",
        "session_index.jsonl",
        "installation_id",
        "version.json",
        "models_cache.json",
    ];
    let paths = names.iter().map(|name| home.join(name));
    paths
        .filter(|path| file_open::check(path).is_err())
        .map(|path| {
            Check::fail(
                "home.files",
                format!("not a regular file: {}", path.display()),
            )
            .because("Codex waits for it or fails, and no backup holds it")
            .fixed_by(remedies::put_aside(&path))
        })
        .collect()
}

/// Every database of Codex, wherever it is told to keep them.
fn database_files(input: &DoctorInput<'_>, config: &CodexConfig) -> Vec<PathBuf> {
    let home = input.codex_home;
    let mut folders = vec![home.to_path_buf(), home.join("sqlite")];
    folders.extend(config.databases(home, input.env));
    folders.sort();
    folders.dedup();
    let mut found: Vec<_> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "sqlite") && !path.is_dir())
        .collect();
    found.sort();
    found
}

/// Looks at the head of each database, which costs one read: opening one would write beside it.
fn databases(files: &[PathBuf], input: &DoctorInput<'_>) -> Vec<Check> {
    const ID: &str = "home.databases";
    let damaged: Vec<_> = files
        .iter()
        .filter_map(|path| Some((path, fault_of(path)?)))
        .collect();
    if damaged.is_empty() {
        let message = match files.len() {
            0 => "there are no databases yet".to_owned(),
            n => format!("{} with a good beginning", pluralize(n, "database")),
        };
        return vec![Check::ok(ID, message)];
    }
    let check = |(path, fault): (&PathBuf, &str)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let check = Check::fail(ID, format!("{fault}: {}", path.display()))
            .because("Codex forgets conversations, or does not start");
        if fault == NO_FILE {
            check.fixed_by(remedies::put_aside(path))
        } else if newest_archive(input).is_some() {
            // Which archive has a good one is not known without reading them.
            check.advised(format!(
                "start codex, which puts it aside and makes another; or take it from an archive \
                 made before: codex-manager restore ARCHIVE --only {name}"
            ))
        } else {
            check.advised("start codex, which puts it aside and makes another")
        }
    };
    damaged.into_iter().map(check).collect()
}

/// What is said of a folder, pipe or device in the place of a database.
const NO_FILE: &str = "not a regular file";

fn fault_of(path: &Path) -> Option<&'static str> {
    let mut head = [0; 100];
    let read = file_open::open(path).and_then(|mut file| {
        let bytes = file.metadata()?.len();
        // An empty file is a database that nothing was written to.
        if bytes > 0 {
            file.read_exact(&mut head)?;
        }
        Ok(bytes)
    });
    match read {
        Ok(0) => None,
        Ok(bytes) => fault_in(&head, bytes),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Some("cut off"),
        Err(e) if e.kind() == ErrorKind::InvalidInput => Some(NO_FILE),
        Err(e) if e.kind() == ErrorKind::NotFound => Some(NO_FILE),
        Err(_) => Some("not readable"),
    }
}

/// What is wrong with a database by its first 100 bytes and its length.
fn fault_in(head: &[u8; 100], bytes: u64) -> Option<&'static str> {
    if !head.starts_with(b"SQLite format 3\0") {
        return Some("no database");
    }
    let page = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    if !page.is_power_of_two() || page < 512 {
        return Some("no page size");
    }
    (!bytes.is_multiple_of(page)).then_some("cut off")
}

/// Whether Codex's index knows the conversations at all. What it lists is for a closer look.
fn conversations(input: &DoctorInput<'_>) -> Check {
    const ID: &str = "home.conversations";
    let home = input.codex_home;
    let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|folder| home.join(folder));
    let lost = folders
        .iter()
        .find(|folder| folder.symlink_metadata().is_ok() && fs::read_dir(folder).is_err());
    if let Some(folder) = lost {
        let shown = folder.display();
        return Check::warn(
            ID,
            format!("no folder, a link to nowhere, or not readable: {shown}"),
        )
        .because("the conversations in it are in no list and in no backup")
        .advised("mount the disk that it leads to, or give yourself the right to read it");
    }
    let has_some = folders.iter().any(|folder| {
        let files = walkdir::WalkDir::new(folder).follow_links(true);
        files.into_iter().flatten().any(|entry| {
            entry.file_type().is_file() && ConversationFile::of(entry.path()).is_some()
        })
    });
    if !has_some {
        return Check::ok(ID, "there are no conversations");
    }
    let Some(database) = threads::find_state_database(home, input.env) else {
        return Check::warn(
            ID,
            "there are conversations, and no database that lists them",
        )
        .because("Codex reads them all when it starts next")
        .advised("start codex, which makes it again");
    };
    let unlisted = |message: String| {
        Check::warn(ID, message)
            .because("Codex cannot show or resume what is in no list")
            .advised("see codex-manager history check, which names what mends it")
    };
    match threads::fold(&database, || 0_usize, |rows, _| *rows += 1) {
        Ok(Some(1..)) => Check::ok(ID, "there are conversations, and a database of them"),
        Ok(_) => unlisted(format!(
            "there are conversations, and none is listed in {}",
            database.display()
        )),
        Err(e) => unlisted(format!("what is listed cannot be read: {}", with_cause(&e))),
    }
}

fn links(meta: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.nlink()
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_told_by_its_head_and_length() {
        let mut head = [0; 100];
        assert_eq!(fault_in(&head, 4096), Some("no database"));
        head[..16].copy_from_slice(b"SQLite format 3\0");
        assert_eq!(fault_in(&head, 4096), Some("no page size"));
        head[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        assert_eq!(fault_in(&head, 8192), None);
        assert_eq!(fault_in(&head, 8191), Some("cut off"));
        head[16..18].copy_from_slice(&1_u16.to_be_bytes());
        assert_eq!(fault_in(&head, 65_536), None);
    }
}
