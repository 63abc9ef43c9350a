//! The files and folders that `restic ls` lists.

use super::error::VaultError;
use super::restic::Restic;
use crate::io::IoContext;
use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A file, folder or link of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotNode {
    /// The absolute path within the snapshot.
    pub(crate) path: String,
    /// The kind: "file", "dir", "symlink", or another kind of restic.
    pub(crate) kind: String,
    /// The size in bytes.
    pub(crate) size: u64,
    /// The permission bits of the file mode.
    pub(crate) mode: u32,
    /// The modification time, if restic lists one.
    pub(crate) mtime: Option<DateTime<FixedOffset>>,
}

/// A line of `restic ls --json`. The first line is the snapshot and has neither kind nor path.
#[derive(Debug, Deserialize)]
struct ListedLine {
    #[serde(rename = "type")]
    kind: Option<String>,
    path: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    mode: u32,
    mtime: Option<DateTime<FixedOffset>>,
}

/// Passes each node of a snapshot to `on_node`, in the order of restic. Takes no lock.
///
/// # Errors
/// restic fails, or its output has another format.
pub(crate) fn for_each_node(
    restic: &Restic,
    id: &str,
    mut on_node: impl FnMut(SnapshotNode),
) -> Result<(), VaultError> {
    let args = ["ls", "--json", "--no-lock", id];
    restic.stream(&args, |stream| {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = lines.read_until(b'\n', &mut line);
            if n.at("read", Path::new("restic ls"))? == 0 {
                return Ok(());
            }
            let listed: ListedLine =
                serde_json::from_slice(&line).map_err(|e| VaultError::Output("ls", e))?;
            if let (Some(kind), Some(path)) = (listed.kind, listed.path) {
                on_node(SnapshotNode {
                    path,
                    kind,
                    size: listed.size,
                    mode: listed.mode & 0o777,
                    mtime: listed.mtime,
                });
            }
        }
    })
}
