//! The digests of the files in a captured tree.

use super::format::{FileEntry, FileList, InodeStamp, NameSet, manifest_members};
use crate::io::hash::{ContentDigest, ContentHasher};
use crate::io::progress::{ReportingReader, Silent};
use crate::io::{IoContext, IoError, file_open};
use std::io::{self, Read};
use std::path::Path;

/// The assumed compressed size of the manifest of an earlier capture, from which its maximum size follows: 1 GiB.
const MAX_PACKED_MANIFEST_BYTES: u64 = 32 << 20;

/// Returns the files in the manifest that an earlier capture left at `path`, or none if it cannot be read.
pub(super) fn read_earlier_files(path: &Path) -> FileList {
    let file = file_open::open_no_link(path).ok();
    let manifest = file.and_then(|file| {
        let mut reader = io::BufReader::new(file);
        manifest_members::parse_manifest(path, &mut reader, MAX_PACKED_MANIFEST_BYTES).ok()
    });
    manifest.map(|manifest| manifest.files).unwrap_or_default()
}

/// Returns the `files` that were placed in the tree at `root` with their digests. The content of hard links with the
/// stamp, size and time that they have in `earlier_files` is not read again.
///
/// # Errors
/// A file cannot be read, or the user interrupted the backup.
pub(super) fn add_digests(
    root: &Path,
    files: &FileList,
    hard_linked: &NameSet,
    earlier_files: &FileList,
) -> Result<FileList, IoError> {
    let mut with_digests = FileList::with_name_table(files.name_table());
    for entry in files.iter() {
        let is_link = hard_linked.contains(entry.path.as_path());
        let earlier = earlier_files.find_position(entry.path.as_path());
        let earlier = earlier.and_then(|position| earlier_files.get(position));
        with_digests.push(&match earlier {
            Some(earlier) if is_link && is_same_version(&earlier, &entry) => FileEntry {
                digest: earlier.digest,
                ..entry
            },
            _ => read_digest(root, entry, is_link)?,
        });
    }
    Ok(with_digests)
}

fn is_same_version(earlier: &FileEntry, entry: &FileEntry) -> bool {
    let version = |file: &FileEntry| (file.stamp, file.size, file.mtime);
    version(earlier) == version(entry) && entry.stamp.ctime != 0 && earlier.digest.is_some()
}

/// Returns the entry with the digest of its file. A hard link gets the stamp that its file has since the link was made.
/// The file was not written in the minute before, so a write from now on changes the time as well.
///
/// # Errors
/// The file cannot be read, or the user interrupted the backup.
pub(super) fn read_digest(
    root: &Path,
    entry: FileEntry,
    is_link: bool,
) -> Result<FileEntry, IoError> {
    let path = root.join(entry.path.as_path());
    let file = file_open::open_no_link(&path).at("read", &path)?;
    let stamp = if is_link {
        InodeStamp::of(&file.metadata().at("read", &path)?)
    } else {
        entry.stamp
    };
    let digest = digest_of_start(file, entry.size).at("read", &path)?;
    Ok(FileEntry {
        digest: Some(digest),
        stamp,
        ..entry
    })
}

/// Returns the digest of the first `size` bytes. A file that became shorter has another time, so it is copied after the
/// run of the backup program.
fn digest_of_start(file: impl Read, size: u64) -> io::Result<ContentDigest> {
    let mut reader = ReportingReader {
        reader: file.take(size),
        progress: &Silent,
    };
    let (digest, _) = ContentHasher::default().hash(&mut reader)?;
    Ok(digest)
}
