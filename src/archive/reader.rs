//! Reads archives. The content is untrusted: everything is checked, and memory use is bounded.

use super::error::ArchiveError;
use super::format::contents::ArchiveListing;
use super::format::index_check;
use super::format::manifest::{ArchiveManifest, MANIFEST_NAME};
use super::format::manifest_members;
use super::format::metadata::Metadata;
use super::format::path_checks::check_manifest;
use super::format::python::{PythonArchive, PythonScan};
use super::sink::{Extent, Sink};
use super::unpack_indexed;
use super::unpack_stream::{self, ArchiveDescription};
use crate::io::{IoContext, Progress};
use std::path::{Path, PathBuf};

/// The program that wrote an archive, with its description of the content.
#[derive(Debug)]
pub enum Layout {
    /// Written by this program: digests cover every byte.
    Native(Box<ArchiveManifest>),
    /// Written by the Python codex-manager: without digests.
    Python(Box<PythonArchive>),
}

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
        if let (Layout::Native(manifest), false) = (&layout, has_index) {
            check_manifest(path, manifest)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            layout,
            has_index,
        })
    }

    /// Returns the path of the archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the members are where the manifest lists them. The manifest of an archive
    /// that another program compressed again lists members that no longer exist.
    pub fn has_index(&self) -> bool {
        self.has_index
    }

    /// Returns the archive's origin with its description.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the manifest, or `None` for an archive of the Python tool.
    pub fn manifest(&self) -> Option<&ArchiveManifest> {
        match &self.layout {
            Layout::Native(manifest) => Some(manifest),
            Layout::Python(_) => None,
        }
    }

    /// Returns the metadata in the manifest, or in the sidecar of the Python tool.
    pub fn metadata(&self) -> &Metadata {
        match &self.layout {
            Layout::Native(manifest) => &manifest.metadata,
            Layout::Python(python) => &python.metadata,
        }
    }

    /// Returns the entries that the archive lists.
    pub fn contents(&self) -> ArchiveListing<'_> {
        match &self.layout {
            Layout::Native(manifest) => ArchiveListing {
                files: &manifest.files,
                folders: &manifest.folders,
                links: &manifest.links,
            },
            Layout::Python(python) => ArchiveListing {
                files: &python.contents.files,
                folders: &python.contents.folders,
                links: &python.contents.links,
            },
        }
    }

    /// Returns the manifest if its index is usable; see [`ArchiveReader::has_index`].
    pub fn indexed(&self) -> Option<&ArchiveManifest> {
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
        match &self.layout {
            Layout::Native(manifest) if self.has_index => {
                unpack_indexed::by_index(&self.path, manifest, extent, sink, progress)
            }
            Layout::Native(manifest) => unpack_stream::unpack(
                &self.path,
                ArchiveDescription::Native(manifest),
                sink,
                progress,
            ),
            Layout::Python(python) => unpack_stream::unpack(
                &self.path,
                ArchiveDescription::Python(python),
                sink,
                progress,
            ),
        }
    }
}

/// Reads an archive without a footer to its end, to find out its origin.
fn scan_for_layout(path: &Path) -> Result<Layout, ArchiveError> {
    let packed = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python = PythonScan::new(path, packed);
    unpack_stream::read(path, &mut |entry, content| {
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
        Some(manifest) => Ok(Layout::Native(Box::new(manifest))),
        None => python.finish().map(|p| Layout::Python(Box::new(p))),
    }
}
