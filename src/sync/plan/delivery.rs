//! Facts about one version of a file: whether the cloud client delivered it completely, and whether it changed since
//! the last sync.
//!
//! A cloud folder can show partial files, old files and files full of zeros. A remote file is trusted if it is as the
//! last sync left it, or if a machine attests its digest. Only without any such evidence does its content decide.

use super::groups::FileGroup;
use super::inputs::Planner;
use super::steps::ObservedFile;
use crate::codex::rollout::{self, Relation};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::decide::{FileFacts, NewerSide, Presence};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::{SideFile, SyncedFile};
use std::path::Path;

/// A complete version of a file, which may be copied.
#[derive(Debug, Clone)]
pub(super) struct FileVersion {
    /// The file that has the version.
    pub(super) seen: ObservedFile,
    /// Modification time in nanoseconds since 1970; that of the manifest if one attests the file, because cloud
    /// clients round the times of files.
    pub(super) mtime_ns: i64,
    /// Digest of the bytes, if a machine attests them or they are a superseded version; see `superseded_digest`.
    pub(super) digest: Option<Sha256Digest>,
}

impl FileVersion {
    /// A local version. Local files count as complete unless they are filled with zeros.
    pub(super) fn local(found: &ListedFile) -> Self {
        Self::new(Side::Local, found)
    }

    /// A remote version that is used without a check of its attestation.
    pub(super) fn remote(found: &ListedFile) -> Self {
        Self::new(Side::Remote, found)
    }

    fn new(side: Side, found: &ListedFile) -> Self {
        Self {
            mtime_ns: found.stat.mtime_ns,
            seen: ObservedFile {
                side,
                path: found.path.clone(),
                stat: found.stat,
            },
            digest: None,
        }
    }
}

/// Result of checking whether a remote file was delivered completely.
#[derive(Debug)]
pub(super) enum DownloadState {
    /// The file may be used.
    Complete(FileVersion),
    /// The sync waits for the file, for this reason.
    Incomplete(&'static str),
}

/// Reason to wait for a file whose text was replaced by zeros; `--accept-unlisted` does not use it either.
pub(super) const ZERO_FILLED: &str = "has zeros where its text was";

impl Planner<'_> {
    /// Checks whether a remote file was delivered completely. Files that are as the last sync left them or that a
    /// machine attests are complete. If other machines write manifests, all other files are incomplete, except lines
    /// appended to an attested version; without other machines, files are complete unless they look torn.
    /// With `is_line_file`, the file is a conversation or a line-based file: its lines are complete or torn.
    pub(super) fn download_state(
        &self,
        key: &str,
        found: &ListedFile,
        is_line_file: bool,
        last: Option<&SyncedFile>,
    ) -> Result<DownloadState, IoError> {
        let seen = ObservedFile {
            side: Side::Remote,
            path: found.path.clone(),
            stat: found.stat,
        };
        let complete = |mtime_ns, digest| {
            Ok(DownloadState::Complete(FileVersion {
                seen: seen.clone(),
                mtime_ns,
                digest,
            }))
        };
        if let Some(last) = last
            && is_as_last_synced(found, &last.remote)
        {
            return complete(last.local.stat.mtime_ns, None);
        }
        let path = self.full(&seen);
        // Before the manifests: a machine that read the zeros after a power cut may even attest them.
        if contents::is_zero_filled(&path, is_line_file, true).at("read", &path)? {
            return Ok(DownloadState::Incomplete(ZERO_FILLED));
        }
        // Reads the file only if a version of its size is attested.
        if self
            .attested_versions(key)?
            .any(|version| version.size == found.stat.size)
        {
            let digest = contents::raw_digest(&path).at("read", &path)?;
            if let Some(version) = self
                .attested_versions(key)?
                .find(|version| version.digest == digest)
            {
                return complete(version.mtime_ns, Some(digest));
            }
        }
        if !is_line_file && let Some(digest) = self.superseded_digest(key, found)? {
            return complete(found.stat.mtime_ns, Some(digest));
        }
        if self.request.accept_unlisted {
            return complete(found.stat.mtime_ns, None);
        }
        match self.incompleteness(key, found, is_line_file, last)? {
            Some(why) => Ok(DownloadState::Incomplete(why)),
            None => complete(found.stat.mtime_ns, None),
        }
    }

