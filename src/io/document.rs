//! Versioned JSON documents of this program.
//!
//! Every document has a `"schema"` number. A newer number than the program knows is an error, and
//! the file stays unchanged. An unreadable document is renamed to a free name, so that its bytes
//! are kept, and the caller rebuilds it.

use super::file_open;
use super::lock::FileLock;
use super::{IoContext, IoError, atomic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};

/// A type of document that this program writes.
pub trait Document: Serialize + DeserializeOwned + Default {
    /// The newest schema number that this program understands, and the one it writes.
    const SCHEMA: u64;
    /// True for documents that people read: one line per value. Documents only for this program are
    /// compact.
    const INDENTED: bool = true;
}

/// The state of a document on disk.
#[derive(Debug)]
pub enum DocumentState<T> {
    /// The file does not exist.
    Absent,
    /// The document was read and parsed.
    Good(T),
    /// The file is not a document of this type; the text is the parse error.
    Damaged(String),
}

impl<T> DocumentState<T> {
    /// The document, unless it is absent or damaged.
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
    /// Written by a newer version of this program.
    #[error("written by a newer codex-manager (schema {found}, this one knows {known}): {}", path.display())]
    Newer {
        /// The path of the document.
        path: PathBuf,
        /// The schema number it carries.
        found: u64,
        /// The newest one known here.
        known: u64,
    },
    /// An operation on a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Reads the document at `path`. Takes no lock: the writer replaces the file in one rename.
pub fn read<T: Document>(path: &Path) -> Result<DocumentState<T>, DocumentError> {
    match file_open::read(path) {
        Ok(bytes) => parse(path, &bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(DocumentState::Absent),
        Err(source) => Err(IoError {
            action: "read",
            path: path.to_path_buf(),
            source,
        }
        .into()),
    }
}

/// Parses the bytes of a document; `path` is for the error alone.
pub fn parse<T: Document>(path: &Path, bytes: &[u8]) -> Result<DocumentState<T>, DocumentError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: u64,
    }
    // Documents begin with the schema number, so most are parsed only once.
    if begins_with_schema(bytes).is_some_and(|found| found <= T::SCHEMA)
        && let Ok(document) = serde_json::from_slice(bytes)
    {
        return Ok(DocumentState::Good(document));
    }
    let found = match serde_json::from_slice::<Versioned>(bytes) {
        Ok(document) => document.schema,
        Err(e) => return Ok(DocumentState::Damaged(e.to_string())),
    };
    if found > T::SCHEMA {
        return Err(DocumentError::Newer {
            path: path.to_path_buf(),
            found,
            known: T::SCHEMA,
        });
    }
    Ok(match serde_json::from_slice(bytes) {
        Ok(document) => DocumentState::Good(document),
        Err(e) => DocumentState::Damaged(e.to_string()),
    })
}

/// The number in `{"schema":1,…`.
fn begins_with_schema(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.trim_ascii_start().strip_prefix(b"{")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"schema\"")?;
    let rest = rest
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let end = rest.iter().position(|b| !b.is_ascii_digit())?;
    // `1.5` or `1e9` is another number.
    matches!(rest[end..].trim_ascii_start().first(), Some(b',' | b'}')).then_some(())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Writes the document durably, 0600.
pub fn write<T: Document>(path: &Path, document: &T) -> Result<(), IoError> {
    atomic::write(path, &encode(path, document)?)
}

/// The bytes of the document as it is written; `path` is for the error alone.
pub fn encode<T: Document>(path: &Path, document: &T) -> Result<Vec<u8>, IoError> {
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
    let encoded = if T::INDENTED {
        serde_json::to_vec_pretty(&versioned)
    } else {
        serde_json::to_vec(&versioned)
    };
    let mut bytes = encoded.map_err(std::io::Error::other).at("encode", path)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The result of [`update`].
#[derive(Debug)]
pub(crate) struct DocumentUpdate<R> {
    /// The result of the change.
    pub value: R,
    /// The new path of a damaged document, if there was one.
    pub moved_aside: Option<PathBuf>,
}

/// Appends a line of a file that holds one JSON value on each, with its end.
///
/// # Errors
/// It is no JSON value; nothing was appended then.
pub(crate) fn push_line(
    bytes: &mut Vec<u8>,
    line: &(impl Serialize + ?Sized),
) -> std::io::Result<()> {
    let start = bytes.len();
    if let Err(e) = serde_json::to_writer(&mut *bytes, line) {
        bytes.truncate(start);
        return Err(e.into());
    }
    bytes.push(b'\n');
    Ok(())
}

/// Reads, changes and writes the document at `path` under the lock `lock`.
///
/// `rebuild` makes the document where there is none or a damaged one; the damaged one is moved
/// aside first. Nothing is written when `change` leaves the document as it was.
pub(crate) fn update<T: Document + PartialEq + Clone, R>(
    path: &Path,
    lock: &Path,
    rebuild: impl FnOnce(&DocumentState<T>) -> T,
    change: impl FnOnce(&mut T) -> R,
) -> Result<DocumentUpdate<R>, DocumentError> {
    let _held = FileLock::exclusive_unless_interrupted(lock)?;
    let found = read::<T>(path)?;
    let (before, mut document, moved_aside) = match found {
        DocumentState::Good(document) => (Some(document.clone()), document, None),
        DocumentState::Absent => (None, rebuild(&found), None),
        DocumentState::Damaged(_) => {
            let fresh = rebuild(&found);
            (None, fresh, Some(move_aside(path)?))
        }
    };
    let value = change(&mut document);
    if before.as_ref() != Some(&document) {
        write(path, &document)?;
    }
    Ok(DocumentUpdate { value, moved_aside })
}

/// Moves a damaged file to `<name>.damaged`, `-2`, … beside it; returns the new place.
pub(crate) fn move_aside(path: &Path) -> Result<PathBuf, IoError> {
    // Copy first, so that the old name never disappears without the new one being there.
    let kept = atomic::keep_copy(path, ".damaged")?;
    fs::remove_file(path).at("remove", path)?;
    Ok(kept)
}
