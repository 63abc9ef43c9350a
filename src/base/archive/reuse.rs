//! Finds the members of a home's previous archive that can be copied unchanged into the next archive.

use super::duplicates::parse_rollout_name;
use super::error::ArchiveError;
use super::format::{
    ArchiveManifest, Compression, EntryName, FileEntry, FileList, Member, MemberContents, NameSet,
    NameTable,
};
use super::reader::ArchiveReader;
use crate::codex::text_damage::is_judged;
use crate::io::buffers::{AlignedBuffer, BufferPool};
use crate::io::hash::{ContentDigest, DigestBytes};
use crate::io::{file_open, position};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The share of the copied members that are compared with their digests before they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum VerifyReused {
    /// Check every member first
    All,
    /// Check one eighth of the data, a different eighth each day
    #[default]
    Sample,
    /// Copy the data without checking it
    None,
}

/// [`VerifyReused::Sample`] checks one of this many members.
const SAMPLE_INTERVAL: u64 = 8;

/// Unchanged files that need not be read: their digests, and the members that hold them.
#[derive(Debug)]
pub(super) struct ReusableFiles {
    pub(super) digests: Vec<ContentDigest>,
    pub(super) members: Vec<Member>,
}

/// A file and the member in which it begins, as positions in the lists of the manifest.
#[derive(Debug)]
struct FileLocation {
    file_index: usize,
    member_index: usize,
}

/// Rules for copying from the previous archive.
#[derive(Debug, Clone, Copy)]
pub struct ReuseOptions {
    /// The share of members that is checked before it is copied.
    pub verify: VerifyReused,
    /// True to read every file again and to copy only members with equal content.
    pub rehash: bool,
    /// Minimum compression level of the previous archive.
    pub compression: Compression,
}

/// The previous archive of the same home, opened to copy members from.
#[derive(Debug)]
pub struct PreviousArchive<'a> {
    path: &'a Path,
    manifest: &'a ArchiveManifest,
    file: File,
    /// The first file of each member in which files begin, in order.
    starts: Vec<FileLocation>,
    /// Creation day of the previous archive, in days since 1970. Decides which members a sample checks.
    day: u64,
    /// Files of the home whose content was compared with the archive and is equal. They stay equal as long as their
    /// size, mode and time stay the same.
    equal_files: NameSet,
    options: ReuseOptions,
}

impl<'a> PreviousArchive<'a> {
    /// Opens `archive` to copy members from it. Returns `None` if the archive has no index, is compressed less than
    /// `options` asks for, or cannot be opened: the backup then reads every file. `equal_files` are the files of the
    /// home whose content was compared with the archive and is equal.
    pub fn open(
        archive: &'a ArchiveReader,
        options: ReuseOptions,
        equal_files: NameSet,
    ) -> Option<Self> {
        let manifest = archive.indexed_manifest()?;
        if manifest.members.is_empty() || manifest.effort < options.compression.effort() {
            return None;
        }

        let mut starts = Vec::new();
        for (member_index, member) in manifest.members.iter().enumerate() {
            if let MemberContents::Files(first, _) | MemberContents::Head(first) = member.holds {
                starts.push(FileLocation {
                    file_index: usize::try_from(first).ok()?,
                    member_index,
                });
            }
        }

        // The day of the previous archive, so that repeated backups of one day check the same
        // sample, and a week of them checks almost all.
        let created_at = manifest.metadata.created_at.timestamp();
        let file = file_open::open(archive.path()).ok()?;

        Some(Self {
            path: archive.path(),
            manifest,
            file,
            starts,
            day: created_at.div_euclid(86_400).unsigned_abs(),
            equal_files,
            options,
        })
    }

    pub(super) fn name_table(&self) -> &Arc<NameTable> {
        self.manifest.files.name_table()
    }

    pub(super) fn manifest(&self) -> &ArchiveManifest {
        self.manifest
    }

    pub fn path(&self) -> &Path {
        self.path
    }

    /// Returns the members that hold the first files of `files`, the list of the home. Returns `None` if the first
    /// file has to be read, because no member of the previous archive can replace it, or because
    /// [`ReuseOptions::rehash`] is set.
    pub(super) fn find_reusable_files(&self, files: &FileList) -> Option<ReusableFiles> {
        if self.options.rehash {
            return None;
        }

        let first_live = files.get(0)?;
        let location = self.locate_file(&first_live.path)?;
        let member = self.manifest.members.get(location.member_index)?;

        match member.holds {
            // A member is copied as a whole, so it cannot be used if it begins with an earlier file.
            MemberContents::Files(first, count) if first == location.file_index as u64 => {
                let count = usize::try_from(count).ok()?;
                let file_indices = location.file_index..location.file_index + count;
                self.reuse_small_files(member, file_indices, files)
            }
            MemberContents::Head(_) => self.reuse_large_file(&location, &first_live),
            _ => None,
        }
    }

