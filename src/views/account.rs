//! Accounts as several commands show them, in JSON and in text, and the lists of known accounts.

use crate::context::Context;
use crate::doctor::way_back::{find_way_back, suggest_login};
use crate::error::{CommandError, Result};
use crate::ui::{JsonFields, JsonObject, Style, Ui, object, time, windows};
use chrono::{DateTime, TimeZone};
use codex_manager_core::accounts::Profile;
use codex_manager_core::archive::Metadata;
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::codex::{AuthFile, Identity, read_login};
use codex_manager_core::inventory::{CooldownFile, accounts, cooldown};
use codex_manager_core::io::ansi::to_printable_line;
use codex_manager_core::io::{Timestamp, shell};
use codex_manager_core::quota::state::{self, AccountState, Cause, Verdict};
use codex_manager_core::quota::{Account, AccountEntry, Observation, QuotaSource};
use std::collections::HashMap;

/// Returns an account in JSON, with its state and the figures of the last observation. The keys are an interface,
/// times are RFC 3339 in the local zone.
pub(crate) fn account_json<'a>(
    account: &'a Account,
    verdict: &Verdict,
    context: &Context,
) -> JsonObject<impl JsonFields + use<'a>> {
    let entry = &account.entry;
    let (source, observed_at) = find_figures_source(entry, verdict);
    let time = |at| time_json(at, context);

    object()
        .with("email", entry.identity.email.as_str())
        .with("account_id", &entry.identity.account_id)
        .with("profile", &entry.profile)
        .with("state", verdict.state)
        .with("login", account.login)
        .with("next_available_at", time(verdict.next_available_at))
        .with("session_start_at", time(verdict.session_start_at))
        .with("quota_end_detected_at", time(verdict.quota_end_detected_at))
        .with("last_used_at", time(entry.last_used_at))
        .with("observed_at", time(observed_at))
        .with("source", source)
        .and(quota_json(entry.observation.as_ref(), context))
}

/// Returns the source and the time of the figures that decide the state of an account: those of the hold if the user
/// holds the account back, else those of the last observation.
pub(crate) fn find_figures_source(
    entry: &AccountEntry,
    verdict: &Verdict,
) -> (Option<QuotaSource>, Option<Timestamp>) {
    if verdict.cause == Some(Cause::Held) {
        return (Some(QuotaSource::Manual), entry.held_since);
    }
    let quota = entry.observation.as_ref();
    (quota.map(|o| o.source), quota.map(|o| o.observed_at))
}

pub(crate) fn quota_json(
    quota: Option<&Observation>,
    context: &Context,
) -> JsonObject<impl JsonFields + use<>> {
    windows::quota_json(quota, context.zone(), &context.now())
}

/// Formats a time as RFC 3339 with the local offset.
pub(crate) fn local_rfc3339<Z: TimeZone>(at: &DateTime<Z>, context: &Context) -> String {
    time::rfc3339(&at.to_utc(), context.zone())
}

/// Formats a time as "Tue 24 Nov 15:55, in 3 d 4 h".
pub(crate) fn full_time<Z: TimeZone>(at: &DateTime<Z>, context: &Context) -> String {
    time::format_full(&at.to_utc(), context.zone(), &context.now())
}

/// Formats a time as "Tue 24 Nov 15:55".
pub(crate) fn absolute_time<Z: TimeZone>(at: &DateTime<Z>, context: &Context) -> String {
    time::format_absolute(&at.to_utc(), context.zone(), &context.now())
}

/// Formats the time of a backup like [`absolute_time`]; "unknown" if the metadata of its archive cannot be read.
pub(crate) fn backup_time(metadata: &Metadata, context: &Context) -> String {
    let made_at = metadata.made_at();
    made_at.map_or("unknown".into(), |at| absolute_time(&at, context))
}

/// Formats a time as "in 3 d 4 h", "5 min ago" or "just now".
pub(crate) fn relative_time<Z: TimeZone>(at: &DateTime<Z>, context: &Context) -> String {
    time::format_relative(&at.to_utc(), &context.now())
}

/// Formats a time like [`local_rfc3339`]; `None` stays `None`.
pub(crate) fn time_json<Z: TimeZone>(at: Option<DateTime<Z>>, context: &Context) -> Option<String> {
    at.map(|at| local_rfc3339(&at, context))
}

/// Formats a time in milliseconds since 1970 like [`local_rfc3339`]. `None` if `ms` is `None` or out of range.
pub(crate) fn format_local_ms(ms: Option<i64>, context: &Context) -> Option<String> {
    time_json(DateTime::from_timestamp_millis(ms?), context)
}

/// Returns the name of the account for people: its profile, else its email.
pub(crate) fn label(account: &Account) -> String {
    entry_label(&account.entry)
}

/// Returns the name of the account of a backup for people: its profile, else its email; `None` if the home was
/// signed out.
pub(crate) fn owner_name(metadata: &Metadata, context: &Context) -> Option<String> {
    let identity = metadata.identity()?;
    // A backup can be described even if the profiles cannot be read.
    let profile = context.profiles().find(&identity).ok().flatten();
    let name = profile.as_ref().map(|profile| profile.name.as_str());
    Some(printable(name.unwrap_or(identity.email.as_str())))
}

pub(crate) fn entry_label(entry: &AccountEntry) -> String {
    let name = entry.profile.as_deref();
    printable(name.unwrap_or(entry.identity.email.as_str()))
}

