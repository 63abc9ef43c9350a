//! What of a Codex home goes into an archive: names and sizes, nothing opened but database heads.

use super::check::stays_inside;
use super::entry_name::EntryName;
use super::manifest::{FileEntry, OUTSIDE_DATABASES, Stamp};
use super::metadata::Mode;
use crate::codex::database;
use crate::codex::home::{self, Kind, kind_of};
use crate::codex::rollout::{self, ConversationFile, Relation};
use crate::io::{IoContext, IoError};
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::hash::{BuildHasher, RandomState};
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
    /// Where given: only these paths and what is below them (safety backups).
    pub only: Option<BTreeSet<PathBuf>>,
    /// What putting the archive back removes (safety backups).
    pub undo_removes: Vec<EntryName>,
    /// The manager home, where that is in the home: archives do not hold archives.
    manager_home: Option<PathBuf>,
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
    pub fn captures(&self, kind: Kind) -> bool {
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
    fn wants(&self, relative: &Path) -> bool {
        self.only.as_ref().is_none_or(|only| {
            relative.ancestors().any(|above| only.contains(above))
                || only
                    .range(relative.to_path_buf()..)
                    .next()
                    .is_some_and(|p| p.starts_with(relative))
        })
    }
}

/// Globs of paths to leave out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    globs: Vec<String>,
    set: GlobSet,
}

impl Excludes {
    /// Compiles `globs`. A glob without `/` matches names at any depth, as for git.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            let anchored = glob.trim_start_matches('/').trim_end_matches('/');
            builder.add(Glob::new(anchored)?);
            if !glob.trim_end_matches('/').contains('/') {
                builder.add(Glob::new(&format!("**/{anchored}"))?);
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

    /// Whether `relative`, or a folder above it, is left out.
    pub fn matches(&self, relative: &Path) -> bool {
        !self.globs.is_empty()
            && relative
                .ancestors()
                .filter(|p| !p.as_os_str().is_empty())
                .any(|p| self.set.is_match(p))
    }
}

/// Something that is not in the archive, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// Relative to the home.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    pub(super) fn new(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self {
            path: path.as_ref().display().to_string(),
            reason: reason.into(),
        }
    }
}

/// A file that is to be captured.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Its name in the archive. Where it is: [`Places::source`].
    pub name: EntryName,
    /// What it is.
    pub kind: Kind,
    /// Its size when it was seen.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// What else tells it from an earlier state of itself.
    pub stamp: Stamp,
}

impl PlannedFile {
    /// As an entry of a manifest, without a digest.
    pub fn entry(&self) -> FileEntry {
        FileEntry {
            path: self.name.clone(),
            size: self.size,
            mode: self.mode,
            mtime: self.mtime_ns,
            sha256: None,
            stamp: self.stamp,
        }
    }
}

/// A folder that is to be captured.
#[derive(Debug, Clone)]
pub struct PlannedFolder {
    /// Its name in the archive.
    pub name: EntryName,
    /// Its permission bits.
    pub mode: u32,
    /// Its time in nanoseconds since 1970.
    pub mtime_ns: i64,
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
    pub folders: Vec<PlannedFolder>,
    /// Links that stay inside the home.
    pub links: Vec<(EntryName, PathBuf)>,
    /// Files, databases among them, in the order of their names.
    pub files: Vec<PlannedFile>,
    /// Top-level entries that are links to elsewhere.
    pub linked: Vec<EntryName>,
    /// Left out by rule or by the user's wish.
    pub excluded: Vec<LeftOut>,
    /// Left out because it could not be taken.
    pub skipped: Vec<LeftOut>,
}

impl Scan {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }
}

