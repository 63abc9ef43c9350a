//! The usage of launched conversations, which lists of accounts and `current` show below the figures of the server.

use crate::context::Context;
use crate::ui::object;
use crate::ui::windows::window_json;
use crate::views::account::{local_rfc3339, relative_time, short_id, warn_all};
use codex_manager_core::codex::Identity;
use codex_manager_core::io::{DocumentError, ProcessTable};
use codex_manager_core::launch::record::LaunchRecord;
use codex_manager_core::launch::registry::Launches;
use codex_manager_core::launch::{binding, settle};
use codex_manager_core::quota::{AccountEntry, QuotaSource, SessionUsage};
use serde::Serialize;
use std::path::Path;

/// Completes launches whose codex-manager was killed, and returns all launches.
///
/// # Errors
/// The registry cannot be read or completed.
pub(crate) fn settle_launches(context: &Context) -> Result<Launches, DocumentError> {
    let (env, now) = (&context.env, context.local_now());
    let settled = settle::settle_ended(context.manager_home(), env, now, context.zone());
    let (launches, warnings) = settled?;
    warn_all(&context.ui, &warnings);
    Ok(launches)
}

/// The launches that still run, with the usage read from their rollouts.
#[derive(Debug, Default)]
pub(crate) struct LaunchedUsages {
    running: Vec<LaunchRecord>,
}

impl LaunchedUsages {
    /// Completes launches after their codex-manager was killed, and reads the newest figures of running ones. Rollouts
    /// of launches that were complete before are not opened. Read errors are warnings.
    pub(crate) fn read(context: &Context) -> Self {
        let launches = match settle_launches(context) {
            Ok(launches) => launches,
            Err(e) => {
                context.warn(format_args!("cannot read the launches: {e}"));
                return Self::default();
            }
        };

        let mut running: Vec<_> = launches.iter_unsettled().collect();
        for record in &mut running {
            let since = record.run.started_at.to_utc();
            // Codex writes the figures of the server into the rollout (`token_count`), so no query is needed.
            for conversation in &mut record.binding.conversations {
                binding::fill_latest_usage(conversation, since);
            }
        }
        Self { running }
    }

    /// Returns the account of a process that runs on an isolated home; `None` for any other process.
    pub(crate) fn find_isolated_account(&self, pid: u32) -> Option<&Identity> {
        let is_isolated = |record: &&LaunchRecord| record.run.isolated_home.is_some();
        let mut isolated = self.running.iter().filter(is_isolated).peekable();
        // Without isolated launches, the table of all processes is not read.
        isolated.peek()?;
        let home = ProcessTable::read().get(pid)?.variable("CODEX_HOME")?;
        let launch = isolated.find(|record| record.home() == Path::new(&home))?;
        Some(&launch.identity)
    }

    pub(crate) fn find_newest_usage(&self, entry: &AccountEntry) -> Option<SessionUsage> {
        self.running
            .iter()
            .filter(|record| record.identity.is_same(&entry.identity))
            .filter_map(settle::find_newest_usage)
            .chain(entry.session.clone())
            .max_by_key(|usage| usage.captured_at)
    }
}

/// Returns usage in JSON. The keys are an interface.
pub(crate) fn usage_json(usage: &SessionUsage, context: &Context) -> impl Serialize + use<> {
    let zone = context.zone();
    let windows = usage.windows.iter().map(|window| window_json(window, zone));
    object()
        .with("rollout_path", usage.rollout_path.clone())
        .with("session_id", usage.session_id.clone())
        .with("captured_at", local_rfc3339(&usage.captured_at, context))
        .with("source", QuotaSource::LaunchWrapper)
        .with("windows", windows.collect::<Vec<_>>())
}

/// Formats usage as "launched conversation 01a1fd3e-3c70, 5 min ago: weekly 9 % left". Returns `None` without
/// windows.
pub(crate) fn format_usage(usage: &SessionUsage, context: &Context) -> Option<String> {
    if usage.windows.is_empty() {
        return None;
    }

    let windows = usage.windows.iter().map(|window| {
        let left = (100.0 - window.used_percent).max(0.0);
        format!("{} {left:.0} % left", window.label())
    });
    let windows = windows.collect::<Vec<_>>().join(", ");
    let conversation = short_id(&usage.session_id);
    let age = relative_time(&usage.captured_at, context);
    Some(format!(
        "launched conversation {conversation}, {age}: {windows}"
    ))
}
