//! The command line: what can be typed, and which command it means.

use crate::archive::restore::pending;
use crate::archive::restore::swap::{Recovery, SwapError};
use crate::commands;
use crate::commands::run_log::RunLog;
use crate::context::{self, Context, Environment, Flags, Settings};
use crate::error::{CommandError, ErrorKind, Outcome};
use crate::history::repair;
use crate::inventory::trash::{self, Settled};
use crate::io::limits;
use crate::io::progress;
use crate::logging::LogSettings;
use crate::ui::{self, ColorChoice, Ui, Verbosity};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::CompleteEnv;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps your Codex CLI accounts and conversations safe, switchable and portable.
#[derive(Debug, Parser)]
#[command(
    name = "codex-manager",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
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
    /// The manager's own folder [default: `$CODEX_MANAGER_HOME`, else ~/.codex-manager]
    #[arg(long, global = true, value_name = "DIR")]
    manager_home: Option<PathBuf>,
    /// The Codex program [default: codex.bin of config.toml, else `codex` on PATH]
    #[arg(long, global = true, value_name = "FILE")]
    codex_bin: Option<PathBuf>,
    /// The local time zone, an IANA name [default: config.toml, else `$TZ`, else the system's]
    #[arg(long, global = true, value_name = "ZONE")]
    timezone: Option<String>,
    /// One JSON document on stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but errors and warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say each step
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colour [default: color of config.toml, else auto]
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<ColorChoice>,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    yes: bool,
    /// Keep a log of this run in logs/ of the manager home (for jobs of the scheduler)
    #[arg(long, global = true, hide = true)]
    log: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
enum Command {
    Backup(commands::backup::BackupArgs),
    Completions(commands::completions::CompletionsArgs),
    Config(commands::config::ConfigArgs),
    Hook(commands::hook::HookArgs),
    Man(commands::man::ManArgs),
    Restore(commands::restore::RestoreArgs),
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
    List(commands::list::ListArgs),
    Current(commands::current::CurrentArgs),
    Use(commands::use_account::UseArgs),
    Launch(commands::launch::LaunchArgs),
    Resume(commands::resume::ResumeArgs),
    Launches(commands::launches::LaunchesArgs),
    Sessions(commands::launches::SessionsArgs),
}

impl Command {
    /// Whether the command keeps a log of its own.
    fn keeps_log(&self, context: &Context) -> bool {
        matches!(self, Self::Sync(args) if args.keeps_log(context))
    }

    /// Whether it ends before anybody could stop it. It runs in shell prompts: the thread that
    /// listens for signals would cost it a tenth of its time.
    fn runs_in_prompt(&self) -> bool {
        matches!(self, Self::Recommend(_))
    }

    /// Whether it hands the terminal to Codex. Signals are its own business then; until Codex starts
    /// they may end us anywhere.
    fn hands_over_terminal(&self) -> bool {
        matches!(self, Self::Launch(_) | Self::Resume(_))
    }

    /// Whether half of one state of the Codex home and half of another is no use to it.
    fn requires_complete_home(&self) -> bool {
        match self {
            Self::Backup(_)
            | Self::Restore(_)
            | Self::Use(_)
            | Self::History(_)
            | Self::Launch(_)
            | Self::Resume(_) => true,
            Self::Sync(args) => args.works_on_home(),
            _ => false,
        }
    }

    /// Whether it works, or mends, where `config.toml` is broken.
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
            Self::Man(args) => args.run(context, Cli::command()),
            Self::Restore(args) => args.run(context),
            Self::ListBackups(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Prune(args) => args.run(context),
            Self::Normalize(args) => args.run(context),
            Self::History(args) => args.run(context),
            Self::Storage(args) => args.run(context),
            Self::Doctor(args) => args.run(context),
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
            Self::Launch(args) => args.run(context),
            Self::Resume(args) => args.run(context),
            Self::Launches(args) => args.run(context),
            Self::Sessions(args) => args.run(context),
        }
    }
}

/// The command line of the one command that runs in shell prompts.
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

/// Parses the process's arguments. Making the tree of all commands takes longer than `recommend`
/// itself, so that one is tried alone first; help and errors come from the whole tree.
fn parse() -> Result<Cli, clap::Error> {
    if std::env::args_os().any(|word| word == "recommend")
        && let Ok(PromptCli { global, command }) = PromptCli::try_parse()
    {
        let PromptCommand::Recommend(args) = command;
        return Ok(Cli {
            global,
            command: Command::Recommend(args),
        });
    }
    Cli::try_parse()
}

