//! A part of the terminal below the cursor. All movements are relative to its first line, because asking
//! the terminal for the position of the cursor would need stdout, which may be a pipe.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use codex_manager_core::io::ansi::to_printable_line;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::style::{Color, Modifier};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Makes the terminal mark what is pasted, so that a line end in it is not the key Enter. On Windows crossterm does not
/// read the marks. If a terminal never sends the mark of the end, crossterm keeps all further keys; a signal still ends
/// the picker.
const MARK_PASTES: &str = if cfg!(unix) { "\x1b[?2004h" } else { "" };

const MARK_NO_PASTES: &str = if cfg!(unix) { "\x1b[?2004l" } else { "" };

/// Erases everything from the line of the cursor on, and shows the cursor.
const CLEAR: &str = "\r\x1b[J\x1b[?25h";

static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Returns true while a picker has the terminal.
pub(crate) fn is_open() -> bool {
    IS_OPEN.load(Ordering::SeqCst)
}

/// Restores the terminal if a picker has it. May be called from any thread.
pub(crate) fn restore_terminal() {
    if IS_OPEN.swap(false, Ordering::SeqCst) {
        let _ = write_to_stderr(&format!("{MARK_NO_PASTES}{CLEAR}"));
        let _ = disable_raw_mode();
    }
}

/// Lines below the cursor, in raw mode. The cursor stays in the first one, so that all of them can be
/// erased after the terminal has wrapped them anew. Restores the terminal when dropped.
pub(super) struct InlineScreen {
    shown: Buffer,
}

impl InlineScreen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// There is no terminal.
    pub(super) fn open() -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::SeqCst);
        // Restores the terminal if the next step fails.
        let screen = Self {
            shown: Buffer::default(),
        };
        extend_raw_mode()?;
        Ok(screen)
    }

    /// Erases everything and reserves `height` lines.
    pub(super) fn reserve_lines(&mut self, height: u16) -> io::Result<()> {
        self.shown = Buffer::default();
        write_to_stderr(&format!("{CLEAR}{}", encode_line_reservation(height)))
    }

    /// Shows a frame, with the cursor in its first line at the column `cursor`.
    pub(super) fn draw(&mut self, frame: Buffer, cursor: u16) -> io::Result<()> {
        if self.shown.area != frame.area {
            self.shown = Buffer::empty(frame.area);
        }

        // One write, so that the cursor is in the first line whenever a signal comes.
        let mut sequences = String::from("\x1b[?25l");
        // The position of the terminal's cursor. Its column is not known at first.
        let (mut column, mut line) = (u16::MAX, 0);

        for (x, y, cell) in self.shown.diff(&frame) {
            if (x, y) != (column, line) {
                sequences.push_str(&encode_vertical_move(line, y));
                sequences.push_str(&encode_column_move(x));
            }
            sequences.push_str(&encode_style(cell));
            sequences.push_str(&to_printable_line(cell.symbol()));
            (column, line) = (x + 1, y);
        }

        sequences.push_str("\x1b[0m");
        sequences.push_str(&encode_vertical_move(line, 0));
        sequences.push_str(&encode_column_move(cursor));
        sequences.push_str("\x1b[?25h");

        self.shown = frame;
        write_to_stderr(&sequences)
    }
}

/// Copies a text to the clipboard, if the terminal supports OSC 52. Call it only while a screen is open.
pub(super) fn copy_to_clipboard(text: &str) -> io::Result<()> {
    // The terminal owns the clipboard, also over ssh. tmux passes the sequence on with `set-clipboard on`.
    write_to_stderr(&format!("\x1b]52;c;{}\x07", BASE64.encode(text)))
}

