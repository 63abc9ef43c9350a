//! The command line: global flags, the list of commands, and the exit code of the process.

mod help;
mod interrupt;
mod parsing;
mod unfinished;

pub use self::help::{COMMANDS, GLOBAL_OPTIONS, global_options, tree};

use crate::commands;
use crate::commands::run_log::RunLog;
use crate::config::ColorChoice;
use crate::context::{self, Context, Environment, Flags, Settings};
use crate::doctor::permissions;
use crate::error::{CommandError, ErrorKind, Outcome};
use crate::io::{attached, limits, progress};
use crate::logging::{self, LogSettings};
use crate::ui::{self, Ui, Verbosity, picker};
use clap::{Args, Parser, Subcommand};
use clap_complete::CompleteEnv;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps your Codex CLI accounts and conversations safe, switchable and portable.
#[derive(Debug, Parser)]
#[command(name = "codex-manager", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command accepts.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag on the command line"
)]
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArgs {
    /// The Codex home [default: `$CODEX_HOME`, else ~/.codex]
    #[arg(long, global = true, value_name = "DIR")]
    codex_home: Option<PathBuf>,
    /// The manager home, with archives and profiles [default: `$CODEX_MANAGER_HOME`, else ~/.codex-manager]
    #[arg(long, global = true, value_name = "DIR")]
    manager_home: Option<PathBuf>,
    /// The Codex program [default: codex.bin of config.toml, else `codex` on PATH]
    #[arg(long, global = true, value_name = "FILE")]
    codex_bin: Option<PathBuf>,
    /// The local time zone as an IANA name [default: config.toml, else `$TZ`, else the system's]
    #[arg(long, global = true, value_name = "ZONE")]
    timezone: Option<String>,
    /// Print one JSON document on stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print only errors and warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print each file that is read or written, and each program that is started. A run that keeps a log
    /// reports its steps there
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colour [default: color of config.toml, else auto]
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<ColorChoice>,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    yes: bool,
    /// Write a log of this run to logs/ of the manager home (for scheduled jobs)
    #[arg(long, global = true, hide = true)]
    log: bool,
}

/// One variant per command; the help of each command is the doc comment of its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    Backup(commands::backup::BackupArgs),
    Completions(commands::completions::CompletionsArgs),
    Config(commands::config::ConfigArgs),
    Hook(commands::hook::HookArgs),
    Man(commands::man::ManArgs),
    Restore(commands::restore::RestoreArgs),
    #[command(visible_alias = "backups")]
    ListBackups(commands::list_backups::ListBackupsArgs),
    Verify(commands::verify::VerifyArgs),
    Prune(commands::prune::PruneArgs),
    Normalize(commands::normalize::NormalizeArgs),
    History(commands::history::HistoryArgs),
    Storage(commands::storage::StorageArgs),
    Doctor(commands::doctor::DoctorArgs),
    Demo(commands::demo::DemoArgs),
    Cooldown(commands::cooldown::CooldownArgs),
    Recommend(commands::recommend::RecommendArgs),
    Status(commands::status::StatusArgs),
    Sync(commands::sync::SyncArgs),
    Schedule(commands::schedule::ScheduleArgs),
    Profile(commands::profile::ProfileArgs),
    #[command(visible_alias = "ls")]
    List(commands::list::ListArgs),
    Current(commands::current::CurrentArgs),
    #[command(visible_alias = "switch")]
    Use(commands::use_account::UseArgs),
    Login(commands::profile::TopLoginArgs),
    Launch(commands::launch::LaunchArgs),
    Resume(commands::resume::ResumeArgs),
    Launches(commands::launches::LaunchesArgs),
    Sessions(commands::sessions::SessionsArgs),
    Find(commands::find::FindArgs),
    Usage(commands::usage::UsageArgs),
    Show(commands::show::ShowArgs),
    Export(commands::export::ExportArgs),
    Vault(commands::vault::VaultArgs),
}

impl Command {
    /// Returns true if the command opens its own log, so that `--log` must not open a second one.
    fn keeps_log(&self, context: &Context) -> bool {
        matches!(self, Self::Sync(args) if args.keeps_log(context))
    }

    /// Returns true for `recommend`, which runs in every shell prompt. Starting the thread that
    /// listens for signals would cost it a tenth of its run time.
    fn runs_in_prompt(&self) -> bool {
        matches!(self, Self::Recommend(_))
    }

