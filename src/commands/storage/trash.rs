//! `storage trash`: moves conversations to the trash of the manager home, and empties it.

use crate::choices::project_choice::find_all_project_folders;
use crate::choices::sync_config::note_if_sync_restores_deleted;
use crate::commands::storage::report::{
    ambiguous_name_error, check_names_resolved, warn_of_unreadable,
};
use crate::commands::storage::trash_item::{TrashAction, TrashItem, print_items, print_json};
use crate::context::Context;
use crate::copies::archived::list_ids_on_disk;
use crate::error::{CommandError, Outcome, Result, check_interrupt};
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::ui::{bytes, time};
use crate::views::account::printable;
use crate::views::dry_run::would_be;
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::history::thread_choice;
use codex_manager_core::inventory::losses;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::io::{pluralize, progress, shell};
use codex_manager_core::storage::selection::{
    DependentFork, SelectedConversation, TrashFilter, TrashSelection,
};
use codex_manager_core::storage::trash::{self, ConversationTrash, RolloutCopies};
use codex_manager_core::storage::trash_entry::{TrashEntry, TrashError};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Move conversations to the trash
///
/// A conversation goes with its row and its names, and `codex-manager storage undelete` brings it
/// back as it was. Codex does not list it any more. After 30 days (setting `storage.keep_trash`), the
/// next run deletes it permanently and says so, unless the clock and that of the disk differ. A
/// conversation that has forks is moved only together with them; filters leave it out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage trash 01a1f78b
  codex-manager storage trash --no-turns --dry-run
  codex-manager storage trash --older-than 180d --project ~/old
  codex-manager storage trash --empty-trash")]
pub(super) struct TrashArgs {
    /// Conversations: ids, titles, or beginnings of either
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    /// Only conversations that are unchanged for this long: 180d, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Option<TimeDelta>,
    /// Only conversations that work in this folder or below it, or in the project with this name; repeatable
    #[arg(long, value_name = "DIR|NAME")]
    project: Vec<PathBuf>,
    /// Only the subagents of this conversation, given by its id
    #[arg(long, value_name = "ID")]
    subagents_of: Option<String>,
    /// Only conversations without any turn, command or name
    #[arg(long)]
    no_turns: bool,
    /// Delete all conversations in the trash permanently, except those that a fork in their home needs, and
    /// those with turns that their home lacks
    #[arg(long, conflicts_with_all = ["sessions", "older_than", "project", "subagents_of", "no_turns"])]
    empty_trash: bool,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl TrashArgs {
    /// Moves the conversations to the trash, and deletes the conversations that have been in the trash for too long.
    /// With `--empty-trash`, only deletes the conversations in the trash.
    ///
    /// # Errors
    /// No conversation is chosen, a name is unknown or ambiguous, a fork needs a chosen conversation, or the deletion
    /// is not confirmed; nothing is changed then. Or the user interrupts, or expired conversations cannot be deleted:
    /// conversations that were moved stay in the trash.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        if self.empty_trash {
            return self.delete_trash(context);
        }

        let filter = self.build_filter(context)?;
        require_codex_home(context)?;

        let home = context.codex_home();
        let database = context.state_database();
        let mut selection = select_conversations(&filter, context)?;
        warn_of_unreadable(context, &selection.unreadable);
        let mut items = take_trashed_names(&mut selection, context)?;
        self.check_selection(&selection, context)?;

        let mut removal_of_expired = Ok(Vec::new());
        if self.dry_run {
            let chosen = selection.conversations.iter();
            items.extend(chosen.map(TrashItem::trashed));
        } else if !selection.conversations.is_empty() {
            refuse_during_restore(context)?;
            let copies = RolloutCopies::create(context.manager_home())?;
            let added = copy_rollouts(&copies, &selection.conversations);
            let trash = ConversationTrash::lock(context.manager_home())?;
            for (selected, added) in selection.conversations.iter().zip(added) {
                // Checked between two conversations, because `discard` moves a conversation as a whole or not at all.
                if progress::is_interrupted() {
                    break;
                }
                let discard = || {
                    let database = database.as_deref();
                    trash.discard(home, database, selected, &copies, context.now())
                };
                items.push(match added.and_then(|()| discard()) {
                    Ok(_) => TrashItem::trashed(selected),
                    Err(e) => TrashItem::skipped(selected, &e),
                });
            }

            if !progress::is_interrupted() {
                removal_of_expired = remove_expired(&trash, context);
            }
        }

