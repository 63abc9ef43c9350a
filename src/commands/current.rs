//! `current`: shows the live account and the running Codex programs. Queries the quota only with
//! `--refresh`.

use crate::accounts::running::AccountHistory;
use crate::codex::auth::AuthFile;
use crate::codex::config::{CodexConfig, CredentialStore};
use crate::codex::daemon;
use crate::codex::home::AUTH_JSON;
use crate::codex::identity::Identity;
use crate::codex::process::{Holder, find_holders};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::clock::Timestamp;
use crate::io::processes;
use crate::quota::account::Account;
use crate::quota::window::QuotaSource;
use crate::steps::refresh;
use crate::ui::Style;
use crate::ui::windows::{self, QuotaJson};
use crate::views::account::{
    AccountView, accounts_and_profiles, local, printable, sign_in, with_verdict,
};
use crate::views::conversation_usage::{LaunchedUsageView, LaunchedUsages, sentence};
use clap::Args;
use serde::Serialize;

/// Show the live account and the Codex programs that use the home
///
/// Reads local files only, and no conversations. Codex's background daemon and other running programs
/// keep the account that was live when they started. `current` finds it by their start time and the
/// record of switches by `use`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager current
  codex-manager current --json
  codex-manager current --refresh      # queries the quota first")]
pub(crate) struct CurrentArgs {
    /// Query the account's quota first, like `status`
    #[arg(long)]
    refresh: bool,
}

/// The JSON document. Its keys are an interface.
#[derive(Debug, Serialize)]
struct CurrentView {
    email: Option<String>,
    account_id: Option<String>,
    profile: Option<String>,
    store: &'static str,
    daemon: Option<ProcessView>,
    processes: Vec<ProcessView>,
    #[serde(flatten)]
    quota: QuotaJson,
    source: Option<QuotaSource>,
    observed_at: Option<String>,
    session: Option<LaunchedUsageView>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProcessView {
    pid: Option<u32>,
    name: String,
    why: String,
    started_at: Option<String>,
    /// The account under which it runs, if known.
    email: Option<String>,
    account_id: Option<String>,
    profile: Option<String>,
    /// True if that account is the live one.
    current: Option<bool>,
}

impl CurrentArgs {
    /// # Errors
    /// A document was written by a newer version, or a file cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let home = &context.settings.codex_home;
        let is_fresh = !self.refresh || refresh::refresh_live(context)?;
        let store = CodexConfig::read(home).store;
        let auth =
            AuthFile::read(&home.join(AUTH_JSON)).unwrap_or_else(|e| AuthFile::from_read_error(&e));
        let usages = LaunchedUsages::read(context);
        let (accounts, _) = accounts_and_profiles(context)?;
        let uses_auth_json = store.reads_auth_json();
        let live = accounts.iter().find(|a| a.current && uses_auth_json);
        let account_history = if uses_auth_json {
            AccountHistory::of(&context.settings.manager_home, home, &auth)?
        } else {
            AccountHistory::default()
        };
        let running = daemon::find(home).map(|d| d.pid);
        let (daemon, processes): (Vec<_>, Vec<_>) = find_holders(home, &[])
            .into_iter()
            .partition(|holder| holder.pid.is_some() && holder.pid == running);
        let view =
            |holder: Holder| process_view(holder, &account_history, &accounts, live, context);
        let shown = live.map(|account| {
            let (account, verdict) = with_verdict(account.clone(), context);
            AccountView::of(&account, &verdict, context)
        });
        let usage = live.and_then(|live| usages.of(&live.entry));
        let view = CurrentView {
            session: usage
                .as_ref()
                .map(|usage| LaunchedUsageView::of(usage, context)),
            email: shown.as_ref().map(|a| a.email.clone()),
            account_id: shown.as_ref().and_then(|a| a.account_id.clone()),
            profile: shown.as_ref().and_then(|a| a.profile.clone()),
            store: store.name(),
            daemon: daemon.into_iter().next().map(view),
            processes: processes.into_iter().map(view).collect(),
            source: shown.as_ref().and_then(|a| a.source),
            observed_at: shown.as_ref().and_then(|a| a.observed_at.clone()),
            quota: shown.map(|a| a.quota).unwrap_or_default(),
            problem: problem(store, &auth),
        };
        context.ui.document("current", &view);
        show(&view, live, context);
        if uses_auth_json && matches!(auth, AuthFile::Missing) {
            context.ui.note(sign_in(context));
        }
        if let Some(sentence) = usage.and_then(|usage| sentence(&usage, context)) {
            context.ui.prose(context.ui.paint(Style::Dim, sentence));
        }
        Ok(if view.email.is_none() {
            Outcome::CheckFailed
        } else {
            Outcome::partial_if(!is_fresh)
        })
    }
}

