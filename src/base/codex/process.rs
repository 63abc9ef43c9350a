//! Finds the processes that use a Codex home.
//!
//! The process table shows the Codex programs that run with this home, their parents and children,
//! and every process that has a file of the home open. Open files are visible on Linux only, so
//! Codex's own marks count as well: the pid file of the daemon and the held locks on conversations.
//! Processes that cannot be inspected are ignored, such as those of other users.

use super::config::CodexConfig;
use super::home::{ARCHIVED_SESSIONS, SESSIONS, THREAD_LOCKS};
use super::{daemon, redaction};
use crate::io::environment::Environment;
use crate::io::processes::{self, Process, ProcessTable};
use crate::io::{OrdinaryPath, lock, tree};
use serde::{Serialize, Serializer};
use smart_default::SmartDefault;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A process that uses a home, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The process id; `None` if only a held conversation lock proves the process.
    pub pid: Option<u32>,
    /// The name of the program, or "a process".
    pub name: String,
    #[serde(skip)]
    pub role: ProcessRole,
}

impl Holder {
    pub fn daemon(pid: u32) -> Self {
        Self {
            pid: Some(pid),
            name: "codex".into(),
            role: ProcessRole::Daemon,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (PID {pid}, {})", self.name, self.role),
            None => write!(f, "{} ({})", self.name, self.role),
        }
    }
}

/// The file names of Codex's programs, in lower case. An `.exe` extension is optional.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault)]
pub struct ProgramNames {
    /// The names of Codex itself; `codex` by default.
    #[default(vec!["codex".into()])]
    pub codex: Vec<String>,
    /// The names of background helpers of Codex, which must not be ended. Empty by default.
    pub background: Vec<String>,
}

/// The relation of a process to a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessRole {
    /// The background daemon of the home, named by its pid file.
    Daemon,
    /// A Codex program that runs with this home.
    Codex,
    /// The npm launcher, which waits for a Codex with this home and accesses no data.
    Launcher,
    /// One of the [`ProgramNames::background`] helpers.
    Background,
    /// A descendant of Codex or the daemon that has a file of the home open.
    CodexChild {
        /// The path relative to the home or to an outside folder of the home.
        open_file: PathBuf,
    },
    /// Any other process that has a file of the home open.
    OtherProgram {
        /// The path relative to the home or to an outside folder of the home. For a locked database, its path in the
        /// journal.
        open_file: PathBuf,
    },
    /// An unknown process that holds the lock on the conversation with this id.
    ConversationWriter(String),
}

impl ProcessRole {
    /// Returns true for Codex itself and its daemon, not for launchers and helpers.
    pub(crate) fn is_codex(&self) -> bool {
        matches!(self, Self::Codex | Self::Daemon)
    }
}

impl fmt::Display for ProcessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("background daemon"),
            Self::Codex => f.write_str("codex process"),
            Self::Launcher => f.write_str("launcher of codex"),
            Self::Background => f.write_str("background process of codex"),
            Self::CodexChild { open_file } | Self::OtherProgram { open_file } => {
                write!(f, "holds {} open", open_file.display())
            }
            Self::ConversationWriter(id) => write!(f, "is writing the conversation {id}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HomeProcess {
    /// The process id, which the system may reuse; `started` tells two processes apart.
    pub pid: u32,
    /// The start time, in the unit of [`processes::start_time`].
    #[serde(skip)]
    pub started: Option<u64>,
    /// True if the process runs for the same user as this program.
    #[serde(skip)]
    pub is_own: bool,
    pub name: String,
    /// The command line, safe to print: without secrets and prompts.
    pub command_line: String,
    /// The path of the program file, if the system shows it.
    #[serde(skip)]
    pub program: Option<PathBuf>,
    /// The relation to the home; in JSON the text of its `Display`.
    #[serde(serialize_with = "serialize_role")]
    pub role: ProcessRole,
}

fn serialize_role<S: Serializer>(role: &ProcessRole, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(role)
}

impl fmt::Display for HomeProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (PID {}, {})", self.name, self.pid, self.role)
    }
}

/// The processes that use a home, at the time of [`inspect_home`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomeUsage {
    /// The processes, ordered by id.
    pub processes: Vec<HomeProcess>,
    /// The ids of the conversations whose writer lock is held.
    pub conversations: Vec<String>,
    /// The ids in `conversations` with a lock that is open in none of the `processes`.
    pub unexplained_ids: Vec<String>,
    /// The process id of the Codex that started this program, directly or through other programs. `None` also if that
    /// Codex uses another home.
    pub codex_ancestor: Option<u32>,
}

