//! Simulation of three machines with a cloud folder that delays, tears, loses and restores files, driven through
//! `plan` and `apply`. In half of the schedules a machine's state or its whole disk is restored from a backup, or a
//! machine becomes a clone of another. In some, clients restore earlier versions of plain files, or the whole folder is
//! restored to an earlier day. In some, users rewind, migrate and compact conversations with Codex, or delete plain files with `delete_policy = "propagate"`. A second test has
//! users that keep both versions of conflict copies, and a cloud folder that is emptied and filled again.
//!
//! The seed determines the whole schedule. The default seeds are always the same.

use crate::support::cloud::{Cloud, Machine, Rng, Settling};
use crate::support::variables::{self, SEED};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The default number of schedules.
const DEFAULT_SCHEDULES: u64 = 60;
/// Seeds of schedules that once failed; they always run.
const REGRESSION_SEEDS: [u64; 13] = [
    2724,
    2921,
    3992,
    4954,
    5594,
    6063,
    6552,
    2_001_906,
    202_600_930,
    701_817,
    701_893,
    2_611_214_456,
    2_611_217_592,
];
/// Those of the schedules with decisions.
const DECISION_REGRESSION_SEEDS: [u64; 28] = [
    1175, 1388, 1948, 2580, 2735, 2807, 3700, 3832, 3992, 4015, 4184, 5194, 5242, 5594, 6552, 6802,
    6836, 7730, 7792, 8300, 8908, 8923, 8984, 9002, 9032, 9050, 9602, 9872,
];
/// Number of events before users and clients stop.
const EVENTS_PER_SCHEDULE: usize = 45;
/// Maximum number of syncs of all machines, after the last event, until they have to agree.
const MAX_SETTLING_ROUNDS: usize = 14;

#[test]
fn no_line_is_lost_and_all_machines_agree_whatever_the_cloud_does() {
    run_schedules(Decisions::None, DEFAULT_SCHEDULES, &REGRESSION_SEEDS);
}

#[test]
fn no_line_is_lost_and_all_machines_agree_when_users_keep_both_and_the_cloud_is_emptied() {
    run_schedules(
        Decisions::KeepBoth,
        DEFAULT_SCHEDULES / 2,
        &DECISION_REGRESSION_SEEDS,
    );
}

/// Runs the schedules that the environment selects, in two threads.
fn run_schedules(decisions: Decisions, default: u64, regressions: &[u64]) {
    let seeds: Vec<u64> = match variables::value(SEED) {
        Some(seed) => (seed..seed + variables::sequences(1)).collect(),
        None => (0..variables::sequences(default))
            .chain(regressions.iter().copied())
            .collect(),
    };
    let seeds = Mutex::new(seeds.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // The same paths for all schedules: the program keeps each protected folder until its process ends.
                let folder = tempfile::Builder::new()
                    .prefix("cm-sync-")
                    .tempdir_in(if Path::new("/dev/shm").is_dir() {
                        Path::new("/dev/shm").to_path_buf()
                    } else {
                        std::env::temp_dir()
                    })
                    .unwrap();
                let root = folder.path().join("machines");
                loop {
                    let next = seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(seed) = next else { return };
                    std::fs::create_dir(&root).unwrap();
                    let run = || run_schedule(&root, seed, decisions);
                    let failed = std::panic::catch_unwind(run).is_err();
                    assert!(!failed, "seed {seed}");
                    std::fs::remove_dir_all(&root).unwrap();
                }
            });
        }
    });
}

/// The decisions of users about conflict copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decisions {
    None,
    /// Users keep both versions. In half of the schedules the cloud folder is emptied late, and filled again.
    KeepBoth,
}

/// A fault of one machine in the middle of a schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MachineFault {
    None,
    /// The sync state is restored from a backup, the Codex home is not.
    StateRestored,
    /// The sync state and the Codex home are restored.
    DiskRestored,
    /// Another machine becomes a clone of it.
    Cloned {
        with_cloud: bool,
    },
}

impl MachineFault {
    pub(crate) fn of(seed: u64) -> Self {
        match seed % 8 {
            1 => Self::StateRestored,
            3 => Self::DiskRestored,
            5 => Self::Cloned { with_cloud: false },
            6 => Self::Cloned { with_cloud: true },
            _ => Self::None,
        }
    }
}

/// Returns true if clients restore earlier versions in the schedule: in two of five. Uses its own random numbers, so
/// that the other events of a seed stay the same.
fn has_restored_versions(seed: u64) -> bool {
    matches!(seed / 8 % 5, 0 | 3)
}

/// Returns true if users delete plain files in the schedule: in a third of those without a machine fault, because a
/// restored state forgets deletions.
fn has_deletions(seed: u64) -> bool {
    seed / 40 % 3 == 1 && MachineFault::of(seed) == MachineFault::None
}

