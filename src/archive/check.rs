//! Whether the names and links in an archive are safe to put back.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::file_list::FileList;
use super::manifest::{FolderEntry, LinkEntry, Manifest, OUTSIDE_DATABASES};
use super::name_table::NameSet;
use crate::codex::home::{self, Kind, kind_of};
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// Whether the manifest itself asks for nothing unsafe.
pub(super) fn check_manifest(path: &Path, manifest: &Manifest) -> Result<(), ArchiveError> {
    let (files, folders) = (&manifest.files, &manifest.folders);
    check_names(path, files, folders, &manifest.links, Clash::OfCodexNames)?;
    // What counts for nothing must not be what counts.
    let void: HashSet<_> = manifest.void.iter().collect();
    let links = manifest.links.iter().map(|l| l.path.clone());
    let others = folders.iter().map(|f| f.path.clone()).chain(links);
    for file in files.iter() {
        if void.contains(&file.path) {
            return Err(ArchiveError::unsafe_entry(
                path,
                &file.path,
                "twice in the archive",
            ));
        }
        if file.sha256.is_none() {
            return Err(ArchiveError::damaged(
                path,
                format!("{} has no digest", file.path),
            ));
        }
    }
    for name in files.iter().map(|f| f.path).chain(others) {
        let kind = kind_of(name.as_path());
        let outside_database = name.as_path().parent() == Some(Path::new(OUTSIDE_DATABASES))
            && name
                .as_path()
                .file_name()
                .is_some_and(|n| kind_of(Path::new(n)) == Kind::Database);
        if name.is_own() && !outside_database {
            return Err(ArchiveError::unsafe_entry(
                path,
                &name,
                "a name that is ours",
            ));
        }
        // Folded into the database by whoever made the archive. SQLite believes what stands beside
        // a database, down to removing files that a journal names.
        if kind == Kind::DatabaseSidecar {
            return Err(ArchiveError::unsafe_entry(
                path,
                &name,
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
    files: &FileList,
    folders: &[FolderEntry],
    links: &[LinkEntry],
    clash: Clash,
) -> Result<(), ArchiveError> {
    let refuse = |name: &EntryName, reason| Err(ArchiveError::unsafe_entry(archive, name, reason));
    let of_files = || files.iter().map(|f| f.path);
    let of_links = || links.iter().map(|l| l.path.clone());
    let of_folders = || folders.iter().map(|f| f.path.clone());
    let mut leaves = NameSet::sharing(files.names());
    let mut seen = NameSet::sharing(files.names());
    // Few, unless all are compared: only they can clash by letter case.
    let mut folded: HashMap<String, EntryName> = HashMap::new();
    for name in of_files().chain(of_links()).chain(of_folders()) {
        let is_top = name.as_path().components().count() == 1;
        if clash == Clash::OfAll || (is_top && home::is_codex_name(name.top())) {
            match folded.insert(name.folded(), name.clone()) {
                Some(other) if other != name => {
                    return refuse(&name, "differs from another only in letter case");
                }
                _ => {}
            }
        }
        if !seen.insert(&name) {
            return refuse(&name, "twice in the archive");
        }
        if seen.len() <= files.len() + links.len() {
            leaves.insert(&name);
        }
    }
    drop((folded, seen));
    let mut below = Below::new(&leaves);
    let places = of_files().map(|name| (name, true));
    for (name, is_file) in places.chain(of_folders().map(|name| (name, false))) {
        check_place(archive, &name, is_file)?;
        if below.has(name.as_path()) {
            return refuse(&name, "lies below a file or link");
        }
    }
    for link in links {
        check_link(archive, link)?;
        if below.has(link.path.as_path()) {
            return refuse(&link.path, "lies below a file or link");
        }
    }
    Ok(())
}

/// Tells which paths lie below a name of a set.
pub(super) struct Below<'a> {
    names: &'a NameSet,
    /// A folder that was looked at, and what was found: names of one folder follow each other
    /// mostly.
    last: Option<(PathBuf, bool)>,
}

impl<'a> Below<'a> {
    pub(super) fn new(names: &'a NameSet) -> Self {
        Self { names, last: None }
    }

    pub(super) fn has(&mut self, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(Path::new(""));
        match &self.last {
            Some((folder, found)) if folder == parent => *found,
            _ => {
                let found = self.names.has_above(path);
                self.last = Some((parent.to_path_buf(), found));
                found
            }
        }
    }
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
