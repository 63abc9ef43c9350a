//! Folders that have to be apart. Where one lies in another, what is kept there would be synced, what is
//! synced would be taken for a snapshot, or a login would be replicated.
//!
//! Compared is what the paths lead to, as far as it exists.

use super::{SyncConfig, SyncConfigError};
use crate::io::tree;
use crate::sync::cloud_names;
use crate::sync::scope::{self, Scope, ScopeMatch};
use std::fmt;
use std::path::{Path, PathBuf};

/// A folder by the name that people know it by.
#[derive(Debug, Clone)]
pub struct NamedFolder {
    name: String,
    path: PathBuf,
    real: PathBuf,
}

impl NamedFolder {
    fn new(name: &str, path: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_path_buf(),
            real: tree::real(path),
        }
    }

    fn is_in(&self, outer: &Self) -> bool {
        let mut above = self.real.ancestors();
        above.any(|folder| folder == outer.real || is_same_folder(folder, &outer.real))
    }
}

impl fmt::Display for NamedFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.path.display())?;
        if self.real != self.path {
            write!(f, ", which is {}", self.real.display())?;
        }
        write!(f, ")")
    }
}

/// Refuses a configuration whose folders are not apart.
pub(super) fn check(config: &SyncConfig, manager_home: &Path) -> Result<(), SyncConfigError> {
    let home = NamedFolder::new("the Codex home", &config.local);
    let cloud = NamedFolder::new("the cloud folder", &config.cloud);
    let backups = NamedFolder::new("the folder of backups", &config.backup_dir);
    let manager = NamedFolder::new("the manager home", manager_home);
    let roots = roots(config);
    let pairs = [
        (&home, &cloud),
        (&cloud, &home),
        (&backups, &cloud),
        // Logins are in it.
        (&manager, &cloud),
        // What lies among the snapshots is taken for one.
        (&cloud, &backups),
        (&home, &backups),
    ];
    // A `sessions` that is a link into the cloud folder, or to what it lies in, would be both sides of
    // itself.
    let linked = roots
        .iter()
        .flat_map(|root| [(root, &cloud), (&cloud, root)]);
    let mut pairs = pairs.into_iter().chain(linked);
    let mut found = pairs.find(|(inner, outer)| inner.is_in(outer));
    for inner in [&backups, &manager] {
        let outer = || roots.iter().find(|root| inner.is_in(root));
        let whole = || is_synced(config, inner, &home).then_some(&home);
        found = found.or_else(|| Some((inner, outer().or_else(whole)?)));
    }
    match found {
        None => Ok(()),
        Some((inner, outer)) => Err(SyncConfigError::Overlap {
            inner: Box::new(inner.clone()),
            outer: Box::new(outer.clone()),
            path: config.path.clone(),
        }),
    }
}

/// What is synced of the home, where a link may lead out of it.
fn roots(config: &SyncConfig) -> Vec<NamedFolder> {
    let roots: Vec<&str> = if config.roots.is_empty() {
        scope::LINKABLE_NAMES.to_vec()
    } else {
        config.roots.iter().map(String::as_str).collect()
    };
    let folder = |root: &str| {
        let name = format!("{root} of the Codex home");
        NamedFolder::new(&name, &config.local.join(root))
    };
    roots.into_iter().map(folder).collect()
}

/// Whether a folder in the home would be synced with it, or holds what is.
fn is_synced(config: &SyncConfig, inner: &NamedFolder, home: &NamedFolder) -> bool {
    let relative = inner.real.strip_prefix(&home.real).ok();
    let Some(relative) = relative.and_then(Path::to_str) else {
        return false;
    };
    let relative = relative.replace('\\', "/");
    if relative.is_empty() || scope::contains_root(&relative, &config.roots) {
        return true;
    }
    // A glob that means nothing is somebody else's to refuse.
    Scope::of(config).is_ok_and(|scope| {
        scope.may_enter(&relative)
            && !cloud_names::is_scratch(&relative)
            && takes_below(&scope, &relative)
    })
}

/// How deep files lie in a folder of ours, at most: those of a conversation in a snapshot, and some.
const MAX_DEPTH: usize = 12;

/// Whether anything in a folder is synced. Globs match files, each at its depth and by its name: `bk/*`
/// leaves out what lies in the folder itself alone.
fn takes_below(scope: &Scope, folder: &str) -> bool {
    let mut folder = folder.to_owned();
    (0..MAX_DEPTH).any(|_| {
        let mut files = ["any-file", "any-file.jsonl"].into_iter();
        let is_taken =
            files.any(|name| scope.classify(&format!("{folder}/{name}")) == ScopeMatch::Synced);
        folder.push_str("/any-folder");
        is_taken
    })
}

/// Whether two paths are one folder all the same: by a mount, or on a disk that ignores letter case.
#[cfg(unix)]
fn is_same_folder(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_folder(_: &Path, _: &Path) -> bool {
    false
}
