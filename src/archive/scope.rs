//! What of a home is to be captured: kinds, paths, and what the user leaves out.

use super::entry_name::EntryName;
use super::metadata::Mode;
use super::name_table::NameSet;
use crate::codex::home::HomeEntryKind;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::{Path, PathBuf};

/// What to capture, and from where.
#[derive(Debug, Clone)]
pub struct CaptureScope {
    /// The Codex home, absolute.
    pub home: PathBuf,
    /// Where the databases are, if outside the home (`sqlite_home`, `CODEX_SQLITE_HOME`).
    pub sqlite_home: Option<PathBuf>,
    /// Which kinds.
    pub mode: Mode,
    /// `tmp/` and `.tmp/` too.
    pub include_tmp: bool,
    /// What the user left out, relative to the home.
    pub excludes: Excludes,
    /// Where given: only this (safety backups).
    pub only: Option<Part>,
    /// What putting the archive back removes (safety backups).
    pub undo_removes: Vec<EntryName>,
    /// The manager home, where that is in the home: archives do not hold archives.
    pub(super) manager_home: Option<PathBuf>,
}

impl CaptureScope {
    /// Everything that `mode` captures of `home`.
    pub fn new(home: &Path, mode: Mode) -> Self {
        Self {
            home: home.to_path_buf(),
            sqlite_home: None,
            mode,
            include_tmp: false,
            excludes: Excludes::default(),
            only: None,
            undo_removes: Vec::new(),
            manager_home: None,
        }
    }

    /// Leaves the manager home out, should it lie in the Codex home.
    pub fn set_manager_home(&mut self, manager_home: &Path) {
        // It may be about to be made: what is above it stands.
        let real = manager_home.ancestors().find_map(|above| {
            let rest = manager_home.strip_prefix(above).ok()?;
            Some(above.canonicalize().ok()?.join(rest))
        });
        self.manager_home = match (real, self.home.canonicalize()) {
            (Some(manager), Ok(home)) => manager
                .strip_prefix(&home)
                .ok()
                .filter(|p| !p.as_os_str().is_empty())
                .map(Path::to_path_buf),
            _ => None,
        };
    }

    /// Whether a path of this kind is captured.
    pub fn captures(&self, kind: HomeEntryKind) -> bool {
        if kind.is_excluded(self.include_tmp) {
            return false;
        }
        match self.mode {
            Mode::Full => true,
            Mode::Auth => kind.is_account(),
            Mode::Sessions => kind.is_conversation(),
        }
    }

    /// Whether `only` names `relative`, a folder above it, or something below it.
    pub(super) fn wants(&self, relative: &Path) -> bool {
        self.only.as_ref().is_none_or(|part| part.touches(relative))
    }
}

/// Part of a home: some paths and what is below them.
#[derive(Debug, Clone)]
pub struct Part {
    named: NameSet,
    /// The folders that something named is in.
    above: NameSet,
}

impl Part {
    /// The part that `named` names.
    pub fn of(named: NameSet) -> Self {
        let mut above = named.without(&named);
        let mut last = PathBuf::new();
        for name in named.iter() {
            let folders = || name.as_path().ancestors().skip(1);
            // Names of one folder follow each other mostly.
            if folders().next() == Some(&last) {
                continue;
            }
            above.extend(folders().filter_map(|folder| EntryName::of_path(folder).ok()));
            last = folders().next().unwrap_or(Path::new("")).to_path_buf();
        }
        Self { named, above }
    }

    fn touches(&self, relative: &Path) -> bool {
        self.named.contains(relative)
            || self.named.has_above(relative)
            || self.above.contains(relative)
    }
}

/// Globs of paths to leave out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    globs: Vec<String>,
    set: GlobSet,
}

impl Excludes {
    /// Compiles `globs`. A glob without `/` matches names at any depth, and `*` stays within a name, as for
    /// git.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            let anchored = glob.trim_start_matches('/').trim_end_matches('/');
            builder.add(glob_of(anchored)?);
            if !glob.trim_end_matches('/').contains('/') {
                builder.add(glob_of(&format!("**/{anchored}"))?);
            }
        }
        Ok(Self {
            globs: globs.to_vec(),
            set: builder.build()?,
        })
    }

    /// As they were given.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether a glob, one that compiles, fits none of the paths that were left out, nor asks for something
    /// below one of them, which nobody has looked at.
    pub fn is_idle<'a>(glob: &str, mut left_out: impl Iterator<Item = &'a Path>) -> bool {
        let Ok(alone) = Self::new(&[glob.to_owned()]) else {
            return false;
        };
        let asked = Path::new(glob.trim_start_matches('/'));
        !left_out.any(|path| alone.matches(path) || asked.starts_with(path))
    }

    /// Whether `relative`, or a folder above it, is left out.
    pub fn matches(&self, relative: &Path) -> bool {
        !self.globs.is_empty()
            && relative
                .ancestors()
                .filter(|p| !p.as_os_str().is_empty())
                .any(|p| self.set.is_match(p))
    }
}

fn glob_of(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_that_left_nothing_out_is_idle() {
        let left_out = ["plugins", "sessions/2026/x.bin", "tmp"];
        for (glob, idle) in [
            ("plugins", false),
            ("/plugins/", false),
            ("*.bin", false),
            ("plugins/cache", false),
            ("tmp/x", false),
            ("plugin", true),
            ("sessions/*.bin", true),
            ("*.dat", true),
        ] {
            let found = Excludes::is_idle(glob, left_out.iter().map(Path::new));
            assert_eq!(found, idle, "{glob}");
        }
    }

    #[test]
    fn a_star_in_a_glob_stays_within_a_name() {
        for (glob, path, matches) in [
            ("sessions/*.bin", "sessions/x.bin", true),
            ("sessions/*.bin", "sessions/2026/x.bin", false),
            ("sessions/**/*.bin", "sessions/2026/11/x.bin", true),
            ("sessions/*", "sessions/2026/11/x.bin", true),
            ("*.bin", "sessions/2026/x.bin", true),
            ("a*z", "a/z", false),
        ] {
            let excludes = Excludes::new(&[glob.to_owned()]).unwrap();
            assert_eq!(excludes.matches(Path::new(path)), matches, "{glob} {path}");
        }
    }
}
