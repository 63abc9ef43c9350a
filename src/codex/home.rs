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
pub enum Kind {
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

impl Kind {
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
    pub fn is_behind_links(self) -> bool {
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
pub fn kind_of(relative: &Path) -> Kind {
    let mut parts = relative.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let Some(top) = parts.next() else {
        return Kind::Unknown;
    };
    let second = parts.next();
    // Where a file system of its own is mounted on a top-level folder, a restore works in there.
    let is_of_restore = |name: &OsStr| {
        // The second under several names: what cannot be removed is set aside.
        let ours = [&b".codex-manager-undone-"[..], b".codex-manager-restore"];
        let name = name.as_encoded_bytes();
        ours.iter().any(|begin| name.starts_with(begin))
    };
    if is_ours(top) || second.is_some_and(is_of_restore) {
        return Kind::Transient;
    }
    let Some(top) = top.to_str() else {
        return Kind::Unknown;
    };
    match (top, second) {
        (AUTH_JSON, None) => Kind::Auth,
        (CONFIG_TOML, None) => Kind::Config,
        ("installation_id", None) => Kind::InstallationId,
        ("version.json", None) => Kind::Version,
        ("models_cache.json", None) => Kind::ModelsCache,
        ("history.jsonl", None) => Kind::History,
        ("session_index.jsonl", None) => Kind::SessionIndex,
        ("AGENTS.md" | "AGENTS.override.md", None) => Kind::UserContent,
        ("rules", _) => Kind::Rules,
        (SESSIONS, _) => Kind::Sessions,
        (ARCHIVED_SESSIONS, _) => Kind::ArchivedSessions,
        ("skills", Some(name)) if name == OsStr::new(".system") => Kind::Transient,
        ("skills" | "prompts" | "memories" | "plugins", _) => Kind::UserContent,
        ("tmp" | ".tmp", _) => Kind::Tmp,
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
        ) => Kind::Transient,
        (SQLITE_FOLDER, Some(name)) if parts.next().is_none() => {
            name.to_str().map_or(Kind::Unknown, database_kind)
        }
        (name, None) => top_level_file(name),
        _ => Kind::Unknown,
    }
}

/// Whether a top-level name is, in any spelling, one of Codex's own.
pub fn is_codex_name(top: &OsStr) -> bool {
    top.to_str().is_some_and(|name| {
        !matches!(
            kind_of(Path::new(&name.to_lowercase())),
            Kind::Unknown | Kind::LegacyAuth
        )
    })
}

/// Whether a top-level name is one of those that this program gives to its own files and folders in
/// a home, in any spelling: what stands there is believed.
pub fn is_ours(top: &OsStr) -> bool {
    const OURS: &[u8] = b".codex-manager";
    top.as_encoded_bytes()
        .get(..OURS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

fn top_level_file(name: &str) -> Kind {
    let database = database_kind(name);
    if database != Kind::Unknown {
        return database;
    }
    if name.starts_with(".auth-") {
        return Kind::Transient;
    }
    if let Some(locked) = name.strip_suffix(".lock") {
        let own = locked == "auth"
            || !matches!(
                kind_of(Path::new(locked)),
                Kind::Unknown | Kind::UserContent
            );
        return if own { Kind::Transient } else { Kind::Unknown };
    }
    if name.ends_with("_auth.json") {
        Kind::LegacyAuth
    } else {
        Kind::Unknown
    }
}

fn database_kind(name: &str) -> Kind {
    if name.ends_with(".sqlite") {
        Kind::Database
    } else if SIDECAR_SUFFIXES.iter().any(|suffix| {
        name.strip_suffix(suffix)
            .is_some_and(|base| base.ends_with(".sqlite"))
    }) {
        Kind::DatabaseSidecar
    } else {
        Kind::Unknown
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
            ("auth.json", Kind::Auth),
            ("auth.json.lock", Kind::Transient),
            ("auth.lock", Kind::Transient),
            ("session_index.jsonl.lock", Kind::Transient),
            (".auth-a1b2c3", Kind::Transient),
            ("yarn.lock", Kind::Unknown),
            ("skills/mine/yarn.lock", Kind::UserContent),
            ("skills/mine/tmp/x", Kind::UserContent),
            ("skills/.system/x", Kind::Transient),
            ("prompts/packages/x", Kind::UserContent),
            ("plugins/x/state.sqlite-wal", Kind::UserContent),
            ("state_5.sqlite", Kind::Database),
            ("state_77.sqlite-wal", Kind::DatabaseSidecar),
            ("sqlite/state_5.sqlite", Kind::Database),
            ("sqlite/state_5.sqlite-shm", Kind::DatabaseSidecar),
            ("sqlite/deep/state_5.sqlite", Kind::Unknown),
            ("sessions/2026/11/01/x.jsonl", Kind::Sessions),
            ("21apr_a@b.c_auth.json", Kind::LegacyAuth),
            ("tmp/x", Kind::Tmp),
            ("packages/x", Kind::Transient),
            ("notes.txt", Kind::Unknown),
            ("projects/tmp/x", Kind::Unknown),
            (".codex-manager-restore/journal.json", Kind::Transient),
            (".Codex-Manager/x", Kind::Transient),
            ("sessions/.codex-manager-restore/new/x", Kind::Transient),
            (
                "sessions/.codex-manager-restore.old-1/new/x",
                Kind::Transient,
            ),
        ] {
            assert_eq!(kind_of(Path::new(path)), kind, "{path}");
        }
    }
}
