//! Chooses the account for a switch that names none: the best account with a saved login.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::{label, read_known_accounts};
use codex_manager_core::inventory::accounts::recheck_profile_logins;
use codex_manager_core::inventory::remedies;
use codex_manager_core::quota::recommend::{RankedAccount, Ranking, rank_accounts};
use codex_manager_core::quota::{Account, LoginState};

/// Reads the saved login of the account that `choose` finds, and updates its state in `accounts`. If the state changed,
/// chooses again. `choose` returns an index.
pub(crate) fn recheck_chosen_login(
    accounts: &mut [Account],
    context: &Context,
    choose: impl Fn(&[Account]) -> Option<usize>,
) {
    let home = context.manager_home();
    while let Some(index) = choose(accounts) {
        let has_changed = recheck_profile_logins(home, [&mut accounts[index]]);
        if !has_changed {
            return;
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
    let now = context.now();
    let has_login = |ranked: &&RankedAccount<'_>| ranked.account.login == LoginState::Ok;

    recheck_chosen_login(&mut accounts, context, |accounts| {
        let ranking = rank_accounts(accounts, strategy, include_api_key, &now);
        let best = ranking.candidates.iter().find(has_login)?;
        accounts.iter().position(|a| a == best.account)
    });
    let ranking = rank_accounts(&accounts, strategy, include_api_key, &now);
    let best = ranking.candidates.iter().find(has_login).ok_or_else(|| {
        CommandError::refused("no account has a saved login")
            .hint("sign in to an account: codex-manager profile login NAME")
    })?;

    note_first_without_login(&ranking, best, context);
    Ok(best.account.clone())
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
