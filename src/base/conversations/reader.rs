//! Reads the events of a rollout one after another, in bounded memory.
//!
//! Damaged lines are skipped and counted, and so are lines longer than
//! [`MAX_LINE_BYTES`](crate::history::lines::MAX_LINE_BYTES).
//! An incomplete last line is not consumed, because Codex may still be writing it.

use super::left_out::LeftOut;
use super::raw_lines::{RawLine, RawLines};
use super::reader_state::ReaderState;
use crate::codex::rollout_lines::{
    self, EventKind, LineParts, RolloutEvent, UserItems, UserItemsProbe,
};
use crate::history::rollout;
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use memchr::memmem;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reads the events of one rollout, or of several rollouts that continue each other.
pub struct EventReader {
    lines: RawLines,
    path: PathBuf,
    /// The offset at which the slice of the current rollout ends.
    slice_end: Option<u64>,
    next_slices: VecDeque<RolloutSlice>,
    /// The byte ranges of rolled-back turns in the current rollout. Of these turns, only usage events are returned.
    rolled_back_ranges: Vec<Range<u64>>,
    pub left_out: LeftOut,
    queue: LineEvents,
}

/// Converts lines to events, and keeps these until the reader returns them.
struct LineEvents {
    selection: LineParts,
    state: ReaderState,
    events: VecDeque<RolloutEvent>,
    /// The images of the user's next message, which are in a line before its event.
    waiting_images: Vec<RolloutEvent>,
}

impl EventReader {
    /// Opens a plain or compressed rollout.
    pub(crate) fn open(path: &Path, selection: LineParts) -> io::Result<Self> {
        Self::open_all(&[RolloutSlice::whole(path)], selection)
    }

    /// Opens several rollouts, in which each one continues the previous one. Turns are counted through all of them.
    ///
    /// # Errors
    /// The first rollout cannot be read, there is none ([`io::ErrorKind::NotFound`]), or the user interrupts.
    pub fn open_all(slices: &[RolloutSlice], selection: LineParts) -> io::Result<Self> {
        let (first, next_slices) = slices.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut reader = Self::open_at(&first.path, 0, selection)?;
        reader.queue.state.user_items = find_user_items(first)?;
        reader.slice_end = first.end;
        reader.rolled_back_ranges = find_rolled_back_ranges(first)?;
        reader.next_slices = next_slices.iter().cloned().collect();
        Ok(reader)
    }

    /// Opens a rollout at an offset of its uncompressed text. A partial line at the offset is skipped. Turns are
    /// counted from the offset on, and rolled-back turns are not left out.
    pub(crate) fn open_at(
        path: &Path,
        start_offset: u64,
        selection: LineParts,
    ) -> io::Result<Self> {
        Ok(Self {
            lines: RawLines::open(path, start_offset)?,
            path: path.to_owned(),
            slice_end: None,
            next_slices: VecDeque::new(),
            rolled_back_ranges: Vec::new(),
            left_out: LeftOut::default(),
            queue: LineEvents {
                selection,
                state: ReaderState::default(),
                events: VecDeque::new(),
                waiting_images: Vec::new(),
            },
        })
    }

    /// Like [`Self::open_at`], for a rollout that may have messages of the user as items only.
    pub(crate) fn open_tail(
        path: &Path,
        start_offset: u64,
        selection: LineParts,
    ) -> io::Result<Self> {
        let mut reader = Self::open_at(path, start_offset, selection)?;
        reader.queue.state.user_items = find_user_items(&RolloutSlice::whole(path))?;
        Ok(reader)
    }

