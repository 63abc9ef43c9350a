//! Reads rollouts: the metadata, title, prompts and times of a conversation.

mod content;
mod location;
mod scanner;

pub(crate) use content::{Depth, RolloutScan};
pub use content::{PastOrigin, SessionMeta, UserMessage, first_line};
pub use location::{
    begins_conversation, find_recorded_path, find_recorded_rollout, find_resumable_rollout,
    is_recorded_outside, is_resumable_rollout_of, is_rollout_of, resolve_in_session_folders,
    resolve_rollout_in_home,
};

pub(in crate::history) use location::possible_paths;

use super::lines::{JsonlLine, LineReader};
use crate::codex::rollout::{self, is_plain};
use crate::codex::{EventKind, LineParts, TurnCounter, rollout_lines};
use crate::io::progress::check_interrupt;
use crate::io::{Rfc3339Time, file_open};
use scanner::Scanner;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The number of bytes between two reports of progress.
const PROGRESS_STEP_BYTES: u64 = 1 << 20;

/// Reads a whole rollout, plain or compressed, in bounded memory. `progress` receives the bytes
/// read since its last call.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub(crate) fn scan(path: &Path, depth: Depth, progress: impl Fn(u64)) -> io::Result<RolloutScan> {
    let mut scanner = Scanner::new(depth);
    let mut lines = LineReader::new(open(path)?);
    let mut reported_bytes = 0;

    loop {
        let bytes_read = lines.bytes_read();
        if bytes_read - reported_bytes >= PROGRESS_STEP_BYTES {
            progress(bytes_read - reported_bytes);
            reported_bytes = bytes_read;
            check_interrupt()?;
        }

        match lines.next_line() {
            Ok(Some(line)) => scanner.scan_line(line),
            Ok(None) => break,
            // A truncated compressed rollout: the lines before the end are good.
            Err(e) if !is_plain(path) && e.kind() != io::ErrorKind::Interrupted => {
                scanner.count_unreadable_line();
                break;
            }
            Err(e) => return Err(e),
        }
    }

    progress(lines.bytes_read() - reported_bytes);
    Ok(scanner.finish())
}

fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if is_plain(path) {
        // Not buffered: `LineReader` has its own buffer.
        Ok(Box::new(file_open::open(path)?))
    } else {
        rollout::open_plain(path)
    }
}

/// Reads the metadata of a rollout, which is usually in its first line. Returns `None` if the first
/// lines have none.
pub fn read_head(path: &Path) -> io::Result<Option<SessionMeta>> {
    parse_head(open(path)?)
}

/// Like [`read_head`], for the first bytes of a rollout. `name` decides whether they are compressed.
pub fn parse_prefix(prefix: &[u8], name: &Path) -> io::Result<Option<SessionMeta>> {
    if is_plain(name) {
        parse_head(prefix)
    } else {
        parse_head(rollout::decompress(prefix)?)
    }
}

fn parse_head(reader: impl Read) -> io::Result<Option<SessionMeta>> {
    Ok(scan_head(reader, Scanner::has_whole_meta)?.meta)
}

/// Like [`read_head`], and returns the conversation whose lines the rollout may repeat at its beginning.
pub(crate) fn read_head_and_origin(
    path: &Path,
) -> io::Result<(Option<SessionMeta>, Option<PastOrigin>)> {
    let scan = scan_head(open(path)?, Scanner::has_line_after_meta)?;
    let origin = scan.copy_origin();
    Ok((scan.meta, origin))
}

/// Evaluates the first lines of a rollout, until `is_done` returns true.
fn scan_head(reader: impl Read, is_done: impl Fn(&Scanner) -> bool) -> io::Result<RolloutScan> {
    /// Forked conversations may begin with a few other lines.
    const MAX_HEAD_LINES: usize = 64;
    /// Bytes per read. The first line holds the instructions, 10–25 kB.
    const HEAD_READ_BYTES: usize = 32 << 10;

    let mut scanner = Scanner::new(Depth::Messages);
    let mut lines = LineReader::with_chunk_size(reader, HEAD_READ_BYTES);
    for _ in 0..MAX_HEAD_LINES {
        match lines.next_line() {
            Ok(Some(line)) => scanner.scan_line(line),
            Ok(None) => break,
            // The metadata are there, and only a later line is not.
            Err(e) if scanner.has_meta() && e.kind() != io::ErrorKind::Interrupted => break,
            Err(e) => return Err(e),
        }

        if is_done(&scanner) {
            break;
        }
    }
    Ok(scanner.finish())
}

/// Returns the title from the first lines of a rollout; `None` if they have no message of the user or cannot be read.
pub fn read_title(path: &Path) -> Option<String> {
    let never_done = |_: &Scanner| false;
    scan_head(open(path).ok()?, never_done).ok()?.title
}

/// Returns the time of the last line that has a time. Reads a plain rollout from its end.
pub(crate) fn read_last_time(path: &Path) -> io::Result<Option<Rfc3339Time>> {
    // `Messages` is the least that a scan reads; the times alone cannot be chosen.
    if !is_plain(path) {
        return Ok(scan(path, Depth::Messages, |_| ())?.last_time);
    }
    search_from_end(path, |lines| {
        let mut scanner = Scanner::new(Depth::Messages);
        while let Some(line) = lines.next_line()? {
            scanner.scan_line(line);
        }
        Ok(scanner.finish().last_time)
    })
}

