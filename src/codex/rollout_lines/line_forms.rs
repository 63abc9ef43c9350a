//! The kinds of lines in rollouts: how each is recognized, what it records, and how it is parsed.

use super::content::PayloadText;
use super::event_message::{
    agent_message, completed, execution_event, reasoning_event, rolled_back, tokens, user_message,
};
use super::line_item::LineItem;
use super::line_parts::LineParts;
use super::response_item::{message, reasoning, tool_call, tool_result};
use super::session_line::{compaction, request, session_meta, turn_context};
use memchr::memmem;

/// The bytes of a payload behind its type in which the author of a message is found.
const AUTHOR_BYTES: usize = 512;

pub(super) struct LineForm {
    kind: &'static str,
    /// The type of its payload; `None` if the payload has none.
    payload: Option<&'static str>,
    yields: LineParts,
    /// Returns false if the bytes behind the type of the payload show that this is no message of the user.
    may_be_user: fn(&[u8]) -> bool,
    pub(super) parse: fn(&PayloadText<'_>) -> serde_json::Result<Vec<LineItem>>,
}

const USER: LineParts = LineParts::USER_ITEMS
    .and(LineParts::USER_EVENTS)
    .and(LineParts::INJECTED);

impl LineForm {
    /// Returns true if a line of this form may have a part that is wanted. `rest` is what follows the type of the
    /// payload.
    pub(super) fn may_have(&self, wanted: LineParts, rest: &[u8]) -> bool {
        let has_others = wanted.meets(self.yields.without(USER));
        has_others || (wanted.meets(self.yields) && (self.may_be_user)(rest))
    }

    /// Returns true if a line of this form records a part that is wanted.
    pub(super) fn yields(&self, wanted: LineParts) -> bool {
        wanted.meets(self.yields)
    }
}

const fn plain(
    kind: &'static str,
    yields: LineParts,
    parse: fn(&PayloadText<'_>) -> serde_json::Result<Vec<LineItem>>,
) -> LineForm {
    LineForm {
        kind,
        payload: None,
        yields,
        may_be_user: |_| true,
        parse,
    }
}

const fn typed(
    kind: &'static str,
    payload: &'static str,
    yields: LineParts,
    parse: fn(&PayloadText<'_>) -> serde_json::Result<Vec<LineItem>>,
) -> LineForm {
    LineForm {
        payload: Some(payload),
        ..plain(kind, yields, parse)
    }
}

/// Lines with what the model got or wrote. Codex before 0.32 wrote these payloads as lines, without an envelope.
pub(super) const ITEM: &str = "response_item";
const EVENT: &str = "event_msg";

/// All forms that this program uses. Lines of others are skipped.
const FORMS: [LineForm; 20] = [
    plain("session_meta", LineParts::META, session_meta),
    plain("turn_context", LineParts::SETTINGS, turn_context),
    plain("token_usage_record", LineParts::REQUESTS, request),
    plain("compacted", LineParts::COMPACTIONS, compaction),
    LineForm {
        may_be_user: is_by_user,
        ..typed(
            ITEM,
            "message",
            LineParts::USER_ITEMS
                .and(LineParts::INJECTED)
                .and(LineParts::ASSISTANT),
            message,
        )
    },
    typed(ITEM, "reasoning", LineParts::ASSISTANT, reasoning),
    typed(ITEM, "function_call", LineParts::TOOLS, tool_call),
    typed(ITEM, "function_call_output", LineParts::TOOLS, tool_result),
    typed(ITEM, "custom_tool_call", LineParts::TOOLS, tool_call),
    typed(
        ITEM,
        "custom_tool_call_output",
        LineParts::TOOLS,
        tool_result,
    ),
    typed(ITEM, "local_shell_call", LineParts::TOOLS, tool_call),
    typed(ITEM, "web_search_call", LineParts::TOOLS, tool_call),
    typed(EVENT, "user_message", LineParts::USER_EVENTS, user_message),
    typed(EVENT, "agent_message", LineParts::ASSISTANT, agent_message),
    typed(
        EVENT,
        "agent_reasoning",
        LineParts::ASSISTANT,
        reasoning_event,
    ),
    LineForm {
        may_be_user: is_completed_by_user,
        ..typed(
            EVENT,
            "item_completed",
            LineParts::USER_EVENTS
                .and(LineParts::ASSISTANT)
                .and(LineParts::TOOLS),
            completed,
        )
    },
    typed(EVENT, "exec_command_end", LineParts::TOOLS, execution_event),
    typed(EVENT, "patch_apply_end", LineParts::TOOLS, execution_event),
    typed(EVENT, "token_count", LineParts::TOKENS, tokens),
    typed(
        EVENT,
        "thread_rolled_back",
        LineParts::ROLLBACKS,
        rolled_back,
    ),
];

/// Returns the forms of a kind that fit the type of a payload; all of the kind if that type is unknown.
pub(super) fn forms<'a>(
    kind: &'a [u8],
    payload: Option<&'a [u8]>,
) -> impl Iterator<Item = &'static LineForm> + use<'a> {
    FORMS.iter().filter(move |form| {
        form.kind.as_bytes() == kind
            && match (form.payload, payload) {
                (Some(own), Some(found)) => own.as_bytes() == found,
                // Without a type in sight any form of the kind may fit.
                _ => true,
            }
    })
}

fn is_by_user(rest: &[u8]) -> bool {
    const ROLE: &[u8] = b"\"role\":\"";
    memmem::find(near(rest), ROLE).is_none_or(|at| rest[at + ROLE.len()..].starts_with(b"user\""))
}

fn is_completed_by_user(rest: &[u8]) -> bool {
    memmem::find(near(rest), b"\"UserMessage\"").is_some()
}

fn near(rest: &[u8]) -> &[u8] {
    &rest[..rest.len().min(AUTHOR_BYTES)]
}
