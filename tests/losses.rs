//! `history losses`, and what `backup`, `restore`, `prune` and the vault do about messages that conversations lost.

use crate::old_codex::start_conversation;
use crate::support::conversations::{Conversation, assistant, id, user, write};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::lab::{Lab, rollout, rollouts};
use crate::support::pair::{ID, META, Pair, ROLLOUT};
use crate::support::pauses::wait_until;
use crate::support::real_codex::RealCodex;
use crate::support::{restic, variables};
use codex_manager_core::io::lock::FileLock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn losses(env: &TestEnv, code: i32) -> Vec<Value> {
    let run = env.run(["history", "losses", "--json"]).code(code);
    run.json()["losses"].as_array().expect("losses").clone()
}

/// Makes a backup at this time; returns its document.
fn back_up_at(env: &mut TestEnv, time: &str) -> Value {
    env.set("CODEX_MANAGER_NOW", format!("2026-11-20T{time}:00Z"));
    let run = env.run(["backup", "--no-status", "--json"]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    run.code(0).json()
}

/// Returns a conversation of three questions with answers.
fn sample(number: u32) -> Conversation {
    let mut conversation = Conversation::new(number, 60, "The parser", "It fails.");
    conversation.lines.extend([
        user("Why does it fail?"),
        assistant("A semicolon."),
        user("Repair it."),
        assistant("Done."),
    ]);
    conversation
}

/// Removes the lines of the last `count` messages, and adds another answer.
fn compact(env: &TestEnv, conversation: &Conversation, count: usize) {
    let mut short = conversation.clone();
    short.lines.truncate(short.lines.len() - count);
    short.lines.push(assistant("Summary."));
    write(env, &short);
}

#[test]
fn a_backup_names_conversations_that_lost_messages() {
    let mut env = TestEnv::new();
    for number in [1, 2, 3] {
        write(&env, &sample(number));
    }
    let first = back_up_at(&mut env, "10:00");
    assert_eq!(first["losses"], json!([]));
    compact(&env, &sample(1), 4);
    compact(&env, &sample(2), 1);
    let mut grown = sample(3);
    grown.lines.push(user("Thanks."));
    write(&env, &grown);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T11:00:00Z");
    let run = env.run(["backup", "--no-status", "--json"]).code(0);
    let warning = "2 conversations lost 5 messages since 2026-11-20-100000-signed-out";
    assert!(run.stderr.replace('\n', " ").contains(warning), "{run}");
    let archive = "2026-11-20-100000-signed-out-codex.tar.gz";
    let lost = |number, count| {
        json!({"session_id": id(number), "title": "The parser", "lost_messages": count,
            "archive": archive})
    };
    assert_eq!(run.json()["losses"], json!([lost(1, 4), lost(2, 1)]));
    let checks = env.run(["doctor", "--json"]).json();
    let checks = checks["checks"].as_array().unwrap().iter();
    let check = checks.clone().find(|check| check["id"] == "home.losses");
    assert_eq!(
        check.expect("the check")["message"],
        "2 conversations lost 5 messages"
    );
    let third = back_up_at(&mut env, "11:30");
    assert_eq!(third["losses"], json!([]), "a loss is reported once");
    let found = losses(&env, 5);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["session_id"], id(1));
    assert_eq!(found[0]["lost_messages"], 4);
    assert_eq!(found[0]["place"], archive);
    assert_eq!(found[0]["first_lost"], "2026-11-20T06:00:01+00:00");
    let command = format!(
        "codex-manager restore 2026-11-20-100000-signed-out --session {}",
        id(1)
    );
    assert_eq!(found[0]["command"], command);
}

#[test]
fn a_loss_check_does_not_read_a_compressed_rollout_that_equals_its_archived_copy() {
    let mut env = TestEnv::new();
    let rollout = write(&env, &sample(1));
    // Nothing can be read after the magic number of zstd.
    let compressed = rollout.with_extension("jsonl.zst");
    fs::write(
        &compressed,
        [&[0x28, 0xb5, 0x2f, 0xfd][..], &[7; 100]].concat(),
    )
    .unwrap();
    fs::remove_file(&rollout).unwrap();
    back_up_at(&mut env, "10:00");
    let file = fs::File::options().write(true).open(&compressed).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(losses(&env, 0).len(), 0);
}

#[test]
fn an_accepted_loss_is_not_reported_again_but_a_further_one_is() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "10:00");
    compact(&env, &sample(1), 1);
    assert_eq!(losses(&env, 5).len(), 1);
    let _ = env
        .run(["history", "losses", "--accept", "nothing"])
        .code(1);
    let accepted = ["history", "losses", "--accept", &id(1)[..16]];
    let _ = env.run(accepted).code(0);
    assert_eq!(losses(&env, 0).len(), 0);
    compact(&env, &sample(1), 2);
    let found = losses(&env, 5);
    assert_eq!(found[0]["lost_messages"], 1, "the other one is accepted");
    fs::remove_file(env.codex_home().join(sample(1).relative())).unwrap();
    assert_eq!(losses(&env, 0).len(), 0, "a deleted conversation");
}

#[test]
fn an_acceptance_ends_when_the_messages_are_back() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    compact(&env, &sample(1), 4);
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(0);
    assert_eq!(losses(&env, 0).len(), 0);
    write(&env, &sample(1));
    assert_eq!(back_up_at(&mut env, "09:00")["losses"], json!([]));
    compact(&env, &sample(1), 4);
    let lost = back_up_at(&mut env, "10:00")["losses"].clone();
    assert_eq!(lost[0]["lost_messages"], 4);
    assert_eq!(losses(&env, 5)[0]["lost_messages"], 4);
}

