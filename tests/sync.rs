//! `sync` on the command line, between two homes and a cloud folder.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

#[test]
fn a_conversation_is_synced_to_another_machine_and_back() {
    let pair = Pair::new();
    let file = pair.put("a", ROLLOUT, META);
    set_mtime(&file, 1_795_000_000);
    assert_eq!(
        actions(&pair.apply("a")),
        [format!("copy-to-cloud {ROLLOUT}")]
    );
    assert_eq!(
        actions(&pair.apply("b")),
        [format!("copy-to-local {ROLLOUT}")]
    );
    let there = pair.home("b").join(ROLLOUT);
    let times = [&file, &there].map(|p| p.metadata().unwrap().modified().unwrap());
    assert_eq!(times[0], times[1], "the mtime is preserved");
    // The file grew on the other machine, whose clock is slow.
    let longer = format!("{META}{{\"n\":1}}\n");
    set_mtime(&pair.put("b", ROLLOUT, &longer), 1_700_000_000);
    pair.apply("b");
    pair.apply("a");
    assert_eq!(pair.text("a", ROLLOUT), longer);
    for name in ["a", "b"] {
        let before = pair.tree();
        assert_eq!(actions(&pair.apply(name)), Vec::<String>::new());
        assert_same_tree(&before, &pair.tree());
    }
}

#[test]
fn logins_and_databases_are_never_synced_and_naming_one_is_refused() {
    let pair = Pair::new();
    let paths = [
        "auth.json",
        "x_auth.json",
        "installation_id",
        "state_5.sqlite",
        "auth.lock",
        "AGENTS.md",
    ];
    pair.put_all("a", &paths);
    assert_eq!(actions(&pair.apply("a")), ["copy-to-cloud AGENTS.md"]);
    // The same holds from the cloud folder into a home.
    pair.put("cloud", "auth.json", "planted");
    assert_eq!(actions(&pair.apply("b")), ["copy-to-local AGENTS.md"]);
    pair.configure("b", "[targets]\ninclude_roots = [\"auth.json\"]\n");
    let run = pair.run("b", &["plan"]).code(4);
    assert!(run.stderr.contains("a login is never synced"), "{run}");
}

#[test]
fn run_writes_nothing_without_apply_unless_dry_run_default_is_false() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let before = pair.0.tree("");
    let _ = pair.run("a", &["run"]).code(0);
    let _ = pair.run("a", &["run", "--dry-run"]).code(0);
    let _ = pair.run("a", &["plan", "--json"]).code(0);
    assert_same_tree(&before, &pair.0.tree(""));
    pair.configure("a", "[sync]\ndry_run_default = false\n");
    let _ = pair.run("a", &["run"]).code(0);
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}

#[test]
fn diverged_conversations_are_a_conflict_and_change_nothing_until_resolved() {
    let pair = Pair::new();
    let [mine, other] = pair.diverge();
    let before = pair.0.tree("codex-b");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(2);
    assert_eq!(run.json()["conflicts"][0]["path"], ROLLOUT);
    assert_same_tree(&before, &pair.0.tree("codex-b"));
    assert_eq!(pair.text("cloud", ROLLOUT), mine);
    // Both versions stay; the local one becomes a new conversation.
    let run = pair
        .run("b", &["resolve", ID, "--keep", "both", "--json"])
        .code(0);
    let new = run.json()["new_id"].as_str().unwrap().to_owned();
    assert_ne!(new, ID);
    assert_eq!(pair.text("b", ROLLOUT), other);
    let own = ROLLOUT.replace(ID, &new);
    assert_eq!(pair.text("b", &own), mine.replace(ID, &new));
    pair.apply("b");
    pair.apply("a");
    assert_eq!(pair.text("a", ROLLOUT), other);
    assert_eq!(pair.text("a", &own), mine.replace(ID, &new));
}

