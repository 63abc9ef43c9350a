//! `sessions`: lists conversations, and manages the search index.

mod children;
mod index_command;
mod list;
mod session_list;
pub(super) mod table;

use crate::choices::conversation_picker::export_page;
use crate::choices::conversation_picker::{ConversationPicker, PickedAction};
use crate::choices::selection_args::FilterArgs;
use crate::codex::threads::ThreadFilter;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::steps::launch_list::show_launches;
use crate::views::table_format::TableArgs;
use clap::Args;
use clap::Subcommand;
use index_command::IndexArgs;
use list::ListOptions;
use session_list::SortOrder;

/// List conversations
///
/// Reads Codex's list of conversations and opens none of them. The most recently changed comes first.
/// Conversations of subagents are counted at the conversation that started them.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  codex-manager sessions
  codex-manager sessions --here --since 7d
  codex-manager sessions --pick
  codex-manager sessions --account work --sort tokens --limit 10
  codex-manager sessions --archived --json | jq -r '.sessions[].id'
  codex-manager sessions --launched --profile work"
)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent flags of the command line"
)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show archived conversations too
    #[arg(long)]
    archived: bool,
    /// Show conversations of subagents, each below the conversation that started it
    #[arg(long)]
    subagents: bool,
    /// The order of the list
    #[arg(long, value_name = "ORDER", default_value = "updated")]
    sort: SortOrder,
    /// The largest number of conversations [default: 30 on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Choose one on the terminal, to resume it under its account or to export it
    #[arg(long, conflicts_with_all = ["subagents", "sort", "limit", "launched", "format"])]
    pick: bool,
    /// Show launches instead; the same as `launches`
    #[arg(long, conflicts_with_all = ["here", "project", "account", "since", "until", "archived", "subagents", "sort", "limit"])]
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
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        if let Some(SessionsCommand::Index(args)) = self.command {
            return args.run(context);
        }
        if self.launched {
            let context = &self.table.apply(context)?;
            return show_launches("sessions", self.profile.as_deref(), self.all, context);
        }
        let filter = self.filter.resolve(context)?;
        if self.pick {
            return pick(filter, self.archived, context);
        }
        let context = &self.table.apply(context)?;
        let options = ListOptions {
            archived: self.archived,
            subagents: self.subagents,
            sort: self.sort,
            limit: self.limit,
        };
        list::show(filter, options, context)
    }
}

fn pick(filter: ThreadFilter, archived: bool, context: &Context) -> Result<Outcome, CommandError> {
    let picker = ConversationPicker {
        enter: "resume",
        usage: &["name it: codex-manager resume SESSION"],
        filter,
        archived,
        exports: true,
    };
    match picker.run(context)? {
        (id, PickedAction::Enter) => context.run(&["resume".into(), id.into()]),
        (id, PickedAction::Export) => export_page(id, context),
    }
}
