//! The conversations of a home beside those of an archive, by messages.

use crate::archive::entry::FileEntry;
use crate::archive::file_extract;
use crate::archive::reader::ArchiveReader;
use crate::archive::scan::HomeScan;
use crate::codex::home::kind_of;
use crate::codex::rollout::RolloutName;
use crate::commands::diff::change::Change;
use crate::conversations::messages::{self, MessageCounts};
use crate::error::CommandError;
use crate::io::IoContext;
use crate::io::progress::is_interrupted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// A conversation that changed, in JSON. Its keys are a contract.
#[derive(Debug, Serialize)]
pub(super) struct ConversationDiff {
    pub session_id: String,
    pub title: String,
    pub change: Change,
    pub messages_gained: usize,
    pub messages_lost: usize,
}

/// The rollouts of a conversation in the archive and in the home.
#[derive(Debug, Default)]
struct Rollouts {
    archived: Vec<FileEntry>,
    live: Vec<FileEntry>,
}

impl Rollouts {
    /// A moved rollout is the same file.
    fn are_equal(&self) -> bool {
        let facts = |files: &[FileEntry]| {
            let facts = files.iter().map(|file| {
                let name = file.path.as_path().file_name().map(ToOwned::to_owned);
                (name, file.size, file.mtime)
            });
            let mut facts: Vec<_> = facts.collect();
            facts.sort();
            facts
        };
        facts(&self.archived) == facts(&self.live)
    }
}

/// Returns the conversations with other messages, those that lost some first.
///
/// # Errors
/// A rollout cannot be read, or the user interrupts.
pub(super) fn compare(
    archive: &ArchiveReader,
    live: &HomeScan,
    home: &Path,
) -> Result<Vec<ConversationDiff>, CommandError> {
    let mut all: BTreeMap<String, Rollouts> = BTreeMap::new();
    for file in archive.contents().files.iter() {
        if let Some(id) = id_of(&file) {
            all.entry(id).or_default().archived.push(file);
        }
    }
    for file in live.files.iter() {
        if let Some(id) = id_of(&file) {
            all.entry(id).or_default().live.push(file);
        }
    }
    all.retain(|_, rollouts| !rollouts.are_equal());
    let mut changed = Vec::new();
    for (session_id, rollouts) in all {
        if is_interrupted() {
            return Err(CommandError::interrupted());
        }
        let (messages_gained, messages_lost) = count(&rollouts, archive, home)?;
        let is_known = |files: &[FileEntry]| (!files.is_empty()).then_some(());
        let presence = Change::between(is_known(&rollouts.archived), is_known(&rollouts.live));
        let has_other_messages = messages_gained + messages_lost > 0;
        if let Some(change) = presence.or(has_other_messages.then_some(Change::Changed)) {
            changed.push(ConversationDiff {
                session_id,
                title: String::new(),
                change,
                messages_gained,
                messages_lost,
            });
        }
    }
    changed.sort_by_key(|row| row.messages_lost == 0);
    Ok(changed)
}

fn id_of(file: &FileEntry) -> Option<String> {
    let path = file.path.as_path();
    let file = RolloutName::of(path).filter(|_| kind_of(path).is_rollout_folder())?;
    file.id().map(str::to_lowercase)
}

/// Returns the number of messages that only the home has, and of those that only the archive has.
fn count(
    rollouts: &Rollouts,
    archive: &ArchiveReader,
    home: &Path,
) -> Result<(usize, usize), CommandError> {
    let (mut live, mut archived) = (Vec::new(), Vec::new());
    for file in &rollouts.live {
        let path = home.join(file.path.as_path());
        live.extend(messages::read(&path).at("read", &path)?);
    }
    for file in &rollouts.archived {
        let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let path = folder
            .path()
            .join(file.path.as_path().file_name().unwrap_or_default());
        let copy = File::create_new(&path).at("create", &path)?;
        file_extract::extract_entry(archive, file, &copy)?;
        archived.extend(messages::read(&path).at("read", &path)?);
    }
    let missing = |of: &[_], from: &[_]| {
        let mut held = MessageCounts::default();
        held.add(of);
        held.missing(from).len()
    };
    Ok((missing(&archived, &live), missing(&live, &archived)))
}
