//! Members of an earlier archive that can be copied into the next one as they are.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::format::Compression;
use super::manifest::{ArchiveManifest, FileEntry, Member, MemberContents};
use super::name_table::NameTable;
use super::reader::ArchiveReader;
use crate::io::buffers::{AlignedBuffer, BufferPool};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::position;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// How much of what is copied is checked against its digest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum VerifyReused {
    /// Every member
    All,
    /// Every eighth member, others on another day
    #[default]
    Sample,
    /// None
    None,
}

/// Of how many members one is checked when a sample is.
const SAMPLE_INTERVAL: u64 = 8;

/// A member of the earlier archive.
#[derive(Debug, Clone)]
pub struct PreviousMember {
    offset: u64,
    len: u64,
    pub(super) size: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) holds: MemberContents,
    checked: bool,
}

/// Files that need not be read again.
#[derive(Debug)]
pub(super) struct ReusableFiles {
    pub(super) digests: Vec<Sha256Digest>,
    pub(super) members: Vec<PreviousMember>,
}

/// What of an earlier archive may be used.
#[derive(Debug, Clone, Copy)]
pub struct ReuseOptions {
    /// How much is checked before it is copied.
    pub verify: VerifyReused,
    /// Whether every file is read again, and only content counts as unchanged.
    pub rehash: bool,
    /// How hard it must have been compressed at least.
    pub compression: Compression,
}

/// An earlier archive of the same home.
#[derive(Debug)]
pub struct PreviousArchive<'a> {
    archive: ReaderRef<'a>,
    file: File,
    /// By the number of a name: the place of its file and one, or zero.
    places: Vec<u32>,
    /// The members that files begin in, and the place of the first file of each. Ordered.
    starts: Vec<(u64, u32)>,
    /// When it was made, in days: which members a sample takes.
    day: u64,
    options: ReuseOptions,
}

#[derive(Debug)]
enum ReaderRef<'a> {
    Owned(Box<ArchiveReader>),
    Borrowed(&'a ArchiveReader),
}

impl<'a> PreviousArchive<'a> {
    /// Opens an archive to copy from; `None` if it has no index or cannot be read: then nothing is
    /// copied, and nothing is lost but time.
    pub fn open(path: &Path, options: ReuseOptions) -> Option<Self> {
        Self::held(
            ReaderRef::Owned(Box::new(ArchiveReader::open(path).ok()?)),
            options,
        )
    }

    /// An archive that is open already.
    pub fn of(archive: &'a ArchiveReader, options: ReuseOptions) -> Option<Self> {
        Self::held(ReaderRef::Borrowed(archive), options)
    }

    fn held(archive: ReaderRef<'a>, options: ReuseOptions) -> Option<Self> {
        let manifest = archive.archive().indexed()?;
        if manifest.members.is_empty() || manifest.effort < options.compression.effort() {
            return None;
        }
        let mut starts = Vec::new();
        for (number, member) in manifest.members.iter().enumerate() {
            if let MemberContents::Files(first, _) | MemberContents::Head(first) = member.holds {
                starts.push((first, u32::try_from(number).ok()?));
            }
        }
        let mut places = Vec::with_capacity(manifest.files.len());
        for (id, place) in manifest.files.name_ids().zip(1..) {
            if places.len() <= id.index() {
                places.resize(id.index() + 1, 0);
            }
            places[id.index()] = place;
        }
        let made = manifest.metadata.created_at.timestamp();
        let file = file_open::open(archive.archive().path()).ok()?;
        Some(Self {
            file,
            places,
            starts,
            day: made.div_euclid(86_400).unsigned_abs(),
            options,
            archive,
        })
    }

    /// Where its names are kept.
    pub(super) fn names(&self) -> Option<&Arc<NameTable>> {
        self.manifest().map(|manifest| manifest.files.names())
    }

    fn manifest(&self) -> Option<&ArchiveManifest> {
        self.archive.archive().indexed()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.archive.archive().path()
    }

    /// The members that hold the first file, and as many after it as they hold, if all of these are
    /// as they were; `file` gives the one at a place.
    pub(super) fn reusable_files(
        &self,
        file: impl Fn(usize) -> Option<FileEntry>,
    ) -> Option<ReusableFiles> {
        if self.options.rehash {
            return None;
        }
        let first_now = file(0)?;
        let manifest = self.manifest()?;
        let (place, number) = self.place(&first_now.path)?;
        match manifest.members.get(number)?.holds {
            MemberContents::Files(first, count) if first == place as u64 => {
                let count = usize::try_from(count).ok()?;
                let mut digests = Vec::with_capacity(count);
                for (i, old) in manifest.files.range(place..place + count).enumerate() {
                    digests.push(old.sha256?);
                    file(i).filter(|now| is_reusable_files(&old, now))?;
                }
                Some(ReusableFiles {
                    digests,
                    members: vec![self.old(number)?],
                })
            }
            MemberContents::Head(head) => {
                let old = manifest.files.get(place)?;
                if !is_reusable_files(&old, &first_now) {
                    return None;
                }
                let mut members = vec![self.old(number)?];
                let chunks = manifest.members.iter().enumerate().skip(number + 1);
                let of_it = chunks
                    .take_while(
                        |(_, m)| matches!(m.holds, MemberContents::Chunk(of, _) if of == head),
                    )
                    .filter_map(|(number, _)| self.old(number));
                members.extend(of_it);
                Some(ReusableFiles {
                    digests: vec![old.sha256?],
                    members,
                })
            }
            _ => None,
        }
    }

