//! Classifies the files of a Codex home.
//!
//! This is the only list of the names of Codex 0.169. Rules for transient files apply to Codex's own
//! paths only: inside `skills/`, `prompts/`, `rules/`, `memories/` and `plugins/` everything except
//! `skills/.system` belongs to the user.

use crate::io::atomic::with_suffix;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

pub const AUTH_JSON: &str = "auth.json";
pub const CONFIG_TOML: &str = "config.toml";
pub const SESSIONS: &str = "sessions";
/// The folder of archived conversations, which has no subfolders.
pub const ARCHIVED_SESSIONS: &str = "archived_sessions";
/// The folder inside a home that may hold databases.
pub const SQLITE_FOLDER: &str = "sqlite";
/// The name prefix of the database of threads; a number follows, which changes with Codex's versions.
pub const STATE_DATABASE_PREFIX: &str = "state_";
/// The name prefix of the database with the projections (parsed contents) of rollouts.
pub const HISTORY_DATABASE_PREFIX: &str = "thread_history_";
/// The name prefixes of the databases of goals, queued messages and memories. The rows of a thread have its id in the
/// column `thread_id`.
pub const THREAD_DATA_PREFIXES: [&str; 3] = ["goals_", "queue_", "memories_"];
/// The top-level files and folders with texts of the user that no other check covers. `plugins/` is left out, because
/// Codex installs it again.
pub const USER_TEXTS: [&str; 9] = [
    "history.jsonl",
    "session_index.jsonl",
    "AGENTS.md",
    "AGENTS.override.md",
    "prompts",
    "skills",
    "memories",
    "rules",
    ".codex-global-state.json",
];
/// The folder to which Codex moves databases that it cannot read.
pub const DB_BACKUPS: &str = "db-backups";
/// The folder of locks that Codex holds while it writes a conversation.
pub const THREAD_LOCKS: &str = "thread-writer-locks";

/// The kind of a path below a Codex home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HomeEntryKind {
    /// `auth.json`: the login, unless it is in the keyring.
    Auth,
    /// `account-sessions.json` and `account-sessions/`: the logins of Codex Desktop's workspaces.
    AccountSessions,
    /// `config.toml`: the user's settings.
    Config,
    /// `installation_id`: never copied over the id of another installation.
    InstallationId,
    /// `version.json`: Codex's record of its newest version.
    Version,
    /// `rules/`: the user's rules for commands.
    Rules,
    /// `sessions/`: the conversations, in folders by day.
    Sessions,
    /// `archived_sessions/`: the archived conversations.
    ArchivedSessions,
    /// `session_index.jsonl`: the names of conversations.
    SessionIndex,
    /// `history.jsonl`: the prompts that the user typed.
    History,
    /// A file with the name of Codex's databases. The content of a file decides if it is a database; see
    /// [`may_be_database`].
    Database,
    /// A file that SQLite keeps beside a database. A snapshot of the database contains its rows.
    DatabaseSidecar,
    /// `models_cache.json`: a cache that Codex creates again.
    ModelsCache,
    /// The user's skills, prompts, memories, plugins and AGENTS.md.
    UserContent,
    /// A `*_auth.json` that the user keeps in the home.
    LegacyAuth,
    /// `tmp/` and `.tmp/`: in archives with `--include-tmp` only.
    Tmp,
    /// `worktrees/`: whole checkouts that Codex makes for `/new`; in archives with `--include-worktrees` only.
    Worktrees,
    /// A file that Codex creates again, that belongs to running processes, or that is codex-manager's.
    Transient,
    /// Any other path: of the user, or of an unknown version of Codex.
    Unknown,
}

impl HomeEntryKind {
    pub(crate) fn is_login_or_setting(self) -> bool {
        matches!(
            self,
            Self::Auth
                | Self::AccountSessions
                | Self::Config
                | Self::InstallationId
                | Self::Version
                | Self::Rules
        )
    }

    pub(crate) fn is_conversation(self) -> bool {
        matches!(
            self,
            Self::Sessions
                | Self::ArchivedSessions
                | Self::SessionIndex
                | Self::History
                | Self::Database
        )
    }

