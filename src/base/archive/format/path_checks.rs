//! Checks that the names and links of an archive are safe to restore.

use super::entry_name::{EntryName, fold_case};
use super::manifest::{ArchiveManifest, EXTERNAL_DATABASES_FOLDER};
use super::name_table::NameSet;
use crate::archive::error::ContentError;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Component, Path, PathBuf};

/// Checks all names and links of a manifest, and that every file has a digest.
///
/// # Errors
/// Names the first unsafe entry, or the first file without a digest.
pub(crate) fn check_manifest(manifest: &ArchiveManifest) -> Result<(), ContentError> {
    check_entries(manifest)?;
    match manifest.files.iter().find(|file| file.digest.is_none()) {
        None => Ok(()),
        Some(file) => {
            let message = format!("{} has no digest", file.path);
            Err(ContentError::damaged(message))
        }
    }
}

/// Checks all names and links of a manifest.
///
/// # Errors
/// Names the first unsafe entry.
pub fn check_entries(manifest: &ArchiveManifest) -> Result<(), ContentError> {
    check_names(manifest)?;
    let refuse = |name: &EntryName, reason| Err(ContentError::unsafe_entry(name, reason));

    // A name that is both void and a file would make the result depend on the reader.
    let void_names: HashSet<_> = manifest.void.iter().collect();
    for file in manifest.files.iter() {
        if void_names.contains(&file.path) {
            return refuse(&file.path, "twice in the archive");
        }
    }

    for name in manifest.entry_names() {
        let path = name.as_path();
        let is_external_database = path.parent() == Some(Path::new(EXTERNAL_DATABASES_FOLDER))
            && path
                .file_name()
                .is_some_and(|n| kind_of(Path::new(n)) == HomeEntryKind::Database);
        if name.is_manager_name() && !is_external_database {
            return refuse(&name, "a name reserved for codex-manager");
        }

        // Archives of this program have no SQLite journals: their content is in the database's
        // snapshot. SQLite trusts a journal beside a database, and even removes files that it
        // names.
        if kind_of(path) == HomeEntryKind::DatabaseSidecar {
            return refuse(&name, "a SQLite journal beside a database");
        }
    }

    Ok(())
}

/// Checks names against each other.
///
/// - A name occurs once. Names of Codex do not differ in letter case only. Other names may, because a case-sensitive
///   disk can have them; see [`check_case_collisions`].
/// - No entry is below a file or link.
/// - No link leads out of the home.
/// - No link and no folder is in place of a file of Codex that must not be one; see [`link_problem`] and
///   [`folder_problem`].
///
/// # Errors
/// Names the first entry that breaks a rule.
pub(crate) fn check_names(manifest: &ArchiveManifest) -> Result<(), ContentError> {
    let refuse = |name: &EntryName, reason| Err(ContentError::unsafe_entry(name, reason));
    let (files, links) = (&manifest.files, &manifest.links);

    // A separate pass, so that its other sets are freed here: memory limits a restore of half a million files.
    let files_and_links = collect_unique_names(manifest)?;
    // Adjacent names usually share a folder, so ancestors are looked up only where the folder changes.
    let mut checked_folder = PathBuf::new();
    for (index, name) in manifest.entry_names().enumerate() {
        let (path, top) = (name.as_path(), Path::new(name.top()));
        // `entry_names` returns the files, then the links, then the folders.
        let is_top_level_file = index < files.len() && path == top;
        let link = index.checked_sub(files.len()).and_then(|i| links.get(i));

        let reason = match link {
            Some(link) => link_problem(path, &link.target),
            None if is_top_level_file => None,
            // The first component of a longer name is a folder.
            None => folder_problem(top),
        };

        if let Some(reason) = reason {
            return refuse(&name, reason);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder != checked_folder {
            if files_and_links.contains_ancestor_of(path) {
                return refuse(&name, "is below a file or link");
            }
            checked_folder = folder.to_path_buf();
        }
    }

    Ok(())
}

/// Returns the names of files and links. Fails on duplicates, and on names of Codex that differ only in letter case.
fn collect_unique_names(manifest: &ArchiveManifest) -> Result<NameSet, ContentError> {
    let refuse = |name: &EntryName, reason| Err(ContentError::unsafe_entry(name, reason));
    let (files, links) = (&manifest.files, &manifest.links);
    let mut files_and_links = NameSet::with_name_table(files.name_table());
    let mut all_names = NameSet::with_name_table(files.name_table());
    // Only the few names that Codex uses can collide, so only these are stored.
    let mut names_by_folded: HashMap<String, EntryName> = HashMap::new();

    for name in manifest.entry_names() {
        let is_top = name.as_path().components().count() == 1;
        if is_top && home::is_codex_name(name.top()) {
            let other = names_by_folded.insert(name.fold_case(), name.clone());
            if other.is_some_and(|other| other != name) {
                return refuse(&name, "differs from another name only in letter case");
            }
        }

        if !all_names.insert(&name) {
            return refuse(&name, "twice in the archive");
        }

        // `entry_names` returns the files and links before the folders.
        if all_names.len() <= files.len() + links.len() {
            files_and_links.insert(&name);
        }
    }
    Ok(files_and_links)
}

/// Checks that no two of these names or of their parent folders differ only in letter case: a disk that ignores case
/// would merge them.
///
/// # Errors
/// Names the second of the two colliding names.
pub fn check_case_collisions(
    names: impl IntoIterator<Item = EntryName>,
) -> Result<(), ContentError> {
    // Hashes, because half a million names twice would take more memory than the rest of a restore. With a random seed,
    // no archive can have names chosen for equal hashes.
    let hashes = RandomState::new();
    let mut exact_hash_by_folded_hash: HashMap<u64, u64> = HashMap::new();

    for name in names {
        let paths = name.as_path().ancestors();
        for path in paths.filter(|path| !path.as_os_str().is_empty()) {
            let exact_hash = hashes.hash_one(path);
            match exact_hash_by_folded_hash.insert(hashes.hash_one(fold_case(path)), exact_hash) {
                None => {}
                // The parents of a known path are known, too.
                Some(known_hash) if known_hash == exact_hash => break,
                Some(_) => {
                    return Err(ContentError::Unsafe {
                        entry: path
                            .to_string_lossy()
                            .replace(std::path::MAIN_SEPARATOR, "/"),
                        reason: "differs from another name only in letter case, which this disk ignores",
                    });
                }
            }
        }
    }

    Ok(())
}

/// Returns the reason if there must be no folder at `path` (relative to the home), because the folder would replace a
/// file of Codex. Allows a folder with another name that merely ends like the name of a database.
pub(crate) fn folder_problem(path: &Path) -> Option<&'static str> {
    let is_codex_file = match kind_of(path) {
        HomeEntryKind::Auth | HomeEntryKind::Config | HomeEntryKind::InstallationId => true,
        HomeEntryKind::Database => home::is_versioned_database(path),
        _ => false,
    };
    let is_top = path.components().count() == 1;
    (is_top && is_codex_file).then_some("a folder in place of a login, settings or database")
}