#[test]
fn keep_both_works_after_earlier_decisions_and_with_existing_copies() {
    for is_kept_already in [false, true] {
        let pair = Pair::new();
        let backup = "[backup]\nbackup_before_overwrite = false\n";
        pair.configure("b", backup);
        let [mine, other] = pair.diverge();
        if is_kept_already {
            let policy = "[conflict]\npolicy = \"prefer_local\"\n";
            pair.configure("b", &format!("{backup}{policy}"));
            pair.apply("b");
            pair.configure("b", backup);
        } else {
            let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
            pair.apply("b");
        }
        pair.apply("a");
        // The user restores the file by hand, and both versions continue.
        pair.put("a", ROLLOUT, &mine);
        pair.apply("a");
        assert_eq!(pair.text("cloud", ROLLOUT), mine);
        let more = format!("{other}{{\"n\":\"more\"}}\n");
        pair.put("b", ROLLOUT, &more);
        let _ = pair.run("b", &["run", "--apply"]).code(2);
        let run = pair
            .run("b", &["resolve", ROLLOUT, "--keep", "both", "--json"])
            .code(0);
        let new = run.json()["new_id"].as_str().expect("an id").to_owned();
        assert_eq!(pair.text("b", ROLLOUT), more);
        let own = ROLLOUT.replace(ID, &new);
        assert_eq!(pair.text("b", &own), mine.replace(ID, &new));
        // The common version may also be kept; the other machine's version may not.
        pair.apply("b");
        let forks = fs::read_dir(pair.cloud().join(".codex-manager/forks")).unwrap();
        let texts = forks.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let texts: Vec<_> = texts.collect();
        assert!(!texts.contains(&mine), "{texts:?}");
        assert_eq!(pair.text("cloud", &own), mine.replace(ID, &new));
    }
}

#[test]
fn with_a_policy_the_losing_version_becomes_a_conflict_copy_that_resolve_can_bring_back() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
    let [mine, other] = pair.diverge();
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), mine);
    // Both machines report the version, because both have it.
    for name in ["a", "b"] {
        let json = pair.apply(name);
        let again = pair.apply(name);
        assert_eq!(
            again["forks"].as_array().unwrap().len(),
            1,
            "{json} {again}"
        );
    }
    let run = pair
        .run("a", &["resolve", &ID[..8], "--keep", "fork"])
        .code(0);
    assert!(run.stderr.contains("sync run"), "{run}");
    pair.apply("a");
    pair.apply("b");
    for name in ["a", "b"] {
        assert_eq!(pair.text(name, ROLLOUT), other, "{name}");
        assert_eq!(pair.apply(name)["forks"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn prompts_of_both_machines_are_merged_by_time() {
    let pair = Pair::new();
    let line = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    pair.put("a", "history.jsonl", &(line(1) + &line(4)));
    pair.apply("a");
    pair.put("b", "history.jsonl", &(line(2) + &line(4)));
    pair.apply("b");
    pair.apply("a");
    let all = line(1) + &line(2) + &line(4);
    assert_eq!(pair.text("a", "history.jsonl"), all);
    assert_eq!(pair.text("b", "history.jsonl"), all);
}

#[test]
fn archiving_is_synced_as_a_move() {
    let pair = Pair::new();
    pair.configure("b", "[targets]\ninclude_roots = [\"sessions\"]\n");
    pair.sync(&[(ROLLOUT, META)]);
    let archived = format!("archived_sessions/{}", ROLLOUT.rsplit('/').next().unwrap());
    fs::create_dir_all(pair.home("b").join("archived_sessions")).unwrap();
    fs::rename(pair.home("b").join(ROLLOUT), pair.home("b").join(&archived)).unwrap();
    assert_eq!(
        actions(&pair.apply("b")),
        [format!("move-cloud {archived}")]
    );
    assert_eq!(actions(&pair.apply("a")), [format!("move-local {ROLLOUT}")]);
    assert_eq!(pair.text("a", &archived), META);
    assert!(!pair.home("a").join(ROLLOUT).exists());
}

#[test]
fn a_partial_file_is_never_used() {
    let pair = Pair::new();
    let whole = format!("{META}{{\"n\":1}}\n{{\"n\":2}}\n");
    pair.put("a", ROLLOUT, &whole);
    pair.put("a", SKILL, "all of it");
    pair.apply("a");
    pair.put("cloud", ROLLOUT, META);
    pair.put("cloud", SKILL, "all");
    let json = pair.run("b", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(json["waiting"].as_array().unwrap().len(), 2, "{json}");
    assert!(!pair.home("b").join(ROLLOUT).exists());
    assert!(!pair.home("b").join("skills").exists());
    pair.put("cloud", ROLLOUT, &whole);
    pair.put("cloud", SKILL, "all of it");
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), whole);
}

#[test]
fn an_empty_or_missing_cloud_folder_is_refused_and_deletes_nothing_and_refill_fills_it() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.put("a", SKILL, "x");
    pair.apply("a");
    let before = pair.0.tree("codex-a");
    fs::rename(pair.cloud(), pair.0.path("elsewhere")).unwrap();
    let run = pair.run("a", &["run", "--apply"]).code(5);
    assert!(run.stderr.contains("does not exist"), "{run}");
    fs::create_dir(pair.cloud()).unwrap();
    let run = pair.run("a", &["run", "--apply"]).code(5);
    assert!(run.stderr.contains("2 of 2 files are missing"), "{run}");
    assert_same_tree(&before, &pair.0.tree("codex-a"));
    let _ = pair.run("a", &["run", "--apply", "--refill"]).code(0);
    assert_eq!(pair.text("cloud", ROLLOUT), META);
    // A file that is missing in the cloud folder is copied there again, not deleted locally.
    fs::remove_file(pair.cloud().join(ROLLOUT)).unwrap();
    pair.apply("a");
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}

#[test]
fn links_in_the_cloud_folder_are_not_followed() {
    let pair = Pair::new();
    let secret = pair.0.write("outside/secret", "x");
    let outside = pair.0.path("outside");
    pair.put("a", ROLLOUT, META);
    pair.put("a", SKILL, "x");
    let before = pair.0.tree("outside");
    let link = |to: &Path, at: &str| symlink(to, pair.cloud().join(at)).unwrap();

    link(&outside, ".codex-manager");
    let run = pair.run("a", &["run", "--apply"]).code(5);
    assert!(
        run.stderr.contains("not a folder, but a file or a link: "),
        "{run}"
    );
    fs::remove_file(pair.cloud().join(".codex-manager")).unwrap();

    link(&outside, "skills");
    link(&secret, "AGENTS.md");
    let run = pair.run("a", &["run", "--apply"]).code(6);
    let message = "not synced: skills: a link is not followed";
    assert!(run.stderr.contains(message), "{run}");
    pair.apply("b");
    assert!(!pair.home("b").join("AGENTS.md").exists());
    assert!(!pair.home("b").join("skills").exists());
    assert_same_tree(&before, &pair.0.tree("outside"));
}

#[test]
fn with_propagate_a_deletion_is_synced_to_the_cloud_folder_and_the_other_machine() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    for n in 0..20 {
        pair.put("a", &format!("skills/{n}/SKILL.md"), &n.to_string());
    }
    pair.apply("a");
    pair.apply("b");
    fs::remove_file(pair.home("a").join("skills/7/SKILL.md")).unwrap();
    assert_eq!(
        actions(&pair.apply("a")),
        ["delete-cloud skills/7/SKILL.md"]
    );
    assert_eq!(
        actions(&pair.apply("b")),
        ["delete-local skills/7/SKILL.md"]
    );
}

