//! `use` while Codex runs: its interface and daemon, renewals, and its locks.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::held_lock::HeldLock;
use crate::support::lab::Lab;
use crate::support::mock_backend::Request;
use crate::support::pauses::{vary, wait_until};
use crate::support::processes;
use crate::support::sign_in::{
    SignIn, expired_auth, read_refresh_token, write_auth, write_auth_text,
};
use crate::support::terminal::{LINES, Terminal};
use codex_manager_core::codex::process::find_locked_conversations;
use codex_manager_core::history::running_turns::find_busy_conversations;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn use_offers_a_picker_on_a_terminal() {
    let env = TestEnv::new();
    for (name, who) in [("home", SignIn::bob()), ("work", SignIn::alice())] {
        write_auth(&env.codex_home(), &who.issued_at(1_794_900_000));
        let _ = env.run(["profile", "save", name]).code(0);
    }
    let mut terminal = Terminal::start(&mut env.command(["use"]));
    terminal.wait_until((120, LINES), LIMIT, |picture| {
        picture.contains(">    home  ") && picture.contains("  *  work  ")
    });
    // The account that is not in use is selected first.
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("switched to home"));
    // Enter chooses nothing if no entry matches the filter.
    let mut terminal = Terminal::start(&mut env.command(["use"]));
    terminal.wait_for("which account?", LIMIT);
    terminal.type_keys("7\r");
    terminal.wait_until((120, LINES), LIMIT, |picture| picture.contains("0/2"));
    terminal.type_keys("\x03");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
}

/// Starts Codex's interface on a terminal in a trusted folder, with a first turn. Tests do not read the
/// screen, because its timing depends on the load of the machine.
fn interface(lab: &Lab) -> Terminal {
    start_interface(lab, &["hello"])
}

fn start_interface(lab: &Lab, args: &[&str]) -> Terminal {
    let folder = lab.world.path("project");
    let mut command = lab.codex.command(&lab.home(), &lab.backend, &folder);
    command.env("TERM", "xterm-256color").args(args);
    Terminal::start(&mut command)
}

/// Creates the folder of the interface, which Codex trusts.
fn create_trusted_folder(lab: &Lab) {
    let folder = lab.world.path("project");
    fs::create_dir(&folder).expect("folder");
    let config = fs::OpenOptions::new()
        .append(true)
        .open(lab.home().join("config.toml"));
    // TOML quotes as Rust does.
    let quoted = format!("{:?}", folder.display().to_string());
    let trust = format!("\n[projects.{quoted}]\ntrust_level = \"trusted\"\n");
    config
        .and_then(|mut c| c.write_all(trust.as_bytes()))
        .expect("write");
}

#[test]
fn an_interface_without_a_first_prompt_does_not_prevent_the_stop_of_the_daemon() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    create_trusted_folder(&lab);
    let daemon = lab.codex.watch_daemon(&lab.home(), &lab.backend);
    let waiting = start_interface(&lab, &[]);
    wait_until("the daemon holds a conversation", || {
        !find_locked_conversations(&lab.home()).is_empty()
    });
    let pid = daemon.pid().expect("a daemon");
    let switched = lab.manager(["use", "bob", "--stop-daemon", "--json"]);
    assert_eq!(switched.code(0).json()["daemon"], "stopped");
    assert!(!processes::alive(pid));
    drop(waiting);
}

/// Waits for a turn, and asserts that all turns so far are of this account.
#[track_caller]
fn assert_turns_of(lab: &Lab, account: &str) {
    let is_turn = |r: &Request| r.method == "POST" && r.path.ends_with("/responses");
    assert!(
        lab.backend.wait_for(LIMIT, |all| all.iter().any(is_turn)),
        "there was no turn"
    );
    let mut turns = lab.backend.requests();
    turns.retain(is_turn);
    let is_own = |r: &Request| r.account_id.as_deref() == Some(account);
    assert!(turns.iter().all(is_own), "{turns:?}");
    lab.backend.forget_requests();
}