/// Returns the labels of accounts by workspace id, without ids that several accounts share. Empty if the accounts
/// cannot be read.
pub(crate) fn labels_by_workspace(context: &Context) -> HashMap<String, String> {
    let (accounts, _) = read_accounts_and_profiles(context).unwrap_or_default();
    let mut names: HashMap<String, Option<String>> = HashMap::new();
    for account in &accounts {
        if let Some(id) = &account.entry.identity.account_id {
            // The id does not identify an account if several accounts share it.
            let entry = names.entry(id.clone()).and_modify(|name| *name = None);
            entry.or_insert_with(|| Some(label(account)));
        }
    }

    let names = names.into_iter();
    names.filter_map(|(id, name)| Some((id, name?))).collect()
}

/// Replaces characters that steer the terminal, because the text is from a file.
pub(crate) fn printable(text: &str) -> String {
    to_printable_line(text).into_owned()
}

/// Returns the title of a conversation as lists show it: on one line, without secrets.
pub(crate) fn shown_title(title: &str) -> String {
    if title.is_empty() {
        "(no title)".to_owned()
    } else {
        printable(&hide_secrets(title))
    }
}

/// Returns the first 13 characters of a conversation's id (a `UUIDv7`), which encode its creation time in
/// milliseconds.
pub(crate) fn short_id(session_id: &str) -> &str {
    session_id.get(..13).unwrap_or(session_id)
}

/// Returns the short id of a conversation, or the whole id if another id in `ids` has the same short id.
pub(crate) fn unique_short_id<'i, 'a>(
    id: &'i str,
    ids: impl IntoIterator<Item = &'a str>,
) -> &'i str {
    let short = short_id(id);
    let has_same_short_id = |other: &str| other != id && short_id(other) == short;
    if ids.into_iter().any(has_same_short_id) {
        id
    } else {
        short
    }
}

pub(crate) fn state_style(state: AccountState) -> Style {
    match state {
        AccountState::Ready => Style::Good,
        AccountState::Unknown => Style::Plain,
        AccountState::Cooldown => Style::Warn,
    }
}

/// Returns all known accounts: those of `cooldown.json` and the live one. Prints the warnings of
/// reading them.
///
/// # Errors
/// `cooldown.json` was written by a newer version or cannot be read.
pub(crate) fn read_known_accounts(context: &Context) -> Result<Vec<Account>> {
    Ok(list_with_live_account(context, load_figures(context)?))
}

/// Reads the last known figures from `cooldown.json`, and prints the warnings about the file.
///
/// # Errors
/// The file cannot be read, or was written by a newer version.
pub(crate) fn load_figures(context: &Context) -> Result<CooldownFile> {
    let loaded = cooldown::load(context.manager_home(), &context.now(), context.zone())?;
    warn_all(&context.ui, &loaded.warnings);
    Ok(loaded.file)
}

/// Returns all known accounts and all profiles. Profiles come from the disk, because `cooldown.json`
/// may be older.
///
/// # Errors
/// A document was written by a newer version or cannot be read.
pub(crate) fn read_accounts_and_profiles(
    context: &Context,
) -> Result<(Vec<Account>, Vec<Profile>)> {
    let mut file = load_figures(context)?;
    let profiles = context.profiles().list()?;
    file.set_profiles(&profiles);
    let mut accounts = list_with_live_account(context, file);
    accounts::recheck_profile_logins(context.manager_home(), &mut accounts);
    Ok((accounts, profiles))
}

/// Returns the accounts of a loaded `cooldown.json`, and the live one. Warns if the live login cannot be read.
pub(crate) fn list_with_live_account(context: &Context, file: CooldownFile) -> Vec<Account> {
    let live_auth = read_login(context.codex_home()).unwrap_or_else(|e| {
        context.warn(format_args!("{e}: {}", e.source));
        AuthFile::Missing
    });
    accounts::list_accounts(context.manager_home(), live_auth.login(), file)
}

/// Returns the advice for a first archive: a backup, or if there is no Codex home to back up, a copy from another
/// machine or a sign-in.
pub(crate) fn suggest_first_archive(context: &Context) -> String {
    if context.codex_home().is_dir() {
        return "create one with: codex-manager backup".into();
    }
    let login = suggest_login(context).join("; ");
    if find_way_back(context).is_some() {
        login
    } else {
        format!(
            "restore a copied archive: codex-manager restore PATH; or from a vault: codex-manager vault init URL; without a \
             copy, {login}"
        )
    }
}

/// Returns the advice for an account whose login the server no longer accepts.
pub(crate) fn suggest_new_login(account: Option<&Identity>, context: &Context) -> String {
    // Without a readable profile, the advice has a placeholder for its name.
    let profile = account.and_then(|account| context.profiles().find(account).ok().flatten());
    let name = profile.map_or("NAME".into(), |p| shell::quote_if_needed(&p.name));
    format!("sign in again: codex-manager profile login {name}")
}

pub(crate) fn warn_all(ui: &Ui, warnings: &[String]) {
    for warning in warnings {
        ui.warn(warning);
    }
}

/// Warns of the records that could not be written after an operation succeeded. Returns true if all were written, so
/// that `failures` is empty.
pub(crate) fn warn_unless_recorded(
    ui: &Ui,
    failures: impl IntoIterator<Item: Into<CommandError>>,
) -> bool {
    let messages = failures.into_iter().map(|error| error.into().to_one_line());
    let mut messages: Vec<String> = messages.collect();
    // Two records in one file fail with the same message.
    messages.dedup();
    for message in &messages {
        ui.warn(format_args!(
            "done, but a record of it could not be written: {message}"
        ));
    }
    messages.is_empty()
}

/// Pairs an account with its state at the current time.
pub(crate) fn with_verdict(account: Account, context: &Context) -> (Account, Verdict) {
    let verdict = state::compute_verdict(&account.entry, &context.now());
    (account, verdict)
}
