//! Simulation of three machines that sync through a store of immutable snapshots: snapshots appear late, publications
//! are killed before and after the snapshot exists, old snapshots are removed, and several publish at once. In two of
//! three schedules users rewind, migrate and compact conversations with Codex; in some they delete plain files with
//! `delete_policy = "propagate"`; in half of them a machine's state or its whole disk is restored from a copy, or a
//! machine becomes a copy of another. Users write to files while these are published.
//!
//! The seed determines the whole schedule.

use crate::support::cloud::{Machine, Rng, Settling, files_below};
use crate::support::snapshot_store::{PublishKill, Store, StoreRun};
use crate::support::variables::{self, SEED};
use crate::sync_simulation::{MachineFault, assert_versions_kept, difference, listing};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const DEFAULT_SCHEDULES: u64 = 16;
const EVENTS_PER_SCHEDULE: usize = 45;
/// Maximum number of syncs of all machines, after the last event, until they have to agree.
const MAX_SETTLING_ROUNDS: usize = 10;

#[test]
fn no_line_is_lost_and_all_machines_agree_if_the_store_lists_snapshots_late() {
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

/// Runs a schedule; returns what the machines and the store have at its end.
fn run_schedule(root: &Path, seed: u64) -> String {
    let fault = MachineFault::of(seed);
    let mut rng = Rng::new(seed);
    let store = Store::default();
    let mut machines: Vec<Machine> = (0..3).map(|i| Machine::new(root, i, &mut rng)).collect();
    // Separate generators: the other events of a seed do not depend on them. A state that was put back forgets deletions.
    let mut deletions =
        (seed / 8 % 3 == 1 && fault == MachineFault::None).then(|| Rng::new(seed.reverse_bits()));
    let mut rewrites = (!seed.is_multiple_of(3)).then(|| Rng::new(seed.swap_bytes() ^ 0x0bad_cafe));
    let mut writes = Rng::new(seed ^ 0x7772_6974);
    if deletions.is_some() {
        machines.iter_mut().for_each(Machine::propagate_deletions);
    }
    let names: Vec<String> = machines
        .iter()
        .map(|machine| machine.name.clone())
        .collect();
    let mut disk = None;
    for event in 0..EVENTS_PER_SCHEDULE {
        match (event, fault) {
            (10, MachineFault::StateRestored | MachineFault::DiskRestored) => {
                disk = Some(machines[1].disk());
            }
            (15, MachineFault::Cloned { .. }) => {
                let (first, last) = machines.split_at_mut(2);
                last[0].become_clone_of(&first[0], false);
            }
            (30, MachineFault::StateRestored) => {
                let copies = machines[1].restore_state(&disk.take().unwrap());
                // The only file of a conflict copy that was not published yet is in the state.
                let mine = machines[1].lines();
                for (_, lines) in copies.iter().filter(|(name, _)| !store.has_file(name)) {
                    let lost = lines.iter().filter(|line| !mine.contains(*line));
                    machines[1].give_up(&lost.cloned().collect::<Vec<_>>());
                }
            }
            (30, MachineFault::DiskRestored) => machines[1].restore_disk(&disk.take().unwrap()),
            _ => {}
        }
        let m = rng.below(3);
        store.reveal(&names[m], &mut rng, 30);
        if rng.chance(5) {
            store.forget(3);
        }
        if let Some(rng) = &mut deletions {
            let m = rng.below(3);
            match rng.below(10) {
                0 | 1 => machines[m].edit_skill(rng),
                2 => machines[m].delete_skill(rng),
                _ => {}
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
        if rng.chance(50) {
            machines[m].user_event(&mut rng);
            continue;
        }
        let run = StoreRun {
            killed_before: rng.chance(25).then(|| rng.below(40)),
            kill: match rng.below(8) {
                0 => PublishKill::Before,
                1 => PublishKill::After,
                _ => PublishKill::Never,
            },
            is_late: rng.chance(40),
            writes: match writes.below(10) {
                number @ 0..3 => machines[m].write_meanwhile(number, &mut writes),
                _ => Vec::new(),
            },
            writes_early: writes.below(2) == 0,
            others: &names,
        };
        machines[m].sync_with(&store, run, Settling::NotYet);
    }
    settle(&mut machines, &store, seed);
    check(&machines, seed);
    format!("{}\n{}", store.listing(), listing(&machines))
}

#[test]
fn a_seed_determines_the_whole_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("machines");
    // With clones, deletions and rewrites.
    for seed in [5, 10] {
        let ends = [(); 2].map(|()| {
            std::fs::create_dir(&root).unwrap();
            let end = run_schedule(&root, seed);
            std::fs::remove_dir_all(&root).unwrap();
            end
        });
        assert_eq!(ends[0], ends[1], "{seed}");
    }
}

/// Syncs all machines until none has anything to do.
fn settle(machines: &mut [Machine], store: &Store, seed: u64) {
    store.reveal_all();
    let run = || StoreRun {
        killed_before: None,
        kill: PublishKill::Never,
        is_late: false,
        writes: Vec::new(),
        writes_early: false,
        others: &[],
    };
    let mut is_settled = false;
    for _ in 0..MAX_SETTLING_ROUNDS {
        let mut changed = false;
        for machine in machines.iter_mut() {
            machine.use_deciding_policy();
            changed |= machine.sync_with(store, run(), Settling::Running);
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
            !machine.sync_with(store, run(), Settling::Done),
            "seed {seed}"
        );
    }
    assert_eq!(store.count(), count, "seed {seed}: an idle run publishes");
    for machine in machines {
        let has_done = machine.sync_with(store, run(), Settling::Done);
        let mut copies = files_below(&machine.replica.conflict_copies());
        copies.retain(|name| name.contains(".fork"));
        // A conflict copy that waits for a decision is reported by each run.
        let is_idle = machine.was_idle || !copies.is_empty();
        assert!(is_idle && !has_done, "seed {seed}: {}", machine.name);
    }
}

fn check(machines: &[Machine], seed: u64) {
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
    assert_versions_kept(
        machines,
        MachineFault::of(seed) == MachineFault::None,
        &context,
    );
}
