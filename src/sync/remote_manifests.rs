//! What all machines say, read from their manifests in the cloud folder.
//!
//! Whoever may write to that folder may put anything there: what is read of it is bounded, and what goes
//! beyond that is named and not read.

use super::cloud_names;
use super::manifest::{self, MachineManifest, ManifestEntry, ManifestRejection, fold_name, key_of};
use super::scan;
use super::state::Deletion;
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, file_open};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// How much of what is said is read.
#[derive(Debug, Clone, Copy)]
pub struct ManifestLimits {
    /// How many files are looked at in the folder of manifests.
    pub files: usize,
    /// Bytes of all manifests together.
    pub bytes: u64,
    /// Lines of all manifests together.
    pub lines: usize,
    /// Bytes of one line: a path, and what came before the file.
    pub line_bytes: u64,
    /// Versions of one file.
    pub versions: usize,
}

/// Far beyond what homes reach: half a million files of ten machines have 1.2 million lines of 250 bytes, for
/// nobody vouches for what another one does.
pub const MANIFEST_LIMITS: ManifestLimits = ManifestLimits {
    files: 10_000,
    bytes: 1 << 30,
    lines: 4_000_000,
    line_bytes: 64 << 10,
    versions: 1_000,
};

/// What is said of a manifest that is not on this machine.
pub const NOT_DOWNLOADED: &str = "what another machine says, which is not downloaded to this machine: have the cloud client download it";

/// What all machines say.
#[derive(Debug, Default)]
pub struct RemoteManifests {
    /// What the others say, by key.
    others: HashMap<String, Vec<ManifestEntry>>,
    /// The digests of those of them that are packed: their sizes are not those of their texts.
    compressed: HashSet<Sha256Digest>,
    /// Deletions that others ask for, by key.
    deleted: HashMap<String, Vec<Deletion>>,
    /// What others call settled.
    pub resolutions: BTreeSet<String>,
    /// Names of manifests that have not arrived whole.
    pub incomplete: Vec<String>,
    /// Names of manifests that are not downloaded to this machine.
    pub not_downloaded: Vec<String>,
    /// What is not read because it is more than that, and why.
    pub refused: Vec<(String, String)>,
    /// How many other machines there are.
    pub machines: usize,
    /// Names in our folder that are nobody's.
    pub foreign: Vec<String>,
}

/// A file in the folder of manifests.
struct ManifestFile {
    name: String,
    path: PathBuf,
    size: u64,
    is_downloaded: bool,
}

impl RemoteManifests {
    /// Reads them all. `own` is the path of this machine's; `former` are the ends of those that it wrote
    /// under other names.
    pub fn read(
        cloud: &Path,
        own: &Path,
        former: &[Sha256Digest],
        limits: &ManifestLimits,
    ) -> Result<Self, IoError> {
        let mut all = Self::default();
        for_each_manifest(cloud, own, limits, |file, said| {
            let is_ours = manifest::is_manifest_name(&file.name);
            let mut is_former = false;
            match said {
                ManifestRead::Complete(manifest) => {
                    is_former = manifest.end.is_some_and(|end| former.contains(&end));
                    if !all.take(*manifest, is_ours, limits.versions) {
                        all.refuse(&file.name, "it has too many versions of one file");
                    }
                }
                ManifestRead::Unusable if is_ours => all.incomplete.push(file.name.clone()),
                ManifestRead::NotDownloaded if is_ours => {
                    all.not_downloaded.push(file.name.clone())
                }
                ManifestRead::Unusable | ManifestRead::NotDownloaded => {}
                ManifestRead::OverLimit(why) => all.refuse(&file.name, why),
            }
            if is_ours {
                all.machines += usize::from(!is_former);
            } else if !file.name.is_empty() {
                all.foreign.push(manifest::display_name(&file.name));
            }
        })?;
        Ok(all)
    }

    fn refuse(&mut self, name: &str, why: &str) {
        let why = format!(
            "{why}: it is not read; if no machine of yours wrote it, remove it from the cloud folder"
        );
        self.refused.push((manifest::display_name(name), why));
    }

