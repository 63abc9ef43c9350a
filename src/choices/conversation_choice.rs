//! The conversation that the user names.

use crate::choices::listed::list_unlisted;
use crate::choices::machines::{find_machine_of_path, list_fetched_machines};
use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{CommandError, Result};
use crate::ui::Style;
use crate::ui::picker::{Picker, PickerItem, PickerOptions};
use crate::views::account::{absolute_time, printable, shown_title, unique_short_id};
use crate::views::age::format_age;
use codex_manager_core::codex::{RolloutName, ThreadFilter, ThreadRow, threads};
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::history::rollout::{
    self, find_recorded_path, find_recorded_rollout, is_recorded_outside, is_rollout_of,
    resolve_in_session_folders, resolve_rollout_in_home,
};
use codex_manager_core::history::{
    ConversationId, ThreadNameIndex, thread_choice, thread_rollouts,
};
use codex_manager_core::io::{shell, similar};
use codex_manager_core::storage::trash;
use std::path::{Path, PathBuf};

/// The largest number of conversations that an error names.
const MAX_LISTED: usize = 10;

/// A conversation that the user named.
pub(crate) struct ChosenConversation<'r> {
    pub(crate) id: String,
    /// The row in Codex's list; `None` if only a rollout was found.
    pub(crate) row: Option<&'r ThreadRow>,
    pub(crate) rollout: Option<PathBuf>,
}

impl<'r> ChosenConversation<'r> {
    /// Returns the conversation that `text` names; see [`thread_choice::find_named`].
    ///
    /// # Errors
    /// No conversation matches, or several match and the user does not choose one.
    pub(crate) fn find(rows: &'r [ThreadRow], text: &str, context: &Context) -> Result<Self> {
        let home = context.codex_home();
        let matching_rows = find_rows(rows, text);
        if !matching_rows.is_empty() {
            let row = choose_row(matching_rows, text, context)?;
            return Ok(Self::from_row(row, home));
        }

        // Codex does not list every conversation that has a rollout in the home.
        let id = thread_choice::parse_thread_id_in_path(text).unwrap_or_else(|| text.to_owned());
        let no_recorded_path = "";
        if let Some(rollout) = locate_rollout(home, &id, no_recorded_path) {
            let (row, rollout) = (None, Some(rollout));
            return Ok(Self { id, row, rollout });
        }
        if let Some((id, rollout)) = find_by_name(home, text)? {
            let (row, rollout) = (None, Some(rollout));
            return Ok(Self { id, row, rollout });
        }

        let trashed_error = trashed_conversation_error(text, context);
        Err(trashed_error.unwrap_or_else(|| unknown_conversation_error(rows, text, context)))
    }

    pub(crate) fn from_row(row: &'r ThreadRow, home: &Path) -> Self {
        Self {
            id: row.id.clone(),
            row: Some(row),
            rollout: locate_rollout(home, &row.id, &row.rollout_path),
        }
    }

    /// Returns the rollout.
    ///
    /// # Errors
    /// The rollout is missing, empty, damaged or of another conversation.
    pub(crate) fn require_rollout(&self, context: &Context) -> Result<&Path> {
        let rollout = self.rollout.as_deref();
        rollout.ok_or_else(|| self.unusable_rollout_error(context))
    }

    /// Returns the error for a missing rollout, or one that is not [of the conversation](is_rollout_of).
    pub(crate) fn unusable_rollout_error(&self, context: &Context) -> CommandError {
        let recorded_path = self.row.map_or("", |row| &row.rollout_path);
        let find_recorded = || find_recorded_path(context.codex_home(), recorded_path);
        if is_recorded_outside(context.codex_home(), recorded_path) {
            return CommandError::failed(format!(
                "the rollout is outside of the Codex home, where nothing is read: {recorded_path}"
            ))
            .hint("move it into sessions/, then: codex-manager history repair");
        }
        let message = match self.rollout.clone().or_else(find_recorded) {
            Some(path) => format!(
                "the rollout is empty, damaged or of another conversation: {}",
                path.display()
            ),
            None => format!(
                "the home does not have the rollout that Codex recorded for the conversation: {recorded_path}"
            ),
        };
        let id = printable(&self.id);
        add_list_hints(CommandError::failed(message).hint(format!(
            "bring it back from an archive: codex-manager restore --session {id}"
        )))
    }
}

fn unknown_conversation_error(rows: &[ThreadRow], text: &str, context: &Context) -> CommandError {
    let message = format!("no conversation has this id or title: {}", printable(text));
    let mut error = CommandError::failed(message);
    if !context.codex_home().is_dir() {
        return error.hint_each(suggest_login(context));
    }

    let looks_like_id = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !looks_like_id {
        error = error.hint("search for it: codex-manager find WORDS");
    }
    let names = rows.iter().filter_map(ThreadRow::given_name);
    error.hints.extend(suggest_similar_names(text, names));
    add_list_hints(error)
}

