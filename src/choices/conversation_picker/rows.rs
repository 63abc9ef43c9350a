//! The conversations to choose from, in the picker and in the plain list without a terminal.

use crate::choices::conversation_accounts::ConversationAccounts;
use crate::choices::listed::{list_threads, list_unlisted};
use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{CommandError, Result};
use crate::ui::Style;
use crate::ui::picker::{PickerItem, PickerScope};
use crate::ui::text_width::elide_end;
use crate::views::account::{printable, short_id, shown_title};
use crate::views::age::format_age;
use codex_manager_core::codex::folder_key::{folder_name, is_in_folder};
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::codex::threads::ChildThreads;
use codex_manager_core::codex::{ListedThread, SESSIONS, THREAD_LOCKS, ThreadFilter, read_login};
use codex_manager_core::io::lock;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// The question of the picker, and the message of the error without a terminal.
pub(crate) const QUESTION: &str = "which conversation?";

/// The name of the scope of the current folder.
pub(crate) const HERE: &str = "here";

/// The name of the scope of archived conversations.
pub(crate) const ARCHIVED: &str = "archived";

/// The number of conversations of all folders, and of the current one, that the picker shows before it has read the
/// others.
const FIRST_ROWS: usize = 200;

/// The largest number of conversations in the plain list.
const PLAIN_ROWS: usize = 10;

/// The largest width of a title, in columns.
const TITLE_WIDTH: usize = 80;

/// The largest width of the name of a folder or an account, in columns.
const NAME_WIDTH: usize = 18;

#[derive(Debug, Clone, Default)]
pub(crate) struct OfferedConversation {
    pub thread: ListedThread,
    /// The profile of the conversation's account, else the email; `None` if the account is unknown.
    pub account: Option<String>,
    /// True if Codex does not list the conversation.
    pub is_unlisted: bool,
    /// True if a Codex process has the conversation open.
    pub is_running: bool,
}

/// The conversations of an open picker, shared with the threads of the picker. A thread keeps the list that it got
/// while another list is set.
#[derive(Clone)]
pub(crate) struct SharedConversations(Arc<RwLock<Arc<Vec<OfferedConversation>>>>);

impl SharedConversations {
    pub(crate) fn new(rows: Vec<OfferedConversation>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rows))))
    }

    pub(crate) fn get(&self) -> Arc<Vec<OfferedConversation>> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rows)
    }

    pub(crate) fn set(&self, rows: Vec<OfferedConversation>) {
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *shared = Arc::new(rows);
    }
}

/// Returns the newest conversations that `filter` selects. If `filter` names no folders, also returns the newest ones
/// of the current folder. `None` if `filter` selects fewer than [`FIRST_ROWS`]: the caller can read them all at once.
pub(crate) fn list_first_conversations(
    filter: &ThreadFilter,
    context: &Context,
) -> Result<Option<Vec<OfferedConversation>>> {
    let newest_filter = ThreadFilter {
        children: ChildThreads::Omitted,
        limit: Some(FIRST_ROWS),
        ..filter.clone()
    };
    let mut threads = list_threads(&newest_filter, context)?;
    if threads.len() < FIRST_ROWS {
        return Ok(None);
    }

    if filter.folders.is_none() {
        let newest_ids: HashSet<_> = threads.iter().map(|thread| thread.id.clone()).collect();
        let current_folder_filter = ThreadFilter {
            folders: Some(vec![context.env.current_dir.to_string_lossy().into_owned()]),
            ..newest_filter
        };
        let threads_here = list_threads(&current_folder_filter, context)?.into_iter();
        threads.extend(threads_here.filter(|thread| !newest_ids.contains(&thread.id)));
    }

    let mut rows = to_offered(threads, context)?;
    rows.sort_by_key(|row| Reverse(row.thread.updated_ms));
    Ok(Some(rows))
}

/// Returns the conversations that `filter` selects, archived ones too, but no subagents and no
/// side conversations. The most recently changed comes first.
pub(crate) fn list_offered_conversations(
    filter: ThreadFilter,
    context: &Context,
) -> Result<Vec<OfferedConversation>> {
    let filter = ThreadFilter {
        children: ChildThreads::Omitted,
        ..filter
    };
    let mut rows = to_offered(list_threads(&filter, context)?, context)?;
    let mut unlisted = to_offered(list_unlisted(&filter, context)?, context)?;
    for row in &mut unlisted {
        row.is_unlisted = true;
    }
    rows.append(&mut unlisted);
    rows.sort_by_key(|row| Reverse(row.thread.updated_ms));
    Ok(rows)
}

/// Finds the accounts of conversations, and the conversations that Codex has open.
fn to_offered(threads: Vec<ListedThread>, context: &Context) -> Result<Vec<OfferedConversation>> {
    if threads.is_empty() {
        return Ok(Vec::new());
    }

    let accounts = ConversationAccounts::read_all(context)?;
    let open_ids = find_open_ids(context.codex_home());
    let rows = threads.into_iter().map(|thread| {
        let account = accounts.find(&thread);
        OfferedConversation {
            account: account.profile.or(account.email),
            is_running: open_ids.contains(&thread.id),
            is_unlisted: false,
            thread,
        }
    });
    Ok(rows.collect())
}