    /// What a client has put aside under another name still tells which files are whole; what it asks
    /// for may be of yesterday. Whether all versions found room.
    fn take(&mut self, manifest: MachineManifest, is_current: bool, most: usize) -> bool {
        let mut fits = true;
        for (path, written) in manifest.files {
            let versions = self.others.entry(key_of(&path)).or_default();
            if versions.len() >= most {
                fits = false;
            } else if !versions.contains(&written) {
                if path.ends_with(rollout::ZST) {
                    self.compressed.insert(written.digest);
                }
                versions.push(written);
            }
        }
        if is_current {
            for (path, deletion) in manifest.deleted {
                let deletions = self.deleted.entry(fold_name(&path)).or_default();
                if deletions.len() >= most {
                    fits = false;
                } else {
                    deletions.push(deletion);
                }
            }
            self.resolutions.extend(manifest.resolved);
        }
        fits
    }

    /// The versions of a file that other machines say they wrote; `key` in any spelling.
    pub fn entries(&self, key: &str) -> &[ManifestEntry] {
        self.others.get(&fold_name(key)).map_or(&[], Vec::as_slice)
    }

    /// Whether a version that another machine lists is packed.
    pub fn is_compressed(&self, version: &ManifestEntry) -> bool {
        self.compressed.contains(&version.digest)
    }

    /// The key that other machines list a file under, where one does; `key` in any spelling.
    pub fn listed_key(&self, key: &str) -> Option<&str> {
        let found = self.others.get_key_value(&fold_name(key));
        found.map(|(key, _)| key.as_str())
    }

    /// The keys of all files that other machines list.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }

    /// The deletions of a file that other machines ask for and nobody has called settled.
    pub fn deletions(&self, key: &str) -> impl Iterator<Item = &Deletion> {
        let asked = self.deleted.get(&fold_name(key)).into_iter().flatten();
        asked.filter(|deletion| !self.resolutions.contains(&deletion.id))
    }
}

/// A version of a file that a machine lists in its manifest.
#[derive(Debug, Clone)]
pub struct ListedVersion {
    /// The machine.
    pub machine: String,
    /// The path in the cloud folder.
    pub path: String,
    /// The version.
    pub written: ManifestEntry,
}

/// The versions of the files of these keys that other machines list, by key. `former` are the ends of manifests
/// that this machine wrote under other names: they are none of another machine.
///
/// # Errors
/// The folder of manifests cannot be listed.
pub fn listed_versions(
    cloud: &Path,
    own: &Path,
    former: &[Sha256Digest],
    wanted: &HashSet<String>,
    limits: &ManifestLimits,
) -> Result<HashMap<String, Vec<ListedVersion>>, IoError> {
    let mut versions: HashMap<String, Vec<ListedVersion>> = HashMap::new();
    if wanted.is_empty() {
        return Ok(versions);
    }
    for_each_manifest(cloud, own, limits, |file, said| {
        let (ManifestRead::Complete(manifest), Some(machine)) =
            (said, manifest::machine_name(&file.name))
        else {
            return;
        };
        if manifest.end.is_some_and(|end| former.contains(&end)) {
            return;
        }
        for (path, written) in manifest.files {
            let key = key_of(&path);
            if wanted.contains(&key) {
                versions.entry(key).or_default().push(ListedVersion {
                    machine: machine.to_owned(),
                    path,
                    written,
                });
            }
        }
    })?;
    Ok(versions)
}

/// Names of manifests of other machines that are not downloaded to this one. Opens none.
pub fn not_downloaded(cloud: &Path, own: &Path) -> Result<Vec<String>, IoError> {
    let (listed, _) = list_manifests(cloud, MANIFEST_LIMITS.files)?;
    let others = listed.into_iter().filter(|file| file.path != own);
    let others =
        others.filter(|file| !file.is_downloaded && manifest::is_manifest_name(&file.name));
    Ok(others.map(|file| file.name).collect())
}

/// Whether a file is there without being downloaded to this machine.
pub fn is_placeholder(path: &Path) -> bool {
    let meta = path.symlink_metadata();
    meta.as_ref().is_ok_and(scan::is_dataless)
        || meta.is_err() && cloud_names::placeholders_of(path).any(|path| path.exists())
}

