//! Digests of file contents. Memory use is constant.

use crate::codex::rollout;
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use std::io::{self, Read};
use std::path::Path;

/// The length in bytes and the digest of the text of a file, decompressed if it is compressed. The order is that of the
/// fields: all machines choose by it between two rewritten versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextDigest {
    pub len: u64,
    pub digest: Sha256Digest,
}

pub fn read_text_digest(path: &Path) -> io::Result<TextDigest> {
    let (digest, len) = Sha256Digest::of_reader(&mut *rollout::open_plain(path)?)?;
    Ok(TextDigest { len, digest })
}

/// Returns true if the first `len` bytes of the decompressed text of a file have this digest.
pub(crate) fn text_begins_with(path: &Path, len: u64, digest: &Sha256Digest) -> io::Result<bool> {
    let mut reader = rollout::open_plain(path)?.take(len);
    Ok(Sha256Digest::of_reader(&mut reader)? == (*digest, len))
}

/// Returns true if the first `len` bytes of a file have this digest.
pub(crate) fn raw_begins_with(path: &Path, len: u64, digest: &Sha256Digest) -> io::Result<bool> {
    let mut reader = file_open::open(path)?.take(len);
    Ok(Sha256Digest::of_reader(&mut reader)? == (*digest, len))
}

pub(crate) fn read_raw_digest(path: &Path) -> io::Result<Sha256Digest> {
    Ok(Sha256Digest::of_reader(&mut file_open::open(path)?)?.0)
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
}
