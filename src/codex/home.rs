//! What the files of a Codex home are.
//!
//! The one list of Codex's own names (0.169). Rules for transient files apply to Codex's own paths
//! only: inside `skills/`, `prompts/`, `rules/`, `memories/` and `plugins/` everything is the user's.

use crate::io::atomic::with_suffix;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// The name of the login file.
pub const AUTH_JSON: &str = "auth.json";
/// The name of the settings file.
pub const CONFIG_TOML: &str = "config.toml";
/// The folder of conversations.
pub const SESSIONS: &str = "sessions";
/// The folder of archived conversations: flat.
pub const ARCHIVED_SESSIONS: &str = "archived_sessions";
/// The folder inside a home that may hold databases.
pub const SQLITE_FOLDER: &str = "sqlite";
/// The database of threads. Its number changes with Codex's versions.
pub const STATE_DATABASE_PREFIX: &str = "state_";
/// The database that projects rollouts.
pub const HISTORY_DATABASE_PREFIX: &str = "thread_history_";
/// Where Codex moves databases that it cannot read.
pub const DB_BACKUPS: &str = "db-backups";
/// The folder of locks that Codex holds while it writes a conversation.
pub const THREAD_LOCKS: &str = "thread-writer-locks";

/// What a path below a Codex home is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HomeEntryKind {
    /// auth.json.
    Auth,
    /// config.toml.
    Config,
    /// The id of this installation: never cloned over another.
    InstallationId,
    /// version.json.
    Version,
    /// rules.
    Rules,
    /// sessions/.
    Sessions,
    /// `archived_sessions/`.
    ArchivedSessions,
    /// `session_index.jsonl`: names of conversations.
    SessionIndex,
    /// history.jsonl: prompts typed.
    History,
    /// A SQLite database of Codex.
    Database,
    /// What SQLite keeps beside a database: folded into its snapshot.
    DatabaseSidecar,
    /// `models_cache.json`.
    ModelsCache,
    /// The user's skills, prompts, memories, plugins and AGENTS.md.
    UserContent,
    /// A `*_auth.json` that the user keeps in the home.
    LegacyAuth,
    /// `tmp/` and `.tmp/`.
    Tmp,
    /// What Codex makes again, or what is bound to the running machine.
    Transient,
    /// Anything else: the user's, or of a version that is not known here.
    Unknown,
}

impl HomeEntryKind {
    /// Whether it is never captured, and left alone by a restore.
    pub fn is_excluded(self, include_tmp: bool) -> bool {
        match self {
            Self::Transient | Self::DatabaseSidecar => true,
            Self::Tmp => !include_tmp,
            _ => false,
        }
    }

    /// Whether it belongs to the login and the settings.
    pub fn is_account(self) -> bool {
        matches!(
            self,
            Self::Auth | Self::Config | Self::InstallationId | Self::Version | Self::Rules
        )
    }

    /// Whether it belongs to the conversations.
    pub fn is_conversation(self) -> bool {
        matches!(
            self,
            Self::Sessions
                | Self::ArchivedSessions
                | Self::SessionIndex
                | Self::History
                | Self::Database
        )
    }

    /// Whether it is part of what somebody would miss, and can only be files and folders.
    pub fn is_expected_file(self) -> bool {
        self.is_account() || self.is_conversation() || self == Self::LegacyAuth
    }

    /// Whether a link in its place counts as what it leads to, wherever that is.
    pub fn is_followed_through_links(self) -> bool {
        matches!(self, Self::Auth | Self::Config | Self::Database)
    }

    /// Whether a link in its place may be kept as one. What Codex writes through such a link would
    /// land in another file.
    pub fn can_be_link(self) -> bool {
        !matches!(
            self,
            Self::Auth
                | Self::Config
                | Self::Database
                | Self::DatabaseSidecar
                | Self::History
                | Self::SessionIndex
        )
    }

    /// Whether it is a folder or file of rollouts.
    pub fn is_rollout_folder(self) -> bool {
        matches!(self, Self::Sessions | Self::ArchivedSessions)
    }
}

/// The kind of a path relative to the home. Databases are recognised by name here; whether the
/// file really is one is for whoever opens it.
pub fn kind_of(relative: &Path) -> HomeEntryKind {
    let mut parts = relative.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let Some(top) = parts.next() else {
        return HomeEntryKind::Unknown;
    };
    let second = parts.next();
    // Where a file system of its own is mounted on a top-level folder, a restore works in there.
    let is_of_restore = |name: &OsStr| {
        // The second under several names: what cannot be removed is set aside.
        let ours = [&b".codex-manager-undone-"[..], b".codex-manager-restore"];
        let name = name.as_encoded_bytes();
        ours.iter().any(|begin| name.starts_with(begin))
    };
    if is_manager_name(top) || second.is_some_and(is_of_restore) {
        return HomeEntryKind::Transient;
    }
    let Some(top) = top.to_str() else {
        return HomeEntryKind::Unknown;
    };
    match (top, second) {
        (AUTH_JSON, None) => HomeEntryKind::Auth,
        (CONFIG_TOML, None) => HomeEntryKind::Config,
        ("installation_id", None) => HomeEntryKind::InstallationId,
        ("version.json", None) => HomeEntryKind::Version,
        ("models_cache.json", None) => HomeEntryKind::ModelsCache,
        ("history.jsonl", None) => HomeEntryKind::History,
        ("session_index.jsonl", None) => HomeEntryKind::SessionIndex,
        ("AGENTS.md" | "AGENTS.override.md", None) => HomeEntryKind::UserContent,
        ("rules", _) => HomeEntryKind::Rules,
        (SESSIONS, _) => HomeEntryKind::Sessions,
        (ARCHIVED_SESSIONS, _) => HomeEntryKind::ArchivedSessions,
        ("skills", Some(name)) if name == OsStr::new(".system") => HomeEntryKind::Transient,
        ("skills" | "prompts" | "memories" | "plugins", _) => HomeEntryKind::UserContent,
        ("tmp" | ".tmp", _) => HomeEntryKind::Tmp,
        (
            "packages"
            | DB_BACKUPS
            | "shell_snapshots"
            | "app-server-control"
            | "app-server-daemon"
            | "mcp-oauth-locks"
            | THREAD_LOCKS
            | "tui-thread-reference-capabilities",
            _,
        ) => HomeEntryKind::Transient,
        (SQLITE_FOLDER, Some(name)) if parts.next().is_none() => {
            name.to_str().map_or(HomeEntryKind::Unknown, database_kind)
        }
        (name, None) => top_level_file(name),
        _ => HomeEntryKind::Unknown,
    }
}