    /// Returns true if Codex takes over the terminal. `launch::run` then handles the signals; before
    /// Codex starts, a signal ends this process without cleanup, except of the terminal.
    fn hands_over_terminal(&self) -> bool {
        matches!(self, Self::Launch(_) | Self::Resume(_))
    }

    /// Returns true if the command must not run on a Codex home that an interrupted restore has
    /// replaced only in part.
    fn requires_complete_home(&self) -> bool {
        match self {
            Self::Backup(_)
            | Self::Restore(_)
            | Self::Use(_)
            | Self::History(_)
            | Self::Launch(_)
            | Self::Resume(_) => true,
            Self::Sync(args) => args.works_on_home(),
            Self::Vault(args) => args.works_on_home(),
            _ => false,
        }
    }

    /// Returns true if nothing is lost when the command ends at any moment: it reads, or fills the search index, whose
    /// changes are transactions.
    fn only_reads(&self) -> bool {
        match self {
            Self::Doctor(args) => args.only_reads(),
            Self::ListBackups(_)
            | Self::Sessions(_)
            | Self::Find(_)
            | Self::Usage(_)
            | Self::Show(_) => true,
            _ => false,
        }
    }

    /// Returns the hint for an interrupted command: the state that it leaves.
    fn after_interrupt(&self) -> &'static str {
        match self {
            Self::Backup(_) => "no archive was written, and the Codex home is unchanged",
            Self::Restore(_) => "the Codex home is unchanged",
            Self::Verify(_) => "the archives are unchanged",
            Self::Use(_) | Self::Launch(_) | Self::Resume(_) => "the live login is unchanged",
            Self::Find(_) | Self::Usage(_) | Self::Sessions(_) | Self::Show(_) => {
                "the conversations are unchanged"
            }
            Self::Demo(_) => "your own homes are unchanged",
            _ => {
                "each file is either unchanged or complete; run the same command again to continue"
            }
        }
    }

    /// Returns true if the command runs with an invalid `config.toml`: it repairs the file or does not
    /// need it.
    fn tolerates_invalid_config(&self) -> bool {
        matches!(
            self,
            Self::Completions(_) | Self::Config(_) | Self::Doctor(_) | Self::Hook(_) | Self::Man(_)
        )
    }

    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Backup(args) => args.run(context),
            Self::Completions(args) => args.run(context),
            Self::Config(args) => args.run(context),
            Self::Hook(args) => args.run(context),
            Self::Man(args) => args.run(context, tree()),
            Self::Restore(args) => args.run(context),
            Self::ListBackups(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Prune(args) => args.run(context),
            Self::Normalize(args) => args.run(context),
            Self::History(args) => args.run(context),
            Self::Storage(args) => args.run(context),
            Self::Doctor(args) => Ok(args.run(context)),
            Self::Demo(args) => args.run(context),
            Self::Cooldown(args) => args.run(context),
            Self::Recommend(args) => args.run(context),
            Self::Status(args) => args.run(context),
            Self::Sync(args) => args.run(context),
            Self::Schedule(args) => args.run(context),
            Self::Profile(args) => args.run(context),
            Self::List(args) => args.run(context),
            Self::Current(args) => args.run(context),
            Self::Use(args) => args.run(context),
            Self::Login(args) => args.run(context),
            Self::Launch(args) => args.run(context),
            Self::Resume(args) => args.run(context),
            Self::Launches(args) => args.run(context),
            Self::Sessions(args) => args.run(context),
            Self::Find(args) => args.run(context),
            Self::Usage(args) => args.run(context),
            Self::Show(args) => args.run(context),
            Self::Export(args) => args.run(context),
            Self::Vault(args) => args.run(context),
        }
    }
}

/// Parses the arguments of the process, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    let env = Environment::of_process();
    if env.get(commands::completions::VARIABLE).is_some() {
        return complete(&env);
    }
    limits::survive_large_files();
    if std::env::args_os().skip(1).eq(["help", "global"]) {
        ui::print_help(&global_options());
        return ExitCode::SUCCESS;
    }
    let (cli, is_dry_run) = match parsing::parse() {
        Ok(parsed) => parsed,
        Err(e) => return parsing::usage_exit(&e),
    };
    if !cli.command.runs_in_prompt() {
        interrupt::install_handler(&cli, &env);
    }
    run(cli, is_dry_run, env)
}