/// Returns true if users rewind, migrate and compact conversations in the schedule: in two of three.
fn has_rewrites(seed: u64) -> bool {
    !seed.is_multiple_of(3)
}

#[allow(clippy::too_many_lines, reason = "one story, out in its order")]
fn run_schedule(root: &Path, seed: u64, decisions: Decisions) {
    let mut rng = Rng::new(seed);
    let mut cloud = Cloud::default();
    let mut machines: Vec<Machine> = (0..3).map(|i| Machine::new(root, i, &mut rng)).collect();
    // The machines know each other's manifests from the start, which show whether a file is complete.
    for _ in 0..2 {
        for machine in &mut machines {
            machine.sync(None, Settling::Running);
            cloud.deliver_all(machine);
        }
    }
    // Separate generators: the other events of a seed do not depend on them.
    let mut restored_versions = has_restored_versions(seed).then(|| Rng::new(!seed));
    let mut deletions = has_deletions(seed).then(|| Rng::new(seed.reverse_bits()));
    let mut rewrites = has_rewrites(seed).then(|| Rng::new(seed.swap_bytes() ^ 0x0bad_cafe));
    if deletions.is_some() {
        for machine in &mut machines {
            machine.propagate_deletions();
        }
    }
    let mut choices = (decisions == Decisions::KeepBoth).then(|| Rng::new(seed ^ 0x00c0_ffee));
    let is_emptied = choices.as_mut().is_some_and(|rng| rng.chance(50));
    let mut saved_day = None;
    let mut disk = None;
    // Set if a machine was interrupted before it published its manifest and then lost its state: no machine attests its
    // files any more, so the user has to pass --accept-unlisted.
    let mut has_unpublished_files = false;
    for event in 0..EVENTS_PER_SCHEDULE {
        match (event, MachineFault::of(seed)) {
            (10, MachineFault::StateRestored | MachineFault::DiskRestored) => {
                disk = Some(machines[1].disk());
            }
            (15, MachineFault::Cloned { with_cloud }) => {
                let is_unsent = with_cloud && machines[2].has_unsent_manifest();
                has_unpublished_files = machines[2].has_unpublished_files || is_unsent;
                let (first, last) = machines.split_at_mut(2);
                last[0].become_clone_of(&first[0], with_cloud);
            }
            (30, fault) => {
                if let Some(disk) = disk.take() {
                    // Without its own manifest, a machine with a restored state cannot know what it attested.
                    has_unpublished_files =
                        machines[1].has_unpublished_files || machines[1].has_hidden_manifest();
                    match fault {
                        MachineFault::StateRestored => drop(machines[1].restore_state(&disk)),
                        _ => machines[1].restore_disk(&disk),
                    }
                }
            }
            _ => {}
        }
        if let Some(rng) = &mut restored_versions {
            let m = rng.below(3);
            match (event, rng.below(10)) {
                (12, _) => saved_day = Some(cloud.day()),
                (28, 0..4) => cloud.restore_day(saved_day.as_ref().unwrap()),
                (_, 0..2) => machines[m].edit_skill(rng),
                (_, 2 | 3) => cloud.restore_version(&mut machines[m], rng),
                _ => {}
            }
        }
        if let Some(rng) = &mut deletions {
            let m = rng.below(3);
            match rng.below(10) {
                0 | 1 => machines[m].edit_skill(rng),
                2 => machines[m].delete_skill(rng),
                _ => {}
            }
        }
        if let Some(rng) = &mut choices {
            if rng.chance(25) {
                machines[rng.below(3)].keep_both(rng);
            }
            if event == 35 && is_emptied {
                cloud.empty(&mut machines);
            }
        }
        if let Some(rng) = &mut rewrites
            && rng.chance(25)
        {
            let given_up = machines[rng.below(3)].rewrite_conversation(rng);
            for machine in &mut machines {
                machine.give_up(&given_up);
            }
        }
        let m = rng.below(3);
        match rng.below(10) {
            0..4 => machines[m].user_event(&mut rng),
            4..7 => cloud.client_event(&mut machines[m], &mut rng),
            _ => {
                let steps = rng.chance(35).then(|| rng.below(40));
                machines[m].sync(steps, Settling::NotYet);
            }
        }
    }
    // No machine lists an earlier version that a client restored, or it is of a machine that lost its state.
    has_unpublished_files |= restored_versions.is_some();
    // Users stop writing, and clients deliver everything.
    let mut is_settled = false;
    for round in 0..MAX_SETTLING_ROUNDS {
        let mut changed = round < 3;
        for machine in &mut machines {
            machine.use_deciding_policy();
            machine.accept_unlisted = round > 1 && has_unpublished_files;
            cloud.deliver_all(machine);
            changed |= machine.sync(None, Settling::Running);
            cloud.deliver_all(machine);
        }
        if !changed {
            is_settled = true;
            break;
        }
    }
    for machine in &mut machines {
        cloud.deliver_all(machine);
    }
    let did_more: Vec<bool> = machines
        .iter_mut()
        .map(|m| m.sync(None, Settling::Done))
        .collect();
    let context = || format!("seed {seed}\n{}", listing(&machines));
    assert!(
        is_settled,
        "the machines do not agree after the last round\n{}",
        context()
    );
    assert_eq!(
        did_more,
        [false; 3],
        "a run after agreement has steps\n{}",
        context()
    );
    // After a machine fault, a manifest can list a version that no machine has any more. A machine that was put back from
    // a backup says so.
    if matches!(
        MachineFault::of(seed),
        MachineFault::None | MachineFault::DiskRestored
    ) {
        for machine in &machines {
            assert_eq!(
                machine.undelivered,
                [],
                "{} still waits for undelivered versions\n{}",
                machine.name,
                context()
            );
        }
    }
    let first = machines[0].shared_files();
    for machine in &machines[1..] {
        let differ = difference(&first, &machine.shared_files());
        assert!(
            differ.is_empty(),
            "machines differ:\n{differ}\n{}",
            context()
        );
    }
    for machine in &machines {
        machine.assert_files_intact(&context);
        let mine = machine.lines();
        for (line, written_by) in machines.iter().flat_map(Machine::written) {
            assert!(
                mine.contains(line),
                "{line} of {written_by} is lost\n{}",
                context()
            );
        }
    }
    // A restored state does not know the later versions, and a machine and its clone count changes under one name until
    // the clone is detected. A machine that never had a version cannot know that a client restored it. In these
    // schedules `conflict.policy` may let an older version win; the backups have the newer one.
    let knows_order = MachineFault::of(seed) == MachineFault::None && restored_versions.is_none();
    assert_versions_kept(&machines, knows_order, &context);
}

