//! `vault forget`: removes old snapshots by the rules of `prune`.

use crate::choices::retention_args::RetentionArgs;
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::copies::losses::acceptance::LossAcceptance;
use crate::copies::losses::archived::{NeededGone, find_needed_gone};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::CopyPlaceKind;
use crate::copies::losses::search::{Loss, LossSearch};
use crate::copies::losses::{describe_gone, describe_last_copy};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::snapshot_source::{add_snapshots, is_from_this_machine, is_of_this_home};
use crate::ui::object;
use crate::views::retention_table::{self, RetentionSubject, decisions_json};
use clap::Args;
use codex_manager_core::archive::EntryName;
use codex_manager_core::inventory::retention::{self, RetentionPlan};
use codex_manager_core::inventory::{good_texts, losses};
use codex_manager_core::io::{disk_clock, pluralize};
use codex_manager_core::vault::contents::SnapshotContents;
use codex_manager_core::vault::restic::Restic;
use codex_manager_core::vault::snapshot::{self, Snapshot};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Remove old snapshots from the vault
///
/// Applies the rules of `prune`, separately for each account, machine and home. The newest full
/// snapshot of each is always kept, one with conversations if one has some, and so is the last one with messages that a
/// conversation of the Codex home lacks, until `history losses --vault --accept`, and the last one with a conversation
/// that the home lacks, for 90 days (setting `prune.keep_gone`) or until it is accepted, and the newest one with a good
/// copy of a text that is damaged in another one. There is no trash: unused data is deleted from the repository.
/// Snapshots of other programs are never removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault forget --keep-last 3 --keep-weekly 4 --dry-run
  codex-manager vault forget --keep-daily 7 --keep-monthly 12 --yes")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    rules: RetentionArgs,
    /// Show the snapshots that would be removed, with reasons; remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl ForgetArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let rules = self.rules.to_policy(context, "vault forget")?;
        let restic = connection.open(context)?;
        let snapshots = snapshot::list_snapshots(&restic)?;

        let candidates: Vec<_> = snapshots
            .iter()
            .filter_map(Snapshot::to_retention_candidate)
            .collect();
        let mut plan =
            retention::plan_retention(&candidates, &rules, &context.now(), context.zone());
        for home in list_dropped_homes(&plan, &snapshots, context) {
            let mut context = context.clone();
            context.settings.codex_home = home;
            keep_last_copies(&mut plan, &restic, &snapshots, &context)?;
            keep_good_texts(&mut plan, &restic, &snapshots, &context)?;
        }

        let ui = &context.ui;
        retention_table::show_decisions(context, &plan, RetentionSubject::Snapshots);
        warn_of_other_machines(&plan, &snapshots, context);
        let count_text = pluralize(plan.drop.len(), "snapshot");
        if plan.drop.is_empty() {
            ui.line("nothing to forget");
        } else if self.dry_run {
            ui.prose(format_args!("{count_text} would be removed"));
        } else {
            context.confirm_deletion(&count_text)?;
            // With a wrong clock, `--keep-within` and `prune.keep_gone` could keep too few snapshots.
            disk_clock::check_system_clock(context.manager_home(), context.now())?;
            restic.forget(plan.drop.iter().map(|d| d.candidate.archive.as_str()))?;
            // A prune of its own: if it is killed, it leaves only unused data, which the next prune removes.
            let removed = format!("{count_text} removed");
            let pruned = restic.run(&["prune"]);
            pruned.map_err(|e| CommandError::from(e).after_change(removed.as_str()))?;
            ui.prose(removed);
        }

        let json = object()
            .with("keep", decisions_json(plan.keep, context))
            .with("drop", decisions_json(plan.drop, context))
            .with("dry_run", self.dry_run);
        ui.document("vault forget", &json);
        Ok(Outcome::Done)
    }
}

/// Warns if the plan drops snapshots of other machines: this machine cannot tell whether they have the last copy of lost
/// messages.
fn warn_of_other_machines(plan: &RetentionPlan, snapshots: &[Snapshot], context: &Context) {
    let others = snapshots
        .iter()
        .filter(|snapshot| is_dropped(snapshot, plan) && !is_from_this_machine(context, snapshot));
    let count = others.count();
    if count > 0 {
        context.warn(format_args!(
            "{} of other machines: whether they have the last copy of lost messages is known only there: \
             codex-manager history losses --vault",
            pluralize(count, "snapshot")
        ));
    }
}

fn is_dropped(snapshot: &Snapshot, plan: &RetentionPlan) -> bool {
    let mut dropped = plan.drop.iter();
    dropped.any(|decision| decision.candidate.archive == snapshot.id)
}

/// Returns the Codex home, and the homes of this machine of which the plan drops snapshots.
fn list_dropped_homes(
    plan: &RetentionPlan,
    snapshots: &[Snapshot],
    context: &Context,
) -> BTreeSet<PathBuf> {
    let dropped = snapshots.iter().filter(|snapshot| {
        is_dropped(snapshot, plan)
            && is_from_this_machine(context, snapshot)
            && !is_of_this_home(context, snapshot)
    });
    let metadata = dropped.filter_map(|snapshot| Some(&snapshot.tags.as_ref()?.metadata));
    let others = metadata.map(|metadata| PathBuf::from(&metadata.source_codex_home));
    others.chain([context.codex_home().to_path_buf()]).collect()
}

