//! Reads the usage of the selected conversations from the index.

use crate::choices::conversation_accounts::{ConversationAccount, ConversationAccounts};
use crate::choices::conversation_filter::ConversationFilter;
use crate::choices::listed::listed_threads;
use crate::choices::selection_args::SelectionArgs;
use crate::codex::threads::{self, ListedThread, ThreadFilter};
use crate::commands::usage::grouping::Grouping;
use crate::context::Context;
use crate::conversations::index::IndexStore;
use crate::conversations::index::usage_query::{self, UsageConversation, UsageDetail, UsageRow};
use crate::error::CommandError;
use std::collections::HashMap;
use std::ops::Range;

/// Usage with what is known of its conversations.
pub(super) struct SelectedUsage {
    /// The sums by slot, conversation and model.
    pub rows: Vec<UsageRow>,
    /// The conversations by their numbers; empty if no row has one.
    pub conversations: HashMap<i64, UsageConversation>,
    /// The accounts of the conversations by their ids in lower case; empty unless they name the rows.
    pub accounts: HashMap<String, ConversationAccount>,
}

/// Reads the usage in a range of slots, as detailed as `by` needs it.
pub(super) fn read(
    store: &IndexStore,
    selection: &SelectionArgs,
    slots: Range<i64>,
    by: Grouping,
    context: &Context,
) -> Result<SelectedUsage, CommandError> {
    let filter = selection.resolve(context)?;
    let is_filtered = filter.is_restricted();
    let detail = match (by.is_of_time(), is_filtered) {
        (true, false) => UsageDetail::Slots,
        (false, false) if by == Grouping::Models => UsageDetail::Slots,
        (true, true) => UsageDetail::Both,
        (false, _) => UsageDetail::Conversations,
    };
    let mut rows = usage_query::sums(store, slots, detail)?;
    if detail == UsageDetail::Slots {
        return Ok(SelectedUsage {
            rows,
            conversations: HashMap::new(),
            accounts: HashMap::new(),
        });
    }
    let mut conversations = usage_query::conversations(store)?;
    if is_filtered {
        let filter = ConversationFilter::new(filter, |filter| listed_threads(filter, context))?;
        conversations.retain(|_, conversation| filter.accepts_usage(conversation));
        rows.retain(|row| conversations.contains_key(&row.conversation));
    }
    Ok(SelectedUsage {
        rows,
        conversations,
        accounts: match by {
            Grouping::Accounts => accounts(context)?,
            _ => HashMap::new(),
        },
    })
}

/// Returns the accounts of all listed conversations, by the ids of these in lower case.
fn accounts(context: &Context) -> Result<HashMap<String, ConversationAccount>, CommandError> {
    let home = &context.settings.codex_home;
    let Some(path) = threads::find_state_database(home, &context.env) else {
        return Ok(HashMap::new());
    };
    let known = ConversationAccounts::read_all(context)?;
    let account = |thread: ListedThread| (thread.id.to_lowercase(), known.of(&thread));
    let accounts = threads::list_as(&path, &ThreadFilter::default(), account).map_err(|e| {
        CommandError::failed("cannot read Codex's list of conversations").because(e)
    })?;
    Ok(accounts.into_iter().collect())
}
