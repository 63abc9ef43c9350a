//! The real Codex CLI, pinned, for end-to-end tests against [`MockBackend`].
//!
//! The npm package is installed once into the target folder. Every Codex runs in its own process group
//! with an empty environment. The whole group is killed when the handle is dropped or the time limit
//! expires, because the npm launcher on Node < 22.15 stays as the parent of the native binary. Nothing
//! in this module touches `~/.codex`.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for the environment are the program's, not its tests'"
)]
#![allow(
    clippy::panic_in_result_fn,
    reason = "`Result` is the answer of Codex; panics are failed tests"
)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::mock_backend::MockBackend;
use super::processes::{self, executable};
use super::sign_in::codex_env;
use super::tool_install::{installed_once, npm_install, tool_or_skip};

/// The version under test.
pub(crate) const VERSION: &str = "0.171.0";
const EXEC_LIMIT: Duration = Duration::from_secs(60);
/// The time limit of an answer. `account/read` itself times out after 15 s on a silent network.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// The time limit of the end of killed processes.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// An installed Codex.
#[derive(Debug)]
pub(crate) struct RealCodex {
    launcher: PathBuf,
    native: PathBuf,
    /// The program that tests start: `launcher` or `native`.
    program: PathBuf,
}

/// The result of a finished Codex.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status of the process.
    pub(crate) status: ExitStatus,
    /// The complete standard output.
    pub(crate) stdout: String,
    /// The complete standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// Returns the id that Codex printed after `session id:`.
    pub(crate) fn session_id(&self) -> Option<&str> {
        let mut lines = self.stderr.lines().chain(self.stdout.lines());
        lines
            .find_map(|line| line.trim().strip_prefix("session id:"))
            .map(str::trim)
    }

    /// Panics with the complete output unless the exit status is 0.
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Panics with the complete output if the exit status is 0.
    pub(crate) fn expect_failure(self) -> Self {
        assert!(!self.status.success(), "{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}", self.status, self.stdout, self.stderr)
    }
}

