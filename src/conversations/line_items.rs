//! Parses one line of a rollout into its items.
//!
//! Codex records the same text up to three times: as the item that the model gets, as an event of older
//! versions, and as a completed item of newer ones. All of them are returned here, with their origin;
//! [`super::reader`] drops the copies. Fields are optional, because they differ between versions.

use super::event::{EventKind, EventSelection, TokenEvent, TokenUsage, TurnContext};
use crate::codex::token_count;
use crate::history::rfc3339;
use crate::history::rollout::{Envelope, is_injected};
use chrono::{DateTime, Utc};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The form in which Codex recorded an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A `response_item`: what the model got or wrote.
    Item = 0,
    /// An `event_msg` of older versions.
    Event = 1,
    /// An `item_completed` event of newer versions (0.169).
    Completed = 2,
}

/// An item of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LineItem {
    /// The form of the item.
    pub origin: Origin,
    /// The id that a tool call shares with its output and its completed item.
    pub call_id: Option<String>,
    /// The kind with its content.
    pub kind: EventKind,
}

/// The items of a line, and its time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LineItems {
    pub at: Option<DateTime<Utc>>,
    pub items: Vec<LineItem>,
}

#[derive(Deserialize)]
struct AnyLine<'a> {
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PayloadType<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
}

/// Returns false if a line surely has no item of `selection`. Looks only at its beginning.
pub(super) fn may_have_items(line: &[u8], selection: EventSelection) -> bool {
    let Some(envelope) = Envelope::of(line) else {
        return !line.is_empty();
    };
    match (envelope.kind, envelope.payload()) {
        (b"response_item" | b"event_msg", Some((payload, _))) => {
            is_selected(envelope.kind, payload, selection)
        }
        (kind, _) => is_selected(kind, b"message", selection) || kind == b"event_msg",
    }
}

/// Parses a line. Returns `None` if it has no item of `selection`, or is damaged.
pub(super) fn parse(line: &[u8], selection: EventSelection) -> Option<LineItems> {
    if !may_have_items(line, selection) {
        return None;
    }
    // A torn line may have invalid UTF-8 in the middle of a message; it is not JSON then either.
    let text = std::str::from_utf8(line).ok()?;
    let parsed: AnyLine<'_> = serde_json::from_str(text).ok()?;
    let payload = parsed.payload?.get();
    let kind = parsed.kind?;
    let at = parsed.timestamp.as_deref().and_then(rfc3339::instant);
    let items = match &*kind {
        "response_item" => response_item(payload),
        "event_msg" => event(payload, line, selection),
        "compacted" => vec![compaction(payload)],
        "turn_context" if selection == EventSelection::All => turn_context(payload),
        _ => Vec::new(),
    };
    (!items.is_empty()).then_some(LineItems { at, items })
}

/// Returns false for kinds of lines that surely have no item.
fn is_selected(kind: &[u8], payload: &[u8], selection: EventSelection) -> bool {
    match kind {
        b"response_item" => matches!(
            payload,
            b"message"
                | b"reasoning"
                | b"function_call"
                | b"function_call_output"
                | b"custom_tool_call"
                | b"custom_tool_call_output"
                | b"local_shell_call"
                | b"web_search_call"
        ),
        b"event_msg" => match payload {
            b"token_count" => selection == EventSelection::All,
            other => matches!(
                other,
                b"user_message"
                    | b"agent_message"
                    | b"agent_reasoning"
                    | b"item_completed"
                    | b"exec_command_end"
                    | b"patch_apply_end"
            ),
        },
        b"turn_context" => selection == EventSelection::All,
        b"compacted" => true,
        _ => false,
    }
}

fn item(origin: Origin, kind: EventKind) -> LineItem {
    LineItem {
        origin,
        call_id: None,
        kind,
    }
}

fn call(origin: Origin, call_id: Option<Cow<'_, str>>, kind: EventKind) -> LineItem {
    LineItem {
        origin,
        call_id: call_id.map(Cow::into_owned),
        kind,
    }
}

/// A part of a message or of an output.
#[derive(Deserialize)]
struct ContentPart<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

