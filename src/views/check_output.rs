//! The output of a finding of `doctor` or `sync preflight`.

use crate::doctor::{Check, Remedy, Status};
use crate::ui::{Style, Ui};
use crate::views::account::printable;

const ID_WIDTH: usize = 18;

/// The column at which messages, consequences and fixes start: behind the four letters of the status, the id, and the
/// blanks between them.
const MESSAGE_COLUMN: usize = 4 + 2 + ID_WIDTH + 1;

/// The width of a terminal below which messages start on a separate line, at [`NARROW_COLUMN`].
const MIN_WIDTH: usize = 60;

const NARROW_COLUMN: usize = 6;

/// Prints a finding: message, consequence, fix. A command is on a separate line and is never wrapped, so that it can be
/// copied.
pub(crate) fn print_check(ui: &Ui, check: &Check) {
    let (style, status_word) = match check.status {
        Status::Ok => (Style::Good, "ok  "),
        Status::Warn => (Style::Warn, "warn"),
        Status::Fail => (Style::Bad, "fail"),
    };
    let status_word = ui.paint(style, status_word);

    let message = printable(&check.message);
    let column = if ui.width() < MIN_WIDTH {
        ui.line(format_args!("{status_word}  {}", check.id));
        let line = format_args!("{:NARROW_COLUMN$}{message}", "");
        ui.line(ui.wrapped(NARROW_COLUMN, line));
        NARROW_COLUMN
    } else {
        let line = format!("{status_word}  {:ID_WIDTH$} {message}", check.id);
        ui.line(ui.wrapped(MESSAGE_COLUMN, line));
        MESSAGE_COLUMN
    };

    let indent = " ".repeat(column);
    if let Some(why) = check.why {
        ui.line(ui.wrapped(column, format_args!("{indent}{why}")));
    }

    match &check.fix {
        None => {}
        Some(Remedy::Advice(words)) => {
            let advice = format!("{indent}→ {}", printable(words));
            ui.line(ui.paint(Style::Dim, ui.wrap_commands_apart(column + 2, advice)));
        }
        Some(Remedy::Command(command)) => {
            ui.line(ui.paint(Style::Dim, format_args!("{indent}→ fix it with:")));
            ui.line(ui.complete_command(column + 2, &printable(command)));
        }
    }
}