/// Returns the ids of the conversations that a Codex process has open.
fn find_open_ids(home: &Path) -> HashSet<String> {
    // Codex removes the file when it closes the conversation. The file of a killed Codex stays, but
    // is not locked.
    let entries = home.join(THREAD_LOCKS).read_dir().into_iter().flatten();
    let lock_files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let held_files = lock_files.filter(|path| lock::is_held(path));
    held_files
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

impl OfferedConversation {
    /// Returns the title, or `(no title)`.
    pub(crate) fn title(&self) -> String {
        shown_title(self.thread.title.trim())
    }

    fn project_name(&self) -> String {
        let name = folder_name(&self.thread.cwd).unwrap_or_default();
        printable(&hide_secrets(name))
    }

    /// Returns the states of the conversation, such as `running, archived`, or an empty text.
    pub(crate) fn format_badges(&self) -> String {
        let states = [
            (self.is_running, "running"),
            (self.is_unlisted, "unlisted"),
            (self.thread.archived, "archived"),
        ];
        let badges = states.into_iter().filter(|(applies, _)| *applies);
        let names: Vec<_> = badges.map(|(_, name)| name).collect();
        names.join(", ")
    }

    pub(crate) fn to_picker_item(&self, context: &Context) -> PickerItem {
        let (title, project) = (self.title(), self.project_name());
        let account = self.account.as_deref().map(printable).unwrap_or_default();
        let title_style = if self.is_running {
            Style::Good
        } else {
            Style::Plain
        };
        let age = format_age(self.thread.updated_ms, context).unwrap_or_default();

        PickerItem {
            id: self.thread.id.clone(),
            columns: vec![
                (Style::Dim, age),
                (title_style, elide_end(&title, TITLE_WIDTH).into_owned()),
                (Style::Dim, elide_end(&project, NAME_WIDTH).into_owned()),
                (Style::Dim, elide_end(&account, NAME_WIDTH).into_owned()),
                (Style::Dim, self.format_badges()),
            ],
            search: format!("{title} {project} {account} {}", self.thread.git_branch),
        }
    }

    fn format_plain_line(&self, context: &Context) -> String {
        let age = format_age(self.thread.updated_ms, context).unwrap_or_default();
        let id = short_id(&self.thread.id);
        let full_title = self.title();
        let title = elide_end(&full_title, TITLE_WIDTH);
        format!("{}  {age:>6}  {title}", printable(id))
    }
}

/// Returns the error for a home without listed conversations. The hint finds unlisted ones if the home may have some,
/// else it is about signing in.
pub(crate) fn empty_home_error(context: &Context) -> CommandError {
    let error = CommandError::failed("there are no conversations yet");
    let home = context.codex_home();
    if home.join(SESSIONS).is_dir() {
        error.hint("find rollouts that Codex does not list: codex-manager history check")
    } else if read_login(home).is_ok_and(|auth| auth.login().is_none()) {
        error.hint_each(suggest_login(context))
    } else {
        error
    }
}

/// Prints the first conversations on stderr, because stdout is for the result of the command. Returns the error
/// for a missing argument, with `hints` as its hints.
pub(crate) fn list_and_refuse(
    rows: &[OfferedConversation],
    hints: &[&str],
    context: &Context,
) -> CommandError {
    if !context.ui.wants_json() {
        for row in rows.iter().take(PLAIN_ROWS) {
            context.note(row.format_plain_line(context));
        }
        let more_count = rows.len().saturating_sub(PLAIN_ROWS);
        if more_count > 0 {
            context.note(format_args!("and {more_count} more"));
        }
    }
    let error = CommandError::usage(QUESTION);
    hints.iter().fold(error, |error, hint| error.hint(*hint))
}

/// Returns the scopes that have conversations: those of the current folder, all, and archived ones. The first two have
/// no archived conversations.
pub(crate) fn build_scopes(rows: &[OfferedConversation], here: &Path) -> Vec<PickerScope> {
    let is_here =
        |row: &OfferedConversation| !row.thread.archived && is_in_folder(&row.thread.cwd, here);
    let rules: [ScopeRule<'_>; 3] = [
        (HERE, &is_here),
        ("all", &|row| !row.thread.archived),
        (ARCHIVED, &|row| row.thread.archived),
    ];
    select_scopes(rows, &rules)
}

/// The name of a scope, and the condition for its conversations.
type ScopeRule<'a> = (&'static str, &'a dyn Fn(&OfferedConversation) -> bool);

/// Returns the scopes that have conversations.
pub(crate) fn select_scopes(
    rows: &[OfferedConversation],
    rules: &[ScopeRule<'_>],
) -> Vec<PickerScope> {
    let scopes = rules.iter().map(|&(name, accepts)| {
        let items = (0..rows.len()).filter(|i| accepts(&rows[*i])).collect();
        PickerScope { name, items }
    });
    scopes.filter(|scope| !scope.items.is_empty()).collect()
}