/// Changes the plan so that it keeps the last snapshot with the lost messages of each conversation of the Codex home,
/// and with each conversation that is gone from it. For messages of other homes, uses the losses that `history losses
/// --vault` recorded.
fn keep_last_copies(
    plan: &mut RetentionPlan,
    restic: &Restic,
    snapshots: &[Snapshot],
    context: &Context,
) -> Result<()> {
    let home = losses::home_key(context.codex_home());
    let recorded = losses::read(context.manager_home())?;
    for loss in recorded.losses.iter().filter(|loss| loss.home != home) {
        let reason = describe_last_copy(&loss.session_id);
        // One snapshot of each list is enough.
        for snapshot_ids in &loss.snapshots {
            plan.keep_one_of(snapshot_ids, &reason);
        }
    }

    // Searches only the dropped snapshots: if they have no lost message, the kept ones need not be read.
    let dropped = snapshots.iter().filter(|s| is_dropped(s, plan));
    let dropped: Vec<_> = dropped.cloned().collect();
    let (dropped_search, losses_in_dropped) = find_losses(restic, dropped, context)?;
    if losses_in_dropped.is_empty() && !dropped_search.lacks_threads() {
        return Ok(());
    }

    // Searches all snapshots, because no dropped one is needed for a message that a kept one has, too.
    let (search, losses) = find_losses(restic, snapshots.to_vec(), context)?;
    for NeededGone { id, count, places } in find_needed_gone(&search, is_snapshot, context)? {
        let snapshot_ids: Vec<_> = places.into_iter().map(|place| place.name).collect();
        plan.keep_one_of(&snapshot_ids, &describe_gone(&id, count));
    }
    for loss in losses {
        for places in loss.find_needed_places(&search.places, is_snapshot) {
            let snapshot_ids: Vec<_> = places.into_iter().map(|place| place.name).collect();
            plan.keep_one_of(&snapshot_ids, &describe_last_copy(&loss.id));
        }
    }
    Ok(())
}

/// Changes the plan so that it keeps the newest snapshot with a good copy of each text that is damaged in another snapshot
/// of the Codex home.
fn keep_good_texts(
    plan: &mut RetentionPlan,
    restic: &Restic,
    snapshots: &[Snapshot],
    context: &Context,
) -> Result<()> {
    // The newest snapshot is the last one.
    let of_home = snapshots.iter().rev();
    let of_home = of_home.filter(|snapshot| is_of_this_home(context, snapshot));
    if !of_home.clone().any(|snapshot| is_dropped(snapshot, plan)) {
        return Ok(());
    }

    let mut texts = BTreeSet::new();
    for snapshot in of_home
        .clone()
        .filter(|snapshot| has_damaged_texts(snapshot))
    {
        let damaged = SnapshotContents::read(restic, snapshot)?.manifest.damaged;
        texts.extend(damaged.into_iter().flatten().map(|(text, _)| text));
    }
    let good =
        good_texts::find_good_copies(texts.into_iter().collect(), of_home, |snapshot, texts| {
            let contents = SnapshotContents::read(restic, snapshot);
            let is_good = |text: &&EntryName| {
                let contents = contents.as_ref().ok();
                // A snapshot of an older version does not record damage, and may have the only good copy.
                contents.is_some_and(|contents| {
                    good_texts::is_recorded_good(&contents.manifest, text).unwrap_or(true)
                })
            };
            texts.iter().filter(is_good).cloned().collect()
        });
    for (text, snapshot) in good? {
        good_texts::keep_good_copy(plan, &snapshot.id, &text);
    }
    Ok(())
}

fn has_damaged_texts(snapshot: &Snapshot) -> bool {
    let tags = snapshot.tags.as_ref();
    tags.is_some_and(|tags| tags.metadata.damaged > 0)
}

fn is_snapshot(kind: &CopyPlaceKind) -> bool {
    *kind == CopyPlaceKind::Snapshot
}

/// Searches the snapshots for messages that the Codex home lacks, except for accepted losses. Also returns the search
/// with the places of the messages.
///
/// # Errors
/// A conversation or a snapshot cannot be read, or the user interrupts.
fn find_losses(
    restic: &Restic,
    snapshots: Vec<Snapshot>,
    context: &Context,
) -> Result<(LossSearch, Vec<Loss>)> {
    let mut search = LossSearch::new(LiveThreads::read(context.codex_home())?);
    add_snapshots(&mut search, restic, snapshots, context)?;
    let acceptance = LossAcceptance::read(&search.live, context)?;
    let found = search.find_losses(&acceptance.accepted)?;
    match found.failures.into_iter().next() {
        Some((_, e)) => Err(e),
        None => Ok((search, found.losses)),
    }
}
