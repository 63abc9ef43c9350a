//! Output of `backup`, as text and JSON.

use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::archive::path_note::PathNote;
use crate::archive::publish::PublishedArchive;
use crate::archive::scan;
use crate::archive::scope::Excludes;
use crate::context::Context;
use crate::copies::losses::report::LossJson;
use crate::error::{CommandError, Outcome};
use crate::inventory::archive_names::{file_name, without_suffix};
use crate::inventory::status::StatusReport;
use crate::io::quantity::pluralize;
use crate::io::shell;
use crate::steps::backup_plan::BackupPlan;
use crate::ui::Style;
use crate::ui::time::{bytes, duration, full};
use crate::views::archive_json::ArchiveJson;
use crate::views::left_out::show_left_out;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The parts of a backup's result that are not in its metadata.
pub(super) struct BackupResult {
    pub(super) reused_bytes: u64,
    pub(super) excluded: Vec<PathNote>,
    pub(super) skipped: Vec<PathNote>,
    pub(super) damaged: Vec<PathNote>,
    /// Conversations that lack messages which the previous archive has.
    pub(super) losses: Vec<LossJson>,
    /// Id of the snapshot in the vault, with `--vault`.
    pub(super) snapshot: Option<String>,
}

/// The JSON document of `backup --json`. Its keys are a contract.
#[derive(Serialize)]
struct BackupJson<'a> {
    archive: Option<String>,
    path: Option<&'a Path>,
    metadata_path: Option<&'a Path>,
    #[serde(flatten)]
    metadata: ArchiveJson,
    status_source: &'a str,
    files: u64,
    bytes: u64,
    archive_bytes: u64,
    reused_bytes: u64,
    snapshot: Option<&'a str>,
    losses: Vec<BackupLossJson<'a>>,
    #[serde(flatten)]
    notes: NotesJson<'a>,
    dry_run: bool,
    up_to_date: bool,
}

/// A conversation that lost messages since the previous archive, which has them.
#[derive(Serialize)]
struct BackupLossJson<'a> {
    session_id: &'a str,
    title: &'a str,
    lost_messages: usize,
    archive: &'a str,
}

impl<'a> BackupLossJson<'a> {
    fn of(loss: &'a LossJson) -> Self {
        Self {
            session_id: &loss.session_id,
            title: &loss.title,
            lost_messages: loss.lost_messages,
            archive: &loss.place,
        }
    }
}

/// The paths that are not archived, or are damaged in the archive.
#[derive(Default, Serialize)]
struct NotesJson<'a> {
    excluded: &'a [PathNote],
    skipped: &'a [PathNote],
    damaged: &'a [PathNote],
}

impl<'a> BackupJson<'a> {
    fn of(context: &Context, metadata: &'a Metadata) -> Self {
        Self {
            archive: None,
            path: None,
            metadata_path: None,
            metadata: ArchiveJson::of(metadata, context),
            status_source: &metadata.status_source,
            files: metadata.files,
            bytes: metadata.bytes,
            archive_bytes: metadata.archive_bytes,
            reused_bytes: 0,
            snapshot: None,
            losses: Vec::new(),
            notes: NotesJson::default(),
            dry_run: false,
            up_to_date: false,
        }
    }

    fn at(self, published: &'a PublishedArchive) -> Self {
        Self {
            archive: Some(file_name(&published.archive)),
            path: Some(&published.archive),
            metadata_path: Some(&published.sidecar),
            ..self
        }
    }
}

