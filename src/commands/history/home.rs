//! The Codex home that the subcommands compare with Codex's lists and repair.

use crate::context::Context;
use crate::copies::unreadable_fixes::set_restore_fixes;
use codex_manager_core::codex::read_possible_identity;
use codex_manager_core::history::HistoryError;
use codex_manager_core::history::check::{Findings, compare};
use codex_manager_core::history::repair_plan::RepairContext;

pub(super) fn repair_context(context: &Context) -> RepairContext<'_> {
    RepairContext {
        home: context.codex_home(),
        manager_home: context.manager_home(),
        env: &context.env,
    }
}

/// Compares the home with Codex's lists. Conversations that Codex cannot show in full get the command that restores
/// them from an archive.
///
/// # Errors
/// See [`compare`].
pub(super) fn find_differences(context: &Context) -> Result<Findings, HistoryError> {
    let home = context.codex_home();
    let database = context.state_database();
    let live_account_id = read_possible_identity(home).and_then(|identity| identity.account_id);
    let mut findings = compare(home, database.as_deref(), live_account_id.as_deref())?;
    set_restore_fixes(&mut findings.report.unreadable, context);
    Ok(findings)
}
