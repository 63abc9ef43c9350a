//! Whether the names and links in an archive are safe to put back.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::{LinkEntry, Manifest, OUTSIDE_DATABASES};
use super::reader::unsafe_entry;
use crate::codex::home::{self, Kind};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

/// Whether the manifest itself asks for nothing unsafe.
pub(super) fn check_manifest(path: &Path, manifest: &Manifest) -> Result<(), ArchiveError> {
    let files: Vec<_> = manifest.files.iter().map(|f| &f.path).collect();
    let folders: Vec<_> = manifest.folders.iter().map(|f| &f.path).collect();
    check_names(path, &files, &folders, &manifest.links, Clash::OfTopLevel)?;
    for name in &files {
        let outside_database =
            name.as_path().parent() == Some(Path::new(OUTSIDE_DATABASES));
        if name.is_own() && !outside_database {
            return Err(unsafe_entry(path, name, "a name that is ours"));
        }
    }
    Ok(())
}

/// Which names may not differ in letter case alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    /// Top-level names: Codex's own. Below them a disk that keeps case may hold both, and our own
    /// archives list what such a disk held.
    OfTopLevel,
    /// All of them.
    OfAll,
}

/// Checks names against each other: no duplicate, no second spelling, no file that is also a
/// folder, nothing below a link, no link out, none of Codex's own files as a link.
pub(super) fn check_names(
    archive: &Path,
    files: &[&EntryName],
    folders: &[&EntryName],
    links: &[LinkEntry],
    clash: Clash,
) -> Result<(), ArchiveError> {
    let mut seen: HashMap<String, &EntryName> = HashMap::new();
    let mut leaves: HashSet<&Path> = HashSet::new();
    let all = files
        .iter()
        .copied()
        .map(|name| (name, true))
        .chain(links.iter().map(|l| (&l.path, true)))
        .chain(folders.iter().copied().map(|name| (name, false)));
    for (name, is_leaf) in all {
        let key = if clash == Clash::OfAll || name.as_path().components().count() == 1 {
            name.folded()
        } else {
            // Exact duplicates only, but told apart from the folded keys.
            format!(
                "\0{}",
                name.as_path().as_os_str().as_encoded_bytes().escape_ascii()
            )
        };
        if let Some(other) = seen.insert(key, name) {
            let reason = if other == name {
                "twice in the archive"
            } else {
                "differs from another only in letter case"
            };
            return Err(unsafe_entry(archive, name, reason));
        }
        if is_leaf {
            leaves.insert(name.as_path());
        }
    }
    for name in files.iter().chain(folders).copied() {
        if name
            .as_path()
            .ancestors()
            .skip(1)
            .any(|above| leaves.contains(above))
        {
            return Err(unsafe_entry(archive, name, "lies below a file or link"));
        }
    }
    for link in links {
        check_link(archive, link)?;
        if link
            .path
            .as_path()
            .ancestors()
            .skip(1)
            .any(|above| leaves.contains(above))
        {
            return Err(unsafe_entry(
                archive,
                &link.path,
                "lies below a file or link",
            ));
        }
    }
    Ok(())
}

fn check_link(archive: &Path, link: &LinkEntry) -> Result<(), ArchiveError> {
    let refuse = |reason| Err(unsafe_entry(archive, &link.path, reason));
    if matches!(
        home::kind_of(link.path.as_path()),
        Kind::Auth | Kind::Config | Kind::Database | Kind::DatabaseSidecar
    ) {
        return refuse("a link in the place of a login, settings or database");
    }
    if stays_inside(link.path.as_path(), &link.target) {
        Ok(())
    } else {
        refuse("a link out")
    }
}

/// Whether a link at `path` (relative to the home) with `target` stays in the home, by its text.
pub(super) fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    if target.as_os_str().is_empty() {
        return false;
    }
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

