//! docs/cli-reference.md and the help are those of the tree of commands, and the examples of the help are valid.

use super::help::{
    GLOBAL_OPTIONS, asks_for_global_options, command_tree, render_commands, render_global_options,
};
use clap::Command;
use std::ffi::OsString;
use std::fmt::Write;
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
    let help = help.replace(GLOBAL_OPTIONS, "");
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(
        text,
        "\n## {path}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    )
    .expect("write to a string");
    for inner in command.get_subcommands() {
        describe(inner, &path, text);
    }
}

#[test]
fn the_cli_reference_matches_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli-reference.md");
    let mut text = HEAD.to_owned();
    describe(&command_tree(), "", &mut text);
    let global = render_global_options(Some(100));
    write!(text, "\n## Global options\n\n```text\n{global}\n```\n").unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        text == written,
        "docs/cli-reference.md is out of date (UPDATE_DOCS=1 cargo test cli_reference): {first:?}"
    );
}

#[test]
fn the_overview_lists_every_command_with_its_summary_in_one_line() {
    let tree = command_tree();
    let overview = render_commands(&tree);
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
fn help_global_shows_exactly_the_global_options_that_are_not_hidden() {
    let page = render_global_options(Some(100));
    let mut tree = command_tree();
    tree.build();
    for arg in tree.get_arguments().filter(|arg| arg.is_global_set()) {
        let name = format!("--{}", arg.get_long().unwrap());
        let is_shown = !arg.is_hide_set();
        assert_eq!(GLOBAL_OPTIONS.contains(&name), is_shown, "{name}");
        assert_eq!(page.contains(&name), is_shown, "{name}\n{page}");
    }
}

#[test]
fn help_global_takes_global_options() {
    let asks = |line: &str| {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        asks_for_global_options(&words)
    };
    for line in ["", "-v ", "--json ", "--codex-home sync "] {
        assert!(asks(&format!("{line}help global")), "{line}");
    }
    assert!(asks("help global --color never"));
    for line in ["help", "global", "sync help global", "find help global x"] {
        assert!(!asks(line), "{line}");
    }
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
    let mut command = command_tree();
    command.build();
    check(&command);
}

/// Calls `visit` with the examples of each command and its full name. Only a group of commands may have none.
fn visit_examples(command: &Command, path: &str, visit: &mut dyn FnMut(&str, &str)) {
    let help = command.get_after_help().map(ToString::to_string);
    match help
        .as_deref()
        .and_then(|help| help.split_once("Examples:"))
    {
        Some((_, examples)) => visit(path, examples),
        None => assert!(command.has_subcommands(), "{path}: no example"),
    }
    for inner in command.get_subcommands() {
        visit_examples(inner, &format!("{path} {}", inner.get_name()), visit);
    }
}

/// Returns the words of an example as a shell passes them: those before a comment, a pipe or a redirection.
fn split_words(line: &str) -> Vec<String> {
    let end = [" | ", " # ", " >"].map(|mark| line.find(mark).unwrap_or(line.len()));
    let end = end.into_iter().min().unwrap_or_default();
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line[..end].chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_has_an_example_and_all_examples_parse() {
    let tree = command_tree();
    let mut count = 0;
    visit_examples(&tree, "codex-manager", &mut |name, examples| {
        assert!(
            examples.contains(name),
            "{name}: no example of this command"
        );
        let lines = examples.lines().map(str::trim_start);
        for line in lines.filter(|line| line.starts_with("codex-manager ")) {
            if let Err(e) = tree.clone().try_get_matches_from(split_words(line)) {
                panic!("{line}: {e}");
            }
            count += 1;
        }
    });
    assert!(count > 100, "too few examples were found");
}

#[test]
fn examples_fit_80_columns() {
    visit_examples(&command_tree(), "codex-manager", &mut |name, examples| {
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
    });
}
