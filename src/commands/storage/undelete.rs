//! `storage undelete`: brings conversations back from the trash, or lists it.

use crate::commands::storage::trash::{find_entry, select_conversations};
use crate::commands::storage::trash_item::{TrashAction, TrashItem, print_items, print_json};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::views::account::printable;
use crate::views::dry_run::would_be;
use clap::Args;
use codex_manager_core::conversations::index;
use codex_manager_core::io::pluralize;
use codex_manager_core::storage::selection::TrashFilter;
use codex_manager_core::storage::trash::{self, ConversationTrash};
use codex_manager_core::storage::trash_entry::{TrashEntry, TrashError};

/// Bring conversations back from the trash
///
/// Without an argument, lists the trash.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage undelete
  codex-manager storage undelete 01a1f78b")]
pub(super) struct UndeleteArgs {
    /// Conversations in the trash: ids, titles, or beginnings of either
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl UndeleteArgs {
    /// Brings the conversations back, or lists the trash.
    ///
    /// # Errors
    /// A name matches no conversation, several, or one of another home, or no conversation can be brought back.
    /// Nothing is changed then.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let entries = trash::list_entries(context.manager_home())?;
        if self.sessions.is_empty() {
            self.print_trash(&entries, context);
            return Ok(Outcome::Done);
        }

        require_codex_home(context)?;
        let chosen = self.choose_entries(&entries, context)?;
        let trash = if self.dry_run {
            None
        } else {
            refuse_during_restore(context)?;
            Some(ConversationTrash::lock(context.manager_home())?)
        };
        let (items, first_error) = put_back(&chosen, trash.as_ref());

        if !self.dry_run {
            index::expect_changed_rollouts(context.manager_home(), context.codex_home());
        }

        // If a conversation came back, an error makes the result partial. Otherwise the error ends the run.
        let is_restored = |item: &&TrashItem| item.action == TrashAction::Undelete;
        let restored_count = items.iter().filter(is_restored).count();
        let is_partial = first_error.is_some();
        if let (0, Some(e)) = (restored_count, first_error) {
            return Err(e.into());
        }

        let would_be_text = would_be(self.dry_run);
        print_items(context, &items);
        let conversations = pluralize(restored_count, "conversation");
        let ui = &context.ui;
        ui.line(format_args!("{conversations} {would_be_text}brought back"));
        print_json(context, "storage undelete", &items, self.dry_run);
        Ok(Outcome::partial_if(is_partial))
    }

    fn print_trash(&self, entries: &[TrashEntry], context: &Context) {
        let to_item = |entry| TrashItem::of_entry(entry, TrashAction::List);
        let items: Vec<_> = entries.iter().map(to_item).collect();
        if items.is_empty() {
            context.ui.line("the trash is empty");
        }
        print_items(context, &items);
        print_json(context, "storage undelete", &items, self.dry_run);
    }

    /// Returns the named entries, and the bases that their forks need. Skips conversations that an earlier run
    /// restored, so that a command can be repeated after a partial failure.
    fn choose_entries<'a>(
        &self,
        entries: &'a [TrashEntry],
        context: &Context,
    ) -> Result<Vec<&'a TrashEntry>> {
        let home = context.codex_home();
        let mut chosen = Vec::new();
        for name in &self.sessions {
            match find_entry(entries, name, home) {
                Ok(entry) if chosen.contains(&entry) => {}
                Ok(entry) => chosen.push(entry),
                Err(_) if is_already_restored(entries, name, context)? => {
                    let note = format!("the home already has this conversation: {name}");
                    context.note(printable(&note));
                }
                Err(e) => return Err(e),
            }
        }

        let rollouts = chosen.iter().flat_map(|entry| entry.rollouts());
        for base in trash::find_bases(entries, home, rollouts.collect()) {
            if !chosen.contains(&base) {
                let id = &base.conversation.id;
                context.note(format_args!("the base of a fork comes back with it: {id}"));
                // The base comes before its fork: without the base, Codex cannot show the earlier turns of the fork.
                chosen.insert(0, base);
            }
        }
        Ok(chosen)
    }
}

/// Brings the entries back; without `trash`, only checks that they can be brought back. Goes on after an entry that
/// fails, and also returns the first error.
fn put_back(
    entries: &[&TrashEntry],
    trash: Option<&ConversationTrash>,
) -> (Vec<TrashItem>, Option<TrashError>) {
    let (mut items, mut first_error) = (Vec::new(), None);
    for entry in entries {
        let mut item = TrashItem::of_entry(entry, TrashAction::Undelete);
        let result = match trash {
            Some(trash) => trash.put_back(entry),
            None => entry.refuse_other_copies(),
        };
        if let Err(e) = result {
            item.action = TrashAction::Skip;
            item.reason = Some(e.to_string());
            first_error = first_error.or(Some(e));
        }
        items.push(item);
    }
    (items, first_error)
}

/// Returns true if the trash has no conversation of this name, and the home has exactly one.
fn is_already_restored(entries: &[TrashEntry], name: &str, context: &Context) -> Result<bool> {
    let id_prefix = name.to_lowercase();
    let is_named = |TrashEntry { conversation, .. }: &TrashEntry| {
        conversation.id.starts_with(&id_prefix) || conversation.title == name
    };
    if entries.iter().any(is_named) {
        return Ok(false);
    }

    let filter = TrashFilter {
        sessions: vec![name.to_owned()],
        ..TrashFilter::default()
    };
    let selection = select_conversations(&filter, context)?;
    Ok(selection.conversations.len() == 1)
}
