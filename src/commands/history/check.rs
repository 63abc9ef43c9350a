//! `history check`: the difference, and nothing changed.

use super::{checked, count, findings, require_home};
use crate::commands::account::printable;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::history::check::CheckReport;
use crate::ui::Style;
use clap::Args;
use std::path::Path;

/// How many of each finding are named without --verbose.
const SHOWN: usize = 5;

/// Compare what is on disk with what Codex lists
///
/// Exit code 0 when they agree, 5 when they differ. Conversations of another account than the one
/// that is signed in are named: Codex does not show them, and that is no difference.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history check
  codex-manager history check --all             # every finding
  codex-manager history check --json | jq '.missing[].id'")]
pub(super) struct CheckArgs {
    /// Name every finding
    #[arg(long)]
    all: bool,
}

impl CheckArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The home cannot be read.
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        require_home(context)?;
        let report = checked(context, &findings(context)?);
        show(context, &report, self.all);
        context.ui.document("history check", &report);
        Ok(if report.is_equal() {
            Outcome::Done
        } else {
            Outcome::FoundWanting
        })
    }
}

/// Shows a report, with the command that mends it.
pub(super) fn show(context: &Context, report: &CheckReport, all: bool) {
    let ui = &context.ui;
    ui.line(format_args!(
        "{} on disk, {} listed by Codex",
        count(report.on_disk, "conversation"),
        report.listed
    ));
    match (&report.database, &report.problem) {
        (Some(path), Some(problem)) => ui.line(format_args!(
            "{} the database cannot be used ({}): {}",
            ui.paint(Style::Bad, "damaged"),
            printable(problem),
            short(context, path)
        )),
        (None, _) if report.on_disk > 0 => {
            ui.line(ui.paint(Style::Warn, "there is no state database"));
        }
        _ => {}
    }
    for (style, what, lines) in groups(context, report) {
        if lines.is_empty() {
            continue;
        }
        ui.line(format_args!("\n{} {what}", ui.paint(style, lines.len())));
        let shown = if all || ui.is_verbose() {
            lines.len()
        } else {
            SHOWN
        };
        for line in lines.iter().take(shown) {
            ui.line(format_args!("  {line}"));
        }
        if lines.len() > shown {
            ui.line(format_args!("  … {} more: --all", lines.len() - shown));
        }
    }
    if !report.is_mended() {
        ui.note("\nmend it, with Codex closed: codex-manager history repair");
    }
    if !report.orphan_rows.is_empty() {
        ui.note("bring a lost one back: codex-manager restore latest --session ID");
    }
}

/// A path as it is shown: from the home on.
fn short(context: &Context, path: &Path) -> String {
    let home = &context.settings.codex_home;
    let short = path.strip_prefix(home).unwrap_or(path);
    printable(&short.to_string_lossy())
}

/// The findings, a line each.
fn groups(context: &Context, report: &CheckReport) -> [(Style, &'static str, Vec<String>); 7] {
    let text = |path: &Path| short(context, path);
    let missing = report.missing.iter().map(|m| text(&m.path));
    let stale = report
        .stale_path
        .iter()
        .map(|s| format!("{}  recorded at {}", s.id, printable(&s.recorded)));
    let names = report
        .names_missing
        .iter()
        .map(|n| format!("{}  {}", n.id, printable(&n.name)));
    let orphans = report
        .orphan_rows
        .iter()
        .map(|o| format!("{}  {}", printable(&o.id), printable(&o.title)));
    let duplicates = report.duplicates.iter().map(|d| {
        let paths: Vec<_> = d.paths.iter().map(|p| text(p)).collect();
        paths.join("\n    ")
    });
    let damaged = report
        .damaged
        .iter()
        .map(|d| format!("{}: {}", text(&d.path), d.reason));
    let hidden = report
        .hidden
        .iter()
        .map(|h| format!("{}  {}", h.id, printable(&h.account_id)));
    [
        (Style::Warn, "on disk, not listed", missing.collect()),
        (
            Style::Warn,
            "listed at a place where they are not",
            stale.collect(),
        ),
        (
            Style::Warn,
            "names that only the index still has",
            names.collect(),
        ),
        (Style::Bad, "listed without a file", orphans.collect()),
        (
            Style::Warn,
            "in more than one file; the first counts",
            duplicates.collect(),
        ),
        (Style::Bad, "damaged", damaged.collect()),
        (
            Style::Dim,
            "of another account: Codex's picker does not show them",
            hidden.collect(),
        ),
    ]
}
