//! Finds the versions that other machines list in their manifests and that have not arrived: newer versions of known
//! files, and files that neither side has. Manifests are small, so cloud clients often deliver them first.
//!
//! A manifest keeps listing the last version that its machine wrote, even after another machine has written a newer
//! one. Conversations and files of lines only grow, so there the longer version is newer. Of plain files, the one with the later mtime is.

use super::deletions;
use crate::codex::rollout::ZST;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::line_merge;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::{FileGroup, is_as_last_synced};
use crate::sync::plan::steps::sync_step::ObservedFile;
use crate::sync::remote_manifests::ListedVersion;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::SyncedFile;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Versions of one file that other machines list and that may not have arrived.
#[derive(Debug)]
pub(crate) struct UndeliveredFile {
    /// Each with a flag: true if the version certainly has not arrived; false if a new remote file could be this
    /// version, which is read only when it is planned.
    pub(crate) versions: Vec<(ManifestEntry, bool)>,
    /// True if this machine has no version of the file.
    pub(crate) is_new: bool,
    /// True if the cloud folder has no version of the file either.
    pub(crate) is_absent: bool,
}

/// Undelivered files by the key that manifests use, which ignores letter case.
pub(crate) type UndeliveredFiles = HashMap<String, UndeliveredFile>;

impl UndeliveredFile {
    /// Returns true if this version possibly has not arrived.
    pub(crate) fn may_include(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(listed, _)| listed.digest == version.entry.digest)
    }

    /// Returns true if this version certainly has not arrived.
    pub(crate) fn is_certain(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(listed, certain)| *certain && listed.digest == version.entry.digest)
    }
}

/// Finds all listed versions that have not arrived. `lost_deletions` are the deletions that this plan publishes of
/// files that neither side has any more.
pub(crate) fn find_undelivered(
    inputs: &Inputs<'_>,
    groups: &HashMap<String, FileGroup>,
    lost_deletions: &BTreeMap<String, String>,
) -> Result<UndeliveredFiles, IoError> {
    let mut all = UndeliveredFiles::new();
    let manifests = inputs.manifests()?;
    if manifests.machines == 0 {
        return Ok(all);
    }
    let mut known = HashSet::new();
    for (key, group) in groups {
        let Some(listed_as) = manifests.listed_key(key) else {
            continue;
        };
        known.insert(listed_as);
        if group.files().all(|found| found.companion) {
            continue;
        }
        // An unreadable file is reported when its group is planned.
        let versions = newer_listed(inputs, key, Some(group), None).unwrap_or_default();
        if !versions.is_empty() {
            let file = UndeliveredFile {
                versions,
                is_new: group.local.is_empty(),
                is_absent: false,
            };
            all.insert(listed_as.to_owned(), file);
        }
    }
    let state_keys = inputs.state.files.keys().chain(inputs.state.deleted.keys());
    let gone = state_keys.filter(|key| !groups.contains_key(*key));
    let gone: HashMap<String, &String> = gone.map(|key| (manifest::fold_name(key), key)).collect();
    for listed_as in manifests.keys().filter(|key| !known.contains(key)) {
        let key = gone.get(listed_as).map_or(listed_as, |key| key.as_str());
        let lost = lost_deletions.get(key).map(String::as_str);
        let versions = newer_listed(inputs, key, None, lost)?;
        if !versions.is_empty() {
            let file = UndeliveredFile {
                versions,
                is_new: true,
                is_absent: true,
            };
            all.insert(listed_as.to_owned(), file);
        }
    }
    Ok(all)
}

/// Returns the versions of a file that other machines list and that are newer than both sides, with the flag of
/// [`UndeliveredFile::versions`]. `group` is `None` if neither side has the file; `lost_deletion` is the digest of its
/// last text then, if this plan publishes its deletion.
fn newer_listed(
    inputs: &Inputs<'_>,
    key: &str,
    group: Option<&FileGroup>,
    lost_deletion: Option<&str>,
) -> Result<Vec<(ManifestEntry, bool)>, IoError> {
    let listed = inputs.manifests()?.entries(key);
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let last = inputs.state.files.get(key);
    let mut newer = if rollouts::is_key(key) {
        longer_conversation_versions(inputs, key, group, last, listed)?
    } else if line_merge::is_mergeable(key) {
        all_certain(longer_lines(group, listed))
    } else {
        let replaced = inputs.state.replaced_by(key);
        all_certain(newer_plain_versions(replaced, group, last, listed))
    };
    if !newer.is_empty() {
        let mut gone = deletions::deleted_versions(inputs, key)?;
        if let Some(digest) = lost_deletion.and_then(Sha256Digest::parse) {
            gone.push(deletions::deleted_version(inputs, key, digest)?);
        }
        newer.retain(|(version, _)| !deletions::is_deleted(key, version, &gone));
    }
    Ok(newer)
}

