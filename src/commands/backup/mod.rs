//! `backup`: archives the Codex home.

mod capture_args;
mod guards;
mod result;
mod show;

pub(super) use self::capture_args::CaptureArgs;
pub(super) use self::guards::{check_account_unchanged, remove_stale_temps};
pub(super) use self::result::BackupPlan;
use self::result::BackupResult;
pub(super) use self::show::show_left_out;
use self::show::{show_done, show_plan, show_up_to_date, warn_of_unused_globs};
use crate::archive::ArchiveError;
use crate::archive::capture::{self, CaptureOptions, CapturedHome};
use crate::archive::format::Compression;
use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::archive::publish::{self, PublishedArchive};
use crate::archive::reuse::{PreviousArchive, ReuseOptions, VerifyReused};
use crate::archive::scope::{CaptureScope, Excludes};
use crate::codex::auth::AuthFile;
use crate::codex::config::CodexConfig;
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::codex::window::WEEKLY_MINUTES;
use crate::commands::account::{warn_all, warn_not_recorded};
use crate::commands::home_checks::refuse_during_restore;
use crate::commands::refresh::inquiry;
use crate::commands::status_text::read_text;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::cooldown::{self, CooldownFile, LOCK_NAME};
use crate::inventory::status::{self, StatusOptions, StatusReport};
use crate::inventory::store;
use crate::io::clock::Timestamp;
use crate::io::{atomic, time_format};
use crate::quota::reset_time;
use crate::quota::window::Observation;
use crate::ui::time::duration;
use chrono::Duration;
use clap::Args;
use std::path::{Path, PathBuf};

/// Archive the Codex home
///
/// Codex may be running: databases are copied in one read transaction each, conversations end with
/// a complete line. The archive is one .tar.gz that any tar unpacks, with the digest of every file.
/// Nothing is overwritten.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag on the command line"
)]
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  codex-manager backup
  codex-manager backup --if-older 12h --quiet      # for cron
  codex-manager backup --mode auth --label 'before the update'
  codex-manager backup --dry-run")]
pub struct BackupArgs {
    #[command(flatten)]
    capture: CaptureArgs,
    /// Do not query the quota
    #[arg(long)]
    no_status: bool,
    /// Use text pasted from Codex's /status instead of asking Codex; - is standard input
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// Reset time of the weekly window, set by hand: "tue 15:55", RFC 3339, +3d
    #[arg(long, value_name = "TIME")]
    reset_at: Option<String>,
    /// Do nothing if an archive younger than this exists: 12h, 1d
    #[arg(long, value_name = "DURATION")]
    if_older: Option<String>,
    /// The compression level [default: `backup.compression` of config.toml, else default]
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// Read every file again, also those that seem unchanged since the previous archive
    #[arg(long)]
    rehash: bool,
    /// Share of the data copied from the previous archive that is checked first [default:
    /// `backup.verify_reused` of config.toml, else sample]
    #[arg(long, value_enum, value_name = "HOW")]
    verify_reused: Option<VerifyReused>,
    /// Make a snapshot in the vault too
    #[arg(long)]
    vault: bool,
    /// Show what would be archived; make no query, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl BackupArgs {
    /// Archives the Codex home. With `--dry-run`, prints the plan.
    ///
    /// # Errors
    /// The home cannot be read, the status text belongs to another account, or the archive cannot
    /// be written. No existing file is changed.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        self.capture.check_label()?;
        if let Some(recent) = self.recent_archive(context)? {
            return Ok(show_up_to_date(context, &recent));
        }
        let plan = self.plan(context)?;
        if self.dry_run {
            return show_plan(context, &plan);
        }
        let manager = &context.settings.manager_home;
        let backups = store::backups(manager);
        let tmp = manager.join("tmp");
        for folder in [manager, &backups, &tmp] {
            atomic::create_private_folder(folder)?;
        }
        refuse_during_restore(context)?;
        remove_stale_temps(context, manager);
        let recorded =
            status::record(manager, &plan.report, &context.now(), context.settings.zone)?;
        warn_all(
            &context.ui,
            &recorded.map(|u| u.warnings).unwrap_or_default(),
        );

