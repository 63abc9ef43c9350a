//! A compact list of files: 72 bytes per file, plus its name in a [`NameTable`].

use super::entry::FileEntry;
use super::entry_name::EntryName;
use super::inode_stamp::InodeStamp;
use super::name_table::{NameId, NameSet, NameTable};
use crate::io::hash::{ContentDigest, DigestBytes};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Flag in [`FileRow::mode`]: the row has a digest.
const HAS_DIGEST: u16 = 1 << 15;

/// Flag in [`FileRow::mode`]: the digest is SHA-256, as in archives of older versions.
const IS_SHA256: u16 = 1 << 14;

/// Mask of the permission bits in [`FileRow::mode`].
const MODE_MASK: u16 = 0o7777;

/// A list of files. Its methods return [`FileEntry`] values. Only the permission bits of a mode are stored.
#[derive(Debug, Clone, Default)]
pub struct FileList {
    names: Arc<NameTable>,
    /// Distinct device numbers of all rows, usually one.
    devices: Vec<u64>,
    // A deque, because a backup takes files from the front while the list of the archive grows.
    rows: VecDeque<FileRow>,
}

/// One file. The fields are ordered so that no padding is needed.
#[derive(Debug, Clone)]
struct FileRow {
    size: u64,
    mtime: i64,
    ctime: i64,
    ino: u64,
    digest: [u8; 32],
    name: NameId,
    mode: u16,
    device: u16,
}

impl FileList {
    /// Creates an empty list whose names are stored in `names`.
    pub fn with_name_table(names: &Arc<NameTable>) -> Self {
        Self {
            names: Arc::clone(names),
            ..Self::default()
        }
    }

    /// Returns the table that stores the names of the list.
    pub fn name_table(&self) -> &Arc<NameTable> {
        &self.names
    }

    /// Appends a file. Its stamp becomes the default if the list has more than 65,536 devices.
    pub fn push(&mut self, file: &FileEntry) {
        let (device, stamp) = match self.intern_device(file.stamp.dev) {
            Some(device) => (device, file.stamp),
            // Without its device a stamp proves nothing. The next backup reads the file again.
            None => (0, InodeStamp::default()),
        };

        let mode = u16::try_from(file.mode & u32::from(MODE_MASK)).unwrap_or(0);
        self.rows.push_back(FileRow {
            size: file.size,
            mtime: file.mtime,
            ctime: stamp.ctime,
            ino: stamp.ino,
            digest: file.digest.map_or([0; 32], |digest| digest.bytes().0),
            name: self.names.intern(&file.path),
            mode: mode | file.digest.as_ref().map_or(0, digest_flags),
            device,
        });
    }

    /// Returns the index of a device in `devices`, and adds it if it is new. `None` if there are too many devices.
    fn intern_device(&mut self, dev: u64) -> Option<u16> {
        let known_index = self.devices.iter().position(|device| *device == dev);
        let index = known_index.unwrap_or(self.devices.len());
        let number = u16::try_from(index).ok()?;
        if known_index.is_none() {
            self.devices.push(dev);
        }
        Some(number)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<FileEntry> {
        self.rows.get(index).map(|row| self.decode_row(row))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FileEntry> + '_ {
        self.rows.iter().map(|row| self.decode_row(row))
    }

    /// Returns the files at these positions, at most up to the end of the list.
    pub(crate) fn range(
        &self,
        indices: std::ops::Range<usize>,
    ) -> impl Iterator<Item = FileEntry> + '_ {
        indices.map_while(|index| self.get(index))
    }

