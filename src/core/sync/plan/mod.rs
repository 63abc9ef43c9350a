//! The plan of a sync: which file is copied, merged, renamed or removed, and why. Planning only reads;
//! [`apply`](crate::sync::apply) then performs exactly the steps that were shown.
//!
//! [`plan`] runs these phases in this order. Only `scan`, `records` and `facts` read the disk; all others get data.
//!
//! 1. `scan`: reads the state and the manifests, lists both sides, and puts all files of one key into a group.
//! 2. `records`: what all machines have recorded about files: the manifests, the ledger and the state.
//! 3. `facts`, `guards`: fails if the cloud folder lacks so many known files that it is probably not mounted.
//! 4. For each group: `facts` reads the file, [`decide`](crate::sync::decide) maps the facts to a decision by one
//!    table, the `guards` check it, and `steps` carries it out.
//! 5. `steps`: replicates or removes the conflict copies of conversations.
//! 6. `guards` over all steps: holds back many deletions, drops steps that are blocked, and reports files that the
//!    cloud client has not delivered.
//!
//! A file that cannot be planned (unreadable, incomplete, ambiguous) is listed in `skipped` or `waiting` and does not
//! stop the others. Only a problem that makes all decisions unreliable is a [`PlanError`].
//!
//! I want to change
//! - which files are synced → [`scope`](crate::sync::scope), `scan`;
//! - what happens to a file → [`decide`](crate::sync::decide), with the facts from `facts::comparison`;
//! - when a remote file counts as delivered or is missing → [`cloud_folder`](crate::sync::cloud_folder);
//! - the steps of a conversation → `steps::conversation`, of other files → `steps::file`;
//! - what is held back or reported → `guards`.

mod error;
mod facts;
mod file_plan;
mod guards;
mod request;
mod scan;
mod steps;
mod sync_plan;
mod sync_step;

pub use super::cloud_folder::undelivered::UndeliveredVersion;
pub use super::sides::ObservedFile;
pub use error::PlanError;
pub use guards::PLACEHOLDERS;
pub use request::PlanRequest;
pub use scan::sides::creates_cloud_folder;
pub(crate) use scan::sides::{CloudContents, check_cloud_identity};
pub(crate) use sync_plan::PlanNotices;
pub use sync_plan::SyncPlan;
pub use sync_step::{Conflict, NewConflictCopy, Op, SyncAction, SyncStep};
pub(crate) use sync_step::{CopyOp, MergeOp, MergeTarget, Placement, StateUpdate};

use self::facts::compared_file::FileReading;
use self::facts::fact_reader::FactReader;
use self::file_plan::FilePlan;
use self::scan::groups::group_files;
use self::scan::sides::scan_sides;
use self::scan::stat_cache::reset_mtimes_of_changed_files;
use self::steps::conflict_copies::{add_conflict_copies, record_obsolete_copies};
use self::steps::file::plan_file;
use super::config::SyncRemote;
use super::file_group::FileGroup;
use super::records::Records;
use super::resolutions;
use super::state::SyncState;
use crate::io::{IoContext, parallel, progress};
use std::collections::HashSet;

/// Number of files that a thread plans at a time.
const CHUNK_FILES: usize = 256;
/// Maximum number of planned chunks that wait to be added to the plan.
const CHUNKS_AHEAD: usize = 8;

