//! Repairs of a home of the real Codex, with each kind of damage that users report.

use crate::support::env::assert_same_tree;
use crate::support::kinds::ConversationKinds;
use crate::support::lab::{Lab, conversation_rows, open, rollout, rows, write_legacy};
use crate::support::sample::is_in_wal_mode;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Returns the id and the name of each conversation that Codex lists from its database.
#[track_caller]
fn listed(lab: &Lab, home: &Path) -> Vec<(String, Option<String>)> {
    let params = json!({"sourceKinds": ["exec", "vscode", "cli"], "useStateDbOnly": true});
    let answer = lab
        .codex
        .app_server_request(home, &lab.backend, "thread/list", params)
        .expect("a list");
    let mut threads: Vec<_> = answer["data"]
        .as_array()
        .expect("threads")
        .iter()
        .map(|thread| {
            let text = |key: &str| thread[key].as_str().map(str::to_owned);
            (text("id").expect("an id"), text("name"))
        })
        .collect();
    threads.sort();
    threads
}

fn name(lab: &Lab, home: &Path, id: &str, name: &str) {
    let params = json!({"threadId": id, "name": name});
    lab.codex
        .app_server_request(home, &lab.backend, "thread/name/set", params)
        .expect("set the name");
}

fn append_name(home: &Path, id: &str, name: &str) {
    let line =
        json!({"id": id, "thread_name": name, "updated_at": "2026-01-01T00:00:00Z"}).to_string();
    let path = home.join("session_index.jsonl");
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, format!("{before}{line}\n")).unwrap();
}

/// A home with three conversations and the expected list. The second conversation has a name.
struct NamedHome {
    lab: Lab,
    ids: Vec<String>,
    expected: Vec<(String, Option<String>)>,
}

fn context() -> Option<NamedHome> {
    let lab = Lab::new()?;
    let home = lab.home();
    let ids: Vec<_> = ["first thing", "second thing", "third thing"]
        .iter()
        .map(|output| lab.say(output))
        .collect();
    name(&lab, &home, &ids[1], "the second");
    let expected = listed(&lab, &home);
    assert_eq!(expected.len(), 3);
    assert_eq!(expected[1].1.as_deref(), Some("the second"));
    let equal = lab.manager(["history", "check", "--json"]).code(0).json();
    assert_eq!(equal["listed"], 3);
    Some(NamedHome { lab, ids, expected })
}

