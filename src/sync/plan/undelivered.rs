//! Finds the versions that other machines list in their manifests and that have not arrived: newer versions of known files, and
//! files that neither side has. Manifests are small, so cloud clients often deliver them first.
//!
//! A manifest keeps listing the last version that its machine wrote, even after another machine has written a newer
//! one. So a listed version of a plain file counts as newer only if its ancestry says so. Conversations and files of
//! lines only grow, so there the longer version is newer.

use super::deletions::is_deleted;
use super::delivery::is_as_last_synced;
use super::error::PlanError;
use super::groups::{FileGroup, key_of};
use super::inputs::Planner;
use super::steps::ObservedFile;
use super::sync_plan::SyncPlan;
use super::undelivered_version::{UndeliveredFile, UndeliveredFiles, UndeliveredVersion};
use crate::codex::rollout::ZST;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::cloud_names::{self, CloudName};
use crate::sync::config::SessionMode;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::line_merge;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::remote_manifests::ListedVersion;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::scope::{Scope, ScopeMatch};
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};
use std::collections::{HashMap, HashSet};

impl Planner<'_> {
    /// Finds all listed versions that have not arrived. Called before the groups are planned, because a missing newer
    /// version can stop the plan for a file; see `has_undelivered_newer` in `plain`.
    pub(super) fn find_undelivered(
        &self,
        groups: &HashMap<String, FileGroup>,
    ) -> Result<UndeliveredFiles, PlanError> {
        let mut all = UndeliveredFiles::new();
        let manifests = self.manifests()?;
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
            let versions = self.newer_listed(key, Some(group)).unwrap_or_default();
            if !versions.is_empty() {
                let file = UndeliveredFile {
                    versions,
                    is_new: group.local.is_empty(),
                    is_absent: false,
                };
                all.insert(listed_as.to_owned(), file);
            }
        }
        let state_keys = self.state.files.keys().chain(self.state.deleted.keys());
        let gone = state_keys.filter(|key| !groups.contains_key(*key));
        let gone: HashMap<String, &String> =
            gone.map(|key| (manifest::fold_name(key), key)).collect();
        for listed_as in manifests.keys().filter(|key| !known.contains(key)) {
            let key = gone.get(listed_as).map_or(listed_as, |key| key.as_str());
            let versions = self.newer_listed(key, None)?;
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
    /// [`UndeliveredFile::versions`]. `group` is `None` if neither side has the file.
    fn newer_listed(
        &self,
        key: &str,
        group: Option<&FileGroup>,
    ) -> Result<Vec<(ManifestEntry, bool)>, IoError> {
        let listed = self.manifests()?.entries(key);
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let last = self.state.files.get(key);
        let mut newer = if rollouts::is_key(key) {
            self.longer_conversation_versions(key, group, last, listed)?
        } else if line_merge::is_mergeable(key) {
            all_certain(longer_lines(group, listed))
        } else if last
            .is_some_and(|last| listed.iter().all(|version| cannot_be_newer(version, last)))
        {
            Vec::new()
        // One listed version of a file that is only in the cloud folder: the size suffices, so the file is not read
        // here.
        } else if let ([version], Some(group)) = (listed, group)
            && last.is_none()
            && group.local.is_empty()
        {
            let mut remote = group.remote.iter();
            let may_be_it = remote.any(|found| found.stat.size == version.size);
            vec![(version.clone(), !may_be_it)]
        } else {
            let known = self.known_texts(key, group, last, listed)?;
            // The content of the remote file is unknown: it may be any of the listed versions.
            if known.is_empty() && group.is_some_and(|group| !group.remote.is_empty()) {
                return Ok(Vec::new());
            }
            all_certain(newer_than(&known, listed))
        };
        if !newer.is_empty() {
            let gone = self.deleted_versions(key)?;
            newer.retain(|(version, _)| !is_deleted(key, version, &gone));
        }
        Ok(newer)
    }

    /// Returns the texts that the two sides have, with their ancestry: that of the last sync, and those of files whose
    /// size a machine lists. Other files cannot be listed versions and are not read.
    fn known_texts(
        &self,
        key: &str,
        group: Option<&FileGroup>,
        last: Option<&SyncedFile>,
        listed: &[ManifestEntry],
    ) -> Result<Vec<(Ancestry, Sha256Digest)>, IoError> {
        let mut texts: Vec<_> = last
            .and_then(|last| last.contents)
            .map(|(_, text)| text)
            .into_iter()
            .collect();
        let own = self.ledger_versions(key)?;
        let all = || listed.iter().chain(own);
        let is_unchanged = last
            .zip(group)
            .is_some_and(|(last, group)| group.matches_last_sync(last));
        // The files of the last sync have the digest that is known already.
        let files = files_by_side(group.filter(|_| texts.is_empty() || !is_unchanged));
        for (side, found) in files {
            if all().any(|version| version.size == found.stat.size) {
                let path = self.full(&seen(side, found));
                let text = contents::raw_digest(&path).at("read", &path)?;
                if all().any(|version| version.digest == text) && !texts.contains(&text) {
                    texts.push(text);
                }
            }
        }
        let with_history = texts
            .into_iter()
            .map(|text| Ok((self.ancestry_of(key, &text)?, text)));
        with_history.collect()
    }

    /// Returns the listed versions of a conversation that are longer than those of both sides, except versions that
    /// are or were conflict copies.
    fn longer_conversation_versions(
        &self,
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
        let manifests = self.manifests()?;
        let has_none = group.is_none() && last.is_none();
        let is_comparable =
            |version: &&ManifestEntry| has_none || !manifests.is_compressed(version);
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
            let path = self.full(&seen(side, found));
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
            if !self.is_conflict_copy(key, version)? {
                let certain = !may_be_in(version);
                longer.push((version.clone(), certain));
            }
        }
        Ok(longer)
    }

    /// Returns true if a version of a conversation is, or once was, a conflict copy, or is a prefix of one.
    fn is_conflict_copy(&self, key: &str, version: &ManifestEntry) -> Result<bool, IoError> {
        let name = conflict_copies::file_name(key, &version.digest);
        let records = [&self.state.resolutions, &self.manifests()?.resolutions];
        if self.conflict_copies.all.contains_key(&name) || resolutions::is_known(&name, records) {
            return Ok(true);
        }
        let label = conflict_copies::conversation_label(key);
        let copies = self
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
            let path = self.conflict_copy_path(side, &copy.name);
            let beginning = contents::read(&path, Some(version.size)).ok();
            if beginning.and_then(|read| read.prefix_digest) == Some(version.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the undelivered versions to the plan, each with the machine that lists the newest one. Files that another
    /// list of the plan names already are not added.
    pub(super) fn report_undelivered(
        &mut self,
        all: &UndeliveredFiles,
        listed: &HashMap<String, Vec<ListedVersion>>,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        let reported = reported_keys(&self.plan);
        for (key, file) in all {
            let versions = listed.get(key).into_iter().flatten();
            let missing = versions.filter(|version| file.is_certain(version));
            let Some(newest) = newest(key, missing).into_iter().next() else {
                continue;
            };
            let path = &newest.path;
            // Paths of manifests are untrusted: control characters in a path could manipulate the terminal.
            let is_reportable = !path.chars().any(char::is_control) && !reported.contains(key);
            if !is_reportable || file.is_absent && !self.would_be_downloaded(newest, scope)? {
                continue;
            }
            self.plan.notices.undelivered.push(UndeliveredVersion {
                machine: newest.machine.clone(),
                path: path.clone(),
                is_conversation: rollouts::key(path).is_some(),
                is_new: file.is_new,
            });
        }
        self.plan.notices.undelivered.sort();
        Ok(())
    }

    /// Returns true if a file that neither side has would be synced once it is in the cloud folder.
    fn would_be_downloaded(&self, version: &ListedVersion, scope: &Scope) -> Result<bool, IoError> {
        let path = &*version.path;
        // Keys of manifests ignore letter case; names of conflict copies do not, so the key comes from the path.
        if let Some(key) = rollouts::key(path)
            && self.is_conflict_copy(&key, &version.entry)?
        {
            return Ok(false);
        }
        let is_synced = scope.classify(path) == ScopeMatch::Synced
            && cloud_names::classify(path) == CloudName::Plain;
        let of_day = rollouts::date(path);
        let is_of_other_day = self.request.config.scope.session_mode == SessionMode::LastDateOnly
            && of_day.is_some_and(|day| Some(&day) < self.latest_date.as_ref());
        let exists = || {
            self.root(Side::Remote)
                .join(path)
                .symlink_metadata()
                .is_ok()
        };
        Ok(is_synced && !is_of_other_day && !exists())
    }
}

fn all_certain(versions: Vec<ManifestEntry>) -> Vec<(ManifestEntry, bool)> {
    versions
        .into_iter()
        .map(|version| (version, true))
        .collect()
}

/// Returns the newest of these versions of a file, once for each machine that lists it.
pub(super) fn newest<'a>(
    key: &str,
    versions: impl Iterator<Item = &'a ListedVersion>,
) -> Vec<&'a ListedVersion> {
    let versions: Vec<_> = versions.collect();
    let grows = rollouts::is_key(key) || line_merge::is_mergeable(key);
    let is_newer = |a: &ManifestEntry, b: &ManifestEntry| {
        let (of_a, of_b) = (a.history(), b.history());
        causal_order((&of_a, &a.digest), (&of_b, &b.digest)) == CausalOrder::Newer
    };
    let latest = versions.iter().filter(|version| {
        grows
            || !versions
                .iter()
                .any(|other| is_newer(&other.entry, &version.entry))
    });
    let order = |version: &&&ListedVersion| {
        let size = if grows { version.entry.size } else { 0 };
        (size, version.entry.mtime_ns)
    };
    let Some(best) = latest.max_by_key(order) else {
        return Vec::new();
    };
    let is_best = |version: &&&ListedVersion| version.entry.digest == best.entry.digest;
    let mut newest: Vec<_> = versions.iter().filter(is_best).copied().collect();
    newest.sort_by(|a, b| a.machine.cmp(&b.machine));
    newest.dedup_by(|a, b| a.machine == b.machine);
    newest
}

