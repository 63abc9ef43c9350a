//! `history undo`: the state before a repair comes back.

use super::{places, require_home};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::history::repair;
use crate::history::snapshot;
use crate::ui::time;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Bring back what was there before the last repair, byte for byte
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history undo
  codex-manager history undo --snapshot 20261120T120000Z")]
pub(super) struct UndoArgs {
    /// The snapshot to bring back [default: that of the last repair]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
}

/// The JSON document. Its keys are a contract.
#[derive(Serialize)]
struct UndoJson {
    changed: Vec<PathBuf>,
    snapshot: PathBuf,
    kept: Option<PathBuf>,
    dry_run: bool,
}

impl UndoArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such snapshot, it is damaged, or Codex uses the home.
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        require_home(context)?;
        let places = places(context);
        let name = self.snapshot.as_deref();
        let mut found = snapshot::find(places.manager_home, places.home, name)?;
        if found.document.codex_home != places.home {
            let home = found.document.codex_home.display();
            return Err(CommandError::refused(format!(
                "the snapshot {} is of another home: {home}",
                found.name()
            ))
            .hint(format!("add --codex-home {home}; nothing was changed")));
        }
        let files = found.document.files.iter();
        let is_there =
            |file: &&snapshot::SnapshotEntry| file.content.is_some() || file.path.exists();
        let changed: Vec<_> = files.filter(is_there).map(|f| f.path.clone()).collect();
        let kept = if self.dry_run {
            None
        } else {
            Some(repair::undo(&places, &mut found, context.now())?)
        };
        let zone = context.settings.zone;
        let at = time::full(&found.document.created_at, zone, &context.now());
        for path in &changed {
            context.ui.line(path.display());
        }
        match &kept {
            None => context.ui.prose(format_args!(
                "would be as they were {at}; nothing was changed"
            )),
            Some(kept) => {
                let are = match changed.len() {
                    1 => "is as it was",
                    _ => "are as they were",
                };
                context.ui.prose(format_args!("{are} {at}"));
                context.ui.note(format_args!(
                    "what was there until now: codex-manager history undo --snapshot {}",
                    kept.name()
                ));
            }
        }
        context.ui.document(
            "history undo",
            &UndoJson {
                changed,
                snapshot: found.folder,
                kept: kept.map(|kept| kept.folder),
                dry_run: self.dry_run,
            },
        );
        Ok(Outcome::Done)
    }
}
