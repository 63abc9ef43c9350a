//! `history check`: prints the differences and changes nothing.

use crate::commands::history::home::find_differences;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::ui::Style;
use crate::ui::text_width::{columns, elide_end};
use crate::views::account::{labels_by_workspace, printable, unique_short_id};
use clap::Args;
use codex_manager_core::history::check::{CheckReport, DuplicateRollouts, HiddenConversation};
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::history::unreadable::UnreadableConversation;
use codex_manager_core::history::{ConversationId, rollout};
use codex_manager_core::io::{pluralize, shell};
use std::collections::HashMap;
use std::path::Path;

/// The number of findings of each kind that are listed without --all or --verbose.
pub(super) const MAX_SHOWN: usize = 5;

/// Compare the conversations on disk with Codex's lists
///
/// Also finds conversations that Codex lists but cannot open, or shows without some turns, with the command that
/// helps. Exits with 0 if they agree and with 5 if they differ. Conversations of other accounts than the
/// one that is signed in are listed too: Codex hides them, which does not count as a difference.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history check
  codex-manager history check --all             # every finding
  codex-manager history check --json | jq '.missing[].id'")]
pub(super) struct CheckArgs {
    /// List every finding, not only the first of each kind
    #[arg(long)]
    all: bool,
}

impl CheckArgs {
    /// Compares, prints the report, and returns [`Outcome::CheckFailed`] for any difference.
    ///
    /// # Errors
    /// The home, its index or its database cannot be read.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let report = find_differences(context)?.report;
        let max_shown = if self.all { usize::MAX } else { MAX_SHOWN };
        show_report(context, &report, max_shown);
        context.ui.document("history check", &report);
        Ok(Outcome::passed_if(report.is_consistent()))
    }
}

/// Prints a report with the commands that fix the findings. Lists up to `max_shown` findings of each kind, or with
/// `--verbose` all.
pub(super) fn show_report(context: &Context, report: &CheckReport, max_shown: usize) {
    let ui = &context.ui;
    ui.prose(format_args!(
        "{} on disk, {} listed by Codex",
        pluralize(report.on_disk, "conversation"),
        report.listed
    ));
    show_database_problem(context, report);

    // `limit_items` returns the count `usize::MAX` with `--verbose`, so that all findings are listed.
    let max_shown = ui.limit_items(usize::MAX, max_shown);

    let ids = list_finding_ids(report);
    let ids_without_title = list_ids_without_title(report, max_shown);
    let list = FindingList {
        context,
        max_shown,
        titles: read_titles(context.codex_home(), &context.env, ids_without_title),
        ids,
    };
    list.show_groups(report);

    if report.old_format > 0 {
        ui.note(format_args!(
            "\n{} of Codex before 0.32, which newer versions do not list; read them with: \
             codex-manager find, show, export",
            pluralize(report.old_format, "conversation")
        ));
    }

    if let Some(first) = report.hidden.first() {
        let id = first.id.to_string();
        let id = list.short_id(&id);
        ui.note(format_args!(
            "\nresume one under its account: codex-manager resume {id}"
        ));
    }

    if report.needs_repair() {
        ui.note("\nrepair the list, with Codex closed: codex-manager history repair");
    }

    if let Some(first) = report.orphan_rows.first() {
        let id = shell::quote_if_needed(&first.id.to_string());
        ui.note(format_args!(
            "restore a lost conversation: codex-manager restore --session {id}"
        ));
        ui.note("remove such rows: codex-manager history repair --drop-missing");
    }
}

/// Prints that the database is damaged, or that it is missing although the home has conversations.
fn show_database_problem(context: &Context, report: &CheckReport) {
    let ui = &context.ui;
    match (&report.database, &report.problem) {
        (Some(path), Some(problem)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bad = ui.paint(Style::Bad, "damaged");
            ui.line(format_args!("{bad} {}, the database:", printable(&name)));
            ui.line(format_args!("  {}", printable(problem)));
        }
        (None, _) if report.on_disk > 0 => {
            ui.line(ui.paint(Style::Warn, "no state database in the Codex home"));
            ui.note("Codex up to 0.104 keeps none and needs no repair; a newer Codex creates it when it starts");
        }
        _ => {}
    }
}

