//! Has Codex create a state database in a scratch home.
//!
//! Only Codex can create a lost or damaged database, because the tables record its own migrations.
//! So Codex is started once on an empty home with links to the real folders of rollouts. Codex 0.169
//! indexes the rollouts without a login and without contacting a server. The paths in the new database are
//! then rewritten to the real home.

use super::HistoryError;
use super::conversations::Conversations;
use super::id::ConversationId;
use super::repair_plan::RepairContext;
use crate::codex::program::is_version_before;
use crate::codex::threads::staged;
use crate::codex::{
    ARCHIVED_SESSIONS, AppServer, Program, SESSIONS, UnmatchedRows, database, database_view,
    threads,
};
use crate::io::{Environment, Staging, atomic, links};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest time that Codex may take to index all rollouts. Newer versions answer requests only afterwards.
const BACKFILL_TIMEOUT: Duration = Duration::from_secs(600);
/// The first version of Codex with a database of conversations (0.104 has none, 0.110 has one). Earlier ones
/// answer `thread/list` from the rollouts, and 0.42 has no app-server: it would start its terminal interface.
const FIRST_VERSION_WITH_LIST: (u32, u32) = (0, 105);
/// The time limit of `codex --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for which an incomplete database may stay the same. The app-server of 0.110 and 0.120 creates the
/// database and indexes nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval at which Codex is asked whether its database is complete.
const BACKFILL_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A database that Codex created. Its staging folder is removed on drop.
#[derive(Debug)]
pub(crate) struct ScratchDatabase {
    /// The path of the database; its write-ahead log is already merged into it.
    pub database: PathBuf,
    pub(super) _staging: Staging,
}

/// The real locations of rollouts, for rewriting the rows.
struct DiskRollouts<'a> {
    conversations: &'a Conversations,
    relative_paths: HashSet<&'a Path>,
}

impl staged::RolloutLocations for DiskRollouts<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let files = self.conversations.rollouts_of(&ConversationId::of(id));
        files.first().map(|c| c.file.relative.to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.relative_paths.contains(path)
    }
}

/// Lets `program` create a state database of the rollouts of `home`. Its rows point to the files of
/// `conversations` below `rows_home`.
///
/// # Errors
/// Codex cannot be started, fails, has no database, adds nothing to it for 30 s, or takes more than
/// 10 minutes.
pub(crate) fn create_scratch_database(
    context: &RepairContext<'_>,
    rows_home: &Path,
    program: &Program,
    conversations: &Conversations,
) -> Result<ScratchDatabase, HistoryError> {
    let RepairContext { home, env, .. } = *context;
    let staging = Staging::create_in(&context.manager_home.join("tmp"))?;
    let scratch_home = staging.path("home");
    atomic::create_private_folder(&scratch_home)?;

    let version = program.version(env, VERSION_TIMEOUT);
    let is_too_old = |version: &String| is_version_before(version, FIRST_VERSION_WITH_LIST);
    if let Some(version) = version.filter(is_too_old) {
        return Err(HistoryError::NoList(version));
    }

    for name in [SESSIONS, ARCHIVED_SESSIONS] {
        let real_folder = home.join(name);
        if real_folder.exists() {
            links::make_link(&real_folder, &scratch_home.join(name))?;
        }
    }

    run_backfill(&scratch_home, program, env)?;

    let database = threads::find_state_database(&scratch_home, &Environment::default())
        .ok_or_else(|| HistoryError::NotRebuilt("it created no database".into()))?;
    database::checkpoint_wal(&database)?;

    let disk_rollouts = DiskRollouts {
        conversations,
        relative_paths: conversations.iter().map(|c| &*c.file.relative).collect(),
    };
    staged::rewrite_rollout_paths(&database, rows_home, &disk_rollouts, UnmatchedRows::Rebase)?;
    database::check_integrity(&database)?;

    Ok(ScratchDatabase {
        database,
        _staging: staging,
    })
}

/// Starts Codex in the scratch home, and waits until it has indexed all rollouts.
fn run_backfill(scratch: &Path, program: &Program, env: &Environment) -> Result<(), HistoryError> {
    let to_error = |text: &str| HistoryError::NotRebuilt(text.to_owned());
    let deadline = Instant::now() + BACKFILL_TIMEOUT;

    run_app_server(scratch, program, env, |send_request| {
        let (mut last_progress, mut changed_at) = (None, Instant::now());
        loop {
            send_request("thread/list", &json!({"limit": 1}))?;

            let progress = read_backfill_progress(scratch);
            if matches!(&progress, Some((status, _)) if status == "complete") {
                return Ok(());
            }

            let now = Instant::now();
            if progress != last_progress {
                (last_progress, changed_at) = (progress, now);
            }

            if now > deadline {
                return Err(to_error(
                    "it did not index the conversations within 10 minutes",
                ));
            }
            if now - changed_at > STALL_TIMEOUT {
                return Err(to_error("it indexed nothing for 30 s"));
            }

            // Codex 0.110 answers at once, and indexes in the background.
            std::thread::sleep(BACKFILL_POLL_INTERVAL);
        }
    })
}

/// Sends a request and waits for its answer.
pub(super) type SendRequest<'a> = dyn FnMut(&str, &Value) -> Result<(), HistoryError> + 'a;

/// Starts the app-server of `program` in a scratch home, and ends it after `use_server`.
///
/// # Errors
/// Codex cannot be started, or `use_server` fails. An answer is an error, or takes more than 10 minutes.
pub(super) fn run_app_server(
    scratch: &Path,
    program: &Program,
    env: &Environment,
    use_server: impl FnOnce(&mut SendRequest<'_>) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
    let deadline = Instant::now() + BACKFILL_TIMEOUT;
    let mut find_problem = || {
        let is_over = Instant::now() > deadline;
        is_over.then(|| "it did not answer within 10 minutes".to_owned())
    };

    let mut server = AppServer::start_initialized(program, scratch, env, &mut find_problem)?;
    use_server(&mut |method, params| {
        server.call(method, params, &mut find_problem)?;
        Ok(())
    })?;

    server.finish();
    Ok(())
}

/// Returns the status that Codex records while it indexes the rollouts, and the number of rows so far.
fn read_backfill_progress(scratch: &Path) -> Option<(String, i64)> {
    let database = threads::find_state_database(scratch, &Environment::default())?;
    let progress = database_view::run_query(&database, |connection| {
        let sql = "SELECT status, (SELECT count(*) FROM threads) FROM backfill_state";
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
    });
    progress.ok()
}
