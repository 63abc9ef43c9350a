//! A path in a journal: a JSON string or, if it is not Unicode, `{"base64": …}` of its bytes, as in
//! the names of an archive.

use crate::archive::link_target;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// A path as an element of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct JournalPath(#[serde(with = "self")] pub(super) PathBuf);

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    // A path that could not be read back must not be written.
    if cfg!(not(unix)) && path.to_str().is_none() {
        return Err(S::Error::custom("a path that is not Unicode"));
    }
    link_target::serialize(path, serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    link_target::deserialize(from)
}
