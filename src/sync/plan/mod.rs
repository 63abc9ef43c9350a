//! The plan of a sync: which file is copied, merged, renamed or removed, and why. Planning only reads;
//! [`apply`](crate::sync::apply) then performs exactly the steps that were shown.
//!
//! [`plan`] runs these phases in this order. Each uses the results of the phases before it. `inputs` has the records of
//! all machines about files: the manifests, the ledger and the state. They are read once, before any decision. Types of
//! several phases are in `sync_step`, `undelivered_version` and [`notice`](crate::sync::notice).
//!
//! 1. `scan`: reads the state and the manifests, lists both sides, and puts all files of one key into a group.
//! 2. `guards`: fails if the cloud folder lacks so many known files that it is probably not mounted.
//! 3. `facts`: finds the versions of other machines that have not arrived.
//! 4. `files`, for each group: `facts` about the file, its decision by the table in
//!    [`decide`](crate::sync::decide), the `guards` over that, and the `steps` that carry it out.
//! 5. `steps`: replicates or removes the conflict copies of conversations.
//! 6. `guards` over all steps: holds back many deletions, drops steps that would copy a login or that are blocked, and
//!    reports files and manifests that the cloud client has not delivered.
//!
//! A file that cannot be planned (unreadable, incomplete, ambiguous) is listed in `skipped` or `waiting` and does not
//! stop the others. Only a problem that makes all decisions unreliable is a [`PlanError`].
//!
//! I want to change
//! - which files are synced → [`scope`](crate::sync::scope), `scan`;
//! - what happens to a file → [`decide`](crate::sync::decide), with the facts from `facts::file_facts`;
//! - when a remote file counts as delivered → `facts::delivery`; which versions are missing → `facts::undelivered`;
//! - the steps of a conversation → `steps::conversation`, of other files → `steps::plain`, `steps::lines`;
//! - what is held back or reported → `guards`.

mod error;
mod facts;
mod files;
mod guards;
mod inputs;
mod request;
mod scan;
mod steps;
mod sync_plan;
mod sync_step;
mod undelivered_version;

pub use error::PlanError;
pub use request::PlanRequest;
pub(crate) use scan::cloud_check::{CloudContents, check_cloud_identity};
pub(crate) use sync_plan::SyncPlan;
pub(crate) use sync_step::{
    Conflict, CopyOp, MergeTarget, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
pub use undelivered_version::UndeliveredVersion;

use self::facts::undelivered::find_undelivered;
use self::files::{groups_to_plan, plan_file};
use self::guards::decision_guard::ALLOWS_SECRET;
use self::guards::dropped_steps::{drop_blocked_steps, drop_login_copies};
use self::guards::incomplete_files::report_incomplete;
use self::guards::mass_change_guard::{hold_mass_deletions, refuse_unmounted};
use self::inputs::Inputs;
use self::scan::file_group::display_path;
use self::scan::groups::group_files;
use self::scan::sides::scan_sides;
use self::steps::conflict_copies::plan_conflict_copies;
use super::state::SyncState;
use crate::io::{IoContext, progress};

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
    let undelivered = find_undelivered(&inputs, &groups.by_key, &missing.lost_deletions);

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
    let is_file = |path: &str| {
        let mut files = groups.by_key.iter();
        files.any(|(key, group)| display_path(key, group) == path)
    };
    let mistyped = request.allow_secrets.iter().find(|path| !is_file(path));
    for (key, group) in groups_to_plan(&inputs, groups.by_key) {
        progress::check_interrupt().at("plan", &key)?;
        plan.add(&key, plan_file(&inputs, &key, &group)?);
    }
    if let Some(path) = mistyped {
        return Err(no_file_to_allow(path, &plan));
    }
    plan.add_conflict_copies(plan_conflict_copies(&inputs, &plan.steps));

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
    );
    let (steps, logins) = drop_login_copies(steps, config);
    plan.notices.extend(logins);
    let (steps, blocked) = drop_blocked_steps(steps, config);
    plan.notices.extend(blocked);
    plan.steps = steps;
    plan.sort();
    drop(inputs);
    Ok((plan, sides.state))
}

/// Returns the error for a path of `--allow-secrets` without a file.
fn no_file_to_allow(path: &str, plan: &SyncPlan) -> PlanError {
    let warnings = plan.notices.warnings.iter();
    let held = warnings.filter(|(_, why)| why.ends_with(ALLOWS_SECRET));
    let mut held: Vec<_> = held.map(|(path, _)| path.clone()).collect();
    held.sort();
    let path = path.to_owned();
    PlanError::NoFileToAllow { path, held }
}
