//! Members of an earlier archive that can be copied into the next one as they are.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::format::Compression;
use super::manifest::{FileEntry, Holds, Manifest, Member};
use super::reader::Archive;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::position;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
const SAMPLE: u64 = 8;

/// A member of the earlier archive.
#[derive(Debug, Clone)]
pub struct OldMember {
    offset: u64,
    len: u64,
    pub(super) size: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) holds: Holds,
    checked: bool,
}

/// Files that need not be read again.
#[derive(Debug)]
pub(super) struct Reuse {
    pub(super) digests: Vec<Sha256Digest>,
    pub(super) members: Vec<OldMember>,
}

/// Where a file stands in the earlier archive.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Of its name. What is found by it is compared with a print or a digest.
    hash: u64,
    file: u32,
    member: u32,
}

/// A file of the earlier archive: all of the manifest's words on it would be too much to keep beside
/// those on the files of now.
#[derive(Debug)]
struct OldFile {
    print: [u8; 16],
    sha256: Sha256Digest,
}

/// What tells one state of a file from all others, its name among it.
fn print_of(file: &FileEntry) -> [u8; 16] {
    let mut hasher = Hasher::default();
    let numbers = [
        file.size,
        u64::from(file.mode),
        file.mtime.cast_unsigned(),
        file.stamp.ctime.cast_unsigned(),
        file.stamp.ino,
        file.stamp.dev,
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(file.path.as_path().as_os_str().as_encoded_bytes());
    hasher.digest().beginning()
}

fn hash_of(name: &EntryName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
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
pub struct Source {
    path: PathBuf,
    file: File,
    files: Vec<OldFile>,
    members: Vec<Member>,
    /// Ordered.
    places: Vec<Place>,
    /// When it was made, in days: which members a sample takes.
    day: u64,
    options: ReuseOptions,
}

impl Source {
    /// Opens an archive to copy from; `None` if it has no index or cannot be read: then nothing is
    /// copied, and nothing is lost but time.
    pub fn open(path: &Path, options: ReuseOptions) -> Option<Self> {
        let archive = Archive::open(path).ok().filter(Archive::has_index)?;
        let file = File::open(path).ok()?;
        let Manifest {
            files,
            members,
            effort,
            metadata,
            ..
        } = archive.into_manifest()?;
        if members.is_empty() || effort < options.compression.effort() {
            return None;
        }
        let mut places = Vec::with_capacity(files.len());
        for (number, member) in members.iter().enumerate() {
            let (first, count) = match member.holds {
                Holds::Files(first, count) => (first, count),
                Holds::Head(file) => (file, 1),
                _ => continue,
            };
            for file in first..first.checked_add(count)? {
                let name = &files.get(usize::try_from(file).ok()?)?.path;
                places.push(Place {
                    hash: hash_of(name),
                    file: u32::try_from(file).ok()?,
                    member: u32::try_from(number).ok()?,
                });
            }
        }
        places.sort_unstable_by_key(|place| place.hash);
        let files = files
            .into_iter()
            .map(|file| {
                Some(OldFile {
                    print: print_of(&file),
                    sha256: file.sha256?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            path: path.to_path_buf(),
            file,
            files,
            members,
            places,
            day: metadata
                .created_at
                .timestamp()
                .div_euclid(86_400)
                .unsigned_abs(),
            options,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The members that hold the first file, and as many after it as they hold, if all of these are
    /// as they were; `file` gives the one at a place.
    pub(super) fn unchanged(&self, file: impl Fn(usize) -> Option<FileEntry>) -> Option<Reuse> {
        if self.options.rehash {
            return None;
        }
        let first_now = file(0)?;
        let place = self.place(&first_now.path)?;
        let member = &self.members[place.member as usize];
        match member.holds {
            Holds::Files(first, count) if first == u64::from(place.file) => {
                let old = self.range(first, count)?;
                let same = old
                    .iter()
                    .enumerate()
                    .all(|(i, old)| file(i).is_some_and(|now| is_unchanged(old, &now)));
                same.then(|| Reuse {
                    digests: old.iter().map(|f| f.sha256).collect(),
                    members: vec![self.old(place.member)],
                })
            }
            Holds::Head(number) => {
                let old = self.range(number, 1)?.first()?;
                let mut members = vec![self.old(place.member)];
                let chunks = place.member as usize + 1..self.members.len();
                members.extend(
                    chunks
                        .take_while(|i| matches!(self.members[*i].holds, Holds::Chunk(of, _) if of == number))
                        .map(|i| self.old(u32::try_from(i).unwrap_or(u32::MAX))),
                );
                is_unchanged(old, &first_now).then(|| Reuse {
                    digests: vec![old.sha256],
                    members,
                })
            }
            _ => None,
        }
    }

    /// The chunks of a large file.
    pub(super) fn large(&self, name: &EntryName) -> Option<OldLarge<'_>> {
        let place = self.place(name)?;
        matches!(self.members[place.member as usize].holds, Holds::Head(_)).then_some(OldLarge {
            source: self,
            place,
        })
    }

    fn place(&self, name: &EntryName) -> Option<Place> {
        let hash = hash_of(name);
        let found = self.places.binary_search_by_key(&hash, |place| place.hash);
        found.ok().map(|i| self.places[i])
    }

    fn range(&self, first: u64, count: u64) -> Option<&[OldFile]> {
        let first = usize::try_from(first).ok()?;
        self.files
            .get(first..first.checked_add(usize::try_from(count).ok()?)?)
    }

    fn old(&self, number: u32) -> OldMember {
        let member = &self.members[number as usize];
        let checked = match self.options.verify {
            VerifyReused::All => true,
            VerifyReused::Sample => (u64::from(number) + self.day).is_multiple_of(SAMPLE),
            VerifyReused::None => false,
        };
        OldMember {
            offset: member.offset,
            len: member.len,
            size: member.size,
            sha256: member.sha256,
            holds: member.holds,
            checked,
        }
    }

    /// The bytes of a member, checked if its turn has come.
    pub(super) fn read(&self, old: &OldMember) -> Result<Vec<u8>, ArchiveError> {
        let len = usize::try_from(old.len)
            .map_err(|_| ArchiveError::damaged(&self.path, "an oversized member"))?;
        let mut bytes = vec![0; len];
        // A disk that cannot read it any more is damage, too: the home is still there.
        position::read_exact_at(&self.file, &mut bytes, old.offset)
            .map_err(|e| ArchiveError::damaged(&self.path, e.to_string()))?;
        if old.checked && Sha256Digest::of(&bytes) != old.sha256 {
            return Err(ArchiveError::damaged(
                &self.path,
                "a member does not fit its digest",
            ));
        }
        Ok(bytes)
    }

    /// Appends a member to `out`; the system copies it itself where it can.
    pub(super) fn copy_to(&self, old: &OldMember, bytes: &[u8], out: &mut File) -> io::Result<()> {
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

/// A large file in the earlier archive.
#[derive(Debug)]
pub(super) struct OldLarge<'a> {
    source: &'a Source,
    place: Place,
}

impl OldLarge<'_> {
    /// The chunk at `position`, with the digest of the file's content up to its end.
    pub(super) fn chunk(&self, position: usize) -> Option<(OldMember, Sha256Digest)> {
        let number = self.place.member as usize + 1 + position;
        match self.source.members.get(number)?.holds {
            Holds::Chunk(of, upto) if of == u64::from(self.place.file) => {
                Some((self.source.old(u32::try_from(number).ok()?), upto))
            }
            _ => None,
        }
    }
}

/// Whether a file is surely as it was. The tar header holds its mode and time, so those count too.
fn is_unchanged(old: &OldFile, now: &FileEntry) -> bool {
    now.stamp.ctime != 0 && old.print == print_of(now)
}
