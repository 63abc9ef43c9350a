//! The output of `restore` and `vault restore`: the archive, the plan, the result.

use crate::context::Context;
use crate::ui::{JsonFields, JsonObject, Style, bytes, object};
use crate::views::account;
use crate::views::conversation_changes::ConversationChanges;
use codex_manager_core::accounts::AuthOutcome;
use codex_manager_core::archive::{ArchiveReader, EntryName, Metadata, NameSet};
use codex_manager_core::codex::kind_of;
use codex_manager_core::inventory::archive_names::{self, file_name, strip_archive_suffix};
use codex_manager_core::inventory::catalog;
use codex_manager_core::io::{pluralize, shell, similar};
use codex_manager_core::restore::apply::{self, RestoreReport};
use codex_manager_core::restore::plan::unchanged_files::find_unchanged;
use codex_manager_core::restore::plan::{RestorePlan, RestoreTarget};
use codex_manager_core::restore::{LoginPreview, RestoreRequest};

/// Describes an archive or a snapshot (`noun`): its name, kind, account and age, the files that `--exclude` left out,
/// and its home if that is not the Codex home of the command.
pub(crate) fn describe_archive(context: &Context, archive: &ArchiveReader, noun: &str) -> String {
    let metadata = archive.metadata();
    let owner = account::owner_name(metadata, context);
    let excluded = match &*archive.contents().excluded_globs {
        [] => String::new(),
        globs => format!(", without {}", similar::join_first_names(globs)),
    };
    format!(
        "{}: {} {noun} of {}, made {}{}{}",
        account::printable(&file_name(archive.path())),
        archive_names::format_kind(metadata),
        owner.as_deref().unwrap_or("a signed-out home"),
        account::full_time(&metadata.created_at, context),
        describe_other_home(metadata, context),
        account::printable(&excluded)
    )
}

/// Returns ", from another home: PATH" for an archive of another home, and ", from another machine" for one of the same
/// path on another machine. Empty for an archive of this home.
pub(crate) fn describe_other_home(metadata: &Metadata, context: &Context) -> String {
    let (codex_home, machine) = (context.codex_home(), context.machine());
    if metadata.is_of_home(codex_home, machine.as_deref()) {
        return String::new();
    }
    let has_same_path = metadata.is_of_home(codex_home, metadata.machine.as_deref());
    if has_same_path {
        return ", from another machine".into();
    }
    let home = account::printable(&metadata.source_codex_home);
    format!(", from another home: {home}")
}

/// Returns the beginning of the JSON document. Its keys are an interface.
fn start_json<'a>(
    request: &'a RestoreRequest<'_>,
    (files, bytes): (u64, u64),
    unchanged: u64,
    removed: &'a [String],
) -> JsonObject<impl JsonFields + use<'a>> {
    object()
        .with("archive", file_name(request.archive.path()))
        .with("email", &request.archive.metadata().email)
        .with("target", &request.folder)
        .with("files", files)
        .with("bytes", bytes)
        .with("unchanged", unchanged)
        .with("removed", removed)
}

fn list_names(names: &NameSet) -> Vec<String> {
    let names = names.to_sorted_names().into_iter();
    names.map(|name| name.to_string()).collect()
}

/// Describes the live files that `plan` replaces, as "308 files (10 differ in size or time)" or "308 files (all have
/// the same size and time)". `unchanged` has the files whose size and mtime are the same in the archive.
pub(crate) fn describe_replaced(plan: &RestorePlan, unchanged: &NameSet) -> String {
    let replaced = plan.writes.len() - plan.added.len();
    let differing = replaced - unchanged.len();
    let files = pluralize(replaced, "file");
    match (replaced, differing) {
        (0, _) => files,
        (1, 0) => format!("{files} (with the same size and time)"),
        (_, 0) => format!("{files} (all have the same size and time)"),
        (_, 1) => format!("{files} (1 differs in size or time)"),
        _ => format!("{files} ({differing} differ in size or time)"),
    }
}

