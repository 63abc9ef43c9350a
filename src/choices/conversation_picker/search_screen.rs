//! The screen on which the user searches conversations and acts on them.

use crate::choices::conversation_picker::pick::ConversationPicker;
use crate::choices::sync_config::note_if_sync_restores_deleted;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui;
use crate::ui::picker::{KeyEffect, Picked, PickerKey};
use crate::views::account::{printable, short_id};
use codex_manager_core::io::quantity::pluralize;
use std::ffi::OsString;

const OPEN: PickerKey = make_key('o', "open", KeyEffect::Choose);
const EXPORT: PickerKey = make_key('e', "export", KeyEffect::Choose);
const RESUME: PickerKey = make_key('r', "resume", KeyEffect::Choose);
const TRASH: PickerKey = make_key('d', "trash", KeyEffect::Ask("move it to the trash? y/N"));

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

/// The screen of `find`, `resume`, `show` and `sessions --pick`.
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
            note_if_sync_restores_deleted(context);
        }
        end
    }

    /// Shows the screen until the user leaves it. Adds the ids of the conversations that the user moved to the trash to
    /// `trashed`.
    fn show(&mut self, trashed: &mut Vec<String>, context: &Context) -> Result<ScreenEnd> {
        let ui = &context.ui;
        loop {
            // Codex and the report of `storage trash` write to stdout, which may be a file or a pipe that expects only the
            // conversation.
            let acts = ui.writes_to_terminal();
            self.keys = vec![EXPORT];
            if self.enter == RESUME.label {
                self.keys.insert(0, OPEN);
            } else if acts {
                self.keys.insert(0, RESUME);
            }
            if acts {
                self.keys.push(TRASH);
            }
            if !trashed.is_empty() {
                self.keys.push(UNDO);
            }
            self.keys.push(COPY_ID);

            let choice = self.clone().pick(context)?;
            (self.query, self.scope) = (choice.query.clone(), choice.scope);
            self.position = choice.position;

            self.notice = match choice.key {
                Some(key) if key == TRASH.letter => {
                    let failure = run_in_storage("trash", &choice.id, context);
                    if failure.is_none() {
                        trashed.push(choice.id);
                    }
                    failure.or_else(|| Some("moved to the trash · ^z undo".to_owned()))
                }
                Some(key) if key == UNDO.letter => {
                    let id = trashed.pop().unwrap_or_default();
                    let failure = run_in_storage("undelete", &id, context);
                    if failure.is_some() {
                        trashed.push(id);
                    }
                    failure.or_else(|| Some("brought back from the trash".to_owned()))
                }
                Some(key) if key == OPEN.letter => {
                    return open_turn(choice, context).map(ScreenEnd::Done);
                }
                Some(key) if key == RESUME.letter => {
                    return resume(choice.id, context).map(ScreenEnd::Done);
                }
                Some(key) if key == EXPORT.letter => {
                    return export_page(choice.id, context).map(ScreenEnd::Done);
                }
                // Enter has no letter. The picker stays open after `COPY_ID`, so no choice has its letter.
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
            ScreenEnd::Chosen(id) => resume(id, context),
            ScreenEnd::Done(outcome) => Ok(outcome),
        }
    }
}

/// Resumes a picked conversation. A change of the live account needs consent, because the picker shows many accounts.
fn resume(id: String, context: &Context) -> Result<Outcome> {
    context
        .asking_before_switch()
        .run(&["resume".into(), id.into()])
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
