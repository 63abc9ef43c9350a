//! Encodes the header blocks of a tar stream.

use super::entry::FileEntry;
use super::entry_name::EntryName;
use std::io;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

pub(crate) fn header(kind: EntryType, size: u64, mode: u32, mtime_ns: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode & 0o7777);
    let seconds = mtime_ns.div_euclid(1_000_000_000);
    match u64::try_from(seconds) {
        Ok(seconds) => header.set_mtime(seconds),
        // GNU stores times before 1970 as a signed 96-bit number, marked by the first bit.
        Err(_) => header.as_old_mut().mtime = negative(seconds),
    }
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn negative(number: i64) -> [u8; 12] {
    let mut field = [0xff; 12];
    field[4..].copy_from_slice(&number.to_be_bytes());
    field
}

pub(crate) fn entry_head(entry: &FileEntry) -> io::Result<Vec<u8>> {
    head_bytes(
        header(EntryType::Regular, entry.size, entry.mode, entry.mtime),
        entry.path.as_path(),
    )
}

/// Returns the header blocks of an entry, with a GNU long name if the path needs one.
pub(crate) fn head_bytes(mut header: Header, path: &Path) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, path, io::empty())?;
    Ok(without_end(builder))
}

/// Returns the header blocks of a symbolic link. Writes the target unchanged; `tar::Builder` would
/// normalize it.
#[cfg(unix)]
pub(crate) fn link_bytes(mut header: Header, path: &Path, target: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    const LONG_NAME: &[u8] = b"././@LongLink";
    let mut builder = tar::Builder::new(Vec::new());
    let text = target.as_os_str().as_encoded_bytes();
    if header.set_link_name_literal(text).is_err() {
        let len = text.len() as u64 + 1;
        let mut long = self::header(EntryType::GNULongLink, len, 0o644, 0);
        long.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
        long.set_cksum();
        builder.append(&long, text.chain(&[0][..]))?;
        header.set_link_name_literal(&text[..header.as_old().linkname.len().min(text.len())])?;
    }
    builder.append_data(&mut header, path, io::empty())?;
    Ok(without_end(builder))
}

#[cfg(not(unix))]
pub(crate) fn link_bytes(mut header: Header, path: &Path, target: &Path) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, path, target)?;
    Ok(without_end(builder))
}

/// Returns the appended blocks without the end-of-archive blocks of the builder.
pub(crate) fn without_end(builder: tar::Builder<Vec<u8>>) -> Vec<u8> {
    let len = builder.get_ref().len();
    let mut bytes = builder.into_inner().unwrap_or_default();
    bytes.truncate(len);
    bytes
}

pub(crate) fn with_slash(name: &EntryName) -> PathBuf {
    let mut text = name.as_path().as_os_str().to_owned();
    text.push("/");
    text.into()
}
