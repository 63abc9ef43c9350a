//! The images in a line of a rollout.

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The kind of a part of a message or output that is an image.
const IMAGE_PART: &str = "input_image";

/// Returns the image URLs of a message or tool output, mostly data URLs. Other lines of a rollout, such as replaced
/// histories, have none.
pub(super) fn parse_image_urls(line: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        payload: Option<Payload>,
    }
    #[derive(Deserialize)]
    struct Payload {
        #[serde(default)]
        content: Parts,
        #[serde(default)]
        output: Parts,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Parts {
        List(Vec<Part>),
        Other(IgnoredAny),
    }
    impl Default for Parts {
        fn default() -> Self {
            Self::List(Vec::new())
        }
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default, rename = "type")]
        kind: String,
        #[serde(default)]
        image_url: Option<String>,
    }
    if memmem::find(line, IMAGE_PART.as_bytes()).is_none() {
        return Vec::new();
    }
    let payload = match serde_json::from_slice::<Line>(line) {
        // A line of Codex before 0.32 is the item itself.
        Ok(Line { payload: None, .. }) => serde_json::from_slice::<Payload>(line).ok(),
        Ok(Line { kind, payload }) if kind == "response_item" => payload,
        _ => None,
    };
    let Some(payload) = payload else {
        return Vec::new();
    };
    let parts = [payload.content, payload.output].into_iter();
    let parts = parts.flat_map(|parts| match parts {
        Parts::List(parts) => parts,
        Parts::Other(_) => Vec::new(),
    });
    parts
        .filter(|part| part.kind == IMAGE_PART)
        .filter_map(|part| part.image_url)
        .collect()
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
