//! `sessions`: the list of conversations.

use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::TestEnv;
use crate::support::memory::run_measuring_memory;
use crate::support::profiles::save_alice_and_bob;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

fn ids(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let mut all = vec!["sessions", "--json"];
    all.extend(args);
    let document = env.run(all).code(0).json();
    let sessions = document["sessions"].as_array().expect("a list");
    let id = |session: &Value| session["id"].as_str().expect("an id").to_owned();
    sessions.iter().map(id).collect()
}

/// Creates a home with four conversations of two accounts and two folders; one is archived, one is a subagent.
fn home() -> TestEnv {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    write(&env, &Conversation::new(1, 60, "Fix the parser", "Done."));
    write(
        &env,
        &Conversation {
            account: "acct-bob".into(),
            cwd: "/home/alice/other".into(),
            ..Conversation::new(2, 3 * 1440, "Write the docs", "Done.")
        },
    );
    write(
        &env,
        &Conversation {
            archived: true,
            cwd: "/home/alice/proj/sub".into(),
            ..Conversation::new(3, 5, "Old question", "Done.")
        },
    );
    write(
        &env,
        &Conversation {
            parent: Some(1),
            source: format!(
                "{{\"subagent\":{{\"thread_spawn\":{{\"parent_thread_id\":\"{}\"}}}}}}",
                id(1)
            ),
            ..Conversation::new(4, 1, "Explore", "Done.")
        },
    );
    env
}

#[test]
fn sessions_are_listed_from_their_rows_even_if_a_rollout_has_no_json() {
    let env = home();
    let path = env
        .codex_home()
        .join(Conversation::new(1, 60, "", "").relative());
    fs::write(&path, "no JSON at all").expect("write");
    let document = env.run(["sessions", "--json"]).code(0).json();
    let first = &document["sessions"][0];
    assert_eq!(first["id"], id(1));
    assert_eq!(first["title"], "Fix the parser");
    assert_eq!(first["email"], "alice@example.com");
    assert_eq!(first["updated_at"], "2026-11-20T11:00:00+00:00");
    assert_eq!(first["bytes"], 14);
    assert_eq!(first["tokens"], 1234);
    let shown = first["rollout_path"].as_str().expect("a path");
    assert_eq!(Path::new(shown).file_name(), path.file_name());
    assert_eq!(ids(&env, &[]), [id(1), id(2)]);
}

#[test]
fn filters_select_conversations_and_wrong_times_and_projects_are_refused() {
    let env = home();
    assert_eq!(ids(&env, &["--archived"]), [id(3), id(1), id(2)]);
    assert_eq!(
        ids(&env, &["--archived", "--project", "/home/alice/proj"]),
        [id(3), id(1)]
    );
    assert_eq!(ids(&env, &["--project", "/home/alice/pro"]), [""; 0]);
    assert_eq!(ids(&env, &["--account", "bob@example.com"]), [id(2)]);
    assert_eq!(ids(&env, &["bob@example.com"]), [id(2)]);
    assert_eq!(ids(&env, &["--since", "2h"]), [id(1)]);
    assert_eq!(ids(&env, &["--since", "2026-11-20"]), [id(1)]);
    assert_eq!(ids(&env, &["--until", "2026-11-17"]), [id(2)]);
    assert_eq!(ids(&env, &["--until", "2026-11-16"]), [""; 0]);
    assert_eq!(ids(&env, &["--limit", "1"]), [id(1)]);
    assert_eq!(ids(&env, &["--sort", "title"]), [id(1), id(2)]);
    assert_eq!(ids(&env, &["--sort", "project"]), [id(2), id(1)]);
    assert_eq!(ids(&env, &["--since", "today"]), [id(1)]);
    assert_eq!(ids(&env, &["--until", "yesterday"]), [id(2)]);
    assert_eq!(ids(&env, &["--since", "2026-12"]), [""; 0]);
    let run = env.run(["sessions", "--since", "soon"]).code(4);
    assert!(
        run.stderr.contains("not a time: \"soon\"; write 7d"),
        "{run}"
    );
    assert_eq!(ids(&env, &["--project", "proj"]), [id(1)]);
    let run = env.run(["sessions", "--project", "porj"]).code(4);
    assert!(
        run.stderr.contains("no project has this name: porj"),
        "{run}"
    );
    assert!(run.stderr.contains("did you mean: proj"), "{run}");
    // The option is added to the filters, so no command without them is suggested.
    let run = env.run([
        "sessions",
        "--archived",
        "--project",
        "proj",
        "--limit",
        "1",
    ]);
    let note = "there are more; add --limit 4 to see them\n";
    assert_eq!(run.code(0).stderr, note);
}

