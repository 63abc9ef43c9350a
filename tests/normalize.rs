//! `normalize` creates records of legacy files and never changes the files.

use crate::support::create_pipe;
use crate::support::env::{TestEnv, Tree, assert_same_tree};
use crate::support::sign_in::{SignIn, auth_json};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

const EXAMPLE: &str = "21apr_drdpsbose023@gmail.com_auth.json";

/// Creates an environment with the time and zone of the documented example.
fn example() -> TestEnv {
    let mut env = TestEnv::new();
    env.set("TZ", "Asia/Kolkata")
        .set("CODEX_MANAGER_NOW", "2026-04-19T15:30:00+05:30");
    dump(&env, EXAMPLE, "{}", "2026-04-14T17:55:00+05:30");
    env
}

/// Writes a file into `dumps/` with a modification time.
fn dump(env: &TestEnv, name: &str, contents: impl AsRef<[u8]>, mtime: &str) {
    let path = env.write(&format!("dumps/{name}"), contents);
    set_mtime(&path, mtime);
}

fn set_mtime(path: &Path, mtime: &str) {
    let secs = chrono::DateTime::parse_from_rfc3339(mtime)
        .expect("time")
        .timestamp();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(secs).expect("after 1970"));
    File::open(path)
        .and_then(|file| file.set_modified(at))
        .expect("set mtime");
}

fn normalized(env: &TestEnv, args: &[&str]) -> Value {
    let mut all = vec!["normalize", "dumps", "--json"];
    all.extend(args);
    env.run(all).code(0).json()
}

/// Returns the record of a file name.
fn record<'a>(document: &'a Value, name: &str) -> &'a Value {
    let records = document["records"].as_array().expect("records");
    records
        .iter()
        .find(|r| r["legacy_auth_filename"] == name)
        .unwrap_or_else(|| panic!("no record of {name}: {document:#}"))
}

/// Returns the skipped files, as `name: reason`.
fn skipped(document: &Value) -> Vec<String> {
    let skipped = document["skipped"].as_array().expect("skipped");
    skipped
        .iter()
        .map(|s| {
            let path = Path::new(s["path"].as_str().expect("path"));
            let name = path.file_name().expect("name").to_string_lossy();
            format!("{name}: {}", s["reason"].as_str().expect("reason"))
        })
        .collect()
}

#[test]
fn the_documented_example_gives_the_documented_record() {
    let env = example();
    let document = normalized(&env, &[]);
    let expected = serde_json::json!({
        "legacy_auth_filename": EXAMPLE,
        "legacy_quota_day_token": "21apr",
        "legacy_year": 2026,
        "email": "drdpsbose023@gmail.com",
        "account_id": null,
        "session_start_at": "2026-04-14T15:55:00+05:30",
        "next_available_at": "2026-04-21T15:55:00+05:30",
        "quota_end_detected_at": "2026-04-14T17:55:00+05:30",
        "inferred_session_duration_seconds": 7200,
        "validation_status": "match",
        "archive_name": "2026-04-14-155500-drdpsbose023@gmail.com-codex.tar.gz",
        "source_path": env.path("dumps").join(EXAMPLE).display().to_string().replace(
            &env.path("").display().to_string(), "[ROOT]/"),
        "problem": "no login in it",
    });
    assert_eq!(record(&document, EXAMPLE), &expected);
    assert_eq!(
        (&document["added"], &document["unchanged"]),
        (&1.into(), &0.into())
    );
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    let account = &cooldown["accounts"][0];
    assert_eq!(account["state"], "cooldown");
    assert_eq!(account["next_available_at"], "2026-04-21T15:55:00+05:30");
    assert_eq!(account["source"], "legacy");
    assert_eq!(account["login"], "none");
}

