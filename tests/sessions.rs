//! `sessions`: the list of conversations.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::profiles::save_alice_and_bob;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn ids(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let mut all = vec!["sessions", "--json"];
    all.extend(args);
    let document = env.run(all).code(0).json();
    let sessions = document["sessions"].as_array().expect("a list");
    let id = |session: &Value| session["id"].as_str().expect("an id").to_owned();
    sessions.iter().map(id).collect()
}

/// A home with four conversations: of two accounts and two folders, one archived, one a subagent.
fn home() -> TestEnv {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    write(&env, &Conversation::new(1, 60, "Fix the parser", "Done."));
    write(
        &env,
        &Conversation {
            account: "acct-bob".into(),
            cwd: "/work/other".into(),
            ..Conversation::new(2, 3 * 1440, "Write the docs", "Done.")
        },
    );
    write(
        &env,
        &Conversation {
            archived: true,
            cwd: "/work/proj/sub".into(),
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
fn sessions_are_listed_with_all_keys_and_no_rollout_is_opened() {
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
fn filters_select_conversations() {
    let env = home();
    assert_eq!(ids(&env, &["--archived"]), [id(3), id(1), id(2)]);
    assert_eq!(
        ids(&env, &["--archived", "--project", "/work/proj"]),
        [id(3), id(1)]
    );
    assert_eq!(ids(&env, &["--project", "/work/pro"]), [""; 0]);
    assert_eq!(ids(&env, &["--account", "bob@example.com"]), [id(2)]);
    assert_eq!(ids(&env, &["--since", "2h"]), [id(1)]);
    assert_eq!(ids(&env, &["--since", "2026-11-20"]), [id(1)]);
    assert_eq!(ids(&env, &["--until", "2026-11-17"]), [id(2)]);
    assert_eq!(ids(&env, &["--until", "2026-11-16"]), [""; 0]);
    assert_eq!(ids(&env, &["--limit", "1"]), [id(1)]);
    assert_eq!(ids(&env, &["--sort", "title"]), [id(1), id(2)]);
    assert_eq!(ids(&env, &["--sort", "project"]), [id(2), id(1)]);
    let run = env.run(["sessions", "--since", "soon"]).code(4);
    assert!(
        run.stderr.contains("not a duration or a date: soon"),
        "{run}"
    );
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
fn badges_tell_archived_and_compressed_conversations() {
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
fn a_home_without_a_list_is_no_error() {
    let env = TestEnv::new();
    let run = env.run(["sessions"]).code(0);
    assert!(run.stderr.contains("no list of conversations"), "{run}");
    assert_eq!(ids(&env, &[]), [""; 0]);
}
