//! Archives with one fault each, derived from a valid one.
//!
//! A valid archive is parsed into [`Parts`], changed in one place and packed again. Its index is
//! correct unless a test forges it. The code here shares nothing with the program: it is a second
//! implementation of the format.

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

const MANIFEST: &[u8] = b".codex-manager/manifest.json";
const BLOCK: usize = 512;
const GROUP: usize = 1 << 20;
const CHUNK: usize = 4 << 20;

/// One entry of the tar stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name in the header, or in a long name before it.
    pub(crate) name: Vec<u8>,
    /// Type flag: `0` file, `1` hard link, `2` symbolic link, `3` device, `5` folder, `6` pipe.
    pub(crate) kind: u8,
    /// The target of a link.
    pub(crate) target: Vec<u8>,
    /// The content of a file.
    pub(crate) content: Vec<u8>,
    /// Size in the header, if it differs from that of the content.
    pub(crate) header_size: Option<u64>,
}

impl Entry {
    /// Creates the entry of a regular file.
    pub(crate) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind: b'0',
            target: Vec::new(),
            content: content.as_ref().to_vec(),
            header_size: None,
        }
    }

    /// Creates an entry without content.
    pub(crate) fn special(kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            kind,
            target: target.as_ref().to_vec(),
            ..Self::file(name, "")
        }
    }

    fn header(&self, kind: u8, name: &[u8], size: u64) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        let name = &name[..name.len().min(100)];
        header[..name.len()].copy_from_slice(name);
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        if size < 1 << 33 {
            header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        } else {
            header[124] = 0x80;
            header[128..136].copy_from_slice(&size.to_be_bytes());
        }
        header[136..148].copy_from_slice(b"15262000000\0");
        header[156] = kind;
        let target = &self.target[..self.target.len().min(100)];
        header[157..157 + target.len()].copy_from_slice(target);
        header[257..265].copy_from_slice(b"ustar  \0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    /// Returns the bytes of the entry in the tar.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_head(out);
        out.extend(&self.content);
        pad(out);
    }

    /// Returns the header blocks, and the content in chunks, each with its length without padding.
    pub(crate) fn head_and_chunks(&self) -> (Vec<u8>, Vec<(Vec<u8>, usize)>) {
        let mut head = Vec::new();
        self.write_head(&mut head);
        let chunks = self.content.chunks(CHUNK).map(|content| {
            let mut chunk = content.to_vec();
            pad(&mut chunk);
            (chunk, content.len())
        });
        (head, chunks.collect())
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        if self.name.len() > 100 {
            let len = self.name.len() as u64 + 1;
            out.extend(self.header(b'L', b"././@LongLink", len));
            out.extend(&self.name);
            out.push(0);
            pad(out);
        }
        let size = self.header_size.unwrap_or(self.content.len() as u64);
        out.extend(self.header(self.kind, &self.name, size));
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().div_ceil(BLOCK) * BLOCK, 0);
}

/// An archive as editable members.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// All entries except the manifest.
    pub(crate) entries: Vec<Entry>,
    /// The manifest, or `None` for an archive of other programs.
    pub(crate) manifest: Option<Value>,
    /// The bytes in place of the manifest, if it is not valid JSON.
    pub(crate) manifest_bytes: Option<Vec<u8>>,
    /// Entries after the manifest, in its member.
    pub(crate) after_manifest: Vec<Entry>,
    /// Number that is added to the offset in the footer.
    pub(crate) footer_shift: i64,
}

impl Parts {
    /// Parses the bytes of an archive. The parts have the form of older versions, with SHA-256.
    pub(crate) fn of(archive: &[u8]) -> Self {
        let mut parts = Self::parse(archive);
        parts.use_sha256();
        parts
    }

