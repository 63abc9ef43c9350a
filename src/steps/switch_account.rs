//! Switches the Codex home to another account, for `use` and `recommend --use`.

use crate::choices::listed::list_threads;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::{check_logins_allowed, check_not_isolated, warn_if_live_elsewhere};
use crate::steps::refresh::find_last_use;
use crate::ui::text_width::elide_end;
use crate::ui::{Style, object, windows};
use crate::views::account::{printable, read_known_accounts, warn_all};
use crate::views::account_report::API_KEY_HAS_NO_QUOTA;
use clap::Args;
use codex_manager_core::accounts::switch::{self, PlannedSave};
use codex_manager_core::accounts::{
    DaemonPolicy, SaveOutcome, SwitchPlan, SwitchReport, SwitchRequest,
};
use codex_manager_core::codex::threads::{AccountFilter, ChildThreads};
use codex_manager_core::codex::{
    AUTH_JSON, Holder, Identity, ListedThread, LoginKind, ThreadFilter, daemon, login_lock,
};
use codex_manager_core::inventory::{CooldownFile, store};
use codex_manager_core::io::pluralize;
use codex_manager_core::quota::{LoginState, account::find_by_identity};
use serde::Serialize;
use std::path::Path;

/// The flags of a switch.
#[derive(Debug, Default, Args)]
pub(crate) struct SwitchArgs {
    /// Stop Codex's background daemon, which keeps the old account
    #[arg(long)]
    stop_daemon: bool,
    /// With --stop-daemon: stop it even during a turn, which Codex aborts after a minute
    #[arg(long)]
    force: bool,
    /// Use a login even if a newer one existed; the server will probably reject it
    #[arg(long)]
    force_stale: bool,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

impl SwitchArgs {
    pub(crate) fn for_recommend(stop_daemon: bool, dry_run: bool) -> Self {
        Self {
            stop_daemon,
            dry_run,
            ..Self::default()
        }
    }

    /// Fails if the switch would be refused. Changes nothing.
    pub(crate) fn check_allowed(&self, to: &Identity, context: &Context) -> Result<()> {
        check_not_isolated(context)?;
        switch::plan_from_disk(&self.build_request(to, context))?;
        Ok(())
    }

    /// Switches to an account and prints the result.
    pub(crate) fn run(&self, to: &Identity, context: &Context) -> Result<Outcome> {
        check_not_isolated(context)?;
        let request = self.build_request(to, context);
        let plan = switch::plan_from_disk(&request)?;
        if !plan.is_current {
            check_logins_allowed(context, &[request.codex_home, request.manager_home])?;
        }

        if self.dry_run {
            show_plan(&plan, to, context);
            return Ok(Outcome::Done);
        }

        // The link is read before the switch replaces it.
        let link_warning = describe_replaced_link(&context.codex_home().join(AUTH_JSON));

        let daemon = DaemonState::find(context);
        let stops_daemon = self.stop_daemon && daemon == DaemonState::Running;
        if plan.is_current && !stops_daemon {
            show_already_current(&plan, to, daemon, context);
            return Ok(Outcome::Done);
        }

        let report = switch::apply(&request)?;
        // The switch only stopped the daemon, or another process switched the account after `plan` was made.
        if report.plan.is_current {
            let daemon = DaemonState::find_after(&report, context);
            show_already_current(&report.plan, to, daemon, context);
            return Ok(Outcome::Done);
        }

        Ok(record_and_show(&report, to, link_warning, context))
    }

