//! `sync resolve`: lists and decides conflicts.

use crate::commands::sync::open_decision::{
    DecisionSubject, NOT_DOWNLOADED, OpenDecision, check_choice, find_decision, find_kept_side,
    join_names, list_offers,
};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::sync_context::SyncContext;
use crate::steps::vault_sync::{StagingRule, VaultPurpose, VaultSync, with_staged_vault};
use crate::views::account::short_id;
use crate::views::sync_plan::{ConflictJson, VersionsJson};
use clap::Args;
use codex_manager_core::io::{IoContext, shell};
use codex_manager_core::sync::apply::ApplyReport;
use codex_manager_core::sync::branches::{self, Branch};
use codex_manager_core::sync::config::{ConflictPolicy, SyncConfig, SyncRemote};
use codex_manager_core::sync::conflict_copies::{ConflictCopies, ConflictCopy};
use codex_manager_core::sync::continued_rollouts::ContinuedRollouts;
use codex_manager_core::sync::plan::{
    self, Conflict, NewConflictCopy, ObservedFile, PlanRequest, SyncPlan, SyncStep,
};
use codex_manager_core::sync::resolve::{DecidedCopy, KeepChoice};
use codex_manager_core::sync::sides::Side;
use codex_manager_core::sync::state::SyncState;
use codex_manager_core::sync::{contents, identity, manifest, resolutions};
use serde::Serialize;
use std::cell::LazyCell;
use std::collections::BTreeSet;

/// List and resolve conflicts and conflict copies of conversations
///
/// Without arguments it lists them, and asks on a terminal which versions to keep. For a file that changed on both
/// sides, keep `local` or `cloud`. For a conflict copy of a conversation, keep `local` (the conversation as it is),
/// `fork` (the conflict copy continues), or `both` (the conflict copy becomes a conversation of its own, with a new
/// id). For two branches of a conversation, keep `local` (the one that Codex shows) or `fork` (the other one); the same
/// command chooses again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync resolve
  codex-manager sync resolve 01a1f78b --keep both
  codex-manager sync resolve skills/mine/SKILL.md --keep cloud")]
pub(super) struct ResolveArgs {
    /// A conversation (id, title, or the beginning of either), a path, or the name of a conflict copy
    #[arg(value_name = "WHAT")]
    conflict_name: Option<String>,
    /// The version to keep
    #[arg(long, value_enum, requires = "conflict_name")]
    keep: Option<KeepChoice>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Default, Serialize)]
struct ResolveJson<'a> {
    conflicts: Vec<ConflictJson<'a>>,
    forks: Vec<ConflictCopyJson<'a>>,
    resolved: Option<String>,
    #[serde(flatten)]
    outcome: DecisionOutcome,
    dry_run: bool,
}

/// The result of an applied decision.
#[derive(Default, Serialize)]
struct DecisionOutcome {
    /// Id of the conversation that was created, if any.
    new_id: Option<String>,
    /// Name of the snapshot with the version that was not kept, if any.
    snapshot: Option<String>,
}

#[derive(Serialize)]
struct ConflictCopyJson<'a> {
    name: String,
    conversation: String,
    bytes: u64,
    #[serde(flatten)]
    versions: Option<VersionsJson<'a>>,
}

impl ResolveArgs {
    pub(super) fn run(self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let config = sync.config;
        let changes_files = self.conflict_name.is_some() && !self.dry_run;
        let publishes = config.remote == SyncRemote::Vault && changes_files;

        if !publishes {
            with_staged_vault(sync, StagingRule::Always, |sync, _no_idle_plan| {
                self.decide_or_list(sync)
            })?;
            return Ok(Outcome::Done);
        }

        let _lock = sync.lock_replica()?;
        // Always `Some`, because `publishes` is true only with the vault.
        if let Some(vault) = VaultSync::open(sync, VaultPurpose::Run)? {
            let mut join = vault.join(sync)?;
            join.stage()?;
            self.decide_or_list(&sync.staged(&join))?;
            join.settle()?;
            vault.publish(&mut join, config)?;
        }
        Ok(Outcome::Done)
    }

