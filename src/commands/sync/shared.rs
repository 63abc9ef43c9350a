//! What all of `sync` needs: the configuration, its lock, how a plan is shown.

use crate::context::Context;
use crate::error::CommandError;
use crate::io::lock::{FileLock, LockError};
use crate::io::quantity::pluralize;
use crate::io::{IoContext, atomic, shell};
use crate::shutdown::ShutdownPlan;
use crate::sync::config::{ConfigContext, SyncConfig};
use crate::sync::index_updates::{CodexIndex, IndexUpdate, IndexUpdater};
use crate::sync::pending_index_updates::{self, PendingIndexUpdates};
use crate::sync::plan::{SyncPlan, SyncStep, UndeliveredVersion};
use crate::sync::state::Replica;
use crate::ui::Style;
use crate::ui::table::Table;
use crate::ui::time::bytes;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many rows of a table are shown before the rest is counted.
const MAX_TABLE_ROWS: usize = 40;

/// Where the configuration is.
pub(super) fn config_path(context: &Context, given: Option<&Path>) -> PathBuf {
    match given {
        Some(path) => context.env.absolute(path),
        None => context.manager_path("sync.toml"),
    }
}

/// The command line `codex-manager sync …` for the configuration at `path`.
pub(super) fn command(context: &Context, path: &Path, rest: &str) -> String {
    if path == config_path(context, None) {
        format!("codex-manager sync {rest}")
    } else {
        let config = shell::word(&path.to_string_lossy());
        format!("codex-manager sync -c {config} {rest}")
    }
}

/// Reads the configuration; warnings go to stderr.
pub(super) fn read_config(context: &Context, path: &Path) -> Result<SyncConfig, CommandError> {
    let config = read_quietly(context, path)?;
    for warning in &config.warnings {
        context.ui.warn(warning);
    }
    Ok(config)
}

/// Reads the configuration.
pub(super) fn read_quietly(context: &Context, path: &Path) -> Result<SyncConfig, CommandError> {
    Ok(SyncConfig::read(path, &config_context(context))?)
}

/// What configurations are read against.
pub(super) fn config_context(context: &Context) -> ConfigContext<'_> {
    ConfigContext {
        env: &context.env,
        codex_home: &context.settings.codex_home,
        manager_home: &context.settings.manager_home,
    }
}

/// The state of this home and this cloud folder.
pub(super) fn replica(context: &Context, config: &SyncConfig) -> Replica {
    Replica::of(&context.settings.manager_home, &config.local, &config.cloud)
}

/// How long a lock may be held by what is no run: a process that was begun while its parent held it has it
/// until it is another program.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Two runs at once would each undo what the other plans.
pub(super) fn lock(replica: &Replica) -> Result<FileLock, CommandError> {
    atomic::create_durable_folder(&replica.folder)?;
    FileLock::exclusive_within(&replica.lock_file(), LOCK_WAIT).map_err(|e| match e {
        LockError::Held(_) => CommandError::failed("another sync of this folder is under way")
            .hint("wait for it to end; nothing was changed"),
        LockError::Io(e) => e.into(),
    })
}

/// Makes known to Codex what came, and what an earlier run left unsaid. The caller holds the lock of the
/// state and has seen that nobody uses the home.
pub(super) fn register(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
    came: &[IndexUpdate],
) -> Result<(), CommandError> {
    let noted = PendingIndexUpdates::of(replica);
    let all =
        pending_index_updates::merge_updates(noted.read()?.into_iter().chain(came.iter().cloned()));
    let updater = CodexIndex {
        env: &context.env,
        rules: &config.path_rules,
    };
    for note in updater.update_index(&config.local, &all, &noted.renamed_ids()?)? {
        context.ui.note(note);
    }
    Ok(noted.clear()?)
}

/// Whether an earlier run ended before Codex's index knew of all that had come.
pub(super) fn has_pending_index_updates(replica: &Replica) -> bool {
    let left = PendingIndexUpdates::of(replica);
    left.read().is_ok_and(|left| !left.is_empty())
        || left.renamed_ids().is_ok_and(|named| !named.is_empty())
}

