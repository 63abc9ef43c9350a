//! Unpacks an archive with an index, member by member on several threads. Archives without an index
//! are read [as one stream](super::unpack_stream).

use super::error::{ArchiveError, ContentError};
use super::format::member_content::{self, unexpected_entry_error, wrong_digest_error};
use super::format::sizes::{BLOCK_BYTES, MAX_MEMBERS_IN_FLIGHT};
use super::format::tar_stream::read_single_header;
use super::format::{ArchiveManifest, FileEntry, Member, MemberContents, gzip_member};
use super::sink::{Extent, Sink};
use crate::io::buffers::{AlignedBuffer, BufferPool};
use crate::io::hash::{ContentHasher, DigestBytes};
use crate::io::parallel::{self, ConsumerFailed};
use crate::io::progress::check_interrupt;
use crate::io::{IoContext, Progress, file_open, position};
use std::fs::File;
use std::io;
use std::path::Path;

/// An unpacked member. The checks that need no other member are done.
enum UnpackedMember {
    /// No further check is needed.
    Checked,
    /// A chunk of a large file, which is still to be hashed after the chunks before it.
    Chunk {
        entry: FileEntry,
        bytes: AlignedBuffer,
        content_len: usize,
        /// Digest of the file up to the end of this chunk.
        digest_so_far: DigestBytes,
    },
    /// A part of a void entry, still to be compared with the parts before it.
    Void(AlignedBuffer),
}

/// Unpacks an archive whose index was checked.
pub(super) fn unpack_by_index(
    path: &Path,
    manifest: &ArchiveManifest,
    extent: Extent,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let file = file_open::open(path).at("open", path)?;
    progress.expect_bytes(manifest.files.total_bytes());

    let buffers = BufferPool::default();
    let unpacker = Unpacker {
        path,
        buffers: &buffers,
        file: &file,
        manifest,
        sink,
        progress,
    };

    let mut checks = OrderedChecks {
        manifest,
        sink,
        file_hasher: ContentHasher::default(),
        hashed_bytes: 0,
        begun_voids: 0,
        void_bytes_left: 0,
    };

    let read_result = parallel::run_ordered_on(
        // One thread more than usual, because a thread may wait for the disk.
        parallel::thread_count() + 1,
        MAX_MEMBERS_IN_FLIGHT,
        |job: (&Member, u64)| unpacker.unpack_and_check(job),
        |unpacked: Result<UnpackedMember, ContentError>| checks.check_next(unpacked?),
        |jobs| {
            let members = manifest.members_with_offsets();
            members
                .filter(|(member, _)| extent == Extent::All || unpacker.holds_wanted_file(member))
                .try_for_each(|job| jobs.submit(job))
                // Not returned: `run_ordered_on` returns the error of the consumer.
                .map_err(|ConsumerFailed| ArchiveError::Interrupted.into())
        },
    );

    // A read of wanted files leaves out the void members.
    let check_result = read_result.and_then(|()| match extent {
        Extent::All => checks.check_all_voids_read(),
        Extent::Wanted => Ok(()),
    });
    check_result.map_err(|e| e.into_archive_error(path))
}

/// Checks that span several members, applied in the order of the archive.
struct OrderedChecks<'a> {
    manifest: &'a ArchiveManifest,
    sink: &'a dyn Sink,
    /// The hasher of the current large file.
    file_hasher: ContentHasher,
    /// Number of bytes of the current large file that were hashed.
    hashed_bytes: u64,
    /// Number of void entries that have begun. Void entries belong to large files that shrank while they were archived;
    /// no file is unpacked from them.
    begun_voids: usize,
    /// Number of bytes of the last void entry that are still to come.
    void_bytes_left: u64,
}

impl OrderedChecks<'_> {
    /// Checks the next member. Has to be called with the members in the order of the archive.
    fn check_next(&mut self, member: UnpackedMember) -> Result<(), ContentError> {
        if self.void_bytes_left > 0 && !matches!(member, UnpackedMember::Void(_)) {
            return Err(void_mismatch_error());
        }

        match member {
            UnpackedMember::Checked => Ok(()),
            UnpackedMember::Chunk {
                entry,
                bytes,
                content_len,
                digest_so_far,
            } => self.check_chunk(&entry, &bytes[..content_len], digest_so_far),
            UnpackedMember::Void(bytes) => self.check_void(&bytes),
        }
    }

    fn check_chunk(
        &mut self,
        entry: &FileEntry,
        content: &[u8],
        digest_so_far: DigestBytes,
    ) -> Result<(), ContentError> {
        if self.hashed_bytes == 0 {
            let hasher = entry.digest.map(|digest| digest.hasher());
            self.file_hasher = hasher.unwrap_or_default();
        }

        // A digest runs from the start of a file, so chunks are hashed in order, although threads unpack them in any
        // order.
        self.file_hasher.update(content);
        self.hashed_bytes += content.len() as u64;

        let digest = self.file_hasher.digest();
        let is_last = self.hashed_bytes == entry.size;
        if digest.bytes() != digest_so_far || (is_last && entry.digest != Some(digest)) {
            return Err(wrong_digest_error(entry));
        }

        if is_last {
            self.hashed_bytes = 0;
            if self.sink.wants(entry) {
                self.sink.finish_file(entry)?;
            }
        }

        Ok(())
    }

    /// Checks one part of a void entry: the header of the next entry that the manifest lists as void, or a part of its
    /// content.
    fn check_void(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        if self.void_bytes_left > 0 {
            let remaining = self.void_bytes_left.checked_sub(bytes.len() as u64);
            self.void_bytes_left = remaining.ok_or_else(void_mismatch_error)?;
            return Ok(());
        }

        let entry = read_single_header(bytes)?;
        if self.manifest.void.get(self.begun_voids) != Some(&entry.name) {
            return Err(unexpected_entry_error(&entry.name));
        }

        self.begun_voids += 1;
        let bytes_with_padding = entry.size.checked_next_multiple_of(BLOCK_BYTES);
        self.void_bytes_left = bytes_with_padding.ok_or_else(void_mismatch_error)?;
        Ok(())
    }

    fn check_all_voids_read(&self) -> Result<(), ContentError> {
        if self.void_bytes_left == 0 && self.begun_voids == self.manifest.void.len() {
            Ok(())
        } else {
            Err(void_mismatch_error())
        }
    }
}

