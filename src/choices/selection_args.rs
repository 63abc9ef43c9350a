//! The filters of `sessions` and of the commands that search conversations.

use crate::choices::account_choice::find_identity;
use crate::choices::project_choice::find_project_folders;
use crate::context::Context;
use crate::error::{CommandError, Result};
use clap::Args;
use codex_manager_core::codex::threads::AccountFilter;
use codex_manager_core::codex::{Identity, ThreadFilter};
use codex_manager_core::io::{TimeDirection, time_point};
use codex_manager_core::launch::registry::LaunchRegistry;
use std::ops::Range;
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
    pub(crate) account: Option<String>,
}

/// The filters on the command line.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
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

impl SelectionArgs {
    /// Returns the names and values of the filters in use, for a report that has to name them.
    pub(crate) fn describe_filters(&self, context: &Context) -> Vec<(&'static str, String)> {
        let here = self.here.then_some(&context.env.current_dir);
        let folder = self.project.as_ref().or(here);
        let folder = folder.map(|folder| ("Folder", folder.display().to_string()));
        let account = self.account.clone().map(|account| ("Account", account));
        folder.into_iter().chain(account).collect()
    }

    /// Selects `account`, which was named without `--account`, unless `--account` is given.
    pub(crate) fn set_account_if_unset(&mut self, account: Option<String>) {
        self.account = self.account.take().or(account);
    }

    /// Returns true if `--here` or `--project` is given.
    pub(crate) fn has_folder(&self) -> bool {
        self.here || self.project.is_some()
    }

    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// No account or no project has this name, or `launches.jsonl` or Codex's list cannot be read.
    pub(crate) fn to_thread_filter(&self, context: &Context) -> Result<ThreadFilter> {
        let folders = match &self.project {
            Some(project) => Some(find_project_folders(project, context)?),
            None => self.here.then(|| vec![context.env.current_dir.clone()]),
        };
        let read_filter = |name| read_account_filter(&find_identity(name, context)?, context);
        let account = self.account.as_deref().map(read_filter).transpose()?;

        let to_text = |folder: PathBuf| folder.to_string_lossy().into_owned();
        Ok(ThreadFilter {
            folders: folders.map(|folders| folders.into_iter().map(to_text).collect()),
            account,
            ..ThreadFilter::default()
        })
    }
}

impl FilterArgs {
    /// Returns the filter of the state database.
    ///
    /// # Errors
    /// A time cannot be parsed; see [`SelectionArgs::to_thread_filter`] for the others.
    pub(crate) fn to_thread_filter(&self, context: &Context) -> Result<ThreadFilter> {
        let parse_period = |text: &Option<String>| {
            let text = text.as_deref();
            let period = text.map(|text| parse_millis_range(text, context));
            period.transpose()
        };
        Ok(ThreadFilter {
            since_ms: parse_period(&self.since)?.map(|period| period.start),
            until_ms: parse_period(&self.until)?.map(|period| period.end),
            branch: self.branch.clone(),
            ..self.selection.to_thread_filter(context)?
        })
    }

    /// Returns the names of the options in use, including those of `kinds`.
    pub(crate) fn used_options(&self, kinds: &KindArgs) -> Vec<&'static str> {
        let selection = &self.selection;
        let options = [
            ("--here", selection.here),
            ("--project", selection.project.is_some()),
            ("--account", selection.account.is_some()),
            ("--since", self.since.is_some()),
            ("--until", self.until.is_some()),
            ("--branch", self.branch.is_some()),
            ("--archived", kinds.archived),
            ("--subagents", kinds.subagents),
            ("--launched", kinds.launched),
        ];
        let used = options.into_iter().filter(|(_, is_used)| *is_used);
        used.map(|(name, _)| name).collect()
    }
}

impl KindArgs {
    /// Restricts `filter` to these kinds.
    ///
    /// # Errors
    /// `launches.jsonl` cannot be read.
    pub(crate) fn restrict(
        &self,
        mut filter: ThreadFilter,
        context: &Context,
    ) -> Result<ThreadFilter> {
        filter.only_archived = self.archived;
        filter.only_subagents = self.subagents;
        if self.launched {
            let launches = LaunchRegistry::of(context.manager_home()).read()?;
            let conversations = launches
                .newest_first()
                .flat_map(|record| record.binding.conversations);
            filter.ids = Some(conversations.map(|found| found.session_id).collect());
        }
        Ok(filter)
    }
}

/// Returns the filter for the conversations of an account: conversations whose newest launch used the account, and
/// conversations without a launch that the account created.
///
/// # Errors
/// `launches.jsonl` cannot be read.
pub(crate) fn read_account_filter(identity: &Identity, context: &Context) -> Result<AccountFilter> {
    let launches = LaunchRegistry::of(context.manager_home()).read()?;
    let mut filter = AccountFilter {
        account_id: identity.account_id.clone(),
        user_id: identity.user_id.clone(),
        ..AccountFilter::default()
    };

    let mut decided_ids = std::collections::HashSet::new();
    for record in launches.newest_first() {
        let is_this_account = record.identity.is_same(identity);
        for conversation in &record.binding.conversations {
            // The newest launch of a conversation decides.
            if decided_ids.insert(conversation.session_id.clone()) {
                let ids = if is_this_account {
                    &mut filter.launched
                } else {
                    &mut filter.launched_by_others
                };
                ids.push(conversation.session_id.clone());
            }
        }
    }
    Ok(filter)
}

/// Parses a past time, which may be a day, a week or a month. Returns its bounds in milliseconds since 1970.
///
/// # Errors
/// The text is not a time.
pub(crate) fn parse_millis_range(text: &str, context: &Context) -> Result<Range<i64>> {
    let period = time_point::parse(text, TimeDirection::Back, &context.now(), context.zone())
        .map_err(|e| CommandError::usage(e.to_string()))?;
    Ok(period.start.timestamp_millis()..period.end.timestamp_millis())
}
