//! The table of accounts, and the names that distinguish accounts with the same email.

use crate::context::Context;
use crate::doctor::way_back::find_way_back;
use crate::ui::{Cell, Column, Style, Table, time, windows};
use crate::views::account::{absolute_time, local_rfc3339, printable, relative_time, state_style};
use codex_manager_core::codex::window::{CODEX_LIMIT, WEEKLY_LABEL};
use codex_manager_core::codex::{Identity, Window};
use codex_manager_core::inventory::remedies;
use codex_manager_core::io::Timestamp;
use codex_manager_core::quota::state::{self, AccountState, Cause, Verdict};
use codex_manager_core::quota::{Account, AccountEntry, LoginState};

/// The length of Codex's short window in minutes.
const SHORT_WINDOW_MINUTES: u32 = 300;

const COLUMNS: [Column; 15] = [
    // "*" marks the live account, "!" one without a usable saved login.
    Column::new("").rank(1).only_text(),
    // Profiles of one client often have the same beginning, so names are shortened in the middle. Whole names are more
    // useful than the columns from NOTE on.
    Column::new("PROFILE")
        .rank(2)
        .shorten_middle(12)
        .widen(24, 6),
    Column::new("ACCOUNT").shorten(18).widen(30, 6),
    Column::new("PLAN").rank(5),
    Column::new("STATE").rank(1),
    Column::new("WEEKLY LEFT").rank(1),
    Column::new("NEXT").rank(3),
    Column::new("AT").rank(8).only_text(),
    Column::new("5H LEFT").rank(4).number(),
    Column::new("NOTE").rank(6).shorten(12).widen(16, 7),
    Column::new("LOGIN").rank(7),
    Column::new("SEEN").rank(9),
    Column::new("LAST USED").rank(10),
    Column::new("ID").only_tsv(),
    Column::new("LIVE").only_tsv(),
];

pub(super) fn print_accounts(rows: &[(Account, Verdict)], context: &Context) {
    // One email can have several workspaces, each with its own quota.
    let names = AccountNames::from_entries(rows.iter().map(|(account, _)| &account.entry));
    let accounts = rows.iter();
    let cells = accounts.map(|(account, verdict)| build_row(account, verdict, &names, context));
    Table::with_rows(&context.ui, COLUMNS, cells).print(&context.ui);
    // The user moved the login on purpose, and its cell says so.
    let needs_login =
        |account: &Account| lacks_login(account) && account.login != LoginState::Moved;
    let accounts = rows.iter().map(|(account, _)| account);
    let without_login: Vec<_> = accounts.filter(|account| needs_login(account)).collect();
    if !without_login.is_empty() {
        if let Some(way_back) = find_way_back(context) {
            context.note(way_back.to_hint());
        }
        context.note("! no usable saved login; sign in: codex-manager profile login NAME");
    }
    for account in without_login {
        let identity = &account.entry.identity;
        if let Some(advice) = remedies::suggest_removed_login(identity, context.manager_home()) {
            context.note(format_args!("{}: {advice}", identity.email));
        }
    }
}

/// Returns true if the account is not live and its saved login is known to be missing or unusable.
fn lacks_login(account: &Account) -> bool {
    let has_login = matches!(account.login, LoginState::Ok | LoginState::Unknown);
    !account.current && !has_login
}

fn build_row(
    account: &Account,
    verdict: &Verdict,
    names: &AccountNames,
    context: &Context,
) -> [Cell; 15] {
    let entry = &account.entry;
    let email = entry.identity.email.as_str();
    let name_style = if account.current {
        Style::Strong
    } else {
        Style::Plain
    };
    let [next, at] = next_change_cells(entry, verdict, context);
    let observed_at = entry.observation.as_ref().map(|quota| &quota.observed_at);

    [
        mark_cell(account),
        Cell::new(name_style, entry.profile.clone().unwrap_or_default()),
        Cell::new(name_style, names.format_name_beside_profile(entry)).value(printable(email)),
        Cell::plain(entry.plan.clone().unwrap_or_default()),
        Cell::new(state_style(verdict.state), format_state(verdict)).value(verdict.state.name()),
        weekly_cell(entry, context),
        next,
        at,
        short_window_cell(entry, context),
        Cell::plain(format_note(entry, verdict, context)),
        login_cell(account),
        seen_cell(entry, context)
            .value(observed_at.map_or(String::new(), |at| local_rfc3339(at, context))),
        time_cell(entry.last_used_at.as_ref(), context),
        Cell::plain(entry.identity.account_id.clone().unwrap_or_default()),
        Cell::plain(account.current.to_string()),
    ]
}

