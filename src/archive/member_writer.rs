//! The gzip members of a new archive: compressed on several threads, written in order, followed by
//! the manifest that lists them.

use super::error::ArchiveError;
use super::format::entry::{FolderEntry, LinkEntry};
use super::format::entry_name::EntryName;
use super::format::file_list::FileList;
use super::format::footer;
use super::format::layout::{
    BLOCK_BYTES, CHUNK_BYTES, Compression, max_manifest_bytes, min_packed_bytes, padding_of,
};
use super::format::manifest::{
    AccountAuth, ArchiveManifest, MANIFEST_NAME, Member, MemberContents, SCHEMA,
};
use super::format::metadata::Metadata;
use super::format::path_checks::check_manifest;
use super::format::tar_head::{head_bytes, header};
use super::reuse::{PreviousArchive, PreviousMember};
use crate::io::IoContext;
use crate::io::buffers::{AlignedBuffer, Buffer, BufferPool};
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::position;
use libdeflater::{CompressionLvl, Compressor};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tar::EntryType;

/// The fields of a manifest besides the lists of entries and members.
#[derive(Debug)]
pub struct ManifestDetails {
    /// Metadata of home and account. `files` and `bytes` are filled in.
    pub metadata: Metadata,
    /// Identity and digest of the archived login.
    pub account_auth: Option<AccountAuth>,
    /// Exclude globs of the user.
    pub excluded_globs: Vec<String>,
    /// Paths that could not be archived; see [`ArchiveManifest::skipped`].
    pub skipped: Vec<EntryName>,
    /// Top-level entries that are archived through a link.
    pub linked: Vec<EntryName>,
    /// True for a part of what the mode captures; see [`ArchiveManifest::partial`].
    pub partial: bool,
    /// Files that a restore of the archive removes; see [`ArchiveManifest::undo_removes`].
    pub undo_removes: Vec<EntryName>,
}

/// Size, digest and manifest of a finished archive.
#[derive(Debug)]
pub struct FinishedArchive {
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
    /// SHA-256 of the archive, in hexadecimal.
    pub archive_sha256: String,
    /// Number of its bytes that were copied from the previous archive.
    pub reused_bytes: u64,
    /// The manifest that the archive ends with.
    pub manifest: ArchiveManifest,
}

/// The files of a manifest. One thread adds files, another one sets their digests.
pub(super) type SharedFileList = Mutex<FileList>;

pub(super) fn lock_files(files: &SharedFileList) -> MutexGuard<'_, FileList> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lists of a manifest other than its files.
#[derive(Debug, Default)]
pub(super) struct NonFileEntries {
    pub(super) folders: Vec<FolderEntry>,
    pub(super) links: Vec<LinkEntry>,
    pub(super) void: Vec<EntryName>,
    /// Positions of the members that hold void entries.
    pub(super) void_members: Vec<std::ops::Range<usize>>,
}

/// A member to be written.
pub(super) enum MemberJob {
    /// Compresses this part of the tar stream. `files` has the position and byte range of each
    /// complete file in it.
    Fresh {
        bytes: Buffer,
        holds: MemberContents,
        files: Vec<(usize, std::ops::Range<usize>)>,
    },
    /// Copies a member of the previous archive.
    Reused {
        old: PreviousMember,
        holds: MemberContents,
    },
}

/// A member that is ready to be written.
pub(super) struct CompressedMember {
    /// Compressed bytes. For a reused member they come from the previous archive.
    bytes: AlignedBuffer,
    size: u64,
    sha256: Sha256Digest,
    holds: MemberContents,
    digests: Vec<(usize, Sha256Digest)>,
    reused: Option<PreviousMember>,
}

