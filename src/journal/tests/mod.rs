//! Kills transactions at every step and recovers them.

use super::document::{JOURNAL, JournalState};
use super::folder::folder_beside;
use super::recovery::recover;
use super::write_times::filesystem_clock_ns;
use super::*;
use crate::codex::process::Holder;
use crate::io::exchange::tests::UNSUPPORTED;
use crate::io::json_path::ListedPath;
use crate::io::lock::once_free;
use crate::io::{IoContext, IoError, atomic};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

thread_local! {
    /// The number of the next syncs of this thread that fail.
    static FAILING_SYNCS: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn before_sync() -> Result<(), IoError> {
    let left = FAILING_SYNCS.get();
    FAILING_SYNCS.set(left.saturating_sub(1));
    if left == 0 {
        return Ok(());
    }
    Err(io::Error::other("no sync")).at("fsync", Path::new("live"))
}

/// Texts of `auth`, `added`, `gone` and `folder/x`.
const OLD: &str = "old - old old";
const NEW: &str = "new new - new";

/// A live file, a live folder, a name to add and a name to remove, with their staged versions.
struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(fixture.path("live")).unwrap();
        for name in ["auth", "gone", "folder/x"] {
            let path = fixture.live(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "old").unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn live(&self, name: &str) -> PathBuf {
        self.path("live").join(name)
    }

    fn staging(&self) -> PathBuf {
        folder_beside(&self.path("live"))
    }

    fn begin(&self) -> (Transaction, Vec<Step>) {
        let begun = Transaction::begin(&self.staging(), &self.path("live"), &NoPolicy);
        let staged = self.staging().join("new");
        fs::create_dir_all(staged.join("folder")).unwrap();
        for name in ["auth", "added", "folder/x"] {
            fs::write(staged.join(name), "new").unwrap();
        }
        let steps = ["auth", "folder", "added", "gone"];
        let steps = steps.map(|n| step(self.live(n), staged.join(n)));
        (begun.unwrap(), steps.into())
    }

    /// Commits `steps` and kills the process after `done` of the steps in the journal, with `state`
    /// in the journal. Returns the number of steps in the journal.
    fn kill(
        &self,
        mut transaction: Transaction,
        steps: Vec<Step>,
        state: JournalState,
        done: usize,
    ) -> usize {
        transaction.journal.since_ns = vec![filesystem_clock_ns(&self.staging()).unwrap()];
        let steps = transaction.without_unsupported_exchanges(steps).unwrap();
        transaction.journal.steps = steps;
        transaction.set_state(state).unwrap();
        let steps = &transaction.journal.steps;
        for step in &steps[..done.min(steps.len())] {
            step.apply().unwrap();
        }
        let number = steps.len();
        // As after a kill: no destructor removes a file, but the lock is released.
        transaction.ended = true;
        drop(transaction);
        number
    }

    fn killed(&self, state: JournalState, done: usize) -> usize {
        let (transaction, steps) = self.begin();
        self.kill(transaction, steps, state, done)
    }

    fn recover_with(&self, policy: &dyn RecoveryPolicy) -> Recovery {
        let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress));
        once_free(|| recover(&self.staging(), policy), is_held).unwrap()
    }

    fn recover(&self) -> Recovery {
        self.recover_with(&NoPolicy)
    }

    /// Waits for the next tick of the file system's clock.
    fn wait_for_clock_tick(&self) {
        let now = || filesystem_clock_ns(self.root.path()).unwrap();
        let before = now();
        while now() <= before {}
    }

    fn live_state(&self) -> String {
        ["auth", "added", "gone", "folder/x"]
            .map(|n| fs::read_to_string(self.live(n)).unwrap_or_else(|_| "-".into()))
            .join(" ")
    }

    /// Returns the text of every file, except for those in `kept`.
    fn texts(&self) -> Vec<String> {
        let walk = walkdir::WalkDir::new(self.root.path()).sort_by_file_name();
        let files = walk.into_iter().map(Result::unwrap);
        let files = files.filter(|e| e.file_type().is_file());
        let files = files.filter(|e| !e.path().starts_with(self.path("kept")));
        files
            .map(|e| fs::read_to_string(e.path()).unwrap())
            .collect()
    }
}

fn step(live: PathBuf, staged: PathBuf) -> Step {
    Step::new(live, staged).unwrap()
}

