//! Reads the messages of the client and answers them.

use super::call::CallContext;
use super::index_refresh::IndexRefresh;
use super::message::{self, ClientMessage, RequestError, RequestErrorCode};
use super::tools;
use crate::context::Context;
use crate::ui;
use codex_manager_core::history::lines::{JsonlLine, LineReader};
use codex_manager_core::io::progress;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// The number of calls that are answered at the same time.
const WORKERS: usize = 4;

/// While this many calls wait, the server reads no further messages.
const MAX_WAITING_CALLS: usize = 64;

struct ServerSession<'a> {
    context: &'a Context,
    index: &'a IndexRefresh,
    /// The flags of the calls without an answer, by request id. The client sets a flag by cancelling the call.
    cancel_flags: Mutex<HashMap<String, Arc<AtomicBool>>>,
    calls: Mutex<CallQueue>,
    /// Notified when a call begins or a worker ends.
    calls_changed: Condvar,
}

#[derive(Default)]
struct CallQueue {
    waiting: VecDeque<WaitingCall>,
    workers: usize,
    /// If true, no process reads the answers.
    is_stdout_closed: bool,
}

struct WaitingCall {
    id: Value,
    params: Value,
    is_versioned: bool,
    is_cancelled: Arc<AtomicBool>,
}

/// Answers the requests on stdin until it is closed.
pub(crate) fn serve(context: &Context) {
    let index = IndexRefresh::default();
    let session = ServerSession {
        context,
        index: &index,
        cancel_flags: Mutex::default(),
        calls: Mutex::default(),
        calls_changed: Condvar::new(),
    };

    thread::scope(|scope| {
        scope.spawn(|| index.run_updates(context));
        session.answer_messages(scope);
        // The calls that were read before stdin was closed still get their answers.
        drop(session.wait_while(|calls| calls.workers > 0));
        // Does not wait for an update: a first index of a large home takes minutes. The indexed part stays.
        progress::interrupt();
        index.close();
    });
}

impl ServerSession<'_> {
    /// Reads and answers messages until stdin or stdout is closed.
    fn answer_messages<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut lines = LineReader::with_chunk_size(io::stdin().lock(), READ_BYTES);
        while let Ok(Some(line)) = lines.next_line() {
            let message = match line {
                JsonlLine::Whole(line) if line.trim_ascii().is_empty() => continue,
                JsonlLine::Whole(line) if line.len() <= MAX_MESSAGE_BYTES => message::parse(line),
                JsonlLine::Whole(_) | JsonlLine::TooLong { .. } => {
                    let text = format!("the message is longer than {MAX_MESSAGE_BYTES} bytes");
                    message::to_invalid_message(Value::Null, text)
                }
            };

            let is_stdout_open = match message {
                ClientMessage::Request {
                    id,
                    method,
                    params,
                    is_versioned,
                } => {
                    // A call of a tool can take long, so a worker answers it.
                    if method == "tools/call" {
                        self.enqueue(self.register_call(id, params, is_versioned), scope)
                    } else {
                        let result = answer_request(&method, &params, is_versioned);
                        ui::send_line(&message::build_answer(&id, result))
                    }
                }
                ClientMessage::Cancelled(id) => {
                    if let Some(flag) = self.lock_cancel_flags().get(&id.to_string()) {
                        flag.store(true, Ordering::Relaxed);
                    }
                    true
                }
                ClientMessage::Other => true,
                ClientMessage::Invalid(id, error) => {
                    ui::send_line(&message::build_answer(&id, Err(error)))
                }
            };

            if !is_stdout_open {
                return;
            }
        }
    }

    /// Creates a call that the client can cancel by its request id.
    fn register_call(&self, id: Value, params: Value, is_versioned: bool) -> WaitingCall {
        let call = WaitingCall {
            id,
            params,
            is_versioned,
            is_cancelled: Arc::default(),
        };
        let flag = Arc::clone(&call.is_cancelled);
        self.lock_cancel_flags().insert(call.id.to_string(), flag);
        call
    }

    /// Lets a worker answer the call. Returns false if no process reads the answers.
    fn enqueue<'scope>(&'scope self, call: WaitingCall, scope: &'scope Scope<'scope, '_>) -> bool {
        let mut calls = self.wait_while(|calls| calls.waiting.len() >= MAX_WAITING_CALLS);
        calls.waiting.push_back(call);
        if calls.workers < WORKERS {
            calls.workers += 1;
            // Not a pool: glibc gives a new thread the heap of an ended one, while each idle thread would keep the
            // memory of its largest search.
            scope.spawn(|| self.answer_waiting_calls());
        }
        !calls.is_stdout_closed
    }

    /// Waits until `condition` is false.
    fn wait_while(
        &self,
        mut condition: impl FnMut(&CallQueue) -> bool,
    ) -> MutexGuard<'_, CallQueue> {
        let calls = self.lock_calls();
        let waited = self
            .calls_changed
            .wait_while(calls, |calls| condition(calls));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers waiting calls until no call is left. Drops them if no process reads the answers.
    fn answer_waiting_calls(&self) {
        // The result of the last answer, which the loop shares with the other workers.
        let mut is_stdout_closed = false;
        loop {
            let mut calls = self.lock_calls();
            calls.is_stdout_closed |= is_stdout_closed;
            is_stdout_closed = calls.is_stdout_closed;
            let call = calls.waiting.pop_front();
            if call.is_none() {
                calls.workers -= 1;
            }
            self.calls_changed.notify_all();
            drop(calls);

            let Some(call) = call else { return };
            if !is_stdout_closed {
                is_stdout_closed = !self.answer_call(&call);
            }
        }
    }

    /// Answers a call that was not cancelled. Returns false if no process reads the answer.
    fn answer_call(&self, call: &WaitingCall) -> bool {
        let call_context = CallContext {
            context: self.context,
            index: self.index,
            is_cancelled: &call.is_cancelled,
        };

        let mut result = tools::call_tool(&call.params, &call_context);
        if call.is_versioned {
            result = result.map(message::add_result_fields);
        }

        self.lock_cancel_flags().remove(&call.id.to_string());
        if call.is_cancelled.load(Ordering::Relaxed) {
            return true;
        }
        ui::send_line(&message::build_answer(&call.id, result))
    }

    fn lock_calls(&self) -> MutexGuard<'_, CallQueue> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_cancel_flags(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicBool>>> {
        self.cancel_flags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the result of a request that is no call of a tool.
fn answer_request(method: &str, params: &Value, is_versioned: bool) -> Result<Value, RequestError> {
    let result = match method {
        "initialize" => message::initialize_result(params),
        "server/discover" => message::discover_result(),
        "ping" => json!({}),
        "tools/list" => tools::describe_tools(),
        _ => {
            return Err(RequestError::new(
                RequestErrorCode::UnknownMethod,
                format!("no such method: {method}"),
            ));
        }
    };

    if is_versioned {
        return Ok(message::add_cacheable_result_fields(result));
    }
    Ok(result)
}
