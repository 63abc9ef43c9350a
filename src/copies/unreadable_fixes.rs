//! Finds archives for conversations that Codex cannot show as a whole, or of which a rollout was shortened.

use crate::context::Context;
use crate::copies::archived::group_rollouts_by_conversation;
use crate::copies::source::ConversationSource as _;
use crate::error::Result;
use codex_manager_core::archive::{ArchiveReader, FileEntry};
use codex_manager_core::codex::parse_rollout_id;
use codex_manager_core::codex::rollout::{decompress, is_plain};
use codex_manager_core::history::rollout;
use codex_manager_core::history::unreadable::{UnreadableCause, UnreadableConversation};
use codex_manager_core::inventory::archive_names::{list_numbered, shortest_name};
use codex_manager_core::inventory::losses;
use codex_manager_core::io::{IoContext as _, shell};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read as _, Seek as _};

/// Sets the fixes of conversations that `history repair` cannot repair, or that have a shortened rollout. The fix is
/// the command that restores the conversation from the newest archive with its turns; without such an archive, the fix
/// stays as it is. If the user accepted the losses of a conversation, the fix `history repair` of its shortened rollout
/// stays too. Skips archives that cannot be read.
pub(crate) fn set_restore_fixes(unreadable: &mut [UnreadableConversation], context: &Context) {
    let accepted_ids = read_accepted_ids(context);
    let needs_archive = |c: &UnreadableConversation| needs_archive(c, &accepted_ids);
    // Without this check, the list of archives would be read even if no conversation needs an archive.
    if !unreadable.iter().any(needs_archive) {
        return;
    }

    let records = context.archives().unwrap_or_default();
    let home = context.codex_home();
    for record in list_numbered(&records) {
        if !record.is_usable() || !record.metadata.records_home(home) {
            continue;
        }
        let Ok(archive) = ArchiveReader::open(&context.backups().join(&record.path)) else {
            continue;
        };

        // The archives come newest first, so a conversation that has its command is done.
        let without_fix = unreadable.iter_mut().filter(|c| needs_archive(c));
        for conversation in without_fix {
            if let Some(id) = find_restored_id(&archive, conversation).unwrap_or_default() {
                let name = shell::quote_if_needed(&shortest_name(record));
                conversation.fix = Some(format!("codex-manager restore {name} --session {id}"));
            }
        }
        if !unreadable.iter().any(needs_archive) {
            return;
        }
    }
}

/// Returns the ids of the conversations whose losses the user accepted, without those with another known loss. Empty if
/// the record cannot be read.
fn read_accepted_ids(context: &Context) -> HashSet<String> {
    let home = losses::home_key(context.codex_home());
    let record = losses::read(context.manager_home()).unwrap_or_default();
    let mut ids: HashSet<_> = record.accepted_in(&home).ids().cloned().collect();
    // `losses` has only the losses that the user did not accept.
    for loss in record.losses.iter().filter(|loss| loss.home == home) {
        ids.remove(&loss.session_id);
    }
    ids
}

/// Returns true if an archive with the missing turns of the conversation is still to be found. Until one is found, the
/// fix of a shortened rollout is `history repair`.
fn needs_archive(conversation: &UnreadableConversation, accepted_ids: &HashSet<String>) -> bool {
    let is_shortened = matches!(conversation.cause, UnreadableCause::Shortened { .. });
    let has_unaccepted_loss = is_shortened && !accepted_ids.contains(&conversation.id.to_string());
    conversation.fix.is_none() || has_unaccepted_loss && conversation.is_repairable()
}

/// Returns the id of the conversation to restore from the archive, so that Codex shows `conversation` as a whole. The
/// archive has to have the missing rollout up to the cut, a longer copy of the shortened rollout, or the conversation
/// without the boundary that hides turns. Returns `None` for any other archive.
///
/// # Errors
/// The archive cannot be read.
pub(crate) fn find_restored_id(
    archive: &ArchiveReader,
    conversation: &UnreadableConversation,
) -> Result<Option<String>> {
    let rollouts = group_rollouts_by_conversation(archive.files());
    let id = conversation.id.to_string();

    match &conversation.cause {
        UnreadableCause::MissingBase(cut) => {
            // A copy that ends at the cut is long enough, so it must have more than `end` bytes.
            let end = cut.offset.saturating_sub(1);
            let owner = find_owner_of_longer_copy(archive, &rollouts, &cut.rollout_id, end)?;
            // An archive from before the fork has only the base.
            let own_id = rollouts.contains_key(&id).then_some(id);
            Ok(owner.map(|owner| own_id.unwrap_or(owner)))
        }

        UnreadableCause::Shortened { rollout_id, bytes } => {
            let owner = find_owner_of_longer_copy(archive, &rollouts, rollout_id, *bytes)?;
            Ok(owner.is_some().then_some(id))
        }

        UnreadableCause::Boundary => {
            let Some(entry) = rollouts.get(&id).and_then(|entries| entries.last()) else {
                return Ok(None);
            };
            let beginning = archive.read_beginning(entry)?;
            let meta = rollout::parse_prefix(&beginning, entry.path.as_path()).unwrap_or_default();
            let shows_all = meta.is_some_and(|meta| meta.subagent_start().is_none());
            Ok(shows_all.then_some(id))
        }
        _ => Ok(None),
    }
}

/// Returns the id of the conversation that owns the rollout `rollout_id`, if the archive has more than `bytes` bytes of
/// its plain text.
fn find_owner_of_longer_copy(
    archive: &ArchiveReader,
    rollouts: &BTreeMap<String, Vec<FileEntry>>,
    rollout_id: &str,
    bytes: u64,
) -> Result<Option<String>> {
    for (owner, entries) in rollouts {
        let copies = entries.iter().filter(|e| has_rollout_id(e, rollout_id));
        for entry in copies {
            if is_longer(archive, entry, bytes)? {
                return Ok(Some(owner.clone()));
            }
        }
    }
    Ok(None)
}

/// Returns true if the plain text of an archived rollout has more than `bytes` bytes.
fn is_longer(archive: &ArchiveReader, entry: &FileEntry, bytes: u64) -> Result<bool> {
    let path = entry.path.as_path();
    // The text of a compressed rollout is longer than its file.
    if is_plain(path) || entry.size > bytes {
        return Ok(entry.size > bytes);
    }
    let mut file = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
    archive.extract(entry, &file)?;
    file.rewind().at("read", path)?;
    let text = decompress(file).at("read", path)?;
    let copied = io::copy(&mut text.take(bytes.saturating_add(1)), &mut io::sink());
    Ok(copied.at("read", path)? > bytes)
}

fn has_rollout_id(entry: &FileEntry, id: &str) -> bool {
    parse_rollout_id(entry.path.as_path()).is_some_and(|entry_id| entry_id.eq_ignore_ascii_case(id))
}