    /// Applies the decision that the arguments name. Without a name, lists the open decisions, and asks about each on a
    /// terminal.
    fn decide_or_list(&self, sync: &SyncContext<'_>) -> Result<()> {
        let (context, config) = (sync.context, sync.config);
        let (open_decisions, branch_records) = read_open_decisions(sync)?;

        if let Some(name) = &self.conflict_name {
            let branches = branches::find_decided(&config.local, &branch_records).into_iter();
            let decided_branches: Vec<_> = branches.map(OpenDecision::of_branch).collect();
            // A decided branch is not open, but the user may choose again. The error is that of the open decisions.
            let decision = find_decision(name, &open_decisions)
                .or_else(|error| find_decision(name, &decided_branches).map_err(|_| error))?;
            let keep = self.require_choice(context, decision)?;
            return self.decide(sync, name, decision, keep);
        }

        self.print_open(context, &open_decisions);
        // Through the vault, each decision needs a run of its own that publishes it. With --json, the output is one
        // document.
        if config.remote == SyncRemote::Vault || context.ui.wants_json() {
            return Ok(());
        }

        for decision in &open_decisions {
            if let Some(keep) = ask_version(context, decision) {
                self.decide(sync, &decision.display_name(), decision, keep)?;
            }
        }
        Ok(())
    }

    fn require_choice(&self, context: &Context, decision: &OpenDecision) -> Result<KeepChoice> {
        let keep = self.keep.or_else(|| ask_version(context, decision));
        keep.ok_or_else(|| {
            CommandError::usage("no version is chosen: --keep is missing")
                .hint("list the conflicts and their choices with: codex-manager sync resolve; nothing was changed")
        })
    }

    /// Ends Codex, applies the decision and prints the result. A dry run only checks that the file of a conflict can be
    /// synced as decided. The output calls the decision `name`.
    fn decide(
        &self,
        sync: &SyncContext<'_>,
        name: &str,
        decision: &OpenDecision,
        keep: KeepChoice,
    ) -> Result<()> {
        check_choice(decision, keep)?;
        if self.dry_run {
            if let DecisionSubject::Conflict(conflict) = &decision.subject {
                sync.plan_decided_file(conflict, keep)?;
            }
            self.print_result(sync.context, name, keep, DecisionOutcome::default());
            return Ok(());
        }

        let _lock = match sync.config.remote {
            SyncRemote::Folder => Some(sync.lock_replica()?),
            // The caller holds the lock.
            SyncRemote::Vault => None,
        };
        sync.shut_down_codex()?;
        let outcome = sync.apply_decision(decision, keep)?;
        self.print_result(sync.context, name, keep, outcome);
        Ok(())
    }

    fn print_result(
        &self,
        context: &Context,
        name: &str,
        keep: KeepChoice,
        outcome: DecisionOutcome,
    ) {
        let kept_version = match keep {
            KeepChoice::Both => "both versions".to_owned(),
            version => format!("the {} version", version.name()),
        };
        let ui = &context.ui;
        let verb = if self.dry_run { "would keep" } else { "kept" };
        ui.prose(format_args!("{verb} {kept_version} of {name}"));

        if let Some(id) = &outcome.new_id {
            // The home has both versions, so nothing has to be restored.
            ui.line(format_args!("the new conversation has the id {id}"));
        } else if let Some(snapshot) = &outcome.snapshot {
            ui.note(format_args!(
                "the version that was not kept is in the snapshot {snapshot}"
            ));
            // Without `--apply`, because the restored file would replace the version that the user keeps.
            ui.note(format_args!(
                "see what a restore would replace: codex-manager sync restore --from {snapshot} --dry-run"
            ));
        }

        if !self.dry_run {
            ui.note("next: codex-manager sync run --apply");
        }

        let json = ResolveJson {
            resolved: Some(name.to_owned()),
            outcome,
            dry_run: self.dry_run,
            ..ResolveJson::default()
        };
        ui.document("sync resolve", &json);
    }

