//! The CLI reference and the manual pages match the program. Unit tests of `cli` compare the reference with the tree of
//! the commands.

use crate::support::env::{TestEnv, assert_same_tree};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Returns the CLI reference.
fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli-reference.md");
    fs::read_to_string(path).expect("read the CLI reference")
}

/// Returns the help in a section of the CLI reference that begins with ` NAME`.
fn parse_section(section: &str) -> (&str, String) {
    let parsed = section
        .split_once("\n\n```text\n")
        .and_then(|(name, rest)| {
            let (help, _) = rest.split_once("\n```\n")?;
            Some((name, help.to_owned()))
        });
    parsed.unwrap_or_else(|| panic!("not a section:\n{section}"))
}

/// Returns the commands of the CLI reference: the words that select each, and its help without the global options.
pub(crate) fn sections() -> Vec<(Vec<String>, String)> {
    let text = reference();
    let sections = text.split("\n## codex-manager").skip(1).map(|section| {
        let (name, help) = parse_section(section);
        (name.split_whitespace().map(str::to_owned).collect(), help)
    });
    sections.collect()
}

#[test]
fn the_cli_reference_lists_only_commands_that_exist() {
    let env = TestEnv::new();
    let mut missing = Vec::new();
    for (group, help) in sections() {
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
            let mut args: Vec<_> = group.iter().map(String::as_str).collect();
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
fn help_ends_with_global_options_and_help_global_describes_them() {
    let mut env = TestEnv::new();
    // The width of the section.
    env.set("COLUMNS", "100");
    let page = env.run(["help", "global"]).code(0).stdout;
    let text = reference();
    let (_, section) = text
        .split_once("\n## Global options")
        .expect("the section of the global options");
    assert_eq!(page.trim_end(), parse_section(section).1);
    let help = env.run(["--help"]).code(0).stdout;
    let at = help.find("Global options (").expect("global options");
    let options = help[at..].trim_end();
    let lines = page.lines().map(str::trim_start);
    let described = lines
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("--")));
    let mut count = 0;
    for name in described {
        assert!(options.contains(name), "{name}\n{options}");
        count += 1;
    }
    assert_eq!(count, options.lines().skip(1).count(), "{options}");
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
fn aliases_print_the_help_of_their_commands_and_login_the_error_of_profile_login() {
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
fn man_accepts_a_folder_that_is_not_utf_8_and_prints_a_name_with_escapes_on_one_line() {
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
fn man_writes_the_pages_that_its_dry_run_lists_and_those_of_commands_have_examples() {
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
