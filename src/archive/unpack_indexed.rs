//! Unpacks an archive with an index, member by member on several threads. Archives without an index
//! are read [as one stream](super::unpack_stream).

use super::error::ArchiveError;
use super::format::entry::FileEntry;
use super::format::entry_name::EntryName;
use super::format::layout::{BLOCK_BYTES, MAX_MEMBERS_IN_FLIGHT, padding_of};
use super::format::manifest::{ArchiveManifest, Member, MemberContents};
use super::format::tar_stream::{RawEntry, RawKind, for_each_entry, read_head};
use super::sink::{Extent, Sink};
use crate::io::buffers::{AlignedBuffer, BufferPool};
use crate::io::file_open;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::parallel::{self, ConsumerFailed};
use crate::io::position;
use crate::io::progress::is_interrupted;
use crate::io::{IoContext, Progress};
use flate2::bufread::GzDecoder;
use libdeflater::{Crc, Decompressor};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::Path;

/// A member that was unpacked, and checked as far as possible without the members before it.
enum UnpackedMember {
    /// The member is completely checked.
    Checked,
    /// A chunk of a large file, to be hashed in order.
    Chunk {
        file: usize,
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
                // Offset of the next chunk in its file.
                let mut position = 0;
                for member in &manifest.members {
                    let at = match member.holds {
                        MemberContents::Chunk(..) => position,
                        _ => 0,
                    };
                    position = match member.holds {
                        MemberContents::Chunk(..) => position + member.size,
                        _ => 0,
                    };
                    if extent == Extent::All || unpacker.is_wanted(member) {
                        jobs.submit((member, at))
                            .map_err(|ConsumerFailed| ArchiveError::Interrupted)?;
                    }
                }
                Ok(())
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
                file,
                bytes,
                content,
                upto,
            } => match self.manifest.files.get(file) {
                Some(entry) => self.chunk(&entry, &bytes[..content], upto),
                None => Err(unlisted_file(self.path)),
            },
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
            return Err(ArchiveError::unsafe_entry(self.path, &entry.name, UNLISTED));
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

