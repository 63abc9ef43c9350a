//! The real Codex with conversations that `storage shrink` has compressed.

use crate::support::held_lock::HeldLock;
use crate::support::injection::{can_inject, run_stopped_at};
use crate::support::lab::{Lab, messages, rollout};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Conversations in several states: plain, named, archived, a parent with its fork.
struct Conversations {
    lab: Lab,
    plain: String,
    named: String,
    archived: String,
    parent: String,
    fork: String,
}

fn ask(lab: &Lab, method: &str, params: Value) -> Value {
    let home = lab.home();
    let answer = lab
        .codex
        .app_server_request(&home, &lab.backend, method, params);
    answer.unwrap_or_else(|e| panic!("{method}: {e}"))
}

fn conversations() -> Option<Conversations> {
    let lab = Lab::new()?;
    let [plain, named, archived, parent] =
        ["plain", "named", "archived", "parent"].map(|prompt| lab.say(prompt));
    ask(
        &lab,
        "thread/name/set",
        json!({"threadId": named, "name": "a name"}),
    );
    ask(&lab, "thread/archive", json!({"threadId": archived}));
    let answer = ask(&lab, "thread/fork", json!({"threadId": parent}));
    let fork = answer["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&lab.home(), &fork, "fork");
    Some(Conversations {
        lab,
        plain,
        named,
        archived,
        parent,
        fork,
    })
}

/// Returns id, name and archived state of the conversations that Codex lists, sorted by id.
fn listed(lab: &Lab) -> Vec<(String, Option<String>, bool)> {
    let mut all = Vec::new();
    for archived in [false, true] {
        let sources = ["exec", "vscode", "cli", "appServer"];
        let params = json!({"sourceKinds": sources, "archived": archived, "limit": 100});
        let answer = ask(lab, "thread/list", params);
        for thread in answer["data"].as_array().expect("threads") {
            let text = |key: &str| thread[key].as_str().map(str::to_owned);
            all.push((text("id").expect("an id"), text("name"), archived));
        }
    }
    all.sort();
    all
}

fn zst(path: &Path) -> PathBuf {
    path.with_extension("jsonl.zst")
}

fn shrink(lab: &Lab) -> Value {
    let options = ["--older-than", "0s", "--min-size", "0", "--json"];
    let run = lab.manager([&["storage", "shrink"], &options[..]].concat());
    run.code(0).json()
}

#[test]
fn codex_lists_and_reads_the_same_after_shrink_and_expand() {
    let Some(all) = conversations() else { return };
    let lab = &all.lab;
    let ids = [
        &all.plain,
        &all.named,
        &all.archived,
        &all.parent,
        &all.fork,
    ];
    let shown = || ids.map(|id| lab.user_messages(&lab.home(), id));
    let (listed_before, shown_before) = (listed(lab), shown());
    assert_eq!(listed_before.len(), 5, "{listed_before:?}");
    for command in ["shrink", "expand"] {
        let items = match command {
            "shrink" => shrink(lab),
            _ => lab.manager(["storage", "expand", "--json"]).code(0).json(),
        };
        assert_eq!(
            items["items"].as_array().expect("items").len(),
            5,
            "{items}"
        );
        assert_eq!(listed(lab), listed_before, "{command}");
        assert_eq!(shown(), shown_before, "{command}");
        let _ = lab.manager(["history", "check"]).code(0);
    }
}

#[test]
fn codex_resumes_forks_renames_and_unarchives_compressed_conversations() {
    let Some(all) = conversations() else { return };
    let (lab, home) = (&all.lab, all.lab.home());
    let before = listed(lab);
    let _ = shrink(lab);
    // A resume decompresses the conversation and loses nothing.
    lab.resume(&home, &all.plain, "more");
    assert_eq!(messages(&rollout(&home, &all.plain)), ["plain", "more"]);
    assert!(!zst(&rollout(&home, &all.plain)).exists());
    // A fork continues while its parent stays compressed.
    lab.resume(&home, &all.fork, "more");
    assert_eq!(
        lab.user_messages(&home, &all.fork),
        ["parent", "fork", "more"]
    );
    // A compressed conversation can be forked.
    let answer = ask(lab, "thread/fork", json!({"threadId": all.named}));
    assert_ne!(answer["thread"]["id"], Value::from(all.named.clone()));
    // A compressed conversation can be renamed, archived and unarchived.
    ask(
        lab,
        "thread/name/set",
        json!({"threadId": all.parent, "name": "other"}),
    );
    ask(lab, "thread/unarchive", json!({"threadId": all.archived}));
    lab.resume(&home, &all.archived, "more");
    assert_eq!(
        lab.user_messages(&home, &all.archived),
        ["archived", "more"]
    );
    ask(lab, "thread/archive", json!({"threadId": all.archived}));
    let after = listed(lab);
    assert!(after.len() >= before.len(), "{after:?}");
    let name = after.iter().find(|(id, ..)| *id == all.parent);
    assert_eq!(name.and_then(|(_, name, _)| name.as_deref()), Some("other"));
    let _ = shrink(lab);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(listed(lab), after);
}

#[test]
fn codex_deletes_compressed_conversations() {
    let Some(all) = conversations() else { return };
    let lab = &all.lab;
    let _ = shrink(lab);
    ask(lab, "thread/delete", json!({"threadId": all.named}));
    assert!(listed(lab).iter().all(|(id, ..)| *id != all.named));
    let left = crate::support::lab::rollouts(&lab.home());
    assert!(
        left.iter()
            .all(|path| !path.to_string_lossy().contains(&all.named))
    );
}

#[test]
fn codex_does_not_resume_a_conversation_while_its_writer_lock_is_held() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("first");
    let path = home.join(format!("thread-writer-locks/{id}.lock"));
    let lock = HeldLock::exclusive(&path);
    let refused = lab.codex.exec_resume(&home, &lab.backend, &id, "second");
    let refused = refused.expect_failure();
    assert!(
        refused.to_string().contains("already has an active writer"),
        "{refused}"
    );
    drop(lock);
    lab.resume(&home, &id, "second");
    assert_eq!(messages(&rollout(&home, &id)), ["first", "second"]);
}