/// Returns the reason if there must be no symbolic link to `target` at `path` (relative to the
/// home).
pub fn link_problem(path: &Path, target: &Path) -> Option<&'static str> {
    if !kind_of(path).can_be_link() {
        return Some("a link in place of a login, settings, database or list of Codex");
    }
    (!stays_inside(path, target)).then_some("a link out of the home")
}

/// Returns the target of the link at `path` (relative to the home) in archive form: an absolute
/// target inside `home` becomes relative.
pub fn relativize_target(home: &Path, path: &Path, target: &Path) -> PathBuf {
    let Ok(inside_home) = target.strip_prefix(home) else {
        return target.to_path_buf();
    };
    let depth = path.components().count().saturating_sub(1);
    let parent_steps: PathBuf = std::iter::repeat_n("..", depth).collect();
    match parent_steps.join(inside_home) {
        empty if empty.as_os_str().is_empty() => PathBuf::from("."),
        target => target,
    }
}

/// Returns true if a link at `path` (relative to the home) leads into the home, judged by the text
/// of `target`. A `..` after a name is refused: the name may be another link, so the result is
/// unknown.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    if target.as_os_str().is_empty() {
        return false;
    }

    let mut has_name = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => has_name = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !has_name => depth -= 1,
            _ => return false,
        }
    }

    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_only_in_case_or_unicode_form_are_refused() {
        let check = |names: &[&str]| {
            let names: Vec<_> = names
                .iter()
                .map(|name| EntryName::from_path(Path::new(name)).unwrap())
                .collect();
            let checked = check_case_collisions(names);
            checked.map_err(|e| e.into_archive_error(Path::new("x.tar.gz")))
        };
        check(&["notes.txt", "skills/a/x", "skills/b/x"]).unwrap();
        // Two such folders would become one, with the files of both.
        for (second, named) in [
            ("Notes.txt", "Notes.txt"),
            ("skills/A/x", "skills/A/x"),
            ("SKILLS/a/X", "SKILLS/a/X"),
            ("Skills/other", "Skills"),
            ("skills/A/deep/er", "skills/A"),
            ("skills/A", "skills/A"),
            ("caf\u{e9}", "caf\u{e9}"),
        ] {
            let refused = check(&[
                "notes.txt",
                "skills/a/x",
                "skills/b/y",
                "cafe\u{301}",
                second,
            ])
            .unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(&format!(": {named})")), "{second}: {refused}");
        }
    }

    #[test]
    fn stays_inside_refuses_targets_that_leave_and_parent_steps_after_a_name() {
        for (path, target, stays) in [
            ("skills/a/l", "../b", true),
            ("skills/a/l", "../../x", true),
            ("skills/a/l", "../../../x", false),
            ("x", ".", true),
            ("x", "..", false),
            ("skills/l", "b/../c", false),
            ("skills/l", "../x/../.bashrc", false),
            ("skills/l", "/etc", false),
        ] {
            let found = stays_inside(Path::new(path), Path::new(target));
            assert_eq!(found, stays, "{path} -> {target}");
        }
    }
}
