//! A path in a journal: text, or `{"base64": …}` of its bytes where it is none, as names in an archive are
//! written.

use crate::archive::entry_name::link_target;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// One in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct AnyPath(#[serde(with = "self")] pub(super) PathBuf);

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    // What could not be read again is not written.
    if cfg!(not(unix)) && path.to_str().is_none() {
        return Err(S::Error::custom("a path that is not Unicode"));
    }
    link_target::serialize(path, serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    link_target::deserialize(from)
}
