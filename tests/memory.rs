//! Memory use is bounded for homes of any size.

use crate::support::env::TestEnv;
use crate::support::memory::run_measuring_memory;
use crate::support::sample::{put, sample_home};
use std::fs::File;
use std::io::{BufWriter, Write};

/// Maximum resident memory of every command.
const MEMORY_LIMIT_BYTES: u64 = 150 << 20;

/// Asserts that every command that reads or writes a complete home stays below the limit.
fn assert_memory_stays_below_limit(env: &TestEnv, file: &str) {
    let out = env.path("out").display().to_string();
    let works: [&[&str]; 6] = [
        &["backup", "--no-status"],
        &["backup", "--no-status"],
        &["verify", "latest"],
        &["restore", "latest", "--only", file],
        &["restore", "latest", "--to", &out],
        &["restore", "latest"],
    ];
    for args in works {
        let (run, peak) = run_measuring_memory(env, args);
        assert_eq!(run.code, 0, "{run}");
        assert!(peak < MEMORY_LIMIT_BYTES, "{args:?} used {peak} bytes");
    }
}

#[test]
fn a_rollout_larger_than_the_memory_limit_is_archived_and_restored_below_it() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let path = env.codex_home().join("sessions/2026/11/17/large.jsonl");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    let mut file = BufWriter::new(File::create(&path).expect("create"));
    let text = "a line that is long enough ".repeat(40);
    let mut written = 0;
    for number in 0_u64.. {
        let line = format!("{{\"number\":{number},\"text\":\"{text}\"}}\n");
        file.write_all(line.as_bytes()).expect("write");
        written += line.len() as u64;
        if written > MEMORY_LIMIT_BYTES + (16 << 20) {
            break;
        }
    }
    file.into_inner().expect("write");
    assert_memory_stays_below_limit(&env, "sessions/2026/11/17/large.jsonl");
    let restored = env.path("out/sessions/2026/11/17/large.jsonl");
    assert_eq!(restored.metadata().expect("restored").len(), written);
}

#[test]
fn ten_thousand_files_are_archived_and_restored_below_the_memory_limit() {
    let env = TestEnv::new();
    sample_home(&env);
    for number in 0..10_000 {
        let name = format!("skills/s{}/f{number}.md", number / 100);
        put(&env, name, format!("the text of {number}"));
    }
    assert_memory_stays_below_limit(&env, "skills/s7/f777.md");
}

#[test]
fn a_config_file_larger_than_the_memory_limit_is_archived_and_restored_below_it() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let mut text = b"model = \"gpt-5\"\n".to_vec();
    let line = format!("# {}\n", "a comment ".repeat(100));
    while (text.len() as u64) < MEMORY_LIMIT_BYTES + (16 << 20) {
        text.extend_from_slice(line.as_bytes());
    }
    let path = put(&env, "config.toml", &text);
    assert_memory_stays_below_limit(&env, "config.toml");
    for path in [path, env.path("out/config.toml")] {
        assert!(
            std::fs::read(&path).expect("read") == text,
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_largest_parsed_config_stays_below_the_limit() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let mut text = String::new();
    for number in 0.. {
        let project = format!("[projects.\"/p/{number}\"]\ntrust_level = \"trusted\"\n");
        if text.len() + project.len() > 1 << 20 {
            break;
        }
        text.push_str(&project);
    }
    put(&env, "config.toml", text);
    assert_memory_stays_below_limit(&env, "config.toml");
}

#[test]
fn lines_larger_than_the_memory_limit_are_merged_below_it() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let _ = env.run(["backup", "--no-status"]).code(0);
    let mut lines = b"{\"text\":\"one\"}\n{\"text\":\"".to_vec();
    lines.resize(
        usize::try_from(MEMORY_LIMIT_BYTES + (16 << 20)).expect("in range"),
        b'x',
    );
    lines.extend_from_slice(b"\"}\n{\"text\":\"three\"}");
    let path = put(&env, "history.jsonl", &lines);
    let args = ["restore", "latest", "--merge", "--no-safety-backup"];
    let (run, peak) = run_measuring_memory(&env, &args);
    assert_eq!(run.code, 0, "{run}");
    assert!(peak < MEMORY_LIMIT_BYTES, "{peak} bytes");
    // The lines of the archive precede those that only the home had.
    let mut all = b"{\"text\":\"one\"}\n{\"text\":\"two\"}\n".to_vec();
    all.extend_from_slice(&lines[b"{\"text\":\"one\"}\n".len()..]);
    assert!(std::fs::read(path).expect("the prompts") == all);
}
