//! Lets the user search and choose a conversation of the home, and act on it.

use crate::choices::conversation_picker::content_search::content_search_task;
use crate::choices::conversation_picker::preview::preview_task;
use crate::choices::conversation_picker::rows::{
    OfferedConversation, QUESTION, SharedConversations, build_scopes, empty_home_error,
    list_and_refuse, list_first_conversations, list_offered_conversations,
};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::picker::{KeyEffect, Picked, Picker, PickerEntries, PickerKey, PickerOptions, Task};
use crate::ui::{self, Style, windows};
use crate::views::account::{label, printable, read_accounts_and_profiles, short_id};
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::io::pluralize;
use codex_manager_core::quota::state;
use smart_default::SmartDefault;
use std::ffi::OsString;

const OPEN: PickerKey = make_key('o', "open", KeyEffect::Choose);
const EXPORT: PickerKey = make_key('e', "export", KeyEffect::Choose);
const TRASH: PickerKey = make_key('d', "trash", KeyEffect::Choose);

/// The key that restores the last conversation moved to the trash, then the one before it, and so on.
const UNDO: PickerKey = make_key('z', "undo", KeyEffect::Leave);
const COPY_ID: PickerKey = make_key('y', "copy", KeyEffect::CopyId);

const fn make_key(letter: char, label: &'static str, effect: KeyEffect) -> PickerKey {
    PickerKey {
        letter,
        label,
        effect,
    }
}

pub(crate) enum ScreenEnd {
    /// The user chose the conversation with this id by Enter.
    Chosen(String),
    /// The user chose another action, which was performed.
    Done(Outcome),
}

/// Lets the user choose a conversation; [`Self::run`] is the screen of `find`, `resume`, `show` and `sessions --pick`.
#[derive(Debug, Clone, SmartDefault)]
pub(crate) struct ConversationPicker {
    /// The label of Enter in the line of keys.
    #[default = "resume"]
    pub enter: &'static str,
    /// The hints of the error without a terminal. They show how to name a conversation on the command line.
    pub usage: &'static [&'static str],
    pub filter: ThreadFilter,
    /// The keys besides Enter.
    pub keys: Vec<PickerKey>,
    /// The text in the filter line at the start.
    pub query: String,
    /// The name of the scope that is shown first, if it has conversations.
    pub scope: &'static str,
    /// A message that the screen shows at the start.
    pub notice: Option<String>,
    /// The position that is selected at the start.
    pub position: usize,
}

impl ConversationPicker {
    /// Shows the screen, and shows it again after each conversation that the user moves to the
    /// trash or restores.
    ///
    /// # Errors
    /// Those of [`Self::pick`] and of the chosen action.
    pub(crate) fn run(mut self, context: &Context) -> Result<ScreenEnd> {
        let mut trashed = Vec::new();
        let end = self.show(&mut trashed, context);
        if !trashed.is_empty() {
            // The messages about the moved conversations disappeared with the screen.
            let (count, ids) = (pluralize(trashed.len(), "conversation"), trashed.join(" "));
            context.note(format_args!(
                "moved {count} to the trash; undo with: codex-manager storage undelete {ids}"
            ));
        }
        end
    }

    /// Shows the screen until the user leaves it. Adds the ids of the conversations that the user moved to the trash to
    /// `trashed`.
    fn show(&mut self, trashed: &mut Vec<String>, context: &Context) -> Result<ScreenEnd> {
        let ui = &context.ui;
        loop {
            self.keys = vec![OPEN, EXPORT];
            // The report is printed on stdout, which may be a file or a pipe that expects only the conversation.
            if ui.writes_to_terminal() {
                self.keys.push(TRASH);
            }
            self.keys.extend((!trashed.is_empty()).then_some(UNDO));
            self.keys.push(COPY_ID);

            let choice = self.clone().pick(context)?;
            (self.query, self.scope) = (choice.query.clone(), choice.scope);
            self.position = choice.position;

            // Enter is not in `keys`, and so has no letter.
            self.notice = match choice.key.unwrap_or_default() {
                key if key == TRASH.letter => {
                    let failure = run_in_storage("trash", &choice.id, context);
                    trashed.extend(failure.is_none().then_some(choice.id));
                    failure.or_else(|| Some("moved to the trash · ^z undo".to_owned()))
                }
                key if key == UNDO.letter => {
                    let id = trashed.pop().unwrap_or_default();
                    let failure = run_in_storage("undelete", &id, context);
                    trashed.extend(failure.is_some().then_some(id));
                    failure.or_else(|| Some("brought back from the trash".to_owned()))
                }
                key if key == OPEN.letter => {
                    return open_turn(choice, context).map(ScreenEnd::Done);
                }
                key if key == EXPORT.letter => {
                    return export_page(choice.id, context).map(ScreenEnd::Done);
                }
                _ => return Ok(ScreenEnd::Chosen(choice.id)),
            };
        }
    }

    /// Shows the screen and resumes the conversation that the user chooses by Enter.
    ///
    /// # Errors
    /// Those of [`Self::run`] and of `resume`.
    pub(crate) fn run_and_resume(self, context: &Context) -> Result<Outcome> {
        match self.run(context)? {
            ScreenEnd::Chosen(id) => context.run(&["resume".into(), id.into()]),
            ScreenEnd::Done(outcome) => Ok(outcome),
        }
    }

