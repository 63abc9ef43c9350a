//! Writes the planned files.

use super::plan::{PlannedHistoryFile, RebuildPlan};
use crate::history::{HistoryError, session_index};
use crate::io::{FileLock, IoContext, atomic, file_open, sharing};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The state of a file after [`apply`], or as [`preview`] predicts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuiltFile {
    pub path: PathBuf,
    /// The number of planned lines.
    pub lines: usize,
    /// True if the file was, or would be, written; false if its content was up to date.
    pub written: bool,
    /// The copy of the previous file, if one was kept.
    pub backup: Option<PathBuf>,
}

/// Predicts the result of [`apply`] for each file, without writing.
///
/// # Errors
/// A file cannot be read.
pub fn preview(home: &Path, plan: &mut RebuildPlan) -> Result<Vec<RebuiltFile>, HistoryError> {
    let mut files = Vec::new();
    for file in &mut plan.files {
        let path = home.join(file.name);
        files.push(RebuiltFile {
            written: !has_planned_text(&path, file)?,
            path,
            lines: file.lines,
            backup: None,
        });
    }
    Ok(files)
}

/// The number of bytes of two files that are compared at a time.
const COMPARED_BYTES: usize = 64 << 10;

/// Returns true if the file at `path` begins with the planned text. Lines appended since the plan
/// may follow. Rewinds the planned text and reads it.
fn has_planned_text(path: &Path, planned: &mut PlannedHistoryFile) -> Result<bool, HistoryError> {
    // `len_when_read` was the length of the current file, so another length means another content.
    if planned.new_len != planned.len_when_read || !path.exists() {
        return Ok(false);
    }

    let file = file_open::open(path).at("read", path)?;
    let mut current_start = BufReader::with_capacity(COMPARED_BYTES, file.take(planned.new_len));
    planned.text.rewind().at("read a temp file for", path)?;
    let mut planned_chunk = vec![0; COMPARED_BYTES];
    loop {
        let current_chunk = current_start.fill_buf().at("read", path)?;
        let len = current_chunk.len();
        if len == 0 {
            // A file that is shorter than the planned text ends before the limit.
            return Ok(current_start.get_ref().limit() == 0);
        }

        let read_result = planned.text.read_exact(&mut planned_chunk[..len]);
        read_result.at("read a temp file for", path)?;
        if *current_chunk != planned_chunk[..len] {
            return Ok(false);
        }
        current_start.consume(len);
    }
}

/// Returns the length of a file; 0 if it is missing.
pub(super) fn file_len(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// Writes the planned files under the locks that Codex takes. Each is replaced by one rename; if `keeps_copies`, it is
/// copied to `<file>.bak.<time>` before.
///
/// # Errors
/// Codex holds a lock for more than 10 seconds, a file was replaced since the plan, or a write
/// fails. The copy of that file is removed again; files written before stay.
pub fn apply(
    home: &Path,
    plan: &mut RebuildPlan,
    keeps_copies: bool,
    now: DateTime<Utc>,
) -> Result<Vec<RebuiltFile>, HistoryError> {
    // Remove temp files of killed commands.
    atomic::remove_stale_temps(home);

    let copy_suffix = now.format(".bak.%Y%m%dT%H%M%SZ").to_string();
    let mut rebuilt_files = Vec::new();
    for file in &mut plan.files {
        let path = home.join(file.name);

        // Codex locks the index by a file beside it, and the history by the file itself.
        let lock_path = match file.name {
            session_index::FILE_NAME => Some(home.join(session_index::LOCK_NAME)),
            _ => path.exists().then(|| path.clone()),
        };

        let mut held_lock = lock_path
            .map(|lock_path| session_index::lock_list(&lock_path))
            .transpose()?;

        // Codex only appends to both files. So a shorter file was replaced, and `len_when_read` is no offset in it.
        if file_len(&path) < file.len_when_read {
            return Err(HistoryError::Changed(path));
        }

        // Under the lock, because the file may have changed since the preview.
        let must_write = !has_planned_text(&path, file)?;

        let keeps_copy = must_write && keeps_copies && path.exists();
        let copied = keeps_copy.then(|| atomic::keep_copy(&path, &copy_suffix));
        let backup = copied.transpose()?;
        if must_write && let Err(e) = replace_file(&path, file, &mut held_lock) {
            if let Some(copy) = &backup {
                // The original is unchanged, so the copy is superfluous.
                let _ = sharing::remove_file(copy);
            }
            return Err(e);
        }

        rebuilt_files.push(RebuiltFile {
            path,
            lines: file.lines,
            written: must_write,
            backup,
        });
    }

    Ok(rebuilt_files)
}

/// Writes the planned text, followed by the lines appended since the plan.
fn replace_file(
    path: &Path,
    file: &mut PlannedHistoryFile,
    lock: &mut Option<FileLock>,
) -> Result<(), HistoryError> {
    let mut temp = atomic::TempFile::create_beside(path)?;
    file.text.rewind().at("read a temp file for", path)?;
    io::copy(&mut file.text, temp.file()).at("write", path)?;
    if file_len(path) > file.len_when_read {
        let mut current_file = file_open::open(path).at("read", path)?;
        let first_appended = SeekFrom::Start(file.len_when_read);
        current_file.seek(first_appended).at("read", path)?;
        io::copy(&mut current_file, temp.file()).at("write", path)?;
    }
    Ok(temp.replace_locked(path, lock)?)
}