/// Returns true if the conversation with this title has this state.
pub(crate) fn has_row(text: &str, title: &str, state: &str) -> bool {
    let mut rows = text.lines().filter(|row| row.contains(title));
    rows.any(|row| row.ends_with(&format!("  {state}")))
}

#[test]
fn subagents_are_counted_at_their_parent_or_shown_below_it() {
    let env = home();
    let folded = env.run(["sessions"]).code(0).stdout;
    assert!(has_row(&folded, "Fix the parser", "1 subagent"), "{folded}");
    assert!(!folded.contains("Explore"), "{folded}");
    let shown = env.run(["sessions", "--subagents"]).code(0).stdout;
    assert!(has_row(&shown, "└ Explore", "subagent"), "{shown}");
    let document = env
        .run(["sessions", "--subagents", "--json"])
        .code(0)
        .json();
    assert_eq!(document["sessions"][1]["parent_id"], id(1));
    assert_eq!(document["sessions"][1]["source"], "subagent");
}

#[test]
fn archived_and_compressed_conversations_are_labelled_in_the_list() {
    let env = home();
    let path = env
        .codex_home()
        .join(Conversation::new(2, 0, "", "").relative());
    fs::rename(&path, format!("{}.zst", path.display())).expect("rename");
    let text = env.run(["sessions", "--archived"]).code(0).stdout;
    assert!(has_row(&text, "Old question", "archived"), "{text}");
    assert!(has_row(&text, "Write the docs", "compressed"), "{text}");
}

#[test]
fn sessions_exits_with_0_in_a_home_without_a_database() {
    let env = TestEnv::new();
    let run = env.run(["sessions"]).code(0);
    assert!(run.stderr.contains("no conversations yet"), "{run}");
    fs::create_dir_all(env.codex_home().join("sessions")).expect("a folder");
    let run = env.run(["sessions"]).code(0);
    assert!(
        run.stderr.contains("has not listed its conversations"),
        "{run}"
    );
    assert_eq!(ids(&env, &[]), [""; 0]);
}

#[test]
fn the_json_of_a_session_has_the_documented_keys() {
    let env = home();
    let document = env.run(["sessions", "--json"]).code(0).json();
    let first = document["sessions"][0].as_object().expect("an object");
    let keys: Vec<_> = first.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "archived",
            "bytes",
            "compressed",
            "created_at",
            "cwd",
            "email",
            "git_branch",
            "id",
            "internal",
            "machine",
            "missing",
            "model",
            "newer_on",
            "parent_id",
            "profile",
            "rollout_path",
            "side",
            "source",
            "title",
            "tokens",
            "updated_at",
        ]
    );
}

#[test]
fn the_option_here_selects_the_current_folder_and_its_subfolders() {
    let env = home();
    for (number, folder) in [(7, ""), (8, "below")] {
        let cwd = env.path(folder).to_str().expect("text").to_owned();
        let cwd = cwd.trim_end_matches('/').to_owned();
        write(
            &env,
            &Conversation {
                cwd,
                ..Conversation::new(number, 1, "Near", "Done.")
            },
        );
    }
    let mut near = ids(&env, &["--here"]);
    near.sort();
    assert_eq!(near, [id(7), id(8)]);
}

