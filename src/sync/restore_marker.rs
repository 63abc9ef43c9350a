//! A home that was put back from an archive: what it lacks since is not deleted.
//!
//! `restored` in the folder of a state, written before the home is exchanged and removed by the run that
//! has seen to all files.

use super::state::{Replica, random_id};
use crate::io::{IoContext, IoError, atomic, file_open};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MARKER_FILE: &str = "restored";

/// The marks of one restore.
#[derive(Debug)]
pub struct RestoreMarkers {
    /// Those that were not there before.
    paths: Vec<PathBuf>,
    id: String,
}

impl RestoreMarkers {
    /// Marks all states of this home, whatever cloud folder they are of; durable on return.
    ///
    /// # Errors
    /// One of them cannot be written: a sync would take for deleted what the archive lacks.
    pub fn write(manager_home: &Path, home: &Path) -> Result<Self, IoError> {
        let mut marks = Self {
            paths: Vec::new(),
            id: random_id(),
        };
        for folder in Replica::folders_of(manager_home, home)? {
            let path = folder.join(MARKER_FILE);
            let is_first = read(&folder)?.is_none();
            atomic::write(&path, marks.id.as_bytes())?;
            if is_first {
                marks.paths.push(path);
            }
        }
        Ok(marks)
    }

    /// Takes them back: nothing was exchanged. One that stays, as of an earlier restore, brings back what
    /// is missing.
    pub fn remove(self) {
        for path in self.paths {
            let _ = remove_marker(&path, &self.id);
        }
    }
}

/// The mark in the folder of a state, if there is one.
pub(super) fn read(folder: &Path) -> Result<Option<String>, IoError> {
    let path = folder.join(MARKER_FILE);
    match file_open::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("read", &path),
    }
}

/// A run has seen to all files; another restore may have left another mark since.
pub(super) fn clear(folder: &Path, mark: &str) -> Result<(), IoError> {
    remove_marker(&folder.join(MARKER_FILE), mark)
}

fn remove_marker(path: &Path, mark: &str) -> Result<(), IoError> {
    if !file_open::read(path).is_ok_and(|text| text == mark.as_bytes()) {
        return Ok(());
    }
    fs::remove_file(path).at("remove", path)?;
    atomic::sync_folder(atomic::parent_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::state::SyncState;

    #[test]
    fn a_mark_goes_with_its_own_restore_and_only_from_states_of_that_home() {
        let manager = tempfile::tempdir().unwrap();
        let (home, other) = (Path::new("/home"), Path::new("/other"));
        let [mine, second, others] = [(home, "/x"), (home, "/y"), (other, "/x")]
            .map(|(home, cloud)| Replica::of(manager.path(), home, Path::new(cloud)));
        for replica in [&mine, &second, &others] {
            replica.write(&mut SyncState::default()).unwrap();
        }
        let mark = |replica: &Replica| read(&replica.folder).unwrap();
        RestoreMarkers::write(manager.path(), home)
            .unwrap()
            .remove();
        assert_eq!(mark(&mine), None);
        let _restored = RestoreMarkers::write(manager.path(), home).unwrap();
        assert!(mark(&mine).is_some() && mark(&second).is_some());
        assert_eq!(mark(&others), None);
        let planned_with = mark(&mine).unwrap();
        RestoreMarkers::write(manager.path(), home)
            .unwrap()
            .remove();
        assert!(mark(&mine).is_some());
        clear(&mine.folder, &planned_with).unwrap();
        assert!(mark(&mine).is_some_and(|mark| mark != planned_with));
        clear(&mine.folder, &mark(&mine).unwrap()).unwrap();
        assert_eq!(mark(&mine), None);
    }
}
