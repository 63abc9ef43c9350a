//! Reads rollouts in blocks of lines, and parses the blocks.

use super::plan::{self, IngestTask};
use super::store::{IndexError, Place};
use super::text_words::{TextWords, WordLists};
use super::tokens::truncate_output;
use crate::codex::rollout_lines::{
    self, EventKind, LineItems, LineParts, Role, UserItems, UserItemsProbe,
};
use crate::conversations::past_answers::is_mcp_call_or_answer;
use crate::conversations::raw_lines::RawLines;
use crate::conversations::reader::{find_user_items, is_subagent};
use crate::history::thread_rollouts::RolloutSlice;
use crate::io::{ansi, file_open};
use std::borrow::Cow;
use std::io;

/// The size of a block of lines in bytes. A block ends with the line that exceeds this size.
const BLOCK_BYTES: usize = 512 << 10;

/// A step of the ingestion of a conversation. `L` is a block of lines, before or after it is parsed.
pub(super) enum IngestStep<L> {
    Begin(Box<IngestTask>),
    /// The newest rollout of the conversation cannot be opened. The text is the reason.
    Unreadable(Box<IngestTask>, String),
    Lines(L),
    /// The end of the last rollout, or the reason why the rollouts cannot be read.
    End(Result<RolloutEnd, String>),
}

/// The end of the part of a rollout that was read.
#[derive(Default)]
pub(super) struct RolloutEnd {
    /// The place after the last line.
    pub(super) place: Place,
    /// The last bytes before the place.
    pub(super) tail: Vec<u8>,
    /// The number of a damaged compressed rollout, of which only the beginning could be read.
    pub(super) damaged_rollout: Option<usize>,
}

#[derive(Clone)]
pub(super) struct LineInBlock {
    /// The offset of the line in the rollout.
    offset: u64,
    /// The end of the line in [`LineBlock::bytes`].
    end: usize,
}

/// Complete lines of a rollout.
#[derive(Clone, Default)]
pub(super) struct LineBlock {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<LineInBlock>,
    /// The number of the rollout among the rollouts of the conversation.
    pub(super) rollout: usize,
    /// Texts from this offset on are skipped, because Codex does not show them. Requests after it still count.
    pub(super) shown_end: Option<u64>,
    /// The items that are messages of the user.
    pub(super) user_items: UserItems,
    /// The number of bytes of the rollout that were read for this block.
    pub(super) bytes_read: u64,
}

pub(super) struct ParsedBlock {
    pub(super) lines: Vec<ParsedLine>,
    /// The words of all texts of the lines, in order.
    pub(super) words: WordLists,
    /// See [`LineBlock::user_items`].
    pub(super) user_items: UserItems,
    /// See [`LineBlock::bytes_read`].
    pub(super) bytes_read: u64,
}

pub(super) struct ParsedLine {
    pub(super) place: Place,
    pub(super) items: LineItems,
    /// One element per item; `None` for an item without a text.
    pub(super) texts: Vec<Option<ParsedText>>,
}

pub(super) struct ParsedText {
    pub(super) role: Role,
    /// The index of the text in the block; `None` for a text without words.
    pub(super) index: Option<u32>,
}

/// Passes a step to the thread that writes the index. Returns false if that thread has failed.
pub(super) type SubmitStep<'a> = dyn Fn(IngestStep<LineBlock>) -> bool + 'a;

/// Reads the rollouts of a task. Returns false if `submit` did.
pub(super) fn read_rollouts(task: IngestTask, submit: &SubmitStep<'_>) -> Result<bool, IndexError> {
    let start_offset = task.unread_part.start_offset();
    // This check comes before the step `Begin`, which deletes the conversation's texts from the index.
    if start_offset.is_some()
        && let Err(e) = file_open::open(&task.candidate.path)
    {
        let step = IngestStep::Unreadable(Box::new(task), e.to_string());
        return Ok(submit(step));
    }

    // The number of the first rollout that is read.
    let first_rollout_number = task.newest_rollout_number - task.older_slices.len();
    let mut slices = task.older_slices.clone();
    slices.push(RolloutSlice::whole(&task.candidate.path));

    if !submit(IngestStep::Begin(Box::new(task))) {
        return Ok(false);
    }

    // Without an offset, only the shown fields of the conversation have changed.
    let Some(start_offset) = start_offset else {
        return Ok(true);
    };

    let end = match submit_slices(&slices, first_rollout_number, start_offset, submit) {
        Ok(Some(end)) => Ok(end),
        Ok(None) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(IndexError::Interrupted),
        Err(e) => Err(e.to_string()),
    };

    Ok(submit(IngestStep::End(end)))
}

