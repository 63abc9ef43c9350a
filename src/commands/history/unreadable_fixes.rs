//! Finds the archives that have what Codex needs to show a conversation, or what a rollout lost.

use crate::archive::reader::ArchiveReader;
use crate::codex::rollout::RolloutName;
use crate::context::Context;
use crate::copies::archived::rollouts;
use crate::copies::source::ConversationSource as _;
use crate::error::Result;
use crate::history::rollout;
use crate::history::unreadable::{UnreadableCause, UnreadableConversation};
use crate::inventory::archive_names::{numbered, typed_name};
use std::path::Path;

/// Sets the command of each conversation that `history repair` cannot repair: that which restores it from the newest
/// archive with its turns. Archives that cannot be read are left out.
pub(super) fn find_fixes(unreadable: &mut [UnreadableConversation], context: &Context) {
    if !unreadable.iter().any(needs_archive) {
        return;
    }
    let records = context.archives().unwrap_or_default();
    let home = context.codex_home().display().to_string();
    for record in numbered(&records) {
        let mut open = unreadable
            .iter_mut()
            .filter(|one| needs_archive(one))
            .peekable();
        if open.peek().is_none() {
            return;
        }
        if record.metadata.source_codex_home != home || !record.is_usable() {
            continue;
        }
        let path = context.backups().join(&record.path);
        // `verify` names the damage; here another archive may help.
        let Ok(archive) = ArchiveReader::open(&path) else {
            continue;
        };
        for one in open.filter(|one| has_turns(&archive, one).unwrap_or(false)) {
            one.fix = Some(format!(
                "codex-manager restore {} --session {}",
                typed_name(record),
                one.id
            ));
        }
    }
}

/// Returns true if no archive with the turns of a conversation is known, and one may have them.
fn needs_archive(one: &UnreadableConversation) -> bool {
    let is_shortened = matches!(one.cause, UnreadableCause::Shortened { .. });
    one.fix.is_none() || is_shortened && one.is_repairable()
}

/// Returns true if an archive has the missing rollout, a longer copy of a shortened one, or the conversation without the boundary that hides it.
fn has_turns(archive: &ArchiveReader, one: &UnreadableConversation) -> Result<bool> {
    let rollouts = rollouts(archive.files());
    match &one.cause {
        UnreadableCause::MissingBase(id) => Ok(rollouts
            .values()
            .flatten()
            .any(|entry| is_rollout(entry.path.as_path(), id))),
        UnreadableCause::Shortened { rollout_id, bytes } => Ok(rollouts
            .values()
            .flatten()
            .any(|entry| entry.size > *bytes && is_rollout(entry.path.as_path(), rollout_id))),
        UnreadableCause::Boundary => {
            let entry = rollouts.get(&one.id.to_string()).and_then(|all| all.last());
            let Some(entry) = entry else {
                return Ok(false);
            };
            let beginning = archive.beginning(entry)?;
            let meta = rollout::head_in(&beginning, entry.path.as_path()).unwrap_or_default();
            Ok(meta.is_some_and(|meta| meta.subagent_start().is_none()))
        }
        _ => Ok(false),
    }
}

fn is_rollout(path: &Path, id: &str) -> bool {
    let file = RolloutName::of(path);
    let own = file.as_ref().and_then(RolloutName::rollout_id);
    own.is_some_and(|own| own.eq_ignore_ascii_case(id))
}
