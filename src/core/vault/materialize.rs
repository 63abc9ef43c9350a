//! Converts a snapshot into an archive, so that it is checked and restored like any other archive.
//!
//! restic streams folders as tar and files as they are; nothing is unpacked. The manifest names every
//! file with its size, time and digest. A file that grew while restic read it is cut at the size in the manifest.

use super::contents::SnapshotContents;
use super::error::VaultError;
use super::restic::Restic;
use super::snapshot::Snapshot;
use crate::archive::format::tar_stream::for_each_entry;
use crate::archive::manifest::MANIFEST_NAME;
use crate::archive::{
    ArchiveError, ArchiveManifest, Compression, EntryContent, EntryName, FileEntry,
    FinishedArchive, PackWriter, RawEntry, RawKind, pack,
};
use crate::codex::database::{self, DATABASE_HEADER_BYTES};
use crate::codex::home;
use crate::io::{IoContext, Progress, TempFile};
use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Writes an archive of the files in `contents` into a new temp file in `folder`. Returns the file and a description of
/// the archive. Leaves out the databases in a snapshot of another program, and lists them in `contents`.
///
/// # Errors
/// restic fails, the snapshot differs from its manifest, or the archive cannot be written.
pub fn materialize(
    restic: &Restic,
    snapshot: &Snapshot,
    contents: &mut SnapshotContents,
    folder: &Path,
    compression: Compression,
    progress: &dyn Progress,
) -> Result<(TempFile, FinishedArchive), VaultError> {
    let mut left_out = HashSet::new();
    progress.expect_bytes(contents.manifest.files.total_bytes());

    let names = contents.manifest.files.name_table();
    let mut file = TempFile::create_in(folder)?;
    let path = file.path().to_path_buf();
    let out = file.file().try_clone().at("write", &path)?;

    let previous = None;
    let finished = pack::pack(out, &path, compression, previous, names, |writer| {
        let listed_files = contents.manifest.files.iter();
        let mut repacker = Repacker {
            snapshot_id: snapshot.short_id(),
            is_of_other_program: snapshot.tags.is_none(),
            contents,
            left_out: &mut left_out,
            writer,
            missing_files: listed_files.map(|f| f.path).zip(0..).collect(),
            progress,
        };

        let (folders, links) = (&contents.manifest.folders, &contents.manifest.links);
        repacker.writer.add_folders_and_links(folders, links)?;
        for root in &contents.roots {
            repacker.download(restic, snapshot, root, &path)?;
        }

        Ok::<_, VaultError>(repacker.into_manifest()?)
    });

    // The archive is only temporary, so an error names the snapshot.
    let finished = finished.map_err(|e| e.into_snapshot_error(snapshot.short_id()))?;
    check_digests(snapshot, contents, &finished)?;
    contents
        .left_out
        .extend(left_out.iter().map(ToString::to_string));
    contents.left_out.sort();
    Ok((file, finished))
}

/// Compares the digests of the archive with those in the manifest of the snapshot.
fn check_digests(
    snapshot: &Snapshot,
    contents: &SnapshotContents,
    finished: &FinishedArchive,
) -> Result<(), VaultError> {
    let listed = contents.manifest.files.iter();
    let listed_digests: HashMap<_, _> = listed.filter_map(|f| Some((f.path, f.digest?))).collect();

    let differs = |file: &FileEntry| match (listed_digests.get(&file.path), file.digest) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(listed), Some(digest)) => listed.contradicts(&digest),
    };

    let Some(file) = finished.manifest.files.iter().find(differs) else {
        return Ok(());
    };
    let detail = format!("{} does not match its digest", file.path);
    Err(VaultError::damaged_snapshot(&snapshot.id, detail))
}

/// Copies the entries of a tar stream into an archive.
struct Repacker<'a, 'w, 'p> {
    snapshot_id: &'a str,
    is_of_other_program: bool,
    contents: &'a SnapshotContents,
    /// The files that are not added.
    left_out: &'a mut HashSet<EntryName>,
    writer: &'a mut PackWriter<'w>,
    /// The files of the manifest that were not added yet, with their positions in the manifest.
    missing_files: HashMap<EntryName, usize>,
    progress: &'p dyn Progress,
}

