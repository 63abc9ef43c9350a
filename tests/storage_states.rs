//! The real Codex handles a conversation in each state equally before and after each `storage` command.

use crate::support::folder_snapshot::FolderSnapshot;
use crate::support::lab::{Lab, open, rollouts, write_legacy};
use crate::support::mock_backend::ToolCall;
use crate::support::real_codex::AppServer;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use std::path::Path;

/// The states of a conversation. Codex 0.169 writes paginated conversations, so all except the legacy
/// one are paginated.
const STATES: [&str; 9] = [
    "plain", "named", "archived", "parent", "fork", "spawner", "subagent", "legacy", "migrated",
];

/// The expected outcomes with plain files.
const EXPECTED: &str = r#"
plain list: active, name null, preview "plain"
plain read: ["plain"] in 2 items
named list: active, name "a name", preview "named"
named read: ["named"] in 2 items
archived list: archived, name null, preview "archived"
archived read: ["archived"] in 2 items
parent list: active, name null, preview "parent"
parent read: ["parent"] in 2 items
fork list: active, name null, preview "fork"
fork read: ["parent", "fork"] in 4 items
spawner list: active, name null, preview "spawner"
spawner read: ["spawner"] in 5 items
subagent list: not listed
subagent read: [] in 1 items
legacy list: active, name null, preview "legacy"
legacy read: ["legacy", "more"] in 4 items
migrated list: active, name null, preview "migrated"
migrated read: ["migrated", "more"] in 4 items
plain archive: archived
plain unarchive: active
named archive: archived
named unarchive: active
archived unarchive: active
archived archive: archived
parent archive: archived
parent unarchive: active
fork archive: archived
fork unarchive: active
spawner archive: archived
spawner unarchive: active
subagent archive: not listed
subagent unarchive: not listed
legacy archive: archived
legacy unarchive: active
migrated archive: archived
migrated unarchive: active
plain fork: ["plain"] in 2 items
named fork: ["named"] in 2 items
archived fork: fails: session archived is archived. Run `codex unarchive archived` to unarchive it first.
parent fork: ["parent"] in 2 items
fork fork: ["parent", "fork"] in 4 items
spawner fork: ["spawner"] in 5 items
subagent fork: [] in 1 items
legacy fork: ["legacy", "more"] in 4 items
migrated fork: ["migrated", "more"] in 4 items
plain resume: goes on: ["plain", "resumed"] in 4 items
named resume: goes on: ["named", "resumed"] in 4 items
archived resume: Error: thread/resume: thread/resume failed: session archived is archived. Run `codex unarchive archived` to unarchive it first. (code -32600): ["archived"] in 2 items
parent resume: goes on: ["parent", "resumed"] in 4 items
fork resume: goes on: ["parent", "fork", "resumed"] in 6 items
spawner resume: goes on: ["spawner", "resumed"] in 7 items
subagent resume: Error: thread/resume: thread/resume failed: cannot resume an unloaded multi-agent v2 sub-agent through its parent; resume the parent first, or use thread/read to inspect it (code -32600): [] in 1 items
legacy resume: goes on: ["legacy", "more", "resumed"] in 6 items
migrated resume: goes on: ["migrated", "more", "resumed"] in 6 items
legacy migrate: Scanned 1 rollout(s): 1 migrated, 0 already paginated, 0 skipped (0 empty, 0 busy), 0 failed.: ["legacy", "more"] in 4 items
plain delete: 0 rollouts left
named delete: 0 rollouts left
archived delete: 0 rollouts left
parent delete: fails: cannot delete thread parent: forked history still references it
fork delete: 0 rollouts left
spawner delete: 0 rollouts left
subagent delete: fails: no rollout found for thread id subagent
legacy delete: 0 rollouts left
migrated delete: 0 rollouts left
"#;

/// A home with one conversation in each state.
struct Conversations {
    lab: Lab,
    /// The ids by state.
    ids: BTreeMap<&'static str, String>,
}

impl Conversations {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let mut ids = BTreeMap::new();
        for state in ["plain", "named", "archived", "parent"] {
            ids.insert(state, lab.say(state));
        }
        lab.backend.call_tools(&[
            ToolCall {
                namespace: "collaboration",
                name: "spawn_agent",
                arguments: json!({"task_name": "helper", "message": "help", "fork_turns": "none"}),
            },
            ToolCall {
                namespace: "collaboration",
                name: "wait_agent",
                arguments: json!({}),
            },
        ]);
        ids.insert("spawner", lab.say("spawner"));
        lab.backend.call_tools(&[]);
        for (state, n) in [("legacy", 1), ("migrated", 2)] {
            let id = format!("01a10000-0000-7000-8000-{n:012}");
            write_legacy(&lab.home(), &id, state, "");
            lab.resume(&lab.home(), &id, "more");
            ids.insert(state, id);
        }
        let arguments = ["migrate-rollouts", "--apply", "--thread", &ids["migrated"]];
        let migrated = lab.codex.run(&lab.home(), &lab.backend, &arguments);
        let migrated = migrated.expect_success();
        assert!(migrated.stdout.contains("1 migrated"), "{migrated}");

