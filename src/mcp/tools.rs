//! The tools: their description, and their calls.

use super::answer::redact;
use super::call::CallContext;
use super::message::{RequestError, RequestErrorCode};
use super::open::OpenArguments;
use super::search::{ListArguments, SearchArguments};
use crate::error::{CommandError, Result};
use codex_manager_core::codex::redaction::known_values;
use codex_manager_core::io::ansi;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TOOLS: &str = include_str!("tools.json");

/// Returns the result of `tools/list`.
pub(crate) fn describe_tools() -> Value {
    let tools: Value = serde_json::from_str(TOOLS).unwrap_or_default();
    json!({ "tools": tools })
}

/// Calls a tool. An error of the tool is a result too, so that the model sees it and can correct its call.
///
/// # Errors
/// There is no such tool.
pub(super) fn call_tool(
    params: &Value,
    call: &CallContext<'_>,
) -> std::result::Result<Value, RequestError> {
    // Codex may have renewed a login since the last call.
    known_values::forget_logins();
    let name = params["name"].as_str().unwrap_or_default();
    let arguments = &params["arguments"];
    // Codex sends the id of the conversation in which it calls. A search leaves that conversation out, because it
    // contains the words of the query.
    let caller = params["_meta"]["threadId"].as_str();

    let outcome = match name {
        "search_conversations" => parse_arguments::<SearchArguments>(arguments)
            .and_then(|arguments| arguments.answer(caller, call)),
        "open_conversation" => {
            parse_arguments::<OpenArguments>(arguments).and_then(|arguments| arguments.answer(call))
        }
        "list_conversations" => parse_arguments::<ListArguments>(arguments)
            .and_then(|arguments| arguments.answer(caller, call)),
        _ => {
            let message = format!("no such tool: {name}");
            return Err(RequestError::new(RequestErrorCode::InvalidParams, message));
        }
    };

    let is_error = outcome.is_err();
    let text = outcome.unwrap_or_else(|e| {
        let text = redact(&e.to_one_line());
        format!("error: {}", ansi::printable(&text))
    });
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn parse_arguments<T: DeserializeOwned>(arguments: &Value) -> Result<T> {
    let arguments = match arguments {
        // Clients may leave out the arguments of a tool that needs none.
        Value::Null => json!({}),
        object => object.clone(),
    };
    serde_json::from_value(arguments)
        .map_err(|e| CommandError::usage(format!("invalid arguments: {e}")))
}
