//! Shared by the `sync` commands: the configuration, the lock, and the output of a plan.

use crate::context::Context;
use crate::error::CommandError;
use crate::io::lock::{FileLock, LockError};
use crate::io::quantity::pluralize;
use crate::io::{IoContext, atomic, shell};
use crate::shutdown::ShutdownPlan;
use crate::sync::config::{ConfigContext, SyncConfig};
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::index_updates::{CodexIndex, IndexUpdate, IndexUpdater};
use crate::sync::pending_index_updates::{self, PendingIndexUpdates};
use crate::sync::plan::{Conflict, SyncPlan, SyncStep, UndeliveredVersion};
use crate::sync::state::Replica;
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time::bytes;
use crate::ui::{self, Style};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of rows that a table shows; further ones are only counted.
const MAX_TABLE_ROWS: usize = 40;

/// Returns the path of the configuration.
pub(super) fn config_path(context: &Context, given: Option<&Path>) -> PathBuf {
    match given {
        Some(path) => context.env.absolute(path),
        None => context.manager_path("sync.toml"),
    }
}

/// Returns the command line `codex-manager sync …` for the configuration at `path`.
pub(super) fn command(context: &Context, path: &Path, rest: &str) -> String {
    if path == config_path(context, None) {
        format!("codex-manager sync {rest}")
    } else {
        let config = shell::word(&path.to_string_lossy());
        format!("codex-manager sync -c {config} {rest}")
    }
}

/// Reads the configuration and prints its warnings to stderr.
pub(super) fn read_config(context: &Context, path: &Path) -> Result<SyncConfig, CommandError> {
    let config = read_quietly(context, path)?;
    for warning in &config.warnings {
        context.ui.warn(warning);
    }
    Ok(config)
}

/// Reads the configuration without printing its warnings.
pub(super) fn read_quietly(context: &Context, path: &Path) -> Result<SyncConfig, CommandError> {
    Ok(SyncConfig::read(path, &config_context(context))?)
}

/// Returns the paths to which values of a configuration refer.
pub(super) fn config_context(context: &Context) -> ConfigContext<'_> {
    ConfigContext {
        env: &context.env,
        codex_home: &context.settings.codex_home,
        manager_home: &context.settings.manager_home,
    }
}

/// Returns the replica of this home and this cloud folder.
pub(super) fn replica(context: &Context, config: &SyncConfig) -> Replica {
    Replica::of(&context.settings.manager_home, &config.local, &config.cloud)
}

/// Time to wait for a lock that is not held by a run: a process that forks holds it until the child calls
/// `exec`.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Locks the replica, because two runs at once would each undo what the other one plans.
pub(super) fn lock(replica: &Replica) -> Result<FileLock, CommandError> {
    atomic::create_private_folder(&replica.folder)?;
    FileLock::exclusive_within(&replica.lock_file(), LOCK_WAIT).map_err(|e| match e {
        LockError::Held(_) => CommandError::failed("another sync of this folder is running")
            .hint("wait for it to end; nothing was changed"),
        LockError::Io(e) => e.into(),
    })
}

/// Updates Codex's index with the `updates` of this run and the pending ones of earlier runs. The caller
/// holds the lock of the replica and has made sure that Codex does not use the home.
pub(super) fn update_codex_index(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
    updates: &[IndexUpdate],
) -> Result<(), CommandError> {
    let noted = PendingIndexUpdates::of(replica);
    let all = pending_index_updates::merge_updates(
        noted.read()?.into_iter().chain(updates.iter().cloned()),
    );
    let codex_index = CodexIndex {
        env: &context.env,
        rules: &config.path_rules,
    };
    for note in codex_index.update_index(&config.local, &all, &noted.renamed_ids()?)? {
        context.ui.note(note);
    }
    Ok(noted.clear()?)
}

/// Returns true if an earlier run ended before it updated Codex's index.
pub(super) fn has_pending_index_updates(replica: &Replica) -> bool {
    let left = PendingIndexUpdates::of(replica);
    left.read().is_ok_and(|left| !left.is_empty())
        || left.renamed_ids().is_ok_and(|named| !named.is_empty())
}

/// Updates Codex's index with the updates of earlier runs, before anything can end this run. A failure is
/// only printed, because the update is tried again after this run's files are in place.
pub(super) fn flush_pending_index_updates(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) {
    if has_pending_index_updates(replica)
        && let Err(error) = update_codex_index(context, config, replica, &[])
    {
        context.ui.warn(error);
    }
}

