//! Parses `event_msg`: messages and executions, of older and newer versions, and counts of tokens.

use super::command_line::CommandLine;
use super::content::{ContentPart, PayloadText, join_texts, join_user_texts, text_or_placeholder};
use super::event::{EventKind, TokenEvent, TokenUsage};
use super::line_item::{ItemOrigin, ParsedItems, call_item, item_without_call_id, one_item};
use crate::codex::token_count::{RateLimits, TokenCount};
use chrono::DateTime;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) fn parse_user_event(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct UserEvent {
        message: Option<String>,
        images: Option<Vec<IgnoredAny>>,
        local_images: Option<Vec<IgnoredAny>>,
        audio: Option<Vec<IgnoredAny>>,
        local_audio: Option<Vec<IgnoredAny>>,
    }

    let event: UserEvent = serde_json::from_str(payload.json)?;
    let has_any = |lists: [Option<Vec<IgnoredAny>>; 2]| {
        let mut lists = lists.into_iter().flatten();
        lists.any(|list| !list.is_empty())
    };
    let has_image = has_any([event.images, event.local_images]);
    let has_audio = has_any([event.audio, event.local_audio]);
    let text = text_or_placeholder(event.message.unwrap_or_default(), has_image, has_audio);
    Ok(one_item(ItemOrigin::Event, EventKind::User(text)))
}

pub(super) fn parse_text_event(
    payload: &PayloadText<'_>,
    to_kind: fn(String) -> EventKind,
) -> ParsedItems {
    #[derive(Deserialize)]
    struct TextEvent<'a> {
        #[serde(borrow, default)]
        message: Option<Cow<'a, str>>,
        /// The message of an `agent_reasoning`.
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
    }

    let event: TextEvent<'_> = serde_json::from_str(payload.json)?;
    let text = event.message.or(event.text).unwrap_or_default();
    Ok(one_item(ItemOrigin::Event, to_kind(text.into_owned())))
}

pub(super) fn parse_rollback(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct RollbackEvent {
        num_turns: u32,
    }

    let event: RollbackEvent = serde_json::from_str(payload.json)?;
    Ok(one_item(
        ItemOrigin::Event,
        EventKind::RolledBack(event.num_turns),
    ))
}

pub(super) fn parse_execution(payload: &PayloadText<'_>) -> ParsedItems {
    parse_execution_json(payload.json, ItemOrigin::Event)
}

/// Parses the item of an `item_completed` event.
pub(super) fn parse_completed(payload: &PayloadText<'_>) -> ParsedItems {
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
    // The item stays JSON text, because an execution has another form than a message.
    let item_json = event.item.get();
    let completed: Completed<'_> = serde_json::from_str(item_json)?;
    let origin = ItemOrigin::Completed;

    let parse_parts = || -> serde_json::Result<Vec<ContentPart<'_>>> {
        serde_json::from_str(completed.content.map_or("[]", RawValue::get))
    };

    match &*completed.kind {
        "UserMessage" => {
            let text = join_user_texts(&parse_parts()?);
            Ok(one_item(origin, EventKind::User(text)))
        }
        "AgentMessage" => {
            let text = join_texts(&parse_parts()?);
            Ok(one_item(origin, EventKind::Assistant(text)))
        }
        "Reasoning" => {
            let texts = completed.summary_text.into_iter().map(EventKind::Reasoning);
            Ok(texts
                .map(|kind| item_without_call_id(origin, kind))
                .collect())
        }
        "CommandExecution" | "FileChange" => parse_execution_json(item_json, origin),
        _ => Ok(Vec::new()),
    }
}

/// Parses a finished command or patch, with its output. Code mode of Codex 0.169 runs commands that are
/// recorded nowhere else.
fn parse_execution_json(payload: &str, origin: ItemOrigin) -> ParsedItems {
    #[allow(clippy::zero_sized_map_values, reason = "JSON has a map there")]
    #[derive(Deserialize)]
    struct Execution<'a> {
        #[serde(borrow, default)]
        id: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        call_id: Option<Cow<'a, str>>,
        command: Option<CommandLine>,
        #[serde(borrow, default)]
        aggregated_output: Option<Cow<'a, str>>,
        /// The changed files, without their changes.
        changes: Option<BTreeMap<String, IgnoredAny>>,
    }

    let execution: Execution<'_> = serde_json::from_str(payload)?;
    let id = execution.call_id.or(execution.id);
    let mut items = Vec::new();

    if let Some(command) = execution.command {
        let kind = EventKind::ToolCall {
            name: "exec_command".to_owned(),
            text: command.into_text(),
        };
        items.push(call_item(origin, id.clone(), kind));
        if let Some(output) = execution.aggregated_output {
            let kind = EventKind::ToolOutput(output.into_owned());
            items.push(call_item(origin, id, kind));
        }
    }

    if let Some(changes) = execution.changes {
        let paths: Vec<_> = changes.into_keys().collect();
        // Without an id: the patch itself may name the files in another form.
        let kind = EventKind::FilesTouched(paths.join("\n"));
        items.push(item_without_call_id(origin, kind));
    }

    Ok(items)
}

pub(super) fn parse_tokens(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct Tokens {
        info: Option<Info>,
        rate_limits: Option<RateLimits>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Info {
        total_token_usage: Option<TokenUsage>,
        last_token_usage: Option<TokenUsage>,
    }

    let Tokens { info, rate_limits } = serde_json::from_str(payload.json)?;
    let timestamp = payload.timestamp.unwrap_or_default();
    let Ok(at) = DateTime::parse_from_rfc3339(timestamp) else {
        return Ok(Vec::new());
    };

    let info = info.unwrap_or_default();
    let windows = rate_limits.map(|limits| limits.into_windows(at));
    let count = TokenCount {
        at,
        windows: windows.unwrap_or_default(),
    };
    let tokens = TokenEvent {
        count,
        total: info.total_token_usage,
        last: info.last_token_usage,
    };

    Ok(one_item(
        ItemOrigin::Event,
        EventKind::Tokens(Box::new(tokens)),
    ))
}
