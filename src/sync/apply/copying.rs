//! Copies files to temp files beside their targets. Used by several threads at once in a batch.

use super::error::{StepFailure, changed_file_failure};
use crate::io::atomic::TempFile;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoContext, Progress, file_open};
use crate::sync::config::{SyncConfig, SyncRemote};
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::{CopyOp, ObservedFile};
use crate::sync::sides::{Side, Stat, set_mtime};
use crate::sync::{contents, rollouts};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The part of a run that copying needs; shared by threads.
#[derive(Clone, Copy)]
pub(super) struct Copier<'a> {
    pub(super) config: &'a SyncConfig,
    pub(super) progress: &'a dyn Progress,
}

/// A complete copy under a temp name.
pub(super) struct StagedCopy {
    pub(super) temp: TempFile,
    pub(super) target: PathBuf,
    pub(super) entry: ManifestEntry,
    pub(super) placed: PlacedFile,
}

/// A file that a step has written, with the stat that it had then: a cloud client may replace it at any moment.
#[derive(Debug, Clone)]
pub(super) struct PlacedFile {
    pub(super) to: (Side, String),
    pub(super) stat: Stat,
    /// Length and digest of the uncompressed text, if it can be read.
    pub(super) text: Option<(u64, Sha256Digest)>,
}

impl StagedCopy {
    /// Sets the time of the temp file and records its stat.
    pub(super) fn new(
        mut temp: TempFile,
        target: PathBuf,
        to: (Side, String),
        entry: ManifestEntry,
        text: Option<(u64, Sha256Digest)>,
    ) -> Result<Self, StepFailure> {
        let file = temp.file();
        set_mtime(file, entry.mtime_ns).at("set time", &target)?;
        let stat = Stat::from_metadata(&file.metadata().at("inspect", &target)?);
        Ok(Self {
            temp,
            target,
            entry,
            placed: PlacedFile { to, stat, text },
        })
    }
}

impl Copier<'_> {
    /// Returns the full path of a file, or fails if it changed since the plan.
    pub(super) fn check_unchanged(&self, seen: &ObservedFile) -> Result<PathBuf, StepFailure> {
        let path = self.config.file_path(seen.side, &seen.path);
        if Stat::read(&path)? == Some(seen.stat) {
            Ok(path)
        } else {
            Err(changed_file_failure(&path))
        }
    }

    /// Creates a temp file beside `target`. If the user's link leads the target out of the side's folder, for example
    /// to read-only settings, a failure concerns this step only. Inside the folder, a full or read-only disk ends the run.
    pub(super) fn create_temp(&self, side: Side, target: &Path) -> Result<TempFile, StepFailure> {
        TempFile::create_beside(target).map_err(|e| {
            if target.starts_with(self.config.root(side)) {
                e.into()
            } else {
                StepFailure::Skip(format!("{e}: {}", e.source))
            }
        })
    }

    /// Copies a file to a temp file beside `target`, with the mtime of the plan and the mode of the file that it replaces,
    /// else of the source. Not durable yet.
    pub(super) fn stage(&self, copy: &CopyOp, target: PathBuf) -> Result<StagedCopy, StepFailure> {
        let source = self.check_unchanged(&copy.from)?;
        let mut reader = file_open::open(&source).at("open", &source)?;
        let linked = self.link(copy, &source, &target);
        let is_linked = linked.is_some();
        let mut temp = match linked {
            Some(linked) => linked,
            None => self.create_temp(copy.to.0, &target)?,
        };
        let (digest, size) = if is_linked {
            self.copy_bytes(&mut reader, &mut io::sink())
        } else {
            self.copy_bytes(&mut reader, temp.file())
        }
        .at("copy", &source)?;
        // A writer that changed the file while it was read left a copy of neither version.
        self.check_unchanged(&copy.from)?;
        if size != copy.from.stat.size || copy.expect.is_some_and(|expected| expected != digest) {
            let why = format!(
                "not the content that the plan expected: {}",
                source.display()
            );
            return Err(StepFailure::Skip(why));
        }
        // A replaced file keeps the mode that its user gave it.
        let replaced = copy.over.map(|_| target.as_path());
        if !is_linked {
            copy_mode(temp.file(), &source, replaced).at("set mode", &target)?;
        }
        let text = if contents::is_uncompressed(temp.file()).at("read", &target)? {
            // The text of an uncompressed file is its bytes, so it is not read again.
            Some((size, digest))
        } else {
            match contents::read_text_digest(temp.path()) {
                Ok(text) => Some(text),
                Err(e) if rollouts::is_below_sessions(&copy.to.1) => {
                    let why = format!("cannot be unpacked ({e}): {}", source.display());
                    return Err(StepFailure::Skip(why));
                }
                Err(_) => None,
            }
        };
        let entry = ManifestEntry {
            size,
            mtime_ns: copy.mtime_ns,
            digest,
        };
        StagedCopy::new(temp, target, copy.to.clone(), entry, text)
    }

    /// Links a conversation instead of copying it, through the vault: copies in the folder that stands in for the cloud
    /// folder would double the space that the home takes. `None` if the file has to be copied, as those that an editor
    /// may write in place while the folder is published, and those that replace one with a mode of its own.
    fn link(&self, copy: &CopyOp, source: &Path, target: &Path) -> Option<TempFile> {
        let has_mode = copy.over.is_some() && copy.to.0 == Side::Local;
        let is_exact = !has_mode && copy.mtime_ns == copy.from.stat.mtime_ns;
        let is_appended = rollouts::key(&copy.to.1).is_some();
        let may_link = self.config.remote == SyncRemote::Vault && is_exact && is_appended;
        may_link
            .then(|| TempFile::link_beside(source, target).ok())
            .flatten()
    }

    /// Copies all bytes of `from`; returns their digest and number.
    pub(super) fn copy_bytes(
        &self,
        from: &mut dyn Read,
        to: &mut dyn Write,
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

/// Sets the permissions: those of the replaced file, otherwise those of the source, or 0600 if that does not exist. Never
/// writable for group and others, always readable and writable for the owner. Does nothing on Windows.
pub(super) fn copy_mode(file: &File, source: &Path, replaced: Option<&Path>) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let like = replaced.unwrap_or(source);
        // Sharing files of the home is the user's decision on each machine; some cloud folders report 0777 for all
        // files.
        let mode = match fs::metadata(like) {
            Ok(meta) => meta.permissions().mode() & 0o755 | 0o600,
            Err(_) => 0o600,
        };
        crate::io::modes::ignore_refusal(file.set_permissions(fs::Permissions::from_mode(mode)))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, source, replaced);
        Ok(())
    }
}
