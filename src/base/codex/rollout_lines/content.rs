//! The texts in messages, in commands of tools and in their outputs, in all forms in which Codex records them.

use super::line_parts::LineParts;
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

/// Returns true for the texts that Codex 0.169 writes before and after an image. The `event_msg` of the same message
/// lacks these texts.
fn is_image_mark(text: &str) -> bool {
    let is_named_image = || text.starts_with("<image name=") && text.ends_with('>');
    matches!(text, "<image>" | "</image>") || is_named_image()
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

/// Returns true for texts that Codex inserts in the user's name: at the start of a conversation, for a goal, for a
/// command or a review of the user, and as a message of a subagent (0.42 to 0.171). In rollouts of Codex before 0.32,
/// such a text counts as input of the model; newer rollouts record the user's own messages as events. A name that was
/// derived from such a text counts as not given by the user.
pub(crate) fn is_injected(text: &str) -> bool {
    let text = text.trim_start();
    [
        "<environment_context>",
        "<user_instructions>",
        "<permissions instructions>",
        "<skills_instructions>",
        "# AGENTS.md instructions",
        "<codex_internal_context",
        "<user_shell_command>",
        "<user_action>",
        "<subagent_notification>",
        "<turn_aborted>",
        "Side conversation boundary.",
    ]
    .iter()
    .any(|prefix| text.starts_with(prefix))
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
