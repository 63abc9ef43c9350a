//! The filters of `sessions` and of the commands that search conversations.

use crate::choices::account_choice::find_identity;
use crate::codex::identity::Identity;
use crate::codex::threads::{AccountFilter, ThreadFilter};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::time_format;
use crate::launch::registry::LaunchRegistry;
use chrono::{DateTime, Days, NaiveDate, NaiveTime};
use clap::Args;
use std::path::PathBuf;

/// The filters by folder and account.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct SelectionArgs {
    /// Only conversations in the current folder, or below it
    #[arg(long, conflicts_with = "project")]
    here: bool,
    /// Only conversations in this folder, or below it
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Only conversations of this account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
}

/// The filters on the command line.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Only conversations changed since then: a duration such as `7d`, or a date such as `2026-11-20`
    #[arg(long, value_name = "DUR|DATE")]
    since: Option<String>,
    /// Only conversations last changed before then; a date includes that day
    #[arg(long, value_name = "DUR|DATE")]
    until: Option<String>,
}

/// The bound of a period that a date sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodEnd {
    /// A day means its beginning.
    First,
    /// A day means its end.
    Last,
}

impl SelectionArgs {
    /// Returns the names and values of the filters in use, for a report that has to name them.
    pub(crate) fn facts(&self, context: &Context) -> Vec<(&'static str, String)> {
        let folder = self.folder(context);
        let folder = folder.map(|folder| ("Folder", folder.display().to_string()));
        let account = self.account.clone().map(|account| ("Account", account));
        folder.into_iter().chain(account).collect()
    }

    /// Returns the account as the user named it.
    pub(crate) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Returns true if the conversations of one folder are selected.
    pub(crate) fn has_folder(&self) -> bool {
        self.here || self.project.is_some()
    }

    fn folder(&self, context: &Context) -> Option<PathBuf> {
        match (&self.project, self.here) {
            (Some(project), _) => Some(context.env.absolute(project)),
            (None, here) => here.then(|| context.env.current_dir.clone()),
        }
    }

    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// No account has this name, or `launches.jsonl` cannot be read.
    pub(crate) fn resolve(&self, context: &Context) -> Result<ThreadFilter> {
        let folder = self.folder(context);
        let account = self.account.as_deref();
        let account =
            account.map(|text| read_account_filter(find_identity(text, context)?, context));
        Ok(ThreadFilter {
            folder: folder.map(|folder| folder.to_string_lossy().into_owned()),
            account: account.transpose()?,
            ..ThreadFilter::default()
        })
    }
}

impl FilterArgs {
    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// A time cannot be parsed, no account has this name, or `launches.jsonl` cannot be read.
    pub(crate) fn resolve(&self, context: &Context) -> Result<ThreadFilter> {
        let time = |text: &Option<String>, end| {
            let text = text.as_deref();
            text.map(|text| parse_unix_millis(text, end, context))
                .transpose()
        };
        Ok(ThreadFilter {
            since_ms: time(&self.since, PeriodEnd::First)?,
            until_ms: time(&self.until, PeriodEnd::Last)?,
            ..self.selection.resolve(context)?
        })
    }
}

/// Returns the filter for the conversations of an account.
///
/// # Errors
/// `launches.jsonl` cannot be read.
pub(crate) fn read_account_filter(identity: Identity, context: &Context) -> Result<AccountFilter> {
    let launches = LaunchRegistry::of(context.manager_home()).read()?;
    let mut filter = AccountFilter::default();
    let mut known = std::collections::HashSet::new();
    for record in launches.newest() {
        let is_same = record.identity.is_same(&identity);
        for conversation in &record.binding.conversations {
            // The newest launch of a conversation decides.
            if known.insert(conversation.session_id.clone()) {
                let ids = if is_same {
                    &mut filter.launched
                } else {
                    &mut filter.launched_by_others
                };
                ids.push(conversation.session_id.clone());
            }
        }
    }
    let Identity {
        account_id,
        user_id,
        ..
    } = identity;
    Ok(AccountFilter {
        account_id,
        user_id,
        ..filter
    })
}

/// Parses a duration before now, a date, or a time with an offset, to milliseconds since 1970.
pub(crate) fn parse_unix_millis(text: &str, end: PeriodEnd, context: &Context) -> Result<i64> {
    if let Some(span) = time_format::parse_span(text) {
        return Ok((context.now() - span).timestamp_millis());
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.timestamp_millis());
    }
    // A date is a day of the local zone, as in the tables.
    let day = text.parse::<NaiveDate>().ok().and_then(|day| match end {
        PeriodEnd::First => Some(day),
        PeriodEnd::Last => day.checked_add_days(Days::new(1)),
    });
    let day = day.ok_or_else(|| {
        CommandError::usage(format!("not a duration or a date: {text}"))
            .hint("give a duration such as 7d or 12h, or a date such as 2026-11-20")
    })?;
    let (midnight, _) = context.zone().resolve_local(day.and_time(NaiveTime::MIN));
    Ok(midnight.timestamp_millis())
}
