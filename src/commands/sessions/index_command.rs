//! `sessions index`: shows, rebuilds and removes the search index.

use crate::choices::index_access::{IndexAccess, warn_of_skipped_files};
use crate::choices::machines::{Machine, list_fetched_machines};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{object, time};
use crate::views::account::{absolute_time, format_local_ms, local_rfc3339, printable};
use clap::Args;
use codex_manager_core::conversations::index::{self, IndexStatus};
use codex_manager_core::io::{pluralize, tree};
use codex_manager_core::vault::machine_homes;

/// Show, rebuild or remove the index of `find`
///
/// `find` creates the index and keeps it up to date. Removing it frees its space until the next `find`. With
/// `--machines`, each other machine has an index and copies of its conversations; they are shown and removed too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sessions index
  codex-manager sessions index --rebuild
  codex-manager sessions index --remove")]
pub(crate) struct IndexArgs {
    /// Show the size and content of the index; the default
    #[arg(long, conflicts_with_all = ["rebuild", "remove"])]
    status: bool,
    /// Create the index again from all conversations
    #[arg(long, conflicts_with = "remove")]
    rebuild: bool,
    /// Delete the index to free its space
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
            return remove_index(&access, context);
        }

        let (store, action, skipped) = if self.rebuild {
            let (store, report) = access.rebuild()?;
            (Some(store), "rebuilt", report.skipped)
        } else {
            (access.open_existing()?, "none", Vec::new())
        };

        let machines = list_fetched_machines(context);
        let status = store.as_ref().map(index::read_status).transpose()?;
        let shown_status = status.unwrap_or_default();
        print_json(&access, action, shown_status, &machines, context);

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

        for machine in &machines {
            ui.prose(format_args!(
                "{}, as published {}: {} of rollouts, {} of index",
                printable(&machine.name),
                absolute_time(&machine.published_at, context),
                time::bytes(measure_rollouts(machine)),
                time::bytes(measure_index(machine))
            ));
        }

        warn_of_skipped_files(&skipped, context);
        Ok(Outcome::partial_if(!skipped.is_empty()))
    }
}

/// Deletes the index, and the indexes and conversations of other machines.
fn remove_index(access: &IndexAccess<'_>, context: &Context) -> Result<Outcome> {
    let mut freed_bytes = access.remove()?;
    // Removed before the copies of the conversations: without the copies, the machines that have an index are unknown.
    for machine in list_fetched_machines(context) {
        freed_bytes += IndexAccess::new(&machine.context).remove()?;
    }

    let machines = machine_homes::machines_folder(context.manager_home());
    freed_bytes += tree::measure(&machines).bytes;
    tree::remove(&machines)?;

    print_json(access, "removed", IndexStatus::default(), &[], context);
    context.ui.report(format_args!(
        "removed the index: {} freed",
        time::bytes(freed_bytes)
    ));
    Ok(Outcome::Done)
}

/// Returns the size of the conversations fetched from a machine.
fn measure_rollouts(machine: &Machine) -> u64 {
    tree::measure(machine.context.codex_home()).bytes
}

fn measure_index(machine: &Machine) -> u64 {
    index::disk_size(&IndexAccess::new(&machine.context).path)
}

fn print_json(
    access: &IndexAccess<'_>,
    action: &str,
    status: IndexStatus,
    machines: &[Machine],
    context: &Context,
) {
    let machines = machines.iter().map(|machine| {
        let published_at = local_rfc3339(&machine.published_at, context);
        object()
            .with("machine", &machine.name)
            .with("published_at", published_at)
            .with("bytes", measure_index(machine))
            .with("rollout_bytes", measure_rollouts(machine))
    });

    let view = object()
        .with("path", access.path.display().to_string())
        .with("action", action)
        .with("bytes", index::disk_size(&access.path))
        .with("conversations", status.conversations)
        .with("texts", status.texts)
        .with("rollout_bytes", status.rollout_bytes)
        .with("updated_at", format_local_ms(status.last_walk_ms, context))
        .with("machines", machines.collect::<Vec<_>>());
    context.ui.document("sessions index", &view);
}
