//! A state database made by Codex itself, in a home of its own.
//!
//! Where a database is lost or broken, only Codex can make it: its tables carry the marks of its
//! own migrations. So it is started once on an empty home whose `sessions/` lead to the real ones;
//! it lists them, without a login and without asking any server (0.169), and what it wrote is then
//! taken over with its paths put right.

use super::HistoryError;
use super::check::Conversations;
use super::id::ConversationId;
use crate::codex::database;
use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::program::Program;
use crate::codex::redaction::printable;
use crate::codex::thread_rows::{self, Strays};
use crate::codex::{database_view, threads};
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use crate::io::staging::Staging;
use crate::io::{IoContext, atomic};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long Codex may be silent. It answers once it has read all rollouts.
const BACKFILL_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a wait looks whether the user wants to stop.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long it may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A database that Codex made, still in its staging folder.
#[derive(Debug)]
pub struct ScratchDatabase {
    /// The database, with nothing beside it.
    pub database: PathBuf,
    _staging: Staging,
}

/// Where the conversations of a home are.
struct RolloutLocations<'a> {
    conversations: &'a Conversations,
    all: HashSet<&'a Path>,
}

impl thread_rows::Rollouts for RolloutLocations<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let files = self.conversations.of(&ConversationId::of(id));
        files.first().map(|c| c.file.relative.to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.all.contains(path)
    }
}

/// Lets `program` make a state database of the rollouts of `home`. The rows point below
/// `rows_home`, at where `conversations` are.
///
/// # Errors
/// Codex cannot be started or does not do it.
pub fn create(
    home: &Path,
    rows_home: &Path,
    manager_home: &Path,
    program: &Program,
    env: &Environment,
    conversations: &Conversations,
) -> Result<ScratchDatabase, HistoryError> {
    let staging = Staging::inside(&manager_home.join("tmp"))?;
    let scratch = staging.path("home");
    atomic::create_private_folder(&scratch)?;
    for name in [SESSIONS, ARCHIVED_SESSIONS] {
        let real = home.join(name);
        if real.exists() {
            link(&real, &scratch.join(name))?;
        }
    }
    run(&scratch, program, env)?;
    let database = threads::find_state_database(&scratch, &Environment::default())
        .ok_or_else(|| HistoryError::NotRebuilt("it left none".into()))?;
    database::fold_wal(&database)?;
    let places = RolloutLocations {
        conversations,
        all: conversations.iter().map(|c| &*c.file.relative).collect(),
    };
    thread_rows::rewrite_rollout_paths(&database, rows_home, &places, Strays::TakenIn)?;
    database::check(&database)?;
    Ok(ScratchDatabase {
        database,
        _staging: staging,
    })
}

fn run(scratch: &Path, program: &Program, env: &Environment) -> Result<(), HistoryError> {
    let failed = |text: &str| HistoryError::NotRebuilt(printable(text));
    let mut command = program.command(scratch, env);
    command.env_remove("CODEX_SQLITE_HOME").arg("app-server");
    let mut child = ChildGroup::spawn(&mut command).map_err(|e| failed(&e.to_string()))?;
    let introduction = json!({"clientInfo":
        {"name": "codex-manager", "title": "codex-manager", "version": env!("CARGO_PKG_VERSION")}});
    let deadline = Instant::now() + BACKFILL_TIMEOUT;
    ask(&mut child, 0, "initialize", &introduction, deadline)?;
    child
        .send(&json!({"method": "initialized"}).to_string())
        .map_err(|e| failed(&e.to_string()))?;
    let mut id = 1;
    while !is_complete(scratch) {
        if Instant::now() > deadline {
            return Err(failed("it did not end in time"));
        }
        ask(
            &mut child,
            id,
            "thread/list",
            &json!({"limit": 1}),
            deadline,
        )?;
        id += 1;
    }
    child.finish(Instant::now() + EXIT_TIMEOUT);
    Ok(())
}

/// Whether Codex has noted that it has read all rollouts.
fn is_complete(scratch: &Path) -> bool {
    let Some(database) = threads::find_state_database(scratch, &Environment::default()) else {
        return false;
    };
    let status = database_view::read(&database, |connection| {
        connection.query_row("SELECT status FROM backfill_state", [], |row| {
            row.get::<_, String>(0)
        })
    });
    status.is_ok_and(|status| status == "complete")
}

fn ask(
    child: &mut ChildGroup,
    id: u64,
    method: &str,
    params: &Value,
    deadline: Instant,
) -> Result<(), HistoryError> {
    let request = json!({"id": id, "method": method, "params": params});
    child
        .send(&request.to_string())
        .map_err(|e| HistoryError::NotRebuilt(e.to_string()))?;
    loop {
        if is_interrupted() {
            return Err(HistoryError::Interrupted);
        }
        match child.read_line(Instant::now() + INTERRUPT_POLL_INTERVAL) {
            ChildOutput::Line(line) => {
                let Ok(answer) = serde_json::from_slice::<Value>(&line) else {
                    continue;
                };
                if answer.get("id") != Some(&json!(id)) || answer.get("method").is_some() {
                    continue;
                }
                return match answer.pointer("/error/message").and_then(Value::as_str) {
                    None => Ok(()),
                    Some(error) => Err(HistoryError::NotRebuilt(printable(error))),
                };
            }
            ChildOutput::Closed => {
                child.finish(Instant::now() + EXIT_TIMEOUT);
                return Err(HistoryError::NotRebuilt(printable(child.stderr().trim())));
            }
            ChildOutput::TimedOut if Instant::now() > deadline => {
                return Err(HistoryError::NotRebuilt("it did not answer in time".into()));
            }
            ChildOutput::TimedOut => {}
        }
    }
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<(), HistoryError> {
    Ok(std::os::unix::fs::symlink(to, at).at("link", at)?)
}

#[cfg(windows)]
fn link(to: &Path, at: &Path) -> Result<(), HistoryError> {
    Ok(std::os::windows::fs::symlink_dir(to, at).at("link", at)?)
}