impl RealCodex {
    /// Returns Codex, and installs it if it is missing. If that fails it skips the test and
    /// returns `None`.
    ///
    /// # Panics
    /// The installation fails and `CODEX_MANAGER_E2E=require`.
    pub(crate) fn get() -> Option<&'static Self> {
        static FOUND: OnceLock<Result<RealCodex, String>> = OnceLock::new();
        tool_or_skip("real Codex", FOUND.get_or_init(|| install(VERSION)))
    }

    /// Like [`RealCodex::get`], for another version.
    pub(crate) fn of_version(version: &'static str) -> Option<&'static Self> {
        type Installed = &'static Result<RealCodex, String>;
        static FOUND: Mutex<BTreeMap<&str, Installed>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let result = *found
            .entry(version)
            .or_insert_with(|| Box::leak(Box::new(install(version))));
        tool_or_skip("old Codex", result)
    }

    /// Returns the same Codex, started through its npm launcher. Starting `node` takes 0.1 s of CPU time,
    /// so only tests of the launcher use it.
    pub(crate) fn through_npm(&self) -> Self {
        Self {
            launcher: self.launcher.clone(),
            native: self.native.clone(),
            program: self.launcher.clone(),
        }
    }

    /// Returns the program that tests start.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns a `PATH` on which `codex` is [`RealCodex::program`].
    pub(crate) fn search_path(&self) -> String {
        let folder = self.program.parent().expect("a folder");
        let first = failing_lsb_release_folder().display();
        format!("{first}:{}:/usr/bin:/bin", folder.display())
    }

    /// Returns the native binary that the launcher runs.
    pub(crate) fn native(&self) -> &Path {
        &self.native
    }

    /// Returns Codex in its own process group, with an environment of only `PATH`, `HOME`,
    /// `CODEX_HOME` and [`codex_env`]. `user_home` becomes `HOME` and the working folder.
    pub(crate) fn command(&self, home: &Path, backend: &MockBackend, user_home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let mut path = failing_lsb_release_folder().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", user_home)
            .env("CODEX_HOME", home)
            .envs(codex_env(backend))
            .current_dir(user_home)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs `codex` with these arguments to its end, at most 60 s.
    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        home: &Path,
        backend: &MockBackend,
        args: &[A],
    ) -> Output {
        self.start(home, backend, args).finish(EXEC_LIMIT)
    }

    /// Runs `codex exec` with these arguments (a prompt, at least) to its end, at most 60 s.
    pub(crate) fn exec(&self, home: &Path, backend: &MockBackend, args: &[&str]) -> Output {
        self.run(
            home,
            backend,
            &[&["exec", "--skip-git-repo-check"], args].concat(),
        )
    }

    /// Runs another turn of a session.
    pub(crate) fn exec_resume(
        &self,
        home: &Path,
        backend: &MockBackend,
        id: &str,
        prompt: &str,
    ) -> Output {
        self.run(
            home,
            backend,
            &["exec", "resume", "--skip-git-repo-check", id, prompt],
        )
    }

    /// Starts `codex exec` and leaves it running. To keep it busy, make the backend hold the turn first.
    pub(crate) fn spawn_exec(
        &self,
        home: &Path,
        backend: &MockBackend,
        args: &[&str],
    ) -> RunningCodex {
        self.start(
            home,
            backend,
            &[&["exec", "--skip-git-repo-check"], args].concat(),
        )
    }

    /// Starts `codex` with these arguments, without input, and leaves it running.
    pub(crate) fn start<A: AsRef<OsStr>>(
        &self,
        home: &Path,
        backend: &MockBackend,
        args: &[A],
    ) -> RunningCodex {
        self.start_with(home, backend, args, |_| ())
    }

    /// Like [`RealCodex::start`]; `alter` may change the working folder and the environment.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        &self,
        home: &Path,
        backend: &MockBackend,
        args: &[A],
        alter: impl FnOnce(&mut Command),
    ) -> RunningCodex {
        let user_home = new_user_home();
        // Files, because a full pipe would block Codex, and an inherited pipe would block the reader.
        let stdout = tempfile::tempfile().expect("create a file for stdout");
        let stderr = tempfile::tempfile().expect("create a file for stderr");
        let mut command = self.command(home, backend, user_home.path());
        command.args(args);
        command.stdout(stdout.try_clone().expect("share the file for stdout"));
        command.stderr(stderr.try_clone().expect("share the file for stderr"));
        alter(&mut command);
        RunningCodex {
            group: Group::spawn(&mut command).0,
            stdout,
            stderr,
            _user_home: user_home,
        }
    }

    /// Starts `codex app-server` on stdio and sends `initialize`.
    pub(crate) fn app_server(&self, home: &Path, backend: &MockBackend) -> AppServer {
        AppServer::start(self, home, backend, &Value::Null)
    }

    /// Like [`RealCodex::app_server`], for a client that uses experimental parameters.
    pub(crate) fn experimental_app_server(&self, home: &Path, backend: &MockBackend) -> AppServer {
        AppServer::start(self, home, backend, &json!({"experimentalApi": true}))
    }

    /// Sends one request to a new app-server, and returns its result.
    ///
    /// # Errors
    /// The JSON-RPC error, `{"code": …, "message": …}`.
    pub(crate) fn app_server_request(
        &self,
        home: &Path,
        backend: &MockBackend,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        self.app_server(home, backend).request(method, params)
    }

    /// Starts the background daemon of a home, as a TUI would. It copies some 400 MB into the home.
    pub(crate) fn start_daemon(&self, home: &Path, backend: &MockBackend) -> Daemon {
        // The guard exists before the daemon, so that it also cleans up after a failed start.
        let mut daemon = self.watch_daemon(home, backend);
        daemon.started = daemon.control("start").expect("start the daemon");
        daemon
    }

    /// Returns a guard for the daemon that Codex's interface will start in a home.
    pub(crate) fn watch_daemon(&self, home: &Path, backend: &MockBackend) -> Daemon {
        Daemon {
            home: home.canonicalize().expect("the home exists"),
            codex: self.program.clone(),
            environment: self
                .command(home, backend, home)
                .get_envs()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect(),
            started: Value::Null,
            user_home: new_user_home(),
        }
    }
}

/// A running Codex. Its process group is killed on drop.
pub(crate) struct RunningCodex {
    group: Group,
    stdout: File,
    stderr: File,
    _user_home: TempDir,
}

