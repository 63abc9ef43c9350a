//! A newer text does not lose to one that its user knew, although machines see snapshots late and runs end before they
//! publish.

use crate::support::cloud::{Machine, Rng, Settling};
use crate::support::snapshot_store::{PublishKill, Store, StoreRun};
use codex_manager_core::sync::config::ConflictPolicy;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Creates machines with this policy.
fn create_machines<const N: usize>(root: &Path, policy: ConflictPolicy) -> [Machine; N] {
    let mut index = 0..;
    [(); N].map(|()| {
        let mut machine = Machine::new(root, index.next().unwrap(), &mut Rng::new(1));
        machine.config.policy.rules.conflict = policy;
        machine
    })
}

fn sync(machine: &mut Machine, store: &Store, kill: PublishKill) {
    sync_hidden(machine, store, kill, &[]);
}

/// Syncs a machine whose snapshot these others do not see yet.
fn sync_hidden(machine: &mut Machine, store: &Store, kill: PublishKill, others: &[String]) {
    let run = StoreRun {
        killed_before: None,
        kill,
        is_late: true,
        writes: Vec::new(),
        writes_early: false,
        others,
    };
    machine.sync_with(store, run, Settling::NotYet);
}

fn skill(machine: &Machine) -> PathBuf {
    machine.home.join("skills/a/SKILL.md")
}

fn write(machine: &Machine, text: &str) {
    fs::create_dir_all(skill(machine).parent().unwrap()).unwrap();
    fs::write(skill(machine), text).unwrap();
}

fn read(machine: &Machine) -> String {
    fs::read_to_string(skill(machine)).unwrap()
}

#[test]
fn a_conflict_that_another_machine_decided_is_not_decided_again() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::default();
    let [mut first, mut second, mut third] =
        create_machines(root.path(), ConflictPolicy::PreferLocal);
    write(&first, "one");
    // The machines are joined in this order, if nothing else orders them.
    for machine in [&mut first, &mut second, &mut third] {
        sync(machine, &store, PublishKill::Never);
    }
    write(&third, "three");
    let unaware = [second.name.clone()];
    sync_hidden(&mut third, &store, PublishKill::Never, &unaware);
    sync_hidden(&mut first, &store, PublishKill::Never, &unaware);
    assert_eq!(read(&first), "three");
    write(&second, "a second");
    sync(&mut second, &store, PublishKill::Never);
    write(&third, "the fourth");
    sync_hidden(&mut third, &store, PublishKill::Never, &unaware);
    // The last snapshot of the second machine is one that the third machine did not join.
    fs::write(
        second.home.join("history.jsonl"),
        "{\"ts\":1,\"text\":\"x\"}\n",
    )
    .unwrap();
    sync(&mut second, &store, PublishKill::Never);
    // The first machine has the text that the fourth one replaced, and knows neither that nor the second one.
    sync(&mut first, &store, PublishKill::Never);
    assert_eq!(read(&first), "the fourth");
    assert!(first.skills_in_conflict.is_empty());
    store.reveal_all();
    sync(&mut second, &store, PublishKill::Never);
    sync(&mut third, &store, PublishKill::Never);
    assert_eq!((read(&second), read(&third)), (read(&first), read(&first)));
}

#[test]
fn an_edit_of_a_text_from_a_killed_run_survives_two_more_killed_runs() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::default();
    let [mut first, mut second] = create_machines(root.path(), ConflictPolicy::PreferCloud);
    write(&first, "one");
    sync(&mut first, &store, PublishKill::Never);
    sync(&mut second, &store, PublishKill::Before);
    assert_eq!(read(&second), "one");
    write(&second, "the second");
    for kill in [PublishKill::Before, PublishKill::Before, PublishKill::Never] {
        sync(&mut second, &store, kill);
        assert_eq!(read(&second), "the second");
    }
    assert!(second.skills_in_conflict.is_empty());
    sync(&mut first, &store, PublishKill::Never);
    assert_eq!(read(&first), "the second");
}

#[test]
fn an_edit_replaces_a_text_although_two_machines_took_each_others_version() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::default();
    let [mut first, mut second, mut third] =
        create_machines(root.path(), ConflictPolicy::PreferCloud);
    write(&first, "one");
    for machine in [&mut first, &mut second, &mut third] {
        sync(machine, &store, PublishKill::Never);
    }
    let names = [&first, &second, &third].map(|machine| machine.name.clone());
    write(&first, "of the first");
    sync_hidden(&mut first, &store, PublishKill::Never, &names[1..]);
    write(&second, "of the second");
    sync_hidden(&mut second, &store, PublishKill::Never, &names[..1]);
    sync(&mut third, &store, PublishKill::Never);
    assert_eq!(read(&third), "of the second");
    store.reveal_all();
    // Each of two machines takes the text of the other one.
    sync_hidden(&mut second, &store, PublishKill::Never, &names[..1]);
    sync(&mut first, &store, PublishKill::Never);
    assert_eq!(
        (&*read(&first), &*read(&second)),
        ("of the second", "of the first")
    );
    store.reveal_all();
    write(&third, "after the second");
    sync(&mut third, &store, PublishKill::Never);
    assert_eq!(read(&third), "after the second");
    assert!(third.skills_in_conflict.is_empty());
    for machine in [&mut first, &mut second] {
        sync(machine, &store, PublishKill::Never);
        assert_eq!(read(machine), "after the second");
    }
}

#[test]
fn a_merge_with_the_size_and_time_of_the_version_that_it_replaces_is_published() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::default();
    let [mut first, mut second] = create_machines(root.path(), ConflictPolicy::PreferLocal);
    let line = |seconds| format!("{{\"session_id\":\"x\",\"ts\":{seconds},\"text\":\"a\"}}\n");
    let sorted = line(1) + &line(2);
    let write = |machine: &Machine, text: &str| {
        let file = fs::File::create(machine.home.join("history.jsonl")).unwrap();
        (&file).write_all(text.as_bytes()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_795_000_000))
            .unwrap();
    };
    write(&first, &sorted);
    write(&second, &(line(2) + &line(1)));
    sync(&mut second, &store, PublishKill::Never);
    sync(&mut first, &store, PublishKill::Never);
    sync(&mut second, &store, PublishKill::Never);
    sync(&mut first, &store, PublishKill::Never);
    let published = store.count();
    sync(&mut second, &store, PublishKill::Never);
    sync(&mut first, &store, PublishKill::Never);
    assert_eq!(store.count(), published);
    for machine in [&first, &second] {
        let text = fs::read_to_string(machine.home.join("history.jsonl")).unwrap();
        assert_eq!(text, sorted);
    }
}
