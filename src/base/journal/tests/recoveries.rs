//! Recovers transactions after other programs have changed files.

use super::*;

#[test]
fn files_that_codex_replaced_after_the_exchange_stay() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, in_journal(3));
    for name in ["auth", "added"] {
        atomic::write(&fixture.live(name), b"since").unwrap();
    }
    assert_eq!(fixture.recover(), Recovery::Finished(vec![]));
    assert_eq!(fixture.live_state(), "since since - new");
}

#[test]
fn a_kill_before_the_first_step_keeps_later_writes() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, 0);
    fs::write(fixture.live("auth"), "since").unwrap();
    assert_eq!(fixture.recover(), Recovery::Undone(vec![]));
    assert_eq!(fixture.live_state(), "since - old old");
    assert!(!fixture.staging().exists());
}

#[test]
fn files_that_are_written_before_the_recovery_are_kept() {
    type Write = fn(&Fixture);
    let writes: [(&str, Write); 5] = [
        ("folder/new", |f| {
            fs::write(f.live("folder/new"), "late").unwrap();
        }),
        ("folder/x", |f| {
            fs::write(f.live("folder/x"), "late").unwrap();
        }),
        ("gone", |f| fs::write(f.live("gone"), "late").unwrap()),
        ("added", |f| {
            atomic::write(&f.live("added"), b"late").unwrap();
        }),
        ("folder/moved/file", |f| {
            fs::rename(f.path("elsewhere"), f.live("folder/moved")).unwrap();
        }),
    ];
    for (state, done) in [(JournalState::Committing, 1), (JournalState::Undoing, 4)] {
        for (name, write) in writes {
            // The undo removes no new file at the path of a removed one.
            if state == JournalState::Undoing && name == "gone" {
                continue;
            }
            // On Windows nothing tells that a folder was moved into another one.
            if cfg!(windows) && name == "folder/moved/file" {
                continue;
            }
            let fixture = Fixture::new();
            fs::create_dir(fixture.path("elsewhere")).unwrap();
            fs::write(fixture.path("elsewhere/file"), "late").unwrap();
            fixture.killed(state, in_journal(done));
            fixture.wait_for_clock_tick();
            write(&fixture);
            let recovery = fixture.recover();
            let (Recovery::Finished(kept) | Recovery::Undone(kept)) = recovery else {
                panic!("{recovery:?}");
            };
            let expected = if done == 1 { NEW } else { OLD };
            assert_eq!(fixture.live_state(), expected, "{state:?} {name}");
            assert_eq!(kept.len(), 1, "{state:?} {name}");
            let texts = fixture.texts();
            assert!(texts.contains(&"late".into()), "{state:?} {name}");
            assert!(!fixture.staging().exists());
        }
    }
}

/// A process uses the home.
struct Busy;

impl RecoveryPolicy for Busy {
    fn before_exchange(&self, _: &Path, _: &Path, _: Option<&Path>) -> Result<(), IoError> {
        Err(io::Error::other("nothing is to be exchanged")).at("keep", Path::new("x"))
    }

    fn find_holders(&self, home: &Path, _: &[PathBuf]) -> Vec<Holder> {
        assert!(home.ends_with("live"), "{}", home.display());
        vec![codex()]
    }
}

#[test]
fn a_recovery_is_deferred_in_a_home_in_use_if_it_has_steps_to_exchange() {
    for (state, done) in [
        (JournalState::Committing, 1),
        (JournalState::Committing, 4),
        (JournalState::Committing, 0),
        (JournalState::Undoing, 1),
        (JournalState::Undoing, 0),
    ] {
        let fixture = Fixture::new();
        fixture.killed(state, in_journal(done));
        let before = fixture.texts();
        let recovery = fixture.recover_with(&Busy);
        // A home without anything to exchange is recovered even while it is used.
        if done == 1 {
            let Recovery::Deferred(RecoveryObstacle::InUse { holders, .. }) = recovery else {
                panic!("{recovery:?}");
            };
            assert_eq!(holders[0].pid, Some(7));
            assert_eq!(fixture.texts(), before);
            let begun = Transaction::begin(&fixture.staging(), &fixture.path("live"), &Busy);
            assert!(matches!(begun, Err(JournalError::Deferred(_))));
            let _ = fixture.recover();
        }
        let is_new = state == JournalState::Committing && done > 0;
        let expected = if is_new { NEW } else { OLD };
        assert_eq!(fixture.live_state(), expected, "{state:?} {done}");
    }
}

