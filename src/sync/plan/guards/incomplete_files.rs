//! Report of missing deliveries: the undelivered versions, which machine has the newest version of each waiting
//! file, and whether `--accept-unlisted` would help.

use crate::sync::cloud_names::{self, CloudName};
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::manager_folder;
use crate::sync::manifest;
use crate::sync::notice::NoticeList;
use crate::sync::plan::facts::delivery::ZERO_FILLED;
use crate::sync::plan::facts::undelivered::{
    MissingVersion, UndeliveredFile, UndeliveredFiles, is_conflict_copy,
};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::key_of;
use crate::sync::plan::sync_plan::PlanNotices;
use crate::sync::plan::sync_step::Conflict;
use crate::sync::plan::undelivered_version::UndeliveredVersion;
use crate::sync::remote_manifests::ListedVersion;
use crate::sync::rollouts;
use crate::sync::scan::Side;
use crate::sync::scope::ScopeMatch;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

/// Completes the notices: manifests that cannot be read, undelivered versions, and for each waiting file the machine
/// that has its newest version. Offers `--accept-unlisted` only for files without a newer version in any manifest:
/// otherwise it could replace a version that is still being delivered by an older one.
pub(crate) fn report_incomplete(
    inputs: &Inputs<'_>,
    undelivered: &UndeliveredFiles<'_>,
    latest_date: Option<&str>,
    conflicts: &[Conflict],
    mut notices: PlanNotices,
) -> PlanNotices {
    let manifests = &inputs.manifests;
    notices.skipped.extend(manifests.refused.iter().cloned());
    let reported = reported_keys(&notices, conflicts);
    let (mut given_up, mut missing) = (Vec::new(), Vec::new());
    for (key, file) in undelivered
        .iter()
        .filter(|(key, _)| !reported.contains(**key))
    {
        if let Some((version, is_former)) = undelivered_version(inputs, key, file, latest_date) {
            let list = if is_former {
                &mut given_up
            } else {
                &mut missing
            };
            list.push(version);
        }
    }
    missing.sort();
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
        let versions = undelivered
            .get(&*key)
            .map_or(&[][..], |file| &file.versions);
        let machines =
            newest(inputs, &key, versions, false).map_or_else(BTreeSet::new, |(_, all)| all);
        notices.may_accept_unlisted |= machines.is_empty() && notices.unlisted.contains(path);
        add_newest_machine(inputs, path, why, machines);
    }
    let placeholders = manifests.not_downloaded.iter();
    let placeholders = placeholders.map(|name| {
        let why =
            "the manifest of another machine is not downloaded; have the cloud client download it";
        NoticeList::Waiting.notice(manager_folder::display_name(name), why)
    });
    notices.extend(placeholders);
    notices
}

/// Returns the newest version of a file that certainly has not arrived, with the machine that lists it; with true if
/// only former manifests list it.
fn undelivered_version(
    inputs: &Inputs<'_>,
    key: &str,
    file: &UndeliveredFile<'_>,
    latest_date: Option<&str>,
) -> Option<(UndeliveredVersion, bool)> {
    let certain = file.versions.iter().filter(|version| version.is_certain);
    let certain: Vec<_> = certain.copied().collect();
    let live = newest(inputs, key, &certain, false);
    let is_former = live.is_none();
    let (newest, machines) = live.or_else(|| newest(inputs, key, &certain, true))?;
    let path = &newest.path;
    // Paths of manifests are untrusted: control characters in a path could manipulate the terminal.
    if path.chars().any(char::is_control)
        || file.is_absent && !would_be_downloaded(inputs, newest, latest_date)
    {
        return None;
    }
    let version = UndeliveredVersion {
        machine: (*machines.first()?).to_owned(),
        path: path.clone(),
        is_conversation: rollouts::key(path).is_some(),
        is_new: file.is_new,
    };
    Some((version, is_former))
}

/// Returns true if a file that neither side has would be synced once it is in the cloud folder.
fn would_be_downloaded(
    inputs: &Inputs<'_>,
    version: &ListedVersion,
    latest_date: Option<&str>,
) -> bool {
    let path = &*version.path;
    // Keys of manifests ignore letter case; names of conflict copies do not, so the key comes from the path.
    if let Some(key) = rollouts::key(path)
        && is_conflict_copy(inputs, &key, &version.entry)
    {
        return false;
    }
    let config = inputs.config;
    let is_synced = inputs.scope.classify(path) == ScopeMatch::Synced
        && cloud_names::classify(path) == CloudName::Plain;
    let of_day = rollouts::date(path);
    let is_of_other_day = config.scope.session_mode == SessionMode::LastDateOnly
        && of_day.is_some_and(|day| Some(&*day) < latest_date);
    let exists = || config.cloud.join(path).symlink_metadata().is_ok();
    is_synced && !is_of_other_day && !exists()
}

/// Returns the newest of these versions of a file, with the machines that list it; only of manifests that were
/// replaced with `former`, else only of the others.
fn newest<'i>(
    inputs: &'i Inputs<'_>,
    key: &str,
    versions: &[MissingVersion<'i>],
    former: bool,
) -> Option<(&'i ListedVersion, BTreeSet<&'i str>)> {
    let grows = rollouts::is_key(key) || line_merge::is_mergeable(key);
    let order = |version: &ListedVersion| {
        let size = if grows { version.entry.size } else { 0 };
        (size, version.entry.mtime_ns)
    };
    let listed = versions.iter().map(|version| version.listed);
    let listed = listed.map(|version| (version, inputs.manifests.machines_with(version, former)));
    let listed = listed.filter(|(_, machines)| !machines.is_empty());
    listed.max_by_key(|(version, _)| order(version))
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
fn add_newest_machine(inputs: &Inputs<'_>, path: &str, why: &mut String, machines: BTreeSet<&str>) {
    let mut machines: Vec<&str> = machines.into_iter().collect();
    if machines.is_empty() && has_local_version(inputs, path) {
        machines.push("this machine");
    }
    let newest_on = machines.join(" or ");
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
