//! A call of a tool, and the arguments that several tools have.

use super::index_refresh::IndexRefresh;
use crate::choices::project_choice::find_project_folders;
use crate::choices::selection_args::parse_millis_range;
use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::codex::threads::ThreadFilter;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The values that a tool needs to answer a call, besides its arguments.
pub(super) struct CallContext<'a> {
    pub context: &'a Context,
    pub index: &'a IndexRefresh,
    pub is_cancelled: &'a AtomicBool,
}

/// The conversations that a call is about.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CallScope {
    /// Conversations in the folder in which the client started this server, or below it.
    #[default]
    Here,
    All,
}

/// Returns the number in a cursor, which counts the results or lines of earlier answers. 0 without a cursor.
///
/// # Errors
/// The cursor is not from this server.
pub(super) fn parse_cursor(cursor: Option<&str>) -> Result<usize> {
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let count = cursor.map_or(Ok(0), str::parse);
    count.map_err(|_| CommandError::usage("invalid cursor: pass the cursor of the last answer"))
}

/// Returns the filter of a call.
///
/// # Errors
/// `since` is not a time, or no project has this name.
pub(super) fn to_thread_filter(
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

    let to_text = |folder: PathBuf| folder.to_string_lossy().into_owned();
    let period = since.map(|text| parse_millis_range(text, context));
    Ok(ThreadFilter {
        folders: folders.map(|folders| folders.into_iter().map(to_text).collect()),
        since_ms: period.transpose()?.map(|period| period.start),
        ..ThreadFilter::default()
    })
}
