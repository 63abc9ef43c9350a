//! A version of a file on one side: its content and its time.

use crate::codex::rollout::{self, Relation};
use crate::conversations::message_comparison::{self, RewrittenVersion};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::config::SyncConfig;
use crate::sync::contents;
use crate::sync::decide::FileKind;
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::state::SyncedFile;
use std::io;
use std::path::Path;

/// A version of a file, which may be copied.
#[derive(Debug, Clone)]
pub(crate) struct FileVersion {
    /// The file that has the version.
    pub(crate) seen: ObservedFile,
    /// Modification time in nanoseconds since 1970; that of the manifest if one attests the file, because cloud
    /// clients round the times of files.
    pub(crate) mtime_ns: i64,
    /// Digest of the bytes, if a machine attests them.
    pub(crate) digest: Option<Sha256Digest>,
}

impl FileVersion {
    /// A version that is used without a check of its attestation.
    pub(crate) fn of(side: Side, found: &ListedFile) -> Self {
        Self {
            mtime_ns: found.stat.mtime_ns,
            seen: ObservedFile::of(side, found),
            digest: None,
        }
    }
}

/// A file with the version that represents each side.
#[derive(Debug)]
pub(crate) struct FilePair<'a> {
    pub(crate) key: &'a str,
    /// Relative path that output and JSON show.
    pub(crate) path: &'a str,
    pub(crate) kind: FileKind,
    /// The file at the last sync.
    pub(crate) last: Option<&'a SyncedFile>,
    pub(crate) local: Option<FileVersion>,
    pub(crate) remote: Option<FileVersion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionRelation {
    pub(crate) relation: Relation,
    /// True if the version that extends the other has its messages, but does not begin with its bytes.
    pub(crate) is_rewritten: bool,
}

/// Compares two versions. A conversation that Codex rewrote extends the former version if it has all its messages.
pub(crate) fn relation(
    config: &SyncConfig,
    first: &ObservedFile,
    second: &ObservedFile,
) -> Result<VersionRelation, IoError> {
    let (first, second) = (first.full_path(config), second.full_path(config));
    compare_versions(&first, &second).map_err(|source| {
        // `compare` reads both files and its error has no path; reading one again tells which file failed.
        let is_second = contents::read(&second, None).is_err();
        IoError {
            action: "read",
            path: if is_second { second } else { first },
            source,
        }
    })
}

fn compare_versions(first: &Path, second: &Path) -> io::Result<VersionRelation> {
    let relation = rollout::compare(first, second)?;
    let rewritten = match relation {
        Relation::Diverged => message_comparison::rewritten_version(first, second)?,
        _ => None,
    };
    let relation = match rewritten {
        None => relation,
        Some(RewrittenVersion::First) => Relation::FirstExtends,
        Some(RewrittenVersion::Second) => Relation::SecondExtends,
        Some(RewrittenVersion::Both) => {
            // All machines have to choose the same one.
            let rank = |path| contents::read(path, None).map(|text| (text.len, text.digest));
            if rank(first)? > rank(second)? {
                Relation::FirstExtends
            } else {
                Relation::SecondExtends
            }
        }
    };
    Ok(VersionRelation {
        relation,
        is_rewritten: rewritten.is_some(),
    })
}

/// Returns the side with the newer time, or neither within the tolerance.
pub(crate) fn newer(
    config: &SyncConfig,
    local: &FileVersion,
    remote: &FileVersion,
) -> Option<Side> {
    let apart = i128::from(local.mtime_ns) - i128::from(remote.mtime_ns);
    if apart.abs() <= config.policy.tolerance_nanos {
        None
    } else if apart > 0 {
        Some(Side::Local)
    } else {
        Some(Side::Remote)
    }
}

/// Returns the length and the digest of the uncompressed text.
pub(crate) fn text_digest(
    config: &SyncConfig,
    seen: &ObservedFile,
) -> Result<(u64, Sha256Digest), IoError> {
    let path = seen.full_path(config);
    let contents = contents::read(&path, None).at("read", &path)?;
    Ok((contents.len, contents.digest))
}

/// Returns the digest of the bytes.
pub(crate) fn raw_digest(
    config: &SyncConfig,
    seen: &ObservedFile,
) -> Result<Sha256Digest, IoError> {
    let path = seen.full_path(config);
    contents::raw_digest(&path).at("read", &path)
}

/// Returns true if the file has at least one line and all its lines are complete.
pub(crate) fn has_complete_lines(
    config: &SyncConfig,
    seen: &ObservedFile,
) -> Result<bool, IoError> {
    let path = seen.full_path(config);
    let why = contents::torn_reason(&path, true).at("read", &path)?;
    Ok(seen.stat.size > 0 && why.is_none())
}

/// Returns true if `half` is a prefix of `whole` that ends within a line. That is a truncated copy, because editors
/// and Codex end a file with a newline.
pub(crate) fn is_truncated_prefix(
    config: &SyncConfig,
    whole: &FileVersion,
    half: &FileVersion,
) -> Result<bool, IoError> {
    let size = half.seen.stat.size;
    if size == 0 || size >= whole.seen.stat.size {
        return Ok(false);
    }
    let path = half.seen.full_path(config);
    if contents::ends_with_newline(&path).at("read", &path)? {
        return Ok(false);
    }
    let digest = contents::raw_digest(&path).at("read", &path)?;
    let path = whole.seen.full_path(config);
    let mut file = file_open::open(&path).at("open", &path)?;
    let contents = contents::read_from(&mut file, Some(size)).at("read", &path)?;
    Ok(contents.prefix_digest == Some(digest))
}
