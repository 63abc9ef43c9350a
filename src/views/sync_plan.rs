//! The output of a plan of sync, as text and as JSON.

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{self, Cell, Column, Style, Table, Ui, bytes};
use crate::views::account::short_id;
use chrono::{DateTime, Utc};
use codex_manager_core::codex::RolloutName;
use codex_manager_core::history::rollout;
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::io::pluralize;
use codex_manager_core::shutdown::ShutdownPlan;
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::conflicting_versions::ConflictingVersions;
use codex_manager_core::sync::plan::{
    Conflict, Op, SyncAction, SyncPlan, SyncStep, UndeliveredVersion,
};
use codex_manager_core::sync::rollouts::is_archived;
use codex_manager_core::sync::sides::Side;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The maximum number of steps in the table. The others are only counted.
const MAX_STEP_ROWS: usize = 20;

/// The maximum number of printed messages of each kind.
const MAX_MESSAGES: usize = 40;

/// The maximum number of printed entries of the home that are excluded from sync.
const MAX_EXCLUDED: usize = 10;

/// The JSON document of `plan` and `run`. Its keys are an interface.
#[derive(Serialize)]
pub(crate) struct PlanJson<'a> {
    pub(crate) actions: Vec<ActionJson<'a>>,
    pub(crate) conflicts: Vec<ConflictJson<'a>>,
    pub(crate) waiting: Vec<PathJson<'a>>,
    pub(crate) skipped: Vec<PathJson<'a>>,
    pub(crate) warnings: Vec<PathJson<'a>>,
    pub(crate) notes: Vec<PathJson<'a>>,
    pub(crate) left_out: Vec<PathJson<'a>>,
    pub(crate) forks: Vec<&'a str>,
    pub(crate) summary: Summary,
    pub(crate) dry_run: bool,
    pub(crate) snapshot: Option<&'a str>,
    pub(crate) closing: Option<&'a ShutdownPlan>,
}

#[derive(Serialize)]
pub(crate) struct ActionJson<'a> {
    path: &'a str,
    action: &'static str,
    reason: &'a str,
    bytes: u64,
}

#[derive(Serialize)]
pub(crate) struct PathJson<'a> {
    path: &'a str,
    reason: Cow<'a, str>,
}

impl<'a> PathJson<'a> {
    fn of(path: &'a str, reason: impl Into<Cow<'a, str>>) -> Self {
        Self {
            path,
            reason: reason.into(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Summary {
    unchanged: usize,
    bytes: u64,
    #[serde(flatten)]
    actions: BTreeMap<&'static str, usize>,
    conflicts: usize,
    waiting: usize,
    left_out: usize,
    forks: usize,
}

pub(crate) fn to_paths_json(list: &[(String, String)]) -> Vec<PathJson<'_>> {
    list.iter()
        .map(|(path, why)| PathJson::of(path, why))
        .collect()
}

#[derive(Serialize)]
pub(crate) struct ConflictJson<'a> {
    #[serde(flatten)]
    file: PathJson<'a>,
    #[serde(flatten)]
    versions: Option<VersionsJson<'a>>,
}

#[derive(Serialize)]
pub(crate) struct VersionsJson<'a> {
    #[serde(flatten)]
    versions: &'a ConflictingVersions,
    since: Option<String>,
}

impl<'a> VersionsJson<'a> {
    pub(crate) fn of(versions: &'a ConflictingVersions, context: &Context) -> Self {
        let since = versions.since.as_ref();
        Self {
            versions,
            since: since.map(|at| ui::time::rfc3339(at, context.settings.zone)),
        }
    }
}

impl<'a> ConflictJson<'a> {
    pub(crate) fn of(conflict: &'a Conflict, context: &Context) -> Self {
        let versions = conflict.versions.as_ref();
        Self {
            file: PathJson::of(&conflict.path, &conflict.reason),
            versions: versions.map(|versions| VersionsJson::of(versions, context)),
        }
    }

