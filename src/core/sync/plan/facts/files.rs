//! Selects the files to plan, and reads each by the rules of its kind.

use super::compared_file::{ComparedFile, FileReading, LineMergeFacts};
use super::fact_reader::FactReader;
use crate::codex::config::CodexConfig;
use crate::codex::rollout::Relation;
use crate::codex::text_damage::{self, SearchedPart};
use crate::io::{IoContext, IoError};
use crate::sync::cloud_folder::delivery::{DeliveredFiles, UncheckedFiles};
use crate::sync::config::{Compare, SessionMode};
use crate::sync::file_group::{FileGroup, display_path};
use crate::sync::file_kind::FileKind;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::{Notice, NoticeList, describe_read_failure};
use crate::sync::plan::file_plan::{FileOutcome, FilePlan};
use crate::sync::plan::sync_step::{MergeOp, MergeTarget};
use crate::sync::scan::ListedFile;
use crate::sync::sides::{ObservedFile, Side, SidePath};
use crate::sync::{line_merge, manager_folder, rollouts, secrets};
use std::collections::HashMap;

/// The line-based file that Codex truncates to `history.max_bytes`.
const PROMPT_HISTORY: &str = "history.jsonl";

impl<'a> FactReader<'a> {
    /// Returns the groups to plan: the [wanted](Self::is_wanted) groups, and the conversations that these continue.
    /// Leaves out files that exist only as placeholders, which have a notice of their own.
    pub(crate) fn select_groups(&self) -> Vec<(&'a str, &'a FileGroup)> {
        let groups = self.groups.iter();
        let groups = groups.map(|(key, group)| (key.as_str(), group));
        let candidates = groups.filter(|(_, group)| group.only_placeholder().is_none());
        let (mut planned, companions): (Vec<_>, Vec<_>) =
            candidates.partition(|(key, group)| self.is_wanted(key, group));

        // Codex cannot resume a conversation without the ones that it continues, so these are synced even if they are
        // companions.
        let companions = companions.into_iter();
        let with_ids =
            companions.filter_map(|(key, group)| Some((rollouts::rollout_id(key)?, (key, group))));
        let mut companions_by_id: HashMap<String, _> = with_ids.collect();

        // The list grows in the loop by the parents of its entries.
        let mut next_index = 0;
        while !companions_by_id.is_empty()
            && let Some((key, group)) = planned.get(next_index)
        {
            let parent_ids = self.read_parent_ids(key, group).into_iter();
            planned.extend(parent_ids.filter_map(|id| companions_by_id.remove(&id)));
            next_index += 1;
        }
        planned
    }

    /// Returns true if a file of the group is no companion. A companion is a conversation outside of the roots or of
    /// another day. If all days are synced, also returns true for a companion in the state, which stays synced.
    fn is_wanted(&self, key: &str, group: &FileGroup) -> bool {
        let syncs_all_days = self.config.scope.session_mode == SessionMode::All;
        group.files().any(|file| !file.companion)
            || (syncs_all_days && self.records.last_synced(key).is_some())
    }

    /// Returns true if the group is unchanged and needs no step. Two kinds of unchanged groups may need one: merges on
    /// two machines can differ despite equal size and time, and a file has to follow the rest of its thread into or out
    /// of the archive.
    pub(crate) fn is_in_sync(&self, key: &str, group: &FileGroup) -> bool {
        let last = self.records.last_synced(key);
        last.is_some_and(|last| group.matches_last_sync(last))
            && FileKind::from_key(key) != FileKind::Lines
            && !self.must_follow_thread(key, group)
    }