    fn build_request<'a>(&self, to: &'a Identity, context: &'a Context) -> SwitchRequest<'a> {
        SwitchRequest {
            codex_home: context.codex_home(),
            manager_home: context.manager_home(),
            to,
            force_stale: self.force_stale,
            // A running daemon of Codex 0.169 does not read auth.json again, so a Codex that connects to it later would
            // use the old account.
            daemon: if self.stop_daemon {
                DaemonPolicy::Stop {
                    codex_bin: context.settings.codex_bin.as_deref(),
                    env: &context.env,
                    force: self.force,
                }
            } else {
                DaemonPolicy::Refuse
            },
            now: context.local_now(),
            lock_timeout: login_lock::REFRESH_TIMEOUT,
        }
    }
}

/// Records a switch in the manager home and prints its result. `link_warning` is that of [`describe_replaced_link`].
fn record_and_show(
    report: &SwitchReport,
    to: &Identity,
    link_warning: Option<String>,
    context: &Context,
) -> Outcome {
    let record = record_switch(report, to, context);

    if let Some(link_warning) = link_warning {
        context.warn(link_warning);
    }
    show_switched(report, to, context);

    if record.is_login_rejected {
        context.warn(format_args!(
            "the server rejected this login at the last query; if Codex fails, sign in \
             again: codex-manager profile login {}",
            printable(&report.plan.profile)
        ));
    }

    warn_all(&context.ui, &record.warnings);
    Outcome::partial_if(!record.warnings.is_empty())
}

/// The result of recording a switch in the manager home.
pub(super) struct RecordedSwitch {
    /// The records that could not be written, as warnings.
    pub(super) warnings: Vec<String>,
    /// True if the server rejected the login at the last query.
    is_login_rejected: bool,
}

/// Records the use of both accounts of a switch in `cooldown.json`. Returns the warnings about all records of the switch
/// that could not be written, also those of the profiles and of the previous account.
pub(super) fn record_switch(
    report: &SwitchReport,
    to: &Identity,
    context: &Context,
) -> RecordedSwitch {
    let recorded = record_use(to, report.plan.from.as_ref(), context);
    let cooldown_error = recorded.as_ref().err().map(CommandError::to_one_line);
    let problems = report.record_errors.iter().cloned().chain(cooldown_error);
    let to_warning = |problem| {
        format!(
            "the account was switched, but the manager home does not record the switch: {problem}"
        )
    };
    RecordedSwitch {
        warnings: problems.map(to_warning).collect(),
        is_login_rejected: recorded.unwrap_or(false),
    }
}

/// Returns the warning about an `auth.json` that is a symbolic link, which a switch replaces with a regular file.
fn describe_replaced_link(auth_json: &Path) -> Option<String> {
    // Codex 0.169 follows the link when it renews a login. A switch must not follow the link, because the target may be
    // the file of a profile.
    let target = std::fs::read_link(auth_json).ok()?;
    let copy_warning = if auth_json.exists() {
        let target = target.display();
        format!(", and the old login is also in {target}: do not use that copy")
    } else {
        String::new()
    };

    Some(format!(
        "auth.json was a symbolic link and is now a regular file{copy_warning}"
    ))
}

/// Records in `cooldown.json` that `to` is used now, and the time of the last use of `from`. Returns true if the server
/// rejected the login of `to` at the last query.
fn record_use(to: &Identity, from: Option<&Identity>, context: &Context) -> Result<bool> {
    let mut is_login_rejected = false;
    let last_use = from.and_then(|from| Some((from, find_last_use(from, context)?)));
    update_cooldown_file(context, |file| {
        if let Some((from, at)) = last_use {
            file.record_use(from, at);
        }
        file.record_use(to, context.local_now());
        is_login_rejected = file.entry(to).login == LoginState::Expired;
    })?;
    Ok(is_login_rejected)
}

/// Updates the profiles in `cooldown.json`, and applies `change` in the same write. Prints warnings about the file.
///
/// # Errors
/// The file cannot be read or written, or is of a newer version.
pub(crate) fn update_cooldown_file(
    context: &Context,
    change: impl FnOnce(&mut CooldownFile),
) -> Result<()> {
    let (home, now, zone) = (context.manager_home(), context.now(), context.zone());
    let warnings = store::note_profiles_and(home, &now, zone, change)?;
    warn_all(&context.ui, &warnings);
    Ok(())
}

fn show_plan(plan: &SwitchPlan, to: &Identity, context: &Context) {
    let daemon = DaemonState::find(context);
    let result = SwitchResult {
        saved_back: plan.save_back.clone(),
        dry_run: true,
        ..SwitchResult::default()
    };
    show_json(plan, to, daemon, &result, context);

    let ui = &context.ui;
    if plan.is_current {
        ui.report(format_args!(
            "{} is already the live account",
            target_name(plan, to)
        ));
        return;
    }

    if let Some(PlannedSave { profile, outcome }) = &plan.save_back {
        let from = plan.from.as_ref().map_or("", |from| from.email.as_str());
        let destination = match profile {
            Some(profile) => format!("the profile {profile}"),
            None => "a new profile".into(),
        };
        ui.report(describe_save("would save", *outcome, &destination, from));
    }

    if let Some(reason) = &plan.unreadable {
        ui.report(format_args!(
            "would keep a copy of auth.json, which is {reason}"
        ));
    }
    // Without --stop-daemon, the command has already failed because of a running daemon.
    if daemon == DaemonState::Running {
        ui.report("would stop Codex's background daemon");
    }

    ui.report(format_args!("would switch to {}", target_name(plan, to)));
}

/// The state of Codex's background daemon. Its name in JSON is an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DaemonState {
    Running,
    /// The switch has stopped it.
    Stopped,
    #[serde(rename = "none")]
    NotRunning,
}

