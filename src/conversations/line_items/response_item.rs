//! Parses `response_item`: what the model got or wrote.

use super::command_line::CommandLine;
use super::command_line::command_in;
use super::content::{ContentPart, PayloadType, joined, output_text};
use super::line_item::{LineItem, Origin, call, item};
use crate::conversations::event::EventKind;
use crate::history::rollout::is_injected;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

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
    action: Option<ToolAction<'a>>,
}

#[derive(Deserialize)]
struct ToolAction<'a> {
    #[serde(default)]
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

/// Returns the items of a payload; none if it is damaged or of another kind.
pub(super) fn response_item(payload: &str) -> Vec<LineItem> {
    let Ok(PayloadType { kind: Some(kind) }) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let items = match &*kind {
        "message" => message(payload),
        "reasoning" => reasoning(payload),
        "function_call" | "custom_tool_call" | "local_shell_call" | "web_search_call" => {
            tool_call(payload, kind)
        }
        "function_call_output" | "custom_tool_call_output" => tool_result(payload),
        _ => return Vec::new(),
    };
    items.unwrap_or_default()
}

fn message(payload: &str) -> serde_json::Result<Vec<LineItem>> {
    let message: Message<'_> = serde_json::from_str(payload)?;
    let text = joined(&message.content);
    Ok(match &*message.role {
        "user" if !is_injected(&text) => vec![item(Origin::Item, EventKind::User(text))],
        "assistant" => vec![item(Origin::Item, EventKind::Assistant(text))],
        _ => Vec::new(),
    })
}

fn reasoning(payload: &str) -> serde_json::Result<Vec<LineItem>> {
    let reasoning: Reasoning<'_> = serde_json::from_str(payload)?;
    let parts = reasoning.summary.into_iter().filter_map(|part| part.text);
    Ok(parts
        .map(|text| item(Origin::Item, EventKind::Reasoning(text.into_owned())))
        .collect())
}

/// `kind` is the type of the payload. It names a tool that has no name of its own.
fn tool_call(payload: &str, kind: Cow<'_, str>) -> serde_json::Result<Vec<LineItem>> {
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
    Ok(vec![call(Origin::Item, found.call_id, kind)])
}

fn tool_result(payload: &str) -> serde_json::Result<Vec<LineItem>> {
    let found: ToolResult<'_> = serde_json::from_str(payload)?;
    let text = found.output.map(output_text).unwrap_or_default();
    let kind = EventKind::ToolOutput(text);
    Ok(vec![call(Origin::Item, found.call_id, kind)])
}
