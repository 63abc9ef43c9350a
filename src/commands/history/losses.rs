//! `history losses`: lists messages and whole conversations that only a copy has.

use crate::context::Context;
use crate::copies::losses::acceptance::LossAcceptance;
use crate::copies::losses::gone::record_gone;
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::{CopyPlace, SearchedPlace};
use crate::copies::losses::places;
use crate::copies::losses::report::{
    CheckExtent, GoneJson, LossJson, record_losses, to_gone_rows, to_json_rows, warn_of_failures,
};
use crate::copies::losses::search::{FoundLosses, LossSearch};
use crate::doctor::way_back::{DismissedIds, find_way_back};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::steps::snapshot_source::add_all_snapshots;
use crate::ui::{Cell, Column, Style, Table, object};
use crate::views::account::{absolute_time, printable, shown_title};
use clap::Args;
use codex_manager_core::history::thread_choice;
use codex_manager_core::inventory::{KnownLoss, losses};
use codex_manager_core::io::pluralize;
use std::collections::BTreeSet;

/// List messages and whole conversations that only an archive or another copy has
///
/// Codex rewrites conversations: it compacts them in place, migrates them, and keeps no old file. This compares
/// each conversation of the home, by messages, with its copies in archives, also those in the trash, in conflict copies
/// of `sync`, and in the trash of conversations. Messages that you took back with Esc Esc are not missing.
/// Conversations that the home lacks are listed too, unless you moved them to the trash with `storage trash`. Exits
/// with 5 if messages are missing, or so many conversations that you hardly deleted them one by one; else with 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history losses
  codex-manager history losses --vault
  codex-manager history losses --accept 01a1f78b        # the loss was meant
  codex-manager history losses --accept --all
  codex-manager history losses --json | jq -r '.losses[].command'")]
pub(super) struct LossesArgs {
    /// Compare with the snapshots in the vault too
    #[arg(long)]
    vault: bool,
    /// Do not report again what this conversation lacks now, or that it is gone: id, title, or the beginning of either;
    /// repeatable
    #[arg(long, value_name = "SESSION", num_args = 0..=1, default_missing_value = "")]
    accept: Vec<String>,
    /// With --accept: all listed conversations
    #[arg(long, requires = "accept")]
    all: bool,
}

impl LossesArgs {
    /// Compares the conversations of the home with their copies, then prints the losses. Records them, unless
    /// `--accept` changes their record. Returns [`Outcome::CheckFailed`] for lost messages, or for so many gone
    /// conversations that they are a loss, unless the user has accepted them.
    ///
    /// # Errors
    /// The home, the archives or the vault cannot be listed, `--accept` names no conversation with a loss or several,
    /// or the user interrupts.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        self.check_accepted_names()?;
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

        let dismissed = DismissedIds::read(context)?;
        let gone = search.find_gone(&dismissed, CopyPlace::can_have_gone_conversations);
        let mut vanished = search.find_vanished(&gone, context.now());
        // These vanished before the newest archive was made, so a comparison with it does not find them.
        let recorded = context.recorded_gone();
        let ids = gone.iter().map(|gone| gone.id.clone());
        vanished.extend(ids.filter(|id| recorded.get(id).is_some_and(|known| known.is_loss)));
        let mut listed = Listed {
            losses: to_json_rows(&found.losses, &search.places, context),
            gone: to_gone_rows(gone.clone(), &search, context),
        };

        let accepted = if self.accept.is_empty() {
            let extent = if self.vault {
                CheckExtent::All
            } else {
                CheckExtent::WithoutVault
            };
            record_losses(&found, &listed.losses, &search.places, &extent, context);
            let uses_vault = context.settings.preferences.vault.repository.is_some();
            let is_complete_check = could_compare_all && (self.vault || !uses_vault);
            record_gone(&gone, &vanished, is_complete_check, context);
            Vec::new()
        } else {
            self.accept_losses(&found, &listed, context)?
        };

        listed.remove(&accepted);
        vanished.retain(|id| !accepted.contains(id));
        listed.show(&search.places, context);
        let has_losses = !listed.losses.is_empty() || !vanished.is_empty();
        let json = object()
            .with("losses", &listed.losses)
            .with("gone", &listed.gone)
            .with("accepted", accepted)
            .with("vault", self.vault);
        context.ui.document("history losses", &json);
        Ok(if has_losses {
            Outcome::CheckFailed
        } else {
            Outcome::partial_if(!could_compare_all)
        })
    }

    /// # Errors
    /// `--accept` has no name, and there is no `--all`.
    fn check_accepted_names(&self) -> Result<()> {
        if self.all || !self.accept.iter().any(String::is_empty) {
            return Ok(());
        }
        Err(CommandError::usage("--accept needs a conversation")
            .hint("name one, or accept all: codex-manager history losses --accept --all"))
    }

    /// Accepts the losses of the conversations that `--accept` names, and returns the ids of these conversations.
    ///
    /// # Errors
    /// A name matches no conversation or several, or the record cannot be written. No loss is accepted then.
    fn accept_losses(
        &self,
        found: &FoundLosses,
        listed: &Listed,
        context: &Context,
    ) -> Result<Vec<String>> {
        let all_names = listed.names();
        let accepted = if self.all {
            all_names.iter().map(|(id, _)| (*id).to_owned()).collect()
        } else {
            let ids = self
                .accept
                .iter()
                .map(|text| find_loss_id(text, &all_names));
            ids.collect::<Result<Vec<_>>>()?
        };

        let home = losses::home_key(context.codex_home());
        losses::update(context.manager_home(), |record| {
            let is_accepted = |id: &String| accepted.contains(id);
            for loss in found.losses.iter().filter(|loss| is_accepted(&loss.id)) {
                record.accept(&home, &loss.id, loss.dated_digests());
            }
            // `notify` reads these losses of the last check, and must not report an accepted one.
            let is_obsolete = |loss: &KnownLoss| loss.home == home && is_accepted(&loss.session_id);
            record.losses.retain(|loss| !is_obsolete(loss));

            let gone = listed.gone.iter().map(|row| row.session_id.clone());
            record.accept_gone(&home, gone.filter(is_accepted));
        })?;

        if self.all {
            context.ui.report(format_args!(
                "accepted: {}",
                pluralize(accepted.len(), "conversation")
            ));
        } else {
            for id in &accepted {
                context.ui.report(format_args!("accepted: {id}"));
            }
        }
        Ok(accepted)
    }
}

