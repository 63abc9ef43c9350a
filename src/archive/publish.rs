//! Giving a finished archive its name, and its sidecar.

use super::metadata::Metadata;
use super::names;
use super::pack::FinishedArchive;
use crate::io::atomic::TempFile;
use crate::io::document;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An archive under its name.
#[derive(Debug, Clone)]
pub struct PublishedArchive {
    /// Its path.
    pub archive: PathBuf,
    /// Its sidecar's path.
    pub sidecar: PathBuf,
    /// What the sidecar says.
    pub metadata: Metadata,
}

/// Puts `file` into `backups` under the first free name of `stem`, then writes the sidecar. The
/// archive is durable before its sidecar is, and both before this returns. Nothing is overwritten.
///
/// Killed in between, the archive stands there without a sidecar: it describes itself.
pub fn publish(
    mut file: TempFile,
    packed: &FinishedArchive,
    stem: &str,
    backups: &Path,
    lock: &Path,
) -> Result<PublishedArchive, IoError> {
    let metadata = Metadata {
        archive_bytes: packed.archive_bytes,
        archive_sha256: packed.archive_sha256.clone(),
        ..packed.manifest.metadata.clone()
    };
    // The content becomes durable outside the lock: that is the long part.
    file.file().sync_all().at("fsync", file.path())?;
    // The sidecar's room is taken before the archive has its name.
    let mut described = TempFile::inside(backups)?;
    let bytes = document::encode(described.path(), &metadata)?;
    described
        .file()
        .write_all(&bytes)
        .at("write", described.path())?;
    let _held = FileLock::exclusive(lock)?;
    for number in 1.. {
        let archive = backups.join(names::archive_name(stem, number));
        let Some(sidecar) = names::sidecar_path(&archive) else {
            continue;
        };
        if exists(&archive) || exists(&sidecar) {
            continue;
        }
        match file.publish(&archive)? {
            Ok(()) => {
                described.replace(&sidecar)?;
                return Ok(PublishedArchive {
                    archive,
                    sidecar,
                    metadata,
                });
            }
            Err(taken) => file = taken,
        }
    }
    unreachable!("the loop above has no end")
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
