//! Checks that remote files arrived completely.
//!
//! A cloud folder can show partial files, old files and files full of zeros. A remote file is trusted if it is as the
//! last sync left it, or if a machine attests its digest. Only without any such evidence does its content decide.

use super::folder_reader::FolderReader;
use crate::codex::rollout::{self, Relation};
use crate::codex::text_damage::{self, SearchedPart};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::cloud_names;
use crate::sync::file_kind::FileKind;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::{Notice, NoticeList, describe_read_failure};
use crate::sync::sides::{ObservedFile, Side};
use crate::sync::state::SyncedFile;

/// Reason to wait for a file whose text was replaced by zeros. Not even `--accept-unlisted` uses such a file.
pub(crate) const ZERO_FILLED: &str = "has zeros where its text was; remove it from the cloud folder, then run on the other \
                                      machine that has it: codex-manager sync run --apply";

/// The files of one group before they are checked.
pub(crate) struct UncheckedFiles {
    pub(crate) local: Vec<FileVersion>,
    pub(crate) remote: Vec<FileVersion>,
    /// Copies that cloud clients made.
    pub(crate) client_copies: Vec<FileVersion>,
}

/// The files of one group after the check. Those of both sides may be used.
pub(crate) struct DeliveredFiles {
    pub(crate) local: Vec<FileVersion>,
    pub(crate) remote: Vec<FileVersion>,
    /// Copies that cloud clients made of conversations and line-based files, with those that may not be used yet.
    pub(crate) client_copies: Vec<ClientCopy>,
    pub(crate) notices: Vec<Notice>,
}

/// The file in which a cloud client keeps one of two conflicting versions.
pub(crate) struct ClientCopy {
    pub(crate) version: FileVersion,
    /// Digest of the uncompressed text.
    pub(crate) digest: Sha256Digest,
    /// The reason to wait for the copy; `None` if it was delivered completely.
    pub(crate) problem: Option<&'static str>,
    /// True if the copy has no `problem`, or if its lines may be used in spite of it, because each of them is complete.
    /// A client can copy a version that no machine will ever attest.
    pub(crate) has_usable_lines: bool,
}