/// The conversations with losses.
struct Listed {
    losses: Vec<LossJson>,
    gone: Vec<GoneJson>,
}

impl Listed {
    /// Returns the id and the title of each conversation.
    fn names(&self) -> Vec<(&str, &str)> {
        let losses = self
            .losses
            .iter()
            .map(|row| (&*row.session_id, &*row.title));
        let gone = self.gone.iter().map(|row| (&*row.session_id, &*row.title));
        losses.chain(gone).collect()
    }

    fn remove(&mut self, accepted: &[String]) {
        let accepted: BTreeSet<_> = accepted.iter().collect();
        self.losses
            .retain(|row| !accepted.contains(&row.session_id));
        self.gone.retain(|row| !accepted.contains(&row.session_id));
    }

    fn show(&self, places: &[SearchedPlace], context: &Context) {
        show_losses(&self.losses, context);
        if !self.gone.is_empty() && !context.ui.wants_json() {
            show_gone(&self.gone, places, context);
        }
        if !self.losses.is_empty() || !self.gone.is_empty() {
            context.ui.note(
                "\nif a loss was intended, accept it: codex-manager history losses --accept ID",
            );
        }
    }
}

/// Returns the id of the conversation that `text` names.
fn find_loss_id(text: &str, names: &[(&str, &str)]) -> Result<String> {
    let id = |(id, _): &(&str, &str)| (*id).to_owned();
    let has_title = |(_, title): &(&str, &str), fits: &dyn Fn(&str) -> bool| fits(title);
    let matching = thread_choice::find_named(&names.iter(), text, id, has_title);

    let name = printable(text);
    let message = match matching.as_slice() {
        [(id, _)] => return Ok((*id).to_owned()),
        [] => format!(
            "no lost conversation, and none with lost messages, has this id or title: {name}"
        ),
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
        let title = ui.paint(Style::Strong, shown_title(&loss.title));
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
}

/// The largest number of gone conversations that get a command each.
const MAX_COMMANDS: usize = 3;

/// Prints the gone conversations, grouped by the place that has them, with the command that brings all of a place back.
fn show_gone(gone: &[GoneJson], places: &[SearchedPlace], context: &Context) {
    let ui = &context.ui;
    let count = pluralize(gone.len(), "conversation");
    ui.prose(format_args!(
        "\nwhole conversations only in copies: {count}"
    ));

    let columns = [
        Column::new("TITLE").shorten(20),
        Column::new("SESSION").rank(3),
        Column::new("LAST LIVE").rank(1),
        Column::new("ACCOUNT").rank(2).shorten_middle(12),
        Column::new("COPY").only_tsv(),
    ];
    let mut table = Table::new(ui, columns);
    for of_place in gone.chunk_by(|a, b| a.place == b.place) {
        let place = &places[of_place[0].gone.place].place;
        let remark = pluralize(of_place.len(), "conversation");
        table.add_group(
            printable(&of_place[0].place),
            Some(Cell::new(Style::Dim, remark)),
        );
        for row in of_place {
            let made_at = place.backup.as_ref().map(|backup| &backup.made_at);
            table.add_row([
                Cell::plain(shown_title(&row.title)),
                Cell::plain(&row.session_id),
                Cell::plain(made_at.map_or_else(String::new, |at| absolute_time(at, context)))
                    .value(row.last_live_at.clone().unwrap_or_default()),
                Cell::plain(row.email.clone().unwrap_or_default()),
                Cell::plain(&row.place),
            ]);
        }
    }
    table.report(ui);

    let mut commands = Vec::new();
    for row in gone {
        let place = &places[row.gone.place].place;
        // `--merge` also brings the other files of the archive.
        let merge_command = place
            .format_merge_command()
            .filter(|_| gone.len() > MAX_COMMANDS);
        let command = merge_command.or_else(|| row.command.clone());
        if let Some(command) = command.filter(|command| !commands.contains(command)) {
            commands.push(command);
        }
    }
    // The hint for a home that lacks its conversations names this command.
    let way_back = find_way_back(context).map(|way_back| way_back.command);
    commands.retain(|command| Some(command) != way_back.as_ref());
    for command in commands {
        ui.line(ui.complete_command(2, &command));
    }
}
