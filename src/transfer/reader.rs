//! Reads an export and checks all of it before anything is changed.
//!
//! The file is not trusted. The manifest comes first and fixes order and size of all entries. Only
//! names that this program writes are accepted. Every byte is covered by a digest. Nothing is
//! compressed, so nothing can expand.

use super::entries::{check_end, parse_document, read_entry, read_manifest};
use super::error::{PackageError, TransferError};
use super::manifest::{ExportFile, ExportManifest, ExportPart};
use crate::accounts::ProfileFile;
use crate::archive::{EntryName, Metadata, SidecarProblem, names, sidecar};
use crate::codex::{AuthSnapshot, Identity, Login};
use crate::inventory::{CooldownFile, InventoryFile, ObservationsFile};
use crate::io::{
    ContentDigest, Hasher, IoContext, Progress, SecretBytes, Sha256Digest, Staging, atomic, flush,
    is_interrupted, space,
};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The checked content of an export.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// The id of the export; see [`super::manifest::export_id`].
    pub id: String,
    /// The profiles by their names in the export.
    pub profiles: BTreeMap<String, ExportedProfile>,
    pub cooldown: CooldownFile,
    pub inventory: InventoryFile,
    /// The observations of each account.
    pub observations: Vec<ObservationsFile>,
    pub config: Option<Vec<u8>>,
    pub launches: Option<Vec<u8>>,
    /// The archives, in the order of the manifest.
    pub archives: Vec<ExportedArchive>,
    /// The sidecars by name, verbatim.
    pub sidecars: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct ExportedProfile {
    pub file: ProfileFile,
    /// The login, if it moved with the export.
    pub login: Option<(AuthSnapshot, Login)>,
}

#[derive(Debug)]
pub(crate) struct ExportedArchive {
    /// The name below `backups/`.
    pub name: String,
    /// The entry of the manifest.
    pub file: ExportFile,
    /// The path of its copy in the staging folder; `None` in a dry run.
    pub staged: Option<PathBuf>,
}

/// Reads and checks an export to its end. Archives are copied to `staging`, or only checked without
/// it. `path` is for error messages.
///
/// # Errors
/// The export is damaged, foreign or of a newer version, the disk is full, or the user interrupts.
pub(crate) fn read(
    content: impl Read,
    path: &Path,
    staging: Option<&Staging>,
    progress: &dyn Progress,
) -> Result<Package, TransferError> {
    read_package(content, staging, progress).map_err(|e| e.at_path(path))
}

fn read_package(
    content: impl Read,
    staging: Option<&Staging>,
    progress: &dyn Progress,
) -> Result<Package, PackageError> {
    let mut tar = tar::Archive::new(content);
    // Raw: GNU and PAX extensions could give an entry another name or size than the one that was checked.
    let mut entries = tar.entries()?.raw(true);
    let (manifest, id) = read_manifest(&mut entries)?;
    let parts = check_files(&manifest)?;
    let archive_bytes = sum_archive_bytes(&parts);
    progress.expect_bytes(archive_bytes);
    if let Some(staging) = staging {
        let folder = staging.path("");
        space::require(&folder, archive_bytes, space::free_bytes(&folder))?;
    }
    let mut package = Package {
        id,
        ..Package::default()
    };
    let mut logins = BTreeMap::new();
    for (number, (part, file)) in parts.into_iter().enumerate() {
        let path = file.path.as_path().to_string_lossy();
        let mut entry = read_entry(&mut entries, &path, Some(file.size))?;
        if let ExportPart::Archive(name) = part {
            let place = staging.map(|staging| staging.path(&number.to_string()));
            extract(&mut entry, &file, place.as_deref(), progress)?;
            package.archives.push(ExportedArchive {
                name,
                file,
                staged: place,
            });
            continue;
        }
        let bytes = read_content(&mut entry, &file)?;
        if let ExportPart::Login(name) = part {
            logins.insert(name, SecretBytes::new(bytes));
        } else {
            package.add_part(part, &file.path, bytes)?;
        }
    }
    if let Some(extra) = entries.next().transpose()? {
        let name = String::from_utf8_lossy(&extra.path_bytes()).into_owned();
        let what = format!("an entry that is not in the manifest: {name}");
        return Err(PackageError::Damaged(what));
    }
    // `tar` stops at the first empty block, so bytes after it would go unchecked.
    check_end(tar.into_inner())?;
    assign_logins(&mut package, logins)?;
    check_sidecars(&package)?;
    Ok(package)
}

/// Reads the content of a file and compares it with the manifest.
fn read_content(entry: &mut impl Read, file: &ExportFile) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != file.size || Sha256Digest::of(&bytes) != file.sha256 {
        return Err(mismatch_error(file));
    }
    Ok(bytes)
}

fn mismatch_error(file: &ExportFile) -> PackageError {
    PackageError::damaged(format!("{} does not match the manifest", file.path))
}

/// Returns the size of the archives together, in bytes.
fn sum_archive_bytes(parts: &[(ExportPart, ExportFile)]) -> u64 {
    let archives = parts
        .iter()
        .filter(|(part, _)| matches!(part, ExportPart::Archive(_)));
    archives.fold(0, |sum, (_, file)| sum.saturating_add(file.size))
}

