//! Queries quotas through Codex, for `status` and for the flag `--refresh` of other commands.

use crate::choices::listed::list_threads_as;
use crate::choices::selection_args::read_account_filter;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::{load_figures, printable, suggest_new_login, warn_all};
use chrono::DateTime;
use codex_manager_core::codex::{Identity, Question, ThreadFilter, app_server, status_text};
use codex_manager_core::inventory::probe_all::{self, AccountProbe};
use codex_manager_core::inventory::status::{self, Inquiry, StatusProblem, StatusReport};
use codex_manager_core::inventory::{CooldownFile, cooldown};
use codex_manager_core::io::progress::block_on_input;
use codex_manager_core::io::{IoContext, Timestamp, file_open};
use codex_manager_core::quota::LoginState;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Builds the parameters of a query. If `ask_codex` is false, no query is made and only known figures are used.
pub(crate) fn build_inquiry<'a>(
    context: &'a Context,
    cooldown: &'a CooldownFile,
    ask_codex: bool,
) -> Inquiry<'a> {
    Inquiry {
        env: &context.env,
        manager_home: context.manager_home(),
        codex_bin: context.settings.codex_bin.as_deref(),
        now: context.now(),
        zone: context.zone(),
        // The request for the limits has no time limit of its own in Codex 0.169.
        timeout: app_server::PROBE_TIMEOUT,
        cooldown,
        ask_codex,
    }
}

/// Returns the quota of the live account: from pasted `/status` text if given, else from Codex if `ask_codex` is true,
/// else as last recorded.
///
/// # Errors
/// The text cannot be used or is of another account, or the user interrupted the query. Any other failure is a problem
/// in the report.
pub(crate) fn read_live_status(
    context: &Context,
    cooldown: &CooldownFile,
    status_text: Option<&str>,
    ask_codex: bool,
) -> Result<StatusReport> {
    let inquiry = build_inquiry(context, cooldown, ask_codex);
    let report = status::read_status(context.codex_home(), &inquiry, status_text)?;
    Ok(report)
}

/// Records a report in the manager home. If that fails, prints a warning and returns false, so that the user still gets
/// the figures.
pub(crate) fn record_report(context: &Context, report: &StatusReport) -> bool {
    let identity = report.identity.as_ref();
    let recorded = status::record_report(
        context.manager_home(),
        report,
        identity.and_then(|identity| find_last_use(identity, context)),
        &context.now(),
        context.zone(),
    );

    match recorded {
        Ok(warnings) => {
            warn_all(&context.ui, &warnings);
            true
        }
        Err(e) => {
            let error = CommandError::from(e);
            context.warn(format_args!("the figures were not recorded: {error}"));
            false
        }
    }
}

/// Returns the time of the last use of an account: the last change of its conversations in Codex's database. The
/// launches alone do not show it, because Codex is often started without this program. Returns `None` if there is no
/// conversation, or if the database cannot be read.
pub(crate) fn find_last_use(identity: &Identity, context: &Context) -> Option<Timestamp> {
    let filter = ThreadFilter {
        account: Some(read_account_filter(identity, context).ok()?),
        limit: Some(1),
        ..ThreadFilter::default()
    };
    let change_times: Vec<_> =
        list_threads_as(&filter, context, |thread| thread.updated_ms).ok()?;
    let changed_at = DateTime::from_timestamp_millis(change_times.into_iter().flatten().next()?)?;
    // A conversation from another machine may have a time in the future, because the clock of that machine was ahead.
    Some(context.zone().at(&changed_at.min(context.now())))
}

/// Queries the live account and records the figures, like `status`. If the query or the record fails, prints a warning
/// and returns false.
///
/// # Errors
/// `cooldown.json` cannot be read or was written by a newer version, or the user interrupted the query.
pub(crate) fn refresh_live(context: &Context) -> Result<bool> {
    // The warnings of `load` are left out: the command that shows the figures prints them.
    let known_figures = cooldown::load(context.manager_home(), &context.now(), context.zone())?;
    let (status_text, ask_codex) = (None, true);
    let report = read_live_status(context, &known_figures.file, status_text, ask_codex)?;
    let is_recorded = record_report(context, &report);
    if let Some(problem) = &report.problem {
        context.warn(format_args!("no live figures: {problem}"));
        note_expired_login(&report, context);
    }
    Ok(report.is_complete() && is_recorded)
}