impl HomeUsage {
    /// Returns true if no process uses the home. A launcher alone does not count.
    pub fn is_unused(&self) -> bool {
        self.holders().is_empty()
    }

    /// Lists the `processes` except launchers, then one unknown process for each of the `unexplained_ids`.
    pub fn holders(&self) -> Vec<Holder> {
        let processes = self
            .processes
            .iter()
            .filter(|process| process.role != ProcessRole::Launcher)
            .map(|process| Holder {
                pid: Some(process.pid),
                name: process.name.clone(),
                role: process.role.clone(),
            });

        let unknown_writers = self.unexplained_ids.iter().map(|conversation| Holder {
            pid: None,
            name: "a process".into(),
            role: ProcessRole::ConversationWriter(conversation.clone()),
        });

        processes.chain(unknown_writers).collect()
    }
}

/// Returns the folders outside of `home` in which Codex keeps its data: the targets of a linked `sessions/` or
/// `archived_sessions/`, and the folder of the databases.
pub fn find_outside_folders(home: &Path, env: &Environment) -> Vec<PathBuf> {
    let database_folder = CodexConfig::read(home).database_folder(home, env);
    let home = home.canonical_or_self();
    [SESSIONS, ARCHIVED_SESSIONS]
        .map(|name| home.join(name))
        .into_iter()
        .chain(database_folder)
        .map(|folder| folder.canonical_or_self())
        .filter(|folder| !folder.starts_with(&home))
        .collect()
}

/// Finds the processes, except this one, that run with `home` or have a file in `home` or in an `outside` folder open.
/// Returns them ordered by process id and without npm launchers, then one entry for each conversation that an unknown
/// process is writing.
pub fn find_holders(home: &Path, outside: &[PathBuf]) -> Vec<Holder> {
    inspect_home(home, outside, &ProgramNames::default()).holders()
}

/// Finds the Codex programs that were started on `home`, except its daemon and the daemon's update loop. The npm
/// launcher counts while it runs, because it may be about to start Codex.
pub fn find_codex(home: &Path) -> Vec<Holder> {
    let home = home.canonical_or_self();
    let daemon_pid = daemon::find(&home).map(|daemon| daemon.pid);

    let to_holder = |process: &Process| {
        let name = process.name()?;
        let has_this_home = || read_codex_home(process).is_some_and(|other| other == home);
        let is_counted = is_codex(process) && has_this_home() && !is_update_loop(process);
        is_counted.then(|| Holder {
            pid: Some(process.pid()),
            name: name.to_string_lossy().into_owned(),
            role: ProcessRole::Codex,
        })
    };

    let table = ProcessTable::read();
    let processes = table
        .iter()
        .filter(|process| daemon_pid != Some(process.pid()));
    let mut codex_processes: Vec<_> = processes.filter_map(to_holder).collect();

    codex_processes.sort_by_key(|holder| holder.pid);
    codex_processes
}

/// Kills the Codex programs that were started on `home`. Only for scratch homes, whose Codex must not
/// outlive this program.
pub(crate) fn kill_codex(home: &Path) {
    find_codex(home).iter().for_each(kill);
}

/// Kills a process. Does nothing if it has ended or its id is unknown.
pub fn kill(holder: &Holder) {
    if let Some(pid) = holder.pid {
        processes::kill(pid);
    }
}

/// Returns true if the system lists at least the process of this program. Some sandboxes show an empty process table.
pub fn can_list_processes() -> bool {
    processes::start_time(std::process::id()).is_some()
}

