//! Versioned JSON documents of this program.
//!
//! Every document has a `"schema"` number. A newer number than the program knows is an error, and
//! the file stays unchanged. A document that cannot be parsed, or exceeds its maximum size, is
//! damaged. [`update`] renames it to a free name, so that its bytes are kept, and rebuilds it.

use super::io_error::{IoContext, IoError};
use super::lock::FileLock;
use super::{atomic, file_open};
use crate::io::sharing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

pub trait Document: Serialize + DeserializeOwned {
    /// The newest schema number that this program understands, and the one it writes.
    const SCHEMA: u64 = 1;
    /// Maximum size in bytes, because a document may come from outside of the manager home.
    const MAX_BYTES: u64 = u64::MAX;
    /// True for documents that people read: one line per value. Documents only for this program are
    /// compact.
    const INDENTED: bool = true;
}

/// The state of a document on disk.
#[derive(Debug)]
pub enum DocumentState<T> {
    Absent,
    Good(T),
    /// The file is not a document of this type; the text is the parse error.
    Damaged(String),
}

impl<T> DocumentState<T> {
    /// Returns the document, or `None` if it is absent or damaged.
    pub fn good(self) -> Option<T> {
        match self {
            Self::Good(document) => Some(document),
            Self::Absent | Self::Damaged(_) => None,
        }
    }
}

/// The reason why a document is not used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("written by a newer codex-manager (schema {found}, this version reads up to {known}): {}", path.display())]
    Newer {
        path: PathBuf,
        /// The schema number of the document.
        found: u64,
        /// The newest schema number that this program reads.
        known: u64,
    },
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Reads the document at `path`. Takes no lock: the writer replaces the file in one rename.
pub fn read<T: Document>(path: &Path) -> Result<DocumentState<T>, DocumentError> {
    match read_bytes::<T>(path)? {
        Some(bytes) => parse(path, &bytes),
        None => Ok(DocumentState::Absent),
    }
}

/// Reads the document at `path` like [`read`]. A file that cannot be read counts as damaged, and so does a folder in its
/// place: one such record must not stop a command.
pub fn read_or_damaged<T: Document>(path: &Path) -> Result<DocumentState<T>, DocumentError> {
    match read(path) {
        Err(DocumentError::Io(e)) => Ok(damaged_state(&e.source)),
        state => state,
    }
}

/// Reads the bytes of the document at `path`, for [`parse`], which refuses a document that is too large. `None` if the
/// file does not exist.
pub(crate) fn read_bytes<T: Document>(path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    // One more byte than allowed shows [`parse`] that the document is too large.
    let read = file_open::read_at_most(path, T::MAX_BYTES.saturating_add(1));
    file_open::none_if_missing(read, path)
}

/// Parses the bytes of a document; `path` is used in the error only.
pub fn parse<T: Document>(path: &Path, bytes: &[u8]) -> Result<DocumentState<T>, DocumentError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: u64,
    }

    if bytes.len() as u64 > T::MAX_BYTES {
        return Ok(damaged_state(&TOO_LARGE));
    }

    // UTF-8 is checked for the whole text, which is faster than for each string.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return Ok(damaged_state(&e)),
    };

    // Documents begin with the schema number, so most are parsed only once.
    if parse_leading_schema(bytes).is_some_and(|schema| schema <= T::SCHEMA)
        && let Ok(document) = serde_json::from_str(text)
    {
        return Ok(DocumentState::Good(document));
    }

    let schema = match serde_json::from_str::<Versioned>(text) {
        Ok(document) => document.schema,
        Err(e) => return Ok(damaged_state(&e)),
    };
    if schema > T::SCHEMA {
        return Err(newer_error::<T>(path, schema));
    }
    Ok(serde_json::from_str(text).map_or_else(|e| damaged_state(&e), DocumentState::Good))
}

