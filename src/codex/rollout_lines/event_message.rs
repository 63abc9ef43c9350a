//! Parses `event_msg`: messages and executions, of older and newer versions, and counts of tokens.

use super::command_line::CommandLine;
use super::content::{ContentPart, PayloadText, join_texts};
use super::event::{EventKind, TokenEvent, TokenUsage};
use super::line_item::{ItemOrigin, LineItem, call_item, plain_item};
use crate::codex::token_count;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct MessageEvent<'a> {
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

pub(super) fn parse_user_message(payload: &PayloadText<'_>) -> serde_json::Result<Vec<LineItem>> {
    let event: MessageEvent<'_> = serde_json::from_str(payload.json)?;
    let kind = EventKind::User(event.message.into_owned());
    Ok(vec![plain_item(ItemOrigin::Event, kind)])
}

pub(super) fn parse_agent_message(payload: &PayloadText<'_>) -> serde_json::Result<Vec<LineItem>> {
    let event: MessageEvent<'_> = serde_json::from_str(payload.json)?;
    let kind = EventKind::Assistant(event.message.into_owned());
    Ok(vec![plain_item(ItemOrigin::Event, kind)])
}

pub(super) fn parse_reasoning_event(
    payload: &PayloadText<'_>,
) -> serde_json::Result<Vec<LineItem>> {
    #[derive(Deserialize)]
    struct ReasoningEvent<'a> {
        #[serde(borrow, default)]
        text: Cow<'a, str>,
    }
    let event: ReasoningEvent<'_> = serde_json::from_str(payload.json)?;
    let kind = EventKind::Reasoning(event.text.into_owned());
    Ok(vec![plain_item(ItemOrigin::Event, kind)])
}

pub(super) fn parse_rollback(payload: &PayloadText<'_>) -> serde_json::Result<Vec<LineItem>> {
    #[derive(Deserialize)]
    struct RollbackEvent {
        num_turns: u32,
    }
    let event: RollbackEvent = serde_json::from_str(payload.json)?;
    let kind = EventKind::RolledBack(event.num_turns);
    Ok(vec![plain_item(ItemOrigin::Event, kind)])
}

pub(super) fn parse_execution_event(
    payload: &PayloadText<'_>,
) -> serde_json::Result<Vec<LineItem>> {
    parse_execution(payload.json, ItemOrigin::Event)
}

/// Parses the item of an `item_completed` event.
pub(super) fn parse_completed_item(payload: &PayloadText<'_>) -> serde_json::Result<Vec<LineItem>> {
    #[derive(Deserialize)]
    struct CompletedEvent<'a> {
        #[serde(borrow)]
        item: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Completed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        content: Option<&'a RawValue>,
        #[serde(default)]
        summary_text: Vec<String>,
    }
    let event: CompletedEvent<'_> = serde_json::from_str(payload.json)?;
    let payload = event.item.get();
    let found: Completed<'_> = serde_json::from_str(payload)?;
    let text = || -> serde_json::Result<String> {
        let content = found.content.map_or("[]", RawValue::get);
        let parts: Vec<ContentPart<'_>> = serde_json::from_str(content)?;
        Ok(join_texts(&parts))
    };
    Ok(match &*found.kind {
        "UserMessage" => vec![plain_item(ItemOrigin::Completed, EventKind::User(text()?))],
        "AgentMessage" => vec![plain_item(
            ItemOrigin::Completed,
            EventKind::Assistant(text()?),
        )],
        "Reasoning" => found
            .summary_text
            .into_iter()
            .map(|text| plain_item(ItemOrigin::Completed, EventKind::Reasoning(text)))
            .collect(),
        "CommandExecution" | "FileChange" => parse_execution(payload, ItemOrigin::Completed)?,
        _ => Vec::new(),
    })
}

/// Parses a finished command or patch, with its output. Code mode runs commands that are recorded nowhere
/// else (0.169).
fn parse_execution(payload: &str, origin: ItemOrigin) -> serde_json::Result<Vec<LineItem>> {
    #[allow(clippy::zero_sized_map_values, reason = "JSON has a map there")]
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
        /// The changed files, without their changes.
        #[serde(default)]
        changes: Option<BTreeMap<String, IgnoredAny>>,
    }
    let found: Execution<'_> = serde_json::from_str(payload)?;
    let id = found.call_id.or(found.id);
    let mut items = Vec::new();
    if let Some(command) = found.command {
        let kind = EventKind::ToolCall {
            name: "exec_command".to_owned(),
            text: command.into_text(),
        };
        items.push(call_item(origin, id.clone(), kind));
        if let Some(output) = found.aggregated_output {
            items.push(call_item(
                origin,
                id,
                EventKind::ToolOutput(output.into_owned()),
            ));
        }
    }
    if let Some(changes) = found.changes {
        let paths: Vec<_> = changes.into_keys().collect();
        // Without an id: the patch itself may name the files in another form.
        let kind = EventKind::FilesTouched(paths.join("\n"));
        items.push(plain_item(origin, kind));
    }
    Ok(items)
}

pub(super) fn parse_token_event(payload: &PayloadText<'_>) -> serde_json::Result<Vec<LineItem>> {
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
    let Some(count) = token_count::parse(payload.line) else {
        return Ok(Vec::new());
    };
    let Tokens { info } = serde_json::from_str(payload.json)?;
    let (total, last) = info.map_or((None, None), |info| {
        (info.total_token_usage, info.last_token_usage)
    });
    let tokens = TokenEvent { count, total, last };
    Ok(vec![plain_item(
        ItemOrigin::Event,
        EventKind::Tokens(Box::new(tokens)),
    )])
}
