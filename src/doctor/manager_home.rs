//! The manager home: modes, documents, archives, what is left over, what is not ours.

use super::{Check, World, first_of, open_to_others};
use crate::accounts::profile::{Profile, Profiles};
use crate::archive::restore::pending;
use crate::codex::auth::AuthFile;
use crate::config::FILE_NAME as CONFIG_FILE;
use crate::config::file::ConfigFile;
use crate::inventory::records::{ArchiveRecord, InventoryFile};
use crate::inventory::{catalog, cooldown, observations, store, trash};
use crate::io::document::{self, Found};
use crate::io::shell;
use crate::io::{atomic, staging};
use chrono::{DateTime, Duration, Utc};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How old the newest archive may become before that is said.
const OLD_BACKUP_DAYS: i64 = 14;

/// How old the last check of an archive may become before that is said.
const OLD_VERIFY_DAYS: i64 = 60;

/// What we put into the manager home.
const OURS: [&str; 17] = [
    "backups",
    "profiles",
    "sync",
    "sync.toml",
    "sync-backups",
    "tmp",
    "inventory.json",
    "cooldown.json",
    "launches.jsonl",
    CONFIG_FILE,
    "config.rejected.toml",
    ".lock",
    "isolated",
    "logs",
    "history",
    "schedule",
    observations::FOLDER,
];

/// Looks at the manager home.
pub fn examine(world: &World<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let home = world.manager_home;
    checks.push(settings(home));
    if home.is_dir() {
        checks.push(modes(home));
        checks.push(inventory(home));
        checks.push(cooldown_file(world));
        checks.push(profiles(home));
        checks.extend(foreign(home));
    } else if home.symlink_metadata().is_ok() {
        let shown = home.display();
        checks.push(
            Check::fail(
                "manager.home",
                format!("no folder, or a link to nowhere: {shown}"),
            )
            .because("nothing can be kept, and nothing put back")
            .fixed_by(format!("ls -l {}", shell::word(&shown.to_string()))),
        );
    } else {
        checks.push(
            Check::warn(
                "manager.home",
                format!("nothing has been kept yet: {}", home.display()),
            )
            .because("there is nothing to put back")
            .fixed_by("codex-manager backup"),
        );
    }
    checks.extend(archives(world));
    checks.extend(trash_size(home));
    checks.extend(left_overs(world));
    checks
}

fn settings(home: &Path) -> Check {
    const ID: &str = "manager.config";
    let read = ConfigFile::read(home).and_then(|file| file.decide().map(|_| file));
    match read {
        Err(e) => Check::fail(ID, e.to_string())
            .because("no other command works with it")
            .fixed_by("codex-manager config edit"),
        Ok(file) => match file.unknown().first() {
            Some(unknown) => Check::warn(ID, unknown.to_string())
                .because("what it was meant to set is not set")
                .fixed_by("codex-manager config edit"),
            None => Check::ok(ID, "config.toml is understood"),
        },
    }
}

fn modes(home: &Path) -> Check {
    let open = open_files(home);
    if open.is_empty() {
        return Check::ok("manager.home", home.display().to_string());
    }
    Check::fail(
        "manager.home",
        format!("open to others: {}", first_of(&open)),
    )
    .because("archives and profiles hold logins")
    .fixed_by("codex-manager doctor --fix")
}

fn inventory(home: &Path) -> Check {
    const ID: &str = "manager.inventory";
    match document::read::<InventoryFile>(&home.join(store::FILE_NAME)) {
        Err(e) => Check::fail(ID, e.to_string()).because("archives are listed from it"),
        Ok(Found::Damaged(detail)) => {
            Check::fail(ID, format!("inventory.json is damaged: {detail}"))
                .because("every list has to read all archives again")
                .fixed_by("codex-manager doctor --fix")
        }
        Ok(_) => Check::ok(ID, "inventory.json is good"),
    }
}

fn cooldown_file(world: &World<'_>) -> Check {
    const ID: &str = "manager.cooldown";
    match cooldown::load(world.manager_home, &world.now, world.zone) {
        Err(e) => Check::fail(ID, e.to_string()).because("no account can be recommended"),
        Ok(loaded) if !loaded.warnings.is_empty() => Check::fail(ID, loaded.warnings.join("; "))
            .because("figures that were seen are lost")
            .fixed_by("codex-manager status"),
        Ok(_) => Check::ok(ID, "cooldown.json is good"),
    }
}

