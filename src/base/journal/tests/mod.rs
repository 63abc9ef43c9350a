//! Kills transactions at every step and recovers them.

use super::document::{JOURNAL_NAME, JournalState};
use super::folder::staging_folder_beside;
use super::recovery::recover;
use super::*;
use crate::codex::process::{Holder, ProcessRole};
use crate::io::disk_clock::read_filesystem_clock_ns;
use crate::io::exchange::tests::{UNSUPPORTED, is_always_off};
use crate::io::lock::retry_until_free;
use crate::io::{IoContext, IoError, atomic};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

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
        staging_folder_beside(&self.path("live"))
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
        transaction.journal.exchange_begun_ns =
            vec![read_filesystem_clock_ns(&self.staging()).unwrap()];
        let steps = transaction.replace_unsupported_exchanges(steps).unwrap();
        transaction.journal.steps = steps;
        transaction.set_state(state).unwrap();
        let steps = &transaction.journal.steps;
        for step in &steps[..done.min(steps.len())] {
            step.apply().unwrap();
        }
        let number = steps.len();
        // As after a kill: no destructor removes a file, but the lock is released.
        transaction.keeps_folders_on_drop = true;
        drop(transaction);
        number
    }

    fn killed(&self, state: JournalState, done: usize) -> usize {
        let (transaction, steps) = self.begin();
        self.kill(transaction, steps, state, done)
    }

    fn recover_with(&self, policy: &dyn RecoveryPolicy) -> Recovery {
        let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress(_)));
        retry_until_free(|| recover(&self.staging(), policy), is_held).unwrap()
    }

    fn recover(&self) -> Recovery {
        self.recover_with(&NoPolicy)
    }

    /// Waits for the next tick of the file system's clock.
    fn wait_for_clock_tick(&self) {
        let now = || read_filesystem_clock_ns(self.root.path()).unwrap();
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

/// Calls a function at the check of the processes before an exchange, or at the one after it.
struct Meanwhile<F: Fn()> {
    call: F,
    checks: Cell<usize>,
    /// The number of checks before the call.
    checks_before: usize,
    /// True if a process uses the home then.
    is_opened: bool,
}

impl<F: Fn()> Meanwhile<F> {
    fn before_exchange(call: F) -> Self {
        Self {
            call,
            checks: Cell::new(0),
            checks_before: 0,
            is_opened: false,
        }
    }

    fn after_exchange(call: F) -> Self {
        Self {
            checks_before: 1,
            ..Self::before_exchange(call)
        }
    }

    fn opened(call: F) -> Self {
        Self {
            is_opened: true,
            ..Self::after_exchange(call)
        }
    }
}

impl<F: Fn()> RecoveryPolicy for Meanwhile<F> {
    fn find_holders(&self, _: &Path, _: &[PathBuf]) -> Vec<Holder> {
        let is_now = self.checks.replace(self.checks.get() + 1) == self.checks_before;
        if is_now {
            (self.call)();
        }
        let users = [codex()].into_iter();
        users.filter(|_| is_now && self.is_opened).collect()
    }
}

fn codex() -> Holder {
    Holder {
        pid: Some(7),
        name: "codex".into(),
        role: ProcessRole::Codex,
    }
}

/// Returns the number of steps in the journal that do the first `done` steps of [`Fixture::begin`].
/// Without a call for an exchange, `auth` and `folder` take two each.
fn in_journal(done: usize) -> usize {
    if is_always_off() {
        [0, 2, 4, 5, 6][done]
    } else {
        done
    }
}

fn step(live: PathBuf, staged: PathBuf) -> Step {
    Step::record(live, staged).unwrap()
}

/// Runs `test` on a system with a call for exchanges, and on one without.
fn on_both_systems(test: impl Fn(bool)) {
    for unsupported in [false, true] {
        if !unsupported && is_always_off() {
            continue;
        }
        UNSUPPORTED.set(unsupported);
        test(unsupported);
    }
    UNSUPPORTED.set(false);
}

/// Windows, and some file systems, have no call for an exchange.
#[cfg(target_os = "linux")]
#[test]
fn all_transaction_tests_pass_without_the_exchange_system_call() {
    if is_always_off() {
        return;
    }
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    let run = tests
        .args(["journal::"])
        .env(crate::io::exchange::tests::WITHOUT_EXCHANGE, "1")
        .output();
    let run = run.unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stdout)
    );
}

