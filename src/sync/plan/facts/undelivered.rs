//! Finds the versions that other machines list in their manifests and that have not arrived: newer versions of known
//! files, and files that neither side has. Manifests are small, so cloud clients often deliver them first.
//!
//! A manifest keeps listing the last version that its machine wrote, even after another machine has written a newer
//! one. Conversations and files of lines only grow, so there the longer version is newer. Of plain files, the one with the later mtime is.

use super::deletions;
use crate::codex::rollout::ZST;
use crate::io::hash::Sha256Digest;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::line_merge;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::{FileGroup, is_as_last_synced};
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::remote_manifests::ListedVersion;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::SyncedFile;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// A version that other machines list and that may not have arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingVersion<'i> {
    pub(crate) listed: &'i ListedVersion,
    /// True if the version certainly has not arrived; false if a new remote file could be this version, which is
    /// read only when it is planned.
    pub(crate) is_certain: bool,
}

/// Versions of one file that other machines list and that may not have arrived.
#[derive(Debug)]
pub(crate) struct UndeliveredFile<'i> {
    pub(crate) versions: Vec<MissingVersion<'i>>,
    /// True if this machine has no version of the file.
    pub(crate) is_new: bool,
    /// True if the cloud folder has no version of the file either.
    pub(crate) is_absent: bool,
}

/// Undelivered files by the key that manifests use, which ignores letter case.
pub(crate) type UndeliveredFiles<'i> = HashMap<&'i str, UndeliveredFile<'i>>;

/// Finds all listed versions that have not arrived. `lost_deletions` are the deletions that this plan publishes of
/// files that neither side has any more.
pub(crate) fn find_undelivered<'i>(
    inputs: &'i Inputs<'_>,
    groups: &HashMap<String, FileGroup>,
    lost_deletions: &BTreeMap<String, String>,
) -> UndeliveredFiles<'i> {
    let manifests = &inputs.manifests;
    let state = inputs.state;
    let keys = state.files.keys().chain(state.deleted.keys());
    // The keys of groups come last, because they are those of existing files.
    let keys = keys.chain(groups.keys());
    let by_listed = keys.filter_map(|key| Some((manifests.listed_key(key)?, &**key)));
    let by_listed: HashMap<&str, &str> = by_listed.collect();
    let mut all = UndeliveredFiles::new();
    for (listed_as, listed) in manifests.files() {
        let key = by_listed.get(listed_as).copied().unwrap_or(listed_as);
        let group = groups.get(key);
        if group.is_some_and(|group| group.files().all(|found| found.companion)) {
            continue;
        }
        let file = FileOnSides {
            inputs,
            key,
            group,
            last: state.files.get(key),
        };
        let lost = lost_deletions.get(key).filter(|_| group.is_none());
        let versions = file.newer_listed(listed, lost.map(String::as_str));
        if !versions.is_empty() {
            let file = UndeliveredFile {
                versions,
                is_new: group.is_none_or(|group| group.local.is_empty()),
                is_absent: group.is_none(),
            };
            all.insert(listed_as, file);
        }
    }
    all
}

/// A file as both sides have it.
struct FileOnSides<'a> {
    inputs: &'a Inputs<'a>,
    key: &'a str,
    /// `None` if neither side has the file.
    group: Option<&'a FileGroup>,
    last: Option<&'a SyncedFile>,
}