fn profiles(home: &Path) -> Check {
    const ID: &str = "manager.profiles";
    match Profiles::of(home).list() {
        Ok(profiles) => match profiles.iter().find_map(fault_of) {
            None => Check::ok(ID, format!("{} profiles can be read", profiles.len())),
            Some((name, fault)) => Check::fail(ID, fault)
                .because("a login in it cannot be used")
                .fixed_by(format!(
                    "codex-manager profile restore-login {}",
                    shell::word(&name)
                )),
        },
        Err(e) => Check::fail(ID, e.to_string())
            .because("a login in it cannot be used")
            .fixed_by(format!(
                "ls -l {}",
                shell::word(&home.join("profiles").to_string_lossy())
            )),
    }
}

/// What is wrong with a profile.
fn fault_of(profile: &Profile) -> Option<(String, String)> {
    let name = &profile.name;
    let fault = |text| Some((name.clone(), text));
    if let Some(reason) = &profile.damaged {
        return fault(format!("the profile.json of {name} is damaged: {reason}"));
    }
    match &profile.auth {
        AuthFile::Unreadable { reason, .. } => {
            fault(format!("the auth.json of {name} is {reason}"))
        }
        AuthFile::Missing | AuthFile::Present(_) => None,
    }
}

/// What lies there and is neither ours nor known to be the Python tool's. It is only named.
fn foreign(home: &Path) -> Option<Check> {
    let mut found: Vec<_> = fs::read_dir(home)
        .ok()?
        .flatten()
        .filter(|entry| !is_ours(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    (!found.is_empty()).then(|| {
        Check::ok(
            "manager.foreign",
            format!("not ours, and left alone: {}", first_of(&found)),
        )
    })
}

/// By its name; copies that were kept carry ours with something behind it.
fn is_ours(name: &str) -> bool {
    let kept = [".damaged", ".python-backup"];
    let stem = kept.iter().find_map(|suffix| name.split_once(suffix));
    OURS.contains(&stem.map_or(name, |(stem, _)| stem)) || name.starts_with(atomic::TEMP_PREFIX)
}

fn archives(world: &World<'_>) -> Vec<Check> {
    let records = match store::archives(world.manager_home) {
        Ok(records) => records,
        Err(e) => {
            let check = Check::fail("archives", format!("{e}: {}", e.source))
                .because("nothing can be put back");
            return vec![check];
        }
    };
    let mut checks: Vec<_> = records.iter().filter_map(problem).collect();
    checks.extend(ages(&records, world));
    checks
}

fn problem(record: &ArchiveRecord) -> Option<Check> {
    let path = &record.path;
    let Some(problem) = &record.problem else {
        let failed = record.verified.as_ref().is_some_and(|v| !v.ok);
        return failed.then(|| {
            Check::fail(
                "archives.damaged",
                format!("{path}: damaged, as verify found"),
            )
            .because("it cannot be put back as a whole")
            .fixed_by("codex-manager backup")
        });
    };
    Some(if problem == catalog::NO_SIDECAR {
        Check::fail("archives.sidecar", format!("{path}: {problem}"))
            .because("every list has to open the archive")
            .fixed_by("codex-manager doctor --fix")
    } else if record.archive.is_none() {
        Check::fail("archives.damaged", format!("{path}: {problem}"))
            .because("what its sidecar describes cannot be put back")
            .fixed_by("bring the archive back, or remove its .metadata.json")
    } else {
        Check::fail("archives.damaged", format!("{path}: {problem}"))
            .because("it cannot be put back as a whole")
            .fixed_by(format!("codex-manager verify {}", shell::word(path)))
    })
}

/// How old the newest archive is, and the last time that one was read through.
fn ages(records: &[ArchiveRecord], world: &World<'_>) -> Vec<Check> {
    let Some(newest) = store::newest(records, |_| true) else {
        let none = Check::warn("archives", "there is no archive")
            .because("nothing can be put back")
            .fixed_by("codex-manager backup");
        return vec![none];
    };
    let count = records.iter().filter(|r| r.archive.is_some()).count();
    let made = newest.metadata.created_at.to_utc();
    let verified = records.iter().filter_map(|r| r.verified.as_ref());
    let last = verified.map(|v| v.at.to_utc()).max();
    let first = records
        .iter()
        .filter(|r| r.archive.is_some())
        .map(|r| r.metadata.created_at.to_utc())
        .min();
    vec![
        age_of_backup(count, made, world.now),
        age_of_verify(last, first, world.now),
    ]
}

fn age_of_backup(count: usize, made: DateTime<Utc>, now: DateTime<Utc>) -> Check {
    let message = format!("{count} archives, the newest {} old", age(made, now));
    if now - made > Duration::days(OLD_BACKUP_DAYS) {
        Check::warn("archives", message)
            .because("what came since is nowhere else")
            .fixed_by("codex-manager backup")
    } else {
        Check::ok("archives", message)
    }
}

fn age_of_verify(
    last: Option<DateTime<Utc>>,
    first_made: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Check {
    const ID: &str = "archives.verified";
    let message = match last {
        Some(at) => format!("an archive was last read through {} ago", age(at, now)),
        None => "no archive was read through yet".to_owned(),
    };
    // A new archive was checked while it was made.
    let since = last.or(first_made).unwrap_or(now);
    if now - since > Duration::days(OLD_VERIFY_DAYS) {
        Check::warn(ID, message)
            .because("a disk forgets without telling")
            .fixed_by("codex-manager verify --all")
    } else {
        Check::ok(ID, message)
    }
}

fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let span = (now - at).max(Duration::zero());
    match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

fn trash_size(home: &Path) -> Option<Check> {
    let (bytes, count) = trash::size(home).ok()?;
    (count > 0).then(|| {
        let message = format!("{count} pruned archives, {bytes} bytes, are in the trash");
        Check::ok("archives.trash", message).fixed_by("codex-manager prune --empty-trash")
    })
}

fn left_overs(world: &World<'_>) -> Vec<Check> {
    let at_work = pending::folders(world.codex_home, world.manager_home)
        .iter()
        .any(|(folder, _)| folder.exists());
    let restore = if at_work {
        Check::warn("restore", "a restore is at work in another process")
            .because("the home is about to be replaced")
    } else {
        Check::ok("restore", "no restore was interrupted")
    };
    let stray = stray(world.manager_home);
    let temp = if stray.is_empty() {
        Check::ok("temp", "no stray temp files")
    } else {
        Check::warn(
            "temp",
            format!("stray temp files or folders: {}", first_of(&stray)),
        )
        .because("a command was killed; they only take room")
        .fixed_by("codex-manager doctor --fix")
    };
    vec![restore, temp]
}

/// Temp files and staging folders that nobody uses any more.
pub fn stray(manager_home: &Path) -> Vec<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the age of files is measured by the system's clock, as their times are"
    )]
    let now = SystemTime::now();
    let mut stray = staging::stale(&manager_home.join("tmp"));
    for folder in [manager_home.to_path_buf(), store::backups(manager_home)] {
        stray.extend(atomic::stale(&folder, now));
    }
    stray
}

/// Files and folders of the manager home that others may read.
pub fn open_files(manager_home: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(manager_home)
        .into_iter()
        .flatten()
        .filter(|e| !e.path_is_symlink())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| open_to_others(path).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn day(n: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::days(n)
    }

    #[test]
    fn old_archives_and_old_checks_are_said() {
        assert_eq!(age_of_backup(1, day(0), day(14)).status, Status::Ok);
        assert_eq!(age_of_backup(1, day(0), day(15)).status, Status::Warn);
        let verified = |last, now| age_of_verify(last, Some(day(0)), day(now)).status;
        assert_eq!(verified(None, 60), Status::Ok);
        assert_eq!(verified(None, 61), Status::Warn);
        assert_eq!(verified(Some(day(50)), 61), Status::Ok);
        assert_eq!(verified(Some(day(50)), 111), Status::Warn);
    }

    #[test]
    fn what_is_kept_beside_our_files_is_ours() {
        for name in [
            "cooldown.json.python-backup-2",
            "inventory.json.damaged",
            ".codex-manager-tmp-x",
            ".lock",
        ] {
            assert!(is_ours(name), "{name}");
        }
        assert!(!is_ours("notes.txt"));
    }
}
