//! `storage vacuum`: rewrites Codex's databases without unused space.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::io::quantity::pluralize;
use crate::io::time_format::parse_duration;
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::storage::vacuum::{self, VacuumItem, VacuumPlan};
use crate::ui::{Cell, Column, Table, bytes, object};
use crate::views::dry_run::{verb, would_be};
use chrono::TimeDelta;
use clap::Args;
use std::path::Path;

/// Rewrite Codex's databases without unused space
///
/// Codex must be closed. SQLite writes a compact copy of each database, which is checked before it
/// replaces the original. The originals stay in the trash of the manager home until the next
/// successful run; --undo brings them back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage vacuum --dry-run
  codex-manager storage vacuum
  codex-manager storage vacuum --keep-logs 7d
  codex-manager storage vacuum --undo")]
pub(super) struct VacuumArgs {
    /// Delete entries of Codex's log database that are older: 7d, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_logs: Option<TimeDelta>,
    /// Exchange the databases with the originals of the last run. A second --undo exchanges them again
    #[arg(long, conflicts_with = "keep_logs")]
    undo: bool,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

const COLUMNS: [Column; 3] = [
    Column::new("DATABASE"),
    Column::new("BEFORE").number(),
    Column::new("AFTER").number(),
];

impl VacuumArgs {
    /// Rewrites the databases.
    ///
    /// # Errors
    /// Codex runs, or a database cannot be copied. Nothing is changed then.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        if self.undo {
            return self.undo(context);
        }
        require_codex_home(context)?;
        let home = context.codex_home();
        // Codex deletes old entries of its log at each start, and never gives the space back (0.169).
        let mut plan = VacuumPlan::new(home, &context.env, self.keep_logs, context.now());
        let mut originals = None;
        if !self.dry_run && !plan.items.is_empty() {
            refuse_during_restore(context)?;
            let manager_home = context.manager_home();
            originals = Some(plan.apply(home, manager_home, &context.env, context.now())?);
        }
        for error in &plan.unreadable {
            context.warn(format_args!("skipped: {error}"));
        }
        self.show(context, &plan.items, originals.as_deref());
        self.report(context, &plan.items, originals.as_deref());
        Ok(Outcome::partial_if(!plan.unreadable.is_empty()))
    }

    fn undo(&self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let home = context.codex_home();
        refuse_during_restore(context)?;
        let manager_home = context.manager_home();
        let now = context.now();
        let (items, folder) = vacuum::undo(home, manager_home, &context.env, now, self.dry_run)?;
        show_table(context, &items);
        let done = would_be(self.dry_run);
        let number = pluralize(items.len(), "database");
        context.ui.prose(format_args!(
            "{number} {done}exchanged with the originals of the last run"
        ));
        if let Some(folder) = &folder {
            context.note(format_args!(
                "the databases that Codex wrote since then are in: {}",
                folder.display()
            ));
        }
        self.report(context, &items, folder.as_deref());
        Ok(Outcome::Done)
    }

    fn report(&self, context: &Context, items: &[VacuumItem], originals: Option<&Path>) {
        let (before_bytes, after_bytes) = sum_sizes(items);
        let json = object()
            .with("items", items)
            .with("before_bytes", before_bytes)
            .with("after_bytes", after_bytes)
            .with(
                "originals",
                originals.map(|folder| folder.display().to_string()),
            )
            .with("dry_run", self.dry_run);
        context.ui.document("storage vacuum", &json);
    }

    fn show(&self, context: &Context, items: &[VacuumItem], originals: Option<&Path>) {
        let ui = &context.ui;
        if items.is_empty() {
            ui.line("the databases have no unused space");
            return;
        }
        show_table(context, items);
        let (before, after) = sum_sizes(items);
        let (done, about) = verb(self.dry_run, ("would be ", "about "), ("", ""));
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
                "the originals stay until the next run: {}; undo with: codex-manager storage vacuum --undo",
                folder.display()
            ));
        }
    }
}

fn show_table(context: &Context, items: &[VacuumItem]) {
    let rows = items.iter().map(|item| {
        let name = item.path.file_name().unwrap_or_default();
        [
            Cell::plain(name.to_string_lossy()),
            Cell::bytes(item.before_bytes),
            Cell::bytes(item.after_bytes),
        ]
    });
    Table::with_rows(&context.ui, COLUMNS, rows).print(&context.ui);
}

fn sum_sizes(items: &[VacuumItem]) -> (u64, u64) {
    items.iter().fold((0, 0), |(before, after), item| {
        (before + item.before_bytes, after + item.after_bytes)
    })
}
