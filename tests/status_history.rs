//! `status --history` shows observations over time, and moved resets.

use crate::support::env::TestEnv;
use crate::support::sample::{alice, bob};
use crate::support::sign_in::write_auth;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Creates a home in which Alice is signed in, without a Codex to query.
fn world() -> TestEnv {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    env
}

/// Records pasted figures at a given time; returns stderr.
fn record_figures(env: &mut TestEnv, now: &str, left: u8, resets: &str) -> String {
    env.set("CODEX_MANAGER_NOW", format!("2026-11-{now}:00Z"));
    let text = format!("  Weekly limit:         [██░░] {left}% left (resets {resets})\n");
    env.write("pasted", text);
    env.run(["status", "--status-file", "pasted"])
        .code(0)
        .stderr
}

#[test]
fn a_moved_reset_is_reported_at_once_and_in_the_history() {
    let mut env = world();
    let _ = record_figures(&mut env, "18T09:00", 90, "15:55 on 24 Nov");
    let _ = record_figures(&mut env, "19T09:00", 40, "15:55 on 24 Nov");
    // A difference of a few minutes is jitter of the server, not a move.
    let output = record_figures(&mut env, "19T21:00", 40, "16:01 on 24 Nov");
    assert!(!output.contains("moved"), "{output}");
    let output = record_figures(&mut env, "20T12:00", 38, "15:55 on 27 Nov");
    let moved = "weekly reset moved from Tue 24 Nov 15:55 to Fri 27 Nov 15:55 since yesterday";
    assert!(output.contains(moved), "{output}");
    insta::assert_snapshot!(env.run(["status", "--history"]).code(0), @r"
    exit 0
    --- stdout
    alice@example.com
      SEEN              LEFT            RESETS            CHANGE
    weekly  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
      Fri 20 Nov 12:00  ███░░░░░  38 %  Fri 27 Nov 15:55  moved
      Thu 19 Nov 09:00  ███░░░░░  40 %  Tue 24 Nov 15:55
      Wed 18 Nov 09:00  ███████░  90 %  Tue 24 Nov 15:55

    weekly reset moved from Tue 24 Nov 15:55 to Fri 27 Nov 15:55 since yesterday
    --- stderr
    ");
    let view = env.run(["status", "--history", "--json"]).code(0).json();
    assert_eq!(view["command"], "status --history");
    assert_eq!(view["looks"], 3);
    assert_eq!(
        view["windows"][0]["points"][1],
        json!({"observed_at": "2026-11-19T09:00:00+00:00", "until": "2026-11-19T21:00:00+00:00",
               "used_percent": 60.0, "resets_at": "2026-11-24T15:55:00+00:00", "change": "none"})
    );
    assert_eq!(
        view["moved"],
        json!([{"limit_id": "codex", "label": "weekly", "minutes": 10080,
                "from": "2026-11-24T15:55:00+00:00", "to": "2026-11-27T15:55:00+00:00",
                "seen_before": "2026-11-19T21:00:00+00:00",
                "seen_after": "2026-11-20T12:00:00+00:00"}])
    );
}

#[test]
fn a_new_window_is_not_reported_as_a_moved_reset() {
    let mut env = world();
    let _ = record_figures(&mut env, "18T09:00", 10, "15:55 on 18 Nov");
    let output = record_figures(&mut env, "19T09:00", 99, "15:55 on 25 Nov");
    assert!(!output.contains("moved"), "{output}");
    let output = env.run(["status", "--history"]).code(0);
    assert!(output.stdout.contains("new window"), "{output}");
    assert!(!output.stdout.contains("moved"), "{output}");
}

/// Repeats the first observation of a file every half an hour, with other figures, up to the limit.
fn fill(path: &Path) {
    let text = fs::read_to_string(path).expect("the observations");
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    let first = file["looks"][0].clone();
    let looks = (0..336).map(|i| {
        let mut look = first.clone();
        let (day, hour, minute) = (1 + i / 48, i / 2 % 24, i % 2 * 30);
        let at = format!("2026-11-{day:02}T{hour:02}:{minute:02}:00+00:00");
        look["observed_at"] = json!(at);
        look["until"] = json!(at);
        look["windows"][0]["used_percent"] = json!(f64::from(i % 90));
        look
    });
    file["looks"] = looks.collect();
    fs::write(path, file.to_string()).expect("write");
}

#[test]
fn histories_are_files_per_account_of_limited_size_and_cooldown_json_stays_small() {
    let mut env = world();
    let _ = record_figures(&mut env, "01T00:00", 90, "15:55 on 24 Nov");
    let files = fs::read_dir(env.manager_home().join("observations"));
    let files: Vec<_> = files.expect("list").flatten().collect();
    assert_eq!(files.len(), 1);
    fill(&files[0].path());
    for (now, left) in [("09T00:00", 80), ("09T00:30", 70), ("09T01:00", 60)] {
        let _ = record_figures(&mut env, now, left, "15:55 on 24 Nov");
    }
    let cooldown = env.manager_home().join("cooldown.json");
    assert!(cooldown.metadata().expect("stat").len() < 2000);
    let view = env.run(["status", "--history", "--json"]).code(0).json();
    assert_eq!(view["looks"], 336);
    write_auth(&env.codex_home(), &bob());
    let view = env.run(["status", "--history", "--json"]).code(0).json();
    assert_eq!((&view["looks"], &view["windows"]), (&json!(0), &json!([])));
    let alice = ["status", "--history", "--account", "alice", "--json"];
    assert_eq!(env.run(alice).code(0).json()["looks"], 336);
    let _ = env
        .run(["status", "--history", "--account", "nobody"])
        .code(1);
}

#[test]
fn the_next_record_keeps_a_copy_of_a_damaged_history_and_a_newer_history_is_refused() {
    let mut env = world();
    let _ = record_figures(&mut env, "01T00:00", 90, "15:55 on 24 Nov");
    let folder = env.manager_home().join("observations");
    let files: Vec<_> = fs::read_dir(&folder).expect("list").flatten().collect();
    let alice = ["status", "--history", "--account", "alice", "--json"];
    fs::write(files[0].path(), "{").expect("write");
    assert_eq!(env.run(alice).code(0).json()["looks"], 0);
    let _ = record_figures(&mut env, "20T12:00", 38, "15:55 on 27 Nov");
    assert_eq!(env.run(alice).code(0).json()["looks"], 1);
    assert_eq!(fs::read_dir(&folder).expect("list").count(), 2);
    let newer = json!({"schema": 9}).to_string();
    fs::write(files[0].path(), newer).expect("write");
    let _ = env.run(alice).code(5);
}

#[test]
fn a_dry_run_adds_no_observation_to_the_history() {
    let mut env = world();
    let _ = record_figures(&mut env, "18T09:00", 90, "15:55 on 24 Nov");
    env.write(
        "pasted",
        "  Weekly limit: [█] 10% left (resets 15:55 on 27 Nov)\n",
    );
    let _ = env.run(["status", "--dry-run", "--status-file", "pasted"]);
    let view: Value = env.run(["status", "--history", "--json"]).code(0).json();
    assert_eq!(view["looks"], 1);
}
