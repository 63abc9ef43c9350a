//! `vault backup`: makes a snapshot of the Codex home.

use crate::archive::metadata::Metadata;
use crate::archive::path_note::PathNote;
use crate::archive::scan;
use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::commands::vault::drill;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::quantity::pluralize;
use crate::io::time_format;
use crate::steps::backup_plan::{BackupPlan, QuotaArgs};
use crate::steps::capture_args::CaptureArgs;
use crate::steps::new_snapshot::NewSnapshot;
use crate::ui::Style;
use crate::ui::json_object::object;
use crate::ui::time::bytes;
use crate::vault::backup::SnapshotReport;
use crate::views::left_out::show_left_out;
use chrono::Duration;
use clap::Args;
use std::sync::Arc;

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
    #[arg(long, value_name = "DURATION")]
    drill_if_older: Option<String>,
    /// Show what would be captured; make no connection, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl VaultBackupArgs {
    pub(super) fn run(
        self,
        context: &Context,
        connection: &ConnectionArgs,
    ) -> Result<Outcome, CommandError> {
        self.capture.check_label()?;
        let drill_age = self.drill_age()?;
        let plan = BackupPlan::make(context, &self.capture, &QuotaArgs::default(), false)?;
        if self.dry_run {
            return show_plan(context, &plan);
        }
        let made = NewSnapshot::make(context, connection, &plan)?;
        show_done(context, &made);
        let outcome = made.outcome();
        // Releases the lock on the tree.
        drop(made);
        match drill_age {
            Some(age) if drill::is_due(context, age)? => {
                let drilled = drill::run_newest(context, connection)?;
                Ok(if drilled == Outcome::Done {
                    outcome
                } else {
                    drilled
                })
            }
            _ => Ok(outcome),
        }
    }

    fn drill_age(&self) -> Result<Option<Duration>, CommandError> {
        let parse = |text: &String| {
            time_format::parse_span(text).ok_or_else(|| {
                CommandError::usage(format!("--drill-if-older is not a duration: {text:?}"))
                    .hint("use a form like 30d or 4w")
            })
        };
        self.drill_if_older.as_ref().map(parse).transpose()
    }
}

/// Prints the JSON document of a snapshot, or without a report of a dry run. Its keys are an interface.
fn show_json(
    context: &Context,
    (metadata, host): (&Metadata, &str),
    report: Option<&SnapshotReport>,
    [excluded, skipped, damaged]: [&[PathNote]; 3],
) {
    let figure = |of: fn(&SnapshotReport) -> u64| report.map_or(0, of);
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

fn show_plan(context: &Context, plan: &BackupPlan) -> Result<Outcome, CommandError> {
    let scan = scan::scan(&plan.scope, &Arc::default())?;
    let metadata = Metadata {
        files: scan.count() as u64,
        bytes: scan.bytes(),
        ..plan.metadata.clone()
    };
    let left_out = [&*scan.excluded, &scan.skipped, &scan.damaged];
    show_json(context, (&metadata, &host(context)), None, left_out);
    let ui = &context.ui;
    ui.report(format_args!(
        "would capture {}, {}",
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes)
    ));
    show_left_out(context, &scan.excluded, &scan.skipped, &scan.damaged);
    let is_whole = scan.skipped.is_empty() && scan.damaged.is_empty();
    Ok(Outcome::partial_if(!is_whole))
}

fn show_done(context: &Context, made: &NewSnapshot) {
    let (tree, report) = (&made.tree, &made.report);
    let metadata = &tree.manifest.metadata;
    let left_out = [&*tree.excluded, &tree.skipped, &tree.damaged];
    show_json(context, (metadata, &made.host), Some(report), left_out);
    let ui = &context.ui;
    let who = match &metadata.email {
        Some(email) => format!(" of {email}"),
        None => ", no account".to_owned(),
    };
    ui.report(format_args!(
        "snapshot {}",
        ui.paint(Style::Strong, report.short_id())
    ));
    ui.report(format_args!(
        "{}{who}: {}, {}; {} added to the vault",
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
