//! `normalize`: records legacy `21apr_me@x.com_auth.json` files in the inventory.

mod show;

use self::show::WrittenFiles;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::views::account::warn_all;
use chrono::Duration;
use clap::Args;
use codex_manager_core::archive::{Metadata, names};
use codex_manager_core::inventory::cooldown::{self, LOCK_NAME};
use codex_manager_core::inventory::legacy::{self, LegacyMerge, SkippedLegacyFile};
use codex_manager_core::inventory::{InventoryFile, LegacyRecord, store};
use codex_manager_core::io::{DocumentState, IoContext, atomic, document};
use codex_manager_core::quota::LegacyOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  codex-manager normalize ~/old-dumps
  codex-manager normalize --recursive --session-duration-hours 1.5 ~/dumps
  codex-manager normalize --dry-run --json ~/old-dumps";

/// Import old login files such as `21apr_me@x.com_auth.json`
///
/// The modification time of a file is the time at which its account's quota ran out. The session
/// began --session-duration-hours before, and the account is available again seven days after that.
/// The day in the name is only used to check this time. The files are never changed, and a second run
/// changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NormalizeArgs {
    /// Folders to search, or single files [default: the Codex home]
    #[arg(value_name = "DIR")]
    places: Vec<PathBuf>,
    /// Hours between the first use and the end of the weekly quota; may be fractional [default:
    /// `normalize.session_duration_hours` of config.toml, else 2]
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    session_duration_hours: Option<f64>,
    /// The year of the day in the names [default: the current year, or the one that matches]
    #[arg(long, value_name = "YEAR", value_parser = clap::value_parser!(i32).range(1970..=9999))]
    year: Option<i32>,
    /// Search subfolders as well
    #[arg(short, long)]
    recursive: bool,
    /// Also write a sidecar for each record into backups/
    #[arg(long)]
    write_metadata: bool,
    /// Also write an auth-only archive for each file with a usable login into backups/
    #[arg(long)]
    write_archives: bool,
    /// Show what would be done, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl NormalizeArgs {
    /// Reads legacy files and merges them into the inventory.
    ///
    /// # Errors
    /// A folder cannot be listed, a flag has an invalid value, or a document cannot be written.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let (records, mut skipped) = self.read_records(context)?;
        let backups = context.manager_path("backups");
        let merged = if self.dry_run {
            let mut inventory = read_inventory_or_warn(context)?;
            legacy::merge_records(&mut inventory, records, |r, name| {
                is_taken(&backups, r, name)
            })
        } else {
            merge_into_documents(records, context)?
        };

        let files = self.write_files(&merged, &backups, &mut skipped, context)?;
        skipped.sort();
        let is_partial = skipped.iter().any(|s| s.is_fault);

        show::show_report(&merged, &skipped, context);
        if !self.dry_run {
            for path in files.sidecars.iter().chain(&files.archives) {
                context.ui.detail(format_args!("written: {path}"));
            }
        }

        show::show_json(&merged, &skipped, &files, self.dry_run, context);
        if !self.dry_run && !merged.records.is_empty() {
            context.note("see which accounts are ready with: codex-manager accounts");
        }
        Ok(Outcome::partial_if(is_partial))
    }

    /// Returns the records to merge and the skipped files. Writes nothing.
    fn read_records(
        &self,
        context: &Context,
    ) -> Result<(Vec<LegacyRecord>, Vec<SkippedLegacyFile>)> {
        let default_hours = context.settings.preferences.session_duration_hours;
        let hours = self.session_duration_hours.unwrap_or(default_hours);
        let options = LegacyOptions {
            session_duration: parse_session_duration(hours)?,
            year: self.year,
        };

        let places = self.places.iter();
        let mut places: Vec<_> = places.map(|place| context.env.absolute(place)).collect();
        if places.is_empty() {
            places.push(context.codex_home().to_path_buf());
        }

        let scan = legacy::scan_places(&places, self.recursive).map_err(|e| {
            let is_missing = e.source.kind() == std::io::ErrorKind::NotFound;
            let error = CommandError::from(e);
            if is_missing {
                return error.hint(
                    "name an existing folder with old login files: codex-manager normalize DIR",
                );
            }
            error
        })?;

        let (now, zone) = (context.now(), context.zone());
        let mut skipped: Vec<_> = scan.skipped.into_iter().collect();
        let mut records = Vec::new();
        for path in scan.files {
            match legacy::read_record(&path, &options, &now, zone) {
                // `None` for a file whose name is not that of an old login.
                Ok(record) => records.extend(record),
                Err(e) => skipped.push(failed_file(path, e.source.to_string())),
            }
        }
        Ok((records, skipped))
    }

    /// Writes the requested archives and sidecars, except those that exist. A dry run only returns their names.
    fn write_files(
        &self,
        merged: &LegacyMerge,
        backups: &Path,
        skipped: &mut Vec<SkippedLegacyFile>,
        context: &Context,
    ) -> Result<WrittenFiles> {
        let mut files = WrittenFiles::default();
        for record in &merged.records {
            let archived = if self.write_archives {
                self.write_archive(record, backups, skipped, context)?
            } else {
                RecordArchive::NotWritten
            };
            match archived {
                // An archive comes with its sidecar.
                RecordArchive::Written => files.archives.push(record.archive_name.clone()),
                RecordArchive::NotWritten if self.write_metadata => {
                    files.sidecars.extend(self.write_sidecar(record, backups)?);
                }
                RecordArchive::NotWritten | RecordArchive::Changed => {}
            }
        }

        let has_files = !files.archives.is_empty() || !files.sidecars.is_empty();
        if has_files && !self.dry_run {
            store::refresh(context.manager_home())?;
        }
        Ok(files)
    }

    /// Writes the auth-only archive of a record, unless it exists. Adds the file to `skipped` if it has no usable login
    /// or changed since it was recorded.
    fn write_archive(
        &self,
        record: &LegacyRecord,
        backups: &Path,
        skipped: &mut Vec<SkippedLegacyFile>,
        context: &Context,
    ) -> Result<RecordArchive> {
        let path = backups.join(&record.archive_name);
        let (problem, result) = match record.problem.as_deref() {
            Some(problem) => (problem, RecordArchive::NotWritten),
            None if path.symlink_metadata().is_ok() => return Ok(RecordArchive::NotWritten),
            None if self.dry_run => return Ok(RecordArchive::Written),
            None => {
                let (lock, now) = (context.manager_path(LOCK_NAME), context.local_now());
                if legacy::write_login_archive(record, &path, &lock, now)?.is_some() {
                    return Ok(RecordArchive::Written);
                }
                ("the file changed while it was read", RecordArchive::Changed)
            }
        };
        let source = PathBuf::from(&record.source_path);
        skipped.push(failed_file(source, format!("no archive: {problem}")));
        Ok(result)
    }

    /// Writes the sidecar of a record without an archive, and returns its name; `None` if it exists.
    fn write_sidecar(&self, record: &LegacyRecord, backups: &Path) -> Result<Option<String>> {
        let name = names::sidecar_name(&record.archive_name);
        let Some(name) = name.filter(|name| backups.join(name).symlink_metadata().is_err()) else {
            return Ok(None);
        };
        if self.dry_run {
            return Ok(Some(name));
        }

        let path = backups.join(&name);
        atomic::create_private_folder(backups)?;
        let mut temp = atomic::TempFile::create_beside(&path)?;
        let bytes = document::encode(&path, &record.metadata)?;
        temp.file().write_all(&bytes).at("write", &path)?;
        // If another process has taken the name, the next run chooses another one.
        Ok(temp.publish(&path)?.is_ok().then_some(name))
    }
}