/// Sends these questions to Codex in the Codex home. Returns the answers in the same order.
pub(crate) fn ask_live<const N: usize>(
    context: &Context,
    questions: [Question; N],
) -> [Result<Value, StatusProblem>; N] {
    let (no_cooldown, ask_codex) = (CooldownFile::default(), true);
    let inquiry = build_inquiry(context, &no_cooldown, ask_codex);
    status::ask_questions(context.codex_home(), &inquiry, questions)
}

/// Queries the accounts with a saved login and records their figures. `only` limits the query to one account. A dry run
/// only returns the last known figures. A failed query is no error; see [`AccountProbe::problem`].
pub(crate) fn probe_accounts(
    only: Option<&Identity>,
    dry_run: bool,
    context: &Context,
) -> Result<Vec<AccountProbe>> {
    let home = context.codex_home();
    let mut targets = probe_all::load_targets(home, context.manager_home())?;
    targets.retain(|target| only.is_none_or(|account| target.identity.is_same(account)));
    let known_figures = load_figures(context)?;
    let ask_codex = !dry_run;
    let inquiry = build_inquiry(context, &known_figures, ask_codex);

    let shows_progress = !dry_run && !targets.is_empty();
    let ui = &context.ui;
    let counter =
        shows_progress.then(|| ui.task_counter("asking Codex about accounts", targets.len()));
    let on_answer = || {
        if let Some(counter) = &counter {
            counter.inc(1);
        }
    };

    // Only the record of the answers needs the times.
    if !dry_run {
        for target in &mut targets {
            target.used_at = find_last_use(&target.identity, context);
        }
    }

    Ok(probe_all::probe_all(home, &inquiry, &targets, &on_answer)?)
}

/// Queries all accounts with a saved login, or only the account `only`. Prints a warning for each failed query, and
/// returns false if there was one.
///
/// # Errors
/// The figures cannot be recorded, or a document was written by a newer version.
pub(crate) fn refresh_accounts(only: Option<&Identity>, context: &Context) -> Result<bool> {
    let dry_run = false;
    let probes = probe_accounts(only, dry_run, context)?;
    warn_of_failed_queries(&probes, context);
    let is_complete = |probe: &AccountProbe| probe.is_complete() || probe.is_moved();
    Ok(probes.iter().all(is_complete))
}

/// Prints the warnings of all queries, and the reason of each failed query.
pub(crate) fn warn_of_failed_queries(probes: &[AccountProbe], context: &Context) {
    for probe in probes {
        warn_all(&context.ui, &probe.warnings);
        // This machine cannot ask about a login that was moved to another machine, so missing figures are no fault.
        if !probe.is_moved()
            && let Some(problem) = probe.problem()
        {
            let name = probe.target.profile.as_deref();
            let name = printable(name.unwrap_or(probe.target.identity.email.as_str()));
            context.warn(format_args!("no live figures for {name}: {problem}"));
            note_expired_login(&probe.report, context);
        }
    }
}

/// Notes the command that signs in again, if the server no longer accepts the login.
fn note_expired_login(report: &StatusReport, context: &Context) {
    if report.login == LoginState::Expired {
        context.note(suggest_new_login(report.identity.as_ref(), context));
    }
}

/// Maximum size of a status text. Real ones are below 4 kB.
const MAX_STATUS_TEXT_BYTES: u64 = 1024 * 1024;

/// Reads and decodes a status text from a file, or from standard input for the path `-`. Ignores the text beyond the
/// maximum size.
pub(crate) fn read_status_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read_result = if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        block_on_input(|| stdin.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    } else {
        file_open::open_user_named(path)
            .and_then(|file| file.take(MAX_STATUS_TEXT_BYTES).read_to_end(&mut bytes))
    };
    read_result.at("read", path)?;
    Ok(status_text::decode(&bytes))
}
