//! Output and questions. No other module prints.
//!
//! stdout has the data: tables, or exactly one JSON document. stderr has notes, warnings, progress,
//! prompts and errors.

pub(crate) mod chart;
mod column;
pub(crate) mod dialog;
mod documents;
mod json_door;
pub(crate) mod json_object;
mod markdown;
mod output;
pub(crate) mod pager;
pub(crate) mod picker;
pub(crate) mod problem;
pub(crate) mod progress;
mod question;
pub(crate) mod table;
mod table_lines;
pub(crate) mod text_width;
pub(crate) mod time;
pub(crate) mod windows;
mod wrap;

pub(crate) use self::documents::print_json_error;
pub(crate) use self::json_object::{JsonFields, JsonObject, object, variant_name};
pub(crate) use self::output::Style;
pub(crate) use self::output::{send_line, take_output_error};
pub(crate) use self::question::report_cancelled;
pub(crate) use self::table::{Cell, Column, Table};
pub(crate) use self::table_lines::StoredItems;
pub(crate) use self::time::bytes;

use self::output::{
    HAS_COLORS, hide_secrets_if, paint, record_output_error, write_stderr, write_stdout,
};
use crate::config::ColorChoice;
use crate::error::CommandError;
use codex_manager_core::io::ansi;
use codex_manager_core::io::environment::Environment;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Verbosity {
    /// Only data, warnings and errors.
    Quiet,
    #[default]
    Normal,
    /// Everything, including each step.
    Verbose,
}

/// The width of a terminal from which on the lists of the help fit.
const HELP_WIDTH: usize = 80;

/// The indentation of the second line of an entry of a list in the help.
const HELP_INDENT: usize = 8;

/// The printer. Verbosity, terminal and colours are decided once.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    json: bool,
    tsv: bool,
    silent: bool,
    verbosity: Verbosity,
    color_out: bool,
    color_err: bool,
    terminal_out: bool,
    terminal_err: bool,
    interactive: bool,
    can_pick: bool,
    width: usize,
    width_err: usize,
    /// The options with which the user named the homes, for suggested commands.
    pub(crate) home_options: Vec<String>,
    /// True if the command may show texts of conversations, so that everything that it prints is searched for secrets.
    pub(crate) shows_conversations: bool,
}

static LAST_WARNING: Mutex<String> = Mutex::new(String::new());

/// Returns the last warning of this process, for a full-screen picker that covers the printed one.
pub(crate) fn last_warning() -> String {
    let warning = LAST_WARNING.lock();
    warning.unwrap_or_else(PoisonError::into_inner).clone()
}

