//! `storage trash` and `storage undelete`: conversations in the trash of the manager home.

use crate::choices::project_choice::find_all_project_folders;
use crate::commands::storage::report::{
    ambiguous_name_error, check_names_resolved, show_json, warn_of_unreadable,
};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result, check_interrupt};
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::steps::permanent_deletion;
use crate::ui::{Cell, Column, Style, Table, bytes, time};
use crate::views::account::{printable, unique_short_id};
use crate::views::dry_run::would_be;
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::conversations::index;
use codex_manager_core::history::thread_choice;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::io::{pluralize, progress, shell};
use codex_manager_core::storage::selection::{
    DependentFork, SelectedConversation, TrashFilter, TrashSelection,
};
use codex_manager_core::storage::trash::{self, ConversationTrash};
use codex_manager_core::storage::trash_entry::{TrashEntry, TrashError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The largest number of conversations that are shown without --verbose.
const MAX_SHOWN: usize = 20;

/// Move conversations to the trash
///
/// A conversation goes with its row and its names, and `codex-manager storage undelete` brings it
/// back as it was. Codex does not list it any more. After 30 days (setting `storage.keep_trash`), the
/// next run deletes it permanently and says so, unless the clock and that of the disk differ. A
/// conversation that has forks is moved only together with them.
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
    /// Delete all conversations in the trash permanently, except those that a fork in their home needs
    #[arg(long, conflicts_with_all = ["sessions", "older_than", "project", "subagents_of", "no_turns"])]
    empty_trash: bool,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

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

const COLUMNS: [Column; 3] = [
    Column::new("CONVERSATION"),
    Column::new("SIZE").number().rank(1),
    Column::new("TITLE").shorten(8),
];

/// A conversation in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct TrashItem {
    session_id: String,
    title: String,
    path: String,
    before_bytes: u64,
    after_bytes: u64,
    action: TrashAction,
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum TrashAction {
    Trash,
    Undelete,
    /// The conversation is deleted permanently.
    Remove,
    /// The move failed.
    Skip,
    /// No change.
    List,
}

impl TrashItem {
    fn of_selected(selected: &SelectedConversation, result: &Result<(), TrashError>) -> Self {
        let path = selected.rollouts.first();
        let is_moved = result.is_ok();
        Self {
            session_id: selected.id.clone(),
            title: selected.title.clone(),
            path: path
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            before_bytes: selected.bytes,
            after_bytes: if is_moved { 0 } else { selected.bytes },
            action: if is_moved {
                TrashAction::Trash
            } else {
                TrashAction::Skip
            },
            reason: result.as_ref().err().map(ToString::to_string),
        }
    }

    fn of_entry(entry: &TrashEntry, action: TrashAction) -> Self {
        let size = entry.rollout_bytes();
        Self {
            session_id: entry.conversation.id.clone(),
            title: entry.conversation.title.clone(),
            path: entry.folder.display().to_string(),
            before_bytes: size,
            after_bytes: if action == TrashAction::Remove {
                0
            } else {
                size
            },
            action,
            reason: None,
        }
    }
}

impl TrashArgs {
    /// Moves the conversations to the trash, and deletes the conversations that have been in the trash for too long.
    /// With `--empty-trash`, only deletes the conversations in the trash.
    ///
    /// # Errors
    /// No conversation is chosen, a name is unknown or ambiguous, a fork needs a chosen conversation, or the deletion
    /// is not confirmed; nothing is changed then. Or the user interrupts: conversations that were moved stay in the
    /// trash.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        if self.empty_trash {
            return self.delete_trash(context);
        }

        let filter = self.build_filter(context)?;
        require_codex_home(context)?;

        let home = context.codex_home();
        let state = context.state_database();
        let mut selection = select_conversations(home, &filter, context)?;
        warn_of_unreadable(context, &selection.unreadable);
        let mut items = take_trashed_names(&mut selection, home, context)?;
        check_selection(&selection)?;

        let mut expired = Ok(Vec::new());
        if self.dry_run {
            let chosen = selection.conversations.iter();
            items.extend(chosen.map(|selected| TrashItem::of_selected(selected, &Ok(()))));
        } else if !selection.conversations.is_empty() {
            refuse_during_restore(context)?;
            let trash = ConversationTrash::lock(context.manager_home())?;
            for selected in &selection.conversations {
                // Between two conversations: each is moved as a whole, or not.
                if progress::is_interrupted() {
                    break;
                }
                let result = trash.discard(home, state.as_deref(), selected, context.now());
                items.push(TrashItem::of_selected(selected, &result.map(drop)));
            }

            if !progress::is_interrupted() {
                expired = remove_expired(&trash, context);
            }
        }

        self.print_moved(&items, context);
        let is_partial = !selection.unreadable.is_empty()
            || items.iter().any(|item| item.action == TrashAction::Skip);

        // The conversations are moved, so an error of the expired ones waits until the document is printed.
        let expired = expired.map(|expired| items.extend(expired));
        print_json(context, "storage trash", &items, self.dry_run);
        expired?;
        check_interrupt()?;
        Ok(Outcome::partial_if(is_partial))
    }

    fn print_moved(&self, items: &[TrashItem], context: &Context) {
        let ui = &context.ui;
        print_items(context, items);
        let moved_count = items
            .iter()
            .filter(|item| item.action == TrashAction::Trash)
            .count();
        if moved_count == 0 {
            ui.line("no conversation was moved");
            return;
        }

        let would_be = would_be(self.dry_run);
        let freed_bytes = items
            .iter()
            .map(|item| item.before_bytes - item.after_bytes);
        let conversations = pluralize(moved_count, "conversation");
        ui.prose(format_args!(
            "{conversations} {would_be}moved to the trash, {}",
            bytes(freed_bytes.sum())
        ));

        if !self.dry_run {
            ui.note(format_args!(
                "undo with: codex-manager storage undelete {}",
                format_undo_ids(items)
            ));
        }
    }

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

    fn delete_trash(&self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let mut entries = trash::list_entries(manager_home)?;
        keep_needed(&mut entries, context)?;
        let size = entries.iter().map(TrashEntry::rollout_bytes).sum();
        let contents = format!(
            "{}, {}",
            pluralize(entries.len(), "conversation"),
            bytes(size)
        );

        // The sizes are read before the files are deleted.
        let items = entries
            .iter()
            .map(|entry| TrashItem::of_entry(entry, TrashAction::Remove));
        let items: Vec<_> = items.collect();

        let ui = &context.ui;
        if entries.is_empty() {
            ui.line("nothing to delete in the trash");
        } else if self.dry_run {
            ui.prose(format_args!("would be deleted permanently: {contents}"));
        } else {
            permanent_deletion::confirm_deletion(context, &contents)?;
            ConversationTrash::lock(manager_home)?.remove(&entries)?;
            ui.prose(format_args!("deleted permanently: {contents}"));
        }

        print_json(context, "storage trash", &items, self.dry_run);
        Ok(Outcome::Done)
    }
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
        let chosen = self.choose_entries(&entries, context.codex_home(), context)?;
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

        // An error ends the run only if no conversation came back. Otherwise the result is partial.
        let is_restored = |item: &&TrashItem| item.action == TrashAction::Undelete;
        let count = items.iter().filter(is_restored).count();
        let is_partial = first_error.is_some();
        if let Some(e) = first_error.filter(|_| count == 0) {
            return Err(e.into());
        }

        let would_be = would_be(self.dry_run);
        print_items(context, &items);
        let conversations = pluralize(count, "conversation");
        context
            .ui
            .line(format_args!("{conversations} {would_be}brought back"));
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

    /// Returns the named entries, and the bases that their forks need. Skips conversations that an earlier run restored,
    /// so that a command can be repeated after a partial failure.
    fn choose_entries<'a>(
        &self,
        entries: &'a [TrashEntry],
        home: &Path,
        context: &Context,
    ) -> Result<Vec<&'a TrashEntry>> {
        let mut chosen = Vec::new();
        for name in &self.sessions {
            match find_entry(entries, name, home) {
                Ok(entry) if chosen.contains(&entry) => {}
                Ok(entry) => chosen.push(entry),
                Err(_) if is_already_restored(entries, name, home, context)? => {
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
                // Before its fork: without the base, Codex cannot show the earlier turns of the fork.
                chosen.insert(0, base);
            }
        }
        Ok(chosen)
    }
}

