//! Subagents, reviews and side conversations of the real Codex, which are no conversations of the user.

use crate::support::env::Run;
use crate::support::kinds::ConversationKinds;
use crate::support::lab::{Lab, rollout};
use crate::support::two_machines::TwoMachines;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;

/// Returns the ids and the parents of the conversations that `sessions` lists.
fn listed(run: &Run) -> Vec<(String, Option<String>)> {
    let document = run.json();
    let sessions = document["sessions"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    sessions
        .map(|one| (text(&one["id"]).expect("an id"), text(&one["parent_id"])))
        .collect()
}

#[test]
fn subagents_and_side_conversations_are_counted_at_their_parents_and_listed_on_request() {
    let Some(lab) = Lab::new() else { return };
    let kinds = ConversationKinds::create(&lab, &lab.home());
    let main = listed(&lab.manager(["sessions", "--json"]).code(0));
    for id in [&kinds.side, &kinds.subagent, &kinds.review] {
        assert!(main.iter().all(|(listed, _)| listed != id), "{main:?}");
    }

    let all = listed(&lab.manager(["sessions", "--subagents", "--json"]).code(0));
    let position = |id: &String| {
        all.iter()
            .position(|(listed, _)| listed == id)
            .expect("listed")
    };
    for (child, parent) in [
        (&kinds.side, &kinds.plain),
        (&kinds.subagent, &kinds.spawner),
    ] {
        let at = position(child);
        assert_eq!(all[at].1.as_ref(), Some(parent));
        assert_eq!(&all[at - 1].0, parent);
    }
    // Codex records the parent of a review in its rollout only.
    assert_eq!(all[position(&kinds.review)].1, None);
    assert_eq!(all.len(), main.len() + 3);

    let table = lab.manager(["sessions"]).code(0).stdout;
    let row = |title: &str| {
        table
            .lines()
            .find(|line| line.contains(title))
            .expect("a row")
            .to_owned()
    };
    assert!(
        row(&kinds.plain[..13]).contains("1 side conversation"),
        "{table}"
    );
    assert!(row("spawner").contains("1 subagent"), "{table}");
}

#[test]
fn resume_last_skips_subagents_reviews_and_side_conversations() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let kinds = ConversationKinds::create(&lab, &home);
    let database = Connection::open(home.join("state_5.sqlite")).expect("open");
    let folder = lab.world.path("home").to_string_lossy().into_owned();
    // The children are the newest conversations of the folder, and `plain` the newest of the others.
    let sql = "UPDATE threads SET cwd=?1, updated_at_ms=updated_at_ms + CASE \
               WHEN id IN (?2, ?3, ?4) THEN 9000000 WHEN id=?5 THEN 5000000 ELSE 0 END";
    let children = [
        &folder,
        &kinds.side,
        &kinds.subagent,
        &kinds.review,
        &kinds.plain,
    ];
    database.execute(sql, children).expect("update");
    database.close().expect("close");

    let mut resume = lab.world.command([
        "resume",
        "--last",
        "--untracked",
        "--",
        "exec",
        "--skip-git-repo-check",
        "goes on",
    ]);
    let done = Run::of_output(resume.current_dir(&folder).output().expect("start")).code(0);
    assert!(done.stderr.contains(&kinds.plain), "{done}");
}

#[test]
fn a_resume_of_a_subagent_is_refused_with_the_command_that_resumes_its_parent() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let kinds = ConversationKinds::create(&lab, &home);
    let by_codex = lab.codex.run(
        &home,
        &lab.backend,
        &[
            "exec",
            "resume",
            "--skip-git-repo-check",
            &kinds.subagent,
            "on",
        ],
    );
    let by_codex = by_codex.expect_failure();
    assert!(
        by_codex.stderr.contains("resume the parent first"),
        "{by_codex}"
    );

    let refused = lab.manager(["resume", &kinds.subagent]).code(5);
    let hint = format!("codex-manager resume {}", kinds.spawner);
    assert!(refused.stderr.contains(&hint), "{refused}");
}

#[test]
fn sync_keeps_images_goals_and_parents() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    // Codex on B has a list already, so that it does not create one from the files.
    let _ = lab.say_in(b, "at home on b");
    let kinds = ConversationKinds::create(lab, &a);
    two.sync(&["a", "b"]);

    let mut server = lab.codex.experimental_app_server(b, &lab.backend);
    let mut list = |params: Value| {
        let answer = server.request("thread/list", params).expect("a list");
        let threads = answer["data"].as_array().expect("threads").iter();
        let ids = threads.map(|thread| thread["id"].as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    let picker = list(json!({"useStateDbOnly": true, "sourceKinds": ["cli", "exec", "vscode"]}));
    for id in [&kinds.image, &kinds.goal, &kinds.fork, &kinds.spawner] {
        assert!(picker.contains(id), "{id} is not in {picker:?}");
    }
    for id in [&kinds.side, &kinds.subagent, &kinds.command] {
        assert!(!picker.contains(id), "{id} is in {picker:?}");
    }
    assert_eq!(
        list(json!({"parentThreadId": kinds.spawner})),
        [&*kinds.subagent]
    );
    assert_eq!(
        list(json!({"attachedToThreadId": kinds.plain})),
        [&*kinds.side]
    );
    drop(server);

    let (b_home, manager) = (b.to_string_lossy(), "manager-b");
    let args = [
        "--codex-home",
        &b_home,
        "--manager-home",
        manager,
        "storage",
        "trash",
        "--subagents-of",
        &kinds.spawner,
        "--dry-run",
        "--json",
    ];
    // A row of an older version of this program has no entry in the table of edges.
    let database = Connection::open(b.join("state_5.sqlite")).expect("open");
    database
        .execute_batch("DELETE FROM thread_spawn_edges")
        .expect("delete");
    database.close().expect("close");
    let trash = lab.manager(args).code(0).json();
    assert_eq!(trash["items"][0]["session_id"], *kinds.subagent);
    let args = [
        "--codex-home",
        &b_home,
        "--manager-home",
        manager,
        "sessions",
        "--subagents",
        "--json",
    ];
    let all = listed(&lab.manager(args).code(0));
    assert!(
        all.contains(&(kinds.subagent.clone(), Some(kinds.spawner.clone()))),
        "{all:?}"
    );
    assert!(fs::metadata(rollout(b, &kinds.subagent)).is_ok());
}
