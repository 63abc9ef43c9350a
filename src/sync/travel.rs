//! What may leave this machine: the one list of what never does.

use super::config::SyncConfig;
use super::secrets;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::{Component, Path};

/// Why a file stays on the machine it is on; `None` when it may travel.
///
/// `path` is relative to the Codex home, with `/`. Case is ignored: on many disks `Auth.JSON` is
/// auth.json.
pub fn stays(path: &str) -> Option<&'static str> {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    if let Some(why) = secrets::by_name(&lower) {
        return Some(why);
    }
    let name = secrets::without_copy_marks(name);
    if name == "installation_id" {
        return Some("the id of an installation never travels");
    }
    let is_database = |name: &str| {
        [".sqlite", ".sqlite3", ".db"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let beside = home::SIDECAR_SUFFIXES
        .iter()
        .any(|end| name.strip_suffix(end).is_some_and(is_database));
    if is_database(name) || beside {
        return Some("a database never travels");
    }
    if [".sock", ".socket"].iter().any(|end| name.ends_with(end)) {
        return Some("a socket never travels");
    }
    let is_lock = name.strip_suffix(".lock").is_some();
    match kind_of(Path::new(&lower)) {
        HomeEntryKind::Auth | HomeEntryKind::LegacyAuth => Some("a login never travels"),
        HomeEntryKind::InstallationId => Some("the id of an installation never travels"),
        HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar => {
            Some("a database never travels")
        }
        HomeEntryKind::Transient if is_lock => Some("a lock never travels"),
        HomeEntryKind::Transient => Some("what is bound to this machine never travels"),
        HomeEntryKind::Tmp | HomeEntryKind::ModelsCache | HomeEntryKind::Version => {
            Some("what Codex makes again does not travel")
        }
        // The user's own lock files (yarn.lock) are content; at the top they are nobody's.
        _ if is_lock && !lower.contains('/') => Some("a lock never travels"),
        _ => None,
    }
}

/// Checks an entry of `include_roots`; `None` when it means everything.
///
/// # Errors
/// Why it is refused.
pub fn clean_root(entry: &str) -> Result<Option<String>, String> {
    let entry = entry.trim().replace('\\', "/");
    let mut parts = Vec::new();
    for part in Path::new(&entry).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!("takes paths below the Codex home, not {entry:?}"));
            }
        }
    }
    let root = parts.join("/");
    if root.is_empty() {
        return Ok(None);
    }
    // A folder of databases or locks is named by what is in it.
    let inside = format!("{root}/x");
    match stays(&root).or_else(|| stays(&inside).filter(|_| !root.contains('.'))) {
        Some(why) => Err(format!("may not name {entry:?}: {why}")),
        None => Ok(Some(root)),
    }
}

/// What may be a link at the top of a home: what it leads to is synced, and the link stays. Settings are
/// not among them, and what is not Codex's may lead to anything.
pub const LINKED: &[&str] = &[
    home::SESSIONS,
    home::ARCHIVED_SESSIONS,
    "session_index.jsonl",
    "history.jsonl",
    "skills",
    "prompts",
    "rules",
    "memories",
    "plugins",
    "AGENTS.md",
    "AGENTS.override.md",
];

/// Whether a link at this path of a home is gone through.
pub fn is_followed(path: &str, roots: &[String]) -> bool {
    let named = || roots.iter().any(|root| root == path) && !runs_commands(path);
    !path.contains('/') && (LINKED.contains(&path) || named())
}

/// Why what a link in the home `root` leads to is not synced under the link's name, if so: it is, or holds,
/// what never travels under its own.
pub fn why_not_followed(root: &Path, link: &Path) -> Option<&'static str> {
    let (root, real) = (root.canonicalize().ok()?, link.canonicalize().ok()?);
    if root.starts_with(&real) {
        return Some("a link to what holds the home is not followed");
    }
    // Of a folder elsewhere the name says nothing.
    let name = match real.strip_prefix(&root) {
        Ok(inside) => inside,
        Err(_) if real.is_dir() => return None,
        Err(_) => Path::new(real.file_name()?),
    };
    let name = name.to_string_lossy().replace('\\', "/");
    let stays = stays(&name).is_some() || runs_commands(&name);
    stays.then_some("a link to what never travels is not followed")
}

