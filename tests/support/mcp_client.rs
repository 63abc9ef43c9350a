//! A client of `codex-manager mcp`, which sends lines and reads lines.

#![allow(
    clippy::needless_pass_by_value,
    reason = "tests write their parameters where they send them"
)]

use super::env::TestEnv;
use super::pauses::EVENT_LIMIT;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// A running server. It ends when its stdin is closed, at the latest when this is dropped.
pub(crate) struct McpClient {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The lines of the server. A thread reads them, because a server that cannot write reads no more.
    lines: Receiver<String>,
    next_id: u64,
}

/// The result of a call of a tool.
#[derive(Debug)]
pub(crate) struct ToolAnswer {
    pub text: String,
    pub is_error: bool,
}

impl ToolAnswer {
    /// Returns the ids of the conversations that the answer names to open, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let calls = self.text.lines().filter(|line| !line.starts_with('>'));
        let calls = calls.filter_map(|line| line.split_once("open_conversation "));
        calls
            .map(|(_, arguments)| {
                let arguments: Value = serde_json::from_str(arguments).expect("arguments");
                arguments["id"].as_str().expect("an id").to_owned()
            })
            .collect()
    }

    /// Returns the cursor of the next page, if there is one.
    pub(crate) fn cursor(&self) -> Option<String> {
        let (_, cursor) = self.text.rsplit_once("\"cursor\": \"")?;
        Some(cursor.split_once('"')?.0.to_owned())
    }

    /// Returns the quoted lines, without their marks.
    pub(crate) fn quoted(&self) -> String {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("> "));
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

impl McpClient {
    /// Starts a server in the folder of the test.
    pub(crate) fn start(env: &TestEnv) -> Self {
        Self::start_in(env, &env.path(""))
    }

    pub(crate) fn start_in(env: &TestEnv, folder: &Path) -> Self {
        let mut child = env
            .command(["mcp"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the server");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut client = Self {
            stdin: child.stdin.take(),
            lines,
            child,
            next_id: 0,
        };
        let version = json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}});
        let answer = client.request("initialize", version);
        assert_eq!(
            answer["result"]["protocolVersion"], "2025-06-18",
            "{answer}"
        );
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    /// Returns the largest amount of memory that the server had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the status of the server");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.expect("the peak").trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") << 10
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).expect("send");
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_bytes(format!("{message}\n").as_bytes());
    }

    /// Returns the next message of the server.
    #[track_caller]
    pub(crate) fn receive(&self) -> Value {
        let line = self.lines.recv_timeout(EVENT_LIMIT);
        let line = line.expect("an answer of the server");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Sends a request without waiting for the answer. Returns its id.
    pub(crate) fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Sends a request and returns the answer.
    #[track_caller]
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let answer = self.receive();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Calls a tool.
    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> ToolAnswer {
        self.call_with(json!({"name": tool, "arguments": arguments}))
    }

    #[track_caller]
    pub(crate) fn call_with(&mut self, params: Value) -> ToolAnswer {
        let answer = self.request("tools/call", params);
        Self::parse(&answer)
    }

    /// Returns the result of a call in a message.
    #[track_caller]
    pub(crate) fn parse(answer: &Value) -> ToolAnswer {
        let result = &answer["result"];
        assert_eq!(
            result["content"].as_array().map(Vec::len),
            Some(1),
            "{answer}"
        );
        assert_eq!(result["content"][0]["type"], "text", "{answer}");
        let text = result["content"][0]["text"].as_str();
        ToolAnswer {
            text: text.expect("a text").to_owned(),
            is_error: result["isError"].as_bool().expect("isError"),
        }
    }

    /// Searches everywhere, and returns the answer.
    #[track_caller]
    pub(crate) fn search(&mut self, query: &str) -> ToolAnswer {
        self.call(
            "search_conversations",
            json!({"query": query, "scope": "all"}),
        )
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Closes stdin and waits for the end of the server.
    pub(crate) fn close(mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().expect("wait")
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
