//! Marks that a home was restored from an archive, so that files missing since then do not count as deleted.
//!
//! The marker is the file `restored` in the folder of a state. It is written before the home is exchanged and
//! removed by the run that has processed all files.

use crate::io::random_id::random_id;
use crate::io::{IoContext, IoError, atomic, file_open, sharing};
use std::io;
use std::path::{Path, PathBuf};

const MARKER_FILE: &str = "restored";

/// Writes a marker with a random id to each of these folders, which have the states of the restored home. Durable on
/// return. The marker of a restore that then fails stays: the next sync only treats no missing file as deleted.
///
/// # Errors
/// A marker cannot be written. Without it, a sync would treat files that the archive lacks as deleted.
pub fn write_markers(folders: &[PathBuf]) -> Result<(), IoError> {
    let id = random_id();
    let mut paths = folders.iter().map(|folder| folder.join(MARKER_FILE));
    paths.try_for_each(|path| atomic::write(&path, id.as_bytes()))
}

/// Reads the marker in the folder of a state; `None` if there is none.
pub(super) fn read_marker(folder: &Path) -> Result<Option<String>, IoError> {
    let path = folder.join(MARKER_FILE);
    match file_open::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("read", &path),
    }
}

/// Removes the marker from the folder of a state, unless a later restore has replaced it.
pub(super) fn clear_marker(folder: &Path, marker: &str) -> Result<(), IoError> {
    if read_marker(folder)?.as_deref() != Some(marker) {
        return Ok(());
    }
    let path = folder.join(MARKER_FILE);
    sharing::remove_file(&path).at("remove", &path)?;
    atomic::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::state::{Replica, SyncState};

    #[test]
    fn a_marker_is_removed_only_with_its_own_restore_and_home() {
        let manager = tempfile::tempdir().unwrap();
        let (home, other) = (Path::new("/home"), Path::new("/other"));
        let [first, second, others] = [(home, "/x"), (home, "/y"), (other, "/x")]
            .map(|(home, cloud)| Replica::of(manager.path(), home, Path::new(cloud)));
        for replica in [&first, &second, &others] {
            replica.write(&mut SyncState::default()).unwrap();
        }
        let mark_restored = || {
            let folders = Replica::find_folders(manager.path(), home).unwrap();
            write_markers(&folders).unwrap();
        };
        let marker = |replica: &Replica| read_marker(&replica.folder).unwrap();
        assert_eq!(marker(&first), None);
        mark_restored();
        assert!(marker(&first).is_some() && marker(&second).is_some());
        assert_eq!(marker(&others), None);
        let planned_with = marker(&first).unwrap();
        mark_restored();
        clear_marker(&first.folder, &planned_with).unwrap();
        assert!(marker(&first).is_some_and(|marker| marker != planned_with));
        clear_marker(&first.folder, &marker(&first).unwrap()).unwrap();
        assert_eq!(marker(&first), None);
    }
}
