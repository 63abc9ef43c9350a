//! The end of an archive: the gzip members of the manifest, and the footer that locates them.

use super::archive_file;
use super::footer::{self, Footer};
use super::gzip_member::{self, Compression};
use super::manifest::{ArchiveManifest, MANIFEST_NAME};
use super::sizes::{
    BLOCK_BYTES, CHUNK_BYTES, LARGE_MANIFEST_BYTES, max_manifest_bytes, min_packed_bytes,
    padding_bytes,
};
use super::tar_header::encode_file_header;
use crate::archive::error::{ArchiveError, ContentError};
use crate::io::IoContext;
use crate::io::buffers::BufferPool;
use crate::io::document::{self, DocumentError, DocumentState};
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tar::EntryType;

/// Writes the manifest and the footer by calls of `append`. `offset` is the size of the archive so far in bytes, `path`
/// its path for error messages.
///
/// Serializes the manifest twice: first to get its length for the tar header, then to write it. So the text of the
/// manifest is never completely in memory.
///
/// # Errors
/// The manifest compresses so well that readers would refuse it, or `append` failed.
pub(crate) fn write_manifest(
    path: &Path,
    manifest: &ArchiveManifest,
    compression: Compression,
    offset: u64,
    append: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ArchiveError> {
    // A manifest of half a million files has more than 100 MB of text.
    let mut counter = ByteCounter(0);
    document::encode_to(&mut counter, manifest).at("write", path)?;
    let text_bytes = counter.0;

    let packed_bytes =
        write_manifest_members(manifest, text_bytes, compression, append).at("write", path)?;
    // A reader would refuse the manifest.
    if text_bytes > max_manifest_bytes(packed_bytes) {
        return Err(ArchiveError::damaged(path, "manifest: too large"));
    }

    let footer = Footer {
        offset,
        len: packed_bytes,
    };
    Ok(append(&footer.encode()).at("write", path)?)
}

/// Writes the members of a manifest of `text_bytes` bytes. Returns the compressed size of these members in bytes.
fn write_manifest_members(
    manifest: &ArchiveManifest,
    text_bytes: u64,
    compression: Compression,
    append: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let created_at = manifest.metadata.created_at;
    let mtime = created_at.timestamp_nanos_opt().unwrap_or(0);
    let mut stream = ManifestMemberWriter {
        append,
        compression,
        is_large: text_bytes > LARGE_MANIFEST_BYTES,
        content: encode_file_header(Path::new(MANIFEST_NAME), text_bytes, 0o600, mtime)?,
        buffers: BufferPool::default(),
        written_bytes: 0,
    };

    document::encode_to(&mut stream, manifest)?;
    // The padding of the entry, and the two zero blocks that end a tar.
    let padding = padding_bytes(text_bytes) + 2 * BLOCK_BYTES;
    io::copy(&mut io::repeat(0).take(padding), &mut stream)?;

    stream.finish_member()?;
    Ok(stream.written_bytes)
}

struct ByteCounter(u64);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses the manifest's tar entry into gzip members.
struct ManifestMemberWriter<'a> {
    append: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    compression: Compression,
    /// True if the manifest is so large that readers limit its compression ratio.
    is_large: bool,
    /// The uncompressed content of the next member.
    content: Vec<u8>,
    buffers: BufferPool,
    /// The compressed size of the finished members in bytes.
    written_bytes: u64,
}

impl ManifestMemberWriter<'_> {
    fn finish_member(&mut self) -> io::Result<()> {
        let mut packed = gzip_member::compress(&self.content, self.compression, &self.buffers)?;
        let min_bytes = min_packed_bytes(self.content.len());
        if self.is_large && packed.len() < min_bytes {
            // Very similar names can compress beyond the ratio that readers accept. A part of them
            // is then stored uncompressed in a member of its own.
            let (plain, rest) = self.content.split_at(min_bytes);
            let stored = gzip_member::store_uncompressed(plain, &self.buffers)?;
            packed = gzip_member::compress(rest, self.compression, &self.buffers)?;
            (self.append)(&stored)?;
            self.written_bytes += stored.len() as u64;
        }

        self.content.clear();
        self.written_bytes += packed.len() as u64;
        (self.append)(&packed)
    }
}

