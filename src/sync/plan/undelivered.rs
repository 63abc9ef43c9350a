//! Versions that other machines list in their manifests and that have not arrived: newer ones of files that are
//! here, and files that neither side has. Manifests are small and often arrive first.
//!
//! A manifest keeps listing what its machine wrote last, also when another machine has written the file since.
//! So a listed version counts as newer only if its history says so; of a conversation and of a file of lines,
//! which only ever grow, if it is longer than all that is here.

use super::deletions::is_deleted;
use super::versions::is_as_last_synced;
use super::{FileGroup, ObservedFile, PlanError, Planner, SyncPlan, key_of};
use crate::codex::rollout::ZST;
use crate::io::hash::Sha256Digest;
use crate::io::quantity::pluralize;
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
use std::collections::{BTreeSet, HashMap, HashSet};

/// A version that another machine lists and that has not arrived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndeliveredVersion {
    /// The machine that lists it.
    pub machine: String,
    /// Its path in the cloud folder.
    pub path: String,
    /// Whether it is one of a conversation.
    pub is_conversation: bool,
    /// Whether this machine has no version of the file.
    pub is_new: bool,
}

impl UndeliveredVersion {
    /// The reason that is printed behind its path.
    pub fn reason(&self) -> String {
        let what = if self.is_new {
            "has it"
        } else {
            "has a newer version"
        };
        format!("{} {what}, which has not arrived yet", self.machine)
    }

    /// One line for each machine: "desk has 3 conversations that have not arrived yet".
    pub fn by_machine(all: &[Self]) -> Vec<String> {
        let machines: BTreeSet<&str> = all.iter().map(|file| &*file.machine).collect();
        let told = machines.into_iter().map(|machine| {
            let of_it = all.iter().filter(|file| file.machine == machine);
            let (conversations, files): (Vec<_>, Vec<_>) =
                of_it.partition(|file| file.is_conversation);
            let counts = [(conversations.len(), "conversation"), (files.len(), "file")];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, noun)| pluralize(count, noun)).collect();
            let verb = if conversations.len() + files.len() == 1 {
                "has"
            } else {
                "have"
            };
            format!(
                "{machine} has {} that {verb} not arrived yet",
                counts.join(" and ")
            )
        });
        told.collect()
    }
}

/// What others list of a file and may not have arrived.
#[derive(Debug)]
pub(super) struct UndeliveredFile {
    /// Each with whether it is certain that it has not: a file in the cloud folder that no sync has seen may be
    /// it, and is read only when it is planned.
    versions: Vec<(ManifestEntry, bool)>,
    /// Whether this machine has no version of the file.
    is_new: bool,
    /// Whether the cloud folder has none either.
    is_absent: bool,
}

/// By the key of manifests.
pub(super) type UndeliveredFiles = HashMap<String, UndeliveredFile>;

