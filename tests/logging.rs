//! Tests of the log of unattended runs: complete lines, no tokens, and no changes of other files.

use crate::support::env::TestEnv;
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::io::clock::{Clock, Zone};
use codex_manager_core::io::events;
use codex_manager_core::logging::{
    LogArchiving, LogContext, LogFormat, LogLocation, LogName, LogSettings, LogWriter, Severity,
    gather_events, start,
};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn world(root: &Path, day: &str) -> LogContext {
    let now = format!("{day}T23:30:00Z");
    let now = DateTime::parse_from_rfc3339(&now).expect("a time");
    world_at(root, now.to_utc())
}

fn world_at(root: &Path, now: DateTime<Utc>) -> LogContext {
    LogContext {
        manager_home: root.join("manager"),
        machine: "desk 1/é".into(),
        clock: Clock::Fixed(now),
        zone: Zone::UTC,
    }
}

fn logged(settings: &LogSettings, world: &LogContext, work: impl FnOnce()) -> Arc<LogWriter> {
    let log = start(settings, world.clone());
    assert_eq!(log.warnings, Vec::<String>::new());
    log.record_during(work).1
}

fn folder(root: &Path) -> PathBuf {
    root.join("manager/logs")
}

/// Returns the names in a folder that do not begin with a dot.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a log in UTF-8")
}

#[test]
fn every_format_has_the_same_fields_and_no_token() {
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.c2ln";
    for format in [LogFormat::Text, LogFormat::Json, LogFormat::Logfmt] {
        let root = tempfile::tempdir().expect("a folder");
        let settings = LogSettings {
            format,
            ..LogSettings::default()
        };
        let handle = logged(&settings, &world(root.path(), "2026-11-20"), || {
            events::debug!("below the level");
            events::info!(path = "sessions/é b.jsonl", bytes = 12u64, "copied");
            events::warn!(refresh_token = "short", why = %format!("401 {token}\nx"), "refused");
        });
        assert_eq!(handle.problem(), None);
        assert_eq!(
            names(&folder(root.path())),
            ["codex-manager-desk-1-é-2026-11-20.log"]
        );
        let path = folder(root.path()).join("codex-manager-desk-1-é-2026-11-20.log");
        let mode = path.metadata().expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = text_of(&path);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(!text.contains("short") && !text.contains(token), "{text}");
        for wanted in [
            "INFO",
            "copied",
            "sessions/é b.jsonl",
            "12",
            "2026-11-20T23:30",
        ] {
            assert!(lines[0].contains(wanted), "{wanted}: {text}");
        }
        assert!(lines[1].contains("WARNING"), "{text}");
        if format == LogFormat::Json {
            for line in lines {
                let _: serde_json::Value = serde_json::from_str(line).expect("JSON");
            }
        }
    }
}

#[test]
fn events_below_the_level_are_not_logged() {
    for (level, expected) in [
        (Severity::Debug, 4),
        (Severity::Info, 3),
        (Severity::Warning, 2),
        (Severity::Error, 1),
    ] {
        let root = tempfile::tempdir().expect("a folder");
        let settings = LogSettings {
            level,
            ..LogSettings::default()
        };
        logged(&settings, &world(root.path(), "2026-11-20"), || {
            events::debug!("a");
            events::info!("b");
            events::warn!("c");
            events::error!("d");
        });
        let path = folder(root.path()).join("codex-manager-desk-1-é-2026-11-20.log");
        assert_eq!(text_of(&path).lines().count(), expected);
    }
}

#[test]
fn a_new_day_or_a_full_file_starts_a_new_log_file() {
    for format in [LogFormat::Text, LogFormat::Json, LogFormat::Logfmt] {
        let root = tempfile::tempdir().expect("a folder");
        let settings = LogSettings {
            file: Some(root.path().join("my logs/sync.txt")),
            max_file_bytes: 1000,
            archive: LogArchiving::Text,
            format,
            ..LogSettings::default()
        };
        let write = |day: &str, lines: u32| {
            logged(&settings, &world(root.path(), day), || {
                for number in 0..lines {
                    events::info!(number, "a line of some length");
                }
            });
        };
        write("2026-11-19", 1);
        write("2026-11-20", 30);
        let folder = root.path().join("my logs");
        let all = names(&folder);
        assert!(all.len() > 3, "{all:?}");
        assert_eq!(all[0], "sync-desk-1-é-2026-11-19.txt");
        assert_eq!(all[1], "sync-desk-1-é-2026-11-20.1.txt");
        let mut lines = 0;
        for name in &all {
            let text = text_of(&folder.join(name));
            assert!(text.len() <= 1000 && text.ends_with('\n'), "{name}");
            lines += text.lines().count();
        }
        assert_eq!(lines, 31);
    }
}