    /// Returns the ids of the names of all files in [`FileList::name_table`], in the order of the list.
    pub(crate) fn name_ids(&self) -> impl Iterator<Item = NameId> + '_ {
        self.rows.iter().map(|row| row.name)
    }

    /// Returns the position of the file with this name. Relies on the order of a list that was read from a manifest:
    /// its name table begins with the names of its files, in their order. For any other list, may return `None` for a
    /// listed file.
    pub(crate) fn find_position(&self, path: &Path) -> Option<usize> {
        let id = self.names.find(path)?;
        let row = self.rows.get(id.index())?;
        (row.name == id).then_some(id.index())
    }

    pub fn name_set(&self) -> NameSet {
        let mut set = NameSet::with_name_table(&self.names);
        for id in self.name_ids() {
            set.insert_id(id);
        }
        set
    }

    /// Returns the size of the file at `index`, in bytes.
    pub(crate) fn size_at(&self, index: usize) -> Option<u64> {
        self.rows.get(index).map(|row| row.size)
    }

    /// Returns the total size of all files in bytes.
    pub fn total_bytes(&self) -> u64 {
        let sizes = self.rows.iter().map(|row| row.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns for each device with files a time in nanoseconds since 1970 that its clock has reached. For the device of
    /// `new_file`, which was just created, this is the ctime of `new_file`. The clock of another device may be behind,
    /// so it has surely reached only the newest ctime of its files.
    pub(crate) fn reached_times(&self, new_file: InodeStamp) -> HashMap<u64, i64> {
        let mut times = HashMap::new();
        for row in &self.rows {
            let dev = self.devices[usize::from(row.device)];
            let newest_ctime = times.entry(dev).or_insert(row.ctime);
            // A ctime later than `new_file` may come from a clock that was set back since.
            *newest_ctime = row.ctime.max(*newest_ctime).min(new_file.ctime);
        }
        times.insert(new_file.dev, new_file.ctime);
        times
    }

    pub(crate) fn set_digest(&mut self, index: usize, digest: ContentDigest) {
        if let Some(row) = self.rows.get_mut(index) {
            row.digest = digest.bytes().0;
            row.mode = row.mode & MODE_MASK | digest_flags(&digest);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<FileEntry> {
        let row = self.rows.pop_front()?;
        self.release_spare_capacity();
        Some(self.decode_row(&row))
    }

    /// Removes the first `count` files.
    pub(crate) fn remove_front(&mut self, count: usize) {
        self.rows.drain(..count.min(self.rows.len()));
        self.release_spare_capacity();
    }

    /// Frees the memory of removed rows. While a backup removes rows from the list of the home, the list of the archive
    /// grows. Without this, both lists would be as large as the complete home.
    fn release_spare_capacity(&mut self) {
        if self.rows.len() < self.rows.capacity() / 16 * 15 {
            // Only when a sixteenth is spare, because shrinking copies all remaining rows.
            self.rows.shrink_to_fit();
        }
    }

    /// Removes the files whose names are in `names`, a set of the same name table.
    pub(crate) fn remove_all(&mut self, names: &NameSet) {
        if !names.is_empty() {
            self.rows.retain(|row| !names.contains_id(row.name));
        }
    }

    pub(crate) fn sort_by_name(&mut self) {
        let names = Arc::clone(&self.names);
        let rows = self.rows.make_contiguous();
        // The standard library's merge sort is fast here, because the list is almost sorted.
        rows.sort_by_key(|row| names.name(row.name));
    }

    fn decode_row(&self, row: &FileRow) -> FileEntry {
        let bytes = DigestBytes(row.digest);
        let digest = match row.mode & !MODE_MASK {
            0 => None,
            HAS_DIGEST => Some(ContentDigest::Blake3(bytes)),
            _ => Some(ContentDigest::Sha256(bytes)),
        };

        let dev = self.devices.get(usize::from(row.device));
        FileEntry {
            path: self.names.name(row.name),
            size: row.size,
            mode: u32::from(row.mode & MODE_MASK),
            mtime: row.mtime,
            digest,
            stamp: InodeStamp {
                ctime: row.ctime,
                ino: row.ino,
                dev: dev.copied().unwrap_or_default(),
            },
        }
    }

    pub(crate) fn name_at(&self, index: usize) -> Option<EntryName> {
        self.rows.get(index).map(|row| self.names.name(row.name))
    }
}

fn digest_flags(digest: &ContentDigest) -> u16 {
    match digest {
        ContentDigest::Blake3(_) => HAS_DIGEST,
        ContentDigest::Sha256(_) => HAS_DIGEST | IS_SHA256,
    }
}

impl Serialize for FileList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for FileList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // One by one: a list of complete entries would take several times the memory of the rows.
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
    fn file_list_round_trips_entries_and_json() {
        let file = |path: &str, digest| FileEntry {
            path: EntryName::parse(path.as_bytes()).unwrap(),
            size: u64::MAX,
            mode: 0o4755,
            mtime: i64::MIN,
            digest,
            stamp: InodeStamp {
                ctime: -1,
                ino: u64::MAX,
                dev: 7,
            },
        };
        let files = [
            file("a/b", None),
            file("a/c", Some(ContentDigest::of(b"c"))),
            file("a/b", Some(ContentDigest::Sha256(DigestBytes([7; 32])))),
            file("a/b", None),
        ];
        let mut list = FileList::default();
        for file in &files {
            list.push(file);
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), files);
        let names: Vec<_> = list.name_ids().collect();
        assert!(names[0] == names[3] && names[0] != names[1]);
        let json = serde_json::to_string(&list).unwrap();
        let read: FileList = serde_json::from_str(&json).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), files);
    }

    #[test]
    fn another_device_has_reached_its_newest_ctime_but_no_time_after_the_new_file() {
        let mut list = FileList::default();
        let file = |dev, ctime| FileEntry {
            path: EntryName::parse(format!("{dev}/{ctime}").as_bytes()).unwrap(),
            size: 0,
            mode: 0o600,
            mtime: 0,
            digest: None,
            stamp: InodeStamp { ctime, ino: 1, dev },
        };
        for (dev, ctime) in [(1, 50), (2, 60), (2, 40), (3, 150)] {
            list.push(&file(dev, ctime));
        }

        // The clock of device 2 is behind, and one of device 3 was ahead.
        let new_file = file(1, 100).stamp;
        let times = list.reached_times(new_file);
        assert_eq!(times, HashMap::from([(1, 100), (2, 60), (3, 100)]));

        let is_kept = |file: FileEntry| {
            let reached_time = times[&file.stamp.dev];
            file.stamp.discard_if_ambiguous(reached_time) == file.stamp
        };
        assert!(is_kept(file(1, 60)) && is_kept(file(2, 41)));
        assert!(!is_kept(file(1, 100)) && !is_kept(file(2, 60)));
    }

    #[test]
    fn file_row_takes_72_bytes() {
        assert_eq!(size_of::<FileRow>(), 72);
    }
}
