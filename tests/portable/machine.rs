//! A machine of one test: its homes, and the program as a child.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time between the conversations of [`Machine::with_conversations`].
const DAY: Duration = Duration::from_secs(86_400);

/// Returns the id of a conversation.
pub(crate) fn id(n: u32) -> String {
    format!("01a10000-000{n}-7000-8000-00000000000{n}")
}

/// Returns the first prompt of a conversation, which is also its title.
pub(crate) fn prompt(n: u32) -> String {
    let topic = ["parser", "release", "flaky test"][n as usize - 1];
    format!("fix the {topic}")
}

/// A folder with a Codex home, a manager home and a folder of programs, removed when dropped.
pub(crate) struct Machine {
    root: tempfile::TempDir,
}

/// The end of a command.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code, expected,
            "exit code\n--- stdout\n{}--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Returns the JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

impl Machine {
    /// Creates a machine with empty homes and no Codex.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("cm-portable-").tempdir();
        let machine = Self {
            root: root.expect("temp dir"),
        };
        for folder in ["codex", "bin", "user"] {
            fs::create_dir(machine.path(folder)).expect("folder");
        }
        machine
    }

    /// Creates a machine with Alice's login, settings, and the conversations 1 to 3, of which the last
    /// changed one day ago.
    pub(crate) fn with_conversations() -> Self {
        let machine = Self::new();
        machine.sign_in("alice");
        machine.write("config.toml", "model = \"gpt-5\"\n");
        machine.write("skills/review/SKILL.md", "# Review\n");
        let database = Connection::open(machine.home("state_5.sqlite")).expect("database");
        database
            .execute_batch(
                "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
                 created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, source TEXT NOT NULL,
                 cwd TEXT NOT NULL, title TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0,
                 first_user_message TEXT NOT NULL, history_mode TEXT NOT NULL, name TEXT);",
            )
            .expect("schema");
        let mut prompts = String::new();
        for n in 1..=3 {
            let path = machine.write(&rollout(n), text(n));
            let changed = SystemTime::now() - DAY * (4 - n);
            set_modified(&path, changed);
            let seconds = changed
                .duration_since(UNIX_EPOCH)
                .expect("a time")
                .as_secs();
            let row = "INSERT INTO threads VALUES(?1, ?2, ?3, ?3, 'cli', ?4, ?5, 0, ?5, 'paginated', NULL)";
            let values = (
                id(n),
                path.to_str().expect("UTF-8"),
                i64::try_from(seconds).expect("a time"),
                machine.path("project").to_str().expect("UTF-8").to_owned(),
                prompt(n),
            );
            database.execute(row, values).expect("row");
            let line = json!({"session_id": id(n), "ts": seconds, "text": prompt(n)});
            prompts += &line.to_string();
            prompts.push('\n');
        }
        database.close().expect("close");
        machine.write("history.jsonl", prompts);
        machine
    }

    /// Returns a path in the folder of the test.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// Returns a path in the Codex home.
    pub(crate) fn home(&self, relative: &str) -> PathBuf {
        self.path("codex").join(relative)
    }

    /// Writes a file of the Codex home.
    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home(relative);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(&path, contents).expect("write");
        path
    }

    /// Reads a file of the Codex home.
    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.home(relative)).expect("read")
    }

    /// Writes a made-up login, one hour old.
    pub(crate) fn sign_in(&self, user: &str) {
        self.write("auth.json", login(user));
    }

    /// Installs a program on `PATH` that answers `codex --version`.
    pub(crate) fn install_codex(&self) {
        let version = "codex-cli 0.169.0";
        if cfg!(windows) {
            // As npm does: only the second can be started.
            fs::write(self.path("bin/codex"), "#!/bin/sh\n").expect("write");
            fs::write(self.path("bin/codex.cmd"), format!("@echo {version}\r\n")).expect("write");
            return;
        }
        let path = self.path("bin/codex");
        fs::write(&path, format!("#!/bin/sh\necho {version}\n")).expect("write");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    }

    /// Runs the program to its end, with `--yes`.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_in(self.root.path(), args)
    }

    /// Runs the program in `folder`.
    pub(crate) fn run_in(&self, folder: &Path, args: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-manager"));
        // Not an empty environment: Windows needs some of its variables, and wine all of its own.
        for (name, _) in std::env::vars_os() {
            let upper = name.to_string_lossy().to_uppercase();
            if upper.starts_with("CODEX") || upper.starts_with("OPENAI") {
                command.env_remove(name);
            }
        }
        let output = command
            .arg("--yes")
            .args(args)
            .env("CODEX_HOME", self.path("codex"))
            .env("CODEX_MANAGER_HOME", self.path("manager"))
            .env("HOME", self.path("user"))
            .env("PATH", self.path("bin"))
            .env("TZ", "UTC")
            .env("COLUMNS", "100")
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("start codex-manager");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn succeed(&self, args: &[&str]) -> Ended {
        self.run(args).code(0)
    }

    /// Returns the conversations of the Codex home: contents by name.
    pub(crate) fn conversations(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.home("sessions"), &mut found);
        found
    }

    /// Returns the ids and paths in Codex's database.
    pub(crate) fn rows(&self) -> BTreeMap<String, PathBuf> {
        let database = Connection::open(self.home("state_5.sqlite")).expect("database");
        let mut select = database
            .prepare("SELECT id, rollout_path FROM threads")
            .expect("select");
        let rows = select.query_map([], |row| {
            Ok((row.get(0)?, PathBuf::from(row.get::<_, String>(1)?)))
        });
        rows.expect("rows").map(|row| row.expect("row")).collect()
    }
}

