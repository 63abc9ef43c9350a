//! Has Codex create a state database in a scratch home.
//!
//! Only Codex can create a lost or damaged database, because the tables record its own migrations.
//! So Codex is started once on an empty home whose `sessions/` link to the real ones. It indexes
//! them without a login and without contacting a server (0.169). The paths in the new database are
//! then rewritten to the real home.

use super::HistoryError;
use super::conversations::Conversations;
use super::id::ConversationId;
use crate::codex::database;
use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::program::{Program, is_before};
use crate::codex::redaction::printable;
use crate::codex::threads::staged::{self, UnmatchedRows};
use crate::codex::{database_view, threads};
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use crate::io::staging::Staging;
use crate::io::{atomic, tree};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest time that Codex may take to index all rollouts. It answers requests only afterwards.
const BACKFILL_TIMEOUT: Duration = Duration::from_secs(600);
/// The first version of Codex with a database of conversations (0.104 has none, 0.110 has one). Earlier ones
/// answer `thread/list` from the rollouts, and 0.42 has no app-server: it would start its terminal interface.
const FIRST_VERSION_WITH_LIST: (u32, u32) = (0, 105);
/// The time limit of `codex --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time in which the database may stay the same before it is complete. In 0.110 and 0.120 the
/// app-server creates it and indexes nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval at which a wait checks for Ctrl-C.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The longest time that Codex may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A database that Codex created. Its staging folder is removed on drop.
#[derive(Debug)]
pub(crate) struct ScratchDatabase {
    /// The path of the database; its write-ahead log is already merged into it.
    pub database: PathBuf,
    _staging: Staging,
}

impl ScratchDatabase {
    pub(super) fn new(database: PathBuf, staging: Staging) -> Self {
        Self {
            database,
            _staging: staging,
        }
    }
}

/// The real locations of rollouts, for rewriting the rows.
struct DiskRollouts<'a> {
    conversations: &'a Conversations,
    all: HashSet<&'a Path>,
}

impl staged::RolloutLocations for DiskRollouts<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let files = self.conversations.of(&ConversationId::of(id));
        files.first().map(|c| c.file.relative.to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.all.contains(path)
    }
}

/// Has `program` create a state database of the rollouts of `home`. Its rows point to the files of
/// `conversations` below `rows_home`.
///
/// # Errors
/// Codex cannot be started, fails, has no database, adds nothing to it for 30 s, or takes more than
/// 10 minutes.
pub(crate) fn create(
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
    // Even `codex --version` writes into its home (0.98).
    let scratch_env = env.clone().with("CODEX_HOME", &scratch);
    let version = program.version(&scratch_env, VERSION_TIMEOUT);
    if let Some(version) = version.filter(|version| is_before(version, FIRST_VERSION_WITH_LIST)) {
        return Err(HistoryError::NoList(version));
    }
    for name in [SESSIONS, ARCHIVED_SESSIONS] {
        let real = home.join(name);
        if real.exists() {
            tree::make_link(&real, &scratch.join(name))?;
        }
    }
    run(&scratch, program, env)?;
    let database = threads::find_state_database(&scratch, &Environment::default())
        .ok_or_else(|| HistoryError::NotRebuilt("it created no database".into()))?;
    database::checkpoint_wal(&database)?;
    let places = DiskRollouts {
        conversations,
        all: conversations.iter().map(|c| &*c.file.relative).collect(),
    };
    staged::rewrite_rollout_paths(&database, rows_home, &places, UnmatchedRows::Rebase)?;
    database::check(&database)?;
    Ok(ScratchDatabase::new(database, staging))
}

fn run(scratch: &Path, program: &Program, env: &Environment) -> Result<(), HistoryError> {
    let failed = |text: &str| HistoryError::NotRebuilt(printable(text));
    let deadline = Instant::now() + BACKFILL_TIMEOUT;
    run_app_server(scratch, program, env, |ask| {
        let (mut seen, mut changed_at, mut is_first) = (None, Instant::now(), true);
        loop {
            let state = backfill_state(scratch);
            if state.as_ref().is_some_and(BackfillState::is_complete) {
                return Ok(());
            }
            let now = Instant::now();
            if state != seen {
                (seen, changed_at) = (state, now);
            }
            if now > deadline {
                return Err(failed(
                    "it did not index the conversations within 10 minutes",
                ));
            }
            if now - changed_at > STALL_TIMEOUT {
                return Err(failed("it indexed nothing for 30 s"));
            }
            if !is_first {
                // Codex 0.110 answers at once, and indexes in the background.
                std::thread::sleep(INTERRUPT_POLL_INTERVAL);
            }
            is_first = false;
            ask("thread/list", &json!({"limit": 1}))?;
        }
    })
}

/// Sends a request and waits for its answer.
pub(super) type Ask<'a> = dyn FnMut(&str, &Value) -> Result<(), HistoryError> + 'a;

/// Starts the app-server of `program` in a scratch home, and ends it after `work`.
///
/// # Errors
/// Codex cannot be started, or `work` fails. An answer that is an error, or takes more than 10 minutes, is one too.
pub(super) fn run_app_server(
    scratch: &Path,
    program: &Program,
    env: &Environment,
    work: impl FnOnce(&mut Ask<'_>) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
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
    let mut id = 0;
    work(&mut |method, params| {
        id += 1;
        ask(&mut child, id, method, params, deadline)
    })?;
    child.finish(Instant::now() + EXIT_TIMEOUT);
    Ok(())
}

/// The progress that Codex records while it indexes the rollouts.
#[derive(PartialEq)]
struct BackfillState {
    status: String,
    rows: i64,
}

impl BackfillState {
    fn is_complete(&self) -> bool {
        self.status == "complete"
    }
}

fn backfill_state(scratch: &Path) -> Option<BackfillState> {
    let database = threads::find_state_database(scratch, &Environment::default())?;
    let state = database_view::read(&database, |connection| {
        let sql = "SELECT status, (SELECT count(*) FROM threads) FROM backfill_state";
        connection.query_row(sql, [], |row| {
            Ok(BackfillState {
                status: row.get(0)?,
                rows: row.get(1)?,
            })
        })
    });
    state.ok()
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
                return Err(HistoryError::NotRebuilt(
                    "it did not answer within 10 minutes".into(),
                ));
            }
            ChildOutput::TimedOut => {}
        }
    }
}
