//! Reads the manifests of the other machines from the cloud folder.
//!
//! Every machine with access to the folder can write anything into it. So the size of manifests is limited, and a
//! manifest beyond the limit is reported and not read.

use super::cloud_names;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, file_open};
use crate::sync::manifest::{self, MachineManifest, ManifestEntry, fold_name, folded_key};
use crate::sync::state::Deletion;
use crate::sync::{manager_folder, scan};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Maximum number of bytes of all manifests together. Enough for half a million entries.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 128 << 20;
/// Maximum number of versions of one file that are read, because each is compared with the others.
const MAX_VERSIONS: usize = 1_000;

/// A version of a file that other machines list.
#[derive(Debug)]
pub(crate) struct ListedVersion {
    /// Path in the cloud folder.
    pub path: String,
    pub entry: ManifestEntry,
    /// Indexes in [`RemoteManifests::sources`] of the manifests that list the version.
    listed_by: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestAge {
    Current,
    /// Its machine has replaced the manifest by one under another name.
    Former,
}

#[derive(Debug)]
struct ManifestSource {
    /// The machine in the file name of the manifest; `None` for a client's copy under another name.
    machine: Option<String>,
    /// The digest that identifies the content of the manifest.
    end_digest: Option<Sha256Digest>,
}

/// The merged manifests of all other machines.
#[derive(Debug, Default)]
pub struct RemoteManifests {
    /// Versions that other machines list, by key.
    versions: HashMap<String, Vec<ListedVersion>>,
    sources: Vec<ManifestSource>,
    /// Deletions that other machines request, by key.
    deletions: HashMap<String, Vec<Deletion>>,
    /// Resolutions that other machines publish; see [`crate::sync::resolutions`].
    pub resolutions: BTreeSet<String>,
    /// End digests of manifests that a machine has replaced by one under another name, because it was cloned or
    /// restored from a backup. The new manifests list the same versions.
    former_digests: Vec<Sha256Digest>,
    /// Names of manifests that have not arrived completely or cannot be read.
    pub incomplete: Vec<String>,
    /// Names of manifests that are not downloaded to this machine.
    pub not_downloaded: Vec<String>,
    /// Paths of manifests beyond [`MAX_MANIFEST_BYTES`].
    pub too_large: Vec<String>,
    /// Numbers of versions beyond [`MAX_VERSIONS`], by key.
    pub(crate) omitted_counts: BTreeMap<String, usize>,
    /// Number of manifests of other machines, usable or not. Former manifests of this machine do not count.
    pub manifest_count: usize,
    /// Paths of files in the folder of manifests whose names do not follow the grammar.
    pub foreign: Vec<String>,
}

/// The result of reading a manifest.
enum ManifestRead {
    Complete(Box<MachineManifest>),
    /// The manifest is incomplete, has an unknown schema, or is no manifest.
    Unusable,
    NotDownloaded,
    /// Larger than the limit for all manifests together.
    TooLarge,
}

/// A file in the folder of manifests.
struct ManifestFile {
    name: String,
    path: PathBuf,
    size: u64,
    is_downloaded: bool,
}

impl RemoteManifests {
    /// Reads all manifests but the one at `own_path`, small files first, so that a huge one does not use up the limits
    /// for the others. `former_digests` are the end digests of manifests that this machine wrote under other names.
    pub(crate) fn read(
        cloud: &Path,
        own_path: &Path,
        former_digests: &[Sha256Digest],
    ) -> Result<Self, IoError> {
        let mut manifests = Self {
            former_digests: former_digests.to_vec(),
            ..Self::default()
        };

        let mut files = list_manifests(cloud)?;
        files.sort_by(|a, b| (a.size, &a.name).cmp(&(b.size, &b.name)));

        let mut remaining_bytes = MAX_MANIFEST_BYTES;
        for file in files.into_iter().filter(|file| file.path != own_path) {
            let manifest_read = if file.is_downloaded {
                read_manifest_within(&file.path, &mut remaining_bytes)
            } else {
                ManifestRead::NotDownloaded
            };

            let machine = manifest::parse_machine_name(&file.name).map(str::to_owned);
            let end_digest = match &manifest_read {
                ManifestRead::Complete(manifest) => manifest.end_digest,
                _ => None,
            };

            let shown_path = manager_folder::manifest_path(&file.name);
            let is_of_this_machine =
                end_digest.is_some_and(|digest| former_digests.contains(&digest));
            match &machine {
                Some(_) if is_of_this_machine => {}
                Some(_) => manifests.manifest_count += 1,
                None => manifests.foreign.push(shown_path.clone()),
            }

            match manifest_read {
                ManifestRead::Complete(manifest) => manifests.add_manifest(*manifest, machine),
                ManifestRead::TooLarge => manifests.too_large.push(shown_path),
                // A file under another name may be anything.
                _ if machine.is_none() => {}
                ManifestRead::Unusable => manifests.incomplete.push(file.name),
                ManifestRead::NotDownloaded => manifests.not_downloaded.push(file.name),
            }
        }

        Ok(manifests)
    }

