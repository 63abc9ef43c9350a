//! A hermetic environment for one test: its own homes, clock, zone and PATH.

use super::processes;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The path of `codex-manager`.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_codex-manager");

/// The default time of the commands.
pub(crate) const NOW: &str = "2026-11-20T12:00:00Z";

/// The environment of one test. Its folder is removed when dropped.
pub(crate) struct TestEnv {
    root: tempfile::TempDir,
    vars: BTreeMap<OsString, OsString>,
}

impl TestEnv {
    /// Creates an environment with empty homes, UTC, [`NOW`], and no Codex on PATH. Its files are in
    /// memory if there is space, because an fsync takes milliseconds on a disk;
    /// `CODEX_MANAGER_TESTS_ON_DISK` disables that.
    pub(crate) fn new() -> Self {
        #[cfg(target_os = "linux")]
        const MIN_FREE_BYTES: u64 = 1 << 30;
        let memory = Path::new("/dev/shm");
        // Containers mount `/dev/shm` with noexec. Other systems have no such folder.
        #[cfg(target_os = "linux")]
        let is_usable = rustix::fs::statvfs(memory).is_ok_and(|s| {
            s.f_bavail.saturating_mul(s.f_frsize) >= MIN_FREE_BYTES
                && !s.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC)
        });
        #[cfg(not(target_os = "linux"))]
        let is_usable = false;
        if is_usable && std::env::var_os("CODEX_MANAGER_TESTS_ON_DISK").is_none() {
            Self::inside(memory)
        } else {
            Self::on_disk()
        }
    }

    /// Like [`TestEnv::new`], but always on a disk: for files of hundreds of megabytes, for reused inode
    /// numbers, and for mounting overlays.
    pub(crate) fn on_disk() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    fn inside(parent: &Path) -> Self {
        let root = tempfile::Builder::new()
            .prefix("cm-test-")
            .tempdir_in(parent)
            .expect("temp dir");
        let mut env = Self {
            root,
            vars: BTreeMap::new(),
        };
        for folder in ["home", "bin", "tmp"] {
            std::fs::create_dir(env.path(folder)).expect("folder");
        }
        let mut path = env.path("bin").into_os_string();
        path.push(":/usr/bin:/bin");
        let (home, tmp) = (env.path("home"), env.path("tmp"));
        env.set("PATH", path);
        env.set("HOME", home);
        env.set("TMPDIR", tmp);
        env.set("TZ", "UTC");
        env.set("COLUMNS", "80");
        env.set("CODEX_MANAGER_NOW", NOW);
        env
    }

    /// Sets an environment variable of the commands.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.vars.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// Removes an environment variable of the commands.
    pub(crate) fn unset(&mut self, name: &str) -> &mut Self {
        self.vars.remove(OsStr::new(name));
        self
    }

    /// Returns a path in the folder of the test.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// Returns the Codex home, `~/.codex`.
    pub(crate) fn codex_home(&self) -> PathBuf {
        self.path("home/.codex")
    }

    /// Returns the manager home, `~/.codex-manager`.
    pub(crate) fn manager_home(&self) -> PathBuf {
        self.path("home/.codex-manager")
    }

    /// Writes a file (0644), and creates missing parent folders.
    pub(crate) fn write(&self, relative: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(&path, contents).expect("write");
        path
    }

    /// Waits until the clock of the file system has advanced, so that later files are newer than
    /// earlier ones.
    pub(crate) fn tick(&self) {
        let path = self.path(".tick");
        let stamp = || {
            std::fs::write(&path, "").expect("write");
            let meta = path.metadata().expect("stat");
            meta.modified().expect("a time")
        };
        let before = stamp();
        while stamp() == before {
            std::thread::yield_now();
        }
        std::fs::remove_file(&path).expect("remove");
    }

    /// Returns the command with these arguments, not started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        processes::wait_for_forked_children();
        let mut command = self.other_program(PROGRAM);
        command.args(args);
        command
    }

    /// Returns the command of another program, with the variables and the folder of [`Self::command`] and an empty
    /// input.
    pub(crate) fn other_program(&self, program: impl AsRef<OsStr>) -> Command {
        let search_path = self.vars.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let mut command = processes::command_without_variables(program.as_ref(), search_path);
        command
            .envs(&self.vars)
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command as a user without root's permissions, even if the tests run as root.
    #[must_use]
    pub(crate) fn run_unprivileged(&self, args: &[&str]) -> Run {
        self.run_unprivileged_program(PROGRAM, args)
    }

    /// Runs any program as a user without root's permissions.
    #[must_use]
    pub(crate) fn run_unprivileged_program(&self, program: &str, args: &[&str]) -> Run {
        let mut command = if rustix::process::geteuid().is_root() {
            let without = "-dac_override,-dac_read_search";
            let mut command = self.other_program("setpriv");
            command.args(["--bounding-set", without, "--inh-caps", without]);
            command.arg(program);
            command
        } else {
            self.other_program(program)
        };
        let output = command.args(args).output();
        Run::of(output.expect("start the program"), self.root.path())
    }

    /// Runs the command to its end.
    #[must_use]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::of(
            self.command(args).output().expect("start codex-manager"),
            self.root.path(),
        )
    }

    /// Runs a command with a time limit of 10 minutes. After that it is killed, and the test fails.
    #[must_use]
    #[track_caller]
    pub(crate) fn run_to_its_end<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        const TIME_LIMIT: Duration = Duration::from_secs(600);
        let mut command = self.command(args);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start codex-manager");
        let pid = rustix::process::Pid::from_child(&child);
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || ended.send(child.wait_with_output()));
        let Ok(output) = end.recv_timeout(TIME_LIMIT) else {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("the command does not end: {:?}", command.get_args());
        };
        Run::of(output.expect("wait"), self.root.path())
    }

    /// Runs the command with this text on its standard input.
    #[must_use]
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Run {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start codex-manager");
        // The command may end without reading its input; the closed pipe is not a failure.
        let _ = child
            .stdin
            .take()
            .expect("stdin")
            .write_all(input.as_bytes());
        Run::of(child.wait_with_output().expect("wait"), self.root.path())
    }

    /// Returns every file below `relative`: kind, mode, size, time and digest, ordered by path.
    pub(crate) fn tree(&self, relative: &str) -> Tree {
        Tree::of(&self.path(relative))
    }
}