pub(super) fn show_done(
    context: &Context,
    published: &PublishedArchive,
    report: &StatusReport,
    done: &BackupResult,
) {
    let metadata = &published.metadata;
    let json = BackupJson {
        reused_bytes: done.reused_bytes,
        snapshot: done.snapshot.as_deref(),
        losses: done.losses.iter().map(BackupLossJson::of).collect(),
        notes: NotesJson {
            excluded: &done.excluded,
            skipped: &done.skipped,
            damaged: &done.damaged,
        },
        ..BackupJson::of(context, metadata).at(published)
    };
    context.ui.document("backup", &json);
    let (ui, zone) = (&context.ui, context.settings.zone);
    let name = file_name(&published.archive);
    ui.report(ui.paint(Style::Strong, &name));
    let who = match &metadata.email {
        Some(email) => format!(" of {email}"),
        None => ", no account".to_owned(),
    };
    ui.report(format_args!(
        "{}{who}: {}, {} in {}",
        metadata.mode.name(),
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes),
        bytes(metadata.archive_bytes),
    ));
    if let Some(reset_at) = metadata.reset_at {
        let source = report.observation.as_ref().map_or("", |s| s.source.name());
        ui.report(format_args!(
            "weekly window resets {} (source: {source})",
            full(&reset_at.to_utc(), zone, &context.now())
        ));
    }
    if done.reused_bytes > 0 {
        ui.report(ui.paint(
            Style::Dim,
            format_args!(
                "{} copied from the previous archive",
                bytes(done.reused_bytes)
            ),
        ));
    }
    if let Some(id) = &done.snapshot {
        ui.report(format_args!("snapshot {id} in the vault"));
    }
    show_left_out(context, &done.excluded, &done.skipped, &done.damaged);
    warn_of_losses(context, &done.losses);
    ui.note(format_args!(
        "restore it with: codex-manager restore {}",
        shell::word(without_suffix(&name))
    ));
}

fn warn_of_losses(context: &Context, losses: &[LossJson]) {
    let Some(first) = losses.first() else {
        return;
    };
    let messages: usize = losses.iter().map(|loss| loss.lost_messages).sum();
    context.ui.warn(format_args!(
        "{} lost {} since {}; list them with: codex-manager history losses",
        pluralize(losses.len(), "conversation"),
        pluralize(messages, "message"),
        without_suffix(&first.place)
    ));
}

pub(super) fn show_plan(context: &Context, plan: &BackupPlan) -> Result<Outcome, CommandError> {
    let scan = scan::scan(&plan.scope, &Arc::default())?;
    let metadata = Metadata {
        files: scan.count() as u64,
        bytes: scan.bytes(),
        ..plan.metadata.clone()
    };
    let json = BackupJson {
        archive: Some(names::archive_name(&plan.stem, 1)),
        notes: NotesJson {
            excluded: &scan.excluded,
            skipped: &scan.skipped,
            damaged: &scan.damaged,
        },
        dry_run: true,
        ..BackupJson::of(context, &metadata)
    };
    context.ui.document("backup", &json);
    let ui = &context.ui;
    ui.report(format_args!(
        "would archive {}, {}, as {}",
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes),
        names::archive_name(&plan.stem, 1),
    ));
    show_left_out(context, &scan.excluded, &scan.skipped, &scan.damaged);
    warn_of_unused_globs(context, &plan.globs, &scan.excluded);
    let is_whole = scan.skipped.is_empty() && scan.damaged.is_empty();
    Ok(Outcome::partial_if(!is_whole))
}

/// Warns of globs of the command line that match nothing, because they may be misspelled.
pub(super) fn warn_of_unused_globs(context: &Context, globs: &[String], excluded: &[PathNote]) {
    for glob in globs {
        let left_out = excluded.iter().map(|item| item.path.as_path());
        if Excludes::matches_nothing(glob, left_out) {
            let word = shell::word(glob);
            context
                .ui
                .warn(format_args!("--exclude {word} matches nothing"));
        }
    }
}

pub(super) fn show_up_to_date(context: &Context, recent: &PublishedArchive) -> Outcome {
    let json = BackupJson {
        up_to_date: true,
        ..BackupJson::of(context, &recent.metadata).at(recent)
    };
    context.ui.document("backup", &json);
    let age = context
        .now()
        .signed_duration_since(recent.metadata.created_at);
    context.ui.note(format_args!(
        "nothing to do: {} is {} old",
        file_name(&recent.archive),
        duration(age),
    ));
    Outcome::Done
}
