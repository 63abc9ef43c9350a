//! Reads an untrusted tar stream entry by entry: validates names, refuses kinds that a home cannot
//! have, and limits the size of extension headers.

use super::archive_file;
use super::entry_name::EntryName;
use crate::archive::error::{ArchiveError, ContentError};
use crate::io::json_path;
use crate::io::progress::check_interrupt;
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use tar::EntryType;

/// Maximum size of a long name or of an extended header. Valid names have at most 4095 bytes.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;

/// Maximum number of bytes after the end of the tar stream. The program `tar` pads archives to full records.
const MAX_PADDING_BYTES: u64 = 1 << 20;

/// One entry of a tar stream, with a validated name.
#[derive(Debug)]
pub struct RawEntry {
    pub name: EntryName,
    pub kind: RawKind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) mtime_ns: i64,
    /// Offset of the content in the stream, in bytes.
    pub(crate) content_offset: u64,
}

/// The kinds of entries that a home can have.
#[derive(Debug)]
pub enum RawKind {
    File,
    Folder,
    Link(PathBuf),
}

/// The content of one file, read in chunks.
pub struct EntryContent<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
}

impl EntryContent<'_> {
    /// Returns the next bytes of the content, as many as the buffer holds, or `None` at its end. Fails if the user
    /// interrupted the operation.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&[u8]>, ContentError> {
        check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
        let mut filled = 0;
        while filled < self.buffer.len() {
            match self.reader.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok((filled > 0).then(|| &self.buffer[..filled]))
    }

    /// Returns the rest of the content, or `None` if the rest is longer than `limit` bytes.
    pub(crate) fn read_all(&mut self, limit: u64) -> Result<Option<Vec<u8>>, ContentError> {
        let mut content = Vec::new();
        while let Some(bytes) = self.next_chunk()? {
            if (content.len() + bytes.len()) as u64 > limit {
                return Ok(None);
            }
            content.extend_from_slice(bytes);
        }
        Ok(Some(content))
    }
}

impl Read for EntryContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

pub(crate) type EntryVisitor<'a> =
    dyn FnMut(RawEntry, &mut EntryContent<'_>) -> Result<(), ContentError> + 'a;

/// Passes each entry of an archive to `visit`. Reads the archive to its end, which checks the CRC of every gzip member.
/// A read error of the disk is reported as such, not as damage.
pub(crate) fn read_archive(path: &Path, visit: &mut EntryVisitor<'_>) -> Result<(), ArchiveError> {
    archive_file::run_preferring_disk_errors(path, archive_file::open(path)?, |archive| {
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, archive));
        // The data after the tar is read as well, because the CRC of the last member comes after the tar.
        let mut after_tar = for_each_entry(decoder, visit)?.take(MAX_PADDING_BYTES + 1);
        if io::copy(&mut after_tar, &mut io::sink())? > MAX_PADDING_BYTES {
            let message = "too much data after the end of the tar";
            return Err(ContentError::damaged(message));
        }
        Ok(())
    })
}

/// Reads a tar stream to its end and passes each entry to `visit`. Returns the reader, positioned
/// after the end of the tar.
pub fn for_each_entry<R: Read>(stream: R, visit: &mut EntryVisitor<'_>) -> Result<R, ContentError> {
    let mut tar = tar::Archive::new(stream);
    let mut pending = PendingExtensions::default();

    // One buffer for all entries: a home has hundreds of thousands of files, most of them small.
    let mut buffer = vec![0; 128 * 1024];

    // Raw entries, because the tar crate reads long names and extended headers without a size limit.
    // `PendingExtensions` reads them with a limit.
    for entry in tar.entries()?.raw(true) {
        let mut entry = entry?;
        if pending.read_extension(&mut entry)? {
            continue;
        }

        let raw_entry = std::mem::take(&mut pending).into_entry(&entry)?;
        let mut content = EntryContent {
            reader: &mut entry,
            buffer: std::mem::take(&mut buffer),
        };
        visit(raw_entry, &mut content)?;

        // The next entry begins after the rest of the content.
        while content.next_chunk()?.is_some() {}
        buffer = content.buffer;
    }

    Ok(tar.into_inner())
}

/// Reads the header of one entry. `bytes` has the extension headers and the header of the entry, and nothing else: any
/// content is in other members.
pub(crate) fn read_single_header(bytes: &[u8]) -> Result<RawEntry, ContentError> {
    let mut tar = tar::Archive::new(bytes);
    let mut pending = PendingExtensions::default();
    for entry in tar.entries()?.raw(true) {
        let mut entry = entry?;
        if pending.read_extension(&mut entry)? {
            continue;
        }

        let header = pending.into_entry(&entry)?;
        if entry.raw_file_position() != bytes.len() as u64 {
            // Other bytes follow the header.
            break;
        }
        return Ok(header);
    }

    let detail = "a member does not hold exactly one header";
    Err(ContentError::damaged(detail))
}

/// Values of extension headers for the entry that follows them.
#[derive(Debug, Default)]
struct PendingExtensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime_ns: Option<i64>,
}

