//! Restores of a folder over a file or link, and of a file over a folder.

use crate::support::aftermath::stray_files;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Mount;
use crate::support::sample::{backup, comparable, put, sample_home, sample_home_at, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The kinds of entries at a path where an archive has something else.
type PathBlocker = fn(&Path);

const PATH_BLOCKERS: [(&str, PathBlocker); 3] = [
    ("a file", |place| fs::write(place, "a file").expect("write")),
    ("a link", |place| {
        symlink("mine/SKILL.md", place).expect("link");
    }),
    ("a link out of the home", |place| {
        symlink("/somewhere/else", place).expect("link");
    }),
];

fn remove(place: &Path) {
    match place.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(place).expect("remove"),
        Ok(_) => fs::remove_file(place).expect("remove"),
        Err(_) => {}
    }
}

#[test]
fn partial_restores_replace_a_file_by_a_folder_and_vice_versa() {
    let env = TestEnv::new();
    let place = sample_home(&env).join("skills/a");
    put(&env, "skills/a/f", "in a folder");
    put(&env, "skills/a/deep/g", "deeper");
    let folder = text(&backup(&env, &[]));
    let as_folder = env.tree("home/.codex/skills");
    remove(&place);
    fs::write(&place, "alone").expect("write");
    let file = text(&backup(&env, &[]));
    let as_file = env.tree("home/.codex/skills");
    for _ in 0..2 {
        let _ = env.run(["restore", &folder, "--only", "skills/a"]).code(0);
        let now = env.tree("home/.codex/skills");
        assert!(now.0.keys().eq(as_folder.0.keys()), "{now:?}");
        assert_eq!(fs::read(place.join("f")).expect("read"), b"in a folder");
        let _ = env.run(["restore", &file, "--only", "skills/a"]).code(0);
        assert_same_tree(&as_file, &env.tree("home/.codex/skills"));
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    }
    remove(&place);
    symlink("mine", &place).expect("link");
    let _ = env.run(["restore", &folder, "--only", "skills/a"]).code(0);
    assert_eq!(fs::read(place.join("f")).expect("read"), b"in a folder");
    assert!(env.codex_home().join("skills/mine/SKILL.md").exists());
}

#[test]
fn restores_exchange_a_file_and_a_folder_in_a_lower_overlay_layer() {
    let mut env = TestEnv::on_disk();
    sample_home_at(&env.path("lower/.codex"));
    for name in ["skills/a/f", "skills/a/deep/g"] {
        let path = env.path("lower/.codex").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, name).expect("write");
    }
    let Some(_mount) = Mount::overlay(&env.path(""), &env.path("merged")) else {
        return;
    };
    let home = env.path("merged/.codex");
    env.set("CODEX_HOME", &home);
    let folder = text(&backup(&env, &[]));
    let as_folder = env.tree("merged/.codex");
    remove(&home.join("skills/a"));
    fs::write(home.join("skills/a"), "alone").expect("write");
    let file = text(&backup(&env, &[]));
    let as_file = env.tree("merged/.codex");
    for _ in 0..2 {
        let _ = env.run(["restore", &folder]).code(0);
        let now = env.tree("merged/.codex");
        assert_same_tree(&comparable(&as_folder), &comparable(&now));
        let _ = env.run(["restore", &file]).code(0);
        let now = env.tree("merged/.codex");
        assert_same_tree(&comparable(&as_file), &comparable(&now));
    }
}

#[test]
fn files_at_the_path_of_an_empty_folder_are_not_lost() {
    // The first is below a folder of the user, which no restore removes. The second is of a kind
    // that a restore removes if the archive lacks it.
    let places = ["mine/empty", "skills/empty"];
    for (what, create) in PATH_BLOCKERS {
        for (place, merge) in places.iter().flat_map(|p| [(p, false), (p, true)]) {
            let context = format!("{what} at {place}, merge: {merge}");
            let env = TestEnv::new();
            sample_home(&env);
            let path = env.codex_home().join(place);
            fs::create_dir_all(path.join("deeper")).expect("folder");
            let archive = text(&backup(&env, &[]));
            remove(&path);
            create(&path);
            let before = env.tree("home/.codex").0[Path::new(place)].clone();
            put(&env, "AGENTS.md", "changed");
            let merged = if merge { &["--merge"][..] } else { &[] };
            let args = [&["restore", &archive, "--json"], merged].concat();
            let stays = merge || *place == "mine/empty" || what == "a link out of the home";
            let run = env.run(args).code(i32::from(stays));
            let after = env.tree("home/.codex").0[Path::new(place)].clone();
            if stays {
                // Refused: no restore removes it, and the folder has no other place.
                assert_eq!(before, after, "{context}\n{run}");
                assert!(run.stderr.contains(place), "{context}\n{run}");
            } else {
                assert!(after.starts_with("folder"), "{context}: {after}");
                // The safety backup contains the replaced entry.
                let safety = run.json()["safety_backup"].to_string();
                let _ = env.run(["restore", safety.trim_matches('"')]).code(0);
                assert_eq!(
                    before,
                    env.tree("home/.codex").0[Path::new(place)],
                    "{context}"
                );
            }
            assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{context}");
        }
    }
}

#[test]
fn a_link_at_the_path_of_an_archived_empty_folder_is_kept() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::create_dir_all(home.join("mine/empty/deeper")).expect("folder");
    let archive = text(&backup(&env, &[]));
    let elsewhere = env.path("elsewhere");
    fs::create_dir_all(elsewhere.join("deeper")).expect("folder");
    fs::write(elsewhere.join("deeper/file"), "theirs").expect("write");
    remove(&home.join("mine/empty"));
    symlink(&elsewhere, home.join("mine/empty")).expect("link");
    let before = env.tree("elsewhere");
    let modified = |path: &Path| path.metadata().expect("stat").modified().expect("a time");
    let time = modified(&elsewhere.join("deeper"));
    let run = env.run(["restore", &archive]).code(1);
    assert!(run.stderr.contains("mine/empty"), "{run}");
    assert_eq!(
        fs::read_link(home.join("mine/empty")).expect("a link"),
        elsewhere
    );
    assert_same_tree(&before, &env.tree("elsewhere"));
    assert_eq!(modified(&elsewhere.join("deeper")), time);
}
