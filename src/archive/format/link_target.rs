//! Serde functions for link targets: the same JSON form as names, without validation, because a
//! target may lead anywhere.

use super::entry_name::{JsonName, os_string};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

pub(crate) fn serialize<S: Serializer>(target: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match target.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => JsonName::Bytes {
            base64: STANDARD.encode(target.as_os_str().as_encoded_bytes()),
        }
        .serialize(serializer),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let raw = match JsonName::deserialize(deserializer)? {
        JsonName::Text(text) => return Ok(text.into()),
        JsonName::Bytes { base64 } => STANDARD.decode(base64).map_err(D::Error::custom)?,
    };
    os_string(&raw).map(Into::into).map_err(D::Error::custom)
}
