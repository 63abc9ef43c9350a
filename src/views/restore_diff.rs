//! `restore --diff`: what a restore would change, by conversation.

use crate::archive::reader::ArchiveReader;
use crate::codex::home::kind_of;
use crate::codex::rollout::RolloutName;
use crate::codex::threads;
use crate::context::Context;
use crate::io::quantity::pluralize;
use crate::restore::plan::RestorePlan;
use crate::ui::{Cell, Column, Style, Table, bytes, variant_name};
use crate::views::account::short_id;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const COLUMNS: [Column; 5] = [
    Column::new("CHANGE"),
    Column::new("CONVERSATION"),
    Column::new("NOW").number().rank(2),
    Column::new("THEN").number().rank(2),
    Column::new("TITLE").rank(1).shorten(8),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ConversationEffect {
    /// Only the home has it, and loses it.
    Removed,
    /// The archive has less of it.
    Shortened,
    /// One version is compressed, so that sizes do not compare.
    Replaced,
    /// The archive has more of it.
    Extended,
    /// Only the archive has it.
    Added,
}

impl ConversationEffect {
    fn style(self) -> Style {
        match self {
            Self::Removed | Self::Shortened => Style::Warn,
            Self::Replaced => Style::Plain,
            Self::Extended | Self::Added => Style::Good,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Version {
    bytes: u64,
    is_compressed: bool,
}

/// A conversation that a restore would change, in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
pub(crate) struct ConversationChange {
    id: String,
    change: ConversationEffect,
    live_bytes: Option<u64>,
    archive_bytes: Option<u64>,
}

/// Compares the conversations of `home` with those of the archive that the plan writes. Conversations only
/// grow, so those of equal size are the same.
pub(crate) fn compare_conversations(
    archive: &ArchiveReader,
    plan: &RestorePlan,
    home: &Path,
) -> Vec<ConversationChange> {
    let mut versions: BTreeMap<String, (Option<Version>, Option<Version>)> = BTreeMap::new();
    let id_of = |path: &Path| {
        let file = RolloutName::parse(path).filter(|_| kind_of(path).is_rollout_folder());
        file.and_then(|file| file.id().map(str::to_owned))
    };
    let version = |path: &Path, bytes| Version {
        bytes,
        is_compressed: path.extension().is_some_and(|extension| extension == "zst"),
    };
    // A conversation that was rewound has several rollouts.
    let add = |sum: &mut Option<Version>, more: Version| {
        let bytes = sum.map_or(0, |sum| sum.bytes) + more.bytes;
        *sum = Some(Version { bytes, ..more });
    };
    for file in archive.contents().files.iter() {
        let path = file.path.as_path();
        if let Some(id) = id_of(path).filter(|_| plan.writes.contains(path)) {
            add(
                &mut versions.entry(id).or_default().1,
                version(path, file.size),
            );
        }
    }
    for name in plan
        .writes
        .without(&plan.added)
        .iter()
        .chain(plan.removed.iter())
    {
        let path = name.as_path();
        if let Some(id) = id_of(path)
            && let Ok(live) = home.join(path).metadata()
        {
            add(
                &mut versions.entry(id).or_default().0,
                version(path, live.len()),
            );
        }
    }
    let changes = versions.into_iter().filter_map(|(id, (live, archived))| {
        let change = classify_effect(live, archived)?;
        // A merge keeps the longer version.
        let is_kept = plan.merge && change == ConversationEffect::Shortened;
        (!is_kept).then_some(ConversationChange {
            id,
            change,
            live_bytes: live.map(|version| version.bytes),
            archive_bytes: archived.map(|version| version.bytes),
        })
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by(|a, b| (a.change, &a.id).cmp(&(b.change, &b.id)));
    changes
}

fn classify_effect(live: Option<Version>, archived: Option<Version>) -> Option<ConversationEffect> {
    match (live, archived) {
        (None, None) => None,
        (None, Some(_)) => Some(ConversationEffect::Added),
        (Some(_), None) => Some(ConversationEffect::Removed),
        (Some(live), Some(archived)) if live.is_compressed != archived.is_compressed => {
            Some(ConversationEffect::Replaced)
        }
        (Some(live), Some(archived)) => match archived.bytes.cmp(&live.bytes) {
            std::cmp::Ordering::Less => Some(ConversationEffect::Shortened),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(ConversationEffect::Extended),
        },
    }
}

/// Prints the changes, with the titles that Codex's database has.
pub(crate) fn show(changes: &[ConversationChange], home: &Path, context: &Context) {
    let ui = &context.ui;
    if changes.is_empty() {
        ui.line("no conversation would change");
        return;
    }
    let ids: Vec<_> = changes.iter().map(|change| change.id.clone()).collect();
    let titles = read_titles(&ids, home, context);
    let size = |bytes_of: Option<u64>| bytes_of.map_or("-".into(), bytes);
    let rows = changes.iter().map(|change| {
        let title = titles.get(&change.id).cloned().unwrap_or_default();
        [
            Cell::new(change.change.style(), variant_name(change.change)),
            Cell::plain(short_id(&change.id)),
            Cell::plain(size(change.live_bytes)),
            Cell::plain(size(change.archive_bytes)),
            Cell::new(Style::Dim, title),
        ]
    });
    Table::with_rows(ui, COLUMNS, rows).print(ui);
    ui.prose(format_args!(
        "{} would change",
        pluralize(changes.len(), "conversation")
    ));
}

/// Returns the titles of conversations in the database of the home, by id.
pub(crate) fn read_titles(
    ids: &[String],
    home: &Path,
    context: &Context,
) -> HashMap<String, String> {
    let Some(database) = threads::find_state_database(home, &context.env) else {
        return HashMap::new();
    };
    // Titles are optional, so an unreadable database gives none.
    let rows = threads::read_rows_by_id(&database, ids).unwrap_or_default();
    rows.into_iter()
        .map(|row| {
            let title = row.given_name().unwrap_or(&row.title);
            let title = title.lines().next().unwrap_or_default().to_owned();
            (row.id, title)
        })
        .collect()
}
