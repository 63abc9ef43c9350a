//! The ids of snapshots.

/// Returns the first 8 characters of a snapshot id, as restic displays it.
pub fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
