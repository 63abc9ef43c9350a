//! `storage --html`: the disk usage as one page.

use crate::context::Context;
use crate::ui::bytes;
use crate::ui::chart::as_length;
use crate::views::account::short_id;
use crate::views::page_charts::{
    CHART_STYLE, MAX_COLORS, ShareRow, TreemapItem, draw_treemap, format_figures, format_shares,
};
use codex_manager_core::codex::redaction::redact_and_count;
use codex_manager_core::conversations::html::{PageHead, format_page_end, format_page_start};
use codex_manager_core::storage::{LargeConversation, StorageReport};

/// The kind of file that the treemap divides by project.
const CONVERSATION_KIND: &str = "rollouts";

/// The largest number of rows of a table.
const MAX_ROWS: usize = 12;

pub(super) fn render_page(report: &StorageReport, context: &Context) -> String {
    let head = PageHead {
        title: "Disk usage".to_owned(),
        facts: vec![("Home", context.codex_home().display().to_string())],
    };

    let kinds = report.kinds.iter();
    let kinds: Vec<_> = kinds
        .map(|kind| (kind.kind.to_owned(), kind.bytes))
        .collect();
    let projects = report.projects.iter();
    let projects: Vec<_> = projects
        .map(|project| (project.name.clone(), project.bytes))
        .collect();
    let conversation_bytes = projects.iter().map(|(_, bytes)| *bytes).sum();

    let sections = [
        (
            "Conversations by project, and other files",
            draw_treemap(&to_treemap_items(report)),
        ),
        ("Kinds", format_table("Kind", &kinds, report.total_bytes)),
        (
            "Projects",
            format_table("Project", &projects, conversation_bytes),
        ),
        (
            "Largest conversations",
            format_table("Conversation", &largest_rows(report), conversation_bytes),
        ),
    ];

    let mut page = format_page_start(&head, CHART_STYLE);
    page.push_str(&format_figures(&list_figures(report)));
    for (title, html) in sections {
        page.extend(["<h2>", title, "</h2>\n", &html]);
    }
    let no_note = "";
    page + &format_page_end(no_note)
}

fn list_figures(report: &StorageReport) -> [(&'static str, String); 4] {
    let reclaimable = report.kinds.iter().map(|kind| kind.reclaimable_bytes).sum();
    let growth = report.growth.map(|growth| growth.bytes_per_day);
    let or_unknown = |size: Option<u64>| size.map_or("unknown".to_owned(), bytes);
    [
        ("Total", bytes(report.total_bytes)),
        ("Reclaimable", bytes(reclaimable)),
        ("Free on the disk", or_unknown(report.free_bytes)),
        ("Growth per day", or_unknown(growth)),
    ]
}

/// Returns the areas of the treemap, largest first: the projects of conversations in one colour, and the other kinds of
/// files in other colours.
fn to_treemap_items(report: &StorageReport) -> Vec<TreemapItem> {
    let to_item = |color: usize, name: &str, size: u64| TreemapItem {
        name: name.to_owned(),
        size,
        shown: bytes(size),
        color,
    };

    // The areas of the projects show the conversations, so an area of the kind `rollouts` would show them twice.
    let has_projects = !report.projects.is_empty();
    let kinds = report
        .kinds
        .iter()
        .filter(|kind| !(has_projects && kind.kind == CONVERSATION_KIND))
        .enumerate()
        .map(|(i, kind)| {
            // The projects have colour 0.
            let color = (i + 1).min(MAX_COLORS - 1);
            to_item(color, kind.kind, kind.bytes)
        });

    let projects = report.projects.iter();
    let projects = projects.map(|project| to_item(0, &project.name, project.bytes));

    let mut items: Vec<_> = kinds.chain(projects).collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.size));
    items
}

/// Returns a table of sizes in bytes, with the share of each in `total_bytes`.
fn format_table(heading: &str, rows: &[(String, u64)], total_bytes: u64) -> String {
    let to_row = |(name, size): &(String, u64)| ShareRow {
        name: name.clone(),
        part: as_length(*size),
        shown: bytes(*size),
    };
    let rows: Vec<_> = rows.iter().map(to_row).collect();
    format_shares([heading, "Size"], &rows, as_length(total_bytes), MAX_ROWS)
}

/// Returns the largest conversations. Their titles are redacted, because a title may contain a key.
fn largest_rows(report: &StorageReport) -> Vec<(String, u64)> {
    let to_name = |large: &LargeConversation| {
        let (title, _) = redact_and_count(&large.title);
        match &large.id {
            Some(id) => format!("{} {title}", short_id(&id.to_string())),
            None => title,
        }
    };
    let largest = report.largest.iter();
    largest.map(|large| (to_name(large), large.bytes)).collect()
}