/// Returns the listed versions of a conversation that are longer than those of both sides, except versions that
/// are or were conflict copies.
fn longer_conversation_versions(
    inputs: &Inputs<'_>,
    key: &str,
    group: Option<&FileGroup>,
    last: Option<&SyncedFile>,
    listed: &[ManifestEntry],
) -> Result<Vec<(ManifestEntry, bool)>, IoError> {
    // A remote file that is new since the last sync may be the incomplete beginning of a listed version.
    let is_new = |side, found: &ListedFile| {
        side == Side::Remote && !last.is_some_and(|last| is_as_last_synced(found, &last.remote))
    };
    let (new, known): (Vec<_>, Vec<_>) =
        files_by_side(group).partition(|(side, found)| is_new(*side, found));
    let plain = known.iter().filter(|(_, found)| !found.path.ends_with(ZST));
    let last_size = last.map(|last| match last.contents {
        Some((length, _)) => length,
        None => last.local.stat.size,
    });
    let sizes = plain.map(|(_, found)| found.stat.size).chain(last_size);
    let mut longest = sizes.max().unwrap_or(0);
    // A manifest has only the compressed size of a compressed version, which cannot be compared with text. Such a
    // version counts only if neither side has the conversation.
    let manifests = inputs.manifests()?;
    let has_none = group.is_none() && last.is_none();
    let is_comparable = |version: &&ManifestEntry| has_none || !manifests.is_compressed(version);
    if listed
        .iter()
        .filter(is_comparable)
        .all(|version| version.size <= longest)
    {
        return Ok(Vec::new());
    }
    // Reading compressed files to get the length of their text is expensive, so only after the check above.
    for (side, found) in known
        .into_iter()
        .filter(|(_, found)| found.path.ends_with(ZST))
    {
        let path = ObservedFile::of(side, found).full_path(inputs.config);
        longest = longest.max(contents::read(&path, None).at("read", &path)?.len);
    }
    let copies = group.into_iter().flat_map(|group| &group.client_copies);
    let new: Vec<_> = new
        .into_iter()
        .map(|(_, found)| found)
        .chain(copies)
        .collect();
    let may_be_in = |version: &ManifestEntry| {
        let mut new = new.iter();
        new.any(|found| found.path.ends_with(ZST) || found.stat.size >= version.size)
    };
    let mut longer = Vec::new();
    let listed = listed.iter().filter(is_comparable);
    for version in listed.filter(|version| version.size > longest) {
        if !is_conflict_copy(inputs, key, version)? {
            let certain = !may_be_in(version);
            longer.push((version.clone(), certain));
        }
    }
    Ok(longer)
}

/// Returns true if a version of a conversation is, or once was, a conflict copy, or is a prefix of one.
pub(crate) fn is_conflict_copy(
    inputs: &Inputs<'_>,
    key: &str,
    version: &ManifestEntry,
) -> Result<bool, IoError> {
    let name = conflict_copies::file_name(key, &version.digest);
    let records = [&inputs.state.resolutions, &inputs.manifests()?.resolutions];
    if inputs.conflict_copies.all.contains_key(&name) || resolutions::is_known(&name, records) {
        return Ok(true);
    }
    let label = conflict_copies::conversation_label(key);
    let copies = inputs
        .conflict_copies
        .all
        .values()
        .filter(|copy| copy.conversation() == label);
    for copy in copies {
        let side = if copy.local.is_some() {
            Side::Local
        } else {
            Side::Remote
        };
        let path = inputs.conflict_copy_path(side, &copy.name);
        let beginning = contents::read(&path, Some(version.size)).ok();
        if beginning.and_then(|read| read.prefix_digest) == Some(version.digest) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn all_certain(versions: Vec<ManifestEntry>) -> Vec<(ManifestEntry, bool)> {
    versions
        .into_iter()
        .map(|version| (version, true))
        .collect()
}

/// Returns the listed versions of a line-based file that are longer and have a later mtime than the files of both
/// sides.
fn longer_lines(group: Option<&FileGroup>, listed: &[ManifestEntry]) -> Vec<ManifestEntry> {
    let files = || group.into_iter().flat_map(FileGroup::files);
    let longest = files().map(|found| found.stat.size).max();
    let latest = files().map(|found| found.stat.mtime_ns).max();
    let is_longer =
        |version: &&ManifestEntry| Some(version.size) > longest && Some(version.mtime_ns) > latest;
    listed.iter().filter(is_longer).cloned().collect()
}

/// Returns the listed versions of a plain file that are later than the local one, and that this machine never
/// had. Machines list a change later than what it replaces, whatever their clocks say.
fn newer_plain_versions(
    replaced: &[Sha256Digest],
    group: Option<&FileGroup>,
    last: Option<&SyncedFile>,
    listed: &[ManifestEntry],
) -> Vec<ManifestEntry> {
    let local = group.into_iter().flat_map(|group| &group.local);
    let times = local.map(|found| found.stat.mtime_ns);
    let latest = times.chain(last.map(|last| last.local.stat.mtime_ns)).max();
    let contents = last.and_then(|last| last.contents);
    // A new remote file of this size may be the version; it is read when it is planned.
    let has_arrived = |version: &ManifestEntry| {
        let mut remote = group.into_iter().flat_map(|group| &group.remote);
        remote.any(|found| {
            found.stat.size == version.size
                && !last.is_some_and(|last| is_as_last_synced(found, &last.remote))
        })
    };
    let is_newer = |version: &&ManifestEntry| {
        Some(version.mtime_ns) > latest
            && contents.is_none_or(|(_, digest)| digest != version.digest)
            && !replaced.contains(&version.digest)
            && !has_arrived(version)
    };
    listed.iter().filter(is_newer).cloned().collect()
}

fn files_by_side(group: Option<&FileGroup>) -> impl Iterator<Item = (Side, &ListedFile)> {
    group.into_iter().flat_map(|group| {
        let local = group.local.iter().map(|found| (Side::Local, found));
        local.chain(group.remote.iter().map(|found| (Side::Remote, found)))
    })
}
