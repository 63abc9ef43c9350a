//! The manifest of a snapshot: the stored manifest, or one made from the listing of a plain `restic backup`.

use super::error::VaultError;
use super::restic::Restic;
use super::snapshot::Snapshot;
use crate::archive::format::manifest_members;
use crate::archive::manifest::MANIFEST_NAME;
use crate::archive::path_checks::check_entries;
use crate::archive::{
    ArchiveManifest, BackupMode, CaptureScope, EntryName, FileEntry, FileList, FolderEntry,
    InodeStamp, Metadata,
};
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::Zone;
use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The assumed compressed size of a manifest, from which its maximum unpacked size follows: 1 GiB.
const MAX_PACKED_MANIFEST_BYTES: u64 = 32 << 20;

/// The path of the home relative to itself.
const WHOLE_HOME: &str = "";

/// The manifest of a snapshot, with the place of the home.
#[derive(Debug)]
pub struct SnapshotContents {
    /// The stored manifest. For a snapshot of another program, a manifest made from its listing.
    pub manifest: ArchiveManifest,
    /// Path of the home within the snapshot, without the leading `/`.
    pub(super) home: PathBuf,
    /// The paths to download, relative to the home. The empty path is the whole home.
    pub(super) roots: Vec<PathBuf>,
    /// Files of another program's snapshot that are not restored: databases, which restic may have
    /// read while Codex wrote them, links and special files.
    pub left_out: Vec<String>,
}

impl SnapshotContents {
    /// Reads the manifest of a snapshot.
    ///
    /// # Errors
    /// restic fails, the manifest is damaged or of a newer version, or the snapshot of another
    /// program holds no Codex home.
    pub fn read(restic: &Restic, snapshot: &Snapshot) -> Result<Self, VaultError> {
        // Without tags, the snapshot is one of another program.
        let Some(tags) = &snapshot.tags else {
            return Self::read_plain_backup(restic, snapshot);
        };

        let manifest_path = format!("/{MANIFEST_NAME}");
        let manifest = restic.dump(&snapshot.id, manifest_path.as_ref(), |stream| {
            // For the messages of errors, which name an archive by its path.
            let shown_path = Path::new(snapshot.short_id());
            let manifest =
                manifest_members::parse_manifest(shown_path, stream, MAX_PACKED_MANIFEST_BYTES)?;
            check_entries(&manifest).map_err(|e| e.into_archive_error(shown_path))?;
            Ok(manifest)
        });
        let mut manifest = manifest.map_err(|e| e.into_snapshot_error(snapshot.short_id()))?;
        // Older versions recorded the machine in the tags only.
        if manifest.metadata.machine.is_none() {
            manifest.metadata.machine.clone_from(&tags.metadata.machine);
        }

        Ok(Self {
            manifest,
            home: PathBuf::new(),
            roots: vec![WHOLE_HOME.into()],
            left_out: Vec::new(),
        })
    }

    /// Removes all files from the manifest that are not at or below `paths`, so that they are not downloaded. Folders
    /// and links stay.
    pub fn keep_files_at_or_below(&mut self, paths: &[PathBuf]) {
        let all_files = std::mem::take(&mut self.manifest.files);
        let mut files = FileList::with_name_table(all_files.name_table());
        let mut roots = BTreeSet::new();

        for file in all_files.iter() {
            let is_above = |path: &&PathBuf| file.path.as_path().starts_with(path);
            let paths_above = paths.iter().filter(is_above);
            // If one of `paths` is below another of them, only the upper path is downloaded.
            if let Some(root) = paths_above.min_by_key(|path| path.components().count()) {
                roots.insert(root);
                files.push(&file);
            }
        }

        self.roots = roots.into_iter().cloned().collect();
        self.manifest.files = files;
    }

    /// Returns the path in the snapshot for a path of the home, as restic expects it: absolute, with slashes.
    pub fn to_restic_path(&self, path: &Path) -> OsString {
        let mut restic_path = OsString::new();
        for name in &self.home.join(path) {
            restic_path.push("/");
            restic_path.push(name);
        }
        if restic_path.is_empty() {
            restic_path.push("/");
        }
        restic_path
    }

