//! I2: launches that are killed, or whose Codex is killed, at any point. The login stays usable, and the
//! registry is readable and correct.

use crate::support::env::assert_same_tree;
use crate::support::injection::{can_inject, points, run_ends_before_call};
use crate::support::lab::{Lab, rollout};
use crate::support::launched::{
    EXEC, LIMIT, Running, isolated_homes, isolated_logins, launches, registry, turns,
};
use crate::support::processes::{signal, wait_for_end};
use crate::support::sign_in::{SignIn, read_auth};
use codex_manager_core::codex::process::find_codex;

fn lab() -> Option<Lab> {
    Lab::of_two(&SignIn::alice(), &SignIn::bob())
}

/// Asserts that the account is usable in the live home.
#[track_caller]
fn assert_usable(lab: &Lab, account: &str) {
    let _ = lab.manager(["use", account]).code(0);
    let output = lab
        .codex
        .exec(&lab.home(), &lab.backend, &["are you there"]);
    let _ = output.expect_success();
    assert_eq!(
        read_auth(&lab.home())["tokens"]["account_id"],
        format!("acct-{account}")
    );
    let left = isolated_logins(&lab.world.manager_home());
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab.backend.reused_tokens(), Vec::<String>::new());
}

/// Asserts that the only launch is bound to its conversation, and that a second list records nothing.
#[track_caller]
fn assert_bound_once(lab: &Lab, account: &str) {
    let row = launches(lab).remove(0);
    assert_eq!(row["state"], "bound", "{row}");
    assert_eq!(row["account_id"], format!("acct-{account}"), "{row}");
    let id = row["session_id"].as_str().expect("an id");
    assert_eq!(lab.path_in(&row["rollout_path"]), rollout(&lab.home(), id));
    let before = registry(lab);
    assert_eq!(launches(lab).remove(0), row);
    assert_eq!(registry(lab), before);
}

#[test]
fn a_launch_whose_wrapper_is_killed_keeps_running_and_is_bound_once() {
    for args in [&["launch", "alice"][..], &["launch", "bob", "--isolated"]] {
        let Some(lab) = lab() else { return };
        let account = args[1];
        let id = format!("acct-{account}");
        let mut running = Running::start_held(&lab, &id, args);
        let codex = running.codex();
        running.kill_wrapper();
        let row = launches(&lab).remove(0);
        assert_eq!(row["state"], "running", "{row}");
        assert!(registry(&lab).lines().count() >= 2);
        if args.contains(&"--isolated") {
            let tree = || {
                let mut tree = lab.world.tree("home");
                // Codex writes it while the turn waits.
                tree.0
                    .retain(|path, _| !path.to_string_lossy().contains("shell_snapshots"));
                tree
            };
            let before = tree();
            let refused = lab.manager(["use", "bob"]).code(3);
            assert!(refused.stderr.contains("isolated home"), "{refused}");
            assert!(
                refused.stderr.contains(&format!("PID {codex}")),
                "{refused}"
            );
            assert_same_tree(&before, &tree());
        }
        lab.backend.account(&id).release_turns();
        running.wait_for_all();
        assert_bound_once(&lab, account);
        assert_eq!(turns(&lab), [id]);
        assert_usable(&lab, account);
    }
}

#[test]
fn a_launch_is_bound_once_when_codex_ends_after_a_kill_of_codex_or_of_its_npm_launcher() {
    for args in [&["launch", "alice"][..], &["launch", "bob", "--isolated"]] {
        for is_launcher in [true, false] {
            let Some(mut lab) = lab() else { return };
            lab.world.set("PATH", lab.codex.through_npm().search_path());
            let account = args[1];
            let id = format!("acct-{account}");
            let mut running = Running::start_held(&lab, &id, args);
            if is_launcher {
                // A Node that executes Codex in its own process leaves no launcher.
                let Some(node) = running.launcher() else {
                    continue;
                };
                signal("KILL", node);
                assert_eq!(running.end(), 128 + 9, "{}", running.printed());
                let row = launches(&lab).remove(0);
                assert_eq!(row["state"], "running", "{row}");
            } else {
                signal("KILL", running.codex());
                assert_ne!(running.end(), 0, "{}", running.printed());
            }
            lab.backend.account(&id).release_turns();
            running.wait_for_all();
            assert_bound_once(&lab, account);
            assert_usable(&lab, account);
        }
    }
}

/// Waits until no Codex uses any of the homes.
#[track_caller]
fn wait_for_codex(lab: &Lab) {
    let mut homes = isolated_homes(&lab.world.manager_home());
    homes.push(lab.home());
    let holders = homes.iter().flat_map(|home| find_codex(home));
    let pids: Vec<u32> = holders.filter_map(|holder| holder.pid).collect();
    let left = wait_for_end(&pids, LIMIT);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_wrapper_killed_while_writing_leaves_a_correct_registry() {
    if !can_inject() {
        return;
    }
    for args in [&["launch", "alice"][..], &["launch", "bob", "--isolated"]] {
        let Some(lab) = lab() else { return };
        let account = args[1];
        let args = [args, &EXEC].concat();
        let points = points(&lab.world, &args).into_iter();
        let writes = points.filter(|point| point.call == "write").count();
        for number in 1..=writes {
            lab.backend.forget_requests();
            let before = launches(&lab).len();
            let _ = run_ends_before_call(&lab.world, &args, "write", number);
            let at_once = launches(&lab).into_iter().next();
            wait_for_codex(&lab);
            let later = launches(&lab);
            let context = format!("{account} {number} {at_once:?} {later:?}");
            if turns(&lab).is_empty() {
                let is_ended = later.len() == before || later[0]["state"] == "ended";
                assert!(is_ended, "{context}");
                continue;
            }
            assert_eq!(later.len(), before + 1, "{context}");
            assert_eq!(later[0]["state"], "bound", "{context}");
            let id = later[0]["session_id"].as_str().expect("an id");
            assert_eq!(
                lab.path_in(&later[0]["rollout_path"]),
                rollout(&lab.home(), id),
                "{context}"
            );
        }
        assert_usable(&lab, account);
    }
}