        let captured = self.capture(context, &plan)?;
        refuse_during_restore(context)?;
        check_account_unchanged(&plan, captured.login.as_ref())?;
        let mut outcome = BackupResult {
            snapshot: None,
            reused_bytes: captured.packed.reused_bytes,
            excluded: captured.excluded,
            skipped: captured.skipped,
            damaged: captured.damaged,
        };
        let published = publish::publish(
            captured.file,
            &captured.packed,
            &plan.stem,
            &backups,
            &manager.join(LOCK_NAME),
        )?;
        let recorded_archive =
            store::note_archive(manager, &published, &context.now(), context.settings.zone);
        warn_all(&context.ui, &recorded_archive.warnings);
        let is_recorded = warn_not_recorded(&context.ui, recorded_archive.failures);
        let is_in_vault = !self.vault || {
            outcome.snapshot = add_to_vault(context, &plan);
            outcome.snapshot.is_some()
        };
        show_done(context, &published, &plan.report, &outcome);
        warn_of_unused_globs(context, &plan.globs, &outcome.excluded);
        let no_quota = !self.no_status && lacks_quota(&plan.report);
        let is_whole = outcome.skipped.is_empty() && outcome.damaged.is_empty();
        Ok(Outcome::partial_if(
            no_quota || !is_whole || !is_recorded || !is_in_vault,
        ))
    }

    /// Captures the home. Copies unchanged members from the previous archive; if that turns out to
    /// be damaged, starts again without it.
    fn capture(&self, context: &Context, plan: &BackupPlan) -> Result<CapturedHome, CommandError> {
        let manager = &context.settings.manager_home;
        let (backups, tmp) = (store::backups(manager), manager.join("tmp"));
        let records = store::archives(manager)?;
        let preferences = &context.settings.preferences;
        let compression = self.compression.unwrap_or(preferences.compression);
        let options = ReuseOptions {
            verify: self.verify_reused.unwrap_or(preferences.verify_reused),
            rehash: self.rehash,
            compression,
        };
        let mut source = store::previous(&records, &context.settings.codex_home, self.capture.mode)
            .and_then(|path| PreviousArchive::open(&backups.join(path), options));
        loop {
            let bar = context.ui.bar("backing up", 0);
            let options = CaptureOptions {
                backups: &backups,
                tmp: &tmp,
                compression,
                source: source.as_ref(),
            };
            let captured = capture::capture(&plan.scope, &options, plan.metadata.clone(), &bar);
            match (captured, &source) {
                (Err(ArchiveError::Damaged { archive, detail }), Some(damaged))
                    if archive == damaged.path() =>
                {
                    context.ui.warn(format_args!(
                        "the previous archive is damaged ({detail}); every file is read instead: {}",
                        archive.display()
                    ));
                    source = None;
                }
                (captured, _) => return Ok(captured?),
            }
        }
    }

    /// Returns the arguments of a capture that does not query the quota.
    pub(super) fn without_query(capture: CaptureArgs) -> Self {
        Self {
            capture,
            no_status: true,
            ..Self::default()
        }
    }

    pub(super) fn plan(&self, context: &Context) -> Result<BackupPlan, CommandError> {
        let settings = &context.settings;
        let home = settings.codex_home.clone();
        if !home.is_dir() {
            return Err(
                CommandError::failed(format!("no Codex home: {}", home.display()))
                    .hint("start codex once, or name the folder with --codex-home DIR"),
            );
        }
        let mut scope = CaptureScope::new(&home, self.capture.mode);
        scope.include_tmp = self.capture.include_tmp || settings.preferences.include_tmp;
        scope.sqlite_home = sqlite_home(&home, context);
        scope.exclude_manager_home(&settings.manager_home);
        let configured = settings.preferences.exclude.iter();
        let globs: Vec<_> = configured.chain(&self.capture.exclude).cloned().collect();
        let is_empty = |glob: &&String| glob.trim_matches('/').is_empty();
        if let Some(glob) = globs.iter().find(is_empty) {
            return Err(
                CommandError::usage(format!("--exclude matches the whole home: {glob:?}"))
                    .hint("name a file or folder in it: codex-manager backup --exclude plugins"),
            );
        }
        scope.excludes = Excludes::new(&globs)
            .map_err(|e| CommandError::usage("--exclude is not a valid glob").because(e))?;
        let report = self.observe_quota(context)?;
        warn_of_missing_quota(context, &report, self.no_status || self.dry_run);
        let (metadata, stem) = self.metadata_and_stem(context, &report);
        Ok(BackupPlan {
            scope,
            report,
            metadata,
            stem,
            globs: self.capture.exclude.clone(),
        })
    }

    fn observe_quota(&self, context: &Context) -> Result<StatusReport, CommandError> {
        let settings = &context.settings;
        let now = context.now();
        let text = self.status_file.as_deref().map(read_text).transpose()?;
        let reset_at = match &self.reset_at {
            None => None,
            Some(text) => Some(
                reset_time::parse(text, &now, settings.zone)
                    .map_err(|e| CommandError::usage("--reset-at is not a valid time").because(e))?
                    .to_utc(),
            ),
        };
        let known = cooldown::load(&settings.manager_home, &now, settings.zone)?;
        warn_all(&context.ui, &known.warnings);
        Ok(status::observe(&StatusOptions {
            home: &settings.codex_home,
            inquiry: inquiry(context, &known.file, !self.no_status && !self.dry_run),
            status_text: text.as_deref(),
            reset_at,
        })?)
    }

    /// Returns the metadata and the stem of the archive's name.
    fn metadata_and_stem(&self, context: &Context, report: &StatusReport) -> (Metadata, String) {
        let now = context.local_now();
        let week = Duration::days(7);
        let observation = report.observation.as_ref();
        let weekly = observation.and_then(Observation::weekly);
        let session_start_at = observation
            .and_then(Observation::session_start_at)
            .map(|at| context.settings.zone.at(&at));
        let mut metadata = Metadata {
            session_start_at,
            next_available_at: session_start_at.map(|at| at + week),
            reset_at: session_start_at.map(|at| at + week),
            plan: report.plan.clone(),
            inference_basis: match (session_start_at, observation) {
                (Some(_), Some(observation)) => format!(
                    "reset of the weekly window ({WEEKLY_MINUTES} minutes) minus 7 days, source {}",
                    observation.source.name()
                ),
                _ => "time of creation: the weekly window is unknown".into(),
            },
            source_codex_home: context.settings.codex_home.display().to_string(),
            created_at: now,
            status_source: observation.map_or("none", |s| s.source.name()).into(),
            windows: observation.map(|s| s.windows.clone()).unwrap_or_default(),
            windows_observed_at: observation.map(|s| s.observed_at),
            mode: self.capture.mode,
            label: self.capture.label.clone(),
            ..Metadata::default()
        };
        let label = match &report.identity {
            Some(identity) => {
                metadata.set_identity(identity);
                identity.email.to_string()
            }
            None => names::SIGNED_OUT.into(),
        };
        metadata.quota_end_detected_at =
            quota_end(context, report, weekly.and_then(|w| w.resets_at));
        let stem = names::stem(&session_start_at.unwrap_or(now), &label);
        (metadata, stem)
    }

    /// Returns the newest archive of this home, mode and account, if it is younger than
    /// `--if-older`.
    fn recent_archive(&self, context: &Context) -> Result<Option<PublishedArchive>, CommandError> {
        let Some(text) = &self.if_older else {
            return Ok(None);
        };
        let limit = time_format::parse_span(text)
            .filter(|s| *s >= Duration::zero())
            .ok_or_else(|| {
                CommandError::usage(format!("--if-older is not a duration: {text:?}"))
                    .hint("use a form like 30min, 12h, 1d or \"1d 12h\"")
            })?;
        let manager = &context.settings.manager_home;
        let records = store::archives(manager)?;
        let home = context.settings.codex_home.display().to_string();
        let identity = AuthFile::read(&context.settings.codex_home.join(AUTH_JSON))
            .unwrap_or_else(|e| AuthFile::from_read_error(&e))
            .login()
            .map(|l| l.identity.clone());
        let newest = store::newest(&records, |m| {
            m.mode == self.capture.mode
                && m.source_codex_home == home
                && !m.is_single_login()
                && !m.is_safety()
                && same_account(m.identity().as_ref(), identity.as_ref())
        });
        let Some(newest) = newest else {
            return Ok(None);
        };
        let age = context
            .now()
            .signed_duration_since(newest.metadata.created_at);
        if age >= limit || age < Duration::zero() {
            return Ok(None);
        }
        let archive = store::backups(manager).join(&newest.path);
        let sidecar = names::sidecar_path(&archive).unwrap_or_default();
        Ok(Some(PublishedArchive {
            archive,
            sidecar,
            metadata: newest.metadata.clone(),
        }))
    }
}

