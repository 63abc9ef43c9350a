//! `profile show`: shows a profile with its account and its history.

use crate::accounts::profile::{LoginOwner, Profile, ProfileError, Profiles};
use crate::accounts::profile_ops::HistoryLogin;
use crate::choices::account_choice::profile_name;
use crate::commands::profile::login_age::{renewed_at, signed_in_at};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::quota::state::AccountState;
use crate::ui::time::rfc3339;
use crate::views::account::{
    AccountView, absolute, local, printable, relative, style_of, with_verdict,
};
use crate::views::profile_list::{self, AccountRow, problem};
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
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

#[derive(Debug, Serialize)]
struct OldLoginView {
    name: String,
    last_refresh: Option<String>,
    problem: Option<String>,
}

/// The JSON document of `show`. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ProfileDetailView {
    name: String,
    #[serde(flatten)]
    account: AccountView,
    user_id: Option<String>,
    plan: Option<String>,
    current: bool,
    owner: &'static str,
    saved_at: Option<String>,
    last_refresh: Option<String>,
    newest_seen: Option<String>,
    history: Vec<OldLoginView>,
    problem: Option<String>,
}

impl ProfileShowArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let profiles = Profiles::of(&context.settings.manager_home);
        let name = profile_name(self.name, context)?;
        let name = profiles.named(&name)?.name;
        let Some(row) = profile_list::rows(context)?
            .into_iter()
            .find(|row| row.profile.name == name)
        else {
            let choices = Vec::new();
            return Err(ProfileError::Unknown { name, choices }.into());
        };
        let AccountRow {
            profile, account, ..
        } = row;
        let (account, verdict) = with_verdict(account, context);
        let live_in = profile.live_in(&context.settings.codex_home);
        let time = |at: Option<DateTime<Utc>>| at.map(|at| rfc3339(&at, context.settings.zone));
        let old_login = |kept: HistoryLogin| OldLoginView {
            last_refresh: time(kept.auth.login().and_then(|l| signed_in_at(&l.freshness))),
            problem: kept.auth.login().is_none().then(|| "no login".into()),
            name: kept.name,
        };
        let history = profiles.history(&profile.name)?;
        let view = ProfileDetailView {
            account: AccountView::of(&account, &verdict, context),
            user_id: account.entry.identity.user_id.clone(),
            plan: account.entry.plan.clone(),
            current: account.current,
            owner: owner_name(&profile, live_in.as_deref()),
            saved_at: profile.file.saved_at.map(|at| local(&at, context)),
            last_refresh: time(profile.login().and_then(|l| signed_in_at(&l.freshness))),
            newest_seen: time(signed_in_at(&profile.newest())),
            history: history.into_iter().map(old_login).collect(),
            problem: problem(&profile),
            name,
        };
        context.ui.document("profile show", &view);
        show(&view, &profile, verdict.state, live_in.as_deref(), context);
        Ok(Outcome::Done)
    }
}

/// Names the owner of a profile's login; `live_in` is the home in which it is live.
fn owner_name(profile: &Profile, live_in: Option<&Path>) -> &'static str {
    match (profile.file.owner, live_in) {
        (_, Some(_)) => "live",
        (LoginOwner::Moved, None) if profile.file.moving.is_some() => "moving",
        (LoginOwner::Moved, None) => "moved",
        (LoginOwner::Probe, None) => "probe",
        (LoginOwner::Live | LoginOwner::Profile, None) => "profile",
    }
}

fn show(
    view: &ProfileDetailView,
    profile: &Profile,
    state: AccountState,
    live_in: Option<&Path>,
    context: &Context,
) {
    let ui = &context.ui;
    let title = ui.paint(style_of(state), printable(&view.name));
    ui.prose(format_args!("{title}  {}", state.name()));
    let line = |name: &str, text: &str| ui.prose(format_args!("  {name:<10} {text}"));
    line("account", &printable(&view.account.email));
    if let Some(id) = &view.account.account_id {
        line("account id", &printable(id));
    }
    if let Some(plan) = &view.plan {
        line("plan", &printable(plan));
    }
    line("login", view.account.login.name());
    if let Some(at) = profile.login().and_then(|l| renewed_at(&l.freshness)) {
        let at = context.settings.zone.at(&at);
        let (at, ago) = (absolute(&at, context), relative(&at, context));
        line("renewed", &format!("{at}, {ago}"));
    }
    line(
        "location",
        &match live_in {
            Some(home) => format!("the live home {}", home.display()),
            None if view.owner == "moved" => "another machine".into(),
            None if view.owner == "moving" => "an interrupted export".into(),
            None => "this profile".into(),
        },
    );
    for kept in &view.history {
        line("history", &printable(&kept.name));
    }
    if let Some(problem) = &view.problem {
        ui.warn(problem);
    }
}
