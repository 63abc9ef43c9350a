//! Very many files in little memory: 72 bytes for each, and its name once in a [`NameTable`].

use super::entry_name::EntryName;
use super::manifest::{FileEntry, InodeStamp};
use super::name_table::{NameId, NameSet, NameTable};
use crate::io::hash::Sha256Digest;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Set in the place of permission bits where a digest is known.
const HAS_DIGEST: u16 = 1 << 15;

/// The permission bits.
const MODE: u16 = 0o7777;

/// Files in some order, each given out as a [`FileEntry`]. Of a mode only the permission bits are
/// kept.
#[derive(Clone, Default)]
pub struct FileList {
    names: Arc<NameTable>,
    /// Mostly one.
    devices: Vec<u64>,
    rows: VecDeque<FileRow>,
}

/// Ordered so that nothing is lost to alignment.
#[derive(Clone)]
struct FileRow {
    size: u64,
    mtime: i64,
    ctime: i64,
    ino: u64,
    sha256: [u8; 32],
    name: NameId,
    mode: u16,
    device: u16,
}

impl FileList {
    /// An empty list whose names are kept in `names`.
    pub fn with_names(names: &Arc<NameTable>) -> Self {
        Self {
            names: Arc::clone(names),
            ..Self::default()
        }
    }

    /// Where the names are kept.
    pub fn names(&self) -> &Arc<NameTable> {
        &self.names
    }

    /// Appends a file.
    pub fn push(&mut self, file: &FileEntry) {
        let (device, stamp) = match self.device(file.stamp.dev) {
            Some(device) => (device, file.stamp),
            None => (0, InodeStamp::default()),
        };
        let mode = u16::try_from(file.mode & u32::from(MODE)).unwrap_or(0);
        self.rows.push_back(FileRow {
            size: file.size,
            mtime: file.mtime,
            ctime: stamp.ctime,
            ino: stamp.ino,
            sha256: file.sha256.map_or([0; 32], Sha256Digest::into_bytes),
            name: self.names.add(&file.path),
            mode: mode | file.sha256.map_or(0, |_| HAS_DIGEST),
            device,
        });
    }

    /// The number of a device; `None` when there are too many.
    fn device(&mut self, dev: u64) -> Option<u16> {
        let known = self.devices.iter().position(|d| *d == dev);
        let place = known.unwrap_or(self.devices.len());
        let number = u16::try_from(place).ok()?;
        if known.is_none() {
            self.devices.push(dev);
        }
        Some(number)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The file at a place.
    pub fn get(&self, place: usize) -> Option<FileEntry> {
        self.rows.get(place).map(|row| self.entry(row))
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FileEntry> + '_ {
        self.rows.iter().map(|row| self.entry(row))
    }

    /// Those at some places; fewer where there are not so many.
    pub fn range(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = FileEntry> + '_ {
        places.map_while(|place| self.get(place))
    }

    /// The names of all, as numbers of [`FileList::names`].
    pub(super) fn name_ids(&self) -> impl Iterator<Item = NameId> + '_ {
        self.rows.iter().map(|row| row.name)
    }

    /// The set of their names.
    pub(super) fn name_set(&self) -> NameSet {
        let mut set = NameSet::with_names(&self.names);
        for id in self.name_ids() {
            set.insert_id(id);
        }
        set
    }

    /// The size of the file at a place.
    pub fn size(&self, place: usize) -> Option<u64> {
        self.rows.get(place).map(|row| row.size)
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        let sizes = self.rows.iter().map(|row| row.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Notes the digest of the file at a place.
    pub(super) fn set_digest(&mut self, place: usize, digest: Sha256Digest) {
        if let Some(row) = self.rows.get_mut(place) {
            row.sha256 = digest.into_bytes();
            row.mode |= HAS_DIGEST;
        }
    }

    /// Takes out the first file.
    pub(super) fn pop_front(&mut self) -> Option<FileEntry> {
        let row = self.rows.pop_front()?;
        self.release_spare_capacity();
        Some(self.entry(&row))
    }

    /// Takes out so many from the first on.
    pub(super) fn drop_front(&mut self, count: usize) {
        self.rows.drain(..count.min(self.rows.len()));
        self.release_spare_capacity();
    }

    /// What is taken out is let go: another list is made of it meanwhile.
    fn release_spare_capacity(&mut self) {
        if self.rows.len() < self.rows.capacity() / 16 * 15 {
            self.rows.shrink_to_fit();
        }
    }

    /// Takes out the files with these names.
    pub(super) fn remove_all(&mut self, names: &NameSet) {
        if !names.is_empty() {
            self.rows.retain(|row| !names.has(row.name));
        }
    }

    /// Orders them by name.
    pub(super) fn sort(&mut self) {
        let names = Arc::clone(&self.names);
        let rows = self.rows.make_contiguous();
        // Most are in order already, which this sort makes use of.
        rows.sort_by_key(|row| names.name(row.name));
    }

    fn entry(&self, row: &FileRow) -> FileEntry {
        let has_digest = row.mode & HAS_DIGEST != 0;
        let dev = self.devices.get(usize::from(row.device));
        FileEntry {
            path: self.names.name(row.name),
            size: row.size,
            mode: u32::from(row.mode & MODE),
            mtime: row.mtime,
            sha256: has_digest.then(|| Sha256Digest::from_bytes(row.sha256)),
            stamp: InodeStamp {
                ctime: row.ctime,
                ino: row.ino,
                dev: dev.copied().unwrap_or_default(),
            },
        }
    }

    /// The name of the file at a place.
    pub fn name(&self, place: usize) -> Option<EntryName> {
        self.rows.get(place).map(|row| self.names.name(row.name))
    }
}

impl PartialEq for FileList {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for FileList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Extend<FileEntry> for FileList {
    fn extend<T: IntoIterator<Item = FileEntry>>(&mut self, files: T) {
        for file in files {
            self.push(&file);
        }
    }
}

impl FromIterator<FileEntry> for FileList {
    fn from_iter<T: IntoIterator<Item = FileEntry>>(files: T) -> Self {
        let mut list = Self::default();
        list.extend(files);
        list
    }
}

impl Serialize for FileList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for FileList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneByOne;

        impl<'de> Visitor<'de> for OneByOne {
            type Value = FileList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of files")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FileList, A::Error> {
                let mut list = FileList::default();
                while let Some(file) = seq.next_element::<FileEntry>()? {
                    list.push(&file);
                }
                Ok(list)
            }
        }

        deserializer.deserialize_seq(OneByOne)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_out_as_it_went_in() {
        let file = |path: &str, sha256| FileEntry {
            path: EntryName::parse(path.as_bytes()).unwrap(),
            size: u64::MAX,
            mode: 0o4755,
            mtime: i64::MIN,
            sha256,
            stamp: InodeStamp {
                ctime: -1,
                ino: u64::MAX,
                dev: 7,
            },
        };
        let files = [
            file("a/b", None),
            file("a/c", Some(Sha256Digest::of(b"c"))),
            file("a/b", None),
        ];
        let list: FileList = files.iter().cloned().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), files);
        let names: Vec<_> = list.name_ids().collect();
        assert!(names[0] == names[2] && names[0] != names[1]);
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<FileList>(&json).unwrap(), list);
    }

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<FileRow>(), 72);
    }
}
