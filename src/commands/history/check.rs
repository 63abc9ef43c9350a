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
  codex-manager history check --verbose         # every finding
  codex-manager history check --json | jq '.missing[].id'")]
pub(super) struct CheckArgs {}

impl CheckArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The home cannot be read.
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        require_home(context)?;
        let report = checked(context, &findings(context)?);
        show(context, &report);
        context.ui.document("history check", &report);
        Ok(if report.is_equal() {
            Outcome::Done
        } else {
            Outcome::FoundWanting
        })
    }
}

/// Shows a report, with the command that mends it.
pub(super) fn show(context: &Context, report: &CheckReport) {
    let ui = &context.ui;
    let text = |path: &Path| {
        let home = &context.settings.codex_home;
        let short = path.strip_prefix(home).unwrap_or(path);
        printable(&short.to_string_lossy())
    };
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
            text(path)
        )),
        (None, _) if report.on_disk > 0 => {
            ui.line(ui.paint(Style::Warn, "there is no state database"));
        }
        _ => {}
    }
    let group = |style, what: &str, lines: Vec<String>| {
        if lines.is_empty() {
            return;
        }
        ui.line(format_args!("\n{} {}", ui.paint(style, lines.len()), what));
        let shown = if ui.is_verbose() { lines.len() } else { SHOWN };
        for line in lines.iter().take(shown) {
            ui.line(format_args!("  {line}"));
        }
        if lines.len() > shown {
            ui.line(format_args!("  … {} more: --verbose", lines.len() - shown));
        }
    };
    group(
        Style::Warn,
        "on disk, not listed",
        report.missing.iter().map(|m| text(&m.path)).collect(),
    );
    group(
        Style::Warn,
        "listed at a place where they are not",
        report
            .stale_path
            .iter()
            .map(|s| format!("{}  recorded at {}", s.id, printable(&s.recorded)))
            .collect(),
    );
    group(
        Style::Warn,
        "names that only the index still has",
        report
            .names_missing
            .iter()
            .map(|n| format!("{}  {}", n.id, printable(&n.name)))
            .collect(),
    );
    group(
        Style::Bad,
        "listed without a file",
        report
            .orphan_rows
            .iter()
            .map(|o| format!("{}  {}", printable(&o.id), printable(&o.title)))
            .collect(),
    );
    group(
        Style::Warn,
        "in more than one file; the first counts",
        report
            .duplicates
            .iter()
            .map(|d| {
                let paths: Vec<_> = d.paths.iter().map(|p| text(p)).collect();
                paths.join("\n    ")
            })
            .collect(),
    );
    group(
        Style::Bad,
        "damaged",
        report
            .damaged
            .iter()
            .map(|d| format!("{}: {}", text(&d.path), d.reason))
            .collect(),
    );
    group(
        Style::Dim,
        "of another account: Codex's picker does not show them",
        report
            .hidden
            .iter()
            .map(|h| format!("{}  {}", h.id, printable(&h.account_id)))
            .collect(),
    );
    if !report.is_mended() {
        ui.note("\nmend it, with Codex closed: codex-manager history repair");
    }
    if !report.orphan_rows.is_empty() {
        ui.note("bring a lost one back: codex-manager restore latest --session ID");
    }
}