fn void_mismatch_error() -> ContentError {
    ContentError::damaged("the void entries differ from those in the manifest")
}

struct Unpacker<'a> {
    path: &'a Path,
    buffers: &'a BufferPool,
    file: &'a File,
    manifest: &'a ArchiveManifest,
    sink: &'a dyn Sink,
    progress: &'a dyn Progress,
}

impl Unpacker<'_> {
    /// Returns true if the member holds a file that the sink wants. The index was checked, so its numbers are within
    /// the lists of the manifest.
    fn holds_wanted_file(&self, member: &Member) -> bool {
        match member.holds {
            MemberContents::Files(first, count) => {
                self.files_from(first, count).any(|f| self.sink.wants(&f))
            }
            MemberContents::Head(file) | MemberContents::Chunk(file, _) => {
                self.files_from(file, 1).any(|f| self.sink.wants(&f))
            }
            MemberContents::Structure(..) | MemberContents::Void => false,
        }
    }

    fn files_from(&self, first: u64, count: u64) -> impl Iterator<Item = FileEntry> {
        let index_of = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let indices = index_of(first)..index_of(first.saturating_add(count));
        self.manifest.files.range(indices)
    }

    /// Unpacks a member, checks what can be checked of it alone, and writes wanted content to the sink. For a chunk,
    /// `offset` is its byte offset in the file.
    fn unpack_and_check(
        &self,
        (member, offset): (&Member, u64),
    ) -> Result<UnpackedMember, ContentError> {
        check_interrupt().map_err(|_| ArchiveError::Interrupted)?;

        let bytes = self.read_and_decompress(member)?;
        match member.holds {
            MemberContents::Structure(first, count) => {
                member_content::check_folders_and_links(&bytes, self.manifest, first, count)?;
            }
            MemberContents::Files(first, count) => {
                let listed_files = self.files_from(first, count);
                member_content::read_small_files(&bytes, listed_files, |file, content| {
                    self.progress.add_bytes(file.size);
                    if self.sink.wants(file) {
                        self.sink.write_chunk(file, 0, content)?;
                        self.sink.finish_file(file)?;
                    }
                    Ok(())
                })?;
            }
            MemberContents::Head(file) => {
                member_content::check_large_file_header(&bytes, &self.file_at(file)?)?;
            }
            // A digest spans several chunks, so `OrderedChecks` compares it in the order of the chunks.
            MemberContents::Chunk(file, digest_so_far) => {
                return self.unpack_chunk(bytes, file, digest_so_far, offset);
            }
            MemberContents::Void => return Ok(UnpackedMember::Void(bytes)),
        }

        Ok(UnpackedMember::Checked)
    }

    /// Reads a member, compares the compressed bytes with their digest, and unpacks them.
    fn read_and_decompress(&self, member: &Member) -> Result<AlignedBuffer, ContentError> {
        let damaged = |defect: &str| ContentError::damaged(format!("a member {defect}"));
        let (Ok(len), Ok(size)) = (usize::try_from(member.len), usize::try_from(member.size))
        else {
            return Err(damaged("is too large"));
        };

        let mut packed = self.buffers.take_aligned(len);
        match position::read_exact_at(self.file, &mut packed, member.offset) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged("ends early"));
            }
            other => other.at("read", self.path).map_err(ArchiveError::from)?,
        }

        // Before decompression, so that the decoder never gets bytes with another digest than in the manifest.
        if !member.digest.is_of(&packed) {
            return Err(damaged("does not match its digest"));
        }

        gzip_member::decompress(&packed, size, self.buffers).map_err(damaged)
    }

    fn unpack_chunk(
        &self,
        bytes: AlignedBuffer,
        file: u64,
        digest_so_far: DigestBytes,
        offset: u64,
    ) -> Result<UnpackedMember, ContentError> {
        let entry = self.file_at(file)?;
        let content = member_content::read_chunk_content(&bytes, &entry, offset)?;
        self.progress.add_bytes(content.len() as u64);

        // The digest of the whole file is not known yet. The sink publishes nothing before `finish_file`.
        if self.sink.wants(&entry) {
            self.sink.write_chunk(&entry, offset, content)?;
        }

        Ok(UnpackedMember::Chunk {
            content_len: content.len(),
            entry,
            bytes,
            digest_so_far,
        })
    }

    fn file_at(&self, number: u64) -> Result<FileEntry, ContentError> {
        let unlisted_error = || ContentError::damaged("a file that the manifest does not list");
        self.files_from(number, 1).next().ok_or_else(unlisted_error)
    }
}
