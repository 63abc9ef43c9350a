//! `current`: shows the live account and the running Codex programs. Queries the quota only with
//! `--refresh`.

use crate::context::Context;
use crate::doctor::way_back::suggest_sign_in;
use crate::error::{Outcome, Result};
use crate::steps::refresh;
use crate::ui::{JsonFields, JsonObject, Style, object};
use crate::views::account::{
    entry_label, find_figures_source, printable, quota_json, read_accounts_and_profiles, time_json,
};
use crate::views::account_report::AccountReport;
use crate::views::conversation_usage::{LaunchedUsages, format_usage, usage_json};
use crate::views::folder_account::{note_folder_account, read_folder_profile};
use clap::Args;
use codex_manager_core::accounts::running::AccountHistory;
use codex_manager_core::codex::app_server::{LoginWorkspace, parse_workspaces};
use codex_manager_core::codex::process::find_holders;
use codex_manager_core::codex::rpc::Api;
use codex_manager_core::codex::{
    AUTH_JSON, AuthFile, CodexConfig, CredentialStore, Holder, Identity, Question, daemon,
};
use codex_manager_core::inventory::remedies::suggest_switch_of_owner;
use codex_manager_core::io::processes;
use codex_manager_core::quota::state::compute_verdict;
use codex_manager_core::quota::{Account, AccountEntry, account::find_by_identity};
use serde::Serialize;
use serde_json::json;

/// Show the live account and the Codex programs that use the home
///
/// Shows what `status` shows, and the programs. Reads local files only, and no conversations. Codex's background daemon
/// and other running programs keep the account that was live when they started. `current` finds it by their start time
/// and the record of switches by `use`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager current
  codex-manager current --json
  codex-manager current --refresh      # queries the quota and workspaces first")]
pub(crate) struct CurrentArgs {
    /// Query the account's quota first, like `status`, and the workspaces of the login (from Codex 0.169)
    #[arg(long)]
    refresh: bool,
}

/// A program that uses the home, in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ProcessView {
    pid: Option<u32>,
    name: String,
    why: String,
    started_at: Option<String>,
    /// The account under which the program runs, if known.
    email: Option<String>,
    account_id: Option<String>,
    profile: Option<String>,
    /// True if that account is the live one.
    current: Option<bool>,
    /// True for a Codex of `launch --isolated`, which has a login of its own.
    isolated: bool,
}

impl CurrentArgs {
    /// # Errors
    /// A document was written by a newer version, or a file cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let home = context.codex_home();
        let has_old_figures = self.refresh && !refresh::refresh_live(context)?;
        let workspaces = self.refresh.then(|| query_workspaces(context)).flatten();

        let store = CodexConfig::read(home).store;
        let auth =
            AuthFile::read(&home.join(AUTH_JSON)).unwrap_or_else(|e| AuthFile::from_read_error(&e));
        let usages = LaunchedUsages::read(context);
        let (accounts, _) = read_accounts_and_profiles(context)?;

        // With another credential store, Codex may ignore auth.json, so no account is known to be live.
        let uses_auth_json = store.always_reads_auth_json();
        let live = accounts.iter().find(|a| a.current && uses_auth_json);
        let account_history = if uses_auth_json {
            AccountHistory::read(context.manager_home(), home, &auth)?
        } else {
            AccountHistory::default()
        };
        let (daemon, processes) =
            find_programs(&account_history, &usages, &accounts, live, context);

        let live_entry = live.map(|live| &live.entry);
        let usage = live_entry.and_then(|entry| usages.find_newest_usage(entry));
        let usage_view = usage.as_ref().map(|usage| usage_json(usage, context));
        let problem = describe_account_problem(store, &auth);

        let json = identity_json(live_entry)
            .with("store", store.name())
            .with("workspaces", &workspaces)
            .with("daemon", &daemon)
            .with("processes", &processes)
            .and(figures_json(live_entry, context))
            .with("session", usage_view)
            .with("problem", &problem)
            .with("folder_profile", read_folder_profile(context));
        context.ui.document("current", &json);

