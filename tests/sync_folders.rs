//! The folders of a sync: nested folders, links, and homes on several disks.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use crate::support::create_pipe;
use crate::support::env::{PROGRAM, assert_same_tree};
use crate::support::faults::Mount;
use crate::support::injection::{can_inject, kill_numbers, run_ends_before_call};
use crate::support::pair::{META, Pair, ROLLOUT, RUN_OF_A, SKILL, actions, set_mtime};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Number of calls of one kind at which a run is killed, at most.
const KILLS: usize = 8;

/// Writes a configuration with these folders, below the folder of the test.
fn places(pair: &Pair, roots: &str, local: &str, cloud: &str, backups: &str) {
    let path = |relative: &str| pair.0.path(relative);
    let text = format!(
        "[identity]\nmachine_id = \"a\"\n[paths]\ncloud_root_dir = {:?}\nlocal_state_dir = {:?}\n\
         backup_dir = {:?}\n[targets]\ninclude_roots = [{roots}]\n",
        path(cloud),
        path(local),
        path(backups),
    );
    pair.0.write("a.toml", text);
}

#[test]
fn nested_folders_are_refused_by_name_unless_the_inner_one_is_not_synced() {
    let pair = Pair::new();
    pair.put("a", SKILL, "x");
    let link = |to: &str, at: &str| symlink(pair.0.path(to), pair.0.path(at)).unwrap();
    fs::create_dir_all(pair.home("a").join("inside")).unwrap();
    fs::create_dir_all(pair.cloud().join("inside")).unwrap();
    link("codex-a/inside", "to-home");
    link("cloud/inside", "to-cloud");
    let before = pair.0.tree("");
    for (roots, local, cloud, backups, expected_message) in [
        ("", "codex-a", "codex-a/inside", "bk", "cloud folder"),
        ("", "codex-a", "codex-a", "bk", "Codex home"),
        ("", "cloud/inside", "cloud", "bk", "Codex home"),
        ("", "codex-a", "to-home", "bk", "/codex-a/inside"),
        ("", "to-cloud", "cloud", "bk", "/cloud/inside"),
        ("", "codex-a", "cloud", "cloud", "backup folder"),
        ("", "codex-a", "cloud", "cloud/new/bk", "backup folder"),
        ("", "codex-a", "cloud", "to-cloud/bk", "backup folder"),
        ("", "codex-a", "bk/cloud", "bk", "cloud folder"),
        ("", "bk/codex", "cloud", "bk", "Codex home"),
        ("", "codex-a", "cloud", "codex-a/bk", "backup folder"),
        (
            "\"skills\"",
            "codex-a",
            "cloud",
            "codex-a/skills/bk",
            "skills",
        ),
        ("\"x/y\"", "codex-a", "cloud", "codex-a/x", "backup folder"),
        ("", "codex-a", "manager-a", "bk", "manager home"),
        ("", "", "cloud", "bk", "Codex home"),
    ] {
        places(&pair, roots, local, cloud, backups);
        for args in [&["validate"][..], &["plan"], &["run", "--apply"]] {
            let run = pair.run("a", args).code(4);
            assert!(run.stderr.contains("is inside"), "{run}");
            assert!(
                run.stderr.contains(expected_message),
                "{expected_message}: {run}"
            );
            assert!(run.stderr.contains("nothing was changed"), "{run}");
        }
    }
    fs::write(pair.0.path("a.toml"), "").unwrap();
    let mut after = pair.0.tree("");
    after.0.remove(Path::new("a.toml"));
    let mut before = before;
    before.0.remove(Path::new("a.toml"));
    assert_same_tree(&before, &after);
    // Folders that are not synced may overlap.
    for (roots, backups) in [
        ("\"skills\"", "codex-a/bk"),
        ("\"skills\"", "codex-a/skills-bk"),
        ("", "codex-a/tmp/bk"),
    ] {
        places(&pair, roots, "codex-a", "cloud", backups);
        let _ = pair.run("a", &["validate"]).code(0);
    }
}

