//! The state of the last sync of one replica, that is, of one pair of a home and a cloud folder. Stored on
//! this machine.
//!
//! `state.jsonl` has a header and a line for each file; a later line of a file replaces an earlier one. A run
//! appends what it has done, so a kill loses only the line that it tore. The end of a run rewrites the file, unless the
//! run changed nothing.

mod lines;
mod replica;
mod sync_state;

pub(crate) use lines::StateJournal;
pub use replica::Replica;
pub use sync_state::SyncState;
pub(crate) use sync_state::{Deletion, OwnManifests, SideFile, StateDamage, SyncedFile};
