//! Unpacks an archive without an index, entry by entry as one stream.

use super::error::ArchiveError;
use super::format::archive_file;
use super::format::entry::{FileEntry, LinkEntry};
use super::format::entry_name::EntryName;
use super::format::file_list::FileList;
use super::format::manifest::{ArchiveManifest, MANIFEST_NAME};
use super::format::member_content::wrong_digest;
use super::format::name_table::NameId;
use super::format::python::{self, PythonArchive};
use super::format::tar_stream::{EntryContent, EntryVisitor, RawEntry, RawKind, for_each_entry};
use super::sink::Sink;
use crate::io::Progress;
use crate::io::hash::Hasher;
use flate2::read::MultiGzDecoder;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Maximum number of bytes after the end of the tar stream. tar pads archives to full records.
const MAX_PADDING_BYTES: u64 = 1 << 20;

/// The description that the content of an archive is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) enum ArchiveDescription<'a> {
    Native(&'a ArchiveManifest),
    Python(&'a PythonArchive),
}

/// Reads an archive to its end and passes each entry to `visit`. Reading all of it checks the CRC
/// of every gzip member.
pub(super) fn read(path: &Path, visit: &mut EntryVisitor<'_>) -> Result<(), ArchiveError> {
    archive_file::read_with(path, archive_file::open(path)?, |source| {
        read_all(path, source, visit)
    })
}

fn read_all(
    path: &Path,
    packed: impl Read,
    visit: &mut EntryVisitor<'_>,
) -> Result<(), ArchiveError> {
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, packed));
    let rest = for_each_entry(decoder, path, visit)?;
    let mut rest = rest.take(MAX_PADDING_BYTES + 1);
    let padding = io::copy(&mut rest, &mut io::sink())
        .map_err(|e| ArchiveError::damaged(path, e.to_string()))?;
    if padding > MAX_PADDING_BYTES {
        return Err(ArchiveError::damaged(
            path,
            "too much data after the end of the tar",
        ));
    }
    Ok(())
}

/// Unpacks an archive without an index, and checks it against `description`.
pub(super) fn unpack(
    path: &Path,
    description: ArchiveDescription<'_>,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let mut list = Checklist::new(path, description);
    progress.expect_bytes(list.files.bytes());
    read(path, &mut |entry, content| match list.take(&entry)? {
        Some(file) => stream_file(path, &file, content, sink, progress),
        None => Ok(()),
    })?;
    list.finish()
}

fn stream_file(
    path: &Path,
    file: &FileEntry,
    content: &mut EntryContent<'_>,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let wanted = sink.wants(file);
    let mut hasher = Hasher::default();
    let mut position = 0;
    if wanted && file.size == 0 {
        sink.write_chunk(file, 0, &[])?;
    }
    while let Some(bytes) = content.chunk()? {
        hasher.update(bytes);
        if wanted {
            sink.write_chunk(file, position, bytes)?;
        }
        position += bytes.len() as u64;
        progress.add_bytes(bytes.len() as u64);
    }
    if file.sha256.is_some_and(|listed| listed != hasher.digest()) {
        return Err(wrong_digest(path, file));
    }
    if wanted {
        sink.finish_file(file)
    } else {
        Ok(())
    }
}

/// The listed entries of an archive that were not read yet.
struct Checklist<'a> {
    path: &'a Path,
    python: bool,
    files: &'a FileList,
    /// Positions in `files` of the files that were not read yet.
    missing: HashMap<NameId, usize>,
    folders: HashSet<&'a EntryName>,
    links: HashMap<&'a EntryName, &'a PathBuf>,
    /// Number of times that each void name is still expected.
    void: HashMap<&'a EntryName, usize>,
    described: bool,
}

impl<'a> Checklist<'a> {
    fn new(path: &'a Path, description: ArchiveDescription<'a>) -> Self {
        let (files, folders, links, void): (_, _, &[LinkEntry], &[EntryName]) = match description {
            ArchiveDescription::Native(m) => (&m.files, &m.folders, &m.links, &m.void),
            ArchiveDescription::Python(p) => (
                &p.contents.files,
                &p.contents.folders,
                &p.contents.links,
                &[],
            ),
        };
        Self {
            path,
            python: matches!(description, ArchiveDescription::Python(_)),
            missing: files.name_ids().zip(0..).collect(),
            files,
            folders: folders.iter().map(|f| &f.path).collect(),
            links: links.iter().map(|l| (&l.path, &l.target)).collect(),
            void: void.iter().fold(HashMap::new(), |mut counts, name| {
                *counts.entry(name).or_default() += 1;
                counts
            }),
            described: false,
        }
    }

    /// Removes an entry from the list. Returns it if it is a file with content to check.
    fn take(&mut self, entry: &RawEntry) -> Result<Option<FileEntry>, ArchiveError> {
        let unexpected_entry =
            |reason| Err(ArchiveError::unsafe_entry(self.path, &entry.name, reason));
        match &entry.kind {
            RawKind::File if self.take_void(&entry.name) => Ok(None),
            RawKind::File if self.is_description(&entry.name) && !self.described => {
                self.described = true;
                Ok(None)
            }
            RawKind::File => match self.take_file(&entry.name) {
                Some(file) if file.size == entry.size => Ok(Some(file)),
                Some(_) => unexpected_entry("its size is not that of the manifest"),
                None => unexpected_entry("not in the manifest, or twice in the archive"),
            },
            RawKind::Folder if self.folders.remove(&entry.name) || self.python => Ok(None),
            RawKind::Folder => unexpected_entry("not in the manifest, or twice in the archive"),
            RawKind::Link(target) => match self.links.remove(&entry.name) {
                Some(listed) if listed == target => Ok(None),
                _ => unexpected_entry("not the link of the manifest"),
            },
        }
    }

    fn take_void(&mut self, name: &EntryName) -> bool {
        let left = self.void.get_mut(name).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    fn take_file(&mut self, name: &EntryName) -> Option<FileEntry> {
        let id = self.files.names().find(name.as_path())?;
        self.files.get(self.missing.remove(&id)?)
    }

    fn is_description(&self, name: &EntryName) -> bool {
        if self.python {
            python::is_description(name)
        } else {
            name.as_path() == Path::new(MANIFEST_NAME)
        }
    }

    fn finish(self) -> Result<(), ArchiveError> {
        let folders = self.folders.into_iter().filter(|_| !self.python);
        let files = self.missing.into_values();
        let missing = files
            .filter_map(|place| self.files.name(place))
            .chain(folders.cloned())
            .chain(self.links.into_keys().cloned())
            .chain(
                self.void
                    .into_iter()
                    .filter(|v| v.1 > 0)
                    .map(|v| v.0.clone()),
            )
            .next();
        match missing {
            Some(name) => Err(ArchiveError::damaged(
                self.path,
                format!("{name} is missing"),
            )),
            None => Ok(()),
        }
    }
}