#[test]
fn an_acceptance_applies_to_one_home_and_prune_keeps_what_another_home_needs() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    compact(&env, &sample(1), 4);
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(0);
    let copied = env.path("home/.other");
    fs::rename(env.codex_home(), &copied).unwrap();
    let args = ["--codex-home", copied.to_str().unwrap()];
    write(&env, &sample(1));
    let path = copied.join(sample(1).relative());
    fs::copy(env.codex_home().join(sample(1).relative()), &path).unwrap();
    let _ = env
        .run([&args[..], &["backup", "--no-status"]].concat())
        .code(0);
    compact(&env, &sample(1), 4);
    fs::copy(env.codex_home().join(sample(1).relative()), &path).unwrap();
    let found = env.run([&args[..], &["history", "losses", "--json"]].concat());
    assert_eq!(found.code(5).json()["losses"][0]["lost_messages"], 4);
    assert_eq!(losses(&env, 0).len(), 0);
    // A prune from one home keeps what the other one needs.
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let _ = env
        .run([&args[..], &["backup", "--no-status"]].concat())
        .code(0);
    let pruned = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    let mut kept = pruned["keep"].as_array().unwrap().iter();
    let reason = "has messages that the conversation 01a1f78b lost";
    assert!(kept.any(|kept| kept["reason"] == reason), "{pruned}");
}

#[test]
fn prune_keeps_an_archive_of_a_conversation_whose_rollout_is_damaged() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    write(&env, &sample(2));
    back_up_at(&mut env, "08:00");
    let rollout = env.codex_home().join(sample(1).relative());
    fs::remove_file(&rollout).unwrap();
    // The magic number of zstd, without a valid frame.
    let damaged = [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff];
    fs::write(rollout.with_extension("jsonl.zst"), damaged).unwrap();
    for time in ["09:00", "10:00"] {
        env.set("CODEX_MANAGER_NOW", format!("2026-11-20T{time}:00Z"));
        let run = env.run(["backup", "--no-status", "--json"]);
        assert!([0, 6].contains(&run.code), "{run}");
    }
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let run = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert!(
        run.stderr.contains("was not compared with its copies"),
        "{run}"
    );
    let kept = run.json()["keep"].clone();
    let kept = kept.as_array().expect("a list").iter();
    let kept = kept.filter(|kept| {
        kept["reason"] == "has the conversation 01a1f78b, which could not be compared"
    });
    let names: Vec<_> = kept.map(|kept| kept["archive"].clone()).collect();
    assert_eq!(
        names,
        ["2026-11-20-080000-signed-out-codex.tar.gz"],
        "{run}"
    );
}

#[test]
fn a_backup_compares_each_conversation_with_the_last_archive_that_has_it() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    write(&env, &sample(2));
    back_up_at(&mut env, "08:00");
    let path = env.codex_home().join(sample(1).relative());
    fs::remove_file(&path).unwrap();
    assert_eq!(back_up_at(&mut env, "09:00")["losses"], json!([]));
    compact(&env, &sample(1), 4);
    let lost = back_up_at(&mut env, "10:00")["losses"].clone();
    assert_eq!(lost[0]["lost_messages"], 4);
    assert_eq!(
        lost[0]["archive"],
        "2026-11-20-080000-signed-out-codex.tar.gz"
    );
    assert_eq!(back_up_at(&mut env, "11:00")["losses"], json!([]));
}

#[test]
fn a_conversation_that_cannot_be_compared_is_named_and_stays_recorded() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    compact(&env, &sample(1), 4);
    assert_eq!(losses(&env, 5)[0]["lost_messages"], 4);
    let rollout = env.codex_home().join(sample(1).relative());
    fs::remove_file(&rollout).unwrap();
    // The magic number of zstd, without a valid frame.
    let damaged = [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff];
    fs::write(rollout.with_extension("jsonl.zst"), damaged).unwrap();
    let backup = env.run(["backup", "--no-status"]);
    let losses = env.run(["history", "losses"]).code(6);
    for run in [backup, losses] {
        assert!(
            run.stderr.contains("was not compared with its copies"),
            "{run}"
        );
    }
    let checks = env.run(["doctor", "--json"]).json();
    let mut checks = checks["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["id"] == "home.losses");
    let message = &check.expect("the check")["message"];
    assert_eq!(message, "1 conversation lost 4 messages");
}

#[test]
fn the_next_archive_is_read_if_the_newest_one_with_a_copy_is_damaged() {
    let mut env = TestEnv::new();
    let mut long = sample(1);
    // Most of an archive, so that its middle is in this rollout.
    let noise = Dice::seeded(1).bytes(1 << 18).into_iter();
    let noise: String = noise.map(|byte| char::from(b'a' + byte % 26)).collect();
    long.lines.push(assistant(&noise));
    write(&env, &long);
    back_up_at(&mut env, "08:00");
    let newest = back_up_at(&mut env, "09:00");
    let name = newest["archive"].as_str().expect("a name");
    let path = env.manager_home().join("backups").join(name);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20].fill(0xff);
    fs::write(&path, bytes).unwrap();
    compact(&env, &long, 4);
    let found = losses(&env, 5);
    assert_eq!(found[0]["lost_messages"], 4);
    assert_eq!(
        found[0]["place"],
        "2026-11-20-080000-signed-out-codex.tar.gz"
    );
}