    /// Like [`Parts::of`], with the digests that the archive has.
    pub(crate) fn parse(archive: &[u8]) -> Self {
        let mut tar = tar::Archive::new(MultiGzDecoder::new(archive));
        let mut parts = Self {
            entries: Vec::new(),
            manifest: None,
            manifest_bytes: None,
            after_manifest: Vec::new(),
            footer_shift: 0,
        };
        for entry in tar.entries().expect("entries") {
            let mut entry = entry.expect("entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let name = entry.path_bytes().into_owned();
            if name == MANIFEST {
                parts.manifest = Some(serde_json::from_slice(&content).expect("manifest"));
                continue;
            }
            parts.entries.push(Entry {
                kind: entry.header().entry_type().as_byte(),
                target: entry.link_name_bytes().unwrap_or_default().into_owned(),
                ..Entry::file(name, content)
            });
        }
        parts
    }

    fn use_sha256(&mut self) {
        let files = self.manifest.as_mut().map(|m| &mut m["files"]);
        for file in files.and_then(Value::as_array_mut).into_iter().flatten() {
            let name = file["path"].as_str().unwrap_or_default().as_bytes();
            let entry = self.entries.iter().find(|e| e.name == name);
            if let Some(entry) = entry {
                file["sha256"] = digest(&entry.content).into();
                file.as_object_mut().expect("a file").remove("blake3");
            }
        }
    }

    /// Returns the manifest for changes.
    pub(crate) fn manifest_mut(&mut self) -> &mut Value {
        self.manifest.as_mut().expect("a manifest")
    }

    /// Returns the entry with this name.
    pub(crate) fn entry(&mut self, name: &str) -> &mut Entry {
        let found = self.entries.iter_mut().find(|e| e.name == name.as_bytes());
        found.unwrap_or_else(|| panic!("no entry {name}"))
    }

    /// Removes the entry with this name from the tar and the manifest.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.entries.retain(|e| e.name != name.as_bytes());
        for list in ["files", "folders", "links"] {
            let list = self.manifest_mut()[list].as_array_mut().expect("list");
            list.retain(|e| e["path"] != name);
        }
        self
    }

    /// Removes the entry with this name from the tar only.
    pub(crate) fn without_entry(mut self, name: &str) -> Self {
        self.entries.retain(|e| e.name != name.as_bytes());
        self
    }

    /// Adds an entry to the tar only.
    pub(crate) fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds an entry to the tar and the manifest, consistently.
    pub(crate) fn with_listed(mut self, entry: Entry) -> Self {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let counted = |parts: &Self, kinds: &[u8]| {
            let found = parts.entries.iter().rposition(|e| kinds.contains(&e.kind));
            found.map_or(0, |last| last + 1)
        };
        let at = match entry.kind {
            b'2' => counted(&self, b"25"),
            b'5' => counted(&self, b"5"),
            _ => self.entries.len(),
        };
        let manifest = self.manifest_mut();
        match entry.kind {
            b'2' => manifest["links"]
                .as_array_mut()
                .expect("links")
                .push(json!({"path": name, "target": String::from_utf8_lossy(&entry.target)})),
            b'5' => manifest["folders"]
                .as_array_mut()
                .expect("folders")
                .push(json!({"path": name, "mode": 0o755, "mtime": 0})),
            _ => manifest["files"]
                .as_array_mut()
                .expect("files")
                .push(json!({
                    "path": name,
                    "size": entry.content.len(),
                    "mode": 0o644,
                    "mtime": 1_795_000_000_000_000_000_i64,
                    "sha256": digest(&entry.content),
                })),
        }
        self.entries.insert(at, entry);
        self
    }

