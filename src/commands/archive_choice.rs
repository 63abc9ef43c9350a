//! The archive that the user names.

use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::records::ArchiveRecord;
use crate::inventory::store;
use std::path::{Path, PathBuf};

/// The argument that denotes the newest archive of a home; see [`latest`].
pub(super) const LATEST: &str = "latest";

/// Returns the name of the file of an archive.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns the kind of an archive for lists: its mode, "safety" for one that `restore` made, or with
/// "partial" one that holds a single login.
pub(super) fn kind(metadata: &Metadata) -> String {
    match metadata.mode.name() {
        _ if metadata.is_safety() => "safety".into(),
        mode if metadata.is_single_login() => partial(mode),
        mode => mode.into(),
    }
}

/// Labels the kind of an archive that holds a single login.
pub(super) fn partial(kind: &str) -> String {
    format!("{kind} (partial)")
}

/// Returns the archive that [`LATEST`] denotes among those that `accepts` accepts; see
/// [`store::latest`].
///
/// # Errors
/// There is none. The message says whether there are other archives.
pub(super) fn latest<'r>(
    records: &'r [ArchiveRecord],
    backups: &Path,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Result<&'r ArchiveRecord, CommandError> {
    store::latest(records, &accepts).ok_or_else(|| {
        if records.iter().any(accepts) {
            CommandError::failed("latest: there are only safety and partial archives").hint(
                "name an archive from codex-manager list-backups, or create one with: codex-manager backup",
            )
        } else if records.iter().any(|r| r.archive.is_some()) {
            CommandError::failed("latest: no archive is undamaged")
                .hint("list the problems with: codex-manager list-backups")
        } else {
            no_archives(backups)
        }
    })
}

/// Creates the error for a folder without archives.
pub(super) fn no_archives(backups: &Path) -> CommandError {
    CommandError::failed(format!("no archives in {}", backups.display()))
        .hint("create one with: codex-manager backup")
}

/// Finds the archive `name`: a path, or a name in `backups/` with or without its suffix.
///
/// # Errors
/// No such file exists.
pub(super) fn find_archive(context: &Context, name: &Path) -> Result<PathBuf, CommandError> {
    let in_backups = store::backups(&context.settings.manager_home).join(name);
    let as_path = context.env.absolute(name);
    let is_name = name.components().count() == 1;
    let order = if is_name {
        [in_backups, as_path]
    } else {
        [as_path, in_backups]
    };
    let with_suffix = |p: &PathBuf| {
        let mut full = p.as_os_str().to_owned();
        full.push(names::ARCHIVE_SUFFIX);
        PathBuf::from(full)
    };
    let candidates = order.iter().cloned().chain(order.iter().map(with_suffix));
    let file = candidates.clone().find(|p| p.is_file());
    // A folder or pipe with an archive's name is returned too, so that opening it gives the precise
    // error.
    let named = || {
        let is_archive = name.to_string_lossy().ends_with(".tar.gz") || !is_name;
        candidates.clone().find(|p| is_archive && p.exists())
    };
    file.or_else(named).ok_or_else(|| {
        CommandError::failed(format!("no such archive: {}", name.display()))
            .hint("list archives with: codex-manager list-backups")
    })
}
