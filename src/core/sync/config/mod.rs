//! `sync.toml`: the folders, the synced paths, and the policies.
//!
//! Tables and keys are those of codexSync, so that its `config.toml` works unchanged; an absent key has codexSync's
//! default. Only this program has `sync.remote`, `sync.keep_snapshots`, `sync.compare = "three_way"`,
//! `sync.delete_policy = "propagate"`, `conflict.policy = "manual"` and `[[paths.map]]`. [`SyncConfig::warnings`] names
//! unknown keys.
//!
//! I want to add a key → `keys` (the table) and `settings` (its place in [`SyncConfig`]), which `parse`
//! connects. I want another rule for folders → `overlap`. I want another type of value →
//! [`crate::io::settings`].

mod keys;
mod overlap;
mod parse;
mod paths;
mod settings;

pub use parse::sanitize_machine_name;
pub use paths::ConfigContext;
pub(crate) use settings::{
    BackupOptions, DecisionRules, EqualMtime, PathRule, SessionMode, SnapshotCompression,
};
pub use settings::{
    Compare, ConflictPolicy, DeletePolicy, SyncConfig, SyncConfigError, SyncRemote,
};
