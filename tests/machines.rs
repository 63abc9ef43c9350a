//! `--machines`: conversations that other machines published in the vault.

use crate::support::conversations::{Conversation, assistant, id, user, write};
use crate::support::env::{Run, TestEnv};
use crate::support::restic::{self, PASSWORD, RestServer, S3_KEYS, S3Server};
use crate::support::sample::set_time;
use crate::support::usage_lines::{at, count};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Machines that sync with one vault. Each is an environment of its own; the files are in that of the first.
struct Fleet {
    vault: String,
    machines: Vec<TestEnv>,
}

impl Fleet {
    fn new(names: &[&str]) -> Option<Self> {
        restic::program()?;
        let mut fleet = Self {
            vault: String::new(),
            machines: names.iter().map(|_| TestEnv::new()).collect(),
        };
        let vault = fleet.machines[0].path("vault");
        restic::new_repository(&vault);
        fleet.vault = vault.display().to_string();
        fleet.configure(names);
        Some(fleet)
    }

    fn configure(&mut self, names: &[&str]) {
        for (env, name) in self.machines.iter_mut().zip(names) {
            env.set("RESTIC_PASSWORD", PASSWORD);
            env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
            fs::create_dir_all(env.codex_home()).unwrap();
            let _ = env.run(["vault", "init", &self.vault]).code(0);
            let _ = env.run(["sync", "init", "--vault"]).code(0);
            let config = env.manager_home().join("sync.toml");
            let text = fs::read_to_string(&config).unwrap();
            let lines = text.lines().map(|line| {
                if line.starts_with("machine_id") {
                    format!("machine_id = \"{name}\"")
                } else {
                    line.to_owned()
                }
            });
            fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
        }
    }

    fn sync(&self, machine: usize) {
        let _ = self.machines[machine]
            .run(["sync", "run", "--apply"])
            .code(0);
    }

    fn run(&self, args: &[&str]) -> Run {
        self.machines[0].run(args)
    }

    fn find(&self, words: &str) -> Vec<(String, Option<String>)> {
        let run = self.run(&["find", "--machines", "--json", words]);
        assert!([0, 5].contains(&run.code), "{run}");
        rows(&run.json()["hits"], "session_id")
    }

    fn sessions(&self) -> Vec<(String, Option<String>)> {
        let run = self.run(&["sessions", "--machines", "--json"]).code(0);
        rows(&run.json()["sessions"], "id")
    }

    /// Returns the fetched rollouts.
    fn fetched(&self) -> Vec<PathBuf> {
        let folder = self.machines[0].manager_home().join("sync/machines");
        let files = walkdir::WalkDir::new(folder).into_iter().flatten();
        let files = files.filter(|file| file.path().to_string_lossy().contains("rollout-"));
        files.map(walkdir::DirEntry::into_path).collect()
    }
}

/// Returns the ids and the machines of rows, in order of the ids.
fn rows(rows: &Value, id: &str) -> Vec<(String, Option<String>)> {
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        (text(id).unwrap(), text("machine"))
    };
    let mut all: Vec<_> = rows.as_array().unwrap().iter().map(row).collect();
    all.sort();
    all
}

/// Writes a conversation with an old time, as one that Codex has left.
fn put(env: &TestEnv, conversation: &Conversation) {
    put_with_tokens(env, conversation, &[], 1_790_000_000);
}

/// Writes a conversation with the tokens of its requests, and the time of its last change.
fn put_with_tokens(env: &TestEnv, conversation: &Conversation, requests: &[u64], secs: u64) {
    let path = write(env, conversation);
    let mut text = fs::read_to_string(&path).unwrap();
    let mut total = 0;
    for used in requests {
        total += used;
        let [total, used] = [total, *used].map(|tokens| [tokens, 0, 0, 0]);
        text += &count(at(19 * 60), total, used, None);
        text += "\n";
    }
    fs::write(&path, text).unwrap();
    set_time(&path, secs, conversation.number);
}