        self.print_moved(&items, context);
        let is_partial = !selection.unreadable.is_empty()
            || items.iter().any(|item| item.action == TrashAction::Skip);

        // An error is returned after the document is printed, because the conversations are moved even if the removal
        // failed.
        let removal = removal_of_expired.map(|removed| items.extend(removed));
        print_json(context, "storage trash", &items, self.dry_run);
        removal?;
        check_interrupt()?;
        Ok(Outcome::partial_if(is_partial))
    }

    /// Fails if a name is unknown or ambiguous, or if a fork that is not chosen needs a named conversation. Without
    /// names, prints the conversations that stay because a fork needs them.
    fn check_selection(&self, selection: &TrashSelection, context: &Context) -> Result<()> {
        check_names_resolved(&selection.names)?;
        if self.sessions.is_empty() {
            for DependentFork { id, parent_id } in &selection.dependent_forks {
                context.note(format_args!(
                    "{parent_id} stays, because {id} begins with its history"
                ));
            }
            return Ok(());
        }
        if selection.dependent_forks.is_empty() {
            return Ok(());
        }

        let mut error = CommandError::refused(
            "forks that are not chosen need the history of these conversations",
        );
        for DependentFork { id, parent_id } in &selection.dependent_forks {
            error = error.hint(format!(
                "{id} begins with the history of {parent_id}: move both, or neither"
            ));
        }
        Err(error)
    }

    fn print_moved(&self, items: &[TrashItem], context: &Context) {
        let ui = &context.ui;
        print_items(context, items);
        let is_moved = |item: &&TrashItem| item.action == TrashAction::Trash;
        let moved_count = items.iter().filter(is_moved).count();
        if moved_count == 0 {
            ui.line("no conversation was moved");
            return;
        }

        let would_be_text = would_be(self.dry_run);
        let freed = |item: &TrashItem| item.before_bytes - item.after_bytes;
        let freed_bytes = items.iter().map(freed);
        let conversations = pluralize(moved_count, "conversation");
        ui.prose(format_args!(
            "{conversations} {would_be_text}moved to the trash, {}",
            bytes(freed_bytes.sum())
        ));

        if !self.dry_run {
            ui.note(format_args!(
                "undo with: codex-manager storage undelete {}",
                format_undo_ids(items)
            ));
            note_if_sync_restores_deleted(context);
        }
    }

    /// Returns the filter of the options. Fails if no option selects conversations.
    fn build_filter(&self, context: &Context) -> Result<TrashFilter> {
        let filter = TrashFilter {
            sessions: self.sessions.clone(),
            older_than: self.older_than,
            projects: find_all_project_folders(&self.project, context)?,
            subagents_of: self.subagents_of.clone(),
            no_turns: self.no_turns,
        };

        if filter == TrashFilter::default() {
            return Err(CommandError::usage("no conversation is chosen").hint(
                "name some, or use a filter: codex-manager storage trash --no-turns --dry-run",
            ));
        }
        Ok(filter)
    }

    /// Deletes the conversations in the trash permanently, after a question, except those that are still needed.
    fn delete_trash(&self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let mut entries = trash::list_entries(manager_home)?;
        exclude_needed(&mut entries, context)?;
        let total_bytes = entries.iter().map(TrashEntry::rollout_bytes).sum();
        let count = pluralize(entries.len(), "conversation");
        let contents = format!("{count}, {}", bytes(total_bytes));

        // The sizes are read before the files are deleted.
        let to_item = |entry| TrashItem::of_entry(entry, TrashAction::Remove);
        let items: Vec<_> = entries.iter().map(to_item).collect();

        let ui = &context.ui;
        if entries.is_empty() {
            ui.line("nothing to delete in the trash");
        } else if self.dry_run {
            ui.prose(format_args!("would be deleted permanently: {contents}"));
        } else {
            context.confirm_deletion(&contents)?;
            let trash = ConversationTrash::lock(manager_home)?;
            remove_entries(&trash, &entries, context)?;
            ui.prose(format_args!("deleted permanently: {contents}"));
        }

        print_json(context, "storage trash", &items, self.dry_run);
        Ok(Outcome::Done)
    }
}

