//! Detects whether the installed Codex has `--no-daemon`, which keeps a conversation out of the
//! background daemon.
//!
//! Only the help text of Codex shows whether it has the flag, and running Codex takes longer than
//! everything else in a launch. So the answer is cached until the program file changes.

use crate::codex::Program;
use crate::codex::arguments::NO_DAEMON;
use crate::io::{ChildGroup, ChildOutput, Document, Environment, atomic, disk_clock, document};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// The name of the document in the manager home.
pub const FILE_NAME: &str = "codex-program.json";

/// The time limit for Codex to print its help.
const HELP_TIMEOUT: Duration = Duration::from_secs(10);

/// The cached answer for one program file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct CachedProgram {
    path: String,
    bytes: u64,
    /// The ctime in nanoseconds since 1970. Unlike the mtime, no installer can set it back.
    changed_ns: i64,
    has_no_daemon: bool,
}

impl Document for CachedProgram {}

/// Returns true if `program` has `--no-daemon`, from the cache. `None` if the program file has changed since the answer
/// was cached, or no answer is cached. Runs nothing.
pub(crate) fn read_cached_no_daemon_flag(program: &Program, manager_home: &Path) -> Option<bool> {
    let cached = document::read::<CachedProgram>(&manager_home.join(FILE_NAME)).ok()?;
    let cached = cached.good()?;
    // With the same answer, the two differ only if the program file has changed, or is another one.
    let current = build_cache_entry(program.path(), cached.has_no_daemon)?;
    (current == cached).then_some(cached.has_no_daemon)
}

/// Returns true if the terminal interface of `program` has `--no-daemon`. Runs `codex --help` if the
/// program file has changed; returns false if that gives no answer. A failure to store the answer is ignored.
pub(crate) fn probe_no_daemon_flag(
    program: &Program,
    env: &Environment,
    manager_home: &Path,
) -> bool {
    if let Some(answer) = read_cached_no_daemon_flag(program, manager_home) {
        return answer;
    }
    let Some(has_no_daemon) = help_lists_no_daemon(program, env) else {
        return false;
    };
    if let Some(entry) = build_cache_entry(program.path(), has_no_daemon) {
        let _ = atomic::create_private_folder(manager_home)
            .and_then(|()| document::write(&manager_home.join(FILE_NAME), &entry));
    }
    has_no_daemon
}

/// Returns the answer for the present state of the program file at `path`; `None` if there is no such file.
fn build_cache_entry(path: &Path, has_no_daemon: bool) -> Option<CachedProgram> {
    let meta = path.metadata().ok()?;
    Some(CachedProgram {
        path: path.to_string_lossy().into_owned(),
        bytes: meta.len(),
        changed_ns: disk_clock::changed_ns(&meta),
        has_no_daemon,
    })
}

/// Runs `codex --help`. Returns `None` if it neither lists the flag nor ends with success within the time limit, as on
/// a busy machine.
fn help_lists_no_daemon(program: &Program, env: &Environment) -> Option<bool> {
    let mut command = env.command(program.path());
    command.arg("--help");
    let mut child = ChildGroup::spawn(&mut command).ok()?;
    child.close_input();

    let deadline = Instant::now() + HELP_TIMEOUT;
    let mut is_listed = false;
    while let ChildOutput::Line(line) = child.read_line(deadline) {
        let line = String::from_utf8_lossy(&line);
        is_listed |= line.split_whitespace().any(|word| word == NO_DAEMON);
    }

    let status = child.finish(deadline);
    // The flag in the help is an answer, however the program ends.
    let is_answer = is_listed || status.is_some_and(|status| status.success());
    is_answer.then_some(is_listed)
}
