//! Checks the free space on every disk that a restore stages on: those of the home, of links and
//! mounts in it, and of databases outside of it.

use super::staged_home::StageRoot;
use crate::archive::ArchiveError;
use crate::archive::manifest::{EXTERNAL_DATABASES_FOLDER, MemberContents};
use crate::archive::name_table::NameSet;
use crate::archive::reader::ArchiveReader;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::space;
use std::path::{Path, PathBuf};

/// Queries about disks, replaceable in tests.
pub(crate) trait Disks {
    /// Returns the id of the disk of an existing folder; `None` if the system does not know it.
    fn disk_of(&self, folder: &Path) -> Option<u64>;

    /// Returns the bytes that can still be written there; `None` if the system does not know it.
    fn free_bytes(&self, folder: &Path) -> Option<u64>;
}

pub(crate) struct SystemDisks;

impl Disks for SystemDisks {
    fn disk_of(&self, folder: &Path) -> Option<u64> {
        space::disk_of(folder)
    }

    fn free_bytes(&self, folder: &Path) -> Option<u64> {
        space::free_bytes(folder)
    }
}

/// The number of bytes that will be written below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpaceNeed {
    /// The folder may not exist yet.
    pub(crate) folder: PathBuf,
    pub(crate) bytes: u64,
}

/// Returns the space that writing the files `written` of an archive needs: in `staging`, beside the targets of linked roots, and in
/// the folder `outside` of the databases, if that is on another disk.
pub(crate) fn needs(
    archive: &ArchiveReader,
    written: &NameSet,
    staging: &Path,
    linked: &[StageRoot],
    outside: Option<&Path>,
    disks: &dyn Disks,
) -> Vec<SpaceNeed> {
    let mut needs: Vec<SpaceNeed> = std::iter::once(staging)
        .chain(linked.iter().map(|root| root.staged.as_path()))
        .map(|folder| SpaceNeed {
            folder: folder.to_path_buf(),
            bytes: 0,
        })
        .collect();
    let outside = outside.filter(|folder| is_on_another_disk(folder, staging, disks));
    let mut names = written.iter();
    let from_outside = names.any(|name| name.as_path().starts_with(EXTERNAL_DATABASES_FOLDER));
    let is_for_outside = |path: &Path| {
        if from_outside {
            path.starts_with(EXTERNAL_DATABASES_FOLDER)
        } else {
            kind_of(path) == HomeEntryKind::Database
        }
    };
    let mut outside_bytes = 0_u64;
    let need_index = |path: &Path| {
        let root = linked
            .iter()
            .position(|root| path.starts_with(&root.prefix));
        root.map_or(0, |root| root + 1)
    };
    for file in archive.contents().files.iter() {
        let path = file.path.as_path();
        if !written.contains(path) {
            continue;
        }
        let bytes = &mut needs[need_index(path)].bytes;
        *bytes = bytes.saturating_add(file.size);
        if outside.is_some() && is_for_outside(path) {
            outside_bytes = outside_bytes.saturating_add(file.size);
        }
    }
    for (path, bytes) in zero_chunks(archive) {
        if written.contains(&path) {
            let needed = &mut needs[need_index(&path)].bytes;
            *needed = needed.saturating_sub(bytes);
        }
    }
    needs.extend(outside.map(|folder| SpaceNeed {
        folder: folder.to_path_buf(),
        bytes: outside_bytes,
    }));
    needs
}

/// Returns true if a file must be copied, not renamed, to get from `staging` to `folder`. False if
/// a disk is unknown.
pub(crate) fn is_on_another_disk(folder: &Path, staging: &Path, disks: &dyn Disks) -> bool {
    let disk = |folder: &Path| disks.disk_of(nearest_existing_folder(folder));
    let (one, other) = (disk(folder), disk(staging));
    one.is_some() && other.is_some() && one != other
}

