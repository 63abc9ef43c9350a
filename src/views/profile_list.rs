//! The list of profiles.

use crate::accounts::profile::{LoginOwner, Profile};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::quota::account::Account;
use crate::quota::state::Verdict;
use crate::ui::{Style, object};
use crate::views::account::{
    first_login, printable, quota_json, read_accounts_and_profiles, with_verdict,
};
use crate::views::account_table;
use crate::views::conversation_usage::{LaunchedUsages, format_usage, usage_json};
use serde::Serialize;

/// A profile with its account and the account's current state.
#[derive(Debug)]
pub(crate) struct AccountRow {
    pub(crate) profile: Profile,
    pub(crate) account: Account,
    pub(crate) verdict: Verdict,
}

/// Returns all profiles, sorted by name.
pub(crate) fn list_account_rows(context: &Context) -> Result<Vec<AccountRow>> {
    let (accounts, profiles) = read_accounts_and_profiles(context)?;
    let row = |profile: Profile| {
        let account = accounts
            .iter()
            .find(|a| a.entry.profile.as_ref() == Some(&profile.name))?;
        let (account, verdict) = with_verdict(account.clone(), context);
        Some(AccountRow {
            profile,
            account,
            verdict,
        })
    };
    Ok(profiles.into_iter().filter_map(row).collect())
}

pub(crate) fn show(command: &str, context: &Context) -> Result<Outcome> {
    // Read first: completing launches can add figures of accounts.
    let usages = LaunchedUsages::read(context);
    let rows = list_account_rows(context)?;
    let json = |row| row_json(row, &usages, context);
    let ui = &context.ui;
    ui.list_document(
        command,
        "profiles",
        &rows.iter().map(json).collect::<Vec<_>>(),
    );
    if rows.is_empty() {
        let next = first_login(context);
        ui.note(format_args!("there are no profiles yet; {next}"));
        return Ok(Outcome::Done);
    }
    let shown = rows.iter().map(|row| (&row.account, &row.verdict));
    account_table::print_accounts(shown, context);
    for row in &rows {
        let usage = usages.newest_usage(&row.account.entry);
        if let Some(sentence) = usage.and_then(|usage| format_usage(&usage, context)) {
            let name = printable(&row.profile.name);
            ui.prose(ui.paint(Style::Dim, format_args!("{name}: {sentence}")));
        }
    }
    for row in &rows {
        if let Some(problem) = describe_login_problem(&row.profile) {
            ui.warn(format_args!(
                "profile {}: {problem}",
                printable(&row.profile.name)
            ));
        }
    }
    let profiles: Vec<_> = rows.into_iter().map(|row| row.profile).collect();
    let all = context.profiles();
    Ok(Outcome::partial_if(!all.list_newer(&profiles).is_empty()))
}

/// Returns a profile in JSON, with the usage of conversations launched under it. The keys are an interface.
fn row_json<'a>(
    row: &'a AccountRow,
    usages: &LaunchedUsages,
    context: &Context,
) -> impl Serialize + use<'a> {
    let entry = &row.account.entry;
    let usage = usages.newest_usage(entry);
    object()
        .with("name", &row.profile.name)
        .with("email", entry.identity.email.as_str())
        .with("account_id", &entry.identity.account_id)
        .with("current", row.account.current)
        .with("state", row.verdict.state)
        .with("login", row.account.login)
        .and(quota_json(entry.observation.as_ref(), context))
        .with("session", usage.map(|usage| usage_json(&usage, context)))
}

/// Describes the damage of a profile's login; `None` if it is usable or on another machine.
pub(crate) fn describe_login_problem(profile: &Profile) -> Option<String> {
    use crate::codex::auth::AuthFile;
    if let Some(other) = profile.other_account() {
        return Some(format!("its auth.json contains the login of {other}"));
    }
    if let Some(reason) = &profile.damaged {
        return Some(format!("its profile.json is damaged: {reason}"));
    }
    match &profile.auth {
        AuthFile::Present(snapshot) if snapshot.login.is_some() => None,
        AuthFile::Present(_) => Some("its auth.json contains no login".into()),
        AuthFile::Missing if profile.file.owner == LoginOwner::Moved => None,
        AuthFile::Missing => Some("its auth.json is missing".into()),
        AuthFile::Unreadable { reason, .. } => Some(format!("its auth.json is {reason}")),
    }
}