/// Submits the lines of rollouts that continue each other. The first rollout has the number `first_rollout_number`.
/// `start_offset` is 0 if there are several rollouts. Returns `None` if `submit` returned false.
fn submit_slices(
    slices: &[RolloutSlice],
    first_rollout_number: usize,
    start_offset: u64,
    submit: &SubmitStep<'_>,
) -> io::Result<Option<RolloutEnd>> {
    let (mut end, mut damaged_rollout) = (None, None);
    for (rollout, slice) in (first_rollout_number..).zip(slices) {
        let block = LineBlock {
            rollout,
            shown_end: slice.end,
            ..LineBlock::default()
        };

        let mut lines = RawLines::open(&slice.path, start_offset)?;
        if !submit_lines(&mut lines, start_offset, block, slice, submit)? {
            return Ok(None);
        }

        if lines.ends_at_damage && damaged_rollout.is_none() {
            damaged_rollout = Some(rollout);
        }
        let offset = lines.end_offset();
        let tail = plan::read_tail(&slice.path, offset)?;
        let place = Place { rollout, offset };
        end = Some(RolloutEnd {
            place,
            tail,
            damaged_rollout,
        });
    }

    Ok(end)
}

/// Submits the lines of a rollout in blocks, each of which begins as a copy of `template`. Returns false if `submit`
/// did.
fn submit_lines(
    lines: &mut RawLines,
    start_offset: u64,
    mut template: LineBlock,
    slice: &RolloutSlice,
    submit: &SubmitStep<'_>,
) -> io::Result<bool> {
    let mut block = template.clone();
    let mut block_start = start_offset;
    // The first block of most rollouts shows which items are messages, so that nothing is read twice.
    let mut probe = UserItemsProbe::default();
    let mut user_items = None;

    while let Some(line) = lines.next_line()? {
        // The check looks only at the beginning of a line, so most bytes are neither copied nor parsed.
        if rollout_lines::may_have_parts(line.bytes, LineParts::INDEXED) {
            block.bytes.extend_from_slice(line.bytes);
            let (offset, end) = (line.offset, block.bytes.len());
            block.lines.push(LineInBlock { offset, end });
            if start_offset == 0 && slice.end.is_none_or(|slice_end| offset < slice_end) {
                probe.note_line(line.bytes);
            }
        }

        if block.bytes.len() >= BLOCK_BYTES {
            template.user_items = match user_items.or_else(|| probe.found()) {
                Some(found) => found,
                None => find_user_items(slice)?,
            };
            user_items = Some(template.user_items);
            block.user_items = template.user_items;
            block.bytes_read = lines.end_offset() - block_start;
            block_start = lines.end_offset();
            let full_block = std::mem::replace(&mut block, template.clone());
            if !submit(IngestStep::Lines(full_block)) {
                return Ok(false);
            }
        }
    }

    block.user_items = match user_items {
        Some(found) => found,
        None if start_offset == 0 => probe.finish(|| is_subagent(&slice.path)),
        None => find_user_items(slice)?,
    };
    block.bytes_read = lines.end_offset() - block_start;
    Ok(submit(IngestStep::Lines(block)))
}

pub(super) fn parse_step(step: IngestStep<LineBlock>) -> IngestStep<ParsedBlock> {
    match step {
        IngestStep::Begin(task) => IngestStep::Begin(task),
        IngestStep::Unreadable(task, reason) => IngestStep::Unreadable(task, reason),
        IngestStep::End(end) => IngestStep::End(end),
        IngestStep::Lines(block) => IngestStep::Lines(parse_block(&block)),
    }
}

fn parse_block(block: &LineBlock) -> ParsedBlock {
    let mut line_start = 0;
    let mut lines = Vec::new();
    let mut words = TextWords::with_block_capacity();

    for LineInBlock { offset, end } in &block.lines {
        let line = &block.bytes[line_start..*end];
        line_start = *end;
        let Some(mut items) = rollout_lines::parse(line, LineParts::INDEXED) else {
            continue;
        };

        // Codex does not show what follows the place of a rewind, but the requests there count.
        let is_hidden = block
            .shown_end
            .is_some_and(|shown_end| *offset >= shown_end);
        if is_hidden {
            items.items.retain(|item| item.kind.is_usage_event());
        }

        let texts = items.items.iter().map(|item| {
            let (role, text) = match &item.kind {
                // The writer knows whether a turn is open.
                EventKind::UserInput(text) if block.user_items != UserItems::None => {
                    (Role::User, &**text)
                }
                kind => kind.author_and_text()?,
            };
            let index = words.add_text(&searchable_part(&item.kind, text));
            Some(ParsedText { role, index })
        });
        let texts = texts.collect();
        lines.push(ParsedLine {
            place: Place {
                rollout: block.rollout,
                offset: *offset,
            },
            items,
            texts,
        });
    }

    ParsedBlock {
        lines,
        words: words.into_lists(),
        user_items: block.user_items,
        bytes_read: block.bytes_read,
    }
}

/// Returns the searchable part of a text: only the beginning of a tool output, and nothing of a call of
/// `codex-manager mcp` or its answer. Removes colours, because the last letter of their escape would join the next
/// word.
pub(crate) fn searchable_part<'a>(kind: &EventKind, text: &'a str) -> Cow<'a, str> {
    let part = match kind {
        _ if is_mcp_call_or_answer(kind) => "",
        EventKind::ToolOutput(_) => truncate_output(text),
        _ => text,
    };
    ansi::without_colors(part)
}
