//! Writes an archive: a tar stream cut into gzip members that several threads compress, then the
//! manifest with the index of the members, then the footer.
//!
//! Members begin where files begin, so that each can be unpacked, or copied into the next archive,
//! without the others. See `docs/archive-format.md`.

use super::duplicates;
use super::error::ArchiveError;
use super::format::sizes::{
    BLOCK_BYTES, CHUNK_BYTES, GROUP_BYTES, LARGE_BYTES, MAX_MEMBERS_IN_FLIGHT, chunk_sizes,
    padding_bytes,
};
use super::format::tar_header::{encode_file_header, encode_folder_header, encode_link_header};
use super::format::{
    ArchiveManifest, Compression, EntryName, FileEntry, FileList, FolderEntry, LinkEntry,
    MemberContents, NameSet, NameTable,
};
pub use super::member_writer::FinishedArchive;
use super::member_writer::{
    CompressedMember, FileInMember, MemberJob, MemberSink, SharedFileList, lock_files,
};
use super::path_note::PathNote;
use super::reuse::PreviousArchive;
use crate::io::buffers::{Buffer, BufferPool};
use crate::io::hash::ContentHasher;
use crate::io::parallel::{self, ConsumerFailed, Submitter};
use crate::io::progress::check_interrupt;
use crate::io::{IoContext, IoError};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Writes an archive into the empty file `out`. On return the archive is complete, but not durable.
///
/// `fill` adds the entries and returns the manifest without files and members. It runs on the calling thread while
/// other threads compress and write. `path` is the path of `out` for error messages. Members may be copied from
/// `previous`, an older archive of the home. `names` stores the names of the manifest.
///
/// # Errors
/// Returns the error of `fill`, or the error of compressing, copying or writing a member.
pub fn pack<E: From<ArchiveError> + Send>(
    mut out: File,
    path: &Path,
    compression: Compression,
    previous: Option<&PreviousArchive<'_>>,
    names: &Arc<NameTable>,
    fill: impl FnOnce(&mut PackWriter<'_>) -> Result<ArchiveManifest, E>,
) -> Result<FinishedArchive, E> {
    let files = Mutex::new(FileList::with_name_table(names));
    let mut sink = MemberSink::new(&mut out, path, &files);
    let buffers = BufferPool::default();
    let compress = |job: MemberJob| job.run(path, compression, previous, &buffers);

    let (manifest, void_members) = {
        // Borrowed for this block only, because `finish` consumes the sink.
        let sink = &mut sink;
        let write = |r: Result<CompressedMember, ArchiveError>| Ok(sink.write_member(r?)?);
        parallel::run_ordered(MAX_MEMBERS_IN_FLIGHT, compress, write, |jobs| {
            let mut writer = PackWriter {
                jobs,
                path,
                previous,
                files: &files,
                buffers: &buffers,
                void_names: Vec::new(),
                void_members: Vec::new(),
                group: EntryGroup {
                    bytes: buffers.take_empty(),
                    folder: None,
                    files: Vec::new(),
                    first_index: 0,
                    count: 0,
                },
                submitted_count: 0,
            };

            let mut manifest = fill(&mut writer)?;
            // The last group is seldom full, so nothing has submitted it.
            writer.submit_group()?;
            manifest.void = writer.void_names;
            Ok::<_, E>((manifest, writer.void_members))
        })?
    };

    Ok(sink.finish(manifest, void_members, compression)?)
}

/// Receives the entries of a new archive in their final order.
pub struct PackWriter<'a> {
    jobs: &'a Jobs<'a>,
    path: &'a Path,
    previous: Option<&'a PreviousArchive<'a>>,
    files: &'a SharedFileList,
    buffers: &'a BufferPool,
    /// Large files that became shorter while they were read.
    void_names: Vec<EntryName>,
    /// Positions of the members that hold void entries.
    void_members: Vec<std::ops::Range<usize>>,
    group: EntryGroup,
    /// The number of members submitted so far.
    submitted_count: usize,
}

type Jobs<'a> = Submitter<'a, MemberJob>;

/// Folders and links, or small files of one folder, that share a gzip member.
struct EntryGroup {
    bytes: Buffer,
    /// The folder of the files, relative to the home. `None` for a group of folders and links.
    folder: Option<PathBuf>,
    files: Vec<FileInMember>,
    /// The position of the first entry of the group in the manifest.
    first_index: u64,
    count: u64,
}

