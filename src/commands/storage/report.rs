//! `storage` without a subcommand: shows the disk usage of the Codex home.

use crate::codex::config::CodexConfig;
use crate::codex::threads;
use crate::commands::account::{printable, shortened};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::quantity::pluralize;
use crate::storage::{self, StorageReport, UsageShare};
use crate::ui::Style;
use crate::ui::table::Table;
use crate::ui::time::bytes;
use std::path::Path;

/// Maximum number of projects and months that are shown without --verbose.
const SHOWN: usize = 8;

/// Maximum length of a title, in characters.
const TITLE_CHARS: usize = 26;

/// Prints the disk usage of the Codex home.
///
/// # Errors
/// The Codex home does not exist.
pub(super) fn run(context: &Context) -> Result<Outcome, CommandError> {
    let home = existing_home(context)?;
    let databases = CodexConfig::read(home).database_folder(home, &context.env);
    let state = threads::find_state_database(home, &context.env);
    let report = storage::measure(
        home,
        &context.settings.manager_home,
        databases.as_deref(),
        state.as_deref(),
        context.now(),
    );
    show(context, &report);
    forecast(context, &report);
    context.ui.document("storage", &report);
    Ok(Outcome::partial_if(report.unreadable > 0))
}

/// Returns the Codex home.
///
/// # Errors
/// It does not exist.
pub(super) fn existing_home(context: &Context) -> Result<&Path, CommandError> {
    let home = &context.settings.codex_home;
    if home.is_dir() {
        return Ok(home);
    }
    Err(
        CommandError::failed(format!("no Codex home: {}", home.display()))
            .hint("start codex once, or name the folder with --codex-home DIR"),
    )
}

fn show(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    ui.prose(format_args!(
        "{} in {}: {}",
        bytes(report.total_bytes),
        pluralize(report.files, "file"),
        context.settings.codex_home.display()
    ));
    if report.unreadable > 0 {
        ui.warn(format_args!(
            "{} could not be read",
            pluralize(report.unreadable, "path")
        ));
    }
    show_kinds(context, report);
    shares(context, "PROJECT", &report.projects, false);
    shares(context, "MONTH", &report.months, true);
    if report.accounts.len() > 1 {
        shares(context, "ACCOUNT", &report.accounts, false);
    }
    show_largest(context, report);
    show_manager(context, report);
    show_commands(context, report);
}

fn show_kinds(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    let mut table = Table::new(ui, &["KIND", "SIZE", "FILES", "RECLAIMABLE"]);
    for kind in &report.kinds {
        let free = match kind.reclaimable_bytes {
            0 => "-".to_owned(),
            n => bytes(n),
        };
        table.row(
            ui,
            [
                (Style::Strong, kind.kind.to_owned()),
                (Style::Plain, bytes(kind.bytes)),
                (Style::Plain, kind.files.to_string()),
                (Style::Plain, free),
            ],
        );
    }
    ui.prose(format_args!("\n{}", table.render()));
}

fn show_largest(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    if report.largest.is_empty() {
        return;
    }
    let mut table = Table::new(ui, &["LARGEST", "SIZE", "TITLE"]);
    for large in &report.largest {
        let name = large.path.file_name().unwrap_or_default().to_string_lossy();
        let id = large.id.as_ref().map(ToString::to_string);
        let id = id.unwrap_or_else(|| printable(&name));
        table.row(
            ui,
            [
                (Style::Plain, id),
                (Style::Plain, bytes(large.bytes)),
                (Style::Dim, shortened(&printable(&large.title), TITLE_CHARS)),
            ],
        );
    }
    table.keep_whole(0);
    table.keep_whole(1);
    ui.prose(format_args!("\n{}", table.render()));
}

/// Prints the commands that free disk space.
fn show_commands(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    let commands: Vec<_> = report
        .kinds
        .iter()
        .filter_map(|kind| Some((kind.command.as_ref()?, kind)))
        .collect();
    if commands.is_empty() {
        return;
    }
    ui.note("\nfree disk space, with Codex closed:");
    for (command, kind) in commands {
        let gain = bytes(kind.reclaimable_bytes);
        ui.note(format_args!("  {command}   # {}, about {gain}", kind.kind));
    }
}

/// Prints the size of the manager home.
fn show_manager(context: &Context, report: &StorageReport) {
    /// Smaller entries are of no interest here.
    const MIN_BYTES: u64 = 1_000_000;
    let ui = &context.ui;
    let large = report
        .manager
        .iter()
        .filter(|entry| entry.bytes >= MIN_BYTES);
    let large: Vec<_> = large
        .map(|entry| format!("{} {}", printable(&entry.name), bytes(entry.bytes)))
        .collect();
    if large.is_empty() {
        return;
    }
    let total = report.manager.iter().map(|entry| entry.bytes).sum();
    ui.prose(format_args!(
        "\n{} in {}: {}",
        bytes(total),
        context.settings.manager_home.display(),
        large.join(", ")
    ));
}

fn shares(context: &Context, head: &str, shares: &[UsageShare], newest_last: bool) {
    let ui = &context.ui;
    if shares.is_empty() {
        return;
    }
    let shown = if ui.is_verbose() { shares.len() } else { SHOWN };
    let from = if newest_last {
        shares.len().saturating_sub(shown)
    } else {
        0
    };
    let mut table = Table::new(ui, &[head, "SIZE", "CONVERSATIONS"]);
    for share in shares.iter().skip(from).take(shown) {
        table.row(
            ui,
            [
                (Style::Plain, printable(&share.name)),
                (Style::Plain, bytes(share.bytes)),
                (Style::Plain, share.conversations.to_string()),
            ],
        );
    }
    table.keep_whole(1);
    ui.prose(format_args!("\n{}", table.render()));
    if shares.len() > shown {
        ui.prose(format_args!("… {} more: --verbose", shares.len() - shown));
    }
}

fn forecast(context: &Context, report: &StorageReport) {
    let Some(growth) = report.growth else { return };
    let free = report
        .free_bytes
        .map_or(String::new(), |free| format!(", {} free", bytes(free)));
    let full = match report.full_in_days {
        Some(days) if days < 3650 => {
            format!(": full in {} at this rate", pluralize(days, "day"))
        }
        _ => String::new(),
    };
    context.ui.prose(format_args!(
        "\nconversations grew by {} in {}, {} a day{free}{full}",
        bytes(growth.bytes),
        pluralize(growth.days, "day"),
        bytes(growth.bytes_per_day)
    ));
    if let Some(days) = report.full_in_days.filter(|days| *days < 30) {
        context.ui.warn(format_args!(
            "the disk will be full in about {}",
            pluralize(days, "day")
        ));
    }
}