    /// Returns the choice of the user.
    ///
    /// # Errors
    /// The user cancelled, or there are no conversations and each key acts on one. Without a terminal, prints some
    /// conversations on stderr, and the error asks for an argument.
    pub(crate) fn pick(self, context: &Context) -> Result<Picked> {
        if !context.ui.can_pick() {
            let is_restricted = self.filter.is_restricted();
            let rows = list_offered_conversations(self.filter, context)?;
            if rows.is_empty() && !is_restricted {
                return Err(empty_home_error(context));
            }

            let error = list_and_refuse(&rows, self.usage, context);
            return Err(error.hint("list conversations: codex-manager sessions"));
        }

        let (rows, rest_task) = self.read_rows(context)?;
        let needs_rows = self.keys.iter().all(|key| key.effect != KeyEffect::Leave);
        if rows.get().is_empty() && needs_rows {
            return Err(if self.filter.is_restricted() {
                CommandError::failed("no conversation matches")
            } else {
                empty_home_error(context)
            });
        }

        let (items, scopes) = to_picker_entries(&rows.get(), context);
        let first_scope = scopes.iter().position(|scope| scope.name == self.scope);
        let picker = Picker {
            question: QUESTION,
            items,
            default: self.position,
            options: PickerOptions {
                enter: self.enter,
                keys: self.keys,
                contents: Some(content_search_task(&rows, context)),
                scope: first_scope.unwrap_or(0),
                scopes,
                facts: describe_profile_accounts(context),
                query: self.query,
                notice: self.notice,
                all_entries: rest_task,
                preview: Some(preview_task(&rows, context)),
            },
        };

        let choice = picker.run(&context.ui)?;
        // `run` returns `None` only without a terminal or conversations. Both were checked above.
        choice.ok_or_else(|| CommandError::usage(QUESTION))
    }

    /// Returns the conversations. For many conversations, returns only the first ones, with the task that reads the
    /// others.
    fn read_rows(&self, context: &Context) -> Result<(SharedConversations, Option<RestTask>)> {
        let Some(first_rows) = list_first_conversations(&self.filter, context)? else {
            let rows = list_offered_conversations(self.filter.clone(), context)?;
            return Ok((SharedConversations::new(rows), None));
        };

        let rows = SharedConversations::new(first_rows);
        let (shared, filter, context) = (rows.clone(), self.filter.clone(), context.clone());
        let rest_task: RestTask = Box::new(move |()| {
            let rows = list_offered_conversations(filter.clone(), &context);
            shared.set(rows.map_err(|e| e.to_one_line())?);
            Ok(to_picker_entries(&shared.get(), &context))
        });
        Ok((rows, Some(rest_task)))
    }
}

/// Runs a command of `storage` on a conversation, without a report, because the screen is shown again. Returns the
/// reason of a failure, else `None`.
fn run_in_storage(command: &str, id: &str, context: &Context) -> Option<String> {
    let quiet = Context {
        ui: context.ui.silenced(),
        ..context.clone()
    };
    match quiet.run(&["storage".into(), command.into(), id.into()]) {
        Ok(Outcome::Done) => None,
        Ok(_) => Some(ui::last_warning()),
        Err(e) => Some(e.to_one_line()),
    }
}

/// Shows the conversation; if its content matches, the turn of the match.
fn open_turn(picked: Picked, context: &Context) -> Result<Outcome> {
    let mut command_line: Vec<OsString> = vec!["show".into(), picked.id.into()];
    if let Some(turn) = picked.turn {
        command_line.extend(["--turn".into(), turn.to_string().into()]);
    }
    context.run(&command_line)
}

/// Exports the conversation as an HTML page into the current folder.
fn export_page(id: String, context: &Context) -> Result<Outcome> {
    let file_name = format!("codex-{}.html", printable(short_id(&id)));
    let options = ["export", "--format", "html", "--out"].map(OsString::from);
    context.run(&[&options[..], &[file_name.into(), id.into()]].concat())
}

type RestTask = Task<(), Result<PickerEntries, String>>;

fn to_picker_entries(rows: &[OfferedConversation], context: &Context) -> PickerEntries {
    let items = rows.iter().map(|row| row.to_picker_item(context));
    (
        items.collect(),
        build_scopes(rows, &context.env.current_dir),
    )
}

/// Returns the accounts that have a profile with their remaining weekly quota, the live account first. Returns none if
/// the accounts cannot be read, because the picker works without them.
fn describe_profile_accounts(context: &Context) -> Vec<(Style, String)> {
    let Ok((mut accounts, _)) = read_accounts_and_profiles(context) else {
        return Vec::new();
    };

    accounts.retain(|account| account.entry.profile.is_some());
    accounts.sort_by_key(|account| !account.current);
    let facts = accounts.iter().map(|account| {
        let name = label(account);
        match state::weekly_left(&account.entry, &context.now()) {
            Some(left) => (windows::style_of(left), format!("{name} {left:.0} %")),
            None => (Style::Dim, format!("{name} –")),
        }
    });
    facts.collect()
}
