//! Three machines and a cloud folder that does what cloud folders do, driven through the program's own
//! plan and apply. In half of the schedules a machine's state, or all of its disk, is put back to what it
//! was, or a machine becomes a copy of another one. In others clients bring earlier versions of plain files
//! back, or the whole folder goes back to an earlier day. In others users delete plain files, and that travels.
//! Every schedule is given by its seed.
//!
//! `CODEX_MANAGER_SYNC_SCHEDULES` sets how many schedules are run, `CODEX_MANAGER_SYNC_FIRST` the seed of
//! the first, `CODEX_MANAGER_SYNC_SEED` runs one.

use crate::support::cloud::{Cloud, Machine, Rest, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many schedules run where nobody says otherwise.
const FEW: u64 = 60;
/// Schedules beyond these that once went wrong.
const ONCE_WRONG: [u64; 8] = [
    2724,
    2921,
    4954,
    6063,
    2_001_906,
    202_600_930,
    701_817,
    701_893,
];
/// How many things happen before the world comes to rest.
const EVENTS: usize = 45;
/// In how many rounds at rest all machines have to agree.
const ROUNDS: usize = 14;

#[test]
fn no_line_is_lost_and_all_machines_agree_whatever_the_cloud_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("CODEX_MANAGER_SYNC_SEED") {
        schedule(seed);
        return;
    }
    let count = number("CODEX_MANAGER_SYNC_SCHEDULES").unwrap_or(FEW);
    let first = number("CODEX_MANAGER_SYNC_FIRST").unwrap_or(0);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let again = index
                        .checked_sub(count)
                        .and_then(|i| usize::try_from(i).ok());
                    let seed = match again {
                        None => first + index,
                        Some(i) => match ONCE_WRONG.get(i) {
                            Some(seed) => *seed,
                            None => return,
                        },
                    };
                    let failed = std::panic::catch_unwind(|| schedule(seed)).is_err();
                    assert!(!failed, "seed {seed}");
                }
            });
        }
    });
}

/// What becomes of a machine in the middle of a schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Nothing,
    /// Its state is put back, its home is not.
    StateGoesBack,
    /// Both are.
    DiskGoesBack,
    /// Another one becomes a copy of it.
    IsCopied {
        with_cloud: bool,
    },
}

impl Fate {
    fn of(seed: u64) -> Self {
        match seed % 8 {
            1 => Self::StateGoesBack,
            3 => Self::DiskGoesBack,
            5 => Self::IsCopied { with_cloud: false },
            6 => Self::IsCopied { with_cloud: true },
            _ => Self::Nothing,
        }
    }
}

/// Whether clients bring back what was there before: in two of five, which leaves those that once went
/// wrong as they were.
fn brings_back(seed: u64) -> bool {
    matches!(seed / 8 % 5, 0 | 3)
}

/// Whether deletions of plain files go over in the schedule: in a third of those in which no machine forgets any.
fn deletes(seed: u64) -> bool {
    seed / 40 % 3 == 1 && Fate::of(seed) == Fate::Nothing
}