#[test]
fn restore_session_takes_the_most_complete_archived_copy_and_names_it() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    let damaged = back_up_at(&mut env, "08:00");
    let damaged = damaged["archive"].as_str().expect("a name");
    let damaged = env.manager_home().join("backups").join(damaged);
    let size = fs::metadata(&damaged).expect("a file").len();
    fs::write(&damaged, vec![0xff; usize::try_from(size).unwrap()]).unwrap();
    back_up_at(&mut env, "09:00");
    compact(&env, &sample(1), 4);
    back_up_at(&mut env, "10:00");
    let restored = env
        .run(["restore", "--session", &id(1)[..16], "--yes"])
        .code(0);
    let text = format!("{restored}");
    assert!(text.contains("2026-11-20-090000-signed-out"), "{text}");
    assert!(
        text.contains("most complete of 2 archived copies"),
        "{text}"
    );
    assert!(
        restored.stderr.contains("warning: not searched: "),
        "{restored}"
    );
    let path = env.codex_home().join(sample(1).relative());
    assert_eq!(fs::read_to_string(path).unwrap(), sample(1).text());
    // The summary is in the safety backup only.
    let found = losses(&env, 5);
    assert_eq!(found[0]["lost_messages"], 1);
    let unknown = env.run(["restore", "--session", "01ffffff"]).code(1);
    let message = "no archive has a conversation with this id or name";
    assert!(unknown.stderr.contains(message), "{unknown}");
}

#[test]
fn i16_prune_keeps_the_last_copy_until_the_loss_is_accepted() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    back_up_at(&mut env, "09:00");
    compact(&env, &sample(1), 4);
    back_up_at(&mut env, "10:00");
    let prune = ["prune", "--keep-last", "1", "--json"];
    let planned = env
        .run([&prune[..], &["--dry-run"]].concat())
        .code(0)
        .json();
    let pruned = env.run(prune).code(0).json();
    assert_eq!(planned["keep"], pruned["keep"]);
    let keep = pruned["keep"].as_array().unwrap();
    assert_eq!(keep.len(), 2);
    assert_eq!(
        keep[1]["archive"],
        "2026-11-20-090000-signed-out-codex.tar.gz"
    );
    assert_eq!(
        keep[1]["reason"],
        "has messages that the conversation 01a1f78b lost"
    );
    assert_eq!(pruned["drop"].as_array().unwrap().len(), 1);
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(0);
    let pruned = env.run(prune).code(0).json();
    assert_eq!(pruned["drop"].as_array().unwrap().len(), 1);
}

#[test]
fn i16_equal_messages_without_a_time_are_all_kept() {
    let mut env = TestEnv::new();
    // Codex 0.20 wrote no times.
    let header = json!({"id": ID, "timestamp": "2025-08-01T10:00:00Z"});
    let message = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    let turn = |text: &str| {
        let answer = message("assistant", "output_text", "ok");
        [message("user", "input_text", text), answer]
    };
    let turns = ["begin", "continue", "continue", "continue"].map(turn);
    let lines: Vec<_> = turns.as_flattened().iter().collect();
    let name = format!("sessions/2025/08/01/rollout-2025-08-01T10-00-00-{ID}.jsonl");
    for (time, count) in [("10:00", 8), ("10:30", 4), ("11:00", 2)] {
        let text = std::iter::once(&header)
            .chain(lines.iter().copied().take(count))
            .map(ToString::to_string);
        let text = text.collect::<Vec<_>>().join("\n") + "\n";
        env.write(&format!("home/.codex/{name}"), &text);
        back_up_at(&mut env, time);
    }
    let _ = env.run(["verify", "--all"]).code(0);
    let before = losses(&env, 5);
    assert_eq!(before[0]["lost_messages"], 6);
    let _ = env.run(["prune", "--keep-last", "1", "--yes"]).code(0);
    assert_eq!(losses(&env, 5)[0]["place"], before[0]["place"]);
}

#[test]
fn i16_prune_keeps_the_last_copy_if_a_newer_archive_was_added_while_it_waited() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    compact(&env, &sample(1), 4);
    back_up_at(&mut env, "09:00");
    let backups = env.manager_home().join("backups");
    let names = fs::read_dir(&backups).expect("list").flatten();
    let mut moved: Vec<_> = names.map(|entry| entry.file_name()).collect();
    moved.retain(|name| name.to_string_lossy().starts_with("2026-11-20-09"));
    assert_eq!(moved.len(), 2, "the newest archive and its sidecar");
    let aside = env.path("aside");
    fs::create_dir(&aside).expect("create");
    for name in &moved {
        fs::rename(backups.join(name), aside.join(name)).expect("move");
    }
    let lock = FileLock::try_acquire(&env.manager_home().join(".lock")).expect("lock");
    assert!(lock.is_some(), "another process holds the lock");
    let mut command = env.command(["prune", "--keep-last", "1", "--json"]);
    let errors = fs::File::create(env.path("errors")).expect("create");
    let prune = command.stdout(Stdio::piped()).stderr(errors).spawn();
    let mut prune = prune.expect("start");
    wait_until("prune waits for the lock", || {
        let shown = fs::read_to_string(env.path("errors")).expect("read");
        assert_eq!(prune.try_wait().expect("wait"), None, "{shown}");
        shown.contains("waiting for another process")
    });
    for name in &moved {
        fs::rename(aside.join(name), backups.join(name)).expect("move");
    }
    drop(lock);
    let output = prune.wait_with_output().expect("wait");
    assert!(output.status.success(), "{output:?}");
    let pruned: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        pruned["keep"][1]["reason"],
        "has messages that the conversation 01a1f78b lost"
    );
    assert_eq!(pruned["drop"], json!([]));
}