impl Package {
    /// Adds the content of a file that is neither a login nor an archive.
    fn add_part(
        &mut self,
        part: ExportPart,
        name: &EntryName,
        bytes: Vec<u8>,
    ) -> Result<(), PackageError> {
        match part {
            ExportPart::Cooldown => self.cooldown = parse_document(name, &bytes)?,
            ExportPart::Inventory => self.inventory = parse_document(name, &bytes)?,
            ExportPart::Observations => {
                self.observations.push(parse_document(name, &bytes)?);
            }
            ExportPart::Config => self.config = Some(bytes),
            ExportPart::Launches => self.launches = Some(bytes),
            ExportPart::Sidecar(name) => {
                self.sidecars.insert(name, bytes);
            }
            ExportPart::Profile(profile) => {
                let file = parse_document(name, &bytes)?;
                self.profiles
                    .insert(profile, ExportedProfile { file, login: None });
            }
            ExportPart::Login(_) | ExportPart::Archive(_) => {}
        }
        Ok(())
    }
}

/// Determines the kind of each file. Fails for duplicate names, unknown files, and files that are
/// too large.
fn check_files(manifest: &ExportManifest) -> Result<Vec<(ExportPart, ExportFile)>, PackageError> {
    let mut seen = HashSet::new();
    let mut parts = Vec::new();
    let mut in_memory = 0_u64;
    for file in &manifest.files {
        let wrong = |what: &str| {
            let text = format!("{what}: {}", file.path);
            Err(PackageError::damaged(text))
        };
        let Some(part) = ExportPart::from_path(&file.path) else {
            return wrong("not a file of an export");
        };
        // Two names that differ in case alone are one file on macOS and Windows.
        if !seen.insert(file.path.fold_case()) {
            return wrong("a duplicate name");
        }
        if file.size > part.max_bytes() {
            return wrong("too large");
        }
        match &part {
            ExportPart::Login(_) if !manifest.with_logins => {
                return wrong("a login, but its manifest lists none");
            }
            ExportPart::Archive(_) if !manifest.with_archives => {
                return wrong("an archive, but its manifest lists none");
            }
            ExportPart::Archive(_) => {}
            _ => in_memory = in_memory.saturating_add(file.size),
        }
        // Each limit alone would still let thousands of files fill the memory.
        if in_memory > 512 * 1024 * 1024 {
            return wrong("more than 512 MiB without the archives");
        }
        parts.push((part, file.clone()));
    }
    Ok(parts)
}

/// Copies an archive durably to `place`, or only checks it if `place` is `None`.
fn extract(
    entry: &mut impl Read,
    file: &ExportFile,
    place: Option<&Path>,
    progress: &dyn Progress,
) -> Result<(), PackageError> {
    let mut output = match place {
        None => None,
        Some(place) => Some((atomic::create_private(place)?, place)),
    };
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        if is_interrupted() {
            return Err(TransferError::Interrupted.into());
        }
        let n = entry.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
        if let Some((output, place)) = &mut output {
            output.write_all(&buffer[..n]).at("write", *place)?;
        }
        progress.add_bytes(n as u64);
    }
    if size != file.size || hasher.digest() != file.sha256 {
        return Err(mismatch_error(file));
    }
    if let Some((output, place)) = output {
        flush::sync_all(&output).at("fsync", place)?;
    }
    Ok(())
}

/// Assigns each login to its profile. Fails if it is of another account.
fn assign_logins(
    package: &mut Package,
    logins: BTreeMap<String, SecretBytes>,
) -> Result<(), PackageError> {
    let mut accounts: Vec<&Identity> = Vec::new();
    for (name, profile) in &package.profiles {
        let Some(identity) = &profile.file.identity else {
            let text = format!("the profile {name} names no account");
            return Err(PackageError::damaged(text));
        };
        if accounts.iter().any(|known| known.is_same(identity)) {
            let text = format!("two profiles of {identity}");
            return Err(PackageError::damaged(text));
        }
        accounts.push(identity);
    }
    for (name, bytes) in logins {
        let wrong = |what: &str| PackageError::damaged(format!("the profile {name} {what}"));
        let profile = package
            .profiles
            .get_mut(&name)
            .ok_or_else(|| wrong("is missing"))?;
        let snapshot = AuthSnapshot::parse(bytes.expose().to_vec())
            .map_err(|_| wrong("has an auth.json that cannot be parsed"))?;
        let login = snapshot
            .login
            .clone()
            .ok_or_else(|| wrong("has no login"))?;
        let is_own = |noted: &Identity| noted.is_same(&login.identity);
        if !profile.file.identity.as_ref().is_some_and(is_own) {
            return Err(wrong("has the login of another account"));
        }
        profile.login = Some((snapshot, login));
    }
    Ok(())
}

/// Returns false if the sidecar certainly describes another archive: an older one by its SHA-256, a newer one by the
/// size, because its digest is no SHA-256.
fn may_describe(sidecar: &Metadata, file: &ExportFile) -> bool {
    match sidecar.archive_digest() {
        Some(ContentDigest::Sha256(digest)) => digest.to_string() == file.sha256.to_string(),
        Some(ContentDigest::Blake3(_)) => sidecar.archive_bytes == file.size,
        None => true,
    }
}

/// Checks that each sidecar can be parsed and describes the archive of its name.
fn check_sidecars(package: &Package) -> Result<(), PackageError> {
    for (name, bytes) in &package.sidecars {
        let metadata = match sidecar::parse(Path::new(name), bytes) {
            Ok(metadata) => metadata,
            Err(SidecarProblem::Newer(found)) => return Err(PackageError::Newer(found)),
            Err(_) => {
                let text = format!("{name} is not a sidecar");
                return Err(PackageError::damaged(text));
            }
        };
        let is_described = |archive: &&ExportedArchive| {
            names::sidecar_name(&archive.name).as_deref() == Some(name.as_str())
        };
        if let Some(archive) = package.archives.iter().find(is_described)
            && !may_describe(&metadata, &archive.file)
        {
            let text = format!("{name} does not describe the archive {}", archive.name);
            return Err(PackageError::damaged(text));
        }
    }
    Ok(())
}
