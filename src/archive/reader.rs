//! Reading an archive: entry by entry, in constant memory, trusting nothing.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::{FileEntry, FolderEntry, LinkEntry, MANIFEST_NAME, Manifest, SCHEMA};
use super::metadata::Metadata;
use super::pack::footer::{self, Footer};
use super::python::PythonArchive;
use crate::codex::home::{self, Kind, kind_of};
use crate::io::progress::{Silent, is_interrupted};
use crate::io::{IoContext, Progress, hash};
use flate2::read::MultiGzDecoder;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// The longest value of a long name or extended header. Names are at most 4096 bytes.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;

/// A manifest larger than this must not unpack to more than [`MAX_MANIFEST_RATIO`] times its
/// size: half of it is digests, which do not compress.
const MANIFEST_RATIO_COUNTS_FROM_BYTES: u64 = 16 << 20;
const MAX_MANIFEST_RATIO: u64 = 32;

/// How many bytes may follow the end of the tar stream: tar pads to full records.
const MAX_PADDING_BYTES: u64 = 1 << 20;

/// Who wrote an archive, and what that says about its content.
#[derive(Debug)]
pub enum Layout {
    /// This program: every byte has a digest.
    Ours(Box<Manifest>),
    /// The Python codex-manager: no digests.
    Python(Box<PythonArchive>),
}

/// An archive whose description has been read; its content has not.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    layout: Layout,
}

/// What is in an archive, checked.
#[derive(Debug, Default, Clone)]
pub struct Contents {
    /// Files. Those of the Python tool have no digest.
    pub files: Vec<FileEntry>,
    /// Folders, parents first.
    pub folders: Vec<FolderEntry>,
    /// Links that stay inside the home.
    pub links: Vec<LinkEntry>,
}

impl Contents {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .map(|f| f.size)
            .fold(0, u64::saturating_add)
    }
}

/// Takes the files of an archive, one after the other.
pub trait Sink {
    /// One file; whoever does not want it leaves its content unread.
    fn file(&mut self, entry: &FileEntry, content: &mut Content<'_>) -> Result<(), ArchiveError>;
}

impl Archive {
    /// Opens an archive and reads its description.
    ///
    /// # Errors
    /// It cannot be read, is damaged, is of a newer version, or is no archive of ours.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let layout = match manifest_by_footer(path)? {
            Some(manifest) => Layout::Ours(Box::new(manifest)),
            // Packed again by another gzip, or of the Python tool: it must be read through.
            None => scan_for_layout(path)?,
        };
        if let Layout::Ours(manifest) = &layout {
            check_manifest(path, manifest)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            layout,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who wrote it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The manifest; absent in archives of the Python tool.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.layout {
            Layout::Ours(manifest) => Some(manifest),
            Layout::Python(_) => None,
        }
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        match &self.layout {
            Layout::Ours(manifest) => &manifest.metadata,
            Layout::Python(python) => &python.metadata,
        }
    }

    /// What it says that it holds.
    pub fn contents(&self) -> Contents {
        match &self.layout {
            Layout::Ours(manifest) => Contents {
                files: manifest.files.clone(),
                folders: manifest.folders.clone(),
                links: manifest.links.clone(),
            },
            Layout::Python(python) => python.contents.clone(),
        }
    }

    /// Reads the whole archive, checks all of it, and gives every file to `sink`.
    ///
    /// Names, kinds, sizes and digests are compared with what the archive says of itself, the
    /// CRC of every gzip member is checked, and no entry may be missing or more than told.
    pub fn read_through(
        &self,
        sink: &mut dyn Sink,
        progress: &dyn Progress,
    ) -> Result<(), ArchiveError> {
        let contents = self.contents();
        let mut described = false;
        let void: HashSet<EntryName> = self
            .manifest()
            .iter()
            .flat_map(|m| m.void.clone())
            .collect();
        let mut files: HashMap<EntryName, FileEntry> = contents
            .files
            .into_iter()
            .map(|f| (f.path.clone(), f))
            .collect();
        let mut folders: HashSet<EntryName> =
            contents.folders.into_iter().map(|f| f.path).collect();
        let mut links: HashMap<EntryName, PathBuf> = contents
            .links
            .into_iter()
            .map(|l| (l.path, l.target))
            .collect();
        let python = matches!(self.layout, Layout::Python(_));
        progress.expect_bytes(files.values().map(|f| f.size).fold(0, u64::saturating_add));
        for_each_entry(&self.path, progress, &mut |entry, content| {
            let surprise = |reason| Err(unsafe_entry(&self.path, &entry.name, reason));
            match &entry.kind {
                RawKind::File if void.contains(&entry.name) => Ok(()),
                RawKind::File if is_description(&entry.name, python) && !described => {
                    described = true;
                    Ok(())
                }
                RawKind::File => {
                    let Some(told) = files.remove(&entry.name) else {
                        return surprise("not in the manifest, or twice in the archive");
                    };
                    if told.size != entry.size {
                        return surprise("its size is not that of the manifest");
                    }
                    content.hash = (!told.sha256.is_empty()).then(hash::Hasher::default);
                    sink.file(&told, content)?;
                    content.drain()?;
                    match content.hash.take().map(hash::Hasher::finish) {
                        Some(digest) if digest != told.sha256 => Err(damaged(
                            &self.path,
                            format!("the content of {} does not fit its digest", told.path),
                        )),
                        _ => Ok(()),
                    }
                }
                RawKind::Folder if folders.remove(&entry.name) || python => Ok(()),
                RawKind::Folder => surprise("not in the manifest, or twice in the archive"),
                RawKind::Link(target) => match links.remove(&entry.name) {
                    Some(told) if told == *target => Ok(()),
                    _ => surprise("not the link of the manifest"),
                },
            }
        })?;
        let missing = files
            .into_keys()
            .chain(folders.into_iter().filter(|_| !python))
            .next();
        match missing.or_else(|| links.into_keys().next()) {
            Some(name) => Err(damaged(&self.path, format!("{name} is missing"))),
            None => Ok(()),
        }
    }
}

