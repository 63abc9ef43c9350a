//! Phase 2: the locked target, its staging folders, and the new state that is built in them.

pub(crate) mod disk_probes;
pub(crate) mod equal_rollouts;
pub(crate) mod extract;
pub(crate) mod linked_roots;
pub(crate) mod merge;
pub(crate) mod staged_home;
pub(crate) mod workspace;

pub use disk_probes::list_mounts;
