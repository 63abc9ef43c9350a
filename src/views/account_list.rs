//! The accounts in one table, ordered by readiness, and their JSON documents.

use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{Outcome, Result};
use crate::ui::{Style, object};
use crate::views::account::{
    account_json, label, local_rfc3339, printable, quota_json, read_accounts_and_profiles,
    with_verdict,
};
use crate::views::conversation_usage::{LaunchedUsages, format_usage, usage_json};
use crate::views::week_pace::format_exhaustion_hint;
use crate::views::{account_table, timeline};
use codex_manager_core::accounts::{LoginOwner, Profile};
use codex_manager_core::codex::{AuthFile, Identity};
use codex_manager_core::quota::Account;
use codex_manager_core::quota::state::Verdict;
use serde::Serialize;

/// All known accounts, ordered by readiness, for `accounts`, `list`, `profile list`, `cooldown` and `status --all`.
pub(crate) struct AccountList {
    rows: Vec<(Account, Verdict)>,
    profiles: Vec<Profile>,
    usages: LaunchedUsages,
}

impl AccountList {
    /// Reads the accounts, the profiles, and the usage of launches. Completes launches whose codex-manager was killed.
    /// With `dry_run`, launches are neither completed nor read.
    ///
    /// # Errors
    /// A document was written by a newer version or cannot be read.
    pub(crate) fn read(dry_run: bool, context: &Context) -> Result<Self> {
        // Usages are read first, because completing launches can add figures of accounts.
        let usages = if dry_run {
            LaunchedUsages::default()
        } else {
            LaunchedUsages::read(context)
        };

        let (accounts, profiles) = read_accounts_and_profiles(context)?;
        Ok(Self {
            profiles,
            usages,
            ..Self::of_accounts(accounts, context)
        })
    }

    /// Returns a list of `accounts`, without the report on profiles and launches.
    pub(crate) fn of_accounts(accounts: Vec<Account>, context: &Context) -> Self {
        let accounts = accounts.into_iter();
        let mut rows: Vec<_> = accounts.map(|a| with_verdict(a, context)).collect();

        // Ready accounts first, then by the time at which they are ready again.
        rows.sort_by_cached_key(|(account, verdict)| {
            let identity = &account.entry.identity;
            let account_id = identity.account_id.clone();
            (verdict.sort_key(), identity.email.key(), account_id)
        });

        Self {
            rows,
            profiles: Vec::new(),
            usages: LaunchedUsages::default(),
        }
    }

    /// Prints the JSON document of `list` and `profile list`. Its keys are an interface. Without profiles, notes how
    /// to get one.
    pub(crate) fn print_profiles_json(&self, command: &str, context: &Context) {
        let rows = self.profiles.iter().filter_map(|profile| {
            let is_of_profile =
                |(a, _): &&(Account, Verdict)| a.entry.profile.as_ref() == Some(&profile.name);
            let (account, verdict) = self.rows.iter().find(is_of_profile)?;
            let entry = &account.entry;
            let usage = self.usages.find_newest_usage(entry);
            let json = object()
                .with("name", &profile.name)
                .with("email", entry.identity.email.as_str())
                .with("account_id", &entry.identity.account_id)
                .with("current", account.current)
                .with("state", verdict.state)
                .with("login", account.login)
                .and(quota_json(entry.observation.as_ref(), context))
                .with("session", usage.map(|usage| usage_json(&usage, context)));
            Some(json)
        });

        let profiles: Vec<_> = rows.collect();
        context.ui.list_document(command, "profiles", &profiles);
        if self.profiles.is_empty() && !self.rows.is_empty() {
            let advice = suggest_login(context).join("; ");
            context.note(format_args!("there are no profiles yet; {advice}"));
        }
    }

    /// Prints the JSON document of `cooldown`. Its keys are an interface.
    pub(crate) fn print_cooldown_json(&self, context: &Context) {
        let accounts = self.rows.iter();
        let rows = accounts.map(|(account, verdict)| account_json(account, verdict, context));
        print_accounts_json("cooldown", rows, context);
    }

    /// Prints the JSON document of `accounts`. Its keys are an interface.
    pub(crate) fn print_json(&self, context: &Context) {
        let rows = self.rows.iter().map(|(account, verdict)| {
            let usage = self.usages.find_newest_usage(&account.entry);
            account_json(account, verdict, context)
                .with("plan", &account.entry.plan)
                .with("current", account.current)
                .with("session", usage.map(|usage| usage_json(&usage, context)))
        });
        print_accounts_json("accounts", rows, context);
    }

    /// Leaves out all accounts except one.
    pub(crate) fn retain_account(&mut self, wanted: &Identity) {
        self.rows.retain(|(a, _)| a.entry.identity.is_same(wanted));
    }

    /// Prints the list as a table; see [`Self::show`].
    pub(crate) fn show_table(&self, context: &Context) -> Outcome {
        let as_timeline = false;
        self.show(as_timeline, context)
    }

    /// Prints the timeline, or the table and the forecast of the live account. Then prints the usage of launched
    /// conversations and the defects of profiles. The outcome is partial if a newer version wrote a profile.
    pub(crate) fn show(&self, as_timeline: bool, context: &Context) -> Outcome {
        let ui = &context.ui;
        if self.rows.is_empty() {
            let advice = suggest_login(context).join("; ");
            ui.note(format_args!("no account is known yet; {advice}"));
        } else if as_timeline {
            timeline::draw_timeline(&self.rows, context);
        } else {
            account_table::print_accounts(&self.rows, context);
            self.show_live_forecast(context);
        }

        for (account, _) in &self.rows {
            let usage = self.usages.find_newest_usage(&account.entry);
            if let Some(sentence) = usage.and_then(|usage| format_usage(&usage, context)) {
                let line = format_args!("{}: {sentence}", label(account));
                ui.prose(ui.paint(Style::Dim, line));
            }
        }

        for profile in &self.profiles {
            if let Some(problem) = describe_login_problem(profile) {
                let name = printable(&profile.name);
                ui.warn(format_args!("profile {name}: {problem}"));
            }
        }
        Outcome::partial_if(
            self.profiles
                .iter()
                .any(|profile| profile.unusable.is_some()),
        )
    }

    fn show_live_forecast(&self, context: &Context) {
        let live = self.rows.iter().find(|(account, _)| account.current);
        if let Some((account, verdict)) = live
            && let Some(hint) = format_exhaustion_hint(account, verdict, context)
        {
            context.note(format_args!("{}: {hint}", label(account)));
        }
    }
}

fn print_accounts_json<T: Serialize>(
    command: &str,
    rows: impl Iterator<Item = T>,
    context: &Context,
) {
    let json = object()
        .with("now", local_rfc3339(&context.local_now(), context))
        .with("accounts", rows.collect::<Vec<_>>());
    context.ui.document(command, &json);
}

/// Describes the damage of a profile's login; `None` if the login is usable or was moved to another machine.
pub(crate) fn describe_login_problem(profile: &Profile) -> Option<String> {
    if let Some(other_account) = profile.other_account() {
        return Some(format!(
            "its auth.json contains the login of {other_account}"
        ));
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