    /// Describes the conflict: the title or the path, and the reason.
    fn describe(&self, context: &Context) -> String {
        let PathJson { path, reason } = &self.file;
        match &self.versions {
            None => format!("{path}: {reason}"),
            Some(VersionsJson { versions, .. }) => {
                let name = format_conversation_name(versions);
                let messages = describe_messages(versions, context);
                format!("{name}: {reason}: {messages}")
            }
        }
    }
}

/// Returns the title and the short id of a conversation as printed.
pub(crate) fn format_conversation_name(versions: &ConflictingVersions) -> String {
    let id = short_id(&versions.session_id);
    match &versions.title {
        Some(title) => format!("\"{title}\" ({id})"),
        None => id.to_owned(),
    }
}

/// Describes the messages that only one of the versions of a conversation has.
pub(crate) fn describe_messages(versions: &ConflictingVersions, context: &Context) -> String {
    let format_time =
        |at: &DateTime<Utc>| ui::time::format_absolute(at, context.settings.zone, &context.now());
    versions.describe(format_time)
}

/// Returns the conflicts that the user has to decide, and the conflicts that `steps` decide by `conflict.policy`.
fn collect_conflicts<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    steps: impl Iterator<Item = &'a SyncStep>,
) -> Vec<ConflictJson<'a>> {
    let conflicts = plan.conflicts.iter();
    let undecided = conflicts.map(|conflict| ConflictJson::of(conflict, context));
    let decided = steps.filter_map(|step| {
        Some(ConflictJson {
            file: PathJson::of(&step.path, step.conflict.as_ref()?),
            versions: None,
        })
    });
    undecided.chain(decided).collect()
}

/// Returns the names of the conflict copies that wait for a decision, and of the conflict copies that `steps` create.
fn collect_conflict_copies<'a>(
    plan: &'a SyncPlan,
    steps: impl Iterator<Item = &'a SyncStep>,
) -> Vec<&'a str> {
    let waiting_copies = plan.notices.conflict_copies.iter().map(|(name, _)| &**name);
    let new_copies = steps.flat_map(SyncStep::new_conflict_copies);
    let new_names = new_copies.map(|copy| &*copy.name);
    let names: BTreeSet<&str> = waiting_copies.chain(new_names).collect();
    names.into_iter().collect()
}

/// Builds the document of a dry run, with the steps whose index is accepted by `is_selected`.
pub(crate) fn build_plan_json<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    is_selected: impl Fn(usize) -> bool,
) -> PlanJson<'a> {
    let steps = || {
        let numbered = plan.steps.iter().enumerate();
        let selected = numbered.filter(|(index, _)| is_selected(*index));
        selected.map(|(_, step)| step)
    };

    let mut actions = BTreeMap::new();
    for step in steps() {
        *actions.entry(step.action.name()).or_default() += 1;
    }

    let conflicts = collect_conflicts(context, plan, steps());
    let conflict_copies = collect_conflict_copies(plan, steps());
    let undelivered = plan.notices.undelivered.iter();
    let undelivered_json = undelivered.map(|file| PathJson::of(&file.path, file.reason()));
    let mut waiting = to_paths_json(&plan.notices.waiting);
    waiting.extend(undelivered_json);

    PlanJson {
        summary: Summary {
            unchanged: plan.unchanged,
            bytes: steps().map(|step| step.bytes).sum(),
            actions,
            conflicts: conflicts.len(),
            waiting: waiting.len(),
            left_out: plan.notices.excluded.len(),
            forks: conflict_copies.len(),
        },
        actions: steps()
            .map(|step| ActionJson {
                path: &step.path,
                action: step.action.name(),
                reason: &step.reason,
                bytes: step.bytes,
            })
            .collect(),
        conflicts,
        waiting,
        skipped: to_paths_json(&plan.notices.skipped),
        warnings: to_paths_json(&plan.notices.warnings),
        notes: to_paths_json(&plan.notices.notes),
        left_out: to_paths_json(&plan.notices.excluded),
        forks: conflict_copies,
        dry_run: true,
        snapshot: None,
        closing: None,
    }
}

const STEP_COLUMNS: [Column; 5] = [
    Column::new("ACTION"),
    Column::new("ID").only_text(),
    Column::new("FILE").shorten_middle(24),
    Column::new("SIZE").number().rank(2),
    Column::new("WHY").rank(1).wrap(20),
];

/// Summarizes steps and conflicts, as "308 → cloud folder (4.2 MB), 10 ← cloud folder (31 kB), 0 conflicts". Without
/// copies, as "0 conflicts, 1 archived".
pub(crate) fn format_totals(steps: &[&SyncStep], conflicts: usize, remote: SyncRemote) -> String {
    let remote = remote.label();
    let count_steps = |actions: &[SyncAction]| {
        let matching = steps.iter().filter(|step| actions.contains(&step.action));
        matching.fold((0, 0), |(n, size), step| (n + 1, size + step.bytes))
    };
    let format_copies = |mark: char, action| match count_steps(&[action]) {
        (0, _) => format!("0 {mark} {remote}"),
        (n, size) => format!("{n} {mark} {remote} ({})", bytes(size)),
    };

    let mut other_counts: BTreeMap<&str, usize> = BTreeMap::new();
    for change in steps.iter().filter_map(|step| describe_change(step)) {
        *other_counts.entry(change).or_default() += 1;
    }
    let other_parts = other_counts.into_iter().map(|(change, n)| match change {
        CONFLICT_COPY => pluralize(n, CONFLICT_COPY),
        change => format!("{n} {change}"),
    });
    let other_parts: Vec<_> = other_parts.collect();

    let conflicts = pluralize(conflicts, "conflict");
    let (copied_count, _) = count_steps(&[SyncAction::CopyToCloud, SyncAction::CopyToLocal]);
    let first_parts = if copied_count == 0 && !other_parts.is_empty() {
        vec![conflicts]
    } else {
        vec![
            format_copies('→', SyncAction::CopyToCloud),
            format_copies('←', SyncAction::CopyToLocal),
            conflicts,
        ]
    };
    [first_parts, other_parts].concat().join(", ")
}

