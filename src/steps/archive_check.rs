//! Checks one archive, and writes a missing or damaged sidecar again.

use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::archive::verify::{self, VerifyReport};
use codex_manager_core::archive::{ArchiveError, ArchiveReader, SidecarProblem, names, sidecar};
use codex_manager_core::inventory::records::{FileStamp, VerifyRecord};
use codex_manager_core::inventory::store::VerifyFinding;
use codex_manager_core::io::{
    ContentHasher, IoContext, Staging, Timestamp, atomic, document, file_open,
};
use std::path::Path;

/// Verifies one archive and shows a progress bar. A dry run writes nothing to the manager home.
///
/// # Errors
/// The user interrupted the command, or there is too little disk space to unpack the databases for the check.
pub(crate) fn verify_archive(
    context: &Context,
    path: &Path,
    dry_run: bool,
) -> Result<VerifyReport> {
    let bar = context.ui.growing_bar("verifying");

    // `verify` unpacks the databases of the archive. The attempt to create a staging folder shows whether `manager_tmp`
    // is writable.
    let manager_tmp = context.manager_path("tmp");
    if !dry_run && Staging::create_in(&manager_tmp).is_ok() {
        return Ok(verify::verify(path, &manager_tmp, &bar)?);
    }

    let temp_parent = context.env.temp_dir();
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("codex-manager-").tempdir_in(&temp_parent);
    let folder = folder.at("create a folder in", &temp_parent)?;
    Ok(verify::verify(path, folder.path(), &bar)?)
}

/// Returns the record of a verified archive; `None` if the archive could not be read. `stamp` is the stamp of the file
/// before it was read, and `at` is the time of the check.
pub(crate) fn to_verify_finding(
    report: &VerifyReport,
    stamp: Option<FileStamp>,
    at: Timestamp,
) -> Option<VerifyFinding> {
    let ok = report.is_archive_good();
    report.read_error.is_none().then(|| VerifyFinding {
        archive: report.archive.clone(),
        stamp,
        verified: VerifyRecord { at, ok },
        is_misdescribed: report.sidecar_problem == Some(SidecarProblem::Mismatch),
    })
}

/// Writes a missing or damaged sidecar again, if the archive can be opened and is not one of the Python program, which
/// needs no sidecar. Keeps a damaged sidecar under a name with `.damaged`. Returns true if it writes the sidecar; a dry
/// run returns the same value, but writes nothing.
pub(crate) fn repair_sidecar(path: &Path, dry_run: bool) -> Result<bool> {
    let Some(sidecar_path) = names::sidecar_path(path) else {
        return Ok(false);
    };

    let problem = sidecar::read(&sidecar_path).err();
    if !matches!(
        problem,
        Some(SidecarProblem::Missing | SidecarProblem::Damaged(_))
    ) {
        return Ok(false);
    }

    let archive = match ArchiveReader::open(path) {
        Ok(archive) => archive,
        Err(ArchiveError::Interrupted) => return Err(CommandError::interrupted()),
        // `verify` reports the damage of the archive.
        Err(_) => return Ok(false),
    };
    if archive.is_python() {
        return Ok(false);
    }

    // The metadata in the archive cannot have the size and the digest of the archive itself.
    let mut file = file_open::open(path).at("read", path)?;
    let hasher = ContentHasher::default();
    let (digest, bytes) = hasher.hash(&mut file).at("read", path)?;
    let mut metadata = archive.metadata().clone().into_sidecar(bytes, &digest);
    // A home with many files at its top has too many names for a sidecar.
    metadata.limit_size();

    if !dry_run {
        if sidecar_path.exists() {
            atomic::keep_copy(&sidecar_path, ".damaged")?;
        }
        document::write(&sidecar_path, &metadata)?;
    }
    Ok(true)
}
