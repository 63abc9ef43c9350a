//! Who uses a Codex home right now.
//!
//! Asked of the table of processes: Codex programs whose home it is, what started them and what they
//! started, and any process that has a file of the home open. Where open files are not told (other
//! than on Linux), Codex's own marks are known too: the daemon's pid file and the locks on
//! conversations that are being written. What belongs to other users and cannot be looked into is
//! passed over.

use super::config::CodexConfig;
use super::daemon;
use super::home::{ARCHIVED_SESSIONS, SESSIONS, THREAD_LOCKS};
use super::redaction;
use super::rollout::{self, ConversationFile};
use crate::io::environment::Environment;
use crate::io::lock;
use crate::io::processes::{self, Process, ProcessTable};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Somebody who uses a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, where it is known.
    pub pid: Option<u32>,
    /// The name of its program.
    pub name: String,
    /// What gives it away: "codex process", "background daemon", "holds … open", "is writing the
    /// conversation …".
    pub why: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (PID {pid}, {})", self.name, self.why),
            None => write!(f, "{} ({})", self.name, self.why),
        }
    }
}

/// The names that programs of Codex go by, in lower case: file names of programs, where `.exe` may
/// be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramNames {
    /// Codex itself.
    pub codex: Vec<String>,
    /// What works for Codex in the background and must not be ended.
    pub background: Vec<String>,
}

impl Default for ProgramNames {
    fn default() -> Self {
        Self {
            codex: vec!["codex".into()],
            background: Vec::new(),
        }
    }
}

/// What a process is to a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The background daemon.
    Daemon,
    /// A Codex with this home.
    Codex,
    /// The launcher of npm that waits for a Codex with this home. It touches no data itself.
    Launcher,
    /// One of the programs that work in the background and must not be ended.
    Background,
    /// Started by Codex, with a file of the home open.
    CodexChild {
        /// One such file, relative to the folder that holds it.
        open: PathBuf,
    },
    /// Somebody else with a file of the home open.
    OtherProgram {
        /// One such file, relative to the folder that holds it.
        open: PathBuf,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("background daemon"),
            Self::Codex => f.write_str("codex process"),
            Self::Launcher => f.write_str("launcher of codex"),
            Self::Background => f.write_str("background process of codex"),
            Self::CodexChild { open } | Self::OtherProgram { open } => {
                write!(f, "holds {} open", open.display())
            }
        }
    }
}

/// A process that uses a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HomeProcess {
    /// Its id.
    pub pid: u32,
    /// When it was started; see [`processes::started`].
    #[serde(skip)]
    pub started: Option<u64>,
    /// Whether it runs for the user that we run for.
    #[serde(skip)]
    pub is_own: bool,
    /// The name of its program.
    pub name: String,
    /// What it was called with, fit to print: secrets and prompts are left out.
    pub command_line: String,
    /// The program it runs.
    #[serde(skip)]
    pub program: Option<PathBuf>,
    /// What it is to the home.
    #[serde(serialize_with = "as_text")]
    pub role: Role,
}

fn as_text<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(role)
}

impl fmt::Display for HomeProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (PID {}, {})", self.name, self.pid, self.role)
    }
}

/// Who uses a home, as seen at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomeUsage {
    /// The processes, by id.
    pub processes: Vec<HomeProcess>,
    /// The conversations that somebody is writing, whoever it is.
    pub conversations: Vec<String>,
    /// Those of them that none of the processes is seen to write.
    pub unexplained: Vec<String>,
    /// The Codex that started this very command, directly or by others.
    pub codex_ancestor: Option<u32>,
}

impl HomeUsage {
    /// Whether nobody uses the home. A launcher alone does not.
    pub fn is_unused(&self) -> bool {
        self.holders().is_empty()
    }

    /// Everybody who uses the home: the processes, then the conversations that somebody unknown
    /// writes.
    pub fn holders(&self) -> Vec<Holder> {
        let known = self
            .processes
            .iter()
            .filter(|process| process.role != Role::Launcher)
            .map(|process| Holder {
                pid: Some(process.pid),
                name: process.name.clone(),
                why: process.role.to_string(),
            });
        let unknown = self.unexplained.iter().map(|conversation| Holder {
            pid: None,
            name: "a process".into(),
            why: format!("is writing the conversation {conversation}"),
        });
        known.chain(unknown).collect()
    }
}

