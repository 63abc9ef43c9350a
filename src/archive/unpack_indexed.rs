//! Unpacks an archive with an index, member by member on several threads. Archives without an index
//! are read [as one stream](super::unpack_stream).

use super::error::ArchiveError;
use super::format::entry::FileEntry;
use super::format::gzip_member;
use super::format::manifest::{ArchiveManifest, Member, MemberContents};
use super::format::member_content::{self, unexpected_entry, wrong_digest};
use super::format::sizes::{BLOCK_BYTES, MAX_MEMBERS_IN_FLIGHT};
use super::format::tar_stream::read_head;
use super::sink::{Extent, Sink};
use crate::io::buffers::{AlignedBuffer, BufferPool};
use crate::io::file_open;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::parallel::{self, ConsumerFailed};
use crate::io::position;
use crate::io::progress::is_interrupted;
use crate::io::{IoContext, Progress};
use std::fs::File;
use std::io;
use std::path::Path;

/// A member that was unpacked, and checked as far as possible without the members before it.
enum UnpackedMember {
    Checked,
    /// A chunk of a large file, to be hashed in order.
    Chunk {
        entry: FileEntry,
        bytes: AlignedBuffer,
        content: usize,
        upto: Sha256Digest,
    },
    /// A part of a void entry.
    Void(AlignedBuffer),
}

/// Unpacks an archive whose index was checked.
pub(super) fn by_index(
    path: &Path,
    manifest: &ArchiveManifest,
    extent: Extent,
    sink: &dyn Sink,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let file = file_open::open(path).at("open", path)?;
    progress.expect_bytes(manifest.files.bytes());
    let buffers = BufferPool::default();
    let unpacker = Unpacker {
        path,
        buffers: &buffers,
        file: &file,
        manifest,
        sink,
        progress,
    };
    let mut in_order = OrderedChecks {
        path,
        manifest,
        sink,
        running: Hasher::default(),
        hashed: 0,
        void: 0,
        void_left: 0,
    };
    {
        let in_order = &mut in_order;
        parallel::ordered_on(
            // One thread more than processors, because a thread may wait for the disk.
            parallel::threads() + 1,
            MAX_MEMBERS_IN_FLIGHT,
            |job: (&Member, u64)| unpacker.member(job),
            |done: Result<UnpackedMember, ArchiveError>| in_order.take(done?),
            |jobs| {
                let members = manifest.members_with_offsets();
                members
                    .filter(|(member, _)| extent == Extent::All || unpacker.is_wanted(member))
                    .try_for_each(|job| jobs.submit(job))
                    .map_err(|ConsumerFailed| ArchiveError::Interrupted)
            },
        )?;
    }
    match extent {
        Extent::All => in_order.finish(),
        Extent::Wanted => Ok(()),
    }
}

/// Checks that span several members, applied in the order of the archive.
struct OrderedChecks<'a> {
    path: &'a Path,
    manifest: &'a ArchiveManifest,
    sink: &'a dyn Sink,
    /// Digest of the current large file so far, and the number of hashed bytes.
    running: Hasher,
    hashed: u64,
    /// Number of void entries that have begun, and the bytes of the last one that are still
    /// missing.
    void: usize,
    void_left: u64,
}

