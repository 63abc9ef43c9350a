//! Reading an archive: entry by entry, in constant memory, trusting nothing.

use super::ArchiveError;
use super::archive_file;
use super::file_list::FileList;
use super::footer::{self, Footer};
use super::format::max_manifest_bytes;
use super::index_check;
use super::manifest::{ArchiveManifest, FolderEntry, LinkEntry, MANIFEST_NAME, SCHEMA};
use super::metadata::Metadata;
use super::path_checks::check_manifest;
use super::python::PythonArchive;
use super::sink::{Extent, Sink};
use super::unpack_indexed;
use super::unpack_stream::{self, ArchiveDescription};
use crate::io::file_open;
use crate::io::{IoContext, Progress};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Who wrote an archive, and what that says about its content.
#[derive(Debug)]
pub enum Layout {
    /// This program: every byte has a digest.
    Native(Box<ArchiveManifest>),
    /// The Python codex-manager: no digests.
    Python(Box<PythonArchive>),
}

/// An archive whose description has been read; its content has not.
#[derive(Debug)]
pub struct ArchiveReader {
    path: PathBuf,
    layout: Layout,
    /// Whether its members can be read apart from each other.
    has_index: bool,
}

/// What is in an archive, checked.
#[derive(Debug, Default, Clone)]
pub struct ArchiveContents {
    /// Files. Those of the Python tool have no digest.
    pub files: FileList,
    /// Folders, parents first.
    pub folders: Vec<FolderEntry>,
    /// Links that stay inside the home.
    pub links: Vec<LinkEntry>,
}

impl ArchiveContents {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }
}

/// What an archive says that it holds, where it says so.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveListing<'a> {
    /// See [`ArchiveContents::files`].
    pub files: &'a FileList,
    /// See [`ArchiveContents::folders`].
    pub folders: &'a [FolderEntry],
    /// See [`ArchiveContents::links`].
    pub links: &'a [LinkEntry],
}

impl ArchiveReader {
    /// Opens an archive and reads its description.
    ///
    /// # Errors
    /// It cannot be read, is damaged, is of a newer version, or is no archive of ours.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let (layout, has_index) = match manifest_by_footer(path)? {
            Some((manifest, end)) => {
                check_manifest(path, &manifest)?;
                index_check::check(path, &manifest, end)?;
                (Layout::Native(Box::new(manifest)), true)
            }
            // Packed again by another gzip, or of the Python tool: it must be read through.
            None => (scan_for_layout(path)?, false),
        };
        if let (Layout::Native(manifest), false) = (&layout, has_index) {
            check_manifest(path, manifest)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            layout,
            has_index,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the members that its manifest lists are where they are said to be. One that another
    /// gzip has packed again still lists those it had.
    pub fn has_index(&self) -> bool {
        self.has_index
    }

    /// Who wrote it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The manifest; absent in archives of the Python tool.
    pub fn manifest(&self) -> Option<&ArchiveManifest> {
        match &self.layout {
            Layout::Native(manifest) => Some(manifest),
            Layout::Python(_) => None,
        }
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        match &self.layout {
            Layout::Native(manifest) => &manifest.metadata,
            Layout::Python(python) => &python.metadata,
        }
    }

    /// What it says that it holds.
    pub fn contents(&self) -> ArchiveListing<'_> {
        match &self.layout {
            Layout::Native(manifest) => ArchiveListing {
                files: &manifest.files,
                folders: &manifest.folders,
                links: &manifest.links,
            },
            Layout::Python(python) => ArchiveListing {
                files: &python.contents.files,
                folders: &python.contents.folders,
                links: &python.contents.links,
            },
        }
    }

    /// The manifest, if its members are where it says; see [`ArchiveReader::has_index`].
    pub fn indexed(&self) -> Option<&ArchiveManifest> {
        self.manifest().filter(|_| self.has_index)
    }

    /// Reads the archive, checks it, and gives the wanted files to `sink`.
    ///
    /// Names, kinds, sizes and digests are compared with what the archive says of itself, and no
    /// entry may be missing or more than told. One with an index is read on several threads.
    pub fn read(
        &self,
        extent: Extent,
        sink: &dyn Sink,
        progress: &dyn Progress,
    ) -> Result<(), ArchiveError> {
        match &self.layout {
            Layout::Native(manifest) if self.has_index => {
                unpack_indexed::by_index(&self.path, manifest, extent, sink, progress)
            }
            Layout::Native(manifest) => unpack_stream::unpack(
                &self.path,
                ArchiveDescription::Native(manifest),
                sink,
                progress,
            ),
            Layout::Python(python) => unpack_stream::unpack(
                &self.path,
                ArchiveDescription::Python(python),
                sink,
                progress,
            ),
        }
    }
}

