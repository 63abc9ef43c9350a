//! Prints the list of conversations.

use crate::choices::conversation_view::ConversationView;
use crate::codex::config::read_login;
use crate::codex::home::{SESSIONS, THREAD_LOCKS};
use crate::codex::threads;
use crate::codex::threads::ThreadFilter;
use crate::commands::sessions::session_list::{
    ConversationList, ListedConversation, SortOrder, Subagents,
};
use crate::commands::sessions::table::{ConversationRow, ConversationTable};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::lock;
use crate::views::account::first_login;
use std::path::Path;

/// The number of conversations shown on a terminal without `--limit`.
const TERMINAL_LIMIT: usize = 30;

/// The options of the list besides its filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOptions {
    pub archived: bool,
    pub subagents: bool,
    pub sort: SortOrder,
    pub limit: Option<usize>,
}

/// Prints the conversations that `filter` selects.
pub(super) fn show(
    filter: ThreadFilter,
    options: ListOptions,
    context: &Context,
) -> Result<Outcome, CommandError> {
    let ui = &context.ui;
    let limit = options
        .limit
        .or(ui.is_terminal().then_some(TERMINAL_LIMIT))
        .unwrap_or(usize::MAX);
    let filter = ThreadFilter {
        without_archived: !options.archived,
        ..filter
    };
    let list = ConversationList::read(&filter, options.sort, limit, context)?;
    let (is_empty, has_more) = (list.is_empty(), list.has_more);
    let subagents = match (options.subagents, ui.wants_json()) {
        (true, _) => Subagents::Listed,
        (false, true) => Subagents::Omitted,
        (false, false) => Subagents::Counted,
    };
    if ui.wants_json() {
        ui.streamed_list_document("sessions", "sessions", |print| {
            list.for_each(subagents, |listed| print(&listed.session))
        })?;
    } else if !is_empty {
        print_table(list, subagents, context)?;
    }
    if is_empty {
        ui.note(reason_for_none(&filter, context));
    } else if has_more {
        ui.note(format_args!(
            "there are more: codex-manager sessions --limit {}",
            limit.saturating_mul(4)
        ));
    }
    Ok(Outcome::Done)
}

fn print_table(
    list: ConversationList<'_>,
    subagents: Subagents,
    context: &Context,
) -> Result<(), CommandError> {
    let home = &context.settings.codex_home;
    let mut table = ConversationTable::new(context);
    list.for_each(subagents, |listed| {
        let is_running = is_running(&listed.session, home);
        let ListedConversation {
            session,
            depth,
            folded,
        } = listed;
        table.add(&ConversationRow {
            session,
            depth,
            folded,
            is_running,
        });
        true
    })?;
    table.print();
    Ok(())
}

fn is_running(session: &ConversationView, home: &Path) -> bool {
    let writer_lock = home.join(THREAD_LOCKS).join(format!("{}.lock", session.id));
    lock::is_held(&writer_lock)
}

fn reason_for_none(filter: &ThreadFilter, context: &Context) -> String {
    let home = &context.settings.codex_home;
    let has_list = threads::find_state_database(home, &context.env).is_some();
    let is_signed_out = || read_login(home).is_ok_and(|auth| auth.login().is_none());
    match (has_list, filter.is_restricted()) {
        (true, true) => "no conversation matches".into(),
        (true, false) => "there are no conversations".into(),
        (false, _) if home.join(SESSIONS).is_dir() => {
            "Codex has no list of conversations yet; find conversations without one: codex-manager history check".into()
        }
        (false, _) if is_signed_out() => {
            format!("there are no conversations yet; {}", first_login(context))
        }
        (false, _) => "there are no conversations yet".into(),
    }
}
