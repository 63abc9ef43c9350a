//! The Codex home that the subcommands compare with Codex's lists and repair.

use crate::context::Context;
use crate::copies::unreadable_fixes::set_restore_fixes;
use codex_manager_core::codex::{AUTH_JSON, AuthFile, CredentialStore};
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
    let may_read_auth = CredentialStore::read(home).may_read_auth_json();
    let auth = AuthFile::read(&home.join(AUTH_JSON)).ok();
    let live_login = match &auth {
        Some(auth) if may_read_auth => auth.login(),
        _ => None,
    };
    let live_account_id = live_login.and_then(|login| login.identity.account_id.clone());
    let mut findings = compare(home, database.as_deref(), live_account_id.as_deref())?;
    set_restore_fixes(&mut findings.report.unreadable, context);
    Ok(findings)
}
