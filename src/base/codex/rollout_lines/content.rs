//! The texts in messages, in commands of tools and in their outputs, in all forms in which Codex records them.

use super::line_parts::LineParts;
use crate::codex::user_request::is_image_mark;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The payload of a line, unparsed.
pub(super) struct PayloadText<'a> {
    pub(super) json: &'a str,
    /// The time of the line, unparsed.
    pub(super) timestamp: Option<&'a str>,
    pub(super) wanted: LineParts,
    /// False for lines of Codex before 0.32, which are payloads themselves.
    pub(super) has_envelope: bool,
}

impl PayloadText<'_> {
    /// Returns the type of the payload; `None` if it has none.
    pub(super) fn payload_type(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct PayloadType<'a> {
            #[serde(borrow, default, rename = "type")]
            kind: Option<Cow<'a, str>>,
        }
        let parsed: PayloadType<'_> = serde_json::from_str(self.json).ok()?;
        parsed.kind
    }
}

/// The texts by which Codex lists messages of only images or recordings.
const IMAGE: &str = "[Image]";
const AUDIO: &str = "[Audio]";

#[derive(Deserialize)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) text: Option<Cow<'a, str>>,
}

pub(super) fn join_user_texts(parts: &[ContentPart<'_>]) -> String {
    let has = |kinds: [&str; 3]| parts.iter().any(|part| kinds.contains(&&*part.kind));
    let has_image = has(["input_image", "image", "local_image"]);
    let has_audio = has(["input_audio", "audio", "local_audio"]);
    text_or_placeholder(join_texts(parts), has_image, has_audio)
}

/// Returns the text, or the placeholder for images or recordings if the text is blank and the message has any.
pub(super) fn text_or_placeholder(text: String, has_image: bool, has_audio: bool) -> String {
    match placeholder(has_image, has_audio) {
        Some(placeholder) if text.trim().is_empty() => placeholder.to_owned(),
        _ => text,
    }
}

/// Returns the text by which Codex lists a message of only images or recordings.
pub(crate) fn placeholder(has_image: bool, has_audio: bool) -> Option<&'static str> {
    match (has_image, has_audio) {
        (true, _) => Some(IMAGE),
        (false, true) => Some(AUDIO),
        (false, false) => None,
    }
}

/// Returns true for the text of a message of only images or recordings.
pub(crate) fn is_placeholder(text: &str) -> bool {
    matches!(text, IMAGE | AUDIO)
}

pub(super) fn join_texts(parts: &[ContentPart<'_>]) -> String {
    let texts: Vec<_> = parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .filter(|text| !is_image_mark(text))
        .collect();
    texts.join("\n")
}

/// Returns the text of an output in any form in which Codex records it; empty for other forms.
pub(super) fn extract_output(output: &RawValue) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Output<'a> {
        Text(String),
        Parts(#[serde(borrow)] Vec<ContentPart<'a>>),
        Object {
            output: Option<String>,
            content: Option<String>,
        },
        Other(IgnoredAny),
    }
    // JSON that a command printed may also have an `output`. Its other keys would be lost without
    // `deny_unknown_fields`.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped {
        output: String,
        #[serde(rename = "metadata")]
        _metadata: Option<IgnoredAny>,
    }

    match serde_json::from_str(output.get()) {
        Ok(Output::Text(text)) => {
            // Older versions put the output and its exit code into JSON within the string.
            if text.starts_with('{')
                && let Ok(Wrapped { output, .. }) = serde_json::from_str(&text)
            {
                return output;
            }
            text
        }
        Ok(Output::Parts(parts)) => {
            let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
            texts.join("\n")
        }
        Ok(Output::Object { output, content }) => output.or(content).unwrap_or_default(),
        Ok(Output::Other(_)) | Err(_) => String::new(),
    }
}

/// The elements that Codex removes from the event of an answer, but not from its item (0.128 to 0.146).
const REMOVED_FROM_EVENTS: [RemovedElement; 2] = [
    // With memories: the lines of the memory that the answer used.
    RemovedElement {
        start: "<oai-mem-citation>",
        end: "</oai-mem-citation>",
        has_text_for_user: false,
    },
    // In plan mode. Both marks are lines of their own.
    RemovedElement {
        start: "<proposed_plan>\n",
        end: "\n</proposed_plan>",
        has_text_for_user: true,
    },
];

struct RemovedElement {
    start: &'static str,
    end: &'static str,
    /// True if Codex shows the content, apart from the answer.
    has_text_for_user: bool,
}

/// Splits an answer into the text that its event has, and the removed texts for the user. Leaves out the other removed
/// elements. A mark without its counterpart is text.
pub(super) fn split_answer(answer: String) -> Vec<String> {
    let mut texts = vec![answer];
    for element in REMOVED_FROM_EVENTS {
        while let Some((before, rest)) = texts[0].split_once(element.start)
            && let Some((content, after)) = rest.split_once(element.end)
        {
            let content = content.trim().to_owned();
            texts[0] = format!("{before}{after}");
            if element.has_text_for_user {
                texts.push(content);
            }
        }
    }
    texts
}

/// A command as a list of words or as one string.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CommandLine {
    Words(Vec<String>),
    Line(String),
    Other(IgnoredAny),
}

impl CommandLine {
    /// Returns the command line, without a shell that only runs a script.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Words(mut words) => {
                // `bash -lc SCRIPT`: the user knows the script and not the shell. `grep -c` is another command.
                let runs_script = words.len() == 3
                    && words[0].trim_end_matches(".exe").ends_with("sh")
                    && matches!(&*words[1], "-lc" | "-c");
                if runs_script {
                    words.pop().unwrap_or_default()
                } else {
                    words.join(" ")
                }
            }
            Self::Line(line) => line,
            Self::Other(_) => String::new(),
        }
    }
}

/// The names of Codex's shell tools.
const SHELL_TOOLS: [&str; 5] = [
    "shell",
    "shell_command",
    "exec_command",
    "local_shell",
    "container.exec",
];

/// The arguments of Codex's shell tools beside the command (0.98 to 0.171). They say how the command runs.
const SHELL_OPTIONS: [&str; 14] = [
    "additional_permissions",
    "environment_id",
    "justification",
    "login",
    "max_output_tokens",
    "prefix_rule",
    "sandbox_permissions",
    "shell",
    "timeout",
    "timeout_ms",
    "tty",
    "with_escalated_permissions",
    "workdir",
    "yield_time_ms",
];

/// Returns the command in the JSON arguments of a shell tool. Returns other arguments unchanged: in those of another
/// tool, a `command` is only a part of what the tool does.
pub(super) fn extract_command(tool: &str, arguments: &str) -> String {
    if SHELL_TOOLS.contains(&tool)
        && let Some(command) = parse_shell_command(arguments)
    {
        return command;
    }
    arguments.to_owned()
}

/// Returns `None` if the arguments have no command, or a key that is neither the command nor in [`SHELL_OPTIONS`].
fn parse_shell_command(arguments: &str) -> Option<String> {
    let mut values: BTreeMap<String, &RawValue> = serde_json::from_str(arguments).ok()?;
    let command = values.remove("cmd").or_else(|| values.remove("command"))?;
    if !values.keys().all(|key| SHELL_OPTIONS.contains(&&**key)) {
        return None;
    }
    let command: CommandLine = serde_json::from_str(command.get()).ok()?;
    Some(command.into_text()).filter(|text| !text.is_empty())
}
