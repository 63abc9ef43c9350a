//! The output after a switch: the quota of the new account, warnings, hidden conversations.

use crate::accounts::switch::SwitchReport;
use crate::codex::identity::Identity;
use crate::codex::threads;
use crate::context::Context;
use crate::history::hidden;
use crate::io::quantity::pluralize;
use crate::ui::text_width::without_end;
use crate::ui::windows;
use crate::views::account::{known_accounts, printable};

/// Prints the last known quota of the account that is live now.
pub(crate) fn show_quota(to: &Identity, context: &Context) {
    let ui = &context.ui;
    if ui.wants_json() {
        return;
    }
    // The switch is done, so figures that cannot be read are only missing.
    let accounts = known_accounts(context).unwrap_or_default();
    let account = accounts.iter().find(|a| a.entry.identity.is_same(to));
    let seen = account.and_then(|account| account.entry.observation.as_ref());
    match seen {
        Some(seen) => {
            let (zone, now) = (context.settings.zone, context.now());
            for line in windows::lines(ui, seen, zone, &now) {
                ui.report(format_args!("  {line}"));
            }
            ui.report(format_args!("  {}", windows::origin(seen, zone, &now)));
        }
        None => ui.note("its quota is not known yet; query it: codex-manager status"),
    }
}

/// Warns of a login that may not work, and of programs that keep the old account.
pub(crate) fn warn_after_switch(report: &SwitchReport, daemon: &str, context: &Context) {
    let ui = &context.ui;
    if let Some(kept) = &report.quarantined {
        let reason = report.plan.unreadable.as_deref().unwrap_or_default();
        ui.warn(format_args!(
            "auth.json was {reason}; a copy is kept: {}",
            kept.display()
        ));
    }
    if report.plan.is_missing {
        ui.warn("there was no auth.json, so the previous account is unknown");
    }
    if report.plan.is_stale {
        ui.warn(format_args!(
            "a newer login of this account exists, so this one is probably invalid; if Codex fails, \
            sign in again: codex-manager profile login {}",
            printable(&report.plan.profile)
        ));
    }
    if daemon == "running" {
        ui.warn(
            "Codex's background daemon was started during the switch and may use the old account",
        );
    }
    for running in &report.still_running {
        ui.warn(format_args!(
            "still running under the old account: {running}"
        ));
    }
}

/// Notes the conversations that disappear from Codex's picker, which shows only those of the live
/// account. If Codex's database does not record accounts, the note is about all conversations.
pub(crate) fn note_hidden_conversations(from: &Identity, context: &Context) {
    const TITLE_CHARS: usize = 40;
    let database = threads::find_state_database(&context.settings.codex_home, &context.env);
    let found = database
        .zip(from.account_id.as_deref())
        .and_then(|(database, account)| hidden::count_hidden(&database, account).ok().flatten());
    // Codex up to 0.150 records no accounts, and hides nothing.
    let Some(found) = found.filter(|found| found.count > 0) else {
        return;
    };
    let email = printable(from.email.as_str());
    let titles: Vec<_> = found
        .latest_titles
        .iter()
        .map(|title| format!("\"{}\"", printable(&without_end(title, TITLE_CHARS))))
        .collect();
    let conversations = pluralize(found.count, "conversation");
    let more = if found.count > titles.len() {
        ", …"
    } else {
        ""
    };
    let titles = titles.join(", ");
    context.ui.note(format_args!(
        "codex resume no longer shows {conversations} of {email}: {titles}{more}; continue them under their account with: codex-manager resume"
    ));
}