/// Copies the rollouts of the conversations. Returns the result for each one, until the user interrupts.
fn copy_rollouts(
    copies: &RolloutCopies,
    conversations: &[SelectedConversation],
) -> Vec<Result<(), TrashError>> {
    let uninterrupted = conversations
        .iter()
        .take_while(|_| !progress::is_interrupted());
    uninterrupted.map(|selected| copies.add(selected)).collect()
}

/// Returns the entry of `home` that `name` selects. If the conversation is in the trash twice, returns the newest
/// entry.
///
/// # Errors
/// No conversation in the trash matches, several match, or the match belongs to another home.
pub(super) fn find_entry<'a>(
    entries: &'a [TrashEntry],
    name: &str,
    home: &Path,
) -> Result<&'a TrashEntry> {
    let has_title =
        |entry: &TrashEntry, fits: &dyn Fn(&str) -> bool| fits(&entry.conversation.title);
    let id = |entry: &TrashEntry| entry.conversation.id.clone();
    let mut matching_entries = thread_choice::find_named(&entries.iter(), name, id, has_title);

    // The trash has conversations of all homes. Those of this home are preferred.
    let is_of_home = |entry: &&TrashEntry| entry.is_of_home(home);
    if matching_entries.iter().any(is_of_home) {
        matching_entries.retain(is_of_home);
    }

    // The entries are in the order of time, so the last one is the newest.
    let Some(newest_entry) = matching_entries.pop() else {
        return Err(CommandError::failed(format!("not in the trash: {name}"))
            .hint("list the trash with: codex-manager storage undelete"));
    };

    if matching_entries
        .iter()
        .any(|entry| entry.conversation.id != newest_entry.conversation.id)
    {
        let list_command = "codex-manager storage undelete";
        return Err(ambiguous_name_error(name, list_command));
    }

    if !is_of_home(&newest_entry) {
        return Err(other_home_error(&newest_entry.conversation.home.0, home));
    }

    Ok(newest_entry)
}

/// Returns the error for a conversation whose home `origin` is not the Codex home.
fn other_home_error(origin: &Path, codex_home: &Path) -> CommandError {
    let link_advice = "if that home was moved, link its old path to it, and repeat";
    let hint = if origin.exists() {
        "choose that home with --codex-home; nothing was changed".to_owned()
    } else if cfg!(windows) {
        link_advice.to_owned()
    } else {
        let [new, old] =
            [codex_home, origin].map(|path| shell::quote_if_needed(&path.to_string_lossy()));
        format!("{link_advice}: ln -s {new} {old}")
    };
    let origin = origin.display();
    let message = format!("this conversation belongs to another Codex home: {origin}");
    CommandError::refused(message).hint(hint)
}

/// Removes the names of conversations that are already in the trash from the unknown names of `selection`, so that a
/// command can be repeated after a partial failure. Returns the items of these conversations.
fn take_trashed_names(selection: &mut TrashSelection, context: &Context) -> Result<Vec<TrashItem>> {
    if selection.names.unknown.is_empty() {
        return Ok(Vec::new());
    }

    let entries = trash::list_entries(context.manager_home())?;
    let mut items = Vec::new();
    selection.names.unknown.retain(|name| {
        let Ok(entry) = find_entry(&entries, name, context.codex_home()) else {
            return true;
        };
        let id = &entry.conversation.id;
        context.note(format_args!("already in the trash: {id}"));
        items.push(TrashItem::of_entry(entry, TrashAction::List));
        false
    });
    Ok(items)
}

pub(super) fn select_conversations(
    filter: &TrashFilter,
    context: &Context,
) -> Result<TrashSelection> {
    let (home, database) = (context.codex_home(), context.state_database());
    let selection = TrashSelection::select(home, database.as_deref(), filter, context.now());
    Ok(selection.map_err(TrashError::from)?)
}

