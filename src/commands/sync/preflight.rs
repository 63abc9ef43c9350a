//! `sync validate` and `sync preflight`: check the configuration and whether a sync could run.

use crate::choices::sync_config::read_config;
use crate::context::Context;
use crate::doctor::Status;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_checks::{format_misspelled_root_warnings, run_checks};
use crate::ui::object;
use crate::views::check_output;
use codex_manager_core::sync::scope::Scope;
use std::path::Path;

/// Checks the configuration file only.
pub(super) fn validate(context: &Context, path: &Path) -> Result<Outcome> {
    let config = read_config(context, path)?;
    Scope::build(&config)
        .map_err(|e| CommandError::usage(format!("filters.exclude_globs: {e}")))?;

    let root_warnings = format_misspelled_root_warnings(&config);
    for warning in &root_warnings {
        context.ui.warn(warning);
    }

    let json = object()
        .with("path", path)
        .with("ok", true)
        .with("warnings", [config.warnings, root_warnings].concat());
    context.ui.document("sync validate", &json);
    context.ui.prose(format_args!("valid: {}", path.display()));
    Ok(Outcome::Done)
}

/// Checks the configuration, the folders and the programs that use them.
pub(super) fn preflight(
    context: &Context,
    path: &Path,
    shutdown_args: &ShutdownArgs,
) -> Result<Outcome> {
    let checks = run_checks(context, path, shutdown_args)?;
    let ui = &context.ui;
    ui.list_document("sync preflight", "checks", &checks);
    for check in &checks {
        check_output::print_check(ui, check);
    }
    let has_failed = checks.iter().any(|check| check.status == Status::Fail);
    Ok(Outcome::passed_if(!has_failed))
}