/// The output and exit code of a command.
#[derive(Clone)]
pub(crate) struct Run {
    /// Standard output, with the test's folder written as `[ROOT]`.
    pub stdout: String,
    /// Standard error, with the same replacement.
    pub stderr: String,
    /// The exit code; -1 when it was killed.
    pub code: i32,
}

impl Run {
    fn of(output: std::process::Output, root: &Path) -> Self {
        let clean = |bytes: Vec<u8>| {
            String::from_utf8_lossy(&bytes).replace(&root.display().to_string(), "[ROOT]")
        };
        Self {
            stdout: clean(output.stdout),
            stderr: clean(output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Converts the output of a command that the test started itself; paths are not replaced.
    pub(crate) fn of_output(output: std::process::Output) -> Self {
        Self::of(output, Path::new("\0"))
    }

    /// Asserts the exit code; on failure prints the whole run.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "exit code\n{self}");
        self
    }

    /// Returns the only JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e})\n{self}"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The state of a file tree at one time.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tree(pub BTreeMap<PathBuf, String>);

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        Self::visit(root, root, &mut files);
        Self(files)
    }

    fn visit(root: &Path, path: &Path, files: &mut BTreeMap<PathBuf, String>) {
        use sha2::Digest;
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = path.symlink_metadata() else {
            return;
        };
        let name = path.strip_prefix(root).expect("below root").to_path_buf();
        let mode = meta.mode() & 0o7777;
        let text = if meta.is_symlink() {
            format!("link {}", std::fs::read_link(path).expect("link").display())
        } else if meta.is_dir() {
            for entry in std::fs::read_dir(path).into_iter().flatten() {
                let entry = entry.expect("entry");
                // FUSE keeps a deleted file under such a name until the kernel has released its last handle.
                if !entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(".fuse_hidden")
                {
                    Self::visit(root, &entry.path(), files);
                }
            }
            format!("folder {mode:o}")
        } else if meta.is_file() {
            let digest = std::fs::read(path).map(|b| format!("{:x}", sha2::Sha256::digest(b)));
            let digest = digest.map_or_else(|e| e.to_string(), |d| d[..16].to_owned());
            format!(
                "file {mode:o} {} {}.{:09} {digest}",
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            )
        } else {
            format!("special {mode:o}")
        };
        files.insert(name, text);
    }

    /// Returns the part of the tree below these top-level entries.
    pub(crate) fn only(&self, tops: &[&str]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(path, _)| tops.iter().any(|top| path.starts_with(top)))
                .map(|(p, t)| (p.clone(), t.clone()))
                .collect(),
        )
    }

    /// Returns the differences, one per line: `-` only in `self`, `+` only in `other`.
    pub(crate) fn diff(&self, other: &Self) -> String {
        let mut lines = Vec::new();
        for (path, text) in &self.0 {
            if other.0.get(path) != Some(text) {
                lines.push(format!("- {} {text}", path.display()));
            }
        }
        for (path, text) in &other.0 {
            if self.0.get(path) != Some(text) {
                lines.push(format!("+ {} {text}", path.display()));
            }
        }
        lines.join("\n")
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, text) in &self.0 {
            writeln!(f, "{} {text}", path.display())?;
        }
        Ok(())
    }
}

/// Asserts that two trees are equal; on failure prints the differences.
#[track_caller]
pub(crate) fn assert_same_tree(before: &Tree, after: &Tree) {
    assert!(before == after, "the tree changed:\n{}", before.diff(after));
}