    /// Returns the ids of the rollouts that the files of a group continue; empty if the group is unchanged, blocked or
    /// not downloaded.
    fn read_parent_ids(&self, key: &str, group: &FileGroup) -> Vec<String> {
        let last = self.records.last_synced(key);
        let is_unchanged = last.is_some_and(|last| group.matches_last_sync(last));
        if is_unchanged || group.is_blocked || group.has_placeholder() || !rollouts::is_key(key) {
            return Vec::new();
        }

        let sides = [(Side::Local, &group.local), (Side::Remote, &group.remote)];
        let paths = sides.into_iter().flat_map(|(side, files)| {
            let root = self.config.root(side);
            files.iter().map(move |file| root.join(&file.path))
        });
        let parent_ids = paths.filter_map(|path| rollouts::read_parent_id(&path));
        parent_ids.collect()
    }

    /// Reads the files of one group. If one of them cannot be read, returns a plan that skips the group.
    ///
    /// # Errors
    /// A file that all decisions depend on, such as a manifest or the ledger, cannot be read.
    pub(crate) fn read_group(
        &self,
        key: &'a str,
        group: &FileGroup,
    ) -> Result<FileReading<'a>, IoError> {
        let reading = self.try_read_group(key, group);
        let Err(error) = &reading else {
            return reading;
        };
        // Without a file that is not synced, such as a manifest, no decision is reliable.
        let Some(path) = self.find_path_of_unreadable_file(group, error) else {
            return reading;
        };
        let notice = NoticeList::Skipped.notice(path, describe_read_failure(&error.source));
        Ok(FileReading::planned(notice))
    }

    /// Returns the path of the synced file that `error` names, relative to its side; `None` if `error` names a
    /// file that is not synced.
    fn find_path_of_unreadable_file(&self, group: &FileGroup, error: &IoError) -> Option<String> {
        let manager_folder = self.config.cloud.join(manager_folder::MANAGER_FOLDER);
        let run_folder = self.request.replica.run_folder();
        if error.path.starts_with(manager_folder) || error.path.starts_with(run_folder) {
            return None;
        }

        for side in [Side::Local, Side::Remote] {
            if let Ok(relative) = error.path.strip_prefix(self.config.root(side)) {
                // The paths of the sync have `/` on Windows too.
                return Some(relative.to_string_lossy().replace('\\', "/"));
            }
        }

        // If an entry of the home is a link, the error names the target, which may be outside of the home.
        let is_link_target =
            |file: &&ListedFile| self.config.file_path(Side::Local, &file.path) == error.path;
        let linked_file = group.local.iter().find(is_link_target)?;
        Some(linked_file.path.clone())
    }

    fn try_read_group(&self, key: &'a str, group: &FileGroup) -> Result<FileReading<'a>, IoError> {
        let kind = FileKind::from_key(key);
        if group.is_blocked {
            return Ok(FileReading::planned(FilePlan::default()));
        }

        let path = match kind {
            FileKind::Lines => key.to_owned(),
            _ => display_path(key, group),
        };
        if group.has_placeholder() {
            let why = "is not downloaded to this machine; have the cloud client download it";
            return Ok(FileReading::planned(NoticeList::Waiting.notice(path, why)));
        }

        if kind == FileKind::Plain && (group.local.len() > 1 || group.remote.len() > 1) {
            let place = if group.local.len() > 1 {
                "on this machine"
            } else {
                self.config.remote.describe_place()
            };
            let why = format!(
                "two files {place} have this name in two Unicode forms; rename one of them"
            );
            return Ok(FileReading::planned(NoticeList::Skipped.notice(path, why)));
        }
        self.read_delivered(key, path, kind, group)
    }

    /// Reads a group without placeholders, and checks that the cloud client has delivered its files completely.
    fn read_delivered(
        &self,
        key: &'a str,
        path: String,
        kind: FileKind,
        group: &FileGroup,
    ) -> Result<FileReading<'a>, IoError> {
        let to_versions = |side, files: &[ListedFile]| -> Vec<_> {
            let of_side = files.iter().map(|file| self.to_unread_version(side, file));
            of_side.collect()
        };
        let versions = UncheckedFiles {
            local: to_versions(Side::Local, &group.local),
            remote: to_versions(Side::Remote, &group.remote),
            client_copies: to_versions(Side::Remote, &group.client_copies),
        };

        for local in &versions.local {
            if let Some(notice) = self.notice_if_zero_filled(key, local, kind)? {
                return Ok(FileReading::planned(notice));
            }
        }
        if let Some(outcome) = self.outcome_if_equal_by_stat(key, &versions, kind) {
            return Ok(FileReading::planned(outcome));
        }

        // Logins are never copied. An unreadable file does not count as a login; its copy fails later with the reason.
        let is_login = |v: &&FileVersion| secrets::is_login(&v.full_path).unwrap_or_default();
        let files = versions.local.iter().chain(&versions.remote);
        let logins = files.chain(&versions.client_copies).filter(is_login);
        let logins = logins.map(|version| version.observed.clone()).collect();

        let files = match self.folder.check_delivery(key, &path, kind, versions)? {
            Ok(files) => files,
            Err(notice) => return Ok(FileReading::planned(notice)),
        };

        let mut file = if kind == FileKind::Rollout {
            self.read_conversation(key, path, files)?
        } else {
            self.read_plain_or_line_file(key, path, kind, files)?
        };
        file.logins = logins;
        Ok(FileReading::Compared(Box::new(file)))
    }

    /// Creates the version of a listed file from the scan alone, without attestation, digest and secret.
    fn to_unread_version(&self, side: Side, file: &ListedFile) -> FileVersion {
        FileVersion {
            full_path: self.config.file_path(side, &file.path),
            mtime_ns: file.stat.mtime_ns,
            observed: ObservedFile {
                side,
                path: file.path.clone(),
                stat: file.stat,
            },
            attested_digest: None,
            raw_digest: None,
            secret: None,
        }
    }

    /// Returns the outcome if the files count as equal by size and time, so that they are not read. Only a first sync
    /// with `compare = "mtime"` may decide so.
    fn outcome_if_equal_by_stat(
        &self,
        key: &str,
        versions: &UncheckedFiles,
        kind: FileKind,
    ) -> Option<FileOutcome> {
        let ([local], [remote]) = (&*versions.local, &*versions.remote) else {
            return None;
        };

        let last = self.records.last_synced(key);
        if self.rules.compare != Compare::Mtime || last.is_some() {
            return None;
        }

        let (local_file, remote_file) = (&local.observed, &remote.observed);
        let has_same_size = local_file.stat.size == remote_file.stat.size;
        let is_equal = match kind {
            FileKind::Lines => false,
            // Two diverged conversations can have equal size and almost equal times. Only times equal to the
            // nanosecond show that one file is a copy of the other.
            FileKind::Rollout => {
                versions.client_copies.is_empty()
                    && local_file.path == remote_file.path
                    && local_file.stat == remote_file.stat
            }
            FileKind::Plain => has_same_size && self.newer_side(local, remote).is_none(),
        };
        let unread_text = None;
        is_equal.then(|| FileOutcome::record_equal(last, local, remote, unread_text))
    }

    /// Returns a notice if the local file changed since the last sync and has zeros in place of its text, as after a
    /// power cut.
    fn notice_if_zero_filled(
        &self,
        key: &str,
        local: &FileVersion,
        kind: FileKind,
    ) -> Result<Option<Notice>, IoError> {
        let (observed, path) = (&local.observed, &local.full_path);
        let last = self.records.last_synced(key);
        if last.is_some_and(|last| last.local.matches(&observed.path, observed.stat)) {
            return Ok(None);
        }

        // A first sync searches only the ends: it copies all files, and would otherwise read each of them twice.
        let part = match last {
            Some(_) => SearchedPart::Whole,
            None => SearchedPart::Ends,
        };

        let is_zero_filled =
            text_damage::is_zero_filled(path, kind.has_lines(), part).at("read", path)?;
        let why = "has zeros where its text was, as after a power cut; remove or repair it on this machine \
                   to sync it again";
        Ok(is_zero_filled.then(|| NoticeList::Skipped.notice(&observed.path, why)))
    }

    /// Reads a file that is not a rollout. Each side has at most one version. A cloud client may have made copies of a
    /// line-based file, which are merged with it.
    fn read_plain_or_line_file(
        &self,
        key: &'a str,
        path: String,
        kind: FileKind,
        files: DeliveredFiles,
    ) -> Result<ComparedFile<'a>, IoError> {
        // `try_read_group` has refused groups with two files on one side.
        let [local, remote] = [files.local, files.remote].map(|files| files.into_iter().next());
        let mut file = self.compare_versions(key, path, kind, local, remote)?;
        file.notices = files.notices;

        let mut copies = Vec::new();
        for copy in files.client_copies {
            match copy.problem {
                Some(why) if !copy.has_usable_lines => {
                    let path = &copy.version.observed.path;
                    file.notices
                        .push(NoticeList::WaitingUnlisted.notice(path, why));
                }
                // Complete lines can be merged even if no machine will ever attest the copy.
                _ => copies.push(copy.version),
            }
        }

        let is_diverged = file.facts.relation == Some(Relation::Diverged);
        if kind == FileKind::Lines && (is_diverged || !copies.is_empty()) {
            let sides: Vec<_> = file.local.iter().chain(&file.remote).collect();
            file.merge = Some(self.merge_lines(key, &sides, &copies)?);
        }
        Ok(file)
    }

    /// Merges the lines of the files of the `sides` and of the clients' `copies`.
    fn merge_lines(
        &self,
        key: &str,
        sides: &[&FileVersion],
        copies: &[FileVersion],
    ) -> Result<LineMergeFacts, IoError> {
        let versions: Vec<_> = sides.iter().copied().chain(copies).collect();
        let paths: Vec<_> = versions.iter().map(|v| v.full_path.clone()).collect();
        let merge = line_merge::merge_versions(&paths)?;

        let version_index_on = |side| sides.iter().position(|v| v.observed.side == side);
        let local_first_line = match (self.read_history_limit(key), version_index_on(Side::Local)) {
            (Some(max_bytes), Some(index)) => merge.first_line_within(max_bytes, index),
            _ => 0,
        };

        let target_lacking_lines = |side, first_line| {
            let index = version_index_on(side);
            if index.is_some_and(|index| merge.matches_version(first_line, index)) {
                return None;
            }
            let replaced_file = index.map(|index| &sides[index].observed);
            // A file under another spelling of the name is not at the path of the target.
            let replaced_file = replaced_file.filter(|file| file.path == key);
            Some(MergeTarget {
                to: SidePath::new(side, key),
                replaced_stat: replaced_file.map(|file| file.stat),
                first_line,
            })
        };
        let local_target = target_lacking_lines(Side::Local, local_first_line);
        // The remote file gets all lines.
        let remote_target = target_lacking_lines(Side::Remote, 0);
        let targets: Vec<_> = local_target.into_iter().chain(remote_target).collect();

        // An attested version may have changed since its check and before this merge.
        let read_versions = || versions.iter().zip(&merge.versions);
        let is_outdated = read_versions().any(|(version, read)| {
            let attested = version.attested_digest;
            attested.is_some_and(|attested| attested != read.digest)
        });
        let with_digests =
            read_versions().map(|(version, read)| (version.observed.clone(), read.digest));

        Ok(LineMergeFacts {
            bytes: targets.iter().map(|t| merge.bytes_from(t.first_line)).sum(),
            op: MergeOp {
                versions: with_digests.collect(),
                targets,
                makes_sides_equal: local_first_line == 0,
            },
            has_client_copies: !copies.is_empty(),
            is_outdated,
        })
    }

    /// Returns the size beyond which Codex drops the oldest lines of the local `history.jsonl`; `None` without a valid
    /// limit, and for other files.
    fn read_history_limit(&self, key: &str) -> Option<u64> {
        let config = (key == PROMPT_HISTORY).then(|| CodexConfig::read(&self.config.local))?;
        config.history_max_bytes.ok().flatten()
    }
}
