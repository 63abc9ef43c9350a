//! `storage vacuum`: rewrites Codex's databases without unused space.

use crate::commands::storage::report::{SizeSums, show_json};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::ui::{Cell, Column, Table, bytes};
use crate::views::dry_run::wording;
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::io::pluralize;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::storage::vacuum::{VacuumItem, VacuumPlan};

/// Rewrite Codex's databases without unused space
///
/// Codex must be closed. SQLite writes a compact copy of each database, which is checked before it
/// replaces the original.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage vacuum --dry-run
  codex-manager storage vacuum
  codex-manager storage vacuum --keep-logs 7d")]
pub(super) struct VacuumArgs {
    /// Delete entries of Codex's log database that are older: 7d, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_logs: Option<TimeDelta>,
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
    /// Codex runs, a restore is unfinished, or a database cannot be copied. Nothing is changed then.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let home = context.codex_home();
        // Codex 0.169 deletes old entries of its log at each start, and never gives the space back.
        let mut plan = VacuumPlan::read(home, &context.env, self.keep_logs, context.now());

        if !self.dry_run && !plan.items.is_empty() {
            refuse_during_restore(context)?;
            let manager_home = context.manager_home();
            plan.apply(home, manager_home, &context.env, context.now())?;
        }

        for error in &plan.unreadable {
            context.warn(format_args!("skipped: {error}"));
        }
        self.print_items(context, &plan.items);
        let sums = sum_sizes(&plan.items);
        show_json("storage vacuum", &plan.items, sums, self.dry_run, context);
        Ok(Outcome::partial_if(!plan.unreadable.is_empty()))
    }

    fn print_items(&self, context: &Context, items: &[VacuumItem]) {
        let ui = &context.ui;
        if items.is_empty() {
            ui.line("the databases have no unused space");
            return;
        }

        let rows = items.iter().map(|item| {
            let name = item.path.file_name().unwrap_or_default();
            [
                Cell::plain(name.to_string_lossy()),
                Cell::bytes(item.before_bytes),
                Cell::bytes(item.after_bytes),
            ]
        });
        Table::with_rows(ui, COLUMNS, rows).print(ui);

        let sums = sum_sizes(items);
        let (would_be, about) = wording(self.dry_run, ("would be ", "about "), ("", ""));
        ui.prose(format_args!(
            "{} {would_be}rewritten: {} → {about}{}",
            pluralize(items.len(), "database"),
            bytes(sums.before_bytes),
            bytes(sums.after_bytes)
        ));

        let deleted_rows: u64 = items.iter().map(|item| item.deleted_rows).sum();
        if deleted_rows > 0 {
            ui.prose(format_args!(
                "{deleted_rows} old log entries {would_be}deleted"
            ));
        }
    }
}

fn sum_sizes(items: &[VacuumItem]) -> SizeSums {
    SizeSums {
        before_bytes: items.iter().map(|item| item.before_bytes).sum(),
        after_bytes: items.iter().map(|item| item.after_bytes).sum(),
    }
}
