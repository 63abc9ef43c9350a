//! The entries of an export's tar stream, in the order that its manifest fixes.

use super::error::{PackageError, TransferError};
use super::manifest::{self, ExportManifest, NAME, PRODUCT};
use crate::io::{Document, DocumentError, DocumentState, document, is_interrupted};
use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use tar::EntryType;

/// The longest name of an entry, in a GNU long-name record.
const MAX_NAME_BYTES: u64 = 4096;

/// Returns the next entry. Fails unless it is a regular file of this name, and of this size if one is given.
pub(super) fn read_entry<'b, R: Read>(
    entries: &mut tar::Entries<'b, R>,
    name: &str,
    size: Option<u64>,
) -> Result<tar::Entry<'b, R>, PackageError> {
    if is_interrupted() {
        return Err(TransferError::Interrupted.into());
    }
    let wrong = |detail: String| Err(PackageError::Damaged(detail));
    let mut long_name = None;
    loop {
        let Some(mut entry) = entries.next().transpose()? else {
            return wrong(format!("it ends before {name}"));
        };
        let kind = entry.header().entry_type();
        if kind == EntryType::GNULongName && long_name.is_none() {
            if entry.size() > MAX_NAME_BYTES {
                return wrong("an oversized name".into());
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            bytes.retain(|byte| *byte != 0);
            long_name = Some(bytes);
            continue;
        }
        let found = long_name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        if kind != EntryType::Regular || found != name.as_bytes() {
            let found = String::from_utf8_lossy(&found).into_owned();
            return wrong(format!("found {found} instead of the file {name}"));
        }
        if size.is_some_and(|size| size != entry.size()) {
            return wrong(format!("the size of {name} does not match the manifest"));
        }
        return Ok(entry);
    }
}

/// Reads the manifest, which is the first entry, and returns it with the id of the export.
pub(super) fn read_manifest<R: Read>(
    entries: &mut tar::Entries<'_, R>,
) -> Result<(ExportManifest, String), PackageError> {
    let foreign = |reason: String| Err(PackageError::Foreign(reason));
    let mut entry = match read_entry(entries, NAME, None) {
        Err(PackageError::Damaged(_)) => {
            return foreign(format!("it does not begin with {NAME}"));
        }
        entry => entry?,
    };
    if entry.size() > ExportManifest::MAX_BYTES {
        return Err(PackageError::damaged("an oversized manifest"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    let manifest: ExportManifest = parse_document(&"the manifest", &bytes)?;
    if manifest.product != PRODUCT {
        return foreign("its manifest names another product".into());
    }
    Ok((manifest, manifest::export_id(&bytes)))
}

/// Fails if anything but the end of a tar follows. Reading to the end also checks the authenticity
/// of the last encrypted block.
pub(super) fn check_end(mut rest: impl Read) -> Result<(), PackageError> {
    let mut buffer = [0; 4096];
    let mut left = 64 * 1024_usize;
    loop {
        let n = rest.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        if n > left || buffer[..n].iter().any(|byte| *byte != 0) {
            return Err(PackageError::damaged("data after its end"));
        }
        left -= n;
    }
}

/// Parses the document `name` of an export.
pub(super) fn parse_document<T: Document>(
    name: &dyn Display,
    bytes: &[u8],
) -> Result<T, PackageError> {
    match document::parse(Path::new(""), bytes) {
        Ok(DocumentState::Good(document)) => Ok(document),
        Ok(DocumentState::Absent | DocumentState::Damaged(_)) => {
            Err(PackageError::Damaged(format!("{name} cannot be parsed")))
        }
        Err(DocumentError::Newer { found, .. }) => Err(PackageError::Newer(found)),
        Err(e) => Err(e.into()),
    }
}
