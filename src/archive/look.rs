//! A look at a file that somebody may be writing: how much of it can be taken, and whether now.

use super::manifest::FileEntry;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// How long a writer may pause within a line before the line counts as cut off.
const AT_REST: Duration = Duration::from_millis(250);

/// What a look at an open file says.
pub(super) enum Look {
    /// It can be taken.
    Take(Seen),
    /// Its last line is not whole.
    Later,
    /// It is not to be taken.
    Leave(&'static str),
}

/// A file as it was seen, and how much of it is taken.
pub(super) struct Seen {
    pub(super) meta: Metadata,
    pub(super) size: u64,
}

/// Files that grow by whole lines: rollouts, the prompt history, the index of names.
pub(super) fn is_append_only(planned: &FileEntry) -> bool {
    let path = planned.path.as_path();
    let jsonl = path.extension().is_some_and(|e| e == "jsonl");
    let kind = kind_of(path);
    jsonl
        && (kind.is_rollout_folder()
            || matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex))
}

/// Waits until a file has grown or has been left alone for [`AT_REST`].
pub(super) fn wait_for_growth(planned: &FileEntry, source: &Path) {
    let unchanged = || {
        let meta = source.metadata().ok()?;
        let idle = meta.modified().ok()?.elapsed().ok()?;
        (meta.len() == planned.size).then_some(idle)
    };
    while let Some(left) = unchanged().and_then(|idle| AT_REST.checked_sub(idle)) {
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
}

/// How much of an open file is to be taken.
pub(super) fn look(file: &mut File, planned: &FileEntry, may_defer: bool) -> io::Result<Look> {
    let meta = file.metadata()?;
    let mut size = meta.len();
    if is_append_only(planned) && !ends_in_newline(file, size)? {
        let grew = size != planned.size;
        if !grew && may_defer {
            return Ok(Look::Later);
        }
        if grew {
            size = rollout::complete_lines_len(file, size)?;
        }
    }
    if kind_of(planned.path.as_path()) == HomeEntryKind::Config && is_nul_filled(file)? {
        return Ok(Look::Leave("filled with NUL bytes"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Look::Take(Seen { meta, size }))
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

/// What a power loss leaves of a small file.
fn is_nul_filled(file: &mut File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(1024 * 1024).read_to_end(&mut bytes)?;
    Ok(!bytes.is_empty() && bytes.iter().all(|b| *b == 0))
}