/// Parses the process's arguments and runs the command they name.
pub fn main() -> ExitCode {
    let env = Environment::of_process();
    if env.get(commands::completions::VARIABLE).is_some() {
        return complete(&env);
    }
    limits::survive_large_files();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(e) => return usage_exit(&e),
    };
    if !cli.command.runs_in_prompt() && !cli.command.hands_over_terminal() {
        install_interrupt_handler();
    }
    let GlobalArgs {
        codex_home,
        manager_home,
        codex_bin,
        timezone,
        json,
        quiet,
        verbose,
        color,
        yes,
        log,
    } = cli.global;
    let verbosity = match (quiet, verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let flags = Flags {
        codex_home,
        manager_home,
        codex_bin,
        timezone,
        color,
        assume_yes: yes,
    };
    let settings = match Settings::resolve(flags.clone(), &env) {
        Err(_) if cli.command.tolerates_invalid_config() => Settings::without_file(flags, &env),
        decided => decided,
    };
    let color = match &settings {
        Ok(settings) => settings.color,
        Err(_) => color.unwrap_or_default(),
    };
    let ui = Ui::new(json, verbosity, color, &env);
    let teller = ui.clone();
    progress::on_wait(move || {
        teller.note("another codex-manager is at work; waiting for it to end");
    });
    let result = settings
        .and_then(|settings| Ok((settings, context::clock(&env)?)))
        .and_then(|(settings, clock)| {
            let context = Context {
                settings,
                clock,
                env,
                ui: ui.clone(),
            };
            warn_of_unknown_keys(&context, &cli.command);
            let log = log && !cli.command.keeps_log(&context);
            let log = log.then(|| RunLog::begin(&context, &LogSettings::default(), None));
            let result = recover_restores(&context, &cli.command).and_then(|()| {
                recover_trash(&context);
                recover_undo(&context);
                cli.command.run(&context)
            });
            if let Some(log) = log {
                log.end(&context, &result);
            }
            result
        })
        .and_then(|outcome| match ui::take_output_error() {
            None => Ok(outcome),
            Some(e) => Err(CommandError::failed(format!(
                "the answer could not be written to stdout: {e}"
            ))
            .hint("what the command does was done")),
        });
    match result {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            if !error.is_silent || ui.is_verbose() {
                ui.error(&error);
            }
            ExitCode::from(error.kind as u8)
        }
    }
}

/// Answers a shell that asks what may be typed next.
fn complete(env: &Environment) -> ExitCode {
    let answered = CompleteEnv::with_factory(|| commands::candidates::attach(Cli::command()))
        .var(commands::completions::VARIABLE)
        .try_complete(std::env::args_os(), Some(&env.current_dir));
    // A shell that gets no answer offers nothing; a message would land in the user's line.
    match answered {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ErrorKind::Usage as u8),
    }
}

/// A typo in `config.toml` is said, but in a prompt: there it would be said all the time.
fn warn_of_unknown_keys(context: &Context, command: &Command) {
    if command.runs_in_prompt() || command.tolerates_invalid_config() {
        return;
    }
    for unknown in &context.settings.unknown_keys {
        let text = commands::account::printable(unknown);
        context.ui.warn(format_args!("config.toml: {text}"));
    }
}

/// A restore that was killed is finished or undone before anything else looks at the home. Where that
/// has to wait, commands go on that need no whole home.
fn recover_restores(context: &Context, command: &Command) -> Result<(), CommandError> {
    let settings = &context.settings;
    let (home, manager) = (&settings.codex_home, &settings.manager_home);
    for recovery in pending::recover_all(home, manager, &context.env, context.local_now())? {
        match recovery {
            Recovery::Finished(left) => warn_of_recovery(context, "finished", &left),
            Recovery::Undone(left) => warn_of_recovery(context, "undone", &left),
            Recovery::InProgress => context.ui.warn("a restore is at work in another process"),
            Recovery::Failed(why) => context.ui.warn(format_args!(
                "an interrupted restore of another home is not finished: {why}"
            )),
            Recovery::PutOff(obstacle) => {
                let error = CommandError::from(SwapError::from(obstacle));
                if command.requires_complete_home() {
                    return Err(error);
                }
                let hints = error.hints.join("; ");
                context.ui.warn(format_args!("{error}: {hints}"));
            }
            Recovery::None => {}
        }
    }
    Ok(())
}

fn warn_of_recovery(context: &Context, how: &str, left: &[PathBuf]) {
    context
        .ui
        .warn(format_args!("an interrupted restore was {how}"));
    for path in left {
        context.ui.warn(format_args!(
            "what was written meanwhile is kept: {}",
            path.display()
        ));
    }
}

/// Archives that were half-way into the trash, or out of it, when a command was killed. Where that
/// cannot be finished, each of them is still in one place, and the command can do its job.
fn recover_trash(context: &Context) {
    match trash::settle(&context.settings.manager_home) {
        Ok(Settled::Nothing | Settled::InProgress) => {}
        Ok(Settled::Finished) => context.ui.warn("an interrupted prune was finished"),
        Err(e) => context
            .ui
            .warn(format_args!("an interrupted prune is not finished: {e}")),
    }
}

/// An undo of a repair that was killed: until it is done the database may lack its log.
fn recover_undo(context: &Context) {
    let settings = &context.settings;
    match repair::finish_undo(&settings.manager_home, &context.env, context.now()) {
        Ok(false) => {}
        Ok(true) => context.ui.warn("an interrupted history undo was finished"),
        Err(e) => context.ui.warn(format_args!(
            "an interrupted history undo is not finished: {e}"
        )),
    }
}

/// Lets Ctrl-C and SIGTERM stop work at its next safe place; a second one does not wait for that.
fn install_interrupt_handler() {
    // Without a handler the signal ends us at once, which every file of ours survives.
    let _ = ctrlc::set_handler(|| {
        #[allow(
            clippy::exit,
            reason = "nothing is under way, or it is asked for twice"
        )]
        if progress::ends_at_once() {
            std::process::exit(ErrorKind::Interrupted as i32);
        }
        progress::interrupt();
    });
}

/// clap's own exit: 0 for help and version, else [`ErrorKind::Usage`].
fn usage_exit(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(ErrorKind::Usage as u8)
    } else {
        ExitCode::SUCCESS
    }
}
