//! Conversations that two machines continued from different messages, because one of them was rewound with the real
//! Codex: two branches, of which Codex shows one.

use crate::history_faults::copy;
use crate::rewinds::{OLD_ID, give_old_id, newest, resumed, rewind, user_texts};
use crate::support::injection::{can_inject, kill_numbers, run_ends_before_call};
use crate::support::lab::{Lab, rollouts};
use crate::support::restic;
use crate::support::two_machines::TwoMachines;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The user of both machines continued the conversation of this id: `b` from its end, or from a rewind, and `a` from a
/// later rewind. Neither has synced since.
struct Branched {
    two: TwoMachines,
    id: String,
    /// The messages of both branches; Codex shows that of `a`.
    of_a: Vec<&'static str>,
    of_b: Vec<&'static str>,
    /// The last rollout of the branch of `b`.
    hidden: PathBuf,
}

impl Branched {
    fn new(is_rewound_on_both: bool) -> Option<Self> {
        let two = TwoMachines::new()?;
        let id = two.lab.say("one");
        Some(Self::of_conversation(two, id, is_rewound_on_both))
    }

    /// Continues the conversation of this id, which only `a` has, on both machines.
    fn of_conversation(two: TwoMachines, id: String, is_rewound_on_both: bool) -> Self {
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        lab.turns(&a, &id, &["two", "three"]);
        two.sync(&["a", "b"]);
        let mut of_b = vec!["one", "two", "three", "of b"];
        if is_rewound_on_both {
            rewind(lab, b, &id, 2);
            of_b.remove(2);
        }
        lab.resume(b, &id, "of b");
        let hidden = newest(b, &id);
        lab.edit(&a, &id, 1, "of a");
        Self {
            id,
            of_a: vec!["one", "of a"],
            of_b,
            hidden,
            two,
        }
    }

    /// Checks that a machine lists the conflict.
    #[track_caller]
    fn assert_listed(&self, name: &str) {
        let plan = self.two.run_sync(name, &["plan", "--json"]).code(2).json();
        assert_eq!(plan["summary"]["conflicts"], 1, "{name}");
        let list = self
            .two
            .run_sync(name, &["resolve", "--json"])
            .code(0)
            .json();
        for document in [plan, list] {
            let conflict = &document["conflicts"][0];
            assert_eq!(conflict["title"], "one", "{name}");
            assert_eq!(conflict["session_id"], Value::from(&*self.id));
            assert_eq!(conflict["local_answers"], 1);
            let own = self.of_b.len() - 1;
            assert_eq!(conflict["remote_answers"], own, "{conflict}");
            let path = conflict["path"].as_str().expect("a path");
            assert!(self.hidden.ends_with(path), "{path}");
        }
    }

    /// Chooses on a machine, syncs it and the other one, and checks that Codex shows the branch on both.
    #[track_caller]
    fn assert_decided(&self, names: [&str; 2], keep: &str, what: &str, shown: &[&str]) {
        let two = &self.two;
        let resolve = ["resolve", what, "--keep", keep];
        let _ = two.run_sync(names[0], &resolve).code(0);
        two.sync(&names);
        for name in names {
            let _ = two.run_sync(name, &["plan"]).code(0);
            let list = two.run_sync(name, &["resolve", "--json"]).code(0).json();
            assert_eq!(list["conflicts"], Value::Array(vec![]), "{name}");
        }
        for home in [&two.lab.home(), &two.b] {
            assert_eq!(resumed(&two.lab, home, &self.id), shown);
        }
    }
}