impl DaemonState {
    fn find(context: &Context) -> Self {
        if daemon::find(context.codex_home()).is_some() {
            Self::Running
        } else {
            Self::NotRunning
        }
    }

    fn find_after(report: &SwitchReport, context: &Context) -> Self {
        match Self::find(context) {
            Self::NotRunning if report.daemon_stopped => Self::Stopped,
            state => state,
        }
    }
}

/// Describes what a switch does with the login that it replaces. `verb` is "would save" or "saved".
fn describe_save(verb: &str, outcome: SaveOutcome, destination: &str, from: &str) -> String {
    match outcome {
        SaveOutcome::Unchanged => format!("{destination} already has the login of {from}"),
        SaveOutcome::KeptNewer => {
            format!(
                "{destination} has a newer login of {from}; the live one is added to its history"
            )
        }
        SaveOutcome::Created | SaveOutcome::Updated => {
            format!("{verb} the login of {from} to {destination}")
        }
    }
}

/// The values of the JSON document that a plan does not have.
#[derive(Default)]
struct SwitchResult<'a> {
    saved_back: Option<PlannedSave>,
    still_running: &'a [Holder],
    changed: bool,
    dry_run: bool,
}

/// Returns the name of the account that the plan switches to: its profile, else the email.
fn target_name<'a>(plan: &'a SwitchPlan, to: &'a Identity) -> &'a str {
    let profile = Some(&*plan.profile).filter(|name| !name.is_empty());
    profile.unwrap_or(to.email.as_str())
}

/// Prints the JSON document. Its keys are an interface.
fn show_json(
    plan: &SwitchPlan,
    to: &Identity,
    daemon: DaemonState,
    result: &SwitchResult<'_>,
    context: &Context,
) {
    let name = target_name(plan, to);
    let email = plan.from.as_ref().map(|from| from.email.as_str());
    let save = result.saved_back.as_ref().or(plan.save_back.as_ref());
    let saved_to = save.and_then(|save| save.profile.as_deref());
    // The name of the account that was live, or still is: its profile, else its email.
    let from = if plan.is_current {
        Some(name)
    } else {
        saved_to.or(email)
    };

    let json = object()
        .with("from", from)
        .with("to", name)
        .with("from_email", email)
        .with("to_email", to.email.as_str())
        .with("saved_back", &result.saved_back)
        .with("daemon", daemon)
        .with("still_running", result.still_running)
        .with("changed", result.changed)
        .with("dry_run", result.dry_run);
    context.ui.document("use", &json);
}

fn show_already_current(plan: &SwitchPlan, to: &Identity, daemon: DaemonState, context: &Context) {
    show_json(plan, to, daemon, &SwitchResult::default(), context);
    context.ui.report(format_args!(
        "{} is already the live account; no login was changed",
        printable(target_name(plan, to))
    ));

    match daemon {
        DaemonState::Stopped => context.ui.report("  stopped Codex's background daemon"),
        DaemonState::Running => context.warn(
            "Codex's background daemon is running and keeps the account it was started with; stop it \
            with --stop-daemon",
        ),
        DaemonState::NotRunning => {}
    }
}

fn show_switched(report: &SwitchReport, to: &Identity, context: &Context) {
    let daemon = DaemonState::find_after(report, context);
    let saved = report.saved_back.as_ref();
    let result = SwitchResult {
        saved_back: saved.map(|saved| PlannedSave {
            profile: Some(saved.profile.clone()),
            outcome: saved.outcome,
        }),
        still_running: &report.still_running,
        changed: true,
        dry_run: false,
    };
    show_json(&report.plan, to, daemon, &result, context);

    let ui = &context.ui;
    let email = printable(to.email.as_str());
    ui.report(format_args!(
        "switched to {} ({email})",
        ui.paint(Style::Strong, printable(target_name(&report.plan, to)))
    ));

    if let (Some(saved), Some(from)) = (&report.saved_back, &report.plan.from) {
        let from = printable(from.email.as_str());
        let profile = printable(&saved.profile);
        let destination = format!("the profile {profile}");
        let saved_login = describe_save("saved", saved.outcome, &destination, &from);
        ui.report(format_args!("  {saved_login}"));
        warn_if_live_elsewhere(&saved.profile, context);
    }

    if daemon == DaemonState::Stopped {
        ui.report("  stopped Codex's background daemon");
    }
    show_quota(to, context);
    warn_after_switch(report, context);

    // A newer login of the same account hides no conversations.
    if let Some(from) = &report.plan.from
        && from.kind == LoginKind::Chatgpt
        && !from.is_same(to)
    {
        let saved = report.saved_back.as_ref();
        let name = saved.map_or(from.email.as_str(), |saved| &*saved.profile);
        note_hidden_conversations(from, name, context);
    }
}