/// Parses a document of at most `max_bytes` while it is read, because its text is larger than the parsed value. A text
/// that does not begin with the schema number is read completely first, and is limited to [`Document::MAX_BYTES`] too.
pub fn parse_stream<T: Document>(
    path: &Path,
    content: &mut dyn Read,
    max_bytes: u64,
) -> Result<DocumentState<T>, DocumentError> {
    let mut content = content.take(max_bytes);
    let mut bytes = Vec::new();

    // Enough for the schema number, which this program writes first.
    if let Err(e) = content.by_ref().take(64).read_to_end(&mut bytes) {
        return Ok(damaged_state(&e));
    }
    let state = match parse_leading_schema(&bytes) {
        Some(schema) if schema > T::SCHEMA => return Err(newer_error::<T>(path, schema)),
        Some(_) => {
            let text = BufReader::new(bytes.chain(&mut content));
            serde_json::from_reader(text).map_or_else(|e| damaged_state(&e), DocumentState::Good)
        }
        None => match content.read_to_end(&mut bytes) {
            Ok(_) => parse(path, &bytes)?,
            Err(e) => damaged_state(&e),
        },
    };

    match state {
        // The size limit cuts the text, so that it looks damaged.
        DocumentState::Damaged(_) if content.limit() == 0 => Ok(damaged_state(&TOO_LARGE)),
        state => Ok(state),
    }
}

const TOO_LARGE: &str = "too large";

fn damaged_state<T>(reason: &dyn Display) -> DocumentState<T> {
    DocumentState::Damaged(reason.to_string())
}

fn newer_error<T: Document>(path: &Path, found: u64) -> DocumentError {
    DocumentError::Newer {
        path: path.to_path_buf(),
        found,
        known: T::SCHEMA,
    }
}

/// Returns the schema number of a text that begins with it: `{"schema":1,…`. `None` if `schema` is not the first key.
fn parse_leading_schema(bytes: &[u8]) -> Option<u64> {
    let members = bytes.trim_ascii_start().strip_prefix(b"{")?;
    let after_key = members.trim_ascii_start().strip_prefix(b"\"schema\"")?;
    let value = after_key
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let (digits, after_digits) = value.split_at(value.iter().position(|b| !b.is_ascii_digit())?);
    match after_digits.trim_ascii_start().first() {
        Some(b',' | b'}') => std::str::from_utf8(digits).ok()?.parse().ok(),
        // In `1.5` and `1e9`, the digits are only a part of the number.
        _ => None,
    }
}

/// Writes the document durably, 0600.
pub fn write<T: Document>(path: &Path, document: &T) -> Result<(), IoError> {
    atomic::write(path, &encode(path, document)?)
}

/// Encodes a document as the bytes of its file; `path` is used in the error only.
pub fn encode<T: Document>(path: &Path, document: &T) -> Result<Vec<u8>, IoError> {
    let mut bytes = Vec::new();
    encode_to(&mut bytes, document).at("encode", path)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes the JSON text of the document to `out`.
pub fn encode_to<T: Document>(out: impl Write, document: &T) -> io::Result<()> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        schema: u64,
        #[serde(flatten)]
        document: &'a T,
    }

    let versioned = Versioned {
        schema: T::SCHEMA,
        document,
    };

    if T::INDENTED {
        Ok(serde_json::to_writer_pretty(out, &versioned)?)
    } else {
        Ok(serde_json::to_writer(out, &versioned)?)
    }
}

/// Appends `line` as JSON with a newline to `bytes`.
///
/// # Errors
/// `line` cannot be serialized. `bytes` is unchanged then.
pub fn push_line(bytes: &mut Vec<u8>, line: &(impl Serialize + ?Sized)) -> io::Result<()> {
    let start = bytes.len();
    if let Err(e) = serde_json::to_writer(&mut *bytes, line) {
        bytes.truncate(start);
        return Err(e.into());
    }
    bytes.push(b'\n');
    Ok(())
}

