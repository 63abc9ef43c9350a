//! What the machine does to the homes: its clock, its zone, its disks, and who else syncs them.

use super::{Check, DoctorInput};
use crate::archive::metadata::Mode;
use crate::codex::auth::AuthFile;
use crate::codex::home::AUTH_JSON;
use crate::context;
use crate::inventory::store;
use crate::io::clock::Zone;
use crate::io::space;
use crate::ui::time::bytes;
use chrono::{DateTime, Duration, TimeZone as _, Utc};
use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

/// Folders that a program keeps equal with others, by a part of their name.
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

/// How far the clock may be behind a file before it is said.
pub(super) const MAX_CLOCK_SKEW_MINUTES: i64 = 10;

/// Looks at the machine.
pub(crate) fn run_checks(input: &DoctorInput<'_>) -> Vec<Check> {
    let homes = [("home", input.codex_home), ("manager", input.manager_home)];
    let mut checks = Vec::new();
    for (name, home) in homes {
        let (cloud, disk) = if name == "home" {
            ("home.cloud", "home.disk")
        } else {
            ("manager.cloud", "manager.disk")
        };
        let real = home.canonicalize().unwrap_or_else(|_| home.to_path_buf());
        checks.extend(synced(cloud, &real));
        checks.extend(space::network_kind(&real).map(|kind| on_network(disk, &real, kind)));
    }
    let newest = [
        input.codex_home.join("auth.json"),
        input.codex_home.join("history.jsonl"),
    ]
    .iter()
    .filter_map(|path| path.metadata().and_then(|m| m.modified()).ok())
    .max()
    .map(DateTime::<Utc>::from);
    #[allow(
        clippy::disallowed_methods,
        reason = "files are stamped by the system's clock, whatever the time of the run is"
    )]
    let system = DateTime::<Utc>::from(SystemTime::now());
    let live = AuthFile::read(&input.codex_home.join(AUTH_JSON)).ok();
    let live = live.as_ref().and_then(AuthFile::login);
    let ahead = live.is_some_and(|login| login.freshness.is_dated_ahead());
    checks.push(clock(system, newest, ahead));
    // What was set here wins over it.
    let tz = input.env.text("TZ").filter(|_| !input.zone_is_set);
    checks.push(zone(tz, input.zone));
    checks.extend(room(input));
    checks
}

/// Whether `path` lies in a folder that is synced by name.
/// The service that keeps this path equal with others, by a part of the path that is named after it.
pub(crate) fn sync_service(path: &Path) -> Option<(&OsStr, &'static str)> {
    path.iter().find_map(|part| {
        let lower = part.to_string_lossy().to_lowercase();
        let found = SYNC_SERVICES.iter().find(|(name, _)| lower.contains(name));
        found.map(|(_, service)| (part, *service))
    })
}

fn synced(id: &'static str, path: &Path) -> Option<Check> {
    let (part, service) = sync_service(path)?;
    Some(
        Check::warn(
            id,
            format!(
                "in a folder of {service} ({}): {}",
                part.to_string_lossy(),
                path.display()
            ),
        )
        .because("it copies databases in the middle of a write, and logins to other machines, where they spend each other")
        .advised("move it to a folder of this machine alone"),
    )
}

fn on_network(id: &'static str, path: &Path, kind: &str) -> Check {
    Check::warn(
        id,
        format!("on a network disk ({kind}): {}", path.display()),
    )
    .because("locks and databases are not sure to work there")
    .advised("move it to a disk of this machine")
}

/// Whether the clock can be right: after this program was written, and not before files were.
fn clock(now: DateTime<Utc>, newest_file: Option<DateTime<Utc>>, login_ahead: bool) -> Check {
    const ID: &str = "clock";
    const WHY: &str = "windows, retention and which login is newer go by it";
    const FIX: &str = "set the clock: timedatectl set-ntp true, or the system's settings";
    let written = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single();
    let ahead = newest_file.map(|at| at - now);
    if written.is_some_and(|written| now < written) {
        Check::fail(ID, format!("the clock is wrong: {}", now.to_rfc3339()))
            .because(WHY)
            .advised(FIX)
    } else if ahead.is_some_and(|ahead| ahead > Duration::minutes(MAX_CLOCK_SKEW_MINUTES)) {
        let minutes = ahead.map_or(0, |a| a.num_minutes());
        Check::warn(
            ID,
            format!("a file of the home is {minutes} min ahead of the clock"),
        )
        .because(WHY)
        .advised(FIX)
    } else if login_ahead {
        let message = "the clock was ahead when Codex wrote the live login: its last_refresh is \
                       later than its tokens";
        Check::warn(ID, message).because(WHY).advised(FIX)
    } else {
        Check::ok(ID, "the clock is not behind the files")
    }
}

