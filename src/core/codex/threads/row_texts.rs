//! The texts of a row, derived from the lines of a rollout as Codex 0.171 does.

use crate::codex::rollout_lines::placeholder;
use memchr::memmem;
use serde_json::Value;

/// The number of bytes at the beginning of a line in which its kind is searched.
const KIND_BYTES: usize = 1024;

/// A client that sends its state with a message separates both with this heading.
const MESSAGE_HEADING: &str = "## My request for Codex:";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowTexts {
    /// The text of the first message that has one.
    pub title: Option<String>,
    /// The first message; `[Image]` or `[Audio]` for one without text.
    pub first_message: Option<String>,
    /// The first message or goal. Codex's lists leave out conversations without a preview.
    pub preview: Option<String>,
}

impl RowTexts {
    /// Evaluates the next line of the rollout.
    pub(crate) fn add_line(&mut self, line: &[u8]) {
        let is_complete = self.title.is_some() && self.first_message.is_some();
        if is_complete || !may_have_text(line) {
            return;
        }
        // Damaged JSON becomes null, which has no payload.
        let line: Value = serde_json::from_slice(line).unwrap_or_default();
        let payload = &line["payload"];
        match payload["type"].as_str() {
            Some("user_message") => {
                let has_any = |lists: [&str; 2]| {
                    let mut lists = lists.iter().filter_map(|key| payload[key].as_array());
                    lists.any(|list| !list.is_empty())
                };
                let placeholder = placeholder(
                    has_any(["images", "local_images"]),
                    has_any(["audio", "local_audio"]),
                );
                let text = payload["message"].as_str().unwrap_or_default();
                self.add_message(text, placeholder);
            }
            Some("item_completed") if payload["item"]["type"] == "UserMessage" => {
                let parts = payload["item"]["content"].as_array();
                let mut parts = parts.into_iter().flatten();
                let texts = parts.clone().filter_map(|part| part["text"].as_str());
                let text: String = texts.collect();
                let placeholder = parts.find_map(|part| {
                    let kind = part["type"].as_str()?;
                    let is_image = matches!(kind, "image" | "local_image");
                    placeholder(is_image, matches!(kind, "audio" | "local_audio"))
                });
                self.add_message(&text, placeholder);
            }
            Some("thread_goal_updated") => {
                let objective = payload["goal"]["objective"].as_str().map(str::trim);
                let objective = objective.filter(|objective| !objective.is_empty());
                if self.preview.is_none() {
                    self.preview = objective.map(str::to_owned);
                }
            }
            _ => {}
        }
    }

    fn add_message(&mut self, text: &str, placeholder: Option<&str>) {
        let message = text.split_once(MESSAGE_HEADING);
        let text = message.map_or(text, |(_, message)| message).trim();
        let text = Some(text).filter(|text| !text.is_empty());

        let Some(shown) = text.or(placeholder) else {
            return;
        };
        if self.title.is_none() {
            self.title = text.map(str::to_owned);
        }
        self.first_message.get_or_insert_with(|| shown.to_owned());
        self.preview.get_or_insert_with(|| shown.to_owned());
    }
}

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
    fn the_texts_are_those_of_codex() {
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
