//! Parses `response_item`: what the model got or wrote.

use super::command_line::{CommandLine, extract_command};
use super::content::{
    ContentPart, PayloadText, extract_output, is_injected, join_texts, join_user_texts,
};
use super::event::EventKind;
use super::line_item::{ItemOrigin, ParsedItems, call_item, item_without_call_id, one_item};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct MessageItem<'a> {
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
    action: Option<ToolAction<'a>>,
}

#[derive(Deserialize)]
struct ToolAction<'a> {
    command: Option<CommandLine>,
    #[serde(borrow, default)]
    query: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ToolResult<'a> {
    #[serde(borrow, default)]
    call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

pub(super) fn parse_message(payload: &PayloadText<'_>) -> ParsedItems {
    let message: MessageItem<'_> = serde_json::from_str(payload.json)?;
    let kind = match &*message.role {
        // An event follows if the user wrote the message. Codex before 0.32 had no events.
        "user" if payload.has_envelope => EventKind::ModelInput,
        "user" => match join_user_texts(&message.content) {
            text if is_injected(&text) => EventKind::ModelInput,
            text => EventKind::User(text),
        },
        "assistant" => EventKind::Assistant(join_texts(&message.content)),
        _ => return Ok(Vec::new()),
    };
    Ok(one_item(ItemOrigin::Item, kind))
}

pub(super) fn parse_reasoning(payload: &PayloadText<'_>) -> ParsedItems {
    let reasoning: Reasoning<'_> = serde_json::from_str(payload.json)?;
    // The content itself is encrypted; only the summary can be read.
    let parts = reasoning.summary.into_iter().filter_map(|part| part.text);
    Ok(parts
        .map(|text| item_without_call_id(ItemOrigin::Item, EventKind::Reasoning(text.into_owned())))
        .collect())
}

pub(super) fn parse_tool_call(payload: &PayloadText<'_>) -> ParsedItems {
    let call: ToolCall<'_> = serde_json::from_str(payload.json)?;
    let text = match (call.arguments, call.input, call.action) {
        // JSON in a text, in which shell tools have the command.
        (Some(arguments), _, _) => extract_command(&arguments),
        (None, Some(input), _) => input.into_owned(),
        (None, None, Some(action)) => {
            let command = action.command.map(CommandLine::into_text);
            let query = action.query.map(Cow::into_owned);
            command.or(query).unwrap_or_default()
        }
        (None, None, None) => String::new(),
    };

    // The type of the payload names a tool that has no name of its own.
    let name = call.name.or_else(|| payload.payload_type());
    let name = name.unwrap_or_default().into_owned();
    let kind = EventKind::ToolCall { name, text };
    Ok(vec![call_item(ItemOrigin::Item, call.call_id, kind)])
}

pub(super) fn parse_tool_result(payload: &PayloadText<'_>) -> ParsedItems {
    let result: ToolResult<'_> = serde_json::from_str(payload.json)?;
    let text = result.output.map(extract_output).unwrap_or_default();
    let kind = EventKind::ToolOutput(text);
    Ok(vec![call_item(ItemOrigin::Item, result.call_id, kind)])
}
