//! Files of JSON lines that end with the digest of all lines before it, so that an incomplete or changed file is
//! recognized: the manifests in a cloud folder, and those of snapshots. The first line is a header with a schema
//! number.

use crate::io::document::{self, Document};
use crate::io::file_open;
use crate::io::hash::{Hasher, Sha256Digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;

/// Maximum length of a line, which has a path and a digest. A longer line counts as damage.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The last line.
#[derive(Serialize, Deserialize)]
struct EndLine {
    /// Digest of all lines before this one.
    end: Sha256Digest,
}

/// The result of reading such a file.
pub(super) enum SealedLines<H> {
    Complete {
        header: H,
        /// The digest in the last line, which identifies the content.
        end_digest: Sha256Digest,
    },
    /// The file is incomplete, was changed, or is of another type.
    Damaged,
    /// A newer version of this program wrote the file.
    Newer,
}

/// Encodes a file. Returns its bytes, and the digest in the last line.
pub(super) fn encode<L: Serialize>(
    header: &impl Document,
    lines: impl IntoIterator<Item = L>,
) -> io::Result<(Vec<u8>, Sha256Digest)> {
    let mut bytes = Vec::new();
    document::encode_to(&mut bytes, header)?;
    bytes.push(b'\n');
    for line in lines {
        document::push_line(&mut bytes, &line)?;
    }

    // The digest of all lines but the end line, which has the digest.
    let end_digest = Sha256Digest::of(&bytes);
    document::push_line(&mut bytes, &EndLine { end: end_digest })?;
    Ok((bytes, end_digest))
}

/// Parses a file, and calls `add` for each line between the first and the last one. The lines count only if the file is
/// complete.
///
/// # Errors
/// The reader fails.
pub(super) fn parse<H: Document, L: DeserializeOwned>(
    mut from: impl BufRead,
    mut add: impl FnMut(L),
) -> io::Result<SealedLines<H>> {
    let mut hasher = Hasher::default();
    let mut line = Vec::new();
    let Some(text) = read_line(&mut from, &mut line)? else {
        return Ok(SealedLines::Damaged);
    };
    let header = match document::parse::<H>(Path::new(""), text) {
        // A newer schema is the only error of parsing. Its message, which would name the path, is not used.
        Err(_) => return Ok(SealedLines::Newer),
        Ok(state) => state.good(),
    };
    let Some(header) = header else {
        return Ok(SealedLines::Damaged);
    };
    hasher.update(&line);

    while let Some(text) = read_line(&mut from, &mut line)? {
        if let Ok(entry) = serde_json::from_slice(text) {
            add(entry);
            hasher.update(&line);
            continue;
        }

        // Nothing may follow the end line.
        if let Ok(EndLine { end: end_digest }) = serde_json::from_slice(text)
            && end_digest == hasher.digest()
            && from.fill_buf()?.is_empty()
        {
            return Ok(SealedLines::Complete { header, end_digest });
        }
        break;
    }
    Ok(SealedLines::Damaged)
}

/// Reads the next line into `line`, and returns its text; `None` if it is too long or has no newline.
fn read_line<'l>(from: &mut impl BufRead, line: &'l mut Vec<u8>) -> io::Result<Option<&'l [u8]>> {
    line.clear();
    from.take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    Ok(line.strip_suffix(b"\n"))
}

/// Reads the digest in the last line of the file at `path`. `None` if the last line is not an end line.
///
/// # Errors
/// The file does not exist or cannot be read.
pub(super) fn read_end_digest(path: &Path) -> io::Result<Option<Sha256Digest>> {
    /// More than an end line has.
    const END_LINE_BYTES: u64 = 128;
    let mut file = file_open::open(path)?;
    let size = file.metadata()?.len();

    // Reads only the end, because a manifest can have many megabytes.
    file.seek(SeekFrom::Start(size.saturating_sub(END_LINE_BYTES)))?;
    let mut tail = Vec::new();
    file.take(END_LINE_BYTES).read_to_end(&mut tail)?;

    let line = tail.strip_suffix(b"\n").and_then(|tail| {
        let start = tail.iter().rposition(|byte| *byte == b'\n')? + 1;
        serde_json::from_slice::<EndLine>(&tail[start..]).ok()
    });
    Ok(line.map(|line| line.end))
}
