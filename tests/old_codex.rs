//! Homes of Codex versions without a database of conversations, made by the real programs.

use crate::support::env::assert_same_tree;
use crate::support::lab::{Lab, rollout, rollouts};
use crate::support::mock_backend::RESPONSES;
use crate::support::real_codex::RealCodex;
use std::time::{Duration, Instant};

const VERSIONS: [&str; 2] = ["0.42.0", "0.98.0"];

/// Runs a turn in a new conversation; returns its id, which Codex 0.42 does not print.
pub(crate) fn start_conversation(lab: &Lab, prompt: &str) -> String {
    let before = rollouts(&lab.home());
    let _ = lab
        .codex
        .exec(&lab.home(), &lab.backend, &[prompt])
        .expect_success();
    let mut new = rollouts(&lab.home());
    new.retain(|path| !before.contains(path));
    let name = new[0].file_stem().expect("a name").to_string_lossy();
    name[name.len() - 36..].to_owned()
}

#[test]
fn repair_reports_quickly_that_an_old_codex_has_no_list_of_conversations() {
    for version in VERSIONS {
        let Some(lab) = Lab::of_version(version) else {
            return;
        };
        start_conversation(&lab, "of alice");
        let before = lab.world.tree("home/.codex");
        let start = Instant::now();
        let run = lab.manager(["history", "repair"]).code(5);
        assert!(start.elapsed() < Duration::from_secs(30), "{version}");
        let text = format!("Codex {version} keeps no list of conversations");
        assert!(run.stderr.contains(&text), "{run}");
        assert!(!run.stderr.contains("start codex once"), "{run}");
        assert_same_tree(&before, &lab.world.tree("home/.codex"));
    }
}

#[test]
fn conversations_without_a_database_are_listed_with_titles_and_found_by_resume() {
    for version in VERSIONS {
        let Some(lab) = Lab::of_version(version) else {
            return;
        };
        let id = start_conversation(&lab, "of alice");
        let resumed = ["resume", &id, "--untracked", "--dry-run"];
        let planned = lab.manager(resumed).code(0);
        assert!(format!("{planned}").contains(&id), "{planned}");
        let listed = lab.manager(["sessions", "--json"]).code(0).json();
        assert_eq!(listed["sessions"][0]["id"], id.as_str(), "{version}");
        assert_eq!(listed["sessions"][0]["title"], "of alice");
        let newer = start_conversation(&lab, "newer");
        let listed = lab.manager(["sessions", "--json"]).code(0).json();
        assert_eq!(listed["sessions"][0]["id"], newer.as_str(), "{version}");
    }
}

#[test]
fn resume_last_finds_the_conversation_of_a_home_without_a_database() {
    let Some(lab) = Lab::of_version("0.98.0") else {
        return;
    };
    let here = |command: &mut std::process::Command| {
        command.current_dir(lab.world.path(""));
    };
    let args = ["exec", "--skip-git-repo-check", "first"];
    let said = lab.codex.start_with(&lab.home(), &lab.backend, &args, here);
    let said = said.finish(Duration::from_secs(60)).expect_success();
    let id = said.session_id().expect("a session id").to_owned();
    let args = [
        "--profile",
        "alice",
        "--",
        "exec",
        "--skip-git-repo-check",
        "second",
    ];
    let _ = lab
        .manager([&["resume", "--last"], &args[..]].concat())
        .code(0);
    let text = std::fs::read_to_string(rollout(&lab.home(), &id));
    assert!(text.expect("a rollout").contains("second"));
}

#[test]
fn use_announces_no_hidden_conversations_of_a_codex_that_hides_none() {
    for version in ["0.42.0", "0.98.0", "0.150.0"] {
        let Some(lab) = Lab::of_version(version) else {
            return;
        };
        start_conversation(&lab, "of alice");
        let run = lab.manager(["use", "bob"]).code(0);
        assert!(!run.stderr.contains("no longer shows"), "{version}: {run}");
    }
}

#[test]
fn requests_of_a_conversation_that_a_new_codex_continues_count_once() {
    let Some(lab) = Lab::of_version("0.98.0") else {
        return;
    };
    let Some(newest) = RealCodex::get() else {
        return;
    };
    let home = lab.home();
    let id = start_conversation(&lab, "one");
    lab.resume(&home, &id, "two");
    let usage = || {
        let run = lab.manager(["usage", "sessions", "--json"]).code(0).json();
        let row = &run["rows"][0];
        (row["requests"].as_u64(), row["total_tokens"].as_u64())
    };
    let sent = || lab.backend.requests_to(RESPONSES).len() as u64;
    let (first, of_old) = (sent(), usage());
    assert_eq!(of_old.0, Some(first));
    let tokens = of_old.1.unwrap() / first;
    for prompt in ["three", "four", "five"] {
        let done = newest.exec_resume(&home, &lab.backend, &id, prompt);
        let _ = done.expect_success();
        assert_eq!(usage(), (Some(sent()), Some(sent() * tokens)), "{prompt}");
    }
}
