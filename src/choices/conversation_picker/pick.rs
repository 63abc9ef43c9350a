//! Asks for a conversation.

use crate::choices::conversation_picker::content_search::content_search_task;
use crate::choices::conversation_picker::preview::preview_task;
use crate::choices::conversation_picker::rows::{
    QUESTION, build_scopes, list_offered_conversations, refuse,
};
use crate::codex::threads::ThreadFilter;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::quota::state;
use crate::ui::picker::{KeyEffect, Picker, PickerKey, PickerOptions};
use crate::ui::{Style, windows};
use crate::views::account::{label, printable, read_accounts_and_profiles, short_id};
use std::ffi::OsString;
use std::sync::Arc;

/// The key that exports the selected conversation.
const EXPORT: PickerKey = PickerKey {
    letter: 'e',
    label: "export",
    effect: KeyEffect::Choose,
};

/// The key that copies the id of the selected conversation.
const COPY_ID: PickerKey = PickerKey {
    letter: 'y',
    label: "copy id",
    effect: KeyEffect::CopyId,
};

#[derive(Debug, Default)]
pub(crate) struct ConversationPicker {
    /// The effect of Enter, for the line of keys.
    pub enter: &'static str,
    /// The hints of the error without a terminal, about naming a conversation.
    pub usage: &'static [&'static str],
    pub filter: ThreadFilter,
    /// True to begin with archived conversations.
    pub archived: bool,
    /// True if a key exports the selected conversation.
    pub exports: bool,
}

/// The action of the user on a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PickedAction {
    Enter,
    Export,
}

impl ConversationPicker {
    /// Returns the id of the chosen conversation and the action.
    ///
    /// # Errors
    /// There are no conversations, or the user cancelled. Without a terminal, some of them are listed on stderr,
    /// and the error asks for an argument.
    pub(crate) fn run(self, context: &Context) -> Result<(String, PickedAction)> {
        let is_restricted = self.filter.is_restricted();
        let rows = list_offered_conversations(self.filter, context)?;
        if !context.ui.can_pick() {
            let error = refuse(&rows, self.usage, context);
            return Err(error.hint("list conversations: codex-manager sessions"));
        }
        if rows.is_empty() {
            return Err(CommandError::failed(if is_restricted {
                "no conversation matches"
            } else {
                "there are no conversations yet"
            })
            .hint("find rollouts that Codex does not list: codex-manager history check"));
        }
        let rows = Arc::new(rows);
        let scopes = build_scopes(&rows, &context.env.current_dir);
        let first = scopes.iter().position(|scope| scope.name == "archived");
        let picker = Picker {
            question: QUESTION,
            items: rows.iter().map(|row| row.to_picker_item(context)).collect(),
            default: 0,
            options: PickerOptions {
                enter: self.enter,
                keys: [EXPORT, COPY_ID]
                    .into_iter()
                    .filter(|key| self.exports || key.letter != EXPORT.letter)
                    .collect(),
                contents: Some(content_search_task(&rows, &scopes, context)),
                scope: first.filter(|_| self.archived).unwrap_or(0),
                scopes,
                facts: account_facts(context),
                preview: Some(preview_task(rows, context)),
            },
        };
        let choice = picker.run(&context.ui)?;
        // A terminal was found above.
        let choice = choice.ok_or_else(|| CommandError::usage(QUESTION))?;
        let action = match choice.key {
            Some(letter) if letter == EXPORT.letter => PickedAction::Export,
            _ => PickedAction::Enter,
        };
        Ok((choice.id, action))
    }
}

/// Returns the accounts that have a profile, each with the rest of its weekly window, the current one first. Returns
/// none if the records cannot be read, because the picker works without them.
fn account_facts(context: &Context) -> Vec<(Style, String)> {
    let Ok((mut accounts, _)) = read_accounts_and_profiles(context) else {
        return Vec::new();
    };
    accounts.retain(|account| account.entry.profile.is_some());
    accounts.sort_by_key(|account| !account.current);
    let facts = accounts.iter().map(|account| {
        let weekly = account.entry.observation.as_ref().and_then(|o| o.weekly());
        let name = label(account);
        match weekly.map(|weekly| state::percent_left(weekly, &context.now())) {
            Some(left) => (windows::style_of(left), format!("{name} {left:.0} %")),
            None => (Style::Dim, format!("{name} –")),
        }
    });
    facts.collect()
}

/// Exports the chosen conversation as an HTML page into the current folder.
///
/// # Errors
/// Those of `export`.
pub(crate) fn export_page(id: String, context: &Context) -> Result<Outcome> {
    let name = format!("codex-{}.html", printable(short_id(&id)));
    let words = ["export", "--format", "html", "--out"].map(OsString::from);
    context.run(&[&words[..], &[name.into(), id.into()]].concat())
}