#[test]
fn a_conversation_of_a_machine_that_is_off_is_found_shown_exported_and_synced() {
    let Some(fleet) = Fleet::new(&["desk", "laptop"]) else {
        return;
    };
    put(
        &fleet.machines[0],
        &Conversation::new(1, 60, "About the parser", "It borrows twice."),
    );
    put(
        &fleet.machines[1],
        &Conversation::new(2, 50, "About the lexer", "It borrows once."),
    );
    fleet.sync(1);
    assert_eq!(
        fleet.find("borrows"),
        [(id(1), None), (id(2), Some("laptop".to_owned()))]
    );
    assert_eq!(
        fleet.sessions(),
        [(id(1), None), (id(2), Some("laptop".to_owned()))]
    );
    let text = fleet.run(&["find", "--machines", "lexer"]).code(0).stdout;
    assert!(text.contains("on laptop"), "{text}");
    let text = fleet.run(&["sessions", "--machines"]).code(0).stdout;
    assert!(text.contains("on laptop"), "{text}");
    // Without the vault, what was fetched stays readable.
    let shown = fleet.run(&["show", &id(2)]).code(0);
    assert!(shown.stdout.contains("It borrows once."), "{shown}");
    assert!(shown.stderr.contains("as laptop published it"), "{shown}");
    let exported = fleet
        .run(&["export", &id(2), "--format", "html"])
        .code(0)
        .stdout;
    assert!(exported.contains("It borrows once."), "{exported}");
    assert_eq!(fleet.find("nothing"), []);
    let without = fleet.run(&["find", "--json", "lexer"]).code(5).json();
    assert_eq!(without["hits"], json!([]));
    fleet.sync(0);
    assert!(
        fleet.machines[0]
            .codex_home()
            .join(Conversation::new(2, 0, "", "").relative())
            .exists()
    );
    // It is here now: nothing of it is fetched any more.
    fleet.sync(1);
    assert_eq!(fleet.find("borrows"), [(id(1), None), (id(2), None)]);
    assert_eq!(fleet.fetched(), Vec::<PathBuf>::new());
}

#[test]
fn a_conversation_that_another_machine_continued_is_found_as_it_is_on_that_machine() {
    let Some(fleet) = Fleet::new(&["desk", "laptop", "server"]) else {
        return;
    };
    let mut conversation = Conversation::new(1, 60, "About the parser", "It borrows twice.");
    put_with_tokens(&fleet.machines[0], &conversation, &[100], 1_790_000_000);
    fleet.sync(0);
    fleet.sync(1);
    let there = &fleet.machines[1];
    // The server has an earlier version than the laptop.
    conversation.lines.push(user("Wait."));
    conversation.updated_ms += 60_000;
    put_with_tokens(there, &conversation, &[100], 1_795_000_000);
    fleet.sync(1);
    fleet.sync(2);
    let more = [user("And now?"), assistant("A zebra.")];
    conversation.lines.extend(more);
    conversation.updated_ms += 60_000;
    put_with_tokens(there, &conversation, &[100, 150], 1_795_176_000);
    fleet.sync(1);
    assert_eq!(fleet.find("zebra"), [(id(1), Some("laptop".to_owned()))]);
    assert_eq!(
        fleet.find("borrows"),
        [(id(1), None)],
        "this machine's state comes first"
    );
    let run = fleet.run(&["find", "--machines", "zebra"]).code(0);
    let root = fleet.machines[0].path("").display().to_string();
    let command = run.stdout.lines().last().unwrap().trim();
    let command = command.replace("[ROOT]", root.trim_end_matches('/'));
    let words: Vec<_> = command.split(' ').skip(1).collect();
    let shown = fleet.run(&words);
    assert!(shown.stdout.contains("A zebra."), "{command} {shown}");
    let sessions = fleet
        .run(&["sessions", "--machines", "--json"])
        .code(0)
        .json();
    assert_eq!(sessions["sessions"][0]["newer_on"], "laptop", "{sessions}");
    assert_eq!(fleet.sessions(), [(id(1), None)]);
    let total = |args: &[&str]| fleet.run(args).code(0).json()["totals"]["total_tokens"].clone();
    assert_eq!(total(&["usage", "--json"]), 100);
    assert_eq!(
        total(&["usage", "--machines", "--json"]),
        250,
        "the conversation counts once"
    );

    let newer = Conversation::new(2, 10, "About borrowing", "It borrows again.");
    put(&fleet.machines[0], &newer);
    let total = |limit: &str| {
        let args = [
            "find",
            "--machines",
            "borrows",
            "--sort",
            "newest",
            "--json",
        ];
        let run = fleet.run(&[&args[..], &["--limit", limit]].concat());
        run.code(0).json()["total"].clone()
    };
    assert_eq!(total("2"), 2, "the conversation counts once");
    assert_eq!(total("1"), Value::Null, "the other version is not compared");
}

#[test]
fn usage_has_a_row_for_each_machine_and_counts_a_conversation_once() {
    let Some(fleet) = Fleet::new(&["desk", "laptop", "server"]) else {
        return;
    };
    for (number, machine) in [(1, 0), (2, 1), (3, 2), (4, 2)] {
        let conversation = Conversation::new(number, 60, "Count", "Yes.");
        let used = [10 * u64::from(number)];
        put_with_tokens(
            &fleet.machines[machine],
            &conversation,
            &used,
            1_790_000_000,
        );
        if number == 4 {
            // The same conversation is on two other machines.
            put_with_tokens(&fleet.machines[1], &conversation, &used, 1_790_000_000);
        }
    }
    fleet.sync(1);
    fleet.sync(2);
    let usage = fleet.run(&["usage", "machines", "--json"]).code(0).json();
    let rows = usage["rows"].as_array().unwrap().iter();
    let rows: Vec<_> = rows
        .map(|row| (row["key"].as_str().unwrap(), &row["total_tokens"]))
        .collect();
    assert_eq!(usage["totals"]["total_tokens"], 100, "{usage}");
    // The server has joined what the laptop published.
    assert_eq!(rows, [("server", &json!(90)), ("desk", &json!(10))]);
    let text = fleet.run(&["usage", "machines"]).code(0).stdout;
    assert!(text.contains("MACHINE"), "{text}");
    let sessions = fleet
        .run(&["usage", "sessions", "--machines", "--json"])
        .code(0)
        .json();
    assert_eq!(sessions["rows"].as_array().unwrap().len(), 4, "{sessions}");
}

