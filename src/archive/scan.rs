//! What of a Codex home goes into an archive: names and sizes, nothing opened but database heads.

use super::check::{misplaced_folder, misplaced_link, portable_target};
use super::conversations::{self, Copies};
use super::entry_name::EntryName;
use super::file_list::FileList;
use super::manifest::{FileEntry, FolderEntry, OUTSIDE_DATABASES, Stamp};
use super::name_table::NameTable;
use super::scope::CaptureScope;
use crate::codex::database;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, long_path, space, tree};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that is not in the archive as it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// Relative to the home. Shown as text, kept as it is: it may be none.
    #[serde(serialize_with = "as_shown")]
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    pub(super) fn new(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            reason: reason.into(),
        }
    }
}

fn as_shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Where files are, by their names in the archive: there are too many of them to keep two paths of
/// each.
#[derive(Debug, Default, Clone)]
pub struct Places {
    home: PathBuf,
    /// Top-level links to elsewhere, and where they lead.
    links: HashMap<OsString, PathBuf>,
    sqlite_home: Option<PathBuf>,
}

impl Places {
    /// The path of a file.
    pub fn source(&self, name: &EntryName) -> PathBuf {
        let path = name.as_path();
        if let (Some(folder), Ok(rest)) = (&self.sqlite_home, path.strip_prefix(OUTSIDE_DATABASES))
        {
            return folder.join(rest);
        }
        match self.links.get(name.top()) {
            // Joined with nothing, it would end in a slash.
            Some(target) if path.components().count() == 1 => target.clone(),
            Some(target) => target.join(path.strip_prefix(name.top()).unwrap_or(path)),
            None => self.home.join(path),
        }
    }
}

/// What there is to capture.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where the files are.
    pub places: Places,
    /// Folders, parents first.
    pub folders: Vec<FolderEntry>,
    /// Links that stay inside the home.
    pub links: Vec<(EntryName, PathBuf)>,
    /// Files, in the order of their names, without those that follow.
    pub files: FileList,
    /// Databases, in the order of their names.
    pub databases: Vec<FileEntry>,
    /// The login.
    pub login: Option<FileEntry>,
    /// The bytes of all files without the holes in them.
    pub stored_bytes: u64,
    /// Top-level entries that are links to elsewhere.
    pub linked: Vec<EntryName>,
    /// Left out by rule or by the user's wish.
    pub excluded: Vec<LeftOut>,
    /// Left out because it could not be taken.
    pub skipped: Vec<LeftOut>,
    /// In the archive as it is, though it is not what its name says.
    pub damaged: Vec<LeftOut>,
    /// What was listed more than once.
    pub(super) copies: Copies,
}

impl Scan {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        let apart = self.databases.iter().chain(&self.login);
        self.files.bytes() + apart.map(|f| f.size).sum::<u64>()
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.files.len() + self.databases.len() + usize::from(self.login.is_some())
    }

    /// The top-level entries that are captured; folders with a trailing `/`.
    pub fn top_entries(&self) -> Vec<String> {
        let mut tops: BTreeMap<OsString, bool> = BTreeMap::new();
        let apart = self.databases.iter().chain(&self.login);
        let apart = apart
            .map(|f| &f.path)
            .chain(self.links.iter().map(|l| &l.0));
        for name in self.files.iter().map(|f| f.path).chain(apart.cloned()) {
            let nested = name.as_path().components().count() > 1;
            match tops.get_mut(name.top()) {
                Some(known) => *known |= nested,
                None => drop(tops.insert(name.top().to_owned(), nested)),
            }
        }
        tops.into_iter()
            .map(|(top, nested)| {
                let top = top.to_string_lossy();
                if nested {
                    format!("{top}/")
                } else {
                    top.into_owned()
                }
            })
            .collect()
    }
}

/// Walks the home. Files that vanish meanwhile are no error. The names are kept in `names`.
pub fn scan(scope: &CaptureScope, names: &Arc<NameTable>) -> Result<Scan, IoError> {
    let mut scan = Scan {
        files: FileList::sharing(names),
        ..Scan::default()
    };
    let canonical = match scope.home.canonicalize() {
        // Databases that lie outside outlive a home that was lost.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && scope.sqlite_home.is_some() => None,
        other => Some(other.at("open the Codex home", &scope.home)?),
    };
    let mut tops: Vec<_> = match &canonical {
        None => Vec::new(),
        Some(home) => fs::read_dir(home)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .at("list", &scope.home)?,
    };
    let canonical = canonical.unwrap_or_else(|| scope.home.clone());
    scan.places.home.clone_from(&canonical);
    scan.places.sqlite_home.clone_from(&scope.sqlite_home);
    tops.sort_by_key(fs::DirEntry::file_name);
    let second = second_spellings(&tops);
    let mut walk = Walk {
        scope,
        home: &canonical,
        scan: &mut scan,
    };
    for entry in tops {
        let name = entry.file_name();
        if second.contains(&name) && scope.wants(Path::new(&name)) {
            walk.skip(Path::new(&name), "another spelling of a name of Codex's");
        } else {
            walk.top(&entry.path(), Path::new(&name));
        }
    }
    if let Some(folder) = &scope.sqlite_home {
        walk.outside_databases(folder);
    }
    add_archived_meanwhile(scope, &canonical, &mut scan);
    scan.copies = conversations::keep_one_file_each(&mut scan);
    scan.databases.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(scan)
}