    /// Returns the next event, or `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
    pub fn next_event(&mut self) -> io::Result<Option<RolloutEvent>> {
        loop {
            if let Some(event) = self.queue.events.pop_front() {
                return Ok(Some(event));
            }

            // The next rollout continues this one from the end of the slice, so Codex hides the lines after that end.
            if let Some(line) = self.lines.next_line()?
                && self.slice_end.is_none_or(|end| line.offset < end)
            {
                let mut ranges = self.rolled_back_ranges.iter();
                let is_rolled_back = ranges.any(|range| range.contains(&line.offset));
                self.queue
                    .add_line(line, is_rolled_back, &mut self.left_out);
                continue;
            }
            if self.lines.ends_at_damage {
                self.left_out.add_damaged_rollout(&self.path);
            }
            if !self.queue.waiting_images.is_empty() {
                // The message of these images never followed.
                self.queue.release_images();
            } else if let Some(next_slice) = self.next_slices.pop_front() {
                self.lines = RawLines::open(&next_slice.path, 0)?;
                self.queue.state.user_items = find_user_items(&next_slice)?;
                self.slice_end = next_slice.end;
                self.rolled_back_ranges = find_rolled_back_ranges(&next_slice)?;
                self.path = next_slice.path;
            } else {
                return Ok(None);
            }
        }
    }
}

impl LineEvents {
    fn add_line(&mut self, line: RawLine<'_>, is_rolled_back: bool, left_out: &mut LeftOut) {
        let offset = line.offset;
        let content = rollout_lines::parse_wanted(line.bytes, self.selection);
        left_out.long_lines += usize::from(line.is_too_long);
        left_out.damaged_lines += usize::from(line.is_damaged(&content) && !is_rolled_back);
        let items = content.into_items().unwrap_or_default();
        let at = items.at;
        let call_id = items.items.first().and_then(|item| item.call_id.clone());
        // If the user wrote the model's input, the event of the message follows in a later line.
        let mut kinds = items.items.iter().map(|item| &item.kind);
        let is_input = |kind: &_| matches!(kind, EventKind::ModelInput | EventKind::UserInput(_));
        let mut is_before_message = kinds.any(is_input);
        for event in self.state.convert_line(items, offset).into_iter().flatten() {
            if let EventKind::User(_) = event.kind {
                is_before_message = false;
            }
            self.add_event(event, is_rolled_back);
        }

        if self.selection == LineParts::TEXTS_AND_IMAGES && !is_rolled_back {
            self.add_images(line, at, call_id.as_deref(), is_before_message);
        }
    }

    fn add_images(
        &mut self,
        line: RawLine<'_>,
        at: Option<DateTime<Utc>>,
        call_id: Option<&str>,
        wait_for_message: bool,
    ) {
        let turn = self.state.turns.turns;
        let image_event = |url| RolloutEvent {
            turn,
            at,
            offset: line.offset,
            call_id: call_id.map(str::to_owned),
            kind: EventKind::Image(url),
        };
        let images = parse_image_urls(line.bytes).into_iter().map(image_event);
        if wait_for_message {
            self.release_images();
            self.waiting_images = images.collect();
        } else {
            self.events.extend(images);
        }
    }

    fn add_event(&mut self, event: RolloutEvent, is_rolled_back: bool) {
        match event.kind {
            // The waiting images belong to this message, so they share its turn, and are dropped with it.
            EventKind::User(_) => {
                let (turn, images) = (event.turn, mem::take(&mut self.waiting_images));
                if !is_rolled_back {
                    self.events.push_back(event);
                    let images = images.into_iter();
                    self.events
                        .extend(images.map(|image| RolloutEvent { turn, ..image }));
                }
            }
            EventKind::ModelInput | EventKind::UserInput(_) => {}
            _ => {
                // No message of the user follows, so the images are events of their own.
                if event.kind.author_and_text().is_some() {
                    self.release_images();
                }
                if !is_rolled_back || event.kind.is_usage_event() {
                    self.events.push_back(event);
                }
            }
        }
    }

    fn release_images(&mut self) {
        self.events.extend(self.waiting_images.drain(..));
    }
}

/// The `type` of an image among the parts of a message or a tool output.
const IMAGE_PART: &str = "input_image";

