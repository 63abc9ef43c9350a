//! Captures a home into a folder tree for another backup program.
//!
//! Order and rules are those of [`super::capture`]: databases by SQLite's backup API, then files, then
//! the login under Codex's locks.
//!
//! Unchanged files are hard links to the files of the home: they take no space, and neither this
//! program nor the backup program reads them again. A link shares its content with Codex, so
//! [`CapturedTree::copy_changed_files`] finds files that were written while the tree was read. Links
//! stay between captures, because a new link changes the ctime of a file, by which [`super::reuse`]
//! recognizes unchanged files. Databases and the login are always copies, removed after each run.

use super::capture::{new_manifest, read_folder_ids, scan_with_snapshots, take_plain_files};
use super::database_snapshots::DatabaseSnapshots;
use super::duplicates::count_conversations;
use super::error::ArchiveError;
use super::format::{ArchiveManifest, FileEntry, FileList, MANIFEST_NAME, Metadata, NameSet};
use super::login_read::{self, LoginFile};
use super::path_note::PathNote;
use super::scan::HomeScan;
use super::scope::CaptureScope;
use super::tree_digests::{add_digests, read_digest, read_earlier_files};
pub use super::tree_writer::is_always_copied;
use super::tree_writer::{TreeWriter, copy_prefix, remove_copies};
use crate::codex::auth::Login;
use crate::codex::rollout;
use crate::io::disk_clock::modified_ns;
use crate::io::staging::Staging;
use crate::io::{IoContext, atomic, document, file_open, tree};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A captured home in a folder tree. Dropping it removes the files of the tree that are not hard links, such as
/// databases and the login.
#[derive(Debug)]
pub struct CapturedTree {
    pub root: PathBuf,
    pub manifest: ArchiveManifest,
    /// The captured login, or `None` if the tree has none.
    pub login: Option<Login>,
    /// Paths that a rule or a glob of the user left out, and duplicate rollouts.
    pub excluded: Vec<PathNote>,
    /// Paths that could not be captured.
    pub skipped: Vec<PathNote>,
    /// Captured files whose content does not match their name, such as a database without a SQLite header, and texts of
    /// the user that a crash damaged.
    pub damaged: Vec<PathNote>,
    /// The files in the tree that are hard links.
    hard_linked: NameSet,
}

/// Captures the files that `scope` selects into the tree at `root`. Sets the file names, file counts and sizes of
/// `metadata`. `tmp` is the folder for snapshots of databases, on the file system of the tree. The caller has to hold a
/// lock on the tree.
///
/// # Errors
/// The tree cannot be written, a restore replaced the home during the capture, or the user interrupted the backup. A
/// file of the home that cannot be read is no error; it is listed as skipped.
pub fn capture_tree(
    scope: &CaptureScope,
    root: &Path,
    tmp: &Path,
    mut metadata: Metadata,
) -> Result<CapturedTree, ArchiveError> {
    let staging = Staging::create_in(tmp)?;
    let folder_ids = read_folder_ids(&scope.home);
    let names = Arc::default();

    // No check of the disk space, because most files become hard links.
    let (mut scan, databases) = scan_with_snapshots(scope, &names, &staging, |_| Ok(()))?;
    metadata.captured_files = scan.top_entries();
    let plain_files = take_plain_files(&mut scan, &databases);

    atomic::create_unsynced_folder(root)?;
    let manifest_path = root.join(MANIFEST_NAME);
    let earlier_files = read_earlier_files(&manifest_path);
    let mut writer = TreeWriter::open(root, scope, &scan, &names)?;
    // Until the `CapturedTree` exists, nothing else removes the copies after an error.
    let login_file = write_entries(&mut writer, scope, &scan, &databases, &plain_files)
        .inspect_err(|_| remove_copies(root, &writer.files, &writer.hard_linked))?;

    let TreeWriter {
        files: placed_files,
        hard_linked,
        unreadable,
        mut skipped,
        damaged,
        ..
    } = writer;
    let placed_files = add_digests(root, &placed_files, &hard_linked, &earlier_files)
        .inspect_err(|_| remove_copies(root, &placed_files, &hard_linked))?;
    skipped.append(&mut scan.skipped);
    let child_ids = databases.list_child_ids();
    metadata.conversations = Some(count_conversations(&placed_files, &unreadable, &child_ids));
    let skipped = PathNote::sort_and_dedup(skipped);
    let mut manifest = new_manifest(
        scope,
        metadata,
        login_file.as_ref(),
        [&skipped, &damaged],
        &mut scan,
    );
    manifest.set_files(placed_files);

    let tree = CapturedTree {
        root: root.to_path_buf(),
        manifest,
        login: login_file.and_then(|file| file.login),
        excluded: scan.excluded,
        skipped,
        damaged: PathNote::sort_and_dedup([scan.damaged, damaged].concat()),
        hard_linked,
    };

    // From here on an error removes the copy of the login, by dropping `tree`.
    if read_folder_ids(&scope.home) != folder_ids {
        return Err(ArchiveError::Replaced(scope.home.clone()));
    }

    write_manifest(&manifest_path, &tree.manifest)?;
    Ok(tree)
}