    /// Prints the open decisions, each with its reason and a command that decides it.
    fn print_open(&self, context: &Context, open_decisions: &[OpenDecision]) {
        let ui = &context.ui;
        self.print_open_json(context, open_decisions);
        if open_decisions.is_empty() {
            ui.line("nothing needs a decision");
            return;
        }

        for decision in open_decisions {
            let choices = decision.choices();
            let offer = match &*choices {
                [] => NOT_DOWNLOADED.to_owned(),
                choices => format!("keep {}:", join_names(choices)),
            };
            ui.prose(format_args!(
                "{}: {}; {offer}",
                decision.display_name(),
                decision.describe_reason(context)
            ));

            let argument = shell::quote_if_needed(to_argument(decision, open_decisions));
            // The command is an example, with the first choice.
            if let Some(keep) = choices.first() {
                let keep = keep.name();
                let command = format!("codex-manager sync resolve {argument} --keep {keep}");
                ui.line(ui.complete_command(2, &command));
            }
        }

        for decision in open_decisions {
            if let DecisionSubject::Branch(branch) = &decision.subject {
                let path = shell::quote_if_needed(&branch.file.to_string_lossy());
                ui.note(format_args!(
                    "read the branch that Codex does not show: codex-manager show {path}"
                ));
            }
        }
    }

    fn print_open_json(&self, context: &Context, open_decisions: &[OpenDecision]) {
        let (mut conflicts, mut forks) = (Vec::new(), Vec::new());
        for decision in open_decisions {
            match &decision.subject {
                DecisionSubject::Conflict(conflict)
                | DecisionSubject::Branch(Branch { conflict, .. }) => {
                    conflicts.push(ConflictJson::of(conflict, context));
                }
                DecisionSubject::ConflictCopy(copy, versions) => forks.push(ConflictCopyJson {
                    name: copy.name.clone(),
                    conversation: copy.conversation_label().to_owned(),
                    bytes: copy.local.or(copy.remote).map_or(0, |stat| stat.size),
                    versions: versions.as_ref().map(|v| VersionsJson::of(v, context)),
                }),
            }
        }

        let json = ResolveJson {
            conflicts,
            forks,
            dry_run: self.dry_run,
            ..ResolveJson::default()
        };
        context.ui.document("sync resolve", &json);
    }
}

/// Returns the open decisions: conflicts of the plan, conflict copies, and branches that Codex hides. Also returns the
/// records of all branches.
fn read_open_decisions(sync: &SyncContext<'_>) -> Result<(Vec<OpenDecision>, BTreeSet<String>)> {
    let (config, replica) = (sync.config, sync.replica);
    let (plan, state) = plan::plan(&PlanRequest {
        finds_needed_versions: true,
        ..PlanRequest::new(config, replica)
    })?;
    let all_copies = ConflictCopies::read(&replica.folder, &config.cloud)?;
    let branch_records = branches::collect_records(&plan, &state);

    let conflicts = plan.conflicts.into_iter().map(|conflict| OpenDecision {
        offers: list_offers(&conflict, config),
        subject: DecisionSubject::Conflict(conflict),
    });

    let pending = plan.notices.conflict_copies;
    let is_pending = |copy: &ConflictCopy| pending.iter().any(|(name, _)| *name == copy.name);
    // Read only if a conflict copy needs it.
    let continued_in_home = LazyCell::new(|| {
        let (no_remote_paths, is_on_both_sides) = ([], |_: &str| false);
        ContinuedRollouts::read(&config.local, no_remote_paths, is_on_both_sides)
    });
    let copies = all_copies.all.into_values().filter(is_pending).map(|copy| {
        let decided = DecidedCopy::read(copy.clone(), config, replica, &state);
        OpenDecision {
            subject: DecisionSubject::ConflictCopy(copy, decided.versions()),
            offers: decided.list_offers(&continued_in_home),
        }
    });

    let undecided = branches::find_undecided(&config.local, &branch_records).into_iter();
    let branches = undecided.map(OpenDecision::of_branch);
    let open_decisions = conflicts.chain(copies).chain(branches).collect();
    Ok((open_decisions, branch_records))
}

/// Returns the argument that selects a decision: the short id of its conversation if no other decision has it,
/// otherwise its path or name.
fn to_argument<'a>(decision: &'a OpenDecision, open_decisions: &[OpenDecision]) -> &'a str {
    let Some(id) = decision.session_id().map(short_id) else {
        return decision.path_or_name();
    };
    let ids = open_decisions.iter().filter_map(OpenDecision::session_id);
    match ids.filter(|other_id| short_id(other_id) == id).count() {
        1 => id,
        _ => decision.path_or_name(),
    }
}