    fn read_plain_backup(restic: &Restic, snapshot: &Snapshot) -> Result<Self, VaultError> {
        let nodes = list_nodes(restic, &snapshot.id, |_| true)?;
        let Some(root) = find_home_path(&nodes) else {
            let wanted = "a folder with sessions, history.jsonl or auth.json";
            return Err(snapshot.no_path_error(wanted));
        };

        let mut contents = Self {
            manifest: ArchiveManifest {
                // Such a snapshot may lack files, so a restore must not remove a file that it lacks.
                partial: true,
                ..ArchiveManifest::default()
            },
            home: root.strip_prefix("/").unwrap_or(&root).to_path_buf(),
            roots: vec![WHOLE_HOME.into()],
            left_out: Vec::new(),
        };

        let scope = CaptureScope::new(&root, BackupMode::Full);
        for node in &nodes {
            let name = Path::new(&node.path).strip_prefix(&root);
            if let Some(name) = name.ok().and_then(|name| EntryName::from_path(name).ok()) {
                contents.add_node(node, name, &scope);
            }
        }

        let files = &contents.manifest.files;
        contents.manifest.metadata = Metadata {
            source_codex_home: root.display().to_string(),
            created_at: Zone::UTC.at(&snapshot.time),
            inference_basis: "a snapshot of another program".into(),
            files: files.len() as u64,
            bytes: files.total_bytes(),
            ..Metadata::default()
        };

        Ok(contents)
    }

    /// Adds a node of a plain backup to the manifest or to `left_out`. Ignores nodes that a backup of this program
    /// excludes.
    fn add_node(&mut self, node: &SnapshotNode, name: EntryName, scope: &CaptureScope) {
        let path = name.as_path();
        // restic may have read a database while Codex wrote it.
        if kind_of(path) == HomeEntryKind::Database {
            self.left_out.push(name.to_string());
            return;
        }

        if name.is_manager_name() || !path.ancestors().all(|p| scope.captures(kind_of(p))) {
            return;
        }

        let mtime = node.mtime.and_then(|at| at.timestamp_nanos_opt());
        let (mode, mtime) = (node.permissions(), mtime.unwrap_or_default());
        match node.kind.as_str() {
            "dir" => self.manifest.folders.push(FolderEntry {
                path: name,
                mode,
                mtime,
            }),
            "file" => self.manifest.files.push(&FileEntry {
                path: name,
                size: node.size,
                mode,
                mtime,
                // The listing has no digest.
                digest: None,
                stamp: InodeStamp::default(),
            }),
            _ => self.left_out.push(name.to_string()),
        }
    }
}

/// Returns the first folder of a listing that has `sessions`, `auth.json` or `history.jsonl`.
fn find_home_path(nodes: &[SnapshotNode]) -> Option<PathBuf> {
    let home_entries = ["sessions", "auth.json", "history.jsonl"];
    let mut paths = nodes.iter().map(|node| Path::new(&node.path));
    let entry = paths.find(|path| home_entries.iter().any(|entry| path.ends_with(entry)))?;
    entry.parent().map(Path::to_path_buf)
}

/// A file, folder or link of a snapshot, as `restic ls --json` prints it.
#[derive(Debug, Deserialize)]
pub struct SnapshotNode {
    /// The absolute path within the snapshot.
    #[serde(default)]
    pub path: String,
    /// The kind: "file", "dir", "symlink", or another kind of restic.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub size: u64,
    /// The file mode with Go's bits for the kind.
    #[serde(default)]
    mode: u32,
    /// The modification time, if restic lists one.
    pub mtime: Option<DateTime<FixedOffset>>,
}

impl SnapshotNode {
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o777
    }
}

/// Returns the nodes of a snapshot that `accepts` selects, in the order of restic. Takes no lock.
///
/// # Errors
/// restic fails, or its output has another format.
pub fn list_nodes(
    restic: &Restic,
    id: &str,
    accepts: impl Fn(&SnapshotNode) -> bool,
) -> Result<Vec<SnapshotNode>, VaultError> {
    let args = ["ls", "--json", "--no-lock", id];
    let mut nodes = Vec::new();

    restic.stream(&args, |stream| {
        let documents = serde_json::Deserializer::from_reader(BufReader::new(stream));
        for node in documents.into_iter::<SnapshotNode>() {
            let node = node.map_err(|e| VaultError::Output("ls", e))?;
            // The first one is the snapshot, which has neither kind nor path.
            if !node.kind.is_empty() && !node.path.is_empty() && accepts(&node) {
                nodes.push(node);
            }
        }
        Ok(())
    })?;

    Ok(nodes)
}