    fn member(&self, (member, position): (&Member, u64)) -> Result<UnpackedMember, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let bytes = self.unpack(member)?;
        match member.holds {
            MemberContents::Structure(first, count) => self.structure(&bytes, first, count)?,
            MemberContents::Files(first, count) => self.small_files(&bytes, first, count)?,
            MemberContents::Head(file) => self.head(&bytes, file)?,
            MemberContents::Chunk(file, upto) => return self.chunk(bytes, file, upto, position),
            MemberContents::Void => return Ok(UnpackedMember::Void(bytes)),
        }
        Ok(UnpackedMember::Checked)
    }

    /// Unpacks a member into its part of the tar stream, after comparing the compressed bytes with
    /// their digest.
    fn unpack(&self, member: &Member) -> Result<AlignedBuffer, ArchiveError> {
        thread_local! {
            static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
        }
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
        let mut bytes = self.buffers.aligned(size);
        let unpacked = DECOMPRESSOR.with_borrow_mut(|d| d.gzip_decompress(&packed, &mut bytes));
        match unpacked {
            Ok(n) if n == size && is_exactly_one_stream(&packed, &bytes) => Ok(bytes),
            Ok(n) if n == size => Err(bad("has data after its end")),
            _ => Err(bad("cannot be unpacked")),
        }
    }

    /// Fails if data follows the last entry of a member: tar programs would unpack it, without any
    /// digest.
    fn expect_end(&self, bytes: &[u8], end: u64) -> Result<(), ArchiveError> {
        if end == bytes.len() as u64 {
            Ok(())
        } else {
            Err(ArchiveError::damaged(
                self.path,
                "hidden data after the entries of a member",
            ))
        }
    }

    fn structure(&self, bytes: &[u8], first: u64, count: u64) -> Result<(), ArchiveError> {
        let folders = &self.manifest.folders;
        let mut next = usize::try_from(first).unwrap_or(usize::MAX);
        let end = next.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        let mut read = 0;
        for_each_entry(bytes, self.path, &mut |entry, _| {
            let fits = match &entry.kind {
                RawKind::Folder => folders.get(next).is_some_and(|f| f.path == entry.name),
                RawKind::Link(target) => next
                    .checked_sub(folders.len())
                    .and_then(|i| self.manifest.links.get(i))
                    .is_some_and(|l| l.path == entry.name && l.target == *target),
                RawKind::File => false,
            };
            next += 1;
            read = entry.content_at;
            if fits && entry.size == 0 {
                Ok(())
            } else {
                Err(self.unexpected_entry(&entry.name))
            }
        })?;
        if next == end {
            self.expect_end(bytes, read)
        } else {
            Err(ArchiveError::damaged(self.path, "folders are missing"))
        }
    }

    fn small_files(&self, bytes: &[u8], first: u64, count: u64) -> Result<(), ArchiveError> {
        let mut listed = self.files(first, count);
        let mut read = 0;
        for_each_entry(bytes, self.path, &mut |entry, content| {
            let file = listed.next().filter(|file| matches_manifest(&entry, file));
            let Some(file) = file else {
                return Err(self.unexpected_entry(&entry.name));
            };
            // The size was compared with the entry, and is at most that of a member.
            let limit = usize::try_from(file.size).unwrap_or(0);
            let text = content.read_all(limit)?.unwrap_or_default();
            if file.sha256 != Some(Sha256Digest::of(&text)) {
                return Err(wrong_digest(self.path, &file));
            }
            let content_end = entry.content_at + file.size;
            read = content_end + padding_of(file.size);
            if !is_zero(bytes, content_end, read) {
                return Err(hidden_data(self.path, &file));
            }
            self.progress.add_bytes(file.size);
            if self.sink.wants(&file) {
                self.sink.write_chunk(&file, 0, &text)?;
                self.sink.finish_file(&file)?;
            }
            Ok(())
        })?;
        match listed.next() {
            None => self.expect_end(bytes, read),
            Some(file) => Err(ArchiveError::damaged(
                self.path,
                format!("{} is missing", file.path),
            )),
        }
    }

    fn head(&self, bytes: &[u8], file: u64) -> Result<(), ArchiveError> {
        let Some(file) = self.files(file, 1).next() else {
            return Err(unlisted_file(self.path));
        };
        let entry = read_head(bytes, self.path)?;
        if matches_manifest(&entry, &file) {
            Ok(())
        } else {
            Err(self.unexpected_entry(&entry.name))
        }
    }

    fn chunk(
        &self,
        bytes: AlignedBuffer,
        file: u64,
        upto: Sha256Digest,
        position: u64,
    ) -> Result<UnpackedMember, ArchiveError> {
        let (Some(entry), Ok(index)) = (self.files(file, 1).next(), usize::try_from(file)) else {
            return Err(unlisted_file(self.path));
        };
        let left = entry.size.saturating_sub(position);
        let content = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if bytes[content..].iter().any(|b| *b != 0) {
            return Err(hidden_data(self.path, &entry));
        }
        self.progress.add_bytes(content as u64);
        if self.sink.wants(&entry) {
            self.sink.write_chunk(&entry, position, &bytes[..content])?;
        }
        Ok(UnpackedMember::Chunk {
            file: index,
            bytes,
            content,
            upto,
        })
    }

    fn unexpected_entry(&self, name: &EntryName) -> ArchiveError {
        ArchiveError::unsafe_entry(self.path, name, UNLISTED)
    }
}

const UNLISTED: &str = "not the entry that the manifest lists";

