//! A sync of a home that Codex uses ends Codex only with consent.

use crate::support::env::assert_same_tree;
use crate::support::faults::without_processes;
use crate::support::pair::{META, Pair, ROLLOUT, RUN_OF_A};
use crate::support::terminal::Terminal;
use crate::support::write_program;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts a program with the name of Codex that uses this home. Returns when it runs.
pub(crate) fn a_codex(pair: &Pair, name: &str, script: &str) -> Child {
    let program = pair.0.path("bin/codex");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    // Another process copies the program. A concurrent fork of this process could inherit the open file, and
    // executing the copy would fail with ETXTBSY.
    let copied = Command::new("cp").arg("/bin/sh").arg(&program).status();
    assert!(copied.unwrap().success());
    let mut child = Command::new(program)
        .args(["-c", script])
        .env("CODEX_HOME", pair.home(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    child
}

#[test]
fn a_running_codex_is_ended_only_with_consent() {
    let pair = Pair::new();
    let detection = "[process_detection]\ngrace_period_seconds = 0\n";
    pair.configure("a", detection);
    pair.put("a", ROLLOUT, META);
    let mut codex = a_codex(&pair, "a", "echo; read line");
    let before = pair.0.tree("");

    let plan = pair.run("a", &["plan", "--json"]).code(0).json();
    assert_eq!(plan["closing"]["do"], "ask");
    let output = pair.run(
        "a",
        &["run", "--dry-run", "--auto-terminate-without-confirmation"],
    );
    assert!(
        output
            .code(0)
            .stderr
            .contains("a run would end these processes")
    );
    // As in codexSync, the flag precedes the command.
    let output = pair.run(
        "a",
        &["--auto-terminate-without-confirmation", "sync", "--dry-run"],
    );
    assert!(
        output
            .code(0)
            .stderr
            .contains("a run would end these processes")
    );
    assert_same_tree(&before, &pair.0.tree(""));

    let refused = pair.run("a", &["run", "--apply"]).code(3);
    assert!(
        refused
            .stderr
            .contains("--auto-terminate-without-confirmation")
    );
    pair.configure(
        "a",
        &format!("{detection}allow_terminate_if_running = false\n"),
    );
    let flag = "--auto-terminate-without-confirmation";
    let _ = pair.run("a", &["run", "--apply", flag]).code(3);
    let plan = pair.run("a", &["plan", "--json"]).code(0).json();
    assert_eq!(plan["closing"]["reason"], "forbidden");
    assert_eq!(codex.try_wait().unwrap(), None, "the process was ended");
    assert!(!pair.cloud().join(ROLLOUT).exists());

    // A background program is never ended, whatever the flags say.
    let background = "background_process_names = { linux = [\"codex\"] }\n";
    pair.configure("a", &format!("{detection}{background}"));
    let _ = pair.run("a", &["run", "--apply", flag]).code(3);
    assert_eq!(codex.try_wait().unwrap(), None, "the process was ended");

    // An unreadable name in the list is an error.
    let unclear = "background_process_names = { linux = [\"codex\", 7] }\n";
    pair.configure("a", &format!("{detection}{unclear}"));
    let refused = pair.run("a", &["run", "--apply", flag]).code(4);
    assert!(
        refused.stderr.contains("background_process_names"),
        "{refused}"
    );

    pair.configure("a", detection);
    let run = pair.run("a", &["run", "--apply", flag]).code(0);
    assert!(run.stderr.contains("ended: "), "{run}");
    assert!(!codex.wait().unwrap().success());
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}

/// Returns the exit code of preflight, and status and remedy of its check for a running Codex.
#[track_caller]
fn finding(pair: &Pair, args: &[&str]) -> (i32, String, String) {
    let run = pair.run("a", &[&["preflight", "--json"], args].concat());
    let json = run.json();
    let checks = json["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "sync.codex");
    let text = |key: &str| check.unwrap()[key].as_str().unwrap_or_default().to_owned();
    (run.code, text("status"), text("fix"))
}

#[test]
fn preflight_fails_if_a_run_would_be_refused() {
    const FLAG: &str = "--auto-terminate-without-confirmation";
    let pair = Pair::new();
    let detection = "[process_detection]\ngrace_period_seconds = 0\n";
    pair.configure("a", detection);
    pair.put("a", ROLLOUT, META);
    assert_eq!(finding(&pair, &[]).1, "ok");
    let mut codex = a_codex(&pair, "a", "echo; read line");

    // There is no terminal to ask the user.
    let (code, status, fix) = finding(&pair, &[]);
    assert_eq!((code, &*status), (5, "fail"), "{fix}");
    let command = format!("codex-manager sync -c [ROOT]/a.toml run --apply {FLAG}");
    assert!(fix.contains(&command), "{fix}");
    let _ = pair.run("a", &["run", "--apply"]).code(3);
    for consent in [FLAG, "--yes"] {
        let (code, status, _) = finding(&pair, &[consent]);
        assert_eq!((code, &*status), (0, "warn"), "{consent}");
    }
    let mut in_terminal = Terminal::start(&mut pair.0.command(PREFLIGHT));
    assert_eq!(in_terminal.end().code(), Some(0), "{}", in_terminal.text());

    // No flag and no answer changes these refusals.
    for (more, remedy) in [
        (
            "allow_terminate_if_running = false\n",
            "process_detection.allow_terminate_if_running",
        ),
        (
            "background_process_names = { linux = [\"codex\"] }\n",
            "wait for it to end",
        ),
    ] {
        pair.configure("a", &format!("{detection}{more}"));
        for args in [&[][..], &[FLAG], &["--yes"]] {
            let (code, status, fix) = finding(&pair, args);
            assert_eq!((code, &*status), (5, "fail"), "{more} {args:?}");
            assert!(fix.contains(remedy) && !fix.contains("sync run"), "{fix}");
        }
        let _ = pair.run("a", &["run", "--apply", FLAG]).code(3);
        let mut in_terminal = Terminal::start(&mut pair.0.command(PREFLIGHT));
        assert_eq!(in_terminal.end().code(), Some(5), "{}", in_terminal.text());
    }

    // A running Codex is not an error of the machine.
    let config = pair.0.path("a.toml");
    fs::copy(&config, pair.0.write("manager-a/sync.toml", "")).unwrap();
    let doctor = pair
        .0
        .run(["--manager-home", "manager-a", "doctor", "--json"]);
    let doctor = doctor.json();
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "sync.codex");
    assert_eq!(check.unwrap()["status"], "warn");

    pair.configure("a", "[safety]\nrequire_codex_stopped = false\n");
    let (code, status, _) = finding(&pair, &[]);
    assert_eq!((code, &*status), (0, "ok"));
    let _ = pair.run("a", &["run", "--apply"]).code(0);

    // The suggested command works.
    pair.configure("a", detection);
    pair.put("a", "AGENTS.md", "x");
    let _ = pair.run("a", &["run", "--apply", FLAG]).code(0);
    assert!(!codex.wait().unwrap().success());
    assert_eq!(pair.text("cloud", "AGENTS.md"), "x");
}

#[test]
fn codex_keeps_running_if_nothing_is_to_be_done() {
    let pair = Pair::new();
    // Compared by mtime, one of two equal files may be newer.
    let detection =
        "[sync]\ncompare = \"three_way\"\n[process_detection]\ngrace_period_seconds = 0\n";
    pair.configure("a", detection);
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    let mut codex = a_codex(&pair, "a", "echo; read line");
    let flag = "--auto-terminate-without-confirmation";
    let not_asked = |code: i32| {
        let plan = pair.run("a", &["plan", "--json"]).code(code).json();
        assert_eq!(plan["closing"], serde_json::Value::Null, "{plan:#}");
        let run = pair.run("a", &["run", "--apply", flag, "-v"]).code(code);
        assert!(!run.stderr.contains("ended: "), "{run}");
        assert!(!run.stderr.contains("began to use"), "{run}");
        // The programs are still listed.
        assert!(run.stderr.contains("codex -c"), "{run}");
    };
    not_asked(0);
    // The shutdown can change a file that was only recorded, so it is checked again.
    pair.put("a", "AGENTS.md", "one");
    pair.put("cloud", "AGENTS.md", "one");
    not_asked(0);
    pair.put("a", ROLLOUT, &format!("{META}{{\"n\":\"here\"}}\n"));
    pair.put("cloud", ROLLOUT, &format!("{META}{{\"n\":\"there\"}}\n"));
    not_asked(2);
    assert_eq!(codex.try_wait().unwrap(), None, "the process was ended");
    drop(codex.stdin.take());
    codex.wait().unwrap();
}

#[test]
fn the_last_writes_of_an_ending_codex_are_synced() {
    let pair = Pair::new();
    let detection = "[process_detection]\ngrace_period_seconds = 0\n";
    pair.configure("a", detection);
    let rollout = pair.put("a", ROLLOUT, META);
    let script = format!(
        "trap 'echo {{}} >> {}; exit' TERM INT HUP; echo; read line",
        rollout.display()
    );
    let mut codex = a_codex(&pair, "a", &script);
    let flag = "--auto-terminate-without-confirmation";
    let _ = pair.run("a", &["run", "--apply", flag]).code(0);
    codex.wait().unwrap();
    assert_eq!(pair.text("cloud", ROLLOUT), format!("{META}{{}}\n"));
}

#[test]
fn a_codex_that_does_not_end_stops_the_sync() {
    let pair = Pair::new();
    let detection =
        "[process_detection]\ngrace_period_seconds = 0\nterminate_timeout_seconds = 1\n";
    pair.configure("a", detection);
    pair.put("a", ROLLOUT, META);
    let mut codex = a_codex(&pair, "a", "trap '' TERM INT HUP; echo; read line");
    let flag = "--auto-terminate-without-confirmation";
    let _ = pair.run("a", &["run", "--apply", flag]).code(5);
    assert_eq!(codex.try_wait().unwrap(), None, "the process was killed");
    assert!(!pair.cloud().join(ROLLOUT).exists());
    drop(codex.stdin.take());
    codex.wait().unwrap();
    pair.apply("a");
}

const PREFLIGHT: [&str; 6] = [
    "--manager-home",
    "manager-a",
    "sync",
    "-c",
    "a.toml",
    "preflight",
];

/// Runs a sync on a terminal, and answers its question about ending Codex.
#[track_caller]
fn answered(pair: &Pair, answer: &str, expected: i32) {
    let mut terminal = Terminal::start(&mut pair.0.command(RUN_OF_A));
    terminal.wait_for("End Codex and continue?", Duration::from_secs(60));
    terminal.type_keys(answer);
    let code = terminal.end().code();
    assert_eq!(code, Some(expected), "{answer:?}: {}", terminal.text());
}

#[test]
fn the_answer_on_a_terminal_decides_whether_codex_is_ended_or_the_sync_stops() {
    let pair = Pair::new();
    let wait_at_most = |secs: u64| {
        let detection = "[process_detection]\ngrace_period_seconds = 0\n\
                         terminate_confirmation_mode = \"console\"\n";
        let more = format!("{detection}terminate_timeout_seconds = {secs}\n");
        pair.configure("a", &more);
    };
    wait_at_most(120);
    pair.put("a", ROLLOUT, META);
    let mut codex = a_codex(&pair, "a", "echo; read line");
    for no in ["n\n", "\n", "no\n"] {
        answered(&pair, no, 3);
        assert_eq!(codex.try_wait().unwrap(), None, "the process was ended");
        assert!(!pair.cloud().join(ROLLOUT).exists());
    }
    answered(&pair, "y\n", 0);
    assert!(!codex.wait().unwrap().success());
    assert_eq!(pair.text("cloud", ROLLOUT), META);
    // The user agreed, but Codex did not end in time.
    wait_at_most(1);
    let mut codex = a_codex(&pair, "a", "trap '' TERM INT HUP; echo; read line");
    pair.put("a", "AGENTS.md", "x");
    answered(&pair, "y\n", 5);
    assert_eq!(codex.try_wait().unwrap(), None, "the process was killed");
    assert!(!pair.cloud().join("AGENTS.md").exists());
    drop(codex.stdin.take());
    codex.wait().unwrap();
}

#[test]
fn a_dialog_window_asks_for_consent_to_end_codex_and_without_consent_the_sync_stops() {
    const FLAG: &str = "--auto-terminate-without-confirmation";
    let mut pair = Pair::new();
    pair.0.set("DISPLAY", ":9");
    let detection = "[process_detection]\ngrace_period_seconds = 0\n\
                     terminate_timeout_seconds = 60\nterminate_confirmation_mode = \"gui\"\n";
    pair.configure("a", detection);
    pair.put("a", ROLLOUT, META);
    let mut codex = a_codex(&pair, "a", "echo; read line");
    let note = pair.0.path("question");
    let run = |dialog: &str, args: &[&str]| {
        write_program(&pair.0.path("bin/zenity"), dialog);
        pair.run("a", &[&["run", "--apply"], args].concat())
    };
    let noting = |code: u8| {
        format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" > '{}'\nexit {code}\n",
            note.display()
        )
    };
    let refused = run(&noting(1), &[]).code(3);
    assert!(
        refused.stderr.contains("you chose not to end it"),
        "{refused}"
    );
    let question = fs::read_to_string(&note).expect("read the question");
    let named = format!("codex (PID {}, codex process)", codex.id());
    assert!(question.contains(&named), "{question}");
    assert!(question.contains("End Codex and continue?"), "{question}");
    // Without a display there is no answer.
    let refused = run(&noting(255), &[]).code(3);
    assert!(refused.stderr.contains(FLAG), "{refused}");
    let blind = "#!/bin/sh\necho 'cannot open display: :9' >&2\nexit 1\n";
    let refused = run(blind, &[]).code(3);
    assert!(refused.stderr.contains(FLAG), "{refused}");
    assert_eq!(codex.try_wait().unwrap(), None, "the process was ended");
    assert!(!pair.cloud().join(ROLLOUT).exists());
    // The flag requests the question in spite of `--yes`.
    fs::remove_file(&note).unwrap();
    let asked = run(&noting(0), &["--manual-terminate-confirmation", "--yes"]).code(0);
    assert!(asked.stderr.contains("ended: "), "{asked}");
    assert!(note.exists(), "the user was not asked");
    assert!(!codex.wait().unwrap().success());
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}

#[test]
fn undetectable_processes_stop_a_sync_only_with_fail_on_unknown() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let Some(unknown) = without_processes(&pair.0, &RUN_OF_A) else {
        return;
    };
    assert_eq!(unknown.code, 5, "{unknown}");
    assert!(
        unknown.stderr.contains("safety.fail_on_unknown = false"),
        "{unknown}"
    );
    assert!(!pair.cloud().join(ROLLOUT).exists());
    let preflight = without_processes(&pair.0, &PREFLIGHT).expect("mounting is permitted");
    let preflight = preflight.code(5);
    assert!(
        preflight.stdout.contains("safety.fail_on_unknown = false"),
        "{preflight}"
    );
    pair.configure("a", "[safety]\nfail_on_unknown = false\n");
    let _ = without_processes(&pair.0, &PREFLIGHT)
        .expect("mounting is permitted")
        .code(0);
    let output = without_processes(&pair.0, &RUN_OF_A)
        .expect("mounting is permitted")
        .code(0);
    assert!(
        output.stderr.contains("does not show which programs use"),
        "{output}"
    );
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}
