//! Conversations that a command moves to the trash, brings back or lists: as a table and in JSON.

use crate::commands::storage::report::{SizeSums, show_json};
use crate::context::Context;
use crate::ui::{Cell, Column, Style, Table};
use crate::views::account::unique_short_id;
use codex_manager_core::storage::selection::SelectedConversation;
use codex_manager_core::storage::trash_entry::{TrashEntry, TrashError};
use serde::Serialize;

/// The largest number of conversations that are shown without --verbose.
const MAX_SHOWN: usize = 20;

const COLUMNS: [Column; 3] = [
    Column::new("CONVERSATION"),
    Column::new("SIZE").number().rank(1),
    Column::new("TITLE").shorten(8),
];

/// A conversation in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
pub(super) struct TrashItem {
    pub(super) session_id: String,
    title: String,
    path: String,
    pub(super) before_bytes: u64,
    pub(super) after_bytes: u64,
    pub(super) action: TrashAction,
    pub(super) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TrashAction {
    Trash,
    Undelete,
    /// The conversation is deleted permanently.
    Remove,
    /// The move failed.
    Skip,
    /// No change.
    List,
}

impl TrashItem {
    pub(super) fn trashed(selected: &SelectedConversation) -> Self {
        let path = selected.rollouts.first();
        Self {
            session_id: selected.id.clone(),
            title: selected.title.clone(),
            path: path
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            before_bytes: selected.bytes,
            after_bytes: 0,
            action: TrashAction::Trash,
            reason: None,
        }
    }

    pub(super) fn skipped(selected: &SelectedConversation, problem: &TrashError) -> Self {
        Self {
            after_bytes: selected.bytes,
            action: TrashAction::Skip,
            reason: Some(problem.to_string()),
            ..Self::trashed(selected)
        }
    }

    pub(super) fn of_entry(entry: &TrashEntry, action: TrashAction) -> Self {
        let size = entry.rollout_bytes();
        Self {
            session_id: entry.conversation.id.clone(),
            title: entry.conversation.title.clone(),
            path: entry.folder.display().to_string(),
            before_bytes: size,
            after_bytes: if action == TrashAction::Remove {
                0
            } else {
                size
            },
            action,
            reason: None,
        }
    }
}

pub(super) fn print_items(context: &Context, items: &[TrashItem]) {
    let ui = &context.ui;
    if items.is_empty() {
        return;
    }

    let ids = || items.iter().map(|item| &*item.session_id);
    let shown_count = ui.limit_items(items.len(), MAX_SHOWN);
    let rows = items.iter().take(shown_count).map(|item| {
        [
            Cell::plain(unique_short_id(&item.session_id, ids())),
            Cell::bytes(item.before_bytes),
            Cell::new(Style::Dim, &item.title),
        ]
    });
    Table::with_rows(ui, COLUMNS, rows).print(ui);
    ui.print_hidden_count(items.len() - shown_count);

    for reason in items.iter().filter_map(|item| item.reason.as_ref()) {
        ui.warn(format_args!("skipped: {reason}"));
    }
}

pub(super) fn print_json(context: &Context, command: &str, items: &[TrashItem], dry_run: bool) {
    let sums = SizeSums {
        before_bytes: items.iter().map(|item| item.before_bytes).sum(),
        after_bytes: items.iter().map(|item| item.after_bytes).sum(),
    };
    show_json(command, items, sums, dry_run, context);
}
