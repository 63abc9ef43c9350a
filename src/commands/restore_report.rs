//! The output of `restore` and `vault restore`: the plan, the result, the JSON document.

use super::archive_choice::file_name;
use crate::accounts::login_selection::AuthOutcome;
use crate::archive::entry_name::EntryName;
use crate::archive::reader::ArchiveReader;
use crate::context::Context;
use crate::inventory::catalog;
use crate::inventory::store;
use crate::io::quantity::pluralize;
use crate::io::shell;
use crate::restore::apply::RestoreReport;
use crate::restore::plan::{RestorePlan, RestoreTarget};
use crate::restore::request::RestoreRequest;
use crate::ui::Style;
use crate::ui::time::bytes;
use serde::Serialize;
use std::path::Path;

/// The JSON document. Its keys are an interface.
#[derive(Serialize)]
struct RestoreJson<'a> {
    archive: String,
    email: Option<&'a str>,
    target: &'a Path,
    files: u64,
    bytes: u64,
    removed: Vec<String>,
    safety_backup: Option<String>,
    auth: Option<AuthOutcome>,
    notes: &'a [String],
    dry_run: bool,
}

fn names_as_text(names: &[EntryName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Prints the plan of a dry run.
pub(super) fn show_plan(
    context: &Context,
    command: &str,
    archive: &ArchiveReader,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) {
    let removed = names_as_text(&plan.removed.sorted());
    context.ui.document(
        command,
        &RestoreJson {
            archive: file_name(archive.path()),
            email: archive.metadata().email.as_deref(),
            target: &request.folder,
            files: plan.writes.len() as u64 + u64::from(plan.wants_login),
            bytes: plan.bytes,
            removed: removed.clone(),
            safety_backup: None,
            auth: (!plan.wants_login).then_some(AuthOutcome::Skipped),
            notes: &[],
            dry_run: true,
        },
    );
    let ui = &context.ui;
    ui.report(format_args!(
        "would restore {} ({}) into {}",
        pluralize(plan.writes.len() + usize::from(plan.wants_login), "file"),
        bytes(plan.bytes),
        request.folder.display(),
    ));
    if request.target == RestoreTarget::Home {
        ui.report(format_args!(
            "  besides the login: {} replaced, {} added, {} removed",
            pluralize(plan.writes.len() - plan.added.len(), "file"),
            plan.added.len(),
            removed.len(),
        ));
    }
    for path in &removed {
        ui.report(ui.paint(Style::Warn, format_args!("  remove {path}")));
    }
    ui.note("dry run: nothing was written");
}

/// Prints the result of a restore.
pub(super) fn show_report(
    context: &Context,
    command: &str,
    archive: &ArchiveReader,
    request: &RestoreRequest<'_>,
    report: &RestoreReport,
) {
    let safety = report.safety.as_ref().map(|s| {
        catalog::relative_name(&store::backups(&context.settings.manager_home), &s.archive)
    });
    context.ui.document(
        command,
        &RestoreJson {
            archive: file_name(archive.path()),
            email: archive.metadata().email.as_deref(),
            target: &request.folder,
            files: report.files,
            bytes: report.bytes,
            removed: names_as_text(&report.removed.sorted()),
            safety_backup: safety.clone(),
            auth: Some(report.auth),
            notes: &report.notes,
            dry_run: false,
        },
    );
    let ui = &context.ui;
    ui.report(format_args!(
        "{} {}, {}, into {}",
        ui.paint(Style::Good, "restored"),
        pluralize(report.files, "file"),
        bytes(report.bytes),
        request.folder.display(),
    ));
    ui.report(match report.auth {
        AuthOutcome::Restored => "login: restored from the archive",
        AuthOutcome::KeptNewer => "login: kept a newer one instead of the archive's",
        AuthOutcome::Skipped => "login: unchanged",
    });
    if !report.removed.is_empty() {
        let removed = pluralize(report.removed.len(), "file");
        ui.report(format_args!(
            "removed {removed} that are not in the archive"
        ));
    }
    for record_result in &report.notes {
        ui.note(format_args!("note: {record_result}"));
    }
    match safety {
        Some(safety) => ui.note(format_args!(
            "undo with: codex-manager restore {}",
            shell::word(&safety)
        )),
        None if request.target == RestoreTarget::Elsewhere => ui.note(format_args!(
            "use it with: CODEX_HOME={} codex",
            shell::word(&request.folder.to_string_lossy())
        )),
        None => {}
    }
}
