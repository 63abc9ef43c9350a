//! Checks the state after a command with an injected fault.

#![allow(
    clippy::print_stdout,
    reason = "the tried fault points are printed when a test fails, or with --nocapture"
)]

use super::env::{Run, TestEnv, Tree};
use super::faults::Dice;
use super::injection::{Fault, Point, points, run_with_fault};
use super::sample::{FIRST, backup, comparable, line, put, rollout, sample_home, text};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Fills the sample home with a file and folders that need several archive members.
pub(crate) fn prepare(env: &TestEnv, dice: &mut Dice) {
    sample_home(env);
    put(env, "sessions/2026/11/17/big.bin", dice.bytes(5 << 20));
    for i in 0..3 {
        put(env, format!("skills/s{i}/SKILL.md"), dice.bytes(4 << 10));
    }
}

/// Returns the tree of the Codex home without lock files and `db-backups`.
pub(crate) fn home_tree(env: &TestEnv) -> Tree {
    let mut tree = comparable(&env.tree("home/.codex"));
    // A restore leaves Codex's lock files in place, as Codex does. It moves a database that the
    // safety backup could not read into `db-backups`.
    tree.0.retain(|path, _| {
        path.extension().is_none_or(|e| e != "lock") && !path.starts_with("db-backups")
    });
    tree
}

/// Returns the temporary and staged files that a completed command must not leave.
pub(crate) fn stray_files(env: &TestEnv) -> Vec<PathBuf> {
    let tree = env.tree("").0;
    let is_debris = |path: &Path| {
        let path = path.display().to_string();
        [
            "codex-manager-restore",
            "codex-manager-tmp-",
            "staging-",
            ".aside",
            "tmp/restores/",
            "undone",
        ]
        .iter()
        .any(|name| path.contains(name))
    };
    tree.into_keys().filter(|path| is_debris(path)).collect()
}

/// Removes the replaced homes that a restore could not delete. Asserts that `doctor` reports them.
pub(crate) fn remove_leftovers(env: &TestEnv) {
    let folders = stray_files(env).into_iter();
    let is_leftover = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("codex-manager-restore.old-")
    };
    for folder in folders.filter(is_leftover) {
        let doctor = env.run(["doctor"]);
        assert!(doctor.stdout.contains("restore.old-"), "{doctor}");
        fs::remove_dir_all(env.path("").join(folder)).expect("remove");
    }
}

/// Returns the paths of all archives in the backup folder.
pub(crate) fn archives(env: &TestEnv) -> BTreeSet<PathBuf> {
    let backups = env.manager_home().join("backups");
    fs::read_dir(backups)
        .expect("list")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "gz"))
        .collect()
}

/// Asserts that no archive of `known` is missing, and that every new archive that `list-backups`
/// lists without a problem passes `verify`. Then removes the new archives.
pub(crate) fn check_archives(env: &TestEnv, known: &BTreeSet<PathBuf>, context: &str) {
    let list: Run = env.run(["list-backups", "--json"]).code(0);
    let new: Vec<PathBuf> = archives(env).difference(known).cloned().collect();
    assert!(
        archives(env).is_superset(known),
        "{context}: an archive is missing"
    );
    for path in &new {
        let name = path.file_name().expect("a name").to_str().expect("text");
        let rows = list.json();
        let row = rows["backups"]
            .as_array()
            .and_then(|rows| rows.iter().find(|r| r["archive"] == name))
            .unwrap_or_else(|| panic!("{context}: {name} is not listed\n{list}"));
        let problem = row["problem"].as_str().unwrap_or_default();
        assert!(
            problem.is_empty() || problem.starts_with("no sidecar"),
            "{context}: {row}"
        );
        let repair: &[&str] = if problem.is_empty() {
            &[]
        } else {
            &["--repair"]
        };
        let _ = env.run([&["verify", &text(path)], repair].concat()).code(0);
        fs::remove_file(path).expect("remove");
        let sidecar = name.strip_suffix(".tar.gz").expect("an archive");
        let _ = fs::remove_file(path.with_file_name(format!("{sidecar}.metadata.json")));
    }
}

/// A home with archives of two of its states. Restores alternate between the two.
pub(crate) struct TwoHomes {
    /// The names of both archives.
    archives: [String; 2],
    /// The home after a restore of each archive.
    homes: [Tree; 2],
    /// The index of the state that the home has now.
    current: usize,
}

impl TwoHomes {
    /// Creates both archives and restores the first one. Returns the fault points of that restore.
    pub(crate) fn new(env: &TestEnv, dice: &mut Dice) -> (Self, Vec<Point>) {
        prepare(env, dice);
        let before = text(&backup(env, &[]));
        put(env, rollout(FIRST), line(5));
        put(env, "AGENTS.md", "changed");
        put(env, "skills/more/SKILL.md", "new");
        fs::remove_file(env.codex_home().join("version.json")).expect("remove");
        let changed = text(&backup(env, &[]));
        let changed_home = home_tree(env);
        let known = archives(env);
        let points = points(env, &["restore", &before, "--json"]);
        let homes = [home_tree(env), changed_home];
        check_archives(env, &known, "without a fault");
        assert_ne!(homes[0], homes[1]);
        let both = Self {
            archives: [before, changed],
            homes,
            current: 0,
        };
        (both, points)
    }

    /// Returns the archive of the state that the home does not have.
    pub(crate) fn other(&self) -> &str {
        &self.archives[1 - self.current]
    }

    /// Restores the other archive with a fault. If the point is not reached, adds it to `missed` and
    /// returns `None`.
    #[track_caller]
    pub(crate) fn restore_other(
        &mut self,
        env: &TestEnv,
        known: &BTreeSet<PathBuf>,
        (point, fault): (&Point, Fault),
        missed: &mut Vec<String>,
    ) -> Option<Output> {
        let output = run_with_fault(env, &["restore", self.other(), "--json"], point, fault);
        if output.is_none() {
            missed.push(format!("{point:?} {fault:?}"));
            check_archives(env, known, "not reached");
            let _ = self.check_home(env, "not reached");
        }
        output
    }

    /// Asserts that the home has exactly one of the two states. Returns true if a restore changed it
    /// to the other one.
    #[track_caller]
    pub(crate) fn check_home(&mut self, env: &TestEnv, context: &str) -> bool {
        let (from, to) = (&self.homes[self.current], &self.homes[1 - self.current]);
        let found = home_tree(env);
        let is_done = found == *to;
        assert!(
            is_done || found == *from,
            "{context}: the home has neither state\ndifferences from the old one:\n{}\nfrom the new one:\n{}",
            from.diff(&found),
            to.diff(&found)
        );
        if is_done {
            self.current = 1 - self.current;
        }
        is_done
    }
}

/// Prints the tried fault points. Fails if half of them were not reached.
pub(crate) fn report_points(points: usize, tried: usize, missed: &[String]) {
    let mut text = format!("{points} points, {tried} faults tried\n");
    for point in missed {
        text.push_str("not reached: ");
        text.push_str(point);
        text.push('\n');
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    assert!(
        missed.len() * 2 < tried,
        "too few points were reached\n{text}"
    );
}