impl Ui {
    /// Creates a printer from the flags, the environment and the kinds of stdin, stdout and stderr.
    pub(crate) fn new(
        json: bool,
        verbosity: Verbosity,
        color: ColorChoice,
        env: &Environment,
    ) -> Self {
        let tty_out = io::stdout().is_terminal();
        let tty_err = io::stderr().is_terminal();
        // Questions are on stderr, because stdout may be a pipe: `codex-manager export ID | less`.
        let interactive = tty_err && io::stdin().is_terminal();

        let supports_colors = (tty_out || tty_err) && enable_colors();
        let uses_colors = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let is_wanted = env.get("NO_COLOR").is_none() && env.text("TERM") != Some("dumb");
                terminal && is_wanted && supports_colors
            }
        };

        // COLUMNS is for logs and pictures, which have no terminal to ask. Shells set it but do not export it.
        let env_columns = env.text("COLUMNS").and_then(|c| c.parse().ok());
        // Text of fewer than 40 columns breaks after each word; lines of more than 200 are hard to follow.
        let choose_width = |size: Option<(u16, u16)>| {
            let detected = size.map(|(columns, _)| usize::from(columns));
            env_columns.or(detected).unwrap_or(80).clamp(40, 200)
        };

        let out_size = tty_out.then(io::stdout).and_then(|out| terminal_size(&out));
        let err_size = tty_err.then(io::stderr).and_then(|err| terminal_size(&err));
        let (color_out, color_err) = (uses_colors(tty_out) && !json, uses_colors(tty_err));
        // Another printer of this process may show colours.
        HAS_COLORS.fetch_or(color_out || color_err, Ordering::Relaxed);

        Self {
            json,
            tsv: false,
            silent: false,
            verbosity,
            color_out,
            color_err,
            terminal_out: tty_out,
            terminal_err: tty_err,
            interactive,
            // A picker moves the cursor, which a dumb terminal cannot do.
            can_pick: interactive && env.text("TERM") != Some("dumb"),
            width: choose_width(out_size),
            width_err: choose_width(err_size),
            home_options: Vec::new(),
            shows_conversations: false,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Returns a printer for a command that another command runs. It prints no results and no notes, but warnings.
    #[must_use]
    pub(crate) fn silenced(&self) -> Self {
        Self {
            silent: true,
            json: false,
            ..self.clone()
        }
    }

    /// Returns the same printer with tables as tab-separated values, and nothing else on stdout.
    #[must_use]
    pub(crate) fn with_tsv(&self) -> Self {
        Self {
            tsv: true,
            color_out: false,
            ..self.clone()
        }
    }

    pub(crate) fn wants_tsv(&self) -> bool {
        self.tsv
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Returns the width of stdout in columns, from 40 to 200; 80 in a pipe, unless `COLUMNS` is set.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns true if stdout is a terminal and the result is text.
    pub(crate) fn writes_to_terminal(&self) -> bool {
        self.terminal_out && !self.json && !self.silent
    }

    /// Returns true if the user can be asked on the terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Returns true if the user can choose from a list on the terminal.
    pub(crate) fn can_pick(&self) -> bool {
        self.can_pick
    }

    /// Returns true if stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal_out
    }

    /// Returns `text` in the colour of `style` if stdout shows colours, else unchanged.
    pub(crate) fn paint(&self, style: Style, text: impl Display) -> String {
        paint(self.color_out, style, text)
    }

    /// Prints a line of data on stdout. Prints nothing if stdout is JSON or tab-separated values.
    pub(crate) fn line(&self, text: impl Display) {
        if !self.json && !self.tsv && !self.silent {
            write_stdout(&format!("{}\n", self.hide_secrets(&text.to_string())));
        }
    }

    /// Replaces secrets by `[redacted]`. The tokens of the user's logins are replaced in every output; this function
    /// also replaces what has the form of a secret.
    pub(super) fn hide_secrets<'t>(&self, text: &'t str) -> Cow<'t, str> {
        hide_secrets_if(self.shows_conversations, text)
    }

    /// Prints data on stdout without adding a newline, also for tab-separated values. Prints nothing in JSON mode.
    pub(crate) fn print_part(&self, text: &str) {
        if !self.json && !self.silent {
            write_stdout(text);
        }
    }

    /// Prints the content of a file on stdout, unchanged except on a terminal. Prints nothing in JSON mode.
    pub(crate) fn print_raw(&self, bytes: &[u8]) {
        if self.terminal_out {
            // A carriage return would be replaced, because it can overwrite a line.
            self.print_part(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"));
        } else if !self.json && !self.silent {
            record_output_error(io::stdout().lock().write_all(bytes));
        }
    }

    /// Prints a sentence on stdout: wrapped on a terminal, one line in a pipe.
    pub(crate) fn prose(&self, text: impl Display) {
        self.print_hanging(2, text);
    }

    /// Prints a sentence like [`Ui::prose`], with the lines after the first indented by `indent`
    /// blanks.
    pub(crate) fn print_hanging(&self, indent: usize, text: impl Display) {
        if self.terminal_out {
            self.line(self.wrapped(indent, text));
        } else {
            self.line(text);
        }
    }

    /// Wraps `text` at the width of stdout. Lines after the first begin with `indent` blanks.
    pub(crate) fn wrapped(&self, indent: usize, text: impl Display) -> String {
        wrap::wrap(&text.to_string(), indent, self.width)
    }

    /// Prints the result of a command as a line on stdout, except under `--quiet`.
    pub(crate) fn report(&self, text: impl Display) {
        if self.verbosity >= Verbosity::Normal {
            self.prose(text);
        }
    }

    /// Returns the number of items that a list shows: all with `--verbose`, else at most `max`.
    pub(crate) fn limit_items(&self, count: usize, max: usize) -> usize {
        count.min(if self.is_verbose() { usize::MAX } else { max })
    }

    /// Prints the number of items that [`Ui::limit_items`] leaves out.
    pub(crate) fn print_hidden_count(&self, hidden: usize) {
        if hidden > 0 {
            self.prose(format_args!("… {hidden} more: --verbose"));
        }
    }

    /// Returns a command that people copy, with the missing options for the homes. It is one line, indented by `indent`
    /// spaces, or by fewer if it would not fit.
    pub(crate) fn complete_command(&self, indent: usize, command: &str) -> String {
        wrap::complete_command(command, indent, self.width, &self.home_options)
    }

    /// Like [`Ui::wrapped`], but puts each command that a colon introduces on a line of its own, with the missing
    /// options for the homes.
    pub(crate) fn wrap_commands_apart(&self, indent: usize, text: impl Display) -> String {
        wrap::wrap_commands_apart(&text.to_string(), indent, self.width, &self.home_options)
    }

    /// Prints a note on stderr, such as a completed action or the next step.
    pub(crate) fn note(&self, text: impl Display) {
        if self.shows_notes() {
            self.print_to_stderr(&text.to_string());
        }
    }

    /// Returns false under `--quiet`, and in a command that another command runs silently.
    pub(crate) fn shows_notes(&self) -> bool {
        self.verbosity >= Verbosity::Normal && !self.silent
    }

    /// Prints a step on stderr under `--verbose`, also for a command that another command runs.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            self.print_to_stderr(&paint(self.color_err, Style::Dim, text));
        }
    }

    /// Prints a warning on stderr, even under `--quiet`, because it explains the exit code or a
    /// limit of the result.
    pub(crate) fn warn(&self, text: impl Display) {
        let word = paint(self.color_err, Style::Warn, "warning:");
        let text = text.to_string();
        self.print_to_stderr(&format!("{word} {text}"));
        let last = LAST_WARNING.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn print_to_stderr(&self, text: &str) {
        let text = self.hide_secrets(text);
        write_stderr(format_args!("{}\n", self.wrap_for_stderr(2, &text)));
    }

    /// Returns a line for stderr, with its commands on separate lines. On a terminal, also wraps the line.
    fn wrap_for_stderr(&self, indent: usize, text: &str) -> String {
        let width = if self.terminal_err {
            self.width_err
        } else {
            usize::MAX
        };
        wrap::wrap_commands_apart(text, indent, width, &self.home_options)
    }

    /// Prints the error of a command: message, causes, then hints; one JSON document in JSON mode.
    pub(crate) fn error(&self, error: &CommandError) {
        if self.json {
            return print_json_error(error);
        }

        // An error may quote other programs, so `printable` also replaces the colour codes that this program uses.
        let with_tag = |style, tag, text: &str| {
            let tag = paint(self.color_err, style, tag);
            format!("{tag} {}", ansi::printable(text))
        };
        let message = with_tag(Style::Bad, "error:", &error.to_string());
        let mut lines = vec![self.wrap_for_stderr(2, &message)];

        for cause in error.causes() {
            let cause = format!("  caused by: {}", ansi::printable(cause));
            lines.push(self.wrap_for_stderr(4, &cause));
        }

        if !error.hints.is_empty() {
            lines.push(String::new());
        }
        for hint in &error.hints {
            let hint = with_tag(Style::Strong, "hint:", hint);
            lines.push(self.wrap_for_stderr(2, &hint));
        }

        // In one write, so that other output does not split the message.
        write_stderr(format_args!("{}\n", lines.join("\n")));
    }
}