/// Prints the last known quota of the account that is live now.
fn show_quota(to: &Identity, context: &Context) {
    let ui = &context.ui;
    if ui.wants_json() {
        return;
    }

    // The switch has succeeded, so unreadable figures are left out without an error.
    let accounts = read_known_accounts(context).unwrap_or_default();
    let account = find_by_identity(&accounts, to);
    let quota = account.and_then(|account| account.entry.observation.as_ref());

    match quota {
        Some(quota) => {
            let (zone, now) = (context.zone(), context.now());
            for line in windows::format_window_lines(ui, quota, zone, &now) {
                ui.report(format_args!("  {line}"));
            }
            let origin = windows::format_origin(quota, zone, &now);
            ui.report(format_args!("  {origin}"));
        }
        None if to.kind.is_billed_by_use() => ui.note(API_KEY_HAS_NO_QUOTA),
        None => ui.note("its quota is not known yet; query it: codex-manager status"),
    }
}

/// Warns of a login that may be invalid, and of programs that keep the old account.
pub(super) fn warn_after_switch(report: &SwitchReport, context: &Context) {
    let ui = &context.ui;
    if let Some(quarantined_copy) = &report.quarantined {
        let reason = report.plan.unreadable.as_deref().unwrap_or_default();
        ui.warn(format_args!(
            "auth.json was {reason}; a copy is kept: {}",
            quarantined_copy.display()
        ));
    }

    match &report.plan.last_live {
        Some(name) => {
            let name = printable(name);
            ui.warn(format_args!(
                "there was no auth.json; if codex logout removed it, the server has ended the login of {name}: sign in \
                 again: codex-manager profile login {name}"
            ));
        }
        None if report.plan.is_missing => {
            ui.warn("there was no auth.json, so the previous account is unknown");
        }
        None => {}
    }
    if report.plan.is_stale {
        ui.warn(format_args!(
            "a newer login of this account exists, so this one is probably invalid; if Codex fails, \
            sign in again: codex-manager profile login {}",
            printable(&report.plan.profile)
        ));
    }

    if let Some(daemon) = daemon::find(context.codex_home()) {
        ui.warn(format_args!(
            "Codex's background daemon (PID {}) keeps the account it was started with; a codex that you start yourself \
             uses that account too",
            daemon.pid
        ));
    }
    for running in &report.still_running {
        ui.warn(format_args!(
            "still running under the old account: {running}"
        ));
    }
}

/// Prints a note that Codex hides the conversations of the previous account `from`, because its picker lists only those
/// of the live account. `name` is the name of the previous account. Codex up to 0.150 records no accounts, and hides no
/// conversations.
fn note_hidden_conversations(from: &Identity, name: &str, context: &Context) {
    const MAX_TITLES: usize = 3;
    const TITLE_CHARS: usize = 40;

    let Some(account_id) = &from.account_id else {
        return;
    };

    let filter = ThreadFilter {
        account: Some(AccountFilter {
            account_id: Some(account_id.clone()),
            ..AccountFilter::default()
        }),
        without_archived: true,
        children: ChildThreads::Omitted,
        ..ThreadFilter::default()
    };

    // The switch has succeeded, so an unreadable list is no error.
    let hidden_threads = list_threads(&filter, context).unwrap_or_default();
    if hidden_threads.is_empty() {
        return;
    }

    let title_of = |thread: &ListedThread| {
        let title = Some(thread.title.trim()).filter(|title| !title.is_empty());
        let title = elide_end(title.unwrap_or(&thread.id), TITLE_CHARS);
        format!("\"{}\"", printable(&title))
    };

    let newest = hidden_threads.iter().take(MAX_TITLES);
    let titles: Vec<_> = newest.map(title_of).collect();
    let count = hidden_threads.len();
    let ellipsis = if count > MAX_TITLES { ", …" } else { "" };
    let pronoun = if count == 1 { "it" } else { "them" };
    context.note(format_args!(
        "codex resume now hides {} of {}: {}{ellipsis}; continue {pronoun} with: codex-manager resume",
        pluralize(count, "conversation"),
        printable(name),
        titles.join(", ")
    ));
}