    /// Adds a manifest. A client's copy under another name (no `machine`) still attests files, but its requests may be
    /// outdated, so they are dropped.
    fn add_manifest(&mut self, manifest: MachineManifest, machine: Option<String>) {
        let is_client_copy = machine.is_none();
        let source_index = self.sources.len();
        let end_digest = manifest.end_digest;
        self.sources.push(ManifestSource {
            machine,
            end_digest,
        });

        for (path, entry) in manifest.files {
            let versions = self.versions.entry(folded_key(&path)).or_default();
            // Most machines list the same version, so entries are shared.
            if let Some(listed) = versions.iter_mut().find(|listed| listed.entry == entry) {
                listed.listed_by.push(source_index);
            } else if versions.len() < MAX_VERSIONS {
                versions.push(ListedVersion {
                    path,
                    entry,
                    listed_by: vec![source_index],
                });
            } else {
                *self.omitted_counts.entry(folded_key(&path)).or_default() += 1;
            }
        }

        if !is_client_copy {
            for (key, deletion) in manifest.deleted {
                let deletions = self.deletions.entry(fold_name(&key)).or_default();
                deletions.push(deletion);
            }
            self.resolutions.extend(manifest.resolved);
            self.former_digests.extend(manifest.former_digests);
        }
    }

    /// Returns the versions of a file that other machines list. Ignores the letter case and the Unicode form of `key`.
    pub(crate) fn listed_versions(&self, key: &str) -> &[ListedVersion] {
        self.versions
            .get(&fold_name(key))
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn listed_entries<'m>(
        &'m self,
        key: &str,
    ) -> impl Iterator<Item = &'m ManifestEntry> + Clone + use<'m> {
        let versions = self.listed_versions(key).iter();
        versions.map(|version| &version.entry)
    }

    /// Returns the names of the machines that list `version` in manifests of this age.
    pub(crate) fn machines_that_list(
        &self,
        version: &ListedVersion,
        age: ManifestAge,
    ) -> BTreeSet<&str> {
        let sources = version.listed_by.iter().map(|index| &self.sources[*index]);
        let age_of = |source: &ManifestSource| match source.end_digest {
            Some(digest) if self.former_digests.contains(&digest) => ManifestAge::Former,
            _ => ManifestAge::Current,
        };
        let sources = sources.filter(|source| age_of(source) == age);
        let machines = sources.filter_map(|source| source.machine.as_deref());
        machines.collect()
    }

    /// Returns the key under which other machines list a file; `None` if no machine lists it. The returned key may
    /// differ from `key` in letter case and Unicode form.
    pub(crate) fn find_listed_key(&self, key: &str) -> Option<&str> {
        let found = self.versions.get_key_value(&fold_name(key));
        found.map(|(key, _)| key.as_str())
    }

    /// Returns true if another machine lists a file.
    pub(crate) fn has_listed_files(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Returns all files that other machines list, with their keys.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[ListedVersion])> {
        let versions = self.versions.iter();
        versions.map(|(key, versions)| (&**key, &**versions))
    }

    /// Returns the deletions of a file that other machines request and that none of them has cancelled.
    pub(crate) fn pending_deletions(&self, key: &str) -> impl Iterator<Item = &Deletion> {
        let requested = self.deletions.get(&fold_name(key)).into_iter().flatten();
        requested.filter(|deletion| !self.resolutions.contains(&deletion.id))
    }
}

/// Reads a manifest and, if it is complete, subtracts its bytes from the remaining ones.
fn read_manifest_within(path: &Path, remaining_bytes: &mut u64) -> ManifestRead {
    let mut read_file = || -> io::Result<_> {
        let file = file_open::open(path)?;
        let size = file.metadata()?.len();
        if size > *remaining_bytes {
            return Ok(ManifestRead::TooLarge);
        }
        // The file may grow while it is read.
        let Some(manifest) = manifest::parse(BufReader::new(file.take(size)))? else {
            return Ok(ManifestRead::Unusable);
        };
        *remaining_bytes -= size;
        Ok(ManifestRead::Complete(Box::new(manifest)))
    };
    // A client may remove or lock the file at any moment; the next run reads it.
    read_file().unwrap_or(ManifestRead::Unusable)
}

/// Lists the files in the folder of manifests.
fn list_manifests(cloud: &Path) -> Result<Vec<ManifestFile>, IoError> {
    let folder = manager_folder::manifests_folder(cloud);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("list", &folder),
    };

