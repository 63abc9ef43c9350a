//! The program, the homes and the user with which a job runs.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::this_program;
use codex_manager_core::codex::Program;
use codex_manager_core::schedule::{JobContext, Scheduler};
use std::path::PathBuf;

/// Returns the absolute path of the configured Codex program, if one is configured. A bare name is
/// resolved now, because the scheduler's `PATH` may differ.
pub(super) fn find_configured_codex(context: &Context) -> Result<Option<PathBuf>> {
    let program = context
        .settings
        .codex_bin
        .as_deref()
        .map(|bin| Program::find(Some(bin), &context.env))
        .transpose()
        .map_err(|e| {
            CommandError::usage(e.to_string())
                .hint("set its path: codex-manager config set codex.bin FILE; nothing was changed")
        })?;
    Ok(program.map(|program| program.path().to_path_buf()))
}

pub(super) fn build_job_context(
    context: &Context,
    scheduler: Scheduler,
    codex_bin: Option<PathBuf>,
) -> Result<JobContext<'_>> {
    Ok(JobContext {
        scheduler,
        program: this_program::find_this_program(context)?,
        codex_home: context.codex_home().to_path_buf(),
        manager_home: context.manager_home().to_path_buf(),
        codex_bin,
        env: &context.env,
        user_id: user_id(),
    })
}

#[cfg(unix)]
fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

// Only launchd, of macOS, uses the id.
#[cfg(not(unix))]
fn user_id() -> u32 {
    0
}
