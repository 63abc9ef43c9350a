//! Compares the conflict copies of both sides with each other and with their conversations.

use super::fact_reader::FactReader;
use crate::codex::rollout::{self, Relation};
use crate::codex::text_damage::{self, SearchedPart};
use crate::io::file_open;
use crate::sync::config::SyncRemote;
use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::index_updates::ContentChange;
use crate::sync::plan::sync_step::{Op, SyncStep};
use crate::sync::sides::Side;
use std::path::{Path, PathBuf};

/// The state of a conflict copy in relation to its conversation and to the copy on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConflictCopyState {
    /// The conflict copy was resolved, or the local conversation contains all its lines.
    Obsolete,
    /// The step with this index downloads a version of the conversation that contains all lines of the copy.
    ObsoleteAfter(usize),
    /// Both sides have the conflict copy. A remote file that is not downloaded counts, although it cannot be checked.
    Replicated,
    /// Only this side has an intact file.
    OnlyOn(Side),
    /// Only the cloud folder has the conflict copy, and its file is not downloaded.
    NotDownloaded,
    /// Neither side has an intact file.
    Damaged,
}

impl ConflictCopyState {
    pub(crate) fn is_obsolete(self) -> bool {
        matches!(self, Self::Obsolete | Self::ObsoleteAfter(_))
    }
}

/// The text that a conversation has after the steps.
struct FinalText {
    path: PathBuf,
    /// The index of the step that downloads the file; `None` if the home has it.
    download_step: Option<usize>,
}

pub(crate) struct ConflictCopyFacts<'a> {
    pub(crate) copy: &'a ConflictCopy,
    pub(crate) state: ConflictCopyState,
    /// True if the user has to decide about the copy and can: a side has its content, or can download it.
    pub(crate) is_pending: bool,
}

impl<'a> FactReader<'a> {
    /// Reads the facts about all conflict copies. `steps` are the steps of the conversations, which can make conflict
    /// copies obsolete.
    pub(crate) fn compare_conflict_copies(&self, steps: &[SyncStep]) -> Vec<ConflictCopyFacts<'a>> {
        let copies = self.records.conflict_copies.all.values();
        let facts = copies.map(|copy| {
            let state = self.read_copy_state(copy, steps);
            let has_content = !state.is_obsolete() && state != ConflictCopyState::Damaged;
            ConflictCopyFacts {
                copy,
                state,
                is_pending: has_content && !self.equals_conversation(copy, steps),
            }
        });
        facts.collect()
    }

    fn read_copy_state(&self, copy: &ConflictCopy, steps: &[SyncStep]) -> ConflictCopyState {
        if self.records.may_drop(&copy.name) {
            return ConflictCopyState::Obsolete;
        }
        if let Some(text) = self.find_final_text(copy, steps)
            && self.contains_copy(&text.path, copy)
        {
            return match text.download_step {
                Some(index) => ConflictCopyState::ObsoleteAfter(index),
                None => ConflictCopyState::Obsolete,
            };
        }

        if copy.is_placeholder {
            // `sync resolve` on this machine needs the content.
            return match copy.local {
                Some(_) => ConflictCopyState::Replicated,
                None => ConflictCopyState::NotDownloaded,
            };
        }

        let has_text = |side| {
            let path = self.records.conflict_copies.path_of(side, copy);
            text_damage::is_zero_filled(&path, true, SearchedPart::Ends)
                .is_ok_and(|is_zero_filled| !is_zero_filled)
        };
        // Two files with equal size and time are not read completely.
        let are_stats_equal = copy.local.is_some() && copy.local == copy.remote;
        if are_stats_equal && has_text(Side::Local) && has_text(Side::Remote) {
            return ConflictCopyState::Replicated;
        }

        let is_local_intact = copy.local.is_some() && self.is_intact(Side::Local, copy);
        let is_remote_intact = copy.remote.is_some() && self.is_intact(Side::Remote, copy);
        match (is_local_intact, is_remote_intact) {
            (true, true) => ConflictCopyState::Replicated,
            (true, false) => ConflictCopyState::OnlyOn(Side::Local),
            (false, true) => ConflictCopyState::OnlyOn(Side::Remote),
            (false, false) => ConflictCopyState::Damaged,
        }
    }

    /// Returns true if the file is readable, uncompressed and matches the digest in its name.
    fn is_intact(&self, side: Side, copy: &ConflictCopy) -> bool {
        let path = self.records.conflict_copies.path_of(side, copy);
        let file = file_open::open(&path);
        let is_uncompressed = file.and_then(|file| text_damage::is_uncompressed(&file));
        is_uncompressed.unwrap_or_default() && copy.matches_digest_of(&path).unwrap_or_default()
    }

    /// Returns true if the conversation has the text of the copy after the steps, so that there is nothing to decide.
    fn equals_conversation(&self, copy: &ConflictCopy, steps: &[SyncStep]) -> bool {
        let copies = &self.records.conflict_copies;
        let final_text = self.find_final_text(copy, steps);
        final_text.is_some_and(|text| copies.has_text_of(copy, &text.path))
    }

    /// Returns the text that the conversation of a copy has after the steps. `None` if the conversation was never
    /// synced and is not downloaded now, or if it is replaced in another way.
    fn find_final_text(&self, copy: &ConflictCopy, steps: &[SyncStep]) -> Option<FinalText> {
        let is_of_copy = |(_, step): &(usize, &SyncStep)| copy.belongs_to(&step.key);
        let own_steps = || steps.iter().enumerate().filter(is_of_copy);

        for (index, step) in own_steps() {
            for op in &step.ops {
                if let Op::Copy(op) = op
                    && op.to.side == Side::Local
                {
                    return Some(FinalText {
                        path: op.from.full_path(self.config),
                        download_step: Some(index),
                    });
                }
            }
        }

        // A step that replaces the conversation removes the lines that it has now.
        if own_steps().any(|(_, step)| step.change == ContentChange::Replaced) {
            return None;
        }

        // A local conversation that was never synced exists on this machine only; dropping the copy could leave the
        // other machines without its lines.
        let last = copy.last_synced(&self.records.state)?;
        Some(FinalText {
            path: self.config.local.join(&last.local.path),
            download_step: None,
        })
    }

    /// Returns true if a conversation contains all lines of the local file of a copy. Through the vault, the
    /// conversation must also have further lines. Returns false if the conversation cannot be read; the plan of the
    /// conversation reports the error.
    fn contains_copy(&self, conversation: &Path, copy: &ConflictCopy) -> bool {
        let copy_path = self.records.conflict_copies.path_of(Side::Local, copy);
        let relation = rollout::compare(conversation, &copy_path);

        // Through the vault, all machines drop a copy that one of them dropped. If the conversation equals the copy,
        // another machine may still replace the conversation, and this version would then count as dropped too.
        let is_vault = self.config.remote == SyncRemote::Vault;
        // A truncated copy has lost lines that the conversation may lack too, so the copy has to be intact.
        relation.is_ok_and(|r| r == Relation::FirstExtends || r == Relation::Equal && !is_vault)
            && self.is_intact(Side::Local, copy)
    }
}
