//! Consistent reads of a file that Codex may be writing: how many bytes to archive, and whether to
//! wait.

use super::format::FileEntry;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// Time without a write after which a line without a newline counts as cut off.
const PARTIAL_LINE_TIMEOUT: Duration = Duration::from_millis(250);

/// The attempt to capture a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CaptureAttempt {
    First,
    /// The attempt after all other files, which captures an incomplete last line too.
    Final,
}

/// Decision whether an open file can be archived now.
pub(super) enum ReadDecision {
    /// Archive this prefix of the file.
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
    let jsonl = path.extension().is_some_and(|e| e == "jsonl");
    let kind = kind_of(path);
    jsonl
        && (kind.is_rollout_folder()
            || matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex))
}

/// Waits until a file has grown, or has not been written for [`PARTIAL_LINE_TIMEOUT`].
pub(super) fn wait_for_growth(planned: &FileEntry, source: &Path) {
    let unchanged = || {
        let meta = source.metadata().ok()?;
        let idle = meta.modified().ok()?.elapsed().ok()?;
        (meta.len() == planned.size).then_some(idle)
    };
    while let Some(left) = unchanged().and_then(|idle| PARTIAL_LINE_TIMEOUT.checked_sub(idle)) {
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
}

/// Decides how much of an open file to archive: all of it, unless Codex extends the file line by line and its last line
/// has no end. Such a file is cut at its last newline if its size has changed since it was listed as `planned`, else
/// deferred at the first attempt. A `config.toml` of NUL bytes is skipped. Leaves the position of `file` at its start.
pub(super) fn decide_read(
    file: &mut File,
    planned: &FileEntry,
    attempt: CaptureAttempt,
) -> io::Result<ReadDecision> {
    let meta = file.metadata()?;
    let mut size = meta.len();
    if is_append_only(planned) && !ends_in_newline(file, size)? {
        // Codex writes whole lines. A line without an end is being written now, or was cut off by a
        // crash long ago.
        let grew = size != planned.size;
        if !grew && attempt == CaptureAttempt::First {
            return Ok(ReadDecision::Defer);
        }
        if grew {
            size = rollout::complete_lines_len(file, size)?;
        }
    }
    if kind_of(planned.path.as_path()) == HomeEntryKind::Config && is_nul_filled(file)? {
        return Ok(ReadDecision::Skip("filled with NUL bytes"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(ReadDecision::Read(StablePrefix { meta, size }))
}

fn ends_in_newline(file: &mut File, size: u64) -> io::Result<bool> {
    if size == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(size - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Returns true if the first MiB of the file is not empty and has NUL bytes only, as a power loss can leave a small
/// file.
fn is_nul_filled(file: &mut File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(1024 * 1024).read_to_end(&mut bytes)?;
    Ok(!bytes.is_empty() && bytes.iter().all(|b| *b == 0))
}
