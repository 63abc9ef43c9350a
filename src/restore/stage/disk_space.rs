//! Checks the free space on the disks that a restore stages on: that of the home, and those of links and mounts in it.

use super::staged_home::Stage;
use crate::archive::{ArchiveReader, NameSet};
use crate::io::{NoSpace, atomic, space};

/// Compares the size of the files `written` of an archive with the free space at each root that they are staged beside.
///
/// # Errors
/// A disk has too little space.
pub(crate) fn check(
    archive: &ArchiveReader,
    written: &NameSet,
    stage: &Stage,
) -> Result<(), NoSpace> {
    let mut needed_bytes = vec![0_u64; stage.roots.len()];
    for file in archive.contents().files.iter() {
        let path = file.path.as_path();
        if written.contains(path) {
            let mut inner = stage.roots.iter().skip(1);
            let root = inner.position(|root| path.starts_with(&root.prefix));
            let bytes = &mut needed_bytes[root.map_or(0, |root| root + 1)];
            *bytes = bytes.saturating_add(file.size);
        }
    }
    for (root, needed_bytes) in stage.roots.iter().zip(needed_bytes) {
        let staging = atomic::parent_of(&root.staged);
        space::require(staging, needed_bytes, space::free_bytes(staging))?;
    }
    Ok(())
}
