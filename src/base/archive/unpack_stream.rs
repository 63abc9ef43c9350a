//! Unpacks an archive without an index, entry by entry as one stream.

use super::error::{ArchiveError, ContentError};
use super::format::member_content::wrong_digest_error;
use super::format::tar_stream::{EntryContent, RawEntry, RawKind, read_archive};
use super::format::{
    ArchiveManifest, EntryName, FileEntry, FileList, MANIFEST_NAME, NameId, python,
};
use super::sink::Sink;
use crate::io::Progress;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Unpacks an archive without an index, and checks it against `manifest`. `is_python` is true for an archive of the
/// Python tool, whose manifest was made from its entries.
pub(super) fn unpack_as_stream(
    path: &Path,
    manifest: &ArchiveManifest,
    is_python: bool,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let mut list = Checklist::new(manifest, is_python);
    progress.expect_bytes(manifest.files.total_bytes());

    read_archive(path, &mut |entry, content| match list.check_off(&entry)? {
        Some(file) => unpack_file(&file, content, sink, progress),
        None => Ok(()),
    })?;

    match list.find_missing() {
        Some(name) => Err(ArchiveError::damaged(path, format!("{name} is missing"))),
        None => Ok(()),
    }
}

fn unpack_file(
    file: &FileEntry,
    content: &mut EntryContent<'_>,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ContentError> {
    let is_wanted = sink.wants(file);
    let mut hasher = file.digest.map(|digest| digest.hasher());
    let mut offset = 0;

    // The loop below passes no chunk of an empty file, but a sink expects one.
    if is_wanted && file.size == 0 {
        sink.write_chunk(file, 0, &[])?;
    }

    while let Some(bytes) = content.next_chunk()? {
        if let Some(hasher) = &mut hasher {
            hasher.update(bytes);
        }
        if is_wanted {
            sink.write_chunk(file, offset, bytes)?;
        }
        offset += bytes.len() as u64;
        progress.add_bytes(bytes.len() as u64);
    }

    if file.digest != hasher.map(|hasher| hasher.digest()) {
        return Err(wrong_digest_error(file));
    }

    if is_wanted {
        sink.finish_file(file)?;
    }
    Ok(())
}

/// The entries of the manifest that were not read from the archive yet.
struct Checklist<'a> {
    is_python: bool,
    files: &'a FileList,
    /// Positions in `files` of the files that were not read yet.
    unread_files: HashMap<NameId, usize>,
    folders: HashSet<&'a EntryName>,
    links: HashMap<&'a EntryName, &'a PathBuf>,
    voids: HashSet<&'a EntryName>,
    /// True once the entry with the manifest, or with the Python tool's copy of the sidecar, was read.
    was_metadata_read: bool,
}

impl<'a> Checklist<'a> {
    fn new(manifest: &'a ArchiveManifest, is_python: bool) -> Self {
        let links = manifest.links.iter().map(|l| (&l.path, &l.target));
        Self {
            is_python,
            files: &manifest.files,
            // By name: a program that packed the files again may have changed their order.
            unread_files: manifest.files.name_ids().zip(0..).collect(),
            folders: manifest.folders.iter().map(|f| &f.path).collect(),
            links: links.collect(),
            voids: manifest.void.iter().collect(),
            was_metadata_read: false,
        }
    }

    /// Removes an entry from the list. Returns the entry of a file whose content is still to be checked, else `None`.
    ///
    /// # Errors
    /// The entry is not in the list, or differs from the list.
    fn check_off(&mut self, entry: &RawEntry) -> Result<Option<FileEntry>, ContentError> {
        let refuse = |reason| Err(ContentError::unsafe_entry(&entry.name, reason));

        match &entry.kind {
            RawKind::File => {
                if self.voids.remove(&entry.name) {
                    return Ok(None);
                }
                if self.is_metadata_name(&entry.name) && !self.was_metadata_read {
                    self.was_metadata_read = true;
                    return Ok(None);
                }
                match self.check_off_file(&entry.name) {
                    Some(file) if file.size == entry.size => Ok(Some(file)),
                    Some(_) => refuse("its size differs from the manifest"),
                    None => refuse("not in the manifest, or twice in the archive"),
                }
            }
            RawKind::Folder if self.folders.remove(&entry.name) || self.is_python => Ok(None),
            RawKind::Folder => refuse("not in the manifest, or twice in the archive"),
            RawKind::Link(target) => match self.links.remove(&entry.name) {
                Some(listed) if listed == target => Ok(None),
                _ => refuse("not the link in the manifest"),
            },
        }
    }

    /// Removes a file from the list and returns it; `None` if the list does not have it.
    fn check_off_file(&mut self, name: &EntryName) -> Option<FileEntry> {
        let id = self.files.name_table().find(name.as_path())?;
        self.files.get(self.unread_files.remove(&id)?)
    }

    /// Returns true for the name of the manifest, or of the Python tool's copy of the sidecar. The manifest does not
    /// list these entries.
    fn is_metadata_name(&self, name: &EntryName) -> bool {
        if self.is_python {
            python::is_sidecar_copy(name)
        } else {
            name.as_path() == Path::new(MANIFEST_NAME)
        }
    }

    /// Returns the remaining entry with the lowest path, which the archive lacks. Ignores folders of the Python tool.
    fn find_missing(mut self) -> Option<EntryName> {
        if self.is_python {
            self.folders.clear();
        }

        let files = self.unread_files.into_values();
        let files = files.filter_map(|index| self.files.name_at(index));
        let others = self.folders.into_iter().chain(self.links.into_keys());
        files.chain(others.chain(self.voids).cloned()).min()
    }
}
