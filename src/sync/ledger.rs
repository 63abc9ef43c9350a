//! `written.jsonl` in the folder of a state: what this machine has written, its manifest on this side.
//!
//! Appended to before each file is put into the cloud folder, so that a kill leaves nothing there that
//! nobody vouches for. A line is one of a manifest's, or tells what was taken from the cloud folder.

use super::manifest::ManifestEntry;
use crate::io::{IoContext, IoError, atomic, document, file_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const LEDGER_FILE: &str = "written.jsonl";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LedgerLine {
    /// As in a manifest.
    File(String, ManifestEntry),
    /// A version that was in the cloud folder and is about to be put here.
    Taken(String, ManifestEntry),
}

/// The ledger of one pair, open for noting.
#[derive(Debug)]
pub struct Ledger {
    file: std::fs::File,
    path: PathBuf,
    /// What was noted and is not written yet.
    unwritten: Vec<u8>,
}

impl Ledger {
    /// Opens the ledger in the folder of a state, which must exist. A line that was torn ends here: the
    /// next one is not to be lost with it.
    pub fn open(folder: &Path) -> Result<Self, IoError> {
        let path = folder.join(LEDGER_FILE);
        let mut options = std::fs::OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&path).at("open", &path)?;
        if is_torn(&mut file).at("read", &path)? {
            file.write_all(b"\n").at("write", &path)?;
        }
        Ok(Self {
            file,
            path,
            unwritten: Vec::new(),
        })
    }

    /// Notes a version that is about to be put into the cloud folder, when [`Ledger::sync`] has returned.
    pub fn record(&mut self, path: &str, written: &ManifestEntry) -> Result<(), IoError> {
        self.push(&LedgerLine::File(path.to_owned(), written.clone()))
    }

    /// Notes a version of the cloud folder that is about to be put into the home: should the state not
    /// learn of that, it is still known that nobody wrote it here.
    pub fn record_download(&mut self, path: &str, written: &ManifestEntry) -> Result<(), IoError> {
        self.push(&LedgerLine::Taken(path.to_owned(), written.clone()))
    }

    fn push(&mut self, line: &LedgerLine) -> Result<(), IoError> {
        document::push_line(&mut self.unwritten, line).at("encode", &self.path)
    }

    /// Makes what was noted durable.
    pub fn sync(&mut self) -> Result<(), IoError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        self.file.write_all(&unwritten).at("write", &self.path)?;
        self.file.sync_data().at("fsync", &self.path)
    }

    /// What it says; a torn line does not count.
    pub fn read(folder: &Path) -> Result<LedgerContents, IoError> {
        let path = folder.join(LEDGER_FILE);
        let mut unwritten = LedgerContents::default();
        let bytes = match file_open::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(unwritten),
            Err(e) => return Err(e).at("read", &path),
        };
        for line in bytes.split(|b| *b == b'\n') {
            match serde_json::from_slice(line) {
                Ok(LedgerLine::File(path, written)) => {
                    if let Some(before) = unwritten.files.insert(path.clone(), written) {
                        unwritten.earlier.push((path, before));
                    }
                }
                Ok(LedgerLine::Taken(path, written)) => unwritten.downloaded.push((path, written)),
                _ => {}
            }
        }
        Ok(unwritten)
    }

    /// Writes it anew with a line for each path, when the state knows what was taken; `earlier` as in
    /// [`LedgerContents`].
    pub fn compact(
        folder: &Path,
        files: &BTreeMap<String, ManifestEntry>,
        earlier: &[(String, ManifestEntry)],
    ) -> Result<(), IoError> {
        let path = folder.join(LEDGER_FILE);
        let mut bytes = Vec::new();
        // The last line of a path is the one that counts.
        let earlier = earlier.iter().map(|(name, written)| (name, written));
        for (name, written) in earlier.chain(files) {
            let line = LedgerLine::File(name.clone(), written.clone());
            document::push_line(&mut bytes, &line).at("encode", &path)?;
        }
        if file_open::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        atomic::write(&path, &bytes)
    }
}

/// Whether the last line of a file has no end.
fn is_torn(file: &mut std::fs::File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut end = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut end)?;
    Ok(end != *b"\n")
}

/// What a ledger says.
#[derive(Debug, Default)]
pub struct LedgerContents {
    /// What this machine vouches for, by path in the cloud folder: the version noted last.
    pub files: BTreeMap<String, ManifestEntry>,
    /// Versions noted before that one, oldest first. A version is noted before it is put there: after a
    /// kill in between, one of these is still what others see.
    pub earlier: Vec<(String, ManifestEntry)>,
    /// What it took from there since the last run that came to its end.
    pub downloaded: Vec<(String, ManifestEntry)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    #[test]
    fn a_ledger_keeps_what_was_noted_before_and_what_comes_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let version = |text: &str| ManifestEntry {
            size: text.len() as u64,
            mtime_ns: 5,
            digest: Sha256Digest::of(text.as_bytes()),
            history: None,
        };
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.record("a", &version("1")).unwrap();
        ledger.record("a", &version("12")).unwrap();
        ledger.sync().unwrap();
        ledger.file.write_all(b"{\"file\":[\"a\",{\"si").unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.record("a", &version("123")).unwrap();
        ledger.sync().unwrap();
        let earlier = [("a".into(), version("1")), ("a".into(), version("12"))];
        for compacted in [false, true] {
            let unwritten = Ledger::read(folder.path()).unwrap();
            assert_eq!(unwritten.files["a"], version("123"), "{compacted}");
            assert_eq!(unwritten.earlier, earlier, "{compacted}");
            Ledger::compact(folder.path(), &unwritten.files, &unwritten.earlier).unwrap();
        }
    }
}
