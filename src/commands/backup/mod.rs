//! `backup`: archives the Codex home.

mod show;

use self::show::{BackupResult, show_plan, show_result, show_up_to_date, warn_of_unused_globs};
use crate::context::Context;
use crate::copies::losses::archived::{self, BackupLosses};
use crate::doctor::{OTHER_DISK_ADVICE, SINGLE_DISK, SINGLE_DISK_NOTE, is_on_single_disk};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::backup_plan::{BackupPlan, QuotaArgs, check_account_unchanged, remove_leftovers};
use crate::steps::capture_args::CaptureArgs;
use crate::steps::home_checks::refuse_during_restore;
use crate::steps::new_snapshot::add_snapshot;
use crate::views::account::{warn_all, warn_unless_recorded};
use chrono::Duration;
use clap::Args;
use codex_manager_core::archive::{
    ArchiveError, ArchiveManifest, ArchiveReader, CaptureOptions, CapturedHome, Compression,
    NameSet, PreviousArchive, PublishedArchive, ReuseOptions, VerifyReused, capture, names,
    publish,
};
use codex_manager_core::codex::{CredentialStore, Identity, read_possible_identity};
use codex_manager_core::inventory::ArchiveRecord;
use codex_manager_core::inventory::archive_names::file_name;
use codex_manager_core::inventory::cooldown::LOCK_NAME;
use codex_manager_core::inventory::status::{self, StatusReport};
use codex_manager_core::inventory::{notices, store};
use codex_manager_core::io::atomic;
use codex_manager_core::io::time_format::parse_duration;
use std::path::Path;

