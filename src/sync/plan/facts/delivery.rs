//! Which remote versions arrived completely, and which listed ones have not arrived.
//!
//! A cloud folder can show partial files, old files and files full of zeros. A remote file is trusted if it is as the
//! last sync left it, or if a machine attests its digest. Only without any such evidence does its content decide.

use super::fact_reader::FactReader;
use super::file_version::{DownloadState, FileVersion};
use crate::codex::rollout::{self, Relation};
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::decide::FileKind;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::scan::file_group::{FileGroup, is_as_last_synced};
use crate::sync::scan::ListedFile;
use crate::sync::sides::Side;
use crate::sync::state::SyncedFile;

/// Reason to wait for a file whose text was replaced by zeros; `--accept-unlisted` does not use it either.
pub(crate) const ZERO_FILLED: &str = "has zeros where its text was";

impl FactReader<'_> {
    /// Checks whether the remote file of a group may be used: it was delivered completely, or it adds nothing to what
    /// this machine has.
    pub(super) fn usable_version(
        &self,
        key: &str,
        group: &FileGroup,
        found: &ListedFile,
        kind: FileKind,
    ) -> Result<DownloadState, IoError> {
        let state = self.download_state(key, found, kind, self.records.last(key))?;
        if matches!(state, DownloadState::Incomplete(_)) {
            let remote = self.version(Side::Remote, found);
            if self.adds_nothing(key, group, &remote, kind)? {
                return Ok(DownloadState::Complete(remote));
            }
        }
        Ok(state)
    }

    /// Checks whether a remote file was delivered completely. Files that are as the last sync left them or that a
    /// machine attests are complete. If other machines write manifests, all other files are incomplete, except lines
    /// appended to an attested version; without other machines, files are complete unless they look torn.
    pub(super) fn download_state(
        &self,
        key: &str,
        found: &ListedFile,
        kind: FileKind,
        last: Option<&SyncedFile>,
    ) -> Result<DownloadState, IoError> {
        let mut version = self.version(Side::Remote, found);
        if let Some(last) = last
            && is_as_last_synced(found, &last.remote)
        {
            version.mtime_ns = last.local.stat.mtime_ns;
            return Ok(DownloadState::Complete(version));
        }
        let path = &version.full_path;
        // Before the manifests: a machine that read the zeros after a power cut may even attest them.
        let is_line_file = kind != FileKind::Plain;
        if contents::is_zero_filled(path, is_line_file, true).at("read", path)? {
            return Ok(DownloadState::Incomplete(ZERO_FILLED));
        }
        let replaced = self.records.state.replaced_by(key);
        let mut attested = self.records.attested_versions(key);
        // Reads the file only if a version of its size is attested.
        if attested.any(|listed| listed.size == found.stat.size) || !replaced.is_empty() {
            let digest = version.raw_digest()?;
            let mut attested = self.records.attested_versions(key);
            if let Some(listed) = attested.find(|listed| listed.digest == digest) {
                version.mtime_ns = listed.mtime_ns;
                version.attested = Some(digest);
                return Ok(DownloadState::Complete(version));
            }
            // A complete version that this machine had before.
            if replaced.contains(&digest) {
                return Ok(DownloadState::Complete(version));
            }
        }
        if !self.request.accept_unlisted
            && let Some(why) = self.incompleteness(key, &version, is_line_file, last)?
        {
            return Ok(DownloadState::Incomplete(why));
        }
        Ok(DownloadState::Complete(version))
    }

    /// Returns the reason to wait for a file that no machine attests; `None` if its content shows that it is complete.
    fn incompleteness(
        &self,
        key: &str,
        version: &FileVersion,
        is_line_file: bool,
        last: Option<&SyncedFile>,
    ) -> Result<Option<&'static str>, IoError> {
        let (path, size) = (&version.full_path, version.seen.stat.size);
        let why = contents::torn_reason(path, is_line_file).at("read", path)?;
        if why.is_some() {
            return Ok(why);
        }
        let is_listed = !self.records.manifests.versions(key).is_empty();
        let had_content = last.is_some_and(|last| last.remote.stat.size > 0) || is_listed;
        if size == 0 && had_content {
            return Ok(Some("is empty, but was not before"));
        }
        if !self.records.has_other_machines() {
            // No other machine uses codex-manager: the file comes from codexSync, another mirror tool or the user, and
            // no manifest will ever attest it.
            return if is_line_file {
                Ok(None)
            } else {
                contents::truncation_reason(path).at("read", path)
            };
        }
        if is_line_file {
            // A program without manifests appended lines to an attested version.
            let known = self.records.attested_versions(key);
            for listed in known.filter(|listed| listed.size > 0 && listed.size < size) {
                if version.raw(Some(listed.size))?.prefix_digest == Some(listed.digest) {
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

    /// Returns true if an incomplete remote file has nothing that the local file lacks, so that using it cannot lose
    /// anything and there is no reason to wait. A prefix of a local conversation or line-based file counts only if the
    /// local file, or another remote file, also has everything that other machines attest: then a client restored an
    /// earlier version. Otherwise the prefix may be the beginning of a newer version that is being delivered.
    fn adds_nothing(
        &self,
        key: &str,
        group: &FileGroup,
        remote: &FileVersion,
        kind: FileKind,
    ) -> Result<bool, IoError> {
        for own in &group.local {
            let own = self.version(Side::Local, own);
            let is_contained = if kind == FileKind::Plain {
                own.seen.stat.size == remote.seen.stat.size
                    && own.raw_digest()? == remote.raw_digest()?
            } else {
                remote.has_complete_lines()?
                    && match own.relation_to(remote)?.relation {
                        Relation::Equal => true,
                        Relation::FirstExtends => {
                            // Clients' copies are versions too.
                            let beside = group.remote.iter().chain(&group.client_copies);
                            let beside = beside.filter(|file| file.path != remote.seen.path);
                            let beside = beside.map(|file| self.version(Side::Remote, file));
                            self.contain_all_attested(key, std::iter::once(own).chain(beside))?
                        }
                        Relation::SecondExtends | Relation::Diverged => false,
                    }
            };
            if is_contained {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if each version that other machines attest equals one of these files or is a prefix of one.
    /// Manifests list compressed files by the digest of their compressed bytes, which prefixes cannot match; such a
    /// version is recognized only if it is the one of the last sync, whose uncompressed digest the state knows.
    fn contain_all_attested(
        &self,
        key: &str,
        files: impl Iterator<Item = FileVersion>,
    ) -> Result<bool, IoError> {
        let files: Vec<_> = files.collect();
        let begins_with = |len, digest| {
            for file in &files {
                if file.text(Some(len))?.prefix_digest == Some(digest) {
                    return Ok::<_, IoError>(true);
                }
            }
            Ok(false)
        };
        let last = self.records.last(key);
        let compressed = last.filter(|last| last.remote.path.ends_with(rollout::ZST));
        for version in self.records.manifests.entries(key) {
            let last_text = compressed
                .filter(|last| last.remote.stat.size == version.size)
                .and_then(|last| last.contents);
            let is_contained = begins_with(version.size, version.digest)?
                || match last_text {
                    Some((len, digest)) => begins_with(len, digest)?,
                    None => false,
                };
            if !is_contained {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the notice that skips a local file which changed to zeros since the last sync, as a power cut leaves it;
    /// `None` for all other files.
    pub(super) fn zero_filled_notice(
        &self,
        key: &str,
        found: &ListedFile,
        kind: FileKind,
    ) -> Result<Option<Notice>, IoError> {
        let last = self.records.last(key);
        if last.is_some_and(|last| is_as_last_synced(found, &last.local)) {
            return Ok(None);
        }
        let path = &self.config.file_path(Side::Local, &found.path);
        // Not thorough on a first sync, which would read the whole home twice: the copy reads every byte anyway.
        let is_line_file = kind != FileKind::Plain;
        let is_zero_filled =
            contents::is_zero_filled(path, is_line_file, last.is_some()).at("read", path)?;
        let why = "has zeros where its text was, as after a power cut; remove or repair it on this machine \
                   to sync it again";
        Ok(is_zero_filled.then(|| NoticeList::Skipped.notice(&found.path, why)))
    }

    /// Returns the reason not to copy a remote version over the local one yet, although it looks complete.
    pub(super) fn download_risk(
        &self,
        local: &FileVersion,
        remote: &FileVersion,
        kind: FileKind,
        is_first: bool,
    ) -> Result<Option<&'static str>, IoError> {
        if remote.attested.is_some() {
            return Ok(None);
        }
        // Clients create a file empty before they fill it.
        let is_empty = remote.seen.stat.size == 0 && local.seen.stat.size > 0;
        if is_empty && is_first && !self.request.accept_unlisted {
            return Ok(Some("is empty, and no machine lists it so"));
        }
        // Not even `--accept-unlisted` uses a truncated file, because the rest may still be on its way;
        // `sync resolve` for this file does.
        let may_be_truncated = kind == FileKind::Plain && self.request.policy_override.is_none();
        let why = "is the beginning of the local file, cut off within a line; remove it from the cloud folder \
                   to copy the local file there again";
        Ok((may_be_truncated && remote.is_truncated(local)?).then_some(why))
    }
}
