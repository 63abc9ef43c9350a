//! `mcp` reaches conversations of the Codex home and the search index, and nothing else.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{PROGRAM, TestEnv, assert_same_tree};
use crate::support::mcp_client::McpClient;
use crate::support::profiles::save_alice_and_bob;
use crate::support::skips::skip;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

/// Creates a machine with two accounts, three conversations, and a secret outside the homes.
fn world() -> TestEnv {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    for number in 1..=3 {
        write(
            &env,
            &Conversation::new(number, number.into(), "About it", "The needle"),
        );
    }
    env.write("secret/rollout.jsonl", "a needle that is no conversation");
    env
}

/// Calls of all tools, also with paths in place of names.
fn calls(env: &TestEnv) -> Vec<Value> {
    let paths = [
        env.path("secret/rollout.jsonl"),
        env.path("secret"),
        env.codex_home().join("auth.json"),
        env.codex_home().join("sessions/../auth.json"),
        env.manager_home().join("profiles/work/auth.json"),
        PathBuf::from("/etc/passwd"),
        PathBuf::from("../../../etc/passwd"),
    ];
    let mut calls = vec![
        (
            "search_conversations",
            json!({"query": "needle", "scope": "all"}),
        ),
        ("search_conversations", json!({"query": "nothing"})),
        (
            "search_conversations",
            json!({"query": "needle", "since": "2d", "role": "assistant"}),
        ),
        ("open_conversation", json!({"id": id(1)})),
        (
            "open_conversation",
            json!({"id": id(2), "turn": 1, "around": 9}),
        ),
        ("open_conversation", json!({"id": "About it"})),
        ("list_conversations", json!({"scope": "all"})),
    ];
    for path in &paths {
        calls.push(("open_conversation", json!({ "id": path })));
        calls.push((
            "search_conversations",
            json!({"query": path, "project": path}),
        ));
    }
    let calls = calls.into_iter();
    calls
        .map(|(name, arguments)| json!({"name": name, "arguments": arguments}))
        .collect()
}

#[test]
fn the_server_opens_no_file_outside_the_homes_prints_no_login_and_writes_the_index_only() {
    let env = world();
    let _ = env.run(["find", "needle"]).code(0);
    let names = fs::read_dir(env.manager_home()).expect("the manager home");
    let names = names.map(|entry| entry.expect("entry").file_name());
    let names: Vec<_> = names.filter(|name| name != "index").collect();
    let names = names
        .iter()
        .map(|name| format!("home/.codex-manager/{}", name.display()));
    let homes: Vec<_> = names
        .chain(["home/.codex", "secret"].map(Into::into))
        .collect();
    let before: Vec<_> = homes.iter().map(|home| env.tree(home)).collect();
    let entries = || {
        fs::read_dir(env.manager_home())
            .expect("the manager home")
            .count()
    };
    let count = entries();
    let mut input = String::new();
    for (number, params) in calls(&env).iter().enumerate() {
        let call =
            json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params});
        input += &call.to_string();
        input.push('\n');
    }
    env.write("input", &input);
    // A file for each thread, so that calls are whole lines.
    let log = env.path("strace");
    let traced = env
        .other_program("strace")
        .args(["-ff", "-e", "trace=%file,%network,execve", "-o"])
        .arg(&log)
        .args([PROGRAM, "mcp"])
        .stdin(fs::File::open(env.path("input")).expect("open"))
        .stderr(Stdio::null())
        .output();
    let output = match traced {
        Ok(output) => output,
        Err(e) => return skip("strace", &e.to_string()),
    };
    assert!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(answers.lines().count(), calls(&env).len());
    for text in [
        "no conversation.",
        "refresh_token",
        "access_token",
        "root:x:0",
    ] {
        assert!(!answers.contains(text), "{answers}");
    }
    let logs = fs::read_dir(env.path("")).expect("the logs");
    let logs = logs.map(|entry| entry.expect("entry").path());
    let logs = logs.filter(|path| path.to_string_lossy().contains("/strace."));
    let log: String = logs
        .map(|path| fs::read_to_string(path).expect("a log"))
        .collect();
    let root = env.path("");
    let root = root.to_str().expect("UTF-8");
    let mut opened = 0;
    for call in log.lines().filter(|line| !line.contains(" = -1 ")) {
        let path = call.split('"').nth(1).unwrap_or_default();
        let is_open = call.starts_with("open");
        // Of a path below a descriptor, the end is enough.
        // Logins are read, so that no answer has one of their tokens.
        let is_private = ["secret", "etc/passwd"]
            .iter()
            .any(|name| path.contains(name));
        assert!(!(is_open && is_private), "{call}");
        opened += u32::from(is_open && path.starts_with(root));
        // Names without a folder are below a folder of the homes, whose changes are compared.
        let is_change = ["O_WRONLY", "O_RDWR", "O_CREAT"]
            .iter()
            .any(|flag| call.contains(flag));
        let is_elsewhere = path.starts_with('/')
            && ![root, "/proc/self/fd/", "/dev/null"]
                .iter()
                .any(|place| path.starts_with(place));
        assert!(!(is_change && is_elsewhere), "{call}");
        assert!(!call.contains("AF_INET"), "{call}");
    }
    assert!(opened > 0, "{log}");
    let runs = log.matches("execve(").count();
    assert_eq!(runs, 1, "another program was started");
    for (home, before) in homes.into_iter().zip(before) {
        assert_same_tree(&before, &env.tree(&home));
    }
    assert_eq!(entries(), count, "a new file in the manager home");
}

