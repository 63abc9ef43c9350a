//! Runs arbitrary bytes through the parsers: one function for each kind of input. The fuzz targets
//! and the regression tests call the same functions.

use super::hostile::{Parts, gzip, with_manifest};
use codex_manager_core::archive::ArchiveError;
use codex_manager_core::archive::entry::FileEntry;
use codex_manager_core::archive::entry_name::EntryName;
use codex_manager_core::archive::manifest::ArchiveManifest;
use codex_manager_core::archive::metadata::Metadata;
use codex_manager_core::archive::reader::ArchiveReader;
use codex_manager_core::archive::sink::{Extent, Sink};
use codex_manager_core::io::document;
use codex_manager_core::io::progress::Silent;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use tempfile::TempDir;

/// A valid archive with every kind of entry.
pub(crate) const GOOD: &[u8] = include_bytes!("../../fixtures/fuzz/archive/good.tar.gz");

/// Processes an input; a panic is a finding.
type Attempt = fn(&[u8]);

/// The kinds of inputs: the folder of the seeds, and the function.
pub(crate) const TARGETS: [(&str, Attempt); 5] = [
    ("archive", archive),
    ("manifest", manifest),
    ("index", index),
    ("tar", tar),
    ("metadata", metadata),
];

/// The size and digest of each file that a reader returned.
pub(crate) type Read = BTreeMap<PathBuf, (u64, [u8; 32])>;

/// Path, size and digest of each file.
type Files = Vec<(PathBuf, u64, String)>;

/// The content of the valid archive, for comparison.
struct Truth {
    manifest: Value,
    files: Files,
    read: Read,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(|| {
    let (contents, read) = unpack_bytes(GOOD).expect("a valid archive");
    Truth {
        manifest: Parts::of(GOOD).manifest.expect("a manifest"),
        files: summarize(&contents),
        read,
    }
});

fn summarize(contents: &ArchiveManifest) -> Files {
    let files = contents.files.iter();
    files
        .map(|f| (f.path.as_path().into(), f.size, format!("{:?}", f.digest)))
        .collect()
}

/// Reads any bytes as an archive. Names must not leave the target folder.
pub(crate) fn archive(bytes: &[u8]) {
    if let Ok((contents, read)) = unpack_bytes(bytes) {
        assert_eq!(contents.files.len(), read.len(), "a file was not read");
        let files: Vec<_> = contents.files.iter().map(|f| f.path).collect();
        let names = files.iter().map(EntryName::as_path);
        let names = names.chain(contents.folders.iter().map(|f| f.path.as_path()));
        for name in names.chain(contents.links.iter().map(|l| l.path.as_path())) {
            let stays = name.components().all(|c| matches!(c, Component::Normal(_)));
            assert!(stays && name != Path::new(""), "{}", name.display());
        }
    }
}

/// Reads any text as the manifest of the valid archive. The reader refuses it or returns the original content.
pub(crate) fn manifest(text: &[u8]) {
    if let Ok((contents, read)) = unpack_bytes(&with_manifest(GOOD, text)) {
        assert_eq!(summarize(&contents), TRUTH.files);
        assert_eq!(read, TRUTH.read);
    }
}

/// Reads any JSON as the index of the valid archive.
pub(crate) fn index(text: &[u8]) {
    if let Ok(members) = serde_json::from_slice::<Value>(text) {
        let mut context = TRUTH.manifest.clone();
        context["members"] = members;
        manifest(&serde_json::to_vec(&context).expect("json"));
    }
}

/// Reads any bytes as the tar inside the archive, unchanged and with corrected checksums.
pub(crate) fn tar(bytes: &[u8]) {
    archive(&gzip(bytes));
    let mut summed = bytes.to_vec();
    for header in summed.chunks_exact_mut(512) {
        if &header[257..262] == b"ustar" {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    if summed != bytes {
        archive(&gzip(&summed));
    }
}

/// Reads any bytes as a sidecar. An accepted one can be written again.
pub(crate) fn metadata(bytes: &[u8]) {
    let path = Path::new("x.metadata.json");
    let found = document::parse::<Metadata>(path, bytes);
    if let Some(found) = found.ok().and_then(document::DocumentState::good) {
        document::encode(path, &found).expect("json");
    }
}

fn unpack_bytes(bytes: &[u8]) -> Result<(ArchiveManifest, Read), ArchiveError> {
    // In memory if possible; the files need not survive.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    };
    let folder = folder.expect("folder");
    let path = folder.path().join("input.tar.gz");
    fs::write(&path, bytes).expect("write");
    unpack(&path)
}

/// Reads all entries of an archive.
#[allow(clippy::panic_in_result_fn, reason = "a panic is how a test fails")]
pub(crate) fn unpack(path: &Path) -> Result<(ArchiveManifest, Read), ArchiveError> {
    let archive = ArchiveReader::open(path)?;
    let collected = Collected::default();
    archive.read(Extent::All, &collected, &Silent)?;
    let done = collected.done.into_inner().expect("unpoisoned");
    let parts = collected.parts.into_inner().expect("unpoisoned");
    let mut read = Read::new();
    for name in done {
        let mut hasher = Sha256::new();
        let mut size = 0;
        for (offset, bytes) in parts.get(&name).into_iter().flatten() {
            assert_eq!(*offset, size, "a part is missing");
            size += bytes.len() as u64;
            hasher.update(bytes);
        }
        let before = read.insert(name, (size, hasher.finalize().into()));
        assert!(before.is_none(), "a file was finished twice");
    }
    Ok((archive.contents().clone(), read))
}

/// A receiver that accepts every entry.
#[derive(Default)]
struct Collected {
    parts: Mutex<BTreeMap<PathBuf, BTreeMap<u64, Vec<u8>>>>,
    done: Mutex<Vec<PathBuf>>,
}

impl Sink for Collected {
    fn wants(&self, _entry: &FileEntry) -> bool {
        true
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let mut parts = self.parts.lock().expect("unpoisoned");
        let of_file = parts.entry(entry.path.as_path().to_path_buf()).or_default();
        of_file.insert(offset, bytes.to_vec());
        Ok(())
    }

    fn finish_file(&self, entry: &FileEntry) -> Result<(), ArchiveError> {
        let name = entry.path.as_path().to_path_buf();
        self.done.lock().expect("unpoisoned").push(name);
        Ok(())
    }
}