impl RunningCodex {
    /// Returns the id of the started process, which is also the id of its group.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid
    }

    /// Returns the process id of the native binary: the started process, or its child if Node stays as
    /// the parent. Linux only.
    pub(crate) fn native_pid(&self) -> Option<u32> {
        let group = processes::all()
            .into_iter()
            .filter(|process| process.group == self.group.pid);
        group.map(|process| process.pid).find(|pid| {
            executable(*pid).is_some_and(|path| path.file_name() == Some(OsStr::new("codex")))
        })
    }

    /// Returns true if the process has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.group.wait_for_exit(Duration::ZERO).is_none()
    }

    /// Waits for the end of the process and returns its output.
    ///
    /// # Panics
    /// The process still runs after `limit`. The group is killed first.
    pub(crate) fn finish(mut self, limit: Duration) -> Output {
        let status = self.group.wait_for_exit(limit);
        if status.is_none() {
            self.group.kill();
        }
        let stdout = read_back(&mut self.stdout);
        let stderr = read_back(&mut self.stderr);
        match status {
            Some(status) => Output {
                status,
                stdout,
                stderr,
            },
            None => panic!("codex did not end within {limit:?}\n{stdout}\n{stderr}"),
        }
    }

    /// Kills the group with SIGKILL and waits for the end of the process.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// A `codex app-server` on stdio. Its process group is killed on drop.
pub(crate) struct AppServer {
    group: Group,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    notifications: Vec<Value>,
    next_id: u64,
    _user_home: TempDir,
}

impl AppServer {
    fn start(codex: &RealCodex, home: &Path, backend: &MockBackend, capabilities: &Value) -> Self {
        let user_home = new_user_home();
        let mut command = codex.command(home, backend, user_home.path());
        command.arg("app-server");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (group, stdin, stdout) = Group::spawn(&mut command);
        let stdout = stdout.expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Self {
            group,
            stdin,
            lines,
            reader: Some(reader),
            notifications: Vec::new(),
            next_id: 0,
            _user_home: user_home,
        };
        let me = json!({
            "clientInfo": {"name": "codex-test", "title": "test", "version": "0"},
            "capabilities": capabilities,
        });
        server
            .request("initialize", me)
            .expect("initialize the app-server");
        server.send(&json!({"method": "initialized"}));
        server
    }

    /// Sends a request and returns its result. Waits at most 30 s.
    ///
    /// # Errors
    /// The JSON-RPC error, `{"code": …, "message": …}`.
    ///
    /// # Panics
    /// The app-server does not answer in time.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let answer = self.request_within(method, params, REPLY_LIMIT);
        answer.unwrap_or_else(|| panic!("no answer to {method} within {REPLY_LIMIT:?}"))
    }

    /// Like [`AppServer::request`], but returns `None` if there is no answer within `limit`.
    pub(crate) fn request_within(
        &mut self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Option<Result<Value, Value>> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({"id": id, "method": method});
        if !params.is_null() {
            request["params"] = params;
        }
        self.send(&request);
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("app-server ended during {method}"),
            };
            let mut message: Value = serde_json::from_str(&line).expect("a line of JSON");
            if message.get("method").is_some() || message["id"] != json!(id) {
                self.notifications.push(message);
            } else if message.get("error").is_some() {
                return Some(Err(message["error"].take()));
            } else {
                return Some(Ok(message["result"].take()));
            }
        }
    }

    /// Waits for the end of a turn of this conversation, at most 30 s; returns the turn.
    ///
    /// # Panics
    /// The turn does not end in time.
    pub(crate) fn wait_for_turn(&mut self, id: &str) -> Value {
        let end = Instant::now() + REPLY_LIMIT;
        let is_end = |message: &Value| {
            message["method"] == "turn/completed" && message["params"]["threadId"] == id
        };
        loop {
            if let Some(position) = self.notifications.iter().position(is_end) {
                return self.notifications.remove(position)["params"]["turn"].take();
            }
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the end of the turn");
            let message = serde_json::from_str(&line).expect("a line of JSON");
            self.notifications.push(message);
        }
    }

    /// Returns the notifications so far.
    pub(crate) fn notifications(&self) -> &[Value] {
        &self.notifications
    }

    /// Returns the id of the started process, which is also the id of its group.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid
    }

    /// Closes the input and waits for the end of the app-server; `None` if it still runs after `limit`.
    pub(crate) fn close(mut self, limit: Duration) -> Option<ExitStatus> {
        self.stdin = None;
        self.group.wait_for_exit(limit)
    }

    fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        writeln!(stdin, "{message}").expect("write to app-server");
    }
}

