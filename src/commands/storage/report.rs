//! `storage` without a subcommand: shows the disk usage of the Codex home.

use crate::commands::storage::page;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::steps::new_file::write_page;
use crate::ui::chart::{as_length, format_share_bar};
use crate::ui::{Cell, Column, Style, Table, bytes, object};
use crate::views::account::{labels_by_workspace, printable, unique_short_id};
use crate::views::table_format::TableArgs;
use codex_manager_core::codex::CodexConfig;
use codex_manager_core::io::{IoError, pluralize, progress};
use codex_manager_core::storage::selection::ResolvedNames;
use codex_manager_core::storage::{self, LargeConversation, StorageReport, UsageShare};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;

/// The largest number of projects, months or accounts that are shown without --verbose.
const MAX_SHOWN: usize = 8;

const KIND_COLUMNS: [Column; 5] = [
    Column::new("KIND"),
    Column::new("SIZE").number(),
    Column::new("FILES").number().rank(1),
    Column::new("RECLAIMABLE").number(),
    SHARE,
];

const SHARE: Column = Column::new("SHARE").rank(3).only_text();

const LARGEST_COLUMNS: [Column; 3] = [
    Column::new("LARGEST").shorten_middle(13),
    Column::new("SIZE").number().rank(1),
    Column::new("TITLE").shorten(8),
];

/// The length of a bar of 100 %, in columns.
const BAR_WIDTH: usize = 16;

/// Prints the disk usage of the Codex home, or with `html` writes it as a page.
///
/// # Errors
/// The Codex home does not exist, `--format` is given together with `--json`, the page cannot be written, or the user
/// interrupts.
pub(super) fn run(table: TableArgs, html: Option<&Path>, context: &Context) -> Result<Outcome> {
    let context = &table.apply(context)?;
    require_codex_home(context)?;
    let home = context.codex_home();

    // `sqlite_home` or CODEX_SQLITE_HOME may place the databases outside of `home`.
    let databases = CodexConfig::read(home).database_folder(home, &context.env);
    let state_database = context.state_database();
    let report = storage::measure_home(
        home,
        context.manager_home(),
        databases.as_deref(),
        state_database.as_deref(),
        context.now(),
    );

    if progress::is_interrupted() {
        return Err(CommandError::interrupted().hint("nothing was changed"));
    }

    context.ui.document("storage", &report);
    let outcome = Outcome::partial_if(report.unreadable > 0);

    if let Some(path) = html {
        let html_page = page::render_page(&report, context);
        write_page(&html_page, &context.env.absolute(path), context)?;
        return Ok(outcome);
    }

    print_report(context, &report);
    show_forecast(context, &report);
    Ok(outcome)
}

/// Fails if a name matches no conversation, or more than one.
pub(super) fn check_names_resolved(names: &ResolvedNames) -> Result<()> {
    if let Some(unknown) = names.unknown.first() {
        let message = format!("no such conversation: {unknown:?}");
        let hint = "list the largest ones with: codex-manager storage";
        return Err(CommandError::failed(message).hint(hint));
    }
    match names.ambiguous.first() {
        Some(name) => Err(ambiguous_name_error(name, "codex-manager sessions")),
        None => Ok(()),
    }
}

pub(super) fn warn_of_unreadable(context: &Context, folders: &[IoError]) {
    for e in folders {
        context.warn(format_args!("{e}: {}", e.source));
    }
}

/// Returns the error for a name of several conversations. `list_command` lists them with their ids.
pub(super) fn ambiguous_name_error(name: &str, list_command: &str) -> CommandError {
    let hint = format!("give more characters of the id, which this lists: {list_command}");
    CommandError::failed(format!("{name:?} matches several conversations")).hint(hint)
}

fn print_report(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    ui.prose(format_args!(
        "{} in {}: {}",
        bytes(report.total_bytes),
        pluralize(report.files, "file"),
        context.codex_home().display()
    ));
    if report.unreadable > 0 {
        ui.warn(format_args!(
            "{} could not be read",
            pluralize(report.unreadable, "path")
        ));
    }

    show_kinds(context, report);
    // Tab-separated values can be only one table, which is that of the kinds.
    if ui.wants_tsv() {
        return;
    }

    let project_count = ui.limit_items(report.projects.len(), MAX_SHOWN);
    show_shares(context, "PROJECT", &report.projects, 0..project_count);

    // The months are in the order of time, and the last ones are shown.
    let month_count = ui.limit_items(report.months.len(), MAX_SHOWN);
    let months = report.months.len() - month_count..report.months.len();
    show_shares(context, "MONTH", &report.months, months);

    if report.accounts.len() > 1 {
        let accounts = label_accounts(context, &report.accounts);
        let account_count = ui.limit_items(accounts.len(), MAX_SHOWN);
        show_shares(context, "ACCOUNT", &accounts, 0..account_count);
    }

    show_largest(context, report);
    show_manager_home(context, report);
    show_commands(context, report);
}

/// Replaces the workspace ids, by which the report names accounts, with the labels that the user knows.
fn label_accounts(context: &Context, shares: &[UsageShare]) -> Vec<UsageShare> {
    let labels = labels_by_workspace(context);
    let mut accounts = shares.to_vec();
    for share in &mut accounts {
        if let Some(label) = labels.get(&share.name) {
            share.name.clone_from(label);
        }
    }
    accounts
}

