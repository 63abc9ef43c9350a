//! Report of missing deliveries: the undelivered versions, which machine has the newest version of each waiting
//! file, and whether `--accept-unlisted` would help.

use crate::io::IoError;
use crate::sync::cloud_names::{self, CloudName};
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::manager_folder;
use crate::sync::manifest;
use crate::sync::plan::facts::delivery::ZERO_FILLED;
use crate::sync::plan::facts::undelivered::{UndeliveredFiles, is_conflict_copy};
use crate::sync::plan::facts::undelivered_version::UndeliveredVersion;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::key_of;
use crate::sync::plan::steps::file_plan::NoticeList;
use crate::sync::plan::steps::sync_step::Conflict;
use crate::sync::plan::sync_plan::PlanNotices;
use crate::sync::remote_manifests::{self, ListedVersion};
use crate::sync::rollouts;
use crate::sync::scan::Side;
use crate::sync::scope::ScopeMatch;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// Completes the notices: manifests that cannot be read, undelivered versions, and for each waiting file the machine
/// that has its newest version. Offers `--accept-unlisted` only for files without a newer version in any manifest:
/// otherwise it could replace a version that is still being delivered by an older one.
pub(crate) fn report_incomplete(
    inputs: &Inputs<'_>,
    undelivered: &UndeliveredFiles,
    latest_date: Option<&str>,
    conflicts: &[Conflict],
    mut notices: PlanNotices,
) -> Result<PlanNotices, IoError> {
    let (cloud, own) = (&inputs.config.cloud, inputs.own_manifest());
    let placeholders = remote_manifests::not_downloaded(cloud, &own)?;
    if let Some(read) = inputs.manifests_if_read() {
        notices.skipped.extend(read.refused.iter().cloned());
    }
    let waiting = notices.waiting.iter();
    let keys = waiting.map(|(path, _)| manifest::key_of(path));
    let keys: HashSet<String> = keys.chain(undelivered.keys().cloned()).collect();
    let mut former = inputs.state.own.former.clone();
    if !keys.is_empty() {
        former.extend_from_slice(&inputs.manifests()?.former);
    }
    let listed = remote_manifests::listed_versions(
        cloud,
        &own,
        &former,
        &keys,
        &remote_manifests::MANIFEST_LIMITS,
    )?;
    let reported = reported_keys(&notices, conflicts);
    let (given_up, missing) =
        undelivered_versions(inputs, undelivered, &listed, latest_date, &reported)?;
    notices.undelivered = missing;
    notices.extend(given_up.into_iter().map(|version| {
        let why = format!(
            "{} listed a version before it was put back from a backup or copied; no machine lists that \
             version now, so sync does not wait for it",
            version.machine
        );
        NoticeList::Note.notice(version.path, why)
    }));
    for (path, why) in &mut notices.waiting {
        let key = manifest::key_of(path);
        let is_newer = |version: &&_| {
            undelivered
                .get(&key)
                .is_some_and(|file| file.may_include(version))
        };
        let versions = listed.get(&key).into_iter().flatten();
        let versions = versions.filter(|version| !version.is_former);
        let newest = newest(&key, versions.filter(is_newer)).into_iter();
        let machines: Vec<&str> = newest.map(|version| &*version.machine).collect();
        notices.may_accept_unlisted |= machines.is_empty() && notices.unlisted.contains(path);
        add_newest_machine(inputs, path, why, &machines);
    }
    let placeholders = placeholders.iter().map(|name| {
        NoticeList::Waiting.notice(
            manager_folder::display_name(name),
            remote_manifests::NOT_DOWNLOADED,
        )
    });
    notices.extend(placeholders);
    Ok(notices)
}

