//! Creates the content of an isolated home: links to the conversations, the settings and the user's files of the real
//! Codex home.
//!
//! Observed with Codex 0.169 in such a home: it writes rollouts, names, prompts and settings through the
//! links, and keeps the links of `config.toml` and `session_index.jsonl`. Archive and unarchive move
//! files between the linked folders. `threads.rollout_path` gets a path through the link, so
//! [`crate::codex::threads::live::rebase_rollout_paths`] corrects it afterwards. Databases are never
//! linked, because SQLite would keep `-wal` files beside the link; `CODEX_SQLITE_HOME` shares them.

use crate::codex::{
    ARCHIVED_SESSIONS, AUTH_JSON, CONFIG_TOML, CodexConfig, HomeEntryKind, SESSIONS, THREAD_LOCKS,
    kind_of,
};
use crate::io::{IoContext, IoError, OrdinaryPath, atomic, links, sharing};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Folders that Codex creates on demand. They are created in the real home in advance, so that Codex
/// does not create them in the isolated home.
const SHARED_FOLDERS: [&str; 7] = [
    SESSIONS,
    ARCHIVED_SESSIONS,
    THREAD_LOCKS,
    "skills",
    "rules",
    "memories",
    "plugins",
];

/// Files that Codex creates on demand. Through a dangling link Codex creates the file in the real home.
const SHARED_FILES: [&str; 4] = [
    CONFIG_TOML,
    "history.jsonl",
    "session_index.jsonl",
    "session_index.jsonl.lock",
];

/// The logins of MCP servers in Codex 0.169. Their tokens rotate too, so all homes share one copy.
const MCP_CREDENTIALS: &str = ".credentials.json";

/// The reason why an isolated home cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// A folder is in the place of a link of the isolated home. Other homes would not see the conversations in it.
    #[error("expected a link to {}, but found a folder: {}", real.display(), path.display())]
    NotALink {
        path: PathBuf,
        /// The required target of the link.
        real: PathBuf,
    },
    /// A Codex runs in the isolated home with links to another Codex home, which the new links would replace.
    #[error("a Codex runs in the isolated home with the files of another Codex home: {}", .0.display())]
    OtherHome(PathBuf),
    /// Codex takes a relative path in this file from its home, so an isolated home would have other databases.
    #[error("sqlite_home is a relative path, which leads to another folder from an isolated home: {}", .0.display())]
    RelativeDatabases(PathBuf),
    /// The system has no symbolic links for every user (Windows).
    #[error("isolated homes need symbolic links, which not every user may create on this system")]
    Unsupported,
}

/// Returns true if an entry at the top of the real home is shared with isolated homes. The user's own
/// files are shared; logins, databases, caches and files of running processes are not.
fn is_shared_entry(name: &Path) -> bool {
    let created_by_codex = SHARED_FOLDERS.iter().chain(&SHARED_FILES);
    let mut shared_names = created_by_codex.chain([&MCP_CREDENTIALS]);
    if shared_names.any(|shared| name == Path::new(shared)) {
        return true;
    }

    match kind_of(name) {
        HomeEntryKind::Config
        | HomeEntryKind::InstallationId
        | HomeEntryKind::Rules
        | HomeEntryKind::Sessions
        | HomeEntryKind::ArchivedSessions
        | HomeEntryKind::SessionIndex
        | HomeEntryKind::History
        | HomeEntryKind::UserContent => true,
        // Files of the user such as `work.config.toml` and hooks. Hidden files are Codex's own and are not shared.
        HomeEntryKind::Unknown => !name.as_os_str().as_encoded_bytes().starts_with(b"."),
        _ => false,
    }
}

/// Refuses a relative `sqlite_home` in the real home's `config.toml` that leads to another folder from an isolated
/// home.
///
/// # Errors
/// [`IsolationError::RelativeDatabases`].
pub(crate) fn refuse_unshared_database_folder(real_home: &Path) -> Result<(), IsolationError> {
    let Some(folder) = CodexConfig::read(real_home).sqlite_home else {
        return Ok(());
    };

    // A folder of databases at the top of the real home is linked like any other folder.
    let is_normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    let top = folder.iter().next().map(Path::new);
    let is_linked = top.is_some_and(is_shared_entry)
        && folder.components().all(is_normal)
        && real_home.join(&folder).is_dir();

    if folder.is_absolute() || folder.starts_with("~") || is_linked {
        return Ok(());
    }
    Err(IsolationError::RelativeDatabases(
        real_home.join(CONFIG_TOML),
    ))
}

/// Creates the links of the shared entries from `isolated_home` to `real_home`. Correct links stay. Links to
/// another home are replaced if no login is in the isolated home.
///
/// # Errors
/// A link cannot be created, a folder is at the path of a link, or the isolated home has a login and
/// links to another Codex home.
pub(crate) fn prepare(isolated_home: &Path, real_home: &Path) -> Result<(), IsolationError> {
    if !cfg!(unix) {
        return Err(IsolationError::Unsupported);
    }

    let real_home = &real_home.canonical().at("inspect", real_home)?;
    atomic::create_private_folder(isolated_home)?;

    // A login in the isolated home means that a Codex may run there, so the links must stay.
    if isolated_home.join(AUTH_JSON).exists()
        && let Ok(linked_sessions) = fs::read_link(isolated_home.join(SESSIONS))
        && linked_sessions != real_home.join(SESSIONS)
    {
        let other_home = atomic::parent_of(&linked_sessions).to_path_buf();
        return Err(IsolationError::OtherHome(other_home));
    }

    for folder in SHARED_FOLDERS {
        atomic::create_private_folder(&real_home.join(folder))?;
    }

    let mut names: Vec<PathBuf> = fs::read_dir(real_home)
        .at("list", real_home)?
        .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
        .filter(|name| is_shared_entry(name))
        .collect();
    names.extend(SHARED_FILES.map(PathBuf::from));
    names.sort();
    names.dedup();

    for name in names {
        ensure_link(&real_home.join(&name), &isolated_home.join(&name))?;
    }
    Ok(())
}