/// Prints findings in groups, at most `max_shown` of each.
struct FindingList<'a> {
    context: &'a Context,
    max_shown: usize,
    /// The titles of conversations for the findings that lack them, by id in lower case.
    titles: HashMap<String, String>,
    /// The ids of all findings, so that each printed short id is unique.
    ids: Vec<String>,
}

fn list_finding_ids(report: &CheckReport) -> Vec<String> {
    let ids = report.missing.iter().map(|m| &m.id);
    let ids = ids
        .chain(report.stale_path.iter().map(|s| &s.id))
        .chain(report.names_missing.iter().map(|n| &n.id))
        .chain(report.preview_missing.iter().map(|p| &p.id))
        .chain(report.orphan_rows.iter().map(|o| &o.id))
        .chain(report.duplicates.iter().map(|d| &d.id))
        .chain(report.unreadable.iter().map(|u| &u.id))
        .chain(report.hidden.iter().map(|h| &h.id));
    ids.map(ToString::to_string).collect()
}

/// Returns the ids, in lower case, of the findings whose titles are read from Codex's list, the first `max_shown` of
/// each kind.
fn list_ids_without_title(report: &CheckReport, max_shown: usize) -> Vec<String> {
    let ids = report.stale_path.iter().take(max_shown).map(|s| &s.id);
    let ids = ids
        .chain(report.duplicates.iter().take(max_shown).map(|d| &d.id))
        .chain(report.hidden.iter().take(max_shown).map(|h| &h.id));
    ids.map(|id| id.to_string().to_lowercase()).collect()
}

