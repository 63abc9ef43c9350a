//! Counts the conversations that Codex itself lists in a home, by `codex app-server`. Codex 0.169 lists them
//! without a login and without contacting a server.

use super::program::Program;
use super::rpc::{AppServer, AppServerError};
use super::threads;
use crate::io::environment::Environment;
use crate::io::tree;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The number of conversations that one request asks for.
const PAGE_SIZE: u32 = 100;

/// The origins of conversations that a user started.
const SOURCE_KINDS: [&str; 3] = ["cli", "vscode", "exec"];

/// Returns the number of conversations that a user started and Codex lists in `home`, archived ones included. Codex is
/// ended after `stall_timeout` without progress: no reply, and no change of its databases. Without a state database it
/// first indexes all rollouts.
///
/// # Errors
/// Codex gives no list, or the user interrupts.
pub fn count_conversations(
    program: &Program,
    home: &Path,
    env: &Environment,
    stall_timeout: Duration,
) -> Result<usize, AppServerError> {
    let mut progress = DatabaseProgress {
        // Codex replies to nothing while it indexes rollouts, but its databases grow.
        folder: threads::find_state_folder(home, &env.without("CODEX_SQLITE_HOME")),
        file_stats: Vec::new(),
        stall_timeout,
        deadline: Instant::now() + stall_timeout,
    };

    let mut server =
        AppServer::start_initialized(program, home, env, &mut || progress.find_stall())?;
    let mut count = 0;
    for archived in [false, true] {
        count += count_listed(&mut server, archived, &mut progress)?;
    }

    server.finish();
    Ok(count)
}

/// The progress of Codex, as far as its databases show it.
struct DatabaseProgress {
    folder: PathBuf,
    /// The sizes and mtimes of the databases and their sidecar files.
    file_stats: Vec<(u64, Option<SystemTime>)>,
    stall_timeout: Duration,
    deadline: Instant,
}

impl DatabaseProgress {
    fn restart_timeout(&mut self) {
        self.deadline = Instant::now() + self.stall_timeout;
    }

    /// Returns an error text if the databases have not changed within the time limit. A change restarts the limit.
    fn find_stall(&mut self) -> Option<String> {
        let mut file_stats: Vec<_> = tree::list_entries(&self.folder)
            .filter(|entry| entry.file_name().to_string_lossy().contains(".sqlite"))
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| (meta.len(), meta.modified().ok()))
            .collect();
        file_stats.sort_unstable();

        if file_stats != self.file_stats {
            self.file_stats = file_stats;
            self.restart_timeout();
        }

        let is_over = Instant::now() >= self.deadline;
        is_over.then(|| format!("no progress within {} s", self.stall_timeout.as_secs()))
    }
}

fn count_listed(
    server: &mut AppServer,
    archived: bool,
    progress: &mut DatabaseProgress,
) -> Result<usize, AppServerError> {
    let mut params = json!({
        "limit": PAGE_SIZE,
        "archived": archived,
        "sourceKinds": SOURCE_KINDS,
        // Without the list, Codex omits conversations of other providers than the configured one.
        "modelProviders": [],
    });

    let mut count = 0;
    loop {
        progress.restart_timeout();
        let page = server.call("thread/list", &params, &mut || progress.find_stall())?;
        count += page["data"].as_array().map_or(0, Vec::len);
        match page.get("nextCursor").filter(|cursor| cursor.is_string()) {
            Some(cursor) => params["cursor"] = cursor.clone(),
            None => return Ok(count),
        }
    }
}
