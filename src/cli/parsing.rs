//! The arguments of the process, and the messages of clap.

use super::command::{Cli, Command};
use super::help::command_tree;
use crate::context::Flags;
use crate::error::{CommandError, ErrorKind};
use crate::{commands, ui};
use clap::error::ErrorKind as Kind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// The command line with the fast commands; see [`parse_arguments`].
#[derive(Debug, Parser)]
struct FastCli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: FastCommand,
}

/// The commands that take a few milliseconds. clap adds only the arguments of the command that is given (`defer`).
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum FastCommand {
    Recommend(commands::recommend::RecommendArgs),
    List(commands::list::ListArgs),
    Current(commands::current::CurrentArgs),
    ListBackups(commands::list_backups::ListBackupsArgs),
    Launches(commands::launches::LaunchesArgs),
}

impl From<FastCommand> for Command {
    fn from(command: FastCommand) -> Self {
        match command {
            FastCommand::Recommend(args) => Self::Recommend(args),
            FastCommand::List(args) => Self::List(args),
            FastCommand::Current(args) => Self::Current(args),
            FastCommand::ListBackups(args) => Self::ListBackups(args),
            FastCommand::Launches(args) => Self::Launches(args),
        }
    }
}

/// Parses the arguments if they are a valid command line of a fast command. Also returns true if they contain
/// `--dry-run`.
fn parse_fast_command() -> Option<(Cli, bool)> {
    let mut words = std::env::args_os();
    if !words.any(|word| word.to_str().is_some_and(FastCommand::has_subcommand)) {
        return None;
    }
    let matches = FastCli::command().try_get_matches().ok()?;
    let FastCli { flags, command } = FastCli::from_arg_matches(&matches).ok()?;
    let command = command.into();
    Some((Cli { flags, command }, is_dry_run(&matches)))
}

/// Parses the arguments of the process. Also returns true if they contain `--dry-run`.
///
/// The fast commands are first parsed without the others, because building the tree of all commands takes longer than a
/// fast command does. Help and usage errors always come from the full tree.
pub(super) fn parse_arguments() -> Result<(Cli, bool), clap::Error> {
    if let Some(parsed) = parse_fast_command() {
        return Ok(parsed);
    }

    // `-Cargo` excludes a word, but clap takes it for `-C` with the value `argo`.
    let errors_of_negations = [
        Kind::UnknownArgument,
        Kind::ValueValidation,
        Kind::ArgumentConflict,
    ];
    let matches = match command_tree().try_get_matches() {
        Err(e) if errors_of_negations.contains(&e.kind()) => {
            let words: Vec<_> = std::env::args_os().collect();
            mark_negations(words)
                .and_then(|words| command_tree().try_get_matches_from(words).ok())
                .ok_or(e)
        }
        parsed => parsed,
    }?;

    let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command_tree()))?;
    Ok((cli, is_dry_run(&matches)))
}

/// Replaces `-word` after `find` by `!word`, because clap would parse its letters as flags. `-C3` and single letters
/// such as `-q` stay. Returns `None` for other commands.
fn mark_negations(words: Vec<OsString>) -> Option<Vec<OsString>> {
    let find_position = words.iter().position(|word| word == "find")?;
    let options_end = words.iter().position(|word| word == "--");
    let may_be_option = |i| i > find_position && options_end.is_none_or(|end| i < end);

    // `bare` is a word without its first hyphen: `C3` for `-C3`, `-here` for `--here`.
    let is_negation = |bare: &&str| {
        let line_count = bare.strip_prefix('C').map(|n| n.trim_start_matches('='));
        let is_context_flag = line_count.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let is_long_flag = bare.starts_with('-');
        bare.len() > 1 && !is_long_flag && !is_context_flag
    };

    let mark_word = |(position, word): (usize, OsString)| {
        let bare = word.to_str().and_then(|word| word.strip_prefix('-'));
        match bare.filter(is_negation) {
            Some(bare) if may_be_option(position) => format!("!{bare}").into(),
            _ => word,
        }
    };

    Some(words.into_iter().enumerate().map(mark_word).collect())
}

fn is_dry_run(matches: &ArgMatches) -> bool {
    if let Some((_, subcommand_matches)) = matches.subcommand() {
        return is_dry_run(subcommand_matches);
    }
    // `try_get_one` fails for a command that has no such flag.
    let flag = matches.try_get_one("dry_run").ok().flatten();
    flag.copied().unwrap_or(false)
}

/// Prints clap's message; with `--json`, prints an error as JSON. Returns 0 for help and version, and 4 for an error.
pub(super) fn print_parse_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        if !ui::print_narrow_help(&error.to_string()) {
            let _ = error.print();
        }
        return ExitCode::SUCCESS;
    }

    let mut words = std::env::args_os().take_while(|word| word != "--");
    if words.any(|word| word == "--json") {
        let text = error.to_string();
        let first_line = text.lines().next().unwrap_or_default();
        let message = first_line.strip_prefix("error: ").unwrap_or(first_line);
        ui::print_json_error(&CommandError::usage(message));
    } else {
        let _ = error.print();
    }
    ExitCode::from(ErrorKind::Usage as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::VERSION;
    use crate::commands::recommend::RecommendArgs;

    #[test]
    fn only_a_recommend_command_for_a_shell_prompt_is_parsed_here_with_the_result_of_clap() {
        let own = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            RecommendArgs::parse_prompt(&words)
        };
        for words in [
            &["recommend"] as &[_],
            &["recommend", "--format", "{email} {next_in}"],
            &["recommend", "--format", ""],
        ] {
            let cli = Cli::try_parse_from([&["codex-manager"], words].concat()).unwrap();
            let Cli { flags, command } = cli;
            assert_eq!(format!("{flags:?}"), format!("{:?}", Flags::default()));
            let args = own(words).unwrap();
            assert_eq!(format!("{command:?}"), format!("Recommend({args:?})"));
        }
        for words in [
            &["recommend", "--format"] as &[_],
            &["recommend", "--format", "--json"],
            &["recommend", "--json"],
            &["list"],
            &[],
        ] {
            assert!(own(words).is_none(), "{words:?}");
        }
    }

    #[test]
    fn the_version_is_printed_as_by_clap() {
        assert_eq!(command_tree().render_version(), format!("{VERSION}\n"));
    }
}
