//! What belongs to conversations that come back by themselves: their rows of the state database and
//! their names. What is known of them here stays as it is.

use super::RestoreError;
use super::apply::Work;
use super::plan::Target;
use crate::archive::ArchiveError;
use crate::archive::entry_name::EntryName;
use crate::archive::manifest::{FileEntry, OUTSIDE_DATABASES};
use crate::archive::sink::{Extent, Sink};
use crate::codex::database;
use crate::codex::home::{self, Kind, kind_of};
use crate::history::id::ConversationId;
use crate::history::session_index::{self, ThreadNameIndex};
use crate::io::file_open;
use crate::io::progress::Silent;
use crate::io::{IoContext, IoError, atomic, position};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The longest archived index that names are taken from; Codex writes a hundred bytes a name.
const MAX_INDEX_BYTES: u64 = 64 * 1024 * 1024;

/// Rows that an archive has of conversations that come back.
pub(super) struct Returning {
    /// The archived database, unpacked.
    pub(super) database: PathBuf,
    /// The conversations.
    pub(super) ids: HashSet<String>,
}

impl Work<'_> {
    /// The conversations that come back while the lists of the home stay its own.
    fn returning_ids(&self) -> HashSet<String> {
        if self.plan.partial && self.plan.target == Target::Home {
            self.stage.rollouts.ids()
        } else {
            HashSet::new()
        }
    }

    /// Unpacks the archive's state database, if there are conversations whose rows may be in it.
    pub(super) fn returning_rows(&self) -> Result<Option<Returning>, RestoreError> {
        let ids = self.returning_ids();
        // Codex uses the newest of them.
        let states = self.contents.files.iter();
        let states = states.filter_map(|f| Some((state_version(f.path.as_path())?, f)));
        let found = states.max_by_key(|(version, _)| *version).map(|(_, f)| f);
        let Some(entry) = found.filter(|_| !ids.is_empty()) else {
            return Ok(None);
        };
        let database = self.swap.folder().join("archived.sqlite");
        self.unpack(&entry, &database)?;
        // One that the Python tool copied may be torn. Codex makes rows again from the rollouts.
        let is_sound = database::is_sqlite(&database) && database::check(&database).is_ok();
        Ok(is_sound.then_some(Returning { database, ids }))
    }

    /// Stages an index with the names that conversations had which come back without one.
    pub(super) fn bring_names(&mut self) -> Result<(), RestoreError> {
        let name = Path::new(session_index::FILE_NAME);
        let mut ids: Vec<_> = self.returning_ids().into_iter().collect();
        ids.sort();
        let mut files = self.contents.files.iter();
        let archived = files.find(|f| f.path.as_path() == name && f.size <= MAX_INDEX_BYTES);
        let Some(entry) = archived.filter(|_| !ids.is_empty() && !self.plan.writes.contains(name))
        else {
            return Ok(());
        };
        let unpacked = self.swap.folder().join("archived.jsonl");
        self.unpack(&entry, &unpacked)?;
        let theirs = ThreadNameIndex::open(&unpacked)?;
        let path = self.folder.join(name);
        let here = match file_open::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).at("read", &path).map_err(Into::into),
        };
        let ours = ThreadNameIndex::open(&path)?;
        let mut entries = Vec::new();
        for id in ids.iter().map(|id| ConversationId::of(id)) {
            if !ours.has(&id) {
                entries.extend(theirs.get(&id)?);
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        let staged = self.stage.place(name);
        atomic::create_private_folder(atomic::parent_of(&staged))?;
        let is_new = here.is_none();
        atomic::write(
            &staged,
            &session_index::extended(here.unwrap_or_default(), &entries),
        )?;
        if !is_new {
            copy_mode(&path, &staged)?;
        }
        let name = EntryName::of_path(name).map_err(|reason| ArchiveError::Damaged {
            archive: self.request.archive.path().to_path_buf(),
            detail: reason.to_string(),
        })?;
        if is_new {
            self.plan.added.insert(&name);
        }
        self.plan.writes.insert(&name);
        Ok(())
    }

    /// Unpacks one file of the archive, whatever is restored.
    fn unpack(&self, entry: &FileEntry, to: &Path) -> Result<(), RestoreError> {
        let one = One {
            path: entry.path.as_path(),
            file: File::create_new(to).at("create", to)?,
            to,
        };
        self.request.archive.read(Extent::Wanted, &one, &Silent)?;
        Ok(())
    }
}

/// The version of the state database that an archive holds under this name; `None` for other files.
fn state_version(name: &Path) -> Option<u64> {
    let is_outside = name.parent() == Some(Path::new(OUTSIDE_DATABASES));
    if !is_outside && kind_of(name) != Kind::Database {
        return None;
    }
    let name = name.file_name()?.to_str()?;
    let version = name.strip_prefix(home::STATE_DATABASE_PREFIX)?;
    version.strip_suffix(".sqlite")?.parse().ok()
}

#[cfg(unix)]
fn copy_mode(from: &Path, to: &Path) -> Result<(), IoError> {
    let mode = from.metadata().at("read", from)?.permissions();
    std::fs::set_permissions(to, mode).at("set the mode of", to)
}

#[cfg(not(unix))]
fn copy_mode(_from: &Path, _to: &Path) -> Result<(), IoError> {
    Ok(())
}

/// Takes one file out of an archive.
struct One<'a> {
    path: &'a Path,
    file: File,
    to: &'a Path,
}

impl Sink for One<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        entry.path.as_path() == self.path
    }

    fn part(&self, _entry: &FileEntry, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        Ok(position::write_all_at(&self.file, bytes, offset).at("write", self.to)?)
    }

    fn done(&self, _entry: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_of_codex_have_a_version() {
        for (name, version) in [
            ("state_5.sqlite", Some(5)),
            ("sqlite/state_12.sqlite", Some(12)),
            (".codex-manager/sqlite/state_4.sqlite", Some(4)),
            ("skills/x/state_9.sqlite", None),
            ("state_x.sqlite", None),
            ("logs_2.sqlite", None),
        ] {
            assert_eq!(state_version(Path::new(name)), version, "{name}");
        }
    }
}