/// The JSON document of `plan` and `run`. Its keys are an interface.
#[derive(Serialize)]
pub(super) struct PlanJson<'a> {
    pub(super) actions: Vec<ActionJson<'a>>,
    pub(super) conflicts: Vec<ConflictJson<'a>>,
    pub(super) waiting: Vec<PathJson<'a>>,
    pub(super) skipped: Vec<PathJson<'a>>,
    pub(super) warnings: Vec<PathJson<'a>>,
    pub(super) notes: Vec<PathJson<'a>>,
    pub(super) left_out: Vec<PathJson<'a>>,
    pub(super) forks: Vec<&'a str>,
    pub(super) summary: Summary,
    pub(super) dry_run: bool,
    pub(super) snapshot: Option<&'a str>,
    pub(super) closing: Option<&'a ShutdownPlan>,
}

#[derive(Serialize)]
pub(super) struct ActionJson<'a> {
    path: &'a str,
    action: &'static str,
    reason: &'a str,
    bytes: u64,
}

#[derive(Serialize)]
pub(super) struct PathJson<'a> {
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
pub(super) struct Summary {
    unchanged: usize,
    bytes: u64,
    #[serde(flatten)]
    actions: BTreeMap<&'static str, usize>,
    conflicts: usize,
    waiting: usize,
    left_out: usize,
    forks: usize,
}

pub(super) fn with_reasons(list: &[(String, String)]) -> Vec<PathJson<'_>> {
    list.iter()
        .map(|(path, why)| PathJson::of(path, why))
        .collect()
}

#[derive(Serialize)]
pub(super) struct ConflictJson<'a> {
    #[serde(flatten)]
    file: PathJson<'a>,
    #[serde(flatten)]
    versions: Option<VersionsJson<'a>>,
}

/// The versions of a conversation in conflict.
#[derive(Serialize)]
pub(super) struct VersionsJson<'a> {
    #[serde(flatten)]
    versions: &'a ConflictingVersions,
    since: Option<String>,
}

impl<'a> VersionsJson<'a> {
    pub(super) fn of(versions: &'a ConflictingVersions, context: &Context) -> Self {
        let since = versions.since();
        Self {
            versions,
            since: since.map(|at| ui::time::rfc3339(at, context.settings.zone)),
        }
    }
}

impl<'a> ConflictJson<'a> {
    pub(super) fn of(conflict: &'a Conflict, context: &Context) -> Self {
        let versions = conflict.versions.as_ref();
        Self {
            file: PathJson::of(&conflict.path, &conflict.reason),
            versions: versions.map(|versions| VersionsJson::of(versions, context)),
        }
    }

    /// Returns the conflict as printed: the title or the path, and why it is one.
    fn describe(&self, context: &Context) -> String {
        let PathJson { path, reason } = &self.file;
        match &self.versions {
            None => format!("{path}: {reason}"),
            Some(VersionsJson { versions, .. }) => {
                let name = name_of(versions);
                let messages = describe_messages(versions, "in the cloud folder", context);
                format!("{name}: {reason}: {messages}")
            }
        }
    }
}

/// Returns the title and the id of a conversation as printed.
pub(super) fn name_of(versions: &ConflictingVersions) -> String {
    let id = versions.session_id();
    match versions.title() {
        Some(title) => format!("\"{title}\" ({id})"),
        None => id.to_owned(),
    }
}

/// Returns what each version of a conversation has of its own; `other` is the place of the other version.
pub(super) fn describe_messages(
    versions: &ConflictingVersions,
    other: &str,
    context: &Context,
) -> String {
    let time = |at: &DateTime<Utc>| ui::time::absolute(at, context.settings.zone, &context.now());
    versions.describe(other, time)
}

/// Returns the conflicts that need a decision, and those that these steps decide by `conflict.policy`.
fn conflicts_of<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    steps: impl Iterator<Item = &'a SyncStep>,
) -> Vec<ConflictJson<'a>> {
    let open = plan.conflicts.iter();
    let open = open.map(|conflict| ConflictJson::of(conflict, context));
    let ended = steps.filter_map(|step| {
        Some(ConflictJson {
            file: PathJson::of(&step.path, step.conflict.as_ref()?),
            versions: None,
        })
    });
    open.chain(ended).collect()
}

