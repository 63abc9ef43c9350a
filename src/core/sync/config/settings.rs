//! The validated values of a configuration.

use crate::io::settings::SettingsError;
use crate::logging::LogSettings;
use crate::shutdown::ShutdownSettings;
use clap::ValueEnum;
use std::path::PathBuf;

/// A validated configuration with absolute paths.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// Path of the configuration file.
    pub path: PathBuf,
    /// Name of this machine in file names, as [`sanitize_machine_name`](super::sanitize_machine_name) returns it.
    pub machine_id: String,
    /// Path of the Codex home.
    pub local: PathBuf,
    pub remote: SyncRemote,
    /// Path of the folder that another program replicates. With [`SyncRemote::Vault`], path of the staged folder that
    /// replaces it during a run.
    pub cloud: PathBuf,
    /// `sync.keep_snapshots`: number of snapshots of this machine that stay in the vault.
    pub keep_snapshots: usize,
    /// Rules of `[[paths.map]]`, in file order.
    pub path_rules: Vec<PathRule>,
    pub scope: ScopeOptions,
    pub policy: SyncPolicy,
    pub backup: BackupOptions,
    pub safety: SafetyOptions,
    /// `[logging]`; without a file, the log is in the manager home.
    pub logging: LogSettings,
    /// `state.manifest_file`: codexSync's state, imported at the first sync.
    pub codexsync_manifest: Option<PathBuf>,
    /// Warnings about keys that have no effect.
    pub warnings: Vec<String>,
}

/// A rule of `[[paths.map]]`: a project folder of another machine and its local counterpart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct PathRule {
    /// Prefix of a path on the other machine.
    pub from: String,
    /// Replacement for the prefix on this machine.
    pub to: String,
}

/// The tables `[targets]` and `[filters]`, and `sync.session_mode`: the synced files.
#[derive(Debug, Clone)]
pub struct ScopeOptions {
    /// Synced paths, relative to the home with `/`; empty for all that may be synced.
    pub roots: Vec<String>,
    /// Globs of paths that are not synced.
    pub exclude: Vec<String>,
    pub session_mode: SessionMode,
}

/// The tables `[sync]` and `[conflict]`: the comparison of files and the treatment of conflicts and deletions.
#[derive(Debug, Clone, Copy)]
pub struct SyncPolicy {
    pub rules: DecisionRules,
    /// Mtimes that differ by at most this many nanoseconds are equal.
    pub tolerance_nanos: i128,
    /// True if output lists the conflicts.
    pub report_conflicts: bool,
}

/// The settings that affect the [decision](crate::sync::decide) about a file: `sync.compare`,
/// `sync.equal_mtime_action`, `conflict.policy` and `sync.delete_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionRules {
    pub compare: Compare,
    pub equal_mtime: EqualMtime,
    pub conflict: ConflictPolicy,
    pub delete: DeletePolicy,
}

/// The table `[backup]`: snapshots of files before they are overwritten.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// `paths.backup_dir`: folder of the snapshots.
    pub folder: PathBuf,
    /// `backup_before_overwrite`: copy files to a snapshot before overwriting them.
    pub before_overwrite: bool,
    /// Age in days at which this program removes its snapshots; 0 keeps them.
    pub retention_days: u64,
    /// Number of its snapshots that this program keeps; 0 is no limit.
    pub max_backups: u64,
    pub compression: SnapshotCompression,
}

/// The tables `[safety]` and `[process_detection]`, and `sync.dry_run_default`: conditions for writing.
#[derive(Debug, Clone)]
pub struct SafetyOptions {
    /// True if `sync run` without a flag only shows the plan.
    pub dry_run_default: bool,
    /// True if nothing may be written while Codex runs.
    pub require_codex_stopped: bool,
    /// True if nothing may be written when running processes cannot be detected.
    pub fail_on_unknown: bool,
    /// `[process_detection]`: the names of Codex programs, and the settings for ending them.
    pub shutdown: ShutdownSettings,
}

/// The store through which machines sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SyncRemote {
    /// A folder that another program replicates.
    #[default]
    Folder,
    /// The repository of the vault.
    Vault,
}

impl SyncRemote {
    /// Returns the name of the store in messages, without an article.
    pub fn label(self) -> &'static str {
        match self {
            Self::Folder => "cloud folder",
            Self::Vault => "vault",
        }
    }

    /// Returns the place of the remote version in messages.
    pub(crate) fn describe_place(self) -> &'static str {
        match self {
            Self::Folder => "in the cloud folder",
            Self::Vault => "in the vault",
        }
    }
}

/// The comparison of plain files that no sync has recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Compare {
    /// By size and mtime; the newer file wins.
    #[default]
    Mtime,
    /// By size and mtime, and by content if both are equal.
    MtimeHashFallback,
    /// By content; differing files are a conflict, whatever their mtimes, unless one continues the other.
    ThreeWay,
}

/// The treatment of differing plain files with equal mtimes that no sync has recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum EqualMtime {
    /// Both files are left as they are.
    #[default]
    Skip,
    /// The local file is copied.
    PreferLocal,
    /// The remote file is copied.
    PreferCloud,
    /// The files are a conflict.
    ManualAbort,
}

/// The version that wins a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// No version wins. The run stops without writing anything, as in codexSync.
    #[default]
    ManualAbort,
    /// No version wins. The file stays as it is on both sides, and sync goes on with the other files.
    Manual,
    /// The remote version wins.
    PreferCloud,
    /// The local version wins.
    PreferLocal,
    /// The version with the later mtime wins.
    PreferNewerMtime,
}

/// The conversations that are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SessionMode {
    #[default]
    All,
    /// Of the conversations in `sessions/`, only those in the latest date folder are synced, and those that they
    /// continue.
    LastDateOnly,
}

/// The treatment of a file that was deleted on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum DeletePolicy {
    /// The file is copied back from the other side.
    #[default]
    Never,
    /// The file is deleted on the other side too, unless there are many deletions.
    Propagate,
}

/// The form of the backup before overwriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SnapshotCompression {
    /// A folder of plain files per snapshot.
    #[default]
    None,
    /// One `.zip` file per snapshot.
    Zip,
}

#[derive(Debug, thiserror::Error)]
pub enum SyncConfigError {
    #[error("the configuration does not exist: {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read, or a key has an invalid value.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Two folders overlap that must be separate.
    #[error("{inner} is inside {outer}: {}", path.display())]
    Overlap {
        inner: String,
        outer: String,
        path: PathBuf,
    },
}