#[test]
fn folders_inside_the_home_need_a_glob_that_excludes_all_files() {
    let pair = Pair::new();
    let with_globs = |backups: &str, globs: &str| {
        places(&pair, "", "codex-a", "cloud", backups);
        let path = pair.0.path("a.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            path,
            format!("{text}[filters]\nexclude_globs = [{globs}]\n"),
        )
        .unwrap();
    };
    for globs in [
        "\"bk/*\"",
        "\"bk/*\", \"bk/*/*\"",
        "\"bk/**/*.jsonl\"",
        "\"?\"",
    ] {
        with_globs("codex-a/bk", globs);
        let run = pair.run("a", &["validate"]).code(4);
        assert!(run.stderr.contains("backup folder"), "{globs}: {run}");
        with_globs("bk", globs);
        let args = [
            "--manager-home",
            "codex-a/bk",
            "sync",
            "-c",
            "a.toml",
            "validate",
        ];
        let run = pair.0.run(args).code(4);
        assert!(run.stderr.contains("manager home"), "{globs}: {run}");
    }
    for globs in ["\"bk/**\"", "\"bk\"", "\"b?\""] {
        with_globs("codex-a/bk", globs);
        let _ = pair.run("a", &["validate"]).code(0);
    }
}

#[test]
fn a_home_linked_to_the_cloud_folder_is_refused() {
    let pair = Pair::new();
    let sessions = pair.home("a").join("sessions");
    symlink(pair.0.path(""), &sessions).unwrap();
    let run = pair.run("a", &["plan"]).code(4);
    assert!(
        run.stderr.contains("is inside sessions of the Codex home"),
        "{run}"
    );
    fs::remove_file(&sessions).unwrap();
    fs::create_dir_all(pair.cloud().join("sessions")).unwrap();
    symlink(
        pair.cloud().join("sessions"),
        pair.home("a").join("sessions"),
    )
    .unwrap();
    let run = pair.run("a", &["plan"]).code(4);
    assert!(run.stderr.contains("sessions of the Codex home"), "{run}");
}

#[test]
fn a_link_at_the_top_of_a_home_stays_and_its_target_is_synced() {
    for roots in [
        "",
        "[targets]\ninclude_roots = [\"AGENTS.md\", \"history.jsonl\", \"skills\"]\n",
    ] {
        let pair = Pair::new();
        pair.configure("a", roots);
        let dotfiles = pair.0.path("dotfiles");
        let line = |n: u8| format!("{{\"ts\":{n}}}\n");
        pair.0.write("dotfiles/AGENTS.md", "one");
        pair.0.write("dotfiles/history", line(1));
        pair.0.write("dotfiles/skills/mine/SKILL.md", "one");
        for (to, at) in [
            ("AGENTS.md", "AGENTS.md"),
            ("history", "history.jsonl"),
            ("skills", "skills"),
        ] {
            symlink(dotfiles.join(to), pair.home("a").join(at)).unwrap();
        }
        let planned = pair.run("a", &["plan", "--json"]).code(0).json();
        let done = pair.apply("a");
        assert_eq!(planned["actions"], done["actions"]);
        assert_eq!(actions(&done).len(), 3, "{done}");
        assert_eq!(actions(&pair.apply("a")), [""; 0]);
        pair.apply("b");
        pair.put("b", "AGENTS.md", "two, from b");
        pair.put("b", "history.jsonl", &(line(1) + &line(3)));
        pair.put("b", SKILL, "two, from b");
        pair.apply("b");
        pair.0.write("dotfiles/history", line(1) + &line(2));
        let done = pair.apply("a");
        assert_eq!(actions(&done).len(), 3, "{done}");
        for name in ["AGENTS.md", "skills/mine/SKILL.md"] {
            assert_eq!(
                fs::read_to_string(dotfiles.join(name)).unwrap(),
                "two, from b"
            );
        }
        let history = fs::read_to_string(dotfiles.join("history")).unwrap();
        assert_eq!(history, line(1) + &line(2) + &line(3));
        let links = || {
            ["AGENTS.md", "history.jsonl", "skills"].map(|name| {
                let meta = pair.home("a").join(name).symlink_metadata();
                meta.unwrap().is_symlink()
            })
        };
        assert_eq!(links(), [true; 3]);
        // The files are also restored through the links.
        let _ = pair
            .run("a", &["restore", "--target", "local", "--apply"])
            .code(0);
        assert_eq!(
            fs::read_to_string(dotfiles.join("AGENTS.md")).unwrap(),
            "one"
        );
        assert_eq!(links(), [true; 3]);
        let left: Vec<_> = fs::read_dir(&dotfiles).unwrap().flatten().collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}

#[test]
fn an_unfollowed_link_is_reported_and_its_counterpart_stays() {
    let pair = Pair::synced(&[
        (SKILL, "one"),
        ("AGENTS.md", "one"),
        ("skills/other/x", "x"),
    ]);
    let elsewhere = pair.0.write("elsewhere/SKILL.md", "another");
    let (home, nowhere) = (pair.home("b"), pair.0.path("nowhere"));
    fs::remove_dir_all(home.join("skills/mine")).unwrap();
    symlink(elsewhere.parent().unwrap(), home.join("skills/mine")).unwrap();
    fs::remove_file(home.join("AGENTS.md")).unwrap();
    symlink(&nowhere, home.join("AGENTS.md")).unwrap();
    symlink(&elsewhere, home.join("skills/alone.md")).unwrap();
    symlink("/dev/null", home.join("history.jsonl")).unwrap();
    for policy in ["never", "propagate"] {
        pair.configure("b", &format!("[sync]\ndelete_policy = \"{policy}\"\n"));
        let planned = pair.run("b", &["plan", "--json"]).code(6).json();
        let done = pair.run("b", &["run", "--apply", "--json"]).code(6).json();
        for json in [&planned, &done] {
            assert_eq!(actions(json), [""; 0]);
            assert_eq!(json["skipped"].as_array().unwrap().len(), 2, "{json}");
            assert_eq!(json["skipped"][0]["path"], "AGENTS.md");
            let why = json["skipped"][1]["reason"].as_str().unwrap();
            assert!(why.contains("a link is not followed"), "{json}");
            assert_eq!(json["left_out"].as_array().unwrap().len(), 2, "{json}");
            assert_eq!(json["summary"]["left_out"], 2);
        }
    }
    pair.put("a", SKILL, "two, and more");
    pair.apply("a");
    let _ = pair.run("b", &["run", "--apply"]).code(6);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "another");
    assert_eq!(pair.text("cloud", "AGENTS.md"), "one");
    // After the removal of the link, the waiting files are copied.
    pair.configure("b", "");
    fs::remove_file(home.join("skills/mine")).unwrap();
    fs::remove_file(home.join("AGENTS.md")).unwrap();
    pair.apply("b");
    assert_eq!(pair.text("b", SKILL), "two, and more");
    assert_eq!(pair.text("b", "AGENTS.md"), "one");
}