/// Runs `test` on a system with a call for exchanges, and on one without.
fn on_both_systems(test: impl Fn(bool)) {
    for unsupported in [false, true] {
        UNSUPPORTED.set(unsupported);
        test(unsupported);
    }
    UNSUPPORTED.set(false);
}

#[test]
fn commit_exchanges_all_steps_and_removes_the_staging_folder() {
    on_both_systems(|_| {
        let fixture = Fixture::new();
        let (transaction, steps) = fixture.begin();
        let outcome = transaction.commit(steps, || true).unwrap();
        assert_eq!(outcome, Outcome::Done(vec![]));
        assert_eq!(fixture.live_state(), NEW);
        assert!(!fixture.staging().exists());
    });
}

#[test]
fn a_kill_between_any_two_steps_is_recovered() {
    on_both_systems(|unsupported| {
        for state in [JournalState::Committing, JournalState::Undoing] {
            for done in 0..=6 {
                let fixture = Fixture::new();
                let steps = fixture.killed(state, done);
                assert_eq!(steps, if unsupported { 6 } else { 4 });
                let (recovery, expected) = match state {
                    JournalState::Committing if done > 0 => (Recovery::Finished(vec![]), NEW),
                    _ => (Recovery::Undone(vec![]), OLD),
                };
                let context = format!("{state:?} after {done} steps, {unsupported}");
                assert_eq!(fixture.recover(), recovery, "{context}");
                assert_eq!(fixture.live_state(), expected, "{context}");
                assert!(!fixture.staging().exists());
                assert_eq!(fixture.recover(), Recovery::None);
            }
        }
    });
}

#[test]
fn a_kill_while_the_staging_folders_are_removed_is_recovered() {
    for (state, done, expected) in [
        (JournalState::Prepared, 0, OLD),
        (JournalState::Committed, 6, NEW),
    ] {
        let fixture = Fixture::new();
        fixture.killed(state, done);
        fs::remove_dir_all(fixture.staging().join("new")).unwrap();
        let _ = fixture.recover();
        assert_eq!(fixture.live_state(), expected);
        assert!(!fixture.staging().exists());
    }
}

#[test]
fn steps_that_cannot_be_synced_are_undone() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    FAILING_SYNCS.set(1);
    transaction.commit(steps, || true).unwrap_err();
    assert_eq!(fixture.live_state(), OLD);
    assert!(!fixture.staging().exists());
}

#[test]
fn an_undo_that_cannot_be_synced_is_completed_by_the_next_command() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    FAILING_SYNCS.set(2);
    transaction.commit(steps, || true).unwrap_err();
    assert_eq!(fixture.recover(), Recovery::Undone(vec![]));
    assert_eq!(fixture.live_state(), OLD);
    assert!(!fixture.staging().exists());
}

#[test]
fn a_step_that_fails_undoes_those_before_it() {
    on_both_systems(|_| {
        let fixture = Fixture::new();
        let (transaction, mut steps) = fixture.begin();
        fs::write(fixture.staging().join("new/taken"), "new").unwrap();
        let staged = fixture.staging().join("new/taken");
        steps.push(step(fixture.live("taken"), staged));
        fs::write(fixture.live("taken"), "appeared").unwrap();
        transaction.commit(steps, || true).unwrap_err();
        assert_eq!(fixture.live_state(), OLD);
    });
}

#[test]
fn conflicting_steps_are_refused() {
    for (live, staged) in [
        ("auth", "old/0"),
        ("folder/x", "old/0"),
        ("folder/x", "new/folder/x"),
        ("other", "new/added"),
        ("other", "new/folder/x"),
    ] {
        let fixture = Fixture::new();
        let (transaction, mut steps) = fixture.begin();
        let staged = fixture.staging().join(staged);
        steps.insert(0, step(fixture.live(live), staged));
        let refused = transaction.commit(steps, || true).unwrap_err();
        assert!(
            matches!(refused, JournalError::ConflictingSteps(_)),
            "{live}: {refused}"
        );
        assert_eq!(fixture.live_state(), OLD);
        assert!(!fixture.staging().exists());
    }
    // A repeated step counts once.
    let fixture = Fixture::new();
    let (transaction, mut steps) = fixture.begin();
    steps.extend_from_within(..);
    let outcome = transaction.commit(steps, || true).unwrap();
    assert_eq!(outcome, Outcome::Done(vec![]));
    assert_eq!(fixture.live_state(), NEW);
}

