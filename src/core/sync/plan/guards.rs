//! Guards over a plan. They read no files. They refuse a plan, hold back steps that must not be applied, and report
//! undelivered files.

use super::error::PlanError;
use super::facts::compared_file::ComparedFile;
use super::facts::continued_rollouts::UnreadRollout;
use super::facts::missing_files::MissingFiles;
use super::facts::obstacles::{Obstacle, Obstacles};
use super::file_plan::{FileOutcome, FilePlan};
use super::request::PlanRequest;
use super::sync_plan::{PlanNotices, SyncPlan};
use super::sync_step::{Conflict, Op, SyncAction, SyncStep};
use crate::codex::rollout::uuid_time_ms;
use crate::io::quantity::pluralize;
use crate::sync::cloud_folder::delivery::ZERO_FILLED;
use crate::sync::cloud_folder::undelivered::UndeliveredFiles;
use crate::sync::decide::FileDecision;
use crate::sync::file_group::{FileGroup, state_key};
use crate::sync::manifest;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::rollouts;
use crate::sync::secrets::FileSecret;
use crate::sync::sides::{Side, SidePath};
use crate::sync::state::SyncState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

/// Lower bound of the number of deletions that need no consent, unless that is more than half of all files.
const MIN_DELETION_LIMIT: usize = 5;
/// Upper bound of the number of deletions that need no consent.
const MAX_DELETION_LIMIT: usize = 20;
/// The place of the path in the notice about all files that exist only as placeholders.
pub const PLACEHOLDERS: &str = "placeholders";
/// Number of paths that the notice about placeholders names.
const NAMED_PATHS: usize = 3;
/// Number of missing files that never count as an unmounted folder while this machine's manifest exists.
const ALLOWED_MISSING: usize = 20;

/// Returns a notice if `decision` must not be applied, because the download is risky or a file to copy has a secret.
pub(super) fn notice_if_refused(file: &ComparedFile<'_>, decision: FileDecision) -> Option<Notice> {
    if let FileDecision::Copy(Side::Remote, _) = decision
        && let Some(why) = file.download_risk
    {
        return Some(NoticeList::Waiting.notice(&file.path, why));
    }

    let source_sides: &[Side] = match decision {
        FileDecision::Copy(side, _) => &[side],
        // Either version may be copied, because the user chooses one.
        FileDecision::Conflict => &[Side::Local, Side::Remote],
        _ => return None,
    };
    let secret = source_sides
        .iter()
        .find_map(|side| file.version_on(*side)?.secret)?;
    let mut why = format!("is not synced: {secret}");
    if let FileSecret::InText(_) = secret {
        why.push_str("; --allow-secrets syncs it once");
    }
    Some(NoticeList::Warning.notice(&file.path, why))
}

/// Replaces a plan that would copy a login under another name by a warning. Logins are never copied, even if their file
/// is not searched for secrets or the user allowed its secrets.
pub(super) fn drop_login_step(file: &ComparedFile<'_>, plan: FilePlan) -> FilePlan {
    let FileOutcome::Step(step) = &plan.outcome else {
        return plan;
    };
    let mut sources = step.ops.iter().flat_map(Op::sources);
    match sources.find(|observed| file.logins.contains(observed)) {
        None => plan,
        Some(login) => {
            let why = "is not synced: it is a login under another name";
            NoticeList::Warning.notice(&login.path, why).into()
        }
    }
}

/// Fails if the cloud folder is probably not mounted or not downloaded: it lacks this machine's manifest and a known
/// file, or more than a quarter of the known files and more than [`ALLOWED_MISSING`]. With `--refill`, never fails.
pub(super) fn refuse_unmounted(
    missing: &MissingFiles,
    request: &PlanRequest<'_>,
) -> Result<(), PlanError> {
    let lacks_many = missing.missing_count > (missing.known_count / 4).max(ALLOWED_MISSING);
    let seems_unmounted = missing.missing_count > 0 && (lacks_many || !missing.has_own_manifest);
    if seems_unmounted && !request.refill {
        return Err(PlanError::MostFilesMissing {
            missing: missing.missing_count,
            known: missing.known_count,
            cloud: request.config.cloud.clone(),
        });
    }
    Ok(())
}

/// Drops the deletions of lost files, so that they are not published, with `--refill`, or if they are too many and
/// `--delete-many` is not given.
pub(super) fn hold_back_lost_deletions(missing: &mut MissingFiles, request: &PlanRequest<'_>) {
    let are_too_many = missing.lost_count > deletion_limit(missing.known_count);
    if request.refill || (are_too_many && !request.delete_many) {
        missing.lost_deletions.clear();
    }
}

