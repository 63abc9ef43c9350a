//! Who uses a Codex home right now.
//!
//! On Linux this is asked of `/proc`: native Codex programs whose home it is, and any process that
//! has a file of it open. Elsewhere only Codex's own marks are known: the daemon's pid file and the
//! locks on conversations that are being written. What belongs to other users and cannot be looked
//! into is passed over.

use super::config::CodexConfig;
use super::daemon;
use super::home::{ARCHIVED_SESSIONS, SESSIONS, THREAD_LOCKS};
use super::rollout::{self, ConversationFile};
use crate::io::environment::Environment;
use crate::io::lock;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
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

/// The folders outside `home` that hold its data: where a linked `sessions/` or
/// `archived_sessions/` leads, and the folder of the databases.
pub fn outside_folders(home: &Path, env: &Environment) -> Vec<PathBuf> {
    let databases = CodexConfig::read(home).databases(home, env);
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
    let home = canonical(home);
    let mut scan = system::scan(&home, outside);
    scan.holders.sort_by_key(|holder| holder.pid);
    let unknown = writers(&home)
        .into_iter()
        .filter(|lock| !scan.locks.contains(lock))
        .map(|lock| Holder {
            pid: None,
            name: "a process".into(),
            why: format!(
                "is writing the conversation {}",
                lock.file_stem().unwrap_or_default().display()
            ),
        });
    scan.holders.extend(unknown);
    scan.holders
}

/// The Codex programs that were started on `home`, except for its daemon and the helper of that.
/// The npm wrapper counts as long as it stays: it may be about to start the program. Linux only;
/// elsewhere nothing is known of them.
pub fn find_codex(home: &Path) -> Vec<Holder> {
    let home = canonical(home);
    let daemon = daemon::find(&home).map(|daemon| daemon.pid);
    let mut found = system::codex(&home);
    found.retain(|holder| holder.pid != daemon);
    found.sort_by_key(|holder| holder.pid);
    found
}

/// When a process was started, to about a second. Linux only; elsewhere it is not known.
pub fn started_at(pid: u32) -> Option<DateTime<Utc>> {
    system::started_at(pid)
}

