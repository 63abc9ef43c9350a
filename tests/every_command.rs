//! Guarantees of all commands, tested for each command of the CLI reference.

use crate::cli_reference::sections;
use crate::cooldown::{entry, write_cooldown};
use crate::support::env::{PROGRAM, Run, TestEnv, assert_same_tree};
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{backup, put, sample_home};
use regex::Regex;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::LazyLock;

/// A command without subcommands.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// The words that select it, such as `["profile", "save"]`.
    pub words: Vec<String>,
    /// Its help without the global options.
    help: String,
}

/// Returns all commands without subcommands, in the order of the CLI reference.
pub(crate) fn leaves() -> Vec<Leaf> {
    let sections = sections();
    let is_group = |words: &[String]| {
        let mut others = sections.iter().map(|(other, _)| other);
        others.any(|other| other.len() > words.len() && other.starts_with(words))
    };
    let leaves = sections.iter().filter(|(words, _)| !is_group(words));
    let found: Vec<_> = leaves
        .map(|(words, help)| Leaf {
            words: words.clone(),
            help: help.clone(),
        })
        .collect();
    assert!(found.len() > 15, "too few commands were found");
    found
}

/// The parts of a usage line that can be omitted, such as `[OPTIONS]` and `[-- <ARGS>...]`.
static OPTIONAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[[^\]]*\]").expect("valid"));

/// Returns a valid value for an argument, chosen by its value name.
fn sample(name: &str) -> &'static str {
    match name {
        "SHELL" => "bash",
        "JOB" => "backup",
        "KEY" => "color",
        "VALUE" => "never",
        "N" => "1",
        "ACCOUNT" | "NAME" | "OLD" | "PROFILE" | "LOGIN" => "alice@example.com",
        "ARCHIVE" | "ARCHIVE|ACCOUNT|latest" | "SNAPSHOT|ACCOUNT|latest" => "latest",
        "URL" => "vault",
        "PATH" => "config.toml",
        "NEW" => "other",
        "FILE" => "file",
        "DIR" => "folder",
        "WORDS" => "one",
        "SESSION" => "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455",
        other => panic!("add a sample value for {other}"),
    }
}

impl Leaf {
    /// Returns the line of the help that names an option.
    fn find_option(&self, flag: &str) -> Option<&str> {
        // The descriptions of options are further to the right.
        let is_option = |line: &&str| line.starts_with("  -") || line.starts_with("      -");
        let mut options = self.help.lines().filter(is_option).map(str::trim_start);
        options.find(|line| line.split([' ', ',']).any(|word| word == flag))
    }

    fn takes(&self, flag: &str) -> bool {
        self.find_option(flag).is_some()
    }

    /// Returns the words, the required arguments, and flags that prevent questions.
    fn args(&self) -> Vec<String> {
        let mut args = self.words.clone();
        let usage = format!("Usage: codex-manager {}", self.words.join(" "));
        let mut lines = self.help.lines();
        let rest = lines.find_map(|line| line.strip_prefix(&usage));
        let rest = rest.unwrap_or_else(|| panic!("no usage:\n{}", self.help));
        for part in OPTIONAL.replace_all(rest, "").split_whitespace() {
            let part = part.trim_end_matches("...");
            match part.strip_prefix('<').and_then(|p| p.strip_suffix('>')) {
                Some(name) => args.push(sample(name).to_owned()),
                // A required option, or what is left of `[NAME]...`.
                None => args.extend((!part.is_empty()).then(|| part.to_owned())),
            }
        }
        // With --from it needs no file.
        if self.words == ["profile", "import"] {
            args.push("file".to_owned());
        }
        if self.words == ["prune"] {
            args.extend(["--keep-last".to_owned(), "1".to_owned()]);
        }
        args
    }

    /// Returns the same arguments followed by `more`.
    pub(crate) fn with(&self, more: &[&str]) -> Vec<String> {
        let mut args = self.args();
        args.extend(more.iter().map(|&word| word.to_owned()));
        args
    }
}

/// Creates a home with files of all kinds, two archives, quota figures, and a cloud folder with a new file.
/// Codex is not installed.
pub(crate) fn world() -> TestEnv {
    let mut env = TestEnv::new();
    sample_home(&env);
    backup(&env, &[]);
    put(&env, "notes.txt", "changed");
    backup(&env, &[]);
    write_cooldown(
        &env,
        &[entry("alice@example.com", 40.0, "2026-11-24T15:55:00Z")],
    );
    env.set("EDITOR", "true");
    sync_set_up(&env);
    env
}

