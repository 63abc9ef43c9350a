//! The lines around a match (`-C`), including lines of the messages before and after it.

use crate::commands::find::matcher::Matcher;
use codex_manager_core::codex::LineParts;
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::codex::rollout_lines::Role;
use codex_manager_core::conversations::reader::EventReader;
use codex_manager_core::conversations::search::evaluate::Hit;
use codex_manager_core::conversations::search::snippet::{self, Snippet};
use codex_manager_core::history::thread_rollouts::ThreadChain;
use codex_manager_core::io::ansi;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

pub(super) struct NearbyLine {
    pub turn: u32,
    pub role: Role,
    /// The line, shortened if it is long. Only the line of the hit has matches.
    pub text: Snippet,
}

/// Returns the line of a hit with up to `line_count` lines before and after it. Empty lines are left out. The result is
/// empty if the hit is a title, or its text is no longer in the rollout.
///
/// # Errors
/// The rollout cannot be read, or the user interrupts.
pub(super) fn read_nearby_lines(
    home: &Path,
    hit: &Hit,
    line_count: usize,
    matcher: &Matcher,
) -> io::Result<Vec<NearbyLine>> {
    if hit.turn.is_none() {
        return Ok(Vec::new());
    }

    let chain = ThreadChain::read(home, &hit.conversation.session, &hit.conversation.path);
    let mut reader = EventReader::open_all(chain.rollouts(), LineParts::TEXTS)?;

    let mut lines = VecDeque::new();
    // The number of lines still to read after the match; `None` until the match is found.
    let mut lines_to_read: Option<usize> = None;

    while let Some(event) = reader.next_event()? {
        let Some((role, text)) = event.kind.author_and_text() else {
            continue;
        };
        let text = ansi::without_colors(text);
        // As a whole, because a key has several lines.
        let text = hide_secrets(&text);

        let at_ms = event.at.map(|at| at.timestamp_millis());
        // An event has no id: turn, author and time identify the message of the hit.
        let is_hit_event = (Some(event.turn), role, at_ms) == (hit.turn, hit.role, hit.at_ms);
        let mut best_line = if is_hit_event && lines_to_read.is_none() {
            find_best_line(&text, matcher)
        } else {
            None
        };

        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }

            let matching_line = best_line.take_if(|(best_index, _)| *best_index == index);
            let is_match = matching_line.is_some();
            let text = match matching_line {
                Some((_, snippet)) => snippet,
                None => snippet::make_snippet_by(line, |_| Vec::new()),
            };
            let turn = event.turn;
            lines.push_back(NearbyLine { turn, role, text });

            if let Some(remaining) = &mut lines_to_read {
                *remaining -= 1;
            } else if is_match {
                lines_to_read = Some(line_count);
            } else if lines.len() > line_count {
                // Before the match, only the last lines are kept.
                lines.pop_front();
            }

            if lines_to_read == Some(0) {
                return Ok(lines.into());
            }
        }
    }

    if lines_to_read.is_none() {
        // The match was not found, so `lines` has only the end of the rollout.
        return Ok(Vec::new());
    }
    Ok(lines.into())
}

/// Returns the line with the most matches and its index in `text`. Of equal lines the first one is returned. `None` if
/// no line matches.
fn find_best_line(text: &str, matcher: &Matcher) -> Option<(usize, Snippet)> {
    let lines = text.lines().enumerate();
    let matching = lines.filter_map(|(index, line)| Some((index, matcher.find_snippet(line)?)));
    // `max_by_key` would return the last of equal lines.
    matching.min_by_key(|(_, line)| Reverse(line.matches.len()))
}
