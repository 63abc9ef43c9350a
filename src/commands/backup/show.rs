//! Output of `backup`, as text and JSON.

use crate::context::Context;
use crate::copies::losses::archived::{BackupLosses, VanishedConversations};
use crate::copies::losses::report::LossJson;
use crate::doctor::way_back;
use crate::error::{Outcome, Result};
use crate::steps::backup_plan::BackupPlan;
use crate::ui::time::format_duration;
use crate::ui::{Style, bytes, object};
use crate::views::account::{absolute_time, full_time};
use crate::views::archive_json::archive_json;
use crate::views::left_out::{format_owner_suffix, show_left_out};
use codex_manager_core::archive::publish::free_paths;
use codex_manager_core::archive::{Excludes, Metadata, PathNote, PublishedArchive};
use codex_manager_core::inventory::archive_names::{file_name, strip_archive_suffix};
use codex_manager_core::inventory::status::StatusReport;
use codex_manager_core::io::{pluralize, shell};

/// The largest number of damaged texts with a command that restores them. `doctor` has the commands of all.
const MAX_SUGGESTED_TEXTS: usize = 3;

/// The parts of a backup's result that are not in its metadata.
#[derive(Default)]
pub(super) struct BackupResult {
    pub(super) reused_bytes: u64,
    pub(super) excluded: Vec<PathNote>,
    pub(super) skipped: Vec<PathNote>,
    pub(super) damaged: Vec<PathNote>,
    pub(super) losses: BackupLosses,
    /// The id of the snapshot in the vault, with `--vault`.
    pub(super) snapshot: Option<String>,
    /// True if no archive was made, because the last one is recent enough.
    pub(super) is_up_to_date: bool,
}

impl BackupResult {
    /// Returns true if no file is missing or damaged.
    pub(super) fn is_complete(&self) -> bool {
        self.skipped.is_empty() && self.damaged.is_empty()
    }
}

/// Prints the JSON document. Its keys are a contract. In a dry run, `published` is `None`, and `name` is the name that
/// the archive would get.
fn show_json(
    metadata: &Metadata,
    name: &str,
    published: Option<&PublishedArchive>,
    result: &BackupResult,
    context: &Context,
) {
    let losses = result.losses.losses.iter().map(|loss| {
        object()
            .with("session_id", &loss.session_id)
            .with("title", &loss.title)
            .with("lost_messages", loss.lost_messages)
            .with("archive", &loss.place)
    });

    let json = object()
        .with("archive", name)
        .with("path", published.map(|made| &made.archive))
        .with("metadata_path", published.map(|made| &made.sidecar))
        .and(archive_json(metadata, context))
        .with("status_source", &metadata.status_source)
        .with("files", metadata.files)
        .with("bytes", metadata.bytes)
        .with("archive_bytes", metadata.archive_bytes)
        .with("reused_bytes", result.reused_bytes)
        .with("snapshot", &result.snapshot)
        .with("losses", losses.collect::<Vec<_>>())
        .with("gone", result.losses.gone_count)
        .with("excluded", &result.excluded)
        .with("skipped", &result.skipped)
        .with("damaged", &result.damaged)
        .with("dry_run", published.is_none())
        .with("up_to_date", result.is_up_to_date);
    context.ui.document("backup", &json);
}

pub(super) fn show_result(
    context: &Context,
    published: &PublishedArchive,
    report: &StatusReport,
    result: &BackupResult,
) {
    let metadata = &published.metadata;
    let name = file_name(&published.archive);
    show_json(metadata, &name, Some(published), result, context);

    let ui = &context.ui;
    ui.report(ui.paint(Style::Strong, &name));
    let owner = format_owner_suffix(metadata, context);
    ui.report(format_args!(
        "{}{owner}: {}, {} in {}",
        metadata.mode.name(),
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes),
        bytes(metadata.archive_bytes),
    ));

    if let Some(reset_at) = metadata.reset_at {
        let source = report.observation.as_ref().map_or("", |o| o.source.name());
        ui.report(format_args!(
            "weekly window resets {} (source: {source})",
            full_time(&reset_at, context)
        ));
    }

    if result.reused_bytes > 0 {
        ui.report(ui.paint(
            Style::Dim,
            format_args!(
                "{} copied from the previous archive",
                bytes(result.reused_bytes)
            ),
        ));
    }
    if let Some(id) = &result.snapshot {
        ui.report(format_args!("snapshot {id} in the vault"));
    }

    show_left_out(context, &result.excluded, &result.skipped, &result.damaged);
    note_good_copies(context, &result.damaged);
    warn_of_losses(context, &result.losses.losses);
    if let Some(vanished) = &result.losses.new_loss {
        warn_of_vanished(context, vanished);
    }
    ui.note(format_args!(
        "restore it with: codex-manager restore {}",
        shell::quote_if_needed(strip_archive_suffix(&name))
    ));
}

