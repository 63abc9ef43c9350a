//! Reads archives. The content is untrusted: all of it is checked, and the memory use is bounded.

use super::error::{ArchiveError, ContentError};
use super::format::path_checks::check_manifest;
use super::format::python::PythonScan;
use super::format::{
    ArchiveManifest, MANIFEST_NAME, Metadata, index_check, manifest_members, tar_stream,
};
use super::sink::{Extent, Sink};
use super::unpack_indexed::unpack_by_index;
use super::unpack_stream::unpack_as_stream;
use crate::io::{IoContext, Progress};
use std::path::{Path, PathBuf};

/// The program that wrote an archive, and the form that the archive has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArchiveOrigin {
    /// Written by this program. The members can be read independently.
    Indexed,
    /// Written by this program, and compressed again by another one: the members that the manifest
    /// lists no longer exist.
    Recompressed,
    /// Written by the Python codex-manager, without digests. The manifest is made from the entries.
    Python,
}

/// An archive whose manifest has been read and checked, but not its content.
#[derive(Debug, Clone)]
pub struct ArchiveReader {
    path: PathBuf,
    manifest: ArchiveManifest,
    origin: ArchiveOrigin,
}

impl ArchiveReader {
    /// Opens an archive and reads its manifest. An archive without a footer is read to its end.
    ///
    /// # Errors
    /// The archive cannot be read, is damaged, has an unsafe entry, is of a newer version, or was
    /// not written by codex-manager.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let (manifest, origin) = match manifest_members::read_manifest(path)? {
            Some((manifest, manifest_offset)) => {
                check_manifest(&manifest).map_err(|e| e.into_archive_error(path))?;
                index_check::check_index(&manifest, manifest_offset).map_err(|defect| {
                    ArchiveError::damaged(path, format!("the index is wrong: {defect}"))
                })?;
                (manifest, ArchiveOrigin::Indexed)
            }
            // Compressed again by another program, or written by the Python tool: only a complete
            // read shows the content.
            None => scan_for_manifest(path)?,
        };

        Ok(Self {
            path: path.to_path_buf(),
            manifest,
            origin,
        })
    }

    /// Returns a reader for plans, which has a checked manifest but no archive file. [`ArchiveReader::read`] fails on
    /// it.
    pub fn without_file(path: &Path, manifest: ArchiveManifest) -> Self {
        Self {
            path: path.to_path_buf(),
            manifest,
            // Not `Indexed`, because there are no members to copy.
            origin: ArchiveOrigin::Recompressed,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true for an archive of the Python codex-manager, which has no digests.
    pub fn is_python(&self) -> bool {
        self.origin == ArchiveOrigin::Python
    }

    /// Returns the metadata in the manifest, or in the sidecar of the Python tool.
    pub fn metadata(&self) -> &Metadata {
        &self.manifest.metadata
    }

    /// Returns the manifest. For an archive of the Python tool, the manifest was made from the entries and has no
    /// digests.
    pub fn contents(&self) -> &ArchiveManifest {
        &self.manifest
    }

    /// Returns the manifest if its index is valid. Returns `None` for an archive that another program wrote or
    /// compressed again.
    pub(crate) fn indexed_manifest(&self) -> Option<&ArchiveManifest> {
        (self.origin == ArchiveOrigin::Indexed).then_some(&self.manifest)
    }

    /// Reads and checks the archive, and passes the files that `sink` wants to `sink`.
    ///
    /// Compares names, kinds, sizes and digests with the manifest; no entry may be missing or extra. Reads an archive
    /// with an index on several threads, and only the members of `extent`. Reads any other archive completely.
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
        match self.origin {
            ArchiveOrigin::Indexed => {
                unpack_by_index(&self.path, &self.manifest, extent, sink, progress)
            }
            ArchiveOrigin::Recompressed | ArchiveOrigin::Python => {
                unpack_as_stream(&self.path, &self.manifest, self.is_python(), sink, progress)
            }
        }
    }
}

/// Reads an archive without a footer to its end. Returns the manifest in it, or makes one from the entries of an
/// archive of the Python tool.
fn scan_for_manifest(path: &Path) -> Result<(ArchiveManifest, ArchiveOrigin), ArchiveError> {
    let packed_len = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python_scan = PythonScan::new(packed_len);

    // The manifest comes last, so the entries before it are collected as for an archive of the Python tool.
    tar_stream::read_archive(path, &mut |entry, content| {
        if entry.name.as_path() != Path::new(MANIFEST_NAME) {
            return python_scan.add_entry(&entry, content);
        }

        if manifest.is_some() {
            let reason = "twice in the archive";
            return Err(ContentError::unsafe_entry(&entry.name, reason));
        }
        manifest = Some(manifest_members::parse_manifest(path, content, packed_len)?);
        Ok(())
    })?;

    let checked = match manifest {
        Some(manifest) => {
            check_manifest(&manifest).map(|()| (manifest, ArchiveOrigin::Recompressed))
        }
        None => python_scan
            .finish(path)
            .map(|manifest| (manifest, ArchiveOrigin::Python)),
    };
    checked.map_err(|e| e.into_archive_error(path))
}