/// What an earlier run left unsaid is said before anything else can end this one. An index that refuses
/// now is tried again when this run's files are in place.
pub(super) fn flush_pending_index_updates(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) {
    if has_pending_index_updates(replica)
        && let Err(error) = register(context, config, replica, &[])
    {
        context.ui.warn(error);
    }
}

/// The JSON document of `plan` and `run`. Its keys are a contract.
#[derive(Serialize)]
pub(super) struct PlanJson<'a> {
    pub(super) actions: Vec<ActionJson<'a>>,
    pub(super) conflicts: Vec<PathJson<'a>>,
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

/// The conflicts that need a decision, and those that these steps end as `conflict.policy` has it.
fn conflicts_of<'a>(
    plan: &'a SyncPlan,
    steps: impl Iterator<Item = &'a SyncStep>,
) -> Vec<PathJson<'a>> {
    let open = plan.conflicts.iter();
    let open = open.map(|conflict| PathJson::of(&conflict.path, &conflict.reason));
    let ended = steps.filter_map(|step| Some(PathJson::of(&step.path, step.conflict.as_ref()?)));
    open.chain(ended).collect()
}

/// Names of the versions that wait for a decision, with those that these steps set aside.
fn forks_of<'a>(plan: &'a SyncPlan, steps: impl Iterator<Item = &'a SyncStep>) -> Vec<&'a str> {
    let known = plan.conflict_copies.iter().map(|(name, _)| &**name);
    let names: BTreeSet<&str> = known
        .chain(steps.flat_map(SyncStep::new_conflict_copies))
        .collect();
    names.into_iter().collect()
}

/// The document for the steps that `wants` takes.
pub(super) fn document(plan: &SyncPlan, wants: impl Fn(usize) -> bool) -> PlanJson<'_> {
    let steps = || {
        let numbered = plan.steps.iter().enumerate();
        numbered.filter(|(i, _)| wants(*i)).map(|(_, step)| step)
    };
    let mut actions = BTreeMap::new();
    for step in steps() {
        *actions.entry(step.action.name()).or_default() += 1;
    }
    let conflicts = conflicts_of(plan, steps());
    let forks = forks_of(plan, steps());
    let undelivered = plan.undelivered.iter();
    let undelivered = undelivered.map(|file| PathJson::of(&file.path, file.reason()));
    let mut waiting = with_reasons(&plan.waiting);
    waiting.extend(undelivered);
    PlanJson {
        summary: Summary {
            unchanged: plan.unchanged,
            bytes: steps().map(|step| step.bytes).sum(),
            actions,
            conflicts: conflicts.len(),
            waiting: waiting.len(),
            left_out: plan.excluded.len(),
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
        skipped: with_reasons(&plan.skipped),
        warnings: with_reasons(&plan.warnings),
        notes: with_reasons(&plan.notes),
        left_out: with_reasons(&plan.excluded),
        forks,
        dry_run: true,
        snapshot: None,
        closing: None,
    }
}

/// Whether Codex has to be closed for a plan: not where there is nothing to do, nor where a conflict
/// stops all of it. A file that only goes to the cloud folder needs it, too: half a turn would go over.
pub(super) fn needs_shutdown(plan: &SyncPlan, config: &SyncConfig) -> bool {
    !plan.steps.is_empty() && !plan.is_stopped(config.conflict)
}

