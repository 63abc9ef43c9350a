//! The scope of a sync: the paths that are synced, and the only list of files that are never synced.

use super::config::SyncConfig;
use super::secrets;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{OrdinaryPath, ansi, user};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::{Component, Path};

/// Returns why a file is never synced; `None` if it may be synced.
///
/// `path` is relative to the Codex home, with `/`. Letter case is ignored, because on many disks `Auth.JSON`
/// is auth.json.
pub(crate) fn never_synced_reason(path: &str) -> Option<&'static str> {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);

    if let Some(why) = secrets::reason_to_refuse_name(&lower) {
        return Some(why);
    }
    if lower.split('/').any(runs_commands) {
        return Some("a repository is never synced: its hooks and settings run commands");
    }
    if lower
        .split('/')
        .any(|folder| reduce_name(folder) == ".codex")
    {
        return Some("the Codex settings of a project are never synced: they run commands");
    }

    // A copy such as `state_5.sqlite.bak` counts as the file itself.
    let name = secrets::strip_copy_marks(name);
    if name == "installation_id" {
        return Some("the id of an installation is never synced");
    }

    let database_ends = [".sqlite", ".sqlite3", ".db"];
    let is_database = |name: &str| database_ends.iter().any(|end| name.ends_with(end));
    let mut sidecar_ends = home::SIDECAR_SUFFIXES.iter();
    let is_sidecar = sidecar_ends.any(|end| name.strip_suffix(end).is_some_and(is_database));
    if is_database(name) || is_sidecar {
        return Some("a database is never synced");
    }

    if [".sock", ".socket"].iter().any(|end| name.ends_with(end)) {
        return Some("a socket is never synced");
    }

    let is_lock = name.strip_suffix(".lock").is_some();
    match kind_of(Path::new(&lower)) {
        kind if kind.is_login() => Some("a login is never synced"),
        HomeEntryKind::Transient if is_lock => Some("a lock is never synced"),
        HomeEntryKind::Transient => Some("a file bound to this machine is never synced"),
        HomeEntryKind::Tmp | HomeEntryKind::ModelsCache | HomeEntryKind::Version => {
            Some("a file that Codex regenerates is not synced")
        }
        HomeEntryKind::Worktrees => Some("a checkout that Codex made is not synced"),
        // The user's own lock files, such as yarn.lock, are content. At the top level, only Codex writes lock
        // files.
        _ if is_lock && !lower.contains('/') => Some("a lock is never synced"),
        _ => None,
    }
}

/// Returns true if Git or Mercurial runs commands that a folder of this lower-case name names, on any system.
fn runs_commands(folder: &str) -> bool {
    let name = reduce_name(folder);
    // Windows gives `.git` this short name.
    let is_short_name = name
        .strip_prefix("git~")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    name == ".git" || name == ".hg" || is_short_name
}

/// Returns the name under which other systems find a file: macOS ignores invisible characters, Windows drops blanks and
/// periods at the end, and what follows a colon.
fn reduce_name(name: &str) -> String {
    let visible: String = name.chars().filter(|c| !ansi::is_invisible(*c)).collect();
    let before_stream = visible.split(':').next().unwrap_or_default();
    before_stream.trim_end_matches(['.', ' ']).to_owned()
}

/// Normalizes an entry of `include_roots`; `None` if it includes everything.
///
/// # Errors
/// The reason why the entry is refused.
pub(crate) fn normalize_root(entry: &str) -> Result<Option<String>, String> {
    let entry = entry.trim().replace('\\', "/");
    let mut parts = Vec::new();
    for part in Path::new(&entry).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!(
                    "must be a path below the Codex home, not {entry:?}"
                ));
            }
        }
    }

    let root = parts.join("/");
    if root.is_empty() {
        return Ok(None);
    }

    let looks_like_folder = !root.contains('.');
    let refusal = match never_synced_reason(&root) {
        // A folder of databases or locks is recognized by the files inside.
        None if looks_like_folder => never_synced_reason(&format!("{root}/x")),
        why => why,
    };
    match refusal {
        Some(why) => Err(format!("must not contain {entry:?}: {why}")),
        None => Ok(Some(root)),
    }
}

/// Names at the top of a home that may be links: sync follows them and keeps them. Settings are not in the list; nor
/// are entries that Codex does not know, because they may link to anything.
pub(crate) const LINKABLE_NAMES: &[&str] = &[
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

/// Returns true if sync follows a link at this path of a home.
pub(crate) fn follows_link(path: &str, roots: &[String]) -> bool {
    let is_named_root = || roots.iter().any(|root| root == path) && !names_programs_to_run(path);
    !path.contains('/') && (LINKABLE_NAMES.contains(&path) || is_named_root())
}

/// Returns why sync does not follow a link in the home `root`: its target contains the home, or is never synced under
/// its own name. `None` if sync may follow the link, or if the link is broken.
pub(crate) fn reason_not_to_follow(root: &Path, link: &Path) -> Option<&'static str> {
    let (root, target) = (root.canonical().ok()?, link.canonical().ok()?);
    if user::check_link(link).is_err() {
        return Some("a link of a user to files of another user is not followed by root");
    }
    if root.starts_with(&target) {
        return Some("a link to a folder that contains the Codex home is not followed");
    }

    // The name of a folder elsewhere says nothing about its content.
    let name = match target.strip_prefix(&root) {
        Ok(inside) => inside,
        Err(_) if target.is_dir() => return None,
        Err(_) => Path::new(target.file_name()?),
    };

    let name = name.to_string_lossy().replace('\\', "/");
    let never_synced = never_synced_reason(&name).is_some() || names_programs_to_run(&name);
    never_synced.then_some("a link to a file that is never synced is not followed")
}