#[test]
fn i16_the_trash_is_not_emptied_while_it_has_the_last_copy() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "09:00");
    compact(&env, &sample(1), 4);
    back_up_at(&mut env, "10:00");
    let _ = env.run(["history", "losses", "--accept", &id(1)]).code(0);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let empty = ["prune", "--empty-trash", "--yes"];
    fs::remove_file(env.manager_home().join("losses.json")).unwrap();
    let before = env.tree("home/.codex-manager/backups");
    let _ = env.run(["prune", "--empty-trash", "--dry-run"]).code(5);
    let refused = env.run(empty).code(5);
    assert!(refused.stderr.contains("last copy"), "{refused}");
    assert!(refused.stderr.contains("restore "), "{refused}");
    assert_same_tree(&before, &env.tree("home/.codex-manager/backups"));
    let found = losses(&env, 5);
    assert_eq!(found[0]["lost_messages"], 4);
    let command = found[0]["command"].as_str().unwrap();
    let command = command.replace("[ROOT]", &env.path("").display().to_string());
    let args: Vec<_> = command.split(' ').skip(1).chain(["--yes"]).collect();
    let _ = env.run(args).code(0);
    assert_eq!(losses(&env, 5)[0]["lost_messages"], 1, "the summary");
    let _ = env.run(empty).code(0);
    let run = env.run(["prune", "--empty-trash", "--dry-run"]).code(0);
    assert!(run.stdout.contains("the trash is empty"), "{run}");
}

#[test]
fn lost_messages_are_found_in_an_undecided_conflict_copy() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
    let text = |answers: &[&str]| {
        let lines: Vec<_> = answers
            .iter()
            .map(|text| assistant(text).to_string())
            .collect();
        format!("{META}{}\n", lines.join("\n"))
    };
    pair.sync(&[(ROLLOUT, &text(&["one"]))]);
    pair.put("a", ROLLOUT, &text(&["one", "two"]));
    pair.put("b", ROLLOUT, &text(&["one", "three", "four"]));
    pair.apply("a");
    pair.apply("b");
    assert!(pair.text("b", ROLLOUT).contains("two"));
    let home = pair.home("b");
    let args = [
        "--manager-home",
        "manager-b",
        "--codex-home",
        home.to_str().unwrap(),
    ];
    let list = ["history", "losses", "--json"];
    let found = pair.0.run([&args[..], &list].concat()).code(5).json();
    let loss = &found["losses"][0];
    assert_eq!(
        (&loss["session_id"], &loss["lost_messages"]),
        (&json!(ID), &json!(2))
    );
    assert_eq!(loss["command"], format!("codex-manager sync resolve {ID}"));
}

/// A trashed conversation that Codex created again, shorter, has its messages in the trash only.
#[test]
fn lost_messages_are_found_in_a_trashed_conversation() {
    let env = TestEnv::new();
    write(&env, &sample(1));
    let path = env.codex_home().join(sample(1).relative());
    let whole = fs::read(&path).unwrap();
    let _ = env.run(["storage", "trash", &id(1), "--yes"]).code(0);
    assert!(!path.exists());
    compact(&env, &sample(1), 4);
    let found = losses(&env, 5);
    assert_eq!(found[0]["lost_messages"], 4);
    let place = found[0]["place"].as_str().unwrap();
    let place = place.strip_prefix("[ROOT]/").expect("a path");
    assert!(place.contains("/trash/conversations/"), "{place}");
    assert_eq!(fs::read(env.path(place)).unwrap(), whole);
}

#[test]
fn vault_forget_keeps_the_snapshot_that_a_loss_check_named() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    crate::vault::set_up(&mut env);
    let _ = env
        .run(["config", "set", "vault.repository", "vault"])
        .code(0);
    // Snapshots have the time of the system.
    env.unset("CODEX_MANAGER_NOW");
    write(&env, &sample(1));
    let first = crate::vault::backup(&env);
    compact(&env, &sample(1), 4);
    crate::vault::backup(&env);
    assert_eq!(losses(&env, 0).len(), 0, "not without --vault");
    let run = env.run(["history", "losses", "--vault", "--json"]).code(5);
    let found = run.json()["losses"][0].clone();
    assert_eq!(found["lost_messages"], 4);
    assert_eq!(found["place"], first["snapshot"]);
    let forget = ["vault", "forget", "--keep-last", "1", "--yes", "--json"];
    let kept = env.run(forget).code(0).json();
    assert_eq!(kept["drop"], json!([]));
    assert_eq!(
        kept["keep"][1]["reason"],
        "has messages that the conversation 01a1f78b lost"
    );
    let command = found["command"].as_str().unwrap();
    let words: Vec<_> = command.split(' ').skip(1).chain(["--yes"]).collect();
    let _ = env.run(words).code(0);
    let path = env.codex_home().join(sample(1).relative());
    assert_eq!(fs::read_to_string(path).unwrap(), sample(1).text());
}

#[test]
fn vault_forget_keeps_the_last_copy_without_an_earlier_loss_check() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    crate::vault::set_up(&mut env);
    let _ = env
        .run(["config", "set", "vault.repository", "vault"])
        .code(0);
    env.unset("CODEX_MANAGER_NOW");
    write(&env, &sample(1));
    crate::vault::backup(&env);
    compact(&env, &sample(1), 4);
    crate::vault::backup(&env);
    let forget = ["vault", "forget", "--keep-last", "1", "--yes", "--json"];
    let kept = env.run(forget).code(0).json();
    assert_eq!(kept["drop"], json!([]));
    assert_eq!(
        kept["keep"][1]["reason"],
        "has messages that the conversation 01a1f78b lost"
    );
    let accept = ["history", "losses", "--vault", "--accept", &id(1)];
    let _ = env.run(accept).code(0);
    let forgotten = env.run(forget).code(0).json();
    assert_eq!(forgotten["drop"].as_array().unwrap().len(), 1);
}