#[test]
fn only_changed_rollouts_are_fetched_again_and_deleted_ones_are_removed() {
    let Some(fleet) = Fleet::new(&["desk", "laptop"]) else {
        return;
    };
    for number in 1..4 {
        put(
            &fleet.machines[1],
            &Conversation::new(number, 60, "About trees", "An oak."),
        );
    }
    fleet.sync(1);
    assert_eq!(fleet.find("oak").len(), 3);
    let stamp = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        let meta = path.metadata().unwrap();
        (path.to_owned(), meta.ino())
    };
    let stamps = || {
        fleet
            .fetched()
            .iter()
            .map(|path| stamp(path))
            .collect::<Vec<_>>()
    };
    let before = stamps();
    assert_eq!(before.len(), 3);
    // Nothing new: nothing is written.
    assert_eq!(fleet.find("oak").len(), 3);
    assert_eq!(stamps(), before);
    let changed = Conversation::new(2, 10, "About trees", "A birch.");
    let path = write(&fleet.machines[1], &changed);
    set_time(&path, 1_795_176_000, 5);
    let gone = Conversation::new(3, 0, "", "").relative();
    fs::remove_file(fleet.machines[1].codex_home().join(&gone)).unwrap();
    let config = fleet.machines[1].manager_home().join("sync.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("delete_policy = \"never\"", "delete_policy = \"propagate\"");
    fs::write(&config, text).unwrap();
    let _ = fleet.machines[1].run(["sync", "run", "--apply"]);
    assert_eq!(fleet.find("birch"), [(id(2), Some("laptop".to_owned()))]);
    let after = stamps();
    assert!(
        after
            .iter()
            .all(|(path, _)| !path.ends_with(gone.file_name().unwrap())),
        "{after:?}"
    );
    let kept = after.iter().filter(|one| before.contains(one)).count();
    assert_eq!((after.len(), kept), (2, 1), "{before:?} {after:?}");
    let status = fleet.run(&["sessions", "index", "--json"]).code(0).json();
    assert_eq!(status["machines"][0]["machine"], "laptop");
    assert!(
        status["machines"][0]["rollout_bytes"].as_u64().unwrap() > 0,
        "{status}"
    );
    let _ = fleet.run(&["sessions", "index", "--remove"]).code(0);
    assert_eq!(fleet.fetched(), Vec::<PathBuf>::new());
    assert_eq!(fleet.find("birch").len(), 1, "it is fetched again");
}

#[test]
fn machines_are_shown_as_last_fetched_if_the_vault_cannot_be_reached() {
    let Some(fleet) = Fleet::new(&["desk", "laptop"]) else {
        return;
    };
    let run = fleet.run(&["sessions", "--machines"]).code(0);
    assert!(run.stderr.contains("no other machine has synced"), "{run}");
    put(
        &fleet.machines[1],
        &Conversation::new(2, 50, "About the lexer", "It borrows once."),
    );
    fleet.sync(1);
    let away = fleet.machines[0].path("away");
    fs::rename(&fleet.vault, &away).unwrap();
    let run = fleet.run(&["find", "--machines", "borrows"]).code(1);
    assert!(run.stderr.contains("no repository"), "{run}");
    fs::rename(&away, &fleet.vault).unwrap();
    assert_eq!(fleet.find("borrows").len(), 1);
    fs::rename(&fleet.vault, &away).unwrap();
    let run = fleet
        .run(&["find", "--machines", "--json", "borrows"])
        .code(6);
    assert_eq!(
        rows(&run.json()["hits"], "session_id"),
        [(id(2), Some("laptop".to_owned()))]
    );
    assert!(run.stderr.contains("shown as last fetched"), "{run}");
}

