//! I4, I9, I11: secrets, dry runs, running twice.

use crate::support::env::{PROGRAM, Run, TestEnv, assert_same_tree};
use crate::support::sample::{alice, backup, bob, put, sample_home, text};
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Returns all secrets in the logins of the tests.
fn secrets() -> Vec<String> {
    [
        alice(0),
        alice(3),
        bob(),
        SignIn::new("acct-old", "old@example.com").issued_at(crate::support::sample::RENEWED),
    ]
    .iter()
    .flat_map(|login| {
        let (id, access) = login.tokens();
        [id, access, login.refresh_token()]
    })
    .collect()
}

#[track_caller]
fn assert_no_token(what: &str, text: &[u8]) {
    for secret in secrets() {
        let found = text.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{what} contains a token");
    }
}

fn printed(run: &Run) -> Vec<u8> {
    format!("{}{}", run.stdout, run.stderr).into_bytes()
}

#[test]
fn i4_tokens_stay_in_private_files() {
    for umask in ["000", "022", "077"] {
        let env = TestEnv::on_disk();
        sample_home(&env);
        let run = |args: &str| {
            let output = env
                .other_program("sh")
                .args(["-c", &format!("umask {umask}; exec {PROGRAM} {args}")])
                .output()
                .expect("sh");
            assert_no_token(args, &output.stdout);
            assert_no_token(args, &output.stderr);
            output.status.code()
        };
        for (args, code) in [
            ("backup --no-status --json", 0),
            ("backup --no-status --mode auth -v", 0),
            ("normalize --write-archives --json", 0),
            ("list-backups --json", 0),
            ("verify --all -v", 0),
            ("cooldown --json", 0),
            ("recommend --json", 0),
            ("restore latest --dry-run --json", 0),
            ("profile save work -v --json", 0),
            ("profile show work --json", 0),
            ("profile list", 0),
            ("list --json", 0),
            ("current --json", 0),
            ("status --history --json", 0),
            ("profile export ~/out.export --json", 0),
            ("profile import ~/out.export -v", 0),
        ] {
            assert_eq!(run(args), Some(code), "{args}");
        }
        write_auth(&env.codex_home(), &alice(3));
        assert_eq!(run("restore latest --auth archive -v"), Some(0));
        write_auth(&env.codex_home(), &bob());
        assert_eq!(run("restore latest"), Some(5));
        assert_eq!(run("restore latest --yes --json"), Some(0));
        assert_eq!(run("use bob -v"), Some(0));
        assert_eq!(run("use - -v --json"), Some(0));
        let mut logins = 0;
        for (path, _) in env.tree("home/.codex-manager").0 {
            let full = env.manager_home().join(&path);
            let meta = full.symlink_metadata().expect("stat");
            let expected = if meta.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(
                meta.mode() & 0o777,
                expected,
                "umask {umask}: {}",
                path.display()
            );
            let is_login = path.starts_with("profiles")
                && meta.is_file()
                && !path.ends_with("profile.json")
                && !path.ends_with(".switch.json");
            logins += usize::from(is_login);
            if meta.is_file() && !is_login {
                let bytes = fs::read(&full).expect("read");
                assert_no_token(&path.display().to_string(), &bytes);
                if path.to_string_lossy().ends_with(".tar.gz") {
                    let parts = crate::support::hostile::Parts::of(&bytes);
                    assert_no_token(
                        "a manifest",
                        parts.manifest.expect("a manifest").to_string().as_bytes(),
                    );
                }
            }
        }
        assert!(logins >= 2, "{logins}");
        assert_eq!(
            env.codex_home()
                .join("auth.json")
                .metadata()
                .expect("stat")
                .mode()
                & 0o777,
            0o600
        );
    }
}

#[test]
fn i4_errors_about_damaged_logins_show_no_token() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let whole = auth_json(&alice(0));
    let archive = text(&backup(&env, &[]));
    for cut in [whole.len() - 3, whole.len() / 2] {
        put(&env, "auth.json", &whole[..cut]);
        for args in [
            &["backup", "--no-status"][..],
            &["status"],
            &["restore", &archive],
            &["recommend"],
            &["doctor"],
        ] {
            assert_no_token(&format!("{args:?}"), &printed(&env.run(args)));
        }
    }
}

