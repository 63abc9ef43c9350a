//! Checks of the archives in the manager home, and of its trash.

use super::check::{Check, Status};
use super::machine::MAX_CLOCK_SKEW_MINUTES;
use super::permissions::{advice_to_make_readable, list_entries};
use crate::context::Context;
use crate::ui::{problem as words, time};
use chrono::{DateTime, Duration, Utc};
use codex_manager_core::archive::metadata::Metadata;
use codex_manager_core::archive::names;
use codex_manager_core::archive::sidecar::SidecarProblem;
use codex_manager_core::inventory::codex_change::describe_codex_change;
use codex_manager_core::inventory::records::{ArchiveProblem, ArchiveRecord};
use codex_manager_core::inventory::{notices, store, trash};
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::io::temp_name::TEMP_PREFIX;
use codex_manager_core::io::{file_id, shell};
use std::path::{Path, PathBuf};

/// The age of the newest full archive, in days, above which `archives` warns.
const OLD_BACKUP_DAYS: i64 = 14;

/// The age of the last verification, in days, above which `archives.verified` warns.
const OLD_VERIFY_DAYS: i64 = 60;

/// The advice for a damaged archive, which no command can repair.
const REPLACE_ADVICE: &str = "create a new one: codex-manager backup; then remove this one by hand";

/// The finding about archives that a failed disk would take with the home.
pub(crate) const SINGLE_DISK: &str =
    "on the same disk as the Codex home, and no copy on another disk is known";

/// The name under which `backup` records that it has printed [`SINGLE_DISK`].
pub(crate) const SINGLE_DISK_NOTE: &str = "single-disk";

/// The advice for [`SINGLE_DISK`].
pub(crate) const OTHER_DISK_ADVICE: &str =
    "set up a vault on another disk or server: codex-manager vault init URL";

/// Returns true if the archives are on the disk of the Codex home, and neither a vault on another disk nor a sync is set
/// up.
pub(crate) fn is_on_single_disk(context: &Context) -> bool {
    let read_device = |path: &Path| file_id::read_device_and_inode(path).map(|(device, _)| device);
    let home_device = read_device(context.codex_home());
    let is_on_disk_of_home =
        |path: &Path| home_device.is_some() && read_device(path) == home_device;

    let vault = context.settings.preferences.vault.repository.as_ref();
    is_on_disk_of_home(&context.backups())
        && vault.is_none_or(|repository| is_on_disk_of_home(Path::new(repository)))
        && !context.manager_path("sync.toml").exists()
}

/// Returns true if there is an archive that `restore latest` would restore.
pub(super) fn has_archive(context: &Context) -> bool {
    // `check_archives` reports archives that cannot be listed.
    let records = context.archives().unwrap_or_default();
    let (home, machine) = (context.codex_home(), context.machine());
    !store::list_latest_first(&records, home, machine.as_deref(), ArchiveRecord::is_usable)
        .is_empty()
}

pub(super) fn run_checks(context: &Context) -> Vec<Check> {
    let mut checks = check_archives(context);
    checks.extend(check_foreign_entries(context.manager_home()));
    checks.extend(check_trash(context.manager_home()));
    checks
}

fn check_archives(context: &Context) -> Vec<Check> {
    let folder = context.backups();
    if folder.symlink_metadata().is_ok() && !folder.is_dir() {
        let check = Check::not_a_folder("archives", &folder);
        return vec![check.because("no archive can be created or restored")];
    }

    let records = match context.archives() {
        Ok(records) => records,
        Err(e) => {
            let check = Check::fail("archives", format!("{e}: {}", e.source))
                .because("no archive can be restored")
                .advised(advice_to_make_readable(&e.path));
            return vec![check];
        }
    };

    let mut checks: Vec<_> = records.iter().filter_map(check_record).collect();
    checks.extend(check_ages_and_codex(&records, context));
    checks
}

