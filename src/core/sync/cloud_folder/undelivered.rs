//! Finds the versions that other machines list in their manifests and that have not arrived: newer versions of known
//! files, and files that neither side has. Manifests are small, so cloud clients often deliver them first.
//!
//! A manifest keeps listing the last version that its machine wrote, even after another machine has written a newer
//! one. Conversations and line-based files only grow, so the longer version is newer; a machine whose conversation got
//! shorter no longer lists the longer version. Of a plain file, the version with the later mtime is newer.

use super::folder_reader::FolderReader;
use crate::codex::rollout::ZST;
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::io::quantity::pluralize;
use crate::sync::cloud_names::{self, CloudName};
use crate::sync::config::SessionMode;
use crate::sync::file_group::FileGroup;
use crate::sync::file_kind::FileKind;
use crate::sync::listed_versions::{ListedVersion, ManifestAge};
use crate::sync::manifest::ManifestEntry;
use crate::sync::scan::ListedFile;
use crate::sync::scope::ScopeMatch;
use crate::sync::sides::Side;
use crate::sync::state::SyncedFile;
use crate::sync::{conflict_copies, contents, resolutions, rollouts};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

/// A version that another machine lists and that the cloud client has not delivered to this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndeliveredVersion {
    /// Name of the machine that lists the version.
    pub machine: String,
    /// Relative path in the cloud folder.
    pub path: String,
}

impl UndeliveredVersion {
    /// Returns the reason that output prints after the path.
    pub fn reason(&self) -> String {
        format!("{} has a version that has not arrived yet", self.machine)
    }

    /// Returns one line for each machine: "desk has 3 conversations that have not arrived yet".
    pub fn format_summary_by_machine(versions: &[Self]) -> Vec<String> {
        let machines: BTreeSet<&str> = versions.iter().map(|file| &*file.machine).collect();
        let lines = machines.into_iter().map(|machine| {
            let on_machine = versions.iter().filter(|file| file.machine == machine);
            let (conversations, files): (Vec<_>, Vec<_>) =
                on_machine.partition(|file| rollouts::key(&file.path).is_some());
            let counts = [(conversations.len(), "conversation"), (files.len(), "file")];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, noun)| pluralize(count, noun)).collect();

            let is_one = conversations.len() + files.len() == 1;
            let verb = if is_one { "has" } else { "have" };
            format!(
                "{machine} has {} that {verb} not arrived yet",
                counts.join(" and ")
            )
        });
        lines.collect()
    }
}

/// A file with newer versions that other machines list and that may not have arrived.
#[derive(Debug)]
pub(crate) struct UndeliveredFile {
    /// The newest version that certainly has not arrived. `None` if every version may have arrived, or if this machine
    /// would not sync the file.
    pub(crate) missing: Option<UndeliveredVersion>,
    /// True if only manifests of [`ManifestAge::Former`] list the versions.
    pub(crate) is_former: bool,
}

/// Undelivered files by [`folded_key`](crate::sync::manifest::folded_key).
pub(crate) type UndeliveredFiles = HashMap<String, UndeliveredFile>;

impl FolderReader<'_> {
    /// Finds all files with listed versions that may not have arrived. `latest_date` is the only day that is synced, if
    /// the sync is limited to one day. `lost_deletions` has the files that neither side has and whose deletion this
    /// plan publishes: the digests of their last texts, by key.
    pub(crate) fn find_undelivered(
        &self,
        groups: &HashMap<String, FileGroup>,
        latest_date: Option<&str>,
        lost_deletions: &BTreeMap<String, Sha256Digest>,
    ) -> Result<UndeliveredFiles, IoError> {
        let (manifests, state) = (&self.records.manifests, &self.records.state);
        if !manifests.has_listed_files() {
            return Ok(UndeliveredFiles::new());
        }
        let keys = state.files.keys().chain(state.deleted.keys());
        // The keys of existing files come last, so that they replace other spellings of the same key.
        let keys = keys.chain(groups.keys());
        let own_keys = keys.filter_map(|key| Some((manifests.find_listed_key(key)?, &**key)));
        let own_keys: HashMap<&str, &str> = own_keys.collect();

        let mut undelivered = UndeliveredFiles::new();
        for (listed_key, listed) in manifests.files() {
            let key = own_keys.get(listed_key).copied().unwrap_or(listed_key);
            let group = groups.get(key);
            // Skips groups that have only companions, and groups of placeholders, which have a notice of their own.
            if group.is_some_and(|group| group.files().all(|file| file.companion)) {
                continue;
            }

            let file = FileOnSides {
                reader: self,
                key,
                group,
                last: state.files.get(key),
            };

            let versions = file.select_newer_undeleted(listed, lost_deletions)?;
            if !versions.is_empty() {
                let file = file.to_undelivered_file(&versions, latest_date);
                undelivered.insert(listed_key.to_owned(), file);
            }
        }

        Ok(undelivered)
    }

    /// Returns true if a sync would download a file at `path` in the cloud folder once it arrives. False if the path
    /// exists already.
    fn would_be_downloaded(&self, path: &str, latest_date: Option<&str>) -> bool {
        let is_synced = self.scope.classify(path) == ScopeMatch::Synced
            && cloud_names::classify(path) == CloudName::Plain;
        let date = rollouts::parse_date(path);
        let is_before_latest = |(day, latest): (String, &str)| day.as_str() < latest;
        let is_of_earlier_day = self.config.scope.session_mode == SessionMode::LastDateOnly
            && date.zip(latest_date).is_some_and(is_before_latest);
        let is_in_cloud = || self.config.cloud.join(path).symlink_metadata().is_ok();
        is_synced && !is_of_earlier_day && !is_in_cloud()
    }

    /// Returns true if a version of a conversation is, or once was, a conflict copy, or is a prefix of a readable one.
    fn is_or_was_conflict_copy(&self, version: &ListedVersion) -> bool {
        // The key comes from the path, because keys of manifests are in lower case and names of conflict copies are
        // not.
        let Some(key) = rollouts::key(&version.path) else {
            return false;
        };

        let ManifestEntry { size, digest, .. } = &version.entry;
        let name = conflict_copies::format_file_name(&key, digest);
        let copies = &self.records.conflict_copies;
        let is_copy = copies.all.contains_key(&name);
        if is_copy || resolutions::has_decision(&name, self.records.resolutions()) {
            return true;
        }

        let mut copies_of_conversation = copies.all.values().filter(|copy| copy.belongs_to(&key));
        copies_of_conversation.any(|copy| {
            let path = copies.path_of(copy.source_side(), copy);
            contents::text_begins_with(&path, *size, digest).unwrap_or_default()
        })
    }
}