/// Returns the names of conflict copies that wait for a decision, with those that these steps create.
fn conflict_copies_of<'a>(
    plan: &'a SyncPlan,
    steps: impl Iterator<Item = &'a SyncStep>,
) -> Vec<&'a str> {
    let known = plan.notices.conflict_copies.iter().map(|(name, _)| &**name);
    let names: BTreeSet<&str> = known
        .chain(steps.flat_map(SyncStep::new_conflict_copies))
        .collect();
    names.into_iter().collect()
}

/// Builds the document for the steps whose index `wants` accepts.
pub(super) fn document<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    wants: impl Fn(usize) -> bool,
) -> PlanJson<'a> {
    let steps = || {
        let numbered = plan.steps.iter().enumerate();
        numbered.filter(|(i, _)| wants(*i)).map(|(_, step)| step)
    };
    let mut actions = BTreeMap::new();
    for step in steps() {
        *actions.entry(step.action.name()).or_default() += 1;
    }
    let conflicts = conflicts_of(context, plan, steps());
    let forks = conflict_copies_of(plan, steps());
    let undelivered = plan.notices.undelivered.iter();
    let undelivered = undelivered.map(|file| PathJson::of(&file.path, file.reason()));
    let mut waiting = with_reasons(&plan.notices.waiting);
    waiting.extend(undelivered);
    PlanJson {
        summary: Summary {
            unchanged: plan.unchanged,
            bytes: steps().map(|step| step.bytes).sum(),
            actions,
            conflicts: conflicts.len(),
            waiting: waiting.len(),
            left_out: plan.notices.excluded.len(),
            forks: forks.len(),
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
        skipped: with_reasons(&plan.notices.skipped),
        warnings: with_reasons(&plan.notices.warnings),
        notes: with_reasons(&plan.notices.notes),
        left_out: with_reasons(&plan.notices.excluded),
        forks,
        dry_run: true,
        snapshot: None,
        closing: None,
    }
}

/// Returns true if Codex has to end before the plan is applied: unless there is nothing to do, or a conflict
/// stops the run. This includes files that only go to the cloud folder, because half a turn could be copied.
pub(super) fn needs_shutdown(plan: &SyncPlan, config: &SyncConfig) -> bool {
    !plan.steps.is_empty() && !plan.is_stopped(config.policy.rules.conflict)
}

const STEP_COLUMNS: [Column; 4] = [
    Column::new("ACTION"),
    Column::new("FILE").shorten_middle(24),
    Column::new("SIZE").number().rank(2),
    Column::new("WHY").rank(1).wrap(16),
];

/// Prints the steps of the plan as a table.
pub(super) fn show_steps(context: &Context, plan: &SyncPlan) {
    let ui = &context.ui;
    if plan.steps.is_empty() {
        return;
    }
    let mut table = Table::new(ui, STEP_COLUMNS);
    let shown = if ui.wants_tsv() {
        plan.steps.len()
    } else {
        MAX_TABLE_ROWS
    };
    for step in plan.steps.iter().take(shown) {
        let size = step.bytes.max(step.removed_bytes());
        let path = if ui.writes_to_terminal() {
            short(&step.path)
        } else {
            step.path.clone()
        };
        table.row([
            Cell::new(Style::Strong, step.action.name()),
            Cell::plain(path).value(&step.path),
            Cell::new(Style::Dim, bytes(size)).value(size),
            Cell::new(Style::Dim, &*step.reason),
        ]);
    }
    table.print(ui);
    if plan.steps.len() > shown {
        ui.line(format_args!(
            "… and {} more; --json has all",
            plan.steps.len() - shown
        ));
    }
}

/// Shortens a long path to its end, or to the id of a conversation.
fn short(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    if path.chars().count() <= 32 {
        path.to_owned()
    } else if rollout_id(name).is_some() {
        let id = rollout_id(name).unwrap_or(name);
        format!("…{id}")
    } else {
        format!("…/{name}")
    }
}

fn rollout_id(name: &str) -> Option<&str> {
    let stem = crate::sync::rollouts::stem(name)?;
    stem.get(stem.len() - 36..)
}

