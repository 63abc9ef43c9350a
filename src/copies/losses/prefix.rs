//! Finds the copies that are a prefix of a rollout, by their digests.

use codex_manager_core::io::{ContentDigest, ContentHasher};
use std::io::{self, Read};

/// The size of a file in bytes, and the digest of its content.
pub(crate) type SizedDigest = (u64, ContentDigest);

/// Returns those of the `candidates` that are prefixes of the content of a reader, the shortest first. Reads as many
/// bytes as the longest candidate has, and opens the reader only if there are candidates.
pub(crate) fn find_prefixes<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    mut candidates: Vec<SizedDigest>,
) -> io::Result<Vec<SizedDigest>> {
    if candidates.is_empty() {
        return Ok(candidates);
    }

    let mut reader = open()?;
    candidates.sort_by_key(|(size, _)| *size);

    // Archives of older versions have SHA-256 digests, which match nothing here. Messages are compared instead.
    let mut hasher = ContentHasher::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut len = 0;
    let mut prefixes = Vec::new();
    for (size, digest) in candidates {
        while len < size {
            let missing_len = usize::try_from(size - len).unwrap_or(usize::MAX);
            let missing_len = missing_len.min(buffer.len());
            let read_len = reader.read(&mut buffer[..missing_len])?;
            // The file ends before this candidate, and all further ones are longer.
            if read_len == 0 {
                return Ok(prefixes);
            }
            hasher.update(&buffer[..read_len]);
            len += read_len as u64;
        }

        // The hasher continues after this candidate, so that one pass over the file serves all candidates.
        if hasher.digest() == digest {
            prefixes.push((size, digest));
        }
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixes_of_the_content_match() {
        let sized = |text: &str| (text.len() as u64, ContentDigest::of(text.as_bytes()));
        let candidates = ["abcdef", "abc", "abx", "abcdefg", ""].map(sized).to_vec();
        let found = find_prefixes(|| Ok("abcdef".as_bytes()), candidates).unwrap();
        let expected = [sized(""), sized("abc"), sized("abcdef")];
        assert_eq!(found, expected);
    }
}