/// Prints the plan of a dry run. `login` is `None` if the choice needs the login of a snapshot that is not downloaded.
pub(crate) fn show_plan(
    context: &Context,
    command: &str,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    conversations: &ConversationChanges,
    login: Option<&LoginPreview>,
    notes: &[String],
) {
    let unchanged = find_unchanged(request.archive.contents(), plan, &request.folder);
    let is_rollout = |name: &EntryName| kind_of(name.as_path()).is_rollout_folder();
    let mut unchanged_rollouts = NameSet::with_name_table(unchanged.name_table());
    unchanged_rollouts.extend(unchanged.iter().filter(is_rollout));

    let mut restored_names = plan.writes.clone();
    if plan.merge {
        // A merge does not write unchanged rollouts.
        restored_names = restored_names.without(&unchanged_rollouts);
    }
    let login_outcome = login.map(|login| login.outcome);
    // A login that is not downloaded yet counts as restored.
    let counted_outcome = login_outcome.unwrap_or(AuthOutcome::Restored);
    let restored = apply::count_restored(request.archive, &restored_names, counted_outcome);

    let removed_names = list_names(&plan.removed_files());
    let unchanged_count = unchanged_rollouts.len() as u64;
    let counts = (restored.files, restored.bytes);
    let json = start_json(request, counts, unchanged_count, &removed_names)
        // A dry run makes none.
        .with("safety_backup", None::<()>)
        .with("auth", login_outcome)
        .with("notes", notes)
        .with("dry_run", true);
    context.ui.document(command, &json);

    let ui = &context.ui;
    ui.report(format_args!(
        "would restore {} ({}) into {}",
        describe_content(
            conversations,
            login.is_some_and(|login| brings_login(
                login.outcome,
                login.is_replaced,
                request.target
            )),
            restored.files
        ),
        bytes(restored.bytes),
        context.env.shorten_home(&request.folder),
    ));

    let shows_files = conversations.is_empty() || ui.is_verbose();
    if request.target == RestoreTarget::Home && shows_files {
        ui.report(format_args!(
            "  besides the login: {} replaced, {} added, {} removed",
            describe_replaced(plan, &unchanged),
            plan.added.len(),
            removed_names.len(),
        ));
    }

    if let Some(login) = login {
        let login_line = describe_login(login.outcome, login.is_replaced, request.target);
        ui.report(format_args!("  {login_line}"));
    }

    if let Some(removal) = conversations.describe_removal() {
        ui.report(ui.paint(Style::Warn, format_args!("  {removal}")));
    }
    let other_removed = conversations.list_other_removed(&removed_names);
    let shown_names = if shows_files {
        &removed_names
    } else {
        &other_removed
    };
    for path in shown_names {
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
    request: &RestoreRequest<'_>,
    report: &RestoreReport,
    conversations: &ConversationChanges,
) {
    let removed = list_names(&report.removed);
    let safety = report.safety.as_ref();
    let safety = safety.map(|s| catalog::relative_name(&context.backups(), &s.archive));

    let counts = (report.files, report.bytes);
    let json = start_json(request, counts, report.unchanged, &removed)
        .with("safety_backup", &safety)
        .with("auth", report.auth)
        .with("notes", &report.notes)
        .with("dry_run", false);
    context.ui.document(command, &json);

    let ui = &context.ui;
    let unchanged = match report.unchanged {
        0 => String::new(),
        1 => "; 1 was unchanged".to_owned(),
        count => format!("; {count} were unchanged"),
    };
    ui.report(format_args!(
        "{} {}, {}, into {}{unchanged}",
        ui.paint(Style::Good, "restored"),
        describe_content(
            conversations,
            brings_login(report.auth, report.is_login_replaced, request.target),
            report.files
        ),
        bytes(report.bytes),
        context.env.shorten_home(&request.folder),
    ));

    let (auth, is_replaced) = (report.auth, report.is_login_replaced);
    ui.report(describe_login(auth, is_replaced, request.target));

    if let Some(removed) = conversations.describe_removed() {
        ui.report(format_args!("removed {removed}"));
    }
    let other_removed = conversations.list_other_removed(&removed);
    if !other_removed.is_empty() {
        let verb = if other_removed.len() == 1 {
            "is"
        } else {
            "are"
        };
        let files = pluralize(other_removed.len(), "file");
        ui.report(format_args!(
            "removed {files} that {verb} not in the archive"
        ));
    }

    for note in &report.notes {
        ui.note(format_args!("note: {note}"));
    }
    show_next(context, request, safety.as_deref());
}

/// Describes the restored conversations and the login, else the number of files.
fn describe_content(conversations: &ConversationChanges, brings_login: bool, files: u64) -> String {
    if conversations.restored == 0 {
        return pluralize(files, "file");
    }
    conversations.describe_restored(brings_login)
}

/// Returns true if the target has another login after the restore than before.
fn brings_login(outcome: AuthOutcome, is_replaced: bool, target: RestoreTarget) -> bool {
    is_replaced || (outcome == AuthOutcome::Restored && target == RestoreTarget::Elsewhere)
}

/// Describes the login of the target after the restore. `is_replaced` is true if the target had another login or none.
fn describe_login(outcome: AuthOutcome, is_replaced: bool, target: RestoreTarget) -> &'static str {
    match (outcome, target) {
        (AuthOutcome::Restored, RestoreTarget::Home) if !is_replaced => {
            "login: unchanged, the same as in the archive"
        }
        (AuthOutcome::Restored, _) => "login: from the archive",
        (AuthOutcome::KeptNewer, _) => "login: a newer one instead of the archive's",
        (AuthOutcome::Skipped, RestoreTarget::Home) => "login: unchanged",
        (AuthOutcome::Skipped, RestoreTarget::Elsewhere) => "login: none",
    }
}

/// Prints the command that undoes the restore of a home, or that uses a restored folder.
fn show_next(context: &Context, request: &RestoreRequest<'_>, safety: Option<&str>) {
    let ui = &context.ui;
    match safety {
        Some(safety) => ui.note(format_args!(
            "undo with: codex-manager restore {}",
            shell::quote_if_needed(strip_archive_suffix(safety))
        )),
        None if request.target == RestoreTarget::Elsewhere => ui.note(format_args!(
            "use it with: CODEX_HOME={} codex",
            shell::quote_if_needed(&request.folder.to_string_lossy())
        )),
        None => {}
    }
}
