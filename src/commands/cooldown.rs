//! `cooldown`: shows the table of `accounts`, and holds accounts back until a time.

use crate::choices::account_choice::{find_account_index, find_identity};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::views::account::{full_time, label, list_with_live_account, warn_all};
use crate::views::account_list::AccountList;
use crate::views::dry_run::wording;
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::codex::Identity;
use codex_manager_core::inventory::{CooldownFile, cooldown};
use codex_manager_core::io::{TimeDirection, Timestamp, time_point};

const EXAMPLES: &str = "\
Examples:
  codex-manager cooldown
  codex-manager cooldown --timeline
  codex-manager cooldown --format tsv | grep me@example.com
  codex-manager cooldown --set work --until 'tue 15:55'
  codex-manager cooldown --set me@example.com --until '+3d 4h'
  codex-manager cooldown --clear work";

/// Show all accounts, ready ones first; hold an account back
///
/// The table is that of `accounts`; it uses the last known figures and makes no query. An account is in cooldown while
/// one of Codex's own quota windows or a spending limit is exhausted, or while you hold it back. Bars show what is
/// left. NEXT is the time until the account is ready again; for a ready one until its weekly reset, or until its next
/// reset if no weekly one is known. * marks the live account, ! one without a usable saved login.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CooldownArgs {
    /// Show only this account: a profile, an email, or a unique prefix of one
    #[arg(conflicts_with_all = ["set", "clear"])]
    account: Option<String>,
    /// Draw a timeline of the next seven days instead of the table
    #[arg(long, conflicts_with = "format")]
    timeline: bool,
    /// Hold an account back until a time
    #[arg(long, value_name = "ACCOUNT", requires = "until")]
    set: Option<String>,
    /// The time: 15:55, "tomorrow 9:00", monday, "2026-11-24 15:55", +3d, "3d 4h", or RFC 3339
    #[arg(long, value_name = "TIME", requires = "set")]
    until: Option<String>,
    /// Stop holding an account back
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "set")]
    clear: Option<String>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl CooldownArgs {
    /// # Errors
    /// No account or several match, the time is invalid or in the past, or `cooldown.json` cannot be
    /// read or written.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let (account_name, until) = if let Some(account) = &self.clear {
            (account, None)
        } else if let (Some(account), Some(text)) = (&self.set, &self.until) {
            (account, Some(parse_until(text, context)?))
        } else {
            return self.show_accounts(context);
        };

        let (file, changed_identity) =
            apply_hold_change(account_name, until, self.dry_run, context)?;
        let accounts = list_with_live_account(context, file);
        let mut list = AccountList::of_accounts(accounts, context);
        list.print_cooldown_json(context);
        // The JSON document has all accounts, the text only the changed one.
        list.retain_account(&changed_identity);
        // The outcome is ignored for the reason in `show_accounts`.
        let _ = list.show(self.timeline, context);
        Ok(Outcome::Done)
    }

    fn show_accounts(&self, context: &Context) -> Result<Outcome> {
        let mut list = AccountList::read(self.dry_run, context)?;
        if let Some(text) = &self.account {
            list.retain_account(&find_identity(text, context)?);
        }

        list.print_cooldown_json(context);
        // The outcome is ignored: it is partial if a newer version wrote a profile, but `cooldown` is about the
        // accounts.
        let _ = list.show(self.timeline, context);
        Ok(Outcome::Done)
    }
}

fn parse_until(text: &str, context: &Context) -> Result<Timestamp> {
    // A future day or week ends the hold when it begins, the current one when it ends.
    let until = time_point::parse(text, TimeDirection::Ahead, &context.now(), context.zone())
        .map_err(|e| CommandError::usage(format!("--until: {e}")))?
        .next_bound(&context.now());
    if until <= context.now() {
        let until = full_time(&until, context);
        return Err(CommandError::usage(format!(
            "--until is in the past: {until}"
        )));
    }
    Ok(until)
}

/// Holds an account back until the time `until`, and prints this. `None` ends the hold. Returns the changed file and
/// the identity of the account. With `dry_run`, writes nothing.
fn apply_hold_change(
    account_name: &str,
    until: Option<Timestamp>,
    dry_run: bool,
    context: &Context,
) -> Result<(CooldownFile, Identity)> {
    let manager_home = context.manager_home();
    let (now, zone) = (context.now(), context.zone());

    // The account is searched without the lock, because a change that fails must not create the manager home.
    let mut loaded = cooldown::load(manager_home, &now, zone)?;
    // The live account can be held before it has an entry in cooldown.json.
    let accounts = list_with_live_account(context, loaded.file.clone());
    let account = &accounts[find_account_index(&accounts, account_name, context)?];
    let (name, entry) = (label(account), &account.entry);
    let is_held = entry.held_until.is_some_and(|hold_end| hold_end > now);

    let change_entry = |file: &mut CooldownFile| {
        let changed_entry = file.entry(&entry.identity);
        changed_entry.held_until = until;
        changed_entry.held_since = until.map(|_| context.local_now());
        file.clone()
    };
    let (file, warnings) = if dry_run {
        (change_entry(&mut loaded.file), loaded.warnings)
    } else {
        cooldown::update(manager_home, &now, zone, change_entry)?
    };

    warn_all(&context.ui, &warnings);
    context.note(match until {
        Some(until) => {
            let verb = wording(dry_run, "would be", "is");
            format!(
                "{name} {verb} held back until {}",
                full_time(&until, context)
            )
        }
        None if is_held => {
            let verb = wording(dry_run, "would no longer be", "is no longer");
            format!("{name} {verb} held back")
        }
        None => format!("{name} was not held back"),
    });
    Ok((file, entry.identity.clone()))
}
