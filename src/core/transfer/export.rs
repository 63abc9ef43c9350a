//! Plans and writes an export.

use super::error::TransferError;
use super::handover::{self, MovedLogin};
use super::manifest::{
    self, BACKUPS, CONFIG, ExportFile, ExportManifest, ExportPart, LAUNCHES, MANIFEST_ENTRY,
    PRODUCT, PROFILE_JSON, PROFILES,
};
use super::seal::Encryption;
use crate::accounts::{LoginOwner, Profile, ProfileFile, Profiles};
use crate::archive::{EntryName, Metadata, names};
use crate::codex::AUTH_JSON;
use crate::inventory::{
    ArchiveProblem, ArchiveRecord, InventoryFile, cooldown, observations, store,
};
use crate::io::{
    Document, DocumentState, Hasher, IoContext, IoError, OrdinaryPath, Progress, SecretBytes,
    Sha256Digest, TempFile, Timestamp, Zone, atomic, document, file_open, flush, is_interrupted,
    tree,
};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy)]
pub struct ExportOptions<'a> {
    pub manager_home: &'a Path,
    /// The live Codex home, whose login does not move into the export.
    pub codex_home: &'a Path,
    /// Moves the logins of the profiles into the export.
    pub with_logins: bool,
    /// Includes the archives, which requires encryption.
    pub with_archives: bool,
    pub now: Timestamp,
    /// The time zone of times in documents that have no offset.
    pub zone: Zone,
}

/// A profile or file that is not exported or imported, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTransferred {
    pub name: String,
    pub reason: String,
}

#[derive(Debug, Default)]
pub struct ExportPlan {
    pub manifest: ExportManifest,
    /// The logins that move into the export.
    pub logins: Vec<MovedLogin>,
    pub archives: usize,
    /// The profiles and files that are not exported, and the profiles that are exported without their login.
    pub left: Vec<NotTransferred>,
    /// The contents of `manifest.files`, in the same order.
    contents: Vec<ExportContent>,
}

#[derive(Debug)]
enum ExportContent {
    Bytes(SecretBytes),
    File(PathBuf),
}

impl ExportPlan {
    pub fn total_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.size).sum()
    }

    fn add(&mut self, path: &Path, bytes: Vec<u8>) -> Result<(), TransferError> {
        self.manifest.files.push(ExportFile {
            path: entry_name(path)?,
            size: bytes.len() as u64,
            sha256: Sha256Digest::of(&bytes),
        });
        let content = ExportContent::Bytes(SecretBytes::new(bytes));
        self.contents.push(content);
        Ok(())
    }

    fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.left.push(NotTransferred {
            name: name.into(),
            reason: reason.into(),
        });
    }
}

fn entry_name(path: &Path) -> Result<EntryName, TransferError> {
    let name = EntryName::from_path(path).map_err(io::Error::other);
    Ok(name.at("export", path)?)
}

/// Plans an export without writing anything. `progress` counts the bytes of archives, which are read to compute their
/// digests.
///
/// # Errors
/// A file cannot be read, or the user interrupts.
pub fn plan(
    options: &ExportOptions<'_>,
    progress: &dyn Progress,
) -> Result<ExportPlan, TransferError> {
    let home = options.manager_home;
    let mut plan = ExportPlan {
        manifest: ExportManifest {
            product: PRODUCT.into(),
            created_at: Some(options.now),
            manager_version: env!("CARGO_PKG_VERSION").into(),
            with_logins: options.with_logins,
            with_archives: options.with_archives,
            files: Vec::new(),
        },
        ..ExportPlan::default()
    };

    add_profiles(&mut plan, options)?;

    let cooldown_file = cooldown::load(home, &options.now.to_utc(), options.zone)?.file;
    add_document(&mut plan, cooldown::FILE_NAME, &cooldown_file)?;

    match document::read::<InventoryFile>(&home.join(store::FILE_NAME))? {
        DocumentState::Good(inventory) => {
            // The importing machine rebuilds the list of archives from its backups/.
            let records = InventoryFile {
                archives: Vec::new(),
                trashed: Vec::new(),
                ..inventory
            };
            add_document(&mut plan, store::FILE_NAME, &records)?;
        }
        DocumentState::Damaged(_) => plan.skip(store::FILE_NAME, "it is damaged"),
        DocumentState::Absent => {}
    }

    for name in [CONFIG, LAUNCHES] {
        add_file(&mut plan, home, Path::new(name))?;
    }
    for (name, _) in tree::list_if_exists(&home.join(observations::FOLDER))? {
        if name.to_str().is_some_and(observations::is_file_name) {
            add_file(&mut plan, home, &Path::new(observations::FOLDER).join(name))?;
        }
    }

    add_backups(&mut plan, options, progress)?;
    Ok(plan)
}