impl Planner<'_> {
    /// Finds all that is listed and has not arrived. To be called before the groups are planned.
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
            // A file that cannot be read now is reported by the plan for it.
            let versions = self.newer_listed(key, Some(group)).unwrap_or_default();
            if !versions.is_empty() {
                let ahead = UndeliveredFile {
                    versions,
                    is_new: group.local.is_empty(),
                    is_absent: false,
                };
                all.insert(listed_as.to_owned(), ahead);
            }
        }
        let of_state = self.state.files.keys().chain(self.state.deleted.keys());
        let gone = of_state.filter(|key| !groups.contains_key(*key));
        let gone: HashMap<String, &String> =
            gone.map(|key| (manifest::fold_name(key), key)).collect();
        for listed_as in manifests.keys().filter(|key| !known.contains(key)) {
            let key = gone.get(listed_as).map_or(listed_as, |key| key.as_str());
            let versions = self.newer_listed(key, None)?;
            if !versions.is_empty() {
                let ahead = UndeliveredFile {
                    versions,
                    is_new: true,
                    is_absent: true,
                };
                all.insert(listed_as.to_owned(), ahead);
            }
        }
        Ok(all)
    }

    /// The versions of a file that others list and that are newer than what is here, as in [`Ahead`]. `None` for
    /// the group where neither side has the file.
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
        let mut ahead = if rollouts::is_key(key) {
            self.longer_conversation_versions(key, group, last, listed)?
        } else if line_merge::is_mergeable(key) {
            certain(longer_lines(group, listed))
        } else if last
            .is_some_and(|last| listed.iter().all(|version| is_known_version(version, last)))
        {
            Vec::new()
        } else if let ([version], Some(group)) = (listed, group)
            && last.is_none()
            && group.local.is_empty()
        {
            let mut remote = group.remote.iter();
            let may_be_it = remote.any(|found| found.stat.size == version.size);
            vec![(version.clone(), !may_be_it)]
        } else {
            let known = self.known_texts(key, group, last, listed)?;
            // Where nothing tells what the file in the cloud folder is, it may be any of them.
            if known.is_empty() && group.is_some_and(|group| !group.remote.is_empty()) {
                return Ok(Vec::new());
            }
            certain(newer_than(&known, listed))
        };
        if !ahead.is_empty() {
            let gone = self.deleted_versions(key)?;
            ahead.retain(|(version, _)| !is_deleted(key, version, &gone));
        }
        Ok(ahead)
    }

    /// The texts that this machine has or can take from the cloud folder: that of the last sync, and those
    /// whose size is one that a machine lists.
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
        let is_quiet = last
            .zip(group)
            .is_some_and(|(last, group)| group.matches_last_sync(last));
        let files = files_by_side(group.filter(|_| texts.is_empty() || !is_quiet));
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
            .map(|text| Ok((self.history_of(key, &text)?, text)));
        with_history.collect()
    }

    /// The listed versions of a conversation that are longer than all that is here, without those that were set
    /// aside.
    fn longer_conversation_versions(
        &self,
        key: &str,
        group: Option<&FileGroup>,
        last: Option<&SyncedFile>,
        listed: &[ManifestEntry],
    ) -> Result<Vec<(ManifestEntry, bool)>, IoError> {
        // A file that came to the cloud folder since may be half of what is listed.
        let is_new = |side, found: &ListedFile| {
            side == Side::Remote && !last.is_some_and(|last| is_as_last_synced(found, &last.remote))
        };
        let (new, known): (Vec<_>, Vec<_>) =
            files_by_side(group).partition(|(side, found)| is_new(*side, found));
        let plain = known.iter().filter(|(_, found)| !found.path.ends_with(ZST));
        let of_last = last.map(|last| match last.contents {
            Some((length, _)) => length,
            None => last.local.stat.size,
        });
        let sizes = plain.map(|(_, found)| found.stat.size).chain(of_last);
        let mut longest = sizes.max().unwrap_or(0);
        // How long the text of a packed version is, no manifest says: it counts where there is no other.
        let manifests = self.manifests()?;
        let has_none = group.is_none() && last.is_none();
        let counts = |version: &&ManifestEntry| has_none || !manifests.is_compressed(version);
        if listed
            .iter()
            .filter(counts)
            .all(|version| version.size <= longest)
        {
            return Ok(Vec::new());
        }
        // The length of a packed text is known by unpacking it.
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
        let listed = listed.iter().filter(counts);
        for version in listed.filter(|version| version.size > longest) {
            if !self.is_conflict_copy(key, version)? {
                let certain = !may_be_in(version);
                longer.push((version.clone(), certain));
            }
        }
        Ok(longer)
    }

    /// Whether a version of a conversation is, or is the beginning of, one that is or was kept for a decision.
    fn is_conflict_copy(&self, key: &str, version: &ManifestEntry) -> Result<bool, IoError> {
        let name = conflict_copies::file_name(key, &version.digest);
        let words = [&self.state.resolutions, &self.manifests()?.resolutions];
        if self.conflict_copies.all.contains_key(&name) || resolutions::is_known(&name, words) {
            return Ok(true);
        }
        let label = conflict_copies::conversation_label(key);
        let kept = self
            .conflict_copies
            .all
            .values()
            .filter(|fork| fork.conversation() == label);
        for fork in kept {
            let side = if fork.local.is_some() {
                Side::Local
            } else {
                Side::Remote
            };
            let path = self.conflict_copy_path(side, &fork.name);
            let beginning = contents::read(&path, Some(version.size)).ok();
            if beginning.and_then(|read| read.prefix_digest) == Some(version.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts what has not arrived into the plan, with the machine that has it, unless the plan already says
    /// something of the file.
    pub(super) fn report_undelivered(
        &mut self,
        all: &UndeliveredFiles,
        listed: &HashMap<String, Vec<ListedVersion>>,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        let reported = reported(&self.plan);
        for (key, ahead) in all {
            let versions = listed.get(key).into_iter().flatten();
            let late = versions.filter(|version| ahead.is_certain(version));
            let Some(newest) = newest(key, late).into_iter().next() else {
                continue;
            };
            let path = &newest.path;
            // A manifest may say anything; what is printed has no control characters.
            let is_named = !path.chars().any(char::is_control) && !reported.contains(key);
            if !is_named || ahead.is_absent && !self.would_be_downloaded(newest, scope)? {
                continue;
            }
            self.plan.undelivered.push(UndeliveredVersion {
                machine: newest.machine.clone(),
                path: path.clone(),
                is_conversation: rollouts::key(path).is_some(),
                is_new: ahead.is_new,
            });
        }
        self.plan.undelivered.sort();
        Ok(())
    }

    /// Whether a file that is not here would be taken if it were in the cloud folder.
    fn would_be_downloaded(&self, version: &ListedVersion, scope: &Scope) -> Result<bool, IoError> {
        let path = &*version.path;
        // The key that it was found by has lost its letter case, which names of kept versions have.
        if let Some(key) = rollouts::key(path)
            && self.is_conflict_copy(&key, &version.entry)?
        {
            return Ok(false);
        }
        let is_taken = scope.classify(path) == ScopeMatch::Synced
            && cloud_names::classify(path) == CloudName::Plain;
        let of_day = rollouts::date(path);
        let is_of_other_day = self.request.config.session_mode == SessionMode::LastDateOnly
            && of_day.is_some_and(|day| Some(&day) < self.latest_date.as_ref());
        let is_there = || {
            self.root(Side::Remote)
                .join(path)
                .symlink_metadata()
                .is_ok()
        };
        Ok(is_taken && !is_of_other_day && !is_there())
    }
}

impl UndeliveredFile {
    /// Whether this version may not have arrived.
    pub(super) fn may_include(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(ahead, _)| ahead.digest == version.entry.digest)
    }

    /// Whether it is certain that this version has not arrived.
    fn is_certain(&self, version: &ListedVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|(ahead, certain)| *certain && ahead.digest == version.entry.digest)
    }

    /// Whether any version has not arrived, where `there` is the digest of the file in the cloud folder.
    pub(super) fn has_newer_than(&self, remote: Option<Sha256Digest>) -> bool {
        let is_other = |version: &ManifestEntry| {
            remote.is_some_and(|remote| {
                let (newer, older) = (version.history(), Ancestry::first(&remote));
                causal_order((&newer, &version.digest), (&older, &remote)) == CausalOrder::Newer
            })
        };
        let mut versions = self.versions.iter();
        versions.any(|(version, certain)| *certain || is_other(version))
    }
}