/// Asks which version to keep; `None` without a terminal, or if the user leaves the decision open.
fn ask_version(context: &Context, decision: &OpenDecision) -> Option<KeepChoice> {
    let choices = decision.choices();
    if choices.is_empty() {
        return None;
    }
    let question = format!(
        "keep which version of {}: {}? Enter leaves it open:",
        decision.display_name(),
        join_names(&choices)
    );

    loop {
        let answer = context.ui.ask(&question)?;
        // The beginning of a name is enough. An answer that fits no name repeats the question.
        let chosen = choices
            .iter()
            .find(|keep| keep.name().starts_with(&*answer));
        if let Some(keep) = chosen {
            return Some(*keep);
        }
    }
}

/// The plan of the sync of one file as the user decided.
struct DecidedFilePlan {
    plan: SyncPlan,
    state: SyncState,
    /// The conflict copies that the plan creates.
    new_copies: Vec<NewConflictCopy>,
    /// The name of the new conflict copy with the other version, which does not stay in its place.
    other_copy: Option<String>,
}

impl SyncContext<'_> {
    fn apply_decision(&self, decision: &OpenDecision, keep: KeepChoice) -> Result<DecisionOutcome> {
        match &decision.subject {
            DecisionSubject::Conflict(conflict) => self.sync_decided_file(conflict, keep),
            DecisionSubject::ConflictCopy(copy, _) => {
                self.apply_to_conflict_copy(&copy.name, keep, DecisionOutcome::default())
            }
            DecisionSubject::Branch(branch) => self.choose_branch(branch, keep),
        }
    }

    /// Plans the sync of the file of a conflict as decided.
    fn plan_decided_file(&self, conflict: &Conflict, keep: KeepChoice) -> Result<DecidedFilePlan> {
        let path = &*conflict.path;
        let (policy, other_version) = match find_kept_side(conflict, keep) {
            Side::Local => (ConflictPolicy::PreferLocal, &conflict.remote),
            Side::Remote => (ConflictPolicy::PreferCloud, &conflict.local),
        };

        let (full_plan, state) = plan::plan(&PlanRequest {
            policy_override: Some((path, policy)),
            ..PlanRequest::new(self.config, self.replica)
        })?;

        let Some(plan) = extract_file_plan(path, &full_plan) else {
            return Err(no_step_error(conflict, &full_plan));
        };

        // The step may also store further versions. The copy with the text of `other_version` is the one to decide.
        let new_copies = plan.steps.iter().flat_map(SyncStep::new_conflict_copies);
        let new_copies: Vec<_> = new_copies.cloned().collect();
        let other_copy = match other_version {
            Some(file) if !new_copies.is_empty() => find_copy_of(file, &new_copies, self.config)?,
            _ => None,
        };

        if keep == KeepChoice::Both && other_copy.is_none() {
            let message = format!("there is no second version to keep: {path}");
            return Err(CommandError::failed(message)
                .hint("list the conflicts with: codex-manager sync resolve; nothing was changed"));
        }
        Ok(DecidedFilePlan {
            plan,
            state,
            new_copies,
            other_copy,
        })
    }

    /// Syncs the file of a conflict as decided. The other version of a conversation is dropped, or with
    /// [`KeepChoice::Both`] becomes a new conversation. Further versions that the plan finds become conflict copies,
    /// each with a decision of its own.
    fn sync_decided_file(&self, conflict: &Conflict, keep: KeepChoice) -> Result<DecisionOutcome> {
        let DecidedFilePlan {
            plan,
            mut state,
            new_copies,
            other_copy,
        } = self.plan_decided_file(conflict, keep)?;

        self.record_as_kept(&new_copies, &mut state)?;
        let report = self.apply_one_file(&plan, state)?;
        let outcome = DecisionOutcome {
            new_id: None,
            snapshot: report.snapshot,
        };

        // The other version is a conflict copy now, which the decision drops or turns into a conversation.
        if let Some(name) = other_copy {
            return self.apply_to_conflict_copy(&name, keep, outcome);
        }
        self.update_codex_index()?;
        Ok(outcome)
    }

    /// Records that the new conflict copies are kept. If this process is killed, an earlier decision of any machine to
    /// drop an equal version would otherwise drop them.
    fn record_as_kept(&self, new_copies: &[NewConflictCopy], state: &mut SyncState) -> Result<()> {
        if new_copies.is_empty() {
            return Ok(());
        }
        let remote_resolutions = identity::read_remote_manifests(self.config, state)?.resolutions;
        for copy in new_copies {
            resolutions::record_keep(&copy.name, &mut state.resolutions, &remote_resolutions);
        }
        Ok(self.replica.write(state)?)
    }

    /// Applies the plan for one file. A step that is left for the next run is an error.
    fn apply_one_file(&self, plan: &SyncPlan, state: SyncState) -> Result<ApplyReport> {
        let report = self.apply_plan(plan, state)?;
        match report.skipped.first() {
            Some((path, reason)) => Err(CommandError::failed(format!("{reason}: {path}"))
                .hint("run the same command again")),
            None => Ok(report),
        }
    }

    /// Applies the choice between `branch` and the branch that Codex shows, and updates Codex's index.
    fn choose_branch(&self, branch: &Branch, keep: KeepChoice) -> Result<DecisionOutcome> {
        let (config, replica) = (self.config, self.replica);
        let mut state = replica.read()?;
        let resolutions = identity::read_remote_manifests(config, &state)?.resolutions;
        branch.apply_decision(keep, &config.local, replica, &mut state, &resolutions)?;
        self.update_codex_index()?;
        Ok(DecisionOutcome::default())
    }

    /// Applies the choice to the conflict copy `name`, and updates Codex's index. Backs up a dropped version in a new
    /// snapshot, unless `outcome` has a snapshot already.
    fn apply_to_conflict_copy(
        &self,
        name: &str,
        keep: KeepChoice,
        mut outcome: DecisionOutcome,
    ) -> Result<DecisionOutcome> {
        let (config, replica) = (self.config, self.replica);
        let mut state = replica.read()?;
        let copy = DecidedCopy::find(name, config, replica, &state)?;
        if outcome.snapshot.is_none() {
            outcome.snapshot = copy.back_up_dropped(keep, self.context.now())?;
        }
        outcome.new_id = copy.apply(keep, &mut state)?;
        self.update_codex_index()?;
        Ok(outcome)
    }
}