/// The name of the entry that describes the archive.
fn is_description(name: &EntryName, python: bool) -> bool {
    if python {
        super::python::is_description(name)
    } else {
        name.as_path() == Path::new(MANIFEST_NAME)
    }
}

/// Whether the manifest itself asks for nothing unsafe.
fn check_manifest(path: &Path, manifest: &Manifest) -> Result<(), ArchiveError> {
    let files: Vec<_> = manifest.files.iter().map(|f| &f.path).collect();
    let folders: Vec<_> = manifest.folders.iter().map(|f| &f.path).collect();
    check_names(path, &files, &folders, &manifest.links, Clash::OfCodexNames)?;
    if let Some(file) = manifest.files.iter().find(|f| f.sha256.len() != 64) {
        return Err(damaged(path, format!("{} has no digest", file.path)));
    }
    let links = manifest.links.iter().map(|l| &l.path);
    for name in files.iter().chain(&folders).copied().chain(links) {
        let outside_database = name.as_path().parent()
            == Some(Path::new(super::manifest::OUTSIDE_DATABASES))
            && name
                .as_path()
                .file_name()
                .is_some_and(|n| kind_of(Path::new(n)) == Kind::Database);
        if name.is_own() && !outside_database {
            return Err(unsafe_entry(path, name, "a name that is ours"));
        }
        // Folded into the database by whoever made the archive. SQLite believes what stands beside
        // a database, down to removing files that a journal names.
        if kind_of(name.as_path()) == Kind::DatabaseSidecar {
            return Err(unsafe_entry(path, name, "a journal beside a database"));
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
    let mut seen: HashMap<String, &EntryName> = HashMap::new();
    let mut leaves: HashSet<&Path> = HashSet::new();
    let all = files
        .iter()
        .copied()
        .map(|name| (name, true))
        .chain(links.iter().map(|l| (&l.path, true)))
        .chain(folders.iter().copied().map(|name| (name, false)));
    for (name, is_leaf) in all {
        let is_codex = || home::is_codex_name(name.top());
        let is_top = name.as_path().components().count() == 1;
        let key = if clash == Clash::OfAll || (is_top && is_codex()) {
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
    let places = files.iter().map(|name| (*name, true));
    for (name, is_file) in places.chain(folders.iter().map(|name| (*name, false))) {
        check_place(archive, name, is_file)?;
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

/// Codex's own files are files at the top: a folder in the place of one would replace it.
fn check_place(archive: &Path, name: &EntryName, is_file: bool) -> Result<(), ArchiveError> {
    let top = Path::new(name.top());
    let is_codex_file = matches!(
        kind_of(top),
        Kind::Auth | Kind::Config | Kind::Database | Kind::InstallationId
    );
    if is_codex_file && (!is_file || name.as_path() != top) {
        return Err(unsafe_entry(
            archive,
            name,
            "a folder in the place of a login, settings or database",
        ));
    }
    Ok(())
}

fn check_link(archive: &Path, link: &LinkEntry) -> Result<(), ArchiveError> {
    let refuse = |reason| Err(unsafe_entry(archive, &link.path, reason));
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

/// Reads the manifest where the footer says it is; `None` if there is no footer of ours.
fn manifest_by_footer(path: &Path) -> Result<Option<Manifest>, ArchiveError> {
    let mut file = open(path)?;
    let len = file.metadata().at("read", path)?.len();
    let footer_len = footer::LEN as u64;
    if len < footer_len {
        return Ok(None);
    }
    let mut bytes = [0; footer::LEN];
    file.seek(SeekFrom::Start(len - footer_len))
        .at("read", path)?;
    file.read_exact(&mut bytes).at("read", path)?;
    let Some(Footer {
        offset,
        len: packed,
    }) = Footer::decode(&bytes)
    else {
        return Ok(None);
    };
    if offset
        .checked_add(packed)
        .and_then(|end| end.checked_add(footer_len))
        != Some(len)
    {
        return Err(damaged(path, "the footer points nowhere"));
    }
    file.seek(SeekFrom::Start(offset)).at("read", path)?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file.take(packed))));
    let mut entries = tar
        .entries()
        .map_err(|e| damaged(path, e.to_string()))?
        .raw(true);
    match entries.next() {
        Some(Ok(entry)) if &*entry.path_bytes() == MANIFEST_NAME.as_bytes() => {
            parse_manifest(path, entry, packed).map(Some)
        }
        Some(Err(e)) => Err(damaged(path, e.to_string())),
        _ => Err(damaged(path, "no manifest where the footer says")),
    }
}

/// Reads a manifest that takes at most `packed` bytes of the archive.
fn parse_manifest(path: &Path, content: impl Read, packed: u64) -> Result<Manifest, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: u64,
    }
    let limit = packed
        .saturating_mul(MAX_MANIFEST_RATIO)
        .max(MANIFEST_RATIO_COUNTS_FROM_BYTES);
    let mut bytes = Vec::new();
    content
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| damaged(path, e.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(damaged(path, "the manifest is too large"));
    }
    let broken = |e: serde_json::Error| damaged(path, format!("manifest: {e}"));
    let schema = serde_json::from_slice::<Versioned>(&bytes)
        .map_err(broken)?
        .schema;
    if schema > SCHEMA {
        return Err(ArchiveError::Newer {
            archive: path.to_path_buf(),
            found: schema,
        });
    }
    serde_json::from_slice(&bytes).map_err(broken)
}

/// Reads an archive without our footer to its end to learn what it is.
fn scan_for_layout(path: &Path) -> Result<Layout, ArchiveError> {
    let packed = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python = super::python::Scan::new(path, packed);
    for_each_entry(path, &Silent, &mut |entry, content| {
        if entry.name.as_path() == Path::new(MANIFEST_NAME) {
            if manifest.is_some() {
                return Err(unsafe_entry(path, &entry.name, "twice in the archive"));
            }
            manifest = Some(parse_manifest(path, ContentRead(content), packed)?);
            return Ok(());
        }
        python.entry(&entry, content)
    })?;
    match manifest {
        Some(manifest) => Ok(Layout::Ours(Box::new(manifest))),
        None => python.finish().map(|p| Layout::Python(Box::new(p))),
    }
}

/// One entry of a tar stream, its name checked.
#[derive(Debug)]
pub(super) struct RawEntry {
    pub(super) name: EntryName,
    pub(super) kind: RawKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
}

/// The kinds of entries that a home can hold.
#[derive(Debug)]
pub(super) enum RawKind {
    File,
    Folder,
    Link(PathBuf),
}

/// The content of one file, in chunks.
pub struct Content<'a> {
    archive: &'a Path,
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    hash: Option<hash::Hasher>,
    progress: &'a dyn Progress,
}

impl Content<'_> {
    /// The next bytes; `None` at the end.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let n = loop {
            match self.reader.read(&mut self.buffer) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(damaged(self.archive, e.to_string())),
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let bytes = &self.buffer[..n];
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.progress.add_bytes(n as u64);
        Ok(Some(bytes))
    }

    /// Reads what is left.
    fn drain(&mut self) -> Result<(), ArchiveError> {
        while self.chunk()?.is_some() {}
        Ok(())
    }

    /// All of it, if it is at most `limit` bytes.
    pub(super) fn read_all(&mut self, limit: usize) -> Result<Option<Vec<u8>>, ArchiveError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk()? {
            if all.len() + bytes.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(bytes);
        }
        Ok(Some(all))
    }
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("archive", &self.archive)
            .finish_non_exhaustive()
    }
}

