//! Taking a home into an archive while Codex may be at work in it.
//!
//! The order matters: databases first, then files, then the login. A rollout that is longer than
//! what its projection in a database knows is caught up by Codex; a shorter one hides turns.

use super::ArchiveError;
use super::conversations::Copies;
use super::entry_name::EntryName;
use super::file_list::FileList;
use super::format::{Compression, LARGE_BYTES};
use super::look::{Look, Seen, look, wait_for_growth};
use super::manifest::{AccountAuth, FileEntry, FolderEntry, LinkEntry, Stamp};
use super::metadata;
use super::moved::{Opened, Whereabouts};
use super::name_table::NameSet;
use super::pack::{self, Closing, PackWriter, Packed};
use super::reuse::Source;
use super::scan::{self, LeftOut, Scan};
use super::scope::CaptureScope;
use super::snapshots::{Databases, Snapshot};
use crate::codex::auth::{AuthFile, Login};
use crate::codex::home;
use crate::codex::login_lock::{self, LoginLock};
use crate::codex::rollout::ConversationFile;
use crate::io::atomic::TempFile;
use crate::io::file_open;
use crate::io::hash::Hasher;
use crate::io::progress::is_interrupted;
use crate::io::staging::Staging;
use crate::io::{IoContext, IoError, Progress, space};
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a file is looked at that is shorter each time it is read.
const LOOKS: u32 = 8;

/// Room that is left on the disk for others.
const SPACE_MARGIN_BYTES: u64 = 4 * 1024 * 1024;

/// A captured home: an archive that has no name yet.
#[derive(Debug)]
pub struct Captured {
    /// The archive. Dropped, it is gone.
    pub file: TempFile,
    /// What it is.
    pub packed: Packed,
    /// The login that was captured.
    pub login: Option<Login>,
    /// Left out by rule or by the user's wish.
    pub excluded: Vec<LeftOut>,
    /// Left out because it could not be taken.
    pub skipped: Vec<LeftOut>,
    /// The databases among them that may be sound, but could not be read.
    pub unreadable: HashSet<PathBuf>,
    /// In the archive as it is, though it is not what its name says.
    pub damaged: Vec<LeftOut>,
}

/// Where a capture works.
#[derive(Debug)]
pub struct Workplace<'a> {
    /// The folder that the archive will stand in.
    pub backups: &'a Path,
    /// The folder for snapshots of databases.
    pub tmp: &'a Path,
    /// How hard to compress.
    pub compression: Compression,
    /// An earlier archive to copy unchanged members from.
    pub source: Option<&'a Source<'a>>,
}

/// Takes what `scope` names. `metadata` says the rest; its file counts are filled in.
pub fn capture(
    scope: &CaptureScope,
    workplace: &Workplace<'_>,
    mut metadata: metadata::Metadata,
    progress: &dyn Progress,
) -> Result<Captured, ArchiveError> {
    let staging = Staging::inside(workplace.tmp)?;
    let folders = folder_ids(&scope.home);
    let names = workplace.source.and_then(Source::names);
    let names = names.map(Arc::clone).unwrap_or_default();
    let mut databases = Databases::default();
    {
        let before = scan::scan(scope, &names)?;
        check_space(&before, workplace)?;
        databases.take(&before, &staging)?;
    }
    // Walked again: what appeared while the databases were taken belongs to this capture.
    let mut scan = scan::scan(scope, &names)?;
    databases.take(&scan, &staging)?;
    scan.skipped.retain(|s| !databases.has(&s.path));
    let Databases {
        taken: snapshots,
        skipped: not_taken,
        unreadable,
    } = databases;
    scan.skipped.extend(not_taken);
    progress.expect_bytes(scan.bytes());

    let mut file = TempFile::inside(workplace.backups)?;
    let path = file.path().to_path_buf();
    let out = file.file().try_clone().at("write", &path)?;
    let began = Stamp::of(&file.file().metadata().at("read", &path)?).ctime;
    let (mut skipped, mut login) = (Vec::new(), None);
    let packed = pack::pack(
        out,
        &path,
        workplace.compression,
        workplace.source,
        &names,
        |writer| {
            let mut packing = Packing {
                whereabouts: Whereabouts::new(scope, &scan.places, &scan.links, &names),
                writer,
                skipped: std::mem::take(&mut scan.skipped),
                moved: HashSet::new(),
                copies: &scan.copies,
                rollouts: HashSet::new(),
                began,
                progress,
            };
            packing.structure(&scan.folders, &scan.links)?;
            packing.databases(&snapshots)?;
            let tops = scan.top_entries();
            let mut files = std::mem::take(&mut scan.files);
            // What is no database any more was one when it was taken.
            let mut taken = NameSet::sharing(&names);
            taken.extend(snapshots.iter().map(|s| s.planned.path.clone()));
            files.remove_all(&taken);
            scan.damaged.retain(|found| !taken.contains(&found.path));
            packing.files(files)?;
            let auth = packing.login(scope, scan.login.as_ref())?;
            if folder_ids(&scope.home) != folders {
                return Err(ArchiveError::Replaced(scope.home.clone()));
            }
            skipped = packing.skipped;
            skipped.sort();
            skipped.dedup_by(|again, first| again.path == first.path);
            metadata.captured_files = tops;
            metadata.skipped = skipped.len() as u64;
            metadata.bound();
            let (captured, account_auth) = auth.map_or((None, None), |(l, a)| (l, Some(a)));
            login = captured;
            Ok(Closing {
                metadata,
                account_auth,
                excluded_globs: scope.excludes.globs().to_vec(),
                skipped: skipped
                    .iter()
                    .filter_map(|s| EntryName::of_path(&s.path).ok())
                    .collect(),
                linked: std::mem::take(&mut scan.linked),
                partial: scope.only.is_some(),
                undo_removes: scope.undo_removes.clone(),
            })
        },
    )?;
    Ok(Captured {
        file,
        packed,
        login,
        excluded: scan.excluded,
        skipped,
        unreadable,
        damaged: scan.damaged,
    })
}

