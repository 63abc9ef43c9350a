//! The effect of single configuration keys of `sync`.

use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;

const T: u64 = 1_795_000_000;

/// Returns the result of a first sync of two differing files.
fn first_sync(more: &str, mine: (&str, u64), theirs: (&str, u64)) -> (i32, Vec<String>) {
    let pair = Pair::new();
    pair.configure("a", more);
    set_mtime(&pair.put("a", SKILL, mine.0), mine.1);
    set_mtime(&pair.put("cloud", SKILL, theirs.0), theirs.1);
    let run = pair.run("a", &["plan", "--json"]);
    let code = run.code;
    (code, actions(&run.json()))
}

#[test]
fn equal_mtimes_are_decided_by_equal_mtime_action() {
    let to_cloud = vec![format!("copy-to-cloud {SKILL}")];
    let to_local = vec![format!("copy-to-local {SKILL}")];
    for (action, expected) in [
        ("skip", (6, vec![])),
        ("prefer_local", (0, to_cloud)),
        ("prefer_cloud", (0, to_local)),
        ("manual_abort", (2, vec![])),
    ] {
        let more = format!("[sync]\nequal_mtime_action = \"{action}\"\n");
        let found = first_sync(&more, ("mine", T), ("theirs", T));
        assert_eq!(found, expected, "{action}");
    }
}

#[test]
fn mtimes_within_the_tolerance_are_equal() {
    for (tolerance, apart, expected) in [(0, 1, 0), (2, 1, 6), (2, 2, 6), (2, 3, 0)] {
        let more = format!("[sync]\ntime_tolerance_seconds = {tolerance}\n");
        let (code, _) = first_sync(&more, ("mine", T + apart), ("theirs", T));
        assert_eq!(code, expected, "{tolerance} {apart}");
    }
}

#[test]
fn the_setting_compare_decides_whether_files_of_equal_size_and_mtime_are_read() {
    for (compare, expected) in [("mtime", 0), ("mtime_hash_fallback", 6), ("three_way", 2)] {
        let more = format!("[sync]\ncompare = \"{compare}\"\n");
        let (code, done) = first_sync(&more, ("one", T), ("two", T));
        assert_eq!((code, done.len()), (expected, 0), "{compare}");
    }
}

#[test]
fn prefer_newer_mtime_keeps_the_newer_version() {
    for newer in ["a", "b"] {
        let pair = Pair::new();
        pair.configure("b", "[conflict]\npolicy = \"prefer_newer_mtime\"\n");
        set_mtime(&pair.put("a", SKILL, "first"), T - 60);
        for name in ["a", "b"] {
            pair.apply(name);
        }
        for name in ["a", "b"] {
            let later = u64::from(name == newer) * 60;
            set_mtime(&pair.put(name, SKILL, &format!("of {name}")), T + later);
        }
        pair.apply("a");
        pair.apply("b");
        assert_eq!(pair.text("cloud", SKILL), format!("of {newer}"));
        assert_eq!(pair.text("b", SKILL), format!("of {newer}"));
    }
}

#[test]
fn excluded_files_stay_on_both_sides() {
    let pair = Pair::new();
    pair.configure(
        "a",
        "[filters]\nexclude_globs = [\"*.tmp\", \"skills/private/**\"]\n",
    );
    pair.put("a", "skills/mine/a.tmp", "x");
    pair.put("a", "skills/private/deep/SKILL.md", "x");
    // A glob without a slash also excludes folders of that name.
    pair.put("a", "skills/draft.tmp/deep/SKILL.md", "x");
    pair.put("cloud", "skills/other.tmp/SKILL.md", "x");
    pair.put("a", SKILL, "x");
    pair.put("cloud", "skills/theirs/b.tmp", "x");
    assert_eq!(
        actions(&pair.apply("a")),
        [format!("copy-to-cloud {SKILL}")]
    );
}

#[test]
fn the_mode_last_date_only_without_date_folders_syncs_all_with_a_note() {
    let pair = Pair::new();
    pair.configure("a", "[sync]\nsession_mode = \"last_date_only\"\n");
    pair.put("a", "sessions/misc/one.jsonl", META);
    let run = pair.run("a", &["-q", "run", "--apply"]).code(0);
    assert!(
        run.stderr.contains("as with session_mode = \"all\""),
        "{run}"
    );
    assert_eq!(pair.text("cloud", "sessions/misc/one.jsonl"), META);
    pair.put("a", ROLLOUT, META);
    let run = pair.run("a", &["run", "--apply"]).code(0);
    assert!(!run.stderr.contains("session_mode"), "{run}");
}

