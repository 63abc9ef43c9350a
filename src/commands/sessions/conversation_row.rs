//! A row of the list of conversations: in JSON, in the table and as tab-separated values.

use crate::choices::conversation_accounts::ConversationAccount;
use crate::commands::sessions::children::ChildCounts;
use crate::context::Context;
use crate::ui::{Cell, Column, Style, object, time};
use crate::views::account::{format_local_ms, local_rfc3339, short_id, shown_title};
use crate::views::age::format_age;
use chrono::{DateTime, Utc};
use codex_manager_core::codex::folder_key::folder_name;
use codex_manager_core::codex::threads::SUBAGENT;
use codex_manager_core::codex::{ListedThread, RolloutName, THREAD_LOCKS, ZST};
use codex_manager_core::history::rollout::find_recorded_rollout;
use codex_manager_core::history::thread_rollouts::ThreadChain;
use codex_manager_core::history::thread_titles::read_missing_title;
use codex_manager_core::io::{lock, pluralize};
use serde::Serialize;
use std::path::Path;

pub(super) const COLUMNS: [Column; 8] = [
    Column::new("SESSION"),
    Column::new("AGE").rank(1),
    Column::new("PROJECT").rank(2).shorten(8).widen(14, 5),
    Column::new("ACCOUNT").rank(3).shorten(8),
    Column::new("SIZE").number().rank(5),
    Column::new("TITLE").shorten(16).widen(26, 5),
    Column::new("STATE").rank(4),
    Column::new("MACHINE").only_tsv(),
];

pub(super) struct ConversationRow {
    thread: ListedThread,
    account: ConversationAccount,
    bytes: Option<u64>,
    compressed: bool,
    /// True if Codex does not list the conversation.
    is_unlisted: bool,
    /// Another machine that has the conversation, if this machine does not have it.
    pub machine: Option<String>,
    /// Another machine that has continued the conversation.
    pub newer_on: Option<String>,
    /// The nesting depth below a parent in the list; 0 for other conversations.
    pub depth: usize,
    /// The subagents and side conversations that are not shown.
    pub hidden_children: ChildCounts,
}

impl ConversationRow {
    /// `account` is `None` if Codex does not list the conversation.
    pub(super) fn new(
        mut thread: ListedThread,
        account: Option<ConversationAccount>,
        context: &Context,
    ) -> Self {
        read_missing_title(context.codex_home(), &mut thread);
        let newest_size = read_rollout_size(&thread.rollout_path);
        let earlier_bytes = sum_earlier_rollouts(&thread, context.codex_home());
        let bytes = newest_size.bytes.map(|bytes| bytes + earlier_bytes);

        Self {
            is_unlisted: account.is_none(),
            account: account.unwrap_or_default(),
            bytes,
            compressed: newest_size.is_compressed,
            thread,
            machine: None,
            newer_on: None,
            depth: 0,
            hidden_children: ChildCounts::default(),
        }
    }

    /// Returns the conversation in JSON. The keys are an interface.
    pub(super) fn into_json(self, context: &Context) -> impl Serialize + use<> {
        let is_missing = self.is_missing();
        let thread = self.thread;
        let unless_empty = |text: String| Some(text).filter(|text| !text.is_empty());

        object()
            .with("id", thread.id)
            .with("title", thread.title)
            .with("cwd", thread.cwd)
            .with("git_branch", unless_empty(thread.git_branch))
            .with("profile", self.account.profile)
            .with("email", self.account.email)
            .with("created_at", format_local_ms(thread.created_ms, context))
            .with("updated_at", format_local_ms(thread.updated_ms, context))
            .with("model", unless_empty(thread.model))
            .with("tokens", thread.tokens)
            .with("bytes", self.bytes)
            .with("rollout_path", thread.rollout_path)
            .with("archived", thread.archived)
            .with("compressed", self.compressed)
            .with("missing", is_missing)
            .with("parent_id", thread.parent_id)
            .with("side", thread.is_side)
            .with("internal", thread.is_internal)
            .with("source", unless_empty(thread.source))
            .with("machine", self.machine)
            .with("newer_on", self.newer_on)
    }