impl Drop for AppServer {
    fn drop(&mut self) {
        self.stdin = None;
        self.group.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// The background daemon of a home. Dropping it stops the daemon and kills its remaining processes.
pub(crate) struct Daemon {
    home: PathBuf,
    codex: PathBuf,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    started: Value,
    user_home: TempDir,
}

impl Daemon {
    /// Returns the answer of `daemon start`.
    pub(crate) fn started(&self) -> &Value {
        &self.started
    }

    /// Returns the process id in the pid file of the daemon; `None` after a stop.
    pub(crate) fn pid(&self) -> Option<u32> {
        read_pid_file(&self.home.join("app-server-daemon/daemon.pid"))
    }

    /// Returns the process id of the daemon's `pid-update-loop`, which survives `daemon stop`.
    pub(crate) fn updater_pid(&self) -> Option<u32> {
        read_pid_file(&self.home.join("app-server-daemon/daemon-updater.pid"))
    }

    /// Runs `codex app-server daemon` with this word. Returns the JSON in its last line of output.
    ///
    /// # Errors
    /// The complete output, if the command fails or its last line is not JSON.
    pub(crate) fn control(&self, word: &str) -> Result<Value, String> {
        let mut stdout = tempfile::tempfile().map_err(|error| error.to_string())?;
        let mut stderr = tempfile::tempfile().map_err(|error| error.to_string())?;
        let share = |file: &File| file.try_clone().map_err(|error| error.to_string());
        let mut command = Command::new(&self.codex);
        command
            .args(["app-server", "daemon", word])
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("HOME", self.user_home.path())
            .current_dir(self.user_home.path())
            .stdin(Stdio::null())
            .stdout(share(&stdout)?)
            .stderr(share(&stderr)?)
            .process_group(0);
        let status = Group::spawn(&mut command).0.wait_for_exit(EXEC_LIMIT);
        let (out, err) = (read_back(&mut stdout), read_back(&mut stderr));
        let all = || format!("codex app-server daemon {word}: {status:?}\n{out}\n{err}");
        if !status.is_some_and(|status| status.success()) {
            return Err(all());
        }
        let last = out.lines().next_back().unwrap_or_default();
        serde_json::from_str(last).map_err(|_| all())
    }

    /// Returns the processes of the daemon's copy of Codex in this home. Linux only.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let copy = self.home.join("packages");
        let mut pids: Vec<u32> = processes::all()
            .into_iter()
            .map(|process| process.pid)
            .collect();
        pids.retain(|pid| executable(*pid).is_some_and(|path| path.starts_with(&copy)));
        pids
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Codex puts the sockets into a shared folder under /tmp and links them from the home.
        let sockets = find_linked_sockets(&self.home);
        let mut pids: BTreeSet<u32> = self.processes().into_iter().collect();
        if !cfg!(target_os = "linux") {
            pids.extend(self.pid().into_iter().chain(self.updater_pid()));
        }
        let stopped = self.control("stop");
        pids.extend(self.processes());
        let pids: Vec<u32> = pids
            .into_iter()
            .filter(|pid| processes::alive(*pid))
            .collect();
        for pid in &pids {
            processes::signal("KILL", *pid);
        }
        let left = processes::wait_for_end(&pids, KILL_LIMIT);
        for socket in sockets.into_iter().chain(find_linked_sockets(&self.home)) {
            let mut lock = socket.clone().into_os_string();
            lock.push(".lock");
            let _ = fs::remove_file(&socket);
            let _ = fs::remove_file(lock);
        }
        let clean = left.is_empty() && (stopped.is_ok() || self.started.is_null());
        assert!(
            clean || thread::panicking(),
            "the daemon still runs: {left:?}, {stopped:?}"
        );
    }
}

/// A process that leads its own process group. The group is killed on drop.
struct Group {
    pid: u32,
    status: Cell<Option<ExitStatus>>,
    end: Receiver<io::Result<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

impl Group {
    /// Starts a command that sets `process_group(0)`.
    fn spawn(
        command: &mut Command,
    ) -> (Self, Option<ChildStdin>, Option<std::process::ChildStdout>) {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (pid, stdin, stdout) = (child.id(), child.stdin.take(), child.stdout.take());
        let (sender, end) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let _ = sender.send(child.wait());
        });
        let group = Self {
            pid,
            status: Cell::new(None),
            end,
            waiter: Some(waiter),
        };
        (group, stdin, stdout)
    }

