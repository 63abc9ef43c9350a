//! Trouble of sync through the vault: a locked repository, a full disk, files that change while they are published. And
//! what the repository never contains.

use crate::support::env::{Run, TestEnv};
use crate::support::faults::{Dice, Mount};
use crate::support::pair::{META, ROLLOUT, SKILL};
use crate::support::pauses::wait_until;
use crate::support::restic;
use crate::sync_vault::{HasError as _, Machines};
use crate::vault_faults::replace_verb;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

/// Starts restic itself and returns it when it has locked the repository.
fn start_with_lock(machines: &Machines, args: &[&str]) -> std::process::Child {
    let mut command = machines.0.other_program(restic::program().unwrap());
    let child = command
        .args(args)
        .env("RESTIC_REPOSITORY", machines.0.path("vault"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("restic locks", || {
        let locks = fs::read_dir(machines.0.path("vault/locks")).unwrap();
        // restic writes them under another name first.
        locks.flatten().any(|lock| lock.file_name().len() == 64)
    });
    child
}

/// Returns machines of which `b` has not synced the newest text of `a`, and `a` not the file of `b`.
fn machines_with_news() -> Option<Machines> {
    let machines = Machines::new()?;
    machines.put("a", SKILL, "of a");
    machines.apply("a");
    machines.apply("b");
    machines.put("a", SKILL, "newer");
    machines.apply("a");
    machines.put("b", ROLLOUT, META);
    Some(machines)
}

#[test]
fn a_run_waits_for_an_exclusive_lock_before_it_changes_anything() {
    let Some(machines) = machines_with_news() else {
        return;
    };
    // A lock of this host that may belong to a container.
    let mut prune = start_with_lock(&machines, &["prune"]);
    prune.kill().unwrap();
    prune.wait().unwrap();
    let before = machines.tree();
    let errors = machines.0.path("home/errors");
    let mut child = machines
        .command("b", &["run", "--apply"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    wait_until("it waits", || {
        let shown = fs::read_to_string(&errors).unwrap();
        shown.contains("waiting for another process to finish")
    });
    // A plan needs no lock.
    machines.sync("b", &["plan"]).code(0);
    assert_eq!(machines.tree().0, before.0);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(machines.tree().0, before.0);
    machines.restic(&["unlock"]).code(0);
    machines.apply("b");
    assert_eq!(machines.text("b", SKILL), "newer");
    machines.apply("a");
    assert_eq!(machines.text("a", ROLLOUT), META);
}

#[test]
fn a_backup_of_another_machine_does_not_block_a_run() {
    let Some(machines) = machines_with_news() else {
        return;
    };
    let mut backup = start_with_lock(&machines, &["backup", "--stdin"]);
    machines.apply("b");
    machines.apply("a");
    assert_eq!(machines.text("b", SKILL), "newer");
    assert_eq!(machines.text("a", ROLLOUT), META);
    assert!(backup.try_wait().unwrap().is_none());
    backup.stdin.take().unwrap().write_all(b"text").unwrap();
    assert!(backup.wait().unwrap().success());
    machines.restic(&["check", "--read-data"]).code(0);
}

#[test]
fn a_run_leaves_old_snapshots_in_a_locked_repository() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.configure("a", "keep_snapshots = 1\n");
    for n in 0..2 {
        machines.put("a", SKILL, &format!("text {n}"));
        machines.apply("a");
    }
    let mut backup = start_with_lock(&machines, &["backup", "--stdin"]);
    machines.put("a", SKILL, "newer");
    let run = machines.sync("a", &["run", "--apply"]).code(0);
    run.has_error("old snapshots were not removed: another process has locked the vault");
    assert_eq!(machines.snapshots(), 3);
    backup.kill().unwrap();
    backup.wait().unwrap();
}

#[test]
fn changes_that_cannot_be_published_after_files_arrived_are_published_by_the_next_run() {
    let Some(machines) = machines_with_news() else {
        return;
    };
    let snapshots = machines.snapshots();
    let refusal = "echo 'Fatal: no space left on device' >&2; exit 1";
    replace_verb(&machines.0, "backup", refusal);
    let run = machines.sync("b", &["run", "--apply"]).code(1);
    // What arrived is reported, and no hint says the contrary.
    assert!(run.stdout.contains("1 ← vault"), "{run}");
    assert!(!run.stderr.contains("nothing was changed"), "{run}");
    run.has_error("are not published yet");
    assert_eq!(machines.text("b", SKILL), "newer");
    assert_eq!(machines.snapshots(), snapshots);
    fs::remove_file(machines.0.path("bin/restic")).unwrap();
    machines.apply("b");
    machines.apply("a");
    assert_eq!(machines.text("a", ROLLOUT), META);
    assert_eq!(machines.text("a", SKILL), "newer");
}

/// Returns machines of which `b` has its homes on a disk of `kib` KiB. `None` if mounting is not permitted.
fn machine_on_small_disk(kib: u64) -> Option<(Machines, Mount)> {
    restic::program()?;
    let env = TestEnv::new();
    restic::new_repository(&env.path("vault"));
    let disk = Mount::tmpfs(&env.path("small"), kib)?;
    for name in ["codex-b", "manager-b"] {
        fs::create_dir(env.path("small").join(name)).unwrap();
        symlink(env.path("small").join(name), env.path(name)).unwrap();
    }
    Some((Machines::in_vault(env, "vault"), disk))
}

#[test]
fn i3_a_full_disk_while_files_arrive_publishes_nothing_and_leaves_only_complete_files() {
    let Some((machines, _disk)) = machine_on_small_disk(4096) else {
        return;
    };
    let noise = |seed| {
        let bytes = Dice::seeded(seed).bytes(800_000);
        let letters = bytes.into_iter().map(|byte| char::from(b'a' + byte % 16));
        letters.collect::<String>()
    };
    let long = format!("{META}{{\"n\":\"{}\"}}\n", noise(1));
    machines.put("a", SKILL, &noise(2));
    machines.put("a", ROLLOUT, &long);
    machines.apply("a");
    machines.put("b", "skills/own/SKILL.md", "of b");
    let snapshots = machines.snapshots();
    let filler = machines.0.path("small/filler");
    let mut refused = 0;
    for kib in [4096, 3700, 3300, 2900, 2500, 2300, 2100] {
        let _ = fs::write(&filler, vec![1; kib << 10]);
        let run = machines.sync("b", &["run", "--apply"]);
        fs::remove_file(&filler).unwrap();
        if run.code == 0 {
            break;
        }
        refused += 1;
        run.code(1).has_error("free some disk space");
        assert_eq!(machines.snapshots(), snapshots, "{kib}");
        for (path, text) in [(SKILL, &noise(2)), (ROLLOUT, &long)] {
            let is_whole = machines.has("b", path) && machines.text("b", path) == *text;
            assert!(is_whole || !machines.has("b", path), "{kib} {path}");
        }
    }
    assert!(refused > 3);
    machines.apply("b");
    machines.apply("a");
    assert_eq!(machines.text("b", ROLLOUT), long);
    assert_eq!(machines.text("b", SKILL), noise(2));
    assert_eq!(machines.text("a", "skills/own/SKILL.md"), "of b");
    let left = fs::read_dir(machines.0.path("manager-b/sync/staging")).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("staging-")
    });
    assert_eq!(left.count(), 0);
}

/// Replaces `restic backup` by one that first rewrites the conversation of `a` in place, once, and then runs `end`.
fn rewrite_during_backup(machines: &Machines, text: &str, end: &str) {
    let rollout = machines.home("a").join(ROLLOUT);
    let new = machines.0.write("home/new", text);
    let script = format!(
        "if [ ! -e \"$HOME/rewritten\" ]; then\ntouch \"$HOME/rewritten\"; cat '{}' > '{}'\n\
         real \"$@\"; code=$?\n{end}\nexit $code\nfi",
        new.display(),
        rollout.display()
    );
    replace_verb(&machines.0, "backup", &script);
}

#[test]
fn a_conversation_rewritten_while_it_is_published_is_published_again() {
    for end in ["", "kill -9 $PPID"] {
        let Some(machines) = Machines::new() else {
            return;
        };
        let line = |n: u32| format!("{{\"n\":\"{n}\"}}\n");
        machines.put("a", SKILL, "of a");
        machines.apply("a");
        machines.apply("b");
        machines.put("a", ROLLOUT, &(META.to_owned() + &line(1) + &line(2)));
        let rewritten = META.to_owned() + &line(3) + &line(4) + &line(5);
        rewrite_during_backup(&machines, &rewritten, end);
        let run = Run::of_output(machines.command("a", &["run", "--apply"]).output().unwrap());
        assert_eq!(run.code == 0, end.is_empty(), "{run}");
        assert!(machines.0.path("home/rewritten").exists());
        if !end.is_empty() {
            // The snapshot does not match its manifest.
            machines.sync("b", &["run", "--apply"]).code(5);
            assert!(!machines.has("b", ROLLOUT));
        }
        for name in ["a", "b", "a"] {
            machines.apply(name);
        }
        for name in ["a", "b"] {
            assert_eq!(machines.text(name, ROLLOUT), rewritten, "{name} {end}");
        }
    }
}

/// Returns true if a file below `folder` contains one of these texts.
fn find_in_files(folder: &Path, texts: &[&str]) -> Option<String> {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    let mut files = files.filter(|file| file.file_type().is_file());
    files.find_map(|file| {
        let bytes = fs::read(file.path()).unwrap();
        let mut texts = texts.iter();
        let found = texts.find(|text| bytes.windows(text.len()).any(|w| w == text.as_bytes()));
        found.map(|text| format!("{text} in {}", file.path().display()))
    })
}

#[test]
fn i4_no_message_is_readable_in_the_repository_and_no_login_is_in_it() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let messages = [
        "marked-message-of-a",
        "marked-prompt-of-b",
        "marked-title-of-c",
    ];
    let tokens = [
        "eyJhbGciOiJIUzI1NiJ9.marked-access",
        "rt-marked-refresh",
        "sk-proj-Marked0123456789abcdefghijklmnopqrstuv",
    ];
    for name in ["a", "b", "c"] {
        let auth = format!(
            "{{\"OPENAI_API_KEY\":\"{}\",\"tokens\":{{\"access_token\":\"{}\",\"refresh_token\":\"{}\"}}}}",
            tokens[2], tokens[0], tokens[1]
        );
        for path in ["auth.json", "skills/mine/auth.json", "old_auth.json"] {
            machines.put(name, path, &auth);
        }
        machines.put(
            name,
            "skills/deploy/SKILL.md",
            &format!("use {}\n", tokens[2]),
        );
        machines.put(name, "config.toml", &format!("token = \"{}\"\n", tokens[2]));
        machines.put(name, &format!("skills/of-{name}/SKILL.md"), name);
    }
    machines.put(
        "a",
        ROLLOUT,
        &format!("{META}{{\"text\":\"{}\"}}\n", messages[0]),
    );
    let prompt = format!(
        "{{\"session_id\":\"x\",\"ts\":1,\"text\":\"{}\"}}\n",
        messages[1]
    );
    machines.put("b", "history.jsonl", &prompt);
    let title = format!(
        "{{\"id\":\"01a1f78b-4d30-7ef3-b0ee-5caab8d3b455\",\"thread_name\":\"{}\"}}\n",
        messages[2]
    );
    machines.put("c", "session_index.jsonl", &title);
    for name in ["a", "b", "c", "a", "b", "c"] {
        let run = machines.sync(name, &["run", "--apply"]);
        assert!(run.code == 0 || run.code == 6, "{run}");
    }
    let all = [&messages[..], &tokens].concat();
    let readable = find_in_files(&machines.0.path("vault"), &all);
    assert_eq!(readable, None);
    let listed = machines.restic(&["snapshots", "--json"]).code(0).json();
    let snapshots = listed.as_array().unwrap();
    assert!(snapshots.len() > 4);
    for (n, snapshot) in snapshots.iter().enumerate() {
        let id = snapshot["id"].as_str().unwrap();
        let files = machines.restic(&["ls", id]).code(0).stdout;
        for never in ["auth.json", "config.toml", ".sqlite"] {
            assert!(!files.contains(never), "{never}: {files}");
        }
        let target = machines.0.path(&format!("restored/{n}"));
        let target = target.to_str().unwrap();
        machines
            .restic(&["restore", id, "--target", target])
            .code(0);
    }
    let restored = machines.0.path("restored");
    assert_eq!(find_in_files(&restored, &tokens), None);
    for message in messages {
        assert!(find_in_files(&restored, &[message]).is_some(), "{message}");
    }
    machines.restic(&["check", "--read-data"]).code(0);
}
