//! Encodes the header blocks of a tar stream.

use super::entry::{FolderEntry, LinkEntry};
use super::sizes::OWNER_ACCESS_MODE;
use crate::io::with_suffix;
use std::io;
use std::path::Path;
use tar::{EntryType, Header};

pub(crate) fn encode_file_header(
    path: &Path,
    size: u64,
    mode: u32,
    mtime_ns: i64,
) -> io::Result<Vec<u8>> {
    encode_header(new_header(EntryType::Regular, size, mode, mtime_ns), path)
}

pub(crate) fn encode_folder_header(folder: &FolderEntry) -> io::Result<Vec<u8>> {
    // tar programs set the mode of a folder before they create files in it.
    let mode = folder.mode | OWNER_ACCESS_MODE;
    let header = new_header(EntryType::Directory, 0, mode, folder.mtime);
    encode_header(header, &with_suffix(folder.path.as_path(), "/"))
}

pub(crate) fn encode_link_header(link: &LinkEntry) -> io::Result<Vec<u8>> {
    // A link has no content, and the manifest has neither its mode nor its time.
    let header = new_header(EntryType::Symlink, 0, 0o777, 0);
    encode_link_with_target(header, link.path.as_path(), &link.target)
}

fn new_header(kind: EntryType, size: u64, mode: u32, mtime_ns: i64) -> Header {
    // The GNU format has room for long names and for times before 1970, unlike the older ustar.
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode & 0o7777);

    // The header has whole seconds. A restore uses the nanoseconds in the manifest.
    let seconds = mtime_ns.div_euclid(1_000_000_000);
    match u64::try_from(seconds) {
        Ok(seconds) => header.set_mtime(seconds),
        // GNU stores times before 1970 as a signed 96-bit number, marked by the first bit.
        Err(_) => header.as_old_mut().mtime = encode_negative_seconds(seconds),
    }

    // Owners mean nothing on another machine, and a restore does not use them.
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn encode_negative_seconds(seconds: i64) -> [u8; 12] {
    // The bytes before the number extend its sign.
    let mut field = [0xff; 12];
    field[4..].copy_from_slice(&seconds.to_be_bytes());
    field
}

/// Returns the header blocks of an entry, with a GNU long name if the path needs one.
fn encode_header(mut header: Header, path: &Path) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, path, io::empty())?;
    Ok(strip_end_blocks(builder))
}

/// Writes the target unchanged; `tar::Builder` would normalize it.
#[cfg(unix)]
fn encode_link_with_target(mut header: Header, path: &Path, target: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;

    // The name that GNU tar gives to an entry whose content is the link target of the next entry.
    const LONG_NAME: &[u8] = b"././@LongLink";

    let mut builder = tar::Builder::new(Vec::new());
    let bytes = target.as_os_str().as_encoded_bytes();
    if header.set_link_name_literal(bytes).is_err() {
        // With the NUL byte that ends the text.
        let len = bytes.len() as u64 + 1;
        let mut long_header = new_header(EntryType::GNULongLink, len, 0o644, 0);
        long_header.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
        long_header.set_cksum();
        builder.append(&long_header, bytes.chain(&[0][..]))?;

        // The header itself has as much of the target as fits.
        header.set_link_name_literal(&bytes[..header.as_old().linkname.len().min(bytes.len())])?;
    }

    builder.append_data(&mut header, path, io::empty())?;
    Ok(strip_end_blocks(builder))
}

#[cfg(not(unix))]
fn encode_link_with_target(mut header: Header, path: &Path, target: &Path) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, path, target)?;
    Ok(strip_end_blocks(builder))
}

/// Returns the blocks that were appended to `builder`, without the blocks that end a tar archive.
fn strip_end_blocks(builder: tar::Builder<Vec<u8>>) -> Vec<u8> {
    // More entries follow in other members; only the members of the manifest end the tar.
    let len = builder.get_ref().len();
    let mut bytes = builder.into_inner().unwrap_or_default();
    bytes.truncate(len);
    bytes
}