/// Reads, changes and writes the document at `path` under the lock `lock_path`.
///
/// A missing or damaged document is replaced by the default; a damaged one is moved aside first. A good document that
/// `change` leaves equal is not written. Returns the value of `change`, and the new path of a damaged document. Waits
/// for the lock like [`FileLock::acquire_unless_interrupted`].
pub fn update<T: Document + Default + PartialEq + Clone, R>(
    path: &Path,
    lock_path: &Path,
    change: impl FnOnce(&mut T) -> R,
) -> Result<(R, Option<PathBuf>), DocumentError> {
    // Locked before the read, because two processes that read the same state would each drop the change of the other.
    let _lock = FileLock::acquire_unless_interrupted(lock_path)?;

    let (old_document, moved_aside) = match read_or_damaged::<T>(path)? {
        DocumentState::Good(document) => (Some(document), None),
        DocumentState::Absent => (None, None),
        DocumentState::Damaged(_) => (None, Some(move_aside(path)?)),
    };

    let mut document = old_document.clone().unwrap_or_default();
    let value = change(&mut document);

    // A command that changes nothing must also work on a full or read-only disk.
    if old_document.as_ref() != Some(&document) {
        write(path, &document)?;
    }

    Ok((value, moved_aside))
}

/// Renames a damaged file, or a folder in its place, to `<name>.damaged`, or `<name>.damaged-2` and so on if that exists.
/// Returns the new path.
pub fn move_aside(path: &Path) -> Result<PathBuf, IoError> {
    let Ok(copy_path) = atomic::keep_copy(path, ".damaged") else {
        // It cannot be read, so it cannot be copied.
        let target = atomic::find_free_path(&atomic::with_suffix(path, ".damaged"));
        atomic::rename(path, &target)?;
        return Ok(target);
    };
    // Copied first, so that the old name never disappears without the new one being there.
    sharing::remove_file(path).at("remove", path)?;
    Ok(copy_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize, Serialize)]
    struct Note {
        text: String,
    }

    impl Document for Note {
        const SCHEMA: u64 = 1;
        const MAX_BYTES: u64 = 100;
    }

    /// The state of a document as text, as [`parse`] and as [`parse_stream`] find it.
    fn states(text: &str) -> [String; 2] {
        let path = Path::new("note.json");
        let describe = |state: Result<DocumentState<Note>, DocumentError>| match state {
            Ok(DocumentState::Good(note)) => note.text,
            Ok(DocumentState::Damaged(reason)) => reason,
            Ok(DocumentState::Absent) => "absent".into(),
            Err(e) => e.to_string(),
        };
        [
            describe(parse(path, text.as_bytes())),
            describe(parse_stream(path, &mut text.as_bytes(), Note::MAX_BYTES)),
        ]
    }

    #[test]
    fn a_stream_is_parsed_like_bytes() {
        let long = format!(r#"{{"schema":1,"text":"{}"}}"#, "x".repeat(100));
        for (text, expected) in [
            (r#"{"schema":1,"text":"hi"}"#, "hi"),
            (r#"{"text":"hi","schema":1}"#, "hi"),
            (r#"{"schema":2,"other":1}"#, "newer codex-manager (schema 2"),
            (r#"{"other":1,"schema":2}"#, "newer codex-manager (schema 2"),
            (r#"{"text":"hi"}"#, "missing field `schema`"),
            (r#"{"schema":1}"#, "missing field `text`"),
            (r#"{"schema":1,"text":"hi"#, "EOF"),
            (r#"{"schema":1,"text":"hi"} x"#, "trailing"),
            ("", "EOF"),
            (&long, "too large"),
        ] {
            for state in states(text) {
                assert!(state.contains(expected), "{text}: {state}");
            }
        }
        let encoded = encode(Path::new("x"), &Note { text: "hi".into() }).unwrap();
        let encoded = String::from_utf8(encoded).unwrap();
        assert_eq!(encoded, "{\n  \"schema\": 1,\n  \"text\": \"hi\"\n}\n");
    }
}
