//! Two real Syncthing processes that share one folder, on loopback only: no discovery, no relays, no port mapping,
//! no usage reports, no upgrades. They do not watch the folder; a test starts each exchange.

#![allow(
    clippy::print_stdout,
    reason = "a skipped test is reported in its output"
)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::find_free_port;
use super::skips::skip;

/// The id of the shared folder.
const FOLDER: &str = "codex";
const API_KEY: &str = "loopback-test";
/// The time limit of every wait.
const LIMIT: Duration = Duration::from_secs(60);
/// The number of starts, each with other ports.
const ATTEMPTS: usize = 5;

/// A Syncthing process. Killed when dropped.
pub(crate) struct Syncthing {
    child: Child,
    api_port: u16,
    folder: PathBuf,
}

/// Two Syncthing processes, each with its copy of the shared folder.
pub(crate) struct SharedFolder {
    nodes: [Syncthing; 2],
}

fn command(home: &Path) -> Command {
    let mut command = Command::new("syncthing");
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", home).env("STNODEFAULTFOLDER", "1");
    // Disables Syncthing's monitor process.
    command.env("STMONITORED", "yes").env("STNOUPGRADE", "1");
    command.stdin(Stdio::null());
    command
}

impl SharedFolder {
    /// Starts both processes with their settings below `root`. Without Syncthing it skips the test and returns `None`.
    ///
    /// # Panics
    /// Syncthing is not installed and `CODEX_MANAGER_E2E=require`.
    pub(crate) fn start(root: &Path, folders: [&Path; 2]) -> Option<Self> {
        let version = Command::new("syncthing").arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            skip("syncthing", "it is missing");
            return None;
        }
        let homes = ["syncthing-a", "syncthing-b"].map(|name| root.join(name));
        let ids = homes.each_ref().map(|home| generate(home));
        // Another program can get a free port before Syncthing has it, and Syncthing ends then.
        let mut attempts = (0..ATTEMPTS).map(|_| Self::start_nodes(&homes, &ids, folders));
        let nodes = attempts.find_map(Result::ok);
        let shared = Self {
            nodes: nodes.expect("syncthing listens"),
        };
        for (node, other) in shared.nodes.iter().zip([&ids[1], &ids[0]]) {
            node.wait_until("the nodes are connected", || {
                let all = node.get("/rest/system/connections");
                all["connections"][other]["connected"] == true
            });
        }
        Some(shared)
    }

    /// Starts both processes at free ports.
    ///
    /// # Errors
    /// The output of a process that ended.
    fn start_nodes(
        homes: &[PathBuf; 2],
        ids: &[String; 2],
        folders: [&Path; 2],
    ) -> Result<[Syncthing; 2], Vec<String>> {
        let ports = [find_free_port(), find_free_port()];
        let start = |n: usize| {
            let (home, folder, api_port) = (&homes[n], folders[n], find_free_port());
            let text = configuration(ids, ports, n, folder, api_port);
            fs::write(home.join("config.xml"), text).expect("write the configuration");
            // Syncthing shares a folder only if it has this marker.
            fs::create_dir_all(folder.join(".stfolder")).expect("create the marker");
            Syncthing::start(home, folder, api_port)
        };
        Ok([start(0)?, start(1)?])
    }

    /// Scans both folders, and returns when they have the same files, except for ignored ones.
    pub(crate) fn exchange(&self) {
        for node in &self.nodes {
            node.scan();
        }
        let [a, b] = &self.nodes;
        b.wait_until("both have the same files", || {
            let is_done = |node: &Syncthing| {
                let status = node.get(&format!("/rest/db/status?folder={FOLDER}"));
                status["state"] == "idle" && status["needTotalItems"] == 0
            };
            let ignored = [a, b].map(Syncthing::read_ignore_patterns).concat();
            let files = |node: &Syncthing| {
                let mut files = files_below(&node.folder);
                files.retain(|path, _| !ignored.iter().any(|top| path.starts_with(top)));
                files
            };
            is_done(a) && is_done(b) && files(a) == files(b)
        });
    }

    /// Makes the second node ignore this entry and everything below; `None` removes the pattern.
    pub(crate) fn ignore_on_second(&self, entry: Option<&str>) {
        let patterns: Vec<&str> = entry.into_iter().collect();
        let body = json!({ "ignore": patterns });
        let path = format!("/rest/db/ignores?folder={FOLDER}");
        self.nodes[1].request("POST", &path, Some(&body));
    }
}

