//! The place through which machines sync: a folder that another program replicates, or a store of immutable
//! snapshots.
//!
//! [`folder`] knows the hazards of a replicated folder: partial files, placeholders, copies that clients make, versions
//! that have not arrived. [`snapshots`] has none of them: it builds a folder from the newest snapshot of each machine,
//! which is complete, and syncs the home with that. So one planner serves both.

pub(crate) mod folder;
mod snapshots;

pub use snapshots::{
    HOME, HomeBefore, Join, MANIFEST, Remote, RemoteError, RemoteSnapshot, SnapshotManifest,
};
pub(crate) use snapshots::{place_fetched, replica_id};
