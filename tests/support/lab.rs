//! A machine with the manager and the real Codex, which is signed in to the mock backend.

use super::env::{Run, TestEnv};
use super::mock_backend::MockBackend;
use super::pauses::EVENT_LIMIT;
use super::real_codex::{AppServer, Output, RealCodex};
use super::sign_in::{SignIn, codex_env, signed_in_home, write_auth};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The real Codex, its backend, and the homes of one machine.
pub(crate) struct Lab {
    /// The installed Codex, in the version of the tests.
    pub(crate) codex: &'static RealCodex,
    /// The backend that Codex is configured for.
    pub(crate) backend: MockBackend,
    /// Homes and environment. The clock is the real one, because Codex and the backend use it.
    pub(crate) world: TestEnv,
}

impl Lab {
    /// Signs Alice in at `~/.codex`; `None` if the real Codex is not available.
    pub(crate) fn new() -> Option<Self> {
        Self::signed_in(&SignIn::alice())
    }

    /// Like [`Lab::new`], with this sign-in.
    pub(crate) fn signed_in(sign_in: &SignIn) -> Option<Self> {
        let lab = Self::empty()?;
        signed_in_home(&lab.home(), &lab.backend, sign_in);
        Some(lab)
    }

    /// Signs Alice in, and saves the profiles `alice` and `bob`.
    pub(crate) fn of_two(alice: &SignIn, bob: &SignIn) -> Option<Self> {
        let lab = Self::signed_in(bob)?;
        let _ = lab.manager(["profile", "save", "bob"]).code(0);
        write_auth(&lab.home(), alice);
        let _ = lab.manager(["profile", "save", "alice"]).code(0);
        Some(lab)
    }