#[test]
fn many_deletions_are_held_back_and_the_rest_is_synced() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    for n in 0..20 {
        pair.put("a", &format!("skills/{n}/SKILL.md"), &n.to_string());
    }
    pair.apply("a");
    pair.apply("b");
    // On the machine where the files were deleted, all of them at once.
    fs::remove_dir_all(pair.home("a").join("skills")).unwrap();
    pair.put("a", ROLLOUT, META);
    for _ in 0..2 {
        let run = pair.run("a", &["run", "--apply"]).code(6);
        assert!(run.stderr.contains("20 deletions at once"), "{run}");
        assert!(run.stderr.contains("skills/19/SKILL.md"), "{run}");
        assert!(run.stderr.contains("--delete-many"), "{run}");
        assert_eq!(pair.text("cloud", ROLLOUT), META);
        assert_eq!(pair.text("cloud", "skills/3/SKILL.md"), "3");
    }
    let _ = pair.run("a", &["run", "--apply", "--delete-many"]).code(0);
    assert!(!pair.cloud().join("skills/3/SKILL.md").exists());
    // On the requested machine. The folder counts as mounted, because it has the other machine's manifest.
    pair.put("a", SKILL, "new");
    pair.apply("a");
    let json = pair.run("b", &["run", "--apply", "--json"]).code(6).json();
    let skipped = json["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 20, "{json}");
    assert_eq!(pair.text("b", SKILL), "new");
    assert_eq!(pair.text("b", "skills/3/SKILL.md"), "3");
    pair.configure("b", "");
    let back = pair.apply("b");
    assert_eq!(back["summary"]["copy-to-cloud"], 20, "{back}");
}

