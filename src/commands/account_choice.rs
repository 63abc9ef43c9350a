//! The account that the user names or picks.

use super::account::{accounts_and_profiles, label, printable, with_verdict};
use crate::codex::identity::Identity;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::resolve::resolve;
use crate::quota::account::Account;
use crate::quota::state;
use crate::ui::windows;

/// Returns the account that `text` names: a profile, an email, or a unique prefix of one.
pub(super) fn named(text: &str, context: &Context) -> Result<Identity, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    let position = resolve(accounts.iter().map(|a| &a.entry), text)?;
    Ok(accounts.swap_remove(position).entry.identity)
}

/// Lets the user choose a profile from a list with the remaining quota.
pub(super) fn pick(question: &str, context: &Context) -> Result<Identity, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    accounts.retain(|a| a.entry.profile.is_some());
    let choices: Vec<_> = accounts.iter().map(|a| choice(a, context)).collect();
    let position = context.ui.pick(question, &choices).ok_or_else(|| {
        CommandError::usage(question.to_owned())
            .hint("name a profile; list the profiles: codex-manager list")
    })?;
    Ok(accounts.swap_remove(position).entry.identity)
}

fn choice(account: &Account, context: &Context) -> String {
    let (account, verdict) = with_verdict(account.clone(), context);
    let now = if account.current { "  (live)" } else { "" };
    let weekly = account.entry.observation.as_ref().and_then(|o| o.weekly());
    let left = weekly.map_or_else(
        || " ".repeat(8),
        |weekly| windows::bar(state::left(weekly, &context.now())),
    );
    format!(
        "{:20}  {:9} {left}  {}{now}",
        label(&account),
        verdict.state.name(),
        printable(account.entry.identity.email.as_str())
    )
}