fn joined(parts: &[ContentPart<'_>]) -> String {
    let texts: Vec<_> = parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .collect();
    texts.join("\n")
}

fn response_item(payload: &str) -> Vec<LineItem> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
        #[serde(borrow, default)]
        content: Vec<ContentPart<'a>>,
    }
    #[derive(Deserialize)]
    struct Reasoning<'a> {
        #[serde(borrow, default)]
        summary: Vec<ContentPart<'a>>,
    }
    #[derive(Deserialize)]
    struct ToolCall<'a> {
        #[serde(borrow, default)]
        name: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        call_id: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        arguments: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        input: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        action: Option<Action<'a>>,
    }
    #[derive(Deserialize)]
    struct Action<'a> {
        #[serde(default)]
        command: Option<CommandLine>,
        #[serde(borrow, default)]
        query: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Output<'a> {
        #[serde(borrow, default)]
        call_id: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        output: Option<&'a RawValue>,
    }
    let Ok(PayloadType { kind: Some(kind) }) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let items = || -> serde_json::Result<Vec<LineItem>> {
        Ok(match &*kind {
            "message" => {
                let message: Message<'_> = serde_json::from_str(payload)?;
                let text = joined(&message.content);
                match &*message.role {
                    "user" if !is_injected(&text) => {
                        vec![item(Origin::Item, EventKind::User(text))]
                    }
                    "assistant" => vec![item(Origin::Item, EventKind::Assistant(text))],
                    _ => Vec::new(),
                }
            }
            "reasoning" => {
                let reasoning: Reasoning<'_> = serde_json::from_str(payload)?;
                let parts = reasoning.summary.into_iter().filter_map(|part| part.text);
                parts
                    .map(|text| item(Origin::Item, EventKind::Reasoning(text.into_owned())))
                    .collect()
            }
            "function_call" | "custom_tool_call" | "local_shell_call" | "web_search_call" => {
                let found: ToolCall<'_> = serde_json::from_str(payload)?;
                let text = match (found.arguments, found.input, found.action) {
                    (Some(arguments), _, _) => command_in(&arguments),
                    (None, Some(input), _) => input.into_owned(),
                    (None, None, Some(action)) => match (action.command, action.query) {
                        (Some(command), _) => command.into_text(),
                        (None, Some(query)) => query.into_owned(),
                        (None, None) => String::new(),
                    },
                    (None, None, None) => String::new(),
                };
                let name = found.name.unwrap_or(kind).into_owned();
                let kind = EventKind::ToolCall { name, text };
                vec![call(Origin::Item, found.call_id, kind)]
            }
            "function_call_output" | "custom_tool_call_output" => {
                let found: Output<'_> = serde_json::from_str(payload)?;
                let text = found.output.map(output_text).unwrap_or_default();
                vec![call(
                    Origin::Item,
                    found.call_id,
                    EventKind::ToolOutput(text),
                )]
            }
            _ => Vec::new(),
        })
    };
    items().unwrap_or_default()
}

/// A command as a list of words or as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum CommandLine {
    Words(Vec<String>),
    Line(String),
    Other(IgnoredAny),
}

impl CommandLine {
    /// Returns the command line, without a shell that only runs a script.
    fn into_text(self) -> String {
        match self {
            Self::Words(mut words) => {
                let runs_script = words.len() == 3 && matches!(&*words[1], "-lc" | "-c");
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

/// Returns the command in the JSON arguments of a tool, else the arguments themselves.
fn command_in(arguments: &str) -> String {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(default)]
        cmd: Option<CommandLine>,
        #[serde(default)]
        command: Option<CommandLine>,
    }
    let parsed: Option<Arguments> = serde_json::from_str(arguments).ok();
    let command = parsed.and_then(|parsed| parsed.cmd.or(parsed.command));
    command.map_or_else(|| arguments.to_owned(), CommandLine::into_text)
}

/// Returns the text of an output: a string, JSON with the string in `output`, or a list of parts.
fn output_text(output: &RawValue) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Output {
        Text(String),
        Parts(Vec<Part>),
        Object {
            #[serde(default)]
            output: Option<String>,
            #[serde(default)]
            content: Option<String>,
        },
        Other(IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: Option<String>,
    }
    #[derive(Deserialize)]
    struct Wrapped {
        output: String,
    }
    match serde_json::from_str(output.get()) {
        Ok(Output::Text(text)) => {
            let wrapped = text.starts_with('{').then(|| serde_json::from_str(&text));
            match wrapped {
                Some(Ok(Wrapped { output })) => output,
                _ => text,
            }
        }
        Ok(Output::Parts(parts)) => {
            let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
            texts.join("\n")
        }
        Ok(Output::Object { output, content }) => output.or(content).unwrap_or_default(),
        Ok(Output::Other(_)) | Err(_) => String::new(),
    }
}

fn event(payload: &str, line: &[u8], selection: EventSelection) -> Vec<LineItem> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        message: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Reasoning<'a> {
        #[serde(borrow, default)]
        text: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct CompletedEvent<'a> {
        #[serde(borrow)]
        item: &'a RawValue,
    }
    let Ok(PayloadType { kind: Some(kind) }) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let items = || -> serde_json::Result<Vec<LineItem>> {
        Ok(match &*kind {
            "user_message" => {
                let message: Message<'_> = serde_json::from_str(payload)?;
                let text = message.message.into_owned();
                vec![item(Origin::Event, EventKind::User(text))]
            }
            "agent_message" => {
                let message: Message<'_> = serde_json::from_str(payload)?;
                let text = message.message.into_owned();
                vec![item(Origin::Event, EventKind::Assistant(text))]
            }
            "agent_reasoning" => {
                let reasoning: Reasoning<'_> = serde_json::from_str(payload)?;
                let text = reasoning.text.into_owned();
                vec![item(Origin::Event, EventKind::Reasoning(text))]
            }
            "exec_command_end" | "patch_apply_end" => execution(payload, Origin::Event)?,
            "item_completed" => {
                let event: CompletedEvent<'_> = serde_json::from_str(payload)?;
                completed(event.item.get())?
            }
            "token_count" if selection == EventSelection::All => tokens(payload, line),
            _ => Vec::new(),
        })
    };
    items().unwrap_or_default()
}