#[test]
fn many_files_deleted_on_both_machines_do_not_stop_a_sync() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[sync]\ndelete_policy = \"propagate\"\n");
    }
    let files: Vec<_> = (0..60).map(|n| format!("skills/{n}/SKILL.md")).collect();
    let files: Vec<_> = files.iter().map(|path| (&**path, "x")).collect();
    pair.sync(&files);
    for name in ["a", "b"] {
        for (path, _) in &files[..30] {
            fs::remove_file(pair.home(name).join(path)).unwrap();
        }
    }
    let _ = pair.run("a", &["run", "--apply", "--delete-many"]).code(0);
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
    assert!(!pair.cloud().join(files[3].0).exists());
}

#[test]
fn a_configuration_of_codexsync_works_unchanged() {
    let env = TestEnv::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sync/codexsync-config.toml");
    let text = fs::read_to_string(fixture).unwrap();
    env.write("config.toml", text);
    let run = env.run(["sync", "-c", "config.toml", "validate"]).code(0);
    // codexSync requires the key; codex-manager ignores it.
    assert_eq!(
        run.stderr,
        "warning: paths.temp_dir has no effect: temporary files are written next to the files that they replace\n"
    );
    env.write("home/.codex/sessions/2026/11/18/a.jsonl", "{}\n");
    env.write("home/.codex/sessions/2026-11-19/b.jsonl", "{}\n");
    env.write("home/.codex/skills/x/SKILL.md", "x");
    env.write("home/.codex/history.jsonl", "{}\n");
    fs::create_dir_all(env.path("home/cs/cloud")).unwrap();
    let json = env
        .run(["sync", "plan", "-c", "config.toml", "--json"])
        .code(0)
        .json();
    assert_eq!(
        actions(&json),
        [
            "copy-to-cloud sessions/2026-11-19/b.jsonl",
            "copy-to-cloud skills/x/SKILL.md"
        ]
    );
}

#[test]
fn init_needs_the_cloud_folder() {
    let env = TestEnv::new();
    let before = env.tree("home");
    for dry_run in [&["--dry-run"][..], &[]] {
        let run = env.run(["sync", "init"].iter().chain(dry_run)).code(4);
        assert!(run.stderr.contains("no cloud folder was given"), "{run}");
        assert!(run.stderr.contains("--cloud DIR"), "{run}");
    }
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn init_asks_for_the_cloud_folder_on_a_terminal() {
    use crate::support::terminal::Terminal;
    let env = TestEnv::new();
    for (answer, code) in [("\n", 4), ("~/Dropbox/codex\n", 0)] {
        let mut terminal = Terminal::start(&mut env.command(["sync", "init"]));
        let question = "such as ~/Dropbox/codex:";
        terminal.wait_for(question, std::time::Duration::from_secs(60));
        terminal.type_keys(answer);
        assert_eq!(terminal.end().code(), Some(code));
    }
    let text = fs::read_to_string(env.manager_home().join("sync.toml")).unwrap();
    let cloud = env.path("home/Dropbox/codex").display().to_string();
    assert!(text.contains(&cloud), "{text}");
}

#[test]
fn init_warns_that_conversations_are_copied_unencrypted_and_suggests_vault() {
    let env = TestEnv::new();
    let run = env.run(["sync", "init", "--cloud", "home/cloud"]).code(0);
    let warning = "conversations are copied as they are, with the secrets that were typed or printed in them; \
                   `codex-manager vault` keeps encrypted copies";
    assert!(run.stderr.contains(warning), "{run}");
}

#[test]
fn the_guide_and_the_readme_say_that_sync_copies_unencrypted_and_suggest_vault() {
    for (page, words) in [
        (
            "docs/sync.md",
            "Conversations and the prompt history are copied as they are",
        ),
        (
            "docs/sync.md",
            "keep encrypted copies with\n[`vault`](vault.md)",
        ),
        (
            "README.md",
            "For encrypted copies, use the [vault](docs/vault.md)",
        ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(words), "{page}: {words}");
    }
}

#[test]
fn a_suggested_command_of_sync_names_the_configuration() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let run = pair.run("a", &["plan"]).code(0);
    let command = "sync run --apply -c [ROOT]/a.toml\n";
    assert!(run.to_string().contains(command), "{run}");
}

