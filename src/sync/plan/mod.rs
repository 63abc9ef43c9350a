//! The plan of a sync: which file is copied, merged, renamed or removed, and why. Planning only reads;
//! [`apply`](crate::sync::apply) then performs exactly the steps that were shown.
//!
//! [`plan`] runs these phases in this order:
//!
//! 1. **Scan.** `sides` checks that the cloud folder may be used (`check_cloud`) and lists both sides
//!    ([`scan`](crate::sync::scan)). `stat_cache` finds remote files that changed although size and time did not.
//!    `grouping` puts all files of one key into a `FileGroup`: a conversation has one key in all its forms (`.jsonl`,
//!    `.jsonl.zst`, archived), other files have their path. `links` blocks groups behind a link that is not followed.
//! 2. **Guard against a wrong folder.** `mass_change_guard::refuse_unmounted` fails if the cloud folder lacks so many
//!    known files that it is probably not mounted. `undelivered` lists the versions of other machines' manifests that
//!    the cloud client has not delivered.
//! 3. **Facts and decision, for each group.** `dispatch` calls the rules for the kind of file. `versions` checks that a remote file arrived completely and compares each
//!    side with the last sync. `deletions` and `ancestry` correct these facts: deletions of other machines, and which
//!    version of a plain file descends from the other. [`decide`](crate::sync::decide) is the one table that maps facts
//!    to a decision.
//! 4. **Steps.** `conversation`, `plain` and `line_files` turn the decision into a [`SyncStep`] with its [`Op`]s, a [`Conflict`], or
//!    an entry of one of the lists of [`SyncPlan`]; `outcomes` has what they share. `conflict_reasons` words the conflicts. `pending_conflicts` plans
//!    the conflict copies after all conversations.
//! 5. **Guards over all steps.** `mass_change_guard::hold_mass_deletions` holds back many deletions at once.
//!    `incomplete_files` names the machine that has the newest version of each file that the sync waits for.
//!    `secret_filter` drops steps that would copy a login. `path_conflicts` drops steps whose target is blocked by a
//!    folder. Finally the steps are sorted, deletions first.
//!
//! A file that cannot be planned (unreadable, incomplete, ambiguous) is listed in `skipped` or `waiting` and does not
//! stop the others. Only a problem that makes all decisions unreliable is a [`PlanError`].
//!
//! `planner` has the inputs that all groups share. The modules above add methods for their own rules to it.

mod ancestry;
mod attested;
mod cloud_check;
mod cloud_contents;
mod conflict_copy_plan;
mod conflict_reasons;
mod conversation;
mod conversation_draft;
mod conversation_step;
mod deletions;
mod delivery;
mod error;
mod file_plan;
mod files;
mod groups;
mod incomplete_files;
mod inputs;
mod lines;
mod links;
mod mass_change_guard;
mod merging;
mod plain;
mod request;
mod secret_filter;
mod sides;
mod stat_cache;
mod state_check;
mod step_guards;
mod steps;
mod sync_plan;
mod undelivered;
mod undelivered_version;

pub(crate) use cloud_check::check_cloud_identity;
pub(crate) use cloud_contents::CloudContents;
pub use error::PlanError;
pub use request::PlanRequest;
pub(crate) use steps::{
    Conflict, CopyOp, MergeTarget, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
pub(crate) use sync_plan::SyncPlan;
pub use undelivered_version::UndeliveredVersion;

use self::inputs::Planner;
use self::sides::ScannedSides;
use super::conflict_copies::ConflictCopies;
use super::scope;
use super::state::SyncState;
use std::cell::OnceCell;

/// Makes the plan, and returns it with the state that it is based on; [`apply`](crate::sync::apply::apply) needs both.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<(SyncPlan, SyncState), PlanError> {
    let config = request.config;
    let ScannedSides {
        scope,
        state,
        local,
        remote,
        cloud_contents,
        renamed,
        manifests,
    } = ScannedSides::read(request)?;
    let conflict_copies = ConflictCopies::read(&request.replica.folder, &config.cloud)?;
    let mut planner = Planner::new(request, &state, conflict_copies);
    planner.manifests = manifests.map_or_else(OnceCell::new, OnceCell::from);
    planner.is_renamed = renamed.is_some();
    planner.plan.cloud_contents = cloud_contents;
    planner.plan.notices.warnings.extend(renamed);
    planner
        .plan
        .notices
        .warnings
        .extend(scope::misspelled_roots(config));
    planner.check_state_damage()?;
    planner.note_restored_home();

    let groups = planner.group_listings(local, remote);
    planner.refuse_unmounted(&groups, &scope)?;
    planner.undelivered = planner.find_undelivered(&groups)?;

    planner.plan_groups(groups)?;
    planner.plan_pending_conflicts()?;

    planner.hold_mass_deletions();
    planner.report_incomplete(&scope)?;
    let mut plan = planner.plan;
    plan.is_complete = true;
    secret_filter::drop_login_copies(&mut plan, config);
    step_guards::drop_blocked_steps(&mut plan, config);
    plan.sort();
    Ok((plan, state))
}
