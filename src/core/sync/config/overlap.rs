//! Refuses a configuration with overlapping folders. Otherwise sync would copy its own snapshots, take synced files for
//! snapshots, or replicate logins.
//!
//! Paths are compared after resolving their links, as far as the paths exist.

use super::settings::{SyncConfig, SyncConfigError};
use crate::io::{file_id, links};
use crate::sync::cloud_names;
use crate::sync::scope::{self, Scope, ScopeMatch};
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
struct NamedFolder {
    /// The name for messages, such as "the cloud folder".
    name: String,
    path: PathBuf,
    /// The path without links.
    resolved_path: PathBuf,
    /// The ids of the folder and of the folders above it. Paths with equal ids lead to the same folder, even if one
    /// leads through a mount or differs in case.
    ids: Vec<Option<(u64, u64)>>,
}

impl NamedFolder {
    fn resolve(name: &str, path: &Path) -> Self {
        let resolved_path = links::resolve_links(path);
        let folders = resolved_path.ancestors();
        Self {
            name: name.to_owned(),
            path: path.to_path_buf(),
            ids: folders.map(file_id::read_device_and_inode).collect(),
            resolved_path,
        }
    }

    /// Returns true if the folder is `outer` or is inside it.
    fn is_in(&self, outer: &Self) -> bool {
        let outer_id = outer.ids.first().copied().flatten();
        self.resolved_path.starts_with(&outer.resolved_path)
            || outer_id.is_some() && self.ids.contains(&outer_id)
    }
}

impl fmt::Display for NamedFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.path.display())?;
        if self.resolved_path != self.path {
            write!(f, ", which is {}", self.resolved_path.display())?;
        }
        write!(f, ")")
    }
}

/// Fails if the folders of a configuration overlap.
pub(super) fn check(config: &SyncConfig, manager_home: &Path) -> Result<(), SyncConfigError> {
    let home = NamedFolder::resolve("the Codex home", &config.local);
    let cloud = NamedFolder::resolve("the cloud folder", &config.cloud);
    let backups = NamedFolder::resolve("the backup folder", &config.backup.folder);
    let manager = NamedFolder::resolve("the manager home", manager_home);
    let roots = list_synced_entries(config);

    let pairs = [
        (&home, &cloud),
        (&cloud, &home),
        (&backups, &cloud),
        // The manager home contains logins.
        (&manager, &cloud),
        // Every folder in the backup folder counts as a snapshot.
        (&cloud, &backups),
        (&home, &backups),
    ];

    // If `sessions` is a link into the cloud folder, or to a parent of it, both sides would be the same
    // files.
    let pairs_of_roots = roots.iter().flat_map(|r| [(r, &cloud), (&cloud, r)]);

    let mut pairs = pairs.into_iter().chain(pairs_of_roots);
    let overlapping_pair = pairs.find(|(inner, outer)| inner.is_in(outer));

    // The backup folder and the manager home may be in the home, if sync copies nothing in them.
    let find_folder_in_home = || {
        [&backups, &manager].into_iter().find_map(|inner| {
            if let Some(root) = roots.iter().find(|root| inner.is_in(root)) {
                return Some((inner, root));
            }
            is_synced_folder(config, inner, &home).then_some((inner, &home))
        })
    };

    match overlapping_pair.or_else(find_folder_in_home) {
        None => Ok(()),
        Some((inner, outer)) => Err(SyncConfigError::Overlap {
            inner: inner.to_string(),
            outer: outer.to_string(),
            path: config.path.clone(),
        }),
    }
}

/// Returns the synced entries of the home. Each of them may be a link that leads out of the home.
fn list_synced_entries(config: &SyncConfig) -> Vec<NamedFolder> {
    let roots: Vec<&str> = if config.scope.roots.is_empty() {
        scope::LINKABLE_NAMES.to_vec()
    } else {
        config.scope.roots.iter().map(String::as_str).collect()
    };
    let to_named_folder = |root: &str| {
        let name = format!("{root} of the Codex home");
        NamedFolder::resolve(&name, &config.local.join(root))
    };
    roots.into_iter().map(to_named_folder).collect()
}

/// Returns true if `inner` is in the home, and sync would copy files in it.
fn is_synced_folder(config: &SyncConfig, inner: &NamedFolder, home: &NamedFolder) -> bool {
    let relative = inner.resolved_path.strip_prefix(&home.resolved_path).ok();
    let Some(relative) = relative.and_then(Path::to_str) else {
        return false;
    };

    let relative = relative.replace('\\', "/");
    if relative.is_empty() || scope::is_or_contains_root(&relative, &config.scope.roots) {
        return true;
    }

    // An invalid glob is reported elsewhere.
    Scope::build(config).is_ok_and(|scope| {
        scope.may_enter(&relative)
            && !cloud_names::is_scratch(&relative)
            && syncs_any_file_below(&scope, &relative)
    })
}

/// The number of folder levels that [`syncs_any_file_below`] tests: more than a conversation in a snapshot has.
const MAX_TESTED_DEPTH: usize = 12;

/// Returns true if sync would copy a file anywhere below a folder. Each level is tested, because a glob may exclude
/// only one: `bk/*` excludes the files directly in `bk`.
fn syncs_any_file_below(scope: &Scope, folder: &str) -> bool {
    let mut folder = folder.to_owned();
    for _ in 0..MAX_TESTED_DEPTH {
        let mut files = ["any-file", "any-file.jsonl"].into_iter();
        if files.any(|name| scope.classify(&format!("{folder}/{name}")) == ScopeMatch::Synced) {
            return true;
        }
        folder.push_str("/any-folder");
    }
    false
}
