//! Checks of the machine: clock, time zone, free space, network file systems and sync services.

use super::check::Check;
use crate::context;
use crate::context::Context;
use crate::ui::bytes;
use chrono::{DateTime, Duration, TimeZone as _, Utc};
use codex_manager_core::archive::metadata::Metadata;
use codex_manager_core::inventory::store;
use codex_manager_core::io::clock::Zone;
use codex_manager_core::io::{OrdinaryPath, clock, modes, shell, space, tree};
use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

/// Parts of folder names, in lower case, that identify the folder of a sync service, with the name of the service.
const SYNC_SERVICES: [(&str, &str); 10] = [
    ("dropbox", "Dropbox"),
    ("onedrive", "OneDrive"),
    ("google drive", "Google Drive"),
    ("googledrive", "Google Drive"),
    ("mobile documents", "iCloud"),
    ("icloud", "iCloud"),
    ("cloudstorage", "a cloud service"),
    ("nextcloud", "Nextcloud"),
    ("owncloud", "ownCloud"),
    ("pcloud", "pCloud"),
];

/// The number of minutes by which a file may be newer than the clock without a warning.
pub(super) const MAX_CLOCK_SKEW_MINUTES: i64 = 10;

pub(crate) fn run_checks(context: &Context) -> Vec<Check> {
    let homes = [
        ("home.cloud", "home.disk", context.codex_home()),
        ("manager.cloud", "manager.disk", context.manager_home()),
    ];

    let mut checks = Vec::new();
    for (cloud_id, disk_id, home) in homes {
        let real_home = home.canonical_or_self();
        checks.extend(check_sync_service(cloud_id, &real_home));
        // FAT, exFAT and most mounts of Windows disks have one mode for all files.
        if modes::exposes_files(&real_home) {
            checks.push(missing_modes_warning(disk_id, &real_home));
        } else if let Some(kind) = space::network_file_system(&real_home) {
            checks.push(network_file_system_warning(disk_id, &real_home, kind));
        }
    }

    // The clock must not be behind the newest of these files.
    let read_mtime = |name: &str| context.codex_home().join(name).metadata()?.modified();
    let mtimes = ["auth.json", "history.jsonl"].map(|name| read_mtime(name).ok());
    let known_mtimes = mtimes.into_iter().flatten();
    let newest_file_time = known_mtimes.filter_map(clock::from_file_time).max();

    #[allow(
        clippy::disallowed_methods,
        reason = "files are stamped by the system's clock, whatever the time of the run is"
    )]
    let system_now = DateTime::<Utc>::from(SystemTime::now());

    checks.push(check_clock(system_now, newest_file_time));

    // A zone set by flag or configuration takes precedence over TZ.
    let tz = if context.settings.zone_is_set {
        None
    } else {
        context.env.text("TZ")
    };
    checks.push(check_zone(tz, context.zone()));

    checks.extend(check_free_space(context));
    checks
}

/// Returns the component of `path` that is named after a sync service, and the name of the service.
pub(crate) fn find_sync_service(path: &Path) -> Option<(&OsStr, &'static str)> {
    path.iter().find_map(|component| {
        let lower = component.to_string_lossy().to_lowercase();
        let service_entry = SYNC_SERVICES.iter().find(|(name, _)| lower.contains(name));
        service_entry.map(|(_, service)| (component, *service))
    })
}

/// Returns a warning if `path` is in a folder of a sync service.
fn check_sync_service(id: &'static str, path: &Path) -> Option<Check> {
    let (part, service) = find_sync_service(path)?;
    let (part, path) = (part.to_string_lossy(), path.display());
    let check = Check::warn(id, format!("in a folder synced by {service} ({part}): {path}"))
        .because("the service copies databases during a write, and logins to other machines, where each use invalidates the other copies");
    Some(check.advised("move it to a folder that is not synced"))
}

fn network_file_system_warning(id: &'static str, path: &Path, kind: &str) -> Check {
    let message = format!("on a network file system ({kind}): {}", path.display());
    Check::warn(id, message)
        .because("locks and databases are unreliable there")
        .advised("move it to a local disk")
}

fn missing_modes_warning(id: &'static str, path: &Path) -> Check {
    let kind = space::file_system_type(path).map_or(String::new(), |kind| format!(" ({kind})"));
    let setting = shell::quote_if_needed(&format!("shared_logins.{}", path.display()));
    let message = format!("on a disk without file modes{kind}: {}", path.display());
    Check::warn(id, message)
    .because("every user who can read the disk can read conversations and archives; logins are stored there only if allowed")
    .advised(format!(
        "move it to a disk of this system; or allow logins there: codex-manager config set {setting} true"
    ))
}

