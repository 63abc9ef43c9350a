//! Plans a backup: the files to capture, and the metadata with the quota of the account.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::capture_args::CaptureArgs;
use crate::steps::home_checks::{describe_login_ban, forbids_logins, require_codex_home};
use crate::steps::refresh::{read_live_status, read_status_text};
use crate::ui::time::format_duration;
use crate::views::account::load_figures;
use chrono::Duration;
use clap::Args;
use codex_manager_core::archive::scan::{self, HomeScan};
use codex_manager_core::archive::{BackupMode, CaptureScope, Excludes, Metadata, names};
use codex_manager_core::codex::window::WEEKLY_MINUTES;
use codex_manager_core::codex::{CodexConfig, Login};
use codex_manager_core::inventory::status::{self, StatusReport};
use codex_manager_core::inventory::{cleanup, cooldown};
use codex_manager_core::io::{OrdinaryPath, TimeDirection, Timestamp, time_point};
use codex_manager_core::quota::Observation;
use codex_manager_core::quota::window::SAME_WINDOW;
use codex_manager_core::vault::state;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The scope, quota and metadata of a backup, collected without writing.
pub(crate) struct BackupPlan {
    pub(crate) scope: CaptureScope,
    pub(crate) report: StatusReport,
    pub(crate) metadata: Metadata,
    /// The name of the archive without its suffix.
    pub(crate) stem: String,
    /// The globs of `--exclude`. The command warns if one of them matches nothing. The globs of config.toml are not
    /// included, because they need not match in every home.
    pub(crate) exclude_args: Vec<String>,
}

impl BackupPlan {
    /// Plans a capture of the Codex home. Writes nothing. Asks Codex for the quota only if `may_query` is true.
    ///
    /// # Errors
    /// There is no Codex home, an option is not valid, the recorded figures cannot be read, or the user interrupts.
    pub(crate) fn create(
        context: &Context,
        capture: &CaptureArgs,
        quota: &QuotaArgs,
        may_query: bool,
    ) -> Result<Self> {
        require_codex_home(context)?;
        let scope = build_scope(context, capture)?;

        let asks_codex = may_query && !quota.no_status;
        let report = quota.read_status(context, asks_codex)?;
        warn_of_quota_problems(context, &report, asks_codex);

        let (metadata, stem) = build_metadata_and_stem(context, capture, &report);
        Ok(Self {
            scope,
            report,
            metadata,
            stem,
            exclude_args: capture.exclude.clone(),
        })
    }

    /// Records the machine in the metadata. Creates the id of the machine if there is none. If the id cannot be stored,
    /// prints a warning, and the archive records no machine.
    pub(crate) fn with_machine(mut self, context: &Context) -> Self {
        match state::ensure_machine_id(context.manager_home()) {
            Ok(machine) => self.metadata.machine = Some(machine),
            Err(e) => context.warn(format_args!(
                "the archive does not record this machine: {}",
                CommandError::from(e).to_one_line()
            )),
        }
        self
    }

    /// Lists the files that a capture would include now, and returns the metadata that the archive would have.
    ///
    /// # Errors
    /// The home cannot be read.
    pub(crate) fn scan_home(&self) -> Result<(HomeScan, Metadata)> {
        let mut scan = scan::scan_home(&self.scope, &Arc::default())?;
        let mut damaged_texts = scan.find_damaged_texts();
        scan.damaged.append(&mut damaged_texts);
        let metadata = Metadata {
            files: scan.file_count() as u64,
            bytes: scan.total_bytes(),
            ..self.metadata.clone()
        };
        Ok((scan, metadata))
    }
}

/// Sources of the quota in the metadata of a backup.
#[derive(Debug, Default, Args)]
pub(crate) struct QuotaArgs {
    /// Do not query the quota
    #[arg(long)]
    pub(crate) no_status: bool,
    /// Use text pasted from Codex's /status instead of asking Codex; - is standard input
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// Reset time of the weekly window, set by hand: "tue 15:55", RFC 3339, +3d
    #[arg(long, value_name = "TIME")]
    reset_at: Option<String>,
}

impl QuotaArgs {
    fn read_status(&self, context: &Context, asks_codex: bool) -> Result<StatusReport> {
        let now = context.now();
        let status_file = self.status_file.as_deref();
        let text = status_file.map(read_status_text).transpose()?;

        let parse_reset = |text: &String| {
            time_point::parse(text, TimeDirection::Ahead, &now, context.zone())
                .map(|period| period.next_bound(&now))
                .map_err(|e| CommandError::usage("--reset-at is not a valid time").because(e))
        };
        let reset_at = self.reset_at.as_ref().map(parse_reset).transpose()?;

        let known_figures = load_figures(context)?;
        let mut report = read_live_status(context, &known_figures, text.as_deref(), asks_codex)?;
        if let Some(reset_at) = reset_at {
            status::override_reset(&mut report, reset_at, context.zone().at(&now));
        }
        Ok(report)
    }
}

fn build_scope(context: &Context, capture: &CaptureArgs) -> Result<CaptureScope> {
    let settings = &context.settings;
    let home = &settings.codex_home;
    let mut scope = CaptureScope::new(home, capture.mode);
    scope.include_tmp = capture.include_tmp || settings.preferences.include_tmp;
    scope.include_worktrees = capture.include_worktrees || settings.preferences.include_worktrees;

    scope.without_logins = forbids_logins(context, &settings.manager_home);
    // An archive of conversations has no logins, so it needs no warning.
    if scope.without_logins && capture.mode != BackupMode::Sessions {
        context.warn(format_args!(
            "the logins are left out: {}",
            describe_login_ban(&settings.manager_home)
        ));
    }

    scope.sqlite_home = find_outside_sqlite_home(home, context);
    scope.exclude_manager_home(&settings.manager_home);

    let configured = &settings.preferences.exclude;
    let globs = [&configured[..], &capture.exclude].concat();
    if let Some(glob) = globs.iter().find(|glob| glob.trim_matches('/').is_empty()) {
        let message = format!("an excluded glob matches the whole home: {glob:?}");
        return Err(CommandError::usage(message)
            .hint("name a file or folder in it: codex-manager backup --exclude plugins")
            .hint(
                "or reset the setting to its default: codex-manager config unset backup.exclude",
            ));
    }

    scope.excludes = Excludes::compile(&globs)
        .map_err(|e| CommandError::usage("--exclude is not a valid glob").because(e))?;
    Ok(scope)
}