#[test]
fn gathered_events_are_logged_in_order_and_within_the_limit() {
    for max_file_bytes in [0, 1000] {
        let root = tempfile::tempdir().expect("a folder");
        let settings = LogSettings {
            max_file_bytes,
            ..LogSettings::default()
        };
        let _ = logged(&settings, &world(root.path(), "2026-11-20"), || {
            gather_events(|| {
                for number in 0..2000_u32 {
                    events::info!(number, "gathered");
                }
                let written = names(&folder(root.path()));
                assert!(!written.is_empty(), "all lines are in memory");
            });
            events::info!("later");
        });
        // The newest file has no number.
        let mut files = names(&folder(root.path()));
        let number = |name: &String| name.rsplit('.').nth(1).and_then(|n| n.parse::<u32>().ok());
        files.sort_by_key(|name| number(name).unwrap_or(u32::MAX));
        let mut messages = Vec::new();
        for name in &files {
            let text = text_of(&folder(root.path()).join(name));
            assert!(max_file_bytes == 0 || text.len() <= 1000, "{name}");
            messages.extend(text.lines().map(str::to_owned));
        }
        assert_eq!(messages.len(), 2001, "{files:?}");
        for (number, line) in messages[..2000].iter().enumerate() {
            assert!(line.ends_with(&format!("number={number}")), "{line}");
        }
        assert!(messages[2000].contains("later"));
    }
}

#[test]
fn old_logs_are_compressed_then_removed_and_other_files_stay() {
    let root = tempfile::tempdir().expect("a folder");
    let settings = LogSettings {
        max_file_bytes: 400,
        retention_days: 4,
        ..LogSettings::default()
    };
    let now = Clock::System.now();
    let day = |days: i64| (now - TimeDelta::days(days)).format("%Y-%m-%d").to_string();
    let folder = folder(root.path());
    // Writes lines, and gives the log the time that the disk would have given it.
    let write = |days: i64| {
        let at = now - TimeDelta::days(days);
        logged(&settings, &world_at(root.path(), at), || {
            for number in 0..5 {
                events::info!(number, "a line of some length");
            }
        });
        for name in names(&folder)
            .iter()
            .filter(|name| name.contains(&day(days)))
        {
            let file = std::fs::File::open(folder.join(name)).expect("open");
            file.set_modified(at.into()).expect("set time");
        }
    };
    write(5);
    write(1);
    let before: BTreeSet<String> = names(&folder).into_iter().collect();
    let theirs = [
        "codex-manager-other-2026-11-01.log",
        "codex-manager-desk-1-é-2026-11-01.log.bak",
        "codex-manager-desk-1-é-2026-1-1.log",
        "codex-manager-desk-1-é-2026-11-01.007.log",
        "codex-manager-desk-1-é-.log",
        "notes.txt",
        "codex-manager-desk-1-é-2026-11-01.zip",
    ];
    for name in theirs {
        std::fs::write(folder.join(name), name).expect("write");
    }
    // A folder and a link with the name of a log are no logs.
    std::fs::create_dir(folder.join("codex-manager-desk-1-é-2026-11-02.log")).expect("folder");
    let outside = root.path().join("outside");
    std::fs::write(&outside, "x").expect("write");
    std::os::unix::fs::symlink(
        &outside,
        folder.join("codex-manager-desk-1-é-2026-11-03.log"),
    )
    .expect("link");

    let yesterday = format!("codex-manager-desk-1-é-{}.1.log", day(1));
    let first = text_of(&folder.join(&yesterday));
    write(0);
    let after: BTreeSet<String> = names(&folder).into_iter().collect();
    for name in theirs {
        assert!(after.contains(name), "{name} was removed");
    }
    assert_eq!(text_of(&outside), "x");
    assert!(after.contains("codex-manager-desk-1-é-2026-11-02.log"));
    assert!(after.contains("codex-manager-desk-1-é-2026-11-03.log"));
    for name in &before {
        assert!(
            !after.contains(name),
            "{name} is neither compressed nor removed"
        );
        let is_kept = after.contains(&format!("{name}.zip"));
        assert_eq!(is_kept, name.contains(&day(1)), "{name}: {after:?}");
    }
    // The zip file contains exactly the lines, and has the same mode.
    let path = folder.join(format!("{yesterday}.zip"));
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&path).expect("open")).expect("a zip");
    let packed = std::io::read_to_string(zip.by_index(0).expect("an entry")).expect("text");
    assert_eq!(packed, first);
    let mode = path.metadata().expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Compressed ones are removed when they are as old.
    let written = path.metadata().expect("stat").modified().expect("a time");
    assert_eq!(DateTime::<Utc>::from(written), now - TimeDelta::days(1));
    let old = folder.join(format!("codex-manager-desk-1-é-{}.log.zip", day(12)));
    std::fs::rename(&path, &old).expect("rename");
    write(0);
    assert!(!old.exists());
}