#[test]
fn an_excluded_link_deletes_nothing() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        let more = "[sync]\ndelete_policy = \"propagate\"\n[filters]\nexclude_globs = [\"skills/big\", \"s/big\"]\n";
        pair.configure(name, more);
    }
    for n in 0..12 {
        pair.put("a", &format!("skills/s/{n}"), "x");
    }
    pair.put("a", "skills/big/x", "x");
    for name in ["a", "b", "a", "b"] {
        pair.apply(name);
    }
    let (big, moved) = (pair.home("a").join("skills/big"), pair.0.path("moved"));
    fs::rename(&big, &moved).unwrap();
    symlink(&moved, &big).unwrap();
    symlink(&moved, pair.home("a").join("skills/s/big")).unwrap();
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(actions(&json), [""; 0]);
    assert_eq!(json["skipped"][0]["path"], "skills/big");
    // A link without synced paths below is not reported.
    assert_eq!(json["left_out"].as_array().unwrap().len(), 0, "{json}");
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
    assert_eq!(pair.text("b", "skills/big/x"), "x");
}

#[test]
fn a_link_above_a_root_in_the_cloud_folder_is_not_followed() {
    let pair = Pair::new();
    pair.configure("a", "[targets]\ninclude_roots = [\"skills/mine\"]\n");
    pair.0.write("outside/mine/SKILL.md", "planted");
    symlink(pair.0.path("outside"), pair.cloud().join("skills")).unwrap();
    assert_eq!(actions(&pair.apply("a")), [""; 0]);
    assert!(!pair.home("a").join("skills").exists());
}

