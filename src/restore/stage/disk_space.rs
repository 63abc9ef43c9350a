//! Checks the free space on every disk that a restore stages on: those of the home, of links and
//! mounts in it, and of databases outside of it.

use super::staged_home::StageRoot;
use crate::archive::{ArchiveReader, EXTERNAL_DATABASES_FOLDER, MemberContents, NameSet};
use crate::codex::{CodexConfig, HomeEntryKind, kind_of};
use crate::io::{Environment, NoSpace, space, tree};
use crate::restore::{RestoreRequest, RestoreTarget};
use std::path::{Path, PathBuf};

/// Queries about disks, replaceable in tests. They return `None` if the system does not know the answer.
pub(crate) struct Disks<'a> {
    /// The id of the disk of an existing folder.
    disk_of: &'a dyn Fn(&Path) -> Option<u64>,
    /// The bytes that can still be written in a folder.
    free_bytes: &'a dyn Fn(&Path) -> Option<u64>,
}

pub(crate) const SYSTEM_DISKS: Disks<'static> = Disks {
    disk_of: &space::read_disk_id,
    free_bytes: &space::free_bytes,
};

/// The number of bytes that will be written below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpaceNeed {
    /// The folder may not exist yet.
    pub(crate) folder: PathBuf,
    pub(crate) bytes: u64,
}

/// Returns the space that writing the files `written` of an archive needs: in `staging`, beside the targets of linked
/// roots, and in the folder `outside` of the databases, if that is on another disk.
pub(crate) fn compute_needs(
    archive: &ArchiveReader,
    written: &NameSet,
    staging: &Path,
    linked: &[StageRoot],
    outside: Option<&Path>,
    disks: &Disks<'_>,
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
    for (path, bytes) in find_zero_chunks(archive) {
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

/// Returns the folder of this home's databases if it is outside of the home, as far as that is
/// known before anything is unpacked.
pub(crate) fn known_outside_folder(request: &RestoreRequest<'_>, folder: &Path) -> Option<PathBuf> {
    if request.target == RestoreTarget::Elsewhere {
        return None;
    }
    outside_folder(&CodexConfig::read(folder), folder, request.env)
}

/// Returns the folder that `config` or the environment names for the databases, if it is outside of
/// the home.
pub(crate) fn outside_folder(
    config: &CodexConfig,
    home: &Path,
    env: &Environment,
) -> Option<PathBuf> {
    let databases = tree::resolve_links(&config.database_folder(home, env)?);
    Some(databases).filter(|databases| *databases != tree::resolve_links(home))
}

/// Returns true if a file must be copied, not renamed, to get from `staging` to `folder`. False if
/// a disk is unknown.
pub(crate) fn is_on_another_disk(folder: &Path, staging: &Path, disks: &Disks<'_>) -> bool {
    let disk = |folder: &Path| (disks.disk_of)(nearest_existing_folder(folder));
    let (one, other) = (disk(folder), disk(staging));
    one.is_some() && other.is_some() && one != other
}

/// Adds up the `needs` of each disk and compares the sums with the free space.
///
/// # Errors
/// A disk has too little space. The error names the first folder on it.
pub(crate) fn check(needs: &[SpaceNeed], disks: &Disks<'_>) -> Result<(), NoSpace> {
    let mut by_disk: Vec<(&Path, Option<u64>, u64)> = Vec::new();
    for need in needs.iter().filter(|need| need.bytes > 0) {
        let folder = nearest_existing_folder(&need.folder);
        let disk = (disks.disk_of)(folder);
        let known = by_disk
            .iter_mut()
            // Folders on one disk share its space, so their needs are added up.
            .find(|(at, on, _)| disk.map_or(*at == folder, |disk| *on == Some(disk)));
        match known {
            Some((_, _, bytes)) => *bytes = bytes.saturating_add(need.bytes),
            None => by_disk.push((folder, disk, need.bytes)),
        }
    }
    for (folder, _, needed_bytes) in by_disk {
        space::require(folder, needed_bytes, (disks.free_bytes)(folder))?;
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
fn find_zero_chunks(archive: &ArchiveReader) -> impl Iterator<Item = (PathBuf, u64)> + '_ {
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

    #[test]
    fn needs_on_one_disk_are_added_up() {
        let root = tempfile::tempdir().unwrap();
        for name in ["home", "beside", "other"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        // The number of a disk and its free bytes, by the last component of a path.
        let known = [("home", (1, 100)), ("beside", (1, 100)), ("other", (2, 50))];
        let find = |folder: &Path| known.into_iter().find(|(name, _)| folder.ends_with(name));
        let disks = Disks {
            disk_of: &|folder| find(folder).map(|(_, (disk, _))| disk),
            free_bytes: &|folder| find(folder).map(|(_, (_, free))| free),
        };
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
                Err(short) => {
                    let name = short.folder.file_name().unwrap().to_string_lossy();
                    Some((name.into_owned(), short.needed_bytes, short.free_bytes))
                }
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
        let unknown = Disks {
            disk_of: &|_| None,
            free_bytes: &|_| None,
        };
        check(&needs, &unknown).unwrap();
    }
}