/// Makes `path` a link to `target`. Replaces a link to another target, and keeps a file.
fn ensure_link(target: &Path, path: &Path) -> Result<(), IsolationError> {
    match fs::read_link(path) {
        Ok(current) if current == target => return Ok(()),
        Ok(_) => sharing::remove_file(path).at("remove", path)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        // Codex has replaced the link by a file, which this isolated home uses from then on.
        Err(_) if path.is_file() => return Ok(()),
        Err(_) => {
            return Err(IsolationError::NotALink {
                path: path.to_path_buf(),
                real: target.to_path_buf(),
            });
        }
    }
    Ok(links::make_link(target, path)?)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn write_home(home: &Path) {
        for name in ["skills/mine", "packages", "tmp", "app-server-daemon"] {
            fs::create_dir_all(home.join(name)).expect("create");
        }
        for name in [
            "auth.json",
            "auth.lock",
            "config.toml",
            "work.config.toml",
            "state_5.sqlite",
            "state_5.sqlite-wal",
            "models_cache.json",
            "AGENTS.md",
            "21apr_a@x.com_auth.json",
            ".sandbox_migration",
        ] {
            fs::write(home.join(name), name).expect("write");
        }
    }

    #[test]
    fn conversations_and_settings_are_shared_but_not_login_and_database() {
        let folder = tempfile::tempdir().unwrap();
        let (real, isolated) = (folder.path().join("real"), folder.path().join("isolated"));
        write_home(&real);
        prepare(&isolated, &real).unwrap();
        // Again after Codex worked there: nothing changes.
        fs::write(isolated.join("auth.json"), "own").unwrap();
        fs::write(isolated.join("history.jsonl"), "{}\n").unwrap();
        prepare(&isolated, &real).unwrap();
        let mut names: Vec<_> = fs::read_dir(&isolated)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "AGENTS.md",
                "archived_sessions",
                "auth.json",
                "config.toml",
                "history.jsonl",
                "memories",
                "plugins",
                "rules",
                "session_index.jsonl",
                "session_index.jsonl.lock",
                "sessions",
                "skills",
                "thread-writer-locks",
                "work.config.toml",
            ]
        );
        assert_eq!(
            fs::read_to_string(real.join("history.jsonl")).unwrap(),
            "{}\n"
        );
        assert_eq!(
            fs::read_to_string(real.join("auth.json")).unwrap(),
            "auth.json"
        );
    }

    #[test]
    fn a_folder_at_the_path_of_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, isolated) = (folder.path().join("real"), folder.path().join("isolated"));
        write_home(&real);
        prepare(&isolated, &real).unwrap();
        fs::remove_file(isolated.join("sessions")).unwrap();
        fs::create_dir(isolated.join("sessions")).unwrap();
        let refused = prepare(&isolated, &real).unwrap_err();
        assert!(
            matches!(refused, IsolationError::NotALink { .. }),
            "{refused}"
        );
    }

    #[test]
    fn files_created_in_an_isolated_home_are_created_in_the_real_one() {
        let folder = tempfile::tempdir().unwrap();
        let (real, isolated) = (folder.path().join("real"), folder.path().join("isolated"));
        fs::create_dir(&real).unwrap();
        prepare(&isolated, &real).unwrap();
        fs::create_dir(isolated.join("skills/.system")).unwrap();
        fs::write(isolated.join("config.toml"), "model = \"x\"\n").unwrap();
        prepare(&isolated, &real).unwrap();
        assert!(real.join("skills/.system").is_dir());
        assert!(real.join("config.toml").is_file());
        for entry in fs::read_dir(&isolated).unwrap() {
            assert!(entry.unwrap().file_type().unwrap().is_symlink());
        }
    }

    #[test]
    fn a_relative_sqlite_home_has_to_be_shared() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        fs::create_dir_all(real.join("databases")).unwrap();
        for (value, is_shared) in [
            ("databases", true),
            ("/srv/databases", true),
            ("~/databases", true),
            ("../databases", false),
            ("databases/..", false),
            ("missing", false),
        ] {
            let text = format!("sqlite_home = \"{value}\"\n");
            fs::write(real.join("config.toml"), text).unwrap();
            let checked = refuse_unshared_database_folder(&real);
            assert_eq!(checked.is_ok(), is_shared, "{value}: {checked:?}");
        }
    }

    #[test]
    fn links_are_not_replaced_while_a_login_is_in_the_isolated_home() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for real in ["first", "second"] {
            fs::create_dir(path(real)).unwrap();
        }
        let isolated = path("isolated");
        prepare(&isolated, &path("first")).unwrap();
        fs::write(isolated.join("auth.json"), "in use").unwrap();
        let refused = prepare(&isolated, &path("second")).unwrap_err();
        assert!(refused.to_string().ends_with("/first"), "{refused}");
        prepare(&isolated, &path("first")).unwrap();
        fs::remove_file(isolated.join("auth.json")).unwrap();
        prepare(&isolated, &path("second")).unwrap();
        let sessions = fs::read_link(isolated.join("sessions")).unwrap();
        assert!(sessions.ends_with("second/sessions"));
    }
}