    /// Returns true for logins: they are private, never synced and never printed, and a restore decides about them
    /// separately.
    pub fn is_login(self) -> bool {
        matches!(self, Self::Auth | Self::AccountSessions | Self::LegacyAuth)
    }

    /// Returns true if the path holds user data, so a socket, pipe or device at its place is reported.
    pub(crate) fn is_expected_file(self) -> bool {
        self.is_login_or_setting() || self.is_conversation() || self == Self::LegacyAuth
    }

    /// Returns true if a backup without options includes the path, as far as it can be read.
    pub fn is_archived_by_default(self) -> bool {
        !matches!(self, Self::Transient | Self::Tmp | Self::Worktrees)
    }

    /// Returns true if a restore replaces a link at this path by a file, instead of the target of the link.
    pub fn is_link_replaced(self) -> bool {
        matches!(self, Self::Auth | Self::Database)
    }

    /// Returns true if a link at this path may be kept as a link. False for files that Codex writes:
    /// through a link it would change the file of another home.
    pub fn can_be_link(self) -> bool {
        !matches!(
            self,
            Self::Auth
                | Self::AccountSessions
                | Self::Config
                | Self::Database
                | Self::DatabaseSidecar
                | Self::History
                | Self::SessionIndex
        )
    }

    /// Returns true for the two folders of rollouts and the paths below them.
    pub fn is_rollout_folder(self) -> bool {
        matches!(self, Self::Sessions | Self::ArchivedSessions)
    }
}

/// Returns the kind of a path relative to the home. Opens no file.
pub fn kind_of(relative: &Path) -> HomeEntryKind {
    let mut names = relative.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let Some(top) = names.next() else {
        return HomeEntryKind::Unknown;
    };

    let second = names.next();
    let has_third = names.next().is_some();
    // If a top-level folder is a mount point, a restore has its working folder inside it.
    if is_manager_name(top) || second.is_some_and(is_restore_folder) {
        return HomeEntryKind::Transient;
    }

    let Some(top) = top.to_str() else {
        return HomeEntryKind::Unknown;
    };

    match (top, second) {
        (AUTH_JSON, None) => HomeEntryKind::Auth,
        ("account-sessions.json", None) | ("account-sessions", _) => HomeEntryKind::AccountSessions,
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
        // Codex unpacks its own skills into `skills/.system`.
        ("skills", Some(name)) if name == OsStr::new(".system") => HomeEntryKind::Transient,
        ("skills" | "prompts" | "memories" | "plugins", _) => HomeEntryKind::UserContent,
        ("tmp" | ".tmp", _) => HomeEntryKind::Tmp,
        ("worktrees", _) => HomeEntryKind::Worktrees,
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
        (SQLITE_FOLDER, Some(name)) if !has_third => name
            .to_str()
            .map_or(HomeEntryKind::Unknown, classify_database),
        (name, None) => classify_top_level(name),
        _ => HomeEntryKind::Unknown,
    }
}

