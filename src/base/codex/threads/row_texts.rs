//! The texts of a row, derived from the lines of a rollout as Codex 0.171 does.

use crate::codex::rollout_lines::placeholder;
use crate::codex::user_request::find_request_as_codex;
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// The number of bytes at the beginning of a line in which its kind is searched.
const KIND_BYTES: usize = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowTexts {
    /// The text of the first message that has one.
    pub title: Option<String>,
    /// The first message; `[Image]` or `[Audio]` if it has no text.
    pub first_message: Option<String>,
    /// The first message or goal. Codex's lists leave out conversations without a preview.
    pub preview: Option<String>,
}

impl RowTexts {
    pub(crate) fn add_line(&mut self, line: &[u8]) {
        // A first message sets the preview too.
        let is_complete = self.title.is_some() && self.first_message.is_some();
        if is_complete || !may_have_text(line) {
            return;
        }
        let parsed = serde_json::from_slice::<MessageLine<'_>>(line);
        let Some(payload) = parsed.ok().and_then(|line| line.payload) else {
            return;
        };

        match payload.kind.as_deref() {
            Some("user_message") => {
                let placeholder = payload.placeholder();
                self.add_message(payload.message, placeholder);
            }
            Some("item_completed") => {
                let Some(item) = payload.item else { return };
                if item.kind.as_deref() != Some("UserMessage") {
                    return;
                }
                let texts = item.content.iter().filter_map(|part| part.text.as_deref());
                let text: String = texts.collect();
                let placeholder = item.content.iter().find_map(MessagePart::placeholder);
                self.add_message(Some(text.into()), placeholder);
            }
            Some("thread_goal_updated") => {
                let objective = payload.goal.and_then(|goal| goal.objective);
                let objective = objective.as_deref().map(str::trim).unwrap_or_default();
                if self.preview.is_none() && !objective.is_empty() {
                    self.preview = Some(objective.to_owned());
                }
            }
            _ => {}
        }
    }

    fn add_message(&mut self, text: Option<Cow<'_, str>>, placeholder: Option<&str>) {
        let text = text.unwrap_or_default();
        let text = find_request_as_codex(&text);
        let text = Some(text).filter(|text| !text.is_empty());

        let Some(message) = text.or(placeholder) else {
            return;
        };
        if self.title.is_none() {
            self.title = text.map(str::to_owned);
        }
        self.first_message.get_or_insert_with(|| message.to_owned());
        self.preview.get_or_insert_with(|| message.to_owned());
    }
}

/// Returns false if the beginning of a line shows that the line has none of the texts.
fn may_have_text(line: &[u8]) -> bool {
    let beginning = &line[..line.len().min(KIND_BYTES)];
    let kinds = [
        "\"user_message\"",
        "\"UserMessage\"",
        "\"thread_goal_updated\"",
    ];
    let mut kinds = kinds.iter();
    kinds.any(|kind| memmem::find(beginning, kind.as_bytes()).is_some())
}

#[derive(Deserialize)]
struct MessageLine<'a> {
    #[serde(borrow, default)]
    payload: Option<MessagePayload<'a>>,
}

#[derive(Deserialize)]
struct MessagePayload<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    images: Option<Vec<IgnoredAny>>,
    local_images: Option<Vec<IgnoredAny>>,
    audio: Option<Vec<IgnoredAny>>,
    local_audio: Option<Vec<IgnoredAny>>,
    #[serde(borrow, default)]
    item: Option<CompletedMessage<'a>>,
    #[serde(borrow, default)]
    goal: Option<GoalRecord<'a>>,
}

impl MessagePayload<'_> {
    /// Returns the text that Codex shows for a `user_message` of images or recordings alone. `None` if it has neither.
    fn placeholder(&self) -> Option<&'static str> {
        let has_any = |lists: [&Option<Vec<IgnoredAny>>; 2]| {
            let mut lists = lists.into_iter().flatten();
            lists.any(|list| !list.is_empty())
        };
        placeholder(
            has_any([&self.images, &self.local_images]),
            has_any([&self.audio, &self.local_audio]),
        )
    }
}