/// Prints what has not arrived, what was left alone, and what needs a decision.
pub(super) fn print_unsynced<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    config: &SyncConfig,
    steps: impl Iterator<Item = &'a SyncStep> + Clone,
) {
    let ui = &context.ui;
    for (path, why) in &plan.notices.warnings {
        ui.warn(format_args!("{path} {why}"));
    }
    for (path, why) in limited(&plan.notices.waiting) {
        ui.warn(format_args!(
            "not synced until it is complete: {path}: {why}"
        ));
    }
    if plan.notices.may_accept_unlisted {
        ui.note(
            "sync such files as they are with: --accept-unlisted (not if a machine has published a newer version)",
        );
    }
    for message in UndeliveredVersion::by_machine(&plan.notices.undelivered) {
        ui.warn(message);
    }
    for file in &plan.notices.undelivered {
        ui.detail(format_args!(
            "not arrived: {}: {}",
            file.path,
            file.reason()
        ));
    }
    if !plan.notices.undelivered.is_empty() {
        ui.note(
            "wait until the cloud client has delivered them; a conversation that you continue now becomes a \
             conflict; before you start Codex on this machine run: codex-manager sync run --apply",
        );
    }
    for (path, why) in limited(&plan.notices.skipped) {
        ui.warn(format_args!("not synced: {path}: {why}"));
    }
    if plan.notices.held_deletions > 0 {
        ui.note("apply these deletions with: --delete-many; copy the files back with: sync.delete_policy = \"never\"");
    }
    if config.policy.report_conflicts {
        for conflict in conflicts_of(context, plan, steps.clone()) {
            ui.warn(format_args!("conflict: {}", conflict.describe(context)));
        }
    }
    let forks = conflict_copies_of(plan, steps);
    for name in &forks {
        ui.warn(format_args!(
            "a conflict copy of a conversation waits for your decision: {name}"
        ));
    }
    if !forks.is_empty() {
        ui.note("list and resolve them with: codex-manager sync resolve");
    }
}

/// Prints files that are left alone and need no action. A run prints them if they differ from what the last
/// run printed, or under `--verbose`.
pub(super) fn print_notes(context: &Context, plan: &SyncPlan) {
    for (path, why) in limited(&plan.notices.notes) {
        context.ui.note(format_args!("note: {path}: {why}"));
    }
    print_left_out(context, &plan.notices.excluded);
}

/// Prints the entries of the home that are not synced: the first ones by name, the rest by number.
fn print_left_out(context: &Context, left_out: &[(String, String)]) {
    const NAMED: usize = 10;
    let ui = &context.ui;
    for (path, why) in left_out.iter().take(NAMED) {
        ui.note(format_args!("excluded: {path}: {why}"));
    }
    if left_out.len() > NAMED {
        let more = left_out.len() - NAMED;
        ui.note(format_args!("excluded: {more} more; --json names them"));
    }
}

fn limited(list: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    list.iter().take(MAX_TABLE_ROWS)
}

/// Returns "nothing to do: 1 file is the same on both sides".
pub(super) fn nothing_to_do(plan: &SyncPlan) -> String {
    format!("nothing to do: {}", unchanged_summary(plan))
}

/// Returns "1 file is the same on both sides".
pub(super) fn unchanged_summary(plan: &SyncPlan) -> String {
    let verb = if plan.unchanged == 1 { "is" } else { "are" };
    let files = pluralize(plan.unchanged, "file");
    format!("{files} {verb} the same on both sides")
}

/// Returns the error for conflicts of a plan, or of a run that they stopped.
pub(super) fn undecided(plan: &SyncPlan, config: &SyncConfig) -> CommandError {
    let error = in_conflict(plan)
        .hint("list and resolve them with: codex-manager sync resolve; nothing was changed");
    if plan.is_stopped(config.policy.rules.conflict) {
        error
            .hint("conflict.policy = \"manual\" leaves such files as they are and syncs all others")
    } else {
        error
    }
}

/// Returns the error for conflicts of a run that synced all other files.
pub(super) fn undecided_files(plan: &SyncPlan) -> CommandError {
    in_conflict(plan).hint(
        "list and resolve them with: codex-manager sync resolve; these files are unchanged on both sides",
    )
}

fn in_conflict(plan: &SyncPlan) -> CommandError {
    let count = plan.conflicts.len();
    CommandError::conflict(format!("{} in conflict", pluralize(count, "file")))
}

/// Checks that a folder can be listed and that its permissions allow writing. Writes nothing, because cloud
/// clients would replicate a test file.
pub(super) fn is_writable(folder: &Path) -> Result<(), crate::io::IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        access(folder, wanted)
            .map_err(std::io::Error::from)
            .at("write to", folder)?;
    }
    std::fs::read_dir(folder).at("list", folder).map(|_| ())
}
