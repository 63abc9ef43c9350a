//! The manifest of a snapshot, and the listing of its files.

use super::error::VaultError;
use super::restic::Restic;
use super::snapshot::Snapshot;
use crate::archive::format::manifest_members;
use crate::archive::manifest::MANIFEST_NAME;
use crate::archive::path_checks::check_entries;
use crate::archive::{ArchiveManifest, FileList};
use crate::io::IoContext;
use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The assumed compressed size of a manifest, from which its maximum unpacked size follows: 1 GiB.
const MAX_PACKED_MANIFEST_BYTES: u64 = 32 << 20;

/// The manifest of a snapshot, and the part of the snapshot to download.
#[derive(Debug)]
pub(crate) struct SnapshotContents {
    pub(crate) manifest: ArchiveManifest,
    /// The paths to download, relative to the home. The empty path is the whole home.
    pub(super) roots: Vec<PathBuf>,
}

impl SnapshotContents {
    /// Reads the manifest of a snapshot.
    ///
    /// # Errors
    /// restic fails, another program made the snapshot, or the manifest is damaged or of a newer version.
    pub(crate) fn read(restic: &Restic, snapshot: &Snapshot) -> Result<Self, VaultError> {
        if snapshot.tags.is_none() {
            return Err(VaultError::OtherProgram(snapshot.short_id().to_owned()));
        }
        let path = format!("/{MANIFEST_NAME}");
        let manifest = restic.dump(&snapshot.id, path.as_ref(), |stream| {
            let id = Path::new(snapshot.short_id());
            let manifest = manifest_members::parse(id, stream, MAX_PACKED_MANIFEST_BYTES)?;
            check_entries(&manifest).map_err(|e| e.with_path(id))?;
            Ok(manifest)
        });
        let manifest = manifest.map_err(|e| e.about_snapshot(snapshot.short_id()))?;
        Ok(Self {
            manifest,
            roots: vec![PathBuf::new()],
        })
    }

    /// Removes all files from the manifest that are not at or below `paths`, so that they are not downloaded. Folders
    /// and links stay.
    pub(crate) fn keep_only(&mut self, paths: &[PathBuf]) {
        let all = std::mem::take(&mut self.manifest.files);
        let mut files = FileList::with_names(all.names());
        let mut roots = BTreeSet::new();
        for file in all.iter() {
            // If one of `paths` is below another one, only the upper one is downloaded.
            let above = paths
                .iter()
                .filter(|path| file.path.as_path().starts_with(path));
            if let Some(root) = above.min_by_key(|path| path.components().count()) {
                roots.insert(root);
                files.push(&file);
            }
        }
        self.roots = roots.into_iter().cloned().collect();
        self.manifest.files = files;
    }
}

/// Returns the path in the snapshot for a path of the home, as restic expects it: absolute, with slashes.
pub(crate) fn restic_path(path: &Path) -> OsString {
    let mut rooted = OsString::new();
    for name in path {
        rooted.push("/");
        rooted.push(name);
    }
    if rooted.is_empty() {
        rooted.push("/");
    }
    rooted
}

/// A file, folder or link of a snapshot, as `restic ls --json` prints it.
#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotNode {
    /// The absolute path within the snapshot.
    #[serde(default)]
    pub(crate) path: String,
    /// The kind: "file", "dir", "symlink", or another kind of restic.
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) size: u64,
    /// The modification time, if restic lists one.
    pub(crate) mtime: Option<DateTime<FixedOffset>>,
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
            let node: SnapshotNode =
                serde_json::from_slice(&line).map_err(|e| VaultError::Output("ls", e))?;
            // The first line is the snapshot, which has neither kind nor path.
            if !node.kind.is_empty() && !node.path.is_empty() {
                on_node(node);
            }
        }
    })
}
