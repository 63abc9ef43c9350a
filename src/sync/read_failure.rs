//! Messages for files that cannot be read.

use std::io;

/// Returns the reason printed for a file that a run leaves alone because reading it failed. Cloud clients
/// remove and replace files at any moment, so "not found" does not indicate a disk error.
pub(super) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "it was removed while the sync was running; the next run looks again".to_owned()
    } else {
        format!("it cannot be read ({error})")
    }
}
