//! Whether there is room for what a restore stages, on each disk that it stages something on: the home's,
//! those that links and mounts in the home lead to, and that of databases outside of it.

use super::plan::RestorePlan;
use super::stage::Root;
use crate::archive::ArchiveError;
use crate::archive::manifest::{Holds, OUTSIDE_DATABASES};
use crate::archive::reader::Archive;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::space;
use std::path::{Path, PathBuf};

/// What is asked of disks.
pub(super) trait Disks {
    /// Which disk an existing folder is on; `None` where the system does not say.
    fn disk_of(&self, folder: &Path) -> Option<u64>;

    /// How many bytes may still be written there; `None` where the system does not say.
    fn free_bytes(&self, folder: &Path) -> Option<u64>;
}

/// Those of this machine.
pub(super) struct System;

impl Disks for System {
    fn disk_of(&self, folder: &Path) -> Option<u64> {
        space::disk_of(folder)
    }

    fn free_bytes(&self, folder: &Path) -> Option<u64> {
        space::free_bytes(folder)
    }
}

/// So many bytes will be written below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// It, or what is above it, exists.
    pub(super) folder: PathBuf,
    pub(super) bytes: u64,
}

/// What a plan stages: most of it in `staging`, what is below a linked root beside that, and databases
/// for a folder `outside` of the home there as well, where that is on another disk.
pub(super) fn needs(
    archive: &Archive,
    plan: &RestorePlan,
    staging: &Path,
    linked: &[Root],
    outside: Option<&Path>,
    disks: &dyn Disks,
) -> Vec<Need> {
    let mut needs: Vec<Need> = std::iter::once(staging)
        .chain(linked.iter().map(|root| root.staged.as_path()))
        .map(|folder| Need {
            folder: folder.to_path_buf(),
            bytes: 0,
        })
        .collect();
    let outside = outside.filter(|folder| is_on_another_disk(folder, staging, disks));
    let from_outside = plan.has_outside_databases();
    let is_for_outside = |path: &Path| {
        if from_outside {
            path.starts_with(OUTSIDE_DATABASES)
        } else {
            kind_of(path) == HomeEntryKind::Database
        }
    };
    let mut beyond = 0_u64;
    let place = |path: &Path| {
        let root = linked
            .iter()
            .position(|root| path.starts_with(&root.prefix));
        root.map_or(0, |root| root + 1)
    };
    for file in archive.contents().files.iter() {
        let path = file.path.as_path();
        if !plan.writes.contains(path) {
            continue;
        }
        let bytes = &mut needs[place(path)].bytes;
        *bytes = bytes.saturating_add(file.size);
        if outside.is_some() && is_for_outside(path) {
            beyond = beyond.saturating_add(file.size);
        }
    }
    for (path, bytes) in holes(archive) {
        if plan.writes.contains(&path) {
            let needed = &mut needs[place(&path)].bytes;
            *needed = needed.saturating_sub(bytes);
        }
    }
    needs.extend(outside.map(|folder| Need {
        folder: folder.to_path_buf(),
        bytes: beyond,
    }));
    needs
}

/// Whether what is staged in `staging` has to be copied to get into `folder`. Unknown disks count as one.
pub(super) fn is_on_another_disk(folder: &Path, staging: &Path, disks: &dyn Disks) -> bool {
    let disk = |folder: &Path| disks.disk_of(existing(folder));
    let (one, other) = (disk(folder), disk(staging));
    one.is_some() && other.is_some() && one != other
}

/// Refuses what does not find room: `needs` on one disk count together.
///
/// # Errors
/// [`ArchiveError::NoSpace`], with the first folder on the disk that is too small.
pub(super) fn check(needs: &[Need], disks: &dyn Disks) -> Result<(), ArchiveError> {
    let mut left: Vec<(&Path, Option<u64>, u64)> = Vec::new();
    for need in needs.iter().filter(|need| need.bytes > 0) {
        let folder = existing(&need.folder);
        let disk = disks.disk_of(folder);
        let known = left
            .iter_mut()
            .find(|(at, on, _)| disk.map_or(*at == folder, |disk| *on == Some(disk)));
        match known {
            Some((_, _, bytes)) => *bytes = bytes.saturating_add(need.bytes),
            None => left.push((folder, disk, need.bytes)),
        }
    }
    for (folder, _, needed_bytes) in left {
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

/// The nearest folder that exists at `folder` or above it.
fn existing(folder: &Path) -> &Path {
    let mut above = folder.ancestors().filter(|path| path.is_dir());
    above.next().unwrap_or(folder)
}

/// Chunks of large files that are zeros, as far as their members tell: nothing packs as well as zeros do,
/// to a thousandth. They are holes again and need no room. Found out without unpacking them.
fn holes(archive: &Archive) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
    const ZEROS_PACK_BY: u64 = 900;
    let manifest = archive.manifest();
    let members = manifest.into_iter().flat_map(|manifest| {
        let zeros = manifest
            .members
            .iter()
            .filter(|member| member.size / ZEROS_PACK_BY > member.len);
        zeros.map(move |member| (manifest, member))
    });
    members.filter_map(|(manifest, member)| match member.holds {
        Holds::Chunk(file, _) => {
            let name = manifest.files.name(usize::try_from(file).ok()?)?;
            Some((name.as_path().to_path_buf(), member.size))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Disks by the beginning of a path, and their room.
    struct Made(&'static [(&'static str, u64)]);

    impl Made {
        fn place(&self, folder: &Path) -> Option<usize> {
            self.0.iter().position(|(begin, _)| folder.ends_with(begin))
        }
    }

    impl Disks for Made {
        fn disk_of(&self, folder: &Path) -> Option<u64> {
            // The first two are one.
            Some(self.place(folder)?.max(1) as u64)
        }

        fn free_bytes(&self, folder: &Path) -> Option<u64> {
            Some(self.0[self.place(folder)?].1)
        }
    }

    #[test]
    fn each_disk_needs_room_for_all_that_comes_onto_it() {
        let root = tempfile::tempdir().unwrap();
        for name in ["home", "beside", "other"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let disks = Made(&[("home", 100), ("beside", 100), ("other", 50)]);
        let short = |needs: &[(&str, u64)]| {
            let needs: Vec<_> = needs
                .iter()
                .map(|(name, bytes)| Need {
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
        // A folder that is not there yet is on the disk of what is above it.
        let found = short(&[("home", 1), ("other/new/deep", 51)]);
        assert_eq!(found, Some(("other".into(), 51, 50)));
        let found = short(&[("home", 60), ("beside", 60)]);
        assert_eq!(found, Some(("home".into(), 120, 100)));
        // Where nothing is known nothing is refused.
        let needs = [Need {
            folder: root.path().join("unknown/x"),
            bytes: u64::MAX,
        }];
        check(&needs, &Made(&[])).unwrap();
    }
}
