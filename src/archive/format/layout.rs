//! The two layouts of an archive: that of this program, and that of the Python codex-manager.

use super::contents::ArchiveListing;
use super::manifest::ArchiveManifest;
use super::metadata::Metadata;
use super::python::PythonArchive;

/// The program that wrote an archive, with its description of the content.
#[derive(Debug)]
pub(crate) enum Layout {
    /// Written by this program: digests cover every byte.
    Native(Box<ArchiveManifest>),
    /// Written by the Python codex-manager: without digests.
    Python(Box<PythonArchive>),
}

impl Layout {
    /// Returns the manifest, or `None` for an archive of the Python tool.
    pub(crate) fn manifest(&self) -> Option<&ArchiveManifest> {
        match self {
            Self::Native(manifest) => Some(manifest),
            Self::Python(_) => None,
        }
    }

    /// Returns the metadata in the manifest, or in the sidecar of the Python tool.
    pub(crate) fn metadata(&self) -> &Metadata {
        match self {
            Self::Native(manifest) => &manifest.metadata,
            Self::Python(python) => &python.metadata,
        }
    }

    /// Returns the entries that the archive lists.
    pub(crate) fn contents(&self) -> ArchiveListing<'_> {
        let (files, folders, links) = match self {
            Self::Native(manifest) => (&manifest.files, &manifest.folders, &manifest.links),
            Self::Python(python) => {
                let contents = &python.contents;
                (&contents.files, &contents.folders, &contents.links)
            }
        };
        ArchiveListing {
            files,
            folders,
            links,
        }
    }
}