impl Drop for InlineScreen {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Sets the modes of the terminal again if a shell has changed them while this process was stopped. Returns true if it
/// did so. The shell has then also written over the screen.
#[cfg(unix)]
pub(super) fn set_modes_after_stop() -> io::Result<bool> {
    use rustix::termios::{LocalModes, tcgetattr};

    let modes = tcgetattr(io::stdin())?.local_modes;
    // `is_open` comes last, because `restore_terminal` marks the screen as closed before it changes the modes.
    let was_changed = modes.contains(LocalModes::ICANON) && is_open();
    if was_changed {
        // crossterm 0.29 sets raw mode only if it is off by its own record.
        disable_raw_mode()?;
        enable_raw_mode()?;
        extend_raw_mode()?;
    }
    Ok(was_changed)
}

#[cfg(not(unix))]
pub(super) fn set_modes_after_stop() -> io::Result<bool> {
    Ok(false)
}

/// Sets the modes that the picker needs besides raw mode.
fn extend_raw_mode() -> io::Result<()> {
    #[cfg(unix)]
    return_from_reads_at_once()?;
    write_to_stderr(MARK_PASTES)
}

/// Makes a read of the terminal return at once if there is no input. After a part of an escape sequence, crossterm 0.29
/// reads again, and would ignore signals, answers and changes of the size until the next key. Needs `use-dev-tty`,
/// because its other source of events would read without end.
#[cfg(unix)]
fn return_from_reads_at_once() -> io::Result<()> {
    use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

    let stdin = io::stdin();
    let mut modes = tcgetattr(&stdin)?;
    modes.special_codes[SpecialCodeIndex::VMIN] = 0;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    Ok(tcsetattr(&stdin, OptionalActions::Now, &modes)?)
}

/// The time for which crossterm 0.29 looks for an event. It reads the clock six times before it looks the first time,
/// and does not look if the time has passed by then: with 20 µs it never sees a key if one reading takes 7 µs.
const EVENT_TIMEOUT: Duration = Duration::from_micros(200);

/// Returns true if crossterm has an event. May miss one, so call it again.
pub(super) fn has_event() -> io::Result<bool> {
    crossterm::event::poll(EVENT_TIMEOUT)
}

/// Waits until there is input, at most for `limit`. May return early.
///
/// # Errors
/// The terminal is gone. crossterm 0.29 would report neither an event nor an error.
#[cfg(unix)]
pub(super) fn wait_for_input(limit: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    // Fails only for more than 2^63 seconds. `None` waits without a limit.
    let timeout = Timespec::try_from(limit).ok();
    match poll(&mut fds, timeout.as_ref()) {
        // A signal interrupted the wait. The caller decides what follows.
        Err(rustix::io::Errno::INTR) => return Ok(()),
        result => result?,
    };

    let events = fds[0].revents();
    // poll(2) of macOS does not support devices and answers POLLNVAL.
    let is_unpollable = events.contains(PollFlags::NVAL) && io::IsTerminal::is_terminal(&stdin);
    if is_unpollable {
        return crossterm::event::poll(limit).map(drop);
    }

    if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        let why = "the terminal was closed";
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, why));
    }
    Ok(())
}

/// Waits until there is input, at most for `limit`.
#[cfg(not(unix))]
pub(super) fn wait_for_input(limit: Duration) -> io::Result<()> {
    crossterm::event::poll(limit).map(drop)
}

/// Returns the escape sequence that scrolls until `height` lines, from the cursor on, fit on the screen. The cursor is
/// then in the first of them.
fn encode_line_reservation(height: u16) -> String {
    let below = height.saturating_sub(1);
    format!(
        "\r{}{}",
        "\n".repeat(below.into()),
        encode_vertical_move(below, 0)
    )
}

fn encode_vertical_move(from: u16, to: u16) -> String {
    match to.cmp(&from) {
        std::cmp::Ordering::Less => format!("\x1b[{}A", from - to),
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!("\x1b[{}B", to - from),
    }
}

fn encode_column_move(column: u16) -> String {
    if column == 0 {
        "\r".into()
    } else {
        format!("\r\x1b[{column}C")
    }
}

fn encode_style(cell: &Cell) -> String {
    let mut codes = String::from("\x1b[0");
    for (modifier, code) in [
        (Modifier::BOLD, 1),
        (Modifier::DIM, 2),
        (Modifier::REVERSED, 7),
    ] {
        if cell.modifier.contains(modifier) {
            let _ = write!(codes, ";{code}");
        }
    }

    codes.push_str(match cell.fg {
        Color::Red => ";31m",
        Color::Green => ";32m",
        Color::Yellow => ";33m",
        _ => "m",
    });
    codes
}

fn write_to_stderr(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}

/// Restores the terminal before a panic is reported. A release build does not unwind.
fn restore_on_panic() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let previous_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            previous_hook(panic);
        }));
    });
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;
    use std::process::Command;

    /// Opens a pseudo terminal. Returns the user's end and the program's end.
    fn open_terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        // Not all systems can set this when they open it.
        fcntl_setfd(&master, FdFlags::CLOEXEC).expect("close on exec");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open(path);
        (File::from(master), slave.expect("open the terminal"))
    }

    /// Returns the modes of a terminal that reads lines and echoes them.
    fn line_modes(terminal: impl AsFd) -> LocalModes {
        let modes = tcgetattr(terminal).expect("read the modes").local_modes;
        modes & (LocalModes::ECHO | LocalModes::ICANON)
    }

    #[test]
    fn a_panic_restores_the_terminal() {
        const CHILD: &str = "CODEX_MANAGER_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            // A release build does not unwind, so that nothing is dropped.
            let mut screen = InlineScreen::open().unwrap();
            screen.reserve_lines(3).unwrap();
            std::mem::forget(screen);
            assert_eq!(line_modes(io::stdin()), LocalModes::empty());
            panic!("on purpose");
        }
        let (mut master, slave) = open_terminal();
        let before = line_modes(&master);
        assert_eq!(before, LocalModes::ECHO | LocalModes::ICANON);
        let share = || slave.try_clone().expect("duplicate the handle");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "ui::picker::screen::tests::a_panic_restores_the_terminal",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdin(share())
            .stdout(share())
            .stderr(share());
        let mut child = command.spawn().unwrap();
        // Both hold the terminal open, which would hide the end of the output.
        drop((command, slave));
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        // On Linux, reading fails with EIO after the last program has closed the terminal.
        while let Ok(n @ 1..) = master.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..n]);
        }
        let shown = String::from_utf8_lossy(&shown);
        assert!(!child.wait().unwrap().success(), "{shown}");
        assert!(shown.contains("on purpose"), "{shown}");
        assert_eq!(line_modes(&master), before, "{shown}");
    }
}