#[test]
fn log_file_names_round_trip() {
    let root = tempfile::tempdir().expect("a folder");
    let place = LogLocation::new(&LogSettings::default(), &world(root.path(), "2026-11-20"));
    for number in [0, 1, 27] {
        for is_zip in [false, true] {
            let date = chrono::NaiveDate::from_ymd_opt(2026, 11, 20).expect("a day");
            let name = LogName {
                date,
                number,
                is_zip,
            };
            let path = place.path(name);
            let text = path.file_name().expect("a name").to_str().expect("text");
            assert_eq!(place.parse(text), Some(name), "{text}");
        }
    }
}

#[test]
fn a_log_with_a_long_file_name_and_machine_name_in_another_script_is_written() {
    let root = tempfile::tempdir().expect("a folder");
    let settings = LogSettings {
        file: Some(
            root.path()
                .join("\u{20000}".repeat(60))
                .with_extension("log"),
        ),
        ..LogSettings::default()
    };
    let context = LogContext {
        machine: "機".repeat(80),
        ..world(root.path(), "2026-11-20")
    };
    let handle = logged(&settings, &context, || events::info!("written"));
    assert_eq!(handle.problem(), None);
    assert_eq!(names(root.path()).len(), 1);
}

#[test]
fn concurrent_writers_lose_no_line_and_no_file() {
    const WRITERS: u32 = 4;
    const LINES: u32 = 200;
    let root = tempfile::tempdir().expect("a folder");
    let settings = LogSettings {
        max_file_bytes: 2000,
        archive: LogArchiving::Text,
        format: LogFormat::Json,
        ..LogSettings::default()
    };
    // Each writer has its own file descriptors and locks, as separate processes would.
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (settings, world) = (&settings, world(root.path(), "2026-11-20"));
            scope.spawn(move || {
                let log = start(settings, world);
                let ((), handle) = log.record_during(|| {
                    for line in 0..LINES {
                        events::info!(writer, line, "a line of some length");
                    }
                });
                assert_eq!(handle.problem(), None);
            });
        }
    });
    let folder = folder(root.path());
    let mut seen = BTreeSet::new();
    for name in names(&folder) {
        let text = text_of(&folder.join(&name));
        assert!(text.len() <= 2000, "{name}");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a whole line");
            seen.insert((line["writer"].as_u64(), line["line"].as_u64()));
        }
    }
    assert_eq!(seen.len(), (WRITERS * LINES) as usize);
}

#[test]
fn a_partial_line_of_a_killed_process_does_not_damage_the_next() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = folder(root.path());
    std::fs::create_dir_all(&folder).expect("folder");
    let path = folder.join("codex-manager-desk-1-é-2026-11-20.log");
    std::fs::write(&path, "2026-11-20T10:00 half a li").expect("write");
    logged(
        &LogSettings::default(),
        &world(root.path(), "2026-11-20"),
        || {
            events::info!("whole");
        },
    );
    let text = text_of(&path);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with("whole"), "{text}");
}