#[test]
fn use_stops_a_daemon_at_work_only_if_forced_and_the_next_interface_has_the_new_account() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    create_trusted_folder(&lab);
    let daemon = lab.codex.watch_daemon(&home, &lab.backend);
    let alice = lab.backend.account("acct-alice");
    alice.hold_turns();
    let first = interface(&lab);
    assert!(alice.wait_for_held_turn(LIMIT), "{}", first.text());
    assert_turns_of(&lab, "acct-alice");
    let pid = daemon.pid().expect("a daemon");

    // The switch is refused without consent, and during a turn.
    let before = lab.world.tree("home/.codex-manager");
    let refused = lab.manager(["use", "bob"]).code(3);
    assert!(refused.stderr.contains(&format!("PID {pid}")), "{refused}");
    assert_same_tree(&before, &lab.world.tree("home/.codex-manager"));
    // The manager sees a turn only after Codex has recorded its beginning.
    wait_until("a turn of the daemon is recorded", || {
        !find_busy_conversations(&home).is_empty()
    });
    let refused = lab.manager(["use", "bob", "--stop-daemon"]).code(3);
    assert!(refused.stderr.contains("at work on"), "{refused}");
    let would = lab.manager(["use", "bob", "--stop-daemon", "--dry-run"]);
    assert_eq!(
        format!("{would}"),
        format!("{refused}"),
        "a dry run prints the same refusal"
    );
    assert_eq!(daemon.pid(), Some(pid));
    assert_eq!(read_refresh_token(&home), SignIn::alice().refresh_token());

    // The turn continues after the end of the interface.
    drop(first);
    let args = [
        "use",
        "bob",
        "--stop-daemon",
        "--force",
        "--json",
        "--verbose",
    ];
    let mut switch = lab.world.command(args);
    let switch = switch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let switch = switch.expect("start");
    // Codex waits a minute for the end of a turn. The test ends the wait after the request to stop.
    let is_reported = || {
        let all = processes::all().into_iter();
        let mut lines = all.map(|process| processes::command_line(process.pid));
        lines.any(|line| line.contains("daemon\0stop"))
    };
    wait_until("the daemon gets a request to stop", || {
        is_reported() || !processes::alive(pid)
    });
    alice.release_turns();
    let done = Run::of_output(switch.wait_with_output().expect("wait")).code(0);
    let output = done.json();
    assert_eq!(
        (&output["daemon"], &output["to"]),
        (&"stopped".into(), &"bob".into())
    );
    let steps = [
        "locked the accounts",
        "took Codex's locks and read the live login again",
        "stopped Codex's background daemon",
        "saved the live login to the profile alice",
        "activated the login of bob",
        "recorded the owner of each login",
    ];
    let context: Vec<_> = done.stderr.lines().filter(|l| steps.contains(l)).collect();
    assert_eq!(context, steps, "{done}");
    assert!(!processes::alive(pid));

    lab.backend.forget_requests();
    let second = interface(&lab);
    assert_turns_of(&lab, "acct-bob");
    drop(second);
    assert_ne!(daemon.pid(), Some(pid));
}

/// Returns true if a process has this file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    let open = open.into_iter().flatten().flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|target| target == path)
}

#[test]
fn the_daemon_is_not_stopped_by_a_refused_switch_or_before_the_switch_holds_codexs_locks() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let Some(lab) = Lab::of_two(&SignIn::alice().with_expired_token(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home().canonicalize().expect("the home");
    let daemon = lab.codex.start_daemon(&home, &lab.backend);
    let pid = daemon.pid().expect("a daemon");
    let refused = lab.manager(["use", "nobody", "--stop-daemon"]).code(1);
    assert!(processes::alive(pid), "{refused}");

    // While another process holds Codex's lock, the daemon keeps running.
    let path = home.join("auth.lock");
    let held = HeldLock::exclusive(&path);
    let mut switch = lab
        .world
        .command(["use", "bob", "--stop-daemon"])
        .spawn()
        .expect("start");
    wait_until("the switch opens the lock", || has_open(switch.id(), &path));
    assert!(processes::alive(pid));
    drop(held);
    assert!(switch.wait().expect("wait").success());
    assert!(!processes::alive(pid));
    let _ = lab.say("as bob");
    let _ = lab.manager(["use", "alice"]).code(0);
    let _ = lab.say("as alice");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn use_waits_for_a_slow_renewal() {
    let Some(lab) = Lab::of_two(&SignIn::alice().with_expired_token(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    let alice = lab.backend.account("acct-alice");
    alice.set(|account| account.refresh_delay_ms = 1_500);
    let running = lab.codex.spawn_exec(&home, &lab.backend, &["hello"]);
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-alice.f1.1"));
    // The old token is spent, and the new one has not arrived.
    let done = lab.manager(["use", "bob", "--json"]).code(0).json();
    assert_eq!(done["saved_back"]["outcome"], "updated");
    let kept = lab.world.manager_home().join("profiles/alice");
    assert_eq!(read_refresh_token(&kept), "rt.acct-alice.f1.2");
    let _ = running.finish(LIMIT);
    let _ = lab.manager(["use", "-"]).code(0);
    let _ = lab.say("as alice");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn a_codex_started_during_a_switch_loses_no_login() {
    let Some(lab) = Lab::of_two(
        &SignIn::alice().with_expired_token(),
        &SignIn::bob().with_expired_token(),
    ) else {
        return;
    };
    let mut dice = Dice::new();
    let home = lab.home();
    for account in ["acct-alice", "acct-bob"] {
        let account = lab.backend.account(account);
        account.set(|account| account.refresh_delay_ms = 200);
    }
    for round in 0..8 {
        write_auth_text(&home, &expired_auth(&home));
        let running = lab.codex.spawn_exec(&home, &lab.backend, &["hello"]);
        vary(Duration::from_millis(dice.below(400)));
        let to = ["bob", "alice"][round % 2];
        // If Codex takes too long, the switch is refused and changes nothing.
        let done = lab.manager(["use", to]);
        assert!([0, 3].contains(&done.code), "round {round}: {done}");
        let output = running.finish(LIMIT);
        assert!(output.status.success(), "round {round}: {output}");
        assert_eq!(lab.backend.reused_tokens(), [""; 0], "round {round}");
    }
    for account in ["alice", "bob"] {
        let _ = lab.manager(["use", account]).code(0);
        write_auth_text(&home, &expired_auth(&home));
        let _ = lab.say("still there?");
    }
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}