/// Returns the reason why the live account is unknown; `None` if it is known.
fn problem(store: CredentialStore, auth: &AuthFile) -> Option<String> {
    // With another credential store, Codex ignores auth.json, so its content proves nothing.
    if !store.reads_auth_json() {
        return Some(format!(
            "Codex does not store its login in auth.json (cli_auth_credentials_store = \"{}\"); the account is unknown",
            store.name()
        ));
    }
    match auth {
        AuthFile::Present(snapshot) if snapshot.login.is_some() => None,
        AuthFile::Present(_) => Some("auth.json contains no login".to_owned()),
        AuthFile::Missing => Some("not signed in: there is no auth.json".to_owned()),
        AuthFile::Unreadable { reason, .. } => Some(format!("auth.json is {reason}")),
    }
}

fn process_view(
    holder: Holder,
    account_history: &AccountHistory,
    accounts: &[Account],
    live: Option<&Account>,
    context: &Context,
) -> ProcessView {
    let started = holder.pid.and_then(processes::started_at);
    // Other programs can have files of the home open, but they have no account.
    let is_codex = holder.name == "codex";
    let has: Option<&Identity> = started
        .as_ref()
        .filter(|_| is_codex)
        .and_then(|at| account_history.at(at));
    let known = has.and_then(|has| accounts.iter().find(|a| a.entry.identity.is_same(has)));
    let at = |at: chrono::DateTime<chrono::Utc>| -> Timestamp { context.settings.zone.at(&at) };
    ProcessView {
        pid: holder.pid,
        name: holder.name,
        why: holder.why,
        started_at: started.map(|time| local(&at(time), context)),
        email: has.map(|has| has.email.to_string()),
        account_id: has.and_then(|has| has.account_id.clone()),
        profile: known.and_then(|a| a.entry.profile.clone()),
        current: has
            .zip(live)
            .map(|(has, live)| has.is_same(&live.entry.identity)),
    }
}

fn show(view: &CurrentView, live: Option<&Account>, context: &Context) {
    let ui = &context.ui;
    if let Some(email) = &view.email {
        let email = ui.paint(Style::Strong, printable(email));
        let facts: Vec<_> = [&view.profile, &view.account_id]
            .into_iter()
            .flatten()
            .map(|fact| printable(fact))
            .collect();
        if facts.is_empty() {
            ui.line(email);
        } else {
            ui.prose(format_args!("{email} ({})", facts.join(", ")));
        }
    }
    if let Some(problem) = &view.problem {
        ui.line(problem);
    }
    if let Some(seen) = live.and_then(|a| a.entry.observation.as_ref()) {
        let (zone, now) = (context.settings.zone, context.now());
        for line in windows::lines(ui, seen, zone, &now) {
            ui.prose(line);
        }
        ui.prose(ui.paint(Style::Dim, windows::origin(seen, zone, &now)));
    }
    for process in view.daemon.iter().chain(&view.processes) {
        let pid = process
            .pid
            .map_or(String::new(), |pid| format!("PID {pid}, "));
        let (name, why) = (printable(&process.name), printable(&process.why));
        let account = match (&process.email, process.current) {
            (Some(_), Some(true)) => ": this account".into(),
            (Some(email), _) => format!(
                ": still {}",
                printable(process.profile.as_ref().unwrap_or(email))
            ),
            (None, _) => String::new(),
        };
        ui.line(format_args!("  {name} ({pid}{why}){account}"));
    }
    let all = || view.daemon.iter().chain(&view.processes);
    if all().any(|process| process.email.is_none() && process.name == "codex") {
        ui.note("running Codex programs keep the account that was live when they started");
    }
    if let Some(daemon) = view.daemon.as_ref().filter(|d| d.current == Some(false)) {
        ui.warn(format_args!(
            "Codex's background daemon still uses {}; stop it with: codex-manager use {} --stop-daemon",
            printable(daemon.email.as_deref().unwrap_or_default()),
            printable(
                view.profile
                    .as_ref()
                    .or(view.email.as_ref())
                    .map_or("", |name| name)
            ),
        ));
    }
}