impl Repacker<'_, '_, '_> {
    fn damage_error(&self, detail: String) -> ArchiveError {
        ArchiveError::damaged(Path::new(self.snapshot_id), detail)
    }

    /// Downloads the file at `root`, or the folder with everything in it. `archive_path` is the path of
    /// the archive, for error messages.
    fn download(
        &mut self,
        restic: &Restic,
        snapshot: &Snapshot,
        root: &Path,
        archive_path: &Path,
    ) -> Result<(), VaultError> {
        let restic_path = self.contents.to_restic_path(root);
        let name = EntryName::from_path(root).ok();
        let listed_file = name.and_then(|name| self.take_missing_file(&name));

        restic.dump(&snapshot.id, &restic_path, |stream| {
            // restic streams a single file as it is, and a folder as a tar.
            if let Some(listed_file) = &listed_file {
                return Ok(self.add_file(listed_file, stream)?);
            }
            let mut add_entry = |entry: RawEntry, content: &mut EntryContent<'_>| {
                Ok(self.add_entry(&entry, content)?)
            };
            for_each_entry(stream, &mut add_entry)
                .map_err(|e| e.into_archive_error(archive_path))?;
            Ok(())
        })
    }

    /// Removes a file from `missing_files` and returns its entry in the manifest; `None` if the manifest does not list
    /// the file, or if the file was added already.
    fn take_missing_file(&mut self, name: &EntryName) -> Option<FileEntry> {
        let position = self.missing_files.remove(name)?;
        self.contents.manifest.files.get(position)
    }

    /// Adds one entry. Leaves out folders, links and the manifest, and in a snapshot of another program everything that
    /// the manifest does not list. Fails for any other file that is not listed, or was added before.
    fn add_entry(
        &mut self,
        entry: &RawEntry,
        content: &mut EntryContent<'_>,
    ) -> Result<(), ArchiveError> {
        let path = entry.name.as_path().strip_prefix(&self.contents.home).ok();
        let name = path.and_then(|path| EntryName::from_path(path).ok());
        match name.and_then(|name| self.take_missing_file(&name)) {
            None if self.may_be_unlisted(entry) => Ok(()),
            None => Err(self.damage_error(format!("{} is not in the manifest", entry.name))),
            Some(listed) if matches!(entry.kind, RawKind::File) => self.add_file(&listed, content),
            Some(listed) => Err(self.damage_error(format!("{} is not a file", listed.path))),
        }
    }

    fn may_be_unlisted(&self, entry: &RawEntry) -> bool {
        let is_manifest = entry.name.as_path() == Path::new(MANIFEST_NAME);
        let is_file = matches!(entry.kind, RawKind::File);
        self.is_of_other_program || is_manifest || !is_file
    }

    /// Adds the first bytes of `content`, up to the size in the manifest.
    fn add_file(&mut self, listed: &FileEntry, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut start = Vec::new();
        let read_start = content.take(DATABASE_HEADER_BYTES).read_to_end(&mut start);
        read_start.at("read", listed.path.as_path())?;
        if self.is_of_other_program && self.is_database_or_log(&listed.path, &start) {
            self.left_out.insert(listed.path.clone());
            return Ok(());
        }

        let file = FileEntry {
            digest: None,
            ..listed.clone()
        };
        match self.writer.add_file(file, &mut start.chain(content))? {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                let name = &listed.path;
                return Err(self.damage_error(format!("{name} is shorter than in the manifest")));
            }
            read => read.at("read", listed.path.as_path())?,
        }
        self.progress.add_bytes(listed.size);
        Ok(())
    }

    /// Returns true for a database, which restic may have read while a program wrote it, and for a file that SQLite keeps
    /// beside one that was left out. A tar has the database first.
    fn is_database_or_log(&self, name: &EntryName, start: &[u8]) -> bool {
        let path = name.as_path();
        let database = home::database_of_sidecar(path);
        let database = database.and_then(|path| EntryName::from_path(&path).ok());
        database.is_some_and(|database| self.left_out.contains(&database))
            || (home::may_be_database(path) && database::begins_like_database(start))
    }

    /// Returns the manifest without the values that the writer of the archive sets: files, members, void entries and
    /// effort. Fails if a file of the manifest was not added.
    fn into_manifest(self) -> Result<ArchiveManifest, ArchiveError> {
        if let Some(name) = self.missing_files.keys().min() {
            return Err(self.damage_error(format!("{name} is missing")));
        }

        let manifest = &self.contents.manifest;
        Ok(ArchiveManifest {
            metadata: manifest.metadata.clone(),
            account_auth: manifest.account_auth.clone(),
            excluded_globs: manifest.excluded_globs.clone(),
            skipped: manifest.skipped.clone(),
            linked: manifest.linked.clone(),
            folders: manifest.folders.clone(),
            links: manifest.links.clone(),
            partial: manifest.partial,
            undo_removes: manifest.undo_removes.clone(),
            ..ArchiveManifest::default()
        })
    }
}