/// Returns the known problem of an archive or of its sidecar. `None` if there is none.
fn check_record(record: &ArchiveRecord) -> Option<Check> {
    let problem = record.problem()?;
    let description = words::describe_problem(record)?;
    let message = format!("{}: {description}", record.path);
    let damaged = || Check::fail("archives.damaged", message.clone());

    Some(match problem {
        ArchiveProblem::Sidecar(sidecar) => {
            let check = Check::fail("archives.sidecar", message)
                .because("each command that lists archives has to read this one completely");

            match sidecar {
                SidecarProblem::Missing | SidecarProblem::Damaged(_) => {
                    check.fixed_by("codex-manager doctor --fix")
                }
                SidecarProblem::Mismatch => check
                    .advised("move its .metadata.json away, then run: codex-manager doctor --fix"),
                SidecarProblem::Newer(_) => check.advised("upgrade codex-manager"),
                SidecarProblem::Unreadable(_) => check.advised("make its .metadata.json readable"),
            }
        }
        ArchiveProblem::NoArchive => damaged()
            .because("the archive that its sidecar describes cannot be restored")
            .advised("move the archive back, or remove its .metadata.json"),
        ArchiveProblem::Unreadable(_) => {
            damaged().because("it cannot be restored").advised(format!(
                "make it readable, then check it: codex-manager verify {}",
                shell::quote_if_needed(&record.path)
            ))
        }
        ArchiveProblem::Damaged(_) | ArchiveProblem::FoundDamaged => damaged()
            .because("it cannot be restored completely")
            .advised(REPLACE_ADVICE),
    })
}

/// Checks the age of the newest full archive and of the last verification, the dates of the archives, and that Codex
/// has not changed since the last archive. Warns if no archive is usable.
fn check_ages_and_codex(records: &[ArchiveRecord], context: &Context) -> Vec<Check> {
    if store::find_newest_usable(records, |_any_archive| true).is_none() {
        let no_archive = Check::warn("archives", "there is no usable archive")
            .because("there is no backup to restore")
            .fixed_by_backup(context.codex_home());
        return vec![no_archive];
    }

    let now = context.now();
    let verifications = records.iter().filter_map(|r| r.verified.as_ref());
    let last_verified = verifications.map(|v| v.at.to_utc()).max();
    let existing_archives = records.iter().filter(|r| r.archive.is_some());
    let creation_times = existing_archives
        .clone()
        .filter_map(|r| r.metadata.made_at());
    let first_created_at = creation_times.map(|at| at.to_utc()).min();
    let newest_full_at = find_newest_full_time(records, now);

    let mut checks = vec![
        check_backup_age(existing_archives.count(), newest_full_at, now),
        check_verify_age(last_verified, first_created_at, now),
    ];
    checks.extend(check_future_archives(records, now));
    checks.extend(check_new_codex(records, context));
    checks.extend(check_disk(context));
    checks
}

/// Warns if a failed disk would take the home and all known copies, until `backup` has printed it: the user may have a
/// copy that this program does not know.
fn check_disk(context: &Context) -> Option<Check> {
    const ID: &str = "archives.disk";
    if !is_on_single_disk(context) {
        return None;
    }
    let was_printed = notices::was_printed(context.manager_home(), SINGLE_DISK_NOTE);
    if was_printed.unwrap_or(false) {
        return Some(Check::ok(ID, SINGLE_DISK));
    }
    let check = Check::warn(ID, SINGLE_DISK)
        .because("a failed or lost disk takes the conversations and their backups");
    Some(check.advised(OTHER_DISK_ADVICE))
}

/// Warns if Codex changed since the last archive: a new Codex may rewrite conversations when it starts.
fn check_new_codex(records: &[ArchiveRecord], context: &Context) -> Option<Check> {
    // Compares the program files, not the versions: starting Codex for its version takes long, and Codex 0.98 then
    // writes to the home.
    let program = context.find_codex().ok()?;
    let (home, machine) = (context.codex_home(), context.machine());
    let change = describe_codex_change(records, home, machine.as_deref(), &program)?;
    let check = Check::warn("archives.codex", change)
        .because("a new Codex may rewrite conversations when it starts");
    Some(check.fixed_by("codex-manager backup --if-codex-changed"))
}

/// Returns the creation time of the newest full archive. Ignores safety backups, damaged archives, and archives dated
/// in the future.
pub(crate) fn find_newest_full_time(
    records: &[ArchiveRecord],
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let counts_as_full = |m: &Metadata| m.is_full() && !m.is_safety() && !is_in_future(m, now);
    store::find_newest_usable(records, counts_as_full)
        .map(|record| record.metadata.created_at.to_utc())
}

fn is_in_future(metadata: &Metadata, now: DateTime<Utc>) -> bool {
    metadata.created_at.to_utc() - now > Duration::minutes(MAX_CLOCK_SKEW_MINUTES)
}