/// Returns the part of a plan for one file; `None` if the plan has no step for the file.
fn extract_file_plan(path: &str, full_plan: &SyncPlan) -> Option<SyncPlan> {
    let steps = full_plan.steps.iter().filter(|step| step.path == path);
    let steps: Vec<_> = steps.cloned().collect();
    (!steps.is_empty()).then(|| SyncPlan {
        steps,
        cloud_contents: full_plan.cloud_contents,
        ..SyncPlan::default()
    })
}

/// Returns the name of the conflict copy with the text of the file `observed`, if there is one.
fn find_copy_of(
    observed: &ObservedFile,
    copies: &[NewConflictCopy],
    config: &SyncConfig,
) -> Result<Option<String>> {
    let file_path = config.file_path(observed.side, &observed.path);
    let text = contents::read_text_digest(&file_path).at("read", &file_path)?;
    let matching = copies.iter().find(|copy| copy.digest == text.digest);
    Ok(matching.map(|copy| copy.name.clone()))
}

/// Returns the error for a new plan without a step for the file of the decision, with the reason.
fn no_step_error(conflict: &Conflict, new_plan: &SyncPlan) -> CommandError {
    // A notice may name the file in another spelling, form or folder.
    let folded_path = manifest::folded_key(&conflict.path);
    let notices = &new_plan.notices;
    let mut notices = [
        &notices.warnings,
        &notices.waiting,
        &notices.skipped,
        &notices.notes,
    ]
    .into_iter()
    .flatten();
    let notice = notices.find(|(path, _)| manifest::folded_key(path) == folded_path);

    let mut conflicts = new_plan.conflicts.iter();
    let still_open = conflicts.find(|other| other.path == conflict.path);
    let reason: &str = match (notice, still_open) {
        (Some((_, reason)), _) => reason,
        (None, Some(open_conflict)) => &open_conflict.reason,
        (None, None) => "the file has changed in the meantime",
    };

    let message = format!("{} could not be decided: {reason}", conflict.path);
    CommandError::failed(message).hint("see the plan: codex-manager sync plan; nothing was changed")
}
