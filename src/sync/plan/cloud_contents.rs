//! Content of a cloud folder, as evidence that it is mounted.

use crate::io::{IoContext, IoError};
use crate::sync::manifest;
use std::path::Path;
use std::{fs, io};

/// Content of a cloud folder, as far as it distinguishes a mounted folder from a bare mount point. A later value in
/// this order is stronger evidence of a mounted folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloudContents {
    /// The folder is empty or does not exist.
    #[default]
    Empty,
    /// The folder has entries, but no manifest of any machine.
    Files,
    /// The folder has at least one manifest.
    Manifests,
}

impl CloudContents {
    /// Examines the folder as it is now.
    pub fn read(cloud: &Path) -> Result<Self, IoError> {
        if manifest::all_paths(cloud).next().is_some() {
            return Ok(Self::Manifests);
        }
        match fs::read_dir(cloud) {
            Ok(mut entries) => Ok(entries.next().map_or(Self::Empty, |_| Self::Files)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Empty),
            Err(e) => Err(e).at("list", cloud),
        }
    }
}
