//! `status --account` and `status --all`: queries accounts that need not be live.

use crate::choices::account_choice::find_identity;
use crate::commands::status::report::{print_report, report_json};
use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::refresh::{probe_accounts, warn_of_failed_queries};
use crate::ui::object;
use crate::views::account::warn_all;
use crate::views::account_list::AccountList;
use codex_manager_core::inventory::probe_all::AccountProbe;

/// Queries one account and prints the result. Its login may be live or in a profile.
///
/// # Errors
/// No account or several match, the account has no saved login, or the figures cannot be recorded.
pub(super) fn print_one(account_name: &str, dry_run: bool, context: &Context) -> Result<Outcome> {
    let identity = find_identity(account_name, context)?;
    let probes = probe_accounts(Some(&identity), dry_run, context)?;

    let Some(probe) = probes.first() else {
        return Err(
            CommandError::refused(format!("there is no saved login of {identity}"))
                .hint("show its last known figures: codex-manager accounts")
                .hint("save a login from a file or an archive: codex-manager profile save NAME --from FILE"),
        );
    };

    print_report(context, &probe.report, probe.target.profile.as_deref());
    warn_all(&context.ui, &probe.warnings);
    if let Some(obstacle) = &probe.obstacle {
        context.warn(format_args!("no live figures: {obstacle}"));
    }

    Ok(to_outcome(&probes, dry_run))
}

/// Queries all accounts with a saved login and prints a table.
///
/// # Errors
/// The figures cannot be recorded, or a document was written by a newer version.
pub(super) fn print_all(dry_run: bool, context: &Context) -> Result<Outcome> {
    let every_account = None;
    let probes = probe_accounts(every_account, dry_run, context)?;

    let to_json = |probe: &AccountProbe| {
        object()
            .with("profile", probe.target.profile.clone())
            .with("current", probe.target.is_live)
            .and(report_json(&probe.report, probe.problem(), context))
    };
    let rows: Vec<_> = probes.iter().map(to_json).collect();
    context.ui.list_document("status", "accounts", &rows);

    if probes.is_empty() {
        let first_step = suggest_login(context).join("; ");
        context.note(format_args!("there are no saved logins; {first_step}"));
        return Ok(Outcome::Done);
    }

    let list_outcome = AccountList::read(dry_run, context)?.show_table(context);
    warn_of_failed_queries(&probes, context);

    // A login that was moved to another machine cannot be queried on this one.
    let queried = probes.iter().filter(|probe| !probe.is_moved());
    Ok(to_outcome(queried, dry_run).or(list_outcome))
}

fn to_outcome<'p>(probes: impl IntoIterator<Item = &'p AccountProbe>, dry_run: bool) -> Outcome {
    // A dry run makes no query, so the last known figures are a complete result.
    let is_complete_enough = |probe: &'p AccountProbe| {
        probe.is_complete() || (dry_run && probe.report.observation.is_some())
    };
    Outcome::partial_if(!probes.into_iter().all(is_complete_enough))
}
