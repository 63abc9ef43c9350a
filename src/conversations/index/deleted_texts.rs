//! Deletes texts from the index.

use super::store::IndexStore;
use super::text_spans::delete_chosen;
use super::usage_store;
use crate::codex::rollout_lines::Role;

/// The key in `meta` of a 1 while the file of the index may have words of deleted texts.
pub(super) const ERASING: &str = "erasing";

/// Deletes the usage and the texts of a conversation, including its title.
pub(super) fn delete_texts(store: &IndexStore, conversation: i64) -> rusqlite::Result<()> {
    usage_store::delete(store, conversation)?;
    mark_erasing(store, delete_chosen(store, conversation, |_, _| true)?)?;
    store.execute("DELETE FROM span WHERE conversation=?1", [conversation])
}

/// Deletes the texts of the turns after turn `last`, which the user rolled back.
pub(super) fn delete_turns_after(
    store: &IndexStore,
    conversation: i64,
    last: u32,
) -> rusqlite::Result<()> {
    let is_deleted = |role, turn| role != Role::Title && turn > last;
    mark_erasing(store, delete_chosen(store, conversation, is_deleted)?)
}

fn mark_erasing(store: &IndexStore, has_deleted: bool) -> rusqlite::Result<()> {
    if has_deleted {
        store.execute("INSERT OR REPLACE INTO meta VALUES(?1, 1)", [ERASING])?;
    }
    Ok(())
}