#[test]
fn text_output_is_aligned_at_80_columns() {
    let env = example();
    let run = env.run(["normalize", "dumps"]).code(0);
    insta::assert_snapshot!(run, @r#"
exit 0
--- stdout
ACCOUNT                 DAY IN NAME  STARTED           NEXT AVAILABLE    LOGIN
drdpsbose023@gmail.com  21apr match  Tue 14 Apr 15:55  Tue 21 Apr 15:55  none
1 record: 1 new, 0 changed, 0 unchanged; 0 files skipped
--- stderr
no usable login of drdpsbose023@gmail.com (no login in it): 21apr_drdpsbose023@gmail.com_auth.json
see which accounts are ready with:
    codex-manager accounts
"#);
}

#[test]
fn i1_originals_are_neither_changed_nor_deleted() {
    let env = example();
    dump(&env, "1may_a@x.com_auth.json", "", "2026-04-01T00:00:00Z");
    let before = env.tree("dumps");
    let flags = ["--write-metadata", "--write-archives", "--recursive"];
    let mut args = vec!["normalize", "dumps"];
    args.extend(flags);
    let _ = env.run(&args).code(6);
    let _ = env.run(&args).code(6);
    assert_same_tree(&before, &env.tree("dumps"));
}

#[test]
fn i9_a_second_run_changes_nothing() {
    let env = example();
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    dump(
        &env,
        "22apr_a@x.com_auth.json",
        &login,
        "2026-04-15T17:55:00+05:30",
    );
    // The same account and time from two folders.
    dump(
        &env,
        "old/22apr_a@x.com_auth.json",
        &login,
        "2026-04-15T17:55:00+05:30",
    );
    let flags = ["--write-metadata", "--recursive"];
    let first = normalized(&env, &flags);
    assert_eq!(
        (&first["added"], &first["unchanged"]),
        (&3.into(), &0.into())
    );
    let mut names: Vec<_> = first["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|r| r["archive_name"].as_str().expect("name"))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "2026-04-14-155500-drdpsbose023@gmail.com-codex.tar.gz",
            "2026-04-15-155500-a@x.com-2-codex.tar.gz",
            "2026-04-15-155500-a@x.com-codex.tar.gz",
        ]
    );
    let before = env.tree("home");
    let mut later = env;
    later.set("CODEX_MANAGER_NOW", "2026-04-20T15:30:00+05:30");
    let second = normalized(&later, &flags);
    assert_eq!(
        (&second["added"], &second["unchanged"], &second["updated"]),
        (&0.into(), &3.into(), &0.into())
    );
    assert_eq!(second["records"], first["records"]);
    assert_same_tree(&before, &later.tree("home"));
}

#[test]
fn a_changed_file_updates_its_record() {
    let env = example();
    let _ = normalized(&env, &[]);
    dump(&env, EXAMPLE, "{ }", "2026-04-15T17:55:00+05:30");
    let second = normalized(&env, &[]);
    assert_eq!(
        (&second["added"], &second["updated"]),
        (&0.into(), &1.into())
    );
    assert_eq!(
        record(&second, EXAMPLE)["archive_name"],
        "2026-04-15-155500-drdpsbose023@gmail.com-codex.tar.gz"
    );
    let text = fs::read_to_string(env.manager_home().join("inventory.json")).expect("read");
    let inventory: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(inventory["legacy"].as_array().expect("legacy").len(), 1);
}

#[test]
fn i11_dry_run_writes_nothing_and_prints_the_same() {
    let env = example();
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    dump(
        &env,
        "21apr_a@x.com_auth.json",
        &login,
        "2026-04-14T17:55:00+05:30",
    );
    let flags = [
        "normalize",
        "dumps",
        "--json",
        "--write-metadata",
        "--write-archives",
    ];
    let before = env.tree("");
    let mut args = flags.to_vec();
    args.push("--dry-run");
    let planned = env.run(args).code(6).json();
    assert_same_tree(&before, &env.tree(""));
    let done = env.run(flags).code(6).json();
    for key in ["records", "skipped", "added", "archives", "sidecars"] {
        assert_eq!(planned[key], done[key], "{key}");
    }
    assert_eq!(done["archives"].as_array().expect("archives").len(), 1);
    assert_eq!(done["sidecars"].as_array().expect("sidecars").len(), 1);
}

