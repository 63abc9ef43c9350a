//! Archives with good copies of texts that are damaged in the home or in other archives or snapshots.

use super::archive_names::strip_archive_suffix;
use super::records::ArchiveRecord;
use super::retention::RetentionPlan;
use crate::archive::file_extract::extract_entry;
use crate::archive::{ArchiveError, ArchiveManifest, ArchiveReader, EntryName};
use crate::codex::text_damage;
use crate::io::progress::check_interrupt;
use crate::io::shell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The archives of one home: the records of all archives, their folder, the home, and the id of its machine.
#[derive(Debug, Clone, Copy)]
pub struct HomeArchives<'a> {
    pub records: &'a [ArchiveRecord],
    pub backups: &'a Path,
    pub home: &'a Path,
    pub machine: Option<&'a str>,
}

impl<'a> HomeArchives<'a> {
    /// Returns the commands that restore the damaged `texts` from the newest archives with good copies, by text. Leaves
    /// out a text without a good copy, and a file that is no text of the user.
    pub fn suggest_restores<'t>(
        &self,
        texts: impl Iterator<Item = &'t Path>,
    ) -> HashMap<PathBuf, String> {
        let judged = texts.filter(|text| text_damage::is_judged(text));
        let texts = judged.filter_map(|text| EntryName::from_path(text).ok());
        let good = self.find_good_copies(texts.collect()).unwrap_or_default();
        let to_command = |(text, record): (EntryName, &ArchiveRecord)| {
            let archive = shell::quote_if_needed(strip_archive_suffix(&record.path));
            let path = shell::quote_if_needed(text.as_path().to_str()?);
            let command = format!("codex-manager restore {archive} --only {path}");
            Some((text.as_path().to_path_buf(), command))
        };
        good.into_iter().filter_map(to_command).collect()
    }

    /// Returns each of `texts` of which an archive of the home has a good copy, with the newest one.
    ///
    /// # Errors
    /// The user interrupts.
    fn find_good_copies(
        &self,
        texts: Vec<EntryName>,
    ) -> Result<Vec<(EntryName, &'a ArchiveRecord)>, ArchiveError> {
        let of_home = self.records.iter().filter(|record| {
            let metadata = &record.metadata;
            record.is_usable()
                && metadata.records_home(self.home)
                && !metadata.is_from_other_machine(self.machine)
        });
        let mut newest_first: Vec<_> = of_home.collect();
        newest_first.sort_by_key(|record| Reverse(record.metadata.created_at));
        find_good_copies(texts, newest_first, |record, texts| {
            let Ok(archive) = ArchiveReader::open(&self.backups.join(&record.path)) else {
                return Vec::new();
            };
            let good = texts.iter().filter(|text| has_good_copy(&archive, text));
            good.cloned().collect()
        })
    }
}

/// Returns each of `texts` of which a copy is good, with the first one of `newest_first`. `list_good` opens a copy, at most
/// once, and returns the texts that are good in it.
///
/// # Errors
/// The user interrupts.
pub fn find_good_copies<C: Copy>(
    mut texts: Vec<EntryName>,
    newest_first: impl IntoIterator<Item = C>,
    list_good: impl Fn(C, &[EntryName]) -> Vec<EntryName>,
) -> Result<Vec<(EntryName, C)>, ArchiveError> {
    let mut found = Vec::new();
    for copy in newest_first {
        if texts.is_empty() {
            break;
        }
        let good = list_good(copy, &texts);
        // Comes after the reads, because an interrupted read looks like an unreadable copy.
        check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
        texts.retain(|text| !good.contains(text));
        found.extend(good.into_iter().map(|text| (text, copy)));
    }
    Ok(found)
}

/// Makes `plan` keep the copy `name`, which has the newest good copy of a text that is damaged in another one.
pub fn keep_good_copy(plan: &mut RetentionPlan, name: &str, text: &EntryName) {
    let reason = format!("has the newest good copy of {text}");
    plan.keep_one_of(&[name.to_owned()], &reason);
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
    let mut texts_by_home: BTreeMap<_, Vec<EntryName>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.metadata.damaged > 0) {
        // An archive that cannot be opened is kept, or is itself damaged.
        if let Ok(archive) = ArchiveReader::open(&backups.join(&record.path)) {
            let metadata = &record.metadata;
            let home = (&metadata.source_codex_home, metadata.machine.as_deref());
            let damaged = archive.contents().damaged.iter().flatten();
            let texts = texts_by_home.entry(home).or_default();
            texts.extend(damaged.map(|(text, _)| text.clone()));
        }
    }

    for ((home, machine), mut texts) in texts_by_home {
        texts.sort();
        texts.dedup();
        let archives = HomeArchives {
            records,
            backups,
            home: Path::new(home),
            machine,
        };
        for (text, good) in archives.find_good_copies(texts)? {
            keep_good_copy(plan, &good.path, &text);
        }
    }
    Ok(())
}

/// Returns true if the archive has the text, not empty and without damage.
fn has_good_copy(archive: &ArchiveReader, text: &EntryName) -> bool {
    let is_good = is_recorded_good(archive.contents(), text);
    is_good.unwrap_or_else(|| is_extracted_text_good(archive, text).unwrap_or_default())
}

/// Returns true if the manifest lists the text, not empty and without damage. `None` if an older version made it, which
/// does not record damage.
pub fn is_recorded_good(manifest: &ArchiveManifest, text: &EntryName) -> Option<bool> {
    let mut files = manifest.files.iter();
    if !files.any(|file| file.path == *text && file.size > 0) {
        return Some(false);
    }
    let damaged = manifest.damaged.as_ref()?;
    Some(damaged.iter().all(|(name, _)| name != text))
}

/// Extracts the text, because an archive of an older version does not record damage. Returns `None` if it cannot be read.
fn is_extracted_text_good(archive: &ArchiveReader, text: &EntryName) -> Option<bool> {
    let mut files = archive.contents().files.iter();
    let entry = files.find(|file| file.path == *text)?;
    let name = text.as_path();
    // The extension decides which damage is searched.
    let file = tempfile::Builder::new()
        .suffix(name.file_name()?)
        .tempfile()
        .ok()?;
    extract_entry(archive, &entry, file.as_file()).ok()?;
    let damage = text_damage::find_text_damage(name, file.path()).ok()?;
    Some(damage.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_copy_is_opened_once_until_all_texts_are_found() {
        let texts = ["a", "b", "c"].map(|name| EntryName::from_path(Path::new(name)).unwrap());
        let [a, b, c] = texts.clone();
        let contents = HashMap::from([
            (5, vec![]),
            (4, vec![b.clone()]),
            (3, vec![a.clone(), b.clone(), c.clone()]),
            (2, vec![a.clone()]),
        ]);
        let opened = RefCell::new(Vec::new());
        let found = find_good_copies(texts.to_vec(), [5, 4, 3, 2], |copy, wanted| {
            opened.borrow_mut().push(copy);
            let good = contents[&copy].iter();
            good.filter(|text| wanted.contains(text)).cloned().collect()
        });
        assert_eq!(found.unwrap(), [(b, 4), (a, 3), (c, 3)]);
        assert_eq!(opened.into_inner(), [5, 4, 3]);
    }
}