fn build_metadata_and_stem(
    context: &Context,
    capture: &CaptureArgs,
    report: &StatusReport,
) -> (Metadata, String) {
    let now = context.local_now();
    let observation = report.observation.as_ref();
    let window_start = observation.and_then(Observation::weekly_window_start);
    let session_start_at = window_start.map(|at| context.zone().at(&at));
    // Always 168 hours, even if the clocks change: the server counts the same way.
    let reset_at = session_start_at.map(|at| at + Duration::days(7));

    let mut metadata = Metadata {
        session_start_at,
        next_available_at: reset_at,
        reset_at,
        plan: report.plan.clone(),
        inference_basis: match (session_start_at, observation) {
            (Some(_), Some(observation)) => format!(
                "reset of the weekly window ({WEEKLY_MINUTES} minutes) minus 7 days, source {}",
                observation.source.name()
            ),
            _ => "time of creation: the weekly window is unknown".into(),
        },
        source_codex_home: context.codex_home().display().to_string(),
        created_at: now,
        codex_build: context
            .find_codex()
            .ok()
            .and_then(|program| program.build_id()),
        status_source: observation.map_or("none", |s| s.source.name()).into(),
        windows: observation.map(|s| s.windows.clone()).unwrap_or_default(),
        windows_observed_at: observation.map(|s| s.observed_at),
        quota_end_detected_at: find_quota_end(context, report, reset_at),
        mode: capture.mode,
        label: capture.label.clone(),
        ..Metadata::default()
    };

    let account_name = match &report.identity {
        Some(identity) => {
            metadata.set_identity(identity);
            identity.email.to_string()
        }
        None => names::SIGNED_OUT.into(),
    };

    let stem = names::stem(&session_start_at.unwrap_or(now), &account_name);
    (metadata, stem)
}

/// Returns the folder of the databases if it is outside of the home. Codex takes it from `sqlite_home` in its
/// config.toml, else from `CODEX_SQLITE_HOME`.
fn find_outside_sqlite_home(home: &Path, context: &Context) -> Option<PathBuf> {
    let configured = CodexConfig::read(home).database_folder(home, &context.env)?;
    // The variable may name the home by a link. Without this check, the databases would be captured twice.
    let is_inside = configured
        .canonical_or_self()
        .starts_with(home.canonical_or_self());
    (!is_inside).then_some(configured)
}

/// Returns the time at which the weekly window that ends at `reset_at` was first observed to be exhausted, by
/// `cooldown.json` and the current observation.
fn find_quota_end(
    context: &Context,
    report: &StatusReport,
    reset_at: Option<Timestamp>,
) -> Option<Timestamp> {
    let (identity, reset_at) = (report.identity.as_ref()?, reset_at?);

    // If `cooldown.json` cannot be read, only the current observation counts.
    let mut figures = cooldown::load(context.manager_home(), &context.now(), context.zone())
        .map(|loaded| loaded.file)
        .unwrap_or_default();
    figures
        .entry(identity)
        .add_observation(report.observation.clone()?);

    let quota_end = figures.find(identity)?.quota_end.as_ref()?;
    let is_same_window = (quota_end.resets_at - reset_at).abs() <= SAME_WINDOW;
    is_same_window.then(|| context.zone().at(&quota_end.detected_at))
}

fn warn_of_quota_problems(context: &Context, report: &StatusReport, asked_codex: bool) {
    for note in &report.notes {
        context.warn(note);
    }

    if asked_codex && let Some(problem) = &report.problem {
        let substitute = match &report.observation {
            Some(observation) => {
                let age = context.now().signed_duration_since(observation.observed_at);
                let source = observation.source.name();
                format!(
                    "using the quota figures from {} ago (source: {source})",
                    format_duration(age)
                )
            }
            None => "the archive is named after its creation time, because the start of the weekly window is unknown".into(),
        };
        context.warn(format_args!("no live quota ({problem}); {substitute}"));
    }
}

/// Fails if the account changed during the capture. Passes if no account was signed in before or after the capture.
pub(crate) fn check_account_unchanged(plan: &BackupPlan, captured: Option<&Login>) -> Result<()> {
    let planned_account = plan.report.identity.as_ref();
    let captured_account = captured.map(|login| &login.identity);
    if let (Some(planned_account), Some(captured_account)) = (planned_account, captured_account)
        && !planned_account.is_same(captured_account)
    {
        return Err(CommandError::failed(format!(
            "the login changed from {planned_account} to {captured_account} while the home was captured"
        ))
        .hint("run the same command again; no backup was made"));
    }
    Ok(())
}

/// Removes leftovers of killed processes from the manager home. If this fails, prints a warning, because leftovers only
/// take space.
pub(crate) fn remove_leftovers(context: &Context) {
    let manager = context.manager_home();
    for error in cleanup::remove_leftovers(manager) {
        let message = CommandError::from(error).to_one_line();
        context.warn(format_args!(
            "cannot remove leftovers in {}: {message}",
            manager.join("tmp").display()
        ));
    }
}
