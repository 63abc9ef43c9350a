//! Writes to stdout and stderr. All text passes through [`sanitize`], and without the tokens of the user's logins.

use codex_manager_core::codex::redaction::{hide_logins, hide_secrets};
use codex_manager_core::io::ansi;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The meaning of a text, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Good,
    /// A warning, shown in yellow.
    Warn,
    /// A failure, shown in red.
    Bad,
    Dim,
    Strong,
}

impl Style {
    /// All styles, in the order of their discriminants, which the lines of a table store.
    pub(super) const ALL: [Self; 6] = [
        Self::Plain,
        Self::Good,
        Self::Warn,
        Self::Bad,
        Self::Dim,
        Self::Strong,
    ];
}

pub(super) fn paint(is_colored: bool, style: Style, text: impl Display) -> String {
    // Only the basic colours: each terminal maps them to colours that are readable on its background.
    let code = match style {
        Style::Plain => "",
        Style::Good => "32",
        Style::Warn => "33",
        Style::Bad => "31",
        Style::Strong => "1",
        Style::Dim => "2",
    };

    if is_colored && !code.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}

/// The latest write error on stdout.
static OUT_ERROR: Mutex<Option<io::Error>> = Mutex::new(None);

/// Flushes stdout and returns its write error, if any output is missing.
pub(crate) fn take_output_error() -> Option<io::Error> {
    let flushed = io::stdout().lock().flush();
    record_output_error(flushed);
    OUT_ERROR
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// Keeps a write error on stdout for [`take_output_error`]. A closed pipe is the reader's choice and no error:
/// `codex-manager list-backups | head -1`.
pub(super) fn record_output_error(result: io::Result<()>) {
    if let Err(e) = result
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        *OUT_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
    }
}

pub(super) fn write_stdout(text: &str) {
    let text = hide_logins(text);
    record_output_error(io::stdout().lock().write_all(sanitize(&text).as_bytes()));
}

pub(super) fn write_stderr(text: std::fmt::Arguments<'_>) {
    // There is no other place to report an error.
    let text = text.to_string();
    let text = hide_logins(&text);
    let _ = io::stderr().lock().write_all(sanitize(&text).as_bytes());
}

/// Replaces what has the form of a secret, if the text may be of a conversation.
pub(super) fn hide_secrets_if(may_be_of_conversation: bool, text: &str) -> Cow<'_, str> {
    if may_be_of_conversation {
        hide_secrets(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// Replaces all characters that steer a terminal, except the colour codes of this program. All output passes through
/// this function, because the names of files, accounts and machines come from outside.
pub(super) fn sanitize(text: &str) -> Cow<'_, str> {
    let mut remaining = text;
    let mut sanitized = String::new();
    while let Some(escape) = remaining.find('\x1b') {
        sanitized.push_str(&ansi::printable(&remaining[..escape]));
        remaining = &remaining[escape..];
        let code = COLORS.iter().find(|code| remaining.starts_with(**code));
        let (shown, replaced_len) = match code {
            // Without colours of its own, this program prints no colour code.
            Some(code) if HAS_COLORS.load(Ordering::Relaxed) => (*code, code.len()),
            _ => ("\u{fffd}", 1),
        };
        sanitized.push_str(shown);
        remaining = &remaining[replaced_len..];
    }

    // No escape was found, so the text may need no copy.
    if sanitized.is_empty() {
        return ansi::printable(remaining);
    }
    sanitized.push_str(&ansi::printable(remaining));
    Cow::Owned(sanitized)
}

/// True if this program colours one of the streams. Otherwise colour codes in foreign text are replaced too.
pub(super) static HAS_COLORS: AtomicBool = AtomicBool::new(false);

/// The escape sequences of [`paint`].
const COLORS: [&str; 6] = [
    "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m",
];

/// Writes a line of a protocol to stdout. Returns false if the reader has closed it.
pub(crate) fn send_line(line: &impl Display) -> bool {
    let line = line.to_string();
    let mut to = io::stdout().lock();
    let written = writeln!(to, "{}", hide_logins(&line)).and_then(|()| to.flush());
    let is_written = written.is_ok();
    record_output_error(written);
    is_written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_colour_codes_reach_the_terminal() {
        HAS_COLORS.store(true, Ordering::Relaxed);
        let ours = paint(true, Style::Good, "ready\n");
        assert_eq!(sanitize(&ours), ours);
        assert_eq!(sanitize("a\tb\n"), "a\tb\n");
        let theirs = "\x1b]0;title\x07 \x1b[8mhidden \x1b[2J\r\u{9b}K";
        let tamed = sanitize(theirs);
        assert!(!tamed.contains(|c: char| c.is_control()), "{tamed:?}");
        assert!(tamed.contains("title") && tamed.contains("hidden"));
    }
}