#[allow(clippy::too_many_lines, reason = "one story, told in its order")]
fn schedule(seed: u64) {
    let root = tempfile::Builder::new()
        .prefix("cm-sync-")
        .tempdir_in(if Path::new("/dev/shm").is_dir() {
            Path::new("/dev/shm").to_path_buf()
        } else {
            std::env::temp_dir()
        })
        .unwrap();
    let mut rng = Rng::new(seed);
    let mut cloud = Cloud::default();
    let mut machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root.path(), i, &mut rng))
        .collect();
    // The machines know of each other: a half file is told from a whole one by what others say.
    for _ in 0..2 {
        for machine in &mut machines {
            machine.sync(None, Rest::Coming);
            cloud.delivers_everything(machine);
        }
    }
    // Of its own: the rest of a schedule is as it was without it.
    let mut returns = brings_back(seed).then(|| Rng::new(!seed));
    let mut deletions = deletes(seed).then(|| Rng::new(seed.reverse_bits()));
    if deletions.is_some() {
        for machine in &mut machines {
            machine.sends_deletions_on();
        }
    }
    let mut day = None;
    let mut disk = None;
    // A machine that could not tell what it wrote, and forgot it: somebody has to say that it is whole.
    let mut is_untold = false;
    for event in 0..EVENTS {
        match (event, Fate::of(seed)) {
            (10, Fate::StateGoesBack | Fate::DiskGoesBack) => disk = Some(machines[1].disk()),
            (15, Fate::IsCopied { with_cloud }) => {
                let is_unsent = with_cloud && machines[2].has_unsent_words();
                is_untold = machines[2].is_untold || is_unsent;
                let (first, last) = machines.split_at_mut(2);
                last[0].becomes(&first[0], with_cloud);
            }
            (30, fate) => {
                if let Some(disk) = disk.take() {
                    is_untold = machines[1].is_untold;
                    match fate {
                        Fate::StateGoesBack => machines[1].forgets(&disk),
                        _ => machines[1].is_put_back(&disk),
                    }
                }
            }
            _ => {}
        }
        if let Some(rng) = &mut returns {
            let m = rng.below(3);
            match (event, rng.below(10)) {
                (12, _) => day = Some(cloud.day()),
                (28, 0..4) => cloud.goes_back(day.as_ref().unwrap()),
                (_, 0..2) => machines[m].edits_a_skill(rng),
                (_, 2 | 3) => cloud.brings_back(&mut machines[m], rng),
                _ => {}
            }
        }
        if let Some(rng) = &mut deletions {
            let m = rng.below(3);
            match rng.below(10) {
                0 | 1 => machines[m].edits_a_skill(rng),
                2 => machines[m].deletes_a_skill(rng),
                _ => {}
            }
        }
        let m = rng.below(3);
        match rng.below(10) {
            0..4 => machines[m].user_does_something(&mut rng),
            4..7 => cloud.does_something(&mut machines[m], &mut rng),
            _ => {
                let steps = rng.chance(35).then(|| rng.below(40));
                machines[m].sync(steps, Rest::None);
            }
        }
    }
    // What comes back may be of a machine that has forgotten it, and so may the word of that machine.
    is_untold |= returns.is_some() && Fate::of(seed) != Fate::Nothing;
    // Nobody writes any more, and everything arrives.
    let mut quiet = false;
    for round in 0..ROUNDS {
        let mut changed = round < 3;
        for machine in &mut machines {
            machine.decides_by_itself();
            machine.accepts_unlisted = round > 1 && is_untold;
            cloud.delivers_everything(machine);
            changed |= machine.sync(None, Rest::Coming);
            cloud.delivers_everything(machine);
        }
        if !changed {
            quiet = true;
            break;
        }
    }
    for machine in &mut machines {
        cloud.delivers_everything(machine);
    }
    let again: Vec<bool> = machines
        .iter_mut()
        .map(|m| m.sync(None, Rest::Reached))
        .collect();
    let told = || format!("seed {seed}\n{}", listing(&machines));
    assert!(quiet, "the machines do not come to rest\n{}", told());
    assert_eq!(again, [false; 3], "a second run does something\n{}", told());
    // With a machine that lost what it had sent, or a second one of its name, something may never arrive.
    if Fate::of(seed) == Fate::Nothing {
        for machine in &machines {
            assert_eq!(
                machine.undelivered,
                [],
                "{} waits for it\n{}",
                machine.name,
                told()
            );
        }
    }
    let first = machines[0].holds();
    for machine in &machines[1..] {
        let differ = difference(&first, &machine.holds());
        assert!(differ.is_empty(), "machines differ:\n{differ}\n{}", told());
    }
    for machine in &machines {
        machine.assert_in_order(&told);
        let mine = machine.lines();
        for (line, written_by) in machines.iter().flat_map(Machine::written) {
            assert!(
                mine.contains(line),
                "{line} of {written_by} is lost\n{}",
                told()
            );
        }
    }
    // A state that was put back does not know what it has seen, and a machine and its copy count their
    // changes under one name until that is noticed: there the policy may decide.
    if Fate::of(seed) == Fate::Nothing {
        let deleted = |text: &String| machines.iter().any(|m| m.skills_deleted.contains(text));
        let chosen = |path: &String| machines.iter().any(|m| m.skills_chosen.contains(path));
        let replaced = machines.iter().flat_map(|m| &m.skills_over);
        for (older, newer) in replaced {
            // Where the newer one was deleted, the older one may have been chosen over a third.
            let mut skills = first.iter().filter(|(path, _)| {
                path.ends_with("/SKILL.md") && !(deleted(newer) && chosen(path))
            });
            let wins = skills.any(|(_, text)| text == older);
            assert!(!wins, "{older} has won over {newer}\n{}", told());
        }
    }
    let mut kept: BTreeSet<String> = machines.iter().flat_map(Machine::plain_versions).collect();
    kept.extend(machines.iter().flat_map(|m| m.skills_replaced.clone()));
    for version in machines.iter().flat_map(|m| &m.skills_written) {
        assert!(kept.contains(version), "{version} is nowhere\n{}", told());
    }
}

/// What two machines do not have alike, by path.
fn difference(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> String {
    let mut told = String::new();
    let paths: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for path in paths
        .into_iter()
        .filter(|path| a.get(*path) != b.get(*path))
    {
        let _ = writeln!(told, "{path}:\n{:?}\n{:?}", a.get(path), b.get(path));
    }
    told
}

fn listing(machines: &[Machine]) -> String {
    machines.iter().map(Machine::listing).collect()
}
