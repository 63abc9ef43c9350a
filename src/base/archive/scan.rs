//! Lists the files of a Codex home that an archive captures. Reads the first bytes of each file that may be a database.
//! Opens only rollouts of conversations with several files, to compare them.

use super::duplicates;
use super::format::path_checks::{folder_problem, link_problem, relativize_target};
use super::format::{
    EXTERNAL_DATABASES_FOLDER, EntryName, FileEntry, FileList, FolderEntry, InodeStamp, LinkEntry,
    NameTable,
};
use super::path_note::PathNote;
use super::scope::{CaptureScope, IN_DATABASE_SNAPSHOT};
use super::source_paths::SourcePaths;
use crate::codex::database;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::codex::text_damage::{find_text_damage, is_judged};
use crate::io::beneath::{self, FollowedLinks};
use crate::io::disk_clock::modified_ns;
use crate::io::{IoContext, IoError, OrdinaryPath, modes, space, tree, user};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct HomeScan {
    pub source_paths: SourcePaths,
    /// Folders, parents before children.
    pub folders: Vec<FolderEntry>,
    /// Symbolic links with targets inside the home.
    pub links: Vec<LinkEntry>,
    /// Files sorted by name, without the databases and the login.
    pub files: FileList,
    /// Databases sorted by name.
    pub databases: Vec<FileEntry>,
    /// The login file, `auth.json`.
    pub login: Option<FileEntry>,
    /// Disk space that all files take, in bytes. Holes of sparse files do not count.
    pub stored_bytes: u64,
    /// Top-level entries that are links to places outside the home.
    pub linked: Vec<EntryName>,
    /// Paths that a rule or a glob of the user leaves out, and duplicate rollouts.
    pub excluded: Vec<PathNote>,
    /// Paths that cannot be archived.
    pub skipped: Vec<PathNote>,
    /// Archived files whose content does not match their name, such as a database without a SQLite header.
    pub damaged: Vec<PathNote>,
}

impl HomeScan {
    /// Returns the total size of all files in bytes, including databases and the login.
    pub fn total_bytes(&self) -> u64 {
        let databases_and_login = self.databases.iter().chain(&self.login);
        self.files.total_bytes() + databases_and_login.map(|f| f.size).sum::<u64>()
    }

    /// Returns the number of files, including databases and the login.
    pub fn file_count(&self) -> usize {
        self.files.len() + self.databases.len() + usize::from(self.login.is_some())
    }

    /// Returns the scanned texts of the user that look damaged.
    pub fn find_damaged_texts(&self) -> Vec<PathNote> {
        let judged = self
            .files
            .iter()
            .filter(|file| is_judged(file.path.as_path()));
        let notes = judged.filter_map(|file| {
            let (name, path) = (
                file.path.as_path(),
                self.source_paths.source_path(&file.path),
            );
            Some(PathNote::new(name, find_text_damage(name, &path).ok()??))
        });
        notes.collect()
    }

    /// Returns the top-level entries that are captured, folders with a trailing `/`.
    pub(crate) fn top_entries(&self) -> Vec<String> {
        let mut is_folder_by_name: BTreeMap<OsString, bool> = BTreeMap::new();
        let databases_and_login = self.databases.iter().chain(&self.login).map(|f| &f.path);
        let others = databases_and_login.chain(self.links.iter().map(|l| &l.path));

        // A top-level entry with a path below it is a folder. An empty folder is not listed.
        for name in self.files.iter().map(|f| f.path).chain(others.cloned()) {
            let is_folder = is_folder_by_name.entry(name.top().to_owned()).or_default();
            *is_folder |= name.as_path().components().count() > 1;
        }

        is_folder_by_name
            .into_iter()
            .map(|(top, is_dir)| top.to_string_lossy().into_owned() + if is_dir { "/" } else { "" })
            .collect()
    }
}

