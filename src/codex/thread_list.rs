//! The conversations that Codex itself lists in a home, by `codex app-server`. Codex 0.169 lists them
//! without a login and without contacting a server.

use super::program::Program;
use super::redaction::printable;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time limit of the whole list. A Codex without a state database first indexes all rollouts.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);

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

/// Returns the number of conversations that Codex lists in `home`, archived ones included.
///
/// # Errors
/// Codex gives no list, or the user interrupts.
pub(crate) fn count_conversations(
    program: &Program,
    home: &Path,
    env: &Environment,
) -> Result<usize, ThreadListError> {
    let mut command = program.command(home, env);
    command.env_remove("CODEX_SQLITE_HOME").arg("app-server");
    let child = ChildGroup::spawn(&mut command).map_err(|e| failed(&e.to_string()))?;
    let mut session = ListSession {
        child,
        next_id: 0,
        deadline: Instant::now() + LIST_TIMEOUT,
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
    deadline: Instant,
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
            let now = Instant::now();
            if now >= self.deadline {
                return Err(failed("it did not answer within 10 minutes"));
            }
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
            return match reply.pointer("/error/message").and_then(Value::as_str) {
                Some(message) => Err(failed(message)),
                None => Ok(reply.get_mut("result").map_or(Value::Null, Value::take)),
            };
        }
    }
}