/// Makes the plan, and returns it with the state that it is based on, which may differ from the state file;
/// [`apply`](crate::sync::apply::apply) needs both.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(request: &PlanRequest<'_>) -> Result<(SyncPlan, SyncState), PlanError> {
    let config = request.config;
    let mut sides = scan_sides(request)?;
    let groups = group_files(config, &sides.state, sides.local, sides.remote);
    reset_mtimes_of_changed_files(&mut sides.state, &groups.by_key, &sides.manifests, config);
    let records = Records::read(config, request.replica, sides.state, sides.manifests)?;

    let reader = FactReader::new(request, &sides.scope, &records, &groups.by_key);
    let mut missing = reader.find_missing_files(sides.is_renamed)?;
    guards::refuse_unmounted(&missing, request)?;
    guards::hold_back_lost_deletions(&mut missing, request);

    let undelivered = reader.folder.find_undelivered(
        &groups.by_key,
        groups.latest_date.as_deref(),
        &missing.lost_deletions,
    )?;

    let mut plan = SyncPlan {
        is_complete: true,
        cloud_contents: sides.cloud_contents,
        leftover_temps: groups.leftover_temps,
        ..SyncPlan::default()
    };

    let notices = sides.notices.into_iter().chain(groups.notices);
    let out_of_scope = guards::out_of_scope_note(missing.out_of_scope_count);
    plan.notices.extend(notices.chain(out_of_scope));
    plan.records.forgotten_keys = missing.forgotten_keys;
    plan.records.lost_deletions = missing.lost_deletions;

    plan_groups(&reader, &mut plan)?;
    replace_continued_deletions(&reader, &mut plan)?;

    let [own, remote] = records.resolutions();
    plan.records.learned_resolutions = resolutions::list_newer(own, remote);

    let copies = reader.compare_conflict_copies(&plan.steps);
    if config.remote == SyncRemote::Vault {
        let drop_records = record_obsolete_copies(&copies, &plan.conflicts, records.resolutions());
        plan.records.learned_resolutions.extend(drop_records);
    }
    add_conflict_copies(&mut plan, &copies);

    if request.finds_needed_versions {
        reader.set_needed_sides(&mut plan.conflicts);
    }
    let continued_conflicts = reader.find_continued_conflicts(&plan.steps);
    guards::turn_into_conflicts(&mut plan, continued_conflicts);
    let continuation_keys = reader.find_steps_continuing_conflicts(&plan);
    guards::hold_back_continuations(&mut plan, &continuation_keys);

    guards::hold_back_mass_deletions(&mut plan, missing.known_count, request, &records.state);
    guards::report_incomplete(&mut plan, undelivered, &groups.by_key);
    // Needs the notices about unread rollouts, and must not change the number of deletions that was counted above.
    if let Some(unread) = reader.find_unread_rollout(&plan) {
        guards::hold_back_deletions_of_bases(&mut plan, &unread);
    }

    // After steps were held back, because only paths that this run creates can be blocked.
    let obstacles = reader.find_obstacles(&plan.steps);
    guards::drop_blocked_steps(&mut plan, &obstacles, config.remote.describe_place());

    plan.sort();
    Ok((plan, records.state))
}

/// Plans all groups. Those in sync are only counted. The others are planned in several threads, because opening a file
/// takes longer than planning it.
fn plan_groups(reader: &FactReader<'_>, plan: &mut SyncPlan) -> Result<(), PlanError> {
    let mut selected = reader.select_groups();
    let selected_count = selected.len();
    selected.retain(|(key, group)| !reader.is_in_sync(key, group));
    plan.unchanged = selected_count - selected.len();

    let are_continued = false;
    let plan_chunk = |files| plan_files(reader, files, are_continued);
    let chunks = selected.chunks(CHUNK_FILES);
    parallel::run_each_ordered(CHUNKS_AHEAD, chunks, plan_chunk, |files| {
        for (key, file_plan) in files? {
            plan.add_file_plan(key, file_plan);
        }
        Ok(())
    })
}

/// Replaces each deletion of a rollout that another rollout continues by a copy to the side that lacks the file.
fn replace_continued_deletions(
    reader: &FactReader<'_>,
    plan: &mut SyncPlan,
) -> Result<(), PlanError> {
    // A rollout that comes back may continue another one.
    loop {
        let files = reader.find_continued_deletions(&plan.steps);
        if files.is_empty() {
            return Ok(());
        }
        let keys: HashSet<_> = files.iter().map(|(key, _)| *key).collect();
        plan.steps.retain(|step| !keys.contains(&*step.key));
        let are_continued = true;
        for (key, file_plan) in plan_files(reader, &files, are_continued)? {
            plan.add_file_plan(key, file_plan);
        }
    }
}

/// Returns the plans of these files, in the order of `files`. `are_continued` is true if other rollouts continue the
/// files, so that none is deleted.
fn plan_files<'a>(
    reader: &FactReader<'a>,
    files: &[(&'a str, &'a FileGroup)],
    are_continued: bool,
) -> Result<Vec<(&'a str, FilePlan)>, PlanError> {
    let files = files.iter().map(|(key, group)| {
        progress::check_interrupt().at("plan", key)?;
        let file_plan = match reader.read_group(key, group)? {
            FileReading::Planned(plan) => *plan,
            FileReading::Compared(mut compared) => {
                compared.facts.is_continued = are_continued;
                plan_file(*compared)
            }
        };
        Ok((*key, file_plan))
    });
    files.collect()
}