#[test]
fn archiving_is_synced_across_two_disks() {
    let pair = Pair::new();
    let Some(_mount) = Mount::tmpfs(&pair.0.path("disk"), 1024) else {
        return;
    };
    symlink(pair.0.path("disk"), pair.home("b").join("sessions")).unwrap();
    pair.sync(&[(ROLLOUT, META)]);
    let name = ROLLOUT.rsplit('/').next().unwrap();
    let archived = format!("archived_sessions/{name}");
    fs::create_dir_all(pair.home("a").join("archived_sessions")).unwrap();
    let (open, closed) = (pair.home("a").join(ROLLOUT), pair.home("a").join(&archived));
    fs::rename(&open, &closed).unwrap();
    pair.apply("a");
    assert_eq!(actions(&pair.apply("b")), [format!("move-local {ROLLOUT}")]);
    assert_eq!(pair.text("b", &archived), META);
    assert!(!pair.home("b").join(ROLLOUT).exists());
    let times = [&closed, &pair.home("b").join(&archived)];
    let times = times.map(|path| path.metadata().unwrap().modified().unwrap());
    assert_eq!(times[0], times[1]);
    fs::rename(&closed, &open).unwrap();
    pair.apply("a");
    assert_eq!(
        actions(&pair.apply("b")),
        [format!("move-local {archived}")]
    );
    assert_eq!(pair.text("b", ROLLOUT), META);
    assert!(!pair.home("b").join(&archived).exists());
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
}

#[test]
fn files_named_like_client_scratch_files_are_reported() {
    let pair = Pair::new();
    let named = [
        "skills/mine/._config",
        "skills/mine/.sync_rules",
        "skills/mine/data.partial",
        "skills/mine/drafts.part",
        "skills/mine/notes.part",
        "skills/mine/report.nextcloud",
        "skills/mine/~$table",
    ];
    for path in named {
        let inside = if path.contains("drafts") {
            "/inside.md"
        } else {
            ""
        };
        pair.put("a", &format!("{path}{inside}"), "mine");
    }
    for junk in [
        "._SKILL.md",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        ".stignore",
    ] {
        pair.put("a", &format!("skills/mine/{junk}"), "junk");
    }
    pair.put("a", SKILL, "x");
    for args in [&["plan", "--json"][..], &["run", "--apply", "--json"]] {
        let json = pair.run("a", args).code(0).json();
        assert_eq!(actions(&json), [format!("copy-to-cloud {SKILL}")]);
        let left = json["left_out"].as_array().unwrap();
        let paths: Vec<_> = left.iter().map(|l| l["path"].as_str().unwrap()).collect();
        assert_eq!(paths, named);
        assert_eq!(json["summary"]["left_out"], 7);
    }
    let expected_message = "excluded: skills/mine/notes.part: ";
    for (args, is_reported) in [
        (&["run", "--apply"][..], false),
        (&["-v", "run", "--apply"], true),
        (&["plan"], true),
    ] {
        let run = pair.run("a", args).code(0);
        assert_eq!(
            run.stderr.contains(expected_message),
            is_reported,
            "{args:?}: {run}"
        );
    }
    pair.put("a", "skills/mine/more.part", "mine");
    for is_reported in [true, false] {
        let run = pair.run("a", &["run", "--apply"]).code(0);
        assert_eq!(run.stderr.contains(expected_message), is_reported, "{run}");
    }
    fs::remove_file(pair.home("a").join("skills/mine/more.part")).unwrap();
    for n in 0..9 {
        pair.put("a", &format!("skills/mine/{n}.part"), "mine");
    }
    let run = pair.run("a", &["plan"]).code(0);
    assert_eq!(run.stderr.matches("excluded: ").count(), 11, "{run}");
    assert!(run.stderr.contains("excluded: 6 more"), "{run}");
}

#[test]
fn the_parent_of_a_new_folder_is_flushed() {
    if !can_inject() {
        return;
    }
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let trace = pair.0.path("trace");
    let mut strace = pair.0.other_program("strace");
    strace.args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]);
    strace.arg(&trace).arg(PROGRAM).args(RUN_OF_A);
    let ended = strace.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let trace = fs::read_to_string(trace).unwrap();
    let cloud = pair.cloud();
    for folder in [
        "",
        "/sessions",
        "/sessions/2026",
        "/sessions/2026/11",
        "/.codex-manager",
    ] {
        // No `)` at the end: strace prints `<unfinished ...>` there if another thread ends meanwhile.
        let synced = format!("<{}{folder}>", cloud.display());
        assert!(trace.contains(&synced), "{folder}: {trace}");
    }
}

