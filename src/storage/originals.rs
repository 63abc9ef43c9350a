//! The databases that a vacuum replaced: `trash/databases/<time>/` of the manager home.

use crate::codex::database_sidecars;
use crate::io::{
    Document, DocumentError, DocumentState, IoError, ListedPath, atomic, document, file_id, tree,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The folder of all originals, below the manager home.
const FOLDER: &str = "trash/databases";

/// The name of the document of a folder.
const DOCUMENT: &str = "databases.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Originals {
    /// The Codex home that they belong to.
    home: ListedPath,
    /// The path of each database, and its file name in the folder.
    files: Vec<(ListedPath, String)>,
}

impl Document for Originals {
    const SCHEMA: u64 = 1;
}

/// Returns the folder of all originals.
pub(super) fn root_folder(manager_home: &Path) -> PathBuf {
    manager_home.join(FOLDER)
}

/// Links the databases with their logs into a new folder below `root`; on another file system, copies
/// them. Returns the folder. Durable on return.
///
/// # Errors
/// The folder is not complete.
pub(super) fn keep(
    root: &Path,
    home: &Path,
    databases: &[PathBuf],
    now: DateTime<Utc>,
) -> Result<PathBuf, IoError> {
    // It sorts after all earlier ones.
    let folder = atomic::find_free_path(&root.join(now.format("%Y%m%dT%H%M%SZ").to_string()));
    atomic::create_private_folder(&folder)?;
    let mut files = Vec::new();
    for (n, database) in databases.iter().enumerate() {
        // Two folders of databases may have the same names.
        let name = database.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{n}-{name}");
        let target = folder.join(&name);
        let sidecars = database_sidecars(database).into_iter();
        // Logs first: a database whose log is missing looks complete.
        let copies = sidecars.zip(database_sidecars(&target));
        for (from, to) in copies.chain([(database.clone(), target.clone())]) {
            if from.exists() {
                tree::publish_copy(&from, &to)?;
            }
        }
        files.push((ListedPath(database.clone()), name));
    }
    let originals = Originals {
        home: ListedPath(home.to_path_buf()),
        files,
    };
    document::write(&folder.join(DOCUMENT), &originals)?;
    atomic::sync_folder(&folder)?;
    atomic::sync_folder(root)?;
    Ok(folder)
}

/// Returns the path of each database of `home` that the last run replaced, with its original; none if
/// no originals are kept.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn find_newest(
    root: &Path,
    home: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>, DocumentError> {
    // The names are times, so the last one is the newest.
    for folder in tree::list_folders(root)?.into_iter().rev() {
        let DocumentState::Good(originals) = document::read::<Originals>(&folder.join(DOCUMENT))?
        else {
            continue;
        };
        let files = originals.files.into_iter();
        let files = files.map(|(path, name)| (path.0, folder.join(name)));
        let files: Vec<_> = files.collect();
        if file_id::is_same_folder(&originals.home.0, home) && !is_undone(&files)? {
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// Returns true if these are the databases in use: the run that kept them was killed and undone.
fn is_undone(files: &[(PathBuf, PathBuf)]) -> Result<bool, IoError> {
    for (live, original) in files {
        if let (Some((live, _)), Some((original, _))) =
            (file_id::stat(live)?, file_id::stat(original)?)
            && live.is(original)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