fn add_profiles(plan: &mut ExportPlan, options: &ExportOptions<'_>) -> Result<(), TransferError> {
    let mut profiles = Profiles::of(options.manager_home).list()?;
    // Only the first profile of an account is exported, so profiles whose login can move come first.
    profiles.sort_by_key(|profile| handover::find_obstacle(profile, options.codex_home).is_some());

    let mut exported: Vec<&Profile> = Vec::new();
    for profile in &profiles {
        // An export would lose the fields that a newer version added to profile.json.
        let newer_error = profile.unusable.clone();
        if let Some(reason) = newer_error.or_else(|| find_import_obstacle(profile, &exported)) {
            plan.skip(&profile.name, reason);
            continue;
        }
        add_profile(plan, profile, options)?;
        exported.push(profile);
    }
    Ok(())
}

/// Returns the reason for which an import would refuse an export of `profile` together with `exported`. A refused
/// import takes no login from the export, although the logins have already left this machine.
fn find_import_obstacle(profile: &Profile, exported: &[&Profile]) -> Option<String> {
    let entry_of =
        |name: &str| EntryName::from_path(&Path::new(PROFILES).join(name).join(PROFILE_JSON)).ok();
    let own_entry = entry_of(&profile.name);
    let Some(own_entry) = own_entry.filter(|entry| ExportPart::from_path(entry).is_some()) else {
        return Some("its folder has a name that no profile may have".into());
    };

    let Some(identity) = profile.identity() else {
        return Some("its profile.json names no account".into());
    };

    exported.iter().find_map(|other| {
        let name = &other.name;
        if other.is_of(identity) {
            return Some(format!("it has the same account as the profile {name}"));
        }

        let is_same_name =
            entry_of(name).is_some_and(|entry| entry.fold_case() == own_entry.fold_case());
        is_same_name.then(|| format!("its name differs from {name} only in letter case"))
    })
}

fn add_profile(
    plan: &mut ExportPlan,
    profile: &Profile,
    options: &ExportOptions<'_>,
) -> Result<(), TransferError> {
    let folder = Path::new(PROFILES).join(&profile.name);

    // The location of the login only makes sense on this machine.
    let exported_record = ProfileFile {
        identity: profile.identity().cloned(),
        newest: profile.newest_with_live(options.codex_home),
        owner: LoginOwner::Profile,
        live_home: None,
        moving: None,
        moved_with: None,
        ..profile.file.clone()
    };
    let path = folder.join(PROFILE_JSON);
    let bytes = document::encode(&path, &exported_record)?;
    plan.add(&path, bytes)?;

    if !options.with_logins {
        return Ok(());
    }
    // A profile whose login cannot move is exported without it.
    if let Some(reason) = handover::find_obstacle(profile, options.codex_home) {
        plan.skip(&profile.name, reason);
        return Ok(());
    }
    // `find_obstacle` refuses a profile without a login.
    let (Some(snapshot), Some(login)) = (profile.snapshot(), profile.login()) else {
        return Ok(());
    };

    plan.add(&folder.join(AUTH_JSON), snapshot.bytes.expose().to_vec())?;
    plan.logins.push(MovedLogin {
        profile: profile.name.clone(),
        email: login.identity.email.to_string(),
        account_id: login.identity.account_id.clone(),
        bytes: snapshot.bytes.clone(),
    });
    Ok(())
}

fn add_document<T: Document>(
    plan: &mut ExportPlan,
    name: &str,
    document: &T,
) -> Result<(), TransferError> {
    let bytes = document::encode(Path::new(name), document)?;
    plan.add(Path::new(name), bytes)
}

/// Adds a file of the manager home verbatim, if it exists. Skips a file that is too large or not a regular file.
fn add_file(plan: &mut ExportPlan, home: &Path, name: &Path) -> Result<(), TransferError> {
    let path = home.join(name);
    // The limit of a file that no export may contain is 0.
    let max_bytes = ExportPart::from_path(&entry_name(name)?).map_or(0, |part| part.max_bytes());

    match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if !meta.is_file() || meta.len() > max_bytes => {
            let reason = "it is too large, or not a regular file";
            plan.skip(name.to_string_lossy(), reason);
            Ok(())
        }
        // An ordinary file. After another error, it cannot be read either, and the error of `read` names it.
        _ => {
            let bytes = file_open::read(&path).at("read", &path)?;
            plan.add(name, bytes)
        }
    }
}

