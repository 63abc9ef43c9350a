//! A terminal for programs that want one: the picker, and Codex's own interface.
//!
//! A pseudo-terminal whose screen is all that was written to it, without what steers it. Questions
//! that Codex puts to a terminal before it draws are answered.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program on a terminal of its own. Its process group is killed on drop.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts the command in a terminal.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::open(command, 120, true)
    }

    /// Starts the command in a terminal of this width, without a user.
    pub(crate) fn watch(command: &mut Command, columns: u16) -> Self {
        Self::open(command, columns, false)
    }

    fn open(command: &mut Command, columns: u16, is_attended: bool) -> Self {
        let (keys, slave) = pair(columns);
        let share = || slave.try_clone().expect("share it");
        command.stdout(share()).stderr(share());
        if is_attended {
            command.stdin(share());
        }
        let child = command.process_group(0).spawn().expect("start");
        drop(slave);
        // The command keeps its handles until it is dropped: without this the end is never seen.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut output = keys.try_clone().expect("share it");
        let mut answers = keys.try_clone().expect("share it");
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Linux ends with EIO when the last program has closed it.
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                for (question, answer) in ANSWERS {
                    let asked = buffer[..n].windows(question.len());
                    for _ in asked.filter(|part| *part == question) {
                        let _ = answers.write_all(answer);
                    }
                }
                shown.0.lock().expect("the screen").extend(&buffer[..n]);
                shown.1.notify_all();
            }
        });
        Self {
            child,
            keys,
            screen,
            reader: Some(reader),
        }
    }

    /// Starts the command in a terminal, and closes that as soon as it shows `wanted`. Returns the end of the
    /// command, which gets no signal: its terminal is not the one that controls it.
    pub(crate) fn hang_up(command: &mut Command, wanted: &str) -> ExitStatus {
        let (mut master, slave) = pair(120);
        let share = || slave.try_clone().expect("share it");
        command.stdin(share()).stdout(share()).stderr(share());
        let mut child = command.process_group(0).spawn().expect("start");
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        drop(slave);
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while !plain(&shown).contains(wanted) {
            let n = master.read(&mut buffer).expect("read");
            shown.extend(&buffer[..n]);
        }
        drop(master);
        child.wait().expect("its end")
    }

    /// Changes the size of the terminal, and has the program notice it.
    pub(crate) fn resize(&mut self, columns: u16, lines: u16) {
        tcsetwinsize(&self.keys, size(columns, lines)).expect("its size");
        super::processes::signal_group("WINCH", self.child.id());
    }

    /// Sends this signal to the program.
    pub(crate) fn signal(&self, name: &str) {
        super::processes::signal_group(name, self.child.id());
    }

    /// Returns true if the terminal shows what is typed and takes lines.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.keys).expect("its modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Returns what a user sees: the lines of the screen that the output so far leaves, without empty ones
    /// at the end.
    pub(crate) fn picture(&self, columns: u16, lines: u16) -> String {
        let size = |n| std::num::NonZero::new(n).expect("a size");
        let mut screen = vt100::Parser::new(size(lines), size(columns), 0);
        screen.process(&self.screen.0.lock().expect("the screen"));
        let contents = screen.screen().contents();
        let lines: Vec<_> = contents.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until the picture fulfils a condition; panics with it when it does not within `limit`.
    #[track_caller]
    pub(crate) fn wait_until(
        &self,
        (columns, lines): (u16, u16),
        limit: Duration,
        is_wanted: impl Fn(&str) -> bool,
    ) -> String {
        let end = Instant::now() + limit;
        loop {
            let shown = self.screen.0.lock().expect("the screen");
            let left = end.saturating_duration_since(Instant::now());
            let (shown, waited) = self
                .screen
                .1
                .wait_timeout(shown, left.min(TICK))
                .expect("wait");
            drop(shown);
            let picture = self.picture(columns, lines);
            if is_wanted(&picture) {
                return picture;
            }
            assert!(
                !left.is_zero() || !waited.timed_out(),
                "never shown:\n{picture}"
            );
        }
    }

    /// Types these keys into the terminal.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("type");
    }

    /// Returns the output so far, in its order.
    pub(crate) fn text(&self) -> String {
        plain(&self.screen.0.lock().expect("the screen"))
    }

    /// Returns the output so far with its colours.
    pub(crate) fn colored(&self) -> String {
        let screen = self.screen.0.lock().expect("the screen");
        String::from_utf8_lossy(&screen).replace('\r', "")
    }

    /// Forgets what was shown so far.
    pub(crate) fn forget(&self) {
        self.screen.0.lock().expect("the screen").clear();
    }

    /// Waits until this is shown; panics with the screen when it is not within `limit`.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) {
        let shown = self.shows(wanted, limit);
        assert!(shown, "never shown: {wanted:?}\n{}", self.text());
    }

    /// Waits until the output contains this text; false after `limit`.
    #[must_use]
    pub(crate) fn shows(&self, wanted: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut shown = self.screen.0.lock().expect("the screen");
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if plain(&shown).contains(wanted) || left.is_zero() {
                return plain(&shown).contains(wanted);
            }
            shown = self.screen.1.wait_timeout(shown, left).expect("wait").0;
        }
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("its end");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        super::processes::signal_group("KILL", self.child.id());
        let _ = self.child.wait();
    }
}

/// Opens a terminal of this width: the side of the user and that of the program.
fn pair(columns: u16) -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a pseudo-terminal");
    grantpt(&master).expect("grant it");
    unlockpt(&master).expect("unlock it");
    tcsetwinsize(&master, size(columns, LINES)).expect("its size");
    let name = ptsname(&master, Vec::new()).expect("its name");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let slave = OpenOptions::new().read(true).write(true).open(path);
    (File::from(master), slave.expect("open it"))
}

/// The lines of a terminal, unless it is resized.
pub(crate) const LINES: u16 = 40;

/// The longest wait for output before the picture is looked at again.
const TICK: Duration = Duration::from_millis(50);

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// The answers of the terminal to queries: position of the cursor, capabilities, colours.
const ANSWERS: [(&[u8], &[u8]); 5] = [
    (b"\x1b[6n", b"\x1b[1;1R"),
    (b"\x1b[c", b"\x1b[?62;c"),
    (b"\x1b[?u", b"\x1b[?0u"),
    (b"\x1b]10;?", b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\"),
    (b"\x1b]11;?", b"\x1b]11;rgb:0000/0000/0000\x1b\\"),
];

/// Without what steers a terminal; a move of the cursor is a blank.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\x1b' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => {
                let last = chars.by_ref().find(|c| ('@'..='~').contains(c));
                if last != Some('m') {
                    plain.push(' ');
                }
            }
            Some(']') => {
                while let Some(c) = chars.next() {
                    if c == '\x07' || (c == '\x1b' && chars.next() == Some('\\')) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    plain
}
