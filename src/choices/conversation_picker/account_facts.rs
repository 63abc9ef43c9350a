//! The accounts with their remaining quota, for the first line of the picker.

use crate::context::Context;
use crate::quota::state;
use crate::ui::{Style, windows};
use crate::views::account::{accounts_and_profiles, label};

/// Returns each account that has a profile with what is left of its weekly window, the current one first.
/// Without readable records there are none: they are no reason not to choose a conversation.
pub(crate) fn account_facts(context: &Context) -> Vec<(Style, String)> {
    let Ok((mut accounts, _)) = accounts_and_profiles(context) else {
        return Vec::new();
    };
    accounts.retain(|account| account.entry.profile.is_some());
    accounts.sort_by_key(|account| !account.current);
    let facts = accounts.iter().map(|account| {
        let weekly = account.entry.observation.as_ref().and_then(|o| o.weekly());
        let name = label(account);
        match weekly.map(|weekly| state::left(weekly, &context.now())) {
            Some(left) => (windows::style_of(left), format!("{name} {left:.0} %")),
            None => (Style::Dim, format!("{name} –")),
        }
    });
    facts.collect()
}
