//! Prints the findings of checks.

use super::account::printable;
use crate::doctor::{Check, Remedy, Status};
use crate::ui::{Style, Ui};

/// The column at which messages, consequences and fixes start.
const MESSAGE_COLUMN: usize = 25;

/// Prints a finding: message, consequence, fix. A command is never wrapped, so that it can be copied.
pub(super) fn show(ui: &Ui, check: &Check) {
    let (style, word) = match check.status {
        Status::Ok => (Style::Good, "ok  "),
        Status::Warn => (Style::Warn, "warn"),
        Status::Fail => (Style::Bad, "fail"),
    };
    let head = format!("{}  {:18}", ui.paint(style, word), check.id);
    let blank = " ".repeat(MESSAGE_COLUMN);
    let message = printable(&check.message);
    ui.line(ui.wrapped(MESSAGE_COLUMN, format_args!("{head} {message}")));
    if let Some(why) = check.why {
        ui.line(ui.wrapped(MESSAGE_COLUMN, format_args!("{blank}{why}")));
    }
    match &check.fix {
        None => {}
        Some(Remedy::Advice(words)) => {
            let words = format!("{blank}→ {}", printable(words));
            ui.line(ui.paint(Style::Dim, ui.wrapped(MESSAGE_COLUMN + 2, words)));
        }
        Some(Remedy::Command(command)) => {
            let command = printable(command);
            let fits = MESSAGE_COLUMN + 2 + command.chars().count() <= ui.width();
            let blank = if fits { &blank } else { "      " };
            ui.line(ui.paint(Style::Dim, format_args!("{blank}→ {command}")));
        }
    }
}