/// Content as a plain reader.
struct ContentRead<'a, 'b>(&'a mut Content<'b>);

impl Read for ContentRead<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.reader.read(buffer)
    }
}

type Visit<'a> = dyn FnMut(RawEntry, &mut Content<'_>) -> Result<(), ArchiveError> + 'a;

/// Reads the tar stream of `path` to its very end, so that the CRC of each gzip member is checked.
fn for_each_entry(
    path: &Path,
    progress: &dyn Progress,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    let broken = |e: &io::Error| damaged(path, e.to_string());
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, open(path)?));
    let mut tar = tar::Archive::new(decoder);
    let mut pending = Extensions::default();
    let mut buffer = vec![0; 128 * 1024];
    // Raw entries: the long names and extended headers are read here, with a limit.
    for entry in tar.entries().map_err(|e| broken(&e))?.raw(true) {
        let mut entry = entry.map_err(|e| broken(&e))?;
        let kind = entry.header().entry_type();
        if pending.take(path, kind, &mut entry)? {
            continue;
        }
        let extensions = std::mem::take(&mut pending);
        let raw = extensions.apply(path, &entry)?;
        let mut content = Content {
            archive: path,
            reader: &mut entry,
            buffer: std::mem::take(&mut buffer),
            hash: None,
            progress,
        };
        visit(raw, &mut content)?;
        content.drain()?;
        buffer = content.buffer;
    }
    let mut rest = tar.into_inner().take(MAX_PADDING_BYTES + 1);
    let padding = io::copy(&mut rest, &mut io::sink()).map_err(|e| broken(&e))?;
    if padding > MAX_PADDING_BYTES {
        return Err(damaged(path, "more data behind the end of the tar"));
    }
    Ok(())
}