/// Checks that `check` reports the damage, that `repair` corrects it, and that Codex lists and resumes
/// all conversations. Then checks that `undo` restores the damaged rows, and repairs them again.
#[track_caller]
fn assert_repaired(context: &NamedHome) {
    let NamedHome { lab, ids, expected } = context;
    let home = lab.home();
    let before = lab.world.tree("home/.codex");
    let rows_before = conversation_rows(&home);
    let found = lab.manager(["history", "check"]).code(5);
    assert_same_tree(&before, &lab.world.tree("home/.codex"));
    let _ = lab.manager(["history", "repair"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert!(is_in_wal_mode(&home.join("state_5.sqlite")));
    assert_eq!(&listed(lab, &home), expected, "{found}");
    let _ = lab.manager(["history", "undo"]).code(0);
    assert_eq!(conversation_rows(&home), rows_before);
    let _ = lab.manager(["history", "check"]).code(5);
    let _ = lab.manager(["history", "repair"]).code(0);
    assert_eq!(&listed(lab, &home), expected);
    for id in ids {
        let path = rollout(&home, id);
        let len = path.metadata().unwrap().len();
        lab.resume(&home, id, "and more");
        assert!(
            path.metadata().unwrap().len() > len,
            "resume continued another conversation"
        );
    }
    let resumed = lab.codex.run(
        &home,
        &lab.backend,
        &[
            "exec",
            "resume",
            "--all",
            "--skip-git-repo-check",
            "the second",
            "by name",
        ],
    );
    assert_eq!(resumed.expect_success().session_id(), Some(&*ids[1]));
    let _ = lab.manager(["history", "check"]).code(0);
}

fn remove_database(home: &Path) {
    for entry in fs::read_dir(home).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("state_") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_deleted_database_is_recreated_with_its_names() {
    let Some(context) = context() else { return };
    remove_database(&context.lab.home());
    assert_repaired(&context);
    let tmp = context.lab.world.manager_home().join("tmp");
    let left = fs::read_dir(tmp).unwrap().flatten();
    assert_eq!(left.filter(|e| e.file_name() != ".lock").count(), 0);
}

#[test]
fn a_garbage_database_is_recreated() {
    let Some(context) = context() else { return };
    remove_database(&context.lab.home());
    fs::write(context.lab.home().join("state_5.sqlite"), vec![7; 9000]).unwrap();
    assert_repaired(&context);
}

#[test]
fn conversations_of_a_moved_home_are_listed_again() {
    let Some(context) = context() else { return };
    let home = context.lab.home();
    let elsewhere = context.lab.world.path("elsewhere");
    fs::rename(&home, &elsewhere).unwrap();
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    fs::rename(&elsewhere, &home).unwrap();
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    database
        .execute_batch("UPDATE threads SET rollout_path='/old/.codex'||substr(rollout_path, instr(rollout_path, '/sessions/'))")
        .unwrap();
    database.close().unwrap();
    assert_repaired(&context);
}

#[test]
fn rows_that_a_repair_adds_equal_those_that_codex_creates() {
    let Some(context) = context() else { return };
    let home = context.lab.home();
    // Codex creates these rows from the rollouts.
    remove_database(&home);
    let _ = listed(&context.lab, &home);
    let all = |home: &Path| {
        let database = open(&home.join("state_5.sqlite"));
        let mut query = database
            .prepare("SELECT * FROM threads ORDER BY id")
            .unwrap();
        let columns: Vec<_> = query.column_names().map(|c| (*c).to_owned()).collect();
        let rows = query.query_map([], |row| {
            let cells = columns.iter().enumerate().map(|(i, column)| {
                Ok((
                    column.clone(),
                    format!("{:?}", row.get::<_, rusqlite::types::Value>(i)?),
                ))
            });
            cells.collect::<rusqlite::Result<Vec<_>>>()
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let by_codex = all(&home);
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    database.execute_batch("DELETE FROM threads").unwrap();
    database.close().unwrap();
    fs::remove_file(home.join("session_index.jsonl")).unwrap();
    let _ = context.lab.manager(["history", "repair"]).code(0);
    assert_eq!(all(&home), by_codex);
}

/// Returns the texts, kinds and parents of all conversations.
fn texts_and_parents(home: &Path) -> Vec<(Vec<String>, Value)> {
    let database = open(&home.join("state_5.sqlite"));
    let sql = "SELECT t.id, title, first_user_message, preview, coalesce(thread_source, ''), \
               coalesce(agent_path, ''), coalesce(attached_thread_parent_id, ''), \
               coalesce(e.parent_thread_id || ' ' || e.status, ''), source \
               FROM threads t LEFT JOIN thread_spawn_edges e ON e.child_thread_id = t.id ORDER BY t.id";
    let mut query = database.prepare(sql).unwrap();
    let rows = query.query_map([], |row| {
        let texts: rusqlite::Result<Vec<String>> = (0..8).map(|i| row.get(i)).collect();
        let source: String = row.get(8)?;
        // The order of the keys in a JSON object has no meaning.
        let source = serde_json::from_str(&source).unwrap_or(Value::String(source));
        Ok((texts?, source))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn added_rows_of_subagents_images_and_goals_equal_those_of_codex() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let kinds = ConversationKinds::create(&lab, &home);
    remove_database(&home);
    let _ = listed(&lab, &home);
    let by_codex = texts_and_parents(&home);

    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    database
        .execute_batch("DELETE FROM threads; DELETE FROM thread_spawn_edges")
        .unwrap();
    database.close().unwrap();
    let _ = lab.manager(["history", "repair"]).code(0);
    // Codex itself lists such a fork only until it creates its database again.
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    let preview: String = database
        .query_row(
            "SELECT preview FROM threads WHERE id=?1",
            [&kinds.fork],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(preview, "plain");
    database
        .execute("UPDATE threads SET preview='' WHERE id=?1", [&kinds.fork])
        .unwrap();
    database.close().unwrap();
    assert_eq!(texts_and_parents(&home), by_codex);
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn rows_without_a_first_message_are_found_and_repaired() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let kinds = ConversationKinds::create(&lab, &home);
    let expected = listed(&lab, &home);
    let before = texts_and_parents(&home);
    let _ = lab.manager(["history", "check"]).code(0);

    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    let sql = "UPDATE threads SET preview='', first_user_message='', title='' WHERE id IN (?1, ?2)";
    database.execute(sql, [&kinds.image, &kinds.goal]).unwrap();
    database.close().unwrap();
    assert_eq!(listed(&lab, &home).len(), expected.len() - 2);

    let found = lab.manager(["history", "check", "--json"]).code(5).json();
    assert_eq!(
        found["on_disk"].as_u64(),
        found["listed"].as_u64().map(|n| n + 2)
    );
    let rows = found["preview_missing"].as_array().unwrap();
    let mut previews: Vec<_> = rows
        .iter()
        .map(|row| (&row["id"], &row["preview"]))
        .collect();
    previews.sort_by_key(|(id, _)| id.as_str());
    let expected_previews = [
        (&json!(kinds.image), &json!("[Image]")),
        (&json!(kinds.goal), &json!("Make it fast\nand small")),
    ];
    assert_eq!(previews, expected_previews);

    let repaired = lab.manager(["history", "repair", "--json"]).code(0).json();
    assert_eq!(repaired["changed"][0]["action"], "preview");
    assert_eq!(listed(&lab, &home), expected);
    assert_eq!(texts_and_parents(&home), before);
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn conversations_copied_from_another_machine_are_listed() {
    let Some(context) = context() else { return };
    let home = context.lab.home();
    let other = context.lab.world.path("other");
    crate::support::sign_in::signed_in_home(
        &other,
        &context.lab.backend,
        &crate::support::sign_in::SignIn::alice(),
    );
    let id = context.lab.say_in(&other, "output elsewhere");
    let from = rollout(&other, &id);
    let to = home.join(from.strip_prefix(&other).unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    append_name(&home, &id, "from there");
    let mut context = context;
    context
        .expected
        .push((id.clone(), Some("from there".into())));
    context.expected.sort();
    context.ids.push(id);
    assert_repaired(&context);
}

#[test]
fn a_deleted_session_index_is_rebuilt_and_a_later_repair_takes_only_given_names_from_it() {
    let Some(context) = context() else { return };
    let (lab, home) = (&context.lab, context.lab.home());
    fs::remove_file(home.join("session_index.jsonl")).unwrap();
    let document = lab
        .manager(["history", "rebuild", "--json", "--yes"])
        .code(0)
        .json();
    assert_eq!(document["source"], "database");
    let index = fs::read_to_string(home.join("session_index.jsonl")).unwrap();
    let mut names: Vec<String> = index
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["thread_name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["first thing", "the second", "third thing"]);
    // The rebuilt lines are derived names: a repair must not restore them as given names.
    let _ = lab.manager(["history", "check"]).code(0);
    remove_database(&home);
    let _ = lab.manager(["history", "repair"]).code(0);
    assert_eq!(listed(lab, &home), context.expected);
    let resumed = lab.codex.run(
        &home,
        &lab.backend,
        &[
            "exec",
            "resume",
            "--all",
            "--skip-git-repo-check",
            "the second",
            "by name",
        ],
    );
    assert_eq!(
        resumed.expect_success().session_id(),
        Some(&*context.ids[1])
    );
}

#[test]
fn a_legacy_conversation_is_listed_with_its_name_after_a_repair_and_a_rebuild() {
    let Some(context) = context() else { return };
    let (lab, home) = (&context.lab, context.lab.home());
    let id = "0199a213-81c0-7800-8aa1-bbab2a035a53";
    let day = home.join("sessions/2025/10/01");
    fs::create_dir_all(&day).unwrap();
    let lines = [
        format!("{{\"timestamp\":\"2025-10-01T10:00:00.000Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"timestamp\":\"2025-10-01T10:00:00.000Z\",\"cwd\":\"/tmp\",\"originator\":\"codex_cli_rs\",\"cli_version\":\"0.42.0\",\"instructions\":null}}}}"),
        "{\"timestamp\":\"2025-10-01T10:00:02.000Z\",\"type\":\"response_item\",\"payload\":{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"old hello\"}]}}".to_owned(),
        "{\"timestamp\":\"2025-10-01T10:00:02.000Z\",\"type\":\"event_msg\",\"payload\":{\"type\":\"user_message\",\"message\":\"old hello\",\"kind\":\"plain\"}}".to_owned(),
    ];
    let rollout = day.join(format!("rollout-2025-10-01T10-00-00-{id}.jsonl"));
    fs::write(&rollout, lines.map(|line| line + "\n").concat()).unwrap();
    append_name(&home, id, "old name");
    let _ = lab.manager(["history", "check"]).code(5);
    let _ = lab.manager(["history", "repair"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    let mut expected = context.expected.clone();
    expected.push((id.into(), Some("old name".into())));
    expected.sort();
    assert_eq!(listed(lab, &home), expected);
    // A rebuild keeps the name.
    let _ = lab.manager(["history", "rebuild", "--yes"]).code(0);
    assert_eq!(listed(lab, &home), expected);
}

#[test]
fn resume_prefers_a_given_name_over_an_equal_derived_title() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let named = lab.say("mend the build");
    name(&lab, &home, &named, "release");
    // A later conversation whose first line is that name, followed by more text.
    let other = lab.say("release\nthe kraken");
    let document = lab
        .manager(["history", "rebuild", "--json", "--yes"])
        .code(0)
        .json();
    assert_eq!(
        document["titles_taken"], 0,
        "the title has more than the first line"
    );
    assert_eq!(rows(&home).len(), 2);
    let resumed = lab.codex.run(
        &home,
        &lab.backend,
        &[
            "exec",
            "resume",
            "--all",
            "--skip-git-repo-check",
            "release",
            "on",
        ],
    );
    assert_eq!(resumed.expect_success().session_id(), Some(&*named));
    // Without a database the title is the first line, which must not compete with the given name.
    remove_database(&home);
    let document = lab
        .manager(["history", "rebuild", "--json", "--yes"])
        .code(0)
        .json();
    assert_eq!(document["source"], "rollouts");
    let _ = lab.manager(["history", "repair"]).code(0);
    let index = fs::read_to_string(home.join("session_index.jsonl")).unwrap();
    assert_eq!(index.matches("\"release\"").count(), 1, "{index}");
    let resumed = lab.codex.run(
        &home,
        &lab.backend,
        &[
            "exec",
            "resume",
            "--all",
            "--skip-git-repo-check",
            "release",
            "on",
        ],
    );
    assert_eq!(resumed.expect_success().session_id(), Some(&*named));
    assert_ne!(named, other);
}

#[test]
fn a_compressed_conversation_is_repaired_and_resumed() {
    let Some(context) = context() else { return };
    let home = context.lab.home();
    let path = rollout(&home, &context.ids[0]);
    let bytes = fs::read(&path).unwrap();
    let zst = zstd::encode_all(&bytes[..], 1).unwrap();
    fs::write(format!("{}.zst", path.display()), zst).unwrap();
    fs::remove_file(&path).unwrap();
    let equal = context.lab.manager(["history", "check"]);
    assert_eq!(equal.code, 0, "{equal}");
    remove_database(&home);
    let _ = context.lab.manager(["history", "repair"]).code(0);
    let _ = context.lab.manager(["history", "check"]).code(0);
    context.lab.resume(&home, &context.ids[0], "and on");
    assert!(path.exists());
}

#[test]
fn a_lost_conversation_is_restored_with_row_and_name_and_a_second_restore_keeps_the_live_name() {
    let Some(context) = context() else { return };
    let NamedHome { lab, ids, expected } = &context;
    let home = lab.home();
    let _ = lab.back_up();
    lab.resume(&home, &ids[0], "output after the backup");
    name(lab, &home, &ids[2], "named after the backup");
    let database = home.join("state_5.sqlite");
    let connection = rusqlite::Connection::open(&database).unwrap();
    let _ = connection
        .execute("DELETE FROM threads WHERE id=?1", [&ids[1]])
        .unwrap();
    connection.close().unwrap();
    fs::remove_file(rollout(&home, &ids[1])).unwrap();
    fs::remove_file(home.join("session_index.jsonl")).unwrap();
    let mut expected = expected.clone();
    expected[2].1 = Some("named after the backup".into());
    let others: Vec<_> = [&expected[0], &expected[2]].map(Clone::clone).into();
    assert_eq!(listed(lab, &home), others);
    let first = fs::read(rollout(&home, &ids[0])).unwrap();

    let _ = lab
        .manager(["restore", "latest", "--session", "the second"])
        .code(0);
    assert_eq!(listed(lab, &home), expected);
    assert_eq!(fs::read(rollout(&home, &ids[0])).unwrap(), first);
    let index = fs::read_to_string(home.join("session_index.jsonl")).unwrap();
    assert_eq!(index.lines().count(), 1, "{index}");
    assert!(index.contains("the second"), "{index}");
    lab.resume(&home, &ids[1], "and on");
    let _ = lab.manager(["history", "check"]).code(0);

    // Restored again: the existing row and name stay.
    name(lab, &home, &ids[1], "renamed");
    let _ = lab
        .manager(["restore", "latest", "--session", &ids[1]])
        .code(0);
    expected[1].1 = Some("renamed".into());
    assert_eq!(listed(lab, &home), expected);
}

/// Adds rows beside the table of threads: a project and tools of `child`, which `parent` started.
fn add_data(home: &Path, child: &str, parent: &str) {
    let sql = format!(
        "INSERT INTO projects(id, name, position, created_at_ms, updated_at_ms) VALUES('p', 'a project', 0, 1, 1);
         INSERT INTO project_roots VALUES('p', 0, '/work');
         UPDATE threads SET project_id='p' WHERE id='{child}';
         INSERT INTO thread_dynamic_tools(thread_id, position, name, description, input_schema)
         VALUES('{child}', 0, 'a tool', '', '{{}}'), ('{parent}', 0, 'another tool', '', '{{}}');
         INSERT INTO thread_spawn_edges VALUES('{parent}', '{child}', 'closed');"
    );
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    database.execute_batch(&sql).unwrap();
}

fn data_rows(home: &Path) -> Vec<String> {
    let database = open(&home.join("state_5.sqlite"));
    let queries = [
        "SELECT id || name FROM projects",
        "SELECT project_id || path FROM project_roots",
        "SELECT thread_id || name FROM thread_dynamic_tools ORDER BY 1",
        "SELECT parent_thread_id || child_thread_id || status FROM thread_spawn_edges",
        "SELECT id || project_id FROM threads WHERE project_id IS NOT NULL",
    ];
    let texts = queries.iter().flat_map(|query| {
        let mut statement = database.prepare(query).unwrap();
        let texts = statement.query_map([], |row| row.get(0)).unwrap();
        texts.collect::<Result<Vec<String>, _>>().unwrap()
    });
    texts.collect()
}

#[test]
fn an_undo_keeps_conversations_that_began_or_changed_after_the_repair_in_the_list() {
    let Some(NamedHome { lab, ids, .. }) = context() else {
        return;
    };
    let home = lab.home();
    rusqlite::Connection::open(home.join("state_5.sqlite"))
        .unwrap()
        .execute("DELETE FROM threads WHERE id=?1", [&ids[0]])
        .unwrap();
    let damaged = listed(&lab, &home);
    let _ = lab.manager(["history", "repair"]).code(0);

    let later = lab.say("made after the repair");
    name(&lab, &home, &later, "a later one");
    lab.resume(&home, &ids[2], "continued after the repair");
    name(&lab, &home, &ids[2], "renamed after the repair");
    let mut expected = damaged;
    expected[1].1 = Some("renamed after the repair".to_owned());
    expected.push((later.clone(), Some("a later one".to_owned())));
    expected.sort();
    add_data(&home, &later, &ids[2]);
    let data = data_rows(&home);

    let before = lab.world.tree("home/.codex");
    let planned = lab.manager(["history", "undo", "--dry-run"]).code(0);
    let kept = "would be kept in Codex's list: 2 conversations that began or changed later";
    assert!(planned.stdout.contains(kept), "{planned}");
    assert_same_tree(&before, &lab.world.tree("home/.codex"));

    // Without a folder for temporary files, the conversations to keep cannot be found.
    let mut undo = lab.world.command(["history", "undo"]);
    let refused = undo.env("TMPDIR", home.join("missing")).output();
    assert!(!refused.expect("undo").status.success());
    assert_same_tree(&before, &lab.world.tree("home/.codex"));

    let undone = lab.manager(["history", "undo", "--json"]).code(0).json();
    assert_eq!(undone["still_listed"], json!([later, ids[2]]));
    assert_eq!(listed(&lab, &home), expected);
    assert_eq!(data_rows(&home), data);
    lab.resume(&home, &later, "and more");
    let messages = lab.user_messages(&home, &later);
    assert_eq!(messages, ["made after the repair", "and more"]);
}

#[test]
fn a_merge_keeps_projects_and_tools_of_conversations_newer_than_the_archive() {
    let Some(NamedHome { lab, ids, .. }) = context() else {
        return;
    };
    let home = lab.home();
    let _ = lab.back_up();
    let later = lab.say("made after the backup");
    lab.resume(&home, &ids[2], "continued after the backup");
    add_data(&home, &later, &ids[2]);
    let data = data_rows(&home);
    let _ = lab
        .manager(["restore", "latest", "--merge", "--yes"])
        .code(0);
    assert_eq!(data_rows(&home), data);
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn codex_lists_conversations_of_an_ide_by_their_requests_after_a_rebuild() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let request = |n: u32| format!("request {n} of the user");
    for n in 0..50 {
        let form = match n % 3 {
            0 => {
                "# Context from my IDE setup:\n\n## Active file: src/a.ts\n\n## My request for Codex:\n"
            }
            1 => "\n# Files mentioned by the user:\n\n## a.md: /w/a.md\n\n## My request:\n",
            _ => "## My request for Codex:\n",
        };
        let id = format!("01a10000-0000-7000-8000-{n:012}");
        let path = write_legacy(&home, &id, &format!("{form}{}", request(n)), "");
        // Codex's list leaves out the conversations of `exec`.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("\"exec\"", "\"vscode\"")).unwrap();
    }
    let names = || {
        let params = json!({"limit": 100, "sourceKinds": ["vscode"]});
        let answer = lab
            .codex
            .app_server_request(&home, &lab.backend, "thread/list", params);
        let answer = answer.expect("a list");
        let threads = answer["data"].as_array().expect("threads").iter();
        let names = threads.map(|thread| thread["name"].as_str().or(thread["preview"].as_str()));
        let mut names: Vec<_> = names
            .map(|name| name.unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names().len(), 50);
    let _ = lab
        .manager(["history", "rebuild", "--max-threads", "0", "--yes"])
        .code(0);
    let mut expected: Vec<_> = (0..50).map(request).collect();
    expected.sort();
    assert_eq!(names(), expected);
}
