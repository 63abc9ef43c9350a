//! Thousands of randomly damaged archives and sidecars, the same in each run, and the corpus of
//! `fuzz/run`. Readers refuse an input or return the original content. They neither panic nor
//! block.

use crate::support::archives::create_archive;
use crate::support::env::TestEnv;
use crate::support::fuzzing::{self, Read, unpack};
use crate::support::hostile::{self, Entry, Parts, Piece, gzip};
use crate::support::sample::put;
use crate::support::variables;
use codex_manager_core::archive::ArchiveError;
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::manifest::ArchiveManifest;
use codex_manager_core::archive::metadata::Metadata;
use codex_manager_core::io::document;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Returns the number of inputs of each test.
fn rounds() -> u64 {
    variables::sequences(300)
}

/// Boundary values that often expose errors.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    511,
    512,
    1 << 20,
    (4 << 20) + 1,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// A deterministic random number generator.
pub(crate) struct RandomSource(u64);

impl RandomSource {
    pub(crate) fn of(round: u64) -> Self {
        let mut dice = Self(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).expect("in range")
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[3]
    }

    /// Changes, removes or inserts a few bytes.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>, keep_length: bool) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            if bytes.is_empty() {
                return;
            }
            match self.below(if keep_length { 4 } else { 7 }) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.byte(),
                2 => bytes[at] = b"\0\"\\/{[]},:-+.09eE"[self.below(17)],
                3 => {
                    let from = self.below(bytes.len());
                    bytes[at] = bytes[from];
                }
                4 => drop(bytes.remove(at)),
                5 => bytes.insert(at, self.byte()),
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}

/// A small valid archive with every kind of entry, and its content.
struct ValidArchive {
    env: TestEnv,
    bytes: Vec<u8>,
    contents: ArchiveManifest,
    read: Read,
}

impl ValidArchive {
    fn new() -> Self {
        let env = TestEnv::new();
        put(&env, "AGENTS.md", "be brief\n");
        put(&env, "prompts/none", "");
        put(&env, format!("skills/{}/x", "long".repeat(40)), "x");
        put(&env, "skills/a b\n", vec![b'y'; 600]);
        put(&env, "sessions/2026/large", vec![b'z'; (1 << 20) + 3]);
        symlink("a b", env.codex_home().join("skills/link")).expect("link");
        let (path, _) =
            create_archive(&env, "good.tar.gz", Compression::Fast, None).expect("archived");
        let bytes = fs::read(&path).expect("read");
        let (contents, read) = unpack(&path).expect("good");
        Self {
            env,
            bytes,
            contents,
            read,
        }
    }

    /// Reads the archive. Returns true if it is refused; asserts the original content otherwise.
    #[track_caller]
    fn is_refused(&self, round: u64, bytes: &[u8]) -> bool {
        let path = self.env.path("damaged.tar.gz");
        fs::write(&path, bytes).expect("write");
        let (contents, read) = match unpack(&path) {
            Ok(found) => found,
            Err(ArchiveError::Io(e)) => panic!("round {round}: {e}"),
            Err(_) => return true,
        };
        let essence = |contents: &ArchiveManifest| {
            let files = contents.files.iter();
            let files: Vec<_> = files.map(|f| (f.path.clone(), f.size)).collect();
            let folders: Vec<_> = contents.folders.iter().map(|f| f.path.clone()).collect();
            let mut links = contents.links.clone();
            links.sort_by(|a, b| a.path.cmp(&b.path));
            (files, folders, links)
        };
        assert_eq!(essence(&contents), essence(&self.contents), "round {round}");
        assert_eq!(read, self.read, "round {round}");
        false
    }

    /// Returns the archive with `text` as its manifest.
    fn with_manifest(&self, text: &[u8]) -> Vec<u8> {
        hostile::with_manifest(&self.bytes, text)
    }

    fn manifest(&self) -> Value {
        Parts::parse(&self.bytes).manifest.expect("a manifest")
    }
}

#[test]
fn damaged_archives_are_refused_or_read_like_the_original() {
    let good = ValidArchive::new();
    let refused = (0..rounds()).filter(|round| {
        let mut dice = RandomSource::of(*round);
        let mut bytes = good.bytes.clone();
        // Half of the damage is in the footer.
        if round % 2 == 0 {
            let mut end = bytes.split_off(bytes.len() - 43);
            dice.damage(&mut end, round % 4 == 0);
            bytes.extend(end);
        } else {
            dice.damage(&mut bytes, round % 4 == 1);
        }
        good.is_refused(*round, &bytes)
    });
    assert!(refused.count() as u64 > rounds() / 2);
}

