//! The account that the user names or picks.

use super::account::{
    accounts_and_profiles, first_login, label, printable, style_of, with_verdict,
};
use crate::codex::identity::Identity;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::resolve::resolve;
use crate::quota::account::{Account, LoginState};
use crate::quota::recommend::rank;
use crate::quota::state;
use crate::ui::Style;
use crate::ui::picker::{Picker, PickerItem, PickerOptions};
use crate::ui::windows;

/// Returns the account that `text` names: a profile, an email, or a unique prefix of one.
pub(super) fn named(text: &str, context: &Context) -> Result<Identity, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    let position = position(&accounts, text, context)?;
    Ok(accounts.swap_remove(position).entry.identity)
}

/// Returns the index in `accounts` of the account that `text` names.
///
/// # Errors
/// There is none, or several match. On a machine without accounts, the hint is how to get the first one.
pub(super) fn position(
    accounts: &[Account],
    text: &str,
    context: &Context,
) -> Result<usize, CommandError> {
    if accounts.is_empty() {
        let message = format!("no account or profile named {text:?}");
        return Err(CommandError::failed(message).hint(first_login(context)));
    }
    Ok(resolve(accounts.iter().map(|a| &a.entry), text)?)
}

/// Lets the user choose a profile from a list with the remaining quota. The recommended account other than
/// the current one is selected first.
///
/// # Errors
/// The user cancelled. Without a terminal, the message is the question.
pub(super) fn pick(question: &str, context: &Context) -> Result<Identity, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    accounts.retain(|a| a.entry.profile.is_some());
    if accounts.is_empty() {
        return Err(CommandError::failed("there are no profiles yet").hint(first_login(context)));
    }
    let picker = Picker {
        question,
        items: (0..)
            .zip(&accounts)
            .map(|(i, a)| item(i, a, context))
            .collect(),
        default: recommended(&accounts, context).unwrap_or(0),
        options: PickerOptions::default(),
    };
    let chosen = picker.run(&context.ui)?;
    let chosen = chosen.and_then(|picked| picked.id.parse().ok());
    let position: usize = chosen.ok_or_else(|| {
        CommandError::usage(question.to_owned())
            .hint("name an account; list the accounts: codex-manager list")
    })?;
    Ok(accounts.swap_remove(position).entry.identity)
}

/// Returns the index of the recommended account among those that are not in use.
fn recommended(accounts: &[Account], context: &Context) -> Option<usize> {
    let preferences = &context.settings.preferences;
    let (strategy, with_keys) = (preferences.strategy, preferences.include_api_key);
    let ranking = rank(accounts, strategy, with_keys, &context.now());
    let mut candidates = ranking.candidates.iter().map(|c| c.account);
    let best = candidates.find(|a| !a.current && a.login == LoginState::Ok)?;
    accounts.iter().position(|a| a == best)
}

fn item(id: usize, account: &Account, context: &Context) -> PickerItem {
    let (account, verdict) = with_verdict(account.clone(), context);
    let weekly = account.entry.observation.as_ref().and_then(|o| o.weekly());
    let left = weekly.map_or_else(String::new, |weekly| {
        let left = state::left(weekly, &context.now());
        format!("{} {left:>3.0} %", windows::bar(left))
    });
    let current = if account.current { "(current)" } else { "" };
    let email = printable(account.entry.identity.email.as_str());
    PickerItem::new(
        id.to_string(),
        vec![
            (Style::Strong, label(&account)),
            (style_of(verdict.state), verdict.state.name().to_owned()),
            (Style::Plain, left),
            (Style::Plain, email),
            (Style::Dim, current.to_owned()),
        ],
    )
}
