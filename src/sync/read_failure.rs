//! Why a file could not be read, in words for users.

use std::io;

/// What is printed behind the path of a file that a run leaves alone because reading it failed. Cloud clients
/// remove and replace files at any moment, so that "not found" is no fault of the disk.
pub(super) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "it was removed while the sync was running; the next run looks again".to_owned()
    } else {
        format!("it cannot be read ({error})")
    }
}