/// The result of writing the archive of a record.
enum RecordArchive {
    Written,
    /// The archive exists, or the record has no usable login.
    NotWritten,
    /// The file changed since it was recorded. The next run records it again.
    Changed,
}

const HOURS_PER_WEEK: f64 = 168.0;

/// Converts the value of `--session-duration-hours`, which may be at most a week.
fn parse_session_duration(hours: f64) -> Result<Duration> {
    if !(0.0..=HOURS_PER_WEEK).contains(&hours) {
        return Err(CommandError::usage(format!(
            "--session-duration-hours must be from 0 to 168: {hours}"
        )));
    }
    #[allow(clippy::cast_possible_truncation, reason = "at most 604800")]
    Ok(Duration::seconds((hours * 3600.0).round() as i64))
}

/// Merges the records into `inventory.json`, then into `cooldown.json`.
///
/// Both steps can be repeated, so after a crash between them the next run completes the second one.
fn merge_into_documents(records: Vec<LegacyRecord>, context: &Context) -> Result<LegacyMerge> {
    let home = context.manager_home();
    if records.is_empty() {
        return Ok(LegacyMerge::default());
    }

    // A newer or unreadable cooldown.json is refused before the first document is written.
    cooldown::load(home, &context.now(), context.zone())?;
    atomic::create_private_folder(home)?;

    let backups = home.join("backups");
    let (merged, moved_aside) = document::update::<InventoryFile, _>(
        &context.manager_path("inventory.json"),
        &context.manager_path(LOCK_NAME),
        |inventory| {
            legacy::merge_records(inventory, records, |r, name| is_taken(&backups, r, name))
        },
    )?;
    if let Some(damaged_copy) = moved_aside {
        context.warn(format_args!(
            "inventory.json was damaged; it was kept as {}, and a new one was created",
            damaged_copy.display()
        ));
    }

    let merged_records = InventoryFile {
        legacy: merged.records.clone(),
        ..InventoryFile::default()
    };
    let ((), warnings) = cooldown::update(home, &context.now(), context.zone(), |file| {
        file.record_inventory(&merged_records);
    })?;
    warn_all(&context.ui, &warnings);
    Ok(merged)
}

