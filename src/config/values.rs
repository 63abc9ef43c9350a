//! The values of all settings, with their defaults.

use chrono::TimeDelta;
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::reuse::VerifyReused;
use codex_manager_core::io::retention::RetentionPolicy;
use codex_manager_core::launch::folders::FolderSettings;
use codex_manager_core::quota::recommend::Strategy;
use codex_manager_core::vault::password::NamedPassword;
use std::path::PathBuf;

/// The choice of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always, even if output is piped.
    Always,
    /// Never, not even on a terminal.
    Never,
}

/// Decides whether a new version of Codex starts only after an archive was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum BeforeNewCodex {
    /// On a terminal, the user is asked whether to make one.
    #[default]
    Ask,
    /// An archive is made.
    Auto,
    /// Codex starts without one.
    Off,
}

/// Defaults of commands. If a command has a flag for one of them, the flag takes precedence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preferences {
    pub(crate) color: ColorChoice,
    /// The archive before `launch` and `resume` start a new version of Codex.
    pub(crate) before_new_codex: BeforeNewCodex,
    pub(crate) compression: Compression,
    pub(crate) exclude: Vec<String>,
    pub(crate) include_tmp: bool,
    pub(crate) include_worktrees: bool,
    /// The share of the previous archive's data that a backup checks before reusing it.
    pub(crate) verify_reused: VerifyReused,
    /// The assumed hours between the first use and the end of the weekly quota of a legacy file.
    pub(crate) session_duration_hours: f64,
    pub(crate) strategy: Strategy,
    /// True if `recommend` may name API keys, which are billed by use.
    pub(crate) include_api_key: bool,
    pub(crate) keep: RetentionPolicy,
    /// The days for which `prune` keeps the last copy of a conversation that the home lacks; 0 turns this off.
    pub(crate) keep_gone_days: u32,
    pub(crate) keep_trash: TimeDelta,
    /// The file with prices of models, as written in the file.
    pub(crate) prices: Option<PathBuf>,
    /// The account of each folder, and the homes that may have logins although others can read them.
    pub(crate) folders: FolderSettings,
    pub(crate) notify: NotifySettings,
    pub(crate) vault: VaultSettings,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotifySettings {
    /// The program that shows a notification, with arguments or without.
    pub(crate) command: Option<String>,
    /// The age of the newest backup, in days, from which `notify` reports it; 0 for never.
    pub(crate) backup_days: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct VaultSettings {
    pub(crate) repository: Option<String>,
    /// The restic program, a path or a name.
    pub(crate) program: Option<PathBuf>,
    pub(crate) password: NamedPassword,
}

/// The validated values of the file. A missing key is `None` or its default.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConfigValues {
    /// `timezone`, a known IANA name.
    pub(crate) timezone: Option<String>,
    /// `codex.home`, as written in the file.
    pub(crate) codex_home: Option<PathBuf>,
    /// `codex.bin`, as written in the file.
    pub(crate) codex_bin: Option<PathBuf>,
    /// All other settings, which only commands use.
    pub(crate) preferences: Preferences,
}