#[test]
fn the_manifest_of_codexsync_identifies_the_changed_side() {
    let pair = Pair::new();
    let manifest = pair.0.path("manifest.json");
    let manifest_of = |version: u32| {
        let looks = format!("{{\"mtime_ns\": {T}000000000, \"size\": 5}}");
        format!(
            "{{\"data_version\": {version}, \"files\": {{\"{SKILL}\": {{\"local\": {looks}, \
             \"cloud\": {looks}}}, \"gone.md\": {{\"local\": {looks}, \"cloud\": {looks}}}}}}}"
        )
    };
    fs::write(&manifest, manifest_of(1)).unwrap();
    pair.configure(
        "a",
        &format!("[state]\nmanifest_file = \"{}\"\n", manifest.display()),
    );
    // Changed only remotely, with an older mtime.
    set_mtime(&pair.put("a", SKILL, "first"), T);
    set_mtime(&pair.put("cloud", SKILL, "changed"), T - 60);
    let json = pair.run("a", &["plan", "--json"]).code(0).json();
    assert_eq!(actions(&json), [format!("copy-to-local {SKILL}")]);
    // Changed on both sides, so mtimes do not decide.
    set_mtime(&pair.put("a", SKILL, "as well"), T + 60);
    let _ = pair.run("a", &["plan"]).code(2);
    fs::write(&manifest, manifest_of(2)).unwrap();
    let run = pair.run("a", &["plan"]).code(4);
    assert!(
        run.stderr.contains("state.manifest_file has version 2"),
        "{run}"
    );
    fs::write(&manifest, "{").unwrap();
    let _ = pair.run("a", &["plan"]).code(4);
    fs::remove_file(&manifest).unwrap();
    let json = pair.run("a", &["plan", "--json"]).code(0).json();
    assert_eq!(actions(&json), [format!("copy-to-cloud {SKILL}")]);
}

#[test]
fn an_unknown_key_causes_only_a_warning() {
    let pair = Pair::new();
    pair.configure("a", "[sync]\nspeed = 9\n[extra]\nx = 1\n");
    for args in [&["validate"][..], &["plan"], &["run", "--apply"]] {
        let run = pair.run("a", args).code(0);
        for key in ["sync.speed", "extra.x"] {
            let label = format!("warning: unknown key {key}, which has no effect: ");
            assert!(run.stderr.contains(&label), "{run}");
        }
    }
    let json = pair.run("a", &["validate", "--json"]).code(0).json();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 2);
}

#[test]
fn a_log_size_of_zero_is_refused_with_its_key() {
    let pair = Pair::new();
    pair.configure("a", "[logging]\nmax_file_size_mb = 0\n");
    for args in [&["validate"][..], &["plan"], &["run", "--apply"]] {
        let run = pair.run("a", args).code(4);
        assert!(run.stderr.contains("logging.max_file_size_mb"), "{run}");
    }
    pair.configure("a", "[logging]\nmax_file_size_mb = 1\n");
    let _ = pair.run("a", &["validate"]).code(0);
}

#[test]
fn a_preflight_writes_nothing_into_the_cloud_folder() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    let folder = fs::File::open(pair.cloud()).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(T);
    folder.set_modified(time).unwrap();
    let _ = pair.run("a", &["preflight"]).code(0);
    let after = pair.cloud().metadata().unwrap().modified().unwrap();
    assert_eq!(after, time, "a file was created in it");
}

#[test]
fn a_sync_with_mapped_folders_suggests_codex_resume_with_an_id_or_with_all() {
    let pair = Pair::new();
    pair.configure(
        "b",
        "[[paths.map]]\nfrom = \"/Users/me\"\nto = \"/home/me\"\n",
    );
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert!(run.stderr.contains(&format!("codex resume {ID}")), "{run}");
    assert!(
        run.stderr
            .contains("because Codex has no index on this machine"),
        "{run}"
    );
    for n in 1..=2 {
        let id = ID.replace("455", &format!("00{n}"));
        pair.put("a", &ROLLOUT.replace(ID, &id), &META.replace(ID, &id));
    }
    pair.apply("a");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert!(run.stderr.contains("codex resume --all"), "{run}");
    // Without a rule, the conversation is found in its original folder.
    pair.configure("b", "");
    pair.put("a", ROLLOUT, &format!("{META}{{}}\n"));
    pair.apply("a");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert!(
        run.stderr.contains("continue with:\n    codex resume\n"),
        "{run}"
    );
}

#[test]
fn init_writes_through_a_link_but_not_through_a_broken_one() {
    let pair = Pair::new();
    let real = pair.0.write("dotfiles/sync.toml", "# mine\n");
    let link = pair.0.path("link.toml");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let cloud = pair.cloud().to_string_lossy().into_owned();
    let output = link.to_string_lossy().into_owned();
    let init = |more: &[&str]| {
        let args = ["sync", "init", "--cloud", &*cloud, "--output", &*output];
        pair.0.run([&args, more].concat())
    };
    let _ = init(&[]).code(4);
    assert_eq!(fs::read_to_string(&real).unwrap(), "# mine\n");
    let _ = init(&["--force"]).code(0);
    assert!(fs::read_to_string(&real).unwrap().contains("[paths]"));
    // The settings of the replaced file are kept.
    let copy = pair.0.path("link.toml.bak");
    assert_eq!(fs::read_to_string(copy).unwrap(), "# mine\n");
    let again = init(&["--force"]).code(0);
    assert!(!again.stderr.contains("the old settings"), "{again}");
    assert!(!pair.0.path("link.toml.bak-2").exists(), "the same text");
    fs::remove_file(&real).unwrap();
    for more in [&[][..], &["--force"]] {
        let run = init(more).code(1);
        assert!(run.stderr.contains("follow the link"), "{run}");
    }
    assert!(link.is_symlink() && !real.exists());
}