#[test]
fn a_conversation_that_codex_has_loaded_is_skipped() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("first");
    let mut server = lab.codex.app_server(&home, &lab.backend);
    server
        .request("thread/resume", json!({"threadId": id}))
        .expect("resume");
    let items = shrink(&lab);
    assert_eq!(items["items"][0]["action"], "skip", "{items}");
    assert!(rollout(&home, &id).exists());
}

#[test]
fn changes_by_codex_between_plan_and_compression_are_detected() {
    if !can_inject() {
        return;
    }
    for method in ["thread/delete", "thread/archive"] {
        let Some(lab) = Lab::new() else { return };
        let id = lab.say("first");
        lab.close_databases();
        let args = ["storage", "shrink", "--session", &id, "--json"];
        // The first folder that it creates is for the lock of the conversation.
        std::fs::remove_dir_all(lab.home().join("thread-writer-locks")).expect("remove");
        let meanwhile = || drop(ask(&lab, method, json!({"threadId": id})));
        let output = run_stopped_at(&lab.world, &args, ("mkdir", 1), meanwhile)
            .expect("the call is reached");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["items"][0]["action"], "skip", "{method}: {report}");
        assert_eq!(
            report["items"][0]["reason"],
            "the conversation changed in the meantime"
        );
        let left = crate::support::lab::rollouts(&lab.home());
        let archived = usize::from(method == "thread/archive");
        assert_eq!(left.len(), archived, "{left:?}");
        assert!(
            left.iter()
                .all(|path| path.extension().is_some_and(|end| end == "jsonl"))
        );
    }
}