/// Finds the processes, except this one, that use `home`: programs in `names` that run with `home`, and processes that
/// have a file in `home` or in one of the `outside` folders open.
pub(crate) fn inspect_home(home: &Path, outside: &[PathBuf], names: &ProgramNames) -> HomeUsage {
    let home = home.canonical_or_self();
    let table = ProcessTable::read();
    let own_pid = std::process::id();
    let daemon_pid = daemon::find(&home).map(|daemon| daemon.pid);

    let folders: Vec<&Path> = std::iter::once(home.as_path())
        .chain(outside.iter().map(PathBuf::as_path))
        .collect();
    let lock_folder = home.join(THREAD_LOCKS);

    let mut open_locks = BTreeSet::new();
    let mut processes = Vec::new();

    for process in table.iter().filter(|process| process.pid() != own_pid) {
        // Zombies, kernel threads and processes of other users show no program name.
        let Some(name) = process.name() else { continue };

        let open_files = process.open_files_beneath(&folders);
        let role = if daemon_pid == Some(process.pid()) {
            Some(ProcessRole::Daemon)
        } else {
            find_role(process, &name, names, &folders, open_files.first())
        };
        let Some(role) = role.filter(|_| !is_update_loop(process)) else {
            continue;
        };

        let open_files = open_files.into_iter();
        open_locks.extend(open_files.filter(|file| file.starts_with(&lock_folder)));
        processes.push(to_home_process(process, &name, role));
    }

    // On systems that do not show the program and the files of the daemon, its pid file proves that it runs.
    if let Some(pid) = daemon_pid
        && processes.iter().all(|process| process.pid != pid)
    {
        processes.push(home_process_of_daemon(pid));
    }

    let codex = processes.iter().filter(|process| process.role.is_codex());
    let codex_pids: Vec<u32> = codex.map(|process| process.pid).collect();
    mark_codex_children(&table, &codex_pids, &mut processes);
    add_launchers(&table, &codex_pids, &mut processes);
    processes.sort_by_key(|process| process.pid);

    let held_locks = find_held_thread_locks(&home);
    let unexplained_locks = held_locks.iter().filter(|lock| !open_locks.contains(*lock));
    let to_id = |lock: &PathBuf| locked_conversation_id(lock);
    let is_codex_pid = |pid: &u32| {
        let mut processes = processes.iter();
        processes.any(|process| process.pid == *pid && process.role.is_codex())
    };
    HomeUsage {
        codex_ancestor: table.ancestors(own_pid).into_iter().find(is_codex_pid),
        conversations: held_locks.iter().map(to_id).collect(),
        unexplained_ids: unexplained_locks.map(to_id).collect(),
        processes,
    }
}

/// Returns the role of a process other than the daemon; `None` if it does not use the home. The first of `folders` is
/// the home, the others are its outside folders. `open_file` is a file in one of them that the process has open.
fn find_role(
    process: &Process,
    name: &OsStr,
    names: &ProgramNames,
    folders: &[&Path],
    open_file: Option<&PathBuf>,
) -> Option<ProcessRole> {
    let is_home = |process_home: PathBuf| process_home == folders[0];
    // A helper with an unreadable environment counts, because it may use this home.
    if is_named(name, &names.background) && read_codex_home(process).is_none_or(is_home) {
        return Some(ProcessRole::Background);
    }
    if is_named(name, &names.codex) && read_codex_home(process).is_some_and(is_home) {
        return Some(ProcessRole::Codex);
    }

    let file = open_file?;
    let relative = folders.iter().find_map(|f| file.strip_prefix(f).ok());
    Some(ProcessRole::OtherProgram {
        open_file: relative.unwrap_or(file).to_path_buf(),
    })
}

/// Marks descendants of Codex as [`ProcessRole::CodexChild`].
fn mark_codex_children(table: &ProcessTable, codex_pids: &[u32], processes: &mut [HomeProcess]) {
    let is_codex_pid = |pid: &u32| codex_pids.contains(pid);
    for process in processes {
        if let ProcessRole::OtherProgram { open_file } = &process.role
            && table.ancestors(process.pid).iter().any(is_codex_pid)
        {
            let open_file = open_file.clone();
            process.role = ProcessRole::CodexChild { open_file };
        }
    }
}

/// Adds the npm launchers of the Codex processes to `processes`.
fn add_launchers(table: &ProcessTable, codex_pids: &[u32], processes: &mut Vec<HomeProcess>) {
    for pid in codex_pids {
        let parent = table.get(*pid).and_then(Process::parent);
        if let Some(parent) = parent.and_then(|pid| table.get(pid))
            && is_launcher(parent)
            && let Some(name) = parent.name()
        {
            // The launcher is in the list already if it has a file of the home open.
            processes.retain(|process| process.pid != parent.pid());
            processes.push(to_home_process(parent, &name, ProcessRole::Launcher));
        }
    }
}

/// Returns true if a process runs Codex, or is npm's launcher, which may be about to start it.
pub fn is_codex(process: &Process) -> bool {
    let name = process.name().unwrap_or_default();
    let has_name = |program: &str| is_named(&name, &[program.to_owned()]);
    has_name("codex") || (has_name("node") && is_launcher(process))
}

/// Returns true if the first argument has the name of npm's `codex` script. Below Node 22.15 the script keeps running
/// beside Codex.
fn is_launcher(process: &Process) -> bool {
    process
        .arguments()
        .get(1)
        .and_then(|script| Path::new(script).file_name())
        .is_some_and(|name| name == "codex" || name == "codex.js")
}

