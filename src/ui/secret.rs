//! Reads a passphrase without echo.

use crate::io::secret::SecretBytes;

/// Reads a line from the terminal without echo. Calls `ask` to print the question once echo is off,
/// so that early input is neither shown nor lost. `None` for an empty line, Ctrl-C or Ctrl-D:
/// signals are read as characters, so that the terminal is never left without echo.
#[cfg(unix)]
pub(super) fn read_line(ask: impl FnOnce()) -> Option<SecretBytes> {
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
    use std::io::Read;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut mute = before.clone();
    mute.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    mute.special_codes[SpecialCodeIndex::VMIN] = 1;
    mute.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&stdin, OptionalActions::Flush, &mute).ok()?;
    ask();
    let mut line = Vec::new();
    let mut given = false;
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
            Ok(3 | 4) | Err(_) => break,
            Ok(byte) => line.push(byte),
        }
    }
    let _ = tcsetattr(&stdin, OptionalActions::Now, &before);
    (given && !line.is_empty()).then(|| SecretBytes::new(line))
}

/// There is no way to do so from the standard library.
#[cfg(not(unix))]
pub(super) fn read_line(_ask: impl FnOnce()) -> Option<SecretBytes> {
    None
}
