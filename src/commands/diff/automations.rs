//! Compares the automations of Codex Desktop in a home with those in an archive.

use super::content::{Change, ContentKind, DiffedContent};
use crate::error::Result;
use codex_manager_core::archive::scan::HomeScan;
use codex_manager_core::archive::{ArchiveReader, EntryName, file_extract};
use codex_manager_core::codex::automations::read_automations;
use codex_manager_core::codex::{SQLITE_FOLDER, database, home, is_versioned_database};
use codex_manager_core::io::{IoContext, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// The folder in a home with a folder for each automation.
const AUTOMATIONS_FOLDER: &str = "automations";

/// The names of automations by their ids. A name may be empty.
type Automations = BTreeMap<String, String>;

/// Returns the automations that came or went. An automation has a folder in the home, a row in a database of Codex
/// Desktop, or both.
///
/// # Errors
/// The archive or a database cannot be read.
pub(super) fn compare_automations(
    archive: &ArchiveReader,
    home_scan: &HomeScan,
    home: &Path,
) -> Result<Vec<DiffedContent>> {
    let archived = list_archived_automations(archive)?;
    let mut live = list_folders(home_scan.files.iter().map(|file| file.path));
    let databases = home_scan.databases.iter().map(|file| file.path.as_path());
    for database in databases.filter(|path| may_have_automations(path)) {
        live.extend(read_automations(&home.join(database))?);
    }

    let ids: BTreeSet<_> = archived.keys().chain(live.keys()).collect();
    let changes = ids.into_iter().filter_map(|id| {
        let is_in = |automations: &Automations| automations.contains_key(id).then_some(());
        let change = Change::between(is_in(&archived), is_in(&live))?;
        let name = archived.get(id).or_else(|| live.get(id))?;
        Some(DiffedContent {
            kind: ContentKind::Automation,
            name: format_name(id, name),
            change,
        })
    });
    Ok(changes.collect())
}

fn list_archived_automations(archive: &ArchiveReader) -> Result<Automations> {
    let files = &archive.contents().files;
    let mut automations = list_folders(files.iter().map(|file| file.path));
    let folder = tempfile::tempdir().at("create a temp folder for", archive.path())?;
    let copy = folder.path().join("database");

    for file in files
        .iter()
        .filter(|file| may_have_automations(file.path.as_path()))
    {
        let to = file_extract::open_for_chunks(&copy)?;
        file_extract::extract_entry(archive, &file, &to)?;
        if database::is_database(&copy) {
            automations.extend(read_automations(&copy)?);
        }
        tree::remove(&copy)?;
    }
    Ok(automations)
}

/// Returns the automations that have a folder with files.
fn list_folders(names: impl Iterator<Item = EntryName>) -> Automations {
    let ids = names.filter_map(|name| {
        let mut parts = name.as_path().components();
        let is_below = parts.next() == Some(Component::Normal(AUTOMATIONS_FOLDER.as_ref()));
        let id = parts.next().filter(|_| is_below)?;
        let id = id.as_os_str().to_string_lossy().into_owned();
        parts.next().map(|_| (id, String::new()))
    });
    ids.collect()
}

/// Returns true for a file in the folder of databases that is none of the Codex CLI.
fn may_have_automations(path: &Path) -> bool {
    path.parent() == Some(Path::new(SQLITE_FOLDER))
        && home::may_be_database(path)
        && !is_versioned_database(path)
}

fn format_name(id: &str, name: &str) -> String {
    if name.is_empty() || name == id {
        id.to_owned()
    } else {
        format!("{name} ({id})")
    }
}
