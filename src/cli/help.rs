//! The help: commands by topic, examples before the global options, and `help global`.

use super::command::Cli;
use crate::context::Flags;
use clap::{Arg, Args, Command, CommandFactory};
use std::ffi::OsString;
use std::fmt::Write as _;

/// The commands by topic, the most used first.
const TOPICS: [(&str, &str); 6] = [
    ("Accounts", "use accounts login current launch profile"),
    ("Quota", "recommend status cooldown list usage"),
    (
        "Backups",
        "backup restore list-backups verify diff prune vault",
    ),
    (
        "Conversations",
        "resume sessions find show export launches mcp history storage",
    ),
    ("Sync", "sync schedule notify"),
    (
        "Setup",
        "doctor config hook completions normalize man demo help",
    ),
];

/// The global options in one line each. A test compares it with the command tree.
pub(super) const GLOBAL_OPTIONS: &str = "\
Global options (explained by: codex-manager help global):
      --codex-home <DIR>    The Codex home
      --manager-home <DIR>  The manager home, with archives and profiles
      --codex-bin <FILE>    The Codex program
      --timezone <ZONE>     The local time zone
      --json                Print one JSON document on stdout instead of text
  -q, --quiet               Leave out notes, progress, and reports
  -v, --verbose             Print files read and written, and programs started
      --color <WHEN>        When to use colour: auto, always, never
      --no-redact           Keep secrets in texts of conversations
  -y, --yes                 Answer yes to every question";

/// Returns the commands by topic, with their summaries.
pub(super) fn render_commands(tree: &Command) -> String {
    let mut text = String::new();
    for (topic, names) in TOPICS {
        let _ = writeln!(text, "{topic}:");
        for name in names.split(' ') {
            let summary = tree.find_subcommand(name).and_then(Command::get_about);
            // clap adds `help` when it builds the tree.
            let about = summary.map_or("Print the help of a command".into(), ToString::to_string);
            let _ = writeln!(text, "  {name:<12}  {about}");
        }
        text.push('\n');
    }
    text + "Other names: ls = list, switch = use, backups = list-backups\n"
}

/// Returns the tree of all commands, with the help in this order: description, arguments, examples, global options.
pub(super) fn command_tree() -> Command {
    let head = "{before-help}{about-with-newline}\n{usage-heading} {usage}\n\n";
    let inner_template = format!("{head}{{all-args}}{{after-help}}\n\n{GLOBAL_OPTIONS}");
    let command = Cli::command();
    let commands = render_commands(&command);
    let top_template =
        format!("{head}{commands}\nOptions:\n{{options}}{{after-help}}\n\n{GLOBAL_OPTIONS}");
    let command = command.mut_args(|arg| {
        let is_global = arg.is_global_set();
        arg.hide_short_help(is_global).hide_long_help(is_global)
    });
    apply_template(command, &inner_template).help_template(top_template)
}

fn apply_template(command: Command, template: &str) -> Command {
    let template = template.to_owned();
    command
        .help_template(template.clone())
        .mut_subcommands(move |subcommand| apply_template(subcommand, &template))
}

/// Returns true if the arguments are `help global`, with or without global options. The `help` of clap accepts only
/// names of commands.
pub(super) fn asks_for_global_options(words: &[OsString]) -> bool {
    // A cheap check first: the parser below would delay every command.
    if !words.iter().any(|word| word == "global") {
        return false;
    }
    let command = Flags::augment_args(Command::new("codex-manager"))
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(Arg::new("words").num_args(0..));
    command.try_get_matches_from(words).is_ok_and(|matches| {
        let given_words = matches.get_many::<String>("words");
        given_words.into_iter().flatten().eq(["help", "global"])
    })
}

/// Returns the complete help of the global options, wrapped at `columns`. `None` is the width of the terminal.
pub(super) fn render_global_options(columns: Option<usize>) -> String {
    let mut command = Flags::augment_args(Command::new("codex-manager"))
        .disable_help_flag(true)
        .max_term_width(100)
        .help_template("{options}");
    if let Some(columns) = columns {
        command = command.term_width(columns);
    }
    let help = command.render_long_help().to_string();
    format!(
        "Options of every command, before or after its name:\n\n{}",
        help.trim_end()
    )
}
