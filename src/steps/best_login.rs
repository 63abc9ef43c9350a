//! Chooses the account for a switch that names none: the best account with a saved login.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::{label, read_known_accounts};
use codex_manager_core::inventory::accounts::recheck_profile_logins;
use codex_manager_core::inventory::remedies;
use codex_manager_core::quota::recommend::{RankedAccount, Ranking, rank_accounts};
use codex_manager_core::quota::{Account, LoginState};

/// Returns the index of the best account, which `find_best` chooses; `None` if there is none. Reads the saved login of
/// the chosen account again. If its state changed, chooses again.
pub(crate) fn choose_with_checked_login(
    accounts: &mut [Account],
    context: &Context,
    find_best: impl Fn(&[Account]) -> Option<usize>,
) -> Option<usize> {
    let home = context.manager_home();
    loop {
        let index = find_best(accounts)?;
        let has_changed = recheck_profile_logins(home, [&mut accounts[index]]);
        if !has_changed {
            return Some(index);
        }
    }
}

/// Returns the account to which `recommend --use` would switch: the best account with a saved login. Prints a note if
/// another account ranks first.
///
/// # Errors
/// No account has a saved login, or `cooldown.json` cannot be read.
pub(crate) fn find_best_login(context: &Context) -> Result<Account> {
    let mut accounts = read_known_accounts(context)?;
    let preferences = &context.settings.preferences;
    let (strategy, include_api_key) = (preferences.strategy, preferences.include_api_key);

    let best_index = choose_with_checked_login(&mut accounts, context, |accounts| {
        let ranking = rank_accounts(accounts, strategy, include_api_key, &context.now());
        let mut candidates = ranking.candidates.iter();
        let best = candidates.find(|c| c.account.login == LoginState::Ok)?;
        accounts.iter().position(|a| a == best.account)
    });
    let Some(best_index) = best_index else {
        return Err(CommandError::refused("no account has a saved login")
            .hint("sign in to an account: codex-manager profile login NAME"));
    };

    // The check may have changed the login state of an account, so the accounts are ranked again.
    let ranking = rank_accounts(&accounts, strategy, include_api_key, &context.now());
    let is_best = |c: &&RankedAccount<'_>| *c.account == accounts[best_index];
    if let Some(chosen) = ranking.candidates.iter().find(is_best) {
        note_first_without_login(&ranking, chosen, context);
    }
    Ok(accounts.swap_remove(best_index))
}

/// Prints a note if `chosen` does not rank first, because the first account has no saved login.
pub(crate) fn note_first_without_login(
    ranking: &Ranking<'_>,
    chosen: &RankedAccount<'_>,
    context: &Context,
) {
    let first = ranking.candidates.first();
    if let Some(first) = first.filter(|first| !std::ptr::eq(first.account, chosen.account)) {
        context.note(format_args!(
            "{} ranks first, but {}",
            label(first.account),
            describe_missing_login(first.account, context)
        ));
    }
}

/// Returns a clause about an account without a saved login, with the command that saves one.
pub(crate) fn describe_missing_login(account: &Account, context: &Context) -> String {
    let identity = &account.entry.identity;
    if let Some(advice) = remedies::suggest_removed_login(identity, context.manager_home()) {
        return advice;
    }

    // The command does not name the file: reading all archives to find it would take longer than the rest of
    // `recommend`.
    if account.login == LoginState::Archived {
        "its login is in an archive or in an old login file; save it to a profile: codex-manager profile save NAME --from FILE".into()
    } else {
        "it has no saved login; sign in: codex-manager profile login NAME".into()
    }
}