        show_account(live_entry, problem.as_deref(), context);
        show_workspaces(workspaces.as_deref().unwrap_or_default(), context);
        show_processes(live_entry, daemon.as_ref(), &processes, context);
        note_folder_account(&accounts, context);
        let profiles = context.profiles();
        let owner_of_copy = profiles.find_owner_of_copy(&auth, home, &context.now());
        if uses_auth_json && let Some(owner_home) = owner_of_copy {
            context.warn(format_args!(
                "the login is a copy of the one in {}, or older: {}",
                owner_home.display(),
                suggest_switch_of_owner(&owner_home)
            ));
        }
        if uses_auth_json && matches!(auth, AuthFile::Missing) {
            context.note(suggest_sign_in(context).join("; "));
        }
        if let Some(sentence) = usage.and_then(|usage| format_usage(&usage, context)) {
            context.ui.prose(context.ui.paint(Style::Dim, sentence));
        }

        Ok(if live.is_none() {
            Outcome::CheckFailed
        } else {
            Outcome::partial_if(has_old_figures)
        })
    }
}

fn identity_json(live_entry: Option<&AccountEntry>) -> JsonObject<impl JsonFields> {
    let identity = live_entry.map(|entry| &entry.identity);
    object()
        .with("email", identity.map(|identity| identity.email.as_str()))
        .with("account_id", identity.and_then(|i| i.account_id.as_ref()))
        .with("profile", live_entry.and_then(|e| e.profile.as_ref()))
}

/// Returns the quota of the live account, with the source and the time of the figures.
fn figures_json(
    live_entry: Option<&AccountEntry>,
    context: &Context,
) -> JsonObject<impl JsonFields + use<>> {
    let (source, observed_at) = live_entry.map_or((None, None), |entry| {
        find_figures_source(entry, &compute_verdict(entry, &context.now()))
    });
    let observation = live_entry.and_then(|entry| entry.observation.as_ref());
    quota_json(observation, context)
        .with("source", source)
        .with("observed_at", time_json(observed_at, context))
}

/// Returns the workspaces of the login. `None` if Codex is too old or does not answer, which is no failure: the command
/// shows the account without them.
fn query_workspaces(context: &Context) -> Option<Vec<LoginWorkspace>> {
    // Without this parameter, Codex 0.169 lists only the selected workspace, and without a name.
    let params = json!({ "refreshWorkspaceMetadata": true });
    let question = Question {
        api: Api::Experimental,
        ..Question::new("accountSession/list", params)
    };
    let [answer] = refresh::ask_live(context, [question]);
    answer.ok().map(|result| parse_workspaces(&result))
}

/// Prints "workspaces: Acme (workspace, active), me@x.com (personal)".
fn show_workspaces(workspaces: &[LoginWorkspace], context: &Context) {
    if workspaces.is_empty() {
        return;
    }

    let names = workspaces.iter().map(|workspace| {
        let name = workspace.name.as_ref().unwrap_or(&workspace.account_id);
        let active_word = workspace.active.then_some("active");
        let kind = workspace.kind.as_deref();
        let facts: Vec<_> = kind.into_iter().chain(active_word).collect();
        printable(&match facts.as_slice() {
            [] => name.clone(),
            facts => format!("{name} ({})", facts.join(", ")),
        })
    });
    let names = names.collect::<Vec<_>>().join(", ");
    context.ui.prose(format_args!("workspaces: {names}"));
}

/// Returns the reason why the live account is unknown; `None` if it is known.
fn describe_account_problem(store: CredentialStore, auth: &AuthFile) -> Option<String> {
    // With another credential store, Codex may ignore auth.json, so its content proves nothing.
    if !store.always_reads_auth_json() {
        return Some(format!(
            "{}; the account is unknown",
            store.auth_json_problem()
        ));
    }

    match auth {
        AuthFile::Present(snapshot) if snapshot.login.is_some() => None,
        AuthFile::Present(_) => Some("auth.json contains no login".to_owned()),
        AuthFile::Missing => Some("not signed in: there is no auth.json".to_owned()),
        AuthFile::Unreadable { reason, .. } => Some(format!("auth.json is {reason}")),
    }
}