struct FileOnSides<'a> {
    reader: &'a FolderReader<'a>,
    key: &'a str,
    /// `None` if neither side has the file.
    group: Option<&'a FileGroup>,
    last: Option<&'a SyncedFile>,
}

impl FileOnSides<'_> {
    /// Returns the listed versions that are newer than both sides and not deleted. For `lost_deletions` see
    /// [`FolderReader::find_undelivered`].
    fn select_newer_undeleted<'i>(
        &self,
        listed: &'i [ListedVersion],
        lost_deletions: &BTreeMap<String, Sha256Digest>,
    ) -> Result<Vec<&'i ListedVersion>, IoError> {
        let newer: Vec<_> = match FileKind::from_key(self.key) {
            // An unreadable file is reported when its group is planned.
            FileKind::Rollout => self
                .find_longer_conversation_versions(listed)
                .unwrap_or_default(),
            FileKind::Lines => listed
                .iter()
                .filter(|version| self.is_newer_line_version(&version.entry))
                .collect(),
            FileKind::Plain => listed
                .iter()
                .filter(|version| self.is_newer_plain_version(&version.entry))
                .collect(),
        };

        if newer.is_empty() {
            return Ok(newer);
        }
        let records = self.reader.records;
        let mut deleted_digests = records.deleted_versions(self.key);
        if self.group.is_none()
            && let Some(digest) = lost_deletions.get(self.key)
        {
            deleted_digests.push(*digest);
        }

        let mut undeleted = Vec::new();
        for version in newer {
            let mut is_deleted = false;
            for digest in &deleted_digests {
                is_deleted |= records.deletion_covers(self.key, &version.entry, *digest)?;
            }
            if !is_deleted {
                undeleted.push(version);
            }
        }
        Ok(undeleted)
    }

    /// Returns the newest of `versions` that has certainly not arrived, and whether only former manifests list them.
    fn to_undelivered_file(
        &self,
        versions: &[&ListedVersion],
        latest_date: Option<&str>,
    ) -> UndeliveredFile {
        // The versions of former manifests count only if no current manifest lists a version.
        let is_former = self.select_newest(versions, ManifestAge::Current).is_none();
        let age = if is_former {
            ManifestAge::Former
        } else {
            ManifestAge::Current
        };

        let is_missing = |version: &&ListedVersion| !self.may_be_arriving(version);
        let missing_versions: Vec<_> = versions.iter().copied().filter(is_missing).collect();
        let newest_missing = self.select_newest(&missing_versions, age);
        let wanted = newest_missing.filter(|(version, _)| {
            let path = &*version.path;
            // A file that one side has is synced already.
            let is_wanted =
                self.group.is_some() || self.reader.would_be_downloaded(path, latest_date);
            // Paths of manifests are untrusted: control characters in a path could manipulate the terminal.
            is_wanted && !path.chars().any(char::is_control)
        });
        let missing = wanted.and_then(|(version, machines)| {
            Some(UndeliveredVersion {
                machine: (*machines.first()?).to_owned(),
                path: version.path.clone(),
            })
        });

        UndeliveredFile { missing, is_former }
    }

    /// Returns the newest of the versions listed in manifests of this age, with the machines that list it.
    fn select_newest<'i>(
        &'i self,
        versions: &[&'i ListedVersion],
        age: ManifestAge,
    ) -> Option<(&'i ListedVersion, BTreeSet<&'i str>)> {
        let manifests = &self.reader.records.manifests;
        let only_grows = FileKind::from_key(self.key) != FileKind::Plain;
        let sort_key = |version: &ListedVersion| {
            // The size of a plain file says nothing about its age.
            let size = if only_grows { version.entry.size } else { 0 };
            (size, version.entry.mtime_ns)
        };

        let versions = versions.iter();
        let with_machines =
            versions.map(|version| (*version, manifests.machines_that_list(version, age)));
        let listed = with_machines.filter(|(_, machines)| !machines.is_empty());
        listed.max_by_key(|(version, _)| sort_key(version))
    }

    fn files(&self) -> impl Iterator<Item = (Side, &ListedFile)> {
        self.group.into_iter().flat_map(|group| {
            let local = group.local.iter().map(|file| (Side::Local, file));
            local.chain(group.remote.iter().map(|file| (Side::Remote, file)))
        })
    }

    /// Returns true for a file of the remote side that is not as the last sync left it.
    fn is_new_remote(&self, side: Side, file: &ListedFile) -> bool {
        let is_known = |last: &SyncedFile| last.remote.matches(&file.path, file.stat);
        side == Side::Remote && !self.last.is_some_and(is_known)
    }

    /// Returns true if a new file may be this version of a conversation: it has at least the listed size, or is
    /// compressed, so that its text length is unknown. New files are not read before their steps are planned.
    fn may_be_arriving(&self, version: &ListedVersion) -> bool {
        if !rollouts::is_key(self.key) {
            return false;
        }

        let copies = self.group.map_or(&[][..], |group| &group.client_copies);
        let files = self.files();
        let new_remote = files.filter(|(side, file)| self.is_new_remote(*side, file));
        let mut new_files = new_remote.map(|(_, file)| file).chain(copies);
        new_files.any(|file| file.path.ends_with(ZST) || file.stat.size >= version.entry.size)
    }

    /// Returns the listed versions of a conversation that are longer than the files of both sides, except versions that
    /// are or were conflict copies.
    fn find_longer_conversation_versions<'i>(
        &self,
        listed: &'i [ListedVersion],
    ) -> io::Result<Vec<&'i ListedVersion>> {
        // Ignores new remote files, because they may be the beginning of a listed version that is being delivered.
        let files = self.files();
        let known_files = files.filter(|(side, file)| !self.is_new_remote(*side, file));
        let (compressed, plain): (Vec<_>, Vec<_>) =
            known_files.partition(|(_, file)| file.path.ends_with(ZST));

        let plain_lens = plain.iter().map(|(_, file)| file.stat.size);
        let last_len = self.last.map(|last| match last.text {
            Some(text) => text.len,
            None => last.local.stat.size,
        });
        let mut longest_len = plain_lens.chain(last_len).max().unwrap_or(0);

        // A manifest has only the compressed size of a compressed version, which cannot be compared with text. Such a
        // version counts only if neither side has the conversation.
        let is_on_no_side = self.group.is_none() && self.last.is_none();
        let is_comparable = |version: &ListedVersion| is_on_no_side || !version.path.ends_with(ZST);
        let mut longer: Vec<_> = listed.iter().collect();
        longer.retain(|version| version.entry.size > longest_len && is_comparable(version));
        if longer.is_empty() {
            return Ok(longer);
        }

        // Reading compressed files to get the length of their text is expensive, so only after the check above.
        for (side, file) in compressed {
            let path = self.reader.config.file_path(side, &file.path);
            longest_len = longest_len.max(contents::read_text_digest(&path)?.len);
        }
        longer.retain(|version| version.entry.size > longest_len);
        longer.retain(|version| !self.reader.is_or_was_conflict_copy(version));
        Ok(longer)
    }

    /// Returns true for a version of a line-based file that is longer and has a later mtime than the files of both
    /// sides.
    fn is_newer_line_version(&self, version: &ManifestEntry) -> bool {
        let files = || self.group.into_iter().flat_map(FileGroup::files);
        let longest = files().map(|file| file.stat.size).max();
        let latest = files().map(|file| file.stat.mtime_ns).max();
        // `None`, without files, is less than any `Some`.
        Some(version.size) > longest && Some(version.mtime_ns) > latest
    }

    /// Returns true for a version of a plain file that is later than the local one, and that this machine never had.
    /// Machines list a change with a later mtime than the replaced version, whatever their clocks show.
    fn is_newer_plain_version(&self, version: &ManifestEntry) -> bool {
        let local = self.group.into_iter().flat_map(|group| &group.local);
        let times = local.map(|file| file.stat.mtime_ns);
        let last_time = self.last.map(|last| last.local.stat.mtime_ns);
        let last_digest = self.last.and_then(SyncedFile::text_digest);
        let replaced_digests = self.reader.records.state.replaced_digests(self.key);

        // A new remote file of this size may be the version; it is read when it is planned.
        let has_arrived = self
            .files()
            .any(|(side, file)| file.stat.size == version.size && self.is_new_remote(side, file));

        // `None`, without any time, is less than `Some`.
        Some(version.mtime_ns) > times.chain(last_time).max()
            && last_digest != Some(version.digest)
            && !replaced_digests.contains(&version.digest)
            && !has_arrived
    }
}
