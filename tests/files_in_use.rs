//! The question of Windows, asked on Linux: a file that any process has open, also this one, cannot be
//! replaced.

use crate::support::env::TestEnv;
use crate::support::fake_codex::FakeCodex;
use crate::support::pair::Pair;
use crate::support::profiles::alice_and_bob;
use crate::support::sample::{bob, put, set_time};
use crate::support::sign_in::read_refresh_token;
use std::fs::{self, File};
use std::time::{Duration, Instant};

pub(crate) const SWITCH: &str = "CODEX_MANAGER_TESTS_OPEN_FILES_ARE_IN_USE";

/// 2026-10-01, seven weeks before the tests' clock.
const OLD: u64 = 1_790_812_800;

const ID: &str = "01a10000-0000-7000-8000-000000000001";

fn rollout(lines: usize) -> String {
    let meta =
        format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{ID}\",\"cwd\":\"/x\"}}}}\n");
    meta + &"{\"type\":\"event_msg\",\"payload\":\"text\"}\n".repeat(lines)
}

fn rollout_path() -> String {
    format!("sessions/2026/10/01/rollout-2026-10-01T00-00-00-{ID}.jsonl")
}

#[test]
fn a_switch_waits_for_a_process_with_the_login_open_and_then_fails() {
    let mut env = alice_and_bob();
    env.set(SWITCH, "1");
    let login = env.codex_home().join("auth.json");
    let held = File::open(&login).unwrap();
    let before = fs::read(&login).unwrap();
    let since = Instant::now();
    let run = env.run(["use", "home"]).code(1);
    assert!(since.elapsed() >= Duration::from_secs(1), "{run}");
    assert!(
        run.stderr.contains("another process has the file open"),
        "{run}"
    );
    assert!(run.stderr.contains("auth.json"), "{run}");
    assert_eq!(fs::read(&login).unwrap(), before);
    drop(held);
    let _ = env.run(["use", "home"]).code(0);
    let token = read_refresh_token(&env.codex_home());
    assert_eq!(token, bob().refresh_token());
}

#[test]
fn conversations_are_shrunk_and_expanded_without_replacing_an_open_file() {
    let mut env = TestEnv::new();
    let codex = FakeCodex::new(&env.path("codex")).version("codex-cli 0.169.0");
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    env.set(SWITCH, "1");
    let path = put(&env, rollout_path(), rollout(20_000));
    set_time(&path, OLD, 0);
    for (command, is_plain) in [("shrink", false), ("expand", true)] {
        let _ = env.run(["storage", command]).code(0);
        assert_eq!(path.exists(), is_plain, "{command}");
        assert_eq!(path.with_extension("jsonl.zst").exists(), !is_plain);
    }
    assert_eq!(fs::read_to_string(path).unwrap(), rollout(20_000));
}

#[test]
fn syncs_of_compressed_conversations_and_of_prompts_replace_no_open_file() {
    let mut pair = Pair::new();
    pair.0.set(SWITCH, "1");
    let prompt = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    let compressed = format!("{}.zst", rollout_path());
    let bytes = |lines| zstd::encode_all(rollout(lines).as_bytes(), 3).unwrap();
    pair.put("a", "history.jsonl", &prompt(1));
    pair.put("a", &compressed, "");
    fs::write(pair.home("a").join(&compressed), bytes(1)).unwrap();
    pair.apply("a");
    pair.put("b", "history.jsonl", &prompt(2));
    pair.apply("b");
    pair.apply("a");
    assert_eq!(pair.text("a", "history.jsonl"), prompt(1) + &prompt(2));
    fs::write(pair.home("b").join(&compressed), bytes(2)).unwrap();
    pair.apply("b");
    pair.apply("a");
    let synced = fs::read(pair.home("a").join(&compressed)).unwrap();
    assert_eq!(synced, bytes(2));
}