#[test]
fn a_conversation_that_codex_has_open_is_running() {
    let env = home();
    let locks = env.codex_home().join("thread-writer-locks");
    fs::create_dir_all(&locks).expect("folder");
    let lock = |number| fs::File::create(locks.join(format!("{}.lock", id(number)))).expect("lock");
    let held = lock(1);
    flock(&held, FlockOperation::LockExclusive).expect("lock");
    lock(2);
    let text = env.run(["sessions"]).code(0).stdout;
    assert!(
        has_row(&text, "Fix the parser", "running, 1 subagent"),
        "{text}"
    );
    assert!(!has_row(&text, "Write the docs", "running"), "{text}");
}

#[test]
fn sessions_launched_is_the_list_of_launches_and_refuses_here() {
    let env = home();
    let launches = env.run(["launches", "--json"]).code(0).json();
    let listed = env.run(["sessions", "--launched", "--json"]).code(0).json();
    assert_eq!(listed["sessions"], launches["sessions"]);
    let run = env.run(["sessions", "--launched", "--here"]).code(4);
    assert!(run.stderr.contains("--here"), "{run}");
}

#[test]
fn every_value_of_sort_orders_the_conversations() {
    let env = home();
    let connection = state(&env);
    for (number, tokens) in [(1, 5), (2, 500)] {
        connection
            .execute(
                "UPDATE threads SET tokens_used=?2, created_at_ms=created_at_ms+?2 WHERE id=?1",
                (id(number), tokens),
            )
            .expect("update");
    }
    let path = env
        .codex_home()
        .join(Conversation::new(1, 0, "", "").relative());
    fs::write(path, "x".repeat(10_000)).expect("write");
    for (order, first) in [
        ("updated", 1),
        ("created", 2),
        ("tokens", 2),
        ("size", 1),
        ("title", 1),
        ("project", 2),
    ] {
        let found = ids(&env, &["--sort", order]);
        assert_eq!(found[0], id(first), "{order}");
        assert_eq!(
            ids(&env, &["--sort", order, "--limit", "1"]),
            [id(first)],
            "{order}"
        );
    }
}

#[test]
fn subagents_of_subagents_are_below_them() {
    let env = home();
    write(
        &env,
        &Conversation {
            parent: Some(4),
            source: "subagent".into(),
            ..Conversation::new(5, 1, "Deeper", "Done.")
        },
    );
    let text = env.run(["sessions", "--subagents"]).code(0).stdout;
    let lines: Vec<_> = text.lines().collect();
    let line = |title: &str| {
        lines
            .iter()
            .position(|line| line.contains(title))
            .expect("a line")
    };
    let parent = line("Fix the parser");
    assert_eq!(line("└ Explore"), parent + 1, "{text}");
    assert_eq!(line("  └ Deeper"), parent + 2, "{text}");
    assert_eq!(ids(&env, &["--subagents"]), [id(1), id(4), id(5), id(2)]);
}

#[test]
fn a_name_only_in_session_index_is_the_title_and_selects_the_conversation() {
    let env = home();
    let line = |number, name: &str| {
        format!(
            "{{\"id\":\"{}\",\"thread_name\":\"{name}\",\"updated_at\":\"x\"}}\n",
            id(number)
        )
    };
    let index = env.codex_home().join("session_index.jsonl");
    let text = line(1, "Old name") + &line(2, "A name") + &line(1, "My parser") + "torn {\n";
    fs::write(&index, text).expect("write");
    let document = env
        .run(["sessions", "--json", "--sort", "title"])
        .code(0)
        .json();
    let titles = document["sessions"].as_array().expect("a list").iter();
    let titles: Vec<_> = titles
        .map(|session| session["title"].as_str().expect("text"))
        .collect();
    assert_eq!(titles, ["A name", "My parser"]);
    let shown = env.run(["show", "My parser"]).code(0).stdout;
    assert!(shown.starts_with("# My parser\n"), "{shown}");
    let _ = env.run(["show", "Old name"]).code(1);
    // A name in the row is newer than one in the index.
    let rename = "UPDATE threads SET name='In the row' WHERE id=?1";
    state(&env).execute(rename, [id(1)]).expect("rename");
    let text = env.run(["sessions"]).code(0).stdout;
    assert!(
        text.contains("In the row") && !text.contains("My parser"),
        "{text}"
    );
}

