//! Asking Codex, as all commands do it that show figures; and `--refresh` of those that otherwise show what
//! was seen last.

use super::account::warn_all;
use super::status_accounts;
use crate::codex::app_server;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::cooldown::{self, CooldownFile};
use crate::inventory::status::{self, Inquiry, StatusOptions, StatusReport};

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

/// Looks at the live account: by pasted `/status` text if there is some, else by asking Codex.
///
/// # Errors
/// The text or auth.json cannot be used, or the user stopped it.
pub(super) fn observe_live(
    context: &Context,
    known: &CooldownFile,
    status_text: Option<&str>,
    ask_codex: bool,
) -> Result<StatusReport, CommandError> {
    Ok(status::observe(&StatusOptions {
        home: &context.settings.codex_home,
        inquiry: inquiry(context, known, ask_codex),
        status_text,
        reset_at: None,
    })?)
}

/// Notes what was seen; returns whether that succeeded. A failure is a warning: the user has the
/// answer, also where the manager home cannot be written to.
pub(super) fn record(context: &Context, report: &StatusReport) -> bool {
    let settings = &context.settings;
    let noted = status::record(
        &settings.manager_home,
        report,
        &context.now(),
        settings.zone,
    );
    match noted {
        Ok(updated) => {
            let warnings = updated.map(|u| u.warnings).unwrap_or_default();
            warn_all(&context.ui, &warnings);
            true
        }
        Err(e) => {
            let error = CommandError::from(e);
            context
                .ui
                .warn(format_args!("the answer is not noted: {error}"));
            false
        }
    }
}

/// Asks Codex about the live account and notes the answer, as `status` does. Whether both could be done;
/// if not, the reason is said.
///
/// # Errors
/// auth.json cannot be used, or a document is of a newer version.
pub(super) fn refresh_live(context: &Context) -> Result<bool, CommandError> {
    let settings = &context.settings;
    let known = cooldown::load(&settings.manager_home, &context.now(), settings.zone)?;
    let report = observe_live(context, &known.file, None, true)?;
    let is_noted = record(context, &report);
    if let Some(problem) = &report.problem {
        context.ui.warn(format_args!("no live figure: {problem}"));
    }
    Ok(report.is_complete() && is_noted)
}

/// Asks Codex about every account whose login is at hand, and notes the answers. Whether all of them
/// could be had; if not, the reasons are said.
///
/// # Errors
/// An auth.json cannot be read, or an answer cannot be noted.
pub(super) fn refresh_all(context: &Context) -> Result<bool, CommandError> {
    status_accounts::refresh_all(context)
}
