//! `written.jsonl` in the folder of a state: the local counterpart of this machine's manifest.
//!
//! A line is appended before a file is written to the cloud folder, so that a killed run leaves no file there that no
//! machine attests. A line has the form of a line of a manifest, or records a download.

use super::manifest::ManifestEntry;
use crate::io::json_lines::{self, JsonLines};
use crate::io::{IoContext, IoError, atomic, document, file_open, tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const LEDGER_FILE: &str = "written.jsonl";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LedgerLine {
    /// A version that is about to be written to the cloud folder; the same form as in a manifest.
    File(String, ManifestEntry),
    /// A version of the cloud folder that is about to be written to the home.
    Taken(String, ManifestEntry),
}

/// The ledger of one replica, open for appending.
#[derive(Debug)]
pub(crate) struct Ledger {
    lines: JsonLines,
}

impl Ledger {
    /// Opens the ledger in the folder of a state, or creates it. The folder must exist.
    pub(crate) fn open(folder: &Path) -> Result<Self, IoError> {
        let lines = JsonLines::open_or_create(folder.join(LEDGER_FILE))?;
        Ok(Self { lines })
    }

    /// Adds a version that is about to be written to the cloud folder. Durable after [`Ledger::sync`].
    pub(crate) fn record_upload(
        &mut self,
        path: &str,
        entry: &ManifestEntry,
    ) -> Result<(), IoError> {
        let line = LedgerLine::File(path.to_owned(), entry.clone());
        self.lines.push(&line)
    }

    /// Adds a remote version that is about to be written to the home. If the run is killed before the state records the
    /// file, the local file still does not count as a local edit. Durable after [`Ledger::sync`].
    pub(crate) fn record_download(
        &mut self,
        path: &str,
        entry: &ManifestEntry,
    ) -> Result<(), IoError> {
        let line = LedgerLine::Taken(path.to_owned(), entry.clone());
        self.lines.push(&line)
    }

    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        self.lines.sync()
    }

    /// Reads the ledger; a missing one is empty.
    pub(crate) fn read(folder: &Path) -> Result<LedgerContents, IoError> {
        let mut contents = LedgerContents::default();
        for line in json_lines::read(&folder.join(LEDGER_FILE))? {
            match line {
                LedgerLine::File(path, entry) => {
                    if let Some(superseded_entry) = contents.files.insert(path.clone(), entry) {
                        contents.superseded.push((path, superseded_entry));
                    }
                }
                LedgerLine::Taken(path, entry) => contents.downloaded.push((path, entry)),
            }
        }
        Ok(contents)
    }

    /// Removes the ledger in the folder of a state, if there is one.
    pub(crate) fn remove(folder: &Path) -> Result<(), IoError> {
        tree::remove(&folder.join(LEDGER_FILE))
    }

    /// Rewrites the ledger with the last version of each file, and the `superseded` versions that a cloud client may
    /// still deliver. Leaves out the downloads, because the state has recorded them.
    pub(crate) fn compact(
        folder: &Path,
        files: &BTreeMap<String, ManifestEntry>,
        superseded: &[(String, ManifestEntry)],
    ) -> Result<(), IoError> {
        let path = folder.join(LEDGER_FILE);
        let mut bytes = Vec::new();
        // The last line of a path counts, so the superseded versions come first.
        let superseded = superseded.iter().map(|(name, entry)| (name, entry));
        for (name, entry) in superseded.chain(files) {
            let line = LedgerLine::File(name.clone(), entry.clone());
            document::push_line(&mut bytes, &line).at("encode", &path)?;
        }

        if file_open::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        atomic::write(&path, &bytes)
    }
}

#[derive(Debug, Default)]
pub(crate) struct LedgerContents {
    /// The last recorded version of each file, by the path in the cloud folder.
    pub files: BTreeMap<String, ManifestEntry>,
    /// The versions recorded before those in `files`, the oldest first. A version is recorded before it is written, so
    /// after a kill the cloud folder may still have a superseded version.
    pub superseded: Vec<(String, ManifestEntry)>,
    /// The versions downloaded since the last complete run.
    pub downloaded: Vec<(String, ManifestEntry)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    #[test]
    fn earlier_versions_and_lines_after_a_torn_one_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let version = |text: &str| ManifestEntry {
            size: text.len() as u64,
            mtime_ns: 5,
            digest: Sha256Digest::of(text.as_bytes()),
        };
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.record_upload("a", &version("1")).unwrap();
        ledger.record_upload("a", &version("12")).unwrap();
        ledger.sync().unwrap();
        drop(ledger);
        let path = folder.path().join(LEDGER_FILE);
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend(b"{\"file\":[\"a\",{\"si");
        std::fs::write(&path, torn).unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.record_upload("a", &version("123")).unwrap();
        ledger.sync().unwrap();
        // As before the state is published: not every system replaces an open file.
        drop(ledger);
        let superseded = [("a".into(), version("1")), ("a".into(), version("12"))];
        for compacted in [false, true] {
            let contents = Ledger::read(folder.path()).unwrap();
            assert_eq!(contents.files["a"], version("123"), "{compacted}");
            assert_eq!(contents.superseded, superseded, "{compacted}");
            Ledger::compact(folder.path(), &contents.files, &contents.superseded).unwrap();
        }
    }
}