/// Which folders the home and its conversations are: Codex never replaces them, a restore does.
#[cfg(unix)]
fn folder_ids(home: &Path) -> Vec<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    [Path::new(""), Path::new(home::SESSIONS)]
        .map(|name| home.join(name).metadata().ok().map(|m| (m.dev(), m.ino())))
        .into()
}

#[cfg(not(unix))]
fn folder_ids(_home: &Path) -> Vec<Option<(u64, u64)>> {
    Vec::new()
}

/// Refuses early what would fill the disk. Conversations compress by four at least, and holes take next
/// to nothing; what does not compress fails later, at the write, and leaves nothing behind.
fn check_space(scan: &Scan, workplace: &Workplace<'_>) -> Result<(), ArchiveError> {
    let databases: u64 = scan.databases.iter().map(|f| f.size).sum();
    let needs = [
        (workplace.tmp, databases),
        (workplace.backups, scan.stored_bytes / 8),
    ];
    for (folder, needed) in needs {
        let needed_bytes = needed.saturating_add(SPACE_MARGIN_BYTES.min(needed));
        if let Some(free_bytes) = space::free_bytes(folder).filter(|free| *free < needed_bytes) {
            return Err(ArchiveError::NoSpace {
                folder: folder.to_path_buf(),
                needed_bytes,
                free_bytes,
            });
        }
    }
    Ok(())
}

/// What became of one attempt to add a file.
enum Added {
    /// It is in the archive, or there is nothing to add.
    Done,
    /// Its last line is not whole: look again when the others are done.
    Later,
}

/// Why a file that was to be taken is not in the archive.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("it became shorter while it was read")]
    Shorter,
    #[error("{0}")]
    Never(String),
}

struct Packing<'a, 'w> {
    whereabouts: Whereabouts<'a>,
    writer: &'a mut PackWriter<'w>,
    skipped: Vec<LeftOut>,
    /// What was captured where it was found in place of another: it has had its turn.
    moved: HashSet<EntryName>,
    /// The conversations that more than one file was listed of.
    copies: &'a Copies,
    /// Those of their files that are in the archive.
    rollouts: HashSet<RolloutKey>,
    /// When the capture began, by the clock that stamps files.
    began: i64,
    progress: &'a dyn Progress,
}

impl Packing<'_, '_> {
    fn structure(
        &mut self,
        folders: &[FolderEntry],
        links: &[(EntryName, PathBuf)],
    ) -> Result<(), ArchiveError> {
        for folder in folders {
            self.writer.add_folder(folder.clone())?;
        }
        for (name, target) in links {
            let entry = LinkEntry {
                path: name.clone(),
                target: target.clone(),
            };
            self.writer.add_link(entry)?;
        }
        Ok(())
    }

    fn databases(&mut self, snapshots: &[Snapshot]) -> Result<(), ArchiveError> {
        for snapshot in snapshots {
            let mut file = file_open::open(&snapshot.copy).at("read", &snapshot.copy)?;
            let size = file.metadata().at("read", &snapshot.copy)?.len();
            if let Some(reason) = self.add(&snapshot.planned, size, &mut file)? {
                self.skip(&snapshot.planned.path, reason.to_string());
            }
        }
        Ok(())
    }