/// Returns Codex's background daemon, and the other programs that use the home.
fn find_programs(
    account_history: &AccountHistory,
    launches: &LaunchedUsages,
    accounts: &[Account],
    live: Option<&Account>,
    context: &Context,
) -> (Option<ProcessView>, Vec<ProcessView>) {
    let home = context.codex_home();
    // Codex 0.169 starts the daemon with its interface. The daemon outlives the interface and keeps the login in
    // memory.
    let daemon_pid = daemon::find(home).map(|d| d.pid);
    let no_outside_folders = [];
    let (daemon, holders): (Vec<_>, Vec<_>) = find_holders(home, &no_outside_folders)
        .into_iter()
        .partition(|holder| holder.pid.is_some() && holder.pid == daemon_pid);

    let to_view = |holder: Holder| {
        let started_at = holder.pid.and_then(processes::started_at);
        // Other programs can have files of the home open, but they have no account.
        let is_codex = holder.name == "codex";
        // A Codex that runs in an isolated home has the databases of this home open too, but a login of its own.
        let isolated_identity = match holder.pid {
            Some(pid) if is_codex => launches.find_isolated_account(pid),
            _ => None,
        };
        let account_at_start = || match &started_at {
            Some(at) if is_codex => account_history.account_at(at),
            _ => None,
        };
        let identity: Option<&Identity> = isolated_identity.or_else(account_at_start);
        let account_of_program = identity.and_then(|identity| find_by_identity(accounts, identity));

        ProcessView {
            pid: holder.pid,
            name: holder.name,
            why: holder.role.to_string(),
            started_at: time_json(started_at, context),
            email: identity.map(|identity| identity.email.to_string()),
            account_id: identity.and_then(|identity| identity.account_id.clone()),
            profile: account_of_program.and_then(|a| a.entry.profile.clone()),
            current: identity
                .zip(live)
                .map(|(identity, live)| identity.is_same(&live.entry.identity)),
            isolated: isolated_identity.is_some(),
        }
    };

    let daemon = daemon.into_iter().next().map(to_view);
    (daemon, holders.into_iter().map(to_view).collect())
}

fn show_account(live_entry: Option<&AccountEntry>, problem: Option<&str>, context: &Context) {
    if let Some(problem) = problem {
        context.ui.line(problem);
        return;
    }

    let report = live_entry.map_or_else(AccountReport::default, |entry| AccountReport {
        identity: Some(&entry.identity),
        profile: entry.profile.as_deref(),
        plan: entry.plan.as_deref(),
        observation: entry.observation.as_ref(),
        next_available_at: compute_verdict(entry, &context.now()).next_available_at,
    });
    report.show(context);
}

fn show_processes(
    live_entry: Option<&AccountEntry>,
    daemon: Option<&ProcessView>,
    processes: &[ProcessView],
    context: &Context,
) {
    let ui = &context.ui;
    let all_programs = || daemon.into_iter().chain(processes);

    for process in all_programs() {
        let pid = process
            .pid
            .map_or(String::new(), |pid| format!("PID {pid}, "));
        let (name, why) = (printable(&process.name), printable(&process.why));
        let account_name = process.profile.as_ref().or(process.email.as_ref());
        let label = account_name.map(|name| printable(name)).unwrap_or_default();
        let account = match (&process.email, process.current) {
            (Some(_), _) if process.isolated => format!(": {label}, isolated"),
            (Some(_), Some(true)) => ": this account".into(),
            (Some(_), _) => format!(": still {label}"),
            (None, _) => String::new(),
        };
        ui.line(format_args!("  {name} ({pid}{why}){account}"));
    }

    // The account of such a Codex is unknown, so the note gives the general rule.
    if all_programs().any(|process| process.email.is_none() && process.name == "codex") {
        ui.note("running Codex programs keep the account that was live when they started");
    }

    if let Some(daemon) = daemon.filter(|daemon| daemon.current == Some(false)) {
        ui.warn(format_args!(
            "Codex's background daemon still uses {}; stop it with: codex-manager use {} --stop-daemon",
            printable(daemon.email.as_deref().unwrap_or_default()),
            live_entry.map(entry_label).unwrap_or_default(),
        ));
    }
}