#[test]
fn files_replaced_by_copies_are_not_lost_in_a_recovery() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, in_journal(1));
    // Same names and texts, other ids.
    let staged = if is_always_off() {
        "replaced/0"
    } else {
        "new/auth"
    };
    let staged = fixture.staging().join(staged);
    for path in [&fixture.live("auth"), &staged] {
        let original = fixture.path("original");
        fs::rename(path, &original).unwrap();
        fs::copy(&original, path).unwrap();
        fs::rename(&original, path.with_extension("original")).unwrap();
    }
    let before = fixture.texts();
    let recovery = fixture.recover();
    if is_always_off() {
        // The moves are done, and both files stay.
        let is_kept = matches!(&recovery, Recovery::Finished(kept) if kept.len() == 1);
        assert!(is_kept, "{recovery:?}");
        assert_eq!(fixture.live_state(), NEW);
        assert!(fixture.texts().contains(&"old".into()));
    } else {
        let unrecognized = matches!(
            &recovery,
            Recovery::Deferred(RecoveryObstacle::Unrecognized { .. })
        );
        assert!(unrecognized, "{recovery:?}");
        assert_eq!(fixture.texts(), before);
    }
}

#[test]
fn a_recovery_is_deferred_while_a_folder_of_the_journal_is_missing() {
    let fixture = Fixture::new();
    let (mut transaction, steps) = fixture.begin();
    let other = staging_folder_beside(&fixture.path("y"));
    transaction.add_folder(&other).unwrap();
    fixture.kill(transaction, steps, JournalState::Committing, 1);
    fs::remove_dir(&other).unwrap();
    let before = fixture.texts();
    let missing = Recovery::Deferred(RecoveryObstacle::MissingFolder {
        folder: other,
        journal: fixture.staging(),
    });
    assert_eq!(fixture.recover(), missing);
    assert_eq!(fixture.texts(), before);
}

#[test]
fn a_file_that_was_moved_to_a_live_path_is_kept() {
    on_both_systems(|unsupported| {
        for (state, done) in [(JournalState::Committing, 1), (JournalState::Undoing, 6)] {
            for name in ["gone", "added", "folder"] {
                let fixture = Fixture::new();
                // Older than the transaction, as after `mv` or `cp -p`.
                let other = fixture.path("other");
                fs::create_dir(&other).unwrap();
                fs::write(other.join("text"), "the user's").unwrap();
                fixture.wait_for_clock_tick();
                fixture.killed(state, done);
                let _ = fs::remove_dir_all(fixture.live(name));
                let _ = fs::remove_file(fixture.live(name));
                fs::rename(other, fixture.live(name)).unwrap();
                let recovery = fixture.recover();
                let (Recovery::Finished(kept) | Recovery::Undone(kept)) = &recovery else {
                    panic!("{recovery:?}");
                };
                let expected = if done == 1 { NEW } else { OLD };
                let context = format!("{state:?} {name} {unsupported}: {recovery:?}");
                let is_same = fixture.live_state() == expected;
                let is_unneeded = fixture.live(name).join("text").exists();
                assert!(is_same || is_unneeded, "{context}");
                let texts = fixture.texts();
                assert!(texts.contains(&"the user's".into()), "{context}");
                assert!(is_unneeded || !kept.is_empty(), "{context}");
            }
        }
    });
}

