//! The filters of `sessions` and of the commands that search conversations.

use crate::choices::account_choice::find_identity;
use crate::choices::project_choice::find_project_folders;
use crate::codex::identity::Identity;
use crate::codex::threads::{AccountFilter, ThreadFilter};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::{TimeDirection, time_point};
use crate::launch::registry::LaunchRegistry;
use clap::Args;
use std::path::PathBuf;

/// The filters by folder and account.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct SelectionArgs {
    /// Only conversations in the current folder, or below it
    #[arg(long, conflicts_with = "project")]
    here: bool,
    /// Only conversations in this folder or below it, or of the project with this name
    #[arg(long, value_name = "DIR|NAME")]
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
    /// Only conversations changed since then: 7d, yesterday, monday, "last week", 2026-11, "2026-11-20 9:00"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only conversations last changed before then; a day, a week or a month is included
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only conversations that began on this git branch
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
}

/// The filters by kind, for searches in all conversations.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct KindArgs {
    /// Only archived conversations
    #[arg(long)]
    archived: bool,
    /// Only conversations of subagents
    #[arg(long)]
    subagents: bool,
    /// Only conversations that codex-manager launched
    #[arg(long)]
    launched: bool,
}

/// The bound of a period that an option uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodEnd {
    /// A day, a week or a month stands for its beginning.
    First,
    /// A day, a week or a month stands for its end.
    Last,
}

impl SelectionArgs {
    /// Returns the names and values of the filters in use, for a report that has to name them.
    pub(crate) fn facts(&self, context: &Context) -> Vec<(&'static str, String)> {
        let here = self.here.then_some(&context.env.current_dir);
        let folder = self.project.as_ref().or(here);
        let folder = folder.map(|folder| ("Folder", folder.display().to_string()));
        let account = self.account.clone().map(|account| ("Account", account));
        folder.into_iter().chain(account).collect()
    }

    /// Selects an account that was named without `--account`.
    pub(crate) fn select_account(&mut self, account: Option<String>) {
        self.account = self.account.take().or(account);
    }

    /// Returns the account as the user named it.
    pub(crate) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Returns true if the conversations of one folder are selected.
    pub(crate) fn has_folder(&self) -> bool {
        self.here || self.project.is_some()
    }

    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// No account or no project has this name, or `launches.jsonl` or Codex's list cannot be read.
    pub(crate) fn resolve(&self, context: &Context) -> Result<ThreadFilter> {
        let here = self.here.then(|| vec![context.env.current_dir.clone()]);
        let project = self.project.as_deref();
        let project = project.map(|text| find_project_folders(text, context));
        let folders = project.transpose()?.or(here);
        let folders = folders.map(|folders| {
            let folders = folders.into_iter();
            folders
                .map(|folder| folder.to_string_lossy().into_owned())
                .collect()
        });
        let account = self.account.as_deref();
        let account =
            account.map(|text| read_account_filter(find_identity(text, context)?, context));
        Ok(ThreadFilter {
            folders,
            account: account.transpose()?,
            ..ThreadFilter::default()
        })
    }
}

impl FilterArgs {
    /// See [`SelectionArgs::select_account`].
    pub(crate) fn select_account(&mut self, account: Option<String>) {
        self.selection.select_account(account);
    }

    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// A time cannot be parsed; see [`SelectionArgs::resolve`] for the others.
    pub(crate) fn resolve(&self, context: &Context) -> Result<ThreadFilter> {
        let time = |text: &Option<String>, end| {
            let text = text.as_deref();
            text.map(|text| parse_unix_millis(text, end, context))
                .transpose()
        };
        Ok(ThreadFilter {
            since_ms: time(&self.since, PeriodEnd::First)?,
            until_ms: time(&self.until, PeriodEnd::Last)?,
            branch: self.branch.clone(),
            ..self.selection.resolve(context)?
        })
    }
}

impl SelectionArgs {
    fn used_options(&self) -> impl Iterator<Item = &'static str> {
        select_used([
            ("--here", self.here),
            ("--project", self.project.is_some()),
            ("--account", self.account.is_some()),
        ])
    }
}

impl FilterArgs {
    /// Returns the names of the options in use.
    pub(crate) fn used_options(&self) -> impl Iterator<Item = &'static str> {
        self.selection.used_options().chain(select_used([
            ("--since", self.since.is_some()),
            ("--until", self.until.is_some()),
            ("--branch", self.branch.is_some()),
        ]))
    }
}

fn select_used<const N: usize>(
    options: [(&'static str, bool); N],
) -> impl Iterator<Item = &'static str> {
    let used = options.into_iter().filter(|(_, is_used)| *is_used);
    used.map(|(name, _)| name)
}

impl KindArgs {
    /// Returns the names of the options in use.
    pub(crate) fn used_options(&self) -> impl Iterator<Item = &'static str> {
        select_used([
            ("--archived", self.archived),
            ("--subagents", self.subagents),
            ("--launched", self.launched),
        ])
    }

    /// Restricts `filter` to these kinds.
    ///
    /// # Errors
    /// `launches.jsonl` cannot be read.
    pub(crate) fn restrict(&self, filter: ThreadFilter, context: &Context) -> Result<ThreadFilter> {
        let launched = self.launched.then(|| read_launched_ids(context));
        Ok(ThreadFilter {
            ids: launched.transpose()?,
            only_archived: self.archived,
            only_subagents: self.subagents,
            ..filter
        })
    }
}

fn read_launched_ids(context: &Context) -> Result<Vec<String>> {
    let launches = LaunchRegistry::of(context.manager_home()).read()?;
    let conversations = launches
        .newest()
        .flat_map(|record| record.binding.conversations);
    Ok(conversations
        .map(|conversation| conversation.session_id)
        .collect())
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

/// Parses a past time to milliseconds since 1970. For a period, returns its beginning or its end.
///
/// # Errors
/// The text is no time.
pub(crate) fn parse_unix_millis(text: &str, end: PeriodEnd, context: &Context) -> Result<i64> {
    let period = time_point::parse(text, TimeDirection::Back, &context.now(), context.zone())
        .map_err(|e| CommandError::usage(e.to_string()))?;
    let at = match end {
        PeriodEnd::First => period.start,
        PeriodEnd::Last => period.end,
    };
    Ok(at.timestamp_millis())
}