fn mark_cell(account: &Account) -> Cell {
    if account.current {
        Cell::new(Style::Strong, "*")
    } else if lacks_login(account) {
        Cell::new(Style::Warn, "!")
    } else {
        Cell::plain("")
    }
}

/// Returns the state as one word. A cooldown includes the name of its window, unless it is the weekly one.
fn format_state(verdict: &Verdict) -> String {
    let state = verdict.state.name();
    match &verdict.cause {
        Some(Cause::Held) => "held back".into(),
        Some(Cause::Exhausted(window)) if window != WEEKLY_LABEL => format!("{state} {window}"),
        _ => state.into(),
    }
}

fn weekly_cell(entry: &AccountEntry, context: &Context) -> Cell {
    let Some(percent_left) = state::weekly_left(entry, &context.now()) else {
        return Cell::plain("");
    };
    let text = format!("{} {percent_left:>3.0} %", windows::draw_bar(percent_left));
    Cell::new(windows::style_of(percent_left), text).value(format_args!("{percent_left:.0}"))
}

/// Returns Codex's window of five hours as last observed.
pub(crate) fn find_short_window(entry: &AccountEntry) -> Option<&Window> {
    let mut windows = entry.observation.as_ref()?.windows.iter();
    windows.find(|w| w.limit_id == CODEX_LIMIT && w.minutes == Some(SHORT_WINDOW_MINUTES))
}

fn short_window_cell(entry: &AccountEntry, context: &Context) -> Cell {
    let Some(window) = find_short_window(entry) else {
        return Cell::plain("");
    };
    let percent_left = state::percent_left(window, &context.now());
    let style = windows::style_of(percent_left);
    Cell::new(style, format!("{percent_left:.0} %")).value(format_args!("{percent_left:.0}"))
}

/// Returns the time until [`find_next_change`], and its date. The first cell is `unknown` for a cooldown without a
/// known end.
fn next_change_cells(entry: &AccountEntry, verdict: &Verdict, context: &Context) -> [Cell; 2] {
    match find_next_change(entry, verdict, context) {
        Some(at) => [
            Cell::plain(time::format_duration(at.to_utc() - context.now()))
                .value(local_rfc3339(&at, context)),
            Cell::plain(absolute_time(&at, context)),
        ],
        None if verdict.state == AccountState::Cooldown => {
            [Cell::plain("unknown").value(""), Cell::plain("")]
        }
        None => [Cell::plain(""), Cell::plain("")],
    }
}

/// Returns the end of the cooldown. For an account that is not in cooldown, returns the next weekly reset, else the
/// next reset of another window. `None` if the time is unknown.
pub(crate) fn find_next_change(
    entry: &AccountEntry,
    verdict: &Verdict,
    context: &Context,
) -> Option<Timestamp> {
    if verdict.state == AccountState::Cooldown {
        return verdict.next_available_at;
    }
    let quota = entry.observation.as_ref()?;
    let is_ahead = |at: &Timestamp| *at > context.now();
    let weekly = quota.weekly().and_then(|window| window.resets_at);
    weekly.filter(is_ahead).or_else(|| {
        let windows = quota.windows.iter().filter(|w| w.limit_id == CODEX_LIMIT);
        windows.filter_map(|w| w.resets_at).filter(is_ahead).min()
    })
}