#[test]
fn late_writes_that_cannot_be_moved_stay_in_the_staging_folder() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, in_journal(1));
    fixture.wait_for_clock_tick();
    fs::write(fixture.live("folder/x"), "late").unwrap();
    // So long that no name for it is possible.
    let long = fixture.path(&"h".repeat(228));
    fs::rename(fixture.path("live"), &long).unwrap();
    let staging = staging_folder_beside(&long);
    fs::rename(fixture.staging(), &staging).unwrap();
    let journal = staging.join(JOURNAL_NAME);
    let text = fs::read_to_string(&journal).unwrap();
    let (old, new) = (fixture.path("live"), long.clone());
    // As in JSON, where a backslash is doubled.
    let quoted = |path: &Path| serde_json::to_string(path).unwrap().replace('"', "");
    let text = text
        .replace(&quoted(&fixture.staging()), &quoted(&staging))
        .replace(&quoted(&old), &quoted(&new));
    fs::write(&journal, text).unwrap();
    for _ in 0..2 {
        let recovery = recover(&staging, &NoPolicy);
        assert!(matches!(recovery, Err(JournalError::Io(_))), "{recovery:?}");
        assert!(fixture.texts().contains(&"late".into()));
        let begun = Transaction::begin(&staging, &long, &NoPolicy);
        assert!(matches!(begun, Err(JournalError::Io(_))));
    }
}

#[test]
fn a_folder_of_another_transaction_is_not_used() {
    let fixture = Fixture::new();
    let (mut transaction, _) = fixture.begin();
    let other = staging_folder_beside(&fixture.path("y"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("staged"), "another's").unwrap();
    let refused = transaction.add_folder(&other).unwrap_err();
    assert!(
        matches!(refused, JournalError::FolderExists(_)),
        "{refused}"
    );
    drop(transaction);
    let text = fs::read_to_string(other.join("staged")).unwrap();
    assert_eq!(text, "another's");
}

#[test]
fn files_without_a_journal_are_not_mixed_into_the_next_transaction() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.staging().join("new")).unwrap();
    fs::write(fixture.staging().join("new/stale"), "stale").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(fixture.staging(), private).unwrap();
    }
    let (_transaction, _) = fixture.begin();
    assert!(!fixture.staging().join("new/stale").exists());
}

#[test]
fn without_exchange_calls_a_live_file_is_never_missing() {
    UNSUPPORTED.set(true);
    for state in [JournalState::Committing, JournalState::Undoing] {
        for done in 0..=6 {
            let fixture = Fixture::new();
            fixture.killed(state, done);
            let auth = fs::read_to_string(fixture.live("auth")).unwrap();
            assert_eq!(auth, if done < 2 { "old" } else { "new" }, "{done}");
            // Codex replaces its login before the recovery.
            atomic::write(&fixture.live("auth"), b"since").unwrap();
            let recovery = fixture.recover();
            let is_recovered = matches!(recovery, Recovery::Finished(_) | Recovery::Undone(_));
            assert!(is_recovered, "{recovery:?}");
            assert!(fixture.texts().contains(&"since".into()), "{recovery:?}");
            assert_eq!(fixture.recover(), Recovery::None);
        }
    }
    UNSUPPORTED.set(false);
}

#[test]
fn a_damaged_journal_removes_no_other_folder() {
    for other in ["live", "live/../.x.codex-manager-restore"] {
        let fixture = Fixture::new();
        let (mut transaction, steps) = fixture.begin();
        let other = crate::io::json_path::ListedPath(fixture.path(other));
        fs::create_dir_all(&other.0).unwrap();
        transaction.journal.folders.push(other.clone());
        fixture.kill(transaction, steps, JournalState::Committed, 0);
        let refused = recover(&fixture.staging(), &NoPolicy).unwrap_err();
        assert!(matches!(refused, JournalError::DamagedJournal { .. }));
        assert_eq!(fixture.live_state(), OLD);
        assert!(other.0.exists());
    }
}