/// Forks a conversation; returns the id of the fork.
fn fork(lab: &Lab, home: &Path, id: &str) -> String {
    let fork = lab
        .codex
        .app_server_request(home, &lab.backend, "thread/fork", json!({"threadId": id}))
        .expect("a fork");
    fork["thread"]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_branch_whose_base_was_replaced_cannot_be_kept() {
    let Some(branched) = Branched::new(true) else {
        return;
    };
    let two = &branched.two;
    for name in ["a", "b", "a"] {
        let _ = two.run_sync(name, &["run", "--apply"]);
    }
    let a = two.lab.home();
    let base = rollouts(&a).into_iter().min().expect("the base");
    let text = fs::read_to_string(&base).unwrap();
    // The position in the base at which the branch begins is no end of a line any more.
    fs::write(&base, text.replacen('{', "{ ", 1)).unwrap();
    let hidden = branched.hidden.strip_prefix(&two.b).unwrap();
    let keep = ["resolve", hidden.to_str().unwrap(), "--keep", "fork"];
    let run = two.run_sync("a", &keep).code(1);
    assert!(
        run.stderr
            .contains("earlier turns that it continues were replaced"),
        "{run}"
    );
}

#[test]
fn two_branches_are_a_conflict_on_both_machines_until_one_resolves_it() {
    for (is_rewound_on_both, names, keep) in [
        (false, ["a", "b"], "local"),
        (false, ["b", "a"], "fork"),
        (true, ["a", "b"], "fork"),
        (true, ["b", "a"], "local"),
    ] {
        let Some(branched) = Branched::new(is_rewound_on_both) else {
            return;
        };
        let two = &branched.two;
        two.sync(&names[..1]);
        for name in [names[1], names[0], names[1]] {
            let run = two.run_sync(name, &["run", "--apply"]).code(2);
            let described = "1 answer in the branch that Codex shows";
            assert!(run.stderr.contains(described), "{}", run.stderr);
            assert!(run.stderr.contains("\"one\""), "{}", run.stderr);
            let error = "1 conversation in conflict";
            assert!(run.stderr.contains(error), "{}", run.stderr);
        }
        for name in names {
            branched.assert_listed(name);
        }
        let (of_a, of_b) = (&branched.of_a, &branched.of_b);
        let (shown, other) = if keep == "fork" {
            (of_b, of_a)
        } else {
            (of_a, of_b)
        };
        branched.assert_decided(names, keep, "one", shown);
        // The branch that was not kept is there on both machines, and the user may return to it on each.
        let file = branched
            .hidden
            .strip_prefix(&two.b)
            .expect("below the home");
        for home in [&two.lab.home(), &two.b] {
            let (file, home) = (home.join(file), home.to_string_lossy().into_owned());
            let file = file.to_string_lossy().into_owned();
            let shown = two
                .lab
                .manager(["--codex-home", &home, "show", &file, "--json"]);
            let texts = user_texts(&shown.code(0).json());
            assert_eq!(texts.last().map(String::as_str), Some("of b"), "{texts:?}");
        }
        branched.assert_decided([names[1], names[0]], "fork", &branched.id, other);
        // Codex goes on with the chosen branch.
        let mut longer = other.clone();
        longer.push("more");
        two.lab.resume(&two.b, &branched.id, "more");
        two.sync(&["b", "a"]);
        assert_eq!(resumed(&two.lab, &two.lab.home(), &branched.id), longer);
    }
}

#[test]
fn branches_of_a_conversation_whose_id_has_no_time_are_a_conflict() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let id = two.lab.say("one");
    give_old_id(&two.lab.home(), &id);
    let branched = Branched::of_conversation(two, OLD_ID.to_owned(), false);
    let two = &branched.two;
    two.sync(&["a"]);
    for name in ["b", "a", "b"] {
        let _ = two.run_sync(name, &["run", "--apply"]).code(2);
    }
    for name in ["a", "b"] {
        branched.assert_listed(name);
    }
    branched.assert_decided(["b", "a"], "fork", OLD_ID, &branched.of_b);
}

#[test]
fn a_branch_that_arrives_after_the_other_machine_synced_is_a_conflict() {
    let Some(branched) = Branched::new(false) else {
        return;
    };
    let two = &branched.two;
    two.sync(&["a"]);
    let rewound = newest(&two.lab.world.path("cloud"), &branched.id);
    let late = two.lab.world.path("late");
    fs::rename(&rewound, &late).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]).code(6);
    fs::rename(&late, &rewound).unwrap();
    for name in ["a", "b"] {
        let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        branched.assert_listed(name);
    }
    // A fork of the branch that is not kept stays.
    let (lab, a) = (&two.lab, two.lab.home());
    let fork = fork(lab, &a, &branched.id);
    lab.resume(&a, &fork, "of the fork");
    branched.assert_decided(["b", "a"], "fork", &branched.id, &branched.of_b);
    assert_eq!(resumed(lab, &a, &fork), ["one", "of a", "of the fork"]);
}

#[test]
fn rewinds_of_two_machines_that_reach_the_cloud_folder_at_once_are_a_conflict() {
    let Some(branched) = Branched::new(true) else {
        return;
    };
    let two = &branched.two;
    let [cloud, early, of_a] = ["cloud", "early", "of-a"].map(|name| two.lab.world.path(name));
    copy(&cloud, &early);
    two.sync(&["a"]);
    fs::rename(&cloud, &of_a).unwrap();
    fs::rename(&early, &cloud).unwrap();
    two.sync(&["b"]);
    copy(&of_a, &cloud);
    for name in ["b", "a", "b"] {
        let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        branched.assert_listed(name);
    }
    branched.assert_decided(["a", "b"], "fork", "one", &branched.of_b);
}

