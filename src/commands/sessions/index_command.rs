//! `sessions index`: shows, rebuilds and removes the search index.

use crate::choices::index_access::{IndexAccess, warn_skipped};
use crate::context::Context;
use crate::conversations::index::{self, IndexStatus, IndexStore};
use crate::error::{Outcome, Result};
use crate::io::quantity::pluralize;
use crate::ui::object;
use crate::ui::time;
use crate::views::account::format_local_ms;
use clap::Args;

/// Show, rebuild or remove the index of `find`
///
/// `find` creates the index and keeps it up to date. Removing it frees its space until the next `find`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sessions index
  codex-manager sessions index --rebuild
  codex-manager sessions index --remove")]
pub(crate) struct IndexArgs {
    /// Show its size and content; the default
    #[arg(long, conflicts_with_all = ["rebuild", "remove"])]
    status: bool,
    /// Create it again from all conversations
    #[arg(long, conflicts_with = "remove")]
    rebuild: bool,
    /// Delete it to free its space
    #[arg(long)]
    remove: bool,
}

impl IndexArgs {
    /// # Errors
    /// The index cannot be read, created or deleted.
    pub(crate) fn run(&self, context: &Context) -> Result<Outcome> {
        let access = IndexAccess::new(context);
        let ui = &context.ui;
        if self.remove {
            let freed = access.remove()?;
            print(&access, "removed", IndexStatus::default(), context);
            ui.report(format_args!(
                "removed the index: {} freed",
                time::bytes(freed)
            ));
            return Ok(Outcome::Done);
        }
        let mut skipped = Vec::new();
        let (store, action): (Option<IndexStore>, _) = if self.rebuild {
            let (store, report) = access.rebuild()?;
            skipped = report.skipped;
            (Some(store), "rebuilt")
        } else {
            (access.open_existing()?, "none")
        };
        let status = store.as_ref().map(index::read_status).transpose()?;
        print(&access, action, status.unwrap_or_default(), context);
        match status {
            None => ui.line("there is no index yet; find creates it"),
            Some(status) => {
                ui.prose(format_args!(
                    "{}, {} of rollouts: {} in {}",
                    pluralize(status.conversations, "conversation"),
                    time::bytes(u64::try_from(status.rollout_bytes).unwrap_or(0)),
                    time::bytes(index::disk_size(&access.path)),
                    access.path.display()
                ));
            }
        }
        warn_skipped(&skipped, context);
        Ok(Outcome::partial_if(!skipped.is_empty()))
    }
}

fn print(access: &IndexAccess<'_>, action: &str, status: IndexStatus, context: &Context) {
    let view = object()
        .with("path", access.path.display().to_string())
        .with("action", action)
        .with("bytes", index::disk_size(&access.path))
        .with("conversations", status.conversations)
        .with("texts", status.texts)
        .with("rollout_bytes", status.rollout_bytes)
        .with("updated_at", format_local_ms(status.last_walk_ms, context));
    context.ui.document("sessions index", &view);
}
