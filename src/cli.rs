//! Runs the command of the command line, and returns the exit code of the process.

mod command;
mod help;
mod interrupt;
mod parsing;
#[cfg(all(test, unix))]
mod tests;
mod unfinished;

use self::command::{Cli, Command};
use self::help::{asks_for_global_options, command_tree, render_global_options};
use crate::choices::shell_completers::ShellCompleter;
use crate::commands::{self, recommend::RecommendArgs};
use crate::context::{self, Context, Environment, Flags, Settings};
use crate::doctor::{permissions, way_back};
use crate::error::{CommandError, ErrorKind, Outcome, Result};
use crate::steps::run_log::run_with_log;
use crate::ui::{self, Ui, Verbosity, picker};
use clap::FromArgMatches as _;
use clap_complete::CompleteEnv;
use clap_complete::env::{EnvCompleter, Shells};
use codex_manager_core::codex::redaction;
use codex_manager_core::io::{attached, progress, shell, signals, user};
use codex_manager_core::logging::{self, LogSettings};
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

const VERSION: &str = concat!("codex-manager ", env!("CARGO_PKG_VERSION"));

/// Parses the arguments of the process, runs the command and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let env = Environment::from_process();
    if env.get(commands::completions::VARIABLE).is_some() {
        return print_completions(&env);
    }
    signals::ignore_sigxfsz();

    let words: Vec<_> = std::env::args_os().skip(1).collect();
    // Not parsed by clap, which builds the tree of all commands first.
    if words == ["--version"] || words == ["-V"] {
        ui::print_help(VERSION);
        return ExitCode::SUCCESS;
    }
    if asks_for_global_options(&words) {
        let width_of_terminal = None;
        ui::print_help(&render_global_options(width_of_terminal));
        return ExitCode::SUCCESS;
    }
    if let Some(args) = RecommendArgs::parse_prompt(&words) {
        let (flags, command, is_dry_run) = (Flags::default(), Command::Recommend(args), false);
        return run(Cli { flags, command }, is_dry_run, env);
    }

    let (cli, is_dry_run) = match parsing::parse_arguments() {
        Ok(parsed) => parsed,
        Err(e) => return parsing::print_parse_error(&e),
    };

    if !cli.command.runs_in_prompt() {
        interrupt::install_handler(&cli, &env);
    }
    run(cli, is_dry_run, env)
}

/// Resolves the settings. Some commands use the defaults if `config.toml` is invalid. Also returns the problem of the
/// file, if the caller has to warn of it.
fn resolve_settings(
    command: &Command,
    flags: Flags,
    env: &Environment,
) -> (Result<Settings>, Option<String>) {
    match Settings::resolve(flags.clone(), env) {
        Err(_) if command.tolerates_invalid_config() => {
            (Settings::resolve_without_file(flags, env), None)
        }
        Err(error) if error.kind == ErrorKind::Usage && command.may_use_default_config() => {
            match Settings::resolve_without_file(flags, env) {
                Ok(settings) => (Ok(settings), Some(error.to_one_line())),
                Err(_) => (Err(error), None),
            }
        }
        resolved => (resolved, None),
    }
}