/// Shows what would be done, to people.
pub(super) fn show_steps(context: &Context, plan: &SyncPlan) {
    let ui = &context.ui;
    let rows: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            [
                (Style::Strong, step.action.name().to_owned()),
                (Style::Plain, short(&step.path)),
                (Style::Dim, bytes(step.bytes)),
                (Style::Dim, step.reason.clone()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new(ui, &["action", "file", "size", "why"]);
    let count = rows.len();
    for row in rows.into_iter().take(MAX_TABLE_ROWS) {
        table.row(ui, row);
    }
    table.keep_whole(0);
    table.keep_whole(2);
    ui.line(table.render());
    if count > MAX_TABLE_ROWS {
        ui.line(format_args!(
            "… and {} more; --json has all",
            count - MAX_TABLE_ROWS
        ));
    }
}

/// The end of a long path says what it is.
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

/// Says what has not arrived, was left alone, or needs somebody.
pub(super) fn print_unsynced<'a>(
    context: &Context,
    plan: &'a SyncPlan,
    config: &SyncConfig,
    steps: impl Iterator<Item = &'a SyncStep> + Clone,
) {
    let ui = &context.ui;
    for (path, why) in &plan.warnings {
        ui.warn(format_args!("{path} {why}"));
    }
    for (path, why) in limited(&plan.waiting) {
        ui.warn(format_args!("waiting for {path}: {why}"));
    }
    if plan.may_accept_unlisted {
        ui.note(
            "--accept-unlisted takes files as they are of which no machine lists a newer version",
        );
    }
    for told in UndeliveredVersion::by_machine(&plan.undelivered) {
        ui.warn(told);
    }
    for file in &plan.undelivered {
        ui.detail(format_args!(
            "not arrived: {}: {}",
            file.path,
            file.reason()
        ));
    }
    if !plan.undelivered.is_empty() {
        ui.note(
            "wait until the cloud client has brought that, and run codex-manager sync run --apply again before you \
             start Codex here: what you continue now becomes a conflict",
        );
    }
    for (path, why) in limited(&plan.skipped) {
        ui.warn(format_args!("left alone: {path}: {why}"));
    }
    if plan.held_deletions > 0 {
        ui.note("--delete-many sends these deletions on; sync.delete_policy = \"never\" brings the files back");
    }
    if config.report_conflicts {
        for PathJson { path, reason } in conflicts_of(plan, steps.clone()) {
            ui.warn(format_args!("conflict: {path}: {reason}"));
        }
    }
    let forks = forks_of(plan, steps);
    for name in &forks {
        ui.warn(format_args!(
            "a version of a conversation is kept until you decide: {name}"
        ));
    }
    if !forks.is_empty() {
        ui.note("decide with: codex-manager sync resolve");
    }
}

/// Prints what is left alone and needs nothing to be done. A run prints it when it differs from what the last
/// run printed, or under `--verbose`.
pub(super) fn print_notes(context: &Context, plan: &SyncPlan) {
    for (path, why) in limited(&plan.notes) {
        context.ui.note(format_args!("note: {path}: {why}"));
    }
    print_left_out(context, &plan.excluded);
}

/// Says what is in the home and does not travel: a few by name, all by number.
fn print_left_out(context: &Context, left_out: &[(String, String)]) {
    const NAMED: usize = 10;
    let ui = &context.ui;
    for (path, why) in left_out.iter().take(NAMED) {
        ui.note(format_args!("left out: {path}: {why}"));
    }
    if left_out.len() > NAMED {
        let more = left_out.len() - NAMED;
        ui.note(format_args!("left out: {more} more; --json names them"));
    }
}

fn limited(list: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    list.iter().take(MAX_TABLE_ROWS)
}

/// "nothing to do: 1 file is the same on both sides".
pub(super) fn nothing_to_do(plan: &SyncPlan) -> String {
    format!("nothing to do: {}", same(plan))
}

/// "1 file is the same on both sides".
pub(super) fn same(plan: &SyncPlan) -> String {
    let verb = if plan.unchanged == 1 { "is" } else { "are" };
    let files = pluralize(plan.unchanged, "file");
    format!("{files} {verb} the same on both sides")
}

/// The error for conflicts that need a decision, of a plan or of a run that they stopped.
pub(super) fn undecided(plan: &SyncPlan, config: &SyncConfig) -> CommandError {
    let error =
        in_conflict(plan).hint("decide with: codex-manager sync resolve; nothing was changed");
    if plan.is_stopped(config.conflict) {
        error
            .hint("conflict.policy = \"manual\" leaves such files as they are and syncs all others")
    } else {
        error
    }
}

/// The error for conflicts that need a decision, of a run that synced all else.
pub(super) fn undecided_files(plan: &SyncPlan) -> CommandError {
    in_conflict(plan).hint(
        "decide with: codex-manager sync resolve; these files were left as they are on both sides",
    )
}

fn in_conflict(plan: &SyncPlan) -> CommandError {
    let count = plan.conflicts.len();
    CommandError::conflict(format!("{} in conflict", pluralize(count, "file")))
}

/// Whether a folder can be listed and, as far as its permissions say, written to. Nothing is written: what
/// appears in a replicated folder goes to all machines.
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