fn run(cli: Cli, is_dry_run: bool, env: Environment) -> ExitCode {
    let Cli { global, command } = cli;
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let flags = Flags {
        codex_home: global.codex_home,
        manager_home: global.manager_home,
        codex_bin: global.codex_bin,
        timezone: global.timezone,
        color: global.color,
        assume_yes: global.yes,
    };
    let settings = match Settings::resolve(flags.clone(), &env) {
        Err(_) if command.tolerates_invalid_config() => Settings::without_file(flags, &env),
        decided => decided,
    };
    let color = match &settings {
        Ok(settings) => settings.color,
        Err(_) => global.color.unwrap_or_default(),
    };
    let ui = Ui::new(global.json, verbosity, color, &env);
    let waiting_ui = ui.clone();
    progress::on_wait(move || {
        waiting_ui.note("waiting for another codex-manager to finish");
    });
    let after_interrupt = command.after_interrupt();
    let result = settings
        .and_then(|settings| Ok((settings, context::clock(&env)?)))
        .and_then(|(settings, clock)| {
            let context = Context {
                settings,
                clock,
                env,
                ui: ui.clone(),
            };
            run_logged(command, &context, global.log)
        })
        .and_then(|outcome| match ui::take_output_error() {
            None => Ok(outcome),
            Some(e) => Err(
                CommandError::failed(format!("cannot write the result to stdout: {e}"))
                    .hint("the command itself succeeded"),
            ),
        });
    match result {
        Ok(outcome) => {
            if is_dry_run {
                ui.note("nothing was written (--dry-run)");
            }
            ExitCode::from(outcome.code())
        }
        Err(mut error) => {
            if error.kind == ErrorKind::Failed && progress::is_interrupted() {
                error = CommandError::interrupted().because(error);
            }
            if error.kind == ErrorKind::Interrupted && error.hints.is_empty() {
                error.hints.push(after_interrupt.into());
            }
            if !error.is_silent || ui.is_verbose() {
                ui.error(&error);
            }
            ExitCode::from(error.kind as u8)
        }
    }
}

/// Finishes what killed commands left, then runs the command; both are logged if `log` asks for it.
fn run_logged(command: Command, context: &Context, log: bool) -> Result<Outcome, CommandError> {
    warn_of_unknown_keys(context, &command);
    if context.ui.is_verbose() {
        print_steps(context, log || command.keeps_log(context));
    }
    let log = log && !command.keeps_log(context);
    let log = log.then(|| RunLog::begin(context, &LogSettings::default(), None));
    let result = tighten_manager_home(context, &command)
        .and_then(|()| unfinished::recover(context, &command))
        .and_then(|()| command.run(context));
    if let Some(log) = log {
        log.end(context, &result);
    }
    result
}

/// Closes a manager home that others can write to, before a login gets there. `doctor` reports it.
fn tighten_manager_home(context: &Context, command: &Command) -> Result<(), CommandError> {
    let home = &context.settings.manager_home;
    if !command.tolerates_invalid_config() && permissions::tighten_manager_home(home)? {
        let home = home.display();
        let message =
            format_args!("other users could write to the manager home; now only you can: {home}");
        context.ui.warn(message);
    }
    Ok(())
}

/// Prints the homes, and each step from now on. A run with a log has its steps there.
fn print_steps(context: &Context, has_log: bool) {
    let Settings {
        codex_home,
        manager_home,
        ..
    } = &context.settings;
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
fn complete(env: &Environment) -> ExitCode {
    let answered = CompleteEnv::with_factory(|| commands::candidates::attach(tree()))
        .var(commands::completions::VARIABLE)
        .try_complete(std::env::args_os(), Some(&env.current_dir));
    // No message on failure: the shell would insert it into the user's command line.
    match answered {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ErrorKind::Usage as u8),
    }
}

/// Warns of unknown keys in `config.toml`, except in a prompt, where the warning would repeat with
/// every line.
fn warn_of_unknown_keys(context: &Context, command: &Command) {
    if command.runs_in_prompt() || command.tolerates_invalid_config() {
        return;
    }
    for unknown in &context.settings.unknown_keys {
        let text = commands::account::printable(unknown);
        context.ui.warn(format_args!("config.toml: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_command_that_only_reads_conversations_reports_no_unfinished_files() {
        for name in ["find x", "usage", "sessions", "show x"] {
            let words = std::iter::once("codex-manager").chain(name.split(' '));
            let command = Cli::try_parse_from(words).expect("a command").command;
            assert_eq!(
                command.after_interrupt(),
                "the conversations are unchanged",
                "{name}"
            );
        }
    }
}