/// Returns true if a line ends at this offset of the plain text. Reads one byte of a plain rollout.
pub fn ends_line_at(path: &Path, offset: u64) -> io::Result<bool> {
    let Some(last_byte_offset) = offset.checked_sub(1) else {
        return Ok(true);
    };

    let mut byte = [0];
    let read_count = if is_plain(path) {
        let mut file = file_open::open(path)?;
        file.seek(SeekFrom::Start(last_byte_offset))?;
        file.read(&mut byte)?
    } else {
        let mut text = open(path)?;
        io::copy(&mut (&mut text).take(last_byte_offset), &mut io::sink())?;
        text.read(&mut byte)?
    };

    Ok(read_count == 1 && byte == *b"\n")
}

/// Returns the number of the last numbered line. `None` for a legacy rollout, whose lines have no numbers, and for an
/// unreadable rollout. Reads a plain rollout from its end.
pub fn read_last_ordinal(path: &Path) -> Option<u64> {
    if !is_plain(path) {
        return find_last_ordinal(&mut LineReader::new(open(path).ok()?)).ok()?;
    }
    search_from_end(path, find_last_ordinal).ok()?
}

/// Returns true if the last record of a plain rollout has no ordinal. False for a rollout without a record, and for an
/// unreadable one.
pub(crate) fn lacks_last_ordinal(path: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Record {
        ordinal: Option<serde::de::IgnoredAny>,
    }
    let has_ordinal = search_from_end(path, |lines| {
        let mut has_ordinal = None;
        while let Some(line) = lines.next_line()? {
            if let JsonlLine::Whole(line) = line
                && let Ok(record) = serde_json::from_slice::<Record>(line)
            {
                has_ordinal = Some(record.ordinal.is_some());
            }
        }
        Ok(has_ordinal)
    });
    has_ordinal.ok().flatten() == Some(false)
}

#[derive(serde::Deserialize)]
struct NumberedLine {
    ordinal: u64,
}

/// Returns the last number of a line in `lines`; see [`read_last_ordinal`].
fn find_last_ordinal<R: Read>(lines: &mut LineReader<R>) -> io::Result<Option<u64>> {
    let mut last_ordinal = None;
    while let Some(line) = lines.next_line()? {
        if let JsonlLine::Whole(line) = line
            && let Ok(numbered) = serde_json::from_slice::<NumberedLine>(line)
        {
            last_ordinal = Some(numbered.ordinal);
        }
    }
    Ok(last_ordinal)
}

/// Returns true if the last turn event in a plain rollout is the end of a turn. False if the rollout has no turn event,
/// or cannot be read.
pub(crate) fn is_turn_over(path: &Path) -> bool {
    let last_event = search_from_end(path, |lines| {
        let mut is_over = None;
        while let Some(line) = lines.next_line()? {
            let JsonlLine::Whole(line) = line else {
                continue;
            };
            let parts = LineParts::TURNS.union(LineParts::USER_EVENTS);
            for item in rollout_lines::parse(line, parts).unwrap_or_default().items {
                match item.kind {
                    EventKind::TurnEnded => is_over = Some(true),
                    EventKind::TurnStarted | EventKind::User(_) => is_over = Some(false),
                    _ => {}
                }
            }
        }
        Ok(is_over)
    });
    // Callers leave a conversation alone if they do not know.
    last_event.ok().flatten().unwrap_or(false)
}

/// Calls `find_in` with the last lines of a plain rollout, and again with more of them until `find_in` returns a value
/// or has seen all lines.
fn search_from_end<T>(
    path: &Path,
    find_in: impl Fn(&mut LineReader<io::Take<File>>) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    /// The number of bytes of the last lines that are read first. Most searches end in them.
    const FIRST_TAIL_BYTES: usize = 64 << 10;
    /// The factor by which the tail grows after a search without a result.
    const TAIL_GROWTH: u64 = 16;

    let mut file = file_open::open(path)?;
    let len = file.metadata()?.len();
    let mut tail_len = FIRST_TAIL_BYTES as u64;

    loop {
        let tail_start = len.saturating_sub(tail_len);
        file.seek(SeekFrom::Start(tail_start))?;
        let tail = file.try_clone()?.take(len - tail_start);
        let mut lines = LineReader::with_chunk_size(tail, FIRST_TAIL_BYTES);
        if tail_start > 0 {
            // The beginning of the first line is most likely missing.
            let _ = lines.next_line()?;
        }

        let value = find_in(&mut lines)?;
        if value.is_some() || tail_start == 0 {
            return Ok(value);
        }

        tail_len *= TAIL_GROWTH;
    }
}

/// Returns the number of turns in a rollout. With `end`, counts only turns before this offset in the plain text.
pub(crate) fn count_turns(path: &Path, end: Option<u64>) -> io::Result<usize> {
    let mut lines = LineReader::new(open(path)?);
    let mut counter = TurnCounter::default();
    let messages = LineParts::USER_ITEMS.union(LineParts::USER_EVENTS);
    let parts = messages.union(LineParts::TURNS);

    while let Some(placed) = lines.next_placed()? {
        if end.is_some_and(|end| placed.offset >= end) {
            break;
        }

        let JsonlLine::Whole(line) = placed.line else {
            continue;
        };

        let line_items = rollout_lines::parse(line, parts).unwrap_or_default().items;
        for item in line_items {
            counter.count(&item.kind);
        }
    }

    Ok(counter.turns as usize)
}