fn add_list_hints(error: CommandError) -> CommandError {
    error
        .hint("list conversations: codex-manager sessions --archived")
        .hint("find unlisted conversations: codex-manager history check")
}

/// Returns the conversation that `name` names, to read its rollout; see [`ChosenConversation::find`]. Includes
/// conversations of other machines that a search has fetched.
///
/// # Errors
/// No conversation or several match, it has no rollout, or Codex's list cannot be read.
pub(crate) fn find_conversation(name: &str, context: &Context) -> Result<NamedConversation> {
    let path = context.env.absolute(Path::new(name));
    if let Some(machine) = find_machine_of_path(&path, context) {
        return find_in_home(name, &machine.context);
    }

    let local_result = find_in_home(name, context);
    // A name that is ambiguous on this machine is not searched on other machines.
    if local_result.is_ok() || find_rows(&list_rows(context)?, name).len() > 1 {
        return local_result;
    }

    for machine in list_fetched_machines(context) {
        if let Ok(conversation) = find_in_home(name, &machine.context) {
            let published_at = absolute_time(&machine.published_at, context);
            context.note(format_args!(
                "shown as {} published it {published_at}",
                printable(&machine.name)
            ));
            return Ok(conversation);
        }
    }
    local_result
}

fn find_in_home(text: &str, context: &Context) -> Result<NamedConversation> {
    let rows = list_rows(context)?;
    let conversation = ChosenConversation::find(&rows, text, context)?;

    // `text` may be the path of an older rollout of a rewound conversation, which Codex does not show.
    let named_path = context.env.absolute(Path::new(text));
    let home = &context.settings.codex_home;
    let rollout = if RolloutName::parse(&named_path).is_some()
        && let Some(named_rollout) = resolve_rollout_in_home(home, &named_path)
    {
        named_rollout
    } else {
        conversation.require_rollout(context)?.to_path_buf()
    };

    Ok(NamedConversation {
        title: conversation
            .row
            .map(ThreadRow::shown_title)
            .filter(|title| !title.is_empty())
            .or_else(|| rollout::read_title(&rollout))
            .unwrap_or_default(),
        home: context.codex_home().to_path_buf(),
        id: conversation.id,
        rollout,
    })
}

/// Returns all conversations in Codex's database; without a database, those of the search index. The most recently
/// changed conversation is first; archived ones are last. If Codex would show the name of a conversation in
/// `session_index.jsonl`, replaces the name from the database.
///
/// # Errors
/// Codex's list or a name in `session_index.jsonl` cannot be read.
pub(crate) fn list_rows(context: &Context) -> Result<Vec<ThreadRow>> {
    let home = context.codex_home();
    let mut rows = match context.state_database() {
        Some(database) => threads::fold_rows(&database, Vec::new, Vec::push)
            .map_err(|e| {
                CommandError::failed("cannot read Codex's list of conversations").because(e)
            })?
            .unwrap_or_default(),
        None => list_rows_without_database(context)?,
    };

    // `codex resume` also accepts these names. If they cannot be read, the user can still give an id.
    let names = ThreadNameIndex::read(home).unwrap_or_else(|e| {
        context.warn(format_args!(
            "cannot read the names of conversations: {}",
            CommandError::from(e).to_one_line()
        ));
        ThreadNameIndex::default()
    });

    // For a paginated conversation, Codex prefers a name in the database.
    let may_rename = |row: &&mut ThreadRow| !row.is_paginated() || row.name.trim().is_empty();
    for row in rows.iter_mut().filter(may_rename) {
        if let Some(entry) = names.get(&ConversationId::of(&row.id))? {
            row.name = entry.thread_name;
        }
    }

    rows.sort_by_key(|row| (row.archived, std::cmp::Reverse(row.updated_ms)));
    Ok(rows)
}

fn list_rows_without_database(context: &Context) -> Result<Vec<ThreadRow>> {
    let indexed = list_unlisted(&ThreadFilter::default(), context)?;
    let rows = indexed.into_iter().map(|conversation| ThreadRow {
        id: conversation.id,
        rollout_path: conversation.rollout_path,
        updated_ms: conversation.updated_ms,
        title: conversation.title,
        archived: conversation.archived,
        cwd: conversation.cwd,
        ..ThreadRow::default()
    });
    Ok(rows.collect())
}

/// Returns the hint that suggests names similar to `text`, ready to paste; `None` if no name is similar.
pub(crate) fn suggest_similar_names<'a>(
    text: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let nearest = similar::find_nearest(text, names);
    let quoted: Vec<_> = nearest
        .iter()
        .map(|name| shell::quote_if_needed(&printable(name)))
        .collect();
    (!quoted.is_empty()).then(|| format!("did you mean: {}", quoted.join(", ")))
}

/// Returns the conversations that `text` names; see [`thread_choice::find_named`].
fn find_rows<'a>(rows: &'a [ThreadRow], text: &str) -> Vec<&'a ThreadRow> {
    let has_title = |row: &ThreadRow, fits: &dyn Fn(&str) -> bool| row.titles().any(fits);
    thread_choice::find_named(&rows.iter(), text, |row| row.id.clone(), has_title)
}