const CONFLICT_COPY: &str = "conflict copy";

/// Names the change that a step makes, for a summary; `None` for a copy to the other side.
fn describe_change(step: &SyncStep) -> Option<&'static str> {
    match step.action {
        SyncAction::CopyToCloud | SyncAction::CopyToLocal => None,
        SyncAction::Merge => Some("merged"),
        SyncAction::MoveLocal | SyncAction::MoveCloud => {
            // Each pair is true for a rollout that is archived, before and after the rename.
            let mut is_archived_pairs = step.ops.iter().filter_map(|op| match op {
                Op::Rename { from, to } => Some((is_archived(&from.path), is_archived(&to.path))),
                _ => None,
            });
            Some(match is_archived_pairs.next() {
                Some((false, true)) => "archived",
                Some((true, false)) => "unarchived",
                _ => "moved",
            })
        }
        SyncAction::DeleteCloud | SyncAction::DeleteLocal => Some("deleted"),
        SyncAction::RemoveDuplicate => Some("deduplicated"),
        SyncAction::KeepConflictCopy | SyncAction::UpdateConflictCopy => Some(CONFLICT_COPY),
    }
}

/// Prints the steps of the plan as a table: conversations by title on a terminal, by path elsewhere.
pub(crate) fn show_steps(context: &Context, config: &SyncConfig, plan: &SyncPlan) {
    let ui = &context.ui;
    if plan.steps.is_empty() {
        return;
    }

    let mut table = Table::new(ui, STEP_COLUMNS);
    // A program that reads the output as TSV gets all steps.
    let max_rows = if ui.wants_tsv() {
        plan.steps.len()
    } else {
        MAX_STEP_ROWS
    };
    let shown_steps = &plan.steps[..max_rows.min(plan.steps.len())];

    let titles = if ui.writes_to_terminal() && !ui.wants_tsv() {
        read_step_titles(context, config, shown_steps)
    } else {
        Vec::new()
    };

    for (index, step) in shown_steps.iter().enumerate() {
        let size = step.bytes.max(step.removed_bytes());
        let conversation = titles.get(index).and_then(Option::as_ref);
        // Without a title, the path names the step.
        let (id, name) = match conversation {
            Some((id, title)) => (short_id(id), title),
            None => ("", &step.path),
        };
        table.add_row([
            Cell::new(Style::Strong, step.action.name()),
            Cell::plain(id),
            Cell::plain(name).value(&step.path),
            Cell::new(Style::Dim, bytes(size)).value(size),
            Cell::new(Style::Dim, &*step.reason),
        ]);
    }

    table.print(ui);
    if plan.steps.len() > shown_steps.len() {
        ui.line(format_args!(
            "… and {} more; --json has all",
            plan.steps.len() - shown_steps.len()
        ));
    }
}

/// Returns the id and the title of the conversation of each step; `None` for other files.
fn read_step_titles(
    context: &Context,
    config: &SyncConfig,
    steps: &[SyncStep],
) -> Vec<Option<(String, String)>> {
    let find_id = |step: &SyncStep| {
        RolloutName::parse(Path::new(&step.path))?
            .id()
            .map(str::to_lowercase)
    };
    let ids = steps.iter().filter_map(find_id).collect();
    let listed_titles = read_titles(&config.local, &context.env, ids);

    let title = |step: &SyncStep| {
        let id = find_id(step)?;
        // A conversation that Codex does not list has its title in one of its files.
        let sides = [Side::Local, Side::Remote].map(|side| config.file_path(side, &step.path));
        let read_title = || sides.iter().find_map(|path| rollout::read_title(path));
        let title = listed_titles
            .get(&id)
            .cloned()
            .or_else(read_title)
            .unwrap_or_default();
        Some((id, title))
    };
    steps.iter().map(title).collect()
}

