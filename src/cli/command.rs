//! The command line: the commands, the global flags, and the properties of commands that the process needs.

use crate::commands;
use crate::context::{Context, Flags};
use crate::error::{Outcome, Result};
use clap::{Parser, Subcommand};
use std::path::Path;

/// Keeps your Codex CLI accounts and conversations safe, switchable and portable.
#[derive(Debug, Parser)]
#[command(name = "codex-manager", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) flags: Flags,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// One variant per command; the help of each command is the doc comment of its arguments.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Backup(commands::backup::BackupArgs),
    Completions(commands::completions::CompletionsArgs),
    Config(commands::config::ConfigArgs),
    Hook(commands::hook::HookArgs),
    Man(commands::man::ManArgs),
    Mcp(commands::mcp::McpArgs),
    Restore(commands::restore::RestoreArgs),
    #[command(visible_alias = "backups")]
    ListBackups(commands::list_backups::ListBackupsArgs),
    Verify(commands::verify::VerifyArgs),
    Diff(commands::diff::DiffArgs),
    Prune(commands::prune::PruneArgs),
    Normalize(commands::normalize::NormalizeArgs),
    History(commands::history::HistoryArgs),
    Storage(commands::storage::StorageArgs),
    Doctor(commands::doctor::DoctorArgs),
    Demo(commands::demo::DemoArgs),
    Accounts(commands::accounts::AccountsArgs),
    Cooldown(commands::cooldown::CooldownArgs),
    Recommend(commands::recommend::RecommendArgs),
    Status(commands::status::StatusArgs),
    Sync(commands::sync::SyncArgs),
    Schedule(commands::schedule::ScheduleArgs),
    Notify(commands::notify::NotifyArgs),
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
    #[command(alias = "search")]
    Find(commands::find::FindArgs),
    Usage(commands::usage::UsageArgs),
    Show(commands::show::ShowArgs),
    Export(commands::export::ExportArgs),
    Vault(commands::vault::VaultArgs),
}

impl Command {
    /// Returns the value of `sync -c`.
    pub(super) fn named_sync_config(&self) -> Option<&Path> {
        match self {
            Self::Sync(args) => args.named_config(),
            _ => None,
        }
    }

    /// Returns true if the command opens its own log, so that `--log` must not open a second one.
    pub(super) fn opens_own_log(&self, context: &Context) -> bool {
        matches!(self, Self::Sync(args) if args.keeps_log(context))
    }

    /// Returns false for commands that never show a text of a conversation. Prompts and shells wait for these, and the
    /// search for forms of secrets takes longer to begin than they take.
    pub(super) fn shows_conversations(&self) -> bool {
        !matches!(
            self,
            Self::Completions(_)
                | Self::Config(_)
                | Self::Cooldown(_)
                | Self::Current(_)
                | Self::Hook(_)
                | Self::List(_)
                | Self::Man(_)
                | Self::Notify(_)
                | Self::Profile(_)
                | Self::Recommend(_)
                | Self::Schedule(_)
        )
    }

    /// Returns true for `recommend`, which runs in every shell prompt. Starting the thread that
    /// listens for signals would cost it a tenth of its run time.
    pub(super) fn runs_in_prompt(&self) -> bool {
        matches!(self, Self::Recommend(_))
    }

    /// Returns true if a shell shows the output in its prompt, where a warning would repeat with every line.
    pub(super) fn prints_for_prompt(&self) -> bool {
        matches!(self, Self::Recommend(args) if args.prints_for_prompt())
    }

    /// Returns true if the first signal ends this process at once. Only the terminal is restored first. Once Codex has
    /// taken over the terminal, `launch::run` handles the signals. The server of `mcp` waits for requests and changes
    /// only the search index.
    pub(super) fn ends_at_once(&self) -> bool {
        matches!(self, Self::Launch(_) | Self::Resume(_) | Self::Mcp(_))
    }

