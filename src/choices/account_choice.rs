//! The account that the user names or picks.

use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{CommandError, Result};
use crate::ui::picker::{Picker, PickerItem, PickerOptions};
use crate::ui::text_width::elide_middle;
use crate::ui::{Style, windows};
use crate::views::account::{
    label, printable, read_accounts_and_profiles, state_style, with_verdict,
};
use codex_manager_core::codex::Identity;
use codex_manager_core::inventory::remedies;
use codex_manager_core::inventory::resolve::find_account_position;
use codex_manager_core::quota::recommend::rank_accounts;
use codex_manager_core::quota::{Account, AccountEntry, LoginState, state};

/// Returns the account that `account_name` names: a profile, an email, or a unique prefix of one.
pub(crate) fn find_identity(account_name: &str, context: &Context) -> Result<Identity> {
    Ok(find_account(account_name, context)?.entry.identity)
}

/// Returns all known facts about the account that `account_name` names.
pub(crate) fn find_account(account_name: &str, context: &Context) -> Result<Account> {
    let (mut accounts, _) = read_accounts_and_profiles(context)?;
    let position = find_account_index(&accounts, account_name, context)?;
    Ok(accounts.swap_remove(position))
}

/// Returns the account that `account_name` names, else the live one. `example` is a command that names one.
///
/// # Errors
/// No account or several match `account_name`, or no account is live.
pub(crate) fn find_account_or_live(
    account_name: Option<&str>,
    example: &str,
    context: &Context,
) -> Result<Account> {
    if let Some(account_name) = account_name {
        return find_account(account_name, context);
    }
    let (accounts, _) = read_accounts_and_profiles(context)?;
    let live_account = accounts.into_iter().find(|account| account.current);
    live_account.ok_or_else(|| {
        CommandError::failed("no account is signed in to the Codex home")
            .hint(format!("name an account: {example}"))
    })
}

/// Returns the index in `accounts` of the account that `text` names.
///
/// # Errors
/// No account or several match. On a machine without accounts, the hint says how to add the first one.
pub(crate) fn find_account_index(
    accounts: &[Account],
    text: &str,
    context: &Context,
) -> Result<usize> {
    if accounts.is_empty() {
        let message = format!("no account or profile named {text:?}");
        return Err(CommandError::failed(message).hint_each(suggest_login(context)));
    }
    let position = find_account_position(accounts.iter().map(|a| &a.entry), text);
    position.map_err(|e| {
        let mut error = CommandError::from(e);
        if context.profiles().can_undo_removal(text) {
            error = error.hint(remedies::suggest_undo(text));
        }
        error
    })
}

/// Lets the user choose an account that has a profile. The list shows the remaining weekly quota and begins with the
/// recommended account. The first account that may be recommended, has a login and is not live is preselected.
///
/// # Errors
/// There are no profiles, or the user cancelled. Without a terminal, the message of the error is `question`.
pub(crate) fn pick_account(question: &str, context: &Context) -> Result<Identity> {
    let is_default = |account: &Account| !account.current && account.login == LoginState::Ok;
    let hint = "name an account; list the accounts: codex-manager accounts";
    Ok(choose_account(question, is_default, hint, context)?.identity)
}

/// Returns `name`, or if it is `None` the name of the profile that the user chooses.
///
/// # Errors
/// As [`pick_account`].
pub(crate) fn choose_profile_name(name: Option<String>, context: &Context) -> Result<String> {
    if let Some(name) = name {
        return Ok(name);
    }
    let question = "which profile?";
    let hint = "name a profile; list the profiles: codex-manager list";
    let chosen = choose_account(question, |_any_account| true, hint, context)?;
    chosen.profile.ok_or_else(|| CommandError::usage(question))
}

/// Lets the user choose an account that has a profile. The list begins with the recommended account. The first
/// account that may be recommended and that `is_default` accepts is preselected, else the first of the list.
fn choose_account(
    question: &str,
    is_default: impl Fn(&Account) -> bool,
    hint: &str,
    context: &Context,
) -> Result<AccountEntry> {
    let (mut accounts, _) = read_accounts_and_profiles(context)?;
    accounts.retain(|a| a.entry.profile.is_some());
    if accounts.is_empty() {
        return Err(
            CommandError::failed("there are no profiles yet").hint_each(suggest_login(context))
        );
    }

    let preferences = &context.settings.preferences;
    let (strategy, include_api_key) = (preferences.strategy, preferences.include_api_key);
    let ranking = rank_accounts(&accounts, strategy, include_api_key, &context.now());
    let ranked: Vec<_> = ranking.candidates.iter().chain(&ranking.excluded).collect();
    // Only candidates are searched: one Enter must not choose an API key, which is billed by use, unless it may be
    // recommended.
    let mut candidates = ranking.candidates.iter();
    let default_position = candidates.position(|ranked| is_default(ranked.account));

    let picker = Picker {
        question,
        items: (0..)
            .zip(&ranked)
            .map(|(position, ranked)| build_picker_item(position, ranked.account, context))
            .collect(),
        default: default_position.unwrap_or(0),
        options: PickerOptions::default(),
    };

    let choice = picker.run(&context.ui)?;
    // The id of an item is its position in `ranked`.
    let position = choice.and_then(|choice| choice.id.parse::<usize>().ok());
    let chosen = position.and_then(|position| ranked.get(position));
    let entry = chosen.map(|chosen| chosen.account.entry.clone());
    entry.ok_or_else(|| CommandError::usage(question.to_owned()).hint(hint))
}

/// The width of a terminal, in columns, below which the picker shortens names, so that state and quota fit.
const NARROW_TERMINAL: usize = 60;

/// `id` identifies the item in the answer of the picker.
fn build_picker_item(id: usize, account: &Account, context: &Context) -> PickerItem {
    let (account, verdict) = with_verdict(account.clone(), context);
    let quota_left = state::weekly_left(&account.entry, &context.now());
    let quota_cell = quota_left.map_or((Style::Plain, String::new()), |percent| {
        (windows::style_of(percent), format!("{percent:>3.0} %"))
    });

    let mark = if account.current { "*" } else { "" };
    let email = printable(account.entry.identity.email.as_str());
    let name = label(&account);
    let is_narrow = context.ui.width() < NARROW_TERMINAL;
    let max_name_width = if is_narrow { 16 } else { usize::MAX };
    let short_name = elide_middle(&name, max_name_width);

    let state_cell = match account.login {
        LoginState::Moved => (Style::Warn, "login moved".to_owned()),
        _ => (state_style(verdict.state), verdict.state.name().to_owned()),
    };

    let columns = vec![
        (Style::Strong, mark.to_owned()),
        (Style::Strong, short_name.into_owned()),
        state_cell,
        quota_cell,
        (Style::Plain, email.clone()),
    ];

    PickerItem {
        search: format!("{name} {} {email}", verdict.state.name()),
        ..PickerItem::new(id.to_string(), columns)
    }
}