impl FindingList<'_> {
    fn short_id<'i>(&self, id: &'i str) -> &'i str {
        unique_short_id(id, self.ids.iter().map(String::as_str))
    }

    /// Formats a conversation as its short id and its title. Without `title`, uses the one in `titles`.
    fn format_conversation(&self, id: &ConversationId, title: Option<&str>) -> String {
        self.format_with_detail(id, title, "")
    }

    /// Formats a conversation like [`Self::format_conversation`], with `detail` before the title.
    fn format_with_detail(&self, id: &ConversationId, title: Option<&str>, detail: &str) -> String {
        const INDENT: usize = 2;
        const GAP: usize = 2;
        const MIN_TITLE: usize = 12;

        let id = printable(&id.to_string());
        let title = title.or_else(|| self.titles.get(&id.to_lowercase()).map(String::as_str));
        let title = printable(title.unwrap_or_default());

        let mut line = self.short_id(&id).to_owned();
        let room_after = |line: &str| {
            let used = INDENT + columns(line) + GAP;
            self.context.ui.width().saturating_sub(used)
        };

        if !detail.is_empty() {
            // The title keeps a minimal width, so a long detail is shortened.
            let max_width = room_after(&line).saturating_sub(GAP + MIN_TITLE);
            line.extend(["  ", &elide_end(detail, max_width)]);
        }

        let title = elide_end(&title, room_after(&line).max(MIN_TITLE));
        format!("{line}  {title}").trim_end().to_owned()
    }

    fn show_groups(&self, report: &CheckReport) {
        let heading = "on disk, not listed";
        self.print_group(Style::Warn, heading, &report.missing, |missing| {
            let title = rollout::read_title(&missing.path);
            let folder = self.format_folder(&missing.path);
            self.format_with_detail(&missing.id, title.as_deref(), &folder)
        });

        let heading = "listed with a wrong path";
        self.print_group(Style::Warn, heading, &report.stale_path, |stale| {
            let folder = self.format_folder(Path::new(&stale.recorded));
            let reported_title = None;
            self.format_with_detail(&stale.id, reported_title, &format!("in {folder}"))
        });

        let heading = "named only in session_index.jsonl";
        self.print_group(Style::Warn, heading, &report.names_missing, |unnamed| {
            self.format_conversation(&unnamed.id, Some(&unnamed.name))
        });

        let heading = "not listed, because the database lacks the first message";
        self.print_group(Style::Warn, heading, &report.preview_missing, |row| {
            self.format_conversation(&row.id, rollout::first_line(&row.preview).as_deref())
        });

        let heading = "listed, but without a file";
        self.print_group(Style::Bad, heading, &report.orphan_rows, |orphan| {
            self.format_conversation(&orphan.id, Some(&orphan.title))
        });

        // Codex never joins such files. The second file that a rewind makes is no finding; its name also has the id of
        // the rollout.
        let heading = "in more than one file; Codex uses the first";
        self.print_group(Style::Warn, heading, &report.duplicates, |duplicate| {
            self.format_duplicate(duplicate)
        });

        self.print_group(Style::Bad, "damaged", &report.damaged, |damaged| {
            let path = &damaged.path;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let folder = self.format_folder(path);
            let name = printable(&name);
            format!("in {folder}: {}\n    {name}", printable(&damaged.reason))
        });

        let heading = "listed, but Codex cannot open it or shows only a part of it";
        self.print_group(Style::Bad, heading, &report.unreadable, |unreadable| {
            self.format_unreadable(unreadable)
        });

        if !report.hidden.is_empty() {
            self.show_hidden(&report.hidden);
        }
    }

    /// Formats the short id and the title, and each path on a line, with `…` for the id that all paths have.
    fn format_duplicate(&self, duplicate: &DuplicateRollouts) -> String {
        let id = duplicate.id.to_string();
        let paths = duplicate.paths.iter().map(|path| {
            let path = self.format_path(path);
            format!("\n    {}", path.replace(&id, "…"))
        });
        let reported_title = None;
        let name = self.format_conversation(&duplicate.id, reported_title);
        format!("{name}{}", paths.collect::<String>())
    }

    fn format_unreadable(&self, unreadable: &UnreadableConversation) -> String {
        let name = self.format_conversation(&unreadable.id, Some(&unreadable.title));
        let reason = printable(&unreadable.reason);
        let shown = unreadable.turns_shown;
        let all = pluralize(unreadable.turns_on_disk, "turn");
        let fix = unreadable.fix.as_deref();
        let fix = fix.unwrap_or("no archive has the missing turns");
        format!("{name}\n    {reason}\n    Codex shows {shown} of {all}: {fix}")
    }

    /// Prints the conversations of other accounts. Codex 0.169 hides them by the account in the first line of the
    /// rollout, not by the row in its database.
    fn show_hidden(&self, hidden: &[HiddenConversation]) {
        let labels = labels_by_workspace(self.context);
        let heading = "of another account, hidden by Codex's picker";
        self.print_group(Style::Dim, heading, hidden, |conversation| {
            let label = labels.get(&conversation.account_id).cloned();
            let label = label.unwrap_or_else(|| printable(&conversation.account_id));
            let reported_title = None;
            self.format_with_detail(&conversation.id, reported_title, &label)
        });
    }

    fn print_group<T>(
        &self,
        style: Style,
        heading: &str,
        findings: &[T],
        describe: impl Fn(&T) -> String,
    ) {
        let ui = &self.context.ui;
        if findings.is_empty() {
            return;
        }

        ui.line("");
        ui.prose(format_args!(
            "{} {heading}",
            ui.paint(style, findings.len())
        ));

        for finding in findings.iter().take(self.max_shown) {
            for line in format!("  {}", describe(finding)).lines() {
                ui.line(elide_end(line, ui.width()));
            }
        }
        if findings.len() > self.max_shown {
            let more_count = findings.len() - self.max_shown;
            ui.line(format_args!(
                "  … {more_count} more:\n    codex-manager history check --all"
            ));
        }
    }

    /// Formats a path relative to the home. A path outside the home stays as it is.
    fn format_path(&self, path: &Path) -> String {
        let home = &self.context.codex_home();
        let short = path.strip_prefix(home).unwrap_or(path);
        printable(&short.to_string_lossy())
    }

    fn format_folder(&self, path: &Path) -> String {
        self.format_path(path.parent().unwrap_or(path))
    }
}
