//! `vault drill`: tests that a snapshot can be restored.

use crate::choices::snapshot_choice::find_snapshot;
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Style, object};
use crate::views::account::warn_unless_recorded;
use chrono::Duration;
use clap::Args;
use codex_manager_core::inventory::archive_names::LATEST;
use codex_manager_core::io::{Timestamp, pluralize};
use codex_manager_core::vault::drill::{self as vault_drill, DrillOptions, DrillReport};
use codex_manager_core::vault::snapshot::Snapshot;
use codex_manager_core::vault::state::{self, DrillResult};

/// Test that a snapshot can be restored
///
/// Restores the newest snapshot into a temporary folder, checks every digest and every database, lets the installed
/// Codex list the conversations, and removes the folder. Records the result: `doctor` warns if the last successful
/// drill is older than 30 days.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault drill
  codex-manager vault drill 64ae0aa1")]
pub(super) struct DrillArgs {
    /// An id from `vault snapshots`, an account, or `latest` [default: latest]
    #[arg(value_name = "SNAPSHOT|ACCOUNT|latest")]
    snapshot: Option<String>,
}

impl DrillArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let name = self.snapshot.as_deref().unwrap_or(LATEST);
        let (snapshot, report, outcome) = drill_and_record(context, connection, name)?;

        let json = object()
            .with("snapshot", snapshot.id)
            .with("ok", report.problems.is_empty())
            .with("files", report.files)
            .with("bytes", report.bytes)
            .with("conversations", report.conversations)
            .with("problems", report.problems);
        context.ui.document("vault drill", &json);
        Ok(outcome)
    }
}

/// Returns true if the last successful drill is at least `limit` ago, or if there is none.
pub(super) fn is_due(context: &Context, limit: Duration) -> Result<bool> {
    let state = state::read(context.manager_home())?;
    let age = |at: Timestamp| context.local_now().signed_duration_since(at);
    Ok(state.drill_passed_at.is_none_or(|at| age(at) >= limit))
}

/// Runs a drill of the snapshot `latest` without printing a JSON document.
pub(super) fn drill_latest(context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
    drill_and_record(context, connection, LATEST).map(|(.., outcome)| outcome)
}

/// Runs a drill of the snapshot that `name` selects, records the result, and prints it without a JSON document. The
/// outcome is `CheckFailed` if the drill found problems, and partial if only the record failed.
///
/// # Errors
/// No snapshot or several match, or the drill cannot be completed. Damage that stops the drill is recorded.
fn drill_and_record(
    context: &Context,
    connection: &ConnectionArgs,
    name: &str,
) -> Result<(Snapshot, DrillReport, Outcome)> {
    let (connection, timeout) = connection.with_drill_timeout();
    let restic = connection.open(context)?;
    let snapshot = find_snapshot(context, &restic, name)?;

    let manager_home = context.manager_home();
    let codex = context.find_codex().ok();
    let options = DrillOptions {
        manager_home,
        codex: codex.as_ref(),
        env: &context.env,
        now: context.local_now(),
        timeout,
    };

    let bar = context.ui.growing_bar("restoring");
    let result = vault_drill::run_drill(&restic, &snapshot, &options, &bar);
    drop(bar);

    let report = match result {
        Ok(report) => report,
        Err(e) => {
            // Other errors, such as a lost connection, prove nothing about the snapshot, so the last result stays.
            if e.proves_damage() {
                record_result(context, &snapshot, &[e.to_string()]);
            }
            return Err(e.into());
        }
    };

    let is_recorded = record_result(context, &snapshot, &report.problems);
    print_result(context, &snapshot, &report, codex.is_some());
    let outcome = if report.problems.is_empty() {
        Outcome::partial_if(!is_recorded)
    } else {
        Outcome::CheckFailed
    };

    Ok((snapshot, report, outcome))
}

/// Records the result for `doctor`. Returns false, after a warning, if that failed.
fn record_result(context: &Context, snapshot: &Snapshot, problems: &[String]) -> bool {
    let at = context.local_now();
    let recorded = state::update(context.manager_home(), |state| {
        if problems.is_empty() {
            state.drill_passed_at = Some(at);
        }
        state.drill = Some(DrillResult {
            at,
            snapshot: snapshot.id.clone(),
            problems: problems.to_vec(),
        });
    });
    warn_unless_recorded(&context.ui, recorded.err())
}

fn print_result(context: &Context, snapshot: &Snapshot, report: &DrillReport, has_codex: bool) {
    let ui = &context.ui;
    if report.problems.is_empty() {
        ui.report(format_args!(
            "{}: snapshot {} was restored and checked, {}",
            ui.paint(Style::Good, "ok"),
            snapshot.short_id(),
            pluralize(report.files, "file")
        ));
    }

    if let Some(count) = report.conversations {
        let conversations = pluralize(count, "conversation");
        ui.report(format_args!("Codex lists {conversations} in it"));
    }

    if !has_codex {
        ui.note("Codex is not installed, so its list of conversations was not checked");
    }

    for problem in &report.problems {
        ui.prose(format_args!(
            "{}: {problem}",
            ui.paint(Style::Bad, "damaged")
        ));
    }
}
