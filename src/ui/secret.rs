//! Reads a passphrase without echo.

use crate::io::secret::SecretBytes;
#[cfg(unix)]
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{self, Read as _, stdin};
#[cfg(not(unix))]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};

/// The modes of the terminal before echo was turned off.
#[cfg(unix)]
static MODES_WITH_ECHO: Mutex<Option<Termios>> = Mutex::new(None);

/// True while the console is in the raw mode.
#[cfg(not(unix))]
static IS_RAW: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(super) struct Cancelled;

/// Reads a line from the terminal without echo. Calls `ask` to print the question once echo is off,
/// so that early input is neither shown nor lost. `None` for an empty line or Ctrl-D. The keys that send
/// signals are read as characters; the handler of other signals calls [`restore_echo`].
pub(super) fn read_line(ask: impl FnOnce()) -> Result<Option<SecretBytes>, Cancelled> {
    if turn_echo_off().is_err() {
        return Ok(None);
    }
    ask();
    let mut line = Vec::new();
    let (mut given, mut cancelled) = (false, false);
    for byte in stdin().lock().bytes() {
        match byte {
            Ok(b'\n' | b'\r') => {
                given = true;
                break;
            }
            Ok(0x7f | 0x08) => {
                // A whole character, however many bytes it has.
                while line.pop().is_some_and(|byte: u8| byte & 0xC0 == 0x80) {}
            }
            Ok(0x15) => line.clear(),
            Ok(3) => {
                cancelled = true;
                break;
            }
            Ok(4) | Err(_) => break,
            Ok(byte) => line.push(byte),
        }
    }
    restore_echo();
    if cancelled {
        return Err(Cancelled);
    }
    Ok((given && !line.is_empty()).then(|| SecretBytes::new(line)))
}

#[cfg(unix)]
fn turn_echo_off() -> io::Result<()> {
    let modes = tcgetattr(stdin())?;
    let mut mute = modes.clone();
    mute.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    mute.special_codes[SpecialCodeIndex::VMIN] = 1;
    mute.special_codes[SpecialCodeIndex::VTIME] = 0;
    // Locked until echo is off, so that a signal handler never restores it before.
    let mut before = MODES_WITH_ECHO
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    tcsetattr(stdin(), OptionalActions::Flush, &mute)?;
    *before = Some(modes);
    Ok(())
}

/// Turns echo on again if [`read_line`] has turned it off. May be called from any thread.
#[cfg(unix)]
pub(super) fn restore_echo() {
    let mut before = MODES_WITH_ECHO
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(modes) = before.take() {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    }
}

/// Turns off echo, lines and the meaning of Ctrl-C.
#[cfg(not(unix))]
fn turn_echo_off() -> io::Result<()> {
    IS_RAW.store(true, Ordering::SeqCst);
    crossterm::terminal::enable_raw_mode()
}

/// Turns echo on again if [`read_line`] has turned it off. May be called from any thread.
#[cfg(not(unix))]
pub(super) fn restore_echo() {
    if IS_RAW.swap(false, Ordering::SeqCst) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}
