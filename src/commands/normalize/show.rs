//! Output of `normalize`, as text and JSON.

use crate::context::Context;
use crate::inventory::legacy::{LegacyMerge, SkippedLegacyFile};
use crate::inventory::records::LegacyRecord;
use crate::io::clock::Timestamp;
use crate::io::quantity::pluralize;
use crate::quota::legacy::ValidationStatus;
use crate::ui::table::{Column, Table};
use crate::ui::{Style, Ui};
use crate::views::account::{absolute, local, printable};
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

/// The JSON document of `normalize --json`. Its keys are a contract.
#[derive(Debug, Serialize)]
struct NormalizeView<'a> {
    records: Vec<RecordView>,
    skipped: &'a [SkippedLegacyFile],
    added: usize,
    updated: usize,
    unchanged: usize,
    #[serde(flatten)]
    files: WrittenFiles,
    dry_run: bool,
}

/// The names of the files in `backups/` that the command writes.
#[derive(Debug, Serialize)]
pub(super) struct WrittenFiles {
    pub(super) sidecars: Vec<String>,
    pub(super) archives: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RecordView {
    legacy_auth_filename: String,
    legacy_quota_day_token: String,
    legacy_year: Option<i32>,
    email: String,
    account_id: Option<String>,
    session_start_at: Option<String>,
    next_available_at: Option<String>,
    quota_end_detected_at: Option<String>,
    inferred_session_duration_seconds: Option<i64>,
    validation_status: Option<ValidationStatus>,
    archive_name: String,
    source_path: String,
    problem: Option<String>,
}

/// Prints the JSON document of the merged records.
pub(super) fn document(
    merged: &LegacyMerge,
    skipped: &[SkippedLegacyFile],
    files: WrittenFiles,
    dry_run: bool,
    context: &Context,
) {
    let view = NormalizeView {
        records: merged.records.iter().map(|r| view(r, context)).collect(),
        skipped,
        added: merged.added,
        updated: merged.updated,
        unchanged: merged.unchanged,
        files,
        dry_run,
    };
    context.ui.document("normalize", &view);
}

fn view(record: &LegacyRecord, context: &Context) -> RecordView {
    let metadata = &record.metadata;
    let time = |at: Option<Timestamp>| at.map(|at| local(&at, context));
    RecordView {
        legacy_auth_filename: metadata.legacy_auth_filename.clone().unwrap_or_default(),
        legacy_quota_day_token: metadata.legacy_quota_day_token.clone().unwrap_or_default(),
        legacy_year: metadata.legacy_year,
        email: metadata.email.clone().unwrap_or_default(),
        account_id: metadata.account_id.clone(),
        session_start_at: time(metadata.session_start_at),
        next_available_at: time(metadata.next_available_at),
        quota_end_detected_at: time(metadata.quota_end_detected_at),
        inferred_session_duration_seconds: metadata.inferred_session_duration_seconds,
        validation_status: metadata.validation_status,
        archive_name: record.archive_name.clone(),
        source_path: record.source_path.clone(),
        problem: record.problem.clone(),
    }
}

/// Prints the records and the skipped files.
pub(super) fn report(merged: &LegacyMerge, skipped: &[SkippedLegacyFile], context: &Context) {
    let ui = &context.ui;
    show_records(&merged.records, context);
    note_unusable_logins(&merged.records, ui);
    let (reported, others): (Vec<_>, Vec<_>) = skipped.iter().partition(|s| {
        let name = s
            .path
            .file_name()
            .map(|n| n.to_string_lossy().to_lowercase());
        s.is_fault || name.is_some_and(|n| n.ends_with("_auth.json"))
    });
    for skipped in reported {
        let path = printable(&skipped.path.to_string_lossy());
        ui.warn(format_args!("skipped, {}: {path}", skipped.reason));
    }
    show_other_files(&others, ui);
    ui.report(format_args!(
        "{}: {} new, {} changed, {} unchanged; {} skipped",
        pluralize(merged.records.len(), "record"),
        merged.added,
        merged.updated,
        merged.unchanged,
        pluralize(skipped.len(), "file")
    ));
}

fn show_records(records: &[LegacyRecord], context: &Context) {
    let ui = &context.ui;
    if records.is_empty() {
        return;
    }
    let mut table = Table::new(ui, COLUMNS);
    for record in records {
        let metadata = &record.metadata;
        let time = |at: Option<Timestamp>| at.map_or("-".into(), |at| absolute(&at, context));
        let token = metadata.legacy_quota_day_token.as_deref().unwrap_or("-");
        let (style, token) = match metadata.validation_status {
            Some(ValidationStatus::Mismatch) => (Style::Warn, format!("{token} mismatch")),
            _ => (Style::Good, format!("{token} match")),
        };
        let email = printable(metadata.email.as_deref().unwrap_or("-"));
        let login = match &record.problem {
            None => (Style::Good, "found".to_owned()),
            Some(problem) => {
                ui.detail(format_args!(
                    "{email}: no usable login: {}",
                    printable(problem)
                ));
                (Style::Warn, "none".to_owned())
            }
        };
        table.row([
            (Style::Plain, email),
            (style, token),
            (Style::Plain, time(metadata.session_start_at)),
            (Style::Plain, time(metadata.next_available_at)),
            login,
        ]);
    }
    table.report(ui);
}

/// Prints the reasons why logins cannot be used: each once, not once per file.
fn note_unusable_logins(records: &[LegacyRecord], ui: &Ui) {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records {
        if let (Some(problem), Some(name)) =
            (&record.problem, &record.metadata.legacy_auth_filename)
        {
            reasons.entry(problem).or_default().push(name);
        }
    }
    for (reason, names) in reasons {
        let first = printable(names[0]);
        let more = match names.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        ui.note(format_args!(
            "no usable login ({}): {first}{more}",
            printable(reason)
        ));
    }
}

/// Prints the other skipped files, at most ten for each reason: the folder may be a whole home.
fn show_other_files(others: &[&SkippedLegacyFile], ui: &Ui) {
    const SHOWN: usize = 10;
    if ui.wants_json() {
        return;
    }
    let mut reasons: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for skipped in others {
        let paths = reasons.entry(&skipped.reason).or_default();
        paths.push(&skipped.path);
    }
    for (reason, paths) in reasons {
        let shown = if ui.is_verbose() { paths.len() } else { SHOWN };
        ui.note(format_args!("skipped, {reason}:"));
        for path in paths.iter().take(shown) {
            ui.note(format_args!("  {}", printable(&path.to_string_lossy())));
        }
        if let Some(more @ 1..) = paths.len().checked_sub(shown) {
            ui.note(format_args!("  … {more} more: --verbose"));
        }
    }
}
