//! The rows of a report: their kinds and names, and the usage that they sum.

use crate::choices::conversation_accounts::{ConversationAccount, ConversationAccounts};
use crate::choices::listed::list_threads;
use crate::choices::machines::{Machine, own_machine_name};
use crate::choices::selection_args::SelectionArgs;
use crate::context::Context;
use crate::error::Result;
use crate::views::account::{absolute_time, local_rfc3339, printable};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc, Weekday};
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, ValueEnum};
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::conversations::index::IndexStore;
use codex_manager_core::conversations::index::usage_query::{
    self, UsageConversation, UsageDetail, UsageRow,
};
use codex_manager_core::conversations::search::conversation_filter::ConversationFilter;
use codex_manager_core::io::Zone;
use codex_manager_core::usage::period::{Blocks, start_of_day};
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::report::{self, Report, ReportRow};
use hashbrown::HashMap;
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::Range;

/// The name of the row for usage without a known project, account, conversation or machine.
const UNKNOWN: &str = "unknown";

/// A conversation number has two parts: this many low bits are the number in the index of its machine, and the bits
/// above are the position of the machine in [`SelectedUsage::machines`].
const NUMBER_BITS: u32 = 40;

/// The names of a row. The serialized fields are a part of the row in JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct RowKey {
    /// The start of a period, since 1970; 0 for other rows.
    #[serde(skip)]
    pub start_ms: i64,
    /// The name that programs use: a date, an id, a path.
    pub key: String,
    /// The title of a conversation, or the profile of an account.
    #[serde(rename = "title", skip_serializing_if = "Option::is_none")]
    pub title_or_profile: Option<String>,
    /// The start of a block of five hours, as text.
    #[serde(skip)]
    block: Option<String>,
}

impl RowKey {
    /// Returns the names of a row that has only `key`.
    fn of(key: &str) -> Self {
        Self {
            start_ms: 0,
            key: key.to_owned(),
            title_or_profile: None,
            block: None,
        }
    }

    pub(super) fn of_conversation(conversation: &UsageConversation) -> Self {
        Self {
            title_or_profile: Some(conversation.title.clone()),
            ..Self::of(&conversation.session)
        }
    }

    fn of_account(account: &ConversationAccount) -> Self {
        let (email, profile) = (account.email.as_deref(), account.profile.as_deref());
        Self {
            title_or_profile: account.profile.clone(),
            ..Self::of(email.or(profile).unwrap_or(UNKNOWN))
        }
    }

    /// Returns the shown name, or `key` if it is missing or empty. Characters that steer a terminal are
    /// replaced.
    pub(super) fn label(&self) -> String {
        let shown = self.shown_name().filter(|shown| !shown.is_empty());
        printable(shown.unwrap_or(&self.key))
    }

    /// Returns the title, the profile or the block; `None` if the row has only `key`.
    pub(super) fn shown_name(&self) -> Option<&str> {
        self.title_or_profile.as_deref().or(self.block.as_deref())
    }
}

/// Sums the usage into rows of the kind `by`. Periods are in the order of time; other rows begin with the most tokens.
pub(super) fn build_report(
    selected: &SelectedUsage,
    by: Grouping,
    prices: &Prices,
    context: &Context,
) -> Report<RowKey> {
    let mut blocks = Blocks::default();
    let mut rows: Vec<_> = selected.rows.iter().collect();
    // `Blocks` begins a block at the first use after the previous block, so it needs the rows in the order of time.
    rows.sort_by_key(|row| row.slot);
    let usage = rows.into_iter().map(|row| {
        let key = to_row_key(row, by, selected, &mut blocks, context);
        (key, row)
    });
    let mut report = report::sum_by_key(usage, prices);

    if !by.is_of_time() {
        report.rows.sort_by(|a: &ReportRow<RowKey>, b| {
            let by_tokens = b.sum.tokens.total_tokens.cmp(&a.sum.tokens.total_tokens);
            by_tokens.then_with(|| a.key.cmp(&b.key))
        });
    }

    report
}