fn show_kinds(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    let rows = report.kinds.iter().map(|kind| {
        let reclaimable = match kind.reclaimable_bytes {
            0 => "-".to_owned(),
            n => bytes(n),
        };
        [
            Cell::new(Style::Strong, kind.kind),
            Cell::bytes(kind.bytes),
            Cell::plain(kind.files.to_string()),
            Cell::plain(reclaimable).value(kind.reclaimable_bytes),
            share_cell(kind.bytes, report.total_bytes),
        ]
    });

    ui.line("");
    Table::with_rows(ui, KIND_COLUMNS, rows)
        .keep_rows()
        .print(ui);
}

fn show_largest(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    if report.largest.is_empty() {
        return;
    }

    let full_name = |large: &LargeConversation| {
        let file_name = large.path.file_name().unwrap_or_default();
        match &large.id {
            Some(id) => id.to_string(),
            None => file_name.to_string_lossy().into_owned(),
        }
    };
    let names: Vec<_> = report.largest.iter().map(full_name).collect();

    let rows = report.largest.iter().zip(&names).map(|(large, name)| {
        let shown_name = match &large.id {
            Some(_) => unique_short_id(name, names.iter().map(String::as_str)),
            None => name,
        };
        [
            Cell::plain(shown_name),
            Cell::bytes(large.bytes),
            Cell::new(Style::Dim, &large.title),
        ]
    });

    ui.line("");
    Table::with_rows(ui, LARGEST_COLUMNS, rows)
        .keep_rows()
        .print(ui);
}

/// Prints the commands that free disk space.
fn show_commands(context: &Context, report: &StorageReport) {
    let ui = &context.ui;
    if report.kinds.iter().all(|kind| kind.command.is_none()) {
        return;
    }

    ui.note("\nfree disk space, with Codex closed:");
    for kind in &report.kinds {
        if let Some(command) = &kind.command {
            let gain = bytes(kind.reclaimable_bytes);
            ui.note(format_args!("  {}, about {gain}: {command}", kind.kind));
        }
    }
}

/// Prints the size of the manager home and of its large entries. Prints nothing if none is large.
fn show_manager_home(context: &Context, report: &StorageReport) {
    /// Smaller entries are not printed.
    const MIN_BYTES: u64 = 1_000_000;

    let ui = &context.ui;
    let entries = report.manager.iter();
    let large: Vec<_> = entries
        .filter(|entry| entry.bytes >= MIN_BYTES)
        .map(|entry| format!("{} {}", printable(&entry.name), bytes(entry.bytes)))
        .collect();
    if large.is_empty() {
        return;
    }

    let total = report.manager.iter().map(|entry| entry.bytes).sum();
    ui.prose(format_args!(
        "\n{} in {}: {}",
        bytes(total),
        context.manager_home().display(),
        large.join(", ")
    ));
}

/// Prints the shares in the range `shown`, and the number of the others.
fn show_shares(context: &Context, head: &'static str, shares: &[UsageShare], shown: Range<usize>) {
    let ui = &context.ui;
    if shares.is_empty() {
        return;
    }

    let columns = [
        Column::new(head).shorten_middle(16),
        Column::new("SIZE").number(),
        Column::new("CONVERSATIONS").number().rank(1),
        SHARE,
    ];
    let total = shares.iter().map(|share| share.bytes).sum();
    let to_cells = |share: &UsageShare| {
        [
            Cell::plain(&share.name),
            Cell::bytes(share.bytes),
            Cell::plain(share.conversations.to_string()),
            share_cell(share.bytes, total),
        ]
    };

    ui.line("");
    let hidden_count = shares.len() - shown.len();
    Table::with_rows(ui, columns, shares[shown].iter().map(to_cells))
        .keep_rows()
        .print(ui);
    ui.print_hidden_count(hidden_count);
}

fn share_cell(bytes: u64, total: u64) -> Cell {
    let bar = format_share_bar(as_length(bytes), as_length(total), BAR_WIDTH);
    Cell::new(Style::Dim, bar)
}

/// Prints the growth of the conversations, and when the disk will be full at this rate. Prints nothing if the growth is
/// unknown.
fn show_forecast(context: &Context, report: &StorageReport) {
    /// A forecast beyond ten years is not printed.
    const MAX_DAYS: u64 = 3650;
    /// A warning is printed if the disk will be full in fewer days.
    const WARN_DAYS: u64 = 30;

    let Some(growth) = report.growth else { return };

    let free_note = report
        .free_bytes
        .map_or(String::new(), |free| format!(", {} free", bytes(free)));
    let full_note = match report.full_in_days {
        Some(days) if days < MAX_DAYS => {
            format!(": full in {} at this rate", pluralize(days, "day"))
        }
        _ => String::new(),
    };

    context.ui.prose(format_args!(
        "\nconversations grew by {} in {}, {} a day{free_note}{full_note}",
        bytes(growth.bytes),
        pluralize(growth.days, "day"),
        bytes(growth.bytes_per_day)
    ));

    if let Some(days) = report.full_in_days.filter(|days| *days < WARN_DAYS) {
        context.warn(format_args!(
            "the disk will be full in about {}",
            pluralize(days, "day")
        ));
    }
}

/// The sums of the sizes before and after a subcommand.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeSums {
    pub(super) before_bytes: u64,
    pub(super) after_bytes: u64,
}

/// Prints the JSON document of a subcommand. Its keys are an interface.
pub(super) fn show_json(
    command: &str,
    items: &[impl Serialize],
    sums: SizeSums,
    dry_run: bool,
    context: &Context,
) {
    let json = object()
        .with("items", items)
        .with("before_bytes", sums.before_bytes)
        .with("after_bytes", sums.after_bytes)
        .with("dry_run", dry_run);
    context.ui.document(command, &json);
}