/// Adds the sidecars without an archive. If the export includes archives, adds each archive with its sidecar.
fn add_backups(
    plan: &mut ExportPlan,
    options: &ExportOptions<'_>,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    let backups = store::backups_folder(options.manager_home);
    let records = store::list_archives(options.manager_home)?;

    if options.with_archives {
        let sizes = records.iter().filter_map(|r| r.archive.as_ref());
        progress.expect_bytes(sizes.map(|stamp| stamp.bytes).sum());
    }

    for record in records {
        let Some(sidecar) = names::sidecar_name(&record.path) else {
            continue;
        };
        // The sidecar of an archive is exported only with the archive.
        let is_exported = match &record.archive {
            Some(_) => options.with_archives && add_archive(plan, &record, &backups, progress)?,
            None => true,
        };
        if is_exported && record.sidecar.is_some() && names::is_sidecar_name(&sidecar) {
            add_sidecar(plan, &record, sidecar, &backups)?;
        }
    }
    Ok(())
}

/// Adds the archive of a record. Returns false if it is skipped: it is in a folder of the Python codex-manager, or does
/// not match its record.
fn add_archive(
    plan: &mut ExportPlan,
    record: &ArchiveRecord,
    backups: &Path,
    progress: &dyn Progress,
) -> Result<bool, TransferError> {
    if !names::is_archive_name(&record.path) {
        let reason = "it is in a folder of the Python codex-manager";
        plan.skip(&record.path, reason);
        return Ok(false);
    }
    let path = backups.join(&record.path);
    let Some(file) = measure_archive(&path, record, progress)? else {
        plan.skip(&record.path, "it is damaged: it does not match its sidecar");
        return Ok(false);
    };

    plan.manifest.files.push(file);
    plan.contents.push(ExportContent::File(path));
    plan.archives += 1;
    Ok(true)
}

fn add_sidecar(
    plan: &mut ExportPlan,
    record: &ArchiveRecord,
    name: String,
    backups: &Path,
) -> Result<(), TransferError> {
    // An import would refuse the whole export because of this sidecar. The archive itself contains the same metadata.
    if matches!(record.problem(), Some(ArchiveProblem::Sidecar(_))) {
        plan.skip(name, "it is damaged, or does not describe its archive");
        return Ok(());
    }

    let path = backups.join(&name);
    let bytes = file_open::read(&path).at("read", &path)?;
    if (bytes.len() as u64) < Metadata::MAX_BYTES {
        plan.add(&Path::new(BACKUPS).join(&name), bytes)?;
    } else {
        plan.skip(name, "it is too large");
    }
    Ok(())
}

/// Returns the entry of an archive in the manifest; `None` if the archive does not have the size and the digest in its
/// record. The digest in the record may be a BLAKE3 digest.
fn measure_archive(
    path: &Path,
    record: &ArchiveRecord,
    progress: &dyn Progress,
) -> Result<Option<ExportFile>, TransferError> {
    let recorded_digest = record.metadata.archive_digest();
    let mut hasher = Hasher::default();
    let mut record_hasher = recorded_digest.map(|digest| digest.hasher());
    let size = read_chunks(path, progress, |bytes| {
        hasher.update(bytes);
        if let Some(record_hasher) = &mut record_hasher {
            record_hasher.update(bytes);
        }
        Ok(())
    })?;

    let recorded_size = record.archive.as_ref().map(|stamp| stamp.bytes);
    let is_as_recorded = recorded_size == Some(size)
        && recorded_digest == record_hasher.map(|hasher| hasher.digest());
    let file = ExportFile {
        path: entry_name(&Path::new(BACKUPS).join(&record.path))?,
        size,
        sha256: hasher.digest(),
    };
    Ok(is_as_recorded.then_some(file))
}

/// Passes the content of a file in chunks to `on_chunk`, and returns the length of the file in bytes.
pub(super) fn read_chunks(
    path: &Path,
    progress: &dyn Progress,
    mut on_chunk: impl FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<u64, TransferError> {
    let mut file = file_open::open(path).at("read", path)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        if is_interrupted() {
            return Err(TransferError::Interrupted);
        }

        let n = file.read(&mut buffer).at("read", path)?;
        if n == 0 {
            return Ok(total);
        }
        on_chunk(&buffer[..n])?;
        progress.add_bytes(n as u64);
        total += n as u64;
    }
}