#[test]
fn i2_a_killed_move_to_another_disk_is_completed() {
    if !can_inject() {
        return;
    }
    let name = ROLLOUT.rsplit('/').next().unwrap();
    let archived = format!("archived_sessions/{name}");
    for call in ["rename", "renameat2", "fsync", "unlink"] {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            let Some(_mount) = Mount::tmpfs(&pair.0.path("disk"), 1024) else {
                return;
            };
            symlink(pair.0.path("disk"), pair.home("b").join("sessions")).unwrap();
            pair.sync(&[(ROLLOUT, META)]);
            fs::create_dir_all(pair.home("a").join("archived_sessions")).unwrap();
            fs::rename(pair.home("a").join(ROLLOUT), pair.home("a").join(&archived)).unwrap();
            pair.apply("a");
            let run = ["sync", "-c", "b.toml", "run", "--apply"];
            let args = [&["--manager-home", "manager-b"], &run[..]].concat();
            let ended = run_ends_before_call(&pair.0, &args, call, number);
            let places = [ROLLOUT, &archived].map(|path| pair.home("b").join(path));
            let texts = places.each_ref().map(|path| fs::read_to_string(path).ok());
            assert!(texts.iter().any(Option::is_some), "{call} {number}");
            assert!(texts.iter().flatten().all(|text| text == META), "{texts:?}");
            pair.apply("b");
            assert_eq!(pair.text("b", &archived), META, "{call} {number}");
            assert!(!places[0].exists(), "{call} {number}");
            assert_eq!(pair.apply("b")["forks"].as_array().unwrap().len(), 0);
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_link_to_read_only_settings_does_not_stop_the_run() {
    let pair = Pair::new();
    let store = pair.0.path("store");
    let Some(_mount) = Mount::tmpfs(&store, 64) else {
        return;
    };
    fs::write(store.join("AGENTS.md"), "of the store").unwrap();
    symlink(store.join("AGENTS.md"), pair.home("a").join("AGENTS.md")).unwrap();
    pair.apply("a");
    pair.apply("b");
    let ended = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&store)
        .status();
    assert!(ended.unwrap().success());
    pair.put("b", "AGENTS.md", "of b");
    pair.put("b", "history.jsonl", "{\"ts\":1}\n");
    pair.put("b", SKILL, "x");
    pair.apply("b");
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    let json = run.json();
    assert_eq!(json["skipped"][0]["path"], "AGENTS.md", "{run}");
    assert_eq!(actions(&json).len(), 2, "{run}");
    assert_eq!(pair.text("a", SKILL), "x");
}

#[test]
fn settings_that_run_commands_are_never_written_through_links() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[targets]\ninclude_roots = [\"config.toml\"]\n");
    }
    pair.sync(&[("config.toml", "model = \"one\"\n")]);
    let real = pair.0.write("dotfiles/config.toml", "model = \"mine\"\n");
    let link = pair.home("b").join("config.toml");
    fs::remove_file(&link).unwrap();
    symlink(&real, &link).unwrap();
    pair.put("a", "config.toml", "model = \"two\"\n");
    pair.apply("a");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["skipped"][0]["path"], "config.toml", "{run}");
    assert_eq!(fs::read_to_string(&real).unwrap(), "model = \"mine\"\n");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(pair.text("cloud", "config.toml"), "model = \"two\"\n");
}

#[test]
fn a_path_that_is_a_file_on_one_side_and_a_folder_on_the_other_is_reported() {
    for (here, there) in [
        ("skills/x", "skills/x/f"),
        ("skills/x/f", "skills/x"),
        ("skills/x/deep/er", "skills/x"),
    ] {
        let pair = Pair::new();
        pair.put("a", here, "of here");
        pair.put("cloud", there, "of there");
        pair.put("a", SKILL, "mine");
        pair.put("cloud", "AGENTS.md", "theirs");
        for round in 0..2 {
            let planned = pair.run("a", &["plan", "--json"]).code(6).json();
            let done = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
            assert_eq!(planned["actions"], done["actions"]);
            assert_eq!(planned["skipped"], done["skipped"]);
            assert_eq!(actions(&done).len(), if round == 0 { 2 } else { 0 });
            let skipped = done["skipped"].as_array().unwrap();
            assert_eq!(skipped.len(), 2, "{done}");
            for one in skipped {
                let why = one["reason"].as_str().unwrap();
                assert!(why.contains("rename or remove one of the two"), "{done}");
            }
        }
        assert_eq!(pair.text("a", here), "of here");
        assert_eq!(pair.text("cloud", there), "of there");
        // The user resolves the conflict by renaming.
        fs::rename(
            pair.home("a").join("skills/x"),
            pair.home("a").join("skills/y"),
        )
        .unwrap();
        assert_eq!(actions(&pair.apply("a")).len(), 2);
        assert_eq!(pair.text("a", there), "of there");
    }
}