    /// Returns true if the command must not run on a Codex home that an interrupted command, such as a restore, has
    /// changed only in part.
    pub(super) fn requires_complete_home(&self) -> bool {
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

    /// Returns true if the command shows or needs what a lost home lacks: conversations or their accounts.
    pub(super) fn is_about_home(&self) -> bool {
        matches!(
            self,
            Self::Accounts(_)
                | Self::Backup(_)
                | Self::Export(_)
                | Self::Find(_)
                | Self::History(_)
                | Self::Resume(_)
                | Self::Sessions(_)
                | Self::Show(_)
                | Self::Status(_)
                | Self::Storage(_)
                | Self::Usage(_)
        )
    }

    /// Returns true if the command may be killed at any moment without loss: it only reads, or updates the search index
    /// in transactions.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Doctor(args) => args.only_reads(),
            Self::ListBackups(_) | Self::Diff(_) | Self::Usage(_) => true,
            Self::Sessions(_) | Self::Find(_) | Self::Show(_) => !self.opens_search_screen(),
            _ => false,
        }
    }

    /// Returns true if the command lets the user choose on the search screen, which can trash and resume conversations.
    fn opens_search_screen(&self) -> bool {
        match self {
            Self::Sessions(args) => args.pick,
            Self::Find(args) => args.words.is_empty(),
            Self::Show(args) => args.session.is_none(),
            _ => false,
        }
    }

    /// Returns the hint for an interrupted command: the state that it leaves.
    pub(super) fn interrupt_hint(&self) -> &'static str {
        match self {
            Self::Backup(_) => "no archive was written, and the Codex home is unchanged",
            Self::Restore(_) => "the Codex home is unchanged",
            Self::Verify(_) => "the archives are unchanged",
            Self::Use(_) | Self::Launch(_) | Self::Resume(_) => "the live login is unchanged",
            Self::Find(_) | Self::Usage(_) | Self::Sessions(_) | Self::Show(_)
                if !self.opens_search_screen() =>
            {
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
    pub(super) fn tolerates_invalid_config(&self) -> bool {
        matches!(
            self,
            Self::Completions(_) | Self::Config(_) | Self::Doctor(_) | Self::Hook(_) | Self::Man(_)
        )
    }

    /// Returns true if the command uses the defaults, with a warning, if `config.toml` is invalid. Its answer may be
    /// needed before the user corrects the file.
    pub(super) fn may_use_default_config(&self) -> bool {
        matches!(self, Self::Accounts(_) | Self::List(_) | Self::Recommend(_))
    }

    /// Runs the command. `tree` builds the tree of all commands, which only `man` needs.
    pub(super) fn run(self, context: &Context, tree: fn() -> clap::Command) -> Result<Outcome> {
        match self {
            Self::Backup(args) => args.run(context),
            Self::Completions(args) => args.run(context),
            Self::Config(args) => args.run(context),
            Self::Hook(args) => args.run(context),
            Self::Man(args) => args.run(context, tree()),
            Self::Mcp(args) => args.run(context),
            Self::Restore(args) => args.run(context),
            Self::ListBackups(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Diff(args) => args.run(context),
            Self::Prune(args) => args.run(context),
            Self::Normalize(args) => args.run(context),
            Self::History(args) => args.run(context),
            Self::Storage(args) => args.run(context),
            Self::Doctor(args) => Ok(args.run(context)),
            Self::Demo(args) => args.run(context),
            Self::Accounts(args) => args.run(context),
            Self::Cooldown(args) => args.run(context),
            Self::Recommend(args) => args.run(context),
            Self::Status(args) => args.run(context),
            Self::Sync(args) => args.run(context),
            Self::Schedule(args) => args.run(context),
            Self::Notify(args) => args.run(context),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_command_that_only_reads_says_that_the_conversations_are_unchanged() {
        for name in ["find x", "usage", "sessions", "show x"] {
            let words = std::iter::once("codex-manager").chain(name.split(' '));
            let command = Cli::try_parse_from(words).expect("a command").command;
            assert_eq!(
                command.interrupt_hint(),
                "the conversations are unchanged",
                "{name}"
            );
            assert!(command.only_reads(), "{name}");
        }
    }

    #[test]
    fn a_command_that_opens_the_search_screen_does_not_count_as_only_reading() {
        for name in ["find", "sessions --pick", "show"] {
            let words = std::iter::once("codex-manager").chain(name.split(' '));
            let command = Cli::try_parse_from(words).expect("a command").command;
            assert!(!command.only_reads(), "{name}");
        }
    }
}