/// The folders outside `home` that hold its data: where a linked `sessions/` or
/// `archived_sessions/` leads, and the folder of the databases.
pub fn outside_folders(home: &Path, env: &Environment) -> Vec<PathBuf> {
    let databases = CodexConfig::read(home).database_folder(home, env);
    let home = canonical(home);
    [SESSIONS, ARCHIVED_SESSIONS]
        .map(|name| home.join(name))
        .into_iter()
        .chain(databases)
        .map(|folder| canonical(&folder))
        .filter(|folder| !folder.starts_with(&home))
        .collect()
}

/// Everybody but this process who uses `home` or has a file beneath it or beneath one of the
/// `outside` folders open, ordered by process id; then the conversations that somebody unknown
/// writes.
pub fn find_holders(home: &Path, outside: &[PathBuf]) -> Vec<Holder> {
    inspect_home(home, outside, &ProgramNames::default()).holders()
}

/// The Codex programs that were started on `home`, except for its daemon and the helper of that.
/// The npm wrapper counts as long as it stays: it may be about to start the program.
pub fn find_codex(home: &Path) -> Vec<Holder> {
    let home = canonical(home);
    let daemon = daemon::find(&home).map(|daemon| daemon.pid);
    let mut found: Vec<_> = ProcessTable::read()
        .iter()
        .filter(|process| daemon != Some(process.pid()))
        .filter_map(|process| {
            let name = process.name()?;
            let counts = is_codex(process) && home_of(process)? == home && !is_update_loop(process);
            counts.then(|| Holder {
                pid: Some(process.pid()),
                name: name.to_string_lossy().into_owned(),
                why: Role::Codex.to_string(),
            })
        })
        .collect();
    found.sort_by_key(|holder| holder.pid);
    found
}

/// The conversations in which the daemon of `home` runs a turn: their locks are held, and their
/// rollouts do not end in the end of a turn. A daemon keeps the lock of a conversation that waits
/// for its user, too (0.169).
pub fn running_daemon_turns(home: &Path) -> Vec<String> {
    let home = canonical(home);
    let table = ProcessTable::read();
    let daemon = daemon::find(&home).and_then(|daemon| table.get(daemon.pid));
    let open = daemon.map(|daemon| daemon.open_beneath(&[&home]));
    let open = open.unwrap_or_default();
    held_thread_locks(&home)
        .iter()
        .map(|lock| conversation_of(lock))
        .filter(|id| {
            let rollout = open
                .iter()
                .find(|path| ConversationFile::of(path).is_some_and(|c| c.id() == Some(id)));
            !rollout.is_some_and(|path| rollout::is_idle(path))
        })
        .collect()
}

/// Kills the Codex programs that were started on `home`: one of ours that is to end with us.
pub fn kill_codex(home: &Path) {
    find_codex(home).iter().for_each(kill);
}

/// Ends a process at once; nothing happens where it is gone, or is not known by its id.
pub fn kill(holder: &Holder) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = holder.pid.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    #[cfg(not(unix))]
    let _ = holder;
}

/// Whether this system shows processes at all: one that does not even show us shows nobody.
pub fn can_list_processes() -> bool {
    ProcessTable::read().get(std::process::id()).is_some()
}

/// Looks who uses `home`: programs of these names with that home, and whoever but this process has
/// a file beneath it or beneath one of the `outside` folders open.
pub fn inspect_home(home: &Path, outside: &[PathBuf], names: &ProgramNames) -> HomeUsage {
    let home = canonical(home);
    let table = ProcessTable::read();
    let this = std::process::id();
    let daemon = daemon::find(&home).map(|daemon| daemon.pid);
    let folders: Vec<&Path> = std::iter::once(home.as_path())
        .chain(outside.iter().map(PathBuf::as_path))
        .collect();
    let mut locks = BTreeSet::new();
    let mut found = Vec::new();
    for process in table.iter().filter(|process| process.pid() != this) {
        // Zombies, kernel threads, and processes of others do not tell their program.
        let Some(name) = process.name() else { continue };
        let open = process.open_beneath(&folders);
        let role = if daemon == Some(process.pid()) {
            Role::Daemon
        } else if is_named(&name, &names.background) && home_of(process).is_none_or(|of| of == home)
        {
            Role::Background
        } else if is_named(&name, &names.codex) && home_of(process).is_some_and(|of| of == home) {
            Role::Codex
        } else if let Some(file) = open.first() {
            let relative = folders.iter().find_map(|f| file.strip_prefix(f).ok());
            Role::OtherProgram {
                open: relative.unwrap_or(file).to_path_buf(),
            }
        } else {
            continue;
        };
        if is_update_loop(process) {
            continue;
        }
        let held = home.join(THREAD_LOCKS);
        locks.extend(open.into_iter().filter(|file| file.starts_with(&held)));
        found.push(describe(process, &name, role));
    }
    if let Some(pid) = daemon.filter(|pid| found.iter().all(|process| process.pid != *pid)) {
        found.push(daemon_from_pid_file(pid));
    }
    assign_relations(&table, &mut found);
    let writing = held_thread_locks(&home);
    let around = table.ancestors(this);
    HomeUsage {
        codex_ancestor: around.into_iter().find(|pid| {
            let is_codex = |p: &HomeProcess| matches!(p.role, Role::Codex | Role::Daemon);
            found.iter().any(|p| p.pid == *pid && is_codex(p))
        }),
        conversations: writing.iter().map(|lock| conversation_of(lock)).collect(),
        unexplained: writing
            .iter()
            .filter(|lock| !locks.contains(*lock))
            .map(|lock| conversation_of(lock))
            .collect(),
        processes: found,
    }
}

