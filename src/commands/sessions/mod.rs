//! `sessions`: lists conversations, and manages the search index.

mod children;
mod conversation_row;
mod index_command;
mod session_list;

use crate::choices::conversation_picker::ConversationPicker;
use crate::choices::machines::refresh_machines;
use crate::choices::selection_args::FilterArgs;
use crate::context::Context;
use crate::doctor::way_back::{self, suggest_login};
use crate::error::{Outcome, Result};
use crate::steps::launch_list::show_launches;
use crate::ui::{Table, object};
use crate::views::table_format::TableArgs;
use clap::{Args, Subcommand};
use codex_manager_core::codex::{SESSIONS, ThreadFilter, read_login};
use conversation_row::COLUMNS;
use index_command::IndexArgs;
use session_list::{ChildRows, ConversationList, SortOrder};

/// The number of conversations shown on a terminal without `--limit`.
const TERMINAL_LIMIT: usize = 30;

/// List conversations
///
/// Reads Codex's list of conversations and opens none of them. The most recently changed comes first.
/// Subagents and side conversations are counted at the conversation that started them.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  codex-manager sessions
  codex-manager sessions --here --since 7d
  codex-manager sessions --pick
  codex-manager sessions --machines --since 7d
  codex-manager sessions work --sort tokens --limit 10
  codex-manager sessions --archived --json | jq -r '.sessions[].id'
  codex-manager sessions --launched --profile work"
)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    /// Only conversations of this account; the same as `--account`
    #[arg(value_name = "ACCOUNT", conflicts_with = "account")]
    account_argument: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show archived conversations too
    #[arg(long)]
    archived: bool,
    /// Also show conversations that only other machines have, as they published them in the vault
    #[arg(long)]
    machines: bool,
    /// Show subagents and side conversations, each below its parent, and conversations that no user began
    #[arg(long)]
    subagents: bool,
    /// The order of the list
    #[arg(long, value_name = "ORDER", default_value = "updated")]
    sort: SortOrder,
    /// The largest number of conversations [default: 30 on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Search conversations on the terminal, to resume, read, export or trash one
    #[arg(long, conflicts_with_all = ["subagents", "sort", "limit", "machines", "launched", "format"])]
    pub(crate) pick: bool,
    /// Show launches instead; the same as `launches`
    #[arg(long, conflicts_with_all = ["here", "project", "account", "since", "until", "branch", "archived", "subagents", "sort", "limit", "machines"])]
    launched: bool,
    /// With --launched: only launches of this account
    #[arg(long, value_name = "PROFILE", requires = "launched")]
    profile: Option<String>,
    /// With --launched: show all launches, not only the last 20
    #[arg(long, requires = "launched")]
    all: bool,
    #[command(flatten)]
    table: TableArgs,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    Index(IndexArgs),
}

impl SessionsArgs {
    /// # Errors
    /// The list of conversations or the launch registry cannot be read, or a filter is invalid.
    pub(crate) fn run(mut self, context: &Context) -> Result<Outcome> {
        if let Some(SessionsCommand::Index(args)) = &self.command {
            return args.run(context);
        }

        if self.launched {
            let context = &self.table.apply(context)?;
            let profile = self.profile.or(self.account_argument);
            return show_launches("sessions", profile.as_deref(), self.all, context);
        }

        let account = self.account_argument.take();
        self.filter.selection.set_account_if_unset(account);
        let filter = self.filter.to_thread_filter(context)?;

        if self.pick {
            let picker = ConversationPicker {
                usage: &["name it: codex-manager resume SESSION"],
                filter,
                scope: if self.archived { "archived" } else { "" },
                ..ConversationPicker::default()
            };
            return picker.run_and_resume(context);
        }

        self.print_list(filter, &self.table.apply(context)?)
    }

    /// Prints the conversations that `filter` selects.
    fn print_list(&self, filter: ThreadFilter, context: &Context) -> Result<Outcome> {
        let ui = &context.ui;
        let limit = self
            .limit
            .or(ui.is_terminal().then_some(TERMINAL_LIMIT))
            .unwrap_or(usize::MAX);
        let filter = ThreadFilter {
            without_archived: !self.archived,
            ..filter
        };

        let (machines, are_machines_stale) = if self.machines {
            refresh_machines(context)?
        } else {
            (Vec::new(), false)
        };

        let child_rows = match (self.subagents, ui.wants_json()) {
            (true, _) => ChildRows::Listed,
            (false, true) => ChildRows::Omitted,
            (false, false) => ChildRows::Counted,
        };
        let list =
            ConversationList::read(&filter, self.sort, limit, &machines, child_rows, context)?;
        let (is_empty, has_more) = (list.count == 0, list.has_more);

        if ui.wants_json() {
            ui.stream_list_document("sessions", "sessions", object(), |print| {
                list.for_each(|row| print(&row.into_json(context)))
            })?;
        } else if !is_empty {
            let mut table = Table::new(ui, COLUMNS);
            list.for_each(|row| {
                table.add_row(row.to_cells(context));
                true
            })?;
            table.print(ui);
        }

        if is_empty {
            ui.note(explain_empty_list(&filter, context));
        } else if has_more {
            ui.note(format_args!(
                "there are more; add --limit {} to see them",
                // The number of conversations beyond the limit is unknown, so four times the limit is a guess.
                limit.saturating_mul(4)
            ));
        }
        if !filter.is_restricted()
            && !way_back::is_named()
            && let Some(hint) = way_back::suggest_complete_list(context)
        {
            ui.note(hint);
        }

        Ok(Outcome::partial_if(are_machines_stale))
    }
}

/// Returns the reason why the list is empty, with the next step if there is one.
fn explain_empty_list(filter: &ThreadFilter, context: &Context) -> String {
    let home = context.codex_home();
    let has_database = context.state_database().is_some();
    let has_sessions_folder = home.join(SESSIONS).is_dir();
    let is_signed_out = || read_login(home).is_ok_and(|auth| auth.login().is_none());

    // Without a database, the list has the rollouts in the search index: none if the filter excludes them, or if none
    // could be indexed.
    if filter.is_restricted() && (has_database || has_sessions_folder) {
        "no conversation matches".into()
    } else if has_database {
        "there are no conversations".into()
    } else if has_sessions_folder {
        "Codex has not listed its conversations yet; to see those on disk: codex-manager history check".into()
    } else if is_signed_out() {
        let steps = suggest_login(context).join("; ");
        format!("there are no conversations yet; {steps}")
    } else {
        "there are no conversations yet".into()
    }
}
