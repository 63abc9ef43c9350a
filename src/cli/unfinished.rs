//! Recovers from killed commands before a command runs, and reports it.

use super::command::Command;
use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::conversations::index;
use codex_manager_core::io::links;
use codex_manager_core::journal::{JournalError, Recovery, RecoveryObstacle};
use codex_manager_core::recovery::{self, Interrupted};
use std::path::{Path, PathBuf};

/// Finishes or undoes interrupted commands before this one reads any file of the homes except `config.toml`.
///
/// If the recovery of a restore, a history repair or a vacuum has to wait or fails, commands that
/// [require a complete home](Command::requires_complete_home) fail. Other commands run after a warning.
pub(super) fn recover_interrupted(context: &Context, command: &Command) -> Result<()> {
    let settings = &context.settings;
    let (home, manager_home) = (&settings.codex_home, &settings.manager_home);
    let recovered = recovery::recover_all(home, manager_home, &context.env, context.local_now());
    for (interrupted, result) in recovered {
        let name = command_name(interrupted);
        match result {
            Ok(Recovery::None) => {}
            Ok(Recovery::Finished(kept_folders)) => {
                // A finished restore, for example, has put rollouts back, which Codex's database does not show.
                index::expect_changed_rollouts(manager_home, home);
                warn_of_recovery(context, name, "finished", &kept_folders);
            }
            Ok(Recovery::Undone(kept_folders)) => {
                warn_of_recovery(context, name, "undone", &kept_folders);
            }
            Ok(Recovery::InProgress(holder)) => {
                if !command.prints_for_prompt() {
                    context.warn(format_args!("{holder} is running a {name}"));
                }
            }
            Ok(Recovery::Deferred(obstacle)) => {
                let is_half_changed = stays_half_changed(home, interrupted, &obstacle);
                let error = CommandError::from(JournalError::from(obstacle));
                if is_half_changed && command.requires_complete_home() {
                    return Err(error);
                }
                let problem = format!("{error}: {}", error.hints.join("; "));
                context.warn(if is_half_changed {
                    problem
                } else {
                    format!("an interrupted {name} is not finished: {problem}")
                });
            }
            Err(e) if exchanges_home_files(interrupted) && command.requires_complete_home() => {
                return Err(e.into());
            }
            Err(e) => context.warn(format_args!("cannot finish an interrupted {name}: {e}")),
        }
    }
    Ok(())
}

/// Returns true for commands that may exchange files of the current Codex home, which a kill can leave half changed.
fn exchanges_home_files(interrupted: Interrupted) -> bool {
    use Interrupted::{History, Restore, Vacuum};
    matches!(interrupted, Restore | History | Vacuum)
}

/// Returns true if `home` may stay half changed until the recovery can continue. A history repair or a vacuum may have
/// changed another home. If the changed home is not known, it counts as `home`.
fn stays_half_changed(home: &Path, interrupted: Interrupted, obstacle: &RecoveryObstacle) -> bool {
    let is_home = |changed_home| links::resolve_links(changed_home) == links::resolve_links(home);
    match interrupted {
        // A restore of another home is `OtherRestore`.
        Interrupted::Restore => true,
        _ if !exchanges_home_files(interrupted) => false,
        _ => obstacle.half_changed_home().is_none_or(is_home),
    }
}

fn command_name(interrupted: Interrupted) -> &'static str {
    match interrupted {
        Interrupted::Restore => "restore",
        Interrupted::OtherRestore => "restore of another home",
        Interrupted::Prune => "prune",
        Interrupted::History => "history repair or history undo",
        Interrupted::Vacuum => "storage vacuum",
        Interrupted::Trash => "storage trash",
        Interrupted::Snapshot => "vault backup or import",
    }
}

fn warn_of_recovery(context: &Context, name: &str, outcome: &str, kept_folders: &[PathBuf]) {
    context.warn(format_args!("an interrupted {name} was {outcome}"));
    for folder in kept_folders {
        context.warn(format_args!(
            "files written in the meantime are kept in {}",
            folder.display()
        ));
    }
}
