//! `sync.toml`: the folders, the synced paths, and the policies.
//!
//! Tables and keys are those of codexSync, so that its `config.toml` works unchanged; an absent key has
//! codexSync's default. Only this program has `three_way`, `propagate` and `[[paths.map]]`.
//! [`SyncConfig::warnings`] names unknown keys.

mod choices;
mod error;
mod keys;
mod named_folder;
mod overlap;
mod parse;
mod paths;
mod settings;

pub use choices::{Compare, Compression, ConflictPolicy, DeletePolicy, EqualMtime, SessionMode};
pub use error::SyncConfigError;
pub use named_folder::NamedFolder;
pub use parse::machine_name;
pub use paths::ConfigContext;
pub use settings::{
    BackupOptions, DecisionRules, PathRule, SafetyOptions, ScopeOptions, SyncConfig, SyncPolicy,
};
