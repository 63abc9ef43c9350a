//! Reads the usage of the selected conversations from the index.

use super::grouping::Grouping;
use crate::codex::thread_filter::ThreadFilter;
use crate::codex::thread_query;
use crate::codex::threads;
use crate::commands::sessions::accounts::{ConversationAccount, ConversationAccounts};
use crate::commands::sessions::filter::SelectionArgs;
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
    /// The accounts of the conversations by their ids in lower case; empty unless they are asked for.
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
    let needs_accounts = matches!(by, Grouping::Accounts | Grouping::Sessions);
    let mut accounts = HashMap::new();
    if is_filtered || needs_accounts {
        let listed = list(&filter, context)?;
        let known = ConversationAccounts::read(context)?;
        for thread in &listed {
            let account = known.of(thread);
            accounts.insert(thread.id.to_lowercase(), account);
        }
    }
    if is_filtered {
        conversations.retain(|_, conversation| accounts.contains_key(&conversation.session));
        rows.retain(|row| conversations.contains_key(&row.conversation));
    }
    Ok(SelectedUsage {
        rows,
        conversations,
        accounts,
    })
}

fn list(
    filter: &ThreadFilter,
    context: &Context,
) -> Result<Vec<thread_query::ListedThread>, CommandError> {
    let home = &context.settings.codex_home;
    let Some(path) = threads::find_state_database(home, &context.env) else {
        return Ok(Vec::new());
    };
    thread_query::list(&path, filter)
        .map_err(|e| CommandError::failed("cannot read Codex's list of conversations").because(e))
}
