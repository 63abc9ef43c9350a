//! The command line: global flags, the list of commands, and the exit code of the process.

mod help;

pub use self::help::{COMMANDS, GLOBAL_OPTIONS, global_options, tree};

use crate::commands;
use crate::commands::run_log::RunLog;
use crate::config::ColorChoice;
use crate::context::{self, Context, Environment, Flags, Settings};
use crate::doctor::permissions;
use crate::error::{CommandError, ErrorKind, Outcome};
use crate::io::{attached, limits, owner, progress, tree};
use crate::journal::{JournalError, Recovery, RecoveryObstacle};
use crate::logging::{self, LogSettings};
use crate::recovery::{self, Interrupted};
use crate::ui::{self, Ui, Verbosity, picker};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

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

/// The command line with `recommend` alone; see [`parse`].
#[derive(Debug, Parser)]
struct PromptCli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: PromptCommand,
}

#[derive(Debug, Subcommand)]
enum PromptCommand {
    Recommend(commands::recommend::RecommendArgs),
}

/// Parses the arguments of the process. Returns also whether they ask for a dry run.
///
/// `recommend` is first parsed alone, because building the tree of all commands takes longer than
/// `recommend` itself. Help and usage errors always come from the full tree.
fn parse() -> Result<(Cli, bool), clap::Error> {
    if std::env::args_os().any(|word| word == "recommend")
        && let Ok(matches) = PromptCli::command().try_get_matches()
        && let Ok(PromptCli { global, command }) = PromptCli::from_arg_matches(&matches)
    {
        let PromptCommand::Recommend(args) = command;
        let cli = Cli {
            global,
            command: Command::Recommend(args),
        };
        return Ok((cli, is_dry_run(&matches)));
    }
    let parsed = tree().try_get_matches();
    let matches = match parsed {
        Err(e) if e.kind() == clap::error::ErrorKind::UnknownArgument => {
            let words: Vec<_> = std::env::args_os().collect();
            with_marked_negations(words)
                .and_then(|words| tree().try_get_matches_from(words).ok())
                .ok_or(e)
        }
        parsed => parsed,
    }?;
    let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut tree()))?;
    Ok((cli, is_dry_run(&matches)))
}

/// Replaces `-word` behind `find` by `!word`, which clap does not take for flags. Returns `None` for other
/// commands.
fn with_marked_negations(words: Vec<OsString>) -> Option<Vec<OsString>> {
    let find = words.iter().position(|word| word == "find")?;
    let end = words.iter().position(|word| word == "--");
    let mark = |(i, word): (usize, OsString)| {
        let negated = word.to_str().and_then(|word| word.strip_prefix('-'));
        match negated.filter(|rest| rest.len() > 1 && !rest.starts_with('-')) {
            Some(rest) if i > find && end.is_none_or(|end| i < end) => format!("!{rest}").into(),
            _ => word,
        }
    };
    Some(words.into_iter().enumerate().map(mark).collect())
}

