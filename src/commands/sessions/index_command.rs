//! `sessions index`: shows, rebuilds and removes the search index.

use crate::choices::index_access::{IndexAccess, warn_skipped};
use crate::context::Context;
use crate::conversations::index::{self, IndexStatus, IndexStore};
use crate::error::{CommandError, Outcome};
use crate::io::quantity::pluralize;
use crate::ui::time;
use chrono::DateTime;
use clap::Args;
use serde::Serialize;

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

#[derive(Debug, Serialize)]
struct IndexView {
    path: String,
    action: &'static str,
    bytes: u64,
    #[serde(flatten)]
    status: IndexStatus,
    updated_at: Option<String>,
}

impl IndexArgs {
    /// # Errors
    /// The index cannot be read, created or deleted.
    pub(crate) fn run(&self, context: &Context) -> Result<Outcome, CommandError> {
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
            let (store, report) = access.rebuilt()?;
            skipped = report.skipped;
            (Some(store), "rebuilt")
        } else {
            (access.existing()?, "none")
        };
        let status = store.as_ref().map(index::status).transpose()?;
        print(&access, action, status.unwrap_or_default(), context);
        match status {
            None => ui.line("there is no index yet; find creates it"),
            Some(status) => {
                ui.prose(format_args!(
                    "{}, {} of rollouts: {} in {}",
                    pluralize(status.conversations, "conversation"),
                    time::bytes(u64::try_from(status.rollout_bytes).unwrap_or(0)),
                    time::bytes(index::size(&access.path)),
                    access.path.display()
                ));
            }
        }
        warn_skipped(&skipped, context);
        Ok(Outcome::partial_if(!skipped.is_empty()))
    }
}

fn print(access: &IndexAccess<'_>, action: &'static str, status: IndexStatus, context: &Context) {
    let at = status
        .last_walk_ms
        .and_then(DateTime::from_timestamp_millis);
    let view = IndexView {
        path: access.path.display().to_string(),
        action,
        bytes: index::size(&access.path),
        status,
        updated_at: at.map(|at| time::rfc3339(&at, context.settings.zone)),
    };
    context.ui.document("sessions index", &view);
}