    /// Takes `files`, ordered by name. What is done is let go: the list of a large home and the
    /// manifest that is made of it are not in memory at the same time as wholes.
    fn files(&mut self, mut files: FileList) -> Result<(), ArchiveError> {
        let mut later = Vec::new();
        let mut coming = files.name_set();
        while !files.is_empty() {
            let reused = self.reuse(&files)?;
            if reused > 0 {
                for file in files.range(0..reused) {
                    coming.remove(file.path.as_path());
                }
                files.drop_front(reused);
            } else if let Some(planned) = files.pop_front() {
                coming.remove(planned.path.as_path());
                match self.file(&planned, &coming, true)? {
                    Added::Done => {}
                    Added::Later => later.push(planned),
                }
            }
        }
        // One that is still the same after a while is at rest, one that has grown is being written.
        for planned in later {
            wait_for_growth(&planned, &self.whereabouts.listed(&planned.path));
            self.file(&planned, &coming, false)?;
        }
        Ok(())
    }

    /// Takes over from the earlier archive what stands there as it is now: how many of `files`, from
    /// the first on.
    fn reuse(&mut self, files: &FileList) -> Result<usize, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let count = self.writer.reusable(|i| files.get(i));
        let is_taken = |f: FileEntry| {
            self.moved.contains(&f.path)
                || self
                    .rollout_of(&f, f.stamp)
                    .is_some_and(|r| self.rollouts.contains(&r))
        };
        if count == 0 || files.range(0..count).any(is_taken) {
            return Ok(0);
        }
        for file in files.range(0..count) {
            let rollout = self.rollout_of(&file, file.stamp);
            self.rollouts.extend(rollout);
            self.progress.add_bytes(file.size);
        }
        self.writer.reuse(files)?;
        Ok(count)
    }

    /// Takes one file; `coming` are those that have not had their turn.
    fn file(
        &mut self,
        planned: &FileEntry,
        coming: &NameSet,
        may_defer: bool,
    ) -> Result<Added, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        if self.moved.contains(&planned.path) {
            return Ok(Added::Done);
        }
        let mut opened = match self.whereabouts.open(&planned.path) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Added::Done),
            Err(e) => {
                self.skip(&planned.path, e.source.to_string());
                return Ok(Added::Done);
            }
        };
        let mut looks = 0;
        loop {
            looks += 1;
            let reason = match look(&mut opened.file, planned, may_defer) {
                Ok(Look::Later) => return Ok(Added::Later),
                Ok(Look::Take(seen)) => match self.take(planned, &mut opened, seen, coming)? {
                    None => return Ok(Added::Done),
                    Some(reason) => reason,
                },
                Ok(Look::Leave(reason)) => NotTaken::Never(reason.to_owned()),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => NotTaken::Shorter,
                Err(e) => NotTaken::Never(e.to_string()),
            };
            // Somebody writes it anew meanwhile: what stands there now may be whole.
            if looks == LOOKS || !matches!(reason, NotTaken::Shorter) {
                self.skip(&opened.name, reason.to_string());
                return Ok(Added::Done);
            }
        }
    }

    /// Takes a file as it was seen; says why if not.
    fn take(
        &mut self,
        planned: &FileEntry,
        opened: &mut Opened,
        seen: Seen,
        coming: &NameSet,
    ) -> Result<Option<NotTaken>, ArchiveError> {
        let Seen { meta, size } = seen;
        // Codex moves conversations between their folders: this very file may have been taken under
        // another name. Copies of one that went different ways are files of their own.
        let rollout = self.rollout_of(planned, Stamp::of(&meta));
        if rollout.as_ref().is_some_and(|r| self.rollouts.contains(r)) {
            return Ok(None);
        }
        let name = &opened.name;
        if *name != planned.path {
            let has_turn = coming.contains(name.as_path());
            if has_turn || self.writer.holds(name) || self.moved.contains(name) {
                return Ok(None);
            }
        }
        let entry = FileEntry {
            // What was cut, or is growing, is not what a later look will find.
            stamp: if size == meta.len() {
                Stamp::of(&meta).settled(self.began)
            } else {
                Stamp::default()
            },
            ..scan::entry_of(name.clone(), &meta)
        };
        let not_taken = self.add(&entry, size, &mut opened.file)?;
        if not_taken.is_none() {
            if *name != planned.path {
                self.moved.insert(name.clone());
            }
            self.rollouts.extend(rollout);
        }
        Ok(not_taken)
    }

    fn skip(&mut self, name: &EntryName, reason: String) {
        self.skipped.push(LeftOut::new(name.as_path(), reason));
    }

    /// What a rollout would be found again by under another name; `None` for what cannot be listed
    /// under another.
    fn rollout_of(&self, file: &FileEntry, stamp: Stamp) -> Option<RolloutKey> {
        // Zero where the system has no such numbers.
        if stamp.ino == 0 || !self.copies.has(file.path.as_path()) {
            return None;
        }
        let conversation = ConversationFile::of(file.path.as_path())?;
        let mut hasher = Hasher::default();
        hasher.update(&stamp.dev.to_le_bytes());
        hasher.update(&stamp.ino.to_le_bytes());
        hasher.update(conversation.name.as_bytes());
        Some(hasher.digest().beginning())
    }

    /// Adds a file of this size; says why if it is not in the archive.
    fn add(
        &mut self,
        planned: &FileEntry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Option<NotTaken>, ArchiveError> {
        let entry = FileEntry {
            size,
            ..planned.clone()
        };
        let mut reading = Reading {
            content,
            error: None,
            progress: self.progress,
        };
        let added = self.writer.add_file(entry, &mut reading)?;
        let error = reading.error.take();
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        Ok((!added).then(|| match error {
            Some(error) => NotTaken::Never(error.to_string()),
            None if size < LARGE_BYTES => NotTaken::Shorter,
            // The beginning of it is in the archive under this name already, and counts for nothing.
            None => NotTaken::Never(NotTaken::Shorter.to_string()),
        }))
    }

    /// The login, last and under Codex's own locks. Its bytes are read once, so that what the
    /// manifest says of them is true of them.
    fn login(
        &mut self,
        scope: &CaptureScope,
        planned: Option<&FileEntry>,
    ) -> Result<Option<(Option<Login>, AccountAuth)>, ArchiveError> {
        let Some(planned) = planned else {
            return Ok(None);
        };
        let path = scope.home.join(home::AUTH_JSON);
        let lock = take_lock(&scope.home)?;
        let read = AuthFile::read(&path);
        let meta = path.metadata();
        drop(lock);
        let snapshot = match read.unwrap_or_else(|e| AuthFile::from_read_error(&e)) {
            AuthFile::Missing => return Ok(None),
            AuthFile::Unreadable { reason, .. } => {
                self.skipped.push(LeftOut::new(home::AUTH_JSON, reason));
                return Ok(None);
            }
            AuthFile::Present(snapshot) => snapshot,
        };
        let bytes = snapshot.bytes.expose();
        // It may have been renewed since it was listed.
        let planned = &FileEntry {
            path: planned.path.clone(),
            ..meta.map_or_else(
                |_| planned.clone(),
                |m| scan::entry_of(planned.path.clone(), &m),
            )
        };
        self.add(planned, bytes.len() as u64, &mut io::Cursor::new(bytes))?;
        let account_auth = AccountAuth {
            path: planned.path.clone(),
            sha256: snapshot.sha256(),
            identity: snapshot.login.as_ref().map(|l| l.identity.clone()),
        };
        Ok(Some((snapshot.login, account_auth)))
    }
}