/// Kills the Codex programs that were started on `home`: one of ours that is to end with us.
pub fn kill_codex(home: &Path) {
    #[cfg(unix)]
    for pid in find_codex(home).into_iter().filter_map(|h| h.pid) {
        if let Some(pid) = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    #[cfg(not(unix))]
    let _ = home;
}

/// The conversations in which the daemon of `home` runs a turn: their locks are held, and their
/// rollouts do not end in the end of a turn. A daemon keeps the lock of a conversation that waits
/// for its user, too (0.169).
pub fn turns_of_daemon(home: &Path) -> Vec<String> {
    let home = canonical(home);
    let open = daemon::find(&home).map(|daemon| system::open_files(daemon.pid, &home));
    let open = open.unwrap_or_default();
    let name = |lock: &Path| lock.file_stem().unwrap_or_default().display().to_string();
    writers(&home)
        .iter()
        .map(|lock| name(lock))
        .filter(|id| {
            let rollout = open
                .iter()
                .find(|path| ConversationFile::of(path).is_some_and(|c| c.id() == Some(id)));
            !rollout.is_some_and(|path| rollout::is_at_rest(path))
        })
        .collect()
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

/// What the processes of the system show.
struct Scan {
    holders: Vec<Holder>,
    /// The locks on conversations that some holder has open.
    locks: BTreeSet<PathBuf>,
}

/// The locks on conversations that are held.
fn writers(home: &Path) -> Vec<PathBuf> {
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

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{BTreeSet, DateTime, Holder, Path, PathBuf, Scan, Utc, daemon};

    pub(super) fn codex(_home: &Path) -> Vec<Holder> {
        Vec::new()
    }

    pub(super) fn open_files(_pid: u32, _home: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    pub(super) fn started_at(_pid: u32) -> Option<DateTime<Utc>> {
        None
    }

    pub(super) fn scan(home: &Path, _outside: &[PathBuf]) -> Scan {
        let daemon = daemon::find(home).map(|daemon| Holder {
            pid: Some(daemon.pid),
            name: "codex".into(),
            why: "background daemon".into(),
        });
        Scan {
            holders: daemon.into_iter().collect(),
            locks: BTreeSet::new(),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{
        BTreeSet, DateTime, Holder, Path, PathBuf, Scan, THREAD_LOCKS, Utc, canonical, daemon,
    };
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    pub(super) fn scan(home: &Path, outside: &[PathBuf]) -> Scan {
        let mut scan = Scan {
            holders: Vec::new(),
            locks: BTreeSet::new(),
        };
        let daemon = daemon::find(home).map(|daemon| daemon.pid);
        let folders: Vec<&Path> = std::iter::once(home)
            .chain(outside.iter().map(PathBuf::as_path))
            .collect();
        let this = std::process::id();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
            let Some(pid) = pid.filter(|pid| *pid != this) else {
                continue;
            };
            let process = Process {
                folder: entry.path(),
            };
            // Zombies, kernel threads, and processes of others do not tell their program.
            let Some(name) = process.name() else { continue };
            let open = process.open_beneath(&folders);
            let is_codex = name == "codex" && process.home().is_some_and(|of| of == home);
            // The loop that updates the daemon's package outlives `daemon stop` and touches no data.
            if (open.is_empty() && !is_codex) || process.is_update_loop() {
                continue;
            }
            let why = if daemon == Some(pid) {
                "background daemon".into()
            } else if is_codex {
                "codex process".into()
            } else {
                let file = folders
                    .iter()
                    .find_map(|folder| open[0].strip_prefix(folder).ok())
                    .unwrap_or(&open[0]);
                format!("holds {} open", file.display())
            };
            let locks = home.join(THREAD_LOCKS);
            scan.locks
                .extend(open.into_iter().filter(|file| file.starts_with(&locks)));
            scan.holders.push(Holder {
                pid: Some(pid),
                name: name.to_string_lossy().into_owned(),
                why,
            });
        }
        scan
    }

    pub(super) fn codex(home: &Path) -> Vec<Holder> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                let process = Process {
                    folder: entry.path(),
                };
                let name = process.name()?;
                let is_codex = name == "codex" || (name == "node" && process.is_wrapper());
                let counts = is_codex && process.home()? == home && !process.is_update_loop();
                counts.then(|| Holder {
                    pid: Some(pid),
                    name: name.to_string_lossy().into_owned(),
                    why: "codex process".into(),
                })
            })
            .collect()
    }

    pub(super) fn open_files(pid: u32, home: &Path) -> Vec<PathBuf> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        Process { folder }.open_beneath(&[home])
    }

    pub(super) fn started_at(pid: u32) -> Option<DateTime<Utc>> {
        /// What the kernel tells times of processes in, on every processor that Codex is built for.
        const TICKS_PER_SECOND: i64 = 100;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks: i64 = fields.split_whitespace().nth(19)?.parse().ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let booted = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        let booted: i64 = booted.trim().parse().ok()?;
        DateTime::from_timestamp(booted + ticks / TICKS_PER_SECOND, 0)
    }

    struct Process {
        /// Its folder in `/proc`.
        folder: PathBuf,
    }

    impl Process {
        /// The name of its program, also of one that was replaced on disk meanwhile.
        fn name(&self) -> Option<OsString> {
            let exe = without_deleted(fs::read_link(self.folder.join("exe")).ok()?);
            exe.file_name().map(OsStr::to_os_string)
        }

        /// The regular files beneath `folders` that it has open.
        fn open_beneath(&self, folders: &[&Path]) -> Vec<PathBuf> {
            let mut open: Vec<_> = fs::read_dir(self.folder.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|fd| {
                    let target = fs::read_link(fd.path()).ok()?;
                    let beneath = folders.iter().any(|folder| target.starts_with(folder));
                    let is_file = beneath && fs::metadata(fd.path()).is_ok_and(|m| m.is_file());
                    is_file.then(|| without_deleted(target))
                })
                .collect();
            open.sort();
            open.dedup();
            open
        }

        /// The Codex home that it runs with, as far as its environment tells.
        fn home(&self) -> Option<PathBuf> {
            let environment = fs::read(self.folder.join("environ")).ok()?;
            let value = |name: &str| {
                environment
                    .split(|byte| *byte == 0)
                    .filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
                    .find(|value| !value.is_empty())
                    .map(|value| PathBuf::from(OsStr::from_bytes(value)))
            };
            let home = value("CODEX_HOME").or_else(|| Some(value("HOME")?.join(".codex")))?;
            let folder = fs::read_link(self.folder.join("cwd")).unwrap_or_default();
            Some(canonical(&folder.join(home)))
        }

        /// Whether it is npm's wrapper about Codex.
        fn is_wrapper(&self) -> bool {
            fs::read(self.folder.join("cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0).any(|argument| {
                    let name = argument.rsplit(|byte| *byte == b'/').next();
                    name == Some(b"codex") || name == Some(b"codex.js")
                })
            })
        }

        fn is_update_loop(&self) -> bool {
            fs::read(self.folder.join("cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0)
                    .any(|argument| argument == b"pid-update-loop")
            })
        }
    }

    /// The kernel marks files that have no name any more.
    fn without_deleted(path: PathBuf) -> PathBuf {
        let bytes = path.into_os_string().into_vec();
        let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes).to_vec();
        PathBuf::from(OsString::from_vec(bytes))
    }
}
