//! Writing an archive: a tar stream cut into gzip members, compressed on several threads, with an
//! index of the members in the manifest at its end and a footer that tells where that is.
//!
//! Members are cut where files begin, so that each can be unpacked, or copied into the next archive,
//! without the others. See `docs/archive-format.md`.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::{
    AccountAuth, FileEntry, FolderEntry, Holds, LinkEntry, MANIFEST_NAME, Manifest, Member, SCHEMA,
};
use super::metadata::Metadata;
use super::reuse::{OldMember, Source};
use super::tar_head::{entry_head, head_bytes, header, link_bytes, padding_of, with_slash};
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::parallel::{self, Stopped, Submitter};
use crate::io::{IoContext, IoError};
use libdeflater::{CompressionLvl, Compressor};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tar::EntryType;

/// A file of at least this size has members of its own; smaller ones of a folder share some.
pub const LARGE_BYTES: u64 = 1024 * 1024;

/// A member of small files is closed once it holds this much.
const GROUP_BYTES: usize = 1024 * 1024;

/// How much of a large file's content is in one member. A multiple of the tar's block.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// The block that a tar stream is made of.
pub const BLOCK_BYTES: u64 = 512;

/// How many members are under way at a time: bounds the memory.
pub const IN_FLIGHT: usize = 4;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Compression {
    /// Larger and faster.
    Fast,
    /// The balance.
    #[default]
    Default,
    /// Smaller and slower.
    Best,
}

impl Compression {
    fn level(self) -> CompressionLvl {
        let level = match self {
            Self::Fast => 2,
            Self::Default => 6,
            Self::Best => 8,
        };
        CompressionLvl::new(level).unwrap_or_default()
    }

    /// As a number that is larger for smaller archives.
    pub fn effort(self) -> u8 {
        match self {
            Self::Fast => 0,
            Self::Default => 1,
            Self::Best => 2,
        }
    }
}

/// The footer: an empty gzip member whose extra field tells where the manifest's members are.
/// Any gzip program reads it as nothing.
pub mod footer {
    /// Its size in bytes.
    pub const LEN: usize = 10 + 2 + 4 + 17 + 2 + 8;

    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    const EXTRA: [u8; 7] = [21, 0, b'C', b'M', 17, 0, 1];
    const TAIL: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// Where the manifest's members are.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Footer {
        /// Their first byte in the file.
        pub offset: u64,
        /// Their compressed length.
        pub len: u64,
    }

    impl Footer {
        /// The bytes at the end of the archive.
        pub fn encode(self) -> [u8; LEN] {
            let mut bytes = [0; LEN];
            bytes[..10].copy_from_slice(&HEAD);
            bytes[10..17].copy_from_slice(&EXTRA);
            bytes[17..25].copy_from_slice(&self.offset.to_le_bytes());
            bytes[25..33].copy_from_slice(&self.len.to_le_bytes());
            bytes[33..].copy_from_slice(&TAIL);
            bytes
        }

        /// Reads it back; `None` for anything else.
        pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
            let number = |from: usize| {
                let mut raw = [0; 8];
                raw.copy_from_slice(&bytes[from..from + 8]);
                u64::from_le_bytes(raw)
            };
            let known = bytes[..10] == HEAD && bytes[10..17] == EXTRA && bytes[33..] == TAIL;
            known.then(|| Self {
                offset: number(17),
                len: number(25),
            })
        }
    }
}

/// What a manifest says besides the list of entries.
#[derive(Debug)]
pub struct Closing {
    /// Of the home and the account. `files` and `bytes` are filled in.
    pub metadata: Metadata,
    /// The login.
    pub account_auth: Option<AccountAuth>,
    /// What the user left out.
    pub excluded_globs: Vec<String>,
    /// See [`Manifest::skipped`].
    pub skipped: Vec<EntryName>,
    /// Top-level entries archived through a link.
    pub linked: Vec<EntryName>,
    /// See [`Manifest::partial`].
    pub partial: bool,
    /// See [`Manifest::undo_removes`].
    pub undo_removes: Vec<EntryName>,
}

