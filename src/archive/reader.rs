//! Reads archives. The content is untrusted: everything is checked, and memory use is bounded.

use super::error::ArchiveError;
use super::format::contents::ArchiveListing;
use super::format::index_check;
use super::format::layout::Layout;
use super::format::manifest::{ArchiveManifest, MANIFEST_NAME};
use super::format::manifest_members;
use super::format::metadata::Metadata;
use super::format::path_checks::check_manifest;
use super::format::python::PythonScan;
use super::format::tar_stream;
use super::sink::{Extent, Sink};
use super::unpack_indexed;
use super::unpack_stream;
use crate::io::{IoContext, Progress};
use std::path::{Path, PathBuf};

/// An archive whose manifest has been read and checked, but not its content.
#[derive(Debug)]
pub struct ArchiveReader {
    path: PathBuf,
    layout: Layout,
    /// True if the members can be read independently.
    has_index: bool,
}

impl ArchiveReader {
    /// Opens an archive and reads its manifest. An archive without a footer is read to its end.
    ///
    /// # Errors
    /// The archive cannot be read, is damaged, has an unsafe entry, is of a newer version, or was
    /// not written by codex-manager.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let (layout, has_index) = match manifest_members::read(path)? {
            Some((manifest, end)) => {
                check_manifest(path, &manifest)?;
                index_check::check(path, &manifest, end)?;
                (Layout::Native(Box::new(manifest)), true)
            }
            // Compressed again by another program, or written by the Python tool: only a complete
            // read shows the content.
            None => (scan_for_layout(path)?, false),
        };
        Ok(Self {
            path: path.to_path_buf(),
            layout,
            has_index,
        })
    }

    /// Returns a reader of a checked manifest without an archive, for plans. [`ArchiveReader::read`]
    /// fails.
    pub(crate) fn of_manifest(name: &Path, manifest: ArchiveManifest) -> Self {
        Self {
            path: name.to_path_buf(),
            layout: Layout::Native(Box::new(manifest)),
            has_index: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the archive's origin with its description.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the manifest; see [`Layout::manifest`].
    pub fn manifest(&self) -> Option<&ArchiveManifest> {
        self.layout.manifest()
    }

    /// Returns the metadata; see [`Layout::metadata`].
    pub(crate) fn metadata(&self) -> &Metadata {
        self.layout.metadata()
    }

    /// Returns the entries that the archive lists.
    pub fn contents(&self) -> ArchiveListing<'_> {
        self.layout.contents()
    }

    /// Returns the manifest if the members are where it lists them. The manifest of an archive that
    /// another program compressed again lists members that no longer exist.
    pub(crate) fn indexed(&self) -> Option<&ArchiveManifest> {
        self.manifest().filter(|_| self.has_index)
    }

    /// Reads and checks the archive and passes the wanted files to `sink`.
    ///
    /// Compares names, kinds, sizes and digests with the manifest; no entry may be missing or
    /// extra. An archive with an index is read on several threads.
    ///
    /// # Errors
    /// The archive cannot be read, its content differs from its manifest, `sink` failed, or the
    /// user interrupted the operation.
    pub fn read(
        &self,
        extent: Extent,
        sink: &dyn Sink,
        progress: &dyn Progress,
    ) -> Result<(), ArchiveError> {
        match self.indexed() {
            Some(manifest) => {
                unpack_indexed::by_index(&self.path, manifest, extent, sink, progress)
            }
            None => unpack_stream::unpack(&self.path, &self.layout, sink, progress),
        }
    }
}

/// Reads an archive without a footer to its end, to find out its origin.
fn scan_for_layout(path: &Path) -> Result<Layout, ArchiveError> {
    let packed = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python = PythonScan::new(path, packed);
    tar_stream::read_archive(path, &mut |entry, content| {
        if entry.name.as_path() == Path::new(MANIFEST_NAME) {
            if manifest.is_some() {
                return Err(ArchiveError::unsafe_entry(
                    path,
                    &entry.name,
                    "twice in the archive",
                ));
            }
            manifest = Some(manifest_members::parse(path, content, packed)?);
            return Ok(());
        }
        python.entry(&entry, content)
    })?;
    match manifest {
        Some(manifest) => {
            check_manifest(path, &manifest)?;
            Ok(Layout::Native(Box::new(manifest)))
        }
        None => python.finish().map(|p| Layout::Python(Box::new(p))),
    }
}