#[test]
fn a_log_that_cannot_be_written_is_reported_and_stops_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    // A file where the folder should be, a folder where the file should be, a link as the file.
    std::fs::write(root.path().join("file"), "").expect("write");
    let inside = LogSettings {
        file: Some(root.path().join("file/x.log")),
        ..LogSettings::default()
    };
    let log = start(&inside, world(root.path(), "2026-11-20"));
    assert_eq!(log.warnings.len(), 1, "{:?}", log.warnings);
    let (done, handle) = log.record_during(|| {
        events::info!("lost");
        true
    });
    assert!(done && handle.problem().is_some());

    let name = "x-desk-1-é-2026-11-20.log";
    let target = root.path().join("target");
    std::fs::write(&target, "theirs").expect("write");
    for make in [
        (|path: &Path, _: &Path| std::fs::create_dir(path)) as fn(&Path, &Path) -> _,
        |path, target| std::os::unix::fs::symlink(target, path),
    ] {
        let folder = tempfile::tempdir_in(root.path()).expect("a folder");
        make(&folder.path().join(name), &target).expect("create");
        let settings = LogSettings {
            file: Some(folder.path().join("x.log")),
            ..LogSettings::default()
        };
        let log = start(&settings, world(root.path(), "2026-11-20"));
        let handle = log.record_during(|| events::info!("lost")).1;
        let problem = handle.problem().expect("a problem");
        assert!(problem.contains(name), "{problem}");
    }
    assert_eq!(text_of(&target), "theirs");
}

/// Returns the text of the only log, which a scheduled run has written.
fn run_log(env: &TestEnv) -> String {
    let folder = env.manager_home().join("logs");
    let names = names(&folder);
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("codex-manager-"), "{names:?}");
    assert!(names[0].ends_with("-2026-11-20.log"), "{names:?}");
    text_of(&folder.join(&names[0]))
}

#[test]
fn a_scheduled_run_logs_its_begin_and_end() {
    let env = TestEnv::new();
    env.write("home/.codex/config.toml", "");
    let _ = env
        .run(["backup", "--no-status", "--quiet", "--log"])
        .code(0);
    let text = run_log(&env);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("begins command="), "{text}");
    assert!(
        lines[0].contains("backup --no-status --quiet --log"),
        "{text}"
    );
    assert!(
        lines[1].contains("INFO") && lines[1].ends_with("ends exit_code=0"),
        "{text}"
    );

    let _ = env.run(["restore", "nobody@example.com", "--log"]).code(1);
    let text = run_log(&env);
    let last = text.lines().last().expect("a line");
    assert!(
        last.contains("ERROR") && last.contains("exit_code=1"),
        "{text}"
    );
    assert!(last.contains("error="), "{text}");
}

#[test]
fn a_read_only_log_folder_is_a_warning_and_the_job_runs() {
    let env = TestEnv::new();
    env.write("home/.codex/config.toml", "");
    let logs = env.manager_home().join("logs");
    std::fs::create_dir_all(&logs).expect("folder");
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&logs, mode(0o500)).expect("chmod");
    let run = env.run_unprivileged(&["backup", "--no-status", "--log"]);
    std::fs::set_permissions(&logs, mode(0o700)).expect("chmod");
    let run = run.code(0);
    assert_eq!(
        run.stderr.matches("the log is incomplete").count(),
        1,
        "{run}"
    );
    assert!(!names(&env.manager_home().join("backups")).is_empty());
}

#[test]
fn concurrent_runs_share_a_log_line_by_line() {
    const RUNS: usize = 6;
    let env = TestEnv::new();
    let runs: Vec<_> = (0..RUNS)
        .map(|_| {
            let mut command = env.command(["list-backups", "--quiet", "--log"]);
            command.spawn().expect("start")
        })
        .collect();
    for mut run in runs {
        assert!(run.wait().expect("wait").success());
    }
    let text = run_log(&env);
    let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count(" begins "), count(" ends ")), (RUNS, RUNS), "{text}");
    assert_eq!(text.lines().count(), 2 * RUNS);
}