    /// Waits at most `limit` for the end of the process. Returns its exit status.
    fn wait_for_exit(&self, limit: Duration) -> Option<ExitStatus> {
        if self.status.get().is_none()
            && let Ok(status) = self.end.recv_timeout(limit)
        {
            self.status.set(Some(status.expect("wait for the process")));
        }
        self.status.get()
    }

    /// Kills the remaining processes of the group and waits for the leader, which may have ended before.
    fn kill(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            processes::signal_group("KILL", self.pid);
            let _ = waiter.join();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_pid_file(path: &Path) -> Option<u32> {
    let doc: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    doc["pid"].as_u64()?.try_into().ok()
}

fn find_linked_sockets(home: &Path) -> Vec<PathBuf> {
    [
        "app-server-control/app-server-control.sock",
        "app-server-daemon/daemon-updater.sock",
    ]
    .iter()
    .filter_map(|link| fs::read_link(home.join(link)).ok())
    .collect()
}

/// Returns a folder with an `lsb_release` that fails. Codex (0.169) runs it twice at each start, and that of Debian is a
/// script which starts ten processes. Without it, Codex reads `/etc/os-release`.
fn failing_lsb_release_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let program = |folder: &Path| folder.join("lsb_release");
        let folder = installed_once(
            "without-lsb-release",
            |folder| program(folder).exists(),
            |folder| {
                let linked = std::os::unix::fs::symlink("/usr/bin/false", program(folder));
                linked.map_err(|error| error.to_string())
            },
        );
        folder.expect("a folder for lsb_release")
    })
}

fn new_user_home() -> TempDir {
    tempfile::Builder::new()
        .prefix("user-home-")
        .tempdir()
        .expect("create a temporary HOME")
}

fn read_back(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("read the output back");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn install(version: &str) -> Result<RealCodex, String> {
    let place = installed_once(
        &format!("codex-{version}"),
        |prefix| find_installed(prefix).is_some(),
        |prefix| npm_install(prefix, &format!("@openai/codex@{version}")),
    )?;
    find_installed(&place)
        .ok_or_else(|| format!("no codex: {}", place.display()))?
        .check(version)
}

/// Returns the Codex below an npm prefix if both its launcher and its native binary exist.
fn find_installed(prefix: &Path) -> Option<RealCodex> {
    let modules = prefix.join("node_modules");
    let launcher = modules.join(".bin/codex");
    let packages = [
        modules.join("@openai"),
        modules.join("@openai/codex/node_modules/@openai"),
    ];
    let platforms = packages
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten();
    let native = platforms
        .flatten()
        .filter_map(|package| fs::read_dir(package.path().join("vendor")).ok())
        .flatten()
        .flatten()
        .map(|triple| triple.path())
        // Up to 0.98 one package has the programs of all systems.
        .filter(|triple| {
            let name = triple.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(std::env::consts::ARCH) && name.contains(std::env::consts::OS)
        })
        .flat_map(|triple| ["bin/codex", "codex/codex"].map(|program| triple.join(program)))
        .find(|path| path.is_file())?;
    launcher.is_file().then_some(RealCodex {
        launcher,
        program: native.clone(),
        native,
    })
}

impl RealCodex {
    /// Checks that the launcher runs on this machine, which needs `node`.
    fn check(self, wanted: &str) -> Result<Self, String> {
        let home = new_user_home();
        let printed = Command::new(&self.launcher)
            .arg("--version")
            .env("HOME", home.path())
            .env("CODEX_HOME", home.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.launcher.display()))?;
        let version = String::from_utf8_lossy(&printed.stdout);
        if printed.status.success() && version.trim() == format!("codex-cli {wanted}") {
            return Ok(self);
        }
        let stderr = String::from_utf8_lossy(&printed.stderr);
        Err(format!(
            "{} is not {wanted}: {version}{stderr}",
            self.launcher.display()
        ))
    }
}
