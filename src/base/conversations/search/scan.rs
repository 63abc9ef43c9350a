//! Searches the rollouts themselves for a regular expression, without the index.

use super::evaluate::{FoundConversation, Hit};
use super::snippet;
use crate::codex::rollout_lines::{LineParts, Role};
use crate::conversations::copied_texts::{CopiedTexts, ParentRollout};
use crate::conversations::index::{IndexCandidate, IndexError, list_candidates};
use crate::conversations::left_out::{DAMAGED_ROLLOUT_REASON, LeftOut};
use crate::conversations::reader::EventReader;
use crate::history::SkippedFile;
use crate::history::thread_rollouts::ThreadChain;
use crate::io::progress::Progress;
use crate::io::{ansi, clock, parallel};
use regex::Regex;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// The number of rollouts that are read at the same time.
const MAX_OPEN_ROLLOUTS: usize = 16;

#[derive(Debug, Default)]
pub struct ScanReport {
    /// The first match in each conversation, in the order of the searched conversations.
    pub hits: Vec<Hit>,
    /// The rollouts that could not be read.
    pub skipped: Vec<SkippedFile>,
}

/// Returns all conversations of a Codex home, and the folders that cannot be listed.
///
/// # Errors
/// Codex's database cannot be read.
pub fn list_conversations(
    home: &Path,
    database: Option<&Path>,
) -> Result<(Vec<FoundConversation>, Vec<SkippedFile>), IndexError> {
    let (candidates, skipped) = list_candidates(home, database)?;
    let beginning = |id: &str| id.get(..13).unwrap_or(id).to_owned();
    let mut with_beginning: HashMap<String, usize> = HashMap::new();
    for candidate in &candidates {
        *with_beginning
            .entry(beginning(&candidate.session))
            .or_default() += 1;
    }
    let to_conversation = |candidate: IndexCandidate| {
        let listed = candidate.thread.is_some();
        let shown = candidate.thread.unwrap_or_default();
        let mtime = || {
            let mtime = candidate.path.metadata().ok()?.modified().ok()?;
            clock::from_file_time(mtime).map(|at| at.timestamp_millis())
        };
        FoundConversation {
            title: candidate.name.unwrap_or(shown.title),
            cwd: shown.cwd,
            branch: shown.branch,
            updated_ms: shown.updated_ms.or_else(mtime),
            archived: candidate.archived,
            listed,
            is_child: shown.is_child,
            shares_beginning: with_beginning[&beginning(&candidate.session)] > 1,
            session: candidate.session,
            path: candidate.path,
        }
    };

    let conversations = candidates.into_iter().map(to_conversation);
    Ok((conversations.collect(), skipped))
}

/// Searches `conversations` of a home in parallel. With a `role`, searches only texts of this author. A
/// conversation that another process deletes during the search is ignored.
///
/// # Errors
/// The user interrupts.
pub fn scan(
    home: &Path,
    conversations: Vec<FoundConversation>,
    pattern: &Regex,
    role: Option<Role>,
    progress: &dyn Progress,
) -> io::Result<ScanReport> {
    let mut report = ScanReport::default();
    parallel::run_each_ordered(
        MAX_OPEN_ROLLOUTS,
        conversations,
        |conversation: FoundConversation| {
            let found = find_first_match(home, &conversation, pattern, role);
            (conversation, found)
        },
        |(conversation, found): (FoundConversation, io::Result<(Option<Hit>, LeftOut)>)| {
            let size = conversation.path.metadata().map_or(0, |meta| meta.len());
            progress.add_bytes(size);

            match found {
                Ok((hit, left_out)) => {
                    report.hits.extend(hit);
                    if let Some(path) = left_out.damaged_rollout {
                        let reason = DAMAGED_ROLLOUT_REASON.to_owned();
                        report.skipped.push(SkippedFile { path, reason });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => report.skipped.push(SkippedFile {
                    path: conversation.path,
                    reason: e.to_string(),
                }),
            }
            Ok(())
        },
    )?;

    Ok(report)
}

/// Returns the first match in a conversation, and the parts that were not searched. The score of the hit is the number
/// of texts that match. The title is searched only if no other text matches.
fn find_first_match(
    home: &Path,
    conversation: &FoundConversation,
    pattern: &Regex,
    role: Option<Role>,
) -> io::Result<(Option<Hit>, LeftOut)> {
    let is_searched = |author: Role| role.is_none_or(|role| role == author);

    let find_in = |text: &str, author, turn, at_ms| {
        let find_matches =
            |text: &str| pattern.find_iter(text).map(|found| found.range()).collect();
        pattern.is_match(text).then(|| Hit {
            conversation: conversation.clone(),
            turn,
            role: author,
            at_ms,
            snippet: snippet::make_snippet_by(text, find_matches),
            score: 1.0,
        })
    };

    let mut first_hit: Option<Hit> = None;
    // A rewound conversation has several rollouts, which are read from the oldest on.
    let chain = ThreadChain::read(home, &conversation.session, &conversation.path);
    let oldest = chain.rollouts().first();
    let parent = oldest.and_then(|oldest| ParentRollout::find(home, &oldest.path));
    let mut copies = CopiedTexts::open(parent.as_ref());
    let mut reader = EventReader::open_all(chain.rollouts(), LineParts::TEXTS)?;
    while let Some(event) = reader.next_event()? {
        let Some((author, text)) = event.kind.author_and_text() else {
            continue;
        };
        if copies.consume(&event) || !is_searched(author) {
            continue;
        }

        let text = ansi::without_colors(text);
        match &mut first_hit {
            Some(first_hit) if pattern.is_match(&text) => first_hit.score += 1.0,
            Some(_) => {}
            None => {
                let at = event.at.map(|at| at.timestamp_millis());
                first_hit = find_in(&text, author, Some(event.turn), at);
            }
        }
    }

    if first_hit.is_none() && is_searched(Role::Title) {
        let (turn, at) = (None, None);
        first_hit = find_in(&conversation.title, Role::Title, turn, at);
    }

    Ok((first_hit, reader.left_out))
}