/// Parses the item of an `item_completed` event.
fn completed(payload: &str) -> serde_json::Result<Vec<LineItem>> {
    #[derive(Deserialize)]
    struct Completed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        content: Option<&'a RawValue>,
        #[serde(default)]
        summary_text: Vec<String>,
    }
    let found: Completed<'_> = serde_json::from_str(payload)?;
    let text = || -> serde_json::Result<String> {
        let content = found.content.map_or("[]", RawValue::get);
        let parts: Vec<ContentPart<'_>> = serde_json::from_str(content)?;
        Ok(joined(&parts))
    };
    Ok(match &*found.kind {
        "UserMessage" => vec![item(Origin::Completed, EventKind::User(text()?))],
        "AgentMessage" => vec![item(Origin::Completed, EventKind::Assistant(text()?))],
        "Reasoning" => found
            .summary_text
            .into_iter()
            .map(|text| item(Origin::Completed, EventKind::Reasoning(text)))
            .collect(),
        "CommandExecution" | "FileChange" => execution(payload, Origin::Completed)?,
        _ => Vec::new(),
    })
}

/// The paths of changed files, without their changes.
struct ChangedFiles(Vec<String>);

impl<'de> Deserialize<'de> for ChangedFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(Keys).map(Self)
    }
}

/// Parses a finished command or patch, with its output. Code mode runs commands that are recorded nowhere
/// else (0.169).
fn execution(payload: &str, origin: Origin) -> serde_json::Result<Vec<LineItem>> {
    #[derive(Deserialize)]
    struct Execution<'a> {
        #[serde(borrow, default)]
        id: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        call_id: Option<Cow<'a, str>>,
        #[serde(default)]
        command: Option<CommandLine>,
        #[serde(borrow, default)]
        aggregated_output: Option<Cow<'a, str>>,
        #[serde(default)]
        changes: Option<ChangedFiles>,
    }
    let found: Execution<'_> = serde_json::from_str(payload)?;
    let id = found.call_id.or(found.id);
    let mut items = Vec::new();
    if let Some(command) = found.command {
        let kind = EventKind::ToolCall {
            name: "exec_command".to_owned(),
            text: command.into_text(),
        };
        items.push(call(origin, id.clone(), kind));
        if let Some(output) = found.aggregated_output {
            items.push(call(origin, id, EventKind::ToolOutput(output.into_owned())));
        }
    }
    if let Some(changes) = found.changes {
        let ChangedFiles(paths) = changes;
        // Without an id: the patch itself may name the files in another form.
        let kind = EventKind::FilesTouched(paths.join("\n"));
        items.push(item(origin, kind));
    }
    Ok(items)
}

fn compaction(payload: &str) -> LineItem {
    #[derive(Deserialize)]
    struct Compacted<'a> {
        #[serde(borrow, default)]
        message: Cow<'a, str>,
    }
    // The history that replaces the messages repeats them, so it is not read.
    let summary = serde_json::from_str::<Compacted<'_>>(payload);
    let summary = summary.map(|compacted| compacted.message.into_owned());
    item(
        Origin::Item,
        EventKind::Compaction(summary.unwrap_or_default()),
    )
}

fn turn_context(payload: &str) -> Vec<LineItem> {
    #[derive(Deserialize)]
    struct Context {
        #[serde(default)]
        model: Option<String>,
        #[serde(default)]
        cwd: Option<String>,
    }
    let Ok(Context { model, cwd }) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let kind = EventKind::TurnContext(TurnContext { model, cwd });
    vec![item(Origin::Item, kind)]
}