#[test]
fn a_path_can_be_emptied_before_other_steps_and_filled_after_them() {
    for done in 0..=6 {
        let fixture = Fixture::new();
        let (transaction, mut steps) = fixture.begin();
        fs::write(fixture.live("log"), "old").unwrap();
        let staged = fixture.staging().join("new/log");
        fs::write(&staged, "new").unwrap();
        let away = step(fixture.live("log"), fixture.staging().join("new/log.old"));
        steps.insert(0, away);
        steps.push(Step::into_emptied(fixture.live("log"), staged).unwrap());
        if done == 6 {
            let _ = transaction.commit(steps, || true).unwrap();
        } else {
            fixture.kill(transaction, steps, JournalState::Committing, done);
            let _ = fixture.recover();
        }
        let (state, log) = if done == 0 {
            (OLD, "old")
        } else {
            (NEW, "new")
        };
        assert_eq!(fixture.live_state(), state, "{done}");
        assert_eq!(fs::read_to_string(fixture.live("log")).unwrap(), log);
    }
}

#[test]
fn a_refused_commit_is_undone_and_keeps_the_new_state() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    let Outcome::Undone(kept) = transaction.commit(steps, || false).unwrap() else {
        panic!("committed");
    };
    assert_eq!(fixture.live_state(), OLD);
    let text = fs::read_to_string(kept[0].join("new/auth")).unwrap();
    assert_eq!(text, "new");
    assert!(!fixture.staging().exists());
    assert_eq!(
        list_kept(&fixture.staging()),
        [(kept[0].clone(), KeptAs::Evidence)]
    );
}

#[test]
fn a_kill_after_a_refusal_keeps_the_new_state_too() {
    for done in [0, 2, 4] {
        let fixture = Fixture::new();
        let (mut transaction, steps) = fixture.begin();
        transaction.journal.keeps_replaced = true;
        fixture.kill(transaction, steps, JournalState::Undoing, done);
        let Recovery::Undone(kept) = fixture.recover() else {
            panic!("{done}");
        };
        assert_eq!(fixture.live_state(), OLD);
        let text = fs::read_to_string(kept[0].join("new/auth")).unwrap();
        assert_eq!(text, "new");
        assert!(!fixture.staging().exists());
    }
}

#[test]
fn a_dropped_transaction_removes_the_staging_folder() {
    let fixture = Fixture::new();
    drop(fixture.begin());
    assert_eq!(fixture.live_state(), OLD);
    assert!(!fixture.staging().exists());
}

#[test]
fn if_committed_cannot_be_written_the_journal_is_removed_before_the_old_state() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    let journal = fixture.staging().join(JOURNAL);
    let block = || {
        // A folder cannot be replaced by a rename of a file.
        fs::remove_file(&journal).unwrap();
        fs::create_dir(&journal).unwrap();
        fs::write(journal.join("in"), "the way").unwrap();
        true
    };
    let outcome = transaction.commit(steps, block).unwrap();
    assert_eq!(outcome, Outcome::Done(vec![]));
    assert_eq!(fixture.live_state(), NEW);
    assert!(!fixture.staging().exists());
}

#[test]
fn files_that_codex_replaced_after_the_exchange_stay() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, 3);
    for name in ["auth", "added"] {
        atomic::write(&fixture.live(name), b"since").unwrap();
    }
    assert_eq!(fixture.recover(), Recovery::Finished(vec![]));
    assert_eq!(fixture.live_state(), "since since - new");
}

#[test]
fn a_removed_live_file_does_not_count_as_a_done_step() {
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
            let fixture = Fixture::new();
            fs::create_dir(fixture.path("elsewhere")).unwrap();
            fs::write(fixture.path("elsewhere/file"), "late").unwrap();
            fixture.killed(state, done);
            fixture.wait_for_clock_tick();
            write(&fixture);
            let recovery = fixture.recover();
            let (Recovery::Finished(kept) | Recovery::Undone(kept)) = recovery else {
                panic!("{recovery:?}");
            };
            let expected = if done == 1 { NEW } else { OLD };
            assert_eq!(fixture.live_state(), expected, "{state:?} {name}");
            let text = fs::read_to_string(kept[0].join("new").join(name)).unwrap();
            assert_eq!(text, "late", "{state:?} {name}");
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

    fn holders(&self, home: &Path) -> Vec<Holder> {
        assert!(home.ends_with("live"), "{}", home.display());
        vec![Holder {
            pid: Some(7),
            name: "codex".into(),
            why: "codex process".into(),
        }]
    }
}