impl PendingExtensions {
    /// Reads an extension header. Returns false if `entry` is not an extension header.
    fn read_extension(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<bool, ContentError> {
        let kind = entry.header().entry_type();
        let is_extension = matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        );
        if !is_extension {
            return Ok(false);
        }

        if entry.size() > MAX_EXTENSION_BYTES {
            let detail = "an extended header of more than 64 KiB";
            return Err(ContentError::damaged(detail));
        }

        let mut value = Vec::new();
        entry.read_to_end(&mut value)?;
        match kind {
            // GNU tar ends the text with a NUL byte.
            EntryType::GNULongName => self.path = Some(cut_at_nul(value)),
            EntryType::GNULongLink => self.link = Some(cut_at_nul(value)),
            EntryType::XHeader => {
                let records = parse_pax_records(&value)
                    .ok_or_else(|| ContentError::damaged("malformed pax extension"))?;
                for (key, value) in records {
                    match key {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"mtime" => {
                            self.mtime_ns = std::str::from_utf8(value).ok().and_then(parse_mtime);
                        }
                        // The tar crate finds the next entry by the size in the header. With
                        // another size, content would be read as headers.
                        b"size" => {
                            let detail = "the pax record `size` of an entry is not supported";
                            return Err(ContentError::damaged(detail));
                        }
                        _ => {}
                    }
                }
            }
            // The records of a global header are ignored.
            _ => {}
        }

        Ok(true)
    }

    /// Combines the header of `entry` with the pending values, which take precedence.
    fn into_entry(self, entry: &tar::Entry<'_, impl Read>) -> Result<RawEntry, ContentError> {
        let header = entry.header();
        let raw_name = self
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());

        let refusal = |reason| ContentError::Unsafe {
            entry: String::from_utf8_lossy(&raw_name).into_owned(),
            reason,
        };
        let name = EntryName::parse(&raw_name).map_err(refusal)?;

        let kind = match header.entry_type() {
            // A contiguous file is a regular file that old systems laid out specially.
            EntryType::Regular | EntryType::Continuous => RawKind::File,
            EntryType::Directory => RawKind::Folder,
            EntryType::Symlink => {
                let target = self
                    .link
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                let target = target.ok_or_else(|| refusal("a link without a target"))?;
                let target = json_path::path_from_bytes(target);
                RawKind::Link(target.map_err(|_| refusal("a link target that is not Unicode"))?)
            }
            // A hard link has the content of another entry, and a later entry may have replaced that content.
            EntryType::Link => return Err(refusal("a hard link")),
            EntryType::Char | EntryType::Block => return Err(refusal("a device")),
            EntryType::Fifo => return Err(refusal("a pipe")),
            _ => return Err(refusal("an unknown kind of entry")),
        };

        // GNU stores a time before 1970 as a 96-bit number; the tar crate returns its lower 64
        // bits.
        let seconds = header.mtime().unwrap_or(0).cast_signed();
        Ok(RawEntry {
            name,
            kind,
            size: entry.size(),
            // An unreadable mode must not open a private file to other users.
            mode: header.mode().unwrap_or(0o600) & 0o7777,
            mtime_ns: self
                .mtime_ns
                .unwrap_or_else(|| seconds.saturating_mul(1_000_000_000)),
            content_offset: entry.raw_file_position(),
        })
    }
}

/// Splits an extended header into keys and values. It has records of the form `LENGTH KEY=VALUE\n`, of which `LENGTH`
/// counts all bytes. Returns `None` if it is malformed.
fn parse_pax_records(mut unread: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !unread.is_empty() {
        let space = unread.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&unread[..space]).ok()?.parse().ok()?;
        // Not the parser of the tar crate: it fails if a name or an extended attribute has a line break.
        let key_and_value = unread.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = key_and_value.iter().position(|byte| *byte == b'=')?;

        records.push((&key_and_value[..equals], &key_and_value[equals + 1..]));
        unread = &unread[length..];
    }
    Some(records)
}

/// Parses a PAX time, decimal seconds with an optional fraction, into nanoseconds.
fn parse_mtime(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();

    let seconds: i64 = whole.parse().ok()?;
    // A fraction has the sign of the whole: `-1.5` is one and a half seconds before 1970.
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let nanos = sign * digits.parse::<i64>().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

fn cut_at_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_values_may_have_line_breaks_and_damaged_records_are_refused() {
        let text = b"12 path=a\nb\n22 SCHILY.xattr.x=\xff\n=\n";
        let records = parse_pax_records(text).unwrap();
        let expected: [(&[u8], &[u8]); 2] = [(b"path", b"a\nb"), (b"SCHILY.xattr.x", b"\xff\n=")];
        assert_eq!(records, expected);
        for text in [
            &b"12 path=a\nb"[..],
            b"2 path=a\n",
            b"9 path\n\n",
            b"x path=a\n",
            b"\n",
        ] {
            assert_eq!(parse_pax_records(text), None, "{text:?}");
        }
    }

    #[test]
    fn pax_times_before_1970_subtract_the_fraction() {
        for (text, nanos) in [
            ("1.5", Some(1_500_000_000)),
            ("-1.5", Some(-1_500_000_000)),
            ("-0.000000001", Some(-1)),
            ("7", Some(7_000_000_000)),
            ("10000000000", None),
            ("x", None),
        ] {
            assert_eq!(parse_mtime(text), nanos, "{text}");
        }
    }
}