/// Returns the note about the number of files that the configuration no longer includes; `None` if there are none.
pub(super) fn out_of_scope_note(file_count: usize) -> Option<Notice> {
    let verb = if file_count == 1 { "is" } else { "are" };
    let files = pluralize(file_count, "file");
    let why = format!("{files} {verb} no longer synced; both sides stay as they are");
    (file_count > 0).then(|| NoticeList::Note.notice("include_roots, exclude_globs", why))
}

/// Returns the notice about the files that exist only as placeholders; `None` if there are none.
fn placeholders_notice(groups: &HashMap<String, FileGroup>) -> Option<Notice> {
    let placeholders = groups.values().filter_map(FileGroup::only_placeholder);
    let paths: BTreeSet<_> = placeholders.map(|file| &*file.path).collect();
    let suffix = match paths.len() {
        0..=NAMED_PATHS => "",
        _ => ", …",
    };
    let first_paths: Vec<_> = paths.iter().copied().take(NAMED_PATHS).collect();
    let why = format!(
        "the cloud client has not downloaded {}: {}{suffix}; have it download the folder, then run this command again",
        pluralize(paths.len(), "file"),
        first_paths.join(", ")
    );
    (!paths.is_empty()).then(|| NoticeList::Skipped.notice(PLACEHOLDERS, why))
}

/// Returns the number of deletions that are copied without `--delete-many`: a tenth of the known files, but at most
/// [`MAX_DELETION_LIMIT`], and at least [`MIN_DELETION_LIMIT`]. With fewer than 10 known files, half of them, but at
/// least 1.
fn deletion_limit(known_files: usize) -> usize {
    let floor = MIN_DELETION_LIMIT.min(known_files / 2).max(1);
    (known_files / 10).clamp(floor, MAX_DELETION_LIMIT)
}

/// Drops all steps that delete files if there are more than [`deletion_limit`], unless `--delete-many` is given: the
/// user more likely lost a folder. Ignores deletions that were published before. `known_files` is
/// [`MissingFiles::known_count`].
pub(super) fn hold_back_mass_deletions(
    plan: &mut SyncPlan,
    known_files: usize,
    request: &PlanRequest<'_>,
    state: &SyncState,
) {
    // A published deletion was left by a killed run, which has passed this guard.
    let is_under_way = |step: &SyncStep| {
        step.action == SyncAction::DeleteCloud && state.deleted.contains_key(&step.key)
    };
    let is_deletion = |step: &SyncStep| step.is_deletion() && !is_under_way(step);

    let deletion_count = plan.steps.iter().filter(|step| is_deletion(step)).count();
    let limit = deletion_limit(known_files);
    if request.delete_many || deletion_count <= limit {
        return;
    }

    plan.notices.holds_deletions = true;
    let deletions = pluralize(deletion_count, "deletion");
    hold_back(plan, |step| {
        let side = match step.action {
            SyncAction::DeleteCloud => "on this machine, but not on other machines",
            _ => "on another machine, but not on this one",
        };
        let why = format!("deleted {side}: {deletions} at once (at most {limit})");
        is_deletion(step).then_some(why)
    });
}

/// Drops the steps for which `find_reason` returns a reason, each with a notice.
fn hold_back(plan: &mut SyncPlan, find_reason: impl Fn(&SyncStep) -> Option<String>) {
    let mut notices = Vec::new();
    plan.steps.retain(|step| match find_reason(step) {
        None => true,
        Some(why) => {
            notices.push(NoticeList::Skipped.notice(&step.path, why));
            false
        }
    });
    plan.notices.extend(notices);
}

/// Drops the steps whose target path is blocked: it is a folder on one side and a file on the other, or a special file.
/// A file that another step removes does not block. `remote_place` describes the place of the remote in messages.
pub(super) fn drop_blocked_steps(plan: &mut SyncPlan, obstacles: &Obstacles, remote_place: &str) {
    let ops = plan.steps.iter().flat_map(|step| &step.ops);
    let removed_files: HashSet<(Side, String)> = ops
        .filter_map(|op| match op {
            Op::Remove(file) => Some((file.side, file.path.clone())),
            _ => None,
        })
        .collect();

    let find_reason = |target: &SidePath| {
        let on_side = target.side.select("on this machine", remote_place);
        let is_removed = |path: &String| removed_files.contains(&(target.side, path.clone()));
        let remedy = "rename or remove one of the two";

        match obstacles.get(target)? {
            Obstacle::NotAFolder(above) if is_removed(above) => None,
            Obstacle::NotAFolder(above) => Some(format!(
                "{above} is not a folder {on_side}, but is one on the other side; {remedy}"
            )),
            Obstacle::Folder(files) if files.iter().all(is_removed) => None,
            Obstacle::Folder(_) => Some(format!(
                "is a folder {on_side}, but a file on the other side; {remedy}"
            )),
            Obstacle::SpecialFile => Some(format!(
                "a special file blocks this path {on_side}; remove that file"
            )),
        }
    };

    hold_back(plan, |step| step.new_targets().find_map(find_reason));
}