/// Messages that were added after a loss are replaced by the restore.
#[test]
fn a_restore_names_the_archive_of_the_messages_that_it_replaces() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    compact(&env, &sample(1), 4);
    assert_eq!(losses(&env, 5)[0]["lost_messages"], 4);
    let loss = |env: &TestEnv| {
        let checks = env.run(["doctor", "--json"]).json();
        let mut checks = checks["checks"].as_array().unwrap().iter();
        let check = checks.find(|check| check["id"] == "home.losses");
        check.expect("the check")["message"].clone()
    };
    assert_eq!(loss(&env), "1 conversation lost 4 messages");
    let restore = ["restore", "--session", &id(1), "--yes", "--json"];
    let planned = env.run([&restore[..], &["--dry-run"]].concat()).code(0);
    let note = "not in the archive: 1 message of the Codex home, kept in the safety backup";
    assert_eq!(planned.json()["notes"], json!([note]));
    let restored = env.run(restore).code(0).json();
    let safety = restored["safety_backup"].as_str().unwrap();
    let name = safety.strip_suffix("-codex.tar.gz").unwrap();
    let note = format!("not in the archive: 1 message of the Codex home, kept in {name}");
    assert_eq!(restored["notes"], json!([note]));
    assert_eq!(loss(&env), "1 conversation lost 1 message", "the summary");
    let _ = env
        .run(["restore", name, "--session", &id(1), "--yes"])
        .code(0);
    assert_eq!(loss(&env), "1 conversation lost 4 messages");
}

#[test]
fn doctor_reports_no_loss_after_a_restore_of_the_messages() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "08:00");
    let mut short = sample(1);
    short.lines.truncate(short.lines.len() - 4);
    write(&env, &short);
    assert_eq!(losses(&env, 5)[0]["lost_messages"], 4);
    let _ = env.run(["restore", "--session", &id(1), "--yes"]).code(0);
    let checks = env.run(["doctor", "--json"]).json();
    let mut checks = checks["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["id"] == "home.losses");
    let message = &check.expect("the check")["message"];
    assert_eq!(message, "no conversation lacks messages");
}

#[test]
fn a_check_writes_nothing_if_nothing_is_missing() {
    let mut env = TestEnv::new();
    write(&env, &sample(1));
    back_up_at(&mut env, "10:00");
    let before = env.tree("home");
    assert_eq!(losses(&env, 0).len(), 0);
    assert_same_tree(&before, &env.tree("home"));
}

/// Cuts the lines of the last turns out of a rollout of Codex, from the line that contains `text` on.
fn cut_from(path: &Path, text: &str) {
    let content = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = content.split_inclusive('\n').collect();
    let at = lines.iter().position(|line| line.contains(text));
    fs::write(path, lines[..at.expect("the text")].concat()).unwrap();
}

#[test]
fn with_real_codex_truncated_rollouts_are_losses_and_rewinds_forks_and_growth_are_not() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    lab.turns(&home, &id, &["two", "number-3"]);
    let base = rollout(&home, &id);
    let plain = lab.say("alpha");
    lab.resume(&home, &plain, "number-2");
    lab.back_up();
    lab.edit(&home, &id, 1, "four");
    let fork = json!({"threadId": id});
    lab.codex
        .app_server_request(&home, &lab.backend, "thread/fork", fork)
        .expect("a fork");
    let _ = lab.manager(["history", "losses"]).code(0);
    lab.back_up();
    let _ = lab.manager(["history", "losses"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "four"]);
    let full = fs::read_to_string(&base).unwrap();
    // What a rewind hid counts too: Codex may be asked for it.
    cut_from(&base, "number-3");
    let found = lab.manager(["history", "losses", "--json"]).code(5).json();
    assert_eq!(found["losses"][0]["session_id"], *id);
    // The backend answers all questions alike: an equal answer in another rollout is another message.
    assert_eq!(found["losses"][0]["lost_messages"], 2);
    let _ = lab.manager(["restore", "--session", &id, "--yes"]).code(0);
    assert_eq!(fs::read_to_string(&base).unwrap(), full);
    let _ = lab.manager(["history", "losses"]).code(0);
    let compacted = rollout(&home, &plain);
    cut_from(&compacted, "number-2");
    let found = lab.manager(["history", "losses", "--json"]).code(5).json();
    assert_eq!(found["losses"][0]["lost_messages"], 2);
    let restore = ["restore", "--session", &plain, "--yes"];
    let _ = lab.manager(restore).code(0);
    lab.resume(&home, &plain, "three");
    let shown = lab.user_messages(&home, &plain);
    assert_eq!(shown, ["alpha", "number-2", "three"]);
}

