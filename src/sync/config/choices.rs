//! Settings that are one of a fixed set of names.

use clap::ValueEnum;

/// The comparison of files if there is no state of a last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Compare {
    /// By size and mtime; the newer file wins.
    #[default]
    Mtime,
    /// By size and mtime, and by content if both are equal.
    MtimeHashFallback,
    /// By content; differing files are a conflict, whatever their mtimes.
    ThreeWay,
}

/// The treatment of differing files with equal mtimes if there is no state of a last sync.
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
    /// None; the run stops without writing anything, as in codexSync.
    #[default]
    ManualAbort,
    /// None; the file stays as it is on both sides, and all others are synced.
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
    /// Only conversations in the latest date folder of `sessions/` are synced.
    LastDateOnly,
}

/// The treatment of a file that was deleted on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum DeletePolicy {
    /// It is copied back from the other side.
    #[default]
    Never,
    /// It is deleted there too, after a backup, unless there are many deletions.
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
