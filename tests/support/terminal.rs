//! A pseudo-terminal for interactive programs: the picker, and Codex's own interface.
//!
//! It records all output of the program. It answers the queries that Codex sends to a terminal before
//! it draws.

use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program on its own terminal. Its process group is killed on drop.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts the command in a terminal.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::attend(command, 120)
    }

    /// Starts the command in a terminal of this width.
    pub(crate) fn attend(command: &mut Command, columns: u16) -> Self {
        Self::open(command, columns, true)
    }

    /// Starts the command in a terminal of this width, with an empty standard input.
    pub(crate) fn watch(command: &mut Command, columns: u16) -> Self {
        Self::open(command, columns, false)
    }

    fn open(command: &mut Command, columns: u16, is_attended: bool) -> Self {
        let (keys, slave) = open_pty(columns);
        let share = || slave.try_clone().expect("duplicate the handle");
        command.stdout(share()).stderr(share());
        if is_attended {
            command.stdin(share());
        }
        let child = command.process_group(0).spawn().expect("start");
        drop(slave);
        // The command holds the terminal open until it is dropped, which would hide the end of the output.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut output = keys.try_clone().expect("duplicate the handle");
        let mut answers = keys.try_clone().expect("duplicate the handle");
        let screen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // On Linux, reading fails with EIO after the last program has closed the terminal.
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

    /// Starts the command in a terminal, closes the terminal as soon as it shows `wanted`, and waits for the
    /// command. The command gets no SIGHUP, because the terminal is not its controlling terminal.
    pub(crate) fn hang_up(command: &mut Command, wanted: &str) -> ExitStatus {
        let (mut master, slave) = open_pty(120);
        let share = || slave.try_clone().expect("duplicate the handle");
        command.stdin(share()).stdout(share()).stderr(share());
        let mut child = command.process_group(0).spawn().expect("start");
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        drop(slave);
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while !strip_escapes(&shown).contains(wanted) {
            let n = master.read(&mut buffer).expect("read");
            shown.extend(&buffer[..n]);
        }
        drop(master);
        child.wait().expect("wait for the program")
    }

    /// Changes the size of the terminal and sends SIGWINCH to the program.
    pub(crate) fn resize(&mut self, columns: u16, lines: u16) {
        tcsetwinsize(&self.keys, size(columns, lines)).expect("set the size");
        super::processes::signal_group("WINCH", self.child.id());
    }

    /// Sends this signal to the program.
    pub(crate) fn signal(&self, name: &str) {
        super::processes::signal_group(name, self.child.id());
    }

    /// Returns true if the terminal echoes input and reads lines (canonical mode).
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.keys).expect("read the modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Makes the terminal echo input and read lines, as a shell does when it stops a job.
    pub(crate) fn make_cooked(&self) {
        let mut modes = tcgetattr(&self.keys).expect("read the modes");
        modes
            .local_modes
            .insert(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(&self.keys, OptionalActions::Now, &modes).expect("set the modes");
    }

    /// Returns the lines of the screen after the output so far, as the user sees them, without trailing empty
    /// lines.
    pub(crate) fn picture(&self, columns: u16, lines: u16) -> String {
        let size = |n| std::num::NonZero::new(n).expect("a size");
        let mut screen = vt100::Parser::new(size(lines), size(columns), 0);
        screen.process(&self.screen.0.lock().expect("the screen"));
        let contents = screen.screen().contents();
        let lines: Vec<_> = contents.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Like [`Self::picture`], with the colours as escape sequences.
    pub(crate) fn colored_picture(&self, columns: u16, lines: u16) -> String {
        let size = |n| std::num::NonZero::new(n).expect("a size");
        let mut parser = vt100::Parser::new(size(lines), size(columns), 0);
        parser.process(&self.screen.0.lock().expect("the screen"));
        let screen = parser.screen();
        let style = |cell: &vt100::Cell| {
            let color = match cell.fgcolor() {
                vt100::Color::Idx(n) if n < 8 => format!(";{}", 30 + n),
                _ => String::new(),
            };
            let is_set = [cell.bold(), cell.dim(), cell.inverse()];
            let styles = is_set.into_iter().zip([";1", ";2", ";7"]);
            let styles: String = styles
                .filter(|(is_set, _)| *is_set)
                .map(|(_, code)| code)
                .collect();
            format!("\u{1b}[0{color}{styles}m")
        };
        let mut picture = String::new();
        for line in 0..lines {
            let mut last = String::new();
            for cell in (0..columns).filter_map(|column| screen.cell(line, column)) {
                let style = style(cell);
                if style != last {
                    picture += &style;
                    last = style;
                }
                picture += if cell.has_contents() {
                    cell.contents()
                } else {
                    " "
                };
            }
            picture += "\u{1b}[0m\n";
        }
        picture
    }

    /// Waits until the picture satisfies a condition, and returns it. Panics with the picture after `limit`.
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
                "not shown within the time limit:\n{picture}"
            );
        }
    }

    /// Types these keys into the terminal.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("type");
    }

    /// Returns the output so far, without escape sequences.
    pub(crate) fn text(&self) -> String {
        strip_escapes(&self.screen.0.lock().expect("the screen"))
    }

    /// Returns the output so far, with escape sequences.
    pub(crate) fn colored(&self) -> String {
        let screen = self.screen.0.lock().expect("the screen");
        String::from_utf8_lossy(&screen).replace('\r', "")
    }

    /// Discards the output so far.
    pub(crate) fn forget(&self) {
        self.screen.0.lock().expect("the screen").clear();
    }

    /// Waits until the output contains this text. Panics with the output after `limit`.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) {
        let shown = self.shows(wanted, limit);
        assert!(
            shown,
            "not shown within the time limit: {wanted:?}\n{}",
            self.text()
        );
    }

    /// Waits until the output contains this text. Returns false after `limit`.
    #[must_use]
    pub(crate) fn shows(&self, wanted: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut shown = self.screen.0.lock().expect("the screen");
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if strip_escapes(&shown).contains(wanted) || left.is_zero() {
                return strip_escapes(&shown).contains(wanted);
            }
            shown = self.screen.1.wait_timeout(shown, left).expect("wait").0;
        }
    }

    /// Waits for the end of the program and of its output.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("wait for the program");
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

/// Opens a pseudo-terminal of this width. Returns the user's end and the program's end.
fn open_pty(columns: u16) -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    // Not all systems can set this when they open it.
    fcntl_setfd(&master, FdFlags::CLOEXEC).expect("close on exec");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    tcsetwinsize(&master, size(columns, LINES)).expect("set the size");
    let name = ptsname(&master, Vec::new()).expect("ptsname");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    // A session leader would get SIGHUP at the end of the program.
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let mut options = OpenOptions::new();
    let slave = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path);
    (File::from(master), slave.expect("open the terminal"))
}

/// The initial number of lines of a terminal.
pub(crate) const LINES: u16 = 40;

/// The maximum time between two checks of the picture.
const TICK: Duration = Duration::from_millis(50);

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Queries and answers of the terminal: cursor position, capabilities, colours.
const ANSWERS: [(&[u8], &[u8]); 5] = [
    (b"\x1b[6n", b"\x1b[1;1R"),
    (b"\x1b[c", b"\x1b[?62;c"),
    (b"\x1b[?u", b"\x1b[?0u"),
    (b"\x1b]10;?", b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\"),
    (b"\x1b]11;?", b"\x1b]11;rgb:0000/0000/0000\x1b\\"),
];

/// Removes escape sequences. A cursor movement becomes a blank.
fn strip_escapes(bytes: &[u8]) -> String {
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
