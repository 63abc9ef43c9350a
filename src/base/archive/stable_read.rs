//! Consistent reads of files that Codex may be writing: decides how many bytes to archive, and whether to wait.

use super::duplicates::parse_rollout_name;
use super::format::FileEntry;
use crate::codex::database::{DATABASE_HEADER_BYTES, begins_like_database};
use crate::codex::home::{HomeEntryKind, kind_of, may_be_database};
use crate::codex::rollout;
use crate::history::rollout::begins_conversation;
use crate::io::file_open::is_partial_line_at;
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
    /// True for a rollout that is empty, filled with NUL bytes, or cut in its first line.
    pub(super) is_unreadable_rollout: bool,
}

/// Returns true for files that Codex extends line by line: rollouts, the prompt history and
/// `session_index.jsonl`.
fn is_append_only(planned: &FileEntry) -> bool {
    let path = planned.path.as_path();
    let is_jsonl = path.extension().is_some_and(|e| e == "jsonl");
    let kind = kind_of(path);
    is_jsonl
        && (kind.is_rollout_folder()
            || matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex))
}

/// Waits until the size of a file differs from `planned`, or the file was not written for [`PARTIAL_LINE_TIMEOUT`].
pub(super) fn wait_for_growth(planned: &FileEntry, source: &Path) {
    let remaining_wait = || {
        let meta = source.metadata().ok()?;
        let idle_time = meta.modified().ok()?.elapsed().ok()?;
        if meta.len() != planned.size {
            return None;
        }
        PARTIAL_LINE_TIMEOUT.checked_sub(idle_time)
    };
    while let Some(remaining) = remaining_wait() {
        // In short steps, because growth ends the wait.
        std::thread::sleep(remaining.min(Duration::from_millis(10)));
    }
}

/// Returns the part of an open file to archive, and sets the position of `file` to its start. The part is the whole
/// file, unless Codex extends the file line by line and its last line is incomplete. If the size then differs from
/// `planned`, Codex is writing the file, and the part ends at the last newline. Otherwise returns `None` at the first
/// attempt, to try again later, and the whole file at the final attempt.
///
/// # Errors
/// The file cannot be read, is a `config.toml` of NUL bytes, or has become a database.
pub(super) fn find_stable_prefix(
    file: &mut File,
    planned: &FileEntry,
    attempt: CaptureAttempt,
) -> io::Result<Option<StablePrefix>> {
    let meta = file.metadata()?;
    let mut size = meta.len();
    let mut complete_len = size;

    if is_append_only(planned) && is_partial_line_at(file, size)? {
        // Codex writes whole lines. A line without an end is being written now, or was cut off by a
        // crash long ago.
        let is_being_written = size != planned.size;
        if !is_being_written && attempt == CaptureAttempt::First {
            return Ok(None);
        }
        complete_len = rollout::complete_lines_len(file, size)?;
        if is_being_written {
            size = complete_len;
        }
    }

    let refuse = |reason| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    if kind_of(planned.path.as_path()) == HomeEntryKind::Config && is_nul_filled(file)? {
        return refuse("filled with NUL bytes");
    }
    if may_be_database(planned.path.as_path()) && is_database(file)? {
        return refuse("a database that was created during the backup");
    }

    file.seek(SeekFrom::Start(0))?;
    let path = planned.path.as_path();
    let is_unreadable_rollout = parse_rollout_name(path).is_some()
        && !begins_conversation(Read::by_ref(file).take(complete_len), path);
    file.seek(SeekFrom::Start(0))?;
    Ok(Some(StablePrefix {
        meta,
        size,
        is_unreadable_rollout,
    }))
}

/// Returns true if the file is a database. The scan found none, so there is no snapshot of it, and a copy byte by byte may
/// mix two states.
fn is_database(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(DATABASE_HEADER_BYTES).read_to_end(&mut start)?;
    Ok(begins_like_database(&start))
}

/// Returns true if the file is not empty and its first MiB has only NUL bytes. A power loss can leave a small file like
/// this.
fn is_nul_filled(file: &mut File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(1024 * 1024).read_to_end(&mut bytes)?;
    Ok(!bytes.is_empty() && bytes.iter().all(|b| *b == 0))
}
