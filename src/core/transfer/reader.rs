//! Reads an export, and checks it completely before the import changes anything.
//!
//! The file is not trusted. The manifest is the first entry, and fixes the order and the sizes of all others. It has a
//! digest of every file. Only paths that codex-manager itself exports are accepted. Nothing is compressed, so no entry
//! can expand.

use super::entries::{check_only_zeros_follow, parse_document, read_entry, read_manifest};
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
pub struct Package {
    /// The id of the export; see [`super::manifest::export_id`].
    pub id: String,
    /// The profiles by their names in the export.
    pub profiles: BTreeMap<String, ExportedProfile>,
    pub cooldown: CooldownFile,
    pub inventory: InventoryFile,
    /// One file per account.
    pub observations: Vec<ObservationsFile>,
    pub config: Option<Vec<u8>>,
    pub launches: Option<Vec<u8>>,
    /// The archives, in the order of the manifest.
    pub archives: Vec<ExportedArchive>,
    /// The bytes of each sidecar, by the name of the sidecar.
    pub sidecars: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct ExportedProfile {
    pub file: ProfileFile,
    /// The login, if it moved with the export.
    pub login: Option<(AuthSnapshot, Login)>,
}

#[derive(Debug)]
pub struct ExportedArchive {
    /// The file name in `backups/`.
    pub name: String,
    /// The archive's entry in the manifest.
    pub file: ExportFile,
    /// The path of the copy in the staging folder; `None` in a dry run.
    pub staged: Option<PathBuf>,
}

/// Reads and checks an export to its end. Copies the archives to `staging`; without `staging`, only checks them. Error
/// messages name `path`.
///
/// # Errors
/// The export is damaged, foreign or of a newer version, the disk is full, or the user interrupts.
pub fn read(
    content: impl Read,
    path: &Path,
    staging: Option<&Staging>,
    progress: &dyn Progress,
) -> Result<Package, TransferError> {
    read_package(content, staging, progress).map_err(|e| e.into_transfer_error(path))
}

fn read_package(
    content: impl Read,
    staging: Option<&Staging>,
    progress: &dyn Progress,
) -> Result<Package, PackageError> {
    let mut tar = tar::Archive::new(content);
    // Raw entries, because `tar` would apply GNU and PAX extensions, which could give an entry another name or size
    // than the one that was checked.
    let mut entries = tar.entries()?.raw(true);

    let (manifest, id) = read_manifest(&mut entries)?;
    let files = classify_files(&manifest)?;
    let archive_bytes = sum_archive_bytes(&files);
    progress.expect_bytes(archive_bytes);

    if let Some(staging) = staging {
        space::require_free_space(staging.folder(), archive_bytes)?;
    }

    let mut package = Package {
        id,
        ..Package::default()
    };
    let mut logins = BTreeMap::new();
    for (number, (part, file)) in files.into_iter().enumerate() {
        let path = file.path.as_path().to_string_lossy();
        let mut entry = read_entry(&mut entries, &path, Some(file.size))?;

        if let ExportPart::Archive(name) = part {
            let staged = staging.map(|staging| staging.path(&number.to_string()));
            check_and_copy_archive(&mut entry, &file, staged.as_deref(), progress)?;
            let archives = &mut package.archives;
            archives.push(ExportedArchive { name, file, staged });
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
        let detail = format!("an entry that is not in the manifest: {name}");
        return Err(PackageError::Damaged(detail));
    }

    // `tar` stops at the first empty block, and does not check the bytes after it.
    check_only_zeros_follow(tar.into_inner())?;

    assign_logins(&mut package, logins)?;
    check_sidecars(&package)?;
    Ok(package)
}

/// Reads the content of a file. Fails unless it has the size and the digest in the manifest.
fn read_content(entry: &mut impl Read, file: &ExportFile) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != file.size || Sha256Digest::of(&bytes) != file.sha256 {
        return Err(mismatch_error(file));
    }
    Ok(bytes)
}

fn mismatch_error(file: &ExportFile) -> PackageError {
    PackageError::Damaged(format!("{} does not match the manifest", file.path))
}

/// Returns the total size of the archives in bytes.
fn sum_archive_bytes(files: &[(ExportPart, ExportFile)]) -> u64 {
    let is_archive = |part: &ExportPart| matches!(part, ExportPart::Archive(_));
    let archives = files.iter().filter(|(part, _)| is_archive(part));
    archives.fold(0, |sum, (_, file)| sum.saturating_add(file.size))
}

impl Package {
    /// Adds the content of a file that is neither a login nor an archive, which the caller handles.
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

/// The largest total size of the files that an import holds in memory: all except the archives.
const MAX_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// Determines the kind of each file in the manifest. Fails for unknown, duplicate or too large files, and for logins or
/// archives that the manifest does not announce.
fn classify_files(
    manifest: &ExportManifest,
) -> Result<Vec<(ExportPart, ExportFile)>, PackageError> {
    let mut folded_names = HashSet::new();
    let mut classified_files = Vec::new();
    let mut memory_bytes = 0_u64;
    for file in &manifest.files {
        let damaged = |detail: &str| {
            let detail = format!("{detail}: {}", file.path);
            Err(PackageError::Damaged(detail))
        };

        let Some(part) = ExportPart::from_path(&file.path) else {
            return damaged("a file that no export contains");
        };

        // Two names that differ only in case are the same file on macOS and Windows.
        if !folded_names.insert(file.path.fold_case()) {
            return damaged("a duplicate name");
        }
        if file.size > part.max_bytes() {
            return damaged("a file that is too large");
        }

        match &part {
            ExportPart::Login(_) if !manifest.with_logins => {
                return damaged("a login in an export without logins");
            }
            ExportPart::Archive(_) if !manifest.with_archives => {
                return damaged("an archive in an export without archives");
            }
            ExportPart::Archive(_) => {}
            _ => memory_bytes = memory_bytes.saturating_add(file.size),
        }

        // The limit for each file alone would still let thousands of files fill the memory.
        if memory_bytes > MAX_MEMORY_BYTES {
            return damaged("more than 512 MiB of files in all, archives not counted");
        }
        classified_files.push((part, file.clone()));
    }
    Ok(classified_files)
}

/// Checks an archive against the manifest. Also copies it durably to `target`, if given.
fn check_and_copy_archive(
    entry: &mut impl Read,
    file: &ExportFile,
    target: Option<&Path>,
    progress: &dyn Progress,
) -> Result<(), PackageError> {
    let mut output = match target {
        None => None,
        Some(target) => Some((atomic::create_private(target)?, target)),
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
        if let Some((output, target)) = &mut output {
            output.write_all(&buffer[..n]).at("write", *target)?;
        }
        progress.add_bytes(n as u64);
    }

    if size != file.size || hasher.digest() != file.sha256 {
        return Err(mismatch_error(file));
    }
    if let Some((output, target)) = output {
        flush::sync_all(&output).at("fsync", target)?;
    }
    Ok(())
}

/// Adds each login to the profile of the same name. Fails if a login belongs to another account than its profile, or if
/// two profiles are of the same account.
fn assign_logins(
    package: &mut Package,
    logins: BTreeMap<String, SecretBytes>,
) -> Result<(), PackageError> {
    let mut accounts: Vec<&Identity> = Vec::new();
    for (name, profile) in &package.profiles {
        let Some(identity) = &profile.file.identity else {
            let detail = format!("the profile {name} names no account");
            return Err(PackageError::Damaged(detail));
        };
        let mut accounts_so_far = accounts.iter();
        if accounts_so_far.any(|account| account.is_same(identity)) {
            let detail = format!("two profiles of {identity}");
            return Err(PackageError::Damaged(detail));
        }
        accounts.push(identity);
    }

    // The export may list a login before its profile, so the logins are assigned once all profiles are read.
    for (name, bytes) in logins {
        let profile_error =
            |problem: &str| PackageError::Damaged(format!("the profile {name} {problem}"));
        let Some(profile) = package.profiles.get_mut(&name) else {
            return Err(profile_error("is missing"));
        };
        let Ok(snapshot) = AuthSnapshot::parse(bytes.expose().to_vec()) else {
            return Err(profile_error("has an auth.json that cannot be parsed"));
        };
        let Some(login) = snapshot.login.clone() else {
            return Err(profile_error("has no login"));
        };

        let identity = profile.file.identity.as_ref();
        let is_of_account = identity.is_some_and(|identity| identity.is_same(&login.identity));
        if !is_of_account {
            if login.identity.kind.is_renewable() {
                return Err(profile_error("has the login of another account"));
            }
            // Earlier versions exported an API key under the account of the tokens in the same auth.json.
            profile.file = ProfileFile {
                identity: Some(login.identity.clone()),
                ..ProfileFile::default()
            };
        }
        profile.login = Some((snapshot, login));
    }
    Ok(())
}

/// Returns false if the sidecar certainly describes another archive. The manifest has only a SHA-256, so a sidecar with
/// a BLAKE3 digest is compared by the size of its archive.
fn may_describe(sidecar: &Metadata, file: &ExportFile) -> bool {
    match sidecar.archive_digest() {
        Some(ContentDigest::Sha256(digest)) => digest.to_string() == file.sha256.to_string(),
        Some(ContentDigest::Blake3(_)) => sidecar.archive_bytes == file.size,
        None => true,
    }
}

/// Checks that each sidecar can be parsed. If the export has the archive of the same name, also checks that the sidecar
/// may describe it.
fn check_sidecars(package: &Package) -> Result<(), PackageError> {
    for (name, bytes) in &package.sidecars {
        let metadata = match sidecar::parse(Path::new(name), bytes) {
            Ok(metadata) => metadata,
            Err(SidecarProblem::Newer(found)) => return Err(PackageError::Newer(found)),
            Err(_) => {
                let detail = format!("{name} is not a sidecar");
                return Err(PackageError::Damaged(detail));
            }
        };

        let is_described =
            |archive: &&ExportedArchive| names::sidecar_name(&archive.name).as_ref() == Some(name);
        if let Some(archive) = package.archives.iter().find(is_described)
            && !may_describe(&metadata, &archive.file)
        {
            let detail = format!("{name} does not describe the archive {}", archive.name);
            return Err(PackageError::Damaged(detail));
        }
    }
    Ok(())
}
