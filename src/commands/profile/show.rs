//! `profile show`: shows a profile with its account and its history.

use crate::choices::account_choice::choose_profile_name;
use crate::commands::profile::login_age::recorded_renewal;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::object;
use crate::views::account::{
    absolute_time, account_json, printable, read_accounts_and_profiles, relative_time, state_style,
    time_json, with_verdict,
};
use crate::views::account_list::describe_login_problem;
use clap::Args;
use codex_manager_core::accounts::profile_ops::HistoryLogin;
use codex_manager_core::accounts::{LoginOwner, Profile};
use codex_manager_core::codex::Login;
use codex_manager_core::quota::Account;
use codex_manager_core::quota::state::Verdict;
use std::path::Path;

/// Show a profile: its account, the age of its login, its history
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work")]
pub(super) struct ProfileShowArgs {
    /// The name of the profile [default: a picker]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl ProfileShowArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let profiles = context.profiles();
        let name = choose_profile_name(self.name, context)?;
        let name = profiles.find_by_name(&name)?.name;

        let (accounts, all_profiles) = read_accounts_and_profiles(context)?;
        let has_profile = |account: &Account| account.entry.profile.as_ref() == Some(&name);
        let profile = all_profiles.into_iter().find(|p| p.name == name);
        let account = accounts.into_iter().find(has_profile);
        let Some((profile, account)) = profile.zip(account) else {
            // Another process has removed the profile after `find_by_name`, or the account of the profile is unknown.
            let no_choices = [];
            return Err(profiles.unknown_profile_error(&no_choices, &name).into());
        };

        let (account, verdict) = with_verdict(account, context);
        let live_home = profile.find_live_home(context.codex_home());
        let history = profiles.read_history(&name)?;
        let live_home = live_home.as_deref();
        print_json(&profile, &account, &verdict, &history, live_home, context);
        print_details(&profile, &account, &verdict, live_home, context);

        for old_login in &history {
            print_fact("history", &printable(&old_login.name), context);
        }
        if let Some(problem) = describe_login_problem(&profile) {
            context.warn(problem);
        }
        Ok(Outcome::Done)
    }
}

/// Prints the JSON document. Its keys are an interface.
fn print_json(
    profile: &Profile,
    account: &Account,
    verdict: &Verdict,
    history: &[HistoryLogin],
    live_home: Option<&Path>,
    context: &Context,
) {
    let format_renewal = |login: Option<&Login>| {
        let freshness = login.map(|login| &login.freshness);
        time_json(freshness.and_then(recorded_renewal), context)
    };
    let old_login_json = |entry: &HistoryLogin| {
        let login = entry.auth.login();
        object()
            .with("name", entry.name.clone())
            .with("last_refresh", format_renewal(login))
            .with("problem", login.is_none().then_some("no login"))
    };

    let old_logins = history.iter().map(old_login_json);
    let (owner_name, _) = describe_owner(profile, live_home);
    let newest_seen = recorded_renewal(&profile.newest());
    let json = object()
        .with("name", &profile.name)
        .and(account_json(account, verdict, context))
        .with("user_id", &account.entry.identity.user_id)
        .with("plan", &account.entry.plan)
        .with("current", account.current)
        .with("owner", owner_name)
        .with("saved_at", time_json(profile.file.saved_at, context))
        .with("last_refresh", format_renewal(profile.login()))
        .with("newest_seen", time_json(newest_seen, context))
        .with("history", old_logins.collect::<Vec<_>>())
        .with("problem", describe_login_problem(profile));
    context.ui.document("profile show", &json);
}

/// Describes the owner of a profile's login: its name in JSON, and the location of the login for people. `live_home` is
/// the home in which the login is live.
fn describe_owner(profile: &Profile, live_home: Option<&Path>) -> (&'static str, String) {
    match (profile.file.owner, live_home) {
        (_, Some(home)) => ("live", format!("the live home {}", home.display())),
        (LoginOwner::Moved, None) if profile.file.moving.is_some() => {
            ("moving", "an interrupted export".into())
        }
        (LoginOwner::Moved, None) => ("moved", "another machine".into()),
        (LoginOwner::Probe, None) => ("probe", "this profile".into()),
        (LoginOwner::Live | LoginOwner::Profile, None) => ("profile", "this profile".into()),
    }
}

fn print_details(
    profile: &Profile,
    account: &Account,
    verdict: &Verdict,
    live_home: Option<&Path>,
    context: &Context,
) {
    let (ui, state) = (&context.ui, verdict.state);
    let title = ui.paint(state_style(state), printable(&profile.name));
    ui.prose(format_args!("{title}  {}", state.name()));

    let print = |name: &str, text: &str| print_fact(name, text, context);
    let identity = &account.entry.identity;
    print("account", &printable(identity.email.as_str()));
    if let Some(id) = &identity.account_id {
        print("account id", &printable(id));
    }
    if let Some(plan) = &account.entry.plan {
        print("plan", &printable(plan));
    }
    print("login", account.login.name());

    if let Some(at) = profile.login().and_then(|l| l.freshness.renewed_at()) {
        let at = context.zone().at(&at);
        let (at, ago) = (absolute_time(&at, context), relative_time(&at, context));
        print("renewed", &format!("{at}, {ago}"));
    }

    let (_, location) = describe_owner(profile, live_home);
    print("location", &location);
}

fn print_fact(name: &str, text: &str, context: &Context) {
    context.ui.prose(format_args!("  {name:<10} {text}"));
}