/// Reads the manifest where the footer says it is, and where that begins; `None` if there is no
/// footer of ours.
fn manifest_by_footer(path: &Path) -> Result<Option<(ArchiveManifest, u64)>, ArchiveError> {
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
        return Err(ArchiveError::damaged(path, "the footer points nowhere"));
    }
    file.seek(SeekFrom::Start(offset)).at("read", path)?;
    let manifest = archive_file::read_with(path, file, |source| {
        manifest_member(path, source.take(packed), packed)
    })?;
    Ok(Some((manifest, offset)))
}

/// Reads the last member, which is `packed` bytes long and holds the manifest alone.
fn manifest_member(
    path: &Path,
    member: impl Read,
    packed: u64,
) -> Result<ArchiveManifest, ArchiveError> {
    let broken = |e: io::Error| ArchiveError::damaged(path, e.to_string());
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(member)));
    let manifest = match tar.entries().map_err(broken)?.raw(true).next() {
        Some(Ok(entry))
            if &*entry.path_bytes() == MANIFEST_NAME.as_bytes()
                && entry.header().entry_type() == tar::EntryType::Regular =>
        {
            parse_manifest(path, entry, packed)?
        }
        Some(Err(e)) => return Err(broken(e)),
        _ => {
            return Err(ArchiveError::damaged(
                path,
                "no manifest where the footer says",
            ));
        }
    };
    // To the end: the CRC stands there, and nothing else does.
    let mut rest = tar.into_inner().take(max_manifest_bytes(packed));
    let mut buffer = [0; 4096];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) if rest.limit() > 0 => return Ok(manifest),
            Ok(0) => return Err(ArchiveError::damaged(path, "more data behind the manifest")),
            Ok(n) if buffer[..n].iter().any(|b| *b != 0) => {
                return Err(ArchiveError::damaged(
                    path,
                    "something hides behind the manifest",
                ));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(broken(e)),
        }
    }
}

/// Parses a manifest as it is unpacked: as text it is larger than all it says. It takes at most
/// `packed` bytes of the archive.
fn parse_manifest(
    path: &Path,
    content: impl Read,
    packed: u64,
) -> Result<ArchiveManifest, ArchiveError> {
    let limit = max_manifest_bytes(packed);
    let mut content = PrefixRecorder {
        inner: content.take(limit),
        bytes: Vec::new(),
    };
    let parsed = serde_json::from_reader::<_, ArchiveManifest>(BufReader::new(&mut content));
    let schema = match &parsed {
        Ok(manifest) => Some(manifest.schema),
        // One of a newer version may have another form; it begins the same way.
        Err(_) => schema_of(&content.bytes),
    };
    if let Some(found) = schema.filter(|schema| *schema > SCHEMA) {
        return Err(ArchiveError::Newer {
            archive: path.to_path_buf(),
            found,
        });
    }
    if parsed.is_err() && content.inner.limit() == 0 {
        return Err(ArchiveError::damaged(path, "manifest: too large"));
    }
    parsed.map_err(|e| ArchiveError::damaged(path, format!("manifest: {e}")))
}

/// The number in `{"schema":1,…`.
fn schema_of(beginning: &[u8]) -> Option<u64> {
    let text: String = String::from_utf8_lossy(beginning)
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let digits = text.strip_prefix("{\"schema\":")?;
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Remembers the first bytes that were read.
struct PrefixRecorder<R> {
    inner: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for PrefixRecorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let keep = n.min(64usize.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&buffer[..keep]);
        Ok(n)
    }
}

/// Reads an archive without our footer to its end to learn what it is.
fn scan_for_layout(path: &Path) -> Result<Layout, ArchiveError> {
    let packed = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python = super::python::PythonScan::new(path, packed);
    unpack_stream::read(path, &mut |entry, content| {
        if entry.name.as_path() == Path::new(MANIFEST_NAME) {
            if manifest.is_some() {
                return Err(ArchiveError::unsafe_entry(
                    path,
                    &entry.name,
                    "twice in the archive",
                ));
            }
            manifest = Some(parse_manifest(path, content, packed)?);
            return Ok(());
        }
        python.entry(&entry, content)
    })?;
    match manifest {
        Some(manifest) => Ok(Layout::Native(Box::new(manifest))),
        None => python.finish().map(|p| Layout::Python(Box::new(p))),
    }
}

pub(super) fn open(path: &Path) -> Result<File, ArchiveError> {
    // Looked at first: to open a pipe is to wait for somebody at its other end.
    if !std::fs::metadata(path).at("read", path)?.is_file() {
        return Err(ArchiveError::Foreign(path.to_path_buf()));
    }
    Ok(file_open::open(path).at("open", path)?)
}
