//! Commands that messages suggest are alone on a line, at every width.

use crate::support::env::TestEnv;
use crate::support::sample::{FIRST, backup, sample_home, sample_home_at};
use crate::support::terminal::Terminal;
use regex::Regex;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

const WIDTHS: [u16; 3] = [40, 80, 100];

/// Returns the lines that a terminal of this width shows.
fn lines(env: &TestEnv, args: &[&str], columns: u16) -> Vec<String> {
    let mut command = env.command(args);
    command.env_remove("COLUMNS");
    let mut terminal = Terminal::watch(&mut command, columns);
    let _ = terminal.end();
    let text = terminal.text().replace('\r', "");
    text.lines().map(str::to_owned).collect()
}

/// Checks that a line has only this command, and does not exceed the width if the command fits.
#[track_caller]
fn assert_alone(command: &str, lines: &[String], columns: u16) {
    let line = lines.iter().find(|line| line.trim() == command);
    let width = line.map(|line| line.chars().count());
    let most = command.chars().count().max(usize::from(columns));
    assert!(
        width.is_some_and(|width| width <= most),
        "{columns}: {command}: {lines:#?}"
    );
}

#[test]
fn list_backups_ends_with_a_restore_that_works_as_printed() {
    let env = TestEnv::new();
    sample_home(&env);
    backup(&env, &[]);
    for columns in WIDTHS {
        let lines = lines(&env, &["list-backups"], columns);
        assert_alone("codex-manager restore latest", &lines, columns);
    }
    let _ = env.run(["restore", "latest", "--dry-run"]).code(0);
}

#[test]
fn each_fix_of_doctor_has_its_command_alone_on_a_line() {
    let empty = TestEnv::new();
    let damaged = TestEnv::new();
    sample_home(&damaged);
    let archive = backup(&damaged, &[]);
    fs::write(&archive, "damaged").unwrap();
    damaged.write("home/.codex/config.toml", "model =\n");
    for (env, least) in [(&empty, 1), (&damaged, 2)] {
        let document = env.run(["doctor", "--json"]).json();
        let checks = document["checks"].as_array().unwrap();
        let fixes = checks.iter().filter_map(|check| check["fix"].as_str());
        let commands: Vec<_> = fixes
            .filter_map(|fix| Some(&fix[fix.find("codex-manager ")?..]))
            .map(|command| command.split([';', ',']).next().unwrap())
            .collect();
        assert!(commands.len() >= least, "{commands:?}");
        for columns in WIDTHS {
            let lines = lines(env, &["doctor"], columns);
            for command in &commands {
                assert_alone(command, &lines, columns);
            }
            for line in &lines {
                let is_prose = !line.trim().starts_with("codex");
                let is_long = line.chars().count() > usize::from(columns);
                assert!(
                    !(is_prose && is_long && line.trim().contains(' ')),
                    "{columns}: {line}"
                );
            }
        }
    }
}

#[test]
fn the_command_of_a_hint_is_alone_on_a_line() {
    let env = TestEnv::new();
    let glued = Regex::new(": codex(-manager|) ").unwrap();
    for args in [
        &["restore", "latest"][..],
        &["recommend"],
        &["launch"],
        &["status"],
        &["vault", "snapshots"],
    ] {
        let piped = env.run(args).stderr;
        assert!(!glued.is_match(&piped), "{args:?}: {piped}");
        let commands: Vec<_> = piped
            .lines()
            .filter_map(|line| line.strip_prefix("    codex"))
            .map(|rest| format!("codex{rest}"))
            .collect();
        assert!(!commands.is_empty(), "{args:?}: {piped}");
        for columns in WIDTHS {
            let lines = lines(&env, args, columns);
            for command in &commands {
                assert_alone(command, &lines, columns);
            }
        }
    }
}

#[test]
fn a_suggested_command_names_the_homes_that_the_user_named() {
    let env = TestEnv::new();
    sample_home_at(&env.path("a home"));
    let homes = ["--codex-home", "a home", "--manager-home", "manager"];
    let run = |args: &[&str]| env.run([args, &homes].concat()).code(0);
    let options = "--codex-home '[ROOT]/a home' --manager-home [ROOT]/manager";
    for (args, command) in [
        (&["backup", "--no-status"][..], "restore 20"),
        (&["storage", "trash", FIRST], "storage undelete"),
        (&["restore", "latest"], "restore 20"),
    ] {
        let printed = run(args).stderr;
        let wanted = format!("    codex-manager {options} {command}");
        assert!(printed.contains(&wanted), "{printed}");
    }
    // The variables of the environment stay those of the shell.
    sample_home(&env);
    let printed = env.run(["backup", "--no-status"]).code(0).stderr;
    assert!(
        printed.contains("    codex-manager restore 20"),
        "{printed}"
    );
}

/// A colon introduces a command; the printer relies on it.
#[test]
fn hints_introduce_commands_with_a_colon() {
    let literal = Regex::new(
        r#"\.(?:hint|advised|note|warn)\(\s*(?:format_args!\(|format!\()?\s*"((?:[^"\\]|\\.)*)""#,
    )
    .unwrap();
    let command =
        Regex::new(r"(\S+)\s+(?:codex-manager ([a-z]+)|codex (?:login|app-server))\b").unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let (mut read, mut wrong) = (0, Vec::new());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in WalkDir::new(source).sort_by_file_name() {
        let path = entry.expect("list").into_path();
        if path.extension().is_none_or(|found| found != "rs") {
            continue;
        }
        let code = fs::read_to_string(&path).expect("read");
        for found in literal.captures_iter(&code) {
            read += 1;
            let text = continued.replace_all(&found[1], "").into_owned();
            for found in command.captures_iter(&text) {
                // The name of the program, not a command.
                let is_name =
                    |word: regex::Match| ["to", "in", "command", "needs"].contains(&word.as_str());
                let is_command = !found.get(2).is_some_and(is_name);
                if is_command && !found[1].ends_with(':') {
                    wrong.push(format!("{}: {text}", path.display()));
                }
            }
        }
    }
    assert!(read > 200, "{read} messages");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