/// Returns the commands that change files, as dry runs.
fn dry_runs<'a>(archive: &'a str, name: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["backup", "--dry-run"],
        vec!["backup", "--dry-run", "--mode", "sessions", "--include-tmp"],
        vec!["restore", archive, "--dry-run"],
        vec!["restore", archive, "--dry-run", "--merge", "--yes"],
        vec!["restore", archive, "--dry-run", "--only", "sessions"],
        vec!["restore", archive, "--dry-run", "--to", "elsewhere"],
        vec!["verify", "--repair", "--dry-run", "--all"],
        vec!["verify", "--repair", "--dry-run", name],
        vec![
            "normalize",
            "--dry-run",
            "--write-archives",
            "--write-metadata",
        ],
        vec![
            "cooldown",
            "--set",
            "alice@example.com",
            "--until",
            "+3d",
            "--dry-run",
        ],
        vec!["cooldown", "--clear", "alice@example.com", "--dry-run"],
    ]
}

#[test]
fn i11_a_dry_run_writes_nothing_at_all() {
    for wal in [false, true] {
        let env = TestEnv::on_disk();
        let home = sample_home(&env);
        let archive = backup(&env, &[]);
        let second = backup(&env, &["--mode", "auth"]);
        fs::remove_file(
            second.with_file_name(
                second
                    .file_name()
                    .expect("name")
                    .to_str()
                    .expect("text")
                    .replace(".tar.gz", ".metadata.json"),
            ),
        )
        .expect("remove");
        put(&env, "AGENTS.md", "changed");
        let connection = wal.then(|| {
            let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
            connection
                .execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE threads SET title='in the log'")
                .expect("write");
            connection
        });
        let before = env.tree("");
        assert_eq!(
            before
                .0
                .keys()
                .any(|p| p.to_string_lossy().ends_with("-wal")),
            wal
        );
        let archive = text(&archive);
        for args in dry_runs(
            &archive,
            second.file_name().expect("name").to_str().expect("text"),
        ) {
            let run = env.run(&args);
            assert!([0, 5, 6].contains(&run.code), "{args:?}: {run}");
            assert_same_tree(&before, &env.tree(""));
        }
        drop(connection);
    }
}

#[test]
fn i11_a_dry_run_creates_no_homes() {
    let env = TestEnv::on_disk();
    let before = env.tree("");
    for args in [
        &["backup", "--dry-run"][..],
        &["restore", "latest", "--dry-run"],
        &["verify", "--all", "--repair", "--dry-run"],
        &["normalize", "--dry-run"],
        &["recommend"],
        &["list-backups"],
        &["cooldown"],
    ] {
        let _ = env.run(args);
        assert_same_tree(&before, &env.tree(""));
    }
}

#[test]
fn i9_restoring_an_archive_twice_equals_restoring_it_once() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    put(&env, "skills/more", "x");
    let _ = env.run(["restore", &archive]).code(0);
    let once = env.tree("home/.codex");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_tree(&once, &env.tree("home/.codex"));
    let run = env
        .run(["backup", "--no-status", "--if-older", "1d", "--json"])
        .code(0)
        .json();
    assert_eq!(run["up_to_date"], true);
}

#[test]
fn i7_data_only_in_the_write_ahead_log_is_in_the_archive() {
    let env = TestEnv::on_disk();
    let home = sample_home(&env);
    let path = home.join("state_5.sqlite");
    let connection = rusqlite::Connection::open(&path).expect("open");
    connection
        .execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE threads SET title='in the log'")
        .expect("write");
    let archive = text(&backup(&env, &[]));
    drop(connection);
    let _ = env.run(["restore", &archive, "--to", "copy"]).code(0);
    let copy = rusqlite::Connection::open(env.path("copy/state_5.sqlite")).expect("open");
    let title: String = copy
        .query_row("SELECT max(title) FROM threads", [], |r| r.get(0))
        .expect("row");
    assert_eq!(title, "in the log");
    let _ = env.run(["verify", &archive]).code(0);
}

#[test]
fn a_successful_quiet_command_prints_nothing() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    for args in [
        &["-q", "backup", "--no-status"][..],
        &["-q", "restore", "latest"],
        &["-q", "backup", "--if-older", "1h"],
    ] {
        let run = env.run(args).code(0);
        assert_eq!(
            (run.stdout, run.stderr),
            (String::new(), String::new()),
            "{args:?}"
        );
    }
}

#[test]
fn control_characters_in_file_names_are_not_printed() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    put(&env, "notes\u{1b}[8m\u{1b}]0;title\u{7}.txt", "x");
    for args in [
        &["backup", "--no-status", "--color", "always", "-v"][..],
        &["restore", "latest", "--dry-run", "-v"],
        &["storage", "--color", "always"],
    ] {
        let run = env.run(args);
        for text in [&run.stdout, &run.stderr] {
            assert!(
                !text.contains("\u{1b}[8m") && !text.contains("\u{1b}]"),
                "{run}"
            );
        }
    }
}
