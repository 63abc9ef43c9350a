//! The description beside the selected conversation.

use crate::choices::conversation_picker::rows::OfferedConversation;
use crate::context::Context;
use crate::conversations::transcript::{self, EntryKind, TranscriptEntry};
use crate::history::rollout::recorded_rollout;
use crate::io::clock::Zone;
use crate::ui::picker::Task;
use crate::ui::{Style, time};
use crate::views::account::printable;
use chrono::{DateTime, Utc};
use std::path::Path;
use std::sync::Arc;

/// The longest text of a message, in characters.
const MESSAGE_CHARS: usize = 1500;

/// Returns the task that describes a conversation by its id: facts, then its last turn.
pub(crate) fn preview_task(
    rows: Arc<Vec<OfferedConversation>>,
    context: &Context,
) -> Task<String, Vec<(Style, String)>> {
    let (zone, now) = (context.zone(), context.now());
    let home = context.codex_home().to_path_buf();
    Box::new(move |id| {
        let row = rows.iter().find(|row| row.thread.id == *id);
        row.map_or_else(Vec::new, |row| describe(row, &home, zone, &now))
    })
}

fn describe(
    row: &OfferedConversation,
    home: &Path,
    zone: Zone,
    now: &DateTime<Utc>,
) -> Vec<(Style, String)> {
    let thread = &row.thread;
    let rollout = recorded_rollout(home, &thread.rollout_path);
    let size = rollout.as_deref().and_then(|path| path.metadata().ok());
    let size = size.map(|meta| time::bytes(meta.len()));
    let place = join_facts([Some(thread.cwd.clone()), Some(thread.git_branch.clone())]);
    let facts = join_facts([
        row.account.clone(),
        Some(thread.model.clone()),
        size,
        Some(row.badges()),
    ]);
    let at = |millis: Option<i64>, word: &str| {
        let at = DateTime::from_timestamp_millis(millis?)?;
        Some(format!("{word} {}", time::format_absolute(&at, zone, now)))
    };
    let times = join_facts([
        at(thread.created_ms, "created"),
        at(thread.updated_ms, "changed"),
    ]);
    let mut paragraphs = vec![(Style::Strong, row.title())];
    let details = [place, facts, times, printable(&thread.id)];
    let details = details.into_iter().filter(|text| !text.is_empty());
    paragraphs.extend(details.map(|text| (Style::Dim, text)));
    paragraphs.push((Style::Plain, String::from(" ")));
    let Some(rollout) = rollout else {
        let missing = format!(
            "the rollout is missing: {}",
            printable(&thread.rollout_path)
        );
        paragraphs.push((Style::Bad, missing));
        return paragraphs;
    };
    paragraphs.extend(format_last_turn(&rollout));
    paragraphs
}

fn join_facts<const N: usize>(facts: [Option<String>; N]) -> String {
    let facts = facts.into_iter().flatten().filter(|fact| !fact.is_empty());
    let facts: Vec<_> = facts.map(|fact| printable(&fact)).collect();
    facts.join(" · ")
}

/// Returns the messages of the last turn.
fn format_last_turn(rollout: &Path) -> Vec<(Style, String)> {
    let entries = match transcript::read_last_turn(rollout) {
        Ok(entries) => entries,
        Err(e) => return vec![(Style::Bad, format!("cannot read the rollout: {e}"))],
    };
    let mut paragraphs = Vec::new();
    for entry in entries {
        let author = match entry.kind {
            EntryKind::User => "user",
            EntryKind::Assistant => "assistant",
            EntryKind::Compaction => "summary",
            _ => continue,
        };
        paragraphs.push((Style::Dim, format!("{author}:")));
        paragraphs.push((Style::Plain, truncate_message(&entry)));
    }
    if paragraphs.is_empty() {
        paragraphs.push((Style::Dim, "no messages".to_owned()));
    }
    paragraphs
}

/// Returns the beginning of a message, without empty lines.
fn truncate_message(entry: &TranscriptEntry) -> String {
    let text: String = entry.text.chars().take(MESSAGE_CHARS).collect();
    let lines = text.lines().map(|line| line.replace('\t', "    "));
    let lines: Vec<_> = lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| printable(&line))
        .collect();
    lines.join("\n")
}
