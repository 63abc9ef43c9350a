//! Lets the user choose a conversation of the home.

use crate::choices::conversation_picker::content_search::content_search_task;
use crate::choices::conversation_picker::preview::preview_task;
use crate::choices::conversation_picker::rows::{
    OfferedConversation, QUESTION, SharedConversations, build_scopes, empty_home_error,
    list_and_refuse, list_first_conversations, list_offered_conversations,
};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui::picker::{KeyEffect, Picked, Picker, PickerEntries, PickerKey, PickerOptions, Task};
use crate::ui::{Style, windows};
use crate::views::account::{label, read_accounts_and_profiles};
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::quota::state;
use smart_default::SmartDefault;

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
