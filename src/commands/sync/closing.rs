//! Who uses the home that a sync would change, as `[process_detection]` and the flags have it.

use super::shared;
use crate::codex::process;
use crate::commands::shutdown::{ShutdownArgs, can_ask, list};
use crate::context::Context;
use crate::doctor::Check;
use crate::error::CommandError;
use crate::shutdown::{self, ShutdownError, ShutdownPlan, ShutdownRequest, ShutdownTargets};
use crate::sync::config::SyncConfig;
use std::path::Path;

const UNKNOWN: &str = "this system does not show who uses the Codex home";
const UNKNOWN_REMEDY: &str = "end Codex and set safety.fail_on_unknown = false";

/// Does `work` with what closing Codex needs to know; `None` where Codex may run.
fn with_closing<T>(
    context: &Context,
    config: &SyncConfig,
    work: impl FnOnce(&ShutdownRequest<'_>) -> T,
) -> Option<T> {
    if !config.safety.require_codex_stopped {
        return None;
    }
    let outside = process::outside_folders(&config.local, &context.env);
    Some(work(&ShutdownRequest {
        home: &config.local,
        outside: &outside,
        codex_bin: context.settings.codex_bin.as_deref(),
        env: &context.env,
        settings: &config.closing,
    }))
}

/// Nobody may use the home while files of it are copied or replaced: Codex is ended, with consent.
pub(super) fn nobody_home(
    context: &Context,
    config: &SyncConfig,
    args: &ShutdownArgs,
) -> Result<(), CommandError> {
    if config.safety.require_codex_stopped && !process::can_list_processes() {
        if config.safety.fail_on_unknown {
            return Err(CommandError::refused(UNKNOWN)
                .hint(format!("{UNKNOWN_REMEDY}; nothing was changed")));
        }
        context.ui.warn(UNKNOWN);
    }
    with_closing(context, config, |request| args.shut_down(context, request))
        .transpose()
        .map(|_| ())
}

/// Checks that a `sync run --apply` with the flags `args` could have the Codex home to itself. It fails where
/// such a run is refused whatever the user answers.
pub(super) fn check(
    context: &Context,
    config: &SyncConfig,
    path: &Path,
    args: &ShutdownArgs,
) -> Check {
    const ID: &str = "sync.codex";
    const WHY: &str = "no sync changes files while Codex uses them";
    if !config.safety.require_codex_stopped {
        let message = "Codex may run during a sync: safety.require_codex_stopped = false";
        return Check::ok(ID, message);
    }
    if !process::can_list_processes() {
        return if config.safety.fail_on_unknown {
            Check::fail(ID, UNKNOWN)
                .because(WHY)
                .advised(UNKNOWN_REMEDY)
        } else {
            Check::warn(ID, UNKNOWN)
        };
    }
    let command = shared::command(context, path, "run --apply");
    match plan_closing(context, config, args) {
        None | Some(ShutdownPlan::Nothing) => Check::ok(ID, "the Codex home is not in use"),
        Some(ShutdownPlan::Refuse(refusal)) => {
            let remedy = refusal.reason.remedy();
            let message = ShutdownError::Refused(refusal).to_string();
            Check::fail(ID, message).because(WHY).advised(remedy)
        }
        Some(ShutdownPlan::Ask(closing)) if !can_ask(context, &config.closing) => {
            let message = format!(
                "Codex is running, and the user cannot be asked whether to end it: {}",
                shutdown::named(&closing.processes)
            );
            Check::fail(ID, message).because(WHY).advised(format!(
                "end Codex, or let the sync end it: {command} --auto-terminate-without-confirmation"
            ))
        }
        Some(ShutdownPlan::Ask(closing)) => in_use(&closing)
            .because(WHY)
            .advised(format!("end Codex, or say yes when asked by: {command}")),
        Some(ShutdownPlan::Terminate(closing)) => in_use(&closing)
            .because(WHY)
            .advised(format!("with the same flags, this ends it: {command}")),
    }
}

fn in_use(closing: &ShutdownTargets) -> Check {
    let processes = shutdown::named(&closing.processes);
    Check::warn(
        "sync.codex",
        format!("the Codex home is in use: {processes}"),
    )
}

/// What would be done about those who use the home.
pub(super) fn plan_closing(
    context: &Context,
    config: &SyncConfig,
    args: &ShutdownArgs,
) -> Option<ShutdownPlan> {
    with_closing(context, config, |request| args.plan(context, request))
}

/// Whether anybody uses the home who may not; under `--verbose` all of them are listed.
pub(super) fn is_somebody_home(context: &Context, config: &SyncConfig) -> bool {
    with_closing(context, config, |request| {
        let seen = request.scan();
        list(context, &seen);
        !seen.is_unused()
    })
    .unwrap_or_default()
}

/// Those who use the home and may not, each as a line.
pub(super) fn who_is_home(context: &Context, config: &SyncConfig) -> Vec<String> {
    with_closing(context, config, |request| {
        let seen = request.scan();
        seen.holders().iter().map(ToString::to_string).collect()
    })
    .unwrap_or_default()
}

/// Warns of those who began to use the home while files of it were replaced: what they read may be a
/// mixture of old and new.
pub(super) fn say_who_came(context: &Context, config: &SyncConfig) {
    let holders = who_is_home(context, config);
    if !holders.is_empty() {
        context.ui.warn(format_args!(
            "began to use the Codex home meanwhile, end it and start it again: {}",
            holders.join(", ")
        ));
    }
}

/// Says what would be done about those who use the home.
pub(super) fn say_closing(context: &Context, plan: Option<&ShutdownPlan>) {
    match plan {
        None | Some(ShutdownPlan::Nothing) => {}
        Some(ShutdownPlan::Ask(closing)) => context.ui.note(format_args!(
            "Codex is running; with your consent these would be ended: {}",
            shutdown::named(&closing.processes)
        )),
        Some(ShutdownPlan::Terminate(closing)) => context.ui.note(format_args!(
            "Codex is running; these would be ended: {}",
            shutdown::named(&closing.processes)
        )),
        Some(ShutdownPlan::Refuse(refusal)) => context.ui.warn(format_args!(
            "the Codex home is in use, and nothing would be done while it is: {}",
            refusal.holders.join(", ")
        )),
    }
}