    /// Completes the end of the programs: Codex can end between removing the `-shm` and the WAL of a database.
    pub(crate) fn close_databases(&self) {
        for entry in fs::read_dir(self.home()).expect("the home") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "sqlite") {
                let database = Connection::open(&path).expect("open");
                let rows = database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
                rows.expect("a checkpoint");
            }
        }
    }

    /// Creates a machine without `~/.codex`.
    pub(crate) fn empty() -> Option<Self> {
        Some(Self::with_codex(RealCodex::get()?))
    }

    /// Signs Alice in to a Codex of another version, and saves the profiles `alice` and `bob`.
    pub(crate) fn of_version(version: &'static str) -> Option<Self> {
        let lab = Self::with_codex(RealCodex::of_version(version)?);
        signed_in_home(&lab.home(), &lab.backend, &SignIn::bob());
        // Codex 0.98 asks the real server for its models, in each turn and for 9 s.
        let path = lab.home().join("config.toml");
        let config = fs::read_to_string(&path).expect("config.toml");
        let config = config.replace("[features]", "[features]\nremote_models = false");
        fs::write(&path, config).expect("write");
        let _ = lab.manager(["profile", "save", "bob"]).code(0);
        write_auth(&lab.home(), &SignIn::alice());
        let _ = lab.manager(["profile", "save", "alice"]).code(0);
        Some(lab)
    }

    fn with_codex(codex: &'static RealCodex) -> Self {
        let backend = MockBackend::start();
        let mut world = TestEnv::new();
        world.unset("CODEX_MANAGER_NOW");
        world.set("PATH", codex.search_path());
        for (name, value) in codex_env(&backend) {
            world.set(&name, &value);
        }
        Self {
            codex,
            backend,
            world,
        }
    }

    /// Returns the Codex home `~/.codex`.
    pub(crate) fn home(&self) -> PathBuf {
        self.world.codex_home()
    }

    /// Runs the manager with these arguments.
    #[must_use]
    pub(crate) fn manager<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        self.world.run(args)
    }

    /// Archives `~/.codex` without a probe; returns the path of the archive.
    #[track_caller]
    pub(crate) fn back_up(&self) -> PathBuf {
        let done = self.manager(["backup", "--no-status", "--json"]).code(0);
        self.path_in(&done.json()["path"])
    }

    /// Converts a path that the manager printed.
    #[track_caller]
    pub(crate) fn path_in(&self, printed: &Value) -> PathBuf {
        let text = printed.as_str().expect("a path");
        self.world
            .path(text.strip_prefix("[ROOT]/").expect("below the root"))
    }

    /// Runs a turn in a new conversation; returns its id.
    #[track_caller]
    pub(crate) fn say(&self, prompt: &str) -> String {
        self.say_in(&self.home(), prompt)
    }

    /// Like [`Lab::say`], in another home.
    #[track_caller]
    pub(crate) fn say_in(&self, home: &Path, prompt: &str) -> String {
        let done = self.codex.exec(home, &self.backend, &[prompt]);
        let done = done.expect_success();
        done.session_id().expect("a session id").to_owned()
    }

    /// Runs another turn in a conversation.
    #[track_caller]
    pub(crate) fn resume(&self, home: &Path, id: &str, prompt: &str) -> Output {
        let done = self.codex.exec_resume(home, &self.backend, id, prompt);
        let done = done.expect_success();
        assert_eq!(done.session_id(), Some(id), "another session\n{done}");
        done
    }

    /// Runs further turns in a conversation, in one Codex: each start of it takes 0.2 s of CPU time.
    #[track_caller]
    pub(crate) fn turns(&self, home: &Path, id: &str, prompts: &[&str]) {
        let mut conversation = OpenConversation::open(self, home, id);
        for prompt in prompts {
            conversation.say(prompt);
        }
        conversation.close();
    }

    /// Replaces the turn with this number and all later ones by another prompt, as Esc Esc and an edit of it do.
    #[track_caller]
    pub(crate) fn edit(&self, home: &Path, id: &str, turn: usize, prompt: &str) {
        let mut conversation = OpenConversation::open(self, home, id);
        conversation.rewind(turn);
        conversation.say(prompt);
        conversation.close();
    }

    /// Returns the user's messages in a conversation, from `thread/read`.
    #[track_caller]
    pub(crate) fn user_messages(&self, home: &Path, id: &str) -> Vec<String> {
        let params = json!({"threadId": id, "includeTurns": true});
        let answer = self
            .codex
            .app_server_request(home, &self.backend, "thread/read", params)
            .expect("a thread");
        let turns = answer["thread"]["turns"].as_array().expect("turns");
        let items = turns
            .iter()
            .flat_map(|t| t["items"].as_array().into_iter().flatten());
        items
            .filter(|item| item["type"] == "userMessage")
            .map(|item| {
                item["content"][0]["text"]
                    .as_str()
                    .expect("text")
                    .to_owned()
            })
            .collect()
    }

    /// Returns the ids of the conversations that Codex lists, sorted.
    #[track_caller]
    pub(crate) fn listed_ids(&self, home: &Path) -> Vec<String> {
        let params = json!({"sourceKinds": ["exec"]});
        let answer = self
            .codex
            .app_server_request(home, &self.backend, "thread/list", params)
            .expect("a list");
        let mut ids: Vec<String> = answer["data"]
            .as_array()
            .expect("threads")
            .iter()
            .map(|thread| thread["id"].as_str().expect("an id").to_owned())
            .collect();
        ids.sort();
        ids
    }
}

/// A conversation that is open in one Codex, as in its interface.
pub(crate) struct OpenConversation {
    server: AppServer,
    id: String,
    /// The ids of the turns that Codex shows.
    turns: Vec<Value>,
}

impl OpenConversation {
    /// Opens a conversation.
    #[track_caller]
    pub(crate) fn open(lab: &Lab, home: &Path, id: &str) -> Self {
        let mut server = lab.codex.app_server(home, &lab.backend);
        let resumed = server.request("thread/resume", json!({"threadId": id}));
        let resumed = resumed.expect("a thread");
        let turns = resumed["thread"]["turns"].as_array().expect("turns");
        Self {
            id: id.to_owned(),
            turns: turns.iter().map(|turn| turn["id"].clone()).collect(),
            server,
        }
    }

    /// Runs a turn.
    #[track_caller]
    pub(crate) fn say(&mut self, prompt: &str) {
        let input = json!([{"type": "text", "text": prompt}]);
        let params = json!({"threadId": self.id, "input": input});
        let started = self.server.request("turn/start", params).expect("a turn");
        self.turns.push(started["turn"]["id"].clone());
        let turn = self.server.wait_for_turn(&self.id);
        assert_eq!(turn["status"], "completed", "{turn}");
    }

    /// Takes back the turns from the one with this number on, as Esc Esc does.
    #[track_caller]
    pub(crate) fn rewind(&mut self, turn: usize) {
        let params = json!({"threadId": self.id, "beforeTurnId": self.turns[turn]});
        let reverted = self.server.request("thread/revert", params);
        reverted.expect("a rewind");
        self.turns.truncate(turn);
    }