#[test]
fn impossible_dates_in_file_names_are_recorded_as_mismatches() {
    let env = example();
    let mtime = "2026-04-14T17:55:00+05:30";
    let names = [
        "31jun_j@x.com_auth.json",
        "0apr_z@x.com_auth.json",
        "99apr_n@x.com_auth.json",
        "21abc_m@x.com_auth.json",
        "29feb_f@x.com_auth.json",
    ];
    for name in names {
        dump(&env, name, "{}", mtime);
    }
    let document = normalized(&env, &[]);
    for name in names {
        let record = record(&document, name);
        assert_eq!(record["validation_status"], "mismatch", "{name}");
        assert_eq!(record["next_available_at"], "2026-04-21T15:55:00+05:30");
    }
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    let states: Vec<_> = cooldown["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .map(|a| a["state"].as_str().expect("state"))
        .collect();
    assert_eq!(states, ["cooldown"; 6]);
}

#[test]
fn damaged_login_files_get_records_without_an_account() {
    let env = example();
    let mtime = "2026-04-14T17:55:00+05:30";
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    dump(&env, "21apr_empty@x.com_auth.json", "", mtime);
    dump(&env, "21apr_cut@x.com_auth.json", &login[..100], mtime);
    dump(&env, "21apr_text@x.com_auth.json", "not json", mtime);
    dump(&env, "21apr_nul@x.com_auth.json", [0; 64], mtime);
    dump(&env, "21apr_list@x.com_auth.json", "[]", mtime);
    dump(
        &env,
        "21apr_huge@x.com_auth.json",
        vec![b' '; 20_000_000],
        mtime,
    );
    dump(&env, "21apr_A@X.com_auth.json", &login, mtime);
    let document = normalized(&env, &[]);
    let problem = |name: &str| {
        let record = record(&document, &format!("21apr_{name}@x.com_auth.json"));
        assert_eq!(record["account_id"], Value::Null);
        record["problem"].as_str().expect("problem").to_owned()
    };
    assert_eq!(problem("empty"), "empty");
    assert_eq!(problem("cut"), "truncated JSON");
    assert_eq!(problem("text"), "not JSON");
    assert_eq!(problem("nul"), "filled with NUL bytes");
    assert_eq!(problem("list"), "not a JSON object");
    assert_eq!(problem("huge"), "too large for an auth.json");
    let good = record(&document, "21apr_A@X.com_auth.json");
    assert_eq!(good["account_id"], "acct-a");
    assert_eq!(good["problem"], Value::Null);
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    let logins: Vec<_> = cooldown["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .filter(|a| a["login"] == "archived")
        .map(|a| a["account_id"].clone())
        .collect();
    assert_eq!(logins, ["acct-a"]);
}

#[test]
fn other_file_names_are_skipped_and_unreadable_files_change_the_exit_code() {
    let env = example();
    let mtime = "2026-04-14T17:55:00+05:30";
    dump(&env, "notes.txt", "", mtime);
    dump(&env, "auth.json", "{}", mtime);
    dump(&env, "21APR_a@x.com_auth.json", "{}", mtime);
    symlink("nowhere", env.path("dumps/dangling.txt")).expect("link");
    fs::create_dir(env.path("dumps/folder")).expect("folder");
    let document = normalized(&env, &[]);
    assert_eq!(
        skipped(&document),
        [
            "21APR_a@x.com_auth.json: the month or the ending _auth.json is not in lower case",
            "auth.json: the live login of Codex; save it with: codex-manager profile save NAME",
            "dangling.txt: not a legacy name (21apr_me@x.com_auth.json)",
            "notes.txt: not a legacy name (21apr_me@x.com_auth.json)",
        ]
    );

    let run = env.run(["normalize", "dumps"]).code(0);
    let other = "skipped, not a legacy name (21apr_me@x.com_auth.json):\n  [ROOT]/dumps/dangling.txt\n  [ROOT]/dumps/notes.txt\n";
    assert!(run.stderr.contains(other), "{run}");
    assert!(run.stderr.contains("dumps/auth.json"), "{run}");
    for n in 0..20 {
        dump(&env, &format!("note-{n:02}"), "", mtime);
    }
    let run = env.run(["normalize", "dumps"]).code(0);
    assert!(run.stderr.contains("  … 12 more: --verbose\n"), "{run}");
    let run = env.run(["normalize", "dumps", "--verbose"]).code(0);
    assert!(run.stderr.contains("note-19\n"), "{run}");
    for n in 0..20 {
        fs::remove_file(env.path(&format!("dumps/note-{n:02}"))).expect("remove");
    }

    symlink("nowhere", env.path("dumps/1may_d@x.com_auth.json")).expect("link");
    symlink(
        "2may_l@x.com_auth.json",
        env.path("dumps/2may_l@x.com_auth.json"),
    )
    .expect("link");
    fs::create_dir(env.path("dumps/3may_f@x.com_auth.json")).expect("folder");
    let fifo = env.path("dumps/4may_p@x.com_auth.json");
    create_pipe(&fifo).expect("a pipe");
    let run = env.run(["normalize", "dumps", "--json"]).code(6);
    let document = run.json();
    assert_eq!(document["records"].as_array().expect("records").len(), 1);
    let context = skipped(&document);
    assert_eq!(context.len(), 8, "{context:?}");
    assert!(context.contains(&"1may_d@x.com_auth.json: a broken symbolic link".into()));
    assert!(context.contains(&"3may_f@x.com_auth.json: a folder".into()));
    assert!(context.contains(&"4may_p@x.com_auth.json: not a regular file".into()));
    assert!(run.stderr.contains("4may_p@x.com_auth.json"), "{run}");
}

#[test]
fn a_link_is_followed_and_keeps_its_own_name() {
    let env = example();
    let target = env.write("elsewhere/saved.json", "{}");
    set_mtime(&target, "2026-04-15T17:55:00+05:30");
    symlink(&target, env.path("dumps/22apr_l@x.com_auth.json")).expect("link");
    let document = normalized(&env, &[]);
    let record = record(&document, "22apr_l@x.com_auth.json");
    assert_eq!(record["validation_status"], "match");
    let source = record["source_path"].as_str().expect("path");
    assert!(
        source.ends_with("dumps/22apr_l@x.com_auth.json"),
        "{source}"
    );
}

#[test]
fn folders_files_and_subfolders_can_be_given_repeatedly() {
    let env = example();
    dump(
        &env,
        "sub/22apr_s@x.com_auth.json",
        "{}",
        "2026-04-15T17:55:00+05:30",
    );
    env.write("more/23apr_ü@exämple.de_auth.json", "{}");
    let count = |args: &[&str]| {
        let mut all = vec!["normalize", "--dry-run", "--json"];
        all.extend(args);
        let document = env.run(all).code(0).json();
        document["records"].as_array().expect("records").len()
    };
    assert_eq!(count(&["dumps"]), 1);
    assert_eq!(count(&["dumps", "-r"]), 2);
    assert_eq!(
        count(&["dumps", "dumps/", "./dumps", "dumps/sub", "more"]),
        3
    );
    assert_eq!(count(&["more/23apr_ü@exämple.de_auth.json"]), 1);
    let run = env.run(["normalize", "missing"]).code(1);
    assert!(run.stderr.contains("cannot read: [ROOT]/missing"), "{run}");
}

#[test]
fn normalize_reads_the_codex_home_by_default() {
    let env = TestEnv::new();
    env.write("home/.codex/21apr_a@x.com_auth.json", "{}");
    let document = env.run(["normalize", "--json"]).code(0).json();
    assert_eq!(document["added"], 1);
}

#[test]
fn i6_a_login_of_another_account_than_the_name_is_not_archived() {
    let env = example();
    let login = auth_json(&SignIn::new("acct-b", "b@x.com"));
    dump(
        &env,
        "21apr_a@x.com_auth.json",
        &login,
        "2026-04-14T17:55:00+05:30",
    );
    let run = env
        .run(["normalize", "dumps", "--write-archives", "--json"])
        .code(6);
    let document = run.json();
    let record = record(&document, "21apr_a@x.com_auth.json");
    assert_eq!(record["email"], "a@x.com");
    assert_eq!(record["account_id"], Value::Null);
    assert_eq!(record["problem"], "holds a login of b@x.com");
    assert_eq!(document["archives"], serde_json::json!([]));
    let shown = env.run(["normalize", "dumps"]).code(0);
    assert!(
        shown
            .stderr
            .contains("no usable login of a@x.com (holds a login of b@x.com): 21apr"),
        "{shown}"
    );
    let all = env.run(["cooldown", "--json"]).code(0);
    assert!(!all.stdout.contains("acct-b"), "{all}");
}

#[test]
fn archives_hold_the_login_verbatim_and_their_sidecars_describe_them() {
    let env = example();
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    dump(
        &env,
        "21apr_a@x.com_auth.json",
        &login,
        "2026-04-14T17:55:00+05:30",
    );
    let _ = env.run(["normalize", "dumps", "--write-metadata"]).code(0);
    let run = env
        .run(["normalize", "dumps", "--write-archives", "--json"])
        .code(6);
    let name = "2026-04-14-155500-a@x.com-codex.tar.gz";
    assert_eq!(run.json()["archives"], serde_json::json!([name]));
    let archive = env.manager_home().join("backups").join(name);
    let untar = std::process::Command::new("tar")
        .args(["xzOf", &archive.display().to_string(), "auth.json"])
        .output()
        .expect("tar");
    assert_eq!(untar.stdout, login.as_bytes());
    let sidecar = archive.with_file_name("2026-04-14-155500-a@x.com-codex.metadata.json");
    let sidecar: Value =
        serde_json::from_str(&fs::read_to_string(sidecar).expect("read")).expect("JSON");
    assert_eq!(sidecar["mode"], "auth");
    assert_eq!(sidecar["captured_files"], serde_json::json!(["auth.json"]));
    assert_eq!(
        sidecar["archive_bytes"],
        fs::metadata(&archive).expect("archive").len()
    );
    assert_eq!(sidecar["session_start_at"], "2026-04-14T15:55:00+05:30");
    let before = env.tree("home");
    let again = env
        .run(["normalize", "dumps", "--write-archives", "--json"])
        .code(6);
    assert_eq!(again.json()["archives"], serde_json::json!([]));
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn sidecars_contain_the_record_and_overwrite_no_file() {
    let env = example();
    let taken = env.write(
        "home/.codex-manager/backups/2026-04-14-155500-drdpsbose023@gmail.com-codex.metadata.json",
        "of another program",
    );
    let document = normalized(&env, &["--write-metadata"]);
    let name = "2026-04-14-155500-drdpsbose023@gmail.com-2-codex.metadata.json";
    assert_eq!(document["sidecars"], serde_json::json!([name]));
    assert_eq!(
        fs::read_to_string(&taken).expect("read"),
        "of another program"
    );
    let text = fs::read_to_string(taken.with_file_name(name)).expect("read");
    let sidecar: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(sidecar["product"], "codex");
    assert_eq!(sidecar["schema"], 1);
    assert_eq!(sidecar["legacy_auth_filename"], EXAMPLE);
    assert_eq!(sidecar["legacy_quota_day_token"], "21apr");
    assert_eq!(sidecar["validation_status"], "match");
    assert_eq!(sidecar["reset_at"], "2026-04-21T15:55:00+05:30");
}

#[test]
fn the_session_duration_may_be_fractional_but_not_negative_or_longer_than_a_week() {
    let env = example();
    let document = normalized(&env, &["--session-duration-hours", "1.5"]);
    let record = record(&document, EXAMPLE);
    assert_eq!(record["session_start_at"], "2026-04-14T16:25:00+05:30");
    assert_eq!(record["inferred_session_duration_seconds"], 5400);
    for bad in ["-1", "169", "NaN", "inf", "x"] {
        let flag = format!("--session-duration-hours={bad}");
        let run = env.run(["normalize", "dumps", &flag]).code(4);
        assert!(run.stdout.is_empty(), "{run}");
    }
}

#[test]
fn the_year_is_given_or_matches_the_mtime_or_is_the_current_one() {
    let mut env = TestEnv::new();
    env.set("CODEX_MANAGER_NOW", "2027-01-02T12:00:00Z");
    dump(&env, "31dec_a@x.com_auth.json", "", "2026-12-24T12:00:00Z");
    dump(&env, "1jan_b@x.com_auth.json", "", "2026-12-25T12:00:00Z");
    dump(&env, "29feb_c@x.com_auth.json", "", "2024-02-22T12:00:00Z");
    dump(&env, "29feb_d@x.com_auth.json", "", "2026-02-22T12:00:00Z");
    let document = normalized(&env, &[]);
    let context = |document: &Value, name: &str| {
        let record = record(document, &format!("{name}_auth.json"));
        format!("{} {}", record["legacy_year"], record["validation_status"])
    };
    assert_eq!(context(&document, "31dec_a@x.com"), "2026 \"match\"");
    assert_eq!(context(&document, "1jan_b@x.com"), "2027 \"match\"");
    assert_eq!(context(&document, "29feb_c@x.com"), "2024 \"match\"");
    assert_eq!(context(&document, "29feb_d@x.com"), "2027 \"mismatch\"");
    let given = normalized(&env, &["--year", "2027"]);
    assert_eq!(context(&given, "31dec_a@x.com"), "2027 \"mismatch\"");
    assert_eq!(context(&given, "1jan_b@x.com"), "2027 \"match\"");
}

#[test]
fn a_week_has_168_hours_when_clocks_change() {
    for (zone, name, mtime, start, next) in [
        (
            "America/New_York",
            "7nov_a@x.com_auth.json",
            "2026-10-31T22:30:00-04:00",
            "2026-10-31T20:30:00-04:00",
            "2026-11-07T19:30:00-05:00",
        ),
        (
            "Europe/Berlin",
            "30mar_a@x.com_auth.json",
            "2026-03-23T01:30:00+01:00",
            "2026-03-22T23:30:00+01:00",
            "2026-03-30T00:30:00+02:00",
        ),
        (
            "Australia/Lord_Howe",
            "11oct_a@x.com_auth.json",
            "2026-10-04T01:45:00+10:30",
            "2026-10-03T23:45:00+10:30",
            "2026-10-11T00:15:00+11:00",
        ),
    ] {
        let env = TestEnv::new();
        dump(&env, name, "", mtime);
        let document = normalized(&env, &["--timezone", zone]);
        let record = record(&document, name);
        assert_eq!(record["session_start_at"], start);
        assert_eq!(record["next_available_at"], next);
        assert_eq!(record["validation_status"], "match", "{zone}");
    }
}

#[test]
fn a_file_from_the_future_has_no_effect_until_its_time() {
    let mut env = TestEnv::new();
    dump(&env, "27nov_a@x.com_auth.json", "", "2026-11-20T14:00:00Z");
    let document = normalized(&env, &[]);
    let record = record(&document, "27nov_a@x.com_auth.json");
    assert_eq!(record["validation_status"], "mismatch");
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    assert_eq!(cooldown["accounts"][0]["state"], "unknown");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T15:00:00Z");
    assert_eq!(normalized(&env, &[])["updated"], 1);
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    assert_eq!(cooldown["accounts"][0]["state"], "cooldown");
}

#[test]
fn i4_written_files_are_private_and_hold_no_token() {
    let env = example();
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    dump(
        &env,
        "21apr_a@x.com_auth.json",
        &login,
        "2026-04-14T17:55:00+05:30",
    );
    let run = env
        .run(["normalize", "dumps", "--write-metadata", "-v"])
        .code(0);
    let token = SignIn::new("acct-a", "a@x.com").refresh_token();
    assert!(!run.to_string().contains(&token), "{run}");
    let tree = Tree::of(&env.manager_home());
    for (path, text) in &tree.0 {
        assert!(
            text.starts_with("folder 700") || text.starts_with("file 600"),
            "{} {text}",
            path.display()
        );
        if text.starts_with("file") {
            let bytes = fs::read(env.manager_home().join(path)).expect("read");
            assert!(
                !String::from_utf8_lossy(&bytes).contains(&token),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn i13_a_damaged_inventory_is_kept_under_another_name_and_reported() {
    let env = example();
    env.write("home/.codex-manager/inventory.json", "{\"schema\":1,");
    let run = env.run(["normalize", "dumps"]).code(0);
    assert!(run.stderr.contains("inventory.json.damaged"), "{run}");
    let kept = env.manager_home().join("inventory.json.damaged");
    assert_eq!(fs::read_to_string(kept).expect("read"), "{\"schema\":1,");
}

#[test]
fn i13_documents_of_a_newer_version_are_not_changed() {
    for name in ["inventory.json", "cooldown.json"] {
        let env = example();
        env.write(&format!("home/.codex-manager/{name}"), "{\"schema\":99}");
        let before = env.tree("home").0.len();
        let run = env.run(["normalize", "dumps"]).code(5);
        assert!(run.stderr.contains("newer codex-manager"), "{run}");
        let path = env.manager_home().join(name);
        assert_eq!(fs::read_to_string(path).expect("read"), "{\"schema\":99}");
        let lock = usize::from(env.manager_home().join(".lock").exists());
        assert_eq!(env.tree("home").0.len(), before + lock, "{name}");
    }
}

#[test]
fn control_characters_in_names_are_not_printed() {
    let env = example();
    dump(
        &env,
        "21apr_\x1b[31m@x.com_auth.json",
        "{}",
        "2026-04-14T17:55:00+05:30",
    );
    for args in [
        ["normalize", "dumps"],
        ["cooldown", "-q"],
        ["recommend", "-q"],
    ] {
        let run = env.run(args).code(0);
        assert!(!run.to_string().contains('\x1b'), "{run}");
    }
}

#[test]
fn quiet_prints_only_warnings() {
    let env = example();
    for args in [&["--dry-run"][..], &[], &[]] {
        let run = env.run([&["normalize", "-q", "dumps"], args].concat());
        let run = run.code(0);
        assert_eq!(
            (run.stdout, run.stderr),
            (String::new(), String::new()),
            "{args:?}"
        );
    }
    assert_eq!(
        normalized(&env, &[])["unchanged"],
        1,
        "the record was written again"
    );
    dump(&env, "x_auth.json", "{}", "2026-04-14T17:55:00+05:30");
    let run = env.run(["normalize", "-q", "dumps"]).code(0);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.starts_with("warning: skipped, "), "{run}");
}
