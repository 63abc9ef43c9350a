//! `storage vacuum`: rewrites Codex's databases without unused space.

use super::report::existing_home;
use super::shrink::parse_duration;
use crate::commands::home_checks::refuse_during_restore;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::quantity::pluralize;
use crate::storage::vacuum::{VacuumItem, VacuumPlan};
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time::bytes;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Rewrite Codex's databases without unused space
///
/// Codex must be closed. SQLite writes a compact copy of each database, which is checked before it
/// replaces the original. The originals stay in the trash of the manager home until the next
/// successful run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage vacuum --dry-run
  codex-manager storage vacuum
  codex-manager storage vacuum --keep-logs 7d")]
pub(super) struct VacuumArgs {
    /// Delete entries of Codex's log database that are older: 7d, 12h
    #[arg(long, value_name = "DURATION")]
    keep_logs: Option<String>,
    /// Show what would be freed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

const COLUMNS: [Column; 3] = [
    Column::new("DATABASE"),
    Column::new("BEFORE").number(),
    Column::new("AFTER").number(),
];

/// The JSON document of the command. Its keys are a contract.
#[derive(Debug, Serialize)]
struct VacuumJson<'a> {
    items: &'a [VacuumItem],
    before_bytes: u64,
    after_bytes: u64,
    /// The folder with the originals.
    originals: Option<PathBuf>,
    dry_run: bool,
}

impl VacuumArgs {
    /// Rewrites the databases.
    ///
    /// # Errors
    /// Codex runs, or a database cannot be copied. Nothing is changed then.
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let home = existing_home(context)?;
        let keep = self.keep_logs.as_deref();
        let keep = keep
            .map(|text| parse_duration("--keep-logs", text))
            .transpose()?;
        let mut plan = VacuumPlan::new(home, &context.env, keep, context.now());
        let mut originals = None;
        if !self.dry_run && !plan.items.is_empty() {
            refuse_during_restore(context)?;
            let manager_home = &context.settings.manager_home;
            originals = Some(plan.apply(home, manager_home, &context.env, context.now())?);
        }
        for error in &plan.unreadable {
            context.ui.warn(format_args!("skipped: {error}"));
        }
        self.show(context, &plan.items, originals.as_deref());
        let (before_bytes, after_bytes) = sums(&plan.items);
        context.ui.document(
            "storage vacuum",
            &VacuumJson {
                items: &plan.items,
                before_bytes,
                after_bytes,
                originals,
                dry_run: self.dry_run,
            },
        );
        Ok(Outcome::partial_if(!plan.unreadable.is_empty()))
    }

    fn show(&self, context: &Context, items: &[VacuumItem], originals: Option<&Path>) {
        let ui = &context.ui;
        if items.is_empty() {
            ui.line("the databases have no unused space");
            return;
        }
        let mut table = Table::new(ui, COLUMNS);
        for item in items {
            let name = item.path.file_name().unwrap_or_default();
            table.row([
                Cell::plain(name.to_string_lossy()),
                Cell::plain(bytes(item.before_bytes)),
                Cell::plain(bytes(item.after_bytes)),
            ]);
        }
        table.print(ui);
        let (before, after) = sums(items);
        let (done, about) = if self.dry_run {
            ("would be ", "about ")
        } else {
            ("", "")
        };
        ui.prose(format_args!(
            "{} {done}rewritten: {} → {about}{}",
            pluralize(items.len(), "database"),
            bytes(before),
            bytes(after)
        ));
        let deleted: u64 = items.iter().map(|item| item.deleted_rows).sum();
        if deleted > 0 {
            ui.prose(format_args!("{deleted} old log entries {done}deleted"));
        }
        if let Some(folder) = originals {
            ui.note(format_args!(
                "the originals stay until the next run: {}",
                folder.display()
            ));
        }
    }
}

fn sums(items: &[VacuumItem]) -> (u64, u64) {
    items.iter().fold((0, 0), |(before, after), item| {
        (before + item.before_bytes, after + item.after_bytes)
    })
}
