//! `history undo`: restores the state before a repair.

use crate::commands::history::home::repair_context;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::ui::object;
use crate::views::account::full_time;
use crate::views::dry_run::would_be;
use clap::Args;
use codex_manager_core::history::repair::{self, LaterRows};
use codex_manager_core::history::snapshot;
use codex_manager_core::io::quantity::pluralize;

/// Restore the state before the last repair
///
/// Requires that Codex is closed. Conversations that began or continued after the repair stay as they are. So do those
/// that were renamed, archived or migrated, unless the repair recreated the database. A pin or a project of another
/// conversation is undone too. The state before the undo is kept, for `--snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history undo
  codex-manager history undo --snapshot 20261120T120000Z")]
pub(super) struct UndoArgs {
    /// The snapshot to restore [default: that of the last repair]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Show what would be changed; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl UndoArgs {
    /// Restores the chosen snapshot, or shows what it would change.
    ///
    /// # Errors
    /// There is no such snapshot of the home, it is damaged, or a process uses the home.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let target = repair_context(context);
        let name = self.snapshot.as_deref();
        let mut snapshot = snapshot::find_snapshot(target.manager_home, target.home, name)?;

        let files = snapshot.document.files.iter();
        // The undo does not touch a file that existed neither before the repair nor now.
        let is_affected =
            |file: &&snapshot::SnapshotEntry| file.content.is_some() || file.path.exists();
        // Listed before the undo, which creates and deletes these files.
        let changed: Vec<_> = files.filter(is_affected).map(|f| f.path.clone()).collect();

        let (state_before_undo, later_rows) = if self.dry_run {
            (None, LaterRows::read(&target, &snapshot)?)
        } else {
            let (state, later_rows) = repair::undo(&target, &mut snapshot, context.now())?;
            (Some(state), later_rows)
        };
        let repair_time = full_time(&snapshot.document.created_at, context);

        for path in &changed {
            context.ui.line(path.display());
        }
        let would_be_text = would_be(self.dry_run);
        context.ui.prose(format_args!(
            "{would_be_text}restored to the state of {repair_time}"
        ));
        if !later_rows.ids.is_empty() {
            let conversations = pluralize(later_rows.ids.len(), "conversation");
            context.ui.prose(format_args!(
                "{would_be_text}kept in Codex's list: {conversations} that began or changed later"
            ));
        }
        if let Some(state_before_undo) = &state_before_undo {
            context.note(format_args!(
                "restore the state before this undo: codex-manager history undo --snapshot {}",
                state_before_undo.name()
            ));
        }

        let json = object()
            .with("changed", changed)
            .with("snapshot", snapshot.folder)
            .with("kept", state_before_undo.map(|state| state.folder))
            .with("still_listed", later_rows.ids)
            .with("dry_run", self.dry_run);
        context.ui.document("history undo", &json);
        Ok(Outcome::Done)
    }
}