/// Whether one of the `roots` is `folder` or lies in it.
pub fn holds_any(folder: &str, roots: &[String]) -> bool {
    roots.iter().any(|root| is_below(root, folder))
}

/// Entries of `include_roots` that are there in another letter case alone, on either side, or that Codex
/// would write so: each with what is to be said of it.
pub fn misspelled(config: &SyncConfig) -> Vec<(String, String)> {
    let sides = [&config.local, &config.cloud];
    let other_case = |root: &String| {
        if sides
            .iter()
            .any(|side| side.join(root).symlink_metadata().is_ok())
        {
            return None;
        }
        let (folder, name) = root.rsplit_once('/').unwrap_or(("", root));
        let is_like = |other: &str| other != name && other.to_lowercase() == name.to_lowercase();
        let entries = sides
            .iter()
            .filter_map(|side| side.join(folder).read_dir().ok());
        let mut names = entries
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let of_codex = LINKED.iter().filter(|_| folder.is_empty());
        names.find(|other| is_like(other)).or_else(|| {
            of_codex
                .map(|known| (*known).to_owned())
                .find(|known| is_like(known))
        })
    };
    let roots = config.roots.iter();
    let found = roots.filter_map(|root| Some((root, other_case(root)?)));
    found
        .map(|(root, other)| {
            let why = format!("names {root:?}, which is not there; its name may be {other:?}");
            ("include_roots".to_owned(), why)
        })
        .collect()
}

/// How a path belongs to what is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It is synced.
    Yes,
    /// It is a conversation outside the roots: synced when it is one that the other side or the last
    /// sync has inside, or the parent of one.
    Companion,
    /// It is not.
    No,
}

/// Which paths of a home or of the cloud folder are synced.
#[derive(Debug)]
pub struct Scope {
    roots: Vec<String>,
    exclude: GlobSet,
    /// The globs without a slash: they leave out folders of a name, too.
    exclude_folders: GlobSet,
    /// Whether some root has conversations.
    conversations: bool,
}

impl Scope {
    /// As the configuration says.
    ///
    /// # Errors
    /// The first glob that means nothing.
    pub fn of(config: &SyncConfig) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        let mut folders = GlobSetBuilder::new();
        for pattern in &config.exclude {
            if let Some(glob) = glob(pattern) {
                let names_folders = !pattern.trim().trim_end_matches('/').contains('/');
                let glob = GlobBuilder::new(&glob)
                    .literal_separator(true)
                    .backslash_escape(false)
                    .build()
                    .map_err(|e| format!("{pattern:?} is no glob: {}", e.kind()))?;
                if names_folders {
                    folders.add(glob.clone());
                }
                set.add(glob);
            }
        }
        let of_sessions = |root: &String| {
            [home::SESSIONS, home::ARCHIVED_SESSIONS]
                .iter()
                .any(|folder| is_below(root, folder))
        };
        Ok(Self {
            conversations: config.roots.iter().any(of_sessions),
            roots: config.roots.clone(),
            exclude: set.build().map_err(|e| e.to_string())?,
            exclude_folders: folders.build().map_err(|e| e.to_string())?,
        })
    }

    /// The paths to begin a walk at; the empty one is the root itself.
    pub fn starts(&self) -> Vec<&str> {
        if self.roots.is_empty() {
            return vec![""];
        }
        let mut all: Vec<&str> = self.roots.iter().map(String::as_str).collect();
        if self.conversations {
            all.extend([home::SESSIONS, home::ARCHIVED_SESSIONS]);
        }
        all.sort_unstable();
        all.dedup();
        // One inside another would be walked twice.
        let inside = |a: &str, b: &str| a.len() > b.len() && is_below(a, b);
        let outermost = |root: &&str| !all.iter().any(|other| inside(root, other));
        all.iter().copied().filter(outermost).collect()
    }

    /// Why a file stays although it is below a root; `None` when it may travel.
    pub fn keeps(&self, path: &str) -> Option<&'static str> {
        let named = |path: &str| {
            self.roots
                .iter()
                .any(|root| root.eq_ignore_ascii_case(path))
        };
        stays(path).or_else(|| {
            (runs_commands(path) && !named(path))
                .then_some("it can run commands: it travels only where include_roots names it")
        })
    }

    /// How a file belongs.
    pub fn takes(&self, path: &str) -> Take {
        let below = self.roots.is_empty() || self.roots.iter().any(|root| is_below(path, root));
        let companion = !below && self.conversations && super::rollouts::key(path).is_some();
        if !(below || companion) || self.keeps(path).is_some() || self.is_excluded(path) {
            Take::No
        } else if below {
            Take::Yes
        } else {
            Take::Companion
        }
    }

    /// Whether a glob keeps the file where it is: by its own path, or by the name of a folder above it.
    pub fn is_excluded(&self, path: &str) -> bool {
        if self.exclude.is_empty() {
            return false;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.exclude.is_match(path) || folder.split('/').any(|name| self.is_excluded_folder(name))
    }

    fn is_excluded_folder(&self, name: &str) -> bool {
        !self.exclude_folders.is_empty() && self.exclude_folders.is_match(name)
    }

    /// See [`is_followed`].
    pub fn follows(&self, path: &str) -> bool {
        is_followed(path, &self.roots)
    }

    /// Whether a folder may hold something that is synced.
    pub fn enters(&self, folder: &str) -> bool {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        !self.is_excluded_folder(name) && stays(&format!("{folder}/x")).is_none()
    }
}

