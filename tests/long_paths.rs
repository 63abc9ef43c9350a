//! A home with a file at a path that is longer than one system call accepts.

use crate::support::aftermath::{home_tree, stray_files};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{put, put_at, sample_home_at};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest path that one Linux system call accepts, in bytes.
const PATH_MAX_BYTES: usize = 4095;

/// Returns a path below `top` in `home` with this length in bytes.
fn path_with_length(home: &Path, top: &str, bytes: usize) -> PathBuf {
    let mut path = home.join(top);
    loop {
        let left = bytes - path.as_os_str().len() - 1;
        if left <= 250 {
            return path.join("f".repeat(left));
        }
        // Leaves at least one byte for the file name.
        path.push("d".repeat(if left < 300 { 100 } else { 200 }));
    }
}

#[test]
fn a_path_that_became_too_long_is_skipped_and_named() {
    let mut env = TestEnv::new();
    let short = env.path("h/.codex");
    sample_home_at(&short);
    put_at(
        &short,
        path_with_length(&short, "skills", PATH_MAX_BYTES),
        "far",
    );
    let long = format!("further-down-{}", "x".repeat(100));
    fs::rename(env.path("h"), env.path(&long)).expect("move");
    env.set("CODEX_HOME", env.path(&long).join(".codex"));
    let run = env.run(["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("skills/ddd"), "{run}");
    assert!(run.stderr.contains("too long"), "{run}");
    let _ = env.run(["verify", "latest"]).code(0);
}

#[test]
fn a_restore_that_would_stage_too_long_a_path_changes_nothing() {
    let env = TestEnv::new();
    let codex = env.codex_home();
    sample_home_at(&codex);
    put_at(
        &codex,
        path_with_length(&codex, "skills", PATH_MAX_BYTES),
        "far",
    );
    let _ = env.run(["backup", "--no-status"]).code(0);
    put(&env, "AGENTS.md", "changed");
    let before = home_tree(&env);
    let run = env.run(["restore", "latest"]).code(1);
    assert!(run.stderr.contains("too long"), "{run}");
    assert_same_tree(&before, &home_tree(&env));
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    // Files with shorter paths can be restored.
    let only = ["restore", "latest", "--only", "AGENTS.md"];
    let _ = env.run(only).code(0);
}
