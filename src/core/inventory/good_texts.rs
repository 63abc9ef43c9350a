//! Archives with good copies of texts that are damaged in the home or in other archives.

use super::archive_names::strip_archive_suffix;
use super::records::ArchiveRecord;
use super::retention::RetentionPlan;
use crate::archive::file_extract::extract_entry;
use crate::archive::{ArchiveError, ArchiveReader, EntryName, FileEntry};
use crate::codex::text_damage;
use crate::io::progress::check_interrupt;
use crate::io::shell;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;

/// The archives of one home: the records of all archives, their folder, the home, and the id of its machine.
#[derive(Debug, Clone, Copy)]
pub struct HomeArchives<'a> {
    pub records: &'a [ArchiveRecord],
    pub backups: &'a Path,
    pub home: &'a Path,
    pub machine: Option<&'a str>,
}

impl<'a> HomeArchives<'a> {
    /// Returns the command that restores a damaged text from the newest archive with a good copy; `None` if there is
    /// none, or if the file at `text` is no text of the user.
    pub fn suggest_restore(&self, text: &Path) -> Option<String> {
        if !text_damage::is_judged(text) {
            return None;
        }
        let good = self
            .find_good_copy(&EntryName::from_path(text).ok()?)
            .ok()??;
        let archive = shell::quote_if_needed(strip_archive_suffix(&good.path));
        let path = shell::quote_if_needed(text.to_str()?);
        Some(format!("codex-manager restore {archive} --only {path}"))
    }

    /// Returns the newest archive of the home with a good copy of the text.
    ///
    /// # Errors
    /// The user interrupts.
    fn find_good_copy(&self, text: &EntryName) -> Result<Option<&'a ArchiveRecord>, ArchiveError> {
        let of_home = self.records.iter().filter(|record| {
            let metadata = &record.metadata;
            record.is_usable()
                && metadata.records_home(self.home)
                && !metadata.is_from_other_machine(self.machine)
        });
        let mut newest_first: Vec<_> = of_home.collect();
        newest_first.sort_by_key(|record| Reverse(record.metadata.created_at));

        for record in newest_first {
            let opened = ArchiveReader::open(&self.backups.join(&record.path));
            let is_good = opened.is_ok_and(|archive| has_good_copy(&archive, text));
            // Comes after the reads, because an interrupted read looks like an unreadable copy.
            check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
            if is_good {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// Makes `plan` keep the newest archive with a good copy of each text that is damaged in another archive of its home.
///
/// # Errors
/// The user interrupts.
pub fn keep_good_copies(
    plan: &mut RetentionPlan,
    records: &[ArchiveRecord],
    backups: &Path,
) -> Result<(), ArchiveError> {
    let mut settled = HashSet::new();
    for record in records.iter().filter(|record| record.metadata.damaged > 0) {
        // An archive that cannot be opened is kept, or is itself damaged.
        let Ok(archive) = ArchiveReader::open(&backups.join(&record.path)) else {
            continue;
        };
        let metadata = &record.metadata;
        let archives = HomeArchives {
            records,
            backups,
            home: Path::new(&metadata.source_codex_home),
            machine: metadata.machine.as_deref(),
        };
        for (text, _) in archive.contents().damaged.iter().flatten() {
            if settled.insert((archives.home, archives.machine, text.clone()))
                && let Some(good) = archives.find_good_copy(text)?
            {
                let reason = format!("has the newest good copy of {text}");
                plan.keep_one_of(std::slice::from_ref(&good.path), &reason);
            }
        }
    }
    Ok(())
}

/// Returns true if the archive has the text, not empty and without damage.
fn has_good_copy(archive: &ArchiveReader, text: &EntryName) -> bool {
    let manifest = archive.contents();
    let Some(entry) = manifest.files.iter().find(|file| file.path == *text) else {
        return false;
    };
    match &manifest.damaged {
        _ if entry.size == 0 => false,
        Some(damaged) => damaged.iter().all(|(name, _)| name != text),
        None => is_extracted_text_good(archive, &entry).unwrap_or_default(),
    }
}

/// Extracts the text, because an archive of an older version does not record damage. Returns `None` if it cannot be read.
fn is_extracted_text_good(archive: &ArchiveReader, entry: &FileEntry) -> Option<bool> {
    let name = entry.path.as_path();
    // The extension decides which damage is searched.
    let file = tempfile::Builder::new()
        .suffix(name.file_name()?)
        .tempfile()
        .ok()?;
    extract_entry(archive, entry, file.as_file()).ok()?;
    let damage = text_damage::find_text_damage(name, file.path()).ok()?;
    Some(damage.is_none())
}