        let mut server = lab.codex.app_server(&lab.home(), &lab.backend);
        let mut ask = |method: &str, state: &str, more: (&str, &str)| -> Value {
            let mut params = json!({"threadId": ids[state]});
            params[more.0] = more.1.into();
            let answer = server.request(method, params);
            answer.unwrap_or_else(|e| panic!("{method}: {e}"))
        };
        ask("thread/name/set", "named", ("name", "a name"));
        ask("thread/archive", "archived", ("", ""));
        let fork = ask("thread/fork", "parent", ("", ""));
        let fork = fork["thread"]["id"].as_str().expect("an id").to_owned();
        drop(server);
        let database = open(&lab.home().join("state_5.sqlite"));
        let sql = "SELECT child_thread_id FROM thread_spawn_edges";
        let subagent = database.query_row(sql, [], |row| row.get(0));
        ids.insert("subagent", subagent.expect("a subagent"));
        lab.resume(&lab.home(), &fork, "fork");
        ids.insert("fork", fork);
        Some(Self { lab, ids })
    }

    fn server(&self) -> AppServer {
        self.lab
            .codex
            .app_server(&self.lab.home(), &self.lab.backend)
    }

    /// Replaces ids by states.
    fn readable(&self, text: &str) -> String {
        let ids = self.ids.iter();
        ids.fold(text.to_owned(), |text, (state, id)| text.replace(id, state))
    }

    /// Sends a request about the conversation in a state.
    fn ask(&self, server: &mut AppServer, method: &str, state: &str) -> Result<Value, String> {
        let mut params = json!({"threadId": self.ids[state]});
        if method == "thread/read" {
            params["includeTurns"] = true.into();
        }
        let answer = server.request(method, params);
        answer.map_err(|e| self.readable(e["message"].as_str().unwrap_or_default()))
    }

    /// Returns the description and the times of each conversation that Codex lists, by state.
    fn listed(&self, server: &mut AppServer) -> BTreeMap<String, (String, String)> {
        let mut all = BTreeMap::new();
        let sources = ["exec", "vscode", "cli", "appServer"];
        for params in [
            json!({"sourceKinds": sources, "archived": false, "limit": 100}),
            json!({"sourceKinds": sources, "archived": true, "limit": 100}),
            json!({"sourceKinds": ["subAgentThreadSpawn"], "limit": 100}),
        ] {
            let answer = server
                .request("thread/list", params.clone())
                .expect("a list");
            for thread in answer["data"].as_array().expect("threads") {
                let state = self.readable(thread["id"].as_str().expect("an id"));
                let keys = ["name", "preview", "createdAt", "updatedAt"];
                let [name, preview, created, updated] = keys.map(|key| thread[key].to_string());
                let place = match params["archived"].as_bool() {
                    Some(true) => "archived",
                    _ => "active",
                };
                let text = format!("{place}, name {name}, preview {preview}");
                all.insert(state, (text, format!("{created} {updated}")));
            }
        }
        all
    }

    /// Runs each operation on each state, each time on the restored home, and records the outcomes.
    fn observe(&self, prepared: &FolderSnapshot) -> Observations {
        let mut seen = Observations::default();
        prepared.restore();
        let mut server = self.server();
        let listed = self.listed(&mut server);
        for state in STATES {
            let (text, times) = listed.get(state).cloned().unwrap_or_default();
            seen.times.push(times);
            let is_listed = !text.is_empty();
            let text = if is_listed { &text } else { "not listed" };
            seen.add(state, "list", text);
            let read = self.ask(&mut server, "thread/read", state);
            seen.add(state, "read", &outcome(read.map(|answer| texts(&answer))));
        }
        for state in STATES {
            let mut steps = ["thread/archive", "thread/unarchive"];
            if state == "archived" {
                steps.reverse();
            }
            for step in steps {
                let done = self.ask(&mut server, step, state);
                let listed = self.listed(&mut server);
                let place = listed.get(state).map_or("not listed", |(text, _)| {
                    text.split(',').next().unwrap_or_default()
                });
                let done = outcome(done.map(|_| place.to_owned()));
                seen.add(state, step.trim_start_matches("thread/"), &done);
            }
        }
        seen.forms.push(("archive", self.forms()));
        for state in STATES {
            let fork = self.ask(&mut server, "thread/fork", state);
            seen.add(state, "fork", &outcome(fork.map(|answer| texts(&answer))));
        }
        seen.forms.push(("fork", self.forms()));
        drop(server);

        prepared.restore();
        let resumed = STATES.map(|state| {
            let home = self.lab.home();
            let id = &self.ids[state];
            let done = self
                .lab
                .codex
                .exec_resume(&home, &self.lab.backend, id, "resumed");
            if done.status.success() {
                assert_eq!(done.session_id(), Some(&**id), "{done}");
                return "goes on".to_owned();
            }
            let last = done.stderr.lines().find(|line| line.starts_with("Error"));
            self.readable(last.unwrap_or(&done.stderr))
        });
        let mut server = self.server();
        for (state, text) in STATES.into_iter().zip(resumed) {
            let read = self.ask(&mut server, "thread/read", state);
            let read = outcome(read.map(|answer| texts(&answer)));
            seen.add(state, "resume", &format!("{text}: {read}"));
        }
        drop(server);
        seen.forms.push(("resume", self.forms()));

        prepared.restore();
        let arguments = [
            "migrate-rollouts",
            "--apply",
            "--thread",
            &self.ids["legacy"],
        ];
        let migrated = self
            .lab
            .codex
            .run(&self.lab.home(), &self.lab.backend, &arguments);
        let counted = migrated
            .stdout
            .lines()
            .find(|line| line.starts_with("Scanned"));
        let mut server = self.server();
        let read = self.ask(&mut server, "thread/read", "legacy");
        let read = outcome(read.map(|answer| texts(&answer)));
        seen.add(
            "legacy",
            "migrate",
            &format!("{}: {read}", counted.unwrap_or_default()),
        );
        for state in STATES {
            let deleted = self.ask(&mut server, "thread/delete", state);
            let left = rollouts(&self.lab.home());
            let left = left
                .iter()
                .filter(|path| belongs_to(path, &self.ids[state]))
                .count();
            let done = outcome(deleted.map(|_| format!("{left} rollouts left")));
            seen.add(state, "delete", &done);
        }
        seen
    }

    /// Returns the states whose conversations are compressed.
    fn forms(&self) -> Vec<&'static str> {
        let files = rollouts(&self.lab.home());
        let is_packed = |state: &&str| {
            let mut own = files
                .iter()
                .filter(|path| belongs_to(path, &self.ids[state]));
            own.any(|path| path.extension().is_some_and(|end| end == "zst"))
        };
        STATES.into_iter().filter(is_packed).collect()
    }

    fn manage(&self, arguments: &[&str]) {
        let _ = self.lab.manager(arguments).code(0);
    }
}

