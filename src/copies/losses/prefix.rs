//! Copies that a rollout begins with.

use crate::codex::rollout;
use crate::io::{Hasher, Sha256Digest, file_open};
use std::io::{self, Read};
use std::path::Path;

/// The length and the digest of a copy.
pub(crate) type Mark = (u64, Sha256Digest);

/// Returns the marks that the text of the rollout begins with. Reads up to the longest mark.
pub(crate) fn match_text(path: &Path, marks: Vec<Mark>) -> io::Result<Vec<Mark>> {
    match_marks(|| rollout::open_plain(path), marks)
}

/// Returns the marks that the bytes of the file begin with.
pub(crate) fn match_bytes(path: &Path, marks: Vec<Mark>) -> io::Result<Vec<Mark>> {
    match_marks(|| file_open::open(path), marks)
}

fn match_marks<R: Read>(
    open: impl FnOnce() -> io::Result<R>,
    mut marks: Vec<Mark>,
) -> io::Result<Vec<Mark>> {
    if marks.is_empty() {
        return Ok(marks);
    }
    let mut reader = open()?;
    marks.sort_by_key(|mark| mark.0);
    let mut hasher = Hasher::default();
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
            hasher.update(&buffer[..n]);
            len += n as u64;
        }
        // The hasher goes on behind this mark: one pass over the file serves all marks.
        if hasher.digest() == mark.1 {
            found.push(mark);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixes_of_the_content_match() {
        let mark = |text: &str| (text.len() as u64, Sha256Digest::of(text.as_bytes()));
        let marks = ["abcdef", "abc", "abx", "abcdefg", ""].map(mark).to_vec();
        let found = match_marks(|| Ok("abcdef".as_bytes()), marks).unwrap();
        assert_eq!(found, ["", "abc", "abcdef"].map(mark));
    }
}
