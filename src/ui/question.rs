//! Questions on the terminal, also for passphrases without echo, and Ctrl-C while one is open.

use super::{Ui, wrap, write_stderr};
use crate::error::{CommandError, Result};
use codex_manager_core::io::progress::block_on_input;
use codex_manager_core::io::secret::SecretBytes;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::fmt::Display;
use std::io::{self, BufRead as _, Read as _};
use std::sync::{Mutex, PoisonError};

/// The columns that stay free after a question: a blank and one letter. A longer answer wraps.
const ANSWER_COLUMNS: usize = 2;

/// The printer of the open question, which Ctrl-C prints with.
static OPEN_QUESTION: Mutex<Option<Ui>> = Mutex::new(None);

impl Ui {
    /// Asks a yes/no question on the terminal; any answer but `y` and `yes` is a no. `None` without a terminal, or if
    /// it cannot be read. Ask before anything is changed, because a Ctrl-C reports that nothing was changed.
    pub(crate) fn confirm(&self, question: impl Display) -> Option<bool> {
        let answer = self.read_answer(&format!("{question} [y/N]"))?;
        Some(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a line of text; `None` without a terminal or if the line is empty.
    pub(crate) fn ask(&self, question: impl Display) -> Option<String> {
        let answer = self.read_answer(&question.to_string());
        answer.filter(|answer| !answer.is_empty())
    }

    fn read_answer(&self, question: &str) -> Option<String> {
        if !self.interactive {
            return None;
        }

        let width = self.width_err.saturating_sub(ANSWER_COLUMNS);
        let mut answer = String::new();
        // The question is printed in this closure, so that Ctrl-C ends the process as soon as the user sees it.
        let read_result = self.block_with_open_question(|| {
            write_stderr(format_args!("{} ", wrap::wrap(question, 2, width)));
            io::stdin().lock().read_line(&mut answer)
        });
        read_result.ok()?;
        Some(answer.trim().to_owned())
    }

    /// Asks for a passphrase without echo; `None` without a terminal or if the passphrase is empty.
    ///
    /// # Errors
    /// The user pressed Ctrl-C.
    pub(crate) fn ask_secret(&self, question: impl Display) -> Result<Option<SecretBytes>> {
        if !self.interactive {
            return Ok(None);
        }
        let print_question = || write_stderr(format_args!("{question} "));
        let answer = self.block_with_open_question(|| read_secret_line(print_question));
        write_stderr(format_args!("\n"));
        answer
    }

    /// Asks for a new secret by two questions, and compares the answers. `noun`, such as "passphrase", names the secret
    /// in the error. `None` without a terminal, or if one answer is empty.
    ///
    /// # Errors
    /// The answers differ, or the user pressed Ctrl-C.
    pub(crate) fn ask_new_secret(
        &self,
        noun: &str,
        [question, repeat_question]: [&str; 2],
    ) -> Result<Option<SecretBytes>> {
        let Some(secret) = self.ask_secret(question)? else {
            return Ok(None);
        };
        let repeated = self.ask_secret(repeat_question)?;
        if repeated.as_ref().is_some_and(|again| *again != secret) {
            return Err(CommandError::usage(format!("the {noun}s differ"))
                .hint("run the same command again; nothing was changed"));
        }
        Ok(repeated)
    }

    fn block_with_open_question<T>(&self, read: impl FnOnce() -> T) -> T {
        replace_open_question(Some(self.clone()));
        let answer = block_on_input(read);
        replace_open_question(None);
        answer
    }
}

fn replace_open_question(ui: Option<Ui>) -> Option<Ui> {
    let mut open_question = OPEN_QUESTION.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *open_question, ui)
}

/// Prints the error of a cancelled command if a question is open, and turns echo on again. The handler of Ctrl-C and
/// SIGTERM calls it before it ends the process.
pub(crate) fn report_cancelled() {
    restore_echo();
    if let Some(ui) = replace_open_question(None) {
        // The terminal shows ^C after the question.
        write_stderr(format_args!("\n"));
        ui.error(&CommandError::cancelled());
    }
}

/// True while the terminal is in raw mode: without echo and line editing, and with Ctrl-C as an ordinary character.
static IS_RAW: Mutex<bool> = Mutex::new(false);

/// Reads a line from the terminal without echo. Calls `print_question` once echo is off, so that early input is neither
/// shown nor lost. `None` for an empty line or Ctrl-D, and if the terminal cannot be read. The keys that send signals
/// are read as characters; the handler of other signals calls [`restore_echo`].
///
/// # Errors
/// The user pressed Ctrl-C.
fn read_secret_line(print_question: impl FnOnce()) -> Result<Option<SecretBytes>> {
    if turn_echo_off().is_err() {
        return Ok(None);
    }

    print_question();
    let mut line: Vec<u8> = Vec::new();
    let mut is_entered = false;
    for byte in io::stdin().lock().bytes() {
        match byte {
            Ok(b'\n' | b'\r') => {
                is_entered = true;
                break;
            }
            // Backspace, which terminals send as DEL or BS.
            Ok(0x7f | 0x08) => {
                // Removes a whole UTF-8 character, of which all bytes but the first are 0b10xxxxxx.
                let char_start = line.iter().rposition(|byte| *byte & 0xC0 != 0x80);
                line.truncate(char_start.unwrap_or(0));
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

/// Turns echo on again if [`read_secret_line`] has turned it off. May be called from any thread.
fn restore_echo() {
    let mut is_raw = IS_RAW.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *is_raw) {
        let _ = disable_raw_mode();
    }
}