/// Whether a top-level name is, in any spelling, one of Codex's own.
pub fn is_codex_name(top: &OsStr) -> bool {
    top.to_str().is_some_and(|name| {
        !matches!(
            kind_of(Path::new(&name.to_lowercase())),
            HomeEntryKind::Unknown | HomeEntryKind::LegacyAuth
        )
    })
}

/// Whether a top-level name is one of those that this program gives to its own files and folders in
/// a home, in any spelling: what stands there is believed.
pub fn is_manager_name(top: &OsStr) -> bool {
    const OURS: &[u8] = b".codex-manager";
    top.as_encoded_bytes()
        .get(..OURS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

fn top_level_file(name: &str) -> HomeEntryKind {
    let database = database_kind(name);
    if database != HomeEntryKind::Unknown {
        return database;
    }
    if name.starts_with(".auth-") {
        return HomeEntryKind::Transient;
    }
    if let Some(locked) = name.strip_suffix(".lock") {
        let own = locked == "auth"
            || !matches!(
                kind_of(Path::new(locked)),
                HomeEntryKind::Unknown | HomeEntryKind::UserContent
            );
        return if own {
            HomeEntryKind::Transient
        } else {
            HomeEntryKind::Unknown
        };
    }
    if name.ends_with("_auth.json") {
        HomeEntryKind::LegacyAuth
    } else {
        HomeEntryKind::Unknown
    }
}

fn database_kind(name: &str) -> HomeEntryKind {
    if name.ends_with(".sqlite") {
        HomeEntryKind::Database
    } else if SIDECAR_SUFFIXES.iter().any(|suffix| {
        name.strip_suffix(suffix)
            .is_some_and(|base| base.ends_with(".sqlite"))
    }) {
        HomeEntryKind::DatabaseSidecar
    } else {
        HomeEntryKind::Unknown
    }
}

/// What SQLite appends to a database's name for the files beside it.
pub const SIDECAR_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The files that SQLite may keep beside the database at `path`.
pub fn database_sidecars(path: &Path) -> [PathBuf; 3] {
    SIDECAR_SUFFIXES.map(|suffix| with_suffix(path, suffix))
}

/// Whether the file name is one that Codex gives to its databases: a name and a version, as in
/// `state_5.sqlite`.
pub fn is_versioned_database(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let parts = name.and_then(|name| name.strip_suffix(".sqlite")?.rsplit_once('_'));
    parts.is_some_and(|(name, version)| {
        !name.is_empty() && !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether the file name is that of a database whose name begins with `prefix`.
pub fn is_database_named(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with(prefix) && name.ends_with(".sqlite"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_transient_files_hold_for_codex_paths_alone() {
        for (path, kind) in [
            ("auth.json", HomeEntryKind::Auth),
            ("auth.json.lock", HomeEntryKind::Transient),
            ("auth.lock", HomeEntryKind::Transient),
            ("session_index.jsonl.lock", HomeEntryKind::Transient),
            (".auth-a1b2c3", HomeEntryKind::Transient),
            ("yarn.lock", HomeEntryKind::Unknown),
            ("skills/mine/yarn.lock", HomeEntryKind::UserContent),
            ("skills/mine/tmp/x", HomeEntryKind::UserContent),
            ("skills/.system/x", HomeEntryKind::Transient),
            ("prompts/packages/x", HomeEntryKind::UserContent),
            ("plugins/x/state.sqlite-wal", HomeEntryKind::UserContent),
            ("state_5.sqlite", HomeEntryKind::Database),
            ("state_77.sqlite-wal", HomeEntryKind::DatabaseSidecar),
            ("sqlite/state_5.sqlite", HomeEntryKind::Database),
            ("sqlite/state_5.sqlite-shm", HomeEntryKind::DatabaseSidecar),
            ("sqlite/deep/state_5.sqlite", HomeEntryKind::Unknown),
            ("sessions/2026/11/01/x.jsonl", HomeEntryKind::Sessions),
            ("21apr_a@b.c_auth.json", HomeEntryKind::LegacyAuth),
            ("tmp/x", HomeEntryKind::Tmp),
            ("packages/x", HomeEntryKind::Transient),
            ("notes.txt", HomeEntryKind::Unknown),
            ("projects/tmp/x", HomeEntryKind::Unknown),
            (
                ".codex-manager-restore/journal.json",
                HomeEntryKind::Transient,
            ),
            (".Codex-Manager/x", HomeEntryKind::Transient),
            (
                "sessions/.codex-manager-restore/new/x",
                HomeEntryKind::Transient,
            ),
            (
                "sessions/.codex-manager-restore.old-1/new/x",
                HomeEntryKind::Transient,
            ),
        ] {
            assert_eq!(kind_of(Path::new(path)), kind, "{path}");
        }
    }
}
