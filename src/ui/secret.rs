//! Reads a passphrase without echo.

use crate::io::secret::SecretBytes;
#[cfg(unix)]
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
#[cfg(unix)]
use std::io::{Read as _, stdin};
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};

/// The modes of the terminal before echo was turned off.
#[cfg(unix)]
static MODES_WITH_ECHO: Mutex<Option<Termios>> = Mutex::new(None);

/// The user pressed Ctrl-C.
#[derive(Debug)]
pub(super) struct Cancelled;

/// Reads a line from the terminal without echo. Calls `ask` to print the question once echo is off,
/// so that early input is neither shown nor lost. `None` for an empty line or Ctrl-D. The keys that send
/// signals are read as characters; the handler of other signals calls [`restore_echo`].
#[cfg(unix)]
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
fn turn_echo_off() -> rustix::io::Result<()> {
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

/// Echo is never turned off here.
#[cfg(not(unix))]
pub(super) fn restore_echo() {}

/// There is no way to do so from the standard library.
#[cfg(not(unix))]
pub(super) fn read_line(_ask: impl FnOnce()) -> Result<Option<SecretBytes>, Cancelled> {
    Ok(None)
}