#[test]
fn a_turn_in_a_branch_that_was_rewound_meanwhile_is_a_conflict() {
    for names in [["a", "b"], ["b", "a"]] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let id = lab.say("one");
        lab.turns(&a, &id, &["two", "three"]);
        lab.edit(&a, &id, 2, "of a");
        two.sync(&["a", "b"]);
        lab.resume(&a, &id, "late");
        // Further back, so that Codex continues the first rollout and not the rewind of the other machine.
        lab.edit(b, &id, 1, "of b");
        two.sync(&names[..1]);
        for name in [names[1], names[0], names[1]] {
            let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        }
        let keep = ["resolve", "one", "--keep", "fork"];
        let _ = two.run_sync("b", &keep).code(0);
        two.sync(&["b", "a", "b"]);
        for home in [&a, b] {
            assert_eq!(resumed(lab, home, &id), ["one", "two", "of a", "late"]);
        }
    }
}

#[test]
fn a_turn_in_the_kept_branch_before_the_decision_is_known_is_a_new_conflict() {
    for names in [["a", "b"], ["b", "a"]] {
        let Some(branched) = Branched::new(true) else {
            return;
        };
        let two = &branched.two;
        two.sync(&["b"]);
        let _ = two.run_sync("a", &["run", "--apply"]).code(2);
        let resolve = ["resolve", "one", "--keep", "fork"];
        let _ = two.run_sync("a", &resolve).code(0);
        // The other machine goes on with its branch, before it knows the decision.
        two.lab.resume(&two.b, &branched.id, "late");
        let first = two.run_sync(names[0], &["run", "--apply"]);
        assert!([0, 2].contains(&first.code), "{first}");
        for name in [names[1], names[0], names[1]] {
            let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        }
        let mut late = branched.of_b.clone();
        late.push("late");
        branched.assert_decided(["a", "b"], "fork", "one", &late);
    }
}

#[test]
fn a_turn_in_the_shown_branch_before_the_decision_is_known_is_a_new_conflict() {
    for names in [["a", "b"], ["b", "a"]] {
        let Some(branched) = Branched::new(true) else {
            return;
        };
        let two = &branched.two;
        two.sync(&["b"]);
        for name in ["a", "b"] {
            let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        }
        let resolve = ["resolve", "one", "--keep", "fork"];
        let _ = two.run_sync("a", &resolve).code(0);
        two.lab.resume(&two.b, &branched.id, "late");
        let first = two.run_sync(names[0], &["run", "--apply"]);
        assert!([0, 2].contains(&first.code), "{first}");
        for name in [names[1], names[0], names[1]] {
            let _ = two.run_sync(name, &["run", "--apply"]).code(2);
        }
        let mut late = branched.of_a.clone();
        late.push("late");
        branched.assert_decided(["b", "a"], "fork", "one", &late);
    }
}

#[test]
fn a_version_that_a_rewind_continues_is_not_replaced() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let id = lab.say("one");
    lab.resume(&a, &id, "two");
    two.sync(&["a", "b"]);
    lab.resume(&a, &id, "of a, which is longer than the other one");
    lab.turns(b, &id, &["of b", "left"]);
    lab.edit(b, &id, 3, "more of b");
    two.sync(&["a"]);
    let _ = two.run_sync("b", &["run", "--apply"]).code(2);
    let shown = ["one", "two", "of b", "more of b"];
    let assert_kept = || {
        assert_eq!(resumed(lab, b, &id), shown);
        two.run_sync("b", &["run", "--apply"]).code(2).stderr
    };
    // The path of the first rollout: the name alone denotes the branch too.
    let base = rollouts(b).remove(0);
    let base = base.strip_prefix(b).unwrap().to_str().unwrap().to_owned();
    let run = two
        .run_sync("b", &["resolve", &base, "--keep", "cloud"])
        .code(1);
    assert!(
        run.stderr
            .contains("a rewind or a fork continues the local version"),
        "{run}"
    );
    let _ = assert_kept();
    two.configure("[conflict]\npolicy = \"prefer_cloud\"\n");
    let shown = assert_kept();
    assert!(
        shown.contains("a rewind or a fork continues the local version"),
        "{shown}"
    );
    two.configure("");
    let _ = two
        .run_sync("b", &["resolve", &base, "--keep", "local"])
        .code(0);
    let _ = two.run_sync("b", &["run", "--apply"]);
    let _ = two.run_sync("a", &["run", "--apply"]);
    for home in [&a, b] {
        assert_eq!(resumed(lab, home, &id), ["one", "two", "of b", "more of b"]);
    }
}

