//! Whether the names and links in an archive are safe to put back.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::file_list::FileList;
use super::manifest::{FolderEntry, LinkEntry, Manifest, OUTSIDE_DATABASES};
use super::name_table::NameSet;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
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
                .is_some_and(|n| kind_of(Path::new(n)) == HomeEntryKind::Database);
        if name.is_own() && !outside_database {
            return Err(ArchiveError::unsafe_entry(
                path,
                &name,
                "a name that is ours",
            ));
        }
        // Folded into the database by whoever made the archive. SQLite believes what stands beside
        // a database, down to removing files that a journal names.
        if kind == HomeEntryKind::DatabaseSidecar {
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

/// Whether no two of these names, nor folders that they are in, differ in letter case alone: a disk that
/// ignores case would take them for one. Most are only known by hashes meanwhile.
pub(in crate::archive) fn check_spellings<I: Iterator<Item = EntryName>>(
    archive: &Path,
    names: impl Fn() -> I,
) -> Result<(), ArchiveError> {
    let hashes = RandomState::new();
    let folded = |path: &Path| path.to_string_lossy().to_lowercase();
    let mut spellings: HashMap<u64, u64> = HashMap::new();
    let mut clashing: HashSet<u64> = HashSet::new();
    each_with_its_folders(names(), |path| {
        let (one, exact) = (hashes.hash_one(folded(path)), hashes.hash_one(path));
        if *spellings.entry(one).or_insert(exact) != exact {
            clashing.insert(one);
        }
        Ok(())
    })?;
    drop(spellings);
    if clashing.is_empty() {
        return Ok(());
    }
    let mut first: HashMap<String, PathBuf> = HashMap::new();
    each_with_its_folders(names(), |path| {
        let text = folded(path);
        if !clashing.contains(&hashes.hash_one(&text)) {
            return Ok(());
        }
        let first = first.entry(text).or_insert_with(|| path.to_path_buf());
        if first == path {
            return Ok(());
        }
        Err(ArchiveError::Unsafe {
            archive: archive.to_path_buf(),
            entry: path.display().to_string(),
            reason: "differs from another only in letter case, which this disk ignores",
        })
    })
}

/// Gives each name, and the folders that it is in unless those are of the name before as well.
fn each_with_its_folders(
    names: impl Iterator<Item = EntryName>,
    mut visit: impl FnMut(&Path) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut last = PathBuf::new();
    for name in names {
        let path = name.as_path();
        visit(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder == last {
            continue;
        }
        let above = folder.ancestors().filter(|f| !f.as_os_str().is_empty());
        above
            .take_while(|f| !last.starts_with(f))
            .try_for_each(&mut visit)?;
        last = folder.to_path_buf();
    }
    Ok(())
}

/// Tells which paths lie below a name of a set.
pub(super) struct Below<'a> {
    names: &'a NameSet,
    /// The folder that was looked at last, and how many of its components lead to a name of the set:
    /// names follow each other by their folders mostly.
    last: PathBuf,
    found: Option<usize>,
}

impl<'a> Below<'a> {
    pub(super) fn new(names: &'a NameSet) -> Self {
        Self {
            names,
            last: PathBuf::new(),
            found: None,
        }
    }

    pub(super) fn has(&mut self, path: &Path) -> bool {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.last != folder {
            let both = self.last.components().zip(folder.components());
            let known = both.take_while(|(a, b)| a == b).count();
            self.found = self
                .found
                .filter(|count| *count <= known)
                .or_else(|| self.look(folder, known));
            self.last = folder.to_path_buf();
        }
        self.found.is_some()
    }

    /// What has been looked at is not looked at again: a path of very many folders takes long.
    fn look(&self, folder: &Path, known: usize) -> Option<usize> {
        let count = folder.components().count();
        let new = folder.ancestors().zip((known + 1..=count).rev());
        let (_, at) = new.filter(|(above, _)| self.names.contains(above)).last()?;
        Some(at)
    }
}

/// Nothing that is no file may stand in the place of a file of Codex's.
fn check_place(archive: &Path, name: &EntryName, is_file: bool) -> Result<(), ArchiveError> {
    let top = Path::new(name.top());
    let needs_folder = !is_file || name.as_path() != top;
    match misplaced_folder(top).filter(|_| needs_folder) {
        Some(reason) => Err(ArchiveError::unsafe_entry(archive, name, reason)),
        None => Ok(()),
    }
}

fn check_link(archive: &Path, link: &LinkEntry) -> Result<(), ArchiveError> {
    match misplaced_link(link.path.as_path(), &link.target) {
        Some(reason) => Err(ArchiveError::unsafe_entry(archive, &link.path, reason)),
        None => Ok(()),
    }
}

/// Why there can be no folder at `path` (relative to the home), if so. Codex's own files are files at
/// the top: a folder in the place of one would replace it. One that only ends as databases do is the
/// user's.
pub(in crate::archive) fn misplaced_folder(path: &Path) -> Option<&'static str> {
    let is_codex_file = match kind_of(path) {
        HomeEntryKind::Auth | HomeEntryKind::Config | HomeEntryKind::InstallationId => true,
        HomeEntryKind::Database => home::is_versioned_database(path),
        _ => false,
    };
    let is_top = path.components().count() == 1;
    (is_top && is_codex_file).then_some("a folder in the place of a login, settings or database")
}

/// Why there can be no link at `path` (relative to the home) with this `target`, if so.
pub(in crate::archive) fn misplaced_link(path: &Path, target: &Path) -> Option<&'static str> {
    if !kind_of(path).can_be_link() {
        return Some("a link in the place of a login, settings, database or list of Codex's");
    }
    (!stays_inside(path, target)).then_some("a link out of the home")
}

/// The target of the link at `path` (relative to the home) as an archive holds it: absolute text that
/// means the `home` itself is kept as the relative link that it is.
pub(in crate::archive) fn portable_target(home: &Path, path: &Path, target: &Path) -> PathBuf {
    let Ok(rest) = target.strip_prefix(home) else {
        return target.to_path_buf();
    };
    let above = path.components().count().saturating_sub(1);
    let up: PathBuf = std::iter::repeat_n("..", above).collect();
    match up.join(rest) {
        same if same.as_os_str().is_empty() => PathBuf::from("."),
        target => target,
    }
}

/// Whether a link at `path` (relative to the home) with `target` stays in the home, by its text. Its
/// folder is one, but what the target names may be another link: what a `..` behind a name leads to
/// cannot be told.
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
    fn names_that_a_disk_without_case_takes_for_one_are_refused() {
        let check = |names: &[&str]| {
            let names: Vec<_> = names
                .iter()
                .map(|name| EntryName::of_path(Path::new(name)).unwrap())
                .collect();
            check_spellings(Path::new("x.tar.gz"), || names.iter().cloned())
        };
        check(&["notes.txt", "skills/a/x", "skills/b/x"]).unwrap();
        // Folders alone would become one, with the files of both.
        for (second, named) in [
            ("Notes.txt", "Notes.txt"),
            ("skills/A/x", "skills/A/x"),
            ("SKILLS/a/X", "SKILLS/a/X"),
            ("Skills/other", "Skills"),
            ("skills/A/deep/er", "skills/A"),
            ("skills/A", "skills/A"),
        ] {
            let refused = check(&["notes.txt", "skills/a/x", "skills/b/y", second]).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(&format!(": {named})")), "{second}: {refused}");
        }
    }

    #[test]
    fn a_link_stays_inside_only_where_no_name_comes_before_a_step_up() {
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