fn certain(versions: Vec<ManifestEntry>) -> Vec<(ManifestEntry, bool)> {
    versions
        .into_iter()
        .map(|version| (version, true))
        .collect()
}

/// The newest of these versions of a file, one for each machine that lists it.
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
    let is_it = |version: &&&ListedVersion| version.entry.digest == best.entry.digest;
    let mut newest: Vec<_> = versions.iter().filter(is_it).copied().collect();
    newest.sort_by(|a, b| a.machine.cmp(&b.machine));
    newest.dedup_by(|a, b| a.machine == b.machine);
    newest
}

/// Whether a version is, as far as can be told without reading, what the last sync left, or a first version, which
/// came of nothing.
fn is_known_version(version: &ManifestEntry, last: &SyncedFile) -> bool {
    let is_last = match last.contents {
        Some((_, text)) => version.digest == text,
        None => version.size == last.remote.stat.size,
    };
    is_last || version.history.is_none()
}

/// The listed versions that came of all of these texts; all of them where there is none.
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

/// The listed versions of a file of lines that are longer and later than what is on both sides.
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

/// The files of which a plan says already why they are not synced, by the key of manifests.
fn reported(plan: &SyncPlan) -> HashSet<String> {
    let lists = [&plan.waiting, &plan.skipped, &plan.warnings];
    let paths = lists.into_iter().flatten().map(|(path, _)| path);
    let paths = paths.chain(plan.conflicts.iter().map(|conflict| &conflict.path));
    paths
        .map(|path| manifest::fold_name(&key_of(path)))
        .collect()
}