#[test]
fn a_rewind_of_a_rewind_or_a_fork_of_a_fork_waits_for_the_decision_about_its_base() {
    for (is_vault, is_fork) in [(false, false), (false, true), (true, false)] {
        let Some(mut two) = TwoMachines::new() else {
            return;
        };
        if is_vault {
            if restic::program().is_none() {
                return;
            }
            let repository = two.lab.world.path("vault");
            restic::new_repository(&repository);
            two.use_vault(&repository.to_string_lossy());
        }
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let id = lab.say("one");
        two.sync(&["a", "b"]);
        lab.turns(&a, &id, &["two", "three"]);
        lab.resume(b, &id, "of b");
        let mut tip = id.clone();
        for prompt in ["first", "second"] {
            if is_fork {
                tip = fork(lab, b, &tip);
            } else {
                rewind(lab, b, &id, 1);
            }
            lab.resume(b, &tip, prompt);
        }
        let of_tip = resumed(lab, b, &tip);
        two.sync(&["b"]);
        for _ in 0..2 {
            let run = two.run_sync("a", &["run", "--apply"]).code(2);
            assert!(run.stderr.contains("1 conversation in conflict"), "{run}");
            assert_eq!(resumed(lab, &a, &id), ["one", "two", "three"]);
            assert_eq!(rollouts(&a).len(), 1);
        }
        let list = two.run_sync("a", &["resolve", "--json"]).code(0).json();
        assert_eq!(list["conflicts"].as_array().unwrap().len(), 1, "{list}");
        let keep = ["resolve", &*id, "--keep", "cloud"];
        let _ = two.run_sync("a", &keep).code(0);
        let _ = two.run_sync("a", &["run", "--apply"]);
        assert_eq!(resumed(lab, &a, &tip), of_tip);
        assert_eq!(rollouts(&a).len(), 3);
    }
}

#[test]
fn versions_that_rewinds_continue_on_both_machines_can_be_decided() {
    for keep in ["local", "cloud"] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let id = lab.say("one");
        two.sync(&["a", "b"]);
        for (home, prompts) in [(&a, ["of a", "left"]), (b, ["of b", "left"])] {
            lab.turns(home, &id, &prompts);
            lab.edit(home, &id, 2, "after the rewind");
        }
        let base = rollouts(b).remove(0);
        let base = base.strip_prefix(b).unwrap().to_str().unwrap().to_owned();
        two.sync(&["a"]);
        let _ = two.run_sync("b", &["run", "--apply"]).code(2);
        // The rewind of the other machine does not travel alone.
        assert_eq!(resumed(lab, b, &id), ["one", "of b", "after the rewind"]);
        let _ = two
            .run_sync("b", &["resolve", &base, "--keep", keep])
            .code(0);
        for name in ["b", "a", "b"] {
            let run = two.run_sync(name, &["run", "--apply"]);
            assert!([0, 2, 6].contains(&run.code), "{run}");
        }
        let list = two.run_sync("b", &["resolve", "--json"]).code(0).json();
        assert!(list["conflicts"].as_array().is_some(), "{list}");
    }
}

#[test]
fn a_turn_that_a_rewind_would_hide_is_a_conflict_after_a_sync_by_an_earlier_version() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let id = lab.say("one");
    lab.turns(&a, &id, &["two", "three"]);
    lab.edit(&a, &id, 2, "first rewind");
    two.sync(&["a", "b"]);
    // As after a sync by an earlier version, which published no records.
    for name in ["manager-a", "manager-b", "cloud/.codex-manager"] {
        let _ = fs::remove_dir_all(lab.world.path(name));
    }
    two.sync(&["a", "b", "a"]);
    lab.resume(b, &id, "late");
    lab.edit(&a, &id, 1, "of a");
    two.sync(&["a"]);
    for name in ["b", "a"] {
        let _ = two.run_sync(name, &["run", "--apply"]).code(2);
    }
}

