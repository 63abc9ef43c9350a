//! Simulation of three machines that sync through a store of immutable snapshots: snapshots appear late, publications
//! are killed before and after the snapshot exists, old snapshots are removed, and several publish at once.
//!
//! The seed determines the whole schedule.

use crate::support::cloud::{Machine, Rng, Settling};
use crate::support::snapshot_store::{PublishKill, Store, StoreRun};
use crate::support::variables::{self, SEED};
use crate::sync_simulation::{MachineFault, difference, is_deleted_version, listing};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const DEFAULT_SCHEDULES: u64 = 60;
const EVENTS_PER_SCHEDULE: usize = 45;
/// Maximum number of syncs of all machines, after the last event, until they have to agree.
const MAX_SETTLING_ROUNDS: usize = 10;

#[test]
fn no_line_is_lost_and_all_machines_agree_whatever_the_store_shows_late() {
    let seeds: Vec<u64> = match variables::value(SEED) {
        Some(seed) => (seed..seed + variables::sequences(1)).collect(),
        None => (0..variables::sequences(DEFAULT_SCHEDULES)).collect(),
    };
    let seeds = Mutex::new(seeds.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let memory = Path::new("/dev/shm");
                let place = memory.is_dir().then(|| memory.to_path_buf());
                let folder = tempfile::Builder::new()
                    .prefix("cm-vault-")
                    .tempdir_in(place.unwrap_or_else(std::env::temp_dir))
                    .unwrap();
                let root = folder.path().join("machines");
                loop {
                    let next = seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(seed) = next else { return };
                    std::fs::create_dir(&root).unwrap();
                    let failed = std::panic::catch_unwind(|| run_schedule(&root, seed)).is_err();
                    assert!(!failed, "seed {seed}");
                    std::fs::remove_dir_all(&root).unwrap();
                }
            });
        }
    });
}

/// Returns no fault: a machine that was put back or copied is refused until its user starts anew.
fn fault_of(_: u64) -> MachineFault {
    MachineFault::None
}

fn run_schedule(root: &Path, seed: u64) {
    let mut rng = Rng::new(seed);
    let store = Store::default();
    let mut machines: Vec<Machine> = (0..3).map(|i| Machine::new(root, i, &mut rng)).collect();
    let has_rewrites = seed % 3 > 0;
    let fault = fault_of(seed);
    let has_deletions = seed / 8 % 3 == 1 && fault == MachineFault::None;
    if has_deletions {
        machines.iter_mut().for_each(Machine::propagate_deletions);
    }
    let mut disk = None;
    let names: Vec<String> = machines
        .iter()
        .map(|machine| machine.name.clone())
        .collect();
    for event in 0..EVENTS_PER_SCHEDULE {
        match (event, fault) {
            (10, MachineFault::StateRestored | MachineFault::DiskRestored) => {
                disk = Some(machines[1].disk());
            }
            (15, MachineFault::Cloned { .. }) => {
                let (first, last) = machines.split_at_mut(2);
                last[0].become_clone_of(&first[0], false);
            }
            (30, fault) => {
                if let Some(disk) = disk.take() {
                    match fault {
                        MachineFault::StateRestored => machines[1].restore_state(&disk),
                        _ => machines[1].restore_disk(&disk),
                    }
                }
            }
            _ => {}
        }
        let m = rng.below(3);
        store.reveal(&names[m], &mut rng, 30);
        if has_deletions && rng.chance(20) {
            match rng.below(3) {
                0 => machines[m].delete_skill(&mut rng),
                _ => machines[m].edit_skill(&mut rng),
            }
        }
        if has_rewrites && rng.chance(25) {
            let given_up = machines[m].rewrite_conversation(&mut rng);
            for machine in &mut machines {
                machine.give_up(&given_up);
            }
        }
        if rng.chance(5) {
            store.forget(3);
        }
        match rng.below(10) {
            0..5 => machines[m].user_event(&mut rng),
            _ => {
                let run = StoreRun {
                    killed_before: rng.chance(25).then(|| rng.below(40)),
                    kill: match rng.below(8) {
                        0 => PublishKill::Before,
                        1 => PublishKill::After,
                        _ => PublishKill::Never,
                    },
                    is_late: rng.chance(40),
                    others: &names,
                };
                machines[m].sync_with(&store, &run, Settling::NotYet);
            }
        }
    }
    settle(&mut machines, &store, seed);
    check(&machines, &store, seed);
}

/// Syncs all machines until none has anything to do.
fn settle(machines: &mut [Machine], store: &Store, seed: u64) {
    store.reveal_all();
    let run = StoreRun {
        killed_before: None,
        kill: PublishKill::Never,
        is_late: false,
        others: &[],
    };
    let mut is_settled = false;
    for _ in 0..MAX_SETTLING_ROUNDS {
        let mut changed = false;
        for machine in machines.iter_mut() {
            machine.use_deciding_policy();
            changed |= machine.sync_with(store, &run, Settling::Running);
        }
        is_settled = !changed;
        if is_settled {
            break;
        }
    }
    let count = store.count();
    assert!(
        is_settled,
        "seed {seed}: the machines do not agree\n{}",
        listing(machines)
    );
    for machine in machines.iter_mut() {
        assert!(
            !machine.sync_with(store, &run, Settling::Done),
            "seed {seed}"
        );
    }
    assert_eq!(store.count(), count, "seed {seed}: an idle run publishes");
}

fn check(machines: &[Machine], store: &Store, seed: u64) {
    let context = || format!("seed {seed}\n{}", listing(machines));
    let first = machines[0].shared_files();
    for machine in &machines[1..] {
        let differ = difference(&first, &machine.shared_files());
        assert!(
            differ.is_empty(),
            "machines differ:\n{differ}\n{}",
            context()
        );
    }
    for machine in machines {
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
    if fault_of(seed) == MachineFault::None {
        let edits: Vec<_> = machines.iter().flat_map(|m| &m.skill_edits).collect();
        let chosen = |path: &String| machines.iter().any(|m| m.skills_in_conflict.contains(path));
        for (older, newer) in &edits {
            let mut skills = first.iter();
            let wins = skills.any(|(path, text)| {
                let may_return = is_deleted_version(newer, &edits, machines) || chosen(path);
                text == older && !may_return
            });
            assert!(!wins, "{older} won over {newer}\n{}", context());
        }
    }
    let mut kept: BTreeSet<String> = machines.iter().flat_map(Machine::plain_versions).collect();
    kept.extend(machines.iter().flat_map(|m| m.skills_replaced.clone()));
    kept.extend(store.texts());
    for version in machines.iter().flat_map(|m| &m.skills_written) {
        assert!(kept.contains(version), "{version} is lost\n{}", context());
    }
}