/// Asserts that no text of a skill won over one that replaced it, if `knows_order`, and that each text is in a home or a
/// backup, or was replaced by a user.
pub(crate) fn assert_versions_kept(
    machines: &[Machine],
    knows_order: bool,
    context: &dyn Fn() -> String,
) {
    if knows_order {
        let first = machines[0].shared_files();
        let edits: Vec<_> = machines.iter().flat_map(|m| &m.skill_edits).collect();
        let is_deleted = |text: &String| is_deleted_version(text, &edits, machines);
        let chosen = |path: &String| machines.iter().any(|m| m.skills_in_conflict.contains(path));
        for (older, newer) in &edits {
            let kept_older =
                |m: &Machine| m.skills_had.contains(older) && !m.skills_had.contains(newer);
            let has_kept_older = machines.iter().any(kept_older);
            // Two machines can decide at the same time, one for a third text against the newer version, which nobody saw
            // yet, and one for the older version against the third text.
            let is_published = machines.iter().any(|m| m.skills_uploaded.contains(newer));
            let lost_unseen = |path: &String| {
                let decided = machines
                    .iter()
                    .filter(|m| m.skills_in_conflict.contains(path));
                !is_published && decided.count() > 1
            };
            // If the newer version was deleted, the older one may have won a conflict with a third version. A deletion
            // covers exactly the deleted text, so a machine that had only the older one brings it back.
            let mut skills = first.iter().filter(|(path, _)| {
                let may_return = has_kept_older || chosen(path);
                let may_win = is_deleted(newer) && may_return || lost_unseen(path);
                path.ends_with("/SKILL.md") && !may_win
            });
            let wins = skills.any(|(_, text)| text == older);
            assert!(!wins, "{older} won over {newer}\n{}", context());
        }
    }
    let mut kept: BTreeSet<String> = machines.iter().flat_map(Machine::plain_versions).collect();
    kept.extend(machines.iter().flat_map(|m| m.skills_replaced.clone()));
    for version in machines.iter().flat_map(|m| &m.skills_written) {
        assert!(
            kept.contains(version),
            "{version} is neither in a home nor in a backup\n{}",
            context()
        );
    }
}

/// Returns true if a user deleted the text, or a text that replaced it.
pub(crate) fn is_deleted_version(
    text: &String,
    edits: &[&(String, String)],
    machines: &[Machine],
) -> bool {
    let mut versions = vec![text];
    while let Some(version) = versions.pop() {
        if machines.iter().any(|m| m.skills_deleted.contains(version)) {
            return true;
        }
        let newer = edits.iter().filter(|(older, _)| older == version);
        versions.extend(newer.map(|(_, newer)| newer));
    }
    false
}

/// Lists the files in which two machines differ.
pub(crate) fn difference(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let paths: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for path in paths
        .into_iter()
        .filter(|path| a.get(*path) != b.get(*path))
    {
        let _ = writeln!(out, "{path}:\n{:?}\n{:?}", a.get(path), b.get(path));
    }
    out
}

pub(crate) fn listing(machines: &[Machine]) -> String {
    machines.iter().map(Machine::listing).collect()
}