/// Adds the launchers of what was found, and tells what Codex started from strangers.
fn assign_relations(table: &ProcessTable, found: &mut Vec<HomeProcess>) {
    let codex: Vec<u32> = found
        .iter()
        .filter(|process| matches!(process.role, Role::Codex | Role::Daemon))
        .map(|process| process.pid)
        .collect();
    for process in found.iter_mut() {
        if let Role::OtherProgram { open } = &process.role
            && table
                .ancestors(process.pid)
                .iter()
                .any(|pid| codex.contains(pid))
        {
            process.role = Role::CodexChild { open: open.clone() };
        }
    }
    for pid in codex {
        let parent = table.get(pid).and_then(Process::parent);
        if let Some(parent) = parent.and_then(|pid| table.get(pid))
            && is_launcher(parent)
            && let Some(name) = parent.name()
        {
            found.retain(|process| process.pid != parent.pid());
            found.push(describe(parent, &name, Role::Launcher));
        }
    }
    found.sort_by_key(|process| process.pid);
}

/// Whether a process runs Codex, or is npm's launcher, which may be about to start it.
pub fn is_codex(process: &Process) -> bool {
    let name = process.name().unwrap_or_default();
    name == "codex" || (name == "node" && is_launcher(process))
}

/// npm's `codex` is a script that Node runs; below Node 22.15 it stays and waits for the program.
fn is_launcher(process: &Process) -> bool {
    process
        .arguments()
        .get(1)
        .and_then(|script| Path::new(script).file_name())
        .is_some_and(|name| name == "codex" || name == "codex.js")
}

/// The loop that updates the daemon's package outlives `daemon stop` and touches no data.
fn is_update_loop(process: &Process) -> bool {
    process.arguments().iter().any(|a| a == "pid-update-loop")
}

/// The conversation that a lock is for.
fn conversation_of(lock: &Path) -> String {
    let name = lock.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn describe(process: &Process, name: &OsStr, role: Role) -> HomeProcess {
    HomeProcess {
        pid: process.pid(),
        started: process.started(),
        is_own: process.is_own(),
        name: name.to_string_lossy().into_owned(),
        command_line: redaction::command_line(&process.arguments()),
        program: process.program(),
        role,
    }
}

/// The daemon, where only its pid file tells of it.
fn daemon_from_pid_file(pid: u32) -> HomeProcess {
    HomeProcess {
        pid,
        started: processes::started(pid),
        is_own: true,
        name: "codex".into(),
        command_line: String::new(),
        program: None,
        role: Role::Daemon,
    }
}

fn is_named(name: &OsStr, names: &[String]) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let bare = |name: &str| name.strip_suffix(".exe").unwrap_or(name).to_owned();
    names.iter().any(|wanted| bare(wanted) == bare(&name))
}

/// The Codex home that a process runs with, as far as its environment tells.
fn home_of(process: &Process) -> Option<PathBuf> {
    let default_home = || {
        let home = process.variable(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        home.map(|home| Path::new(&home).join(".codex").into_os_string())
    };
    let home: OsString = process.variable("CODEX_HOME").or_else(default_home)?;
    let folder = process.working_folder().unwrap_or_default();
    Some(canonical(&folder.join(home)))
}

/// The locks on conversations that are held.
fn held_thread_locks(home: &Path) -> Vec<PathBuf> {
    let folder = home.join(THREAD_LOCKS);
    let mut locks: Vec<_> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        // `.coordination.lock` is held for moments only.
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .map(|name| folder.join(name))
        .filter(|path| path.extension().is_some_and(|e| e == "lock"))
        .filter(|path| lock::is_held(path))
        .collect();
    locks.sort();
    locks
}

/// `path` without links, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