/// Looks into `archived_sessions/` once more: a conversation that Codex moved there after it was
/// listed, and before its day in `sessions/` was, has been seen in neither.
fn add_archived_meanwhile(scope: &CaptureScope, canonical: &Path, scan: &mut Scan) {
    let relative = Path::new(home::ARCHIVED_SESSIONS);
    let mut again = Scan {
        files: FileList::sharing(scan.files.names()),
        ..Scan::default()
    };
    let mut walk = Walk {
        scope,
        home: canonical,
        scan: &mut again,
    };
    walk.top(&canonical.join(relative), relative);
    again.files.remove_all(&scan.files.name_set());
    if !again.files.is_empty() {
        scan.files.extend(again.files.iter());
        scan.files.sort();
    }
}

/// Names that differ from one of Codex's that stands here in letter case alone: all spellings but
/// Codex's own or, without that, the first. No disk that ignores case could take two of them back.
fn second_spellings(tops: &[fs::DirEntry]) -> HashSet<OsString> {
    let mut spellings: HashMap<String, Vec<OsString>> = HashMap::new();
    for name in tops.iter().map(fs::DirEntry::file_name) {
        if let Some(text) = name.to_str().filter(|_| home::is_codex_name(&name)) {
            spellings.entry(text.to_lowercase()).or_default().push(name);
        }
    }
    let mut second = HashSet::new();
    for (own, names) in spellings {
        let first = names
            .iter()
            .position(|name| name.as_os_str() == own.as_str());
        let first = first.unwrap_or(0);
        let others = names.into_iter().enumerate().filter(|(i, _)| *i != first);
        second.extend(others.map(|(_, name)| name));
    }
    second
}

struct Walk<'a> {
    scope: &'a CaptureScope,
    home: &'a Path,
    scan: &'a mut Scan,
}

