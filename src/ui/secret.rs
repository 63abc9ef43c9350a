//! Reads a passphrase without echo.

use crate::io::secret::SecretBytes;

/// The user pressed Ctrl-C.
#[derive(Debug)]
pub(super) struct Cancelled;

/// Reads a line from the terminal without echo. Calls `ask` to print the question once echo is off,
/// so that early input is neither shown nor lost. `None` for an empty line or Ctrl-D. Signals are read
/// as characters, so that the terminal is never left without echo.
#[cfg(unix)]
pub(super) fn read_line(ask: impl FnOnce()) -> Result<Option<SecretBytes>, Cancelled> {
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
    use std::io::Read;
    let stdin = std::io::stdin();
    let Ok(before) = tcgetattr(&stdin) else {
        return Ok(None);
    };
    let mut mute = before.clone();
    mute.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    mute.special_codes[SpecialCodeIndex::VMIN] = 1;
    mute.special_codes[SpecialCodeIndex::VTIME] = 0;
    if tcsetattr(&stdin, OptionalActions::Flush, &mute).is_err() {
        return Ok(None);
    }
    ask();
    let mut line = Vec::new();
    let (mut given, mut cancelled) = (false, false);
    for byte in stdin.lock().bytes() {
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
    let _ = tcsetattr(&stdin, OptionalActions::Now, &before);
    if cancelled {
        return Err(Cancelled);
    }
    Ok((given && !line.is_empty()).then(|| SecretBytes::new(line)))
}

/// There is no way to do so from the standard library.
#[cfg(not(unix))]
pub(super) fn read_line(_ask: impl FnOnce()) -> Result<Option<SecretBytes>, Cancelled> {
    Ok(None)
}
