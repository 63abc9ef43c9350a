//! The versions that a run takes from other machines, recorded before it changes the home.

use super::snapshot_manifest::FileVersions;
use crate::io::document::Document;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TAKEN_FILE: &str = "taken.json";

/// Versions of other machines that an unpublished run may have placed in the home, by key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TakenVersions {
    pub(super) files: BTreeMap<String, Vec<FileVersions>>,
    /// Keys of the files whose first version an earlier run placed in the home.
    #[serde(default)]
    pub(super) placed: BTreeSet<String>,
}

impl Document for TakenVersions {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}