/// Sets up a sync, so that `sync run` changes files and `sync restore` has a backup to restore.
fn sync_set_up(env: &TestEnv) {
    let config = env.write(
        "home/.codex-manager/sync.toml",
        "[sync]\ndry_run_default = false\n\
         [paths]\ncloud_root_dir = \"~/cloud\"\nbackup_dir = \"~/sync-backups\"\n",
    );
    fs::set_permissions(config, Permissions::from_mode(0o600)).unwrap();
    env.write("home/cloud/prompts/there.md", "of another machine\n");
    env.write(
        "home/sync-backups/desk-20261120T120000Z/AGENTS.md",
        "be briefer\n",
    );
}

/// Checks that a run did not panic, has a documented exit code, and printed an error if it failed.
#[track_caller]
pub(crate) fn assert_orderly_exit(what: &str, run: &Run) {
    assert!([0, 1, 2, 3, 4, 5, 6].contains(&run.code), "{what}: {run}");
    assert!(!run.stderr.contains("panicked"), "{what}: {run}");
    if [1, 2, 3, 4].contains(&run.code) {
        let is_error = |line: &str| line.starts_with("error: ") || line.contains("\"error\":");
        assert!(run.stderr.lines().any(is_error), "{what}: {run}");
    }
}

/// A unit test parses the examples of the reference.
#[test]
fn every_help_has_the_examples_of_the_reference_before_the_global_options() {
    let env = TestEnv::new();
    for leaf in leaves() {
        let mut args = leaf.words.clone();
        args.push("--help".into());
        let help = env.run(&args).code(0).stdout;
        let (_, examples) = leaf
            .help
            .split_once("\n\nExamples:\n")
            .unwrap_or_else(|| panic!("{args:?}: no example"));
        let name = format!("codex-manager {}", leaf.words.join(" "));
        assert!(
            examples.contains(&name),
            "{args:?}: no example of this command"
        );
        let examples = format!("\n\nExamples:\n{examples}\n\nGlobal options");
        assert!(help.contains(&examples), "{args:?}:\n{help}");
    }
}

/// The words with which the lines of `--verbose` begin.
const STEP_VERBS: [&str; 7] = [
    "read ",
    "opened ",
    "wrote ",
    "renamed ",
    "exchanged ",
    "unpacked ",
    "started ",
];

/// The commands that open no file in this test, because the homes have no `config.toml`, trash or job. A sync
/// writes its steps to its log.
const WITHOUT_STEPS: [&str; 10] = [
    "completions",
    "config list",
    "config get",
    "config path",
    "hook",
    "man",
    "mcp",
    "sync run",
    "sync restore",
    "schedule show",
];