/// Lists the files of the home that `scope` captures. Stores their names in `names`. Ignores files that disappear
/// during the scan.
///
/// # Errors
/// The home cannot be opened or listed. A missing home is no error if `scope` has a folder of databases outside of the
/// home. An unreadable file or folder below the home is no error; it is listed as skipped.
pub fn scan_home(scope: &CaptureScope, names: &Arc<NameTable>) -> Result<HomeScan, IoError> {
    let mut scan = HomeScan {
        files: FileList::with_name_table(names),
        ..HomeScan::default()
    };

    let real_home = match scope.home.canonical() {
        // Databases outside the home survive the loss of the home and are still worth an archive.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && scope.sqlite_home.is_some() => None,
        other => Some(other.at("open the Codex home", &scope.home)?),
    };

    let mut top_entries: Vec<_> = match &real_home {
        None => Vec::new(),
        Some(home) => fs::read_dir(home)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .at("list", &scope.home)?,
    };

    let real_home = real_home.unwrap_or_else(|| scope.home.clone());
    scan.source_paths = SourcePaths::new(&real_home, scope.sqlite_home.as_deref());

    // In the same order in every backup, so that the members hold the same files and can be copied.
    top_entries.sort_by_key(fs::DirEntry::file_name);
    let case_variants = find_case_variants(&top_entries);

    let mut walk = HomeWalk {
        scope,
        home: &real_home,
        scan: &mut scan,
    };
    for entry in &top_entries {
        let name = entry.file_name();
        if case_variants.contains(&name) && scope.selects(Path::new(&name)) {
            walk.note_skip(
                Path::new(&name),
                "differs from a name of Codex only in letter case",
            );
        } else {
            walk.scan_top_level(&entry.path(), Path::new(&name));
        }
    }

    if let Some(folder) = &scope.sqlite_home {
        walk.add_external_databases(folder);
    }

    rescan_archived_sessions(scope, &real_home, &mut scan);
    let dropped_notes = duplicates::drop_duplicates(&mut scan.files, &scan.source_paths);
    scan.excluded.extend(dropped_notes);

    scan.databases.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(scan)
}

/// Scans `archived_sessions/` a second time, and adds the files that are new. Otherwise the archive would lack a
/// conversation that Codex archived after the scan of `archived_sessions/` and before the scan of `sessions/`.
fn rescan_archived_sessions(scope: &CaptureScope, real_home: &Path, scan: &mut HomeScan) {
    let relative = Path::new(home::ARCHIVED_SESSIONS);
    let mut second_scan = HomeScan {
        files: FileList::with_name_table(scan.files.name_table()),
        ..HomeScan::default()
    };

    let mut walk = HomeWalk {
        scope,
        home: real_home,
        scan: &mut second_scan,
    };
    walk.scan_top_level(&real_home.join(relative), relative);

    second_scan.files.remove_all(&scan.files.name_set());
    if !second_scan.files.is_empty() {
        for file in second_scan.files.iter() {
            scan.files.push(&file);
        }
        scan.files.sort_by_name();
    }
}

/// Returns the top-level names that are not archived because they differ from an archived name of Codex only in letter
/// case: a disk that ignores case could not restore both. Of such names, the spelling in lower case, which is Codex's
/// own, is archived, or the first one without it.
fn find_case_variants(top_entries: &[fs::DirEntry]) -> HashSet<OsString> {
    let lower_case = |name: &OsString| name.to_string_lossy().to_lowercase();
    let names = top_entries.iter().map(fs::DirEntry::file_name);
    let mut names: Vec<_> = names.filter(|name| home::is_codex_name(name)).collect();
    // Codex's own spelling first: `false` sorts before `true`.
    names.sort_by_key(|name| *name != *lower_case(name));

    let mut archived = HashSet::new();
    let is_variant = |name: &OsString| !archived.insert(lower_case(name));
    names.into_iter().filter(is_variant).collect()
}

struct HomeWalk<'a> {
    scope: &'a CaptureScope,
    home: &'a Path,
    scan: &'a mut HomeScan,
}

