//! Finding the processes that use a home: the real Codex, and processes that only resemble it.

use crate::support::mock_backend::MockBackend;
use crate::support::pauses::{EVENT_LIMIT, poll};
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, signed_in_home};
use codex_manager_core::codex::home::THREAD_LOCKS;
use codex_manager_core::codex::process::{Holder, find_holders, find_outside_folders};
use codex_manager_core::io::environment::Environment;
use codex_manager_core::io::lock;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that is killed when the test ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start"),
        )
    }

    fn found(&self, holders: &[Holder]) -> Option<String> {
        holders
            .iter()
            .find(|holder| holder.pid == Some(self.0.id()))
            .map(|holder| format!("{}: {}", holder.name, holder.role))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a command that runs `/bin/sleep` under another name.
fn sleeper(folder: &Path, name: &str) -> Command {
    let program = folder.join(name);
    // Another process copies the program. A concurrent fork of this process could inherit the open
    // file, and executing the copy would fail with ETXTBSY.
    if !program.exists() {
        let copied = Command::new("cp").arg("/bin/sleep").arg(&program).status();
        assert!(copied.expect("cp starts").success());
    }
    let mut command = Command::new(program);
    command.arg("60").env_remove("CODEX_HOME");
    command
}

fn poll_event<T>(check: impl FnMut() -> Option<T>) -> Option<T> {
    poll(EVENT_LIMIT, check)
}

#[test]
fn a_running_turn_is_found_until_it_ends() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (home, other) = (folder.path().join("a"), folder.path().join("b"));
    signed_in_home(&home, &backend, &SignIn::alice());
    signed_in_home(&other, &backend, &SignIn::bob());
    backend.account("acct-alice").hold_turns();
    let turn = codex.spawn_exec(&home, &backend, &["hello"]);
    let alice = backend.account("acct-alice");
    assert!(alice.wait_for_held_turn(Duration::from_secs(30)));

    let holders = find_holders(&home, &[]);
    let pid = turn.native_pid().expect("a native process");
    let seen: Vec<_> = holders.iter().map(ToString::to_string).collect();
    assert_eq!(seen, [format!("codex (PID {pid}, codex process)")]);
    assert_eq!(find_holders(&other, &[]), [], "a process of another home");

    // Codex also locks its conversation, which works without access to processes.
    let locks = std::fs::read_dir(home.join("thread-writer-locks")).expect("locks");
    let held = locks
        .map(|entry| entry.expect("entry").path())
        .filter(|path| lock::is_held(path))
        .count();
    assert_eq!(held, 1);

    alice.release_turns();
    let _ = turn.finish(Duration::from_secs(30)).expect_success();
    assert_eq!(find_holders(&home, &[]), []);
}

#[test]
fn a_codex_process_is_identified_by_program_and_home() {
    let root = tempfile::tempdir().unwrap();
    let (home, bin) = (root.path().join(".codex"), root.path().join("bin"));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    let link = root.path().join("link");
    std::os::unix::fs::symlink(&home, &link).unwrap();

    let by_variable = Running::start(sleeper(&bin, "codex").env("CODEX_HOME", &link));
    let by_default = Running::start(sleeper(&bin, "codex").env("HOME", root.path()));
    let relative = Running::start(
        sleeper(&bin, "codex")
            .env("CODEX_HOME", ".codex")
            .current_dir(root.path()),
    );
    let elsewhere = Running::start(sleeper(&bin, "codex").env("CODEX_HOME", &bin));
    let other = Running::start(sleeper(&bin, "codex-manager").env("CODEX_HOME", &home));
    let host = Running::start(sleeper(&bin, "codex-code-mode-host").env("CODEX_HOME", &home));

    let wanted = Some("codex: codex process".to_owned());
    for process in [&by_variable, &by_default, &relative] {
        assert_eq!(
            poll_event(|| process.found(&find_holders(&home, &[]))),
            wanted
        );
    }
    let holders = find_holders(&home, &[]);
    for process in [&elsewhere, &other, &host] {
        assert_eq!(process.found(&holders), None, "{holders:?}");
    }
    assert_eq!(holders.len(), 3);
}

#[test]
fn a_process_with_a_file_of_the_home_open_is_a_holder() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    let disk = root.path().join("disk");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, home.join("sessions")).unwrap();
    let holding = |file: &Path| {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec 9>>\"$0\"; exec sleep 60"])
            .arg(file);
        Running::start(&mut command)
    };
    let database = holding(&home.join("state_5.sqlite"));
    let rollout = holding(&disk.join("rollout.jsonl"));
    let neighbour = holding(&root.path().join("home-2"));

    let folders = find_outside_folders(&home, &Environment::default());
    assert_eq!(folders, [disk.canonicalize().unwrap()]);
    let look = |process: &Running| poll_event(|| process.found(&find_holders(&home, &folders)));
    let named = look(&database).unwrap();
    assert!(named.ends_with(": holds state_5.sqlite open"), "{named}");
    let named = look(&rollout).unwrap();
    assert!(named.ends_with(": holds rollout.jsonl open"), "{named}");
    assert_eq!(neighbour.found(&find_holders(&home, &folders)), None);

    std::fs::remove_file(home.join("state_5.sqlite")).unwrap();
    let named = look(&database).unwrap();
    assert!(named.ends_with(": holds state_5.sqlite open"), "{named}");
}

#[test]
fn the_holder_of_a_conversation_lock_is_found_without_a_visible_process() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(THREAD_LOCKS);
    std::fs::create_dir(&folder).unwrap();
    let lock = |name: &str| {
        lock::FileLock::try_acquire(&folder.join(name))
            .unwrap()
            .unwrap()
    };
    let _lock = (lock("abc.lock"), lock(".coordination.lock"));
    drop(lock("free.lock"));
    // A child that another test has just forked holds our files open for a moment.
    let wanted = "a process (is writing the conversation abc)";
    let seen = poll_event(|| {
        let holders = find_holders(home.path(), &[]);
        (holders.len() == 1 && holders[0].to_string() == wanted).then_some(())
    });
    assert!(seen.is_some(), "{:?}", find_holders(home.path(), &[]));
}

#[test]
fn the_update_loop_of_the_daemon_is_no_holder() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec 9>>\"$0\"; echo; read line", "pid-update-loop"])
        .current_dir(home.path());
    let mut process = Running(
        command
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = [0];
    std::io::Read::read_exact(process.0.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(find_holders(home.path(), &[]), []);
}