/// Fails if a disk has too little space for the sum of the `needs` on it.
///
/// # Errors
/// [`ArchiveError::NoSpace`] with the first folder on that disk.
pub(crate) fn check(needs: &[SpaceNeed], disks: &dyn Disks) -> Result<(), ArchiveError> {
    let mut by_disk: Vec<(&Path, Option<u64>, u64)> = Vec::new();
    for need in needs.iter().filter(|need| need.bytes > 0) {
        let folder = nearest_existing_folder(&need.folder);
        let disk = disks.disk_of(folder);
        let known = by_disk
            .iter_mut()
            .find(|(at, on, _)| disk.map_or(*at == folder, |disk| *on == Some(disk)));
        match known {
            Some((_, _, bytes)) => *bytes = bytes.saturating_add(need.bytes),
            None => by_disk.push((folder, disk, need.bytes)),
        }
    }
    for (folder, _, needed_bytes) in by_disk {
        if let Some(free_bytes) = disks.free_bytes(folder).filter(|free| *free < needed_bytes) {
            return Err(ArchiveError::NoSpace {
                folder: folder.to_path_buf(),
                needed_bytes,
                free_bytes,
            });
        }
    }
    Ok(())
}

/// Returns the nearest existing folder at `folder` or above it.
fn nearest_existing_folder(folder: &Path) -> &Path {
    let mut above = folder.ancestors().filter(|path| path.is_dir());
    above.next().unwrap_or(folder)
}

/// Returns the chunks of large files that contain only zeros, judged by the size of their members:
/// nothing else compresses by a factor of 900. They become holes and need no space.
fn zero_chunks(archive: &ArchiveReader) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
    const MIN_ZERO_CHUNK_RATIO: u64 = 900;
    let manifest = archive.manifest();
    let members = manifest.into_iter().flat_map(|manifest| {
        let zeros = manifest
            .members
            .iter()
            .filter(|member| member.size / MIN_ZERO_CHUNK_RATIO > member.len);
        zeros.map(move |member| (manifest, member))
    });
    members.filter_map(|(manifest, member)| match member.holds {
        MemberContents::Chunk(file, _) => {
            let name = manifest.files.name(usize::try_from(file).ok()?)?;
            Some((name.as_path().to_path_buf(), member.size))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Disks by the last component of a path, with their free bytes.
    struct FakeDisks(&'static [(&'static str, u64)]);

    impl FakeDisks {
        fn place(&self, folder: &Path) -> Option<usize> {
            self.0.iter().position(|(begin, _)| folder.ends_with(begin))
        }
    }

    impl Disks for FakeDisks {
        fn disk_of(&self, folder: &Path) -> Option<u64> {
            // The first two folders are on one disk.
            Some(self.place(folder)?.max(1) as u64)
        }

        fn free_bytes(&self, folder: &Path) -> Option<u64> {
            Some(self.0[self.place(folder)?].1)
        }
    }

    #[test]
    fn each_disk_needs_space_for_the_sum_of_its_needs() {
        let root = tempfile::tempdir().unwrap();
        for name in ["home", "beside", "other"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let disks = FakeDisks(&[("home", 100), ("beside", 100), ("other", 50)]);
        let short = |needs: &[(&str, u64)]| {
            let needs: Vec<_> = needs
                .iter()
                .map(|(name, bytes)| SpaceNeed {
                    folder: root.path().join(name),
                    bytes: *bytes,
                })
                .collect();
            match check(&needs, &disks) {
                Ok(()) => None,
                Err(ArchiveError::NoSpace {
                    folder,
                    needed_bytes,
                    free_bytes,
                }) => {
                    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                    Some((name, needed_bytes, free_bytes))
                }
                Err(e) => panic!("{e}"),
            }
        };
        assert_eq!(short(&[("home", 100), ("other", 50)]), None);
        // A missing folder counts as on the disk of its nearest existing ancestor.
        let found = short(&[("home", 1), ("other/new/deep", 51)]);
        assert_eq!(found, Some(("other".into(), 51, 50)));
        let found = short(&[("home", 60), ("beside", 60)]);
        assert_eq!(found, Some(("home".into(), 120, 100)));
        // Unknown disks refuse nothing.
        let needs = [SpaceNeed {
            folder: root.path().join("unknown/x"),
            bytes: u64::MAX,
        }];
        check(&needs, &FakeDisks(&[])).unwrap();
    }
}