/// Returns a note about unusual facts: a spending limit, a hold, banked resets, other limits, figures of an ended
/// window.
fn format_note(entry: &AccountEntry, verdict: &Verdict, context: &Context) -> String {
    let mut notes = Vec::new();
    if let Some(Cause::Capped(cap)) = &verdict.cause {
        notes.push(cap.describe().to_owned());
    }
    if verdict.cause == Some(Cause::Held)
        && let Some(since) = entry.held_since
    {
        notes.push(format!("set {}", relative_time(&since, context)));
    }

    let Some(quota) = &entry.observation else {
        notes.push(if entry.identity.kind.is_billed_by_use() {
            "billed by use".into()
        } else {
            "no figures yet".into()
        });
        return notes.join(", ");
    };

    let now = context.now();
    if quota.weekly().is_some_and(|window| window.is_over(&now)) {
        notes.push("window has reset".into());
    }
    notes.extend(windows::format_resets(quota, context.zone(), &now));

    // The weekly and the short window have columns of their own.
    let other_windows = quota.windows.iter().filter(|w| {
        let is_shown = w.is_weekly() || w.minutes == Some(SHORT_WINDOW_MINUTES);
        w.limit_id != CODEX_LIMIT || !is_shown
    });
    notes.extend(other_windows.map(|window| {
        let left = state::percent_left(window, &now);
        format!("{} {left:.0} %", windows::label(window))
    }));

    notes.join(", ")
}

/// Returns the state of the login, or an empty text if the login is usable or its state unknown.
fn login_cell(account: &Account) -> Cell {
    let text = match account.login {
        LoginState::Ok | LoginState::Unknown => "",
        defect => defect.name(),
    };
    Cell::new(Style::Warn, text).value(account.login.name())
}

fn seen_cell(entry: &AccountEntry, context: &Context) -> Cell {
    let text = entry.observation.as_ref().map(|quota| {
        let age = relative_time(&quota.observed_at, context);
        format!("{}, {age}", quota.source.name())
    });
    Cell::new(Style::Dim, text.unwrap_or_default())
}

fn time_cell(at: Option<&Timestamp>, context: &Context) -> Cell {
    let text = at.map(|at| relative_time(at, context));
    let value = at.map(|at| local_rfc3339(at, context));
    Cell::new(Style::Dim, text.unwrap_or_default()).value(value.unwrap_or_default())
}

/// The number of characters of a workspace id that are shown.
const ID_CHARS: usize = 8;

/// Formats the names of accounts. Without a profile, an email that several accounts share is followed by the workspace.
pub(crate) struct AccountNames(Vec<AccountEntry>);

impl AccountNames {
    pub(crate) fn from_entries<'a>(entries: impl IntoIterator<Item = &'a AccountEntry>) -> Self {
        Self(entries.into_iter().cloned().collect())
    }

    /// Returns the name of an account in a list with a separate column of profiles.
    pub(crate) fn format_name_beside_profile(&self, entry: &AccountEntry) -> String {
        let email = printable(entry.identity.email.as_str());
        match &entry.profile {
            Some(_) => email,
            None => self.format_name(&entry.identity),
        }
    }

    /// Returns the name of the account of an archive. `is_readable` is false if the archive's metadata cannot be read.
    pub(crate) fn format_owner(&self, identity: Option<&Identity>, is_readable: bool) -> String {
        match identity {
            Some(identity) => self.format_name(identity),
            None if is_readable => "signed out".into(),
            None => "unknown".into(),
        }
    }

    /// Returns the name of an account in a list without a column of profiles: its profile with the email, or the email.
    pub(crate) fn format_name(&self, identity: &Identity) -> String {
        let email = printable(identity.email.as_str());
        let entry = self.0.iter().find(|e| e.identity.is_same(identity));
        if let Some(profile) = entry.and_then(|entry| entry.profile.as_deref()) {
            return format!("{} ({email})", printable(profile));
        }

        let shares_email = |entry: &AccountEntry| {
            entry.identity.email.key() == identity.email.key() && !entry.identity.is_same(identity)
        };
        if !self.0.iter().any(shares_email) {
            return email;
        }

        let id = identity.account_id.as_deref().unwrap_or("no workspace");
        let short_id: String = id.chars().take(ID_CHARS).collect();
        format!("{email} ({})", printable(&short_id))
    }
}
