//! Reads the messages of the client and answers them.

use super::call::CallContext;
use super::index_refresh::IndexRefresh;
use super::message::{self, ClientMessage, RequestError, RequestErrorCode};
use super::tools;
use crate::context::Context;
use crate::history::lines::{JsonlLine, LineReader};
use crate::io::progress;
use crate::ui;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// The number of calls that are answered at the same time. Meanwhile the server reads no further messages.
const MAX_RUNNING_CALLS: usize = 4;

struct ServerSession<'a> {
    context: &'a Context,
    index: &'a IndexRefresh,
    /// The flags of the calls without an answer, by request id. The client sets a flag by cancelling the call.
    cancelled: Mutex<HashMap<String, Arc<AtomicBool>>>,
    running: Mutex<RunningCalls>,
    /// Notified when a call ends.
    call_ended: Condvar,
}

#[derive(Default)]
struct RunningCalls {
    count: usize,
    /// True if stdout is closed, so that no process reads the answers.
    is_closed: bool,
}

struct CancellableCall {
    id: Value,
    params: Value,
    is_cancelled: Arc<AtomicBool>,
}

/// Answers the requests on stdin until it is closed.
pub(crate) fn serve(context: &Context) {
    let index = IndexRefresh::default();
    let session = ServerSession {
        context,
        index: &index,
        cancelled: Mutex::default(),
        running: Mutex::default(),
        call_ended: Condvar::new(),
    };
    thread::scope(|scope| {
        scope.spawn(|| index.run(context));
        session.read_messages(scope);
        drop(session.wait_for_calls(0));
        // A first index of a large home takes minutes. The part that is indexed so far stays.
        progress::interrupt();
        index.close();
    });
}

impl ServerSession<'_> {
    /// Reads messages until stdin or stdout is closed.
    fn read_messages<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut lines = LineReader::with_chunk_size(io::stdin().lock(), READ_BYTES);
        while let Ok(Some(line)) = lines.next_line() {
            let message = match line {
                JsonlLine::Whole(line) if line.trim_ascii().is_empty() => continue,
                JsonlLine::Whole(line) if line.len() <= MAX_MESSAGE_BYTES => message::parse(line),
                _ => {
                    let text = format!("the message is longer than {MAX_MESSAGE_BYTES} bytes");
                    message::invalid(Value::Null, text)
                }
            };
            let goes_on = match message {
                ClientMessage::Request { id, method, params } => {
                    if method == "tools/call" {
                        self.start(self.register(id, params), scope)
                    } else {
                        let result = answer_request(&method, &params);
                        ui::send_line(&message::answer(&id, result))
                    }
                }
                ClientMessage::Cancelled(id) => {
                    if let Some(flag) = self.lock_flags().get(&id.to_string()) {
                        flag.store(true, Ordering::Relaxed);
                    }
                    true
                }
                ClientMessage::Other => true,
                ClientMessage::Invalid(id, error) => {
                    ui::send_line(&message::answer(&id, Err(error)))
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Creates a call that the client can cancel by its request id.
    fn register(&self, id: Value, params: Value) -> CancellableCall {
        let call = CancellableCall {
            id,
            params,
            is_cancelled: Arc::default(),
        };
        let flag = Arc::clone(&call.is_cancelled);
        self.lock_flags().insert(call.id.to_string(), flag);
        call
    }

    /// Answers the call on a thread of its own. Returns false if no process reads the answers.
    fn start<'scope>(
        &'scope self,
        call: CancellableCall,
        scope: &'scope Scope<'scope, '_>,
    ) -> bool {
        let mut running = self.wait_for_calls(MAX_RUNNING_CALLS - 1);
        if running.is_closed {
            return false;
        }
        running.count += 1;
        // Not a pool: glibc gives a new thread the heap of an ended one, while each idle thread would keep the memory of
        // its largest search.
        scope.spawn(move || {
            let is_open = self.answer_call(&call);
            let mut running = self.lock_running();
            running.count -= 1;
            running.is_closed |= !is_open;
            self.call_ended.notify_all();
        });
        true
    }

    /// Waits until at most `max_calls` are being answered.
    fn wait_for_calls(&self, max_calls: usize) -> MutexGuard<'_, RunningCalls> {
        let running = self.lock_running();
        let waited = (self.call_ended).wait_while(running, |running| running.count > max_calls);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a call that was not cancelled. Returns false if no process reads the answer.
    fn answer_call(&self, call: &CancellableCall) -> bool {
        let call_context = CallContext {
            context: self.context,
            index: self.index,
            is_cancelled: &call.is_cancelled,
        };
        let result = tools::call(&call.params, &call_context);
        self.lock_flags().remove(&call.id.to_string());
        call.is_cancelled.load(Ordering::Relaxed)
            || ui::send_line(&message::answer(&call.id, result))
    }

    fn lock_running(&self) -> MutexGuard<'_, RunningCalls> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_flags(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicBool>>> {
        self.cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer_request(method: &str, params: &Value) -> Result<Value, RequestError> {
    match method {
        "initialize" => Ok(message::initialize(params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(tools::list()),
        _ => Err(RequestError::new(
            RequestErrorCode::UnknownMethod,
            format!("no such method: {method}"),
        )),
    }
}