/// Checks the clock. It must not be before the release of this program, and not be behind the newest file of the home.
fn check_clock(now: DateTime<Utc>, newest_file: Option<DateTime<Utc>>) -> Check {
    const ID: &str = "clock";
    let earliest_time = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single();
    let is_too_far = |skew: &Duration| *skew > Duration::minutes(MAX_CLOCK_SKEW_MINUTES);
    let file_ahead_by = newest_file.map(|at| at - now).filter(is_too_far);

    let check = if earliest_time.is_some_and(|earliest| now < earliest) {
        Check::fail(ID, format!("the clock is wrong: {}", now.to_rfc3339()))
    } else if let Some(file_ahead_by) = file_ahead_by {
        let minutes = file_ahead_by.num_minutes();
        let message = format!("a file of the Codex home is {minutes} min ahead of the clock");
        Check::warn(ID, message)
    } else {
        return Check::ok(ID, "the clock matches the times of the files");
    };

    check
        .because("quota windows, retention and the order of logins depend on it")
        .advised("set the clock: timedatectl set-ntp true, or in the system's settings")
}

fn check_zone(tz: Option<&str>, zone: Zone) -> Check {
    const ID: &str = "zone";
    // `TZ=:/etc/localtime` selects the zone of the system, which is also used without TZ.
    let is_known = |tz: &&str| {
        tz.trim_start_matches(':') == "/etc/localtime" || context::parse_tz_zone(tz).is_some()
    };

    match tz.filter(|tz| !is_known(tz)) {
        Some(name) => Check::warn(ID, format!("TZ is not a known time zone: {name}"))
            .because("times are shown and days are counted in another zone")
            .advised(
                "set your time zone, by its IANA name: codex-manager config set timezone ZONE",
            ),
        None => Check::ok(ID, format!("the time zone is {}", zone.name())),
    }
}

/// Compares the free space on the disk of `backups/` with the size of the newest full archive. If there is no full
/// archive, estimates its size from the size of the home. Returns `None` if the archives or the free space cannot be
/// read.
fn check_free_space(context: &Context) -> Option<Check> {
    let records = context.archives().ok()?;
    let is_full = |m: &Metadata| m.is_full() && !m.is_safety();
    let newest_record = store::find_newest_usable(&records, is_full);

    let backups = context.backups();
    let existing_folder = backups.ancestors().find(|folder| folder.is_dir())?;
    let free = space::free_bytes(existing_folder)?;

    let archive = newest_record.and_then(|record| record.archive.as_ref());
    Some(if let Some(archive) = archive {
        check_space("the newest full archive takes", archive.bytes, free)
    } else {
        let estimate = tree::measure(context.codex_home()).bytes / TYPICAL_COMPRESSION_RATIO;
        check_space("a full archive takes about", estimate, free)
    })
}

/// The typical size of a home divided by the size of its archive.
const TYPICAL_COMPRESSION_RATIO: u64 = 4;

fn check_space(subject: &str, needed: u64, free: u64) -> Check {
    const ID: &str = "space";
    let message = format!("{} free, {subject} {}", bytes(free), bytes(needed));
    let check = if free < needed {
        Check::fail(ID, message)
    } else if free / 3 < needed {
        Check::warn(ID, message)
    } else {
        return Check::ok(ID, "there is enough free space for the next archive");
    };

    check
        .because("the next backup may run out of disk space")
        .advised(
            "free space: codex-manager prune --keep-last 3; then: codex-manager prune --empty-trash",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn synced_folders_are_recognized_by_name() {
        for path in [
            "/Users/me/Library/Mobile Documents/com~apple~CloudDocs/.codex",
            "/Users/me/Library/CloudStorage/OneDrive-Work/.codex",
            "C:/Users/me/OneDrive/.codex",
            "/home/me/Dropbox (Personal)/.codex",
        ] {
            assert!(
                check_sync_service("home.cloud", Path::new(path)).is_some(),
                "{path}"
            );
        }
        assert!(check_sync_service("home.cloud", Path::new("/home/me/.codex")).is_none());
    }

    #[test]
    fn a_clock_behind_the_files_is_a_warning() {
        let now = Utc.with_ymd_and_hms(2026, 11, 20, 12, 0, 0).unwrap();
        let status = |now, file| check_clock(now, file).status;
        assert_eq!(status(now, None), Status::Ok);
        assert_eq!(status(now, Some(now + Duration::minutes(9))), Status::Ok);
        assert_eq!(status(now, Some(now + Duration::hours(2))), Status::Warn);
        assert_eq!(status(DateTime::UNIX_EPOCH, None), Status::Fail);
    }

    #[test]
    fn an_unknown_zone_is_a_warning() {
        let status = |tz| check_zone(tz, Zone::UTC).status;
        assert_eq!(status(None), Status::Ok);
        assert_eq!(
            status(Some(":/usr/share/zoneinfo/Europe/Berlin")),
            Status::Ok
        );
        assert_eq!(status(Some(":/etc/localtime")), Status::Ok);
        assert_eq!(status(Some("Mars/Olympus")), Status::Warn);
    }

    #[test]
    fn free_space_is_compared_with_the_newest_archive() {
        assert_eq!(check_space("", 100, 99).status, Status::Fail);
        assert_eq!(check_space("", 100, 299).status, Status::Warn);
        assert_eq!(check_space("", 100, 300).status, Status::Ok);
        assert_eq!(check_space("", 0, 0).status, Status::Ok);
    }
}
