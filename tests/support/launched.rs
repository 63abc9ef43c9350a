//! A running launch: `codex-manager launch` or `resume`, and the real Codex below it.

use super::env::TestEnv;
use super::lab::Lab;
use super::mock_backend::Account;
use super::pauses::poll;
use super::processes::{self, executable};
use super::sign_in::{SignIn, write_auth};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// The time limit of every step of a real Codex.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The arguments after the profile in most launches: one turn without the terminal interface.
pub(crate) const EXEC: [&str; 4] = ["--", "exec", "--skip-git-repo-check", "hello"];

/// A running wrapper and its process group, which is killed on drop.
pub(crate) struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// Starts `codex-manager` with these arguments.
    #[track_caller]
    pub(crate) fn start(env: &TestEnv, args: &[&str]) -> Self {
        Self::start_command(env, &mut env.command(args))
    }

    /// Starts a command that runs `codex-manager`.
    #[track_caller]
    pub(crate) fn start_command(env: &TestEnv, command: &mut Command) -> Self {
        let stderr = tempfile::Builder::new()
            .prefix("launch-")
            .tempfile_in(env.path(""));
        let (file, stderr) = stderr.and_then(|file| Ok(file.keep()?)).expect("a file");
        let output = || file.try_clone().expect("share the file");
        command.stdout(output()).stderr(output()).process_group(0);
        Self {
            child: command.spawn().expect("start codex-manager"),
            stderr,
        }
    }

    /// Starts `launch PROFILE -- exec …` and waits until the backend holds its turn.
    #[track_caller]
    pub(crate) fn start_held(lab: &Lab, account: &str, args: &[&str]) -> Self {
        let account = lab.backend.account(account);
        account.hold_turns();
        let running = Self::start(&lab.world, &[args, &EXEC].concat());
        assert!(account.wait_for_held_turn(LIMIT), "{}", running.printed());
        running
    }

    /// Returns the process id of `codex-manager`.
    pub(crate) fn wrapper(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process id of the native Codex.
    #[track_caller]
    pub(crate) fn codex(&self) -> u32 {
        let found = self.process("codex");
        found.unwrap_or_else(|| panic!("no Codex\n{}", self.printed()))
    }

    /// Returns the process id of the npm launcher, if Node stays as the parent.
    pub(crate) fn launcher(&self) -> Option<u32> {
        self.process("node")
    }

    fn process(&self, name: &str) -> Option<u32> {
        let mut group = self.group().into_iter();
        let is_named = |path: PathBuf| path.file_name() == Some(OsStr::new(name));
        group.find(|pid| executable(*pid).is_some_and(is_named))
    }

    fn group(&self) -> Vec<u32> {
        let all = processes::all().into_iter();
        let group = all.filter(|process| process.group == self.wrapper());
        group.map(|process| process.pid).collect()
    }

    /// Kills only the wrapper, and waits for its end.
    pub(crate) fn kill_wrapper(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until no process of the launch runs. The caller has to make Codex end.
    #[track_caller]
    pub(crate) fn wait_for_all(&mut self) {
        let status = self.end();
        let left = processes::wait_for_end(&self.group(), LIMIT);
        assert!(left.is_empty(), "{left:?} {status}\n{}", self.printed());
    }

    /// Waits for the end of the wrapper. Returns its exit code, or 128 plus the number of its signal.
    #[track_caller]
    pub(crate) fn end(&mut self) -> i32 {
        let status = self.status();
        let signal = status.signal().map(|signal| 128 + signal);
        status.code().or(signal).expect("an exit code or a signal")
    }

    #[track_caller]
    fn status(&mut self) -> ExitStatus {
        let status = poll(LIMIT, || self.child.try_wait().expect("wait"));
        status.unwrap_or_else(|| panic!("the launch does not end\n{}", self.printed()))
    }

    /// Returns the output of the wrapper and Codex so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.group() {
            processes::signal("KILL", pid);
        }
        let _ = self.child.wait();
    }
}

/// Returns the rows of `launches`, the newest first.
#[track_caller]
pub(crate) fn launches(lab: &Lab) -> Vec<Value> {
    let listed = lab.manager(["launches", "--all", "--json"]).code(0).json();
    listed["sessions"].as_array().expect("a list").clone()
}

/// Returns the text of the launch registry; empty without one.
pub(crate) fn registry(lab: &Lab) -> String {
    fs::read_to_string(lab.world.manager_home().join("launches.jsonl")).unwrap_or_default()
}

/// Returns the isolated homes with a login.
pub(crate) fn isolated_logins(manager_home: &Path) -> Vec<PathBuf> {
    isolated_homes(manager_home)
        .into_iter()
        .map(|home| home.join("auth.json"))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

/// Returns all isolated homes, with and without a login.
pub(crate) fn isolated_homes(manager_home: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(manager_home.join("profiles/.isolated"));
    let folders = folder.into_iter().flatten().flatten();
    folders.map(|entry| entry.path().join("home")).collect()
}

/// Returns the accounts of the turns so far, in order.
pub(crate) fn turns(lab: &Lab) -> Vec<String> {
    let requests = lab.backend.requests_to("/responses").into_iter();
    let turns = requests.filter(|request| request.method == "POST");
    turns.filter_map(|request| request.account_id).collect()
}

/// Signs Alice in, and saves the profiles `alice`, `bob` and `carol`.
pub(crate) fn lab_of_three() -> Option<Lab> {
    let lab = Lab::of_two(&SignIn::alice(), &SignIn::bob())?;
    let carol = SignIn::new("acct-carol", "carol@example.com");
    lab.backend
        .add(Account::new("acct-carol", "carol@example.com"));
    write_auth(&lab.home(), &carol);
    let _ = lab.manager(["profile", "save", "carol"]).code(0);
    let _ = lab.manager(["use", "alice"]).code(0);
    Some(lab)
}
