//! `list`: shows all profiles with their remaining quota. Queries the quota only with `--refresh`.

use super::account::{AccountView, accounts_and_profiles, first_login, printable, with_verdict};
use super::account_table;
use super::refresh;
use super::session_usage::{SessionUsages, SessionView, sentence};
use super::table_format::TableArgs;
use crate::accounts::profile::{LoginOwner, Profile, Profiles};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::quota::account::{Account, LoginState};
use crate::quota::state::{AccountState, Verdict};
use crate::ui::Style;
use crate::ui::windows::QuotaJson;
use clap::Args;
use serde::Serialize;

/// List the profiles and their remaining quota
///
/// Uses the last known figures; makes no query and reads no conversations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager list
  codex-manager list --json
  codex-manager list --format tsv | cut -f1,2
  codex-manager list --refresh         # queries the quota first")]
pub(crate) struct ListArgs {
    /// Query the quota of all profiles first, like `status --all`
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    table: TableArgs,
}

/// A profile in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ProfileView {
    name: String,
    email: String,
    account_id: Option<String>,
    current: bool,
    state: AccountState,
    login: LoginState,
    #[serde(flatten)]
    quota: QuotaJson,
    /// The usage of conversations launched under it.
    session: Option<SessionView>,
}

/// A profile with its account and the account's current state.
#[derive(Debug)]
pub(super) struct AccountRow {
    pub(super) profile: Profile,
    pub(super) account: Account,
    pub(super) verdict: Verdict,
}

/// Returns all profiles, sorted by name.
pub(super) fn rows(context: &Context) -> Result<Vec<AccountRow>, CommandError> {
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

impl ListArgs {
    /// # Errors
    /// A document was written by a newer version or cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let context = &self.table.apply(context)?;
        let is_fresh = !self.refresh || refresh::refresh_all(context)?;
        let outcome = show("list", context)?;
        Ok(if is_fresh { outcome } else { Outcome::Partial })
    }
}

pub(super) fn show(command: &str, context: &Context) -> Result<Outcome, CommandError> {
    // Read first: completing launches can add figures of accounts.
    let usages = SessionUsages::read(context);
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
    fn of(row: &AccountRow, usages: &SessionUsages, context: &Context) -> Self {
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
                .map(|usage| SessionView::of(&usage, context)),
        }
    }
}

/// Describes the damage of a profile's login; `None` if it is usable or on another machine.
pub(super) fn problem(profile: &Profile) -> Option<String> {
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
