//! Finds the images in a line of a rollout.

use memchr::memmem;
use serde_json::Value;

/// The `type` of an image among the parts of a message or a tool output.
const IMAGE_PART: &str = "input_image";

/// Returns the URLs of the images in a message or tool output. Most of them are data URLs. Ignores images in other
/// lines of a rollout, such as replaced histories, because these repeat images.
pub(super) fn parse_image_urls(line: &[u8]) -> Vec<String> {
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

    let part_lists = ["content", "output"].iter();
    let part_lists = part_lists.filter_map(|key| payload[key].as_array());
    let parts = part_lists.flatten();
    let images = parts.filter(|part| part["type"] == IMAGE_PART);
    let urls = images.filter_map(|image| image["image_url"].as_str());
    urls.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
