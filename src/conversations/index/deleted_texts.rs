//! Deletes texts from the index.

use super::store::IndexStore;
use super::text_spans;
use super::usage_store;

/// The key in `meta` of a 1 while the file of the index may have words of deleted texts.
pub(super) const ERASING: &str = "erasing";

/// Deletes the usage and the texts of a conversation, including its title.
pub(super) fn delete_texts(store: &IndexStore, conversation: i64) -> rusqlite::Result<()> {
    usage_store::delete(store, conversation)?;
    delete_messages(store, conversation, "")?;
    store.execute("DELETE FROM span WHERE conversation=?1", [conversation])
}

/// Deletes the texts of the turns after `turn`, which the user rolled back.
pub(super) fn delete_turns_after(
    store: &IndexStore,
    conversation: i64,
    turn: u32,
) -> rusqlite::Result<()> {
    delete_messages(store, conversation, &format!("AND turn > {turn}"))
}

fn delete_messages(store: &IndexStore, conversation: i64, which: &str) -> rusqlite::Result<()> {
    let connection = &store.connection;
    let all = format!("FROM message WHERE id BETWEEN ?1 AND ?2 {which}");
    for range in text_spans::list_ranges(store, conversation)? {
        let mut insert = connection.prepare(&format!("INSERT INTO dead SELECT id {all}"))?;
        if insert.execute(range)? > 0 {
            store.execute("INSERT OR REPLACE INTO meta VALUES(?1, 1)", [ERASING])?;
            store.execute(&format!("DELETE {all}"), range)?;
        }
    }
    Ok(())
}