impl HomeWalk<'_> {
    /// Adds the top-level entry at `path` with everything below it. Keeps a link into the home as a link, unless Codex
    /// writes the file. For any other link, adds the target under the name of the link.
    fn scan_top_level(&mut self, path: &Path, relative: &Path) {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) if self.scope.selects(relative) && self.scope.captures(kind_of(relative)) => {
                return self.note_skip(relative, e.to_string());
            }
            // The scope leaves the entry out anyway, so the archive does not lack it.
            Err(_) => return,
        };

        if !meta.is_symlink() {
            return self.add_tree(path, relative);
        }

        // Returns here for an excluded link, because `add_tree` would apply the scope again and list the link twice.
        if !self.captures_or_notes(relative, &meta) {
            return;
        }

        let followed = user::real_path(path);
        let Ok(target) = path.canonical() else {
            return self.note_skip(relative, "a broken link");
        };

        // A link to a folder of the home stays a link, because the folder is archived at its own path.
        let can_be_link = kind_of(relative).can_be_link() || target.is_dir();
        if target.starts_with(self.home) && can_be_link {
            return self.add_link(path, relative);
        }

        let target = match followed {
            Ok(target) => target,
            Err(e) => return self.note_skip(relative, e.to_string()),
        };

        if let Ok(name) = EntryName::from_path(relative) {
            self.scan.linked.push(name);
        }

        let source_paths = &mut self.scan.source_paths;
        source_paths.map_top_level_link(relative.as_os_str(), target.clone());
        beneath::protect_real(&target, FollowedLinks::NONE);

        // The target is archived as if it were a part of the home, under the name of the link.
        self.add_tree(&target, relative);
    }

    /// Returns true if the scope captures `relative`. Otherwise, records the path as excluded if a rule leaves it out,
    /// or as skipped if it is a login that must not be archived. A folder is recorded once for all of its content.
    fn captures_or_notes(&mut self, relative: &Path, meta: &Metadata) -> bool {
        if !self.scope.selects(relative) {
            return false;
        }

        if self.scope.manager_home.as_deref() == Some(relative) {
            self.note_exclude(relative, "the manager's own folder");
            return false;
        }

        let kind = kind_of(relative);
        if let Some(reason) = self.scope.exclusion_reason(kind) {
            self.note_exclude(relative, reason);
            if kind == HomeEntryKind::Worktrees
                && let Some(note) = self.scan.excluded.last_mut()
            {
                // The note tells the user how much the archive leaves out.
                note.size = Some(tree::measure(&self.home.join(relative)));
            }
            return false;
        }

        // `SQLITE_FOLDER` is of another kind than the databases in it, but is captured with them.
        let has_captured_databases = meta.is_dir()
            && relative == Path::new(home::SQLITE_FOLDER)
            && self.scope.captures(HomeEntryKind::Database);
        if !self.scope.captures(kind) && !has_captured_databases {
            return false;
        }
        if self.scope.without_logins && kind.is_login() {
            self.note_skip(relative, "a login, and other users can read this disk");
            return false;
        }

        if self.scope.excludes.matches(relative) {
            self.note_exclude(relative, "--exclude or backup.exclude");
            return false;
        }

        true
    }

    /// Adds the entry at `path`, with everything below it, under the archive name `relative`.
    fn add_tree(&mut self, path: &Path, relative: &Path) {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.note_skip(relative, e.to_string()),
        };

        if !self.captures_or_notes(relative, &meta) {
            return;
        }

        let name = match EntryName::from_path(relative) {
            Ok(name) => name,
            Err(reason) => return self.note_skip(relative, reason),
        };

        if meta.is_dir() {
            self.add_folder(path, &name, &meta);
        } else if meta.is_symlink() {
            self.add_link(path, relative);
        } else if meta.is_file() && is_beside_database(path) {
            self.note_exclude(relative, IN_DATABASE_SNAPSHOT);
        } else if meta.is_file() {
            self.add_file(path, name, &meta);
        } else if kind_of(relative).is_expected_file() {
            // The archive should have this file of Codex, so it counts as skipped, not as excluded.
            self.note_skip(relative, "a socket, pipe or device");
        } else {
            self.note_exclude(relative, "a socket, pipe or device");
        }
    }

    fn add_folder(&mut self, path: &Path, name: &EntryName, meta: &Metadata) {
        let relative = name.as_path();
        let depth_problem = || tree::is_too_deep(relative).then_some(tree::TOO_DEEP);
        if let Some(reason) = folder_problem(relative).or_else(depth_problem) {
            return self.note_skip(relative, reason);
        }

        self.scan.folders.push(FolderEntry {
            path: name.clone(),
            mode: permission_bits(meta),
            mtime: modified_ns(meta),
        });

        match tree::list(path) {
            Ok(entries) => {
                for (name, _kind) in entries {
                    self.add_tree(&path.join(&name), &relative.join(&name));
                }
            }
            Err(e) => self.note_skip(relative, e.to_string()),
        }
    }

    fn add_file(&mut self, source: &Path, name: EntryName, meta: &Metadata) {
        let kind = kind_of(name.as_path());
        let file = entry_from_metadata(name, meta);
        self.scan.stored_bytes += space::stored_bytes(meta);

        if kind == HomeEntryKind::Auth {
            self.scan.login = Some(file);
            return;
        }

        // A copy of a database byte by byte may mix two states, so each one is recognized, whatever its name.
        // A database has whole pages of 512 bytes or more, so most other files are not opened.
        let has_pages = meta.len() > 0 && meta.len().is_multiple_of(512);
        let may_be_database = kind == HomeEntryKind::Database || has_pages;
        let may_be_database =
            meta.len() > 0 && may_be_database && home::may_be_database(file.path.as_path());
        match may_be_database.then(|| database::has_sqlite_header(source)) {
            Some(Ok(true)) => self.scan.databases.push(file),
            Some(Err(e)) if kind == HomeEntryKind::Database => {
                self.note_skip(file.path.as_path(), e.to_string());
            }
            header => {
                // Otherwise a backup of a destroyed database of Codex would look complete.
                let is_database_of_codex = kind == HomeEntryKind::Database
                    && home::is_versioned_database(file.path.as_path());
                if header.is_some() && is_database_of_codex {
                    let reason = "not a database: it has no SQLite header";
                    let damaged = PathNote::new(file.path.as_path(), reason);
                    self.scan.damaged.push(damaged);
                }
                self.scan.files.push(&file);
            }
        }
    }

    fn add_link(&mut self, path: &Path, relative: &Path) {
        let target = fs::read_link(path);
        let (Ok(name), Ok(target)) = (EntryName::from_path(relative), target) else {
            return self.note_skip(relative, "an unreadable link");
        };

        let stored_target = relativize_target(self.home, relative, &target);
        match link_problem(relative, &stored_target) {
            None => self.scan.links.push(LinkEntry {
                path: name,
                target: stored_target,
            }),
            Some(reason) => self.note_skip(relative, format!("{reason}, to {}", target.display())),
        }
    }

    fn add_external_databases(&mut self, folder: &Path) {
        if !self.scope.captures(HomeEntryKind::Database) {
            return;
        }

        let archive_folder = Path::new(EXTERNAL_DATABASES_FOLDER);
        let entries = match tree::list_if_exists(folder) {
            Ok(entries) => entries,
            Err(e) => return self.note_skip(archive_folder, e.source.to_string()),
        };

        for (file_name, _kind) in entries {
            let (path, relative) = (folder.join(&file_name), archive_folder.join(&file_name));
            let has_database_name = kind_of(Path::new(&file_name)) == HomeEntryKind::Database;
            if !has_database_name || !self.scope.selects(&relative) {
                continue;
            }

            if database::may_be_sqlite(&path) {
                self.add_database(&path, &relative);
            } else {
                // A destroyed database of Codex is reported. An empty, deleted or foreign file is not.
                let has_content = path.metadata().is_ok_and(|meta| meta.len() > 0);
                if has_content && home::is_versioned_database(&path) {
                    self.note_skip(&relative, "not a database: it has no SQLite header");
                }
            }
        }
    }

    fn add_database(&mut self, path: &Path, relative: &Path) {
        if let (Ok(name), Ok(meta)) = (EntryName::from_path(relative), path.metadata()) {
            self.scan.stored_bytes += space::stored_bytes(&meta);
            self.scan.databases.push(FileEntry {
                stamp: InodeStamp::default(),
                ..entry_from_metadata(name, &meta)
            });
        }
    }

    fn note_exclude(&mut self, relative: &Path, reason: &str) {
        self.scan.excluded.push(PathNote::new(relative, reason));
    }

    fn note_skip(&mut self, relative: &Path, reason: impl Into<String>) {
        self.scan.skipped.push(PathNote::new(relative, reason));
    }
}

/// Returns true if SQLite keeps the file at `path` beside a database. The snapshot of the database has its content.
fn is_beside_database(path: &Path) -> bool {
    home::database_of_sidecar(path).is_some_and(|base| database::is_database(&base))
}

/// Returns the entry of a file with this metadata. The entry has no digest.
pub(super) fn entry_from_metadata(name: EntryName, meta: &Metadata) -> FileEntry {
    FileEntry {
        path: name,
        size: meta.len(),
        mode: permission_bits(meta),
        mtime: modified_ns(meta),
        digest: None,
        stamp: InodeStamp::of(meta),
    }
}

/// Returns true if this metadata has the size, the mode and the modification time of `file`.
pub fn has_attributes_of(meta: &Metadata, file: &FileEntry) -> bool {
    (meta.len(), permission_bits(meta), modified_ns(meta)) == (file.size, file.mode, file.mtime)
}

fn permission_bits(meta: &Metadata) -> u32 {
    modes::mode_of(meta) & 0o777
}