#[test]
fn init_writes_a_valid_configuration_and_replaces_one_only_with_force() {
    let env = TestEnv::new();
    let _ = env.run(["sync", "plan"]).code(4);
    let _ = env.run(["sync", "init", "--cloud", "home/first"]).code(0);
    // codexSync has the same exit code.
    let _ = env.run(["sync", "init"]).code(4);
    let run = env.run(["sync", "init", "--dry-run"]).code(4);
    assert!(run.stderr.contains("exists already"), "{run}");
    let _ = env
        .run(["sync", "init", "--force", "--cloud", "home/cloud"])
        .code(0);
    assert_eq!(env.run(["sync", "validate"]).code(0).stderr, "");
}

#[test]
fn init_refuses_a_cloud_folder_inside_the_codex_home() {
    let env = TestEnv::new();
    let inside = [
        "sync",
        "init",
        "--output",
        "x.toml",
        "--cloud",
        "home/.codex/x",
    ];
    let run = env.run(inside).code(4);
    assert!(run.stderr.contains("is inside the Codex home"), "{run}");
    assert!(!env.path("x.toml").exists());
}

#[test]
fn preflight_warns_of_a_missing_cloud_folder_and_fails_without_its_parent() {
    let env = TestEnv::new();
    let _ = env.run(["sync", "init", "--cloud", "home/cloud"]).code(0);
    let has_check = |code: i32, status: &str| {
        let checks = env.run(["sync", "preflight", "--json"]).code(code).json();
        let mut checks = checks["checks"].as_array().unwrap().iter();
        checks.any(|check| check["id"] == "sync.cloud" && check["status"] == status)
    };
    // The first run creates the cloud folder, but not the folder that contains it.
    assert!(has_check(0, "warn"));
    let _ = env
        .run(["sync", "init", "--force", "--cloud", "home/new/cloud"])
        .code(0);
    assert!(has_check(5, "fail"));
    fs::create_dir_all(env.path("home/new/cloud")).unwrap();
    assert!(has_check(0, "ok"));
}

#[test]
fn validate_refuses_an_invalid_value_with_its_key() {
    let env = TestEnv::new();
    env.write(
        "bad.toml",
        "[sync]\nmode = \"hot\"\nx = 1\n[paths]\ncloud_root_dir = \"c\"\n",
    );
    let run = env.run(["sync", "-c", "bad.toml", "validate"]).code(4);
    assert!(run.stderr.contains("sync.mode"), "{run}");
}

#[test]
fn conflicted_copies_of_cloud_clients_are_merged_by_line() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    let longer = format!("{META}{{\"n\":1}}\n");
    let copy = ROLLOUT.replace(".jsonl", " (Bob's conflicted copy 2026-11-18).jsonl");
    pair.put("cloud", &copy, &longer);
    pair.put("cloud", "history.jsonl", "{\"ts\":2}\n");
    pair.put("cloud", "history (1).jsonl", "{\"ts\":1}\n");
    pair.apply("a");
    assert_eq!(pair.text("a", ROLLOUT), longer);
    assert_eq!(pair.text("cloud", ROLLOUT), longer);
    assert_eq!(pair.text("a", "history.jsonl"), "{\"ts\":1}\n{\"ts\":2}\n");
    assert_eq!(actions(&pair.apply("a")), Vec::<String>::new());
}

#[test]
fn the_mode_last_date_only_syncs_the_parents_of_forks() {
    let pair = Pair::new();
    pair.configure(
        "a",
        "[sync]\nsession_mode = \"last_date_only\"\n[targets]\ninclude_roots = [\"sessions\"]\n",
    );
    let parent = format!("archived_sessions/{}", ROLLOUT.rsplit('/').next().unwrap());
    pair.put("a", &parent, META);
    let child = "sessions/2026/11/19/rollout-2026-11-19T10-00-00-01a1f790-0000-7000-8000-0000000000aa.jsonl";
    let meta = format!(
        "{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"x\",\"history_base\":{{\"thread_id\":\"{ID}\"}}}}}}\n"
    );
    pair.put("a", child, &meta);
    pair.put("a", "sessions/2026/11/17/rollout-2026-11-17T10-00-00-01a1f790-0000-7000-8000-0000000000bb.jsonl", META);
    let json = pair.apply("a");
    assert_eq!(
        actions(&json),
        [
            format!("copy-to-cloud {parent}"),
            format!("copy-to-cloud {child}")
        ]
    );
}

