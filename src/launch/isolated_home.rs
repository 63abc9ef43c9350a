//! The content of an isolated home: links to the real Codex home for everything but the login.
//!
//! Observed with Codex 0.169 in such a home: rollouts, names, prompts and settings are written
//! through the links (`config.toml` and `session_index.jsonl` too: the link stays); archive and
//! unarchive move files between the linked folders; `threads.rollout_path` is recorded through the
//! link, so [`crate::codex::thread_index::rebase_rollout_paths`] puts it right afterwards. Databases are
//! never linked: SQLite would keep `-wal` files beside the link. `CODEX_SQLITE_HOME` shares them.

use crate::codex::home::{
    ARCHIVED_SESSIONS, AUTH_JSON, CONFIG_TOML, HomeEntryKind, SESSIONS, THREAD_LOCKS, kind_of,
};
use crate::io::{IoContext, IoError, atomic, tree};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Folders that Codex makes when it needs them. Made in the real home first, so that it does not
/// make its own in the isolated one.
const SHARED_FOLDERS: [&str; 7] = [
    SESSIONS,
    ARCHIVED_SESSIONS,
    THREAD_LOCKS,
    "skills",
    "rules",
    "memories",
    "plugins",
];

/// Files that Codex writes or locks, and makes when it needs them. A link to nothing makes it create
/// the file in the real home.
const SHARED_FILES: [&str; 4] = [
    CONFIG_TOML,
    "history.jsonl",
    "session_index.jsonl",
    "session_index.jsonl.lock",
];

/// Logins of MCP servers (0.169): their tokens rotate too, so one copy serves all homes.
const MCP_CREDENTIALS: &str = ".credentials.json";

/// Why an isolated home cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Conversations would be written to a place that nothing else knows.
    #[error("not a link to {}: {}", real.display(), path.display())]
    NotALink {
        /// The path in the isolated home.
        path: PathBuf,
        /// Where it should lead.
        real: PathBuf,
    },
    /// A Codex that runs there would go on in another home.
    #[error("a Codex runs in the isolated home beside another Codex home: {}", .0.display())]
    OtherHome(PathBuf),
    /// Links for every user do not exist here.
    #[error("isolated homes need symbolic links, which this system does not give to every user")]
    Unsupported,
}

/// Whether an entry at the top of the real home is shared with isolated homes. The user's own files
/// are; logins, databases, caches and what belongs to running processes are not.
fn is_shared(name: &Path) -> bool {
    if SHARED_FOLDERS
        .iter()
        .chain(&SHARED_FILES)
        .any(|own| name == Path::new(own))
    {
        return true;
    }
    if name == Path::new(MCP_CREDENTIALS) {
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
        // Files such as `work.config.toml` and hooks. Codex's own hidden files stay apart.
        HomeEntryKind::Unknown => !name.as_os_str().as_encoded_bytes().starts_with(b"."),
        _ => false,
    }
}

/// Links everything that is shared from `isolated` to `real`. What is linked already stays; a link
/// to another home is replaced while no login is in the isolated one.
///
/// # Errors
/// The file system refuses, a folder stands where a link belongs, or a Codex runs there that shares
/// the files of another home.
pub fn prepare(isolated: &Path, real: &Path) -> Result<(), IsolationError> {
    if !cfg!(unix) {
        return Err(IsolationError::Unsupported);
    }
    let real = &real.canonicalize().at("look at", real)?;
    atomic::create_private_folder(isolated)?;
    if isolated.join(AUTH_JSON).exists()
        && let Ok(linked) = fs::read_link(isolated.join(SESSIONS))
        && linked != real.join(SESSIONS)
    {
        let other = atomic::parent_of(&linked).to_path_buf();
        return Err(IsolationError::OtherHome(other));
    }
    for folder in SHARED_FOLDERS {
        atomic::create_private_folder(&real.join(folder))?;
    }
    let mut names: Vec<PathBuf> = fs::read_dir(real)
        .at("list", real)?
        .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
        .filter(|name| is_shared(name))
        .collect();
    names.extend(SHARED_FILES.map(PathBuf::from));
    names.sort();
    names.dedup();
    for name in names {
        link(&real.join(&name), &isolated.join(&name))?;
    }
    Ok(())
}

fn link(target: &Path, path: &Path) -> Result<(), IsolationError> {
    match fs::read_link(path) {
        Ok(current) if current == target => return Ok(()),
        Ok(_) => fs::remove_file(path).at("remove", path)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        // Codex replaced a link by a file of its own: that file is what this home uses now.
        Err(_) if path.is_file() => return Ok(()),
        Err(_) => {
            return Err(IsolationError::NotALink {
                path: path.to_path_buf(),
                real: target.to_path_buf(),
            });
        }
    }
    Ok(tree::make_link(target, path)?)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_home_shares_conversations_and_settings_but_no_login_and_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let (real, isolated) = (folder.path().join("real"), folder.path().join("isolated"));
        for name in ["skills/mine", "packages", "tmp", "app-server-daemon"] {
            fs::create_dir_all(real.join(name)).unwrap();
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
            fs::write(real.join(name), name).unwrap();
        }
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
        fs::remove_file(isolated.join("sessions")).unwrap();
        fs::create_dir(isolated.join("sessions")).unwrap();
        let refused = prepare(&isolated, &real).unwrap_err();
        assert!(
            matches!(refused, IsolationError::NotALink { .. }),
            "{refused}"
        );
    }

    #[test]
    fn what_codex_makes_in_an_isolated_home_is_made_in_the_real_one() {
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
    fn a_codex_that_runs_keeps_the_home_whose_files_it_shares() {
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