fn zone(tz: Option<&str>, zone: Zone) -> Check {
    const ID: &str = "zone";
    // The system's own zone is what it is without TZ, file or link.
    let is_known = |tz: &&str| {
        tz.trim_start_matches(':') == "/etc/localtime" || context::zone_named_by(tz).is_some()
    };
    match tz.filter(|tz| !is_known(tz)) {
        Some(name) => Check::warn(ID, format!("TZ names no known zone: {name}"))
            .because("times are shown, and days counted, in another zone")
            .fixed_by("codex-manager config set timezone Europe/Berlin"),
        None => Check::ok(ID, format!("times are those of {}", zone.name())),
    }
}

/// Whether the next archive has room, judged by the newest of everything; where there is none, by
/// what is in the home.
fn room(input: &DoctorInput<'_>) -> Option<Check> {
    let records = store::archives(input.manager_home).ok()?;
    let newest = store::newest(&records, |metadata| metadata.mode == Mode::Full);
    let backups = store::backups(input.manager_home);
    let there = backups.ancestors().find(|folder| folder.is_dir())?;
    let free = space::free_bytes(there)?;
    if let Some(archive) = newest.and_then(|record| record.archive.as_ref()) {
        return Some(room_for(
            "the newest full archive takes",
            archive.bytes,
            free,
        ));
    }
    let first = home_bytes(input.codex_home) / TYPICAL_COMPRESSION_RATIO;
    Some(room_for("a full archive takes about", first, free))
}

/// How much smaller an archive is than the home, as a rule.
const TYPICAL_COMPRESSION_RATIO: u64 = 4;

fn home_bytes(home: &Path) -> u64 {
    walkdir::WalkDir::new(home)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|meta| space::stored_bytes(&meta))
        .sum()
}

fn room_for(what: &str, needed: u64, free: u64) -> Check {
    const ID: &str = "space";
    let message = format!("free are {}, {what} {}", bytes(free), bytes(needed));
    let (why, fix) = (
        "the next backup has no room",
        "make room: codex-manager prune --keep-last 3, then codex-manager prune --empty-trash",
    );
    if free < needed {
        Check::fail(ID, message).because(why).advised(fix)
    } else if free / 3 < needed {
        Check::warn(ID, message).because(why).advised(fix)
    } else {
        Check::ok(ID, "there is room for the next archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn folders_that_are_synced_are_known_by_name() {
        for path in [
            "/Users/me/Library/Mobile Documents/com~apple~CloudDocs/.codex",
            "/Users/me/Library/CloudStorage/OneDrive-Work/.codex",
            "C:/Users/me/OneDrive/.codex",
            "/home/me/Dropbox (Personal)/.codex",
        ] {
            assert!(synced("home.cloud", Path::new(path)).is_some(), "{path}");
        }
        assert!(synced("home.cloud", Path::new("/home/me/.codex")).is_none());
    }

    #[test]
    fn a_clock_behind_its_files_is_said() {
        let now = Utc.with_ymd_and_hms(2026, 11, 20, 12, 0, 0).unwrap();
        let status = |now, file| clock(now, file, false).status;
        assert_eq!(status(now, None), Status::Ok);
        assert_eq!(status(now, Some(now + Duration::minutes(9))), Status::Ok);
        assert_eq!(status(now, Some(now + Duration::hours(2))), Status::Warn);
        assert_eq!(status(DateTime::UNIX_EPOCH, None), Status::Fail);
    }

    #[test]
    fn a_zone_that_nobody_knows_is_said() {
        let status = |tz| zone(tz, Zone::UTC).status;
        assert_eq!(status(None), Status::Ok);
        assert_eq!(
            status(Some(":/usr/share/zoneinfo/Europe/Berlin")),
            Status::Ok
        );
        assert_eq!(status(Some(":/etc/localtime")), Status::Ok);
        assert_eq!(status(Some("Mars/Olympus")), Status::Warn);
    }

    #[test]
    fn room_is_judged_by_the_newest_archive() {
        assert_eq!(room_for("", 100, 99).status, Status::Fail);
        assert_eq!(room_for("", 100, 299).status, Status::Warn);
        assert_eq!(room_for("", 100, 300).status, Status::Ok);
        assert_eq!(room_for("", 0, 0).status, Status::Ok);
    }
}
