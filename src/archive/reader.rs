//! Reads archives. The content is untrusted: everything is checked, and memory use is bounded.

use super::error::ArchiveError;
use super::format::archive_file;
use super::format::contents::ArchiveListing;
use super::format::footer::{self, Footer};
use super::format::index_check;
use super::format::layout::max_manifest_bytes;
use super::format::manifest::{ArchiveManifest, MANIFEST_NAME, SCHEMA};
use super::format::metadata::Metadata;
use super::format::path_checks::check_manifest;
use super::format::python::{PythonArchive, PythonScan};
use super::sink::{Extent, Sink};
use super::unpack_indexed;
use super::unpack_stream::{self, ArchiveDescription};
use crate::io::{IoContext, Progress};
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The program that wrote an archive, with its description of the content.
#[derive(Debug)]
pub enum Layout {
    /// Written by this program: digests cover every byte.
    Native(Box<ArchiveManifest>),
    /// Written by the Python codex-manager: without digests.
    Python(Box<PythonArchive>),
}

/// An archive whose manifest has been read and checked, but not its content.
#[derive(Debug)]
pub struct ArchiveReader {
    path: PathBuf,
    layout: Layout,
    /// True if the members can be read independently.
    has_index: bool,
}

impl ArchiveReader {
    /// Opens an archive and reads its manifest. An archive without a footer is read to its end.
    ///
    /// # Errors
    /// The archive cannot be read, is damaged, has an unsafe entry, is of a newer version, or was
    /// not written by codex-manager.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let (layout, has_index) = match manifest_by_footer(path)? {
            Some((manifest, end)) => {
                check_manifest(path, &manifest)?;
                index_check::check(path, &manifest, end)?;
                (Layout::Native(Box::new(manifest)), true)
            }
            // Compressed again by another program, or written by the Python tool: only a complete
            // read shows the content.
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

    /// Returns the path of the archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the members are where the manifest lists them. The manifest of an archive
    /// that another program compressed again lists members that no longer exist.
    pub fn has_index(&self) -> bool {
        self.has_index
    }

    /// Returns the archive's origin with its description.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the manifest, or `None` for an archive of the Python tool.
    pub fn manifest(&self) -> Option<&ArchiveManifest> {
        match &self.layout {
            Layout::Native(manifest) => Some(manifest),
            Layout::Python(_) => None,
        }
    }

    /// Returns the metadata in the manifest, or in the sidecar of the Python tool.
    pub fn metadata(&self) -> &Metadata {
        match &self.layout {
            Layout::Native(manifest) => &manifest.metadata,
            Layout::Python(python) => &python.metadata,
        }
    }

    /// Returns the entries that the archive lists.
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

    /// Returns the manifest if its index is usable; see [`ArchiveReader::has_index`].
    pub fn indexed(&self) -> Option<&ArchiveManifest> {
        self.manifest().filter(|_| self.has_index)
    }

    /// Reads and checks the archive and passes the wanted files to `sink`.
    ///
    /// Compares names, kinds, sizes and digests with the manifest; no entry may be missing or
    /// extra. An archive with an index is read on several threads.
    ///
    /// # Errors
    /// The archive cannot be read, its content differs from its manifest, `sink` failed, or the
    /// user interrupted the operation.
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

/// Reads the manifest by the footer. Returns it with its byte offset, or `None` if the file has no
/// footer of this format.
fn manifest_by_footer(path: &Path) -> Result<Option<(ArchiveManifest, u64)>, ArchiveError> {
    let mut file = archive_file::open(path)?;
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

/// Reads the manifest from its members, which have `packed` bytes and hold nothing else.
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
    // Reads to the end, where the gzip CRC is, and where no other data may be.
    let mut rest = tar.into_inner().take(max_manifest_bytes(packed));
    let mut buffer = [0; 4096];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) if rest.limit() > 0 => return Ok(manifest),
            Ok(0) => {
                return Err(ArchiveError::damaged(
                    path,
                    "too much data after the manifest",
                ));
            }
            Ok(n) if buffer[..n].iter().any(|b| *b != 0) => {
                return Err(ArchiveError::damaged(
                    path,
                    "hidden data after the manifest",
                ));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(broken(e)),
        }
    }
}

/// Parses a manifest while it is unpacked, because its text is larger than the parsed value.
/// `packed` is its maximum compressed size in bytes.
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
        // The manifest of a newer version may have other fields, but begins with its schema.
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

/// Returns the number in `{"schema":1,…`.
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

/// Records the first 64 bytes that are read through it.
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

/// Reads an archive without a footer to its end, to find out its origin.
fn scan_for_layout(path: &Path) -> Result<Layout, ArchiveError> {
    let packed = std::fs::metadata(path).at("read", path)?.len();
    let mut manifest = None;
    let mut python = PythonScan::new(path, packed);
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