#[test]
fn a_special_file_in_the_place_of_a_file_is_reported() {
    let pair = Pair::new();
    pair.put("a", "AGENTS.md", "x");
    pair.put("a", SKILL, "x");
    let pipe = pair.cloud().join("AGENTS.md");
    create_pipe(&pipe).unwrap();
    for args in [&["plan", "--json"][..], &["run", "--apply", "--json"]] {
        let json = pair.run("a", args).code(6).json();
        assert_eq!(actions(&json), [format!("copy-to-cloud {SKILL}")]);
        let why = json["skipped"][0]["reason"].as_str().unwrap();
        assert!(
            why.contains("a special file blocks this path in the cloud folder"),
            "{json}"
        );
    }
}

#[test]
fn a_link_to_an_excluded_file_is_not_synced() {
    let login =
        "{\n  \"tokens\": {\"access_token\": \"secret\", \"refresh_token\": \"secret\"}\n}\n";
    let settings = "model = \"mine\"\n";
    for (link, target) in [
        ("history.jsonl", "auth.json"),
        ("session_index.jsonl", "auth.json"),
        ("AGENTS.md", "auth.json"),
        ("AGENTS.md", "config.toml"),
        ("prompts", "."),
    ] {
        for policy in ["prefer_cloud", "prefer_newer_mtime"] {
            let pair = Pair::new();
            pair.configure("a", &format!("[conflict]\npolicy = \"{policy}\"\n"));
            let home = pair.home("a");
            pair.put("a", "auth.json", login);
            pair.put("a", "config.toml", settings);
            symlink(target, home.join(link)).unwrap();
            let below = if target.starts_with('.') {
                "/config.toml"
            } else {
                ""
            };
            pair.put(
                "b",
                &format!("{link}{below}"),
                "{\"ts\":1,\"text\":\"of b\"}\n",
            );
            pair.apply("b");
            for _ in 0..2 {
                let run = pair.run("a", &["run", "--apply", "--json"]);
                let what = format!("{link} to {target}: {run}");
                assert!(
                    run.json()["left_out"].to_string().contains(link)
                        || run.json()["skipped"].to_string().contains(link),
                    "{what}"
                );
                assert_eq!(pair.text("a", "auth.json"), login, "{what}");
                assert_eq!(pair.text("a", "config.toml"), settings, "{what}");
                for (path, text) in pair.tree().0 {
                    let is_out = !path.starts_with("codex-a");
                    assert!(
                        !(is_out && format!("{text:?}").contains("secret")),
                        "{what}: {path:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn changes_between_file_and_folder_are_synced_with_propagate() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    let mut files: Vec<_> = (0..40).map(|n| format!("skills/s/{n}")).collect();
    files.extend(["skills/file".to_owned(), "skills/folder/f".to_owned()]);
    files.push("skills/folder/in/it/f".to_owned());
    for file in &files {
        pair.put("a", file, "one");
    }
    for name in ["a", "b", "a"] {
        pair.apply(name);
    }
    let home = pair.home("a");
    fs::remove_file(home.join("skills/file")).unwrap();
    fs::remove_dir_all(home.join("skills/folder")).unwrap();
    pair.put("a", "skills/file/f", "two");
    pair.put("a", "skills/folder", "two");
    for name in ["a", "b"] {
        pair.apply(name);
        assert_eq!(pair.text(name, "skills/file/f"), "two");
        assert_eq!(pair.text(name, "skills/folder"), "two");
        assert_eq!(actions(&pair.apply(name)), [""; 0]);
    }
}

#[test]
fn an_unmounted_disk_behind_a_link_is_refused() {
    // The link is above the cloud folder, or is the cloud folder.
    for (link, to, cloud) in [
        ("link", "disk", "link/codex"),
        ("link", "disk/codex", "link"),
        ("link", "disk", "disk/codex"),
    ] {
        let pair = Pair::new();
        symlink(pair.0.path(to), pair.0.path(link)).unwrap();
        fs::create_dir(pair.0.path("disk")).unwrap();
        if to == "disk/codex" {
            fs::create_dir(pair.0.path(to)).unwrap();
        }
        places(&pair, "", "codex-a", cloud, "bk");
        pair.put("a", SKILL, "one");
        pair.apply("a");
        pair.put("a", SKILL, "two, longer");
        pair.apply("a");
        fs::rename(pair.0.path("disk"), pair.0.path("off")).unwrap();
        fs::create_dir(pair.0.path("disk")).unwrap();
        let before = pair.tree();
        for args in [
            &["plan"][..],
            &["run", "--apply"],
            &["restore", "--target", "cloud", "--apply"],
        ] {
            let run = pair.run("a", args).code(5);
            assert!(run.stderr.contains("nothing was changed"), "{run}");
        }
        assert_same_tree(&before, &pair.tree());
        fs::remove_dir(pair.0.path("disk")).unwrap();
        fs::rename(pair.0.path("off"), pair.0.path("disk")).unwrap();
        assert_eq!(actions(&pair.apply("a")), [""; 0]);
    }
}

#[test]
fn an_unmounted_home_behind_a_link_is_refused() {
    let pair = Pair::new();
    fs::create_dir_all(pair.0.path("disk/codex")).unwrap();
    symlink(pair.0.path("disk"), pair.0.path("link")).unwrap();
    places(&pair, "", "link/codex", "cloud", "bk");
    pair.put("cloud", SKILL, "one");
    pair.apply("a");
    fs::rename(pair.0.path("disk/codex"), pair.0.path("off")).unwrap();
    let run = pair.run("a", &["run", "--apply"]).code(5);
    assert!(
        run.stderr.contains("the Codex home does not exist"),
        "{run}"
    );
    assert!(!pair.0.path("disk/codex").exists());
}

#[test]
fn a_file_in_the_place_of_the_managers_folder_is_refused() {
    for place in [
        ".codex-manager",
        ".codex-manager/machines",
        ".codex-manager/forks",
    ] {
        let pair = Pair::new();
        pair.put("a", SKILL, "one");
        pair.put("cloud", place, "of the user");
        let before = pair.tree();
        for args in [&["plan"][..], &["run", "--apply"]] {
            let run = pair.run("a", args).code(5);
            assert!(
                run.stderr.contains("not a folder, but a file or a link: "),
                "{run}"
            );
            assert!(run.stderr.contains("move it away"), "{run}");
        }
        let mut after = pair.tree();
        after.0.retain(|path, _| !path.starts_with("manager-a"));
        assert_same_tree(&before, &after);
    }
}

#[test]
fn a_cloud_folder_that_is_a_file_is_refused() {
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    fs::remove_dir(pair.cloud()).unwrap();
    fs::write(pair.cloud(), "x").unwrap();
    for args in [&["plan"][..], &["run", "--apply"]] {
        let run = pair.run("a", args).code(5);
        assert!(
            run.stderr.contains("the cloud folder does not exist"),
            "{run}"
        );
    }
}

#[test]
fn a_folder_named_like_the_managers_own_is_reported_and_not_synced() {
    let pair = Pair::new();
    pair.put("a", "skills/mine/.codex-manager/notes.md", "mine");
    pair.put("a", SKILL, "x");
    let json = pair.apply("a");
    assert_eq!(actions(&json), [format!("copy-to-cloud {SKILL}")]);
    let left = &json["left_out"][0];
    assert_eq!(left["path"], "skills/mine/.codex-manager", "{json}");
    assert_eq!(left["reason"], "its name is reserved for codex-manager");
}

#[test]
fn a_root_in_another_letter_case_is_reported() {
    let pair = Pair::new();
    if pair
        .put("a", SKILL, "x")
        .with_file_name("skill.MD")
        .exists()
    {
        return; // The disk ignores letter case.
    }
    places(
        &pair,
        "\"Skills\", \"agents.md\", \"new\"",
        "codex-a",
        "cloud",
        "bk",
    );
    for args in [&["validate"][..], &["plan"], &["run", "--apply"]] {
        let run = pair.run("a", args).code(0);
        assert_eq!(run.stderr.matches("include_roots has").count(), 2, "{run}");
        assert!(run.stderr.contains("\"skills\""), "{run}");
        assert!(run.stderr.contains("\"AGENTS.md\""), "{run}");
    }
    places(&pair, "\"skills\"", "codex-a", "cloud", "bk");
    let run = pair.run("a", &["validate"]).code(0);
    assert!(!run.stderr.contains("include_roots has"), "{run}");
}

#[test]
fn the_first_run_says_that_it_creates_the_cloud_folder_and_preflight_announces_it() {
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    fs::remove_dir(pair.cloud()).unwrap();
    let announced = "the first sync run creates it";
    let preflight = pair.run("a", &["preflight"]).code(0);
    assert!(preflight.stdout.contains(announced), "{preflight}");
    let run = pair.run("a", &["run", "--apply"]).code(0);
    let created = "created the cloud folder: [ROOT]/cloud\n";
    assert!(run.stderr.contains(created), "{run}");
    let run = pair.run("a", &["run", "--apply"]).code(0);
    assert!(!run.stderr.contains("created"), "{run}");
    // Now a missing folder is an unmounted disk.
    fs::remove_dir_all(pair.cloud()).unwrap();
    let preflight = pair.run("a", &["preflight"]).code(5);
    assert!(!preflight.stdout.contains(announced), "{preflight}");
    let _ = pair.run("a", &["run", "--apply"]).code(5);
    assert!(!pair.cloud().exists());
}

#[test]
fn the_summary_of_a_run_counts_archived_and_unarchived_conversations() {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let name = ROLLOUT.rsplit('/').next().unwrap();
    let places = [ROLLOUT.to_owned(), format!("archived_sessions/{name}")];
    for (from, to, summary) in [(0, 1, "1 archived"), (1, 0, "1 unarchived")] {
        let [from, to] = [from, to].map(|place: usize| pair.home("a").join(&places[place]));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(from, to).unwrap();
        for machine in ["a", "b"] {
            let run = pair.run(machine, &["run", "--apply"]).code(0);
            let output = run.to_string();
            assert!(output.contains(&format!("0 conflicts, {summary}")), "{run}");
            assert!(!output.contains("cloud folder,"), "{run}");
        }
    }
}

#[test]
fn preflight_fails_if_the_backup_folder_is_blocked() {
    let pair = Pair::new();
    pair.apply("a");
    let _ = pair.run("a", &["preflight"]).code(0);
    let backups = pair.0.path("backups-a");
    fs::write(&backups, "a file").unwrap();
    let run = pair.run("a", &["preflight"]).code(5);
    assert!(
        run.stdout.contains("the backup folder is not writable"),
        "{run}"
    );
    fs::remove_file(&backups).unwrap();
    symlink(pair.0.path("nowhere"), &backups).unwrap();
    let _ = pair.run("a", &["preflight"]).code(5);
}

#[test]
fn a_local_link_stays_if_a_remote_name_differs_only_in_letter_case() {
    let pair = Pair::new();
    let theirs = pair.put("cloud", "skills/s/Note.md", "of another, and longer");
    set_mtime(&theirs, 1_900_000_000);
    pair.put("a", "skills/s/note.md", "mine");
    let elsewhere = pair.0.write("elsewhere", "not synced");
    let link = pair.home("a").join("skills/s/Note.md");
    symlink(&elsewhere, &link).unwrap();
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(actions(&json), [""; 0]);
    assert_eq!(json["conflicts"].as_array().unwrap().len(), 0, "{json}");
    assert_eq!(pair.text("a", "skills/s/note.md"), "mine");
    assert_eq!(
        pair.text("cloud", "skills/s/Note.md"),
        "of another, and longer"
    );
}

#[test]
fn a_codex_file_in_another_letter_case_is_not_merged() {
    let line = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    let (real, other) = ("history.jsonl", "History.jsonl");
    let pair = Pair::new();
    pair.configure("a", "[targets]\ninclude_roots = []\n");
    pair.put("a", real, &line(1));
    pair.put("cloud", other, "notes of a user\n");
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(json["skipped"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(pair.text("a", real), line(1));
    assert_eq!(pair.text("cloud", other), "notes of a user\n");
    fs::remove_file(pair.cloud().join(other)).unwrap();
    pair.apply("a");
    assert_eq!(pair.text("cloud", real), line(1));
}

#[test]
fn git_repositories_are_not_synced() {
    let pair = Pair::new();
    let hook = "skills/mine/.git/hooks/pre-commit";
    pair.sync(&[(SKILL, "one"), (hook, "x"), ("prompts/.GIT/config", "x")]);
    for folder in [pair.cloud(), pair.home("b")] {
        assert!(folder.join(SKILL).exists());
        assert!(!folder.join(hook).exists());
        assert!(!folder.join("prompts").exists());
    }
    // A repository in the cloud folder is another machine's.
    pair.put("cloud", "skills/mine/.git/config", "x");
    pair.apply("b");
    assert!(!pair.home("b").join("skills/mine/.git").exists());
}