/// What extension entries said about the entry that follows them.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime_ns: Option<i64>,
}

impl Extensions {
    /// Takes an extension entry in; false if `entry` is none.
    fn take(
        &mut self,
        path: &Path,
        kind: EntryType,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<bool, ArchiveError> {
        let is_extension = matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        );
        if !is_extension {
            return Ok(false);
        }
        if entry.size() > MAX_EXTENSION_BYTES {
            return Err(damaged(path, "an oversized name"));
        }
        let mut value = Vec::new();
        entry
            .read_to_end(&mut value)
            .map_err(|e| damaged(path, e.to_string()))?;
        match kind {
            EntryType::GNULongName => self.path = Some(until_nul(value)),
            EntryType::GNULongLink => self.link = Some(until_nul(value)),
            EntryType::XHeader => {
                for record in tar::PaxExtensions::new(&value) {
                    let record = record.map_err(|e| damaged(path, e.to_string()))?;
                    match record.key_bytes() {
                        b"path" => self.path = Some(record.value_bytes().to_vec()),
                        b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                        b"mtime" => self.mtime_ns = record.value().ok().and_then(parse_mtime),
                        b"size" => {
                            return Err(damaged(
                                path,
                                "a size outside the header is not supported",
                            ));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// The entry with what was said about it.
    fn apply(
        self,
        path: &Path,
        entry: &tar::Entry<'_, impl Read>,
    ) -> Result<RawEntry, ArchiveError> {
        let header = entry.header();
        let raw_name = self
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let named = |reason| ArchiveError::Unsafe {
            archive: path.to_path_buf(),
            entry: String::from_utf8_lossy(&raw_name).into_owned(),
            reason,
        };
        let name = EntryName::parse(&raw_name).map_err(named)?;
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => RawKind::File,
            EntryType::Directory => RawKind::Folder,
            EntryType::Symlink => {
                let target = self
                    .link
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                let target = target.ok_or_else(|| named("a link without a target"))?;
                RawKind::Link(raw_path(target).ok_or_else(|| named("a link that is no text"))?)
            }
            EntryType::Link => return Err(named("a hard link")),
            EntryType::Char | EntryType::Block => return Err(named("a device")),
            EntryType::Fifo => return Err(named("a pipe")),
            _ => return Err(named("an unknown kind of entry")),
        };
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        Ok(RawEntry {
            name,
            kind,
            size: entry.size(),
            mode: header.mode().unwrap_or(0o600) & 0o7777,
            mtime_ns: self
                .mtime_ns
                .unwrap_or_else(|| seconds.saturating_mul(1_000_000_000)),
        })
    }
}

/// A PAX time: decimal seconds with an optional fraction.
fn parse_mtime(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let seconds: i64 = whole.parse().ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse().ok()?)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(unix)]
#[allow(
    clippy::unnecessary_wraps,
    reason = "elsewhere a path may be no Unicode"
)]
fn raw_path(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn raw_path(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

fn open(path: &Path) -> Result<File, ArchiveError> {
    // Looked at first: to open a pipe is to wait for somebody at its other end.
    if !std::fs::metadata(path).at("read", path)?.is_file() {
        return Err(ArchiveError::Foreign(path.to_path_buf()));
    }
    Ok(File::open(path).at("open", path)?)
}

pub(super) fn damaged(path: &Path, detail: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged {
        archive: path.to_path_buf(),
        detail: detail.into(),
    }
}

pub(super) fn unsafe_entry(path: &Path, name: &EntryName, reason: &'static str) -> ArchiveError {
    ArchiveError::Unsafe {
        archive: path.to_path_buf(),
        entry: name.to_string(),
        reason,
    }
}