#[derive(Deserialize)]
struct CompletedMessage<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Vec<MessagePart<'a>>,
}

#[derive(Deserialize)]
struct MessagePart<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl MessagePart<'_> {
    fn placeholder(&self) -> Option<&'static str> {
        let kind = self.kind.as_deref()?;
        let is_image = matches!(kind, "image" | "local_image");
        placeholder(is_image, matches!(kind, "audio" | "local_audio"))
    }
}

#[derive(Deserialize)]
struct GoalRecord<'a> {
    #[serde(borrow, default)]
    objective: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const IMAGE: &str = "[Image]";
    const AUDIO: &str = "[Audio]";

    /// Returns the title, the first message and the preview.
    fn texts(payloads: &[Value]) -> [String; 3] {
        let mut texts = RowTexts::default();
        for payload in payloads {
            let line = json!({"timestamp": "2026-11-20T10:00:00Z", "type": "event_msg", "payload": payload});
            texts.add_line(line.to_string().as_bytes());
        }
        [texts.title, texts.first_message, texts.preview].map(Option::unwrap_or_default)
    }

    /// The expected values are those of the rows that Codex 0.171 made of these lines.
    #[test]
    fn the_texts_of_a_row_are_those_that_codex_records() {
        let message = |text: &str| json!({"type": "user_message", "message": text});
        let media = |key: &str| json!({"type": "user_message", "message": "", key: ["data:x"]});
        let item = |content: Value| {
            json!({"type": "item_completed", "thread_id": "x",
                   "item": {"type": "UserMessage", "id": "i", "content": content}})
        };
        let text = |text: &str| json!({"type": "text", "text": text, "text_elements": []});
        let image = || json!({"type": "image", "image_url": "data:x"});
        let goal = |text: &str| json!({"type": "thread_goal_updated", "threadId": "x", "goal": {"objective": text}});

        let same = |text: &str| [text, text, text].map(str::to_owned);
        let own = |texts: [&str; 3]| texts.map(str::to_owned);
        for (payloads, expected) in [
            (vec![message("\n  hi \n"), message("later")], same("hi")),
            (vec![message("  "), message("real")], same("real")),
            (
                vec![message("state\n## My request for Codex:\n do it \n more")],
                same("do it \n more"),
            ),
            (vec![media("images")], own(["", IMAGE, IMAGE])),
            (
                vec![media("local_images"), message("text")],
                own(["text", IMAGE, IMAGE]),
            ),
            (vec![media("audio")], own(["", AUDIO, AUDIO])),
            (vec![media("local_audio")], own(["", AUDIO, AUDIO])),
            (
                vec![json!({"type": "user_message", "message": "", "images": []})],
                same(""),
            ),
            (
                vec![item(json!([text("look"), image(), text("here")]))],
                same("lookhere"),
            ),
            (
                vec![item(json!([text("  "), image()]))],
                own(["", IMAGE, IMAGE]),
            ),
            (
                vec![
                    item(json!([{"type": "local_image", "path": "/x"}])),
                    item(json!([text("then")])),
                ],
                own(["then", IMAGE, IMAGE]),
            ),
            (
                vec![item(json!([{"type": "audio"}]))],
                own(["", AUDIO, AUDIO]),
            ),
            (
                vec![item(json!([{"type": "skill", "name": "x"}]))],
                same(""),
            ),
            (
                vec![goal("fast\nand small")],
                own(["", "", "fast\nand small"]),
            ),
            (
                vec![goal("first"), goal("second"), message("then")],
                own(["then", "then", "first"]),
            ),
            (vec![message("text"), goal("goal")], same("text")),
            (
                vec![json!({"type": "agent_message", "message": "\"user_message\""})],
                same(""),
            ),
        ] {
            assert_eq!(texts(&payloads), expected, "{payloads:?}");
        }
    }
}