/// Resolves the settings, runs the command, prints its error, and returns the exit code.
fn run(cli: Cli, is_dry_run: bool, env: Environment) -> ExitCode {
    let Cli { flags, command } = cli;
    let verbosity = match (flags.quiet, flags.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };

    let mut home_options = format_home_options(&flags, &env);
    if let Some(config) = command.named_sync_config() {
        let path = env.absolute(config);
        let word = shell::quote_if_needed(&path.to_string_lossy());
        home_options.push(format!("-c {word}"));
    }

    let (settings, config_problem) = resolve_settings(&command, flags.clone(), &env);
    let color = match &settings {
        Ok(settings) => settings.color,
        Err(_) => flags.color.unwrap_or_default(),
    };

    let mut ui = Ui::new(flags.json, verbosity, color, &env);
    ui.home_options = home_options;
    ui.shows_conversations = command.shows_conversations();
    if flags.no_redact && !matches!(command, Command::Mcp(_)) {
        redaction::keep_secrets();
    }
    if let Some(problem) = config_problem {
        ui.warn(format_args!("{problem}; the defaults are used"));
    }

    let waiting_ui = ui.clone();
    progress::set_wait_callback(move |what| {
        waiting_ui.note(format_args!("waiting for {what}"));
    });

    let interrupt_hint = command.interrupt_hint();
    let result = settings.and_then(|settings| {
        let context = Context {
            settings,
            clock: context::read_clock(&env)?,
            env,
            ui: ui.clone(),
            runner: run_command_line,
            asks_before_switch: false,
        };
        let outcome = recover_and_run(command, &context, flags.log)?;
        // Printing returns no error, so a full disk makes the command fail only here, at its end.
        match ui::take_output_error() {
            None => Ok(outcome),
            Some(e) => Err(
                CommandError::failed(format!("cannot write the result to stdout: {e}"))
                    .hint("the command itself succeeded"),
            ),
        }
    });

    match result {
        Ok(outcome) => {
            if is_dry_run {
                ui.note("nothing was written (--dry-run)");
            }
            ExitCode::from(outcome.code())
        }
        Err(error) => print_error(error, &ui, interrupt_hint),
    }
}

/// Returns the options with which the user named the homes, for commands that may run in another folder.
fn format_home_options(flags: &Flags, env: &Environment) -> Vec<String> {
    let homes = [
        ("--manager-home", &flags.manager_home),
        ("--codex-home", &flags.codex_home),
    ];
    let options = homes.into_iter().filter_map(|(name, home)| {
        let path = env.absolute(home.as_ref()?);
        let word = shell::quote_if_needed(&path.to_string_lossy());
        Some(format!("{name} {word}"))
    });
    options.collect()
}

/// Prints the error of a command unless it is silent, and returns its exit code.
fn print_error(mut error: CommandError, ui: &Ui, interrupt_hint: &str) -> ExitCode {
    // After Ctrl-C, an operation that stops may fail with an error of its own.
    if error.kind == ErrorKind::Failed && progress::is_interrupted() {
        error = CommandError::interrupted().because_of(&error);
    }
    if error.kind == ErrorKind::Interrupted && error.hints.is_empty() {
        error.hints.push(interrupt_hint.into());
    }

    // A program that reads JSON gets an error even if the user left a picker, which is a silent error.
    let needs_json_error = error.kind == ErrorKind::Interrupted && ui.wants_json();
    if !error.is_silent || ui.is_verbose() || needs_json_error {
        ui.error(&error);
    }
    ExitCode::from(error.kind as u8)
}

/// Parses `words` like a command line and runs the command.
fn run_command_line(words: &[OsString], context: &Context) -> Result<Outcome> {
    let program = std::iter::once(OsStr::new("codex-manager"));
    let command_line = program.chain(words.iter().map(OsString::as_os_str));
    let cli = command_tree()
        .try_get_matches_from(command_line)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|e| CommandError::usage("invalid command line").because(e))?;
    cli.command.run(context, command_tree)
}

/// Finishes interrupted commands, then runs the command. Logs both if `wants_log` is true.
fn recover_and_run(command: Command, context: &Context, wants_log: bool) -> Result<Outcome> {
    // In a prompt, the warning would repeat with every line. `config` and `doctor` report such keys
    // themselves, and `completions`, `hook` and `man` do not depend on them.
    if !command.runs_in_prompt() && !command.tolerates_invalid_config() {
        context.warn_of_unknown_keys(&context.settings.unknown_keys);
    }
    let opens_own_log = command.opens_own_log(context);
    if context.ui.is_verbose() {
        print_homes_and_steps(context, wants_log || opens_own_log);
    }

    let work = || {
        tighten_manager_home(context, &command)?;
        unfinished::recover_interrupted(context, &command)?;
        let (is_about_home, is_backup) = (
            command.is_about_home(),
            matches!(command, Command::Backup(_)),
        );
        let result = command.run(context, command_tree);
        if is_about_home {
            return name_way_back(result, is_backup, context);
        }
        result
    };
    if wants_log && !opens_own_log {
        let machine = None;
        run_with_log(context, &LogSettings::default(), machine, work)
    } else {
        work()
    }
}

