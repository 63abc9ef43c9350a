//! `history repair`: repairs the state database.

use crate::choices::index_access::warn_of_skipped_files;
use crate::commands::history::check;
use crate::commands::history::home::{find_differences, repair_context};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::ui::object;
use crate::views::account::{printable, unique_short_id};
use clap::Args;
use codex_manager_core::codex::{CodexConfig, Program};
use codex_manager_core::history::repair_plan::{self, RepairAction, RepairChange, RepairPlan};
use codex_manager_core::history::snapshot::RepairSnapshot;
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::history::{repair, rollout};
use codex_manager_core::io::pluralize;
use std::path::Path;

/// Repair Codex's database; conversations are never edited
///
/// Requires that Codex is closed. Corrects rows with a wrong path or mode, adds missing rows and
/// restores lost names. Codex itself recreates a lost or damaged database, and reads conversations
/// again that it shows without some turns, in a temporary folder. The previous state is kept;
/// `history undo` restores it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history repair --dry-run
  codex-manager history repair
  codex-manager history repair --drop-missing
  codex-manager history undo              # restores the previous state")]
pub(super) struct RepairArgs {
    /// Remove conversations without a file from the list, after a question
    #[arg(long)]
    drop_missing: bool,
    /// Show what would be changed; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl RepairArgs {
    /// Plans, shows and, unless `--dry-run` is given, applies the repair, then checks again.
    ///
    /// # Errors
    /// A process uses the home, Codex is needed and not installed, or the removal of conversations is not confirmed;
    /// nothing is changed then. Or the check after the repair still finds differences.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let target = repair_context(context);
        let provider = CodexConfig::read(target.home).model_provider;
        // A row of the database needs a provider. "openai" is Codex's default.
        let provider = provider.as_deref().unwrap_or("openai");

        let mut plan = repair_plan::plan(find_differences(context)?, provider)?;
        if self.drop_missing {
            plan.drop_missing_rows()?;
        }
        if plan.changes.is_empty() || self.dry_run {
            warn_of_skipped_files(&plan.skipped, context);
            return Ok(self.show_plan(context, &plan));
        }

        require_consent(&plan, context)?;
        let program = find_codex_if_needed(&plan, context)?;
        let snapshot = repair::apply(&target, &mut plan, program.as_ref(), context.now())?;
        warn_of_skipped_files(&plan.skipped, context);
        self.check_and_show(&plan, &snapshot, context)
    }

    /// Checks the home after a repair, and prints the changes and the findings that stay.
    ///
    /// # Errors
    /// The check finds differences that a repair should fix.
    fn check_and_show(
        &self,
        plan: &RepairPlan,
        snapshot: &RepairSnapshot,
        context: &Context,
    ) -> Result<Outcome> {
        let report = find_differences(context)?.report;
        let mut remaining = report.count_unrepairable();
        if report.needs_repair() {
            // All differences that another repair could fix count as one finding.
            remaining += 1;
        }

        show_changes(context, &plan.changes);
        if !report.is_consistent() {
            check::show_report(context, &report, check::MAX_SHOWN);
        }
        context.ui.prose(format_args!(
            "{} made; the previous state is kept as {}",
            pluralize(plan.changes.len(), "change"),
            snapshot.name()
        ));
        context.note("undo it with: codex-manager history undo");
        self.show_json(&plan.changes, Some(&snapshot.folder), remaining, context);

        // If a file was skipped, differences are expected.
        if report.needs_repair() && plan.skipped.is_empty() {
            let message = "the check after the repair still finds differences";
            let hint = if plan.recreates_database {
                "run the same command again to repair the rest"
            } else {
                "restore the previous state with: codex-manager history undo"
            };
            return Err(CommandError::failed(message).hint(hint));
        }
        Ok(Outcome::partial_if(remaining > 0))
    }

    /// Prints the plan. Outside of a dry run, findings that a repair cannot fix make the outcome partial.
    fn show_plan(&self, context: &Context, plan: &RepairPlan) -> Outcome {
        show_changes(context, &plan.changes);
        if plan.changes.is_empty() {
            context.ui.line("nothing to repair");
        } else {
            context.ui.prose(format_args!(
                "{} would be made; nothing was changed",
                pluralize(plan.changes.len(), "change")
            ));
            for holder in repair::find_holders(&repair_context(context)) {
                context.warn(format_args!("the home is in use by {holder}"));
            }
        }

        if plan.unrepairable > 0 {
            context.note(format_args!(
                "{} that repair cannot fix; list them with: codex-manager history check",
                pluralize(plan.unrepairable, "finding")
            ));
        }

        let snapshot = None;
        self.show_json(&plan.changes, snapshot, plan.unrepairable, context);
        Outcome::partial_if(!self.dry_run && plan.unrepairable > 0)
    }

    /// Prints the JSON document. Its keys are an interface. `remaining` is the number of findings that were not fixed.
    fn show_json(
        &self,
        changed: &[RepairChange],
        snapshot: Option<&Path>,
        remaining: usize,
        context: &Context,
    ) {
        let json = object()
            .with("changed", changed)
            .with("snapshot", snapshot)
            .with("remaining", remaining)
            .with("dry_run", self.dry_run);
        context.ui.document("history repair", &json);
    }
}