/// Settings of Codex that name programs to be run: whoever writes to the cloud folder would run them
/// here. A copy of them holds the same, and may be put in their place.
fn runs_commands(path: &str) -> bool {
    let lower = path.to_lowercase();
    let is_like = |stem, end| secrets::is_like(&lower, stem, end);
    !lower.contains('/') && (is_like("config", ".toml") || is_like("hooks", ".json"))
}

/// Whether `path` is `root` or lies below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// codexSync matches from the right, as Python's `PurePath.match` does. There `**` is one folder; here
/// it is any number of folders, which is what its users mean.
fn glob(pattern: &str) -> Option<String> {
    let pattern = pattern.trim();
    if pattern.is_empty() || pattern.starts_with('/') {
        // An absolute pattern matches no relative path.
        return None;
    }
    let literal = pattern
        .trim_end_matches('/')
        .replace('{', "[{]")
        .replace('}', "[}]");
    Some(format!("**/{literal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_travels_is_refused_as_a_root_in_any_spelling() {
        for entry in [
            "auth.json",
            "./AUTH.json",
            "21apr_me@x.com_auth.json",
            ".auth-a1b2c3",
            "installation_id",
            "state_5.sqlite",
            "state_5.sqlite-wal",
            "sqlite/state_5.sqlite",
            "auth.lock",
            "session_index.jsonl.lock",
            "thread-writer-locks",
            "app-server-control",
            "packages",
            "tmp",
            "my.key",
            "skills/x/id_rsa",
            "../other",
            "/etc",
            "sessions/../auth.json",
        ] {
            assert!(clean_root(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn what_may_travel_is_taken_and_a_dot_is_everything() {
        for entry in [".", "./", ""] {
            assert_eq!(clean_root(entry), Ok(None), "{entry:?}");
        }
        for (entry, root) in [
            ("sessions", "sessions"),
            ("sessions/", "sessions"),
            ("./skills//mine", "skills/mine"),
            ("session_index.jsonl", "session_index.jsonl"),
            ("skills\\mine", "skills/mine"),
        ] {
            assert_eq!(clean_root(entry), Ok(Some(root.to_owned())), "{entry}");
        }
        assert_eq!(stays("skills/mine/yarn.lock"), None);
        assert_eq!(stays("history.jsonl"), None);
        assert!(stays("skills/.system/x").is_some());
    }

    #[test]
    fn globs_match_from_the_right() {
        for (pattern, path, matches) in [
            ("*.tmp", "sessions/2026/a.tmp", true),
            ("*.tmp", "a.tmp.jsonl", false),
            ("2026/*.jsonl", "sessions/2026/a.jsonl", true),
            ("2026/*.jsonl", "sessions/2026/11/a.jsonl", false),
            ("/sessions/*", "sessions/a", false),
            ("cache/**", "skills/cache/a", true),
            ("a{b}", "x/a{b}", true),
            ("[!a]*.md", "x/b.md", true),
        ] {
            let mut set = GlobSetBuilder::new();
            if let Some(glob) = glob(pattern) {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                set.add(glob.unwrap());
            }
            assert_eq!(set.build().unwrap().is_match(path), matches, "{pattern}");
        }
    }
}