#[test]
fn the_default_log_is_in_the_manager_home_and_a_dry_run_logs_only_with_log() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let logs = pair.0.path("manager-a/logs");
    let _ = pair.run("a", &["run", "--dry-run"]).code(0);
    assert!(!logs.exists(), "a dry run writes nothing");
    // A scheduled job starts with these flags.
    let _ = pair.run("a", &["run", "--dry-run", "--log"]).code(0);
    let _ = pair.run("a", &["run", "--apply", "--log"]).code(0);
    let texts = fs::read_dir(&logs).unwrap().flatten();
    let texts = texts.map(|entry| fs::read_to_string(entry.path()).unwrap());
    let text: String = texts.collect();
    assert_eq!(text.matches("begins").count(), 2, "{text}");
    assert_eq!(text.matches("copy-to-cloud").count(), 1, "{text}");
}

#[test]
fn the_configured_log_lists_the_steps() {
    let pair = Pair::new();
    let file = pair.0.path("logs/sync.log");
    pair.configure(
        "a",
        &format!("[logging]\nfile = {file:?}\nformat = \"json\"\n"),
    );
    pair.put("a", ROLLOUT, META);
    let _ = pair.run("a", &["plan"]).code(0);
    assert!(!pair.0.path("logs").exists(), "a plan writes nothing");
    let _ = pair.run("a", &["run", "--apply", "--log"]).code(0);
    let entries = fs::read_dir(pair.0.path("logs")).unwrap().flatten();
    let mut logs = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("sync-a-")
    });
    let text = fs::read_to_string(logs.next().unwrap()).unwrap();
    assert_eq!(logs.next(), None);
    for word in ["\"begins\"", "\"copy-to-cloud\"", ROLLOUT, "\"ends\""] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(
        !pair.0.path("manager-a/logs").exists(),
        "a second log file was created"
    );
}

#[test]
fn a_full_log_of_all_events_is_renamed() {
    let pair = Pair::new();
    let file = pair.0.path("logs/sync.log");
    pair.configure(
        "a",
        &format!("[logging]\nfile = {file:?}\nlevel = \"DEBUG\"\nmax_file_size_mb = 1\n"),
    );
    pair.put("a", ROLLOUT, META);
    let _ = pair.run("a", &["run", "--apply", "--log"]).code(0);
    let list_logs = || {
        let entries = fs::read_dir(pair.0.path("logs")).unwrap().flatten();
        let paths = entries.map(|entry| entry.path());
        let logs = paths.filter(|path| path.extension().is_some_and(|e| e == "log"));
        logs.collect::<Vec<_>>()
    };
    let logs = list_logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    let more_than_a_mebibyte = format!("{}\n", "x".repeat(1 << 20));
    fs::write(&logs[0], more_than_a_mebibyte).unwrap();
    let _ = pair.run("a", &["run", "--apply", "--log"]).code(0);
    let logs = list_logs();
    assert_eq!(logs.len(), 2, "{logs:?}");
}

#[test]
fn resolve_keeps_the_named_side() {
    for (side, expected) in [("local", "of b"), ("cloud", "of a, longer")] {
        let pair = Pair::synced(&[(SKILL, "first")]);
        pair.put("a", SKILL, "of a, longer");
        pair.put("b", SKILL, "of b");
        pair.apply("a");
        let _ = pair.run("b", &["run", "--apply"]).code(2);
        let _ = pair.run("b", &["resolve", SKILL, "--keep", side]).code(0);
        pair.apply("b");
        pair.apply("a");
        for name in ["a", "b", "cloud"] {
            assert_eq!(pair.text(name, SKILL), expected, "{side} {name}");
        }
    }
}

#[test]
fn a_second_sync_at_the_same_time_is_refused() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    let folder = fs::read_dir(pair.0.path("manager-a/sync")).unwrap().next();
    let lock = folder.unwrap().unwrap().path().join(".lock");
    let held = fs::File::options().write(true).open(lock).unwrap();
    held.try_lock().unwrap();
    pair.put("a", "AGENTS.md", "x");
    for args in [&["run", "--apply"][..], &["restore", "--apply"]] {
        let run = pair.run("a", args).code(1);
        assert!(run.stderr.contains("is syncing this Codex home"), "{run}");
    }
    assert!(!pair.cloud().join("AGENTS.md").exists());
    let _ = pair.run("a", &["plan"]).code(0);
    drop(held);
    pair.apply("a");
}

