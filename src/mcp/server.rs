//! Reads the messages of the client and answers them.

use super::call::PastCall;
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
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The longest message that is read, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// The number of calls that are answered at the same time, and of those that wait. The server stops reading then.
const WORKERS: usize = 4;
const MAX_WAITING_CALLS: usize = 64;

struct ServerSession<'a> {
    context: &'a Context,
    index: &'a IndexRefresh,
    /// The flags of the calls without an answer, by request id. The client sets one by cancelling.
    cancelled: Mutex<HashMap<String, Arc<AtomicBool>>>,
}

struct WaitingCall {
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
    };
    let (calls, waiting) = mpsc::sync_channel(MAX_WAITING_CALLS);
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        scope.spawn(|| index.run(context));
        let work = || session.answer_calls(&waiting);
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        session.read_messages(&calls);
        drop(calls);
        for worker in workers {
            let _ = worker.join();
        }
        // A first index of a large home takes minutes. What is indexed so far stays.
        progress::interrupt();
        index.close();
    });
}

impl ServerSession<'_> {
    /// Reads messages until stdin or stdout is closed.
    fn read_messages(&self, calls: &SyncSender<WaitingCall>) {
        let mut lines = LineReader::with_chunk_size(io::stdin().lock(), READ_BYTES);
        while let Ok(Some(line)) = lines.next_line() {
            let parsed = match line {
                JsonlLine::Whole(line) if line.len() <= MAX_MESSAGE_BYTES => {
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    message::parse(line)
                }
                _ => Err(RequestError::new(
                    RequestErrorCode::InvalidRequest,
                    format!("the message is longer than {MAX_MESSAGE_BYTES} bytes"),
                )),
            };
            let goes_on = match parsed {
                Ok(ClientMessage::Request { id, method, params }) if method == "tools/call" => {
                    calls.send(self.register(id, params)).is_ok()
                }
                Ok(ClientMessage::Request { id, method, params }) => {
                    let answer = match answer_request(&method, &params) {
                        Ok(result) => message::answer(&id, &result),
                        Err(error) => RequestError { id, ..error }.to_json(),
                    };
                    ui::send_line(&answer)
                }
                Ok(ClientMessage::Cancelled(id)) => {
                    if let Some(flag) = self.lock_flags().get(&id.to_string()) {
                        flag.store(true, Ordering::Relaxed);
                    }
                    true
                }
                Ok(ClientMessage::Other) => true,
                Err(error) => ui::send_line(&error.to_json()),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn register(&self, id: Value, params: Value) -> WaitingCall {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_cancelled);
        self.lock_flags().insert(id.to_string(), flag);
        WaitingCall {
            id,
            params,
            is_cancelled,
        }
    }

    /// Answers calls until no more can come, or nothing reads the answers.
    fn answer_calls(&self, waiting: &Mutex<Receiver<WaitingCall>>) {
        loop {
            let next = waiting.lock().map(|waiting| waiting.recv());
            let Ok(Ok(call)) = next else {
                return;
            };
            let past_call = PastCall {
                context: self.context,
                index: self.index,
                is_cancelled: &call.is_cancelled,
            };
            let result = tools::call(&call.params, &past_call);
            self.lock_flags().remove(&call.id.to_string());
            if call.is_cancelled.load(Ordering::Relaxed) {
                continue;
            }
            let answer = match result {
                Ok(result) => message::answer(&call.id, &result),
                Err(error) => RequestError {
                    id: call.id,
                    ..error
                }
                .to_json(),
            };
            if !ui::send_line(&answer) {
                return;
            }
        }
    }

    fn lock_flags(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<AtomicBool>>> {
        self.cancelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer_request(method: &str, params: &Value) -> Result<Value, RequestError> {
    match method {
        "initialize" => message::initialize(params),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(tools::list()),
        _ => Err(RequestError::new(
            RequestErrorCode::UnknownMethod,
            format!("no such method: {method}"),
        )),
    }
}