/// Archive the Codex home
///
/// Codex may be running: databases are copied in one read transaction each, conversations end with
/// a complete line. The archive is one .tar.gz that any tar unpacks, with the digest of every file.
/// Nothing is overwritten.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  codex-manager backup
  codex-manager backup --if-older 12h --quiet      # for cron
  codex-manager backup --if-codex-changed          # after an update of Codex
  codex-manager backup --mode auth --label 'before the update'
  codex-manager backup --dry-run")]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    capture: CaptureArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    /// Do nothing if an archive younger than this exists: 12h, 1d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    if_older: Option<Duration>,
    /// Do nothing if Codex was not updated since the last archive; with --if-older, only if that one is recent too
    #[arg(long)]
    if_codex_changed: bool,
    /// The compression level [default: `backup.compression` of config.toml, else default]
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// Read every file again, even if it seems unchanged since the previous archive
    #[arg(long)]
    rehash: bool,
    /// The part of the reused data to check before it is copied from the previous archive [default:
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
    /// Archives the Codex home, unless `--if-older` or `--if-codex-changed` finds the last archive recent enough. With
    /// `--dry-run`, prints the plan.
    ///
    /// # Errors
    /// The home cannot be read, the status text belongs to another account, or the archive cannot be written. The home
    /// and the existing archives are unchanged then.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        self.capture.check_label()?;

        if let Some(recent) = self.find_recent_archive(context)? {
            return Ok(show_up_to_date(context, &recent));
        }

        let may_query = !self.dry_run;
        let plan = BackupPlan::create(context, &self.capture, &self.quota, may_query)?;
        if self.dry_run {
            return show_plan(context, &plan);
        }
        self.archive_home(context, plan)
    }

    /// Writes the archive and records it; with `--vault` also makes a snapshot. The outcome is partial if figures of
    /// the quota, files, a record or the snapshot are missing, or files are damaged.
    fn archive_home(&self, context: &Context, plan: BackupPlan) -> Result<Outcome> {
        create_folders(context)?;
        refuse_during_restore(context)?;
        remove_leftovers(context);
        let plan = &plan.with_machine(context);

        // The figures are recorded first, so that a failed capture does not lose them.
        let manager_home = context.manager_home();
        let (now, zone) = (context.now(), context.zone());
        // `note_archive` records the use of the account, once the archive exists.
        let used_at = None;
        let warnings = status::record_report(manager_home, &plan.report, used_at, &now, zone)?;
        warn_all(&context.ui, &warnings);

        let (captured, previous) = self.capture_home(context, plan)?;
        // Checked again, because a restore that began during the capture would mix the files of two states.
        refuse_during_restore(context)?;
        check_account_unchanged(plan, captured.login.as_ref())?;

        let packed = captured.packed;
        let published = publish::publish(
            captured.file,
            &packed,
            &plan.stem,
            &context.backups(),
            &manager_home.join(LOCK_NAME),
        )?;

        let recorded_archive =
            store::note_archive(manager_home, &published, &context.now(), context.zone());
        warn_all(&context.ui, &recorded_archive.warnings);
        let is_recorded = warn_unless_recorded(&context.ui, recorded_archive.failures);

        let losses = record_losses_or_warn(previous, &published.archive, &packed.manifest, context);
        let snapshot = if self.vault {
            add_snapshot_or_warn(context, plan)
        } else {
            None
        };
        let result = BackupResult {
            reused_bytes: packed.reused_bytes,
            excluded: captured.excluded,
            skipped: captured.skipped,
            damaged: captured.damaged,
            losses,
            snapshot,
            is_up_to_date: false,
        };
        show_result(context, &published, &plan.report, &result);
        warn_of_unused_globs(context, &plan.exclude_args, &result.excluded);
        note_single_disk_once(context);

        let lacks_figures = !self.quota.no_status && lacks_quota_figures(&plan.report);
        let lacks_snapshot = self.vault && result.snapshot.is_none();
        Ok(Outcome::partial_if(
            lacks_figures || !result.is_complete() || !is_recorded || lacks_snapshot,
        ))
    }

    /// Captures the home, and copies unchanged members from the previous archive. If the previous archive is damaged,
    /// captures again without it. Also returns the previous archive, if there is an intact one.
    fn capture_home(
        &self,
        context: &Context,
        plan: &BackupPlan,
    ) -> Result<(CapturedHome, Option<ArchiveReader>)> {
        let (backups, tmp) = (context.backups(), context.manager_path("tmp"));
        let previous = self.open_previous_archive(context)?;

        let preferences = &context.settings.preferences;
        let compression = self.compression.unwrap_or(preferences.compression);
        let reuse_options = ReuseOptions {
            verify: self.verify_reused.unwrap_or(preferences.verify_reused),
            rehash: self.rehash,
            compression,
        };
        let reusable = previous
            .as_ref()
            .and_then(|archive| PreviousArchive::open(archive, reuse_options, NameSet::default()));

        let capture_with = |reusable: Option<&PreviousArchive<'_>>| {
            let bar = context.ui.growing_bar("backing up");
            let options = CaptureOptions {
                backups: &backups,
                tmp: &tmp,
                compression,
                previous: reusable,
            };
            capture::capture(&plan.scope, &options, plan.metadata.clone(), &bar)
        };

        let is_reused = |path: &Path| reusable.as_ref().is_some_and(|old| path == old.path());
        match capture_with(reusable.as_ref()) {
            Err(ArchiveError::Damaged { archive, detail }) if is_reused(&archive) => {
                context.warn(format_args!(
                    "the previous archive {} is damaged ({detail}), so every file is read instead",
                    archive.display()
                ));
                let not_reusable = None;
                Ok((capture_with(not_reusable)?, None))
            }
            captured => {
                let captured = captured?;
                // `reusable` borrows `previous`, which is returned.
                drop(reusable);
                Ok((captured, previous))
            }
        }
    }

    /// Opens the last archive of this home and mode, preferably one with conversations. Returns `None` without such an
    /// archive, or if it cannot be opened: the backup can read every file of the home instead.
    fn open_previous_archive(&self, context: &Context) -> Result<Option<ArchiveReader>> {
        let records = context.archives()?;
        let (home, machine) = (context.codex_home(), context.machine());
        let (machine, mode) = (machine.as_deref(), self.capture.mode);
        let last = store::find_last_with_conversations(&records, home, machine, mode);
        let path = last.map(|record| context.backups().join(&record.path));
        Ok(path.and_then(|path| ArchiveReader::open(&path).ok()))
    }

    /// Returns the newest archive of this home, mode and account, if it makes a new one unnecessary: with `--if-older`
    /// it must be younger, and with `--if-codex-changed` of the installed build of Codex.
    fn find_recent_archive(&self, context: &Context) -> Result<Option<PublishedArchive>> {
        if self.if_older.is_none() && !self.if_codex_changed {
            return Ok(None);
        }

        let codex_build = self.read_required_codex_build(context)?;
        let records = context.archives()?;
        let Some(newest) = self.find_newest_of_account(&records, context) else {
            return Ok(None);
        };

        let age = context.now() - newest.metadata.created_at.to_utc();
        // The time of an archive is in the future if the clock was set back after the backup. Its age is unknown then.
        let is_too_old = self
            .if_older
            .is_some_and(|limit| age >= limit || age < Duration::zero());
        let is_of_other_codex = codex_build.is_some() && newest.metadata.codex_build != codex_build;
        if is_too_old || is_of_other_codex {
            return Ok(None);
        }

        let archive = context.backups().join(&newest.path);
        // The default is never used: `context.archives` lists only names of archives.
        let sidecar = names::sidecar_path(&archive).unwrap_or_default();
        Ok(Some(PublishedArchive {
            archive,
            sidecar,
            metadata: newest.metadata.clone(),
        }))
    }

    /// Returns the newest usable archive of this home, mode and account. If the account of the home is not known,
    /// archives of all accounts count.
    fn find_newest_of_account<'r>(
        &self,
        records: &'r [ArchiveRecord],
        context: &Context,
    ) -> Option<&'r ArchiveRecord> {
        let (home, machine) = (context.codex_home(), context.machine());
        let live_identity = read_possible_identity(home);
        // Codex may have its login outside of auth.json, where it is not read.
        let is_account_unknown =
            live_identity.is_none() && !CredentialStore::read(home).always_reads_auth_json();

        store::find_newest_usable(records, |metadata| {
            metadata.mode == self.capture.mode
                // Single logins and safety backups may have few files of the home.
                && !metadata.is_single_login()
                && !metadata.is_safety()
                && metadata.records_home(home)
                && !metadata.is_from_other_machine(machine.as_deref())
                && (is_account_unknown
                    || Identity::is_same_or_none(
                        metadata.identity().as_ref(),
                        live_identity.as_ref(),
                    ))
        })
    }

    /// Returns the build of Codex that a recent archive has to have; `None` if only its age counts.
    fn read_required_codex_build(&self, context: &Context) -> Result<Option<String>> {
        if !self.if_codex_changed {
            return Ok(None);
        }
        match read_codex_build(context) {
            // With `--if-older`, scheduled backups go on after Codex was removed.
            Err(_) if self.if_older.is_some() => Ok(None),
            build => build.map(Some),
        }
    }
}

