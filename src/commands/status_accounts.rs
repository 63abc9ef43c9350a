//! `status --account` and `status --all`: the quota of accounts that need not be signed in.

use super::account::{judged, label, printable, style_of, warn_all, with_profiles};
use super::cooldown::{quota_cell, state_cell};
use super::refresh::inquiry;
use super::status::{self, StatusJson};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::cooldown;
use crate::inventory::probe_all::{
    self, AccountProbe, ProbeAllOptions, ProbeLocation, ProbeTarget,
};
use crate::inventory::resolve::resolve;
use crate::ui::Style;
use crate::ui::table::Table;
use serde::Serialize;

/// The JSON output of `--all`. Its keys are a stable interface.
#[derive(Serialize)]
struct AllAccountsJson {
    accounts: Vec<AccountJson>,
}

#[derive(Serialize)]
struct AccountJson {
    profile: Option<String>,
    current: bool,
    #[serde(flatten)]
    status: StatusJson,
}

/// Probes one account, wherever its login is.
///
/// # Errors
/// No or several accounts match, there is no login, or the answer cannot be recorded.
pub(super) fn one(text: &str, dry_run: bool, context: &Context) -> Result<Outcome, CommandError> {
    let (mut accounts, _) = with_profiles(context)?;
    let position = resolve(accounts.iter().map(|a| &a.entry), text)?;
    let identity = accounts.swap_remove(position).entry.identity;
    let mut targets = targets(context)?;
    targets.retain(|target| target.identity.is_same(&identity));
    let probes = ask(&targets, dry_run, context)?;
    let Some(probe) = probes.first() else {
        return Err(
            CommandError::refused(format!("no login of {identity} is available"))
                .hint("see its last observation: codex-manager cooldown")
                .hint("save a login from a file or an archive: codex-manager profile save NAME --from FILE"),
        );
    };
    status::show(context, &probe.report, probe.target.profile.as_deref());
    warn_of(probe, context);
    Ok(outcome(&probes, dry_run))
}

/// Probes every account with an available login.
///
/// # Errors
/// The answers cannot be recorded, or a document is of a newer version.
pub(super) fn all(dry_run: bool, context: &Context) -> Result<Outcome, CommandError> {
    let probes = ask(&targets(context)?, dry_run, context)?;
    let view = |probe: &AccountProbe| {
        let mut status = StatusJson::of(&probe.report, context);
        status.problem = probe.problem();
        AccountJson {
            profile: probe.target.profile.clone(),
            current: probe.target.place == ProbeLocation::Live,
            status,
        }
    };
    context.ui.document(
        "status",
        &AllAccountsJson {
            accounts: probes.iter().map(view).collect(),
        },
    );
    let ui = &context.ui;
    if probes.is_empty() {
        ui.note(
            "no login is available; sign in with codex login, then codex-manager profile save work",
        );
        return Ok(Outcome::Done);
    }
    let (accounts, _) = with_profiles(context)?;
    let mut table = Table::new(ui, &["ACCOUNT", "EMAIL", "STATE", "QUOTA LEFT"]);
    for probe in &probes {
        let who = &probe.target.identity;
        let Some(account) = accounts.iter().find(|a| a.entry.identity.is_same(who)) else {
            continue;
        };
        let (account, verdict) = judged(account.clone(), context);
        let is_current = probe.target.place == ProbeLocation::Live;
        let mut name = label(&account);
        if is_current {
            name.push_str("\ncurrent");
        }
        let style = if is_current {
            Style::Strong
        } else {
            Style::Plain
        };
        table.row(
            ui,
            [
                (style, name),
                (Style::Plain, printable(who.email.as_str())),
                (
                    style_of(verdict.state),
                    state_cell(&account, &verdict, context),
                ),
                (Style::Plain, quota_cell(&account.entry, context)),
            ],
        );
    }
    (2..=3).for_each(|column| table.keep_whole(column));
    ui.line(table.render());
    for probe in &probes {
        warn_all(ui, &probe.warnings);
        if let Some(problem) = probe.problem() {
            let who = probe.target.profile.as_deref();
            let who = who.unwrap_or(probe.target.identity.email.as_str());
            ui.warn(format_args!(
                "no live figure of {}: {problem}",
                printable(who)
            ));
        }
    }
    Ok(outcome(&probes, dry_run))
}

fn targets(context: &Context) -> Result<Vec<ProbeTarget>, CommandError> {
    let settings = &context.settings;
    Ok(probe_all::load_targets(
        &settings.codex_home,
        &settings.manager_home,
    )?)
}

fn ask(
    targets: &[ProbeTarget],
    dry_run: bool,
    context: &Context,
) -> Result<Vec<AccountProbe>, CommandError> {
    let settings = &context.settings;
    let now = context.now();
    let known = cooldown::load(&settings.manager_home, &now, settings.zone)?;
    warn_all(&context.ui, &known.warnings);
    let options = ProbeAllOptions {
        codex_home: &settings.codex_home,
        manager_home: &settings.manager_home,
        inquiry: inquiry(context, &known.file, !dry_run),
    };
    Ok(probe_all::probe_all(&options, targets)?)
}

/// Probes every account with an available login and prints the failures. Returns true if there were
/// none.
///
/// # Errors
/// The answers cannot be recorded, or a document is of a newer version.
pub(super) fn refresh(context: &Context) -> Result<bool, CommandError> {
    let probes = ask(&targets(context)?, false, context)?;
    for probe in &probes {
        warn_all(&context.ui, &probe.warnings);
        if let Some(problem) = probe.problem() {
            let who = printable(&probe.target.identity.to_string());
            context
                .ui
                .warn(format_args!("no live figure of {who}: {problem}"));
        }
    }
    Ok(probes.iter().all(AccountProbe::is_complete))
}

fn warn_of(probe: &AccountProbe, context: &Context) {
    warn_all(&context.ui, &probe.warnings);
    if let Some(obstacle) = &probe.obstacle {
        context.ui.warn(format_args!("no live figure: {obstacle}"));
    }
}

fn outcome(probes: &[AccountProbe], dry_run: bool) -> Outcome {
    // In a dry run no account is probed, so a stored observation is complete.
    let is_fine = |probe: &AccountProbe| {
        probe.is_complete() || (dry_run && probe.report.observation.is_some())
    };
    Outcome::partial_if(!probes.iter().all(is_fine))
}
