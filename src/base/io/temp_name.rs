//! The names of temp files.

use std::ffi::OsStr;

/// The prefix of temp files, which are safe to remove once no process writes them.
pub const TEMP_PREFIX: &str = ".codex-manager-tmp-";

pub(crate) fn is_temp_name(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}
