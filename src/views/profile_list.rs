//! The list of profiles.

use crate::accounts::profile::{LoginOwner, Profile, Profiles};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::quota::account::{Account, LoginState};
use crate::quota::state::{AccountState, Verdict};
use crate::ui::Style;
use crate::ui::windows::QuotaJson;
use crate::views::account::{
    AccountView, accounts_and_profiles, first_login, printable, with_verdict,
};
use crate::views::account_table;
use crate::views::conversation_usage::{LaunchedUsageView, LaunchedUsages, sentence};
use serde::Serialize;

/// A profile in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
pub(crate) struct ProfileView {
    name: String,
    email: String,
    account_id: Option<String>,
    current: bool,
    state: AccountState,
    login: LoginState,
    #[serde(flatten)]
    quota: QuotaJson,
    /// The usage of conversations launched under it.
    session: Option<LaunchedUsageView>,
}

/// A profile with its account and the account's current state.
#[derive(Debug)]
pub(crate) struct AccountRow {
    pub(crate) profile: Profile,
    pub(crate) account: Account,
    pub(crate) verdict: Verdict,
}

/// Returns all profiles, sorted by name.
pub(crate) fn rows(context: &Context) -> Result<Vec<AccountRow>, CommandError> {
    let (accounts, profiles) = accounts_and_profiles(context)?;
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

pub(crate) fn show(command: &str, context: &Context) -> Result<Outcome, CommandError> {
    // Read first: completing launches can add figures of accounts.
    let usages = LaunchedUsages::read(context);
    let rows = rows(context)?;
    let profiles: Vec<_> = rows
        .iter()
        .map(|row| ProfileView::of(row, &usages, context))
        .collect();
    context.ui.list_document(command, "profiles", &profiles);
    let ui = &context.ui;
    if rows.is_empty() {
        let next = first_login(context);
        ui.note(format_args!("there are no profiles yet; {next}"));
        return Ok(Outcome::Done);
    }
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (&row.account, &row.verdict))
        .collect();
    account_table::show(&shown, context);
    for row in &rows {
        let usage = usages.of(&row.account.entry);
        if let Some(sentence) = usage.and_then(|usage| sentence(&usage, context)) {
            let name = printable(&row.profile.name);
            ui.prose(ui.paint(Style::Dim, format_args!("{name}: {sentence}")));
        }
    }
    for row in &rows {
        if let Some(problem) = problem(&row.profile) {
            ui.warn(format_args!(
                "profile {}: {problem}",
                printable(&row.profile.name)
            ));
        }
    }
    let profiles: Vec<_> = rows.into_iter().map(|row| row.profile).collect();
    let all = Profiles::of(&context.settings.manager_home);
    Ok(Outcome::partial_if(!all.newer(&profiles).is_empty()))
}

impl ProfileView {
    fn of(row: &AccountRow, usages: &LaunchedUsages, context: &Context) -> Self {
        let shown = AccountView::of(&row.account, &row.verdict, context);
        Self {
            name: row.profile.name.clone(),
            email: shown.email,
            account_id: shown.account_id,
            current: row.account.current,
            state: shown.state,
            login: shown.login,
            quota: shown.quota,
            session: usages
                .of(&row.account.entry)
                .map(|usage| LaunchedUsageView::of(&usage, context)),
        }
    }
}

/// Describes the damage of a profile's login; `None` if it is usable or on another machine.
pub(crate) fn problem(profile: &Profile) -> Option<String> {
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