    /// Waits for the end of Codex.
    #[track_caller]
    pub(crate) fn close(self) {
        self.server.close(EVENT_LIMIT).expect("the server ends");
    }
}

/// Returns the paths of all rollouts of a home, sorted.
pub(crate) fn rollouts(home: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![home.join("sessions"), home.join("archived_sessions")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the only rollout of a conversation.
#[track_caller]
pub(crate) fn rollout(home: &Path, id: &str) -> PathBuf {
    let mut found = rollouts(home);
    found.retain(|path| path.to_string_lossy().contains(id));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Returns the account that a rollout names as its creator.
#[track_caller]
pub(crate) fn creator(rollout: &Path) -> String {
    let text = fs::read_to_string(rollout).expect("read the rollout");
    let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let creator = first["payload"]["creator_account_id"].as_str();
    creator.expect("an account").to_owned()
}

/// Returns the user's messages in a rollout. Skips lines that are not JSON.
pub(crate) fn messages(rollout: &Path) -> Vec<String> {
    messages_in(&fs::read(rollout).expect("read the rollout"))
}

/// Like [`messages`], for the content of a rollout.
pub(crate) fn messages_in(content: &[u8]) -> Vec<String> {
    content
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|line| line["type"] == "response_item" && line["payload"]["role"] == "user")
        .filter_map(|line| Some(line["payload"]["content"][0]["text"].as_str()?.to_owned()))
        .filter(|text| !text.starts_with(['<', '#']))
        .collect()
}

/// Returns the id and the rollout path of each row in a home's state database.
pub(crate) fn rows(home: &Path) -> Vec<(String, PathBuf)> {
    let database = open(&home.join("state_5.sqlite"));
    let mut query = database
        .prepare("SELECT id, rollout_path FROM threads ORDER BY id")
        .expect("threads");
    let rows = query.query_map([], |row| {
        Ok((row.get(0)?, PathBuf::from(row.get::<_, String>(1)?)))
    });
    rows.expect("query").map(|row| row.expect("row")).collect()
}

/// Opens a database for reading, with its WAL.
pub(crate) fn open(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns all rows of the conversations, or the bytes of a file that is not a database.
pub(crate) fn conversation_rows(home: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["state_5.sqlite", "state_5.sqlite-wal"] {
        let _ = fs::copy(home.join(name), folder.path().join(name));
    }
    let copy = folder.path().join("state_5.sqlite");
    if !copy.exists() {
        return Vec::new();
    }
    let database = Connection::open(&copy).unwrap();
    let Ok(mut statement) = database.prepare("SELECT * FROM threads ORDER BY id") else {
        return vec![format!("{:?}", fs::read(&copy).unwrap())];
    };
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let text = |n: usize| {
            Ok(match row.get_ref(n)? {
                ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => format!("{other:?}"),
            })
        };
        let values = (0..columns).map(text);
        values
            .collect::<rusqlite::Result<Vec<_>>>()
            .map(|all| all.join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Writes a conversation of one turn as Codex 0.42 did: without ordinals, with its instructions in the first line.
pub(crate) fn write_legacy(home: &Path, id: &str, prompt: &str, instructions: &str) -> PathBuf {
    let time = "2026-10-01T00:00:00.000Z";
    let message = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    let lines = [
        (
            "session_meta",
            json!({"id": id, "timestamp": time, "cwd": home, "originator": "codex_exec",
            "cli_version": "0.42.0", "instructions": instructions, "source": "exec"}),
        ),
        ("response_item", message("user", "input_text", prompt)),
        (
            "event_msg",
            json!({"type": "user_message", "message": prompt, "kind": "plain"}),
        ),
        (
            "event_msg",
            json!({"type": "agent_message", "message": "an answer"}),
        ),
        (
            "response_item",
            message("assistant", "output_text", "an answer"),
        ),
    ];
    let mut second = 0;
    let lines = lines.map(|(kind, payload)| {
        second += 1;
        let time = format!("2026-10-01T00:00:{second:02}.000Z");
        format!(
            "{}\n",
            json!({"timestamp": time, "type": kind, "payload": payload})
        )
    });
    let folder = home.join("sessions/2026/10/01");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("rollout-2026-10-01T00-00-00-{id}.jsonl"));
    fs::write(&path, lines.concat()).unwrap();
    path
}
