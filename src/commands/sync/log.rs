//! The log that `[logging]` asks for; without a name it is in the manager home.

use crate::commands::log::RunLog;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::logging::retention::Archive;
use crate::logging::{Format, LogSettings, Severity};
use crate::sync::config::{self, SyncConfig};

/// Does `work`, noted in the log.
pub(super) fn logged(
    context: &Context,
    config: &SyncConfig,
    work: impl FnOnce() -> Result<Outcome, CommandError>,
) -> Result<Outcome, CommandError> {
    let settings = log_settings(&config.logging);
    let log = RunLog::begin(context, &settings, Some(&config.machine_id));
    let result = work();
    log.end(context, &result);
    result
}

/// How the log is kept, as `[logging]` has it.
fn log_settings(logging: &config::Logging) -> LogSettings {
    LogSettings {
        level: match logging.level {
            config::LogLevel::Debug => Severity::Debug,
            config::LogLevel::Info => Severity::Info,
            config::LogLevel::Warning => Severity::Warning,
            config::LogLevel::Error => Severity::Error,
        },
        file: logging.file.clone(),
        format: match logging.format {
            config::LogFormat::Text => Format::Text,
            config::LogFormat::Json => Format::Json,
            config::LogFormat::Logfmt => Format::Logfmt,
        },
        retention_days: u32::try_from(logging.retention_days).unwrap_or(u32::MAX),
        archive: match logging.archive_mode {
            config::ArchiveMode::Zip => Archive::Zip,
            config::ArchiveMode::Text => Archive::Text,
        },
        max_file_bytes: logging.max_file_size_mb.saturating_mul(1024 * 1024),
    }
}