/// What a finished archive is.
#[derive(Debug)]
pub struct Packed {
    /// Its size.
    pub archive_bytes: u64,
    /// Its digest.
    pub archive_sha256: String,
    /// How many bytes of it were copied from an earlier archive.
    pub reused_bytes: u64,
    /// What is in it.
    pub manifest: Manifest,
}

/// Writes an archive into the empty file `out`, which is complete on return, but not yet durable.
///
/// `fill` gives the entries; it runs on the calling thread while others compress and write. `path`
/// is for errors alone. `source` is an earlier archive whose members may be copied.
pub fn pack(
    mut out: File,
    path: &Path,
    compression: Compression,
    source: Option<&Source>,
    fill: impl FnOnce(&mut PackWriter<'_>) -> Result<Closing, ArchiveError>,
) -> Result<Packed, ArchiveError> {
    let mut sink = MemberSink::new(&mut out, path, source);
    let work = |job: Job| job.run(compression, source);
    let filled = {
        let sink = &mut sink;
        let take = |done: Result<Done, ArchiveError>| sink.take(done?);
        parallel::ordered(IN_FLIGHT, work, take, |jobs| {
            let mut writer = PackWriter::new(jobs, path, source);
            let closing = fill(&mut writer)?;
            writer.flush()?;
            Ok(writer.into_entries(closing))
        })?
    };
    let (mut entries, closing) = filled;
    for (index, digest) in sink.digests.drain(..) {
        entries.files[index].sha256 = Some(digest);
    }
    sink.finish(entries, closing, compression)
}

/// The lists of a manifest.
#[derive(Debug, Default)]
struct Entries {
    folders: Vec<FolderEntry>,
    links: Vec<LinkEntry>,
    files: Vec<FileEntry>,
    void: Vec<EntryName>,
    /// The members of what is void, by their place among all.
    void_members: Vec<std::ops::Range<usize>>,
}

/// A member that is to be made.
enum Job {
    /// From this part of the tar stream; with the places of whole files in it.
    Fresh {
        bytes: Vec<u8>,
        holds: Holds,
        files: Vec<(usize, std::ops::Range<usize>)>,
    },
    /// By copying one of the earlier archive.
    Reused { old: OldMember, holds: Holds },
}

/// A member that is made.
struct Done {
    /// Its bytes in the archive; those of a reused one are still in the earlier archive.
    bytes: Vec<u8>,
    size: u64,
    sha256: Sha256Digest,
    holds: Holds,
    digests: Vec<(usize, Sha256Digest)>,
    reused: Option<OldMember>,
}

impl Job {
    fn run(self, compression: Compression, source: Option<&Source>) -> Result<Done, ArchiveError> {
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
                let packed = compress(&bytes, compression);
                let sha256 = Sha256Digest::of(&packed);
                let size = bytes.len() as u64;
                Ok(Done {
                    bytes: packed,
                    size,
                    sha256,
                    holds,
                    digests,
                    reused: None,
                })
            }
            Self::Reused { old, holds } => {
                let bytes = match source {
                    Some(source) => source.read(&old)?,
                    None => Vec::new(),
                };
                Ok(Done {
                    bytes,
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

/// One gzip member of `bytes`.
fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    thread_local! {
        // Setting one up costs more than compressing a small member.
        static COMPRESSOR: RefCell<Option<(Compression, Compressor)>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(of, _)| *of != compression) {
            *slot = Some((compression, Compressor::new(compression.level())));
        }
        let mut packed = Vec::new();
        if let Some((_, compressor)) = slot {
            packed.resize(compressor.gzip_compress_bound(bytes.len()), 0);
            // The only error is a buffer below the bound.
            let n = compressor.gzip_compress(bytes, &mut packed).unwrap_or(0);
            packed.truncate(n);
        }
        packed
    })
}

/// Takes finished members in order.
struct MemberSink<'a> {
    out: &'a mut File,
    path: &'a Path,
    source: Option<&'a Source>,
    members: Vec<Member>,
    digests: Vec<(usize, Sha256Digest)>,
    hasher: Hasher,
    written: u64,
    reused_bytes: u64,
}

impl<'a> MemberSink<'a> {
    fn new(out: &'a mut File, path: &'a Path, source: Option<&'a Source>) -> Self {
        Self {
            out,
            path,
            source,
            members: Vec::new(),
            digests: Vec::new(),
            hasher: Hasher::default(),
            written: 0,
            reused_bytes: 0,
        }
    }

    fn take(&mut self, done: Done) -> Result<(), ArchiveError> {
        let len = done.bytes.len() as u64;
        self.members.push(Member {
            offset: self.written,
            len,
            size: done.size,
            sha256: done.sha256,
            holds: done.holds,
        });
        self.digests.extend(done.digests);
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
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes the manifest and the footer.
    fn finish(
        mut self,
        entries: Entries,
        closing: Closing,
        compression: Compression,
    ) -> Result<Packed, ArchiveError> {
        let offset = self.written;
        for member in entries.void_members.into_iter().flatten() {
            self.members[member].holds = Holds::Void;
        }
        let mut metadata = closing.metadata;
        metadata.files = entries.files.len() as u64;
        metadata.bytes = entries.files.iter().map(|f| f.size).sum();
        let manifest = Manifest {
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
            files: entries.files,
            members: std::mem::take(&mut self.members),
        };
        let path = self.path;
        self.put_manifest(&manifest, compression)
            .at("write", path)?;
        let len = self.written - offset;
        self.put(&footer::Footer { offset, len }.encode())
            .at("write", path)?;
        Ok(Packed {
            archive_bytes: self.written,
            archive_sha256: self.hasher.finish(),
            reused_bytes: self.reused_bytes,
            manifest,
        })
    }

    /// Twice through the manifest: once for its length, which the tar header needs, once for its
    /// bytes; so it is never in memory as text.
    fn put_manifest(&mut self, manifest: &Manifest, compression: Compression) -> io::Result<()> {
        let mut count = Count(0);
        serde_json::to_writer(&mut count, manifest)?;
        let mtime = manifest
            .metadata
            .created_at
            .timestamp_nanos_opt()
            .unwrap_or(0);
        let header = header(EntryType::Regular, count.0, 0o600, mtime);
        let mut stream = Cut {
            sink: self,
            compression,
            member: head_bytes(header, Path::new(MANIFEST_NAME))?,
        };
        serde_json::to_writer(&mut stream, manifest)?;
        // The padding of the entry, and the two empty blocks that end the tar.
        let padding = padding_of(count.0) + 2 * BLOCK_BYTES;
        io::copy(&mut io::repeat(0).take(padding), &mut stream)?;
        stream.close()
    }
}

/// Counts what is written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what is written to it into members.
struct Cut<'a, 'b> {
    sink: &'a mut MemberSink<'b>,
    compression: Compression,
    member: Vec<u8>,
}

impl Cut<'_, '_> {
    fn close(&mut self) -> io::Result<()> {
        let packed = compress(&self.member, self.compression);
        self.member.clear();
        self.sink.put(&packed)
    }
}

impl Write for Cut<'_, '_> {
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

/// Takes the entries of an archive, in the order in which they will stand in it.
pub struct PackWriter<'a> {
    jobs: &'a Submitter<Job, Result<Done, ArchiveError>>,
    path: &'a Path,
    source: Option<&'a Source>,
    entries: Entries,
    group: Group,
    submitted: usize,
}

/// Small entries that will share a member.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    kind: GroupKind,
    files: Vec<(usize, std::ops::Range<usize>)>,
    first: u64,
    count: u64,
}

#[derive(Default, PartialEq, Eq)]
enum GroupKind {
    #[default]
    Structure,
    FilesOf(PathBuf),
}

impl<'a> PackWriter<'a> {
    fn new(
        jobs: &'a Submitter<Job, Result<Done, ArchiveError>>,
        path: &'a Path,
        source: Option<&'a Source>,
    ) -> Self {
        Self {
            jobs,
            path,
            source,
            entries: Entries::default(),
            group: Group::default(),
            submitted: 0,
        }
    }

    /// Adds a folder. Folders come before links, links before files.
    pub fn add_folder(&mut self, folder: FolderEntry) -> Result<(), ArchiveError> {
        let header = header(EntryType::Directory, 0, folder.mode, folder.mtime);
        let bytes = head_bytes(header, &with_slash(&folder.path)).at("write", self.path)?;
        self.entries.folders.push(folder);
        self.add_structure(&bytes)
    }

    /// Adds a link.
    pub fn add_link(&mut self, link: LinkEntry) -> Result<(), ArchiveError> {
        let header = header(EntryType::Symlink, 0, 0o777, 0);
        let bytes = link_bytes(header, link.path.as_path(), &link.target).at("write", self.path)?;
        self.entries.links.push(link);
        self.add_structure(&bytes)
    }

    fn add_structure(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.group.bytes.extend_from_slice(bytes);
        self.group.count += 1;
        if self.group.bytes.len() >= GROUP_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Adds a file of `entry.size` bytes read from `content`. The digest is that of the bytes that
    /// were read.
    ///
    /// False when `content` ended early: then it is not in the archive, or what is there counts for
    /// nothing, and the manifest says so.
    pub fn add_file(
        &mut self,
        entry: FileEntry,
        content: &mut dyn Read,
    ) -> Result<bool, ArchiveError> {
        if entry.size >= LARGE_BYTES {
            self.add_large(entry, content)
        } else {
            self.add_small(entry, content)
        }
    }

    fn add_small(
        &mut self,
        entry: FileEntry,
        content: &mut dyn Read,
    ) -> Result<bool, ArchiveError> {
        self.enter_group(&entry.path)?;
        let before = self.group.bytes.len();
        let head = entry_head(&entry).at("write", self.path)?;
        self.group.bytes.extend_from_slice(&head);
        let start = self.group.bytes.len();
        content
            .take(entry.size)
            .read_to_end(&mut self.group.bytes)
            .at("read", entry.path.as_path())?;
        let end = self.group.bytes.len();
        if (end - start) as u64 != entry.size {
            self.group.bytes.truncate(before);
            return Ok(false);
        }
        let padding = usize::try_from(padding_of(entry.size)).unwrap_or(0);
        self.group.bytes.resize(end + padding, 0);
        self.group
            .files
            .push((self.entries.files.len(), start..end));
        self.group.count += 1;
        self.entries.files.push(entry);
        if self.group.bytes.len() >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    /// Makes the group be one of files of the folder of `name`.
    fn enter_group(&mut self, name: &EntryName) -> Result<(), ArchiveError> {
        let folder = name.as_path().parent().unwrap_or(Path::new(""));
        let same = matches!(&self.group.kind, GroupKind::FilesOf(of) if of == folder);
        if !same {
            self.flush()?;
            self.group.kind = GroupKind::FilesOf(folder.to_path_buf());
        }
        if self.group.count == 0 {
            self.group.first = self.entries.files.len() as u64;
        }
        Ok(())
    }

    fn add_large(
        &mut self,
        entry: FileEntry,
        content: &mut dyn Read,
    ) -> Result<bool, ArchiveError> {
        self.flush()?;
        let number = self.entries.files.len() as u64;
        let from = self.submitted;
        let old = self.source.and_then(|s| s.large(&entry.path));
        let head = entry_head(&entry).at("write", self.path)?;
        self.fresh(head, Holds::Head(number), Vec::new())?;
        let mut hasher = Hasher::default();
        let mut left = entry.size;
        let mut position = 0;
        let mut short = false;
        while left > 0 {
            let want = left.min(CHUNK_BYTES);
            let mut bytes = Vec::with_capacity(usize::try_from(want + BLOCK_BYTES).unwrap_or(0));
            if !short {
                content
                    .take(want)
                    .read_to_end(&mut bytes)
                    .at("read", entry.path.as_path())?;
            }
            if (bytes.len() as u64) < want {
                // The tar header has told a size: zeros stand in, and all of it is void.
                short = true;
            }
            hasher.update(&bytes);
            left -= want;
            let upto = hasher.digest();
            let padding = if left == 0 { padding_of(entry.size) } else { 0 };
            bytes.resize(usize::try_from(want + padding).unwrap_or(0), 0);
            let holds = Holds::Chunk(number, upto);
            // Only whole chunks are compared: the last one carries padding and may grow.
            let whole = want == CHUNK_BYTES && padding == 0;
            match old
                .as_ref()
                .and_then(|old| old.chunk(position))
                .filter(|_| whole && !short)
            {
                Some((member, of)) if of == upto => self.reused(member, holds)?,
                _ => self.fresh(bytes, holds, Vec::new())?,
            }
            position += 1;
        }
        if short {
            self.entries.void.push(entry.path);
            self.entries.void_members.push(from..self.submitted);
            return Ok(false);
        }
        self.entries.files.push(FileEntry {
            sha256: Some(hasher.digest()),
            ..entry
        });
        Ok(true)
    }

    /// How many files stand in one member of the earlier archive, from the first on, as they are
    /// now; `file` gives the one at a place. Zero if there is no such member.
    pub fn reusable(&self, file: impl Fn(usize) -> Option<FileEntry>) -> usize {
        self.source
            .and_then(|s| s.unchanged(file))
            .map_or(0, |reuse| reuse.digests.len())
    }

    /// Takes `files`, which [`PackWriter::reusable`] has counted, over from the earlier archive: their
    /// members are copied, and none of them is read.
    pub fn reuse(&mut self, files: impl Iterator<Item = FileEntry>) -> Result<(), ArchiveError> {
        let files: Vec<_> = files.collect();
        let Some(reuse) = self
            .source
            .and_then(|s| s.unchanged(|i| files.get(i).cloned()))
        else {
            return Ok(());
        };
        self.flush()?;
        let first = self.entries.files.len() as u64;
        for (file, sha256) in files.into_iter().zip(reuse.digests) {
            self.entries.files.push(FileEntry {
                sha256: Some(sha256),
                ..file
            });
        }
        for member in reuse.members {
            let holds = match member.holds {
                Holds::Files(_, n) => Holds::Files(first, n),
                Holds::Head(_) => Holds::Head(first),
                Holds::Chunk(_, upto) => Holds::Chunk(first, upto),
                other => other,
            };
            self.reused(member, holds)?;
        }
        Ok(())
    }

    fn fresh(
        &mut self,
        bytes: Vec<u8>,
        holds: Holds,
        files: Vec<(usize, std::ops::Range<usize>)>,
    ) -> Result<(), ArchiveError> {
        self.submit(Job::Fresh {
            bytes,
            holds,
            files,
        })
    }

    fn reused(&mut self, old: OldMember, holds: Holds) -> Result<(), ArchiveError> {
        self.submit(Job::Reused { old, holds })
    }

    fn submit(&mut self, job: Job) -> Result<(), ArchiveError> {
        self.submitted += 1;
        // The writing thread has failed; what it says is what the caller gets.
        self.jobs.submit(job).map_err(|Stopped| {
            ArchiveError::Io(IoError {
                action: "write",
                path: self.path.to_path_buf(),
                source: io::ErrorKind::BrokenPipe.into(),
            })
        })
    }

    /// Closes the member that small entries share.
    fn flush(&mut self) -> Result<(), ArchiveError> {
        let group = std::mem::take(&mut self.group);
        if group.count == 0 {
            self.group.kind = group.kind;
            self.group.first = group.first;
            return Ok(());
        }
        let holds = match group.kind {
            GroupKind::Structure => {
                self.group.first = group.first + group.count;
                Holds::Structure(group.first, group.count)
            }
            GroupKind::FilesOf(folder) => {
                self.group.kind = GroupKind::FilesOf(folder);
                Holds::Files(group.first, group.count)
            }
        };
        self.fresh(group.bytes, holds, group.files)
    }

    fn into_entries(self, closing: Closing) -> (Entries, Closing) {
        (self.entries, closing)
    }
}

impl std::fmt::Debug for PackWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter")
            .field("files", &self.entries.files.len())
            .finish_non_exhaustive()
    }
}