/// Creates the folders that a backup writes to, if they do not exist.
fn create_folders(context: &Context) -> Result<()> {
    let (backups, tmp) = (context.backups(), context.manager_path("tmp"));
    for folder in [context.manager_home(), &backups, &tmp] {
        atomic::create_private_folder(folder)?;
    }
    Ok(())
}

/// Returns the installed build of Codex, in the form in which archives record it.
fn read_codex_build(context: &Context) -> Result<String> {
    let message = "--if-codex-changed needs the Codex program";
    let program = context
        .find_codex()
        .map_err(|e| CommandError::failed(message).because(e))?;
    program.build_id().ok_or_else(|| {
        CommandError::failed(format!("cannot read {}", program.path().display()))
            .hint("pass the path of codex: --codex-bin FILE")
    })
}

/// Makes a snapshot of the home in the vault, and returns its id. A failure is only a warning, because the archive is
/// complete.
fn add_snapshot_or_warn(context: &Context, plan: &BackupPlan) -> Option<String> {
    match add_snapshot(context, plan) {
        Ok(id) => Some(id),
        Err(e) => {
            let mut problem = vec![e.to_one_line()];
            problem.extend(e.hints);
            context.warn(format_args!(
                "the archive was made, but there is no snapshot in the vault: {}",
                problem.join("; ")
            ));
            None
        }
    }
}

/// Records and returns the messages and conversations that an earlier archive has and the new one lacks. A failure is
/// only a warning, because the new archive is complete.
fn record_losses_or_warn(
    previous: Option<ArchiveReader>,
    new_archive: &Path,
    manifest: &ArchiveManifest,
    context: &Context,
) -> BackupLosses {
    let name = file_name(new_archive);
    let losses = archived::find_and_record_losses(previous, &name, manifest, context);
    losses.unwrap_or_else(|e| {
        context.ui.warn(format_args!(
            "the new archive was not compared with earlier ones for lost messages: {}",
            e.to_one_line()
        ));
        BackupLosses::default()
    })
}

/// Notes in the first backup after which it holds that a failed disk would take the home and its archives.
fn note_single_disk_once(context: &Context) {
    if !context.ui.shows_notes() || !is_on_single_disk(context) {
        return;
    }
    // If it cannot be recorded, the note does not repeat with every backup.
    let is_first = notices::is_first_time(context.manager_home(), SINGLE_DISK_NOTE);
    if is_first.unwrap_or(false) {
        context.note(format_args!(
            "the archives are {SINGLE_DISK}; {OTHER_DISK_ADVICE}"
        ));
    }
}

/// Returns true if figures of the account's quota are missing. They are not missing for an account with an API key or a
/// signed-out home, which have no quota.
fn lacks_quota_figures(report: &StatusReport) -> bool {
    let is_signed_out = report.identity.is_none() && report.store.always_reads_auth_json();
    report.observation.is_none() && !report.is_billed_by_use() && !is_signed_out
}