#[test]
fn a_journal_that_names_a_path_outside_of_the_home_changes_nothing() {
    for outside in ["precious", "live/../precious", "live-2/file", "link/file"] {
        let fixture = Fixture::new();
        fs::create_dir(fixture.path("live-2")).unwrap();
        fs::write(fixture.path("precious"), "precious").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(fixture.path("live-2"), fixture.live("link")).unwrap();
        let outside = if outside == "link/file" {
            fixture.live(outside)
        } else {
            fixture.path(outside)
        };
        for is_live in [true, false] {
            let (transaction, mut steps) = fixture.begin();
            let staged = fixture.staging().join("outside");
            let (live, staged) = if is_live {
                (outside.clone(), staged)
            } else {
                (fixture.live("new"), outside.clone())
            };
            steps.push(step(live, staged));
            fixture.kill(transaction, steps, JournalState::Committing, 1);
            let before = fixture.texts();
            let refused = recover(&fixture.staging(), &NoPolicy).unwrap_err();
            let is_named = refused
                .to_string()
                .contains("outside of the changed folders");
            assert!(is_named, "{outside:?}: {refused}");
            assert_eq!(fixture.texts(), before, "{outside:?}");
            fs::remove_dir_all(fixture.staging()).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_survive_a_kill() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new();
    let name = std::ffi::OsStr::from_bytes(b"n\xff");
    let (live, staged) = (fixture.path("live"), fixture.staging().join("new"));
    fs::write(live.join(name), "old").unwrap();
    let (transaction, mut steps) = fixture.begin();
    fs::write(staged.join(name), "new").unwrap();
    steps.push(step(live.join(name), staged.join(name)));
    fixture.kill(transaction, steps, JournalState::Committing, 1);
    assert_eq!(fixture.recover(), Recovery::Finished(vec![]));
    assert_eq!(fs::read_to_string(live.join(name)).unwrap(), "new");
}

#[test]
fn a_running_transaction_is_not_recovered_by_another_process() {
    let fixture = Fixture::new();
    let (_transaction, _) = fixture.begin();
    let recovery = recover(&fixture.staging(), &NoPolicy).unwrap();
    assert!(matches!(recovery, Recovery::InProgress(_)));
}

#[test]
fn a_new_state_that_was_live_before_a_killed_undo_is_kept_without_a_note_in_the_journal() {
    let fixture = Fixture::new();
    // The disk was full, so the journal still says `committing`.
    fixture.killed(JournalState::Committing, 0);
    fixture.wait_for_clock_tick();
    fs::write(fixture.staging().join("new/folder/late"), "late").unwrap();
    let Recovery::Undone(kept) = fixture.recover() else {
        panic!("finished");
    };
    assert_eq!(fixture.live_state(), OLD);
    let text = fs::read_to_string(kept[0].join("new/folder/late")).unwrap();
    assert_eq!(text, "late");
}

#[test]
fn a_log_that_a_program_wrote_for_a_database_is_not_left_beside_another_one() {
    for name in ["state_5.sqlite", "codex-dev.db", "data"] {
        for (state, done, live) in [
            (JournalState::Committing, 1, "new"),
            (JournalState::Undoing, 2, "old"),
        ] {
            let wal = format!("{name}-wal");
            let fixture = Fixture::new();
            let (database, log) = (fixture.live(name), fixture.live(&wal));
            fs::write(&database, "old").unwrap();
            fs::write(&log, "the old log").unwrap();
            let begun = Transaction::begin(&fixture.staging(), &fixture.path("live"), &NoPolicy);
            fs::write(fixture.staging().join("1"), "new").unwrap();
            let mut steps = vec![step(database.clone(), fixture.staging().join("1"))];
            if state == JournalState::Committing {
                steps.insert(0, step(log.clone(), fixture.staging().join("2")));
            }
            fixture.kill(begun.unwrap(), steps, state, done);
            let later_log = [&[0x37, 0x7f, 0x06, 0x82][..], b"since"].concat();
            fs::write(&log, &later_log).unwrap();
            let recovery = fixture.recover();
            let (Recovery::Finished(kept) | Recovery::Undone(kept)) = recovery else {
                panic!("{recovery:?}");
            };
            assert_eq!(fs::read_to_string(&database).unwrap(), live, "{name}");
            assert!(!log.exists(), "{name}");
            assert_eq!(fs::read(kept[0].join(&wal)).unwrap(), later_log, "{name}");
        }
    }
}
