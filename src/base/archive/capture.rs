//! Captures a home into an archive while Codex may be running.
//!
//! The order matters: databases first, then files, then the login. If a rollout is longer than its
//! projection in a database, Codex catches up. A shorter rollout would hide turns.

use super::database_snapshots::DatabaseSnapshots;
use super::error::ArchiveError;
use super::format::{
    ArchiveManifest, Compression, EntryName, FileList, InodeStamp, Metadata, NameSet, NameTable,
};
use super::home_packer::HomePacker;
use super::login_read::LoginFile;
use super::pack::{self, FinishedArchive};
use super::path_note::PathNote;
use super::relocation::FileLocator;
use super::reuse::PreviousArchive;
use super::scan::{self, HomeScan};
use super::scope::CaptureScope;
use crate::codex::auth::Login;
use crate::codex::home::{SESSIONS, kind_of};
use crate::io::atomic::TempFile;
use crate::io::staging::Staging;
use crate::io::{IoContext, Progress, file_id, space};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Free disk space that a backup leaves for other programs.
const SPACE_MARGIN_BYTES: u64 = 4 * 1024 * 1024;

/// A captured home, as an archive that is not published yet.
#[derive(Debug)]
pub struct CapturedHome {
    /// The archive as a temporary file, deleted when dropped.
    pub file: TempFile,
    pub packed: FinishedArchive,
    /// The archived login, or `None` if the archive has none.
    pub login: Option<Login>,
    /// Paths that a rule or a glob of the user left out, and duplicate rollouts.
    pub excluded: Vec<PathNote>,
    /// Paths that could not be archived.
    pub skipped: Vec<PathNote>,
    /// Skipped databases that could not be read. They may be sound, unlike those that failed the integrity check.
    pub unreadable_databases: HashSet<PathBuf>,
    /// Archived files whose content does not match their name, such as a database without a SQLite header, and texts of
    /// the user that a crash damaged.
    pub damaged: Vec<PathNote>,
}

/// Folders and options of a capture.
#[derive(Debug)]
pub struct CaptureOptions<'a> {
    /// Folder in which the archive is written.
    pub backups: &'a Path,
    /// Folder for snapshots of databases.
    pub tmp: &'a Path,
    pub compression: Compression,
    /// The previous archive, from which unchanged members are copied.
    pub previous: Option<&'a PreviousArchive<'a>>,
}

/// Captures the files that `scope` selects into a new archive with this metadata. Sets the file names, file counts and
/// sizes of the metadata.
///
/// # Errors
/// The archive cannot be written, the disk has too little space, the previous archive is damaged, a restore replaced
/// the home during the capture, or the user interrupted the backup. A file of the home that cannot be read is no error;
/// it is listed as skipped.
pub fn capture(
    scope: &CaptureScope,
    options: &CaptureOptions<'_>,
    mut metadata: Metadata,
    progress: &dyn Progress,
) -> Result<CapturedHome, ArchiveError> {
    let staging = Staging::create_in(options.tmp)?;

    // Compared again at the end: if a restore exchanges these folders meanwhile, the archive has files of two states.
    let folder_ids = read_folder_ids(&scope.home);

    // The table of the previous archive has most names of the home already.
    let names = options.previous.map(PreviousArchive::name_table);
    let names = names.map(Arc::clone).unwrap_or_default();
    let (mut scan, databases) =
        scan_with_snapshots(scope, &names, &staging, |scan| require_space(scan, options))?;

    metadata.captured_files = scan.top_entries();
    progress.expect_bytes(scan.total_bytes());
    // Databases come from their snapshots, so only the other files are read from the home.
    let plain_files = take_plain_files(&mut scan, &databases);

    let mut file = TempFile::create_in(options.backups)?;
    let path = file.path().to_path_buf();
    let out_file = file.file().try_clone().at("write", &path)?;
    // By the clocks of the file systems: a network disk has a clock of its own.
    let new_file = InodeStamp::of(&file.file().metadata().at("read", &path)?);
    let reached_times = plain_files.reached_times(new_file);

    // The closure can only return the manifest, so it sets `skipped` and `login` itself.
    let (compression, previous) = (options.compression, options.previous);
    let (mut skipped, mut damaged, mut login) = (Vec::new(), Vec::new(), None);
    let packed = pack::pack(out_file, &path, compression, previous, &names, |writer| {
        let mut packer = HomePacker {
            locator: FileLocator::new(scope, &scan.source_paths, &scan.links, &names),
            writer,
            skipped: std::mem::take(&mut scan.skipped),
            unreadable: NameSet::with_name_table(&names),
            damaged: Vec::new(),
            pending: NameSet::default(),
            reached_times,
            progress,
        };

        packer
            .writer
            .add_folders_and_links(&scan.folders, &scan.links)?;
        packer.add_databases(&databases.snapshots)?;
        packer.add_files(plain_files)?;
        let login_file = packer.add_login(scope, scan.login.as_ref())?;

        if read_folder_ids(&scope.home) != folder_ids {
            return Err(ArchiveError::Replaced(scope.home.clone()));
        }

        let child_ids = databases.list_child_ids();
        let count = (packer.writer).count_conversations(&packer.unreadable, &child_ids);
        metadata.conversations = Some(count);
        skipped = PathNote::sort_and_dedup(packer.skipped);
        damaged = PathNote::sort_and_dedup(packer.damaged);
        let manifest = new_manifest(
            scope,
            metadata,
            login_file.as_ref(),
            [&skipped, &damaged],
            &mut scan,
        );
        login = login_file.and_then(|file| file.login);
        Ok(manifest)
    })?;

    Ok(CapturedHome {
        file,
        packed,
        login,
        excluded: scan.excluded,
        skipped,
        unreadable_databases: databases.unreadable,
        damaged: PathNote::sort_and_dedup([scan.damaged, damaged].concat()),
    })
}

