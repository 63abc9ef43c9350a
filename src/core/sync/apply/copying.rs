//! Copies files to temp files beside their targets. Used by several threads at once in a batch.

use super::error::{StepFailure, changed_file_failure};
use crate::codex::text_damage;
use crate::io::atomic::TempFile;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoContext, Progress, file_open, modes, owner};
use crate::sync::config::{SyncConfig, SyncRemote};
use crate::sync::contents::{self, TextDigest};
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::{CopyOp, ObservedFile};
use crate::sync::rollouts;
use crate::sync::sides::{Side, SidePath, Stat, set_mode, set_mtime};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The part of a run that copying needs. Several threads share it.
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

/// A file that a step has written, with its stat at that time, because a cloud client may replace the file at any
/// moment.
#[derive(Debug, Clone)]
pub(super) struct PlacedFile {
    pub(super) to: SidePath,
    pub(super) stat: Stat,
    /// Length and digest of the uncompressed text, if it can be read.
    pub(super) text: Option<TextDigest>,
}

impl StagedCopy {
    /// Sets the mtime of the temp file to that of `entry`, and records the stat of the temp file.
    pub(super) fn new(
        mut temp: TempFile,
        target: PathBuf,
        to: SidePath,
        entry: ManifestEntry,
        text: Option<TextDigest>,
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
    pub(super) fn require_unchanged(&self, planned: &ObservedFile) -> Result<PathBuf, StepFailure> {
        let path = self.config.file_path(planned.side, &planned.path);
        if Stat::read(&path)? == Some(planned.stat) {
            Ok(path)
        } else {
            Err(changed_file_failure(&path))
        }
    }

    /// Creates a temp file beside `target`. If a link of the user leads the target out of the root of `side`, for
    /// example to read-only settings, each failure skips this step only. Inside the root, a full or read-only disk ends
    /// the run.
    pub(super) fn create_temp(&self, side: Side, target: &Path) -> Result<TempFile, StepFailure> {
        TempFile::create_beside(target).map_err(|e| {
            if target.starts_with(self.config.root(side)) {
                e.into()
            } else {
                StepFailure::Skip(format!("{e}: {}", e.source))
            }
        })
    }

    /// Copies a file to a temp file beside `target`, with the mtime of the plan. The temp file is not durable yet.
    pub(super) fn stage(&self, copy: &CopyOp, target: PathBuf) -> Result<StagedCopy, StepFailure> {
        let source = self.require_unchanged(&copy.from)?;
        let mut reader = file_open::open(&source).at("open", &source)?;
        let hard_link = self.link_conversation(copy, &source, &target);
        let is_linked = hard_link.is_some();
        let mut temp = match hard_link {
            Some(hard_link) => hard_link,
            None => self.create_temp(copy.to.side, &target)?,
        };

        // A linked file is read too, because the manifest needs its digest.
        let copied = if is_linked {
            self.copy_bytes(&mut reader, &mut io::sink())
        } else {
            self.copy_bytes(&mut reader, temp.file())
        };
        let (digest, size) = copied.at("copy", &source)?;

        // If a writer changed the file while it was read, the copy may be a mix of two versions.
        self.require_unchanged(&copy.from)?;
        let differs = |expected_digest| expected_digest != digest;
        if size != copy.from.stat.size || copy.expected_digest.is_some_and(differs) {
            let why = format!(
                "the content is not the one that the plan expected: {}",
                source.display()
            );
            return Err(StepFailure::Skip(why));
        }

        if !is_linked {
            // A replaced file keeps the mode that its user gave it.
            let replaces_file = copy.replaced_stat.is_some();
            let mode_source = if replaces_file { &target } else { &source };
            copy_mode(temp.file(), mode_source).at("set mode", &target)?;
            owner::copy_access_or_warn(&target, temp.path());
        }

        // The text of an uncompressed file is its bytes, so it is not read again.
        let text = if text_damage::is_uncompressed(temp.file()).at("read", &target)? {
            Some(TextDigest { len: size, digest })
        } else {
            read_compressed_text_digest(copy, temp.path(), &source)?
        };

        let mtime_ns = copy.mtime_ns;
        let entry = ManifestEntry::new(Stat { size, mtime_ns }, digest);
        StagedCopy::new(temp, target, copy.to.clone(), entry, text)
    }

    /// In a sync through the vault, creates a hard link to a conversation instead of a copy: copies in the staged
    /// folder would take as much space as the home. Returns `None` if the file has to be copied:
    /// - a file other than a conversation, because an editor may write it in place while the folder is published;
    /// - a file whose mtime or mode has to differ from that of the source;
    /// - a file that cannot be linked.
    fn link_conversation(&self, copy: &CopyOp, source: &Path, target: &Path) -> Option<TempFile> {
        let keeps_target_mode = copy.replaced_stat.is_some() && copy.to.side == Side::Local;
        let is_exact = !keeps_target_mode && copy.mtime_ns == copy.from.stat.mtime_ns;
        let is_conversation = rollouts::key(&copy.to.path).is_some();
        let may_link = self.config.remote == SyncRemote::Vault && is_exact && is_conversation;
        if !may_link {
            return None;
        }
        TempFile::link_beside(source, target).ok()
    }

    /// Copies all bytes of `from`, and adds them to the progress. Returns their digest and their number.
    pub(super) fn copy_bytes(
        &self,
        from: &mut dyn Read,
        to: &mut dyn Write,
    ) -> io::Result<(Sha256Digest, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let read_bytes = from.read(&mut buffer)?;
            if read_bytes == 0 {
                return Ok((hasher.digest(), size));
            }
            hasher.update(&buffer[..read_bytes]);
            to.write_all(&buffer[..read_bytes])?;
            size += read_bytes as u64;
            self.progress.add_bytes(read_bytes as u64);
        }
    }
}

/// Reads the text of a compressed copy of `source`; `None` if it cannot be decompressed and is no conversation.
///
/// # Errors
/// A conversation cannot be decompressed.
fn read_compressed_text_digest(
    copy: &CopyOp,
    staged: &Path,
    source: &Path,
) -> Result<Option<TextDigest>, StepFailure> {
    match contents::read_text_digest(staged) {
        Ok(text) => Ok(Some(text)),
        Err(e) if rollouts::is_below_sessions(&copy.to.path) => {
            let why = format!("cannot be decompressed ({e}): {}", source.display());
            Err(StepFailure::Skip(why))
        }
        Err(_) => Ok(None),
    }
}

/// Gives `file` the permissions of the file at `mode_source`, or 0600 if that does not exist; see [`set_mode`].
pub(super) fn copy_mode(file: &File, mode_source: &Path) -> io::Result<()> {
    // The user decides on each machine who else may read files. Some cloud folders report 0777 for all files.
    let mode = fs::metadata(mode_source).map_or(0o600, |meta| modes::mode_of(&meta));
    set_mode(file, mode)
}
