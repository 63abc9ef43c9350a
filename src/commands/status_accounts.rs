//! `status --account` and `status --all`: queries accounts that need not be live.

use super::account::{accounts_and_profiles, label, printable, style_of, warn_all, with_verdict};
use super::cooldown::{quota_cell, state_cell};
use super::refresh::inquiry;
use super::status::{self, StatusJson};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::cooldown;
use crate::inventory::resolve::resolve;
use crate::inventory::survey::{self, Finding, Place, Subject, SurveyOptions};
use crate::ui::Style;
use crate::ui::table::Table;
use serde::Serialize;

/// The JSON document of `--all`. Its keys are an interface.
#[derive(Serialize)]
struct SurveyJson {
    accounts: Vec<FindingJson>,
}

#[derive(Serialize)]
struct FindingJson {
    profile: Option<String>,
    current: bool,
    #[serde(flatten)]
    status: StatusJson,
}

/// Queries one account and prints the result. Its login may be live or in a profile.
///
/// # Errors
/// No account or several match, the account has no saved login, or the figures cannot be recorded.
pub(super) fn one(text: &str, dry_run: bool, context: &Context) -> Result<Outcome, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    let position = resolve(accounts.iter().map(|a| &a.entry), text)?;
    let identity = accounts.swap_remove(position).entry.identity;
    let mut subjects = subjects(context)?;
    subjects.retain(|subject| subject.identity.is_same(&identity));
    let findings = ask(&subjects, dry_run, context)?;
    let Some(finding) = findings.first() else {
        return Err(
            CommandError::refused(format!("there is no saved login of {identity}"))
            .hint("show its last known figures: codex-manager cooldown")
            .hint("save a login from a file or an archive: codex-manager profile save NAME --from FILE"),
        );
    };
    status::show(context, &finding.report, finding.subject.profile.as_deref());
    warn_of(finding, context);
    Ok(outcome(&findings, dry_run))
}

/// Queries all accounts with a saved login and prints a table.
///
/// # Errors
/// The figures cannot be recorded, or a document was written by a newer version.
pub(super) fn all(dry_run: bool, context: &Context) -> Result<Outcome, CommandError> {
    let findings = ask(&subjects(context)?, dry_run, context)?;
    let view = |finding: &Finding| {
        let mut status = StatusJson::of(&finding.report, context);
        status.problem = finding.problem();
        FindingJson {
            profile: finding.subject.profile.clone(),
            current: finding.subject.place == Place::Live,
            status,
        }
    };
    context.ui.document(
        "status",
        &SurveyJson {
            accounts: findings.iter().map(view).collect(),
        },
    );
    let ui = &context.ui;
    if findings.is_empty() {
        ui.note(
            "there are no saved logins; sign in with codex login, then run codex-manager profile save NAME",
        );
        return Ok(Outcome::Done);
    }
    let (accounts, _) = accounts_and_profiles(context)?;
    let mut table = Table::new(ui, &["ACCOUNT", "EMAIL", "STATE", "QUOTA LEFT"]);
    for finding in &findings {
        let who = &finding.subject.identity;
        let Some(account) = accounts.iter().find(|a| a.entry.identity.is_same(who)) else {
            continue;
        };
        let (account, verdict) = with_verdict(account.clone(), context);
        let is_current = finding.subject.place == Place::Live;
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
    for finding in &findings {
        warn_all(ui, &finding.warnings);
        if let Some(problem) = finding.problem() {
            let who = finding.subject.profile.as_deref();
            let who = who.unwrap_or(finding.subject.identity.email.as_str());
            ui.warn(format_args!(
                "no live figures of {}: {problem}",
                printable(who)
            ));
        }
    }
    Ok(outcome(&findings, dry_run))
}

fn subjects(context: &Context) -> Result<Vec<Subject>, CommandError> {
    let settings = &context.settings;
    Ok(survey::subjects_of(
        &settings.codex_home,
        &settings.manager_home,
    )?)
}

fn ask(
    subjects: &[Subject],
    dry_run: bool,
    context: &Context,
) -> Result<Vec<Finding>, CommandError> {
    let settings = &context.settings;
    let now = context.now();
    let known = cooldown::load(&settings.manager_home, &now, settings.zone)?;
    warn_all(&context.ui, &known.warnings);
    let options = SurveyOptions {
        codex_home: &settings.codex_home,
        manager_home: &settings.manager_home,
        inquiry: inquiry(context, &known.file, !dry_run),
    };
    Ok(survey::survey(&options, subjects)?)
}

/// Queries all accounts with a saved login. Returns false after warnings if any query fails.
///
/// # Errors
/// The figures cannot be recorded, or a document was written by a newer version.
pub(super) fn refresh_all(context: &Context) -> Result<bool, CommandError> {
    let findings = ask(&subjects(context)?, false, context)?;
    for finding in &findings {
        warn_all(&context.ui, &finding.warnings);
        if let Some(problem) = finding.problem() {
            let who = printable(&finding.subject.identity.to_string());
            context
                .ui
                .warn(format_args!("no live figures of {who}: {problem}"));
        }
    }
    Ok(findings.iter().all(Finding::is_complete))
}

fn warn_of(finding: &Finding, context: &Context) {
    warn_all(&context.ui, &finding.warnings);
    if let Some(obstacle) = &finding.obstacle {
        context.ui.warn(format_args!("no live figures: {obstacle}"));
    }
}

fn outcome(findings: &[Finding], dry_run: bool) -> Outcome {
    // A dry run makes no query, so the last known figures are a complete result.
    let is_complete = |finding: &Finding| {
        finding.is_complete() || (dry_run && finding.report.observation.is_some())
    };
    Outcome::partial_if(!findings.iter().all(is_complete))
}