    let mut manifest_files = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(meta) = entry.metadata().ok().filter(Metadata::is_file) else {
            continue;
        };

        let placeholder_target = cloud_names::placeholder_target(&name);
        // Temp files of this program and of clients begin with a dot.
        if placeholder_target.is_none() && name.starts_with('.') {
            continue;
        }

        let path = folder.join(placeholder_target.as_deref().unwrap_or(&name));
        // The downloaded manifest has an entry of its own.
        if placeholder_target.is_some() && path.exists() {
            continue;
        }

        manifest_files.push(ManifestFile {
            is_downloaded: placeholder_target.is_none() && !scan::is_dataless(&meta),
            name: placeholder_target.unwrap_or(name),
            size: meta.len(),
            path,
        });
    }
    Ok(manifest_files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::state::SyncState;

    /// Returns a cloud folder with these manifests.
    fn cloud(manifests: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let cloud = tempfile::tempdir().unwrap();
        let folder = manager_folder::manifests_folder(cloud.path());
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in manifests {
            fs::write(folder.join(name), bytes).unwrap();
        }
        cloud
    }

    fn encoded(paths: &[&str]) -> Vec<u8> {
        let entry = |path: &&str| ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(path.as_bytes()),
        };
        let files = paths.iter().map(|path| ((*path).to_owned(), entry(path)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let files: BTreeMap<_, _> = files.collect();
        let encoded = manifest::encode("x", &files, &SyncState::default()).unwrap();
        encoded.write(folder.path(), &path).unwrap();
        file_open::read(&path).unwrap()
    }

    fn read(cloud: &tempfile::TempDir) -> RemoteManifests {
        RemoteManifests::read(cloud.path(), Path::new("own"), &[]).unwrap()
    }

    #[test]
    fn a_manifest_over_the_limit_is_reported_and_the_others_are_read() {
        let large = "lap-00000001.jsonl";
        let cloud = cloud(&[("desk-00000000.jsonl", encoded(&["skills/a"]))]);
        let path = manager_folder::manifests_folder(cloud.path()).join(large);
        let file = fs::File::create(path).unwrap();
        file.set_len(MAX_MANIFEST_BYTES + 1).unwrap();
        let all = read(&cloud);
        assert_eq!(all.listed_versions("skills/a").len(), 1);
        assert_eq!(all.too_large, [manager_folder::manifest_path(large)]);
        // The machine counts, whatever its manifest contains.
        assert_eq!((all.manifest_count, all.incomplete.len()), (2, 0));
    }

    #[test]
    fn versions_of_a_file_beyond_the_limit_are_counted() {
        // Names that differ in letter case only are one file.
        let spell = |number: usize| -> String {
            let letter = |bit: usize| if number >> bit & 1 == 1 { 'A' } else { 'a' };
            format!("skills/{}", (0..10).map(letter).collect::<String>())
        };
        let names: Vec<_> = (0..MAX_VERSIONS + 2).map(spell).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let cloud = cloud(&[("desk-00000000.jsonl", encoded(&names))]);
        let all = read(&cloud);
        assert_eq!(all.listed_versions(names[0]).len(), MAX_VERSIONS);
        assert_eq!(all.omitted_counts, BTreeMap::from([(spell(0), 2)]));
    }

    #[test]
    fn a_placeholder_of_the_manifest_of_another_machine_counts_as_a_machine() {
        let own = "desk-00000000.jsonl";
        for name in ["lap-00000001.jsonl", own] {
            let stand_in = format!(".{name}.icloud");
            let cloud = cloud(&[(&stand_in, b"bplist".to_vec())]);
            let own = manager_folder::manifests_folder(cloud.path()).join(own);
            let all = RemoteManifests::read(cloud.path(), &own, &[]).unwrap();
            let is_other = !own.ends_with(name);
            let expected: &[&str] = if is_other { &[name] } else { &[] };
            assert_eq!(all.not_downloaded, expected);
            assert_eq!(all.manifest_count, expected.len());
            assert_eq!(scan::is_placeholder(&own), !is_other);
            assert_eq!(manifest::list_paths(cloud.path()).count(), 1);
            // Once the manifest is downloaded, its placeholder is ignored.
            let remote = manager_folder::manifests_folder(cloud.path()).join(name);
            fs::write(&remote, encoded(&["skills/a"])).unwrap();
            let all = RemoteManifests::read(cloud.path(), &own, &[]).unwrap();
            assert_eq!(
                (all.not_downloaded.len(), all.manifest_count),
                (0, expected.len())
            );
        }
    }
}