#[test]
fn a_decision_stays_while_the_newest_rollout_has_not_arrived() {
    let Some(branched) = Branched::new(false) else {
        return;
    };
    let two = &branched.two;
    two.sync(&["b"]);
    let _ = two.run_sync("a", &["run", "--apply"]).code(2);
    let (lab, a) = (&two.lab, two.lab.home());
    lab.resume(&a, &branched.id, "left");
    lab.edit(&a, &branched.id, 2, "again of a");
    let _ = two.run_sync("a", &["run", "--apply"]).code(2);
    let keep = ["resolve", "one", "--keep", "local"];
    let _ = two.run_sync("a", &keep).code(0);
    two.sync(&["a"]);
    // The other machine gets all but the newest rollout at first.
    let newest = newest(&two.lab.world.path("cloud"), &branched.id);
    let late = two.lab.world.path("late");
    fs::rename(&newest, &late).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]);
    fs::rename(&late, &newest).unwrap();
    two.sync(&["b", "a", "b"]);
    let shown = ["one", "of a", "again of a"];
    assert_eq!(resumed(lab, &two.b, &branched.id), shown);
}

#[test]
fn rewinds_of_one_machine_are_no_conflict() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let id = lab.say("one");
    two.sync(&["a", "b"]);
    lab.turns(&a, &id, &["two", "three"]);
    lab.edit(&a, &id, 2, "four");
    // Twice from the same rollout: the first rewind is left on purpose.
    lab.edit(&a, &id, 1, "five");
    two.sync(&["a"]);
    // The rewinds arrive before the lines that they leave.
    let base = rollouts(&two.lab.world.path("cloud")).remove(0);
    let complete = fs::read(&base).unwrap();
    fs::copy(rollouts(b).remove(0), &base).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]).code(6);
    fs::write(&base, complete).unwrap();
    two.sync(&["b", "a"]);
    lab.edit(b, &id, 1, "six");
    two.sync(&["b", "a", "b"]);
    for (name, home) in [("a", &a), ("b", b)] {
        let list = two.run_sync(name, &["resolve", "--json"]).code(0).json();
        assert_eq!(list["conflicts"], Value::Array(vec![]));
        assert_eq!(resumed(lab, home, &id), ["one", "six"]);
    }
}

/// The calls that create, remove and flush files.
const CALLS: [&str; 4] = ["rename", "renameat2", "fsync", "unlink"];
/// Number of calls of one kind at which a run is killed, at most.
const KILLS: usize = 9;

#[test]
fn i2_two_branches_stay_a_conflict_after_a_killed_run() {
    if !can_inject() {
        return;
    }
    let Some(branched) = Branched::new(false) else {
        return;
    };
    let two = &branched.two;
    two.sync(&["a"]);
    for name in ["b", "a"] {
        let kept = Snapshot::of(two);
        for call in CALLS {
            for number in kill_numbers(KILLS) {
                kept.restore(two);
                let (config, manager) = (format!("{name}.toml"), format!("manager-{name}"));
                let first = ["--manager-home", &manager, "sync", "-c", &config];
                let args = [&first[..], &["run", "--apply"]].concat();
                let ended = run_ends_before_call(&two.lab.world, &args, call, number);
                for name in ["b", "a", "b"] {
                    let run = two.run_sync(name, &["run", "--apply"]);
                    assert_eq!(run.code, 2, "{name}: {call} {number}: {run}");
                }
                branched.assert_listed("a");
                branched.assert_listed("b");
                if ended {
                    break;
                }
            }
        }
        branched.assert_decided(["a", "b"], "fork", "one", &branched.of_b);
        kept.restore(two);
        let _ = two.run_sync(name, &["run", "--apply"]).code(2);
    }
}

/// The files of both machines and of the cloud folder, so that each try starts from the same state.
struct Snapshot(tempfile::TempDir);

impl Snapshot {
    const FOLDERS: [&str; 5] = ["home", "home-b", "manager-a", "manager-b", "cloud"];

    fn of(two: &TwoMachines) -> Self {
        let kept = Self(tempfile::tempdir().unwrap());
        for folder in Self::FOLDERS {
            copy(&two.lab.world.path(folder), &kept.0.path().join(folder));
        }
        kept
    }

    fn restore(&self, two: &TwoMachines) {
        for folder in Self::FOLDERS {
            let place = two.lab.world.path(folder);
            let _ = fs::remove_dir_all(&place);
            copy(&self.0.path().join(folder), &place);
        }
    }
}
