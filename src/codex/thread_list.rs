//! The conversations that Codex itself lists in a home, by `codex app-server`. Codex 0.169 lists them
//! without a login and without contacting a server.

use super::program::Program;
use super::redaction::printable;
use super::threads;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The interval at which a wait checks for Ctrl-C.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum time for Codex to exit after its input is closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The origins of conversations that a user started.
const SOURCE_KINDS: [&str; 3] = ["cli", "vscode", "exec"];

/// The reason why Codex gave no list. The texts are safe to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ThreadListError {
    /// Codex could not be started, ended early, refused, or did not answer in time.
    #[error("Codex lists no conversations: {0}")]
    Failed(String),
    /// The user interrupted the wait.
    #[error("interrupted")]
    Interrupted,
}

/// Returns the number of conversations that Codex lists in `home`, archived ones included. Codex is ended after
/// `limit` without progress: no reply, and no change of its databases. Without a state database it first indexes all
/// rollouts.
///
/// # Errors
/// Codex gives no list, or the user interrupts.
pub(crate) fn count_conversations(
    program: &Program,
    home: &Path,
    env: &Environment,
    limit: Duration,
) -> Result<usize, ThreadListError> {
    let env = &env.without("CODEX_SQLITE_HOME");
    let mut command = program.command(home, env);
    command.arg("app-server");
    let child = ChildGroup::spawn(&mut command).map_err(|e| failed(&e.to_string()))?;
    let mut session = ListSession {
        child,
        next_id: 0,
        progress: DatabaseProgress {
            folder: threads::state_folder(home, env),
            sizes: Vec::new(),
            limit,
            deadline: Instant::now() + limit,
        },
    };
    let counted = session.count();
    session.child.finish(Instant::now() + EXIT_TIMEOUT);
    counted
}

fn failed(reason: &str) -> ThreadListError {
    ThreadListError::Failed(printable(reason))
}

struct ListSession {
    child: ChildGroup,
    next_id: u64,
    progress: DatabaseProgress,
}

/// The progress of Codex, as far as its databases show it.
struct DatabaseProgress {
    folder: PathBuf,
    sizes: Vec<(u64, Option<SystemTime>)>,
    limit: Duration,
    deadline: Instant,
}

impl DatabaseProgress {
    fn mark(&mut self) {
        self.deadline = Instant::now() + self.limit;
    }

    /// Returns true if Codex has made no progress within the limit.
    fn is_over(&mut self) -> bool {
        let entries = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        let mut sizes: Vec<_> = entries
            .filter(|entry| entry.file_name().to_string_lossy().contains(".sqlite"))
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| (meta.len(), meta.modified().ok()))
            .collect();
        sizes.sort_unstable();
        if sizes != self.sizes {
            self.sizes = sizes;
            self.mark();
        }
        Instant::now() >= self.deadline
    }
}

impl ListSession {
    fn count(&mut self) -> Result<usize, ThreadListError> {
        let info = json!({
            "name": "codex-manager",
            "title": "codex-manager",
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.ask("initialize", &json!({ "clientInfo": info }))?;
        self.send(&json!({ "method": "initialized" }))?;
        Ok(self.count_pages(false)? + self.count_pages(true)?)
    }

    fn count_pages(&mut self, archived: bool) -> Result<usize, ThreadListError> {
        let mut params = json!({
            "limit": 100,
            "archived": archived,
            "sourceKinds": SOURCE_KINDS,
        });
        let mut count = 0;
        loop {
            let page = self.ask("thread/list", &params)?;
            count += page
                .get("data")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            match page.get("nextCursor").filter(|cursor| cursor.is_string()) {
                Some(cursor) => params["cursor"] = cursor.clone(),
                None => return Ok(count),
            }
        }
    }

    fn send(&mut self, message: &Value) -> Result<(), ThreadListError> {
        let sent = self.child.send(&message.to_string());
        sent.map_err(|e| failed(&e.to_string()))
    }

    /// Sends a request and returns the result of its reply. Other lines are skipped.
    fn ask(&mut self, method: &str, params: &Value) -> Result<Value, ThreadListError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "id": id, "method": method, "params": params }))?;
        loop {
            if is_interrupted() {
                return Err(ThreadListError::Interrupted);
            }
            if self.progress.is_over() {
                let limit = self.progress.limit.as_secs();
                return Err(failed(&format!("no progress within {limit} s")));
            }
            let now = Instant::now();
            let line = match self.child.read_line(now + INTERRUPT_POLL_INTERVAL) {
                ChildOutput::Line(line) => line,
                ChildOutput::TimedOut => continue,
                ChildOutput::Closed => {
                    self.child.finish(now + EXIT_TIMEOUT);
                    return Err(failed(self.child.stderr().trim()));
                }
            };
            let Ok(mut reply) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            if reply.get("id") != Some(&json!(id)) || reply.get("method").is_some() {
                continue;
            }
            self.progress.mark();
            return match reply.pointer("/error/message").and_then(Value::as_str) {
                Some(message) => Err(failed(message)),
                None => Ok(reply.get_mut("result").map_or(Value::Null, Value::take)),
            };
        }
    }
}