    /// The chunks of a large file.
    pub(super) fn large_file(&self, name: &EntryName) -> Option<PreviousLargeFile<'_>> {
        let (place, number) = self.place(name)?;
        let manifest = self.manifest()?;
        matches!(manifest.members.get(number)?.holds, MemberContents::Head(_)).then_some(
            PreviousLargeFile {
                source: self,
                members: &manifest.members,
                place: place as u64,
                head: number,
            },
        )
    }

    /// The place of a file, and the number of the member that it begins in.
    fn place(&self, name: &EntryName) -> Option<(usize, usize)> {
        let id = self.names()?.find(name.as_path())?;
        let place = self.places.get(id.index())?.checked_sub(1)?;
        let after = self.starts.partition_point(|s| s.0 <= u64::from(place));
        let (_, member) = self.starts.get(after.checked_sub(1)?)?;
        Some((place as usize, *member as usize))
    }

    fn old(&self, number: usize) -> Option<PreviousMember> {
        let member = self.manifest()?.members.get(number)?;
        let checked = match self.options.verify {
            VerifyReused::All => true,
            VerifyReused::Sample => (number as u64 + self.day).is_multiple_of(SAMPLE_INTERVAL),
            VerifyReused::None => false,
        };
        Some(PreviousMember {
            offset: member.offset,
            len: member.len,
            size: member.size,
            sha256: member.sha256,
            holds: member.holds,
            checked,
        })
    }

    /// Reads the bytes of a member, checked if its turn has come.
    pub(super) fn read(
        &self,
        old: &PreviousMember,
        buffers: &BufferPool,
    ) -> Result<AlignedBuffer, ArchiveError> {
        let len = usize::try_from(old.len)
            .map_err(|_| ArchiveError::damaged(self.path(), "an oversized member"))?;
        let mut bytes = buffers.aligned(len);
        // A disk that cannot read it any more is damage, too: the home is still there.
        position::read_exact_at(&self.file, &mut bytes, old.offset)
            .map_err(|e| ArchiveError::damaged(self.path(), e.to_string()))?;
        if old.checked && Sha256Digest::of(&bytes) != old.sha256 {
            return Err(ArchiveError::damaged(
                self.path(),
                "a member does not fit its digest",
            ));
        }
        Ok(bytes)
    }

    /// Appends a member to `out`; the system copies it itself where it can.
    pub(super) fn copy_to(
        &self,
        old: &PreviousMember,
        bytes: &[u8],
        out: &mut File,
    ) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let mut offset = old.offset;
            let mut left = bytes.len();
            while left > 0 {
                match rustix::fs::copy_file_range(&self.file, Some(&mut offset), &*out, None, left)
                {
                    Ok(0) => break,
                    Ok(n) => left -= n,
                    // Not between these file systems, or nothing was copied yet: write it.
                    Err(_) if left == bytes.len() => break,
                    Err(e) => return Err(e.into()),
                }
            }
            out.write_all(&bytes[bytes.len() - left..])
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = old;
            out.write_all(bytes)
        }
    }
}

impl ReaderRef<'_> {
    fn archive(&self) -> &ArchiveReader {
        match self {
            Self::Owned(archive) => archive,
            Self::Borrowed(archive) => archive,
        }
    }
}

/// A large file in the earlier archive.
#[derive(Debug)]
pub(super) struct PreviousLargeFile<'a> {
    source: &'a PreviousArchive<'a>,
    members: &'a [Member],
    place: u64,
    /// The number of the member that holds its header.
    head: usize,
}

impl PreviousLargeFile<'_> {
    /// The chunk at `position`, with the digest of the file's content up to its end.
    pub(super) fn chunk(&self, position: usize) -> Option<(PreviousMember, Sha256Digest)> {
        let number = self.head + 1 + position;
        match self.members.get(number)?.holds {
            MemberContents::Chunk(of, upto) if of == self.place => {
                Some((self.source.old(number)?, upto))
            }
            _ => None,
        }
    }
}

/// Whether a file is surely as it was. The tar header holds its mode and time, so those count too.
fn is_reusable_files(old: &FileEntry, now: &FileEntry) -> bool {
    let same = (&old.path, old.size, old.mode, old.mtime, old.stamp)
        == (&now.path, now.size, now.mode, now.mtime, now.stamp);
    same && now.stamp.ctime != 0
}
