//! Whether the names and links in an archive are safe to put back.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::{LinkEntry, Manifest, OUTSIDE_DATABASES};

use crate::codex::home::{self, Kind, kind_of};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

/// Whether the manifest itself asks for nothing unsafe.
pub(super) fn check_manifest(path: &Path, manifest: &Manifest) -> Result<(), ArchiveError> {
    let files: Vec<_> = manifest.files.iter().map(|f| &f.path).collect();
    let folders: Vec<_> = manifest.folders.iter().map(|f| &f.path).collect();
    check_names(path, &files, &folders, &manifest.links, Clash::OfCodexNames)?;
    // What counts for nothing must not be what counts.
    let void: HashSet<_> = manifest.void.iter().collect();
    if let Some(name) = files.iter().find(|name| void.contains(*name)) {
        return Err(ArchiveError::unsafe_entry(
            path,
            name,
            "twice in the archive",
        ));
    }
    if let Some(file) = manifest.files.iter().find(|f| f.sha256.is_none()) {
        return Err(ArchiveError::damaged(
            path,
            format!("{} has no digest", file.path),
        ));
    }
    let links = manifest.links.iter().map(|l| &l.path);
    for name in files.iter().chain(&folders).copied().chain(links) {
        let outside_database = name.as_path().parent() == Some(Path::new(OUTSIDE_DATABASES))
            && name
                .as_path()
                .file_name()
                .is_some_and(|n| kind_of(Path::new(n)) == Kind::Database);
        if name.is_own() && !outside_database {
            return Err(ArchiveError::unsafe_entry(
                path,
                name,
                "a name that is ours",
            ));
        }
        // Folded into the database by whoever made the archive. SQLite believes what stands beside
        // a database, down to removing files that a journal names.
        if kind_of(name.as_path()) == Kind::DatabaseSidecar {
            return Err(ArchiveError::unsafe_entry(
                path,
                name,
                "a journal beside a database",
            ));
        }
    }
    Ok(())
}

/// Which names may not differ in letter case alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    /// Codex's own top-level names. Others may stand twice on a disk that keeps case, and our own
    /// archives list what such a disk held.
    OfCodexNames,
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
    let mut names = Vec::with_capacity(files.len() + links.len() + folders.len());
    // Few: only they can clash by letter case.
    let mut folded: HashMap<String, &EntryName> = HashMap::new();
    let all = files
        .iter()
        .copied()
        .map(|name| (name, true))
        .chain(links.iter().map(|l| (&l.path, true)))
        .chain(folders.iter().copied().map(|name| (name, false)));
    for (name, is_leaf) in all {
        let is_codex = || home::is_codex_name(name.top());
        let is_top = name.as_path().components().count() == 1;
        if clash == Clash::OfAll || (is_top && is_codex()) {
            match folded.insert(name.folded(), name) {
                Some(other) if other != name => {
                    let reason = "differs from another only in letter case";
                    return Err(ArchiveError::unsafe_entry(archive, name, reason));
                }
                _ => {}
            }
        }
        names.push((name, is_leaf));
    }
    drop(folded);
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(ArchiveError::unsafe_entry(
            archive,
            twice[0].0,
            "twice in the archive",
        ));
    }
    let is_leaf = |path: &Path| {
        let found = names.binary_search_by(|(name, _)| name.as_path().cmp(path));
        found.is_ok_and(|i| names[i].1)
    };
    // Names of one folder follow each other mostly.
    let mut sound = None;
    let mut lies_below_leaf = |name: &'_ EntryName| {
        let parent = name
            .as_path()
            .parent()
            .unwrap_or(Path::new(""))
            .to_path_buf();
        if sound.as_ref() == Some(&parent) {
            return false;
        }
        let below = parent.ancestors().any(&is_leaf);
        sound = Some(parent);
        below
    };
    let places = files.iter().map(|name| (*name, true));
    for (name, is_file) in places.chain(folders.iter().map(|name| (*name, false))) {
        check_place(archive, name, is_file)?;
        if lies_below_leaf(name) {
            return Err(ArchiveError::unsafe_entry(
                archive,
                name,
                "lies below a file or link",
            ));
        }
    }
    for link in links {
        check_link(archive, link)?;
        if lies_below_leaf(&link.path) {
            return Err(ArchiveError::unsafe_entry(
                archive,
                &link.path,
                "lies below a file or link",
            ));
        }
    }
    Ok(())
}

/// Codex's own files are files at the top: a folder in the place of one would replace it.
fn check_place(archive: &Path, name: &EntryName, is_file: bool) -> Result<(), ArchiveError> {
    let top = Path::new(name.top());
    let is_codex_file = matches!(
        kind_of(top),
        Kind::Auth | Kind::Config | Kind::Database | Kind::InstallationId
    );
    if is_codex_file && (!is_file || name.as_path() != top) {
        return Err(ArchiveError::unsafe_entry(
            archive,
            name,
            "a folder in the place of a login, settings or database",
        ));
    }
    Ok(())
}

fn check_link(archive: &Path, link: &LinkEntry) -> Result<(), ArchiveError> {
    let refuse = |reason| Err(ArchiveError::unsafe_entry(archive, &link.path, reason));
    if matches!(
        kind_of(link.path.as_path()),
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
pub(in crate::archive) fn stays_inside(path: &Path, target: &Path) -> bool {
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
