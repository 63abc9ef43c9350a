//! `vault backup`: makes a snapshot of the Codex home.

use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::commands::vault::drill;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::backup_plan::{BackupPlan, QuotaArgs};
use crate::steps::capture_args::CaptureArgs;
use crate::steps::new_snapshot::NewSnapshot;
use crate::ui::{Style, bytes, object};
use crate::views::left_out::{format_owner_suffix, show_left_out};
use chrono::Duration;
use clap::Args;
use codex_manager_core::archive::{Metadata, PathNote};
use codex_manager_core::io::pluralize;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::vault::backup::SnapshotReport;

/// Make a snapshot of the Codex home
///
/// Captures the same files as `backup`, in the same way, as a tree that restic can list, mount and
/// restore. Reads and uploads only files that changed since the last snapshot.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault backup
  codex-manager vault backup --mode sessions --label 'before the update'
  codex-manager vault backup --dry-run")]
pub(super) struct VaultBackupArgs {
    #[command(flatten)]
    capture: CaptureArgs,
    /// Run a drill afterwards if the last successful one is older than this: 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drill_if_older: Option<Duration>,
    /// Show what would be captured; make no connection, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl VaultBackupArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        self.capture.check_label()?;
        let may_query = false;
        let plan = BackupPlan::create(context, &self.capture, &QuotaArgs::default(), may_query)?;
        if self.dry_run {
            return scan_and_print_plan(context, &plan);
        }

        let snapshot = NewSnapshot::make(context, connection, &plan)?;
        print_snapshot(context, &snapshot);
        let outcome = snapshot.outcome();
        // Releases the lock on the tree.
        drop(snapshot);

        match self.drill_if_older {
            Some(age) if drill::is_due(context, age)? => {
                Ok(drill::drill_latest(context, connection)?.or(outcome))
            }
            _ => Ok(outcome),
        }
    }
}

/// Prints the JSON document, in a dry run without a `report`. Its keys are an interface.
fn print_json(
    context: &Context,
    metadata: &Metadata,
    host: &str,
    report: Option<&SnapshotReport>,
    [excluded, skipped, damaged]: [&[PathNote]; 3],
) {
    let figure = |field: fn(&SnapshotReport) -> u64| report.map_or(0, field);
    let json = object()
        .with("snapshot", report.map(SnapshotReport::short_id))
        .with("mode", metadata.mode)
        .with("email", &metadata.email)
        .with("account_id", &metadata.account_id)
        .with("host", host)
        .with("files", metadata.files)
        .with("bytes", metadata.bytes)
        .with("files_new", figure(|report| report.files_new))
        .with("files_changed", figure(|report| report.files_changed))
        .with("files_unmodified", figure(|report| report.files_unmodified))
        .with("added_bytes", figure(|report| report.added_bytes))
        .with("excluded", excluded)
        .with("skipped", skipped)
        .with("damaged", damaged)
        .with("dry_run", report.is_none());
    context.ui.document("vault backup", &json);
}

fn scan_and_print_plan(context: &Context, plan: &BackupPlan) -> Result<Outcome> {
    let (scan, metadata) = plan.scan_home()?;
    let (report, left_out) = (None, [&*scan.excluded, &scan.skipped, &scan.damaged]);
    print_json(context, &metadata, &host(context), report, left_out);

    let ui = &context.ui;
    ui.report(format_args!(
        "would capture {}, {}",
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes)
    ));
    show_left_out(context, &scan.excluded, &scan.skipped, &scan.damaged);
    let is_complete = scan.skipped.is_empty() && scan.damaged.is_empty();
    Ok(Outcome::partial_if(!is_complete))
}

fn print_snapshot(context: &Context, snapshot: &NewSnapshot) {
    let (tree, report) = (&snapshot.tree, &snapshot.report);
    let metadata = &tree.manifest.metadata;
    let left_out = [&*tree.excluded, &tree.skipped, &tree.damaged];
    print_json(context, metadata, &snapshot.host, Some(report), left_out);

    let ui = &context.ui;
    let owner = format_owner_suffix(metadata, context);
    ui.report(format_args!(
        "snapshot {}",
        ui.paint(Style::Strong, report.short_id())
    ));
    ui.report(format_args!(
        "{}{owner}: {}, {}; {} added to the vault",
        metadata.mode.name(),
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes),
        bytes(report.added_bytes),
    ));

    show_left_out(context, &tree.excluded, &tree.skipped, &tree.damaged);
    ui.note(format_args!(
        "restore it: codex-manager vault restore {}",
        report.short_id()
    ));
}
