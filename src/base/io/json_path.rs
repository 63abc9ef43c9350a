//! A path in JSON: a string or, if it is not Unicode, `{"base64": …}` of its bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum JsonPath {
    Text(String),
    Bytes { base64: String },
}

/// A path as an element of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListedPath(#[serde(with = "self")] pub PathBuf);

/// Serialises a path. Fails on Windows for a path that is not Unicode, which could not be read back.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let json = match path.to_str() {
        Some(text) => JsonPath::Text(text.to_owned()),
        None if cfg!(unix) => JsonPath::Bytes {
            base64: STANDARD.encode(path.as_os_str().as_encoded_bytes()),
        },
        None => return Err(S::Error::custom("a path that is not Unicode")),
    };
    json.serialize(serializer)
}

/// Serialises a path as it is displayed, so that a non-Unicode path causes no error. For reports that no program reads
/// back.
pub fn serialize_displayed<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Deserialises a path. Does not check where it leads.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    path_from_bytes(deserialize_bytes(deserializer)?).map_err(D::Error::custom)
}

/// Converts bytes to a path.
///
/// # Errors
/// The bytes are not UTF-8, on Windows.
#[allow(
    clippy::unnecessary_wraps,
    reason = "elsewhere a path may be no Unicode"
)]
pub fn path_from_bytes(bytes: Vec<u8>) -> Result<PathBuf, &'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    {
        let text = String::from_utf8(bytes);
        text.map(PathBuf::from)
            .map_err(|_| "a name that is not Unicode")
    }
}

/// Deserialises the bytes of a path, even if this system cannot have such a path.
pub(crate) fn deserialize_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    match JsonPath::deserialize(from)? {
        JsonPath::Text(text) => Ok(text.into_bytes()),
        JsonPath::Bytes { base64 } => STANDARD.decode(base64).map_err(D::Error::custom),
    }
}
