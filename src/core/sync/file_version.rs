//! A version of a file on one side, and comparisons of its content.

use crate::codex::rollout::{self, Relation};
use crate::codex::text_damage;
use crate::conversations::messages::{self, RewrittenVersion};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, file_open};
use crate::sync::contents::{self, TextDigest};
use crate::sync::secrets::FileSecret;
use crate::sync::sides::ObservedFile;
use std::io;
use std::path::{Path, PathBuf};

/// A version of a file on one side.
#[derive(Debug, Clone)]
pub(crate) struct FileVersion {
    pub(crate) observed: ObservedFile,
    pub(crate) full_path: PathBuf,
    /// Modification time in nanoseconds since 1970. If a manifest attests the file, the mtime in that manifest, because
    /// cloud clients round the mtimes of files.
    pub(crate) mtime_ns: i64,
    /// Digest of the bytes, if a machine attests them.
    pub(crate) attested_digest: Option<Sha256Digest>,
    /// Digest of the bytes; known only for a plain file that differs from the one on the other side.
    pub(crate) raw_digest: Option<Sha256Digest>,
    /// The reason why this version is not copied: a secret in a plain file, or another conversation in a rollout.
    pub(crate) secret: Option<FileSecret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionRelation {
    pub(crate) relation: Relation,
    /// True if the extending version has all messages of the other one, but does not begin with its bytes.
    pub(crate) is_rewritten: bool,
}

impl FileVersion {
    /// Compares two versions. A rewritten conversation extends the other version if it has all messages of that
    /// version.
    pub(crate) fn compare_to(&self, other: &Self) -> Result<VersionRelation, IoError> {
        let (first, second) = (&*self.full_path, &*other.full_path);
        compare_texts(first, second).map_err(|source| {
            // The error has no path. Reading the second file again shows which of the two files failed.
            let is_second = contents::read_text_digest(second).is_err();
            let path = if is_second { second } else { first };
            IoError {
                action: "read",
                path: path.to_path_buf(),
                source,
            }
        })
    }

    pub(crate) fn read_text_digest(&self) -> Result<TextDigest, IoError> {
        contents::read_text_digest(&self.full_path).at("read", &self.full_path)
    }

    /// Returns true if the first `len` bytes of the uncompressed text have this digest.
    pub(crate) fn text_begins_with(
        &self,
        len: u64,
        digest: &Sha256Digest,
    ) -> Result<bool, IoError> {
        contents::text_begins_with(&self.full_path, len, digest).at("read", &self.full_path)
    }

    pub(crate) fn read_raw_digest(&self) -> Result<Sha256Digest, IoError> {
        contents::read_raw_digest(&self.full_path).at("read", &self.full_path)
    }

    /// Returns true if the first `len` bytes of the file have this digest.
    pub(crate) fn raw_begins_with(&self, len: u64, digest: &Sha256Digest) -> Result<bool, IoError> {
        contents::raw_begins_with(&self.full_path, len, digest).at("read", &self.full_path)
    }

    /// Returns true if the file has at least one line and all its lines are complete. Returns true for a compressed
    /// file if it can be decompressed.
    pub(crate) fn has_complete_lines(&self) -> Result<bool, IoError> {
        let path = &self.full_path;
        let defect = text_damage::find_defect(path, true).at("read", path)?;
        Ok(self.observed.stat.size > 0 && defect.is_none())
    }

    /// Returns true if this file is a shorter, non-empty prefix of `whole` that ends within a line. Such a file is a
    /// truncated copy, because editors and Codex end files with a newline.
    pub(crate) fn is_truncated_copy_of(&self, whole: &Self) -> Result<bool, IoError> {
        let size = self.observed.stat.size;
        if size == 0 || size >= whole.observed.stat.size {
            return Ok(false);
        }
        let path = &self.full_path;
        let mut file = file_open::open(path).at("open", path)?;
        if !file_open::ends_in_partial_line(&mut file).at("read", path)? {
            return Ok(false);
        }
        whole.raw_begins_with(size, &self.read_raw_digest()?)
    }
}

fn compare_texts(first: &Path, second: &Path) -> io::Result<VersionRelation> {
    let relation = rollout::compare(first, second)?;
    let rewritten_version = match relation {
        Relation::Diverged => messages::find_rewritten_version(first, second)?,
        _ => None,
    };

    let relation = match rewritten_version {
        None => relation,
        Some(RewrittenVersion::First) => Relation::FirstExtends,
        Some(RewrittenVersion::Second) => Relation::SecondExtends,
        Some(RewrittenVersion::Both) => {
            // Each version has all messages of the other one. All machines have to choose the same version.
            if contents::read_text_digest(first)? > contents::read_text_digest(second)? {
                Relation::FirstExtends
            } else {
                Relation::SecondExtends
            }
        }
    };

    Ok(VersionRelation {
        relation,
        is_rewritten: rewritten_version.is_some(),
    })
}