fn tokens(payload: &str, line: &[u8]) -> Vec<LineItem> {
    #[derive(Deserialize)]
    struct Tokens {
        #[serde(default)]
        info: Option<Info>,
    }
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        total_token_usage: Option<TokenUsage>,
        #[serde(default)]
        last_token_usage: Option<TokenUsage>,
    }
    let Some(count) = token_count::parse(line) else {
        return Vec::new();
    };
    let info = serde_json::from_str::<Tokens>(payload);
    let info = info.ok().and_then(|tokens| tokens.info);
    let (total, last) = info.map_or((None, None), |info| {
        (info.total_token_usage, info.last_token_usage)
    });
    let tokens = TokenEvent { count, total, last };
    vec![item(Origin::Event, EventKind::Tokens(Box::new(tokens)))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<EventKind> {
        let items = parse(line.as_bytes(), EventSelection::All).unwrap_or_default();
        items.items.into_iter().map(|item| item.kind).collect()
    }

    fn line(kind: &str, payload: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-11-21T21:05:07.430Z","ordinal":1,"type":"{kind}","payload":{payload}}}"#
        )
    }

    fn tool(name: &str, text: &str) -> Vec<EventKind> {
        let (name, text) = (name.to_owned(), text.to_owned());
        vec![EventKind::ToolCall { name, text }]
    }

    #[test]
    fn commands_are_read_in_all_forms() {
        for (payload, expected) in [
            (
                r#"{"type":"function_call","name":"exec_command","arguments":"{\"cmd\": \"ls -la\"}","call_id":"c"}"#,
                tool("exec_command", "ls -la"),
            ),
            (
                r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"bash\",\"-lc\",\"ls a\"]}"}"#,
                tool("shell", "ls a"),
            ),
            (
                r#"{"type":"function_call","name":"shell","arguments":"{\"command\":[\"ls\",\"a\"]}"}"#,
                tool("shell", "ls a"),
            ),
            (
                r#"{"type":"function_call","name":"other","arguments":"{\"x\":1}"}"#,
                tool("other", r#"{"x":1}"#),
            ),
            (
                r#"{"type":"local_shell_call","action":{"type":"exec","command":["ls","b"]}}"#,
                tool("local_shell_call", "ls b"),
            ),
            (
                r#"{"type":"custom_tool_call","name":"apply_patch","input":"*** Add File: x"}"#,
                tool("apply_patch", "*** Add File: x"),
            ),
            (
                r#"{"type":"web_search_call","action":{"type":"search","query":"how"}}"#,
                tool("web_search_call", "how"),
            ),
        ] {
            assert_eq!(
                kinds(&line("response_item", payload)),
                expected,
                "{payload}"
            );
        }
    }

    #[test]
    fn outputs_are_read_in_all_forms() {
        let output = |json: &str| {
            let payload = format!(r#"{{"type":"function_call_output","output":{json}}}"#);
            kinds(&line("response_item", &payload))
        };
        for json in [
            r#""text""#,
            r#""{\"output\":\"text\",\"metadata\":{}}""#,
            r#"[{"type":"input_text","text":"text"},{"type":"input_image","image_url":"data:"}]"#,
            r#"{"content":"text","success":true}"#,
        ] {
            assert_eq!(
                output(json),
                [EventKind::ToolOutput("text".into())],
                "{json}"
            );
        }
    }

    #[test]
    fn commands_of_code_mode_and_files_are_read() {
        let command = r#"{"type":"item_completed","item":{"type":"CommandExecution","id":"c","command":["/bin/bash","-lc","ls"],"aggregated_output":"x\n"}}"#;
        let mut expected = tool("exec_command", "ls");
        expected.push(EventKind::ToolOutput("x\n".into()));
        assert_eq!(kinds(&line("event_msg", command)), expected);
        let files = r#"{"type":"item_completed","item":{"type":"FileChange","id":"c","changes":{"/p/a.rs":{"type":"add","content":"x"}}}}"#;
        assert_eq!(
            kinds(&line("event_msg", files)),
            [EventKind::FilesTouched("/p/a.rs".into())]
        );
    }

    #[test]
    fn instructions_and_damaged_lines_have_no_items() {
        for payload in [
            r#"{"type":"message","role":"developer","content":[{"type":"input_text","text":"x"}]}"#,
            r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>x"}]}"#,
            r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"}"#,
            r#"{"type":"message","role":7}"#,
            r#"{"type":"message","#,
        ] {
            assert_eq!(kinds(&line("response_item", payload)), [], "{payload}");
        }
        assert_eq!(parse(b"\xff\xfe", EventSelection::All), None);
    }

    #[test]
    fn tokens_and_contexts_are_read_if_selected() {
        let count = line(
            "event_msg",
            r#"{"type":"token_count","info":{"total_token_usage":{"input_tokens":10,"total_tokens":12},"last_token_usage":null},"rate_limits":null}"#,
        );
        let [EventKind::Tokens(tokens)] = &kinds(&count)[..] else {
            panic!("{:?}", kinds(&count));
        };
        assert_eq!(tokens.total.unwrap().input_tokens, 10);
        assert_eq!(parse(count.as_bytes(), EventSelection::Texts), None);
        let context = line("turn_context", r#"{"cwd":"/p","model":"gpt-6"}"#);
        assert!(matches!(&kinds(&context)[..], [EventKind::TurnContext(_)]));
    }
}
