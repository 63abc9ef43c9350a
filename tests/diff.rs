//! `diff`: what the home lost or gained since an archive.

use crate::support::conversations::{Conversation, assistant, id, user, write};
use crate::support::env::{TestEnv, assert_same_tree};
use serde_json::{Value, json};
use std::fs;

fn conversation(number: u32, title: &str) -> Conversation {
    let mut conversation = Conversation::new(number, 60, title, "It fails.");
    conversation
        .lines
        .extend([user("Why?"), assistant("A semicolon.")]);
    conversation
}

fn put(env: &TestEnv, path: &str, text: &str) {
    let path = env.codex_home().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Creates a home with an archive, which then changes in each way.
fn changed_home() -> TestEnv {
    let mut env = TestEnv::new();
    for (number, title) in [(1, "kept"), (2, "cut"), (3, "grown"), (4, "deleted")] {
        write(&env, &conversation(number, title));
    }
    put(
        &env,
        "config.toml",
        "model = 'a'\n[tui]\ntheme = 'x'\n[mcp_servers.docs]\ncommand = 'old'\n",
    );
    put(&env, "skills/review/SKILL.md", "one");
    put(&env, "skills/old/SKILL.md", "one");
    put(&env, "prompts/plan.md", "one");
    put(&env, "AGENTS.md", "one");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T11:00:00Z");
    let _ = env.run(["backup", "--no-status"]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let mut cut = conversation(2, "cut");
    cut.lines.pop();
    write(&env, &cut);
    let mut grown = conversation(3, "grown");
    grown.lines.extend([user("Thanks."), assistant("Gladly.")]);
    write(&env, &grown);
    let _ = fs::remove_file(env.codex_home().join(conversation(4, "deleted").relative()));
    write(&env, &conversation(5, "new"));
    put(
        &env,
        "config.toml",
        "model = 'b'\n[mcp_servers.docs]\ncommand = 'sk-secret'\n[mcp_servers.web]\nurl = 'u'\n",
    );
    put(&env, "skills/review/more.md", "two");
    fs::remove_dir_all(env.codex_home().join("skills/old")).unwrap();
    put(&env, "prompts/plan.md", "two");
    env
}

#[test]
fn invalid_settings_are_reported_and_not_listed_as_removed() {
    let env = changed_home();
    put(&env, "config.toml", "model = 'b'\nmodel = = 'c'\n");
    let run = env.run(["diff", "--json"]).code(6);
    let warning = "the settings are not compared: cannot parse";
    assert!(run.stderr.contains(warning), "{run}");
    let document = run.json();
    let content = document["content"].as_array().unwrap();
    assert!(content.iter().any(|row| row["kind"] == "skill"), "{run}");
    let is_setting = |row: &Value| row["kind"] == "setting" || row["kind"] == "mcp-server";
    assert!(!content.iter().any(is_setting), "{run}");
}

#[test]
fn a_diff_without_the_settings_does_not_report_that_nothing_changed() {
    let env = TestEnv::new();
    write(&env, &conversation(1, "kept"));
    put(&env, "config.toml", "model = 'a'\n");
    let _ = env.run(["backup", "--no-status"]).code(0);
    put(&env, "config.toml", "model = = 'a'\n");
    let run = env.run(["diff"]).code(6);
    let text = "nothing else changed since ";
    assert!(run.stdout.starts_with(text), "{run}");
}

#[test]
fn every_kind_of_change_is_named_once() {
    let env = changed_home();
    let before = env.tree("home");
    let run = env.run(["diff", "--json"]).code(0);
    assert_same_tree(&before, &env.tree("home"));
    assert!(!run.stdout.contains("sk-secret"), "{run}");
    let document = run.json();
    let rows: Vec<Value> = document["conversations"].as_array().unwrap().clone();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([
                row["session_id"],
                row["change"],
                row["messages_gained"],
                row["messages_lost"]
            ])
        })
        .collect();
    let expected = [
        json!([id(2), "changed", 0, 1]),
        json!([id(4), "removed", 0, 4]),
        json!([id(3), "changed", 2, 0]),
        json!([id(5), "added", 4, 0]),
    ];
    assert_eq!(rows, expected);
    let rows = document["content"].as_array().unwrap().iter();
    let rows: Vec<_> = rows
        .map(|row| json!([row["kind"], row["name"], row["change"]]))
        .collect();
    let expected = [
        json!(["setting", "model", "changed"]),
        json!(["setting", "tui.theme", "removed"]),
        json!(["mcp-server", "docs", "changed"]),
        json!(["mcp-server", "web", "added"]),
        json!(["skill", "old", "removed"]),
        json!(["skill", "review", "changed"]),
        json!(["prompt", "plan.md", "changed"]),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_compressed_and_archived_conversation_is_unchanged_in_a_diff() {
    let env = TestEnv::new();
    write(&env, &conversation(1, "kept"));
    let _ = env.run(["backup", "--no-status"]).code(0);
    let path = env.codex_home().join(conversation(1, "kept").relative());
    let text = fs::read(&path).unwrap();
    let archived = env.codex_home().join("archived_sessions");
    fs::create_dir_all(&archived).unwrap();
    let name = format!("{}.zst", path.file_name().unwrap().to_string_lossy());
    fs::write(archived.join(name), zstd::encode_all(&text[..], 1).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    let run = env.run(["diff", "latest"]).code(0);
    assert!(
        run.stdout.starts_with("nothing changed since 2026-11-20"),
        "{run}"
    );
    let missing = env.run(["diff", "latest~4"]).code(1);
    assert!(missing.stderr.contains("there is only 1"), "{missing}");
}

#[test]
fn the_table_names_conversations_and_content() {
    let env = changed_home();
    let run = env.run(["diff"]).code(0);
    for text in [
        "CONVERSATION",
        "removed",
        "MCP server",
        "1 conversation removed, 1 conversation added, 2 conversations changed, 6 messages gained, 5 messages lost\n",
    ] {
        assert!(run.stdout.contains(text), "{text}: {run}");
    }
    assert!(run.stdout.starts_with("since "), "{run}");
}

#[test]
fn a_conversation_that_only_the_archive_has_is_shown_with_its_title() {
    let env = TestEnv::new();
    write(&env, &conversation(1, "how to deploy"));
    let _ = env.run(["backup", "--no-status"]).code(0);
    fs::remove_dir_all(env.codex_home()).unwrap();
    write(&env, &conversation(2, "hello two"));
    let run = env.run(["diff"]).code(0);
    for row in [
        "CHANGE   TITLE ",
        "removed  how to deploy ",
        "added    hello two ",
    ] {
        assert!(
            run.stdout.lines().any(|line| line.starts_with(row)),
            "{row}: {run}"
        );
    }
}