    /// Returns the files of `member`, which are at `file_indices` in the manifest, if the first of `live_files` are the
    /// same files, and unchanged.
    fn reuse_small_files(
        &self,
        member: &Member,
        file_indices: Range<usize>,
        live_files: &FileList,
    ) -> Option<ReusableFiles> {
        let mut digests = Vec::with_capacity(file_indices.len());
        for (live_index, archived) in self.manifest.files.range(file_indices).enumerate() {
            digests.push(archived.digest?);
            let live = live_files.get(live_index)?;
            if !self.is_unchanged(&archived, &live) {
                return None;
            }
        }
        let members = vec![member.clone()];
        Some(ReusableFiles { digests, members })
    }

    fn reuse_large_file(&self, location: &FileLocation, live: &FileEntry) -> Option<ReusableFiles> {
        let archived = self.manifest.files.get(location.file_index)?;
        if !self.is_unchanged(&archived, live) {
            return None;
        }

        // The chunks of a large file directly follow its header.
        let header_index = location.member_index;
        let mut members = vec![self.manifest.members.get(header_index)?.clone()];
        members.extend((0..).map_while(|chunk| Some(self.find_chunk(header_index, chunk)?.0)));
        let digests = vec![archived.digest?];
        Some(ReusableFiles { digests, members })
    }

    /// Returns true if the files `archived` and `live` have the same tar header, and the inode stamp or
    /// an earlier comparison of the content proves that the content is the same. A text of the user in an archive that
    /// does not record damage is read once, and so is a rollout in an archive that does not count those that can be read.
    fn is_unchanged(&self, archived: &FileEntry, live: &FileEntry) -> bool {
        let has_equal_header = (&archived.path, archived.size, archived.mode, archived.mtime)
            == (&live.path, live.size, live.mode, live.mtime);
        let has_equal_stamp = archived.stamp == live.stamp && live.stamp.ctime != 0;
        let path = live.path.as_path();
        has_equal_header
            && (has_equal_stamp || self.equal_files.contains(path))
            && (self.manifest.damaged.is_some() || !is_judged(path))
            && (self.manifest.metadata.conversations.is_some()
                || parse_rollout_name(path).is_none())
    }

    /// Returns the index of the member with the header of the large file `name`; `None` if the archive has no such
    /// large file.
    pub(super) fn find_header_member(&self, name: &EntryName) -> Option<usize> {
        let member_index = self.locate_file(name)?.member_index;
        let holds = self.manifest.members.get(member_index)?.holds;
        matches!(holds, MemberContents::Head(_)).then_some(member_index)
    }

    /// Returns the chunk at `position`, counted from 0, of the large file whose header is the member at
    /// `header_index`. Also returns the digest of the file's content up to the end of this chunk.
    pub(super) fn find_chunk(
        &self,
        header_index: usize,
        position: usize,
    ) -> Option<(Member, DigestBytes)> {
        let members = &self.manifest.members;
        let chunk = members.get(header_index + 1 + position)?;
        match (members.get(header_index)?.holds, chunk.holds) {
            (MemberContents::Head(file), MemberContents::Chunk(owner, digest)) if owner == file => {
                Some((chunk.clone(), digest))
            }
            _ => None,
        }
    }

    fn locate_file(&self, name: &EntryName) -> Option<FileLocation> {
        let file_index = self.manifest.files.find_position(name.as_path())?;
        let is_at_or_before = |start: &FileLocation| start.file_index <= file_index;
        // The file is in the last member that starts at or before it.
        let start_count = self.starts.partition_point(is_at_or_before);
        let start = self.starts.get(start_count.checked_sub(1)?)?;
        Some(FileLocation {
            file_index,
            member_index: start.member_index,
        })
    }

    /// Returns true if the bytes of this member have to match its digest before they are copied.
    fn must_be_verified(&self, member: &Member) -> bool {
        match self.options.verify {
            VerifyReused::All => true,
            VerifyReused::Sample => {
                // The day shifts the sample, so the archives of successive days check different members.
                let members = &self.manifest.members;
                let index = members.partition_point(|other| other.offset < member.offset);
                (index as u64 + self.day).is_multiple_of(SAMPLE_INTERVAL)
            }
            VerifyReused::None => false,
        }
    }

    /// Reads the bytes of a member. Compares them with the digest if [`ReuseOptions::verify`] selects the member.
    ///
    /// # Errors
    /// Reports read errors and wrong digests as damage of the previous archive.
    pub(super) fn read_member(
        &self,
        member: &Member,
        buffers: &BufferPool,
    ) -> Result<AlignedBuffer, ArchiveError> {
        let len = usize::try_from(member.len)
            .map_err(|_| ArchiveError::damaged(self.path(), "an oversized member"))?;
        let mut bytes = buffers.take_aligned(len);

        // An unreadable previous archive counts as damaged: the home is still complete, so the
        // backup goes on without copying.
        position::read_exact_at(&self.file, &mut bytes, member.offset)
            .map_err(|e| ArchiveError::damaged(self.path(), e.to_string()))?;

        if self.must_be_verified(member) && !member.digest.is_of(&bytes) {
            let detail = "a member does not match its digest";
            return Err(ArchiveError::damaged(self.path(), detail));
        }

        Ok(bytes)
    }
}
