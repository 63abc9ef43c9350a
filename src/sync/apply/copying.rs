//! Makes copies of files, whole and beside the places where they will stand. Several threads may.

use super::Obstacle;
use crate::io::atomic::TempFile;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::regular;
use crate::io::{IoContext, Progress};
use crate::sync::config::SyncConfig;
use crate::sync::contents;
use crate::sync::manifest::Written;
use crate::sync::plan::{Op, Seen};
use crate::sync::scan::{Side, Stat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// What copying needs of a run.
#[derive(Clone, Copy)]
pub(super) struct Copier<'a> {
    pub(super) config: &'a SyncConfig,
    pub(super) progress: &'a dyn Progress,
}

/// What [`Op::Copy`] says.
#[derive(Clone, Copy)]
pub(super) struct Copy<'a> {
    pub(super) from: &'a Seen,
    pub(super) to: &'a (Side, String),
    pub(super) over: Option<Stat>,
    pub(super) mtime_ns: i64,
    pub(super) expect: Option<Sha256Digest>,
}

impl<'a> Copy<'a> {
    pub(super) fn of(op: &'a Op) -> Option<Self> {
        match op {
            Op::Copy {
                from,
                to,
                over,
                mtime_ns,
                expect,
            } => Some(Self {
                from,
                to,
                over: *over,
                mtime_ns: *mtime_ns,
                expect: *expect,
            }),
            _ => None,
        }
    }
}

/// A whole copy that has not got its name yet.
pub(super) struct Staged {
    pub(super) temp: TempFile,
    /// Where it will stand.
    pub(super) target: PathBuf,
    pub(super) written: Written,
    /// Whether its text is its bytes.
    pub(super) is_text: bool,
}

impl Copier<'_> {
    pub(super) fn root(&self, side: Side) -> &Path {
        match side {
            Side::Here => &self.config.local,
            Side::There => &self.config.cloud,
        }
    }

    /// The file, if it still is as it was seen.
    pub(super) fn still(&self, seen: &Seen) -> Result<PathBuf, Obstacle> {
        let path = self.root(seen.side).join(&seen.path);
        if Stat::at(&path)? == Some(seen.stat) {
            Ok(path)
        } else {
            Err(Obstacle::Left(format!(
                "changed meanwhile: {}",
                path.display()
            )))
        }
    }

    /// Copies a file beside `target`, with its mode and time. Not durable yet.
    pub(super) fn stage(&self, copy: &Copy<'_>, target: PathBuf) -> Result<Staged, Obstacle> {
        let source = self.still(copy.from)?;
        let mut temp = TempFile::beside(&target)?;
        let mut reader = regular::open(&source).at("open", &source)?;
        let (digest, size) = self.pour(&mut reader, temp.file()).at("copy", &source)?;
        self.still(copy.from)?;
        if size != copy.from.stat.size || copy.expect.is_some_and(|expected| expected != digest) {
            let why = format!("it is not what was expected: {}", source.display());
            return Err(Obstacle::Left(why));
        }
        let replaced = copy.over.map(|_| target.as_path());
        set_like(temp.file(), &source, replaced).at("set mode", &target)?;
        let is_text = contents::is_plain(temp.file()).at("read", &target)?;
        set_time(temp.file(), copy.mtime_ns).at("set time", &target)?;
        Ok(Staged {
            temp,
            target,
            written: Written {
                size,
                mtime_ns: copy.mtime_ns,
                digest,
            },
            is_text,
        })
    }

    /// Copies all that `from` gives.
    pub(super) fn pour(
        &self,
        from: &mut dyn Read,
        to: &mut File,
    ) -> io::Result<(Sha256Digest, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                return Ok((hasher.digest(), size));
            }
            hasher.update(&buffer[..n]);
            to.write_all(&buffer[..n])?;
            size += n as u64;
            self.progress.add_bytes(n as u64);
        }
    }
}

/// The mode of what is replaced, else that of the source as far as it goes for its owner's files.
pub(super) fn set_like(file: &File, source: &Path, replaced: Option<&Path>) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let like = replaced.unwrap_or(source);
        let mode = match fs::metadata(like) {
            Ok(meta) => meta.permissions().mode() & 0o755 | 0o600,
            Err(_) => 0o600,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, source, replaced);
        Ok(())
    }
}

/// Sets the modification time; `ns` counts from 1970.
pub(super) fn set_time(file: &File, ns: i64) -> io::Result<()> {
    let span = Duration::from_nanos(ns.unsigned_abs());
    file.set_modified(if ns >= 0 {
        UNIX_EPOCH + span
    } else {
        UNIX_EPOCH - span
    })
}
