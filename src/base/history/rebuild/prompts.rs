//! Builds the lines of the new `history.jsonl`.

use super::conversations::ConversationSet;
use super::plan::{PlannedHistoryFile, PromptCounts};
use crate::history::id::ConversationId;
use crate::history::prompts::HistoryEntry;
use crate::history::rollout::{PastOrigin, UserMessage};
use crate::history::{HistoryError, prompts};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The largest size of all prompts, in bytes. A rebuild sorts the prompts in memory, and refuses more of them.
const MAX_BYTES: u64 = 1 << 30;

/// Collects prompts in any order.
#[derive(Default)]
pub(super) struct Prompts {
    lines: Vec<HistoryEntry>,
    bytes: u64,
    /// The conversations that may begin with copied prompts, and their originals.
    forks: Vec<(ConversationId, PastOrigin)>,
}

/// The longest time between two copied prompts, in seconds. Codex copies a conversation without a pause.
const MAX_COPY_PAUSE_SECS: i64 = 1;

impl Prompts {
    pub(super) fn add(
        &mut self,
        id: &ConversationId,
        message: &UserMessage,
    ) -> Result<(), HistoryError> {
        self.bytes += message.text.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(HistoryError::PromptsTooLarge);
        }
        self.lines.push(HistoryEntry {
            session_id: id.to_string(),
            ts: message.ts,
            text: message.text.clone(),
        });
        Ok(())
    }

    pub(super) fn add_fork(&mut self, id: &ConversationId, origin: PastOrigin) {
        self.forks.push((id.clone(), origin));
    }

    /// Removes the prompts at the beginning of forks that Codex copied: those of the original, in the same order, with
    /// the time of the copy. Prompts that only the fork has stay.
    pub(super) fn remove_copies(&mut self) {
        let mut positions: HashMap<ConversationId, Vec<usize>> = HashMap::new();
        if !self.forks.is_empty() {
            for (position, line) in self.lines.iter().enumerate() {
                let id = ConversationId::of(&line.session_id);
                positions.entry(id).or_default().push(position);
            }
        }
        let mut copies = HashSet::new();
        for (fork, origin) in &self.forks {
            let own = positions.get(fork);
            let original = positions.get(&ConversationId::of(&origin.id));
            let mut copied_until = origin.begun_at.map_or(i64::MIN, |at| at.timestamp());
            for (own, original) in own
                .into_iter()
                .flatten()
                .zip(original.into_iter().flatten())
            {
                let line = &self.lines[*own];
                let is_in_time = line.ts <= copied_until.saturating_add(MAX_COPY_PAUSE_SECS);
                if !is_in_time || line.text != self.lines[*original].text {
                    break;
                }
                copied_until = copied_until.max(line.ts);
                copies.insert(*own);
            }
        }
        let mut position = 0..;
        self.lines.retain(|_| {
            position
                .next()
                .is_none_or(|position| !copies.contains(&position))
        });
    }

    /// Counts the lines of the current history that the new one lacks. Adds the number of lines that cannot be parsed
    /// to `bad_lines`.
    pub(super) fn count_removed_lines(
        &self,
        home: &Path,
        set: &ConversationSet,
        bad_lines: &mut u64,
    ) -> Result<PromptCounts, HistoryError> {
        let mut counts = PromptCounts::default();
        let lines = self.lines.iter();
        let texts: HashSet<_> = lines.map(|line| (&*line.session_id, &*line.text)).collect();

        *bad_lines += prompts::visit_entries(home, |line| {
            let text = line.text.trim_end_matches(['\n', '\r']);
            if texts.contains(&(&*line.session_id, text)) {
                return;
            }

            let id = ConversationId::of(&line.session_id);
            match set.find(&id) {
                Some(conversation) if conversation.is_beyond_limit => counts.beyond_limit += 1,
                _ => {
                    counts.dropped += 1;
                    // The conversation is there, but not with this prompt, or the rebuild leaves it out.
                    if set.has_rollout_or_archived_row(&id) {
                        counts.unrecorded += 1;
                    }
                }
            }
        })?;
        Ok(counts)
    }

    /// Writes the lines, oldest first, without exact duplicates. Trims as Codex does: if the text exceeds `max_bytes`,
    /// removes the oldest lines until four fifths of the limit or a single line remains. Returns how many lines were
    /// trimmed.
    pub(super) fn write(
        mut self,
        file: &mut PlannedHistoryFile,
        max_bytes: Option<u64>,
    ) -> Result<usize, HistoryError> {
        self.lines.sort_unstable_by(|a, b| {
            (a.ts, &a.session_id, &a.text).cmp(&(b.ts, &b.session_id, &b.text))
        });
        self.lines.dedup();

        let mut newest_line_len = 0;
        for entry in self.lines {
            newest_line_len = file.push(&entry)?;
        }

        match max_bytes.filter(|max| file.new_len > *max) {
            Some(max) => {
                // In two parts, because `max * 4` could overflow.
                let four_fifths = max / 5 * 4 + max % 5 * 4 / 5;
                Ok(file.trim(four_fifths.max(newest_line_len))?)
            }
            None => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    /// Returns the file, its content, and the number of trimmed lines.
    fn rendered(
        messages: &[(i64, &str)],
        max_bytes: Option<u64>,
    ) -> (PlannedHistoryFile, String, usize) {
        let mut prompts = Prompts::default();
        for (ts, text) in messages {
            let message = UserMessage {
                ts: *ts,
                text: (*text).to_owned(),
            };
            prompts.add(&ConversationId::of("s"), &message).unwrap();
        }
        let mut written = PlannedHistoryFile::new("history.jsonl", 0);
        let trimmed = prompts.write(&mut written, max_bytes).unwrap();
        let mut text = String::new();
        written.text.rewind().unwrap();
        written.text.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.len() as u64, text.lines().count()),
            (written.new_len, written.lines)
        );
        (written, text, trimmed)
    }

    fn ten() -> Vec<(i64, &'static str)> {
        (10..20).map(|ts| (ts, "aa")).collect()
    }

    #[test]
    fn a_history_within_the_limit_is_not_trimmed() {
        let (whole, text, trimmed) = rendered(&ten(), None);
        assert_eq!(rendered(&ten(), Some(whole.new_len)).1, text);
        assert_eq!(trimmed, 0);
    }

    #[test]
    fn beyond_the_limit_the_oldest_lines_are_removed_until_the_rest_fits_four_fifths_of_it() {
        let whole = rendered(&ten(), None).0.new_len;
        let (file, text, trimmed) = rendered(&ten(), Some(whole - 1));
        // Four fifths of ten lines less a byte hold seven.
        assert_eq!((file.lines, trimmed), (7, 3));
        assert!(text.starts_with("{\"session_id\":\"s\",\"ts\":13,"));
    }

    #[test]
    fn the_newest_line_stays_however_small_the_limit() {
        let (file, _, trimmed) = rendered(&ten(), Some(1));
        assert_eq!((file.lines, trimmed), (1, 9));
        assert_eq!(rendered(&ten()[..1], Some(1)).0.lines, 1);
        assert_eq!(rendered(&[], Some(1)).0.lines, 0);
    }

    #[test]
    fn exact_duplicates_are_removed_and_ties_sorted_by_text() {
        let messages = [(2, "b"), (1, "z"), (2, "a"), (2, "b"), (-1, "before 1970")];
        let (_, text, _) = rendered(&messages, None);
        let texts: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<HistoryEntry>(line).unwrap().text)
            .collect();
        assert_eq!(texts, ["before 1970", "z", "a", "b"]);
    }
}
