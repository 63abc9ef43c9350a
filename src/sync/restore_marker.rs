//! Marks that a home was restored from an archive, so that files missing since then do not count as deleted.
//!
//! The marker is the file `restored` in the folder of a state. It is written before the home is exchanged and
//! removed by the run that has processed all files.

use crate::io::random_id::random_id;
use crate::io::{IoContext, IoError, atomic, file_open, sharing};
use std::io;
use std::path::{Path, PathBuf};

const MARKER_FILE: &str = "restored";

/// Writes a marker to each of these folders, which have the states of a home that is about to be restored. The content is
/// a random id, equal in all of them. Durable on return. A home has a state for each cloud folder.
///
/// # Errors
/// A marker cannot be written. Without it, a sync would treat files that the archive lacks as deleted.
pub(crate) fn write(folders: &[PathBuf]) -> Result<(), IoError> {
    let id = random_id();
    let mut paths = folders.iter().map(|folder| folder.join(MARKER_FILE));
    paths.try_for_each(|path| atomic::write(&path, id.as_bytes()))
}

/// Reads the marker in the folder of a state; `None` if there is none.
pub(super) fn read(folder: &Path) -> Result<Option<String>, IoError> {
    let path = folder.join(MARKER_FILE);
    match file_open::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("read", &path),
    }
}

/// Removes the marker from the folder of a state, unless a later restore has replaced it.
pub(super) fn clear(folder: &Path, marker: &str) -> Result<(), IoError> {
    let path = folder.join(MARKER_FILE);
    if !file_open::read(&path).is_ok_and(|text| text == marker.as_bytes()) {
        return Ok(());
    }
    sharing::remove_file(&path).at("remove", &path)?;
    atomic::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::state::{Replica, SyncState};

    #[test]
    fn a_marker_is_removed_only_with_its_own_restore() {
        let manager = tempfile::tempdir().unwrap();
        let (home, other) = (Path::new("/home"), Path::new("/other"));
        let [first, second, others] = [(home, "/x"), (home, "/y"), (other, "/x")]
            .map(|(home, cloud)| Replica::of(manager.path(), home, Path::new(cloud)));
        for replica in [&first, &second, &others] {
            replica.write(&mut SyncState::default()).unwrap();
        }
        let mark_restored = || {
            let folders = Replica::find_folders(manager.path(), home).unwrap();
            write(&folders).unwrap();
        };
        let marker = |replica: &Replica| read(&replica.folder).unwrap();
        mark_restored();
        assert!(marker(&first).is_some() && marker(&second).is_some());
        assert_eq!(marker(&others), None);
        let planned_with = marker(&first).unwrap();
        mark_restored();
        clear(&first.folder, &planned_with).unwrap();
        assert!(marker(&first).is_some_and(|marker| marker != planned_with));
        clear(&first.folder, &marker(&first).unwrap()).unwrap();
        assert_eq!(marker(&first), None);
    }
}
