//! The entries of an export's tar stream, in the order that its manifest fixes.

use super::error::{PackageError, TransferError};
use super::manifest::{self, ExportManifest, MANIFEST_ENTRY, PRODUCT};
use crate::io::{Document, DocumentError, DocumentState, document, is_interrupted};
use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use tar::EntryType;

/// The longest accepted entry name, which a GNU long-name record holds.
const MAX_NAME_BYTES: u64 = 4096;

/// Returns the next entry. Fails unless the entry is a regular file called `name`, and of `expected_size` if one is
/// given.
pub(super) fn read_entry<'b, R: Read>(
    entries: &mut tar::Entries<'b, R>,
    name: &str,
    expected_size: Option<u64>,
) -> Result<tar::Entry<'b, R>, PackageError> {
    if is_interrupted() {
        return Err(TransferError::Interrupted.into());
    }

    let damaged = |detail: String| Err(PackageError::Damaged(detail));
    let mut long_name = None;
    loop {
        let Some(mut entry) = entries.next().transpose()? else {
            return damaged(format!("it ends before {name}"));
        };

        // tar stores a name that does not fit into a header as an entry of its own, before the entry of the file.
        let entry_type = entry.header().entry_type();
        if entry_type == EntryType::GNULongName && long_name.is_none() {
            if entry.size() > MAX_NAME_BYTES {
                return damaged("an oversized name".into());
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            bytes.retain(|byte| *byte != 0);
            long_name = Some(bytes);
            continue;
        }

        let entry_name = long_name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        if entry_type != EntryType::Regular || entry_name != name.as_bytes() {
            let entry_name = String::from_utf8_lossy(&entry_name).into_owned();
            return damaged(format!("found {entry_name} instead of the file {name}"));
        }

        if expected_size.is_some_and(|size| size != entry.size()) {
            return damaged(format!("the size of {name} does not match the manifest"));
        }
        return Ok(entry);
    }
}

/// Reads the first entry, which must be the manifest. Returns the manifest and the id of the export.
pub(super) fn read_manifest<R: Read>(
    entries: &mut tar::Entries<'_, R>,
) -> Result<(ExportManifest, String), PackageError> {
    let foreign = |reason: String| Err(PackageError::Foreign(reason));

    let any_size = None;
    let mut entry = match read_entry(entries, MANIFEST_ENTRY, any_size) {
        Err(PackageError::Damaged(_)) => {
            return foreign(format!("it does not begin with {MANIFEST_ENTRY}"));
        }
        entry => entry?,
    };

    if entry.size() > ExportManifest::MAX_BYTES {
        return Err(PackageError::Damaged("an oversized manifest".into()));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    let manifest: ExportManifest = parse_document(&"the manifest", &bytes)?;

    if manifest.product != PRODUCT {
        return foreign(format!("its manifest is not of a {PRODUCT}"));
    }
    Ok((manifest, manifest::export_id(&bytes)))
}

/// Fails unless only the zero bytes at the end of a tar file follow, at most 64 KiB of them. Reading to the end of the
/// file also checks the authenticity of the last encrypted block.
pub(super) fn check_only_zeros_follow(mut after_entries: impl Read) -> Result<(), PackageError> {
    let mut buffer = [0; 4096];
    let mut allowed_bytes = 64 * 1024_usize;
    loop {
        let n = after_entries.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        if n > allowed_bytes || buffer[..n].iter().any(|byte| *byte != 0) {
            return Err(PackageError::Damaged("data after its end".into()));
        }
        allowed_bytes -= n;
    }
}

/// Parses a document of an export. `name` is the name of the document in error messages.
pub(super) fn parse_document<T: Document>(
    name: &dyn Display,
    bytes: &[u8],
) -> Result<T, PackageError> {
    // The path is used only in errors, to which the caller adds the path of the export.
    match document::parse(Path::new(""), bytes) {
        Ok(DocumentState::Good(document)) => Ok(document),
        Ok(DocumentState::Absent | DocumentState::Damaged(_)) => {
            Err(PackageError::Damaged(format!("{name} cannot be parsed")))
        }
        Err(DocumentError::Newer { found, .. }) => Err(PackageError::Newer(found)),
        Err(e) => Err(TransferError::from(e).into()),
    }
}
