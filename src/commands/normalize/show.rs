//! Output of `normalize`, as text and JSON.

use crate::context::Context;
use crate::ui::{Column, Style, Table, Ui, object};
use crate::views::account::{absolute_time, printable, time_json};
use codex_manager_core::inventory::LegacyRecord;
use codex_manager_core::inventory::legacy::{LegacyMerge, SkippedLegacyFile};
use codex_manager_core::io::{Timestamp, pluralize};
use codex_manager_core::quota::legacy::ValidationStatus;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

const COLUMNS: [Column; 5] = [
    Column::new("ACCOUNT").shorten(18),
    Column::new("DAY IN NAME").rank(1),
    Column::new("STARTED").rank(3),
    Column::new("NEXT AVAILABLE").rank(2),
    Column::new("LOGIN"),
];

/// The names of the files in `backups/` that the command writes.
#[derive(Default)]
pub(super) struct WrittenFiles {
    pub(super) sidecars: Vec<String>,
    pub(super) archives: Vec<String>,
}

pub(super) fn show_json(
    merged: &LegacyMerge,
    skipped: &[SkippedLegacyFile],
    files: &WrittenFiles,
    dry_run: bool,
    context: &Context,
) {
    let records = merged.records.iter();
    let records = records.map(|record| record_json(record, context));

    let json = object()
        .with("records", records.collect::<Vec<_>>())
        .with("skipped", skipped)
        .with("added", merged.added)
        .with("updated", merged.updated)
        .with("unchanged", merged.unchanged)
        .with("sidecars", &files.sidecars)
        .with("archives", &files.archives)
        .with("dry_run", dry_run);
    context.ui.document("normalize", &json);
}

/// Returns a record in JSON. The keys are a contract.
fn record_json<'r>(record: &'r LegacyRecord, context: &Context) -> impl Serialize + use<'r> {
    let metadata = &record.metadata;
    let text = |text: &'r Option<String>| text.as_deref().unwrap_or_default();
    let time = |at| time_json(at, context);
    let duration = metadata.inferred_session_duration_seconds;

    object()
        .with("legacy_auth_filename", text(&metadata.legacy_auth_filename))
        .with(
            "legacy_quota_day_token",
            text(&metadata.legacy_quota_day_token),
        )
        .with("legacy_year", metadata.legacy_year)
        .with("email", text(&metadata.email))
        .with("account_id", &metadata.account_id)
        .with("session_start_at", time(metadata.session_start_at))
        .with("next_available_at", time(metadata.next_available_at))
        .with(
            "quota_end_detected_at",
            time(metadata.quota_end_detected_at),
        )
        .with("inferred_session_duration_seconds", duration)
        .with("validation_status", metadata.validation_status)
        .with("archive_name", &record.archive_name)
        .with("source_path", &record.source_path)
        .with("problem", &record.problem)
}

/// Prints the records and the skipped files.
pub(super) fn show_report(merged: &LegacyMerge, skipped: &[SkippedLegacyFile], context: &Context) {
    let ui = &context.ui;
    show_records(&merged.records, context);

    // The user expects a file with the name of an old login to be imported, so it gets a warning of its own.
    let (reported, unrelated): (Vec<_>, Vec<_>) = skipped.iter().partition(|s| {
        let name = s.path.file_name();
        let name = name.map(|n| n.to_string_lossy().to_lowercase());
        s.is_fault || name.is_some_and(|n| n.ends_with("_auth.json"))
    });

    for skipped in reported {
        let path = printable(&skipped.path.to_string_lossy());
        ui.warn(format_args!("skipped, {}: {path}", skipped.reason));
    }
    show_unrelated_files(&unrelated, ui);

    ui.report(format_args!(
        "{}: {} new, {} changed, {} unchanged; {} skipped",
        pluralize(merged.records.len(), "record"),
        merged.added,
        merged.updated,
        merged.unchanged,
        pluralize(skipped.len(), "file")
    ));
}

/// Prints a table of the records, after a note for each record without a usable login.
fn show_records(records: &[LegacyRecord], context: &Context) {
    let ui = &context.ui;
    if records.is_empty() {
        return;
    }

    let rows = records.iter().map(|record| {
        let metadata = &record.metadata;
        let time = |at: Option<Timestamp>| at.map_or("-".into(), |at| absolute_time(&at, context));
        let token = metadata.legacy_quota_day_token.as_deref().unwrap_or("-");

        let (style, token) = match metadata.validation_status {
            Some(ValidationStatus::Mismatch) => (Style::Warn, format!("{token} mismatch")),
            _ => (Style::Good, format!("{token} match")),
        };

        let email = printable(metadata.email.as_deref().unwrap_or("-"));
        let login = match &record.problem {
            None => (Style::Good, "found".to_owned()),
            Some(problem) => {
                let name = metadata.legacy_auth_filename.as_deref();
                ui.note(format_args!(
                    "no usable login of {email} ({}): {}",
                    printable(problem),
                    printable(name.unwrap_or("-"))
                ));
                (Style::Warn, "none".to_owned())
            }
        };

        [
            (Style::Plain, email),
            (style, token),
            (Style::Plain, time(metadata.session_start_at)),
            (Style::Plain, time(metadata.next_available_at)),
            login,
        ]
    });

    Table::with_rows(ui, COLUMNS, rows).report(ui);
}

/// Prints the skipped files that are no legacy files. Prints at most ten for each reason unless `--verbose` is given,
/// because the folder may be a whole home.
fn show_unrelated_files(unrelated: &[&SkippedLegacyFile], ui: &Ui) {
    const MAX_SHOWN: usize = 10;
    if ui.wants_json() {
        return;
    }

    let mut paths_by_reason: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for skipped in unrelated {
        let paths = paths_by_reason.entry(&skipped.reason).or_default();
        paths.push(&skipped.path);
    }

    for (reason, paths) in paths_by_reason {
        let shown_count = ui.limit_items(paths.len(), MAX_SHOWN);
        ui.note(format_args!("skipped, {reason}:"));
        for path in paths.iter().take(shown_count) {
            ui.note(format_args!("  {}", printable(&path.to_string_lossy())));
        }

        let hidden_count = paths.len() - shown_count;
        if hidden_count > 0 {
            ui.note(format_args!("  … {hidden_count} more: --verbose"));
        }
    }
}
