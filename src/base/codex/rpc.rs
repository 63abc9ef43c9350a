//! Requests to a private `codex app-server`, which speaks JSON lines over its standard streams: requests
//! `{"id","method","params"}`, replies `{"id","result"}` or `{"id","error":{"code","message"}}`, and notifications
//! in between.

use super::auth::text_field;
use super::program::Program;
use super::redaction::printable;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::progress::is_interrupted;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The interval at which a wait checks for Ctrl-C.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum time for Codex to exit after its input is closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The reply to one request: its `result`, or its `error`.
pub(super) type Reply = Result<Value, RpcError>;

#[derive(Debug)]
pub(super) struct RpcError {
    pub code: i64,
    pub message: String,
}

/// The reason why an app-server gave no result. The texts are safe to print.
#[derive(Debug, thiserror::Error)]
pub enum AppServerError {
    /// Codex could not be started, ended early, refused, or made no progress.
    #[error("{0}")]
    Failed(String),
    #[error("interrupted")]
    Interrupted,
}

fn to_failure(reason: impl Display) -> AppServerError {
    AppServerError::Failed(printable(&reason.to_string()))
}

pub(super) enum Received {
    /// The reply to the request with this id.
    Reply(u64, Reply),
    /// No line within the time, or a line that is no reply, such as a notification.
    Nothing,
    /// Codex has closed its output.
    Closed,
}

/// The requests that a client announces when it connects. Codex refuses experimental requests of other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    Stable,
    Experimental,
}

/// A running app-server. Killed on drop, unless it has ended or is detached.
pub struct AppServer {
    pub(super) child: ChildGroup,
    next_id: u64,
}

impl AppServer {
    pub(super) fn start(program: &Program, home: &Path, env: &Environment) -> io::Result<Self> {
        let mut command = program
            .server_command(home, env)
            .map_err(io::Error::other)?;
        let child = ChildGroup::spawn(command.arg("app-server"))?;
        Ok(Self { child, next_id: 0 })
    }

    /// Starts an app-server on `home`, without `CODEX_SQLITE_HOME`, and initializes it. While this waits for the reply,
    /// it polls `find_problem` like [`call`](Self::call).
    pub(crate) fn start_initialized(
        program: &Program,
        home: &Path,
        env: &Environment,
        find_problem: &mut dyn FnMut() -> Option<String>,
    ) -> Result<Self, AppServerError> {
        // The variable would name the databases of another home.
        let env = env.without("CODEX_SQLITE_HOME");
        let mut server = Self::start(program, home, &env).map_err(to_failure)?;
        let id = server.send_initialize(Api::Stable).map_err(to_failure)?;
        server.wait_for_result(id, find_problem)?;
        server.send_initialized().map_err(to_failure)?;
        Ok(server)
    }

    /// Sends the first request, and returns its id.
    pub(super) fn send_initialize(&mut self, api: Api) -> io::Result<u64> {
        let info = json!({
            "name": "codex-manager",
            "title": "codex-manager",
            "version": env!("CARGO_PKG_VERSION"),
        });
        let mut params = json!({ "clientInfo": info });
        if api == Api::Experimental {
            params["capabilities"] = json!({ "experimentalApi": true });
        }
        self.request("initialize", &params)
    }

    /// Confirms the reply to the first request. Codex accepts other requests only afterwards.
    pub(super) fn send_initialized(&mut self) -> io::Result<()> {
        let message = json!({ "method": "initialized" });
        self.child.send_line(&message.to_string())
    }

    /// Sends a request, and returns its id.
    pub(super) fn request(&mut self, method: &str, params: &Value) -> io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "id": id, "method": method });
        if !params.is_null() {
            message["params"] = params.clone();
        }
        self.child.send_line(&message.to_string())?;
        Ok(id)
    }

    /// Waits for a reply to any request, until `deadline` or the next check for Ctrl-C.
    pub(super) fn receive(&self, deadline: Instant) -> Received {
        let next_check = Instant::now() + INTERRUPT_POLL_INTERVAL;
        match self.child.read_line(deadline.min(next_check)) {
            ChildOutput::TimedOut => Received::Nothing,
            ChildOutput::Closed => Received::Closed,
            ChildOutput::Line(line) => parse_reply(&line)
                .map_or(Received::Nothing, |(id, reply)| Received::Reply(id, reply)),
        }
    }

    /// Sends a request and returns its result. While this waits, it polls `find_problem`. A text that
    /// `find_problem` returns ends the wait and becomes the error.
    pub(crate) fn call(
        &mut self,
        method: &str,
        params: &Value,
        find_problem: &mut dyn FnMut() -> Option<String>,
    ) -> Result<Value, AppServerError> {
        let id = self.request(method, params).map_err(to_failure)?;
        self.wait_for_result(id, find_problem)
    }

    fn wait_for_result(
        &mut self,
        id: u64,
        find_problem: &mut dyn FnMut() -> Option<String>,
    ) -> Result<Value, AppServerError> {
        loop {
            if is_interrupted() {
                return Err(AppServerError::Interrupted);
            }
            if let Some(problem) = find_problem() {
                return Err(to_failure(problem));
            }

            match self.receive(Instant::now() + INTERRUPT_POLL_INTERVAL) {
                Received::Reply(request, reply) if request == id => {
                    return reply.map_err(|error| to_failure(error.message));
                }
                Received::Reply(..) | Received::Nothing => {}
                Received::Closed => {
                    // The reason is on the standard error, which is complete only after the end.
                    self.finish();
                    return Err(to_failure(self.child.stderr().trim()));
                }
            }
        }
    }

    /// Closes the input of Codex and waits for its end, else kills it.
    pub(crate) fn finish(&mut self) {
        self.child.finish(Instant::now() + EXIT_TIMEOUT);
    }
}

/// Parses a reply: an object with a number as `id`, no `method`, and a `result` or `error`.
fn parse_reply(line: &[u8]) -> Option<(u64, Reply)> {
    let mut message: Value = serde_json::from_slice(line).ok()?;
    let id = message.get("id")?.as_u64()?;

    // A request of Codex itself, whose id may equal the id of a request of this program.
    if message.get("method").is_some() {
        return None;
    }

    if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
        let text = text_field(error, "message");
        let reply = RpcError {
            // JSON-RPC requires a code. Without one, the error is classified by its text alone.
            code: error.get("code").and_then(Value::as_i64).unwrap_or(0),
            message: text.unwrap_or_else(|| error.to_string()),
        };
        return Some((id, Err(reply)));
    }

    Some((id, Ok(message.get_mut("result")?.take())))
}