/// The top-level entries that are captured; folders with a trailing `/`.
pub fn top_entries(files: &[PlannedFile], links: &[(EntryName, PathBuf)]) -> Vec<String> {
    let mut tops = BTreeMap::new();
    let names = files.iter().map(|f| &f.name);
    for name in names.chain(links.iter().map(|l| &l.0)) {
        let nested = name.as_path().components().count() > 1;
        match tops.get_mut(name.top()) {
            Some(known) => *known |= nested,
            None => drop(tops.insert(name.top(), nested)),
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

/// Walks the home. Files that vanish meanwhile are no error.
pub fn scan(scope: &CaptureScope) -> Result<Scan, IoError> {
    let mut scan = Scan::default();
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
    one_file_a_conversation(&mut scan);
    scan.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

/// Looks into `archived_sessions/` once more: a conversation that Codex moved there after it was
/// listed, and before its day in `sessions/` was, has been seen in neither.
fn add_archived_meanwhile(scope: &CaptureScope, canonical: &Path, scan: &mut Scan) {
    let relative = Path::new(home::ARCHIVED_SESSIONS);
    let mut again = Scan::default();
    let mut walk = Walk {
        scope,
        home: canonical,
        scan: &mut again,
    };
    walk.top(&canonical.join(relative), relative);
    let archived = scan.files.iter().map(|f| &f.name);
    let archived = archived.filter(|n| n.as_path().starts_with(relative));
    let seen: HashSet<&EntryName> = archived.collect();
    again.files.retain(|f| !seen.contains(&f.name));
    scan.files.append(&mut again.files);
}

/// Names that differ from one of Codex's that stands here in letter case alone. No disk that ignores
/// case could take both back.
fn second_spellings(tops: &[fs::DirEntry]) -> HashSet<OsString> {
    let names: HashSet<OsString> = tops.iter().map(fs::DirEntry::file_name).collect();
    let is_second = |name: &&OsString| {
        let lower = name.to_str().map(str::to_lowercase);
        lower.is_some_and(|lower| {
            lower != name.to_string_lossy()
                && home::is_codex_name(OsStr::new(&lower))
                && names.contains(OsStr::new(&lower))
        })
    };
    names.iter().filter(is_second).cloned().collect()
}

struct Walk<'a> {
    scope: &'a CaptureScope,
    home: &'a Path,
    scan: &'a mut Scan,
}

impl Walk<'_> {
    fn top(&mut self, path: &Path, relative: &Path) {
        let Ok(meta) = path.symlink_metadata() else {
            return;
        };
        if !meta.is_symlink() || !self.takes(relative, &meta) {
            return self.visit(path, relative);
        }
        let Ok(target) = path.canonicalize() else {
            return self.skip(relative, "a link to nowhere");
        };
        let kind = kind_of(relative);
        let by_content = matches!(kind, Kind::Auth | Kind::Config | Kind::Database);
        if target.starts_with(self.home) && !by_content {
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
                Kind::DatabaseSidecar => "folded into the database's snapshot",
                Kind::Tmp => "temporary files (--include-tmp takes them)",
                _ => "Codex makes it again, or it belongs to this machine",
            };
            self.exclude(relative, reason);
            return false;
        }
        let holds_databases = meta.is_dir()
            && relative == Path::new(home::SQLITE_FOLDER)
            && self.scope.captures(Kind::Database);
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
        let meta = match path.symlink_metadata() {
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
            self.scan.folders.push(PlannedFolder {
                name,
                mode: mode_of(&meta),
                mtime_ns: mtime_ns_of(&meta),
            });
            match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
                Ok(mut entries) => {
                    entries.sort_by_key(fs::DirEntry::file_name);
                    for entry in entries {
                        self.visit(&entry.path(), &relative.join(entry.file_name()));
                    }
                }
                Err(e) => self.skip(relative, e.to_string()),
            }
        } else if meta.is_symlink() {
            self.link(path, relative);
        } else if meta.is_file() {
            self.file(path, name, &meta);
        } else {
            self.exclude(relative, "a socket, pipe or device");
        }
    }

    fn file(&mut self, source: &Path, name: EntryName, meta: &Metadata) {
        let kind = match kind_of(name.as_path()) {
            // Known by its head, not by its name: an empty or foreign file is taken as it is.
            Kind::Database => match database::begins_as_sqlite(source) {
                Ok(true) => Kind::Database,
                Ok(false) => Kind::Unknown,
                Err(e) => return self.skip(name.as_path(), e.to_string()),
            },
            kind => kind,
        };
        self.scan.files.push(PlannedFile {
            name,
            kind,
            size: meta.len(),
            mode: mode_of(meta),
            mtime_ns: mtime_ns_of(meta),
            stamp: Stamp::of(meta),
        });
    }

    fn link(&mut self, path: &Path, relative: &Path) {
        let (Ok(name), Ok(target)) = (EntryName::of_path(relative), fs::read_link(path)) else {
            return self.skip(relative, "an unreadable link");
        };
        let inside = match target.strip_prefix(self.home) {
            // Absolute text that means the home itself: kept as the relative link it is.
            Ok(rest) => {
                let up = relative.components().count().saturating_sub(1);
                Some(
                    std::iter::repeat_n("..", up)
                        .collect::<PathBuf>()
                        .join(rest),
                )
            }
            Err(_) => stays_inside(relative, &target).then(|| target.clone()),
        };
        match inside {
            Some(target) if !target.as_os_str().is_empty() => self.scan.links.push((name, target)),
            _ => self.skip(
                relative,
                format!("a link out of the home, to {}", target.display()),
            ),
        }
    }

    fn outside_databases(&mut self, folder: &Path) {
        if !self.scope.captures(Kind::Database) {
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let Some(file_name) = path.file_name() else {
                continue;
            };
            let relative = Path::new(OUTSIDE_DATABASES).join(file_name);
            let named = kind_of(Path::new(file_name)) == Kind::Database;
            if !named || !database::is_sqlite(&path) || !self.scope.wants(&relative) {
                continue;
            }
            if let (Ok(name), Ok(meta)) = (EntryName::of_path(&relative), path.metadata()) {
                self.scan.files.push(PlannedFile {
                    name,
                    kind: Kind::Database,
                    size: meta.len(),
                    mode: mode_of(&meta),
                    mtime_ns: mtime_ns_of(&meta),
                    stamp: Stamp::default(),
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

/// Where a conversation stands twice (plain and compressed, archived and not), keeps the copy that
/// has all of it. Copies that have diverged are both kept: nothing is lost here.
fn one_file_a_conversation(scan: &mut Scan) {
    let conversation = |file: &PlannedFile| {
        let is_rollout = file.kind.is_rollout_folder();
        is_rollout
            .then(|| ConversationFile::of(file.name.as_path()))
            .flatten()
    };
    // By a hash first: the names of all would take as much as the list itself.
    let hashes = RandomState::new();
    let mut by_hash: Vec<(u64, usize)> = scan
        .files
        .iter()
        .enumerate()
        .filter_map(|(i, file)| Some((hashes.hash_one(conversation(file)?.name), i)))
        .collect();
    by_hash.sort_unstable();
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for same in by_hash.chunk_by(|a, b| a.0 == b.0).filter(|s| s.len() > 1) {
        for (_, i) in same {
            if let Some(found) = conversation(&scan.files[*i]) {
                by_name.entry(found.name).or_default().push(*i);
            }
        }
    }
    let source = |i: usize| scan.places.source(&scan.files[i].name);
    let mut drop = BTreeSet::new();
    for copies in by_name.into_values().filter(|c| c.len() > 1) {
        let mut best = copies[0];
        for &other in &copies[1..] {
            let relation = rollout::compare(&source(best), &source(other));
            match relation {
                // Equal texts: the plain file wins, as it does for Codex.
                Ok(Relation::Equal) => {
                    let zst = |i: usize| conversation(&scan.files[i]).is_some_and(|c| c.compressed);
                    let loser = if zst(best) && !zst(other) {
                        best
                    } else {
                        other
                    };
                    drop.insert(loser);
                    if loser == best {
                        best = other;
                    }
                }
                Ok(Relation::FirstExtends) => {
                    drop.insert(other);
                }
                Ok(Relation::SecondExtends) => {
                    drop.insert(best);
                    best = other;
                }
                Ok(Relation::Diverged) | Err(_) => {}
            }
        }
    }
    let (mut i, excluded) = (0, &mut scan.excluded);
    scan.files.retain(|file| {
        let dropped = drop.contains(&i);
        i += 1;
        if dropped {
            excluded.push(LeftOut::new(
                file.name.as_path(),
                "the same conversation stands elsewhere",
            ));
        }
        !dropped
    });
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