/// Returns the key of the report row that counts `row`. Blocks need the rows in the order of time.
fn to_row_key(
    row: &UsageRow,
    by: Grouping,
    selected: &SelectedUsage,
    blocks: &mut Blocks,
    context: &Context,
) -> RowKey {
    let zone = context.zone();
    let conversation = selected.conversations.get(&row.conversation);

    if let Some(first_day) = by.first_day(&row.slot_start(), zone) {
        let is_month = by == Grouping::Monthly;
        let name = first_day.format(if is_month { "%Y-%m" } else { "%Y-%m-%d" });
        return RowKey {
            start_ms: start_of_day(first_day, zone).timestamp_millis(),
            ..RowKey::of(&name.to_string())
        };
    }

    match by {
        Grouping::Blocks => {
            let start = blocks.advance_to(row.slot_start());
            RowKey {
                start_ms: start.timestamp_millis(),
                block: Some(absolute_time(&start, context)),
                ..RowKey::of(&local_rfc3339(&start, context))
            }
        }
        Grouping::Machines => {
            // The high bits of the number are the position of the machine.
            let machine = usize::try_from(row.conversation >> NUMBER_BITS).unwrap_or_default();
            RowKey::of(selected.machines.get(machine).map_or(UNKNOWN, |name| name))
        }
        Grouping::Projects => {
            let cwd = conversation.map(|found| &*found.cwd);
            RowKey::of(cwd.filter(|cwd| !cwd.is_empty()).unwrap_or(UNKNOWN))
        }
        Grouping::Accounts => {
            let account = conversation.and_then(|c| selected.accounts.get(&c.session));
            account.map_or_else(|| RowKey::of(UNKNOWN), RowKey::of_account)
        }
        Grouping::Sessions => {
            conversation.map_or_else(|| RowKey::of(UNKNOWN), RowKey::of_conversation)
        }
        // The rows are models: periods are handled above.
        _ => RowKey::of(&row.model),
    }
}

/// The kind of the rows of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Grouping {
    /// One row for each day
    Daily,
    /// One row for each week, from Monday
    Weekly,
    /// One row for each month
    Monthly,
    /// One row for each conversation
    Sessions,
    /// One row for each folder
    Projects,
    /// One row for each model
    Models,
    /// One row for each account
    Accounts,
    /// One row for each block of five hours
    Blocks,
    /// One row for each machine, with what other machines published in the vault
    Machines,
}

impl Grouping {
    /// Returns the heading of the column with the names of the rows.
    pub(super) fn row_kind(self) -> &'static str {
        match self {
            Self::Daily => "Day",
            Self::Weekly => "Week from",
            Self::Monthly => "Month",
            Self::Sessions => "Session",
            Self::Projects => "Project",
            Self::Models => "Model",
            Self::Accounts => "Account",
            Self::Blocks => "Block from",
            Self::Machines => "Machine",
        }
    }

    /// Returns true if the rows are periods of time.
    pub(super) fn is_of_time(self) -> bool {
        matches!(
            self,
            Self::Daily | Self::Weekly | Self::Monthly | Self::Blocks
        )
    }

    /// Returns the first day of the row that contains an instant. `None` if the rows are not days, weeks or months.
    fn first_day(self, at: &DateTime<Utc>, zone: Zone) -> Option<NaiveDate> {
        let day = || zone.at(at).date_naive();
        match self {
            Self::Daily => Some(day()),
            Self::Weekly => Some(day().week(Weekday::Mon).first_day()),
            Self::Monthly => day().with_day(1),
            _ => None,
        }
    }
}

/// Accepts any word: a kind of rows or an account. Help and completion list only the kinds.
#[derive(Debug, Clone)]
pub(super) struct SubjectParser;

impl TypedValueParser for SubjectParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let kinds = Grouping::value_variants().iter();
        Some(Box::new(kinds.filter_map(Grouping::to_possible_value)))
    }
}

/// The selected usage, with facts about its conversations.
#[derive(Default)]
pub(super) struct SelectedUsage {
    /// The sums by model, or by model and slot, conversation or both; see [`UsageDetail`].
    pub rows: Vec<UsageRow>,
    /// The conversations by their numbers in `rows`; empty if the rows are not divided by conversation.
    pub conversations: HashMap<i64, UsageConversation>,
    /// The accounts of the conversations by their ids in lower case; empty unless the rows are accounts.
    pub accounts: HashMap<String, ConversationAccount>,
    /// The names of the machines, this one first.
    pub machines: Vec<String>,
}

/// The indexes of this machine and of others.
pub(super) struct UsageIndexes {
    pub local: IndexStore,
    pub others: Vec<(IndexStore, Machine)>,
}

impl SelectedUsage {
    /// Adds the conversations of another machine. If both machines have a conversation, the version with fewer tokens
    /// is dropped, because the other version continues it.
    fn merge(&mut self, mut remote: Self, machine_name: String) {
        // The indexes of two machines use the same numbers, so the position of the machine is added as high bits.
        let machine_bits = i64::try_from(self.machines.len()).unwrap_or_default() << NUMBER_BITS;
        self.machines.push(machine_name);

        let own_totals = self.sum_tokens_by_id();
        let (mut own_to_remove, mut remote_to_remove) = (HashSet::new(), HashSet::new());
        for (id, (number, tokens)) in remote.sum_tokens_by_id() {
            if let Some((own_number, own_tokens)) = own_totals.get(&id) {
                if *own_tokens < tokens {
                    own_to_remove.insert(*own_number);
                } else {
                    remote_to_remove.insert(number);
                }
            }
        }

        self.remove_conversations(&own_to_remove);
        remote.remove_conversations(&remote_to_remove);

        self.rows
            .extend(remote.rows.into_iter().map(|row| UsageRow {
                conversation: machine_bits + row.conversation,
                ..row
            }));
        let conversations = remote.conversations.into_iter();
        self.conversations.extend(
            conversations.map(|(number, conversation)| (machine_bits + number, conversation)),
        );
    }