/// The outcomes of all operations with all states.
#[derive(Debug, Default, PartialEq)]
struct Observations {
    /// The outcomes: state, operation and answer.
    lines: Vec<String>,
    /// The times of each conversation in the list.
    times: Vec<String>,
    /// The states that are compressed after each kind of operation.
    forms: Vec<(&'static str, Vec<&'static str>)>,
}

impl Observations {
    fn add(&mut self, state: &str, operation: &str, text: &str) {
        self.lines.push(format!("{state} {operation}: {text}"));
    }
}

fn outcome(result: Result<String, String>) -> String {
    result.unwrap_or_else(|error| format!("fails: {error}"))
}

/// Returns the user's messages in a conversation, and the number of all items.
fn texts(answer: &Value) -> String {
    let turns = answer["thread"]["turns"].as_array().into_iter().flatten();
    let items: Vec<&Value> = turns
        .flat_map(|turn| turn["items"].as_array().into_iter().flatten())
        .collect();
    let messages = items.iter().filter(|item| item["type"] == "userMessage");
    let messages = messages.map(|item| item["content"][0]["text"].as_str().unwrap_or_default());
    format!(
        "{:?} in {} items",
        messages.collect::<Vec<_>>(),
        items.len()
    )
}

fn belongs_to(path: &Path, id: &str) -> bool {
    path.to_string_lossy().contains(id)
}

#[test]
fn codex_treats_conversations_in_every_state_alike_before_and_after_each_command() {
    const SHRINK: [&str; 6] = ["storage", "shrink", "--older-than", "0s", "--min-size", "0"];
    let Some(all) = Conversations::new() else {
        return;
    };
    let original = FolderSnapshot::take(&all.lab.home());
    let ids: Vec<&str> = all.ids.values().map(String::as_str).collect();
    let trash = [&["storage", "trash"], &ids[..]].concat();
    let undelete = [&["storage", "undelete"], &ids[..]].concat();
    let before = all.observe(&original);
    assert_eq!(before.lines.join("\n"), EXPECTED.trim());
    let cases: [(&str, &[&[&str]]); 4] = [
        ("shrink", &[&SHRINK]),
        ("expand", &[&SHRINK, &["storage", "expand"]]),
        ("undelete", &[&trash, &undelete]),
        ("undelete of compressed ones", &[&SHRINK, &trash, &undelete]),
    ];
    for (case, commands) in cases {
        original.restore();
        for command in commands {
            all.manage(command);
            all.manage(&["history", "check"]);
        }
        let is_packed =
            commands[0] == SHRINK && commands.last() != Some(&&["storage", "expand"][..]);
        assert_eq!(
            all.forms().len(),
            if is_packed { STATES.len() } else { 0 },
            "{case}"
        );
        let after = all.observe(&FolderSnapshot::take(&all.lab.home()));
        assert_eq!(
            (&after.lines, &after.times),
            (&before.lines, &before.times),
            "{case}"
        );
        if is_packed {
            let expected = [
                ("archive", STATES.to_vec()),
                // Codex forks these without decompressing them, or refuses.
                ("fork", vec!["archived", "fork", "legacy"]),
                // Codex refuses these.
                ("resume", vec!["archived", "subagent"]),
            ];
            assert_eq!(after.forms, expected, "{case}");
        }
    }
}