    /// Returns the names in a list of the manifest.
    fn names(&self, list: &str) -> Vec<Vec<u8>> {
        let entries = self.manifest.as_ref().and_then(|m| m[list].as_array());
        let path = |entry: &Value| match &entry["path"] {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        entries.into_iter().flatten().map(path).collect()
    }

    /// Cuts the tar into members as the format prescribes. An unlisted entry goes into the member
    /// before it. The last member claims listed entries that the tar lacks.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let structure = [self.names("folders"), self.names("links")].concat();
        let files = self.names("files");
        let mut cutter = Cutter::default();
        for entry in &self.entries {
            let is_structure = matches!(entry.kind, b'2' | b'5');
            let context = if is_structure { &structure } else { &files };
            let next = cutter.context[usize::from(!is_structure)];
            let found = context
                .iter()
                .skip(next)
                .position(|n| n.as_slice() == entry.name.strip_suffix(b"/").unwrap_or(&entry.name));
            let is_large = !is_structure && found.is_some() && entry.content.len() >= GROUP;
            if found.is_some() || cutter.tar.is_empty() {
                cutter.enter(if is_structure {
                    Kind::Structure
                } else {
                    Kind::Files(parent(&entry.name).to_vec(), is_large)
                });
            }
            if let Some(skipped) = found {
                cutter.context[usize::from(!is_structure)] += skipped + 1;
                cutter.count += skipped + 1;
            }
            if is_large {
                cutter.large(entry);
            } else {
                entry.write(&mut cutter.tar);
            }
        }
        let missing = files.len() - cutter.context[1];
        cutter.count += missing;
        cutter.close();
        cutter.pieces
    }

    /// Packs the members as an archive.
    pub(crate) fn pack(&self) -> Vec<u8> {
        self.pack_pieces(&self.pieces(), |_| {})
    }

    /// Packs the archive from these members, with forged values in the index.
    pub(crate) fn pack_pieces(
        &self,
        pieces: &[Piece],
        lie: impl FnOnce(&mut Vec<Value>),
    ) -> Vec<u8> {
        let Some(manifest) = &self.manifest else {
            return self.pack_stream();
        };
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut packed = gzip(&piece.tar);
            packed.extend(&piece.tail);
            index.push(json!({
                "offset": bytes.len(), "len": packed.len(), "size": piece.tar.len(),
                "sha256": digest(&packed), "holds": piece.holds,
            }));
            bytes.extend(packed);
        }
        lie(&mut index);
        let mut manifest = manifest.clone();
        manifest["members"] = index.into();
        let text = serde_json::to_vec(&manifest).expect("json");
        let text = self.manifest_bytes.clone().unwrap_or(text);
        let mut last = Vec::new();
        Entry::file(MANIFEST, text).write(&mut last);
        for entry in &self.after_manifest {
            entry.write(&mut last);
        }
        last.extend([0; 2 * BLOCK]);
        let member = gzip(&last);
        let offset = (bytes.len() as u64).wrapping_add_signed(self.footer_shift);
        let footer = footer(offset, member.len() as u64);
        bytes.extend(member);
        bytes.extend(footer);
        bytes
    }

    /// Packs the archive as one gzip member without a footer, as another program would.
    pub(crate) fn pack_stream(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for entry in &self.entries {
            entry.write(&mut tar);
        }
        let text = self.manifest_bytes.clone().or_else(|| {
            let value = self.manifest.as_ref()?;
            Some(serde_json::to_vec(value).expect("json"))
        });
        if let Some(text) = text {
            Entry::file(MANIFEST, text).write(&mut tar);
        }
        for entry in &self.after_manifest {
            entry.write(&mut tar);
        }
        tar.extend([0; 2 * BLOCK]);
        gzip(&tar)
    }
}

/// Returns the archive with `text` as its manifest.
pub(crate) fn with_manifest(archive: &[u8], text: &[u8]) -> Vec<u8> {
    // The footer ends with the manifest's position and length, and an empty block.
    let at = archive.len() - 26;
    let offset = u64::from_le_bytes(archive[at..at + 8].try_into().expect("8 bytes"));
    let mut bytes = archive[..usize::try_from(offset).expect("in range")].to_vec();
    let mut tar = Vec::new();
    Entry::file(MANIFEST, text).write(&mut tar);
    tar.extend([0; 2 * BLOCK]);
    let member = gzip(&tar);
    bytes.extend(&member);
    bytes.extend(footer(offset, member.len() as u64));
    bytes
}

fn parent(name: &[u8]) -> &[u8] {
    let slash = name.iter().rposition(|b| *b == b'/');
    &name[..slash.unwrap_or(0)]
}

/// One gzip member to be packed.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Its part of the tar stream.
    pub(crate) tar: Vec<u8>,
    /// The bytes after its gzip stream, within its length.
    pub(crate) tail: Vec<u8>,
    /// The content according to the index.
    pub(crate) holds: Value,
}