impl FileOnSides<'_> {
    /// Returns the listed versions that are newer than both sides. `lost_deletion` is the digest of the last text if
    /// this plan publishes the deletion of the file.
    fn newer_listed<'i>(
        &self,
        listed: &'i [ListedVersion],
        lost_deletion: Option<&str>,
    ) -> Vec<MissingVersion<'i>> {
        let (inputs, key) = (self.inputs, self.key);
        let mut newer = if rollouts::is_key(key) {
            // An unreadable file is reported when its group is planned.
            self.longer_conversation_versions(listed)
                .unwrap_or_default()
        } else {
            let is_newer = |version: &&ListedVersion| {
                if line_merge::is_mergeable(key) {
                    self.is_longer(&version.entry)
                } else {
                    self.is_newer_plain_version(&version.entry)
                }
            };
            let newer = listed.iter().filter(is_newer);
            let certain = newer.map(|listed| MissingVersion {
                listed,
                is_certain: true,
            });
            certain.collect()
        };
        if !newer.is_empty() {
            let mut gone = deletions::deleted_versions(inputs, key);
            gone.extend(lost_deletion.and_then(Sha256Digest::parse));
            newer.retain(|version| {
                let entry = &version.listed.entry;
                let mut gone = gone.iter();
                !gone.any(|deleted| deletions::is_deleted(inputs, key, entry, *deleted))
            });
        }
        newer
    }

    fn files(&self) -> impl Iterator<Item = (Side, &ListedFile)> {
        self.group.into_iter().flat_map(|group| {
            let local = group.local.iter().map(|found| (Side::Local, found));
            local.chain(group.remote.iter().map(|found| (Side::Remote, found)))
        })
    }

    /// Returns true for a remote file that is not as the last sync left it.
    fn is_new_remote(&self, side: Side, found: &ListedFile) -> bool {
        let is_known = |last: &SyncedFile| is_as_last_synced(found, &last.remote);
        side == Side::Remote && !self.last.is_some_and(is_known)
    }

    /// Returns the listed versions of a conversation that are longer than those of both sides, except versions that
    /// are or were conflict copies.
    fn longer_conversation_versions<'i>(
        &self,
        listed: &'i [ListedVersion],
    ) -> io::Result<Vec<MissingVersion<'i>>> {
        // A remote file that is new since the last sync may be the incomplete beginning of a listed version.
        let (new, known): (Vec<_>, Vec<_>) = self
            .files()
            .partition(|(side, found)| self.is_new_remote(*side, found));
        let plain = known.iter().filter(|(_, found)| !found.path.ends_with(ZST));
        let last_size = self.last.map(|last| match last.contents {
            Some((length, _)) => length,
            None => last.local.stat.size,
        });
        let sizes = plain.map(|(_, found)| found.stat.size).chain(last_size);
        let mut longest = sizes.max().unwrap_or(0);
        // A manifest has only the compressed size of a compressed version, which cannot be compared with text. Such a
        // version counts only if neither side has the conversation.
        let has_none = self.group.is_none() && self.last.is_none();
        let comparable = listed
            .iter()
            .filter(|version| has_none || !version.is_compressed());
        let comparable: Vec<_> = comparable.collect();
        if comparable
            .iter()
            .all(|version| version.entry.size <= longest)
        {
            return Ok(Vec::new());
        }
        // Reading compressed files to get the length of their text is expensive, so only after the check above.
        for (side, found) in known {
            if found.path.ends_with(ZST) {
                let path = ObservedFile::of(side, found).full_path(self.inputs.config);
                longest = longest.max(contents::read(&path, None)?.len);
            }
        }
        let copies = self
            .group
            .into_iter()
            .flat_map(|group| &group.client_copies);
        let new: Vec<_> = new
            .into_iter()
            .map(|(_, found)| found)
            .chain(copies)
            .collect();
        let may_be_in = |version: &ManifestEntry| {
            let mut new = new.iter();
            new.any(|found| found.path.ends_with(ZST) || found.stat.size >= version.size)
        };
        let longer = comparable.into_iter().filter(|version| {
            version.entry.size > longest && !is_conflict_copy(self.inputs, self.key, &version.entry)
        });
        let longer = longer.map(|listed| MissingVersion {
            listed,
            is_certain: !may_be_in(&listed.entry),
        });
        Ok(longer.collect())
    }

    /// Returns true for a version of a line-based file that is longer and has a later mtime than the files of both
    /// sides.
    fn is_longer(&self, version: &ManifestEntry) -> bool {
        let files = || self.group.into_iter().flat_map(FileGroup::files);
        let longest = files().map(|found| found.stat.size).max();
        let latest = files().map(|found| found.stat.mtime_ns).max();
        Some(version.size) > longest && Some(version.mtime_ns) > latest
    }

    /// Returns true for a version of a plain file that is later than the local one, and that this machine never had.
    /// Machines list a change later than what it replaces, whatever their clocks say.
    fn is_newer_plain_version(&self, version: &ManifestEntry) -> bool {
        let local = self.group.into_iter().flat_map(|group| &group.local);
        let times = local.map(|found| found.stat.mtime_ns);
        let latest = times
            .chain(self.last.map(|last| last.local.stat.mtime_ns))
            .max();
        let last_digest = self
            .last
            .and_then(|last| last.contents)
            .map(|(_, digest)| digest);
        let replaced = self.inputs.state.replaced_by(self.key);
        // A new remote file of this size may be the version; it is read when it is planned.
        let has_arrived = self.files().any(|(side, found)| {
            found.stat.size == version.size && self.is_new_remote(side, found)
        });
        Some(version.mtime_ns) > latest
            && last_digest != Some(version.digest)
            && !replaced.contains(&version.digest)
            && !has_arrived
    }
}

/// Returns true if a version of a conversation is, or once was, a conflict copy, or is a prefix of one.
pub(crate) fn is_conflict_copy(inputs: &Inputs<'_>, key: &str, version: &ManifestEntry) -> bool {
    let name = conflict_copies::file_name(key, &version.digest);
    if inputs.conflict_copies.all.contains_key(&name)
        || resolutions::is_known(&name, inputs.resolutions())
    {
        return true;
    }
    let label = conflict_copies::conversation_label(key);
    let copies = inputs.conflict_copies.all.values();
    let mut copies = copies.filter(|copy| copy.conversation() == label);
    copies.any(|copy| {
        let path = inputs.conflict_copy_path(copy.side(), &copy.name);
        let beginning = contents::read(&path, Some(version.size)).ok();
        beginning.and_then(|read| read.prefix_digest) == Some(version.digest)
    })
}