/// Replaces the steps with these keys by conflicts, regardless of the policy and of the choice of the user. The steps
/// would replace lines that other rollouts continue.
pub(super) fn turn_into_conflicts(plan: &mut SyncPlan, conflicts: Vec<(String, Conflict)>) {
    let (keys, conflicts): (HashSet<String>, Vec<_>) = conflicts.into_iter().unzip();
    plan.steps.retain(|step| !keys.contains(&step.key));
    plan.conflicts.extend(conflicts);
}

/// Drops the deletions of the rollouts that are not certainly newer than the rollout `unread`. Each of them may be its
/// base: the first line of `unread`, which names the base, was not read.
pub(super) fn hold_back_deletions_of_bases(plan: &mut SyncPlan, unread: &UnreadRollout) {
    let path = &unread.path;
    let why = format!("is not deleted until {path}, which may continue it, can be read");
    // An id with a time begins with it, so the greater id is the newer rollout.
    let may_be_older = |id: &str| uuid_time_ms(id).is_none() || id <= &*unread.id;
    hold_back(plan, |step| {
        let id = rollouts::rollout_id(&step.key);
        let may_be_base = rollouts::is_key(&step.key) && id.as_deref().is_none_or(may_be_older);
        (step.is_deletion() && may_be_base).then(|| why.clone())
    });
}

/// Drops the steps with these keys. Their rollouts continue a conversation in conflict, and a later run copies them
/// after the conflict is resolved.
pub(super) fn hold_back_continuations(plan: &mut SyncPlan, keys: &HashSet<String>) {
    let why = "continues a conversation in conflict; it is copied after the conflict is resolved";
    hold_back(plan, |step| {
        keys.contains(&step.key).then(|| why.to_owned())
    });
}

/// Adds notices about files that are not downloaded, and about undelivered versions unless the file has another notice.
/// Completes the waiting notices.
pub(super) fn report_incomplete(
    plan: &mut SyncPlan,
    mut undelivered: UndeliveredFiles,
    groups: &HashMap<String, FileGroup>,
) {
    let reported_keys = collect_reported_keys(plan);
    let notices = &mut plan.notices;
    complete_waiting_notices(notices, &undelivered, groups);

    undelivered.retain(|key, _| !reported_keys.contains(key));
    for file in undelivered.into_values() {
        match file.missing {
            Some(version) if file.is_former => {
                let why = format!(
                    "{} listed a version before it was restored from a backup or copied; no machine lists that \
                     version now, so sync does not wait for it",
                    version.machine
                );
                notices.notes.push((version.path, why));
            }
            Some(version) => notices.undelivered.push(version),
            None => {}
        }
    }
    notices.undelivered.sort();
    notices.extend(placeholders_notice(groups));
}

/// Adds to each waiting notice the machine that has the newest version.
///
/// Offers `--accept-unlisted` only if an unlisted file waits and no current manifest lists a newer version of it. If a
/// newer version is on its way, the option could use an older one.
fn complete_waiting_notices(
    notices: &mut PlanNotices,
    undelivered: &UndeliveredFiles,
    groups: &HashMap<String, FileGroup>,
) {
    for (path, why) in &mut notices.waiting {
        let undelivered_file = undelivered.get(&manifest::folded_key(path));
        let newer_file = undelivered_file.filter(|file| !file.is_former);
        if newer_file.is_none() && notices.unlisted.contains(path) {
            notices.may_accept_unlisted = true;
        }

        // If no other machine has a newer version, the version of this machine is the newest.
        let is_local = |group: &FileGroup| !group.local.is_empty();
        let machine = match newer_file {
            Some(file) => file.missing.as_ref().map(|version| &*version.machine),
            None if groups.get(&state_key(path)).is_some_and(is_local) => Some("this machine"),
            None => None,
        };
        // `ZERO_FILLED` ends with a command.
        if let Some(machine) = machine
            && why != ZERO_FILLED
        {
            let _ = write!(why, "; {machine} has the newest version");
        }
    }
}

/// Returns the [`manifest::folded_key`] of each file for which the plan already has a reason not to sync it.
fn collect_reported_keys(plan: &SyncPlan) -> HashSet<String> {
    let notices = &plan.notices;
    let lists = [&notices.waiting, &notices.skipped, &notices.warnings];
    let paths = lists.into_iter().flatten().map(|(path, _)| path);
    let paths = paths.chain(plan.conflicts.iter().map(|conflict| &conflict.path));
    paths.map(|path| manifest::folded_key(path)).collect()
}
