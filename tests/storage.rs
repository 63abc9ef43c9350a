//! `storage`: the disk usage of a home.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{put, set_time};
use crate::support::terminal::Terminal;
use rusqlite::Connection;
use std::fs;

fn rollout(env: &TestEnv, day: &str, n: u32, cwd: &str, bytes: usize) {
    let id = format!("01a10000-0000-7000-8000-{n:012x}");
    let meta = format!(
        "{{\"timestamp\":\"{day}T00:00:00Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"cwd\":\"{cwd}\"}}}}\n"
    );
    let text = format!("{meta}{}", "x".repeat(bytes - meta.len()));
    let folder = day.replace('-', "/");
    put(
        env,
        format!("sessions/{folder}/rollout-{day}T00-00-00-{id}.jsonl"),
        text,
    );
}

#[test]
fn the_report_has_kinds_projects_months_and_the_largest_conversations() {
    let env = TestEnv::new();
    rollout(&env, "2026-10-01", 1, "/proj/one", 4_000_000);
    rollout(&env, "2026-11-05", 2, "/proj/one", 2_000_000);
    rollout(&env, "2026-11-10", 3, "/proj/two", 1_000_000);
    let old = "sessions/2026/10/01/rollout-2026-10-01T00-00-00-01a10000-0000-7000-8000-000000000001.jsonl";
    set_time(&env.codex_home().join(old), 1_790_812_800, 0);
    put(&env, "packages/big", vec![0; 9_000_000]);
    put(&env, ".tmp/x", vec![0; 70_000]);
    put(&env, "config.toml", "");
    let database = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT, title TEXT, cwd TEXT);
             INSERT INTO threads VALUES('01a10000-0000-7000-8000-000000000002', '', 'two', '/row');
             CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(200000)); DROP TABLE t;",
        )
        .unwrap();
    database.close().unwrap();
    let before = env.tree("home");
    let run = env.run(["storage", "--json"]).code(0);
    assert_same_tree(&before, &env.tree("home"));
    let document = run.json();
    let sum: u64 = document["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(document["total_bytes"], sum);
    let project = |i: usize| {
        let project = &document["projects"][i];
        (
            project["name"].as_str().unwrap(),
            project["bytes"].as_u64().unwrap(),
        )
    };
    assert_eq!(project(0), ("/proj/one", 4_000_000));
    // The database takes precedence over the rollout.
    assert_eq!(project(1), ("/row", 2_000_000));
    assert_eq!(project(2), ("/proj/two", 1_000_000));
    assert_eq!(document["months"][1]["name"], "2026-11");
    assert_eq!(document["months"][1]["bytes"], 3_000_000);
    assert_eq!(document["largest"][1]["title"], "two");
    assert_eq!(document["growth"]["days"], 30);
    assert_eq!(document["growth"]["bytes_per_day"], 100_000);
    let text = env.run(["storage"]).code(0).stdout;
    let shown: Vec<_> = text
        .lines()
        .take_while(|l| !l.contains("grew by"))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    16.3 MB in 7 files: [ROOT]/home/.codex

    KIND           SIZE  FILES  RECLAIMABLE  SHARE
    packages     9.0 MB      1       9.0 MB   55 % ████████▉
    rollouts     7.0 MB      3       4.0 MB   43 % ██████▉
    databases  213.0 kB      1     200.7 kB    1 % ▎
    caches      70.0 kB      1      70.0 kB   <1 % ▏
    other           0 B      1            -    0 %

    PROJECT      SIZE  CONVERSATIONS  SHARE
    /proj/one  4.0 MB              1   57 % █████████▏
    /row       2.0 MB              1   29 % ████▋
    /proj/two  1.0 MB              1   14 % ██▎

    MONTH      SIZE  CONVERSATIONS  SHARE
    2026-10  4.0 MB              1   57 % █████████▏
    2026-11  3.0 MB              2   43 % ██████▉

    LARGEST                                 SIZE  TITLE
    01a10000-0000-7000-8000-000000000001  4.0 MB
    01a10000-0000-7000-8000-000000000002  2.0 MB  two
    01a10000-0000-7000-8000-000000000003  1.0 MB
    ");
    let hints = env.run(["storage"]).code(0).stderr;
    insta::assert_snapshot!(hints, @r"
    free disk space, with Codex closed:
      packages, about 9.0 MB:
        rm -rf [ROOT]/home/.codex/packages
      rollouts, about 4.0 MB:
        codex-manager storage shrink
      databases, about 200.7 kB:
        codex-manager storage vacuum
      caches, about 70.0 kB:
        rm -rf [ROOT]/home/.codex/.tmp [ROOT]/home/.codex/tmp
    ");
}

#[test]
fn an_empty_home_has_no_usage_and_no_forecast() {
    let env = TestEnv::new();
    fs::create_dir_all(env.codex_home()).unwrap();
    let document = env.run(["storage", "--json"]).code(0).json();
    assert_eq!(document["total_bytes"], 0);
    assert_eq!(document["growth"], serde_json::Value::Null);
    let run = TestEnv::new().run(["storage"]).code(1);
    assert!(run.stderr.contains("no Codex home"), "{run}");
}

#[test]
fn rollouts_with_invalid_names_and_times_are_counted_in_the_report() {
    let env = TestEnv::new();
    let odd = put(&env, "sessions/rollout-nonsense.jsonl", "\0\0");
    set_time(&odd, 4_000_000_000, 0);
    put(&env, "sessions/rollout-9999-99-99T.jsonl.zst", "no zstd");
    std::os::unix::fs::symlink("/nowhere", env.codex_home().join("sessions/dangling")).unwrap();
    let document = env.run(["storage", "--json"]).code(0).json();
    assert_eq!(document["projects"][0]["conversations"], 2);
}

#[test]
fn the_report_ends_without_a_question_on_a_terminal() {
    let env = TestEnv::new();
    crate::support::sample::sample_home(&env);
    env.write("home/.codex/tmp/cache.bin", vec![0; 100_000]);
    let before = env.tree("home");
    let mut terminal = Terminal::start(&mut env.command(["storage"]));
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("rm -rf "), "{}", terminal.text());
    assert_same_tree(&before, &env.tree("home"));
}
