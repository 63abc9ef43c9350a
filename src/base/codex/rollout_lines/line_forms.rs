//! The kinds of lines in rollouts: how each is recognized, what it records, and how it is parsed.

use super::event::{EventKind, ItemOrigin, ParseItems, answer_items, one_item};
use super::line_parts::LineParts;
use super::payloads::{
    parse_compaction, parse_completed, parse_execution, parse_message, parse_reasoning,
    parse_request, parse_rollback, parse_session_meta, parse_text_event, parse_tokens,
    parse_tool_call, parse_tool_result, parse_turn_context, parse_user_event,
};
use memchr::memmem;

/// The number of bytes after the type of a payload in which the author of a message is searched.
const AUTHOR_BYTES: usize = 512;

pub(super) struct LineForm {
    kind: &'static str,
    /// The types of the payload; empty for a payload without a type.
    payload_types: &'static [&'static str],
    pub(super) parts: LineParts,
    /// Returns false if the bytes after the type of the payload show that this is no message of the user.
    may_be_user_message: fn(&[u8]) -> bool,
    pub(super) parse: ParseItems,
}

const USER_MESSAGES: LineParts = LineParts::USER_ITEMS.union(LineParts::USER_EVENTS);

impl LineForm {
    /// Returns true if a line of this form may have a part that is wanted. `after_type` is the text after the type of
    /// the payload.
    pub(super) fn may_have_parts(&self, wanted: LineParts, after_type: &[u8]) -> bool {
        let has_other_parts = wanted.intersects(self.parts.without(USER_MESSAGES));
        has_other_parts || (wanted.intersects(self.parts) && (self.may_be_user_message)(after_type))
    }
}

const fn typed_form(
    kind: &'static str,
    payload_types: &'static [&'static str],
    parts: LineParts,
    parse: ParseItems,
) -> LineForm {
    LineForm {
        kind,
        payload_types,
        parts,
        may_be_user_message: |_| true,
        parse,
    }
}

const fn untyped_form(kind: &'static str, parts: LineParts, parse: ParseItems) -> LineForm {
    typed_form(kind, &[], parts, parse)
}

/// Lines with input or output of the model. Codex before 0.32 wrote these payloads as lines, without an envelope.
pub(super) const ITEM: &str = "response_item";
const EVENT: &str = "event_msg";
const TOOL_CALLS: &[&str] = &[
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "web_search_call",
];
const TOOL_OUTPUTS: &[&str] = &["function_call_output", "custom_tool_call_output"];
const TURN_STARTS: &[&str] = &["task_started", "turn_started"];
const TURN_ENDS: &[&str] = &["task_complete", "turn_complete", "turn_aborted"];
const EXECUTIONS: &[&str] = &["exec_command_end", "patch_apply_end"];

const MESSAGE: LineParts = LineParts::USER_ITEMS.union(LineParts::ASSISTANT);
const COMPLETED: LineParts = LineParts::USER_EVENTS
    .union(LineParts::ASSISTANT)
    .union(LineParts::TOOLS);

/// All forms that this program uses. Lines of other forms are skipped.
const FORMS: [LineForm; 17] = [
    untyped_form("session_meta", LineParts::META, parse_session_meta),
    untyped_form("turn_context", LineParts::SETTINGS, parse_turn_context),
    untyped_form("token_usage_record", LineParts::REQUESTS, parse_request),
    untyped_form("compacted", LineParts::COMPACTIONS, parse_compaction),
    LineForm {
        may_be_user_message: may_have_user_role,
        ..typed_form(ITEM, &["message"], MESSAGE, parse_message)
    },
    typed_form(ITEM, &["reasoning"], LineParts::ASSISTANT, parse_reasoning),
    typed_form(ITEM, TOOL_CALLS, LineParts::TOOLS, parse_tool_call),
    typed_form(ITEM, TOOL_OUTPUTS, LineParts::TOOLS, parse_tool_result),
    typed_form(
        EVENT,
        &["user_message"],
        LineParts::USER_EVENTS,
        parse_user_event,
    ),
    typed_form(EVENT, &["agent_message"], LineParts::ASSISTANT, |payload| {
        parse_text_event(payload, answer_items)
    }),
    typed_form(
        EVENT,
        &["agent_reasoning"],
        LineParts::ASSISTANT,
        |payload| {
            parse_text_event(payload, |origin, text| {
                one_item(origin, EventKind::Reasoning(text))
            })
        },
    ),
    LineForm {
        may_be_user_message: is_completed_user_message,
        ..typed_form(EVENT, &["item_completed"], COMPLETED, parse_completed)
    },
    typed_form(EVENT, EXECUTIONS, LineParts::TOOLS, parse_execution),
    typed_form(EVENT, &["token_count"], LineParts::TOKENS, parse_tokens),
    typed_form(EVENT, TURN_STARTS, LineParts::TURNS, |_| {
        Ok(one_item(ItemOrigin::Event, EventKind::TurnStarted))
    }),
    typed_form(EVENT, TURN_ENDS, LineParts::TURNS, |_| {
        Ok(one_item(ItemOrigin::Event, EventKind::TurnEnded))
    }),
    typed_form(
        EVENT,
        &["thread_rolled_back"],
        LineParts::ROLLBACKS,
        parse_rollback,
    ),
];

/// Returns the forms of a kind that match the type of a payload; all forms of the kind if `payload_type` is
/// `None`.
pub(super) fn matching_forms<'a>(
    kind: &'a [u8],
    payload_type: Option<&'a [u8]>,
) -> impl Iterator<Item = &'static LineForm> + use<'a> {
    FORMS.iter().filter(move |form| {
        let mut payload_types = form.payload_types.iter();
        let accepts_type = |payload_type| {
            form.payload_types.is_empty() || payload_types.any(|p| p.as_bytes() == payload_type)
        };
        form.kind.as_bytes() == kind && payload_type.is_none_or(accepts_type)
    })
}

fn may_have_user_role(after_type: &[u8]) -> bool {
    const ROLE: &[u8] = b"\"role\":\"";
    memmem::find(author_prefix(after_type), ROLE)
        .is_none_or(|at| after_type[at + ROLE.len()..].starts_with(b"user\""))
}

fn is_completed_user_message(after_type: &[u8]) -> bool {
    memmem::find(author_prefix(after_type), b"\"UserMessage\"").is_some()
}

fn author_prefix(after_type: &[u8]) -> &[u8] {
    &after_type[..after_type.len().min(AUTHOR_BYTES)]
}