/// Returns the URLs of the images in a message or tool output. Most of them are data URLs. Ignores images in other
/// lines of a rollout, such as replaced histories, because these repeat images.
fn parse_image_urls(line: &[u8]) -> Vec<String> {
    if memmem::find(line, IMAGE_PART.as_bytes()).is_none() {
        return Vec::new();
    }

    // Damaged JSON becomes null, which has no parts.
    let record: Value = serde_json::from_slice(line).unwrap_or_default();
    let payload = match &record["payload"] {
        // Before Codex 0.32, a line was the item itself, without a payload.
        Value::Null => &record,
        payload if record["type"] == "response_item" => payload,
        _ => return Vec::new(),
    };

    let list_keys = ["content", "output"].iter();
    let part_lists = list_keys.filter_map(|key| payload[key].as_array());
    let parts = part_lists.flatten();
    let images = parts.filter(|part| part["type"] == IMAGE_PART);
    let urls = images.filter_map(|image| image["image_url"].as_str());
    urls.map(str::to_owned).collect()
}

/// Returns the ranges of rolled-back turns, as offsets in the uncompressed text of the rollout.
///
/// When the user rolls back turns, Codex up to 0.150 leaves them in the rollout, and writes `thread_rolled_back` after
/// them. Newer versions do the same for legacy conversations. For other conversations Codex 0.169 begins a new rollout
/// (`history_base`). When Codex migrates a rollout, it drops rolled-back turns.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
fn find_rolled_back_ranges(slice: &RolloutSlice) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    // Nearly no rollout has a rollback, and looking for one is much cheaper than parsing all messages.
    if !has_rollback(slice)? {
        return Ok(ranges);
    }

    let mut state = ReaderState::new(find_user_items(slice)?);
    let mut turn_starts: Vec<u64> = Vec::new();
    let mut lines = RawLines::open(&slice.path, 0)?;
    while let Some(line) = next_line_of_slice(slice, &mut lines)? {
        let items = rollout_lines::parse(line.bytes, LineParts::TEXTS).unwrap_or_default();
        for event in state.convert_line(items, line.offset).into_iter().flatten() {
            // After a rollback, `event.turn` is the number of turns that are left.
            let turns = event.turn as usize;
            if let EventKind::RolledBack(_) = event.kind {
                if let Some(first_removed) = turn_starts.get(turns) {
                    ranges.push(*first_removed..line.offset);
                }
                turn_starts.truncate(turns);
            } else if turns > turn_starts.len() {
                turn_starts.push(line.offset);
            }
        }
    }
    Ok(ranges)
}

/// Returns the items that are messages of the user. Reads the rollout up to the first event of a message, which nearly all
/// rollouts have in their first lines.
pub(super) fn find_user_items(slice: &RolloutSlice) -> io::Result<UserItems> {
    let mut probe = UserItemsProbe::default();
    let mut lines = RawLines::open(&slice.path, 0)?;
    while probe.found().is_none()
        && let Some(line) = next_line_of_slice(slice, &mut lines)?
    {
        probe.note_line(line.bytes);
    }
    Ok(probe.finish(|| is_subagent(&slice.path)))
}

/// Returns true if the metadata of a rollout can be read, and name a subagent.
pub(super) fn is_subagent(path: &Path) -> bool {
    rollout::read_head(path).is_ok_and(|head| head.is_some_and(|head| head.is_subagent()))
}