impl Walk<'_> {
    fn top(&mut self, path: &Path, relative: &Path) {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) if self.scope.wants(relative) && self.scope.captures(kind_of(relative)) => {
                return self.skip(relative, e.to_string());
            }
            Err(_) => return,
        };
        if !meta.is_symlink() {
            return self.visit(path, relative);
        }
        // What is left out is noted once.
        if !self.takes(relative, &meta) {
            return;
        }
        let Ok(target) = path.canonicalize() else {
            return self.skip(relative, "a link to nowhere");
        };
        if target.starts_with(self.home) && kind_of(relative).can_be_link() {
            return self.link(path, relative);
        }
        if let Ok(name) = EntryName::of_path(relative) {
            self.scan.linked.push(name);
        }
        let links = &mut self.scan.places.links;
        links.insert(relative.as_os_str().to_owned(), target.clone());
        // By content: what the link points to stands in the archive under the link's own name.
        self.visit(&target, relative);
    }

    /// Whether this path is wanted; what is left out by rule is noted once, at its top.
    fn takes(&mut self, relative: &Path, meta: &Metadata) -> bool {
        if !self.scope.wants(relative) {
            return false;
        }
        if self.scope.manager_home.as_deref() == Some(relative) {
            self.exclude(relative, "the manager's own folder");
            return false;
        }
        let kind = kind_of(relative);
        if kind.is_excluded(self.scope.include_tmp) {
            let reason = match kind {
                HomeEntryKind::DatabaseSidecar => "folded into the database's snapshot",
                HomeEntryKind::Tmp => "temporary files (--include-tmp takes them)",
                _ => "Codex makes it again, or it belongs to this machine",
            };
            self.exclude(relative, reason);
            return false;
        }
        let holds_databases = meta.is_dir()
            && relative == Path::new(home::SQLITE_FOLDER)
            && self.scope.captures(HomeEntryKind::Database);
        if !self.scope.captures(kind) && !holds_databases {
            return false;
        }
        if self.scope.excludes.matches(relative) {
            self.exclude(relative, "--exclude");
            return false;
        }
        true
    }

    fn visit(&mut self, path: &Path, relative: &Path) {
        let meta = match long_path::with(path, Path::symlink_metadata) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.skip(relative, e.to_string()),
        };
        if !self.takes(relative, &meta) {
            return;
        }
        let name = match EntryName::of_path(relative) {
            Ok(name) => name,
            Err(reason) => return self.skip(relative, reason),
        };
        if meta.is_dir() {
            if let Some(reason) = misplaced_folder(relative) {
                return self.skip(relative, reason);
            }
            self.scan.folders.push(FolderEntry {
                path: name,
                mode: mode_of(&meta),
                mtime: mtime_ns_of(&meta),
            });
            match tree::list(path) {
                Ok(entries) => {
                    for (name, _) in entries {
                        self.visit(&path.join(&name), &relative.join(&name));
                    }
                }
                Err(e) => self.skip(relative, e.to_string()),
            }
        } else if meta.is_symlink() {
            self.link(path, relative);
        } else if meta.is_file() {
            self.file(path, name, &meta);
        } else if kind_of(relative).is_expected_file() {
            // Something of Codex's is missing from the archive, and not by rule.
            self.skip(relative, "a socket, pipe or device");
        } else {
            self.exclude(relative, "a socket, pipe or device");
        }
    }

    fn file(&mut self, source: &Path, name: EntryName, meta: &Metadata) {
        let kind = kind_of(name.as_path());
        let file = entry_of(name, meta);
        self.scan.stored_bytes += space::stored_bytes(meta);
        match kind {
            // Known by its head, not by its name: an empty or foreign file is taken as it is. One in
            // the place of Codex's own is said, or a wreck would pass for a good archive.
            HomeEntryKind::Database => match database::begins_as_sqlite(source) {
                Ok(true) => self.scan.databases.push(file),
                Ok(false) => {
                    if meta.len() > 0 && home::is_versioned_database(file.path.as_path()) {
                        let reason = "it does not begin as a database";
                        let damaged = LeftOut::new(file.path.as_path(), reason);
                        self.scan.damaged.push(damaged);
                    }
                    self.scan.files.push(&file);
                }
                Err(e) => self.skip(file.path.as_path(), e.to_string()),
            },
            HomeEntryKind::Auth => self.scan.login = Some(file),
            _ => self.scan.files.push(&file),
        }
    }

    fn link(&mut self, path: &Path, relative: &Path) {
        let target = long_path::with(path, |path| fs::read_link(path));
        let (Ok(name), Ok(target)) = (EntryName::of_path(relative), target) else {
            return self.skip(relative, "an unreadable link");
        };
        let kept = portable_target(self.home, relative, &target);
        match misplaced_link(relative, &kept) {
            None => self.scan.links.push((name, kept)),
            Some(reason) => self.skip(relative, format!("{reason}, to {}", target.display())),
        }
    }

    fn outside_databases(&mut self, folder: &Path) {
        if !self.scope.captures(HomeEntryKind::Database) {
            return;
        }
        let entries = match tree::list(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.skip(Path::new(OUTSIDE_DATABASES), e.to_string()),
        };
        for path in entries.iter().map(|(name, _)| folder.join(name)) {
            let Some(file_name) = path.file_name() else {
                continue;
            };
            let relative = Path::new(OUTSIDE_DATABASES).join(file_name);
            let named = kind_of(Path::new(file_name)) == HomeEntryKind::Database;
            if !named || !self.scope.wants(&relative) {
                continue;
            }
            if !database::is_sqlite(&path) {
                let is_empty = path.metadata().is_ok_and(|meta| meta.len() == 0);
                if !is_empty && path.exists() && home::is_versioned_database(&path) {
                    self.skip(&relative, "it does not begin as a database");
                }
                continue;
            }
            if let (Ok(name), Ok(meta)) = (EntryName::of_path(&relative), path.metadata()) {
                self.scan.stored_bytes += space::stored_bytes(&meta);
                self.scan.databases.push(FileEntry {
                    stamp: Stamp::default(),
                    ..entry_of(name, &meta)
                });
            }
        }
    }

    fn exclude(&mut self, relative: &Path, reason: &str) {
        self.scan.excluded.push(LeftOut::new(relative, reason));
    }

    fn skip(&mut self, relative: &Path, reason: impl Into<String>) {
        self.scan.skipped.push(LeftOut::new(relative, reason));
    }
}

/// A file as it is seen: nothing of it has been read.
pub(super) fn entry_of(name: EntryName, meta: &Metadata) -> FileEntry {
    FileEntry {
        path: name,
        size: meta.len(),
        mode: mode_of(meta),
        mtime: mtime_ns_of(meta),
        sha256: None,
        stamp: Stamp::of(meta),
    }
}

/// The permission bits; where a system has none, those of a private file.
pub(super) fn mode_of(meta: &Metadata) -> u32 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.mode() & 0o777
    }
    #[cfg(not(unix))]
    {
        if meta.is_dir() { 0o700 } else { 0o600 }
    }
}

/// The modification time in nanoseconds since 1970.
pub fn mtime_ns_of(meta: &Metadata) -> i64 {
    meta.modified()
        .map_or(0, |at| match at.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
        })
}
