//! The scope of a backup: modes, paths, and globs of the user.

use super::format::{BackupMode, EntryName, LinkEntry, NameSet};
use crate::codex::home::HomeEntryKind;
use crate::io::links;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::{Path, PathBuf};

/// The reason for leaving out the files that SQLite keeps beside a database.
pub const IN_DATABASE_SNAPSHOT: &str = "included in the database's snapshot";

/// The part of a home that a backup captures.
#[derive(Debug, Clone, Default)]
pub struct CaptureScope {
    /// Absolute path of the Codex home.
    pub home: PathBuf,
    /// Folder of the databases if it is not the home (`sqlite_home`, `CODEX_SQLITE_HOME`).
    pub sqlite_home: Option<PathBuf>,
    /// The kinds of files to capture.
    pub mode: BackupMode,
    /// True to capture `tmp/` and `.tmp/` as well.
    pub include_tmp: bool,
    /// True to capture `worktrees/` as well.
    pub include_worktrees: bool,
    /// True to skip logins, because others can read the archive.
    pub without_logins: bool,
    /// Globs of the user for paths to leave out, relative to the home.
    pub excludes: Excludes,
    /// Limits the capture to these paths. Used for safety backups.
    pub only: Option<HomeSubset>,
    /// Paths that a restore of the archive removes. Used for safety backups.
    pub undo_removes: Vec<EntryName>,
    /// Top-level links that a restore of the archive brings back. Used for safety backups.
    pub replaced_links: Vec<LinkEntry>,
    /// The manager home relative to the Codex home, if it is inside the Codex home. It is excluded, so that no archive
    /// contains other archives.
    pub(super) manager_home: Option<PathBuf>,
}

impl CaptureScope {
    /// Creates a scope of everything in `home` that `mode` captures.
    pub fn new(home: &Path, mode: BackupMode) -> Self {
        Self {
            home: home.to_path_buf(),
            mode,
            ..Self::default()
        }
    }

    /// Excludes the manager home if it is inside the Codex home.
    pub fn exclude_manager_home(&mut self, manager_home: &Path) {
        let real_path = links::resolve_links(manager_home);
        let real_home = links::resolve_links(&self.home);
        let relative = real_path.strip_prefix(real_home).ok();
        // An empty path is the Codex home itself. If it were excluded, the archive would be empty.
        let inside = relative.filter(|path| !path.as_os_str().is_empty());
        self.manager_home = inside.map(Path::to_path_buf);
    }

    /// Returns true if files of this kind are captured.
    pub fn captures(&self, kind: HomeEntryKind) -> bool {
        self.exclusion_reason(kind).is_none() && self.mode.includes(kind)
    }

    /// Returns the reason why a backup of any mode leaves out files of this kind; `None` if some mode captures them.
    pub(super) fn exclusion_reason(&self, kind: HomeEntryKind) -> Option<&'static str> {
        match kind {
            HomeEntryKind::DatabaseSidecar => Some(IN_DATABASE_SNAPSHOT),
            HomeEntryKind::Transient => {
                Some("Codex creates it again, or it belongs to this machine")
            }
            HomeEntryKind::Tmp if !self.include_tmp => {
                Some("temporary files (--include-tmp archives them)")
            }
            HomeEntryKind::Worktrees if !self.include_worktrees => {
                Some("checkouts that Codex made (--include-worktrees archives them)")
            }
            _ => None,
        }
    }

    /// Returns true if [`CaptureScope::only`] is not set, or includes `relative` or a path below it.
    pub(super) fn selects(&self, relative: &Path) -> bool {
        self.only
            .as_ref()
            .is_none_or(|subset| subset.includes(relative))
    }
}

/// A set of paths of a home, each including everything below it.
#[derive(Debug, Clone)]
pub struct HomeSubset {
    names: NameSet,
    /// All parent folders of these paths.
    parents: NameSet,
}

impl HomeSubset {
    /// Creates the subset of the paths `names`.
    pub fn new(names: NameSet) -> Self {
        let mut parents = NameSet::with_name_table(names.name_table());
        for name in names.iter() {
            let folders = name.as_path().ancestors().skip(1);
            for folder in folders.map_while(|folder| EntryName::from_path(folder).ok()) {
                // The parents of a folder that is in the set are in it, too.
                if !parents.insert(&folder) {
                    break;
                }
            }
        }

        Self { names, parents }
    }

    /// Returns true if the set has `relative`, one of its parents, or a path below it.
    fn includes(&self, relative: &Path) -> bool {
        self.names.contains(relative)
            || self.names.contains_ancestor_of(relative)
            || self.parents.contains(relative)
    }
}

/// Globs for paths to leave out of a backup.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    /// The globs as the user wrote them.
    pub(crate) globs: Vec<String>,
    glob_set: GlobSet,
}

impl Excludes {
    /// Compiles `globs`. As in git, a glob without `/` matches names at any depth, and `*` does not match a `/`.
    ///
    /// # Errors
    /// A glob has a syntax error.
    pub fn compile(globs: &[String]) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            let anchored = glob.trim_start_matches('/').trim_end_matches('/');
            builder.add(build_glob(anchored)?);
            // A `/` before the end binds a glob to the home.
            if !glob.trim_end_matches('/').contains('/') {
                builder.add(build_glob(&format!("**/{anchored}"))?);
            }
        }

        Ok(Self {
            globs: globs.to_vec(),
            glob_set: builder.build()?,
        })
    }

    /// Returns true if `glob` is valid, matches none of the excluded paths, and cannot match a path inside an excluded
    /// folder, which the scan did not enter.
    pub fn matches_nothing<'a>(glob: &str, mut excluded: impl Iterator<Item = &'a Path>) -> bool {
        let Ok(matcher) = Self::compile(&[glob.to_owned()]) else {
            return false;
        };
        let glob_path = Path::new(glob.trim_start_matches('/'));
        !excluded.any(|path| matcher.matches(path) || glob_path.starts_with(path))
    }

    /// Returns true if a glob matches `relative` or one of its parents.
    pub fn matches(&self, relative: &Path) -> bool {
        !self.globs.is_empty()
            && relative
                .ancestors()
                .filter(|p| !p.as_os_str().is_empty())
                .any(|p| self.glob_set.is_match(p))
    }
}

fn build_glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_nothing_is_true_for_globs_that_match_no_excluded_path() {
        let left_out = ["plugins", "sessions/2026/x.bin", "tmp"];
        for (glob, expected) in [
            ("plugins", false),
            ("/plugins/", false),
            ("*.bin", false),
            ("plugins/cache", false),
            ("tmp/x", false),
            ("plugin", true),
            ("sessions/*.bin", true),
            ("*.dat", true),
        ] {
            let found = Excludes::matches_nothing(glob, left_out.iter().map(Path::new));
            assert_eq!(found, expected, "{glob}");
        }
    }

    #[test]
    fn star_does_not_match_a_slash_but_a_matched_folder_includes_all_below_it() {
        for (glob, path, matches) in [
            ("sessions/*.bin", "sessions/x.bin", true),
            ("sessions/*.bin", "sessions/2026/x.bin", false),
            ("sessions/**/*.bin", "sessions/2026/11/x.bin", true),
            ("sessions/*", "sessions/2026/11/x.bin", true),
            ("*.bin", "sessions/2026/x.bin", true),
            ("a*z", "a/z", false),
        ] {
            let excludes = Excludes::compile(&[glob.to_owned()]).unwrap();
            assert_eq!(excludes.matches(Path::new(path)), matches, "{glob} {path}");
        }
    }
}
