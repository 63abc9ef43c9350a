//! Homes with files at the longest possible paths, and at longer ones.

use crate::support::aftermath::{debris, home};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{put_at, sample_home, sample_home_at, text};
use codex_manager::io::long_path;
use std::fs;
use std::os::unix::fs::symlink;
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
fn files_with_the_longest_possible_paths_are_restored() {
    let env = TestEnv::new();
    let codex = sample_home(&env);
    for bytes in [
        PATH_MAX_BYTES,
        PATH_MAX_BYTES - 1,
        PATH_MAX_BYTES - 20,
        PATH_MAX_BYTES - 30,
    ] {
        put_at(&codex, path_with_length(&codex, "skills", bytes), "far");
        // Files that the archive lacks are linked.
        put_at(
            &codex,
            path_with_length(&codex, "mine", bytes),
            "not archived",
        );
    }
    let link = path_with_length(&codex, "skills/links", PATH_MAX_BYTES);
    fs::create_dir_all(link.parent().expect("a folder")).expect("folder");
    symlink("nowhere", &link).expect("link");
    fs::create_dir_all(path_with_length(&codex, "skills/empty", PATH_MAX_BYTES)).expect("folder");
    let _ = env
        .run(["backup", "--no-status", "--exclude", "mine/**"])
        .code(0);
    let before = home(&env);
    let far = path_with_length(&codex, "skills", PATH_MAX_BYTES);
    let name = text(far.strip_prefix(&codex).expect("below"));
    let all = ["restore", "latest"];
    let one = ["restore", "latest", "--only", &name];
    for args in [&all[..], &one, &["restore", "latest", "--merge"]] {
        fs::write(&far, "changed").expect("write");
        let _ = env.run(args).code(0);
        assert_same_tree(&before, &home(&env));
        assert_eq!(debris(&env), Vec::<PathBuf>::new(), "{args:?}");
    }
    // Restored to a folder where each path is longer.
    let there = env.path(&format!("there-{}", "x".repeat(60)));
    let to = ["restore", "latest", "--to", &text(&there)];
    let _ = env.run(to).code(0);
    let found = long_path::with(&there.join(&name), |path| fs::read(path));
    assert_eq!(found.expect("read"), b"far");
}

#[test]
fn a_home_whose_paths_became_too_long_is_archived_and_restored() {
    let mut env = TestEnv::new();
    let short = env.path("h/.codex");
    sample_home_at(&short);
    let file = put_at(
        &short,
        path_with_length(&short, "skills", PATH_MAX_BYTES),
        "far",
    );
    let name = file.strip_prefix(&short).expect("below").to_path_buf();
    put_at(
        &short,
        path_with_length(&short, "mine", PATH_MAX_BYTES),
        "mine",
    );
    let long = format!("further-down-{}", "x".repeat(100));
    fs::rename(env.path("h"), env.path(&long)).expect("move");
    let codex = env.path(&long).join(".codex");
    env.set("CODEX_HOME", &codex);
    let at = |text: Option<&str>| {
        long_path::with(&codex.join(&name), |path| match text {
            Some(text) => fs::write(path, text).map(|()| text.to_owned()),
            None => fs::read_to_string(path),
        })
        .expect("the far file")
    };
    let _ = env.run(["backup", "--no-status"]).code(0);
    let _ = env.run(["verify", "latest"]).code(0);
    at(Some("changed"));
    let _ = env.run(["restore", "latest"]).code(0);
    assert_eq!(at(None), "far");
    assert!(
        !env.path(&format!("{long}/..codex.codex-manager-restore"))
            .exists()
    );
    // The safety backup of this restore has it too.
    at(Some("changed again"));
    let safety = env.run(["restore", "latest", "--json"]).code(0).json();
    let safety = safety["safety_backup"].as_str().expect("a name").to_owned();
    let _ = env.run(["restore", &safety]).code(0);
    assert_eq!(at(None), "changed again");
}
