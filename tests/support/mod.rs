//! Support for the tests.

pub(crate) mod aftermath;
pub(crate) mod archives;
pub(crate) mod browser;
pub(crate) mod cloud;
pub(crate) mod conversations;
pub(crate) mod env;
pub(crate) mod fake_codex;
pub(crate) mod faults;
pub(crate) mod folder_snapshot;
pub(crate) mod fuzzing;
pub(crate) mod held_lock;
pub(crate) mod hostile;
pub(crate) mod imports;
pub(crate) mod injection;
pub(crate) mod kinds;
pub(crate) mod lab;
pub(crate) mod launched;
pub(crate) mod mcp_client;
pub(crate) mod memory;
pub(crate) mod mock_backend;
pub(crate) mod pair;
pub(crate) mod pauses;
pub(crate) mod processes;
pub(crate) mod profiles;
pub(crate) mod real_codex;
pub(crate) mod restic;
pub(crate) mod sample;
pub(crate) mod secret_samples;
pub(crate) mod shapes;
pub(crate) mod sign_in;
pub(crate) mod skips;
pub(crate) mod snapshot_store;
pub(crate) mod syncthing;
pub(crate) mod terminal;
pub(crate) mod tool_install;
pub(crate) mod two_machines;
pub(crate) mod usage_lines;
pub(crate) mod variables;

/// Creates a named pipe.
pub(crate) fn create_pipe(path: &std::path::Path) -> std::io::Result<()> {
    // rustix has no call for it on macOS.
    let status = std::process::Command::new("mkfifo")
        .arg("-m")
        .arg("600")
        .arg(path)
        .status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| std::io::Error::other("mkfifo"))
}

/// Copies a file or a folder with its times and permissions. A folder that exists at `to` gets the copy inside.
pub(crate) fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg("-a").args([from, to]).status();
    assert!(copied.expect("start cp").success());
}

/// Returns a loopback port without a listener.
pub(crate) fn find_free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Writes an executable script in another process. A concurrent fork of this process could inherit
/// the open file, and executing the script would fail with ETXTBSY.
pub(crate) fn write_program(path: &std::path::Path, text: &str) {
    use std::io::Write;
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("start sh");
    let stdin = writer.stdin.take();
    stdin
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("write the script");
    assert!(writer.wait().expect("wait for sh").success());
}
