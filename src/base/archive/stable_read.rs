//! Consistent reads of files that Codex may be writing: decides how many bytes to archive, and whether to wait.

use super::format::FileEntry;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout;
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

/// The decision how to archive an open file.
pub(super) enum ReadDecision {
    /// Archive this prefix of the file now.
    Read(StablePrefix),
    /// Try again later: the last line is incomplete.
    Defer,
    /// Do not archive the file, for this reason.
    Skip(&'static str),
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
        std::thread::sleep(remaining.min(Duration::from_millis(10)));
    }
}

/// Decides how much of an open file to archive. That is the whole file, with two exceptions:
///
/// - A file that Codex extends line by line may have an incomplete last line. If the size differs from `planned`, Codex
///   is writing the file, and it is cut at its last newline. Otherwise the file is deferred at the first attempt, and
///   archived whole at the final attempt.
/// - A `config.toml` of NUL bytes is skipped.
///
/// Sets the position of `file` to its start if it is to be read.
pub(super) fn decide_read(
    file: &mut File,
    planned: &FileEntry,
    attempt: CaptureAttempt,
) -> io::Result<ReadDecision> {
    let meta = file.metadata()?;
    let mut size = meta.len();

    if is_append_only(planned) && is_partial_line_at(file, size)? {
        // Codex writes whole lines. A line without an end is being written now, or was cut off by a
        // crash long ago.
        let is_being_written = size != planned.size;
        if is_being_written {
            size = rollout::complete_lines_len(file, size)?;
        } else if attempt == CaptureAttempt::First {
            return Ok(ReadDecision::Defer);
        }
    }

    if kind_of(planned.path.as_path()) == HomeEntryKind::Config && is_nul_filled(file)? {
        return Ok(ReadDecision::Skip("filled with NUL bytes"));
    }

    file.seek(SeekFrom::Start(0))?;
    Ok(ReadDecision::Read(StablePrefix { meta, size }))
}

/// Returns true if the file is not empty and its first MiB has only NUL bytes. A power loss can leave a small file like
/// this.
fn is_nul_filled(file: &mut File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(1024 * 1024).read_to_end(&mut bytes)?;
    Ok(!bytes.is_empty() && bytes.iter().all(|b| *b == 0))
}
