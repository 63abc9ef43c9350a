//! `vault forget`: the rules of `prune` for snapshots.

use crate::choices::retention_args::RetentionArgs;
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::copies::losses::last_copy;
use crate::error::{CommandError, Outcome, Result};
use crate::inventory::losses;
use crate::inventory::retention::{self, RetentionPlan};
use crate::io::disk_clock;
use crate::io::quantity::pluralize;
use crate::ui::object;
use crate::vault::snapshot::{self, Snapshot};
use crate::views::retention_table::{self, RetentionSubject, rows_json};
use clap::Args;

/// Remove old snapshots from the vault
///
/// Applies the rules of `prune`, separately for each account, machine and home. The newest full
/// snapshot of each is always kept, and so is the last one with messages that a conversation lacks, if
/// `history losses --vault` found that. There is no trash: unused data is deleted from the repository.
/// Snapshots of other programs are never removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault forget --keep-last 3 --keep-weekly 4 --dry-run
  codex-manager vault forget --keep-daily 7 --keep-monthly 12 --yes")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    rules: RetentionArgs,
    /// Show what would be removed, and why; remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Keeps the last snapshot that has messages which a conversation lacked when `history losses --vault` ran.
fn keep_last_copies(plan: &mut RetentionPlan, context: &Context) -> Result<()> {
    let record = losses::read(context.manager_home())?;
    for loss in &record.losses {
        let reason = last_copy(&loss.session_id);
        for names in &loss.snapshots {
            plan.keep_one_of(names, &reason);
        }
    }
    Ok(())
}

impl ForgetArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let rules = self.rules.rules(context, "vault forget")?;
        let restic = connection.open(context)?;
        let snapshots = snapshot::list(&restic)?;
        let candidates: Vec<_> = snapshots.iter().filter_map(Snapshot::candidate).collect();
        let mut plan = retention::plan(&candidates, &rules, &context.now(), context.zone());
        keep_last_copies(&mut plan, context)?;
        let ui = &context.ui;
        retention_table::show(context, &plan, RetentionSubject::Snapshots);
        let count = pluralize(plan.drop.len(), "snapshot");
        if plan.drop.is_empty() {
            ui.line("nothing to forget");
        } else if self.dry_run {
            ui.prose(format_args!("{count} would be removed"));
        } else {
            let agreed = context.settings.assume_yes
                || ui
                    .confirm(format_args!("remove {count} permanently?"))
                    .unwrap_or_default();
            if !agreed {
                return Err(CommandError::refused(format!(
                    "removing snapshots needs confirmation: {count}"
                ))
                .hint("remove them permanently with --yes; nothing was changed"));
            }
            if rules.within.is_some() {
                disk_clock::check(context.manager_home(), context.now())?;
            }
            let mut args = vec!["forget"];
            args.extend(plan.drop.iter().map(|d| d.candidate.archive.as_str()));
            restic.run(&args)?;
            // A separate step: a killed prune leaves only unused data, which the next one removes.
            restic.run(&["prune"])?;
            ui.prose(format_args!("{count} removed"));
        }
        let json = object()
            .with("keep", rows_json(plan.keep, context))
            .with("drop", rows_json(plan.drop, context))
            .with("dry_run", self.dry_run);
        ui.document("vault forget", &json);
        Ok(Outcome::Done)
    }
}