/// Writes the export to the new file `target`, and moves the logins into the export. Returns the length of the file in
/// bytes. The export is durable on return.
///
/// # Errors
/// `target` exists, a login or an archive changed since the plan, the file cannot be written, or the user interrupts.
/// Then the profiles keep their logins, unless the move stays pending; see [`handover::publish_export`].
pub fn write(
    plan: &ExportPlan,
    options: &ExportOptions<'_>,
    encryption: Encryption,
    target: &Path,
    progress: &dyn Progress,
) -> Result<u64, TransferError> {
    let folder = atomic::parent_of(target);
    atomic::remove_stale_temps(folder);
    let mut file = TempFile::create_beside(target)?;
    write_sealed(plan, encryption, file.file(), target, progress)?;
    flush::sync_all(file.file()).at("fsync", target)?;
    let length = file.file().metadata().at("read", target)?.len();

    // The next step moves the logins and is not interrupted.
    if is_interrupted() {
        return Err(TransferError::Interrupted);
    }

    let profiles = Profiles::of(options.manager_home);
    let export_id = manifest::export_id(&document::encode(target, &plan.manifest)?);
    // The profiles record this path, so it must not depend on the current folder.
    let name = target.file_name().unwrap_or_default();
    let target = folder.canonical().at("find", folder)?.join(name);

    let is_published = handover::publish_export(
        &profiles,
        &plan.logins,
        &export_id,
        file,
        &target,
        options.codex_home,
        options.now,
    )?;
    if is_published {
        Ok(length)
    } else {
        Err(TransferError::Exists(target))
    }
}

/// Writes the content of the export to `file`, encrypted unless `encryption` is plain. Error messages name `target`.
fn write_sealed(
    plan: &ExportPlan,
    encryption: Encryption,
    file: &mut File,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    let mut output = BufWriter::with_capacity(256 * 1024, file);
    match encryption.into_encryptor().at("write", target)? {
        None => write_tar(plan, &mut output, target, progress)?,
        Some(encryptor) => {
            let mut sealed = encryptor.wrap_output(&mut output).at("write", target)?;
            write_tar(plan, &mut sealed, target, progress)?;
            // Writes the last encrypted block, without which the export cannot be read.
            sealed.finish().at("write", target)?;
        }
    }
    Ok(output.flush().at("write", target)?)
}

fn write_tar(
    plan: &ExportPlan,
    output: &mut impl Write,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    let mut tar = tar::Builder::new(output);
    let manifest = document::encode(target, &plan.manifest)?;
    let mut header = new_tar_header(manifest.len() as u64);
    tar.append_data(&mut header, MANIFEST_ENTRY, manifest.as_slice())
        .at("write", target)?;

    for (file, content) in plan.manifest.files.iter().zip(&plan.contents) {
        let mut header = new_tar_header(file.size);
        match content {
            ExportContent::Bytes(bytes) => tar
                .append_data(&mut header, file.path.as_path(), bytes.expose())
                .at("write", target)?,
            ExportContent::File(path) => {
                // `tar` writes only the header here, because it would write the content without progress and without
                // a check for interruption.
                tar.append_data(&mut header, file.path.as_path(), io::empty())
                    .at("write", target)?;
                write_tar_content(file, path, tar.get_mut(), target, progress)?;
            }
        }
    }

    tar.into_inner().at("write", target)?;
    Ok(())
}

/// Writes the content of the archive at `path` and the padding of its tar entry. `file` is its entry in the manifest.
fn write_tar_content(
    file: &ExportFile,
    path: &Path,
    output: &mut impl Write,
    target: &Path,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    let mut hasher = Hasher::default();
    let written = read_chunks(path, progress, |bytes| {
        hasher.update(bytes);
        output.write_all(bytes).at("write", target)
    })?;

    // The manifest is already written, so the export cannot include a changed archive.
    if written != file.size || hasher.digest() != file.sha256 {
        return Err(TransferError::Changed(path.display().to_string()));
    }

    // A tar file consists of blocks of 512 bytes.
    let padding = usize::try_from(written.next_multiple_of(512) - written).unwrap_or(0);
    Ok(output.write_all(&[0; 512][..padding]).at("write", target)?)
}

fn new_tar_header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o600);
    header
}