/// Asks before conversations are removed from the list.
///
/// # Errors
/// The user does not consent, or cannot be asked.
fn require_consent(plan: &RepairPlan, context: &Context) -> Result<()> {
    let is_removal = |change: &&RepairChange| change.action == RepairAction::DropRow;
    let removed_count = plan.changes.iter().filter(is_removal).count();
    let removed = pluralize(removed_count, "conversation");
    if removed_count == 0
        || context.confirm(format_args!(
            "remove {removed} without a file from Codex's list?"
        ))
    {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "removing {removed} from Codex's list needs confirmation"
    ))
    .hint("list them with --dry-run, or confirm with --yes; nothing was changed"))
}

/// Finds Codex and prints what it will do; `None` if the repair does not need it.
fn find_codex_if_needed(plan: &RepairPlan, context: &Context) -> Result<Option<Program>> {
    if !plan.needs_codex() {
        return Ok(None);
    }

    let (problem, note) = if plan.recreates_database {
        (
            "the database is missing or damaged, and only Codex can recreate it",
            "Codex creates its list of conversations again; this may take minutes",
        )
    } else {
        (
            "Codex shows conversations without some turns, and only Codex can read them again",
            "Codex re-reads the conversations that it shows only in part",
        )
    };
    let program = context.find_codex().map_err(|error| {
        CommandError::failed(problem)
            .because(error)
            .hint("install Codex or name it with --codex-bin FILE; nothing was changed")
    })?;
    context.note(note);
    Ok(Some(program))
}

/// The number of changes that are listed without --verbose.
const MAX_SHOWN: usize = 20;

fn show_changes(context: &Context, changes: &[RepairChange]) {
    let ui = &context.ui;
    let shown_count = ui.limit_items(changes.len(), MAX_SHOWN);
    let ids: Vec<_> = changes.iter().map(|change| change.id.to_string()).collect();
    let shown_ids = ids.iter().take(shown_count);
    let shown_ids = shown_ids.map(|id| id.to_lowercase()).collect();
    let titles = read_titles(context.codex_home(), &context.env, shown_ids);

    for (change, id) in changes.iter().zip(&ids).take(shown_count) {
        let new_text = printable(&change.to);
        // The words are padded to the same width.
        let action = match change.action {
            RepairAction::Path => "fix path",
            RepairAction::AddRow => "add row ",
            RepairAction::Name => "set name",
            RepairAction::Preview => "set text",
            RepairAction::Mode => "set mode",
            RepairAction::Turns => "show all",
            RepairAction::DropRow => "drop row",
            // The change of the whole database has no title.
            RepairAction::Database => {
                ui.prose(format_args!("database, recreated by Codex: {new_text}"));
                continue;
            }
        };

        let title = match change.action {
            // The text of the change is the new name.
            RepairAction::Name => None,
            RepairAction::Preview => rollout::first_line(&change.to),
            // Codex may not list the conversation yet, so the title may be only in the rollout at `change.to`.
            _ => titles
                .get(&id.to_lowercase())
                .cloned()
                .or_else(|| rollout::read_title(Path::new(&change.to))),
        };
        let title = title.map_or(new_text, |title| printable(&title));

        let id = unique_short_id(id, ids.iter().map(String::as_str));
        ui.prose(format_args!("{action}  {}  {title}", printable(id)));
    }

    ui.print_hidden_count(changes.len() - shown_count);
}
