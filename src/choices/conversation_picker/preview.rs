//! The description beside the selected conversation.

use crate::choices::conversation_picker::rows::{OfferedConversation, SharedConversations};
use crate::context::Context;
use crate::conversations::transcript::{self, EntryKind, TranscriptOptions};
use crate::history::rollout::recorded_rollout;
use crate::history::thread_rollouts::ThreadChain;
use crate::io::clock::Zone;
use crate::ui::picker::{ContentMatch, PreviewQuery, Task};
use crate::ui::{Style, time};
use crate::views::account::printable;
use chrono::{DateTime, Utc};
use std::path::Path;

/// The longest text of a message, in characters.
const MESSAGE_CHARS: usize = 1500;

/// The maximum number of characters that the preview shows of a line before the match.
const CHARS_BEFORE: usize = 60;

/// Returns the task that describes a conversation: the turn with the match in its content, or without a match its facts
/// and its last turn.
pub(crate) fn preview_task(
    rows: &SharedConversations,
    context: &Context,
) -> Task<PreviewQuery, Vec<(Style, String)>> {
    let (context, rows) = (context.clone(), rows.clone());
    Box::new(move |query| {
        let rows = rows.get();
        let Some(row) = rows.iter().find(|row| row.thread.id == query.id) else {
            return Vec::new();
        };
        let content_match = query.found.as_ref();
        let matching_turn = content_match.and_then(|found| describe_match(row, found, &context));
        matching_turn.unwrap_or_else(|| {
            let (zone, now) = (context.zone(), context.now());
            describe_conversation(row, context.codex_home(), zone, &now)
        })
    })
}

/// Returns the title and the messages of the turn that has the match, from the match on. `None` if the turn cannot be
/// read.
fn describe_match(
    row: &OfferedConversation,
    found: &ContentMatch,
    context: &Context,
) -> Option<Vec<(Style, String)>> {
    let turn = found.turn?;
    let (home, thread) = (context.codex_home(), &row.thread);
    let rollout = recorded_rollout(home, &thread.rollout_path)?;
    let chain = ThreadChain::read(home, &thread.id, &rollout);
    let options = TranscriptOptions {
        outputs: true,
        reasoning: true,
        images: false,
        turn: Some(turn),
    };
    let mut entries = Vec::new();
    let read = transcript::read(&chain.parts.last()?.slices, options, |entry| {
        entries.push(entry);
        true
    });
    read.ok()?;
    let places = entries
        .iter()
        .map(|entry| find_place(&entry.text, &found.marks));
    let places: Vec<_> = places.skip_while(Option::is_none).collect();
    let first = entries.len() - places.len();
    let mut begin = places.first().copied().flatten()?;
    let mut paragraphs = vec![(Style::Strong, row.title())];
    for entry in &entries[first..] {
        let author = entry.kind.role();
        paragraphs.push((Style::Dim, format!("turn {turn}, {author}:")));
        let text = truncate_message(&entry.text[begin..]);
        let cut = if begin > 0 { "…" } else { "" };
        paragraphs.push((Style::Plain, format!("{cut}{text}")));
        // Only the first message begins at the match.
        begin = 0;
    }
    Some(paragraphs)
}

/// Returns the byte at which the preview of a text begins: shortly before the first of the `marks` (matching words).
/// `None` if the text has no mark.
fn find_place(text: &str, marks: &[String]) -> Option<usize> {
    let places = marks.iter().filter_map(|mark| text.find(mark.as_str()));
    let at = places.min()?;
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = text[line..at]
        .char_indices()
        .rev()
        .take(CHARS_BEFORE)
        .last();
    Some(line + before.map_or(at - line, |(from, _)| from))
}

/// Returns the title, the facts and the last turn of a conversation.
fn describe_conversation(
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
        paragraphs.push((Style::Plain, truncate_message(&entry.text)));
    }
    if paragraphs.is_empty() {
        paragraphs.push((Style::Dim, "no messages".to_owned()));
    }
    paragraphs
}

/// Returns the beginning of a message, without empty lines.
fn truncate_message(text: &str) -> String {
    let text: String = text.chars().take(MESSAGE_CHARS).collect();
    let lines = text.lines().map(|line| line.replace('\t', "    "));
    let lines: Vec<_> = lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| printable(&line))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preview_begins_at_the_first_match() {
        let marks = ["checker", "borrow"].map(String::from);
        let text = "a rule\n漢字 the borrow checker";
        let at = find_place(text, &marks).unwrap();
        assert!(text[at..].starts_with("漢字 the borrow checker"));
        let long = format!("{} checker", "漢".repeat(500));
        let at = find_place(&long, &marks).unwrap();
        assert_eq!(long[at..].chars().count(), CHARS_BEFORE + "checker".len());
        assert_eq!(find_place("nothing", &marks), None);
    }
}
