//! Copies that a rollout begins with.

use crate::io::{ContentDigest, ContentHasher};
use std::io::{self, Read};
use std::mem;

/// The length and the digest of a copy.
pub(crate) type Mark = (u64, ContentDigest);

/// Returns the marks that the bytes of a reader begin with. Reads up to the longest mark.
pub(crate) fn match_marks<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    mut marks: Vec<Mark>,
) -> io::Result<Vec<Mark>> {
    if marks.is_empty() {
        return Ok(marks);
    }
    let mut reader = open()?;
    marks.sort_by_key(|mark| mark.0);
    let mut hashers: Vec<ContentHasher> = Vec::new();
    for hasher in marks.iter().map(|(_, digest)| digest.hasher()) {
        let is_same =
            |known: &ContentHasher| mem::discriminant(known) == mem::discriminant(&hasher);
        if !hashers.iter().any(is_same) {
            hashers.push(hasher);
        }
    }
    let mut buffer = vec![0; 256 * 1024];
    let mut len = 0;
    let mut found = Vec::new();
    for mark in marks {
        while len < mark.0 {
            let wanted = usize::try_from(mark.0 - len).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            let n = reader.read(&mut buffer[..wanted])?;
            if n == 0 {
                return Ok(found);
            }
            for hasher in &mut hashers {
                hasher.update(&buffer[..n]);
            }
            len += n as u64;
        }
        // The hashers go on after this mark: one pass over the file serves all marks.
        if hashers.iter().any(|hasher| hasher.digest() == mark.1) {
            found.push(mark);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Hasher;

    #[test]
    fn only_prefixes_of_the_content_match() {
        let mark = |text: &str| (text.len() as u64, ContentDigest::of(text.as_bytes()));
        let older = |text: &str| {
            let mut hasher = ContentHasher::Sha256(Hasher::default());
            hasher.update(text.as_bytes());
            (text.len() as u64, hasher.digest())
        };
        let mut marks = ["abcdef", "abc", "abx", "abcdefg", ""].map(mark).to_vec();
        marks.extend(["abcd", "abcx"].map(older));
        let found = match_marks(|| Ok("abcdef".as_bytes()), marks).unwrap();
        let expected = [mark(""), mark("abc"), older("abcd"), mark("abcdef")];
        assert_eq!(found, expected);
    }
}
