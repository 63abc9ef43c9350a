//! Serde functions for link targets: the same JSON form as names, without validation, because a
//! target may lead anywhere.

use super::entry_name::{JsonName, os_string};
use serde::de::Error;
use serde::{Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

pub(crate) fn serialize<S: Serializer>(target: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match target.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => JsonName::of_bytes(target).serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let raw = JsonName::read(deserializer)?;
    os_string(&raw).map(Into::into).map_err(D::Error::custom)
}