#[test]
fn usage_names_each_machine_whose_index_cannot_be_updated() {
    let Some(fleet) = Fleet::new(&["desk", "laptop"]) else {
        return;
    };
    let conversation = Conversation::new(1, 60, "About the parser", "It borrows twice.");
    put_with_tokens(&fleet.machines[1], &conversation, &[100], 1_790_000_000);
    fleet.sync(1);
    let usage = ["usage", "--machines", "--json"];
    let run = fleet.run(&usage).code(0);
    assert!(!run.stderr.contains("out of date"), "{run}");
    // A folder in the place of a lock prevents an update of the index.
    let folder = fleet.machines[0].manager_home().join("index");
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".lock") {
            fs::remove_file(entry.path()).unwrap();
            fs::create_dir(entry.path()).unwrap();
        }
    }
    let run = fleet.run(&usage).code(0);
    assert_eq!(run.json()["totals"]["total_tokens"], 100);
    for figures in ["the figures", "the figures of laptop"] {
        let warning = format!("{figures} may be out of date: ");
        assert!(run.stderr.contains(&warning), "{run}");
    }
}

#[test]
fn backups_and_snapshots_of_sync_never_drop_each_other() {
    let Some(fleet) = Fleet::new(&["desk", "laptop"]) else {
        return;
    };
    put(
        &fleet.machines[0],
        &Conversation::new(1, 60, "About the parser", "It borrows twice."),
    );
    put(
        &fleet.machines[1],
        &Conversation::new(2, 50, "About the lexer", "It borrows once."),
    );
    let backup = fleet.run(&["vault", "backup", "--json"]).code(0).json();
    fleet.sync(1);
    fleet.sync(0);
    let listed = fleet.run(&["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
    let latest = fleet
        .run(&["vault", "restore", "latest", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(latest["archive"], backup["snapshot"].as_str().unwrap()[..8]);
    let _ = fleet.run(&["vault", "drill"]).code(0);
    let _ = fleet
        .run(&["vault", "forget", "--keep-last", "1", "--yes"])
        .code(0);
    assert_eq!(fleet.find("borrows").len(), 2);
    let _ = fleet.run(&["sync", "forget", "--yes"]);
    let listed = fleet.run(&["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn an_append_only_repository_accepts_snapshots_and_the_output_explains_the_removal_of_old_ones() {
    let folder = TestEnv::new();
    restic::new_repository(&folder.path("vault"));
    let Some(server) = RestServer::start(&folder.path("vault"), true) else {
        return;
    };
    let mut fleet = Fleet {
        vault: server.url(),
        machines: vec![TestEnv::new(), TestEnv::new()],
    };
    fleet.configure(&["desk", "laptop"]);
    let laptop = &fleet.machines[1];
    let config = laptop.manager_home().join("sync.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("keep_snapshots = 10", "keep_snapshots = 1"),
    )
    .unwrap();
    let mut notes = String::new();
    for number in 1..4 {
        put(
            laptop,
            &Conversation::new(number, 50, "About the lexer", "It borrows once."),
        );
        notes += &laptop.run(["sync", "run", "--apply"]).code(0).stderr;
    }
    assert!(
        notes.contains("the repository only accepts new ones"),
        "{notes}"
    );
    assert_eq!(fleet.find("borrows").len(), 3);
    let refused = fleet.machines[1]
        .run(["sync", "forget", "--yes", "--json"])
        .code(1);
    let refusal = "allows no deletions";
    assert!(refused.stderr.contains(refusal), "{refused}");
    assert_eq!(refused.stdout, "", "nothing was removed");
    // restic does not know the time of the test.
    fleet.machines[0].unset("CODEX_MANAGER_NOW");
    let _ = fleet.run(&["vault", "backup"]).code(0);
    let _ = fleet.run(&["vault", "backup", "--label", "second"]).code(0);
    let forget = ["vault", "forget", "--keep-last", "1", "--yes"];
    let run = fleet.run(&forget).code(1);
    assert!(
        run.stderr
            .contains("the storage of the vault allows no deletions"),
        "{run}"
    );
    // On the server, which may remove them.
    let direct = folder.path("vault").display().to_string();
    let words = [&forget[..], &["--repo", &direct]].concat();
    let _ = fleet.run(&words).code(0);
}

#[test]
fn machines_are_found_over_s3() {
    let env = TestEnv::new();
    let Some(server) = S3Server::start(&env.path("s3")) else {
        return;
    };
    restic::new_repository(&server.folder.join("bucket/vault"));
    let mut fleet = Fleet {
        vault: server.url("bucket"),
        machines: vec![TestEnv::new(), TestEnv::new()],
    };
    for env in &mut fleet.machines {
        env.set("AWS_ACCESS_KEY_ID", S3_KEYS.0);
        env.set("AWS_SECRET_ACCESS_KEY", S3_KEYS.1);
    }
    fleet.configure(&["desk", "laptop"]);
    put(
        &fleet.machines[1],
        &Conversation::new(2, 50, "About the lexer", "It borrows once."),
    );
    fleet.sync(1);
    assert_eq!(fleet.find("borrows"), [(id(2), Some("laptop".to_owned()))]);
}