/// Returns true if the gzip stream that `packed` starts with, and that unpacks to `bytes`, ends
/// where `packed` ends.
///
/// A stream ends with the checksum and length of `bytes`. If these eight bytes also occur earlier,
/// for instance in content that did not compress, the stream is decoded once more.
fn is_exactly_one_stream(packed: &[u8], bytes: &[u8]) -> bool {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    // Members are much smaller than 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    trailer[4..].copy_from_slice(&len.to_le_bytes());
    match memchr::memmem::find(packed, &trailer) {
        None => false,
        first if first == packed.len().checked_sub(trailer.len()) => true,
        Some(_) => decodes_as_one_stream(packed),
    }
}

/// Returns true if one gzip stream takes all of `packed`.
fn decodes_as_one_stream(packed: &[u8]) -> bool {
    let mut rest = packed;
    let unpacked = io::copy(&mut GzDecoder::new(&mut rest), &mut io::sink());
    unpacked.is_ok() && rest.is_empty()
}

/// Returns true if `bytes` has the range `from..to` and it is zero.
fn is_zero(bytes: &[u8], from: u64, to: u64) -> bool {
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    range
        .and_then(|(from, to)| bytes.get(from..to))
        .is_some_and(|part| part.iter().all(|b| *b == 0))
}

fn hidden_data(path: &Path, file: &FileEntry) -> ArchiveError {
    ArchiveError::damaged(path, format!("hidden data after {}", file.path))
}

/// Returns true if the tar entry is `file` by kind, name and size.
fn matches_manifest(entry: &RawEntry, file: &FileEntry) -> bool {
    matches!(entry.kind, RawKind::File) && entry.name == file.path && entry.size == file.size
}

fn unlisted_file(path: &Path) -> ArchiveError {
    ArchiveError::damaged(path, "a file that is not listed")
}

pub(super) fn wrong_digest(path: &Path, file: &FileEntry) -> ArchiveError {
    ArchiveError::damaged(
        path,
        format!("the content of {} does not match its digest", file.path),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use libdeflater::{CompressionLvl, Compressor};

    /// Returns four bytes that, appended to `bytes`, give the CRC `wanted`.
    fn forge(bytes: &[u8], wanted: u32) -> [u8; 4] {
        let step = |byte: u32| (0..8).fold(byte, |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)));
        let table: Vec<u32> = (0..256).map(step).collect();
        // Walks backwards: the highest byte of each sum determines the table index.
        let (mut sum, mut steps) = (!wanted, Vec::new());
        for _ in 0..4 {
            let index = table.iter().position(|t| t >> 24 == sum >> 24).unwrap();
            steps.push(index);
            sum = (sum ^ table[index]) << 8;
        }
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut sum = !crc.sum();
        let mut found = [0; 4];
        for (byte, index) in found.iter_mut().zip(steps.into_iter().rev()) {
            *byte = sum.to_le_bytes()[0] ^ index.to_le_bytes()[0];
            sum = table[index] ^ (sum >> 8);
        }
        found
    }

    #[test]
    fn content_equal_to_the_gzip_trailer_does_not_end_the_stream() {
        const SUM: u32 = 0xDEAD_BEEF;
        let mut bytes = b"before ".to_vec();
        bytes.extend(SUM.to_le_bytes());
        bytes.extend(100_u32.to_le_bytes());
        bytes.resize(96, b'x');
        bytes.extend(forge(&bytes, SUM));
        let mut stored = Compressor::new(CompressionLvl::new(0).unwrap());
        let mut packed = vec![0; 1000];
        let len = stored.gzip_compress(&bytes, &mut packed).unwrap();
        packed.truncate(len);
        assert_eq!(packed[len - 8..len - 4], SUM.to_le_bytes(), "as forged");
        assert!(is_exactly_one_stream(&packed, &bytes));
        packed.push(0);
        assert!(!is_exactly_one_stream(&packed, &bytes));
        packed.extend_from_within(len - 8..len);
        assert!(!is_exactly_one_stream(&packed, &bytes));
    }
}