    /// Returns the reason to wait for a file that no machine attests; `None` if its content shows that it is complete.
    fn incompleteness(
        &self,
        key: &str,
        found: &ListedFile,
        is_line_file: bool,
        last: Option<&SyncedFile>,
    ) -> Result<Option<&'static str>, IoError> {
        let path = self.full(&FileVersion::remote(found).seen);
        let why = contents::torn_reason(&path, is_line_file).at("read", &path)?;
        if why.is_some() {
            return Ok(why);
        }
        let manifests = self.manifests()?;
        let others = manifests.entries(key);
        let had_content = last.is_some_and(|last| last.remote.stat.size > 0) || !others.is_empty();
        if found.stat.size == 0 && had_content {
            return Ok(Some("is empty, but was not before"));
        }
        if manifests.machines == 0 && !self.state.has_other_machines {
            // No other machine uses codex-manager: the file comes from codexSync, another mirror tool or the user, and
            // no manifest will ever attest it.
            return if is_line_file {
                Ok(None)
            } else {
                contents::truncation_reason(&path).at("read", &path)
            };
        }
        let known = others.iter().chain(self.ledger_versions(key)?);
        if is_line_file && extends_attested_version(&path, found.stat.size, known)? {
            return Ok(None);
        }
        Ok(Some(if others.is_empty() {
            "no machine has published this version yet"
        } else {
            "the cloud copy is not the version that another machine published"
        }))
    }

    /// Returns true if an incomplete remote file has nothing that the local file lacks, so that using it cannot lose
    /// anything and there is no reason to wait. A prefix of a local conversation or line-based file counts only if the
    /// local file, or another remote file, also has everything that other machines attest: then a client restored an
    /// earlier version.
    /// Otherwise the prefix may be the beginning of a newer version that is being delivered.
    pub(super) fn adds_nothing(
        &self,
        key: &str,
        group: &FileGroup,
        found: &ListedFile,
        is_line_file: bool,
    ) -> Result<bool, IoError> {
        let remote = FileVersion::remote(found).seen;
        for own in group.local.iter().map(|own| FileVersion::local(own).seen) {
            let is_contained = if is_line_file {
                self.has_complete_lines(&remote)?
                    && match self.relation(&own, &remote)? {
                        Relation::Equal => true,
                        Relation::FirstExtends => {
                            // Clients' copies are versions too.
                            let beside = group.remote.iter().chain(&group.client_copies);
                            let beside = beside.filter(|file| file.path != found.path);
                            let beside = beside.map(|file| FileVersion::remote(file).seen);
                            let files: Vec<_> = std::iter::once(own).chain(beside).collect();
                            self.contain_all_attested(key, &files)?
                        }
                        Relation::SecondExtends | Relation::Diverged => false,
                    }
            } else {
                let digest = |seen| {
                    let path = self.full(seen);
                    contents::raw_digest(&path).at("read", &path)
                };
                own.stat.size == remote.stat.size && digest(&own)? == digest(&remote)?
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
    fn contain_all_attested(&self, key: &str, files: &[ObservedFile]) -> Result<bool, IoError> {
        let begins_with = |len, digest| {
            for path in files.iter().map(|seen| self.full(seen)) {
                let contents = contents::read(&path, Some(len)).at("read", &path)?;
                if contents.prefix_digest == Some(digest) {
                    return Ok::<_, IoError>(true);
                }
            }
            Ok(false)
        };
        let last = self.state.files.get(key);
        for version in self.manifests()?.entries(key) {
            if begins_with(version.size, version.digest)? {
                continue;
            }
            let last_synced = last
                .filter(|last| last.remote.path.ends_with(rollout::ZST))
                .filter(|last| last.remote.stat.size == version.size)
                .and_then(|last| last.contents);
            let is_contained = match last_synced {
                Some((len, digest)) => begins_with(len, digest)?,
                None => false,
            };
            if !is_contained {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns true if the file has at least one line and all its lines are complete.
    pub(super) fn has_complete_lines(&self, seen: &ObservedFile) -> Result<bool, IoError> {
        let path = self.full(seen);
        let why = contents::torn_reason(&path, true).at("read", &path)?;
        Ok(seen.stat.size > 0 && why.is_none())
    }

    /// Returns true if `half` is a prefix of `whole` that ends within a line. That is a truncated copy, because editors
    /// and Codex end a file with a newline.
    pub(super) fn is_truncated_prefix(
        &self,
        whole: &FileVersion,
        half: &FileVersion,
    ) -> Result<bool, IoError> {
        let size = half.seen.stat.size;
        if size == 0 || size >= whole.seen.stat.size {
            return Ok(false);
        }
        let path = self.full(&half.seen);
        if contents::ends_with_newline(&path).at("read", &path)? {
            return Ok(false);
        }
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let path = self.full(&whole.seen);
        let mut file = file_open::open(&path).at("open", &path)?;
        let contents = contents::read_from(&mut file, Some(size)).at("read", &path)?;
        Ok(contents.prefix_digest == Some(digest))
    }

    /// Skips a local file that changed to zeros since the last sync, as a power cut leaves it. Returns true if it did.
    pub(super) fn skips_zero_filled(
        &mut self,
        found: &ListedFile,
        is_line_file: bool,
        last: Option<&SyncedFile>,
    ) -> Result<bool, IoError> {
        if last.is_some_and(|last| is_as_last_synced(found, &last.local)) {
            return Ok(false);
        }
        let path = self.root(Side::Local).join(&found.path);
        // Not thorough on a first sync, which would read the whole home twice: the copy reads every byte anyway.
        let is_zero_filled =
            contents::is_zero_filled(&path, is_line_file, last.is_some()).at("read", &path)?;
        if is_zero_filled {
            let why = "has zeros where its text was, as after a power cut; remove or repair it on this machine \
                       to sync it again";
            self.plan
                .notices
                .skipped
                .push((found.path.clone(), why.into()));
        }
        Ok(is_zero_filled)
    }

    /// Compares one side with the last sync: by size and time, and by content if these differ.
    pub(super) fn presence(
        &self,
        version: Option<&FileVersion>,
        last: Option<&SyncedFile>,
    ) -> Result<Presence, IoError> {
        let Some(version) = version else {
            return Ok(Presence::Absent);
        };
        let Some(last) = last else {
            return Ok(Presence::New);
        };
        let place = match version.seen.side {
            Side::Local => &last.local,
            Side::Remote => &last.remote,
        };
        if version.seen.stat == place.stat {
            return Ok(Presence::Unchanged);
        }
        if let Some((len, digest)) = last.contents {
            let path = self.full(&version.seen);
            // Another length is another content, so the file need not be read. The length of a compressed file says
            // nothing about its text.
            let may_be_equal =
                version.seen.stat.size == len || path.extension().is_some_and(|e| e == "zst");
            if may_be_equal && contents::read(&path, None).at("read", &path)?.digest == digest {
                return Ok(Presence::Unchanged);
            }
        }
        Ok(Presence::Changed)
    }

    /// Treats a local file downloaded by an interrupted run as synced, not as a local edit: then only the remote side
    /// has changed. Returns the ledger entry of the download.
    pub(super) fn check_interrupted_download(
        &self,
        key: &str,
        facts: &mut FileFacts,
        local: Option<&FileVersion>,
    ) -> Result<Option<&ManifestEntry>, IoError> {
        let is_changed = |presence| matches!(presence, Presence::New | Presence::Changed);
        let Some(local) = local.filter(|_| is_changed(facts.local) && is_changed(facts.remote))
        else {
            return Ok(None);
        };
        let size = local.seen.stat.size;
        let downloads = self.ledger()?.downloaded.get(&manifest::fold_name(key));
        let same_size = downloads
            .into_iter()
            .flatten()
            .filter(|entry| entry.size == size);
        if same_size.clone().next().is_none() {
            return Ok(None);
        }
        let path = self.full(&local.seen);
        let digest = contents::raw_digest(&path).at("read", &path)?;
        // Entries of one digest can differ in ancestry: the newest one counts.
        let download = same_size.rev().find(|entry| entry.digest == digest);
        if download.is_some() {
            (facts.local, facts.remote) = (Presence::Unchanged, Presence::Changed);
        }
        Ok(download)
    }

    /// Compares the texts of two versions. An error names the file that cannot be read.
    pub(super) fn relation(
        &self,
        first: &ObservedFile,
        second: &ObservedFile,
    ) -> Result<Relation, IoError> {
        let (first, second) = (self.full(first), self.full(second));
        rollout::compare(&first, &second).map_err(|source| {
            // `compare` reads both files and its error has no path; reading one again tells which file failed.
            let is_second = contents::read(&second, None).is_err();
            IoError {
                action: "read",
                path: if is_second { second } else { first },
                source,
            }
        })
    }

    /// Returns the side with the newer time, or neither within `tolerance`.
    pub(super) fn newer(&self, local: &FileVersion, remote: &FileVersion) -> NewerSide {
        let apart = i128::from(local.mtime_ns) - i128::from(remote.mtime_ns);
        if apart.abs() <= self.request.config.policy.tolerance_nanos {
            NewerSide::Neither
        } else if apart > 0 {
            NewerSide::Local
        } else {
            NewerSide::Remote
        }
    }

    /// Returns true if two versions that no sync has seen count as equal by size and time alone.
    pub(super) fn stats_are_equal(&self, local: &FileVersion, remote: &FileVersion) -> bool {
        let same_size = local.seen.stat.size == remote.seen.stat.size;
        same_size && self.trusts_mtime() && self.newer(local, remote) == NewerSide::Neither
    }

    /// Returns the length and the digest of the uncompressed text.
    pub(super) fn text_digest(&self, seen: &ObservedFile) -> Result<(u64, Sha256Digest), IoError> {
        let path = self.full(seen);
        let contents = contents::read(&path, None).at("read", &path)?;
        Ok((contents.len, contents.digest))
    }
}

/// Returns true if path, size and time are those of the last sync.
pub(super) fn is_as_last_synced(found: &ListedFile, place: &SideFile) -> bool {
    found.stat == place.stat && found.path == place.path
}

/// Returns true if the file is an attested version with more lines appended. Then a program without manifests appended
/// them, and the file is complete.
fn extends_attested_version<'a>(
    path: &Path,
    size: u64,
    known: impl Iterator<Item = &'a ManifestEntry>,
) -> Result<bool, IoError> {
    for version in known.filter(|version| version.size > 0 && version.size < size) {
        let mut file = file_open::open(path).at("open", path)?;
        let contents = contents::read_from(&mut file, Some(version.size)).at("read", path)?;
        if contents.prefix_digest == Some(version.digest) {
            return Ok(true);
        }
    }
    Ok(false)
}