impl Syncthing {
    fn start(home: &Path, folder: &Path, api_port: u16) -> Result<Self, Vec<String>> {
        let mut command = command(home);
        command.args(["serve", "--no-browser", "--logflags=0"]);
        command.arg("--home").arg(home);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("start syncthing");
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        // Reads until the process ends, so that it never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let node = Self {
            child,
            api_port,
            folder: folder.to_path_buf(),
        };
        let mut context = Vec::new();
        let until = Instant::now() + LIMIT;
        while !context
            .iter()
            .any(|line: &String| line.contains("API listening on"))
        {
            let left = until.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => context.push(line),
                Err(e) => {
                    println!("syncthing does not listen ({e}): {context:#?}");
                    return Err(context);
                }
            }
        }
        Ok(node)
    }

    fn scan(&self) {
        let path = format!("/rest/db/scan?folder={FOLDER}");
        self.request("POST", &path, None);
    }

    /// Returns the ignore patterns of the node.
    fn read_ignore_patterns(&self) -> Vec<String> {
        let answer = self.get(&format!("/rest/db/ignores?folder={FOLDER}"));
        let patterns = answer["ignore"].as_array().into_iter().flatten();
        patterns
            .filter_map(|p| p.as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until `holds` returns true; checks it at each event of this node and every second.
    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + LIMIT;
        let mut since = 0;
        while !holds() {
            assert!(Instant::now() < until, "not within {LIMIT:?}: {what}");
            // Answers at the next event, or after one second.
            let events = self.get(&format!("/rest/events?since={since}&timeout=1"));
            let last = events.as_array().and_then(|events| events.last());
            since = last.map_or(since, |event| event["id"].as_u64().expect("an id"));
        }
    }

    fn get(&self, path: &str) -> Value {
        self.request("GET", path, None)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.api_port)).expect("connect to the API");
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("set the timeout");
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nX-API-Key: {API_KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("send the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read the answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 "), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}

impl Drop for Syncthing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Generates the keys of a node, and returns its id.
fn generate(home: &Path) -> String {
    fs::create_dir_all(home).expect("folder");
    let mut keys = command(home);
    keys.args(["generate", "--no-default-folder", "--skip-port-probing"]);
    let output = keys
        .arg("--home")
        .arg(home)
        .output()
        .expect("syncthing generate");
    assert!(output.status.success(), "{output:?}");
    let mut ask = command(home);
    let asked = ask
        .arg("--home")
        .arg(home)
        .arg("--device-id")
        .output()
        .expect("ask for the id");
    assert!(asked.status.success(), "{asked:?}");
    String::from_utf8_lossy(&asked.stdout).trim().to_owned()
}

fn configuration(
    ids: &[String; 2],
    ports: [u16; 2],
    own: usize,
    folder: &Path,
    api_port: u16,
) -> String {
    let member = |id: &String| format!("<device id=\"{id}\"/>");
    let members = ids.each_ref().map(member).concat();
    let device = |n: usize| {
        let (id, port) = (&ids[n], ports[n]);
        format!("<device id=\"{id}\"><address>tcp://127.0.0.1:{port}</address></device>")
    };
    let devices = [0, 1].map(device).concat();
    format!(
        "<configuration version=\"35\">\
         <folder id=\"{FOLDER}\" path=\"{}\" type=\"sendreceive\" rescanIntervalS=\"0\" fsWatcherEnabled=\"false\">\
         {members}<maxConflicts>10</maxConflicts></folder>{devices}\
         <gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{api_port}</address><apikey>{API_KEY}</apikey></gui>\
         <options><listenAddress>tcp://127.0.0.1:{}</listenAddress>\
         <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>\
         <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>\
         <stunKeepaliveStartS>0</stunKeepaliveStartS><reconnectionIntervalS>1</reconnectionIntervalS>\
         <urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>\
         <autoUpgradeIntervalH>0</autoUpgradeIntervalH><startBrowser>false</startBrowser>\
         </options></configuration>",
        folder.display(),
        ports[own]
    )
}

/// Returns the files of a folder by relative path, without Syncthing's own files.
fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".st") || name.starts_with(".syncthing.") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let relative = path.strip_prefix(folder).expect("below the folder");
                files.insert(relative.to_string_lossy().into_owned(), bytes);
            }
        }
    }
    files
}