fn collect(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            let name = path
                .file_name()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            found.insert(name, fs::read(&path).expect("read"));
        }
    }
}

/// Sets the modification time of a file.
pub(crate) fn set_modified(path: &Path, at: SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(at).expect("set time");
}

/// Returns the path of a conversation in the home, with `/`.
pub(crate) fn rollout(n: u32) -> String {
    format!(
        "sessions/2026/11/1{n}/rollout-2026-11-1{n}T10-00-00-{}.jsonl",
        id(n)
    )
}

/// Returns the lines of a conversation: a prompt, an answer, and a request of 1100 tokens.
pub(crate) fn text(n: u32) -> String {
    let at = format!("2026-11-1{n}T10:00:00.000Z");
    // In Codex's order of fields.
    let line = |kind: &str, payload: &str| {
        format!("{{\"timestamp\":\"{at}\",\"type\":\"{kind}\",\"payload\":{payload}}}\n")
    };
    let meta = json!({"id": id(n), "cwd": "/home/alice/project", "source": "cli", "timestamp": at});
    let context = json!({"model": "gpt-5", "cwd": "/home/alice/project"});
    let question = json!({"type": "user_message", "message": prompt(n)});
    let answer = format!("The answer to \"{}\". ", prompt(n)).repeat(500);
    let answer = json!({"type": "message", "role": "assistant",
                        "content": [{"type": "output_text", "text": answer}]});
    let tokens = json!({"input_tokens": 1000, "cached_input_tokens": 0, "output_tokens": 100,
                        "reasoning_output_tokens": 0, "total_tokens": 1100});
    let info = json!({"total_token_usage": tokens, "last_token_usage": tokens});
    let count = format!(r#"{{"type":"token_count","info":{info},"rate_limits":null}}"#);
    [
        line("session_meta", &meta.to_string()),
        line("turn_context", &context.to_string()),
        line("event_msg", &question.to_string()),
        line("response_item", &answer.to_string()),
        line("event_msg", &count),
        line("event_msg", r#"{"type":"task_complete"}"#),
    ]
    .concat()
}

/// Returns the `auth.json` of a user.
pub(crate) fn login(user: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let issued = now - 3600;
    let claims = json!({
        "email": format!("{user}@example.com"),
        "iat": issued,
        "exp": issued + 864_000,
        "https://api.openai.com/auth": {
            "chatgpt_account_id": format!("acct-{user}"),
            "chatgpt_user_id": format!("user-{user}"),
            "chatgpt_plan_type": "plus",
        },
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, end) = (json!({"alg": "none"}), json!("made up"));
    let token = format!("{}.{}.{}", part(&head), part(&claims), part(&end));
    let auth = json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {"id_token": token, "access_token": token,
                   "refresh_token": format!("made-up-{user}"), "account_id": format!("acct-{user}")},
        "last_refresh": "2026-11-01T00:00:00Z",
    });
    auth.to_string()
}
