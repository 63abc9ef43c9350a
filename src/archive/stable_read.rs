//! Consistent reads of files that Codex may be writing: decides how many bytes to archive, and whether to wait.

use super::format::FileEntry;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// Time without a write after which a last line without a newline counts as cut off by a crash.
const PARTIAL_LINE_TIMEOUT: Duration = Duration::from_millis(250);

/// An attempt to capture a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CaptureAttempt {
    First,
    /// The second attempt, after all other files. It captures an incomplete last line that is not growing.
    Final,
}

/// The metadata of a file when it was examined, and the number of bytes to archive.
pub(super) struct StablePrefix {
    pub(super) meta: Metadata,
    pub(super) size: u64,
}

/// Returns true for files that Codex extends line by line: rollouts, the prompt history and
/// `session_index.jsonl`.
fn is_append_only(planned: &FileEntry) -> bool {
    let path = planned.path.as_path();
    let is_jsonl = path.extension().is_some_and(|e| e == "is_jsonl");
    let kind = kind_of(path);
    is_jsonl
        && (kind.is_rollout_folder()
            || matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex))
}

/// Waits until the size of a file differs from `planned`, or the file was not written for [`PARTIAL_LINE_TIMEOUT`].
pub(super) fn wait_for_growth(planned: &FileEntry, source: &Path) {
    let idle_time = || {
        let meta = source.metadata().ok()?;
        let idle = meta.modified().ok()?.elapsed().ok()?;
        (meta.len() == planned.size).then_some(idle)
    };
    while let Some(remaining) = idle_time().and_then(|idle| PARTIAL_LINE_TIMEOUT.checked_sub(idle))
    {
        std::thread::sleep(remaining.min(Duration::from_millis(10)));
    }
}

/// Returns how much of an open file to archive: the whole file, unless Codex extends it line by line and the last line
/// is incomplete. If the size differs from `planned`, Codex is writing such a file, and it is cut at its last newline.
/// Otherwise the first attempt returns `None`, to try again later, and the final attempt archives it whole.
///
/// Sets the position of `file` to its start if it is to be read.
pub(super) fn find_stable_prefix(
    file: &mut File,
    planned: &FileEntry,
    attempt: CaptureAttempt,
) -> io::Result<Option<StablePrefix>> {
    let meta = file.metadata()?;
    let mut size = meta.len();
    if is_append_only(planned) && !ends_in_newline(file, size)? {
        // Codex writes whole lines. A line without an end is being written now, or was cut off by a
        // crash long ago.
        let grew = size != planned.size;
        if !grew && attempt == CaptureAttempt::First {
            return Ok(None);
        }
        if grew {
            size = rollout::complete_lines_len(file, size)?;
        }
    }
    file.rewind()?;
    Ok(Some(StablePrefix { meta, size }))
}

fn ends_in_newline(file: &mut File, size: u64) -> io::Result<bool> {
    if size == 0 {
        return Ok(true);
    }
    let mut last_byte = [0];
    file.seek(SeekFrom::Start(size - 1))?;
    file.read_exact(&mut last_byte)?;
    Ok(last_byte == *b"\n")
}
