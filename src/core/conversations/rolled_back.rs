//! Finds the rolled-back turns in a rollout.
//!
//! When the user rolls back turns, Codex up to 0.150 leaves them in the rollout, and writes `thread_rolled_back` after
//! them. Newer versions do the same for legacy conversations. For other conversations Codex 0.169 begins a new rollout
//! (`history_base`). It drops rolled-back turns when it migrates a rollout.

use super::raw_lines::RawLines;
use super::reader_state::ReaderState;
use crate::codex::rollout_lines::{self, EventKind, LineParts};
use crate::history::thread_rollouts::RolloutSlice;
use std::io;
use std::ops::Range;

/// Returns the ranges of rolled-back turns, as offsets in the uncompressed text of the rollout.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub(super) fn find_rolled_back_ranges(slice: &RolloutSlice) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    // Nearly no rollout has a rollback, and looking for one is much cheaper than parsing all messages.
    if !has_rollback(slice)? {
        return Ok(ranges);
    }

    let mut state = ReaderState::default();
    let mut turn_starts: Vec<u64> = Vec::new();
    visit_lines(slice, |offset, line| {
        let items = rollout_lines::parse(line, LineParts::TEXTS).unwrap_or_default();
        for event in state.convert_line(items, offset).into_iter().flatten() {
            // After a rollback, `event.turn` is the number of turns that are left.
            let turns = event.turn as usize;
            if let EventKind::RolledBack(_) = event.kind {
                ranges.extend(turn_starts.get(turns).map(|start| *start..offset));
                turn_starts.truncate(turns);
            } else if turns > turn_starts.len() {
                turn_starts.push(offset);
            }
        }
        true
    })?;
    Ok(ranges)
}

fn has_rollback(slice: &RolloutSlice) -> io::Result<bool> {
    let mut is_found = false;
    visit_lines(slice, |_, line| {
        is_found = rollout_lines::may_have_parts(line, LineParts::ROLLBACKS);
        !is_found
    })?;
    Ok(is_found)
}

/// Calls `visit` with the offset and the bytes of each line, until `visit` returns false.
fn visit_lines(slice: &RolloutSlice, mut visit: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut lines = RawLines::open(&slice.path, 0)?;
    while let Some(line) = lines.next_line()? {
        let is_beyond_slice = slice.end.is_some_and(|end| line.offset >= end);
        if is_beyond_slice || !visit(line.offset, line.bytes) {
            break;
        }
    }
    Ok(())
}
