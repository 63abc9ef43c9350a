//! The gzip members of a new archive: compressed on several threads, written in order, followed by
//! the manifest that lists them.

use super::error::ArchiveError;
use super::format::path_checks::check_manifest;
use super::format::{
    ArchiveManifest, Compression, FileList, Member, MemberContents, Metadata, gzip_member,
    manifest_members::write_manifest,
};
use super::reuse::PreviousArchive;
use crate::io::buffers::{AlignedBuffer, Buffer, BufferPool};
use crate::io::hash::{ContentDigest, ContentHasher};
use crate::io::{IoContext, position};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size, digest and manifest of a finished archive.
#[derive(Debug)]
pub struct FinishedArchive {
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
    pub archive_digest: ContentDigest,
    /// Number of bytes that were copied from the previous archive.
    pub reused_bytes: u64,
    /// The manifest that the archive ends with.
    pub manifest: ArchiveManifest,
}

impl FinishedArchive {
    /// Returns the content of the archive's sidecar.
    pub fn to_sidecar(&self) -> Metadata {
        let metadata = self.manifest.metadata.clone();
        metadata.into_sidecar(self.archive_bytes, &self.archive_digest)
    }
}

/// The files of a manifest. One thread adds files, another one sets their digests.
pub(super) type SharedFileList = Mutex<FileList>;

pub(super) fn lock_files(files: &SharedFileList) -> MutexGuard<'_, FileList> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A complete file in the tar stream of a member.
pub(super) struct FileInMember {
    /// The position of the file in the manifest.
    pub(super) index: usize,
    /// The range of the content in the tar stream of the member, before compression.
    pub(super) content_range: std::ops::Range<usize>,
}

/// The work that produces one member. [`MemberJob::run`] may run on any thread.
pub(super) enum MemberJob {
    /// Compresses `bytes`, a part of the tar stream, with the complete `files` in it.
    Compress {
        bytes: Buffer,
        contents: MemberContents,
        files: Vec<FileInMember>,
    },
    /// Copies a member of the previous archive.
    Copy(Member),
}

/// A member that is ready to be written.
pub(super) struct CompressedMember {
    bytes: AlignedBuffer,
    /// The entry of the index. Its offset is set when the member is written.
    member: Member,
    /// Digests of the complete files in the member, with the positions of the files in the manifest.
    digests: Vec<(usize, ContentDigest)>,
    is_reused: bool,
}

impl MemberJob {
    pub(super) fn run(
        self,
        path: &Path,
        compression: Compression,
        previous: Option<&PreviousArchive<'_>>,
        buffers: &BufferPool,
    ) -> Result<CompressedMember, ArchiveError> {
        match self {
            Self::Compress {
                bytes,
                contents,
                files,
            } => {
                let digests = files.into_iter().map(|file| {
                    let digest = ContentDigest::of(&bytes[file.content_range]);
                    (file.index, digest)
                });
                let digests = digests.collect();

                let packed =
                    gzip_member::compress(&bytes, compression, buffers).at("write", path)?;

                Ok(CompressedMember {
                    member: Member {
                        // Set when the member is written.
                        offset: 0,
                        len: packed.len() as u64,
                        size: bytes.len() as u64,
                        digest: ContentDigest::of(&packed),
                        holds: contents,
                    },
                    bytes: packed,
                    digests,
                    is_reused: false,
                })
            }

            Self::Copy(member) => {
                let Some(previous) = previous else {
                    unreachable!("only a previous archive has members to copy");
                };
                Ok(CompressedMember {
                    bytes: previous.read_member(&member, buffers)?,
                    member,
                    digests: Vec::new(),
                    is_reused: true,
                })
            }
        }
    }
}

/// Writes members in order and collects the index.
pub(super) struct MemberSink<'a> {
    out: &'a mut File,
    path: &'a Path,
    members: Vec<Member>,
    files: &'a SharedFileList,
    hasher: ContentHasher,
    written_bytes: u64,
    reused_bytes: u64,
}

impl<'a> MemberSink<'a> {
    pub(super) fn new(out: &'a mut File, path: &'a Path, files: &'a SharedFileList) -> Self {
        Self {
            out,
            path,
            members: Vec::new(),
            files,
            hasher: ContentHasher::default(),
            written_bytes: 0,
            reused_bytes: 0,
        }
    }

    pub(super) fn write_member(&mut self, packed: CompressedMember) -> Result<(), ArchiveError> {
        if packed.is_reused {
            self.reused_bytes += packed.member.len;
        }

        self.members.push(Member {
            offset: self.written_bytes,
            ..packed.member
        });

        let mut files = lock_files(self.files);
        for (index, digest) in packed.digests {
            files.set_digest(index, digest);
        }
        // Unlocked before the slow write, because the thread that adds files needs the lock.
        drop(files);

        Ok(self.append(&packed.bytes).at("write", self.path)?)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        // Begins to write now, so that the fsync at the end has little left to do.
        position::begin_writeback(self.out, self.written_bytes, bytes.len() as u64);
        self.hasher.update(bytes);
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes the manifest and the footer. Before that, sets the files, the members, the effort, and the counts in the
    /// metadata of `manifest`. `void_members` are the positions of the members that hold void entries.
    ///
    /// # Errors
    /// Returns the reason why readers would refuse the manifest, or a write error.
    pub(super) fn finish(
        mut self,
        mut manifest: ArchiveManifest,
        void_members: Vec<std::ops::Range<usize>>,
        compression: Compression,
    ) -> Result<FinishedArchive, ArchiveError> {
        // Void members were submitted as parts of a file, before its early end was known.
        for member in void_members.into_iter().flatten() {
            self.members[member].holds = MemberContents::Void;
        }

        manifest.effort = compression.effort();
        manifest.set_files(std::mem::take(&mut *lock_files(self.files)));
        manifest.members = std::mem::take(&mut self.members);

        let path = self.path;
        // Checks the manifest as a reader does: an archive that cannot be restored must not be published as a good one.
        check_manifest(&manifest).map_err(|e| e.into_archive_error(path))?;

        let offset = self.written_bytes;
        let append = &mut |bytes: &[u8]| self.append(bytes);
        write_manifest(path, &manifest, compression, offset, append)?;

        Ok(FinishedArchive {
            archive_bytes: self.written_bytes,
            archive_digest: self.hasher.digest(),
            reused_bytes: self.reused_bytes,
            manifest,
        })
    }
}
