//! Asking Codex, as all commands do it that show figures; and `--refresh` of those that otherwise show what
//! was seen last.

use super::account::warn_all;
use super::survey;
use crate::codex::app_server;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::cooldown::{self, CooldownFile};
use crate::inventory::status::{self, Inquiry, StatusOptions};

/// How accounts are asked about now.
pub(super) fn inquiry<'a>(
    context: &'a Context,
    known: &'a CooldownFile,
    ask_codex: bool,
) -> Inquiry<'a> {
    Inquiry {
        env: &context.env,
        codex_bin: context.settings.codex_bin.as_deref(),
        now: context.now(),
        zone: context.settings.zone,
        deadline: app_server::DEADLINE,
        known,
        ask_codex,
    }
}

/// Asks Codex about the live account and notes the answer, as `status` does. Whether it could be had;
/// if not, the reason is said.
///
/// # Errors
/// auth.json cannot be read, or the answer cannot be noted.
pub(super) fn live(context: &Context) -> Result<bool, CommandError> {
    let settings = &context.settings;
    let now = context.now();
    let known = cooldown::load(&settings.manager_home, &now, settings.zone)?;
    let report = status::observe(&StatusOptions {
        home: &settings.codex_home,
        inquiry: inquiry(context, &known.file, true),
        status_text: None,
        reset_at: None,
    })?;
    if let Some(updated) = status::record(&settings.manager_home, &report, &now, settings.zone)? {
        warn_all(&context.ui, &updated.warnings);
    }
    if let Some(problem) = &report.problem {
        context.ui.warn(format_args!("no live figure: {problem}"));
    }
    Ok(report.is_complete())
}

/// Asks Codex about every account whose login is at hand, and notes the answers. Whether all of them
/// could be had; if not, the reasons are said.
///
/// # Errors
/// An auth.json cannot be read, or an answer cannot be noted.
pub(super) fn all(context: &Context) -> Result<bool, CommandError> {
    survey::refresh(context)
}
