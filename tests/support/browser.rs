//! A real browser without a window.

#![allow(clippy::print_stdout, reason = "a skipped test prints the reason")]
#![allow(
    clippy::disallowed_methods,
    reason = "the rules for the environment are the program's"
)]

use super::pauses::wait_until;
use super::skips::skip;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The browser of the system.
pub(crate) struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
    /// A server that answers every request of the browser.
    server: TcpListener,
}

/// A page as the browser shows it.
#[derive(Debug)]
pub(crate) struct ShownPage {
    /// The elements of the page as HTML.
    pub elements: String,
    /// The messages of the browser's console.
    pub console: Vec<String>,
    /// The number of connections to the server.
    pub connections: usize,
}

impl Browser {
    /// Returns the browser. Without one it skips the test and returns `None`.
    ///
    /// # Panics
    /// There is none and `CODEX_MANAGER_E2E=require`.
    pub(crate) fn installed() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found = names.map(|name| Path::new("/usr/bin").join(name));
        let found = found.into_iter().find(|path| path.is_file());
        if found.is_none() {
            skip("chromium", "apt-get install chromium");
        }
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        server.set_nonblocking(true).expect("not blocking");
        Some(Self {
            program: found?,
            profile: tempfile::tempdir().expect("folder"),
            server,
        })
    }

    /// Returns the address of the server, without its protocol.
    pub(crate) fn address(&self) -> String {
        self.server.local_addr().expect("an address").to_string()
    }

    /// Opens a page and returns it when it is loaded.
    pub(crate) fn open(&self, page: &Path) -> ShownPage {
        self.open_with(page, &[])
    }

    /// Like [`Browser::open`], with more options of the browser.
    pub(crate) fn open_with(&self, page: &Path, options: &[&str]) -> ShownPage {
        let mut child = Command::new(&self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--dump-dom",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-proxy-server",
                "--enable-logging=stderr",
            ])
            .args(options)
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("file://{}", page.display()))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("start the browser");
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let text = |from: &mut dyn std::io::Read| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).expect("read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (elements, log, connections) = std::thread::scope(|scope| {
            let elements = scope.spawn(move || text(stdout.as_mut().expect("stdout")));
            let log = scope.spawn(move || text(stderr.as_mut().expect("stderr")));
            let mut connections = 0;
            wait_until("the browser ends", || {
                connections += self.answer_connections();
                child.try_wait().expect("a state").is_some()
            });
            connections += self.answer_connections();
            (
                elements.join().expect("elements"),
                log.join().expect("log"),
                connections,
            )
        });
        assert!(elements.contains("</html>"), "the browser failed: {log}");
        let console = log.lines().filter(|line| line.contains("CONSOLE"));
        ShownPage {
            elements,
            console: console.map(str::to_owned).collect(),
            connections,
        }
    }

    /// Answers the waiting connections, and returns their number.
    fn answer_connections(&self) -> usize {
        let mut count = 0;
        loop {
            match self.server.accept() {
                Ok((mut connection, _)) => {
                    count += 1;
                    // A browser may open connections without sending a request.
                    let _ = connection.write_all(
                        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    );
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return count,
                Err(e) => panic!("the server failed: {e}"),
            }
        }
    }
}