/// Codex's locks, where they can be taken: in a home that may only be read there is nobody to
/// refresh a login either.
fn take_lock(home: &Path) -> Result<Option<LoginLock>, ArchiveError> {
    use crate::io::lock::LockError;
    match LoginLock::acquire(home, login_lock::REFRESH_TIMEOUT) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Io(e)) if is_read_only(&e) => Ok(None),
        Err(LockError::Io(e)) => Err(e.into()),
        Err(LockError::Held(path)) => Err(IoError {
            action: "lock",
            path,
            source: io::Error::new(io::ErrorKind::TimedOut, "Codex holds it for too long"),
        }
        .into()),
    }
}

fn is_read_only(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// What stays of a rollout when it is renamed: half a digest of the conversation, the device and the
/// number of the file. A number alone may belong to a new file by now.
type RolloutKey = [u8; 16];

/// Reads for the writer: counts, and keeps a read error to itself, so that it is not taken for one
/// of the archive.
struct Reading<'a> {
    content: &'a mut dyn Read,
    error: Option<io::Error>,
    progress: &'a dyn Progress,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.error.is_some() || is_interrupted() {
            return Ok(0);
        }
        match self.content.read(buffer) {
            Ok(n) => {
                self.progress.add_bytes(n as u64);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                self.error = Some(e);
                Ok(0)
            }
        }
    }
}
