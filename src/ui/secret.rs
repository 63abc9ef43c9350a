//! Reads a passphrase without echo.

use crate::error::{CommandError, Result};
use codex_manager_core::io::secret::SecretBytes;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::io::{self, Read as _, stdin};
use std::sync::{Mutex, PoisonError};

/// True while the terminal is in raw mode: without echo and line editing, and with Ctrl-C as an ordinary character.
static IS_RAW: Mutex<bool> = Mutex::new(false);

/// Reads a line from the terminal without echo. Calls `print_question` once echo is off,
/// so that early input is neither shown nor lost. `None` for an empty line or Ctrl-D, and if the terminal cannot be
/// read. The keys that send signals are read as characters; the handler of other signals calls [`restore_echo`].
///
/// # Errors
/// The user pressed Ctrl-C.
pub(super) fn read_line(print_question: impl FnOnce()) -> Result<Option<SecretBytes>> {
    if turn_echo_off().is_err() {
        return Ok(None);
    }

    print_question();
    let mut line = Vec::new();
    let mut is_entered = false;
    for byte in stdin().lock().bytes() {
        match byte {
            Ok(b'\n' | b'\r') => {
                is_entered = true;
                break;
            }
            // Backspace, which terminals send as DEL or BS.
            Ok(0x7f | 0x08) => {
                // Also the bytes 0b10xxxxxx, with which a character of several bytes ends.
                while line.pop().is_some_and(|byte: u8| byte & 0xC0 == 0x80) {}
            }
            // Ctrl-U. The terminal does not edit in raw mode.
            Ok(0x15) => line.clear(),
            // Ctrl-C, which raw mode makes a character.
            Ok(3) => {
                restore_echo();
                return Err(CommandError::cancelled());
            }
            // Ctrl-D.
            Ok(4) | Err(_) => break,
            Ok(byte) => line.push(byte),
        }
    }

    restore_echo();
    Ok((is_entered && !line.is_empty()).then(|| SecretBytes::new(line)))
}

fn turn_echo_off() -> io::Result<()> {
    // Locked until echo is off, so that a signal handler never restores it before.
    let mut is_raw = IS_RAW.lock().unwrap_or_else(PoisonError::into_inner);
    enable_raw_mode()?;
    *is_raw = true;
    Ok(())
}

/// Turns echo on again if [`read_line`] has turned it off. May be called from any thread.
pub(super) fn restore_echo() {
    let mut is_raw = IS_RAW.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *is_raw) {
        let _ = disable_raw_mode();
    }
}