impl MemberJob {
    pub(super) fn run(
        self,
        path: &Path,
        compression: Compression,
        source: Option<&PreviousArchive<'_>>,
        buffers: &BufferPool,
    ) -> Result<CompressedMember, ArchiveError> {
        match self {
            Self::Fresh {
                bytes,
                holds,
                files,
            } => {
                let digests = files
                    .into_iter()
                    .map(|(index, range)| (index, Sha256Digest::of(&bytes[range])))
                    .collect();
                let packed = compress(&bytes, compression, buffers).at("write", path)?;
                Ok(CompressedMember {
                    size: bytes.len() as u64,
                    sha256: Sha256Digest::of(&packed),
                    bytes: packed,
                    holds,
                    digests,
                    reused: None,
                })
            }
            Self::Reused { old, holds } => {
                let bytes = source
                    .map(|source| source.read(&old, buffers))
                    .transpose()?;
                Ok(CompressedMember {
                    bytes: bytes.unwrap_or_else(|| buffers.aligned(0)),
                    size: old.size,
                    sha256: old.sha256,
                    holds,
                    digests: Vec::new(),
                    reused: Some(old),
                })
            }
        }
    }
}

/// Compresses `bytes` into one gzip member.
fn compress(
    bytes: &[u8],
    compression: Compression,
    buffers: &BufferPool,
) -> io::Result<AlignedBuffer> {
    thread_local! {
        // Creating a compressor takes longer than compressing a small member.
        static COMPRESSOR: RefCell<Option<(Compression, Compressor)>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let (_, compressor) = match slot {
            Some(kept) if kept.0 == compression => kept,
            _ => slot.insert((compression, Compressor::new(compression.level()))),
        };
        gzip(compressor, bytes, buffers)
    })
}

fn gzip(
    compressor: &mut Compressor,
    bytes: &[u8],
    buffers: &BufferPool,
) -> io::Result<AlignedBuffer> {
    let mut packed = buffers.aligned(compressor.gzip_compress_bound(bytes.len()));
    let len = compressor
        .gzip_compress(bytes, &mut packed)
        .map_err(|e| io::Error::other(format!("deflate: {e:?}")))?;
    packed.truncate(len);
    Ok(packed)
}

/// Writes members in order and collects the index.
pub(super) struct MemberSink<'a> {
    out: &'a mut File,
    path: &'a Path,
    source: Option<&'a PreviousArchive<'a>>,
    members: Vec<Member>,
    files: &'a SharedFileList,
    hasher: Hasher,
    written: u64,
    reused_bytes: u64,
}

impl<'a> MemberSink<'a> {
    pub(super) fn new(
        out: &'a mut File,
        path: &'a Path,
        source: Option<&'a PreviousArchive<'a>>,
        files: &'a SharedFileList,
    ) -> Self {
        Self {
            out,
            path,
            source,
            members: Vec::new(),
            files,
            hasher: Hasher::default(),
            written: 0,
            reused_bytes: 0,
        }
    }

