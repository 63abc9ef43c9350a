//! The output of `restore` and `vault restore`: the archive, the plan, the result.

use crate::accounts::login_selection::AuthOutcome;
use crate::archive::metadata::Metadata;
use crate::archive::name_table::NameSet;
use crate::archive::reader::ArchiveReader;
use crate::codex::home::{AUTH_JSON, HomeEntryKind, kind_of};
use crate::context::Context;
use crate::inventory::archive_names::{self, file_name, strip_archive_suffix};
use crate::inventory::catalog;
use crate::io::quantity::pluralize;
use crate::io::shell;
use crate::restore::apply::RestoreReport;
use crate::restore::plan::{RestorePlan, RestoreTarget};
use crate::restore::request::RestoreRequest;
use crate::ui::{JsonFields, JsonObject, Style, bytes, object};
use crate::views::account;

/// Describes an archive or a snapshot (`noun`): its name, kind, account and age, and its home if that is another one.
pub(crate) fn describe_archive(context: &Context, archive: &ArchiveReader, noun: &str) -> String {
    let metadata = archive.metadata();
    let owner = account::owner_name(metadata, context);
    format!(
        "{}: {} {noun} of {}, made {}{}",
        account::printable(&file_name(archive.path())),
        archive_names::format_kind(metadata),
        owner.as_deref().unwrap_or("a signed-out home"),
        account::full_time(&metadata.created_at, context),
        describe_other_home(metadata, context)
    )
}

/// Returns ", from another home: PATH" for an archive of another home; empty for one of this home.
pub(crate) fn describe_other_home(metadata: &Metadata, context: &Context) -> String {
    if metadata.is_of_home(context.codex_home()) {
        return String::new();
    }
    let home = account::printable(&metadata.source_codex_home);
    format!(", from another home: {home}")
}

/// Returns the beginning of the JSON document. Its keys are an interface.
fn start_json<'a>(
    archive: &'a ArchiveReader,
    request: &'a RestoreRequest<'_>,
) -> JsonObject<impl JsonFields + use<'a>> {
    object()
        .with("archive", file_name(archive.path()))
        .with("email", &archive.metadata().email)
        .with("target", &request.folder)
}

/// Returns the names of the removed files. Leaves out the side files of databases, because their databases are
/// replaced.
pub(crate) fn list_removed_names(removed: &NameSet) -> Vec<String> {
    let names = removed.to_sorted_names().into_iter();
    names
        .filter(|name| kind_of(name.as_path()) != HomeEntryKind::DatabaseSidecar)
        .map(|name| name.to_string())
        .collect()
}

/// Describes the live files that `plan` replaces, as "308 files (10 differ in size or time)". `unchanged` has the files
/// whose size and mtime are the same in the archive.
pub(crate) fn describe_replaced(plan: &RestorePlan, unchanged: &NameSet) -> String {
    let replaced = plan.writes.len() - plan.added.len();
    let differing = replaced - unchanged.len();
    let verb = if differing == 1 { "differs" } else { "differ" };
    let files = pluralize(replaced, "file");
    format!("{files} ({differing} {verb} in size or time)")
}

pub(crate) fn show_plan(
    context: &Context,
    command: &str,
    request: &RestoreRequest<'_>,
    (plan, unchanged): (&RestorePlan, &NameSet),
    notes: &[String],
) {
    let removed_names = list_removed_names(&plan.removed);
    let file_count = plan.writes.len() + usize::from(plan.wants_login);

    let json = start_json(request.archive, request)
        .with("files", file_count)
        .with("bytes", plan.bytes)
        .with("unchanged", unchanged.len())
        .with("removed", &removed_names)
        .with("safety_backup", None::<()>)
        .with("auth", (!plan.wants_login).then_some(AuthOutcome::Skipped))
        .with("notes", notes)
        .with("dry_run", true);
    context.ui.document(command, &json);

    let ui = &context.ui;
    ui.report(format_args!(
        "would restore {} ({}) into {}",
        pluralize(file_count, "file"),
        bytes(plan.bytes),
        request.folder.display(),
    ));

    if request.target == RestoreTarget::Home {
        ui.report(format_args!(
            "  besides the login: {} replaced, {} added, {} removed",
            describe_replaced(plan, unchanged),
            plan.added.len(),
            removed_names.len(),
        ));
    }

    for path in &removed_names {
        ui.report(ui.paint(Style::Warn, format_args!("  remove {path}")));
    }
    for note in notes {
        ui.note(format_args!("note: {note}"));
    }
}

/// Prints the result of a restore, with the command that undoes it.
pub(crate) fn show_report(
    context: &Context,
    command: &str,
    archive: &ArchiveReader,
    request: &RestoreRequest<'_>,
    report: &RestoreReport,
) {
    let removed = list_removed_names(&report.removed);
    let safety = report
        .safety
        .as_ref()
        .map(|s| catalog::relative_name(&context.backups(), &s.archive));

    let json = start_json(archive, request)
        .with("files", report.files)
        .with("bytes", report.bytes)
        .with("unchanged", report.unchanged)
        .with("removed", &removed)
        .with("safety_backup", &safety)
        .with("auth", report.auth)
        .with("notes", &report.notes)
        .with("dry_run", false);
    context.ui.document(command, &json);

    let ui = &context.ui;
    ui.report(format_args!(
        "{} {}, {}, into {}",
        ui.paint(Style::Good, "restored"),
        pluralize(report.files, "file"),
        bytes(report.bytes),
        request.folder.display(),
    ));

    if report.unchanged > 0 {
        let verb = if report.unchanged == 1 { "was" } else { "were" };
        ui.report(format_args!(
            "{} of them {verb} already equal",
            report.unchanged
        ));
    }

    ui.report(match report.auth {
        AuthOutcome::Restored => "login: restored from the archive",
        AuthOutcome::KeptNewer => "login: kept a newer one instead of the archive's",
        AuthOutcome::Skipped => "login: unchanged",
    });

    if !removed.is_empty() {
        let verb = if removed.len() == 1 { "is" } else { "are" };
        let removed = pluralize(removed.len(), "file");
        ui.report(format_args!(
            "removed {removed} that {verb} not in the archive"
        ));
    }

    for note in &report.notes {
        ui.note(format_args!("note: {note}"));
    }
    show_next(context, request, safety.as_deref(), report.auth);
}

/// Prints the command that undoes the restore of a home, or that uses a restored folder.
fn show_next(
    context: &Context,
    request: &RestoreRequest<'_>,
    safety: Option<&str>,
    auth: AuthOutcome,
) {
    let ui = &context.ui;
    let quoted_folder = shell::quote_if_needed(&request.folder.to_string_lossy());
    match safety {
        Some(safety) => ui.note(format_args!(
            "undo with: codex-manager restore {}",
            shell::quote_if_needed(strip_archive_suffix(safety))
        )),
        // Codex 0.169 revokes the login in a home before `codex login` signs in there, and with it the original.
        None if request.target == RestoreTarget::Elsewhere && auth == AuthOutcome::Restored => {
            let auth_path = request.folder.join(AUTH_JSON);
            let quoted_path = shell::quote_if_needed(&auth_path.to_string_lossy());
            ui.note(format_args!(
                "use it with a login of its own: rm {quoted_path} && CODEX_HOME={quoted_folder} codex"
            ));
        }
        None if request.target == RestoreTarget::Elsewhere => ui.note(format_args!(
            "use it with: CODEX_HOME={quoted_folder} codex"
        )),
        None => {}
    }
}
