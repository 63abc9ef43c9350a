//! The place through which machines sync: a folder that another program replicates, or a store of immutable
//! snapshots.
//!
//! [`folder`] handles the hazards of a replicated folder: partial files, placeholders, copies that clients make,
//! versions still on their way. [`snapshots`] has no such hazards: it builds a complete folder from the newest snapshot
//! of each machine and syncs the home with that folder. So one planner serves both.

pub mod folder;
mod snapshots;

pub(crate) use snapshots::place_fetched;
pub use snapshots::replica_id;
pub use snapshots::{HOME, Join, MANIFEST, Remote, RemoteError, RemoteSnapshot, SnapshotManifest};
