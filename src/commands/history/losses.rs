//! `history losses`: lists conversations with messages that only a copy has.

use crate::context::Context;
use crate::copies::losses::acceptance::LossAcceptance;
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::places;
use crate::copies::losses::report::{
    CheckExtent, LossJson, record_losses, to_json_rows, warn_of_failures,
};
use crate::copies::losses::search::{FoundLosses, LossSearch};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::steps::snapshot_source::add_all_snapshots;
use crate::ui::{Style, object};
use crate::views::account::printable;
use clap::Args;
use codex_manager_core::history::thread_choice;
use codex_manager_core::inventory::{KnownLoss, losses};
use codex_manager_core::io::pluralize;

/// List conversations that lack messages which an archive or another copy has
///
/// Codex rewrites conversations: it compacts them in place, migrates them, and keeps no old file. This compares
/// each conversation of the home, by messages, with its copies in archives, also those in the trash, in conflict copies
/// of `sync`, and in the trash of conversations. Exits with 0 if nothing is missing and with 5 if messages are.
/// Conversations that you deleted, and messages that you took back with Esc Esc, are not missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history losses
  codex-manager history losses --vault
  codex-manager history losses --accept 01a1f78b        # the loss was meant
  codex-manager history losses --json | jq -r '.losses[].command'")]
pub(super) struct LossesArgs {
    /// Compare with the snapshots in the vault too
    #[arg(long)]
    vault: bool,
    /// Do not report again what this conversation lacks now: id, title, or the beginning of either; repeatable
    #[arg(long, value_name = "SESSION")]
    accept: Vec<String>,
}

impl LossesArgs {
    /// Compares the conversations of the home with their copies, then prints the losses. Records them, unless
    /// `--accept` changes their record. Returns [`Outcome::CheckFailed`] for any loss that the user has not accepted.
    ///
    /// # Errors
    /// The home, the archives or the vault cannot be listed, `--accept` names no conversation with a loss or several,
    /// or the user interrupts.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        require_codex_home(context)?;
        let live_threads = LiveThreads::read(context.codex_home())?;
        let mut search = LossSearch::new(live_threads);

        let mut could_compare_all =
            places::add_archives(&mut search, &context.archives()?, context)?;
        if self.vault {
            add_all_snapshots(&mut search, context)?;
        }
        places::add_single_files(&mut search, context)?;

        let acceptance = LossAcceptance::read(&search.live, context)?;
        acceptance.withdraw_returned(context);
        let found = search.find_losses(&acceptance.accepted)?;
        warn_of_failures(&found, context);
        could_compare_all &= found.failures.is_empty();

        let mut rows = to_json_rows(&found.losses, &search.places, context);
        let accepted = if self.accept.is_empty() {
            let extent = if self.vault {
                CheckExtent::All
            } else {
                CheckExtent::WithoutVault
            };
            record_losses(&found, &rows, &search.places, &extent, context);
            Vec::new()
        } else {
            self.accept_losses(&found, &rows, context)?
        };

        rows.retain(|loss| !accepted.contains(&loss.session_id));
        show_losses(&rows, context);
        let json = object()
            .with("losses", &rows)
            .with("accepted", accepted)
            .with("vault", self.vault);
        context.ui.document("history losses", &json);
        Ok(if rows.is_empty() {
            Outcome::partial_if(!could_compare_all)
        } else {
            Outcome::CheckFailed
        })
    }

    /// Accepts the losses of the conversations that `--accept` names, and returns the ids of these conversations.
    ///
    /// # Errors
    /// A name matches no conversation or several, or the record cannot be written. No loss is accepted then.
    fn accept_losses(
        &self,
        found: &FoundLosses,
        listed: &[LossJson],
        context: &Context,
    ) -> Result<Vec<String>> {
        let ids = self.accept.iter().map(|text| find_loss_id(text, listed));
        let accepted = ids.collect::<Result<Vec<_>>>()?;

        let home = context.codex_home().display().to_string();
        losses::update(context.manager_home(), |record| {
            let is_accepted = |id: &String| accepted.contains(id);
            for loss in found.losses.iter().filter(|loss| is_accepted(&loss.id)) {
                record.accept(&home, &loss.id, loss.dated_digests());
            }
            // `notify` reads these losses of the last check, and must not report an accepted one.
            let is_obsolete = |loss: &KnownLoss| loss.home == home && is_accepted(&loss.session_id);
            record.losses.retain(|loss| !is_obsolete(loss));
        })?;

        for id in &accepted {
            context.ui.report(format_args!("accepted: {id}"));
        }
        Ok(accepted)
    }
}

/// Returns the id of the conversation that `text` names.
fn find_loss_id(text: &str, listed: &[LossJson]) -> Result<String> {
    let id = |loss: &LossJson| loss.session_id.clone();
    let has_title = |loss: &LossJson, fits: &dyn Fn(&str) -> bool| fits(&loss.title);
    let matching = thread_choice::find_named(&listed.iter(), text, id, has_title);

    let name = printable(text);
    let message = match matching.as_slice() {
        [loss] => return Ok(loss.session_id.clone()),
        [] => format!("no conversation with lost messages has this id or title: {name}"),
        _ => format!("{name:?} matches several conversations"),
    };
    Err(CommandError::failed(message).hint("list them with: codex-manager history losses"))
}

fn show_losses(losses: &[LossJson], context: &Context) {
    let ui = &context.ui;
    if losses.is_empty() {
        ui.prose("found no lost messages");
        return;
    }

    let count = losses.iter().map(|loss| loss.lost_messages).sum::<usize>();
    let verb = if count == 1 { "exists" } else { "exist" };
    ui.prose(format_args!(
        "{} of {} {verb} only in copies:",
        pluralize(count, "message"),
        pluralize(losses.len(), "conversation")
    ));

    for loss in losses {
        let title = ui.paint(Style::Strong, printable(&loss.title));
        ui.line(format_args!("\n{title}  {}", loss.session_id));
        let since = loss.format_first_lost(context);
        ui.line(format_args!(
            "  {}{since}, in {}",
            pluralize(loss.lost_messages, "message"),
            printable(&loss.place)
        ));
        if let Some(command) = &loss.command {
            ui.line(ui.complete_command(2, command));
        }
    }

    ui.note("\nif a loss was intended, accept it: codex-manager history losses --accept ID");
}