/// A link in place of a rollout is not followed.
#[test]
fn a_rollout_outside_the_home_is_not_read() {
    let env = world();
    let outside = Conversation::new(9, 0, "Outside", "A secret needle");
    write(&env, &outside);
    let inside = env.codex_home().join(outside.relative());
    let moved = env.path("secret").join(inside.file_name().expect("a name"));
    fs::rename(&inside, &moved).expect("move");
    symlink(&moved, &inside).expect("link");
    let mut client = McpClient::start(&env);
    assert_eq!(client.search("needle").ids().len(), 3);
    for name in [
        id(9),
        moved.display().to_string(),
        inside.display().to_string(),
    ] {
        let opened = client.call("open_conversation", json!({ "id": name }));
        assert!(
            opened.is_error && !opened.text.contains("secret needle"),
            "{opened:?}"
        );
    }
    assert!(client.close().success());
}

/// Numbers, times and names at the ends of their ranges are answered.
#[test]
fn extreme_arguments_are_answered() {
    let env = world();
    let mut client = McpClient::start(&env);
    let huge = u64::MAX.to_string();
    let times = [
        "99999999999d",
        "9999999999999999999y",
        "-1d",
        "0d",
        "262142-12-31",
        "-262143-01-01",
        "0000-00-00",
        "2026-13",
        "2026-02-30",
        "tomorrow",
        "\u{0}",
        "",
        "日",
        "1e9d",
    ];
    for time in times {
        for (tool, arguments) in [
            (
                "search_conversations",
                json!({"query": "needle", "since": time}),
            ),
            ("list_conversations", json!({"since": time})),
        ] {
            assert!(!client.call(tool, arguments).text.is_empty(), "{time}");
        }
    }
    for cursor in [
        &*huge,
        "999999999",
        "-1",
        "1.5",
        "99999999999999999999999",
        "٣",
    ] {
        for (tool, arguments) in [
            (
                "search_conversations",
                json!({"query": "needle", "cursor": cursor}),
            ),
            (
                "list_conversations",
                json!({"cursor": cursor, "limit": u64::MAX}),
            ),
            (
                "open_conversation",
                json!({"id": id(1), "cursor": cursor, "max_chars": u64::MAX}),
            ),
        ] {
            assert!(!client.call(tool, arguments).text.is_empty(), "{cursor}");
        }
    }
    for (turn, around) in [(0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX), (1, 1)] {
        let arguments = json!({"id": id(1), "turn": turn, "around": around});
        assert!(!client.call("open_conversation", arguments).text.is_empty());
    }
    for query in [
        "*",
        "\"",
        "\"\"",
        "-",
        "--",
        "NEAR(a b)",
        "a AND b",
        "a\u{0}b",
        "((((",
        "col:x",
        "\u{202e}x",
        "'; DROP TABLE x",
    ] {
        let arguments = json!({"query": query, "scope": "all"});
        assert!(
            !client
                .call("search_conversations", arguments)
                .text
                .is_empty()
        );
    }
    assert_eq!(client.search("needle").ids().len(), 3);
    assert!(client.close().success());
}