/// Lets the user choose one of the conversations that `text` names; a single one needs no choice.
///
/// # Errors
/// The user cancelled. Without a terminal, the hints of the error list the newest conversations.
fn choose_row<'a>(
    mut rows: Vec<&'a ThreadRow>,
    text: &str,
    context: &Context,
) -> Result<&'a ThreadRow> {
    if let [row] = *rows {
        return Ok(row);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.updated_ms));
    let question = format!("{} matches {} conversations", printable(text), rows.len());

    let describe_row = |row: &ThreadRow| {
        let title = printable(&row.shown_title());
        let age = format_age(row.updated_ms, context).unwrap_or_default();
        let id = unique_short_id(&row.id, rows.iter().map(|row| row.id.as_str()));
        (printable(id), age, title)
    };

    let items = rows.iter().enumerate().map(|(position, row)| {
        let (id, age, title) = describe_row(row);
        let cells = vec![(Style::Good, id), (Style::Dim, age), (Style::Plain, title)];
        PickerItem::new(position.to_string(), cells)
    });
    let picker = Picker {
        question: &question,
        items: items.collect(),
        default: 0,
        options: PickerOptions::default(),
    };

    let choice = picker.run(&context.ui)?;
    // The id of an item is its position in `rows`.
    let chosen_row = choice.and_then(|choice| rows.get(choice.id.parse::<usize>().ok()?));
    chosen_row.copied().ok_or_else(|| {
        let mut error = CommandError::failed(question).hint("give more of the id; the newest are:");
        error.hints.extend(rows.iter().take(MAX_LISTED).map(|row| {
            let (id, age, title) = describe_row(row);
            format!("{id}  {age}  {title}")
        }));
        error
    })
}

/// Returns the error for a conversation that is in the trash; `None` if the trash does not have it.
fn trashed_conversation_error(text: &str, context: &Context) -> Option<CommandError> {
    let entries = trash::list_entries(context.manager_home()).ok()?;
    let matching_entries = thread_choice::find_named(
        &entries.iter(),
        text,
        |entry| entry.conversation.id.clone(),
        |entry, fits| fits(&entry.conversation.title),
    );

    let conversation = &matching_entries.first()?.conversation;
    let title = shown_title(&conversation.title);
    let id = printable(&conversation.id);
    let error = CommandError::failed(format!("the conversation is in the trash: {title}"));
    Some(error.hint(format!(
        "bring it back: codex-manager storage undelete {id}"
    )))
}

/// Returns the id and the newest rollout of the conversation without a row that `text` names by the path of its rollout
/// or the beginning of its id. The rollout may have no usable first line, so its name alone counts.
///
/// # Errors
/// Several conversations match.
fn find_by_name(home: &Path, text: &str) -> Result<Option<(String, PathBuf)>> {
    let newest = thread_rollouts::find_newest_rollouts(home);
    let id_of = |(id, _): &(String, PathBuf)| id.clone();
    let matching = thread_choice::find_named(&newest.iter(), text, id_of, |_, _| false);
    match *matching {
        [] => Ok(None),
        [(id, path)] => Ok(resolve_in_session_folders(home, path).map(|path| (id.clone(), path))),
        _ => Err(CommandError::failed(format!(
            "{} matches {} conversations",
            printable(text),
            matching.len()
        ))
        .hint("give more of the id, or the path of the rollout")),
    }
}

/// Returns the rollout of a conversation: at the path that Codex recorded, if it [is one of the
/// conversation](is_rollout_of), else by its id.
fn locate_rollout(home: &Path, id: &str, recorded_path: &str) -> Option<PathBuf> {
    let find_by_id = || {
        thread_rollouts::find_newest_rollout(home, id)
            .and_then(|path| resolve_rollout_in_home(home, &path))
    };
    find_recorded_rollout(home, recorded_path)
        .filter(|path| is_rollout_of(path, id))
        .or_else(find_by_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str) -> ThreadRow {
        ThreadRow {
            id: id.into(),
            name: name.into(),
            mode: threads::PAGINATED.into(),
            ..ThreadRow::default()
        }
    }

    #[test]
    fn find_accepts_an_id_a_prefix_or_a_name() {
        let rows = [row("01ab", ""), row("01ac", "Fix it"), row("02", "01ab")];
        let found = |text: &str| {
            let found = find_rows(&rows, text).into_iter();
            found.map(|row| row.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found("01AB"), ["01ab"], "an id wins over a name");
        assert_eq!(found("0"), ["01ab", "01ac", "02"]);
        assert_eq!(found("01a"), ["01ab", "01ac"]);
        assert_eq!(found("Fix it"), ["01ac"]);
        assert_eq!(found("nothing"), [""; 0]);
        assert_eq!(found(" "), [""; 0]);
    }
}