fn has_rollback(slice: &RolloutSlice) -> io::Result<bool> {
    let mut lines = RawLines::open(&slice.path, 0)?;
    while let Some(line) = next_line_of_slice(slice, &mut lines)? {
        if rollout_lines::may_have_parts(line.bytes, LineParts::ROLLBACKS) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the next line, or `None` at the end of the slice.
fn next_line_of_slice<'a>(
    slice: &RolloutSlice,
    lines: &'a mut RawLines,
) -> io::Result<Option<RawLine<'a>>> {
    let is_in_slice = |line: &RawLine| slice.end.is_none_or(|end| line.offset < end);
    Ok(lines.next_line()?.filter(is_in_slice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn events(text: &[u8], name: &str) -> Vec<RolloutEvent> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS).unwrap();
        std::iter::from_fn(|| reader.next_event().unwrap()).collect()
    }

    fn joined(lines: &[Value]) -> String {
        let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
        lines.join("\n") + "\n"
    }

    fn texts(lines: &[Value]) -> Vec<(u32, String)> {
        let text = joined(lines);
        let events = events(text.as_bytes(), "rollout.jsonl");
        let texts = events.iter().filter_map(|event| {
            let (_, text) = event.kind.author_and_text()?;
            Some((event.turn, text.to_owned()))
        });
        texts.collect()
    }

    fn of(pairs: &[(u32, &str)]) -> Vec<(u32, String)> {
        let owned = pairs.iter().map(|(turn, text)| (*turn, (*text).to_owned()));
        owned.collect()
    }

    fn event(payload: &Value) -> Value {
        json!({"timestamp": "2026-11-20T06:00:00Z", "type": "event_msg", "payload": payload})
    }

    fn item(payload: &Value) -> Value {
        json!({"timestamp": "2026-11-20T06:00:00Z", "type": "response_item", "payload": payload})
    }

    fn message(role: &str, text: &str) -> Value {
        item(&json!({"type": "message", "role": role, "content": [{"type": "x", "text": text}]}))
    }

    fn completed(kind: &str, text: &str) -> Value {
        event(&json!({"type": "item_completed", "item":
            {"type": kind, "content": [{"type": "text", "text": text}]}}))
    }

    #[test]
    fn each_text_is_returned_once_however_often_it_is_recorded() {
        let old = [
            message("user", "continue"),
            event(&json!({"type": "user_message", "message": "continue\n"})),
            event(&json!({"type": "agent_message", "message": "Done."})),
            message("assistant", "Done."),
            message("user", "continue"),
            event(&json!({"type": "user_message", "message": "continue"})),
            message("assistant", "Done."),
            event(&json!({"type": "agent_message", "message": "Done."})),
        ];
        let of_events = of(&[
            (1, "continue\n"),
            (1, "Done."),
            (2, "continue"),
            (2, "Done."),
        ]);
        assert_eq!(texts(&old), of_events);
        let new = [
            message("user", "continue"),
            completed("UserMessage", "continue"),
            completed("AgentMessage", "Done."),
            message("assistant", "Done."),
            message("user", "continue"),
            completed("UserMessage", "continue"),
            completed("AgentMessage", "Done."),
            message("assistant", "Done."),
        ];
        let expected = of(&[(1, "continue"), (1, "Done."), (2, "continue"), (2, "Done.")]);
        assert_eq!(texts(&new), expected);
    }

    #[test]
    fn an_image_of_a_message_that_was_taken_back_is_left_out() {
        let with_image = |url: &str| {
            let part = json!({"type": "input_image", "image_url": url});
            item(&json!({"type": "message", "role": "user", "content": [part]}))
        };
        let lines = [
            with_image("data:back"),
            user_event("look"),
            message("assistant", "A dot."),
            event(&json!({"type": "thread_rolled_back", "num_turns": 1})),
            // Of a tool: no message of the user follows.
            with_image("data:tool"),
            message("assistant", "A line."),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        std::fs::write(&path, joined(&lines)).unwrap();
        let slice = RolloutSlice::whole(&path);
        let mut reader = EventReader::open_all(&[slice], LineParts::TEXTS_AND_IMAGES).unwrap();
        let events = std::iter::from_fn(|| reader.next_event().unwrap());
        let shown: Vec<_> = events
            .map(|event| event.kind)
            .filter(|kind| !matches!(kind, EventKind::RolledBack(_)))
            .collect();
        assert_eq!(
            shown,
            [
                EventKind::Image("data:tool".into()),
                EventKind::Assistant("A line.".into())
            ]
        );
    }

    #[test]
    fn a_message_with_an_image_is_returned_once_with_its_image() {
        let with_image = item(&json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "<image name=[Image #1] path=\"/a.png\">"},
            {"type": "input_image", "image_url": "data:x"},
            {"type": "input_text", "text": "</image>"},
            {"type": "input_text", "text": "What is this?"}]}));
        let lines = [
            with_image,
            event(&json!({"type": "user_message", "message": "What is this?", "images": []})),
            message("assistant", "A dot."),
        ];
        assert_eq!(texts(&lines), of(&[(1, "What is this?"), (1, "A dot.")]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        std::fs::write(&path, joined(&lines)).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS_AND_IMAGES).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| reader.next_event().unwrap()).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[1].kind, EventKind::Image("data:x".into()));
        assert_eq!(events[1].turn, 1);
    }

    fn user_event(text: &str) -> Value {
        event(&json!({"type": "user_message", "message": text}))
    }

    fn event_of_kind(kind: &str) -> Value {
        event(&json!({"type": kind}))
    }

    #[test]
    fn a_message_of_only_an_image_begins_a_turn_in_all_forms() {
        let image = item(&json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "<image name=[Image #1]>"},
            {"type": "input_image", "image_url": "data:x"}, {"type": "input_text", "text": "</image>"}]}));
        let old = event(&json!({"type": "user_message", "message": "", "images": ["data:x"]}));
        let local =
            event(&json!({"type": "user_message", "message": "", "local_images": ["/a.png"]}));
        let new = event(&json!({"type": "item_completed", "item":
            {"type": "UserMessage", "content": [{"type": "local_image", "path": "/a.png"}]}}));
        for forms in [
            vec![image.clone(), old],
            vec![image.clone(), local],
            vec![image["payload"].clone()],
            vec![image, new],
        ] {
            let mut lines = vec![user_event("Hello"), message("assistant", "Hi.")];
            lines.extend(forms.clone());
            lines.push(message("assistant", "A dot."));
            let expected = of(&[(1, "Hello"), (1, "Hi."), (2, "[Image]"), (2, "A dot.")]);
            assert_eq!(texts(&lines), expected, "{forms:?}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rollout.jsonl");
            std::fs::write(&path, joined(&lines)).unwrap();
            let mut reader = EventReader::open(&path, LineParts::TEXTS_AND_IMAGES).unwrap();
            let events = std::iter::from_fn(|| reader.next_event().unwrap());
            let mut shown = events.skip(2);
            let [text, image] = [shown.next().unwrap(), shown.next().unwrap()];
            assert_eq!(
                (text.turn, text.kind),
                (2, EventKind::User("[Image]".into()))
            );
            assert_eq!(
                (image.turn, image.kind),
                (2, EventKind::Image("data:x".into()))
            );
        }
    }

    #[test]
    fn a_turn_begins_at_its_event_or_in_old_rollouts_at_each_message() {
        let lines = [
            user_event("old"),
            event_of_kind("task_started"),
            message("assistant", "of a goal"),
            event_of_kind("task_complete"),
            event_of_kind("task_started"),
            message("user", "inserted"),
            completed("UserMessage", "new"),
            completed("UserMessage", "steered"),
            event_of_kind("turn_aborted"),
            user_event("old again"),
        ];
        let expected = of(&[
            (1, "old"),
            (2, "of a goal"),
            (3, "new"),
            (3, "steered"),
            (4, "old again"),
        ]);
        assert_eq!(texts(&lines), expected);
    }

    #[test]
    fn texts_without_an_event_are_not_the_users_words_except_before_0_32() {
        let lines = [
            message("user", "<environment_context>x"),
            message("user", "apples"),
            user_event("apples"),
            message("user", "a text of an unknown feature"),
            message("assistant", "Seven."),
            message("user", "plums"),
            user_event("plums"),
        ];
        assert_eq!(
            texts(&lines),
            of(&[(1, "apples"), (1, "Seven."), (2, "plums")])
        );
        let of_0_20 = ["apples", "plums"].map(|text| message("user", text)["payload"].clone());
        assert_eq!(texts(&of_0_20), of(&[(1, "apples"), (2, "plums")]));
    }

    #[test]
    fn a_rolled_back_turn_is_left_out_from_where_codex_began_it() {
        let turn = |text: &str| {
            [
                event_of_kind("task_started"),
                message("user", text),
                user_event(text),
                event_of_kind("task_complete"),
            ]
        };
        let back = event(&json!({"type": "thread_rolled_back", "num_turns": 1}));
        let lines = [&turn("apples")[..], &turn("plums"), &[back], &turn("pears")].concat();
        assert_eq!(texts(&lines), of(&[(1, "apples"), (2, "pears")]));
    }

    #[test]
    fn a_completed_command_is_left_out_if_a_tool_call_has_its_id() {
        let call = |id: &str| {
            item(
                &json!({"type": "function_call", "name": "exec_command", "call_id": id,
                "arguments": "{\"cmd\":\"ls\"}"}),
            )
        };
        let done = |id: &str| {
            event(
                &json!({"type": "item_completed", "item": {"type": "CommandExecution", "id": id,
                "command": ["ls"], "aggregated_output": "x"}}),
            )
        };
        assert_eq!(texts(&[call("1"), done("1")]), of(&[(0, "ls")]));
        assert_eq!(
            texts(&[call("1"), done("2")]),
            of(&[(0, "ls"), (0, "ls"), (0, "x")])
        );
    }

    #[test]
    fn a_stored_state_recognizes_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        let lines = [message("user", "go"), message("assistant", "Done.")];
        let text = joined(&lines);
        std::fs::write(&path, text).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS).unwrap();
        while reader.next_event().unwrap().is_some() {}
        let stored = reader.queue.state.to_bytes();
        let mut state = ReaderState::from_bytes(&stored);
        state.user_items = reader.queue.state.user_items;
        assert_eq!(state, reader.queue.state);
        let copy = completed("AgentMessage", "Done.").to_string();
        let copy = rollout_lines::parse(copy.as_bytes(), LineParts::TEXTS).unwrap();
        assert_eq!(state.convert_line(copy, 0), [None]);
        assert_eq!(
            ReaderState::from_bytes(&stored[..7]),
            ReaderState::default()
        );
    }

    #[test]
    fn a_last_line_without_a_newline_is_consumed_only_if_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        let (first, second) = (message("assistant", "one"), message("assistant", "two"));
        let torn = &second.to_string()[..40];
        std::fs::write(&path, format!("{first}\n{torn}\n{second}\n{torn}")).unwrap();
        let mut lines = RawLines::open(&path, 0).unwrap();
        let mut count = 0;
        while lines.next_line().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
        let len = path.metadata().unwrap().len();
        assert_eq!(lines.end_offset(), len - 40);
        std::fs::write(&path, format!("{first}\n{second}")).unwrap();
        let mut lines = RawLines::open(&path, 0).unwrap();
        while lines.next_line().unwrap().is_some() {}
        assert_eq!(lines.end_offset(), path.metadata().unwrap().len());
    }

    #[test]
    fn images_of_messages_and_outputs_are_found() {
        let message = r#"{"type":"response_item","payload":{"type":"message","role":"user","content":[
            {"type":"input_text","text":"x"},{"type":"input_image","image_url":"data:a","detail":"auto"}]}}"#;
        assert_eq!(parse_image_urls(message.as_bytes()), ["data:a"]);
        let output = r#"{"type":"response_item","payload":{"type":"function_call_output","call_id":"c",
            "output":[{"type":"input_image","image_url":"data:b"},{"type":"input_image"}]}}"#;
        assert_eq!(parse_image_urls(output.as_bytes()), ["data:b"]);
        for none in [
            r#"{"type":"response_item","payload":{"type":"message","content":"input_image"}}"#,
            r#"{"type":"compacted","payload":{"content":[{"type":"input_image","image_url":"data:a"}]}}"#,
            r#"{"type":"input_image""#,
        ] {
            assert!(parse_image_urls(none.as_bytes()).is_empty(), "{none}");
        }
    }
}