/// Makes a snapshot of the home in the vault, and returns its id. A failure is a warning: the archive
/// was made.
fn add_to_vault(context: &Context, plan: &BackupPlan) -> Option<String> {
    match super::vault::add_snapshot(context, plan) {
        Ok(id) => Some(id),
        Err(e) => {
            let hints = e.hints.join("; ");
            context.ui.warn(format_args!(
                "the archive was made, but no snapshot in the vault: {}; {hints}",
                e.in_one_line()
            ));
            None
        }
    }
}

fn same_account(a: Option<&Identity>, b: Option<&Identity>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is_same(b),
        (None, None) => true,
        _ => false,
    }
}

/// Returns the folder of the databases if it is not the home itself: `sqlite_home` of Codex's
/// config, else `CODEX_SQLITE_HOME`.
pub fn sqlite_home(home: &Path, context: &Context) -> Option<PathBuf> {
    let configured = CodexConfig::read(home).database_folder(home, &context.env)?;
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    (real(&configured) != real(home)).then_some(configured)
}

/// Returns the time at which the weekly window was first observed to be exhausted, according to
/// `cooldown.json` or the current observation.
fn quota_end(
    context: &Context,
    report: &StatusReport,
    reset_at: Option<Timestamp>,
) -> Option<Timestamp> {
    let (identity, reset_at) = (report.identity.as_ref()?, reset_at?);
    let settings = &context.settings;
    let mut known = cooldown::load(&settings.manager_home, &context.now(), settings.zone)
        .map_or_else(|_| CooldownFile::default(), |loaded| loaded.file);
    known.observe(identity, report.observation.clone()?);
    let end = known.find(identity)?.quota_end.as_ref()?;
    let same = (end.resets_at - reset_at).abs() <= crate::quota::window::SAME_WINDOW;
    same.then(|| settings.zone.at(&end.detected_at))
}

/// Returns true if the account should have a quota, but no source has one.
fn lacks_quota(report: &StatusReport) -> bool {
    let signed_out = report.identity.is_none() && report.store.reads_auth_json();
    report.observation.is_none() && !report.is_api_key() && !signed_out
}

fn warn_of_missing_quota(context: &Context, report: &StatusReport, not_asked: bool) {
    for note in &report.notes {
        context.ui.warn(note);
    }
    if let Some(problem) = report.problem.as_ref().filter(|_| !not_asked) {
        let instead = match &report.observation {
            Some(observation) => {
                let age = context.now().signed_duration_since(observation.observed_at);
                let source = observation.source.name();
                format!(
                    "using the quota figures from {} ago (source: {source})",
                    duration(age)
                )
            }
            None => "the archive is named after its creation time, because the start of the weekly window is unknown".into(),
        };
        context
            .ui
            .warn(format_args!("no live quota ({problem}); {instead}"));
    }
}