#[test]
fn a_complete_migration_is_no_loss_and_a_partial_one_is() {
    let Some(lab) = Lab::of_version("0.98.0") else {
        return;
    };
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let home = lab.home();
    let id = start_conversation(&lab, "one");
    lab.turns(&home, &id, &["two", "carry-on", "carry-on"]);
    let params = json!({"sourceKinds": ["exec"]});
    codex
        .app_server_request(&home, &lab.backend, "thread/list", params)
        .expect("a list");
    lab.back_up();
    let path = rollout(&home, &id);
    let legacy = fs::read(&path).unwrap();
    let migrated = codex.run(&home, &lab.backend, &["migrate-rollouts", "--apply"]);
    let migrated = migrated.expect_success();
    assert_ne!(fs::read(&path).unwrap(), legacy, "{migrated}");
    let _ = lab.manager(["history", "losses"]).code(0);
    let backup = lab.manager(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(backup.json()["losses"], json!([]));
    cut_from(&path, "carry-on");
    let found = lab.manager(["history", "losses", "--json"]).code(5).json();
    assert_eq!(found["losses"][0]["lost_messages"], 4, "{found}");
    let _ = lab.manager(["restore", "--session", &id, "--yes"]).code(0);
    let _ = lab.manager(["history", "losses"]).code(0);
}

/// Equal messages are different ones: those of a lost rollout are missing, whatever the other rollouts have.
#[test]
fn a_deleted_rewind_is_a_loss_even_if_its_base_has_equal_messages() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("continue");
    lab.turns(&home, &id, &["continue", "stop"]);
    let base = rollout(&home, &id);
    lab.back_up();
    lab.edit(&home, &id, 2, "continue");
    lab.back_up();
    let shown = ["continue", "continue", "continue"];
    assert_eq!(lab.user_messages(&home, &id), shown);
    let tip = rollouts(&home).into_iter().find(|path| *path != base);
    fs::remove_file(tip.expect("the rewind")).unwrap();
    let found = lab.manager(["history", "losses", "--json"]).code(5).json();
    assert_eq!(found["losses"][0]["lost_messages"], 2, "{found}");
    let backup = lab.manager(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(backup.json()["losses"][0]["lost_messages"], 2);
    let _ = lab.manager(["prune", "--keep-last", "1"]).code(0);
    let _ = lab.manager(["prune", "--empty-trash", "--yes"]).code(0);
    let _ = lab.manager(["restore", "--session", &id, "--yes"]).code(0);
    // Codex 0.169 reads the turns of the base again in a repair, or when the thread is resumed.
    let _ = lab.manager(["history", "repair", "--yes"]);
    assert_eq!(lab.user_messages(&home, &id), shown);
    let _ = lab.manager(["history", "losses"]).code(0);
}

/// A fork of Codex 0.169 has no turns of its base, only the place at which it leaves it.
#[test]
fn i16_a_missing_base_is_a_loss_of_its_fork_and_its_last_copy_is_kept() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let base = lab.say("one");
    lab.resume(&home, &base, "two");
    let params = json!({"threadId": base});
    let forked = lab
        .codex
        .app_server_request(&home, &lab.backend, "thread/fork", params)
        .expect("a fork");
    let fork = forked["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&home, &fork, "three");
    let shown = ["one", "two", "three"];
    assert_eq!(lab.user_messages(&home, &fork), shown);
    lab.back_up();
    fs::remove_file(rollout(&home, &base)).unwrap();
    let backup = lab.manager(["backup", "--no-status", "--json"]).code(0);
    let lost = &backup.json()["losses"][0];
    assert_eq!(
        (&lost["session_id"], &lost["lost_messages"]),
        (&json!(fork), &json!(4))
    );
    let _ = lab.manager(["history", "losses"]).code(5);
    let _ = lab.manager(["prune", "--keep-last", "1"]).code(0);
    let _ = lab.manager(["prune", "--empty-trash", "--yes"]).code(0);
    let checked = lab.manager(["history", "check", "--json"]).code(5).json();
    let fix = checked["unreadable"][0]["fix"].as_str().expect("a fix");
    let words: Vec<_> = fix.split(' ').skip(1).chain(["--yes"]).collect();
    let _ = lab.manager(words).code(0);
    assert_eq!(lab.user_messages(&home, &fork), shown);
    let _ = lab.manager(["history", "losses"]).code(0);
}

/// A thread of the oracle: its rollouts with their messages, role and text.
#[derive(Debug, Clone, Default)]
struct Thread {
    rollouts: Vec<(PathBuf, Vec<String>)>,
    is_paginated: bool,
}

/// Messages of each thread by the name of the rollout.
type Archived = BTreeMap<u32, BTreeMap<String, Vec<String>>>;

struct Oracle {
    env: TestEnv,
    dice: Dice,
    threads: BTreeMap<u32, Thread>,
    archives: Vec<Archived>,
    /// The bases of forks by the name of the rollout, also of deleted ones.
    bases: BTreeMap<String, Base>,
    /// The threads whose archived copies may have other offsets.
    rewritten: BTreeSet<u32>,
    texts: u64,
}

/// A rollout that a fork continues.
#[derive(Debug, Clone)]
struct Base {
    number: u32,
    name: String,
    /// The number of messages that the fork shows.
    messages: usize,
    json: Value,
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.strip_suffix(".zst").unwrap_or(name).to_owned()
}

fn parse_rollout_id(path: &Path) -> String {
    let name = name_of(path);
    let stem = name.strip_suffix(".jsonl").unwrap();
    stem[stem.len() - 36..].to_owned()
}

/// Returns the messages of `copy` that `held` does not have, each as often as it occurs.
fn missing(held: &BTreeMap<String, usize>, copy: &[String]) -> usize {
    let mut left = held.clone();
    let is_missing = |text: &&String| match left.get_mut(*text) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    copy.iter().filter(is_missing).count()
}

impl Oracle {
    fn message(&mut self) -> String {
        self.texts += 1;
        if self.dice.below(4) == 0 {
            "continue".into()
        } else {
            format!("message {}", self.texts)
        }
    }

    /// Returns a rollout in the form of its thread; the texts are of the user and the assistant in turn.
    fn text(&self, number: u32, path: &Path, texts: &[String]) -> String {
        let thread = &self.threads[&number];
        let mut payload = json!({"id": id(number), "cwd": "/home/alice/proj"});
        if let Some(base) = self.bases.get(&name_of(path)) {
            payload["history_base"] = base.json.clone();
        }
        let mut lines = vec![
            json!({"timestamp": "2026-11-20T06:00:00.000Z", "type": "session_meta",
            "payload": payload}),
        ];
        for (i, text) in texts.iter().enumerate() {
            let is_user = i % 2 == 0;
            let (role, completed) = if is_user {
                ("user", "UserMessage")
            } else {
                ("assistant", "AgentMessage")
            };
            let content = json!([{"type": "text", "text": text}]);
            lines.push(
                json!({"timestamp": "2026-11-20T06:00:01.000Z", "type": "response_item",
                "payload": {"type": "message", "role": role, "content": content}}),
            );
            let event = match (thread.is_paginated, is_user) {
                (true, _) => json!({"type": "item_completed", "item":
                    {"type": completed, "content": content}}),
                (false, true) => json!({"type": "user_message", "message": text}),
                (false, false) => json!({"type": "agent_message", "message": text}),
            };
            lines.push(
                json!({"timestamp": "2026-11-20T06:00:01.000Z", "type": "event_msg",
                "payload": event}),
            );
        }
        if thread.is_paginated {
            for (ordinal, line) in lines.iter_mut().enumerate() {
                line["ordinal"] = json!(ordinal);
            }
        }
        let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
        lines.join("\n") + "\n"
    }

    fn write(&self, number: u32, path: &Path, texts: &[String]) {
        let text = self.text(number, path, texts);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.extension().is_some_and(|e| e == "zst") {
            fs::write(path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        } else {
            fs::write(path, text).unwrap();
        }
    }

    fn rewrite(&self, number: u32, place: usize) {
        let (path, texts) = &self.threads[&number].rollouts[place];
        self.write(number, path, texts);
    }

    /// Does something that loses nothing, or drops messages. Returns what it did.
    fn step(&mut self) -> String {
        let numbers: Vec<u32> = self.threads.keys().copied().collect();
        let chosen = self.dice.below(numbers.len() as u64);
        let number = numbers.get(usize::try_from(chosen).unwrap()).copied();
        let kind = self.dice.below(13);
        let (Some(number), true) = (number, kind > 0 && !numbers.is_empty()) else {
            let number = u32::try_from(self.texts).unwrap() + 1000;
            let path = self.env.codex_home().join(format!(
                "sessions/2026/11/20/rollout-2026-11-20T06-00-00-{}.jsonl",
                id(number)
            ));
            let texts = vec![self.message(), self.message()];
            let thread = Thread {
                rollouts: vec![(path, texts)],
                is_paginated: false,
            };
            self.threads.insert(number, thread);
            self.rewrite(number, 0);
            return format!("new {number}");
        };
        let last = self.threads[&number].rollouts.len() - 1;
        let place = self.dice.below(last as u64 + 1);
        let place = usize::try_from(place).unwrap();
        match kind {
            1 | 2 => {
                let texts = [self.message(), self.message()];
                let thread = self.threads.get_mut(&number).unwrap();
                thread.rollouts[last].1.extend(texts);
                self.rewrite(number, last);
                format!("grow {number}")
            }
            3 => {
                let own = format!("01a2{:04x}-{number:04x}-7ef3-b0ee-5caab8d3b455", self.texts);
                let path = self.env.codex_home().join(format!(
                    "sessions/2026/11/20/rollout-2026-11-20T07-00-00-{}_{own}.jsonl",
                    id(number)
                ));
                let texts = vec![self.message(), self.message()];
                let thread = self.threads.get_mut(&number).unwrap();
                thread.rollouts.push((path, texts));
                self.rewrite(number, last + 1);
                format!("rewind {number}")
            }
            4 if !self.is_base(number) => {
                self.rewritten.insert(number);
                let thread = self.threads.get_mut(&number).unwrap();
                thread.is_paginated = !thread.is_paginated;
                for place in 0..=last {
                    self.rewrite(number, place);
                }
                format!("migrate {number}")
            }
            5 => {
                let thread = self.threads.get_mut(&number).unwrap();
                let path = &mut thread.rollouts[place].0;
                let old = path.clone();
                *path = match path.to_str().unwrap().strip_suffix(".zst") {
                    Some(plain) => plain.into(),
                    None => format!("{}.zst", path.display()).into(),
                };
                fs::remove_file(old).unwrap();
                self.rewrite(number, place);
                format!("change the form of {number}")
            }
            6 => {
                let archived = self.env.codex_home().join("archived_sessions");
                fs::create_dir_all(&archived).unwrap();
                let thread = self.threads.get_mut(&number).unwrap();
                for (path, _) in &mut thread.rollouts {
                    let target = archived.join(path.file_name().unwrap());
                    fs::rename(&*path, &target).unwrap();
                    *path = target;
                }
                format!("archive {number}")
            }
            7 => self.fork(number, place),
            8 => {
                let thread = self.threads.remove(&number).unwrap();
                for (path, _) in thread.rollouts {
                    fs::remove_file(path).unwrap();
                }
                format!("delete {number}")
            }
            9 if last > 0 => {
                let thread = self.threads.get_mut(&number).unwrap();
                let (path, texts) = thread.rollouts.remove(place);
                fs::remove_file(path).unwrap();
                format!("lose a rollout of {number} with {texts:?}")
            }
            10 | 11 if !self.rewritten.contains(&number) => self.fork_with_base(number, place),
            _ if self.is_base(number) => "nothing".into(),
            _ => {
                self.rewritten.insert(number);
                // Two, so that the roles of the others stay.
                let len = self.threads[&number].rollouts[place].1.len() as u64;
                let at = usize::try_from(self.dice.below(len / 2) * 2).unwrap();
                let texts = &mut self.threads.get_mut(&number).unwrap().rollouts[place].1;
                let dropped: Vec<_> = texts.drain(at..(at + 2).min(texts.len())).collect();
                self.rewrite(number, place);
                format!("drop {dropped:?} of {number}")
            }
        }
    }

    /// Writes a fork, which has messages of another thread, under an id of its own.
    fn fork(&mut self, number: u32, place: usize) -> String {
        let fork = u32::try_from(self.texts).unwrap() + 5000;
        self.texts += 1;
        let (path, texts) = self.threads[&number].rollouts[place].clone();
        let name = format!("rollout-2026-11-20T08-00-00-{}.jsonl", id(fork));
        let kept = usize::try_from(self.dice.below(texts.len() as u64 + 1)).unwrap();
        let thread = Thread {
            rollouts: vec![(path.with_file_name(name), texts[..kept].to_vec())],
            is_paginated: self.threads[&number].is_paginated,
        };
        self.threads.insert(fork, thread);
        self.rewrite(fork, 0);
        format!("fork {number} as {fork}")
    }

    /// Writes a fork of a paginated thread, which has no messages of its base, only the place at which it leaves it.
    fn fork_with_base(&mut self, number: u32, place: usize) -> String {
        let fork = u32::try_from(self.texts).unwrap() + 5000;
        let own = vec![self.message(), self.message()];
        let (path, texts) = self.threads[&number].rollouts[place].clone();
        let base = parse_rollout_id(&path);
        let json = json!({"thread_id": base, "end_ordinal_exclusive": 1,
            "end_byte_offset": self.text(number, &path, &texts).len()});
        let name = format!("rollout-2026-11-20T08-00-00-{}.jsonl", id(fork));
        let base = Base {
            number,
            name: name_of(&path),
            messages: texts.len(),
            json,
        };
        self.bases.insert(name.clone(), base);
        let thread = Thread {
            rollouts: vec![(path.with_file_name(name), own)],
            is_paginated: self.threads[&number].is_paginated,
        };
        self.threads.insert(fork, thread);
        self.rewrite(fork, 0);
        format!("fork {number} as {fork}, with a base")
    }

    /// Returns true if a fork continues the thread. Codex does not rewrite such a thread: the place would change.
    fn is_base(&self, number: u32) -> bool {
        self.bases.values().any(|base| base.number == number)
    }

    /// Returns the bases of a thread that are gone with their thread, but archived.
    fn missing_bases(&self, thread: &Thread) -> Vec<&Base> {
        let mut missing: Vec<&Base> = Vec::new();
        for (path, _) in &thread.rollouts {
            let mut next = self.bases.get(&name_of(path));
            let is_archived = |base: &&Base| {
                let mut archives = self.archives.iter();
                archives.any(|all| {
                    let rollouts = all.get(&base.number);
                    rollouts.is_some_and(|rollouts| rollouts.contains_key(&base.name))
                })
            };
            let is_gone = |base: &&Base| !self.threads.contains_key(&base.number);
            while let Some(base) = next.filter(is_gone).filter(is_archived) {
                missing.push(base);
                next = self.bases.get(&base.name);
            }
        }
        missing
    }

    fn back_up(&mut self) {
        let time = format!(
            "{:02}:{:02}",
            self.archives.len() / 60,
            self.archives.len() % 60
        );
        back_up_at(&mut self.env, &time);
        let of_thread = |thread: &Thread| {
            let rollouts = thread.rollouts.iter();
            let rollouts = rollouts.map(|(path, texts)| (name_of(path), texts.clone()));
            rollouts.collect()
        };
        let threads = self.threads.iter();
        let archived = threads.map(|(number, thread)| (*number, of_thread(thread)));
        self.archives.push(archived.collect());
    }

    /// Returns the number of messages that each conversation lacks.
    fn expected(&self) -> BTreeMap<String, u64> {
        let mut expected = BTreeMap::new();
        for (number, thread) in &self.threads {
            let with_roles = |texts: &Vec<String>| -> Vec<String> {
                let texts = texts.iter().enumerate();
                texts.map(|(i, text)| format!("{}{text}", i % 2)).collect()
            };
            let of_rollout = |(name, texts): (&String, &Vec<String>)| {
                let mut held: BTreeMap<String, usize> = BTreeMap::new();
                let mut live = thread.rollouts.iter();
                let live = live.find(|(path, _)| name_of(path) == *name);
                for text in live.map_or_else(Vec::new, |(_, texts)| with_roles(texts)) {
                    *held.entry(text).or_default() += 1;
                }
                missing(&held, &with_roles(texts))
            };
            let bases = self.missing_bases(thread);
            let of_base = |archived: &Archived, base: &Base| {
                let rollout = archived
                    .get(&base.number)
                    .and_then(|all| all.get(&base.name));
                rollout.map_or(0, |texts| texts.len().min(base.messages))
            };
            let most = self.archives.iter().map(|archived| {
                let own = archived.get(number).into_iter().flatten();
                let bases = bases.iter().map(|base| of_base(archived, base));
                own.map(of_rollout).sum::<usize>() + bases.sum::<usize>()
            });
            if let Some(most) = most.max().filter(|most| *most > 0) {
                expected.insert(id(*number), most as u64);
            }
        }
        expected
    }

    fn check(&self, steps: &[String]) {
        let expected = self.expected();
        let run = self.env.run(["history", "losses", "--json"]);
        // The sequence also removes whole conversations, which can be a loss without a lost message.
        let run = if expected.is_empty() {
            run
        } else {
            run.code(5)
        };
        let json = run.json();
        let found = json["losses"].as_array().expect("losses");
        let found: BTreeMap<_, _> = found
            .iter()
            .map(|loss| {
                let id = loss["session_id"].as_str().unwrap().to_owned();
                (id, loss["lost_messages"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(found, expected, "after {steps:#?}");
    }
}

/// Runs a random sequence of edits and backups.
fn run_sequence(seed: u64) {
    let mut oracle = Oracle {
        env: TestEnv::new(),
        dice: Dice::seeded(seed),
        threads: BTreeMap::new(),
        archives: Vec::new(),
        bases: BTreeMap::new(),
        rewritten: BTreeSet::new(),
        texts: 0,
    };
    fs::create_dir_all(oracle.env.codex_home()).unwrap();
    let mut steps = Vec::new();
    for _ in 0..30 {
        let step = oracle.step();
        steps.push(step);
        if oracle.dice.below(4) == 0 {
            oracle.back_up();
            steps.push("backup".into());
        }
        if oracle.dice.below(3) == 0 {
            oracle.check(&steps);
        }
    }
    oracle.check(&steps);
}

#[test]
fn in_random_sequences_exactly_the_dropped_messages_are_losses() {
    for seed in variables::seeds(6) {
        run_sequence(seed);
    }
}
