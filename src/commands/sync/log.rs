//! The log of a run, as `[logging]` configures it; without a file name it is in the manager home.

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::steps::run_log::RunLog;
use crate::sync::config::SyncConfig;

/// Runs `work` with a log.
pub(super) fn logged(
    context: &Context,
    config: &SyncConfig,
    work: impl FnOnce() -> Result<Outcome, CommandError>,
) -> Result<Outcome, CommandError> {
    let log = RunLog::begin(context, &config.logging, Some(&config.machine_id));
    let result = work();
    log.end(context, &result);
    result
}