impl PackWriter<'_> {
    /// Adds all folders and symbolic links of the manifest. Has to be called once, before the first file is added.
    pub fn add_folders_and_links(
        &mut self,
        folders: &[FolderEntry],
        links: &[LinkEntry],
    ) -> Result<(), ArchiveError> {
        for folder in folders {
            self.add_header_to_group(&encode_folder_header(folder).at("write", self.path)?)?;
        }
        for link in links {
            self.add_header_to_group(&encode_link_header(link).at("write", self.path)?)?;
        }
        Ok(())
    }

    fn add_header_to_group(&mut self, header: &[u8]) -> Result<(), ArchiveError> {
        self.group.bytes.extend_from_slice(header);
        self.group.count += 1;
        if self.group.bytes.len() >= GROUP_BYTES {
            self.submit_group()
        } else {
            Ok(())
        }
    }

    /// Adds a file of `entry.size` bytes from `content`. The digest is computed from the bytes that
    /// were read.
    ///
    /// Returns the read error as the inner error, [`io::ErrorKind::UnexpectedEof`] if `content` ended early. A small
    /// file is not in the archive then; a large one is listed as void in the manifest.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn add_file(
        &mut self,
        entry: FileEntry,
        content: &mut dyn Read,
    ) -> Result<io::Result<()>, ArchiveError> {
        if entry.size >= LARGE_BYTES {
            self.add_large_file(entry, content)
        } else {
            self.add_small_file(&entry, content)
        }
    }

    fn add_small_file(
        &mut self,
        entry: &FileEntry,
        content: &mut dyn Read,
    ) -> Result<io::Result<()>, ArchiveError> {
        self.switch_group_to_folder_of(&entry.path)?;

        let len_before = self.group.bytes.len();
        let header = self.encode_file_header(entry)?;
        self.group.bytes.extend_from_slice(&header);

        let start = self.group.bytes.len();
        if let Err(e) = append_exactly(&mut self.group.bytes, content, entry.size) {
            // The group was not submitted yet, so the file leaves no trace.
            self.group.bytes.truncate(len_before);
            return Ok(Err(e));
        }
        let end = self.group.bytes.len();

        let padding = usize::try_from(padding_bytes(entry.size)).unwrap_or(0);
        self.group.bytes.resize(end + padding, 0);

        let mut files = lock_files(self.files);
        self.group.files.push(FileInMember {
            index: files.len(),
            content_range: start..end,
        });
        self.group.count += 1;
        files.push(entry);
        drop(files);

        if self.group.bytes.len() >= GROUP_BYTES {
            self.submit_group()?;
        }
        Ok(Ok(()))
    }

    /// Starts a group for files of the folder of `name`, unless it is the current group.
    fn switch_group_to_folder_of(&mut self, name: &EntryName) -> Result<(), ArchiveError> {
        let folder = name.as_path().parent().unwrap_or(Path::new(""));
        // Files of one folder are alike, so they compress well together. A change in one folder does not change the
        // members of other folders, so the next archive can copy these members.
        if self.group.folder.as_deref() != Some(folder) {
            self.submit_group()?;
            self.group.folder = Some(folder.to_path_buf());
        }

        // Large or copied files may have been added since the last group.
        if self.group.count == 0 {
            self.group.first_index = self.file_count();
        }
        Ok(())
    }

    fn add_large_file(
        &mut self,
        entry: FileEntry,
        content: &mut dyn Read,
    ) -> Result<io::Result<()>, ArchiveError> {
        self.submit_group()?;
        let file_index = self.file_count();
        let first_member = self.submitted_count;

        let previous_header = self
            .previous
            .and_then(|previous| Some((previous, previous.find_header_member(&entry.path)?)));

        let mut header = self.buffers.take_empty();
        header.extend_from_slice(&self.encode_file_header(&entry)?);
        self.submit_large_file_part(header, MemberContents::Head(file_index))?;

        let mut hasher = ContentHasher::default();
        let mut read_result = Ok(());
        for (chunk_index, len) in chunk_sizes(entry.size).enumerate() {
            // After a read error, the rest of the file is written as zeros, which may take long.
            check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
            let mut bytes = self.buffers.take_empty();
            // With room for the padding: a vector that grows by doubling would take twice the
            // memory.
            bytes.reserve_exact(usize::try_from(len + BLOCK_BYTES).unwrap_or(0));

            if read_result.is_ok() {
                read_result = append_exactly(&mut bytes, content, len);
            }

            hasher.update(&bytes);
            let digest_so_far = hasher.digest().bytes();
            let contents = MemberContents::Chunk(file_index, digest_so_far);

            // Only complete chunks are compared: the last one has padding and may grow.
            let is_complete = len == CHUNK_BYTES && read_result.is_ok();
            if is_complete
                && let Some((previous, header_index)) = previous_header
                && let Some((mut member, digest)) = previous.find_chunk(header_index, chunk_index)
                && digest == digest_so_far
            {
                member.holds = contents;
                self.submit(MemberJob::Copy(member))?;
                continue;
            }

            // If the file ended early, its tar header already has the old size. Zeros fill the rest and
            // the entry becomes void.
            let padded = len + padding_bytes(len);
            bytes.resize(usize::try_from(padded).unwrap_or(0), 0);
            self.submit_large_file_part(bytes, contents)?;
        }

        if read_result.is_err() {
            self.void_names.push(entry.path);
            self.void_members.push(first_member..self.submitted_count);
        } else {
            lock_files(self.files).push(&FileEntry {
                digest: Some(hasher.digest()),
                ..entry
            });
        }
        Ok(read_result)
    }

    fn encode_file_header(&self, entry: &FileEntry) -> Result<Vec<u8>, IoError> {
        encode_file_header(entry.path.as_path(), entry.size, entry.mode, entry.mtime)
            .at("write", self.path)
    }

    /// Returns the damage of a text that [`Self::add_unchanged_files`] copied, as the previous archive records it.
    pub(super) fn find_known_damage(&self, name: &EntryName) -> Option<PathNote> {
        let manifest = self.previous?.manifest();
        let mut texts = manifest.damaged.iter().flatten();
        let (_, reason) = texts.find(|(text, _)| text == name)?;
        Some(PathNote::new(name.as_path(), reason))
    }

    fn file_count(&self) -> u64 {
        lock_files(self.files).len() as u64
    }

    /// Returns true if the archive has a file of this name. Searches the whole list.
    pub(crate) fn contains(&self, name: &EntryName) -> bool {
        let files = lock_files(self.files);
        let name_id = files.name_table().find(name.as_path());
        name_id.is_some_and(|id| files.name_ids().any(|file_id| file_id == id))
    }

    /// Returns the number of conversations in the archive so far; see [`duplicates::count_conversations`].
    pub(super) fn count_conversations(
        &self,
        unreadable: &NameSet,
        child_ids: &HashSet<String>,
    ) -> u64 {
        duplicates::count_conversations(&lock_files(self.files), unreadable, child_ids)
    }

    /// Adds the first of `files` without reading them, if they are unchanged, by copying the members of the previous
    /// archive that hold them. Returns the number of added files. Zero means that the first file has to be read.
    pub(super) fn add_unchanged_files(&mut self, files: &FileList) -> Result<usize, ArchiveError> {
        let previous = self.previous;
        let Some(reusable) = previous.and_then(|archive| archive.find_reusable_files(files)) else {
            return Ok(0);
        };

        let file_count = reusable.digests.len();
        self.submit_group()?;
        let first_index = self.file_count();
        for (file, digest) in files.iter().zip(reusable.digests) {
            lock_files(self.files).push(&FileEntry {
                digest: Some(digest),
                ..file
            });
        }

        // The copied members hold the same files, but at other positions in the new manifest.
        for mut member in reusable.members {
            member.holds = match member.holds {
                MemberContents::Files(_, count) => MemberContents::Files(first_index, count),
                MemberContents::Head(_) => MemberContents::Head(first_index),
                MemberContents::Chunk(_, digest) => MemberContents::Chunk(first_index, digest),
                other => other,
            };
            self.submit(MemberJob::Copy(member))?;
        }
        Ok(file_count)
    }

    /// Submits the header or a chunk of a large file.
    fn submit_large_file_part(
        &mut self,
        bytes: Buffer,
        contents: MemberContents,
    ) -> Result<(), ArchiveError> {
        self.submit(MemberJob::Compress {
            bytes,
            contents,
            // `add_large_file` computes the digest of the file, which spans several members.
            files: Vec::new(),
        })
    }

    fn submit(&mut self, job: MemberJob) -> Result<(), ArchiveError> {
        self.submitted_count += 1;
        // The writing thread has failed. `parallel::run_ordered` returns its error instead of this one.
        self.jobs.submit(job).map_err(|ConsumerFailed| {
            ArchiveError::Io(IoError {
                action: "write",
                path: self.path.to_path_buf(),
                source: io::ErrorKind::BrokenPipe.into(),
            })
        })
    }

    fn submit_group(&mut self) -> Result<(), ArchiveError> {
        let (first_index, count) = (self.group.first_index, self.group.count);
        if count == 0 {
            return Ok(());
        }

        let contents = match self.group.folder {
            None => MemberContents::Structure(first_index, count),
            Some(_) => MemberContents::Files(first_index, count),
        };

        // For folders and links. For files, `switch_group_to_folder_of` sets `first_index` of the next group.
        (self.group.first_index, self.group.count) = (first_index + count, 0);

        let bytes = std::mem::replace(&mut self.group.bytes, self.buffers.take_empty());
        let files = std::mem::take(&mut self.group.files);
        self.submit(MemberJob::Compress {
            bytes,
            contents,
            files,
        })
    }
}

/// Appends the next `len` bytes of `content` to `bytes`. After an error, `bytes` has what was read before it.
fn append_exactly(bytes: &mut Vec<u8>, content: &mut dyn Read, len: u64) -> io::Result<()> {
    if content.take(len).read_to_end(bytes)? as u64 == len {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