    pub(super) fn to_cells(&self, context: &Context) -> [Cell; 8] {
        // Codex 0.169 and its daemon hold a lock on this file while they have the conversation open.
        let locks = context.codex_home().join(THREAD_LOCKS);
        let is_running = lock::is_held(&locks.join(format!("{}.lock", self.thread.id)));

        let owner = &self.account;
        let account = owner.profile.as_deref().or(owner.email.as_deref());

        let folder = folder_name(&self.thread.cwd).unwrap_or(&self.thread.cwd);
        [
            Cell::plain(short_id(&self.thread.id)).value(&self.thread.id),
            to_age_cell(self.thread.updated_ms, context),
            Cell::plain(folder).value(&self.thread.cwd),
            Cell::plain(account.unwrap_or("–")).value(account.unwrap_or_default()),
            Cell::plain(self.bytes.map_or("–".to_owned(), time::bytes))
                .value(self.bytes.map_or(String::new(), |size| size.to_string())),
            self.to_title_cell(is_running),
            Cell::new(Style::Dim, self.format_badges(is_running)),
            Cell::plain(self.machine.as_deref().unwrap_or_default()),
        ]
    }

    /// Returns the cell of the title, which is indented below a parent.
    fn to_title_cell(&self, is_running: bool) -> Cell {
        let indent = match self.depth {
            0 => String::new(),
            depth => format!("{}└ ", "  ".repeat(depth - 1)),
        };
        let style = if is_running {
            Style::Good
        } else {
            Style::Plain
        };
        let title = &self.thread.title;
        Cell::new(style, format!("{indent}{}", shown_title(title))).value(title)
    }

    /// Returns true if Codex lists the conversation, and the file of its rollout does not exist.
    fn is_missing(&self) -> bool {
        self.bytes.is_none() && !self.is_unlisted && self.machine.is_none()
    }

    /// Returns the text of the column STATE.
    fn format_badges(&self, is_running: bool) -> String {
        let states = [
            (is_running, "running"),
            (self.is_unlisted && self.machine.is_none(), "unlisted"),
            (self.thread.archived, "archived"),
            (self.compressed, "compressed"),
            (self.is_missing(), "no file"),
        ];
        let states = states.into_iter().filter(|(is_set, _)| *is_set);
        let mut badges: Vec<_> = states.map(|(_, name)| name.to_owned()).collect();

        badges.extend(self.machine.as_ref().map(|name| format!("on {name}")));
        badges.extend(
            self.newer_on
                .as_ref()
                .map(|name| format!("newer on {name}")),
        );

        if self.thread.is_side {
            badges.push("side conversation".to_owned());
        } else if self.thread.source == SUBAGENT {
            let badge = format!("subagent {}", self.thread.nickname);
            badges.push(badge.trim_end().to_owned());
        } else if self.thread.is_internal {
            badges.push("internal".to_owned());
        }
        let ChildCounts { subagents, sides } = self.hidden_children;
        for (count, noun) in [(subagents, "subagent"), (sides, "side conversation")] {
            if count > 0 {
                badges.push(pluralize(count, noun));
            }
        }

        badges.join(", ")
    }
}

pub(super) struct RolloutSize {
    /// `None` if the rollout does not exist.
    pub bytes: Option<u64>,
    /// True if only the compressed file exists.
    pub is_compressed: bool,
}

/// Reads the size of a rollout. `path` may name its plain or its compressed file, because Codex may record either one.
pub(super) fn read_rollout_size(path: &str) -> RolloutSize {
    let size = |path: &str| {
        let meta = Path::new(path).metadata().ok();
        meta.filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len())
    };
    let plain_path = path.strip_suffix(ZST).unwrap_or(path);
    let plain_bytes = size(plain_path);
    let bytes = plain_bytes.or_else(|| size(&format!("{plain_path}{ZST}")));
    RolloutSize {
        bytes,
        is_compressed: plain_bytes.is_none() && bytes.is_some(),
    }
}

/// Returns the size in bytes of all rollouts of a rewound conversation except the newest. 0 for a conversation that was
/// not rewound.
fn sum_earlier_rollouts(thread: &ListedThread, home: &Path) -> u64 {
    let recorded_path = Path::new(&thread.rollout_path);
    let is_rewind = RolloutName::parse(recorded_path).is_some_and(|file| file.is_rewind());
    if !is_rewind {
        return 0;
    }

    let Some(newest) = find_recorded_rollout(home, &thread.rollout_path) else {
        return 0;
    };

    let chain = ThreadChain::read(home, &thread.id, &newest);
    let earlier_rollouts = chain.rollouts().iter().filter(|slice| slice.path != newest);
    earlier_rollouts
        .filter_map(|slice| slice.path.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

fn to_age_cell(updated_ms: Option<i64>, context: &Context) -> Cell {
    let updated_at = updated_ms.and_then(DateTime::<Utc>::from_timestamp_millis);
    let (Some(updated_at), Some(text)) = (updated_at, format_age(updated_ms, context)) else {
        return Cell::plain("–").value("");
    };
    Cell::new(Style::Dim, text).value(local_rfc3339(&updated_at, context))
}