    fn remove_conversations(&mut self, numbers: &HashSet<i64>) {
        self.rows.retain(|row| !numbers.contains(&row.conversation));
        self.conversations
            .retain(|number, _| !numbers.contains(number));
    }

    /// Returns the number and the sum of tokens of each conversation, by its id.
    fn sum_tokens_by_id(&self) -> HashMap<String, (i64, u64)> {
        let mut totals: HashMap<i64, u64> = HashMap::new();
        for row in &self.rows {
            *totals.entry(row.conversation).or_default() += row.tokens.total_tokens;
        }
        let conversations = self.conversations.iter();
        let conversations = conversations.map(|(number, conversation)| {
            let total = totals.get(number).copied().unwrap_or_default();
            (conversation.session.clone(), (*number, total))
        });
        conversations.collect()
    }
}

/// Reads the usage in a range of slots, in the detail that `by` needs. If several machines have a conversation, only
/// its version with the most tokens counts.
pub(super) fn read_selected(
    indexes: &UsageIndexes,
    selection: &SelectionArgs,
    slots: &Range<i64>,
    by: Grouping,
    context: &Context,
) -> Result<SelectedUsage> {
    let filter = selection.to_thread_filter(context)?;
    let merges_machines = !indexes.others.is_empty();
    let read_machine = |store: &IndexStore, context: &Context| {
        read_machine_usage(store, &filter, slots, by, merges_machines, context)
    };
    let mut usage = read_machine(&indexes.local, context)?;
    usage.machines.push(own_machine_name(context));
    for (store, machine) in &indexes.others {
        usage.merge(read_machine(store, &machine.context)?, machine.name.clone());
    }
    Ok(usage)
}

/// Reads the usage of one home. Conversations and accounts are read only if the rows, the filter or the merge with
/// other machines need them.
fn read_machine_usage(
    store: &IndexStore,
    filter: &ThreadFilter,
    slots: &Range<i64>,
    by: Grouping,
    merges_machines: bool,
    context: &Context,
) -> Result<SelectedUsage> {
    let is_filtered = filter.is_restricted();
    let needs_conversations = is_filtered || merges_machines;
    let detail = match (by.is_of_time(), needs_conversations) {
        (true, false) => UsageDetail::Slots,
        (true, true) => UsageDetail::SlotsOfConversations,
        (false, false) if by == Grouping::Models => UsageDetail::Models,
        (false, _) => UsageDetail::Conversations,
    };

    let mut rows = usage_query::read_sums(store, slots.clone(), detail)?;
    // These rows are sums over all conversations, so no conversation has to be read.
    if matches!(detail, UsageDetail::Slots | UsageDetail::Models) {
        return Ok(SelectedUsage {
            rows,
            ..SelectedUsage::default()
        });
    }

    let mut conversations = usage_query::read_conversations(store)?;
    if is_filtered {
        let filter = evaluate_filter(filter.clone(), context)?;
        conversations.retain(|_, conversation| filter.accepts_usage(conversation));
        rows.retain(|row| conversations.contains_key(&row.conversation));
    }

    Ok(SelectedUsage {
        rows,
        conversations,
        accounts: match by {
            Grouping::Accounts => {
                let all = ThreadFilter::default();
                ConversationAccounts::read_all(context)?.find_all(&all, context)?
            }
            _ => HashMap::new(),
        },
        machines: Vec::new(),
    })
}

pub(super) fn evaluate_filter(
    filter: ThreadFilter,
    context: &Context,
) -> Result<ConversationFilter> {
    ConversationFilter::new(filter, |filter| list_threads(filter, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_day_of_a_period_is_that_of_the_given_zone_and_a_block_has_none() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let late: DateTime<Utc> = "2026-11-30T23:30:00Z".parse().unwrap();
        for (by, zone, expected) in [
            (Grouping::Daily, berlin, Some("2026-12-01")),
            (Grouping::Weekly, berlin, Some("2026-11-30")),
            (Grouping::Monthly, berlin, Some("2026-12-01")),
            (Grouping::Monthly, Zone::UTC, Some("2026-11-01")),
            (Grouping::Blocks, berlin, None),
        ] {
            let first_day = by.first_day(&late, zone).map(|day| day.to_string());
            assert_eq!(first_day.as_deref(), expected);
        }
    }
}