impl Write for ManifestMemberWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // serde_json writes a few bytes at a time, so a member is at most a little longer than a
        // chunk.
        self.content.extend_from_slice(bytes);
        if self.content.len() as u64 >= CHUNK_BYTES {
            self.finish_member()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the manifest that the footer locates. Returns the manifest and the byte offset of its members, or `None` if
/// the file has no footer of this format. Does not check the entries of the manifest.
pub(crate) fn read_manifest(path: &Path) -> Result<Option<(ArchiveManifest, u64)>, ArchiveError> {
    let mut file = archive_file::open(path)?;
    let file_bytes = file.metadata().at("read", path)?.len();

    // The footer has a fixed length, so the manifest is found without reading anything before it.
    let footer_len = footer::LEN as u64;
    if file_bytes < footer_len {
        return Ok(None);
    }

    let mut bytes = [0; footer::LEN];
    file.seek(SeekFrom::Start(file_bytes - footer_len))
        .at("read", path)?;
    file.read_exact(&mut bytes).at("read", path)?;
    let Some(footer) = Footer::decode(&bytes) else {
        return Ok(None);
    };

    let (offset, packed_bytes) = (footer.offset, footer.len);
    let members_end = offset.checked_add(packed_bytes);
    if members_end.and_then(|end| end.checked_add(footer_len)) != Some(file_bytes) {
        let detail = "the footer does not fit the size of the file";
        return Err(ArchiveError::damaged(path, detail));
    }

    file.seek(SeekFrom::Start(offset)).at("read", path)?;
    let manifest = archive_file::run_preferring_disk_errors(path, file, |archive| {
        read_from_members(path, archive.take(packed_bytes), packed_bytes)
    })?;
    Ok(Some((manifest, offset)))
}

/// Reads the manifest from its members, which have `packed_bytes` compressed bytes. Fails if other data than zeros
/// follows the manifest.
fn read_from_members(
    path: &Path,
    members: impl Read,
    packed_bytes: u64,
) -> Result<ArchiveManifest, ContentError> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(members)));
    // A raw entry, because the tar crate reads long names and extended headers without a size limit.
    let manifest = match tar.entries()?.raw(true).next().transpose()? {
        Some(mut entry)
            if &*entry.path_bytes() == MANIFEST_NAME.as_bytes()
                && entry.header().entry_type() == EntryType::Regular =>
        {
            parse_manifest(path, &mut entry, packed_bytes)?
        }
        _ => {
            let detail = "no manifest at the position in the footer";
            return Err(ContentError::damaged(detail));
        }
    };

    // Reads to the end, where the gzip CRC is, and where no other data may be.
    let mut after_manifest = tar.into_inner().take(max_manifest_bytes(packed_bytes));
    let mut buffer = [0; 4096];
    loop {
        match after_manifest.read(&mut buffer) {
            // `read` returns 0 at the limit as well, so 0 means the end of the data only before the limit.
            Ok(0) if after_manifest.limit() > 0 => return Ok(manifest),
            Ok(0) => return Err(ContentError::damaged("too much data after the manifest")),
            Ok(n) if buffer[..n].iter().any(|b| *b != 0) => {
                return Err(ContentError::damaged("unexpected data after the manifest"));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Parses the text of a manifest. Its members have at most `packed_bytes` compressed bytes together, which limits the
/// length of the text.
pub fn parse_manifest(
    path: &Path,
    content: &mut dyn Read,
    packed_bytes: u64,
) -> Result<ArchiveManifest, ArchiveError> {
    match document::parse_stream(path, content, max_manifest_bytes(packed_bytes)) {
        Ok(DocumentState::Good(manifest)) => Ok(manifest),
        Ok(DocumentState::Damaged(detail)) => {
            Err(ArchiveError::damaged(path, format!("manifest: {detail}")))
        }
        // Not reached: there is content.
        Ok(DocumentState::Absent) => Err(ArchiveError::damaged(path, "manifest: missing")),
        Err(DocumentError::Newer { path, found, .. }) => Err(ArchiveError::Newer {
            archive: path,
            found,
        }),
        Err(DocumentError::Io(e)) => Err(e.into()),
    }
}
