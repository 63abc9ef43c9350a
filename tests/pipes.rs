//! No command blocks on a named pipe in place of a known file.

use crate::every_command::{Leaf, assert_orderly_exit, leaves, world};
use crate::support::create_pipe;
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::injection::sample_evenly;
use crate::support::sample::{FIRST, rollout};
use std::fs;
use std::path::{Path, PathBuf};

/// Replaces the path with a named pipe.
fn put_pipe(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).expect("remove"),
        Ok(_) => fs::remove_file(path).expect("remove"),
        Err(_) => fs::create_dir_all(path.parent().expect("parent")).expect("folder"),
    }
    create_pipe(path).expect("a pipe");
}

/// Returns the files that commands open by a fixed name.
fn known_files(env: &TestEnv) -> Vec<PathBuf> {
    let in_codex = [
        "auth.json",
        "auth.json.lock",
        "auth.lock",
        "config.toml",
        "installation_id",
        "version.json",
        "history.jsonl",
        "session_index.jsonl",
        "session_index.jsonl.lock",
        "state_5.sqlite",
        "state_5.sqlite-wal",
        "goals_1.sqlite",
        "AGENTS.md",
        "21apr_old@example.com_auth.json",
        "app-server-daemon/daemon.pid",
        "rules/default.rules",
    ];
    let in_manager = [
        ".lock",
        "config.toml",
        "cooldown.json",
        "inventory.json",
        "profiles/alice/auth.json",
        "profiles/alice/profile.json",
        "profiles/.switch.json",
    ];
    let first = rollout(FIRST);
    let lock = format!("thread-writer-locks/{FIRST}.lock");
    let archived = format!("archived_sessions/rollout-2026-11-01T10-00-00-{FIRST}.jsonl.zst");
    let codex = in_codex.map(PathBuf::from).into_iter();
    let codex = codex.chain([first, lock.into(), archived.into()]);
    let mut known: Vec<_> = codex.map(|name| env.codex_home().join(name)).collect();
    known.extend(in_manager.map(|name| env.manager_home().join(name)));
    let backups = fs::read_dir(env.manager_home().join("backups")).expect("a folder");
    known.extend(backups.map(|entry| entry.expect("entry").path()));
    known
}

#[test]
fn no_command_waits_for_a_pipe() {
    let leaves = leaves();
    let names = known_files(&prepared()).len();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if at >= names {
                        break;
                    }
                    let env = prepared();
                    let mut known = known_files(&env);
                    known.sort();
                    each_command_ends(&env, &known[at], &leaves);
                }
            });
        }
    });
}

fn prepared() -> TestEnv {
    let env = world();
    let _ = env.run(["profile", "save", "alice"]).code(0);
    env
}

/// Runs a third of the commands with the pipe.
fn each_command_ends(env: &TestEnv, pipe: &Path, leaves: &[Leaf]) {
    let some = sample_evenly(leaves.len().div_ceil(3), leaves, &mut Dice::new());
    for leaf in some.iter().filter(|leaf| leaf.words != ["demo"]) {
        put_pipe(pipe);
        let what = format!("{} {}", leaf.words.join(" "), pipe.display());
        // Arguments that replace answers to questions.
        let more: &[&str] = match &*leaf.words[0] {
            "restore" => &["--yes", "latest"],
            "use" => &["--yes", "alice"],
            _ => &["--yes"],
        };
        let run = env.run_to_its_end(leaf.with(more));
        assert_orderly_exit(&what, &run);
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_reported_by_name() {
    let commands: [&[&str]; 7] = [
        &["doctor"],
        &["verify", "--all"],
        &["storage"],
        &["current"],
        &["history", "check"],
        &["backup", "--no-status"],
        &["restore", "latest"],
    ];
    // Codes in the order of the commands.
    for (name, expected) in [
        ("home/.codex/nothing-known", [0, 0, 0, 0, 5, 0, 0]),
        ("home/.codex/auth.json", [5, 0, 0, 5, 5, 6, 0]),
        ("home/.codex/config.toml", [5, 0, 0, 0, 5, 6, 5]),
        ("home/.codex/history.jsonl", [5, 0, 0, 0, 5, 6, 5]),
        ("home/.codex/session_index.jsonl", [5, 0, 0, 0, 1, 6, 5]),
        ("home/.codex/state_5.sqlite", [5, 0, 0, 0, 1, 6, 5]),
        ("home/.codex/goals_1.sqlite", [5, 0, 0, 0, 5, 6, 0]),
        ("home/.codex-manager/config.toml", [5, 4, 4, 4, 4, 4, 4]),
        ("home/.codex-manager/cooldown.json", [5, 0, 0, 0, 5, 0, 0]),
        ("home/.codex-manager/inventory.json", [5, 0, 0, 0, 5, 0, 0]),
    ] {
        let env = prepared();
        let pipe = env.path(name);
        for (args, code) in commands.iter().zip(expected) {
            put_pipe(&pipe);
            let run = env.run_to_its_end(*args);
            assert_eq!(run.code, code, "{name} {args:?}\n{run}");
            let file = pipe.file_name().expect("name").to_str().expect("text");
            let is_needed = code != 0 && *args != ["history", "check"] || code == 1;
            let is_named = [&run.stdout, &run.stderr].iter().any(|t| t.contains(file));
            assert!(is_named || !is_needed, "{name} {args:?}\n{run}");
        }
    }
}

#[test]
fn a_socket_or_a_folder_in_place_of_a_file_is_reported() {
    for name in ["config.toml", "history.jsonl", "goals_1.sqlite"] {
        for is_folder in [false, true] {
            let env = prepared();
            let path = env.codex_home().join(name);
            put_pipe(&path);
            fs::remove_file(&path).expect("remove");
            let _socket = if is_folder {
                fs::create_dir(&path).expect("folder");
                None
            } else {
                Some(std::os::unix::net::UnixListener::bind(&path).expect("a socket"))
            };
            // A restore does not put a folder in the place of settings or of a database.
            let is_kept = is_folder && name == "history.jsonl";
            let code = if is_kept { 0 } else { 6 };
            let _ = env.run_to_its_end(["backup", "--no-status"]).code(code);
            let code = if is_folder && name.ends_with(".sqlite") {
                0
            } else {
                5
            };
            let run = env.run_to_its_end(["doctor"]).code(code);
            assert!(run.stdout.contains(name) || code == 0, "{run}");
        }
    }
}