#[test]
fn damaged_manifests_are_refused_or_read_like_the_original() {
    let good = ValidArchive::new();
    let text = serde_json::to_vec(&good.manifest()).expect("json");
    assert!(!good.is_refused(0, &good.with_manifest(&text)));
    let refused = (0..rounds()).filter(|round| {
        let mut damaged = text.clone();
        RandomSource::of(*round).damage(&mut damaged, false);
        good.is_refused(*round, &good.with_manifest(&damaged))
    });
    assert!(refused.count() as u64 > rounds() / 2);
}

#[test]
fn damaged_indexes_are_refused_or_read_like_the_original() {
    let good = ValidArchive::new();
    let manifest = good.manifest();
    let refused = (0..rounds()).filter(|round| {
        let mut dice = RandomSource::of(*round);
        let mut manifest = manifest.clone();
        let members = manifest["members"].as_array_mut().expect("members");
        for _ in 0..=dice.below(2) {
            let (a, b) = (dice.below(members.len()), dice.below(members.len()));
            let number = NUMBERS[dice.below(NUMBERS.len())];
            match dice.below(8) {
                0 => members.swap(a, b),
                1 if members.len() > 1 => drop(members.remove(a)),
                2 => members.insert(b, members[a].clone()),
                3 => members[a]["holds"] = members[b]["holds"].clone(),
                4 => members[a]["holds"] = "void".into(),
                5 => members[a][["offset", "len", "size"][dice.below(3)]] = number.into(),
                6 => members[a]["blake3"] = members[b]["blake3"].clone(),
                _ => {
                    for held in members[a]["holds"].as_object_mut().into_iter().flatten() {
                        match held.1 {
                            Value::Array(pair) => pair[dice.below(2)] = number.into(),
                            other => *other = number.into(),
                        }
                    }
                }
            }
        }
        let text = serde_json::to_vec(&manifest).expect("json");
        good.is_refused(*round, &good.with_manifest(&text))
    });
    assert!(refused.count() as u64 > rounds() / 2);
}

#[test]
fn damaged_tar_entries_are_refused_or_read_like_the_original() {
    let good = ValidArchive::new();
    let parts = Parts::of(&good.bytes);
    let pieces = parts.pieces();
    assert!(!good.is_refused(0, &parts.pack()));
    let refused = (0..rounds()).filter(|round| {
        let mut dice = RandomSource::of(*round);
        let mut pieces = pieces.clone();
        // Excludes the content of the large file: digests cover it, and testing it takes long.
        let small: Vec<_> = pieces
            .iter_mut()
            .filter(|p| p.tar.len() < 1 << 16)
            .collect();
        let which = dice.below(small.len());
        let piece: &mut Piece = small.into_iter().nth(which).expect("a member");
        let block = dice.below(piece.tar.len() / 512) * 512;
        let mut header = piece.tar[block..block + 512].to_vec();
        dice.damage(&mut header, true);
        if round % 4 != 0 {
            // Valid checksums, as after a deliberate change.
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        piece.tar[block..block + 512].copy_from_slice(&header);
        if round % 8 == 1 {
            dice.damage(&mut piece.tar, false);
        }
        if round % 3 > 0 {
            return good.is_refused(*round, &parts.pack_pieces(&pieces, |_| {}));
        }
        // The same with the reader for archives without an index.
        let tars: Vec<&[u8]> = pieces.iter().map(|p| &*p.tar).collect();
        let mut tar = tars.concat();
        let text = serde_json::to_vec(parts.manifest.as_ref().expect("a manifest")).expect("json");
        Entry::file(".codex-manager/manifest.json", text).write(&mut tar);
        tar.extend([0; 1024]);
        good.is_refused(*round, &gzip(&tar))
    });
    assert!(refused.count() as u64 > rounds() / 3);
}

#[test]
fn damaged_sidecars_cause_no_panic_and_accepted_ones_can_be_written() {
    let env = TestEnv::new();
    let metadata = Metadata {
        email: Some("alice@example.com".into()),
        captured_files: vec!["auth.json".into(), "sessions".into()],
        ..Metadata::default()
    };
    let path = env.path("x.metadata.json");
    let bytes = document::encode(&path, &metadata).expect("json");
    for round in 0..rounds() * 10 {
        let mut damaged = bytes.clone();
        RandomSource::of(round).damage(&mut damaged, false);
        fs::write(&path, &damaged).expect("write");
        // A newer version is a separate error.
        let found = document::read::<Metadata>(&path);
        if let Some(found) = found.ok().and_then(document::DocumentState::good) {
            // An accepted sidecar can be written again.
            document::encode(&path, &found).expect("json");
        }
    }
}

#[test]
fn no_input_of_the_fuzzing_corpus_is_a_finding() {
    for (name, attempt) in fuzzing::TARGETS {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/fuzz")
            .join(name);
        let inputs = fs::read_dir(&kept).expect("a folder of inputs");
        let tried = inputs.map(|input| {
            let path = input.expect("input").path();
            attempt(&fs::read(&path).expect("read"));
        });
        assert!(tried.count() > 0, "nothing in fixtures/fuzz/{name}");
    }
}
