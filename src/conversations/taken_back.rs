//! The turns of a rollout that the user took back without a new rollout.
//!
//! Codex up to 0.150, and newer versions for legacy conversations, write `thread_rolled_back` after the turns and leave
//! them in the file. Codex 0.169 begins a new rollout instead (`history_base`), and drops such turns when it migrates.

use super::raw_lines::RawLines;
use super::reader_state::ReaderState;
use crate::codex::rollout_lines::{self, EventKind, LineParts};
use crate::history::thread_rollouts::RolloutSlice;
use std::io;
use std::ops::Range;

/// Returns the parts of a rollout that the user took back, as ranges of offsets in its plain text.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub(super) fn find_ranges(slice: &RolloutSlice) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    // Nearly no rollout has such a line, and looking for it is much cheaper than parsing all messages.
    if !has_rollback(slice)? {
        return Ok(ranges);
    }
    let mut state = ReaderState::default();
    let mut turns: Vec<u64> = Vec::new();
    for_each_line(slice, |offset, line| {
        let items = rollout_lines::parse(line, LineParts::TEXTS).unwrap_or_default();
        for event in state.accept(items, offset).into_iter().flatten() {
            match event.kind {
                EventKind::User(_) => turns.push(offset),
                EventKind::RolledBack(_) => {
                    let kept = event.turn as usize;
                    ranges.extend(turns.get(kept).map(|begin| *begin..offset));
                    turns.truncate(kept);
                }
                _ => {}
            }
        }
        true
    })?;
    Ok(ranges)
}

fn has_rollback(slice: &RolloutSlice) -> io::Result<bool> {
    let mut is_found = false;
    for_each_line(slice, |_, line| {
        is_found = rollout_lines::may_have(line, LineParts::ROLLBACKS);
        !is_found
    })?;
    Ok(is_found)
}

/// Calls `each` with the offset and the bytes of the lines until it returns false.
fn for_each_line(slice: &RolloutSlice, mut each: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut lines = RawLines::open(&slice.path, 0)?;
    while let Some(line) = lines.next()? {
        let is_beyond = slice.end.is_some_and(|end| line.offset >= end);
        if is_beyond || !each(line.offset, line.bytes) {
            break;
        }
    }
    Ok(())
}
