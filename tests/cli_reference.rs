//! The CLI reference and the manual pages match the help of the program.

use crate::support::env::{TestEnv, assert_same_tree};
use clap::Command;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# Command line

Generated from the program's own help: `UPDATE_DOCS=1 cargo test cli_reference` writes it again.
";

/// Appends the help of a command and of its subcommands, each under its full name.
fn describe(command: &Command, path: &str, text: &mut String) {
    let path = if path.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{path} {}", command.get_name())
    };
    let help = command
        .clone()
        .bin_name(&path)
        .term_width(90)
        .render_long_help()
        .to_string();
    // The same for each command: one section at the end has them.
    let help = help.replace(codex_manager::cli::GLOBAL_OPTIONS, "");
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(
        text,
        "\n## {path}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    )
    .unwrap();
    for inner in command.get_subcommands() {
        describe(inner, &path, text);
    }
}

#[test]
fn the_cli_reference_matches_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli-reference.md");
    let mut text = HEAD.to_owned();
    describe(&codex_manager::cli::tree(), "", &mut text);
    let global = codex_manager::cli::render_global_options();
    write!(text, "\n## Global options\n\n```text\n{global}\n```\n").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        text == written,
        "docs/cli-reference.md is out of date (UPDATE_DOCS=1 cargo test cli_reference): {first:?}"
    );
}

#[test]
fn the_cli_reference_lists_only_commands_that_exist() {
    let env = TestEnv::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli-reference.md");
    let text = fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    for section in text.split("\n## codex-manager").skip(1) {
        let (group, help) = section.split_once('\n').unwrap();
        let Some((_, list)) = help.split_once("\nCommands:\n") else {
            continue;
        };
        let names = list
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next());
        for name in names {
            let mut args: Vec<_> = group.split_whitespace().collect();
            args.push(name);
            if name != "help" {
                args.push("--help");
            }
            if env.run(&args).code != 0 {
                missing.push(args.join(" "));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_overview_lists_every_command_with_its_summary_in_one_line() {
    let tree = codex_manager::cli::tree();
    let overview = codex_manager::cli::render_commands(&tree);
    for command in tree.get_subcommands().filter(|c| c.get_name() != "help") {
        let about = command.get_about().unwrap().to_string();
        let line = format!("  {:<12}  {about}", command.get_name());
        let count = overview.lines().filter(|l| *l == line).count();
        assert_eq!(count, 1, "not listed once: {line:?}");
        for alias in command.get_visible_aliases() {
            let name = format!("{alias} = {}", command.get_name());
            assert!(overview.contains(&name), "not listed: {name}");
        }
    }
    let entries = overview.lines().filter(|line| line.starts_with("  "));
    assert_eq!(entries.count(), tree.get_subcommands().count() + 1);
    assert!(overview.lines().all(|line| line.len() <= 80), "{overview}");
}

#[test]
fn help_ends_with_global_options_and_help_global_describes_them() {
    let env = TestEnv::new();
    let options = codex_manager::cli::GLOBAL_OPTIONS;
    let page = env.run(["help", "global"]).code(0).stdout;
    let mut tree = codex_manager::cli::tree();
    tree.build();
    for arg in tree.get_arguments().filter(|arg| arg.is_global_set()) {
        let name = format!("--{}", arg.get_long().unwrap());
        let is_shown = !arg.is_hide_set();
        assert_eq!(options.contains(&name), is_shown, "{name}");
        assert_eq!(page.contains(&name), is_shown, "{name}\n{page}");
    }
    for args in [&["restore", "--help"][..], &["profile", "-h"], &["--help"]] {
        let help = env.run(args).code(0).stdout;
        assert!(help.trim_end().ends_with(options), "{help}");
        assert_eq!(help.matches("--codex-home").count(), 1, "{help}");
    }
    let help = env.run(["restore", "--help"]).code(0).stdout;
    assert!(
        help.find("Examples:") < help.find("Global options"),
        "{help}"
    );
}

#[test]
fn aliases_behave_like_their_commands() {
    let env = TestEnv::new();
    for (alias, name) in [
        ("ls", "list"),
        ("switch", "use"),
        ("backups", "list-backups"),
        ("search", "find"),
    ] {
        let printed = env.run([alias, "--help"]).code(0).stdout;
        assert_eq!(printed, env.run([name, "--help"]).code(0).stdout, "{alias}");
    }
    let login = |words: &[&str]| env.run(words).code(1).stderr;
    assert_eq!(
        login(&["login", "work"]),
        login(&["profile", "login", "work"])
    );
}

#[test]
fn help_prints_the_help_of_a_command_at_every_level() {
    let env = TestEnv::new();
    let same: [(&[&str], &[&str]); 5] = [
        (&["help"], &["--help"]),
        (&["help", "restore"], &["restore", "--help"]),
        (&["help", "profile", "save"], &["profile", "save", "--help"]),
        (&["profile", "help", "save"], &["profile", "save", "--help"]),
        (&["config", "help", "set"], &["config", "set", "--help"]),
    ];
    for (command, flag) in same {
        let printed = env.run(command).code(0).stdout;
        assert_eq!(printed, env.run(flag).code(0).stdout, "{command:?}");
    }
    let run = env.run(["help", "nothing"]).code(4);
    assert!(run.stderr.contains("nothing"), "{run}");
}

#[test]
fn man_writes_to_folders_with_unusual_names() {
    use std::os::unix::ffi::OsStrExt;
    let env = TestEnv::new();
    let plain = |dir: &[u8], more: &str| {
        let args: [&OsStr; 4] = [
            "man".as_ref(),
            "--dir".as_ref(),
            OsStr::from_bytes(dir),
            more.as_ref(),
        ];
        env.run(args).code(0).stdout
    };
    assert!(plain(b"\xff\xfe", "--json").contains("\"dir\""));
    let output = plain(b"x\x1b[31m\ny", "--dry-run");
    assert!(
        !output.contains('\x1b') && output.lines().count() == 1,
        "{output:?}"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let env = TestEnv::new();
    let before = env.tree("");
    let planned = env
        .run(["man", "--dir", "pages", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_same_tree(&before, &env.tree(""));
    let written = env.run(["man", "--dir", "pages", "--json"]).code(0).json();
    assert_eq!(planned["files"], written["files"]);
    let names: Vec<_> = written["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"codex-manager.1") && names.contains(&"codex-manager-config-set.1"),
        "{names:?}"
    );
    for name in names {
        let page = fs::read_to_string(env.path("pages").join(name)).unwrap();
        assert!(
            page.contains(".TH codex\\-manager") || page.contains(".TH codex-manager"),
            "{name}"
        );
        assert!(
            page.contains("Examples:") || name == "codex-manager.1",
            "{name}"
        );
    }
    let page = env.run(["man"]).code(0).stdout;
    assert!(page.contains("safe, switchable and portable"));
}

/// An option with several values would take a positional argument after it as another value.
#[test]
fn every_option_takes_at_most_one_value() {
    fn check(command: &Command) {
        for option in command.get_arguments().filter(|a| !a.is_positional()) {
            let most = option.get_num_args().expect("built").max_values();
            let name = (command.get_name(), option.get_id());
            assert!(most <= 1, "{name:?} takes up to {most} values");
        }
        command.get_subcommands().for_each(check);
    }
    let mut command = codex_manager::cli::tree();
    command.build();
    check(&command);
}
