//! Recovers from killed commands before a command runs, and reports it.

use super::command::Command;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::links;
use crate::journal::{JournalError, Recovery, RecoveryObstacle};
use crate::recovery::{self, Interrupted};
use std::path::PathBuf;

/// Finishes or undoes interrupted commands before this one reads any file.
///
/// If the recovery of a restore, a history repair or a vacuum has to wait or fails, commands that
/// [require a complete home](Command::requires_complete_home) fail. Other commands run after a warning.
pub(super) fn recover(context: &Context, command: &Command) -> Result<()> {
    let settings = &context.settings;
    let (home, manager) = (&settings.codex_home, &settings.manager_home);
    for recovered in recovery::recover_all(home, manager, &context.env, context.local_now()) {
        let what = describe(recovered.interrupted);
        let is_restore = recovered.interrupted == Interrupted::Restore;
        let is_of_databases = matches!(
            recovered.interrupted,
            Interrupted::History | Interrupted::Vacuum
        );
        let is_of_home = |obstacle: &RecoveryObstacle| {
            let is_home = |changed| links::resolve_links(changed) == links::resolve_links(home);
            is_restore || is_of_databases && obstacle.half_changed_home().is_none_or(is_home)
        };
        match recovered.result {
            Ok(Recovery::Finished(kept)) => warn_of_recovery(context, what, "finished", &kept),
            Ok(Recovery::Undone(kept)) => warn_of_recovery(context, what, "undone", &kept),
            Ok(Recovery::InProgress) => {
                context.warn(format_args!("another process is running a {what}"));
            }
            Ok(Recovery::Deferred(obstacle)) => {
                let is_of_home = is_of_home(&obstacle);
                let error = CommandError::from(JournalError::from(obstacle));
                if is_of_home && command.requires_complete_home() {
                    return Err(error);
                }
                let error = format!("{error}: {}", error.hints.join("; "));
                context.warn(if is_of_home {
                    error
                } else {
                    format!("an interrupted {what} is not finished: {error}")
                });
            }
            Err(e) if (is_restore || is_of_databases) && command.requires_complete_home() => {
                return Err(e.into());
            }
            // The interrupted command worked on other files than this one.
            Err(e) => {
                context.warn(format_args!("cannot finish an interrupted {what}: {e}"));
            }
            Ok(Recovery::None) => {}
        }
    }
    Ok(())
}

fn describe(interrupted: Interrupted) -> &'static str {
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
    context.warn(format_args!("an interrupted {what} was {outcome}"));
    for path in kept {
        context.warn(format_args!(
            "files written in the meantime are kept in {}",
            path.display()
        ));
    }
}