/// Returns true if the command has the flag `--dry-run`.
fn is_dry_run(matches: &ArgMatches) -> bool {
    if let Some((_, inner)) = matches.subcommand() {
        return is_dry_run(inner);
    }
    let flag = matches.try_get_one("dry_run").ok().flatten();
    flag.copied().unwrap_or(false)
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
    let (cli, is_dry_run) = match parse() {
        Ok(parsed) => parsed,
        Err(e) => return usage_exit(&e),
    };
    if !cli.command.runs_in_prompt() {
        install_interrupt_handler(&cli, &env);
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
        .and_then(|()| recover(context, &command))
        .and_then(|()| command.run(context));
    if let Some(log) = log {
        log.end(context, &result);
    }
    result
}

/// Closes a manager home that others can write to, before a login gets there. `doctor` reports it.
fn tighten_manager_home(context: &Context, command: &Command) -> Result<(), CommandError> {
    let home = &context.settings.manager_home;
    if command.tolerates_invalid_config() {
        return Ok(());
    }
    let was_open = permissions::tighten_manager_home(home)?;
    if was_open || owner::is_root() {
        permissions::refuse_links_of_others(home)?;
    }
    if was_open {
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

/// Finishes or undoes interrupted commands before this one reads any file.
///
/// If the recovery of a restore has to wait, commands that
/// [require a complete home](Command::requires_complete_home) fail; the others run after a warning.
fn recover(context: &Context, command: &Command) -> Result<(), CommandError> {
    let settings = &context.settings;
    let (home, manager) = (&settings.codex_home, &settings.manager_home);
    for recovered in recovery::recover_all(home, manager, &context.env, context.local_now()) {
        let what = name_of(recovered.interrupted);
        let is_restore = recovered.interrupted == Interrupted::Restore;
        let is_of_databases = matches!(
            recovered.interrupted,
            Interrupted::History | Interrupted::Vacuum
        );
        let is_of_home = |obstacle: &RecoveryObstacle| {
            let is_home = |changed| tree::real(changed) == tree::real(home);
            is_restore || is_of_databases && obstacle.home().is_none_or(is_home)
        };
        match recovered.result {
            Ok(Recovery::Finished(kept)) => warn_of_recovery(context, what, "finished", &kept),
            Ok(Recovery::Undone(kept)) => warn_of_recovery(context, what, "undone", &kept),
            Ok(Recovery::InProgress) => {
                let message = format_args!("another process is running a {what}");
                context.ui.warn(message);
            }
            Ok(Recovery::Deferred(obstacle)) if is_of_home(&obstacle) => {
                let error = CommandError::from(JournalError::from(obstacle));
                if command.requires_complete_home() {
                    return Err(error);
                }
                let hints = error.hints.join("; ");
                context.ui.warn(format_args!("{error}: {hints}"));
            }
            Ok(Recovery::Deferred(obstacle)) => {
                let error = CommandError::from(JournalError::from(obstacle));
                let hints = error.hints.join("; ");
                let message =
                    format_args!("an interrupted {what} is not finished: {error}: {hints}");
                context.ui.warn(message);
            }
            Err(e) if (is_restore || is_of_databases) && command.requires_complete_home() => {
                return Err(e.into());
            }
            // The files of other commands are apart from those of this one.
            Err(e) => {
                let message = format_args!("cannot finish an interrupted {what}: {e}");
                context.ui.warn(message);
            }
            Ok(Recovery::None) => {}
        }
    }
    Ok(())
}

fn name_of(interrupted: Interrupted) -> &'static str {
    match interrupted {
        Interrupted::Restore => "restore",
        Interrupted::OtherRestore => "restore of another home",
        Interrupted::Prune => "prune",
        Interrupted::History => "history repair or undo",
        Interrupted::Vacuum => "storage vacuum",
        Interrupted::Trash => "storage trash",
        Interrupted::Snapshot => "vault backup or import",
    }
}

fn warn_of_recovery(context: &Context, what: &str, outcome: &str, kept: &[PathBuf]) {
    let message = format_args!("an interrupted {what} was {outcome}");
    context.ui.warn(message);
    for path in kept {
        context.ui.warn(format_args!(
            "files written in the meantime are kept in {}",
            path.display()
        ));
    }
}

/// Makes Ctrl-C and SIGTERM stop long operations at the next safe point. A second signal ends the
/// process at once, and so does the first one where Codex takes over the terminal. A picker is always closed first.
fn install_interrupt_handler(cli: &Cli, env: &Environment) {
    let ends_at_once = cli.command.hands_over_terminal();
    let only_reads = cli.command.only_reads();
    let error = CommandError::interrupted().hint(cli.command.after_interrupt());
    let ui = Ui::new(cli.global.json, Verbosity::Normal, ColorChoice::Never, env);
    let end = Arc::new(move || {
        std::thread::sleep(READING_END_TIMEOUT);
        picker::restore_terminal();
        ui.error(&error);
        #[allow(clippy::exit, reason = "a call of the system may not return")]
        std::process::exit(ErrorKind::Interrupted as i32);
    });
    // If the handler cannot be installed, a signal ends the process at once. All files survive that.
    let _ = ctrlc::set_handler(move || {
        if progress::is_handed_over() {
            return;
        }
        #[allow(
            clippy::exit,
            reason = "no operation is running, or this is the second signal"
        )]
        if progress::ends_at_once() || (ends_at_once && !picker::is_open()) {
            picker::restore_terminal();
            ui::report_cancelled();
            std::process::exit(ErrorKind::Interrupted as i32);
        }
        progress::interrupt();
        if only_reads {
            let end = Arc::clone(&end);
            std::thread::spawn(move || end());
        }
    });
}

/// The time in which a command that only reads reaches a safe point after Ctrl-C. Then it is ended.
const READING_END_TIMEOUT: Duration = Duration::from_secs(2);

/// Prints clap's message. Returns 0 for help and version, else [`ErrorKind::Usage`].
fn usage_exit(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        if !ui::print_narrow_help(&error.to_string()) {
            let _ = error.print();
        }
        return ExitCode::SUCCESS;
    }
    let mut words = std::env::args_os().take_while(|word| word != "--");
    if words.any(|word| word == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        ui::print_json_error(&CommandError::usage(message));
    } else {
        let _ = error.print();
    }
    ExitCode::from(ErrorKind::Usage as u8)
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