/// Names the way back to the conversations that the home lacks, unless the command has named it. After a backup, only for
/// a home without conversations, but even under `--quiet`, because backups run unattended.
fn name_way_back(result: Result<Outcome>, is_backup: bool, context: &Context) -> Result<Outcome> {
    let may_be_named = match &result {
        Ok(outcome) => !matches!(outcome, Outcome::Codex(_) | Outcome::UsageLimit(_)),
        Err(error) => {
            matches!(error.kind, ErrorKind::Failed | ErrorKind::Usage) && !error.is_silent
        }
    };
    let needs_none = || is_backup && result.is_ok() && way_back::has_conversations(context);
    if !may_be_named || way_back::is_named() || needs_none() {
        return result;
    }
    let Some(way_back) = way_back::find_way_back(context) else {
        return result;
    };

    let hint = way_back.to_hint();
    match result {
        Ok(_) if is_backup => context.warn(hint),
        Ok(_) => context.note(hint),
        Err(mut error) => {
            error.hints.insert(0, hint);
            return Err(error);
        }
    }
    result
}

/// Removes the write access of other users to the manager home, and refuses links that they may have left in it, before
/// a login is stored there. `doctor` and other commands that run with an invalid `config.toml` do not change it.
fn tighten_manager_home(context: &Context, command: &Command) -> Result<()> {
    let home = &context.settings.manager_home;
    if command.tolerates_invalid_config() {
        return Ok(());
    }

    let was_writable_by_others = permissions::tighten_manager_home(home)?;
    // Before that, another user may have replaced a folder by a link. Root could follow a link anywhere.
    if was_writable_by_others || user::is_root() {
        permissions::refuse_links_of_others(home)?;
    }

    if was_writable_by_others {
        let home = home.display();
        let message =
            format_args!("other users could write to the manager home; now only you can: {home}");
        context.warn(message);
    }
    Ok(())
}

/// Prints the homes and, from now on, each step of the run. A run with a log writes its steps to the log instead.
fn print_homes_and_steps(context: &Context, has_log: bool) {
    let (codex_home, manager_home) = (context.codex_home(), context.manager_home());
    let ui = context.ui.clone();
    ui.detail(format_args!("the Codex home: {}", codex_home.display()));
    ui.detail(format_args!("the manager home: {}", manager_home.display()));

    if has_log {
        let logs = manager_home.join(logging::FOLDER);
        return ui.detail(format_args!("the log of this run is in {}", logs.display()));
    }

    logging::print_events(move |step| {
        // A picker, or a program that was started, may draw on the terminal meanwhile.
        if !picker::is_open() && !attached::is_running() {
            ui.detail(step);
        }
    });
}

/// Prints completion candidates for a shell.
fn print_completions(env: &Environment) -> ExitCode {
    let builtins = Shells::builtins();
    let completers: Vec<_> = builtins.iter().map(ShellCompleter).collect();
    let shells: Vec<_> = completers
        .iter()
        .map(|completer| completer as &dyn EnvCompleter)
        .collect();

    let result =
        CompleteEnv::with_factory(|| crate::choices::candidates::attach_completers(command_tree()))
            .shells(Shells(&shells))
            .var(commands::completions::VARIABLE)
            .try_complete(std::env::args_os(), Some(&env.current_dir));
    // No message on failure: the shell would insert it into the user's command line.
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ErrorKind::Usage as u8),
    }
}