impl OrderedChecks<'_> {
    fn take(&mut self, done: UnpackedMember) -> Result<(), ArchiveError> {
        if self.void_left > 0 && !matches!(done, UnpackedMember::Void(_)) {
            return Err(self.void_mismatch());
        }
        match done {
            UnpackedMember::Checked => Ok(()),
            UnpackedMember::Chunk {
                entry,
                bytes,
                content,
                upto,
            } => self.chunk(&entry, &bytes[..content], upto),
            UnpackedMember::Void(bytes) => self.void(&bytes),
        }
    }

    fn chunk(
        &mut self,
        entry: &FileEntry,
        content: &[u8],
        upto: Sha256Digest,
    ) -> Result<(), ArchiveError> {
        if self.hashed == 0 {
            self.running = Hasher::default();
        }
        self.running.update(content);
        self.hashed += content.len() as u64;
        let digest = self.running.digest();
        let ends = self.hashed == entry.size;
        if digest != upto || (ends && entry.sha256 != Some(digest)) {
            return Err(wrong_digest(self.path, entry));
        }
        if ends {
            self.hashed = 0;
            if self.sink.wants(entry) {
                self.sink.finish_file(entry)?;
            }
        }
        Ok(())
    }

    /// Checks one part of a void entry. Only entries that the manifest lists as void are accepted:
    /// the header of one, then its content.
    fn void(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.void_left > 0 {
            let left = self.void_left.checked_sub(bytes.len() as u64);
            self.void_left = left.ok_or_else(|| self.void_mismatch())?;
            return Ok(());
        }
        let entry = read_head(bytes, self.path)?;
        if self.manifest.void.get(self.void) != Some(&entry.name) {
            return Err(unexpected_entry(self.path, &entry.name));
        }
        self.void += 1;
        self.void_left = entry
            .size
            .checked_next_multiple_of(BLOCK_BYTES)
            .ok_or_else(|| self.void_mismatch())?;
        Ok(())
    }

    fn finish(&self) -> Result<(), ArchiveError> {
        if self.void_left == 0 && self.void == self.manifest.void.len() {
            Ok(())
        } else {
            Err(self.void_mismatch())
        }
    }

    fn void_mismatch(&self) -> ArchiveError {
        ArchiveError::damaged(
            self.path,
            "the void entries differ from those in the manifest",
        )
    }
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
    /// Returns true if the member holds a wanted file. The index was checked, so its numbers are
    /// within the lists.
    fn is_wanted(&self, member: &Member) -> bool {
        match member.holds {
            MemberContents::Files(first, count) => {
                self.files(first, count).any(|f| self.sink.wants(&f))
            }
            MemberContents::Head(file) | MemberContents::Chunk(file, _) => {
                self.files(file, 1).any(|f| self.sink.wants(&f))
            }
            MemberContents::Structure(..) | MemberContents::Void => false,
        }
    }

    fn files(&self, first: u64, count: u64) -> impl Iterator<Item = FileEntry> {
        let place = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let places = place(first)..place(first.saturating_add(count));
        self.manifest.files.range(places)
    }

    /// Unpacks and checks a member. `offset` is that of a chunk in its file.
    fn member(&self, (member, offset): (&Member, u64)) -> Result<UnpackedMember, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let bytes = self.unpack(member)?;
        match member.holds {
            MemberContents::Structure(first, count) => {
                member_content::check_structure(self.path, &bytes, self.manifest, first, count)?;
            }
            MemberContents::Files(first, count) => {
                let listed = self.files(first, count);
                member_content::read_small_files(self.path, &bytes, listed, |file, text| {
                    self.small_file(file, text)
                })?;
            }
            MemberContents::Head(file) => {
                member_content::check_head(self.path, &bytes, &self.file_at(file)?)?;
            }
            MemberContents::Chunk(file, upto) => return self.chunk(bytes, file, upto, offset),
            MemberContents::Void => return Ok(UnpackedMember::Void(bytes)),
        }
        Ok(UnpackedMember::Checked)
    }

    /// Unpacks a member into its part of the tar stream, after comparing the compressed bytes with
    /// their digest.
    fn unpack(&self, member: &Member) -> Result<AlignedBuffer, ArchiveError> {
        let bad = |what: &str| ArchiveError::damaged(self.path, format!("a member {what}"));
        let (Ok(len), Ok(size)) = (usize::try_from(member.len), usize::try_from(member.size))
        else {
            return Err(bad("is too large"));
        };
        let mut packed = self.buffers.aligned(len);
        match position::read_exact_at(self.file, &mut packed, member.offset) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(bad("ends early")),
            other => other.at("read", self.path)?,
        }
        if Sha256Digest::of(&packed) != member.sha256 {
            return Err(bad("does not match its digest"));
        }
        gzip_member::decompress(&packed, size, self.buffers).map_err(bad)
    }

    /// Passes a complete small file to the sink.
    fn small_file(&self, file: &FileEntry, text: &[u8]) -> Result<(), ArchiveError> {
        self.progress.add_bytes(file.size);
        if self.sink.wants(file) {
            self.sink.write_chunk(file, 0, text)?;
            self.sink.finish_file(file)?;
        }
        Ok(())
    }

    fn chunk(
        &self,
        bytes: AlignedBuffer,
        file: u64,
        upto: Sha256Digest,
        offset: u64,
    ) -> Result<UnpackedMember, ArchiveError> {
        let entry = self.file_at(file)?;
        let content = member_content::chunk_content(self.path, &bytes, &entry, offset)?;
        self.progress.add_bytes(content.len() as u64);
        if self.sink.wants(&entry) {
            self.sink.write_chunk(&entry, offset, content)?;
        }
        Ok(UnpackedMember::Chunk {
            content: content.len(),
            entry,
            bytes,
            upto,
        })
    }

    fn file_at(&self, number: u64) -> Result<FileEntry, ArchiveError> {
        let unlisted = || ArchiveError::damaged(self.path, "a file that is not listed");
        self.files(number, 1).next().ok_or_else(unlisted)
    }
}