/// Returns true if one of the `roots` is `folder` or is below `folder`.
pub(crate) fn is_or_contains_root(folder: &str, roots: &[String]) -> bool {
    roots.iter().any(|root| is_at_or_below(root, folder))
}

/// Returns a warning for each entry of `include_roots` that exists on neither side, but has the name of an existing
/// entry or of a file of Codex in another letter case. The warning continues a sentence that begins with
/// `include_roots`.
pub fn describe_misspelled_roots(config: &SyncConfig) -> Vec<String> {
    let side_roots = [&config.local, &config.cloud];
    let find_other_case = |root: &String| {
        let mut paths = side_roots.iter().map(|side_root| side_root.join(root));
        if paths.any(|path| path.symlink_metadata().is_ok()) {
            return None;
        }

        let (folder, name) = root.rsplit_once('/').unwrap_or(("", root));
        let folders = side_roots.iter().map(|side_root| side_root.join(folder));
        let entries = folders.filter_map(|folder| folder.read_dir().ok());
        let existing_names = entries
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let codex_names = match folder {
            "" => LINKABLE_NAMES,
            _ => &[],
        };
        let codex_names = codex_names.iter().map(|known| (*known).to_owned());
        let mut names = existing_names.chain(codex_names);
        names.find(|other| other != name && other.to_lowercase() == name.to_lowercase())
    };

    let roots = config.scope.roots.iter();
    let misspelled_roots = roots.filter_map(|root| Some((root, find_other_case(root)?)));
    misspelled_roots
        .map(|(root, other)| format!("has {root:?}, which does not exist; did you mean {other:?}?"))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeMatch {
    Synced,
    /// A conversation outside the roots. The conversation is synced if it is inside the roots on the other side or was
    /// at the last sync, or if it is the parent of a synced one.
    Companion,
    Excluded,
}

/// The paths of a home and of the cloud folder that are synced.
#[derive(Debug)]
pub struct Scope {
    roots: Vec<String>,
    exclude: GlobSet,
    /// Globs without a slash, which also exclude folders of that name.
    exclude_folders: GlobSet,
    /// True if a root contains conversations.
    has_conversations: bool,
}

impl Scope {
    /// Builds the scope from `include_roots` and `exclude_globs`.
    ///
    /// # Errors
    /// The message for the first invalid glob.
    pub fn build(config: &SyncConfig) -> Result<Self, String> {
        let mut paths = GlobSetBuilder::new();
        let mut folders = GlobSetBuilder::new();
        for pattern in &config.scope.exclude {
            if let Some(glob) = translate_glob(pattern) {
                let names_folders = !pattern.trim().trim_end_matches('/').contains('/');
                let glob = GlobBuilder::new(&glob)
                    .literal_separator(true)
                    .backslash_escape(false)
                    .build()
                    .map_err(|e| format!("{pattern:?} is not a valid glob: {}", e.kind()))?;
                if names_folders {
                    folders.add(glob.clone());
                }
                paths.add(glob);
            }
        }

        let session_folders = [home::SESSIONS, home::ARCHIVED_SESSIONS];
        let has_sessions = |root: &String| session_folders.iter().any(|f| is_at_or_below(root, f));

        Ok(Self {
            has_conversations: config.scope.roots.iter().any(has_sessions),
            roots: config.scope.roots.clone(),
            exclude: paths.build().map_err(|e| e.to_string())?,
            exclude_folders: folders.build().map_err(|e| e.to_string())?,
        })
    }

    /// Returns the paths at which a walk starts; an empty path is the whole side.
    pub(crate) fn walk_roots(&self) -> Vec<&str> {
        if self.roots.is_empty() {
            return vec![""];
        }

        let mut all_roots: Vec<&str> = self.roots.iter().map(String::as_str).collect();
        if self.has_conversations {
            all_roots.extend([home::SESSIONS, home::ARCHIVED_SESSIONS]);
        }
        all_roots.sort_unstable();
        all_roots.dedup();

        // Nested roots would be walked twice.
        let is_inside = |a: &str, b: &str| a.len() > b.len() && is_at_or_below(a, b);
        let is_outermost = |root: &&str| !all_roots.iter().any(|other| is_inside(root, other));
        all_roots.iter().copied().filter(is_outermost).collect()
    }

    /// Returns why a file below a root is not synced; `None` if it may be. Ignores `exclude_globs`.
    pub(crate) fn exclusion_reason(&self, path: &str) -> Option<&'static str> {
        // Nearly all files have such a path. For them, the checks below would take most of the time of a scan.
        if super::rollouts::is_dated_rollout_path(path) {
            return None;
        }
        if let Some(why) = never_synced_reason(path) {
            return Some(why);
        }
        let is_named_root = || self.roots.iter().any(|r| r.eq_ignore_ascii_case(path));
        let can_run_commands = names_programs_to_run(path) && !is_named_root();
        can_run_commands
            .then_some("it can run commands; it is synced only if include_roots names it")
    }

    pub(crate) fn classify(&self, path: &str) -> ScopeMatch {
        if self.exclusion_reason(path).is_some() || self.is_excluded(path) {
            return ScopeMatch::Excluded;
        }
        let is_inside =
            self.roots.is_empty() || self.roots.iter().any(|root| is_at_or_below(path, root));
        if is_inside {
            ScopeMatch::Synced
        } else if self.has_conversations && super::rollouts::key(path).is_some() {
            ScopeMatch::Companion
        } else {
            ScopeMatch::Excluded
        }
    }

    /// Returns true if a glob excludes the file, by its path or by the name of a folder above it.
    pub(crate) fn is_excluded(&self, path: &str) -> bool {
        if self.exclude.is_empty() {
            return false;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.exclude.is_match(path) || folder.split('/').any(|name| self.is_excluded_folder(name))
    }

    fn is_excluded_folder(&self, name: &str) -> bool {
        !self.exclude_folders.is_empty() && self.exclude_folders.is_match(name)
    }

    pub(crate) fn follows_link(&self, path: &str) -> bool {
        follows_link(path, &self.roots)
    }

    /// Returns true if a folder may contain synced files.
    pub(crate) fn may_enter(&self, folder: &str) -> bool {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        // `x` stands for any file in the folder.
        !self.is_excluded_folder(name) && never_synced_reason(&format!("{folder}/x")).is_none()
    }
}

/// Returns true for settings of Codex that name programs to run, and for their copies, such as `config.toml.bak`. If
/// sync copied them, anyone who can write to the cloud folder could run commands on this machine.
fn names_programs_to_run(path: &str) -> bool {
    let lower = path.to_lowercase();
    let is_like = |stem, extension| secrets::has_stem_and_extension(&lower, stem, extension);
    !lower.contains('/') && (is_like("config", ".toml") || is_like("hooks", ".json"))
}

/// Returns true if `path` is `root` or below it.
fn is_at_or_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Translates a pattern of `exclude_globs`; `None` if it matches no file. codexSync matches from the right, as Python's
/// `PurePath.match` does, in which `**` matches one folder. In this function, it matches any number of folders, as in
/// git.
fn translate_glob(pattern: &str) -> Option<String> {
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
    fn folders_that_run_commands_are_refused_under_each_name_that_a_system_takes_for_them() {
        for name in [
            ".git",
            ".GIT",
            ".git.",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~12",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".git::$INDEX_ALLOCATION",
            ".hg",
            ".Hg.",
            ".codex",
            ".codex\u{200d}",
        ] {
            let path = format!("skills/x/{name}/config");
            assert!(never_synced_reason(&path).is_some(), "{name:?}");
        }
        for name in [
            ".gitignore",
            ".github",
            "git",
            "git~",
            "git~x",
            ".hgignore",
            "codex",
            ".codexrc",
        ] {
            let path = format!("skills/x/{name}");
            assert_eq!(never_synced_reason(&path), None, "{name:?}");
        }
    }

    #[test]
    fn never_synced_files_and_outside_paths_are_refused_as_roots() {
        for entry in [
            "auth.json",
            "account-sessions.json",
            "account-sessions",
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
            assert!(normalize_root(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn roots_are_normalized_and_a_dot_selects_the_whole_home() {
        for entry in [".", "./", ""] {
            assert_eq!(normalize_root(entry), Ok(None), "{entry:?}");
        }
        for (entry, root) in [
            ("sessions", "sessions"),
            ("sessions/", "sessions"),
            ("./skills//mine", "skills/mine"),
            ("session_index.jsonl", "session_index.jsonl"),
            ("skills\\mine", "skills/mine"),
        ] {
            assert_eq!(normalize_root(entry), Ok(Some(root.to_owned())), "{entry}");
        }
    }

    #[test]
    fn lock_files_in_skills_and_the_prompt_history_may_be_synced_and_system_skills_never() {
        assert_eq!(never_synced_reason("skills/mine/yarn.lock"), None);
        assert_eq!(never_synced_reason("history.jsonl"), None);
        assert!(never_synced_reason("skills/.system/x").is_some());
    }

    #[test]
    fn globs_match_the_end_of_a_path() {
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
            if let Some(glob) = translate_glob(pattern) {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                set.add(glob.unwrap());
            }
            assert_eq!(set.build().unwrap().is_match(path), matches, "{pattern}");
        }
    }
}
