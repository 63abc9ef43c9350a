//! The archives with turns that a migration of Codex hid. Their messages are not lost: the rollouts have them.

use crate::context::Context;
use crate::copies::losses::place::CopyPlace;
use crate::copies::losses::places;
use crate::copies::unreadable_fixes::find_restored_id;
use crate::error::CommandError;
use codex_manager_core::archive::reader::ArchiveReader;
use codex_manager_core::history::check::compare;
use codex_manager_core::history::unreadable::UnreadableCause;
use codex_manager_core::inventory::records::ArchiveRecord;
use codex_manager_core::io::progress::check_interrupt;

/// A conversation whose turns a migration hid.
pub(crate) struct HiddenTurns {
    pub(crate) id: String,
    /// The archives in which the turns are not hidden, the newest first.
    pub(crate) places: Vec<CopyPlace>,
}

/// Returns the conversations whose turns a migration hid. Leaves out archives that cannot be read.
///
/// # Errors
/// The home or the trash cannot be listed, or the user interrupts.
pub(crate) fn find_hidden_turns(
    records: &[ArchiveRecord],
    context: &Context,
) -> Result<Vec<HiddenTurns>, CommandError> {
    let database = context.state_database();
    let unreadable = compare(context.codex_home(), database.as_deref(), None)?
        .report
        .unreadable;

    let mut hidden: Vec<_> = unreadable
        .into_iter()
        .filter(|conversation| conversation.cause == UnreadableCause::Boundary)
        .map(|conversation| (conversation, Vec::new()))
        .collect();
    if hidden.is_empty() {
        return Ok(Vec::new());
    }

    for file in places::list_archived_copies(records, context)? {
        check_interrupt().map_err(|_| CommandError::interrupted())?;
        let Ok(archive) = ArchiveReader::open(&file.path) else {
            continue;
        };

        for (conversation, places) in &mut hidden {
            let restored_id = find_restored_id(&archive, conversation).unwrap_or_default();
            if restored_id.is_some() {
                places.push(file.place.clone());
            }
        }
    }

    let hidden = hidden
        .into_iter()
        .map(|(conversation, places)| HiddenTurns {
            id: conversation.id.to_string(),
            places,
        });
    Ok(hidden.collect())
}