#[test]
fn verbose_prints_steps_and_json_errors_are_json_in_every_command() {
    let env = world();
    let mut without_steps = Vec::new();
    for leaf in leaves() {
        let what = leaf.words.join(" ");
        let run = env.run(leaf.with(&["--yes", "--verbose"]));
        assert!(run.stderr.contains("the Codex home: "), "{what}: {run}");
        let is_step = |line: &str| STEP_VERBS.iter().any(|verb| line.starts_with(verb));
        if run.code == 0 && !run.stderr.lines().any(is_step) {
            without_steps.push(what.clone());
        }
        let run = env.run(leaf.with(&["--no-such-flag", "--json"])).code(4);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!(error["error"]["exit_code"], 4, "{what}: {run}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("--no-such-flag"), "{what}: {run}");
    }
    assert_eq!(without_steps, WITHOUT_STEPS);
    let run = env.run(["restore", "nothing", "--json"]).code(1);
    let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!(message, "no archive or account named \"nothing\"");
    assert_eq!(error["error"]["exit_code"], 1);
    let hints = error["error"]["hints"].as_array().unwrap();
    assert!(!hints.is_empty() && run.stdout.is_empty(), "{run}");
    // Commands name each file that they read or write.
    let run = env.run(["backup", "--no-status", "-v"]).code(0);
    let require_in_home = |verb: &str, name: &str| format!("{verb} [ROOT]/home/.codex/{name}");
    let wrote = |line: &str| line.starts_with("wrote ") && line.ends_with("-codex.tar.gz");
    assert!(run.stderr.lines().any(wrote), "{run}");
    assert!(
        run.stderr.contains(&require_in_home("read", "config.toml")),
        "{run}"
    );
    let run = env.run(["verify", "latest", "-v"]).code(0);
    let read = |line: &str| line.starts_with("read ") && line.ends_with("-codex.tar.gz");
    assert!(run.stderr.lines().any(read), "{run}");
    let run = env.run(["history", "check", "-v"]);
    assert!(
        run.stderr.contains(&require_in_home("opened", "state_")),
        "{run}"
    );
}

#[test]
fn every_dry_run_option_has_the_short_form_n() {
    let leaves = leaves();
    let lines = leaves
        .iter()
        .filter_map(|leaf| Some((&leaf.words, leaf.find_option("--dry-run")?)));
    let mut count = 0;
    for (words, line) in lines {
        assert_eq!(line, "-n, --dry-run", "{words:?}");
        count += 1;
    }
    assert!(count > 15, "too few options were found");
}

#[test]
fn no_dry_run_changes_a_byte() {
    let env = world();
    let before = env.tree("");
    for leaf in leaves().iter().filter(|leaf| leaf.takes("--dry-run")) {
        let run = env.run(leaf.with(&["--dry-run"]));
        assert_orderly_exit(&leaf.words.join(" "), &run);
        assert_same_tree(&before, &env.tree(""));
        // Each command prints the same line once.
        let trailers = run
            .stderr
            .matches("nothing was written (--dry-run)")
            .count();
        assert_eq!(trailers, usize::from([0, 6].contains(&run.code)), "{run}");
        assert!(!run.stderr.contains("dry run: nothing"), "{run}");
    }
}

#[test]
fn doctor_knows_every_file_that_commands_create() {
    let env = world();
    for leaf in leaves() {
        let run = env.run(leaf.with(&["--yes"]));
        assert_orderly_exit(&leaf.words.join(" "), &run);
    }
    let run = env.run(["doctor", "--json"]);
    let checks = run.json()["checks"].as_array().expect("a list").clone();
    let foreign: Vec<_> = checks
        .iter()
        .filter(|check| check["id"] == "manager.foreign")
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// Other programs, such as Codex and restic, may use the network.
#[test]
fn no_command_opens_a_network_socket() {
    if !can_inject() {
        return;
    }
    let env = world();
    let options = ["-b", "execve", "-e", "trace=socket,connect"].map(str::to_owned);
    for leaf in leaves() {
        let args = leaf.with(&["--yes"]);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let (output, log) = traced(&env, &options, &args);
        assert!(output.status.code().is_some(), "{args:?}: {output:?}");
        assert!(log.contains("+++ exited"), "{args:?} was not traced: {log}");
        assert!(!log.contains("AF_INET"), "{args:?}: {log}");
    }
}

#[test]
fn homes_with_non_unicode_names_cause_no_panic() {
    for (variable, home) in [
        ("CODEX_MANAGER_HOME", "home/.codex-manager"),
        ("CODEX_HOME", "home/.codex"),
    ] {
        let mut env = world();
        let odd = env.path("").join(OsStr::from_bytes(b"odd\xff"));
        fs::rename(env.path(home), &odd).unwrap();
        env.set(variable, &odd);
        for leaf in leaves() {
            for json in [&["--yes"][..], &["--yes", "--json"]] {
                let args = leaf.with(json);
                let run = env.run(&args);
                assert_orderly_exit(&format!("{variable} {args:?}"), &run);
            }
        }
    }
    let env = TestEnv::new();
    let folder = OsStr::from_bytes(b"pages\xff");
    let args = [OsStr::new("man"), OsStr::new("--dir"), folder];
    let run = env.run(args.into_iter().chain([OsStr::new("--json")]));
    assert!(run.code(0).json()["dir"].is_string());
}

#[test]
fn unknown_arguments_exit_with_4() {
    let env = TestEnv::new();
    for leaf in leaves() {
        let run = env.run(leaf.with(&["--no-such-flag"])).code(4);
        assert!(
            run.stdout.is_empty() && run.stderr.contains("no-such-flag"),
            "{run}"
        );
    }
    assert!(env.tree("home").0.len() <= 1, "a file was created");
}

#[test]
fn commands_on_unreadable_or_read_only_homes_do_not_panic_and_damage_no_archive() {
    for (home, mode) in [
        ("home/.codex", 0o000),
        ("home/.codex-manager", 0o500),
        ("home/.codex-manager", 0o000),
    ] {
        let env = world();
        let set = |mode| fs::set_permissions(env.path(home), Permissions::from_mode(mode)).unwrap();
        for leaf in leaves() {
            if leaf.words == ["demo"] {
                continue;
            }
            set(mode);
            let args = leaf.with(&["--yes"]);
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let run = env.run_unprivileged(&args);
            set(0o700);
            assert_orderly_exit(&format!("{home} {mode:o} {args:?}"), &run);
        }
        let run = env.run(["verify", "--all"]);
        assert_eq!(run.code, 0, "{home} {mode:o}: {run}");
    }
}

#[test]
fn reading_commands_work_with_a_read_only_manager_home() {
    let env = world();
    fs::set_permissions(env.manager_home(), Permissions::from_mode(0o500)).unwrap();
    for (args, code) in [
        (&["list-backups"][..], 0),
        (&["verify", "--all"], 0),
        (&["cooldown"], 0),
        (&["recommend"], 0),
        (&["doctor"], 0),
        (&["config", "list"], 0),
        (&["prune", "--keep-last", "1", "--dry-run"], 0),
        (&["sync", "plan"], 0),
        (&["sync", "restore", "--dry-run"], 0),
        (&["sync", "resolve"], 0),
        // Codex is not installed.
        (&["status"], 6),
    ] {
        let run = env.run_unprivileged(args).code(code);
        assert!(!run.stdout.is_empty(), "{run}");
    }
    let run = env.run_unprivileged(&["verify"]).code(0);
    assert!(
        run.stderr.contains("warning: the result is not recorded"),
        "{run}"
    );
    fs::set_permissions(env.manager_home(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_closed_output_causes_no_panic() {
    let env = world();
    for leaf in leaves() {
        for json in [&[][..], &["--json"][..]] {
            let args = leaf.with(json);
            for script in [
                "exec \"$@\" >&-",
                "exec \"$@\" >&- 2>&-",
                "exec \"$@\" >/dev/full",
            ] {
                let mut sh = env.other_program("sh");
                sh.args(["-c", script, "sh", PROGRAM]).args(&args);
                let output = sh.output().expect("sh");
                let stderr = String::from_utf8_lossy(&output.stderr);
                let code = output.status.code();
                assert!(
                    code.is_some_and(|c| c <= 6),
                    "{script} {args:?}: {code:?}\n{stderr}"
                );
                assert!(!stderr.contains("panicked"), "{script} {args:?}: {stderr}");
            }
            // The reader closes the pipe before the first byte.
            let mut command = env.command(&args);
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let output = command
                .stdout(writer)
                .stderr(Stdio::piped())
                .output()
                .expect("run");
            let stderr = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(code.is_some_and(|c| c <= 6), "{args:?}: {code:?}\n{stderr}");
            assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        }
    }
}

#[test]
fn the_readme_names_the_commands_that_change_something_without_a_dry_run() {
    // These read only, or write a report where the user wants it.
    const READING: [&str; 24] = [
        "accounts",
        "completions",
        "config get",
        "config list",
        "config path",
        "current",
        "demo",
        "diff",
        "find",
        "history check",
        "launches",
        "list",
        "list-backups",
        "mcp",
        "profile list",
        "profile show",
        "schedule show",
        "show",
        "sync plan",
        "sync preflight",
        "sync validate",
        "usage",
        "vault cat",
        "vault check",
    ];
    const READING_VAULTS: [&str; 3] = ["vault drill", "vault ls", "vault snapshots"];
    let readme = include_str!("../README.md");
    let (_, claim) = readme
        .split_once("or a setting has `--dry-run`.")
        .expect("the claim");
    let (claim, _) = claim
        .split_once("All options")
        .expect("the end of the claim");
    for leaf in leaves().iter().filter(|leaf| !leaf.takes("--dry-run")) {
        let name = leaf.words.join(" ");
        let is_reading = [&READING[..], &READING_VAULTS].concat().contains(&&*name);
        let is_named = claim.contains(&format!("`{name}"));
        assert_ne!(is_reading, is_named, "{name}");
    }
}
