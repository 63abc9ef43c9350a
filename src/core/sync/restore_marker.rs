//! Marks that a home was restored from an archive, so that files missing since then do not count as deleted.
//!
//! The marker is the file `restored` in the folder of a state. It is written before the home is exchanged and
//! removed by the run that has processed all files.

use crate::io::random_id::random_id;
use crate::io::{IoContext, IoError, atomic, file_open, sharing};
use std::path::{Path, PathBuf};

const MARKER_FILE: &str = "restored";

/// The markers that one restore wrote, one for each state of the home. A home has a state for each cloud folder.
#[derive(Debug)]
pub struct RestoreMarkers {
    /// The folders of the markers, without those that had the marker of an earlier restore.
    new_folders: Vec<PathBuf>,
    /// The content of the markers, a random id.
    id: String,
}

impl RestoreMarkers {
    /// Writes a marker to each of these folders, which have the states of the restored home. Durable on return.
    ///
    /// # Errors
    /// A marker cannot be written. Without it, a sync would treat files that the archive lacks as deleted.
    pub fn write(folders: &[PathBuf]) -> Result<Self, IoError> {
        let mut markers = Self {
            new_folders: Vec::new(),
            id: random_id(),
        };

        for folder in folders {
            let had_no_marker = read_marker(folder)?.is_none();
            atomic::write(&folder.join(MARKER_FILE), markers.id.as_bytes())?;
            if had_no_marker {
                markers.new_folders.push(folder.clone());
            }
        }
        Ok(markers)
    }

    /// Removes the markers of a restore that exchanged nothing. Folders that had the marker of an earlier restore keep
    /// a marker.
    pub fn remove(self) {
        for folder in self.new_folders {
            // A marker that stays is harmless: the next sync treats no missing file as deleted.
            let _ = clear_marker(&folder, &self.id);
        }
    }
}

/// Reads the marker in the folder of a state; `None` if there is none.
pub(super) fn read_marker(folder: &Path) -> Result<Option<String>, IoError> {
    let bytes = file_open::read_if_exists(&folder.join(MARKER_FILE))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Removes the marker from the folder of a state, unless a later restore has replaced it.
pub(super) fn clear_marker(folder: &Path, marker: &str) -> Result<(), IoError> {
    let path = folder.join(MARKER_FILE);
    let is_same_marker = file_open::read(&path).is_ok_and(|text| text == marker.as_bytes());
    if !is_same_marker {
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
    fn a_restore_marks_only_its_home_and_removes_only_its_own_markers() {
        let manager = tempfile::tempdir().unwrap();
        let (home, other) = (Path::new("/home"), Path::new("/other"));
        let [first, second, others] = [(home, "/x"), (home, "/y"), (other, "/x")]
            .map(|(home, cloud)| Replica::of(manager.path(), home, Path::new(cloud)));
        for replica in [&first, &second, &others] {
            replica.write(&mut SyncState::default()).unwrap();
        }
        let mark_restored = || {
            let folders = Replica::find_folders(manager.path(), home).unwrap();
            RestoreMarkers::write(&folders)
        };
        let marker = |replica: &Replica| read_marker(&replica.folder).unwrap();
        mark_restored().unwrap().remove();
        assert_eq!(marker(&first), None);
        let _restored = mark_restored().unwrap();
        assert!(marker(&first).is_some() && marker(&second).is_some());
        assert_eq!(marker(&others), None);
        let planned_with = marker(&first).unwrap();
        mark_restored().unwrap().remove();
        assert!(marker(&first).is_some());
        clear_marker(&first.folder, &planned_with).unwrap();
        assert!(marker(&first).is_some_and(|marker| marker != planned_with));
        clear_marker(&first.folder, &marker(&first).unwrap()).unwrap();
        assert_eq!(marker(&first), None);
    }
}
