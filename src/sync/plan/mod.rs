//! The plan of a sync: which file is copied, merged, renamed or removed, and why. Planning only reads;
//! [`apply`](crate::sync::apply) then performs exactly the steps that were shown.
//!
//! [`plan`] runs these phases in this order. Each is a function of the results before it; `inputs` has what they share.
//!
//! 1. `sides`: checks that the cloud folder may be used, reads the state, and lists both sides.
//! 2. `groups`: puts all files of one key into a `FileGroup`. A conversation has one key in all its forms (`.jsonl`,
//!    `.jsonl.zst`, archived), other files have their path.
//! 3. `mass_change_guard`: fails if the cloud folder lacks so many known files that it is probably not mounted.
//! 4. `undelivered`: finds the versions of other machines' manifests that have not arrived.
//! 5. `files`: selects the groups to plan, and plans one after the other:
//!    - `delivery` checks that a remote file arrived completely.
//!    - `facts` compares each side with the last sync and with the other side; `ancestry` and `deletions` add what
//!      other machines know of the file.
//!    - [`decide`](crate::sync::decide) is the one table that maps facts to a decision.
//!    - `plain`, `lines` and `conversation` turn the decision into a `FilePlan`: a [`SyncStep`] with its [`Op`]s, a
//!      [`Conflict`], or a notice that says why the file is left alone.
//! 6. `conflict_copy_plan`: replicates or removes the conflict copies of conversations.
//! 7. Guards over all steps: `mass_change_guard` holds back many deletions, and `step_guards` drops steps that would copy a
//!    login or that are blocked by a folder. In between, `incomplete_files` reports what the sync waits for, with the
//!    machine that has it.
//!
//! A file that cannot be planned (unreadable, incomplete, ambiguous) is listed in `skipped` or `waiting` and does not
//! stop the others. Only a problem that makes all decisions unreliable is a [`PlanError`].

mod ancestry;
mod cloud_check;
mod conflict_copy_plan;
mod conversation;
mod conversation_draft;
mod conversation_step;
mod deletions;
mod delivery;
mod error;
mod facts;
mod file_group;
mod file_plan;
mod file_version;
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
mod sides;
mod stat_cache;
mod step_guards;
mod steps;
mod sync_plan;
mod undelivered;
mod undelivered_version;

pub(crate) use cloud_check::{CloudContents, check_cloud_identity};
pub use error::PlanError;
pub use request::PlanRequest;
pub(crate) use steps::{
    Conflict, CopyOp, MergeTarget, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
pub(crate) use sync_plan::SyncPlan;
pub use undelivered_version::UndeliveredVersion;

use self::conflict_copy_plan::plan_conflict_copies;
use self::files::{groups_to_plan, plan_file};
use self::groups::group_files;
use self::incomplete_files::report_incomplete;
use self::inputs::Inputs;
use self::mass_change_guard::{hold_mass_deletions, refuse_unmounted};
use self::sides::scan_sides;
use self::step_guards::{drop_blocked_steps, drop_login_copies};
use self::undelivered::find_undelivered;
use super::state::SyncState;

/// Makes the plan, and returns it with the state that it is based on; [`apply`](crate::sync::apply::apply) needs both.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<(SyncPlan, SyncState), PlanError> {
    let config = request.config;
    let sides = scan_sides(request)?;
    let state = &sides.state;
    let inputs = Inputs::new(
        request,
        &sides.scope,
        state,
        sides.manifests,
        sides.is_renamed,
    )?;
    let groups = group_files(config, state, sides.local, sides.remote);
    let missing = refuse_unmounted(&inputs, &groups.by_key)?;
    let undelivered = find_undelivered(&inputs, &groups.by_key, &missing.lost_deletions)?;

    let mut plan = SyncPlan {
        is_complete: true,
        cloud_contents: sides.cloud_contents,
        out_of_scope: missing.out_of_scope,
        leftover_temps: groups.leftover_temps,
        ..SyncPlan::default()
    };
    plan.notices.extend(sides.notices);
    plan.notices.extend(groups.notices);
    plan.notices.extend(missing.out_of_scope_note());
    plan.records.forgotten = missing.forgotten;
    plan.records.lost_deletions = missing.lost_deletions;
    for (key, group) in groups_to_plan(&inputs, groups.by_key) {
        plan.add(&key, plan_file(&inputs, &undelivered, &key, &group)?);
    }
    plan.add_conflict_copies(plan_conflict_copies(&inputs, &plan.steps)?);

    let (steps, held) = hold_mass_deletions(&inputs, plan.out_of_scope, plan.steps);
    plan.notices.held_deletions = held.len();
    plan.notices.extend(held);
    let latest_date = groups.latest_date.as_deref();
    plan.notices = report_incomplete(
        &inputs,
        &undelivered,
        latest_date,
        &plan.conflicts,
        plan.notices,
    )?;
    let (steps, logins) = drop_login_copies(steps, config);
    plan.notices.extend(logins);
    let (steps, blocked) = drop_blocked_steps(steps, config);
    plan.notices.extend(blocked);
    plan.steps = steps;
    plan.sort();
    drop(inputs);
    Ok((plan, sides.state))
}
