//! Sync through a store of immutable snapshots, such as the repository of the vault, instead of a replicated folder.
//!
//! The newest snapshot of each machine has all synced files of its Codex home, with a manifest
//! ([`SnapshotManifest`]). A run joins the snapshots of the other machines and publishes its own, by one atomic commit:
//!
//! 1. [`Join::open`] lists the snapshots, and reads the manifests of those that are new;
//! 2. [`Join::idle_plan`] ends a run that has nothing to do;
//! 3. [`Join::stage`] builds a folder that takes the place of a cloud folder: the files that this machine published
//!    last, conversations as hard links to the home, with the unmerged changes of other machines ([`causality`]);
//! 4. [`plan`](crate::sync::plan) and [`apply`](crate::sync::apply) sync the home with that folder;
//! 5. [`Join::settle`] determines the merged versions and those that wait for a decision;
//! 6. [`Join::publish`] makes the folder this machine's newest snapshot.
//!
//! So one planner serves both kinds of sync, and no hazard of a cloud folder occurs: the staged folder is complete, its
//! manifests list all of it, and only this run changes it. A version that waits for a decision stays in the snapshot of
//! its machine.

mod causality;
mod error;
mod heads;
mod idle;
mod incoming;
mod join;
mod listing;
mod other_machine;
mod position;
mod run_state;
mod snapshot_manifest;
mod stage;
mod staged_tree;
mod store;

pub use error::RemoteError;
pub(crate) use heads::find_heads;
pub use join::Join;
pub use position::replica_id;
pub use snapshot_manifest::SnapshotManifest;
pub(crate) use staged_tree::place_fetched;
pub use store::{HOME, MANIFEST, Publication, Remote, RemoteSnapshot};
