//! A lock that a test holds in place of another program.

use std::fs::File;
use std::path::Path;

/// Holds the lock until it is dropped.
pub(crate) struct HeldLock(File);

impl HeldLock {
    pub(crate) fn exclusive(path: &Path) -> Self {
        let file = File::options().append(true).create(true).open(path);
        let file = file.expect("a lock file");
        file.lock().expect("the lock");
        Self(file)
    }
}

/// A closed file is not enough: a program that another test starts at this moment has a copy of its descriptor.
impl Drop for HeldLock {
    fn drop(&mut self) {
        self.0.unlock().expect("the end of the lock");
    }
}