/// Returns true if a version cannot be newer than the last sync: it is that version, as far as size or digest show, or
/// it has no ancestors. Such versions need no reading.
fn cannot_be_newer(version: &ManifestEntry, last: &SyncedFile) -> bool {
    let is_last = match last.contents {
        Some((_, text)) => version.digest == text,
        None => version.size == last.remote.stat.size,
    };
    is_last || version.history.is_none()
}

/// Returns the listed versions that descend from all of these texts; all versions if there are no texts.
fn newer_than(known: &[(Ancestry, Sha256Digest)], listed: &[ManifestEntry]) -> Vec<ManifestEntry> {
    let is_newer = |version: &&ManifestEntry| {
        known.iter().all(|(history, text)| {
            let of_version = version.history();
            *text != version.digest
                && causal_order((&of_version, &version.digest), (history, text))
                    == CausalOrder::Newer
        })
    };
    listed.iter().filter(is_newer).cloned().collect()
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

fn files_by_side(group: Option<&FileGroup>) -> impl Iterator<Item = (Side, &ListedFile)> {
    group.into_iter().flat_map(|group| {
        let local = group.local.iter().map(|found| (Side::Local, found));
        local.chain(group.remote.iter().map(|found| (Side::Remote, found)))
    })
}

fn seen(side: Side, found: &ListedFile) -> ObservedFile {
    ObservedFile {
        side,
        path: found.path.clone(),
        stat: found.stat,
    }
}

/// Returns the files whose reason not to be synced is in the plan already, by the key that manifests use.
fn reported_keys(plan: &SyncPlan) -> HashSet<String> {
    let lists = [
        &plan.notices.waiting,
        &plan.notices.skipped,
        &plan.notices.warnings,
    ];
    let paths = lists.into_iter().flatten().map(|(path, _)| path);
    let paths = paths.chain(plan.conflicts.iter().map(|conflict| &conflict.path));
    paths
        .map(|path| manifest::fold_name(&key_of(path)))
        .collect()
}