/// Creates files that are equal on both sides with one mtime, as after a sync.
fn sync_many_files(pair: &Pair, files: u32) {
    for number in 0..files {
        let id = format!("01a1f78b-4d30-7ef3-b0ee-{number:012x}");
        let path = format!("sessions/2026/11/18/rollout-2026-11-18T10-00-00-{id}.jsonl");
        for side in ["a", "cloud"] {
            set_mtime(&pair.put(side, &path, META), 1_795_000_000);
        }
    }
}

#[test]
fn unchanged_files_are_not_read() {
    let pair = Pair::new();
    sync_many_files(&pair, 20);
    let skill = pair.put("a", SKILL, "text");
    let _ = pair.apply("a");
    for side in [pair.home("a"), pair.cloud()] {
        for top in ["sessions", "skills"] {
            make_unreadable(&side.join(top));
        }
    }
    let plan = [
        "--manager-home",
        "manager-a",
        "sync",
        "-c",
        "a.toml",
        "plan",
    ];
    let run = pair.0.run_unprivileged(&plan).code(0);
    assert!(run.stdout.contains("nothing to do: 21 files"), "{run}");
    // A read of the file would be reported.
    set_mtime(&skill, 1_795_000_001);
    let run = pair.0.run_unprivileged(&plan).code(6);
    assert!(
        run.stderr
            .contains("skills/mine/SKILL.md: it cannot be read"),
        "{run}"
    );
}

fn make_unreadable(path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            make_unreadable(&entry.path());
        }
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o200)).unwrap();
    }
}

#[test]
fn prompts_dropped_by_max_bytes_are_neither_deleted_elsewhere_nor_copied_back() {
    let line = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    let lines = |from: u8, to: u8| (from..=to).map(line).collect::<String>();
    let pair = Pair::new();
    let limit = lines(0, 5).len();
    let config = format!("[history]\nmax_bytes = {limit}\n");
    pair.put("a", "config.toml", &config);
    let history = "history.jsonl";
    pair.sync(&[(history, &lines(0, 6))]);
    // Codex drops the oldest lines when it writes the next one.
    pair.put("a", history, &lines(4, 7));
    let json = pair.apply("a");
    assert_eq!(actions(&json), ["merge history.jsonl"], "{json}");
    assert_eq!(pair.text("a", history), lines(4, 7));
    assert_eq!(pair.text("cloud", history), lines(0, 7));
    for _ in 0..2 {
        assert_eq!(actions(&pair.apply("a")), [""; 0]);
    }
    pair.apply("b");
    assert_eq!(pair.text("b", history), lines(0, 7));
    // New lines of the other machine are copied; its old lines stay on that machine only.
    pair.put("b", history, &(lines(0, 7) + &line(8)));
    pair.apply("b");
    pair.apply("a");
    assert_eq!(pair.text("a", history), lines(4, 8));
    for name in ["a", "b", "a"] {
        assert_eq!(actions(&pair.apply(name)), [""; 0]);
    }
    assert_eq!(pair.text("cloud", history), lines(0, 8));
    // Lines were dropped and none was written, so there is nothing to do.
    pair.put("a", history, &lines(6, 8));
    assert_eq!(actions(&pair.apply("a")), [""; 0]);
    assert_eq!(pair.text("a", history), lines(6, 8));
    assert_eq!(pair.text("cloud", history), lines(0, 8));
    // With a higher limit the old lines return.
    pair.put("a", "config.toml", "");
    pair.apply("a");
    assert_eq!(pair.text("a", history), lines(0, 8));
}

#[test]
fn conflicts_are_logged_as_warnings() {
    let pair = Pair::new();
    pair.diverge();
    let _ = pair.run("b", &["run", "--apply"]).code(2);
    let logs = fs::read_dir(pair.0.path("manager-b/logs")).unwrap();
    let log: String = logs
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let is_it = |line: &&str| line.contains(ROLLOUT) && line.contains("] conflict ");
    let of_it: Vec<_> = log.lines().filter(is_it).collect();
    assert_eq!(of_it.len(), 1, "{log}");
    assert!(of_it[0].contains("WARNING"), "{log}");
}