#[test]
fn a_home_in_use_is_not_exchanged() {
    for (state, done) in [
        (JournalState::Committing, 1),
        (JournalState::Committing, 4),
        (JournalState::Committing, 0),
        (JournalState::Undoing, 1),
        (JournalState::Undoing, 0),
    ] {
        let fixture = Fixture::new();
        fixture.killed(state, done);
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
fn copied_or_unmounted_folders_are_not_changed() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, 1);
    // Same names and texts, other ids.
    let staged = fixture.staging().join("new/auth");
    for path in [&fixture.live("auth"), &staged] {
        let original = fixture.path("original");
        fs::rename(path, &original).unwrap();
        fs::copy(&original, path).unwrap();
        fs::rename(&original, path.with_extension("original")).unwrap();
    }
    let before = fixture.texts();
    let recovery = fixture.recover();
    let unrecognized = matches!(
        &recovery,
        Recovery::Deferred(RecoveryObstacle::Unrecognized { .. })
    );
    assert!(unrecognized, "{recovery:?}");
    assert_eq!(fixture.texts(), before);

    let fixture = Fixture::new();
    let (mut transaction, steps) = fixture.begin();
    let other = folder_beside(&fixture.path("y"));
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
fn evidence_that_cannot_be_moved_stays_until_it_can() {
    let fixture = Fixture::new();
    fixture.killed(JournalState::Committing, 1);
    fixture.wait_for_clock_tick();
    fs::write(fixture.live("folder/x"), "late").unwrap();
    // A file in the place of every name for it.
    let blocked = |n: u64| atomic::with_suffix(&fixture.staging(), &format!(".kept-{n}/new"));
    fs::create_dir_all(blocked(1)).unwrap();
    fs::remove_dir_all(blocked(1).parent().unwrap()).unwrap();
    let long = fixture.path(&"h".repeat(228));
    fs::rename(fixture.path("live"), &long).unwrap();
    let staging = folder_beside(&long);
    fs::rename(fixture.staging(), &staging).unwrap();
    let journal = staging.join(JOURNAL);
    let text = fs::read_to_string(&journal).unwrap();
    let (old, new) = (fixture.path("live"), long.clone());
    let text = text
        .replace(
            fixture.staging().to_str().unwrap(),
            staging.to_str().unwrap(),
        )
        .replace(old.to_str().unwrap(), new.to_str().unwrap());
    fs::write(&journal, text).unwrap();
    for _ in 0..2 {
        let recovery = recover(&staging, &NoPolicy).unwrap();
        let is_deferred = matches!(
            recovery,
            Recovery::Deferred(RecoveryObstacle::NotKept { .. })
        );
        assert!(is_deferred, "{recovery:?}");
        let late = fs::read_to_string(staging.join("new/folder/x")).unwrap();
        assert_eq!(late, "late");
        let begun = Transaction::begin(&staging, &long, &NoPolicy);
        assert!(matches!(begun, Err(JournalError::Deferred(_))));
    }
}

#[test]
fn a_folder_of_another_transaction_is_not_used() {
    let fixture = Fixture::new();
    let (mut transaction, _) = fixture.begin();
    let other = folder_beside(&fixture.path("y"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("staged"), "another's").unwrap();
    let refused = transaction.add_folder(&other).unwrap_err();
    assert!(matches!(refused, JournalError::Occupied(_)), "{refused}");
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

/// A mixture of both states does harm.
struct AllOrNothing;

impl RecoveryPolicy for AllOrNothing {
    fn finishes_partly_done(&self) -> bool {
        false
    }
}

#[test]
fn a_policy_can_undo_what_is_partly_done() {
    on_both_systems(|unsupported| {
        let steps = if unsupported { 6 } else { 4 };
        for done in 0..=steps {
            let fixture = Fixture::new();
            fixture.killed(JournalState::Committing, done);
            let recovery = fixture.recover_with(&AllOrNothing);
            let (expected, state) = if done == steps {
                (Recovery::Finished(vec![]), NEW)
            } else {
                (Recovery::Undone(vec![]), OLD)
            };
            assert_eq!(recovery, expected, "{done}");
            assert_eq!(fixture.live_state(), state, "{done}");
        }
    });
}

#[test]
fn a_file_is_never_missing_where_nothing_can_be_exchanged() {
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
    let fixture = Fixture::new();
    let (mut transaction, steps) = fixture.begin();
    transaction
        .journal
        .folders
        .push(ListedPath(fixture.path("live")));
    fixture.kill(transaction, steps, JournalState::Committed, 0);
    let refused = recover(&fixture.staging(), &NoPolicy).unwrap_err();
    assert!(matches!(refused, JournalError::DamagedJournal { .. }));
    assert_eq!(fixture.live_state(), OLD);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_survive_a_kill() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new();
    let (transaction, mut steps) = fixture.begin();
    let name = std::ffi::OsStr::from_bytes(b"n\xff");
    let (live, staged) = (fixture.path("live"), fixture.staging().join("new"));
    for (folder, text) in [(&live, "old"), (&staged, "new")] {
        fs::write(folder.join(name), text).unwrap();
    }
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
    assert_eq!(recovery, Recovery::InProgress);
}

/// Journals of version 0.1 before `home`, `since` and `leave_at`, with the device number, and with
/// one side of an exchange set aside between three renames.
#[cfg(unix)]
#[test]
fn journals_of_older_versions_are_read() {
    use std::os::unix::fs::MetadataExt;
    // The step of `auth`: the names of the aside, what is there, at the live path, and staged.
    let kills: [(&str, &str, [&str; 3]); 6] = [
        ("committing", "", ["-", "new", "old"]),
        ("committing", "new/auth.aside", ["old", "new", "-"]),
        ("committing", "aside/0.moved", ["old", "new", "-"]),
        ("committing", "aside/0.linked", ["old", "new", "-"]),
        ("committing", "aside/0.moved", ["old", "-", "new"]),
        ("undoing", "aside/0.moved", ["new", "-", "old"]),
    ];
    for (state, aside, places) in kills {
        let fixture = Fixture::new();
        let (mut transaction, steps) = fixture.begin();
        let id = |path: &Path| {
            let meta = path.symlink_metadata().ok();
            meta.map(|m| serde_json::json!({"dev": m.dev() + 1, "ino": m.ino()}))
        };
        let json = steps.iter().map(|step| {
            serde_json::json!({
                "live": step.live,
                "staged": step.staged,
                "live_id": id(&step.live),
                "staged_id": id(&step.staged),
                "late": "within",
            })
        });
        let journal = serde_json::json!({
            "schema": 1,
            "state": state,
            "steps": json.collect::<Vec<_>>(),
            "folders": [fixture.staging()],
        });
        // Another step is done, so that a recovery goes on.
        steps[1].apply().unwrap();
        let aside = fixture
            .staging()
            .join(if aside.is_empty() { "none" } else { aside });
        fs::create_dir_all(aside.parent().unwrap()).unwrap();
        let kept = ["old", "new"].map(|name| (name, fixture.path(name)));
        fs::rename(&steps[0].live, &kept[0].1).unwrap();
        fs::rename(&steps[0].staged, &kept[1].1).unwrap();
        for (content, path) in places
            .iter()
            .zip([&aside, &steps[0].live, &steps[0].staged])
        {
            if let Some((_, from)) = kept.iter().find(|(name, _)| name == content) {
                fs::rename(from, path).unwrap();
            }
        }
        let text = serde_json::to_string_pretty(&journal).unwrap();
        fs::write(fixture.staging().join(JOURNAL), text).unwrap();
        transaction.ended = true;
        drop(transaction);
        let expected = if state == "undoing" { OLD } else { NEW };
        let recovery = fixture.recover();
        let is_recovered = matches!(recovery, Recovery::Finished(_) | Recovery::Undone(_));
        assert!(is_recovered, "{recovery:?}");
        assert_eq!(
            fixture.live_state(),
            expected,
            "{state} {aside:?} {places:?}"
        );
        assert!(!fixture.staging().exists());
    }
}

mod crash_states;