fn is_restore_folder(name: &OsStr) -> bool {
    // Any suffix: a restore renames a working folder that it cannot remove.
    let prefixes = [
        &b".codex-manager-undone-"[..],
        b".codex-manager-restore",
        b".codex-manager-journal",
    ];
    let name = name.as_encoded_bytes();
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns true if Codex uses a top-level name, in any letter case.
pub(crate) fn is_codex_name(top: &OsStr) -> bool {
    let Some(name) = top.to_str() else {
        return false;
    };
    let kind = kind_of(Path::new(&name.to_lowercase()));
    // The user, not Codex, chose the name of a `*_auth.json`.
    !matches!(kind, HomeEntryKind::Unknown | HomeEntryKind::LegacyAuth)
}

/// Returns true if a top-level name is reserved for files and folders of this program, in any letter case. Their
/// content is trusted, so no other file may get such a name.
pub fn is_manager_name(top: &OsStr) -> bool {
    const MANAGER_PREFIX: &[u8] = b".codex-manager";
    top.as_encoded_bytes()
        .get(..MANAGER_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(MANAGER_PREFIX))
}

fn classify_top_level(name: &str) -> HomeEntryKind {
    let database = classify_database(name);
    if database != HomeEntryKind::Unknown {
        return database;
    }

    // Codex locks `NAME` by a file `NAME.lock`. A `.lock` beside a file of the user belongs to the user.
    let locks_codex_file = name.strip_suffix(".lock").is_some_and(|locked| {
        let kind = kind_of(Path::new(locked));
        !matches!(kind, HomeEntryKind::Unknown | HomeEntryKind::UserContent)
    });
    // Codex writes a new login to a file `.auth-…`, then renames it. If Codex is killed in between, the file stays.
    let is_unfinished_login = name.starts_with(".auth-");

    // Codex takes `auth.lock` to renew a login. A lock is of no use in a backup.
    if locks_codex_file || name == "auth.lock" || is_unfinished_login {
        HomeEntryKind::Transient
    } else if name.ends_with("_auth.json") {
        HomeEntryKind::LegacyAuth
    } else {
        HomeEntryKind::Unknown
    }
}

fn classify_database(name: &str) -> HomeEntryKind {
    let is_beside_database = |suffix: &&str| {
        let database = name.strip_suffix(*suffix);
        database.is_some_and(|database| database.ends_with(".sqlite"))
    };
    if name.ends_with(".sqlite") {
        HomeEntryKind::Database
    } else if SIDECAR_SUFFIXES.iter().any(is_beside_database) {
        HomeEntryKind::DatabaseSidecar
    } else {
        HomeEntryKind::Unknown
    }
}

/// Returns the version in the name of a state database; `None` for other names.
pub fn parse_state_version(path: &Path) -> Option<u64> {
    parse_database_version(path, STATE_DATABASE_PREFIX)
}

/// Returns the version in the name of a database with this prefix; `None` for other names.
pub(crate) fn parse_database_version(path: &Path, prefix: &str) -> Option<u64> {
    let version = path.file_name()?.to_str()?.strip_prefix(prefix)?;
    version.strip_suffix(".sqlite")?.parse().ok()
}

/// The suffixes that SQLite appends to the name of a database for its sidecar files.
pub const SIDECAR_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Returns the paths of the sidecar files that SQLite may keep beside the database at `path`.
pub fn database_sidecars(path: &Path) -> [PathBuf; 3] {
    SIDECAR_SUFFIXES.map(|suffix| with_suffix(path, suffix))
}

/// Returns the path of the database beside which SQLite may keep the file at `path`; `None` if the name is not that of a
/// sidecar file.
pub fn database_of_sidecar(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_encoded_bytes();
    let mut suffixes = SIDECAR_SUFFIXES.iter();
    let database = suffixes.find_map(|suffix| name.strip_suffix(suffix.as_bytes()))?;
    #[cfg(unix)]
    let database: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(database);
    #[cfg(not(unix))]
    let database = std::str::from_utf8(database).ok()?;
    (!database.is_empty()).then(|| path.with_file_name(database))
}

/// Returns false for a path whose file is no database, whatever its content: a rollout. A home can have half a million of
/// them, so they are not opened. The content of any other file decides.
pub fn may_be_database(relative: &Path) -> bool {
    let extension = relative.extension().and_then(OsStr::to_str);
    !(kind_of(relative).is_rollout_folder() && matches!(extension, Some("jsonl" | "zst")))
}

/// Returns true if the file name has the form of Codex's databases: a name and a version number, as in
/// `state_5.sqlite`.
pub fn is_versioned_database(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let parts = name.and_then(|name| name.strip_suffix(".sqlite")?.rsplit_once('_'));
    parts.is_some_and(|(name, version)| {
        !name.is_empty() && !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Returns true if the file name begins with `prefix` and ends with `.sqlite`.
pub fn is_database_named(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with(prefix) && name.ends_with(".sqlite"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_a_home_has_its_kind_and_files_of_the_user_are_not_transient() {
        for (path, kind) in [
            ("auth.json", HomeEntryKind::Auth),
            ("auth.json.lock", HomeEntryKind::Transient),
            ("account-sessions.json", HomeEntryKind::AccountSessions),
            (
                "account-sessions/1/auth.json",
                HomeEntryKind::AccountSessions,
            ),
            ("account-sessions.json.lock", HomeEntryKind::Transient),
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
            ("worktrees/a/auth.json", HomeEntryKind::Worktrees),
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
