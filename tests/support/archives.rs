//! Archives created and restored by calls of the library, without processes.

use super::env::TestEnv;
use super::pauses::{EVENT_LIMIT, poll};
use codex_manager_core::accounts::login_selection::AuthPolicy;
use codex_manager_core::archive::ArchiveError;
use codex_manager_core::archive::capture::{self, CaptureOptions, CapturedHome};
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::metadata::{BackupMode, Metadata};
use codex_manager_core::archive::pack::FinishedArchive;
use codex_manager_core::archive::path_note::PathNote;
use codex_manager_core::archive::reader::ArchiveReader;
use codex_manager_core::archive::reuse::{PreviousArchive, ReuseOptions, VerifyReused};
use codex_manager_core::archive::scope::CaptureScope;
use codex_manager_core::io::environment::Environment;
use codex_manager_core::io::progress::{Progress, Silent};
use codex_manager_core::journal::JournalError;
use codex_manager_core::restore::plan::{RestoreTarget, Selection};
use codex_manager_core::restore::request::RestoreRequest;
use codex_manager_core::restore::{RestoreError, apply};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The default options for copying members of the previous archive.
pub(crate) const COPYING: ReuseOptions = ReuseOptions {
    verify: VerifyReused::All,
    rehash: false,
    compression: Compression::Default,
};

/// Opens an archive to copy from.
pub(crate) fn open_source(path: &Path, options: ReuseOptions) -> Option<PreviousArchive<'static>> {
    let archive = Box::leak(Box::new(ArchiveReader::open(path).ok()?));
    PreviousArchive::open(archive, options, <_>::default())
}

/// Archives the home of `env` as `backups/<name>`.
pub(crate) fn create_archive(
    env: &TestEnv,
    name: &str,
    compression: Compression,
    source: Option<&PreviousArchive>,
) -> Result<(PathBuf, FinishedArchive), ArchiveError> {
    let (taken, backups) = capture_home(env, compression, source, &Silent)?;
    let CapturedHome { file, packed, .. } = taken;
    let path = backups.join(name);
    file.replace(&path).expect("name");
    Ok((path, packed))
}

fn capture_home(
    env: &TestEnv,
    compression: Compression,
    source: Option<&PreviousArchive>,
    progress: &dyn Progress,
) -> Result<(CapturedHome, PathBuf), ArchiveError> {
    let (backups, tmp) = (env.path("backups"), env.path("tmp"));
    fs::create_dir_all(&backups).expect("folder");
    let scope = CaptureScope::new(&env.codex_home(), BackupMode::Full);
    let options = CaptureOptions {
        backups: &backups,
        tmp: &tmp,
        compression,
        previous: source,
    };
    let taken = capture::capture(&scope, &options, Metadata::default(), progress)?;
    Ok((taken, backups))
}

/// Archives the home of `env` as `backups/<name>` with this `progress`, which may change the home
/// meanwhile. Also returns the files that were left out.
pub(crate) fn create_archive_with_progress(
    env: &TestEnv,
    name: &str,
    progress: &dyn Progress,
) -> Result<(PathBuf, Vec<PathNote>), ArchiveError> {
    let (taken, backups) = capture_home(env, Compression::Fast, None, progress)?;
    let path = backups.join(name);
    taken.file.replace(&path).expect("name");
    Ok((path, taken.skipped))
}

/// Restores an archive into a new folder.
pub(crate) fn restore_archive(env: &TestEnv, archive: &Path, into: &str) -> PathBuf {
    restore_archive_onto(env, archive, into, None).expect("restore")
}

/// Like `restore_archive`; the caller decides whether the disk ignores letter case.
pub(crate) fn restore_archive_onto(
    env: &TestEnv,
    archive: &Path,
    into: &str,
    ignores_case: Option<bool>,
) -> Result<PathBuf, RestoreError> {
    let archive = ArchiveReader::open(archive).expect("opens");
    let folder = env.path(into);
    let process = Environment::from_process().without("CODEX_SQLITE_HOME");
    let manager_home = env.manager_home();
    fs::create_dir_all(&manager_home).expect("folder");
    let request = RestoreRequest {
        archive: &archive,
        folder: folder.clone(),
        target: RestoreTarget::Elsewhere,
        selection: Selection::default(),
        merge: false,
        auth: AuthPolicy::default(),
        may_switch_account: true,
        safety_backup: false,
        safety_without_logins: false,
        may_write_outside: false,
        ignores_case,
        manager_home: &manager_home,
        machine: None,
        env: &process,
        now: chrono::DateTime::default(),
        planned_after: Instant::now(),
    };
    // The child that another test has forked has all files of this process open until it executes its program.
    let restored = poll(EVENT_LIMIT, || match apply::apply(&request, &Silent) {
        Err(
            RestoreError::Busy(_) | RestoreError::Journal(JournalError::OpenedMeanwhile { .. }),
        ) => None,
        result => Some(result),
    });
    restored
        .expect("the child executes its program")
        .map(|_| folder)
}