/// Scans the home, writes snapshots of its databases to `staging`, and scans the home again. Returns the second scan;
/// its skipped paths include the databases without a snapshot. Fails if `check_first_scan`
/// refuses the first scan.
pub(super) fn scan_with_snapshots(
    scope: &CaptureScope,
    names: &Arc<NameTable>,
    staging: &Staging,
    check_first_scan: impl FnOnce(&HomeScan) -> Result<(), ArchiveError>,
) -> Result<(HomeScan, DatabaseSnapshots), ArchiveError> {
    let mut databases = DatabaseSnapshots::default();
    {
        // In a block of its own, so that only one list of files is in memory at a time.
        let first_scan = scan::scan_home(scope, names)?;
        check_first_scan(&first_scan)?;
        databases.snapshot_all(&first_scan, staging)?;
    }

    // Scans again: files that Codex created while the snapshots were made belong to this capture,
    // and new databases may be among them.
    let mut scan = scan::scan_home(scope, names)?;
    databases.snapshot_all(&scan, staging)?;

    // For a database, the outcome of its snapshot counts, not a note of the second scan.
    scan.skipped.retain(|s| !databases.was_attempted(&s.path));
    scan.skipped.append(&mut databases.skipped);
    // A database of the first scan may be a plain file in the second scan. The archive has its snapshot.
    scan.damaged
        .retain(|note| !databases.has_snapshot_of(&note.path));

    Ok((scan, databases))
}

/// Moves the files without a database snapshot out of `scan`.
pub(super) fn take_plain_files(scan: &mut HomeScan, databases: &DatabaseSnapshots) -> FileList {
    let mut snapshots = NameSet::with_name_table(scan.files.name_table());
    snapshots.extend(databases.snapshots.iter().map(|s| s.planned.path.clone()));
    let mut files = std::mem::take(&mut scan.files);
    files.remove_all(&snapshots);
    files
}

/// Returns a manifest without files and members. Moves the folders and links out of `scan`. Sets the numbers of skipped
/// paths and damaged texts in the metadata, and limits the size of the metadata.
pub(super) fn new_manifest(
    scope: &CaptureScope,
    mut metadata: Metadata,
    login_file: Option<&LoginFile>,
    [skipped, damaged]: [&[PathNote]; 2],
    scan: &mut HomeScan,
) -> ArchiveManifest {
    metadata.skipped = skipped.len() as u64;
    metadata.damaged = damaged.len() as u64;
    if !scope.excludes.globs.is_empty() {
        let is_conversation = |note: &PathNote| kind_of(&note.path).is_rollout_folder();
        let leaves_out_some = scan.excluded.iter().any(is_conversation);
        // True only if the archive has no conversation at all.
        metadata.excludes_conversations = Some(leaves_out_some && !metadata.lists_conversations());
    }
    metadata.limit_size();

    // A path that no archive can hold cannot be listed in the manifest either.
    let skipped_names = skipped.iter().map(|s| EntryName::from_path(&s.path).ok());
    let damaged_texts = damaged
        .iter()
        .filter_map(|note| Some((EntryName::from_path(&note.path).ok()?, note.reason.clone())));
    ArchiveManifest {
        metadata,
        account_auth: login_file.map(|file| file.account_auth.clone()),
        excluded_globs: scope.excludes.globs.clone(),
        skipped: skipped_names.flatten().collect(),
        damaged: Some(damaged_texts.collect()),
        linked: std::mem::take(&mut scan.linked),
        folders: std::mem::take(&mut scan.folders),
        links: std::mem::take(&mut scan.links),
        partial: scope.only.is_some(),
        undo_removes: scope.undo_removes.clone(),
        replaced_links: scope.replaced_links.clone(),
        ..ArchiveManifest::default()
    }
}

/// Returns the device and the inode of the home and of its `sessions/`. Codex never replaces these folders; a restore
/// does.
pub(super) fn read_folder_ids(home: &Path) -> [Option<(u64, u64)>; 2] {
    ["", SESSIONS].map(|name| file_id::read_device_and_inode(&home.join(name)))
}

/// Fails early if the archive or the snapshots of databases would fill a disk. Assumes that content compresses to an
/// eighth; an archive that compresses worse fails later, at the write, and leaves no file behind.
fn require_space(scan: &HomeScan, options: &CaptureOptions<'_>) -> Result<(), ArchiveError> {
    let database_bytes: u64 = scan.databases.iter().map(|f| f.size).sum();
    let written_bytes = [
        (options.tmp, database_bytes),
        (options.backups, scan.stored_bytes / 8),
    ];

    for (folder, bytes) in written_bytes {
        // A small backup needs no larger margin than its own size.
        let needed_bytes = bytes.saturating_add(SPACE_MARGIN_BYTES.min(bytes));
        space::require_free_space(folder, needed_bytes)?;
    }
    Ok(())
}