impl Piece {
    /// Creates a correct member.
    pub(crate) fn new(tar: Vec<u8>, holds: Value) -> Self {
        Self {
            tar,
            tail: Vec::new(),
            holds,
        }
    }
}

#[derive(Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Structure,
    /// Files of this folder; a large file has a group of its own.
    Files(Vec<u8>, bool),
}

/// Collects the members of an archive.
#[derive(Default)]
struct Cutter {
    pieces: Vec<Piece>,
    tar: Vec<u8>,
    kind: Kind,
    /// The number of entries in the current group, as announced.
    count: usize,
    /// The numbers of folders and links, and of files, announced so far.
    context: [usize; 2],
}

impl Cutter {
    /// Closes the current group, unless the next entry belongs to it.
    fn enter(&mut self, kind: Kind) {
        let is_large = matches!(kind, Kind::Files(_, true));
        if self.kind != kind || is_large || self.tar.len() >= GROUP {
            self.close();
            self.kind = kind;
        }
    }

    fn close(&mut self) {
        if self.tar.is_empty() && self.count == 0 {
            return;
        }
        let tar = std::mem::take(&mut self.tar);
        let count = std::mem::take(&mut self.count);
        let holds = match self.kind {
            Kind::Structure => json!({"structure": [self.context[0] - count, count]}),
            Kind::Files(..) => json!({"files": [self.context[1].saturating_sub(count), count]}),
        };
        self.pieces.push(Piece::new(tar, holds));
    }

    /// Adds a member for the header, then one for each chunk of content.
    fn large(&mut self, entry: &Entry) {
        let number = self.context[1] - 1;
        self.count = 0;
        let (head, chunks) = entry.head_and_chunks();
        self.pieces.push(Piece::new(head, json!({"head": number})));
        let mut hasher = Sha256::new();
        for (chunk, content) in chunks {
            hasher.update(&chunk[..content]);
            let upto = format!("{:x}", hasher.clone().finalize());
            self.pieces
                .push(Piece::new(chunk, json!({"chunk": [number, upto]})));
        }
    }
}

/// Returns the SHA-256 in the form that manifests use.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Compresses `bytes` as one gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

/// Returns a footer: the empty member with the position of the manifest.
pub(crate) fn footer(offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    bytes.extend([21, 0, b'C', b'M', 17, 0, 1]);
    bytes.extend(offset.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Returns a tar.gz with one file of `gib` GiB of zeros. It repeats one member, so it is small and
/// quick to create.
pub(crate) fn bomb(name: &str, gib: u64) -> Vec<u8> {
    const CHUNK: usize = 16 << 20;
    let mut head = Vec::new();
    let mut entry = Entry::file(name, "");
    entry.header_size = Some(gib << 30);
    entry.write(&mut head);
    let member = gzip(&vec![0; CHUNK]);
    let mut bytes = gzip(&head);
    for _ in 0..(gib << 30) / CHUNK as u64 {
        bytes.extend(&member);
    }
    bytes.extend(gzip(&[0; 2 * BLOCK]));
    bytes
}

/// Returns a rollback journal that makes SQLite remove `victim` after the rollback.
pub(crate) fn journal_naming(victim: &str) -> Vec<u8> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = vec![0; BLOCK];
    journal[..8].copy_from_slice(&MAGIC);
    journal[16..20].copy_from_slice(&1_u32.to_be_bytes());
    journal[20..24].copy_from_slice(&512_u32.to_be_bytes());
    journal[24..28].copy_from_slice(&4096_u32.to_be_bytes());
    let sum: u32 = victim.bytes().map(u32::from).sum();
    let lock_page: u32 = (1 << 30) / 4096 + 1;
    journal.extend(lock_page.to_be_bytes());
    journal.extend(victim.as_bytes());
    journal.extend(u32::try_from(victim.len()).expect("short").to_be_bytes());
    journal.extend(sum.to_be_bytes());
    journal.extend(MAGIC);
    journal
}