impl FolderReader<'_> {
    /// Checks the files of one group. The group may be used if each remote file arrived completely or has no lines that
    /// this machine lacks. Otherwise the inner error is the notice about the first remote file that may not be used.
    ///
    /// The copies of cloud clients are included even if they are incomplete, with the reason. `path` names the group
    /// in notices.
    pub(crate) fn check_delivery(
        &self,
        key: &str,
        path: &str,
        kind: FileKind,
        unchecked: UncheckedFiles,
    ) -> Result<Result<DeliveredFiles, Notice>, IoError> {
        let copies = unchecked.client_copies;
        let mut files = DeliveredFiles {
            local: unchecked.local,
            remote: unchecked.remote,
            client_copies: Vec::new(),
            notices: Vec::new(),
        };

        let last = self.records.last_synced(key);
        for index in 0..files.remote.len() {
            // A clone, because the check compares the version with all files of the group.
            let mut version = files.remote[index].clone();
            let problem = self.apply_records_or_find_problem(key, &mut version, kind, last)?;
            if let Some(why) = problem
                && !self.has_only_local_content(key, &files, &copies, &version, kind)?
            {
                let remote_path = &version.observed.path;
                let is_new = files.local.is_empty() && last.is_none();
                // A decision now could turn a partly delivered version into a conflict.
                return Ok(Err(match kind {
                    FileKind::Rollout => NoticeList::WaitingUnlisted.notice(remote_path, why),
                    // No machine will attest a client's copy, so sync does not wait for it.
                    _ if is_new && self.is_beside_original(remote_path) => {
                        NoticeList::Note.notice(path, cloud_names::LOOKS_LIKE_COPY)
                    }
                    _ => NoticeList::WaitingUnlisted.notice(path, why),
                }));
            }
            files.remote[index] = version;
        }

        if kind != FileKind::Plain {
            for copy in copies {
                self.add_client_copy(&mut files, key, copy, kind)?;
            }
        }

        Ok(Ok(files))
    }

    /// Returns true if the name of a remote file looks like that of a client's copy and the original is beside it.
    fn is_beside_original(&self, path: &str) -> bool {
        cloud_names::guess_original(path)
            .is_some_and(|original| self.config.root(Side::Remote).join(original).exists())
    }

    /// Adds a client's copy, with the reason to wait for it, if any. If the copy cannot be read, adds a notice instead.
    fn add_client_copy(
        &self,
        files: &mut DeliveredFiles,
        key: &str,
        mut version: FileVersion,
        kind: FileKind,
    ) -> Result<(), IoError> {
        let digest = match version.read_text_digest() {
            Ok(text) => text.digest,
            Err(e) => {
                let why = describe_read_failure(&e.source);
                let notice = NoticeList::Waiting.notice(&version.observed.path, why);
                files.notices.push(notice);
                return Ok(());
            }
        };

        let last_synced = None;
        let problem = self.apply_records_or_find_problem(key, &mut version, kind, last_synced)?;
        // A line-based file with zeros must not be merged. A conversation with zeros gets a conflict copy at most.
        let may_use_lines = kind == FileKind::Rollout || problem != Some(ZERO_FILLED);

        files.client_copies.push(ClientCopy {
            has_usable_lines: problem.is_none() || may_use_lines && version.has_complete_lines()?,
            version,
            digest,
            problem,
        });
        Ok(())
    }

    /// Returns the reason to wait for a remote file; `None` if the file was delivered completely. If a record
    /// matches `version`, it gets the recorded mtime, and that of a manifest also the digest.
    ///
    /// A file is complete if it is unchanged since the last sync. A file with zeros for text is incomplete. All others
    /// are complete if a machine attests them, this machine had them before, or `--accept-unlisted` is given.
    /// [`Self::find_incompleteness`] decides the rest.
    fn apply_records_or_find_problem(
        &self,
        key: &str,
        version: &mut FileVersion,
        kind: FileKind,
        last: Option<&SyncedFile>,
    ) -> Result<Option<&'static str>, IoError> {
        let ObservedFile { path, stat, .. } = &version.observed;
        let size = stat.size;
        if let Some(last) = last
            && last.remote.matches(path, *stat)
        {
            version.mtime_ns = last.local.stat.mtime_ns;
            return Ok(None);
        }

        // Checked before the manifests, because a machine that read the zeros after a power cut may even attest them.
        let full_path = &version.full_path;
        if text_damage::is_zero_filled(full_path, kind.has_lines(), SearchedPart::Whole)
            .at("read", full_path)?
        {
            return Ok(Some(ZERO_FILLED));
        }

        let replaced_digests = self.records.state.replaced_digests(key);
        let mut attested = self.records.attested_versions(key)?;
        // Reads the file only if it may be a known version: a version of this size is attested, or this machine
        // replaced a version, whose size it does not know.
        let has_attested_size = attested.clone().any(|listed| listed.size == size);
        if has_attested_size || !replaced_digests.is_empty() {
            let digest = version.read_raw_digest()?;
            if let Some(listed) = attested.find(|listed| listed.digest == digest) {
                version.mtime_ns = listed.mtime_ns;
                version.attested_digest = Some(digest);
                return Ok(None);
            }
            // This machine had the version before, so it is complete.
            if replaced_digests.contains(&digest) {
                return Ok(None);
            }
        }

        if self.accept_unlisted {
            return Ok(None);
        }
        self.find_incompleteness(key, version, kind, last)
    }

    /// Returns the reason to wait for a file that no machine attests; `None` if its content shows that it is complete.
    /// If other machines write manifests, it is complete only if it extends an attested version by complete lines.
    /// Without other machines, it is complete unless it looks incomplete.
    fn find_incompleteness(
        &self,
        key: &str,
        version: &FileVersion,
        kind: FileKind,
        last: Option<&SyncedFile>,
    ) -> Result<Option<&'static str>, IoError> {
        let (path, size) = (&version.full_path, version.observed.stat.size);
        let defect = text_damage::find_defect(path, kind.has_lines()).at("read", path)?;
        if defect.is_some() {
            return Ok(defect);
        }

        let is_listed = !self.records.manifests.listed_versions(key).is_empty();
        let had_content = last.is_some_and(|last| last.remote.stat.size > 0) || is_listed;
        if size == 0 && had_content {
            return Ok(Some("is empty, but was not before"));
        }

        if !self.records.state.has_other_machines {
            // No other machine uses codex-manager: the file comes from codexSync, another mirror tool or the user, and
            // no manifest will ever attest it.
            return match kind {
                FileKind::Plain => text_damage::find_truncation(path).at("read", path),
                FileKind::Rollout | FileKind::Lines => Ok(None),
            };
        }

        if kind != FileKind::Plain {
            // A program without manifests appended lines to an attested version.
            let attested = self.records.attested_versions(key)?;
            for listed in attested.filter(|listed| listed.size > 0 && listed.size < size) {
                if version.raw_begins_with(listed.size, &listed.digest)? {
                    return Ok(None);
                }
            }
        }

        Ok(Some(if is_listed {
            "the cloud copy is not the version that another machine published"
        } else {
            "no machine has published this version yet"
        }))
    }

    /// Returns true if the local file has all content of an incomplete remote file, so that the sync need not wait for
    /// the rest. A prefix of the local file can also be the beginning of a newer version that is being delivered. So it
    /// counts only if the local file and the other remote files have all versions that other machines attest: then a
    /// client restored an earlier version.
    fn has_only_local_content(
        &self,
        key: &str,
        files: &DeliveredFiles,
        copies: &[FileVersion],
        remote: &FileVersion,
        kind: FileKind,
    ) -> Result<bool, IoError> {
        for local in &files.local {
            let is_contained = match kind {
                FileKind::Plain => {
                    let has_same_size = local.observed.stat.size == remote.observed.stat.size;
                    has_same_size && local.read_raw_digest()? == remote.read_raw_digest()?
                }
                _ if !remote.has_complete_lines()? => return Ok(false),
                _ => match local.compare_to(remote)?.relation {
                    Relation::Equal => true,
                    Relation::FirstExtends => {
                        // Clients' copies are versions too.
                        let remotes = files.remote.iter().chain(copies);
                        let others = remotes.filter(|file| file.observed != remote.observed);
                        let versions: Vec<_> = std::iter::once(local).chain(others).collect();
                        self.have_all_attested(key, &versions)?
                    }
                    Relation::SecondExtends | Relation::Diverged => false,
                },
            };
            if is_contained {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if each version that other machines attest equals one of the `files` or is a prefix of it.
    fn have_all_attested(&self, key: &str, files: &[&FileVersion]) -> Result<bool, IoError> {
        let any_begins_with = |len, digest| {
            for file in files {
                if file.text_begins_with(len, &digest)? {
                    return Ok::<_, IoError>(true);
                }
            }
            Ok(false)
        };

        let last = self.records.last_synced(key);
        let last_compressed = last.filter(|last| last.remote.path.ends_with(rollout::ZST));
        for version in self.records.manifests.listed_entries(key) {
            let mut is_contained = any_begins_with(version.size, version.digest)?;
            // A manifest has no text digest of a compressed version. The state has that of the last sync.
            if let Some(last) = last_compressed
                && !is_contained
                && last.remote.stat.size == version.size
                && let Some(text) = last.text
            {
                is_contained = any_begins_with(text.len, text.digest)?;
            }
            if !is_contained {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the reason not to copy a remote version over the local one yet: no machine attests the remote version,
    /// and it is empty or cut off within a line. `is_first_sync` is true if no sync has recorded the file.
    pub(crate) fn find_download_risk(
        &self,
        local: &FileVersion,
        remote: &FileVersion,
        kind: FileKind,
        is_first_sync: bool,
    ) -> Result<Option<&'static str>, IoError> {
        if remote.attested_digest.is_some() {
            return Ok(None);
        }

        // Clients create a file empty before they fill it.
        let is_empty = remote.observed.stat.size == 0 && local.observed.stat.size > 0;
        if is_empty && is_first_sync && !self.accept_unlisted {
            return Ok(Some("is empty, and no machine lists an empty version"));
        }

        // Only `sync resolve` uses a truncated file. `--accept-unlisted` does not, because the rest of the file may
        // still be on its way.
        let is_truncated =
            kind == FileKind::Plain && !self.is_resolving && remote.is_truncated_copy_of(local)?;
        let why = "is the beginning of the local file, cut off within a line; remove it from the cloud folder \
                   to copy the local file there again";
        Ok(is_truncated.then_some(why))
    }
}
