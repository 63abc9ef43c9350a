//! Digests of file contents, and the detection of incomplete and zero-filled files. Memory use is constant.

use super::file_kind::FileKind;
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::io::{file_open, position};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Number of bytes at each end of a file that are checked for the traces of a crash or an incomplete download.
const TAIL_BYTES: u64 = 512;

/// Returns the length and the digest of the text of a file, decompressed if it is compressed.
pub(crate) fn read_text_digest(path: &Path) -> io::Result<(u64, Sha256Digest)> {
    let (digest, len) = Sha256Digest::of_reader(&mut *rollout::open_plain(path)?)?;
    Ok((len, digest))
}

/// Returns true if the first `len` bytes of the decompressed text of a file have this digest.
pub(crate) fn text_begins_with(path: &Path, len: u64, digest: &Sha256Digest) -> io::Result<bool> {
    let mut beginning = rollout::open_plain(path)?.take(len);
    Ok(Sha256Digest::of_reader(&mut beginning)? == (*digest, len))
}

/// Returns true if the first `len` bytes of a file have this digest.
pub(crate) fn raw_begins_with(path: &Path, len: u64, digest: &Sha256Digest) -> io::Result<bool> {
    let mut beginning = file_open::open(path)?.take(len);
    Ok(Sha256Digest::of_reader(&mut beginning)? == (*digest, len))
}

pub(crate) fn read_raw_digest(path: &Path) -> io::Result<Sha256Digest> {
    Ok(Sha256Digest::of_reader(&mut file_open::open(path)?)?.0)
}

/// The part of a file that is searched for zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchedPart {
    /// The first and the last [`TAIL_BYTES`].
    Ends,
    /// All bytes of a file of lines; the ends of other files.
    Whole,
}

/// The first and the last bytes of a file, at most [`TAIL_BYTES`] each.
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Size of the whole file.
    size: u64,
}

impl Ends {
    fn read(file: &File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let take = size.min(TAIL_BYTES);
        let mut head = vec![0; usize::try_from(take).unwrap_or(0)];
        let mut tail = head.clone();
        position::read_exact_at(file, &mut head, 0)?;
        position::read_exact_at(file, &mut tail, size - take)?;
        Ok(Self { head, tail, size })
    }
}

fn count_trailing_zeros(tail: &[u8]) -> usize {
    tail.iter().rev().take_while(|b| **b == 0).count()
}

/// Returns the reason why a file of lines looks incomplete, as a clause; `None` if it looks complete or is empty. An
/// incomplete file ends within a line; an incomplete compressed file cannot be decompressed.
pub(crate) fn torn_reason(path: &Path) -> io::Result<Option<&'static str>> {
    let Ends { head, tail, size } = Ends::read(&file_open::open(path)?)?;
    if size == 0 {
        return Ok(None);
    }
    if is_zstd(&head) {
        return Ok(read_text_digest(path).err().map(|e| {
            if rollout::is_oversized(&e) {
                "decompresses to far more than a conversation of its size can have"
            } else {
                "cannot be decompressed"
            }
        }));
    }
    let has_end = tail.last() == Some(&b'\n');
    Ok((!has_end).then_some("ends in the middle of a line"))
}

/// Returns true if the last byte of the file is a newline.
pub(crate) fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let ends = Ends::read(&file_open::open(path)?)?;
    Ok(ends.tail.last() == Some(&b'\n'))
}

/// Returns true if zero bytes have replaced text of the file, as after a power cut or an incomplete download: the file
/// consists of zeros, or is a text that ends in zeros. Compressed and binary files may end in zeros.
///
/// A line never has a zero byte, so one zero byte in the searched part of a file of lines is enough.
pub(crate) fn is_zero_filled(path: &Path, kind: FileKind, part: SearchedPart) -> io::Result<bool> {
    let mut file = file_open::open(path)?;
    let Ends { head, tail, size } = Ends::read(&file)?;
    if size == 0 {
        return Ok(false);
    }
    let zeros = count_trailing_zeros(&tail);
    if zeros == tail.len() && head.iter().all(|b| *b == 0) {
        return Ok(true);
    }
    if kind != FileKind::Plain {
        if is_zstd(&head) {
            return Ok(false);
        }
        let is_whole = part == SearchedPart::Whole;
        return Ok(zeros > 0 || head.contains(&0) || (is_whole && has_zero(&mut file)?));
    }
    let text = head
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    // A binary file, such as a tar archive, may end in zeros.
    let is_text = !head[..text].contains(&0);
    Ok(is_text && (zeros >= 64 || zeros * 2 >= tail.len()))
}

/// Returns true if the file has a zero byte after its current position.
fn has_zero(file: &mut File) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(false),
            n if buffer[..n].contains(&0) => return Ok(true),
            _ => {}
        }
    }
}

fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// Returns true if the file has no zstd header.
pub(crate) fn is_uncompressed(file: &File) -> io::Result<bool> {
    Ok(!is_zstd(&Ends::read(file)?.head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_beginning_of_a_file_is_compared_at_every_length() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, &bytes).unwrap();
        for len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
            let digest = Sha256Digest::of(&bytes[..len]);
            for begins in [text_begins_with, raw_begins_with] {
                assert!(begins(&path, len as u64, &digest).unwrap(), "{len}");
                assert!(!begins(&path, len as u64 + 1, &digest).unwrap(), "{len}");
            }
        }
    }

    fn kind_of(of_lines: bool) -> FileKind {
        if of_lines {
            FileKind::Lines
        } else {
            FileKind::Plain
        }
    }

    #[test]
    fn zeros_are_damage_in_texts_but_not_in_binary_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let middle = [
            &b"{}\n".repeat(900)[..],
            &[0; 900],
            b"\n{}\n".repeat(900).as_slice(),
        ]
        .concat();
        let tar = [&b"name\0\0ustar"[..], &[7; 900], &[0; 1024]].concat();
        for (bytes, of_lines, blanked) in [
            (b"{}\n".to_vec(), true, false),
            (b"{}\n\0".to_vec(), true, true),
            (middle, true, true),
            (vec![0; 12], false, true),
            (vec![0; 5000], true, true),
            ([b"text".to_vec(), vec![0; 5000]].concat(), false, true),
            ([b"text".to_vec(), vec![0; 9]].concat(), false, true),
            (tar, false, false),
            (b"binary\0\0".to_vec(), false, false),
            (Vec::new(), true, false),
        ] {
            fs::write(&path, &bytes).unwrap();
            let found = is_zero_filled(&path, kind_of(of_lines), SearchedPart::Whole).unwrap();
            assert_eq!(found, blanked, "{} {of_lines}", bytes.len());
        }
    }

    #[test]
    fn incomplete_files_of_lines_are_detected_by_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (bytes, torn) in [
            (b"{}\n{}\n".to_vec(), false),
            (b"{}\n{\"a\"".to_vec(), true),
            (b"{}\n\0\0".to_vec(), true),
            (Vec::new(), false),
            (vec![0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3], true),
        ] {
            fs::write(&path, &bytes).unwrap();
            let found = torn_reason(&path).unwrap();
            assert_eq!(found.is_some(), torn, "{bytes:?}: {found:?}");
        }
    }
}