/// Deletes conversations in the trash permanently. First records that the user wanted it, because archives may still have
/// them.
fn remove_entries(
    trash: &ConversationTrash,
    entries: &[TrashEntry],
    context: &Context,
) -> Result<()> {
    let mut live_ids: HashMap<&Path, HashSet<String>> = HashMap::new();
    for entry in entries {
        let home = entry.conversation.home.0.as_path();
        if !live_ids.contains_key(home) {
            live_ids.insert(home, list_ids_on_disk(home)?);
        }
    }

    losses::update(context.manager_home(), |record| {
        for entry in entries {
            let home = entry.conversation.home.0.as_path();
            let id = entry.conversation.id.to_lowercase();
            // A restore can have brought the conversation back.
            if !live_ids[home].contains(&id) {
                record.accept_gone(&losses::home_key(home), [id]);
            }
        }
    })?;
    Ok(trash.remove(entries)?)
}

/// Removes from `entries` the conversations that must not be deleted, and warns of each: those that are more complete
/// than every other copy, and those that another conversation continues.
fn exclude_needed(entries: &mut Vec<TrashEntry>, context: &Context) -> Result<()> {
    for (entry, incomplete_rollout) in
        trash::extract_more_complete(context.manager_home(), entries)?
    {
        // The warning does not suggest `storage undelete`. It refuses the entry while the home has the conversation,
        // and once the conversation is trashed again, it brings back the newer entry.
        let folder = entry.folder.display();
        let message = match incomplete_rollout {
            Ok(path) => format!(
                "kept, because it has turns that {} lacks: {folder}",
                path.display()
            ),
            Err(e) => format!("kept, because it cannot be compared with its home: {folder}: {e}"),
        };
        context.warn(printable(&message));
    }
    for entry in trash::extract_needed(context.manager_home(), entries)? {
        let id = shell::quote_if_needed(&entry.conversation.id);
        let home = &entry.conversation.home.0;
        let home_option = if entry.is_of_home(context.codex_home()) {
            String::new()
        } else {
            let home = shell::quote_if_needed(&home.to_string_lossy());
            format!(" --codex-home {home}")
        };
        context.warn(format_args!(
            "kept, because a conversation continues it; bring it back: codex-manager{home_option} storage undelete {id}"
        ));
    }
    Ok(())
}

/// Deletes conversations that have been in the trash for longer than `storage.keep_trash`, and returns their items.
/// Deletes nothing, after a warning, if the clock cannot be trusted.
fn remove_expired(trash: &ConversationTrash, context: &Context) -> Result<Vec<TrashItem>> {
    let keep_time = context.settings.preferences.keep_trash;
    let mut expired = match trash.list_expired(keep_time, context.now()) {
        Err(TrashError::Clock(doubt)) => {
            let message = format!("nothing in the trash was deleted because of its age: {doubt}");
            context.warn(printable(&message));
            return Ok(Vec::new());
        }
        expired => expired?,
    };

    exclude_needed(&mut expired, context)?;
    if expired.is_empty() {
        return Ok(Vec::new());
    }

    // The sizes are read before the files are deleted.
    let to_item = |entry| TrashItem::of_entry(entry, TrashAction::Remove);
    let items: Vec<_> = expired.iter().map(to_item).collect();
    remove_entries(trash, &expired, context)?;

    context.note(format_args!(
        "deleted permanently after {} in the trash: {}, {}",
        time::format_duration(keep_time),
        pluralize(items.len(), "conversation"),
        bytes(items.iter().map(|item| item.before_bytes).sum())
    ));
    Ok(items)
}

/// Returns the arguments of `storage undelete` for the moved conversations: their ids, or a placeholder if there are
/// many.
fn format_undo_ids(items: &[TrashItem]) -> String {
    const MAX_IDS: usize = 3;
    let moved = items
        .iter()
        .filter(|item| item.action == TrashAction::Trash);
    let moved: Vec<_> = moved
        .map(|item| shell::quote_if_needed(&item.session_id))
        .collect();
    if moved.len() > MAX_IDS {
        return "SESSION".to_owned();
    }
    moved.join(" ")
}