/// Returns a warning about archives dated later than `now`, with a tolerance. `None` if there are none.
fn check_future_archives(records: &[ArchiveRecord], now: DateTime<Utc>) -> Option<Check> {
    let future_archives: Vec<_> = records
        .iter()
        .filter(|r| r.archive.is_some() && is_in_future(&r.metadata, now))
        .map(|r| PathBuf::from(&r.path))
        .collect();
    let finding = "dated in the future";
    let check = Check::about_paths("archives", Status::Warn, finding, &future_archives)?;
    let check = check.because("until then, restore latest restores it, and prune keeps it");
    Some(check.advised("set the clock; if the clock is correct, remove the archive by hand"))
}

fn check_backup_age(
    archive_count: usize,
    newest_full_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Check {
    let archives = pluralize(archive_count, "archive");
    let message = match newest_full_at {
        Some(created_at) => format!(
            "{archives}, the newest full archive is {} old",
            time::format_duration((now - created_at).max(Duration::zero()))
        ),
        None => format!("{archives}, none of them of the whole home"),
    };

    if newest_full_at.is_none_or(|created_at| now - created_at > Duration::days(OLD_BACKUP_DAYS)) {
        Check::warn("archives", message)
            .because("newer conversations are not backed up")
            .fixed_by("codex-manager backup")
    } else {
        Check::ok("archives", message)
    }
}

fn check_verify_age(
    last_verified: Option<DateTime<Utc>>,
    first_created_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Check {
    const ID: &str = "archives.verified";
    let message = match last_verified {
        Some(at) => format!(
            "last verification of an archive: {}",
            time::format_relative(&at.min(now), &now)
        ),
        None => "no archive has been verified yet".to_owned(),
    };

    // `backup` reads each new archive back, so its creation counts as a verification.
    let counted_from = last_verified.or(first_created_at).unwrap_or(now);
    if now - counted_from > Duration::days(OLD_VERIFY_DAYS) {
        Check::warn(ID, message)
            .because("disks can lose data without an error")
            .fixed_by("codex-manager verify --all")
    } else {
        Check::ok(ID, message)
    }
}

/// Reports unknown entries of `backups/`, which no command lists or prunes.
fn check_foreign_entries(manager_home: &Path) -> Option<Check> {
    let is_known = |name: &str| {
        names::is_archive_name(name)
            || names::is_sidecar_name(name)
            // A damaged sidecar, which `verify --repair` keeps.
            || name.split_once(".damaged").is_some_and(|(stem, _)| names::is_sidecar_name(stem))
            || name.starts_with(TEMP_PREFIX)
            // The trash, and the folders of the Python codex-manager.
            || [".trash", "auth", "sessions"].contains(&name)
    };

    let foreign_entries =
        list_entries(&store::backups_folder(manager_home), |name| !is_known(name));
    let finding = "not an archive, left unchanged";
    Check::about_paths("archives.foreign", Status::Ok, finding, &foreign_entries)
}

/// Reports the pruned archives in the trash. `None` if there are none, or if the trash cannot be read.
fn check_trash(manager_home: &Path) -> Option<Check> {
    let content = trash::read_trash(manager_home).ok()?;
    (content.archives > 0).then(|| {
        let archives = pluralize(content.archives, "pruned archive");
        let message = format!("in the trash: {archives}, {}", time::bytes(content.bytes));
        Check::ok("archives.trash", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::days(n)
    }

    #[test]
    fn old_archives_and_old_verifications_are_warnings() {
        assert_eq!(
            check_backup_age(1, Some(day(0)), day(14)).status,
            Status::Ok
        );
        assert_eq!(
            check_backup_age(1, Some(day(0)), day(15)).status,
            Status::Warn
        );
        assert_eq!(check_backup_age(1, None, day(0)).status, Status::Warn);
        let verified = |last, now| check_verify_age(last, Some(day(0)), day(now)).status;
        assert_eq!(verified(None, 60), Status::Ok);
        assert_eq!(verified(None, 61), Status::Warn);
        assert_eq!(verified(Some(day(50)), 61), Status::Ok);
        assert_eq!(verified(Some(day(50)), 111), Status::Warn);
        let now = check_verify_age(Some(day(3)), None, day(3));
        assert_eq!(now.message, "last verification of an archive: just now");
    }
}
