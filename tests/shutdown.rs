//! Tests of ending Codex before a command works on its home: only Codex is ended, with consent, and the
//! report is true.

use crate::support::mock_backend::MockBackend;
use crate::support::pauses::wait_until;
use crate::support::processes;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, codex_env, signed_in_home};
use crate::support::skips::skip;
use codex_manager_core::codex::process::{HomeProcess, ProcessRole, ProgramNames, find_holders};
use codex_manager_core::io::environment::Environment;
use codex_manager_core::shutdown::{
    PromptChannel, RefusalReason, ShutdownError, ShutdownRequest, ShutdownSettings, shut_down,
    wait_grace_period,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that is killed when the test ends.
struct Running(Child);

impl Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn is_alive(&self) -> bool {
        processes::alive(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a home, and programs with the name of Codex.
struct Lab {
    root: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["home", "other", "bin"] {
            std::fs::create_dir(root.path().join(name)).expect("folder");
        }
        Self { root }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns a shell under another name. `script` prints a line when it is ready.
    fn program(&self, name: &str, home: &Path, script: &str) -> Command {
        let program = self.root.path().join("bin").join(name);
        // Another process copies the program. A concurrent fork of this process could inherit the open
        // file, and executing the copy would fail with ETXTBSY.
        if !program.exists() {
            let copied = Command::new("cp").arg("/bin/sh").arg(&program).status();
            assert!(copied.expect("cp starts").success());
        }
        let mut command = Command::new(program);
        command
            .args(["-c", script])
            .env("CODEX_HOME", home)
            .current_dir(self.root.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    fn start(&self, name: &str, home: &Path, script: &str) -> Running {
        ready(&mut self.program(name, home, script))
    }

    /// Starts a Codex on the home that ends on SIGTERM.
    fn codex(&self) -> Running {
        self.start("codex", &self.home(), "echo; read line")
    }

    fn shut_down(
        &self,
        settings: &ShutdownSettings,
        asks_user: bool,
        answer: Option<bool>,
    ) -> (Result<Vec<HomeProcess>, ShutdownError>, bool) {
        let request = ShutdownRequest {
            home: &self.home(),
            outside: &[],
            codex_bin: None,
            env: &Environment::default(),
            settings,
        };
        wait_and_shut_down(&request, asks_user, answer)
    }
}

/// Ends the programs on the home for a user with a fixed answer. Returns the result, and true if the user was asked.
fn wait_and_shut_down(
    request: &ShutdownRequest<'_>,
    asks_user: bool,
    answer: Option<bool>,
) -> (Result<Vec<HomeProcess>, ShutdownError>, bool) {
    let mut was_asked = false;
    let result = wait_grace_period(request).and_then(|usage| {
        shut_down(request, &usage, asks_user, |targets| {
            assert!(!targets.processes.is_empty());
            was_asked = true;
            answer
        })
    });
    (result, was_asked)
}

/// Starts a script and waits for its first line.
fn ready(command: &mut Command) -> Running {
    let mut running = Running(command.spawn().expect("start"));
    let mut line = String::new();
    BufReader::new(running.0.stdout.as_mut().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "\n");
    running
}

/// Settings without a grace period, and with a time limit for a busy machine.
fn settings() -> ShutdownSettings {
    ShutdownSettings {
        grace_period: Duration::ZERO,
        terminate_timeout: Duration::from_secs(60),
        channel: PromptChannel::Console,
        ..ShutdownSettings::default()
    }
}

fn short_limit() -> ShutdownSettings {
    ShutdownSettings {
        terminate_timeout: Duration::from_millis(300),
        ..settings()
    }
}

/// Returns the reason of a refusal.
#[track_caller]
fn reason(error: &ShutdownError) -> RefusalReason {
    match error {
        ShutdownError::Refused(refusal) => refusal.reason,
        other => panic!("{other}"),
    }
}

#[test]
fn codex_is_ended_with_consent_only() {
    let lab = Lab::new();
    let codex = lab.codex();
    let (refused, asked) = lab.shut_down(&settings(), true, Some(false));
    let refused = refused.expect_err("declined");
    assert!(matches!(&refused, ShutdownError::Declined(by) if by[0].pid == codex.pid()));
    assert!(asked);

    let (refused, asked) = lab.shut_down(&settings(), true, None);
    assert!(matches!(refused, Err(ShutdownError::NoPrompter(_))));
    assert!(asked);
    assert!(codex.is_alive());

    let (report, asked) = lab.shut_down(&settings(), true, Some(true));
    let ended: Vec<_> = report.expect("a report").iter().map(|p| p.pid).collect();
    assert_eq!((ended, asked), (vec![codex.pid()], true));
    assert!(!codex.is_alive());
    // It is a zombie now, which does not count as a process.
    let (report, asked) = lab.shut_down(&settings(), true, None);
    assert_eq!(report.expect("a report"), []);
    assert!(!asked);
}

#[test]
fn codex_is_ended_without_a_question_if_the_user_is_not_to_be_asked() {
    let lab = Lab::new();
    let codex = lab.codex();
    let (report, asked) = lab.shut_down(&settings(), false, None);
    assert_eq!(report.expect("a report").len(), 1);
    assert!(!asked);
    assert!(!codex.is_alive());
}

#[test]
fn a_process_that_does_not_end_is_left_alive_and_reported() {
    let lab = Lab::new();
    let deaf = "trap '' TERM; echo; read line";
    let codex = lab.start("codex", &lab.home(), deaf);
    let (result, _) = lab.shut_down(&short_limit(), false, None);
    let error = result.expect_err("the process does not end");
    let output = format!("codex (PID {}, codex process)", codex.pid());
    assert!(matches!(&error, ShutdownError::NotGone { left, .. } if *left == [output.clone()]));
    assert!(error.to_string().contains(&output));
    assert!(codex.is_alive());
}

#[test]
fn a_background_process_is_never_ended() {
    let lab = Lab::new();
    let codex = lab.codex();
    let sandbox = lab.start("codex-sandbox", &lab.home(), "echo; read line");
    let elsewhere = lab.start(
        "codex-sandbox",
        &lab.root.path().join("other"),
        "echo; read l",
    );
    let settings = ShutdownSettings {
        names: ProgramNames {
            background: vec!["codex-sandbox".into()],
            ..ProgramNames::default()
        },
        ..settings()
    };
    let (result, asked) = lab.shut_down(&settings, false, Some(true));
    let error = result.expect_err("refused");
    assert_eq!(reason(&error), RefusalReason::Background);
    assert!(
        error
            .to_string()
            .contains(&format!("PID {}", sandbox.pid()))
    );
    assert!(
        !error
            .to_string()
            .contains(&format!("PID {}", elsewhere.pid()))
    );
    assert!(!asked);
    assert!(codex.is_alive() && sandbox.is_alive());
}

#[test]
fn a_configuration_can_forbid_ending_codex() {
    let lab = Lab::new();
    let codex = lab.codex();
    let settings = ShutdownSettings {
        may_terminate: false,
        ..settings()
    };
    let (result, _) = lab.shut_down(&settings, false, Some(true));
    assert_eq!(
        reason(&result.expect_err("refused")),
        RefusalReason::Forbidden
    );
    assert!(codex.is_alive());
}

#[test]
fn configured_names_count_as_codex_and_other_homes_are_ignored() {
    let lab = Lab::new();
    let other = lab.start("codex", &lab.root.path().join("other"), "echo; read line");
    let ours = lab.start("Codex-Next", &lab.home(), "echo; read line");
    let (report, _) = lab.shut_down(&settings(), false, None);
    assert_eq!(report.expect("a report"), []);
    let settings = ShutdownSettings {
        names: ProgramNames {
            codex: vec!["codex".into(), "codex-next".into()],
            ..ProgramNames::default()
        },
        ..settings()
    };
    let (report, _) = lab.shut_down(&settings, false, None);
    assert_eq!(report.expect("a report").len(), 1);
    assert!(other.is_alive() && !ours.is_alive());
}

#[test]
fn a_process_that_ends_within_the_grace_period_causes_no_question() {
    let lab = Lab::new();
    let mut codex = lab.codex();
    let settings = ShutdownSettings {
        grace_period: Duration::from_secs(60),
        ..settings()
    };
    // Codex ends before the first scan or during the grace period. Both cause no question.
    drop(codex.0.stdin.take());
    let (report, asked) = lab.shut_down(&settings, true, Some(false));
    assert_eq!(report.expect("a report"), []);
    assert!(!asked);
}

#[test]
fn a_codex_of_another_user_is_never_ended() {
    if !rustix::process::geteuid().is_root() {
        skip("root", "only root can start a process for another user");
        return;
    }
    let lab = Lab::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(lab.root.path(), open).expect("chmod");
    let inner = lab.program("codex", &lab.home(), "echo; read line");
    let as_nobody = |home: &[(&str, &Path)]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(home.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        ready(&mut command)
    };
    // A Codex of another user with its own home is ignored.
    let theirs = as_nobody(&[("HOME", Path::new("/nonexistent"))]);
    let (report, _) = lab.shut_down(&settings(), false, None);
    assert_eq!(report.expect("a report"), []);
    // With this home it counts, but must not be ended.
    let ours = as_nobody(&[("CODEX_HOME", &lab.home())]);
    let (result, _) = lab.shut_down(&settings(), false, None);
    let error = result.expect_err("refused");
    assert_eq!(reason(&error), RefusalReason::AnotherUser);
    assert!(ours.is_alive() && theirs.is_alive());
}

#[test]
fn another_program_is_never_ended_and_a_child_of_codex_is_awaited() {
    let lab = Lab::new();
    let holding = "exec 9>>\"$CODEX_HOME/file\"; echo; read line";
    let stranger = lab.start("editor", &lab.home(), holding);
    let (result, _) = lab.shut_down(&settings(), false, None);
    let error = result.expect_err("refused");
    assert!(error.to_string().contains("holds file open"), "{error}");
    assert_eq!(reason(&error), RefusalReason::OtherProgram);
    assert!(stranger.is_alive());
    drop(stranger);

    // The same program as a child of Codex gets no signal, but has to end with Codex.
    // A shell redirects the standard input of a background command, so the script passes it as descriptor 3.
    let parent = "exec 3<&0; \"$0-tool\" -c 'exec 9>>\"$CODEX_HOME/file\"; echo $$ >tool; echo; read line' <&3 & wait";
    let tool = lab.program("codex-tool", &lab.home(), "");
    let mut command = lab.program("codex", &lab.home(), parent);
    command.arg(lab.root.path().join("bin/codex"));
    let codex = ready(&mut command);
    let pid = std::fs::read_to_string(lab.root.path().join("tool")).expect("read the pid");
    let pid: u32 = pid.trim().parse().expect("a number");
    let (result, _) = lab.shut_down(&short_limit(), false, None);
    let error = result.expect_err("the tool still runs");
    // On a stalled machine Codex itself may also still run at the end of the time limit.
    let named = error.to_string();
    let is_named = |pid: u32| named.contains(&format!("PID {pid},"));
    assert!(matches!(&error, ShutdownError::NotGone { .. }), "{named}");
    assert!(is_named(pid) || is_named(codex.pid()), "{named}");
    let limit = Duration::from_secs(60);
    assert!(processes::wait_for_end(&[codex.pid()], limit).is_empty());
    assert!(processes::alive(pid), "the process was ended");
    processes::signal("KILL", pid);
    assert!(processes::wait_for_end(&[pid], Duration::from_secs(20)).is_empty());
    drop(tool);
}

#[test]
fn real_codex_is_ended_during_a_turn_with_its_launcher() {
    let Some(codex) = RealCodex::get().map(RealCodex::through_npm) else {
        return;
    };
    let backend = MockBackend::start();
    let lab = Lab::new();
    let other = lab.root.path().join("other");
    signed_in_home(&lab.home(), &backend, &SignIn::alice());
    signed_in_home(&other, &backend, &SignIn::bob());
    for account in ["acct-alice", "acct-bob"] {
        backend.account(account).hold_turns();
    }
    let turn = codex.spawn_exec(&lab.home(), &backend, &["hello secret words"]);
    let bobs = codex.spawn_exec(&other, &backend, &["hello"]);
    for account in ["acct-alice", "acct-bob"] {
        let account = backend.account(account);
        assert!(account.wait_for_held_turn(Duration::from_secs(60)));
    }
    let native = turn.native_pid().expect("a native process");
    let (report, _) = lab.shut_down(&settings(), false, None);
    let report = report.expect("a report");
    let ended: Vec<_> = report.iter().map(|p| p.pid).collect();
    for pid in [turn.pid(), native] {
        assert!(ended.contains(&pid), "{pid} is not in {report:?}");
    }
    for process in &report {
        assert!(!process.command_line.contains("secret"), "{process:?}");
        if [turn.pid(), native].contains(&process.pid) {
            let line = &process.command_line;
            assert!(line.ends_with("--skip-git-repo-check [text]"), "{line}");
        } else {
            // A process that Codex has just forked is named Codex until it executes its program.
            let is_of_it = matches!(
                process.role,
                ProcessRole::Codex | ProcessRole::CodexChild { .. }
            );
            assert!(is_of_it, "{report:?}");
        }
    }
    assert!(!processes::alive(native));
    assert!(bobs.is_running(), "another home");
}

/// Starts the real terminal interface in a terminal of `script`.
fn terminal(codex: &RealCodex, home: &Path, backend: &MockBackend, user_home: &Path) -> Running {
    let inner = codex.command(home, backend, user_home);
    let mut command = Command::new("script");
    let line = format!("exec '{}' --no-daemon", inner.get_program().display());
    command
        .args(["-qfec", &line, "/dev/null"])
        .env_clear()
        .envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .current_dir(user_home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running(command.spawn().expect("script starts"))
}

#[test]
fn real_terminal_interface_is_ended() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    if !Path::new("/usr/bin/script").exists() {
        skip("script", "there is no script(1) to make a terminal");
        return;
    }
    let backend = MockBackend::start();
    let lab = Lab::new();
    signed_in_home(&lab.home(), &backend, &SignIn::alice());
    let mut terminal = terminal(codex, &lab.home(), &backend, lab.root.path());
    // It is ready when it has its database open.
    wait_until("the interface starts", || {
        assert!(
            terminal.0.try_wait().expect("wait").is_none(),
            "the interface ended"
        );
        let holders = find_holders(&lab.home(), &[]);
        let has_database = lab.home().join("state_5.sqlite-wal").exists();
        has_database
            && holders
                .iter()
                .any(|holder| holder.role == ProcessRole::Codex)
    });
    let (report, _) = lab.shut_down(&settings(), false, None);
    let report = report.expect("a report");
    assert!(report.iter().any(|process| process.name == "codex"));
    for process in &report {
        assert!(!processes::alive(process.pid), "{process}");
    }
}

#[test]
fn real_app_server_is_ended() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let lab = Lab::new();
    signed_in_home(&lab.home(), &backend, &SignIn::alice());
    let server = codex.app_server(&lab.home(), &backend);
    let (report, _) = lab.shut_down(&settings(), false, None);
    assert!(!report.expect("a report").is_empty());
    drop(server);
}

#[test]
fn real_daemon_is_stopped_by_codex_itself() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let lab = Lab::new();
    signed_in_home(&lab.home(), &backend, &SignIn::alice());
    let daemon = codex.start_daemon(&lab.home(), &backend);
    let pid = daemon.pid().expect("a pid file");
    let mut env = Environment::default().with("PATH", codex.search_path());
    for (name, value) in codex_env(&backend) {
        env = env.with(&name, value);
    }
    let settings = settings();
    let request = |env| ShutdownRequest {
        home: Box::leak(lab.home().into_boxed_path()),
        outside: &[],
        codex_bin: None,
        env,
        settings: &settings,
    };
    let (report, _) = wait_and_shut_down(&request(&env), false, None);
    let report = report.expect("a report");
    let ended: Vec<_> = report.iter().map(ToString::to_string).collect();
    assert_eq!(ended, [format!("codex (PID {pid}, background daemon)")]);
    assert!(!processes::alive(pid));
    assert_eq!(daemon.pid(), None, "the pid file still exists");

    // Without a Codex on PATH the daemon's own program stops it.
    daemon.control("start").expect("starts again");
    let bare = env.without("PATH");
    let (report, _) = wait_and_shut_down(&request(&bare), false, None);
    let report = report.expect("a report");
    assert_eq!(report.len(), 1);
    assert_eq!(daemon.pid(), None);
}