/// Brings the entries back, or without `trash` checks that they could be. Goes on after an entry that fails; also
/// returns the first error.
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

/// Returns the entry of `home` that `name` selects. If the conversation is in the trash twice, returns the newest
/// entry.
///
/// # Errors
/// No conversation in the trash matches, several match, or the match belongs to another home.
fn find_entry<'a>(entries: &'a [TrashEntry], name: &str, home: &Path) -> Result<&'a TrashEntry> {
    let has_title =
        |entry: &TrashEntry, fits: &dyn Fn(&str) -> bool| fits(&entry.conversation.title);
    let id = |entry: &TrashEntry| entry.conversation.id.clone();
    let mut matching_entries = thread_choice::find_named(&entries.iter(), name, id, has_title);

    // The trash has conversations of all homes. One of this home is preferred.
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
        return Err(ambiguous_name_error(name));
    }

    if !is_of_home(&newest_entry) {
        let origin = newest_entry.conversation.home.0.display();
        let message = format!("this conversation belongs to another Codex home: {origin}");
        return Err(CommandError::refused(message)
            .hint("choose that home with --codex-home; nothing was changed"));
    }

    Ok(newest_entry)
}

/// Removes the names of conversations that are already in the trash from the unknown names of `selection`, so that a
/// command can be repeated after a partial failure. Returns the items of these conversations.
fn take_trashed_names(
    selection: &mut TrashSelection,
    home: &Path,
    context: &Context,
) -> Result<Vec<TrashItem>> {
    if selection.names.unknown.is_empty() {
        return Ok(Vec::new());
    }

    let entries = trash::list_entries(context.manager_home())?;
    let mut items = Vec::new();
    selection.names.unknown.retain(|name| {
        let Ok(entry) = find_entry(&entries, name, home) else {
            return true;
        };
        let id = &entry.conversation.id;
        context.note(format_args!("already in the trash: {id}"));
        items.push(TrashItem::of_entry(entry, TrashAction::List));
        false
    });
    Ok(items)
}