/// What this machine's manifest at `own` says, by key: the client may have brought back one of an earlier
/// day. Nothing where it is not whole.
pub fn read_own_entries(own: &Path) -> HashMap<String, Vec<ManifestEntry>> {
    let mut by_key: HashMap<String, Vec<ManifestEntry>> = HashMap::new();
    let mut room = MANIFEST_LIMITS;
    if let ManifestRead::Complete(manifest) = read_manifest(own, &mut room) {
        for (path, written) in manifest.files {
            by_key.entry(key_of(&path)).or_default().push(written);
        }
    }
    by_key
}

/// What one file says.
enum ManifestRead {
    Complete(Box<MachineManifest>),
    /// It is not whole, or is none.
    Unusable,
    NotDownloaded,
    OverLimit(&'static str),
}

/// Gives `take` each file but `own`, the small ones first: one that is absurd leaves room for those that are
/// not. Where there are more files than are looked at, it is told so of a file without a name.
fn for_each_manifest(
    cloud: &Path,
    own: &Path,
    limits: &ManifestLimits,
    mut take: impl FnMut(&ManifestFile, ManifestRead),
) -> Result<(), IoError> {
    let (mut listed, is_all) = list_manifests(cloud, limits.files)?;
    listed.sort_by(|a, b| (a.size, &a.name).cmp(&(b.size, &b.name)));
    let mut room = *limits;
    for file in listed.iter().filter(|file| file.path != own) {
        let said = if file.is_downloaded {
            read_manifest(&file.path, &mut room)
        } else {
            ManifestRead::NotDownloaded
        };
        take(file, said);
    }
    if !is_all {
        let rest = ManifestFile {
            name: String::new(),
            path: PathBuf::new(),
            size: 0,
            is_downloaded: true,
        };
        take(
            &rest,
            ManifestRead::OverLimit("more files are there than are read"),
        );
    }
    Ok(())
}

/// Reads a manifest, and takes what it needs from the room that is left.
fn read_manifest(path: &Path, room: &mut ManifestLimits) -> ManifestRead {
    let read = || -> io::Result<_> {
        let file = file_open::open(path)?;
        let size = file.metadata()?.len();
        if size > room.bytes {
            let why = "it is larger than all that is read together";
            return Ok((Err(ManifestRejection::OverLimit(why)), size));
        }
        // It may grow meanwhile.
        let reader = BufReader::new(file.take(size));
        Ok((manifest::parse(reader, room.lines, room.line_bytes)?, size))
    };
    match read() {
        Ok((Ok((manifest, lines)), size)) => {
            room.bytes = room.bytes.saturating_sub(size);
            room.lines = room.lines.saturating_sub(lines);
            ManifestRead::Complete(Box::new(manifest))
        }
        Ok((Err(ManifestRejection::OverLimit(why)), _)) => ManifestRead::OverLimit(why),
        Ok((Err(ManifestRejection::Incomplete), _)) | Err(_) => ManifestRead::Unusable,
    }
}

/// At most so many files of the folder of manifests, and whether these are all.
fn list_manifests(cloud: &Path, most: usize) -> Result<(Vec<ManifestFile>, bool), IoError> {
    let folder = manifest::folder(cloud);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true)),
        Err(e) => return Err(e).at("list", &folder),
    };
    let mut listed = Vec::new();
    for (index, entry) in entries.flatten().enumerate() {
        if index == most {
            return Ok((listed, false));
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(meta) = entry.metadata().ok().filter(Metadata::is_file) else {
            continue;
        };
        let stands_for = cloud_names::placeholder_target(&name);
        if stands_for.is_none() && name.starts_with('.') {
            continue;
        }
        let path = folder.join(stands_for.as_deref().unwrap_or(&name));
        if stands_for.is_some() && path.exists() {
            continue;
        }
        listed.push(ManifestFile {
            is_downloaded: stands_for.is_none() && !scan::is_dataless(&meta),
            name: stands_for.unwrap_or(name),
            size: meta.len(),
            path,
        });
    }
    Ok((listed, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::state::SyncState;
    use std::collections::BTreeMap;

    const SMALL: ManifestLimits = ManifestLimits {
        files: 8,
        bytes: 4096,
        lines: 12,
        line_bytes: 512,
        versions: 3,
    };

    /// A cloud folder with these manifests.
    fn cloud(manifests: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let cloud = tempfile::tempdir().unwrap();
        let folder = manifest::folder(cloud.path());
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in manifests {
            fs::write(folder.join(name), bytes).unwrap();
        }
        cloud
    }

    fn said(paths: &[&str]) -> Vec<u8> {
        let written = |path: &&str| ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(path.as_bytes()),
            history: None,
        };
        let files = paths.iter().map(|path| ((*path).to_owned(), written(path)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let files: BTreeMap<_, _> = files.collect();
        let encoded = manifest::encode("x", &files, &SyncState::default()).unwrap();
        encoded.write(folder.path(), &path).unwrap();
        file_open::read(&path).unwrap()
    }

    fn read(cloud: &tempfile::TempDir) -> RemoteManifests {
        RemoteManifests::read(cloud.path(), Path::new("own"), &[], &SMALL).unwrap()
    }

    #[test]
    fn what_is_more_than_is_read_is_named_and_the_rest_is_read() {
        let honest = ("desk-00000000.jsonl", said(&["skills/a"]));
        let long = said(&[&*"d/".repeat(300)]);
        let many: Vec<String> = (0..12).map(|n| format!("skills/{n}")).collect();
        let many = said(&many.iter().map(String::as_str).collect::<Vec<_>>());
        for (bytes, told) in [
            (vec![0; 8192], "larger than"),
            (vec![b'x'; 3000], "longer than"),
            (long, "longer than"),
            (many, "more lines"),
            (said(&["A/b", "a/B", "a/b", "A/B"]), "versions of one file"),
        ] {
            let cloud = cloud(&[honest.clone(), ("lap-00000001.jsonl", bytes)]);
            let all = read(&cloud);
            assert_eq!(all.entries("skills/a").len(), 1, "{told}");
            let [(path, why)] = &*all.refused else {
                panic!("{told}: {:?}", all.refused);
            };
            assert!(path.ends_with("machines/lap-00000001.jsonl"), "{path}");
            assert!(why.contains(told), "{why}");
            // It is there, whatever it says.
            assert_eq!((all.machines, all.incomplete.len()), (2, 0));
        }
    }

    #[test]
    fn lines_and_bytes_count_together_and_files_are_not_without_end() {
        let names: Vec<_> = (0..9).map(|n| format!("desk-0000000{n}.jsonl")).collect();
        let few = |count: usize, paths: &[&str]| {
            let first = names.iter().take(count);
            let all: Vec<_> = first.map(|name| (&**name, said(paths))).collect();
            read(&cloud(&all))
        };
        assert!(few(8, &["skills/a"]).refused.is_empty());
        let over = few(9, &["skills/a"]).refused;
        assert!(over[0].1.contains("more files"), "{over:?}");
        let over = few(4, &["skills/a", "skills/b", "skills/c", "skills/d"]).refused;
        assert_eq!(over.len(), 1, "{over:?}");
    }

    #[test]
    fn what_is_not_downloaded_is_a_machine_whose_word_is_waited_for() {
        let own = "desk-00000000.jsonl";
        for name in ["lap-00000001.jsonl", own] {
            let stand_in = format!(".{name}.icloud");
            let cloud = cloud(&[(&stand_in, b"bplist".to_vec())]);
            let own = manifest::folder(cloud.path()).join(own);
            let all = RemoteManifests::read(cloud.path(), &own, &[], &SMALL).unwrap();
            let is_other = !own.ends_with(name);
            let expected: &[&str] = if is_other { &[name] } else { &[] };
            assert_eq!(all.not_downloaded, expected);
            assert_eq!(all.machines, expected.len());
            assert_eq!(not_downloaded(cloud.path(), &own).unwrap(), expected);
            assert_eq!(is_placeholder(&own), !is_other);
            assert_eq!(manifest::all_paths(cloud.path()).count(), 1);
            // When it has come, the stand-in says nothing.
            let remote = manifest::folder(cloud.path()).join(name);
            fs::write(&remote, said(&["skills/a"])).unwrap();
            let all = RemoteManifests::read(cloud.path(), &own, &[], &SMALL).unwrap();
            assert_eq!(
                (all.not_downloaded.len(), all.machines),
                (0, expected.len())
            );
        }
    }
}