/// Returns true for the process that updates the daemon's package in a loop. It survives `daemon stop` and accesses no
/// data, so it never counts as a user of the home.
fn is_update_loop(process: &Process) -> bool {
    process.arguments().iter().any(|a| a == "pid-update-loop")
}

/// Returns the ids of the conversations whose writer locks a process holds.
pub fn find_locked_conversations(home: &Path) -> Vec<String> {
    let locks = find_held_thread_locks(home).into_iter();
    locks.map(|lock| locked_conversation_id(&lock)).collect()
}

fn locked_conversation_id(lock: &Path) -> String {
    let id = lock.file_stem().unwrap_or_default();
    id.to_string_lossy().into_owned()
}

fn to_home_process(process: &Process, name: &OsStr, role: ProcessRole) -> HomeProcess {
    HomeProcess {
        pid: process.pid(),
        started: process.start_time(),
        is_own: process.is_of_this_user(),
        name: name.to_string_lossy().into_owned(),
        command_line: redaction::format_command_line(&process.arguments()),
        program: process.program(),
        role,
    }
}

/// Returns the entry of a daemon of which only the pid file is known.
fn home_process_of_daemon(pid: u32) -> HomeProcess {
    HomeProcess {
        pid,
        started: processes::start_time(pid),
        is_own: true,
        name: "codex".into(),
        command_line: String::new(),
        program: None,
        role: ProcessRole::Daemon,
    }
}

fn is_named(name: &OsStr, names: &[String]) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let stem = |name: &str| name.strip_suffix(".exe").unwrap_or(name).to_owned();
    names.iter().any(|program| stem(program) == stem(&name))
}

/// Returns the Codex home of a process: its `CODEX_HOME`, else `.codex` in its home folder. `None` if
/// its environment cannot be read.
fn read_codex_home(process: &Process) -> Option<PathBuf> {
    let default_home = || {
        let home = process.variable(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        home.map(|home| Path::new(&home).join(".codex").into_os_string())
    };
    let home: OsString = process.variable("CODEX_HOME").or_else(default_home)?;
    let working_folder = process.working_folder().unwrap_or_default();
    Some(working_folder.join(home).canonical_or_self())
}

/// Returns the paths of the held locks on conversations, sorted.
fn find_held_thread_locks(home: &Path) -> Vec<PathBuf> {
    let folder = home.join(THREAD_LOCKS);
    let mut locks: Vec<_> = tree::list_entries(&folder)
        .map(|entry| entry.file_name())
        // Codex holds `.coordination.lock` only briefly, for no conversation in particular.
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .map(|name| folder.join(name))
        .filter(|path| path.extension().is_some_and(|e| e == "lock"))
        .filter(|path| lock::is_held(path))
        .collect();
    locks.sort();
    locks
}

#[cfg(windows)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    /// Starts a program of this name that waits, with `arguments` and `home` as its Codex home.
    fn start(name: &str, arguments: &[&str], home: &Path) -> Child {
        let system = std::env::var_os("SystemRoot").unwrap();
        let program = home.join(name);
        let cmd = Path::new(&system).join(r"system32\cmd.exe");
        std::fs::copy(&cmd, &program).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env("codex_home", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A process that only begins has no readable environment. Its prompt shows that it runs.
        let prompt = child.stdout.as_mut().unwrap();
        prompt.read_exact(&mut [0]).unwrap();
        child
    }

    #[test]
    fn a_running_codex_and_its_launcher_are_found_and_can_be_killed() {
        let home = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut codex = start("Codex.exe", &["/c", "pause"], home.path());
        let mut launcher = start("node.exe", &[r"C:\codex.js", "/c", "pause"], home.path());
        let mut any = start("tool.exe", &["/c", "pause"], home.path());
        let mut elsewhere = start("codex.exe", &["/c", "pause"], other.path());
        let pids = || -> BTreeSet<u32> {
            let found = find_codex(home.path());
            found.iter().filter_map(|holder| holder.pid).collect()
        };
        let expected = BTreeSet::from([codex.id(), launcher.id()]);
        assert_eq!(pids(), expected);
        let usage = inspect_home(home.path(), &[], &ProgramNames::default());
        assert!(!usage.is_unused());
        kill_codex(home.path());
        for child in [&mut codex, &mut launcher] {
            child.wait().unwrap();
        }
        assert_eq!(pids(), BTreeSet::new());
        assert_eq!(any.try_wait().unwrap(), None);
        assert_eq!(elsewhere.try_wait().unwrap(), None);
        for child in [&mut any, &mut elsewhere] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