/// Returns true if the trash has no conversation of this name, and the home has exactly one.
fn is_already_restored(
    entries: &[TrashEntry],
    name: &str,
    home: &Path,
    context: &Context,
) -> Result<bool> {
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
    let selection = select_conversations(home, &filter, context)?;
    Ok(selection.conversations.len() == 1)
}

fn select_conversations(
    home: &Path,
    filter: &TrashFilter,
    context: &Context,
) -> Result<TrashSelection> {
    let state = context.state_database();
    let selection = TrashSelection::select(home, state.as_deref(), filter, context.now());
    Ok(selection.map_err(TrashError::from)?)
}

/// Removes from `entries`, which are to be deleted, those that a conversation in their home continues. Warns of each.
fn keep_needed(entries: &mut Vec<TrashEntry>, context: &Context) -> Result<()> {
    for entry in trash::take_needed(context.manager_home(), entries)? {
        let id = shell::quote_if_needed(&entry.conversation.id);
        let home = &entry.conversation.home.0;
        let option = if entry.is_of_home(context.codex_home()) {
            String::new()
        } else {
            format!(
                " --codex-home {}",
                shell::quote_if_needed(&home.to_string_lossy())
            )
        };
        context.warn(format_args!(
            "kept, because a conversation continues it; bring it back: codex-manager{option} storage undelete {id}"
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

    keep_needed(&mut expired, context)?;
    if expired.is_empty() {
        return Ok(Vec::new());
    }

    // The sizes are read before the files are deleted.
    let items: Vec<_> = expired
        .iter()
        .map(|entry| TrashItem::of_entry(entry, TrashAction::Remove))
        .collect();
    trash.remove(&expired)?;

    context.note(format_args!(
        "deleted permanently after {} in the trash: {}, {}",
        time::format_duration(keep_time),
        pluralize(items.len(), "conversation"),
        bytes(items.iter().map(|item| item.before_bytes).sum())
    ));
    Ok(items)
}

/// Fails if a name is unknown or ambiguous, or if a fork that is not chosen needs a chosen conversation.
fn check_selection(selection: &TrashSelection) -> Result<()> {
    check_names_resolved(&selection.names)?;
    if selection.dependent_forks.is_empty() {
        return Ok(());
    }

    let mut error =
        CommandError::refused("forks that are not chosen need the history of these conversations");
    for DependentFork { id, parent_id } in &selection.dependent_forks {
        error = error.hint(format!(
            "{id} begins with the history of {parent_id}: move both, or neither"
        ));
    }
    Err(error)
}

fn print_items(context: &Context, items: &[TrashItem]) {
    let ui = &context.ui;
    if items.is_empty() {
        return;
    }

    let ids = || items.iter().map(|item| &*item.session_id);
    let shown_count = ui.limit_items(items.len(), MAX_SHOWN);
    let rows = items.iter().take(shown_count).map(|item| {
        [
            Cell::plain(unique_short_id(&item.session_id, ids())),
            Cell::bytes(item.before_bytes),
            Cell::new(Style::Dim, &item.title),
        ]
    });
    Table::with_rows(ui, COLUMNS, rows).print(ui);
    ui.print_hidden_count(items.len() - shown_count);

    for reason in items.iter().filter_map(|item| item.reason.as_ref()) {
        ui.warn(format_args!("skipped: {reason}"));
    }
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

fn print_json(context: &Context, command: &str, items: &[TrashItem], dry_run: bool) {
    let sum = |size: fn(&TrashItem) -> u64| items.iter().map(size).sum::<u64>();
    let sums = (sum(|item| item.before_bytes), sum(|item| item.after_bytes));
    show_json(command, items, sums, dry_run, context);
}