#[test]
fn four_times_as_many_conversations_are_listed_in_the_same_memory() {
    const MAX_GROWTH_BYTES: u64 = 3 << 20;
    let env = TestEnv::new();
    let connection = state(&env);
    let mut peaks = Vec::new();
    for count in [20_000, 80_000] {
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
                 INSERT OR IGNORE INTO threads
                 SELECT printf('01a1f78b-0000-7ef3-b0ee-%012d', n), '/none/rollout-' || n, n, n,
                 'cli', '/home/alice/project' || n, 'title ' || n || printf('%.490c', 'x'), n, 0, 'main', 'first', 'gpt-6',
                 n, n, 'user', 'legacy', NULL, NULL, 'acct-alice' FROM n"
            ))
            .expect("rows");
        for sort in ["updated", "size"] {
            let args = ["sessions", "--json", "--sort", sort];
            let (run, peak) = run_measuring_memory(&env, &args);
            peaks.push(peak);
            let document = run.code(0).json();
            assert_eq!(document["command"], "sessions");
            let sessions = document["sessions"].as_array().expect("a list");
            assert_eq!(sessions.len(), count);
            let newest = format!("/home/alice/project{count}");
            assert_eq!(sessions[0]["cwd"], newest.as_str());
        }
        let (run, peak) = run_measuring_memory(&env, &["sessions"]);
        peaks.push(peak);
        assert_eq!(run.code(0).stdout.lines().count(), count + 1);
    }
    for (few, many) in peaks[..3].iter().zip(&peaks[3..]) {
        assert!(*many < few + MAX_GROWTH_BYTES, "{peaks:?}");
    }
}

/// Asserts that a list and its longer and shorter parts have this order.
#[track_caller]
fn assert_order(env: &TestEnv, numbers: [u32; 4]) {
    let all = numbers.map(id);
    assert_eq!(ids(env, &[]), all);
    for limit in 1..=4 {
        let limit_text = limit.to_string();
        assert_eq!(ids(env, &["--limit", &limit_text]), all[..limit]);
    }
}

#[test]
fn conversations_with_times_in_seconds_or_without_a_row_are_sorted_with_the_others() {
    let env = TestEnv::new();
    for number in 1..=4 {
        let minutes = i64::from(number) * 10;
        write(&env, &Conversation::new(number, minutes, "A question", "x"));
    }
    assert_order(&env, [1, 2, 3, 4]);
    // Codex lists the second one no longer. Its time is that of its rollout.
    let path = env
        .codex_home()
        .join(Conversation::new(2, 20, "", "").relative());
    let time = UNIX_EPOCH + Duration::from_secs(1_795_176_000 - 25 * 60);
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(time).expect("time");
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(2)]);
    deleted.expect("delete");
    let _ = env.run(["find", "question"]).code(0);
    assert_order(&env, [1, 2, 3, 4]);
    // A row of an older version has its time in seconds only: 19 minutes ago, then 28, then 37.
    let update = "UPDATE threads SET updated_at=updated_at-9*60, updated_at_ms=NULL WHERE id=?1";
    for order in [[1, 2, 3, 4], [2, 1, 3, 4], [2, 3, 1, 4]] {
        let updated = state(&env).execute(update, [id(1)]);
        updated.expect("update");
        assert_eq!(ids(&env, &[]), order.map(id));
    }
}

#[test]
fn a_filter_without_a_match_is_reported_also_in_a_home_without_a_database() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "First", "x"));
    fs::remove_file(env.codex_home().join("state_5.sqlite")).expect("remove");
    let listed = env.run(["sessions"]).code(0);
    assert!(listed.stdout.contains("First"), "{listed}");
    for filter in [&["--since", "2099-01-01"][..], &["--here"]] {
        let none = env.run([&["sessions"], filter].concat()).code(0);
        assert!(none.stderr.contains("no conversation matches"), "{none}");
    }
}