#[test]
fn commit_exchanges_all_steps_and_removes_the_staging_folder() {
    on_both_systems(|_| {
        let fixture = Fixture::new();
        let (transaction, steps) = fixture.begin();
        let outcome = transaction
            .commit(steps, &NoPolicy)
            .unwrap()
            .remove_old_state();
        assert_eq!(outcome, [""; 0].map(PathBuf::from));
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
    transaction.commit(steps, &NoPolicy).unwrap_err();
    assert_eq!(fixture.live_state(), OLD);
    assert!(!fixture.staging().exists());
}

#[test]
fn an_undo_that_cannot_be_synced_is_completed_by_the_next_command() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    FAILING_SYNCS.set(2);
    transaction.commit(steps, &NoPolicy).unwrap_err();
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
        transaction.commit(steps, &NoPolicy).unwrap_err();
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
        let refused = transaction.commit(steps, &NoPolicy).unwrap_err();
        assert!(
            matches!(refused, JournalError::ConflictingSteps(_)),
            "{live}: {refused}"
        );
        assert_eq!(fixture.live_state(), OLD);
        assert!(!fixture.staging().exists());
    }
}

#[test]
fn a_repeated_step_is_done_once() {
    let fixture = Fixture::new();
    let (transaction, mut steps) = fixture.begin();
    steps.extend_from_within(..);
    let outcome = transaction
        .commit(steps, &NoPolicy)
        .unwrap()
        .remove_old_state();
    assert_eq!(outcome, [""; 0].map(PathBuf::from));
    assert_eq!(fixture.live_state(), NEW);
}

#[test]
fn a_commit_is_undone_and_its_new_files_kept_aside_if_codex_opened_the_home() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    let opened = transaction.commit(steps, &Meanwhile::opened(|| ()));
    let Err(JournalError::OpenedMeanwhile { kept, holders }) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(holders, [codex()]);
    assert_eq!(fixture.live_state(), OLD);
    let text = fs::read_to_string(kept[0].join("new/auth")).unwrap();
    assert_eq!(text, "new");
    assert!(!fixture.staging().exists());
    assert_eq!(
        list_kept_folders(&fixture.staging()),
        [(kept[0].clone(), KeptAs::Evidence)]
    );
}

#[test]
fn a_commit_undone_because_codex_opened_the_home_keeps_files_that_appeared() {
    on_both_systems(|unsupported| {
        let fixture = Fixture::new();
        let (transaction, steps) = fixture.begin();
        let opened = transaction.commit(
            steps,
            &Meanwhile::opened(|| {
                fs::write(fixture.live("gone"), "made since").unwrap();
                atomic::write(&fixture.live("auth"), b"renewed").unwrap();
            }),
        );
        let Err(JournalError::OpenedMeanwhile { kept, .. }) = opened else {
            panic!("{opened:?}");
        };
        assert_eq!(fixture.live_state(), OLD, "{unsupported}");
        let texts = fixture.texts();
        for text in ["made since", "renewed"] {
            assert!(texts.contains(&text.into()), "{texts:?} {kept:?}");
        }
    });
}

#[test]
fn a_folder_is_added_once() {
    let fixture = Fixture::new();
    let (mut transaction, _) = fixture.begin();
    let other = staging_folder_beside(&fixture.path("y"));
    transaction.add_folder(&other).unwrap();
    transaction.add_folder(&other).unwrap();
    assert_eq!(transaction.journal.folders.len(), 2);
}

#[test]
fn a_folder_that_was_removed_before_a_kill_is_not_kept() {
    let fixture = Fixture::new();
    let (mut transaction, steps) = fixture.begin();
    let other = staging_folder_beside(&fixture.path("y"));
    transaction.add_folder(&other).unwrap();
    transaction.journal.keeps_staged_files = true;
    fixture.kill(transaction, steps, JournalState::Committed, 4);
    fs::remove_dir_all(&other).unwrap();
    assert!(matches!(fixture.recover(), Recovery::Finished(_)));
    assert!(!fixture.staging().exists());
}

#[test]
fn a_recovery_of_a_killed_undo_keeps_new_files_that_others_may_have_written() {
    for done in [0, 2, 4] {
        let fixture = Fixture::new();
        let (mut transaction, steps) = fixture.begin();
        transaction.journal.keeps_staged_files = true;
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
fn a_commit_that_the_journal_cannot_record_leaves_the_new_state_and_no_staging_folder() {
    let fixture = Fixture::new();
    let (transaction, steps) = fixture.begin();
    let journal = fixture.staging().join(JOURNAL_NAME);
    let block = Meanwhile::after_exchange(|| {
        // A folder cannot be replaced by a rename of a file.
        fs::remove_file(&journal).unwrap();
        fs::create_dir(&journal).unwrap();
        fs::write(journal.join("in"), "the way").unwrap();
    });
    let outcome = transaction
        .commit(steps, &block)
        .unwrap()
        .remove_old_state();
    assert_eq!(outcome, [""; 0].map(PathBuf::from));
    assert_eq!(fixture.live_state(), NEW);
    assert!(!fixture.staging().exists());
}

mod crash_states;
mod late_writes;
#[cfg(unix)]
mod recoveries;
