//! Publishes a finished archive: gives it its final name, and writes its sidecar.

use super::format::{Metadata, names};
use super::pack::FinishedArchive;
use crate::io::atomic::TempFile;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, document, flush};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An archive with its final name and its sidecar.
#[derive(Debug, Clone)]
pub struct PublishedArchive {
    pub archive: PathBuf,
    pub sidecar: PathBuf,
    pub metadata: Metadata,
}

/// Renames `file` to the first free archive name with `stem` in the folder `backups`, then writes the sidecar. Holds
/// the file lock at the path `lock_path` from the choice of the name on. The archive is durable before the sidecar is
/// written, and both are durable on return. No archive is overwritten.
///
/// After a crash between the two steps the archive has no sidecar. It can be restored all the same, and `verify
/// --repair` writes the sidecar.
pub fn publish(
    mut file: TempFile,
    packed: &FinishedArchive,
    stem: &str,
    backups: &Path,
    lock_path: &Path,
) -> Result<PublishedArchive, IoError> {
    let metadata = packed.to_sidecar();

    // fsync of the content before the lock is taken: this is the step that takes long.
    flush::sync_all(file.file()).at("fsync", file.path())?;

    // The sidecar is written to a temporary file first, so that a full disk fails before the
    // archive has its name.
    let mut sidecar_file = TempFile::create_in(backups)?;
    let bytes = document::encode(sidecar_file.path(), &metadata)?;
    sidecar_file
        .file()
        .write_all(&bytes)
        .at("write", sidecar_file.path())?;

    let _lock = FileLock::acquire(lock_path)?;
    for (archive, sidecar) in free_paths(stem, backups) {
        match file.publish(&archive)? {
            Ok(()) => {
                sidecar_file.replace(&sidecar)?;
                return Ok(PublishedArchive {
                    archive,
                    sidecar,
                    metadata,
                });
            }
            // A program that does not know the lock took the name after the check.
            Err(unpublished) => file = unpublished,
        }
    }

    unreachable!("the loop above has no end")
}

/// Returns pairs of archive path and sidecar path with `stem`, by ascending number. Skips pairs of which a path exists.
/// Another program may create a file at a returned path at any time.
pub fn free_paths(stem: &str, backups: &Path) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let paths = (1..).filter_map(move |number| {
        let archive = backups.join(names::archive_name(stem, number));
        let sidecar = names::sidecar_path(&archive)?;
        Some((archive, sidecar))
    });
    paths.filter(|(archive, sidecar)| !is_taken(archive) && !is_taken(sidecar))
}

fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