/// Prints the warnings of the plan, then what is not synced: files that wait or have not arrived, skipped files,
/// conflicts, and conflict copies without a decision.
pub(crate) fn print_unsynced<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    config: &SyncConfig,
    steps: impl Iterator<Item = &'a SyncStep> + Clone,
) {
    let ui = &context.ui;
    for (path, why) in &plan.notices.warnings {
        ui.warn(format_args!("{path} {why}"));
    }

    let waiting = "not synced until it is complete";
    print_messages(waiting, &plan.notices.waiting, MAX_MESSAGES, |text| {
        ui.warn(text);
    });
    if plan.notices.may_accept_unlisted {
        ui.note(
            "sync these files without waiting, except those with a newer published version: --accept-unlisted",
        );
    }

    print_undelivered(ui, &plan.notices.undelivered);
    print_messages("not synced", &plan.notices.skipped, MAX_MESSAGES, |text| {
        ui.warn(text);
    });
    if plan.notices.holds_deletions {
        ui.note("apply these deletions with: --delete-many; copy the files back with: sync.delete_policy = \"never\"");
    }

    if config.policy.report_conflicts {
        for conflict in collect_conflicts(context, plan, steps.clone()) {
            ui.warn(format_args!("conflict: {}", conflict.describe(context)));
        }
    }

    let conflict_copies = collect_conflict_copies(plan, steps);
    for name in &conflict_copies {
        ui.warn(format_args!(
            "a conflict copy of a conversation waits for your decision: {name}"
        ));
    }
    if !conflict_copies.is_empty() {
        ui.note("list and resolve them with: codex-manager sync resolve");
    }
}

/// Prints the versions that other machines list and that have not arrived in the cloud folder.
fn print_undelivered(ui: &Ui, undelivered: &[UndeliveredVersion]) {
    for message in UndeliveredVersion::format_summary_by_machine(undelivered) {
        ui.warn(message);
    }
    for file in undelivered {
        let reason = file.reason();
        ui.detail(format_args!("not arrived: {}: {reason}", file.path));
    }
    if !undelivered.is_empty() {
        ui.note(
            "wait until the cloud client has delivered them; a conversation that you continue now becomes a \
             conflict; before you start Codex on this machine run: codex-manager sync run --apply",
        );
    }
}

/// Prints the files that sync leaves alone and that need no action of the user.
pub(crate) fn print_notes(context: &Context, plan: &SyncPlan) {
    let ui = &context.ui;
    print_messages("note", &plan.notices.notes, MAX_MESSAGES, |text| {
        ui.note(text);
    });
    print_messages("excluded", &plan.notices.excluded, MAX_EXCLUDED, |text| {
        ui.note(text);
    });
}

/// Prints the first messages, each after `kind`, and the number of the others.
fn print_messages(kind: &str, messages: &[(String, String)], max: usize, print: impl Fn(String)) {
    for (path, why) in messages.iter().take(max) {
        print(format!("{kind}: {path}: {why}"));
    }
    let unnamed_count = messages.len().saturating_sub(max);
    if unnamed_count > 0 {
        print(format!("{kind}: {unnamed_count} more; --json names them"));
    }
}

/// Summarizes a plan: the steps and conflicts, or "nothing to do", and the number of files that are the same on both
/// sides.
pub(crate) fn format_summary(plan: &SyncPlan, remote: SyncRemote) -> String {
    let steps: Vec<_> = plan.steps.iter().collect();
    let totals = if steps.is_empty() && plan.conflicts.is_empty() {
        "nothing to do:".to_owned()
    } else {
        format_totals(&steps, plan.conflicts.len(), remote) + ";"
    };
    let verb = if plan.unchanged == 1 { "is" } else { "are" };
    let files = pluralize(plan.unchanged, "file");
    format!("{totals} {files} {verb} the same on both sides")
}

/// Returns the error for the conflicts of a plan, or of a run that changed nothing because of them.
pub(crate) fn undecided_error(plan: &SyncPlan, config: &SyncConfig) -> CommandError {
    let error = conflict_error(plan)
        .hint("list and resolve them with: codex-manager sync resolve; nothing was changed");
    if plan.is_stopped_by_conflict(config.policy.rules.conflict) {
        error
            .hint("conflict.policy = \"manual\" leaves such files as they are and syncs all others")
    } else {
        error
    }
}

/// Returns the error for the conflicts of a run that synced all other files.
pub(crate) fn undecided_files_error(plan: &SyncPlan) -> CommandError {
    conflict_error(plan).hint(
        "list and resolve them with: codex-manager sync resolve; these files are unchanged on both sides",
    )
}

fn conflict_error(plan: &SyncPlan) -> CommandError {
    // Only a conflict of a conversation has versions.
    let are_conversations = plan.conflicts.iter().all(|c| c.versions.is_some());
    let noun = if are_conversations {
        "conversation"
    } else {
        "file"
    };
    let count = pluralize(plan.conflicts.len(), noun);
    CommandError::conflict(format!("{count} in conflict"))
}
