//! Keeps other processes out of the databases on both sides of an exchange.
//!
//! SQLite opens the `-wal` and `-shm` of a database by path, when it first reads it. A connection that is opened before
//! an exchange and reads after it would combine a database with the log of another database, which damages both. So
//! both are locked exclusively from before the exchange until its result is final. Codex 0.169 waits for such a lock
//! for 5 seconds, three times, and opens the database by its path each time.

use super::step::Step;
use crate::codex::{SQLITE_FOLDER, database};
use crate::io::file_id::stat;
use crate::io::{FileId, ProcessTable, tree};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The longest wait for all locks together. Other commands of this program read a database only for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait for other processes to close a replaced database. Longer than one attempt of Codex.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The locks on the databases of steps.
#[derive(Debug, Default)]
pub(super) struct DatabaseLocks {
    files: Vec<File>,
    /// The identities of `files`.
    ids: Vec<FileId>,
    /// The staged paths of the steps with databases.
    staged_paths: Vec<PathBuf>,
}

impl DatabaseLocks {
    /// Locks the databases at both sides of `steps`. Leaves out databases that cannot be opened, and databases
    /// on file systems without locks.
    ///
    /// # Errors
    /// Returns the database that another process uses.
    pub(super) fn acquire<'a>(steps: impl Iterator<Item = &'a Step>) -> Result<Self, PathBuf> {
        let mut locks = Self::default();
        let mut databases = Vec::new();
        // Before the first lock: when this process closes any descriptor of a file, its locks on the file end, so no
        // database is opened to be recognized while it is locked.
        for step in steps {
            let found = [list_databases(&step.live), list_databases(&step.staged)].concat();
            if !found.is_empty() {
                locks.staged_paths.push(step.staged.clone());
            }
            databases.extend(found);
        }

        let deadline = Instant::now() + LOCK_TIMEOUT;
        for database in databases {
            let Some(file) = open_to_lock(&database) else {
                continue;
            };
            while !try_lock(&file) {
                if Instant::now() > deadline {
                    return Err(database);
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
            locks
                .ids
                .extend(stat(&database).ok().flatten().map(|(id, _)| id));
            // Stays open, because closing it would end the lock.
            locks.files.push(file);
        }
        Ok(locks)
    }

    /// Releases the locks once no other process has a replaced database open, at the latest after [`CLOSE_TIMEOUT`]. On
    /// systems that do not list open files, always waits that long, unless no database is locked.
    pub(super) fn release(self) {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !self.files.is_empty() && self.may_be_open_elsewhere() && Instant::now() < deadline {
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Returns true if another process has a replaced database open, or if the system does not list open files.
    fn may_be_open_elsewhere(&self) -> bool {
        let folders: Vec<&Path> = self.staged_paths.iter().map(PathBuf::as_path).collect();
        let own_pid = std::process::id();
        let processes = ProcessTable::read();
        let mut others = processes.iter().filter(|process| process.pid() != own_pid);
        // Other systems list no open files.
        !cfg!(target_os = "linux")
            || others.any(|process| {
                let open_files = process.open_files_beneath(&folders);
                open_files.iter().any(|path| self.is_locked(path))
            })
    }

    fn is_locked(&self, path: &Path) -> bool {
        let file = stat(path).ok().flatten();
        file.is_some_and(|(id, _)| self.ids.iter().any(|locked| locked.is_same(id)))
    }
}

/// Returns `path` itself if it is a database, else the databases in the folder `path`, which may be a home or a folder
/// of databases.
fn list_databases(path: &Path) -> Vec<PathBuf> {
    if is_database(path) {
        return vec![path.to_path_buf()];
    }
    let mut databases = Vec::new();
    for folder in [path.to_path_buf(), path.join(SQLITE_FOLDER)] {
        let entries = tree::list(&folder).unwrap_or_default().into_iter();
        let paths = entries.map(|(name, _)| folder.join(name));
        databases.extend(paths.filter(|path| is_database(path)));
    }
    databases
}

/// Returns true for a database, and for a file with the name of one: Codex may be about to fill it.
fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ext == "sqlite") || database::is_database(path)
}

/// Opens a regular file to lock it. Does not change its times. Returns `None` if it cannot be opened.
#[cfg(unix)]
fn open_to_lock(path: &Path) -> Option<File> {
    let is_file = path.metadata().is_ok_and(|meta| meta.is_file());
    let opened = is_file.then(|| File::options().read(true).write(true).open(path));
    opened?.ok()
}

/// An open file can be neither renamed nor replaced on Windows.
#[cfg(not(unix))]
fn open_to_lock(_path: &Path) -> Option<File> {
    None
}

/// Tries to lock the whole file, with the bytes that SQLite locks. Returns false if another process has locked a part
/// of it. Returns true without a lock if the system or the file system has no such locks.
fn try_lock(file: &File) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, fcntl_lock};
        use rustix::io::Errno;
        let locked = fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
        !matches!(locked, Err(Errno::AGAIN | Errno::ACCESS))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}
