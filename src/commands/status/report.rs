//! The report on one account, in JSON and in text.

use crate::context::Context;
use crate::doctor::way_back::{suggest_saved_login, suggest_sign_in};
use crate::error::suggest_login_storage;
use crate::ui::time::rfc3339_of;
use crate::ui::{JsonFields, JsonObject, Style, object};
use crate::views::account::{quota_json, suggest_new_login};
use crate::views::account_report::AccountReport;
use codex_manager_core::codex::ProbeFailure;
use codex_manager_core::inventory::remedies;
use codex_manager_core::inventory::status::{StatusProblem, StatusReport};
use codex_manager_core::io::shell;
use codex_manager_core::quota::Observation;

/// Returns one account in JSON. The keys are an interface.
pub(super) fn report_json(
    report: &StatusReport,
    problem: Option<String>,
    context: &Context,
) -> JsonObject<impl JsonFields + use<>> {
    let observation = report.observation.as_ref();
    let identity = report.identity.as_ref();
    let window_start = observation.and_then(Observation::weekly_window_start);
    let next_available = report.next_available_at(&context.now());

    object()
        .with("email", identity.map(|identity| identity.email.to_string()))
        .with(
            "account_id",
            identity.and_then(|identity| identity.account_id.clone()),
        )
        .with("plan", report.plan.clone())
        .and(quota_json(observation, context))
        .with("source", observation.map(|seen| seen.source.name()))
        .with(
            "observed_at",
            observation.map(|seen| rfc3339_of(&seen.observed_at)),
        )
        .with("session_start_at", window_start.as_ref().map(rfc3339_of))
        .with("next_available_at", next_available.as_ref().map(rfc3339_of))
        .with("store", report.store.name())
        .with("problem", problem)
}

pub(super) fn print_report(context: &Context, report: &StatusReport, profile: Option<&str>) {
    let problem = report.problem.as_ref().map(ToString::to_string);
    let json = object()
        .with("profile", profile)
        .and(report_json(report, problem, context));
    context.ui.document("status", &json);

    let account = AccountReport {
        identity: report.identity.as_ref(),
        profile,
        plan: report.plan.as_deref(),
        observation: report.observation.as_ref(),
        next_available_at: report.next_available_at(&context.now()),
    };
    account.show(context);

    let ui = &context.ui;
    for note in &report.notes {
        ui.warn(note);
    }
    if let Some(problem) = &report.problem {
        ui.warn(format!("no live figures: {problem}"));
        if let Some(hint) = suggest_fix(problem, report, context) {
            ui.note(format!("{} {hint}", ui.paint(Style::Strong, "hint:")));
        }
    }
}

/// Returns the fix for a problem, if there is one.
fn suggest_fix(
    problem: &StatusProblem,
    report: &StatusReport,
    context: &Context,
) -> Option<String> {
    Some(match problem {
        StatusProblem::SignedOut | StatusProblem::Probe(ProbeFailure::NotSignedIn) => {
            if report.store.always_reads_auth_json() {
                suggest_sign_in(context).join("; ")
            } else {
                "sign in: codex login".into()
            }
        }
        StatusProblem::Unreadable { .. } => match suggest_saved_login(context) {
            Some(command) => format!("restore the last saved login: {command}"),
            None => "sign in again: codex login".into(),
        },
        StatusProblem::NotAFile { path, .. } => {
            let aside_command = remedies::format_rename_aside_command(path);
            let next_command = suggest_saved_login(context).unwrap_or_else(|| "codex login".into());
            format!("move it aside: {aside_command}; then: {next_command}")
        }
        StatusProblem::Denied { path, .. } => {
            let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
            format!("make it readable: chmod u+rw {quoted_path}")
        }
        StatusProblem::OwnedElsewhere(owner_home) => remedies::suggest_switch_of_owner(owner_home),
        StatusProblem::Storage(e) => suggest_login_storage(e),
        StatusProblem::Spent(_) => suggest_new_login(report.identity.as_ref(), context),
        StatusProblem::Probe(ProbeFailure::NoProgram(_)) => {
            "install Codex, or name it with --codex-bin FILE".into()
        }
        StatusProblem::Probe(
            ProbeFailure::Network(_) | ProbeFailure::TimedOut(_) | ProbeFailure::Server(_),
        ) => "try again later, or use pasted /status text: --status-file FILE".into(),
        StatusProblem::AnotherAccount { .. } => {
            "the account may have been switched during the query: run the same command again".into()
        }
        StatusProblem::Probe(_) => "check Codex and its home: codex-manager doctor".into(),
        StatusProblem::NotUnderstood(_) => return None,
    })
}