/// Reads `inventory.json` without changing it. Warns of a damaged file, which counts as empty.
fn read_inventory_or_warn(context: &Context) -> Result<InventoryFile> {
    let path = context.manager_path("inventory.json");
    Ok(match document::read(&path)? {
        DocumentState::Good(inventory) => inventory,
        DocumentState::Absent => InventoryFile::default(),
        DocumentState::Damaged(problem) => {
            context.warn(format_args!(
                "a damaged file is read as empty ({problem}): {}",
                path.display()
            ));
            InventoryFile::default()
        }
    })
}

/// Returns true if `backups` may have an archive or a sidecar of this name that does not belong to `record`.
fn is_taken(backups: &Path, record: &LegacyRecord, name: &str) -> bool {
    let archive = backups.join(name);
    let Some(sidecar) = names::sidecar_path(&archive) else {
        return true;
    };
    match document::read::<Metadata>(&sidecar) {
        Ok(DocumentState::Absent) => archive.symlink_metadata().is_ok(),
        Ok(DocumentState::Good(metadata)) => !is_sidecar_of(&metadata, record),
        Ok(DocumentState::Damaged(_)) | Err(_) => true,
    }
}

/// Returns true if the sidecar was written for this legacy file.
fn is_sidecar_of(metadata: &Metadata, record: &LegacyRecord) -> bool {
    metadata.legacy_auth_filename == record.metadata.legacy_auth_filename
        && metadata.source_codex_home == record.metadata.source_codex_home
        && metadata.session_start_at == record.metadata.session_start_at
}

fn failed_file(path: PathBuf, reason: String) -> SkippedLegacyFile {
    SkippedLegacyFile {
        path,
        reason,
        is_fault: true,
    }
}
