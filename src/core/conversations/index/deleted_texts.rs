//! Deletes texts from the index.

use super::store::IndexStore;
use super::text_spans::delete_matching_texts;
use super::usage_store;
use crate::codex::rollout_lines::Role;

/// The key in `meta` of a flag, which is 1 while the file of the index may still contain words of deleted texts.
pub(super) const ERASE_NEEDED: &str = "erasing";

/// Deletes the usage and the texts of a conversation, including its title.
pub(super) fn delete_conversation_texts(
    store: &IndexStore,
    conversation_id: i64,
) -> rusqlite::Result<()> {
    usage_store::delete_usage(store, conversation_id)?;
    let is_deleted = |_: Role, _: u32| true;
    delete_and_request_erasing(store, conversation_id, is_deleted)?;
    store.execute("DELETE FROM span WHERE conversation=?1", [conversation_id])
}

/// Deletes the texts of all turns after `last_turn`, because the user rolled these turns back.
pub(super) fn delete_turns_after(
    store: &IndexStore,
    conversation_id: i64,
    last_turn: u32,
) -> rusqlite::Result<()> {
    delete_and_request_erasing(store, conversation_id, |role, turn| {
        role != Role::Title && turn > last_turn
    })
}

/// Deletes the texts that `is_deleted` selects, and sets [`ERASE_NEEDED`] if there are any.
fn delete_and_request_erasing(
    store: &IndexStore,
    conversation_id: i64,
    is_deleted: impl Fn(Role, u32) -> bool,
) -> rusqlite::Result<()> {
    if delete_matching_texts(store, conversation_id, is_deleted)? {
        store.execute("INSERT OR REPLACE INTO meta VALUES(?1, 1)", [ERASE_NEEDED])?;
    }
    Ok(())
}
