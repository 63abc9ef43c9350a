//! Parses the payloads of lines: input and output of the model, events of older and newer versions, and records of a
//! whole conversation or turn.

use super::content::{
    CommandLine, ContentPart, PayloadText, extract_command, extract_output, join_texts,
    join_user_texts, text_or_placeholder,
};
use super::event::{
    EventKind, ItemOrigin, LineItem, ParsedItems, SessionMetaLine, TokenEvent, TokenUsage,
    answer_items, call_item, item_without_call_id, one_item,
};
use crate::codex::user_request::is_inserted_item;
use crate::codex::window::{CODEX_LIMIT, Window};
use crate::io::clock::Timestamp;
use chrono::{DateTime, TimeDelta};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

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
        "user" => match join_user_texts(&message.content) {
            text if is_inserted_item(&text) => EventKind::ModelInput,
            text if payload.has_envelope => EventKind::UserInput(text),
            // Codex before 0.32 wrote no envelopes and no events.
            text => EventKind::User(text),
        },
        "assistant" => return Ok(answer_items(ItemOrigin::Item, join_texts(&message.content))),
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
        // The arguments are JSON as a text. For a shell tool, they contain the command.
        (Some(arguments), _, _) => {
            extract_command(call.name.as_deref().unwrap_or_default(), &arguments)
        }
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

pub(super) fn parse_session_meta(payload: &PayloadText<'_>) -> ParsedItems {
    let meta = Box::new(SessionMetaLine {
        payload: serde_json::from_str(payload.json)?,
        has_envelope: payload.has_envelope,
    });
    Ok(one_item(ItemOrigin::Item, EventKind::Meta(meta)))
}

pub(super) fn parse_turn_context(payload: &PayloadText<'_>) -> ParsedItems {
    let context = serde_json::from_str(payload.json)?;
    Ok(one_item(ItemOrigin::Item, EventKind::TurnContext(context)))
}

/// Parses the tokens that one request to the model used.
pub(super) fn parse_request(payload: &PayloadText<'_>) -> ParsedItems {
    let record = serde_json::from_str(payload.json)?;
    Ok(one_item(ItemOrigin::Item, EventKind::Request(record)))
}

pub(super) fn parse_compaction(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct Compacted<'a> {
        #[serde(borrow, default)]
        message: Option<Cow<'a, str>>,
    }
    // The payload also has the history that replaces the messages. It only repeats messages, so it is not read.
    let Compacted { message } = serde_json::from_str(payload.json)?;
    let kind = EventKind::Compaction(message.unwrap_or_default().into_owned());
    Ok(one_item(ItemOrigin::Item, kind))
}

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
    to_items: fn(ItemOrigin, String) -> Vec<LineItem>,
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
    Ok(to_items(ItemOrigin::Event, text.into_owned()))
}

pub(super) fn parse_rollback(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct RollbackEvent {
        num_turns: u32,
    }

    let event: RollbackEvent = serde_json::from_str(payload.json)?;
    let kind = EventKind::RolledBack(event.num_turns);
    Ok(one_item(ItemOrigin::Event, kind))
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
        /// The text of a plan.
        #[serde(default)]
        text: String,
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
        "AgentMessage" => Ok(answer_items(origin, join_texts(&parse_parts()?))),
        "Reasoning" => {
            let texts = completed.summary_text.into_iter().map(EventKind::Reasoning);
            Ok(texts
                .map(|kind| item_without_call_id(origin, kind))
                .collect())
        }
        "Plan" => Ok(one_item(origin, EventKind::Assistant(completed.text))),
        "CommandExecution" | "FileChange" => parse_execution_json(item_json, origin),
        _ => Ok(Vec::new()),
    }
}

/// Parses a finished command with its output, or a finished patch, of which only the paths of the changed files are
/// kept. Commands that Codex 0.169 runs in code mode are recorded nowhere else.
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
        // Without a call id, because the paths are no copy of the patch, which may name the files in another form.
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
    let windows = rate_limits.map_or_else(Vec::new, |limits| limits.into_windows(at));
    let tokens = TokenEvent {
        at,
        windows,
        total: info.total_token_usage,
        last: info.last_token_usage,
    };

    let kind = EventKind::Tokens(Box::new(tokens));
    Ok(one_item(ItemOrigin::Event, kind))
}

#[derive(Deserialize)]
struct RateLimits {
    limit_id: Option<String>,
    primary: Option<RateLimitWindow>,
    secondary: Option<RateLimitWindow>,
}

#[derive(Deserialize)]
struct RateLimitWindow {
    used_percent: f64,
    window_minutes: Option<u32>,
    /// The reset in seconds since 1970.
    resets_at: Option<i64>,
    /// Written before 0.50 instead of `resets_at`.
    resets_in_seconds: Option<i64>,
}

impl RateLimits {
    /// Returns the windows that the server sent at `at`.
    fn into_windows(self, at: Timestamp) -> Vec<Window> {
        let limit_id = self.limit_id.unwrap_or_else(|| CODEX_LIMIT.to_owned());
        let windows = [self.primary, self.secondary].into_iter().flatten();
        let windows = windows.map(|window| Window {
            limit_id: limit_id.clone(),
            minutes: window.window_minutes,
            used_percent: window.used_percent,
            resets_at: match (window.resets_at, window.resets_in_seconds) {
                (Some(seconds), _) => {
                    DateTime::from_timestamp(seconds, 0).map(|at| at.fixed_offset())
                }
                (None, Some(seconds)) => {
                    TimeDelta::try_seconds(seconds).and_then(|span| at.checked_add_signed(span))
                }
                (None, None) => None,
            },
        });
        windows.collect()
    }
}
