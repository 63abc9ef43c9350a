//! Makes a snapshot of an archive, with the time of the archive.

use super::backup::{SnapshotReport, run_backup};
use super::error::VaultError;
use super::restic::Restic;
use super::snapshot::Snapshot;
use super::tags::SnapshotTags;
use super::tree_lock::TreeLock;
use crate::archive::file_extract::PathSink;
use crate::archive::manifest::MANIFEST_NAME;
use crate::archive::tree_capture::write_manifest;
use crate::archive::{ArchiveManifest, ArchiveReader, Extent, FileEntry, set_attributes};
use crate::io::{IoContext, Progress, atomic, file_open, hash, links, tree};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub enum ImportOutcome {
    Added(SnapshotReport),
    /// The archive was imported before, as the snapshot with this id.
    Present(String),
}

/// Unpacks the archive at `archive_path`, checking every byte, and makes a snapshot of it. An archive from which
/// one of the `snapshots` was made is not imported again.
///
/// # Errors
/// The archive is damaged, the disk is full, or restic fails. No snapshot is made then.
pub fn import(
    restic: &Restic,
    archive_path: &Path,
    snapshots: &[Snapshot],
    lock: &TreeLock,
    host: &str,
    progress: &dyn Progress,
) -> Result<ImportOutcome, VaultError> {
    let archive = ArchiveReader::open(archive_path)?;
    let mut file = file_open::open(archive_path).at("read", archive_path)?;
    let (digest, _) = hash::sha256_of_reader(&mut file).at("read", archive_path)?;

    let is_of_this_archive = |snapshot: &&Snapshot| {
        let tags = snapshot.tags.as_ref();
        tags.is_some_and(|tags| tags.imported_digest.as_deref() == Some(&digest))
    };
    if let Some(imported) = snapshots.iter().find(is_of_this_archive) {
        return Ok(ImportOutcome::Present(imported.short_id().to_owned()));
    }

    let unpacked = UnpackedArchive::create(lock)?;
    unpacked.unpack_archive(&archive, progress)?;

    let tags = SnapshotTags {
        imported_digest: Some(digest),
        metadata: archive.metadata().clone(),
        ..SnapshotTags::default()
    };
    let time = archive.metadata().created_at.to_utc();
    let time = time.format("%Y-%m-%d %H:%M:%S").to_string();
    // Every file is read: a database may change without a new size or time, and a file may get the inode number that
    // another file had in the previous import.
    let options = ["--force", "--time", &time];
    let (folder, tags) = (&unpacked.folder, tags.to_tags());
    let report = run_backup(restic, folder, host, &tags, &options, progress)?;
    Ok(ImportOutcome::Added(report))
}

/// The folder of an unpacked archive, removed when dropped. The next import removes the folder that a
/// killed import left.
struct UnpackedArchive {
    folder: PathBuf,
}

impl UnpackedArchive {
    fn create(lock: &TreeLock) -> Result<Self, VaultError> {
        let folder = lock.import_tree_path();
        if folder.symlink_metadata().is_ok() {
            tree::remove(&folder)?;
        }
        atomic::create_unsynced_folder(&folder)?;
        Ok(Self { folder })
    }

    fn unpack_archive(
        &self,
        archive: &ArchiveReader,
        progress: &dyn Progress,
    ) -> Result<(), VaultError> {
        let listing = archive.contents();

        for folder in &listing.folders {
            atomic::create_unsynced_folder(&self.folder.join(folder.path.as_path()))?;
        }

        for link in &listing.links {
            let path = self.folder.join(link.path.as_path());
            atomic::create_unsynced_folder(atomic::parent_of(&path))?;
            links::make_link(&link.target, &path)?;
        }

        // `PathSink` creates no folders, and the archive need not list all of them.
        let unpacked_path = |file: &FileEntry| self.folder.join(file.path.as_path());
        for file in listing.files.iter() {
            atomic::create_unsynced_folder(atomic::parent_of(&unpacked_path(&file)))?;
        }

        let sink = PathSink {
            path_of: |file: &FileEntry| Some(unpacked_path(file)),
        };
        archive.read(Extent::All, &sink, progress)?;

        // `PathSink` writes only the content.
        for file in listing.files.iter() {
            set_attributes(&unpacked_path(&file), file.mode, file.mtime)?;
        }

        // A snapshot has neither gzip members nor tar entries to ignore.
        let manifest = ArchiveManifest {
            members: Vec::new(),
            void: Vec::new(),
            ..archive.contents().clone()
        };
        Ok(write_manifest(&self.folder.join(MANIFEST_NAME), &manifest)?)
    }
}

impl Drop for UnpackedArchive {
    fn drop(&mut self) {
        let _ = tree::remove(&self.folder);
    }
}
