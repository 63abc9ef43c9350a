//! The description beside the selected conversation.

use crate::choices::conversation_picker::rows::{OfferedConversation, SharedConversations};
use crate::context::Context;
use crate::ui::picker::{ContentMatch, PreviewQuery, Task};
use crate::ui::{Style, time};
use crate::views::account::{absolute_time, printable};
use chrono::DateTime;
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::conversations::index::truncate_bytes;
use codex_manager_core::conversations::transcript::{self, EntryKind, TranscriptOptions};
use codex_manager_core::history::rollout::find_recorded_rollout;
use codex_manager_core::history::thread_rollouts::ThreadChain;
use std::cmp::Reverse;
use std::path::Path;

/// The maximum number of characters that the preview shows of a message.
const MAX_MESSAGE_CHARS: usize = 1500;

/// The length of the beginning of a message in which secrets are searched, in bytes.
const MAX_SEARCHED_BYTES: usize = 16 * MAX_MESSAGE_CHARS;

/// The maximum number of characters that the preview shows of a line before the match.
const CHARS_BEFORE: usize = 60;

/// The length of the text, in bytes, in which matches count as close together.
const NEARBY_BYTES: usize = 400;

/// The maximum number of matches of a message that are compared.
const MAX_COMPARED_MATCHES: usize = 1000;

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
        matching_turn.unwrap_or_else(|| describe_conversation(row, &context))
    })
}

/// Returns the title and the messages of the turn that has the match, from the match on. `None` if the turn cannot be
/// read or has no match.
fn describe_match(
    row: &OfferedConversation,
    found: &ContentMatch,
    context: &Context,
) -> Option<Vec<(Style, String)>> {
    let turn = found.turn?;
    let (home, thread) = (context.codex_home(), &row.thread);
    let rollout = find_recorded_rollout(home, &thread.rollout_path)?;
    let chain = ThreadChain::read(home, &thread.id, &rollout);

    let options = TranscriptOptions {
        outputs: true,
        reasoning: true,
        images: false,
        turn: Some(turn),
    };

    let mut entries = Vec::new();
    // The last part is the conversation itself, without the one that it continues. `turn` counts only its turns.
    let slices = &chain.parts.last()?.slices;
    let outcome = transcript::read_entries(slices, None, options, |mut entry| {
        entry.map_texts(&mut |text| hide_secrets(text).into_owned());
        entries.push(entry);
        true
    });
    outcome.ok()?;

    // The preview begins in the entry with the largest number of marks close together. `max_by_key` returns the last of
    // equal elements, so the reversed order gives the first one.
    let places = entries.iter().enumerate().filter_map(|(index, entry)| {
        let (mark_count, start) = find_densest_place(&entry.text, &found.marks)?;
        Some((index, start, mark_count))
    });
    let (first, start, _) = places.rev().max_by_key(|(.., mark_count)| *mark_count)?;

    let mut paragraphs = vec![(Style::Strong, row.title())];
    for (index, entry) in entries.iter().enumerate().skip(first) {
        let author = entry.kind.role();
        paragraphs.push((Style::Dim, format!("turn {turn}, {author}:")));

        let text_start = if index == first { start } else { 0 };
        let text = truncate_message(&entry.text[text_start..]);
        let ellipsis = if text_start > 0 { "…" } else { "" };
        paragraphs.push((Style::Plain, format!("{ellipsis}{text}")));
    }
    Some(paragraphs)
}

/// Finds the match with the largest number of different `marks` (the matching words) in the [`NEARBY_BYTES`] from its
/// start on; of several, the first one. Returns this number, and the byte at which the preview begins. `None` without
/// a match.
fn find_densest_place(text: &str, marks: &[String]) -> Option<(usize, usize)> {
    let count_marks_from = |at: usize| {
        let nearby = truncate_bytes(&text[at..], NEARBY_BYTES);
        marks
            .iter()
            .filter(|mark| nearby.contains(mark.as_str()))
            .count()
    };

    let matches = marks
        .iter()
        .flat_map(|mark| text.match_indices(mark.as_str()));
    let counts = matches
        .take(MAX_COMPARED_MATCHES)
        .map(|(at, _)| (count_marks_from(at), Reverse(at)));
    let (count, Reverse(at)) = counts.max()?;

    // The preview begins `CHARS_BEFORE` characters before the match, but not on an earlier line.
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut line_before = text[line_start..at].char_indices();
    let first_shown = line_before.nth_back(CHARS_BEFORE - 1);
    let offset = first_shown.map_or(0, |(offset, _)| offset);
    Some((count, line_start + offset))
}

/// Returns the title, the facts and the last turn of a conversation.
fn describe_conversation(row: &OfferedConversation, context: &Context) -> Vec<(Style, String)> {
    let thread = &row.thread;
    let rollout = find_recorded_rollout(context.codex_home(), &thread.rollout_path);
    let metadata = rollout.as_deref().and_then(|path| path.metadata().ok());
    let size = metadata.map(|meta| time::bytes(meta.len()));

    let folder_and_branch = join_facts([Some(thread.cwd.clone()), Some(thread.git_branch.clone())]);
    let facts = join_facts([
        row.account.clone(),
        Some(thread.model.clone()),
        size,
        Some(row.format_badges()),
    ]);

    let format_time = |millis: Option<i64>, word: &str| {
        let at = DateTime::from_timestamp_millis(millis?)?;
        Some(format!("{word} {}", absolute_time(&at, context)))
    };
    let times = join_facts([
        format_time(thread.created_ms, "created"),
        format_time(thread.updated_ms, "changed"),
    ]);

    let mut paragraphs = vec![(Style::Strong, row.title())];
    let details = [folder_and_branch, facts, times, printable(&thread.id)];
    let details = details.into_iter().filter(|text| !text.is_empty());
    paragraphs.extend(details.map(|text| (Style::Dim, text)));
    // An empty text would have no line in the preview, so the blank line has a space.
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
    let known_facts = facts.into_iter().flatten().filter(|fact| !fact.is_empty());
    let texts: Vec<_> = known_facts
        .map(|fact| printable(&hide_secrets(&fact)))
        .collect();
    texts.join(" · ")
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

/// Returns the beginning of a message, without empty lines and tabs.
fn truncate_message(text: &str) -> String {
    // A secret at the end of the shown part is searched with what follows it.
    let text = hide_secrets(truncate_bytes(text, MAX_SEARCHED_BYTES));
    let text: String = text.chars().take(MAX_MESSAGE_CHARS).collect();
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
    fn the_preview_begins_where_most_matches_are_close_together() {
        let marks = ["borrow", "checker"].map(String::from);
        let far = "-".repeat(NEARBY_BYTES);
        let text = format!("a checker {far}\n漢字 the borrow checker\n{far} borrow");
        let (count, at) = find_densest_place(&text, &marks).unwrap();
        assert_eq!(count, 2);
        assert!(text[at..].starts_with("漢字 the borrow checker"));
        let long = format!("{} checker", "漢".repeat(500));
        let (count, at) = find_densest_place(&long, &marks).unwrap();
        assert_eq!(
            (count, long[at..].chars().count()),
            (1, CHARS_BEFORE + "checker".len())
        );
        assert_eq!(find_densest_place("nothing", &marks), None);
    }
}
