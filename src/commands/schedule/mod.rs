//! `schedule`: installs, removes and shows jobs of the system's scheduler.

mod install;
mod job_change;
mod job_context;
mod remove;
mod scheduler_commands;
mod show;

use self::install::InstallArgs;
use self::remove::ScheduleRemoveArgs;
use self::show::ScheduleShowArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use clap::{Args, Subcommand};

/// Run backup, sync and other jobs with the system's scheduler
///
/// Uses systemd user timers on Linux, launchd agents on macOS, the Task Scheduler on Windows. A job uses
/// the homes that are configured when it is installed. There is no background process between runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule install backup --daily 03:30 --enable
  codex-manager schedule show
  codex-manager schedule remove backup")]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    verb: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    Install(InstallArgs),
    Remove(ScheduleRemoveArgs),
    Show(ScheduleShowArgs),
}

impl ScheduleArgs {
    /// # Errors
    /// Invalid flags, a foreign file with the name of the job, a path that the scheduler's format cannot
    /// contain, a file that cannot be written, or a scheduler command that fails.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.verb {
            ScheduleCommand::Install(args) => args.run(context),
            ScheduleCommand::Remove(args) => args.run(context),
            ScheduleCommand::Show(args) => args.run(context),
        }
    }
}