pub(crate) fn print_help(text: &str) {
    write_stdout(&format!("{text}\n"));
}

/// If the terminal is too narrow for the lists of fixed width in the help, prints the help with wrapped lines. On other
/// outputs, prints nothing and returns false.
pub(crate) fn print_narrow_help(text: &str) -> bool {
    let out = io::stdout();
    let size = out.is_terminal().then_some(&out).and_then(terminal_size);
    let width = size.map(|(columns, _)| usize::from(columns));
    let narrow_width = width.filter(|width| *width < HELP_WIDTH);
    if let Some(width) = narrow_width {
        print_help(wrap::wrap(text, HELP_INDENT, width).trim_end());
    }
    narrow_width.is_some()
}

/// Returns the columns and lines of the terminal of `stream`. The controlling terminal of the process may be another
/// one.
#[cfg(unix)]
fn terminal_size(stream: &impl std::os::fd::AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Returns the columns and lines of the console, which are the same for all streams.
#[cfg(not(unix))]
fn terminal_size<T>(_stream: &T) -> Option<(u16, u16)> {
    let size = crossterm::terminal::size().ok();
    size.filter(|(columns, _)| *columns > 0)
}

/// Turns colours on and returns true if the terminal shows them. The console of Windows shows them only
/// with `ENABLE_VIRTUAL_TERMINAL_PROCESSING`.
fn enable_colors() -> bool {
    #[cfg(windows)]
    return crossterm::ansi_support::supports_ansi();
    #[cfg(not(windows))]
    true
}