/// Prints the commands that bring back the first of the damaged texts.
fn note_good_copies(context: &Context, damaged: &[PathNote]) {
    let mut commands = context.suggest_restores(damaged.iter().map(|note| note.path.as_path()));
    let commands = damaged
        .iter()
        .filter_map(|note| commands.remove(&note.path));
    for command in commands.take(MAX_SUGGESTED_TEXTS) {
        context
            .ui
            .note(format_args!("its last good copy: {command}"));
    }
}

fn warn_of_losses(context: &Context, losses: &[LossJson]) {
    let Some(first) = losses.first() else {
        return;
    };
    let message_count: usize = losses.iter().map(|loss| loss.lost_messages).sum();
    let since = if losses.iter().all(|loss| loss.place == first.place) {
        format!(" since {}", strip_archive_suffix(&first.place))
    } else {
        String::new()
    };
    context.warn(format_args!(
        "{} lost {}{since}; list them with: codex-manager history losses",
        pluralize(losses.len(), "conversation"),
        pluralize(message_count, "message"),
    ));
}

fn warn_of_vanished(context: &Context, vanished: &VanishedConversations) {
    let place = &vanished.place;
    let made_at = place
        .backup
        .as_ref()
        .map(|backup| absolute_time(&backup.made_at, context));
    let Some(command) = place.format_merge_command() else {
        return;
    };
    way_back::mark_named();
    context.warn(format_args!(
        "{} of {} are not in this home: {command}",
        pluralize(vanished.count, "conversation"),
        made_at.as_deref().unwrap_or(place.display_name()),
    ));
}

pub(super) fn show_plan(context: &Context, plan: &BackupPlan) -> Result<Outcome> {
    let (scan, metadata) = plan.scan_home()?;
    // If an archive already has the name of the plan, the new archive gets a number.
    let first_free = free_paths(&plan.stem, &context.backups()).next();
    let archive_name = first_free.map_or_else(String::new, |(archive, _)| file_name(&archive));

    let result = BackupResult {
        excluded: scan.excluded,
        skipped: scan.skipped,
        damaged: scan.damaged,
        ..BackupResult::default()
    };
    let published = None;
    show_json(&metadata, &archive_name, published, &result, context);

    let ui = &context.ui;
    ui.report(format_args!(
        "would archive {}, {}, as {}",
        pluralize(metadata.files, "file"),
        bytes(metadata.bytes),
        archive_name,
    ));
    if metadata.session_start_at.is_none() {
        ui.report("the name changes if Codex reports a quota window: it begins with the start of the window");
    }

    show_left_out(context, &result.excluded, &result.skipped, &result.damaged);
    warn_of_unused_globs(context, &plan.exclude_args, &result.excluded);
    Ok(Outcome::partial_if(!result.is_complete()))
}

/// Warns of globs of the command line that match nothing, because they may be misspelled.
pub(super) fn warn_of_unused_globs(context: &Context, globs: &[String], excluded: &[PathNote]) {
    for glob in globs {
        let left_out = excluded.iter().map(|item| item.path.as_path());
        if Excludes::matches_nothing(glob, left_out) {
            let word = shell::quote_if_needed(glob);
            context.warn(format_args!("--exclude {word} matches nothing"));
        }
    }
}

pub(super) fn show_up_to_date(context: &Context, recent: &PublishedArchive) -> Outcome {
    let name = file_name(&recent.archive);
    let result = BackupResult {
        is_up_to_date: true,
        ..BackupResult::default()
    };
    show_json(&recent.metadata, &name, Some(recent), &result, context);

    let age = context.now() - recent.metadata.created_at.to_utc();
    context.note(format_args!(
        "nothing to do: {name} is {} old",
        format_duration(age),
    ));
    Outcome::Done
}