    pub(super) fn take(&mut self, done: CompressedMember) -> Result<(), ArchiveError> {
        let len = done.bytes.len() as u64;
        self.members.push(Member {
            offset: self.written,
            len,
            size: done.size,
            sha256: done.sha256,
            holds: done.holds,
        });
        let mut files = lock_files(self.files);
        for (index, digest) in done.digests {
            files.set_digest(index, digest);
        }
        drop(files);
        match (done.reused, self.source) {
            (Some(old), Some(source)) => {
                source
                    .copy_to(&old, &done.bytes, self.out)
                    .at("write", self.path)?;
                self.hasher.update(&done.bytes);
                self.written += len;
                self.reused_bytes += len;
                Ok(())
            }
            _ => Ok(self.put(&done.bytes).at("write", self.path)?),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        position::begin_writeback(self.out, self.written, bytes.len() as u64);
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes the manifest and the footer.
    ///
    /// # Errors
    /// Returns the reason why readers would refuse the manifest, or a write error.
    pub(super) fn finish(
        mut self,
        entries: NonFileEntries,
        closing: ManifestDetails,
        compression: Compression,
    ) -> Result<FinishedArchive, ArchiveError> {
        let offset = self.written;
        for member in entries.void_members.into_iter().flatten() {
            self.members[member].holds = MemberContents::Void;
        }
        let files = std::mem::take(&mut *lock_files(self.files));
        let mut metadata = closing.metadata;
        metadata.files = files.len() as u64;
        metadata.bytes = files.bytes();
        metadata.excludes = !closing.excluded_globs.is_empty();
        let manifest = ArchiveManifest {
            schema: SCHEMA,
            metadata,
            account_auth: closing.account_auth,
            excluded_globs: closing.excluded_globs,
            skipped: closing.skipped,
            partial: closing.partial,
            undo_removes: closing.undo_removes,
            linked: closing.linked,
            folders: entries.folders,
            links: entries.links,
            void: entries.void,
            effort: compression.effort(),
            files,
            members: std::mem::take(&mut self.members),
        };
        let path = self.path;
        // Applies the checks of a reader: an archive that cannot be restored must not be published
        // as a good one.
        check_manifest(path, &manifest)?;
        let text_bytes = self
            .put_manifest(&manifest, compression)
            .at("write", path)?;
        let len = self.written - offset;
        if text_bytes > max_manifest_bytes(len) {
            return Err(ArchiveError::damaged(path, "manifest: too large"));
        }
        self.put(&footer::Footer { offset, len }.encode())
            .at("write", path)?;
        Ok(FinishedArchive {
            archive_bytes: self.written,
            archive_sha256: self.hasher.finish(),
            reused_bytes: self.reused_bytes,
            manifest,
        })
    }

    /// Serializes the manifest twice: once for its length, which the tar header needs, and once for
    /// its bytes. So its text is never completely in memory. Returns the length in bytes.
    fn put_manifest(
        &mut self,
        manifest: &ArchiveManifest,
        compression: Compression,
    ) -> io::Result<u64> {
        let mut count = ByteCounter(0);
        serde_json::to_writer(&mut count, manifest)?;
        let mtime = manifest
            .metadata
            .created_at
            .timestamp_nanos_opt()
            .unwrap_or(0);
        let header = header(EntryType::Regular, count.0, 0o600, mtime);
        let mut stream = ManifestMemberWriter {
            sink: self,
            compression,
            is_large: count.0 > max_manifest_bytes(0),
            member: head_bytes(header, Path::new(MANIFEST_NAME))?,
            buffers: BufferPool::default(),
        };
        serde_json::to_writer(&mut stream, manifest)?;
        // The padding of the entry, and the two zero blocks that end a tar.
        let padding = padding_of(count.0) + 2 * BLOCK_BYTES;
        io::copy(&mut io::repeat(0).take(padding), &mut stream)?;
        stream.close()?;
        Ok(count.0)
    }
}

/// Counts the bytes that are written to it.
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

/// Cuts the manifest's tar entry into gzip members.
struct ManifestMemberWriter<'a, 'b> {
    sink: &'a mut MemberSink<'b>,
    compression: Compression,
    /// True if the manifest is so large that readers limit its compression ratio.
    is_large: bool,
    member: Vec<u8>,
    buffers: BufferPool,
}

impl ManifestMemberWriter<'_, '_> {
    fn close(&mut self) -> io::Result<()> {
        let mut packed = compress(&self.member, self.compression, &self.buffers)?;
        let min_bytes = min_packed_bytes(self.member.len());
        if self.is_large && packed.len() < min_bytes {
            // Very similar names can compress beyond the ratio that readers accept. A part of them
            // is then stored uncompressed in a member of its own.
            let (plain, rest) = self.member.split_at(min_bytes);
            let mut store = Compressor::new(CompressionLvl::new(0).unwrap_or_default());
            self.sink.put(&gzip(&mut store, plain, &self.buffers)?)?;
            packed = compress(rest, self.compression, &self.buffers)?;
        }
        self.member.clear();
        self.sink.put(&packed)
    }
}

impl Write for ManifestMemberWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.member.extend_from_slice(bytes);
        if self.member.len() as u64 >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
