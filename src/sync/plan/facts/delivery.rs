//! Checks whether a file arrived completely.
//!
//! A cloud folder can show partial files, old files and files full of zeros. A remote file is trusted if it is as the
//! last sync left it, or if a machine attests its digest. Only without any such evidence does its content decide.

use super::file_version::{FileVersion, has_complete_lines, raw_digest, relation};
use crate::codex::rollout::{self, Relation};
use crate::io::file_open;
use crate::io::{IoContext, IoError};
use crate::sync::contents;
use crate::sync::manifest::ManifestEntry;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::{FileGroup, is_as_last_synced};
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::SyncedFile;
use std::path::Path;

/// Result of checking whether a remote file was delivered completely.
#[derive(Debug)]
pub(crate) enum DownloadState {
    /// The file may be used.
    Complete(FileVersion),
    /// The sync waits for the file, for this reason.
    Incomplete(&'static str),
}

/// Reason to wait for a file whose text was replaced by zeros; `--accept-unlisted` does not use it either.
pub(crate) const ZERO_FILLED: &str = "has zeros where its text was";

/// Checks whether the remote file of a group may be used: it was delivered completely, or it adds nothing to what this
/// machine has.
pub(crate) fn usable_version(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
    found: &ListedFile,
    is_line_file: bool,
    last: Option<&SyncedFile>,
) -> Result<DownloadState, IoError> {
    let state = download_state(inputs, key, found, is_line_file, last)?;
    let is_incomplete = matches!(state, DownloadState::Incomplete(_));
    if is_incomplete && adds_nothing(inputs, key, group, found, is_line_file)? {
        return Ok(DownloadState::Complete(FileVersion::of(
            Side::Remote,
            found,
        )));
    }
    Ok(state)
}

/// Checks whether a remote file was delivered completely. Files that are as the last sync left them or that a
/// machine attests are complete. If other machines write manifests, all other files are incomplete, except lines
/// appended to an attested version; without other machines, files are complete unless they look torn.
/// With `is_line_file`, the file is a conversation or a line-based file: its lines are complete or torn.
pub(crate) fn download_state(
    inputs: &Inputs<'_>,
    key: &str,
    found: &ListedFile,
    is_line_file: bool,
    last: Option<&SyncedFile>,
) -> Result<DownloadState, IoError> {
    let seen = ObservedFile::of(Side::Remote, found);
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
    let path = seen.full_path(inputs.config);
    // Before the manifests: a machine that read the zeros after a power cut may even attest them.
    if contents::is_zero_filled(&path, is_line_file, true).at("read", &path)? {
        return Ok(DownloadState::Incomplete(ZERO_FILLED));
    }
    // Reads the file only if a version of its size is attested.
    let mut attested = inputs.attested_versions(key);
    if attested.any(|version| version.size == found.stat.size) {
        let digest = contents::raw_digest(&path).at("read", &path)?;
        let mut attested = inputs.attested_versions(key);
        if let Some(version) = attested.find(|version| version.digest == digest) {
            return complete(version.mtime_ns, Some(digest));
        }
    }
    let replaced = inputs.state.replaced_by(key);
    if !replaced.is_empty() {
        let digest = contents::raw_digest(&path).at("read", &path)?;
        // A complete version that this machine had before.
        if replaced.contains(&digest) {
            return complete(found.stat.mtime_ns, None);
        }
    }
    if inputs.request.accept_unlisted {
        return complete(found.stat.mtime_ns, None);
    }
    match incompleteness(inputs, key, found, is_line_file, last)? {
        Some(why) => Ok(DownloadState::Incomplete(why)),
        None => complete(found.stat.mtime_ns, None),
    }
}

/// Returns the reason to wait for a file that no machine attests; `None` if its content shows that it is complete.
fn incompleteness(
    inputs: &Inputs<'_>,
    key: &str,
    found: &ListedFile,
    is_line_file: bool,
    last: Option<&SyncedFile>,
) -> Result<Option<&'static str>, IoError> {
    let path = ObservedFile::of(Side::Remote, found).full_path(inputs.config);
    let why = contents::torn_reason(&path, is_line_file).at("read", &path)?;
    if why.is_some() {
        return Ok(why);
    }
    let is_listed = !inputs.manifests.versions(key).is_empty();
    let had_content = last.is_some_and(|last| last.remote.stat.size > 0) || is_listed;
    if found.stat.size == 0 && had_content {
        return Ok(Some("is empty, but was not before"));
    }
    if !inputs.has_other_machines() {
        // No other machine uses codex-manager: the file comes from codexSync, another mirror tool or the user, and
        // no manifest will ever attest it.
        return if is_line_file {
            Ok(None)
        } else {
            contents::truncation_reason(&path).at("read", &path)
        };
    }
    let known = inputs.attested_versions(key);
    if is_line_file && extends_attested_version(&path, found.stat.size, known)? {
        return Ok(None);
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
/// earlier version.
/// Otherwise the prefix may be the beginning of a newer version that is being delivered.
fn adds_nothing(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
    found: &ListedFile,
    is_line_file: bool,
) -> Result<bool, IoError> {
    let remote = ObservedFile::of(Side::Remote, found);
    for own in group
        .local
        .iter()
        .map(|own| ObservedFile::of(Side::Local, own))
    {
        let is_contained = if is_line_file {
            has_complete_lines(inputs.config, &remote)?
                && match relation(inputs.config, &own, &remote)?.relation {
                    Relation::Equal => true,
                    Relation::FirstExtends => {
                        // Clients' copies are versions too.
                        let beside = group.remote.iter().chain(&group.client_copies);
                        let beside = beside.filter(|file| file.path != found.path);
                        let beside = beside.map(|file| ObservedFile::of(Side::Remote, file));
                        let files: Vec<_> = std::iter::once(own).chain(beside).collect();
                        contain_all_attested(inputs, key, &files)?
                    }
                    Relation::SecondExtends | Relation::Diverged => false,
                }
        } else {
            own.stat.size == remote.stat.size
                && raw_digest(inputs.config, &own)? == raw_digest(inputs.config, &remote)?
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
    inputs: &Inputs<'_>,
    key: &str,
    files: &[ObservedFile],
) -> Result<bool, IoError> {
    let begins_with = |len, digest| {
        for path in files.iter().map(|seen| seen.full_path(inputs.config)) {
            let contents = contents::read(&path, Some(len)).at("read", &path)?;
            if contents.prefix_digest == Some(digest) {
                return Ok::<_, IoError>(true);
            }
        }
        Ok(false)
    };
    let last = inputs.state.files.get(key);
    for version in inputs.manifests.entries(key) {
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

/// Returns the notice that skips a local file which changed to zeros since the last sync, as a power cut leaves it;
/// `None` for all other files.
pub(crate) fn zero_filled_notice(
    inputs: &Inputs<'_>,
    found: &ListedFile,
    is_line_file: bool,
    last: Option<&SyncedFile>,
) -> Result<Option<Notice>, IoError> {
    if last.is_some_and(|last| is_as_last_synced(found, &last.local)) {
        return Ok(None);
    }
    let path = inputs.config.root(Side::Local).join(&found.path);
    // Not thorough on a first sync, which would read the whole home twice: the copy reads every byte anyway.
    let is_zero_filled =
        contents::is_zero_filled(&path, is_line_file, last.is_some()).at("read", &path)?;
    let why = "has zeros where its text was, as after a power cut; remove or repair it on this machine \
               to sync it again";
    Ok(is_zero_filled.then(|| NoticeList::Skipped.notice(&found.path, why)))
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