/// Returns the undelivered versions to report, each with the machine that lists the newest one: first those that only
/// former manifests list, then the others. Files that another list of the plan names already are left out.
fn undelivered_versions(
    inputs: &Inputs<'_>,
    all: &UndeliveredFiles,
    listed: &HashMap<String, Vec<ListedVersion>>,
    latest_date: Option<&str>,
    reported: &HashSet<String>,
) -> Result<(Vec<UndeliveredVersion>, Vec<UndeliveredVersion>), IoError> {
    let (mut given_up, mut undelivered) = (Vec::new(), Vec::new());
    for (key, file) in all {
        let versions = listed.get(key).into_iter().flatten();
        let missing = versions.filter(|version| file.is_certain(version));
        let (former, live): (Vec<_>, Vec<_>) = missing.partition(|version| version.is_former);
        let is_former = live.is_empty();
        let missing = if is_former { former } else { live };
        let Some(newest) = newest(key, missing.into_iter()).into_iter().next() else {
            continue;
        };
        let path = &newest.path;
        // Paths of manifests are untrusted: control characters in a path could manipulate the terminal.
        let is_reportable = !path.chars().any(char::is_control) && !reported.contains(key);
        if !is_reportable || file.is_absent && !would_be_downloaded(inputs, newest, latest_date)? {
            continue;
        }
        let list = if is_former {
            &mut given_up
        } else {
            &mut undelivered
        };
        list.push(UndeliveredVersion {
            machine: newest.machine.clone(),
            path: path.clone(),
            is_conversation: rollouts::key(path).is_some(),
            is_new: file.is_new,
        });
    }
    given_up.sort();
    undelivered.sort();
    Ok((given_up, undelivered))
}

/// Returns true if a file that neither side has would be synced once it is in the cloud folder.
fn would_be_downloaded(
    inputs: &Inputs<'_>,
    version: &ListedVersion,
    latest_date: Option<&str>,
) -> Result<bool, IoError> {
    let path = &*version.path;
    // Keys of manifests ignore letter case; names of conflict copies do not, so the key comes from the path.
    if let Some(key) = rollouts::key(path)
        && is_conflict_copy(inputs, &key, &version.entry)?
    {
        return Ok(false);
    }
    let is_synced = inputs.scope.classify(path) == ScopeMatch::Synced
        && cloud_names::classify(path) == CloudName::Plain;
    let of_day = rollouts::date(path);
    let is_of_other_day = inputs.config.scope.session_mode == SessionMode::LastDateOnly
        && of_day.is_some_and(|day| Some(&*day) < latest_date);
    let exists = || {
        inputs
            .config
            .root(Side::Remote)
            .join(path)
            .symlink_metadata()
            .is_ok()
    };
    Ok(is_synced && !is_of_other_day && !exists())
}

/// Returns the newest of these versions of a file, once for each machine that lists it.
fn newest<'a>(
    key: &str,
    versions: impl Iterator<Item = &'a ListedVersion>,
) -> Vec<&'a ListedVersion> {
    let versions: Vec<_> = versions.collect();
    let grows = rollouts::is_key(key) || line_merge::is_mergeable(key);
    let order = |version: &&&ListedVersion| {
        let size = if grows { version.entry.size } else { 0 };
        (size, version.entry.mtime_ns)
    };
    let Some(best) = versions.iter().max_by_key(order) else {
        return Vec::new();
    };
    let is_best = |version: &&&ListedVersion| version.entry.digest == best.entry.digest;
    let mut newest: Vec<_> = versions.iter().filter(is_best).copied().collect();
    newest.sort_by(|a, b| a.machine.cmp(&b.machine));
    newest.dedup_by(|a, b| a.machine == b.machine);
    newest
}

/// Returns the files whose reason not to be synced is in the plan already, by the key that manifests use.
fn reported_keys(notices: &PlanNotices, conflicts: &[Conflict]) -> HashSet<String> {
    let lists = [&notices.waiting, &notices.skipped, &notices.warnings];
    let paths = lists.into_iter().flatten().map(|(path, _)| path);
    let paths = paths.chain(conflicts.iter().map(|conflict| &conflict.path));
    paths
        .map(|path| manifest::fold_name(&key_of(path)))
        .collect()
}

/// Adds to the reason for waiting where the newest version is: on one of the `machines`, or on this one.
fn add_newest_machine(inputs: &Inputs<'_>, path: &str, why: &mut String, machines: &[&str]) {
    let newest_on = match machines {
        [] if has_local_version(inputs, path) => "this machine".to_owned(),
        [] => String::new(),
        machines => machines.join(" or "),
    };
    if why == ZERO_FILLED {
        let on = if newest_on.is_empty() {
            "the machine that has it"
        } else {
            &newest_on
        };
        let _ = write!(
            why,
            "; remove it from the cloud folder, then run on {on}: codex-manager sync run --apply"
        );
    } else if !newest_on.is_empty() {
        let _ = write!(why, "; {newest_on} has the newest version");
    }
}

/// Returns true if the Codex home has a version of a waiting file.
fn has_local_version(inputs: &Inputs<'_>, path: &str) -> bool {
    let last = inputs.state.files.get(&key_of(path));
    let path = last.map_or(path, |last| &last.local.path);
    inputs.config.file_path(Side::Local, path).is_file()
}