/// Adds all entries of the scan to the tree and removes what earlier captures left there. Adds the login last, and
/// returns it.
fn write_entries(
    writer: &mut TreeWriter<'_>,
    scope: &CaptureScope,
    scan: &HomeScan,
    databases: &DatabaseSnapshots,
    plain_files: &FileList,
) -> Result<Option<LoginFile>, ArchiveError> {
    writer.add_folders_and_links(&scan.folders, &scan.links)?;
    for snapshot in &databases.snapshots {
        writer.add_database(&snapshot.planned, &snapshot.path)?;
    }
    writer.add_files(plain_files)?;

    // The manifest is written later. Without this call, `remove_unplaced` would remove its folder.
    writer.add_folder(atomic::parent_of(Path::new(MANIFEST_NAME)))?;
    writer.remove_unplaced(Path::new(""))?;

    let login = login_read::read_login(&scope.home, scan.login.as_ref(), &mut writer.skipped)?;
    if let Some(login_file) = &login {
        writer.add_login(&login_file.entry, login_file.bytes.expose())?;
    }
    Ok(login)
}

impl CapturedTree {
    /// Replaces each hard link to a file that was written since the capture with a copy. A copy of a `.jsonl` file ends
    /// after its last complete line. Returns the number of replaced links. If it is not 0, a backup that has already
    /// read the tree may have content that is newer than this capture.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn copy_changed_files(&mut self) -> Result<usize, ArchiveError> {
        let mut files = FileList::with_name_table(self.manifest.files.name_table());
        let mut replaced_count = 0;
        for entry in self.manifest.files.iter() {
            let name = entry.path.as_path();
            if !self.hard_linked.contains(name) || !self.has_changed(&entry) {
                files.push(&entry);
                continue;
            }

            replaced_count += 1;
            let path = self.root.join(name);
            let mut file = file_open::open_no_link(&path).at("read", &path)?;
            let meta = file.metadata().at("read", &path)?;

            let has_lines = name.extension().is_some_and(|e| e == "jsonl");
            let size = if has_lines {
                rollout::complete_lines_len(&mut file, meta.len()).at("read", &path)?
            } else {
                meta.len()
            };

            // The copy replaces the link, so later writes of Codex do not reach the tree.
            let copied = FileEntry {
                size,
                mtime: modified_ns(&meta),
                ..entry.clone()
            };
            copy_prefix(&path, &mut file, &copied)?;
            self.hard_linked.remove(name);
            files.push(&read_digest(&self.root, copied, false)?);
        }

        if replaced_count > 0 {
            self.manifest.set_files(files);
            write_manifest(&self.root.join(MANIFEST_NAME), &self.manifest)?;
        }

        Ok(replaced_count)
    }

    fn has_changed(&self, entry: &FileEntry) -> bool {
        let meta = self.root.join(entry.path.as_path()).symlink_metadata();
        meta.map_or(true, |m| {
            m.len() != entry.size || modified_ns(&m) != entry.mtime
        })
    }
}

/// Writes a manifest into a tree. The file is not durable.
///
/// # Errors
/// The file cannot be written.
pub fn write_manifest(path: &Path, manifest: &ArchiveManifest) -> Result<(), ArchiveError> {
    let json = document::encode(path, manifest)?;
    atomic::create_unsynced_folder(atomic::parent_of(path))?;
    tree::remove(path)?;
    let mut file = atomic::create_private(path)?;
    Ok(file.write_all(&json).at("write", path)?)
}

impl Drop for CapturedTree {
    fn drop(&mut self) {
        // The next capture removes what a killed one leaves.
        remove_copies(&self.root, &self.manifest.files, &self.hard_linked);
    }
}
