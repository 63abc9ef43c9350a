//! The tools: their description, and reading the arguments of a call.

use super::index_refresh::IndexRefresh;
use super::list::ListArguments;
use super::message::{RequestError, RequestErrorCode};
use super::open::OpenArguments;
use super::search::SearchArguments;
use crate::choices::project_choice::find_project_folders;
use crate::choices::selection_args::{PeriodEnd, parse_unix_millis};
use crate::codex::threads::ThreadFilter;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::ansi;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What clients know of the tools.
const TOOLS: &str = include_str!("tools.json");

/// A call of a tool that is being answered.
pub(super) struct PastCall<'a> {
    pub context: &'a Context,
    pub index: &'a IndexRefresh,
    pub is_cancelled: &'a AtomicBool,
}

impl PastCall<'_> {
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// The conversations that a call is about.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CallScope {
    /// Those in the folder in which the client started this server, or below it.
    #[default]
    Here,
    All,
}

/// Returns the result of `tools/list`.
pub(super) fn list() -> Value {
    let tools: Value = serde_json::from_str(TOOLS).unwrap_or_default();
    json!({ "tools": tools })
}

/// Calls a tool. An error of the tool is a result too, so that the model sees it and can correct its call.
///
/// # Errors
/// There is no such tool.
pub(super) fn call(
    params: &Value,
    call: &PastCall<'_>,
) -> std::result::Result<Value, RequestError> {
    let name = params["name"].as_str().unwrap_or_default();
    let arguments = &params["arguments"];
    // Codex tells in which conversation it calls. That one has the words of the query.
    let caller = params["_meta"]["threadId"].as_str();
    let text =
        match name {
            "search_conversations" => parse::<SearchArguments>(arguments)
                .and_then(|arguments| arguments.answer(caller, call)),
            "open_conversation" => {
                parse::<OpenArguments>(arguments).and_then(|arguments| arguments.answer(call))
            }
            "list_conversations" => parse::<ListArguments>(arguments)
                .and_then(|arguments| arguments.answer(caller, call)),
            _ => {
                let message = format!("no such tool: {name}");
                return Err(RequestError::new(RequestErrorCode::InvalidParams, message));
            }
        };
    let is_error = text.is_err();
    let text = text.unwrap_or_else(|e| {
        let text = super::answer::redact(&e.to_one_line());
        format!("error: {}", ansi::printable(&text))
    });
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn parse<T: DeserializeOwned>(arguments: &Value) -> Result<T> {
    let arguments = match arguments {
        // Clients may leave out the arguments of a tool that needs none.
        Value::Null => json!({}),
        given => given.clone(),
    };
    serde_json::from_value(arguments)
        .map_err(|e| CommandError::usage(format!("invalid arguments: {e}")))
}

/// Returns the number that a cursor stands for: 0 without one.
///
/// # Errors
/// It is not one of this server.
pub(super) fn parse_cursor(cursor: Option<&str>) -> Result<usize> {
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let number = cursor.map_or(Ok(0), str::parse);
    number.map_err(|_| CommandError::usage("the cursor is not one of an answer"))
}

/// Returns the filter of a call.
///
/// # Errors
/// The time is none, or no project has this name.
pub(super) fn make_filter(
    scope: CallScope,
    project: Option<&str>,
    since: Option<&str>,
    context: &Context,
) -> Result<ThreadFilter> {
    let folders = match (project, scope) {
        (Some(project), _) => Some(find_project_folders(Path::new(project), context)?),
        (None, CallScope::Here) => Some(vec![context.env.current_dir.clone()]),
        (None, CallScope::All) => None,
    };
    let folders = folders.map(|folders| {
        let folders = folders.into_iter();
        folders
            .map(|folder| folder.to_string_lossy().into_owned())
            .collect()
    });
    let since_ms = since.map(|since| parse_unix_millis(since, PeriodEnd::First, context));
    Ok(ThreadFilter {
        folders,
        since_ms: since_ms.transpose()?,
        ..ThreadFilter::default()
    })
}
